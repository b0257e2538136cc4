"""From a guess of the permeate through pore and film to the feed that would have made it"""

import math

import numpy as np
from numba import types
from numba.types import Array, FunctionType, float64, int64

from ion_ode.dspmde.kernel_march import clip, fast, part

IDEAL, DAVIES_SOLUTION, DAVIES = range(3)
NO_FILM, NERNST_PLANCK_FILM, LINEAR_FILM = range(3)
LN_FEED, ENTRY, PECLET, K_CONV, FILM, FILM_D = range(6)  # rows of the coefficients (row, ion, problem)
CHARGE, A_LN10 = range(2)  # rows of (row, problem)
LAW, FILM_KIND, NODES, ATTEMPTS, GUESSED = range(5)  # what all problems share
P_PERM, S_PERM, RESIDUAL, ERROR, PLACE, NORM, ALPHA, BEFORE, LAST = range(9)  # real numbers of a problem
_i1, _i2 = (Array(int64, k, "C") for k in (1, 2))
_f1, _f2, _f3 = (Array(float64, k, "C") for k in (1, 2, 3))
LAYER = FunctionType(types.void(_f2, _f3, _f2, _f2, _f1, int64))
BEFORE_FILM = FunctionType(types.void(LAYER, LAYER, _f1, _f3, _f2, _i1, _f2, _f2, _f3, _f2, _f2, int64, _f2, _f3))
SHOOT = FunctionType(types.void(
    BEFORE_FILM, LAYER, LAYER, _f1, _f3, _f2, _i1, _f2, _f2, int64, int64, int64, types.boolean, _f2, _f3, _f2
))  # fmt: skip


@part
def davies_shape(strength):
    "Bracket of Davies' equation and its slope; strength in mol/m³."
    root = math.sqrt(strength / 1000)
    return root / (1 + root) - 0.3 * strength / 1000, (0.5 / (root * (1 + root) ** 2) - 0.3) / 1000


@part
def strength(c, z):
    "Ionic strength of a solution."
    total = 0.0
    for i in range(len(z)):
        total += 0.5 * z[i] * z[i] * c[i]
    return total


@part
def _raised(x, n):
    "x to a whole power, which costs less than an exponential."
    total = 1.0
    for _ in range(int(abs(n))):
        total *= x
    return total if n >= 0 else 1.0 / total


@part
def _donnan_start(a, z, charge):
    "Potential of a symmetric solution, from which Newton's method begins."
    up, down = 0.0, 0.0
    for i in range(len(z)):
        if z[i] > 0:
            up += z[i] * a[i]
        elif z[i] < 0:
            down -= z[i] * a[i]
    return math.asinh(charge / (2 * math.sqrt(up) * math.sqrt(down))) + 0.5 * (math.log(up) - math.log(down))


@part
def _donnan_fill(a, c, z, p, bend):
    "Concentrations at a potential; bend: Davies' bracket times A ln 10."
    t, g = math.exp(-p), math.exp(bend) if bend != 0.0 else 1.0
    for i in range(len(z)):
        c[i] = a[i] * _raised(t, z[i]) if a[i] > 0.0 else 0.0
        if bend != 0.0:
            c[i] *= _raised(g, z[i] * z[i])


@part
def _donnan_step(c, z, charge, davies, s):
    "Newton's step of the potential and of ln of the ionic strength."
    shape, slope = davies_shape(math.exp(s)) if davies > 0 else (0.0, 0.0)
    slope *= davies * math.exp(s) if davies > 0 else 0.0
    plus, minus = max(charge, 0.0), max(-charge, 0.0)
    s2p = s2m = s3p = s3m = s4 = 0.0
    for i in range(len(z)):
        zi, zc = z[i], z[i] * c[i]
        s4 += zi * zi * zi * zc
        if zi > 0:
            plus, s2p, s3p = plus + zc, s2p + zi * zc, s3p + zi * zi * zc
        elif zi < 0:
            minus, s2m, s3m = minus - zc, s2m + zi * zc, s3m + zi * zi * zc
    f, fp = math.log(plus / minus), -(s2p / plus + s2m / minus)
    if not davies > 0:
        return f / fp, 0.0
    total, fs = s2p + s2m, slope * (s3p / plus + s3m / minus)
    g, gp, gs = math.log(0.5 * total) - s, -(s3p + s3m) / total, slope * s4 / total - 1
    det = fp * gs - fs * gp
    return (f * gs - g * fs) / det, (fp * g - gp * f) / det


@part
def donnan(a, c, z, charge, davies, p, s):
    "Potential and ln of strength behind a step, from a (c at zero potential); fills c. p NaN: cold start."
    cold, dp, ds = not np.isfinite(p), 1.0, 0.0
    if cold:
        p = _donnan_start(a, z, charge)
    for stage in range(2 if davies > 0 and cold else 1):  # an ideal mouth first
        law = davies if stage == 1 or not cold else 0.0
        if law > 0 and cold:
            s = math.log(strength(c, z))
        for step in range(60):
            _donnan_fill(a, c, z, p, law * davies_shape(math.exp(s))[0] if law > 0 else 0.0)
            if step and not max(abs(dp) / (1 + abs(p)), abs(ds)) > 1e-7:  # what follows is its square
                break
            dp, ds = _donnan_step(c, z, charge, law, s)
            p -= clip(dp, 2.0)
            s -= clip(ds, 2.0)
    return p, s


@part
def solution_strength(a, c, z, davies):
    "ln of the ionic strength of a solution from its activities a; c is filled."
    d = len(z)
    s = 0.0
    for i in range(d):
        s += 0.5 * z[i] * z[i] * a[i]
    s = min(math.log(s), math.log(2000.0))
    for _ in range(61):
        shape, slope = davies_shape(math.exp(s))
        total, bend, g = 0.0, 0.0, math.exp(davies * shape)
        for i in range(d):
            c[i] = a[i] * _raised(g, z[i] * z[i])
            total += z[i] * z[i] * c[i]
            bend += z[i] ** 4 * c[i]
        step = (math.log(0.5 * total) - s) / (davies * slope * math.exp(s) * bend / total - 1)
        s -= clip(step, 2.0)
        if not abs(step) > 1e-11:
            break
    g = math.exp(davies * davies_shape(math.exp(s))[0])
    for i in range(d):
        c[i] = a[i] * _raised(g, z[i] * z[i])
    return s


@part
def _permeate_mouth(z, q, own, form, u, state, c, T, c_perm, a, c1, cp):
    "Concentrations behind the permeate's Donnan step, and their derivatives by ln c_p; fills c_perm."
    d, w = c.shape
    for k in range(w):
        A = own[A_LN10, k] if form[LAW] != IDEAL else 0.0
        for i in range(d):
            there = q[LN_FEED, i, k] > -np.inf
            cp[i] = math.exp(u[i, k]) if there else 0.0
            a[i] = cp[i] * q[ENTRY, i, k]
            c_perm[i, k] = cp[i]
        bend_perm = 0.0
        if A > 0:
            shape, slope = davies_shape(strength(cp, z))
            bend_perm, g = A * slope * 0.5, math.exp(-A * shape)
            for i in range(d):
                a[i] *= _raised(g, z[i] * z[i])
        p, s = donnan(a, c1, z, own[CHARGE, k], A if form[LAW] == DAVIES else 0.0, state[P_PERM, k], state[S_PERM, k])
        state[P_PERM, k], state[S_PERM, k] = p, s
        if not u[d, k] < np.inf:  # a guess without a potential: both mouths alike
            u[d, k] = p
        for i in range(d):
            c[i, k] = c1[i]
        if T.shape[1]:
            bend = 0.0
            if form[LAW] == DAVIES:
                bend = A * davies_shape(math.exp(s))[1] * math.exp(s)
            s2 = s3 = s4 = 0.0
            for i in range(d):
                s2 += z[i] ** 2 * c1[i]
                s3 += z[i] ** 3 * c1[i]
                s4 += z[i] ** 4 * c1[i]
            det = s2 * (s2 - bend * s4) + bend * s3 * s3
            for j in range(d):
                gj = bend_perm * z[j] * z[j] * cp[j]
                b1, b2 = z[j] * c1[j] - gj * s3, z[j] * z[j] * c1[j] - gj * s4
                dp = (b1 * (s2 - bend * s4) + bend * s3 * b2) / det
                ds = (s2 * b2 - s3 * b1) / det
                for i in range(d):
                    T[i, j, k] = c1[i] * (-z[i] * z[i] * gj - z[i] * dp + bend * z[i] * z[i] * ds)
                T[j, j, k] += c1[j]


@part
def _feed_mouth(z, q, own, form, u, c, T, at_wall, dln_w):
    "Activities at the wall, and the derivatives of their logarithms by ln c_p and p_f."
    d, w = c.shape
    for k in range(w):
        t, g, bend = math.exp(u[d, k]), 1.0, 0.0
        if form[LAW] == DAVIES:
            total = 0.0
            for i in range(d):
                total += 0.5 * z[i] * z[i] * c[i, k]
            shape, slope = davies_shape(total)
            g, bend = math.exp(-own[A_LN10, k] * shape), own[A_LN10, k] * slope
        for i in range(d):
            at_wall[i, k] = 0.0
            if q[LN_FEED, i, k] > -np.inf:
                at_wall[i, k] = c[i, k] / q[ENTRY, i, k] * _raised(t, z[i]) if c[i, k] > 0 else np.nan
            if bend != 0.0:
                at_wall[i, k] *= _raised(g, z[i] * z[i])
        if dln_w.shape[1]:
            for j in range(d):
                di = 0.0
                if bend != 0.0:
                    for i in range(d):
                        di += 0.5 * z[i] * z[i] * T[i, j, k]
                for i in range(d):
                    there = q[LN_FEED, i, k] > -np.inf
                    dln_w[i, j, k] = T[i, j, k] / c[i, k] - bend * z[i] * z[i] * di if there else 0.0
            for i in range(d):
                dln_w[i, d, k] = z[i]


@part
def _wall_solution(z, own, form, at_wall, dln_w, c_wall, a, c):
    "Concentrations at the wall from their activities; dln_w becomes their derivatives."
    d, w = at_wall.shape
    for k in range(w):
        for i in range(d):
            a[i] = at_wall[i, k]
        if form[LAW] == IDEAL:
            for i in range(d):
                c_wall[i, k] = a[i]
        else:
            A = own[A_LN10, k]
            s = solution_strength(a, c, z, A)
            for i in range(d):
                c_wall[i, k] = c[i]
            if dln_w.shape[1]:
                bend = A * davies_shape(math.exp(s))[1] * math.exp(s)
                total = four = 0.0
                for i in range(d):
                    total += z[i] ** 2 * c[i]
                    four += z[i] ** 4 * c[i]
                for j in range(d + 1):
                    ds = 0.0
                    for i in range(d):
                        ds += z[i] * z[i] * c[i] / total * dln_w[i, j, k]
                    ds /= 1 - bend * four / total
                    for i in range(d):
                        dln_w[i, j, k] += bend * z[i] * z[i] * ds


@part
def neutrality(c, z, row, r, J, k, dc, jac):
    "Residual ln(positive/negative charge) of a solution; derivatives from dc (ion, unknown, lane), empty: by ln c."
    d = len(z)
    up = down = 0.0
    for i in range(d):
        if z[i] > 0:
            up += z[i] * c[i, k]
        else:
            down -= z[i] * c[i, k]
    r[row, k] = math.log(up / down)
    if jac:
        for i in range(d):
            share = z[i] / up if z[i] > 0 else z[i] / down
            if dc.shape[1] == 0:
                J[row, i, k] = share * c[i, k]
            else:
                for j in range(d + 1):
                    J[row, j, k] += share * dc[i, j, k] * c[i, k]


@fast
def no_film(explicit, implicit, z, q, own, form, u, at_wall, dln_w, c_perm, c_wall, n_film, r, J):
    "A feed stirred up to the wall: the activities at the wall are the feed's; c_wall is left to the caller."
    d, w = at_wall.shape
    for k in range(w):
        shape = total = 0.0
        if form[LAW] != IDEAL:
            for i in range(d):
                total += 0.5 * z[i] * z[i] * math.exp(q[LN_FEED, i, k])
            shape = own[A_LN10, k] * davies_shape(total)[0]
        for i in range(d):
            r[i, k] = math.log(at_wall[i, k]) - q[LN_FEED, i, k] + shape * z[i] * z[i]
            for j in range(dln_w.shape[1]):
                J[i, j, k] = dln_w[i, j, k]


@fast
def stagnant_film(explicit, implicit, z, q, own, form, u, at_wall, dln_w, c_perm, c_wall, n_film, r, J):
    "Extended Nernst-Planck through a stagnant film, from the wall to the bulk."
    (d, w), m = at_wall.shape, dln_w.shape[1]
    _wall_solution(z, own, form, at_wall, dln_w, c_wall, np.empty(d), np.empty(d))
    rate, source, c, Tf = np.empty((d, w)), np.empty((d, w)), np.empty((d, w)), np.empty((d, m, w))
    for i in range(d):
        for k in range(w):
            c[i, k], rate[i, k] = c_wall[i, k], q[FILM, i, k]
            source[i, k] = rate[i, k] * c_perm[i, k]
            for j in range(m):
                Tf[i, j, k] = c[i, k] * dln_w[i, j, k]
    if n_film > 0:
        explicit(c, Tf, rate, source, z, n_film)
    else:
        implicit(c, Tf, rate, source, z, n_film)
    for i in range(d):
        for k in range(w):
            r[i, k] = math.log(c[i, k]) - q[LN_FEED, i, k] if c[i, k] > 0 else np.nan
            for j in range(m):
                J[i, j, k] = Tf[i, j, k] / c[i, k]


@fast
def linear_film(explicit, implicit, z, q, own, form, u, at_wall, dln_w, c_perm, c_wall, n_film, r, J):
    "J c_p = -k (c_w - c_b) + J c_w - z c_w D X over k, divided by what may grow without bound, and a neutral wall."
    (d, w), jac = at_wall.shape, dln_w.shape[1] > 0
    _wall_solution(z, own, form, at_wall, dln_w, c_wall, np.empty(d), np.empty(d))
    for k in range(w):
        X = u[d + 1, k]
        for i in range(d):
            ratio, zD = q[FILM, i, k], z[i] * q[FILM_D, i, k]
            back, carried, feed = 1 - ratio + zD * X, ratio * c_perm[i, k], math.exp(q[LN_FEED, i, k])
            scale = c_wall[i, k] + feed + carried
            r[i, k] = (c_wall[i, k] * back + carried - feed) / scale
            if jac:
                for j in range(d + 1):
                    J[i, j, k] = c_wall[i, k] * dln_w[i, j, k] * (back - r[i, k]) / scale
                J[i, i, k] += carried * (1 - r[i, k]) / scale
                J[i, d + 1, k] = c_wall[i, k] * zD / scale
        neutrality(c_wall, z, d + 1, r, J, k, dln_w, jac)


@part
def _through_pore(explicit, implicit, z, q, form, c, T, c_perm, rate, source, n):
    "From behind the permeate's Donnan step to before the feed's, in place."
    d, w = c.shape
    for i in range(d):
        for k in range(w):
            rate[i, k] = q[PECLET, i, k] * q[K_CONV, i, k]
            source[i, k] = q[PECLET, i, k] * c_perm[i, k]
    if form[NODES]:
        implicit(c, T, rate, source, z, form[NODES])
    elif n > 0:
        explicit(c, T, rate, source, z, n)
    else:
        implicit(c, T, rate, source, z, n)


@fast
def shoot(film, explicit, implicit, z, q, own, form, u, state, w, n, n_film, jac, r, J, c_wall):
    "Residual (unknown, lane), where asked the Jacobian (unknown, unknown, lane), and the wall of the first w lanes."
    d = len(z)
    side, one = np.empty((5, d, w)), np.empty((3, d))
    c, c_perm, rate, source, at_wall = side[0], side[1], side[2], side[3], side[4]
    T, dln_w, none = np.empty((d, d if jac else 0, w)), np.empty((d, d + 1 if jac else 0, w)), np.empty((d, 0, w))
    _permeate_mouth(z, q, own, form, u, state, c, T, c_perm, one[0], one[1], one[2])
    _through_pore(explicit, implicit, z, q, form, c, T, c_perm, rate, source, n)
    _feed_mouth(z, q, own, form, u, c, T, at_wall, dln_w)
    if jac:
        J[:, :, :w] = 0.0
    film(explicit, implicit, z, q, own, form, u, at_wall, dln_w, c_perm, c_wall, n_film, r, J)
    for k in range(w):
        neutrality(c_perm, z, d, r, J, k, none, jac)
        for i in range(d):  # an absent ion has no equation but u = 0
            if not q[LN_FEED, i, k] > -np.inf:
                r[i, k] = u[i, k]
                if jac:
                    J[i, :, k] = 0.0
                    J[i, i, k] = 1.0

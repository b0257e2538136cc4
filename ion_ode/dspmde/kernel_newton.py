"""Each problem on its own, thirty-two side by side"""

import math
from collections import namedtuple
import numpy as np
from ion_ode.dspmde.kernel_march import fast
from ion_ode.dspmde.kernel_shot import (
    ALPHA, ATTEMPTS, BEFORE, DAVIES, ERROR, FILM_KIND, LAST, LAW, LN_FEED, NERNST_PLANCK_FILM, NO_FILM, NORM, P_PERM,
    PLACE, RESIDUAL, S_PERM,
)  # fmt: skip

CODE, STEPS, MESH, MESH_FILM, STAGE, TRIED, BEGUN, KEPT = range(8)  # whole numbers of a problem
SOLVING, CHECKING, DONE = range(3)
CONVERGED, REFINED, NO_SOLUTION, FAILED = range(4)
_N_MAX = 65536  # Steps beyond which a problem is given up
_LANES = 32  # Problems side by side: as many as fit the first cache
STIFF = 60.0  # Rate from which a layer is marched by exponential steps

# problems side by side and their state: (row, ion, lane), (row, lane), (unknown, lane)
Block = namedtuple("Block", "film shoot explicit implicit z q own form u step r inverse count state c_wall")


@fast
def _invert(J, k, inverse, l):
    "Gauss-Jordan with partial pivoting of J[:, :, k] into inverse[:, :, l]; NaN if singular."
    m = J.shape[0]
    A = np.empty((m, 2 * m))
    for i in range(m):
        for j in range(m):
            A[i, j] = J[i, j, k]
            A[i, m + j] = 1.0 if i == j else 0.0
    for i in range(m):
        best, top = i, abs(A[i, i])
        for o in range(i + 1, m):
            if abs(A[o, i]) > top:
                best, top = o, abs(A[o, i])
        if not (top > 0 and top < np.inf):
            inverse[0, 0, l] = np.nan
            return
        if best != i:
            for j in range(i, 2 * m):
                A[i, j], A[best, j] = A[best, j], A[i, j]
        share = 1.0 / A[i, i]
        for j in range(i, 2 * m):
            A[i, j] *= share
        for o in range(m):
            f = A[o, i]
            if o != i and f != 0.0:
                for j in range(i, 2 * m):
                    A[o, j] -= f * A[i, j]
    for i in range(m):
        for j in range(m):
            inverse[i, j, l] = A[i, m + j]


@fast
def _grouped(b, lanes, group, taken):
    "Next lanes that share both meshes and are not taken; returns how many."
    size, n, n_film = 0, 0, 0
    for l in lanes:
        if taken[l]:
            continue
        if size == 0:
            n, n_film = b.count[MESH, l], b.count[MESH_FILM, l]
        if b.count[MESH, l] == n and b.count[MESH_FILM, l] == n_film:
            group[size] = l
            size += 1
            taken[l] = True
    return size


@fast
def _coarser(n):
    "Half a mesh, which is good enough for a Jacobian."
    return max(4, n // 2) if n > 0 else min(-16, -(-n // 2))


@fast
def _shoot_lanes(b, lanes, x, into):
    "Residuals (1, unknown, lane) at x, or inverse Jacobians on half the mesh, of the given lanes."
    m, W = x.shape
    rows, d, _ = b.q.shape
    taken, group, shoot, jac = np.zeros(W, np.bool_), np.empty(W, np.int64), b.shoot, len(into) > 1
    size = _grouped(b, lanes, group, taken)
    while size:
        q, own, v, state = np.empty((rows, d, size)), np.empty((2, size)), np.empty((m, size)), np.empty((8, size))
        for o in range(size):
            l = group[o]
            for i in range(d):
                for k in range(rows):
                    q[k, i, o] = b.q[k, i, l]
            for i in range(m):
                v[i, o] = x[i, l]
            for i in range(2):
                own[i, o] = b.own[i, l]
            state[P_PERM, o], state[S_PERM, o] = b.state[P_PERM, l], b.state[S_PERM, l]
        n, n_film = b.count[MESH, group[0]], b.count[MESH_FILM, group[0]]
        if jac:
            n, n_film = _coarser(n), _coarser(n_film)
        r, J, wall = shoot(b.film, b.explicit, b.implicit, b.z, q, own, b.form, v, state, n, n_film, jac)
        for o in range(size):
            l = group[o]
            if jac:
                _invert(J, o, into, l)
                continue
            for i in range(m):
                into[0, i, l] = r[i, o]
                x[i, l] = v[i, o]
            for i in range(d):
                b.c_wall[i, l] = wall[i, o]
            b.state[P_PERM, l], b.state[S_PERM, l] = state[P_PERM, o], state[S_PERM, o]
        size = _grouped(b, lanes, group, taken)


@fast
def _newton_step(b, l):
    "Newton's step of a lane; its largest entry, and the largest by ln c_p (inf if not finite)."
    m, top, top_c = len(b.u), 0.0, 0.0
    for i in range(m):
        s = 0.0
        for j in range(m):
            s -= b.inverse[i, j, l] * b.r[0, j, l]
        b.step[i, l] = s
        if not abs(s) < np.inf:
            return np.inf, np.inf
        top = max(top, abs(s))
        top_c = max(top_c, abs(s)) if i < len(b.z) else top_c
    return top, top_c


@fast
def judged(b, l, x):
    "Whether to step on from x with the inverse at hand (0), to renew it first (1), or to go back (2)."
    total, top, state = 0.0, 0.0, b.state
    for i in range(len(b.u)):
        total += b.r[0, i, l] * b.r[0, i, l]
        top = max(top, abs(b.r[0, i, l]))
    new = math.sqrt(total) if total < np.inf else np.inf
    if new < 1e-12 or (new < np.inf and new <= (1 - 1e-4 * state[ALPHA, l]) * state[NORM, l]):
        slow = new > 0.25 * state[NORM, l] and new > 1e-12
        for i in range(len(b.u)):
            b.u[i, l] = x[i, l]
        state[RESIDUAL, l], state[NORM, l], state[ALPHA, l] = top, new, 1.0
        return 0 if b.count[KEPT, l] and not slow else 1
    state[P_PERM, l] = np.nan
    if state[NORM, l] == np.inf:
        state[ALPHA, l] = -1.0  # nowhere to begin
    elif b.count[KEPT, l]:  # to the last good point, for a new inverse
        state[ALPHA, l], b.count[KEPT, l], state[NORM, l] = 0.0, 0, np.inf
    else:
        state[ALPHA, l] /= 2
        if state[ALPHA, l] < 1e-4:
            state[ALPHA, l] = -1.0
    return 2


@fast
def finer(b, l):
    "Check a solution on meshes twice as fine; a problem beyond the largest ends."
    b.count[MESH, l] *= 2
    b.count[MESH_FILM, l] *= 2
    b.state[ALPHA, l], b.count[TRIED, l] = 0.0, 0
    b.count[STAGE, l] = CHECKING if max(abs(b.count[MESH, l]), abs(b.count[MESH_FILM, l])) <= _N_MAX else DONE


@fast
def _stepped(b, l, most, tol):
    "Prepare the next step, capped at 2, or take the last one; False if it is longer than `most` or gains too little."
    size, _ = _newton_step(b, l)
    if not size < most or (size < tol and size > 0.2 * b.state[LAST, l]):  # what is left of the way may exceed tol
        return False
    b.state[LAST, l] = size
    if size < tol:
        for i in range(len(b.u)):
            b.u[i, l] += b.step[i, l]
        finer(b, l)
    elif size > 2.0:
        for i in range(len(b.u)):
            b.step[i, l] *= 2.0 / size
    else:
        near = size < 1e-2 and (b.form[FILM_KIND] != NERNST_PLANCK_FILM or b.state[RESIDUAL, l] < 3e-2)
        b.count[KEPT, l] = b.count[KEPT, l] or near  # so close to the root the next steps may use it too
    return True


@fast
def _claimed(b, l, size, top, before):
    "Bound of what the first step on a mesh leaves, and the same where the inverse at hand is trusted."
    film, mesh, mesh_film = b.form[FILM_KIND] == NERNST_PLANCK_FILM, b.count[MESH, l], b.count[MESH_FILM, l]
    least = max(size if film or b.form[LAW] == DAVIES else size / 4, top if max(mesh, mesh_film) >= 128 else top / 2)
    if min(mesh, mesh_film) < 0:
        least = max(least, 2 * top, before / 16)
    return 20 * size if film else least, least


@fast
def checked(b, l, rtol):
    "A step on the finer mesh: its size tells the error of the discretisation; a second one, whether to trust it."
    size, top = _newton_step(b, l)
    before, count, state = b.state[BEFORE, l], b.count, b.state
    again, first = count[TRIED, l] > 0, count[TRIED, l] == 1 or before == np.inf
    state[RESIDUAL, l] = 0.0
    for i in range(len(b.u)):
        state[RESIDUAL, l] = max(state[RESIDUAL, l], abs(b.r[0, i, l]))
    if not (top < 0.05 and (again or top < 0.3 * before or max(top, before) < rtol)):  # a mesh far from the last one
        state[BEFORE, l], state[ERROR, l] = 1e300, np.inf
        count[STAGE, l], count[KEPT, l], count[TRIED, l] = SOLVING, 0, 0
        state[NORM, l], state[ALPHA, l] = np.inf, 0.0
        if not top < np.inf:
            first_guess(b, l)
        return
    for i in range(len(b.u)):
        b.u[i, l] += b.step[i, l]
    if again:
        state[ERROR, l] = max(state[LAST, l], 4 * size)
    else:
        state[BEFORE, l] = top
        state[ERROR, l], state[LAST, l] = _claimed(b, l, size, top, before)
    if state[ERROR, l] <= rtol:
        count[CODE, l], count[STAGE, l] = CONVERGED if first else REFINED, DONE
    elif not again and state[LAST, l] <= rtol:
        count[TRIED, l] = 1 if first else 2
    else:
        finer(b, l)


@fast
def first_guess(b, l):
    "The solution at zero flux: permeate equals feed; its Donnan potential follows."
    d = len(b.z)
    for i in range(len(b.u)):
        b.u[i, l] = b.q[LN_FEED, i, l] if i < d and b.q[LN_FEED, i, l] > -np.inf else 0.0
    b.u[d, l] = np.nan
    b.count[KEPT, l], b.state[P_PERM, l] = 0, np.nan


@fast
def begin(b, l):
    "From the guess at hand, from rest, then from rest on finer meshes: a coarse march may leave the positive numbers."
    count, state = b.count, b.state
    if count[BEGUN, l] > 1:
        count[MESH, l] *= 4
        count[MESH_FILM, l] *= 4
    if count[BEGUN, l] > 0:
        first_guess(b, l)
    count[BEGUN, l] += 1
    count[STAGE, l], count[TRIED, l] = (
        SOLVING if count[BEGUN, l] <= b.form[ATTEMPTS] and abs(count[MESH, l]) <= 1024 else DONE,
        0,
    )
    state[P_PERM, l], state[ALPHA, l] = np.nan, 0.0
    for row in (NORM, BEFORE, ERROR, LAST):
        state[row, l] = np.inf


@fast
def close(b, x):
    "Wall and potentials of the solutions themselves; without a film neither asks for a march."
    for l in range(b.u.shape[1]):
        b.count[TRIED, l], b.count[BEGUN, l] = b.count[MESH, l], b.count[MESH_FILM, l]
        b.count[MESH_FILM, l] = 1
        if b.form[FILM_KIND] == NO_FILM:
            b.count[MESH, l] = 1
        for i in range(b.u.shape[0]):
            x[i, l] = b.u[i, l]
    _shoot_lanes(b, np.arange(b.u.shape[1]), x, b.r)
    for l in range(b.u.shape[1]):
        b.count[MESH, l], b.count[MESH_FILM, l] = b.count[TRIED, l], b.count[BEGUN, l]


@fast
def _solve_block(b, rtol):
    "Solve and certify a block of problems, each on its own: what one needs does not change another."
    m, W = b.u.shape
    x, tol = b.u.copy(), min(1e-6, rtol)
    active, renew, w = np.arange(W), np.empty(W, np.int64), W
    for l in range(W):
        b.count[CODE, l], b.count[STEPS, l] = FAILED, 0
        begin(b, l)
    while w:
        for l in active[:w]:
            for i in range(m):
                x[i, l] = b.u[i, l] + (b.state[ALPHA, l] * b.step[i, l] if b.state[ALPHA, l] > 0 else 0.0)
        _shoot_lanes(b, active[:w], x, b.r)
        fresh = 0
        for l in active[:w]:
            if b.count[STAGE, l] == CHECKING:
                checked(b, l, rtol)
                continue
            b.count[TRIED, l] += 1
            b.count[STEPS, l] += 1
            verdict = judged(b, l, x)
            if verdict == 1 or (verdict == 0 and not _stepped(b, l, 1e-2, tol)):
                renew[fresh] = l
                fresh += 1
        if fresh:
            _shoot_lanes(b, renew[:fresh], b.u, b.inverse)
            for l in renew[:fresh]:
                b.count[KEPT, l], b.state[LAST, l] = 0, np.inf
                if not _stepped(b, l, np.inf, tol):
                    b.state[ALPHA, l] = -1.0  # singular
        w = 0
        for l in range(W):
            if b.count[STAGE, l] == SOLVING and (b.state[ALPHA, l] < 0 or b.count[TRIED, l] > 60):
                b.count[BEGUN, l] = max(b.count[BEGUN, l], 1)
                begin(b, l)
            if b.count[STAGE, l] != DONE:
                active[w] = l
                w += 1
    close(b, x)


@fast
def _extrapolated(past, x, have, now, u, l):
    "Lagrange's polynomial through the latest solutions of the curve, at x = now."
    k = min(have, past.shape[0])
    for i in range(len(u)):
        u[i, l] = 0.0
    for a in range(k):
        share = 1.0
        for o in range(k):
            if o != a:
                share *= (now - x[o, l]) / (x[a, l] - x[o, l])
        for i in range(len(u)):
            u[i, l] += share * past[a, i, l]


@fast
def remember(b, l, past, x, have):
    "Keep a solution for those at higher fluxes."
    now = b.state[PLACE, l]
    if have[l] and now - x[(have[l] - 1) % len(x), l] < 1e-6:
        return
    o = have[l] % len(x)
    x[o, l] = now
    for i in range(len(b.u)):
        past[o, i, l] = b.u[i, l]
    have[l] += 1


@fast
def curves(film, shoot, explicit, implicit, z, q, own, form, order, rtol, u, c_wall, count, state):
    "Problems of `order` (curve, flux ascending), blocks of curves side by side, each flux from the earlier ones."
    S, F = order.shape
    rows, d, m = len(q), len(z), len(u)
    for block in range(0, S, _LANES):
        W = min(_LANES, S - block)
        b = Block(film, shoot, explicit, implicit, z, np.empty((rows, d, W)), np.empty((2, W)), form,
                  np.zeros((m, W)), np.zeros((m, W)), np.zeros((1, m, W)),
                  np.zeros((m, m, W)), np.zeros((8, W), np.int64), np.zeros((9, W)), np.empty((d, W)))  # fmt: skip
        past, x, have = np.zeros((4, m, W)), np.zeros((4, W)), np.zeros(W, np.int64)
        for f in range(F):
            for l in range(W):
                g = order[block + l, f]
                for i in range(d):
                    for k in range(rows):
                        b.q[k, i, l] = q[k, i, g]
                b.own[0, l], b.own[1, l], b.state[PLACE, l] = own[0, g], own[1, g], state[PLACE, g]
                b.count[BEGUN, l] = 0 if have[l] or count[STEPS, g] == 0 else 1
                if not have[l] and count[STEPS, g] == 0:
                    for i in range(m):
                        b.u[i, l] = u[i, g]
                b.count[MESH, l], b.count[MESH_FILM, l] = count[MESH, g], count[MESH_FILM, g]
                if have[l]:
                    _extrapolated(past, x, have[l], b.state[PLACE, l], b.u, l)
            _solve_block(b, rtol)
            for l in range(W):
                g = order[block + l, f]
                for i in range(m):
                    u[i, g] = b.u[i, l]
                for i in range(d):
                    c_wall[i, g] = b.c_wall[i, l]
                for i in range(4):
                    count[i, g] = b.count[i, l]
                for i in range(5):
                    state[i, g] = b.state[i, l]
                if b.count[CODE, l] <= REFINED:
                    remember(b, l, past, x, have)
                else:
                    b.count[KEPT, l] = 0

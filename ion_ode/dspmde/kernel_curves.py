"""Along the curve of a feed: each flux begins from the last ones"""

import math
from functools import partial

import numpy as np
from ion_ode.dspmde.kernel_march import fast, once, part
from ion_ode.dspmde.kernel_newton import (
    BEGUN, CODE, KEPT, MESH, MESH_FILM, N_MAX, REFINED, Block, Shot, _solve_block,
)  # fmt: skip
from ion_ode.dspmde.kernel_shot import (
    FILM, FILM_KIND, GUESSED, K_CONV, LINEAR_FILM, LN_FEED, NERNST_PLANCK_FILM, NODES, PECLET, PLACE,
)  # fmt: skip

STIFF = 60.0  # Rate from which a layer is marched by exponential steps


@once
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


@part
def mesh(top, rtol):
    "Steps to begin with: a power of two from the largest rate and the tolerance; negative: exponential steps."
    n, want = 4, (4 + 2 * top) * (1e-6 / rtol) ** 0.2
    if top > STIFF:
        n, want = 32, 2 * math.log(top) * (1e-6 / rtol) ** 0.25
    while n < want and n < N_MAX:
        n *= 2
    return -n if top > STIFF else n


@part
def _placed(b, l, rtol):
    "Meshes of a problem, and where it stands along its curve: the largest Péclet number, times that of a linear film."
    pore = film = place = 0.0
    for i in range(len(b.z)):
        if b.q[LN_FEED, i, l] > -np.inf:
            push = b.q[PECLET, i, l]
            pore = max(pore, push * max(b.q[K_CONV, i, l], 1.0))
            if b.form[FILM_KIND] == NERNST_PLANCK_FILM:
                film = max(film, b.q[FILM, i, l])
            elif b.form[FILM_KIND] == LINEAR_FILM:
                push *= b.q[FILM, i, l]
            place = max(place, push)
    b.state[PLACE, l] = math.log(place)
    b.count[MESH, l] = mesh(pore, rtol)
    b.count[MESH_FILM, l] = mesh(film, rtol) if b.form[FILM_KIND] == NERNST_PLANCK_FILM else 1


@part
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


@once
def _taken_up(b, q, own, flux, u, lane_of, past, x, have, rtol):
    "Coefficients of the problems `lane_of` at their fluxes; guesses: those given, from rest, or the curve so far."
    each, given = len(flux) // q.shape[2], b.form[GUESSED] != 0
    for l in range(len(lane_of)):
        g = lane_of[l]
        at = g // each
        for k in range(q.shape[0]):
            share = flux[g] if k == PECLET or k == FILM else 1.0
            for i in range(q.shape[1]):
                b.q[k, i, l] = q[k, i, at] * share
        b.own[0, l], b.own[1, l] = own[0, at], own[1, at]
        _placed(b, l, rtol)
        b.count[BEGUN, l] = 9 if have[l] < 0 else 0 if have[l] or given else 1
        if have[l] <= 0:  # what was kept is another curve's
            b.count[KEPT, l] = 0
        if have[l] > 0:
            _extrapolated(past, x, have[l], b.state[PLACE, l], b.u, l)
        elif given:
            for i in range(len(u)):
                b.u[i, l] = u[i, g]


@once
def _laid_down(b, u, c_wall, count, state, lane_of, past, x, have):
    "What was found for the problems `lane_of`, and remembered for the next flux."
    for l in range(len(lane_of)):
        g = lane_of[l]
        for i in range(len(u)):
            u[i, g] = b.u[i, l]
        for i in range(len(c_wall) if c_wall.shape[1] else 0):
            c_wall[i, g] = b.c_wall[i, l]
        for i in range(len(count)):
            count[i, g] = b.count[i, l]
        for i in range(len(state)):
            state[i, g] = b.state[i, l]
        if b.count[CODE, l] <= REFINED:
            remember(b, l, past, x, have)
        else:
            b.count[KEPT, l] = 0
            if b.form[NODES] and have[l] > 0:  # on few nodes a branch that ends is not sought at higher fluxes
                have[l] = -1


def rooms(rows: int, d: int, m: int, lanes: int) -> tuple:
    "Where `curves` works: the arrays of a `Block`, those of a `Shot`, whole numbers, and the curves so far."
    real = lambda *shape: np.zeros((*shape, lanes))
    count, inverse = np.zeros((9, lanes), np.int64), np.zeros((lanes, m, m))
    block = real(rows, d), real(2), *real(4, m), inverse, count, real(9), real(d)
    shot = real(rows, d), real(2), real(m), real(2), real(m), real(m, m), real(d)
    whole = np.zeros((5, max(m, lanes)), np.int64)
    return block, shot, np.zeros((m, m)), whole, real(4, m), real(4), np.zeros(lanes, np.int64)


@partial(fast, _nrt=False)  # it makes no arrays: no references are counted
def curves(film, shoot, explicit, implicit, z, q, own, form, flux, order, rtol, u, c_wall, count, state, room):
    "Problems of `order` (flux ascending, curve), blocks of curves side by side, each flux from the last."
    block, shot, square, whole, past, x, have = room
    bq, bown, bu, bx, step, r, inverse, bcount, bstate, bwall = block
    sq, sown, su, sstate, sr, J, swall = shot
    b = Block(z, form, bq, bown, bu, bx, step, r, inverse, bcount, bstate, bwall)
    group, taken, renew, at, swaps = whole[0], whole[1], whole[2], whole[3], whole[4]
    s = Shot(
        film, shoot, explicit, implicit, sq, sown, su, sstate, sr, J, swall, group, taken, renew, at, square, swaps
    )
    W = len(have)
    for first in range(0, order.shape[1], W):
        many = min(W, order.shape[1] - first)
        have[:] = 0
        for f in range(len(order)):
            now = order[f, first : first + many]
            _taken_up(b, q, own, flux, u, now, past, x, have, rtol)
            _solve_block(b, s, many, rtol)
            _laid_down(b, u, c_wall, count, state, now, past, x, have)

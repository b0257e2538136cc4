"""Each problem on its own, sixty-four side by side"""

import math
from collections import namedtuple

import numpy as np
from ion_ode.dspmde.kernel_march import once, part
from ion_ode.dspmde.kernel_shot import (
    ALPHA, ATTEMPTS, BEFORE, DAVIES, ERROR, FILM_KIND, LAST, LAW, LN_FEED,
    NERNST_PLANCK_FILM, NO_FILM, NORM, P_PERM, RESIDUAL, S_PERM,
)  # fmt: skip

CODE, STEPS, MESH, MESH_FILM, STAGE, TRIED, BEGUN, KEPT, FINER = range(9)  # whole numbers of a problem
SOLVING, BELOW, CHECKING, DONE = range(4)
CONVERGED, REFINED, NO_SOLUTION, FAILED = range(4)
N_MAX = 65536  # Steps beyond which a problem is given up
LANES = 64  # Problems side by side: as many as fit the first cache

# problems side by side: (row, ion, lane), (row, lane), (unknown, lane), inverses (lane, unknown, unknown); x: where to
# shoot from next
Block = namedtuple("Block", "z form q own u x step r inverse count state c_wall")
# what shoots, and what it reads and fills: problems of one mesh
Shot = namedtuple("Shot", "film shoot explicit implicit q own u state r J c_wall group taken renew at square swaps")


@once
def _pivot(A, i):
    "The row below i with the largest entry of its column, exchanged with it; -1 if there is none."
    best, top = i, abs(A[i, i])
    for o in range(i + 1, len(A)):
        if abs(A[o, i]) > top:
            best, top = o, abs(A[o, i])
    if not (top > 0 and top < np.inf):
        return -1
    if best != i:
        for j in range(len(A)):
            A[i, j], A[best, j] = A[best, j], A[i, j]
    return best


@once
def _invert(J, k, inverse, l, A, swaps):
    "Gauss-Jordan with partial pivoting of J[:, :, k] in A, into inverse[l]; NaN if singular."
    m = len(A)
    for i in range(m):
        for j in range(m):
            A[i, j] = J[i, j, k]
    for i in range(m):
        swaps[i] = _pivot(A, i)
        if swaps[i] < 0:
            inverse[l, 0, 0] = np.nan
            return
        share, A[i, i] = 1.0 / A[i, i], 1.0
        for j in range(m):
            A[i, j] *= share
        for o in range(m):
            f = A[o, i]
            if o != i and f != 0.0:
                A[o, i] = 0.0
                for j in range(m):
                    A[o, j] -= f * A[i, j]
    for i in range(m - 1, -1, -1):  # rows that were exchanged are columns of the inverse
        o = swaps[i]
        for j in range(m if o != i else 0):
            A[j, i], A[j, o] = A[j, o], A[j, i]
    for i in range(m):
        for j in range(m):
            inverse[l, i, j] = A[i, j]


@once
def _grouped(b, lanes, group, taken):
    "Next lanes that share both meshes and are not taken; returns how many."
    size, n, n_film = 0, 0, 0
    for l in lanes:
        if taken[l] != 0:
            continue
        if size == 0:
            n, n_film = b.count[MESH, l], b.count[MESH_FILM, l]
        if b.count[MESH, l] == n and b.count[MESH_FILM, l] == n_film:
            group[size] = l
            size += 1
            taken[l] = 1
    return size


@part
def _coarser(n):
    "Half a mesh, which is good enough for a Jacobian."
    return max(4, n // 2) if n > 0 else min(-16, -(-n // 2))


@once
def _gathered(b, s, x, size):
    "Coefficients and guesses x of a group, side by side."
    for o in range(size):
        l = s.group[o]
        for k in range(b.q.shape[0]):
            for i in range(b.q.shape[1]):
                s.q[k, i, o] = b.q[k, i, l]
        for i in range(len(x)):
            s.u[i, o] = x[i, l]
        for i in range(2):
            s.own[i, o] = b.own[i, l]
        s.state[P_PERM, o], s.state[S_PERM, o] = b.state[P_PERM, l], b.state[S_PERM, l]


@once
def _scattered(b, s, x, size):
    "What a shot at x found, back to its lanes."
    for o in range(size):
        l = s.group[o]
        for i in range(len(x)):
            b.r[i, l], x[i, l] = s.r[i, o], s.u[i, o]
        for i in range(len(b.c_wall)):
            b.c_wall[i, l] = s.c_wall[i, o]
        b.state[P_PERM, l], b.state[S_PERM, l] = s.state[P_PERM, o], s.state[S_PERM, o]


@part
def _shoot_lanes(b, s, lanes, x, jac, half):
    "Residuals of the given lanes at x on their meshes or half of them, or their inverse Jacobians."
    shoot = s.shoot
    for l in lanes:
        s.taken[l] = 0
    while True:
        size = _grouped(b, lanes, s.group, s.taken)
        if size == 0:
            break
        _gathered(b, s, x, size)
        n, n_film = b.count[MESH, s.group[0]], b.count[MESH_FILM, s.group[0]]
        if half:
            n, n_film = _coarser(n), _coarser(n_film)
        shoot(
            s.film, s.explicit, s.implicit, b.z, s.q, s.own, b.form, s.u, s.state, size, n, n_film, jac, s.r, s.J,
            s.c_wall,
        )  # fmt: skip
        if jac:
            for o in range(size):
                _invert(s.J, o, b.inverse, s.group[o], s.square, s.swaps)
        else:
            _scattered(b, s, x, size)


@part
def _newton_step(b, l):
    "Newton's step of a lane; its largest entry, and the largest by ln c_p (inf if not finite)."
    m, top, top_c = len(b.u), 0.0, 0.0
    for i in range(m):
        s = 0.0
        for j in range(m):
            s -= b.inverse[l, i, j] * b.r[j, l]
        b.step[i, l] = s
        if not abs(s) < np.inf:
            return np.inf, np.inf
        top = max(top, abs(s))
        top_c = max(top_c, abs(s)) if i < len(b.z) else top_c
    return top, top_c


@part
def judged(b, l):
    "Whether to step on from x with the inverse at hand (0), to renew it first (1), or to go back (2)."
    total, top, state = 0.0, 0.0, b.state
    for i in range(len(b.u)):
        total += b.r[i, l] * b.r[i, l]
        top = max(top, abs(b.r[i, l]))
    new = math.sqrt(total) if total < np.inf else np.inf
    if new < 1e-12 or (new < np.inf and new <= (1 - 1e-4 * state[ALPHA, l]) * state[NORM, l]):
        slow = new > 0.25 * state[NORM, l] and new > 1e-12
        for i in range(len(b.u)):
            b.u[i, l] = b.x[i, l]
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


@part
def finer(b, l):
    "Check a solution on meshes twice as fine; a problem beyond the largest ends."
    b.count[FINER, l] += 1
    b.count[MESH, l] *= 2
    b.count[MESH_FILM, l] *= 2
    b.state[ALPHA, l], b.count[TRIED, l] = 0.0, 0
    b.count[STAGE, l] = CHECKING if max(abs(b.count[MESH, l]), abs(b.count[MESH_FILM, l])) <= N_MAX else DONE


@part
def _stepped(b, l, most, tol):
    "Prepare the next step, capped at 2, or take the last one; False if it is longer than `most` or gains too little."
    size, _ = _newton_step(b, l)
    if not size < most or (size < tol and size > 0.2 * b.state[LAST, l]):  # what is left of the way may exceed tol
        return False
    b.state[LAST, l] = size
    if size < tol:
        for i in range(len(b.u)):
            b.u[i, l] += b.step[i, l]
        b.count[STAGE, l] = BELOW
    elif size > 2.0:
        for i in range(len(b.u)):
            b.step[i, l] *= 2.0 / size
    else:
        near = size < 1e-2 and (b.form[FILM_KIND] != NERNST_PLANCK_FILM or b.state[RESIDUAL, l] < 3e-2)
        b.count[KEPT, l] = b.count[KEPT, l] or near  # so close to the root the next steps may use it too
    return True


@once
def _claimed(b, l, size, top, before):
    "Bound of what the first step on a mesh leaves, and the same where the inverse at hand is trusted."
    film, mesh, mesh_film = b.form[FILM_KIND] == NERNST_PLANCK_FILM, b.count[MESH, l], b.count[MESH_FILM, l]
    least = max(size if film or b.form[LAW] == DAVIES else size / 4, top / 2)
    if max(mesh, mesh_film) >= 64:
        least = max(least, 2 * top, before / 8)
    if min(mesh, mesh_film) < 0:
        least = max(least, 4 * top, before / 4)
    return max(20 * size, least) if film else least, least


@part
def checked(b, l, rtol):
    "A step on the finer mesh: its size tells the error of the discretisation; a second one, whether to trust it."
    size, top = _newton_step(b, l)
    before, count, state = b.state[BEFORE, l], b.count, b.state
    again = count[TRIED, l] > 0
    state[RESIDUAL, l] = 0.0
    for i in range(len(b.u)):
        state[RESIDUAL, l] = max(state[RESIDUAL, l], abs(b.r[i, l]))
    stuck = again and 4 * size > rtol  # by an inverse too old to gain on a mesh
    near = top < 0.05 and state[RESIDUAL, l] < 0.1  # a step of no length may also be that of an inverse of huge numbers
    if stuck or not (near and (again or top < 0.3 * before or max(top, before) < rtol)):  # or a mesh far off
        state[BEFORE, l], state[ERROR, l] = np.inf, np.inf
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
        count[CODE, l], count[STAGE, l] = CONVERGED if count[FINER, l] == 1 else REFINED, DONE
    elif not again and state[LAST, l] <= rtol:
        count[TRIED, l] = 1
    else:
        finer(b, l)


@part
def first_guess(b, l):
    "The solution at zero flux: permeate equals feed; its Donnan potential follows."
    d = len(b.z)
    for i in range(len(b.u)):
        b.u[i, l] = b.q[LN_FEED, i, l] if i < d and b.q[LN_FEED, i, l] > -np.inf else 0.0
    b.u[d, l] = np.nan
    b.count[KEPT, l], b.state[P_PERM, l] = 0, np.nan


@part
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
    count[FINER, l] = 0
    state[P_PERM, l], state[ALPHA, l] = np.nan, 0.0
    for row in (NORM, BEFORE, ERROR, LAST, RESIDUAL):
        state[row, l] = np.inf


@once
def close(b, s, lanes):
    "Wall and potentials of the solutions themselves, whose charges are evened out; without a film there is no march."
    for l in lanes:
        b.count[TRIED, l], b.count[BEGUN, l] = b.count[MESH, l], b.count[MESH_FILM, l]
        b.count[MESH_FILM, l] = 1
        if b.form[FILM_KIND] == NO_FILM:
            b.count[MESH, l] = 1
        for i in range(len(b.u)):
            b.x[i, l] = b.u[i, l]
    _shoot_lanes(b, s, lanes, b.x, False, False)
    for l in lanes:
        b.count[MESH, l], b.count[MESH_FILM, l] = b.count[TRIED, l], b.count[BEGUN, l]
        tilt = 0.5 * b.r[len(b.z), l]
        for i in range(len(b.z)):
            if b.q[LN_FEED, i, l] > -np.inf:
                b.u[i, l] -= tilt if b.z[i] > 0 else -tilt if b.z[i] < 0 else 0.0


@once
def _stepping(b, s, lanes, rtol, tol):
    "One shot of each lane, and what follows from it; returns how many ask for a new inverse."
    fresh = 0
    for l in lanes:
        for i in range(len(b.u)):
            b.x[i, l] = b.u[i, l] + (b.state[ALPHA, l] * b.step[i, l] if b.state[ALPHA, l] > 0 else 0.0)
    _shoot_lanes(b, s, lanes, b.x, False, False)
    for l in lanes:
        if b.count[STAGE, l] == CHECKING:
            checked(b, l, rtol)
            continue
        b.count[TRIED, l] += 1
        b.count[STEPS, l] += 1
        verdict = judged(b, l)
        if verdict == 1 or (verdict == 0 and not _stepped(b, l, 1e-2, tol)):
            s.renew[fresh] = l
            fresh += 1
    return fresh


@once
def _looked_below(b, s, lanes):
    "How far the roots are from those on half their meshes, where much hangs on the order of the march; then upwards."
    many = 0
    for l in lanes:
        high, low = max(b.count[MESH, l], b.count[MESH_FILM, l]), min(b.count[MESH, l], b.count[MESH_FILM, l])
        if b.count[STAGE, l] == BELOW and high >= 32 and low > 0:
            s.renew[many] = l
            many += 1
            for i in range(len(b.u)):
                b.x[i, l] = b.u[i, l]
    if many:
        _shoot_lanes(b, s, s.renew[:many], b.x, False, True)
        for l in s.renew[:many]:
            _, b.state[BEFORE, l] = _newton_step(b, l)
    for l in lanes:
        if b.count[STAGE, l] == BELOW:
            finer(b, l)


@once
def _solve_block(b, s, many, rtol):
    "Solve and certify the first lanes of a block, each on its own: what one needs does not change another."
    lanes, renew, w, tol = s.at, s.renew, many, min(1e-6, rtol)
    for l in range(many):
        lanes[l], b.count[CODE, l], b.count[STEPS, l] = l, FAILED, 0
        begin(b, l)
    while w:
        fresh = _stepping(b, s, lanes[:w], rtol, tol)
        if fresh:
            _shoot_lanes(b, s, renew[:fresh], b.u, True, True)
            for l in renew[:fresh]:
                b.count[KEPT, l], b.state[LAST, l] = 0, np.inf
                if not _stepped(b, l, np.inf, tol):
                    b.state[ALPHA, l] = -1.0  # singular
        _looked_below(b, s, lanes[:w])
        w = 0
        for l in range(many):
            if b.count[STAGE, l] == SOLVING and (b.state[ALPHA, l] < 0 or b.count[TRIED, l] > 60):
                b.count[BEGUN, l] = max(b.count[BEGUN, l], 1)
                begin(b, l)
            if b.count[STAGE, l] != DONE:
                lanes[w] = l
                w += 1
    for l in range(many):
        lanes[l] = l
    close(b, s, lanes[:many])

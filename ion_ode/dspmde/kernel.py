"""The door of the compiled pore model: coefficients in, certified permeates out"""

import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
from numba import config, types
from numba.core import event
from numba.types import float64

from .._torch import bare
from .kernel_back import explicit_back, exponential_back, midpoint_back
from .kernel_curves import STIFF, curves, rooms
from .kernel_march import explicit, exponential, midpoint
from .kernel_newton import CODE, FAILED, LANES, MESH, MESH_FILM, NO_SOLUTION, REFINED, STEPS
from .kernel_shot import (
    BEFORE_FILM, DAVIES, DAVIES_SOLUTION, ERROR, FILM, FILM_KIND, IDEAL, K_CONV, LAYER, LINEAR_FILM, LN_FEED,
    NERNST_PLANCK_FILM, NO_FILM, NODES, P_PERM, PECLET, RESIDUAL, SHOOT, _f1, _f2, _f3, _i1, _i2, linear_film,
    no_film, shoot, stagnant_film,
)  # fmt: skip

_BLOCK = types.Tuple((_f3, *[_f2] * 5, _f3, _i2, _f2, _f2))
_SHOT = types.Tuple((_f3, *[_f2] * 4, _f3, _f2))
_ROOM = types.Tuple((_BLOCK, _SHOT, _f2, _i2, _f3, _f2, _i1))
_CURVES = types.void(BEFORE_FILM, SHOOT, LAYER, LAYER, _f1, _f3, _f2, _i1, _f1, _i2, float64, _f2, _f2, _i2, _f2, _ROOM)
_BACK = types.void(_f2, _f2, _f2, _f1, types.int64, _f2, _f2, _f2)
_FUNCTIONS = {
    "shoot": (shoot, SHOOT.signature), "curves": (curves, _CURVES), NO_FILM: (no_film, BEFORE_FILM.signature),
    NERNST_PLANCK_FILM: (stagnant_film, BEFORE_FILM.signature), LINEAR_FILM: (linear_film, BEFORE_FILM.signature),
    "explicit": (explicit, LAYER.signature), "explicit back": (explicit_back, _BACK),
    "midpoint": (midpoint, LAYER.signature), "midpoint back": (midpoint_back, _BACK),
    "exponential": (exponential, LAYER.signature), "exponential back": (exponential_back, _BACK),
}  # fmt: skip


class _Words(event.Listener):
    "Says once, on the terminal, why the first call takes some seconds."

    said = False

    def on_start(self, e):
        if not _Words.said:
            print(
                "ion_ode: compiling the pore model for this machine, once (some ten seconds)",
                file=sys.stderr,
                flush=True,
            )
        _Words.said = True

    def on_end(self, e):
        pass


@contextmanager
def _undisturbed():
    """No search for dead cycles among the millions of objects that a compiler makes, a tenth of its time; no copies of
    loops for vectors: lanes are vectors already, and without the copies the kernel is no slower, compiled sooner."""
    searched, vectors = gc.isenabled(), config.LOOP_VECTORIZE
    gc.disable()
    config.LOOP_VECTORIZE = 0
    try:
        yield
    finally:
        config.LOOP_VECTORIZE = vectors
        if searched:
            gc.enable()


_TURN, _READY = threading.RLock(), {}


def _made(name: str | int):
    f, signature = _FUNCTIONS[name]
    f.compile(signature)
    f.disable_compile()
    code = f.get_compile_result(signature)  # asked for at every call that hands f on: looked up once
    f.get_compile_result = lambda _: code
    code.library.get_pointer_to_function = lru_cache(code.library.get_pointer_to_function)
    return f


def ready(*names: str | int) -> list:
    "Functions of the kernel, compiled or from the cache, by one thread while others wait."
    if any(n not in _READY for n in names):
        with _TURN, event.install_listener("numba:compile", _Words()), _undisturbed():
            for n in names:
                _READY[n] = _READY[n] if n in _READY else _made(n)
    return [_READY[n] for n in names]


def compiled(name: str | int):
    "One of them."
    return ready(name)[0]


def packed(q) -> tuple:
    "Coefficients of a `Transport` as the kernel reads them."
    array = lambda t: np.asarray(bare(t))
    film_rows = [array(t) for t in (q.film_peclet, q.film_ratio, q.film_diffusion) if t is not None]
    ln_feed = np.where(array(q.present), array(q.ln_feed), -np.inf)
    rows = np.stack([ln_feed, np.exp(array(q.ln_entry)), array(q.peclet), array(q.K_conv), *film_rows])
    film = (NO_FILM, NERNST_PLANCK_FILM, LINEAR_FILM)[len(film_rows)]
    law = IDEAL if q.davies is None else DAVIES if q.davies_pore else DAVIES_SOLUTION
    own = np.stack([array(q.charge), np.zeros(q.size) if q.davies is None else array(q.davies)])
    return array(q.z)[:, 0].copy(), rows, own, (law, film, q.nodes or 0)


def _marches(form, stiff: bool):
    "The two ways through a layer that these problems need."
    return "explicit", "midpoint" if form[NODES] else "exponential" if stiff else "explicit"


def _largest(q, form) -> tuple:
    "Of problems: the largest rate through a layer, and what places them along their curves."
    there, film = q[LN_FEED] > -np.inf, form[FILM_KIND]
    top = lambda v: np.where(there, v, 0.0).max(0)
    rate = top(q[PECLET] * np.maximum(q[K_CONV], 1))
    rate = np.maximum(rate, top(q[FILM])) if film == NERNST_PLANCK_FILM else rate
    return rate, top(q[PECLET] * q[FILM] if film == LINEAR_FILM else q[PECLET])


def _places(push, form, flux):
    "Where problems (curve, flux) stand along their curves: the largest Péclet number, times that of a linear film."
    return push.reshape(len(flux), -1) * (flux * flux if form[FILM_KIND] == LINEAR_FILM else flux)


def _in_order(push, form, flux):
    "Curves from the highest place down: neighbours share their meshes; and the fluxes of all or each (.., n_flux)."
    along = flux if push.size == len(flux) else _places(push, form, flux)
    rising = (along[:, 1:] > along[:, :-1]).all()
    highest = _places(push.reshape(len(flux), -1).max(1), form, flux.max(1, keepdims=True))[:, 0]
    return highest.argsort()[::-1], np.arange(flux.shape[1])[None] if rising else along.argsort(1)


def _shares(order, few, threads):
    "Curves for threads to take: at first a long share each, then blocks, at last quarters, so that none waits long."
    blocks = [order[k : k + few] for k in range(0, len(order), few)]
    most = 3 * len(blocks) // (4 * threads) * threads
    long = [np.concatenate(blocks[k:most:threads]) for k in range(threads if most else 0)]
    last = blocks[max(most, len(blocks) - threads) :]
    quarters = (b[k::4] for b in last for k in range(min(4, len(b))))
    return [*long, *blocks[most : len(blocks) - len(last)], *quarters]


_PAGE = 1 << 18  # numbers of a large page of memory


def _rows(rows, size):
    "Rows of numbers not yet written, from where a large page begins: asking for small ones takes threads turns."
    if rows * size < 4 * _PAGE:
        return np.empty((rows, size))
    room = np.empty(rows * size + _PAGE)
    at = -(room.ctypes.data // 8) % _PAGE
    return room[at : at + rows * size].reshape(rows, size)


def _solve_packed(z, q, own, form, flux, rtol: float = 1e-6, guess=None, threads: int = 1) -> dict:
    "Problems curve * n_flux + flux, of unit flux one a curve or each its own, from a guess or along each curve."
    d, size, film = len(z), flux.size, form[FILM_KIND]
    m, form = d + (2 if film == LINEAR_FILM else 1), np.append(form, guess is not None)
    told = _rows(m + 8, size)
    u, state, count = told[:m], told[m : m + 4], told[m + 4 :].view(np.int64)
    c_wall = np.empty((d, size if film != NO_FILM else 0))
    if guess is not None:
        u[:] = guess
    rate, push = _largest(q, form)
    (order, rank), fastest = _in_order(push, form, flux), (rate.reshape(len(flux), -1).max(1) * flux.max(1)).max()
    run, *ways = ready("curves", int(film), "shoot", *_marches(form, fastest > (1 - 1e-9) * STIFF))
    q, own, J = (np.require(v, float, "CW") for v in (q, own, flux.ravel()))
    threads = threads if size >= 4096 else 1
    few = min(LANES, -(-len(order) // threads))  # curves of a block, as one thread takes them
    free = [rooms(len(q), d, len(u), few) for _ in range(threads)]

    def work(some):
        room, each = free.pop(), some[:, None] * flux.shape[1] + (rank if len(rank) == 1 else rank[some])
        run(*ways, z, q, own, form, J, np.ascontiguousarray(each.T), rtol, u, c_wall, count, state, room)
        free.append(room)

    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, _shares(order, few, threads)))
    else:
        work(order)
    found = {"u": u, "code": count[CODE], "n_steps": count[STEPS], "n": count[MESH], "n_film": count[MESH_FILM],
             "residual": state[RESIDUAL], "error": state[ERROR], "p_perm": state[P_PERM]}  # fmt: skip
    return found | ({"c_wall": c_wall} if c_wall.size else {})


def _run_dry(q, u, held, factors):
    "Whether the last two rungs that held, taken straight on, leave less than nothing of some ion in the permeate."
    ways = held.cumprod(1).sum(1)
    ends, every = np.maximum(ways - 1, 1), np.arange(len(ways))
    c, x, y = np.exp(u[: q.shape[1]]), factors[every, ends - 1], factors[every, ends]
    low, high = c[:, every, ends - 1], c[:, every, ends]
    left = high + (high - low) / (y - x) * (1 - y)
    return (ways > 1) & (ways < factors.shape[1]) & ((left <= 0) & (q[LN_FEED] > -np.inf)).any(0)


def climb(z, q, own, form, flux, rtol, found, lost, factors, mixing: bool = False) -> np.ndarray:
    "Problems again as their flux rises to its value, or the resistance of a linear film; which (problem, rung) held."
    form, each, factors = np.array([*form[:3], 2]), flux.size // q.shape[2], np.atleast_2d(factors)
    factors = np.broadcast_to(factors, (len(lost), factors.shape[1]))  # the same for all, or each its own
    all_held = np.zeros(factors.shape, bool)
    for i in range(0, len(lost), 256):
        at, rise = lost[i : i + 256], factors[i : i + 256]
        J, some, mine = flux.reshape(-1)[at, None], q[..., at // each], own[:, at // each]
        if mixing:
            J, some, mine = (np.repeat(v, rise.shape[1], -1) for v in (J, some, mine))
            some[FILM] *= rise.ravel()
        else:
            J = J * rise
        more = _solve_packed(z, some, mine, form, J, rtol)
        rungs = {k: v.reshape(*v.shape[:-1], *rise.shape) for k, v in more.items()}
        held, every = rungs["code"] < FAILED, np.arange(len(at))
        all_held[i : i + 256] = held
        if form[NODES]:
            dry = _run_dry(q[..., at // each], rungs["u"], held, rise)
            found["code"][at] = np.where(dry, NO_SOLUTION, found["code"][at])
        for k, v in rungs.items():
            found[k][..., at] = np.where(held[:, -1], v[..., -1], found[k][..., at])
        last = np.where(held, np.arange(rise.shape[1]), -1).max(1)
        found["u"][:, at] = np.where(last >= 0, rungs["u"][:, every, last], found["u"][:, at])
    return all_held


def _climb_nodes(z, q, own, form, flux, rtol, found) -> None:
    "The first flux of a curve that has no root; where that has none for good, nor have higher ones; else each of them."
    lost, factors = found["code"] == FAILED, 0.5 ** np.arange(5.0, -0.01, -0.0625)
    place = np.where(lost.reshape(flux.shape), _places(_largest(q, form)[1], form, flux), np.inf)
    first = place.argmin(1) + flux.shape[1] * np.arange(len(place))
    climb(z, q, own, form, flux, rtol, found, first[lost[first]], factors)
    none = np.repeat(found["code"][first] == NO_SOLUTION, flux.shape[1])
    found["code"][lost & none] = NO_SOLUTION
    climb(z, q, own, form, flux, rtol, found, np.flatnonzero(found["code"] == FAILED), factors)


def climb_film(z, q, own, form, rtol, found) -> None:
    "Problems behind a linear film again, up a ladder of ever less mixing; in finer rungs behind the last that held."
    lost, ones = np.flatnonzero(found["code"] > REFINED), np.ones((q.shape[2], 1))
    factors = 0.5 ** np.arange(5.0, -0.01, -0.03125)
    held = climb(z, q, own, form, ones, rtol, found, lost, factors, mixing=True)
    last = len(factors) - 1 - held[:, ::-1].argmax(1)
    lost, last = (v[held.any(1) & ~held[:, -1]] for v in (lost, last))
    between = np.geomspace(factors[last], factors[last + 1], 65)[1:-1].T
    factors = np.sort(np.concatenate([np.tile(factors, (len(lost), 1)), between], 1), 1)
    climb(z, q, own, form, ones, rtol, found, lost, factors, mixing=True)


def solve_all(
    z, q, own, form, flux=None, rtol: float = 1e-6, guess=None, threads: int = 1, persist: bool = True
) -> dict:
    "Problems of unit flux at their fluxes (problem, n_flux), or as they are; up a ladder where Newton's method stalls."
    flux, form = (
        np.ones((q.shape[2], 1)) if flux is None else flux,
        np.array([*form, 5 if persist and not form[NODES] else 2]),
    )
    found = _solve_packed(z, q, own, form, flux, rtol, guess, threads)
    if persist and form[FILM_KIND] != LINEAR_FILM:
        if form[NODES]:
            _climb_nodes(z, q, own, form, flux, rtol, found)
        else:
            lost = np.flatnonzero(found["code"] == FAILED)
            climb(z, q, own, form, flux, rtol, found, lost, 0.5 ** np.arange(11.0, -0.5, -0.5))
    if form[FILM_KIND] == NO_FILM:
        found["c_wall"] = np.exp(q[LN_FEED])
    return found


def shots_of(z, q, own, form, u, n: int, n_film: int, jacobian: bool):
    "Residuals (unknown, problem) of guesses at the given meshes, or their Jacobians (problem, unknown, unknown)."
    form, parts, m = np.array([*form, 0]), [], len(u)
    for k in range(0, u.shape[1], 128):
        q_at, own_at, u_at = (np.array(t[..., k : k + 128], order="C") for t in (q, own, u))
        w = u_at.shape[1]
        shoot_all, film, *ways = ready("shoot", int(form[FILM_KIND]), *_marches(form, min(n, n_film) < 0))
        r, J, c_wall = np.empty((m, w)), np.empty((m, m, w)), np.empty((len(z), w))
        problem = (z, q_at, own_at, form, u_at, np.full((2, w), np.nan))
        shoot_all(film, *ways, *problem, w, n, n_film, jacobian, r, J, c_wall)
        parts.append(J.transpose(2, 0, 1) if jacobian else r)
    return np.concatenate(parts, 0 if jacobian else 1)

"""The door of the compiled pore model: coefficients in, certified permeates out"""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numba import types
from numba.core import event
from numba.types import float64

from .._torch import bare
from .kernel_back import explicit_back, exponential_back, midpoint_back
from .kernel_march import explicit, exponential, midpoint
from .kernel_newton import CODE, FAILED, LANES, MESH, MESH_FILM, NO_SOLUTION, REFINED, STEPS, STIFF, curves
from .kernel_shot import (
    BEFORE_FILM, DAVIES, DAVIES_SOLUTION, ENTRY, ERROR, FILM, FILM_KIND, IDEAL, K_CONV, LAYER, LINEAR_FILM, LN_FEED,
    NERNST_PLANCK_FILM, NO_FILM, NODES, P_PERM, PECLET, PLACE, RESIDUAL, SHOOT, _f1, _f2, _f3, _i1, _i2, linear_film,
    no_film, shoot, stagnant_film,
)  # fmt: skip

_CURVES = types.void(BEFORE_FILM, SHOOT, LAYER, LAYER, _f1, _f3, _f2, _i1, _i2, float64, _f2, _f2, _i2, _f2)
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


@lru_cache
def compiled(name: str | int):
    "A function of the kernel, compiled or from the cache."
    f, signature = _FUNCTIONS[name]
    with event.install_listener("numba:compile", _Words()):
        f.compile(signature)
    f.disable_compile()
    code = f.get_compile_result(signature)  # asked for at every call that hands f on: looked up once
    f.get_compile_result = lambda _: code
    code.library.get_pointer_to_function = lru_cache(code.library.get_pointer_to_function)
    return f


_PART = 8192  # Problems of a slice that fits a cache


def _by_part(work, size: int, threads: int, each: int = _PART) -> None:
    "Work on slices of problems, side by side where there are threads."
    parts = [slice(k, k + each) for k in range(0, size, each)]
    if threads > 1 and len(parts) > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, parts))
    else:
        for part in parts:
            work(part)


def packed(q, threads: int = 1, flux=None) -> tuple:
    "Coefficients of a `Transport`, of unit flux where `flux` (batch, n_flux) is given, as the kernel reads them."
    array = lambda t: np.asarray(bare(t))
    film_rows = [array(t) for t in (q.film_peclet, q.film_ratio, q.film_diffusion) if t is not None]
    as_they_are = [array(q.peclet), array(q.K_conv), *film_rows]
    present, ln_feed, ln_entry = (array(t) for t in (q.present, q.ln_feed, q.ln_entry))
    J = np.ones((q.size, 1)) if flux is None else array(flux)
    rows, n_flux = np.empty((2 + len(as_they_are), len(ln_feed), *J.shape)), J.shape[1]

    def pack(at):
        rows[LN_FEED, :, at] = np.where(present[:, at], ln_feed[:, at], -np.inf)[..., None]
        rows[ENTRY, :, at] = np.exp(ln_entry[:, at])[..., None]
        for k, t in enumerate(as_they_are, start=PECLET):
            some = t[:, at, None]
            rows[k, :, at] = some * J[at] if flux is not None and k in (PECLET, FILM) else some

    _by_part(pack, q.size, threads, max(1, _PART // n_flux))
    film = (NO_FILM, NERNST_PLANCK_FILM, LINEAR_FILM)[len(film_rows)]
    law = IDEAL if q.davies is None else DAVIES if q.davies_pore else DAVIES_SOLUTION
    own = np.stack([array(q.charge), np.zeros(q.size) if q.davies is None else array(q.davies)])
    wide = rows.reshape(*rows.shape[:2], -1), np.repeat(own, n_flux, 1)
    return array(q.z)[:, 0].copy(), *wide, (law, film, q.nodes or 0)


def _marches(form, stiff: bool):
    "The two ways through a layer that these problems need."
    if form[NODES]:
        return compiled("explicit"), compiled("midpoint")
    return compiled("explicit"), compiled("exponential" if stiff else "explicit")


def rates(q, form):
    "Largest rate through the pore, and through a Nernst–Planck film."
    there = q[LN_FEED] > -np.inf
    pore = np.where(there, q[PECLET] * np.maximum(q[K_CONV], 1), 0.0).max(0)
    return (pore, np.where(there, q[FILM], 0.0).max(0)) if form[FILM_KIND] == NERNST_PLANCK_FILM else (pore,)


def mesh(top, rtol):
    "Steps to begin with: a power of two from the largest rate and the tolerance; negative: exponential steps."
    few = np.maximum((4 + 2 * np.minimum(top, STIFF)) * (1e-6 / rtol) ** 0.2, 4)
    graded = np.maximum(2 * np.log(np.maximum(top, 1)) * (1e-6 / rtol) ** 0.25, 32)
    power = lambda n: 2 ** np.ceil(np.log2(n)).astype(np.int64)
    return np.where(top > STIFF, -power(graded), power(few))


def _begun(q, form, rtol, guess, u, count, state, at) -> None:
    "Meshes, guesses and places along their curves of some problems."
    some = q[..., at]
    if guess is not None:
        u[at] = guess[:, at].T
    for row, top in zip((MESH, MESH_FILM), rates(some, form), strict=False):
        count[at, row] = mesh(top, rtol)
    push = some[PECLET] * some[FILM] if form[FILM_KIND] == LINEAR_FILM else some[PECLET]
    state[at, PLACE] = np.where(some[LN_FEED] > -np.inf, push, 0.0).max(0)


def _in_order(place, n_flux: int):
    "Problems (curve, flux): every curve by its flux, curves by their highest place: neighbours share their meshes."
    order, place = np.arange(len(place)).reshape(-1, n_flux), place.reshape(-1, n_flux)
    if n_flux > 1 and not (place[:, 1:] > place[:, :-1]).all():
        order = np.take_along_axis(order, place.argsort(1), 1)
    return order[place.max(1).argsort()]


def _solve_packed(z, q, own, form, n_flux: int = 1, rtol: float = 1e-6, guess=None, threads: int = 1) -> dict:
    "Problems of packed coefficients, curve * n_flux + flux, from a guess or along each curve."
    _, d, size = q.shape
    threads = threads if size >= 4096 else 1
    u = np.empty((size, d + (2 if form[FILM_KIND] == LINEAR_FILM else 1)))
    c_wall, count, state = np.empty((size, d)), np.ones((size, 4), np.int64), np.empty((size, 5))
    count[:, STEPS] = guess is None
    _by_part(lambda at: _begun(q, form, rtol, guess, u, count, state, at), size, threads)
    order = _in_order(state[:, PLACE], n_flux)
    state[:, PLACE] = np.log(state[:, PLACE])
    run, film = compiled("curves"), compiled(int(form[FILM_KIND]))
    ways = film, compiled("shoot"), *_marches(form, count.min() < 0)
    work = lambda part: run(*ways, z, q, own, form, np.ascontiguousarray(part.T), rtol, u, c_wall, count, state)
    if threads > 1:
        few = min(LANES, -(-len(order) // threads))  # blocks as one thread takes them, the long ones first
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, [order[k : k + few] for k in range(0, len(order), few)][::-1]))
    else:
        work(order)
    return _lying(q, form, u, c_wall, count, state, threads)


def _lying(q, form, u, c_wall, count, state, threads) -> dict:
    "What was found, one row a number."
    tables = u, c_wall, count, state
    rows = [np.empty(t.shape[::-1], t.dtype) for t in tables]

    def lay(at):
        for row, t in zip(rows, tables, strict=True):
            row[:, at] = t[at].T
        if form[FILM_KIND] == NO_FILM:
            np.exp(q[LN_FEED, :, at], out=rows[1][:, at])

    _by_part(lay, len(u), threads)
    u, c_wall, count, state = rows
    return {"u": u, "c_wall": c_wall, "code": count[CODE], "n_steps": count[STEPS], "n": count[MESH],
            "n_film": count[MESH_FILM], "residual": state[RESIDUAL], "error": state[ERROR],
            "p_perm": state[P_PERM]}  # fmt: skip


def _run_dry(q, u, held, factors):
    "Whether the last two rungs that held, taken straight on, leave less than nothing of some ion in the permeate."
    ways = held.cumprod(1).sum(1)
    ends, every = np.maximum(ways - 1, 1), np.arange(len(ways))
    c, x, y = np.exp(u[: q.shape[1]]), factors[ends - 1], factors[ends]
    low, high = c[:, every, ends - 1], c[:, every, ends]
    left = high + (high - low) / (y - x) * (1 - y)
    return (ways > 1) & (ways < len(factors)) & ((left <= 0) & (q[LN_FEED] > -np.inf)).any(0)


def climb(z, q, own, form, rtol, found, lost, rows, factors) -> None:
    "Problems again along a curve on which some coefficients rise to their value; else u of the last rung held."
    form = np.array([*form[:3], 2])
    for at in np.split(lost, range(256, len(lost), 256)) if len(lost) else ():
        part = np.repeat(q[:, :, at], len(factors), 2)
        part[rows] *= np.tile(factors, len(at))
        more = _solve_packed(z, part, np.repeat(own[:, at], len(factors), 1), form, len(factors), rtol)
        rungs = {k: v.reshape(*v.shape[:-1], len(at), len(factors)) for k, v in more.items()}
        held, every = rungs["code"] < FAILED, np.arange(len(at))
        if form[NODES]:
            dry = _run_dry(q[..., at], rungs["u"], held, factors)
            found["code"][at] = np.where(dry, NO_SOLUTION, found["code"][at])
        for k, v in rungs.items():
            found[k][..., at] = np.where(held[:, -1], v[..., -1], found[k][..., at])
        last = np.where(held, np.arange(len(factors)), -1).max(1)
        found["u"][:, at] = np.where(last >= 0, rungs["u"][:, every, last], found["u"][:, at])


def _climb_nodes(z, q, own, form, n_flux, rtol, found, rows) -> None:
    "The first flux of a curve that has no root; where that has none for good, nor have higher ones; else each of them."
    lost, factors = found["code"] == FAILED, 0.5 ** np.arange(5.0, -0.01, -0.0625)
    place = np.where(lost, np.where(q[LN_FEED] > -np.inf, q[PECLET], 0.0).max(0), np.inf).reshape(-1, n_flux)
    first = place.argmin(1) + n_flux * np.arange(len(place))
    climb(z, q, own, form, rtol, found, first[lost[first]], rows, factors)
    none = np.repeat(found["code"][first] == NO_SOLUTION, n_flux)
    found["code"][lost & none] = NO_SOLUTION
    climb(z, q, own, form, rtol, found, np.flatnonzero(found["code"] == FAILED), rows, factors)


def _even_out(z, q, u, threads: int = 1) -> None:
    "Both signs of the permeate's charge made equal to the last digit."

    def level(at):
        some = u[: len(z), at]
        c = np.where(q[LN_FEED, :, at] > -np.inf, np.exp(some), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            tilt = 0.5 * np.log((np.maximum(z, 0) @ c) / (np.maximum(-z, 0) @ c))
            some -= np.sign(z)[:, None] * tilt * (c > 0)

    _by_part(level, u.shape[1], threads)


def climb_film(z, q, own, form, rtol, found) -> None:
    "Problems behind a linear film again, up a ladder of ever less mixing."
    lost = np.flatnonzero(found["code"] > REFINED)
    climb(z, q, own, form, rtol, found, lost, [FILM], 0.5 ** np.arange(5.0, -0.01, -0.03125))
    _even_out(z, q, found["u"])


def solve_all(
    z, q, own, form, n_flux: int = 1, rtol: float = 1e-6, guess=None, threads: int = 1, persist: bool = True
) -> dict:
    "The same; where Newton's method stalls, up a ladder of fluxes."
    form = np.array([*form, 5 if persist and not form[NODES] else 2])
    found = _solve_packed(z, q, own, form, n_flux, rtol, guess, threads)
    if persist and form[FILM_KIND] != LINEAR_FILM:
        rows = [PECLET, FILM] if form[FILM_KIND] == NERNST_PLANCK_FILM else [PECLET]
        if form[NODES]:
            _climb_nodes(z, q, own, form, n_flux, rtol, found, rows)
        else:
            lost = np.flatnonzero(found["code"] == FAILED)
            climb(z, q, own, form, rtol, found, lost, rows, 0.5 ** np.arange(11.0, -0.5, -0.5))
    _even_out(z, q, found["u"], threads)
    return found


def shots_of(z, q, own, form, u, n: int, n_film: int, jacobian: bool):
    "Residuals (unknown, problem) of guesses at the given meshes, or their Jacobians (problem, unknown, unknown)."
    form, parts, m = np.array([*form, 0]), [], len(u)
    for k in range(0, u.shape[1], 128):
        q_at, own_at, u_at = (np.array(t[..., k : k + 128], order="C") for t in (q, own, u))
        w = u_at.shape[1]
        film, ways, state = compiled(int(form[FILM_KIND])), _marches(form, min(n, n_film) < 0), np.full((2, w), np.nan)
        r, J, c_wall = np.empty((m, w)), np.empty((m, m, w)), np.empty((len(z), w))
        problem = (z, q_at, own_at, form, u_at, state)
        compiled("shoot")(film, *ways, *problem, w, n, n_film, jacobian, r, J, c_wall)
        parts.append(J.transpose(2, 0, 1) if jacobian else r)
    return np.concatenate(parts, 0 if jacobian else 1)

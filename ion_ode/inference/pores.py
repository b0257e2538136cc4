"""The pore model as a posterior asks for it: arrays in, passages out, absent ions left away

The permittivity of a pore is that at 25 °C and follows the temperature of the measurement."""

import numpy as np

from ion_ode._torch import torch
from ion_ode.dspmde.arrays import permeates
from ion_ode.dspmde.conditions import eps_pore_at
from ion_ode.dspmde.feed import feed_array, flux_array
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane

__all__ = ["INPUTS", "passages", "solve", "solve_back"]

INPUTS = ("r_pore", "thickness", "eps_pore", "charge", "film", "flux")  # Of a problem, beside the offsets of its ions


def _batch(ions, c_feed, flux, p, offset, film, temperature, rtol):
    "Passage and wall concentration of feeds that hold all of `ions`."
    membrane = Membrane(
        p["r_pore"],
        p["thickness"],
        p["charge"],
        eps_pore_at(p["eps_pore"], float(temperature)),
        ln_partition={i: offset[:, k] for k, i in enumerate(ions)},
    )
    front = None if film is None else Film(thickness=film)
    names, c = feed_array(c_feed, ions)
    c_perm, c_wall = permeates(names, c, flux_array(flux, len(c)), membrane, front, float(temperature), rtol)
    return c_perm / c[:, None], c_wall


def passages(
    ions: tuple[str, ...],  # Columns of c_feed
    c_feed: np.ndarray,  # (n, ion) [mol/m³], zeros are absent ions
    flux: np.ndarray,  # (n, flux) [m/s]
    membrane: dict,  # r_pore, thickness, charge, eps_pore (n,)
    offset: np.ndarray,  # (n, ion) excess ln of the partition coefficient
    film: np.ndarray,  # (n,) [m]; 0 for none
    temperature: np.ndarray,  # (n,) [K]
    rtol: float = 1e-4,
) -> tuple[
    np.ndarray, np.ndarray
]:  # (n, flux, ion): permeate over feed, 1 where absent and nan without a solution; concentration at the membrane
    "Solve many problems, those with the same ions together."
    through, wall = np.ones((*flux.shape, len(ions))), np.zeros((*flux.shape, len(ions)))
    for i, cols in _alike(c_feed, film, temperature):
        part = {n: membrane[n][i] for n in ("r_pore", "thickness", "charge", "eps_pore")}
        thick = film[i] if film[i[0]] > 0 else None
        names = tuple(ions[c] for c in cols)
        got, at_wall = _batch(
            names,
            np.ascontiguousarray(c_feed[np.ix_(i, cols)]),
            flux[i],
            part,
            offset[np.ix_(i, cols)],
            thick,
            temperature[i[0]],
            rtol,
        )
        through[np.ix_(i, range(flux.shape[1]), cols)] = got
        wall[np.ix_(i, range(flux.shape[1]), cols)] = at_wall
    return through, wall


def _alike(c_feed, film, temperature):
    "Places of problems with the same ions, a film or none, and one temperature; columns of their ions."
    present = c_feed > 0
    rows = np.column_stack([present, film > 0, np.round(temperature, 6)])
    key = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    for k in range(key.max() + 1):
        i = np.flatnonzero(key == k)
        yield i, np.flatnonzero(present[i[0]])


def solve(
    ions: tuple[str, ...],
    problem: dict,  # c_feed, offset (n, ion); r_pore, thickness, eps_pore, charge, film, flux, temperature (n,)
    rtol: float = 1e-3,
) -> np.ndarray:  # Passage (n, ion)
    "Passages of a table of problems, one flux each."
    through, _ = passages(
        ions,
        problem["c_feed"],
        problem["flux"][:, None],
        problem,
        problem["offset"],
        problem["film"],
        problem["temperature"],
        rtol,
    )
    return through[:, 0]


def solve_back(
    ions: tuple[str, ...],
    problem: dict,  # As for `solve`
    cotangent,  # Passages (n, ion) -> derivative of a number by each of them
    rtol: float = 1e-3,
) -> tuple[np.ndarray, dict]:  # Passages; derivatives of that number by INPUTS (n,) and offset (n, ion)
    "Passages of a table of problems, and the slope of a number that depends on them; 0 where there is no solution."
    from ion_ode.dspmde.solve import simulate

    c_feed, film, T = (problem[k] for k in ("c_feed", "film", "temperature"))
    through, kept = np.ones(c_feed.shape), []
    leaf = lambda v: torch.from_numpy(np.ascontiguousarray(v, dtype=float)).requires_grad_()
    for i, cols in _alike(c_feed, film, T):
        at = {k: leaf(problem[k][i]) for k in INPUTS} | {ions[c]: leaf(problem["offset"][i, c]) for c in cols}
        names, c = tuple(ions[k] for k in cols), torch.from_numpy(c_feed[np.ix_(i, cols)])
        eps = eps_pore_at(at["eps_pore"], float(T[i[0]]))
        membrane = Membrane(at["r_pore"], at["thickness"], at["charge"], eps, ln_partition={n: at[n] for n in names})
        front = Film(thickness=at["film"]) if film[i[0]] > 0 else None
        s = simulate(
            c, at["flux"][:, None], membrane, ions=names, film=front, temperature=float(T[i[0]]), rtol=rtol, throw=False
        )
        out = s.c_perm[:, 0] / c
        through[np.ix_(i, cols)] = out.detach().numpy()
        kept.append((i, cols, at, torch.nan_to_num(out), torch.isfinite(out).all(1)))
    wanted, slope = cotangent(through), {k: np.zeros(len(c_feed)) for k in INPUTS}
    slope["offset"] = np.zeros(c_feed.shape)
    for i, cols, at, out, solved in kept:
        seed = torch.from_numpy(wanted[np.ix_(i, cols)]) * solved[:, None]
        found = torch.autograd.grad(out, list(at.values()), seed, allow_unused=True, materialize_grads=True)
        found = dict(zip(at, (np.nan_to_num(f.numpy()) for f in found), strict=True))
        for k in INPUTS:
            slope[k][i] = found[k]
        for c in cols:
            slope["offset"][i, c] = found[ions[c]]
    return through, slope

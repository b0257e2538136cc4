"""The pore model as a posterior asks for it: arrays in, passages out, absent ions left away

The permittivity of a pore is that at 25 °C and follows the temperature of the measurement."""

from collections.abc import Callable

import numpy as np

from ion_ode.dspmde.arrays import permeates, permeates_back
from ion_ode.dspmde.conditions import eps_pore_at
from ion_ode.dspmde.entry import HINDRANCE, born_energy, partition_steric
from ion_ode.dspmde.feed import feed_array, flux_array
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.water.ions import ion_arrays

__all__ = ["batches", "passages", "solve", "solve_back"]

_INPUTS = ("r_pore", "thickness", "eps_pore", "charge", "film", "flux")  # Of a problem, beside the offsets of its ions
_MOVE = 1e-5  # Of a pore radius, for the slopes of what it hinders, relative


def batches(ions, p: dict, flux):
    "Places of problems with the same ions, a film or none, and one temperature; columns of their ions; the problems."
    present, (_, warm) = p["c_feed"] > 0, np.unique(np.round(p["temperature"], 6), return_inverse=True)
    (names, c_feed), flux = feed_array(p["c_feed"], ions), flux_array(flux, len(flux))
    key = (present @ (1 << np.arange(len(ions))) * 2 + (p["film"] > 0)) * (warm.max() + 1) + warm
    for k in np.unique(key):
        i = np.flatnonzero(key == k)
        cols = np.flatnonzero(present[i[0]])
        T, film = float(p["temperature"][i[0]]), Film(thickness=p["film"][i]) if p["film"][i[0]] > 0 else None
        offset = {names[c]: p["offset"][i, c] for c in cols}
        eps = eps_pore_at(p["eps_pore"][i], T)
        membrane = Membrane(p["r_pore"][i], p["thickness"][i], p["charge"][i], eps, ln_partition=offset)
        yield i, cols, (tuple(names[c] for c in cols), c_feed[np.ix_(i, cols)], flux[i], membrane, film, T)


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
    own = {"c_feed": c_feed, "offset": offset, "film": film, "temperature": temperature}
    for i, cols, batch in batches(ions, {k: membrane[k] for k in _INPUTS[:4]} | own, flux):
        at = np.ix_(i, range(flux.shape[1]), cols)
        c_perm, wall[at] = permeates(*batch, rtol)
        through[at] = c_perm / batch[1][:, None]
    return through, wall


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


def _by_inputs(names, flux, membrane: Membrane, film, T: float, by: dict) -> dict:
    "Slopes by the inputs of problems (n,), from those by their coefficients (ion, n)."
    ions, radius = ion_arrays(names, lib=np), membrane.r_pore
    z, r_s = ions.z[:, None], ions.r_stokes[:, None]

    def held_back(r):  # ln of what a radius decides
        lam = np.minimum(r_s / r, 1 - 1e-9)  # a wider ion has no solution
        return np.log(np.stack([partition_steric(lam), *HINDRANCE["dechadilok_deen"](lam)]))

    ends = held_back(radius * (1 + _MOVE)) - held_back(radius * (1 - _MOVE))
    along = ends[0] * by["entry"] + ends[1] * by["K_conv"] - ends[2] * by["peclet"]
    warmer = eps_pore_at(1.0, T) - eps_pore_at(0.0, T)  # what a permittivity at 25 °C makes of that at T
    born = born_energy(z, r_s, membrane.eps_pore, np.inf, T) / membrane.eps_pore
    carried = by["peclet"].sum(0)
    out = {"r_pore": along.sum(0) / (2 * _MOVE * radius), "eps_pore": warmer * (born * by["entry"]).sum(0)}
    out |= {"thickness": carried / membrane.thickness, "charge": by["charge"], "flux": carried / flux[:, 0]}
    if film is not None:
        before = by["film"].sum(0)
        out |= {"film": before / film.thickness, "flux": (carried + before) / flux[:, 0]}
    return out


def solve_back(
    ions: tuple[str, ...],
    problem: dict,  # As for `solve`
    rtol: float = 1e-3,
) -> tuple[np.ndarray, Callable]:  # Passages (n, ion); slopes by these -> those by a problem (n,) and offset (n, ion)
    "Passages of a table of problems, and what carries slopes by them back; 0 where there is no solution."
    through, kept = np.ones(problem["c_feed"].shape), []
    for i, cols, batch in batches(ions, problem, problem["flux"][:, None]):
        c_perm, back = permeates_back(*batch, rtol)
        through[np.ix_(i, cols)] = c_perm / batch[1]
        kept.append((i, cols, batch, back))

    def slopes(seed):  # (n, ion)
        out = {k: np.zeros(len(through)) for k in _INPUTS} | {"offset": np.zeros(through.shape)}
        for i, cols, (names, _, *of), back in kept:
            at = np.ix_(i, cols)
            by = back(np.nan_to_num(seed[at] * through[at]))
            for k, v in _by_inputs(names, *of, by).items():
                out[k][i] = np.nan_to_num(v)
            out["offset"][at] = np.nan_to_num(by["entry"].T)
        return out

    return through, slopes

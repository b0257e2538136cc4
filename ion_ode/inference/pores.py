"""The pore model as a posterior asks for it: arrays in, passages out, absent ions left away"""

import numpy as np
import torch

from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.solve import simulate

__all__ = ["passages", "solve"]


def _batch(ions, c_feed, flux, p, offset, film, temperature, rtol):
    "Passage and wall concentration of feeds that hold all of `ions`."
    t = lambda v: torch.from_numpy(np.ascontiguousarray(v, dtype=float))
    membrane = Membrane(
        t(p["r_pore"]),
        t(p["thickness"]),
        t(p["charge"]),
        t(p["eps_pore"]),
        ln_partition={i: t(offset[:, k]) for k, i in enumerate(ions)},
    )
    front = None if film is None else Film(thickness=t(film))
    with torch.no_grad():
        s = simulate(
            t(c_feed), t(flux), membrane, ions=ions, film=front, temperature=float(temperature), rtol=rtol, throw=False
        )
    return (s.c_perm / s.c_feed[:, None]).numpy(), s.c_wall.numpy()


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
    present = c_feed > 0
    key = _kinds(np.column_stack([present, film > 0, np.round(temperature, 6)]))
    through, wall = np.ones((*flux.shape, len(ions))), np.zeros((*flux.shape, len(ions)))
    for k in range(key.max() + 1):
        i = np.flatnonzero(key == k)
        cols = np.flatnonzero(present[i[0]])
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


def _kinds(rows: np.ndarray) -> np.ndarray:
    "Number of each row's kind."
    return np.unique(rows, axis=0, return_inverse=True)[1].ravel()


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

"""The pore model for arrays: NumPy in, certified permeates out, without torch"""

import os
import sys
from collections.abc import Callable

import numpy as np

from ion_ode.core import T_REF, InputError
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.problem import transport_problem, unit_transport

__all__ = ["permeates", "permeates_back"]

_AT_ONCE = 65536  # Problems in memory at a time


def _threads() -> int:
    "As many as torch takes where it is loaded; otherwise as OpenMP is told, or one a core."
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def _one_each(c_feed: np.ndarray, flux: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Feeds (batch, ion) and their fluxes (batch, n_flux), where one of them is one row."
    batch = max(len(c_feed), len(flux))
    if {len(c_feed), len(flux)} - {1, batch}:
        raise InputError(f"{len(c_feed)} feeds and {len(flux)} rows of fluxes arrived; give one row a feed, or one")
    return tuple(np.broadcast_to(np.asarray(v, float), (batch, np.shape(v)[1])) for v in (c_feed, flux))


def permeates(
    names: tuple[str, ...],  # Canonical ion names
    c_feed: np.ndarray,  # Neutral feeds (batch, ion), every ion present [mol/m³]
    flux: np.ndarray,  # Water flux (batch, n_flux) [m/s]
    membrane: Membrane,  # Its fields numbers or arrays (batch,)
    film: Film | None = None,  # None or Film(thickness=...)
    temperature: float = T_REF,  # $T$ [K]
    rtol: float = 1e-6,  # Relative accuracy of c_perm against the continuous model
) -> tuple[np.ndarray, np.ndarray]:  # c_perm and c_wall (batch, n_flux, ion) [mol/m³]; nan without a solution
    "Solve DSPM-DE with ideal solutions by the compiled kernel; what `simulate` gives for tensors."
    from ion_ode.dspmde.kernel import packed, solve_all  # here: importing Numba takes a while
    from ion_ode.dspmde.kernel_newton import REFINED

    c_feed, flux = _one_each(c_feed, flux)
    parts, step = [], max(1, _AT_ONCE // flux.shape[1])
    z, q, own, form = packed(unit_transport(names, c_feed, membrane, film, temperature=temperature)[0])
    for k in range(0, len(flux), step):
        J = flux[k : k + step]
        found = solve_all(z, q[..., k : k + step], own[:, k : k + step], form, J, rtol, None, _threads())
        shape = len(z), len(J), -1
        solved = (found["code"] <= REFINED).reshape(shape[1:])
        each = (v.reshape(shape) for v in (np.exp(found["u"][: len(z)]), found["c_wall"]))
        parts.append([np.where(solved, v, np.nan) for v in each])
    grid = lambda v: np.moveaxis(np.concatenate(v, 1), 0, -1)
    return tuple(grid(v) for v in zip(*parts, strict=True))


def permeates_back(
    names: tuple[str, ...],  # As for `permeates`, one flux a feed
    c_feed: np.ndarray,
    flux: np.ndarray,  # (batch, 1) [m/s]
    membrane: Membrane,
    film: Film | None = None,
    temperature: float = T_REF,
    rtol: float = 1e-6,
) -> tuple[np.ndarray, Callable]:  # c_perm (batch, ion); slopes by every ln c_perm -> those of `Pull.back` (..., batch)
    "Permeates, and what carries slopes by them back to the coefficients of the equations; 0 without a solution."
    from ion_ode.dspmde.kernel import packed, solve_all
    from ion_ode.dspmde.kernel_newton import REFINED
    from ion_ode.dspmde.pull import Pull

    z, q, own, form = packed(transport_problem(names, c_feed, flux, membrane, film, temperature=temperature)[0])
    found = solve_all(z, q, own, form, None, rtol, None, _threads())
    solved = found["code"] <= REFINED
    pull = Pull(z, q[..., solved], own[:, solved], form, {k: v[..., solved] for k, v in found.items()})

    def back(seed):  # (batch, ion)
        out = {}
        for k, v in pull.back(seed[solved].T).items():
            out[k] = np.zeros((*v.shape[:-1], len(solved)))
            out[k][..., solved] = v
        return out

    return np.where(solved, np.exp(found["u"][: len(z)]), np.nan).T, back

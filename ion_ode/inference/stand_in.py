"""Many feeds at once: a network, and the certified solver wherever it is not good enough

A few membranes of the sample are asked of the certified solver in every question, and of the network as well: they say
how wide the interval is and how far off the network is here. Where that is more than a tenth of the interval, of any
ion at any flux, the solver answers for all membranes. Elsewhere it answers for those membranes for which the network
doubts itself by as much, and the network for the rest. A neutral solute is not among what the network was taught."""

from dataclasses import dataclass

import numpy as np

from ion_ode.core import InputError
from ion_ode.dspmde.conditions import eps_pore_at
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.problem import transport_problem
from ion_ode.inference.network import NEAR, load_network, passed
from ion_ode.inference.pores import batches, solve
from ion_ode.water.ions import get_ion

__all__ = ["PART", "SOLVERS", "Shortcut", "by_network", "shortcut", "solve_near"]

SOLVERS = ("exact", "network")
PART = 0.1  # Of the interval that a network may be off
_NEAR_ENOUGH = 0.01  # Of ln(1.05 - R), where a measurement errs by a tenth
_MANY = 0.3  # Part of a curve from which the solver walks it whole: its states cost less together
_SLOW = 1e-5  # Flux at which coefficients are made [m/s]; those that depend on it grow with it
_CHECKED = 8  # Membranes that the certified solver is asked in every question


def _passed(
    names: tuple[str, ...],
    c_feed: np.ndarray,  # (row, ion) [mol/m³]
    flux: np.ndarray,  # (row, flux) [m/s]
    charge: np.ndarray,  # (row,) [mol/m³]
    pore: Membrane,  # One number a membrane, as of the next
    film: Film | None,
    temperature: float,  # [K]
    of: np.ndarray | slice = slice(None),  # Which membrane a row has
) -> tuple[np.ndarray, np.ndarray]:  # As of `by_network`
    "What the network makes of rows; coefficients are made once a membrane."
    alone = np.ones((len(pore.r_pore), len(names)))
    q, _ = transport_problem(names, alone, np.full((len(alone), 1), _SLOW), pore, film, temperature=temperature)
    planes, faster = np.zeros((5, len(names), *flux.shape), np.float32), flux / _SLOW
    planes[0] = c_feed.T[..., None]
    grows = (q.ln_entry, 1), (q.peclet, faster), (q.K_conv, 1), (q.film_peclet, faster)
    for k, (v, by) in enumerate(grows, 1):
        if v is not None:
            np.multiply(v.astype(np.float32)[:, of, None], by, out=planes[k], casting="same_kind")
    flat = planes.reshape(5, len(names), -1)
    through, off = passed(load_network()[0], q.z[:, 0], flat, np.repeat(charge, flux.shape[1]))
    grid = lambda v, absent: np.where(planes[0] > 0, v.reshape(planes[0].shape), absent).transpose(1, 2, 0)
    return grid(through, 1.0), grid(off, 0.0)


def by_network(
    names: tuple[str, ...],
    problem: tuple,  # c_feed (row, ion), membrane, offset, film, temperature of `Answer`, one row a membrane and feed
    flux: np.ndarray,  # (row, flux) [m/s]
    of: np.ndarray | None = None,  # Which membrane a row has (row,): one number, one membrane; None: each its own
) -> tuple[np.ndarray, np.ndarray]:  # Permeate over feed and how far off it may be, (row, flux, ion); 1 where absent
    "Passages of a table of problems by the network that ships."
    of = np.arange(len(flux)) if of is None else of
    _, first, of = np.unique(of, return_index=True, return_inverse=True)
    _, membrane, offset, film, T = _taken(problem, first)
    pore = Membrane(
        *(membrane[k] for k in ("r_pore", "thickness", "charge")),
        eps_pore_at(membrane["eps_pore"], float(T[0])),
        ln_partition={i: offset[:, k] for k, i in enumerate(names)},
    )
    return _passed(names, problem[0], flux, problem[1]["charge"], pore, Film(thickness=film), float(T[0]), of)


def solve_near(
    ions: tuple[str, ...],
    problem: dict,  # As of `pores.solve`, one flux each
    rtol: float = 1e-3,
) -> np.ndarray:  # Passage (n, ion)
    "As `pores.solve`, by the network where what it may be off is a tenth of what a measurement is."
    through, doubt = np.ones(problem["c_feed"].shape), np.zeros(len(problem["flux"]))
    for i, cols, batch in batches(ions, problem, problem["flux"][:, None]):
        names, c_feed, flux, pore, film, T = batch
        if not all(get_ion(k).z for k in names):
            doubt[i] = np.inf
            continue
        found, off = _passed(names, c_feed, flux, pore.charge_density, pore, film, T)
        through[np.ix_(i, cols)] = found[:, 0]
        doubt[i] = (off / (found + NEAR)).max((1, 2))
    more = ~(doubt <= _NEAR_ENOUGH)
    if more.any():
        through[more] = solve(ions, {k: v[more] for k, v in problem.items()}, rtol)
    return through


def _taken(problem, at):
    "Some rows of a table of problems."
    c_feed, membrane, *rest = problem
    return c_feed[at], {k: v[at] for k, v in membrane.items()}, *(v[at] for v in rest)


@dataclass
class Shortcut:
    "How rejections of a sample of membranes are asked, and how much of that the certified solver answered."

    exact: object  # (names, problem, flux, rtol) -> passages and concentrations at the membrane, certified
    asked: int = 0
    certified: int = 0

    def rejections(
        self,
        model,  # `Answer`
        names: tuple[str, ...],
        c: np.ndarray,  # (sample, ion) [mol/m³]
        flux: np.ndarray,  # (sample, flux) [m/s]
        by_pressure: bool,
        kind: str,  # This and the next three as of `Answer.predict`
        film: float | None,
        temperature: float,
        pH,
        level: float,  # Of the interval
    ) -> tuple[np.ndarray, np.ndarray]:  # Flux (membrane, sample, flux), rejection (.., ion)
        "What every membrane says, by network or solver."
        n, (s, points) = len(model), flux.shape
        z = np.array([get_ion(i).z for i in names], float)
        problem = model._problem(names, c, kind, film, temperature, pH)
        J, through = np.broadcast_to(flux, (n, s, points)), np.ones((n, s, points, len(names)))
        few = np.zeros((n, s), bool)
        few[held := model.places(_CHECKED)] = True
        self._guess(names, problem, J, few, through, z)
        guess = through[held]
        self._ask(names, problem, J, np.broadcast_to(few[..., None], J.shape), through)
        allowed = PART * self._width(model.thinned(_CHECKED), names, c, J[held], 1 - through[held], level)
        wrong = ~(np.sqrt(((guess - through[held]) ** 2).mean(0)) <= allowed).all(2)
        wrong |= (c[:, z == 0] > 0).any(1)[:, None]
        off = self._guess(names, problem, J, ~few & ~wrong.all(1), through, z)
        more = ~few[..., None] & (wrong | ~(off <= allowed).all(3))
        self._ask(names, problem, J, more, through)
        self.asked, self.certified = self.asked + J.size, self.certified + int(few.sum() * points + more.sum())
        return J, np.where((c > 0)[:, None], 1 - through, np.nan)

    @property
    def share(self) -> float:
        "Part of the states, one a membrane, feed and flux, that the network answered."
        return 1 - self.certified / max(self.asked, 1)

    def _guess(self, names, problem, J, rows, through, z):
        "The network's passages for some membranes and samples; how far off each may be (membrane, sample, flux, ion)."
        off, ions = np.zeros(through.shape), np.flatnonzero(z)
        if ions.size and (at := np.flatnonzero(rows)).size:
            c, membrane, offset, *rest = _taken(problem, at)
            part = c[:, ions], membrane, offset[:, ions], *rest
            found = by_network(tuple(names[k] for k in ions), part, J[rows], at // J.shape[1])
            for whole, v in zip((through, off), found, strict=True):
                whole.reshape(-1, *whole.shape[2:])[np.ix_(at, np.arange(J.shape[2]), ions)] = v
        return off

    def _ask(self, names, problem, J, states, through):
        "The certified solver for some states (membrane, sample, flux): whole curves where it is many of a curve."
        flat, flux, out = (v.reshape(-1, *v.shape[2:]) for v in (states, J, through))
        whole = flat.mean(1) > _MANY
        if (at := np.flatnonzero(whole)).size:
            found = self.exact(names, _taken(problem, at), flux[at], 1e-4)[0]
            out[at] = np.where(flat[at][..., None], found, out[at])
        at, k = np.nonzero(flat & ~whole[:, None])
        if at.size:
            out[at, k] = self.exact(names, _taken(problem, at), flux[at, k][:, None], 1e-4)[0][:, 0]

    def _width(self, few, names, c, J, R, level):
        "Width of the interval (sample, flux, ion) as a few membranes see it; none that is absent."
        R = np.where((c > 0)[:, None], R, np.nan)
        R, errors = few._told(names, c, J, R)
        low, high = few.interval(R, errors, level)
        return np.where((c > 0)[:, None], high - low, np.inf)


def shortcut(
    solver: str,  # One of SOLVERS
    exact,  # As of `Shortcut`
    members: int,  # Membranes of the sample
    by_pressure: bool,
) -> Shortcut | None:  # None: the certified solver for all
    "How to ask, checked."
    if solver not in SOLVERS:
        raise InputError(f"solver is {solver!r}, expected one of {', '.join(map(repr, SOLVERS))}")
    if solver == "network" and by_pressure:
        raise InputError("solver='network' answers at a flux; give flux=... in m/s, or take solver='exact'")
    return Shortcut(exact) if solver == "network" and members > 4 * _CHECKED else None

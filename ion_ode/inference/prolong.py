"""A run goes on until what it is for is known well enough

A posterior is drawn to predict the feeds that are asked of it. Each of its membranes is a chain; the error of the mean
prediction is the spread of the chains' means over the square root of their number, which sees how slowly a chain
forgets (Flegal, Haran and Jones 2008, 10.1214/08-STS257). Only feeds and fluxes are asked about, no measured value
takes part. What a chain forgets last, where few values hold them, are the shifts of charge and the partitioning of one
ion: moves of these alone need the pore model at the feeds that hold the ion only, and are made often."""

import numpy as np

from ion_ode.inference.laws import GLOBALS
from ion_ode.inference.pores import solve
from ion_ode.inference.population import _LAWS_TRIED, Population, _moved, _Walk
from ion_ode.inference.states import LOCALS, States, forward, of_rows

__all__ = ["prolonged", "spokesmen"]

_BINDING = {  # ions: their numbers, which leave feeds without these ions as they are
    ("Mg+2", "Ca+2"): ("shift Mg+2", "ln Mg+2", "shift Ca+2", "near Ca+2"),
    ("SO4-2",): ("shift SO4-2", "ln SO4-2"),
}
_TRIED = 12  # Moves of one ion's numbers between two trajectories
_EVERY = 2  # Moves from one writing down to the next
_STEP = 0.25  # Of the first trajectory


def _said(asked: States, x: np.ndarray, prior) -> np.ndarray:  # (member, value)
    "What membranes without effects of a coupon predict of feeds and fluxes; measured values are not read."
    none = (len(x), len(asked.laboratories), len(LOCALS)), (len(x), len(asked.coupons))
    return of_rows(asked, forward(asked, x, *map(np.zeros, none), solve, prior)[0]).clip(-2, 1)


def spokesmen(
    population: Population,
    n: int,
    asked: States,  # Feeds and fluxes it is for
    tries: int = 1500,
) -> np.ndarray:  # (n,) places
    "Members whose predictions have the mean and the spread of all: taken evenly, then exchanged while it helps."
    R = _said(asked, population.x, population.prior)
    R = np.where(np.isfinite(R), R, np.nanmean(R, 0))
    far = ((R - R.mean(0)) / (R.std(0) + 1e-9)).clip(-4, 4)
    told = np.concatenate([far, 0.5 * far**2], 1)
    told = (told - told.mean(0)) * np.tile(R.std(0), 2)
    at, rng = np.linspace(0, len(R) - 1, n).round().astype(int), np.random.default_rng(0)
    off = told[at].sum(0)
    for _ in range(tries):
        k, new = rng.integers(n), np.setdiff1d(rng.integers(0, len(R), 32), at)
        trial = off - told[at[k]] + told[new]
        size = (trial**2).sum(1)
        if len(new) and size.min() < (off**2).sum():
            at[k], off = new[size.argmin()], trial[size.argmin()]
    return np.sort(at)


def _error_of_means(
    said: np.ndarray,  # Predictions of a run (time, chain, value)
) -> float:
    "Standard error of the mean prediction of the membrane, root mean square over the values asked about."
    return float(np.sqrt(np.nanmean(np.nanvar(np.nanmean(said, 0), 0, ddof=1)) / said.shape[1]))


class _Part:
    "The rows whose feeds hold some ions, and where their laboratories, coupons and curves stand among all."

    def __init__(self, whole: States, rows: np.ndarray, numbers):
        self.s, self.numbers = whole.some(rows), [GLOBALS.index(k) for k in numbers]
        place = lambda k: [getattr(whole, k).index(v) for v in getattr(self.s, k)]
        self.labs, self.coupons = place("laboratories"), place("coupons")
        self.curves = np.unique(whole.curve[rows])


def _move_of(w: _Walk, part: _Part) -> float:
    "Differential evolution of the numbers of an ion; the feeds without it are not asked again."
    n, rng, own = len(w.x), w.rng, part.numbers
    a, b = w.partners()
    some = rng.random((n, len(own))) < 0.6
    some[np.arange(n), rng.integers(0, len(own), n)] = True
    gamma = 2.38 / np.sqrt(2 * some.sum(1))[:, None] * rng.choice([0.3, 0.7, 1.0], (n, 1))
    x = w.x.copy()
    x[:, own] += some * (gamma * (w.x[a] - w.x[b])[:, own] + 0.02 * rng.standard_normal(some.shape))
    like = w.look(x, w.lab[:, part.labs], w.coupon[:, part.coupons], part.s)
    gain = (like - w.like[:, part.curves]).sum(1) - 0.5 * ((x**2).sum(1) - (w.x**2).sum(1))
    yes = np.log(rng.random(n)) < gain
    w.x[yes] = x[yes]
    w.like[np.ix_(yes, part.curves)] = like[yes]
    return yes.mean()


def _parts(states: States) -> list[_Part]:
    "The rows of all feeds that hold an ion which binds."
    out = []
    for ions, numbers in _BINDING.items():
        holds = (states.c_feed[:, [k for k, i in enumerate(states.ions) if i in ions]] > 0).any(1)
        held = holds[states.row_problem[:, 0]]
        if held.any():
            out.append(_Part(states, held, numbers))
    return out


def prolonged(
    rows,  # What was learned from, of `answer_rows`
    population: Population,  # Of `settled`
    asked: States,  # Feeds and fluxes it is for
    chains: int,  # Members of one writing down
    *,
    error: float = 0.005,  # Of the mean prediction, to reach
    most: int = 288,  # Moves
    seed: int = 0,
) -> Population:
    "The same run carried on, and written down on the way, until its mean predictions are known to `error`."
    prior, states = population.prior, States.of(rows, population.prior)
    cut = lambda k: list(getattr(population, k).reshape(-1, chains, *getattr(population, k).shape[1:]))
    kept = {k: cut(k) for k in ("x", "lab", "coupon", "log_like")}
    start = tuple(kept[k][-1].copy() for k in ("x", "lab", "coupon"))
    w, parts, history, scale, step = None, [], list(population.history), 0.5, _STEP
    one, said = np.ones(len(states.curve_coupon)), []
    for done in range(most):
        if done % 8 == 0:
            said += [_said(asked, x, prior) for x in kept["x"][len(said) :]]
            if _error_of_means(np.stack(said)) <= error:
                break
        if w is None:
            w, parts = _Walk(states, chains, prior, np.random.default_rng(seed), start), _parts(states)
        for _ in range(_LAWS_TRIED):
            w.move_law(one)
        quick = [_move_of(w, p) for _ in range(_TRIED) for p in parts]
        scale, step, noted = _moved(w, one, 1.0, scale, step)
        history.append(noted | {"of one ion": float(np.mean(quick)) if quick else None})
        if (done + 1) % _EVERY == 0:
            for name, v in (("x", w.x), ("lab", w.lab), ("coupon", w.coupon), ("log_like", w.like)):
                kept[name].append(v.copy())
    return Population(*(np.concatenate(v) for v in kept.values()), population.log_evidence, prior, history)

"""Slopes of the posterior by every number of a membrane and its coupons

The pore model gives the derivative of the likelihood by what a problem is made of (`pores.solve_back`); how that
depends on the normal numbers is explicit and cheap, so its differences are taken forward."""

import math

import numpy as np
from scipy.special import log_ndtr

from ion_ode.inference.laws import GLOBALS, numbers_of, offset_of
from ion_ode.inference.pores import solve_back
from ion_ode.inference.states import (
    _NU,
    States,
    by_curve,
    effects_of,
    errors_of,
    film_and_flux,
    law_charge,
    log_likelihood,
    of_rows,
    problems,
    within_reach,
    y_of,
)

__all__ = ["Place"]

_STEP = 1e-4  # Of a normal number
_NO_SLOPE = ("law", "noise", "discrepancy trace", "discrepancy major")  # A choice, and what no value teaches
_OF_COUPON = ("thickness", "coupon charge", "coupon thickness")  # Numbers in what a coupon makes of its membrane
_OF_LAW = tuple(k for k in GLOBALS if k in ("charge", "exponent", "saturation") or k.startswith("shift"))


def _hazard(u):
    "Normal density over the share below."
    return np.exp(-0.5 * u * u - 0.5 * math.log(2 * math.pi) - log_ndtr(u))


def _slope_of_likelihood(s: States, R, flux, power) -> np.ndarray:  # Shaped as R (n, p, ion)
    "Derivative of the powered likelihood by the passages; what a latent flux does to the error of a value is left out."
    mu, e, own = errors_of(s, R, flux)
    sd, known = np.sqrt(own), ~s.limit
    tail = (_NU + by_curve(s, known[None].astype(float))) / (_NU + by_curve(s, e * e / own * known))
    by_mu = tail[:, s.curve] * e / own * known
    by_mu = by_mu + np.where(s.selected, _hazard((math.log(1.05) - mu) / sd) / sd, 0.0)
    by_mu = by_mu - np.where(s.limit, _hazard((y_of(np.minimum(s.rejection, 0.985)) - mu) / sd) / sd, 0.0)
    return _by_passage(s, R, by_mu * power[s.curve])


def _by_passage(s: States, R, by_mu) -> np.ndarray:  # Shaped as R (n, p, ion)
    "Derivative by the passages of what has the derivative `by_mu` (n, row) by the y of the model."
    model = of_rows(s, R)
    by_row = np.where(model < 1, -by_mu / (1.05 - np.minimum(model, 1.0)), 0.0)
    by_row, out = np.nan_to_num(by_row, posinf=0.0, neginf=0.0), np.zeros_like(R)
    for k in range(s.row_problem.shape[1]):
        np.add.at(out, (slice(None), s.row_problem[:, k], s.row_ion), by_row * s.row_weight[:, k])
    return -out


def _by_membrane(states: States, slow: dict, moved: dict, by: dict) -> np.ndarray:  # (n, GLOBALS)
    "Slopes by what all problems of a membrane share: its pore, its permittivity, its excess partitioning."
    change = sum((moved[k] - slow[k]) * by[k].sum(1) for k in ("r_pore", "eps_pore"))
    for k, (ion, z) in enumerate(zip(states.ions, states.z, strict=True)):
        more = offset_of(moved, ion, int(z)) - offset_of(slow, ion, int(z))
        change = change + more * by["offset"][..., k].sum(1)
    return change.T / _STEP


def _by_number(states: States, q: tuple, by: dict, prior) -> tuple:  # Shaped as x, lab and coupon
    "Slopes by the normal numbers of membranes and coupons, from those by what problems are made of."
    x, lab, coupon = q
    n, d = x.shape
    by = {k: v.reshape(n, len(states.flux), *v.shape[1:]) for k, v in by.items()}
    slow, moved = numbers_of(x, prior), numbers_of((x + _STEP * np.eye(d)[:, None]).reshape(-1, d), prior)
    moved = {k: v.reshape(d, n) for k, v in moved.items()}  # each number in turn
    wide = {k: v[:, None] for k, v in slow.items()}
    law, own = law_charge(states, wide), effects_of(states, wide, lab, coupon, prior)
    charge, (film, flux) = within_reach(law * own[0]), film_and_flux(states, lab, prior)

    def along(law, factor, thickness):  # change of what `by` belongs to at every problem (n, p)
        change = (within_reach(law * factor) - charge) * by["charge"] + (thickness - own[1]) * by["thickness"]
        return change / _STEP

    of_x = _by_membrane(states, slow, moved, by)
    for j, name in enumerate(GLOBALS):
        one = {k: v[j][:, None] for k, v in moved.items()}
        if name in _OF_LAW:
            of_x[:, j] += along(law_charge(states, one), *own).sum(1)
        elif name in _OF_COUPON:
            of_x[:, j] += along(law, *effects_of(states, one, lab, coupon, prior)).sum(1)
        elif name in _NO_SLOPE:
            of_x[:, j] = 0
    new_film, new_flux = film_and_flux(states, lab + _STEP, prior)
    charged, thick = np.eye(lab.shape[2])[:2] * _STEP
    of_lab = [along(law, *effects_of(states, wide, lab + v, coupon, prior)) for v in (charged, thick)]
    of_lab += [(new_film - film) * by["film"] / _STEP, (new_flux - flux) * by["flux"] / _STEP]
    of_coupon = along(law, *effects_of(states, wide, lab, coupon + _STEP, prior))
    home = np.eye(lab.shape[1])[states.laboratory]
    return of_x, np.stack([v @ home for v in of_lab], 2), of_coupon @ np.eye(coupon.shape[1])[states.coupon]


class Place:
    "Where membranes with their coupons stand, solved once: their likelihood, and slopes of what depends on it."

    def __init__(
        self,
        states: States,
        x: np.ndarray,  # (n, GLOBALS)
        lab: np.ndarray,  # (n, laboratory, LOCALS)
        coupon: np.ndarray,  # (n, coupon)
        prior,
    ):
        self.states, self.q, self.prior = states, (x, lab, coupon), prior
        problem = problems(states, *self.q, prior)
        passage, self._back = solve_back(states.ions, problem)
        self.R, self.flux = (v.reshape(len(x), len(states.flux), *v.shape[1:]) for v in (1 - passage, problem["flux"]))

    def _slopes(self, by_passage) -> tuple:
        by = self._back(by_passage.reshape(-1, by_passage.shape[2]))
        return _by_number(self.states, self.q, by, self.prior)

    def slope_of_target(
        self,
        power: np.ndarray,  # Of the likelihood of every curve (curve,)
    ) -> tuple:  # Log likelihood (n, curve); slopes of log prior + power · log likelihood, shaped as x, lab and coupon
        "Log likelihood of every curve and the slope of the powered posterior."
        slopes = self._slopes(_slope_of_likelihood(self.states, self.R, self.flux, power))
        like = log_likelihood(self.states, self.R, self.flux)
        return like, tuple(g - v for g, v in zip(slopes, self.q, strict=True))

    def information(
        self,
        power: np.ndarray,  # Of the likelihood of every curve (curve,)
        rng,
    ) -> np.ndarray:  # (all numbers, all numbers): x, lab and coupon one after the other
        "Fisher information of the measurements, its mean over the membranes: of a random sum of scaled errors each."
        s, (x, lab, _) = self.states, self.q
        _, _, own = errors_of(s, self.R, self.flux)
        by_mu = rng.standard_normal(own.shape) * (~s.limit * np.sqrt(power[s.curve])) / np.sqrt(own)
        slopes = self._slopes(_by_passage(s, self.R, by_mu))
        g = np.concatenate([v.reshape(len(x), -1) for v in slopes], 1)
        size = np.linalg.norm(g, axis=1, keepdims=True)
        g = g * np.minimum(1, np.quantile(size, 0.9) / np.maximum(size, 1e-12))
        home = np.concatenate([np.repeat(np.arange(lab.shape[1]), lab.shape[2]), s.home])  # of all but x
        shared = np.ones((g.shape[1], g.shape[1]))
        shared[x.shape[1] :, x.shape[1] :] = home[:, None] == home  # laboratories share no row
        return g.T @ g / len(x) * shared

"""Slopes of the posterior by every number of a membrane and its coupons

The pore model gives the derivative of the likelihood by what a problem is made of (`pores.solve_back`); how that
depends on the normal numbers is explicit and cheap, so its differences are taken forward."""

import math

import numpy as np
from scipy.special import log_ndtr

from ion_ode.inference.laws import GLOBALS
from ion_ode.inference.pores import INPUTS, solve_back
from ion_ode.inference.states import _NU, States, by_curve, errors_of, log_likelihood, of_rows, problems, y_of

__all__ = ["information", "slope_of_target"]

_STEP = 1e-4  # Of a normal number
_NO_SLOPE = ("law", "noise", "discrepancy trace", "discrepancy major")  # A choice, and what no value teaches


def _hazard(u):
    "Normal density over the share below."
    return np.exp(-0.5 * u * u - 0.5 * math.log(2 * math.pi) - log_ndtr(u))


def _slope_of_likelihood(s: States, passage, flux, power) -> np.ndarray:  # (n p, ion)
    "Derivative of the powered likelihood by the passages; what a latent flux does to the error of a value is left out."
    R = 1 - passage.reshape(len(flux), len(s.flux), -1)
    mu, e, own = errors_of(s, R, flux)
    sd, known = np.sqrt(own), ~s.limit
    tail = (_NU + by_curve(s, known[None].astype(float))) / (_NU + by_curve(s, e * e / own * known))
    by_mu = tail[:, s.curve] * e / own * known
    by_mu = by_mu + np.where(s.selected, _hazard((math.log(1.05) - mu) / sd) / sd, 0.0)
    by_mu = by_mu - np.where(s.limit, _hazard((y_of(np.minimum(s.rejection, 0.985)) - mu) / sd) / sd, 0.0)
    return _by_passage(s, R, by_mu * power[s.curve]).reshape(passage.shape)


def _by_passage(s: States, R, by_mu) -> np.ndarray:  # Shaped as R (n, p, ion)
    "Derivative by the passages of what has the derivative `by_mu` (n, row) by the y of the model."
    model = of_rows(s, R)
    by_row = np.where(model < 1, -by_mu / (1.05 - np.minimum(model, 1.0)), 0.0)
    by_row, out = np.nan_to_num(by_row, posinf=0.0, neginf=0.0), np.zeros_like(R)
    for k in range(s.row_problem.shape[1]):
        np.add.at(out, (slice(None), s.row_problem[:, k], s.row_ion), by_row * s.row_weight[:, k])
    return -out


def _by_number(states: States, q: tuple, base: dict, by: dict, prior) -> tuple:  # Shaped as x, lab and coupon
    "Slopes by the normal numbers of membranes and coupons, from those by what problems are made of."
    x, lab, coupon = q

    def along(*moved):  # change of what `by` belongs to at every problem (n, p)
        new = problems(states, *moved, prior)
        change = sum((new[k] - base[k]) * by[k] for k in INPUTS)
        change = change + ((new["offset"] - base["offset"]) * by["offset"]).sum(1)
        return change.reshape(len(x), -1) / _STEP

    of_x, of_lab = np.zeros_like(x), np.zeros_like(lab)
    step = lambda v, k: v + _STEP * (np.arange(v.shape[-1]) == k)
    for k in range(x.shape[1]):
        if GLOBALS[k] not in _NO_SLOPE:
            of_x[:, k] = along(step(x, k), lab, coupon).sum(1)
    for k in range(lab.shape[2]):
        of_lab[:, :, k] = along(x, step(lab, k), coupon) @ np.eye(lab.shape[1])[states.laboratory]
    of_coupon = along(x, lab, coupon + _STEP) @ np.eye(coupon.shape[1])[states.coupon]
    return of_x, of_lab, of_coupon


def slope_of_target(
    states: States,
    x: np.ndarray,  # (n, GLOBALS)
    lab: np.ndarray,  # (n, laboratory, LOCALS)
    coupon: np.ndarray,  # (n, coupon)
    power: np.ndarray,  # Of the likelihood of every curve (curve,)
    prior,
) -> tuple:  # Log likelihood (n, curve); slopes of log prior + power · log likelihood, shaped as x, lab and coupon
    "Log likelihood of every curve and the slope of the powered posterior."
    base = problems(states, x, lab, coupon, prior)
    flux = base["flux"].reshape(len(x), -1)
    passage, by = solve_back(states.ions, base, lambda v: _slope_of_likelihood(states, v, flux, power))
    like = log_likelihood(states, 1 - passage.reshape(len(x), len(states.flux), -1), flux)
    slopes = _by_number(states, (x, lab, coupon), base, by, prior)
    return like, tuple(g - v for g, v in zip(slopes, (x, lab, coupon), strict=True))


def information(
    states: States,
    x: np.ndarray,  # (n, GLOBALS)
    lab: np.ndarray,  # (n, laboratory, LOCALS)
    coupon: np.ndarray,  # (n, coupon)
    power: np.ndarray,  # Of the likelihood of every curve (curve,)
    prior,
    rng,
) -> np.ndarray:  # (all numbers, all numbers): x, lab and coupon one after the other
    "Fisher information of the measurements, its mean over the membranes: of a random sum of scaled errors a membrane."
    base = problems(states, x, lab, coupon, prior)
    flux = base["flux"].reshape(len(x), -1)
    weight = ~states.limit * np.sqrt(power[states.curve])

    def errors(passage):  # a random sum of the errors of the rows
        R = 1 - passage.reshape(len(x), len(states.flux), -1)
        _, _, own = errors_of(states, R, flux)
        by_mu = rng.standard_normal(own.shape) * weight / np.sqrt(own)
        return _by_passage(states, R, by_mu).reshape(passage.shape)

    _, by = solve_back(states.ions, base, errors)
    g = np.concatenate([v.reshape(len(x), -1) for v in _by_number(states, (x, lab, coupon), base, by, prior)], 1)
    size = np.linalg.norm(g, axis=1, keepdims=True)
    g = g * np.minimum(1, np.quantile(size, 0.9) / np.maximum(size, 1e-12))
    home = np.concatenate([np.repeat(np.arange(lab.shape[1]), lab.shape[2]), states.home])  # of all but x
    shared = np.ones((g.shape[1], g.shape[1]))
    shared[x.shape[1] :, x.shape[1] :] = home[:, None] == home  # laboratories share no row
    return g.T @ g / len(x) * shared

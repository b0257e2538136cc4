"""Tops of the posterior, found side by side by Levenberg and Marquardt's method, each law from starts of its own

Coupons do not know of each other, so one more solution tells the derivative by a number of all of them at once."""

import numpy as np
from scipy.special import ndtri

from ion_ode.inference.laws import GLOBALS, LAWS, Prior, discrepancy_of, parameters
from ion_ode.inference.states import _NU, States, faded, forward, y_of

__all__ = ["find_tops", "Tops"]

_STEP = 0.02  # Of the differences that stand for derivatives, in standard deviations of the prior
_HELD = (
    "law",
    "coupon charge",
    "coupon thickness",
    "noise",
    "discrepancy trace",
    "discrepancy major",
)  # Not searched: a top in them is none


class Tops:
    "Tops of the posterior as vectors of all numbers, with their height and precision."

    def __init__(self, states: States, theta, height, precision, law):
        self.states, self.theta, self.height, self.precision, self.law = states, theta, height, precision, law

    def split(self, theta):
        "Numbers of membranes, laboratories and coupons of whole vectors."
        g, labs = len(GLOBALS), len(self.states.laboratories)
        return theta[:, :g], theta[:, g : g + 4 * labs].reshape(len(theta), labs, 4), theta[:, g + 4 * labs :]

    def spread(self, n: int, power: float, rng):
        "n vectors about the tops, by Laplace's method at a power of the likelihood; tops 40 below the best go."
        prior = -0.5 * (self.theta**2).sum(1)
        kept = np.flatnonzero(self.height > self.height[0] - 40)
        eye = np.eye(self.theta.shape[1])
        H = power * (self.precision[kept] - eye) + eye
        log_w = power * (self.height - prior)[kept] + prior[kept] - 0.5 * np.linalg.slogdet(H)[1]
        share = np.exp(log_w - log_w.max())
        root = np.linalg.cholesky(np.linalg.inv(H))
        pick = np.searchsorted(np.cumsum(share / share.sum()), (np.arange(n) + rng.random()) / n).clip(
            max=len(kept) - 1
        )
        theta = self.theta[kept][pick] + np.einsum("nkl,nl->nk", root[pick], rng.standard_normal((n, eye.shape[0])))
        for name in _HELD:
            k = GLOBALS.index(name)
            theta[:, k] = rng.standard_normal(n)
        edges = np.concatenate([[0.0], np.cumsum(list(LAWS.values()))])
        law = self.law[kept][pick]
        theta[:, GLOBALS.index("law")] = ndtri(edges[law] + rng.uniform(0.01, 0.99, n) * (edges[law + 1] - edges[law]))
        return tuple(np.ascontiguousarray(v) for v in self.split(theta.clip(-5, 5)))


def _look(states, theta, split, solve, prior):
    "y of every row, and the fluxes."
    R, J, _ = forward(states, *split(theta), solve, None, None, prior)
    model = np.einsum("nrk,rk->nr", R[:, states.row_problem, states.row_ion[:, None]], states.row_weight)
    with np.errstate(invalid="ignore"):
        return np.log(1.05 - np.minimum(model, 1.0)), J


def _precision(states, J, theta, split, prior):
    "Inverse covariance of the rows' errors, block by block of a curve, (row, row); rows that are limits count nothing."
    p = parameters(split(theta[:1])[0], prior)
    flux = np.einsum("rk,rk->r", J[0][states.row_problem], np.abs(states.row_weight)) / np.abs(states.row_weight).sum(1)
    of_value, of_model = faded(flux)
    own = (p["noise"].iloc[0] * of_value) ** 2 + states.sd**2
    shared = discrepancy_of(p, states.row_share)[0] * of_model
    same = states.curve[:, None] == states.curve[None]
    P = np.linalg.inv(np.diag(own) + same * np.outer(shared, shared))
    P[states.limit], P[:, states.limit] = 0.0, 0.0
    return P


def find_tops(
    states: States,
    solve,  # The pore model
    n_starts: int = 24,  # Starts, spread over the laws
    steps: int = 25,
    seed: int = 0,
    prior: Prior = Prior(),
) -> Tops:  # Best first
    "Search the posterior from many membranes of the prior at once."
    rng = np.random.default_rng(seed)
    g, labs, coupons = len(GLOBALS), len(states.laboratories), len(states.coupons)
    size = g + 4 * labs + coupons
    theta = np.zeros((n_starts, size))
    theta[:, :g] = 0.8 * rng.standard_normal((n_starts, g))
    edges = np.concatenate([[0.0], np.cumsum(list(LAWS.values()))])
    law = np.arange(n_starts) % (len(LAWS) - 1) + 1
    at = GLOBALS.index
    theta[:, at("law")] = ndtri(0.5 * (edges[law] + edges[law + 1]))
    for name in _HELD[1:]:
        theta[:, at(name)] = 0.0
    free = np.array([k for k, n in enumerate(GLOBALS) if n not in _HELD])
    held = np.array([at(n) for n in _HELD])
    tops = Tops(states, theta, None, None, law)
    y, J = _look(states, theta, tops.split, solve, prior)
    P = _precision(states, J, theta, tops.split, prior)
    row_lab, row_coupon = states.curve_laboratory[states.curve], states.curve_coupon[states.curve]
    obs = y_of(states.rejection)
    groups = [np.flatnonzero(states.curve == c) for c in range(len(states.curve_coupon))]

    def value(y, theta):
        e = np.nan_to_num(obs - y, nan=3.0)
        q = np.stack([np.einsum("nr,rs,ns->n", e[:, i], P[np.ix_(i, i)], e[:, i]) for i in groups], 1)
        n = np.array([len(i) for i in groups])
        weight = (_NU + n) / (_NU + q)
        return -0.5 * ((_NU + n) * np.log1p(q / _NU)).sum(1) - 0.5 * (theta**2).sum(1), weight, e

    best, weight, e = value(y, theta)
    damping, H = np.full(n_starts, 0.1), np.tile(np.eye(size), (n_starts, 1, 1))
    gradient, fresh = np.zeros((n_starts, size)), np.ones(n_starts, bool)
    for _ in range(steps):
        i = np.flatnonzero(fresh)
        if len(i):
            H[i], gradient[i] = _derivatives(
                states, theta[i], y[i], e[i], weight[i], P, free, row_lab, row_coupon, tops.split, solve, prior
            )
        damped = H + damping[:, None, None] * np.eye(size)
        move = np.linalg.solve(damped, gradient[..., None])[..., 0]
        move[:, held] = 0.0
        trial = (theta - move * np.minimum(1.0, 1.5 / np.abs(move).max(1, keepdims=True))).clip(-4, 4)
        y_new, _ = _look(states, trial, tops.split, solve, prior)
        found, w_new, e_new = value(y_new, trial)
        fresh = found > best
        theta[fresh], best[fresh], y[fresh], weight[fresh], e[fresh] = (
            trial[fresh],
            found[fresh],
            y_new[fresh],
            w_new[fresh],
            e_new[fresh],
        )
        damping = np.clip(np.where(fresh, damping / 4, damping * 5), 1e-3, 1e4)
    order = best.argsort()[::-1]
    tops.theta, tops.height, tops.precision, tops.law = theta[order], best[order], H[order], law[order]
    return tops


def _derivatives(states, theta, y, e, weight, P, free, row_lab, row_coupon, split, solve, prior):
    "Gauss-Newton matrix and gradient of minus the logarithm of the target."
    n, size = theta.shape
    g, labs = len(split(theta)[0][0]), len(states.laboratories)
    asked = []
    for k in free:
        asked.append(theta.copy())
        asked[-1][:, k] += _STEP
    for kind in range(4):
        asked.append(theta.copy())
        asked[-1][:, g + kind : g + 4 * labs : 4] += _STEP
    asked.append(theta.copy())
    asked[-1][:, g + 4 * labs :] += _STEP
    slope = (_look(states, np.concatenate(asked), split, solve, prior)[0].reshape(len(asked), n, -1) - y) / _STEP
    slope = np.nan_to_num(slope)
    jac = np.zeros((n, y.shape[1], size))
    jac[:, :, free] = np.moveaxis(slope[: len(free)], 0, 2)
    r = np.arange(y.shape[1])
    for kind in range(4):
        jac[:, r, g + 4 * row_lab + kind] = slope[len(free) + kind]
    jac[:, r, g + 4 * labs + row_coupon] = slope[-1]
    root = np.sqrt(weight)[:, states.curve]
    weighted = jac * root[..., None]
    half = np.einsum("rs,nsk->nrk", P, weighted)
    H = np.einsum("nrk,nrl->nkl", weighted, half) + np.eye(size)
    return H, theta - np.einsum("nrk,nr->nk", half, e * root)

"""What makes two recipes alike is not known from a few membranes: kernels that they allow beside the most likely one"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import norm

from ion_ode.prequalify.process import Process

if TYPE_CHECKING:
    from ion_ode.prequalify.campaign import Campaign

_STEP = 0.05  # Of the logarithm of a number, for the slope of a covariance
_LEAST_KNOWN = 0.3  # Information on the logarithm of a number: none is drawn further than a factor of 6, 68 in 100
_FARTHEST = 3.0  # Spreads from the most likely numbers


def _numbers(process: Process) -> dict[str, tuple]:
    "Positive numbers of a process by name: lengths first, then heights and scatter; what sets each, its logarithm."
    named = [v for v in process.model.named_parameters_and_constraints() if v[2] is not None and v[1].requires_grad]
    named = sorted(named, key=lambda v: not v[0].endswith("lengthscale"))
    return {name: (p, c, c.transform(p).detach().log().numpy().ravel()) for name, p, c in named}


def _load(process: Process, ln_numbers: np.ndarray):
    "The numbers of `_numbers`, in its order, from their logarithms."
    at = 0
    for p, c, _ in _numbers(process).values():
        value = torch.tensor(np.exp(ln_numbers[at : at + p.numel()])).reshape(p.shape)
        with torch.no_grad():
            p.copy_(c.inverse_transform(value.clamp(min=1.01 * float(c.lower_bound) + 1e-9)))
        at += p.numel()


def _covariance(process: Process) -> np.ndarray:
    "Of the measurements of a process, in its own units."
    with torch.no_grad():
        k = process.model.covar_module(process.x).to_dense().numpy()
        scatter = float(process.model.likelihood.second_noise)
    return k + np.diag(scatter + np.maximum(process.variance / process.sd**2, 1e-6))


def _curvature(process: Process) -> np.ndarray:
    "Of the priors over the logarithms of a process's own numbers: Gamma(2, 2), or a lognormal's 1 over its variance."
    found = {}
    for name, module, prior, _, _ in process.model.named_priors():
        here, number = name.rsplit(".", 1)[0], name.rsplit(".", 1)[1].removesuffix("_prior")
        value = getattr(module, number).detach().numpy().ravel()
        gamma = hasattr(prior, "rate")
        found[f"{here}.raw_{number}"] = value * float(prior.rate) if gamma else np.full(value.shape, prior.scale**-2.0)
    own = [k for k in _numbers(process) if not k.endswith("lengthscale")]
    return np.concatenate([np.asarray(found[k], float) for k in own])


def information(
    processes: dict[str, Process],  # Of quantities that share their lengths
) -> np.ndarray:  # (number, number); lengths, then each quantity's own
    "Of logarithms of the numbers: of the priors, and Fisher's of the membranes (Rasmussen, Williams 2006, Eq. 5.9)."
    where, own = _where(processes), [_curvature(p) for p in processes.values()]
    n_shared = len(where[next(iter(where))]) - len(own[0])
    found = np.diag(np.concatenate([np.ones(n_shared), *own]))  # ln of a length is 0 by 1
    for m, p in processes.items():
        slopes = [p.inverse @ s for s in _slopes(p)]
        found[np.ix_(where[m], where[m])] += 0.5 * np.array([[np.sum(a * b.T) for b in slopes] for a in slopes])
    return found


def _slopes(process: Process) -> list[np.ndarray]:
    "Of the covariance of the measurements, over the logarithm of each number."
    here, found = np.concatenate([v[2] for v in _numbers(process).values()]), []
    for step in _STEP * np.eye(len(here)):
        ends = []
        for side in (1, -1):
            _load(process, here + side * step)
            ends.append(_covariance(process))
        found.append((ends[0] - ends[1]) / (2 * _STEP))
    _load(process, here)
    return found


def other_kernels(
    campaign: Campaign,  # Fitted
    names: list[str],  # Quantities that are wanted
    n: int,  # Draws
) -> list[dict[str, Process]]:
    "Processes whose numbers are drawn about the most likely ones, as far off as the membranes allow (Eq. 6.5)."
    again = lambda m: Process(campaign.encoder).fit(*campaign.parts[m], state=campaign.states[m])
    known = information({m: again(m) for m in campaign.processes})
    values, vectors = np.linalg.eigh(known)
    root = vectors / np.sqrt(np.maximum(values, _LEAST_KNOWN))
    u = torch.quasirandom.SobolEngine(len(known), scramble=True, seed=campaign.seed).draw(n).double().numpy()
    steps = np.clip(norm.ppf(u), -_FARTHEST, _FARTHEST) @ root.T
    found, where = [{} for _ in steps], _where(campaign.processes)
    for m in names:
        for step, made in zip(steps, found, strict=True):
            made[m] = again(m)
            here = np.concatenate([v[2] for v in _numbers(made[m]).values()])
            _load(made[m], here + step[where[m]])
            made[m]._solve()
    return found


def _where(processes: dict[str, Process]) -> dict[str, np.ndarray]:
    "Where the numbers of each quantity stand among all: the lengths that they share, then its own."
    sizes = {m: [(k.endswith("lengthscale"), len(v[2])) for k, v in _numbers(p).items()] for m, p in processes.items()}
    shared = sum(n for length, n in next(iter(sizes.values())) if length)
    own = np.cumsum([shared, *(sum(n for length, n in s if not length) for s in sizes.values())])
    return {m: np.r_[:shared, a:b] for m, a, b in zip(sizes, own[:-1], own[1:], strict=True)}

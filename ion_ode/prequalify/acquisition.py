"""Expected hypervolume of recipes beside those under way (Eq. 6.2), by BoTorch"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import logsumexp

from ion_ode.core import need
from ion_ode.prequalify.other_kernels import other_kernels
from ion_ode.prequalify.quantities import reference_point

if TYPE_CHECKING:
    from ion_ode.prequalify.campaign import Campaign
    from ion_ode.prequalify.process import Process


_N_SAMPLES = 32  # Quasi-random draws behind an expected hypervolume, with each kernel
_N_KERNELS = 4  # Beside the most likely one

_NOTHING = 1e-12  # Of the hypervolume of those under way


def _ln_volume(acquisition, x: torch.Tensor, under_way: torch.Tensor) -> np.ndarray:  # (n,)
    "Of those under way and each recipe; these come first, so that their draws are the same beside every recipe."
    sets = torch.cat([under_way.expand(len(x), *under_way.shape), x[:, None]], 1)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jitter on a diagonal
        return acquisition(sets).numpy()


def _ln_difference(a: np.ndarray, b: float) -> np.ndarray:
    "ln(exp(a) - exp(b)); far down, and still in the order of a, where nothing is left."
    if b == -np.inf:
        return a
    more = np.expm1(a - b)
    return b + np.where(more > _NOTHING, np.log(np.maximum(more, _NOTHING)), np.log(_NOTHING) + np.minimum(a - b, 0.0))


def _acquisitions(campaign: Campaign) -> list:
    "One with the most likely kernel, one with each of the others that the membranes allow (Eq. 6.5)."
    others = other_kernels(campaign, sorted({m for w in campaign.weights for m in w}), _N_KERNELS)
    return [_acquisition(campaign, fitted, k) for k, fitted in enumerate((campaign.processes, *others))]


def _mean_ln_volume(acquisitions: list, x: torch.Tensor, under_way: torch.Tensor) -> np.ndarray:  # (n,)
    "As `_ln_volume`, the expectation also over the kernels."
    return logsumexp([_ln_volume(a, x, under_way) for a in acquisitions], axis=0) - np.log(len(acquisitions))


def _acquisition(campaign: Campaign, fitted: dict[str, Process], draws: int = 0):
    "Expected hypervolume of BoTorch over the processes of the objectives; of one objective, expected improvement."
    names = sorted({m for w in campaign.weights for m in w})
    processes = [fitted[m] for m in names]
    tensor = lambda rows: torch.tensor(rows, dtype=torch.float64)
    weights = tensor([[w.get(m, 0.0) * p.sd for m, p in zip(names, processes, strict=True)] for w in campaign.weights])
    shift = tensor([sum(v * campaign.processes[m].mean for m, v in w.items()) for w in campaign.weights])
    made, errors = campaign.as_made(fitted), campaign.left_out_errors(fitted)
    front = torch.tensor(np.stack([sum(made[m] * v for m, v in w.items()) for w in campaign.weights], 1))
    wide, alike = campaign.missed_by(names, errors), campaign.correlation(names, errors)
    sampler = _correlated_sampler(alike, wide, campaign.seed + draws)
    model = _membranes(processes)
    if len(weights) == 1:
        scalar = need("botorch.acquisition.objective", "campaign").GenericMCObjective
        one = scalar(lambda s, X=None: (s @ weights.T + shift)[..., 0])
        improvement = need("botorch.acquisition.logei", "campaign").qLogExpectedImprovement
        return improvement(model, best_f=front.max(), sampler=sampler, objective=one)
    acq = need("botorch.acquisition.multi_objective.logei", "campaign")
    acq._load_attempted = True  # else BoTorch compiles C++ for half a minute to save a tenth of a second
    boxes = need("botorch.utils.multi_objective.box_decompositions", "campaign").FastNondominatedPartitioning
    generic = need("botorch.acquisition.multi_objective.objective", "campaign").GenericMCMultiOutputObjective
    reference = torch.tensor(reference_point(front.numpy(), campaign.weights))
    return acq.qLogExpectedHypervolumeImprovement(
        model,
        reference,
        boxes(reference, front),
        sampler=sampler,
        objective=generic(lambda s, X=None: s @ weights.T + shift),
    )


def _membranes(processes: list[Process]):
    "The processes as one model whose draws are membranes: each has a scatter of its own beyond the recipe."
    ModelListGP = need("botorch.models", "campaign").ModelListGP
    half = torch.tensor([0.5 * p.scatter for p in processes], dtype=torch.float64)  # a second noise is added twice

    class Membranes(ModelListGP):
        def posterior(self, X, *args, **kw):
            return super().posterior(X, observation_noise=half.expand(*X.shape[:-1], -1))

    return Membranes(*(p.model for p in processes))


def _correlated_sampler(correlation: np.ndarray, widening: np.ndarray, seed: int):
    "Quasi-random normal draws whose outputs are as wide and as correlated as the errors were."
    Sobol = need("botorch.sampling.normal", "campaign").SobolQMCNormalSampler
    root = torch.tensor(widening[:, None] * np.linalg.cholesky(correlation))

    class Correlated(Sobol):
        def _construct_base_samples(self, posterior):
            known = self.base_samples
            super()._construct_base_samples(posterior)
            if self.base_samples is not known:  # drawn anew: once, not at every call
                by = root.to(self.base_samples)  # draws of one output carry no axis for it
                self.base_samples = self.base_samples * by[0, 0] if len(by) == 1 else self.base_samples @ by.T

    return Correlated(torch.Size([_N_SAMPLES]), seed=seed)

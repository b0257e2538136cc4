"""Which recipes a campaign makes next, by expected hypervolume, and the reason for each (Eq. C.2)"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm

from ion_ode.core import need
from ion_ode.prequalify.monomers import label
from ion_ode.prequalify.quantities import reference_point

if TYPE_CHECKING:
    from ion_ode.prequalify.campaign import Campaign

_N_SAMPLES = 64  # Quasi-random draws behind an expected hypervolume
_N_CHANCE = 2000  # Draws behind a chance to lie beyond the front


def choose(
    campaign: Campaign,  # Fitted
    pool: pd.DataFrame,  # Recipes to choose from
    cost: np.ndarray,  # Cost of each, a membrane itself costs 1
    n: int,  # Size of the batch
) -> tuple[list[int], list[float]]:  # Rows of the pool; ln of the hypervolume each is expected to add, by cost
    "Greedy batch; each next one counts the earlier and the pending as under way."
    acquisition = _acquisition(campaign)
    x = campaign.encoder(pool)
    pending = campaign.pending
    waiting = [] if pending is None or pending.empty else [campaign.encoder(pending)]
    chosen, gain = [], []
    for _ in range(n):
        under_way = [*waiting, *([x[chosen]] if chosen else [])]
        acquisition.set_X_pending(torch.cat(under_way) if under_way else None)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # jitter on a diagonal
            value = torch.cat([acquisition(part[:, None]) for part in x.split(256)]).numpy() - np.log(cost)
        value[chosen] = -np.inf
        chosen.append(int(value.argmax()))
        gain.append(float(value.max()))
    return chosen, gain


def _acquisition(campaign: Campaign):
    "Expected hypervolume of BoTorch over the processes of the objectives."
    acq = need("botorch.acquisition.multi_objective.logei", "campaign")
    acq._load_attempted = True  # else BoTorch compiles C++ for half a minute to save a tenth of a second
    boxes = need("botorch.utils.multi_objective.box_decompositions", "campaign").FastNondominatedPartitioning
    generic = need("botorch.acquisition.multi_objective.objective", "campaign").GenericMCMultiOutputObjective
    names = sorted({m for w in campaign.weights for m in w})
    processes = [campaign.processes[m] for m in names]
    tensor = lambda rows: torch.tensor(rows, dtype=torch.float64)
    weights = tensor([[w.get(m, 0.0) * p.sd for m, p in zip(names, processes, strict=True)] for w in campaign.weights])
    shift = tensor([sum(v * campaign.processes[m].mean for m, v in w.items()) for w in campaign.weights])
    made = campaign.moments(campaign.table)[0]
    front = torch.tensor(np.stack([sum(made[m] * v for m, v in w.items()) for w in campaign.weights], 1))
    reference = torch.tensor(reference_point(front.numpy(), campaign.weights))
    models = need("botorch.models", "campaign").ModelListGP(*(p.model for p in processes))
    sampler = _correlated_sampler(campaign.correlation(names), campaign.seed)
    if len(weights) == 1:  # the volume above the best one is the improvement
        one = need("botorch.acquisition.objective", "campaign").GenericMCObjective
        better = need("botorch.acquisition.logei", "campaign").qLogExpectedImprovement
        return better(models, front.max(), sampler, one(lambda s, X=None: (s @ weights.T + shift)[..., 0]))
    return acq.qLogExpectedHypervolumeImprovement(
        models,
        reference,
        boxes(reference, front),
        sampler=sampler,
        objective=generic(lambda s, X=None: s @ weights.T + shift),
    )


def _correlated_sampler(correlation: np.ndarray, seed: int):
    "Quasi-random normal draws whose outputs are correlated as the errors were."
    Sobol = need("botorch.sampling.normal", "campaign").SobolQMCNormalSampler

    class Correlated(Sobol):
        def _construct_base_samples(self, posterior):
            super()._construct_base_samples(posterior)
            root = torch.linalg.cholesky(torch.tensor(correlation)).to(self.base_samples)
            self.base_samples = self.base_samples @ root.T

    return Correlated(torch.Size([_N_SAMPLES]), seed=seed)


def explain_batch(
    campaign: Campaign,  # Fitted
    d: pd.DataFrame,  # Recipes
) -> pd.DataFrame:  # chance, nearest, reason
    "Chance to lie beyond the front, the nearest membrane made, and a reason in words."
    front, c = campaign.front().to_numpy(), campaign.correlation(list(campaign.processes))
    mean, spread = campaign.moments(d)
    names = list(campaign.processes)
    z = np.random.default_rng(campaign.seed).multivariate_normal(np.zeros(len(c)), c, _N_CHANCE)
    widen = np.array([campaign.half_width(m, 0.9) / norm.ppf(0.95) for m in names])
    inputs = lambda t: campaign.encoder(t).numpy()[:, : len(campaign.encoder.names)]
    seen, here = inputs(campaign.table), inputs(d)
    beaten = lambda p: (front[None] >= p[:, None]).all(-1).any(-1)
    rows = []
    for i in range(len(d)):
        draw = mean.iloc[i].to_numpy() + spread.iloc[i].to_numpy() * widen * z
        point = np.stack([sum(v * draw[:, names.index(m)] for m, v in w.items()) for w in campaign.weights], 1)
        centre = np.array([sum(v * mean[m].iloc[i] for m, v in w.items()) for w in campaign.weights])
        away = np.linalg.norm(seen - here[i], axis=1) if here.shape[1] else np.zeros(len(seen))
        near = campaign.table.iloc[int(away.argmin())]
        if beaten(centre[None])[0]:
            why = _uncertain(campaign, spread.iloc[i])
        else:
            over = campaign.objectives[int((centre - front.mean(0)).argmax())]
            why = f"expected beyond the front, by {over} most"
        rows.append((np.mean(~beaten(point)), near["name"], f"{why}; {_change(campaign, near, d.iloc[i])}"))
    return pd.DataFrame(rows, columns=["chance", "nearest", "reason"], index=d.index)


def _uncertain(campaign: Campaign, spread: pd.Series) -> str:
    "What is known least, among what the objectives ask."
    wide = max((m for w in campaign.weights for m in w), key=lambda m: spread[m] / max(campaign.processes[m].sd, 1e-9))
    return f"uncertain: {wide} is known to a factor of {np.exp(spread[wide]):.1f} only"


def _change(campaign: Campaign, near: pd.Series, recipe: pd.Series) -> str:
    "What a recipe changes about a membrane that was made."
    said = lambda v: label(v) if v else "not stated"
    columns = [c.name for c in campaign.schema.columns]
    changes = [f"{b} {said(near[b])} -> {said(recipe[b])}" for b in columns if near[b] != recipe[b]]
    return f"as {near['name']} with {', '.join(changes)}"

"""Which recipes a campaign makes next, by expected hypervolume, and the reason for each (Eq. 6.2)"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from ion_ode.core import progress
from ion_ode.prequalify.acquisition import _acquisitions, _ln_difference, _mean_ln_volume
from ion_ode.prequalify.monomers import label

if TYPE_CHECKING:
    from ion_ode.prequalify.campaign import Campaign

_AT_ONCE = 128  # Recipes valued at once
_TIE = 1e-6  # Share of a gain below which two recipes are equal: the first is taken, whatever the order of sums
_N_CHANCE = 2000  # Draws behind a chance to lie beyond the front


def choose(
    campaign: Campaign,  # Fitted
    pool: pd.DataFrame,  # Recipes to choose from
    cost: np.ndarray,  # Cost of each, a membrane itself costs 1
    n: int,  # Size of the batch
) -> tuple[list[int], list[float]]:  # Rows of the pool; ln of the hypervolume each is expected to add, by cost
    "Greedy batch by gain over cost, the others counted as under way; lazy as in Minoux 1978, 10.1007/BFb0006528."
    acquisitions, x, pending = _acquisitions(campaign), campaign.encoder(pool), campaign.pending
    waiting = x[:0] if pending is None or pending.empty else campaign.encoder(pending)
    every = np.array_split(np.arange(len(pool)), -(-len(pool) // _AT_ONCE))
    alone = np.concatenate([_mean_ln_volume(acquisitions, x[part], x[:0]) for part in every])
    bound, idle = alone - np.log(cost), [int(alone.argmin())]  # what is under way never adds to the gain of another
    chosen, gain = [], []
    for _ in progress(range(n), "membranes chosen", delay=2):
        under_way = torch.cat([waiting, x[chosen]])
        value = bound.copy()
        if len(under_way):
            base = _mean_ln_volume(acquisitions, x[idle], under_way)[0]
            volume = partial(_mean_ln_volume, acquisitions, under_way=under_way)
            value = _beside(lambda i, volume=volume: volume(x[i]), base, bound, np.log(cost))
        value[chosen] = -np.inf
        chosen.append(int(np.argmax(value >= value.max() - _TIE)))
        gain.append(float(value.max()))
        bound = np.where(np.isfinite(value), value, bound)
        bound[chosen] = -np.inf
    return chosen, gain


def _beside(ln_volume, base: float, bound: np.ndarray, ln_cost: np.ndarray) -> np.ndarray:  # ln of gain over cost
    "Of recipes beside those under way, in the order of their bounds until none left can be the best."
    value, order = np.full(len(bound), -np.inf), np.argsort(-bound, kind="stable")
    for part in np.split(order, range(_AT_ONCE, len(order), _AT_ONCE)):
        if value.max() - 2 * _TIE >= bound[part[0]]:
            break
        value[part] = _ln_difference(ln_volume(part), base) - ln_cost[part]
    return value


def explain_batch(
    campaign: Campaign,  # Fitted
    d: pd.DataFrame,  # Recipes
) -> pd.DataFrame:  # chance, nearest, reason
    "Chance to lie beyond the front, the nearest membrane made, and a reason in words."
    front, c = campaign.front().to_numpy(), campaign.correlation(list(campaign.processes))
    mean, spread = campaign.moments(d)
    names = list(campaign.processes)
    z = np.random.default_rng(campaign.seed).multivariate_normal(np.zeros(len(c)), c, _N_CHANCE)
    widen = np.array([campaign.widening(m) for m in names])
    seen, here = _columns_of(campaign, campaign.table), _columns_of(campaign, d)
    beaten = lambda p: (front[None] >= p[:, None]).all(-1).any(-1)
    rows = []
    for i in range(len(d)):
        draw = mean.iloc[i].to_numpy() + spread.iloc[i].to_numpy() * widen * z
        point = np.stack([sum(v * draw[:, names.index(m)] for m, v in w.items()) for w in campaign.weights], 1)
        centre = np.array([sum(v * mean[m].iloc[i] for m, v in w.items()) for w in campaign.weights])
        away = np.hypot(np.linalg.norm(seen[0] - here[0][i], axis=1), np.sqrt((seen[1] != here[1][i]).sum(1)))
        near = campaign.table.iloc[int(away.argmin())]
        if beaten(centre[None])[0]:
            why = _uncertain(campaign, spread.iloc[i])
        else:
            over = campaign.objectives[int((centre - front.mean(0)).argmax())]
            why = f"expected beyond the front, by {over} most"
        rows.append((np.mean(~beaten(point)), near["name"], f"{why}; {_change(campaign, near, d.iloc[i])}"))
    return pd.DataFrame(rows, columns=["chance", "nearest", "reason"], index=d.index)


def _columns_of(campaign: Campaign, d: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    "Numbers of recipes between 0 and 1, and their words: a word that differs is as far as a whole range."
    words = [c.name for c in campaign.schema.columns if c.kind != "number"]
    return campaign.encoder(d).numpy()[:, : len(campaign.encoder.names)], d[words].to_numpy()


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

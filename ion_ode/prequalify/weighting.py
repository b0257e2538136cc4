"""Folds of whole laboratories, quantiles of weighted rows"""

import numpy as np
import pandas as pd


def group_folds(
    groups,  # (n,) labels that stay together
    n: int,  # Folds
    seed: int = 0,
) -> list[np.ndarray]:  # (n,) True where a row is left out
    "Folds that never split a group."
    groups = np.asarray(groups).astype(str)
    names = np.random.default_rng(seed).permutation(pd.unique(pd.Series(groups)))
    return [np.isin(groups, part) for part in np.array_split(names, min(n, len(names)))]


def weighted_quantile(
    ratio: np.ndarray,  # (m,) errors over their spreads, of membranes left out
    level: float,  # Coverage wanted
    weight: np.ndarray | None = None,  # (m,) how much each tells about the case at hand; None: all alike
) -> float:  # Times the spread is the half width
    "Conformal half width with weights (Eq. 6.6); infinite where too few tell about the case."
    weight = np.ones(len(ratio)) if weight is None else np.asarray(weight, float)
    order = np.argsort(ratio)
    share = np.cumsum(weight[order]) / (weight.sum() + 1.0)
    at = np.searchsorted(share, level)
    return float(ratio[order][at]) if at < len(ratio) else np.inf

"""What chapter 06 scores: errors of held-out membranes, and how far a campaign has come."""

import numpy as np
import pandas as pd

from ion_ode.core import need


def score_held_out(
    d: pd.DataFrame,  # Columns y, p [ln], and lower, upper where the model gives an interval
) -> pd.Series:  # r, rmse, coverage, n
    "Correlation, error and coverage of held-out predictions (Eq. 6.1)."
    ok = d.y.notna() & d.p.notna()
    y, p = d.y[ok], d.p[ok]
    r = float(np.corrcoef(y, p)[0, 1]) if len(y) > 2 and y.std() > 0 and p.std() > 1e-9 else np.nan
    inside = (d.lower <= d.y) & (d.y <= d.upper) if "lower" in d and d.lower.notna().any() else pd.Series(dtype=bool)
    return pd.Series(
        {
            "r": r,
            "rmse": float(np.sqrt(((y - p) ** 2).mean())),
            "coverage": inside[ok].mean() if len(inside) else np.nan,
            "n": len(y),
        }
    )


def hypervolume(
    points: np.ndarray,  # (n, objective) more is better
    reference: np.ndarray,  # (objective,) the corner that counts as nothing
) -> float:
    "Volume of what lies between the reference and the front (Eq. 6.2)."
    import torch

    points = np.asarray(points, float)
    points = points[(points > reference).all(1)]
    if len(points) == 0:
        return 0.0
    best = need("botorch.utils.multi_objective.pareto", "campaign").is_non_dominated(torch.tensor(points))
    volume = need("botorch.utils.multi_objective.hypervolume", "campaign").Hypervolume(torch.tensor(reference))
    return volume.compute(torch.tensor(points)[best])


def made_until(
    points: np.ndarray,  # (n, objective) of all membranes
    order,  # Rows in the order in which they were made
    share: float = 0.95,  # Of the hypervolume of all
) -> int:  # How many membranes it took; len(order) + 1 if never
    "Membranes until a share of the final hypervolume is reached."
    reference = points.min(0) - 0.1 * (points.max(0) - points.min(0))
    goal = share * hypervolume(points, reference)
    low, high = 1, len(order) + 1  # the hypervolume never falls, so halve
    while low < high:
        middle = (low + high) // 2
        if hypervolume(points[list(order[:middle])], reference) >= goal:
            high = middle
        else:
            low = middle + 1
    return low

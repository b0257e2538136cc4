"""What attention is worth: whether seeds agree, whether it follows charge and size, whether it foretells a removal"""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from ion_ode.water.ions import IONS, get_ion

__all__ = ["audit"]


def _agreement(
    x: np.ndarray,  # (target, rater)
) -> float:
    """Intraclass correlation ICC(3,1): how far raters agree on targets beyond their own levels (Shrout and Fleiss
    1979, 10.1037/0033-2909.86.2.420)."""
    n, k = x.shape
    rest = x - x.mean(1, keepdims=True) - x.mean(0) + x.mean()
    between, error = k * x.mean(1).var(ddof=1), (rest**2).sum() / ((n - 1) * (k - 1))
    return float((between - error) / (between + (k - 1) * error))


def audit(
    attention: pd.DataFrame,  # From `attention_tables`
    removal: pd.DataFrame,  # From `attention_tables`
    n_shuffles: int = 2000,  # Orders of the ions' names in the null
) -> (
    pd.DataFrame
):  # network, ICC over seeds, Spearman's rho with |dz|, |dr_s| and with the change of Cl- on removal, each with its p
    "What attention is worth, in numbers."
    rng, rows = np.random.default_rng(0), []
    ions = list(IONS)
    off = ~np.eye(len(ions), dtype=bool)
    value = {
        "|Δz|": np.array([get_ion(i).z for i in ions], float),
        "|Δr_s|": np.array([get_ion(i).r_stokes for i in ions]),
    }
    for network, g in attention.groupby("network", sort=False):
        grids = np.stack(
            [
                s.pivot(index="asking", columns="answering", values="weight").loc[ions, ions].to_numpy()
                for _, s in g.groupby("seed")
            ]
        )
        row = {
            "network": network,
            "seeds": len(grids),
            "ICC": _agreement(grids[:, off].T) if len(grids) > 1 else np.nan,
        }
        for name, v in value.items():
            rho = lambda order, v=v, grids=grids: spearmanr(
                grids.mean(0)[off], np.abs(v[order][:, None] - v[order])[off]
            )[0]
            seen, null = (
                rho(np.arange(len(ions))),
                np.array([rho(rng.permutation(len(ions))) for _ in range(n_shuffles)]),
            )
            row |= {f"rho {name}": seen, f"p {name}": float((np.abs(null) >= abs(seen)).mean())}
        r = removal[removal.network == network].groupby("feed")[["score", "change", "change_pore"]].mean().dropna()
        for name in ("change", "change_pore"):
            rho, p = spearmanr(r.score, r[name])
            row |= {f"rho {name}": rho, f"p {name}": p}
        rows.append(row)
    return pd.DataFrame(rows)

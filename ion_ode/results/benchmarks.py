"""The benchmarks, compositions and laboratories held out of real measurements and mixtures of a synthetic set"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ion_ode.dspmde.film import FILM_THICKNESS
from ion_ode.results.baselines import feed_equivalents
from ion_ode.results.protocol import PROTOCOL, scored_rows
from ion_ode.results.twin import Truth, load_twin
from ion_ode.store import digest


@dataclass(frozen=True)
class Benchmark:
    "Measurements, what is held out of them, and what their laboratory says."

    name: str  # Key of BENCHMARKS
    folds: tuple[str, ...]  # Compositions or sources held out one by one
    film: float  # Film in front of observed rejections [m]
    sd_floor: float | None  # As in `measurement_sd`
    data_kind: str  # Said on every figure
    unit: str  # Column whose values are scored one by one, every value alike
    split: str | None = None  # Split of the protocol whose entrants stand beside the networks
    thin: int = 1  # Membranes are inferred from every so many-th flux of a feed


_COMPOSITIONS, _SOURCES = (names for _, names in PROTOCOL.splits)
_REAL = "measured (NF270, open literature)"
BENCHMARKS = {
    "nf270": Benchmark("nf270", _COMPOSITIONS, FILM_THICKNESS, None, _REAL, "composition", "compositions"),
    "sources": Benchmark("sources", _SOURCES, FILM_THICKNESS, None, _REAL, "source_id", "sources"),
    "twin": Benchmark(
        "twin",
        ("T1", "T2", "T3", "T4", "T5"),
        Truth().film_thickness,
        0.0,
        "synthetic (twin)",
        "solution_id",
        thin=2,
    ),
}


def held_rows(
    df: pd.DataFrame,  # Of `contest_rows`
    held,  # Compositions and sources, any number
) -> np.ndarray:  # (row,) bool
    "Rows of a composition with all its sources, or of a source with all its compositions."
    return (df.composition.isin(held) | df.source_id.isin(held)).to_numpy(copy=True)


def twin_folds() -> pd.Series:  # Fold by mixture
    "Whole mixtures dealt into five folds in the order of a hash of their names."
    names = sorted(set(load_twin().solution_id), key=lambda m: digest(m.encode()))
    folds = BENCHMARKS["twin"].folds
    return pd.Series(
        [folds[k % 5] for k in range(len(names))], pd.Index(names, name="mixture"), name="fold"
    ).sort_index()


def contest_rows(
    benchmark: str = "nf270",  # Key of BENCHMARKS
) -> pd.DataFrame:  # Measurements; `composition` and `source_id` are what folds hold out
    "The rows that are trained on and scored: on the real sets those of the protocol."
    if benchmark == "twin":
        d = load_twin()
        return d.assign(composition=d.solution_id.map(twin_folds()))
    return scored_rows()


def score(
    # Rows of held-out measurements: fold, rejection, predicted, weight, c_feed_mol_m3, solution_id, ion
    pred: pd.DataFrame,
    by: tuple[str, ...] = ("fold",),  # Columns to score by
) -> pd.DataFrame:  # mse_R, mse_h, within_10, n (independent values)
    "Weighted mean squares of R and of h, and the share within 0.1 of the measured rejection (Eq. K.1)."
    charge = pred.solution_id.map(feed_equivalents(pred).sum(axis=1))
    miss = pred.predicted - pred.rejection
    d = pred.assign(
        mse_R=miss**2,
        mse_h=(miss * pred.c_feed_mol_m3 / charge) ** 2,
        within_10=(miss.abs() <= 0.1).astype(float),
        n=1.0,
    )
    for c in ("mse_R", "mse_h", "within_10", "n"):
        d[c] *= d.weight
    total = d.groupby(list(by), sort=False)[["mse_R", "mse_h", "within_10", "n"]].sum()
    return total.div(total.n, axis=0).assign(n=total.n).reset_index()

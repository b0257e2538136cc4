"""The two benchmarks, real and synthetic, and the score"""

from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from ion_ode.data.nf270 import MIXTURES, independent_rows
from ion_ode.dspmde.film import FILM_THICKNESS
from ion_ode.results.baselines import feed_equivalents
from ion_ode.results.twin import Truth, load_twin
from ion_ode.store import digest


@dataclass(frozen=True)
class Benchmark:
    "Measurements, what is held out of them, and what their laboratory says."

    name: str  # Key of BENCHMARKS
    folds: tuple[str, ...]  # Compositions held out one by one
    film: float  # Film in front of observed rejections [m]
    sd_floor: float | None  # As in `measurement_sd`
    data_kind: str  # Said on every figure
    pairs: bool  # Whether networks are also trained without pairs, to choose the number of steps
    thin: int = (
        1  # Membranes are inferred from every so many-th flux of a feed; they need fewer values than networks
    )

    @property
    def held_out(self) -> list[tuple[str, ...]]:
        "Compositions kept from a network: none, one and, to choose by, two."
        return [(), *[(g,) for g in self.folds], *(combinations(self.folds, 2) if self.pairs else ())]


BENCHMARKS = {
    "nf270": Benchmark("nf270", MIXTURES, FILM_THICKNESS, None, "measured (NF270, open literature)", True),
    "twin": Benchmark(
        "twin", ("T1", "T2", "T3", "T4", "T5"), Truth().film_thickness, 0.0, "synthetic (twin)", False, 2
    ),
}


def twin_folds() -> pd.Series:  # Fold by mixture
    "Whole mixtures dealt into five folds in the order of a hash of their names."
    names = sorted(set(load_twin().solution_id), key=lambda m: digest(m.encode()))
    folds = BENCHMARKS["twin"].folds
    return pd.Series(
        [folds[k % 5] for k in range(len(names))], pd.Index(names, name="mixture"), name="fold"
    ).sort_index()


def contest_rows(
    benchmark: str = "nf270",  # Key of BENCHMARKS
) -> pd.DataFrame:  # Measurements; `composition` is what a fold holds out
    "The rows that are trained on and scored."
    if benchmark == "twin":
        d = load_twin()
        return d.assign(composition=d.solution_id.map(twin_folds()))
    d = independent_rows()
    return d[d.composition.isin(MIXTURES)]


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

"""The two benchmarks, real and synthetic, and the score"""

from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from ion_ode.core import InputError
from ion_ode.data.nf270 import MIXTURES, independent_rows
from ion_ode.dspmde.film import FILM_THICKNESS
from ion_ode.inference.rows import answer_feeds
from ion_ode.results.twin import Truth, load_twin
from ion_ode.store import digest
from ion_ode.water.ions import get_ion


@dataclass(frozen=True)
class Benchmark:
    "Measurements, what is held out of them, and what their laboratory says."

    name: str  # Key of BENCHMARKS
    folds: tuple[str, ...]  # Compositions held out one by one
    film: float  # Film in front of observed rejections [m]
    sd_floor: float | None  # As in `measurement_sd`
    data_kind: str  # Said on every figure
    pairs: bool  # Whether networks are also trained without pairs, to choose the number of steps
    thin: int = 1  # Membranes are inferred from every so many-th flux of a feed; they need fewer values than networks

    @property
    def held_out(self) -> list[tuple[str, ...]]:
        "Compositions kept from a network: none, one and, to choose by, two."
        return [(), *[(g,) for g in self.folds], *(combinations(self.folds, 2) if self.pairs else ())]


BENCHMARKS = {
    "nf270": Benchmark("nf270", MIXTURES, FILM_THICKNESS, None, "measured (NF270, open literature)", True),
    "twin": Benchmark("twin", ("T1", "T2", "T3", "T4", "T5"), Truth().film_thickness, 0.0, "synthetic (twin)", False, 2),
}


def twin_folds() -> pd.Series:  # Fold by mixture
    "Whole mixtures dealt into five folds in the order of a hash of their names."
    names = sorted(set(load_twin().solution_id), key=lambda m: digest(m.encode()))
    folds = BENCHMARKS["twin"].folds
    return pd.Series([folds[k % 5] for k in range(len(names))], pd.Index(names, name="mixture"), name="fold").sort_index()


def contest_rows(
    benchmark: str = "nf270",  # Key of BENCHMARKS
) -> pd.DataFrame:  # Measurements; `composition` is what a fold holds out
    "The rows that are trained on and scored."
    if benchmark == "twin":
        d = load_twin()
        return d.assign(composition=d.solution_id.map(twin_folds()))
    d = independent_rows()
    return d[d.composition.isin(MIXTURES)]


def feed_equivalents(
    df: pd.DataFrame,  # Measurements with columns solution_id, ion, c_feed_mol_m3
) -> pd.DataFrame:  # One row a feed, one column a charged ion [mol/m³ of charge]
    "Charge equivalents of every feed, unmeasured ions included where the feed's list is known."
    known = answer_feeds()
    own = df[~df.solution_id.isin(known.solution_id)]
    s = pd.concat([known[known.solution_id.isin(df.solution_id)], own])[["solution_id", "ion", "c_feed_mol_m3"]].drop_duplicates(["solution_id", "ion"])
    z = s.ion.map({i: _valence(i) for i in s.ion.unique()})
    return s.assign(eq=s.c_feed_mol_m3 * z.abs())[z != 0].pivot_table(index="solution_id", columns="ion", values="eq", aggfunc="sum", fill_value=0.0)


def _valence(name: str) -> int:
    try:
        return get_ion(name).z
    except InputError:
        return 0


def score(
    pred: pd.DataFrame,  # Rows of held-out measurements: fold, rejection, predicted, weight, c_feed_mol_m3, solution_id, ion
    by: tuple[str, ...] = ("fold",),  # Columns to score by
) -> pd.DataFrame:  # mse_R, mse_h, within_10, n (independent values)
    "Weighted mean squares of R and of h, and the share within 0.1 of the measured rejection (Eq. K.1)."
    charge = pred.solution_id.map(feed_equivalents(pred).sum(axis=1))
    miss = pred.predicted - pred.rejection
    d = pred.assign(mse_R=miss**2, mse_h=(miss * pred.c_feed_mol_m3 / charge) ** 2, within_10=(miss.abs() <= 0.1).astype(float), n=1.0)
    for c in ("mse_R", "mse_h", "within_10", "n"):
        d[c] *= d.weight
    total = d.groupby(list(by), sort=False)[["mse_R", "mse_h", "within_10", "n"]].sum()
    return total.div(total.n, axis=0).assign(n=total.n).reset_index()

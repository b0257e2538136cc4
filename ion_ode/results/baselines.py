"""What anybody could answer without a model: a constant, the mean of an ion, the nearest composition"""

import numpy as np
import pandas as pd

from ion_ode.core import InputError
from ion_ode.inference.rows import answer_feeds
from ion_ode.water.ions import get_ion

__all__ = ["feed_equivalents", "predict_constant", "predict_ion_mean", "predict_nearest"]


def feed_equivalents(
    df: pd.DataFrame,  # Measurements with columns solution_id, ion, c_feed_mol_m3
) -> pd.DataFrame:  # One row a feed, one column a charged ion [mol/m³ of charge]
    "Charge equivalents of every feed, unmeasured ions included where the feed's list is known."
    known = answer_feeds()
    own = df[~df.solution_id.isin(known.solution_id)]
    s = pd.concat([known[known.solution_id.isin(df.solution_id)], own])[
        ["solution_id", "ion", "c_feed_mol_m3"]
    ].drop_duplicates(["solution_id", "ion"])
    z = s.ion.map({i: _valence(i) for i in s.ion.unique()})
    return s.assign(eq=s.c_feed_mol_m3 * z.abs())[z != 0].pivot_table(
        index="solution_id", columns="ion", values="eq", aggfunc="sum", fill_value=0.0
    )


def _valence(name: str) -> int:
    try:
        return get_ion(name).z
    except InputError:
        return 0


def predict_constant(
    train: pd.DataFrame,  # Rows to learn from
    test: pd.DataFrame,  # Rows to predict
) -> np.ndarray:  # (row,) rejection
    "The weighted mean of all training values."
    return np.full(len(test), np.average(train.rejection, weights=train.weight))


def predict_ion_mean(
    train: pd.DataFrame,  # Rows to learn from
    test: pd.DataFrame,  # Rows to predict
) -> np.ndarray:  # (row,) rejection
    "The weighted mean of the same ion; of the ions of its sign, else of all, where it was never measured."
    mean = lambda d: np.average(d.rejection, weights=d.weight)
    own = {i: mean(g) for i, g in train.groupby("ion")}
    sign = {s: mean(g) for s, g in train.groupby(np.sign(train.z))}
    return np.array([own.get(i, sign.get(np.sign(z), mean(train))) for i, z in zip(test.ion, test.z, strict=True)])


def predict_nearest(
    train: pd.DataFrame,  # Rows to learn from
    test: pd.DataFrame,  # Rows to predict
) -> np.ndarray:  # (row,) rejection
    "The same ion in the nearest training composition that has it, linear in flux and held flat outside."
    x = feed_equivalents(pd.concat([train, test]))
    x = x.div(x.sum(axis=1), axis=0)
    fallback = predict_ion_mean(train, test)
    out = []
    for k, row in enumerate(test.itertuples()):
        have = train[train.ion == row.ion]
        if have.empty:
            out.append(fallback[k])
            continue
        near = (x.loc[have.solution_id.unique()] - x.loc[row.solution_id]).abs().sum(axis=1).idxmin()
        g = have[have.solution_id == near].sort_values("flux_m_s")
        out.append(np.interp(row.flux_m_s, g.flux_m_s, g.rejection))
    return np.array(out)

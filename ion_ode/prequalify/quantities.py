"""What was measured, on the logarithms that are modelled: quantities, objectives, replicates."""

import numpy as np
import pandas as pd

from ion_ode.core import InputError
from ion_ode.prequalify.monomers import plain
from ion_ode.prequalify.schema import Schema
from ion_ode.prequalify.table_headers import _number


def read_objective(
    text: str,  # "permeance", "rejection NaCl", "selectivity NaCl/MgCl2"; "min ..." for less is better
    measured,  # Names of measured columns
) -> dict[str, float]:  # Weight of each modelled logarithm, more is better
    "An objective as a sum of logarithms: ln A, -ln(1 - R), ln of a ratio of passages (Eq. 6.1)."
    name = plain(text)
    sign = -1.0 if name.lower().startswith("min ") else 1.0
    name = name[4:] if sign < 0 else name.removeprefix("max ")
    word, _, rest = name.partition(" ")
    by_key = {m.lower(): m for m in measured}
    find = lambda key: by_key.get(key.lower())
    if word.lower() == "selectivity" and rest.count("/") == 1:
        over, under = (find(f"rejection {s.strip()}") for s in rest.split("/"))
        if over and under and over != under:
            return {over: sign, under: -sign}
    elif found := find(name):
        return {found: sign if found == "permeance" else -sign}
    raise InputError(
        f"objective {text!r} cannot be read from what was measured ({', '.join(measured)}); "
        "write for instance permeance, 'rejection NaCl' or 'selectivity NaCl/MgCl2'"
    )


def default_objectives(
    measured,  # Names of measured columns
    data: pd.DataFrame,  # With these columns
) -> list[str]:
    "Permeance, and the widest selectivity of two solutes; with one solute its rejection."
    solutes = [m.removeprefix("rejection ") for m in measured if m != "permeance"]
    passage = {s: np.log1p(-data[f"rejection {s}"]).mean() for s in solutes if "PEG" not in s.upper()}
    order = sorted(passage, key=passage.get)
    second = [f"selectivity {order[-1]}/{order[0]}"] if len(order) > 1 else [f"rejection {s}" for s in order]
    return [m for m in measured if m == "permeance"] + second


def reference_point(
    points: np.ndarray,  # (n, objective) of what was made
    weights,  # Of each objective, from `read_objective`
) -> np.ndarray:  # (objective,)
    "Where an objective begins to count: selectivity 1, rejection 0, and a tenth below the worst permeance."
    points = np.asarray(points, float)
    worst = points.min(0) - 0.1 * (points.max(0) - points.min(0))
    natural = [len(w) > 1 or ("permeance" not in w and min(w.values()) < 0) for w in weights]
    return np.where(natural, np.minimum(0.0, points.max(0) - 1e-6), worst)


def modelled(
    values,  # Permeance [L m⁻² h⁻¹ bar⁻¹] or rejection [-]
    name: str,  # "permeance" or "rejection ..."
) -> np.ndarray:
    "The logarithm that is modelled: ln A, or ln(1 - R)."
    v = np.asarray(values, float)
    return np.log(v) if name == "permeance" else np.log1p(-np.where(v < 1, v, np.nan))


def measured(
    values,  # As modelled
    name: str,  # "permeance" or "rejection ..."
) -> np.ndarray:
    "Back from the logarithm."
    return np.exp(values) if name == "permeance" else -np.expm1(values)


def average_replicates(
    d: pd.DataFrame,  # Rows of the table
    schema: Schema,  # Of the table
) -> pd.DataFrame:  # One row a recipe and laboratory; measured, n, variance of the mean of what is modelled
    "Replicates of a recipe as one membrane; their scatter, pooled over recipes, is the noise."
    keys = [c.name for c in schema.columns] + [k for k in ("laboratory",) if k in d]
    marks = d[keys].copy()
    for c in schema.columns:
        if c.kind == "number":
            marks[c.name] = [_number(v) for v in d[c.name]]
    label = marks.groupby(keys, dropna=False, sort=False).ngroup()
    out = d.groupby(label, sort=False).first()
    for m in schema.measured:
        if m not in d:
            out[m], out[f"variance {m}"] = np.nan, np.nan
            continue
        y = pd.Series(modelled(d[m], m), index=d.index)
        n = d["replicates"].fillna(1.0).where(y.notna()).groupby(label).sum()
        spread, weight = y.groupby(label).var(), y.groupby(label).count() - 1
        if f"sd {m}" in d:  # a row that is itself a mean
            scale = d[m] if m == "permeance" else 1 - d[m]
            own = ((d[f"sd {m}"] / scale) ** 2).groupby(label).mean()
            spread, weight = spread.fillna(own), weight.where(weight > 0, n - 1)
        known = spread.notna() & (weight > 0)
        pooled = float(np.average(spread[known], weights=weight[known])) if known.any() else 0.0
        out[m] = measured(y.groupby(label).mean(), m)
        out[f"variance {m}"] = pooled / n.clip(lower=1)
    return out.reset_index(drop=True)


def with_interval(
    value: float,  # Any of these: nan where nothing is known
    low: float,
    high: float,  # Not finite where too few membranes tell
) -> str:
    "A prediction as a person reads it."
    if np.isnan(value):
        return ""
    ends = f"{low:.3g}, {high:.3g}" if np.isfinite([low, high]).all() else "too few to tell"
    return f"{value:.3g} [{ends}]"

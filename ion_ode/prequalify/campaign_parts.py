"""Parts of the study of campaigns: left out, by round, by paper"""

import numpy as np
import pandas as pd

from ion_ode.prequalify.campaign_peers import _YARDSTICKS, _cross_conformal, header, peers
from ion_ode.prequalify.leaks import leak_study, models
from ion_ode.prequalify.literature import Screen, part_rows
from ion_ode.prequalify.literature_rows import literature
from ion_ode.prequalify.weighting import group_folds
from ion_ode.prequalify.quantities import modelled
from ion_ode.store import asset


def held_out(folds, table: pd.DataFrame, seed: int, models: dict) -> list[pd.DataFrame]:
    "Every model on the membranes it has not seen."
    rows = []
    for fold, (train, test) in enumerate(folds):
        for name, model in models.items():
            for m, p in model(table.iloc[train], table.iloc[test], seed).items():
                y = modelled(table[header(m)].iloc[test], m)
                rows.append(
                    p.assign(
                        y=y, quantity=m, model=name, seed=seed, fold=fold, name=table["name"].iloc[test].to_numpy()
                    )
                )
    return rows


def recipes_part(seed: int) -> pd.DataFrame:
    "Whole recipes held out, five folds."
    table = pd.read_csv(asset("prequalify/deng2022.csv"))
    folds = [(np.flatnonzero(~out), np.flatnonzero(out)) for out in group_folds(table["name"], 5, seed)]
    return pd.concat(held_out(folds, table, seed, peers()))


def _round_folds(table: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    "The rounds so far, and the next."
    r = table["round"].to_numpy()
    return [(np.flatnonzero(r < k), np.flatnonzero(r == k)) for k in np.unique(r)[1:]]


def rounds_part() -> pd.DataFrame:
    "Each round predicted from the rounds before it."
    table = pd.read_csv(asset("prequalify/deng2022.csv"))
    return pd.concat(held_out(_round_folds(table), table, 0, peers()))


def papers_part() -> pd.DataFrame:
    "Whole papers held out: the shipped screen beside its yardsticks, on the same folds."
    fitted, rows = Screen().fit(), []
    for part in ("permeance", "passage"):
        d, y = part_rows(literature(), part)
        d = d.assign(salt=d["salt"] if part == "passage" else "-")
        whole = fitted.left_out[part].assign(salt=d["salt"])
        rows.append(_cross_conformal(whole).drop(columns="spread").assign(part=part, model="screen"))
        for name, model in _YARDSTICKS.items():
            p = np.empty(len(y))
            for out in group_folds(d["laboratory"], 5, 0):
                p[out] = model(d[~out].reset_index(drop=True), y[~out], d[out].reset_index(drop=True))
            rows.append(d[["name", "laboratory", "salt"]].assign(y=y, p=p, part=part, model=name))
    return pd.concat(rows, ignore_index=True).round(4)


def leaks_part(seed: int, network: bool) -> pd.DataFrame:
    "Papers held out beside random rows, on polyamides in organic solvents; the published network on papers alone."
    published = [n for n in models() if n.startswith("published")]
    if network:
        return leak_study((seed,), published, ("papers held out",))
    return leak_study((seed,), [n for n in models() if n not in published])

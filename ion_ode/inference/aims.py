"""The measures of an answer, each with its number, computed from the shipped functions and the held-out rows"""

import numpy as np
import pandas as pd

from ion_ode.core import LMH
from ion_ode.inference.rows import COMPOSITIONS, SOURCES
from ion_ode.inference.score import predicted

__all__ = ["aims"]

_TRACES = ("K+", "NH4+", "Mg+2", "Ca+2", "NO3-", "SO4-2")


def _rmse(p):
    return float(np.sqrt(((p.predicted - p.rejection) ** 2).mean()))


def _inside(p):
    return float(((p.rejection >= p.lower) & (p.rejection <= p.upper)).mean())


def _trace(model) -> float:
    "Largest change of R of 20 mol/m³ NaCl by 1e-9 to 1e-3 mol/m³ of another ion."
    ask = lambda feed: model.predict(feed, 20 * LMH, balance="Cl-").set_index("ion").rejection[["Na+", "Cl-"]]
    base = ask({"Na+": 20.0, "Cl-": 20.0})
    return max(float((ask({"Na+": 20.0, "Cl-": 20.0, i: c}) - base).abs().max()) for i in _TRACES for c in (1e-9, 1e-3))


def _width(model, feed) -> float:
    p = model.predict(feed, 20 * LMH).iloc[-1]
    return float(p.upper - p.lower)


def _of_folds(held: pd.DataFrame, table: pd.DataFrame) -> list[tuple]:
    "Measures of rows that were held out, as (what, aim, number)."
    h = {n: g for n, g in held.groupby("fold")}
    eight = lambda n: h[n][h[n].ion != "NH4+"]
    mixtures, sources = [n for n in COMPOSITIONS if n in h], [n for n in SOURCES if n in h]
    mse = lambda n: float(((eight(n).predicted - eight(n).rejection) ** 2).mean())
    cover = table.set_index("held out").coverage
    out = [
        (
            f"compositions {' '.join(mixtures)} held out: mean MSE of R, NH4+ aside",
            "≤ .04",
            np.mean([mse(n) for n in mixtures]),
        )
    ]
    out += [(f"  {n} alone", "", mse(n)) for n in mixtures]
    if "B" in h:
        na = h["B"][h["B"].ion == "Na+"]
        out += [
            ("Na+ in MgCl2, B held out: RMSE", "≤ .45", _rmse(na)),
            ("  share covered", "sign right or covered", _inside(na)),
        ]
    for name, what, aim in (
        ("ritt2020", "NaCl pH 6.5 to 7", "≤ .08"),
        ("liu2025", "KCl", "≤ .17"),
        ("wang2023", "LiCl + MgCl2", ""),
    ):
        if name in h:
            out += [(f"{what}, source held out: RMSE", aim, _rmse(h[name])), ("  coverage", "≥ .85", cover[name])]
    for n in mixtures:
        ammonium = h[n][h[n].ion == "NH4+"]
        if len(ammonium):
            out.append((f"NH4+ of {n} held out: RMSE", "≤ .20; B covered", _rmse(ammonium)))
    out += [
        ("coverage over held-out compositions", ".87 to .93", cover[mixtures].mean()),
        ("  over held-out sources", ".85 to .95", cover[sources].mean()),
    ]
    out += [
        ("  worst of either", "≥ .75", cover.min()),
        ("Winkler score, compositions held out", "≤ .55", table.set_index("held out").winkler[mixtures].mean()),
    ]
    return out


def aims(model, rows: pd.DataFrame, held: pd.DataFrame, table: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    "Every measure with what was aimed at and what came out."
    p = predicted(model, rows)
    single = p[p.source_id.isin(["liu2025", "ritt2020"])]
    out = [
        ("five mixtures, learned from: RMSE of R", "≤ .10", _rmse(p[p.composition.isin(list(COMPOSITIONS))])),
        ("KCl and NaCl, learned from: RMSE of R", "≤ .20", _rmse(single)),
    ]
    out += _of_folds(held, table)
    for r in own[own.own == 1].itertuples():
        out += [(f"{r.source} after one own state: RMSE", "≤ .08", r.rmse), ("  width", "≤ .30", r.width)]
    out += [
        ("width for SO4-2 beside Na+ at 20 L/m²/h", "≤ .05", _width(model, {"Na+": 20.0, "SO4-2": 10.0})),
        ("width for SO4-2 beside Mg+2", "≤ .05", _width(model, {"Mg+2": 10.0, "SO4-2": 10.0})),
        ("width for NaCl, 20 mol/m³ at 20 L/m²/h", "≤ .25", _width(model, {"Na+": 20.0, "Cl-": 20.0})),
        ("a trace moves R by", "≤ .001", _trace(model)),
    ]
    return pd.DataFrame(out, columns=["measure", "aim", "reached"]).round({"reached": 4})

"""The comparison on whole compositions and whole laboratories: one cell a fold, and what the cells say together"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ion_ode.data.nf270 import load_nf270
from ion_ode.inference.rows import answer_rows
from ion_ode.inference.score import scores
from ion_ode.results.entrants import answers_of, own_answers
from ion_ode.results.protocol import POSTERIOR, PROTOCOL, SECOND
from ion_ode.stats import bootstrap_interval, paired_bootstrap
from ion_ode.store import asset, digest

__all__ = ["against", "answers_digest", "board_cells", "board_scores", "collect_board", "read_board", "run_error"]

TABLES = ("board", "board_own", "board_folds")  # Answers; answers after an own state; facts of the folds


def answers_digest() -> str:
    "Digest of the shipped samples that are asked."
    return digest({name: digest(asset(f"answers/without-{name}.json").read_bytes()) for _, name in PROTOCOL.folds()})


def _cell_board(folder, spec, found, tick):
    "Answers of all entrants to one fold."
    told, facts = answers_of(spec["held"])
    own = own_answers(spec["held"], facts.pop("four")) if spec["split"] == "sources" else None
    tick(1)
    tables = {"told": told.to_dict("list")} | ({} if own is None else {"own": own.to_dict("list")})
    return {"predicted": torch.tensor(told.predicted.to_numpy())}, facts | tables


def board_cells(cell) -> list:
    "A cell for every fold; `cell` makes one of a name, a kind and a specification."
    sample = lambda name: digest(asset(f"answers/without-{name}.json").read_bytes())
    return [
        cell(f"board without {name}", "board", {"split": split, "held": name, "sample": sample(name)}, cost=1)
        for split, name in PROTOCOL.folds()
    ]


def collect_board(
    read,  # name of a cell -> its facts
) -> dict[str, pd.DataFrame]:
    "The tables that ship, out of the cells."
    told, own, facts = [], [], []
    for split, name in PROTOCOL.folds():
        r = read(f"board without {name}")
        told.append(pd.DataFrame(r["told"]).assign(split=split, fold=name))
        own += [pd.DataFrame(r["own"]).assign(fold=name)] if "own" in r else []
        sits = " ".join(r["at bounds"])
        facts.append({"split": split, "fold": name, "distinct": r["distinct"], "four at bounds": sits, "cpu_s": r["cpu_s"]})
    return dict(zip(TABLES, (pd.concat(told), pd.concat(own), pd.DataFrame(facts)), strict=True))


def read_board(folder: str | Path | None = None) -> dict[str, pd.DataFrame]:
    "The stored tables; answers with what was measured beside them."
    folder = asset("results") if folder is None else Path(folder)
    out = {n: pd.read_csv(folder / f"{n}.csv", keep_default_na=False, na_values={c: "" for c in ("lower", "upper")}) for n in TABLES}
    kept = answer_rows()[["ion", "flux_m_s", "rejection", "rejection_sd", "coupon", "composition", "source_id"]]
    return {n: t.join(kept, on="row_id") if "row_id" in t else t for n, t in out.items()}


def board_scores(
    told: pd.DataFrame,  # Of `read_board`
    by: tuple[str, ...] = ("split", "model", "fold"),
) -> pd.DataFrame:  # by, n, mse, rmse, bias, within, coverage, width, winkler (the last three where there is an interval)
    "What the answers of each entrant are worth, fold by fold."
    rows = []
    for label, g in told.groupby(list(by), sort=False):
        s = scores(g, PROTOCOL.level) | {"within": float(((g.predicted - g.rejection).abs() <= PROTOCOL.within).mean())}
        if g.lower.isna().any():
            s |= dict.fromkeys(("coverage", "width", "winkler"), np.nan)
        rows.append(dict(zip(by, label, strict=True)) | s)
    return pd.DataFrame(rows)


def standing(
    folds: pd.DataFrame,  # Of `board_scores`
    runs: pd.Series,  # Of `run_error`
) -> pd.DataFrame:  # split, model, mse, low, high (over folds), monte_carlo, rmse, within, coverage, winkler
    "Means over folds, every fold alike, with their 90 % interval over folds."
    rows = []
    for (split, model), g in folds.groupby(["split", "model"], sort=False):
        low, high = bootstrap_interval(g.mse)
        mean = g[["mse", "rmse", "within", "coverage", "width", "winkler"]].mean().to_dict()
        mc = runs[split] if model in (POSTERIOR, SECOND) else 0.0
        rows.append({"split": split, "model": model, **mean, "low": low, "high": high, "monte_carlo": mc, "folds": len(g)})
    return pd.DataFrame(rows).sort_values(["split", "mse"], kind="stable", ignore_index=True)


def run_error(folds: pd.DataFrame) -> pd.Series:  # split -> standard error of the mean over folds
    "Monte-Carlo error of the posterior's mean square, from two independent runs a fold."
    wide = folds[folds.model.isin([POSTERIOR, SECOND])].pivot(index=["split", "fold"], columns="model", values="mse")
    apart = (wide[POSTERIOR] - wide[SECOND]) ** 2 / 2
    return np.sqrt(apart.groupby("split").sum()) / apart.groupby("split").size()


def against(folds: pd.DataFrame, split: str, a: str, b: str) -> dict:  # a, b, difference, lower, upper, verdict
    "Whether a has less error than b on the folds of a split, paired."
    of = lambda m: folds[(folds.split == split) & (folds.model == m)].set_index("fold").mse.sort_index()
    r = paired_bootstrap(of(a), of(b))
    verdict = "holds" if r["upper"] < 0 else "direction only" if r["difference"] < 0 else "does not hold"
    keep = {k: r[k] for k in ("difference", "lower", "upper")}
    return {"split": split, "a": a, "b": b, "mse a": of(a).mean(), "mse b": of(b).mean(), **keep, "verdict": verdict}


def own_scores(own: pd.DataFrame) -> pd.DataFrame:  # model, own, fold, rmse, coverage
    "Errors on the other rows of a coupon, before and after one own state."
    return board_scores(own, ("fold", "model", "own"))


def networks_beside(told: pd.DataFrame) -> pd.DataFrame:
    "Compositions only, on the rows that the stored networks were asked too: the eight ions of A to D and of foo2023's E."
    return told[(told.split == "compositions") & told.row_id.isin(load_nf270().index) & told.ion.ne("NH4+")]



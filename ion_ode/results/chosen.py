"""Which way to fine-tune, chosen inside the training folds

Networks are trained without two folds and asked for one on behalf of the other, so that the way taken for a fold
never saw it. The bar is the mean of the posterior's membranes; a network stands alone, or what fine-tuning moved in it
is added to that mean."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.cells import read_cell
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows, held_rows
from ion_ode.results.contestants import MAIN, _started
from ion_ode.results.protocol import with_feeds
from ion_ode.results.tuning import CHOICE, NONE, PUBLISHED, WAYS, recipe_of, told_many, tuned
from ion_ode.stats import paired_bootstrap
from ion_ode.training.recipe import TrainConfig
from ion_ode.training.states import with_scatter

__all__ = ["BAR", "choice_summary", "choice_table", "chosen_networks", "chosen_predictions"]

_SHARES = (0.25, 0.5, 1.0)  # Of what fine-tuning moved, added to the mean of the membranes
BAR = "membranes alone"


def _candidates(said: np.ndarray, bar: np.ndarray) -> dict:  # (way, share) -> (member, value)
    "Networks alone (share 0), and corrections of the mean of the membranes by what fine-tuning moved."
    alone = {(way, 0.0): p for way, p in zip(WAYS, said, strict=True)}
    pairs = [(way, s) for way in WAYS if way != NONE for s in _SHARES]
    return alone | {(way, s): bar + s * (alone[way, 0.0] - alone[NONE, 0.0]) for way, s in pairs}


def _fold_errors(tensors, spec, name: str) -> pd.DataFrame:  # way, share, without (sorted folds), asked, mse
    "Mean square of every candidate on every fold that its networks were not shown; the mean over seeds is scored."
    df, members = contest_rows(name), spec["members"][name]
    said, bar = (tensors[f"{name} {k}"].numpy() for k in ("predicted", "membranes"))
    measured, rows = df.rejection.to_numpy(), []
    candidates = {(BAR, 0.0): bar} | _candidates(said, bar)
    for held in dict.fromkeys(tuple(m["held"]) for m in members):
        at = [k for k, m in enumerate(members) if tuple(m["held"]) == held]
        for asked in held:
            test = held_rows(df, [asked])
            for (way, share), p in candidates.items():
                mse = float(((p[at][:, test].mean(0) - measured[test]) ** 2).mean())
                rows.append({"way": way, "share": share, "without": held, "asked": asked, "mse": mse})
    return pd.DataFrame(rows)


def _inside(errors: pd.DataFrame, held: str) -> pd.DataFrame:  # (way, share) x fold
    "Errors on which the way for a fold may be chosen: of networks that saw neither it nor the fold they are asked for."
    seen = [set(w) == {held, a} - {""} and a != held for w, a in zip(errors.without, errors.asked, strict=True)]
    return errors[seen].pivot(index=["way", "share"], columns="asked", values="mse")


def _judged(errors: pd.DataFrame, outside: pd.DataFrame | None, held: str, wide: pd.DataFrame) -> pd.DataFrame:
    "Candidates for a fold: error inside, its difference to the membranes with an interval over folds, error outside."
    bar, rows = wide.loc[(BAR, 0.0)], []
    for (way, share), e in wide.iterrows():
        pair = paired_bootstrap(e, bar)
        row = {"held": held, "way": way, "share": share, "inside": e.mean()}
        row |= {k: pair[k] for k in ("difference", "lower", "upper")}
        rows.append(row | {"outside": np.nan if outside is None else outside.loc[(way, share)]})
    d = pd.DataFrame(rows)
    alone, moved = d[(d.share == 0) & (d.way != BAR)], d[d.share > 0]
    d["taken"] = ""
    d.loc[alone.inside.idxmin(), "taken"] = "network"
    best = moved.inside.idxmin()
    d.loc[best, "taken"] = "correction" if d.upper[best] < 0 else "correction not taken"
    return d


def choice_table(
    folder,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> pd.DataFrame:  # benchmark, held ("" is nothing), way, share, inside, difference, lower, upper, outside, taken
    "What every way to fine-tune is worth inside the training folds, which is taken, and what it is worth outside."
    tensors, record = read_cell(folder, CHOICE, keys[CHOICE])
    parts, shipped = [], []
    for name in record["spec"]["members"]:
        errors = _fold_errors(tensors, record["spec"], name)
        shipped.append(_inside(errors, ""))
        parts.append(_judged(errors, None, "", shipped[-1]).assign(benchmark=name))
        for g in BENCHMARKS[name].folds:
            outside = errors[errors.without.map(lambda w, g=g: w == (g,))].set_index(["way", "share"]).mse
            parts.append(_judged(errors, outside, g, _inside(errors, g)).assign(benchmark=name))
    parts.append(_judged(None, None, "", pd.concat(shipped, axis=1)).assign(benchmark="both"))
    d = pd.concat(parts, ignore_index=True)
    return d[["benchmark", *(c for c in d if c != "benchmark")]]


def choice_summary(
    table: pd.DataFrame,  # Of `choice_table`
) -> pd.DataFrame:  # benchmark, what, mse (mean over folds held out), difference to the membranes alone, lower, upper
    "What the choice is worth where it was not made."
    rows = []
    for name, d in table[table.held != ""].groupby("benchmark", sort=False):
        of = lambda way, d=d: d[(d.way == way) & (d.share == 0)].set_index("held").outside
        bar, taken = of(BAR), d[d.taken == "correction"].set_index("held").outside
        said = {
            BAR: bar,
            "membranes, corrected where inside says so": taken.reindex(bar.index).fillna(bar),
            "network, the way chosen inside": d[d.taken == "network"].set_index("held").outside.reindex(bar.index),
            "network, fine-tuned as published": of(PUBLISHED),
            "network, no fine-tuning": of(NONE),
        }
        for what, e in said.items():
            pair = paired_bootstrap(e, bar)
            ends = {k: pair[k] for k in ("difference", "lower", "upper")}
            rows.append({"benchmark": name, "what": what, "mse": e.mean(), **ends})
    return pd.DataFrame(rows)


def _chosen_way(
    table: pd.DataFrame,  # Of `choice_table`
    benchmark: str = "both",
    held: str = "",
) -> str:  # Key of WAYS
    "The way to fine-tune that is taken where a fold is held out."
    return table.query("benchmark == @benchmark and held == @held and taken == 'network'").way.iloc[0]


def chosen_predictions(
    folder,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    table: pd.DataFrame,  # Of `choice_table`
    benchmark: str,  # Key of BENCHMARKS
) -> pd.DataFrame:  # row_id, fold, seed, rule, predicted
    "What networks say of a fold, fine-tuned the way that was chosen without it, and the way that ships."
    tensors, record = read_cell(folder, CHOICE, keys[CHOICE])
    df, rows = contest_rows(benchmark).reset_index(), []
    for k, m in enumerate(record["spec"]["members"][benchmark]):
        if len(m["held"]) == 1:
            g, test = m["held"][0], held_rows(df, m["held"])
            for rule, way in (("chosen", _chosen_way(table, benchmark, g)), ("shipped", _chosen_way(table))):
                p = tensors[f"{benchmark} predicted"][list(WAYS).index(way), k].numpy()[test]
                rows.append(df.loc[test, ["row_id"]].assign(fold=g, seed=m["seed"], rule=rule, predicted=p))
    return pd.concat(rows, ignore_index=True)


def chosen_networks(
    folder,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> tuple[TrainConfig, Ensemble, Tensor, str]:  # Recipe; networks, each once a membrane; those membranes; the way
    "The main networks that learned from all rows in the way taken on both benchmarks."
    found = lambda name: read_cell(folder, name, keys[name])
    spec, way = found(CHOICE)[1]["spec"], _chosen_way(choice_table(folder, keys))
    config, df = TrainConfig.from_dict(spec["config"]["nf270"]), contest_rows("nf270")
    members = [{"held": [], "pretrained": True, "bias": "hard", "seed": s} for s in range(spec["seeds"])]
    told, hidden = told_many(members, spec["seeds"], found, "nf270"), torch.zeros(len(members), len(df), dtype=bool)
    start = lambda: _started(config, members, found, MAIN)
    nets = tuned(config, way, start, with_scatter(with_feeds(df)), hidden, told, members, found)
    each = torch.arange(len(members)).repeat_interleave(told.shape[1])
    return recipe_of(config, way), nets.take(each), told.flatten(0, 1), way

"""Held-out predictions of every contestant, and the tables of comparisons"""

from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows, held_rows, score
from ion_ode.cells import read_cell
from ion_ode.results.chosen import choice_table, chosen_predictions
from ion_ode.results.contestants import (
    BAYES,
    BAYES_AGAIN,
    LIKELIEST_TOLD,
    MAIN,
    REFERENCES,
    RIVALS,
    VARIANTS,
    membranes_name,
    own_state,
    rival_name,
)
from ion_ode.results.trials import RECIPES
from ion_ode.results.tuning import CHOICE
from ion_ode.training.recipe import TrainConfig, build


TABLES = {
    "ablation": "nf270 ablation",
    "start": "nf270 start",
    "recipes": "pretraining recipes",
}  # Table -> the cell it is made of
RULES = {"none": "before", "last": "predicted"}  # When a network is asked: before and after fine-tuning


def _mechanistic(b, df: pd.DataFrame, g: str, folder, keys) -> dict:
    "What everybody without a network says of a fold: model -> predictions of it, spread of them."
    test = held_rows(df, [g])
    said = lambda n, column="predicted": read_cell(folder, n, keys[n])[0][column].numpy()[test]
    out = {}
    if b.split is None:
        out |= {name: (predict(df[~test], df[test]), 0.0) for name, predict in REFERENCES.items()}
        names = {m: rival_name({"benchmark": b.name, "model": m, "held": (g,)}) for m in RIVALS}
        out |= {m: (said(n), 0.0) for m, n in names.items() if n in keys}
    for model, again in ((BAYES, False), (BAYES_AGAIN, True)):
        if (name := membranes_name(b.name, (g,), again)) in keys:
            out[model] = said(name), said(name, "spread")
    return out | {LIKELIEST_TOLD: (said(membranes_name(b.name, (g,)), "likeliest"), 0.0)}


def _networks_said(base: pd.DataFrame, df: pd.DataFrame, model: str, tensors, record) -> list[pd.DataFrame]:
    "What every network of a cell says of what it was not shown."
    out = []
    for k, m in enumerate(record["spec"]["members"]):
        if not m["held"]:
            continue
        asked = held_rows(df, m["held"])
        if "own" in m:
            mine = df.coupon == m["own"]
            asked &= (mine & (df.state_id != own_state(df[mine]))).to_numpy()
        label = dict(model=model, bias=m["bias"], pretrained=m["pretrained"], seed=m["seed"], fold=m["held"][0])
        rules = {"own": "predicted"} if "own" in m else RULES if m["pretrained"] else {"last": "predicted"}
        out += [
            base[asked].assign(**label, rule=rule, predicted=tensors[when][k].numpy()[asked])
            for rule, when in rules.items()
        ]
    return out


def contest(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> pd.DataFrame:  # Held-out predictions of every contestant of the cells
    """Everyone's prediction of what it was not shown; `rule` says whether a network was read before ("none") or after
    fine-tuning ("last", "own" with a state of the coupon, "chosen" in the way taken inside the training
    folds, "shipped" in the way that ships), `spread` how far membranes are apart (`log_passage`)."""
    rows, choice = [], choice_table(folder, keys) if CHOICE in keys else None
    for b in (b for b in BENCHMARKS.values() if membranes_name(b.name, b.folds[:1]) in keys):
        df = contest_rows(b.name)
        base = df.reset_index()[["row_id"]].assign(benchmark=b.name)
        for g in b.folds:
            test = held_rows(df, [g])
            rows += [
                base[test].assign(model=model, fold=g, predicted=predicted, spread=spread)
                for model, (predicted, spread) in _mechanistic(b, df, g, folder, keys).items()
            ]
        for cell in (n for n in keys if n.startswith((f"{b.name} finetune ", f"{b.name} own "))):
            rows += _networks_said(base, df, cell.split(" ", 2)[2], *read_cell(folder, cell, keys[cell]))
        if choice is not None and b.split:
            label = dict(benchmark=b.name, model=MAIN, bias="hard", pretrained=True)
            rows.append(chosen_predictions(folder, keys, choice, b.name).assign(**label))
    out = pd.concat(rows, ignore_index=True)
    out[["bias", "rule"]] = out[["bias", "rule"]].fillna("")
    out["pretrained"] = out.pretrained.map({True: "PT", False: "NPT"}).fillna("")
    out["attention"] = out.model.map({v: "yes" if a["attention"] else "no" for v, a in VARIANTS.items()}).fillna("")
    out["seed"] = out.seed.fillna(0).astype(int)
    out["spread"] = out.spread.fillna(0.0)
    return out


def ablation_table(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    cell: str = TABLES["ablation"],  # Its name
) -> pd.DataFrame:  # way, mse_R (mean over compositions), change against "as published", its se, a column a composition
    "Scores of the ways to fine-tune on compositions held out; no recipe was chosen by them."
    tensors, record = read_cell(folder, cell, keys[cell])
    df, rows = contest_rows("nf270").reset_index(), []
    for way, predicted in zip(record["ways"], tensors["predicted"].numpy(), strict=True):
        parts = [df.assign(predicted=p, seed=m) for m, p in enumerate(predicted)]
        s = score(pd.concat(parts).dropna(subset="predicted"), ("seed", "composition"))
        rows.append(s.groupby("composition").mse_R.mean().rename(way))
    t = pd.DataFrame(rows)
    change = t - t.loc["as published"]
    return (
        t.assign(mse_R=t.mean(axis=1), change=change.mean(axis=1), se=change.std(axis=1) / t.shape[1] ** 0.5)
        .rename_axis("way")
        .reset_index()
    )


def _start_table(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> pd.DataFrame:  # As `ablation_table`, and unseen: median error of R on simulated curves before fine-tuning
    "Scores of networks that start as published, and of networks that start closer to the pore model."
    cell = TABLES["start"]
    return ablation_table(folder, keys, cell).assign(
        unseen=lambda t: t.way.map(read_cell(folder, cell, keys[cell])[1]["unseen"])
    )


def _recipe_table(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> pd.DataFrame:  # way, steps; over seeds: median, within_95, median_ratio (to "as it is"), its lowest and highest
    "Errors on unseen simulated curves of the ways to pre-train."
    t = pd.DataFrame(read_cell(folder, TABLES["recipes"], keys[TABLES["recipes"]])[1]["rows"])
    wide = np.log(t.pivot(index="way", columns="seed", values="median"))
    ratio = (wide - wide.loc["as it is"]).loc[list(RECIPES)]
    mean = t.groupby("way")[["steps", "median", "within_95"]].mean().loc[list(RECIPES)]
    return (
        mean.assign(
            median_ratio=np.exp(ratio.mean(axis=1)),
            lowest=np.exp(ratio.min(axis=1)),
            highest=np.exp(ratio.max(axis=1)),
        )
        .rename_axis("way")
        .reset_index()
    )


def networks(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    benchmark: str = "nf270",  # Key of BENCHMARKS
    fold: str | None = None,  # What is held out; None: networks that learned from all
) -> tuple[TrainConfig, Ensemble, Tensor]:  # Recipe, networks, membranes they were told of
    "The main networks, pre-trained and neutral by construction, after fine-tuning."
    cell = f"{benchmark} finetune {MAIN}"
    tensors, record = read_cell(folder, cell, keys[cell])
    config, members = TrainConfig.from_dict(record["spec"]["config"]), record["spec"]["members"]
    wanted = {"held": [fold] if fold else [], "pretrained": True, "bias": "hard"}
    at = [k for k, m in enumerate(members) if all(m[n] == v for n, v in wanted.items())]
    ensemble = build(config, [0] * len(at))
    ensemble.load_state({k.removeprefix("weights/"): v[at] for k, v in tensors.items() if k.startswith("weights/")})
    return config, ensemble, tensors["parameters"][at]


def tables(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> dict[str, pd.DataFrame]:  # By key of TABLES; what was not computed is left out
    "What the cells say of training itself."
    make = {"ablation": ablation_table, "start": _start_table, "recipes": _recipe_table}
    return {name: make[name](folder, keys) for name, cell in TABLES.items() if cell in keys}

"""Trials of other recipes, scored"""

from pathlib import Path

import numpy as np
import pandas as pd

from ion_ode.data.nf270 import MIXTURES, measurement_sd
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows
from ion_ode.results.cells import read_cell
from ion_ode.results.contestants import (
    CORRECTED,
    LAW,
    LAWS,
    MAIN,
    PORE_PLUS,
    SHIFTED,
    VARIANTS,
    membranes_name,
    rival_name,
)
from ion_ode.results.heldout import choose_steps
from ion_ode.results.scores import errors, with_measurements
from ion_ode.training.rivals import ResidualGP


def _trial_predictions(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    fold: str,  # Composition held out
) -> dict[
    tuple[str, ...], pd.DataFrame
]:  # {held out: predictions, one column a way}; the fold alone, and with each other composition
    "What every way says of a fold of the real set and, without the fold, of every other composition."
    df, found = contest_rows("nf270"), lambda name: read_cell(folder, name, keys[name])
    nets, out = {}, {}
    for variant in (v for v in VARIANTS if f"nf270 finetune {v}" in keys):
        tensors, record = found(f"nf270 finetune {variant}")
        for bias in record["spec"]["biases"]:
            mark = choose_steps(tensors[f"{bias}/predicted"], record["members"], df)[fold, True]
            nets[variant, bias] = [
                (set(h), p)
                for (h, _, pt), p in zip(record["members"], tensors[f"{bias}/predicted"][mark].numpy(), strict=True)
                if pt
            ]
    corrected = []
    if "nf270 correction" in keys:
        tensors, record = found("nf270 correction")
        mark = choose_steps(tensors["hard/predicted"], record["members"], df)[fold, False]
        corrected = [
            (set(h), p)
            for (h, _, _), p in zip(record["members"], tensors["hard/predicted"][mark].numpy(), strict=True)
        ]
    for held in (h for h in BENCHMARKS["nf270"].held_out if fold in h):
        test, own = df.composition.isin(held).to_numpy(), {}
        for law in (law for law in LAWS if _cell("membranes", held, law) in keys):
            cell = found(_cell("membranes", held, law))[0]
            own |= {
                f"posterior, {law}": cell["predicted"].numpy()[test],
                f"likeliest membrane, {law}": cell["likeliest"].numpy()[test],
            }
        for model in (m for m in (PORE_PLUS, SHIFTED) if _cell(m, held) in keys):
            own[model] = found(_cell(model, held))[0]["predicted"].numpy()[test]
        if PORE_PLUS in own:
            base = pd.Series(found(_cell(PORE_PLUS, held))[0]["predicted"].numpy(), df.index)
            own["Gaussian process on DSPM-DE+"] = (
                ResidualGP(lambda d, base=base: base.reindex(d.index).to_numpy()).fit(df[~test]).predict(df[test])
            )
        mean = lambda chosen, held=held, test=test: np.mean(
            [p[test] for key in chosen for h, p in nets[key] if h == set(held)], 0
        )
        own |= {f"networks: {name}": mean(chosen) for name, chosen in _COMMITTEES(list(nets)).items() if chosen}
        if corrected:
            own[CORRECTED] = np.mean([p[test] for h, p in corrected if h == set(held)], 0)
        out[held] = pd.DataFrame(
            own
            | {
                " + ".join(parts): sum(own[p] for p in parts) / len(parts)
                for parts in _MIXED
                if set(parts) <= set(own)
            },
            df.index[test],
        )
    return out


def _cell(model, held, law=LAW):
    return (
        membranes_name("nf270", held, law)
        if model == "membranes"
        else rival_name({"benchmark": "nf270", "model": model, "held": held})
    )


def _COMMITTEES(nets):
    "Networks whose plain mean is taken, by name."
    attention = [k for k in nets if "attention" in k[0]]
    return {
        MAIN: [k for k in nets if k == (MAIN, "hard")],
        "all with attention, hard": [k for k in attention if k[1] == "hard"],
        "all with attention, hard and soft": attention,
        "all eight, hard": [k for k in nets if k[1] == "hard"],
    }


_MIXED = (
    (PORE_PLUS, SHIFTED),
    (f"posterior, {LAW}", SHIFTED),
    (f"posterior, {LAW}", "posterior, charge that saturates"),
    (f"networks: {MAIN}", f"posterior, {LAW}"),
    ("networks: all with attention, hard", f"posterior, {LAW}"),
    (f"networks: {MAIN}", SHIFTED),
)


def trial_table(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> pd.DataFrame:  # way, fold, composition (the fold: its test score; another: part of the inner score), mse_R
    "Every way on every fold, inside and on the test."
    rows = []
    for fold in MIXTURES:
        for held, said in _trial_predictions(folder, keys, fold).items():
            judged = next((g for g in held if g != fold), fold)
            long = (
                said.rename_axis("row_id")
                .melt(ignore_index=False, var_name="way", value_name="predicted")
                .reset_index()
                .assign(benchmark="nf270")
            )
            e = errors(with_measurements(long), ["way", "composition"])
            rows.append(e[e.composition == judged][["way", "composition", "mse_R"]].assign(fold=fold))
    return pd.concat(rows, ignore_index=True)


def floor_table(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> pd.DataFrame:  # composition, noise (mean square of the sources' errors), in_sample (of one membrane fitted to all)
    "What no model of this kind can go below, composition by composition."
    df, name = contest_rows("nf270"), _cell(PORE_PLUS, ())
    mean = lambda x: (x * df.weight).groupby(df.composition).sum() / df.weight.groupby(df.composition).sum()
    out = pd.DataFrame({"noise": mean(measurement_sd(df) ** 2), "in_sample": np.nan})
    if name in keys:
        out["in_sample"] = mean((read_cell(folder, name, keys[name])[0]["predicted"].numpy() - df.rejection) ** 2)
    return out.reset_index()


def judge_trials(
    trials: pd.DataFrame,  # From `trial_table`
) -> (
    pd.DataFrame
):  # One row a way: inner, test, one column a fold's test error; last what the inner scores choose, fold by fold
    "Inner score beside test score, and what a choice by the inner score alone would have scored."
    inside = trials[trials.composition != trials.fold].groupby(["way", "fold"], sort=False).mse_R.mean().unstack()
    test = trials[trials.composition == trials.fold].set_index(["way", "fold"]).mse_R.unstack().loc[inside.index]
    best = inside.idxmin()
    picked = pd.Series({f: test.loc[way, f] for f, way in best.items()})
    out = test.assign(inner=inside.mean(axis=1), test=test.mean(axis=1)).sort_values("inner")
    out.loc["chosen inside, fold by fold"] = picked.to_dict() | {
        "inner": inside.min().mean(),
        "test": picked.mean(),
    }
    return out[["inner", "test", *MIXTURES]]

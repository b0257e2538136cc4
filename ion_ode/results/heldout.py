"""Held-out predictions of every contestant, and the tables of comparisons"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.data.nf270 import MIXTURES
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows, score
from ion_ode.results.cells import read_cell
from ion_ode.results.contestants import BAYES, MAIN, MEANS, REFERENCES, RIVALS, VARIANTS, membranes_name, rival_name
from ion_ode.results.trials import RECIPES
from ion_ode.training.recipe import TrainConfig, build


TABLES = {
    "ablation": "nf270 ablation",
    "start": "nf270 start",
    "recipes": "pretraining recipes",
}  # Table -> the cell it is made of


def choose_steps(
    predicted: Tensor,  # (mark, member, row) held-out predictions
    members: list,  # (held out, seed, pretrained) of each member
    df: pd.DataFrame,  # The rows
    folds: tuple[str, ...] = MIXTURES,  # Compositions held out
    least: int = 0,  # First mark that may be chosen; 1 rules out "no fine-tuning at all"
) -> dict:  # (fold or None, pretrained) -> index of the mark; None: for a model that learns from all
    """Number of fine-tuning steps for each fold, from networks that saw neither its composition nor the one they are
    judged by (Eq. K.2)."""
    rejection, weight = (torch.tensor(df[c].to_numpy(copy=True)).float() for c in ("rejection", "weight"))

    def error(m, g):  # (mark,) of member m on composition g
        at = torch.tensor((df.composition == g).to_numpy(copy=True))
        e = (predicted[:, m][:, at].nan_to_num(nan=5.0).clamp(-5, 5) - rejection[at]) ** 2
        return (e * weight[at]).sum(1) / weight[at].sum()

    out, last = {}, predicted.shape[0] - 1
    for pt in (True, False):
        for fold in (*folds, None):
            inner = {}  # composition -> (seed, mark) errors of networks that saw neither it nor the fold
            for m, (held, _, p) in enumerate(members):
                judged = [g for g in held if g != fold]
                if (
                    p == pt
                    and len(judged) == 1
                    and len(held) == (1 if fold is None else 2)
                    and (fold is None or fold in held)
                ):
                    inner.setdefault(judged[0], []).append(error(m, judged[0]))
            out[fold, pt] = last
            if len(inner) > 1:
                d = torch.stack([torch.stack(e).mean(0) for e in inner.values()])
                d = d - d[:, -1:]
                mean, se = d.mean(0), d.std(0) / len(d) ** 0.5
                best = least + int(mean[least:].argmin())
                out[fold, pt] = best if mean[best] < -se[best] else last
    return out


def contest(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> tuple[pd.DataFrame, pd.DataFrame]:  # Held-out predictions of every contestant; steps chosen
    """Everyone's prediction of what it was not shown; `rule` says after how many steps a network was read, `spread`
    how far posterior membranes are apart (`log_passage`)."""
    rows, steps = [], []
    for b in (BENCHMARKS[n] for n in BENCHMARKS if membranes_name(n, ()) in keys):
        df = contest_rows(b.name)
        base = df.reset_index()[["row_id"]].assign(benchmark=b.name)
        for g in b.folds:
            test = (df.composition == g).to_numpy(copy=True)
            add = lambda name, predicted, spread=0.0, base=base, test=test, g=g: rows.append(
                base[test].assign(model=name, fold=g, predicted=predicted, spread=spread)
            )
            for name, predict in REFERENCES.items():
                add(name, predict(df[~test], df[test]))
            said = lambda n, column="predicted", test=test: read_cell(folder, n, keys[n])[0][column].numpy()[test]
            names = {m: rival_name({"benchmark": b.name, "model": m, "held": (g,)}) for m in RIVALS}
            values = {m: said(n) for m, n in names.items() if n in keys} | {
                BAYES: said(membranes_name(b.name, (g,)))
            }
            for mean, parts in MEANS.items():
                if set(parts) <= set(values):
                    values[mean] = sum(values[p] for p in parts) / len(parts)
            for name, predicted in values.items():
                add(name, predicted, said(membranes_name(b.name, (g,)), "spread") if name == BAYES else 0.0)
        for cell in (n for n in keys if n.startswith(f"{b.name} finetune ")):
            name = cell.removeprefix(f"{b.name} finetune ")
            tensors, record = read_cell(folder, cell, keys[cell])
            for bias in record["spec"]["biases"]:
                predicted = tensors[f"{bias}/predicted"]
                chosen, tuned = (choose_steps(predicted, record["members"], df, b.folds, least) for least in (0, 1))
                steps += [
                    {
                        "benchmark": b.name,
                        "model": name,
                        "bias": bias,
                        "pretrained": pt,
                        "fold": f or "none",
                        "steps": record["marks"][k],
                    }
                    for (f, pt), k in chosen.items()
                ]
                for m, (held, seed, pt) in enumerate(record["members"]):
                    if len(held) == 1:
                        test = (df.composition == held[0]).to_numpy(copy=True)
                        label = dict(model=name, bias=bias, pretrained=pt, seed=seed, fold=held[0])
                        for rule, k in {
                            "chosen": chosen[held[0], pt],
                            "tuned": tuned[held[0], pt],
                            "last": -1,
                            "none": 0,
                        }.items():
                            rows.append(
                                base[test].assign(**label, rule=rule, predicted=predicted[k, m][test].numpy())
                            )
    out = pd.concat(rows, ignore_index=True)
    out[["bias", "rule"]] = out[["bias", "rule"]].fillna("")
    out["pretrained"] = out.pretrained.map({True: "PT", False: "NPT"}).fillna("")
    out["attention"] = out.model.map({v: "yes" if a["attention"] else "no" for v, a in VARIANTS.items()}).fillna("")
    out["seed"] = out.seed.fillna(0).astype(int)
    out["spread"] = out.spread.fillna(0.0)
    return out, pd.DataFrame(steps)


def ablation_table(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    cell: str = TABLES["ablation"],  # Its name
) -> pd.DataFrame:  # way, mse_R (mean over compositions), change against "as published", its se, a column a composition
    """Inner scores of the ways to fine-tune; every network is judged on what it was not shown, and no fold's test
    score is read."""
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
    "Inner scores of networks that start as published, and of networks that start closer to the pore model."
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
    fold: str | None = None,  # Composition held out; None: networks that learned from all
    least: int = 0,  # As in `choose_steps`
) -> tuple[TrainConfig, Ensemble, Tensor, int]:  # Recipe, networks, membranes they were told of, steps
    "The main networks, pre-trained and neutral by construction, after the number of steps chosen inside."
    cell = f"{benchmark} finetune {MAIN}"
    tensors, record = read_cell(folder, cell, keys[cell])
    config = TrainConfig.from_dict(record["spec"]["config"])
    mark = choose_steps(
        tensors["hard/predicted"], record["members"], contest_rows(benchmark), BENCHMARKS[benchmark].folds, least
    )[fold, True]
    at = [k for k, m in enumerate(record["kept"]) if record["members"][m][0] == ([fold] if fold else [])]
    ensemble = build(config, [0] * len(at))
    ensemble.load_state(
        {k.removeprefix("weights/"): v[mark][at] for k, v in tensors.items() if k.startswith("weights/")}
    )
    return config, ensemble, tensors["parameters"][at], record["marks"][mark]


def tables(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> dict[str, pd.DataFrame]:  # By key of TABLES; what was not computed is left out
    "What the cells say of training itself."
    make = {"ablation": ablation_table, "start": _start_table, "recipes": _recipe_table}
    return {name: make[name](folder, keys) for name, cell in TABLES.items() if cell in keys}

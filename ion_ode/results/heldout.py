"""Held-out predictions of every contestant, and the tables of comparisons"""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ion_ode.data.nf270 import MIXTURES
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows
from ion_ode.results.cells import read_cell
from ion_ode.results.contestants import BAYES, MEANS, REFERENCES, RIVALS, VARIANTS, membranes_name, rival_name


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



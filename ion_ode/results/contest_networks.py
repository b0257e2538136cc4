"""Networks of the contest, pre-trained and fine-tuned in cells"""

import shutil
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ion_ode.data.measurements import Measurements
from ion_ode.results.benchmarks import BENCHMARKS, Benchmark, contest_rows
from ion_ode.results.contestants import MAIN, left_out, load_curves, membranes_name
from ion_ode.training.recipe import TrainConfig, build
from ion_ode.training.states import with_scatter
from ion_ode.training.teach import finetune, predict_measured, pretrain, surrogate_error


def _constraint(config: TrainConfig, bias: str) -> str:
    return config.constraint if bias == "hard" else "soft"


class _Bar:
    "Passes a loop's progress on, in member steps."

    def __init__(self, tick, members):
        self.tick, self.members = tick, members

    def update(self, n):
        self.tick(n * self.members)


def _cell_pretrain(folder, spec, found, tick):
    config, curves = TrainConfig.from_dict(spec["config"]), load_curves(found)
    train, unseen = curves.subset(slice(0, config.n_curves)), curves.subset(slice(config.n_curves, None))
    seeds, states, logs = [config.seed + s for s in range(spec["seeds"])], {}, []
    for bias in spec["biases"]:
        keep = Path(folder) / f"running-{spec['key'][:12]}-{bias}"
        bar = _Bar(tick, len(seeds))
        ensemble, _ = pretrain(
            config, train, seeds, [_constraint(config, bias)] * len(seeds), folder=keep, key=spec["key"], bar=bar
        )
        e = _quantiles(surrogate_error(config, ensemble, unseen), "member")
        logs += [
            {"bias": bias, "seed": s, "median_error": float(a), "error_95": float(b)}
            for s, (a, b) in zip(seeds, e.to_numpy(), strict=True)
        ]
        states |= {f"{bias}/{k}": v for k, v in ensemble.state().items()}
        shutil.rmtree(keep, ignore_errors=True)
    return states, {"unseen": logs}


def _cell_finetune(folder, spec, found, tick):
    b, df, config = (
        BENCHMARKS[spec["benchmark"]],
        contest_rows(spec["benchmark"]),
        TrainConfig.from_dict(spec["config"]),
    )
    marks, seeds, variant = tuple(spec["marks"]), spec["seeds"], spec["variant"]
    measured = with_scatter(df, b.sd_floor)
    weights = found(f"pretrain {variant}")[0] if spec["pretrained"] else {}
    members = [m for m in _members(b, seeds, spec["inner"]) if spec["pretrained"] or not m[2]]
    draws = {h: found(membranes_name(b.name, h))[0]["parameters"] for h in b.held_out}
    parameters = torch.stack([draws[h][s] for h, s, _ in members])
    held = left_out(measured, [h for h, _, _ in members])
    keep = [m for m, (h, _, pt) in enumerate(members) if len(h) <= 1 and pt]
    out = {}
    for bias in spec["biases"]:
        ensemble = build(
            config, [config.seed + s for _, s, _ in members], [_constraint(config, bias)] * len(members)
        )
        with torch.no_grad():
            for m, (_, s, pt) in enumerate(members):
                for k, p in ensemble.params.items() if pt else ():
                    p[m] = weights[f"{bias}/{k}"][s]
        predictions, kept = torch.full((len(marks), len(members), len(df)), torch.nan), []

        def look(step, ensemble, predictions=predictions, kept=kept):
            if step in marks:
                predictions[marks.index(step)] = _held_out_predictions(config, ensemble, measured, parameters, held)
                kept.append({k: v.detach()[keep].clone() for k, v in ensemble.params.items()})

        finetune(
            config,
            ensemble,
            measured,
            [1000 + config.seed + s for _, s, _ in members],
            shown=~held,
            parameters=parameters,
            pretrained=[pt for _, _, pt in members],
            on_step=look,
            bar=_Bar(tick, len(members)),
        )
        out[f"{bias}/predicted"] = predictions
        if bias == "hard" and variant == MAIN:
            out |= {f"weights/{k}": torch.stack([w[k] for w in kept]) for k in kept[0]}
    out["parameters"] = parameters[keep]
    record = {
        "members": [[list(h), s, pt] for h, s, pt in members],
        "kept": keep,
        "marks": list(marks),
        "rows": list(df.index),
    }
    return out, record


def _members(b: Benchmark, seeds: int, inner: int) -> list[tuple]:
    "(held out, seed, pre-trained) of every network of a fine-tuning cell."
    return [
        (h, s, pt)
        for pt in (True, False)
        for h in b.held_out
        for s in range(inner if len(h) > 1 else seeds)
        if h or pt
    ]


def _held_out_predictions(config, ensemble, m: Measurements, parameters: Tensor, held: Tensor) -> Tensor:
    "(member, value) predictions of what each member was not shown, nan elsewhere."
    out, film = torch.full((len(ensemble), len(m)), torch.nan), torch.from_numpy(m.kind[m.state] != "intrinsic")
    for hidden, members in _alike(held):
        for behind in (False, True):  # observed values have one flux a curve, intrinsic ones many
            values = hidden & (film == behind)
            if values.any():
                part, nets = m.select(values.numpy()), ensemble.take(members)
                said = predict_measured(config, nets, part, parameters[members], tol=1e-3)
                out[members[:, None], values.nonzero()[:, 0]] = torch.from_numpy(said).float()
    return out


def _alike(held: Tensor) -> list[tuple[Tensor, Tensor]]:
    "Members that were not shown the same values: (values, members)."
    patterns, which = torch.unique(held, dim=0, return_inverse=True)
    return [(p, (which == k).nonzero().flatten()) for k, p in enumerate(patterns)]


def _quantiles(e: pd.DataFrame, by) -> pd.DataFrame:
    "Median and 95 % quantile of the error of R, predictions above 1 read as 1."
    return (e.predicted.clip(upper=1) - e.rejection).abs().groupby(e[by]).quantile([0.5, 0.95]).unstack()

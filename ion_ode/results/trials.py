"""Comparisons inside the training folds"""

from dataclasses import replace

import numpy as np
import torch

from ion_ode.attention_odenet.odenet import n_parameters
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows
from ion_ode.results.contestants import (
    MAIN,
    _Bar,
    _cell_pretrain,
    _held_out_predictions,
    _quantiles,
    left_out,
    load_curves,
    membranes_name,
)
from ion_ode.training.recipe import TrainConfig, build
from ion_ode.training.states import with_scatter
from ion_ode.training.teach import finetune, pretrain, surrogate_error


ABLATIONS = {  # What is changed in the fine-tuning of the main networks
    "as published": {},
    "rate a tenth": {"finetuning": {"lr": 1e-4}},
    "all layers move": {"frozen_layers": 0},
    "only the last layer moves": {"frozen_layers": 4},
    "targets not resampled": {"resample": False},
    "loss on h": {"loss": "h"},
    "loss on log passage": {"loss": "log passage"},
    "simulated curves replayed": {"replay": 1.0},
    "mean of the weights over steps": {"finetuning": {"ema": 0.05}},
    "low-rank adapters": {"adapters": 4},
}


def _inner_networks(spec, found):
    """Main networks, one for each pair of compositions left out and seed: a function that tunes and asks them, and
    who they are."""
    b, df, config = (
        BENCHMARKS["nf270"],
        contest_rows("nf270"),
        replace(TrainConfig.from_dict(spec["config"]), compiled=False),
    )
    measured = with_scatter(df)
    members = [(h, s) for h in b.held_out if len(h) == 2 for s in range(spec["seeds"])]
    parameters = torch.stack([found(membranes_name(b.name, h))[0]["parameters"][s] for h, s in members])
    held = left_out(measured, [h for h, _ in members])
    ensemble = build(config, [0] * len(members))

    def answers(weights, change=None, tick=None):
        "Predictions of what each was not shown: as pre-trained (no change), or fine-tuned with a change of the recipe."
        ensemble.load_state(
            {
                k.removeprefix("hard/"): torch.stack([v[s] for _, s in members])
                for k, v in weights.items()
                if k.startswith("hard/")
            }
        )
        if change is not None:
            recipe = replace(
                config, **change | {"finetuning": replace(config.finetuning, **change.get("finetuning", {}))}
            )
            finetune(
                recipe, ensemble, measured, [1000 + s for _, s in members], shown=~held, parameters=parameters,
                simulated=load_curves(found).subset(slice(0,
                    config.n_curves)) if recipe.replay else None, bar=_Bar(tick, 1),
            )  # fmt: skip
        return _held_out_predictions(config, ensemble, measured, parameters, held)

    return answers, {"members": [[list(h), s] for h, s in members]}


def _cell_ablation(folder, spec, found, tick):
    "Inner score of each way to fine-tune: networks trained without two compositions, judged on both."
    (answers, record), weights = _inner_networks(spec, found), found(f"pretrain {MAIN}")[0]
    out = {"no fine-tuning": answers(weights)} | {
        way: answers(weights, change, tick) for way, change in ABLATIONS.items()
    }
    return {"predicted": torch.stack(list(out.values()))}, {"ways": list(out), **record}


def _cell_start(folder, spec, found, tick):
    "Inner score of networks that start closer to the pore model: pre-trained by SOAP, in as many steps."
    (answers, record), config, out, errors = (
        _inner_networks(spec, found),
        TrainConfig.from_dict(spec["config"]),
        {},
        {},
    )
    by_soap = spec | {
        "config": replace(config, pretraining=replace(config.pretraining, optimiser="soap")).to_dict(),
        "biases": ["hard"],
    }
    for by, (weights, log) in (
        ("", found(f"pretrain {MAIN}")),
        (", pre-trained by SOAP", _cell_pretrain(folder, by_soap, found, tick)),
    ):
        ways = {f"as published{by}": answers(weights, {}, tick), f"no fine-tuning{by}": answers(weights)}
        out |= ways
        errors |= dict.fromkeys(
            ways,
            float(
                np.mean(
                    [
                        u["median_error"]
                        for u in log["unseen"]
                        if u["bias"] == "hard" and u["seed"] < config.seed + spec["seeds"]
                    ]
                )
            ),
        )
    return {"predicted": torch.stack(list(out.values()))}, {"ways": list(out), "unseen": errors, **record}


SWEEP = [
    {"d_k": d, "encoding": e} for e in ("learned+physical", "none") for d in (4, 8, 16)
]  # Attention of the main network


def _cell_sweep(folder, spec, found, tick):
    "Error on unseen curves after a short pre-training, width of attention by width and with or without ion encodings."
    config, curves, rows = TrainConfig.from_dict(spec["config"]), load_curves(found), []
    train, unseen = curves.subset(slice(0, config.n_curves)), curves.subset(slice(config.n_curves, None))
    seeds = [config.seed + s for s in range(spec["seeds"])]
    for change in SWEEP:
        own = replace(config, network=replace(config.network, **change))
        ensemble, _ = pretrain(own, train, seeds, bar=_Bar(tick, len(seeds)))
        e = _quantiles(surrogate_error(own, ensemble, unseen), "member")
        rows += [
            change
            | {"seed": s, "parameters": n_parameters(ensemble.member(0)), "median": float(a), "within_95": float(b)}
            for s, (a, b) in zip(seeds, e.to_numpy(), strict=True)
        ]
    return {"errors": torch.tensor([[r["median"], r["within_95"]] for r in rows])}, {"rows": rows}


RECIPES = {  # What is changed in the pre-training of the main network
    "as it is": {},
    "constant rate": {"pretraining": {"schedule": "constant"}},
    "mean of the weights over steps": {"pretraining": {"ema": 0.05}},
    "curriculum over ions": {"curriculum": 0.5},
    "loss on h": {"pretraining_loss": "h"},
    "half the curves a step": {"pretraining_batch": 0.5},
    "SOAP instead of Adam": {"pretraining": {"optimiser": "soap"}},
}


def _cell_recipes(folder, spec, found, tick):
    "Error on unseen curves after a short pre-training, one change at a time; no measurement is read."
    config, curves, rows = TrainConfig.from_dict(spec["config"]), load_curves(found), []
    train, unseen = curves.subset(slice(0, config.n_curves)), curves.subset(slice(config.n_curves, None))
    seeds, steps = [config.seed + s for s in range(spec["seeds"])], config.pretraining.steps
    for way, change in RECIPES.items():
        change = change | {"pretraining": replace(config.pretraining, **change.get("pretraining", {}))}
        if "curriculum" in change:
            change["curriculum"] = int(change["curriculum"] * steps)
        if "pretraining_batch" in change:
            change["pretraining_batch"] = max(1, int(change["pretraining_batch"] * config.pretraining_batch))
        own = replace(config, **change)
        ensemble, _ = pretrain(own, train, seeds, bar=_Bar(tick, len(seeds)))
        e = _quantiles(surrogate_error(own, ensemble, unseen), "member").to_numpy()
        rows += [
            {"way": way, "seed": s, "steps": steps, "median": float(a), "within_95": float(b)}
            for s, (a, b) in zip(seeds, e, strict=True)
        ]
    return {"errors": torch.tensor([[r["median"], r["within_95"]] for r in rows])}, {"rows": rows}

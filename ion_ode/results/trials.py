"""Comparisons of ways to train the main network, and of its attention"""

from dataclasses import replace

import numpy as np
import torch

from ion_ode.attention_odenet.odenet import n_parameters
from ion_ode.closure import Ticks, cell
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows
from ion_ode.results.contestants import (
    MAIN,
    _cell_pretrain,
    _held_out_predictions,
    _quantiles,
    _started,
    _told,
    left_out,
    load_curves,
    network_members,
)
from ion_ode.results.protocol import with_feeds
from ion_ode.training.recipe import TrainConfig
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


def _networks(spec, found):
    """Main networks, one for each composition left out and seed: a function that tunes and asks them, and who they
    are."""
    b, df, config = BENCHMARKS["nf270"], contest_rows("nf270"), TrainConfig.from_dict(spec["config"])
    members = [m for m in network_members(b, spec["seeds"], [(True, "hard")]) if m["held"]]
    measured, parameters, held = with_scatter(with_feeds(df)), _told(b, members, found), left_out(df, members)

    def answers(started, change=None, tick=None):
        "Predictions of what each was not shown: as pre-trained (no change), or fine-tuned with a change of the recipe."
        ensemble = _started(config, members, started, MAIN)
        if change is not None:
            recipe = replace(
                config, **change | {"finetuning": replace(config.finetuning, **change.get("finetuning", {}))}
            )
            seeds = [1000 + m["seed"] for m in members]
            replayed = load_curves(found).subset(slice(0, config.n_curves)) if recipe.replay else None
            finetune(
                recipe, ensemble, measured, seeds, shown=~held, parameters=parameters, simulated=replayed,
                bar=Ticks(tick, 1),
            )  # fmt: skip
        return _held_out_predictions(config, ensemble, measured, parameters, held)

    return answers, {"members": members}


@cell("ablation")
def _cell_ablation(folder, spec, found, tick):
    "What each way to fine-tune is worth on compositions held out."
    answers, record = _networks(spec, found)
    out = {"no fine-tuning": answers(found)} | {way: answers(found, change, tick) for way, change in ABLATIONS.items()}
    return {"predicted": torch.stack(list(out.values()))}, {"ways": list(out), **record}


@cell("start")
def _cell_start(folder, spec, found, tick):
    "What networks are worth that start closer to the pore model: pre-trained by SOAP, in as many steps."
    (answers, record), config = _networks(spec, found), TrainConfig.from_dict(spec["config"])
    plan = replace(config.pretraining, optimiser="soap")
    by_soap = spec | {"config": replace(config, pretraining=plan).to_dict(), "biases": ["hard"]}
    soap, out, errors = _cell_pretrain(folder, by_soap, found, tick), {}, {}
    for by, started in (("", found), (", pre-trained by SOAP", lambda name: soap)):
        ways = {f"as published{by}": answers(started, {}, tick), f"no fine-tuning{by}": answers(started)}
        log = [u for u in started(f"pretrain {MAIN}")[1]["unseen"] if u["bias"] == "hard" and u["seed"] < spec["seeds"]]
        out, errors = out | ways, errors | dict.fromkeys(ways, float(np.mean([u["median_error"] for u in log])))
    return {"predicted": torch.stack(list(out.values()))}, {"ways": list(out), "unseen": errors, **record}


SWEEP = [
    {"d_k": d, "encoding": e} for e in ("learned+physical", "none") for d in (4, 8, 16)
]  # Attention of the main network


@cell("sweep")
def _cell_sweep(folder, spec, found, tick):
    "Error on unseen curves after a short pre-training, width of attention by width and with or without ion encodings."
    config, curves, rows = TrainConfig.from_dict(spec["config"]), load_curves(found), []
    train, unseen = curves.subset(slice(0, config.n_curves)), curves.subset(slice(config.n_curves, None))
    seeds = [config.seed + s for s in range(spec["seeds"])]
    for change in SWEEP:
        own = replace(config, network=replace(config.network, **change))
        ensemble, _ = pretrain(own, train, seeds, bar=Ticks(tick, len(seeds)))
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


@cell("recipes")
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
        ensemble, _ = pretrain(own, train, seeds, bar=Ticks(tick, len(seeds)))
        e = _quantiles(surrogate_error(own, ensemble, unseen), "member").to_numpy()
        rows += [
            {"way": way, "seed": s, "steps": steps, "median": float(a), "within_95": float(b)}
            for s, (a, b) in zip(seeds, e, strict=True)
        ]
    return {"errors": torch.tensor([[r["median"], r["within_95"]] for r in rows])}, {"rows": rows}

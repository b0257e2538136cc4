"""Recipes and steps tried inside the folds"""

from dataclasses import replace

import torch

from ion_ode.attention_odenet.odenet import n_parameters
from ion_ode.results.contest_networks import _Bar, _quantiles
from ion_ode.results.contestants import load_curves
from ion_ode.training.recipe import TrainConfig
from ion_ode.training.teach import pretrain, surrogate_error

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

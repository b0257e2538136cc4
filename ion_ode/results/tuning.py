"""Ways to fine-tune the main network, each tried without one fold and without two"""

from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from ion_ode.closure import Ticks, cell
from ion_ode.results.benchmarks import BENCHMARKS, Benchmark, contest_rows
from ion_ode.results.contestants import (
    MAIN,
    _held_out_predictions,
    _started,
    left_out,
    load_curves,
    membranes_name,
)
from ion_ode.results.protocol import with_feeds
from ion_ode.training.recipe import TrainConfig
from ion_ode.training.states import with_scatter
from ion_ode.training.teach import finetune

__all__ = ["CHOICE", "NONE", "WAYS", "choice_members", "recipe_of", "told_many", "tuned"]

CHOICE = "choice of fine-tuning"  # Name of the cell
_ASKED = 4  # Membranes of the posterior that each network is asked with
NONE, PUBLISHED = "no fine-tuning", "as published"
_SLOW = {"lr": 1e-4}
WAYS = {  # What is changed in the fine-tuning
    NONE: {"finetuning": {"steps": 0}},
    PUBLISHED: {},
    "40 steps": {"finetuning": {"steps": 40}},
    "rate a tenth": {"finetuning": _SLOW},
    "rate a tenth, 40 steps": {"finetuning": _SLOW | {"steps": 40}},
    "rate a tenth, only the last layer moves": {"finetuning": _SLOW, "frozen_layers": 4},
    "rate a tenth, all layers move": {"finetuning": _SLOW, "frozen_layers": 0},
    "rate a tenth, low-rank adapters": {"finetuning": _SLOW, "adapters": 4},
    "rate a tenth, simulated curves replayed": {"finetuning": _SLOW, "replay": 1.0},
}


def recipe_of(
    config: TrainConfig,  # The recipe all share
    way: str,  # Key of WAYS
) -> TrainConfig:  # Its fine-tuning changed
    "The recipe of a way to fine-tune."
    change = WAYS[way]
    return replace(config, **change | {"finetuning": replace(config.finetuning, **change.get("finetuning", {}))})


def choice_members(
    b: Benchmark,
    seeds: int,  # Networks of each kind
) -> list[dict]:  # As `network_members`: one a fold, and one a pair of folds
    "Networks that are trained without one fold, and without two."
    held = [*((g,) for g in b.folds), *combinations(b.folds, 2)]
    return [{"held": list(h), "pretrained": True, "bias": "hard", "seed": s} for h in held for s in range(seeds)]


def told_many(members, seeds: int, found, benchmark: str) -> Tensor:  # (member, _ASKED, parameter)
    "Membranes of the posterior that a network is asked with; it is fine-tuned with the first."
    draws = {h: found(membranes_name(benchmark, h))[0]["parameters"] for h in {tuple(m["held"]) for m in members}}
    return torch.stack([draws[tuple(m["held"])][m["seed"] :: seeds][:_ASKED] for m in members])


def tuned(config: TrainConfig, way: str, started, measured, hidden: Tensor, told: Tensor, members, found, bar=None):
    "Networks taught measurements one way; `told` as `told_many` gives it."
    own, ensemble = recipe_of(config, way), started()
    seeds = [1000 + config.seed + m["seed"] for m in members]
    replayed = load_curves(found).subset(slice(0, config.n_curves)) if own.replay else None
    if own.finetuning.steps:
        kw = {"shown": ~hidden, "parameters": told[:, 0], "simulated": replayed, "bar": bar}
        finetune(own, ensemble, measured, seeds, **kw)
    return ensemble


def _asked(config: TrainConfig, ensemble, measured, told: Tensor, hidden: Tensor) -> Tensor:  # (member, value)
    "What networks say of values they were not shown, the mean over the membranes that each is asked with."
    n, k = told.shape[:2]
    each = torch.arange(n).repeat_interleave(k)
    said = _held_out_predictions(config, ensemble.take(each), measured, told.flatten(0, 1), hidden[each])
    return said.view(n, k, -1).mean(1)


@cell("choice")
def _cell_choice(folder, spec, found, tick):
    "Every way to fine-tune, without one fold and without two, on both benchmarks."
    out = {}
    for name, config in spec["config"].items():
        b, df, config = BENCHMARKS[name], contest_rows(name), TrainConfig.from_dict(config)
        members, measured = spec["members"][name], with_scatter(with_feeds(df), b.sd_floor)
        hidden, told = left_out(df, members), told_many(members, spec["seeds"], found, name)
        start = lambda config=config, members=members: _started(config, members, found, MAIN)
        said = []
        for way in WAYS:
            nets = tuned(config, way, start, measured, hidden, told, members, found, Ticks(tick, len(members)))
            said.append(_asked(config, nets, measured, told, hidden))
        mean = [found(membranes_name(name, m["held"]))[0]["predicted"] for m in members]
        out |= {f"{name} predicted": torch.stack(said), f"{name} membranes": torch.stack(mean)}
    return out, {"ways": list(WAYS)}

"""Profiles, the cells they consist of, and the tables of comparisons stored from them"""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from ion_ode.results.benchmarks import BENCHMARKS
from ion_ode.closure import Cell, tables_digest
from ion_ode.results.board import board_cells
from ion_ode.cells import code_hash, read_cell
from ion_ode.results.contestants import (
    MAIN,
    PORE_MODEL_CURVES,
    Profile,
    membranes_name,
    network_members,
    own_members,
    rival_name,
)
from ion_ode.results.heldout import TABLES, tables
from ion_ode.results.protocol import FOUR_FITTED, GAUSSIAN, PER_ION
from ion_ode.results.trials import ABLATIONS, RECIPES, SWEEP
from ion_ode.results.tuning import CHOICE, WAYS, choice_members
from ion_ode.store import atomic_write, provenance
from ion_ode.training.optimise import Plan
from ion_ode.training.recipe import TrainConfig


# Written before any network was trained: the eight networks of a comparison take the recipe's steps, and the main one
# is fine-tuned besides in the way that is chosen inside the training folds (`tuning.WAYS`). Budgets are those that a
# shared core holds in a quarter of an hour: 1000 steps of pre-training on 8192 curves, two networks of each kind.
_RECIPE = TrainConfig(
    family="dspmde+",
    network=replace(TrainConfig().network, width=64),
    n_curves=8192,
    pretraining=Plan(1000, lr=4e-3, schedule="cosine", clip=0.3),
    finetuning=Plan(160),
    compiled=True,
)
PROFILES = {
    "full": Profile(
        "full", _RECIPE, seeds=2, starts=2, draws=256, rivals=(FOUR_FITTED, PER_ION), ablate=True, sweep_steps=300,
        board=True, choose=True,
    ),
    "quick": Profile(
        "quick", replace(_RECIPE, n_curves=1024, pretraining=replace(_RECIPE.pretraining, steps=150)),
        seeds=2, starts=1, draws=64, variants=(MAIN, "fully connected"), benchmarks=("nf270",), biases=("hard",),
    ),
    "smoke": Profile(
        "smoke", TrainConfig(family="dspmde+", n_curves=48, n_flux=6, pretraining=Plan(4), finetuning=Plan(4)),
        seeds=1, starts=1, draws=4, rivals=(PER_ION,), drawn_from="prior",
    ),
}  # fmt: skip


def _membrane_cells(profile: Profile, b) -> list[Cell]:
    "Membranes that networks are told of: one cell a set of training rows, on measured ones a second run of it."
    base = {"benchmark": b.name, "draws": profile.draws, "drawn_from": profile.drawn_from}
    runs = (False, True) if profile.drawn_from == "posterior" and b.split else (False,)
    pairs = combinations(b.folds, 2) if profile.choose and b.split else ()
    cells = []
    for held in [*([()] if b.name == "nf270" else []), *((g,) for g in b.folds), *pairs]:
        for again in runs if len(held) == 1 else (False,):
            spec = base | {"held": list(held), "seed": profile.recipe.seed + again}
            cells.append(Cell(membranes_name(b.name, held, again), "membranes", spec, cost=300))
    return cells


def _rival_cells(profile: Profile, b) -> list[Cell]:
    "Other models, where the protocol's entrants do not stand beside the networks; on `nf270` what is drawn as curves."
    cells, base = [], {"benchmark": b.name, "seed": profile.recipe.seed, "starts": profile.starts}
    asked = [(m, g) for m in profile.rivals for g in b.folds] if b.split is None else []
    asked += [(FOUR_FITTED, g) for g in PORE_MODEL_CURVES] if b.name == "nf270" and profile.board else []
    for model, g in asked:
        spec = base | {"model": model, "held": [g]}
        needs = (rival_name(spec | {"model": FOUR_FITTED}),) if model == GAUSSIAN else ()
        cells.append(Cell(rival_name(spec), "rival", spec, needs, 1000))
    return cells


def _network_cells(profile: Profile, v: str) -> list[Cell]:
    "One architecture: pre-trained once, fine-tuned on every benchmark."
    config, biases = profile.config(v), list(profile.biases) if v == MAIN else ["hard"]
    base = {"variant": v, "seeds": profile.seeds}
    spec = base | {"config": config.to_dict(), "biases": biases}
    n = profile.seeds * len(biases) * config.pretraining.steps
    cells = [Cell(f"pretrain {v}", "pretrain", spec, ("curves",), n)]
    kinds = [(True, bias) for bias in biases] + [(False, bias) for bias in profile.biases]
    for b in (BENCHMARKS[name] for name in profile.benchmarks):
        tuned = replace(config, film_thickness=b.film).to_dict()
        asked = {"finetune": network_members(b, profile.seeds, kinds)}
        asked |= {"own": own_members(profile.seeds)} if v == MAIN and b.name == "sources" else {}
        for what, members in asked.items():
            spec = base | {"config": tuned, "benchmark": b.name, "members": members}
            held = dict.fromkeys(tuple(m["held"]) for m in members)
            needs = (f"pretrain {v}", *(membranes_name(b.name, h) for h in held))
            cost = len(members) * config.finetuning.steps
            cells.append(Cell(f"{b.name} {what} {v}", "finetune", spec, needs, cost))
    return cells


def _comparison_cells(profile: Profile) -> list[Cell]:
    "Ways to train the main network, and widths of its attention."
    config, cells = profile.config(MAIN), []
    if profile.sweep_steps:
        short = replace(config, pretraining=replace(config.pretraining, steps=profile.sweep_steps))
        spec = {"config": short.to_dict(), "seeds": min(2, profile.seeds)}
        n = spec["seeds"] * profile.sweep_steps
        cells.append(Cell("attention sweep", "sweep", spec, ("curves",), len(SWEEP) * n))
        more = spec | {"seeds": profile.seeds}
        cells.append(Cell(TABLES["recipes"], "recipes", more, ("curves",), len(RECIPES) * n))
    if profile.ablate:
        spec = {"config": config.to_dict(), "seeds": profile.seeds}
        needs = ("curves", f"pretrain {MAIN}", *(membranes_name("nf270", (g,)) for g in BENCHMARKS["nf270"].folds))
        n = len(BENCHMARKS["nf270"].folds) * config.finetuning.steps
        cells.append(Cell(TABLES["ablation"], "ablation", spec, needs, len(ABLATIONS) * n))
        cells.append(Cell(TABLES["start"], "start", spec, needs, profile.seeds * config.pretraining.steps + 2 * n))
    if profile.choose:
        cells.append(_choice_cell(profile))
    return cells


def _choice_cell(profile: Profile) -> Cell:
    "Ways to fine-tune the main network, on both benchmarks of real measurements."
    config, asked = profile.config(MAIN), [b for b in BENCHMARKS.values() if b.split]
    members = {b.name: choice_members(b, profile.seeds) for b in asked}
    tuned = {b.name: replace(config, film_thickness=b.film).to_dict() for b in asked}
    held = {(b.name, tuple(m["held"])) for b in asked for m in members[b.name]}
    needs = ("curves", f"pretrain {MAIN}", *sorted(membranes_name(*h) for h in held))
    cost = sum(map(len, members.values())) * config.finetuning.steps * (len(WAYS) - 1)
    return Cell(CHOICE, "choice", {"config": tuned, "seeds": profile.seeds, "members": members}, needs, cost)


def plan_cells(
    profile: Profile,  # How much
) -> list[Cell]:  # In an order that respects needs
    "All cells of a profile."
    cells = [Cell("curves", "curves", {"recipe": profile.recipe.to_dict()}, cost=1000)]
    for b in (BENCHMARKS[name] for name in profile.benchmarks):
        cells += _membrane_cells(profile, b)
    for v in profile.variants:
        cells += _network_cells(profile, v)
    cells += _comparison_cells(profile)
    for b in (BENCHMARKS[name] for name in profile.benchmarks):
        cells += _rival_cells(profile, b)
    return cells + (board_cells() if profile.board else [])


def store(
    profile: Profile,  # What was computed
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    target: str | Path,  # Where the tables go
    record: str = "training",  # Name of the JSON file that says what they were made by
) -> None:
    "Write `tables` as CSV, and beside them what they were made by."
    made = tables(folder, keys)
    for name, table in made.items():
        atomic_write(Path(target) / f"training_{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    records = {n: read_cell(folder, n, keys[n])[1] for n in keys}
    facts = provenance(
        seed=profile.recipe.seed, profile=profile.name, recipe=profile.recipe.to_dict(), seeds=profile.seeds,
            code=code_hash({r["kind"] for r in records.values()}), data=tables_digest(),
        tables=list(made), cells_commit=sorted({r["commit"] for r in records.values()}),
            cpu_seconds={n: r["cpu_s"] for n, r in records.items()},
    )  # fmt: skip
    atomic_write(Path(target) / f"{record}.json", json.dumps(facts, indent=1, sort_keys=True) + "\n")

"""Profiles, the cells they consist of, and the tables of comparisons stored from them"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ion_ode.closure import tables_digest
from ion_ode.results.benchmarks import BENCHMARKS
from ion_ode.results.cells import Cell, code_hash, read_cell
from ion_ode.results.contest_networks import _members
from ion_ode.results.contestants import (
    CORRECTED,
    CORRECTION,
    KEDEM,
    LAW,
    LAWS,
    MAIN,
    PORE_MODEL,
    PORE_PLUS,
    RESIDUAL,
    SHIFTED,
    Profile,
    membranes_name,
    rival_name,
)
from ion_ode.results.heldout_tables import TABLES, tables
from ion_ode.results.trial_recipes import RECIPES, SWEEP
from ion_ode.results.trials import ABLATIONS
from ion_ode.store import atomic_write, provenance
from ion_ode.training.optimise import Plan
from ion_ode.training.recipe import TrainConfig

_RECIPE = TrainConfig(
    family="dspmde+",
    network=replace(TrainConfig().network, width=64),
    n_curves=16384,
    pretraining=Plan(2500, lr=4e-3, schedule="cosine", clip=0.3),
    finetuning=Plan(160),
    compiled=True,
)
PROFILES = {
    "quick": Profile(
        "quick", replace(_RECIPE, n_curves=2048, compiled=False, pretraining=replace(_RECIPE.pretraining, steps=300)),
        seeds=2, marks={"nf270": (0, 20, 80, 160)}, starts=1, draws=64, inner=1,
        variants=(MAIN, "fully connected"), benchmarks=("nf270",), rivals=(PORE_MODEL, PORE_PLUS,
            SHIFTED), biases=("hard",),
    ),
    "full": Profile(
        "full", _RECIPE, seeds=5, inner=2, marks={"nf270": (0, 5, 10, 20, 40, 80, 160),
        "twin": (0, 40, 160)}, starts=2, draws=256, ablate=True, sweep_steps=400, trials=True,
    ),
    "smoke": Profile(
        "smoke", TrainConfig(family="dspmde+", n_curves=48, n_flux=6, pretraining=Plan(4), finetuning=Plan(4)),
        seeds=1, marks={"nf270": (0, 4), "twin": (0,
            4)}, starts=1, draws=4, inner=1, rivals=(KEDEM,), drawn_from="prior",
    ),
}  # fmt: skip


def _pore_cells(profile: Profile, b) -> Iterator[Cell]:
    "Membranes inferred and rivals fitted without each held-out part of one benchmark."
    base = {"benchmark": b.name, "seed": profile.recipe.seed}
    tried = b.held_out[1:] if b.pairs and profile.trials else []
    drawn = base | {"draws": profile.draws, "drawn_from": profile.drawn_from}
    for held, law in [*((h, LAW) for h in b.held_out), *((h, law) for law in LAWS if law != LAW for h in tried)]:
        spec = drawn | {"held": list(held), "law": law}
        yield Cell(membranes_name(b.name, held, law), "membranes", spec, cost=1000)
    for model in profile.rivals:
        for held in [(), *tried] if tried and model in (PORE_PLUS, SHIFTED) else [(g,) for g in b.folds]:
            spec = base | {"model": model, "held": list(held), "starts": profile.starts}
            needs = (rival_name(spec | {"model": PORE_MODEL}),) if model == RESIDUAL else ()
            yield Cell(rival_name(spec), "rival", spec, needs, 1000)


def _network_cells(profile: Profile, variant: str) -> Iterator[Cell]:
    "One variant pre-trained once, and fine-tuned for each benchmark."
    config, kinds = profile.config(variant), len(profile.biases)
    spec = {"config": config.to_dict(), "biases": list(profile.biases), "seeds": profile.seeds, "variant": variant}
    spec |= {"pretrained": True}
    n = profile.seeds * kinds * config.pretraining.steps
    yield Cell(f"pretrain {variant}", "pretrain", spec, ("curves",), n)
    for name in profile.benchmarks:
        b, marks = BENCHMARKS[name], profile.marks[name]
        tuning = replace(config, finetuning=replace(config.finetuning, steps=marks[-1]), film_thickness=b.film)
        spec = spec | {"config": tuning.to_dict(), "benchmark": name, "marks": list(marks), "inner": profile.inner}
        needs = (f"pretrain {variant}", *(membranes_name(name, h) for h in b.held_out))
        members = len(_members(b, profile.seeds, profile.inner))
        yield Cell(f"{name} finetune {variant}", "finetune", spec, needs, members * kinds * marks[-1])


def _sweep_cells(profile: Profile) -> Iterator[Cell]:
    "Short pre-trainings: widths of attention, recipes."
    config, steps = profile.config(MAIN), profile.sweep_steps
    short = replace(config, compiled=False, pretraining=replace(config.pretraining, steps=steps))
    spec = {"config": short.to_dict(), "seeds": profile.inner}
    yield Cell("attention sweep", "sweep", spec, ("curves",), len(SWEEP) * profile.inner * steps)
    more = spec | {"seeds": profile.seeds}
    yield Cell(TABLES["recipes"], "recipes", more, ("curves",), len(RECIPES) * profile.seeds * steps)


def _correction_cell(profile: Profile, b) -> Cell:
    "A network that corrects the pore model, without pre-training."
    spec = {"config": CORRECTION.to_dict(), "biases": ["hard"], "seeds": profile.seeds, "inner": profile.inner}
    spec |= {"variant": CORRECTED, "pretrained": False, "benchmark": b.name, "marks": list(profile.marks[b.name])}
    n = sum(1 for m in _members(b, profile.seeds, profile.inner) if not m[2])
    needs = tuple(membranes_name(b.name, h) for h in b.held_out)
    return Cell(f"{b.name} correction", "finetune", spec, needs, n * profile.marks[b.name][-1])


def _ablation_cells(profile: Profile) -> Iterator[Cell]:
    "What each part of the recipe is worth inside the folds."
    config, held = profile.config(MAIN), (h for h in BENCHMARKS["nf270"].held_out if len(h) == 2)
    spec = {"config": config.to_dict(), "seeds": profile.inner}
    needs = ("curves", f"pretrain {MAIN}", *(membranes_name("nf270", h) for h in held))
    yield Cell(TABLES["ablation"], "ablation", spec, needs, len(ABLATIONS) * config.finetuning.steps)
    steps = profile.inner * config.pretraining.steps + 2 * config.finetuning.steps
    yield Cell(TABLES["start"], "start", spec, needs, steps)


def plan_cells(
    profile: Profile,  # How much
) -> list[Cell]:  # In an order that respects needs
    "All cells of a profile."
    cells = [c for name in profile.benchmarks for c in _pore_cells(profile, BENCHMARKS[name])]
    cells.append(Cell("curves", "curves", {"recipe": profile.recipe.to_dict()}, cost=1000))
    cells += [c for v in profile.variants for c in _network_cells(profile, v)]
    cells += _sweep_cells(profile) if profile.sweep_steps else ()
    if profile.trials and "nf270" in profile.benchmarks:
        cells.append(_correction_cell(profile, BENCHMARKS["nf270"]))
    return cells + list(_ablation_cells(profile) if profile.ablate else ())


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
            code=code_hash(), data=tables_digest(),
        tables=list(made), cells_commit=sorted({r["commit"] for r in records.values()}),
            cpu_seconds={n: r["cpu_s"] for n, r in records.items()},
    )  # fmt: skip
    atomic_write(Path(target) / f"{record}.json", json.dumps(facts, indent=1, sort_keys=True) + "\n")

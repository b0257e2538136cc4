"""Profiles, the cells they consist of, and the tables of comparisons stored from them"""

import json
from dataclasses import replace
from pathlib import Path

from ion_ode.results.benchmarks import BENCHMARKS
from ion_ode.closure import tables_digest
from ion_ode.results.cells import Cell, code_hash, read_cell
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
    _members,
    membranes_name,
    rival_name,
)
from ion_ode.results.heldout import TABLES, tables
from ion_ode.results.trials import ABLATIONS, RECIPES, SWEEP
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


def plan_cells(
    profile: Profile,  # How much
) -> list[Cell]:  # In an order that respects needs
    "All cells of a profile."
    r, cells = profile.recipe, []
    for name in profile.benchmarks:
        b, base = BENCHMARKS[name], {"benchmark": name, "seed": r.seed}
        tried = b.held_out[1:] if b.pairs and profile.trials else []
        drawn = base | {"draws": profile.draws, "drawn_from": profile.drawn_from}
        for held, law in [
            *((h, LAW) for h in b.held_out),
            *((h, law) for law in LAWS if law != LAW for h in tried),
        ]:
            cells.append(
                Cell(
                    membranes_name(name, held, law),
                    "membranes",
                    drawn | {"held": list(held), "law": law},
                    cost=1000,
                )
            )
        for model in profile.rivals:
            for held in [(), *tried] if tried and model in (PORE_PLUS, SHIFTED) else [(g,) for g in b.folds]:
                spec = base | {"model": model, "held": list(held), "starts": profile.starts}
                needs = (rival_name(spec | {"model": PORE_MODEL}),) if model == RESIDUAL else ()
                cells.append(Cell(rival_name(spec), "rival", spec, needs, 1000))
    cells.append(Cell("curves", "curves", {"recipe": r.to_dict()}, cost=1000))
    for v in profile.variants:
        config = profile.config(v)
        spec = {
            "config": config.to_dict(),
            "biases": list(profile.biases),
            "seeds": profile.seeds,
            "variant": v,
            "pretrained": True,
        }
        n = profile.seeds * len(profile.biases)
        cells.append(Cell(f"pretrain {v}", "pretrain", spec, ("curves",), n * config.pretraining.steps))
        for b in profile.benchmarks:
            tuning = replace(
                config,
                finetuning=replace(config.finetuning, steps=profile.marks[b][-1]),
                film_thickness=BENCHMARKS[b].film,
            )
            spec = spec | {
                "config": tuning.to_dict(),
                "benchmark": b,
                "marks": list(profile.marks[b]),
                "inner": profile.inner,
            }
            needs = (f"pretrain {v}", *(membranes_name(b, h) for h in BENCHMARKS[b].held_out))
            members = len(_members(BENCHMARKS[b], profile.seeds, profile.inner))
            cells.append(
                Cell(
                    f"{b} finetune {v}",
                    "finetune",
                    spec,
                    needs,
                    members * len(profile.biases) * profile.marks[b][-1],
                )
            )
    config = profile.config(MAIN)
    if profile.sweep_steps:
        short = replace(config, compiled=False, pretraining=replace(config.pretraining, steps=profile.sweep_steps))
        spec = {"config": short.to_dict(), "seeds": profile.inner}
        cells.append(
            Cell("attention sweep", "sweep", spec, ("curves",), len(SWEEP) * profile.inner * profile.sweep_steps)
        )
        cells.append(
            Cell(
                TABLES["recipes"],
                "recipes",
                spec | {"seeds": profile.seeds},
                ("curves",),
                len(RECIPES) * profile.seeds * profile.sweep_steps,
            )
        )
    if profile.trials and "nf270" in profile.benchmarks:
        b = BENCHMARKS["nf270"]
        spec = {
            "config": CORRECTION.to_dict(),
            "biases": ["hard"],
            "seeds": profile.seeds,
            "inner": profile.inner,
            "variant": CORRECTED,
            "pretrained": False,
            "benchmark": b.name,
            "marks": list(profile.marks[b.name]),
        }
        n = sum(1 for m in _members(b, profile.seeds, profile.inner) if not m[2])
        cells.append(
            Cell(
                f"{b.name} correction",
                "finetune",
                spec,
                tuple(membranes_name(b.name, h) for h in b.held_out),
                n * profile.marks[b.name][-1],
            )
        )
    if profile.ablate:
        spec = {"config": config.to_dict(), "seeds": profile.inner}
        needs = (
            "curves",
            f"pretrain {MAIN}",
            *(membranes_name("nf270", h) for h in BENCHMARKS["nf270"].held_out if len(h) == 2),
        )
        cells.append(Cell(TABLES["ablation"], "ablation", spec, needs, len(ABLATIONS) * config.finetuning.steps))
        cells.append(
            Cell(
                TABLES["start"],
                "start",
                spec,
                needs,
                profile.inner * config.pretraining.steps + 2 * config.finetuning.steps,
            )
        )
    return cells


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

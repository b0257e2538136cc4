"""Stored tables: collected, written, read"""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ion_ode.core import InputError
from ion_ode.results.benchmarks import BENCHMARKS
from ion_ode.closure import tables_digest
from ion_ode.results.cells import code_hash, read_cell
from ion_ode.results.contestants import PORE_MODEL, Profile
from ion_ode.results.draws import draw_table, rollouts
from ion_ode.results.heldout import ablation_table, contest
from ion_ode.results.probes import attention_tables, exact_checks, onset_table, smoothness
from ion_ode.results.scores import scoreboard
from ion_ode.results.trial_scores import floor_table, trial_table
from ion_ode.store import asset, atomic_write, provenance
from ion_ode.training.recipe import TrainConfig, build


TABLES = (
    "predictions",
    "scores",
    "floor",
    "units",
    "steps",
    "rollouts",
    "draws",
    "attention",
    "removal",
    "onset",
    "smoothness",
    "checks",
    "ablation",
    "pretraining",
    "sweep",
    "fits",
    "trials",
    "membranes",
)


def collect(
    profile: Profile,  # What was computed
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> tuple[dict[str, pd.DataFrame], dict]:  # Tables by name, provenance
    "All tables that figures and text are made from. The test parts are read here."
    pred, steps = contest(folder, keys)
    scores, units = scoreboard(pred)
    rows, fits, drawn, cost, commits = [], [], [], {}, set()
    for name in keys:
        record = read_cell(folder, name, keys[name])[1]
        commits.add(record["commit"])
        cost[name] = record["cpu_s"]
        if f" {PORE_MODEL} without " in name:
            fits.append(
                {
                    "benchmark": name.split()[0],
                    "fold": name.split()[-1],
                    **record["parameters"],
                    "rmse_train": record["rmse_train"],
                }
            )
        if "n_effective" in record:
            drawn.append({"cell": name, **{k: record[k] for k in ("n_effective", "membranes", "log_evidence")}})
        if name.startswith("pretrain "):
            model = name.removeprefix("pretrain ")
            size = sum(
                p.numel()
                for p in build(
                    replace(TrainConfig.from_dict(record["spec"]["config"]), compiled=False), [0]
                ).params.values()
            )
            rows += [{"model": model, "parameters": size, **u} for u in record["unseen"]]
    short = profile.recipe.pretraining.steps < 100
    attention, removal = attention_tables(folder, keys, **({"steps": 4, "seeds": 2} if short else {}))
    tables = {
        "predictions": pred[pred["rule"].isin(["", "chosen"])].drop(columns="attention"),
        "scores": scores,
        "units": units[(units.scored == "single") & units["rule"].isin(["", "chosen", "none", "last"])],
        "steps": steps,
        "rollouts": rollouts(folder, keys),
        "draws": draw_table(folder, keys),
        "attention": attention,
        "removal": removal,
        "onset": onset_table(folder, keys),
        "smoothness": smoothness(folder, keys),
        "checks": exact_checks(folder, keys),
        "ablation": ablation_table(folder, keys) if "nf270 ablation" in keys else pd.DataFrame({"way": []}),
        "pretraining": pd.DataFrame(rows),
        "floor": floor_table(folder, keys),
        "sweep": pd.DataFrame(
            read_cell(folder, "attention sweep", keys["attention sweep"])[1]["rows"]
            if "attention sweep" in keys
            else [],
            columns=["d_k", "encoding", "seed", "parameters", "median", "within_95"],
        ),
        "membranes": pd.DataFrame(drawn, columns=["cell", "n_effective", "membranes", "log_evidence"]),
        "fits": pd.DataFrame(fits, columns=None if fits else ["fold"]),
        "trials": trial_table(folder, keys)
        if profile.trials
        else pd.DataFrame(columns=["way", "fold", "composition", "mse_R"]),
    }
    meta = provenance(
        seed=profile.recipe.seed, profile=profile.name, data=tables_digest(), code=code_hash(),
            recipe=profile.recipe.to_dict(), seeds=profile.seeds,
        cells_commit=sorted(commits), cpu_seconds=cost, cpu_seconds_total=round(sum(cost.values()),
            1), data_kind={b: BENCHMARKS[b].data_kind for b in pred.benchmark.unique()},
    )  # fmt: skip
    return tables, meta


def write_tables(
    tables: dict[str, pd.DataFrame],  # From `collect`
    meta: dict,  # Provenance
    folder: str | Path,  # Where they go
) -> None:
    "Tables as CSV (predictions compressed), provenance and the lock of the test parts as JSON."
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        if name == "predictions":
            tables[name].to_csv(
                folder / "predictions.csv.gz",
                index=False,
                float_format="%.5g",
                compression={"method": "gzip", "mtime": 1},
            )
        else:
            atomic_write(folder / f"{name}.csv", tables[name].to_csv(index=False, float_format="%.7g"))
    atomic_write(folder / "meta.json", json.dumps(meta, indent=1, sort_keys=True) + "\n")
    atomic_write(
        folder / "test_parts_read.json",
        json.dumps({k: meta[k] for k in ("read", "commit", "code", "data", "profile")}, indent=1) + "\n",
    )


def read_tables(
    folder: str
    | Path
    | None = None,  # Folder written by `write_tables`; None: the results that ship with the package
) -> tuple[dict[str, pd.DataFrame], dict]:  # Tables by name, provenance
    "Stored tables and where they come from."
    folder = asset("results") if folder is None else Path(folder)
    files = {n: folder / f"{n}.csv{'.gz' if n == 'predictions' else ''}" for n in TABLES}
    missing = [f.name for f in files.values() if not f.exists()]
    if missing:
        raise InputError(
            f"{folder.name} lacks {', '.join(missing)}; compute the results with reproduce('full') and store them"
        )
    numbers = {
        "seed_sd": "",
        "mse_R": "",
        "in_sample": "",
        "value": "",
        "change": "",
        "change_pore": "",
        "error": "",
        "roughness": "",
    }
    tables = {n: pd.read_csv(f, keep_default_na=False, na_values=numbers) for n, f in files.items()}
    return tables, json.loads((folder / "meta.json").read_text())

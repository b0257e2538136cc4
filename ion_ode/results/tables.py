"""Stored tables: collected, written, read"""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ion_ode.core import InputError
from ion_ode.results.benchmarks import BENCHMARKS
from ion_ode.closure import tables_digest
from ion_ode.cells import code_hash, read_cell
from ion_ode.results.chosen import choice_table
from ion_ode.results.contestants import Profile
from ion_ode.results.heldout import ablation_table, contest
from ion_ode.results.probes import attention_tables, exact_checks, onset_table, smoothness
from ion_ode.results.protocol import FOUR_FITTED, SECOND
from ion_ode.results.rollouts import rollouts
from ion_ode.results.scores import scoreboard
from ion_ode.results.tuning import CHOICE
from ion_ode.store import asset, atomic_write, provenance
from ion_ode.training.recipe import TrainConfig, build


TABLES = (
    "predictions",
    "scores",
    "units",
    "rollouts",
    "attention",
    "removal",
    "onset",
    "smoothness",
    "checks",
    "ablation",
    "pretraining",
    "sweep",
    "fits",
    "membranes",
    "choice",
)


def _fits(records: dict) -> pd.DataFrame:
    "Parameters of the four-parameter fits that curves are drawn of."
    rows = [
        {"benchmark": s["benchmark"], "fold": s["held"][0], **r["parameters"], "rmse_train": r["rmse_train"]}
        for r in records.values()
        if (s := r["spec"]).get("model") == FOUR_FITTED
    ]
    return pd.DataFrame(rows, columns=None if rows else ["benchmark", "fold"])


def _pretraining(records: dict) -> pd.DataFrame:
    "Sizes of the networks and their errors on unseen curves."
    rows = []
    for name, record in records.items():
        if name.startswith("pretrain "):
            config = replace(TrainConfig.from_dict(record["spec"]["config"]), compiled=False)
            size = sum(p.numel() for p in build(config, [0]).params.values())
            rows += [{"model": name.removeprefix("pretrain "), "parameters": size, **u} for u in record["unseen"]]
    return pd.DataFrame(rows)


def _sweep(folder, keys) -> pd.DataFrame:
    rows = read_cell(folder, "attention sweep", keys["attention sweep"])[1]["rows"] if "attention sweep" in keys else []
    return pd.DataFrame(rows, columns=["d_k", "encoding", "seed", "parameters", "median", "within_95"])


def collect(
    profile: Profile,  # What was computed
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> tuple[dict[str, pd.DataFrame], dict]:  # Tables by name, provenance
    "All tables that figures and text are made from. The test parts are read here."
    pred, records = contest(folder, keys), {n: read_cell(folder, n, keys[n])[1] for n in keys}
    scores, units = scoreboard(pred)
    cost = {n: r["cpu_s"] for n, r in records.items()}
    drawn = [
        {"cell": n, **{k: r[k] for k in ("n_effective", "membranes", "log_evidence")}}
        for n, r in records.items()
        if "n_effective" in r
    ]
    short = profile.recipe.pretraining.steps < 100
    attention, removal = attention_tables(folder, keys, **({"steps": 4, "seeds": 2} if short else {}))
    tables = {
        "predictions": pred.drop(columns="attention"),
        "scores": scores,
        "units": units[units.scored == "single"],
        "rollouts": rollouts(folder, keys),
        "attention": attention,
        "removal": removal,
        "onset": onset_table(folder, keys),
        "smoothness": smoothness(folder, keys),
        "checks": exact_checks(folder, keys),
        "ablation": ablation_table(folder, keys) if "nf270 ablation" in keys else pd.DataFrame({"way": []}),
        "pretraining": _pretraining(records),
        "sweep": _sweep(folder, keys),
        "membranes": pd.DataFrame(drawn, columns=["cell", "n_effective", "membranes", "log_evidence"]),
        "fits": _fits(records),
        "choice": choice_table(folder, keys) if CHOICE in keys else pd.DataFrame({"benchmark": []}),
    }
    meta = provenance(
        seed=profile.recipe.seed, profile=profile.name, data=tables_digest(),
            code=code_hash({r["kind"] for r in records.values()}),
            recipe=profile.recipe.to_dict(), seeds=profile.seeds,
        cells_commit=sorted({r["commit"] for r in records.values()}), cpu_seconds=cost,
            cpu_seconds_total=round(sum(cost.values()), 1),
            data_kind={b: BENCHMARKS[b].data_kind for b in pred.benchmark.unique()},
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


def read_draws() -> pd.Series:  # (split, model, run) -> mean squared error over folds
    "What the likeliest membrane and the mean over membranes are worth, run by run of the sampler."
    rows = json.loads(asset("likeliest_runs.json").read_text())["rows"]
    return pd.DataFrame(rows).groupby(["split", "model", "run"]).mse.mean()


def with_entrants(
    tables: dict[str, pd.DataFrame],  # From `collect` or `read_tables`
    board: dict[str, pd.DataFrame],  # Of `read_board`
) -> dict[str, pd.DataFrame]:
    "The tables with the protocol's entrants beside the networks: their predictions and scores."
    split = {b.split: b.name for b in BENCHMARKS.values() if b.split and b.name in set(tables["scores"].benchmark)}
    d = board["board"][lambda t: (t.model != SECOND) & t.split.isin(split)]
    told = d[["row_id", "model", "fold", "predicted"]].assign(benchmark=d.split.map(split), spread=0.0, seed=0)
    told = told.assign(bias="", rule="", pretrained="")
    scores, units = scoreboard(told)
    more = {"predictions": told, "scores": scores, "units": units}
    return tables | {n: pd.concat([tables[n], t], ignore_index=True) for n, t in more.items()}


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
    columns = ("seed_sd", "mse_R", "value", "change", "change_pore", "error", "roughness", "outside")
    numbers = dict.fromkeys(columns, "")
    tables = {n: pd.read_csv(f, keep_default_na=False, na_values=numbers) for n, f in files.items()}
    return tables, json.loads((folder / "meta.json").read_text())

"""Stored tables: collected, written, read"""

import json
from pathlib import Path

import pandas as pd

from ion_ode.core import InputError
from ion_ode.store import asset, atomic_write

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

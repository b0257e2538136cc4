"""What can be computed again by name: `ion-ode reproduce --only NAME`, and with `--store` written where it ships"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ion_ode
from ion_ode.core import InputError
from ion_ode.results import surrogate
from ion_ode.results.board import answers_digest, board_cells, collect_board, write_board
from ion_ode.cells import cell_keys, only_for, read_cell, run_cells
from ion_ode.results.heldout import TABLES
from ion_ode.results.plan import PROFILES, plan_cells, store
from ion_ode.results.seal import key_here, network_probe, seal
from ion_ode.results.run import make_networks
from ion_ode.results.claims import metrics
from ion_ode.results.tables import read_tables, write_tables
from ion_ode.store import atomic_write, provenance
from ion_ode.results.twin import store_twin, store_twin_fit

_ASSETS = Path(ion_ode.__file__).parent / "assets"
_EXPERIMENT = ("twin.csv", "twin.json")
_TWIN_FILES = ("twin_fit.csv", "twin_fit.json")


def _store_tables(
    folder: Path,  # `tables` of a full run
    target: Path,  # Where tables and claims.json ship
) -> Path:  # claims.json
    "Tables of a run and the claims that they bear."
    tables, meta = read_tables(folder)
    if folder != target:
        write_tables(tables, meta, target)
        if target == _ASSETS / "results":
            seal("networks", key_here("networks"), probe=network_probe())
    return atomic_write(
        target / "claims.json", json.dumps(metrics(tables, meta)[0], indent=1, sort_keys=True) + "\n"
    )


@dataclass(frozen=True)
class _Part:
    "Something that is computed and stored under one name."

    what: str  # In words
    run: Callable[..., object]  # (folder, profile, workers, scheduler), resumes from the folder
    store: Callable[[Path, str], object]  # (folder, profile) into the assets of the package


def _comparison(table: str) -> _Part:
    "A table of training inside the folds."
    cells = lambda profile: only_for(plan_cells(PROFILES[profile]), TABLES[table])
    where = lambda folder, profile: Path(folder) / "cells" / profile

    def run(folder, profile, workers, scheduler):
        return run_cells(cells(profile), where(folder, profile), workers, scheduler)

    def keep(folder, profile):
        keys = cell_keys(cells(profile))
        return store(PROFILES[profile], where(folder, profile), keys, _ASSETS / "results", f"training_{table}")

    return _Part(f"table of training: {TABLES[table]}", run, keep)


def _run_board(folder, profile, workers, scheduler):
    "Every fold of the comparison, a cell each."
    return run_cells(board_cells(), Path(folder) / "cells" / profile, workers, scheduler)


def _keep_board(folder, profile) -> Path:
    "Tables of the comparison, what they were made by, and their seal."
    cells, where = board_cells(), Path(folder) / "cells" / profile
    keys = cell_keys(cells)
    write_board(collect_board(lambda name: read_cell(where, name, keys[name])[1]), _ASSETS / "results")
    facts = provenance(seed=0, key=key_here("board"), answers=answers_digest(), cells=keys)
    atomic_write(_ASSETS / "results" / "board.json", json.dumps(facts, indent=1, sort_keys=True) + "\n")
    seal("board", key_here("board"))
    return _store_tables(_ASSETS / "results", _ASSETS / "results")


def _keep_networks(folder: Path) -> Path:
    "Tables, weights and seal of the networks."
    weights = _ASSETS / "weights"
    for old in weights.glob("nf270-network*"):
        old.unlink()
    for new in (folder / "weights").glob("nf270-network*"):
        atomic_write(weights / new.name, new.read_bytes())
    return _store_tables(folder / "tables", _ASSETS / "results")


def _effort(profile: str) -> str:
    return "full" if profile == "full" else "smoke"


PARTS = {
    "board": _Part("whole compositions and whole laboratories held out, all entrants", _run_board, _keep_board),
    **{table: _comparison(table) for table in TABLES},
    "surrogate": _Part(
        "networks that stand in for the pore model",
        lambda folder, profile, workers, scheduler: surrogate.run(
            Path(folder) / "surrogate", _effort(profile), scheduler
        ),
        lambda folder, profile: surrogate.store(Path(folder) / "surrogate", _effort(profile)),
    ),
    "experiment": _Part(
        "the synthetic experiment",
        lambda folder, profile, workers, scheduler: store_twin(folder),
        lambda folder, profile: [atomic_write(_ASSETS / f, (folder / f).read_bytes()) for f in _EXPERIMENT][-1],
    ),
    "twin": _Part(
        "the four-parameter fit of the synthetic experiment",
        lambda folder, profile, workers, scheduler: store_twin_fit(folder, 4 if profile == "full" else 1),
        lambda folder, profile: [atomic_write(_ASSETS / f, (folder / f).read_bytes()) for f in _TWIN_FILES][-1],
    ),
    "networks": _Part(
        "the eight networks and those that ship, their tables and claims",
        lambda folder, profile, workers, scheduler: make_networks(folder, profile, workers, scheduler),
        lambda folder, profile: _keep_networks(Path(folder)),
    ),
}


def reproduce_part(
    name: str,  # Key of PARTS
    folder: str | Path = "results",  # Where it is computed, and taken up again
    profile: str = "full",  # Key of PROFILES
    workers: int | None = None,  # Processes, one thread each
    scheduler: str | None = None,  # Address of a Dask scheduler
    keep: bool = False,  # Write the result where it ships
):
    "Compute one part again; run again, it goes on where it was."
    if name not in PARTS:
        raise InputError(f"there is no part {name!r}; expected one of {', '.join(PARTS)}")
    if keep and profile != "full":
        raise InputError(f"--store replaces what ships, and profile {profile} is a short one; add --profile full")
    made = PARTS[name].run(Path(folder), profile, workers or 1, scheduler)
    return PARTS[name].store(Path(folder), profile) if keep else made

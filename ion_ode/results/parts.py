"""What can be computed again by name: `ion-ode reproduce --only NAME`, and with `--store` written where it ships"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import ion_ode
from ion_ode.cells import only_for, read_cell
from ion_ode.closure import Cell
from ion_ode.core import InputError
from ion_ode.inference.acidity import acidity_cells, write_acidity
from ion_ode.inference.build import answer_cells, write_answers, write_scores
from ion_ode.prequalify.campaign_study import campaign_cells, write_campaign
from ion_ode.results import surrogate
from ion_ode.results.board import answers_digest, board_cells, collect_board, write_board
from ion_ode.results.claims import metrics
from ion_ode.results.heldout import TABLES
from ion_ode.results.network_probe import network_probe
from ion_ode.results.plan import PROFILES, plan_cells, store
from ion_ode.results.run import network_cells, write_networks
from ion_ode.results.seal import key_here, seal
from ion_ode.results.standins import EFFORTS, standin_cells
from ion_ode.results.tables import read_tables
from ion_ode.results.twin import store_twin, twin_fit_cells, write_twin_fit
from ion_ode.runner import run_cells
from ion_ode.store import atomic_write, provenance
from ion_ode.training.reader import reader_cells, write_reader

__all__ = ["reproduce_part"]

_ASSETS = Path(ion_ode.__file__).parent / "assets"


@dataclass(frozen=True)
class _Run:
    "Where a part is computed, and how."

    folder: Path  # Of its cells
    profile: str  # "full", or a short one
    workers: int = 0
    scheduler: str | None = None
    keys: dict[str, str] | None = None  # Of its cells, once they are computed

    @property
    def full(self) -> bool:
        return self.profile == "full"

    @property
    def effort(self) -> str:
        return "full" if self.full else "smoke"

    def read(self, name: str) -> tuple[dict, dict]:
        "Tensors and facts of a cell."
        return read_cell(self.folder, name, self.keys[name])


@dataclass(frozen=True)
class _Part:
    "Something that is computed and stored under one name."

    what: str  # In words
    cells: Callable[[_Run], list[Cell]]
    write: Callable[[_Run, Path], object]  # (run, target) tables and weights into a folder laid out as the assets
    before: Callable[[_Run], object] = lambda run: None  # What cells find in the folder
    ship: Callable[[], object] = lambda: None  # What else is made anew once the assets hold it


def _claims() -> Path:
    "The claims that the tables bear."
    target = _ASSETS / "results"
    record = metrics(*read_tables(target))[0]
    return atomic_write(target / "claims.json", json.dumps(record, indent=1, sort_keys=True) + "\n")


def _comparison(table: str) -> _Part:
    "A table of training inside the folds."
    cells = lambda run: only_for(plan_cells(PROFILES[run.profile]), TABLES[table])
    write = lambda run, target: store(
        PROFILES[run.profile], run.folder, run.keys, target / "results", f"training_{table}"
    )
    return _Part(f"table of training: {TABLES[table]}", cells, write)


def _write_board(run: _Run, target: Path) -> Path:
    "Tables of the comparison, and what they were made by."
    write_board(collect_board(lambda name: run.read(name)[1]), target / "results")
    facts = provenance(seed=0, key=key_here("board"), answers=answers_digest(), cells=run.keys)
    return atomic_write(target / "results" / "board.json", json.dumps(facts, indent=1, sort_keys=True) + "\n")


def _ship_board() -> Path:
    seal("board", key_here("board"))
    return _claims()


def _ship_networks() -> Path:
    seal("networks", key_here("networks"), probe=network_probe())
    return _claims()


def _write_acidity(run: _Run, target: Path) -> Path:
    return write_acidity(run.read, None if target == _ASSETS else target)


_PARTS = {
    "board": _Part(
        "whole compositions and whole laboratories held out, all entrants",
        lambda run: board_cells(),
        _write_board,
        ship=_ship_board,
    ),
    **{table: _comparison(table) for table in TABLES},
    "surrogate": _Part(
        "networks that stand in for the pore model",
        lambda run: standin_cells(EFFORTS[run.effort]),
        lambda run, target: surrogate.store(run.folder, run.effort, target),
        before=lambda run: surrogate.simulate_sets(run.folder, run.effort, run.workers, run.scheduler),
    ),
    "experiment": _Part("the synthetic experiment", lambda run: [], lambda run, target: store_twin(target)),
    "twin": _Part(
        "the four-parameter fit of the synthetic experiment",
        lambda run: twin_fit_cells(4 if run.full else 1),
        lambda run, target: write_twin_fit(run.read, target),
    ),
    "networks": _Part(
        "the eight networks and those that ship, their tables and claims",
        lambda run: network_cells(run.profile),
        lambda run, target: write_networks(run.profile, run.folder, run.keys, target),
        ship=_ship_networks,
    ),
    "answer": _Part(
        "the samples of membranes that ship, and their scores",
        lambda run: answer_cells(run.full),
        lambda run, target: write_answers(run.read, target / "answers"),
    ),
    "answer-scores": _Part(
        "factors on the errors and scores of the stored samples",
        lambda run: [],
        lambda run, target: write_scores(target / "answers"),
    ),
    "reader": _Part(
        "the network that reads own values",
        lambda run: reader_cells(run.full),
        lambda run, target: write_reader(run.read, target / "answers" / "reader.safetensors"),
    ),
    "acidity": _Part("the charge over pH", lambda run: acidity_cells(), _write_acidity),
    "campaign": _Part(
        "the study of campaigns, and the screen",
        lambda run: campaign_cells(run.full),
        lambda run, target: write_campaign(run.read, target / "prequalify", run.full),
    ),
}


def reproduce_part(
    name: str,  # Key of _PARTS
    folder: str | Path = "results",  # Where it is computed, and taken up again
    profile: str = "full",  # Key of PROFILES
    workers: int | None = None,  # Processes, one thread each
    scheduler: str | None = None,  # Address of a Dask scheduler
    keep: bool = False,  # Write the result where it ships
) -> Path:  # Folder of what was made, laid out as the assets of the package
    "Compute one part again; run again, it goes on where it was."
    if name not in _PARTS:
        raise InputError(f"there is no part {name!r}; expected one of {', '.join(_PARTS)}")
    if keep and profile != "full":
        raise InputError(f"--store replaces what ships, and profile {profile} is a short one; add --profile full")
    part, target = _PARTS[name], _ASSETS if keep else Path(folder) / "made"
    run = _Run((Path(folder) / "cells" / profile).resolve(), profile, workers or 0, scheduler)
    cells = part.cells(run)
    part.before(run)
    run = replace(run, keys=run_cells(cells, run.folder, run.workers, scheduler))
    part.write(run, target)
    if keep:
        part.ship()
    return target

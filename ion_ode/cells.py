"""Cells of computation, each kept under the key of what made it

A function is registered by `closure.cell`. Its cells are computed once: the key of a cell is its specification, the
code that the function can reach, tables, versions, and the keys of what it builds on. `runner` computes them."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from torch import Tensor

from ion_ode.closure import CELLS, Cell, code_digest, fingerprint, tables_digest
from ion_ode.core import InputError
from ion_ode.store import CheckpointError, clear_checkpoints, digest, provenance, read_checkpoint, write_checkpoint

__all__ = ["Stored", "cell_keys", "code_hash", "only_for", "read_cell"]


def code_hash(
    kinds: Iterable[str],  # Of cells
) -> str:
    "Digest of all code that cells of these kinds can reach."
    return digest({kind: code_digest(CELLS[kind]) for kind in kinds} | {"data": tables_digest()})


def cell_keys(
    cells: list[Cell],  # As planned
) -> dict[str, str]:  # name -> key
    "Key of every cell: its specification, the code it can reach, data and versions, and the keys of what it needs."
    keys, made_of = {}, {k: fingerprint(CELLS[k]) for k in dict.fromkeys(c.kind for c in cells)}
    for c in cells:
        made = {"spec": c.spec, "kind": c.kind, **made_of[c.kind]}
        keys[c.name] = digest(made | {"needs": [keys[n] for n in c.needs]})
    return keys


def _cell_path(folder, name: str) -> Path:
    return Path(folder) / name.replace(" ", "_").replace("+", "and") / "latest.json"


def read_cell(
    folder: str | Path,  # Folder of the cells
    name: str,  # Name of the cell
    key: str,  # Its key, from cell_keys
) -> tuple[dict[str, Tensor], dict]:  # Tensors and facts
    "A stored cell; one that is missing, damaged or of another key is refused."
    return read_checkpoint(_cell_path(folder, name), key=key)


def _store_cell(folder: str, cell: Cell, key: str, needs: dict[str, str], function: Callable, tick: Callable) -> None:
    "Compute one cell and write it where all workers see it."
    found = lambda name: read_cell(folder, name, needs[name])
    started = time.process_time()
    tensors, record = function(folder, cell.spec | {"key": key}, found, tick)
    record |= {
        "key": key,
        "kind": cell.kind,
        "spec": cell.spec,
        "cpu_s": round(time.process_time() - started, 1),
        **provenance(seed=0),
    }
    write_checkpoint(_cell_path(folder, cell.name).parent, tensors, record)


class Stored:
    "Cells as checkpoints, written by the worker that computed them into a folder that all workers see."

    def __init__(self, folder: str | Path, keys: dict[str, str]):
        self.folder, self.keys = str(Path(folder).resolve()), keys

    def has(self, cell: Cell) -> bool:
        "Whether the cell is there, whole and of this key."
        try:
            _, record = read_cell(self.folder, cell.name, self.keys[cell.name])
        except CheckpointError:
            return False
        clear_checkpoints(_cell_path(self.folder, cell.name), record["file"])
        return True

    def job(self, cell: Cell) -> Callable:  # Of the cell's function and a tick; goes to a worker
        "What has to be done for it."
        needs = {n: self.keys[n] for n in cell.needs}
        return partial(_store_cell, self.folder, cell, self.keys[cell.name], needs)

    def keep(self, cell: Cell, made) -> None:
        "What came back of it: nothing, the worker has written it."


def only_for(
    cells: list[Cell],  # As planned
    name: str,  # A cell's name
) -> list[Cell]:  # In the same order
    "A cell and what it needs, directly or not."
    wanted = {name}
    for c in reversed(cells):
        if c.name in wanted:
            wanted.update(c.needs)
    if missing := wanted - {c.name for c in cells}:
        raise InputError(f"this profile has no cell {', '.join(sorted(missing))}; take another profile")
    return [c for c in cells if c.name in wanted]

"""Cells of computation that resume: each is a file keyed by what it was computed from"""

import multiprocessing
import os
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ion_ode.closure import changed, code_digest, fingerprint, tables_digest
from ion_ode.core import InputError, WorkersLost, progress
from ion_ode.data.workers import KEPT, awaited, client_of
from ion_ode.results.board import _cell_board
from ion_ode.results.contestants import _cell_curves, _cell_finetune, _cell_membranes, _cell_pretrain, _cell_rival
from ion_ode.results.trials import _cell_ablation, _cell_recipes, _cell_start, _cell_sweep
from ion_ode.store import CheckpointError, clear_checkpoints, digest, provenance, read_checkpoint, write_checkpoint


_CELLS = {
    "curves": _cell_curves,
    "membranes": _cell_membranes,
    "rival": _cell_rival,
    "pretrain": _cell_pretrain,
    "finetune": _cell_finetune,
    "ablation": _cell_ablation,
    "start": _cell_start,
    "sweep": _cell_sweep,
    "recipes": _cell_recipes,
    "board": _cell_board,
}


def code_hash() -> str:
    "Digest of all code that the cells can reach."
    return digest({kind: code_digest(f) for kind, f in _CELLS.items()} | {"data": tables_digest()})


@dataclass(frozen=True)
class Cell:
    "One piece of work."

    name: str  # Unique, readable
    kind: str  # Key of _CELLS
    spec: dict  # Everything it depends on
    needs: tuple[str, ...] = ()  # Names of cells it builds on
    cost: int = 1  # Ticks it will report


def cell_keys(
    cells: list[Cell],  # As planned
) -> dict[str, str]:  # name -> key
    "Key of every cell: its specification, the code it can reach, data and versions, and the keys of what it needs."
    keys, made_of = {}, {k: fingerprint(_CELLS[k]) for k in dict.fromkeys(c.kind for c in cells)}
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


def _run_cell(folder: str, cell: Cell, keys: dict[str, str], ticks=None, made_of: dict | None = None, after=()) -> str:
    "Compute one cell and store it; runs in a worker process, which must be of the version that asked for it."
    if other := changed(made_of, fingerprint(_CELLS[cell.kind])):
        raise InputError(
            f"a worker computes with other {' and '.join(other)}; give all workers the version of this process"
        )
    torch.set_num_threads(1)
    os.environ["ION_ODE_NO_PROGRESS"] = "1"
    sent = {"n": 0, "at": time.monotonic()}

    def tick(n):
        sent["n"] += n
        if ticks is not None and time.monotonic() - sent["at"] > 0.5:
            ticks.put((cell.name, sent["n"]))
            sent.update(n=0, at=time.monotonic())

    found = lambda name: read_cell(folder, name, keys[name])
    started = time.process_time()
    tensors, record = _CELLS[cell.kind](folder, cell.spec | {"key": keys[cell.name]}, found, tick)
    record |= {
        "key": keys[cell.name],
        "spec": cell.spec,
        "cpu_s": round(time.process_time() - started, 1),
        **provenance(seed=0),
    }
    path = _cell_path(folder, cell.name)
    write_checkpoint(path.parent, tensors, record)
    if ticks is not None:
        ticks.put((cell.name, None))
    return cell.name


def run_cells(
    cells: list[Cell],  # What to compute
    folder: str | Path,  # Where results are kept
    workers: int = 2,  # Processes, one thread each; 0 computes here
    scheduler: str
    | None = None,  # Address of a Dask scheduler, such as tcp://head:8786; its workers must see `folder`
) -> dict[str, str]:  # name -> key of every cell
    "Compute what is missing or no longer valid; the rest is reused."
    folder, keys = str(Path(folder).resolve()), cell_keys(cells)
    todo = {}
    for c in cells:
        try:
            _, record = read_cell(folder, c.name, keys[c.name])
            clear_checkpoints(_cell_path(folder, c.name), record["file"])
        except CheckpointError:
            todo[c.name] = c
    total = sum(c.cost for c in cells)
    bar = progress(desc=f"{len(cells) - len(todo)} of {len(cells)} cells found", total=total)
    bar.update(total - sum(c.cost for c in todo.values()))
    if scheduler:
        _on_cluster(todo, folder, keys, scheduler, bar)
    elif workers == 0:
        for c in todo.values():
            bar.set_description(c.name)
            _run_cell(folder, c, keys)
            bar.update(c.cost)
    else:
        _here(todo, folder, keys, workers, bar)
    bar.close()
    return keys


def _urgency(todo: dict[str, Cell]) -> dict[str, int]:
    "Cost of a cell and of the longest chain that waits for it."
    out = {}
    for name in reversed(list(todo)):
        after = [out[c.name] for c in todo.values() if name in c.needs]
        out[name] = todo[name].cost + max(after, default=0)
    return out


def _here(todo: dict[str, Cell], folder: str, keys: dict[str, str], workers: int, bar):
    "Cells in processes of this machine."
    context, urgency = multiprocessing.get_context("spawn"), _urgency(todo)
    moved, waiting, running = dict.fromkeys(todo, 0), dict(todo), {}
    with context.Manager() as manager, ProcessPoolExecutor(workers, context) as pool:
        ticks = manager.Queue()
        while waiting or running:
            ready = [c for c in waiting.values() if not any(n in waiting or n in running for n in c.needs)]
            for c in sorted(ready, key=lambda c: -urgency[c.name])[: workers - len(running)]:
                running[c.name] = pool.submit(_run_cell, folder, waiting.pop(c.name), keys, ticks)
            wait(running.values(), timeout=0.5, return_when=FIRST_COMPLETED)
            while not ticks.empty():
                name, n = ticks.get()
                step = todo[name].cost - moved[name] if n is None else min(n, todo[name].cost - moved[name])
                moved[name] += step
                bar.update(step)
            for name in [k for k, f in running.items() if f.done()]:
                try:
                    running.pop(name).result()
                except BrokenProcessPool as e:
                    raise WorkersLost(
                        f"a process that computed {name} was ended from outside, perhaps for want of memory; {KEPT}"
                    ) from e
            bar.set_description(" | ".join(sorted(running)) or "done")


def _on_cluster(todo: dict[str, Cell], folder: str, keys: dict[str, str], scheduler: str, bar):
    "Cells on the workers of a Dask scheduler; a cell whose worker is lost goes to another."
    made_of = {k: fingerprint(_CELLS[k]) for k in {c.kind for c in todo.values()}}
    with client_of(scheduler) as client:
        futures = {}
        for c in todo.values():
            needs = [futures[n] for n in c.needs if n in futures]
            futures[c.name] = client.submit(
                _run_cell, folder, c, keys, None, made_of[c.kind], needs, pure=False, retries=3, priority=c.cost
            )
        for name in awaited(client, set(futures.values())):
            bar.set_description(name)
            bar.update(todo[name].cost)


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

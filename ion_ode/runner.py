"""Computes what a store does not have, each cell after those it needs: here, in processes, or on Dask"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from pathlib import Path

import torch

from ion_ode.cells import Stored, cell_keys
from ion_ode.closure import CELLS, Cell, changed, fingerprint
from ion_ode.core import InputError, WorkersLost, progress
from ion_ode.workers import KEPT, awaited, client_of, n_workers

__all__ = ["compute", "run_cells"]


# ---- what a worker does


@contextmanager
def _alone():
    "One thread and no further progress bars, as in every worker."
    threads, shown = torch.get_num_threads(), os.environ.get("ION_ODE_NO_PROGRESS")
    torch.set_num_threads(1)
    os.environ["ION_ODE_NO_PROGRESS"] = "1"
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if shown is None:
            del os.environ["ION_ODE_NO_PROGRESS"]


@lru_cache(maxsize=None)
def _own(function: Callable) -> dict[str, str]:
    "Fingerprint of a function as this process has loaded it: files may change while it runs."
    return fingerprint(function)


@dataclass(frozen=True)
class _Job:
    "A cell on its way to a worker, which must be of the version that asked for it."

    cell: Cell
    function: Callable  # Of CELLS
    made_of: dict[str, str]  # Its fingerprint where it was asked for
    do: Callable  # From the store

    def __call__(self, ticks=None):
        if other := changed(self.made_of, _own(self.function)):
            raise InputError(
                f"a worker computes with other {' and '.join(other)}; give all workers the version of this process"
            )
        sent = {"n": 0, "at": time.monotonic()}

        def tick(n):
            sent["n"] += n
            if ticks is not None and time.monotonic() - sent["at"] > 0.5:
                ticks.put((self.cell.name, sent["n"]))
                sent.update(n=0, at=time.monotonic())

        with _alone():
            return self.do(self.function, tick)


# ---- what is next


def _urgency(todo: dict[str, Cell]) -> dict[str, int]:
    "Cost of a cell and of the longest chain that waits for it."
    out, after = {}, dict.fromkeys(todo, 0)
    for c in reversed(list(todo.values())):
        out[c.name] = c.cost + after[c.name]
        for n in c.needs:
            if n in after:
                after[n] = max(after[n], out[c.name])
    return out


class _Order:
    "Cells whose needs are met, the one with the longest chain behind it first."

    def __init__(self, todo: dict[str, Cell], store):
        self.todo, self.store, self.ready = todo, store, []
        self.rank = {n: (-u, k) for k, (n, u) in enumerate(reversed(_urgency(todo).items()))}
        self.made_of = {k: fingerprint(CELLS[k]) for k in {c.kind for c in todo.values()}}
        self.graph = TopologicalSorter({n: [m for m in c.needs if m in todo] for n, c in todo.items()})
        self.graph.prepare()

    def next(self) -> _Job | None:
        "What can be begun, if anything can."
        for name in self.graph.get_ready():
            heappush(self.ready, (self.rank[name], name))
        if not self.ready:
            return None
        c = self.todo[heappop(self.ready)[1]]
        return _Job(c, CELLS[c.kind], self.made_of[c.kind], self.store.job(c))

    def some(self, most: int) -> Iterator[_Job]:
        "As many as can be begun, and no more than so many."
        while most > 0 and (job := self.next()) is not None:
            yield job
            most -= 1


class _Bar:
    "Progress over all cells, within each as far as it tells."

    def __init__(self, cells: list[Cell], todo: dict[str, Cell]):
        total, self.cost = sum(c.cost for c in cells), {n: c.cost for n, c in todo.items()}
        self.bar = progress(desc=f"{len(cells) - len(todo)} of {len(cells)} cells found", total=total)
        self.bar.update(total - sum(self.cost.values()))

    def put(self, told: tuple[str, int]) -> None:
        "Ticks of a cell that is being computed."
        name, n = told
        step = min(n, self.cost[name])
        self.cost[name] -= step
        self.bar.update(step)

    def done(self, name: str) -> None:
        self.bar.update(self.cost[name])

    def at(self, names: Iterable[str]) -> None:
        self.bar.set_description(" | ".join(sorted(names)) or "done")


# ---- where it is done: each yields name and result as a cell ends, and goes on when that has been taken


def _here(order: _Order, bar: _Bar) -> Iterator[tuple]:
    "In this process."
    while (job := order.next()) is not None:
        bar.at([job.cell.name])
        yield job.cell.name, job(bar)


def _in_processes(order: _Order, bar: _Bar, workers: int) -> Iterator[tuple]:
    "In processes of this machine."
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(workers, context) as pool:
        ticks, running = manager.Queue(), {}
        while True:
            for job in order.some(workers - len(running)):
                running[pool.submit(job, ticks)] = job.cell.name
            if not running:
                return
            bar.at(running.values())
            ended = wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done
            while not ticks.empty():
                bar.put(ticks.get())
            for future in ended:
                yield running[future], _result(future, running.pop(future))


def _result(future, name: str):
    try:
        return future.result()
    except BrokenProcessPool as e:
        raise WorkersLost(
            f"a process that computed {name} was ended from outside, perhaps for want of memory; {KEPT}"
        ) from e


def _named(job: _Job) -> tuple:
    return job.cell.name, job()


def _on_cluster(order: _Order, bar: _Bar, client) -> Iterator[tuple]:
    "On the workers of a Dask scheduler; a cell whose worker is lost goes to another."
    running = [0]

    def more():
        jobs = list(order.some(max(4, 4 * n_workers(client)) - running[0]))
        running[0] += len(jobs)
        return {client.submit(_named, j, pure=False, retries=3, priority=j.cell.cost) for j in jobs}

    for name, made in awaited(client, more(), more):
        running[0] -= 1
        bar.at([name])
        yield name, made


def compute(
    cells: list[Cell],  # What to compute
    store,  # `Stored`, or what has its methods
    workers: int = 0,  # Processes, one thread each; 0 computes here
    scheduler: str | None = None,  # Address of a Dask scheduler, such as tcp://head:8786
) -> None:
    "Compute what a store does not have, each cell after those it needs; what is made goes to the store as it comes."
    todo = {c.name: c for c in cells if not store.has(c)}
    with client_of(scheduler) if scheduler and todo else nullcontext() as client:  # before a bar that it would cut
        bar, order = _Bar(cells, todo), _Order(todo, store)
        if client:
            ended = _on_cluster(order, bar, client)
        else:
            ended = _in_processes(order, bar, workers) if workers and todo else _here(order, bar)
        for name, made in ended:
            store.keep(todo[name], made)
            order.graph.done(name)
            bar.done(name)
        bar.bar.close()


def run_cells(
    cells: list[Cell],  # What to compute
    folder: str | Path,  # Where results are kept; all workers must see it
    workers: int = 2,  # Processes, one thread each; 0 computes here
    scheduler: str | None = None,  # Address of a Dask scheduler, such as tcp://head:8786
) -> dict[str, str]:  # name -> key of every cell
    "Compute what is missing or no longer valid into a folder; the rest is reused."
    keys = cell_keys(cells)
    compute(cells, Stored(folder, keys), workers, scheduler)
    return keys

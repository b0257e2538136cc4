"""Jobs in this process, in processes of this machine, or on a Dask cluster; results come as they get ready"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

from ion_ode.core import InputError, WorkersLost, need

__all__ = ["KEPT", "awaited", "client_of", "results"]

_CONNECT = "30s"  # How long a scheduler may take to answer
POLL, ALONE = 5, 40  # Seconds between two looks at the workers; seconds without any after which none is expected
KEPT = "what is finished is kept: start the same command again"


@contextmanager
def client_of(
    scheduler: str | None,  # Address of a Dask scheduler
    workers: int | None = None,  # Or: this many processes on this machine
):
    "A client of the scheduler, or of a cluster of processes that ends with it."
    distributed, cluster = need("dask.distributed", "cluster"), None
    if workers:
        env = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        cluster = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, env=env
        )
    try:
        client = distributed.Client(cluster or scheduler, timeout=_CONNECT)
    except (OSError, TimeoutError, ValueError) as e:
        raise InputError(
            f"no Dask scheduler answers at {scheduler} ({type(e).__name__}); start one with 'dask scheduler' and pass "
            "its tcp:// address"
        ) from e
    try:
        yield client
    finally:
        client.close(timeout=POLL)
        if cluster is not None:
            cluster.close(timeout=POLL)


def _finished(distributed, client, running: set):
    "The jobs that are done, and the others; a sentence where nobody is left to do them."
    alone = 0
    while True:
        try:
            found = distributed.wait(list(running), timeout=POLL, return_when="FIRST_COMPLETED")
            return found.done, found.not_done
        except TimeoutError:
            try:
                alone = 0 if client.scheduler_info()["workers"] else alone + POLL
            except (OSError, TimeoutError) as e:
                raise WorkersLost(f"the Dask scheduler no longer answers; {KEPT}") from e
            if alone >= ALONE:
                raise WorkersLost(f"no worker is left, and none came back within {ALONE} s; {KEPT}") from None
        except (OSError, CancelledError) as e:
            raise WorkersLost(f"the Dask scheduler is gone; {KEPT}") from e


def _answer(distributed, future, retries: int) -> tuple | None:
    "What a job that was done returned, in a tuple; None where that is gone with its worker and has to be done again."
    patience = POLL
    while True:
        try:
            return (future.result(timeout=patience),)
        except TimeoutError:
            if future.status != "finished":
                return None
            patience *= 2  # a large answer over a slow line
        except distributed.KilledWorker as e:
            raise WorkersLost(f"one job ended its worker {retries} times, perhaps for want of memory; {KEPT}") from e
        except CancelledError as e:
            raise WorkersLost(f"the Dask scheduler is gone; {KEPT}") from e


def awaited(
    client,  # Of a Dask scheduler
    running: set,  # Futures
    more: Callable = lambda: (),  # Further futures, asked for after each that is done
    retries: int = 3,  # With which they were submitted
) -> Iterator:
    "What futures return, in the order in which they end; a sentence where nobody is left to do them."
    distributed = need("dask.distributed", "cluster")
    while running:
        done, running = _finished(distributed, client, running)
        for future in done:
            answer = _answer(distributed, future, retries)
            if answer is None:
                running.add(future)
                continue
            yield answer[0]
            future.release()
            running |= set(more())


def results(
    function: Callable,  # Of this package, so that workers find it
    jobs: Iterable[tuple],  # Its arguments, one tuple a job
    *,
    scheduler: str | None = None,  # Address of a Dask scheduler
    workers: int | None = None,  # Or: this many processes on this machine; neither: in this process
    retries: int = 3,  # How often a job is tried again when its worker is lost
) -> Iterator:
    "What the jobs return, in the order in which they end."
    todo = iter(jobs)
    if not scheduler and not workers:
        yield from (function(*j) for j in todo)
        return
    with client_of(scheduler, workers) as client:
        submit = lambda j: client.submit(function, *j, pure=False, retries=retries)
        ahead = max(4, 4 * len(client.scheduler_info()["workers"]))
        next_ = lambda n=1: {submit(j) for _, j in zip(range(n), todo, strict=False)}
        yield from awaited(client, next_(ahead), next_, retries)

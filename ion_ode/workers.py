"""Workers of a Dask scheduler: what they send comes as it gets ready, and what is lost with one is asked of another"""

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

from ion_ode.core import InputError, WorkersLost, need

__all__ = ["KEPT", "awaited", "client_of", "n_workers"]

_CONNECT = "30s"  # How long a scheduler may take to answer
POLL, ALONE = 5, 40  # Seconds between two looks at the workers; seconds without any after which none is expected
KEPT = "what is finished is kept: start the same command again"


@contextmanager
def client_of(
    scheduler: str,  # Address of a Dask scheduler
):
    "A client of the scheduler."
    distributed = need("dask.distributed", "cluster")
    try:
        client = distributed.Client(scheduler, timeout=_CONNECT)
    except (OSError, TimeoutError, ValueError) as e:
        raise InputError(
            f"no Dask scheduler answers at {scheduler} ({type(e).__name__}); start one with 'dask scheduler' and pass "
            "its tcp:// address"
        ) from e
    try:
        yield client
    finally:
        client.close(timeout=POLL)


def n_workers(client) -> int:  # Of a Dask scheduler
    "How many workers it has now."
    return len(client.scheduler_info()["workers"])


def _finished(distributed, client, running: set):
    "The jobs that are done, and the others; a sentence where nobody is left to do them."
    alone = 0
    while True:
        try:
            found = distributed.wait(list(running), timeout=POLL, return_when="FIRST_COMPLETED")
            return found.done, found.not_done
        except TimeoutError:
            try:
                alone = 0 if n_workers(client) else alone + POLL
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


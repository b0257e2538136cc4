"""A real Dask scheduler and two worker processes, for tests."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager


def wait_for(condition, running=()):
    "Wait until it holds, however busy the machine is, unless a process that has to bring it about has ended."
    while not condition():
        assert all(p.poll() is None for p in running), "a process ended before its work was done"
        time.sleep(0.02)


@contextmanager
def scheduler_and_two_workers(folder):
    "Address of the scheduler and the processes (scheduler, worker, worker, whatever the test appends); all are ended."
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    dask = lambda *a: subprocess.Popen([sys.executable, "-m", "dask", *a], env=env, **quiet)
    info = folder / "scheduler.json"
    place = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(info))
    running = [dask("scheduler", *place)]
    try:
        wait_for(lambda: info.exists() and info.read_text().strip().endswith("}"), running)
        address = json.loads(info.read_text())["address"]
        worker = (
            "--nworkers",
            "1",
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
            "--local-directory",
            str(folder),
        )
        running += [dask("worker", address, *worker) for _ in range(2)]
        yield address, running
    finally:
        for p in running:
            if p.poll() is None:
                os.killpg(p.pid, signal.SIGKILL)
            p.wait()

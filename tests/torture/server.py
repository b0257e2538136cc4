"""A process that has imported everything forks one child a case: its answer, its refusal, its traceback, or its end."""

import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Outcome:
    "How a case ended."

    how: str  # "value", "refused", "traceback", "hang" or "killed"
    value: object = None  # What the job returned
    text: str = ""  # What it said: the message, or the traceback

    @property
    def plain(self) -> bool:
        "Whether a refusal is a sentence that a person can read."
        return bool(self.text.strip()) and "Traceback" not in self.text and "\x00" not in self.text


def _told(e: BaseException) -> Outcome:
    from ion_ode.core import ConvergenceError, InputError, WorkersLost

    missing = isinstance(e, ImportError) and "pip install" in str(e)
    if isinstance(e, InputError | ConvergenceError | WorkersLost) or missing:
        return Outcome("refused", None, str(e))
    return Outcome("traceback", None, "".join(traceback.format_exception(e)[-6:]))


def _child(job: Callable, folder: Path, pipe: int, heard: bool = False) -> None:
    "Run the job in the folder and send its outcome; never returns. What it says on standard error may be heard."
    try:
        os.setsid()
        os.chdir(folder)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1) if heard else (0, 1, 2):
            os.dup2(null, fd)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        try:
            out = Outcome("value", job())
        except BaseException as e:
            out = _told(e)
        data = pickle.dumps(out)
        while data:
            data = data[os.write(pipe, data) :]
    finally:
        os._exit(0)


def _received(pipe: int, until: float) -> bytes | None:
    "All that a child sends before the time is over; None where it still runs."
    data = b""
    while True:
        left = None if until == float("inf") else max(0.0, until - time.monotonic())
        if not select.select([pipe], [], [], left)[0]:
            return None
        part = os.read(pipe, 1 << 16)
        if not part:
            return data
        data += part


def _end(pid: int) -> None:
    "End a child and what it started."
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def run(
    job: Callable,  # Called in the child, in its folder; its value must be picklable
    folder: Path,
    limit: float = 60.0,  # Seconds after which a case hangs
    kill_after: float | None = None,  # Seconds after which the child is killed, if it has not ended
) -> Outcome:
    "One case in a process of its own."
    read, write = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _child(job, folder, write)
    os.close(write)
    data = _received(read, time.monotonic() + (limit if kill_after is None else kill_after))
    os.close(read)
    if data is None:
        _end(pid)
    os.waitpid(pid, 0)
    if data is None:
        return Outcome("hang" if kill_after is None else "killed")
    return pickle.loads(data) if data else Outcome("killed", None, "the process ended without a word")


def side_by_side(jobs: dict[str, Callable], at_once: int) -> dict:
    "What each job returns, so many at a time, each in a fork that forks its own cases; what it raises is raised."
    found, running, todo = {}, {}, list(jobs)
    try:
        while todo or running:
            while todo and len(running) < at_once:
                name = todo.pop(0)
                read, write = os.pipe()
                sys.stdout.flush()
                pid = os.fork()
                if pid == 0:
                    os.close(read)
                    _child(jobs[name], Path.cwd(), write, heard=True)
                os.close(write)
                running[read] = name, pid
            for read in select.select(list(running), [], [])[0]:
                name, pid = running.pop(read)
                data = _received(read, float("inf"))
                os.close(read)
                os.waitpid(pid, 0)
                out = pickle.loads(data) if data else Outcome("killed")
                if out.how != "value":
                    raise RuntimeError(f"{name}: {out.text or out.how}")
                found[name] = out.value
    finally:
        for _, pid in running.values():
            _end(pid)
    return {name: found[name] for name in jobs}


def shell(*args: str, stdin: bytes = b"") -> Callable:
    "A job: the command line as a process runs it; its status, standard output and standard error."

    def job():
        import io

        from ion_ode.cli import main

        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", newline=""), io.TextIOWrapper(io.BytesIO(), "utf-8")
        sys.stdout, sys.stderr = out, err
        os.environ["COLUMNS"] = "100"
        try:
            main(list(args))
        except SystemExit as e:
            status = e.code or 0
        for s in (out, err):
            s.flush()
        texts = [s.buffer.getvalue().decode("utf-8", "replace") for s in (out, err)]
        return (status, *texts)

    return job


def settled(outcome: Outcome) -> Outcome:
    "The outcome of a command: exit status 2 or 1 with one sentence is a refusal."
    if outcome.how != "value":
        return outcome
    status, out, err, *_ = outcome.value
    if status == 0:
        return outcome
    lines = [line for line in err.splitlines() if line.strip()]
    if status not in (1, 2) or "Traceback" in err or (lines and not lines[-1].startswith("ion-ode: ")):
        return Outcome("traceback", None, f"status {status}: {err[-2000:]}")
    return Outcome("refused", outcome.value, (lines[-1] if lines else out))

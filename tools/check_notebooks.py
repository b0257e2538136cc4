"""Run nbdev's tests over every notebook, and check that every one of them did run.

`nbdev-test` exits with 0 when no notebook matched, and leaves out names that begin with `_` or `.`; here the
notebooks that ran are held against the files in nbs/.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def expected() -> set[str]:
    nbs = ROOT / "nbs"
    return {p.relative_to(nbs).as_posix() for p in nbs.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}


def cpu_seconds(pid: int, seen: dict[int, float]) -> float:
    "CPU time of a process and all it started, also of those that have ended since (kept in `seen`)."
    try:
        top = psutil.Process(pid)
        for p in [top, *top.children(recursive=True)]:
            try:
                t = p.cpu_times()
                seen[p.pid] = t.user + t.system
            except psutil.Error:
                pass
    except psutil.Error:
        pass
    return sum(seen.values())


def stuck(used: list[float], idle: int, cpu: float) -> str:
    "Why a run is ended, given its CPU seconds at every second of its time; empty while it goes on."
    if used[-1] > cpu:
        return f"notebooks took more than {cpu:.0f} s of CPU time"
    if len(used) > idle and used[-1] - used[-1 - idle] < 1e-3 * idle:
        return f"notebooks used no CPU time for {idle} s"
    return ""


def watch(proc: subprocess.Popen, idle: int, cpu: float) -> str:
    """End a run that works too long or no longer works, and say why. A busy machine makes it slow, never either of
    the two."""
    used, seen = [], {}
    while proc.poll() is None:
        used.append(cpu_seconds(proc.pid, seen))
        if why := stuck(used, idle, cpu):
            os.killpg(proc.pid, signal.SIGKILL)
            print(f"{why}: stopped", flush=True)
            return why
        time.sleep(1)
    return ""


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--cpu", type=float, default=7200, help="CPU seconds for all of them together")
    p.add_argument("--idle", type=int, default=900, help="seconds without any use of the CPU")
    p.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    a = p.parse_args()
    command = [BIN / "nbdev-test", "--n-workers", str(a.workers), "--do-print", "--timing"]
    env = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | os.environ | {"MPLBACKEND": "agg", "PYTHONUNBUFFERED": "1"}
    env["PATH"] = f"{BIN}{os.pathsep}{env.get('PATH', '')}"
    ran, start = set(), time.monotonic()
    # its own process group: ending it must end the worker processes too
    with subprocess.Popen(
        [str(c) for c in command],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as proc:
        threading.Thread(target=watch, args=(proc, a.idle, a.cpu), daemon=True).start()
        for line in proc.stdout:
            print(line, end="", flush=True)
            ran |= {Path(f).relative_to(ROOT / "nbs").as_posix() for f in re.findall(r"- Completed (\S+\.ipynb)", line)}
        proc.wait()
    want = expected()
    for f in sorted(want - ran):
        print(f"did not run: nbs/{f}")
    ok = proc.returncode == 0 and ran == want and want
    print(f"{len(ran)} of {len(want)} notebooks ran in {time.monotonic() - start:.0f} s, "
          f"{'all hold' if ok else 'NOT all hold'}")
    return not ok


if __name__ == "__main__":
    sys.exit(main())

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
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def expected() -> set[str]:
    nbs = ROOT / "nbs"
    return {p.relative_to(nbs).as_posix() for p in nbs.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--timeout", type=int, default=1200, help="seconds for all of them together")
    p.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    a = p.parse_args()
    command = [BIN / "nbdev-test", "--n-workers", str(a.workers), "--do-print", "--timing"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONUNBUFFERED": "1"}
    env["PATH"] = f"{BIN}{os.pathsep}{env.get('PATH', '')}"
    ran, start = set(), time.monotonic()
    # its own process group: a timeout must end the worker processes too
    with subprocess.Popen(
        [str(c) for c in command],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as proc:
        def stop(*_):
            os.killpg(proc.pid, signal.SIGKILL)
            print(f"notebooks took more than {a.timeout} s: stopped", flush=True)

        signal.signal(signal.SIGALRM, stop)
        signal.alarm(a.timeout)
        for line in proc.stdout:
            print(line, end="", flush=True)
            ran |= {Path(f).relative_to(ROOT / "nbs").as_posix() for f in re.findall(r"- Completed (\S+\.ipynb)", line)}
        proc.wait()
        signal.alarm(0)
    want = expected()
    for f in sorted(want - ran):
        print(f"did not run: nbs/{f}")
    ok = proc.returncode == 0 and ran == want and want
    print(f"{len(ran)} of {len(want)} notebooks ran in {time.monotonic() - start:.0f} s, {'all hold' if ok else 'NOT all hold'}")
    return not ok


if __name__ == "__main__":
    sys.exit(main())

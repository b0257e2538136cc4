"""Run the checks of `make test` one after the other, go on after a failure, and end with a table.

    python tools/checks.py                 all of them
    python tools/checks.py ruff pytest     some of them
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PY = sys.executable
BIN = Path(PY).parent
STEPS = {
    "ruff": [BIN / "ruff", "check", "."],
    "rules": [PY, "tools/rules.py"],
    "layers": [BIN / "lint-imports"],
    "export": [PY, "tools/check_export.py"],
    "readme": [PY, "tools/readme.py", "--check"],
    "notebooks": [PY, "tools/check_notebooks.py"],
    "site": [PY, "tools/check_site.py"],
    "pytest": [PY, "-m", "pytest", "-n", str(min(2, os.cpu_count() or 1)), "--dist", "loadfile"],
}
# the line of each check's own output that says what it found
TELLING = re.compile(r"passed|failed|notebooks ran|rules,|pages,|Contracts:|All checks|Found \d+ error|README|leave")


def run(name: str, command: list) -> tuple[int, float, str]:
    "Run one check, pass its output on as it comes; exit status, seconds, its telling line."
    env = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | os.environ | {"MPLBACKEND": "agg", "PYTHONUNBUFFERED": "1"}
    env["PATH"] = f"{BIN}{os.pathsep}{env.get('PATH', '')}"
    print(f"\n=== {name}: {' '.join(str(c).removeprefix(f'{BIN}/') for c in command)}", flush=True)
    start, telling = time.monotonic(), ""
    with subprocess.Popen(
        [str(c) for c in command], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as p:
        for line in p.stdout:
            print(line, end="", flush=True)
            if TELLING.search(line):
                telling = line.strip().strip("= ")
    return p.returncode, time.monotonic() - start, telling


def main() -> int:
    names = sys.argv[1:] or list(STEPS)
    if unknown := [n for n in names if n not in STEPS]:
        print(f"unknown check: {', '.join(unknown)}; there are: {', '.join(STEPS)}", file=sys.stderr)
        return 2
    results = {n: run(n, STEPS[n]) for n in names}
    print("\n=== summary")
    for n, (rc, seconds, telling) in results.items():
        print(f"{'ok    ' if rc == 0 else 'FAILED'}  {n:<10} {seconds:6.0f} s  {telling[:110]}")
    failed = [n for n, r in results.items() if r[0]]
    total = sum(r[1] for r in results.values())
    print(
        f"{len(results) - len(failed)} of {len(results)} checks hold, {total:.0f} s"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

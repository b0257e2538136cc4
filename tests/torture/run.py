"""Try to break what ships, with generated cases, and count what became of them: python tests/torture/run.py 2000

Every case knows its right answer by construction. The last four columns must be zero.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "ION_ODE_NO_PROGRESS": "1",
}
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from case import VERDICTS, Tally, ran
from hypothesis import HealthCheck, Phase, given, seed, settings
from server import side_by_side

WORKERS = min(2, os.cpu_count() or 1)  # Kinds at a time
OURS = ("torture-", "torchinductor_")  # Folders of this suite, and of torch, which keeps what it compiled
COLUMNS = ("cases", "right", "refused", *VERDICTS)


def kinds(short: bool) -> dict:
    "Name of a kind: strategy of its cases, and its weight among a hundred; a short run leaves out what takes seconds."
    import kills
    import options
    import records
    import tables

    return {
        "tables in any spelling": (tables.spelt(), 20),
        "decimal commas": (tables.commas(), 6),
        "feeds": (tables.feeds(), 10),
        "spoilt tables": (tables.spoilt(), 18),
        "flips of stored files": (records.flips(records.quick(short)), 18),
        "records of wrong types": (records.mistyped(), 8),
        "options": (options.options(), 10),
        "files of anything": (options.junk(), 6),
        **{f"kills of {name}": (kills.kills(name), 0.5) for name in kills.WORK if not (short and name in kills.SLOW)},
    }


def warm() -> None:
    "Import once what the children need."
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    import openpyxl  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import rdkit.Chem  # noqa: F401
    import tqdm

    import ion_ode.cli  # noqa: F401
    import ion_ode.prequalify.campaign  # noqa: F401
    import ion_ode.results.parts  # noqa: F401
    from ion_ode import load_model, simulate

    tqdm.tqdm.monitor_interval = 0
    simulate({"Na+": 1, "Cl-": 1}, [1e-6])
    load_model("nf270").predict({"Na+": 1, "Cl-": 1}, [5e-6])


def cpu_seconds() -> float:
    "Of this process and of those it has waited for."
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def tallied(strategy, n: int, start: int) -> Tally:
    "Counts of n cases of one kind, and the processor's seconds they took, however busy the machine is."
    tally, begin = Tally(), cpu_seconds()

    @seed(start)
    @settings(
        max_examples=n, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def one(case):
        if tally.cases < n:
            verdict, what = ran(case)
            tally.note(verdict, what)
            if verdict in VERDICTS:
                print(f"--- {verdict}: {what[:1500]}", file=sys.stderr, flush=True)

    one()
    tally.seconds = cpu_seconds() - begin
    return tally


def killed(name: str, n: int, start: int) -> tuple[Tally, int]:
    "Kills of one command until so many came before its end; how many did."
    import kills

    tally = Tally()
    while kills.STRUCK[name] < n and not any(tally.bad.values()):
        more = tallied(kills.kills(name), 4, start)
        start, tally.cases, tally.right = start + 1, tally.cases + more.cases, tally.right + more.right
        tally.seconds += more.seconds
        for what, bad in more.bad.items():
            tally.bad[what] += bad
    return tally, kills.STRUCK[name]


def show(found: dict[str, Tally], seconds: float) -> str:
    "The table of counts."
    count = lambda t, c: len(t.bad[c]) if c in t.bad else round(t.seconds) if c == "CPU s" else getattr(t, c)
    columns = (*COLUMNS, "CPU s")
    rows = [[name, *(count(t, c) for c in columns)] for name, t in found.items()]
    rows.append(["all", *(sum(r[k + 1] for r in rows) for k in range(len(columns)))])
    wide = max(len(r[0]) for r in rows)
    lines = [" " * wide + "".join(f"{c:>16}" for c in columns)]
    lines += [f"{r[0]:<{wide}}" + "".join(f"{v:>16}" for v in r[1:]) for r in rows]
    return "\n".join(lines) + f"\n{rows[-1][1]} cases in {seconds:.0f} s, {WORKERS} kinds at a time"


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("n", type=int, nargs="?", default=2000, help="how many cases, about")
    p.add_argument("--kills", type=int, metavar="K", help="only kills: so many of each command that resumes")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--only", default="", help="part of the name of a kind")
    p.add_argument("--json", action="store_true", help="counts and failures as JSON")
    a = p.parse_args()
    warm()
    with tempfile.TemporaryDirectory(prefix="torture-") as own:
        tempfile.tempdir = own  # what a case leaves in the temporary folder is seen, and goes with it
        found, seconds = made(a)
        litter = sorted(p.name for p in Path(own).iterdir() if not p.name.startswith(OURS))
    return told(found, seconds, a.json, litter)


def made(a) -> tuple[dict[str, Tally], float]:
    "Counts of every kind that was asked for, and the seconds they took."
    begin = time.monotonic()
    if a.kills:
        from kills import WORK

        jobs = {k: partial(killed, k, a.kills, a.seed) for k in WORK if a.only in k}
        found = side_by_side(jobs, WORKERS)
        for name, (tally, struck) in found.items():
            print(f"{name}: killed {struck} times, {tally.right} of {tally.cases} jobs as if never killed")
        found = {f"kills of {name}": tally for name, (tally, _) in found.items()}
    else:
        n = lambda weight: a.n if a.only else max(1, round(a.n * weight / 100))
        all_ = {k: partial(tallied, s, n(w), a.seed) for k, (s, w) in kinds(a.n < 500).items() if a.only in k}
        slow_first = sorted(all_, key=lambda k: not k.startswith(("kills", "flips")))
        found = side_by_side({k: all_[k] for k in slow_first}, WORKERS)
    return found, time.monotonic() - begin


def told(found: dict[str, Tally], seconds: float, as_json: bool, litter: list[str]) -> int:
    "Counts on standard output; 1 where something is not right."
    if litter:
        print(f"--- left in the temporary folder: {', '.join(litter[:20])}", file=sys.stderr)
    if as_json:
        print(
            json.dumps(
                {k: {"cases": t.cases, "right": t.right, "refused": t.refused, **t.bad} for k, t in found.items()}
            )
        )
    else:
        print(show(found, seconds))
    return int(bool(litter) or any(any(t.bad.values()) for t in found.values()))


if __name__ == "__main__":
    sys.exit(main())

"""Try to break what ships, with generated cases, and count what became of them: python tests/torture/run.py 2000

Every case knows its right answer by construction. The last four columns must be zero.
"""

import argparse
import json
import os
import sys
import time
import warnings
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
        "flips of stored files": (records.flips([k for k in records.KINDS if not (short and k in records.SLOW)]), 18),
        "records of wrong types": (records.mistyped(), 8),
        "options": (options.options(), 10),
        "files of anything": (options.junk(), 6),
        **{f"kills of {name}": (kills.kills(name), 1) for name in kills.WORK if not (short and name in kills.SLOW)},
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


def tallied(strategy, n: int, start: int) -> Tally:
    "Counts of n cases of one kind."
    tally = Tally()

    @seed(start)
    @settings(
        max_examples=n, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def one(case):
        if tally.cases < n:
            tally.note(*ran(case))

    one()
    return tally


def killed(n: int, start: int, only: str) -> dict[str, Tally]:
    "Kills of every command until so many came before its end."
    import kills

    found = {}
    for name in [k for k in kills.WORK if only in k]:
        tally = found[f"kills of {name}"] = Tally()
        while kills.STRUCK[name] < n and not any(tally.bad.values()):
            more = tallied(kills.kills(name), 4, start)
            start, tally.cases, tally.right = start + 1, tally.cases + more.cases, tally.right + more.right
            for what, bad in more.bad.items():
                tally.bad[what] += bad
        print(
            f"{name}: killed {kills.STRUCK[name]} times, {tally.right} of {tally.cases} jobs as if never killed",
            flush=True,
        )
    return found


def show(found: dict[str, Tally], seconds: float) -> str:
    "The table of counts."
    rows = [[name, *(len(t.bad[c]) if c in t.bad else getattr(t, c) for c in COLUMNS)] for name, t in found.items()]
    rows.append(["all", *(sum(r[k + 1] for r in rows) for k in range(len(COLUMNS)))])
    wide = max(len(r[0]) for r in rows)
    lines = [" " * wide + "".join(f"{c:>16}" for c in COLUMNS)]
    lines += [f"{r[0]:<{wide}}" + "".join(f"{v:>16}" for v in r[1:]) for r in rows]
    return "\n".join(lines) + f"\n{rows[-1][1]} cases in {seconds:.0f} s"


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("n", type=int, nargs="?", default=2000, help="how many cases, about")
    p.add_argument("--kills", type=int, metavar="K", help="only kills: so many of each command that resumes")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--only", default="", help="part of the name of a kind")
    p.add_argument("--json", action="store_true", help="counts and failures as JSON")
    a = p.parse_args()
    warm()
    begin, found, all_ = time.monotonic(), {}, kinds(a.n < 500 and not a.only)
    if a.kills:
        found, all_ = killed(a.kills, a.seed, a.only), {}
    for name, (strategy, weight) in all_.items():
        if a.only in name:
            n = max(1, round(a.n * weight / 100)) if not a.only else a.n
            found[name] = tallied(strategy, n, a.seed)
    for name, tally in found.items():
        for what, bad in tally.bad.items():
            for text in dict.fromkeys(bad[:40]):
                print(f"--- {name}, {what}: {text[:1500]}", file=sys.stderr, flush=True)
    if a.json:
        print(
            json.dumps(
                {k: {"cases": t.cases, "right": t.right, "refused": t.refused, **t.bad} for k, t in found.items()}
            )
        )
    else:
        print(show(found, time.monotonic() - begin))
    return int(any(any(t.bad.values()) for t in found.values()))


if __name__ == "__main__":
    sys.exit(main())

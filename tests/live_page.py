"What both test files of the live page share: its generated files, and its modules asked in Node."

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PAGE, HERE = ROOT / "nbs" / "explore", Path(__file__).parent / "explore"
sys.path.insert(0, str(ROOT / "tools"))
import explore_data  # noqa: E402

NODE = shutil.which("node")
# A brackish well whose bicarbonate closes the balance
WELL = {
    "Na+": 14.789, "K+": 0.17904, "Mg+2": 4.4024, "Ca+2": 5.5641, "Cl-": 19.803, "SO4-2": 1.8323, "NO3-": 6.7092,
    "HCO3-": 14.789 + 0.17904 + 2 * (4.4024 + 5.5641) - 19.803 - 2 * 1.8323 - 6.7092,
}  # fmt: skip


@functools.cache
def files() -> dict[str, str]:
    "Content of every generated file."
    return explore_data.build()


def data() -> dict:
    return json.loads(files()["data.json"])


def ask(cases: list[dict]) -> list:
    "Run cases through the modules in Node."
    text = json.dumps({"data": data(), "answer": json.loads(files()["answer.json"]), "cases": cases})
    done = subprocess.run(
        [NODE, str(HERE / "evaluate.mjs"), str(PAGE)], input=text, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def random_feed(rng, ions: dict, low: float = 0.01, high: float = 300.0, charge: bool = True) -> dict:
    "A neutral feed of two to seven ions and solutes, the last of the ions closing the balance."
    names, z = list(ions), {n: i["z"] for n, i in ions.items()}
    for _ in range(1000):
        chosen = [str(n) for n in rng.choice(names, size=rng.integers(2, 8), replace=False)]
        c = {n: float(np.exp(rng.uniform(np.log(low), np.log(high)))) for n in chosen}
        if not {np.sign(z[n]) for n in chosen} >= {1, -1}:
            continue
        last = [n for n in chosen if z[n]][-1]
        c[last] = -sum(z[n] * c[n] for n in chosen if n != last) / z[last]
        if low <= c[last] <= high:
            return c
    raise AssertionError("no neutral feed was drawn")

"""What ships meets generated tables, damage, wrong types, odd options and kills: nothing breaks or is silently wrong"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("botorch")
ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forks")
def test_a_hundred_generated_cases():
    "`make torture` runs many more of the same, and kills of reproduce."
    command = [sys.executable, str(ROOT / "tests" / "torture" / "run.py"), "100", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    bad = [
        text
        for t in found.values()
        for what in ("tracebacks", "hangs", "silently wrong", "data lost")
        for text in t[what]
    ]
    assert not bad, "\n".join(bad)
    assert sum(t["cases"] for t in found.values()) >= 90 and all(t["right"] + t["refused"] for t in found.values())

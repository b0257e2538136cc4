"""Jobs that are killed at any moment and started again: the same bytes as of one that was left alone"""

import functools
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from case import Case
from hypothesis import strategies as st
from records import CAMPAIGN, _campaign, _shards, _train
from server import run, settled, shell

NEW = CAMPAIGN.splitlines()[0] + "\nz,PIP,1.5,TMC,0.15,7,47\n"


@dataclass(frozen=True)
class Work:
    "Something that resumes."

    job: Callable[[], object]  # In its folder
    prepare: Callable[[Path], object] = lambda f: None
    command: bool = False


def _generate():
    _shards(Path("out"), 60)


def _learn():
    _train(Path("out"))


def _begun(folder):
    _campaign(folder)
    (folder / "new.csv").write_text(NEW)


WORK = {
    "generate": Work(_generate),
    "train": Work(_learn),
    "campaign": Work(
        shell(
            "campaign", "c.json", "--add", "new.csv", "--next", "2", "--save", "c.json", "--force", "--out", "next.csv"
        ),
        _begun,
        True,
    ),
    "reproduce": Work(shell("reproduce", "--only", "surrogate", "--out", "out"), command=True),
}
SLOW = ("reproduce", "campaign")  # left out of short runs


def _kept(folder: Path) -> dict[str, str]:
    "What lies there at the end; the seconds that something took are no part of it."
    import re

    text = lambda p: (
        re.sub(rb'"(cpu_s|sha256)": ?"?[0-9a-f.]+"?', b"", p.read_bytes()) if "scores" in p.parts else p.read_bytes()
    )
    return {
        str(p.relative_to(folder)): text(p).hex()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in (".lock", "precious.txt") and not p.name.endswith(".lock")
    }


@functools.cache
def left_alone(name: str) -> tuple[dict, float, Path]:
    "Files of a job that nobody stopped, its seconds, and the folder that it started from."
    import atexit

    begin, folder = (Path(tempfile.mkdtemp(prefix="torture-work-")) for _ in range(2))
    for f in (begin, folder):
        atexit.register(shutil.rmtree, f, ignore_errors=True)
    made = run(lambda: WORK[name].prepare(begin) and None, begin, 300)
    assert made.how == "value", made.text
    shutil.copytree(begin, folder, dirs_exist_ok=True)
    at = time.monotonic()
    out = run(WORK[name].job, folder, 300)
    out = settled(out) if WORK[name].command else out
    assert out.how == "value", out.text
    return _kept(folder), time.monotonic() - at, begin


@st.composite
def killed(draw, names):
    "One to three kills, then the same command again."
    name, when = draw(st.sampled_from(names)), draw(st.lists(st.floats(0.02, 1.0), min_size=1, max_size=3))
    what = f"{name}, killed after {', '.join(f'{w:.0%}' for w in when)} of its time"

    def judge(folder):
        want, seconds, begin = left_alone(name)
        shutil.copytree(begin, folder, dirs_exist_ok=True)
        for w in when:
            run(WORK[name].job, folder, kill_after=w * seconds)
            if _kept(folder) == want:  # it was over before the kill
                return "right", ""
        out = run(WORK[name].job, folder, 300)
        out = settled(out) if WORK[name].command else out
        if out.how != "value":
            return ("hangs" if out.how == "hang" else "tracebacks"), f"{what}: {out.text}"
        got = _kept(folder)
        if got == want:
            return "right", ""
        differ = sorted(k for k in {*got, *want} if got.get(k) != want.get(k))
        return "data lost", f"{what}: {', '.join(differ)} differ"

    return Case(what, lambda f: None, lambda: None, str, judge=judge)


def kills(name: str):
    "Kills of one command."
    return killed([name])

"""Jobs that are killed at any moment and started again: the same bytes as of one that was left alone"""

import functools
import os
import shutil
import signal
import sys
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
    from ion_ode.training import optimise

    optimise.fit.__kwdefaults__ |= {"save_every": 2, "log_every": 1}  # so that kills fall between checkpoints too
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

    def text(p):
        data = p.read_bytes()
        if p.suffix == ".safetensors" and "cells" in p.parts:
            return data[8 + int.from_bytes(data[:8], "little") :]
        if p.suffix == ".csv" and "made" in p.parts:
            return b"\n".join(line.rpartition(b",")[0] for line in data.splitlines())
        return re.sub(rb'"(cpu_s|sha256|file)": ?"?[^",]+"?', b"", data) if "cells" in p.parts else data

    return {
        re.sub("latest-[0-9a-f]{16}", "latest", str(p.relative_to(folder))): text(p).hex()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in (".lock", "precious.txt") and not p.name.endswith(".lock")
    }


def _ours(path) -> bool:
    "Whether a path lies in the folder of the job."
    try:
        return os.path.abspath(os.fsdecode(path)).startswith(os.getcwd() + os.sep)
    except (TypeError, ValueError):
        return False


def _watched(last: int | None) -> list[int]:
    "Counts what this process changes in its folder; where a number is given, that change is its last thought."
    count = [0]

    def hook(event, args):
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.chmod")
        changes |= event == "open" and isinstance(args[1], str) and bool(set(args[1]) & set("wax+"))
        if changes and _ours(args[0]):
            count[0] += 1
            if count[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


def _counted(job):
    def go():
        count = _watched(None)
        return job(), count[0]

    return go


def _doomed(job, last: int):
    def go():
        _watched(last)
        return job()

    return go


@functools.cache
def left_alone(name: str) -> tuple[dict, float, int, Path]:
    "Files of a job that nobody stopped, its seconds, its changes of files, and the folder that it started from."
    import atexit

    begin, folder = (Path(tempfile.mkdtemp(prefix="torture-work-")) for _ in range(2))
    for f in (begin, folder):
        atexit.register(shutil.rmtree, f, ignore_errors=True)
    made = run(lambda: WORK[name].prepare(begin) and None, begin, 300)
    assert made.how == "value", made.text
    shutil.copytree(begin, folder, dirs_exist_ok=True)
    at = time.monotonic()
    out = run(_counted(WORK[name].job), folder, 300)
    assert out.how == "value", out.text
    out.value, changes = out.value
    out = settled(out) if WORK[name].command else out
    assert out.how == "value", out.text
    return _kept(folder), time.monotonic() - at, changes, begin


def _struck(name: str, folder: Path, kind: str, at: float) -> bool:
    "Kill the job at a share of its time, or of the changes that it makes of files; whether it did not end before."
    _, seconds, changes, _ = left_alone(name)
    if kind == "time":
        return run(WORK[name].job, folder, kill_after=at * seconds).how == "killed"
    return run(_doomed(WORK[name].job, 1 + int(at * changes)), folder, 300).how == "killed"


STRUCK = dict.fromkeys(WORK, 0)  # kills that came before the end


@st.composite
def killed(draw, names):
    "One to three kills, then the same command again."
    share = st.floats(0.0, 1.0, exclude_max=True)
    kill = st.tuples(st.sampled_from(["time", "change of a file", "change of a file"]), share)
    name, when = draw(st.sampled_from(names)), draw(st.lists(kill, min_size=1, max_size=3))
    what = f"{name}, killed after {', '.join(f'{at:.1%} (by {kind})' for kind, at in when)}"

    def judge(folder):
        want, *_, begin = left_alone(name)
        shutil.copytree(begin, folder, dirs_exist_ok=True)
        for kind, at in when:
            if not _struck(name, folder, kind, at):
                break
            STRUCK[name] += 1
            if _kept(folder) == want:  # its work was done
                return "right", ""
        out = run(WORK[name].job, folder, 300)
        out = settled(out) if WORK[name].command else out
        if out.how != "value" and not (_kept(folder) == want and out.how == "refused"):
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

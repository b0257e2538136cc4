"""What a case is, and what became of it"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from server import Outcome, run, settled

VERDICTS = ("tracebacks", "hangs", "silently wrong", "data lost")
PRECIOUS = b"a thesis, ten years of work\n"


@dataclass
class Case:
    "One input with what must become of it, known by construction."

    name: str  # What is special about it, in words
    prepare: Callable[[Path], object]  # (folder): writes its files
    job: Callable[[], object]  # Runs in the folder, in a process of its own
    right: Callable[[object], str]  # (value): "" where it is right, else what is wrong
    must: str = "read"  # "read", "refuse", or "either" where a refusal is as good as the right answer
    may_change: tuple[str, ...] = ()  # Files that the job may write
    limit: float = 60.0
    judge: Callable[[Path], str] | None = None  # Replaces job and right: (folder): verdict or ""
    command: bool = False  # Whether the job is `shell(...)`


@dataclass
class Tally:
    "Counts of one kind of cases."

    cases: int = 0
    right: int = 0
    refused: int = 0
    seconds: float = 0.0  # Of the processor
    bad: dict[str, list[str]] = field(default_factory=lambda: {v: [] for v in VERDICTS})

    def note(self, verdict: str, what: str = ""):
        "Count one case."
        self.cases += 1
        if verdict in self.bad:
            self.bad[verdict].append(what)
        else:
            setattr(self, verdict, getattr(self, verdict) + 1)


def verdict(case: Case, out: Outcome) -> tuple[str, str]:
    "What became of a case, and in words why."
    if out.how == "hang":
        return "hangs", f"{case.name}: no end after {case.limit:g} s"
    if out.how in ("traceback", "killed"):
        return "tracebacks", f"{case.name}: {out.text}"
    if out.how == "refused":
        if not out.plain:
            return "tracebacks", f"{case.name}: refused without a sentence: {out.text!r}"
        if case.must == "read":
            return "silently wrong", f"{case.name}: refused although it is right: {out.text}"
        return "refused", ""
    if case.must == "refuse":
        return "silently wrong", f"{case.name}: accepted, {str(out.value)[:300]}"
    wrong = case.right(out.value)
    return ("silently wrong", f"{case.name}: {wrong}") if wrong else ("right", "")


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def ran(case: Case) -> tuple[str, str]:
    "Run a case in a folder of its own, beside a file that nothing may touch."
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        (folder / "precious.txt").write_bytes(PRECIOUS)
        case.prepare(folder)
        if case.judge is not None:
            found = case.judge(folder)
        else:
            before = _files(folder)
            out = run(case.job, folder, case.limit)
            found = verdict(case, settled(out) if case.command else out)
            after = _files(folder)
            gone = [n for n, data in before.items() if n not in case.may_change and after.get(n) != data]
            litter = [n for n in after if n not in before and Path(n).name.startswith(".")]
            if gone or litter:
                found = "data lost", f"{case.name}: changed or left behind: {', '.join(gone + litter)}"
        if (folder / "precious.txt").read_bytes() != PRECIOUS:
            found = "data lost", f"{case.name}: another file of the folder"
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)

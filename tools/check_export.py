"""Check that exporting the notebooks and cleaning them changes nothing.

Exports and cleans in place, as the commit hook does, and compares every file of the package and of nbs/ before and
after; so it also works where there are uncommitted changes. In a clean git checkout `git diff` must agree.
"""

import difflib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SKIP = {"__pycache__", ".ipynb_checkpoints"}


def snapshot() -> dict[str, bytes]:
    files = (p for d in ("ion_ode", "nbs") for p in (ROOT / d).rglob("*") if p.is_file() and not SKIP & set(p.parts))
    return {p.relative_to(ROOT).as_posix(): p.read_bytes() for p in files}


def git(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *args, "--", "ion_ode", "nbs"], cwd=ROOT, capture_output=True, text=True)


def changed(before: dict, after: dict) -> list[str]:
    return sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f))


def main() -> int:
    try:
        status = git("status", "--porcelain")
        repository = status.returncode == 0
    except FileNotFoundError:
        repository = False
    before = snapshot()
    for command in ("nbdev-export", "nbdev-clean"):
        subprocess.run([BIN / command], cwd=ROOT, check=True)
    files = changed(before, after := snapshot())
    for f in files:
        print(f"changed by export and clean: {f}")
        try:
            texts = [(d.get(f) or b"").decode().splitlines() for d in (before, after)]
        except UnicodeDecodeError:
            continue
        print("\n".join(list(difflib.unified_diff(*texts, "as it was", "as exported", lineterm="", n=1))[:40]))
    n = sum(f.endswith(".ipynb") for f in before)
    if not repository:
        where = "not a git repository, compared before and after"
    elif status.stdout:
        where = "uncommitted changes here, compared before and after"
    else:
        where = "git agrees"
        if (diff := git("diff", "--exit-code", "--stat")).returncode or git("status", "--porcelain").stdout:
            print(diff.stdout or git("status", "--porcelain").stdout)
            files = files or ["(git)"]
    if files:
        print(f"export and clean leave {len(files)} changed files: keep them (make export) and commit")
    else:
        print(f"export and clean of {n} notebooks leave no difference ({where})")
    return bool(files)


if __name__ == "__main__":
    sys.exit(main())

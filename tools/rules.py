"""Hold the library to the sizes and habits that keep it readable, and name what breaks them.

    python tools/rules.py           sizes, long lines, names nobody reads, limits on wall time
    python tools/rules.py --prune   take out of tools/rules_allow.txt what is no longer needed

An exemption is a line of tools/rules_allow.txt, `rule key`; one that is no longer needed fails the check, so the list only gets shorter.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALLOW = "tools/rules_allow.txt"
MODULE, CELL, CELL_90, WIDTH = 500, 60, 40, 120  # lines, lines, lines, characters
CLOCKS = {"time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "perf_counter_ns"}
EXPORTS = re.compile(r"^#\|\s*(export|exports|exporti)\b", re.M)


def modules(root: Path) -> list[Path]:
    return [p for p in sorted((root / "ion_ode").rglob("*.py")) if p.name != "_modidx.py"]


def cells(root: Path) -> Iterator[tuple[str, str, str]]:
    "(notebook, cell id, source) of every code cell."
    for p in sorted((root / "nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in p.parts:
            for c in json.loads(p.read_text(encoding="utf-8"))["cells"]:
                if c["cell_type"] == "code":
                    yield p.relative_to(root).as_posix(), c["id"], "".join(c["source"])


def long_modules(root: Path) -> dict[str, str]:
    sizes = {p.relative_to(root).as_posix(): len(p.read_text(encoding="utf-8").splitlines()) for p in modules(root)}
    return {f: f"{f} has {n} lines, at most {MODULE}: split it" for f, n in sizes.items() if n > MODULE}


def long_cells(root: Path) -> dict[str, str]:
    sizes = {(f, i): len(s.splitlines()) - 1 for f, i, s in cells(root) if EXPORTS.search(s)}
    out = {
        f"{f}#{i}": f"{f}, cell {i}: {n} exported lines, at most {CELL}" for (f, i), n in sizes.items() if n > CELL
    }
    rank = sorted(sizes.values())
    if rank and (p90 := rank[int(0.9 * (len(rank) - 1))]) > CELL_90:
        out["90th-percentile"] = f"a tenth of the exporting cells have {p90} lines or more, at most {CELL_90}"
    return out


def long_lines(root: Path) -> dict[str, str]:
    "E501, one key a file; an option of a cell (`#| fig-alt: ...`) is one line of YAML however long."
    ruff = Path(sys.executable).with_name("ruff")
    command = [ruff, "check", ".", "--select", "E501", "--line-length", WIDTH, "--output-format", "json", "--exit-zero"]
    command += ["--config", 'lint.task-tags=["|"]']
    command += ["--config", "lint.pycodestyle.ignore-overlong-task-comments=true"]
    found = json.loads(
        subprocess.run(list(map(str, command)), cwd=root, capture_output=True, text=True, check=True).stdout
    )
    per: dict[str, int] = {}
    for e in found:
        f = Path(e["filename"]).relative_to(root).as_posix()
        per[f] = per.get(f, 0) + 1
    return {f: f"{f}: {n} lines longer than {WIDTH} characters" for f, n in per.items()}


def python(source: str) -> ast.Module:
    "A cell's or a module's Python without shell lines; nothing where it is in another language."
    if source.lstrip().startswith("%%"):
        return ast.Module([], [])
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M))


def names(tree: ast.AST) -> set[str]:
    "Every name that code reads: names, attributes, imports, and words in strings that are one identifier."
    out = set()
    for n in ast.walk(tree):
        if isinstance(n, ast.Name):
            out.add(n.id)
        elif isinstance(n, ast.Attribute):
            out.add(n.attr)
        elif isinstance(n, ast.ImportFrom | ast.Import):
            out |= {a.name.split(".")[-1] for a in n.names}
        elif isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value.isidentifier():
            out.add(n.value)
    return out


def signatures(tree: ast.Module) -> set[str]:
    "Names in the annotations of public functions and methods: the reference shows them with their links."
    out = set()
    for n in ast.walk(tree):
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and (
            not n.name.startswith("_") or n.name == "__init__"
        ):
            a = n.args
            given = [x.annotation for x in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if x]
            out |= set().union(*(names(x) for x in (*given, n.returns) if x))
    return out


def public(tree: ast.Module) -> list[str]:
    "Functions, classes and constants that a module defines without an underscore."
    out = []
    for n in tree.body:
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            out.append(n.name)
        elif isinstance(n, ast.Assign | ast.AnnAssign):
            out += [t.id for t in (n.targets if isinstance(n, ast.Assign) else [n.target]) if isinstance(t, ast.Name)]
    return [n for n in out if not n.startswith("_")]


def told(root: Path) -> set[str]:
    "Names that the pages speak of: in `code` of their prose, or in a cell that exports nothing. That is their entry in the reference."
    out = set()
    for p in sorted((root / "nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in p.parts:
            prose = (c for c in json.loads(p.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "markdown")
            quoted = (q for c in prose for q in re.findall(r"`([^`\n]+)`", "".join(c["source"])))
            out |= {w for q in quoted for w in re.findall(r"\w+", q)}
    return out.union(*(names(python(s)) for _, _, s in cells(root) if not EXPORTS.search(s)))


def unread(root: Path) -> dict[str, str]:
    "Public names that no other module, bench or tool reads, no signature names and no page speaks of."
    trees = {p.relative_to(root).as_posix(): ast.parse(p.read_text(encoding="utf-8")) for p in modules(root)}
    reads = {f: names(t) for f, t in trees.items()}
    reads |= {
        p.name: names(ast.parse(p.read_text(encoding="utf-8")))
        for d in ("benchmarks", "tools")
        for p in (root / d).glob("*.py")
    }
    reads["nbs"] = told(root)
    out = {}
    for f, tree in trees.items():
        others = signatures(tree).union(*(r for g, r in reads.items() if g != f))
        for name in sorted(set(public(tree)) - others):
            out[f"{f}:{name}"] = (
                f"{f}: nothing outside reads {name} and no page speaks of it: use, underscore or remove it"
            )
    return out


def wall_limits(root: Path) -> dict[str, str]:
    "Checks that a busy machine can break: a `timeout=` in seconds, a comparison with a clock."
    sources = {
        p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in sorted((root / "tests").rglob("*.py"))
    }
    for f, i, s in cells(root):
        if not EXPORTS.search(s):
            sources[f"{f}#{i}"] = s
    out = {}
    for f, s in sources.items():
        for n in ast.walk(python(s)):
            if isinstance(n, ast.Call) and any(
                k.arg == "timeout" and isinstance(k.value, ast.Constant) and k.value.value for k in n.keywords
            ):
                out[f] = f"{f}: line {n.lineno} gives up after a wall time; a busy machine needs longer"
            elif isinstance(n, ast.Compare) and any(clock(m) for m in ast.walk(n)):
                out[f] = f"{f}: line {n.lineno} compares with a clock; measure speed in benchmarks/, as a ratio"
    return out


def clock(n: ast.AST) -> bool:
    return (
        isinstance(n, ast.Call)
        and isinstance(n.func, ast.Attribute)
        and n.func.attr in CLOCKS
        and isinstance(n.func.value, ast.Name)
        and n.func.value.id == "time"
    )


RULES = {"module": long_modules, "cell": long_cells, "line": long_lines, "unread": unread, "wall": wall_limits}


def judge(found: dict[tuple[str, str], str], allowed: list[tuple[str, str]]) -> list[str]:
    "What breaks a rule and is not exempt, and exemptions that nothing needs."
    bad = [f"{rule}: {text}" for (rule, key), text in found.items() if (rule, key) not in allowed]
    return bad + [f"{ALLOW}: `{' '.join(a)}` is no longer needed: remove it" for a in allowed if a not in found]


def main() -> int:
    found = {(rule, key): text for rule, check in RULES.items() for key, text in check(ROOT).items()}
    allowed = [
        tuple(line.split(maxsplit=1))
        for line in (ROOT / ALLOW).read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    if "--prune" in sys.argv:
        allowed = [a for a in allowed if a in found]
        (ROOT / ALLOW).write_text("".join(f"{rule} {key}\n" for rule, key in allowed), encoding="utf-8")
    bad = judge(found, allowed)
    print("\n".join(bad))
    print(f"{len(RULES)} rules, {len(bad)} breaches, {len(allowed)} exemptions left: {'FAILED' if bad else 'all hold'}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())

"""Cells of computation, and what code each depends on: the syntax trees in the import closure of its function"""

import ast
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ion_ode.store import digest

ROOT = Path(__file__).parent
_ALONG = {  # Files beside Python that take part in computing
    "ion_ode.attention_odenet.fused": ("assets/fused.cpp", "assets/vectors.h"),
    "ion_ode.attention_odenet.fused_set": ("assets/fused_set.cpp", "assets/vectors.h"),
    "ion_ode.inference.network": ("assets/passages.cpp", "assets/vectors.h"),
}

CELLS: dict[str, Callable] = {}  # Kind -> what computes it: (folder, spec, found, tick) -> (what is made, its facts)


@dataclass(frozen=True)
class Cell:
    "One piece of work."

    name: str  # Unique, readable
    kind: str  # Key of CELLS
    spec: dict  # Everything it depends on
    needs: tuple[str, ...] = ()  # Names of cells it builds on
    cost: int = 1  # Ticks it will report


def cell(
    kind: str,  # Name under which cells ask for it
):
    "Register the function that computes the cells of a kind."

    def register(function):
        CELLS[kind] = function
        return function

    return register


class Ticks:
    "A loop's progress bar that tells the runner of its cell, in steps of every member."

    def __init__(self, tick: Callable, members: int = 1):
        self.tick, self.members = tick, members

    def update(self, n: int) -> None:
        self.tick(n * self.members)


def _module_file(
    module: str,  # Full name
    root: Path = ROOT,  # Folder of the package
) -> Path | None:  # Its source, None where there is no such module
    "The file of a module of the package."
    stem = root.joinpath(*module.split(".")[1:])
    return next((f for f in (stem.with_suffix(".py"), stem / "__init__.py") if f.is_file()), None)


@lru_cache(maxsize=None)
def _read(
    path: Path,  # Source of a module
    module: str,  # Its full name
    _changed: int,  # Time of the file's last change: a changed file is read again
) -> tuple[str, frozenset[str]]:  # Digest of the syntax tree without docstrings; names that may be modules
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    package = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
    for n in ast.walk(tree):
        if isinstance(n, ast.Import):
            found |= {a.name for a in n.names}
        elif isinstance(n, ast.ImportFrom):
            above = package[: len(package) - n.level + 1] if n.level else []
            base = ".".join([*above, *([n.module] if n.module else [])])
            found |= {base, *(f"{base}.{a.name}" for a in n.names)}
        if isinstance(n, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(n) is not None:
            n.body = n.body[1:] or [ast.Pass()]
    return digest(ast.dump(tree)), frozenset(f for f in found if f.startswith("ion_ode."))


def closure(
    module: str,  # Full name, "ion_ode.dspmde.solve"
    root: Path = ROOT,  # Folder of the package
) -> dict[str, str]:  # Full name -> digest, of it and of everything it imports from the package
    "Digests of the syntax trees that a module can reach; a comment or a docstring changes none of them."
    seen, todo = {}, [module]
    while todo:
        name = todo.pop()
        path = _module_file(name, root)
        if name in seen or path is None:
            continue
        tree, more = _read(path, name, path.stat().st_mtime_ns)
        beside = [digest((root / f).read_bytes()) for f in _ALONG.get(name, ())]
        seen[name] = digest([tree, *beside]) if beside else tree
        todo += more
    return dict(sorted(seen.items()))


def code_digest(
    function,  # Function or class of the package
    root: Path = ROOT,  # Folder of the package
) -> str:
    "One digest of all code that a function can reach."
    return digest(closure(function.__module__, root))


@lru_cache(maxsize=1)
def tables_digest() -> str:
    "Digest of the tables that ship with the package."
    return digest({p.name: digest(p.read_bytes()) for p in sorted((ROOT / "assets").glob("*.csv"))})


def fingerprint(
    function,  # Function of the package that computes the result
    **inputs,  # All it is given: configurations, numbers, tables (every column counts)
) -> dict[str, str]:  # Part -> digest or version
    "What a result depends on, part by part: inputs, code, the package's tables, versions of what does the arithmetic."
    whole = lambda x: digest(x.to_csv().encode()) if hasattr(x, "to_csv") else digest(x)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy")}
    own = {"code": code_digest(function), "tables": tables_digest()}
    return {k: whole(v) for k, v in inputs.items()} | own | versions


def changed(
    old: dict | None,  # A stored fingerprint; None where nothing is stored
    new: dict[str, str],  # What is asked for now
) -> list[str]:  # Names of the parts that differ
    "In what two fingerprints differ."
    return [] if old is None else sorted(k for k in {*old, *new} if old.get(k) != new.get(k))

"""What code a result depends on: the syntax trees in the import closure of a module, found by reading the imports"""

import ast
import importlib.util
from functools import lru_cache
from pathlib import Path

from ion_ode.store import digest

PACKAGE = __name__.partition(".")[0]
ALONG = {".attention_odenet.fused": ("assets/fused.cpp",)}  # Files beside Python that take part in computing


@lru_cache(maxsize=None)
def _parsed(
    module: str,  # Full name
) -> tuple[str, frozenset[str]]:  # Digest of its syntax tree, full names of the modules of the package it imports
    path = Path(importlib.util.find_spec(module).origin)
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for n in ast.walk(tree):
        if isinstance(n, ast.Import):
            found |= {a.name for a in n.names}
        elif isinstance(n, ast.ImportFrom):
            base = importlib.util.resolve_name("." * n.level + (n.module or ""), package) if n.level else n.module
            found |= {base, *(f"{base}.{a.name}" for a in n.names)}
        if isinstance(n, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(n) is not None:
            n.body = n.body[1:] or [ast.Pass()]
    beside = [digest((Path(__file__).parent / f).read_bytes()) for f in ALONG.get(module.removeprefix(PACKAGE), ())]
    known = frozenset(m for m in found if m.startswith(f"{PACKAGE}.") and _exists(m))
    return digest([ast.dump(tree), beside]), known


@lru_cache(maxsize=None)
def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


@lru_cache(maxsize=None)
def closure(
    module: str,  # Full name, "ion_ode.dspmde.solve"
) -> dict[str, str]:  # Full name -> digest, of it and of everything it imports from the package
    "Digests of the syntax trees that a module can reach; a comment or a docstring changes none of them."
    seen, todo = {}, [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen[name], more = _parsed(name)
            todo += sorted(more)
    return dict(sorted(seen.items()))


def code_digest(
    function,  # Function or class of the package
) -> str:
    "One digest of all code that a function can reach."
    return digest(closure(function.__module__))

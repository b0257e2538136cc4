"""Compile a C++ source once on this machine; load it again only where it is unchanged

The library is kept under the SHA-256 of its own bytes, in a folder that belongs to the user and that nobody else can
write; a file that is cut short, damaged or put there by another is made again.
"""

import ctypes
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from ..guard import cache_folder, private
from ..store import digest

__all__ = ["BuildError", "build"]

_FLAGS = ("-O3", "-march=native", "-std=c++17", "-fno-math-errno", "-shared", "-fPIC", "-pthread")


class BuildError(RuntimeError):
    "Why there is no library here, in one sentence."


def _processor() -> str:
    "What the compiler may use: a library for one processor may not run on another that shares the folder."
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.machine() + platform.processor()


def _kept(folder: Path, name: str) -> Path | None:
    "The library of this name, if it still is what was written; what is not is removed."
    for path in sorted(folder.glob(f"{name}-*.so")):
        try:
            if private(path) and path.stem == f"{name}-{digest(path.read_bytes())[:32]}":
                return path
            path.unlink()
        except OSError:
            continue
    return None


def _compile(source: Path, compiler: list[str], folder: Path, name: str) -> Path:
    "Whole or not at all, whoever else is building."
    for left in folder.glob(f".{name}-*"):  # by a process that was ended while it compiled, an hour ago or more
        if time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as place:
        made = Path(place) / "made.so"
        subprocess.run([*compiler, *_FLAGS, str(source), "-o", str(made)], capture_output=True, text=True, check=True)
        made.chmod(0o700)
        path = folder / f"{name}-{digest(made.read_bytes())[:32]}.so"
        os.replace(made, path)
    return path


def build(
    source: Path,  # The C++ source
) -> ctypes.CDLL:  # Its library
    "Load the compiled source with the headers beside it, built at its first use on this machine, in some seconds."
    named = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if named is None:
        raise BuildError("no C++ compiler was found (g++, clang++, or $CXX)")
    compiler = named.split()
    try:
        said = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
        text = source.read_text()
        along = [source.with_name(header).read_text() for header in re.findall(r'^#include "(.+)"', text, re.M)]
        name = f"{source.stem}-{digest([text, *along, named, said, _FLAGS, _processor()])[:16]}"
        if (folder := cache_folder()) is not None:
            return ctypes.CDLL(str(_kept(folder, name) or _compile(source, compiler, folder, name)))
        with tempfile.TemporaryDirectory(prefix="ion_ode-", ignore_cleanup_errors=True) as place:
            return ctypes.CDLL(str(_compile(source, compiler, Path(place), name)))  # what is loaded needs no file
    except (OSError, subprocess.SubprocessError) as e:
        lines = (getattr(e, "stderr", None) or str(e)).strip().splitlines()
        raise BuildError(f"{named} did not build {source.name} ({lines[0] if lines else 'no message'})") from e

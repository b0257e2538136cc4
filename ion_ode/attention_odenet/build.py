"""Compile a C++ source once on this machine; load it again only where it is unchanged

The library is kept under the SHA-256 of its own bytes, in a folder that belongs to the user and that nobody else can
write; a file that is cut short, damaged or put there by another is made again.
"""

import atexit
import ctypes
import os
import platform
import shutil
import stat
import subprocess
import tempfile
import warnings
from pathlib import Path

from ..store import digest

__all__ = ["BuildError", "build"]

_FLAGS = ("-O3", "-march=native", "-std=c++17", "-fno-math-errno", "-shared", "-fPIC", "-pthread")


class BuildError(RuntimeError):
    "Why there is no library here, in one sentence."


def _private(path: Path) -> bool:
    "Whether a file or folder belongs to this user (or to root), is no link, and nobody else can write it."
    if os.name != "posix":
        return True
    facts = path.lstat()
    return not stat.S_ISLNK(facts.st_mode) and facts.st_uid in (os.geteuid(), 0) and not facts.st_mode & 0o022


def _temporary() -> Path:
    "A folder that ends with this process."
    folder = Path(tempfile.mkdtemp(prefix="ion_ode-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _cache() -> Path:
    "Where libraries are kept: $ION_ODE_CACHE, or the user's cache folder, or one that lasts as long as the process."
    home = os.environ.get("ION_ODE_CACHE")
    home = home or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ion_ode"
    try:
        folder = Path(home).resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return _temporary()
        if _private(folder):
            return folder
        warnings.warn(
            f"{folder} belongs to or can be written by another user: the compiled path is built for this process "
            f"alone; take the others' right to write (chmod go-w) or name another folder in ION_ODE_CACHE",
            stacklevel=5,
        )
    except (OSError, RuntimeError):
        pass
    return _temporary()


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
            if _private(path) and path.stem == f"{name}-{digest(path.read_bytes())[:32]}":
                return path
            path.unlink()
        except OSError:
            continue
    return None


def _compile(source: Path, compiler: list[str], folder: Path, name: str) -> Path:
    "Whole or not at all, whoever else is building."
    with tempfile.TemporaryDirectory(dir=folder) as place:
        made = Path(place) / "made.so"
        subprocess.run([*compiler, *_FLAGS, str(source), "-o", str(made)], capture_output=True, text=True, check=True)
        made.chmod(0o700)
        path = folder / f"{name}-{digest(made.read_bytes())[:32]}.so"
        os.replace(made, path)
    return path


def build(
    source: Path,  # The C++ source
) -> ctypes.CDLL:  # Its library
    "Load the compiled source, built at its first use on this machine, in some seconds."
    named = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if named is None:
        raise BuildError("no C++ compiler was found (g++, clang++, or $CXX)")
    compiler = named.split()
    try:
        said = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
        name = f"{source.stem}-{digest([source.read_text(), named, said, _FLAGS, _processor()])[:16]}"
        folder = _cache()
        return ctypes.CDLL(str(_kept(folder, name) or _compile(source, compiler, folder, name)))
    except (OSError, subprocess.SubprocessError) as e:
        lines = (getattr(e, "stderr", None) or str(e)).strip().splitlines()
        raise BuildError(f"{named} did not build {source.name} ({lines[0] if lines else 'no message'})") from e

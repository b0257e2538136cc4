"""At the door of every record: one writer at a time, JSON of bounded size, entries of the right type, a seal"""

import errno
import json
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

from ion_ode.core import InputError, known_fields

__all__ = ["alone", "cache_folder", "once", "private", "read_json", "sealed", "typed", "unsealed"]

_MOST_BYTES = 1 << 28  # Of a record
_SHOWN = 60  # Letters of a wrong value that are repeated


def _locked(file: Path) -> int | None:
    "A descriptor of a lock file that is ours alone, None where it is another's; the lock ends with the process."
    while True:
        fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            if e.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):  # a file system that knows no locks
                os.close(fd)
                return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), os.stat(file)):
                return fd
        os.close(fd)  # its owner removed it in between


def _release(file: Path, fd: int) -> None:
    "Give a lock back and leave nothing behind."
    with suppress(OSError):
        file.unlink()
    os.close(fd)
    if os.name == "nt":  # an open file stays there
        with suppress(OSError):
            file.unlink()


@contextmanager
def alone(
    target: str | Path | None,  # A folder, made if missing, or a file that will be written; None: nothing
    folder: bool = True,  # Whether it is a folder
) -> Iterator[None]:
    """The only process that writes there; found out, as whether one may write at all, before the work begins, and what
    one that was killed left of its writing is removed."""
    from ion_ode.store import remnants

    if target is None:
        yield
        return
    path = Path(target).absolute()
    where = path if folder else path.parent
    if where.exists() and not where.is_dir():
        raise InputError(f"{where} is a file; name a folder")
    if "\0" in str(target):
        raise InputError(f"{str(target)!r} is no name of a file; name a place where you may write")
    lock = where / (".lock" if folder else f".{path.name}.lock")
    try:
        where.mkdir(parents=True, exist_ok=True)
        fd = _locked(lock)
    except OSError as e:
        raise InputError(f"{where} cannot be written to ({e.strerror}); name a place where you may write") from e
    if fd is None:
        raise InputError(f"another process is writing to {target}; wait until it has ended, or name another place")
    try:
        for part in remnants(where, None if folder else path.name):
            part.unlink(missing_ok=True)
        yield
    finally:
        _release(lock, fd)


def private(
    path: Path,  # A file or folder
) -> bool:
    "Whether it belongs to this user (or to root), is no link, and nobody else can write it."
    if os.name != "posix":
        return True
    facts = path.lstat()
    return not stat.S_ISLNK(facts.st_mode) and facts.st_uid in (os.geteuid(), 0) and not facts.st_mode & 0o022


def _kept_in(home: Path) -> Path | None:
    try:
        folder = home.resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return None
        if private(folder):
            return folder
        warnings.warn(
            f"{folder} belongs to or can be written by another user: what is compiled lasts as long as this process; "
            f"take the others' right to write (chmod go-w) or name another folder in ION_ODE_CACHE",
            stacklevel=3,
        )
    except (OSError, RuntimeError):
        pass
    return None


def cache_folder() -> Path | None:  # None where none is to be trusted
    "Where compiled code is kept between processes: $ION_ODE_CACHE, or the user's cache folder."
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        home = None
    own = os.environ.get("ION_ODE_CACHE") or (home and Path(home) / "ion_ode")
    return _kept_in(Path(own)) if own else None


def once(
    pairs: list[tuple],  # Names and values of one object of JSON, as `json.loads` gives them
) -> dict:
    "An object of JSON in which no name stands twice."
    d = dict(pairs)
    if len(d) < len(pairs):
        keys = [k for k, _ in pairs]
        raise ValueError(f"{next(k for k in keys if keys.count(k) > 1)!r} stands twice in one object")
    return d


def _bytes_of(path: Path | None, name: str) -> bytes:
    "At most _MOST_BYTES of a file, a pipe or standard input; nothing of a device, which may have no end."
    if path is None:
        data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    else:
        try:
            mode = path.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
                raise InputError(f"{name} is {'a folder' if stat.S_ISDIR(mode) else 'a device'}; name a file of JSON")
            with path.open("rb") as f:
                data = f.read(_MOST_BYTES + 1)
        except OSError as e:
            raise InputError(f"{name} cannot be read ({e.strerror}); check the path") from e
    if len(data) > _MOST_BYTES:
        raise InputError(f"{name} is larger than {_MOST_BYTES >> 20} MiB; this is no record of settings or a model")
    return data


def read_json(
    path: str | Path,  # File; "-" is standard input
    what: str,  # In words, such as "a training configuration"
    example: str = "",  # What one looks like
) -> dict:
    "One JSON object of a file of bounded size and nesting, every name once, or one sentence."
    name = "standard input" if str(path) == "-" else str(path)
    try:
        found = json.loads(
            _bytes_of(None if str(path) == "-" else Path(path), name).decode("utf-8-sig"), object_pairs_hook=once
        )
    except RecursionError as e:
        raise InputError(f"{name} is nested too deeply to be {what}") from e
    except ValueError as e:
        said = "not text in UTF-8" if isinstance(e, UnicodeDecodeError) else " ".join(str(e).split())[:200]
        raise InputError(
            f"{name} is not JSON ({said}); expected {what}{f' such as {example}' if example else ''}"
        ) from e
    if not isinstance(found, dict):
        raise InputError(
            f"{name} holds a {type(found).__name__}, expected {what}{f' such as {example}' if example else ''}"
        )
    return found


def _words(hint) -> str:
    "A type as a person writes it."
    names = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "NoneType": "null"}
    if is_dataclass(hint):
        return "an object"
    args = [a for a in getattr(hint, "__args__", ()) if a is not Ellipsis]
    if getattr(hint, "__origin__", hint) in (list, tuple):
        return "a list"
    return (
        " or ".join(dict.fromkeys(map(_words, args))) if args else names.get(getattr(hint, "__name__", ""), str(hint))
    )


def typed(
    cls: type,  # A dataclass
    entries: dict,  # What a file or a caller gives it
    what: str,  # For the message: "the training configuration"
) -> dict:  # The same entries
    "The entries, if the dataclass knows each and each has the type it declares; dataclasses inside as well."
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(cls)
    needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    if lacks := [n for n in needed if n not in entries]:
        raise InputError(f"{what} lacks {', '.join(lacks)}; give {', '.join(needed)}")
    for name, value in known_fields(cls, entries, what).items():
        hint, where = hints[name], f"{name} of {what}"
        if is_dataclass(hint) and isinstance(value, dict):
            typed(hint, value, where)
            continue
        try:
            if not is_dataclass(hint):
                TypeAdapter(hint, config={"strict": True, "allow_inf_nan": False}).validate_json(json.dumps(value))
            elif not isinstance(value, hint):
                raise TypeError
        except (ValidationError, TypeError, ValueError, RecursionError):
            shown = repr(value) if len(repr(value)) <= _SHOWN else repr(value)[:_SHOWN] + "..."
            raise InputError(f"{where} is {shown}; expected {_words(hint)}") from None
    return entries


def sealed(
    record: dict,  # JSON-ready
    indent: int | None = None,  # As for `json.dumps`
    sort_keys: bool = False,  # As for `json.dumps`
) -> str:  # Text of the file
    "A record as text that carries the digest of everything else in it."
    from ion_ode.store import digest

    return json.dumps({**record, "sha256": digest(record)}, indent=indent, sort_keys=sort_keys) + "\n"


def unsealed(
    path: str | Path,  # Written as `sealed` says
    what: str,  # In words
) -> dict:  # The record
    "A record that is byte by byte what was written."
    record = read_json(path, what)
    if not isinstance(record.pop("sha256", None), str):
        raise InputError(f"{path} carries no digest, so it is not whole or not {what}; make it again")
    if Path(path).read_bytes() not in (sealed(record).encode(), sealed(record, 1).encode()):
        raise InputError(f"{path} was changed after it was written, or cut; restore it from a copy, or make it again")
    return record

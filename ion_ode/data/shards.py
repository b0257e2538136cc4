"""Shards that can be made in any order, on any machine, and checked"""

import json
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ion_ode.closure import CELLS, Cell, changed, fingerprint
from ion_ode.core import InputError
from ion_ode.data.design import Design
from ion_ode.data.sharded import ShardedCurves, _as_text, _intact, _read_manifest, _shard_name
from ion_ode.dspmde.prior import parameter_names
from ion_ode.guard import alone
from ion_ode.runner import compute
from ion_ode.store import atomic_write, digest, provenance

__all__ = ["simulate_shards", "ShardedCurves"]


_FORMAT = "ion_ode shards 2"
_MOST = 10**9  # Points of a set, a terabyte or so
_MADE = "made.jsonl"  # Hashes of the shards of an unfinished set


def _begin(folder: Path, plan: dict, made_of: dict) -> dict:
    "The manifest of a folder that this run may write to; a new one where there is none."
    old = _read_manifest(folder)
    if old is None and folder.exists() and any(p.suffix == ".safetensors" for p in folder.iterdir()):
        raise InputError(f"{folder} holds safetensors files but no manifest.json; choose an empty folder")
    if old is None:
        old = {**plan, "key": digest(plan), "made_of": made_of, "complete": False}
        atomic_write(folder / "manifest.json", _as_text(old))
    if old.get("key") != digest(plan):
        differ = [k for k in plan if old.get(k) != plan[k]] or ["format"]
        raise InputError(
            f"{folder} holds another set ({', '.join(differ)} differ); choose an empty folder or the same settings"
        )
    if other := changed(old.get("made_of") or {}, made_of):
        raise InputError(
            f"{folder} was begun with other {' and '.join(other)}; choose an empty folder, or the versions it was "
            f"begun with"
        )
    return old


def _known(folder: Path, manifest: dict) -> dict[int, dict]:
    "Shards whose hash was noted: from the finished manifest, or line by line; the last line may have been cut."
    if manifest.get("complete"):
        return {k: {n: s[n] for n in ("curves", "sha256")} for k, s in enumerate(manifest["shards"])}
    known = {}
    path = folder / _MADE
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(True) if path.exists() else ():
        try:
            entry = json.loads(line)
            if line == _as_text(entry, None):
                known[entry["index"]] = entry["made"]
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            continue
    return known


def _note(folder: Path, index: int, curves: int, data: bytes) -> dict:
    "Write the hash of a shard before the shard itself."
    entry = {"curves": curves, "sha256": digest(data)}
    with (folder / _MADE).open("a", encoding="utf-8") as f:
        f.write(_as_text({"index": index, "made": entry}, None))
        f.flush()
        os.fsync(f.fileno())
    return entry


class _Shards:
    "A set of shards as the store of a run: workers send bytes, this process alone writes."

    def __init__(self, folder: Path, manifest: dict):
        self.folder, self.manifest, self.known = folder, manifest, _known(folder, manifest)

    def has(self, cell: Cell) -> bool:
        "Whether a shard is there as it was made."
        return _intact(self.folder, cell.spec["shard"], self.known)

    def job(self, cell: Cell):
        "What has to be done for it."
        return partial(_make, cell.spec)

    def keep(self, cell: Cell, made: tuple[bytes, dict]) -> None:
        "Store a shard that was just made, unless it is not what a finished set holds there."
        (data, facts), index = made, cell.spec["shard"]
        if self.manifest["complete"] and digest(data) != self.known[index]["sha256"]:
            raise InputError(
                f"{_shard_name(index)} is damaged and comes out differently here, as on another processor; choose an "
                f"empty folder"
            )
        if not self.manifest["complete"]:
            self.known[index] = _note(self.folder, index, facts["curves"], data)
        atomic_write(self.folder / _shard_name(index), data)


def _make(spec: dict, function, tick) -> tuple[bytes, dict]:
    "A shard, on any worker."
    return function(None, spec, None, tick)


def _finish(folder: Path, manifest: dict, design: Design, made: list[dict]) -> dict:
    "Write the finished manifest."
    done = {
        **manifest,
        "complete": True,
        "curves": sum(m["curves"] for m in made),
        "parameters": list(parameter_names(design.family, design.ions)),
        "shards": [{"file": _shard_name(k), **m} for k, m in enumerate(made)],
        "versions": provenance()["versions"],
    }
    text = _as_text(done)
    atomic_write(folder / "manifest.json", text)
    return json.loads(text)


def _resume(folder: Path, n: int, design: Design, shard: int, dtype: str, where: dict) -> dict:
    "Make the shards that are not there as they were made; the manifest."
    settings = json.loads(json.dumps(asdict(design)))
    plan = {"format": _FORMAT, "design": settings, "points": n, "shard": shard, "dtype": dtype}
    manifest = _begin(folder, plan, fingerprint(CELLS["shard"]))
    store, starts = _Shards(folder, manifest), range(0, n, shard)
    cut = {"design": settings, "size": shard, "dtype": dtype}
    cells = [
        Cell(_shard_name(k), "shard", cut | {"shard": k, "count": min(shard, n - first)})
        for k, first in enumerate(starts)
    ]
    compute(cells, store, **where)
    if not manifest["complete"]:
        manifest = _finish(folder, manifest, design, [store.known[k] for k in range(len(cells))])
    (folder / _MADE).unlink(missing_ok=True)
    return manifest


def simulate_shards(
    folder: str | Path,  # Where the shards go; made if missing
    n: int,  # Points of the design (curves without a certified solution are left out)
    design: Design,  # What to simulate
    *,
    shard: int = 4096,  # Points a shard
    dtype: str = "float32",  # Stored precision, "float32" or "float64"
    scheduler: str | None = None,  # Address of a Dask scheduler, such as tcp://head:8786
    workers: int | None = None,  # Or: this many processes of this machine; neither: in this process
) -> dict:  # The manifest
    "Simulate a set of any size into a folder; resumes, and the result does not depend on interruptions or workers."
    folder = Path(folder)
    if not 1 <= n <= _MOST or shard < 1:
        raise InputError(f"n is {n} and shard {shard}; expected 1 to {_MOST:g} curves and at least 1 a shard")
    if dtype not in ("float32", "float64"):
        raise InputError(f"dtype is {dtype!r}, expected 'float32' or 'float64'")
    if scheduler and workers:
        raise InputError("give either the address of a scheduler or a number of local workers, not both")
    with alone(folder):
        return _resume(folder, n, design, shard, dtype, dict(scheduler=scheduler, workers=workers or 0))



"""A set of shards as one set of curves, and how a shard is made"""

import json
from dataclasses import replace
from pathlib import Path

import torch
from fastcore.basics import patch

from ion_ode.closure import cell
from ion_ode.core import InputError
from ion_ode.data.curves import CurveSet
from ion_ode.data.design import Design
from ion_ode.guard import sealed
from ion_ode.store import digest


def _shard_name(index: int) -> str:
    return f"shard-{index:05d}.safetensors"


@cell("shard")
def _make_shard(folder, spec, found, tick) -> tuple[bytes, dict]:
    "Shard number `shard` of a design: its bytes, and how many curves they hold."
    d = Design(**spec["design"])
    curves, _ = d.solve(spec["count"], spec["shard"] * spec["size"])
    kept = replace(curves, meta={"design": digest(spec["design"]), "shard": spec["shard"]})
    tick(1)
    return kept.to(getattr(torch, spec["dtype"])).to_bytes(), {"curves": len(curves)}


def _intact(folder: Path, index: int, known: dict[int, dict]) -> bool:
    "Whether a shard is there, with the bytes that were made."
    try:
        return digest((folder / _shard_name(index)).read_bytes()) == known[index]["sha256"]
    except (OSError, KeyError, TypeError):
        return False


def _read_manifest(folder: Path) -> dict | None:
    "What a folder says of its set, None where it says nothing; a manifest that was changed is refused."
    path = folder / "manifest.json"
    if not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
        same = text == _as_text(found)
    except (ValueError, AttributeError, RecursionError) as e:
        raise InputError(f"{path} cannot be read; restore it, or choose an empty folder") from e
    if not same:
        raise InputError(f"{path} was changed after it was written; restore it, or choose an empty folder")
    return found


def _as_text(manifest: dict, indent: int | None = 1) -> str:
    "A manifest, or a line about one shard, with the digest of all else in it."
    return sealed({k: v for k, v in manifest.items() if k != "sha256"}, indent, sort_keys=True)


class ShardedCurves:
    "A folder of shards, read one shard at a time."

    def __init__(
        self,
        folder: str | Path,  # Written by `simulate_shards`
    ):
        self.folder = Path(folder)
        self.manifest = _read_manifest(self.folder)
        if self.manifest is None:
            raise InputError(f"{self.folder} has no manifest.json; make the set with simulate_shards")
        if not self.manifest.get("complete"):
            raise InputError(
                f"the set in {self.folder} is not complete; run simulate_shards again with the same settings"
            )

    def __len__(self) -> int:
        return self.manifest["curves"]

    @property
    def parameter_names(self) -> tuple[str, ...]:
        "What the columns of `CurveSet.parameters` are."
        return tuple(self.manifest["parameters"])


@patch
def shard(
    self: ShardedCurves,
    index: int,  # 0 to number of shards - 1
    verify: bool = True,  # Compare with the hash in the manifest
) -> CurveSet:
    "One shard."
    entry = self.manifest["shards"][index]
    path = self.folder / _shard_name(index % len(self.manifest["shards"]))
    if entry["file"] != path.name or not path.exists():
        raise InputError(
            f"{entry['file']} is missing in {self.folder}; run simulate_shards again with the same settings"
        )
    data = path.read_bytes()
    if verify and digest(data) != entry["sha256"]:
        raise InputError(
            f"{entry['file']} differs from its hash in manifest.json; run simulate_shards again with the same settings"
        )
    return CurveSet.from_bytes(data, path.name)


@patch
def verify(self: ShardedCurves) -> int:
    "Check every shard against its hash; returns how many."
    return sum(self.shard(k, verify=True) is not None for k in range(len(self.manifest["shards"])))


@patch
def batches(
    self: ShardedCurves,
    size: int,  # Curves a batch; a short last batch of each shard is dropped
    seed: int | None = None,  # Shuffle shards, and curves within a shard; None: as stored
):  # Iterator of CurveSet
    "Stream through the set once, with one shard in memory."
    g = None if seed is None else torch.Generator().manual_seed(seed)
    order = (
        range(len(self.manifest["shards"]))
        if g is None
        else torch.randperm(len(self.manifest["shards"]), generator=g).tolist()
    )
    for k in order:
        c = self.shard(k)
        index = torch.arange(len(c)) if g is None else torch.randperm(len(c), generator=g)
        for i in range(0, len(c) - size + 1, size):
            yield c.subset(index[i : i + size])

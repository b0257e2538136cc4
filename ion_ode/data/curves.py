"""One container for simulated and measured rejection curves"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from fastcore.basics import patch
import numpy as np
import torch
from safetensors.torch import load as load_tensors, save as save_tensors

from ion_ode.core import InputError
from ion_ode.guard import sealed, unsealed
from ion_ode.store import atomic_write, digest, header
from ion_ode.water.ions import get_ion

__all__ = ["CurveSet"]


_FIELDS = ("c_feed", "flux", "c_perm", "valid", "sd", "membrane", "parameters")


@dataclass(frozen=True)
class CurveSet:
    "Permeate compositions along water flux: B samples, T fluxes, d ions."

    ions: tuple[str, ...]  # Names of the d slots
    c_feed: torch.Tensor  # (B, d) concentration at the membrane's feed side; 0 = absent [mol/m³]
    flux: torch.Tensor  # (B, T) water flux $J_v$ [m/s]
    c_perm: torch.Tensor  # (B, T, d) permeate; 0 where absent or not measured [mol/m³]
    valid: torch.Tensor = None  # (B, T, d) weight of each value; 0 = absent or not measured
    sd: torch.Tensor | None = None  # (B, T, d) standard deviation of the rejection
    membrane: torch.Tensor | None = None  # (B, m) scaled features, `membrane_features`
    parameters: torch.Tensor | None = None  # (B, p) membrane parameters in SI, named in meta["parameters"]
    place: torch.Tensor | None = None  # (B, T, d) int: which measurement stands there, -1 for none
    meta: dict = field(default_factory=dict)  # Seed, ranges, solver settings, provenance; JSON

    def __post_init__(self):
        B, d = self.c_feed.shape
        if self.flux.shape[0] != B or self.c_perm.shape != (*self.flux.shape, d) or len(self.ions) != d:
            raise InputError(
                f"curve set of {len(self.ions)} ions has c_feed {tuple(self.c_feed.shape)}, flux "
                f"{tuple(self.flux.shape)}, "
                f"c_perm {tuple(self.c_perm.shape)}; expected (B, d), (B, T), (B, T, d)"
            )
        if self.valid is None:
            object.__setattr__(
                self, "valid", self.mask[:, None, :].expand_as(self.c_perm).to(self.c_perm.dtype).clone()
            )

    def __len__(self) -> int:
        return self.c_feed.shape[0]

    def __repr__(self):
        size = f"{len(self)} samples x {self.flux.shape[1]} fluxes x {len(self.ions)} ions"
        return f"CurveSet({size}, {int((self.valid > 0).sum())} values)"

    @property
    def mask(self) -> torch.Tensor:  # (B, d) bool
        "Which ions each feed holds."
        return self.c_feed > 0

    @property
    def z(self) -> torch.Tensor:  # (d,)
        "Charges of the slots."
        return torch.tensor([get_ion(i).z for i in self.ions], dtype=self.c_feed.dtype)

    @property
    def rejection(self) -> torch.Tensor:  # (B, T, d), nan where absent
        "$R_i = 1 - c_{p,i}/c_{f,i}$"
        return 1 - self.c_perm / torch.where(self.mask, self.c_feed, torch.nan)[:, None]

    @classmethod
    def load(cls, path: str | Path) -> "CurveSet":
        "Read a set written by `save`; a damaged file or a file of another kind is refused."
        path = Path(path)
        data, found = path.read_bytes(), cls.from_bytes(path.read_bytes(), path.name)
        card = path.with_name(path.name + ".json")
        if digest(data) != unsealed(card, "the card of a curve set").get("data_sha256"):
            raise InputError(
                f"{path.name} differs from the hash in {card.name}; the file was changed or cut short, make it again"
            )
        return found

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "this") -> "CurveSet":
        "What `to_bytes` made; its bytes are not held against any digest here."
        try:
            head = json.loads(header(data)["ion_ode"])
            tensors = {k: v.clone() for k, v in load_tensors(data).items()}
            return cls(ions=tuple(head["ions"]), meta=head["meta"], **tensors)
        except Exception as e:
            raise InputError(
                f"{name} is not a curve set written by ion_ode ({type(e).__name__}); write it again with CurveSet.save"
            ) from e


@patch
def subset(self: CurveSet, index) -> "CurveSet":
    "Samples chosen by slice, integer or boolean index."
    take = lambda x: None if x is None else x[index]
    return replace(self, **{f: take(getattr(self, f)) for f in (*_FIELDS, "place")})


@patch
def to(self: CurveSet, *args, **kw) -> "CurveSet":
    "Another dtype or device, as `Tensor.to`."
    return replace(
        self, **{f: (None if getattr(self, f) is None else getattr(self, f).to(*args, **kw)) for f in _FIELDS}
    )


@patch
def laid(self: CurveSet, values) -> torch.Tensor:  # (B, T, d), 0 where nothing was measured
    "Values of measurements in their places."
    return torch.where(self.place >= 0, torch.tensor(values)[self.place], 0.0)


@patch
def to_frame(self: CurveSet):  # A pandas DataFrame
    "Tidy: sample, flux_m_s, ion, c_feed_mol_m3, c_perm_mol_m3, rejection, weight; absent ions left out."
    import pandas as pd

    b, t, i = torch.nonzero(self.valid > 0, as_tuple=True)
    pick = lambda x: x.double().numpy()
    return pd.DataFrame(
        {
            "sample": b.numpy(),
            "flux_m_s": pick(self.flux[b, t]),
            "ion": np.array(self.ions, dtype=object)[i.numpy()],
            "c_feed_mol_m3": pick(self.c_feed[b, i]),
            "c_perm_mol_m3": pick(self.c_perm[b, t, i]),
            "rejection": pick(self.rejection[b, t, i]),
            "weight": pick(self.valid[b, t, i]),
        }
    )


@patch
def to_bytes(self: CurveSet) -> bytes:
    "Safetensors with one JSON string of metadata; the same set gives the same bytes."
    tensors = {f: getattr(self, f).contiguous() for f in _FIELDS if getattr(self, f) is not None}
    head = json.dumps({"format": "ion_ode curves 1", "ions": self.ions, "meta": self.meta}, sort_keys=True)
    return save_tensors(tensors, metadata={"ion_ode": head})


@patch
def save(self: CurveSet, path: str | Path) -> Path:
    "Write PATH (safetensors) and PATH.json beside it: sizes, hash and metadata for a reader without torch."
    path, data = Path(path), self.to_bytes()
    atomic_write(path, data)
    card = {
        "format": "ion_ode curves 1",
        "samples": len(self),
        "fluxes": self.flux.shape[1],
        "ions": list(self.ions),
        "data_sha256": digest(data),
        "meta": self.meta,
    }
    atomic_write(path.with_name(path.name + ".json"), sealed(card, 1))
    return path


def _concat(parts: list[CurveSet]) -> CurveSet:
    "Sets of one design, one after the other."
    cat = lambda f: None if getattr(parts[0], f) is None else torch.cat([getattr(p, f) for p in parts])
    return replace(parts[0], **{f: cat(f) for f in _FIELDS})

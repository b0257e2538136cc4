"""torch, loaded when it is first used: what needs no tensor, as `ion-ode predict` for one feed, pays nothing for it

Modules of the way from a question to the compiled kernel take `torch` and `Tensor` from here, in annotations,
`isinstance` and calls alike; everything else imports torch itself."""

import importlib
import sys
from typing import TYPE_CHECKING

import numpy as np

__all__ = ["Tensor", "alike", "bare", "library", "torch"]


class _OnUse:
    "Stands for torch until an attribute of it is asked for."

    def __getattr__(self, name):
        return getattr(importlib.import_module("torch"), name)


class _Kind(type):
    "Asks torch who is a tensor; nothing is before torch is loaded."

    def __instancecheck__(cls, x):
        loaded = sys.modules.get("torch")
        return loaded is not None and isinstance(x, loaded.Tensor)


if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = _OnUse()
    Tensor = _Kind("Tensor", (), {"__doc__": "torch.Tensor"})


def library(
    *values,  # Arrays, tensors or numbers
):  # torch where one is a tensor, otherwise NumPy
    "The library whose functions take these values."
    return torch if any(isinstance(v, Tensor) for v in values) else np


def alike(
    v,  # Number, array or tensor; a graph it carries stays
    c,  # Array or tensor
):
    "A value in the library, the precision and the place of another."
    if isinstance(c, Tensor):
        return torch.as_tensor(v, dtype=c.dtype, device=c.device)
    return np.asarray(v.detach().to("cpu", torch.float64) if isinstance(v, Tensor) else v, dtype=c.dtype)


def bare(
    v,  # Number, array or tensor
):
    "The numbers alone: a tensor without its graph, an array as it is."
    return v.detach() if isinstance(v, Tensor) else np.asarray(v)

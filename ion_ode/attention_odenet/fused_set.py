"""Curves of the field that all ions share in one pass: the steps and their adjoint, compiled once"""

from typing import NamedTuple

import ctypes
import torch
from torch import Tensor

from ..core import InputError
from .fused import Source, expect, library, pass_by, struct

__all__ = ["SetWork", "set_curves"]

_MOVED, _FLUX = 4, 3  # What moves a token: two of the state, two of the flux; with the speed of the curve
_SIZES = ("members", "batch", "points", "steps", "ions", "told", "width", "heads", "d_k", "depth")
_SET = Source(
    "fused_set.cpp",
    struct("Shape", (*_SIZES, "own_data", "own_dense", "threads"), ctypes.c_int32),
    ("data", "flux", "dense", "cap"),
    ("told", "move", "attend"),
)


class SetWork(NamedTuple):
    "What decides the work for one ion of one curve."

    told: int  # Numbers an ion is told by, feed and context included
    width: int  # Width of tokens and hidden layers
    heads: int  # Attention heads
    d_k: int  # Width of what a head asks
    depth: int  # Linear layers, the token's among them
    cap: float  # Largest logit [-]

    def library(self) -> ctypes.CDLL | None:
        "The compiled source; None where it cannot be built."
        return library(_SET.name)

    @property
    def learned(self) -> list[tuple[int, ...]]:
        "Shapes of what is learned: what tells a token, what moves it, what it asks and answers, and the layers."
        w, asked = self.width, 2 * self.heads * self.d_k
        widths = [2 * w, *[w] * (self.depth - 2), 1]
        layers = [shape for i, o in zip(widths, widths[1:], strict=False) for shape in ((o, i), (o,))]
        return [(w, self.told + 1), (w, _MOVED), (asked + w, w), *layers]

    def tape_bytes(
        self,
        steps: int,  # $N$
        batch: int,  # Curves
        points: int,  # Points of a curve
        members: int = 1,  # Networks
        ions: int = 8,  # Ions of a feed
        dtype: torch.dtype = torch.float32,  # Of weights and curves
    ) -> int:
        "What `set_curves` keeps for its backward pass where every feed holds all ions; less otherwise."
        return _SET.tape_bytes(_sizes(self, steps, members, batch, points, ions), dtype)


def _sizes(work: SetWork, steps: int, members: int, batch: int, points: int, ions: int) -> dict:
    sizes = {k: v for k, v in work._asdict().items() if k != "cap"} | dict(ions=ions, own_data=False, own_dense=False)
    return sizes | dict(members=members, batch=batch, points=points, steps=steps, threads=torch.get_num_threads())


def set_curves(
    work: SetWork,  # Sizes
    steps: int,  # $N$ Tsitouras steps
    *,
    data: Tensor,  # (member or 1, batch, ion, 2 + told): feed over its total charge, valence, what tells the ion
    flux: Tensor,  # (member or 1, 3, evaluation, batch): two features of the flux, and the curve's speed
    dense: Tensor,  # (member or 1, batch, point, 7 steps): weights of the stages
    learned: list[Tensor],  # (member, ...) of the shapes `work.learned`
) -> tuple[Tensor, Tensor]:  # (member, batch, point, ion) h; (member, batch, ion + 1) estimated error of the state
    "Curves of all members under `equivalents`, with gradients of what is learned; no member changes another."
    members, (batch, ions), points, lead = len(learned[0]), data.shape[1:3], dense.shape[-2], len(data)
    shapes = [
        (lead, batch, ions, 2 + work.told),
        (lead, _FLUX, 6 * steps + 1, batch),
        (len(dense), batch, points, 7 * steps),
        (1,),
        *((members, *shape) for shape in work.learned),
    ]
    names = [*_SET.fixed, *_SET.learned, *(f"linears[{k}]" for k in range(2 * work.depth - 2))]
    inputs = [data, flux, dense, data.new_tensor([work.cap]), *learned]
    expect(names, inputs, shapes)
    if lead not in (1, members) or len(dense) not in (1, members) or not 1 <= ions <= 64:
        raise InputError(
            f"data of {lead} and dense weights of {len(dense)} members for {members} networks of {ions} ions; "
            f"expected 1 or {members}, and at most 64 ions"
        )
    sizes = _sizes(work, steps, members, batch, points, ions) | dict(own_data=lead > 1, own_dense=len(dense) > 1)
    return pass_by(_SET, sizes, ions + 1, inputs)

"""Pitzer's parameters from the table that ships"""

import csv
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ion_ode.core import T_REF
from ion_ode.store import asset
from ion_ode.water.activity import debye_huckel_A
from ion_ode.water.ions import eps_water, ion_arrays


@dataclass(frozen=True)
class _Set:
    "Parameters of some ions at a temperature; (ion, ion) and (ion, ion, ion)."

    z: Tensor
    B0: Tensor
    B1: Tensor
    B2: Tensor
    C0: Tensor
    THETA: Tensor
    PSI: Tensor
    A_phi: float


@lru_cache(maxsize=1)
def _rows() -> tuple[tuple[str, tuple[str, ...], tuple[float, ...]], ...]:
    "Kind, ions and six numbers of every parameter."
    with asset("water/pitzer.csv").open(encoding="utf-8") as f:
        rows = list(csv.reader(f))[1:]
    return tuple((r[0], tuple(filter(None, r[1:4])), tuple(map(float, r[4:]))) for r in rows)


@lru_cache(maxsize=64)
def _set(names: tuple[str, ...], T: float) -> _Set:
    n, kinds = len(names), ("B0", "B1", "B2", "C0", "THETA", "PSI")
    found = {k: torch.zeros((n,) * (3 if k == "PSI" else 2), dtype=torch.float64) for k in kinds}
    terms = (1.0, 1 / T - 1 / T_REF, math.log(T / T_REF), T - T_REF, T**2 - T_REF**2, T**-2 - T_REF**-2)
    for kind, ions, numbers in _rows():
        if set(ions) <= set(names):
            at = [names.index(i) for i in ions]
            value = sum(a * b for a, b in zip(numbers, terms, strict=True))
            for order in {tuple(at), tuple(at[::-1])} if len(at) == 2 else _orders(at):
                found[kind][order] = value
    A = float(debye_huckel_A(T, float(eps_water(T)))) * math.log(10) / 3
    return _Set(ion_arrays(names).z, **found, A_phi=A)


def _orders(at) -> set:
    "Every order of three places."
    a, b, c = at
    return {(a, b, c), (a, c, b), (b, a, c), (b, c, a), (c, a, b), (c, b, a)}

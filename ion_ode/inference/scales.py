"""How the parameters of a membrane are searched: transform, bounds and prior of each, and which are free together"""

import math
from dataclasses import dataclass, replace

from .._torch import library
from ..core import InputError
from ..water.ions import ion_name

__all__ = ["FOUR", "Scale", "default_scale", "dspmde_plus"]


@dataclass(frozen=True)
class Scale:
    "How a parameter is searched: transform, bounds, and an optional Gaussian prior on the transformed value."

    kind: str  # "linear", "log" (of the value), or "sinh" (value = 5 sinh(1.5 x), for charges of either sign)
    low: float  # Smallest value, in SI
    high: float  # Largest value, in SI
    prior: tuple[float, float] | None = None  # Mean and standard deviation of the transformed value
    unit: str = "-"

    def to_x(self, v: float) -> float:
        "The searched number of a value."
        return math.log(v) if self.kind == "log" else math.asinh(v / 5) / 1.5 if self.kind == "sinh" else v

    def to_value(self, x):
        "The value of a searched number, array or tensor."
        lib = library(x)
        return lib.exp(x) if self.kind == "log" else 5 * lib.sinh(1.5 * x) if self.kind == "sinh" else x


def default_scale(
    name: str,  # r_pore, thickness, charge_density[.shift.ION|.a|.b], eps_pore, ln_partition.ION[,ION], film.thickness
) -> Scale:
    "Search range of a parameter without a prior."
    if name.startswith("charge_density.b"):
        return Scale("linear", -0.5, 1.5)
    if name.startswith("charge_density"):
        return Scale("sinh", -400.0, 400.0, unit="mol/m³")
    if name.startswith("ln_partition."):
        return Scale("linear", -6.0, 6.0)
    table = {
        "r_pore": Scale("linear", 0.36e-9, 1.0e-9, unit="m"),
        "thickness": Scale("log", 0.02e-6, 50e-6, unit="m"),
        "eps_pore": Scale("linear", 25.0, 78.0),
        "film.thickness": Scale("log", 1e-6, 200e-6, unit="m"),
    }
    if name not in table:
        raise InputError(
            f"unknown free parameter {name!r}; expected r_pore, thickness, charge_density, charge_density.a, "
            "charge_density.b, charge_density.shift.ION, eps_pore, ln_partition.ION (ions tied by commas) or "
            "film.thickness"
        )
    return table[name]


FOUR = ("r_pore", "thickness", "charge_density", "eps_pore")  # The DSPM-DE fit of the literature


def dspmde_plus(
    ions,  # Ions of the measurements
    binding=("Mg+2", "SO4-2"),  # Ions that shift the charge
) -> tuple[tuple[str, ...], dict]:  # Free parameters, and their scales with a weak prior
    "DSPM-DE+: charge binding and an offset for every ion, held by a weak prior; alkali ions share one offset."
    names = [ion_name(i) for i in ions]
    alkali = [n for n in names if n in ("Na+", "K+", "Li+", "NH4+")]
    offsets = [",".join(alkali)] if alkali else []
    offsets += [n for n in names if n not in alkali]
    free = (
        *FOUR,
        *(f"charge_density.shift.{b}" for b in binding if b in names),
        *(f"ln_partition.{o}" for o in offsets),
    )
    scales = {
        "r_pore": Scale("linear", 0.40e-9, 0.60e-9, unit="m"),
        "thickness": Scale("log", 0.3e-6, 4e-6, unit="m"),
        "eps_pore": Scale("linear", 25.0, 78.0, (45.0, 8.0)),
    }
    for name in free:
        if name.startswith("charge_density"):
            scales[name] = replace(default_scale(name), prior=(0.0, 1.0))
        if name.startswith("ln_partition"):
            scales[name] = replace(default_scale(name), prior=(0.0, 1.0))
    return free, scales

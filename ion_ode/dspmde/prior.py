"""Two families and what is believed of their parameters"""

from dataclasses import dataclass
import numpy as np
import torch
from torch import Tensor
from ion_ode.core import InputError, nm, um
from ion_ode.dspmde.membranes import ChargeBinding, Membrane
from ion_ode.water.ions import IONS

__all__ = ["SLOTS", "MembranePrior", "parameter_names", "membrane_from_parameters", "NAMES", "from_normal"]

SLOTS = (*IONS, "NH4+")  # Ion slots of a curve set: the eight of the benchmark and ammonium


_FAMILIES = ("dspmde", "dspmde+")
_TIED = {"K+": "Na+", "Li+": "Na+"}  # Their excess partitioning is that of the ion named
_BINDING = ("Mg+2", "SO4-2")


@dataclass(frozen=True)
class MembranePrior:
    "What an NF270-like membrane may be."

    r_pore: tuple[float, float] = (0.40 * nm, 0.60 * nm)  # Uniform [m]
    thickness: tuple[float, float] = (0.3 * um, 4 * um)  # Log-uniform, $\Delta x/A_k$ [m]
    eps_pore: tuple[float, float] = (45.0, 8.0)  # Mean and standard deviation of a normal, cut to 20 to 75 [-]
    charge_scale: float = 5.0  # $s$ in $s\sinh(tN)$ [mol/m³]
    charge_stretch: float = 1.5  # $t$
    offset_sd: float = 1.0  # Standard deviation of the excess partitioning [-]


def parameter_names(
    family: str = "dspmde+",  # "dspmde" or "dspmde+"
    ions: tuple[str, ...] = SLOTS,  # Slots that may have an excess partitioning
) -> tuple[str, ...]:
    "Names of the columns of `CurveSet.parameters`."
    if family not in _FAMILIES:
        raise InputError(f"family is {family!r}, expected one of {', '.join(_FAMILIES)}")
    names = ("r_pore", "thickness", "eps_pore", "charge_density")
    if family == "dspmde+":
        names += tuple(f"charge_shift {i}" for i in _BINDING if i in ions)
        names += tuple(f"ln_partition {i}" for i in ions if i not in _TIED or _TIED[i] not in ions)
    return names


def _parameters(u: np.ndarray, family: str, ions, prior: MembranePrior) -> np.ndarray:
    "Membrane parameters (n, p) from uniform numbers."
    from scipy.special import ndtr, ndtri

    names = parameter_names(family, ions)
    out = np.empty((len(u), len(names)))
    mean, sd = prior.eps_pore
    lo, hi = ndtr((20 - mean) / sd), ndtr((75 - mean) / sd)
    for j, name in enumerate(names):
        x = u[:, j]
        if name == "r_pore":
            out[:, j] = prior.r_pore[0] + x * (prior.r_pore[1] - prior.r_pore[0])
        elif name == "thickness":
            out[:, j] = prior.thickness[0] * (prior.thickness[1] / prior.thickness[0]) ** x
        elif name == "eps_pore":
            out[:, j] = mean + sd * ndtri(lo + x * (hi - lo))
        elif name.startswith("charge"):
            out[:, j] = prior.charge_scale * np.sinh(prior.charge_stretch * ndtri(x))
        else:
            out[:, j] = prior.offset_sd * ndtri(x)
    return out


def membrane_from_parameters(
    parameters: torch.Tensor,  # (B, p) SI values
    names: tuple[str, ...],  # Names of the p columns, `parameter_names`
    ions: tuple[str, ...] = SLOTS,  # Ions that may be simulated
) -> Membrane:  # A batch of B membranes
    "The membranes a parameter table describes."
    col = {n: parameters[:, j] for j, n in enumerate(names)}
    shift = {n.split()[1]: v for n, v in col.items() if n.startswith("charge_shift")}
    offset = {n.split()[1]: v for n, v in col.items() if n.startswith("ln_partition")}
    for ion, leader in _TIED.items():
        if leader in offset and ion in ions and ion not in offset:
            offset[ion] = offset[leader]
    charge = ChargeBinding(col["charge_density"], shift) if shift else col["charge_density"]
    return Membrane(col["r_pore"], col["thickness"], charge, col["eps_pore"], ln_partition=offset or None)


NAMES = parameter_names("dspmde+", SLOTS)  # What the columns of parameters are


def from_normal(
    x: Tensor,  # (membrane, parameter) standard normal numbers, float64
    prior: MembranePrior = MembranePrior(),  # Ranges
) -> Tensor:  # (membrane, parameter) in SI, columns NAMES
    "Membrane parameters at the prior quantiles of normal numbers; differentiable."
    u, columns = torch.special.ndtr(x), []
    mean, sd = prior.eps_pore
    low, high = torch.special.ndtr((torch.tensor([20.0, 75.0], dtype=x.dtype) - mean) / sd)
    for j, name in enumerate(NAMES):
        if name == "r_pore":
            columns.append(prior.r_pore[0] + u[:, j] * (prior.r_pore[1] - prior.r_pore[0]))
        elif name == "thickness":
            columns.append(prior.thickness[0] * (prior.thickness[1] / prior.thickness[0]) ** u[:, j])
        elif name == "eps_pore":
            columns.append(mean + sd * torch.special.ndtri(low + u[:, j] * (high - low)))
        elif name.startswith("charge"):
            columns.append(prior.charge_scale * torch.sinh(prior.charge_stretch * x[:, j]))
        else:
            columns.append(prior.offset_sd * x[:, j])
    return torch.stack(columns, 1)

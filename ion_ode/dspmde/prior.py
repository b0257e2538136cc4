"""Two families and what is believed of their parameters"""

from dataclasses import dataclass

import numpy as np

from ion_ode._torch import Tensor, torch
from ion_ode.core import InputError, nm, um
from ion_ode.dspmde.membranes import ChargeBinding, Membrane
from ion_ode.priors import LogUniform, MarginalPrior, Normal, SinhNormal, TruncatedNormal, Uniform
from ion_ode.water.ions import IONS

__all__ = ["EPS_CUT", "SLOTS", "MembranePrior", "parameter_names", "membrane_from_parameters", "NAMES", "from_normal"]

SLOTS = (*IONS, "NH4+")  # Ion slots of a curve set: the eight of the benchmark and ammonium


_FAMILIES = ("dspmde", "dspmde+")
_TIED = {"K+": "Na+", "Li+": "Na+"}  # Their excess partitioning is that of the ion named
_BINDING = ("Mg+2", "SO4-2")
EPS_CUT = (20.0, 75.0)  # No pore is drier or wetter [-]


@dataclass(frozen=True)
class MembranePrior(MarginalPrior):
    "What an NF270-like membrane may be."

    r_pore: tuple[float, float] = (0.40 * nm, 0.60 * nm)  # Uniform [m]
    thickness: tuple[float, float] = (0.3 * um, 4 * um)  # Log-uniform, $\Delta x/A_k$ [m]
    eps_pore: tuple[float, float] = (45.0, 8.0)  # Mean and standard deviation of a normal, cut to 20 to 75 [-]
    charge_scale: float = 5.0  # $s$ in $s\sinh(tN)$ [mol/m³]
    charge_stretch: float = 1.5  # $t$
    offset_sd: float = 1.0  # Standard deviation of the excess partitioning [-]

    def marginals(self, names=None) -> dict:
        "Of the parameters with these names, those of DSPM-DE+ by default."
        own = {
            "r_pore": Uniform(*self.r_pore),
            "thickness": LogUniform(*self.thickness),
            "eps_pore": TruncatedNormal(*self.eps_pore, *EPS_CUT),
            "charge": SinhNormal(self.charge_scale, self.charge_stretch),
            "ln": Normal(0.0, self.offset_sd),
        }
        return {k: own.get(k) or own[k.split("_")[0]] for k in (parameter_names() if names is None else names)}


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
    return np.stack(list(prior.at_quantile(u, parameter_names(family, ions)).values()), 1)


def membrane_from_parameters(
    parameters: Tensor,  # (B, p) SI values
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
    return torch.stack(list(prior.at_normal(x, NAMES).values()), 1)

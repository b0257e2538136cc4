"""What an NF270 may be and how its coupons differ: laws, priors and their weights

Nothing here is chosen by the score of a run: what was known of earlier scores stands under the limits of the page of
the answer. A membrane is a vector of standard
normal numbers, one a name of `GLOBALS`; a coupon of it is a few more. Several laws of the fixed charge are averaged,
not picked: one of the normal numbers chooses the law, with the weights of `LAWS`, and the measurements reweight them.

The fixed charge of a feed of Q equivalents, in which ion i carries the share s_i of the equivalents of its sign, is X
= base (Q/15)^b + sum_i shift_i f(s_i) (Q/15)^c with f(s) = s (1 + k)/(s + k), times the coupon's own factor. A power
of the concentration is the Freundlich law of Bowen and Mukhtar (1996, 10.1016/0376-7388(95)00302-9); f is Langmuir's
isotherm in shares, straight at small ones, so that a trace that vanishes leaves no mark."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ion_ode.dspmde.prior import EPS_CUT, MembranePrior
from ion_ode.priors import Choice, LogNormal, LogUniform, MarginalPrior, Normal, SinhNormal, TruncatedNormal, Uniform

__all__ = [
    "GLOBALS",
    "LAWS",
    "NEIGHBOURS",
    "NEUTRAL_PORE",
    "OWN_OFFSETS",
    "PH_RANGE",
    "REFERENCE_EQUIVALENTS",
    "SHIFTING",
    "Prior",
    "charge_of",
    "coupon_effects",
    "discrepancy_of",
    "numbers_of",
    "offset_of",
    "parameters",
    "share_of_sign",
    "with_errors",
]

_STRAIGHT = 1e9  # k of a law without saturation
REFERENCE_EQUIVALENTS = 15.0  # Q at which the charges of a law are given [mol/m³]
# Pore radius that a neutral solute meets over that of ions: least squares on the intrinsic rejections of erythritol,
# xylose and glucose (Ritt et al. 2020; salts alone give a pore too wide for them). Each solute left out in turn, the
# error is .10 instead of .34; `ion_ode.inference.neutrals` makes it again
NEUTRAL_PORE = 0.82
PH_RANGE = (6.2, 8.2)  # Rows outside are left out by name: the charge of the polyamide follows the pH there

LAWS = {  # name: prior weight; b is the exponent of the base, c of the shifts, f straight unless said
    "constant": 0.1,  # b = c = 0
    "base grows": 0.3,  # c = 0
    "all grows": 0.3,  # c = b
    "saturating": 0.3,  # c = b, f of Langmuir
}

NEIGHBOURS = {  # ion: (whose excess partitioning it shares, prior sd of the difference)
    "K+": ("Na+", 0.3),
    "Li+": ("Na+", 0.3),
    "NH4+": ("Na+", 0.3),
    "Cs+": ("Na+", 0.6),
    "Ca+2": ("Mg+2", 0.3),
    "Br-": ("Cl-", 0.3),
    "HCO3-": ("Cl-", 0.6),
    "F-": ("Cl-", 0.8),
    "I-": ("NO3-", 0.6),
    "ClO4-": ("NO3-", 0.8),
}
OWN_OFFSETS = ("Na+", "Mg+2", "Cl-", "SO4-2", "NO3-")  # Ions with an excess partitioning of their own
SHIFTING = ("Mg+2", "SO4-2", "Ca+2")  # Ions that shift the charge

_SCALES = ("coupon charge", "coupon thickness", "noise", "discrepancy trace", "discrepancy major")
GLOBALS = (
    "r_pore",
    "thickness",
    "eps_pore",
    "charge",
    "law",
    "exponent",
    "saturation",
    *(f"shift {i}" for i in SHIFTING),
    *(f"ln {i}" for i in OWN_OFFSETS),
    *(f"near {i}" for i in NEIGHBOURS),
    *_SCALES,
)


@dataclass(frozen=True)
class Prior(MarginalPrior):
    "What the normal numbers of `GLOBALS` and of a coupon stand for."

    r_pore: tuple[float, float] = (0.40e-9, 0.60e-9)  # Uniform [m]
    thickness: tuple[float, float] = MembranePrior.thickness  # Log-uniform, thickness over porosity [m]
    eps_pore: tuple[float, float, float, float] = (*MembranePrior.eps_pore, *EPS_CUT)  # Mean, sd, cuts [-]
    # s and t of s sinh(t n) [mol/m³]
    charge: tuple[float, float] = (MembranePrior.charge_scale, MembranePrior.charge_stretch)
    exponent: tuple[float, float] = (0.5, 0.5)  # Mean and sd of b
    saturation: tuple[float, float, float] = (0.04, 0.25, 1.0)  # Floor of k, median and sd of ln of the rest
    offset_sd: float = MembranePrior.offset_sd  # Of an own excess partitioning
    calcium: float = 0.5  # Sd of ln of calcium's shift over magnesium's
    coupon_charge: tuple[float, float] = (0.5, 0.5)  # Median and sd of the logarithm of the scale of ln charge
    coupon_thickness: tuple[float, float] = (0.3, 0.5)  # The same of ln thickness
    # Errors of a value nobody has measured yet; those that teach err by `states.LEARNED`
    noise: tuple[float, float] = (0.08, 0.3)  # The same of the error of ln(1.05 - R)
    discrepancy_trace: tuple[float, float] = (
        0.12,
        0.25,
    )  # The same of the model's error for an ion of no share, in one feed
    discrepancy_major: tuple[float, float] = (0.08, 0.25)  # The same for the only ion of its sign
    film: tuple[float, float] = (25e-6, 0.5)  # Median and sd of ln film thickness, observed values [m]
    film_unstated: tuple[float, float] = (20e-6, 0.7)  # Where the source does not say observed or intrinsic [m]
    permeability: tuple[float, float] = (
        14.2,
        0.17,
    )  # Median and sd of ln A, values with a pressure only [L/(m² h bar)]
    within: float = 0.5  # Share of a coupon's variance of ln charge that its laboratory's other coupons do not share

    def marginals(self, names=None) -> dict:
        "Of the numbers of a membrane, each at its place in `GLOBALS`."
        charge, own = SinhNormal(*self.charge), Normal(0.0, self.offset_sd)
        floor, median, sd = self.saturation
        table = {
            "r_pore": Uniform(*self.r_pore),
            "thickness": LogUniform(*self.thickness),
            "eps_pore": TruncatedNormal(*self.eps_pore),
            "charge": charge,
            "law": Choice(tuple(LAWS.values())),
            "exponent": Normal(*self.exponent),
            "saturation": LogNormal(median, sd, floor),
            "shift Mg+2": charge,
            "shift SO4-2": charge,
            "shift Ca+2": LogNormal(1.0, self.calcium),  # Over that of Mg+2
        }
        table |= {f"ln {i}": own for i in OWN_OFFSETS}
        table |= {f"near {i}": Normal(0.0, sd) for i, (_, sd) in NEIGHBOURS.items()}  # Beside the neighbour's
        table |= {k: LogNormal(*getattr(self, k.replace(" ", "_"))) for k in _SCALES}
        return {k: table[k] for k in (GLOBALS if names is None else names)}


def _charge_exponents(
    law: np.ndarray,  # Index into LAWS
    exponent: np.ndarray,  # b, as if it were free
    saturation: np.ndarray,  # k, as if it were free
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # b, c, k under the law
    "What a law makes of its exponents."
    b = np.where(law == 0, 0.0, exponent)
    c = np.where(law >= 2, exponent, 0.0)
    return b, c, np.where(law == 3, saturation, _STRAIGHT)


def numbers_of(
    x: np.ndarray,  # (membrane, GLOBALS) standard normal numbers
    prior: Prior = Prior(),
) -> dict:  # Name: (membrane,), SI
    "What membranes are at the prior quantiles of normal numbers."
    n = prior.at_normal(np.asarray(x, float))
    out = {k: n[k] for k in ("r_pore", "thickness", "eps_pore", "law", "charge")}
    out["b"], out["c"], out["k"] = _charge_exponents(n["law"], n["exponent"], n["saturation"])
    out |= {k: n[k] for k in ("shift Mg+2", "shift SO4-2")}
    out["shift Ca+2"] = n["shift Mg+2"] * n["shift Ca+2"]
    out |= {f"ln {i}": n[f"ln {i}"] for i in OWN_OFFSETS}
    out |= {f"ln {i}": out[f"ln {of}"] + n[f"near {i}"] for i, (of, _) in NEIGHBOURS.items()}
    return out | {k: n[k] for k in _SCALES}


def parameters(
    x: np.ndarray,  # (membrane, GLOBALS) standard normal numbers
    prior: Prior = Prior(),
) -> pd.DataFrame:  # One row a membrane, SI
    "The same as a table."
    return pd.DataFrame(numbers_of(x, prior))


def with_errors(
    membranes,  # Columns of `parameters`, a frame or a dict
    factor: float,
):  # The same, the errors of a value and of the model times `factor`
    "Membranes whose errors were found to be larger or smaller than the prior has them."
    out = membranes.copy()
    for name in ("noise", "discrepancy trace", "discrepancy major"):
        out[name] = factor * out[name]
    return out


def share_of_sign(
    c_feed: np.ndarray,  # (n, ion) [mol/m³]
    z: np.ndarray,  # (ion,)
) -> np.ndarray:  # (n, ion)
    "Share of the equivalents of its own sign that an ion carries."
    own = np.abs(z) * c_feed
    same = (np.sign(z)[:, None] == np.sign(z)[None]).astype(float)
    return own / np.maximum(own @ same, 1e-300)


def discrepancy_of(membranes: dict, share: np.ndarray) -> np.ndarray:  # (membrane, ...)
    "Error of the model for an ion of a share: between that of a trace and that of a major ion, evenly in logarithms."
    wide = lambda v: np.asarray(v).reshape(-1, *[1] * share.ndim)
    return wide(membranes["discrepancy trace"]) ** (1 - share) * wide(membranes["discrepancy major"]) ** share


def charge_of(
    membranes: dict,  # Columns of `parameters`, each (n,)
    c_feed: np.ndarray,  # Feeds (n, ion) [mol/m³]
    z: np.ndarray,  # Charges (ion,)
    ions: tuple[str, ...],  # Names of the columns of c_feed
    own_factor=1.0,  # Of the membrane's own charge and of what binds to it, (n,): those of a pH
    bound_factor=1.0,
) -> np.ndarray:  # X without the coupon's factor (n,) [mol/m³]
    "Fixed charge that a feed meets."
    own = np.abs(z) * c_feed
    total = 0.5 * own.sum(1)
    ratio = total / REFERENCE_EQUIVALENTS
    x, grown = own_factor * membranes["charge"] * ratio ** membranes["b"], ratio ** membranes["c"]
    for i in SHIFTING:
        if i in ions:
            share = own[:, ions.index(i)] / total
            bound = share * (1 + membranes["k"]) / (share + membranes["k"])
            x = x + bound_factor * membranes[f"shift {i}"] * bound * grown
    return x


def coupon_effects(
    membranes: dict,  # Columns of `parameters`, each (n,)
    laboratory: np.ndarray,  # Normal number of the charge that a laboratory's coupons share (n,)
    own: np.ndarray,  # That of the coupon alone (n,)
    thick: np.ndarray,  # That of the thickness (n,)
    within: float,  # As in `Prior`
) -> tuple[np.ndarray, np.ndarray]:  # Factor of the fixed charge; thickness over porosity [m]
    "What a coupon makes of its membrane."
    both = np.sqrt(1 - within) * laboratory + np.sqrt(within) * own
    thickness = membranes["thickness"] * np.exp(membranes["coupon thickness"] * thick)
    return np.exp(membranes["coupon charge"] * both), np.clip(thickness, 1e-8, 1e-4)


def offset_of(
    membranes: dict,  # Columns of `parameters`
    ion: str,  # Canonical name
    z: int,  # Its charge
) -> np.ndarray:  # Excess ln of the partition coefficient
    "Excess partitioning of an ion: its own, its neighbour's, else that of its charge; a neutral solute has none."
    if z == 0:
        return np.zeros_like(membranes["ln Na+"])
    if f"ln {ion}" in membranes:
        return membranes[f"ln {ion}"]
    return membranes[f"ln {('Na+' if z == 1 else 'Mg+2') if z > 0 else ('Cl-' if z == -1 else 'SO4-2')}"]

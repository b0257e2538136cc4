"""What a water's ions are at a pH: acids and bases, ion pairs, activities, saturation

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

# Constants of reaction, their temperature laws and the activity law of every species are those of PHREEQC's database
# phreeqc.dat (Parkhurst and Appelo 2013, 10.3133/tm6A43; table assets/water/equilibria.csv): log γ = -A z² √I /
# (1 + B a √I) + b I (Truesdell and Jones 1974), Davies' equation where no size is known, .1 I for what has no charge.
# A litre of water is counted as one kilogram. `ion_ode.water.phreeqc` asks PHREEQC itself.

import csv
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ion_ode.core import R_GAS, T_REF, InputError
from ion_ode.store import asset
from ion_ode.water.activity import debye_huckel_A
from ion_ode.water.ions import eps_water

__all__ = ["KNOWN", "Speciation", "carried", "pH_of", "speciate", "totals"]

_TOTALS = {  # Columns of a feed that are one component of the water, and that component
    "HCO3-": "CO3-2", "CO2": "CO3-2", "NH3": "NH4+", "H2BO3-": "H3BO3", "SiO2": "H4SiO4", "HSO4-": "SO4-2",
    "H2PO4-": "PO4-3", "HPO4-2": "PO4-3",
}  # fmt: skip
_ALKALINITY = {"CO3-2": 2.0, "PO4-3": 2.0, "H+": -1.0}  # Equivalents a component carries; the others none
_MASTERS = (
    "Na+", "K+", "Li+", "NH4+", "Mg+2", "Ca+2", "Sr+2", "Ba+2", "Cl-", "SO4-2", "NO3-", "F-", "Br-", "CO3-2", "H3BO3",
    "H4SiO4", "PO4-3",
)  # fmt: skip
KNOWN = {*_MASTERS, *_TOTALS} - {"H4SiO4", "PO4-3"}  # Columns of a feed that the chemistry understands
_REACTS = KNOWN | {"H+", "OH-", "PO4-3"}
_LEAST = 1e-15  # mol/kg below which a component counts as absent


@dataclass(frozen=True)
class _Table:
    "The table of equilibria as arrays."

    names: tuple[str, ...]  # Species
    z: np.ndarray  # (species,)
    size: np.ndarray  # Å, nan: Davies
    b: np.ndarray
    nu: np.ndarray  # (species, component) stoichiometry
    protons: np.ndarray  # (species,)
    waters: np.ndarray  # (species,)
    law: np.ndarray  # (species, 8) log_k, delta_h, A1..A6
    moves: tuple[tuple[str, ...], ...]  # What a species is counted as where it moves
    minerals: dict  # {name: (stoichiometry (component,), law, waters)}


def _stoichiometry(text: str) -> dict[str, float]:
    return {k: float(v) for k, v in (p.split("=") for p in text.split())}


@lru_cache(maxsize=1)
def _table() -> _Table:
    with asset("water/equilibria.csv").open(encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    number = lambda v: float(v) if v else math.nan
    species = [r for r in rows if r["z"]]
    made = [_stoichiometry(r["formation"]) or {r["name"]: 1.0} for r in species]
    law = lambda r: np.array([number(r[k]) for k in ("log_k", "delta_h_kJ_mol", "A1", "A2", "A3", "A4", "A5", "A6")])
    minerals = {}
    for r in rows:
        if not r["z"]:
            parts = _stoichiometry(r["formation"])
            minerals[r["name"]] = np.array([parts.get(m, 0.0) for m in _MASTERS]), law(r), parts.get("H2O", 0.0)
    return _Table(
        tuple(r["name"] for r in species),
        np.array([float(r["z"]) for r in species]),
        np.array([number(r["ion_size_A"]) for r in species]),
        np.array([number(r["b_L_mol"]) for r in species]),
        np.array([[m.get(k, 0.0) for k in _MASTERS] for m in made]),
        np.array([m.get("H+", 0.0) for m in made]),
        np.array([m.get("H2O", 0.0) for m in made]),
        np.stack([law(r) for r in species]),
        tuple(tuple(r["moves_as"].split()) for r in species),
        minerals,
    )


def _log_k(law: np.ndarray, T: float) -> np.ndarray:
    "log10 of constants at a temperature: the database's polynomial, van 't Hoff's law, or a constant."
    log_k, enthalpy, a = law[..., 0], np.nan_to_num(law[..., 1]), law[..., 2:]
    hoff = log_k - enthalpy * 1e3 / (math.log(10) * R_GAS) * (1 / T - 1 / T_REF)
    terms = np.array([1.0, T, 1 / T, math.log10(T), T**-2, T**2])
    return np.where(np.isnan(a[..., 0]), np.nan_to_num(hoff), np.nan_to_num(a) @ terms)


def _log_water(m: np.ndarray) -> float:
    "log10 of the activity of water: Raoult's law with the .017 of PHREEQC."
    return math.log10(max(1 - 0.017 * m.sum(), 0.1))


def _log_gamma(t: _Table, strength: float, T: float) -> np.ndarray:
    "log10 of the activity coefficients at an ionic strength [mol/L]."
    eps, root = float(eps_water(T)), math.sqrt(strength)
    A, B = float(debye_huckel_A(T, eps)), 50.2916 / math.sqrt(eps * T)  # B of Debye and Hückel [1/(Å (mol/L)^½)]
    sized = -A * t.z**2 * root / (1 + B * np.nan_to_num(t.size) * root) + np.nan_to_num(t.b) * strength
    davies = -A * t.z**2 * (root / (1 + root) - 0.3 * strength)
    return np.where(t.z == 0, 0.1 * strength, np.where(np.isnan(t.size), davies, sized))


@dataclass(frozen=True, repr=False)
class Speciation:
    "What a water holds, species by species."

    pH: float
    temperature: float  # [K]
    c: dict[str, float]  # Species [mol/m³]
    strength: float  # Ionic strength [mol/m³]
    saturation: dict[str, float]  # Saturation index log10(IAP/K) of minerals whose parts the water holds
    alkalinity: float  # [eq/m³]
    source: str = "built in"  # What computed it

    def __repr__(self):
        index = ", ".join(f"{k} {v:+.2f}" for k, v in self.saturation.items())
        said = f"pH {self.pH:.2f}, ionic strength {self.strength / 1000:.3g} mol/L, "
        said += f"alkalinity {self.alkalinity:.3g} eq/m³"
        return f"{said}; saturation indices: {index or 'none'} ({self.source})"


def _components(c: dict[str, float]) -> tuple[np.ndarray, float]:
    "Totals (component,) [mol/L] of a feed without its carbonate, and the equivalents of carbonate it names [eq/L]."
    total, carbonate = np.zeros(len(_MASTERS)), 0.0
    for ion, value in c.items():
        if ion in ("H+", "OH-"):
            continue
        name = _TOTALS.get(ion, ion)
        if name not in _MASTERS:
            raise InputError(
                f"{ion} is unknown to the chemistry of waters, which knows {', '.join(_MASTERS)}; leave it out"
            )
        if name == "CO3-2":
            carbonate += {"HCO3-": 1.0, "CO3-2": 2.0, "CO2": 0.0}[ion] * value / 1000
        else:
            total[_MASTERS.index(name)] += value / 1000
    return total, carbonate


def _solve(t: _Table, total, log_h: float, T: float, rows, target: float) -> tuple[np.ndarray, np.ndarray]:
    "Molalities and log γ of all species: Newton in logarithms, activities updated around it."
    have = np.flatnonzero(
        rows.any(0) & ((total > _LEAST) | (np.arange(len(_MASTERS)) == _MASTERS.index("CO3-2")) * (target > _LEAST))
    )
    possible = (t.nu[:, np.setdiff1d(np.arange(len(_MASTERS)), have)] == 0).all(1)
    log_k, nu = _log_k(t.law, T), t.nu[:, have]
    want, weight = total[have], rows[:, have].copy()
    C = _MASTERS.index("CO3-2")
    if C in have:
        want[list(have).index(C)] = target
    x, m = np.log(np.maximum(want, 1e-12)) - 1.0, np.zeros(len(t.z))
    log_gamma, log_w = np.zeros(len(t.z)), 0.0
    for _ in range(200):
        free = log_gamma[[t.names.index(_MASTERS[k]) for k in have]]
        for _ in range(50):
            log_m = log_k + (nu * (x / math.log(10) + free)).sum(1) + t.protons * log_h + t.waters * log_w - log_gamma
            m = np.where(possible, 10 ** np.minimum(log_m, 3.0), 0.0)
            off = weight.T @ m - want
            step = np.linalg.solve((weight.T * m) @ nu, off)
            x = x - np.clip(step, -2, 2)
            if np.abs(step).max() < 1e-12:
                break
        new = _log_gamma(t, 0.5 * (t.z**2 * m).sum(), T)
        change, log_gamma, log_w = np.abs(new - log_gamma).max(), new, _log_water(m)
        if change < 1e-11:
            return m, log_gamma
    raise InputError(f"the speciation at pH {-log_h:g} did not settle; check the pH and the units of the analysis")


def _weights(t: _Table, by_alkalinity: bool) -> np.ndarray:
    "What a species adds to each balance (species, component); the row of carbonate counts equivalents, if asked."
    rows = t.nu.copy()
    if by_alkalinity:
        rows[:, _MASTERS.index("CO3-2")] = _equivalents(t)
    return rows


def _equivalents(t: _Table) -> np.ndarray:
    "Alkalinity a mole of each species."
    return t.nu @ np.array([_ALKALINITY.get(m, 0.0) for m in _MASTERS]) + _ALKALINITY["H+"] * t.protons


def speciate(
    c: dict[str, float],  # {ion: total mol/m³}; HCO3- and CO3-2 stand for the equivalents of alkalinity they carry
    pH: float,  # Of the water
    temperature: float = T_REF,  # $T$ [K]
    alkalinity: float | None = None,  # [eq/m³]; None: that of HCO3- and CO3-2
    carbon: float | None = None,  # Total dissolved inorganic carbon [mol/m³], instead of an alkalinity
) -> Speciation:
    "All species of a water at a given pH; carbonate from the alkalinity."
    if not (isinstance(pH, (int, float, np.floating)) and 1 <= pH <= 13):
        raise InputError(f"pH is {pH!r}, expected a number from 1 to 13")
    if not 273.15 <= float(temperature) <= 373.15:
        raise InputError(f"temperature is {temperature:g} K, expected 273.15 to 373.15 K; give kelvin, not °C")
    t = _table()
    total, named = _components(c)
    target = named if alkalinity is None else alkalinity / 1000
    rows = _weights(t, carbon is None)
    if carbon is not None:
        target = carbon / 1000
    m, log_gamma = _carbonate(t, total, -float(pH), float(temperature), rows, target, carbon is None)
    return _speciation(t, m, log_gamma, float(pH), float(temperature))


def _carbonate(t, total, log_h, T, rows, target, by_alkalinity):
    "Solve; where an alkalinity leaves nothing for carbonate after the other bases, there is none."
    if by_alkalinity:
        none = _weights(t, False)
        bare, gamma = _solve(t, total, log_h, T, none, 0.0)
        if float(_equivalents(t) @ bare) >= target:
            return bare, gamma
    return _solve(t, total, log_h, T, rows, target)


def _speciation(t: _Table, m, log_gamma, pH: float, T: float) -> Speciation:
    with np.errstate(divide="ignore"):
        activity = np.log10(m) + log_gamma
    free = np.array([activity[t.names.index(k)] for k in _MASTERS])
    index = {}
    for name, (nu, law, waters) in t.minerals.items():
        if np.isfinite(free[nu > 0]).all():
            index[name] = float(nu[nu > 0] @ free[nu > 0] + waters * _log_water(m) - _log_k(law[None], T)[0])
    c = {n: float(v) * 1000 for n, v in zip(t.names, m, strict=True) if v > 0}
    return Speciation(pH, T, c, float(0.5 * (t.z**2 * m).sum() * 1000), index, float(_equivalents(t) @ m) * 1000)


def totals(
    s: Speciation,
) -> dict[str, float]:  # {component: mol/m³}, as `speciate` takes them; the carbonate stands in the alkalinity
    "What an analysis of the water finds of each component."
    t = _table()
    amount = np.array([s.c.get(n, 0.0) for n in t.names]) @ t.nu
    names = {"H4SiO4": "SiO2", "PO4-3": "HPO4-2"}
    return {names.get(m, m): float(v) for m, v in zip(_MASTERS, amount, strict=True) if v > 0 and m != "CO3-2"}


def carried(
    s: Speciation,
    pairs: tuple[str, ...] = (),  # Ion pairs that move as such: MgSO4, CaSO4; the others count as their ions
) -> dict[str, float]:  # {ion: mol/m³}, silica as SiO2
    "A speciation as the ions and solutes that a membrane meets."
    t, out = _table(), {}
    for name, value in s.c.items():
        for part in (name,) if name in pairs else t.moves[t.names.index(name)]:
            part = "SiO2" if part == "H4SiO4" else part
            out[part] = out.get(part, 0.0) + value
    return out


def pH_of(
    c: dict[str, float],  # What came through, as `carried` writes it [mol/m³]; what does not react changes nothing
    temperature: float = T_REF,  # $T$ [K]
) -> Speciation:
    "The pH a water settles at when no gas leaves it: total carbon and alkalinity stay."
    from scipy.optimize import brentq

    whole = {k: v for k, v in c.items() if k in _REACTS}
    for pair in ("MgSO4", "CaSO4"):
        for ion in (f"{pair[:2]}+2", "SO4-2"):
            whole[ion] = whole.get(ion, 0.0) + c.get(pair, 0.0)
    t, (total, _) = _table(), _components(whole)
    carbon = sum(whole.get(k, 0.0) for k in ("CO2", "HCO3-", "CO3-2"))
    base = {"HCO3-": 1, "CO3-2": 2, "OH-": 1, "H+": -1, "NH3": 1, "H2BO3-": 1, "HSO4-": -1, "HPO4-2": 1, "PO4-3": 2}
    alkalinity = sum(n * whole.get(k, 0.0) for k, n in base.items())
    rows, T = _weights(t, False), float(temperature)
    at = lambda pH: _solve(t, total, -pH, T, rows, carbon / 1000)
    off = lambda pH: 1000 * float(_equivalents(t) @ at(pH)[0]) - alkalinity
    if off(1.0) * off(13.0) > 0:
        raise InputError(f"no pH from 1 to 13 holds an alkalinity of {alkalinity:.3g} eq/m³; check the water")
    pH = brentq(off, 1.0, 13.0, xtol=1e-10)
    return _speciation(t, *at(pH), pH, T)

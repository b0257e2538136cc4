"""Salts by the ions of one formula unit"""

# MgSO4 and CaSO4 also name ion pairs in the table of ions, as PHREEQC writes them: in a feed the name is the salt's; a
# pair is met only in what a speciation carries (`carried(..., pairs=)`) or in an array with `ions=`.

import re

from ion_ode.core import InputError
from ion_ode.water.ions import get_ion
from ion_ode.water.units import parse_unit, to_mol_m3

__all__ = ["SALTS", "ions_of_salt", "per_salt", "salt_amounts"]

SALTS = {
    "NaCl": {"Na+": 1, "Cl-": 1},
    "KCl": {"K+": 1, "Cl-": 1},
    "LiCl": {"Li+": 1, "Cl-": 1},
    "NaNO3": {"Na+": 1, "NO3-": 1},
    "MgCl2": {"Mg+2": 1, "Cl-": 2},
    "CaCl2": {"Ca+2": 1, "Cl-": 2},
    "Na2SO4": {"Na+": 2, "SO4-2": 1},
    "K2SO4": {"K+": 2, "SO4-2": 1},
    "MgSO4": {"Mg+2": 1, "SO4-2": 1},
    "CaSO4": {"Ca+2": 1, "SO4-2": 1},
}  # Ions of one formula unit
_CATIONS = {"Na": "Na+", "K": "K+", "Li": "Li+", "Cs": "Cs+", "NH4": "NH4+", "Mg": "Mg+2", "Ca": "Ca+2", "Sr": "Sr+2",
    "Ba": "Ba+2"}  # fmt: skip
_ANIONS = {"Cl": "Cl-", "Br": "Br-", "F": "F-", "I": "I-", "NO3": "NO3-", "HCO3": "HCO3-", "SO4": "SO4-2",
    "CO3": "CO3-2", "ClO4": "ClO4-"}  # fmt: skip
_names = lambda table: "|".join(sorted(table, key=len, reverse=True))
_FORMULA = re.compile(rf"\(?({_names(_CATIONS)})\)?(\d?)\(?({_names(_ANIONS)})\)?(\d?)")


def ions_of_salt(
    formula: str,  # NaCl, MgCl2, Ca(NO3)2, (NH4)2SO4
) -> dict[str, int] | None:  # {ion: number}; None where it is no neutral salt of one cation and one anion
    "Ions of one formula unit."
    m = _FORMULA.fullmatch(formula.replace(" ", ""))
    if m is None:
        return None
    found = {_CATIONS[m[1]]: int(m[2] or 1), _ANIONS[m[3]]: int(m[4] or 1)}
    return None if sum(n * get_ion(i).z for i, n in found.items()) else found


def _formula_mass(ions: dict[str, int]) -> float:
    return sum(n * get_ion(i).molar_mass for i, n in ions.items())


def salt_amounts(
    formula: str,  # As for `ions_of_salt`
    unit: str,  # Of the salt's concentration: mM, mg/L (of the salt without water of crystallisation), meq/L
) -> dict[str, float]:  # {ion: mol/m³ in one unit of the salt}
    "What one unit of a salt brings of each of its ions."
    ions, u = ions_of_salt(formula), parse_unit(unit, "c_feed")
    if u.basis:
        raise InputError(f"{unit!r}: {formula} is a salt and cannot be expressed as {u.basis}; write mM or mg/L of it")
    dims = dict(u.dimension)
    charge = max(n * get_ion(i).z for i, n in ions.items())
    units = u.factor / charge if "eq" in dims else u.factor if "mol" in dims else 1e3 * u.factor / _formula_mass(ions)
    return {i: n * units for i, n in ions.items()}


def per_salt(
    formula: str,  # As for `ions_of_salt`
    unit: str,  # In which the salt is given
    read_as: str | None = None,  # Ion that the number was read as: mg/L are then those of this ion; None: the first
) -> dict[str, float]:  # {ion of the salt: its concentration over that reading}
    "What a number that stands for a salt, and was read as if it stood for an ion, brings of each of the salt's ions."
    one = to_mol_m3(unit, get_ion(read_as or next(iter(ions_of_salt(formula)))))
    return {i: n / one for i, n in salt_amounts(formula, unit).items()}

"""One table of laboratory units for every door

Docs: https://ion-ode.github.io/ion_ode/guides/my_data.html.md"""

# A unit is a product of powers of the symbols below, in any of the ways people write it: L m⁻² h⁻¹, L/(m2 h), l/m²h,
# LMH. Factors are exact by definition (foot, US gallon, pound-force: NIST SP 811, 10.6028/NIST.SP.811e2008) or fixed
# by convention (°dH: 10 mg/L CaO; °fH and "as CaCO3": 100.087 g/mol, IUPAC 2013, 10.1515/pac-2015-0305).

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ion_ode.core import InputError
from ion_ode.water.ions import Ion, get_ion

__all__ = ["EXAMPLE", "Unit", "as_fractions", "is_unit", "parse_unit", "plain", "si_values", "to_mol_m3"]

_FOOT, _GALLON, _POUND_FORCE = 0.3048, 3.785411784e-3, 4.4482216152605
_SYMBOLS = {  # symbol: (factor, {dimension: power}); an equivalent is counted apart from a mole
    "m": (1.0, {"m": 1}), "dm": (0.1, {"m": 1}), "cm": (1e-2, {"m": 1}), "mm": (1e-3, {"m": 1}), "um": (1e-6,
    {"m": 1}), "nm": (1e-9, {"m": 1}),
    "ft": (_FOOT, {"m": 1}), "in": (_FOOT / 12, {"m": 1}), "L": (1e-3, {"m": 3}), "mL": (1e-6, {"m": 3}),
    "gal": (_GALLON, {"m": 3}),
    "s": (1.0, {"s": 1}), "min": (60.0, {"s": 1}), "h": (3600.0, {"s": 1}), "d": (86400.0, {"s": 1}),
    "kg": (1.0, {"kg": 1}), "g": (1e-3, {"kg": 1}), "mg": (1e-6, {"kg": 1}), "ug": (1e-9, {"kg": 1}), "ng": (1e-12,
    {"kg": 1}),
    "mol": (1.0, {"mol": 1}), "kmol": (1e3, {"mol": 1}), "mmol": (1e-3, {"mol": 1}), "umol": (1e-6, {"mol": 1}),
    "nmol": (1e-9, {"mol": 1}),
    "eq": (1.0, {"eq": 1}), "meq": (1e-3, {"eq": 1}), "ueq": (1e-6, {"eq": 1}),
    "M": (1e3, {"mol": 1, "m": -3}), "mM": (1.0, {"mol": 1, "m": -3}), "uM": (1e-3, {"mol": 1, "m": -3}), "nM": (1e-6,
    {"mol": 1, "m": -3}),
    "Pa": (1.0, {"kg": 1, "m": -1, "s": -2}), "hPa": (1e2, {"kg": 1, "m": -1, "s": -2}), "kPa": (1e3, {"kg": 1,
    "m": -1, "s": -2}),
    "MPa": (1e6, {"kg": 1, "m": -1, "s": -2}), "bar": (1e5, {"kg": 1, "m": -1, "s": -2}), "mbar": (1e2, {"kg": 1,
    "m": -1, "s": -2}),
    "psi": (_POUND_FORCE / (_FOOT / 12) ** 2, {"kg": 1, "m": -1, "s": -2}), "atm": (101325.0, {"kg": 1, "m": -1,
    "s": -2}),
    "S": (1.0, {"S": 1}), "mS": (1e-3, {"S": 1}), "uS": (1e-6, {"S": 1}), "K": (1.0, {"K": 1}),
    "LMH": (1e-3 / 3600, {"m": 1, "s": -1}), "gfd": (_GALLON / _FOOT**2 / 86400, {"m": 1, "s": -1}),
    "dH": (20 / 56.077, {"eq": 1, "m": -3}), "fH": (20 / 100.087, {"eq": 1, "m": -3}),
    "gpg": (64.79891 / 3.785411784 * 2 / 100.087, {"eq": 1, "m": -3}),
    "ppm": (1e-3, {"kg": 1, "m": -3}), "ppb": (1e-6, {"kg": 1, "m": -3}), "kgw": (1e-3, {"m": 3}), "%": (0.01, {}),
}  # fmt: skip
_OTHER = {  # other spellings, looked up as they are and then in lower case
    "l": "L", "liter": "L", "litre": "L", "liters": "L", "litres": "L", "ml": "mL", "gallon": "gal", "gallons":
    "gal", "foot": "ft", "feet": "ft", "micron": "um",
    "sec": "s", "second": "s", "minute": "min", "hr": "h", "hour": "h", "hours": "h", "day": "d", "days": "d",
    "lmh": "LMH", "molar": "M", "val": "eq",
    "mval": "meq", "mpa": "MPa", "kpa": "kPa", "pa": "Pa", "hpa": "hPa", "psig": "psi", "us": "uS", "ms": "mS",
    "equiv": "eq", "mequiv": "meq", "mmhos": "mS",
    "°dh": "dH", "dh": "dH", "°fh": "fH", "fh": "fH", "°f": "fH", "percent": "%", "pct": "%", "kgs": "kg", "mm": "mM",
    "um": "uM", "nm": "nM",
}  # fmt: skip
_TEMPERATURE = {"k": (1.0, 0.0), "kelvin": (1.0, 0.0), **dict.fromkeys(("°c", "c", "degc", "deg c", "celsius",
    "grad c"), (1.0, 273.15)),
                **dict.fromkeys(("°f", "f", "degf", "deg f", "fahrenheit"), (5 / 9, 273.15 - 32 * 5 / 9))}  # fmt: skip
_FRACTION = ("", "-", "1", "fraction", "unitless", "dimensionless", "frac")
_WANT = {  # dimension of each quantity
    "flux": {"m": 1, "s": -1}, "pressure": {"kg": 1, "m": -1, "s": -2}, "film": {"m": 1}, "ec": {"S": 1, "m": -1},
    "rejection": {}, "sd": {}, "weight": {}, "pH": {},
}  # fmt: skip
_AMOUNT = ({"mol": 1, "m": -3}, {"eq": 1, "m": -3}, {"kg": 1, "m": -3})
EXAMPLE = {
    "flux": "LMH",
    "c_feed": "mg/L",
    "c_perm": "mg/L",
    "rejection": "%",
    "sd": "%",
    "pressure": "bar",
    "temperature": "degC",
    "film": "um",
    "ec": "uS/cm",
}
_ELEMENT = {"N": 14.007, "P": 30.974, "S": 32.06, "C": 12.011, "Si": 28.085, "B": 10.81}  # g/mol, IUPAC 2013
_CACO3 = 100.087 / 2  # g of calcium carbonate an equivalent
_BASIS = r"CaCO3|CaO|NO3|NO2|NH4|NH3|SO4|PO4|HCO3|SiO2|Si|N|P|S|C|B"
_GLYPHS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺₀₁₂₃₄₅₆₇₈₉−–‐‑µμ·⋅×∙", "0123456789-+0123456789----uu****")


def plain(text) -> str:
    "Text in the signs of a keyboard: superscripts, minus signs, micro, dots, runs of space."
    return " ".join(str(text).translate(_GLYPHS).split())


@dataclass(frozen=True)
class Unit:
    "A unit as a factor to SI and what it measures."

    text: str  # As written
    factor: float  # To SI
    dimension: tuple[tuple[str, int], ...]  # Powers of m, kg, s, mol, eq, S, K that are not 0
    offset: float = 0.0  # Added after the factor, for °C and °F
    basis: str = ""  # What a mass is expressed as: CaCO3, N, P, S, SO4, ...
    note: str = ""  # What was taken for granted

    @property
    def amount(self) -> bool:
        "Whether it can be a concentration."
        return dict(self.dimension) in _AMOUNT


def _factors(text: str, all_below: bool) -> tuple[float, dict]:
    "Product of the powers in a text; `all_below`: everything after the first slash divides, as in L/m²h."
    factor, dims, sign, depth_sign = 1.0, {}, 1, []
    tokens = re.findall(r"[A-Za-z%°]+|\^|\*\*|[-+]?\d+|[/()*.]", text)
    if "".join(tokens) != text.replace(" ", "") or len(tokens) > 24:
        raise ValueError(text)
    k, below = 0, False
    while k < len(tokens):
        t = tokens[k]
        k += 1
        if t == "/":
            below, sign = True, -1
        elif t == "(":
            depth_sign.append(sign)
        elif t == ")":
            depth_sign.pop()
            sign = 1
        elif t in "*.":
            sign = -1 if all_below and below else sign if depth_sign else 1
        elif t == "1":
            continue
        else:
            f, d = _SYMBOLS[_symbol(t)]
            if k < len(tokens) and tokens[k] in ("^", "**"):
                k += 1
            power = 1
            if k < len(tokens) and re.fullmatch(r"[-+]?\d+", tokens[k]):
                power, k = int(tokens[k]), k + 1
            if not 1 <= abs(power) <= 4:
                raise ValueError(text)
            power *= sign
            factor *= f**power
            for b, n in d.items():
                dims[b] = dims.get(b, 0) + n * power
            if not depth_sign and not (all_below and below):
                sign = 1
    if depth_sign:
        raise ValueError(text)
    return factor, {b: n for b, n in dims.items() if n}


def _symbol(t: str) -> str:
    "The table's symbol for one as written."
    for s in (t, _OTHER.get(t), _OTHER.get(t.lower())):
        if s in _SYMBOLS:
            return s
    low = {s.lower(): s for s in _SYMBOLS if s not in ("M", "mM", "uM", "nM", "K", "S", "mS", "uS", "Pa", "MPa")}
    return low[t.lower()]


def _basis(text: str) -> tuple[str, str]:
    "Unit and what its mass is expressed as: 'mg/L as CaCO3', 'mg CaCO3/L', 'mg/L N', 'mgN/L', 'mg-N/L'."
    t = re.sub(
        r"\bas\s*SO4-S\b|\bSO4-S\b",
        "as S",
        re.sub(r"\b(NO3|NO2|NH4|NH3)-N\b", "as N", re.sub(r"\bPO4-P\b", "as P", text)),
    )
    m = (
        re.search(rf"\s*\b(?:as|als|in)\s+({_BASIS})\s*$", t)
        or re.search(rf"(?<=g)[-\s]?({_BASIS})(?=/)", t)
        or re.search(rf"(?<=[Ll])[-\s]({_BASIS})$", t)
    )
    return (t[: m.start()] + t[m.end() :], m[1]) if m else (text, "")


def _concentration_spelling(t: str) -> str:
    "mM, uM, nM in lower case, where only a concentration can be meant."
    return {"mm": "mM", "um": "uM", "nm": "nM", "MM": "mM"}.get(t, t)


@lru_cache(maxsize=512)
def parse_unit(
    text: str,  # As written: mg/L, mmol L⁻¹, LMH, l/m²h, gfd, °C, %, mg/L as CaCO3
    quantity: str = "",  # "flux", "c_feed", "c_perm", "rejection", "sd", "pressure", "temperature", ...; "" for any
) -> Unit:
    "A unit, or one sentence on what is wrong with it."
    t = plain(text)
    if len(t) > 40:
        raise InputError(f"{t[:20]!r}... is too long for a unit; write for instance {EXAMPLE.get(quantity, 'mg/L')}")
    if quantity == "temperature":
        if t.lower() not in _TEMPERATURE:
            raise InputError(f"{text!r} is not a unit of temperature; use degC or K")
        factor, offset = _TEMPERATURE[t.lower()]
        return Unit(text, factor, (("K", 1),), offset)
    if t.lower() in _FRACTION:
        return _suits(Unit(text, 1.0, ()), quantity)
    t, basis = _basis(re.sub(r"(?<=[A-Za-z0-9])[\s_/]+per[\s_/]+(?=[A-Za-z])", "/", t))
    t = _concentration_spelling(t) if quantity.startswith("c_") else t
    found, want = [], _WANT.get(quantity)
    for all_below in (False, True):
        try:
            factor, dims = _factors(t, all_below)
        except (ValueError, KeyError, IndexError):
            continue
        found.append(Unit(text, factor, tuple(sorted(dims.items())), 0.0, basis, _taken(t)))
        if dims == want or (want is None and dims in _AMOUNT):
            return found[-1]
    if not found:
        raise InputError(
            f"{text!r} is not a unit that is known here; write for instance {EXAMPLE.get(quantity, 'mg/L, LMH or bar')}"
        )
    return _suits(found[0], quantity)


def _taken(t: str) -> str:
    if re.search(r"\bpp[mb]\b", t):
        return "ppm is read as mg/L (a litre of the water taken as 1 kg)"
    return "a kilogram of water is read as one litre" if "kgw" in t else ""


def _suits(unit: Unit, quantity: str) -> Unit:
    "The unit, if it measures the quantity."
    dims = dict(unit.dimension)
    if quantity.startswith("c_") and dims == _WANT["ec"]:
        raise InputError(f"{unit.text!r} is a conductivity, not a concentration of one ion; convert it first")
    if quantity and (not unit.amount if quantity not in _WANT else dims != _WANT[quantity]):
        raise InputError(f"{unit.text!r} is not a unit of {quantity}; use for instance {EXAMPLE.get(quantity, 'mg/L')}")
    return unit


def is_unit(text: str) -> bool:
    "Whether a text is a unit of anything."
    try:
        return bool(plain(text)) and (plain(text).lower() in _TEMPERATURE or bool(parse_unit(text)))
    except InputError:
        return False


def _per_mole(unit: Unit, ion: Ion) -> float:
    "mol/m³ in one `unit` of an ion's concentration."
    dims = dict(unit.dimension)
    if ion.z == 0 and ("eq" in dims or unit.basis == "CaCO3"):
        raise InputError(f"{unit.text!r}: {ion.name} has no charge and no equivalents; write it in mg/L or mmol/L")
    if "eq" in dims:
        return unit.factor / abs(ion.z)
    if "mol" in dims:
        return unit.factor
    grams, formula = unit.factor * 1e3, re.match(r"[A-Za-z0-9]*", ion.name)[0]
    if unit.basis == "CaCO3":
        return grams / _CACO3 / abs(ion.z)
    if unit.basis in ("", formula):
        return grams / ion.molar_mass
    if unit.basis in _ELEMENT and re.search(rf"{unit.basis}(?![a-z])", formula):
        return grams / _ELEMENT[unit.basis]
    if unit.basis == "NH3" and formula == "NH4":
        return grams / 17.031
    raise InputError(
        f"{unit.text!r}: {ion.name} cannot be expressed as {unit.basis}; write it as {formula}, such as 'mg/L'"
    )


def to_mol_m3(
    unit: str,  # mol/m3, mM, mol/L, uM, mg/L, g/L, meq/L, mg/L as CaCO3, ...
    ion: Ion,  # Whose molar mass and charge convert masses and equivalents
) -> float:  # mol/m³ in one `unit`
    "Factor from a laboratory unit of concentration to mol/m³."
    try:
        return _per_mole(parse_unit(unit, "c_feed"), ion)
    except InputError as e:
        raise InputError(
            f"{unit!r} is not a unit of concentration for {ion.name}; use mol/m3, mM, mol/L, uM, mg/L, g/L or meq/L "
            f"({e})"
        ) from None


def si_values(
    value,  # Numbers in `unit`
    unit: str,  # As written
    quantity: str,  # What they are
    ions=None,  # Ion of each value, or of all, for a concentration
) -> np.ndarray:  # The same in SI: m/s, mol/m³, fraction, Pa, K, m
    "Laboratory units to SI."
    value, u = np.asarray(value, dtype=float), parse_unit(unit, quantity)
    if not quantity.startswith("c_"):
        return value * u.factor + u.offset
    names = [ions] if isinstance(ions, str) else list(ions)
    each = {n: _per_mole(u, get_ion(n)) for n in set(names)}
    return value * (each[names[0]] if isinstance(ions, str) else np.array([each[n] for n in names]))


LOWEST = -10.0  # Smallest rejection that is believed: a permeate eleven times the feed
HIGHEST = 1.05  # Rejections a little above 1 are measured, where an analysis of nearly nothing errs


def as_fractions(
    rejection,  # Numbers; nan where there is none
) -> np.ndarray:
    "Rejections as they are, refused where they cannot be fractions: 55 means percent."
    R = np.asarray(rejection, dtype=float)
    if (off := (R > HIGHEST) | (R < LOWEST)).any():
        raise InputError(
            f"a rejection of {R[off][0]:g} arrived; a fraction is expected, at most 1 and {LOWEST:g} or more: write "
            "'rejection [%]' as its header where a door reads it, or divide by 100"
        )
    return R

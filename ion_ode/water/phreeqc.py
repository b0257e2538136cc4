"""The same waters by PHREEQC itself, and Pitzer's activities where they are concentrated (extra [chemistry])

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

import math

from ion_ode.core import R_GAS, T_REF, InputError
from ion_ode.water.chemistry import Speciation

__all__ = ["osmotic_pressure", "phreeqc"]

_ELEMENT = {  # Ion: element as PHREEQC names it
    "Na+": "Na", "K+": "K", "Li+": "Li", "NH4+": "N(-3)", "Mg+2": "Mg", "Ca+2": "Ca", "Sr+2": "Sr", "Ba+2": "Ba",
    "Cl-": "Cl", "SO4-2": "S(6)", "NO3-": "N(5)", "F-": "F", "Br-": "Br", "H3BO3": "B", "SiO2": "Si", "H2BO3-": "B",
    "HPO4-2": "P", "H2PO4-": "P", "NH3": "N(-3)", "HSO4-": "S(6)",
}  # fmt: skip
_MINERALS = {
    "calcite": "Calcite", "gypsum": "Gypsum", "barite": "Barite", "celestite": "Celestite", "silica": "SiO2(a)",
    "fluorite": "Fluorite",
}  # fmt: skip
_MOLAR_VOLUME = 18.07e-6  # m³/mol of water at 25 °C


def _asked(c, pH: float, temperature: float, alkalinity: float | None, database: str, terms: list[str]):
    "The solution PHREEQC finds, and what its own expressions say of it."
    try:
        from phreeqpython import PhreeqPython
        from phreeqpython.solution import Solution
    except ImportError:
        raise ImportError('PHREEQC is in an extra: pip install "ion_ode[chemistry]"') from None
    if unknown := [i for i in c if i not in _ELEMENT and i not in ("HCO3-", "CO3-2", "CO2", "H+", "OH-")]:
        raise InputError(f"PHREEQC is not told of {', '.join(unknown)}; leave it out")
    water: dict[str, float] = {}
    for ion, value in c.items():
        if ion in _ELEMENT and value > 0:
            water[_ELEMENT[ion]] = water.get(_ELEMENT[ion], 0.0) + float(value)
    named = c.get("HCO3-", 0.0) + 2 * c.get("CO3-2", 0.0)
    if (held := named if alkalinity is None else alkalinity) > 1e-3:  # less is water and borate, no carbonate
        water["Alkalinity"] = float(held)
    text = [f"SOLUTION 1\nunits mmol/kgw\ntemp {temperature - 273.15:.10g}\npH {pH:.12g}"]
    text += [f"{k} {v:.12g}" for k, v in water.items()]
    text += [
        "SELECTED_OUTPUT 1\n-reset false\nUSER_PUNCH 1",
        "-headings " + " ".join(f"v{k}" for k in range(len(terms))),
    ]
    text += [f"{10 * k} PUNCH {t}" for k, t in enumerate(terms, 1)]
    program = PhreeqPython(database=database)
    program.ip.run_string("\n".join([*text, "END"]))
    return Solution(program, 1), [float(v) for v in program.ip.get_selected_output_array()[1][: len(terms)]]


def phreeqc(
    c: dict[str, float],  # As for `speciate`
    pH: float,
    temperature: float = T_REF,  # $T$ [K]
    alkalinity: float | None = None,  # [eq/m³]; None: that of HCO3- and CO3-2
    database: str = "phreeqc.dat",  # or "pitzer.dat", for brines
) -> Speciation:
    "Speciation and saturation by PHREEQC (Parkhurst and Appelo 2013, 10.3133/tm6A43)."
    s, values = _asked(c, pH, temperature, alkalinity, database, [f'SI("{p}")' for p in _MINERALS.values()])
    index = dict(zip(_MINERALS, values, strict=True))
    species = {k: 1000 * v for k, v in s.species.items() if k != "H2O"}
    held = c.get("HCO3-", 0.0) + 2 * c.get("CO3-2", 0.0) if alkalinity is None else alkalinity
    known = {k: v for k, v in index.items() if v > -90}
    return Speciation(float(s.pH), temperature, species, 1000 * float(s.I), known, held, database)


def osmotic_pressure(
    c: dict[str, float],  # As for `speciate`
    pH: float = 7.0,
    temperature: float = T_REF,  # $T$ [K]
    database: str = "pitzer.dat",
) -> float:  # $\pi$ [Pa]
    "Osmotic pressure from the activity of water, $-RT \\ln a_w / V_w$."
    _, (water,) = _asked(c, pH, temperature, None, database, ['ACT("H2O")'])
    return -R_GAS * temperature * math.log(water) / _MOLAR_VOLUME

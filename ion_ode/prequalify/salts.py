"""Salts by what their ions are: names, and how alike two salts are"""

import re

import numpy as np

from ion_ode.core import InputError
from ion_ode.prequalify.monomers import plain
from ion_ode.water.ions import get_ion
from ion_ode.water.salts import SALTS

MIXTURES = ("Mg2+ in Li/Mg mixture", "Li+ in Li/Mg mixture")  # Ion rejections in a mixed feed, no salts


_SALT_NUMBERS = ("z cation", "r cation", "z anion", "r anion", "mixture")


def salt_names(
    text: str,  # NaCl, MgCl₂, LiCl/MgCl2 (a mixture), or several tests: NaCl; MgCl2
    what: str = "salt",  # How messages call it
) -> list[str]:  # Names in `SALTS` or `MIXTURES`
    "Salts as the tables name them; a mixture of lithium and magnesium stands for its two ions."
    known = {s.lower(): [s] for s in (*SALTS, *MIXTURES)} | {
        k: list(MIXTURES) for k in ("licl/mgcl2", "mgcl2/licl", "mg/li", "li/mg")
    }
    keys = [k.strip() for k in re.split("[;,]", plain(text))]
    if wrong := [k for k in keys if k.lower() not in known]:
        raise InputError(
            f"{what}: unknown salt {wrong[0]!r}; write one of {', '.join(SALTS)}, LiCl/MgCl2 for the "
            "mixture, or several with a semicolon between them"
        )
    return list(dict.fromkeys(s for k in keys for s in known[k.lower()]))


def _salt_numbers(
    name: str,  # In `SALTS` or `MIXTURES`
) -> list[float]:  # In the order of `_SALT_NUMBERS`; radii in nm
    "A salt by the charges and Stokes radii of its ions: what lets KCl follow NaCl."
    cation, anion = (name.split()[0].replace("Mg2+", "Mg+2"), "Cl-") if name in MIXTURES else SALTS[name]
    c, a = get_ion(cation), get_ion(anion)
    return [c.z, round(1e9 * c.r_stokes, 4), a.z, round(1e9 * a.r_stokes, 4), float(name in MIXTURES)]


def _salt_likeness(a: str, b: str) -> float:
    "1 for the same salt, less the more charges and radii differ (Eq. 6.7)."
    scale = np.array([1.0, 0.05, 1.0, 0.05, 1.0])
    return float(np.exp(-0.5 * np.sum(((np.array(_salt_numbers(a)) - _salt_numbers(b)) / scale) ** 2)))

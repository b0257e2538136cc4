"""Salts by what their ions are: names, and how alike two salts are"""

import json
import re
from functools import lru_cache
from pathlib import Path
import numpy as np
import pandas as pd
from scipy.stats import norm
from ion_ode.core import InputError
from ion_ode.prequalify.monomers import MONOMERS, alike, check_acyl, check_amine, label, monomer, plain, reactive_sites
from ion_ode.prequalify.process import Process, weighted_quantile
from ion_ode.prequalify.encoder import Encoder
from ion_ode.prequalify.tables import load_recipes, read_table
from ion_ode.prequalify.schema import NONE, Schema
from ion_ode.store import asset, atomic_write, digest, provenance
from ion_ode.water.ions import get_ion


_SALTS = {
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


MIXTURES = ("Mg2+ in Li/Mg mixture", "Li+ in Li/Mg mixture")  # Ion rejections in a mixed feed, no salts


_SALT_NUMBERS = ("z cation", "r cation", "z anion", "r anion", "mixture")


def salt_names(
    text: str,  # NaCl, MgCl₂, LiCl/MgCl2 (a mixture)
    what: str = "salt",  # How messages call it
) -> list[str]:  # Names in `_SALTS` or `MIXTURES`
    "Salts as the tables name them; a mixture of lithium and magnesium stands for its two ions."
    known = {s.lower(): [s] for s in (*_SALTS, *MIXTURES)} | {
        k: list(MIXTURES) for k in ("licl/mgcl2", "mgcl2/licl", "mg/li", "li/mg")
    }
    key = plain(text).lower()
    if key not in known:
        raise InputError(
            f"{what}: unknown salt {text!r}; write one of {', '.join(_SALTS)}, or LiCl/MgCl2 for the mixture"
        )
    return known[key]


def _salt_numbers(
    name: str,  # In `_SALTS` or `MIXTURES`
) -> list[float]:  # In the order of `_SALT_NUMBERS`; radii in nm
    "A salt by the charges and Stokes radii of its ions: what lets KCl follow NaCl."
    cation, anion = (name.split()[0].replace("Mg2+", "Mg+2"), "Cl-") if name in MIXTURES else _SALTS[name]
    c, a = get_ion(cation), get_ion(anion)
    return [c.z, round(1e9 * c.r_stokes, 4), a.z, round(1e9 * a.r_stokes, 4), float(name in MIXTURES)]


def _salt_likeness(a: str, b: str) -> float:
    "1 for the same salt, less the more charges and radii differ (Eq. L.1)."
    scale = np.array([1.0, 0.05, 1.0, 0.05, 1.0])
    return float(np.exp(-0.5 * np.sum(((np.array(_salt_numbers(a)) - _salt_numbers(b)) / scale) ** 2)))

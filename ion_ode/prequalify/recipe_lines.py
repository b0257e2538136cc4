"""Recipes to be screened, from a file or a frame"""

import numpy as np
import pandas as pd

from ion_ode.core import InputError
from ion_ode.prequalify.literature import _SPELLINGS
from ion_ode.prequalify.literature_rows import _SUPPORTS, RECIPE
from ion_ode.prequalify.monomers import monomer
from ion_ode.prequalify.reactions import check_acyl, check_amine
from ion_ode.prequalify.salts import salt_names
from ion_ode.prequalify.schema import _bare, _key
from ion_ode.prequalify.table_headers import NONE
from ion_ode.prequalify.tables import _read_cells

TEMPLATE = """name,amine,amine [wt%],acyl chloride,acyl chloride [wt%],support,pressure [bar],salt
PIP/TMC,PIP,1.0,TMC,0.1,PSf,6,Na2SO4
PIP/TMC,PIP,1.0,TMC,0.1,PSf,6,NaCl
PEI/TMC,PEI,0.5,TMC,0.1,PES,6,MgCl2
MPD/IPC,MPD,2.0,isophthaloyl chloride,0.1,PSf,10,NaCl
"""


def _read_recipes(
    path,  # CSV file, open text or frame, in the columns of `TEMPLATE`
) -> tuple[pd.DataFrame, list[str]]:  # A row a recipe and salt, with a reason where it cannot react; what was used
    "Recipes in the columns of the literature, each with the count of its reactive sites or why it makes no film."
    where, raw = _read_cells(path)
    names = {_key(s): role for role, spellings in _SPELLINGS.items() for s in spellings}
    found = {}
    for c in raw:
        role = names.get(_key(c)) or names.get(_key(_bare(c)[0]) if _bare(c)[1] in ("", "bar") else "")
        if role:
            found.setdefault(role, c)
    if missing := [r for r in ("amine", "acyl chloride", "salt") if r not in found]:
        raise InputError(f"{where} lacks the column(s) {', '.join(missing)}; expected {TEMPLATE.splitlines()[0]}")
    if raw.empty:
        raise InputError(f"{where} has a header and no recipe; add a line for each")
    cell = lambda row, role: row[found[role]] if role in found else ""
    rows = []
    for i, row in enumerate(raw.to_dict("records")):
        rows += _read_line({r: cell(row, r) for r in _SPELLINGS}, f"{where} line {i + 2}", f"line {i + 2}")
    given = [c for c in raw if c not in found.values()] + [
        found[r] for r in ("permeance", "rejection", "laboratory") if r in found
    ]
    stated = [r for r in RECIPE if r in found and (raw[found[r]] != "").any()]
    return pd.DataFrame(rows), _use(stated, [c for c in given if (raw[c] != "").any()])


def _use(stated: list[str], unused: list[str]) -> list[str]:
    "What was used of a table, what it left open, and what no input takes."
    left = [r for r in RECIPE if r not in stated and r != "third monomer"]  # without one there is none
    said = [f"used: {', '.join(stated)}, salt by the charges and radii of its ions"]
    said += [f"not stated: {', '.join(left)}; each sits in the middle of what was measured"] if left else []
    return said + [f"not used: {c}, the model has no such input" for c in unused]


def _read_line(row: dict, at: str, name: str) -> list[dict]:
    "One line, a row for each of its salts."
    out = {"name": row["name"] or name, "sites": "", "refused": ""}
    polyester = "polyester" in row["film"].lower()
    for role, check in (("amine", lambda s: check_amine(s, polyester=polyester)), ("acyl chloride", check_acyl)):
        out[role] = monomer(row[role], f"{at}, {role}")
        try:
            out["sites"] += (" + " if out["sites"] else "") + check(out[role])
        except InputError as e:
            out["refused"] = out["refused"] or str(e).removeprefix("recipe: ")
    third = row["third monomer"]
    out["third monomer"] = monomer(third, f"{at}, third monomer") if third and third.lower() not in NONE else "none"
    word = row["support"].lower().split()[0] if row["support"] else ""
    out["support"] = _SUPPORTS.get(word, row["support"])
    for role, top in (("amine [wt%]", 100), ("acyl chloride [wt%]", 100), ("pressure [bar]", 200)):
        text = row[role]
        try:
            out[role] = float(text) if text else np.nan
        except ValueError:
            raise InputError(
                f"{at}, {role}: {text!r} is not a number such as 0.1; leave the cell empty if it is not known"
            ) from None
        if text and not 0 < out[role] <= top:
            raise InputError(f"{at}, {role}: {text} is outside 0 to {top}; leave the cell empty if it is not known")
    return [out | {"salt": s} for s in salt_names(row["salt"], f"{at}, salt")]

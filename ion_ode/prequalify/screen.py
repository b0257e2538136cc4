"""Recipes that nobody has published, ranked by what the literature says; what cannot react or is too far is refused"""

from functools import lru_cache

import numpy as np
import pandas as pd

from ion_ode.core import InputError
from ion_ode.prequalify.literature import _SPELLINGS, Screen, shipped_screen
from ion_ode.prequalify.literature_rows import _SUPPORTS, RECIPE
from ion_ode.prequalify.salts import salt_names
from ion_ode.prequalify.monomers import alike, check_acyl, check_amine, label, monomer
from ion_ode.prequalify.tables import _read_cells
from ion_ode.prequalify.schema import NONE, _bare, _key

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
                f"{at}, {role}: {text!r} is not a number; leave the cell empty if it is not known"
            ) from None
        if text and not 0 < out[role] <= top:
            raise InputError(f"{at}, {role}: {text} is outside 0 to {top}; leave the cell empty if it is not known")
    return [out | {"salt": s} for s in salt_names(row["salt"], f"{at}, salt")]


@lru_cache(maxsize=1)
def _pairs_known() -> pd.DataFrame:
    "Pairs of monomers that were measured, with their number of papers."
    d = shipped_screen().known
    clean = lambda s: monomer(s) if s and s.lower() not in NONE else ""
    d = pd.DataFrame({"amine": d["amine"].map(clean), "acyl": d["acyl chloride"].map(clean), "paper": d["laboratory"]})
    d = d[(d.amine != "") & (d.acyl != "")]
    return d.groupby(["amine", "acyl"]).agg(papers=("paper", "nunique")).reset_index()


def neighbours(d: pd.DataFrame) -> pd.DataFrame:  # distance, known
    "How far a pair of monomers is from what was measured, 0 the same, 1 nothing in common, and in words."
    k = _pairs_known()
    near = np.minimum(alike(list(d["amine"]), list(k.amine)), alike(list(d["acyl chloride"]), list(k.acyl)))
    best, away = near.argmax(1), 1 - near.max(1)
    words = []
    for i, a in zip(best, away, strict=True):
        papers = f"{k.papers[i]} paper{'s' if k.papers[i] > 1 else ''}"
        pair = f"{label(k.amine[i])}/{label(k.acyl[i])} of {papers}"
        words.append(f"the same monomers: {pair}" if a < 1e-9 else f"{'close to' if a < 0.5 else 'far from'} {pair}")
    return pd.DataFrame({"distance": away, "known": words}, index=d.index)


def screen_recipes(
    recipes,  # CSV file, open text or frame in the columns of `TEMPLATE`
    *,
    level: float = 0.9,  # Coverage of the intervals on papers not seen
    target_permeance: float | None = None,  # [L m⁻² h⁻¹ bar⁻¹]; None: median of the literature
    target_rejection: float | None = None,  # [-]; None: median of the literature for the same salt
    max_distance: float = 0.6,  # Refuse a pair of monomers beyond
    model: Screen | None = None,  # None: the shipped one
) -> pd.DataFrame:  # A row a membrane, best first; .attrs["used"] says what was used of the table
    "Rank recipes by the chance to reach the targets; refuse what cannot react or is unlike all that was measured."
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a number between 0 and 1, for instance 0.9")
    if target_permeance is not None and not target_permeance > 0:
        raise InputError(f"target_permeance is {target_permeance}, expected a positive number in L m⁻² h⁻¹ bar⁻¹")
    if target_rejection is not None and not -50 < target_rejection < 1:
        raise InputError(f"target_rejection is {target_rejection}, expected a fraction below 1, 0.95 for 95 %")
    d, used = _read_recipes(recipes)
    m = model or shipped_screen()
    d = d.join(neighbours(d)).join(m.predict(d, level).drop(columns=["name", "salt"]))
    beyond = m.beyond(d)
    far = [
        f"{k}; distance {a:.2f} is beyond {max_distance:g}" if a > max_distance else ""
        for k, a in zip(d.known, d.distance, strict=True)
    ]
    d["refused"] = [r or f or b for r, f, b in zip(d.refused, far, beyond, strict=True)]
    keys = [
        "name",
        "amine",
        "amine [wt%]",
        "acyl chloride",
        "acyl chloride [wt%]",
        "third monomer",
        "support",
        "pressure [bar]",
    ]
    rows = [_membrane(g, m, target_permeance, target_rejection) for _, g in d.groupby(keys, dropna=False, sort=False)]
    out = pd.DataFrame(rows)
    out = out.sort_values(["status", "chance"], ascending=[True, False], kind="stable").reset_index(drop=True)
    rank = out.chance.round(9).rank(method="min", ascending=False).where(out.status == "ok")
    out.insert(0, "rank", rank.astype("Int64"))
    out.attrs["used"] = used
    return out[[c for c in out if c not in ("status", "reason", "known")] + ["known", "status", "reason"]]


def _membrane(g: pd.DataFrame, m: Screen, target_permeance, target_rejection) -> dict:
    "One membrane with its salts side by side."
    first = g.iloc[0]
    out = {"name": first["name"], "sites": first.sites, "permeance": first.permeance}
    out |= {"permeance lower": first["permeance lower"], "permeance upper": first["permeance upper"]}
    for r in g.drop_duplicates("salt").itertuples():
        out |= {f"rejection {r.salt}": r.rejection}
        out |= {f"rejection {r.salt} {e}": g.loc[r.Index, f"rejection {e}"] for e in ("lower", "upper")}
    order = g.sort_values("rejection")
    if len(order) > 1 and order.salt.iloc[0] != order.salt.iloc[-1]:
        passage = 1 - order.rejection
        out["selectivity"] = f"{order.salt.iloc[0]}/{order.salt.iloc[-1]} {passage.iloc[0] / passage.iloc[-1]:.3g}"
    out["chance"] = m.chance(g, target_permeance, target_rejection)
    out |= {
        "distance": first.distance,
        "known": first.known,
        "status": "refused" if first.refused else "ok",
        "reason": first.refused,
    }
    if first.refused:
        out |= {k: np.nan for k in out if k.startswith(("permeance", "rejection", "chance"))}
        out.pop("selectivity", None)
    return out


def _write_template(path=None) -> str:
    "An example of recipes to screen."
    from pathlib import Path

    from ion_ode.store import atomic_write

    if path is not None:
        if Path(path).exists():
            raise InputError(f"{path} exists and stays as it is; choose another name")
        atomic_write(path, TEMPLATE)
    return TEMPLATE

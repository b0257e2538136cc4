"""Recipes that nobody has published, ranked by what the literature says; what cannot react or is too far is refused"""

from functools import lru_cache

import numpy as np
import pandas as pd

from ion_ode.core import InputError
from ion_ode.prequalify.literature import Screen, shipped_screen
from ion_ode.prequalify.monomers import alike, label, monomer
from ion_ode.prequalify.quantities import with_interval
from ion_ode.prequalify.recipe_lines import _read_recipes
from ion_ode.prequalify.table_headers import NONE


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


def ranked_table(
    found: pd.DataFrame,  # From `screen_recipes`
) -> pd.DataFrame:  # Text, one row a membrane
    "A ranking as a person reads it: predictions with intervals, rejections in percent, nothing where one is refused."
    out = {"rank": found["rank"].map(lambda v: "" if pd.isna(v) else str(v)), "name": found.name, "sites": found.sites}
    for c in [c.removesuffix(" lower") for c in found if c.endswith(" lower")]:
        scale, unit = (1, "") if c == "permeance" else (100, " %")
        out[c + unit] = [with_interval(*e) for e in found[[c, f"{c} lower", f"{c} upper"]].to_numpy() * scale]
    out["chance"] = ["" if np.isnan(v) else f"{v:.2g}" for v in found.chance]
    words = [c for c in ("selectivity", "known", "reason") if c in found]
    return pd.DataFrame(out | {c: found[c].fillna("") for c in words})

"""Rows of the literature on thin-film composites, one a membrane and salt, with their sources"""

import re
from functools import lru_cache

import pandas as pd

from ion_ode.prequalify.monomers import monomer
from ion_ode.prequalify.reactions import reactive_sites
from ion_ode.prequalify.tables import load_recipes
from ion_ode.store import asset

EXACT = ("exact", "range", "approx", "from passage")  # Kinds of rejection that are a value, not a bound


_SUPPORTS = {
    "polysulfone": "PSf",
    "psu": "PSf",
    "psf": "PSf",
    "polyethersulfone": "PES",
    "pes": "PES",
    "polyacrylonitrile": "PAN",
    "pan": "PAN",
}


def _load_tfc() -> pd.DataFrame:  # A row a membrane and salt
    "81 thin-film-composite membranes read in the abstracts of 68 papers; `scored`: a value, not a bound."
    d = pd.read_csv(asset("tfc_membranes.csv"), dtype={"flux_LMH": str})
    text = ["amine_1_smiles", "amine_2_smiles", "acyl_smiles", "support", "salt", "rejection_kind"]
    d[text] = d[text].astype(object).fillna("").astype(str)
    first = lambda s: s.split()[0].strip(",").lower() if s else ""
    known = {s.lower(): s for s in ("PSf", "PES", "PAN", "PVDF", "PVC", "nylon", "PPBES")}
    d["support_class"] = [known.get(first(s), "other") if s else "" for s in d.support]
    d["scored"] = d.rejection_kind.isin(EXACT) & (d.rejection < 1)
    return d


def _pei(smiles: str) -> str:
    "Every drawing of polyethyleneimine as one."
    return "PEI" if smiles in ("*CCN*",) or smiles.startswith("CCCNCC1C(N)CNCCN") else smiles


def _first(row: dict, taken: set, kind: str | None) -> int | None:
    "First monomer of a recipe that reacts as `kind`; None: the first that is left."
    for k in range(1, 6):
        s = row[f"monomer {k} smiles"]
        if k in taken or not s:
            continue
        sites = reactive_sites(monomer(_pei(re.sub(r" x[\d.]+$", "", s)))) if "." not in s else {}
        if kind is None or sites.get(kind, 0) >= 2:
            return k
    return None


@lru_cache(maxsize=1)
def _nf_rows() -> pd.DataFrame:
    "nf_intelligence with its monomers in their roles."
    rows = []
    for row in load_recipes("nf_intelligence").fillna("").to_dict("records"):
        out = {
            "name": row["name"],
            "laboratory": f"nf{row['paper']}",
            "support": row["support"],
            "pressure [bar]": row["pressure [bar]"],
        }
        taken = set()
        for role, kind in (("amine", "amine"), ("acyl chloride", "acyl chloride"), ("third monomer", None)):
            k = _first(row, taken, kind)
            taken |= {k}
            smiles = "none" if k is None else _pei(re.sub(r" x[\d.]+$", "", row[f"monomer {k} smiles"])).split(".")[0]
            out[role] = smiles
            if kind:
                out[f"{role} [wt%]"] = "" if k is None else row[f"monomer {k} [wt%]"]
        rows += [
            out | {"salt": s, "rejection": row[f"rejection {s}"], "permeance": row["permeance [LMH/bar]"]}
            for s in ("MgCl2", "LiCl")
        ]
    return pd.DataFrame(rows)


@lru_cache(maxsize=1)
def _tfc_rows() -> pd.DataFrame:
    "The 81 membranes in the same columns."
    d = _load_tfc()
    out = pd.DataFrame(
        {
            "name": d.membrane_id,
            "laboratory": d.paper_group,
            "support": d.support_class,
            "pressure [bar]": d.pressure_bar,
        }
    )
    out["amine"] = [_pei(s) for s in d.amine_1_smiles]
    out["acyl chloride"] = d.acyl_smiles
    out["third monomer"] = d.amine_2_smiles.where(d.amine_2_smiles != "", "none").map(lambda s: s.split(".")[0])
    out["salt"], out["permeance"] = d.salt.where(d.scored, ""), d.permeance_LMH_bar
    out["rejection"] = d.rejection.where(d.scored)
    return out


def literature() -> pd.DataFrame:  # A row a membrane and salt; salt "" where only a permeance is known
    "Membranes of the literature in one set of columns: recipe, paper, salt, permeance, rejection."
    d = pd.concat([_tfc_rows(), _nf_rows()], ignore_index=True)
    for c in ("amine [wt%]", "acyl chloride [wt%]", "pressure [bar]", "rejection", "permeance"):
        d[c] = pd.to_numeric(d[c], errors="coerce")
    d = d[(d.rejection < 1) | d.rejection.isna()]
    keep = d.permeance.notna() | d.rejection.notna()
    return d[keep].reset_index(drop=True)


RECIPE = ("amine", "amine [wt%]", "acyl chloride", "acyl chloride [wt%]", "third monomer", "support", "pressure [bar]")

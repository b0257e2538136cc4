"""Which measurements an answer learns from, and what is held out with what

Every row knows its laboratory and its coupon. Rows are left out by name, with the reason, never silently."""

import numpy as np
import pandas as pd

from ion_ode.core import T_REF, InputError
from ion_ode.store import asset
from ion_ode.inference.laws import NEIGHBOURS, PH_RANGE
from ion_ode.water.ions import get_ion

__all__ = ["COMPOSITIONS", "SOURCES", "answer_feeds", "answer_rows", "hold_out", "left_out", "split_table"]

COMPOSITIONS = (
    "A",
    "B",
    "C",
    "D",
    "E",
)  # Held out one by one: A NaCl, B MgCl2, C Na2SO4, D MgSO4, each with traces; E LiCl + MgCl2
SOURCES = ("fdly2021", "foo2023", "wang2023", "ritt2020", "liu2025", "jeong2023")  # Held out one by one
_KNOWN = {"Na+", "Mg+2", "Cl-", "SO4-2", "NO3-", *NEIGHBOURS} - {"F-", "I-", "ClO4-", "Cs+"}
_VIALS = 3  # Vials an experiment of liu2025, evenly over its run: they share a coupon and drift together


def _all_rows() -> pd.DataFrame:
    "Both tables of the package in one form."
    old = pd.read_csv(asset("nf_measurements.csv"), dtype={"state_id": str})
    liu = old.source_id == "liu2025"
    old["coupon"] = np.where(liu, "liu2025/" + old.solution_id.str.slice(8, 10), old.source_id)
    new = pd.read_csv(asset("nf_more.csv"), dtype={"state_id": str})
    new.loc[new.source_id == "wang2023", "composition"] = "E"
    d = pd.concat([old, new], ignore_index=True).set_index("row_id")
    d["laboratory"] = np.where(d.source_id == "jeong2023", d.coupon, d.source_id)
    return d


def answer_feeds() -> pd.DataFrame:  # solution_id, ion, c_feed_mol_m3
    "The whole feed behind every solution."
    parts = [
        pd.read_csv(asset(f))[["solution_id", "ion", "c_feed_mol_m3"]]
        for f in ("nf_solutions.csv", "nf_more_solutions.csv")
    ]
    return pd.concat(parts, ignore_index=True)


def _reason(d: pd.DataFrame) -> pd.Series:
    "Why a row is not learned from; empty for those that are."
    feeds = answer_feeds()
    strange = set(feeds[~feeds.ion.isin(_KNOWN)].solution_id)
    twice = d.kind.eq("intrinsic") & d.source_id.eq("ritt2020")
    vial = d.solution_id.str.extract(r"_v(\d+)$")[0].astype(float)
    last = vial.groupby(d.coupon).transform("max")
    chosen = np.zeros(len(d), bool)
    for k in range(_VIALS):
        chosen |= (vial == (1 + (last - 1) * k / (_VIALS - 1)).round()).to_numpy()
    why = pd.Series("", index=d.index)
    for says, where in (
        ("one of many vials of a coupon", vial.notna() & ~chosen),
        ("given twice: the observed value of the same run is used", twice),
        ("pH outside the range of the law", d.pH.notna() & ~d.pH.between(*PH_RANGE)),
        ("an ion whose partitioning nothing here tells", d.solution_id.isin(strange) | ~d.ion.isin(_KNOWN)),
        ("a compilation without flux, repeated in jeong2023", d.source_id.eq("losema2023")),
        ("neither flux nor pressure", d.flux_m_s.isna() & d.pressure_Pa.isna()),
        ("its salt's other ion carries the same value", d.salt_level & (d.z < 0)),
        ("a neutral solute", d.z.eq(0)),
    ):
        why[where.to_numpy()] = says
    return why


def left_out(
    membrane: str = "NF270",
) -> pd.DataFrame:  # Source, reason and how many rows
    "The rows an answer does not learn from, by name."
    d = _all_rows()
    d = d[d.membrane == membrane]
    return (
        d.assign(reason=_reason(d))
        .query("reason != ''")
        .groupby(["source_id", "reason"])
        .size()
        .rename("rows")
        .reset_index()
    )


def answer_rows(
    membrane: str = "NF270",
) -> pd.DataFrame:  # One row an independent value, with laboratory, coupon, flux or pressure
    "The measurements an answer learns from."
    d = _all_rows()
    if membrane not in set(d.membrane):
        raise InputError(f"no measurement on {membrane!r}; the package holds {', '.join(sorted(set(d.membrane)))}")
    d = d[d.membrane == membrane]
    d = d[_reason(d) == ""].copy()
    d["temperature_K"] = d.temperature_K.fillna(T_REF)
    return d


def hold_out(
    d: pd.DataFrame,  # Of `answer_rows`
    name: str,  # One of COMPOSITIONS or SOURCES
) -> tuple[pd.DataFrame, pd.DataFrame]:  # Rows to learn from, rows to score
    "One composition with all its sources, or one source with all its compositions."
    out = d.composition == name if name in COMPOSITIONS else d.source_id == name
    if not out.any():
        raise InputError(f"nothing to hold out as {name!r}; expected one of {', '.join((*COMPOSITIONS, *SOURCES))}")
    return d[~out], d[out]


def split_table() -> pd.DataFrame:  # Index row_id; columns source_id, composition, and one a fold: learn or score
    "Both splits as a table that anyone can join to the measurements."
    d = answer_rows()
    out = d[["source_id", "composition"]].copy()
    for name in (*COMPOSITIONS, *SOURCES):
        out[f"without {name}"] = np.where(d.index.isin(hold_out(d, name)[1].index), "score", "learn")
    return out


def osmotic_at_bulk(
    feed: dict,  # {ion: mol/m³}
    rejection: dict,  # {ion: measured R}; ions not measured are taken to follow the others
    temperature: float,  # [K]
) -> float:  # [Pa]
    "Osmotic difference between feed and measured permeate, ideal; what was not measured follows by neutrality."
    z = {i: get_ion(i).z for i in feed}
    perm = {i: feed[i] * (1 - rejection[i]) for i in rejection if i in feed}
    rest = [i for i in feed if i not in perm]
    if rest:
        excess = sum(z[i] * c for i, c in perm.items())
        total = sum(abs(z[i]) * feed[i] for i in rest if z[i] * excess < 0)
        mean = float(np.mean(list(rejection.values())))
        for i in rest:
            share = abs(z[i]) * feed[i] / total if total and z[i] * excess < 0 else 0.0
            perm[i] = abs(excess) * share / abs(z[i]) if share else (feed[i] * (1 - mean) if not total else 0.0)
    return 8.31446 * temperature * sum(feed[i] - min(perm[i], feed[i]) for i in feed)

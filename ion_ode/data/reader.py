"""Anyone's rejections, from a file, a frame or a pipe, in laboratory units: read, name, convert, check, assemble

Docs: https://ion-ode.github.io/ion_ode/guides/my_data.html.md"""

# One rule for percent, everywhere: a rejection is a fraction unless its header or its cell says %, and a fraction above 1 or
# below LOWEST is refused. Every pass adds to one list of problems; they are raised together, each with row, column, value and
# what to do. What was taken for granted or left out is in the notes.

import difflib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ion_ode.core import InputError
from ion_ode.data.measurements import KINDS, Measurements
from ion_ode.data.nf270 import load_solutions
from ion_ode.water.ions import UnknownIon, get_ion, ion_name
from ion_ode.store import atomic_write
from ion_ode.water.analysis import SATURATED, feed_matrix
from ion_ode.water.cells import TableError, is_empty
from ion_ode.water.columns import Columns, missing, name_columns, si_column
from ion_ode.water.columns import _salt as is_salt
from ion_ode.water.files import read_table
from ion_ode.water.neutrality import ROUNDING, TOLERANCE, close_charge

__all__ = ["LOWEST", "Check", "MeasurementError", "Reading", "charge_balance", "check_measurements", "load_measurements", "measurements_of", "read_measurements"]

MeasurementError = TableError
LOWEST = -10.0  # Smallest rejection that is believed: a permeate eleven times the feed
_LIKELY = ("Na+", "K+", "Li+", "Mg+2", "Ca+2", "Cl-", "SO4-2", "NO3-", "NH4+", "HCO3-", "sodium", "potassium", "magnesium", "calcium", "chloride", "sulfate", "nitrate")
_STATE = ("flux", "pressure", "temperature", "pH", "film")
_RANGE = {  # quantity: lowest, highest, what it is beyond, what to do
    "pressure": (1e3, 2e7, "outside 0.01 to 200 bar", "check the unit"),
    "temperature": (273.15, 373.15, "outside 0 to 100 °C", "check the unit: degC or K"),
    "pH": (0, 14, "outside 0 to 14", "give a pH or leave the cell empty"),
    "film": (0, 1e-3, "no film of 0 to 1 mm", "check the unit"),
    "c_perm": (0, SATURATED, "not a concentration", "a concentration is not negative; check the unit"),
    "sd": (0, np.inf, "a negative standard deviation", "give a positive number or leave the cell empty"),
}  # fmt: skip


# ---- name: which rows hold a value, and of which ion


def _ion_of_rows(t: Columns) -> np.ndarray:
    "Ion of every row of a long table; None where it is not one."
    column, out = t.one["ion"], []
    for row, spelling in zip(t.raw.rows, t.text("ion"), strict=True):
        try:
            out.append(ion_name(spelling))
        except UnknownIon:
            close = difflib.get_close_matches(spelling.lower(), [s.lower() for s in _LIKELY], n=1, cutoff=0.4)
            near = ion_name(close[0]) if close else None
            out.append(None)
            what = f"{spelling!r} is not an ion of the table" if spelling else "the cell is empty"
            fix = f"did you mean {near}?" if near and spelling else "name the ion, such as Na+, or add it with read_ion_table"
            if is_salt(spelling):
                fix = "it is a salt: give a row for each of its ions, both with its rejection and true in a column 'salt_level'"
            t.problems.append((row, column, spelling, what, fix))
    return np.array(out, dtype=object)


def _long(t: Columns) -> pd.DataFrame:
    "Values of a table with one row an ion: k (row), ion, and the columns its numbers stand in."
    v = pd.DataFrame({"k": np.arange(len(t.raw.cells)), "ion": pd.Series(_ion_of_rows(t), dtype=object), "place": 0})
    for q in ("c_feed", "c_perm", "rejection", "sd", "censored"):
        v[q] = pd.Series([t.one.get(q)] * len(v), dtype=object)
    for q in ("rejection", "c_perm"):
        for ion, column in t.ions(q).items():
            t.problems.append((1, column, "", f"{column!r} belongs to {ion}, but the rows name their ion in {t.one['ion']!r}", "use one row an ion, or one column an ion"))
    if t.ions("c_feed"):
        v["c_feed"] = pd.Series([t.ions("c_feed").get(i) if i else None for i in v.ion], dtype=object)
        for k in np.flatnonzero(v.c_feed.isna() & v.ion.notna()):
            t.problems.append((t.raw.rows[k], t.one["ion"], v.ion[k], f"{v.ion[k]} is asked for, which no column of the feed names", f"it names {', '.join(t.ions('c_feed'))}"))
    return v


def _wide(t: Columns) -> pd.DataFrame:
    "Values of a table with one row a run and one column an ion."
    blocks = []
    ions = list(dict.fromkeys(i for _, i in t.per_ion))
    for place, ion in enumerate(ions):
        mine = {q: t.per_ion.get((q, ion)) for q in ("c_feed", "c_perm", "rejection", "sd", "censored")}
        said = [c for q, c in mine.items() if q in ("c_perm", "rejection") and c]
        if said:
            some = np.flatnonzero(~t.raw.cells[said].map(is_empty).all(axis=1).to_numpy())
            blocks.append(pd.DataFrame({"k": some, "place": place} | {q: pd.Series([c] * len(some), dtype=object) for q, c in {"ion": ion, **mine}.items()}))
    if not blocks:
        return pd.DataFrame(columns=["k", "ion", "place", "c_feed", "c_perm", "rejection", "sd", "censored"])
    return pd.concat(blocks).sort_values(["k", "place"], kind="stable", ignore_index=True)


def _name(t: Columns, needs_flux: bool) -> pd.DataFrame:
    "Rows that hold a value; problems with what is missing."
    wide = "ion" not in t.one and bool(t.per_ion)
    has = lambda q: q in t.one or bool(t.ions(q))
    for q in ("ion", "flux", "c_feed"):
        if not has(q) and not (q == "ion" and wide) and not (q == "flux" and not needs_flux):
            t.problems.append(missing(t, q))
    if not has("rejection") and not has("c_perm"):
        t.problems.append((1, "", "", "neither rejection nor c_perm is given", "add a column such as 'rejection [%]' or 'permeate [mg/L]'"))
    if t.problems:
        raise TableError(t.raw.name, t.problems)
    v = _wide(t) if wide else _long(t)
    for q in ("c_feed", "c_perm", "rejection", "sd"):
        if wide and q in t.one:
            t.problems.append((1, t.one[q], "", f"{t.one[q]!r} names no ion, though other columns do", "put the ion into its name, or give one row an ion"))
    return v


# ---- convert


def _convert(t: Columns, v: pd.DataFrame) -> pd.DataFrame:
    "Numbers of every value in SI beside it: NAME, NAME_shown, NAME_bound."
    v = v.copy()
    for q in ("c_feed", "c_perm", "rejection", "sd"):
        value, shown, bound, state = np.full(len(v), np.nan), np.full(len(v), np.nan), np.full(len(v), "", dtype=object), np.full(len(v), "empty", dtype=object)
        for column in [c for c in v[q].unique() if isinstance(c, str)]:
            at = (v[q] == column).to_numpy()
            k = v.k[at].to_numpy()
            ions = np.array(["Na+"] * len(t.raw.cells), dtype=object)
            ions[k] = [i or "Na+" for i in v.ion[at]]
            x = si_column(t, q, column, list(ions), np.isin(np.arange(len(ions)), k))
            value[at], shown[at], bound[at] = x.value[k], x.shown[k], x.bound[k]
            state[at] = np.select([x.wrong[k], x.absent[k], x.empty[k]], ["wrong", "absent", "empty"], "number")
        v[f"{q}_si"], v[f"{q}_shown"], v[f"{q}_bound"], v[f"{q}_is"] = value, shown, bound, state
    for q in _STATE:
        x = si_column(t, q, t.one[q]) if q in t.one else None
        v[q] = np.nan if x is None else x.value[v.k]
        v[f"{q}_shown"] = np.nan if x is None else x.shown[v.k]
        v[f"{q}_empty"] = True if x is None else x.empty[v.k]
    return v


# ---- check


def _bounds(t: Columns, v: pd.DataFrame):
    "Every number within what is possible."
    one = lambda q: v[q] if q in ("c_perm", "sd") else pd.Series([t.one.get(q)] * len(v))
    for q, (low, high, what, fix) in _RANGE.items():
        x = (v[f"{q}_si"] if q in ("c_perm", "sd") else v[q]).to_numpy(dtype=float)
        for k in np.flatnonzero((x < low) | (x > high)):
            shown = v[f"{q}_shown"].iloc[k]
            t.problems.append((t.raw.rows[v.k[k]], one(q).iloc[k], f"{shown:g}", f"{shown:g} is {what}", fix))
    R = v.rejection_si.to_numpy()
    for k in np.flatnonzero((R > 1 + 1e-12) | (R < LOWEST)):
        percent = t.unit.get(v.rejection[k]) not in ("", None, "-", "fraction")
        if R[k] > 1:
            fix = "a rejection is at most 1 (100 %); it may be negative" if percent else "a fraction is at most 1; for percent write 'rejection [%]'"
        else:
            fix = f"the permeate would be {1 - R[k]:.3g} times the feed; " + ("check the value" if percent else "for percent write 'rejection [%]'")
        word = "above 1" if R[k] > 1 else f"below {LOWEST:g}"
        t.problems.append((t.raw.rows[v.k[k]], v.rejection[k], f"{v.rejection_shown[k]:g}", f"{v.rejection_shown[k]:g} is a rejection {word}", fix))


def _flux(t: Columns, v: pd.DataFrame, needed: bool):
    "Fluxes that a membrane can have."
    if "flux" not in t.one:
        return
    column, unit = t.one["flux"], t.unit.get(t.one["flux"])
    for k, (J, shown, empty) in enumerate(zip(v.flux, v.flux_shown, v.flux_empty, strict=True)):
        row = t.raw.rows[v.k[k]]
        if empty and needed:
            t.problems.append((row, column, "", "the cell is empty", "give a number or remove the row"))
        elif J <= 0:
            t.problems.append((row, column, f"{shown:g}", f"{shown:g} is not a water flux above zero", "a flux is positive, from feed to permeate"))
        elif J > 1e-3 or J < 1e-9:
            t.problems.append((row, column, f"{shown:g}", f"{shown:g} {unit} is {J:.2g} m/s, far from nanofiltration", "check the unit of flux"))


def _amounts(t: Columns, v: pd.DataFrame):
    "Feeds above zero, and a rejection or a permeate that does not contradict it."
    for k in range(len(v)):
        row, is_, c = t.raw.rows[v.k[k]], v.c_feed_is[k], v.c_feed_si[k]
        if v.c_feed[k] is None or is_ == "wrong":
            continue
        if is_ == "empty":
            cell = str(t.raw.cells[v.c_feed[k]].iloc[v.k[k]] or "").strip()
            t.problems.append((row, v.c_feed[k], cell, f"{cell!r} is not a number" if cell and cell.lower() not in ("none", "nan") or cell == "NaN" and t.raw.name != "the table" else "the cell is empty", "give a number or remove the row"))
        elif is_ == "absent" or v.c_feed_bound[k]:
            cell = str(t.raw.cells[v.c_feed[k]].iloc[v.k[k]])
            t.problems.append((row, v.c_feed[k], cell, f"{cell!r} is a bound: a rejection needs a number for the feed of its ion", "give the concentration, or remove the value"))
        elif not 0 < c <= SATURATED:
            t.problems.append((row, v.c_feed[k], f"{v.c_feed_shown[k]:g}", f"{v.c_feed_shown[k]:g} is not a feed concentration (above 0, at most {SATURATED / 1000:g} mol/L)", "leave out ions that the feed lacks, check the unit"))


def _rejections(t: Columns, v: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    "Rejection of every value, given or 1 - c_perm/c_feed, and whether it is a bound."
    derived = 1 - v.c_perm_si.to_numpy() / v.c_feed_si.where(v.c_feed_si > 0).to_numpy()
    given = v.rejection_si.to_numpy()
    bound = np.where(np.isfinite(given), v.rejection_bound, v.c_perm_bound.map({"": "", "<": ">", ">": "<"}))
    R = np.where(np.isfinite(given), given, derived)
    wrong = {(p[0], p[1]) for p in t.problems}
    for k in range(len(v)):
        row, where = t.raw.rows[v.k[k]], v.rejection[k] or v.c_perm[k]
        if v.c_perm_is[k] == "absent" or v.rejection_is[k] == "absent":
            t.problems.append((row, where, "ND", "a value below a limit that is not given", "write the detection limit, as in <0.1"))
        elif not np.isfinite(R[k]) and not any((row, c) in wrong for c in (v.rejection[k], v.c_perm[k], v.c_feed[k])):
            t.problems.append((row, where, "", "the row has neither a rejection nor a permeate concentration", "give one of them or remove the row"))
        elif np.isfinite(given[k]) and abs(given[k] - derived[k]) > 0.02 and not v.c_perm_bound[k]:
            t.problems.append((row, v.rejection[k], f"{v.rejection_shown[k]:g}", f"the rejection {given[k]:.3f} contradicts 1 - c_perm/c_feed = {derived[k]:.3f}", "correct one of the three cells"))
        elif not np.isfinite(given[k]) and derived[k] < LOWEST:
            t.problems.append((row, v.c_perm[k], f"{v.c_perm_shown[k]:g}", f"the permeate is {1 - derived[k]:.3g} times the feed", "check the units of feed and permeate"))
    return R, bound


_TRUE = dict.fromkeys(("true", "1", "yes", "y", "1.0"), True) | dict.fromkeys(("false", "0", "no", "n", "0.0", ""), False)


def _flags(t: Columns, v: pd.DataFrame, quantity: str) -> np.ndarray:
    "A column of true and false (and, for a bound, of < and >)."
    out = np.zeros(len(v), dtype=object)
    for k in range(len(v)):
        column = v.censored[k] if quantity == "censored" else t.one.get(quantity)
        cell = "" if not isinstance(column, str) else " ".join(str(c).split()).lower() if not is_empty(c := t.raw.cells[column].iloc[v.k[k]]) else ""
        if quantity == "censored" and cell in ("<", ">"):
            out[k] = cell
        elif cell not in _TRUE:
            t.problems.append((t.raw.rows[v.k[k]], column, cell, f"{cell!r} is neither true nor false", "write true or false"))
        else:
            out[k] = _TRUE[cell]
    return out


def _states(t: Columns, v: pd.DataFrame, c: np.ndarray, stem: str) -> tuple[np.ndarray, np.ndarray]:
    "Feed and run that every value belongs to; without a column for the feed, feeds are told apart by what is in them."
    named = t.text("sample", "")[v.k]
    run = t.text("run")[v.k] if "run" in t.one else np.array([repr(r) for r in v[list(_STATE)].to_numpy().tolist()], dtype=object)
    feed = np.unique(c, axis=0, return_inverse=True)[1].ravel()[v.k] if c.shape[1] else np.zeros(len(v), int)
    if not c.shape[1]:
        listed = pd.Series(list(zip(v.ion, v.c_feed_si.round(12)))).groupby([named, run]).transform(lambda s: repr(sorted(set(map(str, s)))))
        feed = pd.factorize(listed)[0]
    several = len(set(feed[named == ""])) > 1
    order = dict(zip(dict.fromkeys(feed[named == ""]), range(1, len(v) + 1)))
    sample = np.array([n or (f"{stem}-{order[f]}" if several else stem) for n, f in zip(named, feed)], dtype=object)
    if t.one.get("run") == "state_id":
        return sample, t.text("run", stem)[v.k]
    number = pd.Series(list(zip(run, feed if c.shape[1] else [0] * len(v)))).groupby(sample).transform(lambda s: pd.factorize(s)[0] + 1).astype(int)
    return sample, np.array([f"{s}/{k:02d}" for s, k in zip(sample, number, strict=True)], dtype=object)


def _twice(t: Columns, v: pd.DataFrame, state, kind, salt, R):
    "One value of an ion a run and kind; one feed an ion and run; pairs of a salt."
    seen: dict = {}
    for k, key in enumerate(zip(state, v.ion, kind, strict=True)):
        if key[1] and key in seen:
            t.problems.append((t.raw.rows[v.k[k]], t.one.get("ion", v.rejection[k] or v.c_perm[k]), key[1], f"{key[1]} of run {key[0]} stands already in row {t.raw.rows[seen[key]]}", "remove one, or tell the runs apart in a column 'run'"))
        elif key[1]:
            seen[key] = v.k[k]
    c = v.c_feed_si.to_numpy()
    for (_, ion), g in pd.DataFrame({"s": state, "i": v.ion, "c": c}).dropna().groupby(["s", "i"]):
        if len(g) > 1 and g.c.max() > 1.02 * g.c.min():
            k = g.index[-1]
            t.problems.append((t.raw.rows[v.k[k]], v.c_feed[k], f"{v.c_feed_shown[k]:g}", f"{ion} has two feed concentrations in one run", "give each run its own name in a column 'run'"))
    pairs = pd.DataFrame({"k": range(len(v)), "s": state, "kd": kind, "z": [get_ion(i or "Na+").z for i in v.ion], "R": R})[salt]
    for _, g in pairs.groupby(["s", "kd"]):
        if len(g) != 2 or g.z.prod() > 0 or np.ptp(g.R) > 1e-6:
            t.problems.append((t.raw.rows[v.k[g.k.iloc[0]]], t.one["salt_level"], "true", f"{len(g)} row(s) of this run are marked salt-level", "mark its one cation and its one anion, both with the salt's rejection"))


# ---- assemble


@dataclass
class Reading:
    "What was read: a tidy table in SI, the full feeds behind it, and what a reader should know."

    frame: pd.DataFrame  # One row a value, index row_id
    feeds: pd.DataFrame | None  # state_id, ion, c_feed_mol_m3 of feeds that hold more than was measured; None: the listed ions are the feed
    notes: list[str]
    name: str  # Of the file

    def measurements(self, balance: str | None = None, ions=None) -> Measurements:
        "The container; feeds are neutral from here on."
        m = Measurements.from_frame(self.frame, ions, self.feeds, balance)
        object.__setattr__(m, "notes", (*self.notes, *m.notes))
        return m


def _frame(t: Columns, v: pd.DataFrame, R, bound, sample, state, kind, salt, stem: str, membrane: str) -> pd.DataFrame:
    "The tidy table."
    text = lambda q, default="": t.text(q, default)[v.k]
    sd = v.sd_si.to_numpy()
    number = lambda q: v[q].to_numpy(dtype=float)
    weight = si_column(t, "weight", t.one["weight"]).value[v.k] if "weight" in t.one else np.ones(len(v))
    out = pd.DataFrame(
        {
            "source_id": text("source", stem), "doi": text("doi"), "membrane": text("membrane", membrane), "solution_id": sample,
            "composition": text("composition") if "composition" in t.one else sample, "state_id": state, "temperature_K": number("temperature"),
            "pH": number("pH"), "flux_m_s": number("flux"), "pressure_Pa": number("pressure"), "ion": v.ion.to_numpy(), "z": [get_ion(i).z for i in v.ion],
            "c_feed_mol_m3": number("c_feed_si"), "rejection": R, "rejection_sd": sd, "sd_meaning": np.where(np.isfinite(sd), "as given in the file", "not given"),
            "kind": kind, "censored": bound != "", "salt_level": salt, "weight": np.where(salt & ("weight" not in t.one), 0.5, np.nan_to_num(weight, nan=1.0)),
            "note": text("note"),
        }
    )  # fmt: skip
    for column, values in (("bound", bound), ("coupon", text("coupon") if "coupon" in t.one else None), ("film_m", number("film") if "film" in t.one else None)):
        if values is not None and (column != "bound" or (bound == "<").any()):
            out[column] = values
    own = text("row") if "row" in t.one else np.full(len(v), "")
    made = [f"{s}/{i}{'' if k == 'observed' else '/' + k}" for s, i, k in zip(state, v.ion, kind, strict=True)]
    out.index = pd.Index(own if (own != "").all() and len(set(own)) == len(own) else made, name="row_id")
    return out


def _whole_feeds(t: Columns, v: pd.DataFrame, state: np.ndarray, ions, c: np.ndarray) -> pd.DataFrame | None:
    "Full feeds of the states, where the table has a column an ion."
    if not ions:
        return None
    first = pd.DataFrame({"state": state, "k": v.k}).drop_duplicates("state")
    at, j = np.nonzero(c[first.k] > 0)
    return pd.DataFrame({"state_id": first.state.to_numpy()[at], "ion": np.array(ions, dtype=object)[j], "c_feed_mol_m3": c[first.k.to_numpy()[at], j]})


def read(
    source,  # As for `load_measurements`
    *,
    units: dict[str, str] | None = None,
    columns: dict[str, str] | None = None,
    decimal: str | None = None,
    membrane: str = "not named",
    kind: str = "observed",
    source_id: str | None = None,
    sheet: str | None = None,
    needs_flux: bool = True,  # Whether every value must have a flux
) -> Reading:  # Nothing is closed or refused for its charge yet
    "A table of rejections in SI; raises all problems at once."
    raw = read_table(source, sheet)
    t = name_columns(raw, units, columns, decimal)
    v = _convert(t, _name(t, needs_flux))
    ions, c = feed_matrix(t, True) if t.ions("c_feed") else ((), np.zeros((len(raw.cells), 0)))
    _flux(t, v, needs_flux)
    _amounts(t, v)
    _bounds(t, v)
    R, bound = _rejections(t, v)
    kinds = np.array([k.lower() for k in t.text("kind", t.kind or kind)], dtype=object)[v.k]
    for k in np.flatnonzero(~np.isin(kinds, KINDS)):
        t.problems.append((raw.rows[v.k[k]], t.one.get("kind", ""), kinds[k], f"{kinds[k]!r} is not a kind of rejection", f"write one of {', '.join(KINDS)}"))
    said, salt = _flags(t, v, "censored"), _flags(t, v, "salt_level").astype(bool)
    bound = np.where(np.isin(said, ("<", ">")), said, np.where(said == True, np.where(R > 0, ">", "<"), bound))  # noqa: E712
    stem = source_id or (Path(raw.name).stem if raw.name != "the table" else "table")
    sample, state = _states(t, v, c, stem)
    _twice(t, v, state, kinds, salt, R)
    if t.problems:
        raise TableError(raw.name, sorted(dict.fromkeys(t.problems), key=lambda p: -1 if p[0] is None else p[0]))
    frame = _frame(t, v, R, bound, sample, state, kinds, salt, stem, membrane)
    return Reading(frame, _whole_feeds(t, v, state, ions, c), t.notes, raw.name)


def charge_balance(
    df: pd.DataFrame,  # Measurements
    feeds: pd.DataFrame | None = None,  # state_id, ion, c_feed_mol_m3 of the full feeds; None: the listed ions
) -> pd.DataFrame:  # Index state_id: cations, anions [mol charge/m³] and imbalance (Eq. T.2)
    "Charge balance of the feed of each run."
    g = (df if feeds is None else feeds).drop_duplicates(["state_id", "ion"])
    q = g.c_feed_mol_m3 * [get_ion(i).z for i in g.ion]
    out = pd.DataFrame({"cations_mol_m3": q.clip(lower=0).groupby(g.state_id).sum(), "anions_mol_m3": (-q).clip(lower=0).groupby(g.state_id).sum()})
    out["imbalance"] = (out.cations_mol_m3 - out.anions_mol_m3) / (out.cations_mol_m3 + out.anions_mol_m3)
    return out


def _closed(found: Reading, balance: str) -> Reading:
    "The feeds closed on an ion, and the table's rows of it with them."
    m = found.measurements(balance)
    frame, c = found.frame.copy(), m.c_feed[m.state, m.ion]
    changed = np.abs(c - frame.c_feed_mol_m3) > ROUNDING * c
    frame["c_feed_mol_m3"] = c
    frame.loc[changed, "note"] = (frame.note[changed] + "; c_feed closed on charge").str.lstrip("; ")
    state, j = np.nonzero(m.c_feed > 0)
    feeds = pd.DataFrame({"state_id": m.run[state], "ion": np.array(m.ions, dtype=object)[j], "c_feed_mol_m3": m.c_feed[state, j]})
    return Reading(frame, feeds, list(m.notes), found.name)


def read_measurements(
    source,  # As for `load_measurements`
    *,
    balance: str | None = None,  # Ion that closes the charge balance of each feed
    **options,  # As for `load_measurements`
) -> Measurements:
    "Anyone's measurements in the container; raises `MeasurementError` with all problems at once."
    return read(source, **options).measurements(balance)


def measurements_of(
    source,  # Measurements, or anything `load_measurements` reads, or its result
    *,
    feeds: pd.DataFrame | None = None,  # Full feeds: solution_id (or state_id), ion, c_feed_mol_m3; None: the table's own, and the shipped ones by their solution_id
    balance: str | None = None,  # Ion that closes the charge balance of each feed
    kind: str = "observed",  # Where the table has no such column
) -> Measurements:  # Every value with a flux; a warning for each note
    "Measurements for a model that needs a flux, from any door."
    if isinstance(source, Measurements):
        m = source
    else:
        found = read(source, needs_flux=False, kind=kind)
        own = source.attrs.get("feeds") if isinstance(source, pd.DataFrame) else None
        if found.feeds is None:
            found.feeds = next((f for f in (feeds, own) if f is not None), load_solutions())
        m = found.measurements(balance)
        for n in m.notes:
            warnings.warn(f"{found.name}: {n}", stacklevel=3)
    has_flux = np.isfinite(m.flux[m.state])
    if not has_flux.any():
        raise InputError("no measurement has both a flux and a rejection; give the water flux, such as 'flux [LMH]'")
    if not has_flux.all():
        warnings.warn(f"{(~has_flux).sum()} of {len(m)} values have no flux and are left out", stacklevel=3)
    return m if has_flux.all() else m.select(has_flux)


def load_measurements(
    path,  # .csv, .tsv, .xlsx, .json or .parquet, "-" for standard input, or a frame; one row an ion, or one row a run and one column an ion
    *,
    units: dict[str, str] | None = None,  # Unit of a column without one: {"flux": "LMH"}
    columns: dict[str, str] | None = None,  # Your header for a name above: {"flux": "Permeation"}
    decimal: str | None = None,  # "," where numbers are written 0,95; None: what the cells show
    balance: str | None = None,  # Close the charge balance of each feed on this ion
    membrane: str = "not named",  # Where the file has no such column
    kind: str = "observed",  # Where the file has no such column
    source: str | None = None,  # `source_id`; None: the file's stem
    sheet: str | None = None,  # Of a workbook; None: the first that holds anything
) -> pd.DataFrame:  # Tidy table in SI; .attrs: "charge" (balance of each feed), "feeds" (whole feeds), "notes"
    "Anyone's measurements as a tidy table; raises `MeasurementError` with all problems at once."
    found = read(path, units=units, columns=columns, decimal=decimal, membrane=membrane, kind=kind, source_id=source, sheet=sheet)
    if balance is not None:
        found = _closed(found, balance)
    out = found.frame
    for n in found.notes:
        warnings.warn(f"{found.name}: {n}", stacklevel=2)
    out.attrs = {"charge": charge_balance(out, found.feeds), "feeds": found.feeds, "notes": found.notes}
    return out


# ---- the verdict


@dataclass(frozen=True, repr=False)
class Check:
    "What was found in a measurement file."

    ok: bool  # Can it be used
    text: str  # The verdict, for a person
    frame: pd.DataFrame | None  # The cleaned table
    problems: pd.DataFrame | None  # row, column, value, problem, fix
    clean_path: Path | None  # Where the cleaned table was written

    def __repr__(self):
        return self.text


def _free_name(path: Path, content: str) -> Path:
    "NAME.clean.csv, or the first of NAME.clean-2.csv, ... that is free or already holds this content."
    for k in range(1, 1000):
        p = path.with_name(f"{path.stem}.clean{'' if k == 1 else f'-{k}'}.csv")
        if not p.exists() or p.read_bytes() == content.encode():
            return p
    raise InputError(f"a thousand cleaned copies of {path.name} lie beside it; remove some")


def _charge_lines(found: Reading, charge: pd.DataFrame) -> list[str]:
    "Whether the feeds are neutral, and what closes them."
    m = None
    try:
        m = found.measurements()
    except InputError:
        pass
    if m is not None:
        return [f"  charge: {n}" for n in m.notes if n not in found.notes] or [f"  charge: every run closes within {charge.imbalance.abs().max():.1%}"]
    worst = charge.imbalance.abs().idxmax()
    off = charge[charge.imbalance.abs() > TOLERANCE]
    sign = "Cl-" if charge.imbalance[worst] > 0 else "Na+"
    return [f"  charge: {len(off)} of {len(charge)} runs are off by more than {TOLERANCE:.0%}, worst {charge.imbalance[worst]:+.1%} ({worst}); to use them, add the ion that is missing or close the charge with balance={sign!r}"]


def check_measurements(
    path: str | Path,  # The file
    *,
    write: bool = True,  # Write the cleaned copy beside it
    balance: str | None = None,  # Close the charge balance of each feed on this ion
    source: str | None = None,  # As for `load_measurements`
    **options,  # As for `load_measurements`
) -> Check:
    "Read a measurement file and say what is in it, or all that is wrong with it; never changes the file."
    path = Path(path)
    try:
        found = read(path, source_id=source, **options)
        found = found if balance is None else _closed(found, balance)
    except MeasurementError as e:
        return Check(False, str(e), None, e.problems, None)
    except InputError as e:
        problem, _, fix = str(e).partition("; ")
        return Check(False, f"{path.name}: {e}", None, pd.DataFrame([(None, "", "", problem, fix)], columns=["row", "column", "value", "problem", "fix"]), None)
    d, charge = found.frame, charge_balance(found.frame, found.feeds)
    d.attrs = {"charge": charge, "feeds": found.feeds, "notes": found.notes}
    lines = _summary(path, d) + _charge_lines(found, charge) + [f"  note: {n}" for n in found.notes]
    clean = None
    if write:
        content = _with_feeds(d, found.feeds).to_csv(lineterminator="\n")
        clean = _free_name(path, content)
        atomic_write(clean, content)
        lines.append(f"  cleaned copy: {clean.name}")
    return Check(True, "\n".join(lines), d, None, clean)


def _with_feeds(d: pd.DataFrame, feeds: pd.DataFrame | None) -> pd.DataFrame:
    "The table with a column an ion of the feed, where a feed holds an ion that was not measured."
    if feeds is None or set(zip(feeds.state_id, feeds.ion)) <= set(zip(d.state_id, d.ion)):
        return d
    wide = feeds.pivot(index="state_id", columns="ion", values="c_feed_mol_m3").fillna(0.0)
    return d.assign(**{f"{ion} [mol/m3]": wide[ion].loc[d.state_id].to_numpy() for ion in dict.fromkeys(feeds.ion)})


def _summary(path: Path, d: pd.DataFrame) -> list[str]:
    "What is in a table."
    lines = [
        f"{path.name}: {len(d)} values, {d.state_id.nunique()} runs, {d.solution_id.nunique()} feed(s), ions {', '.join(dict.fromkeys(d.ion))}",
        f"  flux {d.flux_m_s.min() * 3.6e6:.3g} to {d.flux_m_s.max() * 3.6e6:.3g} L/m2/h, "
        f"rejection {d.rejection.min():.3g} to {d.rejection.max():.3g} ({int((d.rejection < 0).sum())} negative, {int(d.censored.sum())} censored), {' and '.join(sorted(set(d.kind)))}",
    ]
    if d.rejection.abs().max() <= 0.01:
        lines.append("  rejection: none above 1 %; if these are fractions, write the column as 'rejection [-]'")
    if d.rejection_sd.isna().any():
        lines.append(f"  {int(d.rejection_sd.isna().sum())} values have no standard deviation")
    return lines

"""Rows of a table of rejections: which hold a value and of which ion, their numbers in SI, and what cannot be right

Docs: https://ion-ode.github.io/ion_ode/guides/my_data.html.md"""

# The passes between a table of cells and measurements: name, convert, check. Each adds to one list of problems.

import difflib

import numpy as np
import pandas as pd

from ion_ode.data.measurements import KINDS
from ion_ode.water.analysis import SATURATED
from ion_ode.water.cells import TableError, is_empty, text_of
from ion_ode.water.columns import Columns, missing, si_column
from ion_ode.water.salts import ions_of_salt, per_salt
from ion_ode.water.ions import UnknownIon, get_ion, ion_name
from ion_ode.water.units import HIGHEST, LOWEST

__all__ = ["checked_rows", "flags", "kinds", "named_rows", "no_value_twice", "states"]

_LIKELY = (
    "Na+",
    "K+",
    "Li+",
    "Mg+2",
    "Ca+2",
    "Cl-",
    "SO4-2",
    "NO3-",
    "NH4+",
    "HCO3-",
    "sodium",
    "potassium",
    "magnesium",
    "calcium",
    "chloride",
    "sulfate",
    "nitrate",
)
_STATE = ("flux", "pressure", "temperature", "pH", "film")
_RANGE = {  # quantity: lowest, highest, what it is beyond, what to do
    "pressure": (1e3, 2e7, "outside 0.01 to 200 bar", "check the unit"),
    "temperature": (273.15, 373.15, "outside 0 to 100 °C", "check the unit: degC or K"),
    "pH": (0, 14, "outside 0 to 14", "give a pH or leave the cell empty"),
    "film": (0, 1e-3, "no film of 0 to 1 mm", "check the unit"),
    "c_perm": (0, SATURATED, "not a concentration", "a concentration is not negative; check the unit"),
    "weight": (0, 1e6, "no weight of 0 to 1e6", "give a positive number, or leave the column out"),
    "sd": (0, np.inf, "a negative standard deviation", "give a positive number or leave the cell empty"),
}  # fmt: skip


# ---- name: which rows hold a value, and of which ion


def _ions_of_rows(t: Columns) -> list[tuple[int, str | None, str, int]]:
    "Row, ion, salt and place of every value of a long table: a row of a salt is one of each of its ions."
    column, out = t.one["ion"], []
    for k, (row, spelling) in enumerate(zip(t.raw.rows, t.text("ion"), strict=True)):
        salt = ions_of_salt(spelling)
        if salt is not None:
            out += [(k, ion, spelling, place) for place, ion in enumerate(salt)]
            continue
        try:
            out.append((k, ion_name(spelling), "", 0))
        except UnknownIon:
            close = difflib.get_close_matches(spelling.lower(), [s.lower() for s in _LIKELY], n=1, cutoff=0.4)
            near = ion_name(close[0]) if close else None
            out.append((k, None, "", 0))
            what = f"{spelling!r} is not an ion of the table" if spelling else "the cell is empty"
            fix = (
                f"did you mean {near}?"
                if near and spelling
                else "name the ion, such as Na+, or add it with read_ion_table"
            )
            t.wrong(row, column, spelling, what, fix)
    if len({bool(salt) for _, _, salt, _ in out}) == 2:
        k, _, salt, _ = next(v for v in out if v[2])
        fix = "give a row for each of its ions, or keep salts in a table of their own"
        t.wrong(t.raw.rows[k], column, salt, f"{salt!r} is a salt among rows of ions", fix)
    return out


def _long(t: Columns) -> pd.DataFrame:
    "Values of a table with one row an ion: k (row), ion, and the columns its numbers stand in."
    v = pd.DataFrame(_ions_of_rows(t), columns=["k", "ion", "salt", "place"])
    v["ion"] = v.ion.astype(object).where(v.ion.notna(), None)
    for q in ("c_feed", "c_perm", "rejection", "sd", "censored"):
        v[q] = pd.Series([t.one.get(q)] * len(v), dtype=object)
    for q in ("rejection", "c_perm"):
        for ion, column in t.ions(q).items():
            t.wrong(
                1,
                column,
                "",
                f"{column!r} belongs to {ion}, but the rows name their ion in {t.one['ion']!r}",
                "use one row an ion, or one column an ion",
            )
    if t.ions("c_feed"):
        v["c_feed"] = pd.Series([t.ions("c_feed").get(i) if i else None for i in v.ion], dtype=object)
        for k in np.flatnonzero(v.c_feed.isna() & v.ion.notna()):
            t.wrong(
                t.raw.rows[k],
                t.one["ion"],
                v.ion[k],
                f"{v.ion[k]} is asked for, which no column of the feed names",
                f"it names {', '.join(t.ions('c_feed'))}",
            )
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
            blocks.append(
                pd.DataFrame(
                    {"k": some, "place": place}
                    | {q: pd.Series([c] * len(some), dtype=object) for q, c in {"ion": ion, **mine}.items()}
                )
            )
    if not blocks:
        return pd.DataFrame(columns=["k", "ion", "place", "c_feed", "c_perm", "rejection", "sd", "censored"])
    return pd.concat(blocks).sort_values(["k", "place"], kind="stable", ignore_index=True)


def named_rows(t: Columns, needs_flux: bool) -> pd.DataFrame:
    "Rows that hold a value; problems with what is missing."
    wide = "ion" not in t.one and bool(t.per_ion)
    has = lambda q: q in t.one or bool(t.ions(q))
    for q in ("ion", "flux", "c_feed"):
        if not has(q) and not (q == "ion" and wide) and not (q == "flux" and not needs_flux):
            t.problems.append(missing(t, q))
    if not has("rejection") and not has("c_perm"):
        t.wrong(
            1,
            "",
            "",
            "neither rejection nor c_perm is given",
            "add a column such as 'rejection [%]' or 'permeate [mg/L]'",
        )
    if t.problems:
        raise TableError(t.raw.name, t.problems)
    v = _wide(t) if wide else _long(t)
    for q in ("c_feed", "c_perm", "rejection", "sd"):
        if wide and q in t.one:
            t.wrong(
                1,
                t.one[q],
                "",
                f"{t.one[q]!r} names no ion, though other columns do",
                "put the ion into its name, or give one row an ion",
            )
    return v


# ---- convert


def _of_salts(v: pd.DataFrame, unit: str | None) -> np.ndarray:
    "Factor from the number of a salt's row, read as its ion's, to the concentration of the ion."
    if unit is None or "salt" not in v or not (v.salt != "").any():
        return np.ones(len(v))
    return np.array([per_salt(s, unit, i)[i] if s else 1.0 for s, i in zip(v.salt, v.ion, strict=True)])


def _convert(t: Columns, v: pd.DataFrame) -> pd.DataFrame:
    "Numbers of every value in SI beside it: NAME, NAME_shown, NAME_bound."
    v = v.copy()
    for q in ("c_feed", "c_perm", "rejection", "sd"):
        value, shown, bound, state = (
            np.full(len(v), np.nan),
            np.full(len(v), np.nan),
            np.full(len(v), "", dtype=object),
            np.full(len(v), "empty", dtype=object),
        )
        for column, place in {(c, p): 0 for c, p in zip(v[q], v.place) if isinstance(c, str)}:
            at = ((v[q] == column) & (v.place == place)).to_numpy()
            k = v.k[at].to_numpy()
            ions = np.array(["Na+"] * len(t.raw.cells), dtype=object)
            ions[k] = [i or "Na+" for i in v.ion[at]]
            x = si_column(t, q, column, list(ions), np.isin(np.arange(len(ions)), k))
            value[at], shown[at], bound[at] = x.value[k], x.shown[k], x.bound[k]
            if q in ("c_feed", "c_perm") and column in t.one.values():
                value[at] *= _of_salts(v[at], t.unit.get(column))
            state[at] = np.select([x.wrong[k], x.absent[k], x.empty[k]], ["wrong", "absent", "empty"], "number")
        v[f"{q}_si"], v[f"{q}_shown"], v[f"{q}_bound"], v[f"{q}_is"] = value, shown, bound, state
    for q in (*_STATE, "weight"):
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
            t.wrong(t.raw.rows[v.k[k]], one(q).iloc[k], f"{shown:g}", f"{shown:g} is {what}", fix)
    R = v.rejection_si.to_numpy()
    if (over := (R > 1 + 1e-12) & (R <= HIGHEST)).any():
        t.notes.append(f"{over.sum()} rejections above 1, {R[over].max():.3g} at most, are taken as measured")
    for k in np.flatnonzero((R > HIGHEST) | (R < LOWEST)):
        percent = t.unit.get(v.rejection[k]) not in ("", None, "-", "fraction")
        if R[k] > 1:
            fix = (
                "a rejection is at most 1 (100 %); it may be negative"
                if percent
                else "a fraction is at most 1; for percent write 'rejection [%]'"
            )
        else:
            fix = f"the permeate would be {1 - R[k]:.3g} times the feed; " + (
                "check the value" if percent else "for percent write 'rejection [%]'"
            )
        word = "above 1" if R[k] > 1 else f"below {LOWEST:g}"
        t.wrong(
            t.raw.rows[v.k[k]],
            v.rejection[k],
            f"{v.rejection_shown[k]:g}",
            f"{v.rejection_shown[k]:g} is a rejection {word}",
            fix,
        )


def _flux(t: Columns, v: pd.DataFrame, needed: bool):
    "Fluxes that a membrane can have."
    if "flux" not in t.one:
        return
    column, unit = t.one["flux"], t.unit.get(t.one["flux"])
    for k, (J, shown, empty) in enumerate(zip(v.flux, v.flux_shown, v.flux_empty, strict=True)):
        row = t.raw.rows[v.k[k]]
        if empty and needed:
            t.wrong(row, column, "", "the cell is empty", "give a number or remove the row")
        elif J <= 0:
            t.wrong(
                row,
                column,
                f"{shown:g}",
                f"{shown:g} is not a water flux above zero",
                "a flux is positive, from feed to permeate",
            )
        elif J > 1e-3 or J < 1e-9:
            t.wrong(
                row,
                column,
                f"{shown:g}",
                f"{shown:g} {unit} is {J:.2g} m/s, far from nanofiltration",
                "check the unit of flux",
            )


def _amounts(t: Columns, v: pd.DataFrame):
    "Feeds above zero, and a rejection or a permeate that does not contradict it."
    for k in range(len(v)):
        row, is_, c = t.raw.rows[v.k[k]], v.c_feed_is[k], v.c_feed_si[k]
        if v.c_feed[k] is None or is_ == "wrong":
            continue
        if is_ == "empty":
            cell = str(t.raw.cells[v.c_feed[k]].iloc[v.k[k]] or "").strip()
            t.wrong(
                row,
                v.c_feed[k],
                cell,
                f"{cell!r} is not a number"
                if cell and cell.lower() not in ("none", "nan") or cell == "NaN" and t.raw.name != "the table"
                else "the cell is empty",
                "give a number or remove the row",
            )
        elif is_ == "absent" or v.c_feed_bound[k]:
            cell = str(t.raw.cells[v.c_feed[k]].iloc[v.k[k]])
            t.wrong(
                row,
                v.c_feed[k],
                cell,
                f"{cell!r} is a bound: a rejection needs a number for the feed of its ion",
                "give the concentration, or remove the value",
            )
        elif not 0 < c <= SATURATED:
            t.wrong(
                row,
                v.c_feed[k],
                f"{v.c_feed_shown[k]:g}",
                f"{v.c_feed_shown[k]:g} is not a feed concentration (above 0, at most {SATURATED / 1000:g} mol/L)",
                "leave out ions that the feed lacks, check the unit",
            )


def _rejections(t: Columns, v: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    "Rejection of every value, given or 1 - c_perm/c_feed, and whether it is a bound."
    derived = 1 - v.c_perm_si.to_numpy() / v.c_feed_si.where(v.c_feed_si > 0).to_numpy()
    R = v.rejection_si.to_numpy()
    given = np.isfinite(R)
    some = given | np.isfinite(derived)
    bound = np.where(given, v.rejection_bound, v.c_perm_bound.map({"": "", "<": ">", ">": "<"}))
    wrong = {(p[0], p[1]) for p in t.problems}
    for k in range(len(v)):
        row, where = t.raw.rows[v.k[k]], v.rejection[k] or v.c_perm[k]
        if v.c_perm_is[k] == "absent" or v.rejection_is[k] == "absent":
            t.wrong(
                row, where, "ND", "a value below a limit that is not given", "write the detection limit, as in <0.1"
            )
        elif not (some[k] or any((row, c) in wrong for c in (v.rejection[k], v.c_perm[k], v.c_feed[k]))):
            t.wrong(
                row,
                where,
                "",
                "the row has neither a rejection nor a permeate concentration",
                "give one of them or remove the row",
            )
        elif given[k] and abs(R[k] - derived[k]) > 0.02 and not v.c_perm_bound[k]:
            t.wrong(
                row,
                v.rejection[k],
                f"{v.rejection_shown[k]:g}",
                f"the rejection {R[k]:.3f} contradicts 1 - c_perm/c_feed = {derived[k]:.3f}",
                "correct one of the three cells",
            )
        elif not given[k] and derived[k] < LOWEST:
            t.wrong(
                row,
                v.c_perm[k],
                f"{v.c_perm_shown[k]:g}",
                f"the permeate is {1 - derived[k]:.3g} times the feed",
                "check the units of feed and permeate",
            )
    return np.where(given, R, derived), bound


_TRUE = dict.fromkeys(("true", "1", "yes", "y", "1.0"), True) | dict.fromkeys(
    ("false", "0", "no", "n", "0.0", ""), False
)


def flags(t: Columns, v: pd.DataFrame, quantity: str) -> np.ndarray:
    "A column of true and false, for a bound also of < and >."
    out = np.zeros(len(v), dtype=object)
    for k in range(len(v)):
        column = v.censored[k] if quantity == "censored" else t.one.get(quantity)
        cell = text_of(t.raw.cells[column].iloc[v.k[k]]).lower() if isinstance(column, str) else ""
        cell = "" if is_empty(cell) else cell
        if quantity == "censored" and cell in ("<", ">"):
            out[k] = cell
        elif cell not in _TRUE:
            t.wrong(t.raw.rows[v.k[k]], column, cell, f"{cell!r} is neither true nor false", "write true or false")
        else:
            out[k] = _TRUE[cell]
    return out


def states(t: Columns, v: pd.DataFrame, c: np.ndarray, stem: str) -> tuple[np.ndarray, np.ndarray]:
    "Feed and run that every value belongs to; without a column for the feed, feeds are told apart by what is in them."
    named = t.text("sample", "")[v.k]
    run = (
        t.text("run")[v.k]
        if "run" in t.one
        else np.array([repr(r) for r in v[list(_STATE)].to_numpy().tolist()], dtype=object)
    )
    if "salt" in v and "run" not in t.one:  # a row of a salt is a feed of its own
        own = [f" {s} {c:g}" if s else "" for s, c in zip(v.salt, v.c_feed_shown)]
        run = np.array([r + s for r, s in zip(run, own)], dtype=object)
    feed = np.unique(c, axis=0, return_inverse=True)[1].ravel()[v.k] if c.shape[1] else np.zeros(len(v), int)
    if not c.shape[1]:
        listed = (
            pd.Series(list(zip(v.ion, v.c_feed_si.round(12))))
            .groupby([named, run])
            .transform(lambda s: repr(sorted(set(map(str, s)))))
        )
        feed = pd.factorize(listed)[0]
    several = len(set(feed[named == ""])) > 1
    order = dict(zip(dict.fromkeys(feed[named == ""]), range(1, len(v) + 1)))
    sample = np.array([n or (f"{stem}-{order[f]}" if several else stem) for n, f in zip(named, feed)], dtype=object)
    if t.one.get("run") == "state_id":
        return sample, t.text("run", stem)[v.k]
    number = (
        pd.Series(list(zip(run, feed if c.shape[1] else [0] * len(v))))
        .groupby(sample)
        .transform(lambda s: pd.factorize(s)[0] + 1)
        .astype(int)
    )
    return sample, np.array([f"{s}/{k:02d}" for s, k in zip(sample, number, strict=True)], dtype=object)


def no_value_twice(t: Columns, v: pd.DataFrame, state, kind, salt, R):
    "One value of an ion a run and kind; one feed an ion and run; pairs of a salt."
    seen: dict = {}
    for k, key in enumerate(zip(state, v.ion, kind, strict=True)):
        if key[1] and key in seen:
            t.wrong(
                t.raw.rows[v.k[k]],
                t.one.get("ion", v.rejection[k] or v.c_perm[k]),
                key[1],
                f"{key[1]} of run {key[0]} stands already in row {t.raw.rows[seen[key]]}",
                "remove one, or tell the runs apart in a column 'run'",
            )
        elif key[1]:
            seen[key] = v.k[k]
    c = v.c_feed_si.to_numpy()
    for (_, ion), g in pd.DataFrame({"s": state, "i": v.ion, "c": c}).dropna().groupby(["s", "i"]):
        if len(g) > 1 and g.c.max() > 1.02 * g.c.min():
            k = g.index[-1]
            t.wrong(
                t.raw.rows[v.k[k]],
                v.c_feed[k],
                f"{v.c_feed_shown[k]:g}",
                f"{ion} has two feed concentrations in one run",
                "give each run its own name in a column 'run'",
            )
    pairs = pd.DataFrame(
        {"k": range(len(v)), "s": state, "kd": kind, "z": [get_ion(i or "Na+").z for i in v.ion], "R": R}
    )[salt]
    for _, g in pairs.groupby(["s", "kd"]):
        if len(g) != 2 or g.z.prod() > 0 or np.ptp(g.R) > 1e-6:
            t.wrong(
                t.raw.rows[v.k[g.k.iloc[0]]],
                t.one.get("salt_level", t.one.get("ion")),
                "true",
                f"{len(g)} row(s) of this run are marked salt-level",
                "mark its one cation and its one anion, both with the salt's rejection",
            )


def kinds(t: Columns, v: pd.DataFrame, kind: str) -> np.ndarray:
    "Kind of every rejection: its column, else what the header says, else `kind`."
    found = np.array([k.lower() for k in t.text("kind", t.kind or kind)], dtype=object)[v.k]
    for k in np.flatnonzero(~np.isin(found, KINDS)):
        said = (t.raw.rows[v.k[k]], t.one.get("kind", ""), found[k])
        t.wrong(*said, f"{found[k]!r} is not a kind of rejection", f"write one of {', '.join(KINDS)}")
    return found


def checked_rows(
    t: Columns,  # The table
    v: pd.DataFrame,  # Rows that hold a value, as `named_rows` gives them
    needs_flux: bool,  # Whether every value must have a flux
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:  # The rows with their numbers in SI; rejections; bounds
    "Numbers in SI, within what is possible."
    v = _convert(t, v)
    _flux(t, v, needs_flux)
    _amounts(t, v)
    _bounds(t, v)
    return v, *_rejections(t, v)

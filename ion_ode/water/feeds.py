"""Feeds, fluxes and membranes as people write them: text on a command line, columns with units in a table

Docs: https://ion-ode.github.io/ion_ode/guides/my_feed.html.md"""

# Everything that leaves here is SI: mol/m³, m/s, m. A mistake raises `InputError` with one sentence that names the
# file, the column and the row. Columns are understood by the grammar of headers.py, cells by that of cells.py.

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ion_ode.core import LMH, InputError, is_frame, nm, um
from ion_ode.water.ions import UnknownIon, get_ion
from ion_ode.water.analysis import SATURATED, feed_matrix
from ion_ode.water.cells import TableError, text_of
from ion_ode.water.columns import Columns, meant, name_columns, si_column
from ion_ode.water.files import RawTable, read_pieces, read_table
from ion_ode.water.headers import parse_header
from ion_ode.water.salts import ions_of_salt, per_salt, salt_amounts
from ion_ode.water.upright import is_report, laid_down
from ion_ode.water.units import as_fractions, plain, to_mol_m3

__all__ = [
    "FeedTable", "MEMBRANE_UNITS", "amounts_of", "feed_table", "flux_of", "has_flux", "measured_in_si",
    "parse_feed", "parse_flux", "parse_pairs", "read_feeds", "to_mol_m3",
]  # fmt: skip

MEMBRANE_UNITS = {
    "r_pore": ("nm", nm),
    "thickness": ("µm", um),
    "charge_density": ("mol/m³", 1.0),
    "eps_pore": ("-", 1.0),
}


def _number(text, what: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        raise InputError(f"{what} is {text!r}, expected a number alone") from None


def parse_feed(
    text: str,  # "Na+=10,Cl-=10" or "NaCl=10", in mol/m³; a unit may follow a number: "Na+=230 mg/L"
) -> dict[str, float]:  # {ion: mol/m³}
    "A feed from text."
    feed, named, said = {}, set(), plain(text)
    text = said if len(said) <= 200 else f"{said[:80]}..."  # for messages
    for part in filter(None, (p.strip() for p in re.split(r"[,;]", said))):
        name, equals, value = part.rpartition("=")
        if not equals or not name.strip() or not value.strip():
            raise InputError(f"feed {text!r}: cannot read {part!r}; write ions as 'Na+=10,Cl-=10' (mol/m3)")
        salt = ions_of_salt(name.strip())
        ion = get_ion(name).name if salt is None else name.strip()
        m = re.fullmatch(r"\s*([-+.\deE]+|[-+]?(?:nan|inf)\w*)\s*(.*)", value, re.I)
        if not m:
            raise InputError(f"feed {text!r}: {ion} is {value.strip()!r}, expected a number (mol/m3)")
        if ion in named:
            raise InputError(f"feed {text!r} names {ion} twice; name each ion once")
        named.add(ion)
        unit = m[2] or "mol/m3"
        each = {ion: to_mol_m3(unit, get_ion(ion))} if salt is None else salt_amounts(ion, unit)
        for i, factor in each.items():
            c = _number(m[1], f"feed {text!r}: {ion}") * factor
            if not (math.isfinite(c) and 0 <= c <= SATURATED):
                raise InputError(
                    f"feed {text!r}: {ion} is {m[1][:40]}, expected a concentration from 0 to {SATURATED:g} mol/m3; "
                    "check the unit"
                )
            feed[i] = feed.get(i, 0.0) + c
    if not feed:
        raise InputError("the feed is empty; write ions as 'Na+=10,Cl-=10' (mol/m3)")
    return feed


_MOST_FLUXES = 100_000  # That a text may ask for


def parse_flux(
    text: str,  # "5,10,20", or "5:100:20" for 20 values from 5 to 100, in L m⁻² h⁻¹
) -> np.ndarray:  # (n_flux,) [m/s]
    "Water fluxes from text."
    values = []
    for part in filter(None, (p.strip() for p in re.split(r"[,;\s]+", text))):
        ends = part.split(":")
        if len(ends) == 1:
            values.append(_number(part, "flux [L m-2 h-1]"))
        elif len(ends) == 3 and re.fullmatch(r"[0-9]{1,30}", ends[2]) and int(ends[2]) > 1:
            if int(ends[2]) > _MOST_FLUXES:
                raise InputError(f"flux {part!r} asks for {ends[2]} values, more than {_MOST_FLUXES}; ask for fewer")
            values += list(
                np.linspace(_number(ends[0], "flux [L m-2 h-1]"), _number(ends[1], "flux [L m-2 h-1]"), int(ends[2]))
            )
        else:
            raise InputError(f"flux {part!r}: expected numbers '5,10,20' or first:last:count '5:100:20' (L m-2 h-1)")
    if not values:
        raise InputError("the flux is empty; write '5,10,20' (L m-2 h-1)")
    if bad := [v for v in values if not (math.isfinite(v) and v > 0)]:
        raise InputError(f"flux {bad[0]:g} L m-2 h-1: a water flux must be a positive number")
    return _plausible(np.array(values), "flux") * LMH


def _plausible(flux: np.ndarray, where: str) -> np.ndarray:
    "The same fluxes [L m-2 h-1], with a warning where they look like m/s."
    if flux.min() < 1e-3:
        warnings.warn(
            f"{where}: {flux.min():g} L m-2 h-1 is far below any use of a membrane; if this is m/s, it is "
            f"{flux.min() / LMH:g} L m-2 h-1",
            stacklevel=2,
        )
    return flux


def parse_pairs(
    text: str,  # "r_pore=0.45,thickness=1.2"
    known: dict[str, tuple[str, float]],  # {name: (unit, factor to SI)}
    what: str = "membrane",  # For messages
) -> dict[str, float]:  # {name: SI value}
    "Named numbers from text, in the laboratory units given by `known`."
    out = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = (s.strip() for s in part.partition("="))
        if name in out:
            raise InputError(f"{what} {text!r} gives {name} twice; give each once")
        if name not in known or not equals:
            units = ", ".join(f"{k} [{u}]" for k, (u, _) in known.items())
            raise InputError(f"{what}: cannot read {part!r}; expected name=value with the names {units}")
        unit, factor = known[name]
        value = value.removesuffix(unit).removesuffix(unit.replace("µ", "u")).strip() if unit != "-" else value
        out[name] = _number(value, f"{what}: {name} [{unit}]") * factor
        if not math.isfinite(out[name]):
            raise InputError(f"{what}: {name} is {value}, expected a finite number [{unit}]")
    return out


@dataclass(frozen=True, repr=False)
class FeedTable:
    "Some rows of a feed file."

    ions: tuple[str, ...]  # Canonical names, in the order of the columns
    c_feed: np.ndarray  # (batch, ion) [mol/m³]
    flux: np.ndarray | None  # (batch, 1) [m/s], where the file has a flux column
    sample: list  # What the file calls the rows; their numbers, counted from 0, where it does not
    where: str  # "feeds.csv rows 2 to 2001"
    notes: tuple[str, ...] = ()  # What was not used, and what was taken for granted
    pH: np.ndarray | None = None  # (batch,), nan where none is written; None: no such column
    temperature: np.ndarray | None = None  # (batch,) [K], the same

    def __repr__(self):
        flux = (
            "no flux of their own"
            if self.flux is None
            else f"fluxes {self.flux.min() / LMH:.3g} to {self.flux.max() / LMH:.3g} L/m²/h"
        )
        most, names = self.c_feed.max(), ", ".join(self.ions)
        return f"{self.where or 'feeds'}: {len(self.c_feed)} of {names} (to {most:.4g} mol/m³), {flux}"


def _ion_column(
    name: str,  # "Na+", "Na+ [mg/L]", "Na+_mol_m3", "Ca[+2]", "NO3-N [mg/L]"
) -> tuple[str, float]:  # Canonical name, and mol/m³ in one unit of the column
    "Ion and unit of a column, or of a key of a feed."
    if not isinstance(name, str):
        raise UnknownIon(f"an ion is named by text such as 'Na+', but {name!r} arrived")
    h = parse_header(name)
    if h.ion is None or h.quantity != "c_feed":
        return get_ion(name).name, 1.0
    return h.ion, to_mol_m3(h.unit, get_ion(h.ion)) if h.unit else 1.0


def amounts_of(
    name: str,  # As for `_ion_column`, or a salt: "NaCl", "MgSO4 [g/L]"
) -> dict[str, float]:  # {ion: mol/m³ in one unit}
    "What one unit of a key of a feed brings of each ion."
    h = parse_header(name) if isinstance(name, str) else None
    if h is not None and h.quantity is None and ions_of_salt(h.label) is not None:
        return salt_amounts(h.label, h.unit or "mol/m3")
    ion, factor = _ion_column(name)
    return {ion: factor}


def _feed_numbers(t: Columns) -> np.ndarray | None:
    "The column of fluxes [m/s]; problems where one is no flux of a membrane."
    if "flux" not in t.one:
        return None
    column = t.one["flux"]
    x = si_column(t, "flux", column)
    for k in np.flatnonzero(~(x.value > 0) & ~x.wrong):
        cell = text_of(t.raw.cells[column].iloc[k])
        t.wrong(
            t.raw.rows[k],
            column,
            cell,
            "the cell is empty" if x.empty[k] else f"a water flux must be positive, it is {cell}",
            "expected a number above zero",
        )
    if column in t.unit and np.isfinite(x.value).all() and (x.value > 0).all():
        _plausible(x.value / LMH, f"{t.raw.name}, column {column!r}")
    return x.value


def _of_a_row(t: Columns, row: int, spelling: str) -> dict[str, float]:
    "Ions of a row, each with its amount over what the number would mean of the first of them alone."
    unit = t.unit[t.one["c_feed"]]
    if ions_of_salt(spelling) is not None:
        return per_salt(spelling, unit)
    try:
        return {get_ion(spelling).name: 1.0}
    except UnknownIon:
        fix = "name the ion, such as Na+"
        t.wrong(row, t.one["ion"], spelling, f"{spelling!r} is not an ion of the table", fix)
        return {"Na+": 1.0}


def _one_row_an_ion(t: Columns) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    "Feeds of a table with one row an ion: ions, (feed, ion) [mol/m³], first row of each feed."
    import pandas as pd

    same = [q for q in ("sample", "run", "flux", "pressure", "temperature", "pH", "film", "membrane") if q in t.one]
    key = pd.MultiIndex.from_arrays([t.text(q) for q in same] or [np.zeros(len(t.raw.cells))])
    code, column = pd.factorize(key)[0], t.one["c_feed"]
    parts = [_of_a_row(t, *row) for row in zip(t.raw.rows, t.text("ion"), strict=True)]
    x = si_column(t, "c_feed", column, [next(iter(p)) for p in parts])
    ions = tuple(dict.fromkeys(i for p in parts for i in p))
    c, salts = np.full((code.max() + 1, len(ions)), np.nan), np.zeros((code.max() + 1, len(ions)))
    wrong = lambda k, *said: t.wrong(t.raw.rows[k], column, text_of(t.raw.cells[column].iloc[k]), *said)
    for k, (f, row) in enumerate(zip(code, parts, strict=True)):
        if not (x.wrong[k] or 0 <= x.value[k] <= SATURATED) or x.bound[k]:
            shown = text_of(t.raw.cells[column].iloc[k])
            wrong(k, f"{shown!r} is no concentration", f"give a number of 0 to {SATURATED:g} mol/m3; check the unit")
        for i, factor in row.items():
            j, value = ions.index(i), x.value[k] * factor
            if len(row) > 1:
                salts[f, j] += value
            elif np.isfinite(c[f, j]) and abs(c[f, j] - value) > 0.02 * abs(c[f, j]):
                wrong(k, f"{i} has two concentrations in one feed", "tell the feeds apart in a column 'sample'")
            c[f, j] = value if len(row) == 1 else c[f, j]
    c = np.nan_to_num(c) + salts
    return ions, c, np.unique(code, return_index=True)[1]


_USED = {
    "sample",
    "flux",
    "hardness",
    "alkalinity",
    "ion",
    "run",
    "row",
    "note",
    "c_feed",
    "composition",
    "membrane",
    "source",
    "doi",
    "kind",
    "coupon",
}


_SUMS = {"ec": "a conductivity", "tds": "a sum of solids", "hardness": "a hardness", "pH": "a pH"}


def _without_footnotes(raw: RawTable) -> RawTable:
    "A table without rows that hold words in their first cell and nothing else."
    if raw.cells.shape[1] < 2 or not (raw.cells.iloc[:, -1].map(text_of) == "").any():
        return raw
    cells = raw.cells.map(text_of)
    bare = (cells.iloc[:, 1:] == "").all(axis=1) & cells.iloc[:, 0].map(_words_only)
    if not bare.any() or bare.all():
        return raw
    k, keep = int(bare.to_numpy().argmax()), ~bare.to_numpy()
    first = f"{cells.iloc[k, 0][:40]!r} in row {raw.rows[k]}"
    note = f"{bare.sum()} row(s) without a value were left out, the first {first}"
    return replace(raw, cells=raw.cells[keep].reset_index(drop=True), rows=raw.rows[keep], notes=[*raw.notes, note])


def _feed_table(raw: RawTable, first: int = 0, used: tuple[str, ...] = (), units: dict | None = None) -> FeedTable:
    "Feeds of a table, whatever its form."
    raw = laid_down(raw) if is_report(raw) else _without_footnotes(raw)
    t = name_columns(raw, units)
    for column in raw.cells:
        h = parse_header(column)
        salt = column in t.salts.values()
        other = not meant(h.label) and not re.search(r"[-+]\d?$|\d[-+]$", h.label)
        other = other and (h.unit is not None or "pH" in t.one)  # more of an analysis: named as not used
        if h.quantity is None and not (h.solute or salt or other) and not all(map(_words_only, raw.cells[column])):
            t.wrong(
                1,
                column,
                "",
                f"{column!r} is neither an ion such as 'Na+ [mM]' nor a flux nor anything else known here",
                "a feed table has a column an ion or a salt and a row a feed",
            )
    wide = bool(t.ions("c_feed") or t.salts)
    if not wide and not {"ion", "c_feed"} <= set(t.one):
        sums = [q for q in ("ec", "tds", "hardness", "pH") if any(parse_header(c).quantity == q for c in raw.cells)]
        said = f"; {_SUMS[sums[0]]} alone does not say which ions the water holds" if sums else ""
        apart = "" if len(raw.cells.columns) > 1 else ", its cells apart by a comma, a semicolon, | or a tab"
        t.wrong(1, "", "", f"there is no ion column{said}", f"expected a header such as 'Na+ [mM],Cl- [mM]'{apart}")
    if t.problems:
        raise TableError(raw.name, t.problems)
    if wide:
        (ions, c), at = feed_matrix(t), np.arange(len(raw.cells))
    else:
        ions, c, at = _one_row_an_ion(t)
    flux = _feed_numbers(t)
    if t.problems:
        raise TableError(raw.name, sorted(dict.fromkeys(t.problems), key=lambda p: -1 if p[0] is None else p[0]))
    idle = [v for q, v in t.one.items() if q not in _USED.union(used) and not (q == "pH" and "alkalinity" in t.one)]
    idle += [v for (q, _), v in t.per_ion.items() if q != "c_feed"]
    notes = [*t.notes, *([f"read and not used here: {', '.join(map(repr, idle))}"] if idle else [])]
    more = {q: si_column(t, q, t.one[q]).value[at] for q in ("pH", "temperature") if q in t.one}
    label = raw.cells[t.one["sample"]].tolist() if "sample" in t.one else list(range(first, first + len(raw.cells)))
    where = f"{raw.name} rows {raw.rows[0]} to {raw.rows[-1]}" if raw.name != "the table" else raw.name
    own = None if flux is None else flux[at, None]
    return FeedTable(ions, c, own, [label[k] for k in at], where, tuple(notes), **more)


def _words_only(v) -> bool:
    t = text_of(v)
    return not re.match(r"[-+<>]?[.,]?\d", t)


def feed_table(
    frame: pd.DataFrame,  # A column an ion with its unit, or one row an ion; others that are carried along
    used: tuple[str, ...] = (),  # Quantities that the caller makes use of beside the ions: pH, temperature
) -> FeedTable:
    "The feeds of a frame; a warning names what is not used."
    found = _feed_table(read_table(frame), used=used)
    for n in found.notes:
        warnings.warn(f"the feed table: {n}", stacklevel=3)
    return found


def has_flux(feed) -> bool:
    "Whether a feed is a table with a flux of its own."
    return is_frame(feed) and any(parse_header(str(c)).quantity == "flux" for c in feed.columns)


def flux_of(
    feed,  # As for `simulate`
    flux,  # As for `simulate`; None: the table's own column
):  # Water flux [m/s]
    "The flux that was given, or else the column of a feed table such as 'flux [LMH]', one flux a sample."
    own = has_flux(feed)
    if flux is None and own:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said when the feed itself was read
            return _feed_table(read_table(feed)).flux
    if flux is None:
        raise InputError(
            "no flux: pass flux in m/s, for instance flux=20 * LMH, or a feed table with one column 'flux [LMH]'"
        )
    if own:
        raise InputError("the feed table has a column of fluxes and flux was given too; use one of them")
    return flux


_SI = {
    "flux": "flux_m_s",
    "c_feed": "c_feed_mol_m3",
    "rejection": "rejection",
    "sd": "rejection_sd",
    "temperature": "temperature_K",
    "pressure": "pressure_Pa",
    "sample": "solution_id",
}


def measured_in_si(
    frame: pd.DataFrame,  # ion, and with units: flux [LMH], feed [mg/L], rejection [%], sd [%], temperature [°C]
) -> pd.DataFrame:  # ion, flux_m_s, c_feed_mol_m3, rejection, ...; other columns as they were
    "Columns of a table in SI, without a check of what they mean together, but that a rejection is none of percent."
    import pandas as pd

    t = name_columns(read_table(frame))
    if t.problems:
        raise TableError("the measurements", t.problems)
    out, ions = {}, [get_ion(i).name for i in t.text("ion")] if "ion" in t.one else None
    for column in t.raw.cells:
        q = next((q for q, c in t.one.items() if c == column), None)
        if q in _SI and q != "sample" and _SI[q] not in t.raw.cells:
            out[_SI[q]] = si_column(t, q, column, ions).value
        else:
            out[_SI[q] if q in _SI else column] = t.raw.cells[column].to_numpy()
    if t.problems:
        raise TableError("the measurements", t.problems)
    if "rejection" in out:
        as_fractions(pd.to_numeric(out["rejection"], errors="coerce"))
    return pd.DataFrame(out, index=frame.index)


_LONGEST_REPORT = 2000  # Rows


def _whole_reports(pieces: Iterator[RawTable]) -> Iterator[RawTable]:
    "The pieces of a table as they come, but a report with one row an analyte as one."
    import pandas as pd

    for raw in pieces:
        if is_report(raw):
            parts = [raw]
            for more in pieces:
                parts.append(more)
                if sum(len(p.cells) for p in parts) > _LONGEST_REPORT:
                    fix = "cut it into several, or give it one row a water"
                    raise TableError(raw.name, [(None, "", "", f"more than {_LONGEST_REPORT} rows of analytes", fix)])
            cells = pd.concat([p.cells for p in parts], ignore_index=True)
            raw = replace(raw, cells=cells, rows=np.concatenate([p.rows for p in parts]))
        yield raw


def read_feeds(
    path: str | Path,  # CSV, TSV, JSON, Parquet or Excel; "-" is CSV on standard input
    rows: int = 2000,  # Rows a piece
    used: tuple[str, ...] = (),  # Quantities that the caller makes use of beside the ions: pH, temperature
    units: dict[str, str] | None = None,  # Unit of a column without one: {"temperature": "degC"}
) -> Iterator[FeedTable]:  # The file in pieces, so that its length does not matter
    "Feeds from a file: a column an ion, with its unit ('Na+ [mM]', 'SO4-2 [mg/L]'; none means mol/m³), a row a feed."
    first, said, name = 0, set(), "standard input" if str(path) == "-" else Path(path).name
    for raw in _whole_reports(read_pieces(path, rows)):
        full = raw.cells.map(lambda v: text_of(v) != "").any(axis=1).to_numpy()
        if not full.any():
            continue
        raw = replace(raw, cells=raw.cells[full].reset_index(drop=True), rows=raw.rows[full])
        found = _feed_table(raw, first, used, units)
        first += len(found.sample)
        for n in found.notes:
            if n not in said:
                warnings.warn(f"{name}: {n}", stacklevel=2)
                said.add(n)
        yield found
    if first == 0:
        raise InputError(f"{name} is empty; expected a header such as 'Na+ [mM],Cl- [mM]' and a row for each feed")

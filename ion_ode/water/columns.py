"""Columns of a table by what they hold, and their cells in SI

Docs: https://ion-ode.github.io/ion_ode/guides/my_data.html.md"""

import difflib
from dataclasses import dataclass, field

import numpy as np

from ion_ode.core import InputError
from ion_ode.water.ions import get_ion
from ion_ode.water.cells import Numbers, Problem, decimal_mark, empty_cells, text_of
from ion_ode.water.numbers import numbers
from ion_ode.water.files import RawTable
from ion_ode.water.headers import QUANTITIES, TEXT, UNUSED, Header, parse_header
from ion_ode.water.salts import ions_of_salt, salt_amounts
from ion_ode.water.units import EXAMPLE, is_unit, parse_unit, si_values

__all__ = ["Columns", "SiColumn", "equivalents", "meant", "missing", "name_columns", "si_column"]

_OLD = {
    "rejection_sd": "sd",
    "solution": "sample",
    "solution_id": "sample",
    "flux_m_s": "flux",
    "c_feed_mol_m3": "c_feed",
    "temperature_K": "temperature",
    "pressure_Pa": "pressure",
}
_SPELT = ("sodium", "potassium", "calcium", "magnesium", "ammonium", "strontium", "barium", "lithium", "chloride",
    "sulfate", "nitrate", "bicarbonate", "carbonate", "fluoride", "bromide", "phosphate", "silica", "boron",
    "alkalinity", "hardness", "conductivity", "temperature", "pressure", "flux", "water flux")  # fmt: skip
_OWN = {"c_feed": "mol/m3", "c_perm": "mol/m3"}  # the package's names of columns in SI


@dataclass
class Columns:
    "Which column holds what."

    raw: RawTable
    one: dict[str, str] = field(default_factory=dict)  # quantity: column
    per_ion: dict[tuple[str, str], str] = field(default_factory=dict)  # (quantity, ion): column
    salts: dict[str, str] = field(default_factory=dict)  # formula of a salt in the feed: column
    unit: dict[str, str] = field(default_factory=dict)  # column: its unit
    kind: str | None = None  # Kind of rejection that a header names
    mark: tuple[str | None, bool] = (None, False)  # Decimal sign
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def wrong(self, row, column, value, problem: str, fix: str) -> None:
        "One more problem: where it is, what stands there, what is wrong with it and what to do."
        self.problems.append((row, column, value, problem, fix))

    def ions(self, quantity: str) -> dict[str, str]:
        "{ion: column} of the columns an ion."
        return {i: c for (q, i), c in self.per_ion.items() if q == quantity}

    def text(self, quantity: str, default: str = "") -> np.ndarray:
        "A column of words."
        if quantity not in self.one:
            return np.full(len(self.raw.cells), default, dtype=object)
        return np.array([text_of(v) or default for v in self.raw.cells[self.one[quantity]]], dtype=object)


def _headers(raw: RawTable, by_hand: dict[str, str], problems: list) -> dict[str, Header]:
    "Header of every column; `by_hand` names some."
    hand = {}
    for name, column in by_hand.items():
        q = _OLD.get(name, name)
        if q not in QUANTITIES:
            problems.append((None, "", name, f"columns names {name!r}", f"expected one of {', '.join(QUANTITIES)}"))
        elif column not in raw.cells:
            problems.append(
                (
                    None,
                    "",
                    column,
                    f"columns says {name} is in {column!r}, which the file lacks",
                    f"it has {', '.join(map(str, raw.cells.columns))}",
                )
            )
        else:
            hand[column] = q
    found = {c: parse_header(c) for c in raw.cells.columns}
    return {c: Header(c, hand[c], None, h.unit, None, h.label) if c in hand else h for c, h in found.items()}


def meant(label: str) -> str:
    "The name that was perhaps meant."
    close = difflib.get_close_matches(label.lower(), _SPELT, n=1, cutoff=0.8)
    return f"write {close[0]!r} if that is meant, " if close else ""


def _place(out: Columns, headers: dict[str, Header]):
    "Every column in its place; what stands twice is a problem, what is not used a note."
    idle, strange = [], []
    for column, h in headers.items():
        if h.quantity is None and ions_of_salt(h.label) is not None:
            out.salts[h.label] = column
        elif h.quantity is None:
            strange.append(h)
        elif h.quantity in UNUSED:
            idle += [column] if h.quantity != "own" else []
        elif h.ion is not None:
            key = (h.quantity, h.ion)
            if key in out.per_ion:
                out.wrong(
                    1,
                    column,
                    "",
                    f"two columns hold {h.quantity} of {h.ion}: {out.per_ion[key]!r} and {column!r}",
                    "keep one of them",
                )
            out.per_ion.setdefault(key, column)
        elif h.quantity in out.one and h.quantity in TEXT:
            idle.append(column)
        elif h.quantity in out.one:
            out.wrong(
                1,
                column,
                "",
                f"two columns hold {h.quantity}: {out.one[h.quantity]!r} and {column!r}",
                "keep one of them",
            )
        else:
            out.one[h.quantity] = column
        if h.kind is not None:
            out.kind = h.kind
    for h in strange:
        if h.solute:
            fix = f"{meant(h.label)}leave it out, or add the ion with read_ion_table"
            out.wrong(
                1, h.text, "", f"{h.text!r} is neither an ion of the table nor a quantity that is known here", fix
            )
    if idle:
        out.notes.append(f"read and not used: {', '.join(map(repr, idle))}")
    if left := [h.text for h in strange if not h.solute]:
        out.notes.append(f"not understood and not used: {', '.join(map(repr, left))}")


def _bare_mass(unit: str) -> bool:
    "Whether a concentration is a mass that does not say of what."
    u = parse_unit(unit)
    return ("kg", 1) in u.dimension and not u.basis


def _units(out: Columns, headers: dict[str, Header], given: dict[str, str]):
    "Unit of every column of numbers, from its header or by hand."
    asked = {_OLD.get(k, k): v for k, v in given.items()}
    for k in given:
        if _OLD.get(k, k) not in EXAMPLE:
            out.wrong(None, "", k, f"units names {k!r}", f"expected one of {', '.join(EXAMPLE)}")
    for q, column in [*out.one.items(), *((q, c) for (q, _), c in out.per_ion.items())]:
        if q in TEXT or q in ("pH", "weight"):
            continue
        h, u = headers[column], asked.get(q)
        if u and h.unit and h.unit != u:
            out.wrong(1, column, "", f"the header says {h.unit!r}, units says {u!r}", "keep one of them")
        unit = u or h.unit
        if not unit and q == "sd":
            unit = (
                next(
                    (
                        headers[c].unit or asked.get("rejection")
                        for qq, c in [*out.one.items(), *((qq, c) for (qq, _), c in out.per_ion.items())]
                        if qq == "rejection"
                    ),
                    "",
                )
                or ""
            )
        elif not unit and q == "rejection":
            unit = ""
        elif not unit and (column in _OWN or (h.ion and q == "c_feed" and h.label == h.text)):
            unit = "mol/m3"
        elif not unit:
            example = EXAMPLE.get(q, "mg/L as CaCO3")
            out.wrong(
                1,
                column,
                "",
                f"no unit for {q} ({column!r} needs a unit of {q})",
                f"write '{q} [{example}]' or pass units={{'{q}': '{example}'}}",
            )
            continue
        if q in ("hardness", "alkalinity") and is_unit(unit) and _bare_mass(unit):
            unit = f"{unit} as CaCO3"
            out.notes.append(f"{column!r} is read as CaCO3")
        _understood(out, q, column, unit, h.ion)
    for salt, column in out.salts.items():
        try:
            salt_amounts(salt, headers[column].unit or "mol/m3")
        except InputError as e:
            out.wrong(1, column, headers[column].unit, str(e), f"write for instance '{salt} [mM]'")
        else:
            out.unit[column] = headers[column].unit or "mol/m3"


def _understood(out: Columns, q: str, column: str, unit: str, ion: str | None):
    try:
        u = parse_unit(unit, "c_feed" if q in ("hardness", "alkalinity") else q)
        if q.startswith("c_") and ion:
            si_values([1.0], unit, q, ion)
    except InputError as e:
        out.wrong(1, column, unit, str(e), f"write for instance '{q} [{EXAMPLE.get(q, 'mg/L')}]'")
        return
    out.unit[column] = unit
    if u.note and u.note not in out.notes:
        out.notes.append(u.note)


def name_columns(
    raw: RawTable,  # Cells
    units: dict[str, str] | None = None,  # Unit of a column without one: {"flux": "LMH"}
    columns: dict[str, str] | None = None,  # Header of a quantity: {"flux": "Permeation"}
    decimal: str | None = None,  # "," where numbers are written 0,95; None: what the cells show
) -> Columns:  # With problems and notes, nothing raised
    "What the columns of a table hold, by one grammar."
    out = Columns(raw, notes=list(raw.notes))
    headers = _headers(raw, dict(columns or {}), out.problems)
    _place(out, headers)
    _units(out, headers, dict(units or {}))
    words = {c for q, c in out.one.items() if q in TEXT}
    try:
        out.mark = decimal_mark(
            (raw.cells[c] for c in raw.cells if c not in words and headers[c].quantity not in (None, *UNUSED)),
            decimal,
            raw.separator,
        )
    except InputError as e:
        out.wrong(None, "", "", str(e).split("; ")[0], "write all numbers with a decimal point")
    return out


def missing(out: Columns, quantity: str) -> Problem:
    "The problem that no column holds a quantity, with the nearest header."
    labels = {parse_header(c).label or c: c for c in out.raw.cells.columns if parse_header(c).quantity is None}
    close = [labels[k] for k in difflib.get_close_matches(quantity, labels, n=1, cutoff=0.5)]
    sample = f"{quantity} [{EXAMPLE[quantity]}]" if quantity in EXAMPLE else quantity
    hint = f"rename {close[0]!r} or " if close else ""
    return (
        1,
        "",
        "",
        f"no column holds {quantity} among {', '.join(map(str, out.raw.cells.columns))}",
        f"{hint}add a column such as '{sample}'",
    )


@dataclass
class SiColumn:
    "A column of numbers in SI."

    value: np.ndarray  # nan where the cell is empty or wrong
    shown: np.ndarray  # The number as written
    bound: np.ndarray  # "", "<" or ">"
    absent: np.ndarray  # bool: ND
    empty: np.ndarray  # bool: nothing written
    wrong: np.ndarray  # bool: no number, which is in the problems


def si_column(
    t: Columns,  # The table
    quantity: str,  # What the column holds
    column: str,  # Its header
    ions=None,  # Ion of each row, or of all, for a concentration
    among=None,  # (row,) bool: rows that are looked at; None: all
) -> SiColumn:
    "Cells of a column in SI; what is not a number goes to the problems."
    cells, rows = t.raw.cells[column], t.raw.rows
    x: Numbers = numbers(cells, rows, column, t.mark)
    look = np.ones(len(cells), bool) if among is None else among
    t.problems.extend(p for p in x.problems if p[0] is None or look[np.flatnonzero(rows == p[0])].any())
    empty = empty_cells(cells)
    unit = t.unit.get(column, "" if quantity in ("rejection", "sd", "pH", "weight") else None)
    if quantity not in ("rejection", "sd"):
        for k in np.flatnonzero(x.percent & look):
            t.wrong(
                rows[k],
                column,
                str(cells.iloc[k]),
                f"{cells.iloc[k]!r} carries a unit",
                "put the unit in the column name and keep the number",
            )
    value = np.full(len(cells), np.nan)
    if unit is not None:
        value = si_values(
            x.value, unit, "c_feed" if quantity in ("hardness", "alkalinity") else quantity, ions or "Ca+2"
        )
        value = np.where(x.percent, x.value / 100, value) if quantity in ("rejection", "sd") else value
    return SiColumn(value, x.value, x.bound, x.absent, empty, np.isnan(x.value) & ~empty & ~x.absent)


def equivalents(t: Columns, quantity: str) -> np.ndarray:
    "Hardness or alkalinity as mol of charge/m³."
    column = t.one[quantity]
    ion = get_ion("Ca+2" if quantity == "hardness" else "HCO3-")
    return si_column(t, quantity, column, ion.name).value * abs(ion.z)

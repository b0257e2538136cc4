"""A laboratory's report with one row an analyte, as a table with one column an analyte

Docs: https://ion-ode.github.io/ion_ode/guides/my_feed.html.md"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from ion_ode.water.abroad import in_english
from ion_ode.water.cells import is_empty, text_of
from ion_ode.water.files import RawTable
from ion_ode.water.headers import parse_header
from ion_ode.water.units import is_unit

__all__ = ["is_report", "laid_down"]

_ANALYTE = {"parameter", "parameters", "analyte", "analytes", "determinand", "determinant", "constituent", "test",
    "property", "quantity", "measurand"}  # fmt: skip
_UNIT = {"unit", "units", "uom"}
_VALUE = {"value", "result", "results", "concentration", "amount", "level", "measured", "measured value"}
_BESIDE = {"method", "lod", "loq", "mdl", "detection limit", "reporting limit", "limit", "limit value", "guideline",
    "standard", "cas", "cas number", "note", "notes", "comment", "comments", "remark", "remarks", "flag", "qualifier",
    "uncertainty", "accreditation", "date", "symbol", "formula"}  # fmt: skip
_NO_UNIT = {"", "-", "1", "ph", "ph unit", "ph units", "units", "unit", "su", "s.u.", "none"}


def _bare(header) -> str:
    return in_english(re.sub(r"\s*[\[(].*", "", text_of(header)).strip().lower())


def _analytes(raw: RawTable) -> str | None:
    "The column that names analytes: by its header, or as it names more than ions and stands beside numbers and units."
    bare = {c: _bare(c) for c in raw.cells.columns}
    if (found := next((c for c, b in bare.items() if b in _ANALYTE), None)) is not None:
        return found
    for c in bare:
        if parse_header(c).quantity == "ion":
            sums = any(parse_header(text_of(v)).quantity not in (None, "c_feed") for v in raw.cells[c])
            return c if sums or any(b in _UNIT or is_unit(h) for h, b in bare.items() if h != c) else None
    return None


def is_report(raw: RawTable) -> bool:
    "Whether the rows of a table are analytes of a laboratory's report."
    return len(raw.cells.columns) > 1 and _analytes(raw) is not None


def _named(analyte: str, unit: str) -> str:
    "A row's analyte and unit as a header."
    own = parse_header(analyte)
    bare = unit.lower() in _NO_UNIT or own.quantity == "pH" or (own.unit is not None and is_unit(own.unit))
    return analyte if bare else f"{analyte} [{unit}]"


def _unit_over(header: str) -> str:
    "A unit that stands over the numbers: 'Result (mg/L)', 'mg/L'."
    m = re.search(r"[\[(]([^\[\]()]*)[\])]\s*$", header)
    return header if is_unit(header) else m[1] if m and is_unit(m[1]) else ""


def laid_down(
    raw: RawTable,  # Of which `is_report` is true
) -> RawTable:  # A row a sample, in the order of the columns of values
    "The same report with one column an analyte."
    import pandas as pd

    bare = {c: _bare(c) for c in raw.cells.columns}
    which = _analytes(raw)
    unit = next((c for c, b in bare.items() if b in _UNIT), None)
    values = [c for c, b in bare.items() if b in _VALUE]
    values = values or [c for c, b in bare.items() if c not in (which, unit) and b not in _BESIDE]
    idle = [c for c in bare if c not in (which, unit, *values)]
    over = _unit_over(text_of(values[0])) if values else ""
    said = raw.cells[unit].map(text_of) if unit else [over] * len(raw.cells)
    columns, strange, skipped = {}, [], []
    for k, (analyte, own) in enumerate(zip(raw.cells[which].map(text_of), said, strict=True)):
        cells = [raw.cells[c].iloc[k] for c in values]
        if not analyte or all(map(is_empty, cells)):
            skipped += [analyte] if analyte and any(map(text_of, cells)) else []
            continue
        header = _named(analyte, own)
        known = parse_header(header)
        if known.quantity is None and not known.solute:
            strange.append(analyte)
        elif header in columns:
            columns[f"{header} "] = cells  # named to the reader as standing twice
        else:
            columns[header] = cells
    notes = list(raw.notes)
    if idle:
        notes.append(f"read and not used: {', '.join(map(repr, idle))}")
    if skipped:
        notes.append(f"not measured: {', '.join(map(repr, skipped))}")
    if strange:
        notes.append(f"not understood and not used: {', '.join(map(repr, strange))}")
    if len(values) > 1:
        columns = {"sample": list(map(text_of, values))} | columns
    frame = pd.DataFrame(columns, dtype=object)
    return replace(raw, cells=frame, rows=np.arange(1, len(values) + 1), notes=notes)

"""A laboratory's report with one row an analyte, as a table with one column an analyte

Docs: https://ion-ode.github.io/ion_ode/guides/my_feed.html.md"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from ion_ode.water.cells import is_empty, text_of
from ion_ode.water.files import RawTable
from ion_ode.water.headers import parse_header

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
    return re.sub(r"\s*[\[(].*", "", text_of(header)).strip().lower()


def is_report(raw: RawTable) -> bool:
    "Whether the rows of a table are analytes of a laboratory's report."
    return len(raw.cells.columns) > 1 and any(_bare(c) in _ANALYTE for c in raw.cells.columns)


def _named(analyte: str, unit: str) -> str:
    "A row's analyte and unit as a header."
    name = re.sub(r",?\s*\(?\b(total|dissolved|filtered|soluble|field|lab|as ion)\b\)?$", "", analyte, flags=re.I)
    if unit.lower() in _NO_UNIT:
        return name
    return f"{name} [{unit}]"


def laid_down(
    raw: RawTable,  # Of which `is_report` is true
) -> RawTable:  # A row a sample, in the order of the columns of values
    "The same report with one column an analyte."
    import pandas as pd

    bare = {c: _bare(c) for c in raw.cells.columns}
    which = next(c for c, b in bare.items() if b in _ANALYTE)
    unit = next((c for c, b in bare.items() if b in _UNIT), None)
    values = [c for c, b in bare.items() if b in _VALUE]
    values = values or [c for c, b in bare.items() if c not in (which, unit) and b not in _BESIDE]
    idle = [c for c in bare if c not in (which, unit, *values)]
    columns, strange = {}, []
    for k, analyte in enumerate(text_of(v) for v in raw.cells[which]):
        cells = [raw.cells[c].iloc[k] for c in values]
        if not analyte or all(map(is_empty, cells)):
            continue
        own = re.search(r"\[([^\[\]]*)\]\s*$", text_of(values[0]))  # a unit that stands over the numbers
        said = text_of(raw.cells[unit].iloc[k]) if unit else own[1] if own else ""
        header = _named(analyte, said)
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
    if strange:
        notes.append(f"not understood and not used: {', '.join(map(repr, strange))}")
    if len(values) > 1:
        columns = {"sample": list(map(text_of, values))} | columns
    frame = pd.DataFrame(columns, dtype=object)
    return replace(raw, cells=frame, rows=np.arange(1, len(values) + 1), notes=notes)

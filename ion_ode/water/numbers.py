"""Numbers in the cells of a table, whatever their decimal mark"""

from __future__ import annotations

import re
from contextlib import suppress
from decimal import Decimal

import numpy as np

from ion_ode.water.cells import _EMPTY, UNSAID, Numbers, text_of

# ND, < LOD, <BG (Bestimmungsgrenze), n.n. (nicht nachweisbar), ...: below a limit that is not given
_ABSENT = re.compile(
    r"n\.? ?d\.?|b\.?[dl]\.?[dl]\.?|blq|udl|n\.? ?n\.?|< ?(lod|loq|dl|mdl|rl|pql|bg|ng|nwg)|below detection( limit)?|"
    r"not detect(ed|able)|nicht nachweisbar|non détecté|no detectado"
)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")


def _unmarked(t: str, mark: str | None, sure: bool) -> str | tuple[str, str]:
    "A number as Python writes it, or (problem, fix)."
    t = re.sub(r"(?<=\d)[' ’](?=\d{3}\b)", "", t)  # 1 234 and 1'234
    if t.count(",") + t.count(".") == 0:
        return t
    both = re.fullmatch(r"([-+]?\d{1,3}(?:,\d{3})+\.\d*)|([-+]?\d{1,3}(?:\.\d{3})+,\d*)", t)
    if both and (mark in (None, UNSAID) or mark == ("." if both[1] else ",")):  # 1,234.5 and 1.234,5 say both marks
        return t.replace(",", "") if both[1] else t.replace(".", "").replace(",", ".")
    if m := re.fullmatch(r"[-+]?[1-9]\d{0,2}([,.])\d{3}", t):
        whole = t.replace(m[1], "")
        if (m[1] == "," and (mark == "." or not sure)) or (m[1] == "." and mark in (",", UNSAID)):
            sign = mark if mark in (",", ".") else m[1]
            return (
                f"{t!r} may be {whole} or {t.replace(',', '.')}",
                f"write {whole}, or {t.replace(m[1], sign)}0 with more than three digits after the "
                f"{'comma' if sign == ',' else 'point'}",
            )
        return t.replace(",", ".")
    if re.fullmatch(r"[-+]?\d{1,3}((,\d{3}){2,}|(\.\d{3}){2,})", t):  # 1,234,567
        return t.replace(",", "").replace(".", "")
    if "," in t and mark == ".":
        return f"{t!r} has a decimal comma", "pass decimal=',' or write a decimal point"
    return t.replace(",", ".") if t.count(",") + t.count(".") == 1 else t


def _one(v: str, mark: str | None, sure: bool = False) -> tuple[float, str, bool] | tuple[str, str]:
    "Number, bound and percent of one cell of text, or (problem, fix)."
    t, bound = v, ""
    if m := re.match(r"[<≤>≥]=?", t):
        bound, t = "<" if t[0] in "<≤" else ">", t[m.end() :].strip()
    percent = t.endswith("%")
    t = _unmarked(t[:-1].strip() if percent else t, mark, sure)
    if isinstance(t, tuple):
        return t
    if _NUMBER.fullmatch(t):
        return float(t), bound, percent
    if re.fullmatch(r"[-+]?inf(inity)?", t, re.I):
        return "the value is infinite", "give a finite number"
    if re.match(r"[-+]?[\d.]+\s*[A-Za-zµ°]", t):
        return f"{v!r} carries a unit", "put the unit in the column name and keep the number"
    return f"{v!r} is not a number", "give a number such as 12.5"


_ORDINARY = {str, int, float, np.float64, np.int64, Decimal, type(None)}


def numbers(
    cells: pd.Series,  # As they were read
    rows,  # Row of each, for messages
    column: str,  # Header, for messages
    mark: tuple[str | None, bool] = (None, False),  # Decimal sign of the table, as `decimal_mark` gives it
) -> Numbers:
    "Cells to numbers; all that is not one is listed."
    import pandas as pd

    n = len(cells)
    out = Numbers(np.full(n, np.nan), np.full(n, "", dtype=object), np.zeros(n, bool), np.zeros(n, bool))
    if pd.api.types.is_bool_dtype(cells) or pd.api.types.is_complex_dtype(cells):
        cells = cells.astype(object)
    if pd.api.types.is_numeric_dtype(cells):
        out.value = cells.to_numpy(dtype=float, na_value=np.nan).copy()
    else:
        plainly = mark[0] not in (",", UNSAID) and set(map(type, cells)) <= _ORDINARY
        if plainly:  # most cells are ordinary numbers
            with suppress(OverflowError):  # a whole number of hundreds of digits
                out.value = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float, na_value=np.nan).copy()
        for k, v in zip(np.flatnonzero(np.isnan(out.value)), cells[np.isnan(out.value)], strict=True):
            if type(v) in (float, int) or isinstance(v, (np.floating, np.integer)):
                try:
                    out.value[k] = v
                except OverflowError:
                    out.value[k] = np.inf
                continue
            t = text_of(v)
            if t.lower() in _EMPTY:
                continue
            if _ABSENT.fullmatch(t.lower()):
                out.absent[k] = True
                continue
            found = _one(t, *mark)
            if len(found) == 2:
                out.problems.append((rows[k], column, t, *found))
            else:
                out.value[k], out.bound[k], out.percent[k] = found
    for k in np.flatnonzero(np.isinf(out.value)):
        shown = text_of(cells.iloc[k])[:40]
        out.problems.append((rows[k], column, shown, "the value is infinite", "give a finite number"))
        out.value[k] = np.nan
    return out

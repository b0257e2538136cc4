"""Cells of a table as numbers: signs, decimal marks, bounds, and what is not a number

Docs: https://ion-ode.github.io/ion_ode/guides/my_data.html.md"""

# A comma or a point before exactly three digits may be a decimal or a thousands mark; it is read as a decimal mark
# only where that is declared or where another cell of the table shows it (0,5 or 12,34), and it is never guessed.

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from ion_ode.core import InputError
from ion_ode.water.units import plain

__all__ = ["Numbers", "Problem", "TableError", "decimal_mark", "empty_cells", "is_empty", "numbers"]

_EMPTY = {"", "na", "n/a", "nan", "-", "--", "none", "null", "#n/a"}
_ABSENT = {
    "nd",
    "n.d.",
    "n.d",
    "bdl",
    "bld",
    "<lod",
    "<loq",
    "<dl",
    "<mdl",
    "< lod",
    "< loq",
    "< dl",
    "below detection",
    "not detected",
    "blq",
    "udl",
}
_FRACTION = r"[<>≤≥~]?\s*[-+]?(\d*{m}\d{{1,2}}|\d*{m}\d{{4,}}|0*{m}\d+|\d{{4,}}{m}\d+)([eE][-+]?\d+)?%?"
_SURE = {mark: re.compile(_FRACTION.format(m=re.escape(mark))) for mark in ",."}  # what can only be a decimal mark
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")

Problem = tuple  # (row, column, value, problem, fix)


class TableError(InputError):
    "A table with problems; `problems` lists them: row, column, value, problem, fix."

    def __init__(
        self,
        name: str,  # File
        problems: list[Problem],
    ):
        import pandas as pd

        self.problems = pd.DataFrame(problems, columns=["row", "column", "value", "problem", "fix"])
        lines = []
        for row, column, _, problem, fix in problems[:100]:
            where = ", ".join(
                x for x in (f"row {row}" if row is not None else "", f"column {column!r}" if column else "") if x
            )
            lines.append(f"{where}: {problem}; {fix}" if where else f"{problem}; {fix}")
        more = [f"... and {len(problems) - 100} more"] if len(problems) > 100 else []
        head = f"{name}: " if len(problems) == 1 else f"{name} has {len(problems)} problems:\n  "
        super().__init__(head + "\n  ".join(lines + more))


@dataclass
class Numbers:
    "A column of cells as numbers."

    value: np.ndarray  # nan where there is none
    bound: np.ndarray  # "", "<" or ">": the number is only a bound
    absent: np.ndarray  # bool: said to be below a limit that is not given (ND)
    percent: np.ndarray  # bool: the cell itself carries a percent sign
    problems: list[Problem] = field(default_factory=list)


def text_of(v) -> str:
    "A cell as text; what is missing is empty."
    import pandas as pd

    if v is None or v is pd.NA or v is pd.NaT or (isinstance(v, float) and np.isnan(v)):
        return ""
    return plain(v)


def is_empty(v) -> bool:
    "Whether a cell says that there is nothing."
    return text_of(v).lower() in _EMPTY


def empty_cells(column: pd.Series) -> np.ndarray:
    "Which cells of a column say that there is nothing."
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return column.isna().to_numpy(bool)
    return np.array([is_empty(v) if not isinstance(v, str) or len(v) < 9 else False for v in column], dtype=bool)


def decimal_mark(
    columns,  # Cells of the columns that hold numbers, an iterable of sequences
    declared: str | None = None,  # What the caller says; None: what the cells show
) -> tuple[str | None, bool]:  # "," or ".", None where nothing says; whether a cell shows that it is a comma
    "The decimal sign of a table."
    if declared not in (None, ".", ","):
        raise InputError(f"decimal is {declared!r}; expected ',' where numbers are written 0,95, or '.'")
    shown = {}
    for cells in columns:
        for v in cells:
            if isinstance(v, str) and ("," in v or "." in v):
                t = plain(v)
                shown |= {mark: t for mark, sure in _SURE.items() if mark not in shown and sure.fullmatch(t)}
        if len(shown) == 2 and declared is None:
            raise InputError(
                f"some numbers have a decimal comma ({shown[',']!r}) and some a decimal point ({shown['.']!r}); write "
                "all with a point"
            )
    return declared or next(iter(shown), None), "," in shown


def _unmarked(t: str, mark: str | None, sure: bool) -> str | tuple[str, str]:
    "A number as Python writes it, or (problem, fix)."
    t = re.sub(r"(?<=\d)[' ’](?=\d{3}\b)", "", t)  # 1 234 and 1'234
    if t.count(",") + t.count(".") == 0:
        return t
    both = re.fullmatch(r"([-+]?\d{1,3}(?:,\d{3})+\.\d*)|([-+]?\d{1,3}(?:\.\d{3})+,\d*)", t)
    if both and (mark is None or mark == ("." if both[1] else ",")):  # 1,234.5 and 1.234,5 say both marks
        return t.replace(",", "") if both[1] else t.replace(".", "").replace(",", ".")
    if m := re.fullmatch(r"[-+]?[1-9]\d{0,2}([,.])\d{3}", t):
        whole = t.replace(m[1], "")
        if (m[1] == "," and (mark == "." or not sure)) or (m[1] == "." and mark == ","):
            sign = mark or "."
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
    if pd.api.types.is_bool_dtype(cells):
        cells = cells.astype(object)
    if pd.api.types.is_numeric_dtype(cells):
        out.value = cells.to_numpy(dtype=float, na_value=np.nan).copy()
    else:
        plainly = mark[0] != "," and not any(isinstance(v, (bool, np.bool_)) for v in cells)
        if plainly:  # most cells are ordinary numbers
            out.value = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float, na_value=np.nan).copy()
        for k, v in zip(np.flatnonzero(np.isnan(out.value)), cells[np.isnan(out.value)], strict=True):
            if type(v) in (float, int) or isinstance(v, (np.floating, np.integer)):
                out.value[k] = v
                continue
            t = text_of(v)
            if t.lower() in _EMPTY:
                continue
            if t.lower() in _ABSENT:
                out.absent[k] = True
                continue
            found = _one(t, *mark)
            if len(found) == 2:
                out.problems.append((rows[k], column, t, *found))
            else:
                out.value[k], out.bound[k], out.percent[k] = found
    for k in np.flatnonzero(np.isinf(out.value)):
        out.problems.append((rows[k], column, str(cells.iloc[k]), "the value is infinite", "give a finite number"))
        out.value[k] = np.nan
    return out

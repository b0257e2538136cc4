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

__all__ = ["NOT_MEASURED", "Numbers", "Problem", "TableError", "decimal_mark", "empty_cells", "is_empty"]

# Words of a laboratory for what it did not look for: n.b. nicht bestimmt, k.A. keine Angabe, n.m. non mesuré
NOT_MEASURED = {"-", "--", "na", "n/a", "n.a.", "n.b.", "n. b.", "nb", "k.a.", "k. a.", "n.m.", "not determined",
    "not analysed", "not analyzed", "not measured", "nicht bestimmt", "non mesuré", "no determinado"}  # fmt: skip
_EMPTY = {"", "nan", "none", "null", "#n/a"} | NOT_MEASURED
_FRACTION = r"[<>≤≥~]?\s*[-+]?(\d*{m}\d{{1,2}}|\d*{m}\d{{4,}}|0*{m}\d+|\d{{4,}}{m}\d+)([eE][-+]?\d+)?%?"
UNSAID = "?"  # Decimal sign of a text that shows none and separates its cells by ; or tab, as where a comma is one
_SURE = {mark: re.compile(_FRACTION.format(m=re.escape(mark))) for mark in ",."}  # what can only be a decimal mark

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


def empty_cells(cells: pd.Series) -> np.ndarray:
    "Which cells of a column say that there is nothing."
    import pandas as pd

    if pd.api.types.is_numeric_dtype(cells):
        return cells.isna().to_numpy(bool)
    return np.array([is_empty(v) if not isinstance(v, str) or len(v) < 20 else False for v in cells], dtype=bool)


def decimal_mark(
    columns,  # Cells of the columns that hold numbers, an iterable of sequences
    declared: str | None = None,  # What the caller says; None: what the cells show
    separator: str = "",  # Between the cells of a text
) -> tuple[str | None, bool]:  # "," or ".", None or UNSAID where nothing says; whether a cell shows that it is a comma
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
    return declared or next(iter(shown), UNSAID if separator in (";", "\t") else None), "," in shown



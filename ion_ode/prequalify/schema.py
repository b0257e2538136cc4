"""What the columns of a laboratory's table are"""

import re
from dataclasses import asdict, dataclass, field

from ion_ode.core import InputError
from ion_ode.prequalify.monomers import plain
import re
from ion_ode.core import InputError
from ion_ode.prequalify.monomers import plain


_ROLES = {
    "name": ("name", "membrane", "membrane id", "id", "sample"),
    "laboratory": ("laboratory", "lab", "paper", "group", "source", "paper group"),
    "round": ("round", "iteration", "batch"),
    "replicates": ("replicates", "n replicates"),
    "note": ("note", "notes", "comment", "label", "doi"),
}


def _role(header: str) -> str | None:
    return next((r for r, names in _ROLES.items() if _key(header) in names), None)


@dataclass(frozen=True)
class Column:
    "One column that says how a membrane was made."

    name: str  # As in the header
    kind: str = "number"  # number, category, monomer
    scale: str = "linear"  # Of numbers: linear, log, log1p
    low: float | None = None  # Smallest value allowed in a suggestion; None: the smallest measured
    high: float | None = None  # Largest
    levels: tuple = ()  # Values allowed in a suggestion; empty: any between low and high
    cost: float = 0.0  # Of a suggestion, for each unit of a number, or for anything but none


@dataclass(frozen=True)
class Schema:
    "What the columns of a table are."

    columns: tuple[Column, ...]  # Recipe
    measured: tuple[str, ...]  # "permeance", "rejection NaCl", ...
    ratio: tuple[str, str] | None = None  # Amounts of the two monomers that react
    ignored: dict = field(default_factory=dict)  # Column: why it is not used

    def column(self, name: str) -> Column:
        "A recipe column by name, with or without its unit."
        for form in (_key, lambda n: _key(_bare(n)[0])):
            for c in self.columns:
                if form(c.name) == _key(name):
                    return c
        raise InputError(f"there is no recipe column {name!r}; the table has {', '.join(c.name for c in self.columns)}")

    def to_dict(self) -> dict:
        "Plain numbers and text."
        return asdict(self)

    @classmethod
    def from_dict(cls, d: dict) -> "Schema":
        "What `to_dict` wrote."
        columns = tuple(Column(**{**c, "levels": tuple(c.get("levels", ()))}) for c in d["columns"])
        return cls(columns, tuple(d["measured"]), tuple(d["ratio"]) if d.get("ratio") else None, d.get("ignored", {}))


def _key(name: str) -> str:
    return re.sub(r"[\s_]+", " ", plain(name)).strip().lower()


def _bare(header: str) -> tuple[str, str]:
    "Name and unit of a header: 'PIP [wt%]' -> ('PIP', 'wt%')."
    m = re.fullmatch(r"\s*(.*?)\s*[\[(]([^\])]*)[\])]\s*", plain(header))
    return (m.group(1), m.group(2).strip()) if m and m.group(1) else (plain(header), "")

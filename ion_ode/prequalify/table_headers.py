"""What the header of a laboratory's table says"""

import re

import numpy as np
import pandas as pd

from ion_ode.core import InputError, known_fields
from ion_ode.prequalify.monomers import monomer, plain
from ion_ode.prequalify.reactions import reactive_sites
from ion_ode.prequalify.schema import Column, Schema, _bare, _key
from ion_ode.prequalify.schema import _role

NONE = ("none", "no", "without")  # Written: there is none of it. An empty cell: not stated


_UNITS = {
    "lmh/bar": 1.0,
    "l/m2/h/bar": 1.0,
    "l m-2 h-1 bar-1": 1.0,
    "l/(m2 h bar)": 1.0,
    "m/s/pa": 3.6e11,
    "m3/m2/s/pa": 3.6e11,
}


_SHARES = {"": 1.0, "-": 1.0, "fraction": 1.0, "%": 0.01, "percent": 0.01}


def measured_name(
    header: str,  # As written: permeance_LMH_bar, R NaCl [%], sd rejection MgCl2
) -> (
    tuple[str, float, bool] | None
):  # Name, factor to the package's unit, standard deviation or not; None: no measured column
    "Whether a header is a measured quantity, and which."
    name, unit = _bare(header)
    key = _key(name)
    sd = key.startswith(("sd ", "std ")) or key.endswith((" sd", " std"))
    key = re.sub(r"^(sd|std) | (sd|std)$", "", key)
    if re.fullmatch(r"permeance( lmh bar)?|pwp|pure water permeance( lmh bar)?|water permeance", key):
        factor = _UNITS.get(unit.lower().replace("·", " "), 1.0 if not unit else None)
        if factor is None:
            raise InputError(f"column {header!r}: unit {unit!r} of a permeance is not known; write [LMH/bar]")
        return "permeance", factor, sd
    m = re.fullmatch(r"(?:rejection|retention|r) (?:of )?(\S+)|(\S+) (?:rejection|retention)", key)
    if m:
        solute = (m.group(1) or m.group(2)).strip("()")
        at = _key(name).find(solute)
        if unit.lower() not in _SHARES:
            raise InputError(
                f"column {header!r}: unit {unit!r} of a rejection is not known; write [%] or no unit for a fraction"
            )
        return f"rejection {re.sub('_', ' ', plain(name))[at : at + len(solute)]}", _SHARES[unit.lower()], sd
    return None


def _kind(name: str, values: pd.Series, where: str) -> str:
    "number, category or monomer, from the header and the cells."
    said = [v for v in values if v and v.lower() not in NONE]
    number = [_float(v) is not None for v in said]
    if re.search(r"\b(smiles|monomer|amine|acyl chloride)\b", _key(name)) and said and not any(number):
        return "monomer"
    if said and all(number):
        return "number"
    if said and np.mean(number) > 0.8:
        odd = next(v for v, ok in zip(said, number, strict=True) if not ok)
        raise InputError(
            f"{where}, column {name!r}: {odd!r} is not a number as the other cells are; mend it, or write none"
        )
    return "category"


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _scale(values: np.ndarray) -> str:
    "Logarithm where amounts span a factor of 4 or more, ln(1 + v) where some are zero among them."
    v = values[np.isfinite(values)]
    if len(v) == 0 or v.min() < 0 or v.max() <= 0 or v.max() < 4 * np.min(v[v > 0]):
        return "linear"
    return "log1p" if v.min() == 0 else "log"


def _ratio(columns) -> tuple[str, str] | None:
    "Amounts of the aqueous and of the organic monomer, recognised by name."
    found = {}
    for c in columns:
        if c.kind != "number" or c.scale != "log":
            continue
        name = _key(_bare(c.name)[0])
        try:
            sites = reactive_sites(monomer(name))
        except (InputError, ImportError):
            sites = {
                "amine": 2 * (name in ("amine", "amine 1")),
                "acyl chloride": 2 * (name in ("acyl", "acyl chloride")),
            }
        for k in ("amine", "acyl chloride"):
            if sites[k] >= 2:
                found.setdefault(k, c.name)
    return (found["amine"], found["acyl chloride"]) if len(found) == 2 else None


def _read_header(
    d: pd.DataFrame,  # Cells as text
    *,
    schema: dict | None = None,  # Column: {kind, scale, low, high, levels, cost}, or "ignore"
    where: str = "table",  # How messages call it
) -> Schema:
    "What each column of a table is, from its header, its cells and what is declared."
    declared = {_key(k): v for k, v in (schema or {}).items()}
    if unknown := set(declared) - {_key(c) for c in d}:
        raise InputError(f"the schema names {sorted(unknown)[0]!r}, which {where} does not have; it has {', '.join(d)}")
    columns, measured, ignored = [], [], {}
    for c in d:
        said = declared.get(_key(c), {})
        if said == "ignore":
            ignored[c] = "declared so"
        elif (m := measured_name(c)) is not None:
            measured += [m[0]] if not m[2] else []
        elif _role(c):
            ignored |= {c: f"{_role(c)} of a membrane, not an input"} if _role(c) in ("round", "note") else {}
        elif (d[c] == "").all():
            ignored[c] = "empty in every row"
        elif len(set(d[c])) == 1 and not said:
            ignored[c] = f"the same in every row ({d[c].iloc[0]})"
        else:
            known_fields(Column, said, f"schema of column {c!r}") if said else None
            kind = said.get("kind") or _kind(c, d[c], where)
            values = np.array([_number(v) for v in d[c]]) if kind == "number" else np.array([])
            scale = said.get("scale") or (_scale(values) if kind == "number" else "linear")
            columns.append(Column(c, **{**said, "kind": kind, "scale": scale, "levels": tuple(said.get("levels", ()))}))
    if repeated := {m for m in measured if measured.count(m) > 1}:
        raise InputError(f"{where} has two columns of {sorted(repeated)[0]}; leave one")
    return Schema(tuple(columns), tuple(measured), _ratio(columns), ignored)


def _number(text: str) -> float:
    "A cell of a number column: none is zero of it, empty is not stated."
    if text.lower() in NONE:
        return 0.0
    return float(text) if text else np.nan

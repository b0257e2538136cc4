"""Tables of recipes: a laboratory's own in any columns, and the three that come with the package."""

import difflib
import io
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from ion_ode.core import InputError
from ion_ode.prequalify.monomers import monomer, plain
from ion_ode.prequalify.schema import Schema, _bare, _key, _role
from ion_ode.prequalify.table_headers import NONE, _float, _read_header, measured_name
from ion_ode.store import asset
from ion_ode.water import files
from ion_ode.water.cells import TableError, decimal_mark, text_of
from ion_ode.water.numbers import _unmarked
from ion_ode.water.salts import SALTS

__all__ = ["read_table", "load_recipes", "sources", "TABLES"]

TABLES = ("deng2022", "nf_intelligence", "osn")


def _measured(d: pd.DataFrame, where: str) -> pd.DataFrame:
    "Measured columns in the package's units, checked."
    out = {}
    for c in d:
        m = measured_name(c)
        if m is None:
            continue
        name, factor, sd = m
        values = []
        for i, v in enumerate(d[c]):
            x = np.nan if not v else _float(v.removesuffix("%"))
            if x is None:
                raise InputError(
                    f"{where} line {i + 2}, column {c!r}: {v!r} is not a number; "
                    "leave the cell empty if it was not measured"
                )
            x *= 0.01 if v.endswith("%") and factor == 1.0 else factor
            if not sd and name == "permeance" and x <= 0:
                raise InputError(
                    f"{where} line {i + 2}, column {c!r}: {v} is no permeance; expected a positive number of LMH/bar"
                )
            if not sd and name != "permeance" and x >= 1.0:
                hint = "; write the detection limit, such as 0.999"
                if x > 1:
                    hint = "; write the unit into the header, [%]" if factor == 1.0 else "; check the value"
                raise InputError(f"{where} line {i + 2}, column {c!r}: {v} is no rejection below 1{hint}")
            values.append(x)
        out[f"sd {name}" if sd else name] = values
    return pd.DataFrame(out, index=d.index, dtype=float)


def read_table(
    path,  # CSV file, open text, frame, or the name of a shipped table
    *,
    schema: dict | Schema | None = None,  # What columns are, where the header does not say
) -> tuple[pd.DataFrame, Schema]:  # name, laboratory, recipe columns as text, measured columns as numbers
    "A table of recipes and what its columns are."
    where, raw = _read_cells(path)
    raw.columns = [plain(c) for c in raw.columns]
    if raw.empty:
        raise InputError(f"{where} has a header and no recipe; add a line for each membrane")
    found = schema if isinstance(schema, Schema) else _read_header(raw, schema=schema, where=where)
    role = {_role(c): c for c in raw if _role(c)}
    out = pd.DataFrame({"name": raw[role["name"]] if "name" in role else [f"line {i + 2}" for i in range(len(raw))]})
    out["name"] = [n or f"line {i + 2}" for i, n in enumerate(out["name"])]
    for r in ("laboratory", "round"):
        if r in role:
            out[r] = raw[role[r]]
    n = pd.to_numeric(raw[role["replicates"]], errors="coerce") if "replicates" in role else 1.0
    out["replicates"] = n
    there = {_key(_bare(c)[0]): c for c in raw} | {_key(c): c for c in raw}
    for c in found.columns:
        cell = there.get(_key(c.name)) or there.get(_key(_bare(c.name)[0]))
        out[c.name] = raw[cell] if cell else ""
        if c.kind == "number":
            for i, v in enumerate(out[c.name]):
                if v and v.lower() not in NONE and _float(v) is None:
                    raise InputError(
                        f"{where} line {i + 2}, column {c.name!r}: {v!r} is not a number; "
                        "write none, or leave it empty if not stated"
                    )
        if c.kind == "monomer":
            said = [v and v.lower() not in NONE for v in out[c.name]]
            out[c.name] = [
                monomer(v, f"{where} line {i + 2}, column {c.name!r}") if s else v
                for i, (v, s) in enumerate(zip(out[c.name], said, strict=True))
            ]
    return out.join(_measured(raw, where)), found


def _read_cells(path) -> tuple[str, pd.DataFrame]:
    if isinstance(path, pd.DataFrame):
        path = io.StringIO(path.to_csv(index=False))
    elif str(path) in TABLES:
        path = asset(f"prequalify/{path}.csv")
    if not hasattr(path, "read"):
        if str(path) != "-" and not Path(path).exists():
            raise InputError(f"there is no file {path}; name a CSV file, or one of the tables {', '.join(TABLES)}")
        found = files.read_table(path)
        return found.name, _pointed(found)
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as e:
        raise InputError(f"the table cannot be read as CSV ({e}); save it as comma-separated UTF-8 text") from None
    return "table", raw.map(lambda v: plain(v) if isinstance(v, str) else v)


def _pointed(raw: files.RawTable) -> pd.DataFrame:
    "Cells as text, numbers with a decimal point; what may be one number or another is asked, as of any table."
    text, problems = raw.cells.map(text_of), []
    used = [c for c in text if _role(c) not in ("name", "note", "laboratory")]
    mark = decimal_mark((text[c] for c in used), None, raw.separator)
    for c in used:
        for i, v in text[c].items():
            if re.search("[,.]", v) and re.fullmatch(r"[-+]?[\d,. ']+%?", v):
                pointed = _unmarked(v.removesuffix("%").strip(), *mark)
                if isinstance(pointed, tuple):
                    problems.append((raw.rows[i], c, v, *pointed))
                else:
                    text.loc[i, c] = pointed + "%" * v.endswith("%")
    if problems:
        raise TableError(raw.name, problems)
    return text


@lru_cache(maxsize=8)
def _shipped(name: str) -> pd.DataFrame:
    return pd.read_csv(asset(f"prequalify/{name}.csv"))


def load_recipes(
    name: str,  # One of `TABLES`
) -> pd.DataFrame:
    "A shipped table, as it is stored."
    if name not in TABLES:
        raise InputError(f"there is no table {name!r}; the package has {', '.join(TABLES)}")
    return _shipped(name).copy()


def tests_of(
    rows: pd.DataFrame,  # Of `read_table`
    name: str,  # Of a membrane
) -> tuple[float, dict[str, float]]:  # Permeance [L m⁻² h⁻¹ bar⁻¹], {salt: rejection}
    "What a membrane did with pure water and with the salts whose ions are known; replicates on average."
    own = rows[rows["name"] == name]
    if own.empty:
        close = difflib.get_close_matches(name, rows["name"], 3, 0.0)
        raise InputError(f"there is no membrane {name!r} in the table; near are {', '.join(close)}")
    salts = {s: own[f"rejection {s}"].mean() for s in SALTS if f"rejection {s}" in own}
    salts = {s: float(r) for s, r in salts.items() if np.isfinite(r)}
    permeance = own["permeance"].mean() if "permeance" in own else np.nan
    if not permeance > 0 or len(salts) < 2:
        raise InputError(
            f"{name}: permeance {permeance:.3g} and rejections of {', '.join(salts) or 'no salt'} arrived; expected "
            "its permeance and the rejections of two salts or more, such as NaCl and MgSO4"
        )
    return float(permeance), salts


def sources() -> pd.DataFrame:
    "Where the shipped tables were read, and what is not known about them."
    return pd.read_csv(asset("prequalify/sources.csv"), keep_default_na=False).set_index("table")

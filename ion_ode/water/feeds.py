"""Feeds, fluxes and membranes as people write them: text on a command line, columns with units in a table

Docs: https://ion-ode.github.io/ion_ode/guides/my_feed.html.md"""

# Everything that leaves here is SI: mol/m³, m/s, m. A mistake raises `InputError` with one sentence that names the file,
# the column and the row.

import io
import math
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ion_ode.core import InputError, LMH, need, nm, um
from ion_ode.water.ions import Ion, UnknownIon, get_ion

__all__ = [
    "FeedTable", "MEMBRANE_UNITS", "feed_columns", "flux_of", "ion_column", "measured_in_si",
    "parse_feed", "parse_flux", "parse_pairs", "read_feeds", "to_mol_m3",
]  # fmt: skip

FLUX_UNITS = {"l/m2/h": LMH, "l/(m2h)": LMH, "lmh": LMH, "m/s": 1.0, "um/s": um}
MOLAR_UNITS = {"mol/m3": 1.0, "mm": 1.0, "mmol/l": 1.0, "mol/l": 1e3, "m": 1e3, "um": 1e-3, "umol/l": 1e-3, "kmol/m3": 1e3}
MASS_UNITS = {"mg/l": 1.0, "g/m3": 1.0, "g/l": 1e3, "kg/m3": 1e3, "ug/l": 1e-3}  # g/m³
CHARGE_UNITS = {"meq/l": 1.0, "eq/m3": 1.0}
MEMBRANE_UNITS = {"r_pore": ("nm", nm), "thickness": ("µm", um), "charge_density": ("mol/m³", 1.0), "eps_pore": ("-", 1.0)}
SATURATED = 2e4  # mol/m³, more than water dissolves of any salt of the table
SALT_HINT = "; write a salt as its ions, 'Na+=10,Cl-=10'"
LABELS = ("sample", "id", "name", "label", "note")  # columns of a feed table that are carried along, not read
FLUX_NAMES = ("flux", "j_v", "jv")
MEASURED = {
    "flux_m_s": FLUX_NAMES,
    "c_feed_mol_m3": ("c_feed", "feed"),
    "rejection": ("rejection", "r"),
    "rejection_sd": ("rejection_sd", "sd"),
    "temperature_K": ("temperature",),
    "solution_id": ("solution", "sample"),
}  # names under which a measurement's columns may arrive


def _plain_unit(unit: str) -> str:
    "One spelling of a unit: lower case, no spaces or superscripts, a slash for a negative power: mol m⁻³ is mol/m3."
    s = unit.translate(str.maketrans("⁻¹²³−·μµ", "-123- uu")).replace("^", "").lower()
    s = re.sub(r"[\s*]*\b([a-z]+)-1\b", r"/\1", s)
    return re.sub(r"[\s*]*\b([a-z]+)-(\d)\b", r"/\1\2", s).replace(" ", "")


def to_mol_m3(
    unit: str,  # mol/m3, mM, mol/L, uM, mg/L, g/L, meq/L, ...
    ion: Ion,  # Whose molar mass and charge convert masses and equivalents
) -> float:  # mol/m³ in one `unit`
    "Factor from a laboratory unit of concentration to mol/m³."
    u = _plain_unit(unit)
    if u in MOLAR_UNITS:
        return MOLAR_UNITS[u]
    if u in MASS_UNITS:
        return MASS_UNITS[u] / ion.molar_mass
    if u in CHARGE_UNITS:
        return CHARGE_UNITS[u] / abs(ion.z)
    raise InputError(
        f"{unit!r} is not a unit of concentration for {ion.name}; use mol/m3, mM, mol/L, uM, mg/L, g/L or meq/L"
    )


def _number(text, what: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        raise InputError(f"{what} is {text!r}, expected a number alone") from None


def parse_feed(
    text: str,  # "Na+=10,Cl-=10", in mol/m³; a unit may follow a number: "Na+=230 mg/L"
) -> dict[str, float]:  # {ion: mol/m³}
    "A feed from text."
    feed = {}
    for part in filter(None, (p.strip() for p in re.split(r"[,;]", text))):
        name, equals, value = part.rpartition("=")
        if not equals or not name.strip() or not value.strip():
            raise InputError(f"feed {text!r}: cannot read {part!r}; write ions as 'Na+=10,Cl-=10' (mol/m3)")
        try:
            ion = get_ion(name)
        except UnknownIon as e:
            raise InputError(f"{e}{SALT_HINT if re.fullmatch(r'[A-Za-z0-9() ]+', name) else ''}") from None
        m = re.fullmatch(r"\s*([-+.\deE]+|[-+]?(?:nan|inf)\w*)\s*(.*)", value, re.I)
        if not m:
            raise InputError(f"feed {text!r}: {ion.name} is {value.strip()!r}, expected a number (mol/m3)")
        if ion.name in feed:
            raise InputError(f"feed {text!r} names {ion.name} twice; name each ion once")
        c = _number(m[1], f"feed {text!r}: {ion.name}") * (to_mol_m3(m[2], ion) if m[2] else 1.0)
        if not (math.isfinite(c) and 0 <= c <= SATURATED):
            raise InputError(f"feed {text!r}: {ion.name} is {m[1]}, expected a concentration from 0 to {SATURATED:g} mol/m3; check the unit")
        feed[ion.name] = c
    if not feed:
        raise InputError("the feed is empty; write ions as 'Na+=10,Cl-=10' (mol/m3)")
    return feed


def parse_flux(
    text: str,  # "5,10,20", or "5:100:20" for 20 values from 5 to 100, in L m⁻² h⁻¹
) -> np.ndarray:  # (n_flux,) [m/s]
    "Water fluxes from text."
    values = []
    for part in filter(None, (p.strip() for p in re.split(r"[,;\s]+", text))):
        ends = part.split(":")
        if len(ends) == 1:
            values.append(_number(part, "flux [L m-2 h-1]"))
        elif len(ends) == 3 and ends[2].isdigit() and int(ends[2]) > 1:
            values += list(np.linspace(_number(ends[0], "flux [L m-2 h-1]"), _number(ends[1], "flux [L m-2 h-1]"), int(ends[2])))
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
        warnings.warn(f"{where}: {flux.min():g} L m-2 h-1 is far below any use of a membrane; if this is m/s, it is {flux.min() / LMH:g} L m-2 h-1", stacklevel=2)
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
    where: str  # "feeds.csv rows 1 to 2000"

    def __repr__(self):
        flux = "no flux of their own" if self.flux is None else f"fluxes {self.flux.min() / LMH:.3g} to {self.flux.max() / LMH:.3g} L/m²/h"
        return f"{self.where or 'feeds'}: {len(self.c_feed)} of {', '.join(self.ions)} (to {self.c_feed.max():.4g} mol/m³), {flux}"


def _column(name: str) -> tuple[str, str]:
    "Name and unit of a column: 'Na+ [mM]', 'Na+ (mM)', 'flux_m_s', 'Na+_mol_m3'."
    if m := re.fullmatch(r"\s*(.+?)\s*(?:\[([^\]]*)\]|\((.*)\))\s*", name):
        return m[1], (m[2] or m[3] or "").strip()
    for suffix, unit in (("_mol_m3", "mol/m3"), ("_m_s", "m/s"), ("_LMH", "LMH")):
        if name.endswith(suffix) and name != suffix:
            return name.removesuffix(suffix), unit
    return name.strip(), ""


def ion_column(
    name: str,  # "Na+", "Na+ [mg/L]", "Na+_mol_m3"
) -> tuple[str, float]:  # Canonical name, and mol/m³ in one unit of the column
    "Ion and unit of a column, or of a key of a feed."
    try:
        return get_ion(name).name, 1.0
    except UnknownIon:
        bare, unit = _column(str(name))
        if bare == str(name).strip():
            raise
    ion = get_ion(bare)
    return ion.name, to_mol_m3(unit, ion) if unit else 1.0


def _is_flux(column) -> bool:
    return _column(str(column))[0].lower() in FLUX_NAMES


def _flux_factor(column: str, where: str) -> float:
    "m/s in one unit of a column of fluxes."
    unit = _plain_unit(_column(column)[1])
    if unit not in FLUX_UNITS:
        raise InputError(f"{where}: column {column!r} needs a unit of flux, as in 'flux [L m-2 h-1]' or 'flux [m/s]'")
    return FLUX_UNITS[unit]


def feed_columns(
    frame: pd.DataFrame,  # A column an ion with its unit, others that are carried along
) -> dict:  # {column: numbers} of the ions alone
    "The columns of a table that say what is in the water."
    if frame.empty:
        raise InputError("the feed table is empty; give one row a sample and one column an ion")
    return {k: frame[k].to_numpy() for k in frame.columns if not _is_flux(k) and str(k).strip().lower() not in LABELS}


def flux_of(
    feed,  # As for `simulate`
    flux,  # As for `simulate`; None: the table's own column
):  # Water flux [m/s]
    "The flux that was given, or else the column of a feed table such as 'flux [LMH]', one flux a sample."
    columns = [c for c in feed.columns if _is_flux(c)] if isinstance(feed, pd.DataFrame) else []
    if flux is None and len(columns) == 1:
        return _numbers(feed[columns[0]], columns[0], "the feed table", 0)[:, None] * _flux_factor(columns[0], "the feed table")
    if flux is None:
        raise InputError("no flux: pass flux in m/s, for instance flux=20 * LMH, or a feed table with one column 'flux [LMH]'")
    if columns:
        raise InputError(f"the feed table has a column {columns[0]!r} and flux was given too; use one of them")
    return flux


def measured_in_si(
    frame: pd.DataFrame,  # ion, and with units in the names: flux [LMH], feed [mg/L], rejection [%], sd [%], temperature [°C]
) -> pd.DataFrame:  # ion, flux_m_s, c_feed_mol_m3, rejection, ...; other columns as they were
    "Measurements, one row an ion, in SI; a table already in SI, or one that `simulate` made, passes as it is."
    out = {}
    for raw in frame.columns:
        name, unit = _column(str(raw))
        target = next((t for t, names in MEASURED.items() if name.lower() in names), None)
        if raw in MEASURED or target is None or target in frame:
            out[raw] = frame[raw]
            continue
        if target == "solution_id":
            out[target] = frame[raw]
            continue
        values, plain = _numbers(frame[raw], str(raw), "the measurements", 0, missing=True), _plain_unit(unit)
        if target == "flux_m_s":
            values = values * _flux_factor(str(raw), "the measurements")
        elif target == "c_feed_mol_m3":
            ions = frame["ion"].map(get_ion) if "ion" in frame else []
            values = values * np.array([to_mol_m3(unit, i) for i in ions]) if unit else values
        elif target == "temperature_K":
            if plain not in ("k", "°c", "c"):
                raise InputError(f"the measurements: column {raw!r} needs a unit of temperature, as in 'temperature [°C]'")
            values = values + (0.0 if plain == "k" else 273.15)
        elif plain in ("%", "percent"):
            values = values / 100
        elif plain not in ("", "-"):
            raise InputError(f"the measurements: column {raw!r} is in {unit}; a rejection is a fraction, or in %")
        out[target] = values
    return pd.DataFrame(out, index=frame.index)


def _chunks(path: Path | None, rows: int) -> Iterator[pd.DataFrame]:
    "The file as frames of text, at most `rows` rows each where the format allows it; None is standard input."
    suffix = path.suffix.lower() if path else ".csv"
    if suffix in (".parquet", ".pq"):
        pq = need("pyarrow.parquet", "data")
        for batch in pq.ParquetFile(path).iter_batches(rows):
            yield batch.to_pandas()
    elif suffix == ".jsonl":
        with pd.read_json(path, lines=True, dtype=False, chunksize=rows) as reader:
            yield from reader
    elif suffix == ".json":
        yield pd.read_json(path, dtype=False)
    elif suffix in (".xlsx", ".xls"):
        need("openpyxl", "data")
        yield pd.read_excel(path, dtype=str)
    elif suffix in (".csv", ".txt", ".tsv", ""):
        stream = io.BufferedReader(path.open("rb") if path else sys.stdin.buffer)
        header = stream.peek().partition(b"\n")[0].decode("utf-8-sig", "replace")
        separator = max(",;\t", key=header.count)
        options = {"dtype": str, "keep_default_na": False, "skipinitialspace": True, "encoding": "utf-8-sig"}
        with pd.read_csv(stream, sep=separator, chunksize=rows, **options) as reader:
            for frame in reader:
                yield _decimal_points(frame) if separator == ";" else frame
    else:
        raise InputError(f"{path.name}: feeds come from .csv, .tsv, .json, .jsonl, .parquet or .xlsx, not from {suffix}")


def _decimal_points(frame: pd.DataFrame) -> pd.DataFrame:
    "Numbers as a spreadsheet writes them between semicolons, 0,95, with a point."
    numbers = [c for c in frame if str(c).strip().lower() not in LABELS]
    return frame.assign(**{c: frame[c].str.replace(r"^([-+]?\d*),(\d+(?:[eE][-+]?\d+)?)$", r"\1.\2", regex=True) for c in numbers})


def _numbers(column: pd.Series, name: str, where: str, first: int, missing: bool = False) -> np.ndarray:
    "A column as float64, or a sentence about its first cell that is not a number; an empty one is NaN where `missing` is allowed."
    numeric = pd.api.types.is_numeric_dtype(column)
    text = column if numeric else column.astype("string").str.strip()
    values = pd.to_numeric(text, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    bad = ~np.isfinite(values) & ~(text.isna() & missing).to_numpy(bool)
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        cell = column.iloc[k]
        empty = cell is None or (isinstance(cell, float) and math.isnan(cell)) or not str(cell).strip()
        said = "is empty; write 0 for an ion that is absent" if empty else f"is {str(cell).strip()!r}, expected a number"
        if re.fullmatch(r"\s*[-+]?\d+,\d+\s*", str(cell)):
            said += "; write a decimal point, or semicolons between the columns"
        raise InputError(f"{where}: row {first + k + 1}, column {name!r} {said}")
    return values


def read_feeds(
    path: str | Path,  # CSV, TSV, JSON, Parquet or Excel; "-" is CSV on standard input
    rows: int = 2000,  # Rows a piece
) -> Iterator[FeedTable]:  # The file in pieces, so that its length does not matter
    "Feeds from a file: a column an ion, with its unit ('Na+ [mM]', 'SO4-2 [mg/L]'; none means mol/m³), a row a feed."
    path = None if str(path) == "-" else Path(path)
    where = path.name if path else "standard input"
    first = 0
    try:
        for frame in _chunks(path, rows):
            if len(frame) == 0:
                continue
            yield _feed_table(frame, where, first)
            first += len(frame)
    except pd.errors.EmptyDataError:
        pass
    except InputError:
        raise
    except UnicodeDecodeError as e:
        raise InputError(f"{where} is not UTF-8 text; save it as CSV in UTF-8") from e
    except ValueError as e:  # of the parsers
        hint = "; expected records such as [{\"Na+\": 10, \"Cl-\": 10}]" if path and path.suffix.startswith(".json") else ""
        raise InputError(f"{where} is not a readable table: {' '.join(str(e).split())[:200]}{hint}") from e
    if first == 0:
        raise InputError(f"{where} is empty; expected a header such as 'Na+ [mM],Cl- [mM]' and a row for each feed")


def _feed_table(frame: pd.DataFrame, where: str, first: int) -> FeedTable:
    ions, columns, flux, sample = [], [], None, None
    for raw in map(str, frame.columns):
        if raw.strip().lower() in LABELS:
            sample = frame[raw].tolist() if sample is None else sample
        elif _is_flux(raw):
            flux = _numbers(frame[raw], raw, where, first) * _flux_factor(raw, where)
            if (flux <= 0).any():
                k = int(np.flatnonzero(flux <= 0)[0])
                raise InputError(f"{where}: row {first + k + 1}, column {raw!r}: a water flux must be positive")
            _plausible(flux / LMH, f"{where}, column {raw!r}")
        else:
            try:
                ion, factor = ion_column(raw)
            except UnknownIon:
                if raw != (twin := re.sub(r"\.\d+$", "", raw)) and twin in frame.columns:
                    raise InputError(f"{where} has two columns {twin!r}; keep one") from None
                raise InputError(
                    f"{where}: column {raw!r} is neither an ion such as 'Na+ [mM]' nor a flux nor one of {', '.join(LABELS)}; "
                    "a feed table has a column an ion (a salt is written as its ions) and a row a feed"
                ) from None
            except InputError as e:
                raise InputError(f"{where}: column {raw!r}: {e}") from None
            if ion in ions:
                raise InputError(f"{where} has two columns for {ion}; keep one")
            c = _numbers(frame[raw], raw, where, first) * factor
            if (c < 0).any():
                k = int(np.flatnonzero(c < 0)[0])
                raise InputError(f"{where}: row {first + k + 1}, column {raw!r} is negative ({frame[raw].iloc[k]})")
            if (c > SATURATED).any():
                k = int(np.flatnonzero(c > SATURATED)[0])
                raise InputError(f"{where}: row {first + k + 1}, column {raw!r}: {c[k]:g} mol/m3 is more than water dissolves; check the unit")
            ions.append(ion)
            columns.append(c)
    if not ions:
        raise InputError(f"{where} has no ion column; expected a header such as 'Na+ [mM],Cl- [mM]'")
    n = len(frame)
    return FeedTable(
        tuple(ions),
        np.stack(columns, 1),
        None if flux is None else flux[:, None],
        list(range(first, first + n)) if sample is None else sample,
        f"{where} rows {first + 1} to {first + n}",
    )

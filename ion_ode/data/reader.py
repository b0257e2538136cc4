"""Anyone's rejections, from a file, a frame or a pipe, in laboratory units: read, name, convert, check, assemble

Docs: https://ion-ode.github.io/ion_ode/guides/my_data.html.md"""

# One rule for percent, everywhere: a rejection is a fraction unless its header or its cell says %, and a fraction
# above 1 or below LOWEST is refused. Every pass adds to one list of problems; they are raised together, each with
# row, column, value and what to do. What was taken for granted or left out is in the notes.

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ion_ode.core import InputError
from ion_ode.data.measurements import Measurements
from ion_ode.data.rows import checked_rows, flags, kinds, named_rows, no_value_twice, states
from ion_ode.water.ions import get_ion
from ion_ode.store import atomic_write
from ion_ode.water.analysis import feed_matrix
from ion_ode.water.cells import TableError
from ion_ode.water.columns import Columns, name_columns
from ion_ode.water.files import read_table
from ion_ode.water.neutrality import ROUNDING, TOLERANCE

__all__ = [
    "Check",
    "MeasurementError",
    "Reading",
    "check_measurements",
    "load_measurements",
    "measurements_of",
    "read_measurements",
]

MeasurementError = TableError
# ---- assemble


@dataclass
class Reading:
    "What was read: a tidy table in SI, the full feeds behind it, and what a reader should know."

    frame: pd.DataFrame  # One row a value, index row_id
    feeds: (
        pd.DataFrame | None
    )  # state_id, ion, c_feed_mol_m3 of feeds that hold more than was measured; None: the listed ions are the feed
    notes: list[str]
    name: str  # Of the file

    def measurements(self, balance: str | None = None, ions=None) -> Measurements:
        "The container; feeds are neutral from here on."
        m = Measurements.from_frame(self.frame, ions, self.feeds, balance)
        object.__setattr__(m, "notes", (*self.notes, *m.notes))
        return m


def _frame(t: Columns, v: pd.DataFrame, R, bound, sample, state, kind, salt, stem: str, membrane: str) -> pd.DataFrame:
    "The tidy table."
    text = lambda q, default="": t.text(q, default)[v.k]
    sd = v.sd_si.to_numpy()
    number = lambda q: v[q].to_numpy(dtype=float)
    out = pd.DataFrame(
        {
            "source_id": text("source", stem), "doi": text("doi"), "membrane": text("membrane", membrane),
            "solution_id": sample,
            "composition": text("composition") if "composition" in t.one else sample, "state_id": state,
            "temperature_K": number("temperature"),
            "pH": number("pH"), "flux_m_s": number("flux"), "pressure_Pa": number("pressure"), "ion": v.ion.to_numpy(),
            "z": [get_ion(i).z for i in v.ion],
            "c_feed_mol_m3": number("c_feed_si"), "rejection": R, "rejection_sd": sd,
            "sd_meaning": np.where(np.isfinite(sd), "as given in the file", "not given"),
            "kind": kind, "censored": bound != "", "salt_level": salt,
            "weight": np.where(salt & ("weight" not in t.one), 0.5, np.nan_to_num(number("weight"), nan=1.0)),
            "note": text("note"),
        }
    )  # fmt: skip
    for column, values in (
        ("bound", bound),
        ("coupon", text("coupon") if "coupon" in t.one else None),
        ("film_m", number("film") if "film" in t.one else None),
    ):
        if values is not None and (column != "bound" or (bound == "<").any()):
            out[column] = values
    own = text("row") if "row" in t.one else np.full(len(v), "")
    made = [f"{s}/{i}{'' if k == 'observed' else '/' + k}" for s, i, k in zip(state, v.ion, kind, strict=True)]
    out.index = pd.Index(own if (own != "").all() and len(set(own)) == len(own) else made, name="row_id")
    return out


def _whole_feeds(t: Columns, v: pd.DataFrame, state: np.ndarray, ions, c: np.ndarray) -> pd.DataFrame | None:
    "Full feeds of the states, where the table has a column an ion."
    if not ions:
        return None
    first = pd.DataFrame({"state": state, "k": v.k}).drop_duplicates("state")
    at, j = np.nonzero(c[first.k] > 0)
    return pd.DataFrame(
        {
            "state_id": first.state.to_numpy()[at],
            "ion": np.array(ions, dtype=object)[j],
            "c_feed_mol_m3": c[first.k.to_numpy()[at], j],
        }
    )


def read(
    source,  # As for `load_measurements`
    *,
    units: dict[str, str] | None = None,
    columns: dict[str, str] | None = None,
    decimal: str | None = None,
    membrane: str = "not named",
    kind: str = "observed",
    source_id: str | None = None,
    sheet: str | None = None,
    needs_flux: bool = True,  # Whether every value must have a flux
) -> Reading:  # Nothing is closed or refused for its charge yet
    "A table of rejections in SI; raises all problems at once."
    raw = read_table(source, sheet)
    t = name_columns(raw, units, columns, decimal)
    v = named_rows(t, needs_flux)
    ions, c = feed_matrix(t, True) if t.ions("c_feed") else ((), np.zeros((len(raw.cells), 0)))
    v, R, bound = checked_rows(t, v, needs_flux)
    kind = kinds(t, v, kind)
    said, salt, own = flags(t, v, "censored"), flags(t, v, "salt_level").astype(bool), t.text("bound")[v.k]
    salt |= (v.salt != "").to_numpy() if "salt" in v else False
    said = np.where(np.isin(own, ("<", ">")), own, said)
    true = np.array([b is True for b in said])
    bound = np.where(np.isin(said, ("<", ">")), said, np.where(true, np.where(R > 0, ">", "<"), bound))
    stem = source_id or (Path(raw.name).stem if raw.name != "the table" else "table")
    sample, state = states(t, v, c, stem)
    no_value_twice(t, v, state, kind, salt, R)
    if t.problems:
        raise TableError(raw.name, sorted(dict.fromkeys(t.problems), key=lambda p: -1 if p[0] is None else p[0]))
    frame = _frame(t, v, R, bound, sample, state, kind, salt, stem, membrane)
    return Reading(frame, _whole_feeds(t, v, state, ions, c), t.notes, raw.name)


def _charge_balance(
    df: pd.DataFrame,  # Measurements
    feeds: pd.DataFrame | None = None,  # state_id, ion, c_feed_mol_m3 of the full feeds; None: the listed ions
) -> pd.DataFrame:  # Index state_id: cations, anions [mol charge/m³] and imbalance (Eq. T.2)
    "Charge balance of the feed of each run."
    g = (df if feeds is None else feeds).drop_duplicates(["state_id", "ion"])
    q = g.c_feed_mol_m3 * [get_ion(i).z for i in g.ion]
    out = pd.DataFrame(
        {
            "cations_mol_m3": q.clip(lower=0).groupby(g.state_id).sum(),
            "anions_mol_m3": (-q).clip(lower=0).groupby(g.state_id).sum(),
        }
    )
    out["imbalance"] = (out.cations_mol_m3 - out.anions_mol_m3) / (out.cations_mol_m3 + out.anions_mol_m3)
    return out


def _closed(found: Reading, balance: str) -> Reading:
    "The feeds closed on an ion, and the table's rows of it with them."
    m = found.measurements(balance)
    frame, c = found.frame.copy(), m.c_feed[m.state, m.ion]
    changed = np.abs(c - frame.c_feed_mol_m3) > ROUNDING * c
    frame["c_feed_mol_m3"] = c
    frame.loc[changed, "note"] = (frame.note[changed] + "; c_feed closed on charge").str.lstrip("; ")
    state, j = np.nonzero(m.c_feed > 0)
    feeds = pd.DataFrame(
        {"state_id": m.run[state], "ion": np.array(m.ions, dtype=object)[j], "c_feed_mol_m3": m.c_feed[state, j]}
    )
    return Reading(frame, feeds, list(m.notes), found.name)


def read_measurements(
    source,  # As for `load_measurements`
    *,
    balance: str | None = None,  # Ion that closes the charge balance of each feed
    **options,  # As for `load_measurements`
) -> Measurements:
    "Anyone's measurements in the container; raises `MeasurementError` with all problems at once."
    return read(source, **options).measurements(balance)


def measurements_of(
    source,  # Measurements, or anything `load_measurements` reads, or its result
    *,
    feeds: pd.DataFrame | None = None,  # Full feeds: solution_id (or state_id), ion, c_feed_mol_m3; None: own, shipped
    balance: str | None = None,  # Ion that closes the charge balance of each feed
    kind: str = "observed",  # Where the table has no such column
) -> Measurements:  # Every value with a flux; a warning for each note
    "Measurements for a model that needs a flux, from any door."
    if isinstance(source, Measurements):
        m = source
    else:
        from ion_ode.data.nf270 import load_solutions

        found = read(source, needs_flux=False, kind=kind)
        own = source.attrs.get("feeds") if isinstance(source, pd.DataFrame) else None
        if found.feeds is None:
            found.feeds = feeds if feeds is not None else own if own is not None else load_solutions()
        m = found.measurements(balance)
        for n in m.notes:
            warnings.warn(f"{found.name}: {n}", stacklevel=3)
    has_flux = np.isfinite(m.flux[m.state])
    if not has_flux.any():
        raise InputError("no measurement has both a flux and a rejection; give the water flux, such as 'flux [LMH]'")
    if not has_flux.all():
        warnings.warn(f"{(~has_flux).sum()} of {len(m)} values have no flux and are left out", stacklevel=3)
    return m if has_flux.all() else m.select(has_flux)


def load_measurements(
    path,  # .csv, .tsv, .xlsx, .json, .parquet, "-" for a pipe, or a frame; one row an ion, or one column an ion
    *,
    units: dict[str, str] | None = None,  # Unit of a column without one: {"flux": "LMH"}
    columns: dict[str, str] | None = None,  # Your header for a name above: {"flux": "Permeation"}
    decimal: str | None = None,  # "," where numbers are written 0,95; None: what the cells show
    balance: str | None = None,  # Close the charge balance of each feed on this ion
    membrane: str = "not named",  # Where the file has no such column
    kind: str = "observed",  # Where the file has no such column
    source: str | None = None,  # `source_id`; None: the file's stem
    sheet: str | None = None,  # Of a workbook; None: the first that holds anything
) -> pd.DataFrame:  # Tidy table in SI; .attrs: "charge" (balance of each feed), "feeds" (whole feeds), "notes"
    "Anyone's measurements as a tidy table; raises `MeasurementError` with all problems at once."
    found = read(
        path, units=units, columns=columns, decimal=decimal, membrane=membrane, kind=kind, source_id=source, sheet=sheet
    )
    if balance is not None:
        found = _closed(found, balance)
    out = found.frame
    for n in found.notes:
        warnings.warn(f"{found.name}: {n}", stacklevel=2)
    out.attrs = {"charge": _charge_balance(out, found.feeds), "feeds": found.feeds, "notes": found.notes}
    return out


# ---- the verdict


@dataclass(frozen=True, repr=False)
class Check:
    "What was found in a measurement file."

    ok: bool  # Can it be used
    text: str  # The verdict, for a person
    frame: pd.DataFrame | None  # The cleaned table
    problems: pd.DataFrame | None  # row, column, value, problem, fix
    clean_path: Path | None  # Where the cleaned table was written

    def __repr__(self):
        return self.text


def _free_name(path: Path, content: str) -> Path:
    "NAME.clean.csv, or the first of NAME.clean-2.csv, ... that is free or already holds this content."
    for k in range(1, 1000):
        p = path.with_name(f"{path.stem}.clean{'' if k == 1 else f'-{k}'}.csv")
        if not p.exists() or p.read_bytes() == content.encode():
            return p
    raise InputError(f"a thousand cleaned copies of {path.name} lie beside it; remove some")


def _charge_lines(found: Reading, charge: pd.DataFrame) -> list[str]:
    "Whether the feeds are neutral, and what closes them; raises what else no model can use."
    off = charge[charge.imbalance.abs() > TOLERANCE]
    try:
        m = found.measurements()
        return [f"  charge: {n}" for n in m.notes if n not in found.notes] or [
            f"  charge: every run closes within {charge.imbalance.abs().max():.1%}"
        ]
    except InputError:
        if off.empty:
            raise
    worst = charge.imbalance.abs().idxmax()
    sign = "Cl-" if charge.imbalance[worst] > 0 else "Na+"
    return [
        f"  charge: {len(off)} of {len(charge)} runs are off by more than {TOLERANCE:.0%}, worst "
        f"{charge.imbalance[worst]:+.1%} ({worst}); to use them, add the ion that is missing or close the charge with "
        f"balance={sign!r}"
    ]


def check_measurements(
    path: str | Path,  # The file
    *,
    write: bool = True,  # Write the cleaned copy beside it
    balance: str | None = None,  # Close the charge balance of each feed on this ion
    source: str | None = None,  # As for `load_measurements`
    **options,  # As for `load_measurements`
) -> Check:
    "Read a measurement file and say what is in it, or all that is wrong with it; never changes the file."
    path = Path(path)
    try:
        found = read(path, source_id=source, **options)
        found = found if balance is None else _closed(found, balance)
        charge = _charge_balance(found.frame, found.feeds)
        closing = _charge_lines(found, charge)
    except MeasurementError as e:
        return Check(False, str(e), None, e.problems, None)
    except InputError as e:
        problem, _, fix = str(e).partition("; ")
        return Check(
            False,
            f"{path.name}: {e}",
            None,
            pd.DataFrame([(None, "", "", problem, fix)], columns=["row", "column", "value", "problem", "fix"]),
            None,
        )
    d = found.frame
    d.attrs = {"charge": charge, "feeds": found.feeds, "notes": found.notes}
    lines = _summary(path, d) + closing + [f"  note: {n}" for n in found.notes]
    clean = None
    if write:
        content = _with_feeds(d, found.feeds).to_csv(lineterminator="\n")
        clean = _free_name(path, content)
        atomic_write(clean, content)
        lines.append(f"  cleaned copy: {clean.name}")
    return Check(True, "\n".join(lines), d, None, clean)


def _with_feeds(d: pd.DataFrame, feeds: pd.DataFrame | None) -> pd.DataFrame:
    "The table with a column an ion of the feed, where a feed holds an ion that was not measured."
    if feeds is None or set(zip(feeds.state_id, feeds.ion)) <= set(zip(d.state_id, d.ion)):
        return d
    wide = feeds.pivot(index="state_id", columns="ion", values="c_feed_mol_m3").fillna(0.0)
    return d.assign(**{f"{ion} [mol/m3]": wide[ion].loc[d.state_id].to_numpy() for ion in dict.fromkeys(feeds.ion)})


def _summary(path: Path, d: pd.DataFrame) -> list[str]:
    "What is in a table."
    lines = [
        f"{path.name}: {len(d)} values, {d.state_id.nunique()} runs, {d.solution_id.nunique()} feed(s), ions "
        f"{', '.join(dict.fromkeys(d.ion))}",
        f"  flux {d.flux_m_s.min() * 3.6e6:.3g} to {d.flux_m_s.max() * 3.6e6:.3g} L/m2/h, "
        f"rejection {d.rejection.min():.3g} to {d.rejection.max():.3g} ({int((d.rejection < 0).sum())} negative, "
        f"{int(d.censored.sum())} censored), {' and '.join(sorted(set(d.kind)))}",
    ]
    if d.rejection.abs().max() <= 0.01:
        lines.append("  rejection: none above 1 %; if these are fractions, write the column as 'rejection [-]'")
    if d.rejection_sd.isna().any():
        lines.append(f"  {int(d.rejection_sd.isna().sum())} values have no standard deviation")
    return lines

"""One container for a measured rejection, from every reader to solver, fit, posterior, networks and scores"""

from dataclasses import dataclass, fields, replace
from fastcore.basics import patch
import numpy as np
import pandas as pd
from ion_ode.core import LMH, T_REF, InputError
from ion_ode.water.ions import get_ion, ion_name
from ion_ode.water.neutrality import close_charge
from ion_ode.water.units import as_fractions

__all__ = ["KINDS", "Measurements", "concat_measurements"]


# Against the bulk feed, against the concentration at the membrane, not said
KINDS = ("observed", "intrinsic", "unstated")
_BOUNDS = ("", "<", ">")  # A value; at most the value; at least the value
_STATE = {  # field: (column of a tidy table, what stands where the table is silent)
    "flux": ("flux_m_s", np.nan),
    "pressure": ("pressure_Pa", np.nan),
    "temperature": ("temperature_K", T_REF),
    "pH": ("pH", np.nan),
    "film": ("film_m", np.nan),
    "kind": ("kind", "observed"),
    "membrane": ("membrane", "not named"),
    "source": ("source_id", "not named"),
    "coupon": ("coupon", ""),
    "sample": ("solution_id", "feed"),
    "composition": ("composition", ""),
    "run": ("state_id", ""),
    "doi": ("doi", ""),
}
_VALUE = {
    "rejection": ("rejection", np.nan),
    "sd": ("rejection_sd", np.nan),
    "weight": ("weight", 1.0),
    "censored": ("censored", ""),
    "salt_level": ("salt_level", False),
    "note": ("note", ""),
    "row": ("row_id", ""),
}


@dataclass(frozen=True, repr=False, eq=False)
class Measurements:
    "Measured rejections with what was upstream of them; all arrays are read-only."

    ions: tuple[str, ...]  # Canonical names, the columns of c_feed
    c_feed: np.ndarray  # (state, ion) neutral; 0 absent [mol/m³]
    flux: np.ndarray  # (state,) nan: not known [m/s]
    pressure: np.ndarray  # (state,) [Pa]
    temperature: np.ndarray  # (state,) 298.15 where the source is silent [K]
    pH: np.ndarray  # (state,)
    film: np.ndarray  # (state,) thickness in front of an observed rejection; nan: the default [m]
    kind: np.ndarray  # (state,) one of KINDS
    membrane: np.ndarray  # (state,)
    source: np.ndarray  # (state,) who measured
    coupon: np.ndarray  # (state,) piece of membrane; states of one coupon share its scatter
    sample: np.ndarray  # (state,) name of the feed
    composition: np.ndarray  # (state,) group that is held out together
    run: np.ndarray  # (state,)
    doi: np.ndarray  # (state,)
    state: np.ndarray  # (value,) int, which state
    ion: np.ndarray  # (value,) int, which of `ions`
    rejection: np.ndarray  # (value,)
    sd: np.ndarray  # (value,) standard deviation; nan: not given
    weight: np.ndarray  # (value,) 1/2 on either ion of a salt-level pair
    censored: np.ndarray  # (value,) one of _BOUNDS
    salt_level: np.ndarray  # (value,) bool: one value of a salt, written on both its ions
    note: np.ndarray  # (value,)
    row: np.ndarray  # (value,) name of the row it came from
    notes: tuple[str, ...] = ()  # What a reader should know: which ion closed a feed, what was not used

    def __post_init__(self):
        for f in fields(self):
            if isinstance(v := getattr(self, f.name), np.ndarray):
                v.setflags(write=False)

    def __len__(self) -> int:
        return len(self.rejection)

    @property
    def n_states(self) -> int:
        "Number of states."
        return len(self.flux)

    def __repr__(self):
        return _said(self)

    @classmethod
    def from_frame(cls, frame, ions=None, feeds=None, balance=None) -> "Measurements":
        """From a tidy table in SI; `feeds`: solution_id (or state_id), ion, c_feed_mol_m3 of every ion; `balance`: the
        ion that closes each feed."""
        return _from_frame(frame, ions, feeds, balance)

    @property
    def bound(self) -> np.ndarray:
        "(value,) 1 where the rejection is at least, -1 where it is at most what stands there, 0 where it is a value."
        return (self.censored == ">").astype(float) - (self.censored == "<").astype(float)


@patch
def select(self: Measurements, keep) -> "Measurements":
    "Values by mask, index or query; states without a value go."
    return _select(self, keep)


@patch
def film_or(self: Measurements, thickness) -> np.ndarray:
    "Film in front of every state [m]: its own, else `thickness`; none before an intrinsic value."
    return np.where(
        self.kind == "intrinsic",
        0.0,
        np.where(np.isnan(self.film), 0.0 if thickness is None else thickness, self.film),
    )


@patch
def on(self: Measurements, ions) -> "Measurements":
    "The same in the columns `ions`."
    return _on(self, ions)


@patch
def grid(self: Measurements, field: str, empty=np.nan) -> np.ndarray:
    "A field of the values as (state, ion)."
    return _grid(self, field, empty)


@patch
def to_frame(self: Measurements) -> pd.DataFrame:
    "One row a value, index row_id."
    return _to_frame(self)


def _said(m: Measurements) -> str:
    "What it holds, as a sentence."
    seen = [i for k, i in enumerate(m.ions) if (m.ion == k).any()]
    some = lambda v: (
        ", ".join(map(str, (u := list(dict.fromkeys(v)))[:3])) + (f" and {len(u) - 3} more" if len(u) > 3 else "")
    )
    said = f"{len(m)} rejections of {', '.join(seen)} in {m.n_states} states of {len(set(m.sample))} feeds"
    said += f" on {some(m.membrane)} ({some(m.source)})"
    J = m.flux[np.isfinite(m.flux)] / LMH
    said += f", flux {J.min():.3g} to {J.max():.3g} L/m²/h" if len(J) else ", flux not known"
    said += f", {some(m.kind)}"
    more = {"are bounds": (m.censored != "").sum(), "have a standard deviation": np.isfinite(m.sd).sum()}
    return said + "".join(f"; {n} {what}" for what, n in more.items() if n)


def _columns(frame: pd.DataFrame) -> pd.DataFrame:
    "All columns of both lists, silent ones filled in."
    if missing := [c for c in ("ion", "c_feed_mol_m3", "rejection") if c not in frame]:
        raise InputError(
            f"measurements lack the column(s) {', '.join(missing)}; expected ion, flux_m_s (or 'flux [LMH]'), "
            "c_feed_mol_m3 (or 'feed [mg/L]'), "
            "rejection (or 'rejection [%]') and, if known, state_id, solution_id, temperature_K, kind, weight"
        )
    if frame.empty:
        raise InputError("the measurements are empty; give one row an ion")
    out = {"ion": [ion_name(i) for i in frame["ion"]], "c_feed_mol_m3": frame["c_feed_mol_m3"].to_numpy(dtype=float)}
    for column, silent in [*(_STATE | _VALUE).values(), ("bound", "")]:
        v = (
            frame[column]
            if column in frame
            else pd.Series(frame.index.astype(str) if column == "row_id" else [silent] * len(frame))
        )
        v = v.fillna(silent) if silent == silent else v
        out[column] = v.to_numpy() if not isinstance(silent, float) else v.to_numpy(dtype=float)
    return pd.DataFrame(out)


def _bounds(d: pd.DataFrame) -> np.ndarray:
    """Which values are bounds: '<', '>', or true, which is a permeate at its detection limit, or a zero for what was
    negative."""
    true = d.censored.map(lambda v: str(v).strip().lower() in ("true", "1", "1.0", "yes")).to_numpy(bool)
    said = (
        d.bound.where(d.bound.isin(("<", ">")), d.censored).map(lambda v: v if v in ("<", ">") else "").to_numpy(object)
    )
    return np.where(said != "", said, np.where(true, np.where(d.rejection > 0, ">", "<"), ""))


def _states(d: pd.DataFrame) -> pd.DataFrame:
    "Rows with their state numbered and their run named; refuses a run whose rows differ in what a state has once."
    once = ["flux_m_s", "pressure_Pa", "temperature_K", "pH", "film_m"]
    unnamed = d.state_id == ""
    if unnamed.any():
        part = d[unnamed].fillna(dict.fromkeys(once, -1.0))
        number = (
            part.groupby(["solution_id", *once], sort=False)
            .ngroup()
            .groupby(part.solution_id)
            .transform(lambda k: pd.factorize(k)[0] + 1)
        )
        d.loc[unnamed, "state_id"] = part.solution_id.astype(str) + number.map("/{:02d}".format)
    d["state"] = pd.factorize(pd.MultiIndex.from_frame(d[["membrane", "state_id", "kind"]]))[0]
    first = d.drop_duplicates("state").set_index("state")[once].loc[d.state].to_numpy()
    if (off := (first != d[once].to_numpy()) & ~(np.isnan(first) & np.isnan(d[once].to_numpy()))).any():
        row, column = np.argwhere(off)[0]
        raise InputError(
            f"run {d.state_id.iloc[row]} has two values of {once[column]}, {first[row, column]:g} and "
            f"{d[once[column]].iloc[row]:g}; give each run its own name"
        )
    return d


def _with_siblings(d: pd.DataFrame) -> pd.DataFrame:
    "Feed of every state by ion; one run's observed and intrinsic values have one feed."
    rows = d[["state", "ion", "c_feed_mol_m3"]]
    run = pd.factorize(pd.MultiIndex.from_frame(d[["membrane", "state_id"]]))[0]
    if run.max() == d.state.max():  # one kind a run
        return rows
    of_run = d.assign(run=run)[["run", "state"]].drop_duplicates().merge(rows.drop(columns="state").assign(run=run))
    return pd.concat([rows, of_run[rows.columns]], ignore_index=True)


def _feeds(
    d: pd.DataFrame,  # Rows, with their state in `state`
    ions: tuple[str, ...] | None,  # Columns wanted; None: as they come
    feeds: pd.DataFrame | None,  # Full feeds by solution_id or state_id
) -> tuple[tuple[str, ...], np.ndarray]:  # Ions; (state, ion) [mol/m³]
    "The feed of every state, as listed."
    rows = _with_siblings(d)
    if feeds is not None:
        by = "state_id" if "state_id" in feeds else "solution_id"
        known = d[["state", by]].drop_duplicates().merge(feeds[[by, "ion", "c_feed_mol_m3"]], on=by)
        known["ion"] = [ion_name(i) for i in known.ion]
        names = tuple(dict.fromkeys([*known.ion, *rows.ion]))
        rows = pd.concat([rows, known[rows.columns]])  # what a row says of its own ion comes first
    names = tuple(dict.fromkeys(rows.ion)) if feeds is None else names
    if ions is not None:
        if unknown := [i for i in names if i not in ions and (rows.c_feed_mol_m3[rows.ion == i] > 0).any()]:
            raise InputError(
                f"the feeds hold {', '.join(unknown)}, for which there is no slot; pass ions=(..., {unknown[0]!r})"
            )
        names = tuple(ions)
    rows = rows[rows.ion.isin(names)].drop_duplicates(["state", "ion"])
    c = np.zeros((int(d.state.max()) + 1, len(names)))
    c[rows.state, rows.ion.map({i: k for k, i in enumerate(names)})] = rows.c_feed_mol_m3.fillna(0.0)
    return names, c


def _from_frame(frame, ions=None, feeds=None, balance=None) -> Measurements:
    "Compose a container from a tidy table."
    feeds = frame.attrs.get("feeds") if feeds is None else feeds
    d = _states(_columns(frame))
    first = d.drop_duplicates("state")[[column for column, _ in _STATE.values()]]
    names, c = _feeds(d, None if ions is None else tuple(ion_name(i) for i in ions), feeds)
    if balance is not None and ion_name(balance) not in names:
        names, c = (*names, ion_name(balance)), np.column_stack([c, np.zeros(len(c))])
    label = lambda k: f"the feed of run {first.state_id.iloc[k]}"
    closure = close_charge(c, names, balance, label)
    if outside := sorted(set(d.ion) - set(names)):
        raise InputError(
            f"rejections of {', '.join(outside)} have no slot; pass ions=(..., {outside[0]!r}) or leave the rows out"
        )
    state = {f: first[column].to_numpy() for f, (column, _) in _STATE.items()}
    value = {f: d[column].to_numpy() for f, (column, _) in _VALUE.items()} | {
        "rejection": as_fractions(d.rejection),
        "censored": _bounds(d),
        "salt_level": d.salt_level.to_numpy(bool),
    }
    ion = d.ion.map({i: k for k, i in enumerate(names)}).to_numpy()
    if not set(state["kind"]) <= set(KINDS):
        raise InputError(f"kind is {sorted(set(state['kind']) - set(KINDS))[0]!r}; write one of {', '.join(KINDS)}")
    return Measurements(
        names,
        closure.applied(c),
        **state,
        state=d.state.to_numpy(),
        ion=ion,
        **value,
        notes=tuple(closure.notes(label)),
    )


def _select(m: Measurements, keep) -> Measurements:
    "Values by mask or query."
    if isinstance(keep, str):
        frame = m.to_frame().reset_index()
        keep = frame.index.isin(frame.query(keep).index)
    keep = np.asarray(keep)
    at = np.flatnonzero(keep) if keep.dtype == bool else keep.astype(int)
    states, state = np.unique(m.state[at], return_inverse=True)
    part = {f: getattr(m, f)[states] for f in ("c_feed", *_STATE)} | {f: getattr(m, f)[at] for f in ("ion", *_VALUE)}
    return replace(m, **part, state=state.ravel())


def concat_measurements(parts: list[Measurements]) -> Measurements:
    "Containers one after another, in the ions of all."
    ions = tuple(dict.fromkeys(i for p in parts for i in p.ions))
    parts = [p.on(ions) for p in parts]
    offset = np.cumsum([0, *(p.n_states for p in parts[:-1])])
    join = lambda f: np.concatenate([getattr(p, f) for p in parts])
    state = np.concatenate([p.state + k for p, k in zip(parts, offset, strict=True)])
    return Measurements(
        ions,
        **{f: join(f) for f in ("c_feed", *_STATE, "ion", *_VALUE)},
        state=state,
        notes=tuple(dict.fromkeys(n for p in parts for n in p.notes)),
    )


def _on(m: Measurements, ions) -> Measurements:
    "The same in the columns `ions`."
    ions = tuple(ion_name(i) for i in ions)
    used = (m.c_feed > 0).any(0)
    used[m.ion] = True
    if lost := [i for i, u in zip(m.ions, used, strict=True) if u and i not in ions]:
        raise InputError(f"the feeds hold {', '.join(lost)}, for which there is no slot; pass ions=(..., {lost[0]!r})")
    at = np.array([ions.index(i) if i in ions else -1 for i in m.ions])
    c = np.zeros((m.n_states, len(ions)))
    c[:, at[at >= 0]] = m.c_feed[:, at >= 0]
    return replace(m, ions=ions, c_feed=c, ion=at[m.ion])


def _to_frame(m: Measurements) -> pd.DataFrame:
    "One row a value, index row_id."
    state = {column: getattr(m, f)[m.state] for f, (column, _) in _STATE.items()}
    name = np.array(m.ions, dtype=object)[m.ion]
    value = {"ion": name, "z": [get_ion(i).z for i in name], "c_feed_mol_m3": m.c_feed[m.state, m.ion]}
    value |= {column: getattr(m, f) for f, (column, _) in _VALUE.items()}
    value |= {
        "sd_meaning": np.where(np.isfinite(m.sd), "as given", "not given"),
        "censored": m.censored != "",
        "bound": m.censored,
    }
    out = pd.DataFrame(state | value).set_index("row_id")
    at, j = np.nonzero(m.c_feed > 0)
    out.attrs["feeds"] = pd.DataFrame(
        {"state_id": m.run[at], "ion": np.array(m.ions, dtype=object)[j], "c_feed_mol_m3": m.c_feed[at, j]}
    )
    return out


def _grid(m: Measurements, field: str, empty=np.nan) -> np.ndarray:
    "A field of the values as (state, ion)."
    v = getattr(m, field)
    out = np.full(m.c_feed.shape, empty, dtype=object if v.dtype == object else None)
    out[m.state, m.ion] = v
    return out

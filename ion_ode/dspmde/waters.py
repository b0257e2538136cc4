"""A laboratory's analysis in, the rejection of every solute and the pH of the permeate out

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

# The membrane meets a water as ions and neutral solutes that do not react on their way through it: a pore is crossed
# in milliseconds, CO2 takes seconds to become HCO3-. What came through settles at a pH of its own, no gas leaving.

import warnings
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ion_ode.core import T_REF, InputError, is_frame
from ion_ode.dspmde.charge_pH import at_pH
from ion_ode.dspmde.conditions import at_temperature
from ion_ode.dspmde.membranes import NF270, Membrane
from ion_ode.dspmde.solve import simulate
from ion_ode.water.chemistry import KNOWN, Speciation, carried, pH_of, speciate
from ion_ode.water.feeds import FeedTable, feed_table, flux_of
from ion_ode.water.ions import ion_name
from ion_ode.water.neutrality import close_charge

__all__ = ["TOGETHER", "Water", "as_met", "read_waters", "simulate_water", "totals_of"]

TOGETHER = {  # Reported as one solute: name, and its parts
    "inorganic carbon": ("CO2", "HCO3-", "CO3-2"), "NH4+ and NH3": ("NH4+", "NH3"), "boron": ("H3BO3", "H2BO3-"),
    "phosphate": ("H2PO4-", "HPO4-2", "PO4-3"), "SO4-2": ("SO4-2", "HSO4-", "MgSO4", "CaSO4"),
    "Mg+2": ("Mg+2", "MgSO4"), "Ca+2": ("Ca+2", "CaSO4"),
}  # fmt: skip
_PAIRS = ("MgSO4", "CaSO4")
_AT = 0.05  # Saturation index within which a water is at saturation: analyses leave no more
_STRONG = 500.0  # Ionic strength beyond which the built-in activities are extrapolated [mol/m³]


@dataclass(frozen=True, repr=False)
class Water:
    "Waters of a laboratory's table as a membrane meets them."

    label: list  # What the table calls them
    feed: list[dict[str, float]]  # {ion or solute: mol/m³}, neutral
    speciation: list[Speciation]
    temperature: np.ndarray  # (batch,) [K]
    spread: list[dict[str, float]] = field(default_factory=list)  # {ion: sd of replicates, as analysed [mol/m³]}
    notes: list[str] = field(default_factory=list)
    flux: np.ndarray | None = None  # Of the table, (n_flux,) or (batch, n_flux) [m/s]

    def __repr__(self):
        return "\n".join(f"{n}: {s!r}" for n, s in zip(self.label, self.speciation, strict=True))


def _replicates(t: FeedTable) -> tuple[FeedTable, list[dict[str, float]], list[str]]:
    "Rows of one name, and of one flux where they have one, as their mean; standard deviations, and words."
    rows, each = {}, np.ndim(t.flux) == 2 and len(t.flux) == len(t.sample)
    for k, name in enumerate(t.sample):
        key = name if isinstance(name, str) else k, float(t.flux[k, 0]) if each else None
        rows.setdefault(key, []).append(k)
    groups = list(rows.values())
    if len(groups) == len(t.sample):
        return t, [{} for _ in groups], []
    mean = lambda v: None if v is None else np.array([_mean(v[g]) for g in groups])
    spread = [dict(zip(t.ions, t.c_feed[g].std(0, ddof=1).tolist())) if len(g) > 1 else {} for g in groups]
    merged = replace(
        t, c_feed=mean(t.c_feed), flux=mean(t.flux) if each else t.flux, pH=mean(t.pH), temperature=mean(t.temperature),
        sample=[t.sample[g[0]] for g in groups],
    )  # fmt: skip
    notes = []
    for g, c, sd in zip(groups, merged.c_feed, spread, strict=True):
        if sd:
            ion = max(sd, key=lambda i: sd[i] / max(c[t.ions.index(i)], 1e-12))
            said = f"{ion} differs most, {c[t.ions.index(ion)]:.4g} ± {sd[ion]:.2g} mol/m³"
            notes.append(f"{t.sample[g[0]]}: {len(g)} replicates as their mean; {said} (standard deviation)")
    return merged, spread, notes


def _mean(v: np.ndarray) -> np.ndarray:
    "Mean over rows of what is written; nan where nothing is."
    have = ~np.isnan(v)
    return np.where(have.any(0), np.where(have, v, 0.0).sum(0) / np.maximum(have.sum(0), 1), np.nan)


def _ranges(label, s: Speciation) -> list[str]:
    "Words for a water beyond the constants' ground, or that may scale."
    out = []
    if s.strength > _STRONG:
        said = f"{label}: ionic strength {s.strength / 1000:.2g} mol/L"
        out.append(f"{said}: activities beyond .5 mol/L are extrapolated; Pitzer's are in ion_ode.water.phreeqc")
    for said, low, high in (("is oversaturated", _AT, np.inf), ("is at saturation", -_AT, _AT)):
        if found := [f"{k} {v:+.2f}" for k, v in s.saturation.items() if low < v <= high]:
            out.append(f"{label} {said} (saturation index) in {', '.join(found)}")
    return out


def read_waters(
    table,  # FeedTable, or a frame with a column an ion, pH, alkalinity, temperature; a row a water
    pH=None,  # For waters whose row has none
    temperature=None,  # [K], the same; None: 298.15
    pairs: tuple[str, ...] = (),  # Ion pairs that move as such: MgSO4, CaSO4
    balance: str | None = None,  # Ion that closes the charge balance; None: the most abundant of the sign that lacks
) -> Water:
    "Close the charge balance of every water and find what it holds at its pH; replicates count as their mean."
    t = table if isinstance(table, FeedTable) else feed_table(table, used=("pH", "temperature"))
    t, spread, said = _replicates(t)
    name = lambda k: t.sample[k] if isinstance(t.sample[k], str) else f"feed {t.sample[k]}"
    if "H+" in t.ions and (t.c_feed[:, t.ions.index("H+")] > 0).any():
        raise InputError("H+ is given, which the pH says already; leave it out")
    fill = lambda have, given: np.where(np.isnan(have), np.nan if given is None else given, have)
    none = np.full(len(t.c_feed), np.nan)
    at = fill(none if t.pH is None else t.pH, pH)
    T = fill(none if t.temperature is None else t.temperature, T_REF if temperature is None else temperature)
    if np.isnan(at).any():
        raise InputError(f"{name(int(np.isnan(at).argmax()))} has no pH; add a column pH, or say --ph")
    if balance is not None and ion_name(balance) not in t.ions:
        t = replace(t, ions=(*t.ions, ion_name(balance)), c_feed=np.column_stack([t.c_feed, np.zeros(len(t.c_feed))]))
    closure = close_charge(t.c_feed, t.ions, balance, name)
    c = closure.applied(t.c_feed)
    notes, found, beside = [*said, *closure.notes(name)], [], []
    apart = [i for i in t.ions if i not in KNOWN | {"H+", "OH-"}]
    if apart:
        notes.append(f"{', '.join(apart)}: counted in the charge balance and asked for, but without reactions")
    for k, row in enumerate(c):
        base = float(sum(n * row[t.ions.index(i)] for i, n in (("HCO3-", 1), ("CO3-2", 2), ("OH-", 1)) if i in t.ions))
        held = {i: float(v) for i, v in zip(t.ions, row, strict=True) if v > 0 and i not in ("HCO3-", "CO3-2", "OH-")}
        beside.append({i: held.pop(i) for i in apart if i in held})
        found.append(speciate(held, float(at[k]), float(T[k]), alkalinity=base + _given(held)))
        notes += _ranges(name(k), found[-1])
    feed = [carried(s, pairs) | more for s, more in zip(found, beside, strict=True)]
    return Water(list(t.sample), feed, found, T, spread, notes, t.flux)


def _given(held: dict[str, float]) -> float:
    "Alkalinity of bases that have columns of their own."
    return sum(n * held.get(i, 0.0) for i, n in (("H2BO3-", 1), ("HPO4-2", 1), ("NH3", 1), ("HSO4-", -1)))


def as_met(w: Water) -> tuple[tuple[str, ...], np.ndarray]:  # Names, concentrations (batch, ion) [mol/m³]
    "What the waters hold, by the names of ions and solutes; a pair is a solute, where in a feed it would be a salt."
    names = tuple(dict.fromkeys(i for f in w.feed for i in f))
    return names, np.array([[f.get(i, 0.0) for i in names] for f in w.feed])


def totals_of(c: dict[str, float]) -> dict[str, float]:
    "Amounts as a laboratory reports them."
    parts = {p for names in TOGETHER.values() for p in names}
    out = {k: v for k, v in c.items() if k not in parts and k not in ("H+", "OH-")}
    for name, names in TOGETHER.items():
        if (total := sum(c.get(p, 0.0) for p in names)) > 0:
            out[name] = total
    return out


_COLUMNS = ("sample", "flux_m_s", "ion", "c_feed", "c_perm", "rejection", "pH_feed", "pH_perm")


def _passed(w: Water, sol) -> "pd.DataFrame":
    "What passes of every solute, pairs taken apart, and the pH behind; NaN where there is no solution."
    import pandas as pd

    rows = []
    for k, j in np.ndindex(sol.ok.shape):
        feed, lost = totals_of(w.feed[k]), not sol.ok[k, j]
        through = {i: float(v) for i, v in zip(sol.ions, sol.c_perm[k, j], strict=True) if w.feed[k].get(i, 0) > 0}
        perm = dict.fromkeys(feed, np.nan) if lost else totals_of(through)
        pH = w.speciation[k].pH, np.nan if lost else pH_of(through, float(w.temperature[k])).pH
        for i, c in feed.items():
            p = perm.get(i, 0.0)
            rows.append((w.label[k], float(sol.flux[k, j]), i, c, p, 1 - p / c, *pH))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def simulate_water(
    water,  # As for `read_waters`, or what it returned
    flux=None,  # Water flux $J_v$: number, (n_flux,) or (batch, n_flux) [m/s]
    membrane: Membrane = NF270,
    *,
    pH=None,  # For waters whose row has none
    temperature=None,  # [K], the same
    pairs: tuple[str, ...] = (),  # Ion pairs that move as such: MgSO4, CaSO4
    balance: str | None = None,  # As for `read_waters`
    warm: bool = True,  # The pore's permittivity follows the temperature (`at_temperature`)
    acid: bool = True,  # The membrane's charge follows the pH (`at_pH`)
    **options,  # As for `simulate`: film, activity, ...
) -> "pd.DataFrame":  # A row a water, flux and solute: c_feed, c_perm, rejection, pH of feed and permeate
    "Rejections of every solute of natural waters, and the pH of their permeates."
    if is_frame(water):
        water, flux = feed_table(water, used=("pH", "temperature")), flux_of(water, flux)
    if isinstance(water, FeedTable) and flux is not None:
        water = replace(water, flux=np.asarray(flux))
    w = water if isinstance(water, Water) else read_waters(water, pH, temperature, pairs, balance)
    J = w.flux if flux is None or not isinstance(water, Water) else flux
    if J is None:
        raise InputError("no flux arrived; give one in m/s, or a column such as 'flux [LMH]'")
    membrane = at_temperature(membrane, w.temperature) if warm else membrane
    membrane = at_pH(membrane, np.array([s.pH for s in w.speciation])) if acid else membrane
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is left to close, H+ and OH-, is no analysis's
        names, c = as_met(w)
        sol = simulate(c, J, membrane, ions=names, temperature=torch.from_numpy(w.temperature), **options)
    frame = _passed(w, sol)
    frame.attrs["notes"] = list(dict.fromkeys([*w.notes, *(n for n in sol.notes if "oversaturated" not in n)]))
    for note in frame.attrs["notes"]:
        warnings.warn(note, stacklevel=2)
    return frame

"""What is asked of a sample of membranes: feeds, fluxes or pressures and pH, checked, and what a reader should know"""

import warnings

import numpy as np

from ion_ode.core import LMH, InputError
from ion_ode.dspmde.charge_pH import charge_factor, pH_notes
from ion_ode.dspmde.feed import feed_array, flux_array
from ion_ode.inference.laws import PH_RANGE
from ion_ode.water.feeds import flux_of, has_flux
from ion_ode.water.ions import get_ion

__all__ = ["at_pH", "check_kind", "notes_of", "question"]


def check_kind(kind, film):
    "Refuse a kind or a film that means nothing."
    if kind not in ("observed", "intrinsic"):
        raise InputError(
            f"kind is {kind!r}, expected 'observed' (against the bulk feed) or 'intrinsic' "
            f"(against the concentration at the membrane)"
        )
    if film is not None and not 0 <= film < 1e-2:
        raise InputError(f"film is {film}, expected a thickness in metres such as 25e-6, or None")


def question(feed, flux, pressure, balance, ions):
    "Names, feeds (sample, ion) and fluxes or pressures (sample, state)."
    names, c = feed_array(feed, ions, balance)
    if (flux is None) == (pressure is None) and not (flux is None and has_flux(feed)):
        raise InputError(
            "give flux [m/s] or pressure [Pa], one of them, for instance flux=20 * LMH or pressure=5 * bar"
        )
    asked = flux_array(flux_of(feed, flux), len(c)) if pressure is None else _grid(pressure, len(c))
    batch = max(len(c), len(asked))
    return names, np.broadcast_to(c, (batch, c.shape[1])), np.broadcast_to(asked, (batch, asked.shape[1]))


def at_pH(c, asked, pH):
    "Feeds, fluxes and pH with one sample each; one feed at several pH is as many samples."
    if pH is None:
        return c, asked, None
    charge_factor(pH)  # refuses what is no pH
    at = np.atleast_1d(np.asarray(pH, float))
    sizes = {len(at), len(c)} - {1}
    if at.ndim > 1 or len(sizes) > 1:
        raise InputError(f"pH has shape {at.shape} for {len(c)} feeds; give one number, or one a feed")
    n = max(sizes, default=1)
    wide = lambda v: np.broadcast_to(v, (n, *v.shape[1:]))
    return wide(c), wide(asked), wide(at)


def _grid(pressure, n):
    "Pressures as (sample, state)."
    p = np.asarray(pressure, float)
    if not (np.isfinite(p).all() and (p > 0).all() and p.max() < 2e7):
        raise InputError(f"pressure is {pressure}, expected pascals above 0, such as 5 * bar")
    if p.max() < 1e3:
        said = f"pressure is {p.max():g} Pa, far below any use of a membrane; if this is bar, write {p.max():g} * bar"
        warnings.warn(said, stacklevel=4)
    if p.ndim < 2:
        return np.broadcast_to(p.reshape(1, -1), (n, p.size))
    return p


def _span(v):
    "Numbers as one, or as their ends."
    return " to ".join(dict.fromkeys(f"{x:g}" for x in (np.min(v), np.max(v))))


def notes_of(
    ranges: dict,  # Of the card: what was measured
    names,
    c,  # (sample, ion) [mol/m³]
    J,  # [m/s]
    pH,
    kind: str,
    temperature: float,  # [K]
) -> list[str]:
    "What a reader should know about a question: what it speaks of, and where it leaves what was measured."
    said = []
    where = f"{PH_RANGE[0]} to {PH_RANGE[1]}" if pH is None else _span(pH)
    said.append(f"{kind} rejections at pH {where}" + (", against the bulk feed" if kind == "observed" else ""))
    said += [] if pH is None else pH_notes(pH)
    unseen = [i for i in names if i not in ranges.get("ions_mol_m3", {}) and (c[:, names.index(i)] > 0).any()]
    if unseen and "ions_mol_m3" in ranges:
        said.append(f"{', '.join(unseen)}: not among the measurements, taken from charge, radius and diffusivity alone")
    z = np.array([abs(get_ion(i).z) for i in names])
    total = 0.5 * (c * z).sum(1)
    for what, low, high, ends, unit, f in (
        ("salt", total.min(), total.max(), ranges.get("equivalents_mol_m3"), "eq/m³", 1.0),
        ("flux", np.nanmin(J), np.nanmax(J), ranges.get("flux_m_s"), "L/m²/h", LMH),
    ):
        measured = ends and f"the measured {ends[0] / f:.3g} to {ends[1] / f:.3g} by"
        if ends and high > 1.5 * ends[1]:
            said.append(f"{what} {high / f:.3g} {unit} is above {measured} {high / ends[1] - 1:.0%}")
        if ends and low < 0.5 * ends[0]:
            said.append(f"{what} {low / f:.3g} {unit} is below {measured} {1 - low / ends[0]:.0%}")
    if not 288 <= temperature <= 303:
        said.append(f"{temperature - 273.15:.0f} °C: measured at 20 to 25 °C only")
    return said

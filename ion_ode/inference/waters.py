"""A laboratory's analysis in; the best estimate of every solute's rejection and of the permeate's pH, with intervals

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

import warnings
from dataclasses import replace

import numpy as np

from ion_ode.core import InputError, is_frame
from ion_ode.dspmde.waters import TOGETHER, Water, as_met, read_waters, totals_of
from ion_ode.inference.answer import load_answer
from ion_ode.inference.laws import share_of_sign
from ion_ode.rejections import Rejections
from ion_ode.water.chemistry import pH_of
from ion_ode.water.feeds import feed_table, flux_of
from ion_ode.water.ions import get_ion

__all__ = ["predict_water"]


def predict_water(
    water,  # Table of a laboratory, or `Water`: as for `read_waters`
    flux=None,  # Water flux $J_v$: number, (n_flux,) or (batch, n_flux) [m/s]; None: the table's
    model="nf270",  # "nf270", "nf", or an `Answer`, such as one calibrated with own values
    *,
    pressure=None,  # Or: pressure difference, number or (n_pressure,) [Pa]
    kind: str = "observed",  # "observed": against the bulk feed, behind a film; "intrinsic": without one
    film: float | None = None,  # Film thickness [m]; None: as laboratories have it
    pH=None,  # For waters whose row has none
    temperature=None,  # [K], the same
    pairs: tuple[str, ...] = (),  # Ion pairs that move as such: MgSO4, CaSO4
    balance: str | None = None,  # As for `read_waters`
    level: float = 0.9,  # Share of measurements the interval should hold
) -> Rejections:  # A row a water, flux and solute: c_feed, c_perm, rejection, lower, upper, pH of feed and permeate
    "Rejection of every solute of natural waters and the pH of their permeates, over the membranes of a model."
    if not 0 < level < 1:
        raise InputError(f"level is {level}, expected a share between 0 and 1, such as 0.9")
    if is_frame(water) and pressure is None:
        water, flux = feed_table(water, used=("pH", "temperature")), flux_of(water, flux)
    w = water if isinstance(water, Water) else read_waters(water, pH, temperature, pairs, balance)
    J = w.flux if flux is None and pressure is None else flux
    if (J is None) == (pressure is None):
        raise InputError("give flux [m/s] or pressure [Pa], one of them, or a column such as 'flux [LMH]'")
    asked = np.atleast_1d(np.asarray(J if pressure is None else pressure, float))
    model, rows, notes = model if hasattr(model, "draws") else load_answer(model), [], [*w.notes]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is left to close, H+ and OH-, is no analysis's
        for k in range(len(w.label)):
            at = {"flux" if pressure is None else "pressure": asked[k] if asked.ndim == 2 else asked}
            rows += _rows_of(w, k, model, at | {"kind": kind, "film": film}, level)
            flux_of_row = np.array([[r[1] for r in rows if r[0] == w.label[k]]])
            held = {i: v for i, v in w.feed[k].items() if i not in ("H+", "OH-") and v > _TRACE}
            names, c = tuple(held), np.array([list(held.values())])
            notes += model.notes(names, c, flux_of_row, [w.speciation[k].pH], kind, float(w.temperature[k]))
    columns = ["sample", "flux_m_s", "ion", "c_feed", "c_perm", "rejection", "lower", "upper", "pH_feed"]
    table = Rejections(rows, columns=[*columns, "pH_perm", "pH_perm_lower", "pH_perm_upper"])
    table.attrs["notes"] = list(dict.fromkeys(notes))
    return table


def _rows_of(w: Water, k: int, model, ask: dict, level: float) -> list[tuple]:
    "One water through every membrane: what is reported of it."
    s, T = w.speciation[k], float(w.temperature[k])
    names, feeds = as_met(replace(w, feed=w.feed[k : k + 1]))
    names, c, J, R, (noise, error) = model.draws(feeds, ions=names, temperature=T, pH=s.pH, errors=True, **ask)
    perm = c[0] * (1 - np.nan_to_num(R[:, 0], nan=1.0))  # (membrane, flux, ion); an absent ion stays absent
    feed = totals_of(w.feed[k])
    parts = [np.isin(names, TOGETHER.get(i, (i,))) for i in feed]
    whole = np.stack([perm[..., p].sum(-1) for p in parts], -1) / np.array(list(feed.values()))
    R_whole = np.where(np.isfinite(J[:, 0])[..., None], 1 - whole, np.nan)[:, None]
    own = share_of_sign(c, np.array([get_ion(i).z for i in names], float))[0]
    if model.own is None:
        error = model.errors(J, np.array([[min(own[p].sum(), 1.0) for p in parts]]))[1]
    else:
        part = lambda p: np.nansum(error[..., p] ** 2 * c[0, p], -1) / max(c[0, p].sum(), 1e-300)
        error = np.sqrt(np.stack([part(p) for p in parts], -1))
    low, high = model.interval(R_whole, (noise, error), level)
    mean, flux, out = np.nanmean(R_whole[:, 0], 0), np.nanmean(J[:, 0], 0), []
    for j in range(len(flux)):
        pH = _permeate_pH(names, perm[:, j], T, level)
        for n, (ion, amount) in enumerate(feed.items()):
            r = float(mean[j, n])
            out.append((w.label[k], flux[j], ion, amount, amount * (1 - r), r, low[0, j, n], high[0, j, n], s.pH, *pH))
    return out


_TRACE = 1e-2  # What no note is about [mol/m³]
_ASKED = 48  # Membranes whose permeates are speciated


def _permeate_pH(names, perm: np.ndarray, temperature: float, level: float) -> tuple[float, float, float]:
    "Median and quantiles of the pH that the permeates of the membranes settle at."
    some = perm[np.unique(np.linspace(0, len(perm) - 1, _ASKED).round().astype(int))]
    held = ({i: float(v) for i, v in zip(names, row, strict=True) if v > 0} for row in some)
    pH = [pH_of(c, temperature).pH for c in held]
    return tuple(float(v) for v in np.quantile(pH, [0.5, (1 - level) / 2, (1 + level) / 2]))

"""From rows to problems of the pore model, and the likelihood of what was measured

The error of a rejection is that of y = ln(1.05 - R): relative to the passage where little passes, even where much
does, and without a limit at R = 1. It fades as the flux vanishes. A value of the open measurements teaches with an
error of `LEARNED`, of its own and larger than that of a measurement: what the pore model cannot say of a feed is in it,
and an error shared along a curve would leave the curves of a mixture nothing to teach (`benchmarks/answer_errors.py`).
The interval of a new value has the errors of the membrane: noise, and a discrepancy that one ion in one feed shares
over its fluxes; a user's own values those of `ion_ode.inference.discrepancy`.

One coupon can stand for the membrane: laboratories differ from it by effects of charge and thickness, it has none of
its own. Four compositions were measured on it, so its membrane is known where a mean over laboratories is not."""

import math
from dataclasses import astuple, dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import gammaln, log_ndtr

from ion_ode.core import LMH, InputError, bar
from ion_ode.dspmde.charge_pH import FITTED, PH_OF_CHARGES, factors_of_each
from ion_ode.inference.laws import (
    Prior,
    charge_of,
    coupon_effects,
    discrepancy_of,
    numbers_of,
    offset_of,
    share_of_sign,
)
from ion_ode.inference.rows import answer_feeds, osmotic_at_bulk
from ion_ode.water.ions import get_ion
from ion_ode.water.neutrality import close_charge

__all__ = [
    "LOCALS",
    "States",
    "by_curve",
    "effects_of",
    "errors_of",
    "faded",
    "film_and_flux",
    "forward",
    "law_charge",
    "log_likelihood",
    "mean_flux",
    "of_rows",
    "problems",
    "within_reach",
    "y_of",
    "of_y",
]

LOCALS = (
    "charge",
    "thickness",
    "film",
    "permeability",
)  # Normal numbers of a laboratory; its coupons add one of charge
_FLUX_FADE = (
    1e-6,
    8e-6,
)  # Fluxes over which the error of a measurement and that of the model grow [m/s]: R is 0 at rest
LEARNED = 0.35  # Error of ln(1.05 - R) with which a value teaches
ANCHOR = "fdly2021"  # Four compositions on one coupon: it stands for the membrane, others vary about it
_NU = 5.0  # Degrees of freedom of the errors of a curve
_CHARGE = 5000.0  # Fixed charge beyond which nothing changes [mol/m³]
_NODES = 4  # Fluxes at which a longer curve is solved


def y_of(r):
    "The scale on which errors are alike."
    return np.log(1.05 - np.minimum(r, 1.0))


def of_y(y):
    "Rejection of a value on that scale."
    return np.minimum(1.05 - np.exp(y), 1.0)


def faded(flux):
    "Share of the error of a measurement, and of that of the model, at a flux: none at rest, where nothing is rejected."
    return flux / (flux + _FLUX_FADE[0]), 1 - np.exp(-flux / _FLUX_FADE[1])


@dataclass(frozen=True)
class States:
    "Problems (p) behind rows (r) of measurements, in curves, coupons and laboratories."

    ions: tuple[str, ...]
    z: np.ndarray  # (ion,)
    c_feed: np.ndarray  # (p, ion) [mol/m³]
    flux: np.ndarray  # (p,) [m/s]; where a pressure is known, that at the prior's median permeability
    temperature: np.ndarray  # (p,) [K]
    kind: np.ndarray  # (p,) 0 intrinsic, 1 observed, 2 unstated
    by_pressure: np.ndarray  # (p,) bool: the flux is not known
    laboratory: np.ndarray  # (p,) index
    coupon: np.ndarray  # (p,) index
    laboratories: tuple[str, ...]
    coupons: tuple[str, ...]
    home: np.ndarray  # (coupon,) laboratory of each
    row_problem: np.ndarray  # (r, node) problems whose mixture is the row
    row_weight: np.ndarray  # (r, node)
    row_ion: np.ndarray  # (r,) column of c_feed
    row_share: np.ndarray  # (r,) share of the equivalents of its sign
    rejection: np.ndarray  # (r,)
    sd: np.ndarray  # (r,) error the source states, on the scale of y
    limit: np.ndarray  # (r,) bool: R is at least the value
    selected: np.ndarray  # (r,) bool: negative values of the source were left out
    curve: np.ndarray  # (r,) index, ascending
    curve_coupon: np.ndarray  # (curve,)
    curve_laboratory: np.ndarray  # (curve,)
    row_id: np.ndarray  # (r,)
    curve_id: np.ndarray  # (curve,) laboratory|coupon|solution|ion
    anchor: int | None = None  # Laboratory whose coupon the membrane is: it has no effect of its own
    film: np.ndarray | None = None  # (p,) [m] where it is known, nan elsewhere
    pH: np.ndarray | None = None  # (p,) where the charge is to follow it, nan elsewhere

    def __repr__(self):
        what = f"{len(self.rejection)} values, {len(self.flux)} problems"
        return f"States({what}, {len(self.coupons)} coupons of {len(self.laboratories)} laboratories)"

    @classmethod
    def of(
        cls,
        d: pd.DataFrame,  # Of `answer_rows`
        prior: Prior = Prior(),
        feeds: pd.DataFrame | None = None,  # Whole feeds; None: the package's
        ions: tuple[str, ...] | None = None,  # Slots; None: those of the feeds
    ) -> "States":
        "Rows in the form the posterior needs."
        feeds = answer_feeds() if feeds is None else feeds
        feeds = feeds[feeds.solution_id.isin(d.solution_id)]
        ions = _slots(feeds) if ions is None else ions
        z = np.array([get_ion(i).z for i in ions], float)
        c_feed = _neutral_feeds(feeds, ions)
        d = _in_curves(d).assign(J=lambda d: _flux(d, c_feed, ions, prior))
        solved, mixture = _nodes_of(d)
        names = tuple(dict.fromkeys(d.laboratory)), tuple(dict.fromkeys(d.coupon))
        parts = _by_problem(solved, c_feed, names) | mixture | _by_row(d, c_feed, ions, z) | _by_curve(d, names)
        return cls(ions, z, **parts)

    def some(
        self,
        rows: np.ndarray,  # (r,) bool
    ) -> "States":
        "Some rows, with the problems, curves, coupons and laboratories behind them."
        at = {"p": np.unique(self.row_problem[rows]), "curve": np.unique(self.curve[rows]), "r": rows}
        at["coupon"] = np.unique(self.coupon[at["p"]])
        labs = np.unique(self.laboratory[at["p"]])
        kept = {k: v[at[of]] for of, names in _OF_EACH.items() for k in names if (v := getattr(self, k)) is not None}
        for name, of in (("row_problem", "p"), ("curve", "curve"), ("coupon", "coupon"), ("curve_coupon", "coupon")):
            kept[name] = np.searchsorted(at[of], kept[name])
        kept |= {k: np.searchsorted(labs, kept[k]) for k in ("laboratory", "home", "curve_laboratory")}
        kept["laboratories"] = tuple(self.laboratories[k] for k in labs)
        kept["coupons"] = tuple(self.coupons[k] for k in at["coupon"])
        return replace(self, **kept, anchor=int(np.searchsorted(labs, self.anchor)) if self.anchor in labs else None)


_OF_EACH = {  # Fields of `States` by what they have one of
    "p": ("c_feed", "flux", "temperature", "kind", "by_pressure", "laboratory", "coupon", "film", "pH"),
    "r": (
        "row_problem",
        "row_weight",
        "row_ion",
        "row_share",
        "row_id",
        "rejection",
        "sd",
        "limit",
        "selected",
        "curve",
    ),
    "curve": ("curve_coupon", "curve_laboratory", "curve_id"),
    "coupon": ("home",),
}


_COMMON = ("Na+", "K+", "Li+", "NH4+", "Mg+2", "Ca+2", "Cl-", "SO4-2", "NO3-", "HCO3-", "Br-")


def _slots(feeds: pd.DataFrame) -> tuple[str, ...]:
    "Ions of the feeds, those of most waters first."
    found = set(feeds.ion)
    return tuple(i for i in _COMMON if i in found) + tuple(sorted(found - set(_COMMON)))


def _neutral_feeds(feeds: pd.DataFrame, ions) -> pd.DataFrame:
    "Feed of every solution, a column an ion [mol/m³]."
    wide = feeds.pivot_table(index="solution_id", columns="ion", values="c_feed_mol_m3")
    wide = wide.reindex(columns=list(ions)).fillna(0.0)
    c = wide.to_numpy()
    return pd.DataFrame(close_charge(c, ions, label=lambda k: f"feed {wide.index[k]}").applied(c), index=wide.index)


def _in_curves(d: pd.DataFrame) -> pd.DataFrame:
    "Rows with the name of their curve, curve after curve, by flux."
    name = d.laboratory + "|" + d.coupon + "|" + d.solution_id + "|" + d.ion
    return d.assign(curve_of=name).sort_values(["curve_of", "flux_m_s", "pressure_Pa"], kind="stable")


def _nodes_of(d: pd.DataFrame) -> tuple[list[tuple], dict]:
    "Problems that are solved, as (a row like them, flux), and which of them make up each row."
    problems, place = [], {}
    alike = ["laboratory", "coupon", "solution_id", "kind", "temperature_K", *({"charge_pH"} & set(d))]
    for _, g in d.groupby([*alike, d.flux_m_s.isna()], sort=False, dropna=False):
        own = np.unique(g.J.round(12))
        nodes, matrix = _nodes(own)
        place |= {
            label: (len(problems), matrix[np.searchsorted(own, J)])
            for label, J in zip(g.index, g.J.round(12), strict=True)
        }
        problems += [(g.iloc[0], J) for J in nodes]
    width = max(len(w) for _, w in place.values())
    at = [[start + k if k < len(w) else start for k in range(width)] for start, w in map(place.get, d.index)]
    weight = [np.pad(w, (0, width - len(w))) for _, w in map(place.get, d.index)]
    return problems, {"row_problem": np.array(at), "row_weight": np.array(weight)}


def _by_problem(solved: list[tuple], c_feed: pd.DataFrame, names) -> dict:
    "What a problem has: feed, flux, temperature, kind, and whose it is."
    take = lambda f: np.array([f(row) for row, _ in solved])
    known = lambda column: take(lambda r: r[column]) if column in solved[0][0] else None
    laboratories, coupons = names
    return {
        "c_feed": c_feed.loc[[row.solution_id for row, _ in solved]].to_numpy(),
        "flux": np.array([J for _, J in solved]),
        "temperature": take(lambda r: r.temperature_K),
        "kind": take(lambda r: ("intrinsic", "observed", "unstated").index(r.kind)),
        "by_pressure": take(lambda r: bool(np.isnan(r.flux_m_s))),
        "laboratory": take(lambda r: laboratories.index(r.laboratory)),
        "coupon": take(lambda r: coupons.index(r.coupon)),
        "film": known("film_m"),
        "pH": known("charge_pH"),
    }


def _by_row(d: pd.DataFrame, c_feed: pd.DataFrame, ions, z) -> dict:
    "What a value has: ion, rejection, its error on the scale of y, whether it is a limit or was selected."
    column = np.array([ions.index(i) for i in d.ion])
    share = share_of_sign(c_feed.loc[d.solution_id].to_numpy(), z)
    return {
        "row_id": d.index.to_numpy(),
        "row_ion": column,
        "row_share": share[np.arange(len(d)), column],
        "rejection": d.rejection.to_numpy(float),
        "sd": (d.rejection_sd.fillna(0.0) / (1.05 - d.rejection)).clip(upper=0.5).to_numpy(float),
        "limit": (d.censored & (d.rejection > 0.5)).to_numpy(bool),
        "selected": d.source_id.eq("jeong2023").to_numpy(bool),
    }


def _by_curve(d: pd.DataFrame, names) -> dict:
    "Which curve a value is of; coupon and laboratory of every curve, laboratory of every coupon."
    laboratories, coupons = names
    curve, first = np.unique(d.curve_of.to_numpy(), return_index=True)
    heads, home = d.iloc[first], d.drop_duplicates("coupon").set_index("coupon").laboratory
    return {
        "laboratories": laboratories,
        "coupons": coupons,
        "home": np.array([laboratories.index(home[c]) for c in coupons]),
        "curve": np.searchsorted(curve, d.curve_of),
        "curve_id": curve,
        "curve_coupon": np.array([coupons.index(c) for c in heads.coupon]),
        "curve_laboratory": np.array([laboratories.index(c) for c in heads.laboratory]),
        "anchor": laboratories.index(ANCHOR) if ANCHOR in laboratories else None,
    }


def _flux(d, wide, ions, prior):
    "Flux of each row; from its pressure at the median permeability where none was given."
    out = d.flux_m_s.to_numpy(float, copy=True)
    gone = d[d.flux_m_s.isna()]
    known = (
        gone.groupby("state_id").apply(lambda g: dict(zip(g.ion, g.rejection, strict=True)), include_groups=False)
        if len(gone)
        else {}
    )
    for k in np.flatnonzero(np.isnan(out)):
        row = d.iloc[k]
        feed = {i: c for i, c in zip(ions, wide.loc[row.solution_id], strict=True) if c > 0}
        pi = osmotic_at_bulk(feed, known[row.state_id], row.temperature_K)
        net = row.pressure_Pa - pi
        if net <= 0:
            raise InputError(
                f"{row.name}: the osmotic difference of {pi / bar:.2f} bar exceeds the pressure of "
                f"{row.pressure_Pa / bar:.2f} bar"
            )
        out[k] = prior.permeability[0] * LMH / bar * net
    return out


def _nodes(flux):
    "Chebyshev fluxes of a curve and the polynomial from them to the measured ones."
    if len(flux) <= _NODES:
        return flux, np.eye(len(flux))
    low, high = np.log(flux[0]), np.log(flux[-1])
    at = low + (high - low) * (1 - np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))) / 2
    from scipy.interpolate import BarycentricInterpolator

    return np.exp(at), BarycentricInterpolator(at, np.eye(_NODES))(np.log(flux))


def law_charge(
    states: States,
    membranes: dict,  # Of `numbers_of`, each (n, 1)
    laws: np.ndarray | None = None,  # As for `problems`
) -> np.ndarray:  # (n, p) [mol/m³]
    "Fixed charge of every membrane in every feed, before what a coupon makes of it."
    n, acid = len(membranes["charge"]), (1.0, 1.0)
    if states.pH is not None:
        at = np.where(np.isfinite(states.pH), states.pH, PH_OF_CHARGES)
        laws = np.tile(astuple(FITTED), (n, 1)) if laws is None else laws
        acid = (f.reshape(n, -1) for f in factors_of_each(at, laws))
    return charge_of(membranes, states.c_feed, states.z, states.ions, *acid)


def effects_of(
    states: States,
    membranes: dict,  # Of `numbers_of`, each (n, 1)
    lab: np.ndarray,  # (n, laboratory, LOCALS)
    coupon: np.ndarray,  # (n, coupon)
    prior: Prior,
) -> tuple[np.ndarray, np.ndarray]:  # Factor of the charge; thickness [m]; (n, p)
    "What the coupon of every problem makes of every membrane."
    varies = states.laboratory != states.anchor
    shared, thick = (varies * lab[:, states.laboratory, k] for k in (0, 1))
    return coupon_effects(membranes, shared, varies * coupon[:, states.coupon], thick, prior.within)


def film_and_flux(states: States, lab: np.ndarray, prior: Prior) -> tuple[np.ndarray, np.ndarray]:  # (n, p)
    "Film before every problem and its flux, as its laboratory has them."
    median = lambda k: np.where(states.kind == 2, prior.film_unstated[k], prior.film[k])
    film = median(0) * np.exp(median(1) * lab[:, states.laboratory, 2])
    if states.film is not None:
        film = np.where(np.isfinite(states.film), states.film, film)
    more = np.where(states.by_pressure, prior.permeability[1] * lab[:, states.laboratory, 3], 0.0)
    return np.where(states.kind == 0, 0.0, np.clip(film, 1e-7, 2e-4)), states.flux * np.exp(more)


def within_reach(charge: np.ndarray) -> np.ndarray:  # [mol/m³]
    "A fixed charge, cut where nothing changes any more."
    return np.clip(charge, -_CHARGE, _CHARGE)


def problems(
    states: States,
    x: np.ndarray,  # (n, GLOBALS)
    lab: np.ndarray,  # (n, laboratory, LOCALS)
    coupon: np.ndarray,  # (n, coupon)
    prior: Prior = Prior(),
    laws: np.ndarray | None = None,  # (n, 5) how each membrane's charge follows the pH; None: the likeliest for all
) -> dict:  # c_feed, offset (n p, ion); r_pore, thickness, eps_pore, charge, film, flux, temperature (n p,)
    "Every problem of every membrane (slow) with its coupons' effects, as the pore model takes it."
    n, p, membranes = len(x), len(states.flux), numbers_of(x, prior)
    column = {k: v[:, None] for k, v in membranes.items()}
    factor, thickness = effects_of(states, column, lab, coupon, prior)
    film, flux = film_and_flux(states, lab, prior)
    offset = [offset_of(membranes, i, int(z)) for i, z in zip(states.ions, states.z, strict=True)]
    return {
        "c_feed": np.tile(states.c_feed, (n, 1)),
        "flux": flux.ravel(),
        "r_pore": np.repeat(membranes["r_pore"], p),
        "thickness": thickness.ravel(),
        "eps_pore": np.repeat(membranes["eps_pore"], p),
        "charge": within_reach(law_charge(states, column, laws) * factor).ravel(),
        "offset": np.repeat(np.stack(offset, 1), p, 0),
        "film": film.ravel(),
        "temperature": np.tile(states.temperature, n),
    }


def forward(
    states: States,
    x: np.ndarray,  # (n, GLOBALS)
    lab: np.ndarray,  # (n, laboratory, LOCALS)
    coupon: np.ndarray,  # (n, coupon)
    solve,  # solve(ions, problem) -> passage (n p, ion)
    prior: Prior = Prior(),
    laws: np.ndarray | None = None,  # As for `problems`
):  # Rejections of the problems (n, p, ion), flux (n, p)
    "Rejections of every problem by every membrane with its coupons' effects."
    problem = problems(states, x, lab, coupon, prior, laws)
    passage = solve(states.ions, problem)
    return 1 - passage.reshape(len(x), len(states.flux), -1), problem["flux"].reshape(len(x), -1)


def of_rows(states: States, rejection: np.ndarray) -> np.ndarray:  # (n, row)
    "Rejections of the rows from those of the problems (n, p, ion)."
    return np.einsum("nrk,rk->nr", rejection[:, states.row_problem, states.row_ion[:, None]], states.row_weight)


def mean_flux(states: States, flux: np.ndarray) -> np.ndarray:  # (n, row) [m/s]
    "Flux of the rows from those of the problems (n, p)."
    weight = np.abs(states.row_weight)
    return np.einsum("nrk,rk->nr", flux[:, states.row_problem], weight) / weight.sum(1)


def errors_of(
    states: States,
    rejection: np.ndarray,  # (n, p, ion), nan where no solution
    flux: np.ndarray,  # (n, p)
    noise=None,  # Of ln(1.05 - R), number or (n, 1); None: LEARNED
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # y of the model, measured less that, variance; (n, row)
    "Errors of the rows on the scale of y, each with a variance of its own."
    with np.errstate(invalid="ignore"):
        mu = y_of(of_rows(states, rejection))
    own = ((LEARNED if noise is None else noise) * faded(mean_flux(states, flux))[0]) ** 2 + states.sd**2
    return mu, y_of(states.rejection) - mu, own


def by_curve(states: States, values: np.ndarray) -> np.ndarray:  # (n, curve)
    "Sums over the rows of each curve of (n, row)."
    return np.add.reduceat(values, np.searchsorted(states.curve, np.arange(len(states.curve_coupon))), axis=1)


def log_likelihood(
    states: States,
    rejection: np.ndarray,  # (n, p, ion), nan where no solution
    flux: np.ndarray,  # (n, p)
    membranes=None,  # Columns of `parameters` (n,) whose errors hold; None: every value errs by LEARNED, on its own
) -> np.ndarray:  # (n, curve)
    "Log density of every curve: Student's distribution of its errors, with selection and limits."
    mu, e, own = errors_of(
        states, rejection, flux, None if membranes is None else np.asarray(membranes["noise"])[:, None]
    )
    shared = np.zeros_like(own)
    if membranes is not None:
        shared = (discrepancy_of(membranes, states.row_share) * faded(mean_flux(states, flux))[1]) ** 2
    total = lambda v: by_curve(states, v * ~states.limit)
    size, a = total(np.ones((1, len(e.T)))), total(e * e / own)
    b, c = total(e * np.sqrt(shared) / own), total(shared / own)
    k, log_det = (_NU + size) / 2, total(np.log(own)) + np.log1p(c)
    out = gammaln(k) - gammaln(_NU / 2) - size / 2 * math.log(_NU * math.pi) - log_det / 2
    out = out - k * np.log1p((a - b * b / (1 + c)) / _NU)
    sigma, tail = np.sqrt(own + shared), np.zeros_like(e)
    tail[:, states.selected] = -log_ndtr((math.log(1.05) - mu) / sigma)[:, states.selected]
    tail[:, states.limit] = log_ndtr((y_of(np.minimum(states.rejection, 0.985)) - mu) / sigma)[:, states.limit]
    return np.nan_to_num(out + by_curve(states, tail), nan=-1e9, neginf=-1e9)

"""The law of the charge over pH: fitted on what was measured, drawn from what that leaves open, each source held out

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

# Two sources asked NF270 over pH: NaCl alone at 3.5 to 10.5 (Ritt et al. 2020) and mixtures of anions at 3.5 to 9 in
# several coupons (Jeong et al. 2023, a compilation). Pore, thickness, permittivity and the charge near neutral are
# those of an answer, each coupon's charge and film have a factor of their own and its stronger acids a pK of their own,
# and five numbers say how the charge follows the pH. The likeliest five are `FITTED`, for one membrane; the membranes
# of an answer have laws drawn from all that the measurements leave open, each that of a new coupon, so that its mean
# and interval at a pH are those of what is known there.

import json
import re
from dataclasses import astuple, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from ion_ode.closure import Cell, cell
from ion_ode._torch import torch
from ion_ode.core import LMH, T_REF, bar
from ion_ode.dspmde.charge_pH import PH_OF_CHARGES, ChargeByPH, charge_factor
from ion_ode.inference.answer import Answer, load_answer
from ion_ode.inference.pores import passages
from ion_ode.inference.rows import _all_rows, answer_feeds, osmotic_at_bulk
from ion_ode.store import asset, atomic_write, digest
from ion_ode.water.neutrality import close_charge

__all__ = [
    "OverPH",
    "acidity_cells",
    "draw_charge",
    "fit_charge",
    "measured_over_pH",
    "predicted_over_pH",
    "write_acidity",
]

_ASKED = ("Na+", "Cl-", "Br-", "NO3-")  # Ions whose partitioning an answer knows
_LOWEST = 3.4  # pH below which nothing is used
# Before any of these rows: pK of acids and amine and their amounts, wide; 9.8 as the acids inside ionise above 9
_PRIOR, _WIDTH = np.array([5.5, 2.0, 9.8, 0.5, 4.0]), np.array([1.0, 3.0, 0.7, 0.8, 1.0])
_LOW, _HIGH = [3.5, 0, 8, 0, 2], [7.5, 50, 12, 20, 6.5]
_NOISE = 0.06  # Of a rejection and the model's [-]: what the likeliest law leaves of the rows it was fitted on
_COUPON = 0.6  # Sd of the logarithm of a coupon's factor
# Sd of the pK of its stronger acids about that of all: chosen on the mixtures of anions, each coupon left out of the
# law in turn, before NaCl was asked (log predictive density 137.0 at .05, 140.2 at .3, 137.6 at .7:
# `benchmarks/charge_over_pH.py`)
_ACIDS = 0.3
_FILM = (0.5, 0.7)  # The same of its film, in a crossflow cell and unstated: as an answer's prior has them
_LAWS, _WALKERS, _SWEEPS = 256, 128, 2000  # Laws kept; the sampler's walkers and sweeps, the first third forgotten
_CHARGES = np.sinh(np.linspace(-3.5, 6.0, 60)) / 4  # Charges over those near neutral, -4 to 50, that are tabulated
_FILMS = np.exp(np.linspace(-2.1, 2.1, 9))  # Films over the answer's, the same
# The compilation's 80 kPa would give a coupon twenty times the charge of any other; its laboratory's other coupon has
# 550 kPa, which is 80 psi, and so has this one
_PRESSURES = {"jeong2023/386": 80 * 6894.757}


@dataclass(frozen=True)
class OverPH:
    "Values of one source over pH, and the states they were measured in."

    ions: tuple[str, ...]
    c_feed: np.ndarray  # (state, ion) [mol/m³]
    flux: np.ndarray  # (state,) [m/s]; from the pressure where none was given
    pH: np.ndarray  # (state,)
    coupon: np.ndarray  # (state,) index
    film: float  # Median of the answer's films is multiplied by this: observed 1, unstated less
    state: np.ndarray  # (value,)
    ion: np.ndarray  # (value,) column of c_feed
    rejection: np.ndarray  # (value,)


def measured_over_pH(
    source: str,  # "ritt2020" or "jeong2023"
) -> OverPH:
    "What a source measured on NF270 over pH; replicates of one state as their mean."
    d = _all_rows()
    d = d[(d.membrane == "NF270") & (d.source_id == source) & (d.pH >= _LOWEST) & (d.z != 0)]
    if source == "ritt2020":
        d = d[d.solution_id.str.startswith("ritt_NaCl") & d.kind.eq("observed") & d.ion.eq("Na+")]
        d = d.assign(fast=d.flux_m_s > 1e-5)
        mean = {"flux_m_s": "mean", "rejection": "mean", "pressure_Pa": "first", "coupon": "first"}
        d = d.groupby(["solution_id", "fast", "pH", "ion"], as_index=False).agg(mean)
    d = d[d.groupby("coupon").pH.transform("nunique") > 2]
    d = d.assign(pressure_Pa=d.coupon.map(_PRESSURES).fillna(d.pressure_Pa))
    feeds = answer_feeds()
    feeds = feeds[feeds.solution_id.isin(d.solution_id)]
    wide = feeds.pivot_table(index="solution_id", columns="ion", values="c_feed_mol_m3").fillna(0.0)
    ions, rows = tuple(wide.columns), []
    whole = dict(zip(wide.index, close_charge(wide.to_numpy(), ions).applied(wide.to_numpy()), strict=True))
    states = list(d.groupby(["coupon", "solution_id", "pH", "pressure_Pa", "flux_m_s"], dropna=False))
    for k, (_, g) in enumerate(states):
        rows += [(k, ions.index(i), r) for i, r in zip(g.ion, g.rejection, strict=True) if i in _ASKED]
    state, ion, rejection = (np.array(v) for v in zip(*rows, strict=True))
    c = np.array([whole[key[1]] for key, _ in states])
    flux = np.array([_flux(key, dict(zip(ions, row, strict=True)), g) for (key, g), row in zip(states, c, strict=True)])
    coupon = np.unique([key[0] for key, _ in states], return_inverse=True)[1]
    film = 1.0 if source == "ritt2020" else 0.8
    return OverPH(ions, c, flux, np.array([k[2] for k, _ in states]), coupon, film, state, ion, rejection)


def _flux(key, feed: dict, g) -> float:
    "Flux of a state, or that at the median permeability under its pressure."
    pressure, flux = key[3:]
    if np.isfinite(flux):
        return flux
    osmotic = osmotic_at_bulk({i: c for i, c in feed.items() if c > 0}, dict(zip(g.ion, g.rejection)), T_REF)
    return 14.2 * LMH / bar * max(pressure - osmotic, 0.1 * bar)


def _rejections(
    rows: OverPH,
    answer: Answer,  # Whose membranes are asked
    law: ChargeByPH | None,  # None: the charge does not follow the pH
    coupon: np.ndarray | None = None,  # Factor on the charge of every coupon
    film: np.ndarray | None = None,  # Factor on its film
) -> np.ndarray:  # (value,) mean over the membranes
    "What an answer says to rows over pH."
    wide, membrane, offset, thick, T = answer._problem(rows.ions, rows.c_feed, "observed", None, T_REF)
    factor = np.ones(len(rows.pH)) if law is None else charge_factor(rows.pH, law=law)
    factor = factor if coupon is None else factor * coupon[rows.coupon]
    n = len(answer)
    membrane = membrane | {"charge": membrane["charge"] * np.tile(factor, n)}
    J = np.tile(rows.flux, n)[:, None]
    thick = thick * rows.film * (1.0 if film is None else np.tile(film[rows.coupon], n))
    through, _ = passages(rows.ions, wide, J, membrane, offset, np.clip(thick, 1e-7, 2e-4), T, 1e-3)
    return 1 - np.nanmean(through[:, 0].reshape(n, len(rows.pH), -1), 0)[rows.state, rows.ion]


def predicted_over_pH(
    rows: OverPH,
    answer: Answer,
    level: float = 0.9,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # (value,) mean, lower and upper end
    "What `Answer.predict` says to rows over pH."
    t = answer.predict(rows.c_feed, rows.flux[:, None], ions=rows.ions, pH=rows.pH, level=level)
    keys = list(zip(rows.state, np.array(rows.ions, object)[rows.ion], strict=True))
    t = t.set_index(["sample", "ion"]).loc[keys]
    return tuple(t[k].to_numpy() for k in ("rejection", "lower", "upper"))


def _misfit(sources: list[OverPH], answer: Answer):
    "Residuals of numbers of the law and of three for every coupon (ln charge, ln film, pK); their standard deviations."
    sizes = [s.coupon.max() + 1 for s in sources]
    films = [np.full(n, _FILM[s.film < 1]) for s, n in zip(sources, sizes, strict=True)]
    every, ends = np.ones(sum(sizes)), np.cumsum([0, *sizes])
    widths = np.concatenate([_COUPON * every, *films, _ACIDS * every])

    def off(x):
        parts = [(x[:5] - _PRIOR) / _WIDTH, x[5:] / widths]
        charge, film, acids = x[5:].reshape(3, -1)
        for s, a, b in zip(sources, ends, ends[1:], strict=False):
            law = ChargeByPH(x[0] + acids[a:b][s.coupon], *x[1:5])
            R = _rejections(s, answer, law, *np.exp([charge[a:b], film[a:b]]))
            parts.append((np.nan_to_num(R, nan=2.0) - s.rejection) / _NOISE)
        return np.concatenate(parts)

    return off, widths


def _likeliest(off, widths, prior=_PRIOR):
    "Least squares of residuals `off` of `_misfit` within the bounds."
    from scipy.optimize import least_squares

    more, scale = len(widths), np.concatenate([_WIDTH, widths])
    bounds = [np.concatenate([v, np.full(more, e)]) for v, e in ((_LOW, -4.0), (_HIGH, 4.0))]
    start = np.concatenate([prior, np.zeros(more)])
    return least_squares(off, start, bounds=bounds, x_scale=scale, diff_step=1e-3, xtol=1e-4, ftol=1e-4)


def fit_charge(
    sources: list[OverPH],
    answer: Answer,  # Of a few membranes
) -> tuple[ChargeByPH, ChargeByPH]:  # Likeliest numbers and their standard deviations
    "The law's five numbers from measured rejections and wide priors; beside them three numbers of every coupon."
    return _law_of(_likeliest(*_misfit(sources, answer)))


def _law_of(found) -> tuple[ChargeByPH, ChargeByPH]:
    "The law that least squares found, and its standard deviations."
    sd = np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac)))
    return ChargeByPH(*map(float, found.x[:5])), ChargeByPH(*map(float, sd[:5]))


def _tabulated(s: OverPH, answer: Answer) -> list:  # A spline a value: ln of the film's factor, charge -> rejection
    "Rejections of every value over the charge and the film of its coupon, which is all that a law changes."
    from scipy.interpolate import RectBivariateSpline

    still, R = replace(s, pH=np.full(len(s.pH), PH_OF_CHARGES)), []
    for film, charge in product(_FILMS, _CHARGES):
        factors = (np.full(s.coupon.max() + 1, v) for v in (charge, film))
        R.append(np.nan_to_num(_rejections(still, answer, None, *factors), nan=2.0))
    R = np.reshape(R, (len(_FILMS), len(_CHARGES), -1))
    grid = np.log(_FILMS), np.arcsinh(4 * _CHARGES)
    return [RectBivariateSpline(*grid, R[..., k]) for k in range(R.shape[-1])]


def _log_density(sources: list[OverPH], answer: Answer):
    "Log density of many sets of numbers at once (walker, number), amounts by their logarithms."
    tables, widths = [_tabulated(s, answer) for s in sources], _misfit(sources, answer)[1]
    sizes = [s.coupon.max() + 1 for s in sources]
    ends = np.cumsum([0, *sizes])
    low, high = np.array(_LOW, float), np.array(_HIGH, float)
    low[[1, 3]] = 1e-6

    def density(u):
        x = u[:, :5].copy()
        x[:, [1, 3]] = np.exp(np.minimum(x[:, [1, 3]], 5.0))
        inside = ((x >= low) & (x <= high)).all(1)
        first, *others = np.clip(x, low, high).T[..., None]
        charge, film, acids = np.split(u[:, 5:], 3, 1)
        out = u[:, 1] + u[:, 3] - 0.5 * ((((x - _PRIOR) / _WIDTH) ** 2).sum(1) + ((u[:, 5:] / widths) ** 2).sum(1))
        for s, table, a, b in zip(sources, tables, ends, ends[1:], strict=False):
            law = ChargeByPH(first + acids[:, a:b][:, s.coupon], *others)
            g = np.arcsinh(4 * charge_factor(s.pH, law=law) * np.exp(charge[:, a:b])[:, s.coupon])[:, s.state]
            f = np.clip(film[:, a:b], *np.log(_FILMS[[0, -1]]))[:, s.coupon[s.state]]
            R = np.stack([spline.ev(f[:, k], g[:, k]) for k, spline in enumerate(table)], 1)
            out -= 0.5 * (((R - s.rejection) / _NOISE) ** 2).sum(1)
        return np.where(inside, out, -np.inf)

    return density


def draw_charge(
    sources: list[OverPH],
    answer: Answer,  # Of a few membranes
    sweeps: int = _SWEEPS,
    seed: int = 0,
) -> tuple[np.ndarray, float]:  # Laws (_LAWS, 5); how many independent draws the sample is worth
    "Laws from all that the measurements leave open: differential evolution of walkers (ter Braak 2006)."
    return _drawn(_log_density(sources, answer), _likeliest(*_misfit(sources, answer)), sweeps, seed)


def _drawn(density, found, sweeps: int = _SWEEPS, seed: int = 0) -> tuple[np.ndarray, float]:
    "What walkers draw that set out about what least squares found."
    rng, n = np.random.default_rng(seed), _WALKERS
    u = rng.multivariate_normal(found.x, 0.5 * np.linalg.inv(found.jac.T @ found.jac), n)
    u[:, :5] = np.clip(u[:, :5], np.add(_LOW, 0.03), np.subtract(_HIGH, 0.03))
    u[:, [1, 3]] = np.log(u[:, [1, 3]])
    like, kept, halves = density(u), [], np.split(rng.permutation(n), 2)
    for sweep in range(sweeps):
        for mine, others in (halves, halves[::-1]):
            a, b = (rng.permutation(others) for _ in range(2))
            step = 1.0 if sweep % 10 == 9 else rng.choice([0.5, 1.0]) * 2.38 / np.sqrt(2 * u.shape[1])
            new = u[mine] + step * (u[a] - u[b]) + 1e-3 * rng.standard_normal(u[mine].shape)
            at = density(new)
            yes = np.log(rng.random(len(mine))) < at - like[mine]
            u[mine[yes]], like[mine[yes]] = new[yes], at[yes]
        if sweep >= sweeps // 3:
            kept.append(u[:, :5].copy())
    kept = np.array(kept)
    worth = n * kept.var((0, 1)) / kept.mean(0).var(0)  # one each where walkers' means differ as single draws do
    laws = kept[rng.integers(0, len(kept), _LAWS), rng.integers(0, n, _LAWS)]
    laws[:, [1, 3]] = np.exp(laws[:, [1, 3]])
    laws[:, 0] += _ACIDS * rng.standard_normal(_LAWS)  # a coupon that nobody has measured
    return laws, float(worth.min())


_BOTH = ("ritt2020", "jeong2023")


def acidity_cells() -> list[Cell]:
    "The law that ships, and the law without each source."
    mark = lambda name: {"answer": name, "sample": digest(asset(f"answers/{name}.json").read_bytes())}
    held = [Cell(f"charge over pH without {s}", "charge over pH", mark(f"without-{s}") | {"held": s}) for s in _BOTH]
    return [Cell("charge over pH", "charge over pH", mark("nf270") | {"held": None}), *held]


@cell("charge over pH")
def _cell_acidity(folder, spec, found, tick):
    "The law of the charge, likeliest and drawn; where a source is held out of membranes and law, what `predict` says."
    every, answer, held = {s: measured_over_pH(s) for s in _BOTH}, load_answer(spec["answer"]), spec["held"]
    seen, few = [rows for name, rows in every.items() if name != held], answer.thinned(6 if held else 8)
    likeliest = _likeliest(*_misfit(seen, few))  # the law, and where its walkers set out
    law, sd = _law_of(likeliest)
    laws, n_eff = _drawn(_log_density(seen, few), likeliest)
    facts = {"law": astuple(law), "sd": astuple(sd), "draws worth": n_eff}
    if held:
        facts |= _scores(every[held], answer, law, laws)
    tick(1)
    return {"laws": torch.from_numpy(laws)}, facts


_SCORES = ("values", "RMSE, fixed charge", "RMSE, likeliest law", "RMSE", "covered, likeliest law", "covered", "width")


def _scores(rows: OverPH, answer: Answer, law: ChargeByPH, laws: np.ndarray) -> dict:
    "Errors of a charge that stays, of the likeliest law and of the laws, and what the interval holds."
    n, rmse = len(answer), lambda R: float(np.sqrt(np.mean((R - rows.rejection) ** 2)))
    fixed = predicted_over_pH(replace(rows, pH=np.full(len(rows.pH), PH_OF_CHARGES)), answer)
    drawn = replace(answer, laws=laws[np.arange(n) % len(laws)])
    R, low, high = predicted_over_pH(rows, drawn)
    plain = predicted_over_pH(rows, replace(answer, laws=np.tile(astuple(law), (n, 1))))
    inside = lambda a, b: float(np.mean((a <= rows.rejection) & (rows.rejection <= b)))
    errors = rmse(fixed[0]), rmse(plain[0]), rmse(R)
    shares = inside(*plain[1:]), inside(low, high), float(np.mean(high - low))
    return dict(zip(_SCORES, (len(R), *errors, *shares), strict=True))


def write_acidity(
    read,  # Name of a cell -> its tensors and facts
    folder: Path | None,  # Where its tables go; None: into the assets, and the law into the module that ships it
) -> Path:
    "The laws and their scores with each source held out."
    found = {c.spec["answer"]: read(c.name) for c in acidity_cells()}
    if folder is None:
        own = found["nf270"][1]
        _write_fit(ChargeByPH(*own["law"]), ChargeByPH(*own["sd"]))
    four = lambda laws: [[float(f"{v:.4g}") for v in law] for law in laws.tolist()]
    shown = ("law", "sd", "draws worth", *_SCORES)
    out = {name: {k: f[k] for k in shown if k in f} | {"laws": four(t["laws"])} for name, (t, f) in found.items()}
    record = {"command": "ion-ode reproduce --only acidity --profile full --store", "sets": out}
    return atomic_write((folder or asset("charge_laws.json").parent) / "charge_laws.json", _lines(record))


def _lines(record: dict) -> str:
    "JSON with one law a line."
    return re.sub(r"\n {5}|(?<=\d)\n {4}(?=\])", " ", json.dumps(record, indent=1)) + "\n"


def _write_fit(law: ChargeByPH, sd: ChargeByPH) -> Path:
    "Put the law's numbers and their uncertainties into the module that ships them."
    from ion_ode.dspmde import charge_pH

    file, short = Path(charge_pH.__file__), lambda v, form: ", ".join(f"{x:{form}}" for x in astuple(v))
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    new = {"FITTED = ": short(law, ".3g"), "FITTED_SD = ": short(sd, ".2g")}
    for k, line in enumerate(lines):
        for name, numbers in new.items():
            if line.startswith(name):
                lines[k] = f"{name}ChargeByPH({numbers})\n"
    return atomic_write(file, "".join(lines))

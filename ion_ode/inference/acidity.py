"""The law of the charge over pH, fitted on what was measured, and scored with each source held out

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

# Two sources asked NF270 over pH: NaCl alone at 3.5 to 10.5 (Ritt et al. 2020) and mixtures of anions at 3.5 to 9 in
# several coupons (Jeong et al. 2023, a compilation). Pore, thickness, permittivity and the charge near neutral are
# those of an answer, each coupon's charge has a factor of its own, and five numbers say how it follows the pH.

import json
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from ion_ode.closure import Cell, cell
from ion_ode.core import LMH, T_REF, bar
from ion_ode.dspmde.charge_pH import ChargeByPH, charge_factor
from ion_ode.inference.answer import Answer, load_answer
from ion_ode.inference.pores import passages
from ion_ode.inference.rows import _all_rows, answer_feeds, osmotic_at_bulk
from ion_ode.store import asset, atomic_write, digest
from ion_ode.water.neutrality import close_charge

__all__ = ["OverPH", "acidity_cells", "fit_charge", "measured_over_pH", "rejections_over_pH", "write_acidity"]

_ASKED = ("Na+", "Cl-", "Br-", "NO3-")  # Ions whose partitioning an answer knows
_LOWEST = 3.4  # pH below which nothing is used
# Before any of these rows: pK of acids and amine and their amounts, wide; 9.8 as the acids inside ionise above 9
_PRIOR, _WIDTH = np.array([5.5, 2.0, 9.8, 0.5, 4.0]), np.array([1.0, 3.0, 0.7, 0.8, 1.0])
_LOW, _HIGH = [3.5, 0, 8, 0, 2], [7.5, 50, 12, 20, 6.5]
_NOISE = 0.08  # Of a rejection and the model's [-]
_COUPON = 0.6  # Sd of the logarithm of a coupon's factor


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


def rejections_over_pH(
    rows: OverPH,
    answer: Answer,  # Whose membranes are asked
    law: ChargeByPH | None,  # None: the charge does not follow the pH
    coupon: np.ndarray | None = None,  # Factor on the charge of every coupon
) -> np.ndarray:  # (value,) mean over the membranes
    "What an answer says to rows over pH."
    wide, membrane, offset, thick, T = answer._problem(rows.ions, rows.c_feed, "observed", None, T_REF)
    factor = np.ones(len(rows.pH)) if law is None else charge_factor(rows.pH, law=law)
    factor = factor if coupon is None else factor * coupon[rows.coupon]
    n = len(answer)
    membrane = membrane | {"charge": membrane["charge"] * np.tile(factor, n)}
    J = np.tile(rows.flux, n)[:, None]
    through, _ = passages(rows.ions, wide, J, membrane, offset, thick * rows.film, T, 1e-3)
    return 1 - np.nanmean(through[:, 0].reshape(n, len(rows.pH), -1), 0)[rows.state, rows.ion]


def fit_charge(
    sources: list[OverPH],
    answer: Answer,  # Of a few membranes
) -> tuple[ChargeByPH, ChargeByPH]:  # Likeliest numbers and their standard deviations
    "The law's five numbers from measured rejections, from wide priors, a factor on the charge of every coupon beside."
    from scipy.optimize import least_squares

    sizes = [s.coupon.max() + 1 for s in sources]
    ends = np.cumsum([len(_PRIOR), *sizes])

    def off(x):
        law, parts = ChargeByPH(*x[:5]), [(x[:5] - _PRIOR) / _WIDTH, x[5:] / _COUPON]
        for s, a, b in zip(sources, ends, ends[1:], strict=False):
            R = rejections_over_pH(s, answer, law, np.exp(x[a:b]))
            parts.append((np.nan_to_num(R, nan=2.0) - s.rejection) / _NOISE)
        return np.concatenate(parts)

    more = ends[-1] - 5
    scale = np.concatenate([_WIDTH, np.full(more, _COUPON)])
    bounds = [np.concatenate([v, np.full(more, e)]) for v, e in ((_LOW, -4.0), (_HIGH, 4.0))]
    start = np.concatenate([_PRIOR, np.zeros(more)])
    found = least_squares(off, start, bounds=bounds, x_scale=scale, diff_step=1e-3, xtol=1e-4, ftol=1e-4)
    sd = np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac)))
    return ChargeByPH(*map(float, found.x[:5])), ChargeByPH(*map(float, sd[:5]))


_BOTH = ("ritt2020", "jeong2023")


def acidity_cells() -> list[Cell]:
    "The law that ships, and the law without each source."
    mark = lambda name: {"answer": name, "sample": digest(asset(f"answers/{name}.json").read_bytes())}
    held = [Cell(f"charge over pH without {s}", "charge over pH", mark(f"without-{s}") | {"held": s}) for s in _BOTH]
    return [Cell("charge over pH", "charge over pH", mark("nf270") | {"held": None}), *held]


@cell("charge over pH")
def _cell_acidity(folder, spec, found, tick):
    "The law of the charge; where a source is held out of the membranes and of the law, what it says of it."
    every, answer, held = {s: measured_over_pH(s) for s in _BOTH}, load_answer(spec["answer"]), spec["held"]
    seen = [rows for name, rows in every.items() if name != held]
    law, sd = fit_charge(seen, answer.thinned(6 if held else 8))
    facts = {"law": astuple(law), "sd": astuple(sd)}
    if held:
        off = [rejections_over_pH(every[held], answer.thinned(24), m) - every[held].rejection for m in (None, law)]
        fixed, scored = (float(np.sqrt(np.mean(e**2))) for e in off)
        facts |= {"values": len(every[held].rejection), "RMSE, fixed charge": fixed, "RMSE": scored}
    tick(1)
    return {}, facts


def write_acidity(
    read,  # Name of a cell -> its tensors and facts
    folder: Path | None,  # Where its scores go; None: the law goes into the module that ships it
) -> Path:
    "The law and its scores with each source held out."
    facts = {c.name: read(c.name)[1] for c in acidity_cells()}
    if folder is None:
        own = facts["charge over pH"]
        return _write_fit(ChargeByPH(*own["law"]), ChargeByPH(*own["sd"]))
    shown = ("law", "sd", "values", "RMSE, fixed charge", "RMSE")
    out = {name: {k: v for k, v in f.items() if k in shown} for name, f in facts.items()}
    return atomic_write(folder / "charge_pH.json", json.dumps(out, indent=1) + "\n")


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

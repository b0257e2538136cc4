"""A user's own values pin the coupon, and with enough of them the membrane"""

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import t as student

from ion_ode.core import InputError
from ion_ode.data.measurements import Measurements
from ion_ode.data.reader import load_measurements
from ion_ode.inference.discrepancy import NU, errors_at, log_likelihood_of, residuals_of
from ion_ode.inference.laws import numbers_of, with_errors
from ion_ode.inference.pores import solve
from ion_ode.inference.population import next_power, resampled
from ion_ode.inference.states import States, forward, mean_flux, of_rows, of_y, y_of

__all__ = ["calibrate", "said_of"]

_N = 512  # Membranes carried
_SMOOTH = 0.25  # Width of the kernel about a membrane, in standard deviations of the sample (Liu and West 2001)


def _own_states(
    measurements,  # `Measurements`, a frame or a file
    prior,
    **reading,  # Of `load_measurements`
) -> tuple[States, pd.DataFrame]:
    "Somebody's values in the form of the likelihood."
    d = _frame(measurements, reading)
    feeds = d.attrs.pop("feeds")  # a table that stays there is copied with every step of pandas
    if len(d) > 200:
        raise InputError(
            f"{len(d)} values arrived; a coupon is calibrated with 1 to 200, of which the best are "
            f"few in different feeds"
        )
    return States.of(d, prior, feeds), d


def _frame(measurements, reading) -> pd.DataFrame:
    "One row a value with all that the likelihood asks for; whole feeds in .attrs."
    m = measurements
    if not isinstance(m, Measurements):
        table = load_measurements(m, **reading)
        m = Measurements.from_frame(table, feeds=table.attrs.get("feeds"))
    return _values(m)


def _values(m) -> pd.DataFrame:
    sample = np.array([f"feed {k}" for k in np.unique(m.c_feed.round(9), axis=0, return_inverse=True)[1].ravel()])
    s, keep = m.state, np.ones(len(m.rejection), bool)
    z_neg = np.array([i.rstrip("0123456789").endswith("-") for i in m.ions])
    salt = m.salt_level | ((m.c_feed > 0).sum(1) == 2)[s]
    for k in np.flatnonzero(salt & z_neg[m.ion]):  # one value of a salt stands on both its ions
        partner = (m.state == m.state[k]) & salt & (np.abs(m.rejection - m.rejection[k]) < 1e-9)
        keep[k] = not (partner & ~z_neg[m.ion]).any()
    coupon = np.where(m.coupon == "", "own", m.coupon).astype(object)
    d = pd.DataFrame(
        {
            "solution_id": sample[s],
            "state_id": s.astype(str),
            "ion": np.array(m.ions, object)[m.ion],
            "c_feed_mol_m3": m.c_feed[s, m.ion],
            "flux_m_s": m.flux[s],
            "pressure_Pa": m.pressure[s],
            "temperature_K": m.temperature[s],
            "charge_pH": m.pH[s],
            "kind": m.kind[s],
            "film_m": m.film[s],
            "rejection": m.rejection,
            "rejection_sd": m.sd,
            "censored": m.censored == ">",
            "salt_level": m.salt_level,
            "coupon": coupon[s],
            "laboratory": "own",
            "source_id": "own",
        }
    )[keep]
    d.index = pd.Index([f"value {k + 1}" for k in range(len(d))], name="row_id")
    lost = d[d.flux_m_s.isna() & d.pressure_Pa.isna()]
    if len(lost):
        raise InputError(
            f"{lost.index[0]} has neither flux nor pressure; give one of them, such as a column 'flux "
            f"[LMH]' or 'pressure [bar]'"
        )
    rows = [
        (sample[k], i, m.c_feed[k, j]) for k in range(len(m.flux)) for j, i in enumerate(m.ions) if m.c_feed[k, j] > 0
    ]
    d.attrs["feeds"] = pd.DataFrame(rows, columns=["solution_id", "ion", "c_feed_mol_m3"]).drop_duplicates(
        ["solution_id", "ion"]
    )
    return d


def _with_errors(model, x: np.ndarray) -> dict:
    "Membranes in SI with the errors that the model's `predict` adds."
    return with_errors(numbers_of(x, model.prior), model.stretch)


def said_of(states: States, R: np.ndarray, J: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # (membrane, value) both
    "What membranes say of own values, ln(1.05 - R), and their fluxes, of what `forward` gives."
    with np.errstate(invalid="ignore"):
        return y_of(of_rows(states, R)), mean_flux(states, J)


class _Own:
    "A population of (membrane, coupon) pairs for one laboratory."

    def __init__(self, model, states, rng):
        self.m, self.s, self.rng = model, states, rng
        n = _N
        i = ((np.arange(n) + rng.random()) * len(model) / n).astype(int)
        self.x, self.laws = model.x[i].copy(), model.laws[i]
        self.lab = rng.standard_normal((n, 1, 4))
        self.own = rng.standard_normal((n, len(states.coupons)))
        self.redraw = np.random.default_rng(n)  # Of laws; where no value has a pH they change nothing
        self.y, self.J, self.like = self.look(self.x, self.lab, self.own, self.laws)
        self.center = model.x.mean(0)
        self.root = np.linalg.cholesky(np.cov(model.x.T) + 1e-9 * np.eye(model.x.shape[1]))

    def look(self, x, lab, own, laws):
        y, J = said_of(self.s, *forward(self.s, x, lab, own, solve, self.m.prior, laws))
        return y, J, log_likelihood_of(self.s, y, J, _with_errors(self.m, x))

    def near(self, n):
        "Membranes like those of the model: its kernel-smoothed sample."
        a = np.sqrt(1 - _SMOOTH**2)
        pick = self.m.x[self.rng.integers(0, len(self.m), n)]
        return (
            a * pick + (1 - a) * self.center + _SMOOTH * self.rng.standard_normal((n, self.root.shape[0])) @ self.root.T
        )

    def move(self, beta, jump):
        n = len(self.x)
        x, lab, own, laws = self.x, self.lab, self.own, self.laws
        if jump:
            x, laws = self.near(n), self.m.laws[self.redraw.integers(0, len(self.m), n)]
        else:
            a, b = self.rng.permutation(n), self.rng.permutation(n)
            by = self.rng.choice([0.3, 0.7, 1.0], (n, 1))
            lab = (
                lab
                + by[..., None] * (lab[a] - lab[b]) * (self.rng.random(lab.shape) < 0.7)
                + 0.05 * self.rng.standard_normal(lab.shape)
            )
            own = own + by * (own[a] - own[b]) + 0.05 * self.rng.standard_normal(own.shape)
        y, J, like = self.look(x, lab, own, laws)
        size = lambda lab, own: (lab**2).sum((1, 2)) + (own**2).sum(1)
        ratio = beta * (like - self.like) - 0.5 * (size(lab, own) - size(self.lab, self.own))
        yes = np.log(self.rng.random(n)) < ratio
        moved = {"x": x, "lab": lab, "own": own, "laws": laws, "y": y, "J": J, "like": like}
        for name, new in moved.items():
            old = getattr(self, name).copy()
            old[yes] = new[yes]
            setattr(self, name, old)
        return yes.mean()

    def take(self, i):
        for k in ("x", "lab", "own", "laws", "y", "J", "like"):
            setattr(self, k, getattr(self, k)[i])


_METHODS = ("sampler", "network")
_FEW = 30  # Members below which a sample is at the edge of what the model knows


def calibrate(model, measurements, *, seed: int = 0, method: str = "sampler", **reading):
    "The model for the coupon that was measured; what the values taught is in its card."
    if model.card.get("calibrated"):
        raise InputError(
            "this model is calibrated already; start from the shipped one and give all your values at once"
        )
    if method not in _METHODS:
        raise InputError(f"method is {method!r}; expected one of {', '.join(_METHODS)}")
    states, d = _own_states(measurements, model.prior, **reading)
    return (_sampled if method == "sampler" else _read)(model, states, d, seed)


def _read(model, states, d, seed: int):
    "In one pass of the network that was taught the pore model."
    from ion_ode.inference.reader import read_values
    from ion_ode.inference.stand_in import solve_near

    r = read_values(model, states, seed)
    lab, own = r.lab[:, None], r.own[:, None]
    outside = _outside(r.before, d)
    said = _said(model, *r.first), _said(model, r.x, lab, own)
    coupon = np.column_stack([r.lab, r.own])
    left = None
    if len(states.coupons) == 1:  # of several, what is each one's own is averaged over
        said_now = said_of(states, *forward(states, r.x, lab, own, solve_near, model.prior, r.laws))
        left = residuals_of(states, *said_now, _with_errors(model, r.x))
    model = replace(model, x=r.x, coupon=coupon, laws=r.laws)
    return _told(model, states, d, said, outside, int(r.effective), left)


def _sampled(model, states, d, seed: int):
    "By sequential Monte Carlo with the pore model."
    rng = np.random.default_rng(seed)
    w = _Own(model, states, rng)
    before = _said(model, w.x, w.lab, w.own)
    outside = _outside(w, d)
    beta = 0.0
    while beta < 1.0:
        like = np.where(np.isfinite(w.like), w.like, -1e30)
        new = next_power(like, beta, 0.5)
        w.take(resampled((new - beta) * like, _N, rng))
        beta = new
        for k in range(12 if beta == 1.0 else 6):
            w.move(beta, jump=k % 3 == 2)
    distinct = len(np.unique(w.x[:, 0].round(9)))
    after = _said(model, w.x, w.lab, w.own)
    keep = np.linspace(0, _N - 1, min(len(model), _N)).round().astype(int)
    own = w.own[:, 0] if len(states.coupons) == 1 else rng.standard_normal(_N)
    coupon = np.column_stack([w.lab[:, 0], own])[keep]
    left = residuals_of(states, w.y, w.J, _with_errors(model, w.x)).taken(keep)
    model = replace(model, x=w.x[keep], coupon=coupon, laws=w.laws[keep])
    return _told(model, states, d, (before, after), outside, distinct, left)


def _told(model, states, d, said, outside, distinct: int, left):
    "These membranes and coupons, and in their card what the values taught."
    before, after = said
    taught = [f"{len(d)} values of {len(states.coupons)} coupon(s) in {len(set(d.solution_id))} feed(s)"]
    taught += [f"{k}: {before[k]} before, {after[k]} now" for k in before]
    taught += outside
    if distinct < _FEW:
        taught.append(
            f"the values agree with {distinct} membranes of the sample only: your membrane is at the "
            f"edge of what the model knows; trust its interval less"
        )
    card = model.card | {"calibrated": f"; calibrated with {len(d)} values", "taught": taught, "distinct": distinct}
    return replace(model, card=card, own=left)


def _said(model, x, lab, own) -> dict:
    "90 % of what the coupon does."
    p, pr = numbers_of(x, model.prior), model.prior
    both = np.sqrt(1 - pr.within) * lab[:, 0, 0] + np.sqrt(pr.within) * own[:, 0]
    span = lambda v, unit: "{:.2g} to {:.2g} {}".format(*np.quantile(v, [0.05, 0.95]), unit)
    return {
        "charge of the coupon over the membrane's": span(np.exp(p["coupon charge"] * both), "times"),
        "thickness": span(1e6 * p["thickness"] * np.exp(p["coupon thickness"] * lab[:, 0, 1]), "µm"),
        "film": span(1e6 * pr.film[0] * np.exp(pr.film[1] * lab[:, 0, 2]), "µm"),
    }


def _outside(w, d) -> list[str]:
    "Values that the model did not expect, each with a sentence."
    s = w.s
    sd = np.hypot(*errors_at(_with_errors(w.m, w.x), w.J, s.row_share))
    y = w.y + sd * student.ppf(w.rng.random(w.y.shape), NU)
    low, high = np.nanquantile(y, [0.005, 0.995], axis=0)
    out = []
    for k in np.flatnonzero((y_of(s.rejection) < low) | (y_of(s.rejection) > high)):
        row = d.loc[s.row_id[k]]
        out.append(
            f"{s.row_id[k]}, {row.ion} {row.rejection:.3g}, lies outside the {of_y(high[k]):.2g} to "
            f"{of_y(low[k]):.2g} expected of 99 in 100: check it, or the membrane is another"
        )
    return out

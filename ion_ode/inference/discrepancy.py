"""What the pore model misses on a coupon, and what own values say of it

A value differs from the pore model by an error of its own and by a discrepancy, which does not average out: one ion on
one coupon errs alike in feeds that are alike (Kennedy and O'Hagan 2001, 10.1111/1467-9868.00294). On the scale of y =
ln(1.05 - R) both are one Student distribution over all values of a coupon, its covariance

    noise_i² [i = j] + d_i d_j (f_i . f_j) exp(-(ln Q_i/Q_j)²/(2 l²) - |s_i - s_j|²/(2 m²)),

with f the ions a value speaks of (both of a salt, else one), Q the equivalents of its feed and s their
shares. Given own values the discrepancy of a feed asked about is the Student distribution of the rest: near the values
it is known and corrects the prediction, far from them it is as wide as before; how well the model fits the values tells
its scale, with more degrees of freedom the more values there are (Shah, Wilson and Ghahramani 2014, arXiv:1402.4306).
What the corrections add to the charge of a permeate is taken back from its ions, from the least certain most."""

from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.special import log_ndtr

from ion_ode.inference.laws import discrepancy_of, share_of_sign
from ion_ode.inference.states import States, faded, y_of
from ion_ode.water.ions import get_ion

__all__ = ["MODEL", "NOISE", "NU", "Residuals", "corrected", "errors_at", "log_likelihood_of", "residuals_of"]

NU = 5.0  # Degrees of freedom of the errors of a coupon before its values
# Errors on the scale of y, of a value and of the model. Once own values have taken the spread of the membranes away,
# the model's stands by itself, and is larger than what `predict` adds to that spread: with the errors of `predict` in
# both places fewer values are covered after one and two own values, and before them intervals are wider than
# they need be. Both were tried on sources that were held out, among other settings (`benchmarks/own_errors.py`)
NOISE, MODEL = 0.06, 0.2
ALIKE_Q = 1.0  # l: ratio of equivalents, in logarithms, over which a feed is like another
ALIKE_SHARES = 0.7  # m: the same of their shares
_COUPONS = 0.5  # Share of the discrepancy that coupons of one laboratory have in common


@dataclass(frozen=True)
class _Places:
    "Where values stand: feed, ion and coupon."

    ln_q: np.ndarray  # (value,) of the equivalents
    shares: np.ndarray  # (value, ion) of each ion in the equivalents of its sign
    speaks: np.ndarray  # (value, ion) of which ions, as a vector of length one
    coupon: np.ndarray  # (value,) index; -1: one that has no value

    @classmethod
    def of(cls, ions, c, column, coupon, every):  # Feeds (value, ion), place of the value's ion, all ions
        at = [every.index(i) for i in ions]
        z = np.array([get_ion(i).z for i in ions], float)
        shares, speaks = np.zeros((2, len(c), len(every)))
        shares[:, at] = share_of_sign(c, z)
        salt = (c > 0).sum(1) == 2
        speaks[np.arange(len(c)), np.array(at)[column]] = 1.0
        speaks[np.ix_(salt, at)] = (c[salt] > 0) / np.sqrt(2)
        return cls(np.log(0.5 * (c * np.abs(z)).sum(1) + 1e-9), shares, speaks, coupon)

    def alike(self, other: "_Places") -> np.ndarray:  # (value, value of the other)
        "Correlation of the discrepancies."
        far = ((self.ln_q[:, None] - other.ln_q) / ALIKE_Q) ** 2
        far = far + ((self.shares[:, None] - other.shares) ** 2).sum(2) / ALIKE_SHARES**2
        same = np.where(self.coupon[:, None] == other.coupon, 1.0, _COUPONS)
        return same * (self.speaks @ other.speaks.T) * np.exp(-0.5 * far)


@dataclass(frozen=True)
class Residuals:
    "Own values beside what each membrane says of them."

    ions: tuple[str, ...]  # Of their feeds
    c_feed: np.ndarray  # (value, ion) [mol/m³]
    column: np.ndarray  # (value,) place of the ion
    coupon: np.ndarray  # (value,) index
    size: np.ndarray  # (membrane, value) of the discrepancy, on the scale of y
    noise: np.ndarray  # (membrane, value) error of its own
    off: np.ndarray  # (membrane, value) measured less said, on the scale of y

    def __post_init__(self):
        places = _Places.of(self.ions, self.c_feed, self.column, self.coupon, self.ions)
        K = self.size[:, :, None] * self.size[:, None] * places.alike(places)
        K = K + np.eye(K.shape[1]) * (self.noise**2 + 1e-10)[:, None]
        root = np.linalg.cholesky(K)
        object.__setattr__(self, "_root", root)
        object.__setattr__(self, "white", np.linalg.solve(root, self.off[..., None])[..., 0])

    def taken(self, i) -> "Residuals":
        "Those of some membranes."
        return replace(self, size=self.size[i], noise=self.noise[i], off=self.off[i])

    @property
    def degrees(self) -> float:
        "Degrees of freedom of what is not known yet."
        return NU + self.off.shape[1]

    @property
    def scale(self) -> np.ndarray:  # (membrane,)
        "Factor on all errors that the residuals tell."
        return np.sqrt((NU + (self.white**2).sum(1)) / self.degrees)

    @property
    def log_likelihood(self) -> np.ndarray:  # (membrane,)
        "Log density of the values, without its constant."
        volume = np.log(np.diagonal(self._root, axis1=1, axis2=2)).sum(1)
        return -volume - 0.5 * self.degrees * np.log1p((self.white**2).sum(1) / NU)

    def given(self, ions, c):  # Feeds asked about (sample, ion)
        "Discrepancy of feeds in units of its size, and the share of its variance left; (membrane, sample, ion) both."
        every, (s, n) = tuple(dict.fromkeys((*self.ions, *ions))), c.shape
        mine = _Places.of(self.ions, self.c_feed, self.column, self.coupon, every)
        one = len(set(self.coupon)) == 1
        coupon = np.full(s * n, self.coupon[0] if one else -1)
        asked = _Places.of(ions, np.repeat(c, n, axis=0), np.tile(np.arange(n), s), coupon, every)
        weight = np.linalg.solve(self._root, self.size[..., None] * mine.alike(asked))  # (membrane, value, sample ion)
        left = np.clip(1 - (weight**2).sum(1), 0, 1)
        shift = (self.white[:, None] @ weight)[:, 0]
        return shift.reshape(-1, s, n), left.reshape(-1, s, n)

    def written(self) -> dict:
        "As lists, for a file; errors that are alike for all membranes once."
        plain = lambda v: v.round(6).tolist() if isinstance(v, np.ndarray) else list(v)
        alike = lambda v: v[0] if (v == v[0]).all() else v
        return {k: plain(alike(v) if k in ("size", "noise") else v) for k, v in asdict(self).items()}

    @classmethod
    def read(cls, record: dict) -> "Residuals":
        "From `written`."
        whole = {"column", "coupon"}
        arrays = {k: np.array(v, int if k in whole else float) for k, v in record.items() if k != "ions"}
        arrays |= {k: np.broadcast_to(arrays[k], arrays["off"].shape) for k in ("size", "noise")}
        return cls(tuple(record["ions"]), **arrays)


def corrected(
    ions,  # Names
    c: np.ndarray,  # Feeds (sample, ion) [mol/m³]
    R: np.ndarray,  # Rejections (membrane, sample, flux, ion)
    shift: np.ndarray,  # Discrepancy that own values tell, on the scale of y, as R
    size: np.ndarray,  # Of the discrepancy, as R
) -> np.ndarray:  # As R
    "Rejections with what own values tell of the model's error; what that adds to a permeate's charge is taken back."
    z = np.array([get_ion(i).z for i in ions], float)
    feed = c[:, None]
    R_new = 1.05 - np.exp(y_of(R) + shift)
    room = np.where(np.isfinite(R), (feed * (1.05 - np.minimum(R, 1.0)) * size) ** 2, 0.0)
    excess = np.nansum(z * feed * (R - R_new), -1, keepdims=True)
    back = room * z * excess / np.maximum((room * z**2).sum(-1, keepdims=True), 1e-300)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.minimum(R_new + np.where(feed > 0, back / feed, 0.0), 1.0)


def errors_at(
    membranes,  # Columns of `parameters`, with the answer's factor on the errors
    flux: np.ndarray,  # (membrane, ...) [m/s]
    share: np.ndarray,  # Of the equivalents of its sign, (...) or with more places of size one
    own: bool = False,  # Whether own values tell the membrane
) -> tuple[np.ndarray, np.ndarray]:  # As flux by share, on the scale of y
    "Error of a value of its own, and of the model."
    of_value, of_model = faded(flux)
    if own:
        return NOISE * of_value, MODEL * of_model + 0.0 * share
    noise = np.asarray(membranes["noise"]).reshape(-1, *[1] * (of_value.ndim - 1))
    return noise * of_value, discrepancy_of(membranes, share) * of_model


def _errors(states: States, flux, membranes) -> tuple[np.ndarray, np.ndarray]:  # (membrane, row) both
    "Error of each value of its own, and the size of the model's."
    noise, size = errors_at(membranes, np.nan_to_num(flux), states.row_share, own=True)
    return np.hypot(noise, states.sd), size


def residuals_of(
    states: States,  # Own values
    y: np.ndarray,  # What each membrane says of them, ln(1.05 - R) (membrane, row); nan where no solution
    flux: np.ndarray,  # (membrane, row) [m/s]
    membranes,  # Columns of `parameters` with the answer's factor on the errors
) -> Residuals:
    "Own values beside what each membrane says of them; limits aside."
    at = ~states.limit
    noise, size = _errors(states, flux, membranes)
    c, coupon = states.c_feed[states.row_problem[at, 0]], states.curve_coupon[states.curve[at]]
    off = np.nan_to_num((y_of(states.rejection) - y)[:, at], nan=1e3)
    return Residuals(states.ions, c, states.row_ion[at], coupon, size[:, at], noise[:, at], off)


_NUMBERS = 4_000_000  # Of the covariances that are held at once


def log_likelihood_of(states: States, y: np.ndarray, flux: np.ndarray, membranes) -> np.ndarray:  # (membrane,)
    "Log density of own values and limits, for arguments as of `residuals_of`."
    size = max(1, _NUMBERS // max(1, y.shape[1]) ** 2)
    if len(y) > size:
        p = {k: np.asarray(membranes[k]) for k in ("noise", "discrepancy trace", "discrepancy major")}
        some = [slice(k, k + size) for k in range(0, len(y), size)]
        return np.concatenate([log_likelihood_of(states, y[k], flux[k], {n: v[k] for n, v in p.items()}) for k in some])
    at = states.limit
    like = residuals_of(states, y, flux, membranes).log_likelihood
    if not at.any():
        return like
    sigma = np.hypot(*_errors(states, flux, membranes))[:, at]
    over = (y_of(np.minimum(states.rejection, 0.985)) - y)[:, at] / sigma
    return np.nan_to_num(like + log_ndtr(over).sum(1), nan=-1e9, neginf=-1e9)

"""A coupon's own values read by a network: what `calibrate` samples, in one pass

A sample of membranes with coupons is drawn from the model once. Two dozen anchors are asked of the pore model at the
points that were measured, a network (`attention_odenet.point_reader`) says what that means for each member of the
sample, and the likelihood of the sampler weighs them. The few hundred it believes most are asked of the pore model
itself, so that an error of the network costs members, not truth. Wherever that model is asked, the network of
passages answers for it, and the certified solver where that one may be off by a tenth of a measurement's error.
Several coupons of one laboratory share all but a part of their charge: that part is averaged over, coupon by coupon."""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from scipy.special import logsumexp, ndtri
from scipy.stats import qmc

from ion_ode.attention_odenet.point_reader import PointReader
from ion_ode.core import InputError
from ion_ode.dspmde.charge_pH import PH_OF_CHARGES, factors_of_each
from ion_ode.inference.discrepancy import log_likelihood_of
from ion_ode.inference.laws import NEIGHBOURS, OWN_OFFSETS, SHIFTING, Prior, coupon_effects, numbers_of, with_errors
from ion_ode.inference.population import resampled
from ion_ode.inference.stand_in import solve_near
from ion_ode.inference.states import States, forward, mean_flux, of_rows, y_of
from ion_ode.store import asset, digest

__all__ = ["Anchors", "effective", "read_values", "smoothed", "tell_membranes"]

_SMOOTH = 0.25  # As in `calibrate`
_GROUPS, _OWN = 2048, 4  # Membranes with a laboratory, and coupons of each
_SHOWN = 256  # Members that say what was expected
# Members that the pore model is asked as well, to mend what the network says of all
_CONTROLS = np.linspace(0, _GROUPS - 1, 32).round().astype(int)
_PROPOSED, _BROAD = 256, 0.7  # Membranes that the network proposes to the pore model, by a power of their weight


def effective(
    x: np.ndarray,  # (n, GLOBALS)
    coupon: np.ndarray,  # (n, 5) of `Answer.coupon`
    prior: Prior,
) -> dict[str, np.ndarray]:  # Columns of `parameters`; factor of the charge, film and permeability as normal numbers
    "Membranes with what their coupons do to them."
    p = numbers_of(x, prior)
    p["factor"], p["thickness"] = coupon_effects(p, coupon[:, 0], coupon[:, 4], coupon[:, 1], prior.within)
    return p | {"film": coupon[:, 2], "permeability": coupon[:, 3]}


def tell_membranes(
    p: dict[str, np.ndarray],  # Of `effective`
) -> torch.Tensor:  # (n, number) of order one
    "Membranes as the network reads them."
    out = [(p["r_pore"] - 0.5e-9) / 0.05e-9, np.log(p["thickness"] / 1e-6), (p["eps_pore"] - 45) / 8]
    out += [np.arcsinh(p[k] * p["factor"] / 5) for k in ("charge", *(f"shift {i}" for i in SHIFTING))]
    out += [2 * p["b"], 2 * p["c"], 2 / (1 + p["k"])]
    out += [p[f"ln {i}"] for i in (*OWN_OFFSETS, *NEIGHBOURS)]
    return torch.as_tensor(np.stack([*out, p["film"], p["permeability"]], 1), dtype=torch.float32)


@dataclass(frozen=True)
class _Values:
    "Measured values as the network reads them, each at its own flux."

    states: States
    anchors: np.ndarray  # ln(1.05 - R) that the anchors give, (value, anchor)
    flux: np.ndarray  # (value,) [m/s]
    by_pressure: np.ndarray  # (value,) bool
    pH: np.ndarray  # (value,), that of the charges where none is known

    @classmethod
    def of(cls, states: States, anchors: np.ndarray) -> "_Values":
        "From `States`; a curve of more than four fluxes is interpolated between four there, as the anchors are here."
        s, n = states, len(states.rejection)
        at = s.row_problem[np.arange(n), np.abs(s.row_weight).argmax(1)]
        flux = np.exp((np.log(s.flux[s.row_problem]) * s.row_weight).sum(1))
        pH = np.full(n, np.nan) if s.pH is None else s.pH[at]
        return cls(s, anchors, flux, s.by_pressure[at], np.where(np.isfinite(pH), pH, PH_OF_CHARGES))


def _by_coupon(states: States, y, J, p: dict) -> np.ndarray:  # (membrane, coupon)
    "Log likelihood of the values of each coupon, as `calibrate` has it; what coupons have in common is left out."
    out = []
    for k in range(len(states.coupons)):
        at = states.curve_coupon[states.curve] == k
        out.append(log_likelihood_of(states.some(at), y[:, at], J[:, at], p))
    return np.stack(out, 1)


@dataclass(frozen=True)
class Anchors:
    "Membranes with coupons of which the pore model is asked at every point."

    x: np.ndarray  # (anchor, GLOBALS)
    coupon: np.ndarray  # (anchor, 5) of `Answer.coupon`

    def at(self, states: States, prior: Prior) -> np.ndarray:  # (value, anchor)
        "What they give where it was measured, ln(1.05 - R), near neutral: the pH is told with the members."
        states = replace(states, pH=None)
        lab = np.repeat(self.coupon[:, None, :4], len(states.laboratories), 1)
        own = np.repeat(self.coupon[:, 4:], len(states.coupons), 1)
        R, _ = forward(states, self.x, lab, own, solve_near, prior=prior)
        return y_of(of_rows(states, R)).T


@lru_cache
def _load_reader(path: str | Path | None = None) -> tuple[PointReader, Anchors, dict]:
    "The network that ships, its anchors, and what it was taught."
    with safe_open(str(asset("answers/reader.safetensors") if path is None else path), "pt") as f:
        meta, state = f.metadata(), {k: f.get_tensor(k) for k in f.keys()}
    net = PointReader(state["key.0.weight"].shape[1], state["basis"], len(state["key.0.weight"]))
    net.load_state_dict(state)
    card = json.loads(meta["card"])
    anchors = Anchors(*(np.array(card["anchors"][k]) for k in ("x", "coupon")))
    return net.eval().requires_grad_(False), anchors, card


def smoothed(x: np.ndarray, n: int, rng, width: float = _SMOOTH) -> np.ndarray:  # (n, GLOBALS)
    "Membranes like those of a sample: a kernel about each, mean and covariance kept (Liu and West 2001)."
    root = np.linalg.cholesky(np.cov(x.T) + 1e-9 * np.eye(x.shape[1]))
    i = ((np.arange(n) + rng.random()) * len(x) / n).astype(int)
    near = np.sqrt(1 - width**2) * (x[i] - x.mean(0)) + x.mean(0)
    return near + width * rng.standard_normal((n, len(root))) @ root.T


@dataclass(frozen=True)
class _Sample:
    "Membranes with laboratories (group) and coupons (own) of a model, and their keys."

    x: np.ndarray  # (group, GLOBALS)
    lab: np.ndarray  # (group, 4)
    own: np.ndarray  # (group * _OWN,)
    laws: np.ndarray  # (group, 5) how the charge follows the pH
    p: dict  # Of `effective`, with errors, (group * _OWN,)
    codes: torch.Tensor  # (group * _OWN, rank), near neutral

    def codes_at(self, pH: float, net: PointReader) -> torch.Tensor:  # (group * _OWN, rank)
        "Keys of the members with the charge that their laws give at a pH."
        if pH == PH_OF_CHARGES:
            return self.codes
        own, bound = (np.repeat(f, _OWN) for f in factors_of_each([pH], self.laws))
        factors = {"charge": own} | {f"shift {i}": bound for i in SHIFTING}
        return _codes(net, self.p | {k: f * self.p[k] for k, f in factors.items()})


def _codes(net: PointReader, p: dict) -> torch.Tensor:
    "Keys of members, `effective`."
    with torch.no_grad():
        return net.codes(tell_membranes(p))


_SAMPLES: dict[str, _Sample] = {}


def _sample(model, net: PointReader, seed: int) -> _Sample:
    "Drawn once a model: a kernel about each of its membranes, as `calibrate` draws them, and coupons of the prior."
    key = digest([digest(model.x.tobytes()), digest(model.laws.tobytes()), model.stretch, seed, id(net)])
    if key not in _SAMPLES:
        rng, n = np.random.default_rng(seed), _GROUPS
        x = smoothed(model.x, n, rng)
        u = qmc.Sobol(4 + _OWN, seed=rng).random(n)
        lab = ndtri(np.clip(u[:, :4], 1e-6, 1 - 1e-6))
        own = ndtri(np.clip((np.arange(_OWN) + u[:, 4:]) / _OWN, 1e-6, 1 - 1e-6)).ravel()
        wide = lambda v: np.repeat(v, _OWN, axis=0)
        p = with_errors(effective(wide(x), np.column_stack([wide(lab), own]), model.prior), model.stretch)
        laws = model.laws[np.random.default_rng(n).integers(0, len(model), n)]  # without a pH they change nothing
        if len(_SAMPLES) > 8:
            _SAMPLES.clear()
        _SAMPLES[key] = _Sample(x, lab, own, laws, p, _codes(net, p))
    return _SAMPLES[key]


def _weigh(model, values: _Values, sample: _Sample, net: PointReader, states: States | None = None):
    "Log likelihood of every (group, coupon of it, measured coupon); ln(1.05 - R) (n, value), flux (n, value)."
    q, mean = net.queries(torch.as_tensor(values.anchors, dtype=torch.float32))
    exact, y = None if states is None else _controls(model, states, sample), np.empty((len(sample.own), len(values.pH)))
    for pH in np.unique(values.pH):
        at, codes = values.pH == pH, sample.codes_at(pH, net)
        y[:, at] = torch.addmm(mean[at], codes, q[at].T).numpy()
        if exact is not None:
            y[:, at] += _mended(codes, exact[:, at] - y[_CONTROLS * _OWN][:, at])
    spread = np.exp(model.prior.permeability[1] * np.repeat(sample.lab[:, 3], _OWN))
    J = np.broadcast_to(values.flux * np.where(values.by_pressure, spread[:, None], 1.0), y.shape)
    return _by_coupon(values.states, y, J, sample.p).reshape(_GROUPS, _OWN, -1), y, J


def _controls(model, states: States, sample: _Sample) -> np.ndarray:  # (control, value)
    "What a few members give by the pore model."
    at, laws = _CONTROLS, sample.laws[_CONTROLS]
    lab = np.repeat(sample.lab[at][:, None], len(states.laboratories), 1)
    own = np.repeat(sample.own[at * _OWN][:, None], len(states.coupons), 1)
    R, _ = forward(states, sample.x[at], lab, own, solve_near, model.prior, laws)
    return y_of(of_rows(states, R))


def _mended(codes: torch.Tensor, left: np.ndarray) -> np.ndarray:  # (group * own, value)
    "What the network leaves over for all, from what it leaves over for a few members: ridge regression on the keys."
    g = codes.numpy().astype(float)
    g = np.column_stack([np.ones(len(g)), (g - g.mean(0)) / g.std(0)])
    few = g[_CONTROLS * _OWN]
    ridge = np.diag([1e-3] + [16.0] * (g.shape[1] - 1))
    return g @ np.linalg.solve(few.T @ few + ridge, few.T @ left)


def _unread(model, states, card: dict) -> str:
    "Why the network does not know such values; empty where it does."
    s = states
    for says, where in (
        ("it was taught membranes of another prior", Prior.read(card["prior"]) != model.prior),
        ("a solute has no charge", (s.z == 0).any()),
    ):
        if where:
            return says
    return ""


class Read(NamedTuple):
    "What measured values make of a model."

    x: np.ndarray  # Membranes (n, GLOBALS)
    lab: np.ndarray  # Their laboratory's effects (n, 4)
    own: np.ndarray  # Their coupon's own (n,)
    laws: np.ndarray  # How their charge follows the pH (n, 5)
    effective: float  # Members that the values leave
    first: tuple  # Some membranes, laboratories and coupons before the values
    before: SimpleNamespace  # What these gave where it was measured, as `calibrate` reads it


def read_values(
    model,  # `Answer`
    states: States,  # Of the values
    seed: int = 0,
) -> Read:
    "Membranes for measured values: proposed by the network, weighed by the pore model."
    net, anchors, card = _load_reader()
    if why := _unread(model, states, card):
        raise InputError(f"{why}, which the network does not know; leave method='network' out")
    sample, values = _sample(model, net, seed), _Values.of(states, anchors.at(states, model.prior))
    said, y, J = _weigh(model, values, sample, net, states)
    rng, n, one = np.random.default_rng(seed), len(model), said.shape[2] == 1
    broad = _BROAD * _shared(said)
    g, count = np.unique(resampled(broad, _PROPOSED, rng), return_counts=True)
    exact = _exact(model, states, sample, g)
    log_w = _shared(exact) - broad[g] + np.log(count)
    k = resampled(log_w, n, rng)
    own = rng.standard_normal(n)  # of several coupons, what is each one's own is averaged over
    if one:
        like = exact[k, :, 0]
        own = sample.own.reshape(-1, _OWN)[g[k], (like + rng.gumbel(size=like.shape)).argmax(1)]
    w = np.exp(log_w - logsumexp(log_w))
    at = np.linspace(0, _GROUPS - 1, _SHOWN).round().astype(int)
    first = sample.x[at], sample.lab[at, None], sample.own[at * _OWN, None]
    before = SimpleNamespace(m=model, x=sample.x[at], y=y[at * _OWN], J=J[at * _OWN], s=states, rng=rng)
    return Read(sample.x[g[k]], sample.lab[g[k]], own, sample.laws[g[k]], float(1 / (w * w).sum()), first, before)


def _shared(like: np.ndarray) -> np.ndarray:  # (group,)
    "From (group, own, coupon): log likelihood with what is each coupon's own averaged over."
    return (logsumexp(like, axis=1) - np.log(_OWN)).sum(1)


def _exact(model, states: States, sample: _Sample, g: np.ndarray) -> np.ndarray:  # (group, own, coupon)
    "Log likelihood by the pore model of some groups of a sample, each of their coupons in the place of all."
    wide = lambda v: np.repeat(v[g], _OWN, axis=0)
    own = np.repeat(sample.own.reshape(-1, _OWN)[g].reshape(-1, 1), len(states.coupons), 1)
    lab = np.repeat(wide(sample.lab)[:, None], len(states.laboratories), 1)
    R, J = forward(states, wide(sample.x), lab, own, solve_near, model.prior, wide(sample.laws))
    p = {k: v.reshape(-1, _OWN)[g].ravel() for k, v in sample.p.items()}
    with np.errstate(invalid="ignore"):
        y = y_of(of_rows(states, R))
    return _by_coupon(states, y, mean_flux(states, J), p).reshape(len(g), _OWN, -1)

"""Membranes carried from the prior to the posterior, with coupons beside them

Sequential Monte Carlo (Del Moral, Doucet and Jasra 2006, 10.1111/j.1467-9868.2006.00553.x): the likelihood is raised
to a power that grows to 1 as fast as the effective number of membranes allows. What tells most about a membrane is
learned first, by a population several times as large, so that no explanation is lost for want of members (Chopin 2002,
10.1093/biomet/89.3.539). Between the steps every membrane and its coupons move together along the slope of
the posterior, by Hamiltonian Monte Carlo (Neal 2011, 10.1201/b10905-6; Buchholz, Chopin and Jacob 2021,
10.1214/20-BA1222): two dozen numbers of a membrane lie on a curved ridge that steps without a slope do
not follow. Its metric is the Fisher information of the measurements and of the prior (Girolami and Calderhead 2011,
10.1111/j.1467-9868.2010.00765.x), here its mean over the membranes; with the covariance of the population instead,
numbers that descend from few ancestors would stay together, whether measurements hold them or not.

A step of differential evolution (ter Braak and Vrugt 2008, 10.1007/s11222-008-9104-9) and draws from the prior carry
membranes from law to law, random walks move the coupons, accepted laboratory by laboratory, because given the
membrane they do not know of each other. Moves along which no rejection changes cost nothing and are made often (Yu
and Meng 2011, 10.1198/jcgs.2011.203main)."""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from ion_ode.core import InputError
from ion_ode.inference.laws import GLOBALS, Prior
from ion_ode.inference.pores import solve
from ion_ode.inference.slopes import Place
from ion_ode.inference.states import LOCALS, States, forward, log_likelihood

__all__ = ["Population", "next_power", "resampled", "sample_population", "settled"]

_STEPS = 8  # Of a trajectory
_ACCEPTED = 0.75  # Share of trajectories to accept
_LAWS_TRIED = 4  # Between two trajectories at the full likelihood
_ASKED = 2  # Times the information is asked for a trajectory
_FAR = 6.0  # Normal numbers beyond which nothing is tried


@dataclass
class Population:
    "Membranes of equal weight with the effects of every coupon."

    x: np.ndarray  # (n, GLOBALS) standard normal numbers
    lab: np.ndarray  # (n, laboratory, LOCALS)
    coupon: np.ndarray  # (n, coupon)
    log_like: np.ndarray  # (n, curve)
    log_evidence: float  # Of the powers that were climbed
    prior: Prior = field(default_factory=Prior)
    history: list = field(default_factory=list)  # One dict a step

    def __repr__(self):
        return f"Population({len(self.x)} membranes, log evidence {self.log_evidence:.1f}, {len(self.history)} steps)"

    @property
    def log_target(self) -> np.ndarray:  # (n,)
        "Log of prior times likelihood, without the constant."
        return self.log_like.sum(1) - _size(self.x, self.lab, self.coupon)

    @property
    def n_distinct(self) -> float:
        "Effective number of membranes that are not copies of each other."
        _, count = np.unique(self.x, axis=0, return_counts=True)
        return float(count.sum() ** 2 / (count**2).sum())


def _size(x, lab, coupon):  # (n,)
    "Minus the log of the prior of normal numbers, without its constant."
    return 0.5 * ((x**2).sum(1) + (lab**2).sum((1, 2)) + (coupon**2).sum(1))


class _Walk:
    "The state of a run: numbers, solutions, likelihood; moves that keep them together."

    def __init__(self, states: States, n: int, prior: Prior, rng, start=None):
        self.s, self.prior, self.rng = states, prior, rng
        shapes = (n, len(GLOBALS)), (n, len(states.laboratories), len(LOCALS)), (n, len(states.coupons))
        self.x, self.lab, self.coupon = (rng.standard_normal(s) for s in shapes) if start is None else start
        self.like, self.told = self.look(self.x, self.lab, self.coupon), None

    def look(self, x, lab, coupon, states: States | None = None):
        s = self.s if states is None else states
        return log_likelihood(s, *forward(s, x, lab, coupon, solve, self.prior))

    def take(self, i):
        for k in ("x", "lab", "coupon", "like"):
            setattr(self, k, getattr(self, k)[i])

    def _metric(self, beta, here: Place):
        "Factor of the covariance of all numbers that the information of measurements and prior gives."
        new = np.mean([here.information(beta, self.rng) for _ in range(_ASKED)], 0)
        self.told = new if self.told is None else 0.5 * (self.told + new)
        whole = self.told + np.eye(len(new))
        try:
            return np.linalg.inv(np.linalg.cholesky(whole)).T
        except np.linalg.LinAlgError:  # few membranes say most, and the zeros between laboratories are not of one piece
            size, along = np.linalg.eigh(whole)
            return along / np.sqrt(size.clip(1.0))

    def move_along(self, beta, step):
        "A trajectory of every membrane with its coupons; share accepted."
        d, split = self.x.shape[1], self.x.shape[1] + self.lab[0].size
        join = lambda v: np.concatenate([v[0], v[1].reshape(len(v[1]), -1), v[2]], 1)
        part = lambda q: (q[:, :d], q[:, d:split].reshape(self.lab.shape), q[:, split:])
        here = Place(self.s, self.x, self.lab, self.coupon, self.prior)
        root = self._metric(beta, here)
        root[GLOBALS.index("law")] = 0  # where a law ends the likelihood has a cliff, which a slope does not show
        wide = lambda p: p @ root.T
        white = lambda g: g @ root

        def look(q, at=None):
            like, slope = (at or Place(self.s, *part(q), self.prior)).slope_of_target(beta)
            return like, white(join(slope)), like @ beta - 0.5 * (q**2).sum(1)

        q = join((self.x, self.lab, self.coupon))
        p = self.rng.standard_normal(q.shape)
        _, slope, before = look(q, here)
        before, near = before - 0.5 * (p**2).sum(1), np.ones(len(q), bool)
        h = step * np.exp(0.2 * self.rng.standard_normal((len(q), 1)))
        for _ in range(_STEPS):
            p = p + 0.5 * h * slope
            q = q + wide(h * p)
            near &= (np.abs(q) < _FAR).all(1)
            q = q.clip(-_FAR, _FAR)
            like, slope, after = look(q)
            p = p + 0.5 * h * slope
        share = np.exp(np.minimum(0, after - 0.5 * (p**2).sum(1) - before)) * near
        yes = self.rng.random(len(q)) < share
        for name, new in zip(("x", "lab", "coupon", "like"), (*part(q), like), strict=True):
            getattr(self, name)[yes] = new[yes]
        return share.mean()

    def move_globals(self, beta, scale):
        "Differential evolution of a random part of the numbers; some laboratories' coupons move along."
        n, d = self.x.shape
        a, b = self.partners()
        part = self.rng.random((n, d)) < self.rng.choice([0.15, 0.4, 1.0], (n, 1))
        part[np.arange(n), self.rng.integers(0, d, n)] = True
        along = self.rng.random((n, len(self.s.laboratories))) < self.rng.choice([0.0, 0.07, 0.5], (n, 1))
        own = along[:, self.s.home]
        gamma = scale * 2.38 / np.sqrt(2 * (part.sum(1) + 3 * along.sum(1)))[:, None]
        gamma[self.rng.random(n) < 0.1] = 1.0
        x = self.x + part * (gamma * (self.x[a] - self.x[b]) + 0.02 * self.rng.standard_normal((n, d)))
        lab = self.lab + (along * gamma)[..., None] * (self.lab[a] - self.lab[b])
        coupon = self.coupon + own * gamma * (self.coupon[a] - self.coupon[b])
        like = self.look(x, lab, coupon)
        ratio = (like - self.like) @ beta - (_size(x, lab, coupon) - _size(self.x, self.lab, self.coupon))
        yes = np.log(self.rng.random(n)) < ratio
        self.x[yes], self.lab[yes], self.coupon[yes], self.like[yes] = x[yes], lab[yes], coupon[yes], like[yes]
        return yes.mean()

    def move_law(self, beta):
        "Another law from the prior, with or without another saturation; the likelihood decides."
        x, n = self.x.copy(), len(self.x)
        for name, often in (("law", 1.0), ("saturation", 0.5)):
            some, k = self.rng.random(n) < often, GLOBALS.index(name)
            x[some, k] = self.rng.standard_normal(some.sum())
        like = self.look(x, self.lab, self.coupon)
        yes = np.log(self.rng.random(n)) < (like - self.like) @ beta
        self.x[yes], self.like[yes] = x[yes], like[yes]

    def move_free(self):
        "Moves that leave every rejection as it is: the membrane takes over what all coupons share, or their scale."
        if self.s.anchor is None:
            self._move_shared()
        self._move_scales()

    def _move_shared(self):
        "What all laboratories' coupons share becomes the membrane's; one of them an anchor, they share nothing."
        n, pr, rng = len(self.x), self.prior, self.rng
        at, x = GLOBALS.index, self.x
        scale = lambda name: getattr(pr, name)[0] * np.exp(getattr(pr, name)[1] * x[:, at(name.replace("_", " "))])
        # all charges by a factor, the laboratories' by its inverse
        log_s = 0.3 * rng.standard_normal(n) / np.sqrt(len(self.s.laboratories)) * rng.choice([0.3, 1.0, 3.0], n)
        new, lab = x.copy(), self.lab.copy()
        jacobian = np.zeros(n)
        for name in ("charge", "shift Mg+2", "shift SO4-2"):
            k, t = at(name), pr.charge[1]
            new[:, k] = np.arcsinh(np.exp(log_s) * np.sinh(t * x[:, k])) / t
            jacobian += log_s + np.log(np.cosh(t * x[:, k])) - np.log(np.cosh(t * new[:, k]))
        lab[:, :, 0] -= (log_s / (scale("coupon_charge") * np.sqrt(1 - pr.within)))[:, None]
        self._free(new, lab, self.coupon, jacobian)
        # thickness likewise
        x = self.x
        log_s = 0.2 * rng.standard_normal(n) / np.sqrt(len(self.s.laboratories)) * rng.choice([0.3, 1.0, 3.0], n)
        new, lab, k = x.copy(), self.lab.copy(), at("thickness")
        u = ndtr(x[:, k]) + log_s / np.log(pr.thickness[1] / pr.thickness[0])
        inside = (u > 1e-9) & (u < 1 - 1e-9)
        new[:, k] = np.where(inside, ndtri(np.clip(u, 1e-9, 1 - 1e-9)), x[:, k])
        lab[:, :, 1] -= (np.where(inside, log_s, 0.0) / scale("coupon_thickness"))[:, None]
        self._free(new, lab, self.coupon, 0.5 * (new[:, k] ** 2 - x[:, k] ** 2))

    def _move_scales(self):
        "The scales of the coupons, their effects kept."
        n, pr, rng, at = len(self.x), self.prior, self.rng, GLOBALS.index
        for name, column in (("coupon_charge", 0), ("coupon_thickness", 1)):
            step = 0.5 * rng.standard_normal(n)
            new, lab, coupon = self.x.copy(), self.lab.copy(), self.coupon.copy()
            new[:, at(name.replace("_", " "))] += step
            shrink = -getattr(pr, name)[1] * step
            lab[:, :, column] *= np.exp(shrink)[:, None]
            count = lab.shape[1]
            if column == 0:
                coupon *= np.exp(shrink)[:, None]
                count += coupon.shape[1]
            self._free(new, lab, coupon, count * shrink)

    def _free(self, x, lab, coupon, jacobian):
        more = _size(x, lab, coupon) - _size(self.x, self.lab, self.coupon)
        yes = np.log(self.rng.random(len(x))) < jacobian - more
        self.x[yes], self.lab[yes], self.coupon[yes] = x[yes], lab[yes], coupon[yes]

    def partners(self):
        n = len(self.x)
        a = (np.arange(n) + self.rng.integers(1, n, n)) % n
        b = (np.arange(n) + self.rng.integers(1, n, n)) % n
        return a, b

    def move_coupons(self, beta, scale):
        "Random walks of every laboratory and its coupons, accepted laboratory by laboratory."
        s, n = self.s, len(self.x)
        a, b = self.partners()
        labs = len(s.laboratories)
        kind = self.rng.random((n, labs, 1)) < 0.5
        step = np.where(kind, 0.8 * (self.lab[a] - self.lab[b]), 0.5 * self.rng.standard_normal(self.lab.shape))
        lab = self.lab + scale * step * (self.rng.random(self.lab.shape) < 0.7)
        coupon = self.coupon + scale * 0.4 * (self.coupon[a] - self.coupon[b]) * (
            self.rng.random(self.coupon.shape) < 0.7
        )
        like = self.look(self.x, lab, coupon)
        by = lambda v: np.stack([v[:, s.curve_laboratory == k].sum(1) for k in range(labs)], 1)
        size = lambda lab, coupon: (
            (lab**2).sum(2) + np.stack([(coupon[:, s.home == k] ** 2).sum(1) for k in range(labs)], 1)
        )
        ratio = by((like - self.like) * beta) - 0.5 * (size(lab, coupon) - size(self.lab, self.coupon))
        yes = np.log(self.rng.random((n, labs))) < ratio
        curve, own = yes[:, s.curve_laboratory], yes[:, s.home]
        self.lab = np.where(yes[..., None], lab, self.lab)
        self.coupon = np.where(own, coupon, self.coupon)
        self.like = np.where(curve, like, self.like)
        return yes.mean()


def resampled(log_w: np.ndarray, n: int, rng) -> np.ndarray:  # (n,) places
    "Places of `n` members drawn evenly by their weights (systematic resampling)."
    weight = np.exp(log_w - logsumexp(log_w))
    return np.searchsorted(np.cumsum(weight), (np.arange(n) + rng.random()) / n).clip(max=len(log_w) - 1)


def next_power(total, beta, goal):
    "Largest power that leaves `goal` of the membranes effective."
    ess = lambda b: np.exp(2 * logsumexp((b - beta) * total) - logsumexp(2 * (b - beta) * total)) / len(total)
    if ess(1.0) >= goal:
        return 1.0
    low, high = beta, 1.0
    for _ in range(50):
        mid = 0.5 * (low + high)
        low, high = (mid, high) if ess(mid) >= goal else (low, mid)
    return low


def _moved(w: _Walk, power, at: float, scale: float, step: float) -> tuple[float, float, dict]:
    "Every kind of move once, at `at` of the likelihood: the sizes that the next should have, and what is noted."
    share = w.move_globals(power, scale)
    scale = float(np.clip(scale * np.exp(0.5 * (share - 0.22)), 0.08, 1.5))
    local = w.move_coupons(power, 1.0)
    for _ in range(5):
        w.move_free()
    along = w.move_along(power, step)
    step = float(np.clip(step * np.exp(along - _ACCEPTED), 0.01, 0.5))
    said = {"power": at, "evolved": float(share), "coupons": float(local), "along": float(along), "step": step}
    return scale, step, said | {"log_like": float((w.like @ power).mean())}


def _climb(w: _Walk, start: np.ndarray, effective: float, last: int, step: float) -> tuple[float, list]:
    "Raise the powers of the curves from `start` to 1; log evidence gained, history."
    n, at, evidence, history, scale = len(w.x), 0.0, 0.0, [], 1.0
    while True:
        if at < 1:
            gained = np.where(np.isfinite(w.like), w.like, -1e9) @ (1 - start)
            new = next_power(gained, at, effective)
            log_w = (new - at) * gained
            evidence += logsumexp(log_w) - np.log(n)
            w.take(resampled(log_w, n, w.rng))
            at = new
        power = start + at * (1 - start)
        for _ in range(last if at == 1 else 1):
            scale, step, said = _moved(w, power, at, scale, step)
        history.append(said)
        if at == 1:
            return evidence, history


def sample_population(
    states: States,  # What was measured
    n: int = 128,  # Membranes
    *,
    first: States | None = None,  # A part of `states` that is learned first, by a larger population
    wide: int = 2,  # So many times the membranes learn the first part
    effective: float = 0.6,  # Share of membranes effective after a step of the power
    last: int = 6,  # Moves at the last power
    seed: int = 0,
    prior: Prior = Prior(),
) -> Population:
    "Membranes from the posterior of a table of measurements."
    if n < 32:
        raise InputError(f"n is {n}; a population needs at least 32 membranes to move")
    rng = np.random.default_rng(seed)
    start, begin, evidence, history, step = None, np.zeros(len(states.curve_coupon)), 0.0, [], 0.15
    if first is not None:
        w = _Walk(first, n * wide, prior, rng)
        evidence, history = _climb(w, np.zeros(len(first.curve_coupon)), effective, last, step)
        i = np.linspace(0, n * wide - 1, n).round().astype(int)[rng.permutation(n)]
        start = w.x[i], *_carried(first, states, w.lab[i], w.coupon[i], rng)
        begin, step = np.isin(states.curve_id, first.curve_id).astype(float), history[-1]["step"]
    w = _Walk(states, n, prior, rng, start)
    more, steps = _climb(w, begin, effective, last, step)
    return Population(w.x, w.lab, w.coupon, w.like, float(evidence + more), prior, history + steps)


def settled(
    states: States,  # What was measured
    population: Population,  # Of `sample_population`
    moves: int = 8,  # At the full likelihood
    keep: int = 4,  # Times the membranes are written down, evenly over these moves
    seed: int = 0,
) -> Population:  # keep times as many membranes
    "Membranes moved on until they have forgotten which few ancestors they descend from, and written down on the way."
    rng, history = np.random.default_rng(seed), []
    w = _Walk(states, len(population.x), population.prior, rng, (population.x, population.lab, population.coupon))
    one, scale, step, kept = np.ones(len(states.curve_coupon)), 0.5, population.history[-1]["step"], []
    marks = np.linspace(moves / keep, moves, keep).round()
    for k in range(moves):
        for _ in range(_LAWS_TRIED):
            w.move_law(one)
        scale, step, said = _moved(w, one, 1.0, scale, step)
        history.append(said)
        kept += [(w.x.copy(), w.lab.copy(), w.coupon.copy(), w.like.copy())] if k + 1 in marks else []
    arrays = (np.concatenate(v) for v in zip(*kept, strict=True))
    return Population(*arrays, population.log_evidence, population.prior, population.history + history)


def _carried(first: States, states: States, lab, coupon, rng):
    "Effects of laboratories and coupons that were met before; those of others from the prior."
    n = len(lab)
    labs = rng.standard_normal((n, len(states.laboratories), len(LOCALS)))
    coupons = rng.standard_normal((n, len(states.coupons)))
    for k, name in enumerate(first.laboratories):
        labs[:, states.laboratories.index(name)] = lab[:, k]
    for k, name in enumerate(first.coupons):
        coupons[:, states.coupons.index(name)] = coupon[:, k]
    return labs, coupons

"""The posterior of membranes: its slope, its moves, and that runs of independent starts find the same."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ion_ode.core import InputError
from ion_ode.inference.laws import GLOBALS, Prior, parameters
from ion_ode.inference.population import resampled, sample_population, settled
from ion_ode.inference.pores import solve
from ion_ode.inference.rows import answer_rows
from ion_ode.inference.slopes import Place
from ion_ode.inference.states import (
    LEARNED,
    LOCALS,
    States,
    faded,
    forward,
    log_likelihood,
    mean_flux,
    of_rows,
    y_of,
)


@pytest.fixture(scope="module")
def rows():
    return answer_rows()


def test_the_slope_is_that_of_the_posterior(rows):
    "Differences of prior and likelihood, over curves with selection, limits, a film, a pressure and several ions."
    d = rows[rows.source_id.isin(["jeong2023", "wang2023", "foo2023"])]
    s = States.of(d[d.laboratory.isin([*d.laboratory.unique()[:6], "wang2023", "foo2023"])])
    rng, prior = np.random.default_rng(3), Prior()
    q = [0.5 * rng.standard_normal(n) for n in ((4, len(GLOBALS)), (4, len(s.laboratories), 4), (4, len(s.coupons)))]
    power = rng.random(len(s.curve_coupon))
    precise = lambda ions, problem: solve(ions, problem, 1e-8)

    def target(x, lab, coupon):
        like = log_likelihood(s, *forward(s, x, lab, coupon, precise, prior)) @ power
        return like - 0.5 * ((x**2).sum(1) + (lab**2).sum((1, 2)) + (coupon**2).sum(1))

    like, slopes = Place(s, *q, prior).slope_of_target(power)
    assert_allclose(like @ power, target(*q) + 0.5 * sum((v.reshape(4, -1) ** 2).sum(1) for v in q), rtol=1e-3)
    h = 1e-4
    for part, at in ((0, GLOBALS.index("r_pore")), (0, GLOBALS.index("charge")), (0, GLOBALS.index("ln Mg+2")),
                     (0, GLOBALS.index("coupon thickness")), (1, (2, 1)), (1, (2, 2)), (2, 1)):  # fmt: skip
        step = [np.zeros_like(v) for v in q]
        step[part][(slice(None), *np.atleast_1d(at))] = h
        ends = [target(*(v + sign * w for v, w in zip(q, step, strict=True))) for sign in (1, -1)]
        got = slopes[part][(slice(None), *np.atleast_1d(at))]
        assert_allclose(got, (ends[0] - ends[1]) / (2 * h), rtol=0.02, atol=0.02)


def test_the_information_is_that_of_the_errors(rows):
    "Mean of random sums against the Jacobian by differences, for one membrane, whose numbers all rows share."
    d = rows[rows.source_id == "wang2023"]
    s, rng, prior = States.of(d), np.random.default_rng(5), Prior()
    shapes = (len(GLOBALS),), (len(s.laboratories), len(LOCALS)), (len(s.coupons),)
    q = [0.5 * rng.standard_normal(shape) for shape in shapes]
    many = [np.tile(v, (400, *[1] * v.ndim)) for v in q]
    got = Place(s, *many, prior).information(np.ones(len(s.curve_coupon)), rng)

    def errors(*q):  # in units of their size
        R, J = forward(s, *(v[None] for v in q), lambda i, p: solve(i, p, 1e-8), prior)
        size = np.hypot(LEARNED * faded(mean_flux(s, J))[0][0], s.sd)
        return (y_of(of_rows(s, R))[0] / size)[~s.limit]

    at = [GLOBALS.index(n) for n in ("r_pore", "charge", "ln Na+", "ln Cl-")]
    by = np.array([(errors(q[0] + 1e-4 * np.eye(len(GLOBALS))[k], *q[1:]) - errors(*q)) / 1e-4 for k in at])
    size = np.sqrt(np.diag(by @ by.T))
    # few sums are longer than the one at nine tenths, to which they are cut; 400 sums know a product to a tenth
    assert_allclose(got[np.ix_(at, at)] / np.outer(size, size), by @ by.T / np.outer(size, size), atol=0.3)
    free = GLOBALS.index("near I-")
    assert got[free, free] == 0


@pytest.fixture(scope="module")
def runs(rows):
    "States of one source, and two runs on them."
    s = States.of(rows[rows.source_id == "wang2023"])
    return s, *(sample_population(s, 64, last=4, seed=k) for k in (0, 1))


def test_runs_of_independent_starts_agree(runs):
    "Evidence and means of two runs on one source, within what so few members say."
    s, one, two = runs
    assert abs(one.log_evidence - two.log_evidence) < 2.5
    assert min(one.n_distinct, two.n_distinct) > 48
    r = [parameters(p.x)["r_pore"] for p in (one, two)]
    assert abs(r[0].mean() - r[1].mean()) < 0.6 * r[0].std()
    assert_allclose(one.log_like, log_likelihood(s, *forward(s, one.x, one.lab, one.coupon, solve)), rtol=1e-9)


def test_copies_of_one_membrane_become_a_sample(runs):
    "Numbers that no measurement touches have the prior's spread again, however few the ancestors."
    s, p, n = runs[0], runs[1], 32
    one = replace(p, **{k: np.repeat(getattr(p, k)[:1], n, 0) for k in ("x", "lab", "coupon", "log_like")})
    p = settled(s, one, moves=6, keep=2, seed=1)
    assert len(p.x) == 2 * n
    at = [GLOBALS.index(k) for k in ("near F-", "near I-", "near ClO4-", "shift Ca+2", "saturation")]
    spread = p.x[n:, at].std(0)
    assert (spread > 0.6).all() and (spread < 1.5).all(), spread
    assert_allclose(p.log_like, log_likelihood(s, *forward(s, p.x, p.lab, p.coupon, solve)), rtol=1e-9)


def test_members_are_drawn_by_weight():
    got = np.bincount(resampled(np.log([0.1, 0.2, 0.7]), 100, np.random.default_rng(0)), minlength=3)
    assert_allclose(got, [10, 20, 70], atol=1)


def test_too_few_members_are_refused(rows):
    with pytest.raises(InputError, match="at least 32"):
        sample_population(States.of(rows[:5]), 8)

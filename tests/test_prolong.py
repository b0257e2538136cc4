"""A run goes on until its mean predictions are known, and stops at once where they are."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ion_ode.inference.laws import GLOBALS, Prior
from ion_ode.inference.population import Population, _Walk
from ion_ode.inference.prolong import _error_of_means, _move_of, _parts, _said, prolonged, spokesmen
from ion_ode.inference.rows import answer_rows
from ion_ode.inference.states import States

N = 12


@pytest.fixture(scope="module")
def rows():
    d = answer_rows()
    return d[d.source_id.isin(["wang2023", "foo2023"])]  # Mixtures of two and of three cations


def some(states, times=2):
    rng = np.random.default_rng(2)
    shapes = (len(GLOBALS),), (len(states.laboratories), 4), (len(states.coupons),), (len(states.curve_coupon),)
    return Population(*(0.5 * rng.standard_normal((times * N, *s)) for s in shapes), 0.0, Prior())


def test_moves_of_an_ion_keep_the_likelihood_of_all_feeds(rows):
    s = States.of(rows)
    p = some(s, 1)
    w = _Walk(s, N, Prior(), np.random.default_rng(0), (p.x, p.lab, p.coupon))
    before = w.x.copy()
    for part in _parts(s):
        for _ in range(4):
            _move_of(w, part)
    moved = [GLOBALS[k] for k in np.flatnonzero((w.x != before).any(0))]
    assert {"shift Mg+2", "ln Mg+2"} <= set(moved) and all("Mg" in k or "Ca" in k or "SO4" in k for k in moved)
    assert_allclose(w.like, w.look(w.x, w.lab, w.coupon), rtol=1e-9)


def test_some_rows_are_the_states_of_these_rows(rows):
    "As if the others had never been: the same likelihood, curve by curve."
    few, s = rows[rows.source_id == "foo2023"], States.of(rows)
    some_of, alone = s.some(np.isin(s.row_id, few.index)), States.of(few)
    assert some_of.coupons == alone.coupons and some_of.laboratories == alone.laboratories
    assert (some_of.curve_id == alone.curve_id).all() and len(some_of.flux) == len(alone.flux)
    p = some(alone, 1)
    one, other = (_Walk(v, N, Prior(), None, (p.x, p.lab, p.coupon)).like for v in (some_of, alone))
    assert_allclose(one, other, rtol=1e-12)


def test_the_error_of_means_is_that_of_independent_chains(rows):
    "Means over more chains scatter by it; a chain that stands still is no second look."
    asked, rng = States.of(rows[rows.source_id == "wang2023"]), np.random.default_rng(4)
    x = 0.5 * rng.standard_normal((1, 40, len(GLOBALS)))
    error = lambda x: _error_of_means(np.stack([_said(asked, v, Prior()) for v in x]))
    one, still = (error(np.repeat(x, k, 0)) for k in (1, 3))
    assert_allclose(still, one, rtol=1e-9)
    more = error(0.5 * rng.standard_normal((1, 160, len(GLOBALS))))
    assert_allclose(more, one / 2, rtol=0.3)


def test_a_run_that_is_known_well_enough_stands_and_another_goes_on(rows):
    rows = rows[rows.source_id == "foo2023"]
    s = States.of(rows)
    p = some(s)
    same = prolonged(rows, p, s, N, error=10.0)
    for k in ("x", "lab", "coupon", "log_like"):
        assert np.array_equal(getattr(same, k), getattr(p, k))
    more = prolonged(rows, p, s, N, error=0.0, most=2)
    assert len(more.x) == 3 * N and len(more.history) == 2 and np.isfinite(more.log_like).all()
    assert np.array_equal(more.x[: 2 * N], p.x)


def test_the_few_that_ship_speak_for_all(rows):
    "Their predictions have the mean and the spread of all, nearer than as many taken evenly have."
    s = States.of(rows)
    p = some(s, times=20)
    said = _said(s, p.x, p.prior)
    few, evenly = spokesmen(p, 24, s), np.linspace(0, len(p.x) - 1, 24).round().astype(int)
    assert len(set(few)) == 24
    off = lambda i: np.abs(said[i].mean(0) - said.mean(0)).mean() / said.std(0).mean()
    assert off(few) < 0.4 * off(evenly)
    assert_allclose(said[few].std(0).mean(), said.std(0).mean(), rtol=0.15)

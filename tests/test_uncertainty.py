"""Bootstrap over groups and conformal half-widths against independent computations."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import norm

from ion_ode.core import InputError
from ion_ode.stats import bootstrap_interval, bootstrap_means, conformal_quantile, coverage, paired_bootstrap


@pytest.mark.parametrize("n", [2, 3, 5])
def test_listed_draws_are_all_draws(n):
    v = np.random.default_rng(n).normal(size=n)
    brute = np.sort([v[list(p)].mean() for p in product(range(n), repeat=n)])
    means, prob = bootstrap_means(v)
    assert_allclose(prob.sum(), 1, rtol=1e-12)
    for q in (0.03, 0.2, 0.51, 0.77, 0.96):
        x = brute[int(q * brute.size)] + 1e-9
        assert_allclose(prob[means <= x].sum(), (brute <= x).mean(), rtol=1e-9)


def test_large_groups_agree_with_the_normal_limit():
    v = np.random.default_rng(0).normal(size=400)
    lo, hi = bootstrap_interval(v, 0.9)
    half = norm.ppf(0.95) * v.std() / 20
    assert_allclose([lo - v.mean(), hi - v.mean()], [-half, half], rtol=0.06)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=7), st.floats(-3, 3))
@settings(max_examples=40, deadline=None)
def test_interval_shifts_with_the_scores_and_stays_inside_them(values, shift):
    lo, hi = bootstrap_interval(values)
    assert min(values) - 1e-9 <= lo <= hi <= max(values) + 1e-9
    lo2, hi2 = bootstrap_interval(np.add(values, shift))
    np.testing.assert_allclose([lo2, hi2], [lo + shift, hi + shift], rtol=1e-7, atol=1e-7)


def test_paired_sees_what_unpaired_cannot():
    hard = np.array([0.05, 0.5, 0.9, 0.2, 0.7])
    a, b = hard, hard + 0.02 * np.array([1, 2, 1, 2, 1])
    assert paired_bootstrap(a, b)["upper"] < 0
    assert bootstrap_interval(a)[1] > bootstrap_interval(b)[0]
    same = paired_bootstrap(a, a)
    assert same["difference"] == same["lower"] == same["upper"] == 0 and same["p_better"] == 0


def test_conformal_coverage_of_any_law():
    rng = np.random.default_rng(3)
    e = rng.exponential(size=(4000, 30))
    for level in (0.5, 0.8, 0.9):
        held = np.mean([r[-1] <= conformal_quantile(r[:-1], level) for r in e])
        k = np.ceil(30 * level)
        assert abs(held - k / 30) < 0.03 and held > level - 0.02


def test_coverage_counts_closed_intervals():
    assert coverage([0, 1, 2, 3], [0, 0, 0, 0], [2, 2, 2, 2]) == 0.75


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: bootstrap_interval([1.0]), "at least two"),
        (lambda: bootstrap_interval([1.0, np.nan]), "finite"),
        (lambda: bootstrap_interval([1.0, 2.0], level=1.5), "between 0 and 1"),
        (lambda: paired_bootstrap([1.0, 2.0], [1.0]), "same groups"),
        (lambda: conformal_quantile([]), "held-out errors"),
        (lambda: conformal_quantile([1.0, np.inf]), "not finite"),
    ],
)
def test_unusable_input_is_refused_in_words(call, says):
    with pytest.raises(InputError, match=says):
        call()

"""The model's error on a coupon: a Student process over feeds, what own values leave of it, and neutral permeates."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_t
from scipy.stats import t as student

from ion_ode.core import LMH
from ion_ode.inference.answer import Answer, load_answer
from ion_ode.inference.discrepancy import NU, Residuals, _Places, corrected
from ion_ode.water.ions import get_ion

IONS = ("Na+", "Mg+2", "Cl-", "SO4-2")
FEEDS = np.array([[20, 0, 20, 0], [5, 0, 5, 0], [10, 5, 20, 0], [10, 5, 10, 5], [10, 5, 10, 5]], float)
COLUMN = np.array([0, 0, 1, 1, 3])


def residuals(off, n=len(FEEDS), noise=0.05):
    size = np.full((len(off), n), 0.2)
    return Residuals(IONS, FEEDS[:n], COLUMN[:n], np.zeros(n, int), size, np.full(size.shape, noise), off)


def test_what_is_left_is_the_student_distribution_given_the_values():
    "Density of all values less that of the first four is that of the fifth given them."
    off = np.random.default_rng(0).normal(0, 0.2, (3, 5))
    r, n = residuals(off[:, :4], 4), 4
    places = _Places.of(IONS, FEEDS, COLUMN, np.zeros(5, int), IONS)
    K = 0.04 * places.alike(places) + np.diag(np.full(5, 0.05**2 + 1e-10))
    joint = multivariate_t(np.zeros(5), K, NU).logpdf(off) - multivariate_t(np.zeros(n), K[:n, :n], NU).logpdf(
        off[:, :n]
    )
    shift, left = r.given(IONS, FEEDS[4:])
    sd = r.scale * np.sqrt(0.05**2 + left[:, 0, 3] * 0.04)
    assert_allclose(student.logpdf(off[:, 4], r.degrees, 0.2 * shift[:, 0, 3], sd), joint, rtol=1e-6)
    marginal = multivariate_t(np.zeros(n), K[:n, :n], NU).logpdf(off[:, :n])
    assert_allclose(np.diff(r.log_likelihood), np.diff(marginal), rtol=1e-9)


def test_an_exact_value_is_met_and_a_feed_unlike_it_learns_nothing():
    off = np.array([[0.15], [-0.1]])
    shift, left = residuals(off, 1, noise=1e-5).given(IONS, np.array([[20, 0, 20, 0], [0, 0.01, 0, 0.01]], float))
    assert_allclose(0.2 * shift[:, 0, [0, 2]], np.tile(off, 2), rtol=1e-5)  # both ions of the salt
    assert_allclose(left[:, 0, [0, 2]], 0, atol=1e-6)
    assert_allclose(shift[:, 1, [1, 3]], 0, atol=1e-9)
    assert_allclose(left[:, 1, [1, 3]], 1, rtol=1e-9)


def test_corrected_permeates_are_neutral():
    r = residuals(np.random.default_rng(1).normal(0, 0.1, (2, 5)))
    z = np.array([get_ion(i).z for i in IONS], float)
    perm = np.array([0.4, 0.1, 0.4, 0.0])
    perm[3] = (perm @ (z * FEEDS[3])) / (2 * FEEDS[3, 3])
    R = np.tile(1 - perm, (2, 1, 1, 1))
    new = corrected(IONS, FEEDS[3:4], R, 0.2 * r.given(IONS, FEEDS[3:4])[0][:, :, None], np.full(R.shape, 0.2))
    assert np.abs(new - R).max() > 1e-3
    assert_allclose((FEEDS[3] * (1 - new)) @ z, 0, atol=1e-9)


@pytest.fixture(scope="module")
def mine():
    d = pd.DataFrame({"ion": ["Na+", "Cl-"] * 2, "c_feed_mol_m3": 20.0, "rejection": np.repeat([0.42, 0.52], 2)})
    d["flux_m_s"] = np.repeat([20.0, 40.0], 2) * LMH
    return load_answer("nf270").thinned(48).calibrate(d)


def test_one_value_is_known_where_it_was_measured_and_not_far_from_there(mine):
    "The width comes back as the feed leaves the one that was measured."
    width = lambda c: (lambda p: float((p.upper - p.lower).iloc[0]))(mine.predict({"Na+": c, "Cl-": c}, 20 * LMH))
    near, far = width(20.0), width(2.0)
    assert near < 0.75 * far, (near, far)
    at = mine.predict({"Na+": 20.0, "Cl-": 20.0}, 20 * LMH).iloc[0]
    assert at.lower < 0.42 < at.upper and abs(at.rejection - 0.42) < 0.06


def test_own_values_survive_the_file(mine, tmp_path):
    again = Answer.load(mine.save(tmp_path / "mine.json"))
    columns = ["rejection", "lower", "upper"]
    ask = lambda m: m.predict({"Na+": 15.0, "Mg+2": 2.0, "Cl-": 19.0}, 30 * LMH)[columns].to_numpy()
    assert_allclose(ask(again), ask(mine), atol=2e-3)
    written = mine.own.written()
    assert np.shape(written["size"]) == (2,), "errors alike for all membranes are written once"
    some = Residuals.read(written | {"size": (mine.own.size * np.linspace(1, 2, len(mine))[:, None]).tolist()})
    assert np.shape(some.written()["size"]) == mine.own.off.shape
    assert_allclose(Residuals.read(written).white, mine.own.white, atol=2e-3)

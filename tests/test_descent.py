"""Least squares from many starts at once, on a curve whose least squares SciPy finds"""

from types import SimpleNamespace

import numpy as np
import torch
from numpy.testing import assert_allclose
from scipy.optimize import least_squares

from ion_ode.inference.descent import Damping, descend

T = np.linspace(0, 3, 12)
SEEN = 0.7 * np.exp(-1.3 * T) + 0.02 * np.sin(9 * T)


class Solved(SimpleNamespace):
    "What a solver would have found: here the curves themselves."

    def take(self, starts, each):
        at = (np.asarray(starts)[:, None] * each + np.arange(each)).ravel()
        return Solved(u=self.u[:, at])


def residuals(x, guess):
    curve = x[:, :1] * np.exp(-4 * x[:, 1:] * T)
    r = np.where(x[:, 1:] > 0.95, np.nan, curve - SEEN)  # no answer there
    return r, Solved(u=torch.from_numpy(curve.reshape(1, -1)))


def jacobian(x, found):
    decay = np.exp(-4 * x[:, 1:] * T)
    assert found.u.shape == (1, len(x) * len(T)) and np.allclose(found.u.view(-1, len(T)), x[:, :1] * decay)
    return np.stack([decay, -4 * T * x[:, :1] * decay], 2)


def test_every_start_ends_where_scipy_does():
    starts = np.random.default_rng(0).uniform(0.05, 0.9, (9, 2))
    best = least_squares(lambda p: residuals(p[None], None)[0][0], [0.5, 0.5], xtol=1e-14, ftol=1e-14)
    found = descend(residuals, jacobian, starts, enough=1e-12)
    assert found.settled.all() and (found.asked < 40).all()
    assert_allclose(found.x, np.tile(best.x, (9, 1)), rtol=1e-5)
    assert_allclose(found.cost, best.cost, rtol=1e-9)


def test_what_is_held_stays_and_bounds_are_kept():
    held = np.array([[True, False], [False, False]])
    found = descend(residuals, jacobian, np.array([[0.2, 0.4], [0.2, 0.4]]), held, Damping(high=0.6), enough=1e-12)
    assert found.x[0, 0] == 0.2 and found.x[1, 0] == 0.6
    for k, fixed in ((0, 0.2), (1, 0.6)):
        best = least_squares(lambda b, a=fixed: residuals(np.array([[a, b[0]]]), None)[0][0], [0.3], xtol=1e-14)
        assert_allclose(found.x[k, 1], best.x[0], rtol=1e-4)


def test_a_start_without_an_answer_waits_and_few_steps_do_not_settle():
    found = descend(residuals, jacobian, np.array([[0.5, 0.97], [0.5, 0.5]]), steps=1)
    assert np.isinf(found.cost[0]) and found.asked.tolist() == [1, 2] and not found.settled[1]


def test_the_second_order_shortens_a_bent_valley():
    valley = lambda x: np.stack([40 * (x[:, 1] - 2 * (x[:, 0] - 0.3) ** 2), x[:, 0] - 0.9, 0 * x[:, 0] + 1], 1)
    at = lambda x, guess: (valley(x), Solved(u=torch.from_numpy(x.T.copy())))
    slope = lambda x, found: np.stack(
        [np.stack([-160 * (x[:, 0] - 0.3), 0 * x[:, 0] + 40], 1), np.tile([1.0, 0.0], (len(x), 1)), 0 * x], 1
    )
    starts = np.array([[0.1, 0.08], [0.05, 0.6], [0.3, 0.9]])
    plain, bent = (descend(at, slope, starts, None, Damping(bend=b), enough=1e-12) for b in (0.0, 0.75))
    for found in (plain, bent):
        assert_allclose(found.x, np.tile([0.9, 0.72], (3, 1)), rtol=1e-4)
    assert bent.asked.sum() < 0.8 * plain.asked.sum()

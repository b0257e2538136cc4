"""Integrators: order, equivalence with torchdiffeq, dense output, per-sample error control."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp
from torchdiffeq import odeint, odeint_adjoint

from ion_ode.attention_odenet.ode import (
    TSIT5_A,
    TSIT5_C,
    TSIT5_DENSE,
    _stage_positions,
    dense_weights,
    error_estimate,
    tsit5_adaptive,
    tsit5_fixed,
    tsit5_step,
    unwarp_flux,
    warp_flux,
)
from ion_ode.attention_odenet.reference import solve_reference
from ion_ode.core import ConvergenceError

F64 = torch.float64


def lotka(s, y):
    a, b = y[..., :1], y[..., 1:]
    return torch.cat([2 * a * (1 - b) * (1 + 0.5 * torch.sin(4 * s)), b * (a - 1)], -1)


START = torch.tensor([[1.5, 0.7], [0.6, 1.2], [1.1, 0.4]], dtype=F64)


def independent(s):
    "scipy's DOP853, sample by sample."
    rhs = lambda t, y: lotka(torch.tensor(t, dtype=F64), torch.tensor(y)).numpy()
    curves = []
    for y0, at in zip(START, s, strict=True):
        order = np.argsort(at.numpy())
        y = solve_ivp(rhs, (0, 1), y0.numpy(), method="DOP853", rtol=1e-12, atol=1e-13, t_eval=at.numpy()[order]).y.T
        curves.append(y[np.argsort(order)])
    return np.stack(curves)


@pytest.fixture(scope="module")
def points():
    return torch.rand(3, 15, dtype=F64, generator=torch.Generator().manual_seed(0))


def test_fixed_adaptive_and_torchdiffeq_meet_scipy(points):
    truth = independent(points)
    _, K = tsit5_fixed(lotka, START, 200)
    assert_allclose(START[:, None] + dense_weights(points, 200) @ K, truth, rtol=1e-9)
    assert_allclose(tsit5_adaptive(lotka, START, points, rtol=1e-10, atol=1e-12).y, truth, rtol=1e-8)
    assert_allclose(solve_reference(lotka, START, points, rtol=1e-10, atol=1e-12), truth, rtol=1e-8)


@pytest.mark.parametrize("n", [1, 4, 6, 8])
def test_fixed_steps_are_torchdiffeq_with_forced_steps(points, n):
    start = START.clone().requires_grad_()
    forced = dict(first_step=1 / n, min_step=1 / n, max_step=1 / n)
    _, K = tsit5_fixed(lotka, start, n)
    ours = start[:, None] + dense_weights(points, n) @ K
    theirs = solve_reference(lotka, start, points, options=forced)
    assert_allclose(ours.detach(), theirs.detach(), rtol=1e-12)
    grad = lambda y: torch.autograd.grad(y.square().sum(), start)[0]
    assert_allclose(grad(ours), grad(theirs), rtol=1e-12)


def test_registered_solver_is_first_same_as_last():
    assert TSIT5_A[-1] == TSIT5_A[6] and TSIT5_C[-1] == 1.0
    calls = []

    def counted(t, y):
        calls.append(1)
        return lotka(t, y)

    n = 5
    odeint(
        counted,
        START,
        torch.tensor([0.0, 1.0], dtype=F64),
        method="tsit5_54",
        options=dict(first_step=1 / n, min_step=1 / n, max_step=1 / n),
    )
    assert len(calls) <= 6 * (n + 1) + 1  # round-off may add one step
    calls.clear()
    tsit5_fixed(counted, START, n)
    assert len(calls) == 6 * n + 1


def test_adjoint_gradient_agrees():
    class Field(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.k = torch.nn.Parameter(torch.tensor(1.0, dtype=F64))

        def forward(self, t, y):
            return self.k * lotka(t, y)

    field, t = Field(), torch.tensor([0.0, 1.0], dtype=F64)
    gradients = []
    for solver in (odeint, odeint_adjoint):
        y = solver(field, START, t, method="tsit5_54", rtol=1e-10, atol=1e-12)[-1]
        gradients.append(torch.autograd.grad(y.sum(), field.k)[0])
    assert_allclose(*gradients, rtol=1e-7)


def test_dense_output_at_the_ends():
    s = torch.tensor([0.0, 1.0], dtype=F64)
    end, K = tsit5_fixed(lotka, START, 3)
    y = START[:, None] + dense_weights(s, 3) @ K
    assert torch.equal(y[:, 0], START)
    assert_allclose(y[:, 1], end, rtol=1e-13)
    s32 = torch.rand(50, generator=torch.Generator().manual_seed(1))
    assert_allclose(dense_weights(s32, 7), dense_weights(s32.double(), 7), atol=1e-7)
    assert_allclose(np.array(TSIT5_DENSE).sum(1)[:6], TSIT5_A[6], atol=1e-13)


def test_curve_value_does_not_depend_on_the_other_points(points):
    _, K = tsit5_fixed(lotka, START, 6)
    whole = START[:, None] + dense_weights(points, 6) @ K
    assert_allclose(whole[:, 3:4], START[:, None] + dense_weights(points[:, 3:4], 6) @ K, rtol=1e-14)


def test_error_estimate_of_one_step_covers_its_error():
    h = 0.05
    k = lotka(torch.tensor(0.0, dtype=F64), START)
    y, K = tsit5_step(lotka, _stage_positions(torch.tensor(0.0, dtype=F64), h), START, k, h)
    exact = independent(torch.full((3, 1), h, dtype=F64))[:, 0]
    estimate = error_estimate(K * h, 1)
    assert (np.abs(y.numpy() - exact) < estimate.numpy()).all()


def test_step_length_may_be_a_tensor():
    s, k = torch.tensor(0.0, dtype=F64), lotka(torch.tensor(0.0, dtype=F64), START)
    a = tsit5_step(lotka, _stage_positions(s, 0.1), START, k, 0.1)[0]
    b = tsit5_step(lotka, _stage_positions(s, 0.1), START, k, torch.tensor(0.1, dtype=F64))[0]
    assert_allclose(a, b, rtol=1e-14)


def test_each_sample_gets_its_own_steps():
    rate = torch.tensor([[1.0], [300.0]], dtype=F64)
    s = torch.linspace(0, 1, 5, dtype=F64).expand(2, -1)
    both = tsit5_adaptive(lambda s, y: -rate * y, torch.ones_like(rate), s)
    easy = tsit5_adaptive(lambda s, y: -rate[:1] * y, torch.ones_like(rate[:1]), s[:1])
    assert both.n_steps[0] == easy.n_steps[0] and both.n_steps[1] > 5 * both.n_steps[0]
    assert_allclose(both.y[:1], easy.y, rtol=1e-12)


def test_adaptive_carries_gradients(points):
    start = START.clone().requires_grad_()
    y = tsit5_adaptive(lotka, start, points, rtol=1e-10, atol=1e-12).y
    grad = torch.autograd.grad(y.sum(), start)[0]
    step = 1e-6
    total = lambda x: tsit5_adaptive(lotka, x, points, rtol=1e-11, atol=1e-13).y.sum()
    moved = START.clone()
    moved[0, 0] += step
    back = START.clone()
    back[0, 0] -= step
    assert_allclose(grad[0, 0], (total(moved) - total(back)) / (2 * step), rtol=1e-6)


def test_adaptive_gives_up_in_words():
    with pytest.raises(ConvergenceError, match="sample 0 stopped at s = .* loosen rtol"):
        tsit5_adaptive(lotka, START, torch.ones(3, 1, dtype=F64), rtol=1e-14, atol=1e-300, max_steps=5)


@pytest.mark.parametrize("k", [1.0, 60.0, torch.tensor([[60.0], [3.0]], dtype=F64)])
def test_warp_and_back(k):
    top = torch.tensor([[3e-5], [1e-6]], dtype=F64)
    s = torch.linspace(0, 1, 11, dtype=F64).expand(2, -1)
    flux, slope = warp_flux(s, top, k)
    assert_allclose(unwarp_flux(flux, top, k), s, rtol=1e-12)
    assert_allclose(flux[:, -1:], top, rtol=1e-12)
    up = warp_flux(s + 1e-7, top, k)[0]
    down = warp_flux(s - 1e-7, top, k)[0]
    assert_allclose((up - down) / 2e-7, slope, rtol=1e-6)


def test_a_curve_of_zero_flux_stays_at_its_start():
    assert torch.equal(unwarp_flux(torch.zeros(2, 3), torch.zeros(2, 1)), torch.zeros(2, 3))
    s = torch.zeros(3, 4, dtype=F64)
    assert_allclose(solve_reference(lotka, START, s), START[:, None].expand(3, 4, 2), rtol=0)

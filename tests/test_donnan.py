"""The equation of charges that balance, in what solves it: the reference, the compiled solver, the networks"""

import numpy as np
import torch
from numpy.testing import assert_allclose

from ion_ode.attention_odenet.pore_field import mouth
from ion_ode.dspmde.entry import donnan as reference
from ion_ode.dspmde.kernel_shot import donnan as compiled
from ion_ode.water.donnan import charge_gap, donnan_start, neutral

F64 = torch.float64
Z = torch.tensor([1.0, 2.0, -1.0, -2.0], dtype=F64)[:, None]


def entries(n=40):
    g = torch.Generator().manual_seed(4)
    return torch.exp(3 * torch.randn(4, n, dtype=F64, generator=g)), 60 * torch.randn(n, dtype=F64, generator=g)


def test_three_solvers_find_one_potential():
    a, charge = entries()
    c = reference(a.log(), Z, charge)[2]
    assert_allclose(mouth(a, 1.0, Z, charge, steps=12), c, rtol=1e-9)
    for k in range(a.shape[1]):
        own = np.zeros(4)
        compiled(a[:, k].numpy().copy(), own, Z[:, 0].numpy(), float(charge[k]), 0.0, np.nan, 0.0)
        assert_allclose(own, c[:, k], rtol=1e-6)
    assert_allclose((Z * c).sum(0), -charge, rtol=1e-8, atol=1e-8)


def test_a_symmetric_salt_needs_no_step():
    a = torch.tensor([[30.0], [30.0]], dtype=F64)
    z, charge = Z[[0, 2]], torch.tensor([-50.0], dtype=F64)
    p = donnan_start(a, z, charge)
    assert_allclose(charge_gap(a * torch.exp(-z * p), z, charge)[0], 0.0, atol=1e-12)


def test_the_slope_of_the_gap_is_that_of_a_difference():
    a, charge = entries()
    gap = lambda p: charge_gap(a * torch.exp(-Z * p), Z, charge)
    assert_allclose((gap(-1e-5)[0] - gap(1e-5)[0]) / 2e-5, gap(0.0)[1], rtol=1e-6)


def test_what_is_nearly_neutral_is_made_neutral():
    "Both signs move by half in logarithms; a neutral solute and a neutral solution stay."
    c, z = torch.tensor([[1.0, 2.0, 6.2, 7.0]], dtype=F64), torch.tensor([1.0, 2.0, -1.0, 0.0], dtype=F64)
    got = neutral(c, z)
    assert_allclose((got * z).sum(-1), 0.0, atol=1e-14)
    half = (6.2 / 5) ** 0.5
    assert_allclose(got, c * torch.tensor([half, half, 1 / half, 1.0], dtype=F64), rtol=1e-12)
    assert_allclose(neutral(got.T, z[:, None], 3.0, 0), got.T, rtol=1e-12)

"""Electroneutrality and positivity of every constraint, over random masks, charges and networks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ion_ode.attention_odenet.constraints import CONSTRAINTS, _soft_penalty, charge_residual, make_constraint
from ion_ode.attention_odenet.field import FieldConfig
from ion_ode.attention_odenet.odenet import ODENet
from ion_ode.core import InputError
from ion_ode.training.rivals import FullyConnected

HARD = [k for k in CONSTRAINTS if make_constraint(k).hard]
Z = torch.tensor([1.0, 1, 1, 2, 2, -1, -2, -1], dtype=torch.float64)


def neutralised(c):
    "Scale the anions so that charges balance."
    positive, negative = (c * Z.clamp(min=0)).sum(1, keepdim=True), -(c * Z.clamp(max=0)).sum(1, keepdim=True)
    return torch.where(Z > 0, c, c * positive / negative)


def feeds(n, seed, trace=3.0):
    "Neutral feeds with random subsets of the ions, absent ones exactly zero."
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, 8, generator=g) < torch.rand(n, 1, generator=g)
    mask[torch.arange(n), torch.randint(5, (n,), generator=g)] = True
    mask[torch.arange(n), 5 + torch.randint(3, (n,), generator=g)] = True
    return neutralised(torch.exp(trace * torch.randn(n, 8, dtype=torch.float64, generator=g)) * mask)


def rates(seed, n=32):
    c = feeds(n, seed)
    mask = c > 0
    h_feed = c / (c * Z.abs()).sum(1, keepdim=True)
    g = torch.Generator().manual_seed(seed + 1)
    h = neutralised(h_feed * torch.rand(n, 8, dtype=torch.float64, generator=g))
    f = torch.randn(n, 8, dtype=torch.float64, generator=g) * h_feed
    return f, h, h_feed, mask


@pytest.mark.parametrize("kind", HARD)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_constrained_rate_is_neutral_and_leaves_absent_ions_alone(kind, seed):
    f, h, h_feed, mask = rates(seed)
    out = make_constraint(kind).double()(f, h, h_feed, Z, mask)
    assert ((out @ Z).abs() <= 1e-12 * (out * Z).abs().sum(-1)).all()
    assert (out[~mask] == 0).all()
    garbage = torch.where(mask, f, torch.nan), torch.where(mask, h, 7.0)
    assert torch.equal(make_constraint(kind).double()(*garbage, h_feed, Z, mask), out)


@pytest.mark.parametrize("kind", ["projection", "weighted_feed"])
def test_projections_are_idempotent_and_nearest_in_their_metric(kind):
    f, h, h_feed, mask = rates(3)
    constraint = make_constraint(kind).double()
    out = constraint(f, h, h_feed, Z, mask)
    assert_allclose(constraint(out, h, h_feed, Z, mask), out, atol=1e-13)
    metric = torch.where(mask, 1 / (h_feed if kind == "weighted_feed" else torch.ones_like(h)), 0.0)
    distance = lambda x: (metric * (x - torch.where(mask, f, 0.0)).square()).sum(1)
    other = constraint(torch.randn_like(f), h, h_feed, Z, mask)  # some other neutral rate
    for t in (-0.1, 0.1, 1.0):
        assert (distance(out + t * (other - out)) >= distance(out) - 1e-12).all()


@pytest.mark.parametrize("kind", ["weighted", "ion_pair", "equivalents"])
def test_the_rate_vanishes_with_the_ion(kind):
    f, h, h_feed, mask = rates(5)
    constraint = make_constraint(kind).double()
    first = mask & (mask.cumsum(1) == 1)
    for small in (1e-3, 1e-6, 1e-9):
        scaled = torch.where(first, small * h, h)
        rate = constraint(f, scaled, h_feed, Z, mask)
        relative = (rate / torch.where(mask, scaled, 1.0))[first].abs()
        assert relative.max() < 1e3  # bounded however small the ion, so ln h cannot run away


def test_equivalents_are_ion_pairs_in_other_coordinates():
    f, h, h_feed, mask = rates(8)
    equivalents, pairs = make_constraint("equivalents").double(), make_constraint("ion_pair").double()
    y = equivalents.encode(h, Z, mask)
    neutral = equivalents.decode(y, Z, mask)
    assert_allclose(neutral, h, rtol=1e-12)
    _, moved = torch.func.jvp(
        lambda y: equivalents.decode(y, Z, mask), (y,), (equivalents.rate(f, y, neutral, h_feed, Z, mask),)
    )
    assert_allclose(moved, pairs(f, neutral, h_feed, Z, mask), rtol=1e-9, atol=1e-15)
    assert_allclose(equivalents(f, neutral, h_feed, Z, mask), moved, rtol=1e-9, atol=1e-15)


def test_salts_balance():
    f, h, h_feed, mask = rates(9)
    pairs = make_constraint("ion_pair").double()
    salts, rate = pairs.pairs(f, h, h_feed, Z, mask), pairs(f, h, h_feed, Z, mask)
    assert_allclose(salts.sum(-1)[:, :5], (rate * Z)[:, :5], atol=1e-14)
    assert_allclose(salts.sum(-2)[:, 5:], -(rate * Z)[:, 5:], atol=1e-14)


def built(cls, kind, seed, gain, dtype):
    torch.manual_seed(seed)
    model = cls(FieldConfig(), make_constraint(kind)).to(dtype)
    with torch.no_grad():
        model.linears[-1].weight.mul_(gain)
    return model


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("cls", [ODENet, FullyConnected])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), gain=st.sampled_from([1.0, 10.0, 30.0]), steps=st.sampled_from([1, 3, 8]))
def test_a_curve_is_neutral_everywhere_at_any_step(cls, kind, seed, gain, steps):
    c = feeds(6, seed, trace=2.0)
    flux = 5e-5 * torch.rand(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    keep = {"n_steps": steps} if cls is ODENet else {}
    for dtype, limit in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        model = built(cls, kind, seed, gain, dtype)
        with torch.no_grad():
            h = model(c, flux, **keep)
        finite = h.isfinite().all(-1)
        assert charge_residual(h, model.z)[finite].max() <= limit
        assert (h.masked_select((c == 0)[:, None]) == 0).all()
        if kind == "equivalents":
            assert finite.all() and (h >= 0).all()


def test_rejection_stays_below_one_where_plain_projection_breaks_it():
    c = torch.zeros(1, 8, dtype=torch.float64)
    c[0, 0], c[0, 6], c[0, 7] = 20.02, 10.0, 0.02  # Na2SO4 with a trace of nitrate
    flux = torch.linspace(0, 5e-5, 40, dtype=torch.float64)[None]
    low = {}
    for kind in ("projection", "weighted", "equivalents"):
        with torch.no_grad():
            low[kind] = min(
                built(ODENet, kind, s, 20.0, torch.float64)(c, flux, n_steps=32)[..., 7].min() for s in range(5)
            )
    assert low["projection"] < 0
    assert low["weighted"] > 0 and low["equivalents"] > 0


def test_soft_and_hard_members_share_one_form():
    f, h, h_feed, mask = rates(2)
    none, soft, hard = (make_constraint(k, weight=3.0).double() for k in ("none", "soft", "projection"))
    assert_allclose(none(f, h, h_feed, Z, mask), torch.where(mask, f, 0.0), rtol=0)
    assert_allclose(soft(f, h, h_feed, Z, mask), torch.where(mask, f, 0.0), rtol=0)
    assert_allclose(soft.penalty(h, Z), 3.0 * _soft_penalty(h, Z), rtol=1e-14)
    assert none.penalty(h, Z) == 0 and hard.penalty(h, Z) == 0
    stacked, buffers = torch.func.stack_module_state([none, soft, hard])
    run = lambda b: torch.func.functional_call(none, b, (f, h, h_feed, Z, mask))
    for out, one in zip(torch.func.vmap(run)(buffers), (none, soft, hard), strict=True):
        assert_allclose(out, one(f, h, h_feed, Z, mask), rtol=1e-14)


def test_residual_is_a_ratio():
    assert charge_residual(torch.zeros(3, 8), Z.float()).tolist() == [0, 0, 0]
    h = torch.tensor([[2.0, 0, 0, 0, 0, 1, 0, 0]], dtype=torch.float64)
    assert_allclose(charge_residual(h, Z), [1 / 3], rtol=1e-14)
    assert_allclose(charge_residual(1e-12 * h, Z), [1 / 3], rtol=1e-12)


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match="constraint 'clip' is not known; choose one of none, soft"):
        make_constraint("clip")
    with pytest.raises(InputError, match="'state' or 'feed'"):
        type(make_constraint("weighted"))(by="mass")
    same = make_constraint("weighted")
    assert make_constraint(same) is same


def test_gradients_are_finite_at_the_edges():
    "Absent ions, single salts and a feed of nothing (a padded row) give numbers, not NaN."
    c = feeds(5, 1)
    c[3] = 0
    flux = torch.full((5, 3), 1e-5, dtype=torch.float64)
    for kind in CONSTRAINTS:
        model = built(ODENet, kind, 0, 1.0, torch.float32)
        h = model(c, flux)
        h.square().sum().backward()
        assert h.isfinite().all() and (h[3] == 0).all()
        assert all(p.grad.isfinite().all() for p in model.parameters()), kind
        assert np.isfinite(charge_residual(h.detach(), model.z)).all()

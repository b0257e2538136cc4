"""The closed form and the stand-in for the pore model: limits, gradients, what is stored."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode.attention_odenet.constraints import make_constraint
from ion_ode.attention_odenet.field import FieldConfig
from ion_ode.attention_odenet.pore_field import PoreODENet, _pore_rate, _read_pore, bernoulli, goldman, mouth, n_pore
from ion_ode.attention_odenet.stack import Ensemble, StackedForward
from ion_ode.core import InputError
from ion_ode.data.design import sample_feeds, simulate_curves
from ion_ode.dspmde.prior import SLOTS
from ion_ode.results import standins, surrogate
from ion_ode.store import asset
from ion_ode.training.models import load_model
from ion_ode.training.predictor import Predictor
from ion_ode.training.recipe import build, describe_curves
from ion_ode.training.teach import surrogate_error

RECIPE = standins.recipe(standins.PORE, 8, 1, standins.EFFORTS["smoke"])


@pytest.fixture(scope="module")
def curves():
    return simulate_curves(24, seed=77, n_flux=8, family="dspmde+")


@pytest.fixture(scope="module")
def wild(curves):
    "A network whose correction is not zero, and its inputs."
    e = build(RECIPE, [0])
    with torch.no_grad():
        for p in e.params.values():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    return e.member(0), curves.c_feed.float(), curves.flux.float(), describe_curves(RECIPE, curves)


def test_bernoulli_is_smooth_where_the_series_takes_over():
    v = torch.tensor([-0.0100001, -0.0099999, 0.0, 0.0099999, 0.0100001, 30.0], dtype=torch.float64)
    b, slope = bernoulli(v)
    assert_allclose(b[:5], 1 - v[:5] / 2 + v[:5] ** 2 / 12, rtol=1e-9)
    assert_allclose(slope[:5], -0.5 + v[:5] / 6, rtol=1e-4)
    assert_allclose(b[5], 30 / np.expm1(30), rtol=1e-12)


def test_a_drift_with_the_gradient_carries_what_it_meets():
    c = torch.tensor([0.3, 2.0], dtype=torch.float64)
    assert_allclose(goldman(c, c.flip(0), torch.tensor(-50.0, dtype=torch.float64))[0], -50 * c.flip(0), rtol=1e-9)


@pytest.mark.parametrize("charge", [-50.0, -0.1, 0.0, 3.0])
def test_the_exit_is_neutral_and_its_derivative_exact(charge):
    z = torch.tensor([[1.0], [2.0], [-1.0], [-2.0]], dtype=torch.float64)
    x = torch.tensor([[charge]], dtype=torch.float64)[0]
    a = torch.tensor([[0.3], [0.02], [0.2], [0.07]], dtype=torch.float64).requires_grad_()
    c = mouth(a, 1.0, z, x, steps=8)
    assert abs((z * c).sum() + charge) / (z.abs() * c).sum() < 1e-9
    run = lambda a: mouth(a, 1.0, z, x, steps=8)
    assert torch.autograd.gradcheck(run, (a,), eps=1e-7, atol=1e-5, rtol=1e-4)


def test_untrained_it_follows_the_pore_model(curves):
    e = build(RECIPE, [0])
    e.skeleton.n_steps = 48
    error = standins.errors(RECIPE, e, curves).error
    assert error.median() < 1e-4 and error.quantile(0.9) < 0.01


def test_on_the_curve_nothing_pulls(curves):
    "At the pore model's own permeate at low flux, the rate is that of its curve, by differences."
    z = torch.tensor([float(v) for v in curves.z], dtype=torch.float64)[:, None]
    charge = (curves.c_feed * z.T.abs()).sum(-1)
    h, feed = (curves.c_perm / charge[:, None, None]).movedim(-1, 0), (curves.c_feed / charge[:, None]).T
    pore = _read_pore(describe_curves(RECIPE, curves).double().T, feed, (feed > 0).double())
    ref = RECIPE.network.flux_ref
    x, seen, bend = _pore_rate(h[..., 1], curves.flux[:, 1], pore, z, ref)
    there = (feed > 0) & (bend < 0.02) & (h[..., 1] > 1e-4)
    u = torch.log1p(curves.flux / ref)
    slope = (h[..., 2].log() - h[..., 0].log()) / (u[:, 2] - u[:, 0])
    assert there.sum() > 20
    assert (x - slope)[there].abs().median() < 0.02 and seen[1][there].abs().max() < 0.02


def test_absent_ions_stay_absent_and_all_is_neutral(wild):
    net, c_feed, flux, told = wild
    h = net(c_feed, flux, told)
    assert (h[(c_feed == 0)[:, None].expand_as(h)] == 0).all() and (h >= 0).all()
    assert ((h * net.z).sum(-1).abs() / (h * net.z.abs()).sum(-1)).max() < 1e-5


def test_a_batch_is_its_curves_one_by_one(wild):
    net, c_feed, flux, told = wild
    h = net(c_feed, flux, told)
    for k in (0, 7):
        assert_allclose(
            net(c_feed[k : k + 1], flux[k : k + 1], told[k : k + 1])[0].detach(), h[k].detach(), rtol=2e-3, atol=1e-6
        )
    e = Ensemble([net, net])
    both = StackedForward(net)(
        e.params, e.buffers, c_feed.expand(2, -1, -1), flux.expand(2, -1, -1), told.expand(2, -1, -1)
    )
    assert_allclose(both[1].detach(), h.detach(), rtol=2e-3, atol=1e-6)


def test_every_weight_gets_a_finite_gradient(wild):
    net, c_feed, flux, told = wild
    net.zero_grad()
    (net(c_feed, flux, told) ** 2).sum().backward()
    for name, p in net.named_parameters():
        assert torch.isfinite(p.grad).all() and p.grad.any(), name


@pytest.mark.parametrize(
    ("network", "constraint", "says"),
    [
        (dict(context="feed"), "equivalents", "is told 47 numbers"),
        (
            dict(context="feed+membrane", n_membrane=n_pore(9), flux_coordinate="linear"),
            "equivalents",
            "flux_coordinate 'log'",
        ),
        (dict(context="feed+membrane", n_membrane=n_pore(9)), "projection", "use the constraint 'equivalents'"),
    ],
)
def test_what_the_pore_field_cannot_do_is_refused(network, constraint, says):
    with pytest.raises(InputError, match=says):
        PoreODENet(FieldConfig(ions=SLOTS, **network), make_constraint(constraint))


def test_a_second_run_keeps_what_is_there_and_storing_chooses_on_validation(tmp_path, monkeypatch):
    first = surrogate.run(tmp_path, "smoke")
    (tmp_path / "network_alone_8" / "latest.json").unlink()
    again = surrogate.run(tmp_path, "smoke")
    same = ["field", "curves", "steps", "median", "within_95"]
    pd.testing.assert_frame_equal(first[same], again[same])
    model = load_model(surrogate.store(tmp_path, "smoke", tmp_path / "assets"))
    facts = json.loads((tmp_path / "assets" / "results" / "surrogate.json").read_text())
    long = first[first.steps.isin((0, *standins.EFFORTS["smoke"].long))].set_index("field").within_95
    assert facts["chosen"] == long.idxmin() and model.config.to_dict() == facts["recipe"]


def test_what_ships_is_as_good_as_its_tables_say(curves):
    table = pd.read_csv(asset("results/surrogate.csv"))
    facts, model = json.loads(asset("results/surrogate.json").read_text()), load_model("dspmde")
    row = table[(table.field == facts["chosen"]) & (table.by == "all") & (table.value == "DSPM-DE+")].iloc[0]
    assert_allclose(list(model.card["scores"].values()), [row["median"], row.within_95], rtol=1e-4)
    error = standins.errors(model.config, model.ensemble, curves).error
    assert error.median() < 10 * row["median"] and (error < row.within_95).mean() > 0.8
    e = surrogate_error(replace(model.config), model.ensemble, curves.subset(slice(0, 2)))
    assert set(e.columns) == {"member", "sample", "ion", "flux_m_s", "rejection", "predicted"}


def test_the_closed_form_ships_without_a_network_that_does_nothing():
    "A network behind a last layer of zeros changes no bit, whatever its size, so the smallest is kept."
    model = load_model("dspmde")
    assert sum(v.numel() for v in model.ensemble.params.values()) < 200
    config = standins.recipe(standins.ALONE, 1, 0, standins.EFFORTS["full"])
    wide = Predictor(config, build(config, [0]), model.parameters, model.card)
    c_feed, flux = sample_feeds(20, seed=3), torch.linspace(1e-6, 5e-5, 7, dtype=torch.float64).expand(20, -1)
    small, large = (torch.nan_to_num(m.rejections(c_feed, flux)) for m in (model, wide))
    assert torch.equal(small, large)

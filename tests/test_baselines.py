"""Rivals: the ODENet's promises where they apply, equal size, and the classical models against closed forms."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode.attention_odenet.constraints import charge_residual, make_constraint
from ion_ode.attention_odenet.field import FieldConfig
from ion_ode.attention_odenet.odenet import ODENet, n_parameters
from ion_ode.attention_odenet.stack import StackedForward
from ion_ode.core import InputError
from ion_ode.data.folds import composition_folds
from ion_ode.training.rivals import (
    SDEM,
    CNN1d,
    FullyConnected,
    ResidualGP,
    SpieglerKedem,
    UNet1d,
    match_width,
    spiegler_kedem,
)

NETWORKS = [FullyConnected, CNN1d, UNet1d]
FEED = torch.tensor([[20.0, 0, 0, 5.0, 0, 18.0, 5.0, 2.0], [0, 3.0, 0, 0, 0, 3.0, 0, 0]], dtype=torch.float64)
FLUX = torch.tensor([[0, 1e-6, 2e-5, 5e-5], [0, 3e-6, 9e-6, 2e-4]], dtype=torch.float64)


def network(cls, kind="equivalents", attention=True, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    model = cls(FieldConfig(attention=attention, width=24), make_constraint(kind)).to(dtype)
    with torch.no_grad():
        model.linears[-1].weight.mul_(20)
    return model


@pytest.mark.parametrize("cls", NETWORKS)
@pytest.mark.parametrize("kind", ["projection", "weighted", "ion_pair", "equivalents"])
@pytest.mark.parametrize("attention", [True, False])
def test_neutral_absent_and_anchored(cls, kind, attention):
    for dtype, limit in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        model = network(cls, kind, attention, dtype=dtype)
        h = model(FEED, FLUX)
        assert h.shape == (2, 4, 8)
        assert charge_residual(h.detach(), model.z).max() <= limit
        assert (h.masked_select((FEED == 0)[:, None]) == 0).all()
        start = (FEED / (FEED * model.z.abs().double()).sum(1, keepdim=True)).numpy()
        assert_allclose(h[:, 0].detach().double(), start, rtol=1e-5 if dtype == torch.float32 else 1e-12)
        if kind == "equivalents":
            assert (h >= 0).all()
        h.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("cls", NETWORKS)
def test_masked_slots_and_other_fluxes_do_not_matter(cls):
    model = network(cls)
    mask = FEED > 0
    for junk in (1e9, -1.0, torch.nan):
        assert torch.equal(model(torch.where(mask, FEED, junk), FLUX, mask=mask), model(FEED, FLUX))
    assert_allclose(model(FEED, FLUX[:, 2:3])[:, 0].detach(), model(FEED, FLUX)[:, 2].detach(), rtol=1e-12)


@pytest.mark.parametrize("cls", NETWORKS)
def test_a_member_of_a_stack_equals_its_solo(cls):
    models = [network(cls, seed=s) for s in range(3)]
    params, buffers = torch.func.stack_module_state(models)
    together = StackedForward(models[0])(params, buffers, FEED, FLUX)
    for model, h in zip(models, together, strict=True):
        assert_allclose(h.detach(), model(FEED, FLUX).detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cls", [ODENet, *NETWORKS])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("context", [dict(context="feed"), dict(context="feed+membrane", n_membrane=23)])
def test_equal_size(cls, attention, context):
    target = n_parameters(ODENet(FieldConfig(**context)))
    config = match_width(cls, FieldConfig(attention=attention, **context), target)
    assert abs(n_parameters(cls(config, make_constraint("none"))) / target - 1) <= 0.05


def test_a_size_that_cannot_be_met():
    with pytest.raises(InputError, match="no width of FullyConnected comes within 5% of 20 parameters"):
        match_width(FullyConnected, FieldConfig(), 20)


def test_layers_to_freeze_are_named():
    for cls in NETWORKS:
        model = network(cls)
        assert set(model.first_layers(3)) < {n for n, _ in model.named_parameters()}
        assert len(model.linears) == 5


def frame(ions, flux, rejection, kind="intrinsic"):
    rows = [
        dict(
            source_id="made", doi="", membrane="made", solution_id="made", composition="made", state_id=f"made/{k}",
            temperature_K=298.15, flux_m_s=J, ion=ion, z=z, c_feed_mol_m3=c, rejection=R[k], rejection_sd=0.01,
            kind=kind, censored=False, salt_level=False, weight=1.0, note="",
        )
        for (ion, z, c), R in zip(ions, rejection, strict=True)
        for k, J in enumerate(flux)
    ]  # fmt: skip
    df = pd.DataFrame(rows)
    df.index = df.state_id + "/" + df.ion
    return df


def test_spiegler_kedem_limits_and_strangers():
    assert_allclose(spiegler_kedem(1e-14, 0.7, 1e-6), 0, atol=1e-7)
    assert_allclose(spiegler_kedem(1.0, 0.7, 1e-6), 0.7, rtol=1e-9)
    assert_allclose(spiegler_kedem(1e-9, 0.7, 1e-6), 0.7 * 1e-9 / 1e-6, rtol=1e-2)  # sigma J / P
    J = np.linspace(2e-6, 6e-5, 9)
    df = frame([("Na+", 1, 10.0)], J, [spiegler_kedem(J, -0.5, 8e-6)])
    model = SpieglerKedem().fit(df)
    assert_allclose(model.parameters["Na+"], (-0.5, 8e-6), rtol=1e-3)  # enrichment too
    assert_allclose(model.predict(df.assign(ion="Ca+2")), df.rejection, atol=1e-3)
    with pytest.raises(InputError, match="no ion of the charge sign of Cl- was fitted"):
        model.predict(df.assign(ion="Cl-"))


def test_sdem_single_salt_closed_form():
    J, P_plus, P_minus = np.linspace(3e-6, 4e-5, 5), 1e-6, 4e-6
    P = 3 * P_plus * P_minus / (2 * P_plus + P_minus)  # a 2:1 salt
    R = J / (J + P)
    df = frame([("Mg+2", 2, 5.0), ("Cl-", -1, 10.0)], J, [R, R])
    model = SDEM(prior_sd=20.0).fit(df)
    assert_allclose(model.predict(df), df.rejection, atol=1e-3)
    fitted = model.permeances()
    assert_allclose(3 * fitted["Mg+2"] * fitted["Cl-"] / (2 * fitted["Mg+2"] + fitted["Cl-"]), P, rtol=0.02)


def test_sdem_is_neutral_and_a_film_lowers_rejection():
    J = np.array([1e-5, 3e-5])
    ions = [("Na+", 1, 10.0), ("Mg+2", 2, 5.0), ("Cl-", -1, 18.0), ("NO3-", -1, 2.0)]
    df = frame(ions, J, [np.zeros(2)] * 4)
    model = SDEM(shift=True).fit(frame(ions, J, [[0.3, 0.4], [0.7, 0.8], [0.5, 0.6], [0.4, 0.5]]))
    intrinsic = model.predict(df)
    observed = model.predict(df.assign(kind="observed"))
    c_perm = (1 - intrinsic) * df.c_feed_mol_m3
    assert abs((c_perm * df.z).groupby(df.state_id).sum()).max() < 1e-6 * c_perm.sum()
    assert (observed < intrinsic).all()


def test_sdem_slopes_are_derivatives():
    J = np.array([1e-5, 3e-5])
    ions = [("Na+", 1, 10.0), ("Mg+2", 2, 5.0), ("Cl-", -1, 18.0), ("NO3-", -1, 2.0)]
    model = SDEM(shift=True).fit(frame(ions, J, [[0.3, 0.4], [0.7, 0.8], [0.5, 0.6], [0.4, 0.5]], kind="observed"))
    p, _, _ = model._problem(frame(ions, J, [np.zeros(2)] * 4, kind="observed"))
    _, slope, u = model._solve(p, model.theta, jacobian=True)
    for k in range(len(model.theta)):
        e = torch.zeros_like(model.theta)
        e[k] = 1e-4
        up, down = (model._solve(p, model.theta + s * e, u)[0] for s in (1, -1))
        assert_allclose(slope[..., k].T, (up - down) / 2e-4, atol=3e-4)


def test_gp_learns_a_residual_and_leaves_the_rest():
    fold = next(f for f in composition_folds() if f.name == "A")
    train = fold.train[fold.train.source_id == "fdly2021"]
    zero = lambda df: np.full(len(df), 0.5)
    model = ResidualGP(zero).fit(train)
    fitted, sd = model.predict(train, return_sd=True)
    assert np.average((fitted - train.rejection) ** 2, weights=train.weight) < 0.2 * np.average(
        (zero(train) - train.rejection) ** 2, weights=train.weight
    )
    assert (sd > 0).all()
    strange = train.head(2).assign(flux_m_s=10.0)  # far from all data the mechanism has the word
    assert_allclose(model.predict(strange), zero(strange), atol=0.1)

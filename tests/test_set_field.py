"""The field that all ions share: what a vanishing ion does, splitting, order, absence, gradients, stacks."""

import math

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.func import stack_module_state

from ion_ode.attention_odenet.constraints import charge_residual
from ion_ode.attention_odenet.set_field import (
    SET_CONSTRAINTS,
    SetConfig,
    SetField,
    SetODENet,
    Told,
    export_set_onnx,
    limit_rate,
    tell_ions,
)
from ion_ode.attention_odenet.stack import StackedForward
from ion_ode.core import InputError
from ion_ode.water.ions import IONS

F64 = torch.float64
NAMES = (*IONS, "NH4+")
TOLD = tell_ions(NAMES)


def network(kind="equivalents", seed=0, gain=1.0, **config):
    torch.manual_seed(seed)
    model = SetODENet(SetConfig(**config), kind).double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(gain)
    return model


def feeds(n, seed=0, d=len(NAMES), z=TOLD.z):
    g = torch.Generator().manual_seed(seed)
    c = torch.exp(2 * torch.randn(n, d, dtype=F64, generator=g)) * (torch.rand(n, d, generator=g) < 0.6)
    c[:, 0], c[:, 5] = 1.0, 1.0
    up, down = (c * z.clamp(min=0)).sum(1, keepdim=True), -(c * z.clamp(max=0)).sum(1, keepdim=True)
    return torch.where(z > 0, c, c * up / down)


def fluxes(n, points=5):
    return 5e-5 * torch.rand(n, points, dtype=F64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", SET_CONSTRAINTS)
@given(
    seed=st.integers(0, 10_000),
    gain=st.floats(0.3, 3.0),
    ion=st.sampled_from((1, 2, 3, 4, 6, 7, 8)),
    salt=st.floats(0.5, 500.0),
)
@settings(max_examples=15, deadline=None)
def test_a_vanishing_ion_vanishes(kind, seed, gain, ion, salt):
    model = network(kind, seed, gain)
    c = torch.zeros(3, 9, dtype=F64)
    c[:, 0] = c[:, 5] = salt
    c[1, ion], c[2, ion] = 1e-9, 1e-12
    with torch.no_grad():
        r = model.passage(c, fluxes(1).expand(3, -1), TOLD)
    moved = (r[1:] - r[:1])[..., [0, 5]].abs()
    assert moved[0].max() < 1e-6
    assert moved[1].max() < 1e-6 * 1.01e-3 + 1e-13 * r[..., [0, 5]].abs().max()  # in proportion to the amount
    assert torch.isfinite(r[1:, :, ion]).all()


@pytest.mark.parametrize("kind", SET_CONSTRAINTS)
@given(seed=st.integers(0, 10_000), part=st.floats(1e-6, 1 - 1e-6), ion=st.integers(0, 8))
@settings(max_examples=8, deadline=None)
def test_splitting_and_order_change_nothing(kind, seed, part, ion):
    model, c, flux = network(kind, seed, 2.0), feeds(4, seed), fluxes(4)
    with torch.no_grad():
        r = model.passage(c, flux, TOLD)
        order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
        turned = model.passage(c[:, order], flux, Told(TOLD.z[order], TOLD.ion[order], TOLD.context))
        more = torch.cat([c, part * c[:, ion : ion + 1]], 1)
        more[:, ion] *= 1 - part
        split = model.passage(more, flux, Told(*(torch.cat([x, x[ion : ion + 1]]) for x in TOLD[:2]), TOLD.context))
    scale = r.nan_to_num().abs().max().item()
    assert_allclose(turned, r[..., order], rtol=1e-8, atol=1e-10 * scale)
    assert_allclose(split[..., :9], r, rtol=1e-8, atol=1e-10 * scale)
    assert_allclose(split[..., 9], r[..., ion], rtol=1e-8, atol=1e-10 * scale)


@pytest.mark.parametrize("kind", SET_CONSTRAINTS)
@pytest.mark.parametrize("dtype", (torch.float32, F64))
def test_absent_ions_are_absent(kind, dtype):
    model, c, flux = network(kind, gain=2.0).to(dtype), feeds(6).to(dtype), fluxes(6).to(dtype)
    here = c > 0
    noise = torch.randn(6, 9, 4, generator=torch.Generator().manual_seed(2))
    told = Told(torch.where(here, TOLD.z, -TOLD.z), torch.where(here[..., None], TOLD.ion, noise), TOLD.context)
    with torch.no_grad():
        h = model(c, flux, TOLD)
        assert torch.equal(model(c, flux, told), h)
        assert (h.masked_select(~here[:, None]) == 0).all()
        garbage = torch.where(here, c, torch.nan)
        assert torch.equal(model(garbage, flux, told, mask=here), h)
        one = c[:1, here[0]]  # without the slots at all: sums run in another order
        short = Told(TOLD.z[here[0]], TOLD.ion[here[0]], TOLD.context)
        assert_allclose(
            model(one, flux[:1], short)[0],
            h[0][:, here[0]],
            rtol=2e-4 if dtype == torch.float32 else 1e-9,
            atol=1e-6 if dtype == torch.float32 else 1e-14,
        )


@pytest.mark.parametrize("kind", [k for k in SET_CONSTRAINTS if k not in ("none", "soft")])
def test_neutral_at_any_step(kind):
    model = network(kind, gain=3.0)
    for n in (1, 4):
        assert charge_residual(model(feeds(8), fluxes(8), TOLD, n_steps=n).detach(), TOLD.z).max() < 1e-11


def test_one_to_fifteen_ions():
    model, g = network(gain=2.0), torch.Generator().manual_seed(0)
    for d in range(2, 16):
        z = torch.tensor([1, -1, 2, -2, 3, -1, 1, -3, 1, -1, 2, 1, -2, 1, -1][:d], dtype=F64)
        told = Told(z, torch.cat([z[:, None] / 2, torch.randn(d, 3, dtype=F64, generator=g)], 1), z.new_zeros(0))
        c = torch.rand(3, d, dtype=F64, generator=g) + 0.1
        up, down = (c * z.clamp(min=0)).sum(1, keepdim=True), -(c * z.clamp(max=0)).sum(1, keepdim=True)
        c = torch.where(z > 0, c, c * up / down)
        h = model(c, fluxes(3), told)
        assert h.shape == (3, 5, d) and charge_residual(h.detach(), z).max() < 1e-12
    alone = Told(torch.ones(1, dtype=F64), torch.zeros(1, 4, dtype=F64), torch.zeros(0, dtype=F64))
    assert torch.isfinite(network("none")(torch.ones(1, 1, dtype=F64), fluxes(1), alone)).all()


def test_context_reaches_the_ions_and_is_checked():
    model, c, flux = network(n_context=2), feeds(3), fluxes(3)
    told = tell_ions(NAMES, torch.zeros(3, 2, dtype=F64))
    assert (model(c, flux, told) != model(c, flux, told._replace(context=told.context + 1))).any()
    with pytest.raises(InputError, match="expected 9 ions, 4 numbers and 2"):
        model(c, flux, TOLD)
    with pytest.raises(InputError, match="keeps its influence"):
        SetODENet(constraint="projection")
    for bad in (dict(n_ion=0), dict(width=30), dict(cap=0.0), dict(depth=2)):
        with pytest.raises(InputError):
            SetConfig(**bad)


def test_gradients_against_differences():
    model, c, flux = network(gain=1.5), feeds(3), fluxes(3)
    weight = model.field.key.weight
    loss = lambda: model(c, flux, TOLD, n_steps=4).square().sum()
    loss().backward()
    for k in ((0, 0), (5, 3)):
        with torch.no_grad():
            values = []
            for step in (1e-5, -2e-5):
                weight[k] += step
                values.append(loss().item())
            weight[k] += 1e-5
        assert_allclose(weight.grad[k], (values[0] - values[1]) / 2e-5, rtol=1e-4, atol=1e-9)


def test_weights_of_attention_hold_their_bound():
    field = SetField(SetConfig()).double()
    with torch.no_grad():
        for p in field.parameters():
            p.mul_(50)
    static = field.prepare(feeds(8), TOLD)
    t = torch.tanh(5 * torch.randn(32, 9, 8, dtype=F64, generator=torch.Generator().manual_seed(0)))
    a = field.attend(t, static.share)[1]
    e = math.exp(2 * field.config.cap)
    assert (a <= static.share * e / (1 + static.share * (e - 1)) * (1 + 1e-9)).all()
    assert_allclose(a.sum(2).detach(), 1.0, rtol=1e-12)


@given(st.floats(-50, 50))
def test_rates_are_limited(y):
    y = torch.tensor(y, dtype=F64, requires_grad=True)
    g = limit_rate(y)
    g.backward()
    assert -3 <= g <= 1 and 0 <= y.grad <= 1


def test_stacks_take_shared_and_own_told():
    models, c, flux = [network(seed=k).float() for k in range(2)], feeds(4).float(), fluxes(4).float()
    params, buffers = stack_module_state(models)
    stack, told = StackedForward(models[0]), Told(*(x.float() for x in TOLD))
    each = torch.stack([m(c, flux, told) for m in models])
    assert_allclose(stack(params, buffers, c, flux, told).detach(), each.detach(), rtol=1e-4, atol=1e-6)
    own = Told(*(x.expand(2, 4, *x.shape).contiguous() for x in told))
    many = stack(params, buffers, c.expand(2, 4, 9), flux.expand(2, 4, 5), own)
    assert_allclose(many.detach(), each.detach(), rtol=1e-4, atol=1e-6)


def test_onnx_takes_any_number_of_ions(tmp_path, monkeypatch):
    # a checked shape is a fixed one to torch.export
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = network(gain=2.0).float()
    model.n_steps = 1  # the graph holds every step
    every = lambda told, n: Told(*(x.float().expand(n, *x.shape).contiguous() for x in told))
    export_set_onnx(model, every(TOLD, 3), tmp_path / "set.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "set.onnx"))
    few = Told(TOLD.z[[0, 3, 5, 6]], TOLD.ion[[0, 3, 5, 6]], TOLD.context)
    c, flux, told = feeds(5)[:, [0, 3, 5, 6]].float(), fluxes(5, 7).float(), every(few, 5)
    given = dict(zip(("c_feed", "flux", *Told._fields), (x.numpy() for x in (c, flux, *told)), strict=True))
    given = {i.name: given[i.name] for i in session.get_inputs()}
    assert_allclose(session.run(None, given)[0], model(c, flux, told).detach(), rtol=1e-3, atol=1e-5)

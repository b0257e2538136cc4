"""Attention ODENet: masks, order, solvers, stacks, compilation, export."""

import copy
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ion_ode.attention_odenet.constraints import CONSTRAINTS, charge_residual, make_constraint
from ion_ode.attention_odenet.field import _CONTEXTS, ENCODINGS, FieldConfig, IonEncoder, ion_features, sinusoidal
from ion_ode.attention_odenet.odenet import ODENet, export_onnx, n_parameters
from ion_ode.attention_odenet.stack import StackedForward
from ion_ode.core import InputError, compile_or_eager
from ion_ode.training.models import load_model
from ion_ode.training.recipe import describe_members
from ion_ode.water.ions import IONS, ion_arrays

F64 = torch.float64
Z = ion_arrays(IONS).z


def feeds(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, 8, generator=g) < 0.6
    mask[:, 0], mask[:, 5] = True, True
    c = torch.exp(1.5 * torch.randn(n, 8, dtype=F64, generator=g)) * mask
    positive, negative = (c * Z.clamp(min=0)).sum(1, keepdim=True), -(c * Z.clamp(max=0)).sum(1, keepdim=True)
    return torch.where(Z > 0, c, c * positive / negative)


def fluxes(n, points=9, seed=0):
    return 5e-5 * torch.rand(n, points, dtype=F64, generator=torch.Generator().manual_seed(seed))


def network(kind="equivalents", config=None, gain=10.0, seed=0, dtype=F64):
    torch.manual_seed(seed)
    model = ODENet(config or FieldConfig(), make_constraint(kind)).to(dtype)
    with torch.no_grad():
        model.linears[-1].weight.mul_(gain)
    return model


CONFIGS = {
    "default": FieldConfig(),
    "paper": FieldConfig.paper(),
    "shared": FieldConfig(head="shared"),
    "no attention": FieldConfig(attention=False),
    "two heads": FieldConfig(heads=2, d_k=4, residual=False),
    "membrane": FieldConfig(context="feed+membrane", n_membrane=3),
}


def membrane_of(config, n):
    return torch.randn(n, config.n_membrane, generator=torch.Generator().manual_seed(5)) if config.n_membrane else None


@pytest.mark.parametrize("name", CONFIGS)
def test_shapes_start_and_absent_ions(name):
    config, c, flux = CONFIGS[name], feeds(5), fluxes(5)
    flux[:, 0] = 0
    model = network("projection", config, gain=1.0)
    h = model(c, flux, membrane_of(config, 5))
    assert h.shape == (5, 9, 8) and h.dtype == F64
    assert_allclose(h[:, 0].detach(), c / (c * Z.abs()).sum(1, keepdim=True), rtol=1e-12)
    assert (h.masked_select((c == 0)[:, None]) == 0).all()
    h.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), junk=st.sampled_from([1e9, -1.0, float("nan"), float("inf")]))
def test_what_lies_in_masked_slots_cannot_matter(name, seed, junk):
    config, c = CONFIGS[name], feeds(3, seed)
    model = network("weighted", config, gain=1.0, seed=seed % 7)
    flux, membrane, mask = fluxes(3), membrane_of(config, 3), c > 0
    clean = model(c, flux, membrane)
    dirty = model(torch.where(mask, c, junk), flux, membrane, mask=mask)
    assert torch.equal(clean, dirty)
    static = model.field.prepare(c, membrane)
    y = static.h_feed * 0.7
    position = torch.tensor(0.3, dtype=F64)
    rate = lambda y: model.rate(position, y, static, flux.amax(1, keepdim=True))
    assert torch.equal(rate(y), rate(torch.where(mask, y, junk)))


def test_weights_of_absent_ions_cannot_matter_and_get_no_gradient():
    c = feeds(4)
    c[:, 2] = 0  # no lithium anywhere
    c = torch.where(
        Z > 0, c, c * (c * Z.clamp(min=0)).sum(1, keepdim=True) / -(c * Z.clamp(max=0)).sum(1, keepdim=True)
    )
    model = network()
    before = model(c, fluxes(4))
    before.sum().backward()
    assert (model.field.encoder.embedding.grad[2] == 0).all()
    with torch.no_grad():
        model.field.encoder.embedding[2] = torch.nan
    assert torch.equal(model(c, fluxes(4)), before)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_ion_order_does_not_matter_to_tokens_and_shared_head(encoding):
    c, flux = feeds(4), fluxes(4)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    config = FieldConfig(encoding=encoding, head="shared")
    model = network(config=config, gain=1.0)
    turned = network(config=FieldConfig(ions=[IONS[i] for i in order], encoding=encoding, head="shared"), gain=1.0)
    turned.load_state_dict(model.state_dict())
    for name in ("embedding", "position"):  # an identity belongs to the ion, not to the slot
        if hasattr(model.field.encoder, name):
            getattr(turned.field.encoder, name).data.copy_(getattr(model.field.encoder, name)[order])
    a, b = model.field.encoder, turned.field.encoder
    static, moved = a.prepare(c), b.prepare(c[:, order])
    assert_allclose(b(moved.h_feed, moved).detach(), a(static.h_feed, static)[:, order].detach(), rtol=1e-10)
    assert_allclose(turned(c[:, order], flux).detach(), model(c, flux)[..., order].detach(), rtol=1e-9)


def test_rank_one_logits_cannot_tell_ions_apart():
    encoder = FieldConfig(encoding="none", state="concentration", context="none").encoder()
    c = torch.tensor([[5.0, 5.0, 0, 0, 0, 10.0, 0, 0]])
    static = encoder.prepare(c)
    weights = encoder.weights(static.h_feed, static)[0, 0]
    assert torch.equal(weights[0], weights[1])  # sodium and potassium ask the same
    there = weights[static.mask[0]]
    assert torch.equal(there[:, 0], there[:, 1])  # and are asked the same


def test_attention_map():
    config = FieldConfig(heads=2)
    model, c, flux = network(config=config), feeds(3), fluxes(3)
    maps = model.attention_map(c, flux)
    assert maps.shape == (3, 9, 2, 8, 8)
    there = (c > 0)[:, None, None, :].expand(3, 9, 2, 8)
    assert_allclose(maps.sum(-1)[there].detach(), 1, rtol=1e-12)
    assert (maps.sum(-1)[~there] == 0).all() and (maps.transpose(-1, -2)[~there] == 0).all()
    with pytest.raises(InputError, match="without attention"):
        network(config=FieldConfig(attention=False)).attention_map(c, flux)


@pytest.mark.parametrize("kind", CONSTRAINTS)
@pytest.mark.parametrize("n", [1, 6])
def test_fixed_steps_equal_torchdiffeq_with_the_same_steps(kind, n):
    model, c, flux = network(kind, gain=3.0), feeds(4), fluxes(4)
    forced = dict(first_step=1 / n, min_step=1 / n, max_step=1 / n)

    def gradient(h):
        model.zero_grad()
        h.square().sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    ours, theirs = model(c, flux, n_steps=n), model.predict_reference(c, flux, options=forced)
    assert_allclose(ours.detach(), theirs.detach(), rtol=1e-12, atol=1e-12)
    a, b = gradient(ours), gradient(theirs)
    assert (a - b).abs().max() <= 1e-12 * a.abs().max()


@pytest.mark.parametrize("kind", ["weighted", "equivalents"])
def test_adaptive_dopri5_and_tsit5_agree(kind):
    model, c, flux = network(kind), feeds(4), fluxes(4)
    with torch.no_grad():
        reference = model.predict_reference(c, flux, rtol=1e-10, atol=1e-12)
        assert_allclose(
            model.predict_reference(c, flux, rtol=1e-10, atol=1e-12, method="dopri5"), reference, rtol=1e-7, atol=1e-9
        )
        assert_allclose(model.predict_adaptive(c, flux, rtol=1e-9, atol=1e-11), reference, rtol=1e-6, atol=1e-8)


def test_fifth_order():
    model, c, flux = network(), feeds(6), fluxes(6, 20)
    steps = np.array([16, 24, 32])
    with torch.no_grad():
        exact = model(c, flux, n_steps=120)
        error = [(model(c, flux, n_steps=int(n)) - exact).square().mean().sqrt().item() for n in steps]
    assert 4.8 < -np.polyfit(np.log(steps), np.log(error), 1)[0] < 5.2


def test_rollout_knows_its_error():
    model, c, flux = network(gain=30.0), feeds(6), fluxes(6)
    with torch.no_grad():
        exact = model(c, flux, n_steps=120)
        answer = model.rollout(c, flux, tol=1e-4)
        scale = torch.where(c > 0, c / (c * Z.abs()).sum(1, keepdim=True), torch.inf)
        assert ((answer.h - exact).abs().amax(1) / scale).max() < answer.error.max() < 1e-4
        indicator = model.solve(c, flux, n_steps=4).error
        assert indicator.shape == (6, 8) and (indicator[c == 0] == 0).all()
        with pytest.warns(UserWarning, match="still changes by"):
            model.rollout(c, flux, tol=1e-15, max_steps=8)


def test_kept_weights_and_single_points():
    model, c, flux = network(), feeds(4), fluxes(4)
    assert torch.equal(model(c, flux, weights=model.dense_weights(flux)), model(c, flux))
    end = flux.amax(1, keepdim=True)
    at = flux == end
    assert_allclose(model(c, end)[:, 0].detach(), model(c, flux)[at].detach(), rtol=1e-12)


@pytest.mark.parametrize("config", [FieldConfig(), FieldConfig(context="feed+membrane", n_membrane=3)])
def test_a_member_of_a_stack_equals_its_solo(config):
    models = [network(kind, config, seed=i) for i, kind in enumerate(("none", "soft", "projection"))]
    c, flux, membrane = feeds(5), fluxes(5), membrane_of(config, 5)
    params, buffers = torch.func.stack_module_state(models)
    forward = StackedForward(models[0])
    together = forward(params, buffers, c, flux, membrane)
    own = lambda x: None if x is None else torch.stack([x, x.flip(0), x])
    apart = forward(params, buffers, own(c), own(flux), own(membrane))
    together.square().sum().backward()
    for i, model in enumerate(models):
        h = model(c, flux, membrane)
        assert_allclose(together[i].detach(), h.detach(), rtol=1e-12, atol=1e-14)
        h.square().sum().backward()
        for name, p in model.named_parameters():
            assert_allclose(params[name].grad[i], p.grad, rtol=1e-9, atol=1e-12)
    assert_allclose(apart[1].flip(0).detach(), together[1].detach(), rtol=1e-12, atol=1e-14)


def test_vmap_over_forward_itself():
    models = [network(seed=i) for i in range(2)]
    params, buffers = torch.func.stack_module_state(models)
    c, flux = feeds(3), fluxes(3)
    run = lambda p, b: torch.func.functional_call(models[0], (p, b), (c, flux))
    for one, h in zip(models, torch.func.vmap(run)(params, buffers), strict=True):
        assert_allclose(h.detach(), one(c, flux).detach(), rtol=1e-12, atol=1e-14)


def test_eager_where_the_compiler_fails(monkeypatch):
    def broken(function, **options):
        def run(*args):
            raise RuntimeError("no compiler")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    step = compile_or_eager(lambda x: 2 * x)
    with pytest.warns(UserWarning, match="runs uncompiled"):
        assert step(torch.ones(2)).tolist() == [2, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert step(torch.ones(2)).tolist() == [2, 2]


def test_a_member_trains_as_it_does_alone():
    c, flux = feeds(12), fluxes(12)
    rows = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(m))[:6] for m in range(3)])
    models = [network(kind, gain=1.0, seed=i) for i, kind in enumerate(("none", "soft", "projection"))]
    params, buffers = torch.func.stack_module_state(models)
    forward, adam = StackedForward(models[0]), torch.optim.Adam(params.values(), 1e-3)
    for _ in range(5):
        adam.zero_grad()
        forward(params, buffers, c[rows], flux[rows]).square().sum().backward()
        adam.step()
    for m, model in enumerate(models):
        adam = torch.optim.Adam(model.parameters(), 1e-3)
        for _ in range(5):
            adam.zero_grad()
            model(c[rows[m]], flux[rows[m]]).square().sum().backward()
            adam.step()
        for name, p in model.named_parameters():
            assert_allclose(params[name][m].detach(), p.detach(), rtol=1e-8, atol=1e-10)


def test_predictions_come_in_chunks_with_their_error():
    models = [network(seed=i, gain=6.0) for i in range(2)]
    params, buffers = torch.func.stack_module_state(models)
    c, flux = feeds(300), fluxes(300)  # more than a chunk
    stacked = StackedForward(models[0])
    answer = stacked.predict(params, buffers, c, flux, tol=torch.inf)
    assert answer.n_steps == 8 and answer.h.shape == (2, 300, 9, 8) and not answer.h.requires_grad
    together = stacked.solve(params, buffers, c, flux)
    assert_allclose(answer.h, together.h.detach(), rtol=1e-10, atol=1e-14)
    assert_allclose(answer.error, together.error.detach(), rtol=1e-6, atol=1e-12)
    tol = answer.error.max().item() / 4
    finer, hard = stacked.predict(params, buffers, c, flux, tol=tol), (answer.error > tol).flatten(2).any(2).any(0)
    assert finer.n_steps > 8 and 0 < hard.sum() < 300 and finer.error.max() <= tol
    assert torch.equal(finer.h[:, ~hard], answer.h[:, ~hard])
    scale = torch.where(c > 0, c / (c * Z.abs()).sum(1, keepdim=True), torch.inf)
    exact = stacked.predict(params, buffers, c[hard], flux[hard], n_steps=96, tol=torch.inf).h
    assert ((finer.h[:, hard] - exact).abs().amax(2) / scale[hard]).max() < tol
    with pytest.warns(UserWarning, match="300 curves may be off by .* after 16 steps"):
        stacked.predict(params, buffers, c, flux, tol=0.0, max_steps=16)


COMPILED = """
import warnings
import torch
from numpy.testing import assert_allclose
from test_attention_odenet import StackedForward, feeds, fluxes, network

warnings.filterwarnings("error", message="torch.compile failed")  # the fallback says so
models = [network(seed=i, gain=3.0, dtype=torch.float32) for i in range(2)]
params, buffers = torch.func.stack_module_state(models)
c, flux, answers = feeds(6), fluxes(6), []
for compiled in (False, "step"):
    forward = StackedForward(models[0], compiled=compiled)
    h = forward(params, buffers, c, flux)
    answers.append([h.detach(), *torch.autograd.grad(h.square().sum(), list(params.values()))])
    with torch.no_grad():
        answers[-1].append(forward(params, buffers, c, flux, n_steps=2))  # another number of steps
    import ion_ode.attention_odenet as module
    module.CHUNK = 8  # four curves of two networks: one chunk, and one that is filled up
    predicted = forward.predict(params, buffers, c, flux, tol=torch.inf)
    assert bool(compiled) == forward.compiled and not forward.fused
    answers[-1] += predicted[:2]
for eager, quick in zip(*answers):
    # an error estimate may be round-off of float32
    assert_allclose(quick, eager, rtol=1e-3, atol=1e-4 * float(eager.abs().max()) + 1e-6)
print("equal")
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_equals_eager_with_gradients():
    run = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert run.returncode == 0 and run.stdout.strip() == "equal", run.stderr[-2000:]


def test_configuration_round_trip_and_refusals():
    for config in CONFIGS.values():
        assert FieldConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(InputError, match="does not know: colour"):
        FieldConfig.from_dict({"colour": "red"})
    with pytest.raises(InputError, match="choose one of none, feed, feed\\+membrane"):
        FieldConfig(context="all")
    with pytest.raises(InputError, match="n_membrane is 0"):
        FieldConfig(context="feed+membrane")
    with pytest.raises(InputError, match="depth is 1"):
        FieldConfig(depth=1)
    with pytest.raises(InputError, match="3 ions; this network was built for 8"):
        network()(torch.ones(2, 3), fluxes(2))
    with pytest.raises(InputError, match="needs 3 membrane features for every feed; it got none"):
        network(config=CONFIGS["membrane"])(feeds(2), fluxes(2))
    assert set(_CONTEXTS) == {"none", "feed", "feed+membrane"}


def test_paper_reads_nothing_but_state_and_flux():
    model = network("projection", FieldConfig.paper(), gain=1.0)
    c = feeds(3)
    assert_allclose(model(10 * c, fluxes(3)).detach(), model(c, fluxes(3)).detach(), rtol=1e-12)
    assert model.linears[0].in_features == 8 * 8 + 1 and len(model.linears) == 5
    ours = network()
    assert (ours(10 * c, fluxes(3)) - ours(c, fluxes(3))).abs().max() > 1e-6


def test_parts():
    phi = ion_features(IONS)
    assert phi.shape == (8, 4) and phi.abs().max() < 3
    assert_allclose(phi[:, 0], Z / 2, rtol=1e-14)
    assert_allclose(sinusoidal(8, 8)[0, :4], [0, 1, 0, 1], atol=1e-14)
    assert isinstance(FieldConfig().encoder(), IonEncoder)
    model = network()
    names = model.first_layers(3)
    assert len(names) == 6 and set(names) <= {n for n, _ in model.named_parameters()}
    assert n_parameters(model) == sum(p.numel() for p in model.parameters())


def test_a_plain_callable_is_a_constraint():
    c, flux = feeds(3), fluxes(3)
    model = network()
    z = model.z

    def project(f, h, h_feed, z, mask):
        weight = mask.to(f.dtype)
        return f - weight * z * ((f * z).sum(-1, keepdim=True) / (weight * z * z).sum(-1, keepdim=True))

    plain = copy.deepcopy(model)
    plain = ODENet(FieldConfig(), project).double()
    plain.load_state_dict(model.state_dict())
    assert charge_residual(plain(c, flux), z).max() < 1e-10  # no settling: round-off of the sum remains
    free = ODENet(FieldConfig()).double()
    assert free(c, flux).shape == (3, 9, 8)


def run_onnx(model, inputs, path, monkeypatch):
    "What onnxruntime makes of the model's ONNX file."
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a checked shape is a fixed one to torch.export
    export_onnx(model, path, 0 if len(inputs) < 3 else inputs[2].shape[-1])
    session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
    names = [i.name for i in session.get_inputs()]
    return session.run(None, {n: x.float().numpy() for n, x in zip(names, inputs, strict=True)})[0]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of the exporter's own
def test_onnx_file_gives_the_same_curves(tmp_path, monkeypatch):
    model = network("weighted", FieldConfig(width=8), gain=3.0, dtype=torch.float32)
    model.n_steps = 2
    given = feeds(5).float(), fluxes(5, 7).float()
    assert_allclose(
        run_onnx(model, given, tmp_path / "net.onnx", monkeypatch), model(*given).detach(), rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_onnx_file_of_a_shipped_network(tmp_path, monkeypatch):
    "Member 0 of the model nf270, told of its own membrane, against what Predictor says."
    m = load_model("nf270-network")
    c = torch.zeros(3, len(m.config.network.ions), dtype=torch.float64)
    c[:, 0], c[:, 3], c[:, 5] = (
        torch.tensor([10.0, 20.0, 5.0]),
        torch.tensor([5.0, 1.0, 20.0]),
        torch.tensor([20.0, 22.0, 45.0]),
    )
    flux = torch.linspace(2e-6, 2e-5, 6, dtype=torch.float64).expand(3, -1)
    told = describe_members(m.config, m.parameters, c.expand(len(m.ensemble), *c.shape))[0]
    h = run_onnx(m.ensemble.member(0), (c, flux, told), tmp_path / "net.onnx", monkeypatch)
    scale = (c * m.ensemble.skeleton.z.abs()).sum(-1)[:, None, None]
    R = torch.where(c[:, None] > 0, 1 - torch.as_tensor(h) * scale / c[:, None], torch.nan)
    assert_allclose(R, m.solve(c, flux)[0][0], rtol=1e-4, atol=1e-5)


def test_shapes_are_checked_at_run_time():
    model = network("projection", gain=1.0)
    with pytest.raises(Exception, match="flux") as found:
        model(feeds(2), fluxes(2)[:1])
    assert "Type" in found.type.__name__
    with pytest.raises(Exception, match="h") as found:
        charge_residual(feeds(2)[:, :3], model.z)
    assert "Type" in found.type.__name__

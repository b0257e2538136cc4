"""The fused path against the network it stands for, its tables, and what happens where it cannot be built."""

import ctypes
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from fused_pairs import answers, curves
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.func import stack_module_state

from ion_ode.attention_odenet import fused
from ion_ode.attention_odenet.constraints import charge_residual, make_constraint
from ion_ode.attention_odenet.field import FieldConfig
from ion_ode.attention_odenet.ode import TSIT5_A, TSIT5_ERR
from ion_ode.attention_odenet.odenet import ODENet
from ion_ode.attention_odenet.stack import StackedForward
from ion_ode.core import InputError
from ion_ode.store import asset
from ion_ode.training.rivals import FullyConnected

pytestmark = [
    pytest.mark.skipif(fused.library() is None, reason="no C++ compiler"),
    pytest.mark.usefixtures("memory_that_was_used_before"),
]
COVERED = ("none", "soft", "projection", "weighted", "weighted_feed", "equivalents")


def networks(config=None, constraint="equivalents", members=2, dtype=torch.float64, gain=3.0):
    nets = []
    for seed in range(members):
        torch.manual_seed(seed)
        nets.append(ODENet(config or FieldConfig(), make_constraint(constraint), n_steps=3))
        with torch.no_grad():
            nets[-1].linears[-1].weight.mul_(gain)
    return [net.to(dtype) for net in nets]


def agree(nets, *inputs, rtol=1e-11, **options):
    plain, quick = (answers(nets, how, *inputs, **options) for how in (False, "fused"))
    assert_allclose(quick[0], plain[0], rtol=rtol, atol=rtol * float(plain[0].abs().max()))
    assert_allclose(quick[1], plain[1], rtol=1e-5, atol=1e-13 * float(plain[0].abs().max() / 1e-3))
    for a, b in zip(plain[2], quick[2], strict=True):
        assert (a - b).norm() <= rtol * a.norm()


def table(name):
    "A table of the C++ source."
    text = asset("vectors.h").read_text()
    body = re.search(rf"constexpr double {name}[^=]*= \{{(.*?)\}};", text, re.S).group(1)
    return [eval(x) for x in re.findall(r"-?[\d.]+(?: / [\d.]+)?", body)]


def test_both_sources_hold_the_same_method():
    assert table("STAGE") == [a for row in TSIT5_A for a in row]
    assert table("ERROR") == list(TSIT5_ERR)
    text = asset("fused.cpp").read_text()
    names = lambda block: [
        n.strip(" *\n") for line in re.findall(r"(?:int32_t|const T \*|T \*)([^;]*);", block) for n in line.split(",")
    ]
    struct = lambda name: re.search(rf"struct {name} \{{(.*?)\}};", text, re.S).group(1)
    assert names(struct("Shape")) == [n for n, _ in fused._SLOTS.shape._fields_]
    assert names(struct("Given")) == [*fused._SLOTS.fixed, *fused._SLOTS.learned]
    assert names(struct("Gradients")) == [*fused._SLOTS.learned]
    assert {k: int(v) for k, v in re.findall(r"(\w+) = (\d)", re.search(r"enum Form \{(.*?)\}", text).group(1))} == {
        k.upper(): v for k, v in fused._FORMS.items()
    }


@pytest.mark.parametrize("constraint", COVERED)
@pytest.mark.parametrize("batch", [1, 16, 37])
def test_every_form_equals_the_network(constraint, batch):
    agree(networks(constraint=constraint), *curves(batch))


def test_a_network_without_a_constraint_stays_without():
    torch.manual_seed(0)
    net = ODENet(FieldConfig(width=8), n_steps=3).double()
    with torch.no_grad():
        net.linears[-1].weight.mul_(10)
    assert charge_residual(net(*curves(8)).detach(), net.z).max() > 1e-3
    agree([net], *curves(8))


CONFIGS = {
    "no attention": FieldConfig(attention=False),
    "two heads, odd widths": FieldConfig(heads=2, d_k=3, width=21, depth=3),
    "as published": FieldConfig.paper(width=16),
    "no residual, no context": FieldConfig(residual=False, context="none", encoding="physical"),
    "two layers": FieldConfig(depth=2, width=5, encoding="sinusoidal"),
    "three ions": FieldConfig(ions=("Na+", "Mg+2", "Cl-")),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("constraint", ["projection", "equivalents"])
def test_every_part_of_the_field_equals_the_network(name, constraint):
    config = CONFIGS[name]
    c, flux = curves(20)
    if len(config.ions) == 3:
        salt = torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.1
        c = torch.stack([salt[:, 0], salt[:, 1], salt[:, 0] + 2 * salt[:, 1]], 1)
    if name == "as published":  # unscaled rates, which a short start keeps tame
        agree(networks(config, constraint, gain=0.05), c, flux, n_steps=8, rtol=1e-9)
    else:
        agree(networks(config, constraint), c, flux)


def test_members_with_feeds_fluxes_and_membranes_of_their_own():
    config = FieldConfig(context="feed+membrane", n_membrane=5)
    c, flux = curves(19, members=3)
    told = torch.randn(3, 19, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    agree(networks(config, members=3), c, flux, told)
    agree(networks(config, members=3), c[0], flux, told[1])
    agree(networks(config, members=3), c, flux[2], told)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 10_000),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from(COVERED[2:]),
    st.sampled_from([0.5, 5.0, 40.0]),
)
def test_neutral_and_absent_whatever_the_weights(seed, batch, n_steps, constraint, gain):
    c, flux = curves(batch, seed=seed)
    for dtype, limit in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        nets = networks(constraint=constraint, members=1, dtype=dtype, gain=gain)
        with torch.no_grad():
            h = StackedForward(nets[0], compiled="fused")(*stack_module_state(nets), c, flux, n_steps=n_steps)[0]
        good = torch.isfinite(h).all(
            (-1, -2)
        )  # a linear form may run away with such weights; it is neutral while it is a number
        assert constraint != "equivalents" or good.all()
        assert charge_residual(h[good], nets[0].z).max() <= limit if good.any() else True
        assert (h[good].masked_select((c == 0)[good][:, None]) == 0).all()
        assert constraint != "equivalents" or (h >= 0).all()


def test_masked_slots_cannot_be_read():
    nets = networks(members=1)
    c, flux = curves(9)
    mask, params = c > 0, stack_module_state(nets)
    forward = StackedForward(nets[0], compiled="fused")
    for garbage in (7.0, -3.0, torch.nan, torch.inf):
        assert torch.equal(forward(*params, torch.where(mask, c, garbage), flux, mask=mask), forward(*params, c, flux))


def test_a_member_gives_what_it_gives_alone_and_threads_change_nothing():
    nets = networks(members=3, dtype=torch.float32)
    c, flux = curves(40)
    together, alone = answers(nets, "fused", c, flux), [answers([net], "fused", c, flux) for net in nets]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        threaded = answers(nets, "fused", c, flux)
    finally:
        torch.set_num_threads(before)
    for m in range(3):
        for a, b in zip((*together[:2], *together[2]), (*alone[m][:2], *alone[m][2]), strict=True):
            assert torch.equal(a[m], b[0])
    assert all(
        torch.equal(a, b) for a, b in zip((*together[:2], *together[2]), (*threaded[:2], *threaded[2]), strict=True)
    )


def test_gradients_of_several_calls_do_not_mix():
    "Two forward passes before either way back, and one way back taken twice."
    nets = networks(members=1)
    params, buffers = stack_module_state(nets)
    forward, (a, b) = StackedForward(nets[0], compiled="fused"), (curves(5), curves(70, seed=3))
    loss = lambda given: forward(params, buffers, *given).square().sum()
    one, two = (torch.autograd.grad(loss(g), list(params.values())) for g in (a, b))
    la, lb = loss(a), loss(b)
    again_two, again_one = (torch.autograd.grad(x, list(params.values()), retain_graph=True) for x in (lb, la))
    for x, y in zip(
        (*one, *two, *one), (*again_one, *again_two, *torch.autograd.grad(la, list(params.values()))), strict=True
    ):
        assert torch.equal(x, y)


def test_not_a_number_is_not_hidden():
    nets = networks(members=2, dtype=torch.float32)
    with torch.no_grad():
        nets[1].linears[2].weight[3, 3] = torch.nan
    h, _, grads = answers(nets, "fused", *curves(6))
    assert torch.isfinite(h[0]).all() and not torch.isfinite(h[1]).any(-1).all()
    assert all(torch.isfinite(g[0]).all() for g in grads) and any(torch.isnan(g[1]).any() for g in grads)


def test_functions_of_vectors_over_their_whole_range():
    "tanh, exp and asinh as a network reaches them: through one layer, and through the shares."
    net = networks(FieldConfig(depth=2, width=16, attention=False), members=1, dtype=torch.float64)[0]
    c, flux = curves(64, points=3)
    for scale in (1e-8, 1e-3, 1.0, 30.0, 1e3):
        with torch.no_grad():
            net.linears[0].weight.copy_(
                scale
                * torch.randn(
                    net.linears[0].weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
                )
            )
        for dtype, rtol in ((torch.float64, 1e-9), (torch.float32, 2e-2 if scale > 1 else 1e-4)):
            copies = [net.to(dtype)]
            plain, quick = (
                StackedForward(copies[0], compiled=how)(*stack_module_state(copies), c, flux)
                for how in (False, "fused")
            )
            assert_allclose(quick.detach(), plain.detach(), rtol=rtol, atol=1e-6 * rtol)


def test_what_it_does_not_cover_takes_another_path():
    cases = [
        ODENet(FieldConfig(), make_constraint("ion_pair")),
        ODENet(FieldConfig(head="shared")),
        ODENet(FieldConfig(), lambda f, h, h_feed, z, mask: f),
    ]
    for net in cases:
        assert net.work() is None
        assert not StackedForward(net, compiled=True).fused
        with pytest.raises(InputError, match="does not cover this network"):
            StackedForward(net, compiled="fused")
    rival = FullyConnected(FieldConfig(), make_constraint("projection"))
    assert not StackedForward(rival, compiled=True).fused
    assert ODENet(FieldConfig()).work() is not None
    net = networks(members=1)[0]
    c, flux = curves(3)
    forward, stack = StackedForward(net, compiled="fused"), stack_module_state([net])
    forward.parts = StackedForward(net).parts
    forward.compiled = False  # what torch.compile would do, uncompiled
    c.requires_grad_()
    assert torch.autograd.grad(forward(*stack, c, flux).sum(), c)[0].abs().max() > 0


def test_wrong_inputs_are_refused():
    work = networks(members=1)[0].work()
    fine = dict(
        data=torch.zeros(1, work.data, 4),
        flux=torch.zeros(1, 3, 7, 4),
        dense=torch.zeros(1, 4, 2, 7),
        strength=torch.ones(1),
        valence=torch.ones(8),
    )
    fine |= dict(
        tokens=torch.zeros(1, work.rows, 8),
        mix=torch.zeros(1, work.rows, work.columns),
        linears=[torch.zeros(1, *s) for s in work.linears],
    )
    fused.curves(work, 1, **fine)
    wrong = {
        "data": (torch.zeros(1, work.data - 1, 4), "data has shape"),
        "dense": (torch.zeros(1, 4, 2, 14), r"expected \(1, 4, 2, 7\)"),
        "tokens": (fine["tokens"].double(), "of one dtype"),
        "linears": ([*fine["linears"][:-1], torch.zeros(1, 9)], r"linears\[9\]"),
    }
    for name, (value, said) in wrong.items():
        with pytest.raises(InputError, match=said):
            fused.curves(work, 1, **fine | {name: value})
    with pytest.raises(InputError, match="data of 3"):
        fused.curves(work, 1, **fine | {"data": torch.zeros(3, work.data, 4), "flux": torch.zeros(3, 3, 7, 4)})


WITHOUT = """
import warnings, torch
from ion_ode.attention_odenet import fused
from ion_ode.attention_odenet.field import FieldConfig
from ion_ode.attention_odenet.odenet import ODENet
from ion_ode.attention_odenet.stack import StackedForward
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    assert fused.library() is None
assert len(said) == 1 and "several times slower" in str(said[0].message), [str(s.message) for s in said]
assert not StackedForward(ODENet(FieldConfig()), compiled=True).fused
print(said[0].message)
"""


@pytest.mark.parametrize(("compiler", "said"), [("false", "did not build"), ("no-such-compiler", "did not build")])
def test_without_a_compiler_there_is_one_warning_and_the_other_path(compiler, said, tmp_path):
    env = os.environ | {"CXX": compiler, "ION_ODE_CACHE": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, env=env)
    assert run.returncode == 0 and said in run.stdout, run.stderr[-1000:]
    assert not list(tmp_path.iterdir())


def test_the_library_is_built_once_and_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path):
    make = "from ion_ode.attention_odenet import fused; print(fused.library()._name)"
    build = lambda folder: subprocess.run(
        [sys.executable, "-c", make],
        capture_output=True,
        text=True,
        env=os.environ | {"ION_ODE_CACHE": str(folder)},
        check=True,
    ).stdout.strip()
    first = build(tmp_path / "new")
    made = os.stat(first).st_mtime_ns
    assert build(tmp_path / "new") == first and os.stat(first).st_mtime_ns == made
    (tmp_path / "file").write_text("")
    elsewhere = build(tmp_path / "file")
    assert elsewhere != first and os.path.basename(elsewhere) == os.path.basename(first)
    assert isinstance(ctypes.CDLL(first).forward_f32, ctypes._CFuncPtr)


def test_memory_for_the_way_back_is_what_is_said():
    nets = networks(members=2, dtype=torch.float32)
    small, large = (fused.tape_bytes(nets[0].work(), 3, batch, 7) for batch in (16, 160))
    assert 0 < small < large and fused.tape_bytes(nets[0].work(), 3, 16, 7, members=2) == 2 * small
    assert np.isclose(fused.tape_bytes(nets[0].work(), 3, 160, 7, dtype=torch.float64) / large, 2, rtol=0.5)

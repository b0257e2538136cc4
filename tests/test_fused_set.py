"""The fused path of the field that all ions share against the network it stands for."""

import re

import pytest
import torch
from fused_pairs import answers, curves
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.func import stack_module_state

from ion_ode.attention_odenet import fused, fused_set
from ion_ode.attention_odenet.constraints import charge_residual
from ion_ode.attention_odenet.set_field import SetConfig, SetODENet, Told, tell_ions
from ion_ode.attention_odenet.set_pore import SetPoreODENet
from ion_ode.attention_odenet.stack import StackedForward
from ion_ode.core import InputError
from ion_ode.store import asset
from ion_ode.water.ions import IONS

pytestmark = [
    pytest.mark.skipif(fused.library("fused_set.cpp") is None, reason="no C++ compiler"),
    pytest.mark.usefixtures("memory_that_was_used_before"),
]
TOLD = tell_ions(IONS)


def networks(config=None, members=2, dtype=torch.float64, gain=2.0):
    nets = []
    for seed in range(members):
        torch.manual_seed(seed)
        nets.append(SetODENet(config, n_steps=3).to(dtype))
        with torch.no_grad():
            for p in nets[-1].parameters():
                p.mul_(gain)
    return nets


def agree(nets, *inputs, rtol=1e-11, **options):
    plain, quick = (answers(nets, how, *inputs, **options) for how in (False, "fused"))
    assert_allclose(quick[0], plain[0], rtol=rtol, atol=rtol * float(plain[0].abs().max()))
    assert_allclose(quick[1], plain[1], rtol=1e-5, atol=1e-12)
    for a, b in zip(plain[2], quick[2], strict=True):
        assert a.norm() > 0 and (a - b).norm() <= rtol * a.norm()


def test_both_sources_hold_the_same_structs():
    text, source = asset("fused_set.cpp").read_text(), fused_set._SET
    struct = lambda name: re.search(rf"struct {name} \{{(.*?)\}};", text, re.S).group(1)
    lines = lambda block: re.findall(r"(?:int32_t|const T \*|T \*)([^;]*);", block)
    names = lambda name: [n.strip(" *\n") for line in lines(struct(name)) for n in line.split(",")]
    assert names("Shape") == [n for n, _ in source.shape._fields_]
    assert names("Given") == [*source.fixed, *source.learned]
    assert names("Gradients") == [*source.learned]


CONFIGS = {
    "as shipped": SetConfig(),
    "odd widths": SetConfig(width=21, heads=3, d_k=5, depth=3, cap=2.0),
    "deep and narrow": SetConfig(width=4, heads=1, d_k=1, depth=7),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("batch", [1, 37])
def test_curves_and_gradients_equal_the_network(name, batch):
    agree(networks(CONFIGS[name]), *curves(batch), TOLD)


def test_one_ion_fifteen_ions_none():
    g = torch.Generator().manual_seed(0)
    z = torch.tensor([1.0, 2, 3] * 3 + [-1, -2] * 3).double()
    told = Told(z, torch.randn(15, 4, dtype=torch.float64, generator=g), z[:0])
    c = torch.rand(20, 15, dtype=torch.float64, generator=g) * (torch.rand(20, 15, generator=g) < 0.6)
    c[0] = torch.rand(15, generator=g)  # all
    c[1] = 0  # none
    c[2] = 0
    c[2, 0] = 1.0  # one cation alone
    c[3, 1:] = 1e-11  # traces
    agree(networks(), c, curves(20)[1], told)


def test_members_with_feeds_fluxes_and_words_of_their_own():
    nets, (c, flux) = networks(SetConfig(n_context=2), members=3), curves(19, members=3)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    own = Told(TOLD.z.expand(3, 19, -1), TOLD.ion + draw(3, 19, 8, 4), draw(3, 19, 2))
    agree(nets, c, flux, own)
    agree(nets, c[0], flux[0], Told(*(x[1] for x in own)))
    agree(nets, c[0], flux[1], own)
    agree(nets, c, flux[2], own)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 5), st.sampled_from([0.5, 3.0, 10.0]))
def test_neutral_positive_and_absent_whatever_the_weights(seed, batch, n_steps, gain):
    c, flux = curves(batch, seed=seed)
    for dtype, limit in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        nets = networks(members=1, dtype=dtype, gain=gain)
        with torch.no_grad():
            h = StackedForward(nets[0], compiled="fused")(*stack_module_state(nets), c, flux, TOLD, n_steps=n_steps)[0]
        assert torch.isfinite(h).all() and (h >= 0).all()
        assert charge_residual(h, TOLD.z.to(dtype)).max() <= limit
        assert (h.masked_select((c == 0)[:, None]) == 0).all()


def test_a_curve_is_the_same_to_the_bit_in_whatever_company():
    "Alone, among others in any order, with slots that stay empty, beside other members, on other threads."
    nets, (c, flux) = networks(members=3, dtype=torch.float32), curves(40)
    forward = StackedForward(nets[0], compiled="fused")
    ask = lambda nets, c, flux, told=TOLD: forward(*stack_module_state(nets), c, flux, told).detach()
    together, order = ask(nets, c, flux), torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ask(nets, c[order], flux[order]), together[:, order])
    assert torch.equal(ask(nets[1:2], c[3:4], flux[3:4])[0], together[1, 3:4])
    more = Told(*(torch.cat([x, x[:3]]) for x in TOLD[:2]), TOLD.context)
    padded = torch.cat([c, torch.zeros(40, 3, dtype=c.dtype)], 1)
    assert torch.equal(ask(nets, padded, flux, more)[..., :8], together)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        threaded = answers(nets, "fused", c, flux, TOLD)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(answers(nets, "fused", c, flux, TOLD)[2], threaded[2], strict=True):
        assert torch.equal(a, b)


def test_a_vanishing_ion_vanishes_here_too():
    net = networks(members=1)[0]
    c = torch.zeros(2, 8, dtype=torch.float64)
    c[:, 0], c[:, 5], c[1, 3], c[1, 5] = 20.0, 20.0, 1e-9, 20.0 + 2e-9
    with torch.no_grad():
        h = StackedForward(net, compiled="fused")(*stack_module_state([net]), c, curves(1)[1].expand(2, -1), TOLD)[0]
    assert (h[0] - h[1])[:, [0, 5]].abs().max() < 1e-9


def test_gradients_of_several_calls_do_not_mix():
    nets = networks(members=1)
    params, buffers = stack_module_state(nets)
    forward, (a, b) = StackedForward(nets[0], compiled="fused"), (curves(5), curves(40, seed=3))
    loss = lambda given: forward(params, buffers, *given, TOLD).square().sum()
    grad = lambda x: torch.autograd.grad(x, list(params.values()), retain_graph=True)
    one, two, la, lb = grad(loss(a)), grad(loss(b)), loss(a), loss(b)
    for x, y in zip((*two, *one, *one), (*grad(lb), *grad(la), *grad(la)), strict=True):
        assert torch.equal(x, y)


def test_not_a_number_is_not_hidden():
    nets = networks(members=2, dtype=torch.float32)
    with torch.no_grad():
        nets[1].field.linears[1].weight[3, 3] = torch.nan
    h, _, grads = answers(nets, "fused", *curves(6), TOLD)
    assert torch.isfinite(h[0]).all() and torch.isnan(h[1]).any()
    assert all(torch.isfinite(g[0]).all() for g in grads) and any(torch.isnan(g[1]).any() for g in grads)


def test_prediction_in_chunks_with_words_for_every_curve():
    net, (c, flux) = networks(members=1)[0], curves(300, points=3)
    told = Told(TOLD.z, TOLD.ion + torch.linspace(0, 1, 300, dtype=torch.float64)[:, None, None], TOLD.context)
    weights = stack_module_state([net])
    plain = net(c, flux, told, n_steps=16).detach()
    quick = StackedForward(net, compiled="fused").predict(*weights, c, flux, told, n_steps=8, tol=1e-12, max_steps=16)
    assert quick.n_steps == 16
    assert_allclose(quick.h[0], plain, rtol=1e-9, atol=1e-12)


def test_what_it_does_not_cover_takes_another_path():
    for net in (SetODENet(constraint="ion_pair"), SetPoreODENet()):
        assert net.work() is None and not StackedForward(net, compiled=True).fused


def test_wrong_inputs_are_refused():
    net, (c, flux) = networks(members=1)[0], curves(4)
    forward, weights = StackedForward(net, compiled="fused"), stack_module_state([net])
    with pytest.raises(InputError, match="expected 8 ions, 4 numbers"):
        forward(*weights, c, flux, TOLD._replace(ion=TOLD.ion[:, :3]))
    work, (_, data, path) = net.work(), net.given(3, c, flux.amax(1, keepdim=True), TOLD)
    learned = [torch.zeros(1, *shape, dtype=torch.float64) for shape in work.learned]
    fine = dict(data=data[None], flux=path[None], dense=net.dense_weights(flux)[None], learned=learned)
    fused_set.set_curves(work, 3, **fine)
    with pytest.raises(InputError, match="dense has shape"):
        fused_set.set_curves(work, 3, **fine | {"dense": fine["dense"][..., 1:]})
    with pytest.raises(InputError, match="data of 2"):
        fused_set.set_curves(
            work, 3, **fine | {"data": data.expand(2, *data.shape), "flux": path.expand(2, *path.shape)}
        )


def test_memory_for_the_way_back_is_what_is_said():
    work = SetODENet().work()
    small, large = (work.tape_bytes(3, batch, 7) for batch in (16, 160))
    assert 0 < small < large and work.tape_bytes(3, 16, 7, members=2) == 2 * small
    assert work.tape_bytes(3, 16, 7, ions=4) < small

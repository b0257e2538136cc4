"""The network behind `predict`: what holds whatever its weights, its two paths, and what ships beside the solver"""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from numpy.testing import assert_allclose

from ion_ode.attention_odenet.set_pore import constant_fields
from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.cli import main
from ion_ode.core import LMH, InputError
from ion_ode.inference import network, stand_in
from ion_ode.inference.answer import load_answer
from ion_ode.inference.network import (
    PassageNetwork,
    Seen,
    export_passages_onnx,
    keep_network,
    load_network,
    look,
    passed,
)
from ion_ode.inference.pores import solve

IONS = ("Na+", "Mg+2", "Cl-", "SO4-2")
Z = np.array([1.0, 2.0, -1.0, -2.0])


@pytest.fixture(scope="module")
def model():
    return load_answer("nf270")


def wild(seed: int = 0) -> PassageNetwork:
    "Weights nobody taught."
    torch.manual_seed(seed)
    return PassageNetwork(24).requires_grad_(False)


def problems(n=333, seed=0, ions=4):
    "Neutral feeds, every third without its last ion pair, before pores of all kinds."
    r = np.random.default_rng(seed)
    a, b, d = np.exp(r.uniform(-2, 5, (3, n)))
    d[::3] = 0.0
    c = np.stack([a + 2 * d, b, a + 2 * b, d])
    peclet, film = 10.0 ** r.uniform(-3, 1, (4, n)), 10.0 ** r.uniform(-6, 0.4, (4, n))
    planes = np.stack([c, -3 * r.random((4, n)), peclet, 0.3 + r.random((4, n)), film])
    return planes, 40 * r.standard_normal(n)


def feeds(n=20, seed=0):
    planes, _ = problems(n, seed)
    return planes[0].T


def test_both_paths_have_one_answer():
    "Also where the number of problems is no multiple of a vector."
    if network._compiled() is None:
        pytest.skip("no C++ compiler")
    for n in (1, 31, 333):
        planes, charge = problems(n)
        for fast, plain in zip(*(passed(wild(), Z, planes, charge, plain=p) for p in (False, True)), strict=True):
            assert_allclose(fast, plain, rtol=2e-5)


@pytest.mark.parametrize("plain", [True, False])
def test_every_permeate_is_neutral(plain):
    planes, charge = problems()
    e = Z[:, None] * planes[0] * passed(wild(), Z, planes, charge, plain)[0]
    assert np.abs(e.sum(0)).max() < 1e-5 * np.abs(e).sum(0).min() + 1e-5 * np.abs(e).sum(0).max()


def test_nothing_is_retained_at_rest():
    planes, charge = problems()
    kept = []
    for f in (1e-4, 1e-7, 0.0):
        slow = planes.copy()
        slow[2], slow[4] = f * slow[2].clip(max=1.0), f * slow[4]
        there = slow[0] > 0
        kept.append(np.quantile(np.abs(1 - passed(wild(), Z, slow, charge)[0])[there], 0.99))
    assert kept[2] < 1e-3 and kept[2] < 0.1 * kept[1] < kept[0]


def in_constant_fields(z, planes, charge):
    "Without a network, in double precision."
    c, ln_entry, peclet, K_conv, film = (torch.tensor(v) for v in planes)
    wide = torch.tensor(z)[:, None].expand_as(c)
    return constant_fields(wide, c, ln_entry, peclet, K_conv, torch.tensor(charge), film).r.numpy()


def test_absent_ions_and_traces_leave_no_mark():
    "A trace moves others by 1e-6 of R, and by more only where the pore gathers it and its charge is felt there."
    planes, charge = problems()
    some = planes[:, :3].copy()
    some[0, 2] = (Z[:2, None] * some[0, :2]).sum(0)  # without sulfate
    ask = {"network": lambda *given: passed(wild(), *given)[0], "fields": in_constant_fields}
    alone = {k: f(Z[:3], some, charge) for k, f in ask.items()}
    for amount in (0.0, 1e-9):
        four = np.concatenate([some, planes[:, 3:]], 1)
        four[0, 3] = amount
        moved = {k: np.abs(f(Z, four, charge)[:3] - alone[k]) for k, f in ask.items()}
        assert (moved["fields"] < 1e-6 + 1e4 * amount).all() and np.median(moved["fields"]) < 1e-9
        assert (moved["network"] < 1e-6 + 1e-5 * alone["network"] + 2 * moved["fields"]).all()


def test_ions_alike_are_one_and_their_order_is_free():
    planes, charge = problems()
    whole = passed(wild(), Z, planes, charge)[0]
    two = np.concatenate([planes, planes[:, :1]], 1)[:, ::-1].copy()
    two[0, 0], two[0, -1] = 0.4 * planes[0, 0], 0.6 * planes[0, 0]
    split = passed(wild(), np.array([*Z, Z[0]])[::-1].copy(), two, charge)[0][::-1]
    assert_allclose(split[4], whole[0], rtol=2e-5)
    assert_allclose(split[:4], whole, rtol=2e-5)
    order = [2, 0, 3, 1]
    assert_allclose(passed(wild(), Z[order], planes[:, order], charge)[0], whole[order], rtol=2e-5)


def test_weights_are_kept_and_read(tmp_path):
    planes, charge = problems()
    path = keep_network(wild(3), tmp_path / "net.safetensors", {"taught": "nothing"})
    net, card = load_network(path)
    assert card == {"taught": "nothing"}
    assert_allclose(passed(net, Z, planes, charge), passed(wild(3), Z, planes, charge), rtol=1e-6)


def test_onnx_file_gives_the_same_passages(tmp_path):
    "Of any number of ions and problems, by a graph of three ions and four problems."
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    for k, net in enumerate((wild(), load_network()[0])):
        export_passages_onnx(net, tmp_path / f"{k}.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / f"{k}.onnx"))
        planes, charge = problems(57)
        through, off = session.run(["through", "off"], {"z": Z, "planes": planes, "charge": charge})
        given = (torch.tensor(v) for v in (Z, planes, charge))
        with torch.no_grad():
            expected = network._Passed(PassageNetwork(len(net.own[0].bias)).double())
            expected.net.load_state_dict(net.state_dict())
            expected = expected(*given)
        assert_allclose(through, expected[0], rtol=1e-6)
        assert_allclose(off, expected[1], rtol=1e-6)
        e = Z[:, None] * planes[0] * through
        assert (np.abs(e.sum(0)) < 1e-9 * np.abs(e).sum(0)).all()
        there = planes[0] > 0
        assert_allclose(through[there], passed(net, Z, planes, charge)[0][there], rtol=2e-4)


def test_a_stack_gives_what_its_members_give_alone():
    "Answers and gradients of three networks side by side, each told of its own problems or all of the same."
    nets = [wild(k).requires_grad_(True) for k in range(3)]
    stack, own = Ensemble(nets), [problems(40, seed=k) for k in range(3)]
    tell = lambda planes, charge: look(*(torch.tensor(v, dtype=torch.float32) for v in (
        np.broadcast_to(Z[:, None], planes[0].shape), *planes[:4], charge, planes[4])))  # fmt: skip
    seen = [tell(*p) for p in own]
    for told in (seen, seen[:1] * 3):
        through, doubt = stack(Seen(*(torch.stack(v) for v in zip(*told, strict=True))))
        (through.log().sum() + doubt.sum()).backward()
        for k, net in enumerate(nets):
            alone = net(told[k])
            net.zero_grad()
            (alone[0].log().sum() + alone[1].sum()).backward()
            assert_allclose(through[k].detach(), alone[0].detach(), rtol=1e-5)
            assert_allclose(doubt[k].detach(), alone[1].detach(), rtol=1e-5, atol=1e-6)
            for name, p in net.named_parameters():
                size = p.grad.abs().max().item()
                assert_allclose(stack.params[name].grad[k], p.grad, rtol=1e-4, atol=1e-5 * size)
            assert_allclose(stack.member(k)(told[k])[0].detach(), alone[0].detach(), rtol=1e-6)
        for p in stack.params.values():
            p.grad = None


def untaught(monkeypatch, far: float):
    "A network that is off by a factor on the permeate, and does not doubt itself."

    def told(net, z, planes, charge, plain=False):
        exact = passed(load_network()[0], z, planes, charge)[0]
        return exact * far, np.zeros_like(exact)

    monkeypatch.setattr(stand_in, "passed", told)


def test_a_network_that_is_wrong_and_sure_is_found_out(model, monkeypatch):
    "The membranes that are asked both ways in every question tell."
    untaught(monkeypatch, 3.0)
    exact, quick = (model.predict(feeds(), 20 * LMH, ions=IONS, solver=s) for s in ("exact", "network"))
    assert quick.attrs["by_network"] == 0
    assert_allclose(quick[["rejection", "lower", "upper"]], exact[["rejection", "lower", "upper"]], rtol=1e-6)


def test_where_the_network_doubts_the_solver_answers(model, monkeypatch):
    def told(net, z, planes, charge, plain=False):
        through, off = passed(net, z, planes, charge)
        return through, np.where(np.arange(through.shape[1]) % 2, 0.0, 1.0) * np.ones_like(off)

    before = model.predict(feeds(), 20 * LMH, ions=IONS, solver="network").attrs["by_network"]
    monkeypatch.setattr(stand_in, "passed", told)
    after = model.predict(feeds(), 20 * LMH, ions=IONS, solver="network").attrs["by_network"]
    assert 0 < after < 0.6 and before > 0


@pytest.mark.parametrize("flux", [20 * LMH, np.array([2, 10, 60]) * LMH])
def test_means_and_ends_are_those_of_the_solver(model, flux):
    "Within a tenth of the interval, with and without a trace."
    c = feeds(30, 5)
    for amount in (0.0, 1e-9, 1e-4):
        five = np.column_stack([c, np.full(len(c), amount)])
        five[:, 0] += amount
        exact, quick = (model.predict(five, flux, ions=(*IONS, "NO3-"), solver=s) for s in ("exact", "network"))
        width = exact.upper - exact.lower
        assert ((quick.rejection - exact.rejection).abs() <= 0.1 * width).all()
        assert ((quick[["lower", "upper"]] - exact[["lower", "upper"]]).abs().max(axis=1) / width).quantile(0.95) < 0.1
        assert quick.attrs["by_network"] > 0.2


def test_permeates_are_neutral(model):
    quick = model.predict(feeds(), 20 * LMH, ions=IONS, solver="network")
    e = quick.c_perm * quick.ion.map(dict(zip(IONS, Z, strict=True)))
    assert (e.groupby(quick["sample"]).sum().abs() < 1e-5 * e.abs().groupby(quick["sample"]).sum()).all()


def test_own_values_are_heard(model):
    own = pd.DataFrame({"ion": ["Na+", "Cl-"], "c_feed_mol_m3": 10.0, "rejection": 0.5, "flux_m_s": 20 * LMH})
    taught = model.calibrate(own)
    c = np.array([[12.0, 12.0], [8.0, 8.0]])
    exact, quick = (taught.predict(c, 20 * LMH, ions=("Na+", "Cl-"), solver=s) for s in ("exact", "network"))
    assert quick.attrs["by_network"] > 0.2
    assert_allclose(quick.rejection, exact.rejection, atol=0.1 * (exact.upper - exact.lower).min())


def test_a_neutral_solute_is_asked_of_the_solver(model):
    feed = {"Na+": [10.0, 10.0], "Cl-": [10.0, 10.0], "glucose": [1.0, 0.0]}
    exact, quick = (model.predict(feed, 20 * LMH, solver=s) for s in ("exact", "network"))
    first = (exact["sample"] == 0).to_numpy()
    assert_allclose(quick.rejection[first], exact.rejection[first], rtol=1e-6)


def test_few_membranes_are_all_asked_of_the_solver(model):
    quick = model.predict(feeds(3), 20 * LMH, ions=IONS, solver="network", members=20)
    assert "by_network" not in quick.attrs or quick.attrs["by_network"] == 0


def test_errors_are_one_sentence(model):
    with pytest.raises(InputError, match="solver is 'fast', expected one of 'exact', 'network'"):
        model.predict(feeds(2), 20 * LMH, ions=IONS, solver="fast")
    with pytest.raises(InputError, match="answers at a flux; give flux"):
        model.predict(feeds(2), pressure=5e5, ions=IONS, solver="network")


def a_table(n=60, seed=0):
    "Problems of `pores.solve`: three mixtures, with a film and without, at two temperatures."
    r = np.random.default_rng(seed)
    a, b = np.exp(r.uniform(-1, 4, (2, n)))
    c = np.column_stack([a, b, a + 2 * b, 0 * a])
    c[::3] = np.column_stack([a, 0 * a, a, 0 * a])[::3]
    c[1::3] = np.column_stack([2 * a, b, 2 * b, a])[1::3]
    p = {"c_feed": c, "offset": 0.3 * r.standard_normal((n, 4)), "flux": r.uniform(2, 60, n) * LMH}
    p |= {"r_pore": r.uniform(0.45e-9, 0.6e-9, n), "thickness": r.uniform(0.4e-6, 2e-6, n)}
    p |= {"eps_pore": r.uniform(38, 55, n), "charge": 15 * r.standard_normal(n)}
    return p | {
        "film": np.where(np.arange(n) % 2, 25e-6, 0.0),
        "temperature": np.where(np.arange(n) % 4, 298.15, 308.0),
    }


def test_passages_near_those_of_the_solver(monkeypatch):
    "And the solver's own where the network doubts, or a solute has no charge."
    p, asked = a_table(), []
    exact = solve(IONS, p)
    monkeypatch.setattr(stand_in, "solve", lambda ions, q, rtol: asked.append(len(q["flux"])) or solve(ions, q, rtol))
    near = stand_in.solve_near(IONS, p)
    assert np.abs(np.log((near + 0.05) / (exact + 0.05))).max() < 0.01 and sum(asked) < 10
    monkeypatch.setattr(stand_in, "_NEAR_ENOUGH", -1.0)
    assert_allclose(stand_in.solve_near(IONS, p), exact, rtol=1e-9)
    monkeypatch.undo()
    sweet = p | {"c_feed": np.column_stack([p["c_feed"][:, :3], np.ones(60)])}
    sweet["c_feed"][:, 2] = sweet["c_feed"][:, 0] + 2 * sweet["c_feed"][:, 1]
    names = (*IONS[:3], "glucose")
    assert_allclose(stand_in.solve_near(names, sweet), solve(names, sweet), rtol=1e-9)


def test_without_a_compiler_the_plain_path_answers(model, monkeypatch):
    expected = model.predict(feeds(4), 20 * LMH, ions=IONS, solver="network")

    def none(source):
        raise network.BuildError("no C++ compiler was found (g++, clang++, or $CXX)")

    monkeypatch.setattr(network, "build", none)
    network._compiled.cache_clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        got = model.predict(feeds(4), 20 * LMH, ions=IONS, solver="network")
    network._compiled.cache_clear()
    assert any("no C++ compiler" in str(w.message) for w in said)
    assert_allclose(got.rejection, expected.rejection, atol=1e-4)


def test_the_command_line_asks_either_way(tmp_path):
    c = feeds(6)[:, [0, 1, 2]]
    c[:, 2] = c[:, 0] + 2 * c[:, 1]
    pd.DataFrame(c, columns=["Na+", "Mg+2", "Cl-"]).to_csv(tmp_path / "feeds.csv", index=False)
    asked = ["predict", "--feed", str(tmp_path / "feeds.csv"), "--flux", "20", "--json"]
    ask = lambda *more: CliRunner().invoke(main, [*asked, *more])
    exact, quick = (pd.DataFrame(json.loads(ask("--solver", s).stdout)) for s in ("exact", "network"))
    assert 0 < (quick.rejection - exact.rejection).abs().max() < 0.05
    refused = ask("--solver", "network", "--model", "nf270-network")
    assert refused.exit_code and "--solver is for the models nf270 and nf" in refused.output + refused.stderr

"""The ensemble loop: members never mix, runs resume bit for bit, stored files are checked before they are used."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load_file
from torch import nn

from ion_ode.attention_odenet.stack import Ensemble, join
from ion_ode.core import InputError
from ion_ode.data.design import simulate_curves
from ion_ode.data.nf270 import independent_rows, measurement_sd
from ion_ode.dspmde.film import film_wall
from ion_ode.dspmde.membranes import Membrane
from ion_ode.store import CheckpointError, read_checkpoint, write_checkpoint
from ion_ode.training.callbacks import TrainingError
from ion_ode.training.choice import ranked, try_membranes
from ion_ode.training.models import load_model
from ion_ode.training.optimise import Draws, Plan, fit, masked_mse
from ion_ode.training.recipe import TrainConfig, build, describe_members
from ion_ode.training.run import train
from ion_ode.training.states import first_values, leads, measured_curves, with_scatter
from ion_ode.training.teach import _simulated_batches, finetune, predict_measured, pretrain
from ion_ode.training.told import describe

X = torch.linspace(-1, 1, 64).view(-1, 1).repeat(1, 2)
Y = torch.sin(4 * X[:, :1])


def net(seed, dtype=torch.float32):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def batches(seeds, dtype=torch.float32, poison=None):
    draws = Draws(seeds, 0, (16,))

    def batch(step):
        rows = (draws(step) * 64).long()
        y = Y.to(dtype)[rows]
        if poison and step in poison[0]:
            y = y.clone()
            y[poison[1]] = float("nan")
        return {"x": X.to(dtype)[rows], "y": y}

    return batch


def mse(ensemble, b):
    return ((ensemble(b["x"]) - b["y"]) ** 2).mean((1, 2))


@pytest.mark.parametrize("optimiser", ["adamw", "soap"])
def test_an_ensemble_of_three_is_three_solo_trainings(optimiser):
    seeds, plan = [4, 5, 6], Plan(50, lr=1e-2, optimiser=optimiser, weight_decay=0.01, clip=0.1)
    together = Ensemble([net(s, torch.float64) for s in seeds])
    fit(together, batches(seeds, torch.float64), mse, plan)
    for m, s in enumerate(seeds):
        alone = Ensemble([net(s, torch.float64)])
        fit(alone, batches([s], torch.float64), mse, plan)
        for k, v in alone.params.items():
            # X has two equal columns: along their difference the gradient is rounding, 1e-16, and a step moves
            # the weight by lr * 1e-16 / eps (1e-8), whichever way the sums were rounded: 50 steps, 5e-9
            assert_allclose(together.params[k][m].detach(), v[0].detach(), rtol=1e-9, atol=5e-9)


def test_clipping_bounds_each_member_by_itself():
    seeds = [1, 2]
    e = Ensemble([net(s) for s in seeds])
    scale = torch.tensor([1e6, 1e-6])
    log = fit(e, batches(seeds), lambda e, b: scale * mse(e, b), Plan(3, clip=1.0), log_every=1)
    big, small = (log[log.member == m].grad_norm for m in (0, 1))
    assert (big > 1).all() and (small < 1).all()
    alone = Ensemble([net(1)])
    fit(alone, batches([1]), lambda e, b: 1e6 * mse(e, b), Plan(3, clip=1.0))
    assert_allclose(e.params["0.weight"][0].detach(), alone.params["0.weight"][0].detach(), rtol=1e-6)


@pytest.mark.parametrize("optimiser", ["adamw", "soap"])
def test_frozen_tensors_keep_every_byte_and_the_others_move(optimiser):
    e = Ensemble([net(0), net(1)])
    before = e.state()
    allow = {k: torch.tensor([k.startswith("4"), True]) for k in e.params}
    fit(e, batches([0, 1]), mse, Plan(20, optimiser=optimiser, weight_decay=0.1), trainable=allow)
    for k, v in e.params.items():
        same = v[0].detach().numpy().tobytes() == before[k][0].numpy().tobytes()
        assert same is not k.startswith("4")
        assert not torch.equal(v[1], before[k][1])


@pytest.mark.parametrize("optimiser", ["adam", "soap"])
def test_a_step_that_fails_is_left_out_and_its_batch_is_kept(optimiser, tmp_path):
    seeds = [1, 2, 3]
    e, clean = Ensemble([net(s) for s in seeds]), Ensemble([net(s) for s in seeds])
    with pytest.warns(UserWarning, match=r"step 7, member \[1\].*left out"):
        fit(e, batches(seeds, poison=([7], 1)), mse, Plan(20, optimiser=optimiser), folder=tmp_path)
    fit(clean, batches(seeds), mse, Plan(20, optimiser=optimiser))
    for k in e.params:
        assert torch.equal(e.params[k][[0, 2]], clean.params[k][[0, 2]])
        assert torch.isfinite(e.params[k]).all() and not torch.equal(e.params[k][1], clean.params[k][1])
    assert torch.isnan(load_file(tmp_path / "not-finite-step-7.safetensors")["y"]).all()


def test_a_member_that_keeps_failing_stops_alone():
    seeds = [1, 2, 3]
    e, clean = Ensemble([net(s) for s in seeds]), Ensemble([net(s) for s in seeds])
    with pytest.warns(UserWarning, match=r"step 16, member \[1\].*stops"):
        fit(e, batches(seeds, poison=(range(7, 17), 1)), mse, Plan(30))
    fit(clean, batches(seeds), mse, Plan(30))
    stopped = Ensemble([net(s) for s in seeds])
    fit(stopped, batches(seeds), mse, Plan(7))
    for k in e.params:
        assert torch.equal(e.params[k][[0, 2]], clean.params[k][[0, 2]])
        assert torch.equal(e.params[k][1], stopped.params[k][1])


def test_the_moving_average_of_the_weights_is_what_training_returns(tmp_path):
    seeds, plan, states = [8, 9], Plan(30, lr=1e-2, ema=0.2), []
    keep = lambda step, e: states.append(e.state())
    whole, again = (Ensemble([net(s) for s in seeds]) for _ in range(2))
    fit(whole, batches(seeds), mse, plan, on_step=keep)
    mean = states[0]
    for s in states[1:]:
        mean = {k: v + 0.2 * (s[k] - v) for k, v in mean.items()}
    for k, v in mean.items():
        assert_allclose(whole.params[k].detach(), v, rtol=1e-5, atol=1e-6)
        assert not torch.equal(whole.params[k], states[-1][k])

    def stop(step, e):
        if step == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(again, batches(seeds), mse, plan, folder=tmp_path, save_every=5, on_step=stop)
    resumed = Ensemble([net(s) for s in seeds])
    fit(resumed, batches(seeds), mse, plan, folder=tmp_path, save_every=5)
    assert all(torch.equal(resumed.params[k], whole.params[k]) for k in whole.params)


def test_soap_resumes_bit_for_bit_axes_and_all(tmp_path):
    seeds, plan = [8, 9], Plan(43, lr=1e-2, optimiser="soap", weight_decay=0.01)
    whole, again, resumed = (Ensemble([net(s) for s in seeds]) for _ in range(3))
    fit(whole, batches(seeds), mse, plan)

    def stop(step, e):
        if step == 27:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(again, batches(seeds), mse, plan, folder=tmp_path, save_every=5, on_step=stop)
    fit(resumed, batches(seeds), mse, plan, folder=tmp_path, save_every=5)
    assert all(torch.equal(resumed.params[k], whole.params[k]) for k in whole.params)


@pytest.mark.parametrize("ema", [0.0, 0.3])
def test_early_stopping_returns_the_best_weights_of_each_member_and_resumes(ema, tmp_path):
    seeds, plan = [8, 9], Plan(3000, lr=3e-2, patience=3, every=10, ema=ema)
    noisy = Y + 0.5 * torch.randn(Y.shape, generator=torch.Generator().manual_seed(0))
    draws, every = Draws(seeds, 0, (16,)), {"x": X.expand(2, -1, -1), "y": Y.expand(2, -1, -1)}

    def few(step):
        rows = (draws(step) * 8).long() * 8
        return {"x": X[rows], "y": noisy[rows]}

    def run(e, scores, **kw):
        judge = lambda e: scores.append(mse(e, every).detach()) or scores[-1]
        return fit(e, few, mse, plan, validation=judge, **kw)

    def stop(step, e):
        if step == 47:
            raise KeyboardInterrupt

    whole, again, resumed = (Ensemble([net(s) for s in seeds]) for _ in range(3))
    scores, rest = [], []
    log = run(whole, scores)
    seen = torch.stack(scores)
    assert len(seen) < 300 and log.step.max() < 3000
    assert_allclose(mse(whole, every).detach(), seen.min(0).values, rtol=1e-5)
    assert (len(seen) - 1 - seen.argmin(0) >= 3).all() and (len(seen) - 1 - seen.argmin(0)).min() == 3
    with pytest.raises(KeyboardInterrupt):
        run(again, [], folder=tmp_path, save_every=5, on_step=stop)
    run(resumed, rest, folder=tmp_path, save_every=5)
    assert all(torch.equal(resumed.params[k], whole.params[k]) for k in whole.params)
    assert torch.equal(torch.stack(rest)[-1], seen[-1])
    for bad, given in ((Plan(5), lambda e: mse(e, every)), (plan, None)):
        with pytest.raises(InputError, match="patience"):
            fit(Ensemble([net(1)]), batches([1]), mse, bad, validation=given)


def test_a_run_in_which_all_fail_says_where():
    with warnings.catch_warnings(), pytest.raises(TrainingError, match="step 12, member"):
        warnings.simplefilter("ignore")
        fit(Ensemble([net(1)]), batches([1], poison=(range(3, 40), 0)), mse, Plan(40))


def test_interrupted_anywhere_ends_in_the_same_bits(tmp_path):
    seeds, plan = [8, 9], Plan(60, lr=1e-2, schedule="cosine")
    whole = Ensemble([net(s) for s in seeds])
    log = fit(whole, batches(seeds), mse, plan, folder=tmp_path / "whole")
    rng = np.random.default_rng(0)
    for trial in range(8):
        folder, stops = tmp_path / str(trial), sorted(rng.choice(np.arange(1, 60), size=2, replace=False))

        def stop_at(step, _):
            if stops and step == stops[0]:
                stops.pop(0)
                raise KeyboardInterrupt

        for _ in range(3):
            e = Ensemble([net(s) for s in seeds])
            try:
                again = fit(e, batches(seeds), mse, plan, folder=folder, save_every=7, on_step=stop_at)
                break
            except KeyboardInterrupt:
                continue
        assert all(torch.equal(e.params[k], whole.params[k]) for k in e.params)
        assert_allclose(again.to_numpy(), log.to_numpy(), rtol=1e-12)


_SCRIPT = """
import json, os, pathlib, signal, sys, time
import numpy as np, torch
sys.path.insert(0, {tests!r})
from test_training import net, batches, mse
from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.training.optimise import Plan, fit
torch.set_num_threads(1)
folder, rng, kills, at = pathlib.Path(sys.argv[1]), np.random.default_rng(1), 0, set()
started = lambda step, _: os.write(write, b".") if step else None
for _ in range(60):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        e = Ensemble([net(s) for s in (8, 9)])
        fit(e, batches([8, 9]), mse, Plan(1500, lr=1e-2), folder=folder, save_every=5, on_step=started)
        os._exit(0)
    left = int(rng.integers(1, 60))  # killed somewhere in or after its so many-th step, however slow the machine is
    while left and (told := os.read(read, left)):
        left -= len(told)
    time.sleep(rng.uniform(0, 0.004))
    os.kill(child, signal.SIGKILL)
    kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    os.close(read), os.close(write)
    if (folder / "latest.json").exists():
        at.add(json.loads((folder / "latest.json").read_text())["step"])
    if kills == 24 or 1500 in at:
        break
print(kills, len(at))
"""


def test_killed_processes_resume_bit_for_bit(tmp_path):
    plan = Plan(1500, lr=1e-2)
    whole, again = (Ensemble([net(s) for s in (8, 9)]) for _ in range(2))
    fit(whole, batches([8, 9]), mse, plan)
    code = _SCRIPT.format(tests=os.path.dirname(__file__))
    r = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    kills, places = map(int, r.stdout.split())
    assert kills >= 20 and places >= 5
    read_checkpoint(tmp_path / "latest.json")
    fit(again, batches([8, 9]), mse, plan, folder=tmp_path)
    assert all(torch.equal(again.params[k], whole.params[k]) for k in whole.params)


def test_stored_files_are_refused_when_in_doubt(tmp_path):
    good = {"a": torch.randn(3, 2), "b": torch.ones(4)}
    path = write_checkpoint(tmp_path, good, {"key": "k", "step": 3})
    tensors, record = read_checkpoint(path, {"a": (3, 2)}, "k")
    assert torch.equal(tensors["a"], good["a"]) and record["step"] == 3
    file = tmp_path / record["file"]
    data = file.read_bytes()
    with pytest.raises(CheckpointError, match="another configuration"):
        read_checkpoint(path, key="other")
    with pytest.raises(CheckpointError, match=r"a has shape \(3, 2\), expected \(2, 3\)"):
        read_checkpoint(path, {"a": (2, 3)})
    with pytest.raises(CheckpointError, match="c has shape None"):
        read_checkpoint(path, {"c": (1,)})
    file.write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match="truncated or was changed"):
        read_checkpoint(path)
    flipped = bytearray(data)
    flipped[-3] ^= 1
    file.write_bytes(bytes(flipped))
    with pytest.raises(CheckpointError, match="truncated or was changed"):
        read_checkpoint(path)
    file.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        read_checkpoint(path)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="not a readable"):
        read_checkpoint(path)
    path.write_text(json.dumps({"file": "x.safetensors", "sha256": "0"}))
    (tmp_path / "x.safetensors").write_bytes(b"pickle?")
    with pytest.raises(CheckpointError, match="truncated or was changed"):
        read_checkpoint(path)


def test_old_files_go_only_after_the_new_pair_is_whole(tmp_path):
    for k in range(3):
        write_checkpoint(tmp_path, {"a": torch.full((2,), float(k))}, {"step": k})
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert read_checkpoint(tmp_path / "latest.json")[0]["a"][0] == 2


@pytest.mark.parametrize("kinds", [("equivalents", "soft"), ("soft", "equivalents"), ("weighted", "weighted_feed")])
def test_networks_of_different_rules_share_no_stack(kinds):
    with pytest.raises(InputError, match=f"constraints {kinds[0]}, {kinds[1]}: their networks cannot share a stack"):
        build(TINY, [0, 1], kinds)


def test_hard_and_soft_projections_share_a_stack_and_stay_themselves():
    e = build(TINY, [0, 1], ("projection", "soft"))
    assert e.buffers["constraint.strength"].tolist() == [1.0, 0.0]
    assert e.buffers["constraint.weight"].tolist() == [0.0, TINY.soft_weight]


@pytest.mark.parametrize(
    "entries, words",
    [
        ({"pretraining": {"lr": 0.1}}, "pretraining of the training configuration lacks steps"),
        ({"members": 10**9}, "members is 1e\\+09; expected 1 to 1000"),
        ({"n_curves": 10**13}, "n_curves is 1e\\+13"),
        ({"film_thickness": -1.0}, "film_thickness is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"network": {"width": 10**8}}, "width is 100000000; expected 1 to 4096"),
        ({"pretraining": {"steps": 1, "clip": -1.0}}, "clip=-1.0"),
        ({"finetuning": {"steps": 1, "patience": 3}}, "finetuning.patience"),
    ],
)
def test_a_recipe_that_cannot_be_is_named(entries, words):
    with pytest.raises(InputError, match=words):
        TrainConfig.from_dict(entries)


def test_a_network_that_cannot_be_built_is_refused_before_anything_is_simulated(monkeypatch):
    monkeypatch.setattr("ion_ode.training.run.simulate_curves", lambda *a, **k: pytest.fail("simulated"))
    with pytest.raises(InputError, match="constraint 'x' is not known"):
        train(replace(TINY, constraint="x"))


def test_what_a_kill_left_beside_a_finished_checkpoint_goes(tmp_path):
    run = lambda: fit(Ensemble([net(3)]), batches([3]), mse, Plan(4), folder=tmp_path)
    run()
    whole = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    (tmp_path / "latest-0123456789abcdef.safetensors").write_bytes(b"the pair before the last")
    (tmp_path / "latest-mine.safetensors").write_bytes(b"somebody's own")
    run()
    assert (tmp_path / "latest-mine.safetensors").read_bytes() == b"somebody's own"
    (tmp_path / "latest-mine.safetensors").unlink()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == whole


def test_members_are_taken_and_joined_unchanged():
    e = Ensemble([net(s) for s in range(3)])
    j = join([e.take([2]), e.take([0, 0])])
    assert len(j) == 3 and all(torch.equal(j.params[k][[0, 1, 2]], e.params[k][[2, 0, 0]]) for k in e.params)
    assert_allclose(e.member(1)(X).detach(), net(1)(X).detach(), rtol=1e-6)
    with pytest.raises(InputError, match="do not fit this network"):
        e.load_state({"0.weight": torch.zeros(3, 8, 3)})


def test_masked_values_have_no_influence():
    rng = torch.Generator().manual_seed(0)
    v, t = torch.randn(2, 3, 4, 5, generator=rng), torch.randn(2, 3, 4, 5, generator=rng)
    w = (torch.rand(2, 3, 4, 5, generator=rng) > 0.5).float()
    other = torch.where(w > 0, t, 1e3 * t)
    assert torch.equal(masked_mse(v, t, w), masked_mse(v, other, w))


@pytest.mark.parametrize("bad", [{"schedule": "linear"}, {"optimiser": "sgd"}, {"lr": 0.0}, {"lr": float("nan")}])
def test_a_plan_that_cannot_run_is_refused(bad):
    with pytest.raises(InputError, match="expected"):
        Plan(10, **bad)


def test_rates_start_at_lr_and_the_cosine_ends_at_a_twentieth():
    assert Plan(100).rate(99) == 1e-3
    p = Plan(100, lr=0.2, schedule="cosine")
    assert_allclose([p.rate(0), p.rate(50), p.rate(100)], [0.2, 0.2 * 0.525, 0.01], rtol=1e-12)


def test_draws_depend_on_seed_stream_and_step_only():
    a = Draws([3, 4], 1, (5,), "standard_normal")
    late = a(200)
    assert torch.equal(a(2), Draws([3, 4], 1, (5,), "standard_normal")(2))
    assert torch.equal(late, a(200)) and torch.equal(late[1], Draws([4], 1, (5,), "standard_normal")(200)[0])
    assert not torch.equal(a(2), Draws([3, 4], 2, (5,), "standard_normal")(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert abs(Draws([1], 0, (20000,), "standard_normal")(0).std() - 1) < 0.02


# ---- measurements, recipes and models -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixtures():
    d = independent_rows()
    return d[d.composition.isin(list("ABCDE"))]


@pytest.fixture(scope="module")
def tried(mixtures):
    return try_membranes(mixtures, 4)


@pytest.fixture(scope="module")
def told(tried):
    parameters, sse = tried
    return parameters[ranked(sse, "ABCDE")[:2]]


TINY = TrainConfig(
    architecture="fully_connected",
    n_curves=24,
    n_flux=5,
    pretraining=Plan(3),
    pretraining_batch=8,
    finetuning=Plan(3),
    solver_steps=2,
)


def test_every_row_has_one_place_and_keeps_its_value(mixtures):
    m = with_scatter(mixtures)
    curves = measured_curves(m)
    at, of = curves.place >= 0, m.state[first_values(curves)]
    assert sorted(curves.place[at].tolist()) == list(range(len(mixtures)))
    r = 1 - curves.c_perm / torch.tensor(m.c_feed[of]).clamp_min(1e-30)[:, None]
    assert_allclose(r[at], mixtures.rejection.to_numpy()[curves.place[at]], rtol=0, atol=1e-12)
    assert_allclose(curves.valid[at], mixtures.weight.to_numpy()[curves.place[at]], rtol=1e-12)
    assert_allclose(curves.sd[at], measurement_sd(mixtures).to_numpy()[curves.place[at]], rtol=1e-12)
    assert (m.kind[of] == ["intrinsic"] * 4 + ["observed"] * 4).all()


def test_predictions_never_read_measured_permeates(mixtures, told):
    e = build(TINY, [0, 1])
    changed = mixtures.assign(rejection=mixtures.rejection * 0.3 - 0.2)
    a, b = (predict_measured(TINY, e, with_scatter(d), told) for d in (mixtures, changed))
    assert np.isfinite(a).all() and np.array_equal(a, b)


def test_wall_and_permeate_of_an_observed_prediction_agree(mixtures, told):
    e = build(TINY, [0, 1])
    some = with_scatter(mixtures[mixtures.composition == "E"])
    state, ion = np.nonzero(some.c_feed > 0)  # what passes of every ion, measured or not
    one = dict(rejection=0.0, sd=np.nan, weight=1.0, censored="", salt_level=False, note="", row="")
    m = replace(some, state=state, ion=ion, **{k: np.array([v] * len(ion)) for k, v in one.items()})
    c_bulk, flux = torch.tensor(m.c_feed), torch.tensor(m.flux)
    r = torch.zeros(2, *c_bulk.shape, dtype=torch.float64)
    r[:, m.state, m.ion] = torch.from_numpy(predict_measured(TINY, e, m, told, tol=1e-7, iterations=200))
    c_perm = (1 - r) * c_bulk
    for k in range(2):
        wall = film_wall(c_bulk, c_perm[k], flux, m.ions, TINY.film_thickness)
        h = e.member(k)
        with torch.no_grad():
            asked = describe_members(TINY, told[k : k + 1], wall[None])[0]
            again = h(wall.float(), flux.float()[:, None], asked)[:, 0].double()
        z = torch.tensor([1.0, 1, 1, 2, 2, 1, 2, 1, 1], dtype=torch.float64)
        again = again * (wall * z).sum(-1, keepdim=True)
        there = c_bulk > 0
        assert_allclose(again[there], c_perm[k][there], rtol=2e-4)


@pytest.mark.parametrize("architecture", ["odenet", "fully_connected"])
def test_fine_tuning_moves_two_layers_only(architecture, mixtures, told):
    config = replace(TINY, architecture=architecture)
    e = build(config, [0, 1])
    before = e.state()
    finetune(config, e, with_scatter(mixtures), [0, 1], parameters=told, pretrained=[True, False])
    for k, v in e.params.items():
        last = any(f"linears.{i}." in k for i in (3, 4))
        assert torch.equal(v[0], before[k][0]) is not last, k
        if "key" not in k and "query" not in k:
            assert not torch.equal(v[1], before[k][1]), k


def test_adapters_add_a_product_of_low_rank_to_every_linear_layer(mixtures, told):
    config = replace(TINY, adapters=2)
    e, marks = build(config, [0, 1]), []
    before = e.state()
    finetune(
        config, e, with_scatter(mixtures), [0, 1], parameters=told, on_step=lambda step, e: marks.append(e.state())
    )
    assert all(torch.equal(marks[0][k], before[k]) and torch.equal(marks[-1][k], e.params[k]) for k in before)
    for k, v in e.params.items():
        change = (v - before[k]).detach()
        if "linears." in k and k.endswith("weight"):
            singular = torch.linalg.svdvals(change)
            assert (singular[:, 0] > 1e-6).all() and (singular[:, 2:] < 1e-3 * singular[:, :1]).all(), k
        else:
            assert not change.any(), k
    with pytest.raises(InputError, match="adapters"):
        finetune(config, e, with_scatter(mixtures), [0, 1], parameters=told, pretrained=[True, False])


@pytest.mark.parametrize("bias", [-100.0, -30.0, 30.0])
def test_a_network_gone_wild_still_has_a_gradient(bias):
    e = build(replace(TINY, architecture="odenet"), [0])
    with torch.no_grad():
        e.params["field.linears.4.bias"].fill_(bias)
    c_feed = torch.tensor([[[10.0, 0, 0, 0, 0, 10.0, 0, 0, 0]]])
    h = e(c_feed, torch.tensor([[[1e-6, 6e-5]]]), torch.zeros(1, 1, TINY.network.n_membrane))
    h.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in e.params.values())


def test_a_member_learns_nothing_from_curves_it_may_not_see(mixtures, told):
    def run(d):
        e, m = build(TINY, [0, 1]), with_scatter(d)
        shown = np.stack([m.composition[m.state] != "D", np.ones(len(m), bool)])
        finetune(TINY, e, m, [0, 1], parameters=told, pretrained=[False, False], shown=shown)
        return e

    hidden = mixtures.composition == "D"
    a, b = run(mixtures), run(mixtures.assign(rejection=mixtures.rejection.where(~hidden, 0.5)))
    assert all(torch.equal(a.params[k][0], b.params[k][0]) for k in a.params)
    assert not all(torch.equal(a.params[k][1], b.params[k][1]) for k in a.params)


def test_choice_of_membrane_ignores_what_is_held_out(tried):
    _, sse = tried
    other = sse.clone()
    other[:, 3] = other[:, 3].flip(0) * 7
    assert torch.equal(ranked(sse, "ABCE"), ranked(other, "ABCE"))


def test_noise_is_shared_by_the_two_ions_of_a_salt_value(mixtures):
    m = with_scatter(mixtures)
    curves = measured_curves(m)
    lead, flat = leads(m, curves), curves.laid(m.salt_level.astype(float)).flatten() > 0
    assert len(set(lead.flatten()[flat].tolist())) * 2 == int(flat.sum())
    own = torch.arange(lead.numel())
    assert torch.equal(lead.flatten()[~flat], own[~flat])


def test_absent_ions_do_not_change_what_is_told():
    m = Membrane(0.5e-9, 1e-6, -20.0, 41.3)
    two = describe(m, torch.tensor([[10.0, 10.0]], dtype=torch.float64), ("Na+", "Cl-"))
    three = describe(m, torch.tensor([[10.0, 0.0, 10.0]], dtype=torch.float64), ("Na+", "Mg+2", "Cl-"))
    keep = [0, 2, 3, 5, 6, 8, 9, 10]
    assert_allclose(three[0, keep], two[0], rtol=1e-12)
    assert (three[0, [1, 4, 7]] == 0).all()


def test_the_published_recipe_runs(mixtures):
    config = replace(TrainConfig.paper(), pretraining=Plan(2, clip=None), finetuning=Plan(2, clip=None), solver_steps=2)
    curves = simulate_curves(8, seed=0, n_flux=4, family="dspmde")
    e, log = pretrain(config, curves, [0])
    finetune(config, e, with_scatter(mixtures), [0])
    r = predict_measured(config, e, with_scatter(mixtures), tol=1e-2)
    assert np.isfinite(r).any() and np.isfinite(log.loss).all()


def test_train_resumes_and_its_model_is_the_stored_one(tmp_path, mixtures):
    a = train(TINY, tmp_path, membranes=4)
    b = train(TINY, tmp_path, membranes=4, device="cpu")
    c = load_model(tmp_path)
    assert all(torch.equal(a.ensemble.params[k], m.ensemble.params[k]) for k in a.ensemble.params for m in (b, c))
    with pytest.raises(InputError, match="was trained with other config;"):
        train(replace(TINY, seed=5), tmp_path, membranes=4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "transformer"}, "expected one of odenet"),
        ({"loss": "mae"}, "expected one of h, R"),
        ({"batch": 0}, "expected 1 to"),
        ({"told": "parameters"}, "set network.n_membrane"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(change, says):
    with pytest.raises(InputError, match=says):
        replace(TrainConfig(), **change)


def test_a_curriculum_shows_few_ions_first_and_nothing_else_changes():
    curves, config = simulate_curves(64, seed=3, n_flux=4), replace(TINY, curriculum=30, pretraining_batch=16)
    n_ions = (curves.c_feed > 0).sum(1)
    e = build(config, [0, 1])
    grown, plain = (_simulated_batches(config, e, curves, [0, 1], 0, n) for n in (30, 0))
    most = [int((grown(step)["c_feed"] > 0).sum(-1).max()) for step in (0, 14, 29, 30, 31)]
    assert most[0] == n_ions.min() and most[0] < most[1] < most[2] == n_ions.max()
    assert torch.equal(grown(30)["c_feed"], plain(30)["c_feed"]) and not torch.equal(
        grown(0)["c_feed"], plain(0)["c_feed"]
    )


def test_pretraining_stops_by_curves_it_held_back():
    config = replace(TINY, pretraining=Plan(400, lr=0.3, patience=2, every=5), curriculum=0)
    ensemble, log = pretrain(config, simulate_curves(24, seed=3, n_flux=4), [0, 1])
    assert log.step.max() < 400 and all(torch.isfinite(p).all() for p in ensemble.params.values())
    with pytest.raises(InputError, match="tenth"):
        pretrain(config, simulate_curves(4, seed=3, n_flux=4), [0])


def test_no_measured_composition_is_held_back_to_stop_by():
    with pytest.raises(InputError, match="finetuning.steps instead"):
        replace(TINY, finetuning=Plan(5, patience=1))


def test_a_loss_on_log_passage_pulls_small_passages_alike(mixtures, told):
    config = replace(TINY, loss="log passage", pretrained=False, finetuning=Plan(40, lr=3e-3), resample=False)
    measured, runs = with_scatter(mixtures), {}
    for kind in ("R", "log passage"):
        e = build(config, [0, 1])
        log = finetune(replace(config, loss=kind), e, measured, [0, 1], parameters=told)
        assert log.groupby("step").loss.mean().iloc[-1] < log.groupby("step").loss.mean().iloc[0]
        runs[kind] = log.loss.iloc[0]
    assert runs["R"] != runs["log passage"]


def test_a_recipe_survives_json_and_strange_entries_do_not():
    d = json.loads(json.dumps(TrainConfig.paper().to_dict()))
    assert TrainConfig.from_dict(d) == TrainConfig.paper()
    with pytest.raises(InputError, match="does not know: epochs"):
        TrainConfig.from_dict(d | {"epochs": 3})


# ---- shipped models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nf270-network", "dspmde"])
def test_shipped_models_are_neutral_bounded_and_wider_at_higher_levels(name):
    model = load_model(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        d = model.predict(
            [{"Na+": 10.0, "Mg+2": 2.0, "Cl-": 12.0, "NO3-": 2.0}, {"Na+": 4.0, "SO4-2": 2.0}], [5e-6, 2e-5, 5e-5]
        )
        wide = model.predict(
            [{"Na+": 10.0, "Mg+2": 2.0, "Cl-": 12.0, "NO3-": 2.0}, {"Na+": 4.0, "SO4-2": 2.0}],
            [5e-6, 2e-5, 5e-5],
            level=0.95,
        )
    z = {"Na+": 1, "Mg+2": 2, "Cl-": -1, "NO3-": -1, "SO4-2": -2}
    assert set(d.columns) == {"sample", "flux_m_s", "ion", "c_feed", "c_perm", "rejection", "lower", "upper"}
    assert len(d) == 3 * (4 + 2) and (d.rejection <= 1).all() and (d.upper <= 1).all()
    assert ((d.lower <= d.rejection) & (d.rejection <= d.upper)).all() and (wide.lower <= d.lower).all()
    for _, g in d.groupby(["sample", "flux_m_s"]):
        if (g.rejection < 1).all():
            charge = g.ion.map(z).to_numpy()
            assert abs((charge * g.c_perm).sum()) / (np.abs(charge) * g.c_feed).sum() < 2e-6


def test_a_prediction_says_how_far_its_integrator_may_be_off():
    model, feed = load_model("nf270-network"), {"Na+": 8.0, "Mg+2": 6.0, "Cl-": 16.0, "SO4-2": 2.0}
    table = model.predict(feed, [5e-6, 2e-5])
    c = torch.tensor([[feed.get(ion, 0.0) for ion in model.config.network.ions]], dtype=torch.float64)
    flux = torch.tensor([[5e-6, 2e-5]], dtype=torch.float64)
    (R, error), (exact, finer) = model.solve(c, flux), model.solve(c, flux, tol=1e-5)
    assert table.attrs["solver_error"] == error.max().item() > 1e-5 >= finer.max()
    assert (R - exact).abs().nan_to_num().amax(2).le(error + 1e-5).all()


def test_questions_outside_the_range_are_answered_with_a_warning():
    model = load_model("nf270-network")
    with pytest.warns(UserWarning, match=r"flux 3\.6e\+03 L/m²/h is above the trained .* \(by "):
        model.predict({"Na+": 10.0, "Cl-": 10.0}, 1e-3)
    with pytest.warns(UserWarning, match=r"Ca\+2 was not in the training data"):
        model.predict({"Ca+2": 5.0, "Cl-": 10.0}, 2e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.predict({"Na+": 10.0, "Cl-": 5.0}, 2e-5),
        lambda m: m.predict({"Na+": -1.0, "Cl-": -1.0}, 2e-5),
        lambda m: m.predict({"Na+": float("nan"), "Cl-": 10.0}, 2e-5),
        lambda m: m.predict({"Xx+": 10.0, "Cl-": 10.0}, 2e-5),
        lambda m: m.predict({"HCO3-": 10.0, "Na+": 10.0}, 2e-5),
        lambda m: m.predict({"Na+": 10.0, "Cl-": 10.0}, -2e-5),
        lambda m: m.predict({"Na+": 10.0, "Cl-": 10.0}, 2e-5, level=0.9999),
        lambda m: load_model("nf9000"),
    ],
)
def test_bad_questions_get_one_sentence(call):
    with pytest.raises(InputError) as e, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call(load_model("nf270-network"))
    assert "\n" not in str(e.value) and len(str(e.value)) > 20


def test_the_surrogate_listens_to_its_membrane():
    model = load_model("dspmde")
    feed = {"Na+": 10.0, "Cl-": 10.0}
    tight, open_ = (
        model.predict(feed, 2e-5, membrane=Membrane(r, 1e-6, -20.0, 45.0)).rejection.iloc[0] for r in (0.42e-9, 0.58e-9)
    )
    assert tight > open_


BRIEF = TrainConfig(
    members=1, n_curves=16, n_flux=4, pretraining=Plan(1), finetuning=Plan(1), told="entry", compiled=False
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    "A folder in which a training was begun, and its measurements."
    d = independent_rows()
    d = d[d.composition.isin(["A", "B"])]
    folder = tmp_path_factory.mktemp("begun")
    train(BRIEF, folder, d, membranes=4)
    return folder, d


@pytest.mark.parametrize("column", ["flux_m_s", "c_feed_mol_m3", "rejection", "rejection_sd", "temperature_K", "note"])
def test_a_changed_measurement_is_not_resumed(begun, column):
    folder, d = begun
    other = d.copy()
    value, run = other[column].iloc[0], other.state_id == other.state_id.iloc[0]
    where = run if column in ("flux_m_s", "temperature_K") else other.index[0]  # what is of the run is of all its rows
    other.loc[where, column] = "corrected" if column == "note" else value * (1 + 1e-12) if value == value else 0.1
    with pytest.raises(InputError, match="was trained with other measurements; train into another folder"):
        train(BRIEF, folder, other, membranes=4)


def test_other_options_code_tables_or_versions_are_not_resumed(begun, monkeypatch):
    folder, d = begun
    with pytest.raises(InputError, match="other config;"):
        train(replace(BRIEF, seed=1), folder, d, membranes=4)
    with pytest.raises(InputError, match="other measurements and membranes;"):
        train(BRIEF, folder, d.iloc[:-1], membranes=5)
    for name, value, part in (
        ("code_digest", lambda f: "0", "code"),
        ("tables_digest", lambda: "0", "tables"),
    ):
        with monkeypatch.context() as m:
            m.setattr(f"ion_ode.closure.{name}", value)
            with pytest.raises(InputError, match=f"other {part};"):
                train(BRIEF, folder, d, membranes=4)
    with monkeypatch.context() as m:
        m.setattr("ion_ode.closure.importlib.metadata.version", lambda name: "0.1")
        with pytest.raises(InputError, match="other numpy and torch;"):
            train(BRIEF, folder, d, membranes=4)
    (folder / "run.json").write_text("{")
    with pytest.raises(InputError, match="run.json is not JSON"):
        train(BRIEF, folder, d, membranes=4)


def test_a_bound_pulls_from_one_side(mixtures):
    """A permeate at its detection limit is a rejection of at least so much: more is no error, in the loss and in the
    choice of a membrane."""
    from ion_ode.training.teach import _within

    some = mixtures[mixtures.composition == "D"].copy()
    some["censored"] = some.ion == "SO4-2"
    m = with_scatter(some)
    assert ((m.bound == 1).sum(), (m.bound == -1).sum()) == (some.censored.sum(), 0)
    passage, limit = torch.tensor([0.1, 0.3]), torch.tensor([0.2, 0.2])
    for side, want in ((1.0, [0.1, 0.2]), (-1.0, [0.2, 0.3]), (0.0, [0.2, 0.2])):
        assert_allclose(_within(passage, limit, torch.full((2,), side)), want)
    low = some.assign(rejection=some.rejection.where(~some.censored, 0.1))
    assert (try_membranes(low, 4)[1] < try_membranes(low.assign(censored=False), 4)[1]).all()

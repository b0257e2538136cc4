"""The ensemble loop: members never mix, runs resume bit for bit, stored files are checked before they are used."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load_file
from torch import nn

from ion_ode.core import InputError
from ion_ode.training import (
    CheckpointError,
    Draws,
    Ensemble,
    Plan,
    TrainingError,
    fit,
    join,
    masked_mse,
    read_checkpoint,
    write_checkpoint,
)

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
        if poison and step == poison[0]:
            y = y.clone()
            y[poison[1]] = float("nan")
        return {"x": X.to(dtype)[rows], "y": y}

    return batch


def mse(ensemble, b):
    return ((ensemble(b["x"]) - b["y"]) ** 2).mean((1, 2))


def test_an_ensemble_of_three_is_three_solo_trainings():
    seeds, plan = [4, 5, 6], Plan(50, lr=1e-2, optimiser="adamw", weight_decay=0.01, clip=0.1)
    together = Ensemble([net(s, torch.float64) for s in seeds])
    fit(together, batches(seeds, torch.float64), mse, plan)
    for m, s in enumerate(seeds):
        alone = Ensemble([net(s, torch.float64)])
        fit(alone, batches([s], torch.float64), mse, plan)
        for k, v in alone.params.items():
            assert_allclose(together.params[k][m].detach(), v[0].detach(), rtol=1e-9, atol=1e-12)


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


def test_frozen_tensors_keep_every_byte_and_the_others_move():
    e = Ensemble([net(0), net(1)])
    before = e.state()
    allow = {k: torch.tensor([k.startswith("4"), True]) for k in e.params}
    fit(e, batches([0, 1]), mse, Plan(20, optimiser="adamw", weight_decay=0.1), trainable=allow)
    for k, v in e.params.items():
        same = v[0].detach().numpy().tobytes() == before[k][0].numpy().tobytes()
        assert same is not k.startswith("4")
        assert not torch.equal(v[1], before[k][1])


def test_a_member_that_fails_stops_alone_and_its_batch_is_kept(tmp_path):
    seeds = [1, 2, 3]
    e, clean = Ensemble([net(s) for s in seeds]), Ensemble([net(s) for s in seeds])
    with pytest.warns(UserWarning, match=r"step 7, member \[1\]"):
        fit(e, batches(seeds, poison=(7, 1)), mse, Plan(20), folder=tmp_path)
    fit(clean, batches(seeds), mse, Plan(20))
    for k in e.params:
        assert torch.equal(e.params[k][[0, 2]], clean.params[k][[0, 2]])
        assert torch.isfinite(e.params[k]).all()
    stopped = Ensemble([net(s) for s in seeds])
    fit(stopped, batches(seeds), mse, Plan(7))
    assert torch.equal(e.params["0.weight"][1], stopped.params["0.weight"][1])
    assert torch.isnan(load_file(tmp_path / "not-finite-step-7.safetensors")["y"]).all()


def test_a_run_in_which_all_fail_says_where():
    with pytest.raises(TrainingError, match="step 3, member"):
        fit(Ensemble([net(1)]), batches([1], poison=(3, 0)), mse, Plan(5))


def test_interrupted_anywhere_ends_in_the_same_bits(tmp_path):
    seeds, plan = [8, 9], Plan(60, lr=1e-2, schedule="cosine")
    whole = Ensemble([net(s) for s in seeds])
    log = fit(whole, batches(seeds), mse, plan, folder=tmp_path / "whole")
    rng = np.random.default_rng(0)
    for trial in range(12):
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
import sys, time, torch
sys.path.insert(0, {tests!r})
from test_training import net, batches, mse
from ion_ode.training import Ensemble, Plan, fit
torch.set_num_threads(1)
e = Ensemble([net(s) for s in (8, 9)])
print("go", flush=True)
fit(e, batches([8, 9]), mse, Plan(400, lr=1e-2), folder=sys.argv[1], save_every=5)
print("end", flush=True)
"""


def test_killed_processes_resume_bit_for_bit(tmp_path):
    whole = Ensemble([net(s) for s in (8, 9)])
    fit(whole, batches([8, 9]), mse, Plan(400, lr=1e-2))
    code, rng, kills = _SCRIPT.format(tests=os.path.dirname(__file__)), np.random.default_rng(1), 0
    for _ in range(4):
        p = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        p.stdout.readline()
        time.sleep(rng.uniform(0.1, 0.6))
        if p.poll() is None:
            os.kill(p.pid, signal.SIGKILL)
            kills += 1
        p.wait()
        if (tmp_path / "latest.json").exists():
            read_checkpoint(tmp_path / "latest.json")
    e = Ensemble([net(s) for s in (8, 9)])
    fit(e, batches([8, 9]), mse, Plan(400, lr=1e-2), folder=tmp_path)
    assert kills >= 1
    assert all(torch.equal(e.params[k], whole.params[k]) for k in e.params)


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

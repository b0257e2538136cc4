"""One writer at a time, JSON that is bounded and typed, records that are what was written, an end on request."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from ion_ode.core import InputError
from ion_ode.guard import alone, read_json, sealed, typed, unsealed
from ion_ode.training.recipe import TrainConfig

BIN = Path(sys.executable).with_name("ion-ode")


@pytest.mark.parametrize("folder", [True, False])
def test_the_second_writer_is_told_and_the_first_goes_on(tmp_path, folder):
    target = tmp_path / "out"
    with alone(target, folder), pytest.raises(InputError, match="another process is writing"), alone(target, folder):
        raise AssertionError
    with alone(target, folder):
        pass
    left = [p.name for p in tmp_path.rglob("*") if p.is_file()]
    assert not left, "nothing stays behind"


def test_a_place_that_cannot_be_written_to_is_found_first(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file; name a folder"), alone(tmp_path / "file"):
        raise AssertionError
    with pytest.raises(InputError, match="cannot be written to"), alone("/proc/none"):
        raise AssertionError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[1]", "holds a list"),
        ("{", "is not JSON"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ("\ud800", "UTF-8"),
    ],
)
def test_json_that_is_no_record(tmp_path, text, words):
    (f := tmp_path / "f.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=words):
        read_json(f, "settings")


def test_a_device_a_folder_and_nothing_are_no_records(tmp_path):
    for path, words in (("/dev/zero", "a device"), (tmp_path, "a folder"), (tmp_path / "no.json", "cannot be read")):
        with pytest.raises(InputError, match=words):
            read_json(path, "settings")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"members": "2"}, "members of the training configuration is '2'; expected a whole number"),
        ({"members": 2.5}, "expected a whole number"),
        ({"members": True}, "expected a whole number"),
        ({"replay": "much"}, "expected a number"),
        ({"pretrained": 1}, "expected true or false"),
        ({"pretraining": [1]}, "expected an object"),
        ({"pretraining": {"steps": None}}, "steps of pretraining of the training configuration is None"),
        ({"network": {"ions": "Na+"}}, "expected a list"),
        ({"network": {"width": [64]}}, "expected a whole number"),
        ({"replay": float("nan")}, "expected a number"),
        ({"stepz": 1}, "does not know: stepz"),
    ],
)
def test_a_configuration_has_types(entries, words):
    with pytest.raises(InputError, match=words):
        TrainConfig.from_dict(entries)


def test_every_recipe_passes_its_own_types():
    for c in (TrainConfig(), TrainConfig.paper()):
        assert typed(TrainConfig, json.loads(json.dumps(c.to_dict())), "it")
        assert TrainConfig.from_dict(json.loads(json.dumps(c.to_dict()))) == c


@pytest.mark.parametrize("indent", [None, 1])
def test_no_flip_of_a_bit_of_a_sealed_record_is_accepted(tmp_path, indent):
    record = {"format": "f", "x": [[0.1, -2.5e-9], [3.0, 4.0]], "card": {"name": "NF270 µ", "n": None}}
    f = tmp_path / "r.json"
    f.write_text(sealed(record, indent), encoding="utf-8")
    assert unsealed(f, "a record") == record
    data, accepted = f.read_bytes(), []
    for k in range(len(data) * 8):
        f.write_bytes(data[: k // 8] + bytes([data[k // 8] ^ 1 << k % 8]) + data[k // 8 + 1 :])
        try:
            unsealed(f, "a record")
            accepted.append(k)
        except InputError:
            pass
    assert not accepted


def run(*args, **kw):
    env = os.environ | {"OMP_NUM_THREADS": "1", "ION_ODE_NO_PROGRESS": "1"}
    return subprocess.Popen([str(a) for a in (BIN, *args)], env=env, stderr=subprocess.PIPE, text=True, **kw)


def test_two_writers_and_sigterm(tmp_path):
    "One process makes curves, another is refused, and the first ends on request with its finished shards."
    args = ("generate", tmp_path / "set", "--curves", "400000", "--seed", "1", "--fluxes", "4")
    first = run(*args)
    try:
        while first.poll() is None and not (tmp_path / "set" / "manifest.json").exists():
            pass
        second = run(*args)
        said = second.communicate()[1]
        assert second.returncode == 2 and "another process is writing" in said and "Traceback" not in said
    finally:
        first.send_signal(signal.SIGTERM)
        said = first.communicate()[1]
    assert first.returncode == 143 and said.strip() == "ion-ode: stopped"
    assert not [p for p in (tmp_path / "set").iterdir() if p.name.startswith(".shard")]


def test_four_threads_get_what_one_gets():
    from ion_ode.training.models import load_model

    model = load_model("nf270-network")
    feeds = [{"Na+": c, "Cl-": c} for c in (10.0, 20.0, 15.0, 12.0)] * 2
    flux = torch.tensor([5e-6, 1e-5])
    alone_ = [load_model("nf270-network").predict(f, flux).rejection.to_numpy() for f in feeds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda f: model.predict(f, flux).rejection.to_numpy(), feeds))
    assert all((a == b).all() for a, b in zip(alone_, together, strict=True))


@pytest.mark.parametrize("compiled", ["fused", False])
def test_one_stack_asked_by_four_threads_answers_each(compiled):
    from ion_ode.attention_odenet.fused import library
    from ion_ode.attention_odenet.stack import StackedForward
    from ion_ode.training.models import load_model

    if compiled and library() is None:
        pytest.skip("no compiler here")
    e = load_model("nf270-network").ensemble
    forward = StackedForward(e.skeleton, compiled=compiled)
    n = len(e.skeleton.config.ions)
    feed = torch.tensor([[10.0, *[0.0] * (n - 1)]])
    feed[0, e.skeleton.config.ions.index("Cl-")] = 10.0
    flux, told = torch.tensor([[5e-6, 1e-5, 2e-5]]), torch.zeros(1, e.skeleton.config.n_membrane)
    states = [{k: v.detach() * s for k, v in e.params.items()} for s in (1.0, 0.9, 0.8, 0.7)] * 6
    ask = lambda p: forward(p, e.buffers, feed, flux, told)
    with torch.no_grad():
        one_by_one = [ask(p) for p in states]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(torch.no_grad()(ask), states))
    assert not torch.equal(one_by_one[0], one_by_one[1])
    assert all(torch.equal(a, b) for a, b in zip(one_by_one, together, strict=True))

"""Simulated sets: designs, determinism, shards, kills, Dask."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from functools import wraps

import numpy as np
import pytest
import torch
from cluster import scheduler_and_two_workers, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ion_ode import runner, workers
from ion_ode.closure import CELLS
from ion_ode.core import InputError
from ion_ode.data import curves as curves_module
from ion_ode.data import design, shards
from ion_ode.data.nf270 import load_solutions
from ion_ode.dspmde import prior, solve
from ion_ode.dspmde.solve import simulate
from ion_ode.store import digest
from ion_ode.water.ions import get_ion

Z = torch.tensor([get_ion(i).z for i in prior.SLOTS], dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 300),
    st.integers(0, 5000),
    st.sampled_from([None, "seawater", "cooling water"]),
)
def test_feeds_are_neutral_and_depend_on_seed_and_index_only(seed, n, start, water):
    c = design.sample_feeds(n, seed, start=start, water=water)
    assert c.shape == (n, len(prior.SLOTS)) and (c >= 0).all()
    assert ((c @ Z).abs() / (c @ Z.abs())).max() < 1e-14
    assert ((c * (Z > 0)) > 0).any(1).all() and ((c * (Z < 0)) > 0).any(1).all()
    k = n // 2
    assert torch.equal(c[k:], design.sample_feeds(n - k, seed, start=start + k, water=water))


def test_feeds_cover_the_ranges():
    c = design.sample_feeds(8192, 0, equivalents=(1.0, 100.0), n_ions=(3, 6))
    q = (c * Z.clamp(min=0)).sum(1)
    assert_allclose(np.quantile(np.log10(q), [0, 0.25, 0.5, 0.75, 1]), [0, 0.5, 1, 1.5, 2], atol=0.01)
    count = (c > 0).sum(1)
    assert (count.min(), count.max()) == (3, 6)
    assert_allclose(torch.bincount(count)[3:] / len(c), 0.25, atol=0.02)
    present = (c > 0).double().mean(0)
    cations, anions = present[Z > 0], present[Z < 0]
    assert cations.max() - cations.min() < 0.03 and anions.max() - anions.min() < 0.03


def test_water_types_are_what_their_sources_say():
    w = design.water_types()
    assert_allclose(w.loc["seawater brine"], 2 * w.loc["seawater"], rtol=1e-4)
    lab = load_solutions().query("source_id == 'lykke2022'").groupby("ion").c_feed_mol_m3.median()
    for ion in ("Na+", "Ca+2", "Cl-", "SO4-2"):
        assert_allclose(w.loc["cooling water", ion], lab[ion], rtol=1e-4)
    sea = w.loc["seawater"]
    charge = sum(get_ion(i).z * c for i, c in sea.items())
    assert abs(charge) / sum(abs(get_ion(i).z) * c for i, c in sea.items()) < 0.01


@pytest.mark.parametrize("family", prior._FAMILIES)
def test_parameters_rebuild_the_curves(family):
    curves = design.simulate_curves(24, seed=3, n_flux=6, family=family)
    names = tuple(curves.meta["parameters"])
    membrane = prior.membrane_from_parameters(curves.parameters, names, curves.ions)
    again = simulate(curves.c_feed, curves.flux, membrane, ions=curves.ions, rtol=1e-8)
    rel = (curves.c_perm / again.c_perm - 1)[curves.valid > 0].abs()
    assert rel.max() < 1e-4
    assert (curves.c_perm[curves.valid == 0] == 0).all()
    if family == "dspmde+":
        lnp = membrane.ln_partition
        assert torch.equal(lnp["K+"], lnp["Na+"]) and torch.equal(lnp["Li+"], lnp["Na+"])


def test_same_seed_same_bytes_other_seed_other_bytes():
    a, b = (design.simulate_curves(20, seed=s, n_flux=4).to_bytes() for s in (0, 0))
    assert a == b and a != design.simulate_curves(20, seed=1, n_flux=4).to_bytes()


def test_uncertified_curves_are_replaced(monkeypatch):
    real = solve.simulate

    def flaky(*a, **k):
        s = real(*a, **k)
        s.status[1::3, 0] = "failed"
        return s

    clean = design.simulate_curves(12, seed=0, n_flux=3)
    monkeypatch.setattr(design, "simulate", flaky)
    got = design.simulate_curves(8, seed=0, n_flux=3)
    assert len(got) == 8
    assert torch.equal(got.c_feed[:3], clean.c_feed[[0, 2, 3]])
    monkeypatch.setattr(design, "simulate", lambda *a, **k: (s := real(*a, **k), s.status.fill("failed"))[0])
    with pytest.raises(InputError, match="only 0 of"):
        design.simulate_curves(4, seed=0, n_flux=2)


def test_save_and_load(tmp_path):
    c = design.add_noise(design.simulate_curves(8, seed=0, n_flux=4), seed=1)
    path = c.save(tmp_path / "set.safetensors")
    back = curves_module.CurveSet.load(path)
    for f in ("c_feed", "flux", "c_perm", "valid", "sd", "membrane", "parameters"):
        assert torch.equal(getattr(back, f), getattr(c, f)), f
    assert back.ions == c.ions and back.to_bytes() == c.to_bytes()
    card = json.loads((tmp_path / "set.safetensors.json").read_text())
    assert card["samples"] == 8 and card["meta"]["design"]["seed"] == 0
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="differs from the hash"):
        curves_module.CurveSet.load(path)
    path.write_bytes(b"no")
    with pytest.raises(InputError, match="not a curve set"):
        curves_module.CurveSet.load(path)


def test_noise_models():
    c = design.simulate_curves(400, seed=0, n_flux=8)
    for model, options in (
        ("gaussian", {"sd": 0.03}),
        ("heteroscedastic", {"sd": 0.005, "relative": {i: 0.1 if "2" in i else 0.02 for i in c.ions}}),
    ):
        n = design.add_noise(c, model, seed=2, **options)
        u = ((n.rejection - c.rejection) / n.sd)[c.valid > 0]
        assert abs(u.std() - 1) < 0.02 and abs(u.mean()) < 0.02
        assert (n.c_perm[c.valid == 0] == 0).all()
    wide, narrow = n.sd[..., c.ions.index("Mg+2")], n.sd[..., c.ions.index("Na+")]
    assert wide[wide > 0].mean() > narrow[narrow > 0].mean()
    with pytest.raises(InputError, match="relative lacks"):
        design.noise_sd(c, "heteroscedastic", relative={"Na+": 0.1})
    with pytest.raises(InputError, match="not negative"):
        design.noise_sd(c, sd=-0.1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"family": "dspm"}, "expected one of dspmde"),
        ({"ions": ("Na+", "K+")}, "all of one sign"),
        ({"n_ions": (1, 3)}, "2 <= fewest"),
        ({"equivalents": (10.0, 1.0)}, "two increasing numbers"),
        ({"flux_max": (0.0, 1e-5)}, "two increasing numbers"),
        ({"n_flux": 0}, "at least 1"),
        ({"water": "milk"}, "unknown water"),
        ({"water": "seawater", "ions": ("Li+", "NO3-")}, "no neutral feed"),
        ({"water": "seawater", "spread": -1.0}, "spread is -1.0"),
    ],
)
def test_designs_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        design.simulate_curves(2, **options)


DESIGN = design.Design(seed=11, n_flux=4, family="dspmde", chunk=32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    shards.simulate_shards(folder, 320, DESIGN, shard=32)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def same(folder, whole):
    return {p.name: p.read_bytes() for p in folder.iterdir()} == whole


def test_shards_equal_the_plain_set(whole, tmp_path):
    for name, data in whole.items():
        (tmp_path / name).write_bytes(data)
    s = shards.ShardedCurves(tmp_path)
    plain = design.simulate_curves(320, **{k: v for k, v in asdict(DESIGN).items() if k != "prior"}, prior=DESIGN.prior)
    got = torch.cat([s.shard(k, verify=True).c_perm for k in range(10)])
    assert_allclose(got, plain.c_perm.float(), rtol=0)
    batches = [b.c_feed for b in s.batches(16, seed=0)]
    assert len(batches) == 20 and not torch.equal(batches[0], next(s.batches(16)).c_feed)
    (tmp_path / "shard-00003.safetensors").write_bytes(whole["shard-00004.safetensors"])
    with pytest.raises(InputError, match="differs from its hash"):
        s.verify()


SCRIPT = """
import sys, json
from ion_ode.data.design import Design
from ion_ode.data.shards import simulate_shards
n, options = int(sys.argv[2]), json.loads(sys.argv[3])
simulate_shards(sys.argv[1], n, Design(seed=11, n_flux=4, family="dspmde", chunk=32), shard=32, **options)
"""


def start(folder, n=320, **options):
    env = os.environ | {"OMP_NUM_THREADS": "1", "ION_ODE_NO_PROGRESS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(n), json.dumps(options)], env=env, start_new_session=True
    )


def test_killed_and_started_again_gives_the_same_bytes(whole, tmp_path):
    folder = tmp_path / "set"
    p = start(folder)
    wait_for(lambda: len(list(folder.glob("shard-*"))) >= 2 or p.poll() is not None)
    p.send_signal(signal.SIGKILL)
    p.wait()
    made = len([x for x in folder.iterdir() if x.name.startswith("shard-")])
    with pytest.raises(InputError, match="not complete"):
        shards.ShardedCurves(folder)
    (folder / "shard-00000.safetensors").write_bytes(b"cut")
    shards.simulate_shards(folder, 320, DESIGN, shard=32)
    for stray in folder.glob(".shard-*"):
        stray.unlink()
    assert 2 <= made < 10 and same(folder, whole)


def test_other_settings_and_foreign_folders_are_refused(tmp_path):
    shards.simulate_shards(tmp_path / "a", 4, DESIGN, shard=4)
    with pytest.raises(InputError, match=r"another set \(design differ\)"):
        shards.simulate_shards(tmp_path / "a", 4, replace(DESIGN, seed=0), shard=4)
    with pytest.raises(InputError, match=r"\(points differ\)"):
        shards.simulate_shards(tmp_path / "a", 8, DESIGN, shard=4)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "weights.safetensors").write_bytes(b"mine")
    with pytest.raises(InputError, match="no manifest.json"):
        shards.simulate_shards(tmp_path / "b", 4, DESIGN)
    assert (tmp_path / "b" / "weights.safetensors").read_bytes() == b"mine"
    with pytest.raises(InputError, match="at least 1"):
        shards.simulate_shards(tmp_path / "c", 0, DESIGN)
    with pytest.raises(InputError, match="not both"):
        shards.simulate_shards(tmp_path / "c", 4, DESIGN, scheduler="tcp://x:1", workers=2)
    with pytest.raises(InputError, match="no manifest.json"):
        shards.ShardedCurves(tmp_path / "b")
    assert digest(asdict(DESIGN)) != digest(asdict(replace(DESIGN, seed=0)))


def test_without_dask_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(ImportError, match=r"ion_ode\[cluster\]"):
        shards.simulate_shards(tmp_path, 4, DESIGN, scheduler="tcp://x:1")
    assert shards.simulate_shards(tmp_path, 4, DESIGN)["curves"] == 4


def test_two_processes_make_the_same_bytes(whole, tmp_path):
    shards.simulate_shards(tmp_path, 320, DESIGN, shard=32, workers=2)
    assert same(tmp_path, whole)


def test_scheduler_and_two_workers_one_killed(whole, tmp_path):
    pytest.importorskip("dask.distributed")
    with scheduler_and_two_workers(tmp_path) as (address, running):
        folder = tmp_path / "set"
        job = start(folder, scheduler=address)
        running.append(job)
        wait_for(lambda: len(list(folder.glob("shard-*"))) >= 2 or job.poll() is not None)
        os.killpg(running[1].pid, signal.SIGKILL)
        assert job.poll() is None, "the run was over before a worker could be killed"
        assert job.wait() == 0
        assert same(folder, whole)


def test_no_scheduler_there(tmp_path, monkeypatch):
    pytest.importorskip("dask.distributed")
    monkeypatch.setattr(workers, "_CONNECT", "1s")
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        shards.simulate_shards(tmp_path, 4, DESIGN, scheduler="tcp://127.0.0.1:1")


def damaged(data, how):
    "A shard as a crash, a disk or a copy may leave it."
    head = 8 + int.from_bytes(data[:8], "little")
    if how == "zeros":
        return data[:head] + bytes(len(data) - head)
    if how == "cut":
        return data[: len(data) * 2 // 3]
    at = {
        "flip in the length": 0,
        "flip in the head": head // 2,
        "flip in a number": head + 13,
        "flip at the end": len(data) - 1,
    }[how]
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE = ["zeros", "cut", "flip in the length", "flip in the head", "flip in a number", "flip at the end"]


@pytest.mark.parametrize("finished", [True, False])
def test_a_damaged_shard_is_made_again(whole, tmp_path, finished, monkeypatch):
    for name, data in whole.items():
        (tmp_path / name).write_bytes(data)
    manifest = json.loads(whole["manifest.json"])
    if not finished:  # as after a kill before the last shard
        left = {k: manifest[k] for k in ("format", "design", "points", "shard", "dtype", "key", "made_of")} | {
            "complete": False
        }
        (tmp_path / "manifest.json").write_text(shards._as_text(left))
        made = [{n: s[n] for n in ("curves", "sha256")} for s in manifest["shards"][:9]]
        lines = [shards._as_text({"index": k, "made": m}, None) for k, m in enumerate(made)]
        (tmp_path / "made.jsonl").write_text("".join(lines) + '{"index": 9, "ma')
        (tmp_path / "shard-00009.safetensors").unlink()
    for k, how in enumerate(DAMAGE):
        name = f"shard-{k:05d}.safetensors"
        (tmp_path / name).write_bytes(damaged(whole[name], how))
        if finished:
            with pytest.raises(InputError, match="differs from its hash"):
                shards.ShardedCurves(tmp_path).shard(k)
    made, real = [], CELLS["shard"]
    watched = wraps(real)(lambda *a: made.append(a[1]["shard"]) or real(*a))
    monkeypatch.setitem(CELLS, "shard", watched)
    shards.simulate_shards(tmp_path, 320, DESIGN, shard=32)
    assert made == [*range(len(DAMAGE)), *([] if finished else [9])]
    assert same(tmp_path, whole)


@pytest.mark.parametrize("finished", [True, False])
def test_no_flip_in_the_manifest_is_accepted(whole, tmp_path, finished):
    for name, data in whole.items():
        (tmp_path / name).write_bytes(data)
    if not finished:
        begun = json.loads(whole["manifest.json"]) | {"complete": False}
        (tmp_path / "manifest.json").write_text(shards._as_text(begun))
    data, accepted = (tmp_path / "manifest.json").read_bytes(), []
    for k in range(len(data)):
        (tmp_path / "manifest.json").write_bytes(data[:k] + bytes([data[k] ^ 1 << k % 7]) + data[k + 1 :])
        try:
            shards._read_manifest(tmp_path)
            accepted.append(k)
        except InputError:
            pass
    assert not accepted
    (tmp_path / "manifest.json").write_bytes(data)
    assert shards._read_manifest(tmp_path)["complete"] == finished


@pytest.mark.parametrize("finished", [True, False])
def test_sets_of_two_versions_never_mix(tmp_path, finished, monkeypatch):
    class Stopped(Exception):
        pass

    @wraps(CELLS["shard"])
    def stop(folder, spec, *more):
        if spec["shard"]:
            raise Stopped
        return real(folder, spec, *more)

    real = CELLS["shard"]

    if finished:
        shards.simulate_shards(tmp_path, 8, DESIGN, shard=4)
    else:
        with monkeypatch.context() as m, pytest.raises(Stopped):
            m.setitem(CELLS, "shard", stop)
            shards.simulate_shards(tmp_path, 8, DESIGN, shard=4)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr("ion_ode.closure.code_digest", lambda f: "a later version")
    with pytest.raises(InputError, match="was begun with other code; choose an empty folder"):
        shards.simulate_shards(tmp_path, 8, DESIGN, shard=4)
    assert same(tmp_path, before)


def test_a_worker_of_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_own", lambda f: shards.fingerprint(f) | {"code": "other"})
    with pytest.raises(InputError, match="a worker computes with other code"):
        shards.simulate_shards(tmp_path, 4, DESIGN, shard=4)
    assert not list(tmp_path.glob("shard-*"))


def test_without_any_worker_left_there_is_a_sentence(tmp_path):
    pytest.importorskip("dask.distributed")
    quick = "import ion_ode.workers as w; w.POLL, w.ALONE = 1, 2\n" + SCRIPT
    with scheduler_and_two_workers(tmp_path) as (address, running):
        folder, env = tmp_path / "set", os.environ | {"OMP_NUM_THREADS": "1", "ION_ODE_NO_PROGRESS": "1"}
        command = [sys.executable, "-c", quick, str(folder), "320", json.dumps({"scheduler": address})]
        job = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
        running.append(job)
        wait_for(lambda: len(list(folder.glob("shard-*"))) >= 2 or job.poll() is not None)
        for p in running[1:3]:
            os.killpg(p.pid, signal.SIGKILL)
        said = job.communicate()[1]
        assert job.returncode == 1 and "WorkersLost: no worker is left" in said, said
        assert len(list(folder.glob("shard-*"))) < 10


def test_a_lost_worker_is_one_sentence_and_status_1_on_the_command_line(monkeypatch, capsys):
    from ion_ode.cli.group import _explain
    from ion_ode.core import WorkersLost

    assert _explain(WorkersLost("no worker is left")) == 1
    assert capsys.readouterr().err == "ion-ode: no worker is left\n"

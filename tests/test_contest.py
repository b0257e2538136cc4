"""The contest: nobody learns from what it is scored on, cells are reused only when valid."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from cluster import scheduler_and_two_workers, wait_for
from numpy.testing import assert_allclose
from safetensors.torch import load

from ion_ode import cells as cells_module
from ion_ode import runner
from ion_ode.cells import cell_keys, read_cell
from ion_ode.closure import CELLS
from ion_ode.core import InputError, WorkersLost
from ion_ode.data.nf270 import MIXTURES
from ion_ode.results import chosen, contestants, heldout, plan, trials, tuning
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows, feed_equivalents, held_rows, score, twin_folds
from ion_ode.results.contestants import MAIN, REFERENCES, VARIANTS
from ion_ode.results.heldout import contest
from ion_ode.results.plan import PROFILES, plan_cells
from ion_ode.results.tables import read_tables
from ion_ode.runner import run_cells
from ion_ode.store import asset
from ion_ode.training.recipe import build

FC = "fully connected"
SMOKE = replace(
    PROFILES["smoke"],
    recipe=replace(PROFILES["smoke"].recipe, n_curves=8, n_flux=3, solver_steps=2),
    draws=4,
    variants=(FC,),
    benchmarks=("nf270",),
)


def cells():
    return plan_cells(SMOKE)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    return folder, run_cells(cells(), folder, workers=0)


def test_a_row_counts_once_and_errors_are_squared():
    d = contest_rows().assign(fold="all", predicted=lambda d: d.rejection + 0.09 * (d.ion == "Na+"))
    got, n = score(d).iloc[0], (d.ion == "Na+").sum()
    assert_allclose([got.n, got.mse_R, got.within_10], [len(d), 0.0081 * n / len(d), 1.0], rtol=1e-9)
    h = 0.09 * (d.ion == "Na+") * d.c_feed_mol_m3 / d.solution_id.map(feed_equivalents(d).sum(axis=1))
    assert_allclose(got.mse_h, (h**2).mean(), rtol=1e-9)


def test_the_scale_is_the_charge_of_the_whole_feed():
    d = contest_rows()
    total = feed_equivalents(d).sum(axis=1)
    assert_allclose(total["fdly_NaCl"], 2 * (10.2 + 0.2), rtol=1e-9)
    assert_allclose(total["fdly_MgSO4"], 4 * 10 + 4 * 0.2, rtol=1e-9)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("benchmark", ["nf270", "sources"])
def test_references_do_not_read_the_test_values(name, benchmark):
    df = contest_rows(benchmark)
    for g in BENCHMARKS[benchmark].folds:
        test = held_rows(df, [g])
        got = REFERENCES[name](df[~test], df[test].assign(rejection=np.nan))
        assert np.isfinite(got).all() and got.min() > -3 and got.max() <= 1


def test_networks_do_not_learn_from_the_composition_they_are_scored_on(ran, tmp_path, monkeypatch):
    folder, keys = ran
    df = contest_rows()
    for g in ("D", "E"):
        changed = df.assign(rejection=df.rejection.where(df.composition != g, 0.3 - 0.2 * df.rejection))
        monkeypatch.setattr(contestants, "contest_rows", lambda name, changed=changed: changed)
        other = tmp_path / g
        again = run_cells(cells(), other, workers=0)
        (a, record), (b, _) = (
            read_cell(f, f"nf270 finetune {FC}", k[f"nf270 finetune {FC}"]) for f, k in ((folder, keys), (other, again))
        )
        mine = torch.tensor((df.composition == g).to_numpy(copy=True))
        for k, m in enumerate(record["spec"]["members"]):
            p, q = a["predicted"][k], b["predicted"][k]
            if g in m["held"]:
                assert torch.isfinite(p[mine]).all() and torch.equal(p[mine], q[mine])
            elif m["held"]:
                rows = torch.isfinite(p)
                assert not torch.equal(p[rows], q[rows])


def test_predictions_exist_for_what_was_held_out_and_nothing_else(ran):
    folder, keys = ran
    t, record = read_cell(folder, f"nf270 finetune {FC}", keys[f"nf270 finetune {FC}"])
    df = contest_rows()
    for k, m in enumerate(record["spec"]["members"]):
        for when in ("before", "predicted"):
            assert np.array_equal(torch.isfinite(t[when][k]).numpy(), held_rows(df, m["held"]))
    kinds = {(m["pretrained"], m["bias"]) for m in record["spec"]["members"]}
    assert kinds == {(True, "hard"), (False, "hard"), (False, "soft")}


def test_an_own_state_is_the_one_that_the_answer_is_told():
    df = contest_rows("sources")
    members = contestants.own_members(1)
    hidden = contestants.left_out(df, members).numpy()
    assert {m["held"][0] for m in members} == set(BENCHMARKS["sources"].folds)
    for m, row in zip(members, hidden, strict=True):
        source, coupon = df[held_rows(df, m["held"])], df[df.coupon == m["own"]]
        shown = source.index.difference(df.index[row])
        states = coupon.sort_values(["c_feed_mol_m3", "flux_m_s"]).state_id.unique()
        assert set(coupon.state_id[shown]) == {states[len(states) // 2]} and not row[~held_rows(df, m["held"])].any()


def test_a_table_of_predictions_has_every_held_out_row_once_a_contestant(ran):
    p, df = contest(*ran), contest_rows()
    n = p.groupby(["model", "pretrained", "bias", "rule", "seed"]).row_id.agg(["size", "nunique"])
    rows = sum(held_rows(df, [g]).sum() for g in BENCHMARKS["nf270"].folds)
    assert (n["size"] == rows).all() and (n["nunique"] == rows).all() and p.predicted.notna().all()


def test_a_second_run_computes_only_what_is_not_valid(ran):
    folder, keys = ran
    at = lambda: {c.name: cells_module._cell_path(folder, c.name).stat().st_mtime_ns for c in cells()}
    before = at()
    assert run_cells(cells(), folder, workers=0) == keys and at() == before
    path = cells_module._cell_path(folder, f"pretrain {FC}")
    file = path.parent / json.loads(path.read_text())["file"]
    data = file.read_bytes()
    file.write_bytes(data[:-4])
    run_cells(cells(), folder, workers=0)
    after = at()
    assert [n for n in before if before[n] != after[n]] == [f"pretrain {FC}"]
    again, first = load((path.parent / json.loads(path.read_text())["file"]).read_bytes()), load(data)
    assert again.keys() == first.keys() and all(torch.equal(again[k], first[k]) for k in first)


def test_keys_follow_recipe_and_needs_but_not_wording():
    base = cell_keys(plan_cells(SMOKE))
    other = cell_keys(plan_cells(replace(SMOKE, recipe=replace(SMOKE.recipe, n_curves=9))))
    assert base["nf270 membranes without A"] == other["nf270 membranes without A"]
    assert base["curves"] != other["curves"] and base[f"nf270 finetune {FC}"] != other[f"nf270 finetune {FC}"]


@pytest.mark.slow
def test_two_processes_give_the_same_bits(ran, tmp_path):
    folder, keys = ran
    run_cells(cells(), tmp_path, workers=2)
    assert same(folder, tmp_path, keys)


def same(a, b, keys):
    return all(
        torch.equal(x[k].nan_to_num(nan=7.0), y[k].nan_to_num(nan=7.0))
        for c in cells()
        for x, y in [(read_cell(f, c.name, keys[c.name])[0] for f in (a, b))]
        for k in x
    )


_JOB = """
import sys
from test_contest import cells, run_cells
run_cells(cells(), sys.argv[1], scheduler=sys.argv[2])
"""


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_gives_the_same_bits(ran, tmp_path):
    pytest.importorskip("dask.distributed")
    folder, keys = ran
    out = tmp_path / "cells"
    env = os.environ | {"PYTHONPATH": os.path.dirname(__file__), "ION_ODE_NO_PROGRESS": "1"}
    with scheduler_and_two_workers(tmp_path) as (address, running):
        job = subprocess.Popen([sys.executable, "-c", _JOB, str(out), address], env=env, start_new_session=True)
        running.append(job)
        wait_for(lambda: len(list(out.glob("*/latest.json"))) >= 3 or job.poll() is not None)
        os.killpg(running[1].pid, signal.SIGKILL)
        assert job.poll() is None, "the run was over before a worker could be killed"
        assert job.wait(180) == 0
    assert same(folder, out, keys)


def test_without_a_scheduler_there_is_one_sentence(tmp_path):
    pytest.importorskip("dask.distributed")
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        run_cells(cells()[:1], tmp_path, scheduler="tcp://127.0.0.1:1")


def test_a_worker_of_another_version_computes_no_cell(tmp_path, monkeypatch):
    c = cells()[0]
    keys, made_of = cell_keys([c]), cells_module.fingerprint(CELLS[c.kind])
    for part in ("code", "tables", "torch", "numpy"):
        do = cells_module.Stored(tmp_path, keys).job(c)
        with pytest.raises(InputError, match=f"a worker computes with other {part}"):
            runner._Job(c, CELLS[c.kind], made_of | {part: "other"}, do)()
    assert not list(tmp_path.iterdir())
    before, real = cell_keys(cells()), cells_module.fingerprint
    monkeypatch.setattr(cells_module, "fingerprint", lambda f: real(f) | {"torch": "9.9"})
    assert not set(before.values()) & set(cell_keys(cells()).values())


def test_a_process_that_is_killed_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(CELLS, "curves", _ended)
    with pytest.raises(WorkersLost, match=r"a process that computed curves was ended from outside"):
        run_cells(cells()[:1], tmp_path, workers=1)


def _ended(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_mixture_of_the_twin_lies_in_one_fold():
    d, stored = contest_rows("twin"), twin_folds()
    assert len(d[["solution_id", "composition"]].drop_duplicates()) == len(set(d.solution_id))
    assert sorted(stored.value_counts()) == [12, 13, 13, 13, 13] and set(stored) == set(BENCHMARKS["twin"].folds)


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_every_network_has_the_parameters_of_the_main_one(profile):
    p = PROFILES[profile]
    size = {v: sum(w.numel() for w in build(p.config(v), [0]).params.values()) for v in VARIANTS}
    assert max(abs(n / size[MAIN] - 1) for n in size.values()) < 0.05


def test_every_cell_comes_after_what_it_needs():
    for p in PROFILES.values():
        seen = set()
        for c in plan_cells(p):
            assert set(c.needs) <= seen and c.name not in seen
            seen.add(c.name)


def made_up_choice(moved=0.0, fold="A"):
    "Predictions of networks that were not trained: measured values, each way off by its own error on each fold."
    spec = {"members": {b: tuning.choice_members(BENCHMARKS[b], 1) for b in ("nf270", "sources")}}
    rng, tensors = np.random.default_rng(0), {}
    for b, members in spec["members"].items():
        df = contest_rows(b)
        off = {g: rng.normal(0.2, 0.05, (len(tuning.WAYS), len(members))) for g in BENCHMARKS[b].folds}
        said = np.full((len(tuning.WAYS), len(members), len(df)), np.nan)
        for g in BENCHMARKS[b].folds:
            at = held_rows(df, [g])
            said[..., at] = df.rejection.to_numpy()[at] + (off[g] + (moved if g == fold else 0.0))[..., None]
        tensors[f"{b} predicted"] = torch.tensor(said)
        tensors[f"{b} membranes"] = torch.tensor(df.rejection.to_numpy() + 0.1).expand(len(members), -1)
    return tensors, {"spec": spec}


def test_the_way_to_fine_tune_is_chosen_without_the_fold_it_is_for(monkeypatch):
    tables = []
    for moved in (0.0, 3.0):
        monkeypatch.setattr(chosen, "read_cell", lambda *_, m=moved: made_up_choice(m))
        tables.append(chosen.choice_table(None, {tuning.CHOICE: ""}).set_index(["benchmark", "held", "way", "share"]))
    a, b = (t.xs("A", level="held") for t in tables)
    assert_allclose(a.inside, b.inside, rtol=1e-12)
    assert (a.taken == b.taken).all() and (a.outside.loc["nf270"] != b.outside.loc["nf270"]).any()
    assert (tables[0].xs("B", level="held").inside != tables[1].xs("B", level="held").inside).any()
    for (_, _), d in tables[0].reset_index().groupby(["benchmark", "held"]):
        alone = d[(d.share == 0) & (d.way != chosen.BAR)]
        assert alone.loc[alone.inside.idxmin(), "taken"] == "network"
        taken = d[d.taken == "correction"]
        assert (taken.upper < 0).all() and len(d[d.taken.str.startswith("correction")]) == 1
    summary = chosen.choice_summary(tables[0].reset_index()).set_index(["benchmark", "what"])
    assert_allclose(summary.mse["nf270", chosen.BAR], 0.01, rtol=1e-6)


def test_ways_to_fine_tune_are_tried_on_folds_and_pairs_of_folds(tmp_path, monkeypatch):
    ways = {w: tuning.WAYS[w] for w in (tuning.NONE, "rate a tenth, simulated curves replayed")}
    for module in (tuning, chosen, plan):
        monkeypatch.setattr(module, "WAYS", ways)
    monkeypatch.setattr(tuning, "_ASKED", 1)
    few = lambda b, seeds: [m for m in tuning.choice_members(b, seeds) if m["held"] in ([b.folds[0]], [*b.folds[:2]])]
    monkeypatch.setattr(plan, "choice_members", few)
    short = replace(SMOKE, choose=True, variants=(MAIN,), benchmarks=("nf270", "sources"))
    asked = cells_module.only_for(plan_cells(short), tuning.CHOICE)
    keys = run_cells(asked, tmp_path, workers=0)
    tensors, record = read_cell(tmp_path, tuning.CHOICE, keys[tuning.CHOICE])
    for b in ("nf270", "sources"):
        members, said, df = record["spec"]["members"][b], tensors[f"{b} predicted"].numpy(), contest_rows(b)
        assert [len(m["held"]) for m in members] == [1, 2]
        hidden = np.stack([held_rows(df, m["held"]) for m in members])
        assert (np.isfinite(said) == hidden).all()
        assert (said[1][hidden] != said[0][hidden]).all()


def test_the_stored_choice_is_that_of_its_own_numbers():
    d = read_tables()[0]["choice"]
    two = d[(d.held == "") & (d.benchmark != "both")].groupby(["way", "share"]).inside.mean()
    both = d[d.benchmark == "both"].set_index(["way", "share"])
    assert_allclose(both.inside, two.reindex(both.index), rtol=1e-5)
    alone = both.xs(0.0, level="share").drop(chosen.BAR)
    assert alone.taken[alone.inside.idxmin()] == "network"
    assert set(alone.index) == set(tuning.WAYS) and (d.outside.notna() == (d.held != "")).all()


def test_stored_tables_of_training_are_whole_and_agree():
    made = {n: pd.read_csv(asset(f"results/training_{n}.csv")) for n in ("start", "recipes")}
    assert not any(t.isna().any().any() for t in made.values())
    for n in made:
        assert json.loads(asset(f"results/training_{n}.json").read_text())["tables"] == [n]
    assert list(made["recipes"].way) == list(trials.RECIPES) and (made["recipes"].median_ratio.iloc[0] == 1.0)
    assert (made["recipes"].lowest <= made["recipes"].highest).all()
    ablation = read_tables()[0]["ablation"]
    assert set(ablation.way) == {"no fine-tuning", *trials.ABLATIONS}
    for table in (ablation, made["start"]):
        a = table.set_index("way")
        assert_allclose(a.mse_R, a[list(MIXTURES)].mean(axis=1), rtol=1e-4)
        assert_allclose(a.change, a.mse_R - a.mse_R["as published"], rtol=1e-3, atol=1e-6)


def test_one_table_asks_for_its_cell_and_what_that_needs():
    cells = plan.plan_cells(PROFILES["full"])
    few = [c.name for c in cells_module.only_for(cells, heldout.TABLES["recipes"])]
    assert few == ["curves", "pretraining recipes"]
    more = cells_module.only_for(cells, heldout.TABLES["ablation"])
    names = {c.name for c in more}
    assert all(set(c.needs) <= names for c in more) and len(more) < len(cells)
    keys, whole = cells_module.cell_keys(more), cells_module.cell_keys(cells)
    assert all(keys[n] == whole[n] for n in names)
    with pytest.raises(InputError, match="take another profile"):
        cells_module.only_for(plan.plan_cells(PROFILES["quick"]), heldout.TABLES["recipes"])


def test_tables_of_training_come_out_of_their_cells(tmp_path):
    small = replace(SMOKE, ablate=True, sweep_steps=2, variants=(MAIN,))
    for table in ("start", "recipes"):
        keys = run_cells(cells_module.only_for(plan_cells(small), heldout.TABLES[table]), tmp_path / "cells", workers=0)
        plan.store(small, tmp_path / "cells", keys, tmp_path, f"training_{table}")
    start, ways = (pd.read_csv(tmp_path / f"training_{t}.csv").set_index("way") for t in ("start", "recipes"))
    assert list(start.change.loc[["as published"]]) == [0.0] and np.isfinite(start).all(axis=None)
    assert start.unseen.nunique() == 2 and start.mse_R.nunique() == 4
    assert list(ways.index) == list(trials.RECIPES) and ways.median_ratio["as it is"] == 1.0
    assert json.loads((tmp_path / "training_start.json").read_text())["tables"] == ["start"]

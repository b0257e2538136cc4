"""The contest: nobody learns from what it is scored on, cells are reused only when valid."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode import contest
from ion_ode.contest import (
    PROFILES,
    REFERENCES,
    cell_keys,
    choose_steps,
    contest_rows,
    feed_equivalents,
    plan_cells,
    read_cell,
    run_cells,
    score,
)
from ion_ode.data import MIXTURES, composition_folds

FC = "fully connected"
SMOKE = replace(
    PROFILES["smoke"],
    recipe=replace(PROFILES["smoke"].recipe, n_curves=8, n_flux=3, solver_steps=2),
    design=4,
    variants=(FC,),
    benchmarks=("nf270",),
    rivals=("Spiegler-Kedem",),
)


def cells():
    return plan_cells(SMOKE)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    return folder, run_cells(cells(), folder, workers=0)


def test_a_salt_level_value_counts_once():
    f = composition_folds(single_salts=None)[0].test
    d = f.assign(fold="A", predicted=f.rejection + 0.1 * f.salt_level)
    got = score(d).iloc[0]
    assert_allclose(got.n, 14)
    assert_allclose(got.mse_R, 0.01 * 7 / 14, rtol=1e-9)
    h = 0.1 * f.salt_level * f.c_feed_mol_m3 / f.solution_id.map(feed_equivalents(f).sum(axis=1))
    assert_allclose(got.mse_h, (f.weight * h**2).sum() / 14, rtol=1e-9)


def test_the_scale_is_the_charge_of_the_whole_feed():
    d = contest_rows()
    total = feed_equivalents(d).sum(axis=1)
    assert_allclose(total["fdly_NaCl"], 2 * (10.2 + 0.2), rtol=1e-9)
    assert_allclose(total["fdly_MgSO4"], 4 * 10 + 4 * 0.2, rtol=1e-9)


@pytest.mark.parametrize("name", REFERENCES)
def test_references_do_not_read_the_test_values(name):
    for f in composition_folds(single_salts=None):
        blind = f.test.assign(rejection=np.nan)
        got = REFERENCES[name](f.train, blind)
        assert np.isfinite(got).all() and got.min() > -3 and got.max() <= 1


def test_steps_are_chosen_without_the_test_composition(ran):
    folder, keys = ran
    t, record = read_cell(folder, f"nf270 finetune {FC}", keys[f"nf270 finetune {FC}"])
    rng = torch.Generator().manual_seed(0)
    predicted = torch.randn(6, *t["hard/predicted"].shape[1:], generator=rng)
    df = contest_rows()
    plain = choose_steps(predicted, record["members"], df)
    for g in MIXTURES:
        other = df.assign(rejection=df.rejection.where(df.composition != g, -3.0))
        changed = predicted.clone()
        changed[..., torch.tensor((df.composition == g).to_numpy(copy=True))] = 5.0
        again = choose_steps(changed, record["members"], other)
        assert again[g, True] == plain[g, True] and again[g, False] == plain[g, False]


def test_networks_do_not_learn_from_the_composition_they_are_scored_on(ran, tmp_path, monkeypatch):
    folder, keys = ran
    df = contest_rows()
    for g in ("D", "E"):
        changed = df.assign(rejection=df.rejection.where(df.composition != g, 0.3 - 0.2 * df.rejection))
        monkeypatch.setattr(contest, "contest_rows", lambda name, changed=changed: changed)
        other = tmp_path / g
        again = run_cells(cells(), other, workers=0)
        (a, record), (b, _) = (
            read_cell(f, f"nf270 finetune {FC}", k[f"nf270 finetune {FC}"]) for f, k in ((folder, keys), (other, again))
        )
        mine = torch.tensor((df.composition == g).to_numpy(copy=True))
        for m, (held, _, _) in enumerate(record["members"]):
            p, q = a["hard/predicted"][-1, m], b["hard/predicted"][-1, m]
            if g in held:
                assert torch.isfinite(p[mine]).all() and torch.equal(p[mine], q[mine])
            elif held:
                rows = torch.isfinite(p)
                assert not torch.equal(p[rows], q[rows])


def test_predictions_exist_for_what_was_held_out_and_nothing_else(ran):
    folder, keys = ran
    t, record = read_cell(folder, f"nf270 finetune {FC}", keys[f"nf270 finetune {FC}"])
    comp = contest_rows().composition.to_numpy()
    for m, (held, _, _) in enumerate(record["members"]):
        assert np.array_equal(torch.isfinite(t["hard/predicted"][-1, m]).numpy(), np.isin(comp, held))


def test_a_second_run_computes_only_what_is_not_valid(ran):
    folder, keys = ran
    at = lambda: {c.name: contest._cell_path(folder, c.name).stat().st_mtime_ns for c in cells()}
    before = at()
    assert run_cells(cells(), folder, workers=0) == keys and at() == before
    path = contest._cell_path(folder, f"pretrain {FC}")
    file = path.parent / json.loads(path.read_text())["file"]
    data = file.read_bytes()
    file.write_bytes(data[:-4])
    run_cells(cells(), folder, workers=0)
    after = at()
    assert [n for n in before if before[n] != after[n]] == [f"pretrain {FC}"]
    assert (path.parent / json.loads(path.read_text())["file"]).read_bytes() == data


def test_keys_follow_recipe_and_needs_but_not_wording():
    base = cell_keys(plan_cells(SMOKE))
    other = cell_keys(plan_cells(replace(SMOKE, recipe=replace(SMOKE.recipe, n_curves=9))))
    assert base["nf270 Spiegler-Kedem without A"] == other["nf270 Spiegler-Kedem without A"]
    assert base["curves"] != other["curves"] and base[f"nf270 finetune {FC}"] != other[f"nf270 finetune {FC}"]


@pytest.mark.slow
def test_two_processes_give_the_same_bits(ran, tmp_path):
    folder, keys = ran
    run_cells(cells(), tmp_path, workers=2)
    for c in cells():
        (a, _), (b, _) = (read_cell(f, c.name, keys[c.name]) for f in (folder, tmp_path))
        assert all(torch.equal(a[k].nan_to_num(nan=7.0), b[k].nan_to_num(nan=7.0)) for k in a)

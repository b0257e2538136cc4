"""The contest: nobody learns from what it is scored on, cells are reused only when valid, tables say what figures show."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode import results
from ion_ode.core import InputError
from ion_ode.data import MIXTURES, composition_folds
from ion_ode.results import (
    FIGURES,
    MAIN,
    PROFILES,
    REFERENCES,
    cell_keys,
    choose_steps,
    claims,
    contest_rows,
    draw_figures,
    feed_charge,
    metrics,
    plan_cells,
    predict_dspmde,
    read_tables,
    reproduce,
    run_cells,
    score,
    scoreboard,
)

FC = "fully connected"
SMOKE = replace(
    PROFILES["smoke"], recipe=replace(PROFILES["smoke"].recipe, n_curves=8, n_flux=3, solver_steps=2), design=4
)


@pytest.fixture(scope="module")
def stored():
    return read_tables()


def cells():
    return [c for c in plan_cells(SMOKE, (FC,)) if c.kind != "fit"]


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
    h = 0.1 * f.salt_level * f.c_feed_mol_m3 / feed_charge(f)
    assert_allclose(got.mse_h, (f.weight * h**2).sum() / 14, rtol=1e-9)


def test_the_scale_is_the_charge_of_the_whole_feed():
    d = contest_rows()
    total = feed_charge(d).groupby(d.solution_id).first()
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
    t, record = results._read_cell(folder, f"finetune {FC}", keys[f"finetune {FC}"])
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
        monkeypatch.setattr(results, "contest_rows", lambda changed=changed: changed)
        other = tmp_path / g
        again = run_cells(cells(), other, workers=0)
        (a, record), (b, _) = (
            results._read_cell(f, f"finetune {FC}", k[f"finetune {FC}"]) for f, k in ((folder, keys), (other, again))
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
    t, record = results._read_cell(folder, f"finetune {FC}", keys[f"finetune {FC}"])
    comp = contest_rows().composition.to_numpy()
    for m, (held, _, _) in enumerate(record["members"]):
        assert np.array_equal(torch.isfinite(t["hard/predicted"][-1, m]).numpy(), np.isin(comp, held))


def test_a_second_run_computes_only_what_is_not_valid(ran):
    folder, keys = ran
    at = lambda: {c.name: results._cell_path(folder, c.name).stat().st_mtime_ns for c in cells()}
    before = at()
    assert run_cells(cells(), folder, workers=0) == keys and at() == before
    path = results._cell_path(folder, f"pretrain {FC}")
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
    assert base["fit without A"] == other["fit without A"]
    assert base["curves"] != other["curves"] and base[f"finetune {MAIN}"] != other[f"finetune {MAIN}"]


@pytest.mark.slow
def test_two_processes_give_the_same_bits(ran, tmp_path):
    folder, keys = ran
    run_cells(cells(), tmp_path, workers=2)
    for c in cells():
        (a, _), (b, _) = (results._read_cell(f, c.name, keys[c.name]) for f in (folder, tmp_path))
        assert all(torch.equal(a[k].nan_to_num(nan=7.0), b[k].nan_to_num(nan=7.0)) for k in a)


def test_stored_scores_are_those_of_the_stored_predictions(stored):
    t, _ = stored
    again = scoreboard(t["predictions"])
    assert_allclose(again.mse_R, t["scores"].mse_R.astype(float), rtol=1e-5)
    assert_allclose(again.lower, t["scores"].lower.astype(float), rtol=1e-5)


def test_every_contestant_answers_every_held_out_value_once(stored):
    t, _ = stored
    n = t["predictions"].groupby(["model", "pretrained", "bias", "rule", "seed"]).row_id.agg(["size", "nunique"])
    assert (n["size"] == len(contest_rows())).all() and (n["nunique"] == n["size"]).all()
    assert np.isfinite(t["predictions"].predicted).all()


def test_no_mean_score_is_below_the_noise(stored):
    t, _ = stored
    assert t["scores"].mse_R.astype(float).min() > 0.01


def test_stored_references_and_pore_model_are_recomputed(stored):
    t, _ = stored
    pred = t["predictions"]
    for f in composition_folds(single_salts=None):
        for name, predict in REFERENCES.items():
            kept = pred[(pred.model == name) & (pred.fold == f.name)].set_index("row_id").predicted
            assert_allclose(kept.reindex(f.test.index), predict(f.train, f.test), rtol=1e-6)
    fit = t["fits"].set_index("fold").loc["E"]
    held = contest_rows().query("composition == 'E'")
    got = predict_dspmde(held, results.Membrane(fit.r_pore, fit.thickness, fit.charge_density, fit.eps_pore))
    kept = pred[(pred.model == results.PORE_MODEL) & (pred.fold == "E")].set_index("row_id").predicted
    assert_allclose(1 - got, 1 - kept.reindex(held.index), rtol=1e-3)


def test_figures_are_files_with_their_tables(stored, tmp_path):
    t, meta = stored
    draw_figures(t, meta, tmp_path)
    for name in FIGURES:
        for ext in ("pdf", "png", "csv", "json"):
            assert (tmp_path / f"{name}.{ext}").stat().st_size > 100
    b = pd.read_csv(tmp_path / "figure_2b.csv")
    assert len(b) == 2 * len(contest_rows())
    d = pd.read_csv(tmp_path / "figure_2d.csv")
    assert set(zip(d.pretrained, d.bias, strict=True)) == {
        ("PT", "hard"),
        ("PT", "soft"),
        ("NPT", "hard"),
        ("NPT", "soft"),
    }
    a = t["attention"].groupby("asking").weight.sum()
    assert_allclose(a, 1, atol=0.02)


def test_verdicts_follow_from_the_intervals(stored):
    c = claims(stored[0])
    for r in c.itertuples():
        assert r.lower <= r.difference <= r.upper
        assert_allclose(r.difference, r.a - r.b, rtol=1e-6, atol=1e-9)
        assert (r.verdict == "holds") == (r.upper < 0) and (r.verdict == "does not hold") == (r.lower > 0)


def test_the_report_names_data_seed_commit_and_every_contestant(stored):
    record, text = metrics(*stored)
    for word in ("NF270", "seed 0", "commit", "DSPM-DE fitted", "constant", "Claims", MAIN):
        assert word in text
    assert json.loads(json.dumps(record))["provenance"]["data"] == stored[1]["data"]


def test_an_unknown_profile_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="expected one of quick, full"):
        reproduce("fast", tmp_path / "x")
    assert not (tmp_path / "x").exists()

"""What is told of the contest: tables say what figures show, verdicts follow from intervals."""

import json

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from ion_ode import results
from ion_ode.contest import MAIN, REFERENCES, contest_rows, predict_dspmde
from ion_ode.core import InputError
from ion_ode.data import composition_folds
from ion_ode.results import FIGURES, claims, draw_figures, metrics, read_tables, reproduce, scoreboard


@pytest.fixture(scope="module")
def stored():
    return read_tables()


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

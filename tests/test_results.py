"""What is told of the contest: tables say what figures show, verdicts follow from intervals, intervals keep what they
promise."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode.core import InputError
from ion_ode.data.nf270 import MIXTURES
from ion_ode.dspmde.prior import NAMES, from_normal
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows
from ion_ode.results.claims import _agreement, audit, claims, metrics
from ion_ode.results.contestants import BAYES, MAIN, PORE_MODEL, REFERENCES, log_passage
from ion_ode.results.draws import _neutral_draws, _whole_feeds
from ion_ode.results.figures import FIGURES, draw_figures
from ion_ode.results.run import _recompute, reproduce
from ion_ode.results.scores import interval_table, intervals, mean_predictions
from ion_ode.results.tables import read_tables
from ion_ode.results.trial_scores import judge_trials
from ion_ode.stats import conformal_quantile
from ion_ode.store import asset
from ion_ode.water import ions as ions_module


@pytest.fixture(scope="module")
def stored():
    return read_tables()


def test_a_named_part_is_recomputed_from_nothing(stored):
    again = _recompute(stored[0])
    assert len(again) == 1 + len(REFERENCES) + 2  # scores, references, the fitted pore model, the posterior
    posterior = again.what.str.startswith(BAYES)
    assert_allclose(again.again[~posterior], again.stored[~posterior], rtol=2e-3)
    assert_allclose(again.again[posterior], again.stored[posterior], rtol=0.1)


@pytest.mark.parametrize("benchmark", list(BENCHMARKS))
def test_every_contestant_answers_every_held_out_value_once(stored, benchmark):
    p = stored[0]["predictions"].query("benchmark == @benchmark")
    n = p.groupby(["model", "pretrained", "bias", "rule", "seed"]).row_id.agg(["size", "nunique"])
    assert (n["size"] == len(contest_rows(benchmark))).all() and (n["nunique"] == n["size"]).all()


def test_no_score_on_the_real_set_is_below_the_noise(stored):
    assert stored[0]["scores"].query("benchmark == 'nf270'").mse_R.min() > 0.01


@pytest.mark.parametrize("model", [MAIN, BAYES, PORE_MODEL])
def test_an_interval_is_calibrated_without_its_fold_and_stays_below_one(stored, model):
    d = mean_predictions(stored[0]["predictions"], "nf270", model)
    got = intervals(d)
    assert (got.upper <= 1).all() and (got.lower <= got.upper).all()
    other = d.assign(rejection=np.where(d.fold == "A", d.rejection - 3.0, d.rejection))
    kept = got.fold == "A"
    assert_allclose(intervals(other).half[kept], got.half[kept])
    assert (intervals(other).half[~kept] >= got.half[~kept] - 1e-12).all()


def test_intervals_of_equal_size_are_those_of_the_formula(stored):
    d = mean_predictions(stored[0]["predictions"], "nf270", MAIN)
    got = intervals(d, score="as large everywhere")
    error = (log_passage(d.rejection) - log_passage(d.predicted)).abs()
    assert_allclose(got.half[d.fold == "A"], conformal_quantile(error[d.fold != "A"]))


def test_a_choice_by_inner_scores_never_reads_the_test():
    "Ways that differ on the test alone are chosen alike; the chosen row's test score is that of what was chosen."
    rows = [
        {"way": w, "fold": f, "composition": g, "mse_R": 0.1 * (w == "bad") + 0.05}
        for w in ("good", "bad")
        for f in MIXTURES
        for g in MIXTURES
    ]
    trials = pd.DataFrame(rows)
    judged = judge_trials(
        trials.assign(mse_R=trials.mse_R.where((trials.fold != trials.composition) | (trials.way == "bad"), 9.0))
    )
    assert judged.loc["good", "test"] == 9.0 == judged.loc["chosen inside, fold by fold", "test"]
    assert judged.index[0] == "good" and judged.loc["bad", "inner"] > judged.loc["good", "inner"]


def test_intervals_of_the_twin_cover_what_they_promise(stored):
    t = interval_table(stored[0]["predictions"]).query("benchmark == 'twin' and model == @MAIN")
    assert 0.85 < t[t.ion == "all"].coverage.iloc[0] < 0.95 and (t.coverage >= 0.75).all()


def test_widened_draws_are_neutral_and_positive():
    frame = _whole_feeds(contest_rows().query("composition == 'D'"))
    x = torch.randn(6, len(NAMES), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.3
    through = _neutral_draws(frame, from_normal(x), BENCHMARKS["nf270"].film, 3.0)
    assert len(through) > 0 and (through > 0).all()
    for flow in through * (frame.z * frame.c_feed_mol_m3).to_numpy():
        s = pd.DataFrame({"state": frame.state_id.to_numpy(), "flow": flow, "size": abs(flow)}).groupby("state").sum()
        assert (abs(s.flow) / s["size"]).max() < 1e-9


def test_agreement_of_raters():
    g = np.random.default_rng(0)
    truth = g.normal(size=(200, 1))
    assert _agreement(truth + np.array([0.0, 5.0, -2.0])) > 0.999  # levels of their own do not matter
    assert abs(_agreement(g.normal(size=(2000, 3)))) < 0.1
    assert_allclose(_agreement(truth + g.normal(size=(200, 5))), 0.5, atol=0.1)


def test_the_audit_finds_a_planted_relation_and_no_other():
    ions = list(ions_module.IONS)
    z = {i: ions_module.get_ion(i).z for i in ions}
    g = np.random.default_rng(1)
    attention = pd.DataFrame(
        [
            {
                "network": "planted",
                "seed": s,
                "asking": a,
                "answering": b,
                "weight": abs(z[a] - z[b]) + 0.1 * g.normal(),
            }
            for s in range(3)
            for a in ions
            for b in ions
        ]
    )
    removal = pd.DataFrame(
        {
            "network": "planted",
            "seed": 0,
            "feed": range(40),
            "score": np.arange(40.0),
            "change": np.arange(40.0) ** 3,
            "change_pore": g.normal(size=40),
        }
    )
    r = audit(attention, removal, n_shuffles=300).iloc[0]
    assert r["rho |Δz|"] > 0.9 and r["p |Δz|"] < 0.05 and r.ICC > 0.9
    assert r["rho change"] == pytest.approx(1) and r["p change_pore"] > 0.01


def test_figures_are_files_with_their_tables(stored, tmp_path):
    draw_figures(*stored, tmp_path)
    for name in FIGURES:
        for ext in ("pdf", "png", "csv", "json"):
            assert (tmp_path / f"{name}.{ext}").stat().st_size > 100
    assert set(pd.read_csv(tmp_path / "figure_2b.csv").benchmark) == set(BENCHMARKS)


def test_verdicts_follow_from_the_intervals(stored):
    c = claims(stored[0])
    assert set(c.number) == set(range(1, 19))
    assert set(c.verdict) <= {"holds", "direction only", "does not hold", "not testable on open data", "not computed"}
    for r in c[c.number.isin([1, 6]) & c.lower.notna()].itertuples():
        assert r.lower <= r.difference <= r.upper
        assert (r.verdict == "holds") == (r.upper < 0) and (r.verdict == "does not hold") == (r.difference >= 0)


def test_the_report_names_data_seed_commit_and_every_benchmark(stored):
    record, text = metrics(*stored)
    for word in ("NF270", "synthetic", "seed 0", "commit", PORE_MODEL, "constant", "Claims", MAIN):
        assert word in text
    assert json.loads(json.dumps(record))["provenance"]["data"] == stored[1]["data"]
    assert stored[1]["read"][-1]["commit"] == stored[1]["commit"]
    shipped = json.loads(asset("results/claims.json").read_text())
    assert shipped["provenance"] == stored[1] and shipped["claims"] == json.loads(json.dumps(record["claims"]))


def test_an_unknown_profile_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="expected one of quick, full"):
        reproduce("fast", tmp_path / "x")
    assert not (tmp_path / "x").exists()

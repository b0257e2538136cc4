"""What is told of the contest: tables say what figures show, verdicts follow from intervals, intervals keep what they
promise."""

import json

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from ion_ode.core import InputError
from ion_ode.results.audit import _agreement, audit
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows, held_rows
from ion_ode.results.board import read_board
from ion_ode.results.claims import claims, metrics
from ion_ode.results.contestants import BAYES, BAYES_AGAIN, MAIN, log_passage
from ion_ode.results.figures import FIGURES, draw_figures
from ion_ode.results.protocol import CONSTANT, FOUR_FITTED, LIKELIEST, POSTERIOR
from ion_ode.results.rollouts import with_answer
from ion_ode.results.run import _recompute, reproduce
from ion_ode.results.scores import interval_table, intervals, mean_predictions
from ion_ode.results.tables import read_tables, with_entrants
from ion_ode.results.verdicts import board_scores, with_networks
from ion_ode.stats import conformal_quantile
from ion_ode.store import asset
from ion_ode.water import ions as ions_module


@pytest.fixture(scope="module")
def stored():
    tables, meta = read_tables()
    return with_entrants(tables, read_board()), meta


def test_a_named_part_is_recomputed_from_nothing(stored):
    again = _recompute(stored[0])
    sampled = again.what.str.startswith(BAYES) | again.what.str.contains("trained from nothing")
    assert len(again) == 6 and sampled.sum() == 2  # scores, two references, a fit; the membranes, a network
    assert_allclose(again.again[~sampled], again.stored[~sampled], rtol=2e-3)
    assert_allclose(again.again[sampled], again.stored[sampled], rtol=0.15)


@pytest.mark.parametrize("benchmark", list(BENCHMARKS))
def test_every_contestant_answers_every_held_out_value_once(stored, benchmark):
    p, df = stored[0]["predictions"].query("benchmark == @benchmark and rule != 'own'"), contest_rows(benchmark)
    n = p.groupby(["model", "pretrained", "bias", "rule", "seed"]).row_id.agg(["size", "nunique"])
    rows = sum(held_rows(df, [g]).sum() for g in BENCHMARKS[benchmark].folds)
    assert (n["size"] == rows).all() and (n["nunique"] == n["size"]).all() and len(n) > 20


def test_one_number_for_a_model_whatever_table_says_it(stored):
    "Errors of networks and entrants are the same in the tables of networks and of the comparison."
    tables = stored[0]
    folds = board_scores(with_networks(read_board()["board"], read_tables()[0]))
    mse = folds.groupby(["split", "model"]).mse.mean()
    for b, split in (("nf270", "compositions"), ("sources", "laboratories")):
        split = BENCHMARKS[b].split
        s = tables["scores"].query("benchmark == @b and rule in ['', 'last']")
        s = s[s.pretrained.isin(["", "PT"]) & s.bias.isin(["", "hard"])]
        ensemble = s[s.scored == "ensemble"].set_index("model").mse_R
        single = s[(s.scored == "single") & (s["rule"] == "")].set_index("model").mse_R
        for m in (POSTERIOR, LIKELIEST, CONSTANT, BAYES, BAYES_AGAIN):
            assert_allclose(single[m], mse[split, m], rtol=1e-3)
        assert_allclose(ensemble[MAIN], mse[split, MAIN], rtol=1e-3)


def test_no_score_on_the_real_set_is_below_the_noise(stored):
    assert stored[0]["scores"].query("benchmark == 'nf270'").mse_R.min() > 0.01


@pytest.mark.parametrize("model", [MAIN, BAYES, FOUR_FITTED])
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


def test_intervals_of_the_twin_cover_what_they_promise(stored):
    t = interval_table(stored[0]["predictions"]).query("benchmark == 'twin' and model == @MAIN")
    assert 0.85 < t[t.ion == "all"].coverage.iloc[0] < 0.95 and (t.coverage >= 0.75).all()


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
    draw_figures(with_answer(stored[0]), stored[1], tmp_path)
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
    record, text = metrics(*read_tables())
    for word in ("NF270", "synthetic", "seed 0", "commit", FOUR_FITTED, "constant", "Claims", MAIN):
        assert word in text
    assert json.loads(json.dumps(record))["provenance"]["data"] == stored[1]["data"]
    assert stored[1]["read"][-1]["commit"] == stored[1]["commit"]
    shipped = json.loads(asset("results/claims.json").read_text())
    assert shipped["provenance"] == stored[1] and shipped["claims"] == json.loads(json.dumps(record["claims"]))


def test_an_unknown_profile_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="expected one of quick, full"):
        reproduce("fast", tmp_path / "x")
    assert not (tmp_path / "x").exists()

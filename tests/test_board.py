"""Whole compositions and laboratories held out: nobody learns from what it is scored on, tables belong to the code."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from ion_ode.inference.answer import load_answer
from ion_ode.inference.score import predicted
from ion_ode.results import seal
from ion_ode.results.baselines import predict_constant, predict_nearest
from ion_ode.results.board import read_board
from ion_ode.results.protocol import CONSTANT, ENTRANTS, NEAREST, OWN, PER_ION, POSTERIOR, PROTOCOL, SECOND, fold_rows
from ion_ode.results.tables import read_draws
from ion_ode.results.verdicts import against, board_scores, for_my_water, run_error, standing
from ion_ode.training.rivals import SpieglerKedem


@pytest.fixture(scope="module")
def told():
    return read_board()


@pytest.mark.parametrize("split,name", PROTOCOL.folds())
def test_a_fold_is_whole_and_nobody_learns_from_it(split, name):
    whole, train, test = fold_rows(name)
    column = "composition" if split == "compositions" else "source_id"
    assert set(test[column]) == {name} and name not in set(whole[column]) and name not in set(train[column])
    assert train.index.isin(whole.index).all() and np.isfinite(test.flux_m_s).all() and len(test) > 5


def test_every_entrant_answers_every_row_of_every_fold_once(told):
    t = told["board"]
    for split, name in PROTOCOL.folds():
        of = t[(t.split == split) & (t.fold == name)]
        rows = set(fold_rows(name)[2].index)
        for model in ENTRANTS:
            mine = of[of.model == model]
            assert len(mine) == len(rows) and set(mine.row_id) == rows and np.isfinite(mine.predicted).all()
    assert set(told["board_own"].model) == set(OWN) and set(told["board_own"].own) == {0, 1}


@pytest.mark.parametrize("name", ["E", "wang2023"])
def test_stored_answers_are_those_of_the_functions_that_ship(told, name):
    _, train, test = fold_rows(name)
    t = told["board"][told["board"].fold == name].set_index(["model", "row_id"])
    kept = lambda m, c="predicted": t.loc[m][c].reindex(test.index).to_numpy()
    assert_allclose(kept(CONSTANT), predict_constant(train, test), rtol=1e-4)
    assert_allclose(kept(NEAREST), predict_nearest(train, test), rtol=1e-4)
    assert_allclose(1 - kept(PER_ION), 1 - SpieglerKedem().fit(train).predict(test), rtol=1e-3)
    p = predicted(load_answer(f"without-{name}"), test)
    for column in ("predicted", "lower", "upper"):
        assert_allclose(1.05 - kept(POSTERIOR, column), 1.05 - p[column], rtol=1e-3)


def test_the_sampler_moves_no_verdict_by_more_than_its_error_says(told):
    folds = board_scores(told["board"])
    s = standing(folds).set_index(["split", "model"])
    for split, error in run_error(folds).items():
        a, b = (s.loc[(split, m), "mse"] for m in ENTRANTS[:2])
        assert error > 0 and abs(a - b) < 4 * np.sqrt(2) * error
    assert s.mse.min() > 0 and (s.low <= s.mse).all() and (s.mse <= s.high).all()


def test_draws_of_the_sampler_stand_beside_the_stored_comparison(told):
    s = board_scores(told["board"]).groupby(["split", "model"]).mse.mean()
    for (split, model), runs in read_draws().groupby(["split", "model"]):
        kept = s[split, SECOND if model == POSTERIOR else model]
        assert len(runs) == 3 and abs(runs.xs("comparison", level="run").item() - kept) < 1e-4


def test_verdicts_follow_their_intervals():
    fold = lambda m, v: pd.DataFrame({"split": "s", "model": m, "fold": list("ABCDE"), "mse": v})
    folds = pd.concat([fold("low", [0.1] * 5), fold("high", [0.2] * 5), fold("near", [0.0, 0.0, 0.0, 0.0, 0.6])])
    verdict = lambda a, b: against(folds, "s", a, b)["verdict"]
    assert verdict("low", "high") == "holds" and verdict("high", "low") == "does not hold"
    assert verdict("low", "near") == "direction only" or verdict("near", "low") == "direction only"


def test_words_for_a_water_follow_its_numbers(told):
    for r in for_my_water(told).itertuples(index=False):
        inside = float(r.inside.rstrip("%")) / 100
        want = "no" if inside < 0.85 else "yes" if r[1] < 0.1 else "the interval, not the number"
        assert r.trust == want


def test_tables_weights_and_code_belong_together():
    assert not seal.broken(), "\n".join(seal.broken())


def test_another_code_or_table_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(seal, "answers_digest", lambda: "another")
    assert [s for s in seal.broken() if s.startswith("board was made by") and "--only board --store" in s]
    monkeypatch.undo()
    monkeypatch.setattr(seal, "digest", lambda x: "0" * 64)
    assert any("board.csv" in s and "differ from their seal" in s for s in seal.broken())


def test_a_step_of_training_that_moved_is_named(monkeypatch):
    kept = seal.network_probe()
    assert not seal._moved(kept, {k: [x * (1 + 1e-5) for x in v] for k, v in kept.items()})
    moved = kept | {"CNN": [x + 0.01 for x in kept["CNN"]]}
    monkeypatch.setattr(seal, "network_probe", lambda: moved)
    assert any(s.startswith("CNN gives other numbers") and "--only networks --store" in s for s in seal.broken())

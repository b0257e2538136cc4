"""The scikit-learn face: recovery of what made the data, intervals, pipelines, cloning, refusals."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone, is_regressor
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from ion_ode import NF270, Film, InputError, simulate
from ion_ode.core import LMH
from ion_ode.estimator import DSPMDERegressor, NetworkRegressor

FEEDS = [{"Na+": 20, "Cl-": 20}, {"Mg+2": 10, "Cl-": 20}, {"Na+": 10, "Mg+2": 5, "Cl-": 20}, {"Na+": 20, "SO4-2": 10}]
TRUTH = simulate(FEEDS, np.array([5, 15, 40]) * LMH).to_frame()
X = pd.DataFrame(FEEDS).fillna(0).add_suffix(" [mM]").iloc[TRUTH["sample"]].reset_index(drop=True)
X = X.assign(**{"flux [LMH]": TRUTH.flux_m_s / LMH, "ion": TRUTH.ion})
y = TRUTH.rejection.to_numpy()
SMALL = DSPMDERegressor(free=("r_pore",), n_starts=1, folds=0)


def test_recovers_the_membrane_and_predicts_in_the_order_of_the_rows():
    m = clone(SMALL).fit(X, y)
    assert_allclose(m.membrane_.r_pore, NF270.r_pore, rtol=1e-4)
    assert_allclose(m.predict(X), y, rtol=1e-3)
    shuffled = X.sample(frac=1, random_state=0)
    assert_allclose(m.predict(shuffled), y[shuffled.index], rtol=1e-3)


def test_observed_rows_are_seen_through_the_film():
    film = simulate(FEEDS[1], 40 * LMH, film=Film(thickness=25e-6)).rejection[0, 0]
    m = clone(SMALL).fit(X, y)
    asked = X[(TRUTH["sample"] == 1) & (X["flux [LMH]"] > 30)]
    got = m.predict(pd.concat([asked.assign(kind="observed"), asked.assign(kind="intrinsic")]))
    assert_allclose(got[: len(asked)], film, rtol=1e-3)
    assert (got[: len(asked)] < got[len(asked) :]).all()


def test_interval_holds_the_stated_share_and_widens_with_the_level():
    noisy = np.minimum(y + np.random.default_rng(0).normal(0, 0.03, len(y)), 1.0)
    m = clone(SMALL).set_params(folds=2).fit(X, noisy)
    lower, upper = m.predict_interval(X, 0.9).T
    assert ((lower <= noisy) & (noisy <= upper)).mean() >= 0.8 and (upper <= 1).all()
    wide = m.predict_interval(X, 0.95)
    assert (wide[:, 0] <= lower).all()
    with pytest.raises(InputError, match="support at most"):
        m.predict_interval(X, 0.999)
    with pytest.raises(InputError, match="folds=2"):
        clone(SMALL).fit(X, y).predict_interval(X)


def test_pipeline_and_cross_validation():
    "Whole feeds are held out; the parameters reach the step through the pipeline."
    pipe = make_pipeline(FunctionTransformer(), SMALL)
    scores = cross_validate(pipe, X, y, groups=TRUTH["sample"], cv=GroupKFold(2), scoring="neg_mean_absolute_error", error_score="raise")
    assert (scores["test_score"] > -0.01).all(), "data of the model itself, whole feeds held out"
    pipe.set_params(dspmderegressor__n_starts=2)
    assert pipe.get_params()["dspmderegressor__n_starts"] == 2 and is_regressor(SMALL)


def test_network_trains_and_warns_outside_what_it_has_seen():
    plan = {"steps": 2, "lr": 1e-3}
    n = NetworkRegressor({"members": 1, "n_curves": 8, "n_flux": 4, "pretraining_batch": 4, "pretraining": plan, "finetuning": plan, "batch": 4})
    assert clone(n).get_params() == n.get_params()
    R = n.fit(X, y).predict(X)
    assert R.shape == y.shape and np.isfinite(R).all() and (R <= 1).all()
    with pytest.warns(UserWarning, match=r"above the trained 0 to 40 \(by 150%\)"):
        n.predict(X.assign(**{"flux [LMH]": 100.0}))


@pytest.mark.parametrize(
    "change,words",
    {
        "no ion": (lambda d: d.drop(columns="ion"), "columns ion"),
        "no flux": (lambda d: d.drop(columns="flux [LMH]"), "flux"),
        "an array": (lambda d: d.to_numpy(), "DataFrame"),
        "ion not in the feed": (lambda d: d.assign(ion="K+"), "K\\+"),
        "kind": (lambda d: d.assign(kind="guessed"), "guessed"),
    }.values(),
)
def test_refusals(change, words):
    with pytest.raises(InputError, match=words):
        clone(SMALL).fit(change(X), y)
    with pytest.raises(InputError, match="finite"):
        clone(SMALL).fit(X, y * np.nan)

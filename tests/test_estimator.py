"""The scikit-learn face: recovery of what made the data, intervals, pipelines, cloning, refusals."""

import pickle

import numpy as np
import pandas as pd
import pytest
from example_set import simulate
from numpy.testing import assert_allclose
from sklearn.base import clone, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from ion_ode import NF270_WATERTAP, Film, InputError
from ion_ode.core import LMH
from ion_ode.estimator import DSPMDERegressor, NetworkRegressor

FEEDS = [{"Na+": 20, "Cl-": 20}, {"Mg+2": 10, "Cl-": 20}, {"Na+": 10, "Mg+2": 5, "Cl-": 20}, {"Na+": 20, "SO4-2": 10}]
TRUTH = simulate(FEEDS, np.array([5, 15, 40]) * LMH).to_frame()
X = pd.DataFrame(FEEDS).fillna(0).add_suffix(" [mM]").iloc[TRUTH["sample"]].reset_index(drop=True)
X = X.assign(**{"flux [LMH]": TRUTH.flux_m_s / LMH, "ion": TRUTH.ion, "kind": "intrinsic"})
y = TRUTH.rejection.to_numpy()
SMALL = DSPMDERegressor(free=("r_pore",), n_starts=1, folds=0)


def test_recovers_the_membrane_and_predicts_in_the_order_of_the_rows():
    m = clone(SMALL).fit(X, y)
    assert_allclose(m.membrane_.r_pore, NF270_WATERTAP.r_pore, rtol=1e-4)
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


WITHOUT_ARRAYS = [
    "cloneable", "do_not_raise_errors_in_init_or_set_params", "get_params_invariance", "mixin_order",
    "no_attributes_set_in_init",
    "parameters_default_constructible", "repr", "set_params", "tags_renamed", "unfitted",
]  # fmt: skip


@pytest.mark.parametrize("model", [DSPMDERegressor(), NetworkRegressor()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("check", WITHOUT_ARRAYS)
def test_scikit_learn_s_own_checks(check, model):
    "All that need no array of numbers; the regressors say of themselves that they take a table with named columns."
    names = [f"check_{kind}_{check}" for kind in ("estimator", "estimators")] + [f"check_{check}"]
    (run,) = [getattr(estimator_checks, n) for n in names if hasattr(estimator_checks, n)]
    run(type(model).__name__, model)
    assert not model.__sklearn_tags__().input_tags.two_d_array


def test_what_scikit_learn_asks_with_arrays_holds_for_tables():
    """Fitting returns self, is idempotent, changes neither data nor parameters; what is fitted survives a pickle; a
    subset is predicted alike."""
    before, m = X.copy(), clone(SMALL)
    params = m.get_params()
    assert m.fit(X, y) is m and m.get_params() == params
    R = m.predict(X)
    pd.testing.assert_frame_equal(X, before)
    assert_allclose(m.fit(X, y).predict(X), R, rtol=1e-12)
    assert_allclose(pickle.loads(pickle.dumps(m)).predict(X), R, rtol=1e-12)
    assert_allclose(np.concatenate([m.predict(X[k : k + 5]) for k in range(0, len(X), 5)]), R, rtol=1e-6)
    assert m.n_features_in_ == X.shape[1] and m.score(X, y) > 0.999
    with pytest.raises(NotFittedError):
        clone(SMALL).predict(X)


def test_pipeline_and_cross_validation():
    "Whole feeds are held out; the parameters reach the step through the pipeline."
    pipe = make_pipeline(FunctionTransformer(), SMALL)
    scores = cross_validate(
        pipe, X, y, groups=TRUTH["sample"], cv=GroupKFold(2), scoring="neg_mean_absolute_error", error_score="raise"
    )
    assert (scores["test_score"] > -0.01).all(), "data of the model itself, whole feeds held out"
    pipe.set_params(dspmderegressor__n_starts=2)
    assert pipe.get_params()["dspmderegressor__n_starts"] == 2 and is_regressor(SMALL)


def test_network_trains_and_warns_outside_what_it_has_seen():
    plan = {"steps": 2, "lr": 1e-3}
    n = NetworkRegressor(
        {
            "members": 1,
            "n_curves": 8,
            "n_flux": 4,
            "pretraining_batch": 4,
            "pretraining": plan,
            "finetuning": plan,
            "batch": 4,
        }
    )
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

"""Scikit-learn regressors on the pore model and on the networks: fit, predict, predict_interval

Docs: https://ion-ode.github.io/ion_ode/guides/scikit_learn.html.md"""

# A row of X is one question: which ion, out of which feed, at which flux; y is its rejection. Intervals rest on the errors
# of predictions for feeds that were left out in turn.

import numpy as np
import pandas as pd
import torch

from ion_ode.core import InputError, need
from ion_ode.dspmde.feed import read_feed
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.solve import simulate
from ion_ode.water.feeds import flux_of
from ion_ode.inference.fit import FOUR, fit_membrane
from ion_ode.water.ions import ion_name
from ion_ode.dspmde.membranes import NF270
from ion_ode.training.recipe import TrainConfig
from ion_ode.training.train import train
from ion_ode.stats import conformal_quantile

need("sklearn", "screen")
from sklearn.base import BaseEstimator, RegressorMixin, clone  # noqa: E402
from sklearn.model_selection import GroupKFold, cross_val_predict  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402

__all__ = ["DSPMDERegressor", "NetworkRegressor"]


class _Questions:
    "Rows of X in SI: what is asked, of which feed, at which flux; equal feeds and equal states are numbered."

    def __init__(self, X: pd.DataFrame, balance: str | None):
        if not isinstance(X, pd.DataFrame) or "ion" not in X:
            raise InputError(
                "X is one row a measured rejection: a DataFrame with the columns ion, 'flux [LMH]' and one an ion of the feed, "
                "such as 'Na+ [mM]' (and, if known, kind: observed or intrinsic)"
            )
        table = X.drop(columns=["ion", "kind"], errors="ignore").reset_index(drop=True)
        self.ions, self.c_feed = read_feed(table, balance=balance)
        self.flux = np.asarray(flux_of(table, None), dtype=float)[:, 0]
        self.asked = [ion_name(i) for i in X["ion"]]
        if strange := sorted({i for i in self.asked if i not in self.ions}):
            raise InputError(f"X asks for {', '.join(strange)}, which no column of the feed names; it names {', '.join(self.ions)}")
        self.column = np.array([self.ions.index(i) for i in self.asked])
        kind = X["kind"].to_numpy() if "kind" in X else np.full(len(X), "intrinsic")
        if strange := sorted(set(kind) - {"observed", "intrinsic"}):
            raise InputError(f"kind is {strange[0]!r}; expected observed (against the bulk feed) or intrinsic (against the wall)")
        self.observed = kind == "observed"
        self.kind = np.where(self.observed, "observed", "intrinsic")
        self.feed = np.unique(self.c_feed.numpy(), axis=0, return_inverse=True)[1].ravel()
        states = np.column_stack([self.c_feed.numpy(), self.flux, self.observed])
        _, self.first, self.state = np.unique(states, axis=0, return_index=True, return_inverse=True)
        self.state = self.state.ravel()

    def pick(self, rejection) -> np.ndarray:
        "The asked ion of every row, from (state, ion)."
        return np.asarray(rejection)[self.state, self.column]


class _RejectionRegressor(RegressorMixin, BaseEstimator):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # a table whose columns have names and units
        tags.target_tags.required = True
        return tags

    def fit(
        self,
        X: pd.DataFrame,  # One row a rejection: ion, 'flux [LMH]', a column an ion of the feed with its unit, kind
        y,  # Rejections, fractions
    ):
        "Fit to measured rejections; then once more without each feed in turn, for the interval."
        q, y = _Questions(X, self.balance), np.asarray(y, dtype=float).ravel()
        if len(y) != len(X) or not np.isfinite(y).all():
            raise InputError(f"y holds {len(y)} rejections for {len(X)} rows; expected one finite fraction a row")
        self._fit(q, y)
        self.n_features_in_, self.feature_names_in_ = X.shape[1], np.array(X.columns, dtype=object)
        self.errors_ = None
        folds = min(self.folds, len(set(q.feed)))
        if folds > 1:
            again = clone(self).set_params(folds=0)
            self.errors_ = np.abs(y - cross_val_predict(again, X, y, groups=q.feed, cv=GroupKFold(folds)))
        return self

    def predict(
        self,
        X: pd.DataFrame,  # As for `fit`
    ) -> np.ndarray:  # (row,) rejection
        "Rejection of the asked ion of every row."
        check_is_fitted(self)
        q = _Questions(X, self.balance)
        return q.pick(self._predict(q))

    def predict_interval(
        self,
        X: pd.DataFrame,  # As for `fit`
        level: float = 0.9,  # Share of measurements of feeds not seen that the interval should hold
    ) -> np.ndarray:  # (row, 2) lower and upper end
        "Interval around `predict` from the errors on feeds that were left out."
        check_is_fitted(self)
        if self.errors_ is None:
            raise InputError("an interval rests on feeds that were left out: fit with folds=2 or more, on at least two feeds")
        half = conformal_quantile(self.errors_, level)
        if not np.isfinite(half):
            raise InputError(f"level is {level}; {len(self.errors_)} held-out errors support at most {len(self.errors_) / (len(self.errors_) + 1):.3f}")
        R = self.predict(X)
        return np.column_stack([R - half, np.minimum(R + half, 1.0)])


class DSPMDERegressor(_RejectionRegressor):
    "The pore model with fitted membrane parameters."

    def __init__(
        self,
        free=FOUR,  # Parameters to fit, as in `fit_membrane`
        start=None,  # Everything that is not free; None: NF270
        film=25e-6,  # Film in front of observed rejections: thickness [m]; None for none
        n_starts=3,  # Local searches
        balance=None,  # Ion that closes the charge balance of each feed
        folds=5,  # Groups of feeds left out in turn for the interval; 0: no interval
        seed=0,  # Of the search
    ):
        self.free, self.start, self.film, self.n_starts = free, start, film, n_starts
        self.balance, self.folds, self.seed = balance, folds, seed

    def _fit(self, q: _Questions, y: np.ndarray):
        rows = pd.DataFrame({"flux_m_s": q.flux, "ion": q.asked, "kind": q.kind, "rejection": y, "solution_id": q.feed, "state_id": q.state})
        rows["c_feed_mol_m3"] = q.c_feed.numpy()[np.arange(len(rows)), q.column]
        feeds = pd.DataFrame(q.c_feed.numpy(), columns=list(q.ions)).assign(solution_id=q.feed).drop_duplicates("solution_id")
        feeds = feeds.melt("solution_id", var_name="ion", value_name="c_feed_mol_m3")
        self.fit_ = fit_membrane(
            rows, self.free, start=self.start or NF270, film=self.film, n_starts=self.n_starts, seed=self.seed, feeds=feeds, intervals="none"
        )  # fmt: skip
        self.membrane_ = self.fit_.membrane

    def _predict(self, q: _Questions) -> np.ndarray:
        at = q.first
        film = None if self.film is None else Film(thickness=torch.from_numpy(np.where(q.observed[at], float(self.film), 0.0)))
        return simulate(q.c_feed[at], q.flux[at][:, None], self.membrane_, ions=q.ions, film=film).rejection[:, 0]


class NetworkRegressor(_RejectionRegressor):
    "An ensemble of networks, pre-trained on the pore model and fine-tuned on the rows."

    def __init__(
        self,
        config=None,  # TrainConfig, or a dict of the entries that differ from the default one
        balance=None,  # Ion that closes the charge balance of each feed
        folds=0,  # Groups of feeds left out in turn for the interval, each a training of its own; 0: no interval
    ):
        self.config, self.balance, self.folds = config, balance, folds

    def _fit(self, q: _Questions, y: np.ndarray):
        config = self.config or {}
        config = TrainConfig.from_dict(TrainConfig().to_dict() | config) if isinstance(config, dict) else config
        at = q.first
        c = q.c_feed.numpy()[at]
        wide = {f"feed {i} [mol/m3]": np.where(c[:, k] > 0, c[:, k], np.nan) for k, i in enumerate(q.ions)}
        R = np.full((len(at), len(q.ions)), np.nan)
        R[q.state, q.column] = y
        wide |= {f"R {i} [%]": 100 * R[:, k] for k, i in enumerate(q.ions) if np.isfinite(R[:, k]).any()}
        wide |= {"flux [m/s]": q.flux[at], "kind": q.kind[at], "solution": q.feed[at], "run": np.arange(len(at))}
        self.predictor_ = train(config, measurements=pd.DataFrame(wide))

    def _predict(self, q: _Questions) -> np.ndarray:
        at = q.first
        table = self.predictor_.predict(q.c_feed[at], q.flux[at][:, None], ions=q.ions)
        return table.pivot(index="sample", columns="ion", values="rejection").reindex(index=range(len(at)), columns=list(q.ions)).to_numpy()

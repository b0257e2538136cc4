"""Scikit-learn regressors on the pore model and on the networks: fit, predict, predict_interval

Docs: https://ion-ode.github.io/ion_ode/guides/scikit_learn.html.md"""

# A row of X is one question: which ion, out of which feed, at which flux; y is its rejection. Intervals rest on the
# errors of predictions for feeds that were left out in turn.

import numpy as np
import pandas as pd
import torch

from ion_ode.core import InputError, need
from ion_ode.data.measurements import Measurements
from ion_ode.data.reader import read_measurements
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.solve import simulate
from ion_ode.inference.fit import fit_membrane
from ion_ode.inference.scales import FOUR
from ion_ode.dspmde.membranes import NF270_WATERTAP
from ion_ode.training.recipe import TrainConfig
from ion_ode.training.run import train
from ion_ode.stats import conformal_quantile

need("sklearn", "screen")
from sklearn.base import BaseEstimator, RegressorMixin, clone  # noqa: E402
from sklearn.model_selection import GroupKFold, cross_val_predict  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402

__all__ = ["DSPMDERegressor", "NetworkRegressor"]


def _questions(X: pd.DataFrame, y, balance: str | None) -> Measurements:
    "Rows of X as measurements, in their order: what is asked, of which feed, at which flux."
    if not isinstance(X, pd.DataFrame) or "ion" not in X:
        raise InputError(
            "X is one row a measured rejection: a DataFrame with the columns ion, 'flux [LMH]' and one an ion of the "
            "feed, "
            "such as 'Na+ [mM]' (and, if known, kind: observed or intrinsic)"
        )
    table = X.reset_index(drop=True)
    state = table.drop(columns="ion").astype(str).agg("/".join, axis=1)
    again = table.astype(str).groupby([*map(str, table.columns)], sort=False).cumcount() if len(table) else 0
    table = table.assign(run=state + "/" + again.astype(str), rejection=y)
    return read_measurements(table.assign(kind=table["kind"] if "kind" in table else "observed"), balance=balance)


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
        y = np.asarray(y, dtype=float).ravel()
        if len(y) != len(X) or not np.isfinite(y).all():
            raise InputError(f"y holds {len(y)} rejections for {len(X)} rows; expected one finite fraction a row")
        m = _questions(X, y, self.balance)
        self._fit(m)
        self.n_features_in_, self.feature_names_in_ = X.shape[1], np.array(X.columns, dtype=object)
        self.errors_ = None
        feed = np.unique(m.c_feed, axis=0, return_inverse=True)[1].ravel()[m.state]
        folds = min(self.folds, len(set(feed)))
        if folds > 1:
            again = clone(self).set_params(folds=0)
            self.errors_ = np.abs(y - cross_val_predict(again, X, y, groups=feed, cv=GroupKFold(folds)))
        return self

    def predict(
        self,
        X: pd.DataFrame,  # As for `fit`
    ) -> np.ndarray:  # (row,) rejection
        "Rejection of the asked ion of every row."
        check_is_fitted(self)
        m = _questions(X, 0.0, self.balance)
        return np.asarray(self._predict(m))[m.state, m.ion]

    def predict_interval(
        self,
        X: pd.DataFrame,  # As for `fit`
        level: float = 0.9,  # Share of measurements of feeds not seen that the interval should hold
    ) -> np.ndarray:  # (row, 2) lower and upper end
        "Interval around `predict` from the errors on feeds that were left out."
        check_is_fitted(self)
        if self.errors_ is None:
            raise InputError(
                "an interval rests on feeds that were left out: fit with folds=2 or more, on at least two feeds"
            )
        half = conformal_quantile(self.errors_, level)
        if not np.isfinite(half):
            raise InputError(
                f"level is {level}; {len(self.errors_)} held-out errors support at most "
                f"{len(self.errors_) / (len(self.errors_) + 1):.3f}"
            )
        R = self.predict(X)
        return np.column_stack([R - half, np.minimum(R + half, 1.0)])


class DSPMDERegressor(_RejectionRegressor):
    "The pore model with fitted membrane parameters."

    def __init__(
        self,
        free=FOUR,  # Parameters to fit, as in `fit_membrane`
        start=None,  # Everything that is not free; None: NF270_WATERTAP
        film=25e-6,  # Film in front of observed rejections: thickness [m]; None for none
        n_starts=3,  # Local searches
        balance=None,  # Ion that closes the charge balance of each feed
        folds=5,  # Groups of feeds left out in turn for the interval; 0: no interval
        seed=0,  # Of the search
    ):
        self.free, self.start, self.film, self.n_starts = free, start, film, n_starts
        self.balance, self.folds, self.seed = balance, folds, seed

    def _fit(self, m: Measurements):
        self.fit_ = fit_membrane(
            m,
            self.free,
            start=self.start or NF270_WATERTAP,
            film=self.film,
            n_starts=self.n_starts,
            seed=self.seed,
            intervals="none",
        )
        self.membrane_ = self.fit_.membrane

    def _predict(self, m: Measurements) -> np.ndarray:
        thick = torch.from_numpy(m.film_or(self.film))
        film = Film(thickness=thick) if (thick > 0).any() else None
        c_feed, flux, temperature = (torch.tensor(v) for v in (m.c_feed, m.flux, m.temperature))
        return simulate(
            c_feed, flux[:, None], self.membrane_, ions=m.ions, film=film, temperature=temperature
        ).rejection[:, 0]


class NetworkRegressor(_RejectionRegressor):
    "An ensemble of networks, pre-trained on the pore model and fine-tuned on the rows."

    def __init__(
        self,
        config=None,  # TrainConfig, or a dict of the entries that differ from the default one
        balance=None,  # Ion that closes the charge balance of each feed
        folds=0,  # Groups of feeds left out in turn for the interval, each a training of its own; 0: no interval
    ):
        self.config, self.balance, self.folds = config, balance, folds

    def _fit(self, m: Measurements):
        config = self.config or {}
        config = TrainConfig.from_dict(TrainConfig().to_dict() | config) if isinstance(config, dict) else config
        self.predictor_ = train(config, measurements=m)

    def _predict(self, m: Measurements) -> np.ndarray:
        table = self.predictor_.predict(torch.tensor(m.c_feed), torch.tensor(m.flux)[:, None], ions=m.ions)
        return (
            table.pivot(index="sample", columns="ion", values="rejection")
            .reindex(index=range(m.n_states), columns=list(m.ions))
            .to_numpy()
        )

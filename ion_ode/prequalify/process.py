"""One measured quantity over recipes in mixed columns: a Gaussian process with its leave-out errors and intervals"""

import warnings

import numpy as np
import pandas as pd
import torch

from ion_ode.core import need, progress
from ion_ode.prequalify.encoder import Encoder
from ion_ode.prequalify.kernels import _likeness, _recipe_kernel
from ion_ode.prequalify.weighting import group_folds

_SEARCH = {"maxiter": 200, "ftol": 1e-6}  # Of a mean over membranes: 1e-3 of a logarithm of likelihood


class Process:
    "A Gaussian process of one measured quantity over recipes."

    def __init__(self, encoder: Encoder):
        self.encoder = encoder

    def fit(
        self,
        d: pd.DataFrame,  # Recipes
        y: np.ndarray,  # (n,) measured, on the scale that is modelled
        variance: np.ndarray | None = None,  # (n,) of the mean of the replicates; None: not known
        state: dict | None = None,  # Kernel numbers of an earlier fit; None: search
        start: dict | None = None,  # Kernel numbers to search from
    ) -> "Process":
        "Most likely kernel, then everything that prediction needs."
        if state is not None:
            return self._set(d, y, variance, state)._solve()
        return _fit_together([self._set(d, y, variance, start)])[0]

    def _set(self, d, y, variance=None, known: dict | None = None, likeness: tuple | None = None) -> "Process":
        "Measurements and a kernel, numbers as they are known."
        self.x, self.y = self.encoder(d), np.asarray(y, float)
        self.mean, self.sd = float(self.y.mean()), float(self.y.std() or 1.0)
        self.variance = np.zeros(len(y)) if variance is None else np.nan_to_num(np.asarray(variance, float))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = self._build(likeness)
        if known is not None:
            self._load(known)
        return self

    def _build(self, likeness: tuple | None):
        likelihoods = need("gpytorch.likelihoods", "campaign")
        floor = np.maximum(self.variance / self.sd**2, 1e-6)
        likelihood = likelihoods.FixedNoiseGaussianLikelihood(torch.tensor(floor), learn_additional_noise=True)
        scatter = likelihood.second_noise_covar  # between membranes of one recipe, beyond their replicates
        scatter.initialize(noise=0.1)
        prior = need("gpytorch.priors", "campaign").LogNormalPrior(-2.0, 0.7)
        scatter.register_prior("noise_prior", prior, lambda m: m.noise, lambda m, v: m.initialize(noise=v))
        target = torch.tensor((self.y - self.mean) / self.sd)[:, None]
        gp = need("botorch.models", "campaign").SingleTaskGP
        kernel = _recipe_kernel(self.encoder, likeness)
        return gp(self.x, target, likelihood=likelihood, covar_module=kernel, outcome_transform=None)

    @property
    def state(self) -> dict[str, list]:
        "Numbers of the kernel, the mean and the noise."
        return {k: v.detach().reshape(-1).tolist() for k, v in self.model.named_parameters()}

    def _load(self, state: dict):
        with torch.no_grad():
            for k, p in self.model.named_parameters():
                if k in state and len(state[k]) == p.numel():
                    p.copy_(torch.tensor(state[k], dtype=p.dtype).reshape(p.shape))

    def _solve(self) -> "Process":
        "Inverse of the covariance of the measurements: prediction and leave-out errors are read off it."
        self.model.eval()
        with torch.no_grad():
            k = self.model.covar_module(self.x).to_dense().numpy()
            self.constant = float(self.model.mean_module.constant)
            self.scatter = float(self.model.likelihood.second_noise)
        noise = self.scatter + np.maximum(self.variance / self.sd**2, 1e-6)
        self.inverse = np.linalg.inv(k + np.diag(noise))
        self.alpha = self.inverse @ ((self.y - self.mean) / self.sd - self.constant)
        return self

    def predict(
        self,
        d: pd.DataFrame,  # Recipes
    ) -> tuple[np.ndarray, np.ndarray]:  # Mean, spread of a new membrane
        "Of a new membrane of these recipes."
        x = self.encoder(d)
        with torch.no_grad():
            k = self.model.covar_module(x, self.x).to_dense().numpy()
            own = self.model.covar_module(x, diag=True).numpy()
        noise = self.scatter + self.variance.mean() / self.sd**2
        spread = own + noise - np.einsum("ij,jk,ik->i", k, self.inverse, k)
        return self.mean + self.sd * (self.constant + k @ self.alpha), self.sd * np.sqrt(np.maximum(spread, 1e-9))

    def as_made(self) -> np.ndarray:
        "What the measured membranes are, the noise of their replicates taken out and nothing else."
        return self.y - self.sd * np.maximum(self.variance / self.sd**2, 1e-6) * self.alpha

    def leave_out(
        self,
        groups=None,  # (n,) labels that are left out together; None: each row alone
    ) -> tuple[np.ndarray, np.ndarray]:  # Mean and spread of each row without its group
        "What the process would have predicted without a group, kernel as it is (Rasmussen, Williams 2006, Eq. 5.12)."
        groups = np.arange(len(self.y)) if groups is None else np.asarray(groups)
        mean, spread = np.empty(len(self.y)), np.empty(len(self.y))
        for g in pd.unique(pd.Series(groups)):
            i = np.flatnonzero(groups == g)
            block = np.linalg.inv(self.inverse[np.ix_(i, i)])
            mean[i] = self.y[i] - self.sd * (block @ self.alpha[i])
            spread[i] = self.sd * np.sqrt(np.diag(block))
        return mean, spread

    def fit_out(
        self,
        d: pd.DataFrame,  # The recipes of `fit`
        groups=None,  # (n,) labels that are left out together; None: each row alone
        n_folds: int = 5,
        seed: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:  # Mean and spread of each row by a process that has not seen its group
        "As `leave_out`, the kernel searched again without the fold: what intervals are calibrated on."
        mean, spread = np.empty(len(self.y)), np.empty(len(self.y))
        for out in group_folds(np.arange(len(self.y)) if groups is None else groups, n_folds, seed):
            p = Process(self.encoder).fit(d[~out], self.y[~out], self.variance[~out], start=self.state)
            mean[out], spread[out] = p.predict(d[out])
        return mean, spread


def _fit_together(
    processes: list[Process],  # Set, one a measured quantity; those that share a likeness find one for all
) -> list[Process]:
    "The most likely numbers of several quantities at once (L-BFGS of BoTorch), then everything prediction needs."
    if len(processes) == 1:
        model = processes[0].model
        mll = need("gpytorch.mlls", "campaign").ExactMarginalLogLikelihood(model.likelihood, model)
        fit = lambda: need("botorch.fit", "campaign").fit_gpytorch_mll(mll, optimizer_kwargs={"options": _SEARCH})
    else:
        models = need("botorch.models", "campaign").ModelListGP(*(p.model for p in processes)).train()
        mll = need("gpytorch.mlls", "campaign").SumMarginalLogLikelihood(models.likelihood, models).train()
        fit = lambda: need("botorch.optim.fit", "campaign").fit_gpytorch_mll_scipy(mll, options=_SEARCH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit()
    return [p._solve() for p in processes]


def fit_quantities(
    encoder: Encoder,  # Fitted
    parts: dict[str, tuple],  # Quantity: recipes, values as modelled, variances of their means
    start: dict | None = None,  # Quantity: kernel numbers to search from
) -> dict[str, Process]:
    "A process for each quantity of the same recipes; what makes two recipes alike is found from all of them (Eq. 6.4)."
    likeness = _likeness(encoder, len(parts))
    known = lambda m: (start or {}).get(m)
    found = {m: Process(encoder)._set(*p, known(m), likeness) for m, p in parts.items()}
    return dict(zip(found, _fit_together(list(found.values())), strict=True))


def predict_out(
    processes: dict[str, Process],  # Fitted together
    parts: dict[str, tuple],  # As in `fit_quantities`, rows numbered alike in all
    n_folds: int = 5,
    seed: int = 0,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:  # Mean and spread of each row by processes that have not seen it
    "Every recipe by processes searched again without its fold: what intervals are calibrated on."
    found = {m: p.leave_out() for m, p in processes.items()}  # stays where a fold holds all that is known of one
    encoder, start = next(iter(processes.values())).encoder, {m: p.state for m, p in processes.items()}
    rows = sorted({i for d, _, _ in parts.values() for i in d.index})
    for out in progress(list(group_folds(rows, n_folds, seed)), "membranes left out"):
        gone = {m: d.index.isin(np.array(rows)[out]) for m, (d, _, _) in parts.items()}
        kept = {m: tuple(v[~gone[m]] for v in p) for m, p in parts.items()}
        for m, p in fit_quantities(encoder, {m: p for m, p in kept.items() if len(p[1]) > 1}, start).items():
            if gone[m].any():
                found[m][0][gone[m]], found[m][1][gone[m]] = p.predict(parts[m][0][gone[m]])
    return found

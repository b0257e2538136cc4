"""One measured quantity over recipes in mixed columns: a Gaussian process with its leave-out errors and intervals"""

import warnings

import numpy as np
import pandas as pd
import torch

from ion_ode.core import InputError, need
from ion_ode.prequalify.monomers import alike
from ion_ode.prequalify.tables import NONE, Schema, _number

_SCALES = {
    "linear": lambda v, unit: v,
    "log": lambda v, unit: np.log(np.maximum(v, 1e-3 * unit)),
    "log1p": lambda v, unit: np.log1p(np.maximum(v, 0) / unit),
}  # `unit` is the smallest positive value measured


class Encoder:
    "Recipes as rows of numbers between 0 and 1, then codes of categories, monomers and laboratories."

    def __init__(self, schema: Schema, state: dict | None = None):
        self.schema, self.state = schema, state or {}
        pick = lambda kind: [c for c in schema.columns if c.kind == kind]
        self.numbers, self.categories, self.monomers = pick("number"), pick("category"), pick("monomer")

    def fit(self, d: pd.DataFrame) -> "Encoder":
        "Remember ranges, categories and monomers of the measured recipes."
        raw = {c.name: np.array([_number(v) for v in d[c.name]]) for c in self.numbers}
        positive = {k: v[v > 0] for k, v in raw.items()}
        self.state = {"unit": {k: float(v.min()) if len(v) else 1.0 for k, v in positive.items()}}
        self.state["codes"] = {c.name: sorted(set(d[c.name])) for c in (*self.categories, *self.monomers)}
        self.state["laboratories"] = sorted(set(d["laboratory"])) if "laboratory" in d else []
        x = self._amounts(d)
        self.state["low"] = [float(v) for v in np.nanmin(x, 0)] if len(self.names) else []
        self.state["high"] = [float(v) for v in np.nanmax(x, 0)] if len(self.names) else []
        self.state["blank"] = [bool(np.isnan(v).any()) for v in x.T]
        return self

    @property
    def names(self) -> list[str]:
        "Numbers of the encoding: the columns, and the ratio of the monomers if there is one."
        return [c.name for c in self.numbers] + ([" : ".join(self.schema.ratio)] if self.schema.ratio else [])

    def _amounts(self, d: pd.DataFrame) -> np.ndarray:
        raw = {c.name: np.array([_number(v) for v in d[c.name]], float) for c in self.numbers}
        unit = self.state["unit"]
        out = [_SCALES[c.scale](raw[c.name], unit[c.name]) for c in self.numbers]
        if self.schema.ratio:
            a, b = (np.maximum(raw[k], 1e-3 * unit[k]) for k in self.schema.ratio)
            out.append(np.log(a / b))
        return np.stack(out, 1) if out else np.zeros((len(d), 0))

    def __call__(self, d: pd.DataFrame) -> torch.Tensor:  # (n, feature)
        "Encode; a number that is not stated sits in the middle with its flag raised."
        s = self.state
        low, high = np.array(s["low"]), np.array(s["high"])
        x = (self._amounts(d) - low) / np.where(high > low, high - low, 1.0)
        blank = np.array(s["blank"], bool)
        parts = [np.nan_to_num(x, nan=0.5), np.isnan(x[:, blank]).astype(float)]
        for c in self.categories:
            codes = s["codes"][c.name]
            parts.append(np.array([[codes.index(v) if v in codes else len(codes)] for v in d[c.name]], float))
        for c in self.monomers:
            codes = s["codes"][c.name]
            codes += sorted(set(d[c.name]) - set(codes))
            parts.append(np.array([[codes.index(v)] for v in d[c.name]], float))
        labs = s["laboratories"]
        if len(labs) > 1:
            which = d["laboratory"] if "laboratory" in d else ["?"] * len(d)
            parts.append(np.array([[labs.index(v) if v in labs else len(labs)] for v in which], float))
        return torch.tensor(np.hstack(parts))

    def likeness(self, name: str) -> torch.Tensor:  # (monomer, monomer)
        "Of all monomers of a column seen so far."
        said = [v if v.lower() not in NONE else "" for v in self.state["codes"][name]]
        return torch.tensor(alike(said, said))

    @property
    def width(self) -> tuple[int, int]:  # Numbers with their flags; categories
        return len(self.names) + sum(self.state["blank"]), len(self.categories)

    def outside(self, d: pd.DataFrame) -> list[str]:
        "For each recipe, which numbers lie beyond the measured ones, '' if none."
        out = []
        x = self._amounts(d)
        for row, v in zip(x, d.to_dict("records"), strict=True):
            far = [
                k
                for k, c in enumerate(self.numbers)
                if np.isfinite(row[k]) and not self.state["low"][k] - 1e-9 <= row[k] <= self.state["high"][k] + 1e-9
            ]
            out.append(
                ", ".join(f"{self.numbers[k].name} {v[self.numbers[k].name]} beyond the measured range" for k in far)
            )
        return out


def _recipe_kernel(
    encoder: Encoder,  # Fitted
):  # A kernel of GPyTorch over encoded recipes
    "Likeness of two membranes (Eq. P.1)."
    k = need("gpytorch.kernels", "campaign")
    Prior = need("gpytorch.priors", "campaign")
    categorical = need("botorch.models.kernels.categorical", "campaign").CategoricalKernel
    n, c = encoder.width
    wide = lambda: Prior.LogNormalPrior(0.0, 1.0)
    height = lambda kernel: k.ScaleKernel(kernel, outputscale_prior=Prior.GammaPrior(2.0, 2.0))
    numbers, at = tuple(range(n)), n
    parts = [k.MaternKernel(nu=1.5, ard_num_dims=n, active_dims=numbers, lengthscale_prior=wide())] if n else []
    for _ in range(c):
        parts.append(categorical(active_dims=(at,), lengthscale_prior=wide()))
        at += 1
    for m in encoder.monomers:
        parts.append(_monomer_kernel()(encoder, m.name, active_dims=(at,), lengthscale_prior=wide()))
        at += 1
    product = parts[0]
    for p in parts[1:]:
        product = product * p
    total = height(product)
    if len(parts) > (1 if n else 0) and n:  # what is common to a category or monomer, whatever the amounts
        common = parts[1]
        for p in parts[2:]:
            common = common * p
        total = total + height(common)
    if n:
        total = total + height(k.LinearKernel(active_dims=numbers))
    if len(encoder.state["laboratories"]) > 1:
        own = lambda: categorical(active_dims=(at,), lengthscale_prior=wide())
        total = total * own() + height(own())
    return total


def _monomer_kernel():
    "The kernel class of monomers, exp(-(1 - likeness) / length), made where GPyTorch is there."
    Kernel = need("gpytorch.kernels", "campaign").Kernel

    class MonomerKernel(Kernel):
        has_lengthscale = True

        def __init__(self, encoder, name, **kw):
            super().__init__(**kw)
            self.encoder, self.column = encoder, name

        def forward(self, x1, x2, diag=False, **_):
            codes = self.encoder.state["codes"][self.column]
            if getattr(self, "known", 0) != len(codes):
                self.known, self.table = len(codes), self.encoder.likeness(self.column)
            i, j = x1[..., 0].long(), x2[..., 0].long()
            s = self.table[i, j] if diag else self.table[i.unsqueeze(-1), j.unsqueeze(-2)]
            out = torch.exp(-(1 - s) / self.lengthscale.squeeze(-1) if diag else -(1 - s) / self.lengthscale)
            return out

    return MonomerKernel


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
        self.x, self.y = self.encoder(d), np.asarray(y, float)
        self.mean, self.sd = float(self.y.mean()), float(self.y.std() or 1.0)
        self.variance = np.zeros(len(y)) if variance is None else np.nan_to_num(np.asarray(variance, float))
        self.model = self._build()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if state is not None:
                self._load(state)
            else:
                if start is not None:
                    self._load(start)
                mll = need("gpytorch.mlls", "campaign").ExactMarginalLogLikelihood(self.model.likelihood, self.model)
                need("botorch.fit", "campaign").fit_gpytorch_mll(mll, optimizer_kwargs={"options": {"maxiter": 200}})
        self.model.eval()
        return self._solve()

    def _build(self):
        likelihoods = need("gpytorch.likelihoods", "campaign")
        floor = np.maximum(self.variance / self.sd**2, 1e-6)
        likelihood = likelihoods.FixedNoiseGaussianLikelihood(torch.tensor(floor), learn_additional_noise=True)
        scatter = likelihood.second_noise_covar  # between membranes of one recipe, beyond their replicates
        scatter.initialize(noise=0.1)
        prior = need("gpytorch.priors", "campaign").LogNormalPrior(-4.0, 1.0)  # that of BoTorch for noise
        scatter.register_prior("noise_prior", prior, lambda m: m.noise, lambda m, v: m.initialize(noise=v))
        target = torch.tensor((self.y - self.mean) / self.sd)[:, None]
        gp = need("botorch.models", "campaign").SingleTaskGP
        return gp(
            self.x, target, likelihood=likelihood, covar_module=_recipe_kernel(self.encoder), outcome_transform=None
        )

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

    def leave_out(
        self,
        groups=None,  # (n,) labels that are left out together; None: each row alone
    ) -> tuple[np.ndarray, np.ndarray]:  # Mean and spread of each row without its group
        "What the process would have predicted without a group, kernel as it is (Eq. P.2)."
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


def group_folds(
    groups,  # (n,) labels that stay together
    n: int,  # Folds
    seed: int = 0,
) -> list[np.ndarray]:  # (n,) True where a row is left out
    "Folds that never split a group."
    groups = np.asarray(groups).astype(str)
    names = np.random.default_rng(seed).permutation(pd.unique(pd.Series(groups)))
    return [np.isin(groups, part) for part in np.array_split(names, min(n, len(names)))]


def weighted_quantile(
    ratio: np.ndarray,  # (m,) errors over their spreads, of membranes left out
    level: float,  # Coverage wanted
    weight: np.ndarray | None = None,  # (m,) how much each tells about the case at hand; None: all alike
) -> float:  # Times the spread is the half width
    "Conformal half width with weights (Eq. P.3); infinite where too few tell about the case."
    weight = np.ones(len(ratio)) if weight is None else np.asarray(weight, float)
    order = np.argsort(ratio)
    share = np.cumsum(weight[order]) / (weight.sum() + 1.0)
    at = np.searchsorted(share, level)
    return float(ratio[order][at]) if at < len(ratio) else np.inf

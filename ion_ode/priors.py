"""What is believed of numbers before they are measured: named marginals and one transform for all

Every number is a function of one standard normal number n, or of its quantile u = Phi(n); a table is asked by either,
in NumPy or in torch, differentiably."""

from dataclasses import dataclass

import numpy as np

from ion_ode._torch import Tensor, alike, library, torch

__all__ = ["Choice", "LogNormal", "LogUniform", "MarginalPrior", "Normal", "SinhNormal", "TruncatedNormal", "Uniform"]


def _special(x):
    "Where the normal distribution of these numbers is."
    if isinstance(x, Tensor):
        return torch.special
    import scipy.special

    return scipy.special


class _OfQuantile:
    "A marginal that is a function of the quantile."

    def at(self, n, u):
        "The number at a standard normal number n and its quantile u."
        return self.of_quantile(u)


class _OfNormal:
    "A marginal that is a function of the standard normal number."

    def at(self, n, u):
        "The number at a standard normal number n and its quantile u."
        return self.of_normal(n)

    def of_quantile(self, u):
        "The number at a quantile."
        return self.of_normal(_special(u).ndtri(u))


@dataclass(frozen=True)
class Uniform(_OfQuantile):
    "As likely anywhere between two ends."

    low: float
    high: float

    def of_quantile(self, u):
        "The number at a quantile."
        return self.low + u * (self.high - self.low)

    def quantile(self, x):
        "The quantile of a number."
        return (x - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class LogUniform(_OfQuantile):
    "As likely in any part of a decade between two ends."

    low: float
    high: float

    def of_quantile(self, u):
        "The number at a quantile."
        return self.low * (self.high / self.low) ** u

    def quantile(self, x):
        "The quantile of a number."
        return np.log(x / self.low) / np.log(self.high / self.low)


@dataclass(frozen=True)
class TruncatedNormal(_OfQuantile):
    "Normal between two ends."

    mean: float
    sd: float
    low: float
    high: float

    def of_quantile(self, u):
        "The number at a quantile."
        normal = _special(u)
        low, high = (normal.ndtr(alike((x - self.mean) / self.sd, u)) for x in (self.low, self.high))
        return self.mean + self.sd * normal.ndtri(low + u * (high - low))


@dataclass(frozen=True)
class Normal(_OfNormal):
    "Normal."

    mean: float
    sd: float

    def of_normal(self, n):
        "The number at a standard normal number."
        return self.mean + self.sd * n


@dataclass(frozen=True)
class LogNormal(_OfNormal):
    "A floor and what is log-normal above it."

    median: float  # Above the floor
    sd: float  # Of the logarithm
    floor: float = 0.0

    def of_normal(self, n):
        "The number at a standard normal number."
        return self.floor + self.median * library(n).exp(self.sd * n)


@dataclass(frozen=True)
class SinhNormal(_OfNormal):
    "scale sinh(stretch n): of either sign, as likely near zero as in any factor further out."

    scale: float
    stretch: float

    def of_normal(self, n):
        "The number at a standard normal number."
        return self.scale * library(n).sinh(self.stretch * n)


@dataclass(frozen=True)
class Choice(_OfQuantile):
    "One of several, by weights that sum to one."

    weights: tuple[float, ...]

    def of_quantile(self, u):
        "Which one, counted from 0."
        return np.searchsorted(np.cumsum(self.weights)[:-1], u, side="right")


class MarginalPrior:
    "A prior whose numbers are independent; what is one says its `marginals`, a field each or several."

    def marginals(self, names=None) -> dict:
        "Marginal of every number by name."
        raise NotImplementedError

    def at_normal(
        self,
        x,  # (n, number) standard normal numbers, array or tensor
        names: tuple[str, ...] | None = None,  # Numbers in the order of the columns; None: all
    ) -> dict:  # Name: (n,)
        "Numbers at standard normal numbers."
        u = _special(x).ndtr(x)
        return {k: m.at(x[:, j], u[:, j]) for j, (k, m) in enumerate(self.marginals(names).items())}

    def at_quantile(self, u, names: tuple[str, ...] | None = None) -> dict:
        "Numbers at quantiles, as `at_normal`."
        return {k: m.of_quantile(u[:, j]) for j, (k, m) in enumerate(self.marginals(names).items())}

    @classmethod
    def read(
        cls,
        record: dict,  # Fields by name, as JSON holds them
    ) -> "MarginalPrior":
        "The prior of a stored record."
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()})

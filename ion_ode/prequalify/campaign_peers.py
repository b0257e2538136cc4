"""What a campaign's process is compared with: nearest recipe, boosting, look-up by name"""

import warnings
from functools import partial

import numpy as np
import pandas as pd

from ion_ode.core import need
from ion_ode.prequalify.campaign import Campaign
from ion_ode.prequalify.monomers import alike
from ion_ode.prequalify.weighting import weighted_quantile
from ion_ode.prequalify.quantities import modelled

QUANTITIES = ("permeance", "rejection MgCl2", "rejection Na2SO4", "rejection NaCl", "rejection PEG400")


def _by_campaign(train: pd.DataFrame, test: pd.DataFrame, seed: int, level: float = 0.9) -> dict[str, pd.DataFrame]:
    "Predictions of `Campaign` on the logarithms, with their ends."
    p = Campaign(seed=seed).fit(train).predict(test, level)
    out = {}
    for m in QUANTITIES:
        ends = np.sort([modelled(p[f"{m} {e}"], m) for e in ("lower", "upper")], axis=0)
        out[m] = pd.DataFrame({"p": modelled(p[m], m), "lower": ends[0], "upper": ends[1]})
    return out


def _by_regressor(make, columns, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    "A model of scikit-learn on the recipe columns as they stand."
    x, z = (d[columns].to_numpy(float) for d in (train, test))
    mean, sd = x.mean(0), x.std(0) + 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length scale at its bound
        fit = {m: make(seed).fit((x - mean) / sd, modelled(train[header(m)], m)) for m in QUANTITIES}
    return {m: pd.DataFrame({"p": f.predict((z - mean) / sd)}) for m, f in fit.items()}


def header(m: str) -> str:
    "A measured quantity as the table of deng2022 writes it."
    return "permeance [LMH/bar]" if m == "permeance" else m


def peers() -> dict:
    "What the campaign is set beside, on the four columns as they stand: names and functions of train, test, seed."
    gp = need("sklearn.gaussian_process", "campaign")
    k = gp.kernels
    kernel = k.ConstantKernel(1.0) * k.Matern([1.0] * 4, (0.1, 100), nu=2.5) + k.WhiteKernel(0.1)
    plain = lambda s: gp.GaussianProcessRegressor(kernel, normalize_y=True, random_state=s)
    boosting = lambda s: need("sklearn.ensemble", "campaign").GradientBoostingRegressor(
        n_estimators=200, max_depth=3, learning_rate=0.08, subsample=0.7, random_state=s
    )
    nearest = lambda s: need("sklearn.neighbors", "campaign").KNeighborsRegressor(1)
    mean = lambda s: need("sklearn.dummy", "campaign").DummyRegressor()
    columns = ["PIP [wt%]", "TMC [wt%]", "SDS [mM]", "reaction time [s]"]
    made = {"mean": mean, "nearest recipe": nearest, "gradient boosting": boosting, "plain Gaussian process": plain}
    return {name: partial(_by_regressor, make, columns) for name, make in made.items()} | {"campaign": _by_campaign}


def _look_up(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    "Mean of the same monomers and salt, else of the salt, else of all."
    keys = ["amine", "acyl chloride", "third monomer", "salt"]
    t = train[keys].assign(y=y)
    by_name, _by_salt = t.groupby(keys).y.mean(), t.groupby("salt").y.mean()
    names = [tuple(r) for r in test[keys].to_numpy()]
    return np.array([by_name.get(n, _by_salt.get(n[3], y.mean())) for n in names])


def _by_salt(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    "Mean of the salt."
    means = pd.Series(y).groupby(train["salt"].to_numpy()).mean()
    return np.array([means.get(s, y.mean()) for s in test["salt"]])


def nearest(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    "The membrane of the most similar monomers, for the same salt."
    near = sum(
        alike(*(list(d[c].replace("none", "").map(drawn)) for d in (test, train))) for c in ("amine", "third monomer")
    )
    near = near + 5.0 * (test["salt"].to_numpy()[:, None] == train["salt"].to_numpy()[None])
    return y[near.argmax(1)]


def drawn(s: str) -> str:
    "A SMILES for every monomer of the literature table."
    from ion_ode.prequalify.monomers import monomer

    return monomer(s) if s else ""


def _boosted(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    "Morgan counts, amounts and salt, gradient boosting."
    known = {
        c: sorted(set(train[c].replace("none", "").map(drawn))) for c in ("amine", "acyl chloride", "third monomer")
    }
    salts = sorted(set(train["salt"]))

    def features(d):
        parts = [alike(list(d[c].replace("none", "").map(drawn)), v) for c, v in known.items()]
        numbers = d[["amine [wt%]", "acyl chloride [wt%]", "pressure [bar]"]].to_numpy(float)
        return np.hstack([*parts, np.nan_to_num(numbers, nan=-1.0), [[s == k for k in salts] for s in d["salt"]]])

    make = need("sklearn.ensemble", "campaign").GradientBoostingRegressor
    return (
        make(n_estimators=200, max_depth=3, learning_rate=0.08, subsample=0.7, random_state=0)
        .fit(features(train), y)
        .predict(features(test))
    )


_YARDSTICKS = {
    "mean of the salt": _by_salt,
    "name look-up": _look_up,
    "nearest membrane": nearest,
    "Morgan counts, boosting": _boosted,
}


def _cross_conformal(d: pd.DataFrame, level: float = 0.9) -> pd.DataFrame:
    "Ends of each interval from the left-out errors of the same salt in every other paper."
    ratio = ((d.y - d.p).abs() / d.spread).to_numpy()
    half = []
    for salt, paper, spread in zip(d["salt"], d["laboratory"], d["spread"], strict=True):
        others = (d["salt"] == salt).to_numpy() & (d["laboratory"] != paper).to_numpy()
        half.append(weighted_quantile(ratio[others], level) * spread)
    return d.assign(lower=d.p - half, upper=d.p + half)

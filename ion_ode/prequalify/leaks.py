"""What coordinates, distortions and random rows are worth, on polyamides in organic solvents"""

import numpy as np
import pandas as pd

from ion_ode.core import need
from ion_ode.prequalify.augment import DISTORTIONS
from ion_ode.prequalify.monomers import alike
from ion_ode.prequalify.published import PublishedModel
from ion_ode.prequalify.tables import load_recipes

_CONDITIONS = (
    "film thickness [nm]",
    "solvent viscosity [mPa s]",
    "solvent solubility [MPa^0.5]",
    "solvent diameter [nm]",
)
_N_FOLDS = 5


def _osn_permeances() -> pd.DataFrame:  # One row a film and solvent
    "Permeances of the table, each film and solvent of a paper once."
    d = load_recipes("osn")
    d = d[d["permeance [LMH/bar]"] > 0]
    keys = [
        "paper",
        "amine smiles",
        "acyl smiles",
        "solvent",
        *_CONDITIONS,
        "activated",
        "temperature [C]",
        "pressure [bar]",
    ]
    d = d.groupby(keys, as_index=False)["permeance [LMH/bar]"].median()
    return d.rename(columns={"amine smiles": "amine_1_smiles", "acyl smiles": "acyl_smiles"}).assign(
        y=lambda t: np.log(t["permeance [LMH/bar]"])
    )


def _conditions(d: pd.DataFrame) -> np.ndarray:
    return np.log(d[list(_CONDITIONS)].to_numpy(float))


def _published(kinds, steps: int):
    "The published network with some of its distortions."

    def predict(train, test, seed):
        model = PublishedModel(_conditions, kinds, steps=steps, seed=seed)
        return model.fit(train, train.y.to_numpy()).predict(test)

    return predict


def _boosting(features):
    def predict(train, test, seed):
        make = need("sklearn.ensemble", "campaign").GradientBoostingRegressor
        x, z = features(train, train), features(test, train)
        return (
            make(n_estimators=200, max_depth=3, learning_rate=0.08, subsample=0.7, random_state=seed)
            .fit(x, train.y)
            .predict(z)
        )

    return predict


def _with_monomers(d: pd.DataFrame, train: pd.DataFrame) -> np.ndarray:
    "Conditions, and the likeness of the amine to each amine of the training part (Morgan counts)."
    return np.hstack([_conditions(d), alike(list(d.amine_1_smiles), sorted(set(train.amine_1_smiles)))])


def _nearest(train, test, seed):
    "The film of most similar monomers and conditions."
    a, b = _conditions(train), _conditions(test)
    sd = a.std(0) + 1e-9
    far = (((b[:, None] - a[None]) / sd) ** 2).sum(-1) + 10 * (
        1 - alike(list(test.amine_1_smiles), list(train.amine_1_smiles))
    )
    return train.y.to_numpy()[far.argmin(1)]


def models(steps: int = 600) -> dict:
    "Yardsticks first, then the published network without, with the two rigid and with all five distortions."
    found = {
        "mean": lambda train, test, seed: np.full(len(test), train.y.mean()),
        "nearest film": _nearest,
        "conditions alone, boosting": _boosting(lambda d, train: _conditions(d)),
        "conditions and Morgan counts, boosting": _boosting(_with_monomers),
    }
    return found | {
        f"published network, {k} distortions": _published(DISTORTIONS[:k], steps) for k in range(len(DISTORTIONS) + 1)
    }


def leak_study(
    seeds=(1, 2, 3), names=None, splits=("papers held out", "random rows"), say=lambda text: None
) -> pd.DataFrame:
    "Every model with papers held out, and the same with rows dealt out at random."
    d = _osn_permeances()
    rows = []
    for seed in seeds:
        for split in splits:
            rng = np.random.default_rng(seed)
            groups = d.paper.to_numpy() if split == "papers held out" else np.arange(len(d))
            fold = dict(
                zip(rng.permutation(np.unique(groups)), np.arange(len(np.unique(groups))) % _N_FOLDS, strict=True)
            )
            of = np.array([fold[g] for g in groups])
            for name, model in models().items():
                if names and name not in names:
                    continue
                p = np.empty(len(d))
                for k in range(_N_FOLDS):
                    p[of == k] = model(d[of != k].reset_index(drop=True), d[of == k].reset_index(drop=True), seed)
                rows.append(
                    pd.DataFrame(
                        {
                            "split": split,
                            "model": name,
                            "seed": seed,
                            "paper": d.paper,
                            "y": d.y.round(4),
                            "p": p.round(4),
                        }
                    )
                )
                say(f"{split}, seed {seed}, {name}")
    return pd.concat(rows, ignore_index=True)

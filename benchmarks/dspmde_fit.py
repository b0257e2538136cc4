"""Leave-one-composition-out scores of the fitted pore model on the real NF270 set.

    python benchmarks/dspmde_fit.py --out results/dspmde_fit [--model four|plus|both] [--starts 4] [--folds ABCDE]

Each fold fits on the other mixtures (single salts left out) and predicts the composition it never saw; observed values are
seen through an assumed 25 µm Nernst-Planck film. Finished folds are kept and reused.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ion_ode.core import atomic_write, progress, provenance
from ion_ode.data import measurement_points
from ion_ode.fitting import FOUR, dspmde_plus, fit_membrane, observations
from ion_ode.ions import IONS


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path("results/dspmde_fit"))
    p.add_argument("--model", choices=("four", "plus", "both"), default="both")
    p.add_argument("--folds", default="ABCDE")
    p.add_argument("--starts", type=int, default=4)
    p.add_argument("--sobol", type=int, default=128)
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    torch.set_num_threads(1)
    points = measurement_points(film=None)
    group = np.array(points.composition)
    rows = []
    for model in ("four", "plus") if a.model == "both" else (a.model,):
        for fold in progress(a.folds, model):
            file = a.out / f"{model}_{fold}_{a.starts}_{a.sobol}_{a.seed}.json"
            if not file.exists():
                train = points.subset(torch.tensor(np.isin(group, list("ABCDE")) & (group != fold)))
                test = points.subset(torch.tensor(group == fold))
                free, scales = (FOUR, None) if model == "four" else dspmde_plus(observations(train).ions)
                fit = fit_membrane(train, free, scales=scales, n_starts=a.starts, n_sobol=a.sobol, seed=a.seed, intervals="none")
                obs = observations(test)
                R = fit.predict(test)
                eight = torch.tensor([i in IONS for i in obs.ions])
                use = torch.isfinite(obs.rejection) & (obs.weight > 0) & eight
                w = obs.weight[use]
                mse = float((w * (R[use] - obs.rejection[use]) ** 2).sum() / w.sum())
                found = dict(zip(fit.estimates.parameter, fit.estimates.estimate, strict=True))
                atomic_write(file, json.dumps({"model": model, "fold": fold, "mse": mse, "train_rmse": fit.rmse, "parameters": found}) + "\n")
            rows.append(json.loads(file.read_text()))
    table = pd.DataFrame(rows)
    wide = table.pivot(index="model", columns="fold", values="mse")
    wide["mean"] = wide.mean(axis=1)
    print(wide.round(3).to_string())
    atomic_write(a.out / "scores.csv", table.drop(columns="parameters").to_csv(index=False))
    atomic_write(a.out / "provenance.json", json.dumps(provenance(seed=a.seed), indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()

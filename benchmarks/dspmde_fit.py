"""Leave-one-composition-out scores of the fitted pore model on the real NF270_WATERTAP set.

    python benchmarks/dspmde_fit.py --out results/dspmde_fit [--model four|plus|both] [--starts 8] [--folds ABCDE]

Each fold fits on the other mixtures (single salts left out) and predicts the composition it never saw; observed values
are seen through an assumed 25 µm Nernst-Planck film. Finished folds are kept and reused. The four-parameter fit of all
mixtures is also searched by differential evolution, the global method to compare the multi-start with."""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ion_ode.core import progress
from ion_ode.data.points import measurement_points
from ion_ode.inference.fit import fit_membrane, observations
from ion_ode.inference.scales import FOUR, dspmde_plus
from ion_ode.store import atomic_write, provenance
from ion_ode.water.ions import IONS


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path("results/dspmde_fit"))
    p.add_argument("--model", choices=("four", "plus", "both"), default="both")
    p.add_argument("--folds", default="ABCDE")
    p.add_argument("--starts", type=int, default=4)
    p.add_argument("--sobol", type=int, default=512, help="of DSPM-DE+; four parameters are searched from 64")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    torch.set_num_threads(1)
    states = measurement_points()
    group = states.composition[states.state]

    def fit(values, model, **kw):
        train = states.select(values)
        free, scales = (FOUR, None) if model == "four" else dspmde_plus(observations(train).ions)
        start = time.process_time()
        found = fit_membrane(
            train,
            free,
            scales=scales,
            n_starts=a.starts,
            n_sobol=64 if model == "four" else a.sobol,
            seed=a.seed,
            intervals="none",
            **kw,
        )
        return found, {
            "model": model, "cpu_seconds": round(time.process_time() - start,
            1), "train_rmse": found.rmse, "cost": found.cost,
            "starts": found.starts.cost.tolist(), "parameters": dict(zip(found.estimates.parameter,
            found.estimates.estimate, strict=True)),
        }  # fmt: skip

    def kept(name, compute):
        file = a.out / f"{name}_{a.starts}_{a.sobol}_{a.seed}.json"
        if not file.exists():
            atomic_write(file, json.dumps(compute()) + "\n")
        return json.loads(file.read_text())

    def held_out(model, fold):
        found, record = fit(np.isin(group, list("ABCDE")) & (group != fold), model)
        test = observations(states.select(group == fold))
        miss = found.predict(test)[test.state, test.ion].numpy() - test.rejection
        w = test.weight * np.isin(np.array(test.ions)[test.ion], IONS)
        return record | {"fold": fold, "mse": float((w * miss**2).sum() / w.sum())}

    models = ("four", "plus") if a.model == "both" else (a.model,)
    rows = [
        kept(f"{m}_{f}", lambda m=m, f=f: held_out(m, f))
        for m, f in progress([(m, f) for m in models for f in a.folds], "folds")
    ]
    whole = np.isin(group, list("ABCDE"))
    in_sample = {m: kept(f"{m}_all", lambda m=m: fit(whole, m)[1]) for m in models}
    if "four" in models:
        in_sample["four, differential evolution"] = kept(
            "four_evolution", lambda: fit(whole, "four", method="differential_evolution")[1]
        )
    wide = pd.DataFrame(rows).pivot(index="model", columns="fold", values="mse")
    wide["mean"] = wide.mean(axis=1)
    print(wide.round(3).to_string())
    print(pd.DataFrame(in_sample).T[["train_rmse", "cost", "cpu_seconds"]].to_string())
    summary = {
        "command": f"python benchmarks/dspmde_fit.py --model {a.model} --starts {a.starts} --sobol {a.sobol} "
                   f"--seed {a.seed}",
        "mean squared error held out": {m: r.drop("mean").to_dict() | {"mean": r["mean"]} for m, r in wide.iterrows()},
        "in sample": in_sample,
        "provenance": provenance(seed=a.seed),
    }
    atomic_write(a.out / "summary.json", json.dumps(summary, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()

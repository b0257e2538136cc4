"""Which form of electroneutrality trains best: every form, both benchmarks, the same seeds, budget, simulated curves
and
told membranes.

    OMP_NUM_THREADS=1 python benchmarks/constraint_forms.py [--seeds 5] [--curves 2048] [--pretraining 400] [--out
    FILE.json]
    [--finetuning 80] [--out FILE.json]

Folds are not scored here: two compositions (or groups of mixtures of the twin) are held out together, the network
learns from the other three, and what it says of the two is validation inside the training part of either fold. Five
such pairs hold every group out twice. The rows written with --out carry, for each form, seed and benchmark, the mean
squared error of the rejection over the pairs, and for the pre-training the median error on simulated curves that were
not learned from, the largest charge residual and the share of values below zero there."""

import argparse
import json
import os
import time
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402

from ion_ode.attention_odenet.constraints import CONSTRAINTS, charge_residual  # noqa: E402
from ion_ode.data.design import simulate_curves  # noqa: E402
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows  # noqa: E402
from ion_ode.results.contestants import left_out  # noqa: E402
from ion_ode.results.protocol import with_feeds  # noqa: E402
from ion_ode.store import atomic_write, provenance  # noqa: E402
from ion_ode.training.choice import ranked, try_membranes
from ion_ode.training.optimise import Plan
from ion_ode.training.recipe import TrainConfig, describe_curves
from ion_ode.training.states import with_scatter
from ion_ode.training.teach import finetune, predict_measured, pretrain, surrogate_error


def before_measurements(config, ensemble, unseen):
    "Median error, worst charge residual and share of negative values of every member on curves it has not seen."
    error = surrogate_error(config, ensemble, unseen)
    median = (error.predicted - error.rejection).abs().groupby(error.member).median()
    every = lambda x: x.float().expand(len(ensemble), *x.shape)
    with torch.no_grad():
        h = ensemble(every(unseen.c_feed), every(unseen.flux), every(describe_curves(config, unseen)))
    present = (unseen.c_feed > 0)[:, None].expand(h.shape[1:])
    residual = charge_residual(h, ensemble.skeleton.z).flatten(1).amax(1)
    negative = (h < 0)[:, present].float().mean(1)
    return [
        {"median_error": float(m), "charge_residual": float(r), "negative": float(k)}
        for m, r, k in zip(median, residual, negative, strict=True)
    ]


def validation(config, pretrained, benchmark, seeds, tried, sse):
    "Mean squared error of the rejection of every seed over pairs of groups that were held out together."
    b, df = BENCHMARKS[benchmark], contest_rows(benchmark)
    pairs = [(i, (i + 1) % len(b.folds)) for i in range(len(b.folds))]
    m = with_scatter(with_feeds(df), b.sd_floor)
    members = [(pair, s) for pair in pairs for s in range(seeds)]
    choice = {pair: ranked(sse, [i for i in range(sse.shape[1]) if i not in pair]) for pair in pairs}
    parameters = torch.stack([tried[choice[pair][s]] for pair, s in members])
    shown = ~left_out(df, [{"held": [b.folds[i] for i in pair]} for pair, _ in members])
    ensemble = pretrained.take([s for _, s in members])
    finetune(config, ensemble, m, [1000 + s for _, s in members], shown=shown, parameters=parameters)
    predicted = predict_measured(config, ensemble, m, parameters, tol=1e-3)
    group, weight, truth = df.composition.to_numpy(), df.weight.to_numpy(), df.rejection.to_numpy()
    score = np.zeros(seeds)
    for m, (pair, s) in enumerate(members):
        held = np.isin(group, [b.folds[i] for i in pair])
        score[s] += np.average((predicted[m] - truth)[held] ** 2, weights=weight[held]) / len(pairs)
    return score


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--curves", type=int, default=2048)
    arguments.add_argument("--pretraining", type=int, default=400, help="steps")
    arguments.add_argument("--finetuning", type=int, default=80, help="steps")
    arguments.add_argument("--benchmarks", nargs="+", default=["nf270", "twin"])
    arguments.add_argument("--forms", nargs="+", default=list(CONSTRAINTS))
    arguments.add_argument("--out", help="write the rows as JSON, after every form")
    o = arguments.parse_args()
    torch.set_num_threads(1)
    base = TrainConfig(
        family="dspmde+",
        n_curves=o.curves,
        pretraining=Plan(o.pretraining, lr=4e-3, schedule="cosine"),
        finetuning=Plan(o.finetuning),
    )
    seeds, curves = (
        list(range(o.seeds)),
        simulate_curves(o.curves + 256, seed=0, n_flux=base.n_flux, family=base.family),
    )
    seen, unseen = curves.subset(slice(0, o.curves)), curves.subset(slice(o.curves, None))
    membranes = {
        b: try_membranes(with_feeds(contest_rows(b)), 64, family=base.family, film_thickness=BENCHMARKS[b].film)
        for b in o.benchmarks
    }
    rows = []
    for form in o.forms:
        started, config = time.process_time(), replace(base, constraint=form)
        ensemble, _ = pretrain(config, seen, seeds)
        rows += [
            {"form": form, "benchmark": "simulated", "seed": s, **r}
            for s, r in enumerate(before_measurements(config, ensemble, unseen))
        ]
        for b in o.benchmarks:
            score = validation(replace(config, film_thickness=BENCHMARKS[b].film), ensemble, b, o.seeds, *membranes[b])
            rows += [{"form": form, "benchmark": b, "seed": s, "mse_R": float(v)} for s, v in enumerate(score)]
        if o.out:
            atomic_write(
                o.out,
                json.dumps(
                    {"rows": rows, "recipe": base.to_dict(), "arguments": vars(o) | {"out": None}} | provenance(0),
                    indent=1,
                ),
            )
        mean = (
            pd.DataFrame([r for r in rows if r["form"] == form])
            .groupby("benchmark")
            .mean(numeric_only=True)
            .drop(columns="seed")
        )
        print(f"{form} ({time.process_time() - started:.0f} CPU-s)\n{mean.to_string()}\n", flush=True)


if __name__ == "__main__":
    main()

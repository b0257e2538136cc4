"""Whether the intervals of a fit hold: synthetic membranes, measured with noise and fitted again.

    python benchmarks/dspmde_intervals.py --trials 400 --workers 2 --out ion_ode/assets/dspmde_intervals.json
    python benchmarks/dspmde_intervals.py --trials 60 --fluxes 5    # what tables of 40 rejections cost

Truth: pore radius .42-.60 nm, thickness .5-4 µm, charge of either sign to 80 mol/m³, pore permittivity 36-52. Feeds:
NaCl, MgCl2 with NaCl, Na2SO4 with NaCl, at 3, 10 and 30 µm/s (24 rejections; at five fluxes 40); noise of .01 in every
rejection, told to the fit. Covered: the profile interval of 95 % holds the true value. Two binomial standard deviations
of 400 trials are 2.2 %.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from ion_ode.core import progress
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.solve import simulate
from ion_ode.inference.fit import fit_membrane
from ion_ode.inference.scales import FOUR
from ion_ode.store import atomic_write, provenance

FEEDS = [{"Na+": 10, "Cl-": 10}, {"Mg+2": 5, "Na+": 5, "Cl-": 15}, {"Na+": 12, "Cl-": 2, "SO4-2": 5}]
FLUXES = {n: torch.tensor(v, dtype=torch.float64) for n, v in
          {3: [3e-6, 1e-5, 3e-5], 5: [3e-6, 5e-6, 1e-5, 1.7e-5, 3e-5]}.items()}  # fmt: skip
NOISE = 0.01


def trial(seed: int, fluxes: int = 3) -> dict:
    "Interval of every parameter and its truth, from one synthetic membrane."
    torch.set_num_threads(1)
    g = np.random.default_rng(seed)
    sign = 1 if g.random() < 0.3 else -1
    charge = sign * 2 * 40 ** g.random()
    true = Membrane(g.uniform(0.42e-9, 0.60e-9), 0.5e-6 * 8 ** g.random(), charge, g.uniform(36, 52))
    table = simulate(FEEDS, FLUXES[fluxes], true).to_frame().rename(columns={"c_feed": "c_feed_mol_m3"})
    table["kind"] = "intrinsic"
    table["state_id"] = table["sample"].astype(str) + "/" + table.flux_m_s.astype(str)
    table["rejection"] += NOISE * g.standard_normal(len(table))
    table = table.drop(columns=["c_perm", "pressure_Pa", "status"])
    start = time.process_time()
    fit = fit_membrane(table, noise=NOISE)
    row = {"seed": seed, "seconds": time.process_time() - start, "rmse": fit.rmse, "values": fit.n_values}
    for e in fit.estimates.itertuples():
        row[e.parameter] = {
            "true": float(getattr(true, e.parameter)), "estimate": e.estimate, "lower": e.lower, "upper": e.upper,
            "identifiable": bool(e.identifiable),
        }  # fmt: skip
    return row


def summed(rows: list[dict], trials: int, seed: int, fluxes: int) -> dict:
    "Coverage and width of every parameter's intervals, and what a fit costs."
    table = {}
    for name in FOUR:
        r = [row[name] for row in rows]
        inside = [e["lower"] <= e["true"] <= e["upper"] for e in r]
        both = [i for i, e in zip(inside, r, strict=True) if e["identifiable"]]
        table[name] = {
            "covered": float(np.mean(inside)),
            "covered where bounded on both sides": float(np.mean(both)),
            "bounded on both sides": len(both),
            "median width over truth": float(np.median([abs(1 / e["true"]) * (e["upper"] - e["lower"]) for e in r])),
        }
    missed = [(r["seed"], n) for r in rows for n in FOUR if not r[n]["lower"] <= r[n]["true"] <= r[n]["upper"]]
    seconds = np.quantile([r["seconds"] for r in rows], [0.5, 0.9, 1.0])
    return {
        "command": f"python benchmarks/dspmde_intervals.py --trials {trials} --seed {seed} --fluxes {fluxes}",
        "trials": trials, "rejections a trial": rows[0]["values"], "noise": NOISE, "level": 0.95, "parameters": table,
        "CPU seconds of a fit, median, 90 %, largest": [round(float(v), 2) for v in seconds],
        "missed (seed, parameter)": missed, "provenance": provenance(seed=seed),
    }  # fmt: skip


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--trials", type=int, default=400)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--fluxes", type=int, choices=FLUXES, default=3)
    p.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    p.add_argument("--out", type=Path)
    a = p.parse_args()
    seeds = range(a.seed, a.seed + a.trials)
    with ProcessPoolExecutor(a.workers, mp_context=get_context("spawn")) as pool:
        rows = list(progress(pool.map(trial, seeds, repeat(a.fluxes)), "trials", total=a.trials))
    summary = json.dumps(summed(rows, a.trials, a.seed, a.fluxes), indent=1, default=str)
    print(summary)
    if a.out:
        atomic_write(a.out, summary + "\n")


if __name__ == "__main__":
    main()

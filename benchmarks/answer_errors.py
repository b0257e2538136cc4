"""What an error law does to compositions never seen: the answer's posterior on the mixtures, one change at a time

Compositions A to E held out one by one; mean squared error of R over the held-out values, NH4+ aside. Constant charge
with shifts by Mg+2 and SO4-2; rows of fdly2021, foo2023 and wang2023 only, so that a posterior takes some ten seconds.
The laws of the error were tried in the order of ERRORS with earlier scores of the same folds in view: a table that says
where an error comes from, not one that chooses.

    python benchmarks/answer_errors.py [NAME ...] --membranes 256 --seed 0"""

import argparse
from dataclasses import replace

import numpy as np
import pandas as pd

from ion_ode.inference import laws
from ion_ode.inference.population import sample_population
from ion_ode.inference.pores import solve
from ion_ode.inference.rows import COMPOSITIONS, answer_rows, hold_out
from ion_ode.inference.states import States, forward

NONE, SOURCES = (1e-3, 1e-3), ("fdly2021", "foo2023", "wang2023")
ALONE = {
    "discrepancy_trace": NONE,
    "discrepancy_major": NONE,
    "coupon_charge": NONE,
    "coupon_thickness": NONE,
    "film": (25e-6, 1e-3),
}
SHARED = {"noise": (0.08, 0.3), "discrepancy_trace": (0.3, 0.25), "discrepancy_major": (0.2, 0.25)}
COUPONS = {k: getattr(laws.Prior(), k) for k in ("coupon_charge", "coupon_thickness", "film")}
ERRORS = {  # What of the prior is replaced
    "each value .3": ALONE | {"noise": (0.3, 1e-3)},
    "each value .2": ALONE | {"noise": (0.2, 1e-3)},
    "each value .1": ALONE | {"noise": (0.1, 1e-3)},
    "shared along a curve": ALONE | SHARED,
    "each value .3, coupons": ALONE | {"noise": (0.3, 1e-3)} | COUPONS,
}


def held_out(name: str, prior: laws.Prior, membranes: int, seed: int) -> dict:
    "Errors of the mean and of the median over membranes on a composition, and the evidence of the others."
    rows = answer_rows()
    train, test = hold_out(rows[rows.source_id.isin(SOURCES)], name)
    effort = {"starts": 0, "power": 1.0, "goal": 0.5, "moves": 5, "last": 25}
    p = sample_population(States.of(train, prior), solve, membranes, **effort, seed=seed, prior=prior)
    asked, rng = States.of(test, prior), np.random.default_rng(1)
    lab = rng.standard_normal((membranes, len(asked.laboratories), 4))
    R, _, _ = forward(asked, p.x, lab, rng.standard_normal((membranes, len(asked.coupons))), solve, prior=prior)
    said = np.einsum("nrk,rk->nr", R[:, asked.row_problem, asked.row_ion[:, None]], asked.row_weight)
    truth = test.loc[asked.row_id]
    eight = (truth.ion != "NH4+").to_numpy()
    mse = lambda v: float(((v - truth.rejection.to_numpy())[eight] ** 2).mean())
    out = {"mean": mse(np.nanmean(said, 0)), "median": mse(np.nanmedian(said, 0)), "log evidence": p.log_evidence}
    return out | {"distinct": p.n_distinct}


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("names", nargs="*", help=f"some of {', '.join(ERRORS)}; none: all")
    ask.add_argument("--compositions", default="".join(COMPOSITIONS), help="such as CD")
    ask.add_argument("--membranes", type=int, default=256)
    ask.add_argument("--seed", type=int, default=0)
    a = ask.parse_args()
    laws.LAWS.update({k: float(k == "constant") for k in laws.LAWS})
    for name in a.names or ERRORS:
        prior = replace(laws.Prior(), **ERRORS[name])
        found = pd.DataFrame({c: held_out(c, prior, a.membranes, a.seed) for c in a.compositions})
        print(f"{name}\n{found.assign(all=found.mean(axis=1)).round(4).to_string()}", flush=True)


if __name__ == "__main__":
    main()

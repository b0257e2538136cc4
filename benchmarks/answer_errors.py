"""What a value teaches, and which coupon the membrane is: the answer's posterior on the mixtures, one change at a time

Compositions A to E held out one by one; mean squared error of R over the held-out values, NH4+ aside. Rows of fdly2021,
foo2023 and wang2023 only, so that a posterior takes about a minute. Tried with scores of the same folds in view: a
table that says where an error comes from, not one that chooses.

    python benchmarks/answer_errors.py [NAME ...] --membranes 768 --seed 0"""

import argparse

import numpy as np
import pandas as pd

from ion_ode.inference import states as of
from ion_ode.inference.population import sample_population
from ion_ode.inference.pores import solve
from ion_ode.inference.rows import COMPOSITIONS, answer_rows, hold_out

SOURCES = ("fdly2021", "foo2023", "wang2023")
CASES = {  # Error with which a value teaches, in ln(1.05 - R); the coupon that is the membrane
    "one coupon, .2": (0.2, "fdly2021"),
    "one coupon, .1": (0.1, "fdly2021"),
    "one coupon, .3": (0.3, "fdly2021"),
    "no coupon, .2": (0.2, ""),
}


def held_out(name: str, membranes: int, seed: int) -> dict:
    "Errors of the mean over membranes on a composition, on its own coupon and on new ones; evidence of the others."
    rows, n = answer_rows(), membranes
    train, test = hold_out(rows[rows.source_id.isin(SOURCES)], name)
    p = sample_population(of.States.of(train), n, seed=seed)
    asked, rng = of.States.of(test), np.random.default_rng(1)
    lab = rng.standard_normal((n, len(asked.laboratories), 4))
    R, _ = of.forward(asked, p.x, lab, rng.standard_normal((n, len(asked.coupons))), solve)
    said = np.einsum("nrk,rk->nr", R[:, asked.row_problem, asked.row_ion[:, None]], asked.row_weight)
    truth = test.loc[asked.row_id]
    error = (np.nanmean(said, 0) - truth.rejection.to_numpy())[(truth.ion != "NH4+").to_numpy()]
    return {"mse": float((error**2).mean()), "log evidence": p.log_evidence, "distinct": p.n_distinct}


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("names", nargs="*", help=f"some of {', '.join(CASES)}; none: all")
    ask.add_argument("--compositions", default="".join(COMPOSITIONS), help="such as CD")
    ask.add_argument("--membranes", type=int, default=768)
    ask.add_argument("--seed", type=int, default=0)
    a = ask.parse_args()
    for name in a.names or CASES:
        of.LEARNED, of.ANCHOR = CASES[name]
        found = pd.DataFrame({c: held_out(c, a.membranes, a.seed) for c in a.compositions})
        print(f"{name}\n{found.assign(all=found.mean(axis=1)).round(4).to_string()}", flush=True)


if __name__ == "__main__":
    main()

"""Whether a few salts tell enough of a new membrane: each salt of each recipe predicted from the recipe's others.

    python benchmarks/recipe_to_water.py --out ion_ode/assets/prequalify/left_out

114 recipes of Deng et al. 2022 with Na2SO4, MgCl2 and NaCl. Their pressure and feed are not stated: 5 bar and 1 g/L are
assumed; --pressure and --mg-L say otherwise. Beside it stands the mean of the salt over the other recipes.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from ion_ode import load_model
from ion_ode.inference.made import left_out
from ion_ode.prequalify.tables import load_recipes
from ion_ode.store import atomic_write, provenance

SALTS = ("Na2SO4", "MgCl2", "NaCl")


def scores(d: pd.DataFrame) -> dict:
    "Root mean square errors of a left-out salt, coverage and correlation."
    rms = lambda e: float((e**2).mean() ** 0.5)
    return {
        "recipes": len(d), "rmse": rms(d.predicted - d.measured), "rmse of the constant": rms(d.constant - d.measured),
        "coverage of 90 %": float(((d.lower <= d.measured) & (d.measured <= d.upper)).mean()),
        "r": float(d.predicted.corr(d.measured)), "median width": float((d.upper - d.lower).median()),
    }  # fmt: skip


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--recipes", type=int, help="the first few only")
    p.add_argument("--pressure", type=float, default=5.0, help="bar")
    p.add_argument("--mg-L", type=float, default=1000.0)
    p.add_argument("--out", type=Path, help="writes FILE.csv and FILE.json")
    a = p.parse_args()
    d = load_recipes("deng2022")
    keep = d[[f"rejection {s}" for s in SALTS]].notna().all(axis=1) & d["permeance [LMH/bar]"].gt(0)
    d = d[keep].iloc[: a.recipes]
    found = left_out(d, SALTS, pressure=a.pressure, mg_L=a.mg_L, model=load_model("nf"))
    summary = {
        "command": f"python benchmarks/recipe_to_water.py --pressure {a.pressure:g} --mg-L {a.mg_L:g}",
        "pressure [bar]": a.pressure, "feed [mg/L]": a.mg_L,
        "salts": {s: scores(found[found.salt == s]) for s in SALTS}, "provenance": provenance(seed=0),
    }  # fmt: skip
    print(json.dumps(summary, indent=1))
    if a.out:
        atomic_write(a.out.with_suffix(".csv"), found.to_csv(index=False, float_format="%.5g"))
        atomic_write(a.out.with_suffix(".json"), json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()

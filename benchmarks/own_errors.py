"""How large the errors of own values are: settings of `ion_ode.inference.discrepancy`, every source held out

Each source is asked through `calibrate` and `predict` of the sample that has not seen it, with none and with 1, 2, 5
and 20 of a coupon's values drawn at random; the other values of the coupon are scored. One law of the error holds
before and after own values; its factor, its correlation and its degrees of freedom vary here. The setting of a source
is that of the best interval score over the other sources.

    python benchmarks/own_errors.py [--store]    some five minutes of one processor"""

import argparse
import json
from dataclasses import replace

import pandas as pd

from ion_ode.inference import answer, discrepancy
from ion_ode.inference.answer import load_answer
from ion_ode.inference.rows import SOURCES, answer_rows, hold_out
from ion_ode.inference.score import own_draws, scores
from ion_ode.store import asset, atomic_write, provenance

SETTINGS = {  # Factor on the errors (None: the sample's own), ALIKE_Q, ALIKE_SHARES, NU
    "as shipped": (None, 1.0, 0.7, 5.0),
    "factor .55": (0.55, 1.0, 0.7, 5.0),
    "factor 1": (1.0, 1.0, 0.7, 5.0),
    "alike over half": (None, 0.5, 0.35, 5.0),
    "three degrees of freedom": (None, 1.0, 0.7, 3.0),
}
COUNTS, MEMBRANES = (0, 1, 2, 5, 20), 96


def scored(setting: tuple) -> pd.DataFrame:
    "Scores of every source and number of own values under one setting."
    factor, discrepancy.ALIKE_Q, discrepancy.ALIKE_SHARES, nu = setting
    discrepancy.NU = answer.NU = nu
    rows, out = answer_rows(), []
    for source in SOURCES:
        model = load_answer(f"without-{source}").thinned(MEMBRANES)
        model = model if factor is None else replace(model, stretch=factor)
        for own, g in own_draws(model, hold_out(rows, source)[1], COUNTS, draws=1).groupby("own"):
            out.append({"source": source, "own": own, **scores(g)})
    return pd.DataFrame(out).set_index(["source", "own"])


def chosen(tables: dict) -> dict:
    "Of every source the setting of the best interval score over the others, each source and number alike."
    each = pd.DataFrame({k: t.winkler.groupby("source").mean() for k, t in tables.items()})
    return {s: each.drop(s).mean().idxmin() for s in each.index}


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--store", action="store_true")
    tables = {name: scored(v) for name, v in SETTINGS.items()}
    best = chosen(tables)
    picked = pd.concat([tables[k].loc[[s]] for s, k in best.items()])
    mean = lambda t: t[["coverage", "rmse", "width", "winkler"]].groupby("own").mean()
    rows = [
        {"setting": name, "own": int(own), **r.round(3)}
        for name, t in (*tables.items(), ("chosen on the other sources", picked))
        for own, r in mean(t).iterrows()
    ]
    print(pd.DataFrame(rows).to_string(index=False), best, sep="\n")
    if ask.parse_args().store:
        record = {"rows": rows, "chosen": best, "provenance": provenance(seed=0)}
        atomic_write(asset("answers").with_name("own_errors.json"), json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""How large the errors of own values are: five settings of `ion_ode.inference.discrepancy`, every source held out

Each source is asked through `calibrate` and `predict` of the sample that has not seen it, with 1, 2, 5 and 20 of a
coupon's values drawn at random; the other values of the coupon are scored. The setting of a source is that of the best
interval score over the other sources.

    python benchmarks/own_errors.py [--store]    some two minutes of one processor"""

import argparse
import json

import pandas as pd

from ion_ode.inference import answer, discrepancy
from ion_ode.inference.answer import load_answer
from ion_ode.inference.rows import SOURCES, answer_rows, hold_out
from ion_ode.inference.score import own_draws, scores
from ion_ode.store import asset, atomic_write, provenance

SETTINGS = {  # NOISE, MODEL, ALIKE_Q, ALIKE_SHARES
    "model .1": (0.06, 0.1, 1.0, 0.7),
    "model .2": (0.06, 0.2, 1.0, 0.7),
    "model .3": (0.08, 0.3, 1.0, 0.7),
    "alike over half the ratio": (0.06, 0.2, 0.5, 0.7),
    "alike over half the shares": (0.06, 0.2, 1.0, 0.35),
}
COUNTS, MEMBRANES = (1, 2, 5, 20), 96


def scored(setting: tuple) -> pd.DataFrame:
    "Scores of every source and number of own values under one setting."
    for name, v in zip(("NOISE", "MODEL", "ALIKE_Q", "ALIKE_SHARES"), setting, strict=True):
        setattr(discrepancy, name, v)
    answer.NOISE, answer.MODEL = setting[:2]
    rows, out = answer_rows(), []
    for source in SOURCES:
        model = load_answer(f"without-{source}").thinned(MEMBRANES)
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

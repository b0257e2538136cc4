"""How large the errors of own values are: settings of `ion_ode.inference.discrepancy`, every source held out

Each source is asked through `calibrate` and `predict` of the sample that has not seen it, with none and with 1, 2, 5
and 20 of a coupon's values drawn at random; the other values of the coupon are scored. Of the settings two have one law
of the error before and after own values, that of `predict`. The setting of a source is that of the best interval score
over the other sources, after own values.

    python benchmarks/own_errors.py [--store]    some five minutes of one processor"""

import argparse
import json
from dataclasses import replace

import pandas as pd

from ion_ode.inference import answer, discrepancy
from ion_ode.inference.answer import load_answer
from ion_ode.inference.discrepancy import errors_at
from ion_ode.inference.rows import SOURCES, answer_rows, hold_out
from ion_ode.inference.score import own_draws, scores
from ion_ode.store import asset, atomic_write, provenance

SETTINGS = {  # NOISE, MODEL, ALIKE_Q, ALIKE_SHARES, factor on the errors of `predict` (None: the sample's own)
    "model .1": (0.06, 0.1, 1.0, 0.7, None),
    "model .2": (0.06, 0.2, 1.0, 0.7, None),
    "model .3": (0.08, 0.3, 1.0, 0.7, None),
    "alike over half the ratio": (0.06, 0.2, 0.5, 0.7, None),
    "alike over half the shares": (0.06, 0.2, 1.0, 0.35, None),
    "as before own values": (None, None, 1.0, 0.7, None),
    "as before own values, factor .8": (None, None, 1.0, 0.7, 0.8),
}
COUNTS, MEMBRANES = (0, 1, 2, 5, 20), 96


def scored(setting: tuple) -> pd.DataFrame:
    "Scores of every source and number of own values under one setting."
    *own, factor = setting
    for name, v in zip(("NOISE", "MODEL", "ALIKE_Q", "ALIKE_SHARES"), own, strict=True):
        setattr(discrepancy, name, v)
    alike = lambda membranes, flux, share, own=False: errors_at(membranes, flux, share)
    for module in (answer, discrepancy):
        module.errors_at = alike if None in own else errors_at
    rows, out = answer_rows(), []
    for source in SOURCES:
        model = load_answer(f"without-{source}").thinned(MEMBRANES)
        model = model if factor is None else replace(model, stretch=factor)
        for own, g in own_draws(model, hold_out(rows, source)[1], COUNTS, draws=1).groupby("own"):
            out.append({"source": source, "own": own, **scores(g)})
    return pd.DataFrame(out).set_index(["source", "own"])


def chosen(tables: dict) -> dict:
    "Of every source the setting of the best interval score over the others, each source and number alike."
    each = pd.DataFrame({k: t.winkler.drop(0, level="own").groupby("source").mean() for k, t in tables.items()})
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

"""Own values read by a network, beside the sampler, a one-step update and nothing at all

    OMP_NUM_THREADS=1 python benchmarks/point_reader.py [--coupons 24] [--counts 1 2 5 20] [--skip real] [--out FILE]
    OMP_NUM_THREADS=1 python benchmarks/point_reader.py --store     # the table that page 02j shows

On simulated coupons of load_model("nf270"): a membrane of its sample, smoothed, with a coupon; eight states in one to
three feeds; values differ from it by errors and by a discrepancy as own values are believed to (Eq. A.2 of the page of
the answer); two states are asked and never told, their measured values are what is scored. On real values:
each source by the model that has not seen it, coupon by coupon, half of its values never told. `none`: the model as it
is. `one step`: a Gaussian update of the same sample (the ensemble's regression of membranes and coupons on what the
pore model gives at the points). `again`: the sampler with another seed, the least that can be expected of anything.
Then where the time of a call goes: reading the values, the pore model and how many states it is asked, and the rest.
"""

import argparse
import contextlib
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

import ion_ode
from ion_ode.core import LMH
from ion_ode.data.measurements import Measurements
from ion_ode.inference import calibrate, reader, stand_in
from ion_ode.inference.answer import load_answer
from ion_ode.inference.calibrate import _own_states
from ion_ode.inference.discrepancy import NU, Residuals, errors_at
from ion_ode.inference.laws import parameters, share_of_sign, with_errors
from ion_ode.inference.pores import solve
from ion_ode.inference.reader import smoothed
from ion_ode.inference.rows import SOURCES, answer_feeds, answer_rows, hold_out
from ion_ode.inference.score import predicted
from ion_ode.inference.states import forward, of_y, y_of
from ion_ode.store import asset, atomic_write, digest
from ion_ode.water.ions import get_ion

STORED = Path(ion_ode.__file__).parent / "assets" / "point_reader.json"
FEW = 512  # Members of the one-step update


def one_step(model, measurements, seed: int = 0):
    "Kalman's update of a sample of membranes with coupons, the values disturbed by their errors."
    states, _ = _own_states(measurements, model.prior)
    rng, s = np.random.default_rng(seed), states
    x, lab = smoothed(model.x, FEW, rng), rng.standard_normal((FEW, len(s.laboratories), 4))
    own = rng.standard_normal((FEW, len(s.coupons)))
    R, J = forward(s, x, lab, own, solve, prior=model.prior)
    y = y_of(np.einsum("nrk,rk->nr", R[:, s.row_problem, s.row_ion[:, None]], s.row_weight))
    p = with_errors(parameters(x, model.prior), model.stretch)
    own_sd, shared = errors_at(p, np.einsum("nrk,rk->nr", J[:, s.row_problem], s.row_weight), s.row_share)
    same = (s.curve[:, None] == s.curve[None]).astype(float)
    error = np.diag((own_sd**2).mean(0)) + same * (shared.T @ shared / FEW)
    z = np.column_stack([x, lab.reshape(FEW, -1), own])
    dz, dy = z - z.mean(0), y - y.mean(0)
    noise = rng.multivariate_normal(np.zeros(len(error)), error, FEW)
    gain = np.linalg.solve(dy.T @ dy / FEW + error, dy.T @ dz / FEW)
    z = z + (y_of(s.rejection) - y - noise) @ gain
    i, k = np.linspace(0, FEW - 1, len(model)).round().astype(int), x.shape[1]
    return replace(model, x=z[i, :k], coupon=np.column_stack([z[i, k : k + 4], z[i, -1]]), laws=None)


def methods(model, values, full: bool) -> dict:
    "(model, CPU seconds) by name."
    out = {"none": (model, 0.0)}
    runs = {"network": lambda: model.calibrate(values, method="network"), "one step": lambda: one_step(model, values),
            "sampler": lambda: model.calibrate(values, method="sampler")}  # fmt: skip
    if full:
        runs["again"] = lambda: model.calibrate(values, method="sampler", seed=1)
    for name, f in runs.items():
        start = time.process_time()
        out[name] = f(), time.process_time() - start
    return out


def draw(model, rng):
    "One coupon of one membrane: what a laboratory would measure, and what it would ask."
    x, coupon = smoothed(model.x, 1, rng), rng.standard_normal((1, 5))
    truth, feeds = replace(model, x=x, coupon=coupon, laws=None), answer_feeds()
    kind, states = ("observed", "intrinsic")[rng.random() < 0.25], []
    solutions = rng.choice(sorted(set(answer_rows().solution_id)), int(rng.integers(1, 4)), replace=False)
    for k in range(8):
        name = solutions[rng.integers(len(solutions))]
        f = feeds[feeds.solution_id == name]
        flux = float(np.exp(rng.uniform(np.log(5), np.log(150)))) * LMH
        feed = dict(zip(f.ion, f.c_feed_mol_m3, strict=True))
        closing = f[f.ion.str.endswith(("-", "-2"))].set_index("ion").c_feed_mol_m3.idxmax()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a published feed is closed by its largest anion
            ions, c, _, R = truth.draws(feed, flux, kind=kind, balance=closing)
        z = np.array([float(get_ion(i).z) for i in ions])
        row = pd.DataFrame({"solution_id": name, "state_id": str(k), "ion": ions, "c_feed_mol_m3": c[0],
                            "flux_m_s": flux, "kind": kind, "rejection": R[0, 0, 0], "asked": k >= 6})  # fmt: skip
        states.append(row[(z > 0) | (len(ions) > 2)].assign(closing=closing))
    rows = pd.concat(states, ignore_index=True)
    rows["rejection"] = of_y(y_of(rows.rejection.to_numpy()) + errors(rows, feeds, truth.parameters, rng))
    return rows[~rows.asked], rows[rows.asked]


def errors(rows, feeds, membrane, rng) -> np.ndarray:
    "What values of one coupon miss of the pore model, as own values are believed to."
    wide = feeds.pivot_table(index="solution_id", columns="ion", values="c_feed_mol_m3", fill_value=0.0)
    places, n = np.array([list(wide.columns).index(i) for i in rows.ion]), len(rows)
    c = wide.loc[rows.solution_id].to_numpy()
    share = share_of_sign(c, np.array([float(get_ion(i).z) for i in wide.columns]))[np.arange(n), places]
    noise, size = errors_at(membrane, rows.flux_m_s.to_numpy()[None], share, own=True)
    own = Residuals(tuple(wide.columns), c, places, np.zeros(n, int), size, noise, np.zeros((1, n)))
    return np.sqrt(NU / rng.chisquare(NU)) * own._root[0] @ rng.standard_normal(n)


def ask(model, asked) -> tuple:
    "Prediction and interval of every value asked about."
    parts, feeds = [], answer_feeds().set_index("solution_id")
    for _, g in asked.groupby("state_id", sort=False):
        f = feeds.loc[[g.solution_id.iloc[0]]]
        feed = dict(zip(f.ion, f.c_feed_mol_m3, strict=True))
        p = model.predict(feed, flux=g.flux_m_s.iloc[0], kind=g.kind.iloc[0], balance=g.closing.iloc[0])
        parts.append(p.set_index("ion").loc[g.ion, ["rejection", "lower", "upper"]].to_numpy().T)
    return np.concatenate(parts, 1)


def simulated(n: int, counts, seed: int = 0) -> pd.DataFrame:
    "One row a coupon, number of values and method."
    model, rows = load_answer("nf270"), []
    for k in range(n):
        rng = np.random.default_rng([seed, k])
        told, asked = draw(model, rng)
        told, truth = told.drop(columns=["asked", "closing"]), asked.rejection.to_numpy()
        for m in counts:
            mine = told.iloc[rng.permutation(len(told))[:m]].sort_index()
            own = Measurements.from_frame(mine.rename_axis("row_id").reset_index(), feeds=answer_feeds())
            made = methods(model, own, True)
            said = {name: ask(a, asked) for name, (a, _) in made.items()}
            for name, (mean, low, high) in said.items():
                rows.append({
                    "coupon": k, "values": m, "method": name,
                    "from sampler": np.abs(mean - said["sampler"][0]).mean(),
                    "mse": ((mean - truth) ** 2).mean(), "width": (high - low).mean(), "seconds": made[name][1],
                    "covered": ((truth >= low) & (truth <= high)).mean(),
                    "members": made[name][0].card.get("distinct", np.nan),
                })  # fmt: skip
        print(".", end="", flush=True)
    return pd.DataFrame(rows)


def measured(counts, most: int, seed: int = 0) -> pd.DataFrame:
    "The same on the coupons of every source, by the model that has not seen it."
    feeds, rows = answer_feeds(), []
    for source in SOURCES:
        model, d = load_answer(f"without-{source}"), hold_out(answer_rows(), source)[1]
        coupons = [g for _, g in d.groupby("coupon", sort=False) if len(g) > 2][:most]
        for g in coupons:
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(g))
            pool, rest = g.iloc[order[: len(g) // 2]], g.iloc[order[len(g) // 2 :]]
            for m in [m for m in counts if m <= len(pool)]:
                own = Measurements.from_frame(pool.iloc[:m].reset_index(), feeds=feeds)
                made = methods(model, own, False)
                said = {name: predicted(a, rest) for name, (a, _) in made.items()}
                for name, p in said.items():
                    off = np.abs(p.predicted - said["sampler"].predicted)
                    rows.append({
                        "source": source, "coupon": g.coupon.iloc[0], "values": m, "method": name, "n": len(p),
                        "from sampler": off.mean(), "mse": ((p.predicted - p.rejection) ** 2).mean(),
                        "covered": ((p.rejection >= p.lower) & (p.rejection <= p.upper)).mean(),
                        "width": (p.upper - p.lower).mean(), "seconds": made[name][1],
                        "members": made[name][0].card.get("distinct", np.nan),
                    })  # fmt: skip
        print(source, end=" ", flush=True)
    return pd.DataFrame(rows)


def costs(n: int, counts, seed: int = 0) -> list[dict]:
    "Where the CPU time of a call goes, in ms, medians over simulated coupons; the network also by the solver alone."
    model, rows = load_answer("nf270"), []

    def told(used, solve):
        def ask(ions, problem, *more):
            start = time.process_time()
            out = solve(ions, problem, *more)
            used["pore model"] += 1e3 * (time.process_time() - start)
            used["states"] += len(problem["c_feed"])
            return out

        return ask

    ways = {"network": stand_in.solve_near, "network, certified": solve, "sampler": solve}
    for k in range(n):
        values = draw(model, np.random.default_rng([seed, k]))[0].drop(columns=["asked", "closing"])
        for m in counts:
            own = Measurements.from_frame(values[:m].rename_axis("row_id").reset_index(), feeds=answer_feeds())
            start = time.process_time()
            _own_states(own, model.prior)
            read = 1e3 * (time.process_time() - start)
            for method, way in ways.items():
                used = {"values": m, "method": method, "reading": read, "pore model": 0.0, "states": 0}
                ask, places = told(used, way), ((reader, "solve_near"), (stand_in, "solve_near"), (calibrate, "solve"))
                with contextlib.ExitStack() as stack:
                    for place in places:
                        stack.enter_context(patch.object(*place, ask))
                    start = time.process_time()
                    model.calibrate(own, method=method.split(",")[0])
                    rows.append(used | {"all": 1e3 * (time.process_time() - start)})
    of = pd.DataFrame(rows).groupby(["values", "method"], sort=False).median().round(2)
    print(f"\n{of.to_string()}", flush=True)
    return of.reset_index().to_dict("records")


def table(d: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    "Means over coupons, each value counting once."
    d = d.assign(n=d.get("n", 1))
    mean = lambda g, k: float((g[k] * g.n).sum() / g.n.sum())
    one = lambda g: pd.Series({
        "coupons": g.coupon.nunique(), "from sampler": mean(g, "from sampler"), "RMSE": mean(g, "mse") ** 0.5,
        "covered": mean(g, "covered"), "width": mean(g, "width"), "seconds": g.seconds.median(),
        "members": g.members.median(),
    })  # fmt: skip
    return d.groupby(by, sort=False)[d.columns.difference(by)].apply(one)


def records(d: pd.DataFrame, by: list[str]) -> list[dict]:
    "A table as JSON has it."
    t = table(d, by).round(4).reset_index()
    return t.astype(object).where(t.notna(), None).to_dict("records")


def main():
    of = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    of.add_argument("--coupons", type=int, default=24)
    of.add_argument("--counts", type=int, nargs="+", default=[1, 2, 5, 20])
    of.add_argument("--most", type=int, default=3, help="coupons of a source")
    of.add_argument("--skip", choices=("real", "simulated"))
    of.add_argument("--out", help="write the rows as CSV, two files with this beginning")
    of.add_argument("--store", action="store_true", help=f"write the tables to assets/{STORED.name}")
    a = of.parse_args()
    record = {"membranes": digest(asset("answers/nf270.json").read_bytes()), "most": a.most, "coupons": a.coupons}
    for name, f in (
        ("simulated", lambda: simulated(a.coupons, a.counts)),
        ("real", lambda: measured(a.counts, a.most)),
    ):
        if a.skip != name:
            d = f()
            record[name] = records(d, ["values", "method"])
            print(f"\n{name}\n{pd.DataFrame(record[name]).to_string()}", flush=True)
            if name == "real":
                record["sources"] = records(d, ["source", "values", "method"])
                print(pd.DataFrame(record["sources"]).to_string(), flush=True)
            if a.out:
                d.to_csv(f"{a.out}{name}.csv", index=False)
    record["costs"] = costs(a.coupons, a.counts)
    if a.store:
        atomic_write(STORED, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

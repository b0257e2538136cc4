"""What a vessel, draws of a membrane and a sweep of plants cost, beside SciPy marching the same vessel.

    python benchmarks/module_speed.py                        the table, CPU seconds of one thread
    python benchmarks/module_speed.py --designs 10000 --workers 2     a sweep of two-stage plants on two Dask workers
    python benchmarks/module_speed.py --out module_speed.json

The peer is scipy.integrate.solve_ivp (RK45, rtol 1e-6) along the six elements, the flux at every place the root of the
water law by scipy.optimize.brentq, with the same pore model and film behind it.
"""

import argparse
import json
import statistics
import time

import numpy as np
import pandas as pd
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from ion_ode import NF270_WATERTAP, Plant, Stage, simulate_plant
from ion_ode.core import T_REF, bar
from ion_ode.dspmde.feed import read_feed
from ion_ode.module.design import sweep
from ion_ode.module.plant import read_operation
from ion_ode.module.solve import Setting, solve_plant
from ion_ode.store import provenance

WELL = {"Na+": 14.79, "Ca+2": 5.564, "Mg+2": 4.402, "K+": 0.179, "Cl-": 24.53, "SO4-2": 1.832, "NO3-": 6.709}
RUN = {"feed_flow": 8 / 3600, "pressure": 3 * bar, "balance": "Cl-"}


def cpu(f, repeat: int) -> tuple[float, object]:
    "Median CPU seconds of a call, and its last answer."
    f()
    spent = []
    for _ in range(repeat):
        start = time.process_time()
        answer = f()
        spent.append(time.process_time() - start)
    return statistics.median(spent), answer


def scipy_vessel(sol) -> np.ndarray:
    "Outlet of the vessel: flows of the ions, water flow, pressure."
    v = sol.solved.search.vessels[0]
    zero, n = np.zeros(1, int), len(sol.ions)
    resistance = v.law.resistance(zero)[0]

    def rates(_, y):
        k, loss = v.duct.stirring(y[n : n + 1], zero)
        ask = lambda J: v.law(y[None, :n] / y[n], np.array([J]), k, zero)
        missing = lambda J: J * resistance + ask(J).osmotic[0] - y[n + 1]
        J = brentq(missing, 1e-4 * y[n + 1] / resistance, 1.2 * y[n + 1] / resistance, rtol=1e-9)
        return -np.concatenate([v.duct.area * J * ask(J).c_perm[0], v.duct.area * J, loss])

    return solve_ivp(rates, (0, 1), v.inlet[0], rtol=1e-6, atol=1e-9 * v.inlet[0]).y[:, -1]


def halving() -> float:
    "Largest relative change of recovery and permeate of the vessel from a grid to one of half the cells."
    names, c = read_feed(WELL, None, "Cl-")
    run = read_operation(1, feed_flow=RUN["feed_flow"], pressure=RUN["pressure"])
    found = [solve_plant(Setting(Plant(), names, c.numpy(), run, T_REF), cells=n, grid_rtol=1e9) for n in (3, 6)]
    made = [s.search.vessels[0].inlet[0, :-1] - s.outlets[0][0, :-1] for s in found]
    return float(np.abs(made[0] / made[1] - 1).max())


def swept(plant, designs, workers: int) -> tuple[pd.DataFrame, float, float]:
    "Designs solved here or on Dask workers of one thread each; wall seconds and CPU seconds of all."
    wall, start = time.time(), time.process_time()
    if not workers:
        return sweep(WELL, plant, designs, balance="Cl-"), time.time() - wall, time.process_time() - start
    from dask.distributed import Client, LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            sweep(WELL, plant, designs[: 32 * workers], balance="Cl-", client=client)  # every worker has its kernel
            before, wall = sum(client.run(time.process_time).values()), time.time()
            table = sweep(WELL, plant, designs, balance="Cl-", client=client)
            return table, time.time() - wall, sum(client.run(time.process_time).values()) - before


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--repeat", type=int, default=7)
    p.add_argument("--draws", type=int, default=300)
    p.add_argument("--designs", type=int, default=200)
    p.add_argument("--workers", type=int, default=0, help="Dask workers for the designs; 0: this process")
    p.add_argument("--out")
    a = p.parse_args()
    rng = np.random.default_rng(0)
    vessel, sol = cpu(lambda: simulate_plant(WELL, Stage(), **RUN), a.repeat)
    peer, outlet = cpu(lambda: scipy_vessel(sol), 1)
    apart = float(np.abs(outlet / sol.solved.outlets[0][0] - 1).max())
    draws = [
        NF270_WATERTAP.with_(r_pore=NF270_WATERTAP.r_pore * f) for f in np.exp(0.05 * rng.standard_normal(a.draws))
    ]
    many, _ = cpu(lambda: simulate_plant(WELL, Stage(), membrane=draws, **RUN), 1)
    ranges = {"feed_flow": (16 / 3600, 30 / 3600), "recovery": (0.4, 0.8), "boost 2": (0.0, 2 * bar)}
    designs = pd.DataFrame({k: rng.uniform(*r, a.designs) for k, r in ranges.items()})
    plant = Plant([Stage(vessels=2), Stage()])
    table, wall, spent = swept(plant, designs, a.workers)
    rows = [
        {
            "what": "six elements, one vessel",
            "CPU s": vessel,
            "aim s": 0.05,
            "scipy CPU s": peer,
            "ratio": peer / vessel,
            "apart": apart,
        },
        {"what": f"{a.draws} membrane draws", "CPU s": many, "aim s": 10, "ratio": peer * a.draws / many},
        {"what": "its grid halved (aim .001)", "apart": halving()},
        {
            "what": f"{a.designs} plants of two stages" + (f", {a.workers} workers" if a.workers else ""),
            "CPU s": spent,
            "wall s": wall,
            "solved": int((table.status == "converged").sum()),
        },
    ]
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda v: f"{v:.3g}", na_rep=""))
    print(table.status.value_counts().to_string())
    if a.out:
        with open(a.out, "w", encoding="utf-8") as f:
            json.dump({"rows": rows, "provenance": provenance(0)}, f, indent=1)


if __name__ == "__main__":
    main()

"""The closed form beside the certified solver: curves a CPU-second and what the stand-in costs in R.

    OMP_NUM_THREADS=1 python benchmarks/stand_in.py [--feeds 512]

Membranes of load_model("nf270") behind a film of 25 µm, feeds of Na+, Mg+2, Cl-, SO4-2. A stand-in has a place in an
answer where it is faster than the certified solver and its error is a tenth of the interval; both are printed.
"""

import argparse
import time

import numpy as np
import torch

from ion_ode.attention_odenet.set_pore import PoreTold, SetPoreODENet
from ion_ode.core import LMH
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.problem import transport_problem
from ion_ode.dspmde.solve import simulate
from ion_ode.inference.answer import load_answer

IONS = ("Na+", "Mg+2", "Cl-", "SO4-2")
FLUX_TOLD = 1e-5


def problem(n: int, seed: int = 0):
    "n feeds, each before one membrane of the answer."
    rng, p = np.random.default_rng(seed), load_answer("nf270").parameters
    c = np.exp(rng.uniform(np.log(0.3), np.log(40), (n, 3)))
    feed = np.column_stack([c[:, 0] + 2 * c[:, 2], c[:, 1], c[:, 0] + 2 * c[:, 1], c[:, 2]])
    q = p.iloc[rng.integers(0, len(p), n)]
    t = lambda v: torch.tensor(np.asarray(v, float))
    membrane = Membrane(*(t(q[k]) for k in ("r_pore", "thickness", "charge", "eps_pore")),
                        ln_partition={i: t(q[f"ln {i}"]) for i in IONS})  # fmt: skip
    return t(feed), membrane


def cpu(f, repeat=3):
    "Least CPU seconds of f() and what it returned."
    out, taken = f(), []
    for _ in range(repeat):
        start = time.process_time()
        out = f()
        taken.append(time.process_time() - start)
    return min(taken), out


def told(feed, membrane, film):
    "What the pore model makes of membranes, film and feeds."
    at = torch.full((len(feed), 1), FLUX_TOLD, dtype=torch.float64)
    q, _ = transport_problem(IONS, feed, at, membrane, film)
    return PoreTold(q.z.T, q.ln_entry.T, q.peclet.T, q.K_conv.T, q.charge, q.film_peclet.T)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--feeds", type=int, default=512)
    n = parser.parse_args().feeds
    torch.set_num_threads(1)
    feed, membrane = problem(n)
    film = Film(thickness=25e-6)
    for points in (1, 16):
        flux = torch.tensor(np.geomspace(5, 100, points) if points > 1 else [20.0]).expand(n, -1) * LMH
        exact = lambda rtol, flux=flux: simulate(feed, flux, membrane, ions=IONS, film=film, rtol=rtol, throw=False)
        best = exact(1e-8).rejection.numpy()
        rows = [
            (f"certified, rtol {r:g}", lambda r=r, exact=exact: exact(r).rejection.numpy()) for r in (1e-3, 1e-4, 1e-6)
        ]
        for steps in (4, 6):
            net = SetPoreODENet(steps)
            ask = lambda net=net, flux=flux: (1 - net.passage(feed, flux, told(feed, membrane, film))).numpy()
            rows.append((f"closed form, {steps} steps", ask))
        print(f"{n} curves of {points} flux(es); |ΔR| against rtol 1e-8: median, 95 %, 99.9 %")
        for name, f in rows:
            with torch.no_grad():
                seconds, R = cpu(f)
            e = np.abs(R - best)[np.isfinite(best)]
            q = np.quantile(e, [0.5, 0.95, 0.999])
            print(f"  {name:24} {n / seconds:9,.0f} curves/s   " + "  ".join(f"{v:.1e}" for v in q), flush=True)


if __name__ == "__main__":
    main()

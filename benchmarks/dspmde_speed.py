"""Certified DSPM-DE problems a second on this machine, by option, with a floor from counted operations.

    python benchmarks/dspmde_speed.py [--curves 3125] [--processes 2] [--backends auto eager] [--repeat 3] [--aims]
    [--out FILE.json]

Flux sweeps of 32 points (100,000 problems a call), 8 ions, float64, rtol 1e-6, one thread a process; gradients to all
four membrane parameters. The floor is the time of the counted operations at the rate of a large matrix product. Random
membranes: r_p 0.42-0.65 nm, thickness 1-6 µm, charge -3 to -120 mol/m³, permittivity 38-65; feeds 0.2-30 mol/m³ an
ion; fluxes to 1e-5...6e-5 m/s. The peer is scipy (solve_ivp backward, root) on a few of the same problems in the same
run, the median of 32 sweeps, half of them before and half after. Below: every aim beside what was measured."""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import root

from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.problem import transport_problem
from ion_ode.dspmde.solve import simulate
from ion_ode.store import atomic_write, provenance
from ion_ode.water.ions import IONS, ion_arrays


def draw(n: int, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    r = lambda *s: torch.rand(*s, generator=g, dtype=torch.float64)
    c, z = 0.2 * 150 ** r(n, 8), ion_arrays(IONS).z
    up, down = (c * z.clamp(min=0)).sum(1), (c * (-z).clamp(min=0)).sum(1)
    c = torch.where(z < 0, c * (up / down)[:, None], c)
    m = Membrane(0.42e-9 + 0.23e-9 * r(n), 1e-6 * 6 ** r(n), -3 * 40 ** r(n), 38 + 27 * r(n))
    return c, m, torch.linspace(1 / 32, 1, 32, dtype=torch.float64) * (1e-5 + 5e-5 * r(n, 1))


def simulate_only(c, m, J, **kw):
    return simulate(c, J, m, ions=IONS, **kw)


def with_gradients(c, m, J, **kw):
    leaves = {k: getattr(m, k).clone().requires_grad_() for k in ("r_pore", "thickness", "charge_density", "eps_pore")}
    sol = simulate(c, J, Membrane(**leaves), ions=IONS, **kw)
    torch.autograd.grad(sol.c_perm.log().sum(), list(leaves.values()))
    return sol


_PEERS = 16  # Sweeps of the peer, before and after


def gemm_rate() -> float:
    "Rate of a 512 x 512 double-precision matrix product [FLOP/s]."
    a = torch.randn(512, 512, dtype=torch.float64)
    start = time.process_time()
    for _ in range(20):
        a @ a
    return 20 * 2 * 512**3 / (time.process_time() - start)


def peer(c, m, J, i: int, n: int = 8) -> float:
    "Problems a second of one-at-a-time scipy, warm-started along sweep i."
    one = Membrane(*(getattr(m, k)[i : i + 1] for k in ("r_pore", "thickness", "charge_density", "eps_pore")))
    q, _ = transport_problem(IONS, c[i : i + 1], J[i : i + 1, :n], one)
    z, S, cf = q.z[:, 0].numpy(), q.ln_entry[:, 0].exp().numpy(), c[i].numpy()
    u, start = np.r_[np.log(cf), 0.0, 0.0], time.process_time()
    for k in range(n):
        Pe, K, chi = q.peclet[:, k].numpy(), q.K_conv[:, k].numpy(), float(q.charge[k])

        def f(u, Pe=Pe, K=K, chi=chi):
            cp = np.exp(u[:8])
            a = cp * S * np.exp(-z * u[9])

            def rhs(x, y):
                flow = Pe * (K * y - cp)
                return flow - z * y * (z @ flow) / (z**2 @ y)

            c0 = solve_ivp(rhs, (1, 0), a, rtol=1e-8, atol=1e-12).y[:, -1]
            return np.r_[
                np.log(np.maximum(c0, 1e-300)) - np.log(cf * S) + z * u[8],
                z @ cp / (np.abs(z) @ cp),
                (z @ a + chi) / 50,
            ]

        u = root(f, u, tol=1e-9).x
    return n / (time.process_time() - start)


CASES = {
    "no film": (simulate_only, {}),
    "Nernst-Planck film": (simulate_only, {"film": Film(thickness=25e-6)}),
    "no film, gradients": (with_gradients, {}),
    "Nernst-Planck film, gradients": (with_gradients, {"film": Film(thickness=25e-6)}),
}


def measure(curves: int, backends: list[str], repeat: int, seed: int) -> tuple[list[dict], float]:
    "One row a back end and case, and the peak memory of this process [MiB]."
    torch.set_num_threads(1)
    data, rows = draw(curves, seed), []
    for backend in backends:
        for name, (f, options) in CASES.items():
            call = lambda f=f, options=options: f(*data, backend=backend, **options)  # noqa: B023
            call()
            cpu, wall = [], []
            for _ in range(repeat):
                start, begin = time.process_time(), time.perf_counter()
                sol = call()
                cpu.append(time.process_time() - start)
                wall.append(time.perf_counter() - begin)
            size = sol.n_steps.numel()
            # value marches: every Newton step and the certificate; 9 multiply-adds an ion and stage, 4 stages a step
            mesh, newton = sol.n_mesh.abs().double(), sol.n_steps.double()
            flop = ((mesh / 2 * (newton + 1) + mesh) * 4 * 8 * 18 + mesh / 4 * newton * 4 * 64 * 12).mean().item()
            rate = size / float(np.median(cpu))
            rows.append({
                "backend": backend, "case": name, "problems/CPU-s": round(rate),
                "problems/s": round(size / float(np.median(wall))), "us a problem": round(1e6 / rate, 1),
                "counted kFLOP a problem": round(flop / 1e3, 1), "GFLOP/s reached": round(flop * rate / 1e9, 2),
                "us at the rate of a matrix product": round(1e6 * flop / gemm_rate(),
                1), "certified": int(sol.ok.sum()), "of": size,
            })  # fmt: skip
            print(rows[-1], file=sys.stderr, flush=True)
    return rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


FRESH = """
import time
start = time.process_time()
from ion_ode import simulate
imported = time.process_time() - start
simulate({"Na+": 10, "Cl-": 10}, 1e-5)
print(time.process_time() - start - imported)
"""


def of_one_call(n_flux: int, repeat: int = 30) -> float:
    "CPU milliseconds of a call with one feed."
    feed, J = {"Na+": 10, "Mg+2": 10, "Cl-": 20, "SO4-2": 5}, np.linspace(5e-7, 2.5e-5, n_flux)
    simulate(feed, J)
    start = time.process_time()
    for _ in range(repeat):
        simulate(feed, J)
    return 1e3 * (time.process_time() - start) / repeat


def taken(*data) -> float:
    "Wall seconds of a call."
    start = time.perf_counter()
    simulate_only(*data)
    return time.perf_counter() - start


def two_threads(curves: int) -> float:
    "Wall time of one thread over that of two, in turn; says little where other work shares the cores."
    data, wall = draw(curves, 1), {1: [], 2: []}
    for _ in range(8):
        for n, times in wall.items():
            torch.set_num_threads(n)
            times.append(taken(*data))
    return min(wall[1]) / min(wall[2])


def from_then_on(curves: int, moment: float) -> float:
    "Wall seconds of a call of one thread, the least of seven, the first at a given time."
    torch.set_num_threads(1)
    data = draw(curves, 1)
    taken(*data)
    time.sleep(max(0.0, moment - time.time()))
    return min(taken(*data) for _ in range(7))


def two_processes(curves: int) -> float:
    "What two cores give to two processes that share nothing: the same work at once, over one."
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        both = max(pool.map(from_then_on, [curves] * 2, [time.time() + 15] * 2))
        return 2 * pool.submit(from_then_on, curves, 0.0).result() / both


def nodes_over_continuous(curves: int) -> float:
    "CPU time of `nodes=1` over that of the continuous pore, on curves that have a solution on so few nodes too."
    torch.set_num_threads(1)
    c, m, J = draw(curves)
    some = torch.from_numpy(simulate_only(c, m, J, nodes=1, throw=False).ok.all(1))
    data, cpu = (
        (c[some], Membrane(*(v[some] for v in (m.r_pore, m.thickness, m.charge_density, m.eps_pore))), J[some]),
        [],
    )
    for nodes in (1, None):
        spent = []
        for _ in range(6):
            start = time.process_time()
            simulate_only(*data, nodes=nodes)
            spent.append(time.process_time() - start)
        cpu.append(min(spent))
    return cpu[0] / cpu[1]


def a_million() -> float:
    "Peak memory of a process that solves 1,000,000 problems in one call [MiB]."
    torch.set_num_threads(1)
    assert simulate_only(*draw(31250)).ok.all()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def first_call() -> float:
    "CPU seconds of the first call of a fresh install, after the imports."
    with tempfile.TemporaryDirectory() as folder:
        call = [sys.executable, "-c", FRESH]
        return float(
            subprocess.run(
                call, env=os.environ | {"ION_ODE_CACHE": folder}, capture_output=True, text=True, check=True
            ).stdout
        )


def aims(rows, scipy_rate: float, pool) -> list[dict]:
    "Every aim beside its measured number."
    rate = {r["case"]: r["problems/CPU-s"] for r in rows if r["backend"] == "auto"}
    found = [
        ("no film, problems/CPU-s", ">= 40,000", rate["no film"]),
        ("no film, times the scipy peer", ">= 1,000", rate["no film"] / scipy_rate),
        ("Nernst-Planck film, problems/CPU-s", ">= 20,000", rate["Nernst-Planck film"]),
        ("gradients to all membrane parameters, problems/CPU-s", ">= 15,000", rate["no film, gradients"]),
        ("one feed at one flux, CPU ms", "<= 2", pool.submit(of_one_call, 1).result()),
        ("one feed at 32 fluxes, CPU ms", "<= 5", pool.submit(of_one_call, 32).result()),
        ("nodes=1 over the continuous pore, CPU time", "<= 1.1", pool.submit(nodes_over_continuous, 1024).result()),
        ("1,000,000 problems in one call, peak MiB", "<= 2,048", pool.submit(a_million).result()),
        ("two threads over one", ">= 1.9", pool.submit(two_threads, 4096).result()),
        ("two processes over one, for scale", "", two_processes(4096)),
        ("first call of a fresh install, CPU s", "<= 10", first_call()),
    ]
    return [{"aim": name, "asked": asked, "measured": float(f"{value:.3g}")} for name, asked, value in found]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--curves", type=int, default=3125)
    p.add_argument("--repeat", type=int, default=3)
    p.add_argument("--processes", type=int, default=1, help="that many at once, one thread each; problems/s are summed")
    p.add_argument("--backends", nargs="+", default=["auto"])
    p.add_argument("--aims", action="store_true", help="measure every aim, a million problems in one call among them")
    p.add_argument("--out", help="write the numbers as JSON")
    a = p.parse_args()
    sweeps = draw(_PEERS)
    before = [peer(*sweeps, i) for i in range(_PEERS)]
    with ProcessPoolExecutor(a.processes, mp_context=get_context("spawn")) as pool:
        found = list(
            pool.map(measure, *zip(*[(a.curves, a.backends, a.repeat, k) for k in range(a.processes)], strict=True))
        )
    rates = before + [peer(*sweeps, i) for i in range(_PEERS)]
    scipy_rate, rows = float(np.median(rates)), []
    for parts in zip(*(f[0] for f in found), strict=True):
        row = dict(parts[0]) | {
            "problems/s": sum(r["problems/s"] for r in parts),
            "certified": sum(r["certified"] for r in parts),
            "of": sum(r["of"] for r in parts),
        }
        rows.append(row | {"x scipy": round(row["problems/CPU-s"] / scipy_rate)})
    report = {
        "command": f"python benchmarks/dspmde_speed.py --curves {a.curves} --processes {a.processes} --backends "
                   f"{' '.join(a.backends)}{' --aims' * a.aims}",
        "processes": a.processes, "scipy problems/CPU-s": round(scipy_rate, 1),
        "scipy, 10 and 90 %": [round(v, 1) for v in np.quantile(rates, [0.1, 0.9])], "rows": rows,
        "aims": aims(rows, scipy_rate, ProcessPoolExecutor(1, mp_context=get_context("spawn"))) if a.aims else [],
        "peak memory of a process, MiB": round(max(f[1] for f in found)), "provenance": provenance(seed=0),
    }  # fmt: skip
    print(json.dumps(report, indent=1, default=str))
    if a.out:
        atomic_write(a.out, json.dumps(report, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()

"""Stress the pore model with hard random problems; every one must end certified or with a true 'no solution'.

    python benchmarks/dspmde_stress.py --draws 100000 --check 10000 --workers 2 --out stress
    python benchmarks/dspmde_stress.py --draws 2000 --check 200 --block 200          # minutes

Draws: 2-8 ions, 1e-4 to 1000 mol/m³ each, some ions thinned to 1e-9 of the feed, pore radius 0.35-2 nm, fixed charge
-1000 to 1000 mol/m³, pore permittivity 30-78, Peclet numbers to 60; no film, a Nernst-Planck film or a linear film; ideal
solutions, Davies outside, or Davies everywhere. A part is solved again at a hundred times tighter tolerance. Where a linear
film is said to have no solution, Newton's method looks for one from 50 random starts. Blocks are written as they finish, and a
second call goes on where the first stopped.
"""

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from ion_ode.core import progress
from ion_ode.dspmde.certify import certify, first_guess
from ion_ode.dspmde.feed import read_flux
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.problem import transport_problem
from ion_ode.dspmde.solve import simulate
from ion_ode.store import atomic_write, provenance
from ion_ode.water.ions import IONS, ion_arrays

FILMS = ("none", "nernst-planck", "linear")
ACTIVITIES = ("ideal", "davies_solution", "davies")


def draw(n: int, seed: int):
    "Feeds (n, ion), membrane, flux (n, 1) and film settings from a seed."
    g = np.random.default_rng(seed)
    a = ion_arrays(IONS)
    z, r_s = a.z.numpy(), a.r_stokes.numpy()
    c = 10 ** g.uniform(-4, 3, (n, 8))
    count = g.integers(2, 9, n)
    rank = np.argsort(g.random((n, 8)), 1).argsort(1)
    keep = rank < count[:, None]
    for i in range(n):  # at least one ion of each sign
        for sign in (1, -1):
            if not (keep[i] & (z * sign > 0)).any():
                keep[i, g.choice(np.flatnonzero(z * sign > 0))] = True
    c *= keep
    c *= np.where(g.random((n, 8)) < 0.15, 10 ** g.uniform(-9, 0, (n, 8)), 1.0)
    up, down = (c * z.clip(0)).sum(1), (c * (-z).clip(0)).sum(1)
    level = np.sqrt(up * down)  # neutral by scaling both signs to their geometric mean
    c *= np.where(z > 0, (level / up)[:, None], (level / down)[:, None])
    biggest = np.where(c > 0, r_s, 0).max(1)
    r_pore = np.maximum(np.exp(g.uniform(np.log(0.35e-9), np.log(2e-9), n)), 1.03 * biggest)
    charge = np.sign(g.uniform(-1, 0.4, n)) * 10 ** g.uniform(-1, 3, n)
    eps = g.uniform(30, 78, n)
    membrane = Membrane(*(torch.tensor(v) for v in (r_pore, np.full(n, 1e-6), charge, eps)))
    feed = torch.tensor(c)
    # the flux that gives the wanted largest Peclet number
    q, _ = transport_problem(IONS, feed, read_flux(1e-6, n), membrane)
    at_one = torch.where(q.present, q.peclet, 0.0).amax(0)
    peclet = torch.tensor(10 ** g.uniform(-3, np.log10(60), n))
    flux = (1e-6 * peclet / at_one)[:, None]
    # films of Peclet number up to 5; linear films from far below to beyond their limit
    D = a.D_bulk.min().item()
    thickness = torch.tensor(10 ** g.uniform(-2, np.log10(5), n)) * D / flux[:, 0]
    k = flux[:, 0] * torch.tensor(10 ** g.uniform(-0.5, 2, n))
    return feed, membrane, flux, thickness.clamp(max=0.9), k.clamp(max=0.9)


def some(block, index):
    feed, m, flux, thickness, k = block
    fields = (getattr(m, f)[index] for f in ("r_pore", "thickness", "charge_density", "eps_pore"))
    return feed[index], Membrane(*fields), flux[index], thickness[index], k[index]


def found_after_all(block, activity: str, starts: int = 50) -> int:
    "How many of these draws with a linear film have a certified solution that some random start leads to."
    feed, m, flux, _, k = block
    q, _ = transport_problem(IONS, feed, flux, m, Film(k=k), activity)
    many = q.take(torch.arange(q.size).repeat(starts))
    g = torch.Generator().manual_seed(0)
    guess = first_guess(many) + 10 * torch.randn(many.n_unknowns, many.size, generator=g, dtype=torch.float64)
    return int((certify(many, guess, persist=False).code <= 1).reshape(starts, -1).any(0).sum())


def solve(block, film: str, activity: str, rtol: float, index=None):
    feed, m, flux, thickness, k = block if index is None else some(block, index)
    f = {"none": None, "nernst-planck": Film(thickness=thickness), "linear": Film(k=k)}[film]
    return simulate(feed, flux, m, ions=IONS, film=f, activity=activity, rtol=rtol, throw=False)


def run_block(b: int, size: int, n_check: int, seed: int) -> dict:
    film, activity = FILMS[b % 3], ACTIVITIES[(b // 3) % 3]
    block = draw(size, seed * 1_000_003 + b)
    start = time.process_time()
    sol = solve(block, film, activity, 1e-6)
    seconds = time.process_time() - start
    status = sol.status[:, 0].astype(str)
    ok = torch.tensor(sol.ok[:, 0])
    present = block[0] > 0
    cp = sol.c_perm[:, 0]
    z = ion_arrays(IONS).z
    bad = {
        "nan": int((torch.isnan(cp).any(1) & ok).sum()),
        "not positive": int(((cp <= 0) & present)[ok].any(1).sum()),
        "not neutral": int(((cp @ z).abs() > 1e-10 * (cp @ z.abs()))[ok].sum()),
    }
    none = np.char.startswith(status, "no solution")  # only a linear film has such a limit
    bad["no solution without a linear film"] = int(none.sum()) if film != "linear" else 0
    doubted = torch.tensor(np.flatnonzero(none)[:100])
    bad["no solution, yet one was found"] = found_after_all(some(block, doubted), activity) if film == "linear" and len(doubted) else 0
    failed = [int(i) for i in np.flatnonzero(status == "failed")]
    pick = torch.arange(size)[ok][:n_check]
    wrong, worst = [], 0.0
    if len(pick):
        tight = solve(block, film, activity, 1e-8, pick)
        gap = torch.where(present[pick], tight.c_perm[:, 0] / cp[pick] - 1, 0.0).abs().amax(1)
        both = torch.tensor(tight.ok[:, 0])
        worst = float(gap[both].max()) if bool(both.any()) else 0.0
        wrong = [int(i) for i in pick[both & (gap > 2e-6)]]
        bad["tight solve failed"] = int((~both).sum())
    names, counts = np.unique(np.char.partition(status, ":")[:, 0], return_counts=True)
    return {
        "block": b, "film": film, "activity": activity, "size": size, "seconds": seconds,
        "status": dict(zip(names.tolist(), counts.tolist(), strict=True)), "checked": len(pick), "wrong": wrong, "worst_gap": worst,
        "failed": failed, "bad": bad, "no solution checked": len(doubted), "newton_mean": float(sol.n_steps.double().mean()), "mesh_max": int(sol.n_mesh.max()),
    }  # fmt: skip


def one_block(b: int, a) -> dict:
    "Block b of the draws, read if it is there."
    torch.set_num_threads(1)
    size = min(a.block, a.draws - b * a.block)
    file = a.out / f"seed{a.seed}_block{b:05d}_{size}.json"
    if not file.exists():
        atomic_write(file, json.dumps(run_block(b, size, -(-a.check * size // a.draws), a.seed)) + "\n")
    return json.loads(file.read_text())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--draws", type=int, default=100_000)
    p.add_argument("--check", type=int, default=10_000, help="how many are solved again at rtol 1e-8")
    p.add_argument("--block", type=int, default=5000)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    p.add_argument("--out", type=Path, default=Path("results/stress"))
    p.add_argument("--report", action="store_true", help="run nothing, sum up all blocks that lie in --out")
    a = p.parse_args()
    blocks = [] if a.report else range(-(-a.draws // a.block))
    with ProcessPoolExecutor(a.workers, mp_context=get_context("spawn")) as pool:
        rows = list(progress(pool.map(one_block, blocks, repeat(a)), "stress", total=len(blocks)))
    if a.report:
        rows = [json.loads(f.read_text()) for f in sorted(a.out.glob("seed*_block*.json"))]
    add = lambda part: dict(sum((Counter(r["status"]) for r in part), Counter()))
    total = add(rows)
    cases = {}
    for r in rows:
        cases.setdefault(f"{r['film']}, {r['activity']}", []).append(r)
    summary = {
        "command": f"python benchmarks/dspmde_stress.py --draws {a.draws} --check {a.check} --block {a.block} --seed {a.seed}",
        "draws": sum(r["size"] for r in rows),
        "draws asked for": a.draws,
        "status": total,
        "by film and activity": {
            name: {"draws": sum(r["size"] for r in part)} | add(part) | {"largest disagreement": max(r["worst_gap"] for r in part)}
            for name, part in cases.items()
        },
        "checked at 1e-8": sum(r["checked"] for r in rows),
        "no solution checked from random starts": sum(r["no solution checked"] for r in rows),
        "disagree by more than 2e-6": sum(len(r["wrong"]) for r in rows),
        "largest disagreement": max(r["worst_gap"] for r in rows),
        "violations": {k: sum(r["bad"].get(k, 0) for r in rows) for k in sorted({k for r in rows for k in r["bad"]})},
        "failed (block, draw)": [(r["block"], i) for r in rows for i in r["failed"]][:50],
        "cpu_seconds": round(sum(r["seconds"] for r in rows), 1),
        "provenance": provenance(seed=a.seed),
    }
    atomic_write(a.out / "summary.json", json.dumps(summary, indent=1, default=str) + "\n")
    print(json.dumps(summary, indent=1, default=str))
    clean = not any(summary["violations"].values()) and not summary["disagree by more than 2e-6"] and "failed" not in total
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()

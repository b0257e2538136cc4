"""Stress the pore model with hard random problems; every one must end certified or with a true 'no solution'.

    python benchmarks/dspmde_stress.py --draws 1000000 --workers 2 --out stress
    python benchmarks/dspmde_stress.py --draws 4500 --block 500          # a minute
    python benchmarks/dspmde_stress.py --draws 1060000 --workers 2 --seed 9 --store

Draws: 2-8 ions, 1e-4 to 1000 mol/m³ each, some ions thinned to 1e-9 of the feed, pore radius 0.35-2 nm and in a fifth
of the draws 1.001 to 1.1 times the widest ion, fixed charge -1000 to 1000 mol/m³, pore permittivity 30-78, Péclet
numbers through the pore to 300, through a film to 16; no film, a Nernst-Planck film or a linear film; ideal solutions,
Davies outside, or Davies everywhere. One block in twenty has a linear film, a tenth as many draws. Every certified
answer (rtol 1e-6) is solved again at 1e-10, one in twenty and all linear films from rest, the others from the answer
with new Jacobians on meshes of their own; where rounding forbids 1e-10 at 1e-8. None may be off by more than its
tolerance. Where a linear film is said to have no solution, Newton's method looks for one from 50 random starts, for the
first few of a block. Blocks are written as they finish, and a second call goes on where the first stopped.
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

import ion_ode
from ion_ode.core import progress
from ion_ode.dspmde.certify import REFINED, certify, first_guess
from ion_ode.dspmde.feed import read_flux
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.problem import transport_problem
from ion_ode.dspmde.solve import simulate
from ion_ode.store import atomic_write, provenance
from ion_ode.water.ions import IONS, ion_arrays

FILMS = ("none", "nernst-planck")
ACTIVITIES = ("ideal", "davies_solution", "davies")
RTOL = 1e-6


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
    r_pore = np.where(g.random(n) < 0.2, biggest * (1 + 10 ** g.uniform(-3, -1, n)), r_pore)
    charge = np.sign(g.uniform(-1, 0.4, n)) * 10 ** g.uniform(-1, 3, n)
    eps = g.uniform(30, 78, n)
    membrane = Membrane(*(torch.tensor(v) for v in (r_pore, np.full(n, 1e-6), charge, eps)))
    feed = torch.tensor(c)
    # the flux that gives the wanted largest Peclet number
    q, _ = transport_problem(IONS, feed, read_flux(1e-6, n), membrane)
    at_one = torch.where(q.present, q.peclet, 0.0).amax(0)
    peclet = torch.tensor(
        10 ** np.where(g.random(n) < 0.3, g.uniform(1, np.log10(300), n), g.uniform(-3, np.log10(60), n))
    )
    wanted = 1e-6 * peclet / at_one
    flux = wanted.clamp(max=0.5)[:, None]  # beyond, a thicker membrane
    membrane = membrane.with_(thickness=1e-6 * wanted / flux[:, 0])
    # films of Péclet number up to 16; linear films from far below to beyond their limit
    D = a.D_bulk.min().item()
    thickness = torch.tensor(10 ** g.uniform(-2, 1.2, n)) * D / flux[:, 0]
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
    return int((certify(many, guess, persist=False).code <= REFINED).reshape(starts, -1).any(0).sum())


def film_of(block, film: str) -> Film | None:
    _, _, _, thickness, k = block
    return {"none": None, "nernst-planck": Film(thickness=thickness), "linear": Film(k=k)}[film]


def solve(block, film: str, activity: str, rtol: float):
    feed, m, flux, _, _ = block
    return simulate(feed, flux, m, ions=IONS, film=film_of(block, film), activity=activity, rtol=rtol, throw=False)


def solved_again(block, film: str, activity: str, rtol: float, c_perm) -> tuple[torch.Tensor, torch.Tensor]:
    "c_p (draw, ion) at a tighter tolerance, from c_perm or from rest, and which are certified."
    feed, m, flux, _, _ = block
    q, _ = transport_problem(IONS, feed, flux, m, film_of(block, film), activity)
    guess = None
    if c_perm is not None:
        guess = torch.cat(
            [torch.where(q.present, c_perm.T.log(), 0.0), torch.full((1, q.size), torch.nan, dtype=torch.float64)]
        )
    found = certify(q, guess, rtol)
    return torch.where(q.present, found.u[: q.n_ions].exp(), 0.0).T, found.code <= REFINED


def far_from(block, film: str, activity: str, sol, pick) -> tuple[torch.Tensor, dict]:
    "Largest relative error of c_p of some answers against a solution at 1e-10 (else 1e-8); NaN where neither is had."
    gap, how = torch.full((len(pick),), torch.nan, dtype=torch.float64), Counter()
    rest = torch.arange(len(pick)) % 20 == 0 if film != "linear" else torch.ones(len(pick), dtype=torch.bool)
    for rtol in (1e-10, 1e-8):
        for cold in (False, True):
            left = (gap.isnan() & (rest == cold)).nonzero()[:, 0]
            if len(left) == 0:
                continue
            here, answer = pick[left], sol.c_perm[pick[left], 0]
            c, ok = solved_again(some(block, here), film, activity, rtol, None if cold else answer)
            gap[left[ok]] = torch.where(answer > 0, c / answer - 1, 0.0).abs().amax(1)[ok]
            how[f"{rtol:g}{' from rest' * cold}"] += int(ok.sum())
    return gap, how


def run_block(b: int, size: int, seed: int) -> dict:
    film, activity = "linear" if b % 20 == 7 else FILMS[b % 2], ACTIVITIES[(b // 2) % 3]
    size = -(-size // 10) if film == "linear" else size
    block = draw(size, seed * 1_000_003 + b)
    start = time.process_time()
    sol = solve(block, film, activity, RTOL)
    seconds = time.process_time() - start
    status = np.char.partition(sol.status[:, 0].astype(str), ":")
    ok, cp, z = torch.tensor(sol.ok[:, 0]), sol.c_perm[:, 0], ion_arrays(IONS).z
    none = status[:, 0] == "no solution"  # only a linear film has such a limit
    doubted = torch.tensor(np.flatnonzero(none)[:20])
    gap, how = far_from(block, film, activity, sol, torch.arange(size)[ok])
    bad = {
        "nan": int((torch.isnan(cp).any(1) & ok).sum()),
        "not positive": int(((cp <= 0) & (block[0] > 0))[ok].any(1).sum()),
        "not neutral": int(((cp @ z).abs() > 1e-10 * (cp @ z.abs()))[ok].sum()),
        "no solution without a linear film": int(none.sum()) if film != "linear" else 0,
        "no solution, yet one was found": found_after_all(some(block, doubted), activity) if len(doubted) else 0,
        "failed without a reason": int(((status[:, 0] == "failed") & (status[:, 2] == "")).sum()),
    }
    reasons = Counter(" ".join(w.split()[:3]) for w in status[status[:, 0] == "failed", 2])
    error = sol.error[ok, 0]
    return {
        "block": b, "film": film, "activity": activity, "size": size, "seconds": seconds,
        "status": Counter(status[:, 0].tolist()), "failed because": reasons, "checked": how,
        "not checked": int(gap.isnan().sum()), "wrong": torch.arange(size)[ok][gap > RTOL].tolist(),
        "worst": float(torch.nan_to_num(gap).max()), "error beyond estimate": int((gap > error.clamp(min=1e-9)).sum()),
        "bad": bad, "no solution checked": len(doubted), "newton_mean": float(sol.n_steps.double().mean()),
        "mesh_max": int(sol.n_mesh.abs().max()), "commit": provenance()["commit"],
    }  # fmt: skip


def one_block(b: int, a) -> dict:
    "Block b of the draws, read if it is there."
    torch.set_num_threads(1)
    size = min(a.block, a.draws - b * a.block)
    file = a.out / f"seed{a.seed}_block{b:05d}_{size}.json"
    if not file.exists():
        atomic_write(file, json.dumps(run_block(b, size, a.seed)) + "\n")
    return json.loads(file.read_text())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--draws", type=int, default=100_000)
    p.add_argument("--block", type=int, default=5000)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    p.add_argument("--out", type=Path, default=Path("results/stress"))
    p.add_argument("--store", action="store_true", help="as what chapter 00 shows")
    p.add_argument("--report", action="store_true", help="run nothing, sum up what lies in --out of the seed")
    a = p.parse_args()
    blocks = [] if a.report else range(-(-a.draws // a.block))
    with ProcessPoolExecutor(a.workers, mp_context=get_context("spawn")) as pool:
        rows = list(progress(pool.map(one_block, blocks, repeat(a)), "stress", total=len(blocks)))
    if a.report:
        rows = [json.loads(f.read_text()) for f in sorted(a.out.glob(f"seed{a.seed}_block*.json"))]
    add = lambda part, key: dict(sum((Counter(r[key]) for r in part), Counter()))
    cases = {}
    for r in rows:
        cases.setdefault(f"{r['film']}, {r['activity']}", []).append(r)
    summary = {
        "command": f"python benchmarks/dspmde_stress.py --draws {a.draws} --block {a.block} --seed {a.seed}",
        "blocks": f"{len(rows)} of {-(-a.draws // a.block)}",
        "draws": sum(r["size"] for r in rows),
        "status": add(rows, "status"),
        "failed because": add(rows, "failed because"),
        "by film and activity": {
            name: {"draws": sum(r["size"] for r in part)}
            | add(part, "status")
            | {"largest error": max(r["worst"] for r in part)}
            for name, part in cases.items()
        },
        "solved again at": add(rows, "checked"),
        "could not be solved again": sum(r["not checked"] for r in rows),
        f"off by more than {RTOL:g}": sum(len(r["wrong"]) for r in rows),
        "largest error": max(r["worst"] for r in rows),
        "error above its estimate": sum(r["error beyond estimate"] for r in rows),
        "no solution checked from random starts": sum(r["no solution checked"] for r in rows),
        "violations": {k: sum(r["bad"][k] for r in rows) for k in rows[0]["bad"]},
        "wrong (block, draw)": [(r["block"], i) for r in rows for i in r["wrong"]][:50],
        "blocks by commit": Counter(r["commit"] for r in rows),
        "cpu_seconds of the answers": round(sum(r["seconds"] for r in rows), 1),
        "provenance": provenance(seed=a.seed),
    }
    text = json.dumps(summary, indent=1, default=str) + "\n"
    atomic_write(a.out / "summary.json", text)
    if a.store and not a.report:
        atomic_write(Path(ion_ode.__file__).parent / "assets" / "dspmde_stress.json", text)
    print(text)
    clean = not any(summary["violations"].values()) and not summary["wrong (block, draw)"]
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()

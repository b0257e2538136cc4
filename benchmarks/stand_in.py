"""Stand-ins beside the certified solver: states a CPU-second and what each costs in R.

    OMP_NUM_THREADS=1 python benchmarks/stand_in.py [--feeds 2048] [--train 1200] [--store]

Membranes of load_model("nf270") behind a film of 25 µm, feeds of Na+, Mg+2, Cl-, SO4-2. A stand-in has a place in an
answer where it is faster than the certified solver and its error is a tenth of the interval. Both are printed: for the
closed form, alone and with the states in doubt given to the certified solver, and for a network that maps straight to
the permeate (`direct_network.py`), trained here for so many CPU-seconds, or untrained (0) and then asked for its speed
alone. Then what an answer costs at the door, the solver's part of it, and ions beyond the eight of the NF270 studies,
by the ion whose R is asked. `--store` writes what page 02h reads."""

import argparse
import json
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from direct_network import FLUX_TOLD, Direct, draw_feeds, look, solve, taught, tell_any

import ion_ode
from ion_ode.attention_odenet.set_pore import PoreTold, SetPoreODENet
from ion_ode.core import LMH
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.problem import transport_problem
from ion_ode.dspmde.solve import simulate
from ion_ode.inference import answer
from ion_ode.inference.laws import charge_of, offset_of
from ion_ode.store import atomic_write, provenance
from ion_ode.water.ions import get_ion

IONS = ("Na+", "Mg+2", "Cl-", "SO4-2")
FILM = 25e-6
GIVEN = "closed form or certified"
SHARES = {"median": 0.5, "within_95": 0.95, "within_999": 0.999}


def some_feeds(n: int, seed: int = 0) -> np.ndarray:  # (n, IONS) [mol/m³]
    c = np.exp(np.random.default_rng(seed).uniform(np.log(0.3), np.log(40), (n, 3)))
    return np.column_stack([c[:, 0] + 2 * c[:, 2], c[:, 1], c[:, 0] + 2 * c[:, 1], c[:, 2]])


def problem(n: int, seed: int = 0):
    "n feeds, each before one membrane of the answer."
    p = answer.load_answer("nf270").parameters
    q = p.iloc[np.random.default_rng(seed + 1).integers(0, len(p), n)]
    t = lambda v: torch.tensor(np.asarray(v, float))
    membrane = Membrane(*(t(q[k]) for k in ("r_pore", "thickness", "charge", "eps_pore")),
                        ln_partition={i: t(q[f"ln {i}"]) for i in IONS})  # fmt: skip
    return t(some_feeds(n, seed)), membrane


def cpu(f, repeat=3):
    "Least CPU seconds of f() and what it returned."
    taken = []
    for _ in range(repeat + 1):
        start = time.process_time()
        out = f()
        taken.append(time.process_time() - start)
    return min(taken[1:]), out


def told(feed, membrane, film):
    "What the pore model makes of membranes, film and feeds."
    at = torch.full((len(feed), 1), FLUX_TOLD, dtype=torch.float64)
    q, _ = transport_problem(IONS, feed, at, membrane, film)
    return PoreTold(q.z.T, q.ln_entry.T, q.peclet.T, q.K_conv.T, q.charge, q.film_peclet.T)


def given_away(c_feed, flux, what: PoreTold) -> tuple[torch.Tensor, torch.Tensor]:
    "Permeate over feed by the closed form, states in doubt by the certified solver; which those are."
    return SetPoreODENet(6).passage_or(c_feed, flux, what, lambda *given: solve(*given, rtol=1e-4))


def direct(net, c_feed, flux, what: PoreTold) -> torch.Tensor:
    "Permeate over feed (curve, point, ion) by the network that maps straight to it."
    seen, share, z = (v.float() for v in look(c_feed, flux, what))
    with torch.no_grad():
        return net(seen, share, z).exp().double().view(*flux.shape, -1)


def sized(e: np.ndarray) -> dict:
    "Quantiles of absolute errors."
    return {k: float(np.quantile(np.abs(e), q)) for k, q in SHARES.items()}


def said(name: str, row: dict) -> None:
    rate = f"{row['states_per_cpu_s']:10,.0f} states/CPU-s   " if "states_per_cpu_s" in row else ""
    print(f"  {name:26} {rate}" + "  ".join(f"{row[k]:.1e}" for k in SHARES if k in row), flush=True)


def beside(n: int, points: int, net, trained: bool) -> list[dict]:
    "Speed and error of all ways to one table of questions."
    feed, membrane = problem(n)
    film = Film(thickness=FILM)
    flux = torch.tensor(np.geomspace(5, 100, points) if points > 1 else [20.0]).expand(n, -1) * LMH
    exact = lambda rtol: simulate(feed, flux, membrane, ions=IONS, film=film, rtol=rtol, throw=False).rejection
    ways = {"certified, rtol 1e-4": lambda: exact(1e-4)}
    for steps in (4, 6):
        form = SetPoreODENet(steps)
        ways[f"closed form, {steps} steps"] = lambda form=form: 1 - form.passage(feed, flux, told(feed, membrane, film))
    ways[GIVEN] = lambda: 1 - given_away(feed, flux, told(feed, membrane, film))[0]
    ways["direct network"] = lambda: 1 - direct(net, feed, flux, told(feed, membrane, film))
    print(f"{n} curves of {points} flux(es); |ΔR| against rtol 1e-8: median, 95 %, 99.9 %")
    best, rows = exact(1e-8).numpy(), []
    for name, f in ways.items():
        with torch.no_grad():
            seconds, R = cpu(f)
        off = sized((R.numpy() - best)[np.isfinite(best)]) if trained or "network" not in name else {}
        rows.append({"way": name, "fluxes": points, "states_per_cpu_s": n * points / seconds, **off})
        said(name, rows[-1])
    return rows


def at_the_door(n: int, net) -> dict:
    "What `predict` costs, what it would cost if the pore model cost nothing, and means of a network beside its own."
    model, c = answer.load_answer("nf270"), some_feeds(n)
    feed = {i: c[:, k] for k, i in enumerate(IONS)}
    ask = lambda: model.predict(feed, flux=20 * LMH, film=FILM)
    whole, table = cpu(ask, 2)
    kept = []
    keep = lambda *a, _f=answer.passages, **k: kept.append(_f(*a, **k)) or kept[-1]
    with mock.patch.object(answer, "passages", keep):
        ask()
    stored = iter(kept * 3)
    with mock.patch.object(answer, "passages", lambda *a, **k: next(stored)):
        rest, _ = cpu(ask, 2)
    out = {"feeds": n, "membranes": len(model), "cpu_s": whole, "without_solver_cpu_s": rest}
    line = f"door: {n} feeds before {len(model)} membranes {whole:.2f} CPU-s, with a pore model that costs nothing"
    print(f"{line} {rest:.2f}: at most {whole / rest:.1f} times as fast by any stand-in", flush=True)
    if net is not None:
        wide, m, offset, thick, _ = model._problem(IONS, c, "observed", FILM, 298.15)
        t = lambda v: torch.tensor(np.asarray(v, float))
        membrane = Membrane(*(t(m[k]) for k in ("r_pore", "thickness", "charge", "eps_pore")),
                            ln_partition={i: t(offset[:, k]) for k, i in enumerate(IONS)})  # fmt: skip
        flux = torch.full((len(wide), 1), 20 * LMH, dtype=torch.float64)
        R = 1 - direct(net, t(wide), flux, told(t(wide), membrane, Film(thickness=t(thick))))
        mean = R.view(len(model), n, len(IONS)).mean(0).flatten().numpy()
        order = table.sort_values(["sample", "ion"], key=lambda s: s.map(IONS.index) if s.name == "ion" else s)
        off, width = np.abs(mean - order.rejection.to_numpy()), (order.upper - order.lower).to_numpy()
        out |= {"within_a_tenth": float((off <= 0.1 * width).mean()), "mean": sized(off)}
        print(f"  direct network, means over membranes: {out['within_a_tenth']:.1%} within a tenth of the interval")
    return out


# D of La+3 from its limiting conductivity, 69.7 S cm2/mol an equivalent (CRC Handbook of Chemistry and Physics,
# "Ionic conductivity and diffusion at infinite dilution"), its Stokes radius by Stokes and Einstein
OTHERS = {"La+3": (3.0, 0.619e-9, 0.396e-9)}
UNSEEN = ("Cs+", "H+", "La+3", "F-", "Br-", "HCO3-", "OH-")


def unseen(n: int, net, points: int = 4, seed: int = 5) -> list[dict]:
    """Mixtures of ions beyond the eight before membranes of the answer, beside the certified solver. What is in doubt
    was settled on the seeds 1 to 4."""
    own = lambda i: OTHERS.get(i) or (float(get_ion(i).z), get_ion(i).D_bulk, get_ion(i).r_stokes)
    z, D, r = (np.array(v) for v in zip(*map(own, UNSEEN), strict=True))
    rng, p = np.random.default_rng(seed), answer.load_answer("nf270").parameters
    q = {k: v.to_numpy() for k, v in p.iloc[rng.integers(0, len(p), n)].items()}
    c = draw_feeds(rng, z, n)
    m = {k: q[k] for k in ("r_pore", "thickness", "eps_pore")} | {"film": np.full(n, FILM)}
    m["charge"] = charge_of(q, c, z, UNSEEN)
    what = tell_any(c, z, D, r, m, np.stack([offset_of(q, i, int(v)) for i, v in zip(UNSEEN, z, strict=True)], 1))
    c, flux = torch.tensor(c), torch.tensor(np.geomspace(5, 100, points)).expand(n, -1) * LMH
    exact, rows = solve(c, flux, what), []
    ways = {"closed form, 6 steps": lambda: SetPoreODENet(6).passage(c, flux, what)}
    ways[GIVEN] = lambda: given_away(c, flux, what)[0]
    if net is not None:
        ways["direct network"] = lambda: direct(net, c, flux, what)
    for way, f in ways.items():
        with torch.no_grad():
            e = (f() - exact).numpy()
        print(f"{way}, {n} feeds of two to {len(UNSEEN)} ions beyond the eight; |ΔR|: median, 95 %, 99.9 %")
        for k, name in enumerate((*UNSEEN, "all")):
            column = slice(None) if name == "all" else slice(k, k + 1)
            rows.append({"way": way, "ion": name, **sized(e[:, :, column][exact[:, :, column].isfinite()])})
            said(name, rows[-1])
    asked = given_away(c, flux, what)[1].double().mean().item()
    print(f"  {asked:.2%} of the states given to the certified solver")
    return [row | ({"given": asked} if row["way"] == GIVEN else {}) for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--feeds", type=int, default=2048)
    parser.add_argument("--train", type=float, default=0, help="CPU-seconds of training for the direct network")
    parser.add_argument("--store", action="store_true")
    a = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    net, facts = taught(a.train) if a.train else (Direct(), {})
    print(f"direct network: {facts or 'untrained'}", flush=True)
    record = {"states": [row for points in (1, 16) for row in beside(a.feeds, points, net, bool(facts))]}
    asked = net if facts else None
    record |= {"door": at_the_door(min(a.feeds, 500), asked), "unseen": unseen(a.feeds, asked), "direct": facts}
    if a.store:
        path = Path(ion_ode.__file__).parent / "assets" / "stand_in.json"
        atomic_write(path, json.dumps(record | {"provenance": provenance(seed=0)}, indent=1) + "\n")


if __name__ == "__main__":
    main()

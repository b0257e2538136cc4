"""Stand-ins beside the certified solver: states a CPU-second and what each costs in R.

    OMP_NUM_THREADS=1 python benchmarks/stand_in.py [--feeds 1024] [--train 1200] [--store]

Membranes of load_model("nf270") behind a film of 25 µm, feeds of Na+, Mg+2, Cl-, SO4-2. A stand-in has a place in an
answer where it is faster than the certified solver and its error is a tenth of the interval. Both are printed: for the
closed form, alone, with the states in doubt given to the certified solver, and with what it misses learnt
(`field_rest.py`); for the field that all ions share (`shared_field.py`); and for the network that ships with the answer
(`answer_network.py`), which maps straight to the permeate. Weights of the others lie beside this file; `--train` makes
them in so many CPU-seconds each.
Then ions beyond the eight of the NF270 studies, by the ion whose R is asked, and invented ions. `--store` writes what
page 02h reads, and weights that were trained."""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from direct_network import FLUX_TOLD, FRESH, SHARES, draw_curves, draw_feeds, sized, solve, tell_any
from field_rest import new_rest, taught_rest, with_rest
from safetensors import safe_open
from safetensors.torch import save_file
from shared_field import Passage, new_field, taught_field

import ion_ode
from ion_ode.attention_odenet.set_pore import PoreTold, SetPoreODENet
from ion_ode.core import LMH
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.problem import transport_problem
from ion_ode.dspmde.solve import simulate
from ion_ode.inference import answer
from ion_ode.inference.laws import charge_of, offset_of
from ion_ode.inference.network import load_network, passed
from ion_ode.store import atomic_write, provenance
from ion_ode.water.ions import get_ion

IONS = ("Na+", "Mg+2", "Cl-", "SO4-2")
FILM = 25e-6
GIVEN = "closed form or certified"
WEIGHTS = Path(__file__).with_suffix(".safetensors")
NETWORKS = {"field": (new_field, taught_field), "rest": (new_rest, taught_rest)}


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


def of_predict(c_feed, flux, what: PoreTold) -> torch.Tensor:
    "Permeate over feed (curve, point, ion) by the network that ships with the answer, for one set of ions."
    n, points = flux.shape
    every = lambda t: np.asarray(t).T.repeat(points, -1)
    j = np.asarray(flux).ravel() / FLUX_TOLD
    planes = [every(c_feed), every(what.ln_mouth), every(what.peclet) * j, every(what.K_conv), every(what.film) * j]
    through, _ = passed(load_network()[0], np.asarray(what.z[0]), np.stack(planes), every(what.charge))
    r = torch.from_numpy(through.T.reshape(n, points, -1).astype(float))
    return torch.where((c_feed > 0).unsqueeze(1), r, torch.nan)


def trained(seconds: float) -> tuple[dict, dict]:
    "All networks, trained for so many CPU-seconds each, and what that took."
    made = {name: teach(seconds) for name, (_, teach) in NETWORKS.items()}
    return {k: net for k, (net, _) in made.items()}, {k: facts for k, (_, facts) in made.items()}


def keep(nets: dict, facts: dict) -> None:
    "Store weights with what they took."
    weights = {f"{k}.{name}": p.detach().contiguous() for k, net in nets.items() for name, p in net.named_parameters()}
    save_file(weights, WEIGHTS, {"facts": json.dumps(facts), "provenance": json.dumps(provenance(seed=0))})


def kept() -> tuple[dict, dict]:
    "The networks that are stored, and what they took."
    with safe_open(WEIGHTS, "pt") as f, torch.no_grad():
        facts = json.loads(f.metadata()["facts"])
        nets = {name: NETWORKS[name][0]() for name in facts}
        for k, net in nets.items():
            for name, p in net.named_parameters():
                p.copy_(f.get_tensor(f"{k}.{name}"))
        return nets, facts


def stand_ins(nets: dict) -> dict:
    "Ways from feed, flux and what a pore makes of each ion to permeate over feed, (curve, point, ion)."
    return {
        "closed form, 6 steps": lambda *given: SetPoreODENet(6).passage(*given),
        GIVEN: lambda *given: given_away(*given)[0],
        "closed form, rest learnt": lambda *given: with_rest(nets["rest"], *given),
        "shared field": Passage(nets["field"]),
        "network of predict": of_predict,
    }


def said(name: str, row: dict) -> None:
    rate = f"{row['states_per_cpu_s']:10,.0f} states/CPU-s   " if "states_per_cpu_s" in row else ""
    print(f"  {name:26} {rate}" + "  ".join(f"{row[k]:.1e}" for k in SHARES if k in row), flush=True)


def beside(n: int, points: int, nets: dict) -> list[dict]:
    "Speed and error of all ways to one table of questions."
    feed, membrane = problem(n)
    film = Film(thickness=FILM)
    flux = torch.tensor(np.geomspace(5, 100, points) if points > 1 else [20.0]).expand(n, -1) * LMH
    exact = lambda rtol: simulate(feed, flux, membrane, ions=IONS, film=film, rtol=rtol, throw=False).rejection
    ways, four = {"certified, rtol 1e-4": lambda: exact(1e-4)}, SetPoreODENet(4)
    for name, way in ({"closed form, 4 steps": four.passage} | stand_ins(nets)).items():
        ways[name] = lambda way=way: 1 - way(feed, flux, told(feed, membrane, film))
    print(f"{n} curves of {points} flux(es); |ΔR| against rtol 1e-8: median, 95 %, 99.9 %")
    best, rows = exact(1e-8).numpy(), []
    for name, f in ways.items():
        with torch.no_grad():
            seconds, R = cpu(f)
        off = sized((R.numpy() - best)[np.isfinite(best)])
        rows.append({"way": name, "fluxes": points, "states_per_cpu_s": n * points / seconds, **off})
        said(name, rows[-1])
    return rows


# D of La+3 from its limiting conductivity, 69.7 S cm2/mol an equivalent (CRC Handbook of Chemistry and Physics,
# "Ionic conductivity and diffusion at infinite dilution"), its Stokes radius by Stokes and Einstein
OTHERS = {"La+3": (3.0, 0.619e-9, 0.396e-9)}
UNSEEN = ("Cs+", "H+", "La+3", "F-", "Br-", "HCO3-", "OH-")


def unseen(n: int, nets: dict, points: int = 4, seed: int = 5) -> list[dict]:
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
    for way, f in stand_ins(nets).items():
        with torch.no_grad():
            e = (f(c, flux, what) - exact).numpy()
        print(f"{way}, {n} feeds of two to {len(UNSEEN)} ions beyond the eight; |ΔR|: median, 95 %, 99.9 %")
        for k, name in enumerate((*UNSEEN, "all")):
            column = slice(None) if name == "all" else slice(k, k + 1)
            rows.append({"way": way, "ion": name, **sized(e[:, :, column][exact[:, :, column].isfinite()])})
            said(name, rows[-1])
    asked = given_away(c, flux, what)[1].double().mean().item()
    print(f"  {asked:.2%} of the states given to the certified solver")
    return [row | ({"given": asked} if row["way"] == GIVEN else {}) for row in rows]


def invented(sets: int, nets: dict) -> list[dict]:
    "Invented ions, two to fifteen a set, before membranes of the answer and invented ones, beside the solver."
    rows, ways = [], stand_ins(nets)
    for kind, first in (("of the answer", 1), ("invented", 0)):
        errors = {way: [] for way in ways}
        for seed in range(FRESH + first, FRESH + first + 4 * sets, 4):
            *given, exact = draw_curves(seed, 128, 4, n_ions=None)
            for way, f in ways.items():
                with torch.no_grad():
                    errors[way].append((f(*given) - exact)[exact.isfinite()].numpy())
        print(f"invented ions, membranes {kind}; |ΔR|: median, 95 %, 99.9 %")
        for way, e in errors.items():
            rows.append({"way": way, "membranes": kind, "values": sum(map(len, e)), **sized(np.concatenate(e))})
            said(way, rows[-1])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--feeds", type=int, default=1024)
    parser.add_argument("--train", type=float, default=0, help="CPU-seconds of training for every network")
    parser.add_argument("--store", action="store_true")
    a = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    nets, facts = trained(a.train) if a.train else kept()
    print(f"trained: {facts}", flush=True)
    if a.store and a.train:
        keep(nets, facts)
    record = {"states": [row for points in (1, 16) for row in beside(a.feeds, points, nets)]}
    record |= {"unseen": unseen(a.feeds, nets), "invented": invented(max(a.feeds // 128, 1), nets), "trained": facts}
    if a.store:
        path = Path(ion_ode.__file__).parent / "assets" / "stand_in.json"
        atomic_write(path, json.dumps(record | {"provenance": provenance(seed=0)}, indent=1) + "\n")


if __name__ == "__main__":
    main()

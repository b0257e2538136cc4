"""The network behind `predict(..., solver="network")`: its examples, its training, and what it is worth at the door.

    OMP_NUM_THREADS=1 python benchmarks/answer_network.py [--train 300 [--go-on] [--seeds 2]] [--sets 2000]
                                                           [--feeds 400] [--store]

Examples are certified states at one flux: six of ten sets are real ions before membranes like those of
`load_model("nf270")` with coupons, at 10 to 35 °C; the rest are invented ions before the same membranes and, every
tenth set, invented ones; two to twelve ions, with a film or hardly any. `--train` teaches a stack of networks, one a
seed, in so many CPU-seconds and keeps the one that is least wrong on sets of their own (`CHOICE`, which neither the
training nor the tables read); `--go-on` on other examples from the weights there are; with `--store` it becomes the one
that ships (assets/weights/passages.safetensors).
The table asks `predict` by the certified solver, by the network, and by the certified solver for 32 of the membranes
(`members=32`), for several waters at one flux and along curves, all in one run: CPU time, how far means and ends of
intervals are off in units of the interval's width, and the share that the network answered; beside it how far the R of
every single membrane is off, as taken by `predict`, at one flux. `--store` writes
assets/answer_network.json, which page 02h reads."""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from direct_network import FLUX_TOLD, FRESH, _pores, draw_feeds, draw_ions, sized, tell_any

import ion_ode
from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.core import LMH, T_REF
from ion_ode.dspmde.conditions import eps_pore_at
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.kernel import packed, solve_all
from ion_ode.dspmde.kernel_newton import REFINED
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.problem import Transport, transport_problem
from ion_ode.inference.answer import _through, load_answer
from ion_ode.inference.laws import NEIGHBOURS, OWN_OFFSETS, charge_of, offset_of
from ion_ode.inference.network import NEAR, PassageNetwork, Seen, keep_network, load_network, look
from ion_ode.inference.reader import effective, smoothed
from ion_ode.inference.stand_in import Shortcut
from ion_ode.store import atomic_write, provenance
from ion_ode.training.soap import Soap
from ion_ode.water.donnan import neutral
from ion_ode.water.ions import get_ion

ASSETS = Path(ion_ode.__file__).parent / "assets"
POINTS, WIDTH, BATCH, RATE, MOST = 6, 24, 2048, 3e-3, 5.0
CHOICE, CHOSEN_ON = 500_000, 40  # First of the sets that choose among seeds, and how many
NAMES = tuple(dict.fromkeys((*OWN_OFFSETS, *NEIGHBOURS, "H+", "OH-", "CO3-2", "Ba+2", "Sr+2")))
ABSENT = (0.0, 0.0, 0.1, 1.0, 0.0, 0.0, 1.0)  # c_feed, ln_entry, peclet, K_conv, film, ln of passage, z
FACTS = ("sets", "states", "cpu_s")  # Of a training


def fluxes(rng, n: int, D: float, film: np.ndarray) -> np.ndarray:  # (n, POINTS) [m/s]
    "A decade and a half below a largest flux of 8 to 150 L/m²/h each, less where a film would hold everything."
    top = np.minimum(np.exp(rng.uniform(np.log(8), np.log(150), (n, 1))) * LMH, 3 * D / film[:, None])
    return top * 10 ** (-1.5 * np.sort(rng.random((n, POINTS)), axis=1)[:, ::-1])


def invented(rng, n: int, n_ions: int, wide: bool) -> Transport:
    "Invented ions before membranes of the answer, or invented ones."
    cations = int(rng.integers(1, n_ions))
    z, D, r = draw_ions(rng, cations, n_ions - cations)
    c = draw_feeds(rng, z, n)
    m, excess = _pores(rng, c, z, wide)
    m["film"] = np.where(rng.random(n) < 0.2, 1e-9, 25e-6 * np.exp(0.6 * rng.standard_normal(n)))
    told = tell_any(c, z, D, r, m, excess)
    every = lambda t: np.repeat(np.asarray(t).T, POINTS, -1)
    j, present = fluxes(rng, n, D.min(), m["film"]).ravel() / FLUX_TOLD, every(c > 0)
    ln_feed = np.where(present, np.log(np.where(present, every(c), 1)), 0)
    return Transport(z[:, None], present, ln_feed, every(told.ln_mouth), every(told.peclet) * j, every(told.K_conv),
                     every(told.charge), film_peclet=every(told.film) * j)  # fmt: skip


def of_answer(rng, n: int, n_ions: int, model) -> Transport:
    "Real ions before membranes like the answer's with coupons, 10 to 35 °C."
    valence = lambda names: np.array([get_ion(i).z for i in names], float)
    names = tuple(rng.choice(NAMES, n_ions, replace=False))
    while len(set(np.sign(valence(names)))) < 2:
        names = tuple(rng.choice(NAMES, n_ions, replace=False))
    z, T = valence(names), rng.uniform(283, 308)
    p = effective(smoothed(model.x, n, rng), rng.standard_normal((n, 5)), model.prior)
    c = draw_feeds(rng, z, n)
    film = np.where(rng.random(n) < 0.2, 1e-9, np.clip(25e-6 * np.exp(0.5 * p["film"]), 1e-7, 2e-4))
    charge = np.clip(charge_of(p, c, z, names) * p["factor"], -5000, 5000)
    offset = {i: offset_of(p, i, int(v)) for i, v in zip(names, z, strict=True)}
    m = Membrane(p["r_pore"], p["thickness"], charge, eps_pore_at(p["eps_pore"], T), ln_partition=offset)
    J = fluxes(rng, n, min(get_ion(i).D_bulk for i in names), film)
    return transport_problem(names, c, J, m, Film(thickness=film), temperature=T)[0]


def drawn(seed: int, model, n: int = 128) -> tuple[np.ndarray, np.ndarray]:
    "Certified states of one set of ions: c_feed to z as in `ABSENT` (7, ion, state), and charges (state,)."
    rng = np.random.default_rng(seed)
    n_ions = int(rng.integers(2, 7) if rng.random() < 0.8 else rng.integers(7, 13))
    kind = seed % 10
    q = of_answer(rng, n, n_ions, model) if kind < 6 else invented(rng, n, n_ions, kind == 9)
    z, rows, own, form = packed(q)
    found = solve_all(z, rows, own, form, np.ones((q.size // POINTS, POINTS)), 1e-6)
    y = np.where(q.present, found["u"][:n_ions] - q.ln_feed, 0.0)
    good = (found["code"] <= REFINED) & (y > np.log(1e-7)).all(0)
    c = np.where(q.present, np.exp(q.ln_feed), 0.0)
    planes = np.stack([c, q.ln_entry, q.peclet, q.K_conv, q.film_peclet, y, np.broadcast_to(q.z, c.shape)])
    return planes[..., good].astype(np.float32), np.asarray(q.charge)[good].astype(np.float32)


class Examples:
    "States in two bins, of few ions and of many, as the network sees them; what passes, and where there is an ion."

    ends = (6, 12)

    def __init__(self, sets, model):
        bins = {e: [] for e in self.ends}
        for s in sets:
            planes, charge = drawn(s, model)
            most = min(e for e in self.ends if e >= planes.shape[1])
            wide = np.tile(np.array(ABSENT, np.float32)[:, None, None], (1, most, planes.shape[2]))
            wide[:, : planes.shape[1]] = planes
            bins[most].append((wide, charge))
        self.bins = []
        for parts in bins.values():
            planes, charge = (torch.tensor(np.concatenate(v, -1)) for v in zip(*parts, strict=True))
            c, ln_entry, peclet, K_conv, film, wanted, z = planes
            told = zip(*(v.split(8192, -1) for v in (z, c, ln_entry, peclet, K_conv, charge, film)), strict=True)
            seen = Seen(*(torch.cat(v, -1) for v in zip(*(look(*part) for part in told), strict=True)))
            self.bins.append((seen, wanted.exp(), c > 0))

    def __len__(self):
        return sum(wanted.shape[1] for _, wanted, _ in self.bins)

    def batch(self, n: int, draw) -> tuple[Seen, torch.Tensor, torch.Tensor]:
        "Four of five batches of few ions; half as many states where there are many."
        many = int(torch.rand((), generator=draw) < 0.2)
        seen, wanted, there = self.bins[many]
        i = torch.randint(wanted.shape[1], (n // (1 + many),), generator=draw)
        return Seen(*(v[..., i] for v in seen)), wanted[:, i], there[:, i]


def off(answer, wanted) -> tuple[torch.Tensor, torch.Tensor]:
    "Errors over permeate over feed and NEAR, and what the network says of them."
    y, doubt = answer
    return (y - wanted) / (wanted + NEAR), doubt


def loss_of(e, doubt, there) -> torch.Tensor:  # (*member)
    "Errors beyond .001 count as they are, smaller ones less; what the network says of them is their 95th percentile."
    x, miss = e / 1e-3, (e.detach().abs() + 1e-6).log() - doubt
    pinball = torch.where(miss > 0, 0.95 * miss, -0.05 * miss)
    return (((1 + x * x).sqrt() - 1 + 0.1 * pinball) * there).sum((-1, -2)) / there.sum()


def of_all(nets: Ensemble, seen: Seen) -> tuple[torch.Tensor, torch.Tensor]:
    "What every member says of the same states, (member, ion, state)."
    return nets(Seen(*(v.expand(len(nets), *v.shape) for v in seen)))


def step_of(soap: Soap, nets: Ensemble, batch) -> torch.Tensor:  # (member,)
    "One step of every member, each with its own limit of the gradient."
    seen, wanted, there = batch
    loss = loss_of(*off(of_all(nets, seen), wanted), there)
    soap.zero_grad()
    loss.sum().backward()
    grads = [p.grad for p in nets.params.values()]
    size = sum(g.square().flatten(1).sum(1) for g in grads).sqrt()
    for g in grads:
        g.mul_((MOST / size.clamp_min(MOST)).view(-1, *[1] * (g.dim() - 1)))
    soap.step()
    return loss.detach()


def best(nets: Ensemble, model) -> PassageNetwork:
    "The member that is least wrong on sets that are there to choose by."
    own = Examples(range(CHOICE, CHOICE + CHOSEN_ON), model).bins
    with torch.no_grad():
        loss = sum(loss_of(*off(of_all(nets, seen), wanted), there) for seen, wanted, there in own)
    print("seeds on the sets of the choice: " + "  ".join(f"{v:.3g}" for v in loss), flush=True)
    return nets.member(int(loss.argmin()))


def taught(seconds: float, sets: range, seeds: int, start: PassageNetwork | None = None) -> tuple:
    "A network taught in so many CPU-seconds, from nothing or gently on from another, and what that took."
    began, model = time.process_time(), load_answer("nf270")
    examples = Examples(sets, model)
    solved = time.process_time() - began
    print(f"{len(examples):,} states in {solved:.0f} CPU-seconds", flush=True)
    nets, draw, step, far = [], torch.Generator().manual_seed(sets.start), 0, 1 / 0.7 if start is None else 0.5
    for seed in range(seeds):
        torch.manual_seed(seed)
        nets.append(PassageNetwork(WIDTH))
        if start is None:
            nets[-1].head.weight.data.mul_(0.1)
        else:
            nets[-1].load_state_dict(start.state_dict())
    nets = Ensemble(nets)
    soap, began = Soap(nets.params.values(), lr=RATE), time.process_time()
    while (gone := (time.process_time() - began) / seconds) < 1:
        soap.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 300, (1 - gone) * far) + 1e-6
        loss = step_of(soap, nets, examples.batch(BATCH, draw))
        step += 1
        if step % 500 == 0:
            print(f"  step {step}, {gone:.0%} of the time: loss {loss.min():.3g}", flush=True)
    return best(nets, model), dict(zip(FACTS, (len(sets), len(examples), round(solved + seconds)), strict=True))


def accuracy(net: PassageNetwork, model, sets: int = 60) -> list[dict]:
    "Errors of R of states of sets it was not taught, and how often they are within what it says of them."
    rows = []
    for most, (seen, wanted, there) in zip(
        Examples.ends, Examples(range(FRESH, FRESH + sets), model).bins, strict=True
    ):
        with torch.no_grad():
            e, doubt = off(net(seen), wanted)
        R = (e * (wanted + NEAR)).abs()[there].numpy()
        inside = (e.abs() < doubt.exp())[there].double().mean().item()
        fields = neutral(seen.ln_r.exp(), seen.z, seen.share / seen.z.abs(), 0) - wanted
        rows.append({"ions": most, "values": len(R), "within_doubt": inside, **sized(R), "most": float(R.max())})
        rows[-1] |= {f"fields_{k}": v for k, v in sized(fields[there].numpy()).items()}
        print(f"up to {most} ions: " + "  ".join(f"{k} {v:.2g}" for k, v in rows[-1].items()), flush=True)
    return rows


def waters(n: int, seed: int = 3) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    "Feeds (n, ion) [mol/m³] of a few kinds."
    rng = np.random.default_rng(seed)
    c = np.exp(rng.uniform(np.log(0.3), np.log(300), n))
    a, b, d = np.exp(rng.uniform(np.log(0.3), np.log(40), (3, n)))
    four = np.column_stack([a + 2 * d, b, a + 2 * b, d])
    trace = 10.0 ** rng.uniform(-9, -3, n)
    eight = ("Na+", "K+", "Ca+2", "Mg+2", "Cl-", "SO4-2", "HCO3-", "NO3-")
    natural = draw_feeds(rng, np.array([get_ion(i).z for i in eight], float), n)
    with_trace = np.column_stack([four[:, 0] + trace, four[:, 1:], trace])
    return {
        "NaCl": (("Na+", "Cl-"), np.column_stack([c, c])),
        "MgCl2": (("Mg+2", "Cl-"), np.column_stack([c, 2 * c])),
        "Na+, Mg+2, Cl-, SO4-2": (("Na+", "Mg+2", "Cl-", "SO4-2"), four),
        "the same with a trace of NO3-": (("Na+", "Mg+2", "Cl-", "SO4-2", "NO3-"), with_trace),
        "two to eight ions": (eight, natural),
    }


def timed(f) -> tuple[float, object]:
    start = time.process_time()
    out = f()
    return time.process_time() - start, out


def at_the_door(feeds: int, model) -> list[dict]:
    "What predict costs and how far off it is, the ways in turn."
    rows, rng = [], np.random.default_rng(1)
    for kind, (names, c) in waters(feeds).items():
        for points in (1, 4, 8, 32):
            some = c[: max(20, feeds // points)]
            flux = rng.uniform(2, 80, (len(some), 1)) * LMH if points == 1 else np.geomspace(3, 100, points) * LMH
            ask = lambda some=some, flux=flux, names=names, **how: model.predict(some, flux, ions=names, **how)
            ask(solver="network")
            taken, exact = timed(ask)
            row = {"water": kind, "fluxes": points, "feeds": len(some), "exact_us": taken}
            width = exact.upper - exact.lower
            for way, how in {"network": {"solver": "network"}, "members": {"members": 32}}.items():
                row[f"{way}_us"], other = timed(lambda how=how, ask=ask: ask(**how))
                ends = np.maximum((exact.lower - other.lower).abs(), (exact.upper - other.upper).abs())
                for what, v in {"mean": (exact.rejection - other.rejection).abs(), "ends": ends}.items():
                    row |= {
                        f"{way}_{what}_95": float((v / width).quantile(0.95)),
                        f"{way}_{what}_most": float((v / width).max()),
                    }
                if way == "network":
                    row["by_network"] = other.attrs["by_network"]
            for way in ("exact", "network", "members"):
                row[f"{way}_us"] *= 1e6 / (len(some) * len(model) * points)
            rows.append(row)
            said = "  ".join(f"{k} {v:.3g}" for k, v in row.items() if k not in ("water", "fluxes"))
            print(f"{kind}, {points} flux(es): {said}", flush=True)
    return rows


def served(feeds: int, model) -> list[dict]:
    "Errors of the R of every membrane that `predict(solver='network')` takes, against the certified solver."
    rng, errors = np.random.default_rng(2), {}
    for kind, (names, c) in waters(feeds, seed=4).items():
        flux = rng.uniform(2, 80, (len(c), 1)) * LMH
        how = names, c, flux, False, "observed", None, T_REF
        exact = model._solve(*how)[1]
        errors[kind] = np.abs(Shortcut(_through).rejections(model, *how, None, 0.9)[1] - exact)[np.isfinite(exact)]
    errors["all"] = np.concatenate([*errors.values()])
    rows = [{"water": k, "values": len(e), **sized(e), "most": float(e.max())} for k, e in errors.items()]
    for row in rows:
        print("  ".join(f"{v:.2g}" if isinstance(v, float) else f"{v}" for v in row.values()), flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=float, default=0, help="CPU-seconds of training")
    parser.add_argument("--go-on", action="store_true", help="from the weights that ship, at half the rate")
    parser.add_argument("--seeds", type=int, default=2, help="networks of the stack that is taught")
    parser.add_argument("--sets", type=int, default=2000, help="sets of examples")
    parser.add_argument("--feeds", type=int, default=400)
    parser.add_argument("--store", action="store_true")
    a = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model, path = load_answer("nf270"), ASSETS / "weights" / "passages.safetensors"
    net, facts = load_network() if a.go_on or not a.train else (None, dict.fromkeys(FACTS, 0))
    if a.train:
        net, more = taught(a.train, range(facts["sets"], facts["sets"] + a.sets), a.seeds, net)
        facts = {k: facts[k] + v for k, v in more.items()}
        if a.store:
            keep_network(net, path, facts | {"provenance": provenance(seed=0)})
    record = {
        "trained": {k: facts[k] for k in FACTS},
        "membranes": len(model),
        "accuracy": accuracy(net, model),
    }
    record["served"] = served(a.feeds, model)
    record["door"] = at_the_door(a.feeds, model)
    if a.store:
        text = json.dumps(record | {"provenance": provenance(seed=0)}, indent=1)
        atomic_write(ASSETS / "answer_network.json", text + "\n")


if __name__ == "__main__":
    main()

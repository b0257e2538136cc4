"""The closed form beside the certified solver: curves a CPU-second and what the stand-in costs in R.

    OMP_NUM_THREADS=1 python benchmarks/stand_in.py [--feeds 512]

Membranes of load_model("nf270") behind a film of 25 µm, feeds of Na+, Mg+2, Cl-, SO4-2. A stand-in has a place in an
answer where it is faster than the certified solver and its error is a tenth of the interval; both are printed. Then
ions beyond the eight of the NF270 studies, before random membranes and films, by the ion whose R is asked.
"""

import argparse
import time

import numpy as np
import torch

from ion_ode.attention_odenet.set_pore import PoreTold, SetPoreODENet
from ion_ode.core import LMH, T_REF
from ion_ode.dspmde.certify import REFINED, certify
from ion_ode.dspmde.entry import born_energy, hindrance_dechadilok_deen, partition_steric
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.problem import Transport, transport_problem
from ion_ode.dspmde.solve import simulate
from ion_ode.inference.answer import load_answer
from ion_ode.inference.laws import charge_of, offset_of
from ion_ode.water.ions import eps_water, get_ion

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


def draw_feeds(
    rng: np.random.Generator,
    z: np.ndarray,  # (ion,)
    n: int,
) -> np.ndarray:  # (n, ion) [mol/m³]
    "Neutral feeds of two to all of the ions, .5 to 600 equivalents/m³, three decades between major and minor."
    equivalents = np.exp(rng.uniform(np.log(0.5), np.log(600), n))
    share, rank = 10.0 ** (-3 * rng.random((n, len(z)))), rng.random((n, len(z)))
    for sign in (1, -1):  # one of each sign comes first
        rank[np.arange(n), np.where(z * sign > 0, rank, np.inf).argmin(1)] = -1
    count = rng.integers(2, len(z) + 1, (n, 1))
    share = np.where(rank.argsort(1).argsort(1) < count, share, 0.0)
    up, down = (share * (z > 0)).sum(1, keepdims=True), (share * (z < 0)).sum(1, keepdims=True)
    return equivalents[:, None] * share / np.where(z > 0, up, down) / np.abs(z)


def tell_any(
    c_feed: np.ndarray,  # (n, ion) [mol/m³]
    z: np.ndarray,  # Valences (ion,)
    D: np.ndarray,  # Diffusivities (ion,) [m²/s]
    r_stokes: np.ndarray,  # (ion,) [m]
    membrane: dict[str, np.ndarray],  # r_pore, thickness, eps_pore, charge, film (n,), SI
    excess: np.ndarray,  # ln of the excess partitioning (n, ion)
) -> PoreTold:
    "What membranes and films make of ions that need no row in the table."
    z, D, r, excess = (torch.as_tensor(x) for x in (z, D, r_stokes, excess))
    m, n = {k: torch.tensor(v) for k, v in membrane.items()}, len(c_feed)
    water, T = eps_water(T_REF), torch.full((n,), T_REF, dtype=torch.float64)
    lam = (r[:, None] / m["r_pore"]).clamp(max=0.97)
    K_conv, K_diff = hindrance_dechadilok_deen(lam)
    ln_mouth = partition_steric(lam).log() - born_energy(z[:, None], r[:, None], m["eps_pore"], water, T) + excess.T
    peclet, film = FLUX_TOLD * m["thickness"] / (K_diff * D[:, None]), FLUX_TOLD * m["film"] / D[:, None]
    return PoreTold(z.expand(n, -1), ln_mouth.T, peclet.T, K_conv.T, m["charge"], film.T)


def solve(
    c_feed: torch.Tensor,  # (curve, ion) [mol/m³]
    flux: torch.Tensor,  # (curve, point) [m/s]
    told: PoreTold,  # The same valences in every curve
    rtol: float = 1e-6,
) -> torch.Tensor:  # Permeate over feed, (curve, point, ion); nan where absent or without a certified solution
    "The certified solver's answer to what the field is told."
    n, points = flux.shape
    wide = lambda t: t.T.repeat_interleave(points, -1)
    present, j = wide(c_feed > 0), flux.reshape(-1) / FLUX_TOLD
    q = Transport(
        told.z[0][:, None], present, torch.where(present, wide(torch.where(c_feed > 0, c_feed, 1.0)).log(), 0.0),
        torch.where(present, wide(told.ln_mouth), 0.0), wide(told.peclet) * j, wide(told.K_conv),
        told.charge.repeat_interleave(points), film_peclet=wide(told.film) * j,
    )  # fmt: skip
    found = certify(q, None, rtol, n_flux=points)
    through = (found.u[: q.n_ions] - q.ln_feed).exp()
    good = present & (found.code <= REFINED)
    return torch.where(good, through, torch.nan).T.reshape(n, points, -1)


# D of La+3 from its limiting conductivity, 69.7 S cm2/mol an equivalent (CRC Handbook of Chemistry and Physics,
# "Ionic conductivity and diffusion at infinite dilution"), its Stokes radius by Stokes and Einstein
OTHERS = {"La+3": (3.0, 0.619e-9, 0.396e-9)}
UNSEEN = ("Cs+", "H+", "La+3", "F-", "Br-", "HCO3-", "OH-")


def unseen(n: int, points: int = 4):
    "Mixtures of ions beyond the eight before membranes of the answer, beside the certified solver."
    own = lambda i: OTHERS.get(i) or (float(get_ion(i).z), get_ion(i).D_bulk, get_ion(i).r_stokes)
    z, D, r = (np.array(v) for v in zip(*map(own, UNSEEN), strict=True))
    rng, p = np.random.default_rng(1), load_answer("nf270").parameters
    q = {k: v.to_numpy() for k, v in p.iloc[rng.integers(0, len(p), n)].items()}
    c = draw_feeds(rng, z, n)
    m = {k: q[k] for k in ("r_pore", "thickness", "eps_pore")} | {"film": np.full(n, 25e-6)}
    m["charge"] = charge_of(q, c, z, UNSEEN)
    told = tell_any(c, z, D, r, m, np.stack([offset_of(q, i, int(v)) for i, v in zip(UNSEEN, z, strict=True)], 1))
    c, flux = torch.tensor(c), torch.tensor(np.geomspace(5, 100, points)).expand(n, -1) * LMH
    exact = solve(c, flux, told)
    for steps in (4, 6):
        with torch.no_grad():
            e = (SetPoreODENet(steps).passage(c, flux, told) - exact).abs().numpy()
        print(f"closed form, {steps} steps, {n} feeds of two to {len(UNSEEN)} ions beyond the eight; |ΔR|: "
              "median, 95 %, 99.9 %")  # fmt: skip
        for k, name in enumerate((*UNSEEN, "all")):
            column = slice(None) if name == "all" else slice(k, k + 1)
            x = e[:, :, column][exact[:, :, column].isfinite()]
            print(f"  {name:6} " + "  ".join(f"{v:.1e}" for v in np.quantile(x, [0.5, 0.95, 0.999])), flush=True)


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
    unseen(n)


if __name__ == "__main__":
    main()

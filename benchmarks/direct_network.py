"""Invented ions, their feeds and pores, certified curves of them, and layers that all ions share.

`field_rest.py`, `shared_field.py` and `answer_network.py` teach what they are drawn for; `stand_in.py` holds the
stand-ins beside the certified solver."""

import numpy as np
import torch
from torch import Tensor, nn

from ion_ode.attention_odenet.pore_field import FLUX_TOLD
from ion_ode.attention_odenet.set_pore import PoreTold
from ion_ode.core import LMH, T_REF
from ion_ode.dspmde.certify import REFINED, certify
from ion_ode.dspmde.entry import born_energy, hindrance_dechadilok_deen, partition_steric
from ion_ode.dspmde.problem import Transport
from ion_ode.inference.answer import load_answer
from ion_ode.inference.laws import charge_of
from ion_ode.inference.reader import effective, smoothed
from ion_ode.water.ions import eps_water

FRESH = 1_000_000  # No network was trained on sets of this number and above
SHARES = {"median": 0.5, "within_95": 0.95, "within_999": 0.999}
STOKES_EINSTEIN = 2.45e-19  # D r_s in water at 25 °C, kT/(6 pi eta) [m³/s]
VALENCES = {1: ((1, 2, 3), (0.45, 0.40, 0.15)), -1: ((1, 2, 3), (0.60, 0.35, 0.05))}  # by sign, with their shares


def sized(e: np.ndarray) -> dict:
    "Quantiles of absolute errors."
    return {k: float(np.quantile(np.abs(e), q)) for k, q in SHARES.items()}


def draw_ions(rng: np.random.Generator, n_cations: int, n_anions: int) -> tuple[np.ndarray, ...]:
    "Invented ions: valences, diffusivities near Stokes and Einstein's with some far above, Stokes radii [m]."
    z, D, r = [], [], []
    for sign, n in ((1, n_cations), (-1, n_anions)):
        values, share = VALENCES[sign]
        for _ in range(n):
            valence = rng.choice(values, p=share)
            radius = rng.uniform(0.11e-9, 0.27e-9 if valence == 1 else 0.40e-9)
            jump = np.exp(rng.uniform(0, 2)) if rng.random() < 0.15 else 1.0  # protons hop
            z.append(sign * valence)
            r.append(radius)
            D.append(STOKES_EINSTEIN / radius * jump * np.exp(0.1 * rng.standard_normal()))
    return np.array(z, float), np.array(D), np.array(r)


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
    c_feed: Tensor,  # (curve, ion) [mol/m³]
    flux: Tensor,  # (curve, point) [m/s]
    told: PoreTold,  # The same valences in every curve
    rtol: float = 1e-6,
) -> Tensor:  # Permeate over feed, (curve, point, ion); nan where absent or without a certified solution
    "The certified solver's answer to what a network is told."
    present = (c_feed > 0).T
    q = Transport(
        told.z[0][:, None], present, torch.where(present, c_feed.T.clamp_min(1e-300).log(), 0.0),
        torch.where(present, told.ln_mouth.T, 0.0), told.peclet.T, told.K_conv.T, told.charge, film_peclet=told.film.T,
    )  # fmt: skip
    found = certify(q, None, rtol, flux=flux / FLUX_TOLD)
    through = (found.u[: q.n_ions].reshape(-1, *flux.shape) - q.ln_feed[..., None]).exp()
    good = present[..., None] & (found.code <= REFINED).reshape(flux.shape)
    return torch.where(good, through, torch.nan).permute(1, 2, 0)


def _pores(rng, c: np.ndarray, z: np.ndarray, invented: bool) -> tuple[dict[str, np.ndarray], np.ndarray]:
    "Membranes of the answer with coupons, or invented ones; ln of the excess partitioning (n, ion)."
    n = len(c)
    if invented:
        charge = 6 * np.sinh(1.5 * rng.standard_normal(n)) * (0.5 * (c * np.abs(z)).sum(1) / 15) ** rng.random(n)
        m = {"r_pore": rng.uniform(0.38e-9, 0.65e-9, n), "thickness": 2e-7 * 30 ** rng.random(n)}
        m |= {"eps_pore": np.clip(45 + 10 * rng.standard_normal(n), 20, 75), "charge": charge}
        return m, rng.standard_normal((n, 3))[:, np.abs(z).astype(int) - 1] + 0.4 * rng.standard_normal((n, len(z)))
    model = load_answer("nf270")
    p = effective(smoothed(model.x, n, rng), rng.standard_normal((n, 5)), model.prior)
    like = [{1: "Na+", 2: "Mg+2", 3: "Mg+2", -1: "Cl-"}.get(int(v), "SO4-2") for v in z]
    names = tuple(i if i[-1] == "2" and i not in like[:k] and rng.random() < 0.7 else "" for k, i in enumerate(like))
    excess = np.stack([p[f"ln {i}"] for i in like], 1) + 0.3 * rng.standard_normal((n, len(z)))
    m = {k: p[k] for k in ("r_pore", "thickness", "eps_pore")}
    return m | {"charge": charge_of(p, c, z, names) * p["factor"]}, excess


def draw_curves(seed: int, n: int = 128, points: int = 6, n_ions: int | None = 6) -> tuple:
    "Feeds, fluxes, what membranes and films make of one set of invented ions (None: 2 to 15), and permeate over feed."
    rng = np.random.default_rng(seed)
    n_ions = int(rng.integers(2, 16)) if n_ions is None else n_ions
    cations = int(rng.integers(2, n_ions - 1)) if n_ions > 3 else 1
    z, D, r = draw_ions(rng, cations, n_ions - cations)
    c = draw_feeds(rng, z, n)
    m, excess = _pores(rng, c, z, seed % 4 == 0)
    m["film"] = np.where(rng.random(n) < 0.3, 1e-9, 25e-6 * np.exp(0.5 * rng.standard_normal(n)))
    top = np.minimum(np.exp(rng.uniform(np.log(10), np.log(120), (n, 1))) * LMH, 3 * D.min() / m["film"][:, None])
    flux = torch.tensor(top * 10 ** (-1.5 * np.sort(rng.random((n, points)), axis=1)[:, ::-1].copy()))
    c, told = torch.tensor(c), tell_any(c, z, D, r, m, excess)
    return c, flux, told, solve(c, flux, told)


def look(c_feed: Tensor, flux: Tensor, told: PoreTold) -> tuple[Tensor, Tensor, Tensor]:
    "What the network reads of every state: (state, ion, feature), shares of the equivalents and valences (state, ion)."
    n, points = flux.shape
    every = lambda t: t.repeat_interleave(points, 0)
    j = (flux / FLUX_TOLD).reshape(-1, 1)
    valence = told.z.expand(n, -1)
    q = c_feed * valence.abs()
    total = q.sum(-1, keepdim=True)
    share = every(q / total)
    peclet, film = every(told.peclet) * j, every(told.film) * j
    charge = every(torch.asinh(4 * told.charge[:, None] / total)).expand_as(share)
    z = every(valence)
    parts = (z / 2, z.abs() == 2, z.abs() == 3, every(told.ln_mouth) / 3, peclet.log() / 3, torch.log1p(peclet),
             every(told.K_conv), torch.log1p(film), charge, charge * z / 2, share,
             (share + 1e-6).log() / 5)  # fmt: skip
    return torch.stack([p.to(share.dtype) for p in parts], -1), share, z


class Direct(nn.Module):
    "ln of permeate over feed of every ion, neutral: three layers that ions share, two of them told of the others."

    def __init__(self, width: int = 64, features: int = 12):
        super().__init__()
        self.own = nn.ModuleList([nn.Linear(features, width), nn.Linear(width, width), nn.Linear(width, width)])
        self.others = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in range(2)])
        self.head = nn.Linear(width, 1)

    def read(self, seen: Tensor, share: Tensor) -> Tensor:
        "A number for every ion, (state, ion)."
        x = nn.functional.silu(self.own[0](seen))
        for own, others in zip(self.own[1:], self.others, strict=True):
            around = others((share.unsqueeze(1) @ x).squeeze(1))
            x = nn.functional.silu(own(x) + around.unsqueeze(1))
        return self.head(x).squeeze(-1)


def balanced(y: Tensor, share: Tensor, z: Tensor) -> Tensor:
    "ln of permeate over feed with as much of either charge, (state, ion)."
    passed = share * y.exp()
    up, down = ((passed * (z * sign > 0)).sum(1, keepdim=True).clamp_min(1e-12).log() for sign in (1, -1))
    return y + 0.5 * torch.sign(z) * (down - up)

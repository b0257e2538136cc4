"""Teaches the network that reads measured points of `inference.reader`, by the pore model

    ion-ode reproduce --only reader --profile full --store

A lot is five hundred membranes of the shipped samples and some way around them, each with a coupon, a film and a
permeability of its own, and the anchors, all asked at the values of one design. Least squares of ln(1.05 - R)."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.linalg import qr
from torch import Tensor

from ..attention_odenet.point_reader import PointReader
from ..closure import Cell, cell
from ..core import T_REF
from ..inference.answer import Answer, load_answer
from ..inference.laws import Prior, charge_of, offset_of
from ..inference.pores import passages
from ..inference.reader import Anchors, effective, smoothed, tell_membranes
from ..inference.rows import COMPOSITIONS, SOURCES, answer_feeds
from ..inference.states import _CHARGE, y_of
from ..store import asset, digest, provenance
from ..water.ions import get_ion

__all__ = ["Design", "Lot", "error", "misfit", "reader_cells", "teach", "write_reader"]

_POOL = ("Na+", "K+", "Li+", "NH4+", "Mg+2", "Ca+2", "Cl-", "SO4-2", "NO3-", "HCO3-", "Br-", "F-", "Cs+")
_MOST = 7  # Ions of a feed


class Lot(NamedTuple):
    "Membranes at the values of one design, and the anchors there."

    membranes: Tensor  # (membrane, number)
    anchors: Tensor  # ln(1.05 - R), (value, anchor)
    y: Tensor  # (membrane, value)


def _ions(rng) -> tuple[str, ...]:
    "A measured set of ions, or a random one."
    measured = {tuple(sorted(g.ion)) for _, g in answer_feeds().groupby("solution_id")}
    measured = sorted(m for m in measured if set(m) <= set(_POOL) and len(m) <= _MOST)
    if rng.random() < 0.6:
        return measured[rng.integers(len(measured))]
    plus, minus = ([i for i in _POOL if get_ion(i).z * s > 0] for s in (1, -1))
    n = 2 if rng.random() < 0.4 else int(rng.integers(3, _MOST + 1))
    up = int(rng.integers(max(1, n - len(minus)), min(n, len(plus) + 1)))
    return (*rng.choice(plus, up, replace=False), *rng.choice(minus, n - up, replace=False))


def _neutral_feeds(z: np.ndarray, n: int, rng) -> np.ndarray:  # (n, ion) [mol/m³]
    "Neutral feeds of .7 to 450 eq/m³, half a decade to three between ions."
    raw = 10.0 ** (-rng.choice([0.5, 1.5, 3.0]) * rng.random((n, len(z))))
    side = np.where(z > 0, (raw * (z > 0)).sum(1, keepdims=True), (raw * (z < 0)).sum(1, keepdims=True))
    return np.exp(rng.uniform(np.log(0.7), np.log(450), n))[:, None] * raw / side / np.abs(z)


def _membranes(models: list[Answer], n: int, rng) -> tuple[np.ndarray, np.ndarray]:  # (n, GLOBALS), (n, 5)
    "Members of four samples, smoothed by one of two widths and spread by up to a fifth, with coupons."
    parts, four = [], rng.permutation(np.arange(max(4, len(models))) % len(models))[:4]
    for k in four:
        x, width, grow = models[k].x, rng.choice([0.25, 0.5]), rng.choice([1.0, 1.2])
        parts.append(x.mean(0) + grow * (smoothed(x, n // 4, rng, width) - x.mean(0)))
    x = np.concatenate(parts)
    return x, rng.standard_normal((len(x), 5))


class _Feeds(NamedTuple):
    "Feeds of one set of ions, each at a flux, and how they are measured."

    ions: tuple[str, ...]
    z: np.ndarray  # (ion,)
    c: np.ndarray  # (feed, ion) [mol/m³]
    flux: np.ndarray  # (feed,) [m/s]
    kind: np.ndarray  # (feed,) 0 intrinsic, 1 observed, 2 unstated
    film: np.ndarray  # (feed,) [m], nan where it is not known
    by_pressure: np.ndarray  # (feed,) bool
    temperature: np.ndarray  # (feed,) [K]


def _draw_feeds(n: int, prior: Prior, rng) -> _Feeds:
    ions = _ions(rng)
    z = np.array([get_ion(i).z for i in ions], float)
    c, flux = _neutral_feeds(z, n, rng), np.exp(rng.uniform(np.log(1e-6), np.log(7e-5), n))
    T = T_REF + (rng.uniform(-8, 5) if rng.random() < 0.4 else 0.0)
    kind, by_pressure = rng.choice(3, n, p=[0.25, 0.6, 0.15]), rng.random(n) < 0.2
    known = (rng.random(n) < 0.2) & (kind > 0)
    film = np.where(known, prior.film[0] * np.exp(0.6 * rng.standard_normal(n)), np.nan)
    return _Feeds(ions, z, c, flux, kind, film, by_pressure, np.full(n, T))


def _solved(p: dict[str, np.ndarray], f: _Feeds, prior: Prior) -> np.ndarray:  # (membrane, feed * ion)
    "ln(1.05 - R) of all pairs of membranes and feeds."
    m, n = len(p["factor"]), len(f.flux)
    wide, tile = {k: np.repeat(v, n) for k, v in p.items()}, lambda v: np.tile(v, m)
    unstated, film = tile(f.kind) == 2, tile(f.film)
    own = np.where(unstated, prior.film_unstated[1], prior.film[1]) * wide["film"]
    thick = np.where(unstated, prior.film_unstated[0], prior.film[0]) * np.exp(own)
    thick = np.clip(np.where(np.isfinite(film), film, thick), 1e-7, 2e-4)
    J = tile(f.flux) * np.exp(np.where(tile(f.by_pressure), prior.permeability[1] * wide["permeability"], 0.0))
    c = np.tile(f.c, (m, 1))
    membrane = {k: wide[k] for k in ("r_pore", "thickness", "eps_pore")}
    membrane["charge"] = np.clip(charge_of(wide, c, f.z, f.ions) * wide["factor"], -_CHARGE, _CHARGE)
    offset = np.stack([offset_of(wide, i, int(v)) for i, v in zip(f.ions, f.z, strict=True)], 1)
    front = np.where(tile(f.kind) == 0, 0.0, thick)
    through, _ = passages(f.ions, c, J[:, None], membrane, offset, front, tile(f.temperature), 1e-3)
    return y_of(1 - through[:, 0].reshape(m, n * len(f.ions)))


class Design(NamedTuple):
    "Feeds of several sets of ions, every ion of each asked."

    feeds: tuple[_Feeds, ...]

    def solved(self, p: dict[str, np.ndarray], prior: Prior) -> np.ndarray:  # (membrane, value)
        "ln(1.05 - R) of membranes, `effective`."
        return np.concatenate([_solved(p, f, prior) for f in self.feeds], 1)


def _draw_design(prior: Prior, rng, sets: int = 8, each: int = 4) -> Design:
    "Each set of ions in a few feeds."
    return Design(tuple(_draw_feeds(each, prior, rng) for _ in range(sets)))


def _choose_anchors(
    models: list[Answer],
    n: int = 24,
    seed: int = 0,
    membranes: int = 240,  # Among which they are chosen
    sets: int = 24,  # Sets of ions at which they are compared
) -> tuple[Anchors, np.ndarray]:  # (anchor, direction)
    "The membrane nearest the mean of a few hundred and those that differ most; the basis that they span (Eq. R.1)."
    rng, prior = np.random.default_rng(seed), models[0].prior
    x, coupon = _membranes(models, membranes, rng)
    y = _draw_design(prior, rng, sets, 12).solved(effective(x, coupon, prior), prior)
    off = y - y.mean(0)
    order = [int((off**2).sum(1).argmin()), *qr(off.T, pivoting=True, mode="economic")[2]]
    i = list(dict.fromkeys(order))[:n]
    spread = y[i] - y[i].mean(0)
    u, size, _ = np.linalg.svd(spread, full_matrices=False)
    return Anchors(x[i].round(4), coupon[i].round(4)), u[:, :-1] / size[:-1] * np.sqrt(y.shape[1])


def _draw_lot(models: list[Answer], anchors: Anchors, design: Design, seed: int, membranes: int = 500) -> Lot:
    "Membranes nobody has drawn before, solved at the values of a design."
    rng, prior = np.random.default_rng(seed), models[0].prior
    p, fixed = effective(*_membranes(models, membranes, rng), prior), effective(anchors.x, anchors.coupon, prior)
    y = design.solved({k: np.concatenate([v, fixed[k]]) for k, v in p.items()}, prior)
    t = lambda v: torch.as_tensor(np.ascontiguousarray(v), dtype=torch.float32)
    return Lot(tell_membranes(p), t(y[membranes:].T), t(y[:membranes]))


def misfit(net: PointReader, lot: Lot) -> Tensor:  # (membrane, value), 0 where there is no solution
    "What the network says of a lot less what the pore model says."
    off = net(lot.membranes, lot.anchors) - lot.y
    return torch.where(lot.y.isfinite(), off, 0.0)


def teach(
    net: PointReader,
    lots: list[Lot],
    steps: int = 10_000,
    batch: int = 250,  # Membranes a step
    lr: float = 3e-3,
    seed: int = 0,
    report=None,  # Called with the step and the loss
) -> PointReader:
    "Least squares by AdamW with a cosine of the rate."
    adam = torch.optim.AdamW(net.parameters(), lr, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, lr, total_steps=steps, pct_start=0.03)
    rng = np.random.default_rng(seed)
    for step in range(steps):
        lot = lots[rng.integers(len(lots))]
        i = torch.as_tensor(rng.integers(0, len(lot.y), batch))
        loss = misfit(net, lot._replace(membranes=lot.membranes[i], y=lot.y[i])).pow(2).mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        rate.step()
        if report is not None:
            report(step + 1, loss.item())
    return net


def error(net: PointReader, lots: list[Lot]) -> dict[str, float]:
    "Root mean square errors of ln(1.05 - R) and of R over lots."
    with torch.no_grad():
        pairs = [(misfit(net, q) + q.y, q.y) for q in lots]
    said, y = (torch.cat([v.flatten() for v in x]) for x in zip(*pairs, strict=True))
    ok = y.isfinite()
    rms = lambda e: float(e[ok].pow(2).mean().sqrt())
    return {"ln(1.05 - R)": rms(said - y), "R": rms(said.exp() - y.exp())}


def reader_cells(
    full: bool = True,  # False: so small that it only shows that all parts fit
    seed: int = 0,
) -> list[Cell]:
    "The anchors, lots to learn from and to judge by, and the network."
    more = {"samples": {n: digest(asset(f"answers/{n}.json").read_bytes()) for n in _MODELS}, "seed": seed}
    n, held, steps, size = (60, 4, 10_000, {}) if full else (2, 1, 20, {"membranes": 24})
    anchors = Cell("reader anchors", "reader anchors", more | size)
    lots = [Cell(f"reader lot {k}", "reader lot", more | size | {"lot": k}, (anchors.name,)) for k in range(n + held)]
    plan = more | {"lots": n, "held": held, "steps": steps}
    return [anchors, *lots, Cell("reader", "reader", plan, (anchors.name, *(c.name for c in lots)), steps // 100)]


_MODELS = ("nf270", *(f"without-{n}" for n in (*COMPOSITIONS, *SOURCES)))


@cell("reader anchors")
def _cell_anchors(folder, spec, found, tick):
    size = {"membranes": spec["membranes"], "sets": 4, "n": 6} if "membranes" in spec else {}
    anchors, basis = _choose_anchors([load_answer(n) for n in _MODELS], seed=spec["seed"], **size)
    tick(1)
    return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in (asdict(anchors) | {"basis": basis}).items()}, {}


@cell("reader lot")
def _cell_lot(folder, spec, found, tick):
    models, t = [load_answer(n) for n in _MODELS], found("reader anchors")[0]
    anchors = Anchors(t["x"].numpy(), t["coupon"].numpy())
    design = _draw_design(models[0].prior, np.random.default_rng([spec["seed"], spec["lot"]]))
    size = {k: spec[k] for k in ("membranes",) if k in spec}
    lot = _draw_lot(models, anchors, design, 10_000 * spec["seed"] + spec["lot"], **size)
    tick(1)
    return lot._asdict(), {}


@cell("reader")
def _cell_reader(folder, spec, found, tick):
    "The network after its lots, and its error on lots it has not seen."
    lots = [Lot(**found(f"reader lot {k}")[0]) for k in range(spec["lots"] + spec["held"])]
    held, lots, basis = lots[: spec["held"]], lots[spec["held"] :], found("reader anchors")[0]["basis"]
    torch.manual_seed(spec["seed"])
    net = PointReader(lots[0].membranes.shape[1], basis.float())
    teach(net, lots, spec["steps"], seed=spec["seed"], report=lambda step, loss: step % 100 or tick(1))
    return net.state_dict(), {"error": error(net, held)}


def write_reader(
    read,  # Name of a cell -> its tensors and facts
    file: Path,  # Such as answers/reader.safetensors
) -> Path:
    "The network as `inference.reader` reads it."
    (weights, facts), anchors = read("reader"), read("reader anchors")[0]
    spec = facts["spec"]
    card = {k: spec[k] for k in ("lots", "steps")} | {"error": facts["error"]}
    card |= {"provenance": provenance(seed=spec["seed"]), "prior": asdict(load_answer("nf270").prior)}
    card |= {"anchors": {k: anchors[k].tolist() for k in ("x", "coupon")}}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in weights.items()}, file, {"card": json.dumps(card)})
    return file

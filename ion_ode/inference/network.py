"""Passages of any ions by a network, from the coefficients of a pore

Three layers that all ions share are told what the pore model makes of each ion: how the pore admits it (the Donnan
equilibrium of the feed), its Péclet numbers in pore and film, and what would pass if it were alone. Two of them are
told of the others by a mean over shares of the equivalents, so that an ion that vanishes leaves no mark. What they say
is added to the ions alone (Eq. Q.6 of chapter 02h), weighted so that nothing is retained at rest, and the permeate is
made neutral. A second number says how far off the first may be."""

import ctypes
import functools
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ion_ode.attention_odenet.build import BuildError, build
from ion_ode.store import asset, atomic_write
from ion_ode.water.donnan import charge_gap, donnan_start, neutral

__all__ = ["PassageNetwork", "Seen", "keep_network", "load_network", "look", "passed"]

FEATURES = 13
_LEAST, _MOST, _STEEP, _ALONE, _REST = 1e-9, 20.0, 30.0, 0.03, 1e-12
NEAR = 0.05  # Errors are of permeate over feed, over this and more: alike on the scale of ln(1.05 - R)


class Seen:
    "What the network is told of problems, and what would pass of every ion alone."

    def __init__(self, features: Tensor, alone: Tensor, weight: Tensor, share: Tensor, z: Tensor):
        self.features = features  # (feature, ion, problem)
        self.alone = alone  # ln of permeate over feed of an ion alone (ion, problem)
        self.weight = weight  # 0 at rest, up to 1 (problem,)
        self.share = share  # Of all equivalents, 0 for absent ions (ion, problem)
        self.z = z  # Valences (ion, problem)


def _admitted(z: Tensor, phi: Tensor, s: Tensor, charge: Tensor) -> Tensor:
    "Donnan potential of the entry by two Newton steps (problem,)."
    psi = donnan_start(s * phi, z, charge, _LEAST)
    for _ in range(2):
        c = s * phi * torch.exp((-z * psi).clamp(-_STEEP, _STEEP))
        gap, slope, _, _ = charge_gap(c, z, charge, _LEAST)
        psi = psi + (gap / slope.clamp_min(0.1)).clamp(-2, 2)
    return psi


def look(
    z: Tensor,  # Valences (ion, problem)
    c_feed: Tensor,  # (ion, problem) [mol/m³], 0 for absent ions
    ln_entry: Tensor,  # ln of the partition coefficient without potential (ion, problem)
    peclet: Tensor,  # (ion, problem)
    K_conv: Tensor,  # (ion, problem)
    charge: Tensor,  # (problem,) [mol/m³]
    film: Tensor,  # Péclet numbers of the film, 0 without one (ion, problem)
) -> Seen:
    "What the network is told."
    size = z.abs()
    total = (size * c_feed).sum(0)
    s, X = c_feed / total, charge / total
    share = s * size
    psi, peclet = _admitted(z, torch.exp(ln_entry), s, X), peclet.clamp_min(_REST)
    entry = (ln_entry - z * psi).clamp(-_MOST, _MOST)
    x, ln_K = (K_conv * peclet).clamp(max=_STEEP), torch.log(K_conv)
    into = torch.exp(entry + ln_K)
    pore = entry + ln_K - torch.log(-torch.expm1(-x) + into * torch.exp(-x))
    grown = film.clamp(max=6.0)
    alone = pore + grown - torch.log1p(torch.exp(pore) * torch.expm1(grown))
    held = (share * alone.abs()).sum(0)
    shown = (z / 2, (size == 2).to(z.dtype), (size == 3).to(z.dtype), entry / 3, peclet.log() / 3, torch.log1p(peclet),
             K_conv, torch.log1p(film), torch.asinh(4 * X).expand_as(z), z * psi / 4, (psi / 3).expand_as(z), pore / 3,
             alone / 3)  # fmt: skip
    return Seen(torch.stack(shown), alone, held / (held + _ALONE), share, z)


class PassageNetwork(nn.Module):
    "ln of permeate over feed of every ion, and ln of how far off R may be."

    def __init__(self, width: int = 48):
        super().__init__()
        self.own = nn.ModuleList([nn.Linear(FEATURES, width), nn.Linear(width, width), nn.Linear(width, width)])
        self.others = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in range(2)])
        self.head = nn.Linear(width, 2)

    def forward(self, seen: Seen) -> tuple[Tensor, Tensor]:  # (ion, problem) both
        layer = lambda own, x: torch.addmm(own.bias[:, None], own.weight, x.flatten(1)).view(-1, *x.shape[1:])
        x = nn.functional.silu(layer(self.own[0], seen.features))
        for own, others in zip(self.own[1:], self.others, strict=True):
            around = others.weight @ (x * seen.share).sum(1)
            x = nn.functional.silu(layer(own, x) + around[:, None])
        more, doubt = layer(self.head, x)
        y = (seen.alone + seen.weight * more).clamp(-_MOST, 5.0)
        return neutral(torch.exp(y), seen.z, seen.share / seen.z.abs(), 0), doubt


class _Shape(ctypes.Structure):
    _fields_ = [("problems", ctypes.c_int64)]
    _fields_ += [(k, ctypes.c_int32) for k in ("ions", "width", "features", "threads")]


class _Given(ctypes.Structure):
    _fields_ = [(k, ctypes.c_void_p) for k in ("planes", "charge", "valence")]
    _fields_ += [("own", 3 * ctypes.c_void_p), ("bias", 3 * ctypes.c_void_p), ("others", 2 * ctypes.c_void_p)]
    _fields_ += [(k, ctypes.c_void_p) for k in ("head", "head_bias")]


@functools.cache
def _compiled():
    "The compiled network, built at its first use on this machine in some seconds; None without a C++ compiler."
    try:
        return build(asset("passages.cpp")).passages_f32
    except (BuildError, AttributeError) as e:
        warnings.warn(f"{e}; the network of passages runs without it, half as fast", stacklevel=3)
        return None


def _by_machine(run, net: PassageNetwork, z, planes, charge) -> np.ndarray:  # (2, ion, problem)
    "The network as compiled."
    out, kept = np.empty((2, *planes.shape[1:]), np.float32), [np.ascontiguousarray(z, np.float32)]
    point = lambda v: kept.append(v.detach().numpy()) or kept[-1].ctypes.data
    layers = lambda k, parts: (len(parts) * ctypes.c_void_p)(*(point(getattr(m, k)) for m in parts))
    given = _Given(
        planes.ctypes.data, charge.ctypes.data, kept[0].ctypes.data, layers("weight", net.own),
        layers("bias", net.own), layers("weight", net.others), point(net.head.weight), point(net.head.bias),
    )  # fmt: skip
    n_ions, problems = planes.shape[1:]
    shape = _Shape(problems, n_ions, len(net.own[0].bias), FEATURES, torch.get_num_threads())
    run(ctypes.byref(shape), ctypes.byref(given), ctypes.c_void_p(out.ctypes.data))
    return out


_AT_ONCE = 4096  # Problems of the plain path in cache


@torch.inference_mode()
def passed(
    net: PassageNetwork,
    z: np.ndarray,  # Valences (ion,)
    planes: np.ndarray,  # c_feed (0: absent), ln_entry, peclet, K_conv, film as for `look`, (5, ion, problem)
    charge: np.ndarray,  # (problem,) [mol/m³]
    plain: bool = False,  # Without the compiled path
) -> tuple[np.ndarray, np.ndarray]:  # Permeate over feed; how far off its R may be (ion, problem)
    "What passes of every ion, and how far off that may be."
    planes, charge = (np.ascontiguousarray(v, np.float32) for v in (planes, charge))
    run = None if plain else _compiled()
    if run is None:
        wide = torch.as_tensor(z, dtype=torch.float32)[:, None]
        tell = lambda p, X: net(look(wide.expand(p.shape[1:]), *p[:4], X, p[4]))
        parts = zip(torch.from_numpy(planes).split(_AT_ONCE, -1), torch.from_numpy(charge).split(_AT_ONCE), strict=True)
        out = torch.cat([torch.stack(tell(*part)) for part in parts], -1).numpy()
    else:
        out = _by_machine(run, net, z, planes, charge)
    return out[0], np.exp(np.minimum(out[1], 3.0)) * (out[0] + NEAR)


def keep_network(net: PassageNetwork, path: str | Path, card: dict) -> Path:
    "Write weights with what they were taught."
    weights = {k: v.contiguous() for k, v in net.state_dict().items()}
    return atomic_write(path, save(weights, {"card": json.dumps(card)}))


@functools.cache
def load_network(path: str | Path | None = None) -> tuple[PassageNetwork, dict]:
    "The network that ships, or one of `keep_network`, and its card."
    with safe_open(str(asset("weights/passages.safetensors") if path is None else path), "pt") as f:
        state, card = {k: f.get_tensor(k) for k in f.keys()}, json.loads(f.metadata()["card"])
    net = PassageNetwork(len(state["head.weight"][0]))
    net.load_state_dict(state)
    return net.eval().requires_grad_(False), card

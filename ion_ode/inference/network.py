"""Passages of any ions by a network, from the coefficients of a pore

Constant fields in pore and film come first: three steps of Newton's method for four potentials (Eq. Q.6 of chapter
02h). Three layers that all ions share are told of the ion and of the potentials what these fields make of them, and say
what they leave out (Eq. Q.7), weighted by how far from constant the field is: nothing at rest, nothing where as much
conducts at the exit of the pore as at its entry. Two layers are told of the other ions by a mean over shares of the
equivalents, so that an ion that vanishes leaves no mark. The permeate is made neutral. A second number says how far off
the first may be."""

import copy
import ctypes
import functools
import json
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ion_ode.attention_odenet.build import BuildError, build
from ion_ode.attention_odenet.set_pore import constant_fields
from ion_ode.core import need
from ion_ode.store import asset, atomic_write
from ion_ode.water.donnan import neutral

__all__ = ["PassageNetwork", "Seen", "export_passages_onnx", "keep_network", "load_network", "look", "passed"]

FEATURES = 16
_LEAST, _MOST, _BENT, _REST = 1e-9, 20.0, 0.03, 1e-12
NEAR = 0.05  # Errors are of permeate over feed, over this and more: alike on the scale of ln(1.05 - R)


class Seen(NamedTuple):
    "What the network is told of problems, and what would pass in constant fields."

    features: Tensor  # (feature, ion, problem)
    ln_r: Tensor  # ln of permeate over feed in constant fields (ion, problem)
    weight: Tensor  # 0 where the field is constant, up to 1 (problem,)
    share: Tensor  # Of all equivalents, 0 for absent ions (ion, problem)
    z: Tensor  # Valences (ion, problem)


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
    at, size = constant_fields(z, c_feed, ln_entry, peclet, K_conv, charge, film), z.abs()
    ln_r, pe = torch.log(at.r.clamp_min(_LEAST)), peclet.clamp_min(_REST)
    bent = at.drop * at.tilt  # Eq. Q.5
    common = (at.drop / 2).clamp(-4, 4), (at.tilt / 2).clamp(-5, 5), bent.clamp(-5, 5), torch.asinh(4 * at.charge)
    shown = (z / 2, (size == 2).to(z.dtype), (size == 3).to(z.dtype), at.mouths[0] / 3, at.mouths[1] / 3, pe.log() / 3,
             torch.log1p(pe), K_conv, torch.log1p(film), (z * at.drop / 2).clamp(-8, 8), ln_r / 3,
             *(x.expand_as(z) for x in (*common, torch.log1p(20 * at.moved))))  # fmt: skip
    return Seen(torch.stack(shown), ln_r, bent.abs() / (bent.abs() + _BENT), at.share, z)


class PassageNetwork(nn.Module):
    "ln of permeate over feed of every ion, and ln of how far off R may be."

    def __init__(self, width: int = 24):
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
        y = (seen.ln_r + seen.weight * more).clamp(-_MOST, 5.0)
        return neutral(torch.exp(y), seen.z, seen.share / seen.z.abs(), 0), doubt


class _Passed(nn.Module):
    "The network from coefficients to what passes: what `passed` computes, and the graph that is exported."

    def __init__(self, net: PassageNetwork):
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, planes: Tensor, charge: Tensor) -> tuple[Tensor, Tensor]:  # As of `passed`
        "What passes, and how far off its R may be."
        c_feed, ln_entry, peclet, K_conv, film = planes
        through, doubt = self.net(look(z[:, None].expand_as(c_feed), c_feed, ln_entry, peclet, K_conv, charge, film))
        return through, torch.exp(doubt.clamp(max=3.0)) * (through + NEAR)


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
        warnings.warn(f"{e}; the network of passages runs without it, a sixth as fast", stacklevel=3)
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
        wide, tell = torch.as_tensor(z, dtype=torch.float32), _Passed(net)
        parts = zip(torch.from_numpy(planes).split(_AT_ONCE, -1), torch.from_numpy(charge).split(_AT_ONCE), strict=True)
        return tuple(torch.cat(v, -1).numpy() for v in zip(*(tell(wide, *part) for part in parts), strict=True))
    through, doubt = _by_machine(run, net, z, planes, charge)
    return through, np.exp(np.minimum(doubt, 3.0)) * (through + NEAR)


def _asinh(x: Tensor) -> Tensor:
    "By functions that every runtime has in double precision."
    return torch.sign(x) * torch.log(x.abs() + torch.sqrt(x * x + 1))


def export_passages_onnx(
    net: PassageNetwork,
    path: str | Path,  # File to write
):
    "Write the network as ONNX, in double precision: z, planes and charge of `passed` in, what it gives out."
    need("onnxscript", "export")
    like = torch.ones((), dtype=torch.float64).new_ones
    ion, problem = torch.export.Dim("ion", min=2, max=64), torch.export.Dim("problem", min=2)
    axes = {"z": {0: ion}, "planes": {1: ion, 2: problem}, "charge": {0: problem}}
    graph = _Passed(copy.deepcopy(net).double())
    program = torch.export.export(graph, (like(3), like(5, 3, 4), like(4)), dynamic_shapes=axes)
    program = program.run_decompositions({torch.ops.aten.asinh.default: _asinh})
    names = {"input_names": [*axes], "output_names": ["through", "off"]}
    torch.onnx.export(program, dynamo=True, optimize=False, verbose=False, **names).save(str(path))


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

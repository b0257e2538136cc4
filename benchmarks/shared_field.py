"""The field that all ions share (chapter 02f), told what a pore makes of each ion and trained on invented ions.

Curves of `direct_network.draw_curves`: two to fifteen invented ions, membranes of the answer and invented ones, films,
certified. Every curve is walked in its own flux (Eq. Q.4), and what a token is told holds how the pore admits the ion
at no flux. The fused path takes the steps. `stand_in.py` holds speed and error beside the solver's."""

import time

import numpy as np
import torch
from direct_network import draw_curves
from torch import Tensor
from torch.func import stack_module_state

from ion_ode.attention_odenet.pore_field import FLUX_TOLD
from ion_ode.attention_odenet.set_field import SetConfig, SetODENet, Told
from ion_ode.attention_odenet.set_pore import PoreTold, SetPoreODENet
from ion_ode.attention_odenet.stack import StackedForward

FEATURES, STEPS, MOST, UNIT = 11, 4, 15, 1e-7


def words(c_feed: Tensor, flux: Tensor, told: PoreTold) -> tuple[Told, Tensor]:
    "What a pore, a film and a feed are to an ion, order one, and the flux, both in the curve's own unit."
    pore = SetPoreODENet(STEPS).to(c_feed.dtype).field.prepare(c_feed, told._replace(film=None)).told
    own, first = (pore.flux_ref / FLUX_TOLD).unsqueeze(-1), lambda x: x.movedim(0, -1)
    z, here, entry = first(pore.z), first(pore.here), first(pore.c_in).clamp_min(1e-6)
    film = torch.zeros_like(c_feed) if told.film is None else told.film * own
    charge = torch.asinh(4 * pore.charge.unsqueeze(-1)).expand_as(c_feed)
    passes = told.K_conv * entry
    parts = (z / 2, z.abs() == 2, z.abs() == 3, told.ln_mouth / 3, (told.peclet * own).log() / 3 + 1, entry.log() / 3,
             told.K_conv, passes / (1 + passes), (film + 1e-5).log() / 4 + 1, charge, charge * z / 2)  # fmt: skip
    said = torch.stack([p.to(c_feed.dtype).clamp(-4, 4) for p in parts], -1) * here.unsqueeze(-1)
    return Told(z, said, c_feed.new_zeros(0)), flux * (UNIT / pore.flux_ref).unsqueeze(-1)


class Passage:
    "Permeate over feed by a trained field, on the fused path."

    def __init__(self, net: SetODENet):
        self.forward, self.weights = StackedForward(net, compiled=True), stack_module_state([net])

    def __call__(self, c_feed: Tensor, flux: Tensor, told: PoreTold) -> Tensor:  # (curve, point, ion)
        said, own = words(c_feed.float(), flux.float(), PoreTold(*(x if x is None else x.float() for x in told)))
        h = self.forward.predict(*self.weights, c_feed.float(), own, said, n_steps=STEPS, tol=torch.inf).h[0]
        part = (c_feed / (c_feed * told.z.abs()).sum(-1, keepdim=True)).unsqueeze(1)
        return torch.where(part > 0, h.double() / torch.where(part > 0, part, 1.0), torch.nan)


def told_curves(seed: int, n: int = 256) -> tuple[Tensor, ...]:
    "Curves of one set of invented ions: feed, flux, valences, words, permeate over feed; places for MOST ions."
    c, flux, told, through = draw_curves(seed, n, n_ions=None)
    said, flux = words(c, flux, told)
    room = MOST - c.shape[-1]
    wide = lambda x, by=0.0: torch.nn.functional.pad(x, (0, room), value=by)
    ion = torch.nn.functional.pad(said.ion, (0, 0, 0, room))
    return tuple(t.float() for t in (wide(c), flux, wide(said.z.expand_as(c), 1.0), ion, wide(through, torch.nan)))


def new_field(seed: int = 0) -> SetODENet:
    "A field to train."
    torch.manual_seed(seed)
    return SetODENet(SetConfig(n_ion=FEATURES, flux_ref=UNIT), n_steps=STEPS)


def taught_field(seconds: float, seed: int = 0, batch: int = 128) -> tuple[SetODENet, dict]:
    "A field trained for so many CPU seconds on certified curves, and what that took."
    began = time.process_time()
    sets = range(10_000 * seed, 10_000 * seed + int(min(400, 8 + seconds)))
    c, flux, z, said, wanted = (torch.cat(p) for p in zip(*map(told_curves, sets), strict=True))
    solved = time.process_time() - began
    net, draw = new_field(seed), torch.Generator().manual_seed(seed)
    params, buffers = stack_module_state([net])
    params = {k: torch.nn.Parameter(v.detach()) for k, v in params.items()}
    forward, kept = StackedForward(net, compiled=True), net.dense_weights(flux)
    own = torch.where(c > 0, (c * z.abs()).sum(1, keepdim=True) / c, 0.0).unsqueeze(1)
    there = wanted.isfinite()
    wanted = torch.where(there, wanted, 0.0)
    adam = torch.optim.Adam(params.values(), betas=(0.9, 0.98))
    began, step = time.process_time(), 0
    while (gone := (time.process_time() - began) / seconds) < 1:
        adam.param_groups[0]["lr"] = 4e-3 * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * np.cos(np.pi * gone)) + 1e-6
        i = torch.randint(len(c), (batch,), generator=draw)
        h = forward(params, buffers, c[i], flux[i], Told(z[i], said[i], c.new_zeros(0)), weights=kept[i])[0]
        e = (h * own[i] - wanted[i]) / (5e-3 * wanted[i].clamp_min(1)) * there[i]
        loss = ((1 + e * e).sqrt() - 1).sum() / there[i].sum()
        adam.zero_grad()
        loss.backward()
        if torch.nn.utils.clip_grad_norm_(params.values(), 1.0).isfinite():  # a trial curve may leave float32
            adam.step()
        step += 1
        if step % 500 == 1:
            print(f"  step {step}, {gone:.0%} of the time: loss {loss.item():.3g}", flush=True)
    with torch.no_grad():
        for k, p in net.named_parameters():
            p.copy_(params[k][0])
    facts = {"curves": len(c), "steps": step, "cpu_s": round(solved + seconds)}
    return net, facts | {"parameters": sum(p.numel() for p in net.parameters())}

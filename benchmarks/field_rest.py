"""What the closed form of any ions (chapter 02h) misses where the field in the pore is not constant, learnt.

Three layers that ions share, as in `direct_network.py`, read the state that the closed form found. What they add to
ln of permeate over feed is weighted by how far from constant the field is (Eq. Q.5), so nothing is added where the
closed form is exact, and by sums over shares, so a vanishing ion vanishes. `stand_in.py` holds its error beside the
solver's."""

import time

import numpy as np
import torch
from direct_network import Direct, balanced, draw_curves, look
from torch import Tensor

from ion_ode.attention_odenet.pore_field import FLUX_TOLD
from ion_ode.attention_odenet.set_field import ion_first
from ion_ode.attention_odenet.set_pore import Pore, PoreTold, SetPoreODENet, film_rate

FEATURES, STEPS, MOST, ALMOST, SEEN = 19, 6, 15, 0.03, 0.003


def found(c_feed: Tensor, flux: Tensor, told: PoreTold) -> tuple[Tensor, ...]:
    "Features, ln of permeate over feed as the closed form finds it, shares, valences (state, ion); theta (state, 1)."
    net = SetPoreODENet(STEPS)
    with torch.no_grad():
        passage = net.passage(c_feed, flux, told).nan_to_num(1.0)
        theta = net.doubt(passage, c_feed, flux, told).reshape(-1, 1)
        pore = Pore(*(None if x is None else x.unsqueeze(-1) for x in net.field.prepare(c_feed, told).told))
        at = film_rate(ion_first(passage), flux.float(), pore, along=False)
    seen, share, z = (x.float() for x in look(c_feed, flux, told))
    state = lambda x: x.movedim(0, -1).expand(*flux.shape, -1).flatten(0, 1)
    ln = lambda x: state(x).clamp(1e-6, 1e6).log() / 3
    carried = state(pore.K_conv * pore.peclet * (flux.float() / FLUX_TOLD))
    drop = (share * (carried - state(at.v)) / z).sum(-1, keepdim=True)
    more = (ln(passage.movedim(-1, 0)), ln(at.wall), ln(at.c_in), ln(at.c_out), torch.asinh(state(at.v)) / 2,
            torch.asinh(drop).expand_as(share), (theta + 1e-3).log().expand_as(share) / 3)  # fmt: skip
    return torch.cat([seen, torch.stack(more, -1)], -1), passage.flatten(0, 1).clamp_min(1e-9).log(), share, z, theta


def mended(net: Direct, seen: Tensor, ln_passage: Tensor, share: Tensor, z: Tensor, theta: Tensor) -> Tensor:
    "ln of permeate over feed with what is missed, (state, ion)."
    there = (share > 0).float()
    return balanced(ln_passage + theta / (ALMOST + theta) * torch.tanh(net.read(seen, share) / 3) * 3 * there, share, z)


def with_rest(net: Direct, c_feed: Tensor, flux: Tensor, told: PoreTold) -> Tensor:
    "Permeate over feed by the closed form and what it misses, (curve, point, ion); nan where absent."
    with torch.no_grad():
        r = mended(net, *found(c_feed, flux, told)).exp().double().view(*flux.shape, -1)
    return torch.where((c_feed > 0).unsqueeze(1), r, torch.nan)


def missed(seed: int, n: int = 256) -> tuple[Tensor, ...]:
    "As found, with ln of the certified permeate over feed, for the states whose field is not constant; MOST places."
    c, flux, told, through = draw_curves(seed, n, n_ions=None)
    seen, ln_passage, share, z, theta = found(c, flux, told)
    wanted, room = through.flatten(0, 1), MOST - c.shape[-1]
    good = ((wanted > 1e-9) | (share == 0)).all(1) & (theta.squeeze(1) > SEEN) & seen.isfinite().all((1, 2))
    wide = lambda x, by=0.0: torch.nn.functional.pad(x[good].float(), (0, room), value=by)
    seen = torch.nn.functional.pad(seen[good], (0, 0, 0, room))
    return seen, wide(ln_passage), wide(share), wide(z, 1.0), theta[good], wide(wanted.nan_to_num(1.0).log())


def new_rest(seed: int = 0) -> Direct:
    "A network to train, which begins with nothing to add."
    torch.manual_seed(seed)
    net = Direct(features=FEATURES)
    with torch.no_grad():
        net.head.weight.mul_(0.01)
        net.head.bias.zero_()
    return net


def taught_rest(seconds: float, seed: int = 0, batch: int = 1024) -> tuple[Direct, dict]:
    "What the closed form misses, learnt in so many CPU seconds from certified curves, and what that took."
    began = time.process_time()
    sets = range(10_000 * seed, 10_000 * seed + int(min(600, 8 + seconds)))
    parts = [torch.cat(p) for p in zip(*map(missed, sets), strict=True)]
    solved = time.process_time() - began
    net, draw, began, step = new_rest(seed), torch.Generator().manual_seed(seed), time.process_time(), 0
    adam = torch.optim.Adam(net.parameters(), betas=(0.9, 0.98))
    while (gone := (time.process_time() - began) / seconds) < 1:
        adam.param_groups[0]["lr"] = 3e-3 * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * np.cos(np.pi * gone)) + 1e-6
        i = torch.randint(len(parts[0]), (batch,), generator=draw)
        *state, wanted = (p[i] for p in parts)
        e = (mended(net, *state).exp() - wanted.exp()) / (2e-3 * wanted.exp().clamp_min(1)) * (state[2] > 0)
        loss = ((1 + e * e).sqrt() - 1).sum() / (state[2] > 0).sum()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        step += 1
        if step % 500 == 1:
            print(f"  step {step}, {gone:.0%} of the time: loss {loss.item():.3g}", flush=True)
    facts = {"states": len(parts[0]), "steps": step, "cpu_s": round(solved + seconds)}
    return net, facts | {"parameters": sum(p.numel() for p in net.parameters())}

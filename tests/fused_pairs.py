"""What the tests of the fused paths ask of a network, by its own operations or compiled."""

import torch
from torch.func import stack_module_state

from ion_ode.attention_odenet.stack import StackedForward
from ion_ode.core import LMH
from ion_ode.data.design import sample_feeds
from ion_ode.water.ions import IONS


def curves(batch, points=7, seed=0, members=None):
    lead = () if members is None else (members,)
    c = sample_feeds(batch * (members or 1), seed, ions=IONS, equivalents=(2.0, 200.0)).view(*lead, batch, len(IONS))
    generator = torch.Generator().manual_seed(seed)
    return c, 5 * LMH + 150 * LMH * torch.rand(*lead, batch, points, dtype=torch.float64, generator=generator)


def answers(nets, how, *inputs, n_steps=3):
    "Curves, the integrator's error and all gradients."
    params, buffers = stack_module_state(nets)
    forward = StackedForward(nets[0], compiled=how)
    assert forward.fused == (how == "fused")
    solved = forward.solve(params, buffers, *inputs, n_steps=n_steps)
    loss = (solved.h.square() * torch.linspace(0.5, 1.5, solved.h.shape[-2], dtype=solved.h.dtype)[:, None]).sum()
    return solved.h.detach(), solved.error.detach(), torch.autograd.grad(loss, list(params.values()))

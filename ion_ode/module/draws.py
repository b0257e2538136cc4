"""The membranes of an answer as one batch, so that a module is solved for each of them

A module has a film of its own, so that of the laboratories is left away; thickness, charge and permeability are
those of each coupon. What an answer adds for the error of one measurement is left away too: it is not the
membrane's."""

import numpy as np
import torch

from ion_ode.core import LMH, bar
from ion_ode.dspmde.membranes import ChargeBinding, Freundlich, Membrane
from ion_ode.inference.answer import Answer
from ion_ode.inference.laws import NEUTRAL_PORE, REFERENCE_EQUIVALENTS, coupon_effects, offset_of
from ion_ode.water.ions import get_ion

__all__ = ["membranes_of"]


def membranes_of(
    answer: Answer,  # Such as load_model("nf270"), calibrated or not
    ions: tuple[str, ...],  # Canonical names of what the feed holds
    n: int | None = None,  # Every k-th of its membranes; None: all
) -> Membrane:  # Fields (membrane,)
    "The membranes of an answer, each with its coupon."
    a = answer if n is None else answer.thinned(n)
    p = {k: v.to_numpy() for k, v in a.parameters.items()}
    lab, thick, _, water, own = a.coupon.T
    t = lambda v: torch.from_numpy(np.array(np.broadcast_to(v, len(a)), dtype=float))
    factor, thickness = coupon_effects(p, lab, own, thick, a.prior.within)
    base = Freundlich(t(p["charge"] * factor / REFERENCE_EQUIVALENTS ** p["b"]), t(p["b"]))
    shifts = {k.removeprefix("shift "): t(v * factor) for k, v in p.items() if k.startswith("shift ")}
    median, sd = a.prior.permeability
    return Membrane(
        t(p["r_pore"]),
        t(thickness),
        ChargeBinding(base, shifts, growth=t(p["c"]), saturation=t(p["k"])),
        t(p["eps_pore"]),
        t(median * np.exp(sd * water) * LMH / bar),
        {i: t(offset_of(p, i, get_ion(i).z)) for i in ions},
        t(NEUTRAL_PORE),
    )

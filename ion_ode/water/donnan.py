"""Charges that balance: the Donnan equilibrium of the pore model and of the networks

At a potential p a concentration a becomes c = a exp(-z p); ions and fixed charge X balance where
sum_i z_i c_i + X = 0. In the logarithm of positive over negative charge that is nearly a straight line in p, so that
Newton's method finds it in a few steps from the potential of a symmetric salt. `ion_ode.dspmde.kernel_shot` has the
same equation for the compiled solver, held against this one."""

from ion_ode._torch import Tensor, torch

__all__ = ["charge_gap", "donnan_start", "neutral"]


def _by_sign(z, *amounts):
    "Sums over cations and over the others, of each of some amounts."
    positive = (z > 0).to(amounts[0].dtype)
    others = 1 - positive
    return tuple((x * sign).sum(0) for x in amounts for sign in (positive, others))


def donnan_start(
    a: Tensor,  # Concentrations at zero potential (ion, *batch)
    z: Tensor,  # Charges, broadcast against a
    charge: Tensor,  # Fixed charge (*batch)
    least: float = 0.0,  # Below which no sum of charges is taken at its word
) -> Tensor:  # (*batch)
    "Potential that a symmetric salt of as many charges would have."
    up, down = _by_sign(z, a * z.abs())
    ln = lambda x: x.clamp_min(least).log()
    return torch.asinh(charge / (2 * (up * down).clamp_min(least).sqrt())) + 0.5 * (ln(up) - ln(down))


def charge_gap(
    c: Tensor,  # Concentrations (ion, *batch)
    z: Tensor,  # Charges, broadcast against c
    charge: Tensor,  # Fixed charge (*batch)
    least: float = 0.0,  # Below which no sum of charges is taken at its word
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # Gap; its slope times -1; positive and negative charge; each (*batch)
    "Logarithm of positive over negative charge, the fixed one included, and how fast a potential closes it."
    up, down, plus, minus = _by_sign(z, c * z.abs(), c * z * z)
    up = (up + charge.clamp(min=0)).clamp_min(least)
    down = (down + (-charge).clamp(min=0)).clamp_min(least)
    return up.log() - down.log(), plus / up + minus / down, up, down


def neutral(
    c: Tensor,  # Concentrations, or what is in proportion to them
    z: Tensor,  # Charges, broadcast against c
    weight=1.0,  # What a unit of c holds of its ion
    dim: int = -1,  # Axis of the ions
    least: float = 1e-16,  # Below which no sum of charges is taken at its word
) -> Tensor:
    "Concentrations on their way to a solution, which is neutral: each sign moved by half of what is missing, in logs."
    e = weight * z * c
    up, down = (v.clamp(min=0).sum(dim, keepdim=True).clamp_min(least) for v in (e, -e))
    return c * torch.exp(torch.sign(z) * 0.5 * (down.log() - up.log()))

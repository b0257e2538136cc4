"""Osmotic pressure and activities of concentrated waters by Pitzer's equations

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

# Equations of Harvie, Møller and Weare (1984, 10.1016/0016-7037(84)90098-X) with Pitzer's integral J for ions of unlike
# charge of one sign (Pitzer 1975, 10.1007/BF00646562). Parameters and their temperature laws are those of PHREEQC's
# database pitzer.dat (Parkhurst and Appelo 2013, 10.3133/tm6A43; table assets/water/pitzer.csv). An ion that the table
# does not pair, such as NO3-, counts by its charge alone; a neutral solute counts as ideal. A litre of water is counted
# as one kilogram.


import torch
from torch import Tensor

from ion_ode._torch import alike
from ion_ode.core import R_GAS, T_REF, InputError
from ion_ode.water.ions import ion_arrays
from ion_ode.water.pitzer_set import _rows, _Set, _set

__all__ = ["ln_activity", "osmotic_coefficient", "osmotic_law", "osmotic_pressure", "without_parameters"]

_B = 1.2  # (kg/mol)^½
_WATER = 0.018015 / 18.07e-6  # Molar mass over molar volume [kg/m³]
_LEAST = 1e-9  # mol/kg of ionic strength below which a solution is ideal


def _J(x: Tensor) -> tuple[Tensor, Tensor]:
    "Pitzer's integral J and x times its slope; none at x = 0."
    x = x.clamp_min(1e-12)
    t = 4.581 * x**-0.7237 * torch.exp(-0.0120 * x**0.528)
    slope = t * (-0.7237 - 0.0120 * 0.528 * x**0.528) / (4 + t)
    return x / (4 + t), x / (4 + t) * (1 - slope)


def _unlike(p: _Set, strength: Tensor) -> Tensor:
    "What ions of unlike charge of one sign add to Φ of the osmotic coefficient, (.., ion, ion)."
    zz = (p.z[:, None] * p.z).abs()
    I = strength[..., None, None]
    J, xJ = _J(6 * zz * p.A_phi * I.sqrt())
    own = lambda v: v - 0.5 * (v.diagonal(dim1=-2, dim2=-1)[..., :, None] + v.diagonal(dim1=-2, dim2=-1)[..., None, :])
    theta = zz / (4 * I) * own(J)
    return theta + I * (-theta / I + zz / (8 * I**2) * own(xJ))


def osmotic_coefficient(
    names: tuple[str, ...],  # Canonical names of ions
    m: Tensor,  # Molalities (.., ion) [mol/kg]
    temperature: float = T_REF,  # $T$ [K]
) -> Tensor:  # $\phi$ (..)
    "How much of van 't Hoff's osmotic pressure the ions of a solution exert."
    p, m = _set(tuple(names), float(temperature)), m.to(torch.float64)
    z, total = p.z, m.sum(-1)
    I = (0.5 * (z**2 * m).sum(-1)).clamp_min(_LEAST)
    root, Z = I.sqrt()[..., None, None], (z.abs() * m).sum(-1)[..., None, None]
    zz = (z[:, None] * z).abs()
    both = (z.abs()[:, None] == 2) & (z.abs() == 2)
    B = p.B0 + p.B1 * torch.exp(-torch.where(both, 1.4, 2.0) * root)
    B = B + p.B2 * torch.exp(-torch.where(both, 12.0, 50.0) * root)
    opposite, alike = (z[:, None] * z < 0), (z[:, None] * z > 0) & ~torch.eye(len(z), dtype=torch.bool)
    pair = torch.where(opposite, B + Z * p.C0 / (2 * zz.clamp_min(1).sqrt()), 0.0)
    pair = pair + torch.where(alike, p.THETA + _unlike(p, I), 0.0)
    triple = torch.einsum("...i,...j,...k,ijk->...", m, m, m, p.PSI * alike[..., None])
    # each pair counts once: half of the sum over both orders; of ψ the two of one sign are the first two
    triple = triple / 2
    sums = -p.A_phi * I**1.5 / (1 + _B * I.sqrt()) + torch.einsum("...i,...j,...ij->...", m, m, pair) / 2 + triple
    return 1 + 2 * sums / total.clamp_min(_LEAST)


def _excess(p: _Set, m: Tensor) -> Tensor:
    "Excess Gibbs energy of a kilogram of water over RT, whose slope by a molality is ln γ (..)."
    z = p.z
    I = (0.5 * (z**2 * m).sum(-1)).clamp_min(_LEAST)
    root, Z = I.sqrt()[..., None, None], (z.abs() * m).sum(-1)[..., None, None]
    zz = (z[:, None] * z).abs()
    both = (z.abs()[:, None] == 2) & (z.abs() == 2)
    share = lambda x: 2 * (1 - (1 + x) * torch.exp(-x)) / x**2
    B = p.B0 + p.B1 * share(torch.where(both, 1.4, 2.0) * root) + p.B2 * share(torch.where(both, 12.0, 50.0) * root)
    opposite, alike = (z[:, None] * z < 0), (z[:, None] * z > 0) & ~torch.eye(len(z), dtype=torch.bool)
    J, _ = _J(6 * zz * p.A_phi * root)
    own = J.diagonal(dim1=-2, dim2=-1)
    unlike = zz / (4 * I[..., None, None]) * (J - 0.5 * (own[..., :, None] + own[..., None, :]))
    pair = torch.where(opposite, 2 * B + Z * p.C0 / (2 * zz.clamp_min(1).sqrt()), 0.0)
    pair = pair + torch.where(alike, 2 * (p.THETA + unlike), 0.0)
    triple = torch.einsum("...i,...j,...k,ijk->...", m, m, m, p.PSI * alike[..., None])
    ions = -4 * p.A_phi * I / _B * torch.log(1 + _B * I.sqrt())
    return ions + torch.einsum("...i,...j,...ij->...", m, m, pair) / 2 + triple / 2


def ln_activity(
    names: tuple[str, ...],  # Canonical names of ions and solutes
    m: Tensor,  # Molalities (.., ion) [mol/kg]
    temperature: float = T_REF,  # $T$ [K]
) -> Tensor:  # $\ln\gamma$ (.., ion), 0 of a neutral solute
    "Activity coefficients, the slopes of the excess energy that `osmotic_coefficient` rests on too."
    charged = [k for k, v in enumerate(ion_arrays(tuple(names)).z.tolist()) if v]
    p = _set(tuple(names[k] for k in charged), float(temperature))
    with torch.enable_grad():
        x = m[..., charged].detach().to(torch.float64).requires_grad_()
        (slope,) = torch.autograd.grad(_excess(p, x).sum(), x)
    out = torch.zeros_like(m, dtype=torch.float64)
    out[..., charged] = slope
    return out


def osmotic_pressure(
    names: tuple[str, ...],  # Canonical names of ions and solutes
    c: Tensor,  # Concentrations (.., ion) [mol/m³]
    temperature=T_REF,  # $T$ [K], number or (batch,) with the first axis of c
) -> Tensor:  # $\pi$ (..) [Pa]
    "Osmotic pressure, $RT\\phi\\sum m M_w/V_w$."
    T = torch.as_tensor(temperature, dtype=torch.float64).reshape(-1).unique_consecutive()
    if len(T) > 1:
        T = torch.as_tensor(temperature, dtype=torch.float64)
        return torch.stack([osmotic_pressure(names, row, t.item()) for row, t in zip(c, T, strict=True)])
    charged = [k for k, v in enumerate(ion_arrays(tuple(names)).z.tolist()) if v]
    m = c[..., charged] / 1000
    phi = osmotic_coefficient(tuple(names[k] for k in charged), m, T.item())
    return R_GAS * T.item() * _WATER * (c.sum(-1) / 1000 + (phi - 1) * m.sum(-1))


def without_parameters(names) -> list[str]:
    "Ions that the table pairs with no other, so that their charge alone counts."
    known = {i for _, ions, _ in _rows() for i in ions}
    z = dict(zip(names, ion_arrays(tuple(names)).z.tolist(), strict=True))
    return [i for i in names if i not in known and z[i]]


def _ideal(names, c: Tensor, temperature=T_REF) -> Tensor:
    "Van 't Hoff's law."
    T = alike(temperature, c)
    return R_GAS * (T.reshape(-1, *[1] * (c.ndim - 2)) if T.ndim else T) * c.sum(-1)


def osmotic_law(name: str):  # law(names, c (.., ion), temperature) -> $\pi$ (..) [Pa]
    "An osmotic pressure by its name."
    if name == "pitzer":
        return osmotic_pressure
    if name == "ideal":
        return _ideal
    raise InputError(f"osmotic is {name!r}, expected 'ideal' (van 't Hoff's law) or 'pitzer'")

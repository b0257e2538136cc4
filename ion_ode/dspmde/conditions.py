"""A membrane at another temperature, and pores of many sizes

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

from dataclasses import replace

import numpy as np

from ion_ode._torch import Tensor, alike, torch
from ion_ode.core import T_REF, InputError
from ion_ode.dspmde.membranes import Membrane
from ion_ode.water.ions import eps_water

__all__ = ["at_temperature", "eps_pore_at", "pore_classes", "simulate_pores", "temperature_notes"]

# Relative permittivity of the water layer that the pore's wall orients (Bowen and Welfoot 2002,
# 10.1016/S0009-2509(01)00413-4, who build a pore's permittivity from such a layer and bulk water)
_ORIENTED = 6.0
_MEASURED = (288.0, 303.0)  # Of the measurements behind the shipped membranes: 20 to 25 °C and a margin [K]
_LITTLE = 1e-4  # Share of the flow below which a class of pores is left out


def at_temperature(
    membrane: Membrane,  # As fitted at `fitted_at`
    temperature,  # $T$ [K], number or (batch,)
    fitted_at: float = T_REF,  # [K]
) -> Membrane:  # The same pore, its free water less polar where it is warmer
    "The pore's permittivity as free and oriented water in a share that temperature leaves alone."
    eps = torch.as_tensor(membrane.eps_pore, dtype=torch.float64)
    return membrane.with_(eps_pore=eps_pore_at(eps, temperature, fitted_at))


def eps_pore_at(
    eps_pore,  # $\varepsilon_p$ at `fitted_at`, number, array or tensor
    temperature,  # $T$ [K], number, array or tensor
    fitted_at: float = T_REF,  # [K]
):  # $\varepsilon_p$ at T
    "Permittivity of a pore at another temperature: its share of oriented water stays, its free water is less polar."
    eps_pore = eps_pore if isinstance(eps_pore, Tensor) else np.asarray(eps_pore, float)
    cold, warm = (eps_water(alike(T, eps_pore)) for T in (fitted_at, temperature))
    return warm - (cold - eps_pore) / (cold - _ORIENTED) * (warm - _ORIENTED)


def temperature_notes(temperature) -> list[str]:  # $T$ [K], number or (batch,)
    "A sentence where a temperature leaves the measurements behind the membranes."
    low, high = float(np.min(temperature)), float(np.max(temperature))
    if _MEASURED[0] <= low and high <= _MEASURED[1]:
        return []
    said = " to ".join(dict.fromkeys(f"{t - 273.15:.0f}" for t in (low, high)))
    return [f"{said} °C: the package's membranes were measured at 20 to 25 °C; beyond, laws of temperature extrapolate"]


def pore_classes(
    spread: float,  # Standard deviation of ln r_p [-]
    nodes: int = 15,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # r over r_p, velocity over J_v, share of the flow; (nodes,)
    "Gauss-Hermite classes of log-normal pores whose r_p is the mean by flow; each carries Poiseuille's flow, r⁴."
    x, w = np.polynomial.hermite.hermgauss(nodes)
    r = np.exp(np.sqrt(2) * spread * x)
    share = w * r**4 / (w * r**4).sum()
    kept = share > _LITTLE
    r, share = r[kept], share[kept] / share[kept].sum()
    r = r / (share * r).sum()
    return r, r**2 * (share / r**2).sum(), share  # velocities as r², J_v on the mean by area


def simulate_pores(
    run,  # run(membrane, flux (batch, n)) -> Solution of one pore size, fluxes from its velocity
    membrane: Membrane,
    flux: Tensor,  # $J_v$ (batch, n) [m/s]
    spread: float,  # Standard deviation of ln r_p [-]
    film=None,  # Refused: the pores would share its wall
    nodes: int = 15,
):  # Solution, its permeate mixed by flow
    "Pores of log-normal sizes in parallel, their permeates mixed (Eq. W.1); without a film."
    if not (isinstance(spread, (int, float)) and 0 <= spread <= 1):
        raise InputError(f"pore_spread is {spread!r}, expected the standard deviation of ln r_p, 0 to 1, such as 0.2")
    if film is not None:
        raise InputError("pore_spread does not go with a film, whose wall all pores would share; give one of them")
    r, speed, share = pore_classes(float(spread), nodes)
    parts = [run(membrane.with_(r_pore=membrane.r_pore * a), flux * v) for a, v in zip(r, speed, strict=True)]
    mixed = sum(s * p.c_perm for s, p in zip(share, parts, strict=True))
    worst = parts[int(np.argmin([p.ok.mean() for p in parts]))]
    osmotic = sum(s * p.osmotic for s, p in zip(share, parts, strict=True))
    middle = parts[len(parts) // 2]
    return replace(
        middle,
        flux=flux.expand_as(middle.flux),
        c_perm=mixed,
        osmotic=osmotic,
        pressure=middle.pressure - middle.osmotic + osmotic,
        status=worst.status,
        error=torch.stack([p.error for p in parts]).amax(0),
        residual=torch.stack([p.residual for p in parts]).amax(0),
    )

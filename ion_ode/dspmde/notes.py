"""Words for answers on ground the model does not know: said beside a solution, never instead of it"""

import math

import numpy as np

from ..water.activity import debye_huckel_A
from ..water.ions import ion_arrays

_LEAST = -500.0  # ln of a permeate's concentration from which double precision runs out at a little more flux
SHUT_OUT = -60.0  # ln of the partition coefficient of what is wider than the pore: a share of 1e-26 gets in
_NONE = 1e-20  # Share of the feed below which nothing passes
_WALL = 50.0  # Enrichment of the wall beyond which few solutions stay solutions
_DAVIES = 500.0  # Ionic strength Davies' equation was made for [mol/m³] (Davies 1962, Ion Association)
# Solubility products, log10 at 25 °C: database phreeqc.dat (Parkhurst and Appelo 2013, 10.3133/tm6A43)
_MINERALS = {"gypsum": ("Ca+2", "SO4-2", -4.58), "calcite": ("Ca+2", "CO3-2", -8.48)}


def shuts_out(
    z: np.ndarray,  # Charges (ion,)
    ln_entry: np.ndarray,  # ln of the partition coefficients (ion,)
    present: np.ndarray,  # Which ions the feed holds (ion,) bool
) -> bool:
    "Whether the pore is too narrow for every cation or for every anion of a feed, so that no salt can pass."
    wide = ln_entry <= SHUT_OUT
    return any(bool(wide[side].all()) for side in (present & (z > 0), present & (z < 0)))


def failure(
    ions: tuple[str, ...],  # Names
    u: np.ndarray,  # Unknowns of the last state that was believed, ln c_p first (unknown,)
    error: float,  # Estimated relative error of c_p on the finest mesh
    n: int,  # Steps of that mesh through the pore, negative: exponential ones
    n_film: int,  # Through a film
    n_steps: int,  # Newton steps
    peclet: np.ndarray,  # Péclet numbers (ion,)
) -> str:
    "Why a problem has no certified solution, and what to do."
    low = np.nan_to_num(u[: len(ions)]).argmin()
    if u[low] < _LEAST:
        said = f"the permeate holds less than 1e-300 mol/m³ of {ions[low]}, which no double-precision number can tell "
        return f"failed: {said}from none; leave the ion out or lower the flux"
    if np.isfinite(error) and error > 0:
        steps = max(abs(int(n)), abs(int(n_film)))
        return f"failed: on {steps} steps the error of c_perm is still {error:.1g}; ask for a looser rtol"
    top = int(peclet.argmax())
    return (
        f"failed: no root within the work limit of a problem ({int(n_steps)} Newton steps; largest Péclet number "
        f"{peclet[top]:.2g}, {ions[top]}); lower the flux, widen the pore or thin the film"
    )


def _without_pitzer(ions) -> list[str]:
    "A sentence on ions that Pitzer's equations have no parameters for."
    from ..water.pitzer import without_parameters

    lone = without_parameters(ions)
    return [f"{', '.join(lone)}: without Pitzer parameters, active by charge alone"] if lone else []


def linear_film_notes(
    ions: tuple[str, ...],  # Names, the order of the last axis
    c_feed: np.ndarray,  # Feed (batch, ion) [mol/m³]
    c_wall: np.ndarray,  # At the membrane's face (batch, flux, ion) [mol/m³]
    c_perm: np.ndarray,  # Permeate (batch, flux, ion) [mol/m³]
) -> list[str]:
    "A sentence where wall and permeate behind a linear film both hold more salt than the feed: k is below the flux."
    plus = np.maximum(ion_arrays(ions, lib=np).z, 0)  # salt in equivalents of its cations
    feed, wall, perm = (c_feed @ plus)[:, None], c_wall @ plus, c_perm @ plus
    with np.errstate(invalid="ignore"):
        more = (wall > feed * (1 + 1e-6)) & (perm > feed * (1 + 1e-6))
    said = "the linear film carries less back than the water brings (k below the flux): "
    gain = "the permeate holds more salt than the feed; use Film(thickness=...) or a lower flux"
    return [said + gain] if more.any() else []


def solution_notes(
    ions: tuple[str, ...],  # Names, the order of the last axis
    c_feed: np.ndarray,  # Feed (batch, ion) [mol/m³]
    c_wall: np.ndarray,  # At the membrane's face (batch, flux, ion) [mol/m³]
    c_perm: np.ndarray,  # Permeate (batch, flux, ion) [mol/m³]
    activity: str,  # As for `simulate`
) -> list[str]:
    "What a reader of these numbers should know."
    notes, z = [], ion_arrays(ions, lib=np).z
    face = np.nanmax(np.where(np.isfinite(c_wall), c_wall, 0.0), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        up = np.where(c_feed > 0, face / c_feed, 0.0)
    with np.errstate(invalid="ignore"):
        none = (c_perm < _NONE * c_feed[:, None]).any((0, 1))
    if none.any():
        said = ", ".join(np.array(ions)[none])
        notes.append(f"none of {said} passes: an ion that is wider than the pore stays, with the charge it needs")
    if up.max() > _WALL:
        ion = ions[int(up.max(0).argmax())]
        said = f"the wall holds up to {up.max():.0f} times the feed ({ion}): "
        notes.append(f"{said}beyond {_WALL:.0f} times few salts stay dissolved")
    strength = 0.5 * (z**2 * np.maximum(face, c_feed)).sum(-1)
    if activity == "pitzer":
        notes += _without_pitzer(ions)
    if activity.startswith("davies") and strength.max() > _DAVIES:
        said = f"ionic strength up to {strength.max() / 1000:.2g} mol/L: "
        notes.append(f"{said}Davies' equation was made for at most .5 mol/L; activity='pitzer' goes on")
    root = np.sqrt(np.minimum(strength, _DAVIES) / 1000)
    ln_gamma = -math.log(10) * debye_huckel_A() * 4 * (root / (1 + root) - 0.3 * root**2)  # of a divalent ion
    for mineral, (cation, anion, log_K) in _MINERALS.items():
        if cation in ions and anion in ions:
            a, b = (np.maximum(face, c_feed)[:, ions.index(i)] / 1000 for i in (cation, anion))
            with np.errstate(divide="ignore"):
                index = (np.log10(a * b) + 2 * ln_gamma / math.log(10) - log_K).max()
            if index > 0:
                notes.append(f"{mineral} is oversaturated {10**index:.2g} times at 25 °C: it may scale the membrane")
    return notes

"""Which membrane a network is told of: membranes of the family, ranked by what may be seen"""

import numpy as np
import torch
from torch import Tensor

from ion_ode.data.design import Design
from ion_ode.data.points import measurement_points
from ion_ode.dspmde.film import FILM_THICKNESS
from ion_ode.inference.posterior import predict_membranes

__all__ = ["ranked", "try_membranes"]


def try_membranes(
    measurements,  # Measurements, or a tidy table of them
    n: int,  # Membranes to try
    seed: int = 0,  # Seed of the design
    family: str = "dspmde",  # "dspmde" or "dspmde+"
    film_thickness: float = FILM_THICKNESS,  # Assumed film of observed values [m]
) -> tuple[Tensor, Tensor]:  # Parameters (membrane, parameter); weighted squared error (membrane, composition)
    "Membranes of the family held against every composition, by name in order; a bound that holds is no error."
    m, parameters = measurement_points(measurements), Design(seed=seed + 1, n_flux=1, family=family).points(n)[1]
    off = np.clip(predict_membranes(m, parameters, film_thickness, family) - m.rejection, -5, 5)
    error = np.where((m.bound != 0) & (m.bound * off > 0), 0.0, off) ** 2 * m.weight
    group = m.composition[m.state]
    return parameters, torch.from_numpy(np.stack([error[:, group == g].sum(1) for g in sorted(set(group))], 1))


def ranked(
    sse: Tensor,  # (membrane, composition) from `try_membranes`
    seen,  # Compositions that may be looked at, by position or, of A to E, by name
) -> Tensor:  # Membranes from best to worst
    "Membranes in the order of how well they fit the compositions that may be seen."
    columns = ["ABCDE".index(g) if isinstance(g, str) else g for g in seen]
    return sse[:, columns].sum(1).nan_to_num(nan=torch.inf).argsort()

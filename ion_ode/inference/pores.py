"""The pore model as the posterior asks for it: arrays in, passages out, from solutions near by"""

import numpy as np
import torch

from ion_ode.dspmde import REFINED, Film, certify, transport_problem
from ion_ode.membranes import Membrane

__all__ = ["solve_torch"]


def solve_torch(
    ions: tuple[str, ...],
    problem: dict,  # c_feed (n, ion), offset (n, ion), and r_pore, thickness, eps_pore, charge, film, flux, temperature (n,)
    guess: np.ndarray | None = None,  # (sample, problem, unknown)
    rtol: float = 1e-3,
):  # Passage (n, ion), nan where there is no certified solution; solutions (sample, problem, unknown)
    "Permeate over feed of every problem, by the reference solver."
    t = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in problem.items()}
    lnp = {i: t["offset"][:, k] for k, i in enumerate(ions)}
    membrane = Membrane(t["r_pore"], t["thickness"], t["charge"], t["eps_pore"], ln_partition=lnp)
    with torch.no_grad():
        q = transport_problem(ions, t["c_feed"], t["flux"][:, None], membrane, Film(thickness=t["film"]), temperature=t["temperature"])[0]
        found = certify(q, None if guess is None else torch.from_numpy(guess.reshape(-1, guess.shape[-1]).T.copy()), rtol)
    c = torch.where(q.present, (found.u[: q.n_ions] - q.ln_feed).exp(), 1.0)
    c[:, found.code > REFINED] = torch.nan
    return c.T.numpy(), found.u.T.numpy()

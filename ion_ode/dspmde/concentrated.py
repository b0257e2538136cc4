"""Activities by Pitzer's equations on both sides of the pore, where Davies' equation ends

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

# With activities a = γ c the pore begins at c(0) = Φ γ_w c_w exp(-z p_w) and ends at c(1) = Φ γ_p c_p exp(-z p_p). The
# solver knows one entry Φ for both sides, so γ_p goes into it and γ_w/γ_p into the feed; γ_p follows from the permeate
# that comes out, round after round. Inside the pore, where no equation of a free solution holds, activities stay ideal.

from dataclasses import replace

import torch
from torch import Tensor

from ion_ode.core import InputError
from ion_ode.dspmde.certify import FAILED, REFINED, Certified, certify
from ion_ode.dspmde.film import Film, solve_film
from ion_ode.dspmde.problem import Transport
from ion_ode.water.pitzer import ln_activity

__all__ = ["certify_pitzer", "certify_places"]

_ROUNDS = 200  # Of activity and permeate; five are usual, thirty in the strongest brines


def _activities(names, c: Tensor, T: Tensor) -> Tensor:  # (ion, problem)
    "ln γ of problems of several temperatures."
    out = torch.zeros_like(c)
    for t in T.unique().tolist():
        out[T == t] = ln_activity(names, torch.nan_to_num(c[T == t], posinf=0.0) / 1000, t)
    return out.T


def _between(names, q: Transport, c_wall: Tensor, T: Tensor, rtol: float, at_perm=None) -> tuple[Certified, Tensor]:
    "Problems without a film, with the ln γ of the permeate found with it; failed where that does not settle."
    at_wall = _activities(names, c_wall, T)
    at_perm, guess = (at_wall if at_perm is None else at_perm).clone(), None
    share, before = torch.ones_like(T), torch.full_like(T, torch.inf)
    ln_wall = torch.where(q.present, c_wall.T.clamp_min(1e-300).log(), 0.0)
    there = lambda v: torch.where(q.present, v, 0.0)
    for _ in range(_ROUNDS):
        found = certify(
            replace(q, ln_feed=ln_wall + there(at_wall - at_perm), ln_entry=q.ln_entry + there(at_perm)), guess, rtol
        )
        solved = found.code <= REFINED
        c_perm = torch.where(q.present & solved, found.u[: q.n_ions].exp(), 0.0)
        new = torch.where(solved, _activities(names, c_perm.T, T), at_perm)
        off = (new - at_perm).abs().amax(0)
        if bool((off < rtol).all()):
            return found, at_perm
        # of a strong brine: shorter steps
        share = torch.where(off > 0.7 * before, (0.5 * share).clamp_min(0.05), share)
        at_perm, guess, before = at_perm + share * (new - at_perm), found.u, off
    found.code = torch.where(off < rtol, found.code, FAILED)
    return found, at_perm


def certify_places(
    names: tuple[str, ...],  # Canonical names of ions and solutes
    q: Transport,  # Ideal problems without a film
    c_feed: Tensor,  # (problem, ion) [mol/m³]
    flux: Tensor,  # (problem,) [m/s]
    thickness: Tensor | None,  # Of a film, (problem,), or (problem, ion): one an ion [m]; None: no film
    temperature: Tensor,  # (problem,) [K]
    rtol: float = 1e-6,  # Relative accuracy of c_p
) -> Certified:
    "Certified solutions with Pitzer's activities in feed and permeate; failed where activities or film do not settle."
    if thickness is None:
        return _between(names, q, c_feed, temperature, rtol)[0]
    known = torch.full((q.n_ions, q.size), torch.nan, dtype=torch.float64)  # ln γ of the permeate, from round to round

    def permeate(c_wall, index):
        before = known[:, index] if bool(known[:, index].isfinite().all()) else None
        found, known[:, index] = _between(names, q.take(index), c_wall, temperature[index], rtol, before)
        solved = (found.code <= REFINED) | ~q.present[:, index]
        return torch.where(q.present[:, index], torch.where(solved, found.u[: q.n_ions].exp(), torch.nan), 0.0).T

    _, c_wall = solve_film(permeate, c_feed, flux, names, thickness, temperature, rtol=rtol, throw=False)
    lost = c_wall.isnan().any(1)
    found, _ = _between(names, q, torch.where(lost[:, None], c_feed, c_wall), temperature, rtol)
    found.c_wall, found.code = c_wall.T, torch.where(lost, FAILED, found.code)
    return found


def certify_pitzer(
    names: tuple[str, ...],  # Canonical names of ions and solutes
    q: Transport,  # Ideal problems, feed * n_flux + flux
    film: Film | None,  # As for `simulate`, of a thickness
    flux: Tensor,  # (batch, n_flux) [m/s]
    temperature: Tensor,  # (batch,) [K]
    rtol: float = 1e-6,  # Relative accuracy of c_p
) -> Certified:
    "Certified solutions of `simulate` with Pitzer's activities in feed and permeate."
    if film is not None and film.thickness is None:
        raise InputError("activity 'pitzer' goes without a film or with Film(thickness=...), but Film(k=...) arrived")
    if any(t is not None and t.requires_grad for t in q.tensors()):
        raise InputError("activity 'pitzer' has no gradients; ask it for numbers, or 'davies' for gradients")
    batch, n_flux = flux.shape
    wide = lambda v: torch.as_tensor(v, dtype=torch.float64).expand(batch).repeat_interleave(n_flux)
    thick = None if film is None else wide(film.thickness)
    c_feed = torch.where(q.present, q.ln_feed.exp(), 0.0).T
    return certify_places(names, q.without_film(), c_feed, flux.reshape(-1), thick, wide(temperature), rtol)

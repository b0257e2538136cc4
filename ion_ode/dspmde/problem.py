"""All coefficients of a batch in one object"""

import math
from dataclasses import dataclass, replace
from fastcore.basics import patch
from ion_ode._torch import Tensor, alike, bare, library, torch
from ion_ode.core import T_REF, InputError
from ion_ode.dspmde.entry import HINDRANCE, born_energy, partition_steric
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane, charge_of_feed
from ion_ode.dspmde.notes import SHUT_OUT
from ion_ode.water.activity import debye_huckel_A
from ion_ode.water.ions import eps_water, ion_arrays, viscosity_water

__all__ = ["Transport", "transport_problem", "unit_transport"]


@dataclass
class Transport:
    "Coefficients of a batch of problems, (ion, batch) or (batch,), in torch or NumPy: all the physics, no numerics."

    z: Tensor  # Charges (ion, 1)
    present: Tensor  # Which ions the feed holds (ion, batch) bool
    ln_feed: Tensor  # Logarithm of the feed concentrations, 0 for an absent ion (ion, batch)
    ln_entry: Tensor  # ln Φ_S Φ_B φ, steric, Born and excess partitioning (ion, batch)
    peclet: Tensor  # Pe_i (ion, batch)
    K_conv: Tensor  # K_c,i (ion, batch)
    charge: Tensor  # c_X (batch,)
    davies: Tensor | None = None  # A ln 10 (batch,), None: ideal
    davies_pore: bool = False  # Davies inside the pore too
    nodes: int | None = None  # Implicit midpoint intervals through the pore; None: the continuous equations
    film_peclet: Tensor | None = None  # Pe_i of a Nernst–Planck film (ion, batch)
    film_ratio: Tensor | None = None  # J_v/k_i of a linear film (ion, batch)
    film_diffusion: Tensor | None = None  # D_i/D_ref of a linear film, scales its potential (ion, batch)

    FIELDS = (
        "ln_feed",
        "ln_entry",
        "peclet",
        "K_conv",
        "charge",
        "davies",
        "film_peclet",
        "film_ratio",
        "film_diffusion",
    )

    @property
    def n_ions(self) -> int:
        return self.peclet.shape[0]

    @property
    def size(self) -> int:
        return self.peclet.shape[1]

    @property
    def n_unknowns(self) -> int:
        return self.n_ions + (1 if self.film_ratio is None else 2)


@patch
def take(self: Transport, index: Tensor | slice) -> "Transport":
    "Some of the problems."
    pick = lambda t: t if t is None else t[..., index]
    return replace(self, present=self.present[:, index], **{k: pick(getattr(self, k)) for k in self.FIELDS})


@patch
def scaled(self: Transport, factor: Tensor) -> "Transport":
    "The same problems at `factor` times the water flux (batch,)."
    s = lambda t: t if t is None else t * factor
    return replace(self, peclet=s(self.peclet), film_peclet=s(self.film_peclet), film_ratio=s(self.film_ratio))


@patch
def at_fluxes(self: Transport, flux: Tensor) -> "Transport":
    "Problems of unit flux, each at its own fluxes (batch, n_flux): batch × n_flux problems."
    lib = library(flux)
    wide = lambda t: lib.broadcast_to(t[..., None], (*t.shape[:-1], *flux.shape)).reshape(*t.shape[:-1], -1)
    each = {k: wide(t) for k, t in zip(self.FIELDS, self.tensors(), strict=True) if t is not None}
    return replace(self, present=wide(self.present), **each).scaled(flux.reshape(-1))


@patch
def stirred(self: Transport, factor: Tensor) -> "Transport":
    "The same problems with `factor` times the linear film's resistance 1/k (batch,)."
    return replace(self, film_ratio=self.film_ratio * factor)


@patch
def without_film(self: Transport) -> "Transport":
    "The same problems in a perfectly stirred feed."
    return replace(self, film_peclet=None, film_ratio=None, film_diffusion=None)


@patch
def tensors(self: Transport) -> list:
    "The differentiable coefficients, in the order of FIELDS."
    return [getattr(self, k) for k in self.FIELDS]


@patch
def in_torch(self: Transport) -> "Transport":
    "The same numbers as tensors."
    as_t = lambda t: t if t is None or isinstance(t, Tensor) else torch.tensor(t)
    fields = {k: as_t(getattr(self, k)) for k in ("z", "present", *self.FIELDS)}
    return replace(self, **fields)


@patch
def detached(self: Transport) -> "Transport":
    "The same numbers without a graph."
    return replace(self, **{k: t if t is None else bare(t) for k, t in zip(self.FIELDS, self.tensors(), strict=True)})


def _per(v, like, batch: int | None = None):
    "One number a sample, in the library of `like`."
    t, batch = alike(v, like), len(like) if batch is None else batch
    return library(like).broadcast_to(t, (batch,)) if t.ndim == 0 or t.shape == (1,) else t


def _sizes(present: Tensor, r_s: Tensor, r_pore: Tensor) -> tuple[Tensor, Tensor]:
    "Ion over pore (ion, batch), and what is wider than the pore, whose ratio is none and reads .9."
    lib = library(r_pore)
    lam = lib.where(present, r_s / r_pore, 0.5)
    wider = bare(lam) >= 1
    return lib.where(wider, 0.9, lam), wider


def _entry(names, z, r_s, sizes, membrane: Membrane, born: bool, eps_bulk, T) -> Tensor:
    "ln of all that decides on entering: size, permittivity, and what is known to be missing."
    (lam, wider), lib = sizes, library(T)
    ln_entry = lib.log(partition_steric(lam))
    if born:
        ln_entry = ln_entry - born_energy(z, r_s, _per(membrane.eps_pore, T), eps_bulk, T)
    for ion, offset in (membrane.ln_partition or {}).items():
        if ion in names:
            row = lib.zeros((len(names), 1), dtype=lib.float64, device=T.device)
            row[names.index(ion)] = 1.0
            ln_entry = ln_entry + row * _per(offset, T)
    return lib.where(wider, SHUT_OUT, ln_entry)


def _film_rows(names, film: Film | None, D_bulk: Tensor) -> dict:
    "Coefficients of a film at unit flux: Péclet numbers of a stagnant one; ratios and mobilities of a linear one."
    lib, batch = library(D_bulk), D_bulk.shape[1]
    if film is None:
        return {}
    if film.thickness is not None:
        return {"film_peclet": _per(film.thickness, D_bulk, batch) / D_bulk}
    if not isinstance(film.k, dict):
        k = lib.broadcast_to(_per(film.k, D_bulk, batch), D_bulk.shape)
    elif missing := [n for n in names if n not in film.k]:
        raise InputError(
            f"film k is given for {', '.join(film.k)} but not for {', '.join(missing)}; give one for every ion of the "
            f"feed"
        )
    else:
        k = lib.stack([_per(film.k[n], D_bulk, batch) for n in names])
    mobility = D_bulk / lib.amax(bare(D_bulk), 0) * (lib.amin(bare(k), 0) / k)
    return {"film_ratio": 1 / k, "film_diffusion": mobility}


def unit_transport(
    names: tuple[str, ...],  # Canonical ion names
    c_feed: Tensor,  # (batch, ion) [mol/m³]; an array: the answer is in NumPy
    membrane: Membrane,
    film: Film | None = None,
    activity: str = "ideal",
    hindrance: str = "dechadilok_deen",
    born: bool = True,
    temperature=T_REF,
    nodes: int | None = None,
    eps_bulk=None,
    davies_A: float | None = None,
) -> tuple[Transport, dict]:  # Coefficients of a problem a feed at 1 m/s; hindrance and diffusivities for later use
    "From membrane and feed to the coefficients of the equations, but for the flux."
    lib, per, shape = library(c_feed), lambda v: _per(v, c_feed), (len(names), len(c_feed))
    ions = ion_arrays(names, device=c_feed.device, lib=lib)
    z, T = ions.z[:, None], per(temperature)
    D_bulk = ions.D_bulk[:, None] * (T / T_REF * viscosity_water(alike(T_REF, T)) / viscosity_water(T))
    eps_bulk = eps_water(T) if eps_bulk is None else per(eps_bulk)
    present, r_s = (bare(c_feed) > 0).T, lib.broadcast_to(ions.r_stokes[:, None], shape)
    r_pore, thickness = per(membrane.r_pore), per(membrane.thickness)
    own = r_pore if membrane.neutral_pore is None else r_pore * per(membrane.neutral_pore)
    sizes = _sizes(present, r_s, lib.where(z == 0, own, r_pore))
    K_conv, K_diff = HINDRANCE[hindrance](sizes[0])
    ln_entry = _entry(names, z, r_s, sizes, membrane, born, eps_bulk, T)
    A = debye_huckel_A(T, eps_bulk) if davies_A is None else lib.full_like(T, davies_A)
    q = Transport(
        z=z,
        present=present,
        ln_feed=lib.where(present, lib.log(lib.where(present, c_feed.T, 1.0)), 0.0),
        ln_entry=lib.where(present, ln_entry, 0.0),
        peclet=thickness / (K_diff * D_bulk),
        K_conv=K_conv,
        charge=charge_of_feed(membrane.charge_density, c_feed, ions.z, names),
        davies=None if activity == "ideal" else math.log(10) * A,
        davies_pore=activity == "davies",
        nodes=nodes,
        **_film_rows(names, film, D_bulk),
    )
    known = {"D_bulk": D_bulk, "K_diff": K_diff, "eps_bulk": eps_bulk, "T": T, "r_pore": r_pore}
    return q, known | {"thickness": thickness}


def transport_problem(
    names: tuple[str, ...],  # Canonical ion names
    c_feed: Tensor,  # (batch, ion) [mol/m³]; an array: the answer is in NumPy
    flux: Tensor,  # (batch, n_flux) [m/s]
    membrane: Membrane,
    film: Film | None = None,
    *options,  # As for `unit_transport`
    **named,  # The same by name
) -> tuple[Transport, dict]:  # Coefficients for batch × n_flux problems; hindrance and diffusivities for later use
    "From membrane, feed and flux to the coefficients of the equations."
    q, known = unit_transport(names, c_feed, membrane, film, *options, **named)
    return q.at_fluxes(flux), known

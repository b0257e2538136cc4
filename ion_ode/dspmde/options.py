"""What `simulate` accepts beside feed and flux, each refusal in one sentence, and the one batch size of it all"""

import numpy as np
import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from ..core import InputError, batch_of
from .entry import HINDRANCE
from .feed import read_flux
from .film import Film
from .membranes import Membrane


def read_options(activity, hindrance, backend, film, membrane, eps_bulk, davies_A, nodes, rtol) -> None:
    "Refuse what is no option of the pore model."
    for name, value, allowed in (
        ("activity", activity, ("ideal", "davies", "davies_solution", "pitzer")),
        ("hindrance", hindrance, tuple(HINDRANCE)),
        ("backend", backend, ("auto", "eager")),
    ):
        if value not in allowed:
            raise InputError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")
    if film is not None and not isinstance(film, Film):
        raise InputError(f"film is {film!r}, expected None, Film(k=...) or Film(thickness=...)")
    if not isinstance(membrane, Membrane):
        raise InputError(
            f"membrane is {membrane!r}, expected a Membrane such as NF270 or "
            "Membrane(r_pore, thickness, charge_density, eps_pore)"
        )
    if eps_bulk is not None and not bool((torch.as_tensor(eps_bulk).detach() > 1).all()):
        raise InputError(f"eps_bulk is {eps_bulk}, expected a relative permittivity above 1, such as 78.36")
    if davies_A is not None and not 0 < davies_A < 5:
        raise InputError(f"davies_A is {davies_A}, expected Davies' constant in (L/mol)^(1/2), such as 0.509")
    if nodes is not None and (not isinstance(nodes, int) or not 1 <= nodes <= 4096):
        raise InputError(
            f"nodes is {nodes!r}, expected None (continuous) or a whole number of intervals from 1 to 4096"
        )
    if not 1e-10 <= rtol <= 1e-2:
        raise InputError(f"rtol is {rtol:g}, expected 1e-10 to 1e-2")


def one_batch(c_feed: Tensor, flux, membrane: Membrane, film, temperature, eps_bulk) -> tuple[Tensor, Tensor, bool]:
    "Feeds (batch, ion), fluxes (batch, n_flux) of the size that all inputs agree on, and whether one has a graph."
    sizes = {"feed": c_feed.shape[0]}
    flux_t = flux if isinstance(flux, Tensor) else np.asarray(flux)
    if flux_t.ndim == 2:
        sizes["flux"] = flux_t.shape[0]
    others = membrane.tensors() | {"temperature": temperature} | ({} if eps_bulk is None else {"eps_bulk": eps_bulk})
    if film is not None:
        by_ion = film.thickness if film.k is None else film.k
        others |= by_ion if isinstance(by_ion, dict) else {"film": by_ion}
    try:
        sizes |= {k: len(t) for k, v in others.items() if (t := torch.as_tensor(v)).ndim}
    except (TypeError, ValueError, RuntimeError):
        k, v = next((k, v) for k, v in others.items() if not isinstance(v, Tensor | np.ndarray | float | int | list))
        raise InputError(f"{k} is {v!r}, expected a number, or one a sample") from None
    batch = batch_of(sizes)
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    tensors = [v for v in (c_feed, flux_t, *others.values()) if isinstance(v, Tensor)]
    if any(unpack_dual(v).tangent is not None for v in tensors):
        raise InputError(
            "a tangent of forward differentiation arrived (torch.func.jacfwd, jvp), but simulate differentiates "
            "backwards; use torch.func.jacrev, vjp or backward()"
        )
    graph = any(v.requires_grad or wrapped(v) for v in tensors)
    return c_feed.expand(batch, -1), read_flux(flux, batch, c_feed.device), graph

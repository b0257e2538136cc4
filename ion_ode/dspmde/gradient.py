"""One linear solve a problem by the implicit function theorem"""

from dataclasses import replace
import numpy as np
import torch
from torch import Tensor
from ion_ode.dspmde.backend import eagerly, on_kernel
from ion_ode.dspmde.certify import REFINED, Certified, _by_mesh
from ion_ode.dspmde.problem import Transport
from ion_ode.dspmde.residual import shoot

__all__ = ["permeate_jacobian", "permeate_differences"]


def _ways(q: Transport):
    "What marches through pore and film when a shot is differentiated."
    if not on_kernel(q.peclet):
        return {}
    from ion_ode.dspmde.kernel_layer import layer

    pore = (
        layer
        if q.nodes is None
        else lambda c, rate, source, z, n, T=None, push=None: layer(c, rate, source, z, n, midpoint=True)
    )
    return {"through": (pore, layer)}


def _jacobians(q: Transport, found: Certified, index: Tensor) -> Tensor:
    "Jacobians (batch, unknown, unknown) of the solutions `index`, which share their meshes."
    p, u, n, n_film = q.take(index), found.u[:, index], int(found.n[index[0]]), int(found.n_film[index[0]])
    if not on_kernel(u):
        return shoot(u, p, n, n_film, jacobian=True)[1]
    from ion_ode.dspmde.kernel import packed, shots_of

    return torch.from_numpy(shots_of(*packed(p), u.numpy(), n, n_film, True))


class _Pullback(torch.autograd.Function):
    """Cotangents of u, c_wall and p_perm carried back to the coefficients: one transposed linear solve and one shot a
    problem."""

    @staticmethod
    def forward(q, found, need, grad_u, grad_wall, grad_perm, *theta):
        q = replace(q, **dict(zip(Transport.FIELDS, theta, strict=True)))
        grads = [torch.zeros_like(t) if nd else None for t, nd in zip(theta, need, strict=True)]
        asked = [(k, g) for k, g in (("c_wall", grad_wall), ("p_perm", grad_perm)) if bool(g.any())]
        for index, n, n_film in _by_mesh(found.n, found.n_film):
            for i in index.split(4096 if on_kernel(found.u) else max(32, 65536 // n)):
                p = q.take(i)
                leaves = [getattr(p, k) for k in Transport.FIELDS]
                leaves = [x.detach().requires_grad_() if nd else x for x, nd in zip(leaves, need, strict=True)]
                wanted = [x for x, nd in zip(leaves, need, strict=True) if nd]
                u = found.u[:, i].detach()
                v = u.clone().requires_grad_(bool(asked))
                with torch.enable_grad():
                    r, _, ends = shoot(
                        v, replace(p, **dict(zip(Transport.FIELDS, leaves, strict=True))), n, n_film, **_ways(p)
                    )
                extra = [(ends[k], g[..., i]) for k, g in asked if ends[k].requires_grad]
                seed, outputs, cotangents = grad_u[:, i], [o for o, _ in extra], [g for _, g in extra]
                if extra:
                    direct = torch.autograd.grad(outputs, v, cotangents, retain_graph=True, allow_unused=True)[0]
                    seed = seed if direct is None else seed + direct
                lam = -torch.linalg.solve(_jacobians(q, found, i).mT, seed.T[..., None])[..., 0].T
                parts = iter(torch.autograd.grad([r, *outputs], wanted, [lam, *cotangents], allow_unused=True))
                for g, nd in zip(grads, need, strict=True):
                    part = next(parts) if nd else None
                    if part is not None:
                        g[..., i] += part
        return tuple(g for g in grads if g is not None)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def vmap(info, in_dims, q, found, need, *tensors):
        "Several cotangents at once, as `torch.func.jacrev` sends them."
        at = lambda k: [t if d is None else t.select(d, k) for t, d in zip(tensors, in_dims[3:], strict=True)]
        rows = [_Pullback.apply(q, found, need, *at(k)) for k in range(info.batch_size)]
        return tuple(torch.stack(g) for g in zip(*rows, strict=True)), (0,) * len(rows[0])


class _Implicit(torch.autograd.Function):
    "u(θ), c_wall(θ) and p_perm(θ) from F(u, θ) = 0: solved forward, differentiated by the implicit function theorem."

    @staticmethod
    def forward(q, found, eager, *theta):
        return found.u.clone(), found.c_wall.clone(), found.p_perm.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.q, ctx.found, ctx.eager, *theta = inputs
        ctx.given = [t is not None for t in theta]
        ctx.save_for_backward(*[t for t in theta if t is not None])

    @staticmethod
    def backward(ctx, *cotangents):
        saved = iter(ctx.saved_tensors)
        theta = [next(saved) if g else None for g in ctx.given]
        need = [g and ctx.needs_input_grad[3 + k] for k, g in enumerate(ctx.given)]
        with eagerly(ctx.eager):
            got = iter(_Pullback.apply(ctx.q, ctx.found, need, *cotangents, *theta))
        return (None, None, None, *(next(got) if nd else None for nd in need))


def permeate_jacobian(
    q: Transport,  # Coefficients with a graph that reaches `wrt`
    found: Certified,  # Their solution
    wrt: list,  # Leaves (batch,), one value a problem
) -> Tensor:  # Derivatives of ln c_p (ion, parameter, batch)
    "Exact derivatives of the permeate by per-problem parameters: one linear solve a problem, shared by all of them."
    rows = torch.zeros(q.n_ions, len(wrt), q.size, dtype=found.u.dtype, device=found.u.device)
    bare = {k: None if t is None else t.detach() for k, t in zip(Transport.FIELDS, q.tensors(), strict=True)}
    for index, n, n_film in _by_mesh(found.n, found.n_film):
        with torch.enable_grad():
            r = shoot(found.u[:, index].detach(), q.take(index), n, n_film, **_ways(q))[0]
        lam = -torch.linalg.inv(_jacobians(replace(q, **bare), found, index))[:, : q.n_ions].permute(1, 2, 0)
        back = lambda v, r=r: torch.autograd.grad(
            r, wrt, v, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        rows += torch.stack(torch.func.vmap(back)(lam.contiguous()), 1)
    return rows


def permeate_differences(
    moved: Transport,  # In NumPy: all problems, then all with each parameter moved up, then with each moved down
    found: Certified,  # Solution of the problems themselves
) -> np.ndarray:  # Change of ln c_p from down to up (ion, parameter, problem), to third order in the move
    "The same without a graph: two shots a parameter at the solution held and one linear solve; 0 without a solution."
    from ion_ode.dspmde.kernel import packed, shots_of

    u, solved = found.u.numpy(), (found.code <= REFINED).numpy()
    z, q, own, form = packed(moved)
    q, own = (v.reshape(*v.shape[:-1], -1, len(solved)) for v in (q, own))
    change = np.zeros((len(u), q.shape[2] // 2, len(solved)))
    for index, n, n_film in _by_mesh(found.n, found.n_film):
        at = index.numpy()
        if not len(i := at[solved[at]]):
            continue
        far = (v[..., 1:, i].reshape(*v.shape[:-2], -1) for v in (q, own))
        r = shots_of(z, *far, form, np.tile(u[:, i], q.shape[2] - 1), n, n_film, False)
        r = r.reshape(len(u), 2, -1, len(i)).transpose(1, 3, 0, 2)
        J = shots_of(z, q[..., 0, i], own[..., 0, i], form, u[:, i], n, n_film, True)
        change[..., i] = -np.linalg.solve(J, r[0] - r[1]).transpose(1, 2, 0)
    return change[: len(z)]

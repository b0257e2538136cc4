"""A root of the discrete equations is held against a finer mesh before it is believed"""

from dataclasses import dataclass, replace
import torch
from torch import Tensor
from ion_ode._torch import alike
from ion_ode.dspmde.backend import on_kernel
from ion_ode.dspmde.entry import donnan
from ion_ode.dspmde.newton import ARRIVED, LEFT, LOST, apply_inverse, damped_newton, follow
from ion_ode.dspmde.problem import Transport
from ion_ode.dspmde.residual import _chunk, _in_chunks, _inverse, _jacobian, _residual, shoot
from ion_ode.water.activity import davies_shape

__all__ = [
    "CONVERGED",
    "REFINED",
    "NO_SOLUTION",
    "FAILED",
    "STATUS",
    "Certified",
    "first_guess",
    "certify_eager",
    "certify",
]

CONVERGED, REFINED, NO_SOLUTION, FAILED = range(4)
STATUS = ("converged", "refined", "no solution", "failed")
_N_MAX = 65536  # Runge–Kutta steps beyond which a problem is given up


@dataclass
class Certified:
    "Solutions of a batch of problems with their certificate, one entry a problem."

    u: Tensor  # Unknowns (unknown, batch)
    code: Tensor  # Index into STATUS (batch,)
    n_steps: Tensor  # Newton steps (batch,)
    residual: Tensor  # Largest residual on the finest mesh, before its last correction (batch,)
    error: Tensor  # Estimated relative error of c_p (batch,)
    n: Tensor  # Runge–Kutta steps of the finest mesh (batch,)
    n_film: Tensor
    c_wall: Tensor  # Concentrations at the wall (ion, batch), of a stirred feed (ion, feed) [mol/m³]
    p_perm: Tensor  # Donnan potential at the permeate (batch,)

    def take(self, rows, each: int = 1) -> "Certified":
        "Some of them, in runs of `each`."
        at = torch.as_tensor(rows)[:, None].mul(each).add(torch.arange(each)).flatten()
        return replace(self, **{k: v[..., at] for k, v in vars(self).items()})


def _mesh(top: Tensor, rtol: float) -> Tensor:
    "Steps to begin with: a power of two from the largest rate through the layer and the tolerance."
    want = (4 + 2.0 * top) * (1e-6 / rtol) ** 0.2
    return (2 ** want.clamp(4, _N_MAX / 4).log2().ceil()).to(torch.int64)


def _meshes(q: Transport, rtol: float) -> tuple[Tensor, Tensor]:
    top = torch.where(q.present, q.peclet * q.K_conv.clamp(min=1), 0.0).amax(0)
    n = _mesh(top, rtol)
    if q.film_peclet is None:
        return n, torch.ones_like(n)
    return n, _mesh(torch.where(q.present, q.film_peclet, 0.0).amax(0), rtol)


def first_guess(q: Transport) -> Tensor:
    "The solution at zero flux: permeate equals feed, and the feed's Donnan potential."
    ln_a = q.ln_feed + q.ln_entry
    if q.davies is not None:
        c = torch.where(q.present, q.ln_feed.exp(), 0.0)
        ln_a = ln_a - q.davies * q.z * q.z * davies_shape(0.5 * (q.z * q.z * c).sum(0))[0]
    p, _, _ = donnan(torch.where(q.present, ln_a, -torch.inf), q.z, q.charge, q.davies if q.davies_pore else None)
    rows = [q.ln_feed, p[None]]
    if q.film_ratio is not None:
        rows.append(torch.zeros_like(p)[None])
    return torch.cat(rows)


def _by_mesh(n: Tensor, n_film: Tensor):
    "Groups of problems that share both meshes."
    for a, b in torch.stack([n, n_film], 1).unique(dim=0).tolist():
        yield ((n == a) & (n_film == b)).nonzero()[:, 0], int(a), int(b)


def _newton(q: Transport, u: Tensor, n: Tensor, n_film: Tensor, tol: float = 1e-9, max_steps: int = 40):
    "Newton's method at given meshes."
    u = u.clone()
    ok = torch.zeros(q.size, dtype=torch.bool, device=u.device)
    steps = torch.zeros(q.size, dtype=torch.int64, device=u.device)
    inverse = torch.zeros(q.size, q.n_unknowns, q.n_unknowns, dtype=u.dtype, device=u.device)
    worst = torch.full((q.size,), torch.inf, dtype=u.dtype, device=u.device)
    for index, a, b in _by_mesh(n, n_film):
        p = q.take(index)
        roots = damped_newton(
            lambda v, i, p=p, a=a, b=b: _residual(v, p, a, b, i),
            lambda v, i, p=p, a=max(4, a // 2), b=max(4, b // 2): _inverse(v, p, a, b, i),
            u[:, index],
            tol,
            max_steps,
        )
        u[:, index], ok[index], steps[index] = roots.u, roots.converged, roots.n_steps
        inverse[index], worst[index] = roots.inverse, roots.residual
    return u, ok, steps, inverse, worst


def _follow(q: Transport, u: Tensor, tau: Tensor, climb, n: Tensor, n_film: Tensor, left=None):
    "Solutions at `climb(q, exp(tau))` followed to tau = 0, then met there by Newton's method."
    u, end, verdict = u.clone(), tau.clone(), torch.full((q.size,), LOST, device=u.device)
    spent = torch.zeros(q.size, dtype=torch.int64, device=u.device)
    for index, a, b in _by_mesh((n // 2).clamp(min=16), (n_film // 2).clamp(min=4)):  # the way need not be exact
        p = q.take(index)
        at = lambda s, i, p=p: climb(p.take(i), s.exp())
        way = follow(
            lambda v, s, i, at=at, a=a, b=b: _residual(v, at(s, i), a, b),
            lambda v, s, i, at=at, a=a, b=b: _jacobian(v, at(s, i), a, b),
            u[:, index],
            tau[index],
            None if left is None else (lambda v, s, i, p=p, a=a: left(v, p.take(i), a)),
        )
        u[:, index], end[index], verdict[index], spent[index] = way.u, way.tau, way.verdict, way.n_steps
    return u, end, verdict, spent


def _largest(q: Transport, *rates: Tensor) -> Tensor:
    return torch.stack([torch.where(q.present, t, 0.0).amax(0) for t in rates]).amax(0)


def _from_rest(q: Transport, n: Tensor, n_film: Tensor):
    "Solutions followed in the water flux, from where permeate equals feed."
    tau = torch.log(0.02 / _largest(q, *(t for t in (q.peclet, q.film_peclet) if t is not None))).clamp(max=-1.0)
    u, low = first_guess(q), torch.arange(q.size, device=tau.device)
    for _ in range(8):  # start lower where even this is too far from rest
        p = q.take(low).scaled(tau[low].exp())
        v, ok = _newton(p, u[:, low], n[low], n_film[low])[:2]
        u[:, low[ok]] = v[:, ok]
        low = low[~ok]
        if low.numel() == 0:
            break
        tau[low] -= 2.0
    u, _, verdict, spent = _follow(q, u, tau, Transport.scaled, n, n_film)
    return u, verdict, spent


def _from_stirred(q: Transport, n: Tensor, n_film: Tensor):
    "Solutions followed from a perfectly stirred feed, as mixing slackens."
    u, ok, spent = _newton_or_follow(q.without_film(), None, n, n_film, 1e-9)[:3]
    u = torch.cat([u, torch.zeros_like(u[:1])])
    tau = torch.log(0.02 / _largest(q, q.film_ratio)).clamp(max=-0.5)
    u, at_foot, more = _newton(q.stirred(tau.exp()), u, n, n_film)[:3]

    def wall(v, p, mesh):
        at_wall = lambda v, p: torch.where(p.present, shoot(v, p, mesh)[2]["c_wall"], 0.0)
        return _in_chunks(at_wall, v, p, torch.arange(p.size, device=v.device), _chunk("jacobian", v))

    def left(v, p, mesh):  # for a wall without bound
        c_feed = torch.where(p.present, p.ln_feed.exp(), 0.0)
        return (wall(v, p, mesh) * p.z.abs()).sum(0) > 1e7 * ((c_feed * p.z.abs()).sum(0) + p.charge.abs())

    v, end, verdict, steps = _follow(q, u, tau, Transport.stirred, n, n_film, left)
    # or for a wall that an ion has left: c_w (1 - J/k + z D X/k) = c_f - J c_p/k falls through zero. Believed on fine
    # meshes
    for i in ((verdict == LOST) & ok & at_foot & (n > 256)).nonzero()[:, 0]:
        p = q.take(i[None]).stirred(end[i[None]].exp())
        c_feed, c_perm = torch.where(p.present, p.ln_feed.exp(), 1.0), v[: q.n_ions, i[None]].exp()
        no_more = (
            torch.maximum(wall(v[:, i[None]], p, int(n[i]) // 2), (c_feed - p.film_ratio * c_perm).abs())
            < 0.01 * c_feed
        )
        if bool((no_more & p.present).any()):
            verdict[i] = LEFT
    verdict[~(ok & at_foot)] = LOST
    return v, verdict, steps + spent + more


def _newton_or_follow(q: Transport, guess: Tensor | None, n: Tensor, n_film: Tensor, tol: float, persist: bool = True):
    "Newton's method from a guess, then from rest; where both stall, along a branch of solutions."
    cold = first_guess(q)
    u, ok, steps, inverse, worst = _newton(q, cold if guess is None else guess, n, n_film, tol)
    beyond = torch.zeros_like(ok)

    def again(i, start, spent=0):
        v, good, more, inverse[i], worst[i] = _newton(q.take(i), start, n[i], n_film[i], tol)
        u[:, i], ok[i] = v, good
        steps[i] += more + spent

    if guess is not None and not bool(ok.all()):
        i = (~ok).nonzero()[:, 0]
        again(i, cold[:, i])
    if persist and not bool(ok.all()):
        i = (~ok).nonzero()[:, 0]
        v, verdict, spent = (_from_rest if q.film_ratio is None else _from_stirred)(q.take(i), n[i], n_film[i])
        beyond[i] = verdict == LEFT
        steps[i] += spent
        there = verdict == ARRIVED
        again(i[there], v[:, there])
    return u, ok, steps, inverse, worst, beyond


def _first(q: Transport, guess, rtol: float, tol: float, persist: bool):
    "Solutions on the first meshes, four times as fine where even the march from a good guess leaves positive numbers."
    n, n_film = _meshes(q, rtol)
    u, ok, steps, inverse, worst, beyond = _newton_or_follow(q, guess, n, n_film, tol, persist)
    for _ in range(3 * persist):
        i = (~ok & ~beyond & (n <= 256)).nonzero()[:, 0]
        if i.numel():
            n[i], n_film[i] = 4 * n[i], torch.where(n_film[i] > 1, 4 * n_film[i], n_film[i])
            again = _newton_or_follow(q.take(i), None, n[i], n_film[i], tol)
            u[:, i], ok[i], more, inverse[i], worst[i], beyond[i] = again
            steps[i] += more
    return (u, ok, steps, inverse, worst, beyond), n, n_film


def _finished(q: Transport, found: Certified) -> Certified:
    "Both signs of the permeate's charge made equal to the last digit; wall and permeate potential from a last march."
    u, d = found.u, q.n_ions
    c = torch.where(q.present, u[:d].exp(), 0.0)
    tilt = 0.5 * ((q.z.clamp(min=0) * c).sum(0).log() - ((-q.z).clamp(min=0) * c).sum(0).log())
    u[:d] = torch.where(q.present, u[:d] - torch.sign(q.z) * tilt, u[:d])
    for index, a, b in _by_mesh(found.n, found.n_film if q.film_peclet is not None else torch.ones_like(found.n)):
        for i in index.split(4096):
            ends = shoot(u[:, i], q.take(i), a, b)[2]
            found.c_wall[:, i], found.p_perm[i] = ends["c_wall"], ends["p_perm"]
    return found


def _corrections(u: Tensor, q: Transport, inverse: Tensor, i: Tensor, n: Tensor, n_film: Tensor):
    "Newton's step of problems i on their meshes with the inverse as it is, and the largest residual before it."
    step, size = torch.empty_like(u[:, i]), torch.empty_like(u[0, i])
    for j, a, b in _by_mesh(n[i], n_film[i]):
        r = _residual(u[:, i[j]], q.take(i[j]), a, b)
        step[:, j], size[j] = -apply_inverse(inverse[i[j]], r), r.abs().amax(0)
    return step, size


def _below(u: Tensor, q: Transport, inverse: Tensor, i: Tensor, n: Tensor, n_film: Tensor):
    "How far roots i are from those on half their meshes, where much hangs on the order of the march; inf elsewhere."
    before, much = torch.full_like(u[0, i], torch.inf), torch.maximum(n[i], n_film[i]) >= 32
    half = ((t // 2).clamp(min=4) for t in (n, n_film))
    before[much] = _corrections(u, q, inverse, i[much], *half)[0][: q.n_ions].abs().amax(0)
    return torch.nan_to_num(before, nan=torch.inf, posinf=torch.inf)  # a march that left the positive numbers


def _claimed(q: Transport, step: Tensor, before: Tensor, mesh: Tensor):
    "Bound of what a step on a mesh leaves; before: the largest correction of ln c_p on the one before."
    size, top = step.abs().amax(0), step[: q.n_ions].abs().amax(0)
    least = torch.maximum(top / 2, size if q.davies_pore or q.film_peclet is not None else size / 4)
    return torch.where(mesh >= 64, torch.maximum(least, torch.maximum(2 * top, before / 8)), least)


def certify_eager(
    q: Transport,
    guess: Tensor | None = None,  # First guess (unknown, batch)
    rtol: float = 1e-6,  # Relative accuracy of c_p against the continuous model
    persist: bool = True,  # Follow branches of solutions where Newton's method fails, on finer meshes if need be
) -> Certified:
    "The reference: a batch of problems, each refined until its discretisation error is below the tolerance."
    tol = min(1e-6, rtol)
    (u, ok, steps, inverse, worst, beyond), n, n_film = _first(q, guess, rtol, tol, persist)
    code = torch.full_like(steps, FAILED)
    code[beyond] = NO_SOLUTION
    error = torch.full((q.size,), torch.inf, dtype=u.dtype, device=u.device)
    pending = ok.nonzero()[:, 0]
    before, level = torch.full_like(error, torch.inf), 0
    n, n_film = n.clone(), n_film.clone()
    before[pending] = _below(u, q, inverse, pending, n, n_film)
    while pending.numel():
        n[pending] *= 2
        n_film[pending] *= 2
        step, worst[pending] = _corrections(u, q, inverse, pending, n, n_film)
        top, low = step[: q.n_ions].abs().amax(0), before[pending]
        # a mesh far from the last one, or an inverse too old to tell their difference
        falls = (top < 0.3 * low) | (torch.maximum(top, low) < rtol)
        fine = torch.isfinite(top) & (top < 0.05) & falls
        good = pending[fine]
        u[:, good] += step[:, fine]
        error[good] = _claimed(q, step[:, fine], low[fine], torch.maximum(n, n_film)[good])
        before[good] = top[fine]
        if q.film_peclet is not None:  # whether the inverse is to be trusted: a second step
            second, _ = _corrections(u, q, inverse, good, n, n_film)
            u[:, good] += second
            error[good] = torch.maximum(error[good], 4 * second.abs().amax(0))
        done = error[pending] <= rtol
        code[pending[done & fine]] = CONVERGED if level == 0 else REFINED
        far = pending[~fine]
        if far.numel():  # Newton again on this mesh
            p = q.take(far)
            start = torch.where(torch.isfinite(u[:, far]), u[:, far], first_guess(p))
            u[:, far], found, more, inverse[far], worst[far] = _newton(p, start, n[far], n_film[far], tol)
            steps[far] += more
            error[far], before[far] = torch.inf, _below(u, q, inverse, far, n, n_film)
            n[far[~found]] = _N_MAX
        pending = pending[~(done & fine)]
        pending = pending[n[pending] < _N_MAX]
        level += 1
    wall, potential = torch.empty_like(q.peclet), torch.empty_like(q.charge)
    return _finished(q, Certified(u, code, steps, worst, error, n, n_film, wall, potential))


def certify(
    q: Transport,  # Arrays are taken too
    guess: Tensor | None = None,  # First guess (unknown, batch)
    rtol: float = 1e-6,  # Relative accuracy of c_p against the continuous model
    persist: bool = True,  # Climb from easier problems where Newton's method fails, on finer meshes if need be
    flux: Tensor | None = None,  # Of problems of unit flux (batch, n_flux) [m/s]; None: q has its fluxes
) -> Certified:
    "Solve a batch of problems; refine each until its discretisation error is below the tolerance."
    if not on_kernel(q.peclet):
        return certify_eager(q if flux is None else q.at_fluxes(flux), guess, rtol, persist)
    from ion_ode.dspmde.kernel import climb_film, packed, solve_all  # here: importing Numba takes a second

    given, J = (None if t is None else t.detach().numpy() for t in (guess, flux))
    found = solve_all(*packed(q), J, rtol, given, torch.get_num_threads(), persist)
    found = Certified(**{k: torch.from_numpy(v) for k, v in found.items()})
    if persist and q.film_ratio is not None and len(lost := (found.code == FAILED).nonzero()[:, 0]):
        at = lost if isinstance(q.peclet, Tensor) else lost.numpy()  # whether a linear film carries so much back
        J = None if flux is None else alike(flux.reshape(-1)[lost], q.peclet)
        some = (q.take(at) if J is None else q.take(at // flux.shape[1]).scaled(J)).in_torch()
        branch = certify_eager(some, None, rtol)
        climb_film(*packed(some), rtol, {k: v.numpy() for k, v in vars(branch).items()})
        for k, v in vars(branch).items():
            getattr(found, k)[..., lost] = v
    return found

"""Gradients by the implicit function theorem, equality of back ends, memory."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode.core import InputError
from ion_ode.dspmde.certify import FAILED, certify, first_guess
from ion_ode.dspmde.feed import read_feed, read_flux
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.gradient import permeate_differences, permeate_jacobian
from ion_ode.dspmde.membranes import NF270_WATERTAP, ChargeBinding, Membrane
from ion_ode.dspmde.problem import transport_problem
from ion_ode.dspmde.residual import shoot
from ion_ode.dspmde.solve import simulate

MIX = {"Na+": 10.0, "Mg+2": 5.0, "Cl-": 12.0, "SO4-2": 3.5, "NO3-": 1.0}
OPTIONS = {
    "no film": {},
    "Nernst-Planck film, Davies": {"film": 4e-5, "activity": "davies"},
    "linear film, Davies outside": {"k": 6e-5, "activity": "davies_solution"},
}


def leaf(v):
    return torch.tensor(v, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if "Planck" in c else pytest.mark.slow) for c in OPTIONS])
def test_gradcheck_through_every_tensor_argument(case):
    kw = dict(OPTIONS[case])
    thickness, k = kw.pop("film", None), kw.pop("k", None)
    theta = [leaf(v) for v in (0.6, 0.2, -50.0, 41.3, 0.3, 10.0, 0.5, 298.15, 1.0, 1.0)]

    def f(r, dx, chi, eps, lnp, shift, extra, T, flux, layer):
        m = Membrane(r * 1e-9, dx * 1e-6, ChargeBinding(chi, {"Mg+2": shift}), eps, ln_partition={"NO3-": lnp})
        film = Film(thickness=layer * thickness) if thickness else Film(k=layer * k) if k else None
        feed = {"Na+": 10.0 + 2 * extra, "Mg+2": 5.0, "SO4-2": 5.0 + extra, "NO3-": 10.0}
        s = simulate(feed, flux * 1e-5, m, film=film, temperature=T, rtol=1e-9, **kw)
        return s.c_perm[0, 0, :2].log(), s.c_wall[0, 0, :1].log(), s.psi_donnan[0, 0, 1:], s.pressure[0] * 1e-6

    assert torch.autograd.gradcheck(f, theta, eps=1e-5, atol=1e-7, rtol=1e-6)


def test_batched_gradients_belong_to_their_sample():
    eps = leaf([40.0, 42.0, 45.0])
    sol = simulate([MIX, MIX, {"Na+": 3, "Cl-": 3}], 1e-5, NF270_WATERTAP.with_(eps_pore=eps))
    g = torch.autograd.grad(sol.c_perm[1, 0, 0], eps)[0]
    assert g[0] == 0 and g[2] == 0 and g[1] > 0
    one = leaf(42.0)
    h = torch.autograd.grad(simulate(MIX, 1e-5, NF270_WATERTAP.with_(eps_pore=one)).c_perm[0, 0, 0], one)[0]
    assert_allclose(g[1], h, rtol=1e-5)


def test_gradient_does_not_depend_on_the_path():
    "The same root from a flux grid (seeded by its neighbours) and alone gives the same gradient."
    a, b = leaf(-50.0), leaf(-50.0)
    J = torch.logspace(-6, -4, 12, dtype=torch.float64)
    many = simulate(MIX, J, NF270_WATERTAP.with_(charge_density=a), rtol=1e-9).c_perm[0, 7]
    alone = simulate(MIX, J[7], NF270_WATERTAP.with_(charge_density=b), rtol=1e-9).c_perm[0, 0]
    for i in range(len(MIX)):
        ga = torch.autograd.grad(many[i], a, retain_graph=True)[0]
        gb = torch.autograd.grad(alone[i], b, retain_graph=True)[0]
        assert_allclose(ga, gb, rtol=1e-6)


def test_no_newton_step_is_stored():
    "The graph of a solution holds coefficients and the root, not the iterations."
    eps = leaf(41.3)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        easy = simulate(MIX, 1e-6, NF270_WATERTAP.with_(eps_pore=eps))
        n_easy = len(saved)
        hard = simulate(MIX, 1e-4, Membrane(0.42e-9, 3e-6, -80.0, eps))
    assert hard.n_mesh.max() > easy.n_mesh.max()
    assert len(saved) - n_easy <= n_easy + 5 and max(saved) <= 200


def test_analytic_jacobian():
    names, c = read_feed([MIX, {"Na+": 1e-3, "Cl-": 1e-3}])
    for film in (None, Film(thickness=3e-5), Film(k=5e-5)):
        for activity in ("ideal", "davies", "davies_solution"):
            q, _ = transport_problem(names, c, read_flux(1e-5, 2), NF270_WATERTAP, film, activity)
            u = first_guess(q) - 0.2 * torch.linspace(0, 1, q.n_unknowns, dtype=torch.float64)[:, None]
            J = shoot(u, q, 8, 8, jacobian=True)[1]
            for b in range(2):
                p = q.take(torch.tensor([b]))
                auto = torch.autograd.functional.jacobian(lambda v, p=p: shoot(v[:, None], p, 8, 8)[0][:, 0], u[:, b])
                assert_allclose(J[b], auto, rtol=1e-9, atol=1e-11)


def test_compiled_equals_eager_and_so_do_its_gradients():
    J = torch.logspace(-6, -4.3, 8, dtype=torch.float64)
    for film in (None, Film(thickness=3e-5)):
        found = []
        for backend in ("eager", "auto"):
            chi, eps = leaf(-50.0), leaf(41.3)
            sol = simulate(
                MIX, J, NF270_WATERTAP.with_(charge_density=chi, eps_pore=eps), film=film, backend=backend, rtol=1e-10
            )
            out = (sol.c_perm.log() * torch.arange(5)).sum() + sol.c_wall[0, 3, 1] + sol.psi_donnan[0, 2].sum()
            found.append([sol.c_perm.detach(), *torch.autograd.grad(out, (chi, eps))])
        for a, b in zip(*found, strict=True):
            assert_allclose(a, b, rtol=1e-10)


def test_backend_names_are_checked():
    with pytest.raises(ValueError, match="backend is 'numba'"):
        simulate(MIX, 1e-5, backend="numba")
    assert np.isfinite(simulate(MIX, 1e-5, backend="eager").c_perm).all()


def test_forward_derivatives_are_refused_not_lost():
    r, m = torch.tensor(4.3e-10, dtype=torch.float64), NF270_WATERTAP
    f = lambda r: simulate({"Na+": 10.0, "Cl-": 10.0}, 1e-5, m.with_(r_pore=r)).c_perm
    for way in (torch.func.jacfwd(f), lambda r: torch.func.jvp(f, (r,), (r,))):
        with pytest.raises(InputError, match="use torch.func.jacrev"):
            way(r)


def test_jacrev_agrees_with_the_batched_jacobian_and_with_differences():
    v, unit = torch.tensor([0.5, 1.0, -50.0, 42.0], dtype=torch.float64), (1e-9, 1e-6, 1.0, 1.0)
    J, film = torch.tensor([3e-6, 2e-5], dtype=torch.float64), Film(thickness=3e-5)
    member = lambda x: Membrane(*(x[k] * unit[k] for k in range(4)))
    f = lambda x: simulate(MIX, J, member(x), film=film, rtol=1e-9).c_perm[0].log()
    jac = torch.func.jacrev(f)(v)  # (flux, ion, parameter)
    steps = 1e-5 * torch.diag(v)
    numeric = torch.stack([(f(v + h) - f(v - h)) / (2 * h.abs().sum() * torch.sign(h.sum())) for h in steps], -1)
    assert_allclose(jac, numeric, rtol=1e-6, atol=1e-7)
    names, c = read_feed(MIX)
    leaves = [x.repeat(2).requires_grad_() for x in v]
    q, _ = transport_problem(names, c.expand(2, -1), J[:, None], member(leaves), film)
    with torch.no_grad():
        found = certify(transport_problem(names, c.expand(2, -1), J[:, None], member(v), film)[0], None, 1e-9)
    by_graph = permeate_jacobian(q, found, leaves)
    assert_allclose(jac.permute(1, 2, 0), by_graph, rtol=1e-6, atol=1e-9)
    sides = v.numpy() + np.concatenate([np.zeros((1, 4)), steps, -steps])
    moved, each = member(sides.repeat(2, 0).T), len(sides)
    moved = transport_problem(names, np.tile(c, (2 * each, 1)), np.tile(J, each)[:, None], moved, film)[0]
    by_steps = permeate_differences(moved, found) / (2e-5 * v.numpy()[:, None])
    assert_allclose(by_steps, by_graph, rtol=1e-7, atol=1e-10)
    found.code[1] = FAILED
    by_steps_of_one = permeate_differences(moved, found) / (2e-5 * v.numpy()[:, None])
    assert_allclose(by_steps_of_one, by_steps * [1, 0], rtol=1e-12)

"""The compiled kernel: its marches, their derivatives, and whole problems against the reference in torch."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode.dspmde import kernel_march
from ion_ode.dspmde.certify import REFINED, certify, certify_eager
from ion_ode.dspmde.feed import read_feed, read_flux
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.kernel import compiled, packed, shots_of, solve_all
from ion_ode.dspmde.kernel_curves import STIFF, mesh
from ion_ode.dspmde.kernel_shot import K_CONV, PECLET
from ion_ode.dspmde.march import layer
from ion_ode.dspmde.membranes import NF270_WATERTAP, Membrane
from ion_ode.dspmde.notes import failure
from ion_ode.dspmde.problem import transport_problem, unit_transport
from ion_ode.dspmde.residual import shoot
from ion_ode.dspmde.solve import simulate
from ion_ode.water.ions import IONS, ion_arrays

Z = np.array([1.0, 2.0, -1.0, -2.0, 1.0])
FEEDS = [{"Na+": 10, "Mg+2": 5, "Cl-": 12, "SO4-2": 3, "NO3-": 2}, {"Na+": 200, "Cl-": 200}]


def start(seed=0, lanes=3):
    "A layer with an absent ion: concentrations, rates, sources."
    g = np.random.default_rng(seed)
    c = g.uniform(1, 5, (5, lanes))
    c[4] = 0
    rate = g.uniform(0.1, 3, (5, lanes))
    return c, rate, 0.4 * rate * c


def through(way, c, rate, source, n):
    c = c.copy()
    compiled(way)(c, np.empty((5, 0, c.shape[1])), rate, source, Z, n)
    return c


@pytest.mark.parametrize("way, n", [("explicit", 16), ("midpoint", 3)])
def test_a_march_is_that_of_the_reference(way, n):
    c, rate, source = start()
    t = lambda x: torch.from_numpy(x)
    there = layer(t(c), t(rate), t(source), t(Z)[:, None], n if way == "explicit" else -n)[0]
    assert_allclose(through(way, c, rate, source, n), there, rtol=1e-13, atol=1e-14)


def test_exponential_steps_find_the_same_layer_and_stay_positive_at_any_rate():
    c, rate, source = start()
    assert_allclose(
        through("exponential", c, rate, source, -256), through("explicit", c, rate, source, 512), rtol=1e-8, atol=1e-14
    )
    coarse, fine = (
        np.abs(through("exponential", c, rate, source, -n) - through("explicit", c, rate, source, 512)).max()
        for n in (32, 64)
    )
    assert coarse / fine > 10  # fourth order
    for top in (1e4, 1e8, 1e14):
        end = through("exponential", c, rate * top, source * top, -64)
        assert (end[:4] > 0).all() and np.isfinite(end).all()
        assert_allclose(Z @ end, Z @ c, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("way, n", [("explicit", 16), ("exponential", -32), ("midpoint", 3)])
def test_tangents_and_cotangents_are_those_of_differences(way, n):
    c, rate, source = start()
    T = np.zeros((5, 5, 3))
    for i in range(5):
        T[i, i] = c[i]
    compiled(way)(c.copy(), T, rate, source, Z, n)
    h = 1e-6
    for j in range(4):  # by ln c_p, which multiplies c and the source
        f = np.ones((5, 1))
        f[j] = np.exp(h)
        numeric = (through(way, c * f, rate, source * f, n) - through(way, c / f, rate, source / f, n)) / (2 * h)
        assert_allclose(T[:, j], numeric, rtol=1e-6, atol=1e-7)
    weight = np.random.default_rng(1).normal(size=(5, 3))
    back, to_rate, to_source = weight.copy(), np.zeros((5, 3)), np.zeros((5, 3))
    compiled(way + " back")(c.copy(), rate, source, Z, n, back, to_rate, to_source)
    value = lambda *x: (through(way, *x, n) * weight).sum(0)
    for k, exact in enumerate((back, to_rate, to_source)):
        for i in range(4):
            up, down = [c, rate, source], [c, rate, source]
            step = np.zeros((5, 1))
            step[i] = 1e-5
            up[k], down[k] = up[k] + step, down[k] - step
            assert_allclose(exact[i], (value(*up) - value(*down)) / 2e-5, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("film", [None, Film(thickness=3e-5), Film(k=8e-5)])
@pytest.mark.parametrize("activity", ["ideal", "davies", "davies_solution"])
def test_residual_jacobian_and_solution_of_the_reference(film, activity):
    names, c = read_feed(FEEDS)
    q, _ = transport_problem(names, c, read_flux(1e-5, 2), NF270_WATERTAP, film, activity)
    u = torch.where(q.present.any(1)[:, None], q.ln_feed, 0.0)
    u = torch.cat([u, torch.full((q.n_unknowns - len(u), 2), 0.3, dtype=u.dtype)])
    r, J, _ = shoot(u, q, 16, 8, jacobian=True)
    assert_allclose(shots_of(*packed(q), u.numpy(), 16, 8, False), r, rtol=1e-10, atol=1e-12)
    assert_allclose(shots_of(*packed(q), u.numpy(), 16, 8, True), J, rtol=1e-9, atol=1e-11)
    here, there = certify(q, rtol=1e-10), certify_eager(q, rtol=1e-10)
    assert (here.n >= there.n).all() and (here.code <= REFINED).all()
    assert_allclose(here.u.exp(), there.u.exp(), rtol=1e-10)
    assert_allclose(here.c_wall, there.c_wall, rtol=1e-9)


def test_what_one_problem_needs_does_not_change_another():
    J = torch.logspace(-6.5, -4, 40, dtype=torch.float64)
    together = simulate(FEEDS * 20, J[:, None], NF270_WATERTAP, throw=False)
    for i in (0, 17, 39):
        alone = simulate(FEEDS[i % 2], J[i], NF270_WATERTAP)
        for ion in ("Na+", "Cl-"):
            both = (s.c_perm[k, 0, s.ions.index(ion)] for s, k in ((alone, 0), (together, i)))
            assert_allclose(*both, rtol=1e-13)


def test_an_inverse_that_was_kept_is_not_another_curves():
    names, c = read_feed(FEEDS)
    J, (q, _) = np.logspace(-6.5, -4.5, 200)[:, None], unit_transport(names, c[:1].expand(200, -1), NF270_WATERTAP)
    u = solve_all(*packed(q), J)["u"]
    u[:, 1:] += 0.003 * np.sin(np.arange(u[:, 1:].size)).reshape(u[:, 1:].shape)
    together = solve_all(*packed(q), J, guess=u)
    for i in (0, 63, 64, 65, 128, 199):  # lanes of a block are taken up again by the next
        alone = solve_all(*packed(q.take(slice(i, i + 1))), J[i : i + 1], guess=u[:, i : i + 1])
        assert alone["n_steps"] == together["n_steps"][i]
        assert_allclose(alone["u"][:, 0], together["u"][:, i], rtol=1e-12)


def test_few_nodes_behind_a_linear_film_are_not_called_unsolvable():
    feed = {"Na+": 10.0, "Mg+2": 2.0, "Cl-": 10.0, "SO4-2": 2.0}
    options = {"film": Film(k=3e-5), "activity": "davies_solution", "nodes": 5, "throw": False}
    all_, last = (simulate(feed, J, NF270_WATERTAP, **options) for J in ([1e-5, 3e-5, 1e-4, 4e-4], [4e-4]))
    assert all_.status[0, 3] == last.status[0, 0] == "converged"
    assert_allclose(all_.c_perm[0, 3], last.c_perm[0, 0], rtol=1e-6)


def test_what_fails_at_once_tells_nothing_of_its_neighbours():
    feeds = [{"Na+": c, "Cl-": c} for c in [10.0] * 64 + [1e5]]
    s = simulate(feeds, 1e-5, NF270_WATERTAP, activity="davies", throw=False)
    assert s.ok[:64].all() and not s.ok[64, 0] and not s.residual[64, 0] < 1


def test_fields_of_any_precision_are_taken():
    m = replace(NF270_WATERTAP, eps_pore=torch.tensor(41.0, dtype=torch.bfloat16))
    got = simulate({"Na+": 10.0, "Cl-": 10.0}, 1e-5, m)
    want = simulate({"Na+": 10.0, "Cl-": 10.0}, 1e-5, replace(m, eps_pore=41.0))
    assert_allclose(got.c_perm, want.c_perm, rtol=1e-12)


HARD = {
    "pore of the ion's size": lambda: simulate({"Mg+2": 5, "Cl-": 10}, 1e-5,
    Membrane(0.347e-9 * 1.000001, 1e-6, -30.0, 45.0), throw=False),
    "pore one per cent wider": lambda: simulate({"Mg+2": 5, "Cl-": 10}, 1e-5,
    Membrane(0.347e-9 * 1.01, 1e-6, -30.0, 45.0), throw=False),
    "a film of a centimetre": lambda: simulate({"Mg+2": 5, "Cl-": 10}, 2e-5, film=Film(thickness=1e-2), throw=False),
    "a flux of a centimetre a second": lambda: simulate({"Mg+2": 5, "Cl-": 10}, 1e-2, throw=False),
    "two molar": lambda: simulate({"Mg+2": 2000, "SO4-2": 2000}, 1e-5, activity="davies", throw=False),
    "a trace of a feed": lambda: simulate({"Na+": 1e-300, "Cl-": 1e-300}, 1e-5, throw=False),
    "nanomolar": lambda: simulate({"Na+": 1e-9, "Cl-": 1e-9}, 1e-5, throw=False),
}  # fmt: skip


@pytest.mark.parametrize("case", HARD)
def test_every_problem_ends(case):
    "With a certified solution, or with words on why it has none."
    sol = HARD[case]()
    assert all(s in ("converged", "refined") or s.startswith(("failed: ", "no solution: ")) for s in sol.status.ravel())
    assert torch.isfinite(sol.c_perm[torch.from_numpy(sol.ok)]).all()


def test_a_failure_says_why():
    "A permeate that no number can hold, a mesh without an end, a search without one."
    said = lambda case: HARD[case]().status[0, 0]
    assert said("a trace of a feed").startswith("failed: the permeate holds less than 1e-300 mol/m³ of Na+")
    tight = said("pore of the ion's size")
    assert "work limit of a problem" in tight and "largest Péclet number 1.4e+13, Mg+2" in tight
    ions, u, peclet = ("Na+", "Cl-"), np.array([1.0, 1.0, 0.0]), np.array([3.0, 2.0])
    assert failure(ions, u, 1e-5, -65536, 1, 9, peclet) == (
        "failed: on 65536 steps the error of c_perm is still 1e-05; ask for a looser rtol"
    )


def test_meshes_are_even_and_turn_exponential():
    n = np.array([mesh(top, 1e-6) for top in (0.1, 5.0, 59.0, 61.0, 1e9, np.inf)])
    assert (n[:3] > 0).all() and (n[3:] < 0).all() and (np.diff(np.abs(n[:3])) >= 0).all() and (n % 2 == 0).all()


def test_fluxes_that_cannot_be_written_to_are_taken():
    q, _ = unit_transport(*read_feed(FEEDS), NF270_WATERTAP)
    J = np.broadcast_to(1e-5, (2, 1))
    assert_allclose(solve_all(*packed(q), J)["u"], solve_all(*packed(q), J.copy())["u"], rtol=1e-15)


def test_a_rate_at_the_limit_of_exponential_steps_is_marched_by_what_its_mesh_asks_for():
    "Products in another order may lie on either side of the limit, by one digit."
    z, q, own, form = packed(unit_transport(*read_feed({"Na+": 10, "Mg+2": 5, "Cl-": 20}), NF270_WATERTAP)[0])
    push, K = q[PECLET, :, 0].max(), q[K_CONV, :, 0]
    J = STIFF / (push * (ratio := np.linspace(1.2, 1.4, 400)))
    apart = np.flatnonzero((push * ratio * J <= STIFF) & (push * J * ratio > STIFF))
    assert len(apart) > 10
    for i in apart[:3]:
        K[:] = ratio[i]
        found = solve_all(z, q, own, form, J[i : i + 1, None])
        assert found["code"] <= REFINED and np.exp(found["u"][0, 0]) < 9


def test_threads_change_nothing():
    names, c = read_feed(FEEDS * 64)
    J, (q, _) = np.tile(np.logspace(-6.5, -4.5, 32), (128, 1)), unit_transport(names, c, NF270_WATERTAP)
    one, two = (solve_all(*packed(q), J, threads=t) for t in (1, 2))
    for k in one:
        np.testing.assert_array_equal(one[k], two[k])
    names, c = read_feed(FEEDS * 320)
    J = np.logspace(-6.5, -4.5, 8)[None] * np.linspace(0.5, 1, 640)[:, None]
    q, _ = unit_transport(names, c, NF270_WATERTAP)
    one, *more = (solve_all(*packed(q), J, threads=t) for t in (1, 2, 3))  # long shares of curves
    for k in one:
        for several in more:
            np.testing.assert_array_equal(one[k], several[k])
    q, J = unit_transport(names, c[:2], NF270_WATERTAP)[0], np.tile(np.logspace(-6.5, -4.5, 2048), (2, 1))
    one, two = (solve_all(*packed(q), J, threads=t) for t in (1, 2))  # a curve a thread
    assert_allclose(one["u"], two["u"], rtol=1e-12)


def test_a_pore_below_every_cation_passes_no_salt_and_says_so():
    feed = {"Na+": 10, "Mg+2": 5, "Cl-": 20}
    none, some = (simulate(feed, [1e-6, 1e-5], Membrane(r, 1e-6, -30.0, 45.0), throw=False) for r in (0.05e-9, 0.33e-9))
    assert all(s.startswith("no solution: no cation or no anion") for s in none.status.ravel())
    assert some.ok.all()  # magnesium alone is wider


def test_hard_water_in_a_tight_pore_at_a_high_flux():
    "Calcium, magnesium, sulfate; pores down to four per cent wider than Mg+2, films down to where the flux is theirs."
    feed = {"Na+": 20, "Ca+2": 5, "Mg+2": 3, "Cl-": 20, "SO4-2": 4, "HCO3-": 8}
    for r_pore in (0.5e-9, 0.4e-9, 0.36e-9):
        for k in (2e-4, 5e-5, 4.6e-5, 4e-5):
            m = NF270_WATERTAP.with_(r_pore=r_pore)
            sol = simulate(feed, 4.5e-5, m, film=Film(k=k), balance="Cl-", throw=False)
            assert sol.ok.all() == (k > 4.5e-5), sol.status


def test_behind_a_film_no_curve_is_marched_without_end():
    "An old inverse that gains nothing on a mesh is made anew, not taken to ever finer ones."
    g = torch.Generator().manual_seed(0)
    r = lambda *s: torch.rand(*s, generator=g, dtype=torch.float64)
    c, z = 0.2 * 150 ** r(1024, 8), ion_arrays(IONS).z
    up, down = (c * z.clamp(min=0)).sum(1), (c * (-z).clamp(min=0)).sum(1)
    c = torch.where(z < 0, c * (up / down)[:, None], c)
    m = Membrane(0.42e-9 + 0.23e-9 * r(1024), 1e-6 * 6 ** r(1024), -3 * 40 ** r(1024), 38 + 27 * r(1024))
    J = torch.linspace(1 / 32, 1, 32, dtype=torch.float64) * (1e-5 + 5e-5 * r(1024, 1))
    hard = [300, 487, 500, 634, 915]  # curves that once went to 131,072 steps
    m = Membrane(*(t[hard] for t in (m.r_pore, m.thickness, m.charge_density, m.eps_pore)))
    q, _ = unit_transport(IONS, c[hard], m, Film(thickness=25e-6))
    found = certify(q, None, persist=False, flux=J[hard])
    assert (found.code <= REFINED).all() and found.n.abs().max() <= 1024 and found.n_film.max() <= 1024


def test_what_is_compiled_lies_in_the_modules_whose_digest_it_carries():
    folder = Path(kernel_march.__file__).parent
    own = {p.name for p in folder.glob("*.py") if re.search(r"^@(fast|part)$", p.read_text(), re.M)}
    assert own <= {p.name for p in folder.glob("kernel_*.py")}
    imported = {line.split()[1].split(".")[-1] for name in own for line in (folder / name).read_text().splitlines()
                if line.startswith("from ") and "kernel" in line}  # fmt: skip
    assert {f"{name}.py" for name in imported} <= {p.name for p in folder.glob("kernel_*.py")}

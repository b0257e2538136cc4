"""What needs no tensor loads no torch, and gives the numbers that tensors give"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode.core import LMH, InputError
from ion_ode.dspmde.arrays import permeates
from ion_ode.dspmde.conditions import eps_pore_at
from ion_ode.dspmde.feed import feed_array, read_feed
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import NF270, Membrane
from ion_ode.dspmde.solve import simulate
from ion_ode.inference.pores import solve_back

CLI = """
import sys
from ion_ode.cli import main
command, *without = sys.argv[1:]
try:
    main([command, "--feed", "Na+=10,Mg+2=5,Cl-=20", "--flux", "5,20"])
except SystemExit as e:
    assert not e.code
print([m for m in without if m in sys.modules])
"""


@pytest.mark.parametrize(("command", "without"), [("predict", ("torch",)), ("simulate", ("pandas", "numba"))])
def test_one_feed_is_answered_without(command, without):
    asked = [sys.executable, "-c", CLI, command, *without, "scipy.stats", "matplotlib"]
    out = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]" and "Mg+2" in out


def test_arrays_and_tensors_have_the_same_answer():
    c, flux = np.array([[10.0, 5.0, 20.0], [1.0, 2.0, 5.0]]), np.array([[5.0, 20.0, 60.0]] * 2) * LMH
    names = ("Na+", "Mg+2", "Cl-")
    for film in (None, Film(thickness=25e-6)):
        perm, wall = permeates(names, c, flux, NF270, film)
        s = simulate(torch.from_numpy(c), torch.from_numpy(flux), ions=names, film=film)
        assert_allclose(perm, s.c_perm, rtol=1e-10)
        assert_allclose(wall, s.c_wall, rtol=1e-10)


@pytest.mark.parametrize("film", [0.0, 30e-6])
def test_slopes_of_arrays_are_those_of_tensors(film):
    "By every input and offset, for thin pores and for one so thick and fast that it is marched by exponential steps."
    rng, names, n = np.random.default_rng(0), ("Na+", "Mg+2", "Cl-"), 40
    c = np.array([[10.0, 5.0, 20.0]]) * np.exp(rng.standard_normal((n, 1)))
    p = {"c_feed": c, "r_pore": rng.uniform(0.4e-9, 0.6e-9, n), "thickness": 1e-6 * np.exp(rng.standard_normal(n))}
    p |= {"eps_pore": rng.uniform(35, 50, n), "charge": 40 * rng.standard_normal(n), "film": np.full(n, film)}
    p |= {"flux": 1e-5 * np.exp(rng.standard_normal(n)), "offset": 0.3 * rng.standard_normal((n, 3))}
    p["thickness"][0], p["flux"][0], p["temperature"] = 2e-4, 1e-4, np.full(n, 293.15)
    seed = rng.standard_normal((n, 3))
    passage, back = solve_back(names, p, 1e-8)
    got = back(seed)
    leaf = {k: torch.from_numpy(p[k]).requires_grad_() for k in sorted({*p} - {"c_feed", "temperature"})}
    eps = eps_pore_at(leaf["eps_pore"], 293.15)
    offset = {i: leaf["offset"][:, k] for k, i in enumerate(names)}
    m = Membrane(leaf["r_pore"], leaf["thickness"], leaf["charge"], eps, ln_partition=offset)
    front = Film(thickness=leaf["film"]) if film else None
    s = simulate(torch.from_numpy(c), leaf["flux"][:, None], m, ions=names, film=front, temperature=293.15, rtol=1e-8)
    assert (s.n_mesh < 0).any() and (s.n_mesh > 0).any()
    out = s.c_perm[:, 0] / torch.from_numpy(c)
    assert_allclose(passage, out.detach(), rtol=1e-10)
    (out * torch.from_numpy(seed)).sum().backward()
    for k, v in leaf.items():
        if k != "film" or film:
            assert_allclose(got[k], v.grad, rtol=1e-6, atol=1e-7 * float(v.grad.abs().max()), err_msg=k)


def test_a_feed_is_read_alike_in_numpy_and_torch():
    for feed in ({"Na+": [10, 10.05], "Cl-": 10.1}, [{"Mg+2": 1, "Cl-": 2}, {"Na+": 1, "Cl-": 1}], {"glucose": 3.0}):
        for balance in (None, "Na+") if "glucose" not in feed else (None,):
            (names, c), (same, t) = feed_array(feed, None, balance), read_feed(feed, None, balance)
            assert names == same and isinstance(c, np.ndarray)
            assert_allclose(c, t, rtol=1e-14)


def test_permeates_take_fluxes_of_any_kind_and_refuse_rows_that_do_not_pair():
    names, c = ("Na+", "Cl-"), np.array([[10.0, 10.0], [5.0, 5.0]])
    J = np.array([[1e-5, 2e-5], [1e-5, 3e-5]])
    want, _ = permeates(names, c, J, NF270)
    fixed = np.broadcast_to(J, J.shape)
    assert_allclose(permeates(names, c, fixed, NF270)[0], want, rtol=1e-12)
    assert_allclose(permeates(names, c, J.astype("f4"), NF270)[0], want, rtol=1e-5)
    assert_allclose(permeates(names, c[:1], J, NF270)[0][0], want[0], rtol=1e-12)
    assert permeates(names, c, J[:1], NF270)[0].shape == (2, 2, 2)
    with pytest.raises(InputError, match="2 feeds and 3 rows of fluxes"):
        permeates(names, c, np.full((3, 1), 1e-5), NF270)

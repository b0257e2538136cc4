"The flux that a pressure drives."

import numpy as np
import pandas as pd
import pytest
import torch
from example_set import simulate
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ion_ode import NF270_WATERTAP, ConvergenceError, Film, InputError
from ion_ode.core import LMH, bar, um

FEED = {"Na+": 10.0, "Mg+2": 5.0, "Cl-": 20.0}
SEA = {"Na+": 474.0, "Mg+2": 54.0, "Ca+2": 10.0, "SO4-2": 28.5, "Cl-": 545.0}


@settings(max_examples=10, deadline=None)
@given(flux=st.floats(1, 120), na=st.floats(0.1, 300), thickness=st.floats(5, 60))
def test_there_and_back(flux, na, thickness):
    feed, film = {"Na+": na, "Ca+2": 2.0, "Cl-": na + 4.0}, Film(thickness=thickness * um)
    forth = simulate(feed, flux * LMH, film=film)
    back = simulate(feed, pressure=forth.pressure, film=film)
    assert_allclose(back.flux, forth.flux, rtol=1e-5)
    assert_allclose(back.c_perm, forth.c_perm, rtol=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"film": Film(k=3e-5)}, {"activity": "davies"}, {"nodes": 1}, {"temperature": 310.0}]
)
def test_every_option_of_simulate_holds(options):
    sol = simulate(FEED, pressure=[3 * bar, 6 * bar], **options)
    assert_allclose(sol.pressure, [[3 * bar, 6 * bar]], rtol=1e-5)
    again = simulate(FEED, sol.flux, **options)
    assert_allclose(sol.c_perm, again.c_perm, rtol=1e-5)


def test_batches_of_feeds_membranes_and_pressures():
    membrane = NF270_WATERTAP.with_(r_pore=torch.tensor([0.48e-9, 0.52e-9], dtype=torch.float64))
    both = simulate([FEED, SEA], pressure=np.array([[4.0], [30.0]]) * bar, membrane=membrane)
    alone = simulate(SEA, pressure=30 * bar, membrane=NF270_WATERTAP.with_(r_pore=0.52e-9))
    names = [both.ions.index(n) for n in alone.ions]
    assert_allclose(both.flux[1, 0], alone.flux[0, 0], rtol=1e-5)
    assert_allclose(both.c_perm[1, 0, names], alone.c_perm[0, 0], rtol=1e-5)


def test_gradients_against_differences():
    def passed(p, thickness, k):
        membrane = NF270_WATERTAP.with_(thickness=thickness)
        return simulate(FEED, pressure=p, membrane=membrane, film=Film(thickness=k), rtol=1e-9).c_perm[0, 0, 0]

    point = [torch.tensor(v, dtype=torch.float64) for v in (5 * bar, 0.86e-6, 20 * um)]
    leaves = [v.clone().requires_grad_() for v in point]
    exact = torch.autograd.grad(passed(*leaves), leaves)
    for i, p in enumerate(point):
        ends = [passed(*(v * (1 + s) if j == i else v for j, v in enumerate(point))) for s in (1e-4, -1e-4)]
        assert_allclose(exact[i] * p, (ends[0] - ends[1]) / 2e-4, rtol=1e-4)


def test_a_linear_film_bounds_the_flux_and_the_pressure_goes_into_osmosis():
    "Beyond the flux that k can carry there is no solution, so pressure makes a steeper wall instead."
    sol = simulate({"Mg+2": 20.0, "SO4-2": 20.0}, pressure=[5 * bar, 40 * bar], film=Film(k=5e-6))
    assert sol.ok.all() and sol.flux.max() < 1.2 * 5e-6 * 2
    assert (sol.osmotic[0, 1] / sol.pressure[0, 1]).item() > 0.7


def test_no_flux_is_said():
    tight = NF270_WATERTAP.with_(r_pore=0.36e-9, thickness=3 * um, eps_pore=35.0, permeability=0.5 * LMH / bar)
    sol = simulate(SEA, pressure=[1 * bar, 10 * bar], membrane=tight, throw=False)
    assert sol.status[0, 0] == "no flux" and sol.status[0, 1] in ("converged", "refined")
    assert sol.flux[0, 0] == 0 and torch.isnan(sol.c_perm[0, 0]).all()
    with pytest.raises(ConvergenceError, match="no flux") as e:
        simulate(SEA, pressure=1 * bar, membrane=tight)
    assert e.value.index == (0, 0)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: simulate(FEED, 20 * LMH, pressure=5 * bar), "give one of them"),
        (
            lambda: simulate(pd.DataFrame({"Na+": [1.0], "Cl-": [1.0], "flux [LMH]": [9]}), pressure=5 * bar),
            "give one of them",
        ),
        (lambda: simulate(FEED, pressure=5), "give pascal"),
        (lambda: simulate(FEED, pressure=-5 * bar), "positive"),
        (lambda: simulate(FEED, pressure="5 bar"), "in Pa"),
    ],
)
def test_bad_input_gets_a_sentence(call, said):
    with pytest.raises(InputError, match=said):
        call()

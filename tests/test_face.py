"""One library: every door takes the same feeds and fluxes, and what comes out reads and draws itself."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from example_set import simulate
from numpy.testing import assert_allclose

from ion_ode import InputError, fit_membrane, load_model
from ion_ode.core import LMH, T_REF
from ion_ode.rejections import Rejections
from ion_ode.water.feeds import measured_in_si
from ion_ode.water.ions import get_ion

MG, NA = get_ion("Mg+2").molar_mass, get_ion("Na+").molar_mass  # g/mol
C = {"Na+": [10.0, 4.0], "Mg+2": [5.0, 8.0], "Cl-": [20.0, 20.0]}
FLUX = np.array([[5.0], [20.0]]) * LMH
FORMS = {
    "dict": (C, {}),
    "dict with units": (
        {"Na+ [mg/L]": [10 * NA, 4 * NA], "Mg2+ (mg/L)": [5 * MG, 8 * MG], "Cl- [mmol/L]": [20, 20]},
        {},
    ),
    "list": ([{k: v[i] for k, v in C.items()} for i in (0, 1)], {}),
    "list with units": ([{"Na+ [M]": C["Na+"][i] / 1e3, "Mg+2": C["Mg+2"][i], "Cl-": C["Cl-"][i]} for i in (0, 1)], {}),
    "frame": (pd.DataFrame(C), {}),
    "frame with units and labels": (
        pd.DataFrame(
            {"name": ["a", "b"], "Na+ [mg/L]": np.array(C["Na+"]) * NA, "Mg+2_mol_m3": C["Mg+2"], "Cl-": C["Cl-"]}
        ),
        {},
    ),
    "array": (np.stack(list(C.values()), 1), {"ions": list(C)}),
    "tensor": (torch.tensor(list(C.values())).T, {"ions": list(C)}),
}


@pytest.fixture(scope="module")
def model():
    return load_model("dspmde")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_feed_is_the_same_feed(form, model):
    from ion_ode import NF270_WATERTAP

    feed, options = FORMS[form]
    a, b = simulate(feed, FLUX, **options), simulate(C, FLUX)
    assert_allclose(a.c_perm, b.c_perm, rtol=1e-9)
    a, b = (model.predict(f, FLUX, membrane=NF270_WATERTAP, **o) for f, o in ((feed, options), (C, {})))
    assert list(a.ion) == list(b.ion)
    assert_allclose(a.rejection, b.rejection, rtol=1e-5)


@pytest.mark.parametrize("unit,factor", [("LMH", LMH), ("L m⁻² h⁻¹", LMH), ("m/s", 1.0), ("um/s", 1e-6)])
def test_flux_column(unit, factor, model):
    table = pd.DataFrame(C).assign(**{f"flux [{unit}]": FLUX[:, 0] / factor})
    want = simulate(C, FLUX)
    assert_allclose(simulate(table).c_perm, want.c_perm, rtol=1e-9)
    assert_allclose(simulate(table).flux, FLUX, rtol=1e-12)
    for door in (simulate, model.predict):
        with pytest.raises(InputError, match="use one of them"):
            door(table, 5 * LMH)
        with pytest.raises(InputError, match="no flux"):
            door(C)
        with pytest.raises(InputError, match="needs a unit of flux"):
            door(pd.DataFrame(C).assign(flux=5.0))


def test_gradients_pass_a_unit():
    c = torch.tensor(10.0 * NA, dtype=torch.float64, requires_grad=True)
    plain = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    for feed in ({"Na+ [mg/L]": c}, {"Na+": plain}):
        simulate(feed, 20 * LMH, balance="Cl-").rejection[0, 0, 0].backward()
    assert_allclose(c.grad * NA, plain.grad, rtol=1e-6)


def test_measurements_with_units_fit_like_measurements_in_si():
    si = simulate(C, FLUX).to_frame().assign(kind="intrinsic")
    lab = pd.DataFrame(
        {
            "ion": si.ion,
            "sample": si["sample"],
            "flux [LMH]": si.flux_m_s / LMH,
            "feed [mM]": si.c_feed,
            "rejection [%]": 100 * si.rejection,
            "kind": si.kind,
        }
    )
    fits = [fit_membrane(d, free=("r_pore",), n_starts=1, n_sobol=8, intervals="none") for d in (si, lab)]
    assert_allclose(fits[1].membrane.r_pore, fits[0].membrane.r_pore, rtol=1e-6)
    assert_allclose(fits[0].to_frame().predicted, fits[0].to_frame().rejection, atol=1e-6)
    assert "nm" in repr(fits[0]) and fits[0].plot(plt.figure().add_subplot()).get_xlabel() == "Measured rejection (%)"


def test_measured_in_si_units_and_refusals():
    d = pd.DataFrame(
        {
            "ion": ["Na+", "Mg+2"],
            "feed [mg/L]": [NA, MG],
            "sd [%]": [2.0, None],
            "temperature [°C]": [25, 25],
            "note": ["", "x"],
        }
    )
    got = measured_in_si(d)
    assert_allclose(got.c_feed_mol_m3, [1, 1], rtol=1e-12)
    assert_allclose(got.temperature_K, T_REF)
    assert_allclose(got.rejection_sd, [0.02, np.nan])
    assert list(got.note) == ["", "x"]
    for column, words in (
        ("rejection [bar]", "bar"),
        ("T", "two columns hold temperature"),
        ("flux [mM]", "unit of flux"),
    ):
        with pytest.raises(InputError, match=words):
            measured_in_si(d.assign(**{column: 1.0}))


def test_what_comes_out_draws_itself(model):
    sol = simulate(C, np.array([5, 20]) * LMH)
    assert len(sol.plot()) == 2 and not hasattr(sol.plot(sample=1), "__len__")
    table = sol.to_frame()
    assert isinstance(table, Rejections) and type(table[["ion", "rejection"]]) is pd.DataFrame
    assert "5.56e-06" in repr(table) and "5.56e-06" in table._repr_html_() and table.flux_m_s.dtype == float
    ax = plt.figure().add_subplot()
    assert table[table["sample"] == 0].shape[0] == 6 and sol.plot(ax, sample=0) is ax
    many = simulate([{"Na+": 10, "Cl-": 10}] * 7, 5 * LMH)
    with pytest.raises(InputError, match=r"plot\(sample=0\)"):
        many.plot()
    with pytest.raises(InputError, match="no sample 9"):
        many.plot(sample=9)
    assert model.plot(plt.figure().add_subplot()).get_ylabel() == "Share of errors below"
    plt.close("all")


def test_reprs_are_sentences_with_units(model):
    assert (
        repr(simulate(C, FLUX)) == "Solution for Na+, Mg+2, Cl- in 2 feeds at 1 flux each (5 to 20 L/m²/h): 2 converged"
    )
    assert repr(simulate({"K+": 1, "Cl-": 1}, 5 * LMH)).startswith(
        "Solution for K+, Cl- in 1 feed at 1 flux (5 L/m²/h): 1 converged"
    )
    assert "L/m²/h" in repr(model) and "network" in repr(model)


def test_leaving_the_trained_range_says_by_how_much():
    m = load_model("nf270-network")
    top = m.card["ranges"]["flux_m_s"][1]
    with pytest.warns(UserWarning, match=r"flux .* is above the trained .* \(by 50%\)"):
        m.predict({"Na+": 20, "Cl-": 20}, 1.5 * top)

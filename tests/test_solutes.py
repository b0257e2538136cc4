"""Solutes without a charge, and ions wider than the pore: alone, beside salts, behind films, on every path."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode import NF270, NF270_WATERTAP, InputError, get_ion, simulate
from ion_ode.core import LMH, nm
from ion_ode.dspmde import HINDRANCE, Film, Membrane
from ion_ode.inference.answer import load_answer
from ion_ode.water.feeds import feed_table
from ion_ode.water.ions import read_ion_table, viscosity_water

FLUX = np.array([2.0, 20.0, 150.0]) * LMH
HEAD = "name,z,D_bulk_m2_s,r_stokes_m,molar_mass_g_mol,aliases,source,doi\n"


def closed_form(name: str, m, flux):
    "Rejection of a neutral solute: steric entry and hindered convection and diffusion in a pore."
    s = get_ion(name)
    lam = torch.tensor([s.r_stokes / m.r_pore], dtype=torch.float64)
    K_conv, K_diff = (k.item() for k in HINDRANCE["dechadilok_deen"](lam))
    phi, peclet = (1 - lam.item()) ** 2, K_conv * flux * m.thickness / (K_diff * s.D_bulk)
    return 1 - phi * K_conv / (1 - (1 - phi * K_conv) * np.exp(-peclet))


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("feed", [{}, {"Na+": 10, "Cl-": 10}, {"Mg+2": 50, "Na+": 20, "SO4-2": 60}])
def test_a_neutral_solute_follows_its_closed_form_beside_any_salt(feed, backend):
    s = simulate(feed | {"glucose": 1.0, "boric acid": 0.5}, FLUX, NF270_WATERTAP, backend=backend)
    for name in ("glucose", "H3BO3"):
        assert_allclose(s.rejection[0, :, s.ions.index(name)], closed_form(name, NF270_WATERTAP, FLUX), rtol=1e-6)
    if feed:
        alone = simulate(feed, FLUX, NF270_WATERTAP, backend=backend)
        assert_allclose(s.c_perm[0, :, : len(feed)], alone.c_perm[0], rtol=2e-6)


def test_a_neutral_solute_behind_a_linear_film():
    k, R = 1e-4, closed_form("glucose", NF270_WATERTAP, FLUX)
    s = simulate({"Na+": 10, "Cl-": 10, "glucose": 1}, FLUX, NF270_WATERTAP, film=Film(k=k))
    wall = 1 / (1 - FLUX / k * R)  # J (c_w - c_p) = k (c_w - c_f)
    assert_allclose(s.c_wall[0, :, 2], wall, rtol=1e-6)
    assert_allclose(s.rejection[0, :, 2], 1 - (1 - R) * wall, rtol=1e-6)


@pytest.fixture
def dye(tmp_path):
    (tmp_path / "mine.csv").write_text(HEAD + "dye-4,-4,0.3e-9,0.82e-9,800,,made up for a test,\n")
    return read_ion_table(tmp_path / "mine.csv")[0]


@pytest.mark.parametrize("film", [None, Film(k=1e-4), Film(thickness=25e-6)])
@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_an_ion_wider_than_the_pore_stays_and_pushes_its_like_through(dye, film, backend):
    plain = simulate({"Na+": 10, "Cl-": 10}, FLUX, NF270, film=film, backend=backend)
    s = simulate({"Na+": 50, "Cl-": 10, "dye-4": 10}, FLUX, NF270, film=film, backend=backend)
    R = s.rejection[0]
    assert_allclose(R[:, 2], 1.0, rtol=1e-12)
    assert (R[:, 1] < plain.rejection[0, :, 1] - 0.1).all() and R[0, 1] < -0.3
    assert_allclose(s.c_perm[0, :, 0], s.c_perm[0, :, 1], rtol=1e-9)  # the permeate is NaCl
    assert np.abs((s.c_wall[0] @ torch.tensor([1.0, -1.0, -4.0]).double()) / s.c_wall[0, :, 0]).max() < 1e-6
    assert any("none of dye-4 passes" in w for w in s.notes)


def test_the_wall_side_of_an_excluded_ion_is_a_donnan_equilibrium(dye):
    "Without a fixed charge and at vanishing flux the pore holds NaCl of the activity product of the feed."
    m = Membrane(0.6 * nm, 1e-6, 0.0, 78.36)
    s = simulate({"Na+": 50, "Cl-": 10, "dye-4": 10}, 1e-4 * LMH, m)
    assert_allclose(s.c_perm[0, 0, 0], np.sqrt(50 * 10), rtol=1e-3)


def test_a_pore_narrower_than_every_cation_passes_nothing():
    s = simulate({"Na+": 1, "Cl-": 1}, FLUX, NF270_WATERTAP.with_(r_pore=0.15 * nm))
    assert_allclose(s.rejection, 1.0, rtol=1e-12)


def test_solutes_in_a_laboratory_table():
    row = {
        "Na+ [mM]": 10,
        "Cl- [mM]": 10,
        "Boron [mg/L]": 1.081,
        "SiO2 [mg/L]": 60.083,
        "Si [mg/L]": 0,
        "glucose [mg/L]": 180.16,
    }
    t = feed_table(pd.DataFrame([{k: v for k, v in row.items() if not k.startswith("Si ")}]))
    assert_allclose([t.c_feed[0, t.ions.index(i)] for i in ("H3BO3", "SiO2", "glucose")], [0.1, 1.0, 1.0], rtol=1e-9)
    with pytest.raises(InputError, match="glucose has no charge and no equivalents"):
        feed_table(
            pd.DataFrame([row | {"glucose [mg/L]": 0, "glucose [meq/L]": 1}]).drop(
                columns=["Si [mg/L]", "glucose [mg/L]"]
            )
        )
    with pytest.raises(InputError, match="name an ion with a charge other than 0"):
        simulate({"Na+": 1, "Cl-": 2, "glucose": 1}, 1e-5, balance="glucose")


def test_a_neutral_solute_takes_no_part_in_closing_a_balance():
    with pytest.warns(UserWarning, match="Cl- closes it"):
        s = simulate({"Na+": 10.0, "Cl-": 9.9, "glucose": 1.0}, FLUX, NF270_WATERTAP)
    assert_allclose(s.c_feed[0], [10.0, 10.0, 1.0], rtol=1e-12)


def test_tracers_tell_the_pore_that_neutral_solutes_meet():
    from ion_ode.inference.laws import NEUTRAL_PORE
    from ion_ode.inference.neutrals import fit_neutral, left_out_errors, measured_tracers

    few = load_answer("nf270").thinned(16)
    assert_allclose(fit_neutral(measured_tracers(), few), NEUTRAL_PORE, rtol=0.05)
    held_out = np.sqrt((left_out_errors(few) ** 2).mean())
    assert held_out.rmse < 0.13 < 0.3 < held_out["rmse of the ions' pore"]


def test_an_answer_to_neutral_solutes_and_to_what_does_not_fit(dye):
    few = load_answer("nf270").thinned(48)
    salt = few.predict({"Na+": 10, "Cl-": 10}, 77 * LMH, kind="intrinsic").set_index("ion")
    t = few.predict({"Na+": 10, "Cl-": 10, "glucose": 1, "H3BO3": 1}, 77 * LMH, kind="intrinsic").set_index("ion")
    assert_allclose(t.rejection[["Na+", "Cl-"]], salt.rejection[["Na+", "Cl-"]], rtol=2e-3)  # ions do not notice
    assert t.lower["glucose"] < 0.94 < t.upper["glucose"] and t.rejection["glucose"] > 0.8  # measured: .94
    assert 0 < t.rejection["H3BO3"] < 0.5
    wide = few.predict({"Na+": 50, "Cl-": 10, "dye-4": 10}, 20 * LMH)
    R = wide.set_index("ion").rejection
    assert R["dye-4"] == 1 and R["Cl-"] < -0.2  # the dye stays and pushes chloride through
    assert "none of dye-4 passes" in " ".join(wide.attrs["notes"])


def test_NDMA_is_what_its_formula_says_and_passes_more_than_glucose():
    "Diffusivity by Hayduk and Laudie, radius by Stokes and Einstein; a tighter pore rejects more of it."
    s, eta = get_ion("NDMA"), float(viscosity_water(298.15))
    assert_allclose(s.D_bulk, 13.26e-9 / ((1e3 * eta) ** 1.14 * 84**0.589), rtol=5e-3)
    assert_allclose(s.r_stokes, 1.380649e-23 * 298.15 / (6 * np.pi * eta * s.D_bulk), rtol=5e-3)
    assert get_ion("nitrosodimethylamine") is s
    feed = {"Na+": 10.0, "Cl-": 10.0, "NDMA": 1e-6, "glucose": 1.0}
    wide, tight = (
        simulate(feed, FLUX, NF270.with_(r_pore=r * nm)).rejection[0, :, 2:] for r in (NF270.r_pore / nm, 0.4)
    )
    assert (0 < wide[:, 0]).all() and (wide[:, 0] < wide[:, 1]).all() and (wide[:, 0] < tight[:, 0]).all()
    R = load_answer("nf270").thinned(16).predict(feed, 20 * LMH).set_index("ion").rejection
    assert 0 < R["NDMA"] < 0.5 < R["glucose"]


def test_a_neutral_solute_meets_its_own_pore_in_every_door():
    "`simulate`, `predict`, a module: neutral solutes meet `NEUTRAL_PORE` of the ions' pore, and ions do not notice."
    from ion_ode.inference.laws import NEUTRAL_PORE
    from ion_ode.module.draws import membranes_of
    from ion_ode.module.law import Law

    assert NF270.neutral_pore == NEUTRAL_PORE
    feed = {"Na+": 10.0, "Cl-": 10.0, "glucose": 1.0}
    s, wide = (simulate(feed, FLUX, m).rejection[0] for m in (NF270, NF270.with_(neutral_pore=None)))
    assert_allclose(s[:, 2], closed_form("glucose", NF270.with_(r_pore=NF270.r_pore * NEUTRAL_PORE), FLUX), rtol=1e-6)
    assert_allclose(s[:, :2], wide[:, :2], rtol=1e-5)
    assert (s[:, 2] > wide[:, 2] + 0.1).all()
    answer = load_answer("nf270").thinned(4)
    _, _, _, said = answer.draws(feed, FLUX[1], kind="intrinsic", rtol=1e-8)
    few, place = membranes_of(answer, tuple(feed)), np.arange(4)
    law = Law(tuple(feed), few, film="none")
    c = np.repeat([[10.0, 10.0, 1.0]], 4, 0)
    assert_allclose(law(c, np.full(4, FLUX[1]), np.ones((4, 3)), place).c_perm[:, 2], 1 - said[:, 0, 0, 2], rtol=1e-5)

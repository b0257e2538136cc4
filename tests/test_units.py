"""The table of units and the grammar of headers: against pint where it knows, and sentences where nothing can be
right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ion_ode.core import InputError
from ion_ode.water.headers import parse_header
from ion_ode.water.ions import get_ion
from ion_ode.water.units import is_unit, parse_unit, si_values, to_mol_m3

FLUX = {
    "L/m**2/h": (
        "LMH",
        "L m-2 h-1",
        "L m⁻² h⁻¹",
        "l/m²h",
        "L/(m2 h)",
        "L/m2/h",
        "L/m2·h",
        "L h-1 m-2",
        "L*m^-2*h^-1",
        "liter/m2/hour",
        "lmh",
    ),
    "gallon/foot**2/day": ("gfd", "gal/ft2/d", "gal ft-2 day-1", "GFD"),
    "m**3/m**2/day": ("m3/m2/d", "m^3/(m^2 d)", "m/d", "m per day"),
    "um/s": ("um/s", "µm s-1", "μm/s"),
}
CONCENTRATION = {
    "mol/m**3": ("mM", "mmol/L", "mol/m3", "mol m⁻³", "mol·m-3", "mm", "mmol l-1", "mol per m3"),
    "mmol/m**3": ("uM", "µM", "µmol/L", "um"),
    "mol/L": ("M", "mol/L", "kmol/m3", "mol dm-3"),
}


@pytest.mark.parametrize("quantity, table", [("flux", FLUX), ("c_feed", CONCENTRATION)])
def test_units_agree_with_pint(quantity, table):
    pint = pytest.importorskip("pint")
    u = pint.UnitRegistry()
    for theirs, spellings in table.items():
        want = u.Quantity(1.0, theirs).to("m/s" if quantity == "flux" else "mol/m**3").magnitude
        for s in spellings:
            assert_allclose(si_values([1.0], s, quantity, "Na+"), want, rtol=1e-12, err_msg=s)


def test_pressures_and_temperatures():
    for s, want in {
        "bar": 1e5,
        "psi": 6894.757293168361,
        "kPa": 1e3,
        "MPa": 1e6,
        "mbar": 100.0,
        "atm": 101325.0,
    }.items():
        assert_allclose(si_values([1.0], s, "pressure"), want, rtol=1e-12)
    for s, value in {"°C": 25.0, "degC": 25.0, "K": 298.15, "F": 77.0}.items():
        assert_allclose(si_values([value], s, "temperature"), 298.15, rtol=1e-12)


@pytest.mark.parametrize(
    "unit, ion, mol_m3",
    [
        ("mg/L as CaCO3", "Ca+2", 1 / 100.087),
        ("mg CaCO3/L", "HCO3-", 2 / 100.087),
        ("mg/L as N", "NO3-", 1 / 14.007),
        ("mgN/L", "NH4+", 1 / 14.007),
        ("mg/L as SO4-S", "SO4-2", 1 / 32.06),
        ("mg/L as SO4", "SO4-2", 1 / 96.056),
        ("mg/L as NH3", "NH4+", 1 / 17.031),
        ("meq/L", "Mg+2", 0.5),
        ("mval/l", "Mg+2", 0.5),
        ("°dH", "Ca+2", 10 / 56.077),  # 10 mg/L of CaO
        ("°fH", "Ca+2", 10 / 100.087),
        ("ppm", "Na+", 1 / 22.990),
        ("mmol/kgw", "Na+", 1.0),
    ],
)
def test_what_a_mass_is_expressed_as(unit, ion, mol_m3):
    assert_allclose(to_mol_m3(unit, get_ion(ion)), mol_m3, rtol=1e-5)


@pytest.mark.parametrize(
    "unit, quantity, words",
    [
        ("uS/cm", "c_feed", "a conductivity"), ("mol m-2", "c_feed", "not a unit of c_feed"),
        ("m**9**9**9", "flux", "not a unit that is known"),
        ("furlongs/moon", "flux", "not a unit that is known"), ("x" * 5000, "flux", "too long"),
        ("bar", "flux", "not a unit of flux"), ("mg/L", "rejection", "not a unit of rejection"),
        ("((((((((m", "flux", "not a unit"), ("bar", "temperature", "degC or K"),
    ],
)  # fmt: skip
def test_refusals(unit, quantity, words):
    with pytest.raises(InputError, match=words):
        parse_unit(unit, quantity)


@given(st.text(max_size=60))
def test_any_text_is_a_unit_or_a_sentence(text):
    assert is_unit(text) in (True, False)
    parse_header(text)


def test_nitrate_as_phosphorus_is_refused():
    with pytest.raises(InputError, match="cannot be expressed as P"):
        to_mol_m3("mg/L as P", get_ion("NO3-"))


HEADERS = {
    "water flux (gfd)": ("flux", None, "gfd"), "flux_LMH": ("flux", None, "LMH"), "J_v / LMH": ("flux", None,
    "LMH"), "permeate flux [m3/m2/d]": ("flux", None, "m3/m2/d"),
    "flux_m_s": ("flux", None, "m/s"), "J_v_m_per_s": ("flux", None, "m/s"), "feed_mM": ("c_feed", None,
    "mM"), "Feed concentration of Mg2+ [mM]": ("c_feed", "Mg+2", "mM"),
    "retention, %": ("rejection", None, "%"), "R Na+ [%]": ("rejection", "Na+", "%"),
    "R(Na+) [%]": ("rejection", "Na+", "%"), "T [K]": ("temperature", None, "K"),
    "T_K": ("temperature", None, "K"), "K+ [mM]": ("c_feed", "K+", "mM"), "Ca[+2]": ("c_feed", "Ca+2",
    None), "Ca[+2] [mg/L]": ("c_feed", "Ca+2", "mg/L"), "Cl− [mM]": ("c_feed", "Cl-", "mM"),
    "S(6) [mg/L]": ("c_feed", "SO4-2", "mg/L as SO4"), "N(5) mg/L": ("c_feed", "NO3-", "mg/L as N"),
    "N(-3)": ("c_feed", "NH4+", None), "NO3-N [mg/L]": ("c_feed", "NO3-", "mg/L as N"),
    "NO3- [mg/L]": ("c_feed", "NO3-", "mg/L"), "nitrate as N [mg/L]": ("c_feed", "NO3-",
    "mg/L as N"), "SO4-S (mg/L)": ("c_feed", "SO4-2", "mg/L as S"),
    "Calcium as CaCO3 [mg/L]": ("c_feed", "Ca+2", "mg/L as CaCO3"), "total hardness [°dH]": ("hardness", None,
    "°dH"), "Alkalinity [mg/L as CaCO3]": ("alkalinity", None, "mg/L as CaCO3"),
    "Conductivity (µS/cm)": ("ec", None, "uS/cm"), "pH": ("pH", None, None), "sampling date": ("date", None,
    None), "Fe [mg/L]": ("other", None, "mg/L"), "NaCl [mM]": (None, None, "mM"),
    "P [bar]": ("pressure", None, "bar"), "mystery": (None, None, None),
}  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_headers(header):
    h = parse_header(header)
    assert (h.quantity, h.ion) == HEADERS[header][:2]
    want = HEADERS[header][2]
    if h.unit is None or want is None:
        assert h.unit == want
    elif h.quantity in ("flux", "temperature", "pressure") or h.unit != want:
        assert np.isclose(si_values([1.0], h.unit, h.quantity)[0], si_values([1.0], want, h.quantity)[0]), h.unit


@pytest.mark.parametrize(
    "header, kind", [("intrinsic rejection [%]", "intrinsic"), ("R_obs [%]", "observed"), ("rejection [%]", None)]
)
def test_a_header_may_say_what_kind_of_rejection_it_is(header, kind):
    assert parse_header(header).kind == kind

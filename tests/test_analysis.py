"""A laboratory's analysis as a feed: what a mass is expressed as, hardness, alkalinity, detection limits, columns
that are not used."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from ion_ode import InputError, simulate
from ion_ode.core import LMH
from ion_ode.water.feeds import feed_table, read_feeds

M = {"Ca+2": 40.078, "Mg+2": 24.305, "Na+": 22.990, "Cl-": 35.45, "SO4-2": 96.056, "NO3-": 62.004, "HCO3-": 61.016}
WATER = {"Na+": 2.0, "Ca+2": 1.5, "Mg+2": 0.5, "Cl-": 1.8, "SO4-2": 0.5, "NO3-": 0.2, "HCO3-": 3.0}  # mol/m³, neutral

FORMS = {  # the same water as laboratories write it
    "mg/L": {f"{i} [mg/L]": c * M[i] for i, c in WATER.items()},
    "meq/L": {f"{i} (meq/L)": c * (2 if "2" in i else 1) for i, c in WATER.items()},
    "as N, as S, as CaCO3": {
        "Sodium (mg/L)": 2 * M["Na+"], "Calcium as CaCO3 [mg/L]": 1.5 * 100.087, "Mg [mg/L as CaCO3]": 0.5 * 100.087,
        "Chloride, mg/L": 1.8 * M["Cl-"],
        "SO4-S [mg/L]": 0.5 * 32.06, "NO3-N [mg/L]": 0.2 * 14.007, "Alkalinity [mg/L as CaCO3]": 3 * 100.087 / 2,
        "pH": 7.6,
    },
    "total hardness": {
        "Na [mM]": 2, "Ca2+ [mM]": 1.5, "total hardness [°dH]": 2.0 * 56.077 / 10, "Cl [mM]": 1.8, "SO4 [mM]": 0.5,
        "NO3 [mM]": 0.2, "HCO3 [mM]": 3.0,
    },
    "PHREEQC": {"Na [mmol/kgw]": 2, "Ca [mmol/kgw]": 1.5, "Mg [mmol/kgw]": 0.5, "Cl [mmol/kgw]": 1.8,
    "S(6) [mmol/kgw]": 0.5, "N(5) mg/L": 0.2 * 14.007, "C(4) [mmol/kgw]": 3.0},
    "pyEQL": {"Na[+1] [mol/L]": 2e-3, "Ca[+2] [mol/L]": 1.5e-3, "Mg[+2] [mol/L]": 0.5e-3, "Cl[-1] [mol/L]": 1.8e-3,
    "SO4[-2] [mol/L]": 0.5e-3, "NO3[-1] [mol/L]": 0.2e-3, "HCO3[-1] [mol/L]": 3e-3},
    "with more columns": {f"{i} [mg/L]": c * M[i] for i, c in WATER.items()} | {"EC [µS/cm]": 480, "TDS [mg/L]": 300,
    "date": "2024-05-01", "sample": "well 3"},
    "below detection": {f"{i} [mg/L]": c * M[i] for i, c in WATER.items()} | {"NH4+ [mg/L]": "<0.05",
    "K+ [mg/L]": "ND"},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_one_water_in_many_forms(form, tmp_path):
    d = pd.DataFrame([FORMS[form]])
    d.to_csv(tmp_path / "w.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = [feed_table(d), *read_feeds(tmp_path / "w.csv")]
        solution = simulate(d, 20 * LMH, ions=None)
    for t in found:
        assert_allclose([t.c_feed[0, t.ions.index(i)] for i in WATER], list(WATER.values()), rtol=1e-4)
        assert (np.delete(t.c_feed[0], [t.ions.index(i) for i in WATER]) == 0).all()
    assert_allclose(solution.c_feed.sum(), sum(WATER.values()), rtol=1e-3)


def test_what_is_not_used_is_said():
    for form, words in {
        "with more columns": r"read and not used: .EC \[µS/cm\]., .TDS \[mg/L\]., .date.",
        "below detection": r"below the detection limit and counted as absent: NH4\+ \(<0.05 in 1 feed\(s\)\)",
        "total hardness": r"Mg\+2 is what 'total hardness \[°dH\]' leaves beside Ca\+2",
        "as N, as S, as CaCO3": "HCO3- is the alkalinity of",
    }.items():
        with pytest.warns(UserWarning, match=words):
            feed_table(pd.DataFrame([FORMS[form]]))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"Xx [mg/L]": 3}, "'Xx .mg/L.' is neither an ion of the table"),
        ({"NaCl [mg/L as N]": 3}, "NaCl is a salt and cannot be expressed as N"),
        ({"total hardness [meq/L]": 9}, "contradicts calcium and magnesium"),
        ({"K+ [mg/L]": "5 mg"}, "carries a unit"),
        ({"K+ [mg/L]": "1,250"}, "may be 1250 or 1.250"),
        ({"K+ [mg/L]": -1}, "negative"),
        ({"K+ [mg/L]": ">5"}, "is a bound"),
        ({"K+ [mg/L as N]": 5}, "cannot be expressed as N"),
        ({"K+ [%]": 5}, "not a unit of c_feed"),
        ({"flux [LMH]": 0}, "a water flux must be positive"),
    ],
)
def test_refused(change, words):
    with pytest.raises(InputError, match=words):
        feed_table(pd.DataFrame([FORMS["mg/L"] | change]))

"""Salts and laboratory reports at every door: the same water, however it is written"""

import numpy as np
import pandas as pd
import pytest

from ion_ode.core import LMH, InputError
from ion_ode.data.reader import check_measurements, read_measurements
from ion_ode.water.feeds import feed_table, parse_feed, read_feeds
from ion_ode.water.salts import SALTS, ions_of_salt, salt_amounts

IONS = {"Na+": 21.0, "Mg+2": 5.0, "Cl-": 31.0, "SO4-2": 3.0, "K+": 6.0}
FORMS = {
    "text": lambda p: parse_feed("NaCl=20,Na+=1,MgCl2=5,K2SO4=3 mM,Cl-=1"),
    "text in mg/L": lambda p: parse_feed("NaCl=1168.85 mg/L,Na+=1,Cl-=1,MgCl2=10 meq/L,K2SO4=522.8 mg/L"),
    "columns": lambda p: {"NaCl [mM]": 20, "Na+ [mM]": 1, "MgCl2 [mmol/L]": 5, "K2SO4 [meq/L]": 6, "Cl- [mM]": 1},
    "rows": lambda p: pd.DataFrame({"salt": ["NaCl", "Na+", "MgCl2", "K2SO4", "Cl-"], "feed [mM]": [20, 1, 5, 3, 1]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_feed_of_salts_is_the_feed_of_their_ions(form, tmp_path):
    made = FORMS[form](tmp_path)
    if isinstance(made, dict) and "Na+" not in made:
        made = pd.DataFrame([made])
    if isinstance(made, pd.DataFrame):
        t = feed_table(made)
        made = dict(zip(t.ions, t.c_feed[0]))
    assert set(made) == set(IONS)
    np.testing.assert_allclose([made[i] for i in IONS], list(IONS.values()), rtol=1e-4)


def test_a_dict_of_salts_for_every_model():
    from ion_ode import load_model, simulate

    salts = {"NaCl": 20.0, "MgSO4": [5.0, 6.0]}
    ions = {"Na+": 20.0, "Cl-": 20.0, "Mg+2": [5.0, 6.0], "SO4-2": [5.0, 6.0]}
    np.testing.assert_allclose(simulate(salts, 20 * LMH).c_perm, simulate(ions, 20 * LMH).c_perm, rtol=1e-12)
    few = load_model("nf270").thinned(8)
    a, b = few.predict(salts, 20 * LMH), few.predict(ions, 20 * LMH)
    np.testing.assert_allclose(a.rejection, b.rejection, rtol=1e-12)
    with pytest.warns(UserWarning, match="if this is bar, write 5"):
        few.predict(salts, pressure=5)


def test_formulas():
    assert all(ions_of_salt(s) == ions for s, ions in SALTS.items())
    assert ions_of_salt("(NH4)2SO4") == {"NH4+": 2, "SO4-2": 1} and ions_of_salt("Ca(HCO3)2") == {"Ca+2": 1, "HCO3-": 2}
    for text in ("NaCl2", "Na+", "MgCl", "KNa", "glucose", "", "Na", "SO4"):
        assert ions_of_salt(text) is None
    np.testing.assert_allclose(salt_amounts("MgCl2", "meq/L")["Cl-"], 1.0)
    with pytest.raises(InputError, match="cannot be expressed as CaCO3"):
        salt_amounts("CaCl2", "mg/L as CaCO3")


def test_a_measured_salt_stands_on_both_its_ions_and_is_a_feed_of_its_own(tmp_path):
    salts = tmp_path / "mine.csv"
    salts.write_text(
        "salt,feed [g/L],flux [LMH],retention [%]\nNaCl,0.5844,20,55\nNaCl,0.5844,40,68\nMgCl2,0.4761,40,62\n"
    )
    m = read_measurements(salts)
    assert m.salt_level.all() and len(m) == 6 and len(m.flux) == 3
    np.testing.assert_allclose(np.sort(m.weight), 0.5)
    c = {tuple(sorted(i for i, v in zip(m.ions, row) if v > 0)): row.max() for row in m.c_feed}
    np.testing.assert_allclose([c["Cl-", "Na+"], c["Cl-", "Mg+2"]], [10.0, 10.0], rtol=1e-3)
    ions = tmp_path / "ions.csv"
    ions.write_text("ion,feed [mM],flux [LMH],retention [%],salt_level\nNa+,10,20,55,yes\nCl-,10,20,55,yes\n")
    one = read_measurements(ions)
    np.testing.assert_allclose(one.rejection, m.rejection[m.state == 0])
    assert check_measurements(salts, write=False).ok


REPORT = """Parameter;Value;Unit;Method
pH;7,8;;EN 1
Temperature;12,5;°C;
Conductivity;720;µS/cm;
Calcium;95,2;mg/L;
Magnesium, dissolved;18;mg/L;
Sodium (Na);25;mg/L;
Iron;0,05;mg/L;
Alkalinity;260;mg/L as CaCO3;
Sulfate;60;mg/L;
Chloride;45;mg/L;
Coliforms;0;CFU/100 mL;
"""


def test_a_report_with_one_row_an_analyte(tmp_path):
    p = tmp_path / "report.csv"
    p.write_text(REPORT)
    with pytest.warns(UserWarning) as said:
        (t,) = read_feeds(p, rows=3, used=("pH", "temperature"))
    have = dict(zip(t.ions, t.c_feed[0]))
    mg_L = {"Ca+2": 95.2 / 40.078, "Mg+2": 18 / 24.305, "Na+": 25 / 22.990, "SO4-2": 60 / 96.06, "Cl-": 45 / 35.45}
    np.testing.assert_allclose([have[i] for i in mg_L], list(mg_L.values()), rtol=1e-3)
    np.testing.assert_allclose([have["HCO3-"], t.pH[0], t.temperature[0]], [260 / 50.04, 7.8, 285.65], rtol=1e-3)
    words = " ".join(str(w.message) for w in said)
    assert "'Coliforms'" in words and "'Iron [mg/L]'" in words and "'Method'" in words


def test_a_report_of_several_samples_and_what_stands_twice():
    report = pd.DataFrame(
        {"analyte": ["Na", "Cl", "flux"], "unit": ["mM", "mM", "LMH"], "well 1": [5, 5, 20], "well 2": [8, 8, 30]}
    )
    t = feed_table(report)
    assert t.sample == ["well 1", "well 2"]
    np.testing.assert_allclose(t.c_feed[1], 8.0)
    np.testing.assert_allclose(t.flux[:, 0], np.array([20, 30]) * LMH)
    twice = pd.concat([report, report.iloc[:1]])
    with pytest.raises(InputError, match="two columns hold c_feed of Na"):
        feed_table(twice)

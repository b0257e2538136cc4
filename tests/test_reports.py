"""Reports as laboratories write them: one water in many languages and forms, and what is wrong said in one sentence."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ion_ode.core import InputError
from ion_ode.water.feeds import read_feeds

WATER = {"Na+": 25 / 22.99, "Ca+2": 82 / 40.078, "Mg+2": 14 / 24.305, "Cl-": 38 / 35.45, "SO4-2": 52 / 96.056}
HCO3 = 256 / 61.016
FORMS = {
    "german": "Probe;pH-Wert;Leitfähigkeit [µS/cm];Natrium [mg/l];Kalzium [mg/l];Magnesium [mg/l];Chlorid [mg/l];"
    "Sulfat [mg/l];Hydrogencarbonat [mg/l];Mangan [mg/l];Bor [mg/l]\nA;7,4;640;25,0;82;14;38;52;256;n.b.;k.A.\n",
    "french": "Échantillon;pH;Sodium (mg/L);Calcium (mg/L);TH (°f);Chlorures (mg/L);Sulfates (mg/L);TAC (°f)\n"
    "A;7,4;25;82;26,243;38;52;20,992\n",
    "hardness": "Probe;pH;Na [mg/l];Ca [mg/l];Gesamthärte [°dH];Cl [mg/l];SO4 [mg/l];Ks4,3 [mmol/l]\n"
    "A;7,4;25;82;14,7035;38;52;4,1957\n",
    "sums in mg/L": "Sample,pH,Na (mg/L),Ca (mg/L),Total hardness (mg/L),Cl (mg/L),SO4 (mg/L),alkalinity (mg/L),SAR\n"
    "A,7.4,25,82,262.43,38,52,209.96,1\n",
    "usgs": 'Parameter,Value,Units\n"pH, water, field",7.4,std units\n"Calcium, water, filtered",82,mg/l\n'
    '"Magnesium, water, filtered",14,mg/l\n"Sodium, water, filtered",25,mg/l\n"Chloride, water, filtered",38,mg/l\n'
    '"Sulfate, water, filtered",52,mg/l\n"Alkalinity, water, filtered",209.96,mg/l CaCO3\n"Arsenic, total",< 1,ug/l\n',
    "units below": "Sample,pH,Na,Ca,Mg,Cl,SO4,HCO3\n,,mg/L,mg/L,mg/L,mg/L,mg/L,mg/L\nA,7.4,25,82,14,38,52,256\n",
    "title and footnote": "Report 24/113\nClient: Works\n\nSample,pH,Na (mg/L),Ca (mg/L),Mg (mg/L),Cl (mg/L),"
    "SO4 (mg/L),HCO3 (mg/L),UV254 (1/cm),Colour (PtCo)\nA,7.4,25,82,14,38,52,256,.08,5\n\nn.d. = not detected\n",
    "analytes under nothing": "\tWell A\npH\t7.4\nSodium mg/L\t25\nCalcium mg/L\t82\nMagnesium mg/L\t14\n"
    "Chloride mg/L\t38\nSulphate mg/L\t52\nBicarbonate mg/L\t256\n",
    "ions and a unit": "Ion,mg/L\npH,7.4\nNa,25\nCa,82\nMg,14\nCl,38\nSO4,52\nHCO3,256\n",
    "parts of sums": "\ufeffSample,pH,Na (mg/L),Ca hardness (mg/L as CaCO3),Mg hardness (mg/L CaCO3),Cl (mg/L),"
    "SO4 (mg/L),Bicarbonate alkalinity (mg/L)\nA,7.4,25,204.78,57.65,38,52,209.96\n",
}


def read(path) -> dict:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        (t,) = read_feeds(path, used=("pH", "temperature"))
    more = {"pH": t.pH[0], "notes": " ".join(str(w.message) for w in said)}
    return dict(zip(t.ions, t.c_feed[0], strict=True)) | more


@pytest.mark.parametrize("form", FORMS)
def test_one_water(form, tmp_path):
    file = tmp_path / "w.csv"
    file.write_text(FORMS[form], encoding="cp1252" if form == "french" else "utf-8")
    found = read(file)
    assert_allclose([found[i] for i in WATER], list(WATER.values()), rtol=2e-3)
    assert_allclose([found["HCO3-"], found["pH"]], [HCO3, 7.4], rtol=2e-3)
    said = {
        "german": "not measured and counted as absent: H3BO3 (k.A. in 1 feed(s))",
        "sums in mg/L": "'alkalinity (mg/L)' is read as CaCO3",
        "title and footnote": "3 line(s) above the header were left out, the first 'Report 24/113'",
    }
    assert said.get(form, "") in found["notes"]


def test_a_workbook_with_a_title_and_two_samples(tmp_path):
    book = pytest.importorskip("openpyxl").Workbook()
    rows = [["Prüfbericht"], ["Auftraggeber", "Werk"], [], ["Parameter", "Einheit", "A", "B", "Grenzwert"]]
    rows += [["pH-Wert", None, 7.4, 7.5], ["Natrium", "mg/l", 25, 31, 200], ["Chlorid", "mg/l", 38.55, "47,8", 250]]
    for row in [*rows, ["Eisen", "mg/l", "n.b.", 0.02, 0.2]]:
        book.active.append(row)
    book.save(tmp_path / "w.xlsx")
    with pytest.warns(UserWarning, match="3 row.s. above the header"):
        (t,) = read_feeds(tmp_path / "w.xlsx", used=("pH",))
    assert t.sample == ["A", "B"]
    at = [t.ions.index(i) for i in ("Na+", "Cl-")]
    assert_allclose(t.c_feed[:, at], np.array([[25, 38.55], [31, 47.8]]) / [22.99, 35.45], rtol=1e-4)


@pytest.mark.parametrize(
    "text, words",
    [
        ("sample,EC [uS/cm]\nA,900\n", "a conductivity alone does not say which ions the water holds"),
        ("sample,pH\nA,7.9\n", "a pH alone does not say which ions"),
        ("sample pH Na Cl\nA 7 50 77\n", "its cells apart by a comma, a semicolon, | or a tab"),
        ("sample,pH,Sodum (mg/L),Cl (mg/L)\nA,7,50,77\n", "write 'sodium' if that is meant"),
        ("sample,pH,Na,Cl\nA,7,50 mg/L,77 mg/L\n", "'50 mg/L' carries a unit; put the unit in the column name"),
        ("sample,pH,Na (mg/L),Cl (mg/L)\nA,7,50,\n", "the cell is empty; write 0 for an ion that is absent"),
    ],
)
def test_one_sentence(text, words, tmp_path):
    file = tmp_path / "w.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as e:
        read(file)
    assert words in str(e.value)

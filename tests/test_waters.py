"""The best estimate for a natural water: the same membranes, interval and errors as `predict`"""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from ion_ode.cli import main
from ion_ode.core import LMH, InputError, bar
from ion_ode.dspmde.waters import read_waters
from ion_ode.inference.answer import load_answer
from ion_ode.inference.waters import predict_water

FEW = load_answer("nf270").thinned(24)
SALT = pd.DataFrame([{"Na+ [mM]": 20, "Cl- [mM]": 20, "pH": 6.7}])
WELL = pd.DataFrame(
    [{"Na [mM]": 2, "Ca [mM]": 2, "Mg [mM]": 0.7, "Cl [mM]": 1.5, "SO4 [mM]": 0.7, "HCO3- [mM]": 4.5, "pH": 7.8}]
)


def test_a_salt_is_answered_as_predict_answers_it():
    water = predict_water(SALT, [20 * LMH, 50 * LMH], FEW).set_index(["flux_m_s", "ion"])
    salt = FEW.predict({"Na+": 20, "Cl-": 20}, [20 * LMH, 50 * LMH], pH=6.7).set_index(["flux_m_s", "ion"])
    for name in ("rejection", "lower", "upper"):
        np.testing.assert_allclose(water[name], salt[name].loc[water.index], atol=2e-3)
    assert (water.pH_perm_lower <= water.pH_perm).all() and (water.pH_perm <= water.pH_perm_upper).all()


def test_solutes_are_reported_as_a_laboratory_does_and_nothing_is_lost():
    found = predict_water(WELL, 20 * LMH, FEW)
    assert set(found.ion) == {"Na+", "Ca+2", "Mg+2", "Cl-", "SO4-2", "inorganic carbon"}
    assert ((found.lower < found.rejection) & (found.rejection < found.upper)).all()
    assert 5.5 < found.pH_perm[0] < 9 and found.rejection[found.ion == "SO4-2"].item() > 0.8
    assert any("HCO3-" in n for n in found.attrs["notes"])
    slow = predict_water(WELL, 1e-3 * LMH, FEW)
    assert slow.rejection.abs().max() < 0.02 and (slow.upper - slow.lower).max() < 0.05


def test_what_does_not_react_goes_along(tmp_path):
    "NDMA and a dye of one's own beside the analysis: asked for, counted in the charge, without a part in the pH."
    file = tmp_path / "mine.csv"
    head = "name,z,D_bulk_m2_s,r_stokes_m,molar_mass_g_mol,aliases,source,doi"
    file.write_text(f"{head}\ndye-4,-4,0.3e-9,0.82e-9,800,,made up for a test,\n")
    feed = "Na+=12,Ca+2=2,Cl-=4,HCO3-=4,dye-4=2,NDMA=1e-5"
    args = ["water", "--ions", str(file), "--feed", feed, "--ph", "7.8", "--flux", "20"]
    for more in ([], ["--membrane", "nf270"]):
        out = tmp_path / f"{len(more)}.csv"
        done = CliRunner().invoke(main, [*args, *more, "--out", str(out)])
        assert done.exit_code == 0, done.output
        assert "dye-4, NDMA: counted in the charge balance" in done.output
        R = pd.read_csv(out).set_index("ion").rejection
        assert R["dye-4"] > 0.999 and 0 < R["NDMA"] < 0.5
    w = read_waters(WELL.assign(**{"NDMA [mM]": 1e-5}))
    assert w.speciation[0].c == read_waters(WELL).speciation[0].c and w.feed[0]["NDMA"] == 1e-5


def test_a_pressure_gives_each_membrane_its_flux():
    found = predict_water(SALT, model=FEW, pressure=5 * bar)
    salt = FEW.predict({"Na+": 20, "Cl-": 20}, pressure=5 * bar, pH=6.7)
    np.testing.assert_allclose(found.flux_m_s, salt.flux_m_s, rtol=1e-3)
    np.testing.assert_allclose(found.rejection, salt.rejection, atol=3e-3)


@pytest.mark.parametrize(
    "options, words",
    [({}, "give flux"), ({"flux": 1e-6, "pressure": 1e5}, "give flux"), ({"flux": 1e-6, "level": 2}, "level is 2")],
)
def test_bad_questions(options, words):
    waters = read_waters(SALT)
    with pytest.raises(InputError, match=words):
        predict_water(waters, model=FEW, **options)


def test_on_the_shell(tmp_path):
    run = lambda *a: CliRunner().invoke(main, ["water", *a])
    feed = ["--feed", "Na+=20,Cl-=20", "--ph", "6.7"]
    done = run(*feed, "--pressure", "4,5")
    assert done.exit_code == 0 and "[" in done.stdout and "permeate pH" in done.stdout, done.output
    one = run(*feed, "--flux", "20", "--membrane", "nf270")
    assert one.exit_code == 0 and "[" not in one.stdout
    for bad, words in {
        ("--pressure", "4", "--flux", "20"): "one of them",
        ("--flux", "20", "--membrane", "nf270", "--measurements", __file__): "--measurements is for a model",
        ("--flux", "20", "--model", "nf270-network"): "is a network",
    }.items():
        done = run(*feed, *bad)
        assert done.exit_code == 2 and words in done.output, done.output


def test_rows_of_a_table_keep_their_temperature(tmp_path):
    file, out = tmp_path / "t.csv", tmp_path / "r.csv"
    file.write_text("name,Na+ [mM],Cl- [mM],temperature [degC]\nwarm,10,10,25\ncold,10,10,12\nwarm too,10,10,25\n")
    done = CliRunner().invoke(main, ["predict", "--feed", str(file), "--flux", "20", "--out", str(out)])
    assert done.exit_code == 0, done.output
    R = pd.read_csv(out).groupby("sample").rejection.first()
    np.testing.assert_allclose(R["warm"], R["warm too"], rtol=1e-12)
    assert R["cold"] > R["warm"] + 0.01

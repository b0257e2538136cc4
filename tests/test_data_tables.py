"""The door for laboratory files: a corpus of malformed ones, each really written and read, and unit round trips."""

import string

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ion_ode.core import InputError
from ion_ode.data import reader
from ion_ode.data.nf270 import MeasurementSchema, independent_values, load_nf270
from ion_ode.water.ions import get_ion

HEAD = "ion,feed [mM],flux [LMH],rejection\n"
GOOD = HEAD + "Na+,10,30,0.5\nCl-,10,30,0.5\n"


def rows(*lines, head=HEAD):
    return head + "\n".join(lines) + "\n"


# name, content (text or bytes), suffix, what the message must say (all of them)
MALFORMED = [
    ("empty file", "", ".csv", ["the file is empty", "needs a header"]),
    ("blank lines", "\n\n  \n", ".csv", ["holds no rows"]),
    ("only comments", "# nothing\n# here\n", ".csv", ["holds no rows"]),
    ("header only", HEAD, ".csv", ["a header but no rows"]),
    ("rows of nothing", HEAD + ",,,\n,,,\n", ".csv", ["a header but no rows"]),
    ("suffix", GOOD, ".docx", ["type .docx are not read", ".csv, .xlsx or .parquet"]),
    ("no suffix", GOOD, "", ["(none) are not read"]),
    ("binary", b"\x00\x01\x02" * 50, ".csv", ["binary data"]),
    ("not Excel", b"PK nothing", ".xlsx", ["cannot be read as excel"]),
    ("not Parquet", b"PAR0", ".parquet", ["cannot be read as parquet"]),
    ("too many cells", GOOD + "Na+,10,30,0.5,7,8\n", ".csv", ["line 4 has 6 cells, the header has 4"]),
    ("all rows too long", HEAD + "Na+,10,30,0.5,7\n", ".csv", ["line 2 has 5 cells, the header has 4"]),
    ("no ion column", rows("10,30,0.5", head="feed [mM],flux [LMH],rejection\n"), ".csv",
    ["no column holds ion", "add a column such as 'ion'"]),
    ("no flux column", rows("Na+,10,0.5", head="ion,feed [mM],rejection\n"), ".csv",
    ["no column holds flux", "flux [LMH]"]),
    ("no feed column", rows("Na+,30,0.5", head="ion,flux [LMH],rejection\n"), ".csv",
    ["no column holds c_feed", "c_feed [mg/L]"]),
    ("misspelt column", rows("Na+,10,30,0.5", head="ion,feed [mM],flx [LMH],rejection\n"), ".csv",
    ["no column holds flux", "rename 'flx [LMH]'"]),
    ("neither rejection nor permeate", rows("Na+,10,30",
    head="ion,feed [mM],flux [LMH]\n"), ".csv", ["neither rejection nor c_perm"]),
    ("two flux columns", rows("Na+,10,30,30,0.5",
    head="ion,feed [mM],flux [LMH],Jv [um/s],rejection\n"), ".csv", ["two columns hold flux", "keep one"]),
    ("no unit of flux", rows("Na+,10,30,0.5", head="ion,feed [mM],flux,rejection\n"), ".csv",
    ["no unit for flux", "units={'flux': 'LMH'}"]),
    ("no unit of feed", rows("Na+,10,30,0.5", head="ion,feed,flux [LMH],rejection\n"), ".csv",
    ["no unit for c_feed", "c_feed [mg/L]"]),
    ("unknown unit", rows("Na+,10,30,0.5", head="ion,feed [mM],flux [furlongs/moon],rejection\n"), ".csv",
    ["'furlongs/moon' is not a unit", "flux [LMH]"]),
    ("wrong dimension", rows("Na+,10,30,0.5",
    head="ion,feed [mM],flux [bar],rejection\n"), ".csv", ["'bar' is not a unit of flux"]),
    ("mass for flux", rows("Na+,10,30,0.5",
    head="ion,feed [mM],flux [mg/L],rejection\n"), ".csv", ["'mg/L' is not a unit of flux"]),
    ("conductivity", rows("Na+,10,30,0.5",
    head="ion,feed [uS/cm],flux [LMH],rejection\n"), ".csv", ["is a conductivity"]),
    ("unknown ion", rows("Xx+,10,30,0.5"), ".csv", ["row 2", "column 'ion'", "'Xx+' is not an ion"]),
    ("misspelt ion", rows("Chlorid,10,30,0.5"), ".csv", ["'Chlorid'", "did you mean Cl-"]),
    ("empty ion", rows("Na+,10,30,0.5", ",10,30,0.5"), ".csv", ["row 3, column 'ion'", "the cell is empty"]),
    ("empty flux", rows("Na+,10,,0.5"), ".csv", ["row 2, column 'flux [LMH]'", "the cell is empty"]),
    ("text for a number", rows("Na+,ten,30,0.5"), ".csv", ["row 2, column 'feed [mM]'", "'ten' is not a number"]),
    ("unit in the cell", rows("Na+,10 mM,30,0.5"), ".csv", ["'10 mM' carries a unit", "column name"]),
    ("percent in a cell of concentrations", rows("Na+,10%,30,0.5"), ".csv", ["'10%' carries a unit"]),
    ("far below zero", rows("Na+,10,30,-40"), ".csv", ["-40 is a rejection below -10", "rejection [%]"]),
    ("not detected", rows("Na+,10,30,ND", head="ion,feed [mM],flux [LMH],permeate [mM]\n"), ".csv",
    ["below a limit that is not given", "<0.1"]),
    ("an amount of something else", rows("Na+,10,30,0.5,1", head="ion,feed [mM],flux [LMH],rejection,Xx [mg/L]\n"),
    ".csv", ["'Xx [mg/L]' is neither an ion", "read_ion_table"]),
    ("thousands or decimals", rows('Na+,"1,250",30,0.5'), ".csv", ["'1,250' may be 1250 or 1.250"]),
    ("a comma and a point", rows('Na+,"12,5",30,0.5'), ".csv",
    ["some numbers have a decimal comma ('12,5') and some a decimal point"]),
    ("below detection", rows("Na+,<0.1,30,0.5"), ".csv", ["'<0.1' is a bound", "give the concentration"]),
    ("not a number", rows("Na+,NaN,30,0.5"), ".csv", ["row 2, column 'feed [mM]'", "'NaN' is not a number"]),
    ("infinite", rows("Na+,10,inf,0.5"), ".csv", ["row 2, column 'flux [LMH]'", "infinite"]),
    ("negative flux", rows("Na+,10,-30,0.5"), ".csv", ["-30 is not a water flux above zero"]),
    ("zero flux", rows("Na+,10,0,0.5"), ".csv", ["0 is not a water flux above zero"]),
    ("flux in the wrong unit", rows("Na+,10,30,0.5", head="ion,feed [mM],flux [m/s],rejection\n"), ".csv",
    ["30 m/s", "far from nanofiltration", "check the unit of flux"]),
    ("negative feed", rows("Na+,-10,30,0.5"), ".csv", ["-10 is not a feed concentration"]),
    ("zero feed", rows("Na+,0,30,0.5"), ".csv",
    ["0 is not a feed concentration", "leave out ions that the feed lacks"]),
    ("feed beyond water", rows("Na+,1e6,30,0.5"), ".csv", ["1e+06 is not a feed concentration", "check the unit"]),
    ("rejection above one", rows("Na+,10,30,1.2"), ".csv", ["1.2 is a rejection above 1", "rejection [%]"]),
    ("percent above hundred", rows("Na+,10,30,120", head="ion,feed [mM],flux [LMH],rejection [%]\n"), ".csv",
    ["120 is a rejection above 1", "may be negative"]),
    ("negative permeate", rows("Na+,10,30,-1",
    head="ion,feed [mM],flux [LMH],permeate [mM]\n"), ".csv", ["-1 is not a concentration"]),
    ("no value in a row", rows("Na+,10,30,"), ".csv", ["row 2", "neither a rejection nor a permeate"]),
    ("contradiction", rows("Na+,10,30,5,0.9",
    head="ion,feed [mM],flux [LMH],permeate [mM],rejection\n"), ".csv", ["0.900 contradicts", "0.500"]),
    ("negative sd", rows("Na+,10,30,0.5,-0.1", head="ion,feed [mM],flux [LMH],rejection,sd\n"), ".csv",
    ["-0.1 is a negative standard deviation"]),
    ("pH", rows("Na+,10,30,0.5,15", head="ion,feed [mM],flux [LMH],rejection,pH\n"), ".csv", ["15 is outside 0 to 14"]),
    ("temperature in the wrong unit", rows("Na+,10,30,0.5,25",
    head="ion,feed [mM],flux [LMH],rejection,T [K]\n"), ".csv", ["25 is outside 0 to 100 °C", "degC or K"]),
    ("pressure in the wrong unit", rows("Na+,10,30,0.5,5",
    head="ion,feed [mM],flux [LMH],rejection,pressure [Pa]\n"), ".csv", ["5 is outside 0.01 to 200 bar"]),
    ("kind", rows("Na+,10,30,0.5,real", head="ion,feed [mM],flux [LMH],rejection,kind\n"), ".csv",
    ["'real' is not a kind", "observed, intrinsic"]),
    ("censored", rows("Na+,10,30,0.5,maybe",
    head="ion,feed [mM],flux [LMH],rejection,censored\n"), ".csv", ["'maybe' is neither true nor false"]),
    ("the same ion twice", rows("Na+,10,30,0.5", "sodium,10,30,0.6"), ".csv",
    ["row 3", "Na+ of run", "already in row 2"]),
    ("salt level maybe", rows("Na+,10,30,0.5,perhaps",
    head="ion,feed [mM],flux [LMH],rejection,salt_level\n"), ".csv", ["'perhaps' is neither true nor false"]),
    ("half a salt", rows("Na+,10,30,0.5,true", "Cl-,10,30,0.5,",
    head="ion,feed [mM],flux [LMH],rejection,salt_level\n"), ".csv", ["row 2, column 'salt_level'",
        "1 row(s) of this run", "its one cation and its one anion"]),
    ("a salt of two values", rows("Na+,10,30,0.5,true", "Cl-,10,30,0.6,true",
    head="ion,feed [mM],flux [LMH],rejection,salt_level\n"), ".csv",
        ["marked salt-level", "both with the salt's rejection"]),
    ("no salt", rows("NaSO4,10,30,0.5"), ".csv", ["'NaSO4' is not an ion"]),
    ("a salt among ions", rows("Na2SO4,10,30,0.5", "Na+,20,30,0.5"), ".csv", ["'Na2SO4' is a salt among rows of ions"]),
    ("wide, same ion twice", "flux [LMH],feed Na+ [mM],sodium feed [mM],R Na+ [%]\n30,10,10,50\n", ".csv",
    ["two columns hold c_feed of Na+", "keep one"]),
    ("wide, empty feed", "flux [LMH],feed Na+ [mM],feed Cl- [mM],R Na+ [%],R Cl- [%]\n30,10,10,50,50\n40,10,,50,50\n",
    ".csv", ["row 3, column 'feed Cl- [mM]'", "the cell is empty"]),
    ("wide, text", "flux [LMH],feed Na+ [mM],feed Cl- [mM],R Na+ [%],R Cl- [%]\n30,10,10,50,half\n", ".csv",
    ["row 2, column 'R Cl- [%]'", "'half' is not a number"]),
    ("two feeds in one run", rows("1,Na+,10,30,0.5,observed", "1,Na+,12,30,0.6,intrinsic",
    head="run,ion,feed [mM],flux [LMH],rejection,kind\n"), ".csv", ["two feed concentrations in one run"]),
]  # fmt: skip


def test_the_corpus_is_large():
    assert len(MALFORMED) >= 40 and len({m[0] for m in MALFORMED}) == len(MALFORMED)


@pytest.mark.parametrize("name, content, suffix, says", MALFORMED, ids=[m[0] for m in MALFORMED])
def test_malformed(tmp_path, name, content, suffix, says):
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        reader.load_measurements(path)
    message = str(caught.value)
    for part in ["mine", *says]:
        assert part in message, message
    assert isinstance(caught.value, reader.MeasurementError) and len(caught.value.problems) == 1, message
    assert not message.startswith("mine has") and "\n" not in message
    verdict = reader.check_measurements(path)
    assert not verdict.ok and verdict.text == message
    assert [p.name for p in tmp_path.iterdir()] == [path.name] and path.read_bytes() == (
        content if isinstance(content, bytes) else content.encode()
    )


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        reader.load_measurements(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match="is a folder"):
        reader.load_measurements(tmp_path)


def test_all_problems_at_once(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(rows("Na+,-1,30,0.5", "Xx,10,30,0.5", "Cl-,10,-3,2", "K+,10,30,abc"))
    with pytest.raises(reader.MeasurementError, match="has 5 problems") as caught:
        reader.load_measurements(path)
    p = caught.value.problems
    assert p.row.tolist() == [2, 3, 4, 4, 5] and (p.fix != "").all()
    path.write_text(rows(*["Na+,10,-1,0.5"] * 150))
    with pytest.raises(reader.MeasurementError, match=r"and \d+ more"):
        reader.load_measurements(path)


def test_arguments_are_checked(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(GOOD)
    for options, message in (
        ({"units": {"flow": "LMH"}}, "units names 'flow'"),
        ({"units": {"flux": "um/s"}}, "the header says 'LMH', units says 'um/s'"),
        ({"columns": {"flux": "Permeation"}}, "which the file lacks"),
        ({"columns": {"flow": "flux [LMH]"}}, "columns names 'flow'"),
        ({"balance": "Xx"}, "unknown ion"),
        ({"decimal": "'"}, "decimal is"),
        ({"kind": "real"}, "not a kind"),
    ):
        with pytest.raises(InputError, match=message):
            reader.load_measurements(path, **options)


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolon", "bom", "xlsx", "parquet"])
def test_formats_agree(tmp_path, kind):
    frame = pd.DataFrame(
        {
            "species": ["Mg2+", "chloride"],
            "feed [mg/L]": [243.05, 709.0],
            "Jv (L m⁻² h⁻¹)": [36.0, 36.0],
            "R [%]": [60, -20.5],
            "T [°C]": [20, 20],
        }
    )
    path = tmp_path / f"x.{kind if kind in ('xlsx', 'parquet', 'tsv') else 'csv'}"
    if kind == "xlsx":
        frame.to_excel(path, index=False)
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        path.write_text(("\ufeff" if kind == "bom" else "") + frame.to_csv(index=False,
            sep={"tsv": "\t", "semicolon": ";"}.get(kind, ",")), encoding="utf-8")
    d = reader.load_measurements(path)
    assert d.ion.tolist() == ["Mg+2", "Cl-"]
    assert_allclose(d.c_feed_mol_m3, [10, 20], rtol=1e-9)
    assert_allclose(d.flux_m_s, 1e-5, rtol=1e-12)
    assert_allclose(d.rejection, [0.6, -0.205], rtol=1e-12)
    assert_allclose(d.temperature_K, 293.15)
    MeasurementSchema.validate(d)


FLUX = {"LMH": 1e-3 / 3600, "L/m2/h": 1e-3 / 3600, "L m-2 h-1": 1e-3 / 3600, "um/s": 1e-6, "µm/s": 1e-6, "m/s": 1.0,
    "m/d": 1 / 86400, "gfd": 3.785411784e-3 / 0.3048**2 / 86400}
CONC = {"mM": lambda i: 1, "mol/m3": lambda i: 1, "mol/L": lambda i: 1e3, "M": lambda i: 1e3,
    "mg/L": lambda i: 1 / i.molar_mass, "g/L": lambda i: 1e3 / i.molar_mass, "mg l-1": lambda i: 1 / i.molar_mass,
    "ug/L": lambda i: 1e-3 / i.molar_mass, "meq/L": lambda i: 1 / abs(i.z), "mmol/L": lambda i: 1}
REJ = {"%": 0.01, "": 1.0, "fraction": 1.0, "percent": 0.01}
PRESSURE = {"bar": 1e5, "kPa": 1e3, "MPa": 1e6, "psi": 6894.757293168361, "atm": 101325.0, "Pa": 1.0}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["Na+", "Mg+2", "SO4-2", "Cl-", "NH4+"]), st.floats(1e-3, 500),
            st.floats(1e-7, 1e-4), st.floats(-5, 1), st.floats(1e4, 1e7)),
        min_size=1, max_size=6,
    ),
    st.sampled_from(list(FLUX)), st.sampled_from(list(CONC)), st.sampled_from(list(REJ)),
        st.sampled_from(list(PRESSURE)),
)  # fmt: skip
def test_units_round_trip(tmp_path, values, flux, conc, rej, pressure):
    ions = [get_ion(v[0]) for v in values]
    frame = pd.DataFrame(
        {
            "run": range(len(values)),
            "ion": [i.name for i in ions],
            f"c_feed [{conc}]": [v[1] / CONC[conc](i) for v, i in zip(values, ions, strict=True)],
            f"flux ({flux})": [v[2] / FLUX[flux] for v in values],
            f"rejection [{rej}]" if rej else "rejection": [v[3] / REJ[rej] for v in values],
            f"pressure [{pressure}]": [v[4] / PRESSURE[pressure] for v in values],
        }
    )
    path = tmp_path / "r.csv"
    frame.to_csv(path, index=False)
    d = reader.load_measurements(path)
    for column, k in (("c_feed_mol_m3", 1), ("flux_m_s", 2), ("pressure_Pa", 4)):
        assert_allclose(d[column], [v[k] for v in values], rtol=1e-9)
    assert_allclose(d.rejection, [v[3] for v in values], rtol=1e-9, atol=1e-12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(string.printable, max_size=120))
def test_any_text_gets_a_sentence(tmp_path, text):
    path = tmp_path / "any.csv"
    path.write_text(text, encoding="utf-8")
    assume("ion" not in text)
    verdict = reader.check_measurements(path)
    assert not verdict.ok and verdict.text.startswith("any.csv")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(string.printable.replace("\r", ""), max_size=8), min_size=4, max_size=4))
def test_any_cell_gets_a_sentence(tmp_path, cells):
    path = tmp_path / "any.csv"
    pd.DataFrame([cells], columns=["ion", "feed [mM]", "flux [LMH]", "rejection"]).to_csv(path, index=False)
    verdict = reader.check_measurements(path, write=False)
    assert verdict.ok or verdict.text.startswith("any.csv")


def test_a_wide_table_is_its_long_one(tmp_path):
    lines = [(1, 30, ion, c, r) for ion, c, r in (("Na+", 10, 21), ("Mg+2", 5, 60), ("Cl-", 20,
        47))] + [(2, 60, "Na+", 10, 28), (2, 60, "Cl-", 10, 28)]
    long = pd.DataFrame(lines, columns=["run", "flux [LMH]", "ion", "feed [mM]", "R [%]"])
    wide = long.pivot(index=["run", "flux [LMH]"], columns="ion", values=["feed [mM]", "R [%]"])
    wide.columns = [f"{ion} {q}" if q.startswith("feed") else q.replace("R", f"R {ion}") for q, ion in wide.columns]
    found = {}
    for name, d in (("long", long), ("wide", wide.reset_index())):
        d.to_csv(tmp_path / f"{name}.csv", index=False)
        found[name] = reader.load_measurements(tmp_path / f"{name}.csv", source="mine")
    columns = ["ion", "flux_m_s", "c_feed_mol_m3", "rejection", "state_id"]
    pd.testing.assert_frame_equal(found["long"].sort_index()[columns], found["wide"].sort_index()[columns])
    zeros = wide.reset_index().fillna({"Mg+2 feed [mM]": 0.0})
    assert (zeros["Mg+2 feed [mM]"] == 0).sum() == 1
    frame = reader.load_measurements(zeros, source="mine")
    pd.testing.assert_frame_equal(frame[columns], found["wide"][columns])


def test_a_salt_level_pair_counts_once(tmp_path):
    head = "ion,feed [mM],flux [LMH],rejection,salt_level\n"
    (tmp_path / "a.csv").write_text(head + "Na+,10,30,0.5,yes\nCl-,10,30,0.5,yes\nNa+,10,60,0.6,\nCl-,10,60,0.6,no\n")
    d = reader.load_measurements(tmp_path / "a.csv")
    assert d.salt_level.tolist() == [True, True, False, False] and d.weight.tolist() == [0.5, 0.5, 1, 1]
    assert independent_values(d) == 3


def test_charge_is_reported_and_closed_on_request(tmp_path):
    path = tmp_path / "brine.csv"
    path.write_text(rows("Li+,49.0,30,-0.2", "Mg+2,84.3,30,0.6", "Cl-,180,30,0.4"))
    d = reader.load_measurements(path)
    assert_allclose(d.attrs["charge"].imbalance, (217.6 - 180) / (217.6 + 180), rtol=1e-9)
    assert "+9.5%" in reader.check_measurements(path, write=False).text
    closed = reader.load_measurements(path, balance="chloride")
    assert_allclose(closed.set_index("ion").c_feed_mol_m3["Cl-"], 217.6, rtol=1e-12)
    assert "closed on charge" in closed.set_index("ion").note["Cl-"]
    assert abs(closed.attrs["charge"].imbalance).max() < 1e-12
    path.write_text(rows("Mg+2,10,30,0.6", "Na+,5,30,0.2", "Cl-,10,30,0.4"))
    with pytest.raises(InputError, match="would need -"):
        reader.load_measurements(path, balance="Na+")


def test_cleaned_copy_never_overwrites(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(GOOD)
    (tmp_path / "mine.clean.csv").write_text("mine, not yours")
    first = reader.check_measurements(path)
    assert first.clean_path.name == "mine.clean-2.csv"
    assert (tmp_path / "mine.clean.csv").read_text() == "mine, not yours"
    assert reader.check_measurements(path).clean_path == first.clean_path
    assert path.read_text() == GOOD
    back = pd.read_csv(first.clean_path, keep_default_na=True).set_index("row_id")
    assert_allclose(back.rejection, first.frame.rejection)
    again = reader.load_measurements(first.clean_path)  # a cleaned copy is itself a file that reads back
    for c in ("flux_m_s", "c_feed_mol_m3", "rejection"):
        assert_allclose(again[c], first.frame[c], rtol=1e-12)
    assert again.state_id.nunique() == first.frame.state_id.nunique() and again.ion.tolist() == first.frame.ion.tolist()


def test_permeate_gives_rejection_and_own_table_reads_back(tmp_path):
    d = load_nf270()
    d = d[(d.source_id == "fdly2021")]
    frame = pd.DataFrame({"ion": d.ion, "run": d.state_id, "solution": d.solution_id, "kind": d.kind,
        "flux_um_s": d.flux_m_s * 1e6,
                          # fmt: skip
                          "c_feed_mM": d.c_feed_mol_m3, "c_perm_mM": d.c_feed_mol_m3 * (1 - d.rejection),
                          "sd": d.rejection_sd, "doi": d.doi})
    path = tmp_path / "fdly.csv"
    frame.to_csv(path, index=False)
    got = reader.load_measurements(path, membrane="NF270")
    assert_allclose(got.rejection, d.rejection, rtol=0, atol=1e-9)
    assert_allclose(got.rejection_sd, d.rejection_sd, rtol=1e-9)
    assert (got.membrane == "NF270").all() and got.doi.tolist() == d.doi.tolist()
    assert np.array_equal(got.solution_id, d.solution_id)


def test_what_needs_no_remark_is_read(tmp_path):
    """Cells and headers that only one reading fits."""
    for name, content in {
        "percent in cells": HEAD + "Na+,10,30,50%\nCl-,10,30,50 %\n",
        "decimal comma": "ion;feed [mM];flux [LMH];rejection\nNa+;10;30;0,5\nCl-;10;30;0,5\n",
        "Windows-1252": HEAD.replace("rejection", "rejection,note") + "Na+,10,30,0.5,µ\nCl-,10,30,0.5,\n",
        "wide, two units": "flux [LMH],feed Na+ [mM],feed Cl- [mg/L],R Na+ [%],R Cl- [%]\n30,10,354.5,50,50\n",
        "minus sign": HEAD.replace("rejection", "rejection [%]") + "Na+,10,30,50\nCl-,10,30,\u221250\n",
    }.items():
        path = tmp_path / "a.csv"
        path.write_bytes(content.encode("cp1252" if name == "Windows-1252" else "utf-8"))
        d = reader.load_measurements(path)
        assert_allclose(d.c_feed_mol_m3, 10, rtol=1e-4, err_msg=name)
        assert_allclose(d.rejection.abs(), 0.5, err_msg=name)


def test_bounds_are_read_from_the_cells(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ion,feed [mM],flux [LMH],permeate [mM],R "
                    "[%],censored\nSO4-2,10,30,<0.1,,\nMg+2,10,30,,>90,\nNa+,10,30,,0,true\nCl-,10,30,5,50,false\n")
    m = reader.read_measurements(path, balance="Cl-")
    assert m.censored.tolist() == [">", ">", "<", ""]
    assert_allclose(m.rejection, [0.99, 0.9, 0, 0.5])


def test_columns_that_are_not_used_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ion,feed [mM],flux [LMH],rejection,EC [uS/cm],operator's "
                    "mood,date\nNa+,10,30,0.5,1,good,2024-01-01\nCl-,10,30,0.5,1,good,2024-01-01\n")
    text = reader.check_measurements(path, write=False).text
    assert "read and not used: 'EC [uS/cm]', 'date'" in text
    assert "not understood and not used: \"operator's mood\"" in text


def test_feeds_are_told_apart_and_stay_whole(tmp_path):
    """An ion that was not measured stays in the feed, through the tidy table and the cleaned copy."""
    path = tmp_path / "a.csv"
    path.write_text("flux [LMH],Na+ [mM],Mg+2 [mM],Cl- [mM],R Mg+2 [%]\n30,10,5,20,60\n30,20,5,30,50\n")
    m = reader.read_measurements(path)
    assert len(set(m.sample)) == 2 and len(m) == 2 and m.ions == ("Na+", "Mg+2", "Cl-")
    clean = reader.check_measurements(path).clean_path
    for source in (reader.load_measurements(path), clean, reader.load_measurements(clean)):
        again = reader.measurements_of(source).on(m.ions)
        assert_allclose(again.c_feed, [[10, 5, 20], [20, 5, 30]])


def test_one_rule_of_neutrality(tmp_path):
    """An ordinary analysis passes with a note; beyond 5 % the advice is one that works."""
    path = tmp_path / "a.csv"
    path.write_text("ion,feed [mg/L],flux [LMH],rejection\nNa+,786.7,30,0.5\nCl-,1213.3,30,0.5\n")
    found = reader.check_measurements(path, write=False)
    assert found.ok and "Cl- closes it (-0.006" in found.text
    path.write_text(rows("Mg+2,10,30,0.6"))
    bad = reader.check_measurements(path, write=False)
    assert bad.ok and "close the charge with balance='Cl-'" in bad.text
    assert reader.check_measurements(path, write=False, balance="Cl-").ok


def test_a_rejection_a_little_above_one_is_a_measurement_and_said():
    d = pd.DataFrame({"ion": ["Mg+2"] * 2, "flux [LMH]": [10, 20], "feed [mM]": 10, "rejection [%]": [99.0, 102.0]})
    got = reader.read_measurements(d, balance="Cl-")
    assert_allclose(got.rejection[got.rejection > 0.9], [0.99, 1.02], rtol=1e-12)
    assert any("1 rejections above 1, 1.02 at most" in n for n in got.notes)

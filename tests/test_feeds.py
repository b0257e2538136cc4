"""Feeds from text and files: units, formats, and what they mean."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ion_ode.core import LMH, InputError
from ion_ode.water.feeds import MEMBRANE_UNITS, parse_feed, parse_flux, parse_pairs, read_feeds, to_mol_m3
from ion_ode.water.ions import IONS, get_ion

amount = st.floats(1e-6, 1e4)


@given(st.dictionaries(st.sampled_from(IONS), amount, min_size=1))
def test_text_round_trip(feed):
    "What is written as text is read back, in any order of ions."
    assert parse_feed(",".join(f"{k}={v!r}" for k, v in feed.items())) == feed


def test_spellings_of_units():
    ion = get_ion("Mg+2")
    for same in ("mol/m3", "mol m-3", "mol·m⁻³", "mol/m³", "mol/m^3", "mM", "mmol/L", "mmol L⁻¹"):
        assert to_mol_m3(same, ion) == 1.0, same
    assert to_mol_m3("µM", ion) == to_mol_m3("uM", ion) == 1e-3
    assert_allclose(to_mol_m3("mg L-1", ion), 1 / ion.molar_mass)
    with pytest.raises(InputError, match="mol m-2"):
        to_mol_m3("mol m-2", ion)


@pytest.mark.parametrize("unit", ["L m-2 h-1", "L m⁻² h⁻¹", "L/m2/h", "L/(m2 h)", "LMH", "l/m²/h"])
def test_spellings_of_flux(tmp_path, unit):
    (tmp_path / "f.csv").write_text(f"Na+,Cl-,flux [{unit}]\n10,10,36\n", encoding="utf-8")
    (t,) = read_feeds(tmp_path / "f.csv")
    assert_allclose(t.flux, [[1e-5]], rtol=1e-12)


def test_flux_text():
    assert_allclose(parse_flux("5, 10;20 40"), np.array([5, 10, 20, 40]) * LMH, rtol=1e-15)
    assert_allclose(parse_flux("10:20:3"), np.array([10, 15, 20]) * LMH, rtol=1e-15)


def test_membrane_text():
    got = parse_pairs("r_pore=0.45 nm, thickness=1.2um,charge_density=-40,eps_pore=40", MEMBRANE_UNITS)
    assert_allclose([got[k] for k in MEMBRANE_UNITS], [0.45e-9, 1.2e-6, -40, 40], rtol=1e-15)


TABLE = pd.DataFrame({"id": ["a", "b", "c"], "Na+ [mM]": [10.0, 20.0, 0.5], "SO4-2 [mg/L]": [480.28, 960.56, 24.014]})


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet", "xlsx"])
def test_every_format_gives_the_same_feeds(tmp_path, suffix):
    path = tmp_path / f"f.{suffix}"
    write = {
        "csv": lambda: TABLE.to_csv(path, index=False),
        "tsv": lambda: TABLE.to_csv(path, index=False, sep="\t"),
        "json": lambda: TABLE.to_json(path, orient="records"),
        "jsonl": lambda: TABLE.to_json(path, orient="records", lines=True),
        "parquet": lambda: TABLE.to_parquet(path),
        "xlsx": lambda: TABLE.to_excel(path, index=False),
    }
    write[suffix]()
    (t,) = read_feeds(path)
    assert t.ions == ("Na+", "SO4-2") and t.sample == ["a", "b", "c"] and t.flux is None
    assert_allclose(t.c_feed, [[10, 5], [20, 10], [0.5, 0.25]], rtol=1e-12)


def test_pieces(tmp_path):
    TABLE.drop(columns="id").to_csv(tmp_path / "f.csv", index=False)
    pieces = list(read_feeds(tmp_path / "f.csv", rows=2))
    assert [p.sample for p in pieces] == [[0, 1], [2]]
    assert pieces[1].where == "f.csv rows 4 to 4"
    assert_allclose(np.concatenate([p.c_feed for p in pieces]), next(read_feeds(tmp_path / "f.csv")).c_feed, rtol=0)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_long_file_is_never_whole_in_memory(tmp_path, suffix):
    "Pieces are as long as asked for in the formats that have rows."
    d = pd.DataFrame({"Na+": np.arange(1, 12.0), "Cl-": np.arange(1, 12.0)})
    path = tmp_path / f"f.{suffix}"
    d.to_csv(path, index=False) if suffix == "csv" else d.to_json(path, orient="records", lines=True)
    pieces = list(read_feeds(path, rows=4))
    assert [p.sample for p in pieces] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert_allclose(np.concatenate([p.c_feed for p in pieces])[:, 0], d["Na+"])


def test_semicolons_and_decimal_commas(tmp_path):
    "What a spreadsheet exports where the comma is the decimal sign; names keep their commas."
    (tmp_path / "f.csv").write_bytes(
        "\ufeffname;Na+ (mM);Cl- (mM);flux (LMH)\r\nwell 1,5;0,95;,95;2\r\nb;1,5e1;15;20,5\r\n".encode()
    )
    (t,) = read_feeds(tmp_path / "f.csv")
    assert_allclose(t.c_feed, [[0.95, 0.95], [15, 15]], rtol=1e-12)
    assert_allclose(t.flux / LMH, [[2], [20.5]], rtol=1e-12)
    assert t.sample == ["well 1,5", "b"]


def test_byte_order_mark_and_spaces(tmp_path):
    "What a spreadsheet exports."
    (tmp_path / "f.csv").write_bytes("\ufeffNa+ (mM), Cl- (mM)\r\n 10, 10\r\n".encode())
    (t,) = read_feeds(tmp_path / "f.csv")
    assert_allclose(t.c_feed, [[10, 10]])

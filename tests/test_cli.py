"""The command line as a person meets it: what works, and one sentence for every mistake."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from numpy.testing import assert_allclose
from safetensors.torch import load_file

from ion_ode.cli import main
from ion_ode.core import LMH
from ion_ode.dspmde.solve import simulate

BIN = Path(sys.executable).with_name("ion-ode")
NACL = ["--feed", "Na+=10,Cl-=10", "--flux", "5,10,20"]


def invoke(*args, input=None):
    return CliRunner().invoke(main, [str(a) for a in args], input=input, catch_exceptions=False)


def table(text):
    "Numbers of a printed table, one row a flux."
    rows = [line.split() for line in text.splitlines()]
    return [r for r in rows if r and r[0].replace(".", "").isdigit()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- what works


def test_simulate_prints_the_library_s_numbers():
    r = invoke("simulate", *NACL)
    assert r.exit_code == 0, r.stderr
    sol = simulate({"Na+": 10.0, "Cl-": 10.0}, np.array([5, 10, 20]) * LMH)
    rows = table(r.stdout)
    assert [row[0] for row in rows] == ["5", "10", "20"]
    assert_allclose([float(row[1]) for row in rows], 100 * sol.rejection[0, :, 0].numpy(), atol=0.0501)


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_out_formats_hold_the_same_table(folder, suffix):
    name = f"r.{suffix}"
    r = invoke("simulate", *NACL, "--out", name)
    assert r.exit_code == 0 and r.stdout == ""
    read = {
        "csv": pd.read_csv,
        "json": pd.read_json,
        "jsonl": lambda p: pd.read_json(p, lines=True),
        "parquet": pd.read_parquet,
    }
    d = read[suffix](name)
    sol = simulate({"Na+": 10.0, "Cl-": 10.0}, np.array([5, 10, 20]) * LMH)
    assert {"sample", "flux_L_m2_h", "ion", "c_feed_mol_m3", "c_perm_mol_m3", "rejection", "status"} <= set(d.columns)
    got = d.pivot(index="flux_L_m2_h", columns="ion", values="rejection")
    assert list(got.index) == [5, 10, 20]
    assert_allclose(got[["Na+", "Cl-"]].to_numpy(), sol.rejection[0].numpy(), rtol=1e-12)
    perm = d.pivot(index="flux_L_m2_h", columns="ion", values="c_perm_mol_m3")
    assert_allclose(perm[["Na+", "Cl-"]].to_numpy(), sol.c_perm[0].numpy(), rtol=1e-12)
    assert [f.name for f in folder.iterdir()] == [name], "no temporary file is left"


def test_tiny_numbers_keep_their_digits(folder):
    "A permeate of 1e-12 of the feed is a real answer, in every format."
    tight = ["--membrane", "r_pore=0.355,thickness=2,charge_density=-40,eps_pore=32"]
    for suffix, read in {"csv": pd.read_csv, "json": lambda p: pd.DataFrame(json.loads(Path(p).read_text()))}.items():
        r = invoke("simulate", "--feed", "Mg+2=10,SO4-2=10", "--flux", "5", *tight, "--out", f"r.{suffix}")
        assert r.exit_code == 0, r.stderr
        from ion_ode import Membrane

        sol = simulate({"Mg+2": 10.0, "SO4-2": 10.0}, 5 * LMH, membrane=Membrane(0.355e-9, 2e-6, -40.0, 32.0))
        assert 0 < float(sol.c_perm.min()) < 1e-5
        assert_allclose(read(f"r.{suffix}").c_perm_mol_m3, sol.c_perm[0, 0], rtol=1e-10)


def test_json_and_csv_on_standard_output():
    records = json.loads(invoke("simulate", *NACL, "--json").stdout)
    assert len(records) == 6 and {r["ion"] for r in records} == {"Na+", "Cl-"}
    csv = invoke("simulate", *NACL, "--out", "-").stdout
    assert csv.splitlines()[0].startswith("sample,flux_L_m2_h,ion,") and len(csv.splitlines()) == 7


FEEDS = "name,Na+ [mM],Mg2+ [mg/L],Cl- (mol/m3)\nsea,10,0,10\nbrine,10,243.05,30\n"


def test_feed_file_with_units_and_names(folder):
    (folder / "feeds.csv").write_text(FEEDS)
    r = invoke("simulate", "--feed", "feeds.csv", "--flux", "20", "--out", "r.csv")
    assert r.exit_code == 0, r.stderr
    d = pd.read_csv("r.csv")
    assert list(d["sample"].unique()) == ["sea", "brine"]
    c = d[d["sample"] == "brine"].set_index("ion").c_feed_mol_m3
    assert_allclose(c[["Na+", "Mg+2", "Cl-"]], [10, 10, 30], rtol=1e-4)
    want = simulate({"Na+": 10.0, "Mg+2": 243.05 / 24.305, "Cl-": 30.0}, 20 * LMH).rejection[0, 0]
    assert_allclose(d[d["sample"] == "brine"].rejection, want, rtol=1e-9)


def test_rows_of_one_name_are_shown_apart(folder):
    (folder / "f.csv").write_text("name,Na+,Cl-\na,10,10\na,20,20\n")
    shown = invoke("simulate", "--feed", "f.csv", "--flux", "20").stdout
    alone = [invoke("simulate", "--feed", f"Na+={c},Cl-={c}", "--flux", "20").stdout for c in (10, 20)]
    assert [row[1] for row in table(shown)] == [table(a)[0][1] for a in alone] and shown.count("feed a:") == 2


def test_advice_names_the_options_of_the_program(folder):
    (folder / "d.csv").write_text("ion;flux;feed [mM];rejection [%]\nNa+;5;20;35,5\n")
    r = invoke("check", "d.csv")
    assert r.exit_code == 2 and "add --unit flux=LMH" in r.stdout
    r = invoke("fit", "d.csv", "--unit", "flux=LMH", "--decimal", ".")
    assert r.exit_code == 2 and "add --decimal ," in r.stderr and len(r.stderr.splitlines()) == 1
    r = invoke("simulate", "--feed", "Na+=10,Cl-=9", "--flux", "5")
    assert "add --balance Cl-" in r.stderr


def test_feed_from_standard_input_and_flux_column():
    r = invoke("simulate", "--feed", "-", "--out", "-", input="Na+,Cl-,flux [L m-2 h-1]\n10,10,5\n20,20,36\n")
    assert r.exit_code == 0, r.stderr
    lines = [row.split(",") for row in r.stdout.splitlines()]
    assert {row[1] for row in lines[1:]} == {"5.0", "36.0"} and len(lines) == 5


def test_long_files_stream_in_pieces(folder, monkeypatch):
    "Pieces give the same table as one, and the rows keep their order and names."
    rng = np.random.default_rng(0)
    c = rng.uniform(1, 100, 40).round(3)
    pd.DataFrame({"id": [f"f{i}" for i in range(40)], "Na+": c, "Cl-": c}).to_csv("feeds.csv", index=False)
    assert invoke("simulate", "--feed", "feeds.csv", "--flux", "10,20", "--out", "one.csv").exit_code == 0
    monkeypatch.setattr("ion_ode.cli.output._PIECE", 14)
    assert invoke("simulate", "--feed", "feeds.csv", "--flux", "10,20", "--out", "pieces.csv").exit_code == 0
    one, pieces = pd.read_csv("one.csv"), pd.read_csv("pieces.csv")
    assert list(one["sample"]) == list(pieces["sample"]) == [f"f{i}" for i in range(40) for _ in range(4)]
    assert_allclose(pieces.rejection, one.rejection, rtol=1e-9)


def test_a_flux_that_looks_like_metres_a_second_is_remarked_on(folder):
    r = invoke("simulate", "--feed", "Na+=10,Cl-=10", "--flux", "5e-6")
    assert r.exit_code == 0 and "note: flux: 5e-06 L m-2 h-1" in r.stderr and "it is 18 L m-2 h-1" in r.stderr
    (folder / "f.csv").write_text("Na+,Cl-,flux [LMH]\n10,10,5e-6\n")
    r = invoke("simulate", "--feed", "f.csv")
    assert r.exit_code == 0 and "f.csv" in r.stderr and "it is 18 L m-2 h-1" in r.stderr


def test_membrane_film_and_balance():
    plain = table(invoke("simulate", "--feed", "Mg+2=10", "--balance", "Cl-", "--flux", "50").stdout)
    film = table(
        invoke("simulate", "--feed", "Mg+2=10", "--balance", "Cl-", "--flux", "50", "--film-thickness", "50").stdout
    )
    assert float(film[0][1]) < float(plain[0][1]), "polarisation lowers the observed rejection"
    own = ["--membrane", "r_pore=0.45,thickness=1.2,charge_density=-40,eps_pore=40"]
    r = invoke("simulate", "--feed", "Mg+2=10,Cl-=20", "--flux", "50", *own)
    from ion_ode import Membrane

    sol = simulate({"Mg+2": 10.0, "Cl-": 20.0}, 50 * LMH, membrane=Membrane(0.45e-9, 1.2e-6, -40.0, 40.0))
    assert_allclose(float(table(r.stdout)[0][1]), 100 * float(sol.rejection[0, 0, 0]), atol=0.0501)


def test_flux_ranges():
    assert [row[0] for row in table(invoke("simulate", "--feed", "Na+=10,Cl-=10", "--flux", "10:30:3,50").stdout)] == [
        "10",
        "20",
        "30",
        "50",
    ]


def test_notes_name_the_feed_of_the_file_also_where_temperatures_are_asked_apart(folder):
    rows = ["temperature [C],Na+ [mM],Cl- [mM]", "20,10,10", "25,10,10.2", "22,10,9.7"]
    Path("feeds.csv").write_text("\n".join(rows) + "\n")
    said = invoke("predict", "--feed", "feeds.csv", "--flux", "20").stderr
    assert "feed 2: the charge was off by" in said and "feed 0:" not in said  # the worst of its kind, by its own number
    Path("feeds.csv").write_text("\n".join([*rows[:2], "25,10,10", "20,10,20"]) + "\n")
    assert "feed 2 " in invoke("predict", "--feed", "feeds.csv", "--flux", "20").stderr


def test_predict_prints_an_interval_around_each_value():
    r = invoke("predict", *NACL)
    assert r.exit_code == 0, r.stderr
    records = json.loads(invoke("predict", *NACL, "--json").stdout)
    assert len(records) == 6
    assert all(x["lower"] <= x["rejection"] <= x["upper"] <= 1 for x in records)
    wide = json.loads(invoke("predict", *NACL, "--level", "0.95", "--json").stdout)
    assert all(w["upper"] - w["lower"] >= x["upper"] - x["lower"] for w, x in zip(wide, records, strict=True))
    assert [row[0] for row in table(r.stdout)] == ["5", "10", "20"]


def test_help_has_an_example_for_every_command():
    assert {"simulate", "predict", "reproduce"} <= set(main.commands)
    for name in main.commands:
        r = invoke(name, "--help")
        assert r.exit_code == 0 and f"ion-ode {name}" in r.stdout.split("Example", 1)[1]


def test_version():
    from ion_ode import __version__

    assert __version__ in invoke("--version").stdout


@pytest.mark.parametrize(
    "words,found",
    {
        "ion-ode sim": "simulate",
        "ion-ode simulate --mem": "--membrane",
        "ion-ode simulate --activity davies_": "davies_solution",
        "ion-ode fit --intervals w": "wald",
    }.items(),
)
def test_shell_completion_knows_commands_options_and_choices(words, found):
    env = os.environ | {"_ION_ODE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    r = subprocess.run([BIN], env=env, capture_output=True, text=True)
    assert r.stdout.strip() == f"plain,{found}"


@pytest.mark.parametrize("shell", [s for s in ("bash", "zsh", "fish") if shutil.which(s)])
def test_shell_completion_script_is_valid(shell, tmp_path):
    "What the guide says to put into the shell's start file is a script that the shell can read."
    script = subprocess.run(
        [BIN], env=os.environ | {"_ION_ODE_COMPLETE": f"{shell}_source"}, capture_output=True, text=True
    ).stdout
    (tmp_path / "completion").write_text(script)
    assert "_ION_ODE_COMPLETE" in script
    assert subprocess.run([shell, "-n", tmp_path / "completion"]).returncode == 0


# ---- what must be refused: arguments, files beside them, and words that the sentence must hold

FLUX = ["--flux", "10"]
BAD = {
    "not neutral": (["--feed", "Na+=10,Cl-=9", *FLUX], {}, "neutral"),
    "only a cation": (["--feed", "Na+=10", *FLUX], {}, "neutral"),
    "negative": (["--feed", "Na+=-10,Cl-=-10", *FLUX], {}, "-10"),
    "unknown ion": (["--feed", "Xx+=10,Cl-=10", *FLUX], {}, "Xx+"),
    "nan": (["--feed", "Na+=nan,Cl-=10", *FLUX], {}, "nan"),
    "infinite": (["--feed", "Na+=inf,Cl-=inf", *FLUX], {}, "inf"),
    "all zero": (["--feed", "Na+=0,Cl-=0", *FLUX], {}, "0"),
    "not a number": (["--feed", "Na+=ten,Cl-=10", *FLUX], {}, "ten"),
    "no number": (["--feed", "Na+,Cl-", *FLUX], {}, "Na+"),
    "empty text": (["--feed", "", *FLUX], {}, "empty"),
    "ion twice": (["--feed", "Na+=5,sodium=5,Cl-=10", *FLUX], {}, "twice"),
    "wrong unit in text": (["--feed", "Na+=10 psi,Cl-=10", *FLUX], {}, "psi"),
    "zero flux": (["--feed", "Na+=10,Cl-=10", "--flux", "0"], {}, "flux"),
    "negative flux": (["--feed", "Na+=10,Cl-=10", "--flux", "-5"], {}, "-5"),
    "flux nan": (["--feed", "Na+=10,Cl-=10", "--flux", "nan"], {}, "flux"),
    "flux not a number": (["--feed", "Na+=10,Cl-=10", "--flux", "fast"], {}, "fast"),
    "flux range malformed": (["--feed", "Na+=10,Cl-=10", "--flux", "5:10"], {}, "5:10"),
    "flux empty": (["--feed", "Na+=10,Cl-=10", "--flux", ""], {}, "flux"),
    "no flux": (["--feed", "Na+=10,Cl-=10"], {}, "--flux"),
    "no feed": ([*FLUX], {}, "--feed"),
    "no such file": (["--feed", "nowhere.csv", *FLUX], {}, "nowhere.csv"),
    "empty file": (["--feed", "f.csv", *FLUX], {"f.csv": ""}, "empty"),
    "header only": (["--feed", "f.csv", *FLUX], {"f.csv": "Na+,Cl-\n"}, "empty"),
    "missing column": (["--feed", "f.csv", *FLUX], {"f.csv": "name\na\n"}, "ion column"),
    "missing counter-ion column": (["--feed", "f.csv", *FLUX], {"f.csv": "Na+\n10\n"}, "neutral"),
    "wrong unit column": (["--feed", "f.csv", *FLUX], {"f.csv": "Na+ [bar],Cl- [mM]\n10,10\n"}, "bar"),
    "unknown column": (["--feed", "f.csv", *FLUX], {"f.csv": "Na+,Cl-,mood\n10,10,7\n"}, "mood"),
    "flux column without unit": (["--feed", "f.csv"], {"f.csv": "Na+,Cl-,flux\n10,10,5\n"}, "flux"),
    "flux column with a wrong unit": (["--feed", "f.csv"], {"f.csv": "Na+,Cl-,flux [bar]\n10,10,5\n"}, "flux [bar]"),
    "flux column zero": (["--feed", "f.csv"], {"f.csv": "Na+,Cl-,flux [LMH]\n10,10,5\n10,10,0\n"}, "row 3"),
    "flux twice": (["--feed", "f.csv", *FLUX], {"f.csv": "Na+,Cl-,flux [LMH]\n10,10,5\n"}, "--flux"),
    "empty cell": (["--feed", "f.csv", *FLUX], {"f.csv": "Na+,Cl-\n10,10\n,10\n"}, "row 3"),
    "no salt": (["--feed", "NaCl2=10", *FLUX], {}, "unknown ion 'NaCl2'"),
    "no salt in a file": (["--feed", "f.csv", *FLUX], {"f.csv": "NaCl2 [mM]\n10\n"}, "NaCl2"),
    "a row an ion": (["--feed", "f.csv", *FLUX], {"f.csv": "ion,c [mM]\nNa+,10\n"}, "neutral"),
    "the same column twice": (
        ["--feed", "f.csv", *FLUX],
        {"f.csv": "Na+,Na+,Cl-\n1,1,2\n"},
        "two columns are called 'Na+'",
    ),
    "more than water dissolves": (["--feed", "Na+=1e6,Cl-=1e6", *FLUX], {}, "20000"),
    "more than water dissolves, in a file": (
        ["--feed", "f.csv", *FLUX],
        {"f.csv": "Na+,Cl-\n1e6,1e6\n"},
        "check the unit",
    ),
    "flux with a unit": (["--feed", "Na+=10,Cl-=10", "--flux", "10LMH"], {}, "L m-2 h-1"),
    "a document": (["--feed", "f.docx", *FLUX], {"f.docx": "Na+"}, "type .docx are not read"),
    "json of another shape": (["--feed", "f.json", *FLUX], {"f.json": '{"a": 1}'}, "expected records"),
    "decimal comma": (["--feed", "f.csv", *FLUX], {"f.csv": 'Na+,Cl-\n"1,250","1,250"\n'}, "may be 1250 or 1.250"),
    "broken jsonl": (["--feed", "f.jsonl", *FLUX], {"f.jsonl": '{"Na+": 10, "Cl-": 10}\n{"Na+":'}, "f.jsonl"),
    "flux in m/s far too large": (["--feed", "f.csv"], {"f.csv": "Na+,Cl-,flux [m/s]\n10,10,20\n"}, "L m⁻² h⁻¹"),
    "text in a cell": (["--feed", "f.csv", *FLUX], {"f.csv": "Na+,Cl-\n10,10\n10,lots\n"}, "lots"),
    "negative cell": (["--feed", "f.csv", *FLUX], {"f.csv": "Na+,Cl-\n10,10\n-1,10\n"}, "row 3"),
    "row not neutral": (["--feed", "f.csv", *FLUX], {"f.csv": "Na+,Cl-\n10,10\n10,12\n"}, "neutral"),
    "column twice": (["--feed", "f.csv", *FLUX], {"f.csv": "Na+,sodium,Cl-\n10,1,10\n"}, "two columns"),
    "ragged": (["--feed", "f.csv", *FLUX], {"f.csv": "Na+,Cl-\n10,10\n10,10,10,10\n"}, "f.csv"),
    "not text": (["--feed", "f.csv", *FLUX], {"f.csv": b"\xff\xfe\x00\x01\x80\x81"}, "f.csv"),
    "broken json": (["--feed", "f.json", *FLUX], {"f.json": "{["}, "f.json"),
    "folder as file": (["--feed", ".", *FLUX], {}, "feed"),
    "bad --out suffix": ([*NACL, "--out", "r.docx"], {}, ".csv"),
    "no such folder": ([*NACL, "--out", "no/r.csv"], {}, "folder"),
    "json and out": ([*NACL, "--json", "--out", "r.csv"], {}, "--json"),
    "unknown balance ion": (["--feed", "Na+=10", "--balance", "Xx", *FLUX], {}, "Xx"),
    "balance cannot close": (["--feed", "Na+=10", "--balance", "K+", *FLUX], {}, "K+"),
    "unknown option": ([*NACL, "--fluxx", "3"], {}, "--fluxx"),
}
BAD_SIMULATE = {
    "pore in metres": ([*NACL, "--membrane", "r_pore=0.45e-9,thickness=1,charge_density=-40,eps_pore=40"], {}, "in nm"),
    "pore negative": ([*NACL, "--membrane", "r_pore=-0.5,thickness=1,charge_density=-40,eps_pore=40"], {}, "r_pore"),
    "thickness zero": ([*NACL, "--membrane", "r_pore=0.5,thickness=0,charge_density=-40,eps_pore=40"], {}, "thickness"),
    "eps_pore nan": ([*NACL, "--membrane", "r_pore=0.5,thickness=1,charge_density=-40,eps_pore=nan"], {}, "eps_pore"),
    "membrane incomplete": ([*NACL, "--membrane", "r_pore=0.5"], {}, "thickness"),
    "membrane unknown": ([*NACL, "--membrane", "nf9000"], {}, "nf9000"),
    "membrane misspelt": ([*NACL, "--membrane", "radius=0.5"], {}, "radius"),
    "film negative": ([*NACL, "--film-thickness", "-3"], {}, "film"),
    "temperature in celsius": ([*NACL, "--temperature", "25"], {}, "273"),
    "activity unknown": ([*NACL, "--activity", "wild"], {}, "wild"),
}
BAD_PREDICT = {
    "level": ([*NACL, "--level", "1.5"], {}, "1.5"),
    "unknown model": ([*NACL, "--model", "nf9000"], {}, "nf9000"),
}
CASES = [
    (c, n, *v) for c, d in (("simulate", BAD | BAD_SIMULATE), ("predict", BAD | BAD_PREDICT)) for n, v in d.items()
]


@pytest.mark.parametrize("command,name,args,files,words", CASES, ids=[f"{c}: {n}" for c, n, *_ in CASES])
def test_one_sentence_for_every_mistake(folder, command, name, args, files, words):
    for f, content in files.items():
        (folder / f).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    out = [] if {"--out", "--json"} & set(args) else ["--out", "result.csv"]
    r = invoke(command, *args, *out)
    assert r.exit_code == 2, r.output
    assert r.stdout == ""
    assert len(r.stderr.strip().splitlines()) == 1 and r.stderr.startswith("ion-ode: ")
    assert words in r.stderr and "Traceback" not in r.stderr
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before, "nothing is written"


def test_existing_files_stay_without_force(folder):
    (folder / "r.csv").write_text("precious")
    r = invoke("simulate", *NACL, "--out", "r.csv")
    assert r.exit_code == 2 and "--force" in r.stderr
    assert (folder / "r.csv").read_text() == "precious"
    bad = invoke("simulate", "--feed", "Na+=10,Cl-=9", "--flux", "5", "--out", "r.csv", "--force")
    assert bad.exit_code == 2 and (folder / "r.csv").read_text() == "precious", "an error leaves the old file"
    assert invoke("simulate", *NACL, "--out", "r.csv", "--force").exit_code == 0
    assert len(pd.read_csv("r.csv")) == 6


def test_a_late_mistake_in_a_long_file_leaves_nothing(folder, monkeypatch):
    monkeypatch.setattr("ion_ode.cli.output._PIECE", 4)
    (folder / "f.csv").write_text("Na+,Cl-\n" + "10,10\n" * 9 + "10,12\n")
    r = invoke("simulate", "--feed", "f.csv", "--flux", "5", "--out", "r.csv")
    assert r.exit_code == 2 and "rows 10 to 11" in r.stderr
    assert [p.name for p in folder.iterdir()] == ["f.csv"]


def test_reproduce_refuses_a_file_as_folder(folder):
    (folder / "results").write_text("precious")
    r = invoke("reproduce", "--out", "results")
    assert r.exit_code == 2 and (folder / "results").read_text() == "precious"


# ---- the other commands

LAB = "ion,flux [LMH],feed [mM],rejection [%],kind\n" + "".join(
    f"Na+,{f},20,{r},intrinsic\n" for f, r in ((5, 35), (10, 52), (20, 73), (40, 86))
)


def test_check_says_what_is_in_a_file(folder):
    (folder / "d.csv").write_text(LAB)
    r = invoke("check", "d.csv")
    assert r.exit_code == 0 and "4 values" in r.stdout
    assert (folder / "d.csv").read_text() == LAB and (folder / "d.clean.csv").exists()
    verdict = json.loads(invoke("check", "d.csv", "--no-write", "--json").stdout)
    assert verdict["ok"] and verdict["clean"] is None


def test_check_lists_every_problem_and_exits_with_2(folder):
    (folder / "d.csv").write_text(LAB.replace("35,", "135,").replace("Na+,40", "Xx,40"))
    r = invoke("check", "d.csv")
    assert r.exit_code == 2 and "135" in r.stdout and "Xx" in r.stdout
    assert len(json.loads(invoke("check", "d.csv", "--json").stdout)["problems"]) == 2
    assert [p.name for p in folder.iterdir()] == ["d.csv"]


def test_check_doubts_fractions_in_a_column_of_percent(folder):
    for text, doubt in (
        (LAB, False),
        (
            LAB.replace(",35,", ",0.35,").replace(",52,", ",0.52,").replace(",73,", ",0.73,").replace(",86,", ",0.86,"),
            True,
        ),
    ):
        (folder / "d.csv").write_text(text)
        r = invoke("check", "d.csv", "--no-write")
        assert r.exit_code == 0 and ("if these are fractions" in r.stdout) is doubt


def test_fit_recovers_what_made_the_data(folder):
    from ion_ode import NF270_WATERTAP

    flux = np.array([5, 10, 20, 40])
    sol = simulate({"Na+": 20.0, "Cl-": 20.0}, flux * LMH, membrane=NF270_WATERTAP)
    rows = [f"Na+,{f},20,{100 * float(r)!r},intrinsic\n" for f, r in zip(flux, sol.rejection[0, :, 0], strict=True)]
    (folder / "d.csv").write_text("ion,flux [LMH],feed [mM],rejection [%],kind\n" + "".join(rows))
    args = [
        "fit",
        "d.csv",
        "--balance",
        "Cl-",
        "--free",
        "r_pore",
        "--starts",
        "2",
        "--intervals",
        "none",
        "--out",
        "fit.json",
    ]
    r = invoke(*args)
    assert r.exit_code == 0, r.stderr
    found = json.loads((folder / "fit.json").read_text())
    assert_allclose(found["estimates"][0]["estimate"], 0.5e-9, rtol=1e-3)
    assert found["n_values"] == 4 and found["provenance"]["seed"] == 0
    again = invoke(*args)
    assert again.exit_code == 2 and "--force" in again.stderr


def test_measurements_from_standard_input():
    "check and fit read a pipe, and answer in JSON for the next program."
    verdict = json.loads(invoke("check", "-", "--json", input=LAB).stdout)
    assert verdict["ok"] and verdict["clean"] is None and "4 values" in verdict["text"]
    r = invoke(
        "fit", "-", "--balance", "Cl-", "--free", "r_pore", "--starts", "1", "--intervals", "none", "--json", input=LAB
    )
    found = json.loads(r.stdout)
    assert found["n_values"] == 4 and found["estimates"][0]["unit"] == "m"
    european = LAB.replace("[LMH]", "(L/m²/h)").replace(",", ";").replace("35;", "35,0;")
    args = [
        "--balance",
        "Cl-",
        "--free",
        "r_pore",
        "--starts",
        "1",
        "--intervals",
        "none",
        "--decimal",
        ",",
        "--out",
        "-",
    ]
    assert_allclose(json.loads(invoke("fit", "-", *args, input=european).stdout)["rmse"], found["rmse"], rtol=1e-9)


def test_benchmark_prints_ratios_to_named_peers(monkeypatch):
    "The committed scripts at their smallest size, through the command."
    smallest = {
        "pore model": ("dspmde_speed.py", ["--curves", "8", "--repeat", "1", "--backends", "auto"]),
        "training step": ("ode_training_step.py", ["--batch", "4", "--members", "2", "--repeat", "1"]),
    }
    monkeypatch.setattr("ion_ode.cli.benchmark.BENCHMARKS", smallest)
    r = invoke("benchmark", "--json")
    assert r.exit_code == 0, r.stderr
    rows = json.loads(r.stdout)["rows"]
    assert any("scipy" in x["peer"] for x in rows) and any("torchdiffeq" in x["peer"] for x in rows)
    for x in rows:
        pair = [x["ours"], x["theirs"]] if x["unit"] != "ms" else [x["theirs"], x["ours"]]
        assert_allclose(x["ratio"], pair[0] / pair[1], rtol=1e-12)


def test_benchmark_compares_at_no_larger_error_than_the_peer_s():
    from ion_ode.cli.benchmark import _ratios

    row = lambda solver, peer, ms, error: {"solver": solver, "peer": peer, "ms": ms, "error": error}
    rows = [
        row("fixed 4", False, 10.0, 1e-3),
        row("fixed 8", False, 20.0, 1e-5),
        row("loose", True, 30.0, 1e-2),
        row("tight", True, 50.0, 1e-4),
    ]
    found = _ratios("training step", {"rows": [*rows, {"target": 1e-3, "best_peer": "loose"}]})
    assert [(r["ours"], r["ratio"], r["errors"]) for r in found] == [
        (10.0, 3.0, [1e-3, 1e-2]),
        (20.0, 2.5, [1e-5, 1e-4]),
    ]


def test_benchmark_says_where_it_can_run(monkeypatch, tmp_path):
    monkeypatch.setattr("ion_ode.cli.benchmark.__file__", str(tmp_path / "site" / "ion_ode" / "cli" / "make.py"))
    r = invoke("benchmark")
    assert r.exit_code == 2 and "repository" in r.stderr


def test_generate_resumes_and_refuses_to_mix(folder):
    args = ["generate", "set", "--curves", "16", "--fluxes", "4", "--seed", "1"]
    assert invoke(*args).exit_code == 0
    first = {p.name: p.read_bytes() for p in (folder / "set").iterdir()}
    assert invoke(*args).exit_code == 0
    assert {p.name: p.read_bytes() for p in (folder / "set").iterdir()} == first
    manifest = json.loads(invoke(*args, "--json").stdout)
    assert manifest["complete"] and manifest["points"] == 16 and manifest["shards"][0]["file"] in first
    other = invoke(*args[:-1], "2")
    assert other.exit_code == 2 and {p.name: p.read_bytes() for p in (folder / "set").iterdir()} == first


def test_generate_knows_real_waters(folder):
    args = ["generate", "set", "--curves", "8", "--fluxes", "3", "--seed", "1", "--water"]
    bad = invoke(*args, "lagoon")
    assert bad.exit_code == 2 and "cooling water" in bad.stderr and not (folder / "set").exists()
    lacking = invoke(*args, "seawater", "--ions", "Li+,NO3-")
    assert lacking.exit_code == 2 and "neutral feed" in lacking.stderr
    assert invoke(*args, "seawater", "--ions", "Na+,Mg+2,Cl-", "--spread", "0.1").exit_code == 0
    feed = load_file(folder / "set" / "shard-00000.safetensors")["c_feed"].double()
    assert_allclose(feed[:, 0].log().mean().exp(), 474.12, rtol=0.1)
    assert_allclose(feed @ torch.tensor([1.0, 2, -1]).double(), 0, atol=1e-3)


PLAN = {"steps": 2, "lr": 1e-3}
SMALL = {
    "members": 1,
    "n_curves": 8,
    "n_flux": 4,
    "pretraining_batch": 4,
    "pretraining": PLAN,
    "finetuning": PLAN,
    "batch": 4,
}


def test_train_leaves_a_model_that_predicts(folder):
    "A few steps, enough to see that the parts fit together."
    (folder / "c.json").write_text(json.dumps(SMALL))
    board = ["--tensorboard"] if importlib.util.find_spec("tensorboard") else []
    r = invoke("train", "run", "--config", "c.json", *board)
    assert r.exit_code == 0, r.stderr
    assert len(list(Path("run").glob("*/tensorboard/member-0/events*"))) == 2 * len(board)
    records = json.loads(
        invoke("predict", "--model", "run", "--feed", "Na+=20,Cl-=20", "--flux", "20", "--json").stdout
    )
    assert {x["ion"] for x in records} == {"Na+", "Cl-"} and all(np.isfinite(x["rejection"]) for x in records)


def test_train_on_one_s_own_measurements_configured_by_a_pipe(folder):
    salt = "ion,flux (LMH),feed (mM),rejection (%)\n" + "".join(
        f"{i},{f},20,{r}\n" for f, r in ((10, 52), (20, 73)) for i in ("Na+", "Cl-")
    )
    (folder / "mine.csv").write_text(salt.replace(",", ";").replace("52", "52,5"))
    r = invoke(
        "train",
        "run",
        "--config",
        "-",
        "--measurements",
        "mine.csv",
        "--decimal",
        ",",
        "--device",
        "cpu",
        "--json",
        input=json.dumps(SMALL),
    )
    assert r.exit_code == 0, r.stderr
    found = json.loads(r.stdout)
    assert found["folder"] == "run" and "L/m²/h" in found["model"] and len(found["card"]["errors"]) == 4
    assert_allclose(found["card"]["ranges"]["flux_m_s"][1], 20 * LMH)
    assert (
        invoke("predict", "--model", "run", "--feed", "Na+=20,Cl-=20", "--flux", "20", "--level", "0.7").exit_code == 0
    )


def test_reproduce_answers_in_json(folder, monkeypatch):
    "The record of claims.json; the recomputation has its own test."
    monkeypatch.setattr("ion_ode.results.run._recompute", lambda tables: pd.DataFrame({"what": []}))
    r = invoke("reproduce", "--out", "r", "--json")
    assert r.exit_code == 0, r.stderr
    assert json.loads(r.stdout) == json.loads(Path("r/claims.json").read_text()) and Path("r/metrics.md").exists()


def test_leaving_the_trained_range_is_said():
    r = invoke("predict", "--feed", "Na+=20,Cl-=20", "--flux", "500")
    assert r.exit_code == 0 and "ion-ode: note: flux 500 L/m²/h is above" in r.stderr


def test_a_long_file_does_not_repeat_its_notes(folder, monkeypatch):
    monkeypatch.setattr("ion_ode.cli.output._PIECE", 1)
    (folder / "f.csv").write_text("Na+,Cl-,flux [LMH]\n" + "".join(f"20,20,{k}\n" for k in (500, 612, 503)))
    r = invoke("predict", "--feed", "f.csv", "--out", "r.csv")
    (note,) = [line for line in r.stderr.splitlines() if "note: flux" in line]
    assert r.exit_code == 0 and "flux 612 L/m²/h is above" in note, "the worst of its kind"


OTHER = {
    "check: no file": (["check", "no.csv"], {}, "no.csv"),
    "check: bad unit option": (["check", "d.csv", "--unit", "flux"], {"d.csv": LAB}, "NAME=UNIT"),
    "fit: broken file": (["fit", "d.csv"], {"d.csv": "a,b\n1,2\n"}, "d.csv"),
    "fit: unknown parameter": (["fit", "d.csv", "--balance", "Cl-", "--free", "r_por"], {"d.csv": LAB}, "r_por"),
    "fit: out is not json": (["fit", "d.csv", "--out", "x.csv"], {"d.csv": LAB}, ".json"),
    "generate: no curves": (["generate", "set", "--curves", "0", "--seed", "1"], {}, "--curves"),
    "generate: folder is a file": (["generate", "d.csv", "--curves", "5", "--seed", "1"], {"d.csv": LAB}, "d.csv"),
    "screen: no structure": (
        ["screen", "d.csv"],
        {"d.csv": "name,salt\na,NaCl\n"},
        "lacks the column(s) amine, acyl chloride",
    ),
    "screen: out exists": (
        ["screen", "d.csv", "--out", "o.csv"],
        {"d.csv": "name,salt\na,NaCl\n", "o.csv": "x"},
        "--force",
    ),
    "train: no such device": (["train", "run", "--device", "abacus"], {}, "abacus"),
    "train: broken config": (["train", "run", "--config", "c.json"], {"c.json": "{"}, "c.json"),
    "train: unknown entry": (["train", "run", "--config", "c.json"], {"c.json": '{"sorcery": 1}'}, "sorcery"),
    "train: bad value": (["train", "run", "--config", "c.json"], {"c.json": '{"members": 0}'}, "members"),
    "reproduce: unknown profile": (["reproduce", "--profile", "huge"], {}, "huge"),
}


@pytest.mark.parametrize("name", OTHER)
def test_one_sentence_in_the_other_commands(folder, name):
    args, files, words = OTHER[name]
    for f, content in files.items():
        (folder / f).write_text(content)
    r = invoke(*args)
    assert r.exit_code == 2, r.output
    assert (
        r.stdout == ""
        and words in r.stderr
        and r.stderr.startswith("ion-ode: ")
        and len(r.stderr.strip().splitlines()) == 1
    )
    assert {p.name: p.read_text() for p in folder.iterdir()} == files


# ---- the same through a real process


def run(*args, **kw):
    return subprocess.run([BIN, *args], capture_output=True, text=True, **kw)


def test_real_process_exit_codes(tmp_path):
    good = run("simulate", *NACL, cwd=tmp_path)
    assert good.returncode == 0 and good.stderr == "" and len(table(good.stdout)) == 3
    bad = run("simulate", "--feed", "Na+=10,Cl-=9", "--flux", "5", cwd=tmp_path)
    assert bad.returncode == 2 and bad.stdout == "" and len(bad.stderr.splitlines()) == 1
    assert run(cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_is_no_error(tmp_path):
    pd.DataFrame({"Na+": np.full(3000, 10.0), "Cl-": 10.0}).to_csv(tmp_path / "f.csv", index=False)
    p = subprocess.run(
        f"set -o pipefail; {BIN} simulate --feed f.csv --flux 5 --out - | head -n 2",
        shell=True,
        executable="/bin/bash",
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert p.returncode == 0 and p.stderr == "" and len(p.stdout.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "simulate"])
def test_a_hundred_thousand_feeds_need_no_more_memory_than_ten_thousand(command, tmp_path):
    "The process reads, computes and writes piece by piece: its peak memory does not follow the length of the file."
    peak = {}
    for n in (10_000, 100_000):
        c = np.random.default_rng(0).uniform(5, 40, (n, 2)).round(4)
        pd.DataFrame({"Na+ [mM]": c[:, 0], "Mg+2 [mM]": c[:, 1], "Cl- [mM]": c[:, 0] + 2 * c[:, 1]}).to_csv(
            tmp_path / "f.csv", index=False
        )
        p = subprocess.Popen(
            [BIN, command, "--feed", "f.csv", "--flux", "20", "--out", "r.csv", "--force"], cwd=tmp_path
        )
        _, status, usage = os.wait4(p.pid, 0)
        assert status == 0 and sum(1 for _ in open(tmp_path / "r.csv")) == 1 + 3 * n
        peak[n] = usage.ru_maxrss
    assert peak[100_000] < 1.1 * peak[10_000], peak


def test_what_the_model_was_not_made_for_is_said():
    "Ten samples are one note: a brine beyond the reach of Davies' equation."
    r = invoke(
        "simulate", "--feed", "Na+=1872,Mg+2=212", "--balance", "Cl-", "--flux", "5:50:10", "--activity", "davies"
    )
    (note,) = [line for line in r.stderr.splitlines() if "Davies" in line]
    assert r.exit_code == 0 and note.startswith("ion-ode: note: ionic strength up to 2.5 mol/L")

"ion-ode module: text and files in, answers out, a sentence for what cannot be."

import json

import pandas as pd
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose

from ion_ode import NF270_WATERTAP, simulate_plant
from ion_ode.cli import main
from ion_ode.module.plant import Stage

RUN = ["--feed-flow", "8", "--recovery", "50"]


def ask(*args, status=0):
    result = CliRunner().invoke(main, ["module", *args], standalone_mode=True)
    assert result.exit_code == status, result.output
    return result


def test_json_is_what_the_library_says():
    rows = json.loads(ask("--feed", "Na+=10,Mg+2=5,Cl-=20", *RUN, "--json").stdout)
    sol = simulate_plant({"Na+": 10, "Mg+2": 5, "Cl-": 20}, Stage(), feed_flow=8 / 3600, recovery=0.5)
    assert len(rows) == 1 and rows[0]["status"] == "converged"
    assert_allclose(rows[0]["pressure_bar"] * 1e5, sol.pressure[0], rtol=1e-9)


def test_a_named_water_and_stages_on_the_screen():
    said = ask(
        "--feed", "brackish well", "--vessels", "2,1", "--boost", "1", "--feed-flow", "20", "--recovery", "70"
    ).stdout
    assert "Plant of 2 stages" in said and "product_hardness_mg_L" in said and "SO4-2" in said


def test_a_file_of_feeds_a_profile_and_a_figure(tmp_path):
    pd.DataFrame({"Na+ [mM]": [5, 10], "Cl- [mM]": [5, 10]}).to_csv(tmp_path / "feeds.csv", index=False)
    out, way, figure = (tmp_path / n for n in ("out.csv", "way.csv", "way.png"))
    ask("--feed", str(tmp_path / "feeds.csv"), *RUN, "--out", str(out), "--profile", str(way), "--figure", str(figure))
    table = pd.read_csv(out)
    assert len(table) == 2 and table.pressure_bar.is_monotonic_increasing
    assert {"flux_m_s", "c_wall"} <= set(pd.read_csv(way)) and figure.stat().st_size > 5000
    assert "exists and stays" in ask("--feed", "Na+=5,Cl-=5", *RUN, "--profile", str(way), status=2).output


def test_draws_give_intervals(tmp_path):
    rows = [
        {"name": f"d{i}", "r_pore_nm": 0.5 + 0.002 * i, "thickness_um": 0.86, "charge_density_mol_m3": -50,
         "eps_pore": 41.3,
         "permeability_LMH_bar": 16.88, "source": "this test", "doi": "", "note": ""}
        for i in range(12)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "draws.csv", index=False)
    said = json.loads(ask("--feed", "Na+=10,Cl-=10", *RUN, "--draws", str(tmp_path / "draws.csv"), "--json").stdout)
    row = next(r for r in said if r["answer"] == "rejection Na+")
    assert row["lower"] < row["median"] < row["upper"]
    assert NF270_WATERTAP.r_pore == 0.5e-9


def test_the_answers_membranes_as_draws():
    said = json.loads(ask("--feed", "Na+=10,Cl-=10", *RUN, "--draws", "nf270", "--json").stdout)
    row = next(r for r in said if r["answer"] == "rejection Na+")
    assert row["upper"] - row["lower"] > 0.1 and row["lower"] < row["median"] < row["upper"]


def test_a_feed_without_an_operating_point_leaves_the_others(tmp_path):
    file = tmp_path / "feeds.csv"
    pd.DataFrame({"Na+ [mM]": [5, 600], "Cl- [mM]": [5, 600]}).to_csv(file, index=False)
    run = ["--feed-flow", "8", "--pressure", "1.8"]
    rows = json.loads(ask("--feed", str(file), *run, "--json").stdout)
    assert [r["status"] == "converged" for r in rows] in ([True, False], [True, True])
    weak = ask("--feed", "Na+=5,Cl-=5", "--feed-flow", "8", "--pressure", "0.1", status=1).output
    assert "friction uses up the pressure" in weak and "throw" not in weak


@pytest.mark.parametrize(
    "args, said",
    [
        (["--feed", "Na+=10,Cl-=10", "--feed-flow", "8"], "exactly two"),
        (["--feed", "rain", *RUN], "neither a feed"),
        (["--feed", "Na+=10,Cl-=10", *RUN, "--draws", "nf999"], "--draws 'nf999'"),
        (["--feed", "Na+=10,Cl-=10", *RUN, "--element", "SW30"], "NF270-4040"),
        (["--feed", "Na+=10,Cl-=10", *RUN, "--vessels", "two"], "numbers with commas"),
        (["--feed", "Na+=10,Cl-=10", *RUN, "--boost", "1"], "at most one a stage"),
        (["--feed", "Na+=10,Cl-=10", "--feed-flow", "8", "--recovery", "120"], "recovery is 1.2"),
    ],
)
def test_one_sentence_and_status_2(args, said):
    result = ask(*args, status=2)
    assert said in result.output and result.output.count("\n") == 1

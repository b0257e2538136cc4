"One command computes any part of the results again."

import json

import pytest
from click.testing import CliRunner

from ion_ode.cli import main
from ion_ode.core import InputError
from ion_ode.results import parts


def test_an_unknown_part_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(InputError, match="no part 'nothing'; expected one of .*surrogate.*twin"):
        parts.reproduce_part("nothing", tmp_path)


def test_store_needs_a_part(tmp_path):
    done = CliRunner().invoke(main, ["reproduce", "--store", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and "--store goes with --only" in done.output and not (tmp_path / "out").exists()


def test_tables_of_a_run_are_stored_as_they_were(tmp_path):
    parts._store_tables(parts._ASSETS / "results", tmp_path)
    kept = json.loads((parts._ASSETS / "results" / "claims.json").read_text())
    assert json.loads((tmp_path / "claims.json").read_text())["claims"] == kept["claims"]
    assert (tmp_path / "predictions.csv.gz").stat().st_size > 1e5


def test_a_short_profile_never_replaces_what_ships(tmp_path):
    before = {f.name: f.stat().st_mtime_ns for f in parts._ASSETS.rglob("*") if f.is_file()}
    for name in parts.PARTS:
        with pytest.raises(InputError, match="profile quick is a short one; add --profile full"):
            parts.reproduce_part(name, tmp_path, "quick", keep=True)
    assert before == {f.name: f.stat().st_mtime_ns for f in parts._ASSETS.rglob("*") if f.is_file()}
    assert not list(tmp_path.iterdir())

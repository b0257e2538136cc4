"One command computes any part of the results again."

import json

import pytest
from click.testing import CliRunner

from ion_ode.cli import main
from ion_ode.core import InputError
from ion_ode.results import parts
from ion_ode.results.claims import metrics
from ion_ode.results.tables import read_tables


def test_an_unknown_part_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(InputError, match="no part 'nothing'; expected one of .*surrogate.*twin"):
        parts.reproduce_part("nothing", tmp_path)


def test_store_needs_a_part(tmp_path):
    done = CliRunner().invoke(main, ["reproduce", "--store", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and "--store goes with --only" in done.output and not (tmp_path / "out").exists()


def test_the_claims_that_ship_are_those_of_the_tables():
    kept = parts._ASSETS / "results"
    record = metrics(*read_tables(kept))[0]
    assert record["claims"] == json.loads((kept / "claims.json").read_text())["claims"]


def test_a_short_profile_never_replaces_what_ships(tmp_path):
    before = {f.name: f.stat().st_mtime_ns for f in parts._ASSETS.rglob("*") if f.is_file()}
    for name in parts._PARTS:
        with pytest.raises(InputError, match="profile quick is a short one; add --profile full"):
            parts.reproduce_part(name, tmp_path, "quick", keep=True)
    assert before == {f.name: f.stat().st_mtime_ns for f in parts._ASSETS.rglob("*") if f.is_file()}
    assert not list(tmp_path.iterdir())

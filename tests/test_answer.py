"""The answer for NF270: what an engineer asks, what may not happen, what own values teach, what held-out rows say."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from ion_ode.core import LMH, InputError, bar
from ion_ode.dspmde.conditions import at_temperature
from ion_ode.inference import laws, rows
from ion_ode.inference.answer import Answer, load_answer
from ion_ode.inference.score import predicted, scores
from ion_ode.inference.states import States, faded, of_y, y_of
from ion_ode.store import asset
from ion_ode.water.ions import get_ion

NACL = {"Na+": 20.0, "Cl-": 20.0}
SEA = {"Na+": 470.0, "Mg+2": 53.0, "Ca+2": 10.0, "K+": 10.0, "Cl-": 550.0, "SO4-2": 28.0}


@pytest.fixture(scope="module")
def nf270():
    return load_answer("nf270")


@pytest.fixture(scope="module")
def small(nf270):
    return nf270.thinned(64)


def of(model, feed, flux=20 * LMH, **kw):
    return model.predict(feed, flux, **kw).set_index("ion")


def test_an_engineer_recognises_the_membrane(nf270):
    "Order of the salts of NF270 at 20 LMH: chlorides of sodium least, sulfates most; sea water's sodium passes."
    salt = {
        n: of(nf270, f).rejection.iloc[0]
        for n, f in {"NaCl": NACL, "MgCl2": {"Mg+2": 10.0, "Cl-": 20.0}, "Na2SO4": {"Na+": 20.0, "SO4-2": 10.0}}.items()
    }
    assert 0.15 < salt["NaCl"] < 0.6 and salt["Na2SO4"] > 0.93 and salt["NaCl"] < salt["MgCl2"] < salt["Na2SO4"], salt
    sea = of(nf270, SEA, balance="Cl-").rejection
    assert sea["Na+"] < 0.2 and sea["Mg+2"] > sea["Na+"] + 0.25 and sea["SO4-2"] > sea["Mg+2"] + 0.25, sea.to_dict()


@pytest.mark.parametrize("ion", ["K+", "NH4+", "Mg+2", "Ca+2", "NO3-", "SO4-2", "HCO3-"])
def test_a_trace_that_vanishes_leaves_no_mark(small, ion):
    z, base = get_ion(ion).z, of(small, NACL).rejection
    for c in (1e-9, 1e-6, 1e-3):
        partner = "Cl-" if z > 0 else "Na+"
        feed = NACL | {ion: c, partner: NACL[partner] + abs(z) * c}
        assert_allclose(
            of(small, feed).rejection[["Na+", "Cl-"]],
            base[["Na+", "Cl-"]],
            atol=1e-3,
            rtol=0,
            err_msg=f"{c} mol/m³ {ion}",
        )


def test_a_zero_is_an_absent_ion(small):
    assert_allclose(of(small, NACL | {"Mg+2": 0.0}).rejection, of(small, NACL).rejection, rtol=1e-9)


def test_nothing_is_rejected_at_rest_and_the_interval_closes(small):
    for feed in (NACL, SEA):
        p = small.predict(feed, np.array([1e-6, 1e-4]) * LMH, balance="Cl-")
        assert p.rejection.abs().max() < 1e-3 and (p.upper - p.lower).max() < 2e-3
    assert (of(small, NACL).upper <= 1).all()


def test_every_draw_is_neutral(small):
    names, c, _, R = small.draws(SEA, np.array([5, 50]) * LMH, balance="Cl-")
    z = np.array([get_ion(i).z for i in names])
    perm = c[None, :, None] * (1 - R)
    assert_allclose(perm @ z / (perm @ np.abs(z)), 0.0, atol=1e-6)


def test_observed_without_a_film_is_intrinsic(small):
    assert_allclose(of(small, NACL, film=0.0).rejection, of(small, NACL, kind="intrinsic").rejection, rtol=1e-9)
    assert (of(small, NACL, 60 * LMH, film=40e-6).rejection < of(small, NACL, 60 * LMH, film=5e-6).rejection).all()


def test_a_pressure_gives_the_flux_that_needs_it(small):
    "At the flux of every membrane the pore model asks for the pressure that was given."
    P = 6 * bar
    names, c, J, R = small.draws({"Na+": 50.0, "Cl-": 50.0}, pressure=P, film=0.0)
    osmotic = 8.31446 * 298.15 * (c[None, :, None] * R).sum(-1)
    assert_allclose(J / small.permeability()[:, None, None] + osmotic, P, rtol=0.03)
    slow = small.predict(SEA, pressure=2 * bar, balance="Cl-").flux_m_s.iloc[0]
    assert 0 < slow < 0.9 * small.permeability().mean() * 2 * bar


def test_own_values_make_the_model_theirs(nf270):
    "Values of one of the model's own membranes with another coupon: the model moves there and its interval narrows."
    flux, truth = np.array([15.0, 30.0, 60.0]) * LMH, nf270.thinned(7)
    one = Answer(truth.x[3:4], np.array([[1.5, 0.5, 0.0, 0.0, 1.0]]), nf270.prior)
    measured = one.predict(NACL, flux)
    frame = measured.rename(columns={"c_feed": "c_feed_mol_m3"})[["ion", "flux_m_s", "c_feed_mol_m3", "rejection"]]
    mine = nf270.calibrate(frame)
    before, after = (m.predict({"Na+": 60.0, "Cl-": 60.0}, flux) for m in (nf270, mine))
    true = one.predict({"Na+": 60.0, "Cl-": 60.0}, flux).rejection
    assert (after.rejection - true).abs().mean() < 0.6 * (before.rejection - true).abs().mean()
    before, after = (m.predict(NACL, flux) for m in (nf270, mine))
    assert (after.upper - after.lower).mean() < 0.6 * (before.upper - before.lower).mean()
    assert "calibrated with" in repr(mine) and any("charge" in s for s in mine.card["taught"])
    with pytest.raises(InputError, match="calibrated already"):
        mine.calibrate(frame)


def test_a_value_the_model_did_not_expect_is_named(nf270):
    frame = pd.DataFrame(
        {"ion": ["Na+", "SO4-2"], "flux_m_s": 20 * LMH, "c_feed_mol_m3": [20.0, 10.0], "rejection": [0.2, 0.2]}
    )
    assert any("lies outside" in s for s in nf270.calibrate(frame).card["taught"])


def test_a_model_survives_its_file_and_another_file_is_refused(small, tmp_path):
    again = Answer.load(small.save(tmp_path / "mine.json"))
    assert_allclose(of(again, NACL).rejection, of(small, NACL).rejection, atol=1e-3)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match="not a sample of membranes"):
        Answer.load(tmp_path / "other.json")


@pytest.mark.parametrize(
    "ask, says",
    [
        (dict(flux=None), "give flux"),
        (dict(flux=1e-5, pressure=5e5), "one of them"),
        (dict(flux=1e-5, kind="apparent"), "kind is 'apparent'"),
        (dict(flux=1e-5, level=90), "level is 90"),
        (dict(flux=1e-5, film=25), "film is 25"),
        (dict(pressure=-1.0), "pressure is -1"),
    ],
)
def test_a_mistake_gets_a_sentence(small, ask, says):
    with pytest.raises(InputError, match=says):
        small.predict(NACL, **ask)


def test_notes_say_what_is_not_known(small):
    notes = " ".join(small.predict(NACL, 20 * LMH, pH=4.0).attrs["notes"])
    assert "pH 4" in notes and "observed" in notes
    assert "Cs+" in " ".join(small.predict({"Cs+": 20.0, "Cl-": 20.0}, 20 * LMH).attrs["notes"])


def test_held_out_rows_score_as_the_table_says():
    "The stored scores are what the shipped function says of the rows each stored sample has not seen."
    table = pd.read_csv(asset("answers/scores.csv"), index_col="held out")
    d = rows.answer_rows()
    for name in ("B", "ritt2020"):
        train, test = rows.hold_out(d, name)
        model = load_answer(f"without-{name}")
        assert model.card["values"] == len(train) and not set(train.index) & set(test.index)
        got = scores(predicted(model, test))
        assert_allclose(
            [got[k] for k in ("mse", "coverage", "width")], table.loc[name, ["mse", "coverage", "width"]], atol=0.01
        )


def test_both_splits_hold_whole_groups_out():
    s = rows.split_table()
    for name in (*rows.COMPOSITIONS, *rows.SOURCES):
        group = s.composition if name in rows.COMPOSITIONS else s.source_id
        assert (s[f"without {name}"] == "score").equals(group == name)
    assert "wang2023" in set(s.source_id[s.composition == "E"])
    assert pd.read_csv(asset("answers/splits.csv"), index_col="row_id").equals(s)


def test_rows_left_out_are_left_out_by_name():
    out = rows.left_out()
    assert {"pH outside the range of the law", "neither flux nor pressure"} <= set(out.reason)
    d = rows.answer_rows()
    assert d.pH.isna().any() and d.pH.dropna().between(*laws.PH_RANGE).all()
    assert not d.duplicated(["state_id", "ion", "kind"]).any()


def test_a_law_follows_its_weights_and_its_limits():
    n = 20000
    x = np.random.default_rng(0).standard_normal((n, len(laws.GLOBALS)))
    p = laws.parameters(x)
    assert_allclose(np.bincount(p.law) / n, list(laws.LAWS.values()), atol=0.015)
    assert (p.b[p.law == 0] == 0).all() and (p.c[p.law == 1] == 0).all()
    one = {k: v.to_numpy() for k, v in p.iloc[:200].items()}
    z, ions = np.array([1.0, 2.0, -1.0]), ("Na+", "Mg+2", "Cl-")
    at = lambda c: laws.charge_of(one, np.tile(c, (200, 1)), z, ions)
    q = laws.REFERENCE_EQUIVALENTS
    assert_allclose(at([q, 0.0, q]), one["charge"], rtol=1e-12)
    assert_allclose(at([0.0, q / 2, q]), one["charge"] + one["shift Mg+2"], rtol=1e-9)


def test_errors_fade_and_states_hold_every_row():
    assert_allclose(np.array(faded(np.array([0.0, 1.0]))), [[0, 1], [0, 1]], atol=1e-5)
    assert_allclose(of_y(y_of(np.array([-1.0, 0.0, 0.99]))), [-1.0, 0.0, 0.99], rtol=1e-9)
    d = rows.answer_rows()
    s = States.of(d)
    assert sorted(s.row_id) == sorted(d.index) and (np.diff(s.curve) >= 0).all()
    assert_allclose(s.row_weight.sum(1), 1.0, rtol=1e-9)
    assert_allclose(s.c_feed @ s.z, 0.0, atol=1e-9)


def test_the_default_membrane_is_the_likeliest_of_the_sample_and_its_first_number_is_believable():
    "NaCl 10 mol/m³ at 30, 50 and 100 L/m²/h and 20 °C: .43, .55 and .79 were measured (10.3390/membranes11040272)."
    from ion_ode import NF270, load_model, simulate

    kept, likeliest = NF270.tensors(), load_model("nf270").likeliest.tensors()
    for name in kept:
        assert_allclose(kept[name], likeliest[name], rtol=2e-4, err_msg=name)
    cold = at_temperature(NF270, 293.15)
    R = simulate({"Na+": 10, "Cl-": 10}, np.array([30, 50, 100]) * LMH, cold, temperature=293.15).rejection[0, :, 0]
    assert_allclose(R, [0.43, 0.55, 0.79], atol=0.08)

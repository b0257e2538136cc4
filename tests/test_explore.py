"The live page's JavaScript against Python: pore model, answer, own measurements, vessel, numbers as people write them."

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from example_set import simulate
from live_page import NODE, PAGE, WELL, ask, data, explore_data, files, random_feed
from numpy.testing import assert_allclose
from scipy.special import stdtrit

from ion_ode import Plant, Stage, load_model, simulate_plant
from ion_ode.core import LMH, bar
from ion_ode.dspmde.charge_pH import PH_OF_CHARGES
from ion_ode.dspmde.entry import hindrance_dechadilok_deen
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import NF270_WATERTAP, ChargeBinding, Freundlich, Membrane
from ion_ode.inference import answer as of_answer
from ion_ode.inference.calibrate import _own_states, said_of
from ion_ode.inference.discrepancy import log_likelihood_of, residuals_of
from ion_ode.inference.pores import passages, solve
from ion_ode.inference.states import forward

needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
LARGEST = 1_000_000  # bytes: what a reader downloads at most


def plain(membrane: Membrane) -> dict:
    return {k: getattr(membrane, k) for k in ("r_pore", "thickness", "charge_density", "eps_pore", "permeability")}


# A membrane with everything a law of this package can say
LAWS = Membrane(
    0.46e-9,
    1.1e-6,
    ChargeBinding(Freundlich(-8.0, 0.4), {"Mg+2": 30.0, "SO4-2": -12.0}, growth=0.3, saturation=0.2),
    44.0,
    3e-11,
    {"NO3-": 0.7, "Na+": -0.3},
)


# ---- DSPM-DE in Node


def random_cases(n: int, seed: int) -> list[tuple[dict, Membrane, list]]:
    "Feeds, membranes and fluxes over the range of the page's sliders."
    rng, ions = np.random.default_rng(seed), data()["ions"]
    log = lambda low, high: float(np.exp(rng.uniform(np.log(low), np.log(high))))
    out = []
    for _ in range(n):
        charge = log(1, 200) * (-1 if rng.random() < 0.8 else 0.5)
        membrane = Membrane(log(0.42e-9, 0.8e-9), log(0.2e-6, 4e-6), charge, rng.uniform(34, 78), log(1e-11, 1e-10))
        out.append((random_feed(rng, ions, high=500), membrane, sorted(log(1e-8, 6e-5) for _ in range(3))))
    return out


@needs_node
def test_dspmde_in_node_is_simulate():
    """Permeate, rejection, Donnan potentials and pressure of the JavaScript solver within 1e-6 of the Python one."""
    d = data()
    cases = random_cases(60, seed=0)
    cases += [(m["feed"], NF270_WATERTAP, [1e-7, 1e-5, 5.8e-5]) for m in d["mixtures"]]
    answers = ask([{"what": "curve", "feed": f, "membrane": plain(m), "flux": j} for f, m, j in cases])
    names = tuple(d["ions"])
    feeds = torch.tensor([[f.get(n, 0.0) for n in names] for f, _, _ in cases], dtype=torch.float64)
    column = lambda k: torch.tensor([plain(m)[k] for _, m, _ in cases], dtype=torch.float64)
    membranes = Membrane(*(column(k) for k in plain(NF270_WATERTAP)))
    wanted = simulate(feeds, np.array([j for _, _, j in cases]), membranes, ions=names, rtol=1e-10)
    kT = d["constants"]["boltzmann"] * d["constants"]["temperature"] / d["constants"]["elementaryCharge"]
    for i, found in enumerate(answers):
        assert all(s["converged"] for s in found)
        order = [names.index(n) for n in found[0]["names"]]
        c_perm = np.array([s["cPerm"] for s in found])
        assert_allclose(c_perm, wanted.c_perm[i][:, order], rtol=1e-6)
        assert_allclose([s["rejection"] for s in found], wanted.rejection[i][:, order], rtol=1e-6, atol=1e-7)
        assert_allclose([s["pressure"] for s in found], wanted.pressure[i], rtol=1e-6)
        psi = np.array([[s["psiFeed"], s["psiPerm"]] for s in found]) * kT
        assert_allclose(psi, wanted.psi_donnan[i], rtol=1e-6, atol=1e-6 * kT)
        assert max(abs(s["chargeBalance"]) for s in found) < 1e-12


@needs_node
def test_charge_laws_and_partitioning_in_node():
    feed = {"Na+": 2, "NO3-": 2, "Mg+2": 5, "SO4-2": 5, "K+": 1, "Cl-": 1}
    flux = [1e-7, 1e-5, 5e-5]
    (answer,) = ask([{"what": "curve", "feed": feed, "membrane": explore_data.membrane_json(LAWS), "flux": flux}])
    wanted = simulate(feed, flux, LAWS, rtol=1e-10)
    order = [answer[0]["names"].index(n) for n in wanted.ions]
    assert_allclose(np.array([s["cPerm"] for s in answer])[:, order], wanted.c_perm[0], rtol=1e-6)


@needs_node
def test_a_film_in_node_is_simulates():
    flux, film = [1e-6, 1e-5, 5e-5], 40e-6
    (answer,) = ask([{"what": "curve", "feed": WELL, "membrane": plain(NF270_WATERTAP), "flux": flux, "film": film}])
    wanted = simulate(WELL, flux, film=Film(thickness=film), rtol=1e-9)
    order = [answer[0]["names"].index(n) for n in wanted.ions]
    for mine, theirs in (("cPerm", wanted.c_perm), ("wall", wanted.c_wall)):
        assert_allclose(np.array([s[mine] for s in answer])[:, order], theirs[0], rtol=1e-6)


@needs_node
@pytest.mark.parametrize(
    "feed",
    [{"Na+": 10.0, "Mg+2": 5.0, "Cl-": 20.0}, {"Na+": 2.0, "Cl-": 2.0, "glucose": 1.0}, {"Mg+2": 5.0, "Cl-": 10.0}],
    ids=["an ion", "a neutral solute", "every cation"],
)
def test_what_is_wider_than_the_pore_stays_outside(feed):
    "As `simulate` has it: none passes, the others answer beside it; where no cation passes, no anion does."
    narrow, flux = NF270_WATERTAP.with_(r_pore=0.3e-9), [1e-6, 1e-5, 3e-5]
    (found,) = ask([{"what": "curve", "feed": feed, "membrane": plain(narrow), "flux": flux}])
    wanted = simulate(feed, flux, narrow, rtol=1e-10)
    order = [found[0]["names"].index(n) for n in wanted.ions]
    passed = np.array([s["cPerm"] for s in found])[:, order]
    assert_allclose(passed, wanted.c_perm[0], rtol=1e-6, atol=1e-15)
    assert passed.min() < 1e-12 and all(s["converged"] for s in found)


@needs_node
def test_a_cold_start_finds_what_the_sweep_finds():
    cases = [{"feed": f, "membrane": plain(m), "flux": j} for f, m, j in random_cases(12, seed=1)]
    warm, cold = ask([c | {"what": "curve"} for c in cases]), ask([c | {"what": "cold"} for c in cases])
    for a, b in zip(warm, cold, strict=True):
        assert_allclose([s["cPerm"] for s in b], [s["cPerm"] for s in a], rtol=1e-8)


@needs_node
def test_without_flux_the_permeate_is_the_feed():
    feed = {"K+": 3, "Cl-": 3, "Ca+2": 1, "SO4-2": 1, "Mg+2": 7, "NO3-": 14}
    (answer,) = ask([{"what": "curve", "feed": feed, "membrane": plain(NF270_WATERTAP), "flux": [0.0]}])
    assert answer[0]["cPerm"] == [feed[n] for n in answer[0]["names"]]
    assert answer[0]["rejection"] == [0] * len(feed)


@needs_node
def test_hindrance_in_node_is_the_packages():
    lam = np.r_[np.linspace(0.01, 0.949, 20), np.linspace(0.951, 0.999, 8)]
    (answer,) = ask([{"what": "hindrance", "lam": lam.tolist()}])
    assert_allclose(
        np.transpose(answer), np.stack(hindrance_dechadilok_deen(torch.tensor(lam))), rtol=1e-9
    )  # 1e-14 of terms that cancel


@needs_node
@pytest.mark.parametrize(
    ("feed", "change", "flux", "says"),
    [
        ({"Na+": 1.0, "Cl-": 2.0}, {}, 1e-5, "not electroneutral"),
        ({"glucose": 1.0}, {}, 1e-5, "no salt"),
        ({"Na+": 0.0, "Cl-": 0.0}, {}, 1e-5, "no salt"),
        ({"Na+": -1.0, "Cl-": -1.0}, {}, 1e-5, "positive"),
        ({"Xe+": 1.0, "Cl-": 1.0}, {}, 1e-5, "unknown ion Xe+"),
        ({"Na+": 1.0, "Cl-": 1.0}, {"thickness": 0.0}, 1e-5, "thickness is 0"),
        ({"Na+": 1.0, "Cl-": 1.0}, {}, -1e-5, "the flux is"),
    ],
)
def test_what_cannot_be_solved_is_refused_in_words(feed, change, flux, says):
    (answer,) = ask([{"what": "refuse", "feed": feed, "membrane": plain(NF270_WATERTAP) | change, "flux": flux}])
    assert says in answer["error"]


# ---- the answer


@pytest.fixture
def exact(monkeypatch):
    "The answer of the package, its pore model solved to ten digits."
    monkeypatch.setattr(of_answer, "passages", lambda *a: passages(*a[:-1], 1e-10))
    return load_model("nf270")


@needs_node
def test_the_answer_in_node_is_predict(exact):
    """Mean and interval for 30 feeds of ions and neutral solutes: behind the films of laboratories, one of one's own,
    and none; the charge as measured, and that of a pH."""
    rng, ions = np.random.default_rng(5), data()["ions"]
    feeds = [random_feed(rng, ions, 0.1, 150) for _ in range(26)] + [m["feed"] for m in data()["mixtures"][:3]] + [WELL]
    sides = [{"kind": "observed"}, {"kind": "intrinsic"}, {"kind": "observed", "film": 4e-5}]
    flux = [3 * LMH, 40 * LMH]
    acid = [{}, {"pH": 4.5}, {}, {"pH": 9.0}]
    cases = [
        {"what": "predict", "feed": f, "flux": flux, "members": 64, **sides[k % 3], **acid[k % 4]}
        for k, f in enumerate(feeds)
    ]
    assert sum(ions[n]["z"] == 0 for f in feeds for n in f) > 5
    cases.append({"what": "predict", "feed": WELL, "flux": flux, "members": 192, "kind": "observed"})
    for case, found in zip(cases, ask(cases), strict=True):
        options = {k: case[k] for k in ("kind", "film", "pH") if k in case}
        frame = exact.predict(case["feed"], np.array(flux), members=case["members"], **options)
        for ion, rows in frame.groupby("ion"):
            for what in ("rejection", "lower", "upper"):
                assert_allclose(1 - np.array(found["ions"][ion][what]), 1 - rows[what], rtol=1e-6, atol=1e-7)


@needs_node
def test_a_pressure_in_node_is_predicts(exact):
    P = [2 * bar, 9 * bar]
    (found,) = ask([{"what": "predict", "feed": WELL, "pressure": P, "members": 48, "kind": "observed"}])
    frame = exact.predict(WELL, pressure=np.array(P), members=48)
    for ion, rows in frame.groupby("ion"):
        for mine, theirs in (("rejection", "rejection"), ("lower", "lower"), ("upper", "upper")):
            assert_allclose(1 - np.array(found["ions"][ion][mine]), 1 - rows[theirs], rtol=1e-6, atol=1e-7)
        assert_allclose(found["flux"], rows.flux_m_s, rtol=1e-6)
        assert_allclose(np.transpose(found["fluxEnds"]), [rows.flux_lower, rows.flux_upper], rtol=1e-6)


OWN = {"Na+": 20.0, "Mg+2": 5.0, "Cl-": 30.0}


def own_of(exact, folder):
    "Values of two ions at two fluxes and pH, the table of them that Python reads, and what 32 members say of them."
    rows = [("Na+", 0.30, 20, 5.5), ("Mg+2", 0.75, 20, 5.5), ("Na+", 0.38, 60, None), ("Mg+2", 0.80, 60, None)]
    values = [
        {
            "feed": OWN,
            "ion": i,
            "rejection": r,
            "sd": 0,
            "flux": j * LMH,
            "pressure": None,
            "kind": "observed",
            "pH": pH,
        }
        for i, r, j, pH in rows
    ]
    table = {"what": "call", "module": "water.mjs", "name": "ownTable", "args": [values, data(), PH_OF_CHARGES]}
    (folder / "own.csv").write_text(ask([table])[0])
    states, _ = _own_states(folder / "own.csv", exact.prior)
    few = exact.thinned(32)
    precise = lambda ions, problem: solve(ions, problem, rtol=1e-10)
    R, J = forward(states, few.x, few.coupon[:, None, :4], few.coupon[:, 4:], precise, exact.prior, few.laws)
    return values, few, states, *said_of(states, R, J), few.parameters


@needs_node
def test_own_measurements_weigh_members_as_the_likelihood_does(exact, tmp_path):
    "Log density of pasted values under every member."
    values, few, *of_states = own_of(exact, tmp_path)
    (found,) = ask([{"what": "own", "values": values, "members": 32, "many": 1}])
    wanted = log_likelihood_of(*of_states)
    assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert np.ptp(wanted) > 1, "the values do not tell membranes apart"


@needs_node
def test_what_own_measurements_tell_of_the_models_error_is_predicts(exact, tmp_path):
    "Mean and interval of the same members with the corrections of own values: their feed, one like it, a salt."
    values, few, *of_states = own_of(exact, tmp_path)
    mine, flux = replace(few, own=residuals_of(*of_states)), [10 * LMH, 45 * LMH]
    feeds = [OWN, {"Na+": 30.0, "Mg+2": 2.0, "Cl-": 32.0, "SO4-2": 1.0}, {"Na+": 20.0, "Cl-": 20.0}]
    cases = [
        {"what": "taught", "values": values, "members": 32, "feed": f, "flux": flux, "kind": "observed"} for f in feeds
    ]
    for case, found in zip(cases, ask(cases), strict=True):
        for ion, rows in mine.predict(case["feed"], np.array(flux)).groupby("ion"):
            for what in ("rejection", "lower", "upper"):
                assert_allclose(1 - np.array(found["ions"][ion][what]), 1 - rows[what], rtol=1e-6, atol=1e-7)


@needs_node
@pytest.mark.parametrize("nu", [5, 6, 11, 30])
def test_students_quantiles(nu):
    p = np.array([0.01, 0.2, 0.5, 0.93, 0.9999])
    (found,) = ask([{"what": "student", "p": p.tolist(), "nu": nu}])
    assert_allclose(found, stdtrit(nu, p), rtol=1e-9, atol=1e-12)


@needs_node
def test_the_value_that_contradicts_is_named():
    value = lambda ion, R: {"feed": WELL, "ion": ion, "rejection": R, "sd": 0, "flux": 40 * LMH, "pressure": None}
    values = [value(*v) | {"kind": "observed"} for v in (("Mg+2", 0.8), ("SO4-2", 0.2), ("Na+", 0.2))]
    asked = {"what": "predict", "feed": WELL, "members": 48, "flux": [40 * LMH], "level": 0.99}
    (off,), expected = ask([{"what": "contradicting", "values": values, "members": 48}, asked])
    ends = expected["ions"]["SO4-2"]
    assert off["ion"] == "SO4-2" and off["rejection"] < off["low"]
    assert_allclose([off["low"], off["high"]], [ends["lower"][0], ends["upper"][0]], rtol=1e-5)


@needs_node
def test_weights_become_members():
    logs = [0.0, 3.0, -50.0, 3.0]
    made = {"members": [{"k": k} for k in range(4)]}
    (found,) = ask([{"what": "call", "module": "answer.mjs", "name": "reweighed", "args": [made, {"logs": logs}, 100]}])
    count = np.bincount([m["k"] for m in found["answer"]["members"]], minlength=4)
    share = np.exp(logs) / np.exp(logs).sum()
    assert_allclose(count, 100 * share, atol=1)
    assert_allclose(found["effective"], 1 / (share**2).sum(), rtol=1e-9)
    assert found["distinct"] == 3


@needs_node
def test_notes_say_above_and_below():
    d, cases = data(), []
    for factor, flux in ((1.0, 40), (1000.0, 40), (0.001, 40), (1.0, 900), (1.0, 0.5)):
        cases.append(
            {"what": "notes", "feed": {n: c * factor for n, c in WELL.items() if n != "HCO3-"}, "flux": flux * LMH}
        )
    said = [" ".join(s) for s in ask(cases)]
    assert said[0] == "" and "Salt" in said[1] and "above" in said[1] and "below" in said[2] and "below" not in said[1]
    assert "Flux" in said[3] and "above" in said[3] and "below" in said[4]
    unseen, acid, base = ask([{"what": "notes", "feed": WELL, "flux": 40 * LMH, "pH": pH} for pH in (None, 2.5, 11.5)])
    assert unseen[0].startswith(d["ions"]["HCO3-"]["label"]) and len(unseen) == 1
    assert acid[1].startswith("pH 2.5 is below") and base[1].startswith("pH 11.5 is above")


# ---- the vessel


@needs_node
@pytest.mark.parametrize("run", [{"pressure": 2 * bar}, {"recovery": 0.4}], ids=["pressure", "recovery"])
def test_a_vessel_in_node_is_simulate_plant(run):
    "Product, recovery and energy of six elements for members of the answer."
    model, feed = load_model("nf270"), WELL | {"erythritol": 1.0}
    members = [0, len(model.x) // 2, len(model.x) - 1]
    asked = {
        "what": "vessel",
        "feed": feed,
        "element": "NF270-400/34i",
        "count": 6,
        "flow": 8 / 3600,
        "steps": 32,
        **run,
    }
    few = of_answer.replace(model, x=model.x[members], coupon=model.coupon[members], laws=None)
    plant = Plant(Stage("NF270-400/34i", elements=6))
    s = simulate_plant(feed, plant, membrane=few, feed_flow=8 / 3600, grid_rtol=1e-7, **run)
    for k, found in enumerate(ask([asked | {"member": m} for m in members])):
        order = [found["names"].index(n) for n in s.ions]
        assert_allclose(np.array(found["cPerm"])[order], s.c_perm[k], rtol=5e-6)
        assert_allclose(np.array(found["cConc"])[order], s.c_conc[k], rtol=5e-6)
        for mine, theirs in (("recovery", s.recovery), ("pressure", s.pressure), ("energy", s.energy)):
            assert_allclose(found[mine], theirs[k], rtol=5e-6)


@needs_node
def test_a_vessel_out_of_reach_is_said():
    base = {"what": "vessel", "expectError": True, "feed": WELL, "element": "NF270-400/34i", "count": 6, "member": 0}
    cases = [
        {"flow": 1 / 3600, "pressure": 30 * bar},
        {"flow": 8 / 3600, "pressure": 0.2 * bar},
        {"flow": 100 / 3600, "pressure": 3 * bar},
    ]
    used, osmosis, friction = (x["error"] for x in ask([base | c for c in cases]))
    assert "used up" in used and ("osmosis" in osmosis or "friction" in osmosis) and "friction" in friction


# ---- numbers, waters, own measurements


@needs_node
@pytest.mark.parametrize(
    ("text", "value"),
    [("10.5", 10.5), ("10,5", 10.5), (" 1e-3 ", 1e-3), ("−3", -3.0), ("0,125", 0.125), ("1 000", 1000.0), (".5", 0.5)],
)
def test_a_number_is_read_as_people_write_it(text, value):
    (found,) = ask([{"what": "call", "module": "water.mjs", "name": "readNumber", "args": [text]}])
    assert found == value


@needs_node
@pytest.mark.parametrize(
    ("text", "says"),
    [("", "empty"), ("1,234", "1234 or 1.234"), ("1.234,5", "not a number"), ("ten", "not a number"), ("1e", "number")],
)
def test_what_may_mean_two_numbers_is_refused(text, says):
    case = {"what": "call", "expectError": True, "module": "water.mjs", "name": "readNumber", "args": [text]}
    assert says in ask([case])[0]["error"]


@needs_node
def test_percent_has_no_minus_zero():
    values = [-0.0004, -0.0, 0.0004, 0.5, 0.99995, 1.0, -0.25]
    call = lambda v: {"what": "call", "module": "water.mjs", "name": "percent", "args": [v]}
    assert ask([call(v) for v in values]) == ["0.0", "0.0", "0.0", "50.0", "99.995", "100", "−25.0"]


@needs_node
def test_one_ion_closes_the_balance():
    d = data()
    call = lambda feed, ion: {
        "what": "call",
        "expectError": True,
        "module": "water.mjs",
        "name": "closed",
        "args": [feed, ion, d],
    }
    closed, no_room, open_ = ask([
        call({"Na+": 10, "Ca+2": 5, "Cl-": 3}, "Cl-"),
        call({"Na+": 1, "Cl-": 3, "SO4-2": 1}, "Cl-"),
        call({"Na+": 10, "Cl-": 3}, ""),
    ])  # fmt: skip
    assert closed["Cl-"] == 20 and "cannot close" not in str(closed)
    assert "anions are too many" in no_room["error"] and "meq/L" in open_["error"]


@needs_node
def test_pasted_measurements_are_read_or_refused():
    d = data()
    call = lambda text: {
        "what": "call",
        "expectError": True,
        "module": "water.mjs",
        "name": "readOwn",
        "args": [text, WELL, d],
    }
    texts = [
        "ion,rejection [%],flux [LMH]\nNa+,45,20\nMg2+,80,20",
        "Ion;R;pressure [bar];sd\nSO4-2;0,95;5;0,01",
        "ion,rejection,flux\nNa+,45,20",
        "ion,rejection,flux\nLi+,0.4,20",
        "ion,rejection\nNa+,0.4",
        "ion,rejection,flux\nNa+,0,45,20",
    ]
    found = ask([call(t) for t in texts])
    assert [v["ion"] for v in found[0]] == ["Na+", "Mg+2"] and found[0][0]["rejection"] == 0.45
    assert_allclose(found[0][0]["flux"], 20 * LMH, rtol=1e-12)
    assert found[1][0]["pressure"] == 5 * bar and found[1][0]["sd"] == 0.01 and found[1][0]["rejection"] == 0.95
    for k, says in ((2, "not possible"), (3, "not an ion of the feed"), (4, "expected columns"), (5, "cells")):
        assert says in found[k]["error"], (k, found[k])


# ---- drawing


@needs_node
def test_ticks_and_labels():
    tick, apart = ask([
        {"what": "ticks", "low": -37, "high": 100, "count": 6},
        {"what": "spread", "positions": [10, 10, 11, 90, 50], "gap": 12, "low": 0, "high": 100},
    ])  # fmt: skip
    assert tick["values"] == [-25, 0, 25, 50, 75, 100]
    ordered = np.sort(apart)
    assert (np.diff(ordered) > 12 - 0.1).all() and ordered[0] >= 0 and ordered[-1] <= 100
    assert np.argsort(apart)[-1] == 3


# ---- generated files


def test_mixtures_and_waters_hold_ions_of_the_page():
    d = data()
    for m in d["mixtures"]:
        assert abs(sum(d["ions"][n]["z"] * c for n, c in m["feed"].items())) < 1e-9
        assert {p[0] for p in m["points"]} <= set(m["feed"]) and len(m["points"]) >= 8
    assert {w["close"] for w in d["waters"]} <= set(d["ions"]) and len(d["waters"]) >= 4


def test_small_and_self_contained():
    """Less than 1 MB either way it is read, and nothing in it is fetched from elsewhere."""
    made = files()
    parts = sum(len(made[n]) for n in ("data.json", "answer.json"))
    parts += sum(p.stat().st_size for p in PAGE.iterdir() if p.suffix in (".mjs", ".css"))
    text = made["standalone.html"]
    assert len(text.encode()) < LARGEST and parts < LARGEST
    assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)=", text)
    addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text))
    assert addresses <= {"https://doi.org", "http://www.w3.org"}, addresses
    script = text.rsplit('<script type="module">', 1)[1]
    assert not re.search(r"^\s*(import|export)\s", script, re.M)


def test_every_module_of_the_page_is_in_the_one_file():
    assert {p.name for p in PAGE.glob("*.mjs")} == set(explore_data.MODULES)
    assert json.loads(files()["answer.json"])["name"] == "NF270"

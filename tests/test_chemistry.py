"""What waters hold at their pH, PHREEQC and textbooks as judges; five waters from a table to a permeate."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from numpy.testing import assert_allclose

from ion_ode import NF270, Film, InputError, simulate
from ion_ode.cli import main
from ion_ode.core import LMH
from ion_ode.dspmde.conditions import at_temperature, pore_classes
from ion_ode.dspmde.waters import read_waters, simulate_water
from ion_ode.module.answers import simulate_plant, summary
from ion_ode.module.law import Law
from ion_ode.module.plant import Stage
from ion_ode.store import asset
from ion_ode.water import pitzer
from ion_ode.water.chemistry import _log_k, _table, carried, pH_of, speciate, totals
from ion_ode.water.feeds import feed_table
from ion_ode.water.ions import eps_water, get_ion

FILE = asset("water/waters.csv")
NAMES = list(pd.read_csv(FILE)["sample"])


@pytest.fixture(scope="module")
def waters():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return read_waters(pd.read_csv(FILE))


@pytest.mark.parametrize("k", range(len(NAMES)), ids=NAMES)
def test_five_waters_are_what_phreeqc_says(waters, k):
    pytest.importorskip("phreeqpython")
    from ion_ode.water.phreeqc import phreeqc

    s = waters.speciation[k]
    other = phreeqc(totals(s), s.pH, s.temperature, s.alkalinity)
    assert_allclose(s.strength, other.strength, rtol=2e-3)
    for name, c in s.c.items():
        if c > 1e-4 * sum(s.c.values()):
            assert_allclose(c, other.c[name], rtol=5e-3, err_msg=name)
    for mineral, index in s.saturation.items():
        assert abs(index - other.saturation[mineral]) < 5e-3, mineral


@pytest.mark.parametrize("temperature", [278.15, 298.15, 333.15, 363.15])
def test_temperature_laws_are_phreeqcs(temperature):
    pytest.importorskip("phreeqpython")
    from ion_ode.water.phreeqc import phreeqc

    water = {
        "Na+": 3.0,
        "Ca+2": 2.0,
        "Mg+2": 1.0,
        "Cl-": 2.0,
        "SO4-2": 1.5,
        "HCO3-": 4.0,
        "H3BO3": 0.2,
        "SiO2": 0.3,
        "Ba+2": 1e-4,
    }
    a, b = speciate(water, 7.6, temperature), phreeqc(water, 7.6, temperature)
    for name in ("CO2", "HCO3-", "CO3-2", "OH-", "MgSO4", "CaSO4", "H2BO3-", "H3SiO4-"):
        assert_allclose(a.c[name], b.c[name], rtol=0.02, err_msg=name)  # the density of warm water is counted one here
    assert {k: round(v, 2) for k, v in a.saturation.items()} == pytest.approx(b.saturation, abs=0.012)


def test_pitzer_and_the_osmotic_pressure_of_a_brine():
    pytest.importorskip("phreeqpython")
    from ion_ode.water.phreeqc import osmotic_pressure

    # osmotic coefficients of NaCl at 25 °C, .1, 1 and 3 mol/kg: .9324, .9355, 1.0453 (Robinson and Stokes 1959)
    for c, phi in ((100, 0.9324), (1000, 0.9355), (3000, 1.0453)):
        ideal = 2 * c * 8.314462618 * 298.15 * 0.997
        assert_allclose(osmotic_pressure({"Na+": c, "Cl-": c}) / ideal, phi, rtol=6e-3)


def test_constants_of_textbooks():
    t = _table()
    at = lambda name, T=298.15: float(_log_k(t.law[t.names.index(name)][None], T)[0])
    assert_allclose(
        [at("OH-"), at("HCO3-"), at("CO2") - at("HCO3-"), at("NH3"), at("H2BO3-")],
        [-14.0, 10.33, 6.35, -9.25, -9.24],
        atol=0.01,
    )
    assert at("OH-", 333.15) > at("OH-") and at("NH3", 333.15) > at("NH3")


def test_charge_and_amounts_survive_speciation(waters):
    for feed, s in zip(waters.feed, waters.speciation, strict=True):
        z = np.array([get_ion(i).z for i in feed])
        c = np.array(list(feed.values()))
        assert abs(z @ c) < 1e-5 * (np.abs(z) @ c)  # the bases of a water without alkalinity
        t = _table()
        for j in range(t.nu.shape[1]):  # what moves carries what a species carries
            total = sum(s.c.get(n, 0.0) * v for n, v in zip(t.names, t.nu[:, j], strict=True))
            moved = sum(v * _parts(i)[j] for i, v in feed.items())
            assert_allclose(moved, total, rtol=1e-9, atol=1e-12)


def _parts(ion):
    t = _table()
    return t.nu[t.names.index({"SiO2": "H4SiO4"}.get(ion, ion))]


def test_a_water_finds_its_own_pH_again(waters):
    for feed, s in zip(waters.feed, waters.speciation, strict=True):
        if s.alkalinity > 0.01:  # what has no base has no pH to speak of
            again = pH_of(feed, s.temperature)
            assert_allclose(again.pH, s.pH, atol=1e-5)
            assert_allclose(again.alkalinity, s.alkalinity, rtol=1e-6)


def test_pure_water_is_neutral_and_acid_is_acid():
    assert_allclose(pH_of({"Na+": 1.0, "Cl-": 1.0, "H+": 1e-4, "OH-": 1e-4}).pH, 7.0, atol=0.02)
    assert_allclose(pH_of({"Na+": 10.0, "Cl-": 11.0, "H+": 1.0}).pH, 3.05, atol=0.02)
    assert_allclose(pH_of({"CO2": 0.0136, "H+": 1e-4, "OH-": 1e-4}).pH, 5.6, atol=0.06)  # rain


@pytest.mark.parametrize("pairs", [(), ("MgSO4", "CaSO4")])
def test_permeates_of_five_waters(waters, pairs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        f = simulate_water(pd.read_csv(FILE), [10 * LMH, 40 * LMH], pairs=pairs)
    assert set(f["sample"]) == set(NAMES) and np.isfinite(f.rejection).all() and (f.rejection < 1).all()
    assert f.pH_perm.between(5, 11).all()
    hard = f[(f["sample"] == "municipal effluent") & (f.flux_m_s > 5e-6)].set_index("ion")
    # CO2 passes, bicarbonate less: the permeate is the more acid, by about the logarithm of the bicarbonate that passes
    assert (hard.pH_perm < hard.pH_feed).all()
    gas = 1 / (1 + 10 ** (7.28 - 6.35))  # CO2's share of the carbon
    passes = (1 - hard.rejection["inorganic carbon"] - gas) / (1 - gas)
    assert_allclose(hard.pH_perm.iloc[0] - 7.28, np.log10(passes), atol=0.12)


def test_words_for_waters():
    d = pd.DataFrame([{"sample": "well 3", "Na [mM]": 2, "Cl [mM]": 2, "HCO3 [mM]": 0}])
    with pytest.raises(InputError, match="well 3 has no pH; add a column pH"):
        read_waters(d)
    with pytest.raises(InputError, match="pH is 20.0, expected"):
        read_waters(d.assign(pH=20))
    with pytest.warns(UserWarning, match="activities beyond .5 mol/L are extrapolated"):
        simulate_water(pd.DataFrame([{"Na [mM]": 900, "Cl [mM]": 900, "pH": 7}]), 20 * LMH)


def test_alkalinity_above_pH_8_5_is_carbonate_too():
    row = {"Na [mM]": 4.0, "Ca [mM]": 0.2, "Cl [mM]": 1.0, "Alkalinity [mg/L as CaCO3]": 170.0, "pH": 9.8}
    with pytest.warns(UserWarning, match="with the carbonate and hydroxide"):
        t = feed_table(pd.DataFrame([row]))
    c = dict(zip(t.ions, t.c_feed[0], strict=True))
    assert_allclose(c["HCO3-"] + 2 * c["CO3-2"] + c["OH-"], 170 / 50.0435, rtol=1e-4)
    held = {"Na+": 4.0, "Ca+2": 0.2, "Cl-": 1.0}
    assert_allclose(c["CO3-2"], carried(speciate(held, 9.8, alkalinity=170 / 50.0435))["CO3-2"], rtol=1e-9)
    assert 0.2 < c["CO3-2"] / c["HCO3-"] < 0.6  # pK2 10.3 and activities


def test_one_command(tmp_path):
    run = CliRunner().invoke(
        main, ["water", "--feed", str(FILE), "--flux", "20", "--out", str(tmp_path / "r.csv")], standalone_mode=False
    )
    assert run.exception is None
    f = pd.read_csv(tmp_path / "r.csv")
    assert set(f["sample"]) == set(NAMES) and {"pH_feed", "pH_perm", "rejection"} <= set(f)


def test_own_ions_on_the_shell(tmp_path):
    (tmp_path / "mine.csv").write_text(
        "name,z,D_bulk_m2_s,r_stokes_m,molar_mass_g_mol,aliases,source,doi\n"
        "cation+,1,1.33e-9,0.184e-9,22.99,,copy of Na+,\n"
    )
    args = ["simulate", "--ions", str(tmp_path / "mine.csv"), "--feed", "cation+=10,Cl-=10", "--flux", "20", "--json"]
    run = CliRunner().invoke(main, args, standalone_mode=False)
    assert run.exception is None
    mine = pd.DataFrame(json.loads(run.stdout))
    like = simulate({"Na+": 10, "Cl-": 10}, 20 * LMH, NF270.with_(ln_partition={"Cl-": NF270.ln_partition["Cl-"]}))
    assert_allclose(mine.rejection, like.rejection[0, 0], rtol=1e-6)


def test_a_pore_warms_with_its_free_water():
    assert_allclose(at_temperature(NF270, 298.15).eps_pore, NF270.eps_pore, rtol=1e-12)
    at = at_temperature(NF270, [278.15, 363.15]).eps_pore
    assert at[0] > NF270.eps_pore > at[1] > 6
    assert_allclose(
        at_temperature(NF270.with_(eps_pore=eps_water(298.15)), 363.15).eps_pore, eps_water(363.15), rtol=1e-12
    )
    R = [
        simulate({"Na+": 10, "Cl-": 10}, 20 * LMH, at_temperature(NF270, T), temperature=T).rejection[0, 0, 0].item()
        for T in (298.15, 363.15)
    ]
    fixed = simulate({"Na+": 10, "Cl-": 10}, 20 * LMH, NF270, temperature=363.15).rejection[0, 0, 0].item()
    assert fixed < R[1] < R[0] or fixed < R[0] < R[1]  # a pore that stays polar while water loses it lets salt in


def test_a_temperature_beyond_the_measurements_is_said():
    water = pd.DataFrame({"Na [mM]": [10.0], "Cl [mM]": [10.0], "pH": [7.0]})
    with pytest.warns(UserWarning, match="60 °C: the package's membranes were measured at 20 to 25 °C"):
        simulate_water(water, 20 * LMH, temperature=333.15)
    run = {"feed_flow": 1e-3, "recovery": 0.3}
    said = [simulate_plant({"Na+": 10, "Cl-": 10}, temperature=T, **run).notes for T in (298.15, 333.15)]
    assert not any("measured" in n for n in said[0]) and any("measured at 20 to 25" in n for n in said[1])


def test_every_door_says_a_temperature_beyond_the_measurements():
    args = ["simulate", "--feed", "Na+=8,Cl-=8", "--flux", "20"]
    warm, cool = (CliRunner().invoke(main, [*args, "--temperature", t]).output for t in ("333", "297"))
    said = "60 °C: the package's membranes were measured"
    assert warm.count(said) == 1 and "were measured" not in cool
    run = lambda T, **more: simulate({"Na+": [8, 8], "Cl-": [8, 8]}, 20 * LMH, temperature=T, **more)
    assert run(333.15).notes[0].startswith(said) and said in repr(run(333.15, pore_spread=0.1))
    assert run(torch.tensor([290.0, 333.15])).notes[0].startswith("17 to 60 °C") and not run(297.0).notes


def test_pores_of_many_sizes():
    r, speed, share = pore_classes(0.3)
    assert_allclose([share.sum(), share @ r, (share / speed).sum()], 1.0, rtol=1e-12)
    feed, J = {"Na+": 10, "Mg+2": 5, "Cl-": 20, "glucose": 1}, [5 * LMH, 50 * LMH]
    plain = simulate(feed, J, NF270)
    assert_allclose(simulate(feed, J, NF270, pore_spread=1e-6).c_perm, plain.c_perm, rtol=1e-4)
    wide = simulate(feed, J, NF270, pore_spread=0.3)
    z = np.array([1.0, 2, -1, 0])
    assert np.abs(wide.c_perm.numpy() @ z).max() < 1e-6 * 10
    x = np.linspace(-2.8, 4.6, 149)  # the same mixture on an even grid of ln r
    pdf, r = np.exp(-(x**2) / 2), np.exp(0.3 * x)
    flow, r = pdf * r**4 / (pdf * r**4).sum(), r / ((pdf * r**5).sum() / (pdf * r**4).sum())
    each = J[1] * r**2 * (flow / r**2).sum()
    many = simulate(feed, each[:, None], NF270.with_(r_pore=torch.from_numpy(r * NF270.r_pore)), throw=False)
    assert flow[~many.ok[:, 0]].sum() < 1e-3  # pores narrower than every ion
    assert_allclose(wide.c_perm[0, 1], flow @ np.nan_to_num(many.c_perm[:, 0].numpy()), rtol=0.02)
    with pytest.raises(InputError, match="pore_spread is 2"):
        simulate(feed, J, NF270, pore_spread=2)


SEA = {"Na+": 486.0, "K+": 10.6, "Mg+2": 54.7, "Ca+2": 10.7, "Cl-": 566.0, "SO4-2": 29.3, "HCO3-": 2.3}
LITHIUM_BRINE = {"Li+": 500.0, "Mg+2": 2000.0, "Na+": 800.0, "K+": 200.0, "Cl-": 5400.0, "SO4-2": 50.0}
SALTS_OF_PITZER = [
    {"Na+": 1, "Cl-": 1},
    {"Mg+2": 1, "Cl-": 2},
    {"Na+": 2, "SO4-2": 1},
    {"Mg+2": 1, "SO4-2": 1},
    {"Li+": 1, "Cl-": 1},
]
_pi = lambda w, T=298.15: pitzer.osmotic_pressure(
    tuple(w), torch.tensor(list(w.values()), dtype=torch.float64), T
).item()


@pytest.mark.parametrize("temperature", [278.15, 298.15, 333.15])
def test_osmotic_pressures_of_brines_are_phreeqcs(temperature):
    pytest.importorskip("phreeqpython")
    from ion_ode.water.phreeqc import osmotic_pressure

    for w in (SEA, LITHIUM_BRINE):
        assert_allclose(_pi(w, temperature), osmotic_pressure(w, 7.0, temperature), rtol=4e-3)
    for salt in SALTS_OF_PITZER if temperature == 298.15 else []:
        for c in (50.0, 500.0, 2500.0):
            w = {i: n * c for i, n in salt.items()}
            assert_allclose(_pi(w), osmotic_pressure(w), rtol=5e-3)


def test_osmotic_coefficients_of_textbooks():
    # NaCl at 25 °C, .1, 1 and 3 mol/kg: .9324, .9355, 1.0453 (Robinson and Stokes 1959); dilute waters are ideal
    phi = pitzer.osmotic_coefficient(("Na+", "Cl-"), torch.tensor([[m, m] for m in (1e-7, 0.1, 1.0, 3.0)]))
    assert_allclose(phi, [1.0, 0.9324, 0.9355, 1.0453], rtol=3e-3)
    assert pitzer.without_parameters(("Na+", "NO3-", "glucose")) == ["NO3-"]


def test_pitzer_in_the_pressure_that_drives_and_its_gradient():
    c = torch.tensor([10.0, 500.0], dtype=torch.float64, requires_grad=True)
    run = lambda c, **o: simulate({"Na+": c, "Cl-": c}, 1e-5, osmotic="pitzer", rtol=1e-9, **o).osmotic[:, 0]
    (slope,) = torch.autograd.grad(run(c).sum(), c)
    up, down = (run(c.detach() * (1 + e)) for e in (1e-4, -1e-4))
    assert_allclose(slope, (up - down) / (2e-4 * c.detach()), rtol=1e-4)
    s = simulate(LITHIUM_BRINE, 5e-6, osmotic="pitzer")
    c_perm = dict(zip(s.ions, s.c_perm[0, 0].tolist(), strict=True))
    assert_allclose(s.osmotic.item(), _pi(LITHIUM_BRINE) - _pi(c_perm), rtol=1e-9)
    assert s.osmotic.item() > 1.3 * simulate(LITHIUM_BRINE, 5e-6).osmotic.item()
    with pytest.raises(InputError, match="osmotic is 'x', expected 'ideal'"):
        simulate(SEA, 1e-5, osmotic="x")


def test_pitzer_along_a_module():
    p = {o: simulate_plant(SEA, feed_flow=12 / 3600, recovery=0.3, osmotic=o) for o in ("ideal", "pitzer")}
    pi = {o: summary(s).concentrate_osmotic_bar[0] for o, s in p.items()}
    assert_allclose(pi["pitzer"], _pi(dict(zip(p["pitzer"].ions, p["pitzer"].c_conc[0]))) / 1e5, rtol=1e-9)
    assert pi["pitzer"] < 0.95 * pi["ideal"] and p["pitzer"].pressure < p["ideal"].pressure


def test_replicates_of_a_water_are_averaged_and_their_spread_is_said(tmp_path):
    rows = pd.DataFrame(
        {
            "sample": ["well", "well", "spring", "well"], "Ca [mg/L]": [80.0, 84.0, 20.0, 88.0],
            "Cl [mg/L]": [148.6, 148.6, 35.4, 148.6], "pH": [7.0, 7.2, 8.0, None],
        }
    )  # fmt: skip
    with pytest.warns(UserWarning, match="well: 3 replicates as their mean; Ca.2 differs most, 2.096 ± 0.1 "):
        found = simulate_water(rows, 20 * LMH)
    once = rows.groupby("sample", sort=False, as_index=False).mean()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        w = read_waters(rows)
        assert_allclose(found.rejection, simulate_water(once, 20 * LMH).rejection, rtol=1e-9)
        apart = simulate_water(rows.assign(**{"flux [LMH]": [10, 20, 10, 10]}))
    assert w.label == ["well", "spring"] and w.spread[1] == {}
    assert_allclose(w.spread[0]["Ca+2"], np.std([80, 84, 88], ddof=1) / get_ion("Ca+2").molar_mass, rtol=1e-12)
    assert_allclose(w.speciation[0].pH, 7.1)
    assert len(apart.groupby(["sample", "flux_m_s"])) == 3  # another flux is another question
    file, out = tmp_path / "lab.csv", tmp_path / "out.csv"
    rows.to_csv(file, index=False)
    ask = ["water", "--feed", str(file), "--membrane", "nf270", "--out", str(out)]
    done = CliRunner().invoke(main, [*ask, "--flux", "20"])
    assert done.exit_code == 0 and "3 replicates" in done.output, done.output
    assert_allclose(pd.read_csv(out).rejection, found.rejection, rtol=1e-6)
    rows.assign(**{"flux [LMH]": [10, 20, 10, 10]}).to_csv(file, index=False)
    done = CliRunner().invoke(main, [*ask, "--force"])
    assert done.exit_code == 0, done.output
    assert_allclose(pd.read_csv(out).rejection, apart.rejection, rtol=1e-6)
    bare = rows.assign(**{"Cl [mg/L]": 0.0})
    w = read_waters(bare, balance="bicarbonate")
    assert_allclose(w.speciation[1].alkalinity, 2 * 20.0 / get_ion("Ca+2").molar_mass, rtol=1e-9)


SEA = {"Na+": 486.0, "K+": 10.6, "Mg+2": 54.7, "Ca+2": 10.7, "Cl-": 568.8, "SO4-2": 29.3}


@pytest.mark.parametrize("temperature", [298.15, 323.15])
@pytest.mark.parametrize("times", [0.01, 1.0, 4.0])
def test_activities_are_phreeqcs_and_one_with_the_osmotic_coefficient(temperature, times):
    names = tuple(SEA)
    m = torch.tensor(list(SEA.values()), dtype=torch.float64) * times / 1000
    ln = dict(zip(names, pitzer.ln_activity(names, m, temperature), strict=True))
    p = pitzer._set(names, temperature)
    phi = 1 + ((m @ torch.stack(list(ln.values()))) - pitzer._excess(p, m)) / m.sum()
    assert_allclose(phi, pitzer.osmotic_coefficient(names, m, temperature), rtol=1e-9)
    pytest.importorskip("phreeqpython")
    from ion_ode.water.phreeqc import _asked

    feed = {k: times * v for k, v in SEA.items()}
    _, log = _asked(feed, 7.0, temperature, None, "pitzer.dat", [f'LG("{i}")' for i in names])
    judge = dict(zip(names, np.array(log) * np.log(10), strict=True))
    for cation, anion in (("Na+", "Cl-"), ("K+", "Cl-"), ("Mg+2", "SO4-2"), ("Ca+2", "SO4-2")):  # salts: measurable
        assert_allclose(float(ln[cation] + ln[anion]) / 2, (judge[cation] + judge[anion]) / 2, atol=0.03)


def test_pitzer_in_the_pore_model():
    shell = ["simulate", "--feed", "Na+=700,Mg+2=350,Cl-=1400", "--flux", "30", "--activity", "pitzer", "--json"]
    said = json.loads(CliRunner().invoke(main, shell).output)
    salt = lambda c: {"Na+": c, "Mg+2": c / 2, "Cl-": 2 * c}
    R = lambda c, a, **o: simulate(salt(c), 30 * LMH, activity=a, **o).rejection[0, 0].numpy()
    assert_allclose(R(0.1, "pitzer"), R(0.1, "davies_solution"), atol=2e-4)  # one limit at dilution
    assert_allclose(R(30.0, "pitzer"), R(30.0, "davies_solution"), atol=0.01)
    assert np.abs(R(700.0, "pitzer") - R(700.0, "davies_solution")).max() > 0.05  # and brines apart
    assert_allclose(simulate(salt(700.0), 1e-4 * LMH, activity="pitzer").rejection, 0, atol=1e-4)  # equilibrium
    assert_allclose([row["rejection"] for row in said], R(700.0, "pitzer"), rtol=1e-6)
    thin, thick = R(700.0, "pitzer", film=Film(thickness=1e-9)), R(700.0, "pitzer", film=Film(thickness=25e-6))
    assert_allclose(thin, R(700.0, "pitzer"), atol=1e-3)
    assert thick[1] < thin[1] - 0.02
    T = torch.tensor([298.15, 313.15], dtype=torch.float64)
    two = simulate([salt(700.0), salt(50.0)], [10 * LMH, 30 * LMH], activity="pitzer", temperature=T)
    assert_allclose(two.rejection[0, 1], R(700.0, "pitzer"), atol=1e-5)
    assert not any("Davies" in n for n in two.notes)
    for options, said in ((dict(film=Film(k=2e-5)), "Film.thickness"), (dict(activity="pitzr"), "pitzer")):
        with pytest.raises(InputError, match=said):
            simulate(salt(700.0), 30 * LMH, **{"activity": "pitzer"} | options)
    with pytest.raises(InputError, match="no gradients"):
        simulate(salt(700.0), 30 * LMH, NF270.with_(r_pore=torch.tensor(5e-10, requires_grad=True)), activity="pitzer")
    J = np.array([10.0, 30.0, 50.0]) * LMH  # more fluxes than one, behind films of their own
    film = [Film(thickness=torch.tensor([10e-6, 25e-6])), Film(thickness=25e-6)]
    many = simulate([salt(700.0)] * 2, J, activity="pitzer", film=film[0])
    alone = simulate(salt(700.0), J, activity="pitzer", film=film[1])
    assert_allclose(many.rejection[1], alone.rejection[0], rtol=1e-4)
    assert_allclose(many.rejection[1, 1], thick, rtol=1e-4)


def test_pitzer_along_a_module_is_that_of_one_place():
    "An element that takes next to nothing passes what one place passes, activities included; balances close."
    brine = {"Na+": 700.0, "Mg+2": 350.0, "Cl-": 1400.0}
    run = dict(feed_flow=5 / 3600, permeate_flow=2e-6, osmotic="pitzer")
    for how in ("nernst_planck", "none"):
        s = simulate_plant(brine, Stage(elements=1), activity="pitzer", film=how, **run)
        J = float(s.permeate_flow[0]) / 37.2
        k = s.solved.search.vessels[0].duct.stirring(s.feed_flow, np.zeros(1, int))[0][0]
        place = Law(s.ions, NF270, film=how, options={"activity": "pitzer"}, osmotic="pitzer")
        p = place(s.c_feed, np.array([J]), k[None], np.zeros(1, int))
        assert_allclose(s.c_perm, p.c_perm, rtol=2e-3)
        assert s.balance.max() < 1e-8
    bare = simulate(brine, J, activity="pitzer", rtol=1e-8)
    assert_allclose(p.c_perm, bare.c_perm[0], rtol=1e-6)
    with pytest.raises(InputError, match="'linear' arrived"):
        simulate_plant(brine, feed_flow=1e-3, recovery=0.5, activity="pitzer", film="linear")

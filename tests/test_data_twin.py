"""The synthetic experiment: remade from its seed, richer than the plain model, labelled and hashed."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode.core import InputError
from ion_ode.data.folds import composition_folds
from ion_ode.data.points import measurement_points
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.solve import simulate
from ion_ode.results import twin
from ion_ode.store import asset, digest
from ion_ode.water.ions import IONS


@pytest.fixture(scope="module")
def frame():
    return twin.load_twin()


def test_size_and_labels(frame):
    assert frame.solution_id.nunique() >= 60 and len(frame) >= 750 and set(frame.ion) == set(IONS)
    assert frame.source_id.str.contains("synthetic").all() and frame.membrane.str.contains("synthetic").all()
    assert frame.groupby("solution_id").ion.nunique().min() >= 3
    assert (frame.rejection[frame.censored] == 1).all()


def test_made_again_from_the_seed(frame, monkeypatch):
    """Feeds, fluxes and noise in full; the transport itself for every eighth mixture."""
    exact, card = twin.twin_truth()
    stored, _ = twin._stored()
    some = list(range(0, 64, 8))
    full = twin.simulate_truth

    def partly(feed, flux, truth, coupon):
        perm = torch.full((*flux.shape, feed.shape[1]), torch.nan, dtype=torch.float64)
        perm[some] = full(feed[some], flux[some], truth, coupon=coupon[some])[0]
        table = stored.set_index(["mixture", "run", "ion"]).rejection_true
        for (m, r, i), R in table.items():
            b, t, d = int(m.split("_")[1]) - 1, r - 1, IONS.index(i)
            if b not in some:
                perm[b, t, d] = feed[b, d] * (1 - R)
        perm[~(feed > 0)[:, None].expand_as(perm)] = 0
        return perm, None

    monkeypatch.setattr(twin, "simulate_truth", partly)
    again = twin.make_twin(card["seed"])
    for c in ("mixture", "group", "coupon", "run", "ion", "censored"):
        assert again[c].tolist() == stored[c].tolist(), c
    for c in ("flux_m_s", "c_feed_mol_m3"):
        assert_allclose(again[c], stored[c], rtol=1e-8)
    assert_allclose(1 - again.rejection_true, 1 - stored.rejection_true, rtol=2e-5, atol=2e-9)
    assert_allclose(again.rejection_sd, stored.rejection_sd, rtol=1e-4)
    assert_allclose(again.rejection, stored.rejection, atol=1e-6)
    assert json.loads(json.dumps(card["truth"])) == json.loads(json.dumps(vars(twin.Truth())))


def test_the_noise_is_what_the_card_says(frame):
    exact, _ = twin.twin_truth()
    d = frame[exact[frame.index] < 1 - 3 * frame.rejection_sd]
    u = (d.rejection - exact[d.index]) / d.rejection_sd
    assert abs(u.mean()) < 0.1 and abs(u.std() - 1) < 0.06
    assert frame.groupby("ion").rejection_sd.mean().nunique() == len(IONS)


def test_limits_of_the_richer_model():
    """One pore size and a film: at the wall the transport model gives the same, coupon by coupon."""
    feed = torch.tensor([[10.0, 0, 1.0, 5.0, 0.5, 20.0, 1.0, 0], [0, 2.0, 0, 0, 10.0, 20.0, 0, 2.0]]).double()
    flux = torch.tensor([[1e-5, 3e-5]] * 2).double()
    t, own = twin.Truth(r_spread=1e-9, nodes=3), torch.tensor([[0.3, -0.2], [0.0, 0.1]]).double()
    z = torch.tensor([1.0, 1, 1, 2, 2, -1, -2, -1]).double()
    feed[:, 5] += feed @ z
    perm, wall = twin.simulate_truth(feed, flux, t, coupon=own)
    on, wall = (feed > 0)[:, None].expand_as(perm), wall.reshape(-1, 8)
    factor = own.exp().repeat_interleave(2, 0)
    charge = twin.charge_at(wall, t) * factor[:, 0]
    bare = Membrane(t.r_median, t.thickness * factor[:, 1], charge, t.eps_pore, ln_partition=t.ln_partition)
    at_wall = simulate(wall, flux.reshape(-1, 1), bare, ions=IONS, activity="davies").c_perm[:, 0].reshape(perm.shape)
    assert_allclose(perm[on], at_wall[on], rtol=1e-5)
    assert (((perm @ z).abs() / (perm @ z.abs())) < 1e-10).all()


def test_the_charge_grows_with_a_power_of_the_concentration_and_saturates():
    t = twin.Truth()
    sodium, magnesium = torch.tensor([[15.0, 0, 0, 0, 0, 15.0, 0, 0], [0, 0, 0, 7.5, 0, 15.0, 0, 0]]).double()
    at = lambda c: twin.charge_at(c[None], t)[0]
    assert_allclose([at(sodium), at(magnesium)], [t.charge, t.charge + t.shift["Mg+2"]], rtol=1e-12)
    assert_allclose(at(4 * sodium) / at(sodium), 4**t.exponent, rtol=1e-12)
    half = at((sodium + magnesium) / 2) - t.charge
    assert_allclose(half / t.shift["Mg+2"], 0.5 * (1 + t.saturation) / (0.5 + t.saturation), rtol=1e-12)


def test_coupons_are_dealt_evenly_and_are_what_the_card_says():
    stored, card = twin._stored()
    which, own = twin._coupons(64, card["seed"], twin.Truth())
    assert sorted(np.bincount(which)) == [8] * 8 and len(stored.groupby("mixture").coupon.unique().explode()) == 64
    assert_allclose(own, card["coupons"], rtol=1e-12)


def test_pore_classes_conserve_flow():
    for n in (1, 3, 5, 9):
        r, speed, share = twin.pore_classes(twin.Truth(nodes=n))
        x, w = np.polynomial.hermite.hermgauss(n)
        area = torch.from_numpy(w) * r**2
        assert_allclose(((area / area.sum()) * speed).sum(), 1, rtol=1e-12)
        assert_allclose(share.sum(), 1, rtol=1e-12)
        assert_allclose(share, (area / area.sum()) * speed, rtol=1e-12)


def test_misfit_of_noise_and_of_structure():
    g = np.random.default_rng(0)
    curve = np.repeat(np.arange(200), 5)
    sd = pd.Series(np.full(1000, 0.1))
    white = twin.misfit(pd.Series(0.1 * g.standard_normal(1000)), curve, sd)
    assert abs(white["intraclass correlation"]) < 0.1 and 0.85 < white["chi2 per value"] < 1.15
    offset = twin.misfit(pd.Series(0.3 * g.standard_normal(200)[curve] + 0.1 * g.standard_normal(1000)), curve, sd)
    assert_allclose(offset["intraclass correlation"], 0.9, atol=0.05)


def test_folds_of_the_twin(frame):
    groups = tuple(sorted(frame.composition.unique()))
    folds = composition_folds(frame, held_out=groups)
    assert [f.name for f in folds] == list(groups)
    for f in folds:
        assert set(f.train.solution_id).isdisjoint(f.test.solution_id) and len(f.train) + len(f.test) == len(frame)


def test_a_changed_file_is_refused(monkeypatch, tmp_path):
    for n in ("twin.csv", "twin.json"):
        (tmp_path / n).write_bytes(asset(n).read_bytes())
    (tmp_path / "twin.csv").write_bytes(asset("twin.csv").read_bytes() + b"\n")
    assert digest(asset("twin.csv").read_bytes()) == json.loads(asset("twin.json").read_text())["sha256"]
    monkeypatch.setattr(twin, "asset", lambda n: tmp_path / n)
    twin._stored.cache_clear()
    with pytest.raises(InputError, match="differs from the hash"):
        twin.load_twin()
    twin._stored.cache_clear()


def test_stored_fit_is_what_its_estimates_predict(frame):
    fitted, record = twin.load_twin_fit()
    assert set(fitted.index) == set(frame.index) and record["commit"] and "+" not in record["commit"]
    m = measurement_points(frame, ions=IONS)
    film = Film(thickness=twin.Truth().film_thickness)
    for how, fit in record["fits"].items():
        found = simulate(
            torch.tensor(m.c_feed),
            torch.tensor(m.flux)[:, None],
            Membrane(**{e["parameter"]: e["estimate"] for e in fit["estimates"]}),
            ions=IONS,
            film=film,
        )
        again = pd.Series(found.rejection[:, 0].numpy()[m.state, m.ion], index=m.row)
        assert ((again - fitted[how][again.index]).abs() < 1e-3 * frame.rejection_sd[again.index]).all(), (
            "far below the noise"
        )
        assert fit["cost of each start"] == sorted(fit["cost of each start"])


def test_the_fit_is_the_best_nearby(frame):
    """No step of one parameter by a thousandth lowers the misfit of the plain fit."""
    fitted, record = twin.load_twin_fit()
    best = {e["parameter"]: e["estimate"] for e in record["fits"]["plain"]["estimates"]}
    m = measurement_points(frame, ions=IONS)
    m = m.select(m.state < 256)
    feed, flux, film = (
        torch.tensor(m.c_feed),
        torch.tensor(m.flux)[:, None],
        Film(thickness=twin.Truth().film_thickness),
    )
    cost = lambda p: float(
        (
            (
                simulate(feed, flux, Membrane(**p), ions=IONS, film=film).rejection[:, 0].numpy()[m.state, m.ion]
                - m.rejection
            )
            ** 2
        ).sum()
    )
    least = cost(best)
    for name, value in best.items():
        for factor in (0.999, 1.001):
            assert cost(best | {name: value * factor}) > least * (1 - 1e-7), (name, factor)


def test_fits_that_cannot_be(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="expected one of plain, weighted"):
        twin._fit_twin("best")
    for n in ("twin.csv", "twin.json", "twin_fit.json"):
        (tmp_path / n).write_bytes(asset(n).read_bytes())
    (tmp_path / "twin_fit.csv").write_bytes(asset("twin_fit.csv").read_bytes()[:-9])
    monkeypatch.setattr(twin, "asset", lambda n: tmp_path / n)
    with pytest.raises(InputError, match="ion-ode reproduce --only twin --store"):
        twin.load_twin_fit()

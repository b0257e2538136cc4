"""Measurements: transcription, counting rules, folds, points."""

import json

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp

from ion_ode.core import InputError
from ion_ode.data import folds, points
from ion_ode.data import nf270 as nf270_module
from ion_ode.dspmde import film
from ion_ode.store import asset, digest
from ion_ode.water.ions import IONS, get_ion, ion_arrays


@pytest.fixture(scope="module")
def nf270():
    return nf270_module.load_nf270()


@pytest.mark.parametrize(
    "source, all_kinds, with_flux, in_eight",
    [
        ("fdly2021", 106, 106, 82),
        ("foo2023", 8, 8, 8),
        ("ritt2020", 126, 72, 72),
        ("liu2025", 109, 109, 109),
        ("losema2023", 12, 0, 0),
    ],
)
def test_counts_by_source(nf270, source, all_kinds, with_flux, in_eight):
    d = nf270[nf270.source_id == source]
    assert nf270_module.independent_values(d, ions=None, flux=False) == all_kinds
    assert nf270_module.independent_values(d, ions=None) == with_flux
    assert nf270_module.independent_values(d) == in_eight


def test_counts_in_all(nf270):
    assert nf270_module.independent_values() == 271
    transfer = nf270_module.load_transfer()
    everything = pd.concat([nf270, transfer])
    assert nf270_module.independent_values(everything, ions=None, flux=False) == 749
    assert nf270_module.independent_values(everything, ions=None) == 536
    assert nf270_module.independent_values(everything) == 512
    counts = transfer.groupby(transfer.membrane.str[:4]).apply(
        lambda g: nf270_module.independent_values(g, ions=None, flux=False)
    )
    assert counts.to_dict() == {"LIP-": 72, "NF-u": 303, "NF90": 13}


@pytest.mark.parametrize("group, n", zip("ABCDEFGH", (14, 19, 21, 28, 8, 109, 72, 0), strict=True))
def test_counts_by_composition(nf270, group, n):
    assert nf270_module.independent_values(nf270[nf270.composition == group]) == n


def test_traps(nf270):
    transfer = nf270_module.load_transfer()
    assert transfer.censored.sum() == 22 and set(transfer[transfer.censored].ion) == {"SO4-2"}
    assert (transfer[transfer.censored].rejection == 1).all()
    assert (
        nf270_module.independent_values(transfer, censored=False, flux=False)
        == nf270_module.independent_values(transfer, flux=False) - 22
    )
    pairs = nf270[nf270.salt_level].groupby(["state_id", "kind"])
    assert (
        (pairs.size() == 2).all()
        and (pairs.rejection.max() == pairs.rejection.min()).all()
        and (pairs.weight.sum() == 1).all()
    )
    assert (nf270[~nf270.salt_level].weight == 1).all()
    twice = nf270[nf270.source_id == "ritt2020"].groupby(["state_id", "ion"]).kind.nunique()
    assert (twice == 2).sum() == 72
    for kind in nf270_module.KINDS:
        kept = nf270_module.independent_rows(nf270, prefer=kind)
        assert not kept.duplicated(["state_id", "ion"]).any()
    solutions = nf270_module.load_solutions()
    for s in ("fdly_NaCl", "fdly_MgSO4"):
        c = solutions[solutions.solution_id == s]
        assert "NH4+" in set(c.ion) and abs((c.z * c.c_feed_mol_m3).sum()) < 1e-9


def test_every_row_has_a_source_and_a_solution(nf270):
    d = pd.concat([nf270, nf270_module.load_transfer(), nf270_module.load_tracers()])
    assert len(d) == 1253
    assert set(d.source_id) <= set(nf270_module.load_sources().index)
    assert not ((d.doi == "") & ~d.source_id.isin(["ouimet2022", "lykke2022", "losema2023"])).any()
    assert ((d.rejection_sd.isna()) == (d.sd_meaning == "not given")).all()
    assert set(d.solution_id) <= set(nf270_module.load_solutions().solution_id)
    feeds = nf270_module.load_solutions().set_index(["solution_id", "ion"]).c_feed_mol_m3
    charged = d[d.z != 0]
    assert_allclose(
        charged.c_feed_mol_m3, feeds.loc[list(zip(charged.solution_id, charged.ion, strict=True))], rtol=1e-6
    )


def test_values_spot_checked_against_the_sources(nf270):
    lowest = nf270.loc[nf270.rejection.idxmin()]
    assert (lowest.solution_id, lowest.ion, lowest.rejection) == ("fdly_MgSO4", "NO3-", -1.38663)
    foo = nf270[(nf270.source_id == "foo2023") & (nf270.ion == "Li+")].sort_values("flux_m_s")
    assert_allclose(foo.flux_m_s.iloc[[0, -1]], [8.05e-6, 18.66e-6], rtol=1e-6)
    assert_allclose(foo.pressure_Pa, [6e5, 8e5, 10e5, 12e5])
    p = nf270_module.load_parameters()
    pure = p[(p.quantity == "pure_water_permeability")].iloc[0]
    assert_allclose(pure.value_si, pure.value / 1000 / 3600 / 1e5, rtol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rejection": 1.2}, "less_than_or_equal_to"),
        ({"flux_m_s": -1e-5}, "greater_than_or_equal_to"),
        ({"kind": "true"}, "isin"),
        ({"z": 2}, "z is the charge of the ion"),
        ({"rejection_sd": 0.1, "sd_meaning": "not given"}, "an sd says what it means"),
        ({"c_feed_mol_m3": -1.0}, "greater_than_or_equal_to"),
    ],
)
def test_schema_refuses(nf270, change, message):
    bad = nf270[nf270.source_id == "foo2023"].assign(**change)
    with pytest.raises((pa.errors.SchemaError, pa.errors.SchemaErrors), match=message):
        nf270_module.MeasurementSchema.validate(bad, lazy=True)


def test_composition_folds_hold_whole_compositions_out():
    for option in ("balanced", 0.1, None):
        for fold in folds.composition_folds(single_salts=option):
            assert set(fold.test.composition) == {fold.name}
            assert fold.name not in set(fold.train.composition)
            assert set(fold.train.solution_id).isdisjoint(fold.test.solution_id)
            expected = set(nf270_module.MIXTURES) - {fold.name} | (
                set() if option is None else set(nf270_module.SINGLES)
            )
            assert set(fold.train.composition) == expected
    with pytest.raises(InputError, match="no rows of composition H"):
        folds.composition_folds(held_out=("H",))


def test_row_wise_splits_are_refused():
    d = nf270_module.independent_rows().sample(frac=1, random_state=1)
    with pytest.raises(InputError, match="hold out whole compositions"):
        folds.check_split(d[:400], d[400:])
    with pytest.raises(InputError, match="state_id"):
        folds.check_split(d[:400], d[400:], by="state_id")


def test_secondary_folds():
    high = folds.flux_fold()
    for g, test in high.test.groupby("composition"):
        assert test.flux_m_s.min() > high.train[high.train.composition == g].flux_m_s.max()
    lithium = folds.ion_fold("Li")
    assert set(lithium.test.ion) == {"Li+"} and "foo_LMC_pH7" not in set(lithium.train.solution_id)
    with pytest.raises(InputError, match="no rejection of Ca"):
        folds.ion_fold("Ca+2")
    with pytest.raises(InputError, match="between 0 and 1"):
        folds.flux_fold(share=1.5)


def test_stored_folds_are_what_the_rules_give(monkeypatch, tmp_path):
    table, card = folds.load_folds()
    pd.testing.assert_frame_equal(table, folds.fold_table(), check_dtype=False)
    assert card["version"] == 1 and card["sha256"] == digest(asset("folds.csv").read_bytes())
    for name, counts in card["folds"].items():
        assert table[name].value_counts().reindex(["train", "test"]).to_dict() == counts
    for name in ("folds.csv", "folds.json", "nf_measurements.csv"):
        (tmp_path / name).write_bytes(asset(name).read_bytes())
    (tmp_path / "folds.csv").write_bytes(asset("folds.csv").read_bytes().replace(b"test", b"tset", 1))
    monkeypatch.setattr(folds, "asset", lambda n: tmp_path / n)
    with pytest.raises(InputError, match="differs from the hash"):
        folds.load_folds()


def test_film_against_scipy():
    ions = ("Li+", "Mg+2", "Cl-", "SO4-2")
    a = ion_arrays(ions)
    feed = torch.tensor([[40.0, 80.0, 180.0, 10.0], [1.0, 0.0, 1.0, 0.0]]).double()
    perm = torch.tensor([[48.0, 30.0, 107.9, 0.05], [0.4, 0.0, 0.4, 0.0]]).double()
    flux = torch.tensor([2e-5, 5e-5]).double()
    wall = film.film_wall(feed, perm, flux, ions)
    for b in range(2):
        on = (feed[b] > 0).numpy()
        D, z, p = a.D_bulk.numpy()[on], a.z.numpy()[on], perm[b].numpy()[on]
        pe = flux[b].item() * film.FILM_THICKNESS / D

        def rhs(x, c, pe=pe, p=p, z=z):
            g = pe * (c - p)
            return g - z * c * (z * g).sum() / (z * z * c).sum()

        ref = solve_ivp(rhs, (0, 1), feed[b].numpy()[on], rtol=1e-11, atol=1e-14).y[:, -1]
        assert_allclose(wall[b].numpy()[on], ref, rtol=1e-8)
        assert (wall[b].numpy()[~on] == 0).all()
    assert_allclose(film.film_wall(feed, feed, flux, ions), feed, rtol=1e-12)


def test_states_are_the_rows():
    d = nf270_module.independent_rows()
    m = points.measurement_points(d)
    z = np.array([get_ion(i).z for i in m.ions])
    assert len(m) == len(d) and m.row.tolist() == d.index.tolist()
    assert_allclose(m.rejection, d.rejection, rtol=1e-12)
    assert_allclose(m.weight, d.weight)
    assert (np.abs(m.c_feed @ z) / (m.c_feed @ np.abs(z))).max() < 1e-12
    intrinsic, (wall, perm) = m.kind == "intrinsic", points.at_membrane(m)
    assert_allclose(wall[intrinsic], m.c_feed[intrinsic])
    assert (wall[~intrinsic].sum(-1).numpy() > m.c_feed[~intrinsic].sum(-1)).all()
    nh4 = m.ions.index("NH4+")
    assert (m.c_feed[intrinsic][:, nh4] > 0).all() and not (m.ion == nh4).any()
    assert_allclose(points.at_membrane(m, None)[0], m.c_feed)
    assert_allclose(
        1 - (perm.numpy() / np.where(m.c_feed > 0, m.c_feed, 1))[m.state, m.ion], d.rejection, rtol=1e-9, atol=1e-12
    )
    assert_allclose(points.measurement_points(nf270_module.independent_rows(ions=None)).weight.sum(), 295)


def test_states_refuse_what_they_cannot_place(nf270):
    with pytest.raises(InputError, match="no flux"):
        points.measurement_points(nf270)
    with pytest.raises(InputError, match="no slot"):
        points.measurement_points(ions=IONS)
    lykke = nf270_module.load_transfer()
    lykke = lykke[(lykke.source_id == "lykke2022") & lykke.flux_m_s.notna()]
    with pytest.raises(InputError, match="not electroneutral|no slot"):
        points.measurement_points(lykke)


def test_observed_and_intrinsic_of_one_run_are_two_states():
    d = nf270_module.load_nf270()
    run = (
        d[(d.source_id == "ritt2020") & d.flux_m_s.notna()].groupby("state_id").filter(lambda g: g.kind.nunique() == 2)
    )
    m = points.measurement_points(run)
    assert m.n_states == 2 * run.state_id.nunique() and sorted(set(m.kind)) == ["intrinsic", "observed"]


def test_noise_floor_is_the_replicate_scatter():
    s, dof = nf270_module.replicate_sd()
    d = nf270_module.load_nf270()
    g = d[(d.solution_id == "ritt_Na2SO4_2mM") & (d.ion == "Na+")].groupby("pH").rejection
    assert dof == 60 and 0.005 < s < 0.05 and (g.std() < 0.05).all()
    assert (nf270_module.measurement_sd(d) >= s).all()
    assert json.loads(asset("folds.json").read_text())["measurements_sha256"] == digest(
        asset("nf_measurements.csv").read_bytes()
    )
    assert np.isfinite(nf270_module.measurement_sd(d, floor=0.0)).all()

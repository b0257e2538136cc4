"""Trained stand-ins of the benchmarks: limits that hold whatever the weights, and weights that answer as stored."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode.attention_odenet.set_pore import PoreTold, SetPoreODENet
from ion_ode.store import asset

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(FOLDER))
    try:
        import stand_in

        yield stand_in
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def curves(bench):
    return bench.draw_curves(bench.FRESH + 9, 24, 4, n_ions=5)


@pytest.fixture(scope="module")
def ways(bench):
    return bench.stand_ins(bench.kept()[0])


@pytest.mark.parametrize("way", ["closed form, rest learnt", "shared field"])
def test_ions_alike_are_one_and_their_order_is_free(way, ways, curves):
    c, flux, told, _ = curves
    two = torch.cat([c, 0.4 * c[:, :1]], 1).flip(-1)
    two[:, -1] *= 0.6
    again = lambda x: torch.cat([x, x[:, :1]], 1).flip(-1)
    z, ln_mouth, peclet, K_conv, film = map(again, (*told[:4], told.film))
    R, split = ways[way](c, flux, told), ways[way](two, flux, PoreTold(z, ln_mouth, peclet, K_conv, told.charge, film))
    there = R.isfinite()
    assert_allclose(split.flip(-1)[..., :-1][there], R[there], rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("way", ["closed form, rest learnt", "shared field"])
def test_every_permeate_is_neutral(way, ways, curves):
    c, flux, told, _ = curves
    charge = (ways[way](c, flux, told).nan_to_num() * (c * told.z).unsqueeze(1)).numpy()
    assert np.abs(charge.sum(-1)).max() < 1e-4 * np.abs(charge).sum(-1).max()


def test_nothing_is_added_where_the_field_is_constant(bench, ways, curves):
    c, flux, told, _ = curves
    plain, more = SetPoreODENet(6).passage(c, flux, told), ways["closed form, rest learnt"](c, flux, told)
    constant = SetPoreODENet(6).doubt(plain.nan_to_num(1.0), c, flux, told) < 1e-6
    there = plain.isfinite() & constant.unsqueeze(-1)
    assert there.any()
    assert_allclose(more[there], plain[there], rtol=1e-3)


def test_stored_weights_answer_as_the_stored_table_says(bench, ways, curves):
    c, flux, told, exact = curves
    rows = [r for r in json.loads(asset("stand_in.json").read_text())["invented"] if r["membranes"] == "of the answer"]
    for row in rows:
        e = (ways[row["way"]](c, flux, told) - exact)[exact.isfinite()].abs().numpy()
        assert np.median(e) < 5 * row["median"] + 1e-5

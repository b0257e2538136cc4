"""Own values read by a network: anchors, weights of members, several coupons, what it does not know."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode.core import LMH, InputError
from ion_ode.dspmde.charge_pH import factors_of_each
from ion_ode.inference import reader
from ion_ode.inference.answer import load_answer
from ion_ode.inference.calibrate import _own_states
from ion_ode.inference.pores import solve
from ion_ode.inference.states import forward, of_rows, y_of


@pytest.fixture(scope="module")
def model():
    return load_answer("nf270")


def values(R, flux=(10.0, 20.0, 30.0), **more):
    "A mixture's rejections at three fluxes."
    c = {"Na+": 30.0, "Mg+2": 10.0, "Cl-": 50.0}
    rows = [
        {"solution_id": "own", "state_id": k, "ion": i, "c_feed_mol_m3": c[i], "flux_m_s": J * LMH, "kind": "observed",
         "rejection": R[k][j]} for k, J in enumerate(flux) for j, i in enumerate(c)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**more)


@pytest.fixture(scope="module")
def frame(model):
    said = model.predict({"Na+": 30.0, "Mg+2": 10.0, "Cl-": 50.0}, np.array([10, 20, 30]) * LMH)
    return values(said.rejection.to_numpy().reshape(3, 3))


def test_it_says_what_the_pore_model_says(model, frame):
    states, _ = _own_states(frame, model.prior)
    net, anchors, _ = reader._load_reader()
    sample = reader._sample(model, net, 0)
    made = reader._Values.of(states, anchors.at(states, model.prior))
    _, y, _ = reader._weigh(model, made, sample, net, states)
    own = sample.own.reshape(-1, reader._OWN)[:200, :1]
    exact, _ = forward(states, sample.x[:200], sample.lab[:200, None], own, solve, prior=model.prior)
    exact = y_of(of_rows(states, exact))
    off, spread = y[:: reader._OWN][:200] - exact, exact - exact.mean(0)
    assert (off**2).mean() < 0.5 * (spread**2).mean()  # what is left over, the pore model weighs


def test_values_of_a_member_lead_to_it(model):
    feed = {"Na+": 30.0, "Mg+2": 10.0, "Cl-": 50.0}
    R = model.draws(feed, np.array([10, 20, 30]) * LMH)[3][:, 0]
    truth = R[np.abs(R - R.mean(0)).sum((1, 2)).argsort()[-len(R) // 10]]  # further away than nine of ten
    mine = model.calibrate(values(truth), method="network")
    off = lambda m: np.abs(m.predict(feed, np.array([10, 20, 30]) * LMH).rejection.to_numpy() - truth.ravel()).mean()
    assert off(mine) < 0.7 * off(model) and len(mine) == len(model)
    assert any("charge" in s for s in mine.card["taught"]) and mine.card["distinct"] > 5
    with pytest.raises(InputError, match="calibrated already"):
        mine.calibrate(values(truth), method="network")


def test_two_coupons_alike_weigh_twice(model, frame):
    two = pd.concat([frame.assign(coupon="a"), frame.assign(coupon="b")], ignore_index=True)
    two["state_id"] = two.coupon + two.state_id.astype(str)
    net, anchors, _ = reader._load_reader()
    sample = reader._sample(model, net, 0)
    per = []
    for d in (frame, two):
        states, _ = _own_states(d, model.prior)
        per.append(reader._weigh(model, reader._Values.of(states, anchors.at(states, model.prior)), sample, net)[0])
    assert per[1].shape[2] == 2
    assert_allclose(per[1], np.repeat(per[0], 2, 2), rtol=1e-5, atol=1e-4)
    assert len(model.calibrate(two, method="network")) == len(model)


def test_what_it_was_not_taught_is_said(model, frame):
    with pytest.raises(InputError, match="another prior"):
        load_answer("nf").calibrate(frame, method="network")
    with pytest.raises(InputError, match="expected one of sampler, network"):
        model.calibrate(frame, method="magic")
    salt = SimpleNamespace(z=np.array([1.0, 0.0, -1.0]))
    card = reader._load_reader()[2]
    assert "no charge" in reader._unread(model, salt, card)
    other = replace(model, prior=replace(model.prior, coupon_charge=(0.4, 0.5)))
    assert "another prior" in reader._unread(other, SimpleNamespace(z=np.array([1.0, -1.0])), card)


def test_smoothed_membranes_keep_mean_and_covariance(model):
    x = reader.smoothed(model.x, 20_000, np.random.default_rng(0))
    assert_allclose(x.mean(0), model.x.mean(0), atol=0.05)
    assert_allclose(np.cov(x.T), np.cov(model.x.T), atol=0.08)


def test_teaching_lowers_the_error(model):
    from ion_ode.attention_odenet.point_reader import PointReader
    from ion_ode.training.reader import _choose_anchors, _draw_design, _draw_lot, error, teach

    anchors, basis = _choose_anchors([model], n=6, membranes=24, sets=4)
    design = _draw_design(model.prior, np.random.default_rng(0), sets=2, each=2)
    lots = [_draw_lot([model], anchors, design, k, membranes=64) for k in range(2)]
    torch.manual_seed(0)
    net = PointReader(lots[0].membranes.shape[1], torch.as_tensor(basis, dtype=torch.float32), 16)
    before = error(net, lots)
    after = error(teach(net, lots, steps=200, batch=32), lots)
    assert after["ln(1.05 - R)"] < 0.6 * before["ln(1.05 - R)"] and after["R"] < before["R"]


def test_own_values_at_a_pH_tell_the_laws_apart(model):
    "Members are asked with the charge that each one's law gives, and keep their laws."
    states, _ = _own_states(values(np.full((3, 3), 0.6), pH=9.5), model.prior)
    net, anchors, _ = reader._load_reader()
    sample = reader._sample(model, net, 0)
    _, y, _ = reader._weigh(model, reader._Values.of(states, anchors.at(states, model.prior)), sample, net, states)
    own = sample.own.reshape(-1, reader._OWN)[:100, :1]
    asked = (states, sample.x[:100], sample.lab[:100, None], own, solve, model.prior)
    exact = y_of(of_rows(states, forward(*asked, sample.laws[:100])[0]))
    off, spread = y[:: reader._OWN][:100] - exact, exact - exact.mean(0)
    assert (off**2).mean() < 0.5 * (spread**2).mean()
    salt = pd.DataFrame({"sample": ["a", "b"], "flux [LMH]": 20, "Na+ [mM]": 10, "Cl- [mM]": 10, "pH": [6.7, 9.5]})
    factor = {}
    for method in ("network", "sampler"):
        mine = [model.calibrate(salt.assign(**{"Na+ rejection": [0.3, R]}), method=method) for R in (0.4, 0.75)]
        factor[method] = [factors_of_each([9.5], m.laws)[0].mean() for m in mine]
    assert factor["network"][1] > factor["network"][0] + 0.5
    assert_allclose(factor["network"], factor["sampler"], atol=0.25)

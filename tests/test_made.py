"""From a recipe's salts to pores: feeds, fluxes, what is refused, the sign of the charge, and what leaving out says."""

import json

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from ion_ode.core import LMH, InputError
from ion_ode.inference.answer import load_answer
from ion_ode.inference.made import _untried, left_out, membrane_made, pores_of, salt_feed, tried_with
from ion_ode.store import asset


def test_feeds_and_fluxes():
    assert_allclose(list(salt_feed("MgCl2", 952.1).values()), [10.0, 20.0], rtol=1e-3)
    d = tried_with({"NaCl": 0.0}, 10.0, 5.0, 1000.0)
    assert_allclose(d.flux_m_s, 50 * LMH, rtol=1e-12)  # nothing rejected, no osmosis
    held = tried_with({"NaCl": 1.0}, 10.0, 5.0, 1000.0)
    assert_allclose(held.flux_m_s, (5 - 0.8484) * 10 * LMH, rtol=1e-3)  # 17.11 mM of NaCl: .848 bar


def test_the_sign_of_the_charge_is_found():
    "Magnesium held back and sulfate let through speak of a positive membrane; the reverse of a negative one."
    plus = pores_of(membrane_made({"Na2SO4": 0.40, "MgCl2": 0.97, "NaCl": 0.55}, 15.0))
    minus = pores_of(membrane_made({"Na2SO4": 0.98, "MgCl2": 0.30, "NaCl": 0.40}, 15.0))
    row = "charge at 15 eq/m³ [mol/m³]"
    assert plus.positive[row] > minus.positive[row]
    assert (plus["5 %"] <= plus["median"]).all() and (plus["median"] <= plus["95 %"]).all()


def test_refusals():
    with pytest.raises(InputError, match="salt 'NaBr' arrived"):
        salt_feed("NaBr", 1000.0)
    with pytest.raises(InputError, match="1 salts arrived"):
        membrane_made({"NaCl": 0.5}, 10.0)
    with pytest.raises(InputError, match="less than the"):
        tried_with({"NaCl": 0.99}, 10.0, 5.0, 35000.0)


def test_flux_and_rejection_of_an_untried_salt_fit_each_other():
    model = load_answer("nf").thinned(40)
    p = _untried(model, "NaCl", 10.0, 5.0, 1000.0)
    assert_allclose(p.flux_m_s, tried_with({"NaCl": p.rejection}, 10.0, 5.0, 1000.0).flux_m_s[0], rtol=2e-3)
    with pytest.raises(InputError, match="predicted rejection"):
        _untried(model, "NaCl", 10.0, 0.05, 35000.0)


def test_left_out_rows_and_the_stored_study():
    d = pd.DataFrame({"name": list("ab"), "permeance [LMH/bar]": [10.0, 20.0]})
    values = {"Na2SO4": [0.9, 0.8], "MgCl2": [0.7, 0.5], "NaCl": [0.3, 0.2]}
    found = left_out(d.assign(**{f"rejection {s}": v for s, v in values.items()}), tuple(values))
    assert len(found) == 6 and (found.lower <= found.predicted).all() and (found.predicted <= found.upper).all()
    assert_allclose(found.constant, [0.8, 0.5, 0.2, 0.9, 0.7, 0.3])
    blind = _untried(membrane_made({"MgCl2": 0.7, "NaCl": 0.3}, 10.0), "Na2SO4", 10.0, 5.0, 1000.0)
    assert_allclose(found.predicted[0], blind.rejection, rtol=1e-12)  # its own value has no say, not even by osmosis
    study = json.loads(asset("prequalify/left_out.json").read_text())
    rows = pd.read_csv(asset("prequalify/left_out.csv"))
    for salt, g in rows.groupby("salt"):
        assert_allclose(np.sqrt(((g.predicted - g.measured) ** 2).mean()), study["salts"][salt]["rmse"], rtol=1e-3)

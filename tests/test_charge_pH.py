"""The charge of a polyamide over pH: scores of the law that ships, and of fits scored on what they did not see."""

from dataclasses import astuple

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ion_ode import NF270, InputError
from ion_ode.dspmde.charge_pH import (
    FITTED,
    FITTED_SD,
    at_pH,
    charge_factor,
    fit_charge,
    measured_by_pH,
    rejection_by_pH,
)


def rmse(a, b):
    return float(np.sqrt(np.mean((np.asarray(a) - np.asarray(b)) ** 2)))


def test_the_shipped_law_is_the_fit():
    law, sd = fit_charge(measured_by_pH())
    assert (np.abs(np.array(astuple(law)) - astuple(FITTED)) < 0.3 * np.array(astuple(sd))).all()
    assert_allclose(astuple(sd), astuple(FITTED_SD), rtol=0.3)
    assert rmse(rejection_by_pH(measured_by_pH()), measured_by_pH().rejection) < 0.08


def test_a_concentration_at_a_flux_that_the_fit_has_not_seen():
    rows = measured_by_pH()
    guess = np.zeros(len(rows))
    for _, k in rows.groupby(["solution_id", "fast"]).indices.items():
        law, _ = fit_charge(rows.drop(rows.index[k]))
        guess[k] = rejection_by_pH(rows.iloc[k], law)
    assert rmse(guess, rows.rejection) < 0.12 < 0.25 < rmse(rows.rejection.mean(), rows.rejection)


def test_sign_and_words():
    assert FITTED.charge(3.0, 15) > 0 > FITTED.charge(6.0, 15) > FITTED.charge(10.5, 15)
    assert_allclose(charge_factor(7.0), 1.0, rtol=1e-12)
    assert at_pH(NF270, 7.0, 15).charge_density == FITTED.charge(7.0, 15)
    with pytest.warns(UserWarning, match="beyond, the law is extrapolated"):
        at_pH(NF270, 2.0, 15)
    with pytest.raises(InputError, match="pH is 14"):
        at_pH(NF270, 14, 15)

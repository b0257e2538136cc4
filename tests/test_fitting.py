"""Fits: recovery, exact Jacobians, priors, verdicts, what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode.core import InputError
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import Membrane
from ion_ode.dspmde.solve import simulate
from ion_ode.inference.fit import _Model, _spread_at, fit_membrane, observations
from ion_ode.inference.scales import FOUR, Scale, dspmde_plus

TRUE = Membrane(0.47e-9, 1.7e-6, -30.0, 43.0)
FEEDS = [{"Na+": 10, "Cl-": 10}, {"Mg+2": 5, "Na+": 5, "Cl-": 15}, {"Na+": 12, "Cl-": 2, "SO4-2": 5}]
FLUX = torch.tensor([3e-6, 1e-5, 3e-5], dtype=torch.float64)


@pytest.fixture(scope="module")
def table():
    d = simulate(FEEDS, FLUX, TRUE).to_frame().rename(columns={"c_feed": "c_feed_mol_m3"}).assign(kind="intrinsic")
    return d.assign(state_id=d["sample"].astype(str) + "/" + d.flux_m_s.astype(str))


def test_recovers_a_known_membrane(table):
    fit = fit_membrane(table, n_starts=2, n_sobol=32, noise=0.01, intervals="wald")
    m = fit.membrane
    assert_allclose([m.r_pore, m.thickness, m.charge_density, m.eps_pore], [0.47e-9, 1.7e-6, -30.0, 43.0], rtol=2e-3)
    assert fit.rmse < 1e-4 and fit.n_values == len(table)
    inside = (fit.estimates.lower <= fit.estimates.estimate) & (fit.estimates.estimate <= fit.estimates.upper)
    assert inside.all()


def test_jacobian_is_exact(table):
    free = (*FOUR, "charge_density.shift.Mg+2", "ln_partition.Na+", "film.thickness")
    obs = observations(table.assign(kind="observed"))
    m = _Model(obs, free, {"eps_pore": Scale("linear", 25.0, 78.0, (45.0, 8.0))}, TRUE, 2e-5, 0.05, {})
    x = np.array([0.5e-9, np.log(1e-6), -1.5, 41.0, 0.3, 0.2, np.log(3e-5)])
    J = m.jacobians(x[None], m.residuals(x[None])[1])[0]
    for k in range(len(x)):
        h = np.zeros(len(x))
        h[k] = 1e-5 * (m.high - m.low)[k]
        ahead, behind = m.residuals(np.stack([x + h, x - h]))[0]
        numeric = (ahead - behind) / (2 * h[k])
        assert np.abs(numeric - J[:, k]).max() < 1e-4 * np.abs(numeric).max()


def test_film_stands_before_observed_values_only(table):
    obs = observations(pd.concat([table.assign(kind="observed"), table.assign(kind="intrinsic")]))
    m = _Model(obs, ("eps_pore",), None, TRUE, 5e-5, 0.05, {})
    R = m.rejections(np.array([[43.0]]))[0][0]
    plain, film = (simulate(FEEDS, FLUX, TRUE, ions=obs.ions, film=f).rejection for f in (None, Film(thickness=5e-5)))
    for k in range(obs.n_states):
        s = int(obs.run[k].split("/")[0])
        j = int((FLUX - obs.flux[k]).abs().argmin())
        want = (film if obs.kind[k] == "observed" else plain)[s, j]
        assert_allclose(np.nan_to_num(R[k]), np.nan_to_num(want), rtol=1e-4, atol=1e-6)


def test_what_one_salt_cannot_tell(table):
    one = table[table["sample"] == 0]
    fit = fit_membrane(one, ("r_pore", "eps_pore"), start=TRUE, n_starts=1, n_sobol=16, noise=0.05, intervals="profile")
    assert not fit.estimates.identifiable.all() and "not identifiable" in fit.message


def test_only_a_misfit_that_noise_does_not_explain_widens(table):
    m = _Model(observations(table), FOUR, None, TRUE, None, 0.01, {})
    x = np.array([s.to_x(v) for s, v in zip(m.scales, (0.47e-9, 1.7e-6, -30.0, 43.0), strict=True)])
    wave = 0.01 * np.resize([1.0, -1.0], len(m.target))  # 24 residuals of one sigma, 4 parameters
    exact = m.target
    for size, wide in ((1.0, 1.0), (2.0, 4 * 24 / 20)):
        m.target = exact + size * wave
        assert_allclose(_spread_at(m, x)[3], wide, rtol=1e-3)


def test_plus_ties_alkali_ions():
    free, scales = dspmde_plus(("Na+", "Li+", "Mg+2", "Cl-", "NO3-"))
    assert "ln_partition.Na+,Li+" in free and "charge_density.shift.Mg+2" in free
    assert scales["eps_pore"].prior == (45.0, 8.0)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"free": ()}, "free is empty"),
        ({"free": ("radius",)}, "unknown free parameter 'radius'"),
        ({"free": ("r_pore", "r_pore")}, "names a parameter twice"),
        ({"method": "guess"}, "method is 'guess'"),
        ({"intervals": "all"}, "intervals is 'all'"),
        ({"measurements": 5}, "measurements of type int"),
    ],
)
def test_refusals(table, change, words):
    kw = {"measurements": table} | change
    with pytest.raises(InputError, match=words):
        fit_membrane(**kw)


def test_bad_tables(table):
    with pytest.raises(InputError, match="neither rejection nor c_perm"):
        fit_membrane(table.drop(columns=["rejection", "c_perm"]))
    with pytest.raises(InputError, match="are empty"):
        fit_membrane(table.iloc[:0])
    with pytest.raises(InputError, match="not electroneutral"):
        fit_membrane(table[table.ion != "Cl-"])
    with pytest.raises(InputError, match="no measurement has both"):
        fit_membrane(table.assign(flux_m_s=np.nan))

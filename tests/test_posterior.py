"""Posterior membranes: the prior, the polynomial over flux, the tops found, and whether intervals hold the truth."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal, norm

from ion_ode.core import InputError
from ion_ode.data.nf270 import MIXTURES, independent_rows
from ion_ode.dspmde.prior import NAMES, SLOTS, MembranePrior, _parameters, from_normal
from ion_ode.inference.posterior import (
    Experiment,
    _nodes_and_matrix,
    find_modes,
    log_target,
    posterior_membranes,
    predict_membranes,
    sample_posterior,
)


def mixtures():
    d = independent_rows()
    return d[d.composition.isin(MIXTURES)]


def normal(n, seed, scale=1.0):
    return scale * torch.randn(n, len(NAMES), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def some():
    "Composition A and E: intrinsic and through a film, with their measured states thinned."
    df = mixtures().query("composition in ['A', 'E']")
    return df[df.state_id.isin(df.state_id.drop_duplicates()[::2])]


def test_normal_numbers_are_the_quantiles_of_the_simulated_family():
    x = normal(50, 0)
    assert_allclose(from_normal(x), _parameters(norm.cdf(x.numpy()), "dspmde+", SLOTS, MembranePrior()), rtol=1e-6)


def test_the_polynomial_is_exact_for_quartics_in_the_logarithm_of_the_flux():
    flux = np.geomspace(4e-6, 6e-5, 13)
    nodes, matrix = _nodes_and_matrix(flux, 5)
    f = lambda J: 1 - 0.3 * np.log(J / 1e-5) + 0.2 * np.log(J / 1e-5) ** 4
    assert len(nodes) == 5
    assert_allclose(matrix @ f(nodes), f(flux), rtol=1e-9)
    few = np.array([1e-5, 2e-5])
    assert_allclose(_nodes_and_matrix(few, 5)[1], np.eye(2))


def test_the_gradient_of_the_target_vanishes_at_the_tops(some):
    e = Experiment(some)
    x, value, _ = find_modes(e, 0.3, n_starts=8, seed=1)
    assert (value[:-1] >= value[1:]).all()
    rejection, slope = e.ask(x[:1], jacobian=True)
    miss = (rejection - e.rejection) @ e.whiten.T / 0.3
    gradient = ((e.whiten / 0.3 @ slope) * miss[..., None]).sum(1) + x[:1]
    worse = torch.stack([log_target(e, x[:1] + d, e.ask(x[:1] + d)[0], 0.3)[0] for d in normal(20, 2, 0.2)])
    assert gradient.abs().max() < 0.3 and (worse < value[0]).all()


def test_errors_alike_along_a_curve_count_as_one(some):
    """The likelihood with correlated errors is that of scipy's multivariate normal; with all errors of a curve the
    same, more points tell nothing more."""
    rho, noise, x = 0.6, 0.3, normal(3, 4, 0.3)
    plain, alike = Experiment(some), Experiment(some, alike=rho)
    rejection = plain.ask(x)[0]
    sd = noise * (0.05 + 1 - some.rejection.to_numpy()) / np.sqrt(some.weight.to_numpy())
    curve = some.groupby(["solution_id", "ion"]).ngroup().to_numpy()
    cov = np.outer(sd, sd) * (rho * (curve[:, None] == curve) + (1 - rho) * np.eye(len(some)))
    log_p = multivariate_normal(some.rejection, cov).logpdf(rejection)
    ours = log_target(alike, x, rejection, noise) + 0.5 * (x**2).sum(1)
    assert_allclose(ours - ours[0], log_p - log_p[0], rtol=1e-6, atol=1e-6)
    assert not np.allclose(
        ours - ours[0], (log_target(plain, x, rejection, noise) + 0.5 * (x**2).sum(1)).diff(prepend=torch.zeros(1))
    )


def test_a_charge_law_of_the_fraction_itself_changes_nothing(some):
    x = normal(4, 6, 0.5)
    same = Experiment(some, binding=lambda share: share).ask(x)[0]
    assert_allclose(same, Experiment(some).ask(x)[0], rtol=1e-9)
    other = Experiment(some, binding=lambda share: 1.2 * share / (0.2 + share)).ask(x)[0]
    assert not torch.allclose(other, same, rtol=1e-3)


def test_membranes_answer_at_the_temperature_of_a_measurement(some):
    x = normal(2, 8, 0.3)
    assert_allclose(predict_membranes(some, from_normal(x)), Experiment(some, nodes=99).ask(x)[0], rtol=1e-3, atol=1e-4)
    warm = predict_membranes(some.assign(temperature_K=313.15), from_normal(x))
    assert np.abs(warm - predict_membranes(some, from_normal(x))).max() > 1e-3


def test_draws_come_by_weight_and_again_by_seed(some):
    p = sample_posterior(some, n_starts=8, size=64, rounds=3)
    assert_allclose(float(p.weight.sum()), 1)
    assert torch.equal(p.draws(16, seed=3), p.draws(16, seed=3)) and p.draws(16).shape == (16, len(NAMES))
    many = p.pick(4000)
    assert_allclose(many.mean(0), p.weight @ p.x, atol=0.02)


def test_membranes_follow_from_the_measurements_alone(some):
    train = some[some.composition == "A"]
    again = train.assign(note="seen twice")
    membranes = posterior_membranes(train, 4)
    assert_allclose(membranes, posterior_membranes(again, 4), rtol=1e-6)  # sums in BLAS may differ in the last bits
    assert not torch.allclose(membranes, posterior_membranes(some, 4), rtol=1e-2)
    with pytest.raises(InputError, match="noise is -1"):
        posterior_membranes(train, 4, noise=-1)


@pytest.mark.slow
def test_intervals_of_parameters_hold_the_truth():
    """Twelve membranes of the prior, measured with known noise: central 80 % intervals hold about 80 % of their
    parameters."""
    df = mixtures()
    e, inside = Experiment(df, relative=False), []
    for k, truth in enumerate(normal(12, 5)):
        clean = e.ask(truth[None])[0][0]
        if not torch.isfinite(clean).all():
            continue
        noisy = clean.numpy() + np.random.default_rng(k).normal(0, 0.05, len(df)) / np.sqrt(df.weight)
        noisy = noisy.clip(upper=1.0)  # a permeate holds no less than nothing
        p = sample_posterior(df.assign(rejection=noisy), 0.05, relative=False, n_starts=16, rounds=8)
        x = p.pick(400).numpy()
        low, high = np.quantile(x, [0.1, 0.9], axis=0)
        inside.append((low <= truth.numpy()) & (truth.numpy() <= high))
    assert len(inside) >= 8 and 0.68 < np.mean(inside) < 0.92

"""One table of marginals behind the prior of the pore model and that of the answer"""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import ndtr, ndtri
from scipy.stats import kstest, loguniform, norm, truncnorm, uniform

from ion_ode.dspmde.prior import EPS_CUT, MembranePrior
from ion_ode.inference.laws import GLOBALS, LAWS, Prior
from ion_ode.priors import Choice, LogUniform, Uniform

PRIORS = [MembranePrior(), Prior()]


@pytest.mark.parametrize("prior", PRIORS, ids=["pore model", "answer"])
def test_numbers_follow_their_distributions(prior):
    law = prior.marginals()
    got = prior.at_normal(np.random.default_rng(5).standard_normal((4000, len(law))))
    m, (mean, sd) = law["eps_pore"], prior.eps_pore[:2]
    ends = [(v - mean) / sd for v in EPS_CUT]
    for name, known in {
        "r_pore": uniform(prior.r_pore[0], prior.r_pore[1] - prior.r_pore[0]),
        "thickness": loguniform(*prior.thickness),
        "eps_pore": truncnorm(*ends, m.mean, m.sd),
        "ln Cl-" if "ln Cl-" in law else "ln_partition Cl-": norm(0, prior.offset_sd),
    }.items():
        assert kstest(got[name], known.cdf).pvalue > 1e-3, name


@pytest.mark.parametrize("prior", PRIORS, ids=["pore model", "answer"])
def test_normal_numbers_and_quantiles_say_the_same(prior):
    n = np.random.default_rng(2).standard_normal((50, len(prior.marginals())))
    by_normal, by_quantile = prior.at_normal(n), prior.at_quantile(ndtr(n))
    for name, v in by_normal.items():
        assert_allclose(by_quantile[name], v, rtol=1e-9, atol=1e-12, err_msg=name)


def test_torch_and_numpy_say_the_same():
    n = np.random.default_rng(2).standard_normal((50, len(MembranePrior().marginals())))
    for name, v in MembranePrior().at_normal(torch.tensor(n)).items():
        assert_allclose(v, MembranePrior().at_normal(n)[name], rtol=1e-13, err_msg=name)


def test_a_quantile_comes_back():
    u = np.linspace(0.01, 0.99, 9)
    for m in (Uniform(2.0, 5.0), LogUniform(0.1, 30.0)):
        assert_allclose(m.quantile(m.of_quantile(u)), u, rtol=1e-12)


def test_a_choice_has_its_weights():
    u = (np.arange(1000) + 0.5) / 1000
    assert_allclose(np.bincount(Choice(tuple(LAWS.values())).of_quantile(u)) / 1000, list(LAWS.values()), atol=1e-3)
    assert Prior().at_normal(ndtri(u[:, None]), ("law",))["law"].max() == len(LAWS) - 1
    assert list(Prior().marginals()) == list(GLOBALS)


@pytest.mark.parametrize("prior", PRIORS, ids=["pore model", "answer"])
def test_a_stored_prior_is_read_as_it_was(prior):
    assert type(prior).read(json.loads(json.dumps(asdict(prior)))) == prior

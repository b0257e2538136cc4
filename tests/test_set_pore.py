"""Any ion through a pore and a film in closed form: the pore model, traces, gradients, precision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ion_ode.attention_odenet.constraints import charge_residual
from ion_ode.attention_odenet.pore_field import FLUX_TOLD, mouth
from ion_ode.attention_odenet.set_pore import DOUBT, PoreTold, SetPoreODENet, eliminate, goldman_film
from ion_ode.core import InputError
from ion_ode.data.design import sample_feeds, sample_membranes
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.prior import SLOTS
from ion_ode.dspmde.problem import transport_problem
from ion_ode.dspmde.solve import simulate

F64 = torch.float64


def tell(membrane, c_feed, film=None):
    q, _ = transport_problem(SLOTS, c_feed, torch.full((len(c_feed), 1), FLUX_TOLD, dtype=F64), membrane, film)
    film = None if film is None else q.film_peclet.T
    return PoreTold(q.z.T, q.ln_entry.T, q.peclet.T, q.K_conv.T, q.charge, film)


@pytest.mark.parametrize("film", (None, Film(thickness=25e-6)))
def test_it_follows_the_pore_model(film):
    c, membrane = sample_feeds(64, 15), sample_membranes(64, 16)
    flux = torch.linspace(1e-6, 4e-5, 8, dtype=F64).expand(64, -1)
    exact = simulate(c, flux, membrane, ions=SLOTS, film=film, throw=False).rejection
    net = SetPoreODENet().double()
    with torch.no_grad():
        r = net.passage(c, flux, tell(membrane, c, film))
        error = (r - (1 - exact)).abs()[exact.isfinite()]
        assert error.median() < 3e-4 and np.quantile(error, 0.95) < 0.012
        assert charge_residual(net(c, flux, tell(membrane, c, film)), tell(membrane, c).z).max() < 1e-12
        single = SetPoreODENet().passage(c, flux, tell(membrane, c, film))
        assert (single - r).nan_to_num().abs().quantile(0.99) < 1e-4


def test_a_film_of_no_thickness_is_no_film():
    c, membrane = sample_feeds(16, 3), sample_membranes(16, 4)
    told, flux = tell(membrane, c), torch.full((16, 1), 2e-5, dtype=F64)
    net = SetPoreODENet().double()
    with torch.no_grad():
        thin = net.passage(c, flux, told._replace(film=torch.zeros_like(told.peclet)))
        assert_allclose(thin, net.passage(c, flux, told), rtol=1e-6)


@given(seed=st.integers(0, 1000), k=st.integers(0, 8), film=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_vanishing_ion_vanishes(seed, k, film):
    c = sample_feeds(1, seed, equivalents=(5.0, 500.0)).expand(3, -1).clone()
    c[:, k] = torch.tensor([0.0, 1e-9, 1e-9 * 1e-3], dtype=F64)
    z = torch.tensor([1, 1, 1, 2, 2, -1, -2, -1, 1.0], dtype=F64)
    if not ((c[0] > 0) & (z > 0)).any() or not ((c[0] > 0) & (z < 0)).any():
        return
    cations, anions = (c[0] * z.clamp(min=0)).sum(), (c[0] * (-z).clamp(min=0)).sum()
    c[:, z > 0] *= anions / cations
    one = sample_membranes(1, seed)
    told = tell(one, c, Film(thickness=25e-6) if film else None)
    # the charge follows the composition: it is held, so that what is tested is the field
    told = told._replace(charge=told.charge[:1].expand(3))
    flux = torch.tensor([[5e-6, 3e-5]], dtype=F64).expand(3, -1)
    with torch.no_grad():
        r = SetPoreODENet().double().passage(c, flux, told)
    others = c[0] > 0
    moved = (r[1:] - r[:1])[..., others].abs().amax((1, 2))
    assert moved[0] < 1e-6 and moved[1] < 1e-8
    assert torch.isfinite(r[1:, :, k]).all()


def test_gradients_against_differences():
    c, membrane = sample_feeds(4, 7), sample_membranes(4, 8)
    told, net = tell(membrane, c, Film(thickness=25e-6)), SetPoreODENet().double()
    flux = torch.tensor([[3e-6, 3e-5]], dtype=F64).expand(4, -1)
    value = lambda x: net(c, flux, told._replace(charge=x)).square().sum()
    x = told.charge.clone().requires_grad_()
    value(x).backward()
    for k in range(4):
        step = torch.zeros(4, dtype=F64)
        step[k] = 1e-4 * told.charge[k].abs()
        with torch.no_grad():
            slope = (value(told.charge + step) - value(told.charge - step)) / (2 * step[k])
        assert_allclose(x.grad[k], slope, rtol=2e-3, atol=1e-6)


def test_a_rough_curve_is_settled():
    c, membrane = sample_feeds(48, 25), sample_membranes(48, 26)
    flux = torch.linspace(1e-6, 4e-5, 6, dtype=F64).expand(48, -1)
    told, net = tell(membrane, c, Film(thickness=25e-6)), SetPoreODENet().double()
    here = (c > 0)[:, None].expand(-1, 6, -1)
    with torch.no_grad():
        fine = net.passage(c, flux, told, n_steps=48)[here]
        settled = (net.passage(c, flux, told, n_steps=6)[here] - fine).abs()
        net.settle = lambda r, *_: r
        rough = (net.passage(c, flux, told, n_steps=6)[here] - fine).abs()
    for q in (0.5, 0.95):
        assert np.quantile(settled, q) < 0.5 * np.quantile(rough, q)


def test_a_flux_has_no_place_without_its_pore():
    with pytest.raises(InputError, match="leave `weights` out"):
        SetPoreODENet().dense_weights(torch.tensor([[1e-5]]))


def test_pieces():
    A, b = torch.rand(4, 4, 6, dtype=F64) + 4 * torch.eye(4, dtype=F64)[..., None], torch.rand(4, 6, dtype=F64)
    x = torch.stack(eliminate([list(row) for row in A], list(b)))
    assert_allclose(x.T, torch.linalg.solve(A.permute(2, 0, 1), b.T), rtol=1e-9)
    z, s = torch.tensor([[1.0], [2.0], [-1.0]], dtype=F64), torch.tensor([[0.2], [0.15], [0.5]], dtype=F64)
    for charge in (-50.0, -1.0, 0.0, 1.0, 50.0):
        c = mouth(torch.ones(3, 1, dtype=F64), s, z, torch.tensor([charge], dtype=F64))
        assert abs((s * z * c).sum() + charge) < 1e-5 * (1 + abs(charge))
    wall = goldman_film(torch.tensor([[0.1], [0.02], [0.07]], dtype=F64), s, z, torch.full((3, 1), 1.5, dtype=F64))[0]
    assert (wall > 1).all() and abs((s * z * wall).sum()) < 1e-6


def test_states_in_doubt_are_given_away_and_no_others():
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.rand(*shape, generator=g).double()
    z = torch.tensor([1.0, 3.0, -1.0, -2.0]).double()
    c = draw(40, 4) * 10 ** (-2 * draw(40, 4))
    charge = (c * z.clamp(min=0)).sum(1)
    c[:, 3] = 0.4 * charge * draw(40)
    c[:, 2] = charge - 2 * c[:, 3]
    told = PoreTold(
        z.expand(40, -1), -1 - z.abs() * draw(40, 4), 0.3 + draw(40, 4), 0.9 + 0.1 * draw(40, 4), 5 * draw(40) - 4,
        0.3 * draw(40, 4),
    )  # fmt: skip
    flux, net, asked = torch.logspace(-6, -4.5, 5).double().expand(40, -1), SetPoreODENet().double(), []

    def solver(c_feed, at, words):
        asked.append(len(c_feed))
        assert len(c_feed) == len(at) == len(words.charge) == len(words.peclet)
        return torch.full((*at.shape, 4), 0.5).double()

    with torch.no_grad():
        plain, (found, given) = net.passage(c, flux, told), net.passage_or(c, flux, told, solver)
        doubt = net.doubt(plain, c, flux, told)
        every, none = (net.passage_or(c, flux, told, solver, limit=limit) for limit in (-1.0, torch.inf))
    assert torch.equal(given, doubt > DOUBT) and 0 < given.sum() < given.numel()
    assert asked == [int(given.any(1).sum()), 40]
    assert (found[given] == 0.5).all() and torch.equal(found[~given], plain[~given])
    assert every[1].all() and torch.equal(none[0], plain) and not none[1].any()

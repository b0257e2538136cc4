"""The kernel's parts, each by itself: potentials, mouths of the pore, films, Newton's step, certificate."""

import math

import numpy as np
import torch
from numpy.testing import assert_allclose

from ion_ode.dspmde.entry import donnan as donnan_reference
from ion_ode.dspmde.kernel_curves import _extrapolated, _laid_down, _taken_up
from ion_ode.dspmde.kernel_march import explicit
from ion_ode.dspmde.kernel_newton import (
    BELOW,
    CHECKING,
    DONE,
    MESH,
    MESH_FILM,
    SOLVING,
    STAGE,
    TRIED,
    Block,
    _coarser,
    _invert,
    _newton_step,
    _stepped,
    checked,
    judged,
)
from ion_ode.dspmde.kernel_shot import (
    ALPHA,
    BEFORE,
    ERROR,
    FILM_KIND,
    IDEAL,
    LAST,
    LN_FEED,
    NERNST_PLANCK_FILM,
    NO_FILM,
    NORM,
    P_PERM,
    PECLET,
    PLACE,
    _donnan_fill,
    _donnan_start,
    _donnan_step,
    _feed_mouth,
    _permeate_mouth,
    _raised,
    _through_pore,
    _wall_solution,
    davies_shape,
    donnan,
    linear_film,
    neutrality,
    no_film,
    solution_strength,
    stagnant_film,
    strength,
)


def test_davies_bracket_has_the_slope_of_a_difference():
    shape, slope = davies_shape(100.0)
    assert_allclose((davies_shape(100.1)[0] - davies_shape(99.9)[0]) / 0.2, slope, rtol=1e-6)
    assert_allclose(strength(np.array([10.0, 5.0, 20.0]), np.array([1.0, 2.0, -1.0])), 25.0)


def test_a_symmetric_salt_starts_at_its_donnan_potential():
    a, z, c = np.array([7.0, 7.0]), np.array([1.0, -1.0]), np.empty(2)
    start = _donnan_start(a, z, -50.0)
    _donnan_fill(a, c, z, start, 0.0)
    assert abs(_donnan_step(c, z, -50.0, 0.0, 0.0)[0]) < 1e-12


def test_donnan_finds_the_potential_of_the_reference():
    z, a = np.array([1.0, 2.0, -1.0]), np.array([10.0, 5.0, 20.0])
    for law in (0.0, 1.17):
        c = np.empty(3)
        p, s = donnan(a, c, z, -50.0, law, np.nan, 0.0)
        t = lambda v: torch.tensor(v, dtype=torch.float64)
        there = donnan_reference(t(np.log(a))[:, None], t(z)[:, None], t([-50.0]), t([law]) if law else None)
        assert_allclose((p, *c), (float(there[0]), *there[2][:, 0]), rtol=1e-9)
        assert_allclose(z @ c, 50.0, rtol=1e-8)


def test_activities_lead_back_to_concentrations():
    z, c, back = np.array([1.0, 2.0, -1.0]), np.array([10.0, 5.0, 20.0]), np.empty(3)
    s = solution_strength(c * np.exp(-1.17 * z**2 * davies_shape(strength(c, z))[0]), back, z, 1.17)
    assert_allclose(back, c, rtol=1e-10)
    assert_allclose(math.exp(s), strength(c, z), rtol=1e-10)


def test_one_problem_from_the_permeate_to_the_feed():
    "The mouths, the wall, three films and a pore without flux, one after the other."
    z = np.array([1.0, 2.0, -1.0])
    q = np.array([np.log([[10.0], [5.0], [20.0]]), [[0.1], [0.02], [0.2]]])
    q = np.concatenate([q, np.ones((2, 3, 1))])
    own, form, u = np.array([[-50.0], [0.0]]), np.array([IDEAL, NO_FILM, 0, 0]), np.log([[9.0], [4.0], [17.0], [np.e]])
    state, c, T, c_p = np.full((2, 1), np.nan), np.empty((3, 1)), np.empty((3, 3, 1)), np.empty((3, 1))
    _permeate_mouth(z, q, own, form, u, state, c, T, c_p, *np.empty((3, 3)))
    assert_allclose(z @ c, 50.0, rtol=1e-8)
    assert_allclose(np.einsum("i,ijk", z, T), 0.0, atol=1e-9)

    at_wall, dln_w = np.empty((3, 1)), np.empty((3, 4, 1))
    u[3] = state[P_PERM]
    _feed_mouth(z, q, own, form, u, c, T, at_wall, dln_w)
    assert_allclose(np.log(at_wall), u[:3], rtol=1e-10)
    at_wall[:] = np.exp(q[LN_FEED])

    c_wall, r, J = np.empty((3, 1)), np.empty((4, 1)), np.zeros((4, 4, 1))
    _wall_solution(z, own, form, at_wall, dln_w, c_wall, *np.empty((2, 3)))
    neutrality(c_wall, z, 3, r, J, 0, np.empty((3, 0, 1)), False)
    assert_allclose(r[3], 0.0, atol=1e-14)

    no_film(explicit, explicit, z, q, own, form, u, at_wall, dln_w, c_wall, c_wall, 1, r, J)
    assert_allclose(r[:3], 0.0, atol=1e-14)

    thin = np.concatenate([q, np.full((1, 3, 1), 1e-9)])
    stagnant_film(explicit, explicit, z, thin, own, form, u, at_wall, dln_w, c_wall, c_wall, 4, r, J)
    assert_allclose(r[:3], 0.0, atol=1e-9)

    slow = np.concatenate([q, np.zeros((1, 3, 1)), np.ones((1, 3, 1))])
    r5, J5, u5 = np.empty((5, 1)), np.zeros((5, 5, 1)), np.zeros((5, 1))
    linear_film(explicit, explicit, z, slow, own, form, u5, at_wall, dln_w, c_wall, c_wall, 1, r5, J5)
    assert_allclose(r5[[0, 1, 2, 4]], 0.0, atol=1e-14)

    still, here = q.copy(), c.copy()
    still[PECLET] = 0.0
    _through_pore(explicit, explicit, z, still, form, here, np.empty((3, 0, 1)), c, *np.empty((2, 3, 1)), 4)
    assert_allclose(here, c, rtol=1e-14)
    _through_pore(explicit, explicit, z, q, form, here, np.empty((3, 0, 1)), 0 * c, *np.empty((2, 3, 1)), 4)
    assert_allclose(z @ here, z @ c, rtol=1e-12)


def test_an_inverse_times_its_matrix_is_one():
    J = np.array([[4.0, 1.0], [2.0, 3.0]])[..., None]
    inverse = np.empty((1, 2, 2))
    _invert.py_func(J, 0, inverse, 0, np.empty((2, 2)), np.empty(2, int))
    assert_allclose(J[..., 0] @ inverse[0], np.eye(2), atol=1e-14)


def test_rows_are_exchanged_where_a_pivot_is_small():
    A = np.random.default_rng(0).normal(size=(9, 9))
    A[0, 0] = A[3, 3] = 0.0
    inverse = np.empty((1, 9, 9))
    _invert.py_func(A[..., None], 0, inverse, 0, np.empty((9, 9)), np.empty(9, int))
    assert_allclose(A @ inverse[0], np.eye(9), atol=1e-12)
    _invert.py_func(np.ones((2, 2, 1)), 0, inverse, 0, np.empty((2, 2)), np.empty(2, int))
    assert np.isnan(inverse[0, 0, 0])


def test_a_jacobian_is_taken_on_half_the_mesh():
    assert _coarser(64) == 32 and _coarser(4) == 4 and _coarser(-64) == -32


def a_block(r, inverse):
    "One problem with one unknown, as the kernel sees it."
    count, state = np.zeros((9, 1), np.int64), np.full((9, 1), np.inf)
    count[MESH], state[ALPHA] = 16, 1.0
    empty, one = np.empty((0, 0, 1)), np.zeros((1, 1))
    return Block(np.ones(1), np.zeros(4, np.int64), empty, np.zeros((2, 1)), *np.zeros((3, 1, 1)),
                 np.full((1, 1), r), np.full((1, 1, 1), inverse), count, state, one)  # fmt: skip


def test_newton_takes_the_whole_way_or_half_of_it():
    b = a_block(-3.0, 1.0)
    assert _newton_step(b, 0) == (3.0, 3.0) and b.step[0, 0] == 3.0
    assert judged(b, 0) == 1 and b.state[NORM, 0] == 3.0  # the first point has no inverse yet
    b.r[:] = 4.0
    assert judged(b, 0) == 2 and b.state[ALPHA, 0] == 0.5  # farther off: half the step


def test_a_step_that_gains_nothing_renews_the_inverse():
    b = a_block(1e-8, 1.0)
    b.state[LAST] = 2e-8
    stepped_ = lambda b, tol: _stepped(b, 0, 1e-2, tol)
    assert not stepped_(b, 1e-6) and b.count[STAGE, 0] == SOLVING
    b.state[LAST] = 1.0
    assert stepped_(b, 1e-6) and b.count[STAGE, 0] == BELOW and b.count[MESH, 0] == 16 and b.u[0, 0] == -1e-8


def check_of(kind, *steps, mesh=16, before=np.inf):
    b = a_block(0.0, 1.0)
    b.form[:], b.count[MESH], b.state[BEFORE] = 0, mesh, before
    b.form[FILM_KIND], b.count[STAGE], b.count[TRIED] = kind, CHECKING, 0
    for s in steps:
        b.r[:] = s
        checked(b, 0, 1e-6)
    return int(b.count[STAGE, 0]), int(b.count[MESH, 0]), float(b.state[ERROR, 0])


def test_behind_a_film_a_first_step_is_not_believed():
    assert check_of(NO_FILM, 1e-7) == (DONE, 16, 5e-8)
    assert check_of(NERNST_PLANCK_FILM, 1e-7)[:2] == (CHECKING, 16)  # in doubt
    assert check_of(NERNST_PLANCK_FILM, 1e-7, 2e-8)[:2] == (DONE, 16)
    assert check_of(NERNST_PLANCK_FILM, 2e-6, 3e-7)[:2] == (CHECKING, 32)  # a good measure: a finer mesh
    assert check_of(NERNST_PLANCK_FILM, 1e-7, 1e-6)[:2] == (SOLVING, 16)  # no gain on this mesh: a new inverse


def test_on_fine_meshes_a_correction_is_believed_where_the_one_before_agrees():
    fine = lambda size, before: check_of(NO_FILM, size, mesh=64, before=before)
    assert fine(2e-7, 32e-7) == (DONE, 64, 4e-7)  # as the fourth order has it
    assert fine(2e-7, 9e-6)[:2] == (CHECKING, 128)  # fallen too fast: the error may just have changed its sign
    assert fine(2e-7, np.inf)[:2] == (CHECKING, 128)  # no march on half the mesh
    assert fine(2e-6, 3e-6)[:2] == (SOLVING, 64)  # hardly fallen: an inverse of another place


def test_exponential_steps_are_believed_on_two_corrections_also_behind_a_film():
    steep = lambda before: check_of(NERNST_PLANCK_FILM, 1e-8, mesh=-64, before=before)
    assert steep(np.inf)[:2] == (CHECKING, -128) and steep(1e-7) == (DONE, -64, 2e-7)
    assert steep(5e-6)[:2] == (CHECKING, -128)  # fallen too fast


def test_a_power_is_a_product():
    assert (_raised(2.0, 3.0), _raised(2.0, -2.0), _raised(2.0, 0.0)) == (8.0, 0.25, 1.0)


def test_a_cubic_is_followed_exactly():
    past, x, u = np.zeros((4, 1, 1)), np.arange(4.0)[:, None], np.zeros((1, 1))
    past[:, 0, 0] = x[:, 0] ** 3
    _extrapolated.py_func(past, x, 4, 5.0, u, 0)
    assert_allclose(u, 125.0)  # a cubic is followed exactly


def test_a_block_takes_up_a_problem_and_lays_its_root_down_there():
    b, u = a_block(0.0, 1.0), np.array([[4.0, 5.0, 6.0]])
    q, own, flux, at = np.array([[[1.0]], [[2.0]], [[3.0]], [[2.0]]]), np.zeros((2, 1)), np.array([0.5, 2.0, 4]), [1]
    count, state, memory = np.zeros((9, 3), np.int64), np.ones((9, 3)), (np.zeros((4, 1, 1)), np.zeros((4, 1)))
    have = np.zeros(1, np.int64)
    b = b._replace(q=np.empty((4, 1, 1)), form=np.array([0, NO_FILM, 0, 2, 1]))
    _taken_up.py_func(b, q, own, flux, u, at, *memory, have, 1e-6)
    assert b.u[0, 0] == 5.0 and b.q.ravel().tolist() == [1.0, 2.0, 6.0, 2.0]  # the Péclet number alone knows the flux
    assert b.count[[MESH, MESH_FILM], 0].tolist() == [32, 1] and b.state[PLACE, 0] == np.log(6.0)
    b.u[:] = 7.0
    _laid_down.py_func(b, u, np.empty((1, 0)), count, state, at, *memory, have)
    assert (u == [[4.0, 7.0, 6.0]]).all() and have == 1

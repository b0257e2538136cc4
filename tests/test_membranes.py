"""Membranes: what is refused, charge laws, the table, features."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode.core import InputError
from ion_ode.dspmde.membranes import (
    NF270_WATERTAP,
    ChargeBinding,
    Freundlich,
    Membrane,
    charge_of_feed,
    feature_names,
    get_membrane,
    membrane_features,
    membrane_table,
    read_membrane_table,
)
from ion_ode.water.activity import debye_huckel_A, ionic_strength, ln_gamma_davies

f64 = lambda v: torch.tensor(v, dtype=torch.float64)
HEADER = "name,r_pore_nm,thickness_um,charge_density_mol_m3,eps_pore,permeability_LMH_bar,source,doi,note\n"


@pytest.mark.parametrize(
    "change, words",
    [
        ({"r_pore": -1e-9}, "r_pore is -1e-09, expected a radius in metres"),
        ({"r_pore": 0.5}, "r_pore is 0.5, expected a radius in metres"),
        ({"thickness": float("inf")}, "thickness is inf"),
        ({"eps_pore": 0.5}, "expected a relative permittivity above 1"),
        ({"charge_density": float("nan")}, "charge_density is nan"),
        ({"charge_density": Freundlich(1.0, float("nan"))}, "charge_density.b is nan"),
        ({"permeability": 0.0}, "permeability is 0.0"),
        ({"ln_partition": {"Na+": float("nan")}}, "ln_partition of Na"),
        ({"ln_partition": {"Xx+": 1.0}}, "unknown ion"),
        ({"eps_pore": torch.ones(2, 2) * 40}, "has shape .2, 2."),
    ],
)
def test_impossible_membranes_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        NF270_WATERTAP.with_(**change)


def test_table_rows_can_be_added(tmp_path):
    csv = tmp_path / "mine.csv"
    csv.write_text(HEADER + "NF-test,0.45,1.2,-30,42,,my fit,,\n")
    mine = read_membrane_table(csv)["NF-test"]
    assert mine == get_membrane("NF-test") == Membrane(0.45 * 1e-9, 1.2 * 1e-6, -30.0, 42.0)
    assert "NF-test" in set(membrane_table().name) and (membrane_table().source != "").all()


@pytest.mark.parametrize(
    "text, words",
    [
        ("name,r_pore_nm\nA,1\n", "lacks the column"),
        (HEADER, "holds no membrane"),
        (HEADER + "A,x,1,1,40,,s,,\n", "line 2: could not convert"),
        (HEADER + "A,-1,1,1,40,,s,,\n", "line 2: r_pore is"),
        (HEADER + "A,0.5,1,1,40,,,,\n", "a name and a source are needed"),
        (HEADER + "NF270,0.6,1,1,40,,s,,\n", "already in the table with other numbers"),
    ],
)
def test_bad_tables_name_the_line(tmp_path, text, words):
    csv = tmp_path / "bad.csv"
    csv.write_text(text)
    before = len(membrane_table())
    with pytest.raises(InputError, match=words):
        read_membrane_table(csv)
    assert len(membrane_table()) == before


def test_charge_laws_and_their_limits():
    names, z = ("Mg+2", "Na+", "Cl-", "SO4-2"), f64([2.0, 1.0, -1.0, -2.0])
    c = f64([[5.0, 0.0, 10.0, 0.0], [0.0, 20.0, 0.0, 10.0], [5.0, 10.0, 10.0, 5.0]])
    law = ChargeBinding(Freundlich(-10.0, 0.5), {"Mg2+": 8.0, "sulfate": -6.0})
    eq = f64([10.0, 20.0, 20.0])
    assert_allclose(charge_of_feed(law, c, z, names), -10 * eq.sqrt() + f64([8.0, -6.0, 4.0 - 3.0]), rtol=1e-12)


def test_features_are_named_differentiable_and_complete():
    m = Membrane(
        f64([0.4e-9, 0.5e-9]), 1e-6, ChargeBinding(f64([-50.0, 0.0]), {"Mg+2": 20.0}), 45.0, ln_partition={"NO3-": 0.5}
    )
    x = membrane_features(m)
    names = feature_names()
    assert x.shape == (2, len(names)) and x.dtype == torch.float64
    assert_allclose(x[:, names.index("shift.Mg+2")], 1.0)
    assert_allclose(x[:, names.index("ln_partition.NO3-")], 0.5)
    assert_allclose(x[:, names.index("charge")], [-1.0, 0.0])
    with pytest.raises(InputError, match="terms for NO3-"):
        membrane_features(m, ions=("Na+", "Mg+2", "Cl-"))
    eps = torch.tensor(41.0, dtype=torch.float64, requires_grad=True)
    membrane_features(NF270_WATERTAP.with_(eps_pore=eps)).sum().backward()
    assert_allclose(eps.grad, 0.1)


def test_tensors_lists_every_number():
    m = NF270_WATERTAP.with_(
        charge_density=ChargeBinding(Freundlich(-5.0, 0.3), {"Mg+2": 1.0}), ln_partition={"Cl-": -0.2}
    )
    assert set(m.tensors()) == {
        "r_pore", "thickness", "eps_pore", "permeability", "charge_density.shift.Mg+2", "charge_density.a",
        "charge_density.b", "ln_partition.Cl-",
    }  # fmt: skip


def test_davies():
    A = debye_huckel_A()
    c, z = f64([20.0, 40.0]), f64([2.0, -1.0])
    I = ionic_strength(c, z)
    assert_allclose(I, 60.0)
    want = -A * np.log(10) * 4 * (np.sqrt(0.06) / (1 + np.sqrt(0.06)) - 0.3 * 0.06)
    assert_allclose(ln_gamma_davies(I, z, A)[0], want, rtol=1e-12)

"""What needs no tensor loads no torch, and gives the numbers that tensors give"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ion_ode.core import LMH
from ion_ode.dspmde.arrays import permeates
from ion_ode.dspmde.feed import feed_array, read_feed
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import NF270
from ion_ode.dspmde.solve import simulate

CLI = """
import sys
from ion_ode.cli import main
command, *without = sys.argv[1:]
try:
    main([command, "--feed", "Na+=10,Mg+2=5,Cl-=20", "--flux", "5,20"])
except SystemExit as e:
    assert not e.code
print([m for m in without if m in sys.modules])
"""


@pytest.mark.parametrize(("command", "without"), [("predict", ("torch",)), ("simulate", ("pandas", "numba"))])
def test_one_feed_is_answered_without(command, without):
    asked = [sys.executable, "-c", CLI, command, *without, "scipy.stats", "matplotlib"]
    out = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]" and "Mg+2" in out


def test_arrays_and_tensors_have_the_same_answer():
    c, flux = np.array([[10.0, 5.0, 20.0], [1.0, 2.0, 5.0]]), np.array([[5.0, 20.0, 60.0]] * 2) * LMH
    names = ("Na+", "Mg+2", "Cl-")
    for film in (None, Film(thickness=25e-6)):
        perm, wall = permeates(names, c, flux, NF270, film)
        s = simulate(torch.from_numpy(c), torch.from_numpy(flux), ions=names, film=film)
        assert_allclose(perm, s.c_perm, rtol=1e-10)
        assert_allclose(wall, s.c_wall, rtol=1e-10)


def test_a_feed_is_read_alike_in_numpy_and_torch():
    for feed in ({"Na+": [10, 10.05], "Cl-": 10.1}, [{"Mg+2": 1, "Cl-": 2}, {"Na+": 1, "Cl-": 1}], {"glucose": 3.0}):
        for balance in (None, "Na+") if "glucose" not in feed else (None,):
            (names, c), (same, t) = feed_array(feed, None, balance), read_feed(feed, None, balance)
            assert names == same and isinstance(c, np.ndarray)
            assert_allclose(c, t, rtol=1e-14)

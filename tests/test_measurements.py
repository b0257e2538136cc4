"""The passes that make measurements of a table, each by itself."""

import pandas as pd
from fastcore.test import expect_fail

from ion_ode.core import InputError
from ion_ode.data.measurements import _bounds, _columns, _states


def test_columns_are_named_typed_and_filled():
    d = _columns(
        pd.DataFrame(
            {"ion": ["sodium", "Cl-"], "c_feed_mol_m3": [10, 10], "rejection": [0.5, 0.0], "censored": [False, True]}
        )
    )
    assert d.ion.tolist() == ["Na+", "Cl-"] and (d.kind == "observed").all() and _bounds(d).tolist() == ["", "<"]
    with expect_fail(InputError, "lack the column"):
        _columns(pd.DataFrame({"ion": ["Na+"]}))


def test_rows_that_agree_are_one_state():
    runs = pd.DataFrame(
        {
            "ion": ["Na+"] * 3,
            "c_feed_mol_m3": 1.0,
            "rejection": 0.5,
            "solution_id": ["a", "a", "b"],
            "flux_m_s": [1e-5, 2e-5, 1e-5],
        }
    )
    assert _states(_columns(runs)).state_id.tolist() == ["a/01", "a/02", "b/01"]
    with expect_fail(InputError, "run x has two values of flux_m_s"):
        _states(_columns(runs.assign(state_id="x")))

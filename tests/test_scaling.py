"""What a plant's concentrate may drop."""

from types import SimpleNamespace

import numpy as np

from ion_ode.module.scaling import saturation

IONS = ("Na+", "Ca+2", "Mg+2", "Cl-", "SO4-2", "HCO3-")


def test_a_concentrate_nears_saturation():
    feed = np.array([[3.0, 3.0, 1.0, 3.0, 2.0, 4.0]])
    d = saturation(SimpleNamespace(ions=IONS, c_feed=feed, c_conc=2 * feed), 7.4)
    a, b = (d[d.water == w].iloc[0] for w in ("feed", "concentrate"))
    assert 0.2 < b.gypsum - a.gypsum < 0.6  # twice each ion is .6 in the product, less the activities
    assert 7.6 < b.pH < 7.75  # twice the bicarbonate over the same CO2: log10(2)
    assert b.calcite > a.calcite + 0.5
    same = saturation(SimpleNamespace(ions=IONS, c_feed=feed, c_conc=feed), 7.4)
    np.testing.assert_allclose(same.iloc[1, 2:].astype(float), same.iloc[0, 2:].astype(float), atol=1e-3)

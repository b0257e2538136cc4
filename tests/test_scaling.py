"""What a plant's concentrate may drop."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from click.testing import CliRunner

from ion_ode.cli import main
from ion_ode.module.answers import simulate_plant
from ion_ode.module.plant import Stage
from ion_ode.module.scaling import saturation, saturation_along

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


def test_scale_along_a_vessel_and_a_plant_at_its_pH(tmp_path):
    well = {"Na+": 14.8, "Ca+2": 5.56, "Mg+2": 4.4, "Cl-": 25.56, "SO4-2": 1.83, "HCO3-": 5.5}
    run = {"feed_flow": 8 / 3600, "recovery": 0.6, "balance": "Cl-"}
    s = simulate_plant(well, Stage(elements=2), **run, pH=9.0)
    near = simulate_plant(well, Stage(elements=2), **run)
    salt = [s.ions.index("Na+"), s.ions.index("SO4-2")]
    assert (s.rejection[0, salt] > near.rejection[0, salt] + 0.03).all()  # more charge at 9
    d = saturation_along(s, 7.6)
    bulk, wall = (d[d["at"] == w].reset_index(drop=True) for w in ("bulk", "wall"))
    assert (wall.gypsum > bulk.gypsum).all() and (np.diff(bulk.gypsum) > 0).all()
    ends = saturation(s, 7.6).set_index("water")
    assert ends.gypsum["feed"] < bulk.gypsum.iloc[0] < bulk.gypsum.iloc[-1] < ends.gypsum["concentrate"]
    way = tmp_path / "way.csv"
    feed = ",".join(f"{i}={c}" for i, c in well.items())
    said = ["module", "--feed", feed, "--balance", "Cl-", "--elements", "2", "--feed-flow", "8", "--recovery", "60"]
    done = CliRunner().invoke(main, [*said, "--ph", "7.6", "--profile", str(way)])
    assert done.exit_code == 0 and "saturation indices" in done.output, done.output
    assert {"pH_wall", "gypsum_wall", "calcite_wall"} <= set(pd.read_csv(way))

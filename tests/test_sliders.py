"The figure with sliders: neutral feeds, one question for each move, words where no feed is neutral."

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from ion_ode.core import InputError
from ion_ode.sliders import feed_sliders
from ion_ode.water.ions import get_ion

SALT = {"Na+": 10.0, "Mg+2": 5.0, "Cl-": 20.0}


class Asked:
    "Keeps the feeds it is asked for; rejects half of everything."

    def __init__(self):
        self.feeds = []

    def predict(self, feed, flux):
        self.feeds.append(feed)
        rows = [(i, f, 0.5, 0.4, 0.6) for i in feed for f in flux]
        return pd.DataFrame(rows, columns=["ion", "flux_m_s", "rejection", "lower", "upper"])


def test_a_move_asks_again_with_a_neutral_feed():
    pytest.importorskip("ipywidgets")
    model, others = Asked(), plt.get_fignums()
    box = feed_sliders(model, SALT, flux=[1e-5, 2e-5])
    first, second = box.children[:2]
    assert len(box.children) == 3 and len(model.feeds) == 1
    first.value = 40.0
    assert len(model.feeds) == 2
    charge = sum(get_ion(i).z * c for i, c in model.feeds[-1].items())
    assert abs(charge) < 1e-9 and model.feeds[-1]["Na+"] == pytest.approx(40.0)
    second.value = 0.5
    assert model.feeds[-1]["Mg+2"] == pytest.approx(0.5) and model.feeds[-1]["Cl-"] == pytest.approx(41.0)
    assert plt.get_fignums() == others


def test_no_neutral_feed_is_said_and_not_asked(capsys):
    pytest.importorskip("ipywidgets")
    model = Asked()
    box = feed_sliders(model, {"Na+": 10.0, "SO4-2": 2.0, "Cl-": 6.0}, flux=[1e-5])
    box.children[1].value = 20.0
    assert len(model.feeds) == 1 and "this feed cannot be balanced with Cl-" in capsys.readouterr().out


@pytest.mark.parametrize("feed, by", [({"Na+": 10.0}, None), (SALT, "K+")])
def test_what_cannot_be_balanced(feed, by):
    pytest.importorskip("ipywidgets")
    with pytest.raises(InputError):
        feed_sliders(Asked(), feed, by=by)

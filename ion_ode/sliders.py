"""A figure with sliders for `predict`, in a notebook"""

import numpy as np

from ion_ode.core import LMH, InputError, need
from ion_ode.plotting import ION_COLORS, plot_rejection
from ion_ode.water.ions import get_ion, ion_label
from ion_ode.water.neutrality import close_charge

__all__ = ["feed_sliders"]


def _counter_ion(feed: dict[str, float]) -> str:
    charged = [ion for ion in feed if get_ion(ion).z]
    if len(charged) < 2:
        raise InputError(f"the feed holds {', '.join(feed) or 'nothing'}; give at least two ions of opposite charge")
    return max(charged, key=lambda ion: (get_ion(ion).z < 0, feed[ion]))


def feed_sliders(
    model,  # What has predict(feed, flux): load_model("nf270"), or what its calibrate returns
    feed: dict[str, float],  # Ion -> concentration at the start [mol/m³]
    flux=None,  # Fluxes of the curve [m/s]; None: ten from 5 to 100 L/m²/h
    span: float = 10.0,  # A slider goes from 1/span of the start to span times it
    by: str | None = None,  # Ion without a slider, which keeps the feed neutral; None: the most abundant anion
    **told,  # Handed on to predict
):  # ipywidgets.VBox with the sliders and the figure
    "Rejection with its interval against flux, and a slider for each ion: move one and the model is asked again."
    widgets = need("ipywidgets", "book")
    by = by or _counter_ion(feed)
    if by not in feed:
        raise InputError(f"by is {by!r}, which is not in the feed; choose one of {', '.join(feed)}")
    flux = np.linspace(5, 100, 10) * LMH if flux is None else flux
    sliders = {
        ion: widgets.FloatLogSlider(
            value=c, min=np.log10(c / span), max=np.log10(c * span), step=0.02, description=f"{ion_label(ion)} [mM]",
            readout_format=".3g", continuous_update=False, style={"handle_color": ION_COLORS.get(ion)},
        )
        for ion, c in feed.items() if ion != by
    }  # fmt: skip
    drawn = widgets.Output()

    def draw(_=None):
        c = np.array([[s.value for s in sliders.values()] + [0.0]])
        ions = (*sliders, by)
        with drawn:
            drawn.clear_output(wait=True)
            try:
                c = close_charge(c, ions, by, lambda k: "this feed").applied(c)
            except InputError as e:
                print(e)
                return
            water = dict(zip(ions, c[0].tolist(), strict=True))
            _show(model.predict(water, flux, **told), water)

    for s in sliders.values():
        s.observe(draw, "value")
    draw()
    return widgets.VBox([*sliders.values(), drawn])


def _show(answer, water: dict[str, float]) -> None:
    import matplotlib.pyplot as plt
    from IPython.display import display

    fig, ax = plt.subplots()
    plot_rejection(answer, ax)
    words = ", ".join(f"{ion_label(i)} {c:.3g}" for i, c in water.items())
    ax.set_title(f"{words} mol/m³", fontsize="small")
    display(fig)
    plt.close(fig)

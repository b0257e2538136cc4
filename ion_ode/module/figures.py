"""How a module looks along its channel

Docs: https://ion-ode.github.io/ion_ode/module.html.md"""

import pandas as pd

from ion_ode.core import LMH, bar
from ion_ode.plotting import ION_COLORS, PAGE_WIDTH, ion_legend

__all__ = ["plot_profile"]


def plot_profile(
    frame: pd.DataFrame,  # From `profile`
    axes=None,  # Three axes
):  # The axes
    "Water flux, pressure, and bulk and wall concentrations along every stage."
    import matplotlib.pyplot as plt

    from ion_ode.water.ions import ion_label

    fig = None
    if axes is None:
        fig, axes = plt.subplots(1, 3, figsize=(PAGE_WIDTH, 2.5), constrained_layout=True)
    way = frame.assign(way=frame.stage - 1 + frame.share)
    one = way[way.ion == way.ion.iloc[0]]
    axes[0].plot(one.way, one.flux_m_s / LMH, "k")
    axes[1].plot(one.way, one.pressure_Pa / bar, "k")
    for ion, g in way.groupby("ion", sort=False):
        color = ION_COLORS.get(ion, "0.4")
        axes[2].semilogy(g.way, g.c_bulk, color=color, label=ion_label(ion))
        axes[2].semilogy(g.way, g.c_wall, "--", color=color)
    labels = ("Water flux (L m⁻² h⁻¹)", "Pressure (bar)", "Bulk –, wall - - (mol m⁻³)")
    for ax, label in zip(axes, labels, strict=True):
        ax.set(xlabel="Share of the membrane" + (", by stage" if way.stage.max() > 1 else ""), ylabel=label)
    if fig is None:
        axes[2].legend(fontsize="x-small", ncols=2)
    else:
        ion_legend(fig, set(way.ion), marker=False)
    return axes

"""Rejections as a table that draws itself"""

import pandas as pd

from ion_ode.core import InputError
from ion_ode.water.feeds import measured_in_si


class Rejections(pd.DataFrame):
    "A tidy table of rejections that draws itself; what is cut or computed from it is a plain DataFrame."

    def plot(
        self,
        ax=None,  # Axes for a single feed
        measured: pd.DataFrame | None = None,  # Measurements to set beside: flux_m_s, ion, rejection, or with units
        sample=None,  # One feed of several, by its name in the column `sample`
    ):  # The axes; an array of them for several feeds
        "Rejection against water flux, a panel a feed."
        from ion_ode.plotting import plot_samples

        rows = self if sample is None else self[self["sample"] == sample]
        if rows.empty:
            raise InputError(
                f"there is no sample {sample!r}; the table holds {list(dict.fromkeys(self['sample']))[:10]}"
            )
        return plot_samples(pd.DataFrame(rows), ax, None if measured is None else measured_in_si(measured))

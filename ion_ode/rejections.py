"""Rejections as a table that draws itself"""

import pandas as pd

from ion_ode.core import InputError
from ion_ode.water.feeds import measured_in_si


class Rejections(pd.DataFrame):
    "A tidy table of rejections that draws itself; what is cut or computed from it is a plain DataFrame."

    def _printed(self) -> pd.DataFrame:
        "Fluxes of some 1e-6 m/s with three digits, where pandas would keep one or none."
        d = pd.DataFrame(self)
        if "flux_m_s" not in d:
            return d
        return d.assign(flux_m_s=d.flux_m_s.map({v: f"{v:.3g}" for v in d.flux_m_s.unique()}))

    def __repr__(self):
        return repr(self._printed())

    def _repr_html_(self):
        return self._printed()._repr_html_()

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

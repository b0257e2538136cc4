"""Saturation of gypsum, calcite and others in a plant's feed and concentrate

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

import numpy as np

from ion_ode.core import T_REF
from ion_ode.water.chemistry import carried, pH_of, speciate

__all__ = ["saturation"]


def saturation(
    s,  # PlantSolution
    pH: float,  # Of the feed
    temperature: float = T_REF,  # $T$ [K]
) -> "pd.DataFrame":  # A row a sample and water (feed, concentrate): pH and saturation indices
    "Saturation indices before and after a plant; the concentrate's pH from the carbonate it holds, no gas leaving."
    import pandas as pd

    rows = []
    for k, (feed, conc) in enumerate(zip(s.c_feed, s.c_conc, strict=True)):
        water = {i: float(c) for i, c in zip(s.ions, feed, strict=True) if c > 0}
        first = speciate(water, pH, temperature)
        rows.append({"sample": k, "water": "feed", "pH": pH, **first.saturation})
        if np.isfinite(conc).all():
            out = {i: float(c) for i, c in zip(s.ions, conc, strict=True) if c > 0}
            solutes = carried(first)
            if "HCO3-" in out:  # CO2 passes a membrane: its concentration stays, that of the bases follows HCO3-
                up = out["HCO3-"] / water["HCO3-"]
                out |= {i: solutes[i] * up for i in ("HCO3-", "CO3-2", "OH-") if i in solutes} | {"CO2": solutes["CO2"]}
            last = pH_of(out | {"H+": solutes["H+"]}, temperature)
            rows.append({"sample": k, "water": "concentrate", "pH": last.pH, **last.saturation})
    return pd.DataFrame(rows)

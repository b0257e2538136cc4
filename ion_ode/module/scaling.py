"""Saturation of gypsum, calcite and others in a plant's feed and concentrate, and along its vessels

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

import numpy as np

from ion_ode.core import T_REF
from ion_ode.module.answers import profile
from ion_ode.water.chemistry import Speciation, carried, pH_of, speciate

__all__ = ["saturation", "saturation_along"]


def _concentrated(first: Speciation, water: dict, out: dict, temperature: float) -> Speciation:
    "A water that a plant has concentrated: the feed's CO2, the bases as HCO3- has grown, no gas leaving."
    solutes = carried(first)
    if "HCO3-" in out:  # CO2 passes a membrane: its concentration stays
        up = out["HCO3-"] / water["HCO3-"]
        out = out | {i: solutes[i] * up for i in ("HCO3-", "CO3-2", "OH-") if i in solutes} | {"CO2": solutes["CO2"]}
    return pH_of(out | {"H+": solutes["H+"]}, temperature)


def _held(ions, c) -> dict[str, float]:
    return {i: float(v) for i, v in zip(ions, c, strict=True) if v > 0}


def saturation(
    s,  # PlantSolution
    pH: float,  # Of the feed
    temperature: float = T_REF,  # $T$ [K]
) -> "pd.DataFrame":  # A row a sample and water (feed, concentrate): pH and saturation indices
    "Saturation indices before and after a plant; the concentrate's pH from the carbonate it holds, no gas leaving."
    import pandas as pd

    rows = []
    for k, (feed, conc) in enumerate(zip(s.c_feed, s.c_conc, strict=True)):
        water = _held(s.ions, feed)
        first = speciate(water, pH, temperature)
        rows.append({"sample": k, "water": "feed", "pH": pH, **first.saturation})
        if np.isfinite(conc).all():
            last = _concentrated(first, water, _held(s.ions, conc), temperature)
            rows.append({"sample": k, "water": "concentrate", "pH": last.pH, **last.saturation})
    return pd.DataFrame(rows)


def saturation_along(
    s,  # PlantSolution
    pH: float,  # Of the feed
    sample: int = 0,
    temperature: float = T_REF,  # $T$ [K]
) -> "pd.DataFrame":  # A row a place of a stage and where in the channel (bulk, wall): pH and saturation indices
    "Saturation indices along the vessels of every stage, in the bulk and at the membrane, where scale begins."
    import pandas as pd

    water, rows = _held(s.ions, s.c_feed[sample]), []
    first = speciate(water, pH, temperature)
    for (stage, share), g in profile(s, sample).groupby(["stage", "share"]):
        for where in ("bulk", "wall"):
            here = _concentrated(first, water, _held(g.ion, g[f"c_{where}"]), temperature)
            rows.append({"stage": stage, "share": share, "at": where, "pH": here.pH, **here.saturation})
    return pd.DataFrame(rows)

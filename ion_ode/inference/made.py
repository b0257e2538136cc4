"""From a new membrane's salts to its pores, and from there to any water

A recipe is usually tried with pure water and a few salts. Those values calibrate the answer for any nanofiltration
membrane (`load_model("nf")`): its membranes have charges of either sign, so that the sign is not assumed. Whether
they tell enough is measured by leaving a salt out, beside the mean of that salt over the other recipes.
"""

import numpy as np
import pandas as pd

from ..core import LMH, R_GAS, T_REF, InputError, bar
from ..water.ions import get_ion
from ..water.salts import SALTS


def salt_feed(
    salt: str,  # One of `SALTS`
    mg_L: float,  # Concentration [mg/L]
) -> dict[str, float]:  # {ion: mol/m³}
    "A solution of one salt."
    if salt not in SALTS:
        raise InputError(f"salt {salt!r} arrived; expected one of {', '.join(SALTS)}")
    mass = sum(n * get_ion(i).molar_mass for i, n in SALTS[salt].items())
    return {i: n * mg_L / mass for i, n in SALTS[salt].items()}


def tried_with(
    rejection: dict[str, float],  # {salt: rejection as a fraction}
    permeance: float,  # Of pure water [LMH/bar]
    pressure: float,  # Of the test [bar]
    mg_L: float,  # Salt in its feeds [mg/L]
) -> pd.DataFrame:  # One row a salt and ion, as `calibrate` takes them
    "The tests of a membrane as measurements; the flux is what the pressure drives against osmosis."
    rows = []
    for salt, R in rejection.items():
        feed = salt_feed(salt, mg_L)
        osmotic = R * R_GAS * T_REF * sum(feed.values()) / bar
        flux = permeance * (pressure - osmotic) * LMH
        if not flux > 0:
            raise InputError(
                f"{salt}: {pressure:g} bar arrived, less than the {osmotic:.2g} bar of osmosis at a rejection of "
                f"{R:.2g}; give the pressure and the concentration of the test"
            )
        for ion, c in feed.items():
            rows.append({"solution_id": salt, "ion": ion, "c_feed_mol_m3": c, "flux_m_s": flux, "rejection": R})
    return pd.DataFrame(rows).assign(kind="observed")


def membrane_made(
    rejection: dict[str, float],  # {salt: rejection as a fraction}, two or more
    permeance: float,  # Of pure water [LMH/bar]
    *,
    pressure: float = 5.0,  # Of the test [bar]
    mg_L: float = 1000.0,  # Salt in its feeds [mg/L]
    model=None,  # The answer to begin with; None: that for any nanofiltration membrane
    seed: int = 0,
):  # An `Answer`: what it predicts is this membrane's
    "The membranes that would have rejected these salts as measured."
    if len(rejection) < 2:
        raise InputError(f"{len(rejection)} salts arrived; at least two are needed to tell size from charge")
    if model is None:
        from .answer import load_answer

        model = load_answer("nf")
    return model.calibrate(tried_with(rejection, permeance, pressure, mg_L), seed=seed)


def pores_of(
    model,  # An `Answer`
) -> pd.DataFrame:  # r_pore [nm], thickness [µm], eps_pore, charge [mol/m³]: 5 %, median, 95 %; charge also > 0
    "What the values say about pore, charge and permittivity."
    p = model.parameters
    v = {
        "r_pore [nm]": 1e9 * p["r_pore"],
        "thickness [µm]": 1e6 * p["thickness"],
        "eps_pore": p["eps_pore"],
        "charge at 15 eq/m³ [mol/m³]": p["charge"],
    }
    ends = {k: np.quantile(x, [0.05, 0.5, 0.95]) for k, x in v.items()}
    table = pd.DataFrame(ends, index=["5 %", "median", "95 %"]).T
    return table.assign(positive=[float((x > 0).mean()) for x in v.values()])


def _untried(
    model,  # An `Answer`
    salt: str,  # One of `SALTS`
    permeance: float,  # Of pure water [LMH/bar]
    pressure: float,  # Of the test [bar]
    mg_L: float,  # Salt in its feed [mg/L]
    rtol: float = 1e-3,  # Of the flux
):  # One row of `predict`
    "A test nobody has made: flux and rejection that fit each other, the osmotic pressure that of the prediction."
    feed, flux = salt_feed(salt, mg_L), permeance * pressure * LMH
    osmotic = R_GAS * T_REF * sum(feed.values()) / bar  # [bar], of all the salt
    for _ in range(50):
        p = model.predict(feed, flux).iloc[0]
        target = permeance * (pressure - p.rejection * osmotic) * LMH
        if not target > 0:
            raise InputError(
                f"{salt}: {pressure:g} bar arrived, less than the {p.rejection * osmotic:.2g} bar of osmosis at the "
                f"predicted rejection of {p.rejection:.2g}; give the pressure and the concentration of the test"
            )
        if abs(target / flux - 1) < rtol:
            break
        flux = 0.5 * (flux + target)
    return p


def left_out(
    recipes: pd.DataFrame,  # name, permeance [LMH/bar], and a column `rejection SALT` for every salt
    salts: tuple[str, ...],
    *,
    pressure: float = 5.0,  # [bar]
    mg_L: float = 1000.0,  # [mg/L]
    model=None,
) -> pd.DataFrame:  # name, salt, measured, predicted, lower, upper, constant, distinct
    "Each salt of each recipe predicted from its others alone, beside that salt's mean over the other recipes."
    rows = []
    for k, r in recipes.reset_index(drop=True).iterrows():
        for salt in salts:
            known = {s: float(r[f"rejection {s}"]) for s in salts if s != salt}
            A, R = float(r["permeance [LMH/bar]"]), float(r[f"rejection {salt}"])
            made = membrane_made(known, A, pressure=pressure, mg_L=mg_L, model=model)
            p = _untried(made, salt, A, pressure, mg_L)
            others = recipes[f"rejection {salt}"].to_numpy(float)
            rows.append({
                "name": r["name"], "salt": salt, "measured": R, "predicted": p.rejection, "lower": p.lower,
                "upper": p.upper, "constant": float(np.delete(others, k).mean()), "distinct": made.card["distinct"],
            })  # fmt: skip
    return pd.DataFrame(rows)

"""How the charge of a polyamide follows the pH: two acids and an amine, fitted on measured NaCl rejections

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

# A piperazine amide holds carboxylic acids of two strengths and amines that stay (Ritt et al. 2020,
# 10.1073/pnas.2008421117): c_X = (eq/15)^b (P/(1 + 10^(pH - pK_P)) - N1/(1 + 10^(pK1 - pH)) - N2/(1 + 10^(pK2 - pH))),
# eq the equivalents of the feed [mol/m³]. `FITTED` is the least-squares fit of six numbers and b to 24 means of NaCl on
# NF270 in that paper (2 and 20 mol/m³, 10 and about 140 L/m²/h, pH 3.5 to 10.5), pore, thickness and permittivity those
# of `NF270`, a film of 57 µm; uncertainties are those of the fit. `fit_charge` makes it again.

import warnings
from dataclasses import dataclass

import numpy as np
import torch

from ion_ode.core import InputError
from ion_ode.dspmde.film import Film
from ion_ode.dspmde.membranes import NF270, Membrane
from ion_ode.dspmde.solve import simulate
from ion_ode.store import asset

__all__ = ["ChargeByPH", "FITTED", "at_pH", "charge_factor", "fit_charge", "measured_by_pH", "rejection_by_pH"]

_PH_KNOWN = (3.5, 10.5)  # pH of the measurements
_FILM = 57e-6  # m; the authors' mass transfer coefficient of NaCl, 2.8e-5 m/s, over its diffusivity
_NAMES = ("acid_1", "pK_1", "acid_2", "pK_2", "amine", "pK_amine", "growth")
_PRIOR = np.array([10.0, 5.5, 20.0, 9.8, 6.0, 4.0, 0.48])
_WIDTH = np.array([15.0, 1.0, 25.0, 0.7, 8.0, 1.0, 0.15])
_LOW, _HIGH = [0, 3.5, 0, 8, 0, 2, 0.0], [200, 7.5, 400, 12, 200, 6.5, 1.2]
_NOISE = 0.06  # Of a measured rejection [-]


@dataclass(frozen=True)
class ChargeByPH:
    "Fixed charge of a polyamide as its sites dissociate."

    acid_1: float  # Stronger acid, at 15 mol/m³ of equivalents [mol/m³ of pore]
    pK_1: float
    acid_2: float  # Weaker acid [mol/m³ of pore]
    pK_2: float
    amine: float  # [mol/m³ of pore]
    pK_amine: float
    growth: float  # Exponent of the equivalents [-]

    def charge(
        self,
        pH,  # Of the feed, number or array
        equivalents,  # Of the feed [mol/m³], the same
    ) -> np.ndarray:  # $c_X$, signed [mol/m³ of pore]
        "Fixed charge at a pH."
        acid = lambda pK: 1 / (1 + 10 ** (pK - np.asarray(pH, float)))
        net = self.amine * (1 - acid(self.pK_amine)) - self.acid_1 * acid(self.pK_1) - self.acid_2 * acid(self.pK_2)
        return (np.asarray(equivalents, float) / 15) ** self.growth * net


FITTED = ChargeByPH(25.9, 5.31, 95.8, 9.58, 7.2, 4.16, 0.629)
FITTED_SD = ChargeByPH(3.8, 0.23, 15.0, 0.24, 2.9, 0.92, 0.054)


def charge_factor(
    pH,  # Of the feed
    equivalents=15.0,  # Of the feed [mol/m³]
    reference: float = 7.0,  # pH of the charge that is multiplied
    law: ChargeByPH = FITTED,
) -> np.ndarray:  # $c_X(pH)/c_X(reference)$ [-], below zero where the charge turns positive
    "By how much the charge at a pH differs from that at a neutral one."
    return law.charge(pH, equivalents) / law.charge(reference, equivalents)


def at_pH(
    membrane: Membrane,
    pH,  # Of the feed, number or (batch,)
    equivalents,  # Of the feed [mol/m³], number or (batch,)
    law: ChargeByPH = FITTED,
) -> Membrane:  # The same pore with the charge of that pH
    "A membrane whose charge is that of the law."
    if not np.all((np.asarray(pH) >= 1) & (np.asarray(pH) <= 13)):
        raise InputError(f"pH is {pH}, expected 1 to 13")
    if np.any((np.asarray(pH) < _PH_KNOWN[0] - 0.1) | (np.asarray(pH) > _PH_KNOWN[1] + 0.1)):
        said = "the charge was measured at pH {} to {}".format(*_PH_KNOWN)
        warnings.warn(f"{said}; beyond, the law is extrapolated", stacklevel=2)
    charge = law.charge(pH, equivalents)
    return membrane.with_(charge_density=float(charge) if charge.ndim == 0 else torch.from_numpy(charge))


def measured_by_pH() -> "pd.DataFrame":  # solution_id, fast, pH, rejection, flux_m_s, c_feed_mol_m3: 24 means
    "NaCl on NF270 over pH, observed, means of three (Ritt et al. 2020)."
    import pandas as pd

    d = pd.read_csv(asset("nf_measurements.csv"))
    d = d[(d.source_id == "ritt2020") & (d.membrane == "NF270") & (d.ion == "Na+") & (d.kind == "observed")]
    d = d[d.solution_id.isin(["ritt_NaCl_2mM", "ritt_NaCl_20mM"])].assign(fast=lambda t: t.flux_m_s > 1e-5)
    columns = ["rejection", "flux_m_s", "c_feed_mol_m3"]
    return d.groupby(["solution_id", "fast", "pH"], as_index=False)[columns].mean()


def rejection_by_pH(
    rows,  # As `measured_by_pH`
    law: ChargeByPH = FITTED,
    membrane: Membrane = NF270,
) -> np.ndarray:  # (row,)
    "Rejections of NaCl that the law gives."
    c = rows.c_feed_mol_m3.to_numpy(copy=True)
    m = at_pH(membrane, rows.pH.to_numpy(), c, law)
    feed, J = (
        {"Na+": torch.from_numpy(c), "Cl-": torch.from_numpy(c)},
        torch.from_numpy(rows.flux_m_s.to_numpy(copy=True)),
    )
    return (
        simulate(feed, J[:, None], m, film=Film(thickness=_FILM), throw=False, rtol=1e-4).rejection[:, 0, 0].numpy()
    )


def fit_charge(
    rows,  # As `measured_by_pH`, all or some
    membrane: Membrane = NF270,
) -> tuple[ChargeByPH, ChargeByPH]:  # Likeliest numbers and their standard deviations
    "The law's seven numbers from measured rejections, from wide priors."
    from scipy.optimize import least_squares

    def off(x):
        R = np.nan_to_num(rejection_by_pH(rows, ChargeByPH(*x), membrane), nan=2.0)
        return np.concatenate([(R - rows.rejection) / _NOISE, (x - _PRIOR) / _WIDTH])

    found = least_squares(off, _PRIOR, bounds=(_LOW, _HIGH), x_scale=_WIDTH, diff_step=1e-3)
    sd = np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac)))
    return ChargeByPH(*map(float, found.x)), ChargeByPH(*map(float, sd))

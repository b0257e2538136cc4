"""The pore that neutral solutes meet, from tracers on the membrane whose pore salts have told

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

import numpy as np
import pandas as pd

from ion_ode.core import T_REF
from ion_ode.inference.answer import Answer
from ion_ode.inference.pores import passages
from ion_ode.store import asset

__all__ = ["fit_neutral", "left_out_errors", "measured_tracers"]


def measured_tracers() -> pd.DataFrame:  # ion, pressure_Pa, flux_m_s, rejection: 12 means
    "Erythritol, xylose and glucose on NF270, intrinsic, means of three (Ritt et al. 2020, 10.1073/pnas.2008421117)."
    d = pd.read_csv(asset("nf_measurements.csv"))
    d = d[(d.z == 0) & (d.membrane == "NF270") & (d.kind == "intrinsic")]
    return d.groupby(["ion", "pressure_Pa"], as_index=False)[["flux_m_s", "rejection"]].mean()


def _rejections(
    rows: pd.DataFrame,  # As `measured_tracers`
    answer: Answer,
    ratio: float,  # Pore radius that a neutral solute meets over that of ions
) -> np.ndarray:  # (row,) mean over the membranes
    "Intrinsic rejections of tracers beside a little salt."
    out, n = np.empty(len(rows)), len(answer)
    for ion, at in rows.groupby("ion").indices.items():
        ions = ("Na+", "Cl-", ion)
        wide, m, offset, film, T = answer._problem(ions, np.ones((1, 3)), "intrinsic", None, T_REF)
        J = np.tile(rows.flux_m_s.to_numpy()[at], (n, 1))
        through, _ = passages(ions, wide, J, m | {"r_pore": ratio * m["r_pore"]}, offset, film, T, 1e-3)
        out[at] = 1 - np.nanmean(through[:, :, 2], 0)
    return out


def fit_neutral(
    rows: pd.DataFrame,  # As `measured_tracers`
    answer: Answer,
) -> float:  # Pore radius that a neutral solute meets over that of ions
    "The ratio of least squares."
    from scipy.optimize import minimize_scalar

    off = lambda ratio: float(((_rejections(rows, answer, ratio) - rows.rejection) ** 2).mean())
    return float(minimize_scalar(off, bounds=(0.7, 1.1), method="bounded", options={"xatol": 2e-3}).x)


def left_out_errors(answer: Answer) -> pd.DataFrame:  # Index the solute; RMSE with the ratio of the others, and without
    "Each tracer by the ratio that the others give."
    rows, out = measured_tracers(), {}
    for ion, g in rows.groupby("ion"):
        ratio = fit_neutral(rows[rows.ion != ion], answer)
        rmse = lambda r, g=g: float(np.sqrt(((_rejections(g, answer, r) - g.rejection) ** 2).mean()))
        out[ion] = {"ratio": ratio, "rmse": rmse(ratio), "rmse of the ions' pore": rmse(1.0)}
    return pd.DataFrame(out).T

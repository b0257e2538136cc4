"""Questions put to the models"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ion_ode.data.points import measurement_points
from ion_ode.dspmde.prior import SLOTS, parameter_names
from ion_ode.inference.posterior import predict_membranes
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows, held_rows
from ion_ode.cells import read_cell
from ion_ode.results.contestants import BAYES, MAIN, membranes_name, rival_name
from ion_ode.results.heldout import networks
from ion_ode.results.protocol import FOUR_FITTED, with_feeds
from ion_ode.training.teach import predict_measured
from ion_ode.water.ions import get_ion


def along_flux(
    benchmark: str,  # Key of BENCHMARKS
    fold: str,  # Composition held out; of the twin's fold, the mixture with the lowest nitrate rejection is followed
    n: int = 25,  # Fluxes
) -> pd.DataFrame:  # Frame in the form of `MeasurementSchema`; rejections are those of the first run
    "A held-out composition from 2 µm/s to a tenth beyond its last measurement."
    df = contest_rows(benchmark)
    df = df[held_rows(df, [fold])]
    nitrate = df[df.ion == "NO3-"]
    one = df[df.solution_id == (nitrate if len(nitrate) else df).sort_values("rejection").solution_id.iloc[0]]
    grid = np.geomspace(2e-6, 1.1 * one.flux_m_s.max(), n)
    first = one.drop_duplicates("ion")
    out = pd.concat([first.assign(flux_m_s=J, state_id=f"{fold}/{k}") for k, J in enumerate(grid)])
    return out.set_axis(pd.Index(out.state_id + "/" + out.ion, name="row_id"))


def feeds_frame(
    feeds: list[dict],  # {ion: mol/m³}, each neutral
    flux: float,  # Water flux [m/s]
) -> pd.DataFrame:  # Frame in the form of `MeasurementSchema`
    "Feeds nobody measured, at the membrane's own surface."
    row = contest_rows().iloc[[0]]
    parts = [
        row.assign(
            solution_id=f"asked {k}",
            state_id=f"asked {k}",
            flux_m_s=flux,
            ion=ion,
            z=get_ion(ion).z,
            c_feed_mol_m3=c,
            kind="intrinsic",
            salt_level=False,
            weight=1.0,
        )
        for k, feed in enumerate(feeds)
        for ion, c in feed.items()
    ]
    out = pd.concat(parts)
    return out.set_axis(pd.Index(out.state_id + "/" + out.ion, name="row_id"))


def ask(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    frame: pd.DataFrame,  # Feeds and fluxes
    benchmark: str,  # Key of BENCHMARKS
    fold: str | None,  # What the models were not shown; None: nothing (networks and posterior only)
) -> dict[str, np.ndarray]:  # model -> (draw or network, row) rejection
    "Main networks, posterior membranes and fitted pore model on any feeds."
    b, found = BENCHMARKS[benchmark], lambda name: read_cell(folder, name, keys[name])
    config, ensemble, parameters = networks(folder, keys, benchmark, fold)
    frame, told = with_feeds(frame), membranes_name(benchmark, (fold,) if fold else ())
    out = {MAIN: predict_measured(config, ensemble, measurement_points(frame), parameters, tol=1e-3)}
    out[BAYES] = predict_membranes(frame, found(told)[0]["parameters"], b.film)
    name = rival_name({"benchmark": benchmark, "model": FOUR_FITTED, "held": [fold]}) if fold else ""
    if name in keys:
        fitted = fitted_parameters(found(name)[1]["parameters"])
        out[FOUR_FITTED] = predict_membranes(frame, fitted, b.film, "dspmde")
    return out


def fitted_parameters(
    facts,  # {name: value} or a row of the table of fits
) -> Tensor:  # (1, parameter) SI, columns `parameter_names("dspmde")`
    "A fitted membrane in the form of the others."
    return torch.tensor([[float(facts[n]) for n in parameter_names("dspmde", SLOTS)]], dtype=torch.float64)


def _present(keys) -> list[str]:
    return [b for b in BENCHMARKS if f"{b} finetune {MAIN}" in keys]

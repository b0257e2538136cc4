"""Rollouts: held-out compositions followed along the flux"""

from pathlib import Path

import numpy as np
import pandas as pd

from ion_ode.inference.answer import load_answer
from ion_ode.inference.score import predicted
from ion_ode.results.benchmarks import BENCHMARKS
from ion_ode.results.contestants import log_passage
from ion_ode.results.protocol import POSTERIOR
from ion_ode.results.questions import _present, along_flux, ask


def rollouts(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> pd.DataFrame:  # benchmark, fold, model, solution_id, ion, flux_m_s, rejection, spread (sd of `log_passage`)
    "Held-out compositions and mixtures followed along the flux."
    rows = []
    for b in (b for b in _present(keys) if b != "sources"):  # A laboratory is no curve
        for g in BENCHMARKS[b].folds:
            frame = along_flux(b, g)
            for model, r in ask(folder, keys, frame, b, g).items():
                at = frame[["solution_id", "ion", "flux_m_s"]].reset_index(drop=True)
                rows.append(
                    at.assign(
                        benchmark=b,
                        fold=g,
                        model=model,
                        rejection=np.nanmean(r, 0),
                        spread=np.nan_to_num(np.nanstd(log_passage(r), 0, ddof=1) if len(r) > 1 else 0.0),
                    )
                )
    return pd.concat(rows, ignore_index=True)


def with_answer(
    tables: dict[str, pd.DataFrame],  # Of `read_tables`
    folds: tuple[str, ...] = ("C", "D"),  # Compositions held out
) -> dict[str, pd.DataFrame]:
    "The tables with what the answer that ships, without the fold, says along the flux."
    parts = [tables["rollouts"]]
    for g in folds:
        frame = along_flux("nf270", g)
        d = predicted(load_answer(f"without-{g}"), frame).reset_index(drop=True)
        d = d[["solution_id", "ion", "flux_m_s", "lower", "upper"]].assign(rejection=d.predicted, spread=0.0)
        parts.append(d.assign(benchmark="nf270", fold=g, model=POSTERIOR))
    return tables | {"rollouts": pd.concat(parts, ignore_index=True)}

"""Whole permeates drawn from posterior membranes, and rollouts"""

from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from ion_ode.data.nf270 import load_solutions
from ion_ode.dspmde.prior import SLOTS
from ion_ode.inference.posterior import predict_membranes
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows
from ion_ode.results.cells import read_cell
from ion_ode.results.contestants import log_passage
from ion_ode.results.questions import _present, along_flux, ask
from ion_ode.water.ions import get_ion


def rollouts(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> pd.DataFrame:  # benchmark, fold, model, solution_id, ion, flux_m_s, rejection, spread (sd of `log_passage`)
    "Held-out compositions followed along the flux."
    rows = []
    for b in _present(keys):
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


def _whole_feeds(
    df: pd.DataFrame,  # Measurements
) -> pd.DataFrame:  # One row for every ion of every state's feed, rejection nan where not measured
    "Every ion behind every measured state."
    states, listed = df.drop_duplicates("state_id"), load_solutions()
    own = df[~df.solution_id.isin(listed.solution_id)]
    listed = pd.concat([listed, own])[["solution_id", "ion", "c_feed_mol_m3"]].drop_duplicates(
        ["solution_id", "ion"]
    )
    out = states.drop(columns=["ion", "z", "c_feed_mol_m3", "rejection"]).merge(
        listed[listed.ion.isin(SLOTS)], on="solution_id"
    )
    out = out.assign(z=out.ion.map({i: get_ion(i).z for i in SLOTS})).set_axis(
        pd.Index(out.state_id + "/" + out.ion, name="row_id")
    )
    return out.assign(
        rejection=df.assign(key=df.state_id + "/" + df.ion).set_index("key").rejection.reindex(out.index),
        salt_level=False,
    )


def _neutral_draws(
    frame: pd.DataFrame,  # From `_whole_feeds`
    parameters: Tensor,  # (draw, parameter) posterior membranes
    film: float,  # Film in front of observed values [m]
    factor: float = 1.0,  # How much the draws are widened about their mean
    seed: int = 0,
    passage: np.ndarray | None = None,  # (draw, row) passages by `predict_membranes`, if at hand
) -> np.ndarray:  # (draw, row) c_perm/c_feed; every draw a neutral permeate of positive concentrations
    "Permeates drawn from posterior membranes, widened in ln c and closed to neutrality."
    through = 1 - predict_membranes(frame, parameters, film) if passage is None else passage
    log = np.log(np.maximum(through[np.isfinite(through).all(1)], 1e-9))
    middle = log.mean(0)
    own = np.random.default_rng(seed).normal(0, 0.1, (len(log), frame.ion.nunique()))[:, pd.factorize(frame.ion)[0]]
    c = np.exp(middle + factor * (log - middle + own)) * frame.c_feed_mol_m3.to_numpy()
    z, state = frame.z.to_numpy(), pd.factorize(frame.state_id)[0]
    side = [np.stack([np.bincount(state, row * np.abs(z) * (np.sign(z) == s)) for row in c]) for s in (1, -1)]
    tilt = np.sqrt(side[1] / side[0])[:, state]
    return c * np.where(z > 0, tilt, 1 / tilt) / frame.c_feed_mol_m3.to_numpy()


def draw_table(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    level: float = 0.9,  # Coverage wanted
) -> pd.DataFrame:  # benchmark, fold, factor, coverage, width, imbalance (largest |sum z c| / sum |z| c), highest R
    "Coverage of widened neutral draws on held-out compositions; the factor of a fold is calibrated on all others."
    rows, factors = [], np.geomspace(0.5, 8, 17)
    for b in _present(keys):
        df, film, inside, cases = contest_rows(b), BENCHMARKS[b].film, {}, {}
        for g in BENCHMARKS[b].folds:
            frame = _whole_feeds(df[df.composition == g])
            parameters = read_cell(folder, f"{b} membranes without {g}", keys[f"{b} membranes without {g}"])[0][
                "parameters"
            ]
            cases[g] = frame, parameters, 1 - predict_membranes(frame, parameters, film)
            frame, _, passage = cases[g]
            known = frame.rejection.notna().to_numpy()
            draws = [1 - _neutral_draws(frame, parameters, film, f, passage=passage)[:, known] for f in factors]
            ends = [np.quantile(d, [(1 - level) / 2, (1 + level) / 2], axis=0) for d in draws]
            inside[g] = np.stack(
                [(lo <= frame.rejection[known]) & (frame.rejection[known] <= hi) for lo, hi in ends]
            )
        for g, (frame, parameters, passage) in cases.items():
            others = np.concatenate([v for k, v in inside.items() if k != g], 1).mean(1)
            f = factors[np.argmax(others >= level)] if (others >= level).any() else factors[-1]
            through, known = (
                _neutral_draws(frame, parameters, film, f, passage=passage),
                frame.rejection.notna().to_numpy(),
            )
            r, state, flow = (
                1 - through,
                pd.factorize(frame.state_id)[0],
                through * (frame.z * frame.c_feed_mol_m3).to_numpy(),
            )
            off = max(
                float((np.abs(np.bincount(state, row)) / np.bincount(state, np.abs(row))).max()) for row in flow
            )
            lo, hi = np.quantile(r[:, known], [(1 - level) / 2, (1 + level) / 2], axis=0)
            y = frame.rejection[known]
            rows.append(
                {
                    "benchmark": b,
                    "fold": g,
                    "factor": f,
                    "coverage": float(((lo <= y) & (y <= hi)).mean()),
                    "width": float(np.median(hi - lo)),
                    "n": int(known.sum()),
                    "imbalance": off,
                    "highest R": float(r.max()),
                }
            )
    return pd.DataFrame(rows)

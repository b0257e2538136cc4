"""What `Answer.predict` and `calibrate`, as they ship, are worth on rows that were held out"""

import numpy as np
import pandas as pd

from ion_ode.data.measurements import Measurements
from ion_ode.inference.answer import Answer
from ion_ode.inference.rows import answer_feeds

__all__ = ["own_draws", "own_values", "predicted", "scores"]


def predicted(
    answer: Answer,
    d: pd.DataFrame,  # Rows in the form of `answer_rows`
    level: float = 0.9,
) -> pd.DataFrame:  # The rows with predicted, lower, upper
    "Every row as `predict` answers it, at its flux or pressure, temperature and kind."
    feeds = answer_feeds().set_index("solution_id")
    parts = []
    for (solution, kind, T, by_pressure), g in d.groupby(
        ["solution_id", "kind", "temperature_K", d.flux_m_s.isna()], sort=False
    ):
        f = feeds.loc[[solution]]
        feed, closing = (
            dict(zip(f.ion, f.c_feed_mol_m3, strict=True)),
            f[f.ion.str.endswith(("-", "-2"))].set_index("ion").c_feed_mol_m3.idxmax(),
        )
        at = np.unique(g.pressure_Pa if by_pressure else g.flux_m_s)
        ask = {"pressure": at} if by_pressure else {"flux": at}
        p = answer.predict(
            feed,
            **ask,
            kind="intrinsic" if kind == "intrinsic" else "observed",
            temperature=T,
            balance=closing,
            level=level,
        )
        p["at"] = np.repeat(at, len(feed)) if len(p) == len(at) * len(feed) else np.nan
        key = g.assign(at=(g.pressure_Pa if by_pressure else g.flux_m_s)).reset_index()
        parts.append(
            key.merge(
                p[["at", "ion", "rejection", "lower", "upper"]].rename(columns={"rejection": "predicted"}),
                on=["at", "ion"],
                how="left",
            ).set_index(key.columns[0])
        )
    out = pd.concat(parts).reindex(d.index)
    if out.predicted.isna().any():
        raise ValueError(f"no answer for {out.index[out.predicted.isna()][0]}")
    return out


def own_values(
    answer: Answer,  # One that has not seen these rows
    d: pd.DataFrame,  # Rows of one source
    most: int = 2,  # Own states, taken from the middle, then from the ends
) -> pd.DataFrame:  # Rows that are never own, predicted with 0 to `most` own states of their coupon; column own
    "What own values are worth: the other rows of the same coupon, before and after `calibrate`."
    feeds, parts = answer_feeds(), []
    for _, g in d.groupby("coupon", sort=False):
        states = list(g.sort_values(["c_feed_mol_m3", "flux_m_s"]).state_id.unique())
        order = [len(states) // 2, 0, len(states) - 1, 1]
        own = [states[k] for k in dict.fromkeys(order[:most]) if k < len(states)]
        rest = g[~g.state_id.isin(own)]
        if rest.empty:
            continue
        for k in range(len(own) + 1):
            mine = g[g.state_id.isin(own[:k])]
            model = answer.calibrate(Measurements.from_frame(mine.reset_index(), feeds=feeds)) if k else answer
            parts.append(predicted(model, rest).assign(own=k))
    return pd.concat(parts)


def own_draws(
    answer: Answer,  # One that has not seen these rows
    d: pd.DataFrame,  # Rows of one source
    counts: tuple[int, ...] = (0, 1, 2, 5, 20),  # Own values
    draws: int = 3,  # Choices of them, of every coupon its own
    seed: int = 0,
) -> pd.DataFrame:  # The values of each coupon that were not own, predicted; columns own and draw
    "What any few own values are worth, drawn at random: the other values of the coupon."
    feeds, parts = answer_feeds(), []
    for place, (_, g) in enumerate(d.groupby("coupon")):
        for k in (k for k in counts if k < len(g) and len(g) > 1):
            rng = np.random.default_rng([seed, k, place])
            for j in range(draws if k else 1):
                own = np.isin(np.arange(len(g)), rng.permutation(len(g))[:k])
                mine = Measurements.from_frame(g[own].reset_index(), feeds=feeds) if k else None
                parts.append(predicted(answer.calibrate(mine) if k else answer, g[~own]).assign(own=k, draw=j))
    return pd.concat(parts)


def scores(
    p: pd.DataFrame,  # Of `predicted`
    level: float = 0.9,
) -> dict:  # n, rmse, bias, mse, coverage, width, winkler
    "Errors of the mean and worth of the interval."
    e = p.predicted - p.rejection
    out = np.maximum(p.lower - p.rejection, 0) + np.maximum(p.rejection - p.upper, 0)
    w = p.upper - p.lower
    return {
        "n": len(p),
        "mse": float((e**2).mean()),
        "rmse": float(np.sqrt((e**2).mean())),
        "bias": float(e.mean()),
        "coverage": float((out == 0).mean()),
        "width": float(w.mean()),
        "winkler": float((w + 2 / (1 - level) * out).mean()),
    }

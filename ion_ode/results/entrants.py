"""Those who are asked: each learns from the rows of a fold and answers for rows that it was not shown"""

import numpy as np
import pandas as pd

from ion_ode.data.points import measurement_points
from ion_ode.inference.answer import Answer, load_answer
from ion_ode.inference.build import fold_answer, likeliest
from ion_ode.inference.fit import FOUR, fit_membrane, observations
from ion_ode.inference.learn import learn
from ion_ode.inference.scales import Scale
from ion_ode.inference.score import own_values, predicted
from ion_ode.results.protocol import (
    CONSTANT,
    FOUR_FITTED,
    GAUSSIAN,
    LIKELIEST,
    NEAREST,
    PER_ION,
    POSTERIOR,
    PROTOCOL,
    REPEATED,
    SECOND,
    SHIFT,
    fold_rows,
    with_feeds,
)
from ion_ode.results.baselines import predict_constant, predict_nearest
from ion_ode.training.rivals import SDEM, ResidualGP, SpieglerKedem

__all__ = ["answers_of", "own_answers"]


def _four(train: pd.DataFrame, test: pd.DataFrame):  # (row,) rejection; parameters on their bounds
    "DSPM-DE with four parameters by least squares, and which of them sit on their bounds."
    low, high = (1e-6 * v for v in PROTOCOL.four_bounds_um)
    scales = {"thickness": Scale("log", low, high, unit="m")}
    known = measurement_points(train)
    fit = fit_membrane(known, FOUR, scales=scales, n_starts=PROTOCOL.starts, n_sobol=64, intervals="none", seed=0)
    asked = observations(measurement_points(test))
    e = fit.estimates
    return fit.predict(asked)[asked.state, asked.ion].numpy(), e.parameter[e.at_bound].tolist()


def _residual(train: pd.DataFrame, test: pd.DataFrame, base: np.ndarray, own: np.ndarray) -> np.ndarray:
    "A Gaussian process on what the four-parameter fit leaves."
    both = pd.Series(np.concatenate([own, base]), [*train.index, *test.index])
    return ResidualGP(lambda d: both.reindex(d.index).to_numpy()).fit(train).predict(test)


def _per_ion(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    "Spiegler-Kedem; a constant for ions of a sign that the training rows do not hold."
    signs = set(np.sign(train.z))
    known = np.isin(np.sign(test.z), list(signs))
    out = predict_constant(train, test)
    out[known] = SpieglerKedem().fit(train).predict(test[known])
    return out


def _likeliest(population, rows: pd.DataFrame) -> Answer:
    "The membrane that `NF270` is, on the coupon of none."
    k = likeliest(population, rows)
    return Answer(population.x[k : k + 1], np.zeros((1, 5)), population.prior)


def answers_of(
    name: str,  # Composition or source held out
) -> tuple[pd.DataFrame, dict]:  # Rows (row_id, model, predicted, lower, upper); facts
    "What every entrant says of a fold."
    whole, train, test = fold_rows(name)
    out, facts = {}, {}
    own, test_feeds = with_feeds(train), with_feeds(test)
    out[POSTERIOR] = predicted(load_answer(f"without-{name}"), test)
    population = learn(whole, PROTOCOL.second, n=PROTOCOL.membranes)
    out[SECOND] = predicted(fold_answer(name, population, whole), test)
    facts["distinct"] = population.n_distinct
    out[LIKELIEST] = predicted(_likeliest(population, whole), test).predicted
    both = with_feeds(pd.concat([train, test]))
    four, facts["at bounds"] = _four(own, both)
    out[FOUR_FITTED] = four[len(train) :]
    out[GAUSSIAN] = _residual(own, test_feeds, four[len(train) :], four[: len(train)])
    out[SHIFT] = SDEM(shift=True).fit(own).predict(test_feeds)
    out[PER_ION] = _per_ion(train, test)
    out[NEAREST], out[CONSTANT] = predict_nearest(train, test), predict_constant(train, test)
    rows = [
        pd.DataFrame({"row_id": test.index, "model": m, "predicted": np.asarray(getattr(p, "predicted", p), float)})
        .assign(lower=p.lower.to_numpy() if hasattr(p, "lower") else np.nan)
        .assign(upper=p.upper.to_numpy() if hasattr(p, "upper") else np.nan)
        for m, p in out.items()
    ]
    facts["four"] = {str(k): float(v) for k, v in zip(both.index, four, strict=True)}
    return pd.concat(rows, ignore_index=True), facts


def own_answers(
    name: str,  # Source held out
    four: dict,  # Of `answers_of`: what the four-parameter fit says of every row
) -> pd.DataFrame:  # row_id, model, own (0 or 1 states told), predicted, lower, upper
    "The other rows of a coupon, before and after one of its own states is told."
    _, train, test = fold_rows(name)
    told = own_values(load_answer(f"without-{name}"), test, most=1)
    parts = [told.reset_index().assign(model=POSTERIOR)]
    base = lambda d: np.array([four[k] for k in d.index])
    for _, g in test.groupby("coupon", sort=False):
        rest = g[g.index.isin(told.index)]
        mine = g.drop(rest.index)
        if rest.empty:
            continue
        for n, seen in enumerate((train, pd.concat([train, mine]))):
            a, b = with_feeds(seen), with_feeds(rest)
            says = {
                PER_ION: _per_ion(seen, rest),
                NEAREST: predict_nearest(seen, rest),
                GAUSSIAN: _residual(a, b, base(rest), base(seen)),
                REPEATED: np.full(len(rest), mine.rejection.mean()) if n else predict_constant(train, rest),
            }
            here = pd.DataFrame({"row_id": rest.index, "own": n})
            parts += [here.assign(model=m, predicted=p) for m, p in says.items()]
    columns = ["row_id", "model", "own", "predicted", "lower", "upper"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)

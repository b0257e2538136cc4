"""With which error a value should teach, as sources that were held out have it

The kept membranes of a run, weighed again for another error, predict the laboratory they have not seen; the error under
which its values are likeliest is the one that carries over to laboratories. The evidence of the values that taught asks
for a smaller one, with which one law wins; it does not see that no law is the whole truth."""

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from scipy.stats import t as student

from ion_ode.inference.answer import Answer, new_coupons
from ion_ode.inference.discrepancy import NU, errors_at
from ion_ode.inference.laws import numbers_of, with_errors
from ion_ode.inference.pores import solve
from ion_ode.inference.population import Population
from ion_ode.inference.states import LEARNED, LOCALS, States, forward, log_likelihood, mean_flux, of_rows, y_of

__all__ = ["value_errors"]

_ERRORS = (0.3, 0.35, 0.4)  # Beyond them few kept membranes carry the weight


def _taught(states: States, population: Population) -> dict:  # {error: log likelihood of each membrane}
    "What the values that taught say under every error."
    R, J = forward(states, population.x, population.lab, population.coupon, solve, population.prior)
    none = {k: np.full(len(R), 1e-9) for k in ("discrepancy trace", "discrepancy major")}
    with_error = lambda v: log_likelihood(states, R, J, none | {"noise": np.full(len(R), v)}).sum(1)
    return {v: with_error(v) for v in (*_ERRORS, LEARNED)}


def _unseen(states: States, population: Population, stretch: float) -> np.ndarray:  # (membrane, row)
    "Log density of held-out values on coupons nobody has measured, as the interval of `predict` has their errors."
    coupon = new_coupons(len(population.x))
    lab = np.repeat(coupon[:, None, : len(LOCALS)], len(states.laboratories), 1)
    own = np.repeat(coupon[:, len(LOCALS) :], len(states.coupons), 1)
    R, J = forward(states, population.x, lab, own, solve, population.prior)
    p = with_errors(numbers_of(population.x, population.prior), stretch)
    sd = np.hypot(*errors_at(p, mean_flux(states, J), states.row_share))
    off = (y_of(states.rejection) - y_of(of_rows(states, R))) / sd
    return np.nan_to_num(student.logpdf(off, NU) - np.log(sd), nan=-1e9)


def value_errors(
    population: Population,  # That learned from the first rows
    train: pd.DataFrame,
    test: pd.DataFrame,
    answer: Answer,  # The sample that scores the second; its factor on the errors is used
) -> list[dict]:  # error, effective membranes, log score a held-out value
    "How likely held-out values are if each value had taught with another error."
    taught = _taught(States.of(train, population.prior), population)
    seen, out = _unseen(States.of(test, population.prior), population, answer.stretch), []
    for error in _ERRORS:
        w = taught[error] - taught[LEARNED]
        w = w - logsumexp(w)
        score = float(logsumexp(seen + w[:, None], axis=0).mean())
        out.append({"error": error, "effective": float(np.exp(-logsumexp(2 * w))), "log score": score})
    return out

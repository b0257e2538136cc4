"""Learns a sample of membranes from a table of rows: the cell of computation of every shipped sample"""

from dataclasses import asdict

import numpy as np
import pandas as pd
import torch

from ion_ode.closure import Cell, cell
from ion_ode.inference.laws import Prior
from ion_ode.inference.population import Population, sample_population, settled
from ion_ode.inference.prolong import prolonged
from ion_ode.inference.rows import COMPOSITIONS, answer_rows, hold_out
from ion_ode.inference.states import States

__all__ = ["learn", "sample_cell", "sample_name", "sample_read"]

_EACH = 96  # Membranes of a run, written down four times


def learn(
    rows: pd.DataFrame,  # Of `answer_rows`
    seed: int = 0,
    prior: Prior = Prior(),
    n: int = _EACH,
    asked: pd.DataFrame | None = None,  # Rows whose feeds it is for: it goes on until these are known well enough
    most: int = 288,  # Moves by which it goes on
) -> Population:
    "The posterior of a table of rows, its mixtures learned first: membranes as they move on at the full likelihood."
    mixtures = rows[rows.composition.isin(COMPOSITIONS)]
    first = States.of(mixtures, prior) if 0 < len(mixtures) < len(rows) else None
    states = States.of(rows, prior)
    p = settled(states, sample_population(states, n, first=first, seed=seed, prior=prior), seed=1000 + seed)
    if asked is None:
        return p
    return prolonged(rows, p, States.of(asked, prior), n, most=most, seed=2000 + seed)


_ARRAYS = ("x", "lab", "coupon", "log_like")


def sample_name(
    of: str,  # What was held out, or the membrane that was learned whole
    seed: int,
) -> str:
    "Name of the cell of one run."
    return f"membranes of {of}, run {seed}"


def sample_cell(
    of: str,  # What is held out of NF270's rows, or a membrane that is learned whole
    seed: int,
    prior: Prior = Prior(),
    n: int = _EACH,
    whole: bool = False,  # Whether `of` is a membrane
    moves: int = 288,  # Most by which it goes on until it predicts the held-out feeds, or all, well enough
) -> Cell:
    "One run of the sampler."
    spec = {"membrane": of if whole else "NF270", "held": None if whole else of, "seed": seed, "n": n}
    spec |= {"moves": moves}
    return Cell(sample_name(of, seed), "membrane sample", spec | {"prior": asdict(prior)}, cost=n)


@cell("membrane sample")
def _cell_sample(folder, spec, found, tick):
    "Membranes after all rows of one, or after those that are not held out."
    rows = answer_rows(spec["membrane"])
    rows, asked = (rows, rows) if spec["held"] is None else hold_out(rows, spec["held"])
    p = learn(rows, spec["seed"], Prior.read(spec["prior"]), spec["n"], asked, spec["moves"])
    tick(spec["n"])
    tensors = {k: torch.from_numpy(np.ascontiguousarray(getattr(p, k))) for k in _ARRAYS}
    return tensors, {"log_evidence": float(p.log_evidence), "said": repr(p)}


def sample_read(
    made: tuple,  # Tensors and facts of a cell
    prior: Prior = Prior(),
) -> Population:
    "A run as it was kept."
    tensors, facts = made
    return Population(*(tensors[k].numpy() for k in _ARRAYS), facts["log_evidence"], prior)

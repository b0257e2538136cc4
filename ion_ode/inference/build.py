"""The shipped samples of membranes, made again: `python -m ion_ode.inference.build FOLDER [SEED]`

nf270.json learns from every row; without-NAME.json are the same with one composition or one source held out, thinned,
for the scores; nf.json is what any nanofiltration membrane may be, from NF270, NF90, DK and NFX; scores.csv is what
the held-out rows say."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from ion_ode.store import atomic_write, provenance
from ion_ode.inference.answer import Answer, answer_of, new_coupons
from ion_ode.inference.laws import GLOBALS, LAWS, Prior, parameters
from ion_ode.inference.pores import solve
from ion_ode.inference.population import sample_population
from ion_ode.inference.rows import COMPOSITIONS, SOURCES, answer_rows, hold_out
from ion_ode.inference.score import predicted, scores
from ion_ode.inference.states import States

__all__ = ["ANY_MEMBRANE", "FOLD_SIZE", "any_membrane", "build", "fold_answers", "learn", "likeliest"]

ANY_MEMBRANE = Prior(
    r_pore=(0.36e-9, 0.75e-9), thickness=(0.2e-6, 20e-6), permeability=(6.0, 0.6)
)  # Wider than NF270, in water permeability too
FOLD_SIZE = 160  # Membranes kept of a fold
_MEMBRANES = 384


def learn(
    rows: pd.DataFrame,  # Of `answer_rows`
    seed: int = 0,
    prior: Prior = Prior(),
    n: int = _MEMBRANES,
):  # Population, states
    "The posterior of a table of rows."
    states = States.of(rows, prior)
    return sample_population(states, solve, n, moves=4, last=20, seed=seed, prior=prior), states


def fold_answers(
    name: str,  # One of COMPOSITIONS or SOURCES
    population,
    states: States,
    rows: pd.DataFrame,  # It learned from
) -> Answer:
    "The sample that scores a fold."
    coupon = "fdly2021" if name in "ABCD" else None
    return answer_of(population, rows, f"NF270 without {name}", states=states, coupon=coupon).thinned(FOLD_SIZE)


def likeliest(population) -> dict:  # Columns of `parameters` and the coupon of none
    "Parameters of the membrane of highest posterior density."
    k = int(np.argmax(population.log_target))
    return {k_: float(v) for k_, v in parameters(population.x[k : k + 1], population.prior).iloc[0].items()}


def _in_terms_of(x: np.ndarray, old: Prior, new: Prior) -> np.ndarray:
    "The same membranes as normal numbers of another prior."
    from scipy.special import ndtr, ndtri

    out, at = x.copy(), GLOBALS.index
    r = old.r_pore[0] + ndtr(x[:, at("r_pore")]) * (old.r_pore[1] - old.r_pore[0])
    t = np.log(old.thickness[0]) + ndtr(x[:, at("thickness")]) * np.log(old.thickness[1] / old.thickness[0])
    out[:, at("r_pore")] = ndtri(np.clip((r - new.r_pore[0]) / (new.r_pore[1] - new.r_pore[0]), 1e-4, 1 - 1e-4))
    out[:, at("thickness")] = ndtri(
        np.clip((t - np.log(new.thickness[0])) / np.log(new.thickness[1] / new.thickness[0]), 1e-4, 1 - 1e-4)
    )
    return out


def any_membrane(
    populations: dict,  # {name: population}; all but NF270's under ANY_MEMBRANE
    n: int = _MEMBRANES,
    seed: int = 0,
) -> Answer:
    "What a nanofiltration membrane may be: as many membranes as were measured, and the spread between and within them."
    parts = {
        k: p.x if p.prior == ANY_MEMBRANE else _in_terms_of(p.x, p.prior, ANY_MEMBRANE) for k, p in populations.items()
    }
    means = np.stack([x.mean(0) for x in parts.values()])
    k = len(means)
    within = np.mean([np.cov(x.T) for x in parts.values()], 0)
    between = np.cov(means.T) * (1 + 1 / k)
    cov = between + within + 0.1 * np.eye(len(GLOBALS))
    rng = np.random.default_rng(seed)
    x = rng.multivariate_normal(means.mean(0), cov, n).clip(-4, 4)
    x[:, GLOBALS.index("law")] = rng.choice(np.concatenate([v[:, GLOBALS.index("law")] for v in parts.values()]), n)
    card = {"name": "any nanofiltration membrane", "values": "those of " + ", ".join(parts), "ranges": {}}
    return Answer(x, new_coupons(n, seed), ANY_MEMBRANE, 1.0, card)


def build(folder: str | Path, seed: int = 0, names: tuple[str, ...] = (*COMPOSITIONS, *SOURCES)) -> Path:
    "Learn, hold out, score, and write everything that ships."
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows, table, held = answer_rows(), [], []
    whole, states = learn(rows, seed)
    for name in names:
        train, test = hold_out(rows, name)
        population, s = learn(train, seed)
        answer = fold_answers(name, population, s, train)
        answer.save(folder / f"without-{name}.json")
        p = predicted(answer, test).assign(fold=name)
        held.append(p)
        table.append({"held out": name, **scores(p)})
    laws = {
        k: float(v)
        for k, v in zip(LAWS, np.bincount(parameters(whole.x).law, minlength=len(LAWS)) / len(whole.x), strict=True)
    }
    facts = {"laws": laws, "likeliest": likeliest(whole), "provenance": provenance(seed=seed)}
    answer_of(whole, rows, "NF270", **facts).save(folder / "nf270.json")
    others = {m: learn(answer_rows(m), seed, ANY_MEMBRANE, 192)[0] for m in ("NF90", "DK", "NFX")}
    any_membrane({"NF270": whole, **others}, seed=seed).save(folder / "nf.json")
    pd.concat(held)[["fold", "rejection", "predicted", "lower", "upper"]].round(4).to_csv(folder / "held_out.csv")
    atomic_write(folder / "scores.csv", pd.DataFrame(table).round(4).to_csv(index=False))
    return folder


if __name__ == "__main__":
    print(build(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))

"""Shipped samples of membranes, made again by `ion-ode reproduce --only answer`

nf270.json learns from every row; without-NAME.json are the same with one composition or one source held out,
for the scores; nf.json is what any nanofiltration membrane may be, from NF270, NF90, DK and NFX; scores.csv is what
the held-out rows say. Every posterior is two runs of independent starts, half of it from each; what each alone
scores stands beside the score. `--only answer-scores` samples nothing: it scores the samples that are stored."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ion_ode.closure import Cell
from ion_ode.store import asset, atomic_write, provenance
from ion_ode.inference.answer import Answer, answer_of, new_coupons
from ion_ode.inference.laws import GLOBALS, LAWS, Prior, parameters
from ion_ode.inference.learn import sample_cell, sample_name, sample_read
from ion_ode.inference.pores import solve
from ion_ode.inference.population import Population
from ion_ode.inference.prolong import spokesmen
from ion_ode.inference.rows import COMPOSITIONS, SOURCES, answer_rows, hold_out, split_table
from ion_ode.inference.aims import aims
from ion_ode.inference.score import own_draws, own_values, predicted, scores
from ion_ode.inference.states import LOCALS, States, forward, y_of
from ion_ode.inference.value_error import value_errors

__all__ = ["any_membrane", "answer_cells", "fold_answer", "likeliest", "write_answers", "write_scores"]

_ANY = Prior(
    r_pore=(0.36e-9, 0.75e-9), thickness=(0.2e-6, 20e-6), permeability=(6.0, 0.6)
)  # Wider than NF270, in water permeability too
_RUNS = (0, 1)  # Seeds of independent runs
_FOLDS, _OTHERS = (*COMPOSITIONS, *SOURCES), ("NF90", "DK", "NFX")
_MEMBRANES = 192  # That ship or score a fold, half of each run


def likeliest(population: Population, rows: pd.DataFrame) -> int:  # Its place in the population
    "Of the tenth of highest posterior density, the membrane nearest to what all say of the measured feeds."
    states, n = States.of(rows, population.prior), len(population.x)
    none = np.zeros((n, len(states.laboratories), len(LOCALS))), np.zeros((n, len(states.coupons)))
    R, _ = forward(states, population.x, *none, solve, population.prior)
    y = y_of(R[:, states.row_problem[:, 0], states.row_ion])
    off = np.nanmean((y - np.nanmedian(y, 0)) ** 2, 1)
    high = population.log_target >= np.quantile(population.log_target, 0.9)
    return int(np.argmin(np.where(high & np.isfinite(y).all(1), off, np.inf)))


def _in_terms_of(x: np.ndarray, old: Prior, new: Prior) -> np.ndarray:
    "The same membranes as normal numbers of another prior."
    from scipy.special import ndtri

    out, names = x.copy(), ("r_pore", "thickness")
    there = [GLOBALS.index(k) for k in names]
    for j, k, v in zip(there, names, old.at_normal(x[:, there], names).values(), strict=True):
        out[:, j] = ndtri(np.clip(new.marginals()[k].quantile(v), 1e-4, 1 - 1e-4))
    return out


def any_membrane(
    populations: dict,  # {name: population}; all but NF270's under _ANY
    n: int = 2 * _MEMBRANES,
    seed: int = 0,
) -> Answer:
    "What a nanofiltration membrane may be: as many membranes as were measured, and the spread between and within them."
    parts = {k: p.x if p.prior == _ANY else _in_terms_of(p.x, p.prior, _ANY) for k, p in populations.items()}
    means = np.stack([x.mean(0) for x in parts.values()])
    k = len(means)
    within = np.mean([np.cov(x.T) for x in parts.values()], 0)
    between = np.cov(means.T) * (1 + 1 / k)
    cov = between + within + 0.1 * np.eye(len(GLOBALS))
    rng = np.random.default_rng(seed)
    x = rng.multivariate_normal(means.mean(0), cov, n).clip(-4, 4)
    x[:, GLOBALS.index("law")] = rng.choice(np.concatenate([v[:, GLOBALS.index("law")] for v in parts.values()]), n)
    card = {"name": "any nanofiltration membrane", "values": "those of " + ", ".join(parts), "ranges": {}}
    return Answer(x, new_coupons(n, seed), _ANY, 1.0, card)


_STRETCHES = np.array([0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6])


@dataclass(frozen=True)
class _Once(Answer):
    "A sample that solves each question once, whatever the factor on its errors."

    known: dict = field(default_factory=dict, repr=False, compare=False)

    def _solve(self, names, c, asked, *how):
        key = tuple(names), c.tobytes(), asked.tobytes(), str(how)
        if key not in self.known:
            self.known[key] = super()._solve(names, c, asked, *how)
        return self.known[key]


def _covered(answer: Answer, test: pd.DataFrame) -> np.ndarray:  # (stretch,)
    "Share of held-out rows inside the 90 % interval, for every factor on the errors."
    shares, once = [], _Once(**{f.name: getattr(answer, f.name) for f in fields(answer)})
    for s in _STRETCHES:
        p = predicted(replace(once, stretch=float(s)), test)
        shares.append(float(((p.rejection >= p.lower - 1e-9) & (p.rejection <= p.upper + 1e-9)).mean()))
    return np.array(shares)


def _stretch_for(shares: list[np.ndarray], level: float = 0.9) -> float:
    "The factor on the errors at which the mean over held-out groups covers as it should; every group counts alike."
    mean = np.maximum.accumulate(np.mean(shares, 0))
    return round(float(np.interp(level, mean, _STRETCHES)), 3)


def _score_folds(folds: dict) -> tuple[pd.DataFrame, pd.DataFrame, dict, float]:
    "Held-out rows and their scores; each fold's stretch is chosen on the other folds, the shipped one on all."
    share = {n: _covered(a, test) for n, (a, test) in folds.items()}
    held, table, models = [], [], {}
    for name, (answer, test) in folds.items():
        s = _stretch_for([v for n, v in share.items() if n != name])
        models[name] = replace(answer, stretch=s)
        p = predicted(models[name], test).assign(fold=name)
        held.append(p)
        table.append({"held out": name, **scores(p), "stretch": s})
    return pd.concat(held), pd.DataFrame(table), models, _stretch_for(list(share.values()))


def _worth_of_own(models: dict, folds: dict, ask: Callable, names: tuple) -> pd.DataFrame:
    "Scores of the other values of a coupon against the number of its own that were told."
    out = []
    for name in (n for n in names if n in models):
        for k, g in ask(models[name], folds[name][1]).groupby("own"):
            out.append({"source": name, "own": k, **scores(g)})
    return pd.DataFrame(out)


def _write(folder: Path, model: Answer, wide: Answer, folds: dict, runs: pd.DataFrame) -> dict:  # Samples of the folds
    "Choose the factors on the errors, score, and write everything that ships."
    held, table, models, stretch = _score_folds(folds)
    for name, m in models.items():
        m.save(folder / f"without-{name}.json")
    model = replace(model, stretch=stretch)
    model.save(folder / "nf270.json")
    replace(wide, stretch=stretch).save(folder / "nf.json")
    text = lambda d: d.round(4).to_csv(index=False)
    atomic_write(folder / "splits.csv", split_table().to_csv())
    atomic_write(folder / "scores.csv", text(table.merge(runs, on="held out")))
    atomic_write(folder / "held_out.csv", text(held.reset_index()[["row_id", "fold", "predicted", "lower", "upper"]]))
    own = _worth_of_own(models, folds, own_values, ("wang2023", "liu2025", "ritt2020"))
    atomic_write(folder / "own_values.csv", text(own))
    atomic_write(folder / "own_draws.csv", text(_worth_of_own(models, folds, own_draws, SOURCES)))
    atomic_write(folder / "aims.csv", aims(model, answer_rows(), held, table, own).to_csv(index=False))
    return models


def _whole(population: Population, rows: pd.DataFrame) -> Answer:
    "The sample that ships, with its laws and its likeliest membrane."
    count = np.bincount(parameters(population.x).law, minlength=len(LAWS)) / len(population.x)
    central = parameters(population.x, population.prior).iloc[likeliest(population, rows)].astype(float).to_dict()
    facts = {"laws": dict(zip(LAWS, count.tolist(), strict=True)), "likeliest": central}
    return answer_of(population, rows, "NF270", **facts, provenance=provenance(seed=list(_RUNS)))


def _joined(populations: list[Population], n: int = _MEMBRANES, asked: States | None = None) -> Population:
    "Independent runs as one sample, an equal part of each: evenly, or those that speak for all of the feeds asked."
    each = n // len(populations)
    evenly = lambda p: np.linspace(0, len(p.x) - 1, each).round().astype(int)
    at = [evenly(p) if asked is None else spokesmen(p, each, asked) for p in populations]
    join = lambda k: np.concatenate([getattr(p, k)[i] for p, i in zip(populations, at, strict=True)])
    log_z = float(np.mean([p.log_evidence for p in populations]))
    return Population(*map(join, ("x", "lab", "coupon", "log_like")), log_z, populations[0].prior)


def fold_answer(name: str, population: Population, rows: pd.DataFrame) -> Answer:
    "The sample that scores a fold, on coupons nobody has measured."
    return answer_of(population, rows, f"NF270 without {name}")


def _fold(read: Callable, name: str, rows: pd.DataFrame) -> tuple[Answer, pd.DataFrame, dict]:
    "The sample that scores a fold; held-out rows; what each run alone says of them."
    train, test = hold_out(rows, name)
    each = [sample_read(read(sample_name(name, seed))) for seed in _RUNS]
    said = {"held out": name, "distinct": sum(p.n_distinct for p in each)}
    for seed, p in zip(_RUNS, each, strict=True):
        said[f"mse of run {seed}"] = scores(predicted(answer_of(p, train, name), test))["mse"]
        said[f"log evidence of run {seed}"] = p.log_evidence
    return fold_answer(name, _joined(each, asked=States.of(test)), train), test, said


def answer_cells(
    full: bool = True,  # False: runs so small that they only show that all parts fit
) -> list[Cell]:
    "Every run that the shipped samples are made of."
    n = {} if full else {"n": 32, "moves": 2}
    folds = [sample_cell(name, seed, **n) for name in _FOLDS for seed in _RUNS]
    others = [sample_cell(m, seed, _ANY, whole=True, **n | {"moves": 0}) for m in _OTHERS for seed in _RUNS]
    return folds + others + [sample_cell("NF270", seed, whole=True, **n) for seed in _RUNS]


def write_answers(
    read: Callable,  # Name of a cell -> its tensors and facts
    folder: Path,  # Where the samples and their scores go
) -> Path:
    "Hold out, score, and write everything that ships."
    rows = answer_rows()
    folds = {name: _fold(read, name, rows) for name in _FOLDS}
    run = lambda name, prior=Prior(): _joined([sample_read(read(sample_name(name, s)), prior) for s in _RUNS])
    others = {m: run(m, _ANY) for m in _OTHERS}
    runs, whole = pd.DataFrame([said for _, _, said in folds.values()]), run("NF270")
    wide = any_membrane({"NF270": whole, **others})
    models = _write(folder, _whole(whole, rows), wide, {n: f[:2] for n, f in folds.items()}, runs)
    learned = []
    for name in SOURCES:
        both = _joined([sample_read(read(sample_name(name, s))) for s in _RUNS], 4 * _MEMBRANES)
        learned += [{"held out": name, **v} for v in value_errors(both, *hold_out(rows, name), models[name])]
    atomic_write(folder / "value_errors.csv", pd.DataFrame(learned).round(4).to_csv(index=False))
    return folder


_OF_RUNS = ("held out", "distinct", *(f"{what} of run {s}" for s in _RUNS for what in ("mse", "log evidence")))


def write_scores(
    folder: Path,  # Where samples and scores go
    stored: Path | None = None,  # Folder of the samples; None: that of the package
) -> Path:
    "Score the stored samples anew and write everything that follows; what each run alone said is kept."
    rows, at = answer_rows(), stored or asset("answers/scores.csv").parent
    folds = {n: (Answer.load(at / f"without-{n}.json"), hold_out(rows, n)[1]) for n in _FOLDS}
    runs = pd.read_csv(at / "scores.csv")[list(_OF_RUNS)]
    _write(folder, Answer.load(at / "nf270.json"), Answer.load(at / "nf.json"), folds, runs)
    return folder

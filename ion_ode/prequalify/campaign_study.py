"""The measured results of chapter 06: python -m ion_ode.prequalify.campaign_study [PART ...] --out FOLDER"""

import sys
import time
import warnings
from functools import partial

import numpy as np
import pandas as pd

from ion_ode.core import need
from ion_ode.store import asset
from ion_ode.prequalify.campaign import Campaign
from ion_ode.prequalify.progress import made_until
from ion_ode.prequalify.quantities import modelled, read_objective
from ion_ode.prequalify.tables import measured_name, read_table

SEEDS = (1, 2, 3, 4, 5)
QUANTITIES = ("permeance", "rejection MgCl2", "rejection Na2SO4", "rejection NaCl", "rejection PEG400")
OBJECTIVES = ("permeance", "selectivity NaCl/Na2SO4")
N_START = 8  # Membranes made at random before the campaign has a say


# ---- one laboratory


def group_folds(groups, n: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    "Rows to train on and to score; a group is never on both sides."
    groups = np.asarray(groups).astype(str)
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    return [
        (np.flatnonzero(~np.isin(groups, part)), np.flatnonzero(np.isin(groups, part)))
        for part in np.array_split(names, n)
    ]


def by_campaign(train: pd.DataFrame, test: pd.DataFrame, seed: int, level: float = 0.9) -> dict[str, pd.DataFrame]:
    "Predictions of `Campaign` on the logarithms, with their ends."
    p = Campaign(seed=seed).fit(train).predict(test, level)
    out = {}
    for m in QUANTITIES:
        ends = np.sort([modelled(p[f"{m} {e}"], m) for e in ("lower", "upper")], axis=0)
        out[m] = pd.DataFrame({"p": modelled(p[m], m), "lower": ends[0], "upper": ends[1]})
    return out


def by_regressor(make, columns, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    "A model of scikit-learn on the recipe columns as they stand."
    x, z = (d[columns].to_numpy(float) for d in (train, test))
    mean, sd = x.mean(0), x.std(0) + 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length scale at its bound
        fit = {m: make(seed).fit((x - mean) / sd, modelled(train[header(m)], m)) for m in QUANTITIES}
    return {m: pd.DataFrame({"p": f.predict((z - mean) / sd)}) for m, f in fit.items()}


def header(m: str) -> str:
    "A measured quantity as the table of deng2022 writes it."
    return "permeance [LMH/bar]" if m == "permeance" else m


def peers() -> dict:
    "What the campaign is set beside, on the four columns as they stand: names and functions of train, test, seed."
    gp = need("sklearn.gaussian_process", "campaign")
    k = gp.kernels
    kernel = k.ConstantKernel(1.0) * k.Matern([1.0] * 4, (0.1, 100), nu=2.5) + k.WhiteKernel(0.1)
    plain = lambda s: gp.GaussianProcessRegressor(kernel, normalize_y=True, random_state=s)
    boosting = lambda s: need("sklearn.ensemble", "campaign").GradientBoostingRegressor(
        n_estimators=200, max_depth=3, learning_rate=0.08, subsample=0.7, random_state=s
    )
    nearest = lambda s: need("sklearn.neighbors", "campaign").KNeighborsRegressor(1)
    mean = lambda s: need("sklearn.dummy", "campaign").DummyRegressor()
    columns = ["PIP [wt%]", "TMC [wt%]", "SDS [mM]", "reaction time [s]"]
    made = {"mean": mean, "nearest recipe": nearest, "gradient boosting": boosting, "plain Gaussian process": plain}
    return {name: partial(by_regressor, make, columns) for name, make in made.items()} | {"campaign": by_campaign}


def held_out(folds, table: pd.DataFrame, seed: int, models: dict) -> list[pd.DataFrame]:
    "Every model on the membranes it has not seen."
    rows = []
    for fold, (train, test) in enumerate(folds):
        for name, model in models.items():
            for m, p in model(table.iloc[train], table.iloc[test], seed).items():
                y = modelled(table[header(m)].iloc[test], m)
                rows.append(
                    p.assign(
                        y=y, quantity=m, model=name, seed=seed, fold=fold, name=table["name"].iloc[test].to_numpy()
                    )
                )
    return rows


def recipes_part() -> dict[str, pd.DataFrame]:
    "Whole recipes held out, five folds, five times."
    table = pd.read_csv(asset("prequalify/deng2022.csv"))
    rows = []
    for seed in SEEDS:
        rows += held_out(group_folds(table["name"], 5, seed), table, seed, peers())
        say(f"recipes, seed {seed}")
    return {"recipes": pd.concat(rows)}


def round_folds(table: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    "The rounds so far, and the next."
    r = table["round"].to_numpy()
    return [(np.flatnonzero(r < k), np.flatnonzero(r == k)) for k in np.unique(r)[1:]]


def rounds_part() -> dict[str, pd.DataFrame]:
    "Each round predicted from the rounds before it."
    table = pd.read_csv(asset("prequalify/deng2022.csv"))
    return {"rounds": pd.concat(held_out(round_folds(table), table, 0, peers()))}


def objective_points(table: pd.DataFrame, objectives) -> np.ndarray:  # (n, objective)
    "Objectives of every membrane, as measured."
    found = [read_objective(o, list(QUANTITIES)) for o in objectives]
    return np.stack([sum(w * modelled(table[header(m)], m) for m, w in f.items()) for f in found], 1)


def replay(
    table: pd.DataFrame,  # Every membrane, measured
    start: list[int],  # Rows made before the campaign has a say
    seed: int,
    objectives=OBJECTIVES,
) -> list[int]:  # Rows in the order in which they are made
    "A campaign of one membrane at a time, until 95 % of the final hypervolume."
    wanted = {m for o in objectives for m in read_objective(o, list(QUANTITIES))}
    kept = [c for c in table if (measured_name(c) or (None,))[0] in {None, *wanted}]
    table, points, order = table[kept], objective_points(table, objectives), list(start)
    place = {n: i for i, n in enumerate(table["name"])}
    c = Campaign(read_table(table)[1], list(objectives), seed).fit(table.iloc[order])
    while made_until(points, order) > len(order):
        left = table.drop(index=order)
        row = place[c.suggest(1, candidates=left, remember=False, explain=False)["name"].iloc[0]]
        order.append(row)
        c.add(table.iloc[[row]])
    return order


def choice_part(seeds=range(20), n_random: int = 50) -> dict[str, pd.DataFrame]:
    "Membranes until 95 % of the final hypervolume: the campaign, and random choice after the same start."
    table = pd.read_csv(asset("prequalify/deng2022.csv"))
    points, rows = objective_points(table, OBJECTIVES), []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        start = rng.permutation(len(table))[:N_START].tolist()
        order = replay(table, start, seed)
        rows.append(("campaign", seed, made_until(points, order)))
        rest = np.setdiff1d(np.arange(len(table)), start)
        rows += [("random", seed, made_until(points, [*start, *rng.permutation(rest)])) for _ in range(n_random)]
        say(f"choice, seed {seed}: {rows[-n_random - 1][2]}, random {np.mean([r[2] for r in rows[-n_random:]]):.0f}")
    return {"choice": pd.DataFrame(rows, columns=["order", "seed", "membranes"])}


def say(text: str, start=time.monotonic()):
    print(f"{time.monotonic() - start:6.0f} s  {text}", file=sys.stderr, flush=True)

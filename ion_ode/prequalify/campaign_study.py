"""The measured results of chapter 06: python -m ion_ode.prequalify.campaign_study [PART ...] --out FOLDER"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from ion_ode.prequalify.campaign import Campaign
from ion_ode.prequalify.campaign_parts import _leaks_part, _papers_part, _recipes_part, _rounds_part, say
from ion_ode.prequalify.campaign_peers import QUANTITIES, header
from ion_ode.prequalify.progress import made_until
from ion_ode.prequalify.quantities import modelled, read_objective, reference_point
from ion_ode.prequalify.tables import read_table
from ion_ode.store import asset, atomic_write, digest, provenance

_OBJECTIVES = ("permeance", "selectivity NaCl/MgCl2")
_N_START = 5  # Membranes made before the campaign has a say: one at random, the others spread over the recipes


# ---- one laboratory


def _objective_points(table: pd.DataFrame, objectives) -> tuple[np.ndarray, np.ndarray]:  # (n, objective), reference
    "Objectives of every membrane, as measured."
    found = [read_objective(o, list(QUANTITIES)) for o in objectives]
    points = np.stack([sum(w * modelled(table[header(m)], m) for m, w in f.items()) for f in found], 1)
    return points, reference_point(points, found)


def replay(
    table: pd.DataFrame,  # Every membrane, measured
    start: list[int],  # Rows made before the campaign has a say
    seed: int,
    objectives=_OBJECTIVES,
) -> list[int]:  # Rows in the order in which they are made
    "A campaign of one membrane at a time, until 95 % of the final hypervolume."
    points, reference, order = *_objective_points(table, objectives), list(start)
    place = {n: i for i, n in enumerate(table["name"])}
    c = Campaign(read_table(table)[1], list(objectives), seed).fit(table.iloc[order])
    while made_until(points, order, reference) > len(order):
        left = table.drop(index=order)
        row = place[c.suggest(1, candidates=left, remember=False, explain=False)["name"].iloc[0]]
        order.append(row)
        c.add(table.iloc[[row]])
    return order


_SHARES = (0.8, 0.9, 0.95)  # Of the hypervolume of all membranes


def _choice_part(seeds=range(20), n_random: int = 50) -> dict[str, pd.DataFrame]:
    "Membranes until shares of the final hypervolume: the campaign, and random choice after the same start."
    table = pd.read_csv(asset("prequalify/deng2022.csv"))
    (points, reference), rows = _objective_points(table, _OBJECTIVES), []
    schema, place = read_table(table)[1], {n: i for i, n in enumerate(table["name"])}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        first = Campaign(schema, seed=seed).start(table, _N_START)["name"]
        start = [place[n] for n in first]
        order = replay(table, start, seed)
        rest = np.setdiff1d(np.arange(len(table)), start)
        shuffled = [[*start, *rng.permutation(rest)] for _ in range(n_random)]
        for share in _SHARES:
            took = lambda o, share=share: made_until(points, o, reference, share)
            rows.append((seed, share, took(order), np.mean([took(o) for o in shuffled])))
        say(f"choice, seed {seed}: {rows[-1][2]}, random {rows[-1][3]:.0f}")
    return {"choice": pd.DataFrame(rows, columns=["seed", "share", "campaign", "random"])}


# ---- many laboratories


# ---- the command

PARTS = {
    "recipes": _recipes_part,
    "rounds": _rounds_part,
    "choice": _choice_part,
    "papers": _papers_part,
    "leaks": _leaks_part,
}


def record(part: str, tables: list[str], folder: Path) -> dict:
    "Commit, versions, inputs and results of a part."
    from importlib.metadata import version

    inputs = [f"prequalify/{t}.csv" for t in ("deng2022", "nf_intelligence", "osn")] + ["tfc_membranes.csv"]
    found = provenance(
        None,
        command=f"python -m ion_ode.prequalify.campaign_study {part}",
        inputs={n: digest(asset(n).read_bytes()) for n in inputs},
        results={n: digest((folder / f"{n}.csv").read_bytes()) for n in tables},
    )
    found["versions"] |= {p: version(p) for p in ("botorch", "rdkit", "scikit-learn")}
    return found


def main(argv=None):
    "Measure parts and store them with their record."
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    cli.add_argument("--out", default="results/prequalify", type=Path)
    a = cli.parse_args(argv)
    a.out.mkdir(parents=True, exist_ok=True)
    for part in a.parts or PARTS:
        tables = PARTS[part]()
        for name, d in tables.items():
            atomic_write(a.out / f"{name}.csv", d.round(3).to_csv(index=False))
        atomic_write(a.out / f"study_{part}.json", json.dumps(record(part, list(tables), a.out), indent=1) + "\n")


if __name__ == "__main__":
    main()

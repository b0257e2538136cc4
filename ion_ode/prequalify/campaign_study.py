"""The measured results of chapter 06, and the screen that ships: ion-ode reproduce --only campaign"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from ion_ode.closure import Cell, cell
from ion_ode.prequalify.campaign import Campaign
from ion_ode.prequalify.campaign_parts import leaks_part, papers_part, recipes_part, rounds_part
from ion_ode.prequalify.campaign_peers import QUANTITIES, header
from ion_ode.prequalify.literature import Screen
from ion_ode.prequalify.progress import made_until
from ion_ode.prequalify.quantities import modelled, read_objective, reference_point
from ion_ode.prequalify.tables import read_table
from ion_ode.store import asset, atomic_write, digest, provenance

_OBJECTIVES = ("permeance", "selectivity NaCl/MgCl2")
_N_START = 5  # Membranes made before the campaign has a say: one at random, the others spread over the recipes


# ---- one laboratory


def objective_points(table: pd.DataFrame, objectives) -> tuple[np.ndarray, np.ndarray]:  # (n, objective), reference
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
    points, reference, order = *objective_points(table, objectives), list(start)
    place = {n: i for i, n in enumerate(table["name"])}
    c = Campaign(read_table(table)[1], list(objectives), seed).fit(table.iloc[order])
    while made_until(points, order, reference) > len(order):
        left = table.drop(index=order)
        row = place[c.suggest(1, candidates=left, remember=False, explain=False)["name"].iloc[0]]
        order.append(row)
        c.add(table.iloc[[row]])
    return order


_SHARES = (0.8, 0.9, 0.95)  # Of the hypervolume of all membranes


def _choice_part(seed: int, n_random: int = 50) -> pd.DataFrame:
    "Membranes until shares of the final hypervolume: the campaign, and random choice after the same start."
    table = pd.read_csv(asset("prequalify/deng2022.csv"))
    (points, reference), rng = objective_points(table, _OBJECTIVES), np.random.default_rng(seed)
    schema, place = read_table(table)[1], {n: i for i, n in enumerate(table["name"])}
    start = [place[n] for n in Campaign(schema, seed=seed).start(table, _N_START)["name"]]
    order = replay(table, start, seed)
    rest = np.setdiff1d(np.arange(len(table)), start)
    shuffled = [[*start, *rng.permutation(rest)] for _ in range(n_random)]
    took = lambda o, share: made_until(points, o, reference, share)
    rows = [(seed, s, took(order, s), np.mean([took(o, s) for o in shuffled])) for s in _SHARES]
    return pd.DataFrame(rows, columns=["seed", "share", "campaign", "random"])


# ---- cells, and what ships of them

_PARTS = {
    "recipes": (recipes_part, [{"seed": s} for s in (1, 2, 3)]),
    "rounds": (rounds_part, [{}]),
    "choice": (_choice_part, [{"seed": s} for s in range(20)]),
    "papers": (papers_part, [{}]),
    "leaks": (leaks_part, [*({"seed": s, "network": False} for s in (1, 2, 3)), {"seed": 1, "network": True}]),
}
_INPUTS = [f"prequalify/{t}.csv" for t in ("deng2022", "nf_intelligence", "osn")] + ["tfc_membranes.csv"]


def _inputs() -> dict[str, str]:
    return {n: digest(asset(n).read_bytes()) for n in _INPUTS}


def campaign_cells(
    full: bool = True,  # False: one campaign replayed, and the screen
) -> list[Cell]:
    "Every part of the study, cut where it can be computed apart, and the screen that ships."
    inputs, screen = _inputs(), Cell("screen", "screen", {"inputs": _inputs()})
    cut = {n: v for n, (_, v) in _PARTS.items()} if full else {"choice": _PARTS["choice"][1][:1]}
    name = lambda part, o: " ".join(["campaign", part, *(f"{k} {v}" for k, v in o.items())])
    spec = lambda part, o: {"part": part, "options": o, "inputs": inputs}
    return [screen, *(Cell(name(p, o), "campaign", spec(p, o)) for p, every in cut.items() for o in every)]


@cell("campaign")
def _cell_campaign(folder, spec, found, tick):
    "A part of the study: its table."
    table = _PARTS[spec["part"]][0](**spec["options"])
    tick(1)
    return {}, {"table": table.to_dict("list")}


@cell("screen")
def _cell_screen(folder, spec, found, tick):
    "The screen fitted on the literature, as its file holds it."
    with tempfile.TemporaryDirectory() as tmp:
        text = Screen().fit().save(Path(tmp) / "screen.json").read_text(encoding="utf-8")
    tick(1)
    return {}, {"text": text}


def _record(part: str, table: Path) -> dict:
    "Commit, versions, inputs and result of a part."
    command = "ion-ode reproduce --only campaign --profile full --store"
    found = provenance(None, command=command, inputs=_inputs(), results={part: digest(table.read_bytes())})
    found["versions"] |= {p: version(p) for p in ("botorch", "rdkit", "scikit-learn")}
    return found


def write_campaign(
    read,  # Name of a cell -> its tensors and facts
    folder: Path,  # Where tables and records go
    full: bool = True,  # As for `campaign_cells`
) -> Path:
    "A table and its record for every part, and the screen."
    cells, parts = campaign_cells(full), {}
    for c in (c for c in cells if c.kind == "campaign"):
        parts.setdefault(c.spec["part"], []).append(pd.DataFrame(read(c.name)[1]["table"]))
    for part, tables in parts.items():
        text = pd.concat(tables).round(3).to_csv(index=False)
        record = _record(part, atomic_write(folder / f"{part}.csv", text))
        atomic_write(folder / f"study_{part}.json", json.dumps(record, indent=1) + "\n")
    return atomic_write(folder / "screen.json", read("screen")[1]["text"])

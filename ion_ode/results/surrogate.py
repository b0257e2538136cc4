"""How well a network stands in for the pore model"""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.cells import cell_keys, read_cell
from ion_ode.data.curves import CurveSet
from ion_ode.data.design import Design
from ion_ode.data.shards import simulate_shards
from ion_ode.dspmde.membranes import NF270_WATERTAP
from ion_ode.dspmde.prior import SLOTS, parameter_names
from ion_ode.results.standins import ALONE, EFFORTS, SETS, Effort, errors, place_of, read_set, recipe, standin_cells
from ion_ode.results.standins import summary as _summary
from ion_ode.runner import run_cells
from ion_ode.store import atomic_write, provenance
from ion_ode.training.predictor import Predictor, save_model, trained_ranges
from ion_ode.training.recipe import TrainConfig, build

AIM = {"median": 0.003, "within_95": 0.02}  # Errors of the rejection asked for [-]


def _simulate(folder: Path, name: str, n: int, **where) -> None:
    "A set of curves, or what is missing of it."
    seed, family = SETS[name]
    simulate_shards(place_of(folder, name), n, Design(seed=seed, n_flux=16, family=family), **where)
    read_set.cache_clear()


def simulate_sets(
    folder: str | Path,  # Of the cells
    effort: str = "full",  # Key of EFFORTS
    workers: int = 0,  # Processes, one thread each; 0 computes here
    scheduler: str | None = None,  # Address of a Dask scheduler; its workers must see `folder`
) -> None:
    "The curves that networks are taught, and those by which one is chosen."
    size = EFFORTS[effort]
    for name, n in (("train", size.sizes[-1]), ("validation", size.unseen)):
        _simulate(Path(folder), name, n, workers=workers, scheduler=scheduler)


def run(
    folder: str | Path,  # Where curves and networks are kept
    effort: str = "full",  # Key of EFFORTS
    scheduler: str | None = None,  # Address of a Dask scheduler; its workers must see `folder`
    device=None,  # Where networks are trained, such as "cuda"; None: the CPU
    workers: int = 0,  # Processes, one thread each; 0 computes here
) -> pd.DataFrame:  # field, curves, steps, median, within_95, mean, cpu_s
    "Simulate, train and score on validation curves; what is there already is kept."
    folder = Path(folder).resolve()
    simulate_sets(folder, effort, workers, scheduler)
    run_cells(standin_cells(EFFORTS[effort], device), folder, workers, scheduler)
    return scores(folder, effort, device)


def _closed_form(effort: Effort) -> tuple[TrainConfig, Ensemble]:
    "The closed form by itself: behind a last layer of zeros the smallest network does what the largest would."
    config = recipe(ALONE, 1, 0, effort)
    network = replace(config.network, encoding="none", attention=False, d_k=1, width=1, depth=2)
    config = replace(config, network=network)
    return config, build(config, [config.seed])


def scores(
    folder: str | Path,  # Of `run`
    effort: str = "full",  # Key of EFFORTS
    device=None,  # As for `run`
) -> pd.DataFrame:  # One row a network, and one for the closed form alone
    "Validation scores of the networks and of the closed form."
    cells = standin_cells(EFFORTS[effort], device)
    keys, shown = cell_keys(cells), ("field", "curves", "steps", "median", "within_95", "mean", "cpu_s")
    made = [read_cell(folder, c.name, keys[c.name])[1] for c in cells]
    alone = _summary(errors(*_closed_form(EFFORTS[effort]), read_set(Path(folder).resolve(), "validation")))
    first = {"field": ALONE, "curves": 0, "steps": 0, **alone, "cpu_s": 0.0}
    return pd.DataFrame([first, *({k: r[k] for k in shown} for r in made)])


def _candidates(folder: Path, size: Effort, device) -> dict[str, tuple[TrainConfig, Ensemble]]:
    "What may ship, by field: the networks that were trained longest, and the closed form."
    cells, out = standin_cells(size, device), {}
    keys = cell_keys(cells)
    for c in (c for c in cells if c.name.endswith("long")):
        config = TrainConfig.from_dict(c.spec["config"])
        ensemble = build(config, [config.seed])
        ensemble.load_state(read_cell(folder, c.name, keys[c.name])[0])
        out[c.spec["field"]] = config, ensemble
    return out | {ALONE: _closed_form(size)}


def _by_region(
    e: pd.DataFrame,  # From `errors`
    curves: CurveSet,  # What they refer to
    label: str = "DSPM-DE+",  # Family of its membranes
) -> pd.DataFrame:  # by, value, median, within_95, n
    "Errors by ion, by flux and by fixed charge."
    charge = curves.parameters[:, curves.meta["parameters"].index("charge_density")].abs().numpy()
    e = e.assign(charge=charge[e["sample"]], all=label)
    bins = {"flux": ("flux_m_s", [0, 3e-6, 1e-5, 3e-5, 1e-4]), "charge": ("charge", [0, 3, 10, 30, np.inf])}
    for name, (column, edges) in bins.items():
        e[name] = pd.cut(
            e[column],
            edges,
            include_lowest=True,
            labels=[f"{a:g} to {b:g}" for a, b in zip(edges, edges[1:], strict=False)],
        ).astype(str)
    parts = []
    for by in ("all", "ion", "flux", "charge"):
        t = e.groupby(by).error.agg(median="median", within_95=lambda x: x.quantile(0.95), n="size")
        parts.append(t.rename_axis("value").reset_index().assign(by=by))
    return pd.concat(parts, ignore_index=True)[["by", "value", "median", "within_95", "n"]]


def _on_tests(folder: Path, candidates: dict, n: int, chosen: str) -> tuple[pd.DataFrame, pd.Series]:
    "Errors of what may ship on test curves, by region; of what ships, every one."
    rows, kept = [], None
    for s, label in (("test", "DSPM-DE+"), ("test of four parameters", "DSPM-DE")):
        _simulate(folder, s, n)
        curves = read_set(folder, s)
        for field, (config, ensemble) in candidates.items():
            e = errors(config, ensemble, curves)
            if (field, s) == (chosen, "test"):
                kept = e.error
            t = _by_region(e, curves, label)
            rows.append((t if s == "test" else t[t.by == "all"]).assign(field=field))
    order = {field: k for k, field in enumerate(candidates)}
    return pd.concat(sorted(rows, key=lambda t: order[t.field.iloc[0]]), ignore_index=True), kept


def _spans(seen: CurveSet, parameters) -> dict[str, list]:
    "Least and largest value of every parameter of the membranes, and its unit."
    units = {"r_pore": "m", "thickness": "m", "eps_pore": "-", "charge_density": "mol/m³"}
    return {
        n: [float(seen.parameters[:, k].min()), float(seen.parameters[:, k].max()), units.get(n, "-")]
        for k, n in enumerate(parameters)
    }


def _card(chosen: str, config: TrainConfig, seen: CurveSet, error: pd.Series, facts: dict) -> dict:
    "What the model says of itself."
    taught = f"{len(seen)} simulated curves (no measurements)"
    nothing = "nothing: on simulated validation curves no network made the closed form better"
    return {
        "name": "dspmde",
        "what": f"stand-in for the pore model over membranes around NF270 ({chosen}); without membrane= it answers "
                f"for the example set NF270-watertap of the membrane table",
        "trained_on": taught if config.pretrained else nothing,
        "scores": {
            "median error of R on unseen curves": float(error.median()),
            "95 % within": float(error.quantile(0.95)),
        },
        "limits": "an approximation of a model that is itself an approximation; use simulate() where accuracy matters",
        "errors": sorted(round(float(x), 7) for x in error.quantile(np.linspace(0.0005, 0.9995, 999))),
        "ranges": trained_ranges(seen.c_feed, seen.flux, SLOTS, _spans(seen, parameter_names(config.family, SLOTS))),
        "provenance": facts,
    }  # fmt: skip


def store(
    folder: str | Path,  # Of `run`
    effort: str,  # Key of EFFORTS
    target: str | Path,  # Where `results/` and `weights/` are
    device=None,  # As for `run`
) -> Path:  # The card of the model that ships
    "Choose on validation curves, read the test curves, write tables and weights."
    folder, size, target = Path(folder).resolve(), EFFORTS[effort], Path(target)
    candidates, learning = _candidates(folder, size, device), scores(folder, effort, device)
    chosen = learning[learning.steps.isin((0, *size.long))].sort_values("within_95").field.iloc[0]
    table, error = _on_tests(folder, candidates, size.unseen, chosen)
    (config, ensemble), seen = candidates[chosen], read_set(folder, "train")
    sizes = {"effort": effort, "sizes": asdict(size), "curves": len(seen), "aim": AIM}
    facts = provenance(seed=config.seed, chosen=chosen, recipe=config.to_dict(), **sizes)
    for name, t in (("surrogate", table), ("surrogate_learning", learning)):
        atomic_write(target / "results" / f"{name}.csv", t.to_csv(index=False, float_format="%.6g"))
    atomic_write(target / "results" / "surrogate.json", json.dumps(facts, indent=1, sort_keys=True) + "\n")
    flat = {k: float(v) for k, v in NF270_WATERTAP.tensors().items() if v is not None}
    asked = [[flat.get(n, 0.0) for n in parameter_names(config.family, SLOTS)]] * len(ensemble)
    told = torch.tensor(asked, dtype=torch.float64)
    card = _card(chosen, config, seen, error, facts)
    return save_model(Predictor(config, ensemble, told, card), target / "weights", "dspmde")

"""How well a network stands in for the pore model"""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import ion_ode
from ion_ode.attention_odenet.field import FieldConfig
from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.closure import fingerprint
from ion_ode.core import InputError
from ion_ode.data.curves import CurveSet
from ion_ode.data.design import Design
from ion_ode.data.shards import ShardedCurves, simulate_shards
from ion_ode.dspmde.membranes import NF270_WATERTAP
from ion_ode.dspmde.prior import SLOTS, parameter_names
from ion_ode.guard import sealed, unsealed
from ion_ode.store import atomic_write, digest, provenance
from ion_ode.training.optimise import Plan
from ion_ode.training.predictor import Predictor, save_model, trained_ranges
from ion_ode.training.recipe import TrainConfig, build
from ion_ode.training.teach import pretrain, surrogate_error
from ion_ode.training.told import n_told


AIM = {"median": 0.003, "within_95": 0.02}  # Errors of the rejection asked for [-]
PLAIN, ADAM, PORE, ALONE = "network alone", "network alone by Adam", "closed form and network", "closed form alone"


@dataclass(frozen=True)
class Effort:
    "How much is computed."

    sizes: tuple[int, ...] = (
        100,
        1000,
        10_000,
        100_000,
        1_000_000,
    )  # Simulated curves of the learning curve; the last also trains what may ship
    steps: tuple[int, int] = (3000, 60)  # Steps of the networks of the learning curve, PLAIN and PORE
    long: tuple[int, int] = (30_000, 500)  # Steps of the networks that may ship
    batch: int = 256  # Curves a step
    unseen: int = 2048  # Curves for validation, and again as many for the test
    width: int = 64  # Width of the linear layers


_EFFORTS = {
    "full": Effort(),
    "large": Effort(long=(100_000, 20_000), batch=1024),
    "smoke": Effort((8, 16), steps=(3, 2), long=(6, 5), batch=8, unseen=8, width=16),
}


def recipe(
    field: str,  # PLAIN, ADAM, PORE or ALONE
    curves: int,  # Simulated curves
    steps: int,  # Steps
    effort: Effort,  # Sizes
) -> TrainConfig:
    "How one of them is trained."
    plain = dict(architecture="odenet", solver_steps=4)
    (
        told,
        optimiser,
        lr,
        clip,
        options,
    ) = {  # tried on validation curves; SOAP is quicker still at higher rates, until a long training leaves the rails
        PLAIN: ("entry", "soap", 3e-3, 0.05, plain),
        ADAM: ("entry", "adam", 1.5e-3, 0.05, plain),
        PORE: ("pore", "soap", 3e-4, 0.3, dict(architecture="pore_odenet", solver_steps=8)),
        ALONE: ("pore", "soap", 3e-4, 0.3, dict(architecture="pore_odenet", solver_steps=8, pretrained=False)),
    }[field]
    network = FieldConfig(
        ions=SLOTS,
        context="feed+membrane",
        n_membrane=n_told(SLOTS, told),
        width=effort.width,
        flux_ref=1e-7 if told == "entry" else 3e-10,
    )
    plan = Plan(steps, lr=lr, schedule="cosine", optimiser=optimiser, clip=clip)
    return TrainConfig(
        network=network,
        told=told,
        members=1,
        family="dspmde+",
        n_curves=curves,
        pretraining=plan,
        pretraining_batch=effort.batch,
        **options,
    )


_SETS = {
    "train": (0, "dspmde+"),
    "validation": (101, "dspmde+"),
    "test": (102, "dspmde+"),
    "test of four parameters": (103, "dspmde"),
}


def _make_curves(
    folder: str | Path,  # Where they are kept
    name: str,  # Key of _SETS
    n: int,  # Points of the design
    scheduler: str | None = None,  # Address of a Dask scheduler
) -> CurveSet:
    "Simulate a set, or what is missing of it, and read it."
    seed, family = _SETS[name]
    where = Path(folder) / "curves" / name.replace(" ", "-")
    simulate_shards(where, n, Design(seed=seed, n_flux=16, family=family), scheduler=scheduler)
    shards = ShardedCurves(where)
    parts = [shards.shard(k) for k in range(len(shards.manifest["shards"]))]
    joined = {
        f: torch.cat([getattr(p, f) for p in parts])
        for f in ("c_feed", "flux", "c_perm", "valid", "membrane", "parameters")
    }
    return CurveSet(SLOTS, **joined, meta={"parameters": list(shards.parameter_names)})


def errors(
    config: TrainConfig,  # Recipe
    ensemble: Ensemble,  # Networks; their mean is judged
    curves: CurveSet,  # Curves they have not seen
) -> pd.DataFrame:  # sample, ion, flux_m_s, rejection, error
    "Absolute error of the rejection, predictions above 1 read as 1."
    e = surrogate_error(config, ensemble, curves)
    e = e.groupby(["sample", "ion", "flux_m_s"], as_index=False).agg(
        rejection=("rejection", "first"), predicted=("predicted", "mean")
    )
    return e.assign(error=(e.predicted.clip(upper=1) - e.rejection).abs()).drop(columns="predicted")


def _scores(e: pd.DataFrame) -> dict:
    return {
        "median": float(e.error.median()),
        "within_95": float(e.error.quantile(0.95)),
        "mean": float(e.error.mean()),
    }


def _fits(effort: Effort) -> dict[str, tuple[str, TrainConfig]]:
    "Everything that is trained, by name; what may ship comes first."
    most, fields = effort.sizes[-1], list(enumerate((PLAIN, PORE)))
    out = {
        f"{field} {most} long": (field, recipe(field, most, effort.long[k], effort))
        for k, field in reversed(fields)
    }
    out |= {
        f"{field} {n}": (field, recipe(field, n, effort.steps[k], effort))
        for n in effort.sizes
        for k, field in fields
    }
    return out | {f"{ADAM} {most}": (ADAM, recipe(ADAM, most, effort.steps[0], effort))}


def _key(config: TrainConfig) -> str:
    "What a network depends on: its recipe, the curves, code, tables and versions."
    return digest(fingerprint(run, config=config.to_dict(), sets=_SETS))


def _trained(folder: Path, name: str, config: TrainConfig, curves: CurveSet, device=None) -> Ensemble:
    "Train one, or what is missing of it."
    return pretrain(
        config,
        curves.subset(slice(0, config.n_curves)),
        [config.seed],
        folder=folder / "networks" / name.replace(" ", "-"),
        key=_key(config),
        device=device,
    )[0]


def _score_file(folder: Path, name: str) -> Path:
    return folder / "scores" / f"{name.replace(' ', '-')}.json"


def _kept(folder: Path, name: str, config: TrainConfig) -> dict | None:
    "Scores of a network as they were written; None where they are missing, damaged or of another network."
    try:
        row = unsealed(_score_file(folder, name), "scores of a network")
    except InputError:
        return None
    return row if row.get("key") == _key(config) else None


def run(
    folder: str | Path,  # Where curves, checkpoints and scores are kept
    effort: str = "full",  # Key of _EFFORTS
    scheduler: str | None = None,  # Address of a Dask scheduler for the simulations
    device=None,  # Where networks are trained, such as "cuda"; None: the CPU
) -> pd.DataFrame:  # field, curves, steps, median, within_95, mean, cpu_s
    "Simulate, train and score on validation curves; what is there already is kept."
    folder, size = Path(folder), _EFFORTS[effort]
    torch.set_num_threads(1)
    seen, unseen = (
        _make_curves(folder, s, n, scheduler) for s, n in (("train", size.sizes[-1]), ("validation", size.unseen))
    )
    for name, (field, config) in _fits(size).items():
        if _kept(folder, name, config):
            continue
        started = time.process_time()
        ensemble = _trained(folder, name, config, seen, device)
        row = {
            "field": field,
            "curves": min(config.n_curves, len(seen)),
            "steps": config.pretraining.steps,
        } | _scores(errors(config, ensemble, unseen))
        row |= {"cpu_s": round(time.process_time() - started, 1), "key": _key(config)}
        atomic_write(_score_file(folder, name), sealed(row, 1))
    return scores(folder, effort)


def _closed_form(effort: Effort) -> tuple[TrainConfig, Ensemble]:
    "The closed form by itself: behind a last layer of zeros the smallest network does what the largest would."
    config = recipe(ALONE, 1, 0, effort)
    network = replace(config.network, encoding="none", attention=False, d_k=1, width=1, depth=2)
    config = replace(config, network=network)
    return config, build(config, [config.seed])


def scores(
    folder: str | Path,  # Of `run`
    effort: str = "full",  # Key of _EFFORTS
) -> pd.DataFrame:  # One row a network, and one for the closed form alone
    "Validation scores of everything trained so far."
    rows = [r for n, (_, c) in _fits(_EFFORTS[effort]).items() if (r := _kept(Path(folder), n, c))]
    alone = errors(*_closed_form(_EFFORTS[effort]), _make_curves(folder, "validation", _EFFORTS[effort].unseen))
    return pd.DataFrame(
        [
            {"field": ALONE, "curves": 0, "steps": 0, **_scores(alone), "cpu_s": 0.0},
            *({k: v for k, v in r.items() if k != "key"} for r in rows),
        ]
    )


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


def store(
    folder: str | Path,  # Of `run`
    effort: str = "full",  # Key of _EFFORTS
    target: str | Path | None = None,  # Where `results/` and `weights/` are; None: the assets of the package
) -> Path:  # The card of the model that ships
    "Choose on validation curves, read the test curves, write tables and weights."
    folder, size = Path(folder), _EFFORTS[effort]
    target = Path(ion_ode.__file__).parent / "assets" if target is None else Path(target)
    seen, fits, learning = _make_curves(folder, "train", size.sizes[-1]), _fits(size), scores(folder, effort)
    candidates = {
        fits[n][0]: (fits[n][1], _trained(folder, n, fits[n][1], seen)) for n in fits if n.endswith("long")
    }
    candidates[ALONE] = _closed_form(size)
    tests = {s: _make_curves(folder, s, size.unseen) for s in ("test", "test of four parameters")}
    rows, chosen = [], learning[learning.steps.isin((0, *size.long))].sort_values("within_95").field.iloc[0]
    for field, (config, ensemble) in candidates.items():
        for s, label in (("test", "DSPM-DE+"), ("test of four parameters", "DSPM-DE")):
            e = errors(config, ensemble, tests[s])
            if (field, s) == (chosen, "test"):
                kept = e.error
            t = _by_region(e, tests[s], label)
            rows.append((t if s == "test" else t[t.by == "all"]).assign(field=field))
    table = pd.concat(rows, ignore_index=True)
    config, ensemble = candidates[chosen]
    facts = provenance(
        seed=config.seed,
        effort=effort,
        sizes=asdict(size),
        chosen=chosen,
        recipe=config.to_dict(),
        curves=len(seen),
        aim=AIM,
    )
    for name, t in (("surrogate", table), ("surrogate_learning", learning)):
        atomic_write(target / "results" / f"{name}.csv", t.to_csv(index=False, float_format="%.6g"))
    atomic_write(target / "results" / "surrogate.json", json.dumps(facts, indent=1, sort_keys=True) + "\n")

    parameters = parameter_names(config.family, SLOTS)
    flat = {k: float(v) for k, v in NF270_WATERTAP.tensors().items() if v is not None}
    units = {"r_pore": "m", "thickness": "m", "eps_pore": "-", "charge_density": "mol/m³"}
    spans = {
        n: [float(seen.parameters[:, k].min()), float(seen.parameters[:, k].max()), units.get(n, "-")]
        for k, n in enumerate(parameters)
    }
    card = {
        "name": "dspmde",
        "what": f"stand-in for the pore model over membranes around NF270 ({chosen}); without membrane= it answers "
                f"for the example set NF270-watertap of the membrane table",
        "trained_on": f"{len(seen)} simulated curves (no measurements)"
        if config.pretrained
        else "nothing: on simulated validation curves no network made the closed form better",
        "scores": {
            "median error of R on unseen curves": float(kept.median()),
            "95 % within": float(kept.quantile(0.95)),
        },
        "limits": "an approximation of a model that is itself an approximation; use simulate() where accuracy matters",
        "errors": sorted(round(float(x), 7) for x in kept.quantile(np.linspace(0.0005, 0.9995, 999))),
        "ranges": trained_ranges(seen.c_feed, seen.flux, SLOTS, spans),
        "provenance": facts,
    }
    told = torch.tensor([[flat.get(n, 0.0) for n in parameters]] * len(ensemble), dtype=torch.float64)
    return save_model(Predictor(config, ensemble, told, card), target / "weights", "dspmde")

"""Networks that stand in for the pore model: recipes, the curves they are taught, and the cell that trains one"""

import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch

from ion_ode.attention_odenet.field import FieldConfig
from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.closure import Cell, Ticks, cell
from ion_ode.data.curves import CurveSet
from ion_ode.data.sharded import ShardedCurves
from ion_ode.dspmde.prior import SLOTS
from ion_ode.training.optimise import Plan
from ion_ode.training.recipe import TrainConfig
from ion_ode.training.teach import pretrain, surrogate_error
from ion_ode.training.told import n_told

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


EFFORTS = {
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


SETS = {  # Name -> seed, family
    "train": (0, "dspmde+"),
    "validation": (101, "dspmde+"),
    "test": (102, "dspmde+"),
    "test of four parameters": (103, "dspmde"),
}


def place_of(
    folder: str | Path,  # Of the cells
    name: str,  # Key of SETS
) -> Path:  # Folder of its shards
    "Where a set of simulated curves is kept."
    return Path(folder) / "stand-in_curves" / name.replace(" ", "-")


@lru_cache(maxsize=2)
def read_set(
    folder: str | Path,  # Of the cells
    name: str,  # Key of SETS
) -> CurveSet:
    "A simulated set, whole."
    shards = ShardedCurves(place_of(folder, name))
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


def summary(
    e: pd.DataFrame,  # From `errors`
) -> dict[str, float]:
    "Median, 95th percentile and mean of errors."
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


@cell("stand-in")
def _cell_standin(folder, spec, found, tick):
    "One network, taught simulated curves, and its errors on validation curves."
    config, seen = TrainConfig.from_dict(spec["config"]), read_set(folder, "train")
    keep = Path(folder) / f"running-{spec['key'][:12]}"
    taught = seen.subset(slice(0, config.n_curves))
    kept = {"folder": keep, "key": spec["key"], "device": spec["device"]}
    ensemble, _ = pretrain(config, taught, [config.seed], bar=Ticks(tick), **kept)
    shutil.rmtree(keep, ignore_errors=True)
    row = {"field": spec["field"], "curves": len(taught), "steps": config.pretraining.steps}
    return ensemble.state(), row | summary(errors(config, ensemble, read_set(folder, "validation")))


def standin_cells(
    effort: Effort,
    device=None,  # Where networks are trained, such as "cuda"; None: the CPU
) -> list[Cell]:
    "Everything that is trained; what may ship comes first."
    sets = {"train": [*SETS["train"], effort.sizes[-1]], "validation": [*SETS["validation"], effort.unseen]}
    more = {"sets": sets, "device": None if device is None else str(device)}
    return [
        Cell(name, "stand-in", more | {"field": field, "config": config.to_dict()}, cost=config.pretraining.steps)
        for name, (field, config) in _fits(effort).items()
    ]

#!/usr/bin/env python
"""Names under which `train` holds one measured rejection, up to the first loss, and its configuration

    python tools/walks.py

A name is a variable of a function of the package, or a field of what it holds. It holds the rejection if that number is
in it, as it is or in per cent, or what it says of the permeate: 1 - R, or that times the feed or over the charge. It
holds the configuration if it is one of its objects or a number of them that stands nowhere else."""

import dataclasses
import os
import sys

import numpy as np
import pandas as pd
import torch

os.environ["ION_ODE_NO_PROGRESS"] = "1"

from ion_ode.attention_odenet.field import FieldConfig  # noqa: E402
from ion_ode.core import LMH  # noqa: E402
from ion_ode.training import Plan, TrainConfig, train  # noqa: E402

R, FEED = 0.31415926, 7.77  # Followed; its feed [mol/m³]
FORMS = np.array([R, 100 * R, 1 - R, FEED * (1 - R), (1 - R) / 2])
_OWN = (TrainConfig, Plan, FieldConfig)
_NUMBERS = {"soft_weight": 10.123, "film_thickness": 1.2345e-5}
CONFIG = TrainConfig(
    members=1, n_curves=17, n_flux=5, compiled=False, told="entry", solver_steps=3, resample=False, **_NUMBERS,
    pretraining=Plan(1, lr=3.21e-3, clip=0.321), finetuning=Plan(1, lr=1.23e-3, clip=0.123),
)  # fmt: skip
ONCE = (*_NUMBERS.values(), 3.21e-3, 0.321, 1.23e-3, 0.123)


class Reached(Exception):
    "The first loss on measurements."


def measured() -> pd.DataFrame:
    "Two states of one feed."
    rows = [("Na+", 10, R), ("Cl-", 10, 0.31), ("Na+", 30, 0.45), ("Cl-", 30, 0.44)]
    d = pd.DataFrame(rows, columns=["ion", "flux_m_s", "rejection"])
    return d.assign(flux_m_s=d.flux_m_s * LMH, c_feed_mol_m3=FEED)


def numbers(x, deep: int = 3):
    "All numbers in something, level by level."
    if isinstance(x, torch.Tensor):
        try:
            x = x.detach().numpy()
        except RuntimeError:  # inside a stack of networks
            return
    if isinstance(x, (pd.DataFrame, pd.Series)):
        x = pd.to_numeric(pd.Series(x.to_numpy().ravel()), errors="coerce").to_numpy()
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        yield from x.ravel()
    elif isinstance(x, float):
        yield x
    elif deep:
        x = vars(x) if dataclasses.is_dataclass(x) and hasattr(x, "__dict__") else x
        for v in x.values() if isinstance(x, dict) else x if isinstance(x, (list, tuple)) else ():
            yield from numbers(v, deep - 1)


def holds(x) -> bool:
    "Whether the rejection is in something."
    found = np.array(list(numbers(x)), float)
    return bool(len(found)) and bool(np.isclose(found[:, None], FORMS, rtol=2e-7, atol=0).any())


def walk(see, config: TrainConfig) -> None:
    "Train; `see` is given every function of the package that ends, with its variables."

    def hook(frame, event, arg):
        code = frame.f_code
        if event != "return" or "/ion_ode/" not in code.co_filename or code.co_name.startswith("<"):
            return
        see(f"{code.co_filename.split('/ion_ode/')[1]}:{code.co_name}", dict(frame.f_locals))
        if code.co_name == "loss" and not config.pretrained:
            raise Reached

    sys.setprofile(hook)
    try:
        train(config, None, measured(), membranes=2)
    except Reached:
        pass
    finally:
        sys.setprofile(None)


def of_measurement() -> tuple[set, set]:
    "Functions that hold the rejection, and its names."
    stops, names = set(), set()

    def see(where, variables):
        for name, x in variables.items():
            if holds(x):
                stops.add(where)
                names.add(name)
                fields = dataclasses.fields(x) if dataclasses.is_dataclass(x) and not isinstance(x, type) else ()
                names.update(f.name for f in fields if holds(getattr(x, f.name)))

    walk(see, dataclasses.replace(CONFIG, pretrained=False))
    return stops, names


def of_configuration() -> tuple[set, set]:
    "Functions that hold the configuration, and its names."
    stops, names = set(), set()

    def see(where, variables):
        for name, x in variables.items():
            if isinstance(x, _OWN) or isinstance(x, float) and x in ONCE:
                stops.add(where)
                names.add(name)

    walk(see, CONFIG)
    return stops, names


if __name__ == "__main__":
    walks = {"measured rejection": (20, of_measurement()), "configuration": (30, of_configuration())}
    for what, (most, (stops, names)) in walks.items():
        print(f"{what}: {len(stops)} stops, {len(names)} names (at most {most})\n  {' '.join(sorted(names))}")
        print(f"  {' '.join(sorted(stops))}")
    sys.exit(any(len(names) > most for most, (_, names) in walks.values()))

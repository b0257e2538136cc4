"""Pre-train, choose the membrane, fine-tune, judge"""

from pathlib import Path

import numpy as np
import torch

from ion_ode.closure import changed, fingerprint
from ion_ode.core import InputError, progress
from ion_ode.guard import alone, sealed, unsealed
from ion_ode.data.design import simulate_curves
from ion_ode.data.measurements import Measurements
from ion_ode.data.nf270 import independent_rows
from ion_ode.data.reader import measurements_of
from ion_ode.store import atomic_write, digest, provenance
from ion_ode.training.predictor import Predictor, save_model, trained_ranges
from ion_ode.training.recipe import TrainConfig, build
from ion_ode.training.choice import ranked, try_membranes
from ion_ode.training.states import with_scatter
from ion_ode.training.teach import finetune, predict_measured, pretrain

__all__ = ["train"]


def _begin(folder: Path, record: dict, config: TrainConfig, device) -> None:
    "Note what a folder is made of; one that was made of anything else is refused."
    path = folder / "run.json"
    old = unsealed(path, "the record of a training")["fingerprint"] if path.exists() else None
    if differs := changed(old, record["fingerprint"]):
        other = f"{folder} was trained with other {' and '.join(differs)}"
        raise InputError(f"{other}; train into another folder, or remove it to train anew")
    about = {
        "units": "SI: mol/m³, m/s, m",
        "scaling": "permeate over the total charge of the feed; ln(1 + flux / flux_ref)",
    }
    if old is None:
        atomic_write(path, sealed(record | about | provenance(seed=config.seed, device=device or "cpu"), 1))


def _trained(
    config: TrainConfig, folder: Path | None, m: Measurements, membranes: int, device, made_of: dict, key: str
) -> Predictor:
    "What `train` does once the folder is its own."
    if folder is not None:
        about = {"config": config.to_dict(), "key": key, "fingerprint": made_of, "rows": len(m)}
        _begin(folder, about, config, device)
    seeds = [config.seed + k for k in range(config.members)]
    ensemble = build(config, seeds)  # before anything is simulated: refuses what cannot be built
    place = lambda name: None if folder is None else folder / name
    if config.pretrained:
        curves = simulate_curves(config.n_curves, seed=config.seed, n_flux=config.n_flux, family=config.family)
        bar = progress(desc="pre-training", total=config.pretraining.steps)
        ensemble, _ = pretrain(config, curves, seeds, folder=place("pretraining"), key=key, bar=bar, device=device)
        bar.close()
    parameters = None
    if config.told != "nothing":
        tried, sse = try_membranes(m, max(membranes, config.members), config.seed, config.family)
        parameters = tried[ranked(sse, range(sse.shape[1]))[: config.members]]
    bar = progress(desc="fine-tuning", total=config.finetuning.steps)
    keep = {"folder": place("finetuning"), "key": key, "bar": bar, "device": device}
    finetune(config, ensemble, m, seeds, parameters=parameters, **keep)
    bar.close()
    miss = np.minimum(predict_measured(config, ensemble, m, parameters, tol=1e-3).mean(0), 1.0) - m.rejection
    errors = np.where(m.bound * miss > 0, 0.0, np.abs(miss))  # a bound that holds is no error
    card = {
        "name": "trained by train()",
        "trained_on": f"{len(m)} rows of {', '.join(sorted(set(m.composition)))}",
        "limits": "intervals rest on errors on the training data and are too narrow for other compositions",
        "errors": sorted(round(float(e), 5) for e in errors),
        "ranges": trained_ranges(torch.tensor(m.c_feed), torch.tensor(m.flux), config.network.ions),
        "provenance": provenance(seed=config.seed, key=key),
    }
    model = Predictor(config, ensemble, parameters, card)
    if folder is not None:
        save_model(model, folder)
    return model


def train(
    config: TrainConfig = TrainConfig(),  # Recipe
    folder: str | Path | None = None,  # Checkpoints, logs and the finished model; None: nothing is kept
    # Measurements, or anything `load_measurements` reads, or its result; None: the five mixtures measured on NF270
    measurements=None,
    membranes: int = 256,  # Membranes tried on the measurements
    device=None,  # Where networks are trained, such as "cuda"; None: the CPU
) -> (
    Predictor
):  # Trained on all measurements; its errors are those on the training data, so its interval is a lower bound
    "Pre-train on the pore model, fine-tune on measurements."
    if measurements is None:
        measurements = independent_rows()
        measurements = measurements[measurements.composition.isin(list("ABCDE"))]
    else:
        measurements = measurements_of(measurements)
    m = with_scatter(measurements, ions=config.network.ions)
    folder = None if folder is None else Path(folder)
    made_of = fingerprint(
        train, config=config.to_dict(), measurements=m.to_frame(), membranes=membranes, device=str(device or "cpu")
    )
    key = digest(made_of)
    with alone(folder):
        return _trained(config, folder, m, membranes, device, made_of, key)

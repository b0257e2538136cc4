"""Pre-train, choose the membrane, fine-tune, judge"""

import json
from pathlib import Path

import numpy as np

from ion_ode.closure import changed, fingerprint
from ion_ode.core import InputError, progress
from ion_ode.guard import alone
from ion_ode.data.design import simulate_curves
from ion_ode.data.nf270 import independent_rows
from ion_ode.data.reader import measurements_of
from ion_ode.store import atomic_write, digest, provenance
from ion_ode.training.predictor import Predictor, save_model, trained_ranges
from ion_ode.training.recipe import TrainConfig, build
from ion_ode.training.teach import finetune, measured_curves, predict_measured, pretrain, ranked, to_rows, try_membranes

__all__ = ["train"]


def _begin(folder: Path, record: dict, config: TrainConfig, device) -> None:
    "Note what a folder is made of; one that was made of anything else is refused."
    path = folder / "run.json"
    try:
        old = json.loads(path.read_text(encoding="utf-8"))["fingerprint"] if path.exists() else None
        differs = changed(old, record["fingerprint"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise InputError(f"{path} cannot be read; train into another folder, or remove it to train anew") from e
    if differs:
        raise InputError(
            f"{folder} was trained with other {' and '.join(differs)}; train into another folder, or remove it to train anew"
        )
    about = {
        "units": "SI: mol/m³, m/s, m",
        "scaling": "permeate over the total charge of the feed; ln(1 + flux / flux_ref)",
    }
    if old is None:
        atomic_write(
            path, json.dumps(record | about | provenance(seed=config.seed, device=device or "cpu"), indent=1) + "\n"
        )


def _trained(
    config: TrainConfig, folder: Path | None, measurements, membranes: int, device, made_of: dict, key: str
) -> Predictor:
    "What `train` does once the folder is its own."
    if folder is not None:
        _begin(
            folder,
            {"config": config.to_dict(), "key": key, "fingerprint": made_of, "rows": len(measurements)},
            config,
            device,
        )
    seeds = [config.seed + k for k in range(config.members)]
    place = lambda name: None if folder is None else folder / name
    if config.pretrained:
        curves = simulate_curves(config.n_curves, seed=config.seed, n_flux=config.n_flux, family=config.family)
        bar = progress(desc="pre-training", total=config.pretraining.steps)
        ensemble, _ = pretrain(config, curves, seeds, folder=place("pretraining"), key=key, bar=bar, device=device)
        bar.close()
    else:
        ensemble = build(config, seeds)
    parameters = None
    if config.told != "nothing":
        tried, sse = try_membranes(measurements, max(membranes, config.members), config.seed, config.family)
        parameters = tried[ranked(sse, range(sse.shape[1]))[: config.members]]
    measured = measured_curves(measurements, ions=config.network.ions, film_thickness=config.film_thickness)
    bar = progress(desc="fine-tuning", total=config.finetuning.steps)
    finetune(
        config,
        ensemble,
        measured,
        seeds,
        parameters=parameters,
        folder=place("finetuning"),
        key=key,
        bar=bar,
        device=device,
    )
    bar.close()
    asked = measured_curves(measurements, ions=config.network.ions, film_thickness=config.film_thickness, known=False)
    fitted = to_rows(asked, predict_measured(config, ensemble, asked, parameters, tol=1e-3)).mean(0)
    miss, bound = np.minimum(fitted, 1.0) - measurements.rejection.to_numpy(), to_rows(asked, asked.bound[None])[0]
    errors = np.where(bound * miss > 0, 0.0, np.abs(miss))  # a bound that holds is no error
    card = {
        "name": "trained by train()",
        "trained_on": f"{len(measurements)} rows of {', '.join(sorted(set(measurements.composition)))}",
        "limits": "intervals rest on errors on the training data and are too narrow for other compositions",
        "errors": sorted(round(float(e), 5) for e in errors),
        "ranges": trained_ranges(asked.c_bulk, asked.curves.flux, config.network.ions),
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
        d = independent_rows()
        measurements = d[d.composition.isin(list("ABCDE"))]
    else:
        measurements = measurements_of(measurements).to_frame()
    folder = None if folder is None else Path(folder)
    made_of = fingerprint(
        train, config=config.to_dict(), measurements=measurements, membranes=membranes, device=str(device or "cpu")
    )
    key = digest(made_of)
    with alone(folder):
        return _trained(config, folder, measurements, membranes, device, made_of, key)

"""The networks that ship, made again from a contest"""

import os
from pathlib import Path

import torch

import ion_ode
from ion_ode.closure import tables_digest
from ion_ode.data.points import measurement_points
from ion_ode.dspmde.prior import SLOTS
from ion_ode.results.benchmarks import contest_rows
from ion_ode.results.cells import code_hash, run_cells
from ion_ode.results.claims_networks import share_within
from ion_ode.results.contestants import MAIN, Profile
from ion_ode.results.heldout import contest
from ion_ode.results.heldout_tables import networks
from ion_ode.results.plan import PROFILES, plan_cells
from ion_ode.results.scores import mean_predictions, scoreboard
from ion_ode.store import provenance
from ion_ode.training.predictor import Predictor, save_model, trained_ranges


def _export_models(
    p: Profile,  # What was computed
    where: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    target: str | Path,  # Where the models go
) -> list[Path]:  # The cards written
    "Write the model that learned from all measurements."
    pred, _ = contest(where, keys)
    held, (scores, _) = mean_predictions(pred, "nf270", MAIN), scoreboard(pred[pred.benchmark == "nf270"])
    row = scores[
        (scores.model == MAIN)
        & (scores.scored == "ensemble")
        & (scores["rule"] == "chosen")
        & (scores.pretrained == "PT")
        & (scores.bias == "hard")
    ].iloc[0]
    config, ensemble, parameters, steps = networks(where, keys, "nf270", None)
    m = measurement_points(contest_rows())
    facts = provenance(seed=p.recipe.seed, code=code_hash(), data=tables_digest(), profile=p.name)
    card = {
        "name": "nf270-network",
        "what": "ensemble of the main network, pre-trained on simulated curves and fine-tuned on all five mixtures "
                "measured on NF270",
        "trained_on": "90 independent rejections of compositions A to E (see chapter 01 for sources and licences)",
        "fine_tuning_steps": steps,
        "scores": {
            "held-out composition, mean MSE of R": float(row.mse_R),
            "interval_90": [float(row.lower), float(row.upper)],
            "within_0.1": share_within(pred, "nf270", MAIN),
        },
        "limits": "intervals come from held-out compositions and are wide; ions and salts outside the training set "
                  "are guesses of the pre-training",
        "errors": sorted(round(float(e), 5) for e in (held.predicted - held.rejection).abs()),
        "ranges": trained_ranges(torch.tensor(m.c_feed), torch.tensor(m.flux), SLOTS),
        "provenance": facts,
    }
    return [save_model(Predictor(config, ensemble, parameters, card), target, "nf270-network")]


def make_weights(
    profile: str = "full",  # Profile whose cells hold the networks
    folder: str | Path = "results",  # Folder that `reproduce` wrote
    target: str | Path | None = None,  # Where the models go; None: ion_ode/assets/weights
) -> list[Path]:  # The cards written
    "The models that ship with the package, out of the cells of `reproduce`; missing cells are computed first."
    p, where = PROFILES[profile], Path(folder) / "cells" / profile
    keys = run_cells(plan_cells(p), where, min(2, os.cpu_count() or 1))
    return _export_models(
        p, where, keys, Path(ion_ode.__file__).parent / "assets" / "weights" if target is None else target
    )

"""Everything again in one call, and the weights that ship"""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import ion_ode
from ion_ode.core import InputError, progress
from ion_ode.data.points import measurement_points
from ion_ode.dspmde.prior import SLOTS
from ion_ode.inference.posterior import predict_membranes
from ion_ode.plotting import set_theme
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows
from ion_ode.closure import tables_digest
from ion_ode.results.board import board_cells, collect_board, read_board, write_board
from ion_ode.results.cells import Cell, code_hash, read_cell, run_cells
from ion_ode.results.claims import metrics, share_within
from ion_ode.results.contestants import BAYES, MAIN, PORE_MODEL, REFERENCES, Profile, infer_membranes
from ion_ode.results.figures import draw_figures
from ion_ode.results.heldout import contest, networks
from ion_ode.results.plan import PROFILES, plan_cells
from ion_ode.results.questions import fitted_parameters
from ion_ode.results.scores import LABELS, mean_predictions, scoreboard
from ion_ode.results.tables import collect, read_tables, write_tables
from ion_ode.store import asset, atomic_write, provenance
from ion_ode.training.predictor import Predictor, save_model, trained_ranges


def _named_parts(tables: dict[str, pd.DataFrame]) -> dict:  # What -> function that gives (stored, again)
    "The parts that a quick run computes from nothing."
    pred = tables["predictions"]
    df = contest_rows()
    shown, held = df[df.composition != "A"], df[df.composition == "A"]
    of_a = pred[(pred.benchmark == "nf270") & (pred.fold == "A")].set_index("row_id")
    kept = lambda model: of_a[of_a.model == model].predicted.reindex(held.index)
    mse = lambda p: np.average((p - held.rejection) ** 2, weights=held.weight)

    def worst():
        both = scoreboard(pred)[0].merge(tables["scores"], on=[*LABELS, "scored"], suffixes=(" again", ""))
        return both.loc[(both["mse_R again"] - both.mse_R).abs().idxmax(), ["mse_R", "mse_R again"]].tolist()

    def posterior():
        again = infer_membranes(shown, held, PROFILES["full"].draws)[1].predicted
        return mse(kept(BAYES)), mse(again)

    parts = {"scores of all predictions (largest difference)": worst}
    for name, predict in REFERENCES.items():
        parts[f"{name}, fold A"] = lambda name=name, predict=predict: (mse(kept(name)), mse(predict(shown, held)))
    fit = tables["fits"]
    fit = fit[(fit.get("benchmark") == "nf270") & (fit.fold == "A")] if len(fit) else fit
    if len(fit):
        ask = lambda: predict_membranes(held, fitted_parameters(fit.iloc[0]), BENCHMARKS["nf270"].film, "dspmde")[0]
        parts[f"{PORE_MODEL}, fold A, from its stored parameters"] = lambda: (mse(kept(PORE_MODEL)), mse(ask()))
    return parts | {f"{BAYES}, fold A, from the measurements": posterior}


def _recompute(
    tables: dict[str, pd.DataFrame],  # From `read_tables`
) -> pd.DataFrame:  # what, stored, again
    "A named part of the results, from nothing: stored and recomputed side by side, each named on a progress bar."
    rows, parts = [], _named_parts(tables)
    with progress(total=len(parts)) as bar:
        for what, again in parts.items():
            bar.set_description(what)
            rows.append(dict(zip(("what", "stored", "again"), (what, *map(float, again())), strict=True)))
            bar.update(1)
    return pd.DataFrame(rows)


def reproduce(
    profile: str = "quick",  # "quick" (redraw what is stored, recompute a part) or "full" (everything, hours)
    folder: str | Path = "results",  # Where everything goes
    workers: int | None = None,  # Processes, one thread each; None: as many as there are cores, two at most
    scheduler: str | None = None,  # Address of a Dask scheduler that computes the cells
) -> dict:  # Scores, claims and provenance, as in claims.json
    """Tables, figures and claims. The full profile simulates, fits, pre-trains, fine-tunes and scores; run again, it
    reuses what is valid."""
    if profile not in ("quick", "full", "smoke"):
        raise InputError(f"profile is {profile!r}; expected one of quick, full")
    folder = Path(folder)
    if profile == "quick":
        tables, meta = read_tables()
        atomic_write(folder / "recomputed.csv", _recompute(tables).to_csv(index=False, float_format="%.6g"))
    else:
        p, where = PROFILES[profile], folder / "cells" / profile
        workers = min(2, os.cpu_count() or 1) if workers is None else workers
        asked = board_cells(Cell) if p.trials else []
        keys = run_cells([*plan_cells(p), *asked], where, workers, scheduler)
        if asked:
            board = collect_board(lambda name: read_cell(where, name, keys.pop(name))[1])
            write_board(board, folder / "tables")
        tables, meta = collect(p, where, keys)
        log = folder / "test_parts_read.json"
        before = json.loads((log if log.exists() else asset("results/test_parts_read.json")).read_text())["read"]
        meta["read"] = [
            *before,
            {
                "when": pd.Timestamp.now("UTC").isoformat(timespec="seconds"),
                "commit": meta["commit"],
                "code": meta["code"],
            },
        ]
        atomic_write(log, json.dumps({"read": meta["read"]}, indent=1) + "\n")
    write_tables(tables, meta, folder / "tables")
    made = (folder / "tables" / "board.csv").exists()
    record, text = metrics(tables, meta, read_board(folder / "tables" if made else None))
    set_theme()
    draw_figures(tables, meta, folder)
    atomic_write(folder / "claims.json", json.dumps(record, indent=1, sort_keys=True) + "\n")
    atomic_write(folder / "metrics.md", text)
    return record


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

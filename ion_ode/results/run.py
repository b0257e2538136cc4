"""Everything again in one call, and the weights that ship"""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ion_ode.closure import Cell, tables_digest
from ion_ode.core import InputError, progress
from ion_ode.data.points import measurement_points
from ion_ode.dspmde.prior import SLOTS
from ion_ode.inference.posterior import predict_membranes
from ion_ode.plotting import set_theme
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows, held_rows
from ion_ode.results.board import collect_board, read_board, write_board
from ion_ode.cells import read_cell
from ion_ode.results.chosen import chosen_networks
from ion_ode.results.claims import metrics
from ion_ode.results.contestants import (
    BAYES,
    MAIN,
    REFERENCES,
    Profile,
    _held_out_predictions,
    infer_membranes,
    left_out,
    network_members,
)
from ion_ode.results.figures import draw_figures
from ion_ode.results.heldout import TABLES, contest, networks
from ion_ode.results.plan import PROFILES, plan_cells
from ion_ode.results.protocol import CONSTANT, FOUR_FITTED, NEAREST, with_feeds
from ion_ode.results.questions import fitted_parameters
from ion_ode.results.rollouts import with_answer
from ion_ode.results.scores import LABELS, mean_predictions, scoreboard
from ion_ode.results.seal import key_here
from ion_ode.results.tables import collect, read_tables, with_entrants, write_tables
from ion_ode.results.tuning import CHOICE, PUBLISHED
from ion_ode.runner import run_cells
from ion_ode.store import asset, atomic_write, provenance
from ion_ode.training.predictor import Predictor, save_model, trained_ranges
from ion_ode.training.recipe import build
from ion_ode.training.states import with_scatter
from ion_ode.training.teach import finetune

_PLAIN = "fully connected"  # The network that a quick run trains from nothing


def _trained_again(df: pd.DataFrame, parameters, g: str) -> np.ndarray:  # (row,) of the fold
    "The plain network without pre-training, taught all but a fold as the full profile does, and asked for it."
    p, b = PROFILES["full"], BENCHMARKS["nf270"]
    config = replace(p.config(_PLAIN), compiled=False, film_thickness=b.film)
    members = [m for m in network_members(b, p.seeds, [(False, "hard")]) if m["held"] == [g]]
    measured, held = with_scatter(with_feeds(df), b.sd_floor), left_out(df, members)
    seeds, told = [config.seed + m["seed"] for m in members], parameters[: len(members)]
    ensemble = build(config, seeds)
    kw = {"shown": ~held, "parameters": told, "pretrained": [False] * len(members)}
    finetune(config, ensemble, measured, [1000 + s for s in seeds], **kw)
    return _held_out_predictions(config, ensemble, measured, told, held).mean(0).numpy()[held_rows(df, [g])]


def _named_parts(tables: dict[str, pd.DataFrame]) -> dict:  # What -> function that gives (stored, again)
    "The parts that a quick run computes from nothing."
    pred, df, g = tables["predictions"], contest_rows(), "A"
    test = held_rows(df, [g])
    shown, held = df[~test], df[test]
    kept = pred[(pred.benchmark == "nf270") & (pred.fold == g)]
    mse = lambda p: float(((np.asarray(p) - held.rejection) ** 2).mean())
    stored = lambda d: mse(d.groupby("row_id").predicted.mean().reindex(held.index))

    def worst():
        both = scoreboard(pred)[0].merge(tables["scores"], on=[*LABELS, "scored"], suffixes=(" again", ""))
        return both.loc[(both["mse_R again"] - both.mse_R).abs().idxmax(), ["mse_R", "mse_R again"]].tolist()

    inferred = []

    def posterior():
        inferred[:] = infer_membranes(shown, held, PROFILES["full"].draws)[:2]
        return stored(kept[kept.model == BAYES]), mse(inferred[1].predicted)

    def network():
        of = kept[(kept.model == _PLAIN) & (kept.pretrained == "NPT") & (kept.bias == "hard")]
        return stored(of), mse(_trained_again(df, inferred[0], g))

    def fitted():
        fit = tables["fits"].query("benchmark == 'nf270' and fold == 'C'").iloc[0]
        rows = df[held_rows(df, ["C"])]
        said = predict_membranes(with_feeds(rows), fitted_parameters(fit), BENCHMARKS["nf270"].film, "dspmde")[0]
        own = pred[(pred.benchmark == "nf270") & (pred.fold == "C") & (pred.model == FOUR_FITTED)]
        miss = lambda p: float(((p - rows.rejection) ** 2).mean())
        return miss(own.set_index("row_id").predicted.reindex(rows.index)), miss(said)

    parts = {"scores of all predictions (largest difference)": worst}
    for m in (CONSTANT, NEAREST):
        parts[f"{m}, fold A"] = lambda m=m: (stored(kept[kept.model == m]), mse(REFERENCES[m](shown, held)))
    parts |= {f"{FOUR_FITTED}, fold C, from its stored parameters": fitted}
    parts |= {f"{BAYES}, fold A, from the measurements": posterior}
    return parts | {f"{_PLAIN} network, fold A, trained from nothing": network}


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


def _logged(meta: dict, folder: Path) -> list[dict]:
    "When test parts were read, this time among them."
    log = Path(folder) / "test_parts_read.json"
    before = json.loads((log if log.exists() else asset("results/test_parts_read.json")).read_text())["read"]
    now = {"when": pd.Timestamp.now("UTC").isoformat(timespec="seconds")} | {k: meta[k] for k in ("commit", "code")}
    atomic_write(log, json.dumps({"read": [*before, now]}, indent=1) + "\n")
    return [*before, now]


def reproduce(
    profile: str = "quick",  # "quick" (redraw what is stored, _recompute a part) or "full" (everything, hours)
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
        again = _recompute(with_entrants(tables, read_board()))
        atomic_write(folder / "recomputed.csv", again.to_csv(index=False, float_format="%.6g"))
    else:
        p, where = PROFILES[profile], folder / "cells" / profile
        workers = min(2, os.cpu_count() or 1) if workers is None else workers
        keys = run_cells(plan_cells(p), where, workers, scheduler)
        if p.board:
            board = collect_board(lambda name: read_cell(where, name, keys.pop(name))[1])
            write_board(board, folder / "tables")
        tables, meta = collect(p, where, keys)
        meta["read"] = _logged(meta, folder)
    write_tables(tables, meta, folder / "tables")
    made = (folder / "tables" / "board.csv").exists()
    board = read_board(folder / "tables" if made else None)
    record, text = metrics(tables, meta, board)
    set_theme()
    draw_figures(with_answer(with_entrants(tables, board)), meta, folder)
    atomic_write(folder / "claims.json", json.dumps(record, indent=1, sort_keys=True) + "\n")
    atomic_write(folder / "metrics.md", text)
    return record


def _export_models(
    p: Profile,  # What was computed
    where: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    target: str | Path,  # Where the models go
    rule: str = "last",  # "shipped": fine-tuned the way that was chosen inside the training folds
) -> list[Path]:  # The cards written
    "Write the model that learned from all measurements, fine-tuned the way that was chosen."
    if rule == "shipped":
        config, ensemble, parameters, way = chosen_networks(where, keys)
    else:
        (config, ensemble, parameters), way = networks(where, keys, "nf270", None), PUBLISHED
    each = len(ensemble) // p.seeds
    pred = contest(where, keys)
    held, (scores, _) = mean_predictions(pred, "nf270", MAIN, rule), scoreboard(pred[pred.benchmark == "nf270"])
    row = scores[
        (scores.model == MAIN)
        & (scores.scored == "ensemble")
        & (scores["rule"] == rule)
        & (scores.pretrained == "PT")
        & (scores.bias == "hard")
    ].iloc[0]
    m = measurement_points(with_feeds(contest_rows()))
    facts = provenance(seed=p.recipe.seed, code=key_here("networks"), data=tables_digest(), profile=p.name)
    card = {
        "name": "nf270-network",
        "what": "ensemble of the main network, pre-trained on simulated curves, told of membranes that fit all rows "
                f"measured on NF270 that the comparison scores; on the rows themselves: {way}",
        "trained_on": f"{len(contest_rows())} independent rejections of five laboratories (see chapter 01)",
        "fine_tuning_steps": config.finetuning.steps,
        **({"membranes_each": each} if each > 1 else {}),
        "scores": {
            "held-out composition, mean MSE of R": float(row.mse_R),
            "interval_90": [float(row.lower), float(row.upper)],
            "within_0.1": float(row.within_10),
        },
        "limits": "intervals come from held-out compositions and are wide; ions and salts outside the training set "
                  "are guesses of the pre-training",
        "errors": sorted(round(float(e), 5) for e in (held.predicted - held.rejection).abs()),
        "ranges": trained_ranges(torch.tensor(m.c_feed), torch.tensor(m.flux), SLOTS),
        "provenance": facts,
    }
    return [save_model(Predictor(config, ensemble, parameters, card), target, "nf270-network")]


def network_cells(
    profile: str,  # Key of PROFILES
) -> list[Cell]:
    "The cells that the networks' tables are made of."
    apart = (TABLES["recipes"], TABLES["start"])  # Tables of their own
    return [c for c in plan_cells(PROFILES[profile]) if c.kind != "board" and c.name not in apart]


def write_networks(
    profile: str,  # Key of PROFILES
    where: str | Path,  # Folder of the cells
    keys: dict[str, str],  # Of `network_cells`
    target: Path,  # Gets `results`, the tables, and `weights`, the networks that learned from all rows
) -> list[Path]:  # Cards of the networks written
    "Networks asked: their tables, and those that ship."
    p = PROFILES[profile]
    tables, meta = collect(p, where, keys)
    meta["read"] = _logged(meta, target / "results")
    write_tables(tables, meta, target / "results")
    cards = _export_models(p, where, keys, target / "weights", "shipped" if CHOICE in keys else "last")
    own = {f for c in cards for f in (c.name, json.loads(c.read_text())["file"])}
    for old in (target / "weights").glob("nf270-network*"):
        if old.name not in own:
            old.unlink()
    return cards

"""Tables of the comparisons inside the folds"""

from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows, score
from ion_ode.results.cells import read_cell
from ion_ode.results.contestants import MAIN
from ion_ode.results.heldout import choose_steps
from ion_ode.results.trial_recipes import RECIPES
from ion_ode.training.recipe import TrainConfig, build

TABLES = {
    "ablation": "nf270 ablation",
    "start": "nf270 start",
    "recipes": "pretraining recipes",
}  # Table -> the cell it is made of


def tables(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> dict[str, pd.DataFrame]:  # By key of TABLES; what was not computed is left out
    "What the cells say of training itself."
    make = {"ablation": ablation_table, "start": _start_table, "recipes": _recipe_table}
    return {name: make[name](folder, keys) for name, cell in TABLES.items() if cell in keys}


def ablation_table(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    cell: str = TABLES["ablation"],  # Its name
) -> pd.DataFrame:  # way, mse_R (mean over compositions), change against "as published", its se, a column a composition
    """Inner scores of the ways to fine-tune; every network is judged on what it was not shown, and no fold's test
    score is read."""
    tensors, record = read_cell(folder, cell, keys[cell])
    df, rows = contest_rows("nf270").reset_index(), []
    for way, predicted in zip(record["ways"], tensors["predicted"].numpy(), strict=True):
        parts = [df.assign(predicted=p, seed=m) for m, p in enumerate(predicted)]
        s = score(pd.concat(parts).dropna(subset="predicted"), ("seed", "composition"))
        rows.append(s.groupby("composition").mse_R.mean().rename(way))
    t = pd.DataFrame(rows)
    change = t - t.loc["as published"]
    return (
        t.assign(mse_R=t.mean(axis=1), change=change.mean(axis=1), se=change.std(axis=1) / t.shape[1] ** 0.5)
        .rename_axis("way")
        .reset_index()
    )


def _start_table(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> pd.DataFrame:  # As `ablation_table`, and unseen: median error of R on simulated curves before fine-tuning
    "Inner scores of networks that start as published, and of networks that start closer to the pore model."
    cell = TABLES["start"]
    return ablation_table(folder, keys, cell).assign(
        unseen=lambda t: t.way.map(read_cell(folder, cell, keys[cell])[1]["unseen"])
    )


def _recipe_table(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> pd.DataFrame:  # way, steps; over seeds: median, within_95, median_ratio (to "as it is"), its lowest and highest
    "Errors on unseen simulated curves of the ways to pre-train."
    t = pd.DataFrame(read_cell(folder, TABLES["recipes"], keys[TABLES["recipes"]])[1]["rows"])
    wide = np.log(t.pivot(index="way", columns="seed", values="median"))
    ratio = (wide - wide.loc["as it is"]).loc[list(RECIPES)]
    mean = t.groupby("way")[["steps", "median", "within_95"]].mean().loc[list(RECIPES)]
    return (
        mean.assign(
            median_ratio=np.exp(ratio.mean(axis=1)),
            lowest=np.exp(ratio.min(axis=1)),
            highest=np.exp(ratio.max(axis=1)),
        )
        .rename_axis("way")
        .reset_index()
    )


def networks(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    benchmark: str = "nf270",  # Key of BENCHMARKS
    fold: str | None = None,  # Composition held out; None: networks that learned from all
    least: int = 0,  # As in `choose_steps`
) -> tuple[TrainConfig, Ensemble, Tensor, int]:  # Recipe, networks, membranes they were told of, steps
    "The main networks, pre-trained and neutral by construction, after the number of steps chosen inside."
    cell = f"{benchmark} finetune {MAIN}"
    tensors, record = read_cell(folder, cell, keys[cell])
    config = TrainConfig.from_dict(record["spec"]["config"])
    mark = choose_steps(
        tensors["hard/predicted"], record["members"], contest_rows(benchmark), BENCHMARKS[benchmark].folds, least
    )[fold, True]
    at = [k for k, m in enumerate(record["kept"]) if record["members"][m][0] == ([fold] if fold else [])]
    ensemble = build(config, [0] * len(at))
    ensemble.load_state(
        {k.removeprefix("weights/"): v[mark][at] for k, v in tensors.items() if k.startswith("weights/")}
    )
    return config, ensemble, tensors["parameters"][at], record["marks"][mark]

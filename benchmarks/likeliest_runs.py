"""What the likeliest membrane is worth, run by run of the sampler

`NF270` is one membrane: of the tenth of highest posterior density the one nearest to what all say. Here it is taken
from each of the two runs behind the samples that hold out a composition or a laboratory, and from the run of the
comparison (chapter 05), and asked the held-out rows: how much of its error is that of the draw. The same of the mean
over all membranes of each run.

    ion-ode reproduce --only answer --profile full --out results-full    half an hour of two processors
    python benchmarks/likeliest_runs.py results-full/cells/full [--store]    a minute; without the folder: the stored
                                                                             runs beside the comparison of today"""

import argparse
import json

import pandas as pd

from ion_ode.cells import cell_keys, read_cell
from ion_ode.inference.build import _RUNS, answer_cells, fold_answer
from ion_ode.inference.learn import sample_name, sample_read
from ion_ode.inference.score import predicted, scores
from ion_ode.results.board import read_board
from ion_ode.results.entrants import _likeliest
from ion_ode.results.protocol import LIKELIEST, POSTERIOR, PROTOCOL, SECOND, fold_rows
from ion_ode.results.verdicts import board_scores
from ion_ode.store import asset, atomic_write, provenance


def of_runs(folder: str, fold: str) -> list[dict]:
    "Mean squared errors of a fold, a row a run."
    keys, rows = cell_keys(answer_cells()), []
    whole, _, test = fold_rows(fold)
    for run in _RUNS:
        name = sample_name(fold, run)
        population = sample_read(read_cell(folder, name, keys[name]))
        said = {LIKELIEST: _likeliest(population, whole), POSTERIOR: fold_answer(fold, population, whole)}
        rows += [{"run": str(run), "model": k, "mse": scores(predicted(v, test))["mse"]} for k, v in said.items()]
    return rows


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("cells", nargs="?", help="folder of the cells of ion-ode reproduce --only answer")
    ask.add_argument("--store", action="store_true")
    a = ask.parse_args()
    if a.cells:
        folds = ((s, f) for s, folds in PROTOCOL.splits for f in folds)
        rows = [{"split": s, "fold": f, **r} for s, f in folds for r in of_runs(a.cells, f)]
    else:
        rows = [r for r in json.loads(asset("likeliest_runs.json").read_text())["rows"] if r["run"] != "comparison"]
    board = board_scores(read_board()["board"]).query("model in [@LIKELIEST, @SECOND]")
    compared = board.assign(run="comparison", model=board.model.replace(SECOND, POSTERIOR))
    table = pd.concat([pd.DataFrame(rows), compared[["split", "fold", "run", "model", "mse"]]], ignore_index=True)
    print(table.pivot_table(index=["split", "fold"], columns=["model", "run"], values="mse").round(3))
    mean = table.groupby(["split", "model", "run"]).mse.mean().unstack("run")
    print(mean.round(3))
    if a.store:
        record = {"rows": table.round({"mse": 4}).to_dict("records"), "provenance": provenance(seed=0)}
        atomic_write(asset("answers").with_name("likeliest_runs.json"), json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

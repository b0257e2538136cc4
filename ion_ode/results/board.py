"""The comparison on whole compositions and whole laboratories: one cell a fold, and the tables they make together"""

from pathlib import Path

import pandas as pd
import torch

from ion_ode.closure import Cell, cell
from ion_ode.inference.rows import answer_rows
from ion_ode.results.entrants import answers_of, own_answers
from ion_ode.results.protocol import PROTOCOL
from ion_ode.store import asset, atomic_write, digest

__all__ = ["TABLES", "answers_digest", "board_cells", "collect_board", "read_board", "write_board"]

TABLES = ("board", "board_own", "board_folds")  # Answers; answers after an own state; facts of the folds


def answers_digest() -> str:
    "Digest of the shipped samples that are asked."
    return digest(
        {name: digest(asset(f"answers/without-{name}.json").read_bytes()) for _, name in PROTOCOL.folds()}
    )


@cell("board")
def _cell_board(folder, spec, found, tick):
    "Answers of all entrants to one fold."
    told, facts = answers_of(spec["held"])
    own = own_answers(spec["held"], facts.pop("four")) if spec["split"] == "sources" else None
    tick(1)
    tables = {"told": told.to_dict("list")} | ({} if own is None else {"own": own.to_dict("list")})
    return {"predicted": torch.tensor(told.predicted.to_numpy())}, facts | tables


def board_cells() -> list[Cell]:
    "A cell for every fold."
    sample = lambda name: digest(asset(f"answers/without-{name}.json").read_bytes())
    return [
        Cell(f"board without {name}", "board", {"split": split, "held": name, "sample": sample(name)}, cost=1)
        for split, name in PROTOCOL.folds()
    ]


def collect_board(
    read,  # name of a cell -> its facts
) -> dict[str, pd.DataFrame]:
    "The tables that ship, out of the cells."
    told, own, facts = [], [], []
    for split, name in PROTOCOL.folds():
        r = read(f"board without {name}")
        told.append(pd.DataFrame(r["told"]).assign(split=split, fold=name))
        own += [pd.DataFrame(r["own"]).assign(fold=name)] if "own" in r else []
        sits = " ".join(r["at bounds"])
        facts.append(
            {"split": split, "fold": name, "distinct": r["distinct"], "four at bounds": sits, "cpu_s": r["cpu_s"]}
        )
    return dict(zip(TABLES, (pd.concat(told), pd.concat(own), pd.DataFrame(facts)), strict=True))


def write_board(tables: dict[str, pd.DataFrame], folder: str | Path) -> None:
    "The tables as CSV."
    for name, table in tables.items():
        atomic_write(Path(folder) / f"{name}.csv", table.to_csv(index=False, float_format="%.5g"))


def read_board(folder: str | Path | None = None) -> dict[str, pd.DataFrame]:
    "The stored tables; answers with what was measured beside them."
    folder = asset("results") if folder is None else Path(folder)
    out = {
        n: pd.read_csv(folder / f"{n}.csv", keep_default_na=False, na_values={c: "" for c in ("lower", "upper")})
        for n in TABLES
    }
    kept = answer_rows()[["ion", "flux_m_s", "rejection", "rejection_sd", "coupon", "composition", "source_id"]]
    return {n: t.join(kept, on="row_id") if "row_id" in t else t for n, t in out.items()}

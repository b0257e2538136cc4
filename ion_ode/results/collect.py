"""Tables of a contest, from its cells"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from ion_ode.closure import tables_digest
from ion_ode.results.benchmarks import BENCHMARKS
from ion_ode.results.cells import code_hash, read_cell
from ion_ode.results.contestants import PORE_MODEL, Profile
from ion_ode.results.draws import draw_table, rollouts
from ion_ode.results.exactness import exact_checks, smoothness
from ion_ode.results.heldout import contest
from ion_ode.results.heldout_tables import ablation_table
from ion_ode.results.probes import attention_tables, onset_table
from ion_ode.results.scores import scoreboard
from ion_ode.results.trial_scores import floor_table, trial_table
from ion_ode.store import provenance
from ion_ode.training.recipe import TrainConfig, build


def collect(
    profile: Profile,  # What was computed
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> tuple[dict[str, pd.DataFrame], dict]:  # Tables by name, provenance
    "All tables that figures and text are made from. The test parts are read here."
    pred, steps = contest(folder, keys)
    scores, units = scoreboard(pred)
    rows, fits, drawn, cost, commits = [], [], [], {}, set()
    for name in keys:
        record = read_cell(folder, name, keys[name])[1]
        commits.add(record["commit"])
        cost[name] = record["cpu_s"]
        if f" {PORE_MODEL} without " in name:
            fits.append(
                {
                    "benchmark": name.split()[0],
                    "fold": name.split()[-1],
                    **record["parameters"],
                    "rmse_train": record["rmse_train"],
                }
            )
        if "n_effective" in record:
            drawn.append({"cell": name, **{k: record[k] for k in ("n_effective", "membranes", "log_evidence")}})
        if name.startswith("pretrain "):
            model = name.removeprefix("pretrain ")
            size = sum(
                p.numel()
                for p in build(
                    replace(TrainConfig.from_dict(record["spec"]["config"]), compiled=False), [0]
                ).params.values()
            )
            rows += [{"model": model, "parameters": size, **u} for u in record["unseen"]]
    short = profile.recipe.pretraining.steps < 100
    attention, removal = attention_tables(folder, keys, **({"steps": 4, "seeds": 2} if short else {}))
    tables = {
        "predictions": pred[pred["rule"].isin(["", "chosen"])].drop(columns="attention"),
        "scores": scores,
        "units": units[(units.scored == "single") & units["rule"].isin(["", "chosen", "none", "last"])],
        "steps": steps,
        "rollouts": rollouts(folder, keys),
        "draws": draw_table(folder, keys),
        "attention": attention,
        "removal": removal,
        "onset": onset_table(folder, keys),
        "smoothness": smoothness(folder, keys),
        "checks": exact_checks(folder, keys),
        "ablation": ablation_table(folder, keys) if "nf270 ablation" in keys else pd.DataFrame({"way": []}),
        "pretraining": pd.DataFrame(rows),
        "floor": floor_table(folder, keys),
        "sweep": pd.DataFrame(
            read_cell(folder, "attention sweep", keys["attention sweep"])[1]["rows"]
            if "attention sweep" in keys
            else [],
            columns=["d_k", "encoding", "seed", "parameters", "median", "within_95"],
        ),
        "membranes": pd.DataFrame(drawn, columns=["cell", "n_effective", "membranes", "log_evidence"]),
        "fits": pd.DataFrame(fits, columns=None if fits else ["fold"]),
        "trials": trial_table(folder, keys)
        if profile.trials
        else pd.DataFrame(columns=["way", "fold", "composition", "mse_R"]),
    }
    meta = provenance(
        seed=profile.recipe.seed, profile=profile.name, data=tables_digest(), code=code_hash(),
            recipe=profile.recipe.to_dict(), seeds=profile.seeds,
        cells_commit=sorted(commits), cpu_seconds=cost, cpu_seconds_total=round(sum(cost.values()),
            1), data_kind={b: BENCHMARKS[b].data_kind for b in pred.benchmark.unique()},
    )  # fmt: skip
    return tables, meta

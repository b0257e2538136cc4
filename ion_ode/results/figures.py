"""Figures 2A to 2D"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ion_ode.data.nf270 import GROUPS, measurement_sd
from ion_ode.plotting import PAGE_WIDTH, formula, ion_legend, plot_parity, plot_rejection, save_figure
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows
from ion_ode.results.contestants import BAYES, MAIN, PORE_MODEL
from ion_ode.results.figures_ions import _drawn, _of, _title, figure_2c, figure_2d
from ion_ode.results.scores import SCORE, SCORES, intervals, mean_predictions


def figure_2a(
    tables: dict[str, pd.DataFrame],  # From `collect` or `read_tables`
    fold: str = "D",  # Composition of the real set
    twin_fold: str = "T1",  # Fold of the twin
    benchmarks: tuple[str, ...] = tuple(BENCHMARKS),  # Rows of the figure
) -> tuple:  # Figure, table behind it
    "Rejection along the flux for compositions no model has seen, with 90 % intervals (Eq. 5.2)."
    shown, benchmarks = [], [b for b in benchmarks if b in _drawn(tables)]
    models = [m for m in (MAIN, BAYES, PORE_MODEL) if m in set(tables["rollouts"].model)]
    fig, axes = plt.subplots(
        len(benchmarks),
        len(models),
        figsize=(PAGE_WIDTH, 0.7 + 2.2 * len(benchmarks)),
        sharey="row",
        squeeze=False,
    )
    for row, b in zip(axes, benchmarks, strict=True):
        g = fold if b == "nf270" else twin_fold
        lines = _of(tables["rollouts"], benchmark=b, fold=g)
        measured = contest_rows(b)
        measured = measured[measured.solution_id.isin(lines.solution_id)].assign(
            rejection_sd=lambda d, b=b: measurement_sd(d, BENCHMARKS[b].sd_floor)
        )
        for ax, model in zip(row, models, strict=True):
            q = intervals(mean_predictions(tables["predictions"], b, model))
            q = q[q.fold == g].groupby("ion").half.first()
            d = lines[(lines.model == model) & lines.ion.isin(measured.ion)]
            middle, width = (
                1.05 - np.minimum(d.rejection, 1),
                np.exp((d.ion.map(q) * (d.spread + SCORES[SCORE][0])).clip(upper=5)),
            )
            d = d.assign(lower=1.05 - middle * width, upper=np.minimum(1.05 - middle / width, 1))
            plot_rejection(d, ax, measured=measured, legend=False)
            ax.set_title(f"{model}\n{_title(b)}", fontsize="medium")
            ax.set_ylim(max(100 * min(measured.rejection.min() - 0.6, lines.rejection.min() - 0.05), -450), 105)
            if ax is not row[0]:
                ax.set_ylabel("")
            shown.append(d)
        marks = measured[["ion", "flux_m_s", "rejection", "rejection_sd", "solution_id"]].assign(
            model="measured", fold=g, benchmark=b
        )
        shown.append(marks)
    feeds = {"nf270": formula(GROUPS[fold]), "twin": f"a mixture of {twin_fold}"}
    fig.suptitle("Held out: " + "; ".join(feeds[b] for b in benchmarks), fontsize="medium")
    ion_legend(fig, set(pd.concat(shown).ion))
    return fig, pd.concat(shown, ignore_index=True)


def figure_2b(tables: dict[str, pd.DataFrame]) -> tuple:  # Figure, table behind it
    "Predicted against measured rejection, every value predicted by models that have not seen its composition."
    models = [m for m in (MAIN, BAYES, PORE_MODEL) if m in set(tables["scores"].model)]
    benchmarks, parts = _drawn(tables), []
    fig, axes = plt.subplots(
        len(benchmarks), len(models), figsize=(PAGE_WIDTH, 0.4 + 2.6 * len(benchmarks)), squeeze=False
    )
    for row, b in zip(axes, benchmarks, strict=True):
        each = [mean_predictions(tables["predictions"], b, m) for m in models]
        low = max(100 * min(min(p.predicted.min(), p.rejection.min()) for p in each) - 5, -400)
        for ax, p in zip(row, each, strict=True):
            plot_parity(p, ax=ax, limits=(low, 105))
            inside = np.average((p.predicted - p.rejection).abs() <= 0.1, weights=p.weight)
            title = f"{_title(b)}\n{p.model.iloc[0]}:\n{inside:.0%} within ±10 points"
            ax.set_title(title, fontsize="small")
        parts += each
    fig.set_dpi(200)  # of the points, which are drawn as a picture inside the vectors
    ion_legend(fig, set(pd.concat(parts).ion), linestyle="")
    return fig, pd.concat(parts, ignore_index=True)[
        ["benchmark", "model", "fold", "row_id", "ion", "flux_m_s", "rejection", "predicted", "weight"]
    ]


FIGURES = {"figure_2a": figure_2a, "figure_2b": figure_2b, "figure_2c": figure_2c, "figure_2d": figure_2d}


def draw_figures(
    tables: dict[str, pd.DataFrame],  # From `collect` or `read_tables`
    meta: dict,  # Provenance
    folder: str | Path,  # Where they go
) -> None:
    "Figures 2A to 2D as PDF, SVG, PNG and CSV."
    keep = {k: meta[k] for k in ("profile", "seed", "commit", "device", "versions", "data", "data_kind")}
    for name, draw in FIGURES.items():
        fig, data = draw(tables)
        save_figure(fig, name, data, folder, keep)
        plt.close(fig)

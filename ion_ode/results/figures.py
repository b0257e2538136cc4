"""Figures 2A to 2D"""

from pathlib import Path
from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ion_ode.data.nf270 import GROUPS, measurement_sd
from ion_ode.plotting import PAGE_WIDTH, formula, ion_legend, plot_parity, plot_rejection, save_figure
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows
from ion_ode.results.contestants import BAYES, BIASES, LIKELIEST_TOLD, MAIN, REFERENCES, VARIANTS
from ion_ode.results.protocol import CONSTANT, ENTRANTS, FOUR_FITTED, LIKELIEST, POSTERIOR
from ion_ode.results.scores import SCORE, SCORES, errors, intervals, mean_predictions
from ion_ode.water.ions import IONS, ion_label


def _of(d: pd.DataFrame, **labels) -> pd.DataFrame:
    for k, v in labels.items():
        d = d[d[k] == v]
    return d


def _title(benchmark: str) -> str:
    real = {"nf270": "compositions,\nreal data", "sources": "laboratories,\nreal data"}
    return real.get(benchmark, "twin,\nsynthetic data")


def _drawn(tables) -> list[str]:
    s = tables["scores"]
    return [b for b in BENCHMARKS if ((s.benchmark == b) & (s.model == MAIN)).any()]


def _fair(benchmark: str) -> tuple[str, str]:
    "The posterior and the likeliest membrane of a benchmark."
    return (BAYES, LIKELIEST_TOLD) if BENCHMARKS[benchmark].split is None else (POSTERIOR, LIKELIEST)


def _with_interval(tables, d: pd.DataFrame, benchmark: str, fold: str) -> pd.DataFrame:
    "Lines with a 90 % interval: their own, or one calibrated on the other folds (Eq. N.2)."
    if "lower" in d and d.lower.notna().all():
        return d
    q = intervals(mean_predictions(tables["predictions"], benchmark, d.model.iloc[0]))
    q = q[q.fold == fold].groupby("ion").half.first()
    middle = 1.05 - np.minimum(d.rejection, 1)
    width = np.exp((d.ion.map(q) * (d.spread + SCORES[SCORE][0])).clip(upper=5))
    return d.assign(lower=1.05 - middle * width, upper=np.minimum(1.05 - middle / width, 1))


def figure_2a(
    tables: dict[str, pd.DataFrame],  # Of `with_entrants`; rollouts of the answer among them
    fold: str = "D",  # Composition of the real set
    twin_fold: str = "T1",  # Fold of the twin
    benchmarks: tuple[str, ...] = ("nf270", "twin"),  # Rows of the figure
) -> tuple:  # Figure, table behind it
    "Rejection along the flux for compositions no model has seen, with 90 % intervals."
    drawn, shown = tables["rollouts"], []
    folds = {"nf270": fold, "twin": twin_fold}
    rows = [(b, folds[b], _of(drawn, benchmark=b, fold=folds[b])) for b in benchmarks if b in set(drawn.benchmark)]
    size = PAGE_WIDTH, 0.7 + 2.2 * len(rows)
    fig, axes = plt.subplots(len(rows), 3, figsize=size, sharey="row", squeeze=False)
    for row, (b, g, lines) in zip(axes, rows, strict=True):
        measured = contest_rows(b)
        measured = measured[measured.solution_id.isin(lines.solution_id)]
        measured = measured.assign(rejection_sd=measurement_sd(measured, BENCHMARKS[b].sd_floor))
        models = [m for m in (MAIN, _fair(b)[0], FOUR_FITTED) if m in set(lines.model)]
        for ax, model in zip(row, models, strict=False):
            d = _with_interval(tables, lines[(lines.model == model) & lines.ion.isin(measured.ion)], b, g)
            plot_rejection(d, ax, measured=measured, legend=False)
            ax.set_title(f"{model}\n{'NF270, real' if b != 'twin' else 'twin, synthetic'} data", fontsize="small")
            ax.set_ylim(max(100 * min(measured.rejection.min() - 0.6, lines.rejection.min() - 0.05), -450), 105)
            if ax is not row[0]:
                ax.set_ylabel("")
            shown.append(d)
        marks = measured[["ion", "flux_m_s", "rejection", "rejection_sd", "solution_id"]]
        shown.append(marks.assign(model="measured", fold=g, benchmark=b))
    feeds = {"nf270": formula(GROUPS[fold]), "twin": f"a mixture of {twin_fold}"}
    fig.suptitle("Held out: " + "; ".join(feeds[b] for b, _, _ in rows), fontsize="medium")
    ion_legend(fig, set(pd.concat(shown).ion))
    return fig, pd.concat(shown, ignore_index=True)


def figure_2b(tables: dict[str, pd.DataFrame]) -> tuple:  # Figure, table behind it
    "Predicted against measured rejection, every value predicted by models that have not seen what it belongs to."
    benchmarks, parts = _drawn(tables), []
    size = PAGE_WIDTH, 0.4 + 2.6 * len(benchmarks)
    fig, axes = plt.subplots(len(benchmarks), 3, figsize=size, squeeze=False)
    for row, b in zip(axes, benchmarks, strict=True):
        known = set(tables["scores"].model)
        each = [mean_predictions(tables["predictions"], b, m) for m in (MAIN, *_fair(b)) if m in known]
        low = max(100 * min(min(p.predicted.min(), p.rejection.min()) for p in each) - 5, -400)
        for ax, p in zip(row, each, strict=False):
            plot_parity(p, ax=ax, limits=(low, 105))
            inside = errors(p, ["unit"]).within_10.mean()
            named = "\n".join(wrap(p.model.iloc[0] + ":", 28))
            where = _title(b).replace("\n", " ")
            ax.set_title(f"{where}\n{named}\n{inside:.0%} within ±10 points", fontsize="small")
        parts += each
    fig.set_dpi(200)  # of the points, which are drawn as a picture inside the vectors
    ion_legend(fig, set(pd.concat(parts).ion), linestyle="")
    return fig, pd.concat(parts, ignore_index=True)[
        ["benchmark", "model", "fold", "row_id", "ion", "flux_m_s", "rejection", "predicted", "weight"]
    ]


def _lines(ax, s, b):
    for name, style in ((_fair(b)[0], ":"), (_fair(b)[1], "-."), (FOUR_FITTED, "-"), (CONSTANT, "--")):
        d = _of(s, benchmark=b, model=name)
        if len(d):
            label = {BAYES: POSTERIOR, LIKELIEST_TOLD: LIKELIEST}.get(name, name)
            ax.axhline(d.mse_R.iloc[0], color="0.3", ls=style, lw=1.2, label=label)


def _one_legend(fig, ax):
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)


def _bar(ax, x, r, width, **kw):
    ax.bar(x, r.mse_R, width, zorder=1, **kw)
    ax.errorbar(
        x,
        r.mse_R,
        yerr=[[max(r.mse_R - r.lower, 0)], [max(r.upper - r.mse_R, 0)]],
        color="0.2",
        capsize=3,
        zorder=2,
    )


def figure_2c(tables: dict[str, pd.DataFrame]) -> tuple:  # Figure, table behind it
    "Error by architecture, with and without attention, and the attention map."
    s, benchmarks = tables["scores"], _drawn(tables)
    nets = s[(s.scored == "single") & (s["rule"] == "last") & (s.pretrained == "PT") & (s.bias == "hard")]
    bases = [v for v in VARIANTS if "+" not in v and v in set(nets.model)]
    fig, axes = plt.subplots(1, len(benchmarks) + 1, figsize=(PAGE_WIDTH, 3.2))
    for ax, b in zip(axes, benchmarks, strict=False):
        for k, base in enumerate(bases):
            for shift, name, color in ((-0.18, base, "C7"), (0.18, f"{base} + attention", "C0")):
                r = _of(nets, benchmark=b, model=name)
                if len(r):
                    _bar(
                        ax,
                        k + shift,
                        r.iloc[0],
                        0.32,
                        color=color,
                        label="with attention" if "+" in name else "without",
                    )
        _lines(ax, s, b)
        ax.set(yscale="log", ylabel="Held-out MSE of rejection (-)" if ax is axes[0] else "", title=_title(b))
        ax.set_xticks(range(len(bases)), bases, fontsize=7, rotation=35, ha="right")
    _one_legend(fig, axes[0])
    inset = axes[-1]
    grid = (
        _of(tables["attention"], network="main")
        .groupby(["asking", "answering"])
        .weight.mean()
        .unstack()
        .loc[list(IONS), list(IONS)]
    )
    image = inset.imshow(grid, cmap="cividis", vmin=0)
    ticks = [ion_label(i) for i in IONS]
    inset.set(
        xticks=range(8), yticks=range(8), xlabel="key ion", ylabel="query ion"
    )
    inset.set_xticklabels(ticks, rotation=60, fontsize=7)
    inset.set_yticklabels(ticks, fontsize=7)
    fig.colorbar(image, ax=inset, label="mean attention (-)", shrink=0.8)
    return fig, pd.concat([nets, s[s.model.isin([*ENTRANTS, BAYES, LIKELIEST_TOLD, *REFERENCES])]])[
        ["benchmark", "model", "mse_R", "lower", "upper", "mse_h", "seed_sd"]
    ]


def figure_2d(tables: dict[str, pd.DataFrame]) -> tuple:  # Figure, table behind it
    "Pre-trained or not, neutrality as a hard or a soft constraint."
    s, benchmarks = tables["scores"], _drawn(tables)
    nets = s[(s.scored == "single") & (s["rule"] == "last") & (s.model == MAIN)]
    order = [(p, b) for p in ("PT", "NPT") for b in BIASES]
    fig, axes = plt.subplots(1, len(benchmarks), figsize=(PAGE_WIDTH, 3.2), squeeze=False)
    for ax, b in zip(axes[0], benchmarks, strict=True):
        for k, (p, bias) in enumerate(order):
            r = _of(nets, benchmark=b, pretrained=p, bias=bias)
            if len(r):
                _bar(ax, k, r.iloc[0], 0.6, color="C0" if bias == "hard" else "C1")
        _lines(ax, s, b)
        ax.set(yscale="log", ylabel="Held-out MSE of rejection (-)" if ax is axes[0, 0] else "", title=_title(b))
        ax.set_xticks(
            range(4),
            [f"{'' if p == 'PT' else 'not '}pre-trained,\n{c}" for p, c in order],
            fontsize=7,
            rotation=35,
            ha="right",
        )
    _one_legend(fig, axes[0, 0])
    return fig, nets[["benchmark", "pretrained", "bias", "mse_R", "lower", "upper", "mse_h", "seed_sd"]]


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

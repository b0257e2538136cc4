"""Figures 2C and 2D: errors by ion, onsets"""


import matplotlib.pyplot as plt
import pandas as pd

from ion_ode.plotting import PAGE_WIDTH
from ion_ode.results.benchmarks import BENCHMARKS
from ion_ode.results.contestants import BAR, BAYES, BIASES, MAIN, PORE_MODEL, REFERENCES, VARIANTS
from ion_ode.water.ions import IONS, ion_label


def _of(d: pd.DataFrame, **labels) -> pd.DataFrame:
    for k, v in labels.items():
        d = d[d[k] == v]
    return d


def _title(benchmark: str) -> str:
    return {"nf270": "NF270, real data", "twin": "twin, synthetic data"}[benchmark]


def _drawn(tables) -> list[str]:
    s = tables["scores"]
    return [b for b in BENCHMARKS if ((s.benchmark == b) & (s.model == MAIN)).any()]


def _lines(ax, s, b):
    for name, style in ((PORE_MODEL, "-"), (BAR, "-."), (BAYES, ":"), ("constant", "--")):
        d = _of(s, benchmark=b, model=name)
        if len(d):
            ax.axhline(d.mse_R.iloc[0], color="0.3", ls=style, lw=1.2, label=name)


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
    nets = s[(s.scored == "single") & (s["rule"] == "chosen") & (s.pretrained == "PT") & (s.bias == "hard")]
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
        ax.set(ylabel="Held-out MSE of rejection (-)", title=_title(b))
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
        xticks=range(8), yticks=range(8), xlabel="answering", ylabel="asking", title="attention, mean"
    )
    inset.set_xticklabels(ticks, rotation=60, fontsize=7)
    inset.set_yticklabels(ticks, fontsize=7)
    fig.colorbar(image, ax=inset, label="attention (-)", shrink=0.8)
    return fig, pd.concat([nets, s[s.model.isin([PORE_MODEL, BAR, BAYES, *REFERENCES])]])[
        ["benchmark", "model", "mse_R", "lower", "upper", "mse_h", "seed_sd"]
    ]


def figure_2d(tables: dict[str, pd.DataFrame]) -> tuple:  # Figure, table behind it
    "Pre-trained or not, neutrality as a hard or a soft constraint."
    s, benchmarks = tables["scores"], _drawn(tables)
    nets = s[(s.scored == "single") & (s["rule"] == "chosen") & (s.model == MAIN)]
    order = [(p, b) for p in ("PT", "NPT") for b in BIASES]
    fig, axes = plt.subplots(1, len(benchmarks), figsize=(PAGE_WIDTH, 3.2), squeeze=False)
    for ax, b in zip(axes[0], benchmarks, strict=True):
        for k, (p, bias) in enumerate(order):
            r = _of(nets, benchmark=b, pretrained=p, bias=bias)
            if len(r):
                _bar(ax, k, r.iloc[0], 0.6, color="C0" if bias == "hard" else "C1")
        _lines(ax, s, b)
        ax.set(ylabel="Held-out MSE of rejection (-)", title=_title(b))
        ax.set_xticks(
            range(4),
            [f"{'' if p == 'PT' else 'not '}pre-\ntrained,\n{c}" for p, c in order],
        )
    _one_legend(fig, axes[0, 0])
    return fig, nets[["benchmark", "pretrained", "bias", "mse_R", "lower", "upper", "mse_h", "seed_sd"]]

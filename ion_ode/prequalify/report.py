"""A campaign on paper: the plane of two objectives, the batch with its reasons, and what was used of the table."""

import base64
import html
import io
from pathlib import Path

import numpy as np
import pandas as pd

from ion_ode.core import InputError
from ion_ode.prequalify.campaign import Campaign
from ion_ode.prequalify.monomers import label
from ion_ode.prequalify.quantities import with_interval
from ion_ode.prequalify.report_figures import _axis_label, plot_campaign
from ion_ode.store import atomic_write


def batch_table(
    campaign: Campaign,  # Fitted
    batch: pd.DataFrame,  # From `Campaign.suggest` or `Campaign.predict`
) -> pd.DataFrame:  # Text, one row a membrane
    "A batch as a person reads it: recipe, objectives with intervals, chance, reason."
    recipe = [c.name for c in campaign.schema.columns if c.name in batch]
    out = batch[["name", *recipe]].copy()
    for c in campaign.schema.columns:
        out[c.name] = [label(v) if v else "not stated" for v in out[c.name]]
    shown = dict.fromkeys([*campaign.objectives, *(m for w in campaign.weights for m in w)])
    for o in [o for o in shown if o in batch]:
        scale, unit = (100, " %") if o.startswith("rejection") else (1, "")
        ends = batch[[o, f"{o} lower", f"{o} upper"]].to_numpy() * scale
        out[o + unit] = [with_interval(*e) for e in ends]
    for c in ("chance", "cost", "reason"):
        if c in batch:
            out[c] = batch[c].map(lambda v: f"{v:.2g}" if isinstance(v, float) else v)
    return out


def _markdown(d: pd.DataFrame) -> str:
    row = lambda cells: "| " + " | ".join(str(c).replace("|", "/") for c in cells) + " |"
    return "\n".join([row(d.columns), row("---" for _ in d.columns), *(row(r) for r in d.to_numpy())])


def write_report(
    campaign: Campaign,  # Fitted
    path: str | Path,  # .html or .md
    batch: pd.DataFrame | None = None,  # From `Campaign.suggest`
) -> Path:
    "The report of a campaign: figure, next batch, what stands on the front, what was used."
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix not in (".html", ".md"):
        raise InputError(f"report {path.name}: the name must end in .html or .md")
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    plot_campaign(campaign, batch, figure.subplots())
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    front = np.exp(campaign.front()).map(lambda v: f"{v:.3g}").reset_index()
    parts = [
        ("What to make next", batch_table(campaign, batch) if batch is not None else pd.DataFrame()),
        (
            f"The front of {len(campaign.table)} membranes",
            front.rename(columns={o: _axis_label(o) for o in campaign.objectives}),
        ),
        ("What was used of the table", campaign.used()),
    ]
    if path.suffix == ".md":
        side = path.with_suffix(".png")
        side.write_bytes(picture.getvalue())
        text = "# Campaign\n\n![Membranes made, their front and the next batch](" + side.name + ")\n\n"
        text += "\n\n".join(f"## {title}\n\n{_markdown(d)}" for title, d in parts if len(d))
    else:
        data = base64.b64encode(picture.getvalue()).decode()
        body = "".join(
            f"<h2>{html.escape(title)}</h2>{d.to_html(index=False, border=0)}" for title, d in parts if len(d)
        )
        style = "body{font:15px sans-serif;margin:2em auto;max-width:75em}"
        style += "td,th{padding:.2em .6em;text-align:left;border-bottom:1px solid #ddd}"
        text = f"<!doctype html><meta charset=utf-8><title>Campaign</title><style>{style}</style><h1>Campaign</h1>"
        text += f'<img alt="Membranes made, their front and the next batch" src="data:image/png;base64,{data}">{body}'
    atomic_write(path, text + "\n")
    return path

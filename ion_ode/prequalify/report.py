"""A campaign on paper: the plane of two objectives, the batch with its reasons, and what was used of the table."""

import base64
import html
import io
from pathlib import Path

import numpy as np
import pandas as pd

from ion_ode.core import InputError
from ion_ode.plotting import formula, plain_log
from ion_ode.prequalify.campaign import Campaign
from ion_ode.prequalify.monomers import label
from ion_ode.prequalify.quantities import modelled, reference_point
from ion_ode.store import atomic_write


def plot_campaign(
    campaign: Campaign,  # Fitted
    batch: pd.DataFrame | None = None,  # From `Campaign.suggest`; None: membranes only
    ax=None,  # Axes to draw on
):  # The axes
    "Membranes made, their front, and the batch with its intervals, in the plane of the first two objectives."
    import matplotlib.pyplot as plt

    ax = ax or plt.gca()
    names = (campaign.objectives * 2)[:2]
    made = np.exp(campaign.measured_objectives())
    ax.plot(made[names[0]], made[names[1]], "o", color="0.65", ms=4, label="made")
    front = np.exp(campaign.front()).sort_values(names[0])
    ax.plot(front[names[0]], front[names[1]], "o", color="0.2", ms=5, label="front")
    if len(campaign.objectives) == 2:
        ax.step(front[names[0]], front[names[1]], where="pre", color="0.2", lw=1)
    if batch is not None and len(batch):
        x, y = (_objective_columns(campaign, batch, n) for n in names)
        spread = lambda v: np.clip([v[0] - v[1], v[2] - v[0]], 0, None)
        ax.errorbar(
            x[0], y[0], xerr=spread(x), yerr=spread(y), fmt="D", ms=5, color="C1", lw=1, label="next, 90 % interval"
        )
        for name, a, b in zip(batch["name"], x[0], y[0], strict=True):
            ax.annotate(name, (a, b), (6, 7), textcoords="offset points", fontsize=8)
    ax.set(xscale="log", yscale="log", xlabel=formula(_axis_label(names[0])), ylabel=formula(_axis_label(names[1])))
    for axis in (ax.xaxis, ax.yaxis):
        plain_log(axis)
    ax.legend(fontsize="small")
    return ax


def _objective_columns(campaign: Campaign, batch: pd.DataFrame, name: str) -> np.ndarray:  # (3, n): value, lower, upper
    "An objective of a batch as the axes show it: exp of what is maximised."
    (m, sign), *more = campaign.weights[campaign.objectives.index(name)].items()
    if more:
        return batch[[name, f"{name} lower", f"{name} upper"]].to_numpy(float).T
    ends = [np.exp(sign * modelled(batch[c], m)) for c in (m, f"{m} lower", f"{m} upper")]
    return np.array([ends[0], np.minimum(*ends[1:]), np.maximum(*ends[1:])])


def _axis_label(objective: str) -> str:
    "An objective with its unit; a rejection is drawn as what it holds back, 1/(1 - R)."
    if objective == "permeance":
        return "Permeance (L m⁻² h⁻¹ bar⁻¹)"
    word, _, rest = objective.partition(" ")
    return f"1/(1 − R) of {rest} (-)" if word == "rejection" else f"{word.capitalize()} {rest} (-)"


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
        text = lambda v, scale=scale: f"{scale * v:.3g}"
        out[o + unit] = [
            f"{text(a)} [{text(b)}, {text(c)}]" for a, b, c in batch[[o, f"{o} lower", f"{o} upper"]].to_numpy()
        ]
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


def replay_rounds(
    table,  # Table with a column round
    objectives=None,  # As in `Campaign`
    seed: int = 0,
) -> (
    pd.DataFrame
):  # One row a round and quantity: membranes before, r, rmse and coverage of the next, hypervolume reached
    "Each round of a campaign, predicted from the rounds before it."
    from ion_ode.prequalify.progress import hypervolume, score_held_out
    from ion_ode.prequalify.tables import read_table

    d, schema = read_table(table)
    if "round" not in d or d["round"].nunique() < 2:
        raise InputError("a replay needs a column round with at least two rounds")
    number = pd.to_numeric(d["round"], errors="coerce")
    whole = Campaign(schema, objectives, seed)
    whole.schema, whole.rows = schema, d
    points = whole._learn(None).measured_objectives()
    reference = reference_point(points.to_numpy(), whole.weights)
    volume = lambda upto: hypervolume(points[points.index.isin(d["name"][number <= upto])].to_numpy(), reference)
    rows, final = [], volume(number.max())
    for k in sorted(number.dropna().unique())[1:]:
        past, test = d[number < k], d[number == k]
        c = Campaign(schema, objectives, seed)
        c.schema, c.rows = schema, past
        p = c._learn(None)._predict(test, 0.9)
        for m in c.processes:
            ends = np.sort([modelled(p[f"{m} {e}"], m) for e in ("lower", "upper")], axis=0)
            frame = pd.DataFrame(
                {"y": modelled(test[m], m), "p": modelled(p[m], m), "lower": ends[0], "upper": ends[1]}
            )
            rows.append(
                {
                    "round": int(k),
                    "made before": len(past),
                    "quantity": m,
                    **score_held_out(frame),
                    "hypervolume": volume(k) / final,
                }
            )
    out = pd.DataFrame(rows)
    out.attrs["used"] = whole.used_lines()
    return out

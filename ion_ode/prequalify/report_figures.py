"""The figures of a campaign"""


import numpy as np
import pandas as pd

from ion_ode.core import InputError
from ion_ode.plotting import formula, plain_log
from ion_ode.prequalify.campaign import Campaign
from ion_ode.prequalify.quantities import modelled, reference_point


def _axis_label(objective: str) -> str:
    "An objective with its unit; a rejection is drawn as what it holds back, 1/(1 - R)."
    if objective == "permeance":
        return "Permeance (L m⁻² h⁻¹ bar⁻¹)"
    word, _, rest = objective.partition(" ")
    return f"1/(1 − R) of {rest} (-)" if word == "rejection" else f"{word.capitalize()} {rest} (-)"


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
        spread = lambda v: np.where(np.isfinite(v[2]), np.clip([v[0] - v[1], v[2] - v[0]], 0, None), 0.0)
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
    with np.errstate(divide="ignore"):  # from 0 to infinity where no interval is known
        ends = [np.exp(sign * modelled(batch[c], m)) for c in (m, f"{m} lower", f"{m} upper")]
    return np.array([ends[0], np.minimum(*ends[1:]), np.maximum(*ends[1:])])

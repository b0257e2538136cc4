"""Weights, what they were told, what they have seen and how wrong they were"""

import math
import warnings
from pathlib import Path

from fastcore.basics import patch
import numpy as np
import torch
from torch import Tensor

from ion_ode.attention_odenet.odenet import ODENet
from ion_ode.attention_odenet.stack import Ensemble, StackedForward
from ion_ode.core import LMH, InputError
from ion_ode.dspmde.feed import read_feed, read_flux
from ion_ode.dspmde.membranes import Membrane
from ion_ode.stats import conformal_quantile
from ion_ode.store import CheckpointError, read_checkpoint, write_checkpoint
from ion_ode.training.recipe import TrainConfig, build, describe_members
from ion_ode.training.teach import _as_ratio
from ion_ode.training.told import describe
from ion_ode.rejections import Rejections
from ion_ode.water.feeds import flux_of
from ion_ode.water.ions import ion_arrays

__all__ = ["Predictor", "save_model", "trained_ranges"]

_COMPILE_FROM = 500_000  # Curves times networks from which on compiling a step (half a minute) saves more than it costs
_FUSED_FROM = 2_000  # The same for the fused path, which is built once on a machine, in seconds


class Predictor:
    "Trained networks with their range, their held-out errors and their card."

    def __init__(
        self,
        config: TrainConfig,  # Recipe
        ensemble: Ensemble,  # Trained networks
        parameters: Tensor | None,  # (member, parameter) membrane they were told of; None for networks that take none
        card: dict,  # name, ranges, errors (held-out, absolute), scores, data, provenance
    ):
        self.config, self.ensemble, self.parameters, self.card, self._forward = config, ensemble, parameters, card, {}
        if isinstance(ensemble.skeleton, ODENet):
            ensemble.skeleton.n_steps = max(8, config.solver_steps)

    def __repr__(self):
        kind = self.config.architecture.replace("_", " ").replace("odenet", "ODENet") + (
            " with attention" if self.config.network.attention else ""
        )
        each = self.card.get("membranes_each", 1)
        networks = f"the mean of {len(self.ensemble) // each} networks" if len(self.ensemble) > 1 else "one network"
        networks += f", each told of {each} membranes" * (each > 1)
        if self.config.architecture == "pore_odenet" and not self.config.pretrained:
            networks = "the pore in closed form, with a network that was not trained"
        top, errors = self.card["ranges"]["flux_m_s"][1] / LMH, self.card["errors"]
        return (
            f"{self.card.get('name', 'unnamed')}: {networks} ({kind}) for {', '.join(self.config.network.ions)} "
            f"at fluxes to {top:.3g} L/m²/h; half of its {len(errors)} known errors of the rejection are below "
            f"{float(np.median(errors)):.2g}"
        )


@patch
def plot(self: Predictor, ax=None, level: float = 0.9):
    "How far off the model was: the share of its known errors below each size, and the half-width of its interval."
    import matplotlib.pyplot as plt

    ax = ax or plt.gca()
    errors, half = np.sort(self.card["errors"]), conformal_quantile(self.card["errors"], level)
    ax.step(errors, np.arange(1, len(errors) + 1) / len(errors), where="post")
    ax.axvline(half, color="0.5", ls="--", label=f"half-width of the {level:.0%} interval: {half:.2f}")
    ax.set(
        xlabel="Absolute error of the rejection",
        ylabel="Share of errors below",
        title=self.card.get("name", ""),
        ylim=(0, 1.02),
    )
    ax.legend(fontsize="small")
    return ax


@patch
def solve(
    self: Predictor,
    c_feed: Tensor,  # (sample, ion) [mol/m³], ions in the order of the slots
    flux: Tensor,  # (sample, flux) [m/s]
    membrane: Membrane | None = None,  # Another membrane; None: the one each network was told of
    tol: float = 1e-2,  # Estimated error of a rejection above which an ODE is solved again with more steps
) -> tuple[
    Tensor, Tensor | None
]:  # (member, sample, flux, ion) rejection, nan where absent; (member, sample, ion) the integrator's error
    "Rejection by every network, and what the integrator may be off; a warning where that stays above `tol`."
    n = len(self.ensemble)
    if membrane is None:
        told = describe_members(self.config, self.parameters, c_feed.expand(n, *c_feed.shape))
    else:
        told = describe(membrane, c_feed, self.config.network.ions, self.config.told).float().expand(n, len(c_feed), -1)
    skeleton, size = self.ensemble.skeleton, n * len(c_feed)
    covered = isinstance(skeleton, ODENet) and skeleton.work() is not None
    large = size >= (_FUSED_FROM if covered else _COMPILE_FROM)
    if large not in self._forward:
        self._forward[large] = StackedForward(skeleton, compiled=large)
    answer = self._forward[large].predict(
        self.ensemble.params, self.ensemble.buffers, c_feed.float(), flux.float(), told, tol=tol
    )
    ratio = _as_ratio(c_feed.double(), ion_arrays(self.config.network.ions).z)[:, None]
    return torch.where(c_feed[:, None] > 0, 1 - answer.h.double() * ratio, torch.nan), answer.error


@patch
def rejections(
    self: Predictor,
    c_feed: Tensor,  # (sample, ion) [mol/m³], ions in the order of the slots
    flux: Tensor,  # (sample, flux) [m/s]
    membrane: Membrane | None = None,  # Another membrane; None: the one each network was told of
) -> Tensor:  # (member, sample, flux, ion), nan where absent
    "Rejection by every network."
    return self.solve(c_feed, flux, membrane)[0]


@patch
def outside(
    self: Predictor,
    c_feed: Tensor,  # (sample, ion) [mol/m³]
    flux: Tensor,  # (sample, flux) [m/s]
    membrane: Membrane | None = None,  # Another membrane
) -> list[str]:  # One sentence for each quantity
    "Where a question leaves the range of the training data, and by how much."
    r, said = self.card["ranges"], []
    by = lambda ratio: f"by {ratio - 1:.0%}" if ratio < 10 else f"by a factor of {ratio:.3g}"

    def look(what, low, high, lo, hi, unit, scale=1.0):
        if low < lo * (1 - 1e-9):
            said.append(
                f"{what} {low / scale:.3g} {unit} is below the trained {lo / scale:.3g} to {hi / scale:.3g} (by "
                f"{1 - low / lo:.0%})"
            )
        if high > hi * (1 + 1e-9):
            said.append(
                f"{what} {high / scale:.3g} {unit} is above the trained {lo / scale:.3g} to {hi / scale:.3g} "
                f"({by(high / hi)})"
            )

    look("flux", flux.min().item(), flux.max().item(), *r["flux_m_s"], "L/m²/h", LMH)
    z = ion_arrays(self.config.network.ions).z
    charge = 0.5 * (c_feed * z.abs()).sum(-1)
    look("total salt", charge.min().item(), charge.max().item(), *r["equivalents_mol_m3"], "eq/m³")
    for j, ion in enumerate(self.config.network.ions):
        c = c_feed[:, j][c_feed[:, j] > 0]
        if len(c) and ion not in r["ions_mol_m3"]:
            said.append(f"{ion} was not in the training data")
        elif len(c):
            look(ion, c.min().item(), c.max().item(), *r["ions_mol_m3"][ion], "mol/m³")
    if membrane is not None and self.parameters is not None:
        said.append(
            "the errors behind the intervals were measured with the membrane this model was trained on; for another "
            "they are not known (leave membrane out for its own)"
        )
    if membrane is not None and "membrane" in r:
        for name, (lo, hi, unit) in r["membrane"].items():
            v = torch.as_tensor(membrane.tensors().get(name, torch.nan))
            if torch.isfinite(v).all():
                look(name, v.min().item(), v.max().item(), lo, hi, unit)
    return said


@patch
def predict(
    self: Predictor,
    feed,  # As for `simulate`
    flux=None,  # Water flux: number, (n_flux,) or (batch, n_flux) [m/s]; None: the column "flux [LMH]" of a DataFrame
    membrane: Membrane | None = None,  # Another membrane than the one the networks were told
    level: float = 0.9,  # Share of measurements the interval should hold
    balance: str | None = None,  # Ion that closes the charge balance of the feed
    ions=None,  # Names of the columns of a tensor feed
) -> Rejections:  # .plot() draws it; .attrs["solver_error"]: the integrator's largest
    "Rejection of every ion, with an interval."
    names, c = read_feed(feed, ions, balance)
    c_feed = self._slots(names, c)
    J = read_flux(flux_of(feed, flux), len(c_feed))
    batch = max(len(c_feed), len(J))
    c_feed, J = c_feed.expand(batch, -1), J.expand(batch, -1)
    if membrane is not None and not self.config.network.n_membrane:
        raise InputError(
            "this model was trained without membrane parameters; leave membrane out, or use load_model('dspmde')"
        )
    if membrane is None and self.parameters is None and self.config.network.n_membrane:
        raise InputError("this model needs a membrane; pass membrane=NF270 or another Membrane")
    for sentence in self.outside(c_feed, J, membrane):
        warnings.warn(sentence, stacklevel=2)
    each, error = self.solve(c_feed, J, membrane)
    table = self._table(c_feed, J, each.mean(0).clamp(max=1.0), level)
    table.attrs["solver_error"] = None if error is None else error.max().item()
    return table


@patch
def _slots(self: Predictor, names, c: Tensor) -> Tensor:  # (sample, slot) [mol/m³]
    "A feed in the columns of the networks; an ion they have no slot for is refused."
    slots = self.config.network.ions
    strange = [n for i, n in enumerate(names) if n not in slots and (c[:, i] > 0).any()]
    if strange:
        raise InputError(f"this model does not know {', '.join(strange)}; it knows {', '.join(slots)}")
    none = torch.zeros(len(c), dtype=torch.float64)
    return torch.stack([c[:, names.index(s)] if s in names else none for s in slots], -1)


@patch
def _table(self: Predictor, c_feed: Tensor, flux: Tensor, rejection: Tensor, level: float) -> Rejections:
    "Rejections (sample, flux, slot) row by row, with the interval that the known errors give."
    half, n = conformal_quantile(self.card["errors"], level), len(self.card["errors"])
    if not math.isfinite(half):
        raise InputError(f"level is {level}; {n} held-out errors support at most {n / (n + 1):.3f}")
    b, t, i = torch.nonzero(torch.isfinite(rejection), as_tuple=True)
    c, r = c_feed[b, i].numpy(), rejection[b, t, i].numpy()
    return Rejections(
        {
            "sample": b.numpy(),
            "flux_m_s": flux[b, t].numpy(),
            "ion": np.array(self.config.network.ions, dtype=object)[i.numpy()],
            "c_feed": c,
            "c_perm": c * (1 - r),
            "rejection": r,
            "lower": r - half,
            "upper": np.minimum(r + half, 1.0),
        }
    )


def trained_ranges(
    c_feed: Tensor,  # (sample, ion) feeds seen [mol/m³]
    flux: Tensor,  # Fluxes seen [m/s]
    ions: tuple[str, ...],  # Names
    membrane: dict | None = None,  # {field of Membrane: (lowest, highest, unit)} seen
) -> dict:  # For `Predictor.outside`
    "Smallest and largest value of everything a model was trained on."
    z = ion_arrays(ions).z
    ends = lambda x: [float(x.min()), float(x.max())]
    out = {
        "flux_m_s": [0.0, float(flux.max())],
        "equivalents_mol_m3": ends(0.5 * (c_feed * z.abs()).sum(-1)),
        "ions_mol_m3": {
            n: ends(c_feed[:, j][c_feed[:, j] > 0]) for j, n in enumerate(ions) if (c_feed[:, j] > 0).any()
        },
    }
    if membrane is not None:
        out["membrane"] = membrane
    return out


def save_model(
    predictor,  # Model: networks, or what else `load_model` gives
    folder: str | Path,  # Where it goes
    name: str = "model",  # Stem of the two files
) -> Path:  # The JSON card
    "Write a model as safetensors and a readable JSON card; sampled membranes as JSON alone."
    if not isinstance(predictor, Predictor):
        return predictor.save(Path(folder) / f"{name}.json")
    tensors = {f"param/{k}": v for k, v in predictor.ensemble.params.items()}
    if predictor.parameters is not None:
        tensors["parameters"] = predictor.parameters.double()
    return write_checkpoint(
        folder,
        tensors,
        {"format": "ion_ode model 1", "config": predictor.config.to_dict(), "card": predictor.card},
        name,
    )


@patch(cls_method=True)
def load(cls: Predictor, path: Path) -> Predictor:
    "Networks from a card and its tensors."
    tensors, record = read_checkpoint(path)
    if record.get("format") != "ion_ode model 1":
        raise CheckpointError(f"{path} is not a model written by save_model (format {record.get('format')!r})")
    config = TrainConfig.from_dict(record["config"])
    params = {k.removeprefix("param/"): v for k, v in tensors.items() if k.startswith("param/")}
    ensemble = build(config, [0] * len(next(iter(params.values()))))
    ensemble.load_state(params)
    return cls(config, ensemble, tensors.get("parameters"), record["card"])

"""Measured states as the curves a network learns: each value has its place in them"""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ion_ode.data.curves import CurveSet
from ion_ode.data.measurements import Measurements
from ion_ode.data.nf270 import measurement_sd, replicate_sd
from ion_ode.data.points import at_membrane, measurement_points
from ion_ode.dspmde.film import FILM_THICKNESS
from ion_ode.dspmde.prior import SLOTS

__all__ = ["first_values", "leads", "measured_curves", "with_scatter"]


def with_scatter(
    measurements: pd.DataFrame | Measurements,  # From any door
    floor: float | None = None,  # As in `measurement_sd`
    ions: tuple[str, ...] = SLOTS,  # Slots
) -> Measurements:  # In the slots, `sd` of every value
    "Measurements with the sd that targets are drawn with: the source's and the scatter of replicates."
    m = measurement_points(measurements, ions=ions)
    given = m.sd if isinstance(measurements, Measurements) else measurements.rejection_sd.to_numpy(float)
    return replace(m, sd=measurement_sd(pd.DataFrame({"rejection_sd": given}), floor).to_numpy())


def measured_curves(
    m: Measurements,  # In the slots of the network
    film_thickness: float | None = FILM_THICKNESS,  # Film of observed values without one of their own [m]
    known: bool = True,  # Whether measured permeates may set the wall (training); False leaves the wall at the bulk
) -> CurveSet:  # `place`: which value stands where
    "Curves of measurements: one for each intrinsic solution, one for each observed state."
    wall, c_perm = at_membrane(m, film_thickness if known else None)
    key = np.where(m.kind == "intrinsic", m.sample, m.run)
    groups = [np.flatnonzero(key == k) for k in pd.unique(key)]
    groups = [g[np.argsort(m.flux[g], kind="stable")] for g in groups]
    most = max(map(len, groups))
    at = torch.tensor(np.array([np.r_[g, np.full(most - len(g), g[-1])] for g in groups]))
    real = torch.tensor(np.array([np.arange(most) < len(g) for g in groups]))[..., None]
    grid = np.full(m.c_feed.shape, -1)
    grid[m.state, m.ion] = np.arange(len(m))
    place = torch.where(real, torch.from_numpy(grid)[at], -1)
    sd = np.where(np.isfinite(m.sd), m.sd, replicate_sd()[0])
    curves = CurveSet(m.ions, wall[at[:, 0]], torch.tensor(m.flux)[at], c_perm[at] * real, place=place)
    return replace(curves, valid=curves.laid(m.weight), sd=curves.laid(sd), meta={"rows": len(m)})


def first_values(curves: CurveSet) -> np.ndarray:  # (curve,)
    "A value of every curve: what its state says holds for the curve."
    return curves.place[:, 0].amax(-1).numpy()


def leads(m: Measurements, curves: CurveSet) -> Tensor:  # (curve, flux, ion)
    "Which noise draw each value takes: its own, but the first of a salt-level pair for both."
    own = torch.arange(curves.place.numel()).view(curves.place.shape)
    half = (curves.valid > 0) & (curves.laid(m.salt_level.astype(float)) > 0)
    first = half & (half.cumsum(-1) == 1)
    return torch.where(half, (own * first).sum(-1, keepdim=True), own)

"""Recipes that a campaign may choose from: within bounds, and of monomers that can make a film"""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from ion_ode.core import InputError
from ion_ode.prequalify.encoder import Encoder
from ion_ode.prequalify.kernels import _recipe_kernel
from ion_ode.prequalify.reactions import check_acyl, check_amine
from ion_ode.prequalify.schema import Column, Schema
from ion_ode.prequalify.table_headers import NONE, _number


def possible_recipes(
    schema: Schema,  # Columns of the recipes
    table: pd.DataFrame,  # Membranes made, one row a recipe
    bounds: dict | None = None,  # Column: (low, high) or list of allowed values
    n: int = 2048,  # How many, where a value is drawn between its bounds
    seed: int = 0,
) -> pd.DataFrame:
    "Recipes that could be made: the levels that were used, or any value between the bounds."
    columns = [_bounded(c, schema, bounds or {}) for c in schema.columns]
    sets = [_levels(c, table) for c in columns]
    sizes = [len(s) for s in sets if s is not None]
    if len(sizes) == len(sets) and np.prod(sizes) <= 4 * n:
        grid = np.meshgrid(*(np.arange(k) for k in sizes), indexing="ij")
        d = pd.DataFrame({c.name: [s[i] for i in g.ravel()] for c, s, g in zip(columns, sets, grid, strict=True)})
    else:
        u = torch.quasirandom.SobolEngine(len(columns), scramble=True, seed=seed).draw(n).double().numpy()
        each = enumerate(zip(columns, sets, strict=True))
        d = pd.DataFrame({c.name: _draw(c, table[c.name], s, u[:, k]) for k, (c, s) in each})
    if "laboratory" in table:
        d["laboratory"] = table["laboratory"].iloc[-1]
    return d.drop_duplicates().reset_index(drop=True)


def spread_recipes(
    encoder: Encoder,  # Fitted to the recipes
    d: pd.DataFrame,  # Recipes that could be made
    n: int,  # How many
    seed: int = 0,  # Of the first
) -> list[int]:  # Rows
    "A first one at random, then each time the one that leaves least variance over all recipes (Eq. 6.3)."
    with torch.no_grad():
        k = _recipe_kernel(encoder)(encoder(d)).to_dense().numpy()
    noise = np.exp(-5.0)  # Of a membrane, small beside what recipes differ by: a start does not repeat itself
    chosen = [int(np.random.default_rng(seed).integers(len(d)))]
    while len(chosen) < n:
        made = k[np.ix_(chosen, chosen)] + noise * np.eye(len(chosen))
        left = k - k[:, chosen] @ np.linalg.solve(made, k[chosen])
        gain = (left**2).sum(0) / (np.diag(left) + noise)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return chosen


def check_films(
    schema: Schema,  # Columns of the recipes
    table: pd.DataFrame,  # Membranes made
    pool: pd.DataFrame,  # Recipes to choose from
) -> None:
    "Monomers that no membrane of the table was made of must be able to make a film."
    for c in (k for k in schema.columns if k.kind == "monomer"):
        role = check_acyl if "acyl" in c.name.lower() else check_amine if "amine" in c.name.lower() else None
        for s in set(pool[c.name]) - set(table[c.name]) - {"", *NONE} if role else ():
            role(s, what=f"column {c.name!r}")


def _bounded(c: Column, schema: Schema, bounds: dict) -> Column:
    for name, value in bounds.items():
        if schema.column(name) is c:
            return _with_bounds(c, value)
    return c


def _with_bounds(c: Column, value) -> Column:
    "A column with bounds (two numbers) or levels (a list)."
    if isinstance(value, tuple) and len(value) == 2 and c.kind == "number":
        low, high = map(float, value)
        if not low <= high:
            raise InputError(f"bounds of {c.name}: {low:g} is above {high:g}; write the smaller first")
        return replace(c, low=low, high=high)
    return replace(c, levels=tuple(value if isinstance(value, list | tuple) else [value]))


def _levels(c: Column, table: pd.DataFrame) -> list[str] | None:
    "Values to choose from, as text; None: any between the bounds."
    if c.levels:
        return [f"{v:g}" if isinstance(v, int | float) else str(v) for v in c.levels]
    used = [v for v in pd.unique(table[c.name]) if v]
    if c.kind != "number":
        return used
    values = np.array([_number(v) for v in used])
    inside = (values >= (-np.inf if c.low is None else c.low)) & (values <= (np.inf if c.high is None else c.high))
    stretched = (c.low is not None and c.low < values.min()) or (c.high is not None and c.high > values.max())
    few = len(values) <= max(6, len(table) // 6) and not stretched
    return [v for v, ok in zip(used, inside, strict=True) if ok] if few and inside.any() else None


def _draw(c: Column, made: pd.Series, levels: list[str] | None, u: np.ndarray) -> list[str]:
    "Values of a column at quantiles, among its levels or between its bounds."
    if levels is not None:
        return [levels[i] for i in np.minimum((u * len(levels)).astype(int), len(levels) - 1)]
    values = np.array([_number(v) for v in made])
    low = np.nanmin(values) if c.low is None else c.low
    high = np.nanmax(values) if c.high is None else c.high
    v = np.exp(np.log(low) + u * np.log(high / low)) if c.scale == "log" and low > 0 else low + u * (high - low)
    return [f"{x:.2g}" for x in v]

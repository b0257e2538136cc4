"""Recipes as numbers that a process can compare"""

import numpy as np
import pandas as pd
import torch

from ion_ode.prequalify.monomers import alike
from ion_ode.prequalify.schema import Schema
from ion_ode.prequalify.table_headers import NONE, _number

_SCALES = {
    "linear": lambda v, unit: v,
    "log": lambda v, unit: np.log(np.maximum(v, 1e-3 * unit)),
    "log1p": lambda v, unit: np.log1p(np.maximum(v, 0) / unit),
}  # `unit` is the smallest positive value measured


class Encoder:
    "Recipes as rows of numbers between 0 and 1, then codes of categories, monomers and laboratories."

    def __init__(self, schema: Schema, state: dict | None = None):
        self.schema, self.state = schema, state or {}
        pick = lambda kind: [c for c in schema.columns if c.kind == kind]
        self.numbers, self.categories, self.monomers = pick("number"), pick("category"), pick("monomer")

    def fit(self, d: pd.DataFrame) -> "Encoder":
        "Remember ranges, categories and monomers of the measured recipes."
        raw = {c.name: np.array([_number(v) for v in d[c.name]]) for c in self.numbers}
        positive = {k: v[v > 0] for k, v in raw.items()}
        self.state = {"unit": {k: float(v.min()) if len(v) else 1.0 for k, v in positive.items()}}
        self.state["codes"] = {c.name: sorted(set(d[c.name])) for c in (*self.categories, *self.monomers)}
        self.state["laboratories"] = sorted(set(d["laboratory"])) if "laboratory" in d else []
        x = self._amounts(d)
        self.state["low"] = [float(v) for v in np.nanmin(x, 0)] if len(self.names) else []
        self.state["high"] = [float(v) for v in np.nanmax(x, 0)] if len(self.names) else []
        self.state["blank"] = [bool(np.isnan(v).any()) for v in x.T]
        return self

    @property
    def names(self) -> list[str]:
        "Numbers of the encoding: the columns, and the ratio of the monomers if there is one."
        return [c.name for c in self.numbers] + ([" : ".join(self.schema.ratio)] if self.schema.ratio else [])

    def _amounts(self, d: pd.DataFrame) -> np.ndarray:
        raw = {c.name: np.array([_number(v) for v in d[c.name]], float) for c in self.numbers}
        unit = self.state["unit"]
        out = [_SCALES[c.scale](raw[c.name], unit[c.name]) for c in self.numbers]
        if self.schema.ratio:
            a, b = (np.maximum(raw[k], 1e-3 * unit[k]) for k in self.schema.ratio)
            out.append(np.log(a / b))
        return np.stack(out, 1) if out else np.zeros((len(d), 0))

    def __call__(self, d: pd.DataFrame) -> torch.Tensor:  # (n, feature)
        "Encode; a number that is not stated sits in the middle with its flag raised."
        s = self.state
        low, high = np.array(s["low"]), np.array(s["high"])
        x = (self._amounts(d) - low) / np.where(high > low, high - low, 1.0)
        blank = np.array(s["blank"], bool)
        parts = [np.nan_to_num(x, nan=0.5), np.isnan(x[:, blank]).astype(float)]
        for c in self.categories:
            codes = s["codes"][c.name]
            parts.append(np.array([[codes.index(v) if v in codes else len(codes)] for v in d[c.name]], float))
        for c in self.monomers:
            codes = s["codes"][c.name]
            codes += sorted(set(d[c.name]) - set(codes))
            parts.append(np.array([[codes.index(v)] for v in d[c.name]], float))
        labs = s["laboratories"]
        if len(labs) > 1:
            which = d["laboratory"] if "laboratory" in d else ["?"] * len(d)
            parts.append(np.array([[labs.index(v) if v in labs else len(labs)] for v in which], float))
        return torch.tensor(np.hstack(parts))

    def likeness(self, name: str) -> torch.Tensor:  # (monomer, monomer)
        "Of all monomers of a column seen so far."
        said = [v if v.lower() not in NONE else "" for v in self.state["codes"][name]]
        return torch.tensor(alike(said, said))

    @property
    def width(self) -> tuple[int, int]:  # Numbers with their flags; categories
        return len(self.names) + sum(self.state["blank"]), len(self.categories)

    def outside(self, d: pd.DataFrame) -> list[str]:
        "For each recipe, which numbers lie beyond the measured ones, '' if none."
        out = []
        x = self._amounts(d)
        for row, v in zip(x, d.to_dict("records"), strict=True):
            far = [
                k
                for k, c in enumerate(self.numbers)
                if np.isfinite(row[k]) and not self.state["low"][k] - 1e-9 <= row[k] <= self.state["high"][k] + 1e-9
            ]
            out.append(
                ", ".join(f"{self.numbers[k].name} {v[self.numbers[k].name]} beyond the measured range" for k in far)
            )
        return out

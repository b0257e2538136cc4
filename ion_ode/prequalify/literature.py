"""Membranes of 100 papers as one table of recipes, and what it can say about a recipe that nobody has published"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from ion_ode.guard import sealed, unsealed
from ion_ode.prequalify.encoder import Encoder
from ion_ode.prequalify.literature_rows import RECIPE, literature
from ion_ode.prequalify.process import Process
from ion_ode.prequalify.weighting import weighted_quantile
from ion_ode.prequalify.salts import _SALT_NUMBERS, MIXTURES, _salt_likeness, _salt_numbers
from ion_ode.prequalify.schema import Schema
from ion_ode.prequalify.tables import read_table
from ion_ode.store import asset, atomic_write, digest, provenance
from ion_ode.water.salts import SALTS

FORMAT = "ion_ode screen 1"
LEAST = 20  # Rows of a salt, from which its interval is calibrated on it alone
_SPELLINGS = {
    "amine": ("amine 1 smiles", "amine 1", "amine", "aqueous monomer"),
    "amine [wt%]": ("amine 1 wt pct", "amine [wt%]"),
    "acyl chloride": ("acyl smiles", "acyl chloride", "acyl", "organic monomer"),
    "acyl chloride [wt%]": ("acyl wt pct", "acyl chloride [wt%]"),
    "third monomer": ("third monomer", "amine 2 smiles"),
    "support": ("support",),
    "pressure [bar]": ("pressure bar", "pressure [bar]"),
    "salt": ("salt", "salts"),
    "film": ("film", "film class"),
    "laboratory": ("laboratory", "paper", "paper group"),
    "name": ("name", "membrane", "membrane id"),
    "permeance": ("permeance lmh bar", "permeance [lmh/bar]", "permeance"),
    "rejection": ("rejection",),
}


# ---- salts


# ---- table


def _with_salt(d: pd.DataFrame) -> pd.DataFrame:
    "The numbers of the salt as columns."
    numbers = {s: _salt_numbers(s) for s in set(d["salt"])}
    return d.join(pd.DataFrame([numbers[s] for s in d["salt"]], columns=list(_SALT_NUMBERS), index=d.index))


# ---- model


class Screen:
    "Permeance and passage of any salt from a recipe, learned from papers."

    def fit(
        self,
        table: pd.DataFrame | None = None,  # As `literature`; None: that
        state: dict | None = None,  # What `save` kept; None: search the kernels and leave papers out
        seed: int = 0,
    ) -> "Screen":
        "Two processes, and the errors that they make on papers left out."
        d = literature() if table is None else table
        self.seed, self.known = seed, d
        self.parts, self.ratios, self.salts, self.schemas = {}, {}, {}, {}
        for part in ("permeance", "passage"):
            rows, y = part_rows(d, part)
            text = rows[["laboratory", *RECIPE, *(_SALT_NUMBERS if part == "passage" else ())]]
            known = None if state is None else Schema.from_dict(state[part]["schema"])
            read, schema = read_table(text.assign(permeance=1.0), schema=known)
            p = Process(Encoder(schema).fit(read)).fit(read, y, state=state and state[part]["kernel"])
            if state is None:
                mean, spread = p.fit_out(read, rows["laboratory"].to_numpy(), seed=seed)
                self.ratios[part] = np.abs(y - mean) / spread
                kept = rows[["name", "laboratory", "salt"]].assign(y=y, p=mean, spread=spread)
                self.left_out = getattr(self, "left_out", {}) | {part: kept}
            else:
                self.ratios[part] = np.array(state[part]["ratios"])
            self.parts[part], self.schemas[part], self.salts[part] = p, schema, rows["salt"].to_numpy()
        self.correlation = _error_correlation(self.left_out) if state is None else state["correlation"]
        return self

    def save(self, path: str | Path) -> Path:
        "Kernels and left-out errors; the measurements are the package's own tables."
        record = {
            "format": FORMAT,
            "correlation": self.correlation,
            "table": digest(self.known.to_csv(index=False).encode()),
        }
        for part, p in self.parts.items():
            ratios = [float(f"{r:.5g}") for r in self.ratios[part]]
            record[part] = {"schema": self.schemas[part].to_dict(), "kernel": p.state, "ratios": ratios}
        atomic_write(path, sealed(record | {"provenance": provenance(self.seed)}, 1))
        return Path(path)

    def half_width(self, part: str, salt: str | None, level: float) -> float:  # Times the spread
        "Conformal half width: of the salt alone where it has rows enough, else of the salts alike (Eq. 6.6, 6.7)."
        ratio = self.ratios[part]
        if part == "permeance":
            return weighted_quantile(ratio, level)
        own = self.salts[part] == salt
        if own.sum() >= LEAST:
            return weighted_quantile(ratio[own], level)
        alike_ = {s: _salt_likeness(salt, s) for s in set(self.salts[part])}
        weight = np.array([max(alike_[s], 0.05) for s in self.salts[part]])
        return weighted_quantile(ratio, level, weight)

    def predict(self, d: pd.DataFrame, level: float = 0.9) -> pd.DataFrame:  # value, lower, upper, mean, spread by row
        "Permeance, and rejection of the salt of each row."
        out = pd.DataFrame({"name": d["name"], "salt": d["salt"]})
        for part in ("permeance", "passage"):
            read, _ = read_table(
                _with_salt(d).assign(permeance=1.0)[["name", *RECIPE, *_SALT_NUMBERS]], schema=self.schemas[part]
            )
            mean, spread = self.parts[part].predict(read)
            half = spread * [self.half_width(part, s, level) for s in d["salt"]]
            back = np.exp if part == "permeance" else lambda v: -np.expm1(v)
            ends = np.sort([back(mean - half), back(mean + half)], axis=0)
            word = "permeance" if part == "permeance" else "rejection"
            out[word], out[f"{word} lower"], out[f"{word} upper"] = back(mean), *ends
            out[f"ln {part}"], out[f"sd {part}"] = mean, half / norm.ppf(0.5 + level / 2)
        return out

    def beyond(self, d: pd.DataFrame) -> list[str]:
        "Which amounts or pressures lie beyond every measured one, '' if none."
        read, _ = read_table(
            _with_salt(d).assign(permeance=1.0)[["name", *RECIPE, *_SALT_NUMBERS]], schema=self.schemas["passage"]
        )
        return self.parts["passage"].encoder.outside(read)

    def chance(self, g: pd.DataFrame, permeance: float | None, rejection: float | None) -> float:
        "That one membrane reaches every target, its errors correlated as they were on papers left out."
        y = self.parts["permeance"].y
        goals = [np.log(permeance) if permeance else np.median(y)]
        passage, salts = self.parts["passage"].y, self.salts["passage"]
        for s in g["salt"]:
            own = passage[salts == s] if (salts == s).any() else passage
            goals.append(np.median(own) if rejection is None else np.log1p(-rejection))
        mean = np.array([g["ln permeance"].iloc[0], *g["ln passage"]])
        sd = np.array([g["sd permeance"].iloc[0], *g["sd passage"]])
        c = np.full((len(mean), len(mean)), self.correlation["passage, passage"])
        c[0], c[:, 0] = self.correlation["permeance, passage"], self.correlation["permeance, passage"]
        np.fill_diagonal(c, 1.0)
        sign = np.array([1.0, *-np.ones(len(g))])  # more permeance, less passage
        low = sign * (np.array(goals) - mean) / sd
        flipped = c * np.outer(sign, sign)
        values, vectors = np.linalg.eigh(flipped)
        root = vectors * np.sqrt(np.maximum(values, 0))
        draws = np.random.default_rng(0).normal(size=(20_000, len(mean))) @ root.T
        return float((draws >= low).all(1).mean())


def _error_correlation(left_out: dict[str, pd.DataFrame]) -> dict[str, float]:
    "Of the scaled errors on papers left out: permeance with passage, and two salts of one membrane."
    z = {k: d.assign(z=(d.y - d.p) / d.spread) for k, d in left_out.items()}
    at = ["laboratory", "name"]
    both = z["passage"].merge(z["permeance"][[*at, "z"]], on=at, suffixes=("", "_a"))
    pairs = z["passage"].merge(z["passage"], on=at)
    pairs = pairs[pairs.salt_x < pairs.salt_y]
    r = lambda a, b: round(float(np.corrcoef(a, b)[0, 1]), 3)
    return {"permeance, passage": r(both.z, both.z_a), "passage, passage": r(pairs.z_x, pairs.z_y)}


def part_rows(d: pd.DataFrame, part: str) -> tuple[pd.DataFrame, np.ndarray]:
    "Rows and logarithms that a part is learned from: a membrane counts once for its permeance."
    if part == "permeance":
        d = d[d.permeance.notna()].drop_duplicates(["laboratory", "name"])
        return d.reset_index(drop=True), np.log(d.permeance.to_numpy())
    d = _with_salt(d[d.rejection.notna() & d.salt.isin([*SALTS, *MIXTURES])]).reset_index(drop=True)
    return d, np.log1p(-d.rejection.to_numpy())


@lru_cache(maxsize=1)
def shipped_screen() -> Screen:
    "The fitted model of the package: kernels are read, nothing is searched."
    return Screen().fit(state=unsealed(asset("prequalify/screen.json"), "a fitted screen"))

"""Which membrane to make next: a laboratory's own recipes in, a batch worth its week out"""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm

from ion_ode.core import InputError, need
from ion_ode.guard import sealed, unsealed
from ion_ode.prequalify.candidates import check_films, possible_recipes, spread_recipes
from ion_ode.prequalify.choice import choose, explain_batch
from ion_ode.prequalify.encoder import Encoder
from ion_ode.prequalify.process import Process, fit_quantities, predict_out
from ion_ode.prequalify.weighting import weighted_quantile
from ion_ode.prequalify.quantities import (
    average_replicates,
    default_objectives,
    measured,
    modelled,
    read_objective,
)
from ion_ode.prequalify.schema import Column, Schema
from ion_ode.prequalify.table_headers import NONE, _number
from ion_ode.prequalify.tables import read_table
from ion_ode.store import atomic_write, digest, provenance

FORMAT = "ion_ode campaign 1"
LEAST = 5  # Membranes with a result before a process is fitted
_LEAST_BOUND = 9  # The ninth of ten: with fewer, no error of a membrane left out bounds 90 % of them (Eq. 6.6)


class Campaign:
    "Membranes made so far, what they teach, and what to make next."

    def __init__(
        self,
        schema: dict | Schema | None = None,  # What columns are, where the header does not say
        objectives=None,  # Texts as in `read_objective`; None: permeance and the widest selectivity
        seed: int = 0,  # Of draws and candidates
    ):
        self.declared, self.wanted, self.seed = schema, objectives, seed
        self.rows, self.pending, self.states = None, None, {}

    def fit(
        self,
        table,  # CSV file, open text, frame, or the name of a shipped table
        states: dict | None = None,  # Kernel numbers of an earlier fit; None: search
    ) -> "Campaign":
        "Learn from a table of recipes with results."
        d, schema = read_table(table, schema=self.declared)
        if not schema.measured:
            raise InputError(
                "the table has no measured column; name one permeance [LMH/bar], rejection NaCl [%] or alike"
            )
        if not schema.columns:
            raise InputError("no recipe column differs between the membranes; a campaign needs one that was varied")
        self.schema, self.rows = schema, d
        return self._learn(states)

    def add(
        self,
        results,  # Table with the same columns
    ) -> "Campaign":
        "New results in the same columns: everything is learned again, and what was pending is struck off."
        d, _ = read_table(results, schema=self.schema)
        if d[[m for m in self.schema.measured if m in d]].isna().all(axis=None):
            raise InputError(f"the new rows hold no result; expected one of {', '.join(self.schema.measured)}")
        text = lambda t: list(map(tuple, t.reindex(columns=d.columns).astype(str).to_numpy()))
        if set(text(d)) <= set(text(self.rows)):
            raise InputError(
                "every row of the new results is in the campaign already, digit by digit; leave them out, or, where "
                "they were measured once more, give them other names"
            )
        self.rows = pd.concat([self.rows, d], ignore_index=True)
        return self._learn(None, start=self.states)

    def _learn(self, states=None, start=None, ratios=None) -> "Campaign":
        self.table = average_replicates(self.rows, self.schema)
        self.encoder = Encoder(self.schema).fit(self.table)
        self.left_out, self.ratios, self.parts = [], dict(ratios or {}), {}
        for m in self.schema.measured:
            known = self.table[m].notna() & ((self.table[m] < 1) | (m == "permeance"))
            if known.sum() < LEAST:
                self.left_out.append(f"{m}: {known.sum()} values, {LEAST} are needed")
                continue
            d = self.table[known]
            self.parts[m] = d, modelled(d[m], m), d[f"variance {m}"].to_numpy()
        self.processes = self._processes(states or {}, start)
        self.residuals = self.left_out_errors(self.processes)
        if not self.processes:
            raise InputError(
                f"too few results to learn from ({'; '.join(self.left_out)}); measure more membranes first"
            )
        self.states = {m: p.state for m, p in self.processes.items()}
        self.aim(self.wanted or default_objectives(list(self.processes), self.table))
        if self.pending is not None:
            made = set(self._marks(self.table))
            self.pending = self.pending[[m not in made for m in self._marks(self.pending)]].reset_index(drop=True)
        return self

    def _processes(self, states: dict, start: dict | None) -> dict[str, Process]:
        "Of each quantity, as an earlier fit left it or searched together."
        if set(self.parts) <= set(states):
            return {m: Process(self.encoder).fit(*p, state=states[m]) for m, p in self.parts.items()}
        return fit_quantities(self.encoder, self.parts, start) if self.parts else {}

    def left_out_errors(self, processes: dict[str, Process]) -> dict[str, pd.Series]:
        "Errors over spreads of membranes left out one by one, by quantity."
        out = {m: (p.y, *p.leave_out()) for m, p in processes.items()}
        return {m: pd.Series((y - mean) / spread, self.parts[m][0].index) for m, (y, mean, spread) in out.items()}

    def aim(self, objectives) -> "Campaign":
        "What more of is wanted, texts as in `read_objective`."
        self.objectives = list(objectives)
        self.weights = [read_objective(o, list(self.processes)) for o in self.objectives]
        return self

    def half_width(self, m: str, level: float) -> float:  # Times the spread
        "Conformal half width of a quantity, from recipes left out in folds."
        if m not in self.ratios:
            out = predict_out(self.processes, self.parts, seed=self.seed)
            self.ratios = {k: np.abs(self.processes[k].y - mean) / spread for k, (mean, spread) in out.items()}
        return weighted_quantile(np.asarray(self.ratios[m]), level)

    def widening(self, m: str) -> float:
        "Calibrated over modelled spread of a quantity; 1 where membranes are too few to tell."
        wide = self.half_width(m, 0.9) / norm.ppf(0.95)
        return wide if np.isfinite(wide) else 1.0

    def as_made(self, processes: dict[str, Process] | None = None) -> pd.DataFrame:  # One row a membrane
        "Modelled quantities of the membranes made: measured less the noise of replicates, predicted where missing."
        processes = processes or self.processes
        found = pd.DataFrame({m: p.predict(self.table)[0] for m, p in processes.items()}, index=self.table.index)
        for m, p in processes.items():
            found.loc[self.parts[m][0].index, m] = p.as_made()
        return found

    def _marks(self, d: pd.DataFrame) -> list[tuple]:
        "What tells two recipes apart."
        return [
            tuple(_number(v) if c.kind == "number" else v for c, v in zip(self.schema.columns, row, strict=True))
            for row in d[[c.name for c in self.schema.columns]].to_numpy()
        ]

    def recipes(self, d) -> pd.DataFrame:  # name and recipe columns
        "Recipes to ask about: a table without results is enough."
        return read_table(d, schema=self.schema)[0]

    def correlation(self, names, errors: dict | None = None) -> np.ndarray:  # (m, m)
        "Of the leave-one-out errors of measured quantities, drawn a little towards none."
        r = pd.DataFrame({m: (errors or self.residuals)[m] for m in names})
        n = r.notna().astype(int)
        n = (n.T @ n).to_numpy()
        c = r.corr(min_periods=3).fillna(0.0).to_numpy() * n / (n + 5.0)
        np.fill_diagonal(c, 1.0)
        values, vectors = np.linalg.eigh(c)
        c = (vectors * np.maximum(values, 1e-3)) @ vectors.T
        return c / np.sqrt(np.outer(np.diag(c), np.diag(c)))

    def missed_by(self, names, errors: dict | None = None) -> np.ndarray:  # (m,)
        "Factors on the spreads in a choice: as large as the errors of membranes left out, larger where few say so."
        errors = [(errors or self.residuals)[m].dropna() for m in names]
        return np.array([max(1.0, (len(e) + 2) / max(len(e) - 2, 1) * np.sqrt((e**2).mean())) for e in errors])

    def predict(
        self,
        recipes,  # Table of recipes
        level: float = 0.9,  # Coverage of the intervals
    ) -> pd.DataFrame:  # name, and each quantity and objective with its interval
        "What recipes will give, with intervals calibrated on recipes left out."
        if not 0 < level < 1:
            raise InputError(f"level is {level}; expected a number between 0 and 1, for instance 0.9")
        return self._predict(self.recipes(recipes), level)

    def _predict(self, d: pd.DataFrame, level: float) -> pd.DataFrame:
        out = pd.DataFrame({"name": d["name"]})
        mean, spread = self.moments(d)
        for m in self.processes:
            half = self.half_width(m, level) * spread[m]
            ends = np.sort([measured(mean[m] - half, m), measured(mean[m] + half, m)], axis=0)
            out[m], out[f"{m} lower"], out[f"{m} upper"] = measured(mean[m].to_numpy(), m), *ends
        c = self.correlation(list(self.processes))
        for o, w in zip(self.objectives, self.weights, strict=True):
            if len(w) > 1:
                centre, half = self._objective(w, mean, spread, c)
                half = half * norm.ppf(0.5 + level / 2)
                if not all(np.isfinite(self.half_width(m, level)) for m in w):
                    half = np.full_like(half, np.inf)
                out[o], out[f"{o} lower"], out[f"{o} upper"] = (
                    np.exp(centre),
                    np.exp(centre - half),
                    np.exp(centre + half),
                )
        return out

    def moments(self, d: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        "Mean and spread of the modelled quantities of recipes, before any calibration."
        found = {m: p.predict(d) for m, p in self.processes.items()}
        mean = pd.DataFrame({m: v[0] for m, v in found.items()}, index=d.index)
        return mean, pd.DataFrame({m: v[1] for m, v in found.items()}, index=d.index)

    def _objective(self, w: dict, mean, spread, correlation) -> tuple[np.ndarray, np.ndarray]:
        "Mean and calibrated spread of an objective, errors correlated as they were in the leave-outs."
        names = list(self.processes)
        scaled = np.stack([w.get(m, 0.0) * spread[m] * self.widening(m) for m in names], 1)
        centre = sum(weight * mean[m] for m, weight in w.items())
        return centre.to_numpy(), np.sqrt(np.einsum("ni,ij,nj->n", scaled, correlation, scaled))

    def measured_objectives(self) -> pd.DataFrame:  # One row a membrane that has them all
        "Objectives of the membranes made, as measured, on their logarithms."
        d = {
            o: sum(weight * modelled(self.table[m], m) for m, weight in w.items())
            for o, w in zip(self.objectives, self.weights, strict=True)
        }
        return pd.DataFrame(d, index=self.table["name"]).dropna()

    def front(self) -> pd.DataFrame:
        "Membranes that no other beats in every objective."
        d = self.measured_objectives()
        best = need("botorch.utils.multi_objective.pareto", "campaign").is_non_dominated(torch.tensor(d.to_numpy()))
        return d[best.numpy()]

    def start(
        self,
        recipes,  # Table of recipes that could be made, without results; a schema's bounds where there is one
        n: int = LEAST,  # Membranes
    ) -> pd.DataFrame:  # name and recipe
        "What to make before anything is known: the recipes that tell most about all the others (Eq. 6.3)."
        d, schema = read_table(recipes, schema=self.declared)
        if not 1 <= n <= len(d):
            raise InputError(f"{n} membranes were asked for; expected 1 to the {len(d)} recipes of the table")
        encoder = Encoder(schema).fit(d)
        return d.iloc[spread_recipes(encoder, d, n, self.seed)].reset_index(drop=True)

    def suggest(
        self,
        n: int = 4,  # Membranes in the batch
        *,
        candidates=None,  # Recipes to choose from; None: levels and bounds of the columns
        bounds: dict | None = None,  # Column: (low, high) or list of allowed values
        costs: dict | None = None,  # Column: cost of a unit of it (a membrane itself costs 1)
        pending=None,  # Recipes under way, not yet measured
        remember: bool = True,  # Count the batch as pending from now on
        explain: bool = True,  # Predictions, chance and reason beside the recipes
    ) -> pd.DataFrame:  # One row a membrane: recipe, prediction, interval, chance, reason
        "The batch whose expected hypervolume is largest, one after the other (Eq. 6.2)."
        if not (isinstance(n, int) and 1 <= n <= 96):
            raise InputError(f"{n} membranes were asked for; expected 1 to 96")
        if pending is not None:
            self._wait(self.recipes(pending))
        pool = self._pool(candidates, bounds, n)
        cost = 1.0 + sum(
            np.array([self._amount(self.schema.column(k), v) for v in pool[self.schema.column(k).name]]) * c
            for k, c in (costs or {}).items()
        )
        chosen, gain = choose(self, pool, np.broadcast_to(cost, len(pool)), n)
        out = self._named(pool.iloc[chosen].reset_index(drop=True))
        recipe = list(out)
        if explain:
            out = out.join(self._predict(out, 0.9).drop(columns="name")).join(explain_batch(self, out))
        out["gain"] = np.exp(np.array(gain) - max(gain))
        if costs:
            out["cost"] = np.asarray(cost)[chosen] if np.ndim(cost) else cost
        if remember:
            self._wait(out[recipe])
        return out

    def _pool(self, candidates, bounds: dict | None, n: int) -> pd.DataFrame:
        "Recipes to choose from that are neither made nor pending."
        if candidates is None:
            pool = possible_recipes(self.schema, self.table, bounds, seed=self.seed)
        else:
            pool = self.recipes(candidates)
        check_films(self.schema, self.table, pool)
        taken = set(self._marks(self.table)) | (set(self._marks(self.pending)) if self.pending is not None else set())
        pool = pool[[m not in taken for m in self._marks(pool)]].reset_index(drop=True)
        if len(pool) < n:
            raise InputError(
                f"{len(pool)} recipes within the bounds were not made yet, {n} were asked for; widen the bounds"
            )
        return pool

    def _named(self, batch: pd.DataFrame) -> pd.DataFrame:  # name, laboratory where there is one, recipe
        "A batch with names, S01 onwards where it came without."
        if "name" not in batch:
            known = [*self.table["name"], *([] if self.pending is None else self.pending["name"])]
            numbers = [int(v[1:]) for v in known if v[:1] == "S" and v[1:].isdigit()]
            start = max(numbers, default=0) + 1
            batch.insert(0, "name", [f"S{start + i:02d}" for i in range(len(batch))])
        lab = ["laboratory"] if "laboratory" in batch else []
        return batch[["name", *lab, *(c.name for c in self.schema.columns)]]

    def _wait(self, d: pd.DataFrame):
        self.pending = d if self.pending is None else pd.concat([self.pending, d], ignore_index=True)

    def _amount(self, c: Column, v: str) -> float:
        if c.kind == "number":
            return float(np.nan_to_num(_number(v)))
        return 0.0 if v.lower() in ("", *NONE) else 1.0

    def used(self) -> pd.DataFrame:  # column, use, why
        "Which columns were used, which not, and why."
        rows = [
            (c.name, "used", f"{c.kind}{f', {c.scale} scale' if c.kind == 'number' else ''}")
            for c in self.schema.columns
        ]
        if self.schema.ratio:
            rows.append((" : ".join(self.schema.ratio), "used", "ratio of the two monomers, logarithm"))
        labs = len(self.encoder.state["laboratories"])
        if labs > 1:
            rows.append(("laboratory", "used", f"{labs} laboratories, each with its own offset"))
        few = lambda n: "" if n >= _LEAST_BOUND else f", an interval of 90 % needs {_LEAST_BOUND}"
        rows += [(m, "learned", f"{len(p.y)} membranes{few(len(p.y))}") for m, p in self.processes.items()]
        rows += [(m.split(":")[0], "not used", m.split(": ", 1)[1]) for m in self.left_out]
        return pd.DataFrame(
            [*rows, *((k, "not used", v) for k, v in self.schema.ignored.items())], columns=["column", "use", "why"]
        )

    def used_lines(self) -> list[str]:
        "Which columns were used, which not, and why, in sentences."
        return [f"{r.column}: {r.use}, {r.why}" for r in self.used().itertuples()]

    def save(self, path: str | Path) -> Path:  # JSON file
        "Everything a later session needs, in one file that a person can read."
        text = self.rows.to_csv(index=False)
        record = {
            "format": FORMAT,
            "seed": self.seed,
            "objectives": self.objectives,
            "schema": self.schema.to_dict(),
            "rows": text,
        }
        record["pending"] = None if self.pending is None else self.pending.to_csv(index=False)
        record |= {
            "states": self.states,
            "ratios": {m: list(map(float, r)) for m, r in self.ratios.items()},
            "provenance": provenance(self.seed, rows=len(self.rows), table=digest(text.encode())),
        }
        atomic_write(path, sealed(record, 1))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Campaign":
        "Read what `save` wrote; nothing is searched again."
        record = unsealed(path, "a campaign as Campaign.save writes it")
        if record.get("format") != FORMAT:
            raise InputError(f"{path} is no saved campaign: expected an entry format = {FORMAT!r}")
        try:
            return cls._of(record)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as e:
            if isinstance(e, InputError):
                raise
            raise InputError(f"{path} lacks a part of a campaign ({type(e).__name__}: {e}); make it again") from e

    @classmethod
    def _of(cls, record: dict) -> "Campaign":
        "The campaign of a record that `save` made."
        frame = lambda text: pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        self = cls(Schema.from_dict(record["schema"]), record["objectives"], record["seed"])
        self.schema, self.rows = self.declared, frame(record["rows"])
        numbers = [
            c
            for c in self.rows
            if c in self.schema.measured or c.removeprefix("sd ") in self.schema.measured or c == "replicates"
        ]
        for c in numbers:
            self.rows[c] = pd.to_numeric(self.rows[c])
        self.pending = None if record["pending"] is None else frame(record["pending"])
        return self._learn(record["states"], ratios=record["ratios"])

"""Which membrane to make next: a laboratory's own recipes in, a batch worth its week out"""

import io
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm

from ion_ode.core import InputError, need
from ion_ode.prequalify.monomers import check_acyl, check_amine, label
from ion_ode.prequalify.process import Encoder, Process, weighted_quantile
from ion_ode.store import atomic_write, digest, provenance
from ion_ode.prequalify.quantities import (
    average_replicates,
    default_objectives,
    measured,
    modelled,
    read_objective,
    reference_point,
)
from ion_ode.prequalify.tables import NONE, Column, Schema, _number, read_table

FORMAT = "ion_ode campaign 1"
LEAST = 8  # Membranes with a result before a process is fitted
_N_SAMPLES = 64  # Quasi-random draws behind an expected hypervolume


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
        self.rows = pd.concat([self.rows, d], ignore_index=True)
        return self._learn(None, start=self.states)

    def _learn(self, states=None, start=None, ratios=None) -> "Campaign":
        self.table = average_replicates(self.rows, self.schema)
        self.encoder = Encoder(self.schema).fit(self.table)
        self.processes, self.residuals, self.left_out, self.ratios = {}, {}, [], dict(ratios or {})
        for m in self.schema.measured:
            known = self.table[m].notna() & ((self.table[m] < 1) | (m == "permeance"))
            if known.sum() < LEAST:
                self.left_out.append(f"{m}: {known.sum()} values, {LEAST} are needed")
                continue
            d = self.table[known]
            one = lambda s, m=m: None if not s else s.get(m)
            p = Process(self.encoder).fit(d, modelled(d[m], m), d[f"variance {m}"], state=one(states), start=one(start))
            mean, spread = p.leave_out()
            self.processes[m], self.residuals[m] = p, pd.Series((p.y - mean) / spread, index=d.index)
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

    def aim(self, objectives) -> "Campaign":
        "What more of is wanted, texts as in `read_objective`."
        self.objectives = list(objectives)
        self.weights = [read_objective(o, list(self.processes)) for o in self.objectives]
        return self

    def half_width(self, m: str, level: float) -> float:  # Times the spread
        "Conformal half width of a quantity, from recipes left out in folds."
        if m not in self.ratios:
            p = self.processes[m]
            mean, spread = p.fit_out(self.table.loc[self.residuals[m].index], seed=self.seed)
            self.ratios[m] = np.abs(p.y - mean) / spread
        return weighted_quantile(np.asarray(self.ratios[m]), level)

    def _marks(self, d: pd.DataFrame) -> list[tuple]:
        "What tells two recipes apart."
        return [
            tuple(_number(v) if c.kind == "number" else v for c, v in zip(self.schema.columns, row, strict=True))
            for row in d[[c.name for c in self.schema.columns]].to_numpy()
        ]

    def recipes(self, d) -> pd.DataFrame:  # name and recipe columns
        "Recipes to ask about: a table without results is enough."
        return read_table(d, schema=self.schema)[0]

    def correlation(self, names) -> np.ndarray:  # (m, m)
        "Of the leave-one-out errors of measured quantities, drawn a little towards none."
        r = pd.DataFrame({m: self.residuals[m] for m in names})
        n = r.notna().astype(int)
        n = (n.T @ n).to_numpy()
        c = r.corr(min_periods=3).fillna(0.0).to_numpy() * n / (n + 5.0)
        np.fill_diagonal(c, 1.0)
        values, vectors = np.linalg.eigh(c)
        c = (vectors * np.maximum(values, 1e-3)) @ vectors.T
        return c / np.sqrt(np.outer(np.diag(c), np.diag(c)))

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
        mean, spread = self._moments(d)
        for m in self.processes:
            half = self.half_width(m, level) * spread[m]
            ends = np.sort([measured(mean[m] - half, m), measured(mean[m] + half, m)], axis=0)
            out[m], out[f"{m} lower"], out[f"{m} upper"] = measured(mean[m].to_numpy(), m), *ends
        c = self.correlation(list(self.processes))
        for o, w in zip(self.objectives, self.weights, strict=True):
            if len(w) > 1:
                centre, half = self._objective(w, mean, spread, c)
                half = half * norm.ppf(0.5 + level / 2)
                out[o], out[f"{o} lower"], out[f"{o} upper"] = (
                    np.exp(centre),
                    np.exp(centre - half),
                    np.exp(centre + half),
                )
        return out

    def _moments(self, d):
        found = {m: p.predict(d) for m, p in self.processes.items()}
        mean = pd.DataFrame({m: v[0] for m, v in found.items()}, index=d.index)
        return mean, pd.DataFrame({m: v[1] for m, v in found.items()}, index=d.index)

    def _objective(self, w: dict, mean, spread, correlation) -> tuple[np.ndarray, np.ndarray]:
        "Mean and calibrated spread of an objective, errors correlated as they were in the leave-outs."
        names = list(self.processes)
        widen = {m: self.half_width(m, 0.9) / norm.ppf(0.95) for m in names}
        scaled = np.stack([w.get(m, 0.0) * spread[m] * widen[m] for m in names], 1)
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

    def candidates(self, bounds: dict | None = None, n: int = 2048) -> pd.DataFrame:
        "Recipes that could be made: the levels that were used, or any value between the bounds."
        columns = [self._bounded(c, bounds or {}) for c in self.schema.columns]
        sets = [self._levels(c) for c in columns]
        sizes = [len(s) for s in sets if s is not None]
        if len(sizes) == len(sets) and np.prod(sizes) <= 4 * n:
            grid = np.meshgrid(*(np.arange(k) for k in sizes), indexing="ij")
            d = pd.DataFrame({c.name: [s[i] for i in g.ravel()] for c, s, g in zip(columns, sets, grid, strict=True)})
        else:
            u = torch.quasirandom.SobolEngine(len(columns), scramble=True, seed=self.seed).draw(n).double().numpy()
            d = pd.DataFrame(
                {c.name: self._draw(c, s, u[:, k]) for k, (c, s) in enumerate(zip(columns, sets, strict=True))}
            )
        if "laboratory" in self.table:
            d["laboratory"] = self.table["laboratory"].iloc[-1]
        return d.drop_duplicates().reset_index(drop=True)

    def _bounded(self, c: Column, bounds: dict) -> Column:
        for name, value in bounds.items():
            if self.schema.column(name) is c:
                return _with_bounds(c, value)
        return c

    def _levels(self, c: Column):
        "Values to choose from, as text; None: any between the bounds."
        if c.levels:
            return [f"{v:g}" if isinstance(v, int | float) else str(v) for v in c.levels]
        used = [v for v in pd.unique(self.table[c.name]) if v]
        if c.kind != "number":
            return used
        values = np.array([_number(v) for v in used])
        inside = (values >= (-np.inf if c.low is None else c.low)) & (values <= (np.inf if c.high is None else c.high))
        stretched = (c.low is not None and c.low < values.min()) or (c.high is not None and c.high > values.max())
        few = len(values) <= max(6, len(self.table) // 6) and not stretched
        return [v for v, ok in zip(used, inside, strict=True) if ok] if few and inside.any() else None

    def _draw(self, c: Column, levels, u: np.ndarray) -> list[str]:
        if levels is not None:
            return [levels[i] for i in np.minimum((u * len(levels)).astype(int), len(levels) - 1)]
        values = np.array([_number(v) for v in self.table[c.name]])
        low = np.nanmin(values) if c.low is None else c.low
        high = np.nanmax(values) if c.high is None else c.high
        v = np.exp(np.log(low) + u * np.log(high / low)) if c.scale == "log" and low > 0 else low + u * (high - low)
        return [f"{x:.2g}" for x in v]

    def _gate(self, d: pd.DataFrame):
        "Monomers that no membrane of the table was made of must be able to make a film."
        for c in (k for k in self.schema.columns if k.kind == "monomer"):
            role = check_acyl if "acyl" in c.name.lower() else check_amine if "amine" in c.name.lower() else None
            for s in set(d[c.name]) - set(self.table[c.name]) - {"", *NONE} if role else ():
                role(s, what=f"column {c.name!r}")

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
        "The batch whose expected hypervolume is largest, one after the other (Eq. C.2)."
        if not (isinstance(n, int) and 1 <= n <= 96):
            raise InputError(f"{n} membranes were asked for; expected 1 to 96")
        if pending is not None:
            self._wait(self.recipes(pending))
        pool = self.candidates(bounds) if candidates is None else self.recipes(candidates)
        self._gate(pool)
        taken = set(self._marks(self.table)) | (set(self._marks(self.pending)) if self.pending is not None else set())
        pool = pool[[m not in taken for m in self._marks(pool)]].reset_index(drop=True)
        if len(pool) < n:
            raise InputError(
                f"{len(pool)} recipes within the bounds were not made yet, {n} were asked for; widen the bounds"
            )
        price = 1.0 + sum(
            np.array([self._amount(self.schema.column(k), v) for v in pool[self.schema.column(k).name]]) * c
            for k, c in (costs or {}).items()
        )
        chosen, gain = self._choose(pool, np.broadcast_to(price, len(pool)), n)
        recipe = [*(["laboratory"] if "laboratory" in pool else []), *(c.name for c in self.schema.columns)]
        out = pool.iloc[chosen][[*(["name"] if "name" in pool else []), *recipe]].reset_index(drop=True)
        if "name" not in out:
            numbers = [int(v[1:]) for v in self._names() if v[:1] == "S" and v[1:].isdigit()]
            out.insert(0, "name", [f"S{max(numbers, default=0) + i + 1:02d}" for i in range(n)])
        if explain:
            out = out.join(self._predict(out, 0.9).drop(columns="name")).join(self.explain(out))
        out["gain"] = np.exp(np.array(gain) - max(gain))
        if costs:
            out["cost"] = np.asarray(price)[chosen] if np.ndim(price) else price
        if remember:
            self._wait(out[["name", *recipe]])
        return out

    def _names(self) -> list[str]:
        return [*self.table["name"], *([] if self.pending is None else self.pending["name"])]

    def _wait(self, d: pd.DataFrame):
        self.pending = d if self.pending is None else pd.concat([self.pending, d], ignore_index=True)

    def _amount(self, c: Column, v: str) -> float:
        if c.kind == "number":
            return float(np.nan_to_num(_number(v)))
        return 0.0 if v.lower() in ("", *NONE) else 1.0

    def _choose(self, pool: pd.DataFrame, price: np.ndarray, n: int) -> tuple[list[int], list[float]]:
        "Greedy batch; each next one counts the earlier and the pending as under way."
        acquisition = self._acquisition()
        x = self.encoder(pool)
        waiting = [] if self.pending is None or self.pending.empty else [self.encoder(self.pending)]
        chosen, gain = [], []
        for _ in range(n):
            under_way = [*waiting, *([x[chosen]] if chosen else [])]
            acquisition.set_X_pending(torch.cat(under_way) if under_way else None)
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # jitter on a diagonal
                value = torch.cat([acquisition(part[:, None]) for part in x.split(256)]).numpy() - np.log(price)
            value[chosen] = -np.inf
            chosen.append(int(value.argmax()))
            gain.append(float(value.max()))
        return chosen, gain

    def _acquisition(self):
        "Expected hypervolume of BoTorch over the processes of the objectives."
        acq = need("botorch.acquisition.multi_objective.logei", "campaign")
        names = sorted({m for w in self.weights for m in w})
        processes = [self.processes[m] for m in names]
        weights = torch.tensor(
            [[w.get(m, 0.0) * self.processes[m].sd for m in names] for w in self.weights], dtype=torch.float64
        )
        shift = torch.tensor(
            [sum(v * self.processes[m].mean for m, v in w.items()) for w in self.weights], dtype=torch.float64
        )
        made = pd.concat([self._moments(self.table)[0][m] for m in names], axis=1)
        front = torch.stack([torch.tensor(sum(made[m] * v for m, v in w.items()).to_numpy()) for w in self.weights], 1)
        reference = torch.tensor(reference_point(front.numpy(), self.weights))
        boxes = need("botorch.utils.multi_objective.box_decompositions", "campaign").FastNondominatedPartitioning(
            reference, front
        )
        objective = need("botorch.acquisition.multi_objective.objective", "campaign").GenericMCMultiOutputObjective(
            lambda s, X=None: s @ weights.T + shift
        )
        models = need("botorch.models", "campaign").ModelListGP(*(p.model for p in processes))
        sampler = _correlated_sampler(self.correlation(names), self.seed)
        return acq.qLogExpectedHypervolumeImprovement(models, reference, boxes, sampler=sampler, objective=objective)

    def explain(self, d: pd.DataFrame) -> pd.DataFrame:  # chance, nearest, reason
        "Chance to lie beyond the front, the nearest membrane made, and a reason in words."
        front, c = self.front(), self.correlation(list(self.processes))
        mean, spread = self._moments(d)
        z = np.random.default_rng(self.seed).multivariate_normal(np.zeros(len(c)), c, 2000)
        widen = np.array([self.half_width(m, 0.9) / norm.ppf(0.95) for m in self.processes])
        names, rows = list(self.processes), []
        seen = self.encoder(self.table).numpy()[:, : len(self.encoder.names)]
        here = self.encoder(d).numpy()[:, : len(self.encoder.names)]
        for i in range(len(d)):
            draw = mean.iloc[i].to_numpy() + spread.iloc[i].to_numpy() * widen * z
            point = np.stack([sum(v * draw[:, names.index(m)] for m, v in w.items()) for w in self.weights], 1)
            centre = np.array([sum(v * mean[m].iloc[i] for m, v in w.items()) for w in self.weights])
            beaten = lambda p: (front.to_numpy()[None] >= p[:, None]).all(-1).any(-1)
            away = np.linalg.norm(seen - here[i], axis=1) if here.shape[1] else np.zeros(len(seen))
            near = self.table.iloc[int(away.argmin())]
            said = lambda v: label(v) if v else "not stated"
            changes = [
                f"{b} {said(near[b])} -> {said(d[b].iloc[i])}"
                for b in (k.name for k in self.schema.columns)
                if near[b] != d[b].iloc[i]
            ]
            if not beaten(centre[None])[0]:
                over = self.objectives[int((centre - front.mean().to_numpy()).argmax())]
                why = f"expected beyond the front, by {over} most"
            else:
                wide = max(
                    (m for w in self.weights for m in w),
                    key=lambda m: spread[m].iloc[i] / max(self.processes[m].sd, 1e-9),
                )
                why = f"uncertain: {wide} is known to a factor of {np.exp(spread[wide].iloc[i]):.1f} only"
            rows.append((np.mean(~beaten(point)), near["name"], f"{why}; as {near['name']} with {', '.join(changes)}"))
        return pd.DataFrame(rows, columns=["chance", "nearest", "reason"], index=d.index)

    def used(self) -> pd.DataFrame:  # column, use, why
        "Which columns were used, which not, and why."
        rows = [
            (c.name, "used", f"{c.kind}{f', {c.scale} scale' if c.kind == 'number' else ''}")
            for c in self.schema.columns
        ]
        rows += (
            [(" : ".join(self.schema.ratio), "used", "ratio of the two monomers, logarithm")]
            if self.schema.ratio
            else []
        )
        labs = len(self.encoder.state["laboratories"])
        if labs > 1:
            rows.append(
                (
                    "laboratory",
                    "used",
                    f"{len(self.encoder.state['laboratories'])} laboratories, each with its own offset",
                )
            )
        rows += [(m, "learned", f"{len(p.y)} membranes") for m, p in self.processes.items()]
        rows += [(m.split(":")[0], "not used", m.split(": ", 1)[1]) for m in self.left_out]
        return pd.DataFrame(
            [*rows, *((k, "not used", v) for k, v in self.schema.ignored.items())], columns=["column", "use", "why"]
        )

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
        atomic_write(path, json.dumps(record, indent=1) + "\n")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Campaign":
        "Read what `save` wrote; nothing is searched again."
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"there is no file {path}; `Campaign.save` writes one") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as e:
            raise InputError(f"{path} cannot be read as a saved campaign ({e}); save it again") from None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise InputError(f"{path} is no saved campaign: expected an entry format = {FORMAT!r}")
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


def _with_bounds(c: Column, value) -> Column:
    "A column with bounds (two numbers) or levels (a list)."
    from dataclasses import replace

    if isinstance(value, tuple) and len(value) == 2 and c.kind == "number":
        low, high = map(float, value)
        if not low <= high:
            raise InputError(f"bounds of {c.name}: {low:g} is above {high:g}; write the smaller first")
        return replace(c, low=low, high=high)
    return replace(c, levels=tuple(value if isinstance(value, list | tuple) else [value]))


def _correlated_sampler(correlation: np.ndarray, seed: int):
    "Quasi-random normal draws whose outputs are correlated as the errors were."
    Sobol = need("botorch.sampling.normal", "campaign").SobolQMCNormalSampler

    class Correlated(Sobol):
        def _construct_base_samples(self, posterior):
            super()._construct_base_samples(posterior)
            root = torch.linalg.cholesky(torch.tensor(correlation)).to(self.base_samples)
            self.base_samples = self.base_samples @ root.T

    return Correlated(torch.Size([_N_SAMPLES]), seed=seed)

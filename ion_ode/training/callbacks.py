"""Leaving out, clipping, freezing, averaging, stopping, logging, saving: one small class each"""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
import pandas as pd
import torch
from safetensors.torch import save as pack_tensors
from torch import Tensor
from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.core import ConvergenceError
from ion_ode.store import atomic_write, clear_checkpoints, provenance, read_checkpoint, write_checkpoint

__all__ = [
    "TrainingError",
    "per_member",
    "Run",
    "Callback",
    "Finite",
    "ClipAndFreeze",
    "Average",
    "EarlyStop",
    "Log",
    "Checkpoint",
]


class TrainingError(ConvergenceError):
    "Training cannot go on; the message names the step and the saved batch."


def per_member(
    values: Tensor,  # (member,)
    like: Tensor,  # (member, ...)
) -> Tensor:  # (member, 1, ...)
    "One value a member, shaped to meet a stacked tensor."
    return values.view(-1, *[1] * (like.ndim - 1))


@dataclass
class Run:
    "One optimisation under way."

    ensemble: Ensemble  # Networks; their weights change in place
    moving: dict[str, Tensor]  # Tensors of which some member may move
    opt: torch.optim.Optimizer | None  # None where nothing moves
    steps: int  # Steps in all
    done: int = 0  # Steps taken
    rate: float = 0.0  # Learning rate of the last step
    data: dict = field(default_factory=dict)  # Batch of the step
    value: Tensor | None = None  # (member,) loss
    norm: Tensor | None = None  # (member,) norm of the gradient
    alive: Tensor | None = None  # (member,) bool
    good: Tensor | None = None  # (member,) bool

    def put(
        self,
        weights: dict[str, Tensor],  # name -> stacked weights
    ) -> None:
        "Overwrite moving tensors; other names are passed over."
        with torch.no_grad():
            for k in self.moving.keys() & weights.keys():
                self.ensemble.params[k].copy_(weights[k])

    def copied(self) -> dict[str, Tensor]:
        "The moving tensors as they are."
        return {k: p.detach().clone() for k, p in self.moving.items()}


class Callback:
    "Looks at an optimisation before and after each step; `tensors` is what a checkpoint keeps of it."

    def start(self, run: Run) -> None: ...

    def before_step(self, run: Run) -> None: ...

    def after_step(self, run: Run) -> None: ...

    def end(self, run: Run) -> None: ...

    def alive(self) -> Tensor | bool:
        "Members that may go on, as far as this one is concerned."
        return True

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def load(self, tensors: dict[str, Tensor]) -> None: ...


_STRIKES = 10  # Steps in a row that are not finite, after which a member stops


class Finite(Callback):
    "Leaves out what is not finite, member by member."

    def __init__(
        self,
        n: int,  # Members
        device,  # Where their weights are
        folder: Path | None,  # Where batches that gave no finite number are kept; None: nowhere
    ):
        self.strikes, self.folder = torch.zeros(n, dtype=torch.long, device=device), folder

    def before_step(self, run):
        finite = torch.isfinite(run.value.detach()) & torch.isfinite(run.norm)
        run.good = run.alive & finite
        self.strikes = torch.where(run.good, 0, self.strikes + run.alive)
        told = (self.strikes == 1) | (self.strikes == _STRIKES)
        if lost := (run.alive & ~run.good & told).nonzero().flatten().tolist():
            self.tell(run, lost)

    def tell(self, run: Run, lost: list[int]) -> None:
        "Name the step, keep its batch, stop where nothing is left."
        where = f"step {run.done}, member {lost}"
        if self.folder is not None:
            kept = {k: v[lost].contiguous() for k, v in run.data.items() if isinstance(v, Tensor)}
            file = self.folder / f"not-finite-step-{run.done}.safetensors"
            atomic_write(file, pack_tensors(kept))
            where += f" (batch in {file})"
        if (self.strikes >= _STRIKES).all():
            raise TrainingError(
                f"loss or gradient is not finite at {where}; lower the learning rate or look at that batch"
            )
        last = (self.strikes[lost] == _STRIKES).any()
        out = ", for the last time: it stops with its last weights" if last else "; the step is left out"
        warnings.warn(f"loss or gradient is not finite at {where}{out}", stacklevel=4)

    def alive(self):
        return self.strikes < _STRIKES

    def tensors(self):
        return {"strikes": self.strikes}

    def load(self, tensors):
        self.strikes = tensors["strikes"].to(self.strikes.device)


class ClipAndFreeze(Callback):
    "Scales gradients per member, and holds what may not move."

    def __init__(
        self,
        allow: dict[str, Tensor],  # name -> (member,) bool
        clip: float | None,  # Largest norm of a member's gradient; None for no limit
    ):
        self.allow, self.clip, self.held = allow, clip, {}

    def before_step(self, run):
        scale = (self.clip / run.norm.clamp_min(1e-30)).clamp(max=1.0) if self.clip else torch.ones_like(run.norm)
        scale, self.held = torch.where(run.good, scale, torch.zeros_like(scale)), {}
        with torch.no_grad():
            for k, p in run.moving.items():
                ok = per_member(self.allow[k] & run.good, p)
                p.grad = torch.where(ok, p.grad * scale.to(p.dtype).view_as(ok), torch.zeros_like(p.grad))
                if not ok.all():
                    self.held[k] = (ok, p.detach().clone())

    def after_step(self, run):
        with torch.no_grad():
            for k, (ok, old) in self.held.items():
                run.moving[k].copy_(torch.where(ok, run.moving[k], old))


class Average(Callback):
    "A moving average of the weights, which training returns."

    def __init__(
        self,
        run: Run,  # At its start
        share: float,  # Share of each step's weights
    ):
        self.share, self.mean = share, run.copied()

    def after_step(self, run):
        with torch.no_grad():
            for k, v in self.mean.items():
                v.lerp_(run.moving[k].detach(), self.share)

    def end(self, run):
        run.put(self.mean)

    def tensors(self):
        return {f"mean/{k}": v for k, v in self.mean.items()}

    def load(self, tensors):
        self.mean = {k: tensors[f"mean/{k}"].to(v.device) for k, v in self.mean.items()}


class EarlyStop(Callback):
    "Judges members on held-back data, stops those that wait in vain, returns the best weights of each."

    def __init__(
        self,
        run: Run,  # At its start
        validation,  # ensemble -> (member,) score, small is good
        patience: int,  # Validations in a row without a better score
        every: int,  # Steps between validations
        average: Average | None = None,  # Whose weights are judged; None: those of the step
    ):
        n, device = len(run.ensemble), next(iter(run.ensemble.params.values())).device
        self.validation, self.patience, self.every, self.average = validation, patience, every, average
        self.best = run.copied()
        self.score = torch.full((n,), torch.inf, device=device)
        self.waited = torch.zeros(n, dtype=torch.long, device=device)

    def after_step(self, run):
        if run.done % self.every:
            return
        own = run.copied()
        run.put(self.average.mean if self.average else {})
        with torch.no_grad():
            score = self.validation(run.ensemble).to(self.score.device)
        better = run.alive & (score < self.score)
        for k in run.moving:
            self.best[k] = torch.where(per_member(better, self.best[k]), run.ensemble.params[k].detach(), self.best[k])
        self.score = torch.where(better, score, self.score)
        self.waited = torch.where(better, 0, self.waited + run.alive)
        run.put(own)

    def alive(self):
        return self.waited < self.patience

    def end(self, run):
        judged = torch.isfinite(self.score)
        now = run.moving.items()
        run.put({k: torch.where(per_member(judged, p), self.best[k], p.detach()) for k, p in now})

    def tensors(self):
        return {f"best/{k}": v for k, v in (self.best | {"score": self.score, "waited": self.waited}).items()}

    def load(self, tensors):
        there = lambda k, v: tensors[f"best/{k}"].to(v.device)
        self.best = {k: there(k, v) for k, v in self.best.items()}
        self.score, self.waited = there("score", self.score), there("waited", self.waited)


_LOG = ["step", "member", "loss", "lr", "grad_norm"]


class Log(Callback):
    "A line a member every so many steps."

    def __init__(
        self,
        every: int,  # Steps between lines
    ):
        self.every, self.rows = every, []

    def after_step(self, run):
        if run.done % self.every == 0 or run.done == run.steps:
            v, g = run.value.detach().tolist(), run.norm.tolist()
            self.rows += [[run.done, m, v[m], run.rate, g[m]] for m in range(len(v))]

    def frame(self) -> pd.DataFrame:  # step, member, loss, lr, grad_norm
        "The lines so far."
        return pd.DataFrame(self.rows, columns=_LOG).astype({"step": int, "member": int})


class Checkpoint(Callback):
    "Writes the whole state, and takes it up again."

    def __init__(
        self,
        folder: Path,  # Where the state and the log go
        key: str,  # Configuration key, written into and checked against the file
        every: int,  # Steps between files
        log: Log,
        others: list[Callback],  # Whose state is kept too
    ):
        self.folder, self.key, self.every, self.log, self.others = folder, key, every, log, others
        self.facts, self.stored = provenance(), -1

    def save(self, run: Run) -> None:
        "Everything from which the run goes on, unless it already lies there."
        if self.stored == run.done:
            return
        t = {f"param/{k}": v for k, v in run.ensemble.params.items()}
        for c in self.others:
            t |= c.tensors()
        for k, p in run.moving.items():
            t |= {f"adam/{k}/{q}": v for q, v in run.opt.state.get(p, {}).items()}
        t["log"] = torch.tensor(self.log.rows, dtype=torch.float64).view(-1, len(_LOG))
        write_checkpoint(self.folder, t, {"step": run.done, "key": self.key, **self.facts})
        self.stored = run.done
        self.write_log()

    def write_log(self) -> None:
        "The log as a table."
        atomic_write(self.folder / "log.csv", self.log.frame().to_csv(index=False))

    def resume(self, run: Run) -> bool:  # Whether there was something
        "Go on from the file, if there is one of the same key."
        if not (self.folder / "latest.json").exists():
            return False
        shapes = {f"param/{k}": v.shape for k, v in run.ensemble.params.items()}
        tensors, record = read_checkpoint(self.folder / "latest.json", shapes, self.key)
        clear_checkpoints(self.folder / "latest.json", record["file"])
        with torch.no_grad():
            for k, p in run.ensemble.params.items():
                p.copy_(tensors[f"param/{k}"])
        for c in self.others:
            c.load(tensors)
        for k, p in run.moving.items():
            start = f"adam/{k}/"
            s = {q.removeprefix(start): v for q, v in tensors.items() if q.startswith(start)}
            if s:
                run.opt.state[p] = {q: v if q == "step" else v.to(p.device) for q, v in s.items()}
        run.done = self.stored = record["step"]
        self.log.rows = [[int(step), int(member), *rest] for step, member, *rest in tensors["log"].tolist()]
        self.write_log()
        return True

    def after_step(self, run):
        if run.done % self.every == 0 and run.done < run.steps:
            self.save(run)

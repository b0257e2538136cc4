"""Models that take part: mechanistic, statistical and networks, each fitted on some compositions and asked for
another"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ion_ode.attention_odenet.constraints import make_constraint
from ion_ode.attention_odenet.odenet import n_parameters
from ion_ode.closure import Ticks, cell
from ion_ode.data.curves import CurveSet
from ion_ode.data.design import Design, simulate_curves
from ion_ode.data.measurements import Measurements
from ion_ode.data.points import measurement_points
from ion_ode.dspmde.film import FILM_THICKNESS
from ion_ode.dspmde.prior import from_normal
from ion_ode.inference.fit import fit_membrane, observations
from ion_ode.inference.scales import FOUR, Scale
from ion_ode.inference.posterior import Experiment, predict_membranes, sample_posterior
from ion_ode.results.baselines import predict_constant, predict_ion_mean, predict_nearest
from ion_ode.results.benchmarks import BENCHMARKS, Benchmark, contest_rows, held_rows
from ion_ode.results.protocol import CONSTANT, FOUR_FITTED, GAUSSIAN, NEAREST, PER_ION, PROTOCOL, SHIFT, with_feeds
from ion_ode.training.recipe import ARCHITECTURES, TrainConfig, build
from ion_ode.training.rivals import SDEM, ResidualGP, SpieglerKedem, match_width
from ion_ode.training.states import with_scatter
from ion_ode.training.teach import finetune, predict_measured, pretrain, surrogate_error


REFERENCES = {CONSTANT: predict_constant, "per-ion mean": predict_ion_mean, NEAREST: predict_nearest}
BAYES = "membranes that networks are told of"  # Their mean
BAYES_AGAIN, LIKELIEST_TOLD = f"{BAYES}, second run", "likeliest of the membranes that networks are told of"
RIVALS = (FOUR_FITTED, SHIFT, PER_ION, GAUSSIAN)  # Fitted in cells, one a fold
PORE_MODEL_CURVES = ("C", "D")  # Folds of which the four-parameter fit is drawn along the flux


VARIANTS = {  # Name in tables -> architecture, attention
    f"{label}{' + attention' * attention}": {"architecture": architecture, "attention": attention}
    for architecture, label in {
        "odenet": "ODENet",
        "unet": "U-Net",
        "cnn": "CNN",
        "fully_connected": "fully connected",
    }.items()
    for attention in (True, False)
}
MAIN = "ODENet + attention"
BIASES = ("hard", "soft")


@dataclass(frozen=True)
class Profile:
    "How much is computed."

    name: str  # Key of PROFILES
    recipe: TrainConfig  # Recipe all variants share
    seeds: int  # Networks of each kind
    starts: int  # Starts of each fit of a pore model
    draws: int  # Membranes drawn for each set of training rows
    drawn_from: str = "posterior"  # What those membranes know: "posterior" (the training rows) or "prior" (nothing)
    variants: tuple[str, ...] = tuple(VARIANTS)  # Which networks
    benchmarks: tuple[str, ...] = tuple(BENCHMARKS)  # On which measurements
    rivals: tuple[str, ...] = RIVALS  # Which other models, where the protocol's entrants do not stand beside them
    biases: tuple[str, ...] = BIASES  # Neutrality by construction, by a penalty
    ablate: bool = False  # Also compare ways to fine-tune
    choose: bool = False  # Also choose one inside the training folds
    sweep_steps: int = 0  # Pre-training steps of networks with other attention; 0: none
    board: bool = False  # Also ask the protocol's entrants

    def config(
        self,
        variant: str,  # Name in VARIANTS
    ) -> TrainConfig:  # Recipe of this variant
        "The recipe with the network of a variant, sized like the main one."
        v, network = VARIANTS[variant], self.recipe.network
        if variant != MAIN:
            size = n_parameters(
                ARCHITECTURES["odenet"](replace(network, attention=True), make_constraint(self.recipe.constraint))
            )
            network = match_width(ARCHITECTURES[v["architecture"]], replace(network, attention=v["attention"]), size)
        return replace(self.recipe, architecture=v["architecture"], network=replace(network, attention=v["attention"]))


@cell("curves")
def _cell_curves(folder, spec, found, tick):
    r = TrainConfig.from_dict(spec["recipe"])
    curves = simulate_curves(r.n_curves + 512, seed=r.seed, n_flux=r.n_flux, family=r.family)
    tick(1)
    tensors = {k: getattr(curves, k) for k in ("c_feed", "flux", "c_perm", "valid", "membrane", "parameters")}
    return tensors, {"ions": list(curves.ions), "meta": curves.meta}


def load_curves(
    found,  # name -> tensors and facts of a stored cell
) -> CurveSet:
    "The simulated curves that networks were pre-trained on, then those they have not seen."
    t, r = found("curves")
    return CurveSet(tuple(r["ions"]), meta=r["meta"], **t)


def _fit_pore(b: Benchmark, train, df, spec, found):
    "The pore model with four parameters, fitted by least squares."
    low, high = (1e-6 * v for v in PROTOCOL.four_bounds_um)
    scales = {"thickness": Scale("log", low, high, unit="m")}
    fit = fit_membrane(
        measurement_points(with_feeds(train)),
        FOUR,
        scales=scales,
        film=b.film,
        n_starts=spec["starts"],
        n_sobol=64,
        intervals="none",
        seed=spec["seed"],
    )
    asked = observations(measurement_points(with_feeds(df)))
    predicted = fit.predict(asked)[asked.state, asked.ion].numpy()
    facts = {
        "parameters": {p: v for p, v in zip(fit.estimates.parameter, fit.estimates.estimate, strict=True)},
        "rmse_train": float(fit.rmse),
    }
    return predicted, facts


def _thinned(b: Benchmark, df: pd.DataFrame) -> pd.Series:
    "Rows at every so many-th flux of their feed."
    return df.groupby("solution_id").state_id.transform(lambda s: pd.factorize(s)[0]) % b.thin == 0


def _fit_shifted(b: Benchmark, train, df, spec, found):
    model = SDEM(shift=True, film=b.film).fit(train)
    return model.predict(df), {"parameters": model.permeances().to_dict()}


def _fit_kedem(b: Benchmark, train, df, spec, found):
    model = SpieglerKedem().fit(train)
    return model.predict(df), {"parameters": {k: list(v) for k, v in model.parameters.items()}}


def _fit_residual(b: Benchmark, train, df, spec, found):
    base = pd.Series(found(rival_name(spec | {"model": FOUR_FITTED}))[0]["predicted"].numpy(), df.index)
    model = ResidualGP(lambda d: base.reindex(d.index).to_numpy(), seed=spec["seed"]).fit(train)
    return model.predict(df), {"parameters": {"kernel": str(model.gp.kernel_)}}


_FITS = {FOUR_FITTED: _fit_pore, SHIFT: _fit_shifted, PER_ION: _fit_kedem, GAUSSIAN: _fit_residual}


def rival_name(spec: dict) -> str:
    return f"{spec['benchmark']} {spec['model']} {_without(spec['held'])}"


def _without(held) -> str:
    return f"without {' and '.join(held) or 'nothing'}"


@cell("rival")
def _cell_rival(folder, spec, found, tick):
    b, df = BENCHMARKS[spec["benchmark"]], contest_rows(spec["benchmark"])
    predicted, facts = _FITS[spec["model"]](b, df[~held_rows(df, spec["held"])], df, spec, found)
    tick(1)
    return {"predicted": torch.from_numpy(np.asarray(predicted, float))}, facts


NOISE = 0.3  # Of a passage, in proportion to it: what measurement and model together get wrong


def log_passage(
    rejection,  # Rejections
):
    "What passes, on a logarithmic scale that ends at R = 1."
    return np.log(1.05 - np.minimum(rejection, 1.0))


def infer_membranes(
    train: pd.DataFrame,  # Rows to learn from
    test: pd.DataFrame,  # Rows to predict; may be empty
    n: int,  # Membranes wanted
    seed: int = 0,
    film: float = FILM_THICKNESS,  # Film in front of observed values [m]
) -> tuple[
    Tensor, pd.DataFrame, dict
]:  # (membrane, parameter) SI; row by row predicted (mean), spread (sd of `log_passage`), likeliest; facts
    "Membranes drawn from the posterior of DSPM-DE+ given some rows, and what they say together of others."
    posterior = sample_posterior(Experiment(with_feeds(train), film), NOISE, rounds=8, enough=100, seed=seed)
    x = posterior.pick(n, seed)
    asked = torch.cat([posterior.mode[None], x])
    rejection = Experiment(with_feeds(test), film).ask(asked)[0].numpy() if len(test) else np.empty((n + 1, 0))
    said = {
        "predicted": np.nanmean(rejection[1:], 0),
        "spread": np.nanstd(log_passage(rejection[1:]), 0),
        "likeliest": rejection[0],
    }
    facts = {
        "n_effective": posterior.n_effective,
        "membranes": len(posterior.x),
        "log_evidence": posterior.log_evidence,
    }
    return from_normal(x), pd.DataFrame(said, test.index), facts


@cell("membranes")
def _cell_membranes(folder, spec, found, tick):
    "Membranes that fit what may be seen, and what they say together of the rest."
    b, df = BENCHMARKS[spec["benchmark"]], contest_rows(spec["benchmark"])
    shown = ~held_rows(df, spec["held"])
    parameters, said, facts = _DRAWS[spec["drawn_from"]](
        df[shown & _thinned(b, df)], df[~shown], spec["draws"], spec["seed"], b.film
    )
    tick(1)
    return {"parameters": parameters} | {
        c: torch.from_numpy(v.to_numpy(copy=True)) for c, v in said.reindex(df.index).items()
    }, facts


def membranes_name(benchmark: str, held, again: bool = False) -> str:
    return f"{benchmark} membranes {_without(held)}{', again' * again}"


def _prior_membranes(train, test, n, seed, film):
    "Membranes that no measurement was asked about."
    parameters = Design(seed=seed, n_flux=1, family="dspmde+").points(n)[1]
    rejection = predict_membranes(with_feeds(test), parameters, film) if len(test) else np.empty((n, 0))
    said = {"predicted": rejection.mean(0), "spread": log_passage(rejection).std(0), "likeliest": rejection[0]}
    return parameters, pd.DataFrame(said, test.index), {}


_DRAWS = {"posterior": infer_membranes, "prior": _prior_membranes}


def _constraint(config: TrainConfig, bias: str) -> str:
    return config.constraint if bias == "hard" else "soft"


@cell("pretrain")
def _cell_pretrain(folder, spec, found, tick):
    "Networks of one architecture, of every bias and seed, taught simulated curves."
    config, curves = TrainConfig.from_dict(spec["config"]), load_curves(found)
    train, unseen = curves.subset(slice(0, config.n_curves)), curves.subset(slice(config.n_curves, None))
    seeds, states, log = [config.seed + s for s in range(spec["seeds"])], [], []
    for bias in spec["biases"]:
        keep, kinds = Path(folder) / f"running-{spec['key'][:12]}-{bias}", [_constraint(config, bias)] * len(seeds)
        bar = Ticks(tick, len(seeds))
        ensemble, _ = pretrain(config, train, seeds, kinds, folder=keep, key=spec["key"], bar=bar)
        e = _quantiles(surrogate_error(config, ensemble, unseen), "member").to_numpy()
        log += [{"bias": bias, "seed": s, "median_error": float(a), "error_95": float(b)} for s, (a, b) in enumerate(e)]
        states.append(ensemble.state())
        shutil.rmtree(keep, ignore_errors=True)
    members = [[u["bias"], u["seed"]] for u in log]
    return {k: torch.cat([s[k] for s in states]) for k in states[0]}, {"unseen": log, "members": members}


def _told(b: Benchmark, members, found) -> Tensor:
    "(member, parameter) the membrane each network is told of: another draw for every seed."
    draws = {h: found(membranes_name(b.name, h))[0]["parameters"] for h in {tuple(m["held"]) for m in members}}
    return torch.stack([draws[tuple(m["held"])][m["seed"]] for m in members])


def _started(config: TrainConfig, members, found, variant: str):
    "Fresh networks of one bias, and in place of those that were pre-trained the weights of their seed."
    kinds = [_constraint(config, m["bias"]) for m in members]
    ensemble = build(config, [config.seed + m["seed"] for m in members], kinds)
    if any(m["pretrained"] for m in members):
        weights, record = found(f"pretrain {variant}")
        at = {tuple(k): i for i, k in enumerate(record["members"])}
        with torch.no_grad():
            for i, m in enumerate(members):
                for k, p in ensemble.params.items() if m["pretrained"] else ():
                    p[i] = weights[k][at[m["bias"], m["seed"]]]
    return ensemble


@cell("finetune")
def _cell_finetune(folder, spec, found, tick):
    "Networks of one architecture, each fine-tuned without what it is asked about; asked before and after."
    b, df = BENCHMARKS[spec["benchmark"]], contest_rows(spec["benchmark"])
    config, measured = TrainConfig.from_dict(spec["config"]), with_scatter(with_feeds(df), b.sd_floor)
    held, parameters = left_out(df, spec["members"]), _told(b, spec["members"], found)
    out = {k: torch.full(held.shape, torch.nan) for k in ("before", "predicted")} | {"parameters": parameters}
    for bias in dict.fromkeys(m["bias"] for m in spec["members"]):  # A stack of networks has one kind of constraint
        at = [k for k, m in enumerate(spec["members"]) if m["bias"] == bias]
        members, told, hidden = [spec["members"][k] for k in at], parameters[at], held[at]
        ensemble = _started(config, members, found, spec["variant"])
        out["before"][at] = _held_out_predictions(config, ensemble, measured, told, hidden)
        seeds, first = [1000 + config.seed + m["seed"] for m in members], [m["pretrained"] for m in members]
        bar = Ticks(tick, len(members))
        finetune(config, ensemble, measured, seeds, shown=~hidden, parameters=told, pretrained=first, bar=bar)
        out["predicted"][at] = _held_out_predictions(config, ensemble, measured, told, hidden)
        if spec["variant"] == MAIN:
            for k, p in ensemble.params.items():
                kept = out.setdefault(f"weights/{k}", torch.zeros(len(held), *p.shape[1:]))
                kept[at] = p.detach()
    return out, {"rows": list(df.index)}


def network_members(
    b: Benchmark,
    seeds: int,  # Networks of each kind
    kinds,  # (pre-trained, bias) of each kind
) -> list[dict]:  # held, seed, pretrained, bias
    "Networks of a fine-tuning cell: one a fold, kind and seed; on `nf270` also those that learn from all."
    every = [{"held": [g], "pretrained": pt, "bias": bias} for pt, bias in kinds for g in b.folds]
    whole = [{"held": [], "pretrained": True, "bias": "hard"}] if b.name == "nf270" else []
    return [m | {"seed": s} for m in [*whole, *every] for s in range(seeds)]


def own_members(
    seeds: int,  # Networks of each coupon
) -> list[dict]:  # As `network_members`, and own: the coupon whose middle state is shown
    "Networks that learn from all other sources and from one state of the coupon they are asked about."
    df = contest_rows("sources")
    coupons = df.groupby("coupon", sort=False).agg(source=("source_id", "first"), states=("state_id", "nunique"))
    base = {"pretrained": True, "bias": "hard"}
    return [
        base | {"held": [source], "own": coupon, "seed": s}
        for coupon, source, states in coupons[coupons.states > 1].itertuples()
        for s in range(seeds)
    ]


def own_state(
    g: pd.DataFrame,  # Rows of one coupon
) -> str:  # Its state_id
    "The middle state of a coupon, the one that `own_values` tells first."
    states = list(g.sort_values(["c_feed_mol_m3", "flux_m_s"]).state_id.unique())
    return states[len(states) // 2]


def left_out(
    df: pd.DataFrame,  # Of `contest_rows`
    members,  # Of `network_members` or `own_members`
) -> Tensor:  # (member, value) bool
    "Which values each network does not see."
    own = {c: (df.state_id == own_state(g)).to_numpy() for c, g in df.groupby("coupon")} if "coupon" in df else {}
    seen = np.zeros(len(df), bool)
    return torch.from_numpy(np.stack([held_rows(df, m["held"]) & ~own.get(m.get("own"), seen) for m in members]))


def _held_out_predictions(config, ensemble, m: Measurements, parameters: Tensor, held: Tensor) -> Tensor:
    "(member, value) predictions of what each member was not shown, nan elsewhere."
    out, film = torch.full((len(ensemble), len(m)), torch.nan), torch.from_numpy(m.kind[m.state] != "intrinsic")
    for hidden, members in _alike(held):
        for behind in (False, True):  # observed values have one flux a curve, intrinsic ones many
            values = hidden & (film == behind)
            if values.any():
                part, nets = m.select(values.numpy()), ensemble.take(members)
                said = predict_measured(config, nets, part, parameters[members], tol=1e-3)
                out[members[:, None], values.nonzero()[:, 0]] = torch.from_numpy(said).float()
    return out


def _alike(held: Tensor) -> list[tuple[Tensor, Tensor]]:
    "Members that were not shown the same values: (values, members)."
    patterns, which = torch.unique(held, dim=0, return_inverse=True)
    return [(p, (which == k).nonzero().flatten()) for k, p in enumerate(patterns)]


def _quantiles(e: pd.DataFrame, by) -> pd.DataFrame:
    "Median and 95 % quantile of the error of R, predictions above 1 read as 1."
    return (e.predicted.clip(upper=1) - e.rejection).abs().groupby(e[by]).quantile([0.5, 0.95]).unstack()

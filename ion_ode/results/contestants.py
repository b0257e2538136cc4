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
from ion_ode.attention_odenet.field import FieldConfig
from ion_ode.attention_odenet.odenet import n_parameters
from ion_ode.data.curves import CurveSet
from ion_ode.data.design import Design, simulate_curves
from ion_ode.data.measurements import Measurements
from ion_ode.data.points import measurement_points
from ion_ode.dspmde.film import FILM_THICKNESS
from ion_ode.dspmde.prior import NAMES, SLOTS, from_normal
from ion_ode.inference.fit import fit_membrane, observations
from ion_ode.inference.scales import FOUR, Scale
from ion_ode.inference.posterior import Experiment, find_modes, predict_membranes, sample_posterior
from ion_ode.results.baselines import predict_constant, predict_ion_mean, predict_nearest
from ion_ode.results.benchmarks import BENCHMARKS, Benchmark, contest_rows
from ion_ode.training.optimise import Plan
from ion_ode.training.recipe import ARCHITECTURES, TrainConfig, build
from ion_ode.training.rivals import SDEM, ResidualGP, SpieglerKedem, match_width
from ion_ode.training.states import with_scatter
from ion_ode.training.teach import finetune, predict_measured, pretrain, surrogate_error
from ion_ode.training.told import n_told


REFERENCES = {
    "constant": predict_constant,
    "per-ion mean": predict_ion_mean,
    "nearest composition": predict_nearest,
}
PORE_MODEL, PORE_PLUS, SHIFTED, BAYES = (
    "DSPM-DE fitted",
    "DSPM-DE+ weak prior",
    "SDEM with Donnan shift",
    "Bayesian DSPM-DE+",
)
BAR, BAYES_BAR = "average of DSPM-DE+ and SDEM", "average of Bayesian DSPM-DE+ and SDEM"
MEANS = {BAR: (PORE_PLUS, SHIFTED), BAYES_BAR: (BAYES, SHIFTED)}  # Plain averages of two contestants
KEDEM, RESIDUAL = "Spiegler-Kedem", "Gaussian process on DSPM-DE"
RIVALS = (PORE_MODEL, PORE_PLUS, SHIFTED, KEDEM, RESIDUAL)  # Fitted in cells, one a fold


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
    marks: dict[str, tuple[int, ...]]  # Benchmark -> fine-tuning steps after which networks are scored
    starts: int  # Starts of each fit of a pore model
    draws: int  # Membranes drawn for each set of training rows
    inner: int  # Seeds of the networks that only the choice of steps reads
    trials: bool = (
        False  # Also membranes of the other laws, and weak-prior fits of all compositions and without two
    )
    drawn_from: str = "posterior"  # What those membranes know: "posterior" (the training rows) or "prior" (nothing)
    variants: tuple[str, ...] = tuple(VARIANTS)  # Which networks
    benchmarks: tuple[str, ...] = tuple(BENCHMARKS)  # On which measurements
    rivals: tuple[str, ...] = RIVALS  # Which other models
    biases: tuple[str, ...] = BIASES  # Neutrality by construction, by a penalty
    ablate: bool = False  # Also compare ways to fine-tune
    sweep_steps: int = (
        0  # Pre-training steps of networks with wider and narrower attention, with and without ion encodings; 0: none
    )

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
            network = match_width(
                ARCHITECTURES[v["architecture"]], replace(network, attention=v["attention"]), size
            )
        return replace(
            self.recipe, architecture=v["architecture"], network=replace(network, attention=v["attention"])
        )


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
    scales = {"thickness": Scale("log", 0.05e-6, 10e-6, unit="m")}
    fit = fit_membrane(
        measurement_points(train),
        FOUR,
        scales=scales,
        film=b.film,
        n_starts=spec["starts"],
        n_sobol=64,
        intervals="none",
        seed=spec["seed"],
    )
    asked = observations(measurement_points(df))
    predicted = fit.predict(asked)[asked.state, asked.ion].numpy()
    facts = {
        "parameters": {p: v for p, v in zip(fit.estimates.parameter, fit.estimates.estimate, strict=True)},
        "rmse_train": float(fit.rmse),
    }
    return predicted, facts


_WEAK = 0.1  # Spread of a rejection about DSPM-DE+ and SDEM, which sets how weak their priors are


def _fit_plus(b: Benchmark, train, df, spec, found):
    "The likeliest membrane of DSPM-DE+ under the prior of the posterior, every rejection known to `_WEAK`."
    seen = Experiment(train[_thinned(b, train)], b.film, relative=False)
    x, value, _ = find_modes(seen, _WEAK, n_starts=8 * spec["starts"], seed=spec["seed"])
    best = from_normal(x[:1])
    predicted = predict_membranes(df, best, b.film)[0]
    miss = (predicted - df.rejection)[df.index.isin(train.index)]
    rmse = float(np.sqrt(np.average(miss**2, weights=train.weight)))
    return predicted, {
        "parameters": dict(zip(NAMES, best[0].tolist(), strict=True)),
        "rmse_train": rmse,
        "tops": value.tolist(),
    }


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
    base = pd.Series(found(rival_name(spec | {"model": PORE_MODEL}))[0]["predicted"].numpy(), df.index)
    model = ResidualGP(lambda d: base.reindex(d.index).to_numpy(), seed=spec["seed"]).fit(train)
    return model.predict(df), {"parameters": {"kernel": str(model.gp.kernel_)}}


_FITS = {
    PORE_MODEL: _fit_pore,
    PORE_PLUS: _fit_plus,
    SHIFTED: _fit_shifted,
    KEDEM: _fit_kedem,
    RESIDUAL: _fit_residual,
}


def rival_name(spec: dict) -> str:
    return f"{spec['benchmark']} {spec['model']} {_without(spec['held'])}"


def _without(held) -> str:
    return f"without {' and '.join(held) or 'nothing'}"


def _cell_rival(folder, spec, found, tick):
    b, df = BENCHMARKS[spec["benchmark"]], contest_rows(spec["benchmark"])
    predicted, facts = _FITS[spec["model"]](b, df[~df.composition.isin(spec["held"])], df, spec, found)
    tick(1)
    return {"predicted": torch.from_numpy(np.asarray(predicted, float))}, facts


LAWS = {  # What measurement and model together get wrong: keywords of `sample_posterior`
    "proportional": {"noise": 0.3},
    "equal": {"noise": 0.2, "relative": False},
    "alike along a curve": {"noise": 0.3, "alike": 0.7},
    "charge that saturates": {"noise": 0.3, "binding": lambda share: 1.2 * share / (0.2 + share)},
}
LAW = "proportional"  # Of the contest; the others are trials


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
    law: str = LAW,  # Key of LAWS
) -> tuple[
    Tensor, pd.DataFrame, dict
]:  # (membrane, parameter) SI; row by row predicted (mean), spread (sd of `log_passage`), likeliest; facts
    "Membranes drawn from the posterior of DSPM-DE+ given some rows, and what they say together of others."
    law = dict(LAWS[law])
    noise, form = law.pop("noise"), {"binding": law.pop("binding", None)}
    posterior = sample_posterior(Experiment(train, film, **law, **form), noise, rounds=8, enough=100, seed=seed)
    x = posterior.pick(n, seed)
    asked = torch.cat([posterior.mode[None], x])
    rejection = Experiment(test, film, **form).ask(asked)[0].numpy() if len(test) else np.empty((n + 1, 0))
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


def _cell_membranes(folder, spec, found, tick):
    "Membranes that fit what may be seen, and what they say together of the rest."
    b, df = BENCHMARKS[spec["benchmark"]], contest_rows(spec["benchmark"])
    shown = ~df.composition.isin(spec["held"])
    parameters, said, facts = _DRAWS[spec["drawn_from"]](
        df[shown & _thinned(b, df)], df[~shown], spec["draws"], spec["seed"], b.film, spec["law"]
    )
    tick(1)
    return {"parameters": parameters} | {
        c: torch.from_numpy(v.to_numpy(copy=True)) for c, v in said.reindex(df.index).items()
    }, facts


def membranes_name(benchmark: str, held, law: str = LAW) -> str:
    return f"{benchmark} membranes {_without(held)}" + (f", {law}" if law != LAW else "")


def _prior_membranes(train, test, n, seed, film, law):
    "Membranes that no measurement was asked about."
    parameters = Design(seed=seed, n_flux=1, family="dspmde+").points(n)[1]
    rejection = predict_membranes(test, parameters, film) if len(test) else np.empty((n, 0))
    said = {"predicted": rejection.mean(0), "spread": log_passage(rejection).std(0), "likeliest": rejection[0]}
    return parameters, pd.DataFrame(said, test.index), {}


_DRAWS = {"posterior": infer_membranes, "prior": _prior_membranes}


def _constraint(config: TrainConfig, bias: str) -> str:
    return config.constraint if bias == "hard" else "soft"


class _Bar:
    "Passes a loop's progress on, in member steps."

    def __init__(self, tick, members):
        self.tick, self.members = tick, members

    def update(self, n):
        self.tick(n * self.members)


def _cell_pretrain(folder, spec, found, tick):
    config, curves = TrainConfig.from_dict(spec["config"]), load_curves(found)
    train, unseen = curves.subset(slice(0, config.n_curves)), curves.subset(slice(config.n_curves, None))
    seeds, states, logs = [config.seed + s for s in range(spec["seeds"])], {}, []
    for bias in spec["biases"]:
        keep = Path(folder) / f"running-{spec['key'][:12]}-{bias}"
        bar = _Bar(tick, len(seeds))
        ensemble, _ = pretrain(
            config, train, seeds, [_constraint(config, bias)] * len(seeds), folder=keep, key=spec["key"], bar=bar
        )
        e = _quantiles(surrogate_error(config, ensemble, unseen), "member")
        logs += [
            {"bias": bias, "seed": s, "median_error": float(a), "error_95": float(b)}
            for s, (a, b) in zip(seeds, e.to_numpy(), strict=True)
        ]
        states |= {f"{bias}/{k}": v for k, v in ensemble.state().items()}
        shutil.rmtree(keep, ignore_errors=True)
    return states, {"unseen": logs}


def _cell_finetune(folder, spec, found, tick):
    b, df, config = (
        BENCHMARKS[spec["benchmark"]],
        contest_rows(spec["benchmark"]),
        TrainConfig.from_dict(spec["config"]),
    )
    marks, seeds, variant = tuple(spec["marks"]), spec["seeds"], spec["variant"]
    measured = with_scatter(df, b.sd_floor)
    weights = found(f"pretrain {variant}")[0] if spec["pretrained"] else {}
    members = [m for m in _members(b, seeds, spec["inner"]) if spec["pretrained"] or not m[2]]
    draws = {h: found(membranes_name(b.name, h))[0]["parameters"] for h in b.held_out}
    parameters = torch.stack([draws[h][s] for h, s, _ in members])
    held = left_out(measured, [h for h, _, _ in members])
    keep = [m for m, (h, _, pt) in enumerate(members) if len(h) <= 1 and pt]
    out = {}
    for bias in spec["biases"]:
        ensemble = build(
            config, [config.seed + s for _, s, _ in members], [_constraint(config, bias)] * len(members)
        )
        with torch.no_grad():
            for m, (_, s, pt) in enumerate(members):
                for k, p in ensemble.params.items() if pt else ():
                    p[m] = weights[f"{bias}/{k}"][s]
        predictions, kept = torch.full((len(marks), len(members), len(df)), torch.nan), []

        def look(step, ensemble, predictions=predictions, kept=kept):
            if step in marks:
                predictions[marks.index(step)] = _held_out_predictions(config, ensemble, measured, parameters, held)
                kept.append({k: v.detach()[keep].clone() for k, v in ensemble.params.items()})

        finetune(
            config,
            ensemble,
            measured,
            [1000 + config.seed + s for _, s, _ in members],
            shown=~held,
            parameters=parameters,
            pretrained=[pt for _, _, pt in members],
            on_step=look,
            bar=_Bar(tick, len(members)),
        )
        out[f"{bias}/predicted"] = predictions
        if bias == "hard" and variant == MAIN:
            out |= {f"weights/{k}": torch.stack([w[k] for w in kept]) for k in kept[0]}
    out["parameters"] = parameters[keep]
    record = {
        "members": [[list(h), s, pt] for h, s, pt in members],
        "kept": keep,
        "marks": list(marks),
        "rows": list(df.index),
    }
    return out, record


CORRECTED = "DSPM-DE+ corrected by an ODENet"
# The closed form of DSPM-DE+, and a network that corrects its derivative: by nothing at first, and pulled back to
# nothing
CORRECTION = TrainConfig(
    architecture="pore_odenet", told="pore", family="dspmde+", pretrained=False, solver_steps=8, compiled=False,
    network=FieldConfig(ions=SLOTS, context="feed+membrane", n_membrane=n_told(SLOTS,
        "pore"), width=64, flux_ref=3e-10),
    finetuning=Plan(160, lr=1e-3, optimiser="adamw", weight_decay=1.0),
)  # fmt: skip


def _members(b: Benchmark, seeds: int, inner: int) -> list[tuple]:
    "(held out, seed, pre-trained) of every network of a fine-tuning cell."
    return [
        (h, s, pt)
        for pt in (True, False)
        for h in b.held_out
        for s in range(inner if len(h) > 1 else seeds)
        if h or pt
    ]


def left_out(
    m: Measurements,  # Measurements
    held,  # Compositions that each network does not see
) -> Tensor:  # (member, value) bool
    "Which values each network does not see."
    return torch.from_numpy(np.stack([np.isin(m.composition[m.state], list(h)) for h in held]))


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

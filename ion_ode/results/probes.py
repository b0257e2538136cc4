"""Attention, the onset of negative nitrate rejection, smoothness, exactness"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ion_ode.data.design import sample_feeds
from ion_ode.dspmde.prior import SLOTS, membrane_from_parameters, parameter_names
from ion_ode.dspmde.solve import simulate
from ion_ode.results.benchmarks import contest_rows
from ion_ode.cells import read_cell
from ion_ode.results.contestants import MAIN, VARIANTS, load_curves
from ion_ode.results.heldout import networks
from ion_ode.results.protocol import with_feeds
from ion_ode.results.questions import ask, feeds_frame
from ion_ode.training.optimise import Plan
from ion_ode.training.predictor import Predictor
from ion_ode.training.recipe import TrainConfig, build, describe_curves, describe_members
from ion_ode.training.states import measured_curves, with_scatter
from ion_ode.training.teach import pretrain
from ion_ode.water.ions import IONS, get_ion

_CHLORIDE, _NITRATE = SLOTS.index("Cl-"), SLOTS.index("NO3-")


def _attention(config, ensemble, parameters, feed: Tensor, flux: float) -> Tensor:
    "(network, feed, asking, answering) attention at one flux."
    grid = torch.full((len(feed), 1), flux)
    told = describe_members(config, parameters, feed.expand(len(ensemble), *feed.shape))
    with torch.no_grad():
        maps = [
            ensemble.member(m).attention_map(feed.float(), grid, None if told is None else told[m])
            for m in range(len(ensemble))
        ]
    return torch.stack(maps)[:, :, 0, 0]


def _all_eight(
    equivalents: float = 10.0,  # Charge of each cation [mol/m³], anions scaled to match
) -> Tensor:  # (1, slot) [mol/m³]
    "A feed that holds all eight ions."
    z = torch.tensor([get_ion(i).z for i in SLOTS], dtype=torch.float64)
    share = torch.tensor([i in IONS for i in SLOTS], dtype=torch.float64) * equivalents
    share = torch.where(z < 0, share * share[z > 0].sum() / share[z < 0].sum(), share)
    return (share / z.abs())[None]


def _kinds(main: tuple, curves, steps: int, seeds: int) -> dict:  # name -> (recipe, networks, their membranes)
    "The main networks, and such as were pre-trained briefly with and without encodings of the ions."
    out, own = {"main": main}, main[0]
    for name, encoding in {"with ion encodings": own.network.encoding, "without ion encodings": "none"}.items():
        plan = Plan(steps, lr=4e-3, schedule="cosine", clip=0.3)
        short = replace(own, network=replace(own.network, encoding=encoding), pretraining=plan)
        taught, _ = pretrain(short, curves.subset(slice(0, short.n_curves)), range(seeds))
        out[name] = short, taught, main[2][:1].expand(seeds, -1)
    return out


def _without_nitrate() -> tuple[Tensor, Tensor]:  # (feed, slot) twice [mol/m³]
    "Feeds that hold chloride and nitrate, and the same with nitrate removed, their cations scaled to what is left."
    feeds = sample_feeds(256, 7, ions=SLOTS, equivalents=(5.0, 60.0), n_ions=(4, 8))
    feeds = feeds[(feeds[:, _CHLORIDE] > 0) & (feeds[:, _NITRATE] > 0)][:48]
    z = torch.tensor([get_ion(i).z for i in SLOTS], dtype=torch.float64)
    left = torch.where(torch.arange(len(SLOTS)) == _NITRATE, 0.0, feeds)
    scale = (left * -z.clamp(max=0)).sum(1) / (left * z.clamp(min=0)).sum(1)
    return feeds, torch.where(z > 0, left * scale[:, None], left)


def _chloride_changes(solve, feeds: Tensor, left: Tensor) -> Tensor:
    "Rejection of Cl- without nitrate less that with it; `solve` gives (..., feed, flux, slot)."
    return solve(left)[..., 0, _CHLORIDE] - solve(feeds)[..., 0, _CHLORIDE]


def _removal(name: str, kind: tuple, flux: float, feeds: Tensor, left: Tensor) -> pd.DataFrame:
    "Score of NO3- with Cl-, and the change of Cl- by the network and by the pore model of the membrane it was told of."
    config, ensemble, parameters = kind
    score = _attention(config, ensemble, parameters, feeds, flux)[:, :, _CHLORIDE, _NITRATE]
    model = Predictor(config, ensemble, parameters, {"name": name})
    change = _chloride_changes(lambda c: model.rejections(c, torch.full((len(c), 1), flux)), feeds, left)
    parts = []
    for m in range(len(score)):
        membrane = membrane_from_parameters(parameters[m : m + 1], parameter_names(config.family, SLOTS), SLOTS)
        pore = lambda c, membrane=membrane: simulate(c, flux, membrane, ions=SLOTS, throw=False).rejection
        d = {"network": name, "seed": m, "feed": range(len(feeds)), "score": score[m].double(), "change": change[m]}
        parts.append(pd.DataFrame(d | {"change_pore": _chloride_changes(pore, feeds, left)}))
    return pd.concat(parts)


def attention_tables(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    steps: int = 300,  # Pre-training steps of the networks with and without ion encodings
    seeds: int = 3,  # How many of each
) -> tuple[
    pd.DataFrame, pd.DataFrame
]:  # Scores (network, seed, asking, answering, weight); nitrate removed (network, seed, feed, score, changes)
    "Attention between the eight ions, and what the removal of NO3- does to Cl-."
    curves = load_curves(lambda name: read_cell(folder, name, keys[name]))
    kinds, flux = _kinds(networks(folder, keys, "nf270", None), curves, steps, seeds), 1e-5
    maps = [
        {"network": name, "seed": m, "asking": a, "answering": b, "weight": float(w[SLOTS.index(a), SLOTS.index(b)])}
        for name, kind in kinds.items()
        for m, w in enumerate(_attention(*kind, _all_eight(), flux)[:, 0])
        for a in IONS
        for b in IONS
    ]
    removal = [_removal(name, kind, flux, *_without_nitrate()) for name, kind in kinds.items()]
    return pd.DataFrame(maps), pd.concat(removal, ignore_index=True)


def onset_table(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    flux: float = 1.5e-5,  # [m/s]
) -> pd.DataFrame:  # model, sulphate (share of the 10 mol/m³ that are not traces), rejection of NO3-
    """Trace nitrate as sulphate replaces chloride beside sodium, from feed A to feed C, by models that were not shown
    the Na2SO4 feed."""
    shares = np.linspace(0, 1, 17)
    feeds = [{"Na+": 10.4 + 10 * s, "Cl-": 10.2 - 10 * s, "SO4-2": 10 * s, "NO3-": 0.2} for s in shares]
    feeds = [{k: v for k, v in f.items() if v > 0} for f in feeds]
    frame = feeds_frame(feeds, flux)
    nitrate = (frame.ion == "NO3-").to_numpy()
    return pd.concat(
        [
            pd.DataFrame({"model": m, "sulphate": shares, "rejection": np.nanmean(r, 0)[nitrate]})
            for m, r in ask(folder, keys, frame, "nf270", "C").items()
        ],
        ignore_index=True,
    )


def smoothness(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    n_curves: int = 24,  # Unseen simulated curves
) -> pd.DataFrame:  # model, seed; medians of the error and of the roughness (second differences over the pore model's)
    "Pre-trained networks of every architecture on fluxes they have not seen, against the pore model."
    curves = load_curves(lambda name: read_cell(folder, name, keys[name]))
    some, rows = curves.subset(slice(len(curves) - n_curves, None)), []
    flux = torch.stack([torch.logspace(-6, math.log10(float(J.max())), 60, dtype=torch.float64) for J in some.flux])
    exact = simulate(
        some.c_feed,
        flux,
        membrane_from_parameters(some.parameters, some.meta["parameters"], some.ions),
        ions=some.ions,
        throw=False,
    ).rejection
    here = torch.isfinite(exact).all(1)  # (curve, ion) present and certified at every flux
    second = lambda r: r[..., 2:, :] - 2 * r[..., 1:-1, :] + r[..., :-2, :]
    size = lambda x: x.square().mean(1).sqrt()[here]
    for variant in (v for v in VARIANTS if f"pretrain {v}" in keys):
        weights, record = read_cell(folder, f"pretrain {variant}", keys[f"pretrain {variant}"])
        config = TrainConfig.from_dict(record["spec"]["config"])
        at = [i for i, (bias, _) in enumerate(record["members"]) if bias == "hard"]
        state, n = {k: v[at] for k, v in weights.items()}, len(at)
        ensemble = build(replace(config, compiled=False), [0] * n)
        ensemble.load_state(state)
        ensemble.skeleton.n_steps = 8
        told = describe_curves(config, some)
        every = lambda x, n=n: x.float().expand(n, *x.shape)
        with torch.no_grad():
            h = ensemble(every(some.c_feed), every(flux), None if told is None else every(told)).double()
        r = 1 - h * ((some.c_feed * some.z.abs()).sum(1)[:, None] / some.c_feed.clamp_min(1e-300))[:, None]
        for m in range(n):
            rows.append(
                {
                    "model": variant,
                    "seed": m,
                    "error": float(size(r[m] - exact).median()),
                    "roughness": float((size(second(r[m])) / size(second(exact))).median()),
                }
            )
    return pd.DataFrame(rows)


def exact_checks(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
) -> pd.DataFrame:  # check, value
    """Neutrality, absent ions, order of the integrator, frozen layers: of the main networks that learned from all
    compositions."""
    config, ensemble, parameters = networks(folder, keys, "nf270", None)
    asked = measured_curves(with_scatter(with_feeds(contest_rows())), known=False)
    z, bulk = torch.tensor([get_ion(i).z for i in SLOTS], dtype=torch.float32), asked.c_feed
    every = lambda x: x.float().expand(len(ensemble), *x.shape)
    told = describe_members(config, parameters, bulk.expand(len(ensemble), *bulk.shape))
    with torch.no_grad():
        h = ensemble(every(bulk), every(asked.flux), told)
        net = ensemble.member(0)
        other = ensemble.member(0)
        absent = (bulk[:1] == 0)[0]
        other.field.encoder.embedding[absent] += 1.0
        ask_one = lambda n: n(bulk[:1].float(), asked.flux[:1].float(), told[0, :1])
        moved = (ask_one(net) - ask_one(other)).abs().max()
        net = net.double()
        run = {}
        for n in (64, 256, 1024):
            net.n_steps = n
            run[n] = net(bulk, asked.flux[:, -1:], told[0].double())
    error = [float((run[n] - run[1024]).square().mean().sqrt()) for n in (64, 256)]
    started, kept = (read_cell(folder, n, keys[n]) for n in (f"pretrain {MAIN}", f"nf270 finetune {MAIN}"))
    first = [k for k in started[0] if any(f"linears.{i}." in k for i in range(config.frozen_layers))]
    at = {tuple(m): i for i, m in enumerate(started[1]["members"])}
    same = all(
        torch.equal(kept[0][f"weights/{k}"][i], started[0][k][at[m["bias"], m["seed"]]])
        for k in first
        for i, m in enumerate(kept[1]["spec"]["members"])
        if m["pretrained"]
    )
    values = {
        "largest |sum z h| / sum |z| h": float(((h * z).sum(-1).abs() / (h * z.abs()).sum(-1).clamp_min(1e-30)).max()),
        "largest permeate of an absent ion": float(h[:, (bulk == 0)[:, None].expand(h.shape[1:])].abs().max()),
        "change when the embedding of absent ions is moved": float(moved),
        "order of the integrator (64 to 256 steps)": math.log2(error[0] / error[1]) / 2,
        "frozen layers byte-equal (1) after fine-tuning": float(same and len(first) > 0),
    }
    return pd.DataFrame({"check": list(values), "value": list(values.values())})

"""What holds to the last digit: smoothness along the flux, the exact checks"""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from ion_ode.dspmde.prior import SLOTS, membrane_from_parameters
from ion_ode.dspmde.solve import simulate
from ion_ode.results.benchmarks import contest_rows
from ion_ode.results.cells import read_cell
from ion_ode.results.contestants import MAIN, VARIANTS, load_curves
from ion_ode.results.heldout_tables import networks
from ion_ode.training.recipe import TrainConfig, build, describe_curves, describe_members
from ion_ode.training.states import measured_curves, with_scatter
from ion_ode.water.ions import get_ion


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
        state = {k.removeprefix("hard/"): v for k, v in weights.items() if k.startswith("hard/")}
        n = len(next(iter(state.values())))
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
    config, ensemble, parameters, _ = networks(folder, keys, "nf270", None)
    asked = measured_curves(with_scatter(contest_rows()), known=False)
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
    tensors, record = read_cell(folder, f"nf270 finetune {MAIN}", keys[f"nf270 finetune {MAIN}"])
    frozen = [
        k
        for k in tensors
        if k.startswith("weights/") and any(f"linears.{i}." in k for i in range(config.frozen_layers))
    ]
    same = all(torch.equal(tensors[k][0], t) for k in frozen for t in tensors[k])
    values = {
        "largest |sum z h| / sum |z| h": float(
            ((h * z).sum(-1).abs() / (h * z.abs()).sum(-1).clamp_min(1e-30)).max()
        ),
        "largest permeate of an absent ion": float(h[:, (bulk == 0)[:, None].expand(h.shape[1:])].abs().max()),
        "change when the embedding of absent ions is moved": float(moved),
        "order of the integrator (64 to 256 steps)": math.log2(error[0] / error[1]) / 2,
        "frozen layers byte-equal (1) after fine-tuning": float(same and len(frozen) > 0),
    }
    return pd.DataFrame({"check": list(values), "value": list(values.values())})

"""Attention, the onset of negative nitrate rejection, smoothness, exactness"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ion_ode.data.design import sample_feeds
from ion_ode.dspmde.prior import SLOTS, membrane_from_parameters, parameter_names
from ion_ode.dspmde.solve import simulate
from ion_ode.results.cells import read_cell
from ion_ode.results.contestants import load_curves
from ion_ode.results.heldout_tables import networks
from ion_ode.results.questions import ask, feeds_frame
from ion_ode.training.optimise import Plan
from ion_ode.training.predictor import Predictor
from ion_ode.training.recipe import describe_members
from ion_ode.training.teach import pretrain
from ion_ode.water.ions import IONS, get_ion


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


def attention_tables(
    folder: str | Path,  # Folder of the cells
    keys: dict[str, str],  # From run_cells
    steps: int = 300,  # Pre-training steps of the networks with and without ion encodings
    seeds: int = 3,  # How many of each
) -> tuple[
    pd.DataFrame, pd.DataFrame
]:  # Scores (network, seed, asking, answering, weight); nitrate removed (network, seed, feed, score, changes)
    "Attention between the eight ions, and what the removal of NO3- does to Cl-."
    main = networks(folder, keys, "nf270", None)[:3]
    curves = load_curves(lambda name: read_cell(folder, name, keys[name]))
    kinds, flux = {"main": main}, 1e-5
    for name, encoding in {"with ion encodings": main[0].network.encoding, "without ion encodings": "none"}.items():
        short = replace(
            main[0],
            compiled=False,
            network=replace(main[0].network, encoding=encoding),
            pretraining=Plan(steps, lr=4e-3, schedule="cosine", clip=0.3),
        )
        kinds[name] = (
            short,
            pretrain(short, curves.subset(slice(0, short.n_curves)), range(seeds))[0],
            main[2][:1].expand(seeds, -1),
        )
    slot = {i: k for k, i in enumerate(SLOTS)}
    feeds = sample_feeds(256, 7, ions=SLOTS, equivalents=(5.0, 60.0), n_ions=(4, 8))
    feeds = feeds[(feeds[:, slot["Cl-"]] > 0) & (feeds[:, slot["NO3-"]] > 0)][:48]
    z = torch.tensor([get_ion(i).z for i in SLOTS], dtype=torch.float64)
    left = torch.where(torch.arange(len(SLOTS)) == slot["NO3-"], 0.0, feeds)
    left = torch.where(
        z > 0, left * ((left * -z.clamp(max=0)).sum(1) / (left * z.clamp(min=0)).sum(1))[:, None], left
    )
    maps, removal = [], []
    for name, (config, ensemble, parameters) in kinds.items():
        grid = _attention(config, ensemble, parameters, _all_eight(), flux)[:, 0]
        maps += [
            {"network": name, "seed": m, "asking": a, "answering": b, "weight": float(grid[m, slot[a], slot[b]])}
            for m in range(len(grid))
            for a in IONS
            for b in IONS
        ]
        score = _attention(config, ensemble, parameters, feeds, flux)[:, :, slot["Cl-"], slot["NO3-"]]
        model, chloride = Predictor(config, ensemble, parameters, {"name": name}), slot["Cl-"]
        change = (
            model.rejections(left, torch.full((len(left), 1), flux))[:, :, 0, chloride]
            - model.rejections(feeds, torch.full((len(feeds), 1), flux))[:, :, 0, chloride]
        )
        for m in range(len(grid)):
            membrane = membrane_from_parameters(parameters[m : m + 1], parameter_names(config.family, SLOTS), SLOTS)
            pore = [
                simulate(c, flux, membrane, ions=SLOTS, throw=False).rejection[:, 0, chloride]
                for c in (feeds, left)
            ]
            removal.append(
                pd.DataFrame(
                    {
                        "network": name,
                        "seed": m,
                        "feed": range(len(feeds)),
                        "score": score[m].double(),
                        "change": change[m],
                        "change_pore": pore[1] - pore[0],
                    }
                )
            )
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



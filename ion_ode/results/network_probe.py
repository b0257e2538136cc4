"""A few numbers that move when the pore model, the posterior or a step of training does"""

from dataclasses import replace
from functools import lru_cache

import torch

from ion_ode.core import progress
from ion_ode.data.design import simulate_curves
from ion_ode.dspmde.prior import NAMES
from ion_ode.inference.posterior import Experiment
from ion_ode.results.benchmarks import contest_rows
from ion_ode.results.contestants import VARIANTS
from ion_ode.results.plan import PROFILES
from ion_ode.results.protocol import with_feeds
from ion_ode.training.states import with_scatter
from ion_ode.training.teach import finetune, predict_measured, pretrain

__all__ = ["network_probe"]

_STEPS = 3  # Of either training


@lru_cache(maxsize=1)
def network_probe() -> dict[str, list[float]]:
    "A few numbers of all that the networks' tables rest on: pore model, posterior, and each architecture's training."
    curves, df = simulate_curves(12, seed=0, n_flux=4, family="dspmde+"), contest_rows().iloc[::17]
    said = {"curves": curves.c_perm[curves.valid > 0][::5].tolist()}
    x = torch.randn(2, len(NAMES), generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 2
    said["posterior"] = Experiment(with_feeds(df)).ask(x)[0].flatten().tolist()
    m, told = with_scatter(with_feeds(df)), curves.parameters[:1]
    for v in progress(VARIANTS, "what the networks rest on"):
        c = PROFILES["full"].config(v)
        c = replace(c, n_curves=12, pretraining_batch=6, batch=6, solver_steps=2, compiled=False)
        c = replace(c, pretraining=replace(c.pretraining, steps=_STEPS), finetuning=replace(c.finetuning, steps=_STEPS))
        ensemble = pretrain(c, curves, [0])[0]
        finetune(c, ensemble, m, [1000], parameters=told)
        said[v] = predict_measured(c, ensemble, m, told, solver_steps=4, tol=1e-3)[0].tolist()
    return said

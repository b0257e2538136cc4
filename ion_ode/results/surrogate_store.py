"""The stand-in that ships: chosen on validation curves, read on test curves"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import ion_ode
from ion_ode.data.curves import CurveSet
from ion_ode.dspmde.membranes import NF270_WATERTAP
from ion_ode.dspmde.prior import SLOTS, parameter_names
from ion_ode.results.surrogate import _EFFORTS, ALONE, _closed_form, _fits, _make_curves, _trained, errors, scores
from ion_ode.store import atomic_write, provenance
from ion_ode.training.predictor import Predictor, save_model, trained_ranges

AIM = {"median": 0.003, "within_95": 0.02}  # Errors of the rejection asked for [-]


def _by_region(
    e: pd.DataFrame,  # From `errors`
    curves: CurveSet,  # What they refer to
    label: str = "DSPM-DE+",  # Family of its membranes
) -> pd.DataFrame:  # by, value, median, within_95, n
    "Errors by ion, by flux and by fixed charge."
    charge = curves.parameters[:, curves.meta["parameters"].index("charge_density")].abs().numpy()
    e = e.assign(charge=charge[e["sample"]], all=label)
    bins = {"flux": ("flux_m_s", [0, 3e-6, 1e-5, 3e-5, 1e-4]), "charge": ("charge", [0, 3, 10, 30, np.inf])}
    for name, (column, edges) in bins.items():
        e[name] = pd.cut(
            e[column],
            edges,
            include_lowest=True,
            labels=[f"{a:g} to {b:g}" for a, b in zip(edges, edges[1:], strict=False)],
        ).astype(str)
    parts = []
    for by in ("all", "ion", "flux", "charge"):
        t = e.groupby(by).error.agg(median="median", within_95=lambda x: x.quantile(0.95), n="size")
        parts.append(t.rename_axis("value").reset_index().assign(by=by))
    return pd.concat(parts, ignore_index=True)[["by", "value", "median", "within_95", "n"]]


def store(
    folder: str | Path,  # Of `run`
    effort: str = "full",  # Key of _EFFORTS
    target: str | Path | None = None,  # Where `results/` and `weights/` are; None: the assets of the package
) -> Path:  # The card of the model that ships
    "Choose on validation curves, read the test curves, write tables and weights."
    folder, size = Path(folder), _EFFORTS[effort]
    target = Path(ion_ode.__file__).parent / "assets" if target is None else Path(target)
    seen, fits, learning = _make_curves(folder, "train", size.sizes[-1]), _fits(size), scores(folder, effort)
    candidates = {
        fits[n][0]: (fits[n][1], _trained(folder, n, fits[n][1], seen)) for n in fits if n.endswith("long")
    }
    candidates[ALONE] = _closed_form(size)
    tests = {s: _make_curves(folder, s, size.unseen) for s in ("test", "test of four parameters")}
    rows, chosen = [], learning[learning.steps.isin((0, *size.long))].sort_values("within_95").field.iloc[0]
    for field, (config, ensemble) in candidates.items():
        for s, label in (("test", "DSPM-DE+"), ("test of four parameters", "DSPM-DE")):
            e = errors(config, ensemble, tests[s])
            if (field, s) == (chosen, "test"):
                kept = e.error
            t = _by_region(e, tests[s], label)
            rows.append((t if s == "test" else t[t.by == "all"]).assign(field=field))
    table = pd.concat(rows, ignore_index=True)
    config, ensemble = candidates[chosen]
    facts = provenance(
        seed=config.seed,
        effort=effort,
        sizes=asdict(size),
        chosen=chosen,
        recipe=config.to_dict(),
        curves=len(seen),
        aim=AIM,
    )
    for name, t in (("surrogate", table), ("surrogate_learning", learning)):
        atomic_write(target / "results" / f"{name}.csv", t.to_csv(index=False, float_format="%.6g"))
    atomic_write(target / "results" / "surrogate.json", json.dumps(facts, indent=1, sort_keys=True) + "\n")

    parameters = parameter_names(config.family, SLOTS)
    flat = {k: float(v) for k, v in NF270_WATERTAP.tensors().items() if v is not None}
    units = {"r_pore": "m", "thickness": "m", "eps_pore": "-", "charge_density": "mol/m³"}
    spans = {
        n: [float(seen.parameters[:, k].min()), float(seen.parameters[:, k].max()), units.get(n, "-")]
        for k, n in enumerate(parameters)
    }
    card = {
        "name": "dspmde",
        "what": f"stand-in for the pore model over membranes around NF270 ({chosen}); without membrane= it answers "
                f"for the example set NF270-watertap of the membrane table",
        "trained_on": f"{len(seen)} simulated curves (no measurements)"
        if config.pretrained
        else "nothing: on simulated validation curves no network made the closed form better",
        "scores": {
            "median error of R on unseen curves": float(kept.median()),
            "95 % within": float(kept.quantile(0.95)),
        },
        "limits": "an approximation of a model that is itself an approximation; use simulate() where accuracy matters",
        "errors": sorted(round(float(x), 7) for x in kept.quantile(np.linspace(0.0005, 0.9995, 999))),
        "ranges": trained_ranges(seen.c_feed, seen.flux, SLOTS, spans),
        "provenance": facts,
    }
    told = torch.tensor([[flat.get(n, 0.0) for n in parameters]] * len(ensemble), dtype=torch.float64)
    return save_model(Predictor(config, ensemble, told, card), target / "weights", "dspmde")

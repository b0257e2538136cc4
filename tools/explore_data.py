"""Write what the live page in nbs/explore computes with, and the page in one file.

    python tools/explore_data.py            write the files whose content changed

data.json holds the ion table, physical constants, waters, elements and the measured mixtures with their measurements;
answer.json the membranes of load_model("nf270"). standalone.html opens by a double click: no server, no network. None
of the three is kept in the repository."""

import argparse
import base64
import json
import re
import sys
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ion_ode.core import E_CHARGE, EPS_0, K_B, LMH, R_GAS, T_REF, bar, nm, um
from ion_ode.data.design import water_types
from ion_ode.data.nf270 import load_nf270, load_solutions
from ion_ode.dspmde.charge_pH import _PH_KNOWN, PH_OF_CHARGES, ChargeByPH
from ion_ode.dspmde.membranes import NF270_WATERTAP, ChargeBinding, Freundlich, Membrane, membrane_table
from ion_ode.inference.answer import Answer, load_answer
from ion_ode.inference.discrepancy import ALIKE_Q, ALIKE_SHARES, MODEL, NOISE, NU
from ion_ode.inference.laws import NEUTRAL_PORE, PH_RANGE, REFERENCE_EQUIVALENTS
from ion_ode.module.channel import DENSITY, MIXING
from ion_ode.module.element import element_table, get_element
from ion_ode.module.plant import Plant
from ion_ode.plotting import ION_COLORS, ION_MARKERS
from ion_ode.store import asset, atomic_write
from ion_ode.water.ions import eps_water, get_ion, ion_label, viscosity_water

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "nbs" / "explore"
MODULES = (
    "dspmde.mjs", "answer.mjs", "water.mjs", "module.mjs", "chart.mjs", "widgets.mjs", "feed.mjs", "plant.mjs",
    "page.mjs",
)  # fmt: skip
NAMES = (
    "Na+", "K+", "Li+", "NH4+", "Cs+", "Mg+2", "Ca+2", "Sr+2", "Ba+2",
    "Cl-", "SO4-2", "NO3-", "HCO3-", "Br-", "F-", "I-", "ClO4-", "H2PO4-", "HPO4-2",
    "SiO2", "H3BO3", "NDMA", "erythritol", "xylose", "glucose",
)  # fmt: skip
OTHERS = ("#7a6a58", "#3d7068", "#8a5a7d", "#5b6b2f", "#a05c3b", "#4f5b8c", "#7d3f4a", "#6a6a6a")  # No own colour
# Mixtures measured on NF270: label and ions [mol/m³] as their salts dissolve, held against load_solutions()
MIXTURES = {
    "fdly_NaCl": ("NaCl with traces", {"Na+": 10.2, "NH4+": 0.2, "Cl-": 10.2, "NO3-": 0.2}),
    "fdly_MgCl2": ("MgCl₂ with traces", {"Na+": 0.2, "NH4+": 0.2, "Mg+2": 10, "Cl-": 20.2, "NO3-": 0.2}),
    "fdly_Na2SO4": ("Na₂SO₄ with traces", {"Na+": 20.2, "NH4+": 0.2, "Cl-": 0.2, "SO4-2": 10, "NO3-": 0.2}),
    "fdly_MgSO4": ("MgSO₄ with traces", {"Na+": 0.2, "NH4+": 0.2, "Mg+2": 10, "Cl-": 0.2, "SO4-2": 10, "NO3-": 0.2}),
    "foo_LMC_pH7": ("LiCl + MgCl₂ brine", {"Li+": 49, "Mg+2": 84.3, "Cl-": 217.6}),
}


def mixtures() -> list[dict]:
    "The measured mixtures, each with the measurements that have a flux."
    solutions, measured = load_solutions(), load_nf270()
    out = []
    for solution, (label, feed) in MIXTURES.items():
        rows = solutions[solutions.solution_id == solution]
        assert set(rows.ion) == set(feed), solution
        for r in rows.itertuples():  # the brine's chloride is reported 0.2 % below neutrality
            assert abs(r.c_feed_mol_m3 - feed[r.ion]) <= 0.002 * feed[r.ion], (solution, r.ion)
        points = measured[measured.solution_id == solution].sort_values(["ion", "flux_m_s"])
        first = points.iloc[0]
        number = lambda v: None if v != v else v
        out.append({
            "id": solution,
            "label": label,
            "feed": feed,
            "kind": first.kind,
            "doi": first.doi,
            "temperature": first.temperature_K,
            "points": [
                [p.ion, float(f"{p.flux_m_s:.6g}"), p.rejection, number(p.rejection_sd)] for p in points.itertuples()
            ],
        })  # fmt: skip
    return out


def waters() -> list[dict]:
    """Compositions of real waters, and the ion that closes the charge balance: bicarbonate where the source's was
    left out."""
    table, sources = water_types(), pd.read_csv(asset("water_types.csv")).groupby("water").source.first()
    out = []
    for w, row in table.iterrows():
        feed = {i: float(c) for i, c in row.items() if c > 0 and i in NAMES}
        lacks = "HCO3" in sources[w]
        close = {"HCO3-": 0.0} if lacks else {}
        out.append({"id": w, "label": w[0].upper() + w[1:], "feed": feed | close, "close": "HCO3-" if lacks else "Cl-"})
    return out


def modules() -> dict:
    "Elements, how their spacer stirs, and the pump."
    keep = ("area", "length", "section", "hydraulic_diameter", "max_pressure", "max_pressure_drop", "max_feed_flow")
    return {
        "elements": {n: {k: getattr(get_element(n), k) for k in keep} for n in element_table().name},
        "mixing": {k: v for k, v in asdict(MIXING["schock_miquel"]).items() if k != "source"},
        "density": DENSITY,
        "pumpEfficiency": Plant().pump_efficiency,
    }


def data() -> dict:
    "Everything the pore model and the controls of the page need."
    row = membrane_table().set_index("name").loc["NF270-watertap"]
    ion = lambda i: {
        "z": i.z, "D_bulk": i.D_bulk, "r_stokes": i.r_stokes, "mass": i.molar_mass, "label": ion_label(i.name),
        "color": ION_COLORS.get(i.name) or OTHERS[NAMES.index(i.name) % len(OTHERS)],
        "marker": ION_MARKERS.get(i.name, "X"),
    }  # fmt: skip
    m = NF270_WATERTAP
    return {
        "constants": {
            "elementaryCharge": E_CHARGE, "vacuumPermittivity": EPS_0, "boltzmann": K_B, "gasConstant": R_GAS,
            "temperature": T_REF, "epsBulk": float(eps_water(T_REF)), "viscosity": float(viscosity_water(T_REF)),
            "LMH": LMH, "bar": bar, "nm": nm, "um": um,
        },
        "ions": {n: ion(get_ion(n)) for n in NAMES},
        "membrane": {
            "r_pore": m.r_pore, "thickness": m.thickness, "charge_density": m.charge_density, "eps_pore": m.eps_pore,
            "permeability": m.permeability, "source": row.source, "doi": row.doi,
        },
        "mixtures": mixtures(),
        "waters": waters(),
        "module": modules(),
    }  # fmt: skip


def membrane_json(m: Membrane) -> dict:
    "A membrane as dspmde.mjs reads it."
    number = lambda v: float(torch.as_tensor(v))

    def law(x):
        if isinstance(x, ChargeBinding):
            kappa = number(x.saturation)
            return {
                "base": law(x.base),
                "shifts": {k: number(v) for k, v in x.shifts.items()},
                "growth": number(x.growth),
                "saturation": kappa if np.isfinite(kappa) else None,
            }
        return {"a": number(x.a), "b": number(x.b)} if isinstance(x, Freundlich) else number(x)

    return {
        "r_pore": number(m.r_pore),
        "thickness": number(m.thickness),
        "charge_density": law(m.charge_density),
        "eps_pore": number(m.eps_pore),
        "permeability": None if m.permeability is None else number(m.permeability),
        "ln_partition": {k: number(v) for k, v in (m.ln_partition or {}).items()},
    }


def trust() -> dict:
    "Share of held-out values that the intervals held, as measured."
    reached = (
        pd.read_csv(asset("answers/aims.csv"))
        .assign(measure=lambda d: d.measure.str.strip())
        .set_index("measure")
        .reached
    )
    return {
        "compositions": float(reached["coverage over held-out compositions"]),
        "sources": float(reached["over held-out sources"]),
        "worst": float(reached["worst of either"]),
    }


def answer_json(answer: Answer) -> dict:
    "A sample of membranes in SI, as answer.mjs reads it."
    packed = lambda v: base64.b64encode(np.ascontiguousarray(v, dtype="<f8").tobytes()).decode()
    p, laws = answer.prior, {f.name: answer.laws[:, k] for k, f in enumerate(fields(ChargeByPH))}
    return {
        "name": answer.card["name"],
        "values": answer.card["values"],
        "sources": answer.card["sources"],
        "ranges": answer.card["ranges"],
        "prior": {"film": p.film, "permeability": p.permeability, "within": p.within},
        "reference": REFERENCE_EQUIVALENTS,
        "pH": PH_RANGE,
        "acidity": {"reference": PH_OF_CHARGES, "known": _PH_KNOWN},
        "neutral": NEUTRAL_PORE,
        "unit": LMH / bar,
        "trust": trust(),
        "columns": {k: packed(v) for k, v in {**answer.parameters.drop(columns="law"), **laws}.items()},
        "coupon": [packed(v) for v in answer.coupon.T],
        "errors": {"noise": NOISE, "model": MODEL, "nu": NU, "alikeQ": ALIKE_Q, "alikeShares": ALIKE_SHARES},
    }


def module_text(name: str) -> str:
    "A module without its imports and exports, so that all of them fit in one script."
    text = (HERE / name).read_text(encoding="utf-8")
    text = re.sub(r"^import [^;]*;\n", "", text, flags=re.M)
    return re.sub(r"^export (?=(?:async )?(?:function\*?|const|class|let) )", "", text, flags=re.M)


def standalone(files: dict[str, str]) -> str:
    "The page in one file."
    safe = lambda text: text.replace("</", "<\\/")
    blocks = "\n".join(
        f'<script type="application/json" data-file="{name}">{safe(text)}</script>' for name, text in files.items()
    )
    code = "\n".join(f"// --- {name}\n{module_text(name)}" for name in MODULES)
    css = (HERE / "explore.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>NF270: rejection of every ion</title>
<style>
{css}
</style>
</head>
<body class="ion-explore-alone">
<main>
<h1>What NF270 rejects, and how sure that is</h1>
<div id="ion-explore" class="ion-explore">
<noscript>This page computes in the browser and needs JavaScript.</noscript></div>
</main>
{blocks}
<script type="module">
{safe(code)}
mount(document.getElementById("ion-explore"));
</script>
</body>
</html>
"""


def compact(x) -> str:
    return json.dumps(x, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def build() -> dict[str, str]:
    "Content of every generated file."
    files = {"data.json": compact(data()), "answer.json": compact(answer_json(load_answer("nf270")))}
    return files | {"standalone.html": standalone(files)}


def main() -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for name, text in build().items():
        path = HERE / name
        same = path.exists() and path.read_text(encoding="utf-8") == text
        if not same:
            atomic_write(path, text)
        print(f"{name}: {len(text.encode()) / 1000:.1f} kB, {'as it was' if same else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

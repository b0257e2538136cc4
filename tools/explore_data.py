"""Write what the live page in nbs/explore computes with, from the package: data.json, and standalone.html with all in one file.

    python tools/explore_data.py            write the files whose content changed
    python tools/explore_data.py --check    write nothing; exit status 1 if a file is not what the package gives

data.json holds the ion table, physical constants, the salts, the NF270_WATERTAP membrane and the measured mixtures with their
measurements. standalone.html opens by a double click: no server, no network.
"""

import argparse
import base64
import json
import re
import sys
from itertools import product
from math import gcd
from pathlib import Path

import torch

from ion_ode.attention_odenet.ode import K_WARP
from ion_ode.core import E_CHARGE, EPS_0, K_B, LMH, R_GAS, T_REF, bar, nm, um
from ion_ode.data.nf270 import load_nf270, load_solutions
from ion_ode.dspmde.membranes import NF270_WATERTAP, ChargeBinding, Freundlich, Membrane, membrane_table
from ion_ode.dspmde.prior import membrane_from_parameters, parameter_names
from ion_ode.plotting import ION_COLORS, ION_MARKERS
from ion_ode.stats import conformal_quantile
from ion_ode.store import atomic_write
from ion_ode.water.ions import IONS, eps_water, get_ion, ion_label, viscosity_water

ROOT = Path(__file__).resolve().parents[1]
HERE, ASSETS = ROOT / "nbs" / "explore", ROOT / "ion_ode" / "assets"
MODULES = ("dspmde.mjs", "network.mjs", "chart.mjs", "page.mjs")
# The eight ions, and ammonium, which every mixture of fdly2021 holds
NAMES = (*IONS[:5], "NH4+", *IONS[5:])
# Measured mixtures as the salts they were made from [mol/m³]; held against the ion concentrations of load_solutions().
RECIPES = {
    "fdly_NaCl": {"NaCl": 10, "NaNO3": 0.2, "NH4Cl": 0.2},
    "fdly_MgCl2": {"MgCl2": 10, "NaNO3": 0.2, "NH4Cl": 0.2},
    "fdly_Na2SO4": {"Na2SO4": 10, "NaNO3": 0.2, "NH4Cl": 0.2},
    "fdly_MgSO4": {"MgSO4": 10, "NaNO3": 0.2, "NH4Cl": 0.2},
    "foo_LMC_pH7": {"LiCl": 49, "MgCl2": 84.3},
}


def salts() -> dict:
    "Every neutral salt of one cation and one anion of the page: its label and what it dissolves into."
    out = {}
    cations, anions = [n for n in NAMES if get_ion(n).z > 0], [n for n in NAMES if get_ion(n).z < 0]
    formula = lambda n: re.match(r"[A-Za-z0-9]+?(?=[+-])", n).group()
    many = lambda f, n: f if n == 1 else f"({f}){n}" if re.search(r"[A-Z].*[A-Z0-9]", f) else f"{f}{n}"
    for c, a in product(cations, anions):
        zc, za = get_ion(c).z, -get_ion(a).z
        share = gcd(zc, za)
        nc, na = za // share, zc // share
        name = many(formula(c), nc) + many(formula(a), na)
        label = re.sub(r"\d", lambda m: "₀₁₂₃₄₅₆₇₈₉"[int(m.group())], name)
        out[name] = {"label": label, "ions": {c: nc, a: na}}
    return out


def mixtures(table: dict) -> list[dict]:
    "The measured mixtures, each with its recipe and the measurements that have a flux."
    solutions, measured = load_solutions(), load_nf270()
    out = []
    for solution, recipe in RECIPES.items():
        feed = {}
        for salt, amount in recipe.items():
            for ion, n in table[salt]["ions"].items():
                feed[ion] = feed.get(ion, 0.0) + n * amount
        rows = solutions[solutions.solution_id == solution]
        assert set(rows.ion) == set(feed), solution
        for r in rows.itertuples():  # the brine's chloride is reported 0.2 % below neutrality
            assert abs(r.c_feed_mol_m3 - feed[r.ion]) <= 0.002 * feed[r.ion], (solution, r.ion)
        points = measured[measured.solution_id == solution].sort_values(["ion", "flux_m_s"])
        first = points.iloc[0]
        out.append({
            "id": solution,
            "label": " + ".join(table[s]["label"] for s in recipe),
            "salts": recipe,
            "kind": first.kind,
            "doi": first.doi,
            "temperature": first.temperature_K,
            "points": [
                [p.ion, float(f"{p.flux_m_s:.6g}"), p.rejection, None if p.rejection_sd != p.rejection_sd else p.rejection_sd]
                for p in points.itertuples() if p.ion in NAMES
            ],
        })  # fmt: skip
    return out


def data(network: bool = False) -> dict:
    "Everything the pore model and the controls of the page need."
    table = salts()
    row = membrane_table().set_index("name").loc["NF270-watertap"]
    ions = {}
    for n in NAMES:
        i = get_ion(n)
        ions[n] = {
            "z": i.z,
            "D_bulk": i.D_bulk,
            "r_stokes": i.r_stokes,
            "label": ion_label(n),
            "color": ION_COLORS[n],
            "marker": ION_MARKERS[n],
        }
    return {
        "constants": {
            "elementaryCharge": E_CHARGE, "vacuumPermittivity": EPS_0, "boltzmann": K_B, "gasConstant": R_GAS,
            "temperature": T_REF, "epsBulk": float(eps_water(T_REF)), "viscosity": float(viscosity_water(T_REF)),
            "LMH": LMH, "bar": bar, "nm": nm, "um": um,
        },
        "ions": ions,
        "salts": table,
        "membrane": {
            "name": "NF270", "r_pore": NF270_WATERTAP.r_pore, "thickness": NF270_WATERTAP.thickness, "charge_density": NF270_WATERTAP.charge_density,
            "eps_pore": NF270_WATERTAP.eps_pore, "permeability": NF270_WATERTAP.permeability, "source": row.source, "doi": row.doi,
        },
        "mixtures": mixtures(table),
        "network": "network.json" if network else None,
    }  # fmt: skip


def network_json(members, **more) -> dict:
    "Networks of one configuration with their weights, as network.mjs reads them."
    first = members[0]
    encoder = first.field.encoder
    packed = lambda t: base64.b64encode(t.detach().cpu().numpy().astype("<f4").tobytes()).decode()
    return {
        "config": first.config.to_dict(),
        "k_warp": K_WARP,
        "z": encoder.z.tolist(),
        "features": encoder.features.tolist() if hasattr(encoder, "features") else None,
        "members": [
            {
                "n_steps": m.n_steps,
                "constraint": {
                    "name": m.constraint.name,
                    "strength": float(getattr(m.constraint, "strength", 1.0)),
                    "by": getattr(m.constraint, "by", None),
                },
                "tensors": {k: {"shape": list(v.shape), "data": packed(v)} for k, v in m.named_parameters()},
            }
            for m in members
        ],
        **more,
    }


def membrane_json(m: Membrane) -> dict:
    "A membrane as dspmde.mjs reads it."
    number = lambda v: float(torch.as_tensor(v))

    def law(x):
        if isinstance(x, ChargeBinding):
            return {"base": law(x.base), "shifts": {k: number(v) for k, v in x.shifts.items()}}
        return {"a": number(x.a), "b": number(x.b)} if isinstance(x, Freundlich) else number(x)

    return {
        "r_pore": number(m.r_pore),
        "thickness": number(m.thickness),
        "charge_density": law(m.charge_density),
        "eps_pore": number(m.eps_pore),
        "permeability": None if m.permeability is None else number(m.permeability),
        "ln_partition": {k: number(v) for k, v in (m.ln_partition or {}).items()},
    }


def predictor_json(predictor, level: float = 0.9) -> dict:
    "A trained model with all that its predictions depend on."
    from ion_ode.attention_odenet.pore_field import FLUX_TOLD

    config, ensemble = predictor.config, predictor.ensemble
    out = network_json(
        [ensemble.member(m) for m in range(len(ensemble))],
        name=predictor.card.get("name"),
        told=config.told,
        flux_told=FLUX_TOLD,
        interval={"level": level, "half_width": conformal_quantile(predictor.card["errors"], level)},
        ranges=predictor.card["ranges"],
    )
    for m, member in enumerate(out["members"]):
        member["membrane"] = None
        if predictor.parameters is not None:
            ions = config.network.ions
            row = predictor.parameters[m : m + 1].double()
            member["membrane"] = membrane_json(
                membrane_from_parameters(row, parameter_names(config.family, ions), ions)
            )
    return out


def shipped_network() -> dict | None:
    "The model that ships with the package, if it does: without it the page shows the pore model alone."
    if not (ASSETS / "weights" / "nf270-network.json").exists():
        return None
    from ion_ode.training.predictor import load_model

    return predictor_json(load_model("nf270-network"))


def module_text(name: str) -> str:
    "A module without its imports and exports, so that all of them fit in one script."
    text = (HERE / name).read_text(encoding="utf-8")
    text = re.sub(r"^import [^;]*;\n", "", text, flags=re.M)
    return re.sub(r"^export (?=(?:async )?(?:function|const|class|let) )", "", text, flags=re.M)


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
<title>Explore NF270_WATERTAP rejection</title>
<style>
{css}
</style>
</head>
<body class="ion-explore-alone">
<main>
<h1>Rejection of every ion by NF270</h1>
<div id="ion-explore" class="ion-explore"><noscript>This page computes in the browser and needs JavaScript.</noscript></div>
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
    network = shipped_network()
    files = {"data.json": compact(data(network is not None))}
    if network:
        files["network.json"] = compact(network)
    return files | {"standalone.html": standalone(files)}


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--check", action="store_true", help="compare only")
    a = p.parse_args()
    stale = 0
    for name, text in build().items():
        path = HERE / name
        same = path.exists() and path.read_text(encoding="utf-8") == text
        stale += not same
        if not (same or a.check):
            atomic_write(path, text)
        print(
            f"{name}: {len(text.encode()) / 1000:.1f} kB, {'as it was' if same else 'NOT what the package gives' if a.check else 'written'}"
        )
    return bool(a.check and stale)


if __name__ == "__main__":
    sys.exit(main())

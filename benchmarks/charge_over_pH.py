"""NaCl over pH with its source held out: what was tried beside the law that ships

    OMP_NUM_THREADS=1 python benchmarks/charge_over_pH.py [--store]   # five minutes; the tables that my_water shows

The law is fitted on the other source over pH (mixtures of anions, four coupons), the membranes have not seen the
source that is asked: 24 states of NaCl on NF270, pH 3.5 to 10.5, 2 and 20 mol/m3, 10 and 110 to 170 L/m2/h. What
ships is asked by `predict`, each membrane with a law drawn from all that the other source leaves open; its likeliest
law for all of them, and the variants, through `asked` below:
- one film for all coupons of the source that teaches (its misfit there is larger);
- the pressure of one of its coupons as the compilation has it, 80 kPa, not 80 psi;
- the pK of an aromatic polyamide in the prior: 5.23, 8.97, amine 4.74 (Coronell et al. 2008, 10.1021/es8002712);
- a second piperazine membrane beside (DK, NaCl 10 mol/m3, pH 3.1 to 9.8, the same compilation), its pore radius,
  thickness, charge, film and permeability free;
- sites that meet the pH of the pore: the bulk's and the Donnan potential at the mouth, with the pore model's partition
  (its misfit on the source that teaches is larger, so that it is not scored) or none;
- the film of the mass transfer coefficient that the source states, 100 L/m2/h: 58 um for NaCl;
- films within a factor of 1.2 of the median, where the law is taught and where it is asked (ln evidence -8 where it is
  taught; no source but the one held out states a mass transfer coefficient);
- the ions of added acid or base in the feeds, where the law is taught and where it is asked.

Where its limit lies, none of it chosen by the 24 states:
- `coupons`: log predictive density of every coupon of the mixtures by the law of the others, over the spread of pK;
- `follows`: what follows the pH beside the charge, log evidence on the mixtures and on DK, which was asked at 1 to 130
  L/m2/h, beside that of a charge that follows alone (Laplace's method): thickness, partition, permittivity, pore
  radius or exponent of the concentration; a share of the charge that stays; acids that do not grow with the
  concentration as adsorbed ions do; and two layers, stronger acids in the first half alone, weaker acids and amines in
  both, as the titrations of Ritt et al. have them. The law of each is asked of NaCl once;
- `readings`: what `predict` says of Na+, Cl- and the conductivity with the ions of acid or base in the feed. The
  authors' workbook heads the readings at 10 L/m2/h "Conc", and those of the feeds of 2 mol/m3 stay between 22.7 and
  25.2, where added acid would raise a conductivity by half: NaCl is scored as Na+;
- `fitted`: the smallest error that the law has on the 24 states when it is fitted on them;
- `told`: what `predict` says of the other states once `calibrate` is told some of them.
"""

import argparse
import json
from dataclasses import astuple, replace
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from layers import layer_passages
from scipy.optimize import brentq
from scipy.special import logsumexp

import ion_ode
from ion_ode.core import LMH, T_REF, bar
from ion_ode.dspmde.charge_pH import PH_OF_CHARGES, ChargeByPH, charge_factor
from ion_ode.dspmde.entry import born_energy, partition_steric
from ion_ode.inference import acidity
from ion_ode.inference.acidity import OverPH, measured_over_pH, predicted_over_pH
from ion_ode.inference.answer import load_answer
from ion_ode.inference.laws import REFERENCE_EQUIVALENTS
from ion_ode.inference.pores import passages
from ion_ode.inference.rows import _all_rows, osmotic_at_bulk
from ion_ode.store import atomic_write, provenance
from ion_ode.water.ions import EPS_REF, get_ion

STORED = Path(ion_ode.__file__).parent / "assets" / "charge_over_pH.json"
FT30 = np.array([5.23, 2.0, 8.97, 0.5, 4.74])  # pK of Coronell et al., amounts of the prior that ships
OTHER = np.array([1.0, 0.2, 0.15])  # Sd of the logarithms of another membrane's thickness, permeability, pore radius
# Sd of two numbers, below and above neutral: slopes a unit of pH, the last two without a unit
FOLLOWS = {"thickness": 0.5, "partition": 0.5, "permittivity": 3.0, "pore radius": 0.1, "exponent": 0.2}
FOLLOWS |= {"share that stays": 0.5, "acids without adsorption": 0.5}
LAYER = 0.5  # Share of the layer with the stronger acids; .25 and .1 have less evidence on mixtures and on DK
FILM = 0.2  # Sd of the logarithm of a film that a source would state by its mass transfer coefficient
SALT = {"Na+": 10.0, "Cl-": 10.0}


def rising(R: np.ndarray) -> list[int]:
    "The longest run of rejections that rises with the flux: what leaves it was read from another curve."
    runs: list[list[int]] = []
    for k, r in enumerate(R):
        runs.append(max((run for run in runs if R[run[-1]] < r), key=len, default=[]) + [k])
    return max(runs, key=len)


def second_membrane() -> OverPH:
    "DK, sodium chloride; values that stand at two pH in the compilation or leave their curve are left out."
    d = _all_rows()
    d = d[(d.coupon == "jeong2023/324") & (d.ion == "Na+")]
    d = d[~d.duplicated("rejection", keep=False)].sort_values(["pH", "pressure_Pa"])
    d = d.iloc[np.concatenate([i[rising(d.rejection.to_numpy()[i])] for i in d.groupby("pH").indices.values()])]
    osmotic = np.array([osmotic_at_bulk(SALT, dict.fromkeys(SALT, r), T_REF) for r in d.rejection])
    flux = 5.3 * LMH / bar * np.maximum(d.pressure_Pa - osmotic, 0.1 * bar)
    n = np.arange(len(d))
    c = np.full((len(d), 2), 10.0)
    at = d.pH.to_numpy(), np.zeros(len(d), int)
    return OverPH(("Cl-", "Na+"), c, flux.to_numpy(), *at, 0.8, n, np.ones(len(d), int), d.rejection.to_numpy())


def potential(a, z, X):
    "Donnan potential of concentrations (n, ion) as they partition and a fixed charge (n,), by bisection."
    low, high = np.full(len(X), -40.0), np.full(len(X), 40.0)
    for _ in range(45):
        mid = 0.5 * (low + high)
        up = (z * a * np.exp(-z * mid[:, None])).sum(1) + X > 0
        low, high = np.where(up, mid, low), np.where(up, high, mid)
    return 0.5 * (low + high)


def at_pore_pH(law, pH, membrane, offset, wide, ions, partition: bool):
    "Fixed charge whose sites meet the pH of the pore; that of `PH_OF_CHARGES` is the membrane's."
    z, r = (np.array([getattr(get_ion(i), k) for i in ions], float) for k in ("z", "r_stokes"))
    born = born_energy(z, r, membrane["eps_pore"][:, None], EPS_REF, T_REF)
    enter = partition_steric(np.clip(r / membrane["r_pore"][:, None], 0, 0.99)) * np.exp(offset - born)
    a, X0 = wide * (enter if partition else 1.0), membrane["charge"]
    sites = X0 / law.net(PH_OF_CHARGES + potential(a, z, X0) / np.log(10))
    low, high = np.full(len(X0), -5000.0), np.full(len(X0), 5000.0)
    for _ in range(40):  # more charge lowers the pH of the pore, so that there is one root
        X = 0.5 * (low + high)
        below = X < sites * law.net(pH + potential(a, z, X) / np.log(10))
        low, high = np.where(below, X, low), np.where(below, high, X)
    return 0.5 * (low + high)


def charged_layers(law: ChargeByPH, pH) -> np.ndarray:  # (layer, state) over the charge near neutral
    "Charges of a layer with all sites and of one without the stronger acids; law: numbers (state,)."
    inner = law.net(pH) + 1 / (1 + 10 ** (law.pK_1 - pH))
    return np.stack([law.net(pH) * _as_without_layers(), inner]) / law.net(PH_OF_CHARGES)


@lru_cache(maxsize=1)
def _as_without_layers() -> float:
    "Factor of the first layer's charge with which the answer rejects NaCl near neutral as without layers."
    few, flux = load_answer("without-ritt2020").thinned(6), np.full(6, 50 * LMH)
    wide, m, offset, thick, _ = few._problem(tuple(SALT), np.array([list(SALT.values())]), "observed", None, T_REF)
    through = lambda *charge: layer_passages(
        tuple(SALT), wide, flux, m, offset, thick, m["thickness"][:, None] * [LAYER, 1 - LAYER],
        m["charge"][:, None] * charge,
    )[:, 0].mean()  # fmt: skip
    return brentq(lambda f: through(f, 1e-3) - through(1.0, 1.0), 0.5, 20.0)


def asked(
    s: OverPH,
    answer,
    law: ChargeByPH,
    coupon=None,  # Factors of charges and films, shifts of pK
    own=(1.0, 1.0, 1.0),  # Factors of thickness, permeability, pore
    pore=None,  # Whether the sites meet the pH of the pore, with its partition (True) or none
    film=None,
    follows=None,  # Name in `FOLLOWS` or "layers", and its two numbers
) -> np.ndarray:
    "Mean rejections."
    wide, m, offset, thick, T = answer._problem(s.ions, s.c_feed, "observed", film, T_REF)
    n, (factor, films, acids) = len(answer), (1.0, 1.0, 0.0) if coupon is None else (f[s.coupon] for f in coupon)
    law = replace(law, pK_1=law.pK_1 + acids)
    m = m | {"thickness": m["thickness"] * own[0], "r_pore": m["r_pore"] * own[2]}
    what, *two = follows or ("nothing", 0.0, 0.0)
    side, concentration = np.where(s.pH < PH_OF_CHARGES, *two), np.abs(s.c_feed).sum(1) / 2 / REFERENCE_EQUIVALENTS
    more, follow = np.tile(side * np.abs(s.pH - PH_OF_CHARGES), n), charge_factor(s.pH, law=law)
    m["thickness"] = m["thickness"] * np.exp(more * (what == "thickness"))
    m["eps_pore"] = m["eps_pore"] + more * (what == "permittivity")
    m["r_pore"] = m["r_pore"] * np.exp(more * (what == "pore radius"))
    offset = offset + (more * (what == "partition"))[:, None]
    m["charge"] = m["charge"] * np.tile(factor * np.ones(len(s.pH)), n)
    m["charge"] = m["charge"] * np.tile(concentration, n) ** (more * (what == "exponent"))
    if pore is None:
        grown = np.log(concentration) * answer.parameters.b.to_numpy()[:, None]  # ln, as adsorption makes it
        alone = np.exp(-side * (what == "acids without adsorption") * grown) * (1 - side * (what == "share that stays"))
        near, m["charge"] = m["charge"], m["charge"] * (1 + (follow - 1) * alone).ravel()
    else:
        law = replace(law, pK_1=np.tile(law.pK_1 * np.ones(len(s.pH)), n))
        m["charge"] = at_pore_pH(law, np.tile(s.pH, n), m, offset, wide, s.ions, pore)
    J, thick = np.tile(s.flux * own[1], n)[:, None], thick * (s.film if film is None else 1.0)
    thick = np.clip(thick * np.tile(films * np.ones(len(s.pH)), n), 1e-7, 2e-4)
    if what == "layers":
        apart = near[:, None] * np.tile(charged_layers(law, s.pH), n).T, m["thickness"][:, None] * [LAYER, 1 - LAYER]
        through = layer_passages(s.ions, wide, J[:, 0], m, offset, thick, *apart[::-1])
    else:
        through = passages(s.ions, wide, J, m, offset, thick, T, 1e-3)[0][:, 0]
    return 1 - np.nanmean(through.reshape(n, len(s.pH), -1), 0)[s.state, s.ion]


def fitted(
    sources: list[OverPH],
    answer,
    prior=acidity._PRIOR,
    others=(),  # Places of sources that asked another membrane
    pore=None,
    films=True,
    coupons=True,  # Whether a coupon has numbers of its own
    follows=None,
    noise=acidity._NOISE,
    start=None,  # Law to set out from; None: the prior
) -> tuple[ChargeByPH, list[float], float, tuple | None]:
    "Likeliest law as `fit_charge` finds it, with variants; misfit of each source, ln evidence, what follows beside it."
    sizes = [s.coupon.max() + 1 for s in sources]
    widths = [acidity._WIDTH, np.full(2, FOLLOWS.get(follows, 1e-6))]
    for k, (s, n) in enumerate(zip(sources, sizes, strict=True)):
        film = acidity._FILM[s.film < 1] if films else 1e-6
        own = np.repeat([acidity._COUPON, film, acidity._ACIDS], n) if coupons else np.full(3 * n, 1e-6)
        widths += [own, OTHER if k in others else np.full(3, 1e-6)]
    ends, scale = np.cumsum([len(w) for w in widths])[:-1], np.concatenate(widths)

    def misses(x):
        law, slopes, *parts = np.split(x, ends)
        for s, n, c, own in zip(sources, sizes, parts[::2], parts[1::2], strict=True):
            coupon, more = (*np.exp(c[: 2 * n]).reshape(2, n), c[2 * n :]), follows and (follows, *slopes)
            yield np.nan_to_num(asked(s, answer, ChargeByPH(*law), coupon, np.exp(own), pore, None, more), nan=2.0)

    middle = np.concatenate([prior, np.zeros(len(scale) - 5)])
    off = lambda x: np.concatenate(
        [(x - middle) / scale, *((R - s.rejection) / noise for R, s in zip(misses(x), sources, strict=True))]
    )
    found = acidity._likeliest(off, scale[5:], prior if start is None else np.array(astuple(start)))
    wide = found.jac * scale  # in units of the prior's standard deviations
    evidence = -found.cost - 0.5 * np.linalg.slogdet(wide.T @ wide)[1]
    misfit = [float(np.sqrt(np.mean((R - s.rejection) ** 2))) for R, s in zip(misses(found.x), sources, strict=True)]
    return ChargeByPH(*map(float, found.x[:5])), misfit, float(evidence), follows and (follows, *found.x[5:7])


def of_coupon(s: OverPH, kept) -> OverPH:
    "The values of some coupons of a source."
    state = np.isin(s.coupon, kept)
    row, place = state[s.state], np.cumsum(state) - 1
    each = {k: getattr(s, k)[state] for k in ("c_feed", "flux", "pH")}
    each |= {"coupon": np.unique(s.coupon[state], return_inverse=True)[1], "state": place[s.state[row]]}
    return replace(s, **each, **{k: getattr(s, k)[row] for k in ("ion", "rejection")})


def left_out(s: OverPH, answer, sd: float, sweeps: int = 600) -> float:
    "Log predictive density of every coupon by laws that the others leave open, `sd` the spread of pK between them."
    ln_charge = np.linspace(-1.5, 1.5, 41)
    ln_film = np.clip(np.linspace(-1.75, 1.75, 25), *np.log(acidity._FILMS[[0, -1]]))
    prior = -0.5 * ((ln_charge[:, None] / acidity._COUPON) ** 2 + (ln_film / acidity._FILM[1]) ** 2)
    total, n = 0.0, s.coupon.max() + 1
    for k in range(n):
        with patch.object(acidity, "_ACIDS", sd):
            laws, _ = acidity.draw_charge([of_coupon(s, [c for c in range(n) if c != k])], answer, sweeps)
        new, like = of_coupon(s, [k]), []
        tables = acidity._tabulated(new, answer)
        for law in laws[::2]:
            charge = charge_factor(new.pH, law=ChargeByPH(*law))[new.state, None] * np.exp(ln_charge)
            R = [t.ev(*np.broadcast_arrays(ln_film, np.arcsinh(4 * q)[:, None])) for t, q in zip(tables, charge)]
            miss = (np.moveaxis(R, 0, -1) - new.rejection) / acidity._NOISE
            like.append(logsumexp(prior - logsumexp(prior) - 0.5 * (miss**2).sum(-1)))
        total += logsumexp(like) - np.log(len(like)) - len(new.state) * np.log(acidity._NOISE * np.sqrt(2 * np.pi))
    return float(total)


def with_acid(s: OverPH) -> OverPH:
    "Feeds with the ions of the acid or base that set their pH: HCl, NaOH."
    ions = (*s.ions, "H+", "OH-")
    more = np.stack([10 ** (3 - s.pH), 10 ** (s.pH - 11)], 1)
    c = np.column_stack([s.c_feed, more])
    c[:, [ions.index("Cl-"), ions.index("Na+")]] += np.maximum(more - more[:, ::-1], 0)
    return replace(s, ions=ions, c_feed=c)


def readings(rows: OverPH, answer) -> dict:  # Name -> error (value,)
    "What `predict` says of Na+, Cl- and the conductivity with the ions of acid or base in the feed."
    s = with_acid(rows)
    t = answer.predict(s.c_feed, s.flux[:, None], ions=s.ions, pH=s.pH)
    of_ion = {i: t[t.ion == i].set_index("sample").rejection[s.state].to_numpy() for i in ("Na+", "Cl-")}
    t = t.assign(conducts=t.ion.map(lambda i: get_ion(i).D_bulk))
    before, after = ((t.conducts * t[k]).groupby(t["sample"]).sum() for k in ("c_feed", "c_perm"))
    return {
        k: v - s.rejection for k, v in (of_ion | {"conductivity": (1 - after / before)[s.state].to_numpy()}).items()
    }


def told(rows: OverPH, answer, some) -> dict:
    "What `predict` says of NaCl once `calibrate` knows some of its states."
    values = {"sample": [f"{c:g}" for c in rows.c_feed[some, 0]], "flux [LMH]": rows.flux[some] / LMH}
    values |= {f"{i} [mM]": rows.c_feed[some, k] for k, i in enumerate(rows.ions)}
    own = answer.calibrate(pd.DataFrame(values | {"Na+ rejection": rows.rejection[some], "pH": rows.pH[some]}))
    R, low, high = predicted_over_pH(rows, own)
    asked_of = ~some if not some.all() else some
    inside, film = (low <= rows.rejection) & (rows.rejection <= high), [t for t in own.card["taught"] if "film" in t]
    error = lambda which: float(np.sqrt(np.mean((R - rows.rejection)[which] ** 2)))
    counts = {"told": int(some.sum()), "asked": int(asked_of.sum()), "covered": float(inside[asked_of].mean())}
    return counts | {"RMSE": error(asked_of), "RMSE, all": error(slice(None)), "film": film[0]}


def limits(rows: OverPH, other: OverPH, answer) -> dict:
    "Where the limit of the law lies, by name."
    few, dk, out = answer.thinned(6), second_membrane(), {}
    out["fitted on NaCl itself"] = {
        name: fitted([rows], few, noise=0.004, **how)[1][0]
        for name, how in {"law": {"films": False, "coupons": False}, "law and coupon": {}}.items()
    }
    for name, sources, others in (("mixtures", [other], ()), ("DK", [dk], (0,))):
        alone = fitted(sources, few, others=others)
        more = {k: fitted(sources, few, others=others, follows=k, start=alone[0]) for k in (*FOLLOWS, "layers")}
        out[f"{name}, more than the charge follows, ln evidence"] = {k: v[2] - alone[2] for k, v in more.items()}
        out[f"{name}, misfit of the law"] = alone[1][0]
        if not others:
            off = {k: asked(rows, answer, v[0], follows=v[3]) - rows.rejection for k, v in more.items()}
            out["NaCl, more than the charge follows, RMSE"] = {k: float(np.sqrt(np.mean(e**2))) for k, e in off.items()}
    near, every = (rows.pH > 6.4) & (rows.pH < 7), np.full(len(rows.pH), True)
    out["told"] = {name: told(rows, answer, i) for name, i in {"near neutral": near, "all": every}.items()}
    out["coupons left out, log density by the sd of pK"] = {
        f"{sd:g}": left_out(other, few, sd) for sd in (0.05, 0.2, 0.3, 0.4, 0.7)
    }
    return out


def main():
    of = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    of.add_argument("--store", action="store_true", help=f"write the table to assets/{STORED.name}")
    store, errors = of.parse_args().store, {}
    answer, rows, other = load_answer("without-ritt2020"), measured_over_pH("ritt2020"), measured_over_pH("jeong2023")
    few, fast = answer.thinned(6), rows.flux > 1e-5
    with patch.dict(acidity._PRESSURES, clear=True):
        compiled = measured_over_pH("jeong2023")
    rmse = lambda e: float(np.sqrt(np.mean(e**2)))
    of_flux = lambda e: {"all": rmse(e), "fast": rmse(e[fast]), "slow": rmse(e[~fast])}
    R, low, high = predicted_over_pH(rows, answer)
    inside = (low <= rows.rejection) & (rows.rejection <= high)
    errors["as it ships"] = of_flux(R - rows.rejection) | {"covered": float(inside.mean())}
    print(f"as it ships: {errors['as it ships']}, width {np.mean(high - low):.3f}", flush=True)
    for name, off in readings(rows, answer).items():
        errors[f"as it ships, {name} with acid or base"] = of_flux(off)
    variants = {"likeliest law": {}, "pK of FT30": {"prior": FT30}, "DK beside": {"others": (1,)}}
    variants |= {"pH of the pore, partitioned": {"pore": True}, "pH of the pore": {"pore": False}}
    variants |= {"one film": {"films": False}, "80 kPa": {}, "acid in the feeds": {}, "stated films": {}}
    sources = {"80 kPa": [compiled], "DK beside": [other, second_membrane()], "acid in the feeds": [with_acid(other)]}
    narrow = replace(answer, coupon=answer.coupon * np.where(np.arange(5) == 2, FILM / answer.prior.film[1], 1.0))
    for name, options in variants.items():
        spread = (FILM, FILM) if name == "stated films" else acidity._FILM
        with patch.object(acidity, "_FILM", spread):
            law, (misfit, *_), evidence, _ = fitted(sources.get(name, [other]), few, **options)
        print(f"{name}: misfit where it was taught {misfit:.3f}, ln evidence {evidence:.2f}, {law}", flush=True)
        if "partitioned" in name:
            continue
        asks = with_acid(rows) if "acid" in name else rows
        for film in (None, 58e-6) if name in ("likeliest law", "80 kPa") else (None,):
            whom = narrow if name == "stated films" else answer
            off = asked(asks, whom, law, pore=options.get("pore"), film=film) - rows.rejection
            said = name if film is None else f"{name}, film of 58 um"
            errors[said] = of_flux(off) | {"misfit where it was taught": misfit, "ln evidence": evidence}
            print(f"{said}: {errors[said]}", flush=True)
    limit = limits(rows, other, answer)
    print(json.dumps(limit, indent=1))
    if store:
        record = {"command": "python benchmarks/charge_over_pH.py --store", "RMSE": errors, "limits": limit}
        record |= {"provenance": provenance(0)}
        atomic_write(STORED, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

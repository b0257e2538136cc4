"""How the charge of a polyamide follows the pH: acids of two strengths and an amine

Docs: https://ion-ode.github.io/ion_ode/guides/my_water.html.md"""

# A piperazine amide holds carboxylic acids of two strengths and amines that stay (Ritt et al. 2020,
# 10.1073/pnas.2008421117: those at the surface ionise at a neutral pH, those inside above 9). Per acid of the stronger
# kind: q(pH) = P/(1 + 10^(pH - pK_P)) - 1/(1 + 10^(pK1 - pH)) - N2/(1 + 10^(pK2 - pH)). A membrane's own charge goes
# with q; what an ion that binds to acids adds to it goes with the dissociated acids. `FITTED` is the fit of
# `ion_ode.inference.acidity`, which makes it again and scores it with each source held out; what measurements leave
# open is in the laws it draws (`drawn_laws`), of which every membrane of an answer has one.

import json
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ion_ode._torch import torch
from ion_ode.core import InputError
from ion_ode.dspmde.membranes import ChargeBinding, Freundlich, Membrane
from ion_ode.store import asset

__all__ = [
    "ChargeByPH",
    "PH_OF_CHARGES",
    "at_pH",
    "binding_factor",
    "charge_factor",
    "drawn_laws",
    "factors_of_each",
    "pH_notes",
]

_PH_KNOWN = (3.5, 10.5)  # pH of the measurements behind `FITTED`
PH_OF_CHARGES = 6.7  # pH at which a fixed charge is given: measurements near neutral have 6.5 to 7


@dataclass(frozen=True)
class ChargeByPH:
    "Fixed charge of a polyamide as its sites dissociate, amounts per acid of the stronger kind."

    pK_1: float  # Of the stronger acid
    acid_2: float  # Amount of the weaker acid [-]
    pK_2: float
    amine: float  # Amount of amine [-]
    pK_amine: float

    def acids(self, pH) -> np.ndarray:
        "Dissociated acids [-]."
        share = lambda pK: 1 / (1 + 10 ** (pK - np.asarray(pH, float)))
        return share(self.pK_1) + self.acid_2 * share(self.pK_2)

    def net(self, pH) -> np.ndarray:
        "Net charge [-]."
        return self.amine / (1 + 10 ** (np.asarray(pH, float) - self.pK_amine)) - self.acids(pH)


FITTED = ChargeByPH(6.05, 5.03, 9.96, 0.104, 3.69)
FITTED_SD = ChargeByPH(0.16, 1.4, 0.25, 0.079, 0.82)


@lru_cache(maxsize=1)
def _stored() -> dict:
    "Laws from what measurements leave open, by the answer they belong to."
    return json.loads(asset("charge_laws.json").read_text(encoding="utf-8"))["sets"]


def drawn_laws(
    n: int,  # Membranes
    name: str = "nf270",  # Answer whose measurements the laws were drawn from; another name: as "nf270"
) -> np.ndarray:  # (n, 5) numbers of `ChargeByPH`
    "A law for each of n membranes, drawn from all that measurements leave open."
    sets = _stored()
    laws = np.array(sets.get(name, sets["nf270"])["laws"])
    return laws[np.arange(n) % len(laws)]


def _valid(pH) -> np.ndarray:
    "A pH as an array; what is none is refused."
    try:
        at = np.asarray(pH, float)
    except (TypeError, ValueError):
        raise InputError(f"pH is {pH!r}, expected a number from 1 to 13, or one a feed") from None
    if not ((at >= 1) & (at <= 13)).all():
        raise InputError(f"pH is {pH}, expected 1 to 13")
    return at


def charge_factor(
    pH,  # Of the feed, number or array
    reference: float = PH_OF_CHARGES,  # pH of the charge that is multiplied
    law: ChargeByPH = FITTED,
) -> np.ndarray:  # $c_X(pH)/c_X(reference)$ [-], below zero where the charge turns positive
    "By how much a membrane's own charge at a pH differs from that at another."
    return law.net(_valid(pH)) / law.net(reference)


def binding_factor(
    pH,  # As for `charge_factor`
    reference: float = PH_OF_CHARGES,
    law: ChargeByPH = FITTED,
) -> np.ndarray:  # Dissociated acids over those at the reference [-]
    "By how much there are more acids for ions to bind to."
    return law.acids(_valid(pH)) / law.acids(reference)


def factors_of_each(
    pH,  # (feed,)
    laws: np.ndarray,  # (membrane, 5) numbers of `ChargeByPH`
) -> tuple[np.ndarray, np.ndarray]:  # `charge_factor` and `binding_factor`, membranes (slow) by feeds (fast)
    "Factors of every membrane, each with its own law."
    law = ChargeByPH(*np.asarray(laws, float).T[..., None])
    return tuple(f(pH, law=law).ravel() for f in (charge_factor, binding_factor))


def pH_notes(pH) -> list[str]:
    "A sentence where a pH leaves the measurements behind the law."
    at = _valid(pH)
    low, high = float(at.min()), float(at.max())
    if low >= _PH_KNOWN[0] - 0.1 and high <= _PH_KNOWN[1] + 0.1:
        return []
    said = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return [
        f"pH {said} leaves the {_PH_KNOWN[0]} to {_PH_KNOWN[1]} that the membrane's charge was measured at: "
        "beyond, its law is extrapolated"
    ]


def at_pH(
    membrane: Membrane,  # Its charge that of `reference`
    pH,  # Of the feed, number or (batch,)
    reference: float = PH_OF_CHARGES,
    law: ChargeByPH = FITTED,
) -> Membrane:  # The same pore with the charge of that pH
    "A membrane whose charge follows the pH."
    for note in pH_notes(pH):
        warnings.warn(note, stacklevel=2)
    own, bound = (torch.from_numpy(np.array(f(pH, reference, law))) for f in (charge_factor, binding_factor))
    own, bound = (f.item() if f.ndim == 0 else f for f in (own, bound))
    return membrane.with_(charge_density=_scaled(membrane.charge_density, own, bound))


def _scaled(charge, own, bound):
    "A law of the charge times two factors: of the membrane's own, and of what binds."
    if isinstance(charge, Freundlich):
        return replace(charge, a=charge.a * own)
    if isinstance(charge, ChargeBinding):
        shifts = {ion: v * bound for ion, v in charge.shifts.items()}
        return replace(charge, base=_scaled(charge.base, own, bound), shifts=shifts)
    return charge * own

"""One rule of electroneutrality for every door: what passes as it is, what is closed and said, what is refused

Docs: https://ion-ode.github.io/ion_ode/guides/my_feed.html.md"""

# The imbalance is (cations - anions) / (cations + anions) in equivalents, as a water analysis states it. Up to
# ROUNDING it is what writing numbers with a few digits leaves and is closed without a word; up to TOLERANCE it is the
# error of an ordinary analysis (Standard Methods for the Examination of Water and Wastewater, 1030 E: 5 % for 10 to
# 800 meq/L) and is closed with a note; beyond, an ion is missing or a unit is wrong, and only an ion named by
# `balance` closes it.

from dataclasses import dataclass

import numpy as np

from ion_ode.core import InputError
from ion_ode.water.ions import get_ion, ion_name

__all__ = ["EXACT", "ROUNDING", "TOLERANCE", "Closure", "close_charge"]

EXACT = 1e-9  # Imbalance that is left as it is
ROUNDING = 1e-5  # Imbalance that is closed without a word
TOLERANCE = 0.05  # Largest imbalance that is closed unasked


@dataclass(frozen=True, repr=False)
class Closure:
    "Which ion closes the charge balance of each feed, and by how much it changes."

    ions: tuple[str, ...]  # Columns
    column: np.ndarray  # (feed,) ion that takes the difference; -1 for none
    change: np.ndarray  # (feed,) what is added to it [mol/m³]
    imbalance: np.ndarray  # (feed,) before

    def __repr__(self):
        return "; ".join(self.notes()) or "every feed is neutral as given"

    def applied(
        self,
        c_feed: np.ndarray,  # (feed, ion) [mol/m³]
    ) -> np.ndarray:  # The same, neutral
        "The closed feeds."
        c, at = c_feed.copy(), np.flatnonzero(self.column >= 0)
        c[at, self.column[at]] += self.change[at]
        return c

    def notes(
        self,
        label=lambda k: f"feed {k}",  # What a feed is called
    ) -> list[str]:  # One sentence an ion, about the feed that is off by most
        "What was closed beyond rounding."
        off, said = np.abs(self.imbalance) > ROUNDING, []
        for j in np.unique(self.column[off & (self.column >= 0)]):
            at = np.flatnonzero(off & (self.column == j))
            k = at[np.abs(self.imbalance[at]).argmax()]
            many = f"{len(at)} feeds, {label(k)} most: its charge" if len(at) > 1 else f"{label(k)}: the charge"
            said.append(
                f"{many} was off by {self.imbalance[k]:+.2%}; {self.ions[j]} closes it ({self.change[k]:+.4g} mol/m³)"
            )
        return said


def _asked(c: np.ndarray, z: np.ndarray, names: tuple, balance: str, label) -> tuple[np.ndarray, np.ndarray]:
    "The named ion takes whatever charge the others leave."
    j = names.index(balance)
    if z[j] == 0:
        raise InputError(f"{balance} cannot close a charge balance; name an ion with a charge other than 0")
    change = -(c @ z) / z[j]
    need = c[:, j] + change
    # what rounding leaves of a feed that is neutral without the ion is no lack of it
    if (bad := need < -1e-12 * np.abs(c).sum(1)).any():
        k = int(bad.argmax())
        raise InputError(
            f"{label(k)} cannot be balanced with {balance}: it would need {need[k]:g} mol/m³; balance with an ion of "
            "the other sign"
        )
    return np.full(len(c), j), np.where(need < 0, -c[:, j], change)


def close_charge(
    c_feed: np.ndarray,  # (feed, ion) [mol/m³]
    ions,  # Names of the columns
    balance: str
    | None = None,  # Ion that closes whatever is open, a column of its own; None: the largest anion, within TOLERANCE
    label=lambda k: f"feed {k}",  # What a feed is called
) -> Closure:  # To be applied, and said
    "Which ion closes each feed; refuses what no analysis leaves open."
    names = tuple(ion_name(i) for i in ions)
    z = np.array([get_ion(i).z for i in names], dtype=float)
    c = np.asarray(c_feed, dtype=float)
    excess, total = c @ z, c @ np.abs(z)
    if (empty := ~(total > 0)).any():
        raise InputError(f"{label(int(empty.argmax()))} holds no ions; give at least one cation and one anion")
    off = excess / total
    if balance is not None:
        column, change = _asked(c, z, names, ion_name(balance), label)
        return Closure(names, column, change, off)
    counter = np.where(c * -z * np.sign(excess)[:, None] > 0, c, -1.0)
    if (bad := np.abs(off) > TOLERANCE).any():
        k = int(bad.argmax())
        by = names[int(counter[k].argmax())] if counter[k].max() > 0 else "Cl-" if off[k] > 0 else "Na+"
        raise InputError(
            f"{label(k)} is not electroneutral: charge imbalance {off[k]:+.1%} of the total, more than the "
            f"{TOLERANCE:.0%} an analysis may leave; "
            f"an ion may be missing or a unit wrong: adjust one ion or pass balance='{by}'"
        )
    open_, anion = np.abs(off) > EXACT, np.where(z < 0, c, 0.0).argmax(1)
    change = np.where(open_, -excess / z[anion], 0.0)
    if (bad := c[np.arange(len(c)), anion] + change < 0).any():  # many anions, the largest of them small
        k = int(bad.argmax())
        raise InputError(
            f"{label(k)} is off by {off[k]:+.1%} in charge, more than its largest anion {names[anion[k]]} can take; "
            "pass balance='Na+'"
        )
    return Closure(names, np.where(open_, anion, -1), change, off)

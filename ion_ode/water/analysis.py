"""A water's analysis as concentrations of its ions: a column an ion, hardness, alkalinity, detection limits

Docs: https://ion-ode.github.io/ion_ode/guides/my_feed.html.md"""

import numpy as np

from ion_ode.core import InputError
from ion_ode.water.chemistry import KNOWN, carried, speciate
from ion_ode.water.ions import get_ion
from ion_ode.water.cells import NOT_MEASURED, text_of
from ion_ode.water.columns import Columns, equivalents, si_column
from ion_ode.water.salts import ions_of_salt, per_salt

__all__ = ["SATURATED", "feed_matrix"]

SATURATED = 2e4  # mol/m³, more than water dissolves of any salt of the table
# pH above which more than 2 % of an alkalinity is carbonate: pK2 = 10.33 at 25 °C (Plummer and Busenberg 1982,
# 10.1016/0016-7037(82)90056-4)
_CARBONATE_FROM = 8.5


def _column(t: Columns, ion: str, column: str, empty_is_zero: bool, absent: dict[str, list[str]]) -> np.ndarray:
    "One ion's concentrations; why some count as absent is told in `absent`."
    x = si_column(t, "c_feed", column, ion)
    rows, cells = t.raw.rows, t.raw.cells[column]
    shown = lambda k: text_of(cells.iloc[k])
    skipped = np.array([e and shown(k).lower() in NOT_MEASURED for k, e in enumerate(x.empty)], bool)
    if not empty_is_zero:
        for k in np.flatnonzero(x.empty & ~skipped):
            t.wrong(
                rows[k],
                column,
                shown(k),
                "the cell is empty" if not shown(k) else f"{shown(k)!r} is not a number",
                "write 0 for an ion that is absent, expected a number",
            )
    for k in np.flatnonzero(x.bound == ">"):
        t.wrong(rows[k], column, shown(k), f"{shown(k)!r} is a bound", "give the concentration")
    for k in np.flatnonzero(x.value < 0):
        t.wrong(
            rows[k], column, shown(k), f"a concentration is negative ({shown(k)})", "a concentration is not negative"
        )
    for k in np.flatnonzero(x.value > SATURATED):
        t.wrong(rows[k], column, shown(k), f"{x.value[k]:g} mol/m3 is more than water dissolves", "check the unit")
    below = x.absent | (x.bound == "<")
    for why, where in (("below the detection limit", below), ("not measured", skipped)):
        if where.any():
            absent.setdefault(why, []).append(f"{ion} ({shown(int(where.argmax()))} in {where.sum()} feed(s))")
    return np.where(below | np.isnan(x.value), 0.0, x.value)


def _add_salt(t: Columns, found: dict[str, np.ndarray], salt: str, read_as: np.ndarray):
    "Add what a column of a salt brings of each of its ions; its numbers were read as the salt's first ion."
    for ion, each in per_salt(salt, t.unit[t.salts[salt]]).items():
        found[ion] = found.get(ion, 0.0) + read_as * each


def _hardness(t: Columns, found: dict[str, np.ndarray]):
    "Total hardness is calcium and magnesium: it completes one of them, or is held against both."
    total, have = equivalents(t, "hardness"), [i for i in ("Ca+2", "Mg+2") if i in found]
    column = t.one["hardness"]
    if not have:
        found["Ca+2"] = np.nan_to_num(total / 2)
        t.notes.append(f"all of {column!r} counts as Ca+2: give calcium or magnesium, if they are known")
    elif len(have) == 2:
        sum_ = 2 * (found["Ca+2"] + found["Mg+2"])
        if (bad := np.abs(sum_ - total) > 0.1 * np.maximum(total, 1e-12)).any():
            k = int(bad.argmax())
            t.wrong(
                t.raw.rows[k],
                column,
                f"{total[k]:.3g}",
                f"a hardness of {total[k]:.3g} meq/L contradicts calcium and magnesium, together {sum_[k]:.3g}",
                "correct one of the three",
            )
    else:
        other = "Mg+2" if have == ["Ca+2"] else "Ca+2"
        rest = np.nan_to_num(total / 2 - found[have[0]])
        if (bad := rest < -0.05 * np.nan_to_num(total)).any():
            k = int(bad.argmax())
            t.wrong(
                t.raw.rows[k],
                column,
                f"{total[k]:.3g}",
                f"a hardness of {total[k]:.3g} meq/L is less than its {have[0]}",
                "check the units",
            )
        found[other] = np.maximum(rest, 0.0)
        t.notes.append(f"{other} is what {column!r} leaves beside {have[0]}")


def _alkalinity(t: Columns, found: dict[str, np.ndarray]):
    "Alkalinity is bicarbonate as long as the pH leaves next to no carbonate; beyond, what the chemistry says."
    column = t.one["alkalinity"]
    if "HCO3-" in found:
        t.notes.append(f"{column!r} is not used: HCO3- has a column of its own")
        return
    pH = si_column(t, "pH", t.one["pH"]).value if "pH" in t.one else np.full(len(t.raw.cells), np.nan)
    total = np.nan_to_num(equivalents(t, "alkalinity"))
    rows = np.flatnonzero((pH > _CARBONATE_FROM) & (pH <= 13))
    parts = {i: np.zeros(len(pH)) for i in ("CO3-2", "OH-")} if len(rows) else {}
    found["HCO3-"] = total.copy()
    for k in rows:
        _bases(t, found, parts, k, pH[k], total[k])
    found |= parts
    t.notes.append(
        f"HCO3- is the alkalinity of {column!r}"
        + ("" if np.isfinite(pH).all() else f" (taken for a pH up to {_CARBONATE_FROM})")
        + ("" if not len(rows) else f", above pH {_CARBONATE_FROM} with the carbonate and hydroxide it holds there")
    )


def _bases(t: Columns, found: dict, parts: dict, k: int, pH: float, total: float):
    "Bicarbonate, carbonate and hydroxide of one row from its alkalinity."
    held = {i: float(v[k]) for i, v in found.items() if i != "HCO3-" and np.isfinite(v[k]) and i in KNOWN}
    try:
        s = carried(speciate(held, float(pH), alkalinity=float(total)))
    except InputError as e:
        said = str(e).split("; ")[0]
        t.wrong(t.raw.rows[k], t.one["alkalinity"], f"{pH:g}", said, "check pH and alkalinity")
        return
    hydroxide = s.get("OH-", 0.0) - s.get("H+", 0.0)
    carbonate = s.get("CO3-2", 0.0)
    parts["CO3-2"][k], parts["OH-"][k] = carbonate, max(hydroxide, 0.0)
    found["HCO3-"][k] = max(total - 2 * carbonate - hydroxide, 0.0)


def feed_matrix(
    t: Columns,  # A table with a column an ion
    empty_is_zero: bool = False,  # Whether an empty cell means that the ion is absent
) -> tuple[tuple[str, ...], np.ndarray]:  # Ions; (row, ion) [mol/m³]; problems and notes go to the table
    "What is in the water of every row."
    absent: dict[str, list[str]] = {}
    found = {ion: _column(t, ion, column, empty_is_zero, absent) for ion, column in t.ions("c_feed").items()}
    for salt, column in t.salts.items():
        _add_salt(t, found, salt, _column(t, next(iter(ions_of_salt(salt))), column, empty_is_zero, absent))
    t.notes += [f"{why} and counted as absent: {', '.join(ions)}" for why, ions in absent.items()]
    if "hardness" in t.one:
        _hardness(t, found)
    if "alkalinity" in t.one:
        _alkalinity(t, found)
    names = tuple(get_ion(i).name for i in found)
    return names, np.stack(list(found.values()), 1) if found else np.zeros((len(t.raw.cells), 0))

"""Measurement tables whose numbers are known, as laboratories write them, and spoilt in ways that must be seen"""

import csv
import io
import json
from dataclasses import dataclass

from case import Case
from hypothesis import strategies as st
from server import shell

# g/mol, IUPAC 2013 (10.1515/pac-2015-0305); charge. Written down here once more: the package's table is what is tried.
ION = {
    "Na+": (22.990, 1),
    "K+": (39.098, 1),
    "Mg+2": (24.305, 2),
    "Ca+2": (40.078, 2),
    "NH4+": (18.039, 1),
    "Cl-": (35.45, -1),
    "SO4-2": (96.06, -2),
    "NO3-": (62.004, -1),
}
SALTS = [
    ("Na+", 1, "Cl-", 1),
    ("Mg+2", 1, "Cl-", 2),
    ("Na+", 2, "SO4-2", 1),
    ("Mg+2", 1, "SO4-2", 1),
    ("Ca+2", 1, "Cl-", 2),
    ("K+", 1, "NO3-", 1),
    ("NH4+", 1, "Cl-", 1),
]
SPELT = {
    "Na+": ["Na+", "Na", "sodium", "Na⁺", "Na[+1]"],
    "Mg+2": ["Mg+2", "Mg2+", "Mg++", "Mg²⁺", "magnesium"],
    "Cl-": ["Cl-", "chloride", "Cl−"],
    "SO4-2": ["SO4-2", "SO42-", "sulfate", "SO4--", "SO₄²⁻"],
}
GALLON, FOOT = 3.785411784e-3, 0.3048
FLUX = {  # spelling: m/s in one
    "LMH": 1e-3 / 3600,
    "L m-2 h-1": 1e-3 / 3600,
    "L/m2/h": 1e-3 / 3600,
    "l/m²h": 1e-3 / 3600,
    "L m⁻² h⁻¹": 1e-3 / 3600,
    "L/(m2 h)": 1e-3 / 3600,
    "gfd": GALLON / FOOT**2 / 86400,
    "m/s": 1.0,
    "µm/s": 1e-6,
    "um s-1": 1e-6,
    "m3/m2/d": 1 / 86400,
    "m3 m-2 day-1": 1 / 86400,
    "L m-2 min-1": 1e-3 / 60,
    "cm/h": 1e-2 / 3600,
    "m/d": 1 / 86400,
}
FEED = {  # spelling: mol/m³ in one, of molar mass M and charge z
    "mM": lambda M, z: 1.0,
    "mol/m3": lambda M, z: 1.0,
    "mol m⁻³": lambda M, z: 1.0,
    "mmol/L": lambda M, z: 1.0,
    "mol/L": lambda M, z: 1e3,
    "M": lambda M, z: 1e3,
    "µM": lambda M, z: 1e-3,
    "umol/L": lambda M, z: 1e-3,
    "mg/L": lambda M, z: 1 / M,
    "g/L": lambda M, z: 1e3 / M,
    "mg L-1": lambda M, z: 1 / M,
    "ppm": lambda M, z: 1 / M,
    "ug/L": lambda M, z: 1e-3 / M,
    "meq/L": lambda M, z: 1 / abs(z),
    "mmol/kgw": lambda M, z: 1.0,
    "mg/L as CaCO3": lambda M, z: 2 / 100.087 / abs(z),
    "kg/m3": lambda M, z: 1e3 / M,
}
FRACTION = {"%": 0.01, "percent": 0.01, "-": 1.0, "fraction": 1.0}
WORDS = {
    "ion": ["ion", "species", "Ion", "solute"],
    "flux": ["flux", "water flux", "Jv", "permeate flux", "Flux", "J_v"],
    "feed": ["feed", "c_feed", "feed concentration", "C_F", "concentration", "Feed conc."],
    "rejection": ["rejection", "R", "retention", "Rejection", "ion rejection"],
}
STYLE = ["{w} [{u}]", "{w} ({u})", "{w}, {u}", "{w} in {u}", "{w} / {u}", "{w}[{u}]"]


@dataclass
class Truth:
    "What a table says, in SI."

    ions: list[str]
    c: dict[str, float]  # mol/m³
    flux: list[float]  # m/s
    R: list[list[float]]  # (flux, ion)

    def rows(self) -> list[tuple[float, str, float, float]]:
        "Flux, ion, feed and rejection of every value."
        return [(J, i, self.c[i], self.R[k][j]) for k, J in enumerate(self.flux) for j, i in enumerate(self.ions)]


@st.composite
def truths(draw, most_flux=3):
    "Measurements of one to three salts at some fluxes."
    c = {}
    for cation, m, anion, n in draw(st.lists(st.sampled_from(SALTS), min_size=1, max_size=3, unique=True)):
        amount = draw(st.sampled_from([0.731, 2.5, 4.02, 10.0, 17.35, 33.3]))
        c[cation] = c.get(cation, 0.0) + m * amount
        c[anion] = c.get(anion, 0.0) + n * amount
    flux = draw(
        st.lists(st.sampled_from([7.3, 12.5, 20.0, 33.41, 50.0, 88.8]), min_size=1, max_size=most_flux, unique=True)
    )
    R = st.floats(-0.4, 0.995).map(lambda r: round(r, 4))
    return Truth(list(c), c, [j * 1e-3 / 3600 for j in flux], [[draw(R) for _ in c] for _ in flux])


def number(x: float, form: str) -> str:
    "A number as somebody writes it."
    t = {"plain": f"{x:.10g}", "exp": f"{x:.9e}", "long": f"{x:.16f}".rstrip("0"), "plus": f"{x:+.10g}"}[form]
    return t + "0" if t.endswith(".") else t


def header(draw, what: str, unit: str) -> str:
    "A header in one of the usual styles."
    style = draw(st.sampled_from(STYLE if not set("/ ") & set(unit) or unit == "mg/L" else STYLE[:2]))
    return style.format(w=draw(st.sampled_from(WORDS[what])), u=unit)


def long_table(draw, truth: Truth) -> tuple[list[str], list[list], dict]:
    "Header and rows of numbers, one row an ion, with columns in any order; which column holds what."
    fu, cu, ru = (draw(st.sampled_from(list(t))) for t in (FLUX, FEED, FRACTION))
    cols = {
        "ion": draw(st.sampled_from(WORDS["ion"])),
        "flux": header(draw, "flux", fu),
        "feed": header(draw, "feed", cu),
        "rejection": header(draw, "rejection", ru),
    }
    cells = {
        "ion": lambda J, i, c, R: draw(st.sampled_from(SPELT.get(i, [i]))),
        "flux": lambda J, i, c, R: J / FLUX[fu],
        "feed": lambda J, i, c, R: c / FEED[cu](*ION[i]),
        "rejection": lambda J, i, c, R: R / FRACTION[ru],
    }
    extra = draw(st.lists(st.sampled_from(["note", "operator", "kind", "EC [uS/cm]"]), max_size=2, unique=True))
    for e in extra:
        cols[e] = e
        cells[e] = lambda *_, e=e: {
            "note": "coupon #3; cut, dried",
            "operator": "Zürich #1",
            "kind": "intrinsic",
            "EC [uS/cm]": 1234.5,
        }[e]
    order = draw(st.permutations(list(cols)))
    rows = [[cells[c](*r) for c in order] for r in draw(st.permutations(truth.rows()))]
    return [cols[c] for c in order], rows, {c: k for k, c in enumerate(order)} | {"kind named": "kind" in extra}


def as_text(draw, head: list[str], rows: list[list], decimal: str = ".") -> tuple[bytes, str]:
    "A table of text in one of the usual dialects; its name."
    sep = draw(st.sampled_from(";\t" if decimal == "," else ",;\t"))
    form = draw(st.sampled_from(["plain", "exp", "long", "plus"]))
    minus = draw(st.sampled_from("-−"))
    cell = lambda v: v if isinstance(v, str) else number(v, form).replace("-", minus).replace(".", decimal)
    out, quoting = io.StringIO(), draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    w = csv.writer(out, delimiter=sep, quoting=quoting, lineterminator=draw(st.sampled_from(["\n", "\r\n"])))
    if draw(st.booleans()):
        out.write("# measured in March\n")
    w.writerow(head)
    for r in rows:
        w.writerow([cell(v) for v in r])
        if draw(st.integers(0, 5)) == 0:
            out.write(draw(st.sampled_from(["\n", sep * (len(head) - 1) + "\n"])))
    text = out.getvalue()
    codes = ["utf-8", "utf-8-sig", "utf-16"]
    if not set(text) & set("−⁻²¹₄⁺³"):
        codes.append("cp1252")
    return text.encode(draw(st.sampled_from(codes))), {",": "t.csv", ";": "t.csv", "\t": "t.tsv"}[sep]


def _excel(head, rows, percent: int | None):
    import openpyxl

    def write(folder):
        book = openpyxl.Workbook()
        sheet = book.active
        sheet.append(head)
        for r in rows:
            sheet.append(r)
        if percent is not None:
            for r in sheet.iter_rows(min_row=2, min_col=percent + 1, max_col=percent + 1):
                r[0].number_format = "0.00%"
        book.save(folder / "t.xlsx")

    return write


def _frame_of(head, rows):
    import pandas as pd

    return pd.DataFrame(rows, columns=head)


def _prepared(draw, kind: str, head, rows, where):
    "Writes the table as a kind of file; its name."
    if kind == "text":
        data, name = as_text(draw, head, rows)
        return (lambda folder: (folder / name).write_bytes(data)), name
    if kind == "excel":
        ru = draw(st.booleans()) and head[where["rejection"]].rstrip("])").endswith("-")
        return _excel(head, rows, where["rejection"] if ru else None), "t.xlsx"
    if kind == "json":
        text = json.dumps([dict(zip(head, r)) for r in rows])
        return (lambda folder: (folder / "t.json").write_text(text)), "t.json"
    if kind == "jsonl":
        text = "\n".join(json.dumps(dict(zip(head, r)), ensure_ascii=False) for r in rows)
        return (lambda folder: (folder / "t.jsonl").write_text(text, encoding="utf-8")), "t.jsonl"
    return (lambda folder: _frame_of(head, rows).to_parquet(folder / "t.parquet")), "t.parquet"


def _found(m) -> list:
    "What a door understood, as plain numbers."
    return sorted(zip(m.flux_m_s.tolist(), m.ion, m.c_feed_mol_m3.tolist(), m.rejection.tolist(), m.kind))


def _differs(truth: Truth, kind: str):
    "Whether what was understood is the truth."

    def right(found):
        want = sorted((*r, kind) for r in truth.rows())
        found = sorted(found)
        if len(found) != len(want):
            return f"{len(found)} values instead of {len(want)}"
        # fluxes may differ in their last digit and then sort otherwise: nearest flux, then ion
        key = lambda r: (min(range(len(truth.flux)), key=lambda k: abs(truth.flux[k] - r[0])), r[1])
        for a, b in zip(sorted(found, key=key), sorted(want, key=key)):
            # 5e-4: molar masses of different tables; rejections come out of no conversion but a factor
            off = [
                abs(a[0] - b[0]) > 1e-7 * b[0],
                a[1] != b[1],
                abs(a[2] - b[2]) > 1e-3 * b[2],
                abs(a[3] - b[3]) > 1e-7,
            ]
            if any(off) or a[4] != b[4]:
                return f"{a} instead of {b}"
        return ""

    return right


def door(name: str, file: str):
    "A job that takes a file through one of the doors; what it understood."

    def job():
        import warnings

        import pandas as pd

        from ion_ode import fit_membrane
        from ion_ode.data.reader import check_measurements, load_measurements

        warnings.simplefilter("ignore")
        if name == "load":
            return _found(load_measurements(file))
        if name == "check":  # the cleaned copy must say the same
            c = check_measurements(file)
            if not c.ok:
                from ion_ode.core import InputError

                raise InputError(c.text)
            return _found(load_measurements(c.clean_path))
        d = load_measurements(file)
        if name == "index":
            return _found(load_measurements(d.set_axis(pd.Index([f"x{k}" for k in range(len(d))], name="who"))))
        fit = fit_membrane(d, ("r_pore",), n_starts=1, n_sobol=2, intervals="none")
        return _found(fit.to_frame().assign(kind="observed" if fit.model.observed.all() else "intrinsic"))

    return job


@st.composite
def spelt(draw):
    "A right table in any spelling, unit, form and file: read, and as it is."
    truth = draw(truths())
    head, rows, where = long_table(draw, truth)
    kind = draw(st.sampled_from(["text", "text", "text", "excel", "json", "jsonl", "parquet"]))
    prepare, file = _prepared(draw, kind, head, rows, where)
    through = draw(st.sampled_from(["load", "load", "check", "index", "fit"]))
    right = _differs(truth, "intrinsic" if where["kind named"] else "observed")
    return Case(f"{kind} through {through}: {head}", prepare, door(through, file), right)


@st.composite
def commas(draw):
    "Decimal commas and thousands marks, which may be refused but never be guessed."
    truth = draw(truths())
    head, rows, where = long_table(draw, truth)
    data, name = as_text(draw, head, rows, ",")
    through = draw(st.sampled_from(["load", "check", "fit"]))
    right = _differs(truth, "intrinsic" if where["kind named"] else "observed")
    return Case(
        f"decimal comma: {data[:300]!r}", lambda f: (f / name).write_bytes(data), door(through, name), right, "either"
    )


WIDE = {
    "Na+": ["Na+", "Na", "sodium", "Na[+1]", "Na(+1)"],
    "Mg+2": ["Mg+2", "Mg2+", "Mg[+2]", "magnesium"],
    "Cl-": ["Cl-", "Cl", "chloride", "Cl[-1]"],
    "SO4-2": ["SO4-2", "SO4", "sulfate", "SO4[-2]", "S(6)"],
}


@st.composite
def feeds(draw):
    "A table of feeds, a column an ion, through simulate; every number and the rejections of the pore model."
    truth, decimal = draw(truths()), draw(st.sampled_from(["."] * 3 + [","]))
    fu = draw(st.sampled_from(["LMH", "gfd", "m/s", "L m-2 h-1"]))
    head, values = ["sample", header(draw, "flux", fu)], []
    for i in truth.ions:
        unit = draw(st.sampled_from([u for u in FEED if "as" not in u]))
        spelling = draw(st.sampled_from(WIDE.get(i, [i])))
        if spelling == "S(6)":
            unit = "mmol/kgw"
        head.append(f"{spelling} [{unit}]")
        values.append(truth.c[i] / FEED[unit](*ION[i]))
    rows = [[f"tank {k}", J / FLUX[fu], *values] for k, J in enumerate(truth.flux)]
    data, name = as_text(draw, head, rows, decimal)

    def right(value):
        import numpy as np
        import pandas as pd

        from ion_ode import simulate

        d = pd.read_csv(io.StringIO(value[1]))
        own = simulate(truth.c, np.sort(truth.flux)).to_frame().sort_values(["flux_m_s", "ion"])
        d = d[d.c_feed_mol_m3 > 0].sort_values(["flux_L_m2_h", "ion"])
        if list(d.ion) != list(own.ion):
            return f"ions {list(d.ion)} instead of {list(own.ion)}"
        for a, b, tol in (
            (d.flux_L_m2_h / 3.6e6, own.flux_m_s, 1e-7),
            (d.c_feed_mol_m3, own.c_feed, 1e-3),
            (1 - d.rejection, 1 - own.rejection, 2e-3),
        ):
            if (off := np.max(np.abs(a.to_numpy() / b.to_numpy() - 1))) > tol:
                return f"{a.name} is off by {off:.2e}"
        return ""

    job = shell("simulate", "--feed", name, "--out", "-")
    return Case(
        f"feeds: {data[:300]!r}",
        lambda f: (f / name).write_bytes(data),
        job,
        right,
        "read" if decimal == "." else "either",
        command=True,
    )


# ---- spoilt


def _spoil(how: str, head: list[str], rows: list[list], k: int, where: dict):
    "A mistake that no reader can mend; None where this table cannot have it."
    R, J, C, row = where["rejection"], where["flux"], where["feed"], rows[k]
    percent = head[R].rstrip("])").endswith(("%", "percent"))
    cell = {
        "text": (R, "forty"),
        "unit in the cell": (C, f"{row[C]:.6g} mg/L"),
        "infinite": (J, "inf"),
        "huge": (J, "1e999"),
        "two points": (R, "1.2.3"),
        "two signs": (R, "--5"),
        "hexadecimal": (J, "0x10"),
        "power": (J, "9**9**9"),
        "above one": (R, "160" if percent else "1.6"),
        "far below": (R, "-4000" if percent else "-40"),
        "not in percent": None if percent else (R, "45"),
        "negative flux": (J, f"{-row[J]:.6g}"),
        "no flux": (J, "0"),
        "negative feed": (C, f"{-row[C]:.6g}"),
        "empty feed": (C, ""),
        "unknown ion": (where["ion"], "Xq+7"),
        "a salt": (where["ion"], "NaCl"),
        "not detected": (R, "ND"),
        "thousands": (C, "1,234"),
        "empty flux": (J, ""),
        "fraction sign": (R, "1/2"),
        "date": (J, "2024-03-01"),
        "true": (J, "true"),
        "bound of the feed": (C, "<5"),
    }.get(how, "other")
    if cell is None:
        return None
    if cell != "other":
        row[cell[0]] = cell[1]
    elif how == "a cell too many":
        row.append("7")
    elif how == "column twice":
        head.append(head[R])
        [r.append(r[R]) for r in rows]
    elif how == "no column of fluxes":
        head[J] = "operator's name"
    elif how == "unknown unit":
        head[J] = "flux [furlong/fortnight]"
    elif how == "wrong dimension":
        head[J] = "flux [bar]"
    elif how == "no unit":
        head[J] = "flux"
    elif how == "conductivity as feed":
        head[C] = "feed [uS/cm]"
    elif how == "value twice":
        rows.append([*row[:R], row[R] - (5 if percent else 0.05), *row[R + 1 :]])
    elif how in ("negative weight", "weight in words"):
        head.append("weight")
        [r.append(1.0) for r in rows]
        row[-1] = -0.5 if how == "negative weight" else "heavy"
    elif how == "unknown solute":
        head.append("unobtainium [mg/L]")
        [r.append(3.0) for r in rows]
    return head, rows


MISTAKES = (
    "text|unit in the cell|infinite|huge|two points|two signs|hexadecimal|power|above one|far below|not in percent|"
    "negative flux|no flux|negative feed|empty feed|unknown ion|a salt|not detected|thousands|empty flux|fraction sign|"
    "date|true|bound of the feed|a cell too many|column twice|no column of fluxes|unknown unit|wrong dimension|no unit|"
    "conductivity as feed|value twice|unknown solute|negative weight|weight in words"
).split("|")


@st.composite
def spoilt(draw):
    "A right table with one mistake: refused, at every door."
    truth = draw(truths())
    head, rows, where = long_table(draw, truth)
    how = draw(st.sampled_from(MISTAKES))
    made = _spoil(how, head, rows, draw(st.integers(0, len(rows) - 1)), where)
    if made is None:
        how, made = "unknown unit", _spoil("unknown unit", head, rows, 0, where)
    kind = draw(st.sampled_from(["text", "text", "json"])) if how not in ("a cell too many", "column twice") else "text"
    prepare, file = _prepared(draw, kind, *made, where)
    through = draw(st.sampled_from(["load", "check", "fit", "shell"]))
    job = shell("check", file, "--no-write", "--json") if through == "shell" else door(through, file)
    return Case(
        f"{how}, {kind}, {through}: {made[0]} {made[1][0]}", prepare, job, str, "refuse", command=through == "shell"
    )

"""One grammar of column headers for every door

Docs: https://ion-ode.github.io/ion_ode/guides/my_data.html.md"""

# A header is a quantity, an ion or both, and a unit: 'water flux (gfd)', 'feed_mM', 'Na+ [mg/L]', 'R Mg2+ in %',
# 'Ca[+2] mg/L', 'S(6) [mmol/kgw]', 'nitrate as N [mg/L]'. What is not understood is named to the caller, never
# guessed.

import re
from dataclasses import dataclass
from functools import lru_cache

from ion_ode.core import InputError
from ion_ode.water.abroad import in_english
from ion_ode.water.ions import UnknownIon, ion_name
from ion_ode.water.salts import ions_of_salt
from ion_ode.water.units import is_unit, parse_unit, plain

__all__ = ["PER_ION", "QUANTITIES", "TEXT", "Header", "parse_header"]

QUANTITIES = {  # quantity: what people call it, in lower case, without the words of _FILLER
    "ion": ("ion", "species", "ion name", "solute", "component", "salt", "electrolyte", "salt name"),
    "flux": ("flux", "water flux", "permeate flux", "volume flux", "volumetric flux", "solvent flux", "filtrate flux",
    "jv", "j v", "jw", "j w", "j"),
    "c_feed": ("c feed", "feed", "c", "concentration", "conc", "feed concentration", "cf", "c f", "bulk", "c bulk",
    "raw water", "feed water", "feed c", "feedwater"),
    "c_perm": ("c perm", "permeate", "perm", "cp", "c p", "c permeate", "permeate c", "permeate water", "filtrate",
    "product water"),
    "rejection": ("rejection", "r", "retention", "ion rejection", "ion retention", "salt rejection", "rej", "removal"),
    "sd": ("rejection sd", "sd", "std", "sigma", "uncertainty", "rejection std", "r sd", "r std", "error",
    "sd rejection", "sd r", "standard deviation", "stdev", "rejection uncertainty"),
    "pressure": ("pressure", "p", "tmp", "applied pressure", "transmembrane pressure", "dp", "delta p",
    "feed pressure", "trans membrane pressure"),
    "temperature": ("temperature", "t", "temp", "feed temperature", "water temperature"),
    "pH": ("ph", "feed ph", "ph value"),
    "film": ("film", "film thickness", "delta"),
    "hardness": ("hardness", "total hardness", "th", "gh", "caco3 hardness", "calcium carbonate hardness"),
    "alkalinity": ("alkalinity", "total alkalinity", "ta", "talk", "m alkalinity", "kh", "alk"),
    "sample": ("solution", "solution id", "feed id", "sample", "sample id", "feed solution", "water", "sample name",
    "name", "label", "id", "no", "nr"),
    "run": ("run", "state", "state id", "experiment", "test", "run id", "trial", "point"),
    "row": ("row id",),
    "membrane": ("membrane", "membrane name"),
    "source": ("source", "source id", "reference", "laboratory", "lab"),
    "composition": ("composition",),
    "coupon": ("coupon", "coupon id", "piece", "cell"),
    "kind": ("kind", "rejection kind", "type of rejection"),
    "censored": ("censored", "below detection"),
    "bound": ("bound",),
    "salt_level": ("salt level",),
    "weight": ("weight",),
    "note": ("note", "comment", "remark", "notes", "comments", "remarks"),
    "doi": ("doi",),
    # understood, and named as not used
    "ec": ("ec", "conductivity", "electrical conductivity", "cond", "feed conductivity", "permeate conductivity",
    "feed ec", "permeate ec", "kappa", "ec25", "ec 25", "conductivity @25c", "conductivity 25c", "conductivity at 25c"),
    "tds": ("tds", "total dissolved solids", "salinity", "feed tds", "permeate tds"),
    "date": ("date", "time", "datetime", "sampling date", "timestamp", "date time", "sampled"),
    "own": ("z", "sd meaning", "status", "predicted", "lower", "upper", "c wall", "psi donnan", "psi",
    "composition unit"),  # of this package's own tables
    "other": ("charge", "valence", "permeate ph", "permeate temperature", "turbidity", "toc", "doc", "sdi",
    "recovery", "crossflow", "crossflow velocity", "cross flow velocity", "velocity", "feed flow", "permeate flow",
    "osmotic pressure", "flux std", "flux sd", "cod", "bod", "tss", "oxygen", "o2", "colour",
    "color", "odour", "pore radius", "location", "operator", "dissolved oxygen", "redox", "orp", "density",
    "ionic strength", "recipe", "uv254", "uv 254", "p alkalinity", "phenolphthalein alkalinity", "langelier index"),
}  # fmt: skip
TEXT = (
    "ion",
    "sample",
    "run",
    "row",
    "membrane",
    "source",
    "composition",
    "coupon",
    "kind",
    "censored",
    "bound",
    "salt_level",
    "note",
    "doi",
)
UNUSED = ("own", "ec", "tds", "date", "other")
PER_ION = ("c_feed", "c_perm", "rejection", "sd", "censored")  # What a wide table has a column an ion for
_KNOWN = {a: q for q, names in QUANTITIES.items() for a in names}
_FILLER = {
    "of",
    "in",
    "the",
    "concentration",
    "conc",
    "concn",
    "mean",
    "average",
    "measured",
    "dissolved",
    "ion",
    "value",
    "amount",
    "molarity",
    "content",
}
_KIND = {
    "observed": "observed",
    "obs": "observed",
    "apparent": "observed",
    "app": "observed",
    "intrinsic": "intrinsic",
    "int": "intrinsic",
    "real": "intrinsic",
    "true": "intrinsic",
}
_MASTER = {  # PHREEQC's names of a water's elements (phreeqc.dat), and what a mass of them is counted as there
    "S(6)": ("SO4-2", "SO4"), "N(5)": ("NO3-", "N"), "N(-3)": ("NH4+", "N"), "N(3)": ("NO2-", "N"), "C(4)": ("HCO3-",
    "HCO3"), "B": ("H3BO3", "B"), "b": ("H3BO3", "B"), "Boron": ("H3BO3", "B"),
    "boron": ("H3BO3", "B"), "Si": ("SiO2", "Si"),
    "Na(+1)": ("Na+", ""), "Fe(2)": ("Fe+2", ""), "Mn(2)": ("Mn+2", ""),
}  # fmt: skip


_TRACES = {  # Analytes of a report that no salt balance misses: named as not used, unless they are ions of the table
    "fe", "iron", "mn", "manganese", "al", "aluminium", "aluminum", "cu", "copper", "zn", "zinc", "pb", "lead", "as",
    "arsenic", "cd", "cadmium", "cr", "chromium", "ni", "nickel", "co", "cobalt", "se", "selenium", "u", "uranium",
    "hg", "mercury", "sb", "antimony", "mo", "molybdenum", "v", "vanadium", "ag", "silver", "no2", "nitrite", "cyanide",
    "sulfide", "sulphide", "chlorine",
}  # fmt: skip
_OF_A_SUM = ("Ca+2", "Mg+2", "HCO3-", "CO3-2", "OH-")  # Parts of a hardness or an alkalinity
_OF_A_TRACE = {"total", "dissolved", "free", "filtered", "n", "ii", "iii", "vi"}


@dataclass(frozen=True)
class Header:
    "What a column holds."

    text: str  # As written
    quantity: str | None  # A key of QUANTITIES; None: not understood
    ion: str | None = None  # Canonical name, where the column belongs to one
    unit: str | None = None  # As written; None: no unit
    kind: str | None = None  # "observed" or "intrinsic", where the words say so
    label: str = ""  # What is left of the header without its unit

    @property
    def solute(self) -> bool:
        "Whether it seems to be an amount of something that is not in the table of ions."
        if self.quantity is not None or self.unit is None:
            return False
        try:
            return parse_unit(self.unit).amount
        except InputError:
            return False


def _words(text: str) -> list[str]:
    return [w for w in re.split(r"[\s_]+", text.strip().lower()) if w]


def _quantity(text: str) -> tuple[str | None, str | None]:
    "Quantity and kind of rejection that words name."
    if text.strip() in ("T", "P", "R", "J"):
        return _KNOWN[text.strip().lower()], None
    words = _words(in_english(text).replace(".", " ").replace("-", " "))
    kind = next((_KIND[w] for w in words if w in _KIND), None)
    for some in (
        words,
        [w for w in words if w not in _FILLER],
        [w for w in words if w not in _FILLER and w not in _KIND],
    ):
        if (q := _KNOWN.get(" ".join(some))) is not None:
            return q, kind if q == "rejection" else None
    return None, None


def _ion(text: str) -> str | None:
    "Canonical name of an ion as written; None where it is none."
    try:
        return ion_name(in_english(text))
    except UnknownIon:
        return None


def _split_unit(text: str) -> tuple[str, str | None]:
    "Label and unit of a header; a charge or an oxidation state in brackets is no unit."
    if m := re.fullmatch(r"(.*?)\s*(?:\[([^\[\]]*)\]|\(((?:[^()]|\([^()]*\))*)\))\s*", text):
        inner = (m[2] if m[2] is not None else m[3]).strip()
        if m[1] and not re.fullmatch(r"[-+]?\d*[-+]?", inner) or m[1] and inner == "-" and not _ion(text):
            return m[1].strip(" ,/_"), inner
    for sign in (" / ", ", ", " in "):
        if sign in text and is_unit(text.rsplit(sign, 1)[1]):
            return text.rsplit(sign, 1)[0].strip(), text.rsplit(sign, 1)[1].strip()
    return text, None


def _split_suffix(text: str):
    """Every way of reading the end of a header without brackets as a unit, the longest first: feed_mM, flux_L_m2_h,
    'Na mg/L'."""
    if m := re.fullmatch(r"(.+?)\s*(%)", text):
        yield m[1], m[2]
    for m in re.finditer(r"[\s_]+", text):
        base, tail = text[: m.start()], text[m.end() :]
        for unit in (tail, re.sub(r"_+", "/", tail)):
            if base and (is_unit(unit) or plain(unit).lower() in ("c", "k", "degc", "fraction", "pct")):
                yield base, unit


def _basis(label: str, unit: str | None) -> tuple[str, str | None]:
    "Label and unit where the label says what a mass is expressed as: 'NO3-N', 'nitrate as N', 'hardness as CaCO3'."
    m = re.fullmatch(r"(.+?)(?:\s+(?:as|als|en|como)\s+(CaCO3|N|P|S|SO4-S|SO4|NO3|SiO2)|[-\s](?:(N|P|S)))", label)
    if m is None or (m[3] and _ion(label)):
        return label, unit
    return m[1], f"{unit or 'mg/L'} as {m[2] or m[3]}"


# 'Calcium, water, filtered', 'Alkalinity, total', 'Iron (dissolved)', 'Hardness total'
_BESIDE = r"water|total|dissolved|filtered|unfiltered|soluble|field|lab|as ion|fixed endpoint|inflection[- ]point"
_OF_A_SAMPLE = re.compile(rf"(?<=\w)(?:,\s*(?:{_BESIDE})|\s*\((?:{_BESIDE})\)|\s+(?:total|dissolved|filtered))+$", re.I)


def _whole(label: str, unit: str | None, text: str) -> Header | None:
    "A label that is a quantity, an ion, or an ion and a quantity."
    label = _OF_A_SAMPLE.sub("", label)
    if in_english(label) in _MASTER:
        name, basis = _MASTER[in_english(label)]
        mass = unit is not None and is_unit(unit) and ("kg", 1) in parse_unit(unit).dimension
        unit = f"{unit} as {basis}" if mass and basis and not parse_unit(unit).basis else unit
        quantity = "c_feed" if _ion(name) else "other"
        return Header(text, quantity, _ion(name), unit, None, label)
    quantity, kind = _quantity(label)
    if quantity is not None:
        return Header(text, quantity, None, unit, kind, label)
    if (m := re.fullmatch(r"(.+?)\((.+)\)", label)) and _ion(m[2]) and not _ion(label):  # R(Na+)
        label = f"{m[1]} {m[2]}"
    label_, unit = _basis(label, unit)
    if (quantity := _quantity(label_)[0]) in ("hardness", "alkalinity", "c_feed", "c_perm"):
        return Header(text, quantity, None, unit, None, label_)
    if (m := re.fullmatch(r"(.+?)[-\s]+(?:hardness|härte|alkalinity)", label_, re.I)) and _ion(m[1]) in _OF_A_SUM:
        mass = unit is not None and is_unit(unit) and ("kg", 1) in parse_unit(unit).dimension
        basis = " as CaCO3" if mass and not parse_unit(unit).basis else ""
        return Header(text, "c_feed", _ion(m[1]), f"{unit}{basis}" if unit else None, None, label_)
    if ions_of_salt(label_) is not None:
        return None
    if (ion := _ion(label_)) is not None:
        return Header(text, "c_feed", ion, unit, None, label_)
    words = re.split(r"[\s_]+", label_)
    for n in range(1, len(words)):
        for k in (0, len(words) - n) if n < len(words) else ():
            ion, rest = _ion(" ".join(words[k : k + n])), " ".join(words[:k] + words[k + n :])
            quantity, kind = _quantity(rest)
            if ion is not None and (quantity in PER_ION or _ion(rest) == ion or not set(_words(rest)) - _FILLER):
                return Header(text, quantity or "c_feed", ion, unit, kind, rest)
    names = set(re.findall(r"[a-z]+", in_english(label_).lower()))
    if names and names - _OF_A_TRACE <= _TRACES:
        return Header(text, "other", None, unit, None, label_)
    return None


@lru_cache(maxsize=4096)
def parse_header(
    text: str,  # As it stands in the file
) -> Header:
    "What a column holds, by its header."
    clean = plain(text)
    if len(clean) > 200:
        return Header(text, None)
    label, unit = _split_unit(clean)
    if unit is None and (found := _whole(clean, None, text)) is not None:
        return found
    if unit is not None:
        return _whole(label, unit, text) or Header(text, None, None, unit, None, label)
    for base, suffix in _split_suffix(clean):
        if (found := _whole(base, suffix, text)) is not None:
            return found
    return Header(text, None, None, None, None, clean)

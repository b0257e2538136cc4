"""The works that the code and the data rest on, and how to cite them

Docs: https://ion-ode.github.io/ion_ode/references.html.md"""

import re

import pandas as pd

from ion_ode import __version__
from ion_ode.core import InputError
from ion_ode.store import asset

__all__ = ["references", "citations"]

_URL = "https://github.com/ion-ode/ion_ode"


def references() -> pd.DataFrame:  # key (index), citation, link, used_for, kind: "method" or "data"
    "Methods and data sources, one row each."
    m = pd.read_csv(asset("references.csv"), dtype=str, keep_default_na=False)
    link = ("https://doi.org/" + m.doi).where(m.doi != "", "https://arxiv.org/abs/" + m.arxiv)
    authors = m.authors.str.replace(" and ", ", ")
    methods = pd.DataFrame(
        {
            "key": m.key,
            "citation": authors + ": " + m.title + ". " + m.venue + " (" + m.year + ")",
            "link": link,
            "used_for": m.used_for,
            "kind": "method",
        }
    )
    d = pd.read_csv(asset("nf_sources.csv"), dtype=str, keep_default_na=False)
    data = pd.DataFrame(
        {
            "key": d.source_id,
            "citation": d.citation,
            "link": ("https://doi.org/" + d.doi).where(d.doi != "", ""),
            "used_for": "measurements on " + d.membrane.replace("not named", "a membrane that is not named"),
            "kind": "data",
        }
    )
    return pd.concat([methods, data]).set_index("key")


def _bibtex(row) -> str:
    journal = re.fullmatch(r"(.+) (\d+) (\w+)", row.venue)  # name, volume, first page
    if row.arxiv:
        kind, where = "misc", {"eprint": row.arxiv, "archivePrefix": "arXiv"}
    elif journal:
        kind, where = "article", {"journal": journal[1], "volume": journal[2], "pages": journal[3], "doi": row.doi}
    else:
        kind, where = "book", {"publisher": row.venue, "doi": row.doi}
    fields = {"author": row.authors, "title": f"{{{row.title}}}", "year": row.year} | where
    return f"@{kind}{{{row.key},\n" + "".join(f"  {k} = {{{v}}},\n" for k, v in fields.items()) + "}"


def citations(
    style: str = "text",  # "text" for reading, "bibtex" for a bibliography (methods with full records)
) -> str:  # Print it
    "What to cite: this software, the methods in it, and the measurements it ships."
    software = f"ion_ode {__version__}, {_URL}"
    if style == "text":
        r = references()
        line = lambda x: f"- {x.citation}" + (f" {x.link}" if x.link else "") + f" [{x.used_for}]"
        parts = [f"Software\n- {software}"]
        for kind, title in (("method", "Methods"), ("data", "Measurements")):
            parts.append("\n".join([title, *(line(x) for x in r[r.kind == kind].itertuples())]))
        return "\n\n".join(parts)
    if style == "bibtex":
        rows = pd.read_csv(asset("references.csv"), dtype=str, keep_default_na=False).itertuples()
        own = f"@software{{ion_ode,\n  title = {{ion_ode}},\n  version = {{{__version__}}},\n  url = {{{_URL}}},\n}}"
        return "\n\n".join([own, *(_bibtex(r) for r in rows)])
    raise InputError(f"style is {style!r}, expected 'text' or 'bibtex'")

"""The list of references: complete records, and no DOI in a chapter that the list of sources does not explain."""

import re

import pytest

from ion_ode import InputError, citations
from ion_ode.references import references

DOI = re.compile(r"10\.\d{4,9}/[^\s<>\"]+")


def test_every_record_can_be_found():
    r = references()
    assert r.index.is_unique and set(r.kind) == {"method", "data"}
    methods = r[r.kind == "method"]
    assert (
        methods.link.str.startswith("https://doi.org/10.") | methods.link.str.startswith("https://arxiv.org/abs/")
    ).all()
    for link in r.link[r.link.str.startswith("https://doi.org/")]:
        assert DOI.fullmatch(link.removeprefix("https://doi.org/")), link
    assert (r.citation.str.contains(r"\(?(?:19|20)\d\d\)?") | (r.kind == "data")).all()


def test_the_paper_and_the_measurements_are_cited():
    text = citations()
    assert "2312.02871" in text
    for doi in (
        "10.3390/membranes11040272",
        "10.1021/acs.est.2c08584",
        "10.1073/pnas.2008421117",
        "10.1021/acs.iecr.4c04763",
    ):
        assert doi in text


def test_bibtex_is_balanced_and_complete():
    b = citations("bibtex")
    assert b.count("{") == b.count("}")
    keys = re.findall(r"^@\w+\{(\w+),", b, re.M)
    assert keys[0] == "ion_ode" and set(keys[1:]) == set(references().query("kind == 'method'").index)


def test_unknown_style():
    with pytest.raises(InputError, match="bibtex"):
        citations("apa")

"""One page of the site, in a module of its own so that worker processes can import it."""

import json
import sys
from pathlib import Path

import nbdev.serve_drv

sys.path.insert(0, str(Path(__file__).parent))
from reference import LIST, every_name, tidy  # noqa: E402

from ion_ode._modidx import d as names  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
original = nbdev.serve_drv.main


def build(job):
    "Docs processing of one page, its reference made readable."
    original(job)
    page = Path(job[1])
    if page.suffix == ".ipynb" and page.exists():
        notebook = json.loads(page.read_text(encoding="utf-8"))
        notebook["cells"] = tidy(notebook["cells"])
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown" and LIST in (text := "".join(cell["source"])):
                cell["source"] = text.replace(LIST, every_name(ROOT, names)).splitlines(keepends=True)
        page.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")


def process(job):
    "The same, but a failure is kept in the page, so that the others are checked too."
    try:
        build(job)
    except Exception as e:
        Path(job[1]).write_text(json.dumps({"cells": [], "metadata": {"failed": str(e)}}), encoding="utf-8")

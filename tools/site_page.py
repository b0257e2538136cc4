"""One page of tools/check_site.py, in a module of its own so that worker processes can import it."""

import json

import nbdev.serve_drv

original = nbdev.serve_drv.main


def process(job):
    "Docs processing of one page; a failure is kept in the page, so that the others are checked too."
    try:
        original(job)
    except Exception as e:
        job[1].write_text(json.dumps({"cells": [], "metadata": {"failed": str(e)}}), encoding="utf-8")

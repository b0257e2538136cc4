"""Every chapter runs top to bottom in a fresh Jupyter kernel, from an installed wheel, with no checkout beside it.

Takes minutes; run with: pytest -m slow tests/test_jupyter.py
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from test_packaging import built, unpacked  # noqa: F401  (fixtures)

ROOT = Path(__file__).parents[1]
NBS = sorted(p for p in (ROOT / "nbs").rglob("[!_]*.ipynb") if ".ipynb_checkpoints" not in p.parts)
SKIPPED = re.compile(r"^#\|\s*(slow|cuda|notest|eval:\s*false)", re.M)


@pytest.mark.slow
@pytest.mark.parametrize("fn", NBS, ids=lambda p: p.relative_to(ROOT / "nbs").with_suffix("").as_posix())
def test_runs_from_the_wheel(fn, unpacked, tmp_path, monkeypatch):  # noqa: F811
    nb = nbformat.read(fn, as_version=4)
    nb.cells = [c for c in nb.cells if c.cell_type != "code" or not SKIPPED.search(c.source)]
    monkeypatch.setenv("PYTHONPATH", str(unpacked))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    probe = nbformat.v4.new_code_cell("import ion_ode; print(ion_ode.__file__)")
    nb.cells.insert(0, probe)
    NotebookClient(nb, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert str(unpacked) in nb.cells[0].outputs[0].text


@pytest.mark.slow
def test_lab_starts():
    "`make lab` opens JupyterLab on the chapters."
    r = subprocess.run([Path(sys.executable).with_name("jupyter"), "lab", "--version"], capture_output=True, text=True)
    assert r.returncode == 0 and re.match(r"\d+\.", r.stdout)

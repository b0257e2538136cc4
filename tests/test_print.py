"Figures as they are printed: no text below 7 pt, none wider than a page, PDF and SVG from one command."

import re
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest

from ion_ode.plotting import PAGE_WIDTH, set_theme

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(f for f in (ROOT / "nbs").glob("0[0-5]*.ipynb"))
WIDTH = re.compile(r'<svg [^>]*?width="([\d.]+)pt"')
SIZES = re.compile(r"(?:fontsize=|set_size\()([\d.]+)")


def cells(page: Path) -> list:
    return [c for c in nbformat.read(page, as_version=4).cells if c.cell_type == "code"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_figure_fits_a_page_and_can_be_read_there(page):
    for c in cells(page):
        small = [s for s in map(float, SIZES.findall(c.source)) if s < 7]
        assert not small and "x-small" not in c.source, f"text of {small} pt in {c.source.splitlines()[0]}"
        for o in c.outputs:
            for width in WIDTH.findall("".join(o.get("data", {}).get("image/svg+xml", ""))):
                assert float(width) / 72 <= PAGE_WIDTH * 1.03, f"{float(width) / 72:.1f} in: {c.source.splitlines()[0]}"


def test_the_theme_is_readable_in_print():
    with plt.rc_context():
        set_theme()
        sizes = ("font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize",
            "legend.fontsize")
        assert all(plt.rcParams[s] >= 7 for s in sizes) and plt.rcParams["figure.figsize"][0] <= PAGE_WIDTH


def test_one_command_writes_pdf_and_svg(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    from figures import write

    sources = ["from ion_ode.plotting import set_theme\nset_theme()",
               "import matplotlib.pyplot as plt\nplt.plot([1, 2]);", "plt.plot([2, 1]);"]  # fmt: skip
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    nbformat.write(nb, tmp_path / "two.ipynb")
    files = write(tmp_path / "two.ipynb", tmp_path / "out")
    assert [f.name for f in files] == ["two-1.pdf", "two-1.svg", "two-2.pdf", "two-2.svg"]
    assert all(f.read_bytes().startswith(b"%PDF" if f.suffix == ".pdf" else b"<?xml") for f in files)

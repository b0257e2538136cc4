"""The figures of the chapters for print: every notebook is run, every figure that it draws written as PDF and SVG.

    python tools/figures.py                              chapters 00 to 07, into figures/
    python tools/figures.py nbs/05_results.ipynb --out paper

Figures are drawn at the size at which they are printed (`ion_ode.plotting.PAGE_WIDTH` at most).
"""

import argparse
import base64
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
BOTH = """import matplotlib_inline.backend_inline as inline
one_format = inline.set_matplotlib_formats
inline.set_matplotlib_formats = lambda *formats, **how: one_format("svg", "pdf")"""  # set_theme asks for SVG alone


def left_out(cell) -> bool:
    "Whether a cell is marked as one that tests leave out: a long run, or one that needs a GPU."
    flags = re.search(r"^tst_flags\s*=\s*(.*)$", (ROOT / "settings.ini").read_text(), re.M)[1].split()
    return cell.cell_type == "code" and any(re.search(rf"^#\|\s*{f}\b", cell.source, re.M) for f in flags)


def drawn(notebook: Path) -> list[dict]:
    "The figures of a notebook that is run now: data by kind."
    nb = nbformat.read(notebook, as_version=4)
    nb.cells = [c for c in nb.cells if not left_out(c)]
    nb.cells.insert(0, nbformat.v4.new_code_cell(BOTH))
    client = NotebookClient(nb, timeout=900, kernel_name="python3", resources={"metadata": {"path": notebook.parent}})
    client.execute()
    data = [o.get("data", {}) for c in nb.cells if c.cell_type == "code" for o in c.outputs]
    return [d for d in data if "application/pdf" in d]


def write(notebook: Path, out: Path) -> list[Path]:
    "Its figures as NOTEBOOK-1.pdf, NOTEBOOK-1.svg, NOTEBOOK-2.pdf and so on."
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for k, d in enumerate(drawn(notebook), 1):
        name = out / f"{notebook.stem}-{k}"
        for ending, content in (("pdf", base64.b64decode(d["application/pdf"])), ("svg", d["image/svg+xml"].encode())):
            file = name.with_suffix(f".{ending}")
            file.write_bytes(content)
            files.append(file)
    return files


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("notebooks", nargs="*", type=Path, default=sorted((ROOT / "nbs").glob("0[0-7]_*.ipynb")))
    p.add_argument("--out", type=Path, default=ROOT / "figures")
    a = p.parse_args()
    total = 0
    for notebook in a.notebooks:
        files = write(notebook, a.out)
        total += len(files)
        print(f"{notebook.name}: {len(files) // 2} figures", flush=True)
    print(f"{total} files in {a.out}")
    return not total


if __name__ == "__main__":
    sys.exit(main())

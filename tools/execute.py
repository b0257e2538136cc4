"""Run pages in place, and keep of their outputs what a page can show: no progress bar, no widget, no count of a cell.

    python tools/execute.py nbs/05_results.ipynb nbs/index.ipynb
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

UNSHOWN = re.compile(r"\d+%\||widget-view")  # A progress bar, a widget


def execute(page: Path) -> int:
    "Run one page; how many of its outputs were left out."
    nb, left = nbformat.read(page, as_version=4), 0
    NotebookClient(nb, timeout=None, kernel_name="python3", resources={"metadata": {"path": page.parent}}).execute()
    for c in nb.cells:
        if c.cell_type == "code":
            shown = [o for o in c.outputs if not UNSHOWN.search(json.dumps(o))]
            left, c.outputs = left + len(c.outputs) - len(shown), shown
    nb.metadata.pop("widgets", None)
    nbformat.write(nb, page)
    subprocess.run([Path(sys.executable).with_name("nbdev-clean"), "--fname", page], check=True)
    return left


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {execute(Path(name))} outputs left out", flush=True)

"""Rules that nbdev-test cannot check: what bites the docs build, stored outputs, the README."""

import ast
import importlib.util
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbdev.process import NBProcessor

ROOT = Path(__file__).parents[1]
NBS = sorted(p for p in (ROOT / "nbs").rglob("[!_]*.ipynb") if ".ipynb_checkpoints" not in p.parts)
GPU = {"cuda"}
EVERY = pytest.mark.parametrize("fn", NBS, ids=lambda p: p.relative_to(ROOT / "nbs").with_suffix("").as_posix())


def code(fn):
    return [c for c in NBProcessor(fn, rm_directives=False, process=True).nb.cells if c.cell_type == "code"]


def statements(cell):
    "The cell's Python; shell lines and cells of another language have none."
    if cell.source.lstrip().startswith("%%"):
        return []
    return ast.parse(re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.M)).body


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


UNSHOWN = tool("execute").UNSHOWN


def test_there_are_notebooks():
    assert len(NBS) > 5 and ROOT / "nbs/index.ipynb" in NBS


@EVERY
def test_imports_stand_alone(fn):
    "Docs builds run every cell that imports, in a namespace without the other cells."
    for c in code(fn):
        d = c.directives_
        if {"export", "exports", "exporti"} & set(d) or d.get("eval") == "false":
            continue
        body = statements(c)
        imports = [n for n in body if isinstance(n, (ast.Import, ast.ImportFrom))]
        assert not imports or len(imports) == len(body), c.source


@EVERY
def test_gpu_cells_keep_their_output(fn):
    "Or the page says that it has none."
    if "no number from a GPU is stored on this page" in fn.read_text(encoding="utf-8"):
        return
    for c in code(fn):
        if GPU & set(c.directives_):
            assert c.outputs, f"{fn.name} {c.id}: run it on a GPU and save the output"


@EVERY
def test_no_saved_errors_counts_or_warnings(fn):
    assert "widgets" not in json.loads(fn.read_text(encoding="utf-8"))["metadata"], "states of widgets are stored"
    for c in code(fn):
        assert c.get("execution_count") is None, "run nbdev-clean"
        for o in c.outputs:
            assert o.output_type != "error", f"{c.id}: saved traceback"
            text = "".join(o.get("text", ""))
            assert not re.search(r"\w*Warning: ", text), f"{c.id}: a warning is stored as output: {text[:200]}"
            shown = json.dumps(o)
            assert not UNSHOWN.search(shown), f"{c.id}: a progress bar or a widget is stored as output"
            assert not re.search(r"/(work|root|home|tmp|Users)/\w", shown), (
                f"{c.id}: a path of one machine is stored as output"
            )


def test_a_page_that_is_run_keeps_what_a_page_can_show(tmp_path):
    sources = ["import sys\nprint(' 50%|#####', file=sys.stderr)\n6 * 7",
               "display({'application/vnd.jupyter.widget-view+json': {}, 'text/plain': 'x'}, raw=True)"]  # fmt: skip
    cells, page = [nbformat.v4.new_code_cell(s) for s in sources], tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {}}), page)
    assert tool("execute").execute(page) == 2
    nb = nbformat.read(page, as_version=4)
    assert [[o.data["text/plain"] for o in c.outputs] for c in nb.cells] == [["42"], []]
    assert "widgets" not in nb.metadata and not any(c.execution_count for c in nb.cells)


@EVERY
def test_cells_that_show_something_have_run(fn):
    "A chapter reads whole without being executed: cells that end in a value or draw carry the stored output."
    missing = []
    for c in code(fn):
        d = set(c.directives_)
        if d & {"export", "exports", "exporti", "hide", "eval", "slow", "cuda", "notest", "default_exp", "output"}:
            continue
        body = statements(c)
        last = body[-1] if body else None
        shows = isinstance(last, ast.Expr) and isinstance(last.value, (ast.Name, ast.Attribute, ast.Subscript))
        if shows and not c.source.rstrip().endswith(";") and not c.outputs:
            missing.append(f"{c.id}: {c.source.splitlines()[-1]}")
    assert not missing


def test_readme_is_the_index():
    "README.md and its figures are what tools/readme.py makes of nbs/index.ipynb."
    text, figures = tool("readme").render(ROOT / "nbs" / "index.ipynb")
    assert (ROOT / "README.md").read_text(encoding="utf-8") == text
    assert figures, "the README shows a figure"
    for name, png in figures.items():
        assert (ROOT / name).read_bytes() == png
    assert {p.name for p in (ROOT / "index_files").iterdir()} == {Path(n).name for n in figures}


def test_readme_links_and_figures_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target and not target.startswith("#"):
            assert (ROOT / target).exists(), target


def test_every_chapter_is_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    chapters = sorted(p.name for p in (ROOT / "nbs").glob("[0-9][0-9]_*.ipynb"))
    assert chapters
    for name in chapters:
        assert f"(nbs/{name})" in text, f"{name} is not in the chapter table"


def test_check_site_catches_what_it_should(tmp_path):
    "Each rule of the site check fails on a page that breaks it."
    site = tool("check_site")
    page = tmp_path / "a.ipynb"
    page.write_text("{}")
    pages = {"a.html": page}
    look = lambda text: site.check_links(text, page, tmp_path, "https://x.org/ion_ode/", pages, {"a.html#f"})[0]
    assert look("[b](b.ipynb)") == ["b.ipynb does not exist"]
    assert look("![](a.ipynb)") == ["image a.ipynb has no text alternative"]
    assert look("[f](https://x.org/ion_ode/nowhere.html)") and look("[f](https://x.org/ion_ode/a.html.md#g)")
    assert look('<img src="a.png">') == ['image without alt: <img src="a.png">']
    cell = lambda text: {"cell_type": "markdown", "source": text}
    there = {page.resolve(): site.headings([cell("# On film\n## 2A: a `c_f` [x](y)\n## Own {#mine}\n## On film")])}
    assert there == {page.resolve(): {"on-film", "a-a-c_f-x", "mine", "on-film-1"}}
    seek = lambda text: site.check_links(text, page, tmp_path, "https://x.org/", pages, set(), there)[0]
    assert seek("[f](#on-film-1) [g](a.ipynb#mine)") == [] and seek("[f](#off)") == ["this page has no #off"]
    assert seek("[f](a.ipynb#own)") == ["a.ipynb has no #own"]
    assert look("[a](a.ipynb) [h](a.html) [f](https://x.org/ion_ode/a.html#f) ![seen](a.ipynb) `[no](link)`"[:70]) == []


def test_check_notebooks_expects_every_file():
    assert tool("check_notebooks").expected() == {
        p.relative_to(ROOT / "nbs").as_posix()
        for p in (ROOT / "nbs").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in p.parts
    }


def test_checks_table_reports_failure(monkeypatch, capfd):
    "One failing check makes the whole run fail, and the others still run."
    checks = tool("checks")
    ok, bad = [sys.executable, "-c", "print('1 passed')"], [sys.executable, "-c", "raise SystemExit(3)"]
    monkeypatch.setattr(checks, "STEPS", {"bad": bad, "ok": ok})
    monkeypatch.setattr(sys, "argv", ["checks.py"])
    assert checks.main() == 1
    out = capfd.readouterr().out
    assert "FAILED  bad" in out and "ok      ok" in out and "1 of 2 checks hold" in out
    monkeypatch.setattr(sys, "argv", ["checks.py", "ok"])
    assert checks.main() == 0
    monkeypatch.setattr(sys, "argv", ["checks.py", "nonsense"])
    assert checks.main() == 2


def test_the_watch_over_notebooks_ends_what_spins_or_sleeps_and_nothing_slow():
    check = tool("check_notebooks")
    slow = [0.02 * k for k in range(5000)]  # a fiftieth of a core: a machine at load 50
    assert not any(check.stuck(slow[: n + 1], 900, 7200) for n in range(0, 5000, 97))
    assert "no CPU time for 900 s" in check.stuck([3.0] * 901, 900, 7200)
    assert "more than 7200 s of CPU" in check.stuck([7201.0], 900, 7200)
    for code, why in (("while True: pass", "of CPU"), ("import time; time.sleep(1e4)", "no CPU time")):
        with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as proc:
            assert why in check.watch(proc, idle=2, cpu=1.0)
            assert proc.wait() == -signal.SIGKILL

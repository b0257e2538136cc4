"""The tools that build and look at the site: what the reference shows, what would be loaded, what a browser sees."""

import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

import ion_ode

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
HEAD = '<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width, initial-scale=1">'


def tool(name, monkeypatch):
    "A module of tools/."
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entry(name, line, signature):
    text = f"---\n\n[source](https://x.org/a.py#L{line})\n\n### {name}\n\n```python\n{signature}\n```\n\n*Costs $5.*"
    return {"cell_type": "code", "source": f"show_doc({name})", "outputs": [{"data": {"text/markdown": text}}]}


def test_reference_is_readable_and_in_order(monkeypatch):
    reference = tool("reference", monkeypatch)
    cells = [
        entry("b", 30, "def b(\n    lam:torch.Tensor, # $\\lambda = r_s/r_p$ [-]\n)->__main__.Told:"),
        entry("a", 10, "def a(\n):"),
        {"cell_type": "markdown", "source": "between"},
        entry("c", 5, "def c(\n):"),
    ]
    assert reference.scars(cells) == ["reference: __main__ in def b("]
    tidy = reference.tidy(cells)
    assert [c["source"] for c in tidy] == ["show_doc(a)", "show_doc(b)", "between", "show_doc(c)"]
    text = tidy[1]["outputs"][0]["data"]["text/markdown"]
    assert "lam:Tensor, # λ = r_s/r_p [-]" in text and ")->Told:" in text and "*Costs $5.*" in text
    assert not reference.scars(tidy)


def test_list_of_names_has_every_module_and_its_sentences(monkeypatch):
    from ion_ode._modidx import d

    text = tool("reference", monkeypatch).every_name(ROOT, d)
    assert "## ion_ode.dspmde.solve" in text
    assert re.search(r"- \[`simulate`\]\(\S+#simulate\): \w", text) and "`_" not in text


def test_mathematics_is_served_beside_the_pages(tmp_path, monkeypatch):
    site = tool("site", monkeypatch)
    fonts = tmp_path / "package/es5/output/chtml/fonts"
    fonts.mkdir(parents=True)
    (fonts / "a.woff").write_bytes(b"font")
    (tmp_path / "package/es5" / site.SCRIPT).write_text("// mathjax")
    docs = tmp_path / "docs"
    (docs / "guides").mkdir(parents=True)
    page = docs / "guides/a.html"
    page.write_text(
        '<script src="https://cdnjs.cloudflare.com/polyfill/v3/polyfill.min.js?features=es6"></script>'
        '<script src="https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-chtml-full.js" type="text/javascript"></script>'
        '<a href="https://x.org/">elsewhere</a>'
    )
    assert len(site.foreign(docs)) == 2
    assert site.localise(docs, tmp_path / "package") == 1
    assert site.foreign(docs) == [] and 'src="../site_libs/mathjax/tex-chtml-full.js"' in page.read_text()
    (docs / "a.css").write_text('@import url("https://fonts.example/css2?family=Lato");')
    assert site.foreign(docs) == ["a.css: https://fonts.example/css2?family=Lato"]


def test_footer_names_this_version():
    footer = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]["page-footer"]
    assert ion_ode.__version__ in footer["left"] and "Apache" in footer["right"]


@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="needs Chromium and its chromedriver (Debian: chromium chromium-driver)",
)
def test_sweep_sees_what_is_wrong(tmp_path, monkeypatch, capsys):
    sweep = tool("sweep", monkeypatch)
    (tmp_path / "good.html").write_text(f'<html lang="en"><head>{HEAD}</head><body>'
                                        '<main><h2 id="here">Good</h2><a href="bad.html#there">on</a></main>')
    (tmp_path / "bad.html").write_text(
        f'<html lang="en"><head>{HEAD}</head><body><main><p style="width:800px">wide</p>'
        '<p style="color:#aaa">pale</p><button></button><a href="good.html#nowhere">x</a>'
        "<script>console.error('broken')</script></main></body></html>"
    )
    monkeypatch.setattr(sys, "argv", ["sweep", str(tmp_path), "--chapters", "good.html"])
    assert sweep.main() == 1
    said = capsys.readouterr().out
    for problem in ("bad.html 390 light: wider than 390 px", "bad.html 1280 dark: contrast 2.3", "no name: button",
                    "console:", "good.html: bad.html has no #there", "bad.html: good.html has no #nowhere",
                    "good.html: first figure at None px"):
        assert problem in said, said
    assert "good.html 390" not in said and "bad.html 1280 light: wider" not in said

"""The site: rendered by Quarto, then made to load nothing from elsewhere.

    python tools/site.py                      render into _docs
    python tools/site.py --local MATHJAX      take the mathematics from MATHJAX, the unpacked npm package `mathjax` 3

Quarto asks a content network for MathJax and a polyfill. The second step copies MathJax (script and fonts) beside the
pages, points every page there, and fails where a script, style sheet, font or image would still come from another host.
"""

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = "tex-chtml-full.js"
POLYFILL = re.compile(r'\s*<script src="https://[^"]*polyfill[^"]*"></script>')
# what Quarto adds to a page that holds a table of a notebook, for widgets that no page here has
WIDGETS = re.compile(
    r'\s*<script [^>]*src="https://[^"]*/(?:jquery|requirejs|@jupyter-widgets/html-manager)@[^"]*"[^>]*></script>'
    r"|\s*<script type=\"application/javascript\">define\('jquery'.*?</script>",
    re.S,
)
MATHJAX = re.compile(r'https://[^"]*/mathjax@3[^"]*/tex-[a-z-]+\.js')
LOADED = (
    re.compile(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="((?:https?:)?//[^"]+)"'),
    re.compile(r'<link\b(?=[^>]*\brel="(?:stylesheet|preload|icon|shortcut icon)")[^>]*\bhref="((?:https?:)?//[^"]+)"'),
)
STYLE = re.compile(r"""(?:@import\s+|url\()\s*["']?((?:https?:)?//[^"')\s]+)""")


def foreign(docs: Path) -> list[str]:
    "Everything that the pages and their style sheets would load from another host."
    out = []
    for page in sorted(docs.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        out += [f"{page.relative_to(docs)}: {url}" for pattern in LOADED for url in pattern.findall(text)]
    for sheet in sorted(docs.rglob("*.css")):
        out += [f"{sheet.relative_to(docs)}: {url}" for url in STYLE.findall(sheet.read_text(encoding="utf-8"))]
    return out


def localise(docs: Path, mathjax: Path) -> int:
    "Point every page to a copy of MathJax beside it; how many pages there are."
    target = docs / "site_libs" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(mathjax / "es5" / SCRIPT, target)
    fonts = Path("output", "chtml", "fonts")
    shutil.copytree(mathjax / "es5" / fonts, target / fonts, dirs_exist_ok=True)
    pages = sorted(docs.rglob("*.html"))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        near = Path(os.path.relpath(target / SCRIPT, page.parent)).as_posix()
        page.write_text(MATHJAX.sub(near, POLYFILL.sub("", WIDGETS.sub("", text))), encoding="utf-8")
    return len(pages)


def render() -> None:
    "What nbdev-docs does, with the reference of tools/reference.py."
    import nbdev.serve_drv
    from nbdev.quarto import nbdev_docs
    from site_page import build

    nbdev.serve_drv.main = build
    nbdev_docs()


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--local", type=Path, metavar="MATHJAX", help="folder of the unpacked npm package mathjax 3")
    p.add_argument("--docs", type=Path, default=ROOT / "_docs")
    a = p.parse_args()
    if a.local is None:
        render()
        return 0
    pages = localise(a.docs, a.local)
    left = foreign(a.docs)
    for f in left:
        print(" ", f)
    print(f"{pages} pages, {len(left)} things loaded from other hosts")
    return bool(left) or not pages


if __name__ == "__main__":
    sys.exit(main())

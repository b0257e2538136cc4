"""Check the pages of the site without Quarto.

Runs nbdev's own docs processing, which executes imports, exports and show_doc calls, then checks what Quarto would be
given: configuration, navigation, links between pages and to the headings on them, saved errors, titles, and a text
alternative for every figure. The anchors that Quarto really wrote are read from the rendered pages by tools/sweep.py.
"""

import json
import re
import sys
from pathlib import Path

import nbdev.serve_drv
import yaml
from nbdev.config import get_config, nbpath2html
from nbdev.doclinks import NbdevLookup
from nbdev.serve import proc_nbs

sys.path.insert(0, str(Path(__file__).parent))
from reference import scars  # noqa: E402
from site_page import process  # noqa: E402

MD_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)[^)]*\)")
MD_IMG = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)[^)]*\)")
HTML_IMG = re.compile(r"<img\b[^>]*>")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
GENERATED = {"explore/standalone.html"}  # By `make page`
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*$", re.M)
OWN_ID = re.compile(r"\{[^}]*#([\w-]+)[^}]*\}\s*$")
FIG_ALT = re.compile(r"^#\|\s*fig-(?:alt|cap):\s*\S", re.M)


def hrefs(node):
    "Every file that a piece of navigation names."
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for o in node:
            yield from hrefs(o)
    elif isinstance(node, dict):
        if str(node.get("section", "")).endswith(".ipynb"):
            yield node["section"]
        for k in ("href", "contents", "left", "right", "menu", "sidebar"):
            if k in node:
                yield from hrefs(node[k])


def labels(contents: list):
    "Numbered names of pages in the navigation, each with its page."
    for c in contents:
        if isinstance(c, dict):
            if "href" in c:
                yield c.get("section") or c["text"], c["href"]
            yield from labels(c.get("contents", []))


def title(page: Path) -> str:
    "The title that a processed page has in its front matter."
    head = "".join(json.loads(page.read_text(encoding="utf-8"))["cells"][0]["source"])
    return str((yaml.safe_load(head.strip().strip("-")) or {}).get("title", "")) if head.startswith("---") else ""


def anchor_of(heading: str) -> str:
    "The identifier that pandoc gives a heading: letters, digits, _ - . in lower case, from the first letter on."
    if own := OWN_ID.search(heading):
        return own[1]
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    plain = re.sub(r"\s+", "-", re.sub(r"[^\w\s.-]", "", plain).strip()).lower()
    return re.sub(r"^[^a-zà-ÿ]*", "", plain) or "section"


def headings(cells: list[dict]) -> set[str]:
    "Identifiers of all headings of a processed page, those of the reference among them."
    texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    texts += ["".join(o.get("data", {}).get("text/markdown", "")) for c in cells for o in c.get("outputs", [])]
    found, seen = set(), {}
    for heading in (h for t in texts for h in HEADING.findall(FENCE.sub("", t))):
        name = anchor_of(heading)
        found.add(f"{name}-{seen[name]}" if name in seen else name)
        seen[name] = seen.get(name, 0) + 1
    return found


def merge(*documents: dict) -> dict:
    "Nested merge, later ones win: what Quarto does with metadata-files."
    out = {}
    for d in documents:
        for k, v in d.items():
            out[k] = merge(out[k], v) if isinstance(v, dict) and isinstance(out.get(k), dict) else v
    return out


def check_config(cache: Path) -> tuple[list[str], set[str]]:
    "Problems of the site's configuration, and the pages its navigation shows."
    parts = ("_quarto.yml", "nbdev.yml", "sidebar.yml")
    q = merge(*(yaml.safe_load((cache / f).read_text(encoding="utf-8")) for f in parts))
    bad = []
    if q["project"].get("type") != "website":
        bad.append("_quarto.yml: project type is not website")
    if "commonmark" in q["format"] and not q["format"]["html"].get("keep-md"):
        bad.append("_quarto.yml: commonmark needs html keep-md")
    css = q["format"]["html"].get("css")
    if css and not (cache / css).exists():
        bad.append(f"_quarto.yml: css {css} does not exist")
    bad += [f"_quarto.yml: filter {f} does not exist" for f in q.get("filters", []) if not (cache / f).exists()]
    themes = q["format"]["html"].get("theme", {}).values()
    sheets = [f for t in themes for f in ([t] if isinstance(t, str) else t) if f.endswith(".scss")]
    favicon = [q["website"]["favicon"]] if "favicon" in q["website"] else []
    bad += [f"_quarto.yml: {f} does not exist" for f in sheets + favicon if not (cache / f).exists()]
    bad += [f"navigation: {h} does not exist" for h in hrefs(q["website"].get("navbar"))
            if "://" not in h and not (cache / h).exists()]
    shown = []
    for h in hrefs(q["website"].get("sidebar")):
        found = list(cache.glob(h)) if "://" not in h else [cache]
        if not found:
            bad.append(f"navigation: {h} does not exist")
        shown += [f.relative_to(cache).as_posix() for f in found]
    bad += [f"navigation: {f} is listed twice" for f in sorted(set(shown)) if shown.count(f) > 1]
    bad += [f"navigation: {page} is called '{said}', which is not its title"
            for said, page in labels(q["website"]["sidebar"]["contents"])
            if (cache / page).exists() and said.partition(" · ")[2] != title(cache / page)]  # fmt: skip
    return bad, set(shown)


def check_links(cell: str, page: Path, cache: Path, base: str, pages: dict, anchors: set, ids=None):
    """Links and images of one markdown cell: what points nowhere, and how many there are. `ids` are the identifiers of
    every page, by its path."""
    body = FENCE.sub("", cell)
    images = MD_IMG.findall(body)
    bad = [f"image {u} has no text alternative" for alt, u in images if not alt.strip()]
    bad += [f"image without alt: {t[:60]}" for t in HTML_IMG.findall(body) if "alt=" not in t]
    urls = MD_LINK.findall(body) + [u for _, u in images]
    for u in urls:
        if u.startswith(base):
            rest = u.removeprefix(base).removesuffix(".md")
            if rest.split("#")[0] not in ({""} | pages.keys()) or ("#" in rest and rest not in anchors):
                bad.append(f"{u} points nowhere")
        elif "://" not in u and not u.startswith("mailto:"):
            t, _, anchor = u.partition("#")
            near = (page.parent / t).resolve() if t else page.resolve()
            if anchor and near in (ids or {}) and anchor not in ids[near]:
                bad.append(f"{t or 'this page'} has no #{anchor}")
            inside = near.is_relative_to(cache.resolve())
            made = GENERATED & {near.relative_to(cache.resolve()).as_posix()} if inside else set()
            page_here = inside and near.relative_to(cache.resolve()).as_posix() in pages
            if not (near.exists() or made or page_here):
                bad.append(f"{t} does not exist")
    return bad, len(urls)


def main() -> int:
    cfg = get_config()
    nbdev.serve_drv.main = process
    cache = proc_nbs(n_workers=2, force=True)
    bad, shown = check_config(cache)
    base = cfg.doc_host.rstrip("/") + cfg.doc_baseurl.rstrip("/") + "/"
    files = [p for p in sorted(cache.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    pages = {nbpath2html(p.relative_to(cache)).as_posix(): p for p in files}
    if len(pages) < len(files):
        bad.append("two notebooks would become the same page")
    known = (v[0] for v in NbdevLookup().syms.values() if isinstance(v, tuple))
    anchors = {url.removeprefix(base) for url in known if url.startswith(base)}
    n_figures = n_links = 0
    ids = {p.resolve(): headings(json.loads(p.read_text(encoding="utf-8"))["cells"]) for p in files}
    for p in files:
        name = p.relative_to(cache).as_posix()
        if name not in shown:
            bad.append(f"{name}: no page of the navigation leads here")
        page = json.loads(p.read_text(encoding="utf-8"))
        cells = page["cells"]
        if failed := page["metadata"].get("failed"):
            bad.append(f"{name}: the docs build fails: {' '.join(failed.split())[-300:]}")
            continue
        if not any(re.search(r"^title:\s*\S", "".join(c["source"]), re.M) for c in cells[:1]):
            bad.append(f"{name}: no title (the first cell is not '# Title')")
        bad += [f"{name}: {b}" for b in scars(cells)]
        for i, c in enumerate(cells):
            source = "".join(c["source"])
            for o in c.get("outputs", []):
                if o["output_type"] == "error":
                    bad.append(f"{name} cell {i}: saved traceback")
                if any(k.startswith("image/") for k in o.get("data", {})):
                    n_figures += 1
                    if not FIG_ALT.search(source):
                        bad.append(f"{name} cell {i}: figure without '#| fig-alt: ...' (or fig-cap)")
            if c["cell_type"] == "markdown":
                problems, n = check_links(source, p, cache, base, pages, anchors, ids)
                bad += [f"{name} cell {i}: {b}" for b in problems]
                n_links += n
    for b in bad:
        print(" ", b)
    print(f"{len(pages)} pages, {n_links} links, {n_figures} saved figures, {len(bad)} problems")
    return bool(bad) or not pages


if __name__ == "__main__":
    sys.exit(main())

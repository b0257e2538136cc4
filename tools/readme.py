"""README.md from nbs/index.ipynb, and nbs/llms.txt from the titles of all pages, without Quarto.

    python tools/readme.py           write README.md (and its figures in index_files/) and nbs/llms.txt
    python tools/readme.py --check   fail if one of them is not what the notebooks say

Markdown cells are taken as they are, code cells as Python; what shown code prints stands below it as comments.
`#| hide` leaves a cell out, `#| echo: false` its code, `#| output: false` its outputs. Code that shows nothing stands
in one block with the next.
Links to notebooks are relative, so that they lead somewhere from every copy of the repository.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
from pathlib import Path

import yaml
from nbdev.config import get_config, nbpath2html
from nbdev.process import NBProcessor

ROOT = Path(__file__).resolve().parents[1]
FIGURES = "index_files"
LINK = re.compile(r"(\]\()([^):\s]+\.ipynb)(?=[)#])")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def text(value) -> str:
    return "".join(value) if isinstance(value, list) else value


def fence(body: str, language: str = "") -> str:
    return f"```{language}\n{body.rstrip()}\n```"


def from_root(markdown: str) -> str:
    "Links to notebooks, from the folder of the README."
    return LINK.sub(r"\1nbs/\2", markdown)


def render_output(output, alt: str, figures: dict[str, bytes]) -> str:
    "One stored output as markdown; a figure is added to `figures`."
    if output.output_type == "stream":
        return fence(ANSI.sub("", text(output.text)), "text")
    if output.output_type == "error":
        raise SystemExit("index.ipynb holds a saved error: run it again")
    data = output.data
    for kind, ending, read in (("image/svg+xml", "svg", str.encode), ("image/png", "png", base64.b64decode)):
        if kind in data:
            figure = read(text(data[kind]))
            name = f"{FIGURES}/{hashlib.sha256(figure).hexdigest()[:12]}.{ending}"
            figures[name] = figure
            return f"![{alt}]({name})"
    if "text/markdown" in data:
        return from_root(text(data["text/markdown"]))
    return fence(ANSI.sub("", text(data["text/plain"])), "text")


def add(parts: list[str], shown: str):
    "What code prints, as comments in its block; a figure or a text below it."
    if shown.startswith("```text") and parts and parts[-1].startswith("```python"):
        lines = [f"# {line}".rstrip() for line in shown.splitlines()[1:-1]]
        parts[-1] = fence("\n".join([*parts[-1].splitlines()[1:-1], *lines]), "python")
    else:
        parts.append(shown)


def render(notebook: Path) -> tuple[str, dict[str, bytes]]:
    "The README and its figures, from the notebook's cells."
    parts, figures = [], {}
    for cell in NBProcessor(notebook, rm_directives=False).nb.cells:
        d = cell.directives_
        if "hide" in d or "default_exp" in d:
            continue
        source = re.sub(r"^(?:#\|.*\n?)+", "", text(cell.source))
        if cell.cell_type == "markdown":
            parts.append(from_root(source))
        elif cell.cell_type == "code":
            if d.get("echo") != "false" and source.strip():
                block = fence(source, "python")
                if parts and parts[-1].startswith("```python"):
                    parts[-1] = parts[-1].removesuffix("```") + block.replace("```python\n", "", 1)
                else:
                    parts.append(block)
            if d.get("output") != "false":
                alt = d.get("fig-alt", "").strip("\"'")
                for shown in (render_output(o, alt, figures) for o in cell.get("outputs", [])):
                    add(parts, shown)
    head = "<!-- Made from nbs/index.ipynb by tools/readme.py: edit the notebook, then `make readme`. -->"
    return "\n\n".join([head, *(p.strip() for p in parts if p.strip())]) + "\n", figures


def llms() -> str:
    "The site for readers that are language models: what this is, and every page in the order of the navigation."
    cfg = get_config(ROOT)
    base = cfg.doc_url.rstrip("/") + "/"
    parts = [f"# {cfg.lib_name}", f"> {cfg.description}"]
    for section, pages in navigation():
        lines = []
        for page in pages:
            if not (ROOT / "nbs" / page).exists():
                raise SystemExit(f"nbs/sidebar.yml names {page}, which does not exist")
            head = text(json.loads((ROOT / "nbs" / page).read_text(encoding="utf-8"))["cells"][0]["source"])
            title, promise = re.search(r"^# (.+)", head, re.M), re.search(r"^> (.+)", head, re.M)
            url = base + nbpath2html(Path(page)).as_posix() + ".md"
            lines.append(f"- [{title[1] if title else page}]({url})" + (f": {promise[1]}" if promise else ""))
        parts.append(f"## {section}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def navigation() -> list[tuple[str, list[str]]]:
    "Sections of nbs/sidebar.yml with their notebooks."
    contents = yaml.safe_load((ROOT / "nbs" / "sidebar.yml").read_text(encoding="utf-8"))["website"]["sidebar"][
        "contents"
    ]
    top = [c for c in contents if isinstance(c, str)]
    return [("Start", top), *((c["section"], flat(c["contents"])) for c in contents if isinstance(c, dict))]


def flat(contents: list) -> list[str]:
    "Pages of a section: a chapter, then the pages that stand below it."
    return [p for c in contents for p in ([c] if isinstance(c, str) else [c["href"], *flat(c.get("contents", []))])]


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--check", action="store_true", help="write nothing, fail where something differs")
    check = p.parse_args().check
    readme, figures = render(ROOT / "nbs" / "index.ipynb")
    want = {"README.md": readme.encode(), "nbs/llms.txt": llms().encode()} | figures
    have = {"README.md", "nbs/llms.txt", *(f"{FIGURES}/{f.name}" for f in (ROOT / FIGURES).glob("*"))}
    differs = sorted(
        f for f in want.keys() | have if not (ROOT / f).is_file() or (ROOT / f).read_bytes() != want.get(f)
    )
    if check:
        for f in differs:
            print(f"{f} is not what the notebooks say: make readme")
        if not differs:
            print(f"README.md equals nbs/index.ipynb ({len(readme.splitlines())} lines, {len(figures)} figures)")
        return bool(differs)
    for f in differs:
        if f in want:
            (ROOT / f).parent.mkdir(exist_ok=True)
            (ROOT / f).write_bytes(want[f])
        else:
            (ROOT / f).unlink()
        print(f"{f} {'written' if f in want else 'removed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

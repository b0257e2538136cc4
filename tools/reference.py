"""The reference on the site: what nbdev's show_doc wrote about a function, as a reader wants it.

Types without the module they happen to be processed in, symbols instead of TeX (code blocks are not typeset), and the
functions of a cell in the order in which the page defines them.
"""

import ast
import re
from pathlib import Path

from pylatexenc.latex2text import LatexNodes2Text

SIGNATURE = re.compile(r"```python\n.*?```", re.S)
MATH = re.compile(r"\$([^$\n]+)\$")
MODULE = re.compile(r"\b(?:__main__|torch|numpy|pandas\.core\.frame|pathlib|collections\.abc|typing)\.(?=[A-Z])")
LINE = re.compile(r"#L(\d+)\)")


def symbols(tex: str) -> str:
    r"TeX as text: $\lambda = r_s/r_p$ as λ = r_s/r_p."
    plain = re.sub(r"\\(?:mathrm|text|rm|operatorname)\b", "", tex)
    plain = re.sub(r"\s*\\(ln|log|exp)\s+", r" \\\1{} ", plain)  # a space after a command is not printed
    plain = re.sub(r"(\\[A-Za-z]+)\s+(?=[=<>+-])", r"\1{} ", plain)
    return LatexNodes2Text(math_mode="text", strict_latex_spaces=True).latex_to_text(plain).strip()


def readable(markdown: str) -> str:
    "One entry of the reference."
    code = lambda m: MATH.sub(lambda t: symbols(t[1]), MODULE.sub("", m[0]))
    return SIGNATURE.sub(code, markdown)


def entry(cell: dict) -> dict | None:
    "The data of a cell's output where that is an entry of the reference."
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        text = "".join(data.get("text/markdown", ""))
        if text.startswith("---\n") and "```python" in text:
            return data
    return None


def line(cell: dict) -> int:
    "The line of the source that an entry links to."
    found = LINE.search("".join(entry(cell)["text/markdown"]))
    return int(found[1]) if found else 0


def tidy(cells: list[dict]) -> list[dict]:
    "The cells of a page with readable entries, neighbours among them in the order of the source."
    out, run = [], []
    for cell in cells:
        if data := entry(cell):
            data["text/markdown"] = readable("".join(data["text/markdown"]))
            run.append(cell)
        else:
            out += sorted(run, key=line) + [cell]
            run = []
    return out + sorted(run, key=line)


def scars(cells: list[dict]) -> list[str]:
    "What no entry of the reference may show."
    entries = ["".join(d["text/markdown"]) for d in map(entry, cells) if d]
    blocks = [block for text in entries for block in SIGNATURE.findall(text)]
    return [f"reference: {'__main__' if '__main__' in b else 'TeX'} in {b.splitlines()[1][:60]}"
            for b in blocks if "__main__" in b or MATH.search(b)]


LIST = "<!-- every public name -->"


def sentence(file: Path, names: list[str]) -> dict[str, str]:
    "First lines of the docstrings of functions and classes of a file."
    out = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            out[node.name] = (ast.get_docstring(node) or "").split("\n")[0]
    return out


def every_name(root: Path, index: dict) -> str:
    "A list of the public functions and classes of all pages, by module, with links and one sentence each."
    parts = []
    for module, symbols_ in sorted(index["syms"].items()):
        top = {s.removeprefix(module + "."): v for s, v in symbols_.items()}
        top = {n: v for n, v in top.items() if "." not in n and not n.startswith("_")}
        if not top:
            continue
        said = sentence(root / next(iter(top.values()))[1], list(top))
        rows = [f"- [`{n}`]({url}): {said.get(n) or 'see there'}" for n, (url, _) in top.items()]
        parts.append(f"## {module}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)

"""The reference on the site: what nbdev's show_doc wrote about a function, as a reader wants it.

Types without the module they happen to be processed in, symbols instead of TeX (code blocks are not typeset), and the
functions of a cell in the order in which the page defines them.
"""

import ast
import re
from pathlib import Path

from pylatexenc.latex2text import LatexNodes2Text

ROOT = Path(__file__).resolve().parents[1]
SIGNATURE = re.compile(r"```python\n.*?```", re.S)
MATH = re.compile(r"\$([^$\n]+)\$")
MODULE = re.compile(
    r"\b(?:__main__|(?:torch|numpy|pandas|pathlib|collections|typing|ion_ode)(?:\.[a-z_]\w*)*)\.(?=[A-Z])"
)
NEXT = re.compile(r",? #|,\n|\n\)|, \*?,? ?\w+[:=]")
LINE = re.compile(r"#L(\d+)\)")
COMMENT = re.compile(r"(^|  )# .*")
NAME = re.compile(r"^### ((?:\w+\.)*)(\w+)$", re.M)
PLACE = re.compile(r"/blob/[^/)]+/([\w/]+\.py)#L\d+\).*?^### (\w+)$", re.S | re.M)


def symbols(tex: str) -> str:
    r"TeX as text: $\lambda = r_s/r_p$ as λ = r_s/r_p."
    plain = re.sub(r"\\(?:mathrm|text|rm|operatorname)\b", "", tex)
    plain = re.sub(r"\s*\\(ln|log|exp)\s+", r" \\\1{} ", plain)  # a space after a command is not printed
    plain = re.sub(r"(\\[A-Za-z]+)\s+(?=[=<>+-])", r"\1{} ", plain)
    return LatexNodes2Text(math_mode="text", strict_latex_spaces=True).latex_to_text(plain).strip()


def end_of(text: str, start: int) -> int:
    "Where the default value ends that begins at `start`: before the next argument, a comment or the bracket."
    depth = 0
    for k in range(start, len(text)):
        if depth == 0 and NEXT.match(text, k):
            return k
        depth += (text[k] in "([{") - (text[k] in ")]}")
    return len(text)


def by_name(code: str, file: Path, name: str) -> str:
    "A signature whose defaults stand as in the source where they would be long descriptions: `NF270`, not its numbers."
    found = [n for n in ast.parse(file.read_text(encoding="utf-8")).body if getattr(n, "name", None) == name]
    if not found or not isinstance(found[0], ast.FunctionDef):
        return code
    a = found[0].args
    pairs = [*zip(a.args[len(a.args) - len(a.defaults) :], a.defaults, strict=True), *zip(a.kwonlyargs, a.kw_defaults)]
    for arg, value in pairs:
        at = re.search(rf"^    [^#\n]*?\b{arg.arg}(:[^=\n#]+)?=", code, re.M)
        if at and isinstance(value, ast.Name | ast.Call) and code[at.end()].isupper():
            code = code[: at.end()] + ast.unparse(value) + code[end_of(code, at.end()) :]
    return code


def readable(markdown: str, root: Path = ROOT) -> str:
    "One entry of the reference."
    place = PLACE.search(markdown)
    file = root / place[1] if place else None
    code = lambda m: by_name(m[0], file, place[2]) if file and file.exists() else m[0]
    plain = lambda m: symbols_of(MODULE.sub("", code(m))).replace(":NoneType=None", "=None")
    return SIGNATURE.sub(plain, markdown)


def told(lines: list[str], node: ast.AnnAssign) -> str:
    "The comment beside a field, or on the lines above it."
    for line_ in lines[node.lineno - 1 : node.end_lineno]:
        if "#" in line_:
            return line_.partition("#")[2].strip()
    above, k = [], node.lineno - 2
    while lines[k].strip().startswith("#"):
        above, k = [lines[k].strip("# \n"), *above], k - 1
    return " ".join(above)


def fields(file: Path, name: str) -> str:
    "A table of the fields of a dataclass or a named tuple, a sentence each; empty where it is none."
    text = file.read_text(encoding="utf-8")
    found = [n for n in ast.parse(text).body if isinstance(n, ast.ClassDef) and n.name == name]
    kinds = [ast.unparse(d) for d in (*found[0].decorator_list, *found[0].bases)] if found else []
    if not any("dataclass" in k or k == "NamedTuple" for k in kinds):
        return ""
    cell = lambda s: symbols_of(s).replace("|", "\\|")
    rows = [f"| `{n.target.id}` | {'`' + cell(ast.unparse(n.value)) + '`' if n.value else ''} | "
            f"{cell(told(text.splitlines(True), n))} |"
            for n in found[0].body if isinstance(n, ast.AnnAssign)]  # fmt: skip
    return "\n\n| Field | Default | Meaning |\n|---|--|------|\n" + "\n".join(rows) if rows else ""


def symbols_of(text: str) -> str:
    "The text with its mathematics as symbols."
    return MATH.sub(lambda t: symbols(t[1]), text)


def with_fields(markdown: str, root: Path) -> str:
    "An entry; below that of a dataclass, what its fields mean."
    place = PLACE.search(markdown)
    table = fields(root / place[1], place[2]) if place and (root / place[1]).exists() else ""
    return (SIGNATURE.sub("", markdown) if "*args, **kwargs" in markdown and table else markdown) + table


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


def printed(cell: dict) -> bool:
    "Whether a cell is the source of a function that the page shows (`#| exports`)."
    return cell["cell_type"] == "code" and any("Exported source" in text for text in cell["source"][:3])


def joined(run: list[dict], sources: list[dict], root: Path) -> list[dict]:
    """Entries in the order of the source, then the source that is shown, unfolded; what stands in it, signature and
    sentence, is not said twice, and one heading serves the functions of a cell (the others stay as anchors)."""
    for cell in sources:
        kept = (text for text in cell["source"] if not text.startswith("#| code-"))
        cell["source"] = [COMMENT.sub(lambda m: symbols_of(m[0]), text) for text in kept]
    code = "".join(text for cell in sources for text in cell["source"])
    run, heads = sorted(run, key=line), 0
    for cell in run:
        data = entry(cell)
        text, name = "".join(data["text/markdown"]), NAME.search("".join(data["text/markdown"]))
        if name and re.search(rf"^(def|class) {name[2]}\b", code, re.M):
            data["text/markdown"] = text[: name.end()] if not heads else f"[]{{#{(name[1] + name[2]).lower()}}}"
            heads += 1
        else:
            data["text/markdown"] = with_fields(readable(text, root), root)
    return run + sources


def tidy(cells: list[dict], root: Path = ROOT) -> list[dict]:
    "The cells of a page with readable entries, neighbours among them in the order of the source."
    out, run, sources = [], [], []
    for cell in cells:
        if entry(cell):
            run.append(cell)
        elif printed(cell):
            sources.append(cell)
        else:
            out += [*joined(run, sources, root), cell]
            run, sources = [], []
    return out + joined(run, sources, root)


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

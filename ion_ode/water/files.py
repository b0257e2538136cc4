"""Tables as they lie in a file, a pipe or a frame: cells with their rows, bounded in size, nothing converted

Docs: https://ion-ode.github.io/ion_ode/guides/my_data.html.md"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import stat
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ion_ode.core import need
from ion_ode.guard import once
from ion_ode.water.cells import TableError, empty_cells, is_empty, text_of
from ion_ode.water.headers import parse_header
from ion_ode.water.units import is_unit

__all__ = ["RawTable", "read_pieces", "read_table"]

MOST_COLUMNS, MOST_CELLS, MOST_BYTES, LONGEST_LINE = 1000, 5_000_000, 1 << 28, 1 << 20
_FORMATS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".xlsx": "excel", ".xlsm": "excel", ".xls": "old excel",
    ".parquet": "parquet", ".pq": "parquet",
           ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}  # fmt: skip


@dataclass
class RawTable:
    "Cells as they stand."

    name: str  # Of the file
    cells: pd.DataFrame  # Columns by header, cells as text or as the file's own numbers
    rows: np.ndarray  # Row of each in the file, the header being row 1; position in a frame
    notes: list[str] = field(default_factory=list)  # What was not read
    separator: str = ""  # Between the cells of a text


def _refuse(name: str, problem: str, fix: str, row=None) -> TableError:
    return TableError(name, [(row, "", "", problem, fix)])


# ---- text


def _lines(stream, name: str, notes: list) -> Iterator[str]:
    "Lines of a binary stream: UTF-8, UTF-16 by its mark, else Windows-1252 with a note; of bounded length."
    head = stream.peek(4)[:4] if hasattr(stream, "peek") else b""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        stream = io.BytesIO(stream.read(MOST_BYTES).decode("utf-16").encode())
    elif b"\r" in (some := stream.peek(4096)) and b"\n" not in some:  # lines of old Macs end with CR alone
        stream = io.BytesIO(stream.read(MOST_BYTES).replace(b"\r", b"\n"))
    first, size = True, 0
    while line := stream.readline(LONGEST_LINE):
        size += len(line)
        if b"\x00" in line:
            raise _refuse(name, "the file holds binary data, not text", "save it as CSV in UTF-8")
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            raise _refuse(name, f"a line is longer than {LONGEST_LINE // 1024} KiB", "this is no table of text")
        try:
            text = line.decode("utf-8-sig" if first else "utf-8")
        except UnicodeDecodeError:
            text = line.decode("cp1252", "replace")
            if not any("Windows-1252" in n for n in notes):
                notes.append("the file is not UTF-8; its letters were read as Windows-1252")
        first = False
        yield text


def _separator(header: str) -> str:
    "What stands between the cells of a header, outside quotes and brackets."
    bare, depth, quoted = [], 0, False
    for ch in header:
        quoted ^= ch == '"'
        depth += (ch in "[(") - (ch in "])")
        if not quoted and depth <= 0:
            bare.append(ch)
    return max("\t;,|", key=bare.count)


def _count(cells: list) -> int:
    "Cells that hold something; the first, where others do: analytes may stand under nothing."
    full = [not is_empty(c) for c in cells]
    return sum(full) + (any(full) and not full[0])


def _filled(line: str, separator: str) -> int:
    "Cells of a line that hold something."
    if line.lstrip().startswith("#"):
        return 0
    try:
        return _count([c.strip() for c in next(csv.reader([line], delimiter=separator), [])])
    except csv.Error:
        return 1


def _header_of(lines: Iterator[str], name: str, notes: list) -> tuple[str, int, str, Iterator[str]]:
    """The header, its line, what stands between its cells ('sep=;' may say so), and what follows; no comment and no
    title above it."""
    number, said, kept = 0, "", []
    for line in lines:
        number += 1
        if m := re.fullmatch(r"sep=([;,|\t])", line.strip(" \r\n"), re.I):
            said = m[1]
        elif kept or (line.strip() and not line.lstrip().startswith("#")):
            kept.append(line)
        if len(kept) == _FIRST:
            break
    if not kept:
        problem = "the file holds no rows" if number else "the file is empty"
        raise _refuse(name, problem, "it needs a header and one row an ion")
    separators = [said or _separator(line) for line in kept]
    above = _titles([_filled(*pair) for pair in zip(kept, separators, strict=True)])
    if above:
        notes.append(f"{above} line(s) above the header were left out, the first {kept[0].strip()[:40]!r}")
    first = number - len(kept) + 1 + above
    return kept[above], first, separators[above], itertools.chain(kept[above + 1 :], lines)


def _text_rows(
    header: str, number: int, separator: str, lines: Iterator[str], name: str, notes: list
) -> Iterator[tuple[int, list[str]]]:
    """Rows of a text table with the line they begin on; a line that begins with # and is not as long as the header is
    a comment."""
    reader = csv.reader(itertools.chain([header], lines), delimiter=separator, skipinitialspace=True, strict=True)
    width, begin, comments = None, number, []
    try:
        for row in reader:
            line, begin = begin, number + reader.line_num
            cells = [c.strip() for c in row]
            while cells and not cells[-1] and (width is None or len(cells) > width):
                cells.pop()
            if not any(cells):
                continue
            if width is not None and cells[0].startswith("#") and len(cells) != width:
                comments.append(line)
                continue
            if width is not None and len(cells) > width:
                raise _refuse(
                    name,
                    f"line {line} has {len(cells)} cells, the header has {width}",
                    "quote cells that contain the separator, or name every column",
                    line,
                )
            width = len(cells) if width is None else width
            if width > MOST_COLUMNS:
                raise _refuse(name, f"the header has {width} columns", f"a table has at most {MOST_COLUMNS}")
            yield line, cells + [""] * (width - len(cells))
    except csv.Error as e:
        raise _refuse(
            name,
            f"the table cannot be parsed near line {number + reader.line_num} ({e})",
            "quote cells that contain the separator",
        ) from e
    if comments:
        notes.append(f"{len(comments)} comment line(s) were left out, the first in row {comments[0]}")


# ---- workbooks


def _excel_rows(path: Path, name: str, notes: list, sheet: str | None) -> Iterator[tuple[int, list]]:
    "Rows of a workbook's first sheet that holds any; percentages as they are shown."
    openpyxl = need("openpyxl", "data")
    with zipfile.ZipFile(path) as z:
        size = sum(i.file_size for i in z.infolist())
        if size > MOST_BYTES:
            raise _refuse(name, f"the workbook unpacks to {size >> 20} MiB", "save the one sheet as CSV")
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        names = [s.title for s in book.worksheets]
        if sheet is not None and sheet not in names:
            raise _refuse(name, f"there is no sheet {sheet!r}", f"it has {', '.join(names)}")
        for s in book.worksheets:
            if sheet is not None and s.title != sheet:
                continue
            rows = _sheet_rows(s, name, notes)
            if (head := next(rows, None)) is None:
                continue
            if other := [n for n in names if n != s.title]:
                notes.append(f"sheet {s.title!r} was read; not read: {', '.join(other[:8])}")
            yield from itertools.chain([head], rows)
            return
    finally:
        book.close()
    raise _refuse(name, "the file is empty", "it needs a header and one row an ion")


def _shown(cell):
    "A cell as the sheet shows it, as far as that changes what it means."
    v = cell.value
    if type(v) in (int, float) and "%" in (form := getattr(cell, "number_format", "") or ""):
        bare = re.sub(r'"[^"]*"|\\.', "", form)  # a percent sign as text, quoted or escaped, multiplies nothing
        return f"{100 * v if '%' in bare else v:.12g}%"
    return v


def _sheet_rows(sheet, name: str, notes: list) -> Iterator[tuple[int, list]]:
    sheet.reset_dimensions()
    filled = [_count([c.value for c in row]) for row in sheet.iter_rows(max_row=_FIRST)]
    cells, blank, width, above = 0, 0, None, _titles(filled)
    if above:
        notes.append(f"{above} row(s) above the header of sheet {sheet.title!r} were left out")
    for k, row in enumerate(sheet.iter_rows(min_row=above + 1), start=above + 1):
        values = [_shown(c) for c in row]
        while values and (values[-1] is None or values[-1] == "") and (width is None or len(values) > width):
            values.pop()
        cells += len(row) + 1
        if cells > MOST_CELLS or len(values) > MOST_COLUMNS:
            raise _refuse(
                name,
                f"the sheet {sheet.title!r} is larger than {MOST_CELLS} cells or {MOST_COLUMNS} columns",
                "save the part that is meant as CSV",
            )
        if all(is_empty(v) for v in values):
            blank += 1
            if blank > 100_000:
                notes.append(f"what stands below row {k}, after 100,000 empty rows, was not looked at")
                return
            continue
        if width is not None and len(values) > width:
            raise _refuse(name, f"row {k} has {len(values)} cells, the header has {width}", "name every column", k)
        width = len(values) if width is None else width
        yield k, values + [None] * (width - len(values))


# ---- JSON


def _records(found, name: str) -> Iterator[tuple[int, dict]]:
    hint = 'expected records such as [{"Na+": 10, "Cl-": 10}]'
    if (
        isinstance(found, dict)
        and found
        and all(isinstance(v, list) for v in found.values())
        and len({len(v) for v in found.values()}) == 1
    ):
        found = [dict(zip(found, r)) for r in zip(*found.values())]
    if not isinstance(found, list) or not all(isinstance(r, dict) for r in found):
        raise _refuse(name, f"the JSON holds a {type(found).__name__} that is no table", hint)
    for k, r in enumerate(found, start=2):
        if bad := [c for c, v in r.items() if isinstance(v, (list, dict))]:
            raise _refuse(name, f"{bad[0]!r} of a record holds a {type(r[bad[0]]).__name__}", hint, k)
        yield k, r


def _json_frame(text: str, name: str, lines: bool) -> tuple[list[int], pd.DataFrame]:
    "Records of JSON, or of one object a line, as a frame."
    import pandas as pd

    try:
        if lines:
            found = [json.loads(t, object_pairs_hook=once) for t in text.splitlines() if t.strip()]
        else:
            found = json.loads(text, object_pairs_hook=once)
        rows = list(_records(found, name))
    except (ValueError, RecursionError) as e:
        if isinstance(e, TableError):
            raise
        said = "it is nested too deeply" if isinstance(e, RecursionError) else " ".join(str(e).split())[:200]
        raise _refuse(
            name, f"this is not a readable table ({said})", 'expected records such as [{"Na+": 10, "Cl-": 10}]'
        ) from e
    return [k for k, _ in rows], pd.DataFrame([r for _, r in rows], dtype=object)


# ---- what is common


def _pieces_of(rows: Iterator[tuple[int, list]], size: int, name: str) -> Iterator[tuple[list[int], pd.DataFrame]]:
    "Rows, the first of them a header, as frames of at most `size`."
    import pandas as pd

    _, header = next(rows)
    header = [text_of(h) for h in header]
    if (first := next(rows, None)) is not None:
        if not header[0] and len(header) > 1 and parse_header(text_of(first[1][0])).quantity is not None:
            header[0] = "Parameter"  # of a report whose analytes stand under nothing
        units = _units_below(header, first[1])
        header, rows = (units, rows) if units else (header, itertools.chain([first], rows))
    problems = [
        (1, h, "", f"two columns are called {h!r}", "keep one of them")
        for h in dict.fromkeys(header)
        if h and header.count(h) > 1
    ]
    if problems:
        raise TableError(name, problems)
    keep = [k for k, h in enumerate(header) if h]
    nameless = [k for k, h in enumerate(header) if not h]
    while some := list(itertools.islice(rows, size)):
        for line, r in some:
            if k := next((k for k in nameless if not is_empty(r[k])), None):
                raise _refuse(
                    name,
                    f"row {line} has {str(r[k])!r} in column {k + 1}, which has no name",
                    "name every column",
                    line,
                )
        yield (
            [line for line, _ in some],
            pd.DataFrame([[r[k] for k in keep] for _, r in some], columns=[header[k] for k in keep], dtype=object),
        )


_NO_UNIT = {"", "-", "--", "1", "ph", "unit", "units", "einheit", "none"}
_FIRST = 20  # Rows among which the header is looked for


def _units_below(header: list[str], cells: list) -> list[str] | None:
    "The header with the units of the row below it; None where that row holds anything but units."
    units = [u if u.lower() not in _NO_UNIT else "" for u in (text_of(v).strip("[]() ") for v in cells)]
    if not any(units) or not all(map(is_unit, filter(None, units))):
        return None
    return [f"{h} [{u}]" if h and u and parse_header(h).unit is None else h for h, u in zip(header, units, strict=True)]


def _titles(filled: list[int]) -> int:
    "How many rows stand above the header, from the filled cells of the first rows."
    most = max(filled, default=0)
    return next((k for k, n in enumerate(filled) if n >= 2 and 2 * n > most), 0) if most > 1 else 0


def _opened(source, name: str):
    "A bounded binary stream of a file, or of standard input."
    if source is None:
        return (
            io.BufferedReader(sys.stdin.buffer)
            if not isinstance(sys.stdin.buffer, io.BufferedReader)
            else sys.stdin.buffer
        )
    if not source.exists():
        raise _refuse(name, "there is no such file", "check the path")
    mode = source.stat().st_mode
    if stat.S_ISDIR(mode):
        raise _refuse(name, "is a folder", "name one file in it")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)) and str(source) not in ("/dev/stdin", "/dev/fd/0"):
        raise _refuse(name, "is a device, not a file", "name a file, or - for standard input")
    return source.open("rb")


def read_pieces(
    source,  # Path; "-" or None is CSV on standard input
    size: int = 1 << 62,  # Most rows a piece
    sheet: str | None = None,  # Of a workbook; None: the first that holds anything
) -> Iterator[RawTable]:  # So that the length of a text table does not matter
    "A table in pieces."
    path = None if source is None or str(source) == "-" else Path(source)
    name = "standard input" if path is None else path.name
    kind = (
        "csv" if path is None else _FORMATS.get(path.suffix.lower(), "csv" if str(path).startswith("/dev/") else None)
    )
    if kind is None:
        _opened(path, name).close()
        raise _refuse(
            name,
            f"files of type {path.suffix or '(none)'} are not read",
            "save it as .csv, .xlsx or .parquet (read are .csv, .tsv, .txt, .json, .jsonl, .parquet, .xlsx)",
        )
    notes: list[str] = []
    with _opened(path, name) as stream:
        try:
            for rows, frame in _frames(kind, path, stream, name, notes, size, sheet):
                yield RawTable(name, frame, np.array(rows), notes, frame.attrs.get("separator", ""))
        except (TableError, ImportError):
            raise
        except Exception as e:
            raise _refuse(
                name,
                f"the file cannot be read as {kind} ({type(e).__name__})",
                "open it and save it again, or export it as CSV",
            ) from e


def _frames(kind, path, stream, name, notes, size, sheet):
    "Pieces by the kind of file."
    import pandas as pd

    if path is not None and path.is_file() and path.stat().st_size == 0:
        raise _refuse(name, "the file is empty", "it needs a header and one row an ion")
    if kind == "csv":
        lines = _lines(stream, name, notes)
        header, number, separator, lines = _header_of(lines, name, notes)
        for rows, frame in _pieces_of(_text_rows(header, number, separator, lines, name, notes), size, name):
            frame.attrs["separator"] = separator
            yield rows, frame
    elif kind == "excel":
        yield from _pieces_of(_excel_rows(path, name, notes, sheet), size, name)
    elif kind == "old excel":
        raise _refuse(name, "the old .xls format is not read", "open it and save it as .xlsx or .csv")
    elif kind == "parquet":
        pq = need("pyarrow.parquet", "data")
        first = 2
        for batch in pq.ParquetFile(path).iter_batches(min(size, 65536)):
            frame = batch.to_pandas()
            frame = frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()
            yield list(range(first, first + len(frame))), frame
            first += len(frame)
    elif kind == "jsonl":
        number = 0
        lines = _lines(stream, name, notes)
        while some := list(itertools.islice(lines, min(size, 65536))):
            rows, frame = _json_frame("".join(some), name, True)
            yield [k + number for k in rows], frame
            number += len(some)
    else:
        data = stream.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise _refuse(
                name, f"the file is larger than {MOST_BYTES >> 20} MiB", "write it as .jsonl, .csv or .parquet"
            )
        yield _json_frame(data.decode("utf-8-sig"), name, False)


def _of_frame(source: pd.DataFrame, name: str) -> RawTable:
    "A frame with any index; a named index is a column."
    import pandas as pd

    if source.columns.nlevels > 1:
        raise _refuse(
            name,
            "the columns of the frame have several levels",
            "join their names: frame.columns = ['feed Na+ [mM]', ...]",
        )
    named = [n for n in source.index.names if n is not None]
    d = pd.DataFrame(
        source.reset_index(level=[n for n in named if n not in source.columns])
        if named and not isinstance(source.index, pd.RangeIndex)
        else source
    )
    d = d.reset_index(drop=True)
    names = [str(c) for c in d.columns]
    if twice := [h for h in dict.fromkeys(names) if names.count(h) > 1]:
        raise TableError(name, [(None, h, "", f"two columns are called {h!r}", "keep one of them") for h in twice])
    d.columns = names
    return RawTable(name, d, np.arange(len(d)))


def read_table(
    source,  # Path, "-", a frame, or records [{column: cell}]
    sheet: str | None = None,  # Of a workbook
) -> RawTable:
    "A whole table."
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        raw = _of_frame(source, "the table")
    elif isinstance(source, (list, tuple)) and source and all(isinstance(r, dict) for r in source):
        raw = _of_frame(pd.DataFrame(list(source)), "the table")
    elif isinstance(source, (str, Path)):
        parts, cells = [], 0
        for p in read_pieces(source, 50_000, sheet):
            parts.append(p)
            if (cells := cells + p.cells.size) > MOST_CELLS:
                raise _refuse(p.name, f"the table has more than {MOST_CELLS} cells", "cut it into several files")
        name = parts[0].name if parts else ("standard input" if str(source) == "-" else Path(source).name)
        if not parts:
            raise _refuse(name, "the file has a header but no rows", "add one row an ion")
        raw = RawTable(
            name,
            pd.concat([p.cells for p in parts], ignore_index=True),
            np.concatenate([p.rows for p in parts]),
            parts[0].notes,
            parts[0].separator,
        )
    else:
        raise _refuse("the table", f"a {type(source).__name__} arrived", "give a path, a DataFrame or records")
    full = (
        ~np.all([empty_cells(raw.cells[c]) for c in raw.cells], axis=0)
        if raw.cells.shape[1]
        else np.zeros(len(raw.cells), bool)
    )
    if not full.any():
        raise _refuse(
            raw.name,
            "the file has a header but no rows" if raw.name != "the table" else "the measurements are empty",
            "add one row an ion",
        )
    return replace(raw, cells=raw.cells[full].reset_index(drop=True), rows=raw.rows[full])

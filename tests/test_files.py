"""Tables as they lie in files: nothing cut, nothing guessed, sizes bounded."""

import json
import os
import threading
import zipfile

import numpy as np
import pandas as pd
import pytest

from ion_ode.core import InputError
from ion_ode.water.cells import decimal_mark
from ion_ode.water.files import read_pieces, read_table
from ion_ode.water.numbers import numbers

HEAD = "ion,feed [mM],note\n"


def written(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_hash_in_a_cell_cuts_nothing_and_comments_are_counted(tmp_path):
    raw = read_table(
        written(tmp_path, "# a comment, of mine\n" + HEAD + 'Na+,10,coupon #3\n# left out\n#5,1,2\nCl-,10,"x # y"\n')
    )
    assert raw.cells["note"].tolist() == ["coupon #3", "2", "x # y"] and raw.rows.tolist() == [3, 5, 6]
    assert "1 comment line(s) were left out, the first in row 4" in raw.notes[0]


@pytest.mark.parametrize(
    "content, words",
    {
        "a cell too many": (HEAD + "Na+,1,2\nNa+,1,2,3\n", "line 3 has 4 cells, the header has 3"),
        "all rows too long": ("Na+,Cl-\n3,7,7\n", "line 2 has 3 cells"),
        "no name": ("ion,,note\nNa+,1,2\n", "column 2, which has no name"),
        "twice": ("a,b,a\n1,2,3\n", "two columns are called 'a'"),
        "open quote": (HEAD + 'Na+,1,"open\nCl-,1,2\n', "cannot be parsed"),
        "binary": (b"a,b\n1,\x00\n", "binary data"),
        "a long line": ("a,b\n" + "x" * (2 << 20) + ",1\n", "longer than"),
        "many columns": (",".join(f"c{k}" for k in range(2000)) + "\n1\n", "2000 columns"),
        "only a header": (HEAD, "a header but no rows"),
        "nothing": ("", "the file is empty"),
    }.values(),
)
def test_refused(tmp_path, content, words):
    with pytest.raises(InputError, match=words):
        read_table(written(tmp_path, content))


def test_old_line_ends_and_a_declared_separator(tmp_path):
    want = read_table(written(tmp_path, HEAD + "Na+,10,x\nCl-,10,y\n")).cells
    for text in ("ion\tfeed [mM]\tnote\rNa+\t10\tx\rCl-\t10\ty\r", "sep=;\nion;feed [mM];note\nNa+;10;x\nCl-;10;y\n"):
        pd.testing.assert_frame_equal(read_table(written(tmp_path, text)).cells, want, check_frame_type=False)


@pytest.mark.parametrize(
    "form, value, shown",
    [
        ("0.0%", 0.5, "50%"),
        (r"0.0\%", 0.5, "0.5%"),
        ('0.0"%"', 0.5, "0.5%"),
        ('0" % of feed"', 50, "50%"),
        ("[Red]0%;-0%", 0.5, "50%"),
        ("0.0", 0.5, 0.5),
    ],
)
def test_a_percent_sign_that_is_text_multiplies_nothing(tmp_path, form, value, shown):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["ion", "rejection"])
    book.active.append(["Na+", value])
    book.active["B2"].number_format = form
    book.save(tmp_path / "t.xlsx")
    assert read_table(tmp_path / "t.xlsx").cells.rejection[0] == shown


@pytest.mark.parametrize("cell", [1 + 2j, pd.Period("2024-01"), pd.Timestamp("2024-01-01"), 10**400, np.bool_(True)])
def test_what_is_no_number_is_none(cell):
    alike = pd.Series([cell, cell], dtype=object if isinstance(cell, int) else None)
    for cells, wrong in ((alike, 2), (pd.Series([cell, 1.5], dtype=object), 1)):
        found = numbers(cells, [0, 1], "flux [LMH]")
        assert len(found.problems) == wrong and np.isnan(found.value[0])


def test_encodings_and_separators_agree(tmp_path):
    text = "ion;flux [µm/s];note\r\nNa+;10;Zürich\r\nCl-;10;;\r\n"
    want = read_table(written(tmp_path, text)).cells
    for name, data in {
        "bom": b"\xef\xbb\xbf" + text.encode(),
        "16": text.encode("utf-16"),
        "1252": text.encode("cp1252"),
        "tab": text.replace(";", "\t").encode(),
    }.items():
        raw = read_table(written(tmp_path, data))
        pd.testing.assert_frame_equal(raw.cells, want)
        assert bool(raw.notes) == (name == "1252"), raw.notes


def test_a_workbook_is_read_as_shown_and_its_other_sheets_are_named(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    first = book.active
    first.append(["R [%]", "c"])
    first.append([0.4, 1])
    first["A2"].number_format = "0.0%"
    book.create_sheet("spare").append(["x"])
    book.save(tmp_path / "b.xlsx")
    raw = read_table(tmp_path / "b.xlsx")
    assert raw.cells["R [%]"].tolist() == ["40%"] and "not read: spare" in raw.notes[0]
    with pytest.raises(InputError, match="no sheet 'other'; it has Sheet, spare"):
        read_table(tmp_path / "b.xlsx", sheet="other")


def test_a_workbook_that_unpacks_to_gigabytes_is_refused(tmp_path):
    pytest.importorskip("openpyxl")
    pd.DataFrame({"a": [1]}).to_excel(tmp_path / "b.xlsx", index=False)
    with zipfile.ZipFile(tmp_path / "b.xlsx", "a", zipfile.ZIP_DEFLATED) as z:
        with z.open("xl/padding.xml", "w", force_zip64=True) as f:
            for _ in range(300):
                f.write(bytes(1 << 20))
    assert (tmp_path / "b.xlsx").stat().st_size < 1 << 20
    with pytest.raises(InputError, match="unpacks to"):
        read_table(tmp_path / "b.xlsx")


def test_a_cell_in_the_last_corner_of_a_sheet(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["ion", "feed [mM]"])
    book.active.append(["Na+", 1])
    book.active["XFD1048576"] = "far"
    book.save(tmp_path / "c.xlsx")
    raw = read_table(tmp_path / "c.xlsx")
    assert len(raw.cells) == 1 and "after 100,000 empty rows" in raw.notes[0]


@pytest.mark.parametrize(
    "text, words",
    [
        ("[" * 100_000, "nested too deeply|not a readable table"),
        ('[{"a": 1, "a": 2}]', "stands twice"),
        ('[{"a": [1]}]', "holds a list"),
        ("3", "holds a int"),
        ('{"a": {"b": 1}}', "holds a dict"),
    ],
)
def test_json_that_is_no_table(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_table(written(tmp_path, text, "t.json"))


def test_json_and_lines_of_json(tmp_path):
    records = [{"Na+": 1.5, "note": "a"}, {"Na+": 2, "note": None}]
    for name, text in {
        "t.json": json.dumps(records),
        "c.json": '{"Na+": [1.5, 2], "note": ["a", null]}',
        "t.jsonl": "\n".join(map(json.dumps, records)),
    }.items():
        assert read_table(written(tmp_path, text, name)).cells["Na+"].tolist() == [1.5, 2]


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device here")
def test_a_device_is_no_file_and_a_pipe_is_one(tmp_path):
    with pytest.raises(InputError, match="is a device"):
        read_table("/dev/zero")
    os.mkfifo(pipe := tmp_path / "p.csv")
    threading.Thread(target=lambda: pipe.write_text(HEAD + "Na+,1,\n"), daemon=True).start()
    assert len(read_table(pipe).cells) == 1


def test_frames_with_any_index():
    d = pd.DataFrame({"ion": ["Na+", "Cl-"], "c": [1, 2]})
    for frame in (
        d,
        d.set_index("ion"),
        d.set_index(pd.Index(["x", "y"])),
        d.set_index(pd.MultiIndex.from_tuples([(0, 1), (0, 2)])),
        d.iloc[::-1].iloc[::-1],
    ):
        assert set(read_table(frame).cells) == {"ion", "c"}
    with pytest.raises(InputError, match="two columns are called 'c'"):
        read_table(pd.concat([d, d[["c"]]], axis=1))


def test_pieces_are_as_long_as_asked_for(tmp_path):
    path = written(tmp_path, "a,b\n" + "".join(f"{k},1\n" for k in range(11)))
    assert [len(p.cells) for p in read_pieces(path, 4)] == [4, 4, 3]


CELLS = {  # cell: value where nothing else is known, where a comma is shown to be decimal, bound
    "12.5": (12.5, 12.5, ""), "0,5": (0.5, 0.5, ""), "1,250": (None, 1.25, ""), "1.234": (1.234, None,
    ""), "1,234.5": (1234.5, None, ""), "1.234,5": (1234.5, 1234.5, ""),
    "1 234,5": (1234.5, 1234.5, ""), "1'234": (1234.0, 1234.0, ""), "−5": (-5.0, -5.0, ""), "<0.1": (0.1, 0.1,
    "<"), "≥ 99": (99.0, 99.0, ">"), "1e3": (1e3, 1e3, ""),
    "10 mM": (None, None, ""), "1_000": (None, None, ""), "inf": (None, None, ""), "0x10": (None, None, ""),
}  # fmt: skip


@pytest.mark.parametrize("cell", CELLS)
def test_cells(cell):
    for mark, want in (((None, False), CELLS[cell][0]), ((",", True), CELLS[cell][1])):
        x = numbers(pd.Series([cell, "7"], dtype=object), [2, 3], "c", mark)
        assert (len(x.problems) == 1) == (want is None), x.problems
        assert (x.value[0] == want and x.bound[0] == CELLS[cell][2]) if want is not None else np.isnan(x.value[0])
        assert x.value[1] == 7


def test_a_declared_comma_is_not_enough_to_read_a_thousand():
    mark = decimal_mark([["1,250", "20"]], ",")
    assert "may be 1250 or 1.250" in numbers(pd.Series(["1,250"]), [2], "c", mark).problems[0][3]
    assert decimal_mark([["1,250"], ["0,5"]]) == (",", True)
    with pytest.raises(InputError, match="some a decimal point"):
        decimal_mark([["0.5"], ["0,5"]])

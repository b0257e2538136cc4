"""The check of sizes and habits finds each of them."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("rules", ROOT / "tools" / "rules.py")
rules = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rules)


@pytest.fixture
def tree(tmp_path):
    "A package of two modules, one page, one test."

    def write(modules: dict, page=(), test=""):
        for folder in ("ion_ode", "nbs", "tests", "tools", "benchmarks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        for name, source in modules.items():
            (tmp_path / "ion_ode" / f"{name}.py").write_text(source)
        cells = [
            {"cell_type": t, "id": f"c{k}", "source": s.splitlines(keepends=True)} for k, (t, s) in enumerate(page)
        ]
        (tmp_path / "nbs" / "page.ipynb").write_text(json.dumps({"cells": cells}))
        (tmp_path / "tests" / "test_x.py").write_text(test)
        return tmp_path

    return write


def test_modules_and_exporting_cells_have_an_end(tree):
    lines = lambda n: "x = 1\n" * n
    root = tree(
        {"a": lines(500), "b": lines(501)},
        [("code", "#| export\n" + lines(60)), ("code", "#| export\n" + lines(61)), ("code", lines(300))],
    )
    assert list(rules.long_modules(root)) == ["ion_ode/b.py"]
    assert list(rules.long_cells(root)) == ["nbs/page.ipynb#c1", "90th-percentile"]
    few = [("code", "#| export\n" + lines(5))] * 30 + [("code", "#| export\n" + lines(60))] * 2
    assert not rules.long_cells(tree({}, few))


def test_long_lines_are_found_in_modules_and_notebooks(tree):
    long = f'"{"a b " * 30}"\n'
    root = tree({"a": long, "b": "x = 1\n"}, [("code", long)], "pass\n")
    assert sorted(rules.long_lines(root)) == ["ion_ode/a.py", "nbs/page.ipynb"]


def test_exported_code_of_a_chapter_is_shown_at_work(tree):
    code = "#| export\ndef f(): pass\n"
    root = tree({}, [("code", code), ("code", "f()"), ("code", "#| export\nX = 1\n"), ("code", code)])
    (root / "nbs" / "page.ipynb").rename(root / "nbs" / "02x_page.ipynb")
    assert list(rules.unchecked(root)) == ["nbs/02x_page.ipynb#c3"]


def test_a_public_name_is_read_spoken_of_or_in_a_signature(tree):
    a = (
        "LIMIT = 3\nclass Shown: pass\ndef used(): pass\ndef told(): pass\n"
        "def alone(x) -> Shown: return used() + LIMIT\ndef _own(): pass\n"
    )
    root = tree(
        {"a": a, "b": "from .a import used\nuse = used()\n"},
        [("code", "#| export\ndef alone(): pass"), ("markdown", "Call `told(3)`."), ("code", "use")],
    )
    assert list(rules.unread(root)) == ["ion_ode/a.py:LIMIT", "ion_ode/a.py:alone"]


@pytest.mark.parametrize(
    ("source", "breaks"),
    [
        ("subprocess.run(['x'], timeout=60)", True),
        ("while time.monotonic() < end: pass", True),
        ("assert time.perf_counter() - start < 3", True),
        ("client.wait(timeout=None)", False),
        ("spent = time.process_time() - start", False),
    ],
)
def test_limits_on_wall_time_are_found(tree, source, breaks):
    assert list(rules.wall_limits(tree({}, test=source))) == ["tests/test_x.py"] * breaks
    assert list(rules.wall_limits(tree({}, [("code", source)]))) == ["nbs/page.ipynb#c0"] * breaks

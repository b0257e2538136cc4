"The key of a cell moves with the code it can reach, and with nothing else."

import os
import shutil

import pytest

from ion_ode.cells import cell_keys
from ion_ode.closure import CELLS, ROOT, _module_file, closure, code_digest
from ion_ode.results.parts import _PARTS, _Run


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT, tmp_path / "ion_ode", ignore=shutil.ignore_patterns("__pycache__", "*.gz", "*.safetensors"))
    return tmp_path / "ion_ode"


def modules(root):
    for f in sorted(root.rglob("*.py")):
        parts = f.relative_to(root.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_a_function_more_in_a_module_moves_the_keys_that_reach_it_and_no_other(copy):
    homes = {f.__module__: f for f in CELLS.values() if f.__module__.startswith("ion_ode.")}
    keys = lambda: {home: code_digest(f, copy) for home, f in homes.items()}
    reach = {home: set(closure(home, copy)) for home in homes}
    before, moved = keys(), {}
    assert before == {home: code_digest(f) for home, f in homes.items()} and len(homes) > 9
    for module in modules(copy):
        path = _module_file(module, copy)
        text, was = path.read_text(encoding="utf-8"), path.stat()
        path.write_text(text + "\n\ndef one_more():\n    return 1\n", encoding="utf-8")
        moved[module] = {home for home, key in keys().items() if key != before[home]}
        assert moved[module] == {home for home in homes if module in reach[home]}, module
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert keys() == before
    assert moved["ion_ode.dspmde.newton"] and moved["ion_ode.attention_odenet.pore_field"]
    assert not moved["ion_ode.cli.ask"] and not moved["ion_ode.results.figures"]


def test_every_part_is_made_of_registered_cells(tmp_path):
    for profile in ("quick", "full"):
        for name, part in _PARTS.items():
            if profile == "quick" and name in ("ablation", "recipes", "start"):
                continue  # of the full profile alone
            cells = part.cells(_Run(tmp_path, profile))
            assert len({c.name for c in cells}) == len(cells) == len(set(cell_keys(cells).values()))
            assert cells or name in ("experiment", "answer-scores")  # the latter scores what is stored
    assert {f.__module__.split(".")[1] for f in CELLS.values()} == {
        "data",
        "inference",
        "prequalify",
        "results",
        "training",
    }


def test_a_comment_or_a_docstring_changes_nothing_and_the_cpp_source_does(copy):
    before = closure("ion_ode.attention_odenet.odenet", copy)
    path = _module_file("ion_ode.attention_odenet.ode", copy)
    path.write_text(
        '"""Said otherwise"""\n' + path.read_text(encoding="utf-8").split('"""', 2)[2] + "\n# a remark\n",
        encoding="utf-8",
    )
    assert closure("ion_ode.attention_odenet.odenet", copy) == before
    with (copy / "assets" / "fused.cpp").open("a") as f:
        f.write("\n// changed\n")
    after = closure("ion_ode.attention_odenet.odenet", copy)
    assert {m for m in after if after[m] != before[m]} == {"ion_ode.attention_odenet.fused"}

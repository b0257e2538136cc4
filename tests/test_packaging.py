"""What a user installs: sdist and wheel are complete, declare what they need, and work without extras or a checkout."""

import ast
import email
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from configparser import ConfigParser
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TOP = {".git", ".venv", "_proc", "_docs", "results", "runs", "build", "dist"}  # left out where they lie at top level


def leave(folder, names):
    "What a clean checkout does not hold."
    top = TOP if Path(folder) == ROOT else set()
    return {n for n in names if n in top or n == "__pycache__" or n.endswith((".egg-info", "_cache"))}


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    "An sdist, and the wheel made from it, of a copy of this folder: (sdist, wheel)."
    tmp = tmp_path_factory.mktemp("dist")
    source = shutil.copytree(ROOT, tmp / "source", ignore=leave, symlinks=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp / "out", source]
    r = subprocess.run(command, capture_output=True, text=True)
    assert r.returncode == 0, r.stdout[-2000:] + r.stderr[-2000:]
    (sdist,), (wheel,) = (tmp / "out").glob("*.tar.gz"), (tmp / "out").glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session")
def unpacked(built, tmp_path_factory):
    "The wheel's files, as they lie after an installation."
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(built[1]) as z:
        z.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def metadata(unpacked):
    (f,) = unpacked.glob("*.dist-info/METADATA")
    return email.message_from_string(f.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def ini():
    c = ConfigParser(delimiters=["="])
    c.read_string((ROOT / "settings.ini").read_text(encoding="utf-8"))
    return c["DEFAULT"]


def test_wheel_declares_every_dependency(metadata, ini):
    declared = [Requirement(r) for r in metadata.get_all("Requires-Dist")]
    plain = {str(r) for r in declared if r.marker is None}
    assert plain == {str(Requirement(r)) for r in ini["requirements"].split()}
    assert len(plain) >= 8
    for key in [k for k in ini if k.endswith("_requirements")]:
        extra = key.removesuffix("_requirements")
        of_extra = {r.name for r in declared if r.marker and r.marker.evaluate({"extra": extra})}
        assert {Requirement(r).name for r in ini[key].split()} <= of_extra
        assert extra in metadata.get_all("Provides-Extra")


def test_wheel_holds_the_package_and_nothing_else(built, unpacked):
    want = {
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "ion_ode").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    have = {
        p.relative_to(unpacked).as_posix()
        for p in unpacked.rglob("*")
        if p.is_file() and ".dist-info" not in p.parts[-2]
    }
    have = {h for h in have if ".dist-info/" not in h}
    assert have == want
    assert {"ion_ode/py.typed", "ion_ode/assets/ions.csv", "ion_ode/assets/nf_measurements.csv"} <= have
    assert any(h.endswith(".safetensors") for h in have), "the trained weights are in the wheel"
    assert built[1].stat().st_size < 10e6


def test_sdist_can_be_built_from(built):
    with tarfile.open(built[0]) as t:
        names = {n.partition("/")[2] for n in t.getnames()}
    assert {"settings.ini", "setup.py", "pyproject.toml", "LICENSE", "README.md"} <= names


def test_metadata_is_what_an_index_accepts(built):
    r = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *built], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


def test_entry_point(unpacked):
    (f,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "ion-ode = ion_ode.cli:main" in f.read_text()


def _installed(metadata, extra: str = "") -> set[str]:
    "Importable names that an installation has: the closure of the wheel's own requirements."
    distributions, todo = set(), [Requirement(r) for r in metadata.get_all("Requires-Dist")]
    todo = [r for r in todo if r.marker is None or r.marker.evaluate({"extra": extra})]
    while todo:
        r = todo.pop()
        name = canonicalize_name(r.name)
        if name in distributions:
            continue
        distributions.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        extras = r.extras or {""}
        for n in map(Requirement, needs):
            if n.marker is None or any(n.marker.evaluate({"extra": e}) for e in extras):
                todo.append(n)
    names = importlib.metadata.packages_distributions()
    return {m for m, ds in names.items() if any(canonicalize_name(d) in distributions for d in ds)}


@pytest.fixture(scope="session")
def plain(unpacked, metadata, tmp_path_factory):
    "Run code as on a machine that has the wheel and its requirements, and nothing more: no extras, no checkout."
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    installed = set(importlib.metadata.packages_distributions())
    blocked = sorted(installed - _installed(metadata) - {"ion_ode", "_distutils_hack", "setuptools", "pkg_resources"})
    assert {"nbdev", "pytest", "pyarrow", "openpyxl"} <= set(blocked)
    start = textwrap.dedent(f"""
        import sys
        class Absent:
            blocked = set({blocked!r})
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in self.blocked:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Absent())
        sys.path.insert(0, {str(unpacked)!r})
    """)

    def run(code: str, check: bool = True) -> subprocess.CompletedProcess:
        r = subprocess.run(
            [sys.executable, "-c", start + textwrap.dedent(code)], cwd=elsewhere, capture_output=True, text=True
        )
        assert not check or r.returncode == 0, r.stderr[-3000:]
        return r

    run.folder = elsewhere
    return run


def test_import_without_extras(plain, unpacked):
    "Every public name and every module imports from the wheel alone."
    out = plain("""
        import ion_ode, pathlib, importlib
        home = pathlib.Path(ion_ode.__file__).parent
        for name in ion_ode.__all__:
            getattr(ion_ode, name)
        for f in sorted(home.rglob("*.py")):
            m = ".".join(f.relative_to(home.parent).with_suffix("").parts).removesuffix(".__init__")
            if not m.startswith(("ion_ode.prequalify", "ion_ode.estimator")):
                importlib.import_module(m)
        print(home)
    """).stdout
    assert Path(out.strip()).parent == unpacked


def test_ten_lines_without_extras(plain):
    "The shipped data and the solver work from the wheel alone."
    out = plain("""
        import json, ion_ode
        from ion_ode.data.nf270 import load_nf270, independent_values
        sol = ion_ode.simulate({"Na+": 10.0, "Cl-": 10.0}, [5e-6])
        print(json.dumps([len(load_nf270()), independent_values(), float(sol.rejection[0, 0, 0])]))
    """).stdout
    rows, values, rejection = json.loads(out.strip().splitlines()[-1])
    assert rows > values == 271 and 0 < rejection < 1


@pytest.mark.parametrize("command", ["simulate", "predict"])
def test_command_line_without_extras(plain, command):
    out = plain(f"""
        import sys
        from ion_ode.cli import main
        sys.argv = ["ion-ode", "{command}", "--feed", "Na+=10,Cl-=10", "--flux", "5,10,20"]
        main()
    """).stdout
    table = [line.split() for line in out.splitlines()]
    assert [row[0] for row in table if row and re.fullmatch(r"[\d.]+", row[0])] == ["5", "10", "20"]


NEEDS = {  # what a person types without the extra
    "data": ["simulate", "--feed", "Na+=10,Cl-=10", "--flux", "5", "--out", "a.parquet"],
    "data, measurements": ["check", "lab.parquet"],
    "cluster": ["generate", "set", "--curves", "2", "--seed", "1", "--scheduler", "tcp://127.0.0.1:9"],
    "log": ["train", "run", "--tensorboard"],
}


@pytest.mark.parametrize("name", NEEDS)
def test_missing_extra_names_itself(plain, name):
    (plain.folder / "lab.parquet").write_bytes(b"PAR1")  # its reader is asked for before its content
    r = plain(
        f'import sys; from ion_ode.cli import main; sys.argv = ["ion-ode", *{NEEDS[name]!r}]; main()', check=False
    )
    assert r.returncode == 1, r.stderr
    assert r.stderr.strip().count("\n") == 0 and f'pip install "ion_ode[{name.partition(",")[0]}]"' in r.stderr


@pytest.mark.parametrize("line,extra", {
    "import ion_ode.estimator": "screen",
    "from ion_ode.prequalify.features import read_monomer; read_monomer('C1CNCCN1')": "screen",
}.items())  # fmt: skip
def test_missing_extra_names_itself_in_python(plain, line, extra):
    r = plain(line, check=False)
    assert (
        r.returncode == 1
        and "ImportError: " in r.stderr
        and f'pip install "ion_ode[{extra}]"' in r.stderr.strip().splitlines()[-1]
    )


def test_the_extra_book_brings_what_the_chapters_import(metadata):
    "In Colab and beside a wheel, where nobody installs the tools of the developers."
    have = _installed(metadata, "book") | set(sys.stdlib_module_names) | {"ion_ode", "IPython"}
    for notebook in sorted((ROOT / "nbs").rglob("[!_]*.ipynb")):
        cells = [
            c
            for c in nbformat.read(notebook, as_version=4).cells
            if c.cell_type == "code" and not c.source.startswith("%%")
        ]
        code = ast.parse(
            re.sub(r"^\s*[%!].*$", "", "\n".join(c.source for c in cells if "nbdev_export" not in c.source), flags=re.M)
        )
        named = {a.name for n in ast.walk(code) if isinstance(n, ast.Import) for a in n.names}
        named |= {n.module for n in ast.walk(code) if isinstance(n, ast.ImportFrom) and not n.level}
        assert not (strange := {n.partition(".")[0] for n in named} - have), f"{notebook.name}: {strange}"


def test_import_is_light():
    "`import ion_ode` and the help of every command load neither torch nor pandas."
    code = textwrap.dedent("""
        import sys, ion_ode, ion_ode.cli
        from click.testing import CliRunner
        runner = CliRunner()
        assert runner.invoke(ion_ode.cli.main, ["--help"]).exit_code == 0
        for name in ion_ode.cli.main.commands:
            r = runner.invoke(ion_ode.cli.main, [name, "--help"])
            assert r.exit_code == 0 and "Example" in r.output, name
        heavy = {"torch", "pandas", "numpy", "scipy", "matplotlib"} & set(sys.modules)
        assert not heavy, heavy
    """)
    r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr


def test_public_names():
    import ion_ode

    assert {"simulate", "NF270", "Membrane", "load_model", "fit_membrane", "train", "citations"} <= set(dir(ion_ode))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ion_ode.nonsense  # noqa: B018

"""The files that configure the project say the same."""

import os
import re
import shutil
import subprocess
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def ini():
    c = ConfigParser(delimiters=["="])
    c.read_string((ROOT / "settings.ini").read_text(encoding="utf-8"))
    return c["DEFAULT"]


@pytest.fixture(scope="module")
def toml():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_settings_ini_and_pyproject_agree(ini, toml):
    p, n = toml["project"], toml["tool"]["nbdev"]
    assert ini["lib_name"] == p["name"]
    assert ini["description"] == p["description"]
    assert ini["author"] == p["authors"][0]["name"] and ini["author_email"] == p["authors"][0]["email"]
    assert ini["keywords"].split() == p["keywords"]
    assert p["requires-python"] == ">=" + ini["min_python"]
    assert f"/{ini['user']}/{ini['repo']}" in p["urls"]["Repository"]
    for k in ("nbs_path", "lib_path", "doc_path", "tst_flags"):
        assert ini[k] == n[k], k
    for k in ("custom_sidebar", "update_pyproject"):
        assert (ini[k] == "True") == n[k], k


def test_version_agrees(ini):
    import ion_ode

    assert ion_ode.__version__ == ini["version"]
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cff["version"] == ini["version"]
    assert f"## {ini['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_nbs_site_config_is_the_top_level_one():
    link = ROOT / "nbs" / "_quarto.yml"
    assert link.is_symlink() and link.resolve() == (ROOT / "_quarto.yml").resolve()


def test_yaml_files_can_be_read():
    files = [
        *ROOT.glob(".github/**/*.yml"),
        ROOT / ".pre-commit-config.yaml",
        ROOT / "CITATION.cff",
        ROOT / "_quarto.yml",
        *ROOT.glob("nbs/*.yml"),
    ]
    assert len(files) >= 9
    for f in files:
        assert yaml.safe_load(f.read_text(encoding="utf-8")), f


def test_nbdev_yml_is_what_nbdev_would_write(toml):
    site = yaml.safe_load((ROOT / "nbs" / "nbdev.yml").read_text(encoding="utf-8"))
    p = toml["project"]
    assert site["website"]["title"] == p["name"]
    assert site["website"]["description"] == p["description"]
    assert site["website"]["site-url"].rstrip("/") == p["urls"]["Documentation"].rstrip("/")
    assert site["website"]["repo-url"] == p["urls"]["Repository"]
    assert site["project"]["output-dir"] == toml["tool"]["nbdev"]["doc_path"]


def test_nbdev_and_torch_versions_are_the_pinned_ones(ini):
    dev = ini["dev_requirements"].split()
    assert {"nbdev==3.3.26", "fastcore==2.2.38", "execnb==0.3.4"} <= set(dev)
    assert "torch>=2.11" in ini["requirements"].split()


def test_the_site_workflow_pins_quarto():
    jobs = yaml.safe_load((ROOT / ".github/workflows/site.yml").read_text(encoding="utf-8"))["jobs"]
    steps = [s for j in jobs.values() for s in j["steps"]]
    (quarto,) = [s for s in steps if "quarto-actions/setup" in s.get("uses", "")]
    assert all(part.isdigit() for part in str(quarto["with"]["version"]).split("."))


def test_ci_tests_every_python_that_is_promised(toml):
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert toml["project"]["requires-python"] == ">=3.11"


def test_the_lock_holds_what_settings_ini_asks_for_and_make_uses_it(ini):
    from packaging.requirements import Requirement

    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text and "LOCK    ?= requirements.lock" in (ROOT / "Makefile").read_text(encoding="utf-8")
    lines = [Requirement(line) for line in text.splitlines() if not line.startswith("#")]
    for asked in {r for k in ini if k.endswith("requirements") for r in ini[k].split()}:
        r = Requirement(asked)
        held = [h for h in lines if h.name.replace("_", "-").lower() == r.name.replace("_", "-").lower()]
        assert r.name == "torch" or held, f"{r.name} is not in requirements.lock: make lock"
        versions = [str(h.specifier).removeprefix("==") for h in held]
        assert all(r.specifier.contains(v) for v in versions), f"{asked}, locked {versions}: make lock"


def test_extras_are_what_the_errors_name(ini):
    "need(module, extra) must name an extra that exists and brings the module."
    import re

    extras = {k.removesuffix("_requirements"): ini[k] for k in ini if k.endswith("_requirements")}
    brings = {"pyarrow": "pyarrow", "openpyxl": "openpyxl", "dask": "dask", "distributed": "dask", "rdkit": "rdkit",
              "sklearn": "scikit-learn", "tensorboard": "tensorboard"}  # fmt: skip
    calls = [
        (f.name, m[1].split(".")[0], m[2])
        for f in (ROOT / "ion_ode").rglob("*.py")
        for m in re.finditer(r'\bneed\(\s*"([\w.]+)",\s*"(\w+)"', f.read_text(encoding="utf-8"))
    ]
    assert calls
    for name, module, extra in calls:
        assert extra in extras, f"{name}: no extra {extra}"
        if module in brings:
            assert brings[module] in extras[extra], f"{name}: [{extra}] does not bring {module}"


def test_no_machine_paths_or_secrets_in_committed_files():
    if not (ROOT / ".git").exists():
        files = [
            p
            for p in ROOT.rglob("*")
            if p.is_file() and not {".venv", "_proc", "results"} & set(p.relative_to(ROOT).parts)
        ]
    else:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        files = [ROOT / f for f in listed.split("\0") if f and (ROOT / f).is_file()]
    found = []
    for f in files:
        if f.suffix in {".png", ".pdf", ".safetensors", ".parquet"} or f == Path(__file__):
            continue
        text = f.read_text(encoding="utf-8", errors="ignore")
        for word in ("/root/", "/home/", "site-packages/"):
            if word in text:
                found.append(f"{f.relative_to(ROOT)}: {word}")
    assert not found


def make(*args, cwd=ROOT):
    return subprocess.run(["make", "--no-print-directory", *args], cwd=cwd, capture_output=True, text=True)


def test_make_help_lists_the_two_commands():
    text = make("help").stdout
    assert "make test " in text and "make reproduce " in text and "PROFILE=quick|full" in text


def test_clean_keeps_results(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for d in ("results", "ion_ode/__pycache__", "tests", "tools", "benchmarks", "_proc"):
        (tmp_path / d).mkdir(parents=True)
    (tmp_path / "results" / "metrics.json").write_text("{}")
    r = make("clean", cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    assert (tmp_path / "results" / "metrics.json").exists()
    assert not (tmp_path / "_proc").exists() and not (tmp_path / "ion_ode/__pycache__").exists()
    kept = subprocess.run(["make", "clean-results"], cwd=tmp_path, input="n\n", capture_output=True, text=True)
    assert kept.returncode == 0 and (tmp_path / "results").exists()
    gone = subprocess.run(["make", "clean-results"], cwd=tmp_path, input="y\n", capture_output=True, text=True)
    assert gone.returncode == 0 and not (tmp_path / "results").exists()


def test_an_old_python_is_named(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    r = make("install", "PYTHON=no-such-python", cwd=tmp_path)
    assert r.returncode != 0 and "Python 3.11" in r.stderr and not (tmp_path / ".venv").exists()


def test_torch_is_installed_first_and_can_be_overridden(tmp_path):
    for f in ("Makefile", "settings.ini", "pyproject.toml", "setup.py", "requirements.lock"):
        shutil.copy(ROOT / f, tmp_path)
    steps = [line for line in make("-n", "dev", cwd=tmp_path).stdout.splitlines() if "pip" in line]
    assert "install" in steps[0] and "torch==2.13.0" in steps[0] and ".[dev]" in steps[1]
    assert any("torch==9.9" in line for line in make("-n", "dev", "TORCH=torch==9.9", cwd=tmp_path).stdout.splitlines())
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for stamp in ("bin/python", ".stamp-torch", ".stamp-dev", ".stamp-run"):
        (tmp_path / ".venv" / stamp).write_text("torch==2.13.0")
    assert "pip" not in make("-n", "dev", cwd=tmp_path).stdout, "a second run installs nothing"
    (tmp_path / "settings.ini").touch()
    assert "pip" in make("-n", "dev", cwd=tmp_path).stdout, "a changed list of dependencies does"


def test_ci_runs_make_test():
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK) and "make test" in run.read_text()


def test_workflows_use_fixed_commits_and_only_the_one_that_publishes_may_publish():
    for f in ROOT.glob(".github/workflows/*.yml"):
        flow = yaml.safe_load(f.read_text(encoding="utf-8"))
        assert flow["permissions"] == {"contents": "read"}, f
        for name, job in flow["jobs"].items():
            assert job.get("permissions", {}) == (
                {"pages": "write", "id-token": "write"} if name == "deploy" else {}
            ), (f, name)
            for step in job["steps"]:
                assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step.get("uses", "a@" + 40 * "0")), (f, name, step)

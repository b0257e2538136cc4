"""A compiled library is loaded only if it is what was compiled, from a folder nobody else can write."""

import os
import shutil
import subprocess
import sys

import pytest

from ion_ode.attention_odenet import build
from ion_ode.store import digest

SOURCE = 'extern "C" int answer() { return 42; }\n'
pytestmark = pytest.mark.skipif(
    not (os.environ.get("CXX") != "false" and (shutil.which("g++") or shutil.which("clang++") or shutil.which("c++"))),
    reason="no C++ compiler",
)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("ION_ODE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "small.cpp").write_text(SOURCE)
    return tmp_path / "small.cpp"


def kept(source):
    return sorted((source.parent / "cache").iterdir())


def count(monkeypatch):
    "How often the compiler was asked to build."
    runs, real = [], build._compile
    monkeypatch.setattr(build, "_compile", lambda *a: runs.append(a) or real(*a))
    return runs


def test_it_is_built_once_and_named_by_its_bytes(source, monkeypatch):
    runs = count(monkeypatch)
    assert build.build(source).answer() == 42 and build.build(source).answer() == 42
    (path,) = kept(source)
    assert len(runs) == 1 and path.stem.endswith(digest(path.read_bytes())[:32])
    assert path.parent.stat().st_mode & 0o777 == 0o700
    source.write_text(SOURCE.replace("42", "43"))
    assert build.build(source).answer() == 43


def damage(kind, data):
    if kind == "cut short":
        return data[: len(data) // 2]
    if kind == "empty":
        return b""
    if kind == "foreign":
        return b"\x7fELF" + bytes(1000)
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]  # one bit


@pytest.mark.parametrize("kind", ["cut short", "empty", "foreign", "one bit"])
def test_what_was_damaged_is_built_again_and_never_loaded(source, monkeypatch, kind):
    build.build(source)
    (path,) = kept(source)
    whole = path.read_bytes()
    (source.parent / "damaged").write_bytes(damage(kind, whole))
    (source.parent / "damaged").replace(path)  # another file: the one in use here stays as it is
    runs = count(monkeypatch)
    code = (
        "import sys, pathlib; from ion_ode.attention_odenet.build import build; "
        "sys.exit(build(pathlib.Path(sys.argv[1])).answer() - 42)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code, str(source)]).returncode == 0
    )  # a truncated library would end the process
    assert kept(source) == [path] and path.read_bytes() == whole
    assert build.build(source).answer() == 42 and not runs


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_a_folder_that_others_can_write_is_not_loaded_from(source, monkeypatch, tmp_path):
    build.build(source)
    cache = source.parent / "cache"
    cache.chmod(0o777)
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before, runs = kept(source), count(monkeypatch)
    with pytest.warns(UserWarning, match="can be written by another user.*chmod go-w"):
        assert build.build(source).answer() == 42
    assert len(runs) == 1 and kept(source) == before and not list(temporary.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
@pytest.mark.parametrize("how", ["link", "mode"])
def test_a_link_or_a_file_that_others_can_write_is_replaced(source, monkeypatch, tmp_path, how):
    build.build(source)
    (path,) = kept(source)
    if how == "link":
        path.rename(tmp_path / "elsewhere.so")
        path.symlink_to(tmp_path / "elsewhere.so")
    else:
        path.chmod(0o777)
    runs = count(monkeypatch)
    assert build.build(source).answer() == 42 and len(runs) == 1
    (path,) = kept(source)
    assert not path.is_symlink() and not path.stat().st_mode & 0o022


def test_a_folder_that_cannot_be_made_leaves_nothing_behind(source, tmp_path):
    (tmp_path / "file").write_text("")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code = (
        "import sys, pathlib; from ion_ode.attention_odenet.build import build; "
        "sys.exit(build(pathlib.Path(sys.argv[1])).answer() - 42)"
    )
    env = os.environ | {"ION_ODE_CACHE": str(tmp_path / "file"), "TMPDIR": str(temporary)}
    assert subprocess.run([sys.executable, "-c", code, str(source)], env=env).returncode == 0
    assert not list(temporary.glob("ion_ode-*"))


@pytest.mark.parametrize(
    ("compiler", "said"), [("false", "did not build small.cpp"), ("no-such-compiler", "did not build small.cpp")]
)
def test_without_a_compiler_there_is_one_sentence(source, monkeypatch, compiler, said):
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(build.BuildError, match=said):
        build.build(source)


def _double(x):
    return 2.0 * x


def test_compiled_loops_are_loaded_only_as_they_were_written(tmp_path, monkeypatch):
    import numba

    from ion_ode.dspmde.kernel_march import fast

    def hits():
        f = fast(_double)
        assert f(3.0) == 6.0
        return sum(f.stats.cache_hits.values())

    (home := tmp_path / "cache").mkdir(mode=0o700)
    monkeypatch.setenv("ION_ODE_CACHE", str(home))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    assert [hits(), hits()] == [0, 1]
    files = sorted(home.rglob("*_double*.nb?"))
    assert [f.suffix for f in files] == [".nbc", ".nbi"]
    for file in files:
        data = file.read_bytes()
        for spoilt in (b"", data[: len(data) // 2], data[:60] + bytes([data[60] ^ 1]) + data[61:]):
            file.write_bytes(spoilt)
            assert [hits(), hits()] == [0, 1], file.suffix
    home.chmod(0o777)
    with pytest.warns(UserWarning, match="can be written by another user"):
        assert hits() == 0

"Sub-packages hand out the names of their pages; modules of version 0.1 say where their names are now."

import importlib
import subprocess
import sys
import types

import pytest

import ion_ode
from ion_ode._names import _RENAMED


@pytest.mark.parametrize("old", _RENAMED)
def test_a_module_of_version_01_is_found_and_says_its_new_name(old):
    sys.modules.pop(f"ion_ode.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"ion_ode.{old} is now ion_ode"):
        module = importlib.import_module(f"ion_ode.{old}")
    for new in _RENAMED[old]:
        home = importlib.import_module(f"ion_ode.{new}")
        for name in getattr(home, "__all__", ()):
            assert hasattr(module, name), name


@pytest.mark.parametrize(
    "package", ["water", "dspmde", "attention_odenet", "data", "inference", "training", "results", "module"]
)
def test_a_sub_package_hands_out_names_and_keeps_its_modules_apart(package):
    home = importlib.import_module(f"ion_ode.{package}")
    for name in dir(home):
        assert getattr(home, name, None) is not None or importlib.import_module(f"ion_ode.{package}.{name}"), name
    with pytest.raises(AttributeError, match=f"module 'ion_ode.{package}' has no attribute 'nothing'"):
        home.nothing  # noqa: B018


def test_names_of_the_face_are_no_modules():
    "`from ion_ode.training import train` is the function, not a page of the same name."
    for name, home in ion_ode._HOME.items():
        package = importlib.import_module(f"ion_ode.{home.partition('.')[0]}")
        assert not isinstance(getattr(package, name), types.ModuleType), name


def test_the_package_stays_light():
    code = (
        "import sys, ion_ode, ion_ode.data, ion_ode.training; "
        "print(*(m for m in ('torch', 'pandas', 'numpy') if m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""

"""Where a name lives: sub-packages that hand out the names of their pages, and the module names of version 0.1"""

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_RENAMED = {  # Module of version 0.1 -> where its names are now
    "activity": ("water.activity",),
    "baselines": ("training.rivals",),
    "constraints": ("attention_odenet.constraints",),
    "contest": (
        "results.contestants",
        "results.benchmarks",
        "cells",
        "runner",
        "closure",
        "results.plan",
        "results.heldout",
        "results.trials",
    ),  # fmt: skip
    "feeds": ("water.feeds", "water.units", "rejections"),
    "fitting": ("inference.fit", "inference.scales", "data.points"),
    "fused": ("attention_odenet.fused", "attention_odenet.build"),
    "ions": ("water.ions",),
    "membranes": ("dspmde.membranes",),
    "numerics": ("dspmde.newton",),
    "ode": ("attention_odenet.ode", "attention_odenet.reference"),
    "optimisers": ("training.soap",),
    "pore_field": ("attention_odenet.pore_field",),
    "posterior": ("inference.posterior", "dspmde.prior"),
    "simulated": ("data.design", "data.curves", "data.shards", "data.sharded", "dspmde.prior"),
    "surrogate": ("results.surrogate",),
    "tables": ("data.reader",),
    "twin": ("results.twin",),
    "uncertainty": ("stats",),
}


def face(package: str, *pages: str):
    "`__getattr__` and `__dir__` of a sub-package: a name is looked for in its pages, in order, when it is asked for."
    root = Path(sys.modules[package].__file__).parent

    def __getattr__(name):
        if not name.startswith("__") and not (root / f"{name}.py").exists():
            for page in pages:
                if hasattr(module := import_module(f"{package}.{page}"), name):
                    return getattr(module, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def __dir__():
        names = (n for page in pages for n in getattr(import_module(f"{package}.{page}"), "__all__", ()))
        return sorted({*pages, *names})

    return __getattr__, __dir__


class _Renamed:
    "Finds the modules of version 0.1, and says where their names are now."

    def find_spec(self, name, path=None, target=None):
        package, _, old = name.rpartition(".")
        if package == "ion_ode" and old in _RENAMED:
            return ModuleSpec(name, self)
        return None

    def create_module(self, spec):
        return ModuleType(spec.name)

    def exec_module(self, module):
        pages = [f"ion_ode.{new}" for new in _RENAMED[module.__name__.rpartition(".")[2]]]
        warnings.warn(f"{module.__name__} is now {' and '.join(pages)}", DeprecationWarning, stacklevel=6)
        homes = [import_module(p) for p in pages]
        module.__all__ = [
            n for h in homes for n in getattr(h, "__all__", [n for n in vars(h) if not n.startswith("_")])
        ]
        for home in reversed(homes):
            vars(module).update({k: v for k, v in vars(home).items() if not k.startswith("__")})


sys.meta_path.append(_Renamed())

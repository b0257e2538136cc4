"""Ion transport through nanofiltration membranes: certified DSPM-DE and attention-enhanced neural ODEs

Docs: https://ion-ode.github.io/ion_ode/"""

__version__ = "0.1.0"

from importlib import import_module as _import
from typing import TYPE_CHECKING

# Names load on first use, so that `import ion_ode` takes no time and `ion-ode --help` needs no torch.
_HOME = {
    "simulate": "dspmde",
    "Solution": "dspmde",
    "Membrane": "membranes",
    "NF270": "membranes",
    "Film": "dspmde",
    "Freundlich": "membranes",
    "ChargeBinding": "membranes",
    "membrane_table": "membranes",
    "fit_membrane": "fitting",
    "load_nf270": "data",
    "composition_folds": "data",
    "load_model": "training",
    "train": "training",
    "TrainConfig": "training",
    "reproduce": "results",
    "citations": "references",
    "IONS": "ions",
    "get_ion": "ions",
    "ion_table": "ions",
    "read_ion_table": "ions",
    "InputError": "core",
    "ConvergenceError": "core",
}
__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from .core import ConvergenceError, InputError
    from .data import composition_folds, load_nf270
    from .dspmde import Film, Solution, simulate
    from .fitting import fit_membrane
    from .ions import IONS, get_ion, ion_table, read_ion_table
    from .membranes import NF270, ChargeBinding, Freundlich, Membrane, membrane_table
    from .references import citations
    from .results import reproduce
    from .training import TrainConfig, load_model, train


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'ion_ode' has no attribute {name!r}")
    value = getattr(_import(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING"})

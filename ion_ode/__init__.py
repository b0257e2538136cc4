"""Ion transport through nanofiltration membranes: certified DSPM-DE and attention-enhanced neural ODEs

Modules:

- `ion_ode.attention_odenet.build`: Compile a C++ source once on this machine; load it again only where it is unchanged
- `ion_ode.cells`: Cells of computation, each kept under the key of what made it
- `ion_ode.dspmde.kernel_lanes`: Sixteen problems as one number in compiled code: the processor's vectors
- `ion_ode.dspmde.pull`: Slopes of permeates by the coefficients of their problems, in NumPy: ideal solutions
- `ion_ode.inference.answer`: The best NF270 that open measurements allow, with an error one can use
- `ion_ode.inference.build`: Shipped samples of membranes, made again by `ion-ode reproduce --only answer`
- `ion_ode.inference.descent`: Least squares from many starts at once, each with a damping of its own
- `ion_ode.inference.discrepancy`: What the pore model misses on a coupon, and what own values say of it
- `ion_ode.inference.laws`: What an NF270 may be and how its coupons differ: laws, priors and their weights
- `ion_ode.inference.made`: From a new membrane's salts to its pores, and from there to any water
- `ion_ode.inference.network`: Passages of any ions by a network, from the coefficients of a pore
- `ion_ode.inference.population`: Membranes carried from the prior to the posterior, with coupons beside them
- `ion_ode.inference.prolong`: A run goes on until what it is for is known well enough
- `ion_ode.inference.reader`: A coupon's own values read by a network: what `calibrate` samples, in one pass
- `ion_ode.inference.slopes`: Slopes of the posterior by every number of a membrane and its coupons
- `ion_ode.inference.stand_in`: Many feeds at once: a network, and the certified solver wherever it is not good enough
- `ion_ode.inference.states`: From rows to problems of the pore model, and the likelihood of what was measured
- `ion_ode.inference.value_error`: With which error a value should teach, as sources that were held out have it
- `ion_ode.module.draws`: The membranes of an answer as one batch, so that a module is solved for each of them
- `ion_ode.priors`: What is believed of numbers before they are measured: named marginals and one transform for all
- `ion_ode.results.chosen`: Which way to fine-tune, chosen inside the training folds
- `ion_ode.results.seal`: What stored results were made of, and whether they still belong to what lies beside them
- `ion_ode.training.reader`: Teaches the network that reads measured points of `inference.reader`, by the pore model
- `ion_ode.water.donnan`: Charges that balance: the Donnan equilibrium of the pore model and of the networks"""

__version__ = "0.1.0"

from importlib import import_module as _import
from typing import TYPE_CHECKING

from ion_ode import _names  # noqa: F401  modules of version 0.1 are found under their new names

# Names load on first use, so that `import ion_ode` takes no time and `ion-ode --help` needs no torch.
_HOME = {
    "simulate": "dspmde.solve",
    "Solution": "dspmde.solve",
    "Membrane": "dspmde.membranes",
    "NF270": "dspmde.membranes",
    "NF270_WATERTAP": "dspmde.membranes",
    "Film": "dspmde.film",
    "Freundlich": "dspmde.membranes",
    "ChargeBinding": "dspmde.membranes",
    "membrane_table": "dspmde.membranes",
    "fit_membrane": "inference.fit",
    "simulate_plant": "module.answers",
    "Plant": "module.plant",
    "Stage": "module.plant",
    "Element": "module.element",
    "load_nf270": "data.nf270",
    "composition_folds": "data.folds",
    "load_model": "training.models",
    "train": "training.run",
    "TrainConfig": "training.recipe",
    "reproduce": "results.run",
    "citations": "references",
    "IONS": "water.ions",
    "get_ion": "water.ions",
    "ion_table": "water.ions",
    "read_ion_table": "water.ions",
    "InputError": "core",
    "ConvergenceError": "core",
}
__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from .core import ConvergenceError, InputError
    from .data.folds import composition_folds
    from .data.nf270 import load_nf270
    from .dspmde.film import Film
    from .dspmde.solve import Solution, simulate
    from .inference.fit import fit_membrane
    from .water.ions import IONS, get_ion, ion_table, read_ion_table
    from .dspmde.membranes import NF270, NF270_WATERTAP, ChargeBinding, Freundlich, Membrane, membrane_table
    from .module.answers import simulate_plant
    from .module.element import Element
    from .module.plant import Plant, Stage
    from .references import citations
    from .results.run import reproduce
    from .training.models import load_model
    from .training.recipe import TrainConfig
    from .training.run import train


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'ion_ode' has no attribute {name!r}")
    value = getattr(_import(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING"})

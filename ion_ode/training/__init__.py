"""Training (chapter 04)"""

from ion_ode._names import face

__getattr__, __dir__ = face(
    __name__,
    "run",
    "recipe",
    "models",
    "predictor",
    "teach",
    "choice",
    "states",
    "optimise",
    "callbacks",
    "told",
    "soap",
    "rivals",
)

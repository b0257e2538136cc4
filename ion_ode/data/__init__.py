"""Measurements and simulated curves (chapter 01)"""

from ion_ode._names import face

__getattr__, __dir__ = face(
    __name__,
    "nf270",
    "measurements",
    "reader",
    "folds",
    "points",
    "curves",
    "design",
    "shards",
    "sharded",
)

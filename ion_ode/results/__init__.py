"""Contest, scores, claims, figures (chapter 05)"""

from ion_ode._names import face

__getattr__, __dir__ = face(__name__, "run", "scores", "claims", "figures", "tables", "twin", "surrogate")

"""Contest, scores, claims, figures (chapter 05)"""

from ion_ode._names import face

__getattr__, __dir__ = face(
    __name__,
    "run",
    "scores",
    "claims",
    "claims_exact",
    "claims_networks",
    "figures",
    "tables",
    "twin",
    "surrogate",
)

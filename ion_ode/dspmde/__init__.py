"""The Donnan-steric pore model with dielectric exclusion (chapter 00)"""

from ion_ode._names import face

__getattr__, __dir__ = face(
    __name__,
    "solve",
    "film",
    "membranes",
    "pressure",
    "entry",
    "march",
    "problem",
    "feed",
    "residual",
    "newton",
    "certify",
    "gradient",
    "prior",
    "kernel",
)

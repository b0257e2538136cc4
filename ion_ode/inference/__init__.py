"""Fitted and posterior membranes"""

from ion_ode._names import face

__getattr__, __dir__ = face(__name__, "fit", "scales", "posterior")

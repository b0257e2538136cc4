"""The attention-enhanced neural ODE (chapters 02 and 03)"""

from ion_ode._names import face

__getattr__, __dir__ = face(__name__, "odenet", "field", "ode", "stack", "constraints", "pore_field", "set_field")

"""Water: ions, units, activity, feeds"""

from ion_ode._names import face

__getattr__, __dir__ = face(__name__, "units", "ions", "activity", "neutrality", "feeds")

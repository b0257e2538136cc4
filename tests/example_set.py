"""`simulate` and its kin through the four-number example set, whose symmetries and limits tests can state in closed
form."""

from functools import partial, wraps

import ion_ode
from ion_ode.dspmde import solve


def _through_example(function):
    return wraps(function)(partial(_call, function))


def _call(function, feed, flux=None, membrane=ion_ode.NF270_WATERTAP, *args, **options):
    return function(feed, flux, membrane, *args, **options)


simulate = _through_example(solve.simulate)
pore_profile = _through_example(solve.pore_profile)

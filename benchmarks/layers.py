"""Layers of one pore and several charges in series behind a film: one cation and anions of charge one

The pore model of each layer is that of the package; between two layers the ions meet another Donnan potential. From a
permeate, layers and film are marched through against the flux, which is the stable direction; Newton's method finds
the permeate whose march ends at the feed. One layer gives what `ion_ode.inference.pores.passages` gives to 1e-6."""

import numpy as np
from numba import njit

from ion_ode.core import T_REF
from ion_ode.dspmde.entry import HINDRANCE, born_energy, partition_steric
from ion_ode.water.ions import EPS_REF, ion_arrays

STEPS = 24  # Of Runge and Kutta in each layer


@njit(cache=True)
def _step_over(c, z, X):
    "Concentrations behind a step to a place with the fixed charge X, in place."
    cations, anions = (c * (z > 0)).sum(), (c * (z < 0)).sum()
    root = np.sqrt(X * X + 4 * cations * anions)
    y = (root - X) / (2 * cations) if X < 0 else 2 * anions / (root + X)  # exp(-potential)
    for i in range(c.size):
        c[i] *= y if z[i] > 0 else 1 / y


@njit(cache=True)
def _slope(c, perm, z, a, K):
    "Extended Nernst-Planck equation with neutrality: dc/dx; a: flux over diffusivity."
    out = a * (K * c - perm)
    return out - z * c * ((z * out).sum() / c.sum())


@njit(cache=True)
def _against(c, perm, z, a, K, thickness):
    "From the downstream end of a layer to its upstream end."
    h = -thickness / STEPS
    for _ in range(STEPS):
        k1 = _slope(c, perm, z, a, K)
        k2 = _slope(c + 0.5 * h * k1, perm, z, a, K)
        k3 = _slope(c + 0.5 * h * k2, perm, z, a, K)
        c = c + h / 6 * (k1 + 2 * k2 + 2 * k3 + _slope(c + h * k3, perm, z, a, K))
    return c


@njit(cache=True)
def _feed_of(perm, z, enter, pore, K, free, thickness, charge, film):
    "Feed behind whose film and layers a permeate arises."
    c = perm * enter
    for k in range(len(thickness) - 1, -1, -1):
        _step_over(c, z, charge[k])
        c = _against(c, perm, z, pore, K, thickness[k])
    c = c / enter
    _step_over(c, z, 0.0)
    return _against(c, perm, z, free, np.ones(len(z)), film)


@njit(cache=True)
def _permeate(feed, z, enter, pore, K, free, thickness, charge, film):
    "Newton's method in logarithms of the anions, the cation (last) closing the balance; nan without a solution."
    m = len(feed) - 1
    perm, F, J, e = feed.copy(), np.empty(m), np.empty((m, m)), 1e-5
    for start in (0.5, 0.1, 0.01, 1.5):
        u = np.log(start * feed[:m])
        for _ in range(60):
            for q in range(-1, m):  # -1: where it stands; then along every anion
                perm[:m] = np.exp(u)
                if q >= 0:
                    perm[q] *= 1 + e
                perm[m] = perm[:m].sum()
                off = np.log(_feed_of(perm, z, enter, pore, K, free, thickness, charge, film)[:m] / feed[:m])
                if q >= 0:
                    J[:, q] = (off - F) / e
                elif np.abs(off).max() < 1e-7:
                    return perm
                else:
                    F[:] = off
            if not np.isfinite(J).all() or not np.isfinite(F).all():
                break
            step = np.linalg.solve(J, F)
            u -= step / max(1.0, np.abs(step).max())
    return np.full(m + 1, np.nan)


@njit(cache=True)
def _each(c_feed, z, enter, pore, K, free, thickness, charge, film):
    out = np.ones(c_feed.shape)
    for p in range(len(c_feed)):
        i = np.nonzero(c_feed[p] > 0)[0]
        i = np.concatenate((i[z[i] < 0], i[z[i] > 0]))
        of = (enter[p][i], pore[p][i], K[p][i], free[p][i], thickness[p], charge[p], film[p])
        out[p][i] = _permeate(c_feed[p][i], z[i], *of) / c_feed[p][i]
    return out


def layer_passages(
    ions: tuple[str, ...],  # Columns of c_feed
    c_feed: np.ndarray,  # (n, ion) [mol/m³], zeros are absent ions
    flux: np.ndarray,  # (n,) [m/s]
    membrane: dict,  # r_pore, eps_pore (n,)
    offset: np.ndarray,  # (n, ion) excess ln of the partition coefficient
    film: np.ndarray,  # (n,) [m]
    thickness: np.ndarray,  # (n, layer) [m], from the feed's side
    charge: np.ndarray,  # (n, layer) [mol/m³]
) -> np.ndarray:  # (n, ion): permeate over feed, 1 where absent and nan without a solution
    "Passages through layers at 25 °C."
    a = ion_arrays(ions, lib=np)
    lam = np.clip(a.r_stokes / membrane["r_pore"][:, None], 0, 0.99)
    K, K_diff = HINDRANCE["dechadilok_deen"](lam)
    born = born_energy(a.z, a.r_stokes, membrane["eps_pore"][:, None], EPS_REF, T_REF)
    enter, free = partition_steric(lam) * np.exp(offset - born), flux[:, None] / a.D_bulk
    return _each(c_feed, a.z, enter, free / K_diff, K, np.ascontiguousarray(free), thickness, charge, film)

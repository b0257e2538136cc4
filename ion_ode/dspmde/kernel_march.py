"""Through a layer, compiled by Numba"""

import math
import os
from pathlib import Path

import numba
import numpy as np


def fast(f):
    "Compile at the first call; kept in the user's own cache folder, never beside the source or in a shared place."
    before, home = (
        numba.config.CACHE_DIR,
        os.environ.get("ION_ODE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ion_ode",
    )
    numba.config.CACHE_DIR = before or str(home)
    safe = {"contract", "reassoc", "arcp", "nsz"}  # numbers may be infinite or no numbers
    compiled = lambda cache: numba.njit(cache=cache, nogil=True, error_model="numpy", fastmath=safe)(f)
    try:
        return compiled(True)
    except (RuntimeError, OSError):  # no folder to write to: as long as the process lasts
        return compiled(False)
    finally:
        numba.config.CACHE_DIR = before


@fast
def clip(x, most):
    return min(max(x, -most), most)


@fast
def settle(x, before, total):
    "The end of a step is the start of the next."
    x, before, total = x.reshape(-1), before.reshape(-1), total.reshape(-1)
    for i in range(x.size):
        x[i] = before[i] = total[i]


@fast
def explicit(c, T, rate, source, z, n):
    "Runge-Kutta's fourth order from the permeate side of a layer to its feed side, in place; T (ion, unknown, lane) may be empty."
    d, w = c.shape
    m = T.shape[1]
    h = -1.0 / n
    c0, csum = c.copy(), c.copy()
    T0, Tsum = T.copy(), T.copy()
    field, mobile, de = np.empty(w), np.empty(w), np.empty(w)
    weight, drift, zc = np.empty((d, w)), np.empty((d, w)), np.empty((d, w))
    for _ in range(n):
        for stage in range(4):
            ahead = (0.5 * h, 0.5 * h, h, 0.0)[stage]
            share = (h / 6, h / 3, h / 3, h / 6)[stage]
            for k in range(w):
                field[k] = mobile[k] = 0.0
            for i in range(d):
                zi = z[i]
                for k in range(w):
                    mobile[k] += zi * zi * c[i, k]
                    field[k] += zi * (rate[i, k] * c[i, k] - source[i, k])
            for k in range(w):
                mobile[k] = 1.0 / mobile[k]
                field[k] *= mobile[k]
            if m:
                for i in range(d):
                    zi = z[i]
                    for k in range(w):
                        drift[i, k] = rate[i, k] - zi * field[k]
                        weight[i, k] = zi * drift[i, k] * mobile[k]
                        zc[i, k] = zi * c[i, k]
                tangents(T, T0, Tsum, drift, weight, zc, source, z, mobile, de, ahead, share)
            for i in range(d):
                zi = z[i]
                for k in range(w):
                    slope = (rate[i, k] - zi * field[k]) * c[i, k] - source[i, k]
                    csum[i, k] += share * slope
                    c[i, k] = c0[i, k] + ahead * slope
        settle(c, c0, csum)
        settle(T, T0, Tsum)


@fast
def tangents(T, T0, Tsum, drift, weight, zc, source, z, mobile, de, ahead, share):
    "One stage of the march for the derivatives by ln c_p and what follows them."
    d, m, w = T.shape
    for j in range(m):
        for k in range(w):
            de[k] = -z[j] * source[j, k] * mobile[k] if j < d else 0.0
        for i in range(d):
            for k in range(w):
                de[k] += weight[i, k] * T[i, j, k]
        for i in range(d):
            if i == j:
                for k in range(w):
                    slope = drift[i, k] * T[i, j, k] - zc[i, k] * de[k] - source[i, k]
                    Tsum[i, j, k] += share * slope
                    T[i, j, k] = T0[i, j, k] + ahead * slope
            else:
                for k in range(w):
                    slope = drift[i, k] * T[i, j, k] - zc[i, k] * de[k]
                    Tsum[i, j, k] += share * slope
                    T[i, j, k] = T0[i, j, k] + ahead * slope


@fast
def midpoint_field(c, rate, source, z, h, k, e):
    "Field at which a midpoint value keeps its charge: between the fields at which a concentration leaves the positive numbers."
    low, high, charge = -np.inf, np.inf, 0.0
    for i in range(len(z)):
        charge += z[i] * c[i, k]
        if c[i, k] != 0.0 and z[i] > 0:
            high = min(high, (1 / h + rate[i, k]) / z[i])
        elif c[i, k] != 0.0 and z[i] < 0:
            low = max(low, (1 / h + rate[i, k]) / z[i])
    for _ in range(100):
        f, slope = -charge, 0.0
        for i in range(len(z)):
            below = 1 + h * (rate[i, k] - z[i] * e)
            y = (c[i, k] + h * source[i, k]) / below
            f += z[i] * y
            slope += z[i] * z[i] * h * y / below
        low, high, old = low if f > 0 else e, e if f > 0 else high, e
        e -= f / slope
        if not (e > low and e < high):
            e = 0.5 * (low + high)
        if not abs(e - old) > 1e-13 * (1 + abs(e)):
            break
    return e


@fast
def midpoint(c, T, rate, source, z, n):
    "Implicit midpoint steps towards the feed, in place: the finite differences of WaterTAP when one spans the pore."
    (d, w), m, h = c.shape, T.shape[1], 0.5 / n
    below = np.empty(d)
    for _ in range(n):
        for k in range(w):
            e, slope = midpoint_field(c, rate, source, z, h, k, 0.0), 0.0
            for i in range(d):
                below[i] = 1 + h * (rate[i, k] - z[i] * e)
                c[i, k] = (c[i, k] + h * source[i, k]) / below[i]
                slope += z[i] * z[i] * h * c[i, k] / below[i]
            for j in range(m):
                de = 0.0
                for i in range(d):
                    own = T[i, j, k] + (h * source[i, k] if i == j else 0.0)
                    de -= z[i] * (own / below[i] - T[i, j, k]) / slope
                for i in range(d):
                    own = T[i, j, k] + (h * source[i, k] if i == j else 0.0)
                    T[i, j, k] = 2 * (own + h * z[i] * c[i, k] * de) / below[i] - T[i, j, k]
            for i in range(d):  # 2 middle - start, the start told by the middle
                c[i, k] = 2 * c[i, k] - (c[i, k] * below[i] - h * source[i, k])


@fast
def exponential_parts(a):
    "exp(-a), its mean over the step (1 - exp(-a))/a, and the slope of that."
    a = max(a, -700.0)
    decay = math.exp(-a)
    if abs(a) < 1e-3:
        return decay, 1 - a / 2 + a * a / 6 - a * a * a / 24, -0.5 + a / 3 - a * a / 8
    return decay, -math.expm1(-a) / a, (decay * (1 + a) - 1) / (a * a)


@fast
def exponential_mesh(step, n, top):
    "Length of a step on the mesh graded to both sides of a layer; the depth grows from either side to the middle."
    span, begin, stop = math.log1p(0.5 * top), abs(2 * step / n - 1), abs(2 * (step + 1) / n - 1)
    return abs(math.exp(span * (1 - begin)) - math.exp(span * (1 - stop))) / top


@fast
def start_of(c, rate, source, z, k):
    "Largest rate, field and charge where a march begins."
    top, e, mobile, charge = 2.0, 0.0, 0.0, 0.0
    for i in range(len(z)):
        top = max(top, rate[i, k])
        charge += z[i] * c[i, k]
        e += z[i] * (rate[i, k] * c[i, k] - source[i, k])
        mobile += z[i] * z[i] * c[i, k]
    return top, e / mobile, charge


@fast
def exponential_field(x, rate, source, z, k, h, e, charge, end, bend, mean):
    "Constant field of a step that keeps the charge; fills what the ions come to, and how it bends with the field."
    up = down = 0.0
    for _ in range(80):
        plus, minus, up, down = max(-charge, 0.0), max(charge, 0.0), 0.0, 0.0
        for i in range(len(z)):
            mean[0, i], mean[1, i], slope = exponential_parts(h * (rate[i, k] - z[i] * e))
            end[i] = x[i] * mean[0, i] + h * source[i, k] * mean[1, i]
            bend[i] = h * z[i] * (x[i] * mean[0, i] - h * source[i, k] * slope)
            if z[i] > 0:
                plus, up = plus + z[i] * end[i], up + z[i] * bend[i]
            elif z[i] < 0:
                minus, down = minus - z[i] * end[i], down - z[i] * bend[i]
        de = (math.log(plus) - math.log(minus)) / (up / plus - down / minus)
        if not abs(de) > 1e-12 * (1 + abs(e)):
            break
        e -= clip(de, 3.0 / h)
    return e, up - down


@fast
def exponential_steps(c, T, rate, source, z, n):
    "Steps of constant field, in which every ion is linear: positive at any rate."
    (d, w), m = c.shape, T.shape[1]
    x, end, bend, mean = np.empty(d), np.empty(d), np.empty(d), np.empty((2, d))
    for k in range(w):
        top, e, charge = start_of(c, rate, source, z, k)
        for step in range(n):
            h = exponential_mesh(step, n, top)
            for i in range(d):
                x[i] = c[i, k]
            e, slope = exponential_field(x, rate, source, z, k, h, e, charge, end, bend, mean)
            for j in range(m):
                de = 0.0
                for i in range(d):
                    own = mean[0, i] * T[i, j, k] + (h * mean[1, i] * source[i, k] if i == j else 0.0)
                    de -= z[i] * (own - T[i, j, k]) / slope
                for i in range(d):
                    own = mean[0, i] * T[i, j, k] + (h * mean[1, i] * source[i, k] if i == j else 0.0)
                    T[i, j, k] = own + bend[i] * de
            for i in range(d):
                c[i, k] = end[i]


@fast
def exponential(c, T, rate, source, z, n):
    "The same in place on -n and half as many steps: symmetric steps, so that a third of the difference, in logarithms, leaves the fourth order."
    (d, w), m = c.shape, T.shape[1]
    c2, T2 = c.copy(), T.copy()
    exponential_steps(c, T, rate, source, z, -n)
    exponential_steps(c2, T2, rate, source, z, -n // 2)
    for i in range(d):
        for k in range(w):
            if c[i, k] > 0:
                best = c[i, k] * math.exp((math.log(c[i, k]) - math.log(c2[i, k])) / 3)
                for j in range(m):
                    T[i, j, k] = best * (4 * T[i, j, k] / c[i, k] - T2[i, j, k] / c2[i, k]) / 3
                c[i, k] = best

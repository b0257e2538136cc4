"""Cotangents carried back through the kernel's marches, for gradients"""

import math

import numpy as np

from .kernel_march import exponential_field, exponential_mesh, exponential_steps, fast, midpoint_field, start_of


@fast
def explicit_back(c, rate, source, z, n, back, to_rate, to_source):
    "Cotangents of what `explicit` leaves, carried back through its steps in place; those of rate and source are added."
    d, w = c.shape
    h, marks, x, k1 = -1.0 / n, np.empty((n, 4, d)), np.empty(d), np.empty(d)
    bar, out = np.empty((4, d)), np.empty(d)
    for k in range(w):
        for i in range(d):
            x[i] = c[i, k]
        for step in range(n):
            for i in range(d):
                out[i] = marks[step, 0, i] = x[i]
            for stage in range(4):
                field = mobile = 0.0
                for i in range(d):
                    mobile += z[i] * z[i] * marks[step, stage, i]
                    field += z[i] * (rate[i, k] * marks[step, stage, i] - source[i, k])
                field /= mobile
                for i in range(d):
                    k1[i] = (rate[i, k] - z[i] * field) * marks[step, stage, i] - source[i, k]
                    out[i] += (h / 6, h / 3, h / 3, h / 6)[stage] * k1[i]
                    if stage < 3:
                        marks[step, stage + 1, i] = x[i] + (0.5 * h, 0.5 * h, h)[stage] * k1[i]
            for i in range(d):
                x[i] = out[i]
        for step in range(n - 1, -1, -1):
            for i in range(d):
                out[i] = back[i, k]
            for stage in range(3, -1, -1):
                field = mobile = pull = 0.0
                for i in range(d):  # cotangent of this stage's slope
                    bar[stage, i] = (h / 6, h / 3, h / 3, h / 6)[stage] * back[i, k]
                    if stage < 3:
                        bar[stage, i] += (0.5 * h, 0.5 * h, h)[stage] * x[i]
                    v = marks[step, stage, i]
                    mobile += z[i] * z[i] * v
                    field += z[i] * (rate[i, k] * v - source[i, k])
                    pull += z[i] * v * bar[stage, i]
                field /= mobile
                pull /= mobile
                for i in range(d):  # x: cotangent of the stage's concentrations
                    v, g = marks[step, stage, i], bar[stage, i] - z[i] * pull
                    x[i] = rate[i, k] * g - z[i] * field * bar[stage, i] + z[i] * z[i] * field * pull
                    to_rate[i, k] += v * g
                    to_source[i, k] -= g
                    out[i] += x[i]
            for i in range(d):
                back[i, k] = out[i]


@fast
def _exponential_steps_back(c, rate, source, z, n, back, to_rate, to_source):
    "The same for `exponential_steps`; c becomes what they leave."
    d, w = c.shape
    marks = np.empty((n + 1, d))
    fields, end, bend, mean = np.empty(n), np.empty(d), np.empty(d), np.empty((2, d))
    for k in range(w):
        top, e, charge = start_of(c, rate, source, z, k)
        for i in range(d):
            marks[0, i] = c[i, k]
        for step in range(n):
            h = exponential_mesh(step, n, top)
            e = exponential_field(marks[step], rate, source, z, k, h, e, charge, end, bend, mean)[0]
            fields[step] = e
            for i in range(d):
                marks[step + 1, i] = end[i]
        for step in range(n - 1, -1, -1):
            h, slope, mu = exponential_mesh(step, n, top), 0.0, 0.0
            exponential_field(marks[step], rate, source, z, k, h, fields[step], charge, end, bend, mean)
            for i in range(d):
                slope += z[i] * bend[i]
                mu += back[i, k] * bend[i]
            mu /= slope
            for i in range(d):
                g = back[i, k] - z[i] * mu
                to_source[i, k] += h * mean[1, i] * g
                if z[i] != 0:
                    to_rate[i, k] -= bend[i] / z[i] * g
                back[i, k] = mean[0, i] * g + z[i] * mu
        for i in range(d):
            c[i, k] = marks[n, i]


@fast
def exponential_back(c, rate, source, z, n, back, to_rate, to_source):
    "The same for `exponential`: c = c2n (c2n/cn)^(1/3)."
    (d, w) = c.shape
    c1, c2, b1, b2 = c.copy(), c.copy(), back.copy(), back.copy()
    none = np.empty((d, 0, w))
    exponential_steps(c1, none, rate, source, z, -n)
    exponential_steps(c2, none, rate, source, z, -n // 2)
    for i in range(d):
        for k in range(w):
            if c1[i, k] > 0:
                best = c1[i, k] * math.exp((math.log(c1[i, k]) - math.log(c2[i, k])) / 3)
                b1[i, k], b2[i, k] = 4 / 3 * best / c1[i, k] * back[i, k], -best / c2[i, k] / 3 * back[i, k]
    c1[:], c2[:] = c, c
    _exponential_steps_back(c1, rate, source, z, -n, b1, to_rate, to_source)
    _exponential_steps_back(c2, rate, source, z, -n // 2, b2, to_rate, to_source)
    for i in range(d):
        for k in range(w):
            back[i, k] = b1[i, k] + b2[i, k]


@fast
def midpoint_back(c, rate, source, z, n, back, to_rate, to_source):
    "The same for `midpoint`."
    (d, w), h = c.shape, 0.5 / n
    marks, fields, start = np.empty((n, d)), np.empty(n), c.copy()
    for k in range(w):
        for step in range(n):
            e = midpoint_field(start, rate, source, z, h, k, 0.0)
            fields[step] = e
            for i in range(d):
                marks[step, i] = (start[i, k] + h * source[i, k]) / (1 + h * (rate[i, k] - z[i] * e))
                start[i, k] = 2 * marks[step, i] - start[i, k]
        for step in range(n - 1, -1, -1):
            slope = mu = 0.0
            for i in range(d):
                below = 1 + h * (rate[i, k] - z[i] * fields[step])
                slope += z[i] * z[i] * h * marks[step, i] / below
                mu += 2 * back[i, k] * h * z[i] * marks[step, i] / below
            mu /= slope
            for i in range(d):
                below = 1 + h * (rate[i, k] - z[i] * fields[step])
                g = (2 * back[i, k] - z[i] * mu) / below
                to_source[i, k] += h * g
                to_rate[i, k] -= h * marks[step, i] * g
                back[i, k] = g + z[i] * mu - back[i, k]

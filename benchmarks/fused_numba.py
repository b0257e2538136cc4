"""What the network's fused path would lose if Numba took the place of C++: one evaluation of the field, forward.

    OMP_NUM_THREADS=1 python benchmarks/fused_numba.py [--batch 256] [--repeat 7] [--out FILE.json]

The default network, 8 ions, float32, one core. C++: the whole evaluation (tokens, attention, layers, constraint, its
share of the step and of the dense output), the difference of 8 and 4 steps of `StackedForward.predict`. Numba: the
tokens, the attention and the linear layers, without the logarithm of the state, the constraint, the step and the dense
output, so a lower bound; the layers in the quickest of four forms: products by BLAS (`np.dot`) or as loops over a tile
of curves, tanh by libm or written out for vectors as in `fused.cpp`. Least CPU time of repeated runs, the two taken in
turn. Above 1.3 the C++ stays."""

import argparse
import json
import math
import time

import numba
import numpy as np
import torch

from ion_ode.attention_odenet.constraints import make_constraint
from ion_ode.attention_odenet.field import FieldConfig
from ion_ode.attention_odenet.odenet import ODENet
from ion_ode.attention_odenet.stack import StackedForward
from ion_ode.core import LMH
from ion_ode.data.design import sample_feeds
from ion_ode.store import atomic_write, provenance
from ion_ode.water.ions import IONS

TILE = 32  # Curves whose activations fit the first cache
fast = numba.njit(fastmath={"contract", "arcp", "nsz"}, error_model="numpy")


@fast
def tanh_libm(x, b, bits):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] = math.tanh(x[i, j] + b[j])


@fast
def tanh_written_out(x, b, bits):
    "exp(2x) by a power of two, whose exponent sits in the low bits of a shifted number, and a polynomial."
    one, two, magic = np.float32(1), np.float32(2), np.float32(12582912.0)
    words, scale = bits.view(np.int32), bits
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            v = two * (x[i, j] + b[j])
            v = min(max(v, np.float32(-87.0)), np.float32(88.0))
            shifted = v * np.float32(1.4426950408889634) + magic
            n = shifted - magic
            r = (v - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4)
            p = one + r * np.float32(1 / 7)
            for k in (6, 5, 4, 3, 2, 1):
                p = p * (r * np.float32(1 / k)) + one
            bits[j], x[i, j] = shifted, p
        for j in range(x.shape[1]):
            words[j] = (words[j] + 127) << 23
        for j in range(x.shape[1]):
            x[i, j] = one - two / (x[i, j] * scale[j] + one)


def layers(tanh, blas):
    "All linear layers of one evaluation; the last without tanh."

    @fast
    def product(x, w, out):
        for i in range(out.shape[0]):
            for j in range(out.shape[1]):
                out[i, j] = np.float32(0)
            for k in range(w.shape[0]):
                a = x[i, k]
                for j in range(out.shape[1]):
                    out[i, j] += a * w[k, j]

    @fast
    def run(x, first, hidden, last, biases, ends, bits, work, out):
        for t in range(0, len(x), len(work[0])):
            to = min(len(x), t + len(work[0]))
            a, b = work[0, : to - t], work[1, : to - t]
            if blas:
                np.dot(x[t:to], first, a)
            else:
                product(x[t:to], first, a)
            tanh(a, biases[0], bits)
            for k in range(len(hidden)):
                if blas:
                    np.dot(a, hidden[k], b)
                else:
                    product(a, hidden[k], b)
                tanh(b, biases[k + 1], bits)
                a, b = b, a
            if blas:
                np.dot(a, last, out[t:to])
            else:
                product(a, last, out[t:to])
            for i in range(t, to):
                for j in range(len(ends)):
                    out[i, j] += ends[j]

    return run


@fast
def exponential(x, bits):
    "In place, written out for vectors as above."
    magic, words = np.float32(12582912.0), bits.view(np.int32)
    for j in range(len(x)):
        v = min(max(x[j], np.float32(-87.0)), np.float32(88.0))
        shifted = v * np.float32(1.4426950408889634) + magic
        n = shifted - magic
        r = (v - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4)
        p = np.float32(1) + r * np.float32(1 / 7)
        for k in (6, 5, 4, 3, 2, 1):
            p = p * (r * np.float32(1 / k)) + np.float32(1)
        bits[j], x[j] = shifted, p
    for j in range(len(x)):
        words[j] = (words[j] + 127) << 23
    for j in range(len(x)):
        x[j] *= bits[j]


@fast
def attended(h, tokens, mix, token, heads, rows, w, total, bits, x):
    "Tokens of all ions and what they tell each other, [row][ion][curve] a tile; into x, curve by curve."
    n, size = tokens.shape[1], rows.shape[2]
    for t in range(0, h.shape[1], size):
        for r in range(len(tokens)):
            for i in range(n):
                for c in range(size):
                    rows[r, i, c] = tokens[r, i] + (mix[r, 0] + mix[r, 1] + mix[r, 2]) * h[i, t + c]
        for a in range(heads):
            asks, values, per = token * (1 + a), token * (1 + heads), token // heads
            for i in range(n):
                for j in range(n):
                    for c in range(size):
                        w[j, c] = np.float32(0)
                    for f in range(token):
                        for c in range(size):
                            w[j, c] += rows[asks + f, i, c] * rows[f, j, c]
                for c in range(size):
                    bits[c], total[c] = w[0, c], np.float32(0)
                for j in range(1, n):
                    for c in range(size):
                        bits[c] = max(bits[c], w[j, c])
                for j in range(n):
                    for c in range(size):
                        w[j, c] -= bits[c]
                for j in range(n):
                    exponential(w[j], total)
                for c in range(size):
                    total[c] = np.float32(0)
                for j in range(n):
                    for c in range(size):
                        total[c] += w[j, c]
                for c in range(size):
                    total[c] = np.float32(1) / total[c]
                for f in range(per):
                    row = a * per + f
                    for c in range(size):
                        bits[c] = np.float32(0)
                    for j in range(n):
                        for c in range(size):
                            bits[c] += w[j, c] * rows[values + row, j, c]
                    for c in range(size):
                        x[t + c, row * n + i] = rows[row, i, c] + bits[c] * total[c]


def least(f, repeat):
    start = time.process_time()
    f()
    n, taken = max(1, int(0.05 / max(time.process_time() - start, 1e-6))), []
    for _ in range(repeat):
        start = time.process_time()
        for _ in range(n):
            f()
        taken.append((time.process_time() - start) / n)
    return min(taken)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--repeat", type=int, default=7)
    p.add_argument("--out", help="write the numbers as JSON")
    o = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = ODENet(FieldConfig(), make_constraint("equivalents"))
    stack, state = StackedForward(model, compiled="fused"), torch.func.stack_module_state([model])
    feeds = sample_feeds(o.batch, 4, ions=IONS, equivalents=(2.0, 200.0)).float()
    flux = 5 * LMH + 150 * LMH * torch.rand(o.batch, 32, generator=torch.Generator().manual_seed(1))
    predict = lambda n: stack.predict(*state, feeds, flux, n_steps=n, tol=torch.inf)

    g, shapes = np.random.default_rng(0), model.work().linears
    draw = lambda *s: g.normal(size=s).astype(np.float32) / np.float32(math.sqrt(s[0]))
    (width, n_in), n_out = shapes[0], shapes[-2][0]
    n_in -= model.work().context  # what stays the same along a curve is added once
    first, hidden, last = draw(n_in, width), draw(len(shapes) // 2 - 2, width, width), draw(width, n_out)
    biases, ends = draw(len(hidden) + 1, width), draw(n_out)
    x, bits, out = draw(o.batch, n_in), np.empty(width, np.float32), np.empty((o.batch, n_out), np.float32)
    there = x.astype(float)
    for w, b in zip([first, *hidden], biases, strict=True):
        there = np.tanh(there @ w + b)
    there = there @ last + ends
    forms, taken = {}, {}
    for name, tanh, blas, tile in (
        ("BLAS, tanh of libm", tanh_libm, True, o.batch), ("BLAS, tanh written out", tanh_written_out, True, o.batch),
        ("loops, tanh of libm", tanh_libm, False, TILE), ("loops, tanh written out", tanh_written_out, False, TILE),
    ):  # fmt: skip
        f, work = layers(tanh, blas), np.empty((2, tile, width), np.float32)
        forms[name] = lambda f=f, work=work: f(x, first, hidden, last, biases, ends, bits, work, out)
        forms[name]()
        np.testing.assert_allclose(out, there, rtol=1e-3, atol=1e-4)
    evaluation = (least(lambda: predict(8), o.repeat) - least(lambda: predict(4), o.repeat)) / 24
    for name, f in forms.items():
        taken[name] = least(f, o.repeat)
    k, size = model.work(), min(TILE, o.batch)
    tokens, mix, h = draw(k.rows, k.ions), draw(k.rows, 3), np.abs(draw(k.ions, o.batch))
    room = [np.empty(s, np.float32) for s in ((k.rows, k.ions, size), (k.ions, size), size, size)]
    tell = lambda: attended(h, tokens, mix, k.token, k.heads, *room, x)
    tell()
    rows = tokens[:, :, None] + mix.sum(1)[:, None, None] * h
    some, per = rows[: k.token].copy(), k.token // k.heads
    for a in range(k.heads):
        score = np.einsum("fic,fjc->ijc", rows[k.token * (1 + a) :][: k.token], rows[: k.token])
        share = np.exp(score - score.max(1, keepdims=True))
        values = rows[k.token * (1 + k.heads) + a * per :][:per]
        some[a * per :][:per] += np.einsum("ijc,fjc->fic", share / share.sum(1, keepdims=True), values)
    np.testing.assert_allclose(x[:, : k.token * k.ions].T, some.reshape(-1, o.batch), rtol=1e-3, atol=1e-4)
    told = least(tell, o.repeat)
    evaluation = min(evaluation, (least(lambda: predict(8), o.repeat) - least(lambda: predict(4), o.repeat)) / 24)
    rate = lambda s: round(1e6 * s / o.batch, 3)
    report = {
        "command": f"python benchmarks/fused_numba.py --batch {o.batch} --repeat {o.repeat}",
        "C++, whole evaluation, µs a curve": rate(evaluation),
        "Numba, linear layers, µs a curve": {k: rate(v) for k, v in taken.items()},
        "Numba, tokens and attention, µs a curve": rate(told),
        "at least times the C++": round((min(taken.values()) + told) / evaluation, 2),
        "provenance": provenance(seed=0),
    }  # fmt: skip
    print(json.dumps(report, indent=1, ensure_ascii=False))
    if o.out:
        atomic_write(o.out, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

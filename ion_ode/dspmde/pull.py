"""Slopes of permeates by the coefficients of their problems, in NumPy: ideal solutions

Every ion is present. What `ion_ode.dspmde.gradient` gives for tensors: one transposed linear solve a problem by the
implicit function theorem, and its shot carried back through film and pore by the kernel."""

from functools import cached_property

import numpy as np

from ion_ode.dspmde.kernel import compiled, shots_of
from ion_ode.dspmde.kernel_shot import ENTRY, FILM, FILM_KIND, K_CONV, NO_FILM, PECLET

__all__ = ["Pull"]


def _slices(*meshes) -> list[tuple[np.ndarray, tuple]]:
    "Places of problems that share their meshes, and these."
    key = meshes[0] + (1j * meshes[1] if len(meshes) > 1 else 0)
    at = [np.flatnonzero(key == k) for k in np.unique(key)]
    return [(i, tuple(int(m[i[0]]) for m in meshes)) for i in at]


def _marched(c, rate, source, z, meshes, back=None):
    "What a layer leaves of c; with cotangents of that, those of c, rate and source."
    out = [np.empty_like(c) for _ in range(1 if back is None else 3)]
    for i, (n,) in _slices(meshes):
        way, part = "explicit" if n > 0 else "exponential", [np.ascontiguousarray(v[:, i]) for v in (c, rate, source)]
        if back is None:
            compiled(way)(part[0], np.empty((len(c), 0, len(i))), *part[1:], z, n)
            out[0][:, i] = part[0]
            continue
        to = np.ascontiguousarray(back[:, i]), *np.zeros((2, *part[0].shape))
        compiled(f"{way} back")(*part, z, n, *to)
        for v, w in zip(out, to, strict=True):
            v[:, i] = w
    return out if back is not None else out[0]


class Pull:
    "Solutions of packed coefficients, from which cotangents are carried back."

    def __init__(self, z, q, own, form, found: dict):
        self.z, self.q, self.own, self.form, d = z, q, own, form, len(z)
        self.u, self.meshes, z = found["u"], (found["n"], found["n_film"]), z[:, None]
        self.c_perm = np.exp(self.u[:d])
        self.exit = self.c_perm * q[ENTRY] * np.exp(-z * found["p_perm"])
        self.pore = q[PECLET] * q[K_CONV], q[PECLET] * self.c_perm
        self.mouth = _marched(self.exit, *self.pore, self.z, found["n"])
        if form[FILM_KIND] != NO_FILM:
            self.wall = self.mouth / q[ENTRY] * np.exp(z * self.u[d])
            self.film = q[FILM], q[FILM] * self.c_perm
            self.bulk = _marched(self.wall, *self.film, self.z, found["n_film"])

    @cached_property
    def _transposed(self) -> np.ndarray:  # (problem, unknown, unknown)
        "Jacobians of the shots, transposed."
        out = np.empty((self.u.shape[1], len(self.u), len(self.u)))
        for i, mesh in _slices(*self.meshes):
            out[i] = shots_of(self.z, self.q[..., i], self.own[:, i], self.form, self.u[:, i], *mesh, True)
        return out.transpose(0, 2, 1)

    def back(
        self,
        seed: np.ndarray,  # Derivative of a number by every ln c_p (ion, problem)
    ) -> dict:  # Its derivatives by ln of entry, peclet, K_conv and film (ion, problem), and by charge (problem,)
        "Cotangents of the permeate as those of the coefficients."
        seed, z = np.concatenate([seed, np.zeros_like(seed[:1])]), self.z[:, None]
        by = -np.linalg.solve(self._transposed, seed.T[..., None])[: len(seed.T), : len(z), 0].T
        out = {}
        if self.form[FILM_KIND] != NO_FILM:
            by, to_rate, to_source = _marched(self.wall, *self.film, self.z, self.meshes[1], by / self.bulk)
            by, out["film"] = by * self.wall, to_rate * self.film[0] + to_source * self.film[1]
        out["entry"] = -by
        by, to_rate, to_source = _marched(self.exit, *self.pore, self.z, self.meshes[0], by / self.mouth)
        out["K_conv"] = to_rate * self.pore[0]
        out["peclet"] = out["K_conv"] + to_source * self.pore[1]
        by = by * self.exit
        out["charge"] = -(z * by).sum(0) / (z * z * self.exit).sum(0)
        out["entry"] += by + z * self.exit * out["charge"]
        return out

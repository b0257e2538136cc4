"""A march through a layer by the compiled kernel, as torch differentiates it"""

import numpy as np
import torch

from .kernel import compiled


class _Back(torch.autograd.Function):
    "Cotangents of a march; several at once lie side by side."

    @staticmethod
    def forward(c, rate, source, z, grad, n, way):
        back, to_rate, to_source = np.array(grad.numpy(), order="C"), np.zeros(c.shape), np.zeros(c.shape)
        compiled(way + " back")(np.array(c.numpy(), order="C"), *_arrays(rate, source, z), n, back, to_rate, to_source)
        return tuple(torch.from_numpy(t) for t in (back, to_rate, to_source))

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def vmap(info, in_dims, c, rate, source, z, grad, n, way):
        many = grad.movedim(in_dims[4], 1).flatten(1)
        out = _Back.apply(*(t.repeat(1, info.batch_size) for t in (c, rate, source)), z, many, n, way)
        return tuple(t.unflatten(1, (info.batch_size, -1)) for t in out), (1, 1, 1)


class _March(torch.autograd.Function):
    "A march through a layer by the kernel, with its cotangents."

    @staticmethod
    def forward(ctx, c, rate, source, z, n, way):
        ctx.save_for_backward(c, rate, source, z)
        ctx.n, ctx.way = n, way
        out = np.array(c.numpy(), order="C")
        compiled(way)(out, np.empty((len(out), 0, out.shape[1])), *_arrays(rate, source, z), n)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx, grad):
        return *_Back.apply(*ctx.saved_tensors, grad, ctx.n, ctx.way), None, None, None


def _arrays(rate, source, z):
    return (*(np.ascontiguousarray(t.detach().numpy()) for t in (rate, source)), np.ascontiguousarray(z[:, 0].numpy()))


def layer(c, rate, source, z, n: int, tangent=None, push=None, midpoint: bool = False):
    "Through a layer as `march.layer` does; n < 0: exponential steps."
    return _March.apply(
        c,
        rate,
        source,
        z,
        abs(n) if midpoint else n,
        "midpoint" if midpoint else "explicit" if n > 0 else "exponential",
    ), None

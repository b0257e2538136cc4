"""Who solves: the compiled kernel on a CPU, or the reference in torch that it is held against"""

import contextvars
from contextlib import contextmanager

import torch
from torch import Tensor

_EAGER = contextvars.ContextVar("eager", default=False)  # whether the reference is asked for


@contextmanager
def eagerly(eager: bool):
    "Let the reference in torch do what is done inside."
    token = _EAGER.set(eager or _EAGER.get())
    try:
        yield
    finally:
        _EAGER.reset(token)


def on_kernel(t: Tensor) -> bool:
    "Whether the kernel takes such numbers: arrays, or double precision on a CPU, outside torch.func's transforms."
    if not isinstance(t, Tensor):
        return True
    plain = not torch._C._functorch.is_functorch_wrapped_tensor(t)
    return plain and t.device.type == "cpu" and t.dtype == torch.float64 and not _EAGER.get()

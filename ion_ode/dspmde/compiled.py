"""The march compiled by torch where a C++ compiler is at hand"""

import contextvars
from contextlib import contextmanager
from functools import lru_cache

import torch

from ion_ode.core import compile_or_eager


_COMPILED = contextvars.ContextVar("compiled", default=False)  # whether the current solve may call compiled steps


@contextmanager
def _compiling(fast: bool):
    token = _COMPILED.set(fast)
    try:
        yield
    finally:
        _COMPILED.reset(token)


@lru_cache
def compiled(f):
    "The function compiled for fixed shapes."
    return compile_or_eager(f)


@lru_cache
def can_compile() -> bool:
    "Whether this machine has what torch.compile needs; tried once on a small function."
    try:
        return bool(torch.compile(lambda x: x + 1, dynamic=False)(torch.zeros(8)).sum() == 8)
    except Exception:  # no compiler, no headers: any reason means eager
        return False

"""Random numbers drawn inside a step.

A layer asks for numbers in the shape of its input and does not know whose they are. Inside :func:`drawing` they come
from a generator of the seed's own, so that no other seed changes them; outside, and under ``vmap``, from torch's.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["drawing", "normal_like", "uniform_like"]

_thread = threading.local()


@contextmanager
def drawing(generator: torch.Generator | None) -> Iterator[None]:
    """Let the layers that this thread runs draw from a generator of a CPU; None for torch's own."""
    before = _own()
    _thread.generator = generator
    try:
        yield
    finally:
        _thread.generator = before


def normal_like(x: Tensor) -> Tensor:
    """Numbers from N(0, 1) in the shape, type and place of ``x``, contiguous."""
    generator = _own()
    if generator is None:
        # In the order of memory of a channels-last image, a CPU draws eight times slower.
        return torch.randn_like(x, memory_format=torch.contiguous_format)
    return torch.empty_like(x, memory_format=torch.contiguous_format).normal_(generator=generator)


def uniform_like(x: Tensor) -> Tensor:
    """Numbers from U[0, 1) in the shape, type and place of ``x``, contiguous."""
    generator = _own()
    if generator is None:
        return torch.rand_like(x, memory_format=torch.contiguous_format)
    return torch.empty_like(x, memory_format=torch.contiguous_format).uniform_(generator=generator)


def _own() -> torch.Generator | None:
    return getattr(_thread, "generator", None)

"""Draw random numbers for noise layers.

A layer asks for numbers in the shape of its input. Inside :func:`use_generator` they come from the generator of one
seed, so that they do not depend on other seeds; outside, and under ``vmap``, from torch's global generator. The
numbers of one pass can be recorded and replayed in others over the same rows (:func:`record`, :func:`replay`).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ssgan import distributed

__all__ = ["normal_like", "record", "replay", "uniform_like", "use_generator"]


_thread = threading.local()


@contextmanager
def use_generator(generator: torch.Generator | None) -> Iterator[None]:
    """Make the layers that this thread runs draw from a CPU generator; None is torch's global one."""
    before = _generator()
    _thread.generator = generator
    try:
        yield
    finally:
        _thread.generator = before


@contextmanager
def record() -> Iterator[list[Tensor]]:
    """Record the numbers that this thread draws, in order, in the list that is yielded."""
    before = getattr(_thread, "recorded", None)
    draws: list[Tensor] = []
    _thread.recorded = draws
    try:
        yield draws
    finally:
        _thread.recorded = before


@contextmanager
def replay(draws: Sequence[Tensor]) -> Iterator[None]:
    """Make the layers that this thread runs use these values, in order, instead of new ones."""
    before = getattr(_thread, "replayed", None)
    _thread.replayed = iter(draws)
    try:
        yield
    finally:
        _thread.replayed = before


def normal_like(x: Tensor) -> Tensor:
    """Draw numbers from N(0, 1) with the shape, dtype and device of ``x``, contiguous."""
    return _draw(_normal, x)


def uniform_like(x: Tensor) -> Tensor:
    """Draw numbers from U[0, 1) with the shape, dtype and device of ``x``, contiguous."""
    return _draw(_uniform, x)


def _draw(distribution: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the next replayed numbers, or draw new ones and record them if asked to."""
    replayed: Iterator[Tensor] | None = getattr(_thread, "replayed", None)
    if replayed is not None:
        return next(replayed)
    numbers = distributed.own_rows(distribution(distributed.joined_like(x)))
    draws: list[Tensor] | None = getattr(_thread, "recorded", None)
    if draws is not None:
        draws.append(numbers)
    return numbers


def _normal(x: Tensor) -> Tensor:
    """Draw from N(0, 1) with this thread's generator."""
    generator = _generator()
    if generator is None:
        # On a CPU, drawing in the memory order of a channels-last image is eight times slower.
        return torch.randn_like(x, memory_format=torch.contiguous_format)
    return torch.empty_like(x, memory_format=torch.contiguous_format).normal_(generator=generator)


def _uniform(x: Tensor) -> Tensor:
    """Draw from U[0, 1) with this thread's generator."""
    generator = _generator()
    if generator is None:
        return torch.rand_like(x, memory_format=torch.contiguous_format)
    return torch.empty_like(x, memory_format=torch.contiguous_format).uniform_(generator=generator)


def _generator() -> torch.Generator | None:
    """Return this thread's generator; None is torch's global one."""
    return getattr(_thread, "generator", None)

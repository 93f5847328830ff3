"""Random numbers drawn inside a step.

A layer asks for numbers in the shape of its input and does not know whose they are. Inside :func:`drawing` they come
from a generator of the seed's own, so that no other seed changes them; outside, and under ``vmap``, from torch's.
What one pass has drawn can be given to others over the same rows (:func:`kept`, :func:`given`).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["drawing", "given", "kept", "normal_like", "uniform_like"]


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


@contextmanager
def kept() -> Iterator[list[Tensor]]:
    """Give a list that fills with what this thread draws, in order."""
    before = getattr(_thread, "kept", None)
    draws: list[Tensor] = []
    _thread.kept = draws
    try:
        yield draws
    finally:
        _thread.kept = before


@contextmanager
def given(draws: Sequence[Tensor]) -> Iterator[None]:
    """Let the layers that this thread runs have these numbers, in order, in place of new ones."""
    before = getattr(_thread, "given", None)
    _thread.given = iter(draws)
    try:
        yield
    finally:
        _thread.given = before


def normal_like(x: Tensor) -> Tensor:
    """Numbers from N(0, 1) in the shape, type and place of ``x``, contiguous."""
    return _drawn(_normal, x)


def uniform_like(x: Tensor) -> Tensor:
    """Numbers from U[0, 1) in the shape, type and place of ``x``, contiguous."""
    return _drawn(_uniform, x)


def _drawn(draw: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    given_ones: Iterator[Tensor] | None = getattr(_thread, "given", None)
    if given_ones is not None:
        return next(given_ones)
    numbers = draw(x)
    draws: list[Tensor] | None = getattr(_thread, "kept", None)
    if draws is not None:
        draws.append(numbers)
    return numbers


def _normal(x: Tensor) -> Tensor:
    generator = _own()
    if generator is None:
        # In the order of memory of a channels-last image, a CPU draws eight times slower.
        return torch.randn_like(x, memory_format=torch.contiguous_format)
    return torch.empty_like(x, memory_format=torch.contiguous_format).normal_(generator=generator)


def _uniform(x: Tensor) -> Tensor:
    generator = _own()
    if generator is None:
        return torch.rand_like(x, memory_format=torch.contiguous_format)
    return torch.empty_like(x, memory_format=torch.contiguous_format).uniform_(generator=generator)


def _own() -> torch.Generator | None:
    return getattr(_thread, "generator", None)

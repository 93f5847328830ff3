"""Measure bounds on the speed of a step of `mnist-paper`: its matrix products and the memory bandwidth."""

import functools
import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from ssgan.settings.config import Config

# A matrix product of a dense layer: output, or gradient of input or weight; rows, inputs, outputs.
Product = tuple[str, int, int, int]


def products(config: Config, inputs: int, classes: int) -> list[Product]:
    """List the matrix products of a step of one model: D on three batches in its phase, on two in that of G.

    Not included: gradients of images in D's phase, of D's weights in G's phase and of G's noise; logits in G's phase.
    """
    rows = config.batch_size
    D = list(itertools.pairwise([inputs, *config.discriminator_widths, classes]))
    G = list(itertools.pairwise([config.latent_size, *config.generator_widths, inputs]))
    phase_D = [("output", rows, G), ("output", 3 * rows, D), ("input", 3 * rows, D[1:]), ("weight", 3 * rows, D)]
    phase_G = [("output", rows, G), ("output", 2 * rows, D[:-1]), ("input", rows, D[:-1])]
    phase_G += [("input", rows, G[1:]), ("weight", rows, G)]
    return [(kind, count, *layer) for kind, count, layers in phase_D + phase_G for layer in layers]


def gigaflop(products: list[Product]) -> float:
    """Count operations in 10^9, a multiplication and an addition for each term of each sum."""
    return sum(2 * rows * inputs * outputs for _, rows, inputs, outputs in products) / 1e9


def multiplier(products: list[Product], models: int, device: torch.device) -> Callable[[], None]:
    """Return a function that computes these products for a number of models: torch.mm for one, torch.bmm for more."""

    @functools.cache
    def operand(role: str, *shape: int) -> Tensor:
        return torch.randn(*shape if models == 1 else (models, *shape), device=device)

    triples = []
    for kind, rows, inputs, outputs in products:
        x, y, W = operand("x", rows, inputs), operand("y", rows, outputs), operand("W", outputs, inputs)
        left, right = {"output": (x, W.mT), "input": (y, W), "weight": (y.mT, x)}[kind]
        triples.append((left, right, left @ right))
    multiply = torch.mm if models == 1 else torch.bmm

    def run() -> None:
        for left, right, out in triples:
            multiply(left, right, out=out)

    return run


def copier(megabytes: int, device: torch.device) -> Callable[[], None]:
    """Return a function that copies memory: each byte is read once and written once."""
    source = torch.zeros(megabytes * 250_000, device=device)
    target = torch.empty_like(source)

    def run() -> None:
        target.copy_(source)

    return run

"""A batch by index: the data lie on the device as uint8, and every order is a function of the step.

Nothing here has a state. Which images and which noise step t of a seed sees follows from the seed
and t alone, so a run that is resumed, or trained beside other seeds, sees the same.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ssgan.config import Config
from ssgan.methods import Batch
from ssgan.models import MODELS, latent
from ssgan.splits import Split

__all__ = ["Batches", "Order", "stream_key"]

CHUNK_BATCHES = 64
BLOCK_POSITIONS = 8192
STREAMS = ("init", "noise", "labeled", "unlabeled", "unlabeled2", "z", "z2")


def stream_key(seed: int, stream: str, *place: int) -> int:
    """A 63-bit number for one place of one random stream of one seed."""
    words = np.random.SeedSequence([seed, STREAMS.index(stream), *place]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


class Order:
    """An endless order of ``rows`` rows: permutation after permutation, so each epoch holds each row once."""

    def __init__(self, rows: int, seed: int, stream: str) -> None:
        self.rows, self.seed, self.stream = rows, seed, stream
        self.block_epochs = max(1, BLOCK_POSITIONS // rows)
        self._block = (-1, np.empty(0, np.int64))

    def take(self, start: int, count: int) -> np.ndarray:
        """Positions ``start`` to ``start + count`` of the order, int64 [count]."""
        size = self.rows * self.block_epochs
        parts = []
        while count > 0:
            block, offset = divmod(start, size)
            part = self._load(block)[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)

    def _load(self, block: int) -> np.ndarray:
        if self._block[0] != block:
            random = np.random.Generator(np.random.PCG64(stream_key(self.seed, self.stream, block)))
            epochs = np.tile(np.arange(self.rows), (self.block_epochs, 1))
            self._block = (block, random.permuted(epochs, axis=1).ravel())
        return self._block[1]


class Batches:
    """Batches of all seeds of a stack.

    Parameters
    ----------
    x_pool : ndarray, shape [N, ...]
        Images of the training pool, labelled ones included; there are no labels beside ``splits``.
    scale : float
        The value of full intensity.
    splits : sequence of Split
        The labelled rows and labels of each seed.
    seeds : sequence of int
    config : Config
    device : torch.device
    """

    def __init__(
        self,
        x_pool: np.ndarray,
        scale: float,
        splits: list[Split],
        seeds: list[int],
        config: Config,
        device: torch.device,
    ) -> None:
        self.config, self.seeds, self.device, self.scale = config, seeds, device, scale
        self.dtype = getattr(torch, config.dtype)
        self.pool = torch.from_numpy(x_pool).to(device)
        self.labeled_rows = [torch.from_numpy(split.indices).to(device) for split in splits]
        self.labels = [torch.from_numpy(split.y).to(device) for split in splits]
        self.split_sha256 = [split.sha256 for split in splits]
        self.orders = {
            "labeled": [Order(len(split.indices), seed, "labeled") for split, seed in zip(splits, seeds, strict=True)],
            "unlabeled": [Order(len(x_pool), seed, "unlabeled") for seed in seeds],
            "unlabeled2": [Order(len(x_pool), seed, "unlabeled2") for seed in seeds],
        }

    def images(self, stored: Tensor) -> Tensor:
        """Stored pixels as floats in the network's input range."""
        return MODELS[self.config.network].to_input(stored, self.scale, self.dtype)

    def initialization_images(self, seed: int) -> Tensor:
        """Pool images for the data-dependent initialisation of one seed."""
        rows = Order(len(self.pool), seed, "init").take(0, self.config.init_images)
        return self.images(self.pool[torch.from_numpy(rows).to(self.device)])

    def from_batch(self, first: int, stop: int) -> Iterator[Batch]:
        """Batches ``first`` to ``stop``, each tensor [S, B, ...]."""
        while first < stop:
            chunk, offset = divmod(first, CHUNK_BATCHES)
            count = min(CHUNK_BATCHES - offset, stop - first)
            rows = {name: self._rows(name, first, count) for name in self.orders}
            noise = {name: self._noise(name, chunk)[:, offset : offset + count] for name in ("z", "z2")}
            for i in range(count):
                index = {name: r[:, i] for name, r in rows.items()}
                x_lab = torch.stack([self.pool[r[i]] for r, i in zip(self.labeled_rows, index["labeled"], strict=True)])
                y_lab = torch.stack([y[i] for y, i in zip(self.labels, index["labeled"], strict=True)])
                x_unl, x_unl2 = self.pool[index["unlabeled"]], self.pool[index["unlabeled2"]]
                images = [self.images(x) for x in (x_lab, x_unl, x_unl2)]
                yield Batch(images[0], y_lab, images[1], images[2], noise["z"][:, i], noise["z2"][:, i])
            first += count

    def _rows(self, name: str, first: int, count: int) -> Tensor:
        size = self.config.batch_size
        rows = np.stack([order.take(first * size, count * size) for order in self.orders[name]])
        return torch.from_numpy(rows).to(self.device).unflatten(1, (count, size))

    def _noise(self, name: str, chunk: int) -> Tensor:
        """G's noise [S, CHUNK_BATCHES, B, latent_size] of a whole chunk, whatever part of it is used."""
        parts = []
        for seed in self.seeds:
            generator = torch.Generator(self.device).manual_seed(stream_key(seed, name, chunk))
            parts.append(latent(self.config, CHUNK_BATCHES, self.config.batch_size, generator=generator))
        return torch.stack(parts).to(self.dtype)

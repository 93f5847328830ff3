"""Make batches by index from images on the device, as a function of the step alone.

There is no state: the images and the noise of step t follow from the seed and t, so a run that is resumed, or trained
beside other seeds, sees the same batches.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssgan import distributed
from ssgan.data.feature_views import WEAK_VIEWS
from ssgan.data.splits import Split
from ssgan.nn.registry import NETWORK_PAIRS, draw_latents
from ssgan.settings.catalog import check_augmentation
from ssgan.settings.config import Config
from ssgan.training import augment
from ssgan.training.label_spreading import spread_labels
from ssgan.training.methods import Batch

__all__ = ["Batches", "Order", "choose_view", "stream_key"]


CHUNK_BATCHES = 64
BLOCK_POSITIONS = 8192
# Each random stream has its index as its number: append only, or earlier runs would draw other numbers.
STREAMS = (
    *("init", "noise", "labeled", "unlabeled", "unlabeled2", "z", "z2"),
    *("augment_labeled", "augment_unlabeled", "augment_unlabeled2", "augment_strong", "augment_again"),
)


def stream_key(seed: int, stream: str, *position: int) -> int:
    """Return a 63-bit random seed for one position in one random stream of one model's seed."""
    words = np.random.SeedSequence([seed, STREAMS.index(stream), *position]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


class Order:
    """Shuffle ``rows`` rows epoch after epoch, without end; each epoch holds each row once."""

    def __init__(self, rows: int, seed: int, stream: str) -> None:
        self.rows, self.seed, self.stream = rows, seed, stream
        self.block_epochs = max(1, BLOCK_POSITIONS // rows)
        self._block = (-1, np.empty(0, np.int64))

    def take(self, start: int, count: int) -> np.ndarray:
        """Return the rows at positions ``start`` to ``start + count``, int64 [count]."""
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


class _Labeled(NamedTuple):
    """The labelled rows of each model, their labels, and the order in which they come."""

    rows: list[np.ndarray]
    y: list[np.ndarray]
    orders: list[Order]

    def take(self, first: int, count: int) -> list[np.ndarray]:
        """Return ``count`` positions in the rows of each model, int64 [count] each."""
        return [order.take(first, count) for order in self.orders]


class Batches:
    """Make the batches of all models of a stack.

    Parameters
    ----------
    x_pool : ndarray, shape [N, ...]
        Images of the training pool, labelled ones included; the only labels are those of ``splits``. With
        ``augmentation="crops"`` the features of their views, [N, V, D].
    scale : float
        The value of full intensity.
    splits : sequence of Split
        The labelled rows and labels of each model.
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
        self.x_pool, self.splits = x_pool, splits
        self.labeled = self._in_order([split.indices for split in splits], [split.y for split in splits])
        self.split_sha256 = [split.sha256 for split in splits]
        pool_rows = np.arange(len(x_pool))
        self.seen_rows = [np.setdiff1d(pool_rows, s.held_out) if len(s.held_out) else pool_rows for s in splits]
        self.orders = {
            name: [Order(len(rows), seed, name) for rows, seed in zip(self.seen_rows, seeds, strict=True)]
            for name in ("unlabeled", "unlabeled2")
        }
        # Uniform numbers that a row takes from each random stream; 0 for latents, which have their own size.
        self.numbers_per_row = {"z": 0, "z2": 0}
        self.strong, self.again = config.needs_strong_views, config.needs_second_views
        self.augmentation = augment.AUGMENTATIONS.get(config.augmentation)
        self.has_views = config.augmentation == "crops"
        if self.augmentation is not None or self.has_views:
            if not self.has_views:
                check_augmentation(config.augmentation, x_pool.shape[1:])
            # No view is made of images that no phase uses.
            used = {
                "augment_labeled": not config.unconditional,
                "augment_unlabeled": config.sees_unlabeled,
                "augment_unlabeled2": config.trains_generator,
                "augment_again": self.again,
            }
            weak, strong = (1, 1) if self.has_views else (augment.WEAK_NUMBERS, augment.STRONG_NUMBERS)
            self.numbers_per_row |= {name: weak for name, needed in used.items() if needed}
            if self.strong:
                self.numbers_per_row["augment_strong"] = strong

    def _in_order(self, rows: list[np.ndarray], y: list[np.ndarray]) -> _Labeled:
        """Shuffle labelled rows; a GAN without classes has none."""
        pairs = zip(rows, self.seeds, strict=True)
        orders = [] if self.config.unconditional else [Order(len(own), seed, "labeled") for own, seed in pairs]
        return _Labeled(rows, y, orders)

    @cached_property
    def spread_labeled(self) -> _Labeled:
        """The rows that the labels of each model reach by label spreading."""
        of_backbone, even = self.config.backbone is not None, self.config.has("balance")
        pairs = [spread_labels(self.x_pool, self.scale, split, of_backbone, even) for split in self.splits]
        return self._in_order([rows for rows, _ in pairs], [y for _, y in pairs])

    def prepare(self, first: int) -> None:
        """Spread the labels now, if the batch ``first`` learns from them: that takes longer than a batch."""
        if first < self.config.batches_with_spread_labels:
            _ = self.spread_labeled

    def images(self, stored: Tensor, u: Tensor | None = None, strong: bool = False) -> Tensor:
        """Convert stored pixels [S, B, ...] to the input range, augmented by uniform numbers ``u`` [S, B, P]."""
        pair = NETWORK_PAIRS[self.config.network]
        if self.has_views:
            stored = choose_view(stored, u, strong)
        if u is None or self.augmentation is None:
            return pair.to_input(stored, self.scale, self.dtype)
        if self.device.type == "cpu" and len(stored) > 1:
            # The last bit of a view depends on the number of rows, so the views of each model are computed alone.
            return torch.cat([self.images(stored[i : i + 1], u[i : i + 1], strong) for i in range(len(stored))])
        unit = (stored.to(self.dtype) / self.scale).flatten(0, 1)
        unit = unit.movedim(-1, 1) if unit.dim() == 4 else unit.unsqueeze(1)
        numbers = u.flatten(0, 1)
        if strong:
            view = augment.strong(unit, numbers, self.augmentation, by_rows=self.device.type == "cpu")
        else:
            view = augment.weak(unit, numbers, self.augmentation)
        view = view.movedim(1, -1) if stored.dim() == 5 else view.squeeze(1)
        return pair.from_unit(view).reshape(stored.shape)

    def initialization_images(self, seed: int) -> Tensor:
        """Return pool images for the data-dependent initialisation of one model."""
        seen = self.seen_rows[self.seeds.index(seed)]
        count = self.config.init_images
        rows = seen[Order(len(seen), seed, "init").take(0, count)] if count else seen[:0]
        return self.images(self.pool[torch.from_numpy(rows).to(self.device)])

    def from_batch(self, first: int, stop: int) -> Iterator[Batch]:
        """Yield the batches ``first`` to ``stop``, tensors [S, B, ...]; each of several processes gets its own rows."""
        share, none = distributed.own_slice(self.config.batch_size), slice(0, 0)
        while first < stop:
            chunk, offset = divmod(first, CHUNK_BATCHES)
            count = min(CHUNK_BATCHES - offset, stop - first)
            labeled = self.labeled
            if first < (end := self.config.batches_with_spread_labels):
                count, labeled = min(count, end - first), self.spread_labeled
            size = self.config.batch_size
            # A GAN without classes has empty labelled batches.
            places = labeled.take(first * size, count * size) or [np.zeros(0, np.int64)] * len(self.seeds)
            y = self._upload(labeled.y, places, count)
            rows = {"labeled": self._upload(labeled.rows, places, count)}
            for name, orders in self.orders.items():
                positions = [order.take(first * size, count * size) for order in orders]
                rows[name] = self._upload(self.seen_rows, positions, count)
            drawn = {name: self._noise(name, chunk)[:, offset : offset + count] for name in self.numbers_per_row}
            for i in range(count):
                # Only the first batches of a step have generated images, and only the first one trains G.
                place = (first + i) % self.config.discriminator_steps
                unused = [] if place < self.config.batches_with_fakes else ["z"]
                unused += ["unlabeled2", "z2", "augment_unlabeled2"] if place else []
                index = {name: r[:, i, none if name in unused else share] for name, r in rows.items()}
                u = {name: n[:, i, none if name in unused else share] for name, n in drawn.items()}
                x_lab, x_unl, x_unl2 = (self.pool[index[name]] for name in ("labeled", "unlabeled", "unlabeled2"))
                yield Batch(
                    x_lab=self.images(x_lab, u.get("augment_labeled")),
                    y_lab=y[:, i, share],
                    x_unl=self.images(x_unl, u.get("augment_unlabeled")),
                    x_unl2=self.images(x_unl2, u.get("augment_unlabeled2")),
                    z=u["z"],
                    z2=u["z2"],
                    x_strong=self.images(x_unl if self.strong else x_unl[:, :0], u.get("augment_strong"), strong=True),
                    x_again=self.images(x_unl if self.again else x_unl[:, :0], u.get("augment_again")),
                )
            first += count

    def _upload(self, values: list[np.ndarray], places: list[np.ndarray], count: int) -> Tensor:
        """Return each model's values at its positions, [S, count, B]; the copy to a GPU is asynchronous."""
        taken = torch.from_numpy(np.stack([array[place] for array, place in zip(values, places, strict=True)]))
        on_cuda = self.device.type == "cuda"
        taken = (taken.pin_memory() if on_cuda else taken).to(self.device, non_blocking=on_cuda)
        return taken.reshape(len(taken), count, taken.shape[1] // count)

    def _noise(self, name: str, chunk: int) -> Tensor:
        """Draw the numbers of a stream for a whole chunk, [S, CHUNK_BATCHES, B, P]."""
        parts, shape = [], (CHUNK_BATCHES, self.config.batch_size)
        for seed in self.seeds:
            generator = torch.Generator(self.device).manual_seed(stream_key(seed, name, chunk))
            if self.numbers_per_row[name]:
                part = torch.rand(*shape, self.numbers_per_row[name], generator=generator, device=self.device)
            else:
                part = draw_latents(self.config, *shape, generator=generator)
            parts.append(part)
        return torch.stack(parts).to(self.dtype)


def choose_view(views: Tensor, u: Tensor | None, strong: bool = False) -> Tensor:
    """Choose one of the views of each row.

    Parameters
    ----------
    views : Tensor, shape [..., V, D]
        The weak ones first, of which the first is the picture itself.
    u : Tensor, shape [..., 1], or None
        Uniform numbers in [0, 1); None takes the picture itself.
    strong : bool
        Whether to choose among the strong ones.

    Returns
    -------
    Tensor, shape [..., D]
    """
    if u is None:
        return views[..., 0, :]
    first, last = (WEAK_VIEWS, views.shape[-2]) if strong else (0, WEAK_VIEWS)
    index = first + (u * (last - first)).long().clamp(max=last - first - 1)
    return views.gather(-2, index.unsqueeze(-1).expand(*index.shape, views.shape[-1])).squeeze(-2)

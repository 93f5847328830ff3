"""Which few images are labelled: drawn once, hashed, saved, and never drawn again.

A draw depends on the labels, the count and the draw seed alone, on no global random state. The
other labels are erased by :func:`hide` before training sees them.
"""

import hashlib
import itertools
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssgan.errors import UserError
from ssgan.files import write_json

__all__ = ["Split", "check_splits", "draw", "for_seeds", "hide", "in_folds", "load", "save", "uneven"]


SPLIT_VERSION = 1
UNEVEN = 3  # times as many labelled images in one class as in another: worth a word


@dataclass(frozen=True, eq=False)
class Split:
    """The labelled images of one seed.

    Attributes
    ----------
    indices : ndarray of int64, shape [n]
        Rows of the training pool, ascending.
    y : ndarray of int64, shape [n]
        Their labels: all that training ever sees.
    held_out : ndarray of int64, shape [m]
        Rows of the pool that the model never sees, not even without their labels.
    """

    indices: np.ndarray
    y: np.ndarray
    held_out: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def sha256(self) -> str:
        """Hash of the labelled rows and their labels; hidden labels do not enter."""
        digest = hashlib.sha256()
        for array in (self.indices, self.y):
            digest.update(np.ascontiguousarray(array, dtype="<i8").data)
        return digest.hexdigest()


def draw(y: np.ndarray, labels: int | str, seed: int) -> np.ndarray:
    """Draw a class-balanced set of labelled rows.

    The order of each class is a permutation made from ``seed``, and the draw takes rows from the
    classes in turn, so draws of one seed are nested: the 50 labels contain the 20. Where ``labels``
    is no multiple of the classes, ``seed`` says which classes give one more; a class that runs out
    leaves its turns to the others.

    Parameters
    ----------
    y : ndarray of int, shape [N]
        Labels of the pool, -1 for unlabelled rows, which are never drawn.
    labels : int or "all"
        Total number of labelled images.
    seed : int
        The draw seed, 0 to 2**32 - 1.

    Returns
    -------
    ndarray of int64, shape [labels], ascending

    Raises
    ------
    UserError
        Where so many labels cannot be drawn.
    """
    y = np.asarray(y)
    known = np.flatnonzero(y >= 0)
    if labels == "all":
        return known
    present = np.unique(y[known])
    if not len(known):
        raise UserError("There is no labelled image to draw from: every label of the pool is -1.")
    if not 0 <= seed < 2**32:
        raise UserError(f"The draw seed is {seed}, but must lie between 0 and {2**32 - 1}.")
    if isinstance(labels, bool) or not isinstance(labels, int | np.integer):
        raise UserError(f"The number of labels is {labels!r}, but must be a whole number or 'all'.")
    if not len(present) <= labels <= len(known):
        raise UserError(
            f"The number of labels is {labels}, but must lie between {len(present)} (one for each class) and "
            f"{len(known)} (every labelled image of the pool), or be 'all'."
        )
    # RandomState's stream is frozen for ever: the same draw under every version of numpy.
    random = np.random.RandomState(seed)
    class_order = random.permutation(present)
    turns = []
    for rank, label in enumerate(class_order):
        rows = random.permutation(np.flatnonzero(y == label))
        turns += [(turn, rank, row) for turn, row in enumerate(rows)]
    return np.sort(np.array([row for _, _, row in sorted(turns)[:labels]], dtype=np.int64))


def hide(y: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """A copy of ``y`` with -1 everywhere but at ``indices``."""
    visible = np.full(np.shape(y), -1, np.int64)
    visible[indices] = y[indices]
    return visible


def in_folds(split: Split, folds: int, seed: int, same: Sequence[Hashable] | None = None) -> list[Split]:
    """K splits, each without one fold of the labelled rows, for K-fold cross-validation.

    The rows of each class are shuffled and dealt to the folds in turn, class after class, so the folds differ by
    one row at most, within a class and (copies apart) in all. Rows that are the ``same`` image go into one fold:
    no model is tested on a copy of what it learned from.

    Parameters
    ----------
    split : Split
    folds : int
        K.
    seed : int
    same : sequence of hashable, length n, optional
        Equal where the labelled images are.

    Returns
    -------
    list of Split, length K
        ``held_out`` is the fold that is left out.

    Raises
    ------
    UserError
        Where there are fewer different labelled images than folds.
    """
    first: dict[Hashable, int] = {}
    twins = [first.setdefault(one, i) for i, one in enumerate(range(len(split.y)) if same is None else same)]
    originals = np.array(sorted(first.values()))
    if not 2 <= folds <= len(originals):
        raise UserError(
            f"folds is {folds}, but must lie between 2 and {len(originals)}, the number of different labelled images."
        )
    random = np.random.RandomState(seed)
    dealt = [random.permutation(originals[split.y[originals] == label]) for label in np.unique(split.y[originals])]
    fold_of = dict(zip(np.concatenate(dealt).tolist(), itertools.cycle(range(folds)), strict=False))
    fold = np.array([fold_of[twin] for twin in twins])
    return [Split(split.indices[fold != k], split.y[fold != k], split.indices[fold == k]) for k in range(folds)]


def for_seeds(
    y: np.ndarray,
    labels: int | str | None,
    draw_seeds: Sequence[int],
    indices: Any = None,
    held_out: Sequence[np.ndarray] | None = None,
) -> list[Split]:
    """The labelled rows and labels of each of S models; every other label ends here.

    Parameters
    ----------
    y : ndarray of int, shape [N]
        Labels of the pool, -1 for unlabelled rows.
    labels : int, "all" or None
        How many to draw; None takes every label there is, as "all" does, and 0 none at all.
    draw_seeds : sequence of int, length S
    indices : array of int [n], or one such array for each model, optional
        Rows to use instead of a draw.
    held_out : one array of int for each model, optional
        Rows that it never sees, not even without their labels.

    Raises
    ------
    UserError
        Where there is nothing to learn from, or the indices do not fit.
    """
    count = len(draw_seeds)
    if labels == 0 and indices is None:
        drawn = [np.zeros(0, np.int64)] * count
    elif indices is None:
        drawn = [draw(y, "all" if labels is None else labels, seed) for seed in draw_seeds]
    else:
        several = isinstance(indices, list | tuple | np.ndarray) and len(indices) > 0 and np.ndim(indices[0]) == 1
        drawn = [_rows(rows, len(y)) for rows in (indices if several else [indices] * count)]
        if len(drawn) != count:
            raise UserError(f"indices holds {len(drawn)} draws, but there are {count} seeds.")
        if any(len(rows) and not 0 <= rows[0] <= rows[-1] < len(y) for rows in drawn):
            raise UserError(f"indices names rows outside the pool, which has rows 0 to {len(y) - 1}.")
    apart = [_rows(rows, len(y)) for rows in (held_out or [np.zeros(0, np.int64)] * count)]
    found = [Split(rows, hide(y, rows)[rows], away) for rows, away in zip(drawn, apart, strict=True)]
    check_splits(found, y, labels, count)
    return found


def check_splits(splits: Sequence[Split], y: np.ndarray, labels: int | str | None, count: int) -> None:
    """Check that there is a split for each of ``count`` models, and that each fits the labels ``y`` of the pool.

    Raises
    ------
    UserError
        Where one does not.
    """
    if len(splits) != count:
        raise UserError(f"There are {len(splits)} splits, but {count} models to train: give one split for each.")
    for name in ("indices", "held_out"):
        for rows in (getattr(split, name) for split in splits):
            if len(rows) and not 0 <= rows.min() <= rows.max() < len(y):
                raise UserError(f"{name} names rows outside the pool, which has rows 0 to {len(y) - 1}.")
    if any(len(np.intersect1d(split.indices, split.held_out)) for split in splits):
        raise UserError("held_out names rows that indices names too: an image is learned from or held out, not both.")
    if labels == 0 and any(len(split.y) for split in splits):
        raise UserError(
            "indices names labelled images, but labels is 0, a GAN without classes: leave one of them away."
        )
    if labels != 0 and not all(len(split.y) for split in splits):
        raise UserError("There is no labelled image to learn from: label some, or give indices.")
    if any(split.y.min(initial=0) < 0 for split in splits):
        raise UserError("indices names an image that has no label.")
    if any(not np.array_equal(split.y, y[split.indices]) for split in splits):
        raise UserError("A split holds other labels than the data: was it made from other data?")


def uneven(labels: Sequence[np.ndarray], classes: Sequence[str]) -> list[str]:
    """A sentence on the first of these sets of labels that is uneven over the classes; no sentence where none is.

    Nothing but these labels is looked at. Training gives those of its splits, so with a number of ``labels`` the
    drawn ones alone, and hidden ones cannot show; only where all labels are given to training are they the pool's.

    Parameters
    ----------
    labels : sequence of ndarray of int, each of shape [n]
        Class indices.
    classes : sequence of str
    """
    for y in labels:
        if not len(y):
            continue
        counts = np.bincount(y, minlength=len(classes))
        most, least = int(counts.argmax()), int(counts.argmin())
        if counts[most] >= UNEVEN * counts[least]:
            return [
                f"The labelled images are uneven: {counts[most]:,} of {classes[most]}, {counts[least]:,} of "
                f"{classes[least]}. Label more of {classes[least]}, or draw fewer by --labels, which takes the same "
                f"number of each class as long as it can."
            ]
    return []


def _rows(given: Any, pool: int) -> np.ndarray:
    """Row numbers, ascending and each once, from row numbers or a mask over the pool."""
    rows = np.asarray(given)
    if rows.dtype == bool and rows.shape == (pool,):
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size):
        raise UserError(
            f"indices is {rows.dtype} of shape {list(rows.shape)}, but must hold row numbers, or a mask of {pool} rows."
        )
    return np.unique(rows.astype(np.int64))


def save(path: Path, splits: Sequence[Split], draw_seeds: Sequence[int | None]) -> None:
    """Write the splits of a run, one entry per seed, with their hashes."""
    entries = [
        {
            **{"draw_seed": seed, "sha256": split.sha256, "indices": split.indices.tolist(), "y": split.y.tolist()},
            **({"held_out": split.held_out.tolist()} if len(split.held_out) else {}),
        }
        for split, seed in zip(splits, draw_seeds, strict=True)
    ]
    write_json(path, {"format_version": SPLIT_VERSION, "splits": entries})


def load(path: Path) -> list[Split]:
    """Read what :func:`save` wrote.

    Raises
    ------
    UserError
        Where the file is not such a file or does not match its hashes.
    """
    try:
        content = json.loads(path.read_text())
        entries, version = content["splits"], content["format_version"]
        if not isinstance(entries, list) or not entries or version != SPLIT_VERSION:
            raise ValueError("no entries, or of another version")
        splits = [Split(*(np.array(e.get(k, []), np.int64) for k in ("indices", "y", "held_out"))) for e in entries]
        intact = all(s.sha256 == e["sha256"] for s, e in zip(splits, entries, strict=True))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as cause:
        raise UserError(f"{path} is no split file that can be read ({type(cause).__name__}).") from cause
    if len({len(split.y) > 0 for split in splits}) > 1:
        raise UserError(f"{path} holds a split without labelled images beside others with some.")
    if not intact:
        raise UserError(f"{path} does not match its own SHA-256: it was changed after it was written.")
    return splits

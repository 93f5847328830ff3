"""Draw, hash and save the labelled images of a run.

A draw depends only on the labels, their number and the draw seed, and on no global random state. :func:`hide`
erases the other labels before training sees them.
"""

import hashlib
import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssgan.data.arrays import label_array, split_labels
from ssgan.errors import UserError, counted
from ssgan.files import parse_json, read_file, write_json
from ssgan.run_files import find_split_fault

__all__ = [
    "SemiSupervisedKFold",
    "Split",
    "check_splits",
    "draw",
    "fold_splits",
    "hide",
    "imbalance_warnings",
    "load",
    "make_splits",
    "save",
]


SPLIT_VERSION = 1
CLASSES_LISTED = 8  # classes that a warning names
IMBALANCE = 3  # smallest ratio between the labelled images of two classes at which the user is warned


@dataclass(frozen=True, eq=False)
class Split:
    """The labelled images of one seed.

    Attributes
    ----------
    indices : ndarray of int64, shape [n]
        Rows of the training pool, ascending.
    y : ndarray of int64, shape [n]
        Their labels, the only ones that training sees.
    held_out : ndarray of int64, shape [m]
        Rows of the pool that the model never sees, not even without labels; the feature map of a backbone, which has
        no labels, is fitted to the whole pool.
    ids : list of str, length n
        Hashes of the labelled images (:func:`ssgan.data.dataset.image_ids`), or empty if they are unknown.
    """

    indices: np.ndarray
    y: np.ndarray
    held_out: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ids: list[str] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """SHA-256 of the labelled rows and their labels, without the hidden labels."""
        digest = hashlib.sha256()
        for array in (self.indices, self.y):
            digest.update(np.ascontiguousarray(array, dtype="<i8").data)
        return digest.hexdigest()


def draw(y: np.ndarray, labels: int | str, seed: int) -> np.ndarray:
    """Draw a class-balanced set of labelled rows.

    The order of each class is a permutation made from ``seed``, and the draw takes rows from the
    classes in turn, so draws of one seed are nested: the 50 labels contain the 20. If ``labels`` is
    not a multiple of the number of classes, ``seed`` decides which classes give one more. If a class
    runs out, the others take its turns.

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
        If this many labels cannot be drawn.
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
        raise UserError(f"The number of labels is {labels!r}, but must be an integer or 'all'.")
    if not len(present) <= labels <= len(known):
        raise UserError(
            f"The number of labels is {labels}, but must lie between {len(present)} (one for each class) and "
            f"{len(known)} (every labelled image of the pool): set labels to such a number, or to 'all'."
        )
    # The stream of RandomState never changes: the draw is the same under every version of numpy.
    random = np.random.RandomState(seed)
    class_order = random.permutation(present)
    turns = []
    for rank, label in enumerate(class_order):
        rows = random.permutation(np.flatnonzero(y == label))
        turns += [(turn, rank, row) for turn, row in enumerate(rows)]
    return np.sort(np.array([row for _, _, row in sorted(turns)[:labels]], dtype=np.int64))


def hide(y: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return a copy of ``y`` with -1 everywhere except at ``indices``."""
    visible = np.full(np.shape(y), -1, np.int64)
    visible[indices] = y[indices]
    return visible


def fold_splits(split: Split, folds: int, seed: int, groups: Sequence[Hashable] | None = None) -> list[Split]:
    """Make K splits for K-fold cross-validation, each without one fold of the labelled rows.

    The rows of each class are shuffled and dealt to the folds in turn, class after class, so the folds differ by
    at most one row, within a class and (without copies) in total. Rows of one group go into one fold, so that no
    model is tested on a copy of an image that it learned from.

    Parameters
    ----------
    split : Split
    folds : int
        K.
    seed : int
    groups : sequence of hashable, length n, optional
        Group of each labelled row, equal for copies of one image; by default each row is a group.

    Returns
    -------
    list of Split, length K
        ``held_out`` of each is the fold that is left out.

    Raises
    ------
    UserError
        If there are fewer distinct labelled images than folds.
    """
    first_rows: dict[Hashable, int] = {}
    first_of = [first_rows.setdefault(g, i) for i, g in enumerate(range(len(split.y)) if groups is None else groups)]
    originals = np.array(sorted(first_rows.values()))
    if not 2 <= folds <= len(originals):
        raise UserError(
            f"folds is {folds}, but must lie between 2 and {len(originals)}, the number of different labelled images."
        )
    random = np.random.RandomState(seed)
    rows = [random.permutation(originals[split.y[originals] == label]) for label in np.unique(split.y[originals])]
    fold_of = dict(zip(np.concatenate(rows).tolist(), itertools.cycle(range(folds)), strict=False))
    fold = np.array([fold_of[row] for row in first_of])
    return [Split(split.indices[fold != k], split.y[fold != k], split.indices[fold == k]) for k in range(folds)]


class SemiSupervisedKFold:
    """Split the labelled rows into stratified folds; unlabelled rows are in every training set and in no test set.

    Parameters
    ----------
    n_splits : int
    shuffle : bool
        Whether to shuffle the rows of each class before splitting.
    random_state : int, RandomState or None
        Used with ``shuffle``.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([0, 1, -1, 0, 1, -1])
    >>> for train, test in SemiSupervisedKFold(2).split(np.zeros((6, 1)), y):
    ...     print(train, test)
    [2 3 4 5] [0 1]
    [0 1 2 5] [3 4]
    """

    def __init__(self, n_splits: int = 5, *, shuffle: bool = False, random_state: Any = None) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def __repr__(self) -> str:
        return f"SemiSupervisedKFold({self.n_splits}, shuffle={self.shuffle}, random_state={self.random_state!r})"

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the row numbers of the training and of the test set of each fold.

        Raises
        ------
        UserError
            If there are no labels, if every class has fewer labelled rows than folds, or if ``groups`` are given.
        """
        from sklearn.model_selection import StratifiedKFold
        from sklearn.utils import column_or_1d

        if groups is not None:
            raise UserError(
                "SemiSupervisedKFold does not accept groups: split by groups yourself, and pass the folds as cv."
            )
        if y is None:
            raise UserError("SemiSupervisedKFold needs y: one label for each row, -1 if it has none.")
        labels = split_labels(column_or_1d(label_array(y)))
        known = np.flatnonzero(labels.indices >= 0)
        if not len(known):
            raise UserError("Every label is -1 or missing, so there is no row to test on: label some rows.")
        most = int(np.bincount(labels.indices[known]).max())
        if not 2 <= self.n_splits <= most:
            raise UserError(
                f"n_splits is {self.n_splits}, but must lie between 2 and {most}, the labelled rows of the largest "
                f"class."
            )
        folds = StratifiedKFold(self.n_splits, shuffle=self.shuffle, random_state=self.random_state)
        rows = np.arange(len(labels.indices))
        for _, test in folds.split(known, labels.indices[known]):
            yield np.setdiff1d(rows, known[test]), known[test]


def make_splits(
    y: np.ndarray,
    labels: int | str | None,
    draw_seeds: Sequence[int],
    indices: Any = None,
    held_out: Sequence[np.ndarray] | None = None,
) -> list[Split]:
    """Make the split of each of S models; a split holds the labels of its labelled rows and no others.

    Parameters
    ----------
    y : ndarray of int, shape [N]
        Labels of the pool, -1 for unlabelled rows.
    labels : int, "all" or None
        Number to draw; None and "all" take every label, 0 takes none.
    draw_seeds : sequence of int, length S
    indices : array of int [n], or one such array for each model, optional
        Rows to use instead of a draw.
    held_out : one array of int for each model, optional
        Rows that the model never sees, as in :class:`Split`.

    Raises
    ------
    UserError
        If there is nothing to learn from, or the indices do not fit.
    """
    count = len(draw_seeds)
    if labels == 0 and indices is None:
        labeled = [np.zeros(0, np.int64)] * count
    elif indices is None:
        labeled = [draw(y, "all" if labels is None else labels, seed) for seed in draw_seeds]
    else:
        one_for_each = isinstance(indices, list | tuple | np.ndarray) and len(indices) > 0 and np.ndim(indices[0]) == 1
        labeled = [_rows(rows, len(y)) for rows in (indices if one_for_each else [indices] * count)]
        if len(labeled) != count:
            draws, seeds = counted(len(labeled), "draw"), counted(count, "seed")
            raise UserError(f"indices holds {draws}, but should hold one for each of {seeds}.")
        if any(len(rows) and not 0 <= rows[0] <= rows[-1] < len(y) for rows in labeled):
            raise UserError(f"indices names rows outside the pool, which has rows 0 to {len(y) - 1}.")
    unseen = [_rows(rows, len(y)) for rows in (held_out or [np.zeros(0, np.int64)] * count)]
    splits = [Split(rows, hide(y, rows)[rows], others) for rows, others in zip(labeled, unseen, strict=True)]
    check_splits(splits, y, labels, count)
    if labels != 0 and len(np.unique(y[y >= 0])) == 1:
        raise UserError("Every label is of one class, but a classifier needs labels of at least 2 classes.")
    return splits


def check_splits(splits: Sequence[Split], y: np.ndarray, labels: int | str | None, count: int) -> None:
    """Check that there is a split for each of ``count`` models, and that each fits the labels ``y`` of the pool.

    Raises
    ------
    UserError
        If one does not.
    """
    if len(splits) != count:
        raise UserError(
            f"{counted(len(splits), 'split')} cannot be those of {counted(count, 'model')}: give one split for each."
        )
    for name in ("indices", "held_out"):
        for rows in (getattr(split, name) for split in splits):
            if len(rows) and not 0 <= rows.min() <= rows.max() < len(y):
                raise UserError(f"{name} names rows outside the pool, which has rows 0 to {len(y) - 1}.")
    if any(len(np.intersect1d(split.indices, split.held_out)) for split in splits):
        raise UserError("held_out names rows that indices names too: an image is learned from or held out, not both.")
    if labels == 0 and any(len(split.y) for split in splits):
        raise UserError("indices names labelled images, but labels is 0, a GAN without classes: omit one of them.")
    if labels != 0 and not all(len(split.y) for split in splits):
        raise UserError("There is no labelled image to learn from: label some, or give indices.")
    if any(split.y.min(initial=0) < 0 for split in splits):
        raise UserError("indices names an image that has no label.")
    if any(not np.array_equal(split.y, y[split.indices]) for split in splits):
        raise UserError("A split holds other labels than the data: was it created from other data?")


def imbalance_warnings(labels: Sequence[np.ndarray], classes: Sequence[str]) -> list[str]:
    """Return a warning about the first of these sets of labels that is imbalanced over the classes; [] if none is.

    Only these labels are read. Training passes those of its splits, so that hidden labels cannot leak.

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
        if absent := [name for name, count in zip(classes, counts, strict=True) if not count]:
            listed = ", ".join(absent[:CLASSES_LISTED]) + (", ..." if len(absent) > CLASSES_LISTED else "")
            gaps = ", or number the classes without gaps" if all(name.isdecimal() for name in classes) else ""
            return [f"No labelled image is of {listed}: label some{gaps}. The model cannot learn what has no label."]
        if counts[most] >= IMBALANCE * counts[least]:
            return [
                f"The labelled images are uneven: {counts[most]:,} of {classes[most]}, {counts[least]:,} of "
                f"{classes[least]}. Label more of {classes[least]}, or draw fewer with --labels, which draws the same "
                f"number of each class as long as it can."
            ]
    return []


def _rows(indices: Any, pool: int) -> np.ndarray:
    """Return row numbers, ascending and without repetition, from row numbers or a mask over the pool."""
    rows = np.asarray(indices)
    if rows.dtype == bool and rows.shape == (pool,):
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size):
        raise UserError(
            f"indices is {rows.dtype} of shape {list(rows.shape)}, but must hold row numbers, or a mask of {pool} rows."
        )
    return np.unique(rows.astype(np.int64))


def save(path: Path, splits: Sequence[Split], draw_seeds: Sequence[int | None]) -> None:
    """Write the splits of a run as JSON, one entry per seed, with their hashes."""
    entries = [
        {
            **{"draw_seed": seed, "sha256": split.sha256, "indices": split.indices.tolist(), "y": split.y.tolist()},
            **({"held_out": split.held_out.tolist()} if len(split.held_out) else {}),
            **({"ids": split.ids} if split.ids else {}),
        }
        for split, seed in zip(splits, draw_seeds, strict=True)
    ]
    write_json(path, {"format_version": SPLIT_VERSION, "splits": entries})


def load(path: Path) -> list[Split]:
    """Read the splits that :func:`save` wrote.

    Raises
    ------
    UserError
        If the file is not such a file or does not match its hashes.
    """
    try:
        content = parse_json(read_file(path))
    except OSError as cause:
        raise UserError(f"{path} cannot be read ({cause.strerror or cause}).") from None
    except (ValueError, RecursionError) as cause:
        raise UserError(f"{path} is not a split file that can be read ({type(cause).__name__}).") from cause
    if (fault := find_split_fault(content)) is not None:
        raise UserError(f"{path} is not a split file that can be read: it {fault}.")
    if (version := content["format_version"]) != SPLIT_VERSION:
        raise UserError(
            f"{path} is not a split file that can be read: it is of version {version}, not {SPLIT_VERSION}."
        )
    entries = content["splits"]
    keys = ("indices", "y", "held_out")
    arrays = [{key: np.array(entry.get(key, []), np.int64) for key in keys} for entry in entries]
    splits = [Split(**each, ids=entry.get("ids", [])) for each, entry in zip(arrays, entries, strict=True)]
    if len({len(split.y) > 0 for split in splits}) > 1:
        raise UserError(f"{path} holds a split without labelled images next to others with some.")
    if any(split.sha256 != entry["sha256"] for split, entry in zip(splits, entries, strict=True)):
        raise UserError(f"{path} does not match its own SHA-256: it was changed after it was written.")
    return splits

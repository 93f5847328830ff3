"""Read a user's own pictures from a folder or a zip, with labels from folder names or a CSV table.

There are three layouts. A class folder may hold folders of its own::

    train/<class>/...   [unlabeled/...]   [test/<class>/...]
    <class>/...         [unlabeled/...]   [test/<class>/...]
    ...                 and a table of file,label

Without test/, a fraction of the labelled pictures of each class is held out. A GAN without classes also takes pictures
that lie loose or in one folder: all of them are its pool, except those in test/.
"""

import itertools
import os
import posixpath
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ssgan.data import file_tree, image_io
from ssgan.data.dataset import UNLABELED, Data, image_ids
from ssgan.data.file_tree import FileTree
from ssgan.data.image_array import ImageArray, ReadProgress, read_images, reorder_in_place
from ssgan.data.layouts import (
    SUBSETS,
    Labeling,
    class_folders,
    label_by_folders,
    label_by_table,
    label_without_classes,
    note_answers,
    note_level,
)
from ssgan.errors import UserError
from ssgan.files import name_to_unicode
from ssgan.settings.options import Options

__all__ = ["draw_test_rows", "find_learned", "has_pictures", "read_folder"]


FILES_LOOKED_AT = 10_000


def read_folder(path: Path, options: Options, progress: ReadProgress | None = None) -> Data:
    """Load pictures from a folder or a ``.zip``.

    Rows are sorted by file name, classes by class name.

    Parameters
    ----------
    path : Path
    options : Options
    progress : callable, optional
        Called with the stage, the number of pictures done and the total.

    Raises
    ------
    UserError
        For a layout that is none of the three, a table that does not fit, pictures of different shapes, and
        options without effect.
    """
    with file_tree.open_tree(path, image_io.SUFFIXES, SUBSETS) as tree:
        if not tree.pictures:
            others = f", but {sum(tree.ignored.values()):,} other files" if tree.ignored else ""
            words = f"has no pictures: it holds no {image_io.FORMAT_NAMES}, judged by the suffix"
            raise UserError(f"{path} {words}{others}.")
        if options.labels_csv is not None:
            labeling = label_by_table(tree, Path(options.labels_csv), options)
        elif not options.classes and len(class_folders(tree)) < 2:
            labeling = label_without_classes(tree)
            options.refuse(["test_share", "test_seed"], f"{path} has no classes to hold pictures out of")
        else:
            labeling = label_by_folders(tree)
        if options.labels_csv is None:
            options.refuse(["label_words"], f"it is for the labels of a table, and {path} has none")
        if labeling.test is not None:
            options.refuse(["test_share", "test_seed"], f"{path} has a test set of its own, in test/")
        images = read_images(tree, options.image_size, options.image_mode, options.image_depth, progress)
    return _make_data(path, tree, labeling, images, options)


def has_pictures(folder: Path) -> bool:
    """Return whether one of the first files in a folder, or below it, is a picture by its suffix."""
    files = (name for _, _, names in os.walk(folder) for name in names)
    return any(Path(name).suffix.lower() in image_io.SUFFIXES for name in itertools.islice(files, FILES_LOOKED_AT))


def draw_test_rows(y: np.ndarray, share: float, seed: int, kept: np.ndarray | None = None) -> np.ndarray:
    """Draw the rows that are held out for testing.

    Of n labelled rows of a class, ``share * n`` are drawn, rounded half up, and at most n - 1; unlabelled rows
    are not drawn. The draw depends only on ``y``, ``share``, ``seed`` and ``kept``, separately for each class.

    Parameters
    ----------
    y : ndarray of int, shape [N]
        -1 for unlabelled.
    share : float
    seed : int
    kept : ndarray of bool, shape [N], optional
        Rows that are not drawn; if too few others are left, fewer are held out.

    Returns
    -------
    ndarray of int64, ascending
    """
    rows = []
    for label in range(y.max(initial=UNLABELED) + 1):
        # The stream of RandomState never changes, so the test set is the same under every version of numpy.
        of_class = np.random.RandomState([seed, label]).permutation(np.flatnonzero(y == label))
        count = max(0, min(len(of_class) - 1, int(share * len(of_class) + 0.5)))
        rows.append((of_class if kept is None else of_class[~kept[of_class]])[:count])
    return np.sort(np.concatenate([np.zeros(0, np.int64), *rows]))


def find_learned(x: np.ndarray, learned: Collection[str]) -> np.ndarray | None:
    """Return a mask of the images whose labels were learned from before; None if ``learned`` is empty."""
    return np.array([image in learned for image in image_ids(x)], bool) if learned else None


def _make_data(path: Path, tree: FileTree, labeling: Labeling, images: ImageArray, options: Options) -> Data:
    """Create the data from images and labels, with the pool before the test set, in the memory of ``images``."""
    y = np.array([labeling.labels[name] for name in images.names], np.int64)
    learned_notes = []
    if labeling.test is None:
        in_test = np.zeros(len(y), bool)
        kept = find_learned(images.x[: len(y)], options.learned)
        in_test[draw_test_rows(y, options.test_share, options.test_seed, kept)] = True
        if kept is not None and options.test_share and kept.any():
            learned_notes.append(f"Not held out, because the starting weights were trained on them: {kept.sum():,}")
    else:
        in_test = np.array([name in labeling.test for name in images.names], bool)
    present = set(y[~in_test].tolist())
    for label, name in enumerate(labeling.classes):
        if label not in present and options.classes:
            unreadable = [
                f"{file} {reason}"
                for file, reason in images.skipped
                if labeling.labels[file] == label and file not in (labeling.test or ())
            ]
            if not unreadable:
                raise UserError(
                    f"The class {name!r} of {path} has labels only in test/: label a picture of it outside test/, or "
                    f"remove its labels there."
                )
            raise UserError(
                f"The class {name!r} of {path} has no picture left to learn from, because {len(unreadable):,} cannot "
                f"be read (the first: {unreadable[0]}): fix them, or remove the class."
            )
    in_pool = ~in_test & np.array([name not in labeling.left_out for name in images.names], bool)
    order = np.concatenate([np.flatnonzero(in_pool), np.flatnonzero(in_test)])
    pool = int(in_pool.sum())
    x = reorder_in_place(images.x, order.tolist())
    files = [images.names[row] for row in order]
    answers = note_answers(path) if options.labels_csv is None else []
    skipped = sorted((*images.skipped, *tree.unreadable))
    labelled = sum(labeling.labels[file] >= 0 for file, _ in images.skipped)
    if tree.unreadable and options.labels_csv is None:  # they are no pictures of the tree, but their folders label them
        folders = {posixpath.dirname(file) for file, label in labeling.labels.items() if label >= 0}
        labelled += sum(posixpath.dirname(file) in folders for file, _ in tree.unreadable)
    file_counts = {
        "sizes": images.sizes,
        "modes": images.modes,
        "ignored": _count_ignored(tree, options.labels_csv),
        "skipped": {"labelled": labelled, "unlabelled": len(skipped) - labelled},
        "tested": {"held out" if labeling.test is None else "in test/": int(in_test.sum())},
    }
    return Data(
        x[:pool],
        y[order[:pool]],
        x[pool:],
        y[order[pool:]],
        labeling.classes,
        name=_data_name(path),
        files_train=tuple(files[:pool]),
        files_test=tuple(files[pool:]),
        skipped=tuple(skipped),
        file_counts=file_counts,
        image_depth=images.depth,
        notes=(*answers, *note_level(path), *labeling.notes, *_note_heic(images), *images.notes, *learned_notes),
    )


def _note_heic(images: ImageArray) -> list[str]:
    """Say how many pictures are left out because no installed package reads them."""
    count = sum(reason == image_io.NEEDS_HEIF for _, reason in images.skipped)
    return [f"HEIC pictures left out: {count:,}; `pip install 'ssgan[heic]'` makes them readable."] if count else []


def _count_ignored(tree: FileTree, labels_csv: Path | None) -> dict[str, int]:
    """Count the ignored files by suffix, without the table of labels, which may lie among the pictures."""
    counts = Counter(tree.ignored)
    if labels_csv is not None and Path(labels_csv).resolve().is_relative_to(tree.path.resolve()):
        counts[Path(labels_csv).suffix.lower()] -= 1
    return dict(+counts)


def _data_name(path: Path) -> str:
    """Return the name of the data: the name of the folder, or of the zip without its suffix."""
    path = path.resolve()
    return name_to_unicode(path.name if path.is_dir() else path.stem) or "pictures"

"""Read a user's own pictures from a folder or a zip, with labels from folder names or a CSV table.

There are three layouts. A class folder may hold folders of its own::

    train/<class>/...   [unlabeled/...]   [test/<class>/...]
    <class>/...         [unlabeled/...]   [test/<class>/...]
    ...                 and a table of file,label

Without test/, a share of the labelled pictures of each class is held out. A GAN without classes also takes pictures
in any other layout: all of them are its pool, except those in test/.
"""

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssgan.data import file_tree, image_io
from ssgan.data.dataset import UNLABELED, Data
from ssgan.data.file_tree import FileTree
from ssgan.data.image_array import ImageArray, ReadProgress, read_images, reorder_in_place
from ssgan.errors import UserError, did_you_mean
from ssgan.files import name_to_unicode, read_file
from ssgan.settings.options import Options

__all__ = ["LabelRow", "draw_test_rows", "read_folder", "read_label_table"]


COLUMNS = ("file", "label")


class LabelRow(NamedTuple):
    """One line of the table of labels."""

    line: int
    file: str
    label: str


def read_label_table(path: Path) -> list[LabelRow]:
    """Read a table of labels: UTF-8, a header of ``file,label`` in either order, commas.

    File names are NFC-normalised, as in :mod:`ssgan.data.file_tree`, without a leading ``./``.

    Raises
    ------
    UserError
        If it cannot be read or has other columns, or if a line is incomplete or repeats a file.
    """
    try:
        text = read_file(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}: --labels-csv names a table of file,label.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no UTF-8 text: save it as CSV in UTF-8.") from None
    except OSError as cause:
        raise UserError(f"{path} cannot be read ({cause.strerror}).") from None
    reader = csv.reader(io.StringIO(text, newline=""))
    rows: dict[str, LabelRow] = {}
    columns: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = _columns(path, reader.line_num, cells)
                continue
            row = _row(path, reader.line_num, columns, cells)
            if row.file in rows:
                raise UserError(
                    f"{path}, line {row.line}: {row.file} stands in line {rows[row.file].line} already: keep one."
                )
            rows[row.file] = row
    except csv.Error as cause:
        raise UserError(f"{path}, line {reader.line_num}: this is no CSV ({cause}).") from None
    if not rows:
        raise UserError(f"{path} labels no file: below a header of file,label it needs a line for each label.")
    return list(rows.values())


def _columns(path: Path, line: int, cells: list[str]) -> list[str]:
    """Check the header and return its columns in order."""
    columns = [cell.strip() for cell in cells]
    for column in columns:
        if column not in COLUMNS:
            near = did_you_mean(column, COLUMNS)
            raise UserError(
                f"{path}, line {line}: unknown column {column!r}; the header must be file,label, in either order.{near}"
            )
    if sorted(columns) != sorted(COLUMNS):
        raise UserError(
            f"{path}, line {line}: the header is {','.join(columns)}, but must be file,label, in either order."
        )
    return columns


def _row(path: Path, line: int, columns: list[str], cells: list[str]) -> LabelRow:
    """Check one line of the table and return it."""
    if len(cells) != len(columns):
        raise UserError(
            f"{path}, line {line}: there are {len(cells)} fields, but must be two, {','.join(columns)}: put quotes "
            f"round a field with a comma."
        )
    values = dict(zip(columns, (unicodedata.normalize("NFC", cell) for cell in cells), strict=True))
    file, label = values["file"].removeprefix("./"), values["label"].strip()
    if not file.strip():
        raise UserError(f"{path}, line {line}: the file is empty: name one, or take the line away.")
    if not label:
        raise UserError(f"{path}, line {line}: the label of {file} is empty: an unlabelled file is not listed at all.")
    return LabelRow(line, file, label)


# The American spelling is documented; the British one must not become a class without a word.
WITHOUT_LABELS = ("unlabeled", "unlabelled")
KNOWN = ("train", "test", *WITHOUT_LABELS)


@dataclass(frozen=True)
class _Labeling:
    """The label and share of each file, known before any is opened.

    Attributes
    ----------
    labels : mapping of str to int
        Class index of every picture, -1 for unlabelled.
    test : frozenset of str or None
        Pictures of the test share; None if the source has no test share.
    """

    classes: tuple[str, ...]
    labels: Mapping[str, int]
    test: frozenset[str] | None


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
        options that would have no effect.
    """
    with file_tree.open_tree(path, image_io.SUFFIXES, KNOWN) as tree:
        if not tree.pictures:
            others = f", but {sum(tree.ignored.values()):,} other files" if tree.ignored else ""
            words = "is without pictures: it holds no JPEG, PNG, WebP, BMP, GIF or TIFF, told by the suffix"
            raise UserError(f"{path} {words}{others}.")
        if options.labels_csv is not None:
            labeling = _label_by_table(tree, Path(options.labels_csv))
        elif not options.classes and len(_class_folders(tree)) < 2:
            labeling = _label_without_classes(tree)
            options.refuse(["test_share", "test_seed"], f"{path} has no classes to hold pictures out of")
        else:
            labeling = _label_by_folders(tree)
        if labeling.test is not None:
            options.refuse(["test_share", "test_seed"], f"{path} has a test share of its own, in test/")
        images = read_images(tree, options.image_size, options.image_mode, progress)
    return _make_data(path, tree, labeling, images, options)


def draw_test_rows(y: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draw the rows that are held out for testing.

    Of n labelled rows of a class, ``share * n`` are drawn, rounded half up, and at most n - 1; unlabelled rows
    are not drawn. The draw depends on ``y``, ``share`` and ``seed`` alone, separately for each class.

    Parameters
    ----------
    y : ndarray of int, shape [N]
        -1 for unlabelled.
    share : float
    seed : int

    Returns
    -------
    ndarray of int64, ascending
    """
    rows = []
    for label in range(y.max(initial=UNLABELED) + 1):
        # The stream of RandomState never changes, so the test share is the same under every numpy.
        of_class = np.random.RandomState([seed, label]).permutation(np.flatnonzero(y == label))
        rows.append(of_class[: max(0, min(len(of_class) - 1, int(share * len(of_class) + 0.5)))])
    return np.sort(np.concatenate([np.zeros(0, np.int64), *rows]))


def _class_folders(tree: FileTree) -> list[str]:
    """List the class folders."""
    tops = {_top(name) for name in tree.pictures if "/" in name}
    return _folders_in(tree, "train/") if "train" in tops else sorted(tops - set(KNOWN))


def _label_without_classes(tree: FileTree) -> _Labeling:
    """Leave every picture unlabelled; those in test/ are the test share and have one class."""
    test = frozenset(name for name in tree.pictures if _top(name) == "test" and "/" in name)
    labels = {name: 0 if name in test else UNLABELED for name in tree.pictures}
    return _Labeling(("picture",), labels, test or None)


def _label_by_folders(tree: FileTree) -> _Labeling:
    """Take the labels from the names of folders."""
    tops = {_top(name) for name in (*tree.folders, *(name for name in tree.pictures if "/" in name))}
    for top in sorted(tops - set(KNOWN)):
        if top.lower() in KNOWN:
            raise UserError(f"{tree.path} holds a folder {top}: call it {top.lower()} if that is what it is.")
    with_train = "train" in tops
    above = "train/" if with_train else ""
    classes = _folders_in(tree, "train/") if with_train else sorted(tops - set(KNOWN))
    for name in classes:
        if name.lower() in WITHOUT_LABELS:
            raise UserError(f"{tree.path / above / name} would be a class: put it beside train/, not into it.")
    unknown = sorted({_top(name) for name in tree.pictures if "/" in name} - set(KNOWN)) if with_train else []
    if unknown:
        raise UserError(
            f"{tree.path} holds {unknown[0]}/ beside train/, which means nothing here: beside train/ there may be "
            f"test/ and unlabeled/.{did_you_mean(unknown[0], KNOWN)}"
        )
    if not classes:
        raise UserError(
            f"{tree.path} holds pictures but no class folders: sort the labelled ones into a folder for each class, or "
            f"say with --labels-csv FILE which label which file has; --labels 0 trains a GAN without classes on them."
        )
    loose = [name for name in tree.pictures if name.count("/") < (2 if _top(name) in ("train", "test") else 1)]
    if loose:
        raise UserError(
            f"{tree.path} holds {len(loose):,} pictures outside its class folders (the first: {loose[0]}): move them "
            f"into a class folder or into unlabeled/."
        )
    if len(classes) == 1:
        inner = _folders_in(tree, f"{above}{classes[0]}/")
        deeper = f": is {tree.path / above / classes[0]} the folder to give?" if len(inner) > 1 else "."
        raise UserError(
            f"{tree.path} holds one class folder, {above}{classes[0]}, but at least two classes are needed{deeper}"
        )
    test_classes = _folders_in(tree, "test/")
    for unknown_class in sorted(set(test_classes) - set(classes)):
        raise UserError(
            f"{tree.path} holds the class {unknown_class!r} in test/ but not in {above or 'the training pool'}: put "
            f"pictures to learn it from there, or take it out of test/.{did_you_mean(unknown_class, classes)}"
        )
    number = {name: label for label, name in enumerate(classes)}
    labels, test = {}, set()
    for name in tree.pictures:
        parts = name.split("/")
        if parts[0] in WITHOUT_LABELS:
            labels[name] = UNLABELED
        elif parts[0] in ("train", "test"):
            labels[name] = number[parts[1]]
            if parts[0] == "test":
                test.add(name)
        else:
            labels[name] = number[parts[0]]
    _check_classes(tree, classes, [labels[name] for name in tree.pictures if name not in test], above)
    return _Labeling(tuple(classes), labels, frozenset(test) or None)


def _label_by_table(tree: FileTree, path: Path) -> _Labeling:
    """Take the labels from a table; a file that it does not list is unlabelled."""
    flat = any("/" not in name for name in tree.pictures)
    class_folders = {_top(name) for name in tree.pictures if "/" in name} - set(KNOWN)
    if any(name.startswith("train/") and name.count("/") > 1 for name in tree.pictures) or (
        len(class_folders) > 1 and not flat
    ):
        raise UserError(
            f"labels_csv={path} would do nothing: {tree.path} holds class folders, whose names are the labels; leave "
            f"it away, or put the pictures into one folder."
        )
    rows = read_label_table(path)
    known = set(tree.pictures)
    for row in rows:
        if row.file not in known:
            near = did_you_mean(row.file, tree.pictures)
            raise UserError(f"{path}, line {row.line}: {tree.path} holds no picture {row.file}.{near}")
    classes = sorted({row.label for row in rows})
    if len(classes) == 1:
        raise UserError(f"{path} knows one label, {classes[0]!r}, but at least two classes are needed.")
    number = {name: label for label, name in enumerate(classes)}
    return _Labeling(
        tuple(classes),
        {**dict.fromkeys(tree.pictures, UNLABELED), **{row.file: number[row.label] for row in rows}},
        None,
    )


def _make_data(path: Path, tree: FileTree, labeling: _Labeling, images: ImageArray, options: Options) -> Data:
    """Make the data of images and labels, with the pool before the test share, in the memory of ``images``."""
    y = np.array([labeling.labels[name] for name in images.names], np.int64)
    if labeling.test is None:
        in_test = np.zeros(len(y), bool)
        in_test[draw_test_rows(y, options.test_share, options.test_seed)] = True
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
            raise UserError(
                f"The class {name!r} of {path} has no picture left to learn from, for {len(unreadable):,} cannot be "
                f"read (the first: {unreadable[0]}): mend them, or leave the class away."
            )
    order = np.concatenate([np.flatnonzero(~in_test), np.flatnonzero(in_test)])
    pool = len(y) - int(in_test.sum())
    x = reorder_in_place(images.x, order.tolist())
    files = [images.names[row] for row in order]
    labelled = sum(labeling.labels[file] >= 0 for file, _ in images.skipped)
    file_counts = {
        "sizes": images.sizes,
        "modes": images.modes,
        "ignored": _count_ignored(tree, options.labels_csv),
        "skipped": {"labelled": labelled, "unlabelled": len(images.skipped) - labelled},
        "tested": {"held out" if labeling.test is None else "in test/": len(y) - pool},
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
        skipped=tuple(sorted((*images.skipped, *tree.unreadable))),
        file_counts=file_counts,
    )


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


def _check_classes(tree: FileTree, classes: Sequence[str], labels: Sequence[int], above: str) -> None:
    """Check that every class has a picture to learn from."""
    present = set(labels)
    for label, name in enumerate(classes):
        if label not in present:
            raise UserError(
                f"The class folder {tree.path / above / name} holds no picture: put some in, or take it away."
            )


def _folders_in(tree: FileTree, above: str) -> list[str]:
    """List the names of the folders directly in ``above``, ascending."""
    return sorted({name[len(above) :].split("/")[0] for name in tree.folders if name.startswith(above)})


def _top(name: str) -> str:
    """Return the first part of a file name."""
    return name.split("/")[0]

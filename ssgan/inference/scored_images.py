"""Choose the images that an evaluation scores, with a label that the run has not trained on; read those of a caller."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssgan import runs
from ssgan.data.arrays import images_to_uint8, to_array
from ssgan.data.dataset import Data, image_ids
from ssgan.data.datasets import DATASETS, load
from ssgan.data.image_array import ReadProgress
from ssgan.data.image_folder import draw_test_rows, find_learned
from ssgan.data.splits import load as load_splits
from ssgan.errors import UserError, counted
from ssgan.inference.inputs import InputSource, find_inputs, read_inputs
from ssgan.inference.models import Models
from ssgan.settings.config import Config

__all__ = [
    "LABELED",
    "TEST",
    "Scored",
    "check_finite",
    "leave_out_learned",
    "leave_out_trained",
    "list_images",
    "read_images",
]

TEST, LABELED = "test images", "labelled pictures"
UNKNOWN = "so pictures that it trained on may be among those scored"


class Scored(NamedTuple):
    """The data of an evaluation, whose test set is scored, and what the user should know about them.

    Attributes
    ----------
    data : Data
    kind : str
        :data:`TEST`, or :data:`LABELED` if every labelled picture is scored.
    left_out : int
        Number of images that were left out because the run trained on them.
    notes : list of str
        Sentences for the user.
    """

    data: Data
    kind: str = TEST
    left_out: int = 0
    notes: list[str] = []  # noqa: RUF012 - never changed


def leave_out_learned(data: Data, run: Path, report: dict[str, Any]) -> Scored:
    """Leave the images whose labels the run learned out of its own test set, if the data have changed.

    Another test set is held out when labels are added, and may hold images that were labelled before.

    Parameters
    ----------
    data : Data
        As the source of the run gives them now.
    run, report
        The run folder, and what it holds.

    Raises
    ------
    UserError
        If no image is left.
    """
    if data.sha256 == report["dataset_sha256"]:
        return Scored(data)
    changed = f"{data.name} has changed since {run} was trained"
    learned = _labeled_images(run)
    fresh = _not_among(learned, data.x_test)
    if len(fresh) and not fresh.any():
        raise UserError(f"{changed}: it learned from every image that is held out now. Train again.")
    left_out = int((~fresh).sum())
    if not left_out:
        return Scored(data, TEST, 0, [f"{changed}, {UNKNOWN}."])
    note = f"{changed}. Left out of its test set, because the run learned their labels: {left_out:,}; it may have seen "
    return Scored(_select_tests(data, fresh), TEST, left_out, [note + "others without a label."])


def _labeled_images(run: Path) -> set[str]:
    """Return the images whose labels a run or its initial weights learned, as far as its folder holds them."""
    path = run / "split.json"
    splits = load_splits(path) if path.exists() else []
    return {*runs.learned_images(run), *(image for split in splits for image in split.ids)}


def _not_among(ids: set[str], x: np.ndarray) -> np.ndarray:
    """Return a mask of the images x [N, ...] whose hash is none of these."""
    return np.array([image not in ids for image in image_ids(x)], bool)


def leave_out_trained(
    data: Data,
    run: Path,
    config: Config,
    report: dict[str, Any],
    root: Path | None,
    progress: ReadProgress | None,
    pool: np.ndarray | None = None,
) -> Scored:
    """Leave the images of the run's pool, labelled or not, out of the test set, by hashes of their pixels.

    Images whose labels its initial weights were trained on are left out too.

    Parameters
    ----------
    data : Data
        As they were read, without any held out.
    run, config, report
        The run folder, and what it holds.
    root : Path, optional
        Folder of downloaded sets.
    progress : callable, optional
        As in :func:`ssgan.data.load`.
    pool : ndarray [N, ...], optional
        The pool of the run; by default it is read from its source.

    Raises
    ------
    UserError
        If no image is left.
    """
    kind = TEST if _has_test_folder(data) else LABELED
    tested = data if kind == TEST else _test_on(data, data.y_train >= 0)
    notes: list[str] = []
    if pool is None:
        pool, notes = _pool_images(data, run, config, report, root, progress)
    trained = {*([] if pool is None else image_ids(pool)), *_labeled_images(run)}
    fresh = _not_among(trained, tested.x_test)
    if len(fresh) and not fresh.any():
        error = (report.get("folds") or {}).get("error")
        known = "" if error is None else f" (its folds measured {error:.2f} %)"
        folds = ", or train with --folds" if error is None else ""
        raise UserError(
            f"{data.name} has no test images to score{known}: {run} trained on every labelled picture of it; give "
            f"--data pictures that it has not seen{folds}."
        )
    left_out = int((~fresh).sum())
    if left_out:
        notes.insert(0, f"Left out, because the run trained on them, with their label or without: {left_out:,}")
        tested = _select_tests(tested, fresh)
    return Scored(tested, kind, left_out, notes)


def _has_test_folder(data: Data) -> bool:
    """Return whether data are arrays, or files with a test set of their own: there is nothing to hold out."""
    return "held out" not in data.file_counts.get("tested", {})


def _pool_images(
    data: Data, run: Path, config: Config, report: dict[str, Any], root: Path | None, progress: ReadProgress | None
) -> tuple[np.ndarray | None, list[str]]:
    """Return the pool of the run, None if it cannot be read, and sentences about it.

    The data may be those of the run, moved elsewhere.
    """
    same = data if _has_test_folder(data) else _hold_out(data, config, runs.learned_images(run))
    if same.sha256 == report.get("dataset_sha256"):
        return same.x_train, []
    if report.get("source") is None and report["dataset"] not in DATASETS:
        return None, [f"{run} does not record where its data are, {UNKNOWN}."]
    try:
        trained = load(*runs.data_source(run, report, config, root), progress)
    except UserError as mistake:
        return None, [f"The data of {run} cannot be read, {UNKNOWN}: {mistake}"]
    if trained.sha256 != report["dataset_sha256"]:
        return trained.x_train, [
            f"{trained.name} has changed since {run} was trained: the pictures that it trains on now are left out."
        ]
    return trained.x_train, []


def _hold_out(data: Data, config: Config, learned: frozenset[str]) -> Data:
    """Hold out the test set that the settings of the run would hold out."""
    mask = np.zeros(len(data.y_train), bool)
    kept = find_learned(data.x_train, learned)
    mask[draw_test_rows(data.y_train, config.test_share, config.test_seed, kept)] = True
    return _test_on(data, mask)


def _test_on(data: Data, mask_N: np.ndarray) -> Data:
    """Move rows of the pool into the test set, which is empty."""
    rows, others = np.flatnonzero(mask_N), np.flatnonzero(~mask_N)
    others = others if len(others) else rows[:1]  # data must have a pool, although nothing is trained here
    return dataclasses.replace(
        data,
        x_train=data.x_train[others],
        y_train=data.y_train[others],
        x_test=data.x_train[rows],
        y_test=data.y_train[rows],
        files_train=tuple(data.files_train[row] for row in others),
        files_test=tuple(data.files_train[row] for row in rows),
    )


def _select_tests(data: Data, mask_N: np.ndarray) -> Data:
    """Keep some images of the test set."""
    rows = np.flatnonzero(mask_N)
    files = tuple(data.files_test[row] for row in rows) if data.files_test else ()
    return dataclasses.replace(data, x_test=data.x_test[rows], y_test=data.y_test[rows], files_test=files)


def list_images(paths: Sequence[str | os.PathLike[str]]) -> list[InputSource]:
    """List the pictures of files, folders and archives; raise a UserError if paths are given but name no image."""
    sources = find_inputs([os.fspath(path) for path in paths])
    if paths and not sources:
        raise UserError("There are no images: give at least one.")
    return sources


def check_finite(logits_SNK: np.ndarray) -> np.ndarray:
    """Return logits [S, N, K] unchanged, or raise a UserError that counts the images with non-finite ones."""
    if not (finite := np.isfinite(logits_SNK).all(axis=(0, 2))).all():
        raise UserError(
            f"{counted(int((~finite).sum()), 'image')} (the first: {int(finite.argmin())}) make the outputs of the "
            f"models non-finite: their values are not finite, or far too large."
        )
    return logits_SNK


def read_images(images: Any, models: Models) -> np.ndarray:
    """Return arrays, or the pictures of files, as the models take them, [N, ...].

    Parameters
    ----------
    images : ndarray, path or sequence of paths
        Pictures, or features of a run with a backbone.
    models : Models

    Raises
    ------
    UserError
        If a file cannot be read, or an array holds values outside 0 to the models' full intensity.
    """
    if isinstance(images, str | os.PathLike):
        images = [images]
    if isinstance(images, list | tuple) and images and all(isinstance(path, str | os.PathLike) for path in images):
        shape, scale = models.input_shape, models.input_scale
        rows = []
        for image in read_inputs(list_images(images), shape, scale, models.bounded, models.input_depth):
            if image.pixels is None:
                raise UserError(image.reason)
            rows.append(image.pixels)
        return np.stack(rows)
    x = to_array(images, "images")
    if not x.ndim:
        raise UserError(f"images is one {x.dtype}, but must be an array with a row for each image.")
    if not len(x):
        raise UserError("There are no images: give at least one.")
    if x.dtype.kind == "f" and len(models.input_shape) > 1 and x.shape[1:] == models.input_shape:
        return images_to_uint8(x, 1.0, "images", models.input_scale)
    if models.feature_map is not None and x.shape[1:] == models.image_shape:
        return x.astype(np.float32)  # features, which may have any value
    known = x[np.isfinite(x)] if x.dtype.kind == "f" else x
    is_number = known.dtype.kind in "iuf" and known.size
    if models.bounded and is_number and (known.min() < 0 or known.max() > models.input_scale):
        raise UserError(
            f"The images hold values from {known.min():g} to {known.max():g}, but these models take 0 to "
            f"{models.input_scale:g}: rescale them."
        )
    return x.astype(np.float32) if x.dtype.kind == "f" else x

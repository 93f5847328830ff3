"""What a data set or a run holds: counts per class, which images are labelled, and what is odd about its files."""

from pathlib import Path
from typing import Any

import numpy as np

from ssgan import runs
from ssgan.data import datasets as sources
from ssgan.data import splits
from ssgan.data.dataset import Data, image_hashes
from ssgan.data.image_array import ReadProgress
from ssgan.data.splits import Split
from ssgan.errors import UserError
from ssgan.settings.config import Config
from ssgan.settings.options import Options
from ssgan.settings.presets import parse

__all__ = ["describe_data", "describe_run"]


DUPLICATES_SHOWN = 10


def describe_data(
    source: str,
    root: Path | None,
    labels: str | None = None,
    draw_seed: str | None = None,
    options: Options = Options(),  # noqa: B008 - frozen
    progress: ReadProgress | None = None,
) -> dict[str, Any]:
    """What a data set holds, and what a draw of so many labels would.

    Parameters
    ----------
    source : str
        What :func:`ssgan.data.load` takes.
    root : Path, optional
    labels, draw_seed : str, optional
        As on the command line; no labels, no draw.
    options, progress
        As :func:`ssgan.data.load` takes them.

    Returns
    -------
    dict
        Plain types; ``per_class`` counts the labels of pool, test share and draws, ``splits`` names the rows.
        Where the images came from files, a split names them too, ``files`` says what was met, ``skipped`` names
        those that could not be read, ``duplicates`` counts test images whose pixels lie in the pool too, and
        ``notes`` says what else a user should know.

    Raises
    ------
    UserError
        Where there is no such data set, or no such draw.
    """
    data = sources.load(source, root, options, progress)
    if labels is None:
        return _counted(data, {})
    texts = {"labels": labels, "draw_seed": draw_seed or "0"}
    config = Config(**dict(parse(f"{name}={text}") for name, text in texts.items()))
    (split,) = splits.make_splits(data.y_train, config.labels, config.draw_seeds)
    return _counted(data, {f"draw {config.draw_seed}": split})


def describe_run(run: Path, root: Path | None, progress: ReadProgress | None = None) -> dict[str, Any]:
    """What the data of a run hold, and which images each of its models had labelled.

    Returns
    -------
    dict
        As :func:`of_data`.

    Raises
    ------
    UserError
        Where ``run`` is no finished run, or its data are not what they were.
    """
    config, report = runs.read_config(run), runs.read_report(run)
    data = sources.load(*runs.source_of(report, config, root), progress)
    found = splits.load(run / "split.json")
    if [split.sha256 for split in found] != [row["split_sha256"] for row in report["rows"]]:
        raise UserError(f"The split.json and report.json of {run} are not of the same run.")
    if data.sha256 != report["dataset_sha256"]:
        raise UserError(f"{data.name} is not what it was when {run} was trained: its hash has changed.")
    return _counted(data, {f"seed {row['seed']}": split for row, split in zip(report["rows"], found, strict=True)})


def _counted(data: Data, found: dict[str, Split]) -> dict[str, Any]:
    counts = {"pool": data.y_train[data.y_train >= 0], "test": data.y_test}
    counts |= {name: split.y for name, split in found.items()}
    entries = [{"name": n, "sha256": s.sha256, "indices": s.indices.tolist()} for n, s in found.items()]
    about_files = {}
    if data.files_train:
        for entry in entries:
            entry["files"] = [data.files_train[row] for row in entry["indices"]]
        about_files = {
            "files": {what: dict(count) for what, count in data.file_counts.items()},
            "skipped": [list(pair) for pair in data.skipped],
            "duplicates": _duplicates(data),
            "notes": _notes(data),
        }
    return {
        "dataset": data.name,
        "sha256": data.sha256,
        "image_shape": list(data.image_shape),
        "dtype": str(data.x_train.dtype),
        "scale": data.scale,
        "classes": list(data.classes),
        "images": len(data.x_train),
        "unlabeled": int((data.y_train < 0).sum()),
        "test_images": len(data.x_test),
        "per_class": {name: np.bincount(y, minlength=len(data.classes)).tolist() for name, y in counts.items()},
        "splits": entries,
        **about_files,
    }


def _duplicates(data: Data) -> dict[str, Any]:
    """Test images that equal an image of the pool pixel for pixel: how many, and the first few by file."""
    pool: dict[bytes, int] = {}
    for row, digest in enumerate(image_hashes(data.x_train)):
        pool.setdefault(digest, row)
    pairs = [(row, pool.get(digest)) for row, digest in enumerate(image_hashes(data.x_test))]
    found = [(data.files_test[row], data.files_train[twin]) for row, twin in pairs if twin is not None]
    return {"count": len(found), "first": [list(pair) for pair in found[:DUPLICATES_SHOWN]]}


def _notes(data: Data) -> list[str]:
    """What a user should know of the labels: uneven classes, and classes that cannot be tested."""
    tested = np.bincount(data.y_test, minlength=len(data.classes))
    notes = splits.imbalance_warnings([data.y_train[data.y_train >= 0]], data.classes)
    if not len(data.y_test):
        notes.append("There is no test image: only --folds would measure an error.")
    elif not tested.all():
        without = [name for name, count in zip(data.classes, tested, strict=True) if not count]
        notes.append(f"No test image of {len(without)} classes: {', '.join(without[:DUPLICATES_SHOWN])}.")
    return notes

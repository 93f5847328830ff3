"""What a data set or a run holds: counts per class, and which images are labelled."""

from pathlib import Path
from typing import Any

import numpy as np

from ssgan import config as configuration
from ssgan import data as sources
from ssgan import runs, splits
from ssgan.config import Config
from ssgan.data import Data
from ssgan.errors import UserError
from ssgan.splits import Split

__all__ = ["of_data", "of_run"]


def of_data(source: str, root: Path | None, labels: str | None = None, draw_seed: str | None = None) -> dict[str, Any]:
    """What a data set holds, and what a draw of so many labels would.

    Parameters
    ----------
    source : str
        What :func:`ssgan.data.load` takes.
    root : Path, optional
    labels, draw_seed : str, optional
        As on the command line; no labels, no draw.

    Returns
    -------
    dict
        Plain types; ``per_class`` counts the labels of pool, test share and draws, ``splits`` names the rows.

    Raises
    ------
    UserError
        Where there is no such data set, or no such draw.
    """
    data = sources.load(source, root)
    if labels is None:
        return _counted(data, {})
    texts = {"labels": labels, "draw_seed": draw_seed or "0"}
    config = Config(**dict(configuration.parse(f"{name}={text}") for name, text in texts.items()))
    (split,) = splits.for_seeds(data.y_train, config.labels, config.draw_seeds)
    return _counted(data, {f"draw {config.draw_seed}": split})


def of_run(run: Path, root: Path | None) -> dict[str, Any]:
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
    runs.read_config(run)
    report = runs.read_report(run)
    data = sources.load(*runs.source_of(report, root))
    found = splits.load(run / "split.json")
    if [split.sha256 for split in found] != [row["split_sha256"] for row in report["rows"]]:
        raise UserError(f"The split.json and report.json of {run} are not of the same run.")
    if data.sha256 != report["dataset_sha256"]:
        raise UserError(f"{data.name} is not what it was when {run} was trained: its hash has changed.")
    return _counted(data, {f"seed {row['seed']}": split for row, split in zip(report["rows"], found, strict=True)})


def _counted(data: Data, found: dict[str, Split]) -> dict[str, Any]:
    counts = {"pool": data.y_train[data.y_train >= 0], "test": data.y_test}
    counts |= {name: split.y for name, split in found.items()}
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
        "splits": [{"name": n, "sha256": s.sha256, "indices": s.indices.tolist()} for n, s in found.items()],
    }

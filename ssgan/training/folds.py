"""Measure the error of a run by cross-validation over its labelled images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssgan.data.dataset import Data, image_hashes
from ssgan.data.splits import Split, fold_splits, make_splits
from ssgan.errors import UserError
from ssgan.inference.confidence import calibrate, flagged_share
from ssgan.inference.metrics import binomial_interval, confusion, softmax
from ssgan.inference.models import Models
from ssgan.inference.scores import METRICS, finite_mask
from ssgan.settings.config import Config
from ssgan.table_files import open_table
from ssgan.training.experiment import train_or_resume
from ssgan.training.monitor import TrainingProgress
from ssgan.training.parts import FailedParts
from ssgan.training.timing import StepProgress

__all__ = ["FOLDS_FOLDER", "FOLDS_TABLE", "cross_validate", "cut_folds", "held_out_logits", "train_folds"]

FOLDS_FOLDER = "folds"
FOLDS_TABLE = "predictions.csv"
COLUMNS = ("file", "fold", "label", "p_label", "class", "probability")
CONFIDENCE = 0.95


def cut_folds(data: Data, config: Config) -> list[Split]:
    """Cut the labelled images into folds and return the split of each fold's model; ``config.seed`` determines them.

    Raises
    ------
    UserError
        If they cannot be cut into this many folds.
    """
    whole = make_splits(data.y_train, config.labels, config.draw_seeds[:1])[0]
    if len(np.unique(whole.y)) < 2:
        raise UserError("Every labelled image is of one class, so there is no error to measure by folds.")
    pool_hashes = image_hashes(data.source.x_train)
    hashes = [pool_hashes[row] for row in whole.indices]
    for label, name in enumerate(data.classes):
        different = {digest for digest, y in zip(hashes, whole.y, strict=True) if y == label}
        if len(different) == 1:
            raise UserError(
                f"The class {name!r} has one labelled image, not counting copies, and a model that never saw it cannot "
                f"know the class: folds need a second label of it."
            )
    parts = fold_splits(whole, config.folds, config.seed, hashes)
    rows_of = _rows_by_hash(pool_hashes)
    splits = []
    for part in parts:
        if lost := set(whole.y.tolist()) - set(part.y.tolist()):
            raise UserError(
                f"A fold would hold every labelled image of the class {data.classes[min(lost)]!r}, because some of "
                f"them lie in another class too: give each picture one label."
            )
        # Unlabelled copies of a held-out image are held out too.
        copies = np.unique(np.concatenate([rows_of[pool_hashes[row]] for row in part.held_out]))
        splits.append(Split(part.indices, part.y, copies))
    return splits


def _rows_by_hash(hashes: Sequence[bytes]) -> dict[bytes, list[int]]:
    rows: dict[bytes, list[int]] = {}
    for row, digest in enumerate(hashes):
        rows.setdefault(digest, []).append(row)
    return rows


def _test_rows(parts: Sequence[Split]) -> list[np.ndarray]:
    """Return the rows on which each fold's model is tested: those that only the other models learned from."""
    whole = np.unique(np.concatenate([part.indices for part in parts]))
    return [np.setdiff1d(whole, part.indices) for part in parts]


def cross_validate(
    data: Data,
    config: Config,
    folder: Path,
    on_report: Callable[[TrainingProgress], None] | None = None,
    source: Mapping[str, str | None] | None = None,
    failed_parts: FailedParts | None = None,
    on_step: Callable[[StepProgress], None] | None = None,
) -> dict[str, Any] | None:
    """Train one model for each fold, or resume them, and test each on the images that it never saw.

    ``folder`` becomes a run folder like any other. ``predictions.csv`` in it holds the prediction for every labelled
    image, the labels with the lowest probability first: the place to look for wrong labels.

    Parameters
    ----------
    data : Data
    config : Config
        Configuration of the run itself, with ``folds`` above 0.
    folder : Path
    on_report, source, on_step
        As :func:`ssgan.training.experiment.run_experiment` takes them.
    failed_parts : FailedParts, optional
        Receives what could not be measured or written.

    Returns
    -------
    dict or None
        Plain types: ``error`` in percent over all ``labels`` images, each predicted by the model that never saw it, of
        which ``wrong`` were wrong; ``interval``, the 95 % confidence interval of the error for this number of images
        (Wilson score); ``errors`` of each fold; ``nll`` and ``ece`` over all; ``confusion`` [K][K]; the temperature for
        the run's own models, ``calibration`` as :func:`calibrate` returns it; and the fraction ``flagged`` of images
        that look generated, None without a generator. A fold whose model diverged is named in ``diverged`` and counts
        nowhere else. None if all did. ``predictions`` names the table if it could be written. The result itself is None
        if it could not be measured.

    Raises
    ------
    UserError
        If data, configuration and folder do not fit.
    """
    parts, models = train_folds(data, config, folder, on_report, source, on_step)
    failed_parts = failed_parts or FailedParts()
    with failed_parts.attempt("scores of the folds"):
        return _score_folds(data, config, folder, parts, models, failed_parts)
    return None


def train_folds(
    data: Data,
    config: Config,
    folder: Path,
    on_report: Callable[[TrainingProgress], None] | None = None,
    source: Mapping[str, str | None] | None = None,
    on_step: Callable[[StepProgress], None] | None = None,
) -> tuple[list[Split], Models]:
    """Train one model for each fold, resume them, or open them; return the splits of the folds with the models.

    Parameters and errors are those of :func:`cross_validate`.
    """
    parts = cut_folds(data, config)
    inner = config.replace(
        folds=0, frames_every_images=0, labels=None, draw_seed=None, seeds=config.folds, test_share=config.test_share
    )
    models, _ = train_or_resume(data, inner, folder, on_report, source, parts, on_step)
    return parts, models


def held_out_logits(data: Data, parts: Sequence[Split], models: Models) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows [n] that each fold's model is tested on, and its logits [n, K] of them."""
    return [
        (rows, models.select([seed]).logits(data.x_train[rows])[0])
        for seed, rows in zip(models.seeds, _test_rows(parts), strict=True)
    ]


def _score_folds(
    data: Data, config: Config, folder: Path, parts: Sequence[Split], models: Models, failed_parts: FailedParts
) -> dict[str, Any]:
    """Test the model of each fold on the images that it never saw, and write the table of predictions."""
    held_out = held_out_logits(data, parts, models)
    test_rows, logits_of = [rows for rows, _ in held_out], [logits_NK for _, logits_NK in held_out]
    p_of = [softmax(logits_NK) for logits_NK in logits_of]
    is_finite = finite_mask(p_of)  # type: ignore[arg-type]
    finite_folds = [k for k, ok in enumerate(is_finite) if ok]
    result: dict[str, Any] = {
        "folds": config.folds,
        "labels": sum(map(len, test_rows)),
        "labels_each": round(float(np.mean([len(part.indices) for part in parts]))),
        "diverged": [k for k, ok in enumerate(is_finite) if not ok],
        **dict.fromkeys(("wrong", "interval", "confusion", "calibration", "flagged", *METRICS)),
        "errors": [
            METRICS["error"](p, data.y_train[test_rows[k]]) if is_finite[k] else None for k, p in enumerate(p_of)
        ],
        "run": str(folder),
    }
    if not finite_folds:
        return result
    rows = np.concatenate([test_rows[k] for k in finite_folds])
    p_NK, y_N = np.concatenate([p_of[k] for k in finite_folds]), data.y_train[rows]
    predicted_N = p_NK.argmax(axis=1)
    wrong = int((predicted_N != y_N).sum())
    low, high = binomial_interval(wrong, len(y_N), CONFIDENCE)
    folds = np.concatenate([np.full(len(test_rows[k]), k) for k in finite_folds])
    logits_NK = np.concatenate([logits_of[k] for k in finite_folds])
    with failed_parts.attempt("calibration"):
        result["calibration"] = calibrate(logits_NK, y_N, folds)
    written = {}
    with failed_parts.attempt(f"{FOLDS_FOLDER}/{FOLDS_TABLE}"):
        _write(folder / FOLDS_TABLE, data, rows, folds, p_NK)
        written = {"predictions": str(folder / FOLDS_TABLE)}
    return {
        **result,
        "labels": len(y_N),
        "wrong": wrong,
        "interval": [100 * low, 100 * high],
        "confusion": confusion(y_N, predicted_N, len(data.classes)).tolist(),
        "flagged": None if models.G is None else flagged_share(logits_NK),
        **{name: metric(p_NK, y_N) for name, metric in METRICS.items()},
        **written,
    }


def _write(path: Path, data: Data, rows: np.ndarray, folds: np.ndarray, p_NK: np.ndarray) -> None:
    """Write one line for each labelled image, the least probable label first; row numbers if there are no files."""
    y_N = data.y_train[rows]
    p_label = p_NK[np.arange(len(rows)), y_N]
    names: Sequence[Any] = data.files_train or range(len(data.x_train))
    with open_table(str(path), COLUMNS) as write:
        for i in np.lexsort((rows, p_label)):
            best = int(p_NK[i].argmax())
            shown = [float(f"{p:.6g}") for p in (p_label[i], p_NK[i, best])]
            label, predicted = data.classes[y_N[i]], data.classes[best]
            write([names[rows[i]], int(folds[i]), label, shown[0], predicted, shown[1]])

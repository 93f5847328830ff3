"""K-fold cross-validation over the labelled images: an error with an interval where no image can be spared for testing.

Each of K models learns without one fold, which it sees neither with its labels nor without, and is tested on it; then
the run's own models learn from every label. The K models are one stack, trained side by side in a run folder inside the
run's own.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ssgan import runs
from ssgan.data.dataset import Data, image_hashes
from ssgan.data.splits import Split, for_seeds, in_folds
from ssgan.devices import select
from ssgan.errors import UserError
from ssgan.experiment import run_experiment
from ssgan.files import open_table
from ssgan.inference.metrics import binomial_interval, confusion
from ssgan.inference.models import METRICS, open_run, usable
from ssgan.records import Report
from ssgan.settings.config import Config

__all__ = ["FOLDER", "cross_validate", "cut"]

FOLDER = "folds"
SHEET = "predictions.csv"
COLUMNS = ("file", "fold", "label", "p_label", "class", "probability")
CONFIDENCE = 0.95


def cut(data: Data, config: Config) -> list[Split]:
    """The labelled images of each fold's model, from those of the run's own models; ``config.seed`` says which fold.

    Raises
    ------
    UserError
        Where they cannot be cut into so many folds.
    """
    whole = for_seeds(data.y_train, config.labels, config.draw_seeds[:1])[0]
    if len(np.unique(whole.y)) < 2:
        raise UserError("Every labelled image is of one class, so there is no error to measure by folds.")
    every = image_hashes(data.x_train)
    hashes = [every[row] for row in whole.indices]
    for label, name in enumerate(data.classes):
        different = {digest for digest, y in zip(hashes, whole.y, strict=True) if y == label}
        if len(different) == 1:
            raise UserError(
                f"The class {name!r} has one labelled image, copies aside, and a model that never saw it cannot know "
                f"the class: give it another label, or train without --folds."
            )
    parts = in_folds(whole, config.folds, config.seed, hashes)
    rows_of = _rows_by_hash(every)
    found = []
    for part in parts:
        if lost := set(whole.y.tolist()) - set(part.y.tolist()):
            raise UserError(
                f"A fold would hold every labelled image of the class {data.classes[min(lost)]!r}, because some of "
                f"them lie in another class too: give each picture one label."
            )
        # Their copies without a label go with them.
        away = np.unique(np.concatenate([rows_of[every[row]] for row in part.held_out]))
        found.append(Split(part.indices, part.y, away))
    return found


def _rows_by_hash(hashes: Sequence[bytes]) -> dict[bytes, list[int]]:
    rows: dict[bytes, list[int]] = {}
    for row, digest in enumerate(hashes):
        rows.setdefault(digest, []).append(row)
    return rows


def _tested(parts: Sequence[Split]) -> list[np.ndarray]:
    """The labelled rows that each fold's model is tested on: those that the others learned from and it did not."""
    whole = np.unique(np.concatenate([part.indices for part in parts]))
    return [np.setdiff1d(whole, part.indices) for part in parts]


def cross_validate(
    data: Data,
    config: Config,
    folder: Path,
    on_report: Callable[[Report], None] | None = None,
    source: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Train the models of the folds, or go on with them, and test each on the images that were kept from it.

    ``folder`` becomes a run folder like any other; ``predictions.csv`` in it holds what was predicted for every
    labelled image, those whose label is least believed first: the place to look for wrong labels.

    Parameters
    ----------
    data : Data
    config : Config
        Of the run itself, with ``folds`` above 0.
    folder : Path
    on_report, source
        As :func:`ssgan.experiment.run_experiment` takes them.

    Returns
    -------
    dict
        Plain types: ``error`` in percent over all ``labels`` images, each predicted by the model that never saw it, of
        which ``wrong`` were wrong; ``interval``, in which the error lies with 95 % confidence as far as the
        number of images goes (Wilson score); ``errors`` of each fold; ``nll`` and ``ece`` over all; ``confusion``
        [K][K]. A fold whose model diverged is named in ``diverged`` and counts nowhere else. None where all did.

    Raises
    ------
    UserError
        Where data, configuration and folder do not fit.
    """
    parts = cut(data, config)
    inner = config.replace(
        folds=0, frames_every_images=0, labels=None, draw_seed=None, seeds=config.folds, test_share=config.test_share
    )
    with _mendable(folder):
        if not any((folder / name).exists() for name in ("config.json", "checkpoint", "report.json")):
            shutil.rmtree(folder, ignore_errors=True)  # half made
            runs.claim(folder, data.name, inner)
        if runs.finished(folder, inner, data.name, data.sha256) is None:
            run_experiment(data, inner, folder, on_report, source, given=parts)
        models, _ = open_run(folder, select(config.device))
        ours = (inner.all_seeds, [part.sha256 for part in parts])
        if (models.seeds, models.split_sha256) != ours or models.config.resume_conflicts(inner):
            raise UserError(f"{folder} holds models of other folds or settings.")
    tested = _tested(parts)
    p_of = [
        models.only([seed]).probabilities(data.x_train[rows])[0]
        for seed, rows in zip(models.seeds, tested, strict=True)
    ]
    fine = usable(p_of)  # type: ignore[arg-type]
    left = [k for k, ok in enumerate(fine) if ok]
    found: dict[str, Any] = {
        "folds": config.folds,
        "labels": sum(map(len, tested)),
        "labels_each": round(float(np.mean([len(part.indices) for part in parts]))),
        "diverged": [k for k, ok in enumerate(fine) if not ok],
        **dict.fromkeys(("wrong", "interval", "confusion", *METRICS)),
        "errors": [METRICS["error"](p, data.y_train[tested[k]]) if fine[k] else None for k, p in enumerate(p_of)],
        "run": str(folder),
    }
    if not left:
        return found
    rows = np.concatenate([tested[k] for k in left])
    p_NK, y_N = np.concatenate([p_of[k] for k in left]), data.y_train[rows]
    predicted_N = p_NK.argmax(axis=1)
    wrong = int((predicted_N != y_N).sum())
    low, high = binomial_interval(wrong, len(y_N), CONFIDENCE)
    folds = np.concatenate([np.full(len(tested[k]), k) for k in left])
    _write(folder / SHEET, data, rows, folds, p_NK)
    return {
        **found,
        "labels": len(y_N),
        "wrong": wrong,
        "interval": [100 * low, 100 * high],
        "confusion": confusion(y_N, predicted_N, len(data.classes)).tolist(),
        **{name: metric(p_NK, y_N) for name, metric in METRICS.items()},
        "predictions": str(folder / SHEET),
    }


@contextmanager
def _mendable(folder: Path) -> Iterator[None]:
    """What is wrong with the folder of the folds can be mended by making it anew."""
    try:
        yield
    except UserError as mistake:
        raise UserError(f"{str(mistake).rstrip('.')} (delete {folder} to train the folds again).") from None


def _write(path: Path, data: Data, rows: np.ndarray, folds: np.ndarray, p_NK: np.ndarray) -> None:
    """One line for each labelled image, the least believed label first; row numbers where there are no files."""
    y_N = data.y_train[rows]
    p_label = p_NK[np.arange(len(rows)), y_N]
    names: Sequence[Any] = data.files_train or range(len(data.x_train))
    with open_table(str(path), COLUMNS) as write:
        for i in np.lexsort((rows, p_label)):
            best = int(p_NK[i].argmax())
            shown = [float(f"{p:.6g}") for p in (p_label[i], p_NK[i, best])]
            label, predicted = data.classes[y_N[i]], data.classes[best]
            write([names[rows[i]], int(folds[i]), label, shown[0], predicted, shown[1]])

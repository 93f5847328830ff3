"""Suggest the images of a pool to label next, before any training or by the models of a run."""

import dataclasses
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssgan import files, runs, table_files
from ssgan.data import label_log, splits
from ssgan.data.dataset import Data, image_hashes
from ssgan.data.datasets import DATASETS, load
from ssgan.data.image_array import ReadProgress
from ssgan.data.layouts import WITHOUT_LABELS
from ssgan.devices import select
from ssgan.errors import UserError, counted, did_you_mean
from ssgan.inference.evaluate import options_for, with_channel_axis
from ssgan.inference.features import apply_backbone
from ssgan.inference.metrics import generated_probability
from ssgan.inference.models import Models, open_latest
from ssgan.inference.predict import round_to_six_digits
from ssgan.labeling import selection
from ssgan.settings.options import Options
from ssgan.settings.presets import resolve

__all__ = [
    "COLUMNS",
    "FEW_LABELS",
    "STRATEGIES",
    "RunPool",
    "Suggestion",
    "check_strategy",
    "load_pool",
    "load_run_pool",
    "pool_vectors",
    "suggest",
    "write_suggestions",
]

STRATEGIES = ("auto", "typical", "uncertain", "random")
FEW_LABELS = 4  # labels per class below which auto chooses typical images: docs/notes/labeling.md
IMAGE_SIZE = 32  # pixels to which pictures are resized if neither a backbone nor the user sets it
COMPONENTS = 50  # principal components of pixels
PIXEL_NUMBERS = 2**28  # largest number of pixel values to which the analysis is fitted
BATCH_NUMBERS = 2**24  # largest number of pixel values in a batch
COLUMNS = ("path", "label", "place", "strategy", "score", "reason", "predicted", "probability")


class Suggestion(NamedTuple):
    """An image to label.

    Attributes
    ----------
    row : int
        Row of the pool.
    path : str
        The file, relative to the folder of pictures; the row if there are no files.
    place : int
        Rank from 1, the best.
    strategy : str
        typical, uncertain or random.
    score : float
        Typicality, ``1 - margin + disagreement``, or 0.
    reason : str
    predicted : str or None
        The most probable class by the models of the run; None without classes.
    probability : float or None
        Probability of this class.
    """

    row: int
    path: str
    place: int
    strategy: str
    score: float
    reason: str
    predicted: str | None
    probability: float | None


def suggest(
    data: Data,
    n: int,
    labeled: Sequence[int] | np.ndarray | None = None,
    strategy: str = "auto",
    seed: int = 0,
    models: Models | None = None,
) -> list[Suggestion]:
    """Suggest n images of a pool to label, best first.

    It uses only which images have a label. Copies of an image are suggested once, copies of a labelled one never.

    Parameters
    ----------
    data : Data
        Images, or features of pictures.
    n : int
    labeled : sequence of int, optional
        Rows of the pool that have a label; by default those that ``data`` labels.
    strategy : {"auto", "typical", "uncertain", "random"}
        ``auto`` is ``typical`` without models and below four labels per class, and ``uncertain`` from there on.
    seed : int
        Seed of k-means, and of random choices.
    models : Models, optional
        Their probabilities are needed for ``uncertain``; ``typical`` then uses the features of the first D.

    Raises
    ------
    UserError
        If n images cannot be suggested, or not by this strategy.
    """
    check_strategy(strategy, models is not None)
    known = np.unique(np.flatnonzero(data.y_train >= 0) if labeled is None else np.asarray(labeled, np.int64))
    rows = selection.unique_rows(image_hashes(data.source.x_train), known)
    open_count = len(np.setdiff1d(rows, known))
    _check_count(data, n, open_count)
    strategy = _choose_strategy(strategy, models, len(known))
    is_known = np.flatnonzero(np.isin(rows, known))
    predictions = None if models is None or models.config.unconditional else models
    if strategy == "random":
        chosen = selection.draw_random(len(rows), n, is_known, seed)
    elif strategy == "typical":
        drawn = _draw_rows(is_known, len(rows), n, seed)
        vectors = pool_vectors(data, rows[drawn], models)
        found = np.flatnonzero(np.isin(drawn, is_known))
        chosen = selection.select_typical(selection.embed(vectors, n + len(found)), n, found, seed)
        chosen = chosen._replace(indices=drawn[chosen.indices])
    else:
        assert models is not None
        logits = models.logits(data.x_train[rows])
        generated = generated_probability(logits).mean(axis=0) if models.flags_outliers else None
        first, x = models.select(models.seeds[:1]), data.x_train
        chosen = selection.select_uncertain(
            models.confidence.probabilities(logits),
            lambda places: first.features(x[rows[places]])[0],
            n,
            is_known,
            generated,
            seed,
        )
    picks = rows[chosen.indices]
    p_SNK = None
    if predictions is not None:
        p_SNK = predictions.confidence.probabilities(predictions.logits(data.x_train[picks]))
    names: Sequence[Any] = data.files_train or range(len(data.x_train))
    suggestions = []
    for place, row in enumerate(picks.tolist()):
        p_SK, predicted, probability = None, None, None
        if p_SNK is not None and models is not None:
            p_SK = p_SNK[:, place]
            mean_K = p_SK.mean(axis=0)
            predicted, probability = models.classes[mean_K.argmax()], round_to_six_digits(mean_K.max())
        reason = _reason(strategy, chosen.details[place], p_SK, () if models is None else models.classes)
        score = round_to_six_digits(chosen.scores[place])
        suggestions.append(Suggestion(row, str(names[row]), place + 1, strategy, score, reason, predicted, probability))
    return suggestions


def _check_count(data: Data, n: int, open_count: int, hint: str = "") -> None:
    if n < 1:
        raise UserError(f"n is {n}, but must be at least 1.")
    if not open_count:
        raise UserError(
            f"Every image of {data.name} has a label already, or is a copy of one that has, so there is none to "
            f"suggest: add images without a label{hint}."
        )
    if n > open_count:
        raise UserError(
            f"n is {n:,}, but {data.name} holds {open_count:,} different images without a label: ask for fewer."
        )


def check_strategy(strategy: str, is_run: bool) -> None:
    """Check that a strategy of this name exists and is available with or without a run.

    Raises
    ------
    UserError
        If it does not exist or is not available.
    """
    if strategy not in STRATEGIES:
        near = did_you_mean(strategy, STRATEGIES)
        raise UserError(f"Unknown strategy {strategy!r}: choose from {', '.join(STRATEGIES)}.{near}")
    if strategy == "uncertain" and not is_run:
        raise UserError(
            "The strategy uncertain needs the class probabilities of a run: give a run that was trained with labels, "
            "or use --strategy typical."
        )


def _choose_strategy(strategy: str, models: Models | None, labeled_count: int) -> str:
    """Resolve ``auto`` by the number of labels per class."""
    has_classes = models is not None and bool(models.classes)
    if strategy == "uncertain" and not has_classes:
        raise UserError(
            "The strategy uncertain needs class probabilities, and this run is a GAN without classes: give a run that "
            "was trained with labels, or use --strategy typical."
        )
    if strategy != "auto":
        return strategy
    if models is None or not has_classes or labeled_count < FEW_LABELS * len(models.classes):
        return "typical"
    return "uncertain"


def _draw_rows(is_known: np.ndarray, count: int, n: int, seed: int) -> np.ndarray:
    """Return labelled rows, at most half of the limit of the embedding, and others up to it, at least n, ascending."""
    random = np.random.RandomState(seed)
    others = np.setdiff1d(np.arange(count), is_known)
    if len(is_known) > selection.EMBEDDED_IMAGES // 2:
        is_known = random.permutation(is_known)[: selection.EMBEDDED_IMAGES // 2]
    most = max(n, selection.EMBEDDED_IMAGES - len(is_known))
    if len(others) > most:
        others = random.permutation(others)[:most]
    return np.sort(np.concatenate([is_known, others]))


def pool_vectors(data: Data, rows: np.ndarray, models: Models | None = None) -> np.ndarray:
    """Return the vectors [n, D] by which images are compared: features of D or of the backbone, or PCA of pixels."""
    if models is not None:
        return models.select(models.seeds[:1]).features(data.x_train[rows])[0]
    if data.feature_map is not None:
        return data.x_train[rows]
    from sklearn.decomposition import PCA

    numbers = math.prod(data.image_shape)
    x = data.x_train[rows].reshape(len(rows), -1)
    fitted = x[:: max(1, math.ceil(len(x) * numbers / PIXEL_NUMBERS))].astype(np.float32) / data.scale
    components = min(COMPONENTS, numbers, len(fitted))
    pca = PCA(components, svd_solver="randomized" if components < min(fitted.shape) else "full", random_state=0)
    pca.fit(fitted)
    step = max(1, BATCH_NUMBERS // numbers)
    parts = (x[start : start + step].astype(np.float32) / data.scale for start in range(0, len(x), step))
    return np.concatenate([pca.transform(part) for part in parts])


def _reason(strategy: str, detail: dict[str, Any], p_SK: np.ndarray | None, classes: Sequence[str]) -> str:
    """Explain in words why an image is suggested."""
    if strategy == "random":
        return "drawn at random"
    if strategy == "typical":
        return f"typical of a cluster of {counted(detail['size'], 'image')}, {detail['labeled'] or 'none'} labelled"
    assert p_SK is not None
    mean_K = p_SK.mean(axis=0)
    first, second = np.argsort(-mean_K, kind="stable")[:2].tolist()
    words = f"{classes[first]} ({mean_K[first]:.2f}) or {classes[second]} ({mean_K[second]:.2f})"
    others = int((p_SK.argmax(axis=1) != first).sum())
    return words + (f"; another class by {others} of {counted(len(p_SK), 'model')}" if others else "")


def load_pool(
    source: str, root: Path | None, options: Options, device: str = "cpu", progress: ReadProgress | None = None
) -> tuple[Data, np.ndarray]:
    """Load a pool whose images are to be labelled, and the rows that have a label.

    In a named data set no row counts as labelled: its labels are those that a draw would choose from.

    Parameters
    ----------
    source : str
        What :func:`ssgan.data.load` takes.
    root : Path or None
    options : Options
        With a ``backbone`` the data are its features.
    device : str
    progress : callable, optional

    Raises
    ------
    UserError
        If it cannot be loaded.
    """
    data = load(source, root, dataclasses.replace(options, classes=False, test_share=0.0), progress)
    labeled = _labeled_rows(data, source, options.labels_csv)
    by_folders = bool(data.files_train) and options.labels_csv is None and Path(source).is_dir()
    hint = _for_other_folders(Path(source)) if by_folders else ""
    _check_count(data, 1, len(data.x_train) - len(labeled), hint)  # before features are computed
    if options.backbone is not None:
        settings = {"backbone": options.backbone, "image_size": options.image_size, "device": device}
        data = apply_backbone(data, resolve("features", settings), progress)
    return data, labeled


def _for_other_folders(folder: Path) -> str:
    """Say how pictures are labelled whose folders are not classes."""
    label = shlex.join(["ssgan", "label", str(folder), "--classes", "A,B"])
    table = shlex.join(["--labels-csv", str(folder / label_log.TABLE)])
    return f", or if its folders are not classes, start `{label}` and add `{table}`"


def _labeled_rows(data: Data, source: str, labels_csv: Path | None) -> np.ndarray:
    """Return the rows of a pool that a user has labelled."""
    if source in DATASETS:
        return np.zeros(0, np.int64)
    is_labeled = data.y_train >= 0
    # With at most one class folder besides unlabeled/ there are no classes yet.
    parts = [name.lower().removeprefix("train/").split("/") for name in data.files_train]
    top = [folders[0] if folders else "" for *folders, _ in parts]
    if labels_csv is None and not is_labeled.any() and set(top) & set(WITHOUT_LABELS):
        is_labeled = np.array([folder not in ("", *WITHOUT_LABELS) for folder in top])
    return np.flatnonzero(is_labeled)


class RunPool(NamedTuple):
    """The pool of a run, and its models.

    Attributes
    ----------
    data : Data
        The input of the networks: features if the run has a backbone.
    labeled : ndarray of int64
        Rows of the pool that have a label: in a user's own data all of them, otherwise those of the run.
    models : Models
        Those that did not diverge.
    source : str
        Location of the data.
    labels_csv : Path or None
        Table of labels of the data.
    """

    data: Data
    labeled: np.ndarray
    models: Models
    source: str
    labels_csv: Path | None


def load_run_pool(
    run: Path,
    source: str | None = None,
    root: Path | None = None,
    labels_csv: Path | None = None,
    device: str = "auto",
    progress: ReadProgress | None = None,
) -> RunPool:
    """Open the models of a run and load its pool, as the input of its networks.

    Parameters
    ----------
    run : Path
        If it has not finished, its last checkpoint is used.
    source, root, labels_csv : optional
        New location of the data.
    device : str
    progress : callable, optional

    Raises
    ------
    UserError
        If the run has no model to use, or its data cannot be loaded or do not fit.
    """
    models, report = open_latest(run, select(device))
    if models.progress and source is None and report["dataset"] not in DATASETS:
        raise runs.unknown_data(run)
    is_moved = source is not None
    source, run_root, options = runs.data_source(run, report, models.config, root, source)
    if is_moved:
        options = options_for(models, labels_csv)
    elif labels_csv is not None:
        options = dataclasses.replace(options, labels_csv=labels_csv)
    data = load(source, run_root, dataclasses.replace(options, classes=False, strict=False), progress)
    data = with_channel_axis(data, models)
    if (data.image_shape, data.scale) != (models.input_shape, models.input_scale):
        raise UserError(
            f"{data.name} holds images of shape {list(data.image_shape)}, full intensity {data.scale:g}, but the "
            f"models of {run} know {list(models.input_shape)}, {models.input_scale:g}."
        )
    labeled = _labeled_rows(data, source, options.labels_csv)
    if data.sha256 == report["dataset_sha256"]:
        learned = [split.indices for split in splits.load(run / "split.json")]
        labeled = np.unique(np.concatenate([labeled, *learned]))
    finite = [seed for seed, ok in zip(models.seeds, models.finite, strict=True) if ok]
    if not finite:
        raise UserError(f"Every model of {run} diverged, so there is none to use.")
    return RunPool(_as_seen(data, models, progress), labeled, models.select(finite), source, options.labels_csv)


def _as_seen(data: Data, models: Models, progress: ReadProgress | None) -> Data:
    """Return the data as input of the networks: features of the pool, without those of other views."""
    if models.feature_map is None:
        return data
    one, none = slice(0, 1), slice(0, 0)
    pool = dataclasses.replace(
        data,
        x_train=data.x_train[one],
        y_train=data.y_train[one],
        files_train=data.files_train[one],
        x_test=data.x_train,
        y_test=np.zeros(len(data.x_train), np.int64),
        files_test=(),
    )
    features = apply_backbone(pool, models.config, progress, models.feature_map, device=str(models.device))
    return dataclasses.replace(
        data,
        x_train=features.x_test,
        x_test=features.x_test[none],
        y_test=data.y_test[none],
        files_test=(),
        scale=features.scale,
        feature_map=features.feature_map,
        pictures=data,
    )


def write_suggestions(suggestions: Sequence[Suggestion], out: str) -> None:
    """Write a row for each suggestion, with an empty ``label`` to fill in.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    with table_files.open_table(out, COLUMNS) as write:
        for one in suggestions:
            path = files.path_to_text(one.path)
            write([path, None, *one[2:]])

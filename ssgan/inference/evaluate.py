"""Evaluate a finished run on a test set and return plain numbers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssgan import files, runs
from ssgan.data.arrays import is_missing, label_array, whole_numbers
from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS, load
from ssgan.data.image_array import ReadProgress
from ssgan.devices import device_name, select
from ssgan.errors import UserError, counted
from ssgan.inference.features import apply_backbone
from ssgan.inference.metrics import confusion, mean_or_none, per_class, reliability, softmax, summarize_scores
from ssgan.inference.models import Models, open_latest
from ssgan.inference.scored_images import Scored, leave_out_learned, leave_out_trained, read_images
from ssgan.inference.scores import METRICS, finite_mask, score
from ssgan.settings.options import Options

__all__ = ["evaluate_models", "evaluate_run", "options_for", "score_arrays", "with_channel_axis"]


def evaluate_run(
    run: Path,
    data: str | None = None,
    root: Path | None = None,
    ensemble: bool = False,
    device: str = "auto",
    labels_csv: Path | None = None,
    progress: ReadProgress | None = None,
) -> dict[str, Any]:
    """Score the models of a run on the test set of its data, or on other data with the same classes.

    In other pictures without a test set, every labelled one is scored, except those of the run's pool. If the run's own
    data have changed, the images whose labels it learned are left out, with a note.

    Parameters
    ----------
    run : Path
        The folder of a run; if it has not finished, its last checkpoint is used.
    data : str, optional
        Name or path for :func:`ssgan.data.load`, instead of the run's own data.
    root : Path, optional
        Folder of downloaded sets.
    ensemble : bool
        Score the mean of the models' probabilities, too.
    device : str
    labels_csv : Path, optional
        The table of labels of a folder of pictures, instead of the run's own.
    progress : callable, optional
        As in :func:`ssgan.data.load`.

    Returns
    -------
    dict
        Plain types. ``rows`` has the metrics of each seed, the rest what is common to them. ``ece`` and ``nll`` are
        without a temperature. If the run has a ``temperature``, ``ece_scaled`` and ``nll_scaled`` are computed with it,
        and so are ensemble and reliability, as in :func:`ssgan.inference.predict.predict`. ``confusion`` [K][K] counts
        test images, rows by true class and columns by predicted; ``per_class`` has the ``precision``, ``recall`` and
        ``f1`` (0 to 1) of each class and the ``count`` of its test images; ``reliability`` the bins of the ECE. These
        three belong to ``predictions_of``: the one model, the ensemble, or all models that did not diverge, with their
        predictions counted together. They are None if every model diverged, and for a GAN without classes, whose rows
        say how well D tells real images from generated ones: see :meth:`ssgan.inference.models.Models.judgements`.
        ``scored`` says what kind the ``test_images`` are, ``left_out`` counts those that the run trained on, and
        ``notes`` are sentences for the user. ``parent`` describes the run whose weights it started from, or is None.

    Raises
    ------
    UserError
        If ``run`` has no checkpoint, the data do not fit it or have no test set, or the models make no
        ensemble.
    """
    models, report = open_latest(run, select(device))
    return evaluate_models(models, report, run, data, root, ensemble, labels_csv, progress)


def evaluate_models(
    models: Models,
    report: dict[str, Any],
    run: Path,
    data: str | None = None,
    root: Path | None = None,
    ensemble: bool = False,
    labels_csv: Path | None = None,
    progress: ReadProgress | None = None,
    pool: np.ndarray | None = None,
) -> dict[str, Any]:
    """Score opened models as :func:`evaluate_run` does; ``run`` names them in messages, ``pool`` is their pool."""
    if data is None and report["dataset"] not in DATASETS:
        if models.progress:
            raise runs.unknown_data(run)
        if report.get("source", "") is None:
            raise UserError(f"{run} was trained on arrays, which it does not hold: give --data, or evaluate() arrays.")
    source, source_root, options = runs.data_source(run, report, models.config, root, data)
    has_arrays = data is not None and (data in DATASETS or files.is_npz(data))
    if has_arrays:
        options = Options(
            labels_csv=labels_csv,
            backbone=models.config.backbone,
            learned=options.learned,
            gaussian_mean=options.gaussian_mean,
            gaussian_std=options.gaussian_std,
        )
    elif data is not None:
        options = options_for(models, labels_csv)
    elif labels_csv is not None:
        options = dataclasses.replace(options, labels_csv=labels_csv)
    scored = Scored(with_channel_axis(load(source, source_root, options, progress), models))
    _check_fit(scored.data, models, run)
    if data is None:
        scored = leave_out_learned(scored.data, run, report)
    elif not has_arrays and not models.config.unconditional:
        scored = leave_out_trained(scored.data, run, models.config, report, root, progress, pool)
    _check_tests(scored.data, models, report)
    scored = scored._replace(data=_inputs_of(models, scored.data, progress))
    return _score_data(models, report, scored, run, ensemble)


def _inputs_of(models: Models, data: Data, progress: ReadProgress | None = None) -> Data:
    """Return data whose test set is the input of the networks: pictures, or their features by the map of the models."""
    if models.feature_map is None:
        return data.source
    if data.feature_map is not None and data.feature_map.is_close(models.feature_map):
        return data
    data, one = data.source, slice(0, 1)  # no features of the pool are needed
    data = dataclasses.replace(
        data, x_train=data.x_train[one], y_train=data.y_train[one], files_train=data.files_train[one]
    )
    return apply_backbone(data, models.config, progress, models.feature_map, device=str(models.device))


def _score_data(
    models: Models, report: dict[str, Any], scored: Scored, run: Path, ensemble: bool = False
) -> dict[str, Any]:
    """Score models on the test set of data that fit them, which are features if the models take features."""
    dataset, torch_device = scored.data, models.device
    if models.config.unconditional:
        return _evaluate_unconditional(models, report, scored, run, torch_device, ensemble)
    logits_SNK, temperature = models.logits(dataset.x_test), models.confidence.temperature
    p_SNK = softmax(logits_SNK)
    scores = score(p_SNK, dataset.y_test)
    if temperature is not None:
        p_SNK = models.confidence.probabilities(logits_SNK)
        scores |= {f"{name}_scaled": values for name, values in score(p_SNK, dataset.y_test, ["nll", "ece"]).items()}
    scores["error_raw"] = models.scores(dataset.x_test, dataset.y_test, averaged=False, metrics=["error"])["error"]
    finite = finite_mask(p_SNK)
    result: dict[str, Any] = {
        **_context(models, report, scored, run, torch_device),
        **summarize_scores(scores),
        **{f"{name}_mean": mean_or_none(values) for name, values in scores.items() if name.startswith(("nll", "ece"))},
        "temperature": temperature,
        "diverged": [seed for seed, ok in zip(models.seeds, finite, strict=True) if not ok],
        "rows": [
            {"seed": seed, "draw_seed": row["draw_seed"], **{name: values[i] for name, values in scores.items()}}
            for i, (seed, row) in enumerate(zip(models.seeds, report["rows"], strict=True))
        ],
    }
    p_MNK = p_SNK[finite]
    predictions_of = _count_words(sum(finite))
    if ensemble:
        mean_NK = models.ensemble(p_SNK)
        p_MNK = p_MNK[:0] if mean_NK is None else mean_NK[None]
        mean_scores = {name: values[0] for name, values in score(p_MNK, dataset.y_test).items()} if len(p_MNK) else {}
        result["ensemble"] = {"models": sum(finite), **dict.fromkeys(METRICS), **mean_scores}
        predictions_of = f"the ensemble of {predictions_of}"
    return {**result, "predictions_of": predictions_of, **_class_results(p_MNK, dataset.y_test, models.classes)}


def score_arrays(
    models: Models, report: dict[str, Any], run: Path, data: Any, ensemble: bool = False
) -> dict[str, Any]:
    """Score opened models on the test set of :class:`Data`, or on a pair (images, labels).

    Raises
    ------
    UserError
        If they do not fit the models, or there is nothing to score.
    """
    if not isinstance(data, Data):
        if not (isinstance(data, tuple | list) and len(data) == 2):
            raise UserError("data must be a pair (images, labels), Data, or a name or path.")
        x, y = read_images(data[0], models), whole_numbers(label_array(data[1]))
        if models.config.unconditional:
            y = np.zeros(len(x), np.int64)
        elif any(map(is_missing, y.ravel().tolist())):
            raise UserError(
                "The labels hold -1, None or NaN, but an image without a label cannot be scored: leave it out."
            )
        elif y.dtype.kind in "iu" and _have_other_numbers(models.classes):
            raise UserError(
                f"The labels are integers and the classes are called {', '.join(models.classes)}: give the labels as "
                f"words, y.astype(str), or Data with class indices."
            )
        one, none, classes = x[:1], np.full(min(1, len(x)), -1), models.classes or ("0",)
        data = Data(one, none, x, y, classes, scale=models.input_scale, unbounded=not models.bounded)
    _check_fit(data.source, models, run)
    if not len(data.x_test) and not models.config.unconditional:
        raise UserError(f"{data.name} has no test images to score: give evaluate() a pair (images, labels), or a path.")
    return _score_data(models, report, Scored(_inputs_of(models, data)), run, ensemble)


def _have_other_numbers(classes: Sequence[str]) -> bool:
    """Return whether classes are called by numbers that are not their indices, so that an integer is ambiguous."""
    return all(name.isdecimal() for name in classes) and [*map(int, classes)] != [*range(len(classes))]


def _context(models: Models, report: dict[str, Any], scored: Scored, run: Path, device: torch.device) -> dict[str, Any]:
    """Describe the models, the data and the device."""
    return {
        "dataset": scored.data.name,
        **{key: report[key] for key in ("labels", "method", "preset", "seeds")},
        "device": str(device),
        "device_name": device_name(device),
        "run": str(run),
        "parent": report.get("parent"),
        "test_images": len(scored.data.x_test),
        "scored": scored.kind,
        "left_out": scored.left_out,
        "notes": [*([models.progress] if models.progress else []), *scored.notes],
        "classes": list(models.classes),
    }


def _evaluate_unconditional(
    models: Models, report: dict[str, Any], scored: Scored, run: Path, device: torch.device, ensemble: bool
) -> dict[str, Any]:
    """Evaluate a GAN without classes: there is no error, but a measure of how well D tells real from generated."""
    if ensemble:
        raise UserError(f"The models of {run} have no classes to vote on: omit --ensemble.")
    data = scored.data
    judgements = models.judgements(data.x_test, models.config.seed, data.normal)
    missing: list[float | None] = [None] * len(models.seeds)
    return {
        **_context(models, report, scored, run, device),
        **summarize_scores({"error": missing, "error_raw": missing}),
        **judgements,
        "nll_mean": None,
        "ece_mean": None,
        "temperature": None,
        "diverged": [seed for seed, ok in zip(models.seeds, models.finite, strict=True) if not ok],
        "rows": [
            {
                **{"seed": seed, "draw_seed": None, **dict.fromkeys(("error", "error_raw", "ece", "nll"))},
                **{name: values[i] for name, values in judgements.items()},
            }
            for i, seed in enumerate(models.seeds)
        ],
        "predictions_of": _count_words(sum(models.finite)),
        **_class_results(np.zeros((0, 0, 0)), data.y_test, models.classes),
    }


def options_for(models: Models, labels_csv: Path | None) -> Options:
    """Create the options that convert other pictures to the image shape of the models.

    They hold nothing out, because every labelled picture is scored; for a GAN without classes, as much as the run did.
    """
    image_shape = models.input_shape
    square = len(image_shape) > 1 and image_shape[0] == image_shape[1]
    return Options(
        image_size=image_shape[0] if square else None,
        backbone=models.config.backbone,
        image_mode="rgb" if image_shape[2:] == (3,) else "grey",
        image_depth=models.config.image_depth,
        labels_csv=labels_csv,
        test_share=models.config.test_share if models.config.unconditional else 0.0,
        test_seed=models.config.test_seed,
        strict=False,
    )


def with_channel_axis(data: Data, models: Models) -> Data:
    """Add the axis of one channel to grey pictures, if the models were trained on arrays with it."""
    if models.input_shape[2:] != (1,) or len(data.image_shape) != 2:
        return data
    return dataclasses.replace(data, x_train=data.x_train[..., None], x_test=data.x_test[..., None])


def _check_fit(data: Data, models: Models, run: Path) -> None:
    """Check that data fit the models."""
    unconditional = models.config.unconditional
    classes = () if unconditional else data.classes
    image_shape = models.input_shape
    if unconditional and data.image_shape != image_shape:
        shapes = f"{list(data.image_shape)}, but the models of {run} know {list(image_shape)}"
        raise UserError(f"{data.name} holds images of shape {shapes}.")
    if data.image_shape != image_shape or len(classes) != len(models.classes):
        raise UserError(
            f"{data.name} holds {counted(len(data.classes), 'class')} of images {list(data.image_shape)}, but the "
            f"models of {run} know {counted(len(models.classes), 'class')} of images {list(image_shape)}."
        )
    for i, (name, expected) in enumerate(zip(classes, models.classes, strict=True)):
        if name != expected:
            raise UserError(f"Class {i} of {data.name} is {name!r}, but that of the models of {run} is {expected!r}.")
    if data.scale != models.input_scale:
        raise UserError(
            f"{data.name} has full intensity {data.scale:g}, but the models of {run} learned from images with "
            f"{models.input_scale:g}: rescale its pixels."
        )


def _check_tests(data: Data, models: Models, report: dict[str, Any]) -> None:
    """Check that there are images to score, which a GAN without classes need not have."""
    if not len(data.x_test) and not models.config.unconditional:
        folds = report.get("folds") or {}
        known = f" (its folds measured {folds['error']:.2f} %)" if folds.get("error") is not None else ""
        raise UserError(
            f"{data.name} has no test images to score{known}: give --data a folder or .zip of labelled pictures, or an "
            f".npz that holds some, with their labels, as x_test and y_test."
        )


def _class_results(p_MNK: np.ndarray, y_N: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Compute the confusion matrix, the scores of each class and the reliability bins over M models."""
    if not len(p_MNK):
        return {"per_class": None, "confusion": None, "reliability": None}
    y_all, p_all = np.tile(y_N, len(p_MNK)), p_MNK.reshape(-1, p_MNK.shape[2])
    matrix = confusion(y_all, p_all.argmax(axis=1), len(classes))
    counts = np.bincount(y_N, minlength=len(classes)).tolist()
    return {
        "per_class": [
            {"class": name, **scores, "count": count}
            for name, scores, count in zip(classes, per_class(matrix), counts, strict=True)
        ],
        "confusion": matrix.tolist(),
        "reliability": reliability(p_all, y_all),
    }


def _count_words(models: int) -> str:
    """Return a number of models in words."""
    return counted(models, "model")

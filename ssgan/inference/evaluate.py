"""What ``ssgan evaluate`` finds out: a run and a test share in, plain numbers out."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS, load
from ssgan.data.image_array import ReadProgress
from ssgan.devices import device_name, select
from ssgan.errors import UserError
from ssgan.inference.metrics import confusion, per_class, reliability, summarize_scores
from ssgan.inference.models import METRICS, Models, finite_mask, open_run, score
from ssgan.settings.options import Options

__all__ = ["evaluate_run"]


def evaluate_run(
    run: Path,
    data: str | None = None,
    root: Path | None = None,
    ensemble: bool = False,
    device: str = "auto",
    labels_csv: Path | None = None,
    progress: ReadProgress | None = None,
) -> dict[str, Any]:
    """Score the models of a run on the test share of its data, or of other data with the same classes.

    Parameters
    ----------
    run : Path
        The folder of a finished run.
    data : str, optional
        What :func:`ssgan.data.load` takes, in place of the run's own data.
    root : Path, optional
        Where downloaded sets lie.
    ensemble : bool
        Score the mean of the models' probabilities too.
    device : str
    labels_csv : Path, optional
        The table of a folder of pictures without class folders, in place of the run's own.
    progress : callable, optional
        As :func:`ssgan.data.load` takes it.

    Returns
    -------
    dict
        Plain types. ``rows`` has the metrics of each seed, the rest what is common to them. ``confusion``
        [K][K] counts test images, rows by true class and columns by predicted; ``per_class`` has their
        ``precision``, ``recall`` and ``f1`` (0 to 1) and the ``count`` of test images; ``reliability`` the bins of
        the ECE. These three are of what ``predictions_of`` says: of the one model; of the ensemble, where it is
        asked for; or of all models that did not diverge, their predictions counted together. They are None
        where every model diverged, and of a GAN without classes, whose rows say how well D tells real images from
        generated ones: see :meth:`ssgan.inference.Models.judgements`.

    Raises
    ------
    UserError
        Where ``run`` is no finished run, the data do not fit it or have no test share, or the models make no
        ensemble.
    """
    where = select(device)
    models, report = open_run(run, where)
    source, source_root, options = runs.source_of(report, models.config, root)
    if labels_csv is not None:
        options = dataclasses.replace(options, labels_csv=labels_csv)
    if data is not None:
        of_arrays = data in DATASETS or data.endswith(".npz")
        options = Options(labels_csv=labels_csv) if of_arrays else _fitted(models, labels_csv)
    loaded = load(data or source, source_root, options, progress)
    _check(loaded, models, run, report)
    if models.config.unconditional:
        return _judged(models, report, loaded, run, where, ensemble)
    p_SNK = models.probabilities(loaded.x_test)
    scores = score(p_SNK, loaded.y_test)
    scores["error_raw"] = models.scores(loaded.x_test, loaded.y_test, averaged=False, metrics=["error"])["error"]
    fine = finite_mask(p_SNK)
    result: dict[str, Any] = {
        **_head(models, report, loaded, run, where),
        **summarize_scores(scores),
        **{f"{name}_mean": _mean(scores[name]) for name in ("nll", "ece")},
        "diverged": [seed for seed, ok in zip(models.seeds, fine, strict=True) if not ok],
        "rows": [
            {"seed": seed, "draw_seed": row["draw_seed"], **{name: values[i] for name, values in scores.items()}}
            for i, (seed, row) in enumerate(zip(models.seeds, report["rows"], strict=True))
        ],
    }
    counted = p_SNK[fine]
    if ensemble:
        mean_NK = models.ensemble(p_SNK)
        counted = counted[:0] if mean_NK is None else mean_NK[None]
        of_mean = {name: values[0] for name, values in score(counted, loaded.y_test).items()} if len(counted) else {}
        result["ensemble"] = {"models": sum(fine), **dict.fromkeys(METRICS), **of_mean}
    words = f"the ensemble of {_number(sum(fine))}" if ensemble else _number(sum(fine))
    return {**result, "predictions_of": words, **_classes(counted, loaded.y_test, models.classes)}


def _head(models: Models, report: dict[str, Any], data: Data, run: Path, device: torch.device) -> dict[str, Any]:
    """What was evaluated, on what and where."""
    return {
        "dataset": data.name,
        **{key: report[key] for key in ("labels", "method", "preset", "seeds")},
        "device": str(device),
        "device_name": device_name(device),
        "run": str(run),
        "test_images": len(data.x_test),
        "classes": list(models.classes),
    }


def _judged(
    models: Models, report: dict[str, Any], data: Data, run: Path, device: torch.device, ensemble: bool
) -> dict[str, Any]:
    """What :func:`evaluate_run` says of a GAN without classes: there is no error, but how well D tells what is real."""
    if ensemble:
        raise UserError(f"The models of {run} have no classes to vote on: leave --ensemble away.")
    judgements = models.judgements(data.x_test, models.config.seed, data.normal)
    nothing: list[float | None] = [None] * len(models.seeds)
    return {
        **_head(models, report, data, run, device),
        **summarize_scores({"error": nothing, "error_raw": nothing}),
        **judgements,
        "nll_mean": None,
        "ece_mean": None,
        "diverged": [seed for seed, fine in zip(models.seeds, models.finite, strict=True) if not fine],
        "rows": [
            {
                **{"seed": seed, "draw_seed": None, **dict.fromkeys(("error", "error_raw", "ece", "nll"))},
                **{name: values[i] for name, values in judgements.items()},
            }
            for i, seed in enumerate(models.seeds)
        ],
        "predictions_of": _number(sum(models.finite)),
        **_classes(np.zeros((0, 0, 0)), data.y_test, models.classes),
    }


def _fitted(models: Models, labels_csv: Path | None) -> Options:
    """Options that bring other pictures to the shape that the models of a run know.

    They hold out what the run held out, so that pictures of the run's own are not tested on that it learned from.
    """
    image_shape = models.image_shape
    square = len(image_shape) > 1 and image_shape[0] == image_shape[1]
    return Options(
        image_size=image_shape[0] if square else None,
        image_mode="rgb" if len(image_shape) == 3 else "grey",
        labels_csv=labels_csv,
        test_share=models.config.test_share,
        test_seed=models.config.test_seed,
        strict=False,
    )


def _check(data: Data, models: Models, run: Path, report: dict[str, Any]) -> None:
    unconditional = models.config.unconditional
    classes = () if unconditional else data.classes
    if unconditional and data.image_shape != models.image_shape:
        shapes = f"{list(data.image_shape)}, but the models of {run} know {list(models.image_shape)}"
        raise UserError(f"{data.name} holds images of shape {shapes}.")
    if data.image_shape != models.image_shape or len(classes) != len(models.classes):
        raise UserError(
            f"{data.name} holds {len(data.classes)} classes of images {list(data.image_shape)}, but the models "
            f"of {run} know {len(models.classes)} classes of images {list(models.image_shape)}."
        )
    for i, (theirs, ours) in enumerate(zip(classes, models.classes, strict=True)):
        if theirs != ours:
            raise UserError(f"Class {i} of {data.name} is {theirs!r}, but that of the models of {run} is {ours!r}.")
    if data.scale != models.scale:
        raise UserError(
            f"{data.name} has full intensity {data.scale:g}, but the models of {run} learned from images with "
            f"{models.scale:g}: rescale its pixels."
        )
    if not len(data.x_test) and not unconditional:
        folds = report.get("folds") or {}
        known = f" (its folds measured {folds['error']:.2f} %)" if folds.get("error") is not None else ""
        raise UserError(
            f"{data.name} has no test images to score{known}: give --data an .npz that holds some, with their labels, "
            f"as x_test and y_test."
        )


def _classes(p_MNK: np.ndarray, y_N: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """What is counted class by class and bin by bin, over the M models that are left."""
    if not len(p_MNK):
        return {"per_class": None, "confusion": None, "reliability": None}
    y_all, p_all = np.tile(y_N, len(p_MNK)), p_MNK.reshape(-1, p_MNK.shape[2])
    matrix = confusion(y_all, p_all.argmax(axis=1), len(classes))
    counts = np.bincount(y_N, minlength=len(classes)).tolist()
    return {
        "per_class": [
            {"class": name, **found, "count": count}
            for name, found, count in zip(classes, per_class(matrix), counts, strict=True)
        ],
        "confusion": matrix.tolist(),
        "reliability": reliability(p_all, y_all),
    }


def _mean(values: list[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None


def _number(models: int) -> str:
    return "1 model" if models == 1 else f"{models} models"

"""Classify files: read images from files, folders, patterns and arrays, and write one row for each.

The prediction is that of one model, or the mean of several that learned from the same labels.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssgan import files, table_files
from ssgan.data import image_io
from ssgan.devices import device_name, select
from ssgan.errors import UserError
from ssgan.inference.confidence import GENERATED_LIMIT
from ssgan.inference.inputs import InputImage, InputSource, chunk_sources, read_inputs
from ssgan.inference.metrics import generated_probability
from ssgan.inference.models import Models, open_latest

__all__ = [
    "UNLIKE_CLASSES",
    "Prediction",
    "Predictor",
    "choose_models",
    "chunks_for",
    "open_predictor",
    "predict",
    "predict_sources",
    "round_to_six_digits",
    "write_predictions",
]


UNLIKE_CLASSES, GENERATED = "looks like none of the classes", "looks generated"
BATCH_IMAGES, BATCH_NUMBERS = 1000, 2**24  # limits of a batch: images, and values in all of them


class Predictor(NamedTuple):
    """The models whose probabilities are averaged, their description, and a note on those left out and why."""

    models: Models
    description: str
    note: str = ""


class Prediction(NamedTuple):
    """The prediction for one image; all but ``file`` and ``note`` may be None."""

    file: str
    label: str | None
    probability: float | None
    p_generated: float | None
    note: str
    probabilities: list[float] | None


def open_predictor(run: Path, seed: int | None = None, device: str = "auto") -> Predictor:
    """Open the models of a run for prediction: all that learned from the same labels, or else one.

    Parameters
    ----------
    run : Path
        The folder of a run; if it has not finished, its last checkpoint is used.
    seed : int, optional
        Take only the model of this seed.
    device : str

    Raises
    ------
    UserError
        If ``run`` has no checkpoint or no such seed, or if the model or all of them diverged.
    """
    models, report = open_latest(run, select(device))
    return choose_models(models, report.get("diverged") or [], run, seed)


def choose_models(models: Models, diverged_seeds: Iterable[int], run: Path, seed: int | None = None) -> Predictor:
    """Choose the models that predict together, as :func:`open_predictor` does; ``run`` names them in messages."""
    diverged = set(diverged_seeds)
    diverged |= {s for s, finite in zip(models.seeds, models.finite, strict=True) if not finite}
    usable = [s for s in models.seeds if s not in diverged]
    if not usable:
        raise UserError(f"Every model of {run} diverged, so there is none to predict with.")
    if seed is not None:
        if seed not in usable:
            what = "diverged" if seed in diverged else "is not there"
            raise UserError(f"The model of seed {seed} of {run} {what}: choose from {', '.join(map(str, usable))}.")
        return Predictor(models.select([seed]), f"the model of seed {seed}")
    note = f"left out, because diverged: seed {', '.join(map(str, sorted(diverged)))}" if diverged else ""
    if len(usable) > 1 and len(set(models.split_sha256)) == 1:
        suffix = "" if models.config.unconditional else ", which learned from the same labels"
        return Predictor(models.select(usable), f"the mean of {len(usable)} models{suffix}", note)
    if len(usable) > 1:
        others = f"{len(usable)} models learned from different labels: --model picks another"
        note = "; ".join(filter(None, (others, note)))
    return Predictor(models.select(usable[:1]), f"the model of seed {usable[0]}", note)


def predict(models: Models, images: Iterable[InputImage]) -> Iterator[Prediction]:
    """Predict each image, in order, from one pass through the models, in batches of bounded memory.

    ``probability`` is that of the class, given that the image is real, at the temperature of ``models.confidence``;
    ``p_generated`` is the probability that it is generated, None unless ``models.flags_outliers``. Both are means over
    the models. A GAN without classes gives only the second.
    """
    rows, images = _batch_rows(models), iter(images)
    while batch := list(itertools.islice(images, rows)):
        x = [image.pixels for image in batch if image.pixels is not None]
        logits_SBK = models.logits(np.stack(x)) if x else np.zeros((1, 0, 1))
        p_BK = models.confidence.probabilities(logits_SBK).mean(axis=0)
        generated_B = generated_probability(logits_SBK).mean(axis=0)
        outputs = iter(zip(p_BK, generated_B, strict=True))
        for image in batch:
            if image.pixels is None:
                yield Prediction(image.name, None, None, None, image.reason, None)
            else:
                yield _prediction(image.name, *next(outputs), models)


def chunks_for(models: Models, sources: Sequence[InputSource]) -> Iterator[Sequence[InputSource]]:
    """Cut sources into chunks that are predicted separately, in order: a batch of files, or one archive."""
    return chunk_sources(sources, _batch_rows(models))


def predict_sources(models: Models, sources: Iterable[InputSource]) -> Iterator[Prediction]:
    """Read and predict the images of one chunk of :func:`chunks_for`, in order. Every engine runs this function."""
    images = read_inputs(sources, models.input_shape, models.input_scale, models.bounded, models.input_depth)
    return predict(models, images)


def _batch_rows(models: Models) -> int:
    """Return how many images make a batch."""
    return max(1, min(BATCH_IMAGES, BATCH_NUMBERS // math.prod(models.input_shape)))


def _prediction(name: str, p_K: np.ndarray, generated: float, models: Models) -> Prediction:
    """Make the prediction of one image from its probabilities."""
    if not np.isfinite(p_K).all():
        return Prediction(name, None, None, None, f"{name} makes the outputs of the model non-finite.", None)
    is_generated = generated > GENERATED_LIMIT
    if models.config.unconditional:
        return Prediction(name, None, None, round_to_six_digits(generated), GENERATED if is_generated else "", [])
    best, flags_outliers = int(p_K.argmax()), models.flags_outliers
    return Prediction(
        file=name,
        label=models.classes[best],
        probability=round_to_six_digits(p_K[best]),
        p_generated=round_to_six_digits(generated) if flags_outliers else None,
        note=UNLIKE_CLASSES if flags_outliers and is_generated else "",
        probabilities=[round_to_six_digits(p) for p in p_K],
    )


def round_to_six_digits(value: float) -> float:
    """Round to six significant digits, about the precision of a float32 network."""
    return float(f"{value:.6g}")


def columns(classes: Sequence[str], probabilities: bool) -> list[str]:
    """Return the column names of the rows."""
    names = [f"p({name})" for name in classes] if probabilities else []
    return ["file", "class", "probability", "p_generated", "note", *names]


def write_predictions(
    predictor: Predictor,
    sources: Sequence[InputSource],
    out: str = table_files.STDOUT,
    probabilities: bool = False,
    on_row: Callable[[int], None] = lambda done: None,
    on_prediction: Callable[[Prediction], None] = lambda row: None,
    predictions: Iterable[Prediction] | None = None,
) -> dict[str, Any]:
    """Classify images and write a row for each.

    Parameters
    ----------
    predictor : Predictor
    sources : sequence of InputSource
        As :func:`find_inputs` returns them.
    out : str
        A file ``.csv``, ``.jsonl`` or ``.json``, ``-`` for CSV to standard output, or empty for none.
    probabilities : bool
        Write the probability of each class, too.
    on_row, on_prediction : callable, optional
        Called with the number of rows written, and with each :class:`Prediction`.
    predictions : iterable of Prediction, optional
        Predictions of the sources, in order, if another engine makes them.

    Returns
    -------
    dict
        Plain types: the numbers of ``images``, ``classified``, ``per_class`` and ``unlike`` all classes (None for the
        reason ``unflagged_reason``); the ``temperature`` or why ``uncalibrated``; the ``unreadable`` ones with their
        reasons.

    Raises
    ------
    UserError
        If the rows cannot be written there.
    """
    models, unreadable, done, unlike = predictor.models, [], 0, 0
    labels: Counter[str | None] = Counter()
    if predictions is None:
        parts = chunks_for(models, sources)
        predictions = itertools.chain.from_iterable(predict_sources(models, part) for part in parts)
    with image_io.ignore_warnings(), table_files.open_table(out, columns(models.classes, probabilities)) as write:
        for done, row in enumerate(predictions, 1):
            p_K = [None] * len(models.classes) if row.probabilities is None else row.probabilities
            file = files.path_to_text(row.file)
            write([file, *row[1:4], row.note or None, *(p_K if probabilities else [])])
            labels[row.label] += 1
            unlike += row.note in (UNLIKE_CLASSES, GENERATED)
            if row.label is None and row.p_generated is None:
                unreadable.append({"file": file, "reason": row.note})
            on_prediction(row)
            on_row(done)
    device = models.device
    return {
        "out": out,
        "images": done,
        "classified": done - len(unreadable),
        "per_class": [{"class": name, "count": labels[name]} for name in models.classes],
        "unlike": unlike if models.flags_outliers else None,
        "unflagged_reason": None if models.flags_outliers or models.G is None else models.confidence.unflagged_reason,
        "temperature": models.confidence.temperature,
        "uncalibrated": models.confidence.uncalibrated or None,
        "unreadable": unreadable,
        "predictions_of": predictor.description,
        "seeds": models.seeds,
        "method": models.config.method,
        "device": str(device),
        "device_name": device_name(device),
    }

"""What ``ssgan predict`` does: images in, one row for each, of one model or of several that vote together."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssgan import files, inputs
from ssgan.data import image_io
from ssgan.devices import device_name, select
from ssgan.errors import UserError
from ssgan.inference import Models, open_run
from ssgan.metrics import generated_probability, softmax
from ssgan.settings.catalog import NETWORKS

__all__ = ["UNLIKE", "Predictor", "Row", "open_predictor", "predict", "write_predictions"]

UNLIKE, GENERATED = "looks like none of the classes", "looks generated"
SAME_LABELS = ", which learned from the same labels"
# Memory for a batch: so many images, and no more than so many numbers.
BATCH_IMAGES, BATCH_NUMBERS = 1000, 2**24


class Predictor(NamedTuple):
    """The models whose probabilities are averaged; who they are, and what else is worth knowing, in words."""

    models: Models
    words: str
    aside: str = ""


class Row(NamedTuple):
    """What is said of one image; all but ``file`` and ``note`` are None where there is nothing to say."""

    file: str
    label: str | None
    probability: float | None
    p_generated: float | None
    note: str
    probabilities: list[float] | None


def open_predictor(run: Path, seed: int | None = None, device: str = "auto") -> Predictor:
    """The models of a run that predict: those that learned from the same labels together, else one of them.

    Parameters
    ----------
    run : Path
        The folder of a finished run.
    seed : int, optional
        The model of this seed alone.
    device : str

    Raises
    ------
    UserError
        Where ``run`` is no finished run, has no such seed, or the model or all of them diverged.
    """
    models, report = open_run(run, select(device))
    diverged = set(report.get("diverged") or [])
    diverged |= {one for one, finite in zip(models.seeds, models.finite, strict=True) if not finite}
    left = [one for one in models.seeds if one not in diverged]
    if not left:
        raise UserError(f"Every model of {run} diverged, so there is none to predict with.")
    if seed is not None:
        if seed not in left:
            what = "diverged" if seed in diverged else "is not there"
            raise UserError(f"The model of seed {seed} of {run} {what}: choose from {', '.join(map(str, left))}.")
        return Predictor(models.only([seed]), f"the model of seed {seed}")
    aside = f"left out, because diverged: seed {', '.join(map(str, sorted(diverged)))}" if diverged else ""
    if len(left) == 1:
        return Predictor(models.only(left), f"the model of seed {left[0]}", aside)
    if len(set(models.split_sha256)) == 1:
        return Predictor(
            models.only(left),
            f"the mean of {len(left)} models{'' if models.config.unconditional else SAME_LABELS}",
            aside,
        )
    others = f"{len(left)} models learned from different labels: --seed picks another"
    return Predictor(models.only(left[:1]), f"the model of seed {left[0]}", "; ".join(filter(None, (others, aside))))


def predict(models: Models, items: Iterable[inputs.Item]) -> Iterator[Row]:
    """One row for each image, in order, from one pass through the models; in batches, so that memory is bounded.

    ``probability`` is that of the class, given that the image is of one; ``p_generated`` the probability that it
    is of none, ``1 / (Z + 1)``, and None where the models saw no generated images. Both are means over the models.
    Those of a GAN without classes give the second alone.
    """
    rows = max(1, min(BATCH_IMAGES, BATCH_NUMBERS // math.prod(models.image_shape)))
    items = iter(items)
    while batch := list(itertools.islice(items, rows)):
        images = [item.pixels for item in batch if item.pixels is not None]
        logits_SBK = models.logits(np.stack(images)) if images else np.zeros((1, 0, 1))
        p_BK = softmax(logits_SBK).mean(axis=0)
        generated_B = generated_probability(logits_SBK).mean(axis=0)
        found = iter(zip(p_BK, generated_B, strict=True))
        for item in batch:
            if item.pixels is None:
                yield Row(item.name, None, None, None, item.reason, None)
            else:
                yield _row(item.name, *next(found), models)


def _row(name: str, p_K: np.ndarray, generated: float, models: Models) -> Row:
    if not np.isfinite(p_K).all():
        return Row(name, None, None, None, f"{name} drives the model beyond finite numbers.", None)
    if models.config.unconditional:
        return Row(name, None, None, _short(generated), GENERATED if generated > 0.5 else "", [])
    best, judges = int(p_K.argmax()), models.G is not None
    return Row(
        file=name,
        label=models.classes[best],
        probability=_short(p_K[best]),
        p_generated=_short(generated) if judges else None,
        note=UNLIKE if judges and generated > 0.5 else "",
        probabilities=[_short(p) for p in p_K],
    )


def _short(p: float) -> float:
    """Six significant digits: more than a float32 network has to say."""
    return float(f"{p:.6g}")


def columns(classes: Sequence[str], probabilities: bool) -> list[str]:
    """Names of the values of a row; classes of one name are told apart by their numbers."""
    each = [f"p({name})" if classes.count(name) == 1 else f"p({name} #{k})" for k, name in enumerate(classes)]
    return ["file", "class", "probability", "p_generated", "note", *(each if probabilities else [])]


def write_predictions(
    predictor: Predictor,
    found: Sequence[inputs.Found],
    out: str = files.STDOUT,
    probabilities: bool = False,
    on_row: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Classify files and write a row for each.

    Parameters
    ----------
    predictor : Predictor
    found : sequence of Found
        What :func:`ssgan.inputs.gather` returns.
    out : str
        A file ``.csv``, ``.jsonl`` or ``.json``, or ``-`` for CSV to standard output.
    probabilities : bool
        Write that of each class too.
    on_row : callable, optional
        Called with the number of rows so far.

    Returns
    -------
    dict
        Plain types: how many ``images`` were ``classified``, how many ``per_class``, how many are ``unlike`` all
        classes, or generated where there are none (None where the models cannot tell), and the ``unreadable`` with
        their reasons.

    Raises
    ------
    UserError
        Where the rows cannot be written there.
    """
    models, unreadable, done = predictor.models, [], 0
    labels: Counter[str | None] = Counter()
    unlike = 0
    with image_io.quiet(), files.open_table(out, columns(models.classes, probabilities)) as write:
        items = inputs.read(found, models.image_shape, models.scale, not NETWORKS[models.config.network].vectors)
        for done, row in enumerate(predict(models, items), 1):
            each = [None] * len(models.classes) if row.probabilities is None else row.probabilities
            write([*row[:4], row.note or None, *(each if probabilities else [])])
            labels[row.label] += 1
            unlike += row.note in (UNLIKE, GENERATED)
            if row.label is None and row.p_generated is None:
                unreadable.append({"file": row.file, "reason": row.note})
            on_row(done)
    device = next(iter(models.averaged.values())).device
    return {
        "out": out,
        "images": done,
        "classified": done - len(unreadable),
        "per_class": [{"class": name, "count": labels[name]} for name in models.classes],
        "unlike": unlike if models.G is not None else None,
        "unreadable": unreadable,
        "predictions_of": predictor.words,
        "seeds": models.seeds,
        "method": models.config.method,
        "device": str(device),
        "device_name": device_name(device),
    }

"""Classify files: read images from files, folders, patterns and arrays, and write one row for each.

The prediction is that of one model, or the mean of several that learned from the same labels.
"""

import glob
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ssgan import files
from ssgan.data import file_tree, image_io
from ssgan.data.image_io import SUFFIXES, UnreadableImage, decode
from ssgan.data.npz import open_npz
from ssgan.devices import device_name, select
from ssgan.errors import UserError
from ssgan.inference.metrics import generated_probability
from ssgan.inference.models import Models, open_latest

__all__ = [
    "UNLIKE_CLASSES",
    "InputImage",
    "InputSource",
    "Prediction",
    "Predictor",
    "choose_models",
    "find_inputs",
    "open_predictor",
    "predict",
    "read_image",
    "read_inputs",
    "write_predictions",
]


# Arrays of an .npz that do not hold images.
OTHER_ARRAYS = {"y_train", "y_test", "classes", "scale"}


class InputSource(NamedTuple):
    """A file to read, or a name with the ``reason`` why there is no file."""

    name: str
    reason: str = ""


class InputImage(NamedTuple):
    """One image of the models' shape, or None with the ``reason`` why it cannot be read."""

    name: str
    pixels: np.ndarray | None
    reason: str = ""


def find_inputs(arguments: Sequence[str], lines: Iterable[str] = ()) -> list[InputSource]:
    """List the files that the arguments name, in order.

    Parameters
    ----------
    arguments : sequence of str
        A file; a folder, for the pictures in it and its subfolders, by suffix, without hidden ones, sorted; a
        pattern of :mod:`glob` that is no file, for its matches, sorted; or ``-``, for ``lines``. What is missing or
        empty stays in the list, with the reason.
    lines : iterable of str
        Lines that name files or folders; blank ones are skipped.
    """
    sources: list[InputSource] = []
    for argument in arguments:
        if argument == "-":
            for line in lines:
                sources += _expand(line.rstrip("\r\n")) if line.strip() else []
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            matches = [_expand(name) for name in sorted(glob.glob(argument, recursive=True))]
            # A pattern such as `pictures/**` matches both a folder and the files in it.
            unique = dict.fromkeys(itertools.chain(*matches))
            sources += unique or [InputSource(argument, f"{argument} matches no file.")]
        else:
            sources += _expand(argument)
    return sources


def _expand(name: str) -> list[InputSource]:
    """List a file, or the pictures of a folder."""
    if not os.path.isdir(name):
        return [InputSource(name)]
    sources: list[InputSource] = []

    def add_error(error: OSError) -> None:
        sources.append(InputSource(str(error.filename), f"{error.filename} cannot be read ({error.strerror})."))

    for base, folders, file_names in os.walk(name, onerror=add_error):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        pictures = sorted(f for f in file_names if f.lower().endswith(tuple(SUFFIXES)) and not f.startswith("."))
        sources += [InputSource(os.path.join(base, file)) for file in pictures]
    return sources or [InputSource(name, f"{name} holds no picture ({', '.join(sorted(SUFFIXES))}).")]


def read_inputs(
    sources: Iterable[InputSource], image_shape: Sequence[int], scale: float, bounded: bool = True, depth: int = 16
) -> Iterator[InputImage]:
    """Read the images of files one by one: every row of an ``.npz`` as ``name.npz[17]``, every picture of a ``.zip``.

    Parameters
    ----------
    sources : iterable of InputSource
    image_shape : sequence of int
        Shape of one image.
    scale : float
        Full intensity. Pictures are rescaled to it; an ``.npz`` must have it.
    bounded : bool
        Whether values must lie from 0 to full intensity; otherwise they may have any finite size.
    depth : int
        Bits of full intensity in grey pictures of 16 bits.
    """
    for name, reason in sources:
        try:
            if reason:
                raise UserError(reason)
            if name.lower().endswith(".npz"):
                rows = _read_npz_images(name, tuple(image_shape), scale, bounded)
                yield from (InputImage(f"{name}[{i}]", row) for i, row in enumerate(rows))
            elif name.lower().endswith(".zip"):
                yield from _read_zip(Path(name), image_shape, scale, depth)
            else:
                yield InputImage(name, read_image(Path(name), image_shape, scale, depth))
        except UserError as mistake:
            yield InputImage(name, None, str(mistake))


def read_image(path: Path, image_shape: Sequence[int], scale: float = 255.0, depth: int = 16) -> np.ndarray:
    """Decode a picture as for training: uint8 of ``image_shape``, full intensity ``scale``.

    Parameters
    ----------
    path : Path
    image_shape : sequence of int
        [H, W] or [H, W, 1] for grey, [H, W, 3] for RGB. A square is cropped from the middle; any other shape must
        be that of the picture.
    scale : float
        The value of full intensity, which is 255 in a picture.
    depth : int
        Bits of full intensity in grey pictures of 16 bits.

    Raises
    ------
    UserError
        If there is no such file, it is no picture, or the shape is not one of pictures.
    """
    return _decode_to_shape(str(path), lambda: files.open_file(path), image_shape, scale, depth)


def _decode_to_shape(
    name: str, open_stream: Callable[[], BinaryIO], image_shape: Sequence[int], scale: float, depth: int
) -> np.ndarray:
    """Decode a picture to a shape; raise a UserError that names it if it cannot be used."""
    if len(image_shape) not in (2, 3) or (len(image_shape) == 3 and image_shape[2] not in (1, 3)):
        raise UserError(f"{name} is a picture, but the models take arrays of shape {list(image_shape)}: give an .npz.")
    height, width = image_shape[:2]
    try:
        with open_stream() as stream:
            pixels = decode(stream, height if height == width else None, grey=image_shape[2:] != (3,), depth=depth)
    except FileNotFoundError:
        raise UserError(f"There is no file {name}.") from None
    except OSError as cause:
        raise UserError(f"{name} cannot be opened ({cause.strerror}).") from None
    except UnreadableImage as reason:
        raise UserError(f"{name} {reason}.") from None
    if pixels.shape[:2] != (height, width):
        raise UserError(
            f"{name} has {pixels.shape[1]} x {pixels.shape[0]} pixels, but the models take {width} x {height}: "
            f"resize it."
        )
    if scale != 255:
        pixels = (pixels * (scale / 255)).round().astype(np.uint8)
    return pixels.reshape(tuple(image_shape))


def _read_zip(path: Path, image_shape: Sequence[int], scale: float, depth: int) -> Iterator[InputImage]:
    """Read the pictures of a zip, as ``name.zip/a/b.png``, listed and checked as for training."""
    with file_tree.open_tree(path, tuple(SUFFIXES)) as tree:
        for member in tree.pictures:
            name = f"{path}/{member}"
            try:
                open_stream = partial(tree.open, member)
                yield InputImage(name, _decode_to_shape(name, open_stream, image_shape, scale, depth))
            except UserError as mistake:
                yield InputImage(name, None, str(mistake))
        if not tree.pictures:
            raise UserError(f"{path} holds no picture ({', '.join(sorted(SUFFIXES))}).")


def _read_npz_images(name: str, image_shape: tuple[int, ...], scale: float, bounded: bool) -> np.ndarray:
    """Read the images of an ``.npz``: its only array of images, or else ``x_test`` or ``x_train``."""
    try:
        with open_npz(Path(name)) as archive:
            keys = [key for key in archive if key not in OTHER_ARRAYS]
            candidates = keys if len(keys) == 1 else [key for key in ("x_test", "x_train") if key in keys]
            x = archive[candidates[0]] if candidates else None
            full = float(archive["scale"].item()) if "scale" in archive else scale
    except UserError:
        raise
    except Exception as cause:  # a reader of arbitrary bytes can fail in any way; pickles are not loaded
        raise UserError(f"{name} cannot be read as an .npz of plain arrays ({type(cause).__name__}).") from cause
    if x is None:
        raise UserError(f"{name} holds {', '.join(keys) or 'no images'}: call the array to classify x_test.")
    kind = np.dtype(np.uint8 if len(image_shape) > 1 else np.float32)
    if x.dtype != kind or x.shape[1:] != image_shape or not len(x):
        raise UserError(
            f"{name} holds {candidates[0]}, {x.dtype} of shape {list(x.shape)}, but the models take {kind} of shape "
            f"[N, {', '.join(map(str, image_shape))}]."
        )
    if not np.isfinite(x).all():
        raise UserError(f"{name} holds values that are no finite numbers: leave their rows out.")
    if full != scale or (bounded and not (x.min() >= 0 and x.max() <= scale)):
        raise UserError(
            f"{name} holds values from {x.min():g} to {x.max():g}, full intensity {full:g}, but the models take 0 to "
            f"{scale:g}: rescale them."
        )
    return x


UNLIKE_CLASSES, GENERATED = "looks like none of the classes", "looks generated"
BATCH_IMAGES, BATCH_NUMBERS = 1000, 2**24  # limits of a batch: images, and numbers in all of them


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
        The folder of a run; where it has not finished, its last checkpoint is taken.
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
    """Choose the models that predict together, as :func:`open_predictor` does; ``run`` is what messages call them."""
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
        others = f"{len(usable)} models learned from different labels: --seed picks another"
        note = "; ".join(filter(None, (others, note)))
    return Predictor(models.select(usable[:1]), f"the model of seed {usable[0]}", note)


def predict(models: Models, images: Iterable[InputImage]) -> Iterator[Prediction]:
    """Predict each image, in order, from one pass through the models, in batches of bounded memory.

    ``probability`` is that of the class, given that the image is real, at the temperature of ``models.confidence``;
    ``p_generated`` is the probability that it is generated, None unless ``models.judges_foreign``. Both are means over
    the models. A GAN without classes gives the second alone.
    """
    rows = max(1, min(BATCH_IMAGES, BATCH_NUMBERS // math.prod(models.input_shape)))
    images = iter(images)
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


def _prediction(name: str, p_K: np.ndarray, generated: float, models: Models) -> Prediction:
    """Make the prediction of one image from its probabilities."""
    if not np.isfinite(p_K).all():
        return Prediction(name, None, None, None, f"{name} drives the model beyond finite numbers.", None)
    if models.config.unconditional:
        return Prediction(name, None, None, _round(generated), GENERATED if generated > 0.5 else "", [])
    best, says_unlike = int(p_K.argmax()), models.judges_foreign
    return Prediction(
        file=name,
        label=models.classes[best],
        probability=_round(p_K[best]),
        p_generated=_round(generated) if says_unlike else None,
        note=UNLIKE_CLASSES if says_unlike and generated > 0.5 else "",
        probabilities=[_round(p) for p in p_K],
    )


def _round(p: float) -> float:
    """Round to six significant digits, about the precision of a float32 network."""
    return float(f"{p:.6g}")


def columns(classes: Sequence[str], probabilities: bool) -> list[str]:
    """Return the column names of the rows; classes of the same name get their index."""
    names = [f"p({name})" if classes.count(name) == 1 else f"p({name} #{k})" for k, name in enumerate(classes)]
    return ["file", "class", "probability", "p_generated", "note", *(names if probabilities else [])]


def write_predictions(
    predictor: Predictor,
    sources: Sequence[InputSource],
    out: str = files.STDOUT,
    probabilities: bool = False,
    on_row: Callable[[int], None] = lambda done: None,
    on_prediction: Callable[[Prediction], None] = lambda row: None,
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

    Returns
    -------
    dict
        Plain types: the numbers of ``images``, ``classified``, ``per_class`` and ``unlike`` all classes (None for the
        reason ``silence``); the ``temperature`` or why ``uncalibrated``; the ``unreadable`` ones with their reasons.

    Raises
    ------
    UserError
        If the rows cannot be written there.
    """
    models, unreadable, done, unlike = predictor.models, [], 0, 0
    labels: Counter[str | None] = Counter()
    with image_io.ignore_warnings(), files.open_table(out, columns(models.classes, probabilities)) as write:
        depth = models.config.image_depth or 16
        images = read_inputs(sources, models.input_shape, models.input_scale, models.bounded, depth)
        for done, row in enumerate(predict(models, images), 1):
            p_K = [None] * len(models.classes) if row.probabilities is None else row.probabilities
            file = files.path_to_text(row.file)
            write([file, *row[1:4], row.note or None, *(p_K if probabilities else [])])
            labels[row.label] += 1
            unlike += row.note in (UNLIKE_CLASSES, GENERATED)
            if row.label is None and row.p_generated is None:
                unreadable.append({"file": file, "reason": row.note})
            on_prediction(row)
            on_row(done)
    device = next(iter(models.averaged.values())).device
    return {
        "out": out,
        "images": done,
        "classified": done - len(unreadable),
        "per_class": [{"class": name, "count": labels[name]} for name in models.classes],
        "unlike": unlike if models.judges_foreign else None,
        "silence": None if models.judges_foreign or models.G is None else models.confidence.silence,
        "temperature": models.confidence.temperature,
        "uncalibrated": models.confidence.uncalibrated or None,
        "unreadable": unreadable,
        "predictions_of": predictor.description,
        "seeds": models.seeds,
        "method": models.config.method,
        "device": str(device),
        "device_name": device_name(device),
    }

"""What to classify: files, folders, patterns, arrays and lists of them, as images one after the other.

What ``ssgan predict`` does: images in, one row for each, of one model or of several that vote together.
"""

import glob
import io
import itertools
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ssgan import files
from ssgan.data import file_tree, image_io
from ssgan.data.image_io import SUFFIXES, UnreadableImage, decode
from ssgan.devices import device_name, select
from ssgan.errors import UserError
from ssgan.inference.metrics import generated_probability, softmax
from ssgan.inference.models import Models, open_run
from ssgan.settings.catalog import NETWORKS

__all__ = [
    "UNLIKE",
    "InputImage",
    "InputSource",
    "Prediction",
    "Predictor",
    "find_inputs",
    "open_predictor",
    "predict",
    "prepare",
    "read_inputs",
    "read_path_list",
    "write_predictions",
]


# Arrays of an .npz that hold no images.
OTHER_ARRAYS = {"y_train", "y_test", "classes", "scale"}


class InputSource(NamedTuple):
    """A file to read; or, with a ``reason``, why there is none."""

    name: str
    reason: str = ""


class InputImage(NamedTuple):
    """One image, an array of the models' shape; or, with None for it, the ``reason`` why it cannot be read."""

    name: str
    pixels: np.ndarray | None
    reason: str = ""


def read_path_list() -> Iterator[str]:
    """The lines of standard input; names of files are not always text."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    yield from sys.stdin


def find_inputs(arguments: Sequence[str], lines: Iterable[str] = ()) -> list[InputSource]:
    """The files that arguments stand for, in their order.

    Parameters
    ----------
    arguments : sequence of str
        A file stands for itself; a folder for the pictures in it and its subfolders, by suffix and without hidden
        ones, sorted; a pattern of :mod:`glob` that is no file for what it matches, sorted. ``-`` stands for
        ``lines``. What is not there or empty stays in the list, with the reason.
    lines : iterable of str
        Lines that name files or folders; a blank one names nothing.
    """
    found: list[InputSource] = []
    for argument in arguments:
        if argument == "-":
            for line in lines:
                found += _expand(line.rstrip("\r\n")) if line.strip() else []
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            matches = [_expand(name) for name in sorted(glob.glob(argument, recursive=True))]
            # Of a pattern such as `pictures/**` both a folder and the files in it are matches.
            found += dict.fromkeys(itertools.chain(*matches)) or [InputSource(argument, f"{argument} matches no file.")]
        else:
            found += _expand(argument)
    return found


def _expand(name: str) -> list[InputSource]:
    if not os.path.isdir(name):
        return [InputSource(name)]
    found: list[InputSource] = []

    def fail(error: OSError) -> None:
        found.append(InputSource(str(error.filename), f"{error.filename} cannot be read ({error.strerror})."))

    for base, folders, file_names in os.walk(name, onerror=fail):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        pictures = sorted(f for f in file_names if f.lower().endswith(tuple(SUFFIXES)) and not f.startswith("."))
        found += [InputSource(os.path.join(base, file)) for file in pictures]
    return found or [InputSource(name, f"{name} holds no picture ({', '.join(sorted(SUFFIXES))}).")]


def read_inputs(
    found: Iterable[InputSource], image_shape: Sequence[int], scale: float, bounded: bool = True
) -> Iterator[InputImage]:
    """The images of files, one by one; of an ``.npz`` every row, as ``name.npz[17]``, of a ``.zip`` every picture.

    Parameters
    ----------
    found : iterable of Found
    image_shape : sequence of int
        Of one image.
    scale : float
        Full intensity. Pictures are brought to it; an ``.npz`` must have it.
    bounded : bool
        Whether numbers lie from 0 to full intensity, and are not of any finite size.
    """
    for name, reason in found:
        try:
            if reason:
                raise UserError(reason)
            if name.lower().endswith(".npz"):
                rows = _rows(name, tuple(image_shape), scale, bounded)
                yield from (InputImage(f"{name}[{i}]", row) for i, row in enumerate(rows))
            elif name.lower().endswith(".zip"):
                yield from _members(Path(name), image_shape, scale)
            else:
                yield InputImage(name, prepare(Path(name), image_shape, scale))
        except UserError as mistake:
            yield InputImage(name, None, str(mistake))


def prepare(path: Path, image_shape: Sequence[int], scale: float = 255.0) -> np.ndarray:
    """Decode a picture as those of a training are: uint8 of ``image_shape``, full intensity ``scale``.

    Parameters
    ----------
    path : Path
    image_shape : sequence of int
        [H, W] or [H, W, 1] for grey, [H, W, 3] for RGB. A square one is cut out of the middle; a picture must have
        any other by itself.
    scale : float
        The value that stands for full intensity, where a picture has 255.

    Raises
    ------
    UserError
        Where the file is not there or no picture, or the shape is not one of pictures.
    """
    return _prepared(str(path), lambda: path.open("rb"), image_shape, scale)


def _prepared(name: str, opened: Callable[[], BinaryIO], image_shape: Sequence[int], scale: float) -> np.ndarray:
    if len(image_shape) not in (2, 3) or (len(image_shape) == 3 and image_shape[2] not in (1, 3)):
        raise UserError(f"{name} is a picture, but the models take arrays of shape {list(image_shape)}: give an .npz.")
    height, width = image_shape[:2]
    try:
        with opened() as stream:
            pixels = decode(stream, height if height == width else None, grey=image_shape[2:] != (3,))
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


def _members(path: Path, image_shape: Sequence[int], scale: float) -> Iterator[InputImage]:
    """The pictures of a zip, as ``name.zip/a/b.png``, found and guarded as those of a training are."""
    with file_tree.open_tree(path, tuple(SUFFIXES)) as tree:
        for member in tree.pictures:
            name = f"{path}/{member}"
            try:
                yield InputImage(name, _prepared(name, partial(_unpacked, tree, member), image_shape, scale))
            except UserError as mistake:
                yield InputImage(name, None, str(mistake))
        if not tree.pictures:
            raise UserError(f"{path} holds no picture ({', '.join(sorted(SUFFIXES))}).")


def _unpacked(tree: file_tree.FileTree, member: str) -> BinaryIO:
    try:
        return tree.open(member)
    except Exception as cause:  # a reader of arbitrary bytes can fail in any way
        raise UnreadableImage(f"cannot be unpacked ({type(cause).__name__})") from cause


def _rows(name: str, image_shape: tuple[int, ...], scale: float, bounded: bool) -> np.ndarray:
    """The images of an ``.npz``: ``x_test``, else ``x_train``, else the only array that can be meant."""
    try:
        with np.load(name, allow_pickle=False) as archive:
            images = [key for key in archive.files if key not in OTHER_ARRAYS]
            meant = images if len(images) == 1 else [key for key in ("x_test", "x_train") if key in images]
            x = archive[meant[0]] if meant else None
            full = float(archive["scale"].item()) if "scale" in archive.files else scale
    except FileNotFoundError:
        raise UserError(f"There is no file {name}.") from None
    except Exception as cause:  # a reader of arbitrary bytes can fail in any way; pickles are not loaded
        raise UserError(f"{name} cannot be read as an .npz of plain arrays ({type(cause).__name__}).") from cause
    if x is None:
        raise UserError(f"{name} holds {', '.join(images) or 'no images'}: call the array to classify x_test.")
    kind = np.dtype(np.uint8 if len(image_shape) > 1 else np.float32)
    if x.dtype != kind or x.shape[1:] != image_shape or not len(x):
        raise UserError(
            f"{name} holds {meant[0]}, {x.dtype} of shape {list(x.shape)}, but the models take {kind} of shape "
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


UNLIKE, GENERATED = "looks like none of the classes", "looks generated"
SAME_LABELS = ", which learned from the same labels"
# Memory for a batch: so many images, and no more than so many numbers.
BATCH_IMAGES, BATCH_NUMBERS = 1000, 2**24


class Predictor(NamedTuple):
    """The models whose probabilities are averaged; who they are, and what else is worth knowing, in words."""

    models: Models
    words: str
    aside: str = ""


class Prediction(NamedTuple):
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
        return Predictor(models.select([seed]), f"the model of seed {seed}")
    aside = f"left out, because diverged: seed {', '.join(map(str, sorted(diverged)))}" if diverged else ""
    if len(left) == 1:
        return Predictor(models.select(left), f"the model of seed {left[0]}", aside)
    if len(set(models.split_sha256)) == 1:
        return Predictor(
            models.select(left),
            f"the mean of {len(left)} models{'' if models.config.unconditional else SAME_LABELS}",
            aside,
        )
    others = f"{len(left)} models learned from different labels: --seed picks another"
    return Predictor(models.select(left[:1]), f"the model of seed {left[0]}", "; ".join(filter(None, (others, aside))))


def predict(models: Models, items: Iterable[InputImage]) -> Iterator[Prediction]:
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
                yield Prediction(item.name, None, None, None, item.reason, None)
            else:
                yield _row(item.name, *next(found), models)


def _row(name: str, p_K: np.ndarray, generated: float, models: Models) -> Prediction:
    if not np.isfinite(p_K).all():
        return Prediction(name, None, None, None, f"{name} drives the model beyond finite numbers.", None)
    if models.config.unconditional:
        return Prediction(name, None, None, _short(generated), GENERATED if generated > 0.5 else "", [])
    best, judges = int(p_K.argmax()), models.G is not None
    return Prediction(
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
    found: Sequence[InputSource],
    out: str = files.STDOUT,
    probabilities: bool = False,
    on_row: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Classify files and write a row for each.

    Parameters
    ----------
    predictor : Predictor
    found : sequence of Found
        What :func:`ssgan.inference.predict.find_inputs` returns.
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
    with image_io.ignore_warnings(), files.open_table(out, columns(models.classes, probabilities)) as write:
        items = read_inputs(found, models.image_shape, models.scale, not NETWORKS[models.config.network].vectors)
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

"""Draw pictures of generated images from a run, with numbers about them."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS, load
from ssgan.data.image_array import ReadProgress
from ssgan.devices import select
from ssgan.errors import UserError
from ssgan.figures import curves, image_grid
from ssgan.figures.fonts import legible
from ssgan.figures.image_grid import Tile, draw_grid, draw_table, to_uint8
from ssgan.files import open_atomic
from ssgan.inference import latents
from ssgan.inference.features import apply_backbone
from ssgan.inference.metrics import nearest_neighbors, softmax
from ssgan.inference.models import Models, open_checkpoint
from ssgan.nn.registry import NETWORK_PAIRS
from ssgan.nn.stack import finite_seeds
from ssgan.settings.catalog import is_picture_shape
from ssgan.settings.config import Config

__all__ = ["Request", "class_histogram", "sample_run"]


# The latents around a sum: their distance in standard deviations of the latents, and the seed of their noise.
NEIGHBOUR_SCALE, NEIGHBOUR_SEED = 1.0, 2**32
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Request:
    """One picture to make of a run.

    Attributes
    ----------
    kind : str
        ``grid``, ``interpolate``, ``arithmetic``, ``nearest``, ``per-class`` or ``animate``.
    out : Path
    rows, columns : int
        Tiles of the picture; for ``interpolate`` pairs and steps, for ``nearest`` samples and their neighbours. For a
        grid, 0 means the ``grid_side`` of the run.
    samples : int
        Generated images that are measured.
    seed : int or None
        Seed of the noise; None: the run's first.
    model : int or None
        Seed of the model; None: the first that did not diverge.
    path : str or None
        One of :data:`ssgan.inference.latents.PATHS`; None: by the distribution of the latents.
    terms : list of (sign, indices)
        Terms of latent arithmetic.
    numbered : bool
    data : str or None
        New location of the run's data.
    data_dir : Path or None
    """

    kind: str
    out: Path
    rows: int = 0
    columns: int = 0
    samples: int = 0
    seed: int | None = None
    model: int | None = None
    path: str | None = None
    terms: tuple[tuple[int, tuple[int, ...]], ...] = ()
    numbered: bool = False
    data: str | None = None
    data_dir: Path | None = None


class ImageSource(NamedTuple):
    """One model, and the seed of the fixed noise from which it generates images."""

    models: Models
    seed: int

    @property
    def distribution(self) -> str:
        """Distribution of the latents."""
        return self.models.config.latent_distribution

    def noise(self, count: int) -> torch.Tensor:
        """Draw latents [count, latent_size]."""
        return self.models.noise(count, self.seed)

    def images(self, z: torch.Tensor) -> np.ndarray:
        """Generate images [N, ...] in [0, 1] from latents [N, latent_size]."""
        images: np.ndarray = self.models.generate(z, self.seed)[0]
        return images


class Drawing(NamedTuple):
    """A function that writes a picture to a stream, and the numbers that belong to the picture."""

    save: Callable[[BinaryIO], None]
    numbers: dict[str, Any]


def sample_run(
    run: Path, request: Request, device: str = "auto", progress: ReadProgress | None = None
) -> dict[str, Any]:
    """Draw the requested picture from the last checkpoint of a run, finished or not.

    Parameters
    ----------
    run : Path
    request : Request
    device : str
    progress : callable, optional
        As in :func:`ssgan.data.load`.

    Returns
    -------
    dict
        Plain types: ``run``, ``kind``, ``out``; except for animations, ``images``, the number that training had
        seen, ``model`` and ``seed``; and the numbers of the kind.

    Raises
    ------
    UserError
        If the run has nothing to draw it from, or the file cannot be written.
    """
    config = runs.read_config(run)
    check_generator(run, config)
    if config.unconditional and request.kind == "per-class":
        raise UserError(f"{run} is a GAN without classes (labels is 0), so --per-class has none to sort by: omit it.")
    if request.kind == "grid":
        rows, columns = request.rows or config.grid_side, request.columns or config.grid_side
        request = dataclasses.replace(request, rows=rows, columns=columns)
    summary: dict[str, Any] = {"run": str(run), "kind": request.kind, "out": str(request.out)}
    if request.kind == "animate":
        result = _animation(run, request)
    else:
        models, state = open_checkpoint(run, select(device))
        if models.feature_map is not None and request.kind != "nearest":
            raise UserError(
                f"{run} generates features of {models.config.backbone}, not pictures: --nearest shows the pictures "
                f"nearest to them."
            )
        if models.feature_map is None and not is_picture_shape(models.image_shape):
            if (run / curves.DENSITY_PICTURE).exists():
                raise UserError(
                    f"{run} generates numbers, not pictures: {run / curves.DENSITY_PICTURE} shows their density."
                )
            shape = "x".join(map(str, models.image_shape))
            raise UserError(
                f"The images of {run} are arrays of {shape} numbers, which are not grey or colour pictures."
            )
        source = ImageSource(
            _select_model(models, request.model, run), config.seed if request.seed is None else request.seed
        )
        summary |= {"images": state["steps_done"] * config.images_per_step}
        summary |= {"model": source.models.seeds[0], "seed": source.seed}
        if request.kind == "nearest":
            result = _nearest(source, request, _training_data(run, state, config, request, progress))
        else:
            result = _KINDS[request.kind](source, request)
    try:
        with open_atomic(request.out) as stream:
            result.save(stream)
    except OSError as cause:
        raise UserError(
            f"{request.out} cannot be written ({cause.strerror}): choose another file with --out."
        ) from None
    return {**summary, **result.numbers}


def check_generator(run: Path, config: Config) -> None:
    """Raise a UserError for a run that trains no generator; the message says how to get one."""
    if config.trains_generator:
        return
    if config.method != "gan":
        why, how = f"its method is {config.method}", "train with --method gan"
    else:
        why, how = "its weight_fake is 0", "train with --set weight_fake=0.5 --set weight_unlabeled=0.5"
    raise UserError(f"{run} has no generator to sample from, because {why}: {how}.")


def class_histogram(p_NK: np.ndarray) -> dict[str, Any]:
    """Count generated images by their most probable class, from class probabilities [N, K].

    Returns
    -------
    dict
        ``counts`` [K] and ``shares`` [K] of the images by most probable class, the ``entropy`` of the shares in nats,
        and its largest value ``log K`` as ``entropy_even``.
    """
    K = p_NK.shape[1]
    counts = np.bincount(p_NK.argmax(axis=1), minlength=K)
    shares = counts / len(p_NK)
    positive = shares[shares > 0]
    return {
        "counts": counts.tolist(),
        "shares": shares.tolist(),
        "entropy": max(0.0, float(-(positive * np.log(positive)).sum())),
        "entropy_even": float(np.log(K)),
    }


def _grid(source: ImageSource, request: Request) -> Drawing:
    """Draw images of the fixed noise as a grid, with their numbers if requested."""
    tiles = to_uint8(source.images(source.noise(request.rows * request.columns)))
    if not request.numbered:
        return _png(draw_grid(tiles, request.columns), {"rows": request.rows, "columns": request.columns})
    cells = _split_rows([*tiles], request.columns)
    captions = _split_rows([*map(str, range(len(tiles)))], request.columns)
    return _png(draw_table(cells, captions), {"rows": request.rows, "columns": request.columns})


def _interpolation(source: ImageSource, request: Request) -> Drawing:
    """Draw row by row the images between latent 2i and latent 2i + 1 of the noise."""
    path = request.path or latents.default_path(source.distribution)
    z = source.noise(2 * request.rows)
    points = [
        latents.interpolate(a, b, request.columns, path, source.distribution)
        for a, b in zip(z[::2], z[1::2], strict=True)
    ]
    images = source.images(torch.cat(points))
    steps = images.reshape(request.rows, request.columns, -1)
    numbers = {
        "path": path,
        "latent_distribution": source.distribution,
        "pairs": [[2 * i, 2 * i + 1] for i in range(request.rows)],
        "columns": request.columns,
        "step_distance": float(np.linalg.norm(np.diff(steps, axis=1), axis=2).mean()),
        "end_distance": float(np.linalg.norm(steps[:, -1] - steps[:, 0], axis=1).mean()),
    }
    return _png(draw_grid(to_uint8(images), request.columns), numbers)


def _arithmetic(source: ImageSource, request: Request) -> Drawing:
    """Draw each term as a row of operands and their mean, and beside them the sum among images of latents around it."""
    count = 1 + max(index for _, rows in request.terms for index in rows)
    z = source.noise(count)
    total, means, clipped = latents.combine(z, request.terms, source.distribution)
    around = latents.perturb(total, 8, source.distribution, NEIGHBOUR_SCALE, NEIGHBOUR_SEED + source.seed)
    images = source.images(torch.cat([torch.stack(means), total[None], around]))
    mean_tiles, sum_tiles = to_uint8(images[: len(means)]), to_uint8(images[len(means) :])
    operands = to_uint8(source.images(z))
    tiles = [*sum_tiles[1:5], sum_tiles[0], *sum_tiles[5:]]  # the sum in the middle of 3x3
    longest, height = max(len(rows) for _, rows in request.terms), max(3, len(request.terms))
    cells: list[list[Tile]] = []
    captions = []
    top = (height - 3) // 2
    for k in range(height):
        row: list[Tile] = [None] * (longest + 3)
        words = [""] * len(row)
        if k < len(request.terms):
            sign, rows = request.terms[k]
            row[0] = MINUS if sign < 0 else "+" if k else ""
            row[1 : len(rows) + 1] = list(operands[list(rows)])
            row[longest + 1 :] = ["\N{RIGHTWARDS ARROW}", mean_tiles[k]]
            words[1 : len(rows) + 1] = map(str, rows)
            words[-1] = "mean"
        inside = 0 <= k - top < 3
        row += [" = " if k - top == 1 else ""]
        row += [*tiles[3 * (k - top) : 3 * (k - top) + 3]] if inside else [None] * 3
        words += ["", "", "result" if k - top == 1 else "", ""]
        cells.append(row)
        captions.append(words)
    numbers = {
        "terms": [["-" if sign < 0 else "+", list(rows)] for sign, rows in request.terms],
        "clipped": clipped,
        "neighbour_reach": NEIGHBOUR_SCALE,
    }
    return _png(draw_table(cells, captions), numbers)


def _nearest(source: ImageSource, request: Request, data: Data) -> Drawing:
    """Draw each sample beside the nearest images of the pool, and measure the distances of test images as well.

    A sample of features is shown as its number, beside the pictures with the nearest features.
    """
    feature_map = source.models.feature_map
    if feature_map is not None:
        data = apply_backbone(data, source.models.config, feature_map=feature_map, device=str(source.models.device))
    samples = source.images(source.noise(max(request.samples, request.rows)))
    row_count, neighbours = min(request.rows, len(samples)), min(request.columns, len(data.x_train))
    rows_NR, distances_NR = nearest_neighbors(samples, data.x_train, data.scale, neighbours)
    # As many test images, evenly spaced from the first to the last.
    test_rows = np.unique(np.linspace(0, len(data.x_test) - 1, request.samples).astype(int))[: len(data.x_test)]
    x_test = data.x_test[test_rows]
    test_distances = nearest_neighbors(x_test / data.scale, data.x_train, data.scale)[1][:, 0] if len(x_test) else None
    pool = to_uint8(data.source.x_train[rows_NR[:row_count]] / data.source.scale)
    tiles: Sequence[Tile] = [""] * row_count if feature_map is not None else [*to_uint8(samples[:row_count])]
    cells: list[list[Tile]] = [["sample", "", "nearest", *[""] * (neighbours - 1)]]
    cells += [[tiles[i], "  ", *pool[i]] for i in range(row_count)]
    captions = [[""] * (neighbours + 2)]
    captions += [[str(i), "", *(f"{d:.2f}" for d in distances_NR[i])] for i in range(row_count)]
    numbers = {
        "dataset": data.name,
        "features": feature_map is not None,
        "pool_images": len(data.x_train),
        "sample_distances": _distance_summary(distances_NR[: request.samples, 0]),
        "test_distances": None if test_distances is None else _distance_summary(test_distances),
        "neighbours": [
            {"sample": i, "rows": rows_NR[i].tolist(), "distances": distances_NR[i].tolist()} for i in range(row_count)
        ],
    }
    return _png(draw_table(cells, captions), numbers)


def _per_class(source: ImageSource, request: Request) -> Drawing:
    """Draw a row for each class: the samples of this class by D, the most probable first."""
    models, images = source.models, source.images(source.noise(request.samples))
    p_NK = _probabilities(models, images)
    predicted, tiles, cells = p_NK.argmax(axis=1), to_uint8(images), []
    for k, name in enumerate(legible(models.classes)):
        rows = np.flatnonzero(predicted == k)
        best = rows[np.argsort(-p_NK[rows, k], kind="stable")][: request.columns]
        share = f"{100 * (predicted == k).mean():.1f} %"
        cells.append([f" {name} ", f" {share} ", *tiles[best], *[None] * (request.columns - len(best))])
    numbers = {"samples": request.samples, "classes": list(models.classes), **class_histogram(p_NK)}
    return _png(draw_table(cells), numbers)


def _animation(run: Path, request: Request) -> Drawing:
    """Join the frames of a run to an animation."""
    frames = image_grid.read_frames(run)
    if not frames:
        raise UserError(
            f"{run} has no frames to animate: train with --set frames_every_images=N, which draws one after every N "
            f"images of training."
        )
    numbers = {"frames": len(frames), "images": [*frames]}
    return Drawing(image_grid.animate(frames, request.out.suffix.lower()), numbers)


_KINDS = {"grid": _grid, "interpolate": _interpolation, "arithmetic": _arithmetic, "per-class": _per_class}


def _png(image: Image.Image, numbers: dict[str, Any]) -> Drawing:
    """Return a result that writes an image as PNG."""
    return Drawing(lambda stream: image.save(stream, format="png"), numbers)


def _split_rows(cells: list[Any], columns: int) -> list[list[Any]]:
    """Split a list into rows."""
    return [cells[start : start + columns] for start in range(0, len(cells), columns)]


def _distance_summary(distances: np.ndarray) -> dict[str, Any]:
    """Summarise the distances of images to their nearest ones."""
    return {"images": len(distances), "median": float(np.median(distances)), "least": float(distances.min())}


def _probabilities(models: Models, images: np.ndarray) -> np.ndarray:
    """Compute the class probabilities [N, K] of images [N, ...] in [0, 1] by the averaged D of one model."""
    like = next(iter(models.averaged.values()))
    x = NETWORK_PAIRS[models.config.network].from_unit(torch.from_numpy(images).to(like))
    return softmax(models.judge(x)[0].cpu().double().numpy())


def _select_model(models: Models, seed: int | None, run: Path) -> Models:
    """Select the model of a seed, or the first one with finite weights."""
    assert models.G is not None
    G_finite = finite_seeds(models.G.parameters.values()).tolist()
    usable = [s for s, g, d in zip(models.seeds, G_finite, models.finite, strict=True) if g and d]
    if not usable:
        raise UserError(f"Every model of {run} diverged, so there is none to sample from.")
    if seed is None:
        return models.select(usable[:1])
    if seed not in usable:
        what = "diverged" if seed in models.seeds else "is not there"
        raise UserError(f"The model of seed {seed} of {run} {what}: choose from {', '.join(map(str, usable))}.")
    return models.select([seed])


def _training_data(
    run: Path, state: dict[str, Any], config: Config, request: Request, progress: ReadProgress | None
) -> Data:
    """Load the data that the run was trained on, from the location in its report or in the request."""
    saved = state["dataset"]
    if (run / "report.json").exists():
        report = runs.read_report(run)
    elif request.data is not None or saved["name"] in DATASETS:
        report = {"dataset": saved["name"]}
    else:
        raise runs.unknown_data(run)
    name, root, options = runs.data_source(run, report, config, request.data_dir, request.data)
    data = load(name, root, options, progress)
    if data.sha256 != saved["sha256"]:
        raise UserError(f"{data.name} does not match {saved['name']} as it was when {run} was trained.")
    return data

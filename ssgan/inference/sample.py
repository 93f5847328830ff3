"""What ``ssgan sample`` makes: a run in, a picture in a file and plain numbers out."""

from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS, load
from ssgan.data.image_array import ReadProgress
from ssgan.devices import select
from ssgan.errors import UserError
from ssgan.figures import curves, image_grid
from ssgan.figures.image_grid import Tile, drawable, grid, pixels, sheet
from ssgan.files import open_atomic
from ssgan.inference import latents
from ssgan.inference.metrics import nearest, softmax
from ssgan.inference.models import Models, open_checkpoint
from ssgan.nn.registry import MODELS
from ssgan.settings.config import Config

__all__ = ["Request", "class_histogram", "sample_run"]


# The neighbours of a sum: how far away, in standard deviations of the noise, and their own noise.
REACH, NEIGHBOUR_SEED = 1.0, 2**32
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
        Tiles of the picture; for ``interpolate`` pairs and steps, for ``nearest`` samples and their neighbours.
    samples : int
        Generated images that are measured.
    seed : int or None
        Of the noise; None: the run's first.
    model : int or None
        Seed of the model; None: the first that did not diverge.
    path : str or None
        Of :data:`ssgan.inference.latents.PATHS`; None: by the latents.
    terms : list of (sign, indices)
        Of an arithmetic.
    numbered : bool
    data : str or None
        Where the run's data lie now.
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


class Source(NamedTuple):
    """One model, and the fixed noise that its images are made of."""

    models: Models
    seed: int

    @property
    def distribution(self) -> str:
        """Of the latents."""
        return self.models.config.latent_distribution

    def noise(self, count: int) -> torch.Tensor:
        """Latents [count, latent_size]."""
        return self.models.noise(count, self.seed)

    def images(self, z: torch.Tensor) -> np.ndarray:
        """Images [N, ...] in [0, 1] of latents [N, latent_size]."""
        images: np.ndarray = self.models.generate(z, self.seed)[0]
        return images


class Made(NamedTuple):
    """A picture, or what writes one, and what it says in numbers."""

    save: Any
    numbers: dict[str, Any]


def sample_run(
    run: Path, request: Request, device: str = "auto", progress: ReadProgress | None = None
) -> dict[str, Any]:
    """Make the picture that was asked for from the last checkpoint of a run, finished or not.

    Parameters
    ----------
    run : Path
    request : Request
    device : str
    progress : callable, optional
        As :func:`ssgan.data.load` takes it.

    Returns
    -------
    dict
        Plain types: ``run``, ``kind``, ``out``; ``images``, how many training had seen, with ``model`` and ``seed``
        where there is one of each; and the numbers of the kind.

    Raises
    ------
    UserError
        Where the run has nothing to make it from, or the file cannot be written.
    """
    config = runs.read_config(run)
    check_generator(run, config)
    if config.unconditional and request.kind == "per-class":
        raise UserError(
            f"{run} is a GAN without classes (labels is 0), so --per-class has none to sort by: leave it away."
        )
    head: dict[str, Any] = {"run": str(run), "kind": request.kind, "out": str(request.out)}
    if request.kind == "animate":
        made = _animation(run, request)
    else:
        models, state = open_checkpoint(run, select(device))
        if not drawable(models.image_shape):
            if (run / curves.DENSITY_PICTURE).exists():
                raise UserError(
                    f"{run} generates numbers, not pictures: {run / curves.DENSITY_PICTURE} shows their density."
                )
            shape = "x".join(map(str, models.image_shape))
            raise UserError(f"The images of {run} are arrays of {shape} numbers, which are no grey or colour pictures.")
        source = Source(_one(models, request.model, run), config.seed if request.seed is None else request.seed)
        head |= {"images": state["steps_done"] * config.images_per_step}
        head |= {"model": source.models.seeds[0], "seed": source.seed}
        if request.kind == "nearest":
            made = _nearest(source, request, _data(run, state, config, request, progress))
        else:
            made = _KINDS[request.kind](source, request)
    try:
        with open_atomic(request.out) as stream:
            made.save(stream)
    except OSError as cause:
        raise UserError(
            f"{request.out} cannot be written ({cause.strerror}): choose another file with --out."
        ) from None
    return {**head, **made.numbers}


def check_generator(run: Path, config: Config) -> None:
    """Refuse a run that trains no generator, and say how to get one."""
    if config.trains_generator:
        return
    if config.method != "gan":
        why, how = f"its method is {config.method}", "train with --method gan"
    else:
        why, how = "its weight_fake is 0", "train with --set weight_fake=0.5 --set weight_unlabeled=0.5"
    raise UserError(f"{run} has no generator to sample from, because {why}: {how}.")


def class_histogram(p_NK: np.ndarray) -> dict[str, Any]:
    """How class probabilities [N, K] of generated images spread over the classes.

    Returns
    -------
    dict
        ``counts`` [K] of the images whose most probable class it is, ``shares`` [K] of them, their ``entropy`` in
        nats, and the largest that it can be, ``log K``, as ``entropy_even``.
    """
    K = p_NK.shape[1]
    counts = np.bincount(p_NK.argmax(axis=1), minlength=K)
    shares = counts / len(p_NK)
    some = shares[shares > 0]
    return {
        "counts": counts.tolist(),
        "shares": shares.tolist(),
        "entropy": max(0.0, float(-(some * np.log(some)).sum())),
        "entropy_even": float(np.log(K)),
    }


def _grid(source: Source, request: Request) -> Made:
    tiles = pixels(source.images(source.noise(request.rows * request.columns)))
    if not request.numbered:
        return _picture(grid(tiles, request.columns), {"rows": request.rows, "columns": request.columns})
    cells, captions = _table([*tiles], request.columns), _table([*map(str, range(len(tiles)))], request.columns)
    return _picture(sheet(cells, captions), {"rows": request.rows, "columns": request.columns})


def _interpolation(source: Source, request: Request) -> Made:
    """Row by row, the way from latent 2i to latent 2i + 1 of the noise."""
    path = request.path or latents.default_path(source.distribution)
    z = source.noise(2 * request.rows)
    ways = [latents.way(a, b, request.columns, path, source.distribution) for a, b in zip(z[::2], z[1::2], strict=True)]
    images = source.images(torch.cat(ways))
    steps = images.reshape(request.rows, request.columns, -1)
    numbers = {
        "path": path,
        "latent_distribution": source.distribution,
        "pairs": [[2 * i, 2 * i + 1] for i in range(request.rows)],
        "columns": request.columns,
        "step_distance": float(np.linalg.norm(np.diff(steps, axis=1), axis=2).mean()),
        "end_distance": float(np.linalg.norm(steps[:, -1] - steps[:, 0], axis=1).mean()),
    }
    return _picture(grid(pixels(images), request.columns), numbers)


def _arithmetic(source: Source, request: Request) -> Made:
    """Term by term in rows: operands, their mean; beside them the image of the sum amid those of latents around it."""
    count = 1 + max(index for _, rows in request.terms for index in rows)
    z = source.noise(count)
    total, means, clipped = latents.combine(z, request.terms, source.distribution)
    around = latents.nearby(total, 8, source.distribution, REACH, NEIGHBOUR_SEED + source.seed)
    images = source.images(torch.cat([torch.stack(means), total[None], around]))
    of_means, result = pixels(images[: len(means)]), pixels(images[len(means) :])
    operands = pixels(source.images(z))
    tiles = [*result[1:5], result[0], *result[5:]]
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
            row[longest + 1 :] = ["\N{RIGHTWARDS ARROW}", of_means[k]]
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
        "neighbour_reach": REACH,
    }
    return _picture(sheet(cells, captions), numbers)


def _nearest(source: Source, request: Request, data: Data) -> Made:
    """Each sample beside the nearest images of the pool, with distances; and how far away test images are."""
    samples = source.images(source.noise(max(request.samples, request.rows)))
    shown, kept = min(request.rows, len(samples)), min(request.columns, len(data.x_train))
    rows_NR, distances_NR = nearest(samples, data.x_train, data.scale, kept)
    # As many test images, evenly from the first to the last.
    held_out = data.x_test[
        np.unique(np.linspace(0, len(data.x_test) - 1, request.samples).astype(int))[: len(data.x_test)]
    ]
    of_test = nearest(held_out / data.scale, data.x_train, data.scale)[1][:, 0] if len(held_out) else None
    pool = pixels(data.x_train[rows_NR[:shown]] / data.scale)
    tiles = pixels(samples)
    cells: list[list[Tile]] = [["sample", "", "nearest", *[""] * (kept - 1)]]
    cells += [[tiles[i], "  ", *pool[i]] for i in range(shown)]
    captions = [[""] * (kept + 2)]
    captions += [[str(i), "", *(f"{d:.2f}" for d in distances_NR[i])] for i in range(shown)]
    numbers = {
        "dataset": data.name,
        "pool_images": len(data.x_train),
        "sample_distances": _spread(distances_NR[: request.samples, 0]),
        "test_distances": None if of_test is None else _spread(of_test),
        "neighbours": [
            {"sample": i, "rows": rows_NR[i].tolist(), "distances": distances_NR[i].tolist()} for i in range(shown)
        ],
    }
    return _picture(sheet(cells, captions), numbers)


def _per_class(source: Source, request: Request) -> Made:
    """A row for each class: the samples that D is surest of, of those that it gives this class."""
    models, images = source.models, source.images(source.noise(request.samples))
    p_NK = _probabilities(models, images)
    found, tiles, cells = p_NK.argmax(axis=1), pixels(images), []
    for k, name in enumerate(models.classes):
        own = np.flatnonzero(found == k)
        best = own[np.argsort(-p_NK[own, k], kind="stable")][: request.columns]
        share = f"{100 * (found == k).mean():.1f} %"
        cells.append([f" {name} ", f" {share} ", *tiles[best], *[None] * (request.columns - len(best))])
    numbers = {"samples": request.samples, "classes": list(models.classes), **class_histogram(p_NK)}
    return _picture(sheet(cells), numbers)


def _animation(run: Path, request: Request) -> Made:
    found = image_grid.read_frames(run)
    if not found:
        raise UserError(
            f"{run} has no frames to animate: train with --set frames_every_images=N, which draws one after every N "
            f"images of training."
        )
    return Made(image_grid.animate(found, request.out.suffix.lower()), {"frames": len(found), "images": [*found]})


_KINDS = {"grid": _grid, "interpolate": _interpolation, "arithmetic": _arithmetic, "per-class": _per_class}


def _picture(image: Any, numbers: dict[str, Any]) -> Made:
    return Made(lambda stream: image.save(stream, format="png"), numbers)


def _table(cells: list[Any], columns: int) -> list[list[Any]]:
    return [cells[start : start + columns] for start in range(0, len(cells), columns)]


def _spread(distances: np.ndarray) -> dict[str, Any]:
    return {"images": len(distances), "median": float(np.median(distances)), "least": float(distances.min())}


def _probabilities(models: Models, images: np.ndarray) -> np.ndarray:
    """What the averaged D of one model says of images [N, ...] in [0, 1], [N, K]."""
    like = next(iter(models.averaged.values()))
    x = MODELS[models.config.network].from_unit(torch.from_numpy(images).to(like))
    logits_NK = models.D.evaluate(x, models.averaged, pick=itemgetter(0))[0]
    return softmax(logits_NK.cpu().double().numpy())


def _one(models: Models, seed: int | None, run: Path) -> Models:
    """The model of that seed, or the first; one whose weights are not finite has nothing to show."""
    assert models.G is not None
    weights = torch.stack([v.isfinite().flatten(1).all(dim=1) for v in models.G.parameters.values()]).all(dim=0)
    fine = [s for s, g, d in zip(models.seeds, weights.tolist(), models.finite, strict=True) if g and d]
    if not fine:
        raise UserError(f"Every model of {run} diverged, so there is none to sample from.")
    if seed is None:
        return models.only(fine[:1])
    if seed not in fine:
        what = "diverged" if seed in models.seeds else "is not there"
        raise UserError(f"The model of seed {seed} of {run} {what}: choose from {', '.join(map(str, fine))}.")
    return models.only([seed])


def _data(run: Path, state: dict[str, Any], config: Config, request: Request, progress: ReadProgress | None) -> Data:
    """The data that the run was trained on, where its report says or the user does."""
    saved = state["dataset"]
    if (run / "report.json").exists():
        report = runs.read_report(run)
    elif request.data is not None or saved["name"] in DATASETS:
        report = {"dataset": saved["name"]}
    else:
        raise UserError(f"{run} did not finish, so it does not say where its data lie: say so with --data.")
    name, root, options = runs.source_of(report, config, request.data_dir)
    data = load(request.data or name, root, options, progress)
    if data.sha256 != saved["sha256"]:
        raise UserError(f"{data.name} does not hold what {saved['name']} held when {run} was trained.")
    return data

#!/usr/bin/env python3
"""Train on data sets like a user's own pictures: `scripts/experiments/own_pictures.py --fonts FOLDER`.

Four sets at 32 pixels are used to choose the views and whether the preset `images` has a generator:

* `letters`: ten capitals, dark on light, in the fonts below FOLDER, distorted. The test set has other fonts.
* `cells`: grey pictures of six kinds of cells under a microscope. They are synthetic, drawn by this program.
* `trashnet`: photographs; `trashnet.zip` is in the folder of data.
* `cifar10`: photographs, a part of the training images; its test images are not used.

The draws of labels start at seed 1000, and no test set here is used for a published result. A training without a
generator sees more images, so that both take equal CPU time; `--measure` trains on few images and prints the seconds.
Rows are added to `results/rows/own-pictures.jsonl`, with the CPU seconds of each training. Existing rows are not
trained again.
"""

import argparse
import dataclasses
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import results
from ssgan import Data, Options, load, runs
from ssgan.cli import terminal
from ssgan.data import views
from ssgan.errors import UserError
from ssgan.settings.presets import NO_GENERATOR, resolve

SIDE = 32
LETTERS = "ABCDEFGHIJ"
CELLS = ("round", "bilobed", "segmented", "elongated", "granular", "ring")
SETS = ("letters", "cells", "trashnet", "cifar10")
LABELS = {"letters": 60, "cells": 60, "trashnet": 60, "cifar10": 250}
POOL, TEST = 3_000, 1_000
FIRST_DRAW, DRAWS = 1_000, 5
HALF_LIFE_DIVISOR = 12  # length of a training divided by the half-life of its average
WITH_GENERATOR = {"weight_unlabeled": 0.5, "weight_fake": 0.5}
#: Images of a training with a generator, and of one without in the same CPU time (True for grey pictures).
IMAGES_WITH = 10_000
IMAGES_WITHOUT = {True: 22_800, False: 19_000}
#: Data set, views and use of a generator of each training; `MORE_TRAININGS` may have fewer draws.
TRAININGS = (
    ("trashnet", "natural", True),
    ("trashnet", "natural", False),
    ("cells", "natural", True),
    ("cells", "natural", False),
    ("letters", "drawings", True),
    ("letters", "drawings", False),
    ("trashnet", "digits", False),
    ("cifar10", "natural", False),
    ("cifar10", "digits", False),
)
MORE_TRAININGS = (("cells", "drawings", False), ("letters", "digits", False))


def draw_letter(letter: str, font: Path, random: np.random.RandomState) -> np.ndarray:
    """Draw a letter, dark on light, turned, slanted and bent: uint8 [32, 32]."""
    large = 4 * SIDE
    picture = Image.new("L", (large, large), 0)
    size = int(large * random.uniform(0.5, 0.8))
    face = ImageFont.truetype(str(font), size)
    ImageDraw.Draw(picture).text((large / 2, large / 2), letter, fill=255, font=face, anchor="mm")
    ink = np.asarray(picture, float)
    angle, slant = random.uniform(-0.25, 0.25), random.uniform(-0.25, 0.25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.array([[1, 0], [slant, 1]])
    bend = [ndimage.gaussian_filter(random.randn(large, large), 12) * 60 for _ in range(2)]
    middle = (large - 1) / 2 + random.uniform(-6, 6, 2)
    grid = np.stack(np.mgrid[:large, :large].astype(float)) - (large - 1) / 2
    places = np.einsum("ij,jhw->ihw", turn, grid) + middle[:, None, None] + bend
    ink = ndimage.map_coordinates(ink, places, order=1)
    ink = ndimage.gaussian_filter(ink, random.uniform(0.5, 3.0)).reshape(SIDE, 4, SIDE, 4).mean((1, 3)) / 255
    paper, pen = random.uniform(170, 255), random.uniform(0, 90)
    noise = random.uniform(0, 12) * random.randn(SIDE, SIDE)
    return np.clip(paper + (pen - paper) * ink + noise, 0, 255).astype(np.uint8)


def usable_fonts(folder: Path) -> list[Path]:
    """List the fonts with ten different Latin capitals, without duplicates."""
    fonts = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".ttf", ".otf")):
        try:
            face = ImageFont.truetype(str(path), 24)
            masks = [face.getmask(letter) for letter in LETTERS]
        except OSError:
            continue
        shapes = [bytes(mask) for mask in masks]
        if all(mask.size[0] > 2 and mask.size[1] > 2 for mask in masks) and len(set(shapes)) == len(LETTERS):
            fonts.setdefault(b"".join(shapes), path)
    return list(fonts.values())


def letters(fonts: list[Path], random: np.random.RandomState) -> Iterator[tuple[str, np.ndarray]]:
    """Yield letters with their names, first those of the pool, then those of the test set."""
    order = random.permutation(len(fonts))
    test_fonts, pool_fonts = np.split(order, [len(fonts) // 4])
    for count, subset in ((POOL, pool_fonts), (TEST, test_fonts)):
        for k in range(count):
            letter = LETTERS[k % len(LETTERS)]
            yield letter, draw_letter(letter, fonts[random.choice(subset)], random)


def nucleus(kind: str, random: np.random.RandomState, angle: float, size: float) -> np.ndarray:
    """Draw the nucleus of a cell in the middle: float [64, 64] from 0 to 1."""
    large = 2 * SIDE
    y, x = np.mgrid[:large, :large] - (large - 1) / 2
    x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)

    def blob(at_x: float, at_y: float, wide: float, high: float) -> np.ndarray:
        distance = np.hypot((x - at_x) / wide, (y - at_y) / high)
        return 1 / (1 + np.exp(8 * (distance - 1)))

    if kind == "round":
        return blob(0, 0, 0.55 * size, 0.55 * size * random.uniform(0.85, 1.15))
    if kind == "elongated":
        return blob(0, 0, 0.75 * size, size * random.uniform(0.25, 0.4))
    if kind == "ring":
        inner = random.uniform(0.45, 0.65)
        return np.clip(blob(0, 0, 0.6 * size, 0.6 * size) - blob(0, 0, 0.6 * size * inner, 0.6 * size * inner), 0, 1)
    if kind == "bilobed":
        gap = size * random.uniform(0.33, 0.45)
        return np.maximum(*(blob(side * gap, 0, 0.36 * size, 0.4 * size) for side in (-1, 1)))
    if kind == "segmented":
        turns = np.linspace(0, random.uniform(3.5, 5.0), random.randint(3, 5))
        lobes = [blob(0.42 * size * np.cos(t), 0.42 * size * np.sin(t), 0.28 * size, 0.28 * size) for t in turns]
        return np.maximum.reduce(lobes)
    grains = [(random.uniform(0, 0.75) ** 0.5, random.uniform(0, 2 * np.pi)) for _ in range(random.randint(9, 16))]
    spots = [blob(size * r * np.cos(t), size * r * np.sin(t), 0.14 * size, 0.14 * size) for r, t in grains]
    return np.maximum.reduce(spots) * 0.9


def draw_cell(kind: str, random: np.random.RandomState) -> np.ndarray:
    """Draw a cell of a kind with parts of its neighbours, blur, uneven light and noise: uint8 [32, 32]."""
    large = 2 * SIDE
    field = np.zeros((large, large))
    for neighbor in range(random.randint(1, 4)):
        size = random.uniform(17, 25)
        angle = random.uniform(0, 2 * np.pi)
        drawn_kind = CELLS[random.randint(len(CELLS))] if neighbor else kind
        y, x = np.mgrid[:large, :large] - (large - 1) / 2
        body = 1 / (1 + np.exp((np.hypot(x * random.uniform(0.9, 1.1), y) - size) / 1.5))
        cell = random.uniform(0.15, 0.3) * body + random.uniform(0.35, 0.6) * nucleus(drawn_kind, random, angle, size)
        direction = random.uniform(0, 2 * np.pi)
        distance = random.uniform(30, 42) if neighbor else random.uniform(0, 6)
        field += ndimage.shift(cell, (distance * np.sin(direction), distance * np.cos(direction)), order=1)
    y, x = np.mgrid[:large, :large] / large - 0.5
    field += 0.12 + random.uniform(-0.12, 0.12) * x + random.uniform(-0.12, 0.12) * y
    field = ndimage.gaussian_filter(field, random.uniform(1.0, 2.5)).reshape(SIDE, 2, SIDE, 2).mean((1, 3))
    photons = random.uniform(30, 150)
    return np.clip(255 * random.poisson(np.clip(field, 0, None) * photons) / photons, 0, 255).astype(np.uint8)


def cells(random: np.random.RandomState) -> Iterator[tuple[str, np.ndarray]]:
    """Yield cells with the names of their kinds."""
    for k in range(POOL + TEST):
        kind = CELLS[k % len(CELLS)]
        yield kind, draw_cell(kind, random)


def write(pictures: Iterator[tuple[str, np.ndarray]], folder: Path) -> None:
    """Write pictures as PNG into `train/<class>/`, and those after the first `POOL` into `test/<class>/`."""
    for k, (name, pixels) in enumerate(pictures):
        place = folder / ("train" if k < POOL else "test") / name
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{k:05d}.png")


def read(name: str, folder: Path, fonts: Path | None, data_dir: Path) -> Data:
    """Load a set; first make its pictures if there are none."""
    if name == "trashnet":
        return load(data_dir / "trashnet.zip", options=Options(image_size=SIDE, test_seed=FIRST_DRAW))
    if name == "cifar10":
        whole = load("cifar10", data_dir)
        pool, test = np.split(np.random.RandomState(FIRST_DRAW).permutation(len(whole.x_train))[: POOL + TEST], [POOL])
        x, y = whole.x_train, whole.y_train
        held_out = {"x_train": x[pool], "y_train": y[pool], "x_test": x[test], "y_test": y[test]}
        return dataclasses.replace(whole, name="cifar10, 3,000 of its training images", **held_out)
    place = folder / name
    if not place.exists():
        random = np.random.RandomState(FIRST_DRAW)
        if name == "letters":
            if fonts is None or not (usable_paths := usable_fonts(fonts)):
                raise UserError("--fonts must name a folder of fonts, to draw letters.")
            print(f"{len(usable_paths)} fonts")
            pictures = letters(usable_paths, random)
        else:
            pictures = cells(random)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            write(pictures, Path(temporary) / name)
            os.rename(Path(temporary) / name, place)
    return load(place)


def settings_of(name: str, augmentation: str, generator: bool, images: int, draw_seed: int) -> dict[str, Any]:
    """Return the settings of a training beyond the preset."""
    return {
        "labels": LABELS[name],
        "augmentation": augmentation,
        **(WITH_GENERATOR if generator else NO_GENERATOR),
        "total_images": images,
        "ema_half_life_images": images / HALF_LIFE_DIVISOR,
        "seed": draw_seed,
    }


def train_cell(data: Data, settings: dict[str, Any]) -> dict[str, Any]:
    """Train one model from the start; return its row with the CPU seconds of the training."""
    config = resolve("images", settings)
    folder = results.SCRATCH / f"own-pictures-{config.sha256[:12]}-{config.seed}x{config.seeds}"
    shutil.rmtree(folder, ignore_errors=True)  # the CPU time of a stopped training is unknown
    start = time.process_time()
    (row,) = results.train_stack(data, config, "own-pictures")["rows"]
    return {**row, "cpu_seconds": time.process_time() - start}


def to_grey(data: Data) -> Data:
    """Return the same images without colour."""
    pool, test = (np.rint(x.mean(axis=3)).astype(np.uint8) for x in (data.x_train, data.x_test))
    return dataclasses.replace(data, x_train=pool, x_test=test)


def print_view_measurements(sets: dict[str, Data]) -> None:
    """Print the measurements that determine the views of each set."""
    cells = []
    for name, data in sets.items():
        nearer = views.nearer_than_mirrored(data)
        shares = (views.photograph_share(data), nearer, views.black_ground_share(data))
        cells.append([name, *("-" if x is None else f"{x:.2f}" for x in shares), views.choose_views(data).augmentation])
    terminal.table(["set", "photographs", "nearer than mirrored", "black ground", "views"], cells)


def trainings(draws: int, more_draws: int) -> Iterator[tuple[tuple[str, str, bool], int]]:
    """Yield the trainings with the seed of their draw, draw by draw."""
    for draw_seed in range(FIRST_DRAW, FIRST_DRAW + max(draws, more_draws)):
        yield from ((training, draw_seed) for training in TRAININGS if draw_seed < FIRST_DRAW + draws)
        yield from ((training, draw_seed) for training in MORE_TRAININGS if draw_seed < FIRST_DRAW + more_draws)


def main(arguments: list[str] | None = None) -> int:
    """Train the missing rows; return 0, or 2 for a user error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fonts", type=Path, metavar="FOLDER", help="folder of fonts, .ttf or .otf")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("SSGAN_DATA", "data"))
    parser.add_argument("--folder", type=Path, default=results.SCRATCH, help="folder of the pictures")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--more-draws", type=int, default=DRAWS, help="draws of other views of letters and cells")
    parser.add_argument("--measure", action="store_true", help="train for 2,000 images and write no row")
    parser.add_argument("--look", action="store_true", help="print the measurements that determine the views, and exit")
    args = parser.parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    path = results.ROWS / "own-pictures.jsonl"
    try:
        sets = {name: read(name, args.folder, args.fonts, args.data_dir) for name in args.sets.split(",")}
        if args.look:
            builtin_sets = {name: load(name, args.data_dir) for name in ("mnist", "fashion-mnist")}
            sets["cifar10, grey"] = to_grey(sets["cifar10"])
            print_view_measurements({**sets, **builtin_sets})
            return 0
        for (name, augmentation, generator), draw_seed in trainings(args.draws, args.more_draws):
            if name not in sets:
                continue
            data = sets[name]
            images = 2_000 if args.measure else IMAGES_WITH if generator else IMAGES_WITHOUT[data.x_train.ndim == 3]
            settings = settings_of(name, augmentation, generator, images, draw_seed)
            if not args.measure and results.has_rows(path, resolve("images", settings), data):
                continue
            row = train_cell(data, settings)
            description = f"{name}, {augmentation}, {'with' if generator else 'without'} a generator, draw {draw_seed}"
            print(f"{description}: {row['error']:.2f} %, {row['cpu_seconds']:.1f} s CPU", flush=True)
            if not args.measure:
                runs.append_rows(path, [{**row, "pictures": name}])
    except UserError as mistake:
        print(f"ssgan: {mistake}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Train on a data set from arrays and from files: `scripts/experiments/same_from_files.py --data-dir FOLDER`.

For each draw of labels, the images are written as PNG into a temporary folder: the labelled ones of the draw into
`train/<class>/`, the rest into `unlabeled/`, the test set into `test/<class>/`. The data loaded from there must
equal the built-in set, pixel for pixel. Both are trained with the same settings. Only the order of the pool differs, so
the errors must agree within the noise of a training. Rows are added to `results/rows/DATA-files.jsonl`. Existing rows
are not trained again, and a stopped training resumes.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import results
from ssgan import Data, load, runs
from ssgan.cli import terminal
from ssgan.data import splits
from ssgan.data.splits import Split
from ssgan.errors import UserError
from ssgan.settings.config import Config
from ssgan.settings.presets import DATASET_PRESETS, PRESETS, parse, resolve


def class_folder(classes: tuple[str, ...], label: int) -> str:
    """Return the folder name of a class; it starts with its number, so that the classes keep their order."""
    return f"{label:0{len(str(len(classes) - 1))}d} {classes[label].replace('/', '-')}"


def write(data: Data, split: Split, folder: Path) -> None:
    """Write every image as a PNG named by its row."""
    folders = [class_folder(data.classes, label) for label in range(len(data.classes))]
    places = {"unlabeled": folder / "unlabeled"}
    places |= {f"{share}/{name}": folder / share / name for share in ("train", "test") for name in folders}
    for place in places.values():
        place.mkdir(parents=True)
    pool_names = ["unlabeled"] * len(data.x_train)
    for row, label in zip(split.indices, split.y, strict=True):
        pool_names[row] = f"train/{folders[label]}"
    test_names = [f"test/{folders[label]}" for label in data.y_test]
    for images, names in ((data.x_train, pool_names), (data.x_test, test_names)):
        for row, (image, name) in enumerate(zip(images, names, strict=True)):
            Image.fromarray(image).save(places[name] / f"{row:06d}.png")


def check(loaded: Data, data: Data, split: Split) -> None:
    """Check that files hold every image of the set once, and only the labels of the draw.

    Raises
    ------
    ValueError
        If they differ.
    """
    pool, test = (
        np.array([int(Path(name).stem) for name in names], np.int64)
        for names in (loaded.files_train, loaded.files_test)
    )
    comparisons = {
        "rows of the pool": np.array_equal(np.sort(pool), np.arange(len(data.x_train))),
        "rows of the test set": np.array_equal(np.sort(test), np.arange(len(data.x_test))),
        "images of the pool": np.array_equal(loaded.x_train, data.x_train[pool]),
        "images of the test set": np.array_equal(loaded.x_test, data.x_test[test]),
        "labels of the pool": np.array_equal(loaded.y_train, splits.hide(data.y_train, split.indices)[pool]),
        "labels of the test set": np.array_equal(loaded.y_test, data.y_test[test]),
        "classes": loaded.classes == tuple(class_folder(data.classes, k) for k in range(len(data.classes))),
        "full intensity": loaded.scale == data.scale,
    }
    if differences := [part for part, equal in comparisons.items() if not equal]:
        raise ValueError(f"The files do not hold {data.name}: other {', '.join(differences)}.")


def train_both(args: argparse.Namespace) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Train the missing rows; return for each draw its number, the row from arrays and the row from files."""
    data, path = load(args.data, args.data_dir), results.ROWS / f"{args.data}-files.jsonl"
    settings = {"total_images": args.images, "device": args.device, **dict(map(parse, args.set))}
    pairs = []
    for draw in range(args.draws):
        # Labels of files are those of the folders.
        configs = {n: resolve(args.preset, {**settings, "labels": n, "seed": draw}) for n in (args.labels, None)}
        (split,) = splits.make_splits(data.y_train, args.labels, [draw])
        for labels, config in configs.items():
            if results.has_rows(path, config):
                continue
            print(f"draw {draw}, from {'arrays' if labels else 'files'} ...", flush=True)
            if labels:
                report = results.train_stack(data, config, args.data)
            else:
                with tempfile.TemporaryDirectory() as place:
                    folder = Path(place) / f"{args.data}-files"
                    write(data, split, folder)
                    loaded = load(folder)
                    check(loaded, data, split)
                    report = results.train_stack(loaded, config, folder.name)
            runs.append_rows(path, report["rows"])
        arrays, files = (row_of(path, config) for config in configs.values())
        pairs.append((draw, arrays, files))
    return pairs


def row_of(path: Path, config: Config) -> dict[str, Any]:
    """Read the row of a training of one seed."""
    (row,) = (r for r in results.rows(path) if (r["config_sha256"], r["seed"]) == (config.sha256, config.seed))
    return row


def show(pairs: list[tuple[int, dict[str, Any], dict[str, Any]]]) -> None:
    """Print a table of the errors, and their difference with its standard error."""
    errors = [(draw, arrays["error"], files["error"]) for draw, arrays, files in pairs]
    complete = [(arrays, files) for _, arrays, files in errors if None not in (arrays, files)]
    cells = [
        [draw, *("-" if e is None else f"{e:.2f}" for e in pair), *([f"{pair[1] - pair[0]:+.2f}"] * (None not in pair))]
        for draw, *pair in errors
    ]
    terminal.table(["draw", "arrays, error %", "files, error %", "difference"], cells)
    if len(complete) > 1:
        differences = [files - arrays for arrays, files in complete]
        for name, values in zip(("arrays", "files"), zip(*complete, strict=True), strict=True):
            terminal.say(f"{name} {terminal.plus_minus(statistics.mean(values), statistics.stdev(values))} %")
        standard_error = statistics.stdev(differences) / len(differences) ** 0.5
        terminal.say(f"difference, paired {statistics.mean(differences):+.2f}, standard error {standard_error:.2f}")


def main(arguments: list[str] | None = None) -> int:
    """Train both and compare; return 0, or 2 for a user error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # Full intensity is 16 in digits, but 255 in a PNG.
    parser.add_argument("--data", default="fashion-mnist", choices=sorted(DATASET_PRESETS.keys() - {"digits"}))
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--preset", default="mnist-fast", choices=sorted(PRESETS))
    parser.add_argument("--images", type=int, default=60_000, help="length of each training")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="any other setting; repeatable")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir", help="folder of downloaded data sets")
    args = parser.parse_args(arguments)
    os.environ["SSGAN_CACHE"] = "off"  # each folder is read only once
    try:
        show(train_both(args))
    except UserError as mistake:
        print(f"ssgan: {mistake}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

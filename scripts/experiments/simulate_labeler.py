#!/usr/bin/env python3
"""Simulate a person who labels the pictures that `ssgan suggest` lists: `scripts/experiments/simulate_labeler.py`.

A pool is drawn from the training images. Each strategy chooses the first labels, a model trains on them, the strategy
chooses more, and so on. ``random`` draws any images, ``balanced`` as many of each class (which needs to know the
classes), ``typical`` and ``uncertain`` are those of `suggest`, and ``auto`` changes from the first to the second. The
first labels of ``uncertain`` are those of ``typical``. Errors are measured on the test set. Each training is a row of
`results/rows/labeling.jsonl`; existing rows are not trained again.

With `--choose FILE` seeds start at 1000, a third of the pool is held out and scored, and the rows go to FILE.
"""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import results
from ssgan import runs
from ssgan.data import load
from ssgan.data.dataset import Data
from ssgan.data.splits import draw, make_splits
from ssgan.devices import processor_name
from ssgan.files import read_json_lines
from ssgan.inference.features import apply_backbone
from ssgan.inference.models import Models
from ssgan.labeling.suggest import suggest
from ssgan.settings.config import Config
from ssgan.settings.presets import resolve
from ssgan.training.trainer import train

ROWS = results.ROWS / "labeling.jsonl"
FIRST_CHOOSING_SEED = 1000
STRATEGIES = ("random", "balanced", "typical", "auto")
LITE0 = {"backbone": "efficientnet-lite0"}


class LabelingTask(NamedTuple):
    """Preset, settings and label counts of the trainings on a data set.

    Attributes
    ----------
    pool : int or None
        Images that each seed draws from the training images; None takes all.
    """

    preset: str
    settings: dict[str, Any]
    labels: tuple[int, ...]
    pool: int | None = None


TASKS = {
    "digits": LabelingTask("small-images", {"total_images": 30_000}, (10, 20, 50, 100)),
    "mnist": LabelingTask("mnist-fast", {"total_images": 30_000}, (10, 20, 40, 100), 20_000),
    "fashion-mnist": LabelingTask("mnist-fast", {"total_images": 30_000}, (10, 20, 40, 100), 20_000),
    "cifar10": LabelingTask("features", {**LITE0, "image_size": 96, "total_images": 50_000}, (10, 20, 40, 100), 20_000),
    "trashnet": LabelingTask("features", {**LITE0, "image_size": 160, "total_images": 50_000}, (6, 12, 24, 60)),
}


def draw_pool(data: Data, pool: int | None, seed: int, choose: bool) -> Data:
    """Draw a pool from the training images; with ``choose`` a third of it becomes the test set."""
    rows = np.random.RandomState(seed).permutation(len(data.x_train))[:pool]
    held_out = rows[: len(rows) // 3] if choose else rows[:0]
    rows = rows[len(held_out) :]
    x_test, y_test = (data.x_train[held_out], data.y_train[held_out]) if choose else (data.x_test, data.y_test)
    return dataclasses.replace(
        data,
        x_train=data.x_train[rows],
        y_train=data.y_train[rows],
        x_test=x_test,
        y_test=y_test,
        files_train=(),
        files_test=(),
        pictures=None,
    )


def choose_rows(data: Data, strategy: str, n: int, labeled: np.ndarray, models: Models | None, seed: int) -> np.ndarray:
    """Label ``n`` more rows by a strategy; return all labelled rows."""
    if strategy == "balanced":
        return draw(data.y_train, len(labeled) + n, seed)
    if strategy == "uncertain" and models is None:
        strategy = "typical"
    suggestions = suggest(data, n, labeled, strategy, seed, models)
    return np.sort(np.concatenate([labeled, [suggestion.row for suggestion in suggestions]]).astype(np.int64))


def measure(data: Data, config: Config, labeled: np.ndarray, seed: int) -> tuple[dict[str, Any], Models]:
    """Train on these labels; return the row and the models."""
    (split,) = make_splits(data.y_train, len(labeled), [seed], labeled)
    start, cpu = time.perf_counter(), time.process_time()
    run = train(data, config, [split])
    row = {
        "dataset_sha256": data.sha256,
        "method": config.method,
        "preset": config.preset,
        "settings": {name: getattr(config, name) for name in ("total_images", "backbone", "image_size")},
        "config_sha256": config.sha256,
        "device": "cpu",
        "device_name": processor_name(torch.get_num_threads()),
        "images": config.steps * config.images_per_step,
        "images_per_second": run.images_per_second,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        **runs.provenance(),
        "split_sha256": split.sha256,
        "labeled_classes": len(np.unique(split.y)),
        "error": run.errors[0],
        "error_raw": run.errors_raw[0],
        "ece": run.ece[0],
        "nll": run.nll[0],
        "diverged": run.diverged.get(seed),
        "collapsed": run.collapsed.get(seed),
    }
    return row, run.models


def main() -> None:
    """Run the trainings that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", metavar="DATA", help=f"{', '.join(TASKS)}; by default all")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choose", type=Path, metavar="FILE", help="trial seeds on a held-out part of the pool")
    parser.add_argument("--trashnet", type=Path, default=Path("trashnet.zip"), help="the pictures of TrashNet")
    args = parser.parse_args()
    torch.set_num_threads(1)
    out = args.choose or ROWS
    first = FIRST_CHOOSING_SEED if args.choose else 0
    rows = {}
    if out.exists():
        for line in read_json_lines(out):
            rows[line.value["dataset"], line.value["strategy"], line.value["seed"], line.value["labels"]] = line.value
    for name in args.data or TASKS:
        task = TASKS[name]
        settings = {**task.settings, "device": "cpu"}
        source = str(args.trashnet) if name == "trashnet" else name
        full_data = load(source)
        full_data = apply_backbone(full_data, resolve(task.preset, {**settings, "labels": task.labels[0]}))
        for seed in range(first, first + args.seeds):
            data = draw_pool(full_data, task.pool, seed, args.choose is not None)
            cache: dict[bytes, tuple[dict[str, Any], Models]] = {}
            for strategy in args.strategies.split(","):
                keys = [(name, strategy, seed, labels) for labels in task.labels]
                if all(key in rows for key in keys):
                    continue
                labeled, models = np.zeros(0, np.int64), None
                for key, labels in zip(keys, task.labels, strict=True):
                    labeled = choose_rows(data, strategy, labels - len(labeled), labeled, models, seed)
                    if labeled.tobytes() not in cache:
                        config = resolve(task.preset, {**settings, "labels": labels, "seed": seed})
                        cache[labeled.tobytes()] = measure(data, config, labeled, seed)
                    row, models = cache[labeled.tobytes()]
                    row = {**row, "dataset": name, "strategy": strategy, "labels": labels}
                    row |= {"seed": seed, "draw_seed": None, "stack": [seed]}
                    if key not in rows:
                        runs.append_rows(out, [row])
                    print(f"{name}, seed {seed}, {strategy}, {labels} labels: {row['error']:.2f} %", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measure strategies of `ssgan suggest` by a simulated labeller: errors on held-out images of the pool.

The first labels are those of typical images, or random ones, balanced or not. A model trains on them, a strategy
chooses as many more, and so on. Nothing is chosen on test images.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch

from ssgan.data import load
from ssgan.data.dataset import Data
from ssgan.data.splits import draw, make_splits
from ssgan.inference.models import Models
from ssgan.labeling.suggest import suggest
from ssgan.settings.presets import DATASET_PRESETS, resolve
from ssgan.training.trainer import train


def split_pool(data: Data, seed: int, pool: int, held_out: int) -> Data:
    """Draw a pool and a held-out share from the training pool; the test share is not used."""
    rows = np.random.RandomState(seed).permutation(len(data.x_train))
    a, b = rows[:pool], rows[pool : pool + held_out]
    return dataclasses.replace(
        data, x_train=data.x_train[a], y_train=data.y_train[a], x_test=data.x_train[b], y_test=data.y_train[b]
    )


def train_on(data: Data, labeled: np.ndarray, preset: str | None, images: int, seed: int) -> tuple[Models, float]:
    """Train a model on these labels; return it with its error on the held-out share in percent."""
    settings = {"labels": len(labeled), "total_images": images, "seed": seed, "device": "cpu"}
    config = resolve(preset or DATASET_PRESETS[data.name], settings)
    run = train(data, config, make_splits(data.y_train, len(labeled), [seed], labeled))
    error = run.errors[0]
    return run.models, float("nan") if error is None else error


def main() -> None:
    """Run the trials and append a line of JSON for each training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=["digits", "mnist", "fashion-mnist"])
    parser.add_argument("--strategies", default="typical,uncertain,random,balanced")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--first", type=int, default=20, help="labels of the first training")
    parser.add_argument("--preset")
    parser.add_argument("--most", type=int, default=160, help="labels of the last training")
    parser.add_argument("--images", type=int, default=60_000, help="length of each training")
    parser.add_argument("--pool", type=int, default=838)
    parser.add_argument("--held-out", type=int, default=419)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    whole = load(asked.data)
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        data = split_pool(whole, seed, asked.pool, asked.held_out)
        trained: dict[bytes, tuple[Models, float]] = {}
        for strategy in asked.strategies.split(","):
            labeled, models = np.zeros(0, np.int64), None
            budget = asked.first
            while budget <= asked.most:
                started = time.perf_counter()
                n = budget - len(labeled)
                if strategy == "balanced":
                    labeled = draw(data.y_train, budget, seed)
                elif models is None and strategy != "random":
                    labeled = np.array([one.row for one in suggest(data, n, labeled, "typical", seed)])
                else:
                    new = suggest(data, n, labeled, strategy, seed, models)
                    labeled = np.concatenate([labeled, [one.row for one in new]])
                labeled = np.sort(labeled)
                key = labeled.tobytes()
                if key not in trained:
                    trained[key] = train_on(data, labeled, asked.preset, asked.images, seed)
                models, error = trained[key]
                row = {
                    "data": asked.data,
                    "strategy": strategy,
                    "seed": seed,
                    "labels": budget,
                    "classes": len(np.unique(data.y_train[labeled])),
                    "error": error,
                    "preset": asked.preset or DATASET_PRESETS[asked.data],
                    "images": asked.images,
                    "seconds": round(time.perf_counter() - started, 1),
                }
                print(json.dumps(row), flush=True)
                with asked.out.open("a") as stream:
                    print(json.dumps(row), file=stream)
                budget *= 2


if __name__ == "__main__":
    main()

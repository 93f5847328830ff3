#!/usr/bin/env python3
"""Measure what `test_time_flip` gains, on held-out images: `scripts/experiments/try_flip.py trashnet cells cifar10`.

`trashnet`, `cells` and `cifar10` are made and trained as by `own_pictures.py`, without a generator, with the views
`natural`. `cifar10-fast` is that preset, also without a generator, for 94,000 images, on two thirds of the pool. Each
model is scored with and without the mirror image; the draws of labels start at seed 1000.
"""

import argparse
import os
import tempfile
from pathlib import Path

import explore
import numpy as np
import own_pictures

from ssgan import Data, load, train
from ssgan.settings.config import Config
from ssgan.settings.presets import NO_GENERATOR, resolve

CIFAR10, CIFAR10_IMAGES = "cifar10-fast", 94_000


def load_cell(name: str, folder: Path, data_dir: Path, draw: int) -> tuple[Data, Config]:
    """Load a set and resolve the settings of one draw."""
    if name == CIFAR10:
        settings = {**NO_GENERATOR, "total_images": CIFAR10_IMAGES, "seed": draw}
        return explore.development_split(load("cifar10", data_dir)), resolve(CIFAR10, settings)
    data = own_pictures.read(name, folder, None, data_dir)
    images = own_pictures.IMAGES_WITHOUT[data.x_train.ndim == 3]
    return data, resolve("images", own_pictures.settings_of(name, "natural", False, images, draw))


def main() -> None:
    """Train and print both errors of each draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=["trashnet", "cells", "cifar10", CIFAR10])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("SSGAN_DATA", "data"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in args.sets:
            gaps = []
            for draw in range(own_pictures.FIRST_DRAW, own_pictures.FIRST_DRAW + args.draws):
                data, config = load_cell(name, Path(folder), args.data_dir, draw)
                models = train(data, config).models
                errors = []
                for flip in (False, True):
                    models.config = config.replace(test_time_flip=flip)
                    errors.append(models.scores(data.x_test, data.y_test, metrics=["error"])["error"][0])
                gaps.append(errors[1] - errors[0])
                print(f"{name}, draw {draw}: {errors[0]:.2f} without, {errors[1]:.2f} with", flush=True)
            standard_error = f" ± {np.std(gaps, ddof=1) / len(gaps) ** 0.5:.2f}" if len(gaps) > 1 else ""
            print(f"{name}: {np.mean(gaps):+.2f}{standard_error}")


if __name__ == "__main__":
    main()

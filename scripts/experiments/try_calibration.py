#!/usr/bin/env python3
r"""Compare temperatures fitted to different data, and measure how often images look like none of the classes.

    scripts/experiments/try_calibration.py photographs --labels 60 --draws 1000,1001,1002
    scripts/experiments/try_calibration.py pixels --labels 60 --draws 1000 --set total_images=20000
    scripts/experiments/try_calibration.py digits --labels 50 --draws 1000

``photographs`` is TrashNet with features of efficientnet-lite0 at 160 pixels, ``pixels`` is TrashNet at 32 pixels
without features. Each draw trains the models of five folds, and one model on all labels. Test images are scored without
a temperature, with one fitted to the training labels (*memorised*), with that of the folds, and with the best one for
the test images (*oracle*), which is unknown in practice. Test images select no setting. Foreign images are those of
CIFAR-10, or inverted digits, and noise.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from ssgan import Options, load, train
from ssgan.data.dataset import Data
from ssgan.data.splits import make_splits
from ssgan.inference.confidence import calibrate
from ssgan.inference.features import apply_backbone
from ssgan.inference.metrics import (
    best_temperature,
    expected_calibration_error,
    generated_probability,
    negative_log_likelihood,
    softmax,
)
from ssgan.settings.config import Config
from ssgan.settings.presets import parse, resolve
from ssgan.training.folds import held_out_logits, train_folds

FOLDS = 5
POOL_IMAGES = 1000
FOREIGN_IMAGES = 300
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "photographs": ("features", {"backbone": "efficientnet-lite0", "image_size": 160, "test_share": 0.2}),
    "pixels": ("images", {"image_size": 32, "test_share": 0.2}),
    "digits": ("digits-fast", {}),
}


def foreign_images(data: Data, name: str) -> dict[str, np.ndarray]:
    """Return images of none of the classes, of the shape of the data."""
    random, shape = np.random.RandomState(0), data.image_shape
    noise = random.randint(0, int(data.scale) + 1, (FOREIGN_IMAGES, *shape)).astype(np.uint8)
    if name == "digits":
        return {"noise": noise, "inverted": (data.scale - data.x_test[:FOREIGN_IMAGES]).astype(np.uint8)}
    others = [Image.fromarray(image).resize(shape[:2]) for image in load("cifar10").x_test[:FOREIGN_IMAGES]]
    return {"noise": noise, "cifar10": np.stack([np.asarray(image) for image in others])}


def measure(data: Data, config: Config, foreign: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Train the models of the folds and one on all labels; return the logits of all kinds of images."""
    with tempfile.TemporaryDirectory() as folder:
        parts, models = train_folds(data, config, Path(folder, "folds"))
    rows, held_out = zip(*held_out_logits(data, parts, models), strict=True)
    split = make_splits(data.y_train, config.labels, config.draw_seeds)
    model = train(data, config.replace(folds=0), split).models
    images = {
        "test": data.x_test,
        "pool": data.x_train[:POOL_IMAGES],
        "memorised": data.x_train[split[0].indices],
        **foreign,
    }
    return {
        "held_out": np.concatenate(held_out),
        "y_held_out": data.y_train[np.concatenate(rows)],
        "folds": np.repeat(range(FOLDS), [len(one) for one in rows]),
        "y_memorised": split[0].y,
        **{kind: model.logits(x)[0] for kind, x in images.items()},
    }


def show(outputs: dict[str, np.ndarray], y: np.ndarray, kinds: list[str]) -> None:
    """Print the scores at each temperature, and the shares of images that look like none of the classes."""
    fit = calibrate(outputs["held_out"], outputs["y_held_out"], outputs["folds"])
    temperatures = {
        "none": 1.0,
        "memorised": best_temperature(outputs["memorised"], outputs["y_memorised"]),
        "folds": fit["temperature"],
        "oracle": best_temperature(outputs["test"], y),
    }
    print(f"  held out: NLL {fit['nll']:.3f}, cross-fitted {fit['nll_scaled'] or np.nan:.3f}; {fit['reason'] or ''}")
    for name, temperature in temperatures.items():
        if temperature is not None:
            p = softmax(outputs["test"] / temperature)
            is_confident, is_correct = p.max(axis=1) > 0.95, p.argmax(axis=1) == y
            print(
                f"  {name:10s} T {temperature:6.3f}  NLL {negative_log_likelihood(p, y):6.3f}  "
                f"ECE {expected_calibration_error(p, y):.3f}  above 0.95: {is_confident.mean():.2f}, "
                f"accuracy of these {is_correct[is_confident].mean() if is_confident.any() else np.nan:.2f}  "
                f"below 0.5: {(p.max(axis=1) < 0.5).mean():.2f}"
            )
    p = {kind: generated_probability(outputs[kind]) for kind in ("pool", "held_out", "test", *kinds)}
    threshold = np.quantile(p["pool"], 0.95)
    for kind, values in p.items():
        auroc = roc_auc_score(np.repeat([0, 1], [len(p["test"]), len(values)]), np.concatenate([p["test"], values]))
        print(
            f"  {kind:10s} look like none {(values > 0.5).mean():.3f}, above the 95 % quantile of the pool "
            f"{(values > threshold).mean():.3f}, AUROC against test images {auroc:.2f}"
        )


def main() -> None:
    """Measure every draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=PRESETS)
    parser.add_argument("--labels", type=int, default=60)
    parser.add_argument("--draws", default="1000,1001,1002")
    parser.add_argument("--data", default="trashnet.zip", help="path of TrashNet")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    preset, settings = PRESETS[args.what]
    settings = {"labels": args.labels, "folds": FOLDS, "draw_seed": 0, **settings, **dict(map(parse, args.settings))}
    config = resolve(preset, settings)
    pictures = load("digits") if args.what == "digits" else load(args.data, options=Options.of(config, None))
    foreign = foreign_images(pictures, args.what)
    data = apply_backbone(pictures, config)
    for draw in map(int, args.draws.split(",")):
        start = time.process_time()
        outputs = measure(data, config.replace(draw_seed=draw, seed=draw), foreign)
        error = 100 * np.mean(outputs["test"].argmax(axis=1) != data.y_test)
        print(f"{args.what}, {args.labels} labels, draw {draw}: error {error:.2f} %", end=", ")
        print(f"{time.process_time() - start:.0f} CPU seconds", flush=True)
        show(outputs, data.y_test, list(foreign))


if __name__ == "__main__":
    main()

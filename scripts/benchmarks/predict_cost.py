#!/usr/bin/env python3
"""Measure the cost of `ssgan predict` per picture: processor time, bytes read and bytes written.

    python scripts/benchmarks/predict_cost.py --json results/rows/predict.jsonl

Makes pictures with the size and JPEG quality of photographs in a temporary folder, trains a short run of each kind, and
predicts the pictures once to warm up and then several times. Processor time is that of this process, on one thread; its
median over the rounds hardly depends on other load on the machine. Each kind adds a row to the file.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from ssgan import runs
from ssgan.data.datasets import load
from ssgan.devices import device_name
from ssgan.inference.inputs import find_inputs
from ssgan.inference.predict import open_predictor, write_predictions
from ssgan.settings.options import Options
from ssgan.settings.presets import resolve
from ssgan.training.experiment import run_experiment

WIDTH, HEIGHT, QUALITY = 500, 375, 85  # size of a picture, and JPEG quality
SHORT = {"labels": 20, "total_images": 400, "batch_size": 20, "seed": 0, "device": "cpu"}
KINDS = {
    "pixels at 32 px": ("images", {"image_size": 32}),
    "features at 64 px": ("features", {"image_size": 64, "backbone": "efficientnet-lite0"}),
    "features at 224 px": ("features", {"image_size": 224, "backbone": "efficientnet-lite0"}),
}


def make_pictures(folder: Path, count: int) -> None:
    """Write JPEG files of two classes with the size of photographs: smooth shapes with some noise."""
    random = np.random.default_rng(0)
    for i in range(count):
        coarse = random.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        coarse[..., i % 2] //= 2
        smooth = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        noise = random.normal(0, 18, (HEIGHT, WIDTH, 3))
        pixels = (np.asarray(smooth) + noise).clip(0, 255).astype(np.uint8)
        path = folder / str(i % 2) / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(0.7)).save(path, quality=QUALITY)


def measure(kind: str, pictures: Path, work: Path, rounds: int) -> dict:
    """Train a short run of one kind and time its predictions."""
    preset, settings = KINDS[kind]
    config = resolve(preset, {**SHORT, **settings})
    data = load(str(pictures), None, Options.of(config))
    run = work / kind
    runs.create_run_folder(run, data.name, config)
    run_experiment(data, config, run)
    predictor, sources = open_predictor(run, device="cpu"), find_inputs([str(pictures)])
    out, seconds = work / "rows.csv", []
    for _ in range(rounds + 1):
        start = time.process_time()
        write_predictions(predictor, sources, str(out))
        seconds.append(time.process_time() - start)
    return {
        "kind": kind,
        "preset": preset,
        "settings": settings,
        "pictures": len(sources),
        "pixels": [WIDTH, HEIGHT],
        "picture_bytes": sum(path.stat().st_size for path in pictures.rglob("*.jpg")) / len(sources),
        "row_bytes": out.stat().st_size / len(sources),
        "cpu_seconds": statistics.median(seconds[1:]) / len(sources),
        "rounds": rounds,
        "device": "cpu",
        "device_name": device_name(torch.device("cpu")),
        **runs.provenance(),
    }


def main() -> None:
    """Measure every kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="add the rows to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, "pictures")
        make_pictures(pictures, args.pictures)
        for kind in KINDS:
            row = measure(kind, pictures, Path(folder), args.rounds)
            print(f"{kind}: {1000 * row['cpu_seconds']:.1f} ms, {row['picture_bytes'] / 1000:.0f} kB a picture")
            if args.json:
                with args.json.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()

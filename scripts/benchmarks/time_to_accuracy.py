#!/usr/bin/env python3
"""Measure error against CPU seconds on MNIST with 100 labels: `scripts/benchmarks/time_to_accuracy.py`.

All programs take turns on one thread, draw by draw: trainings of `mnist-fast` of several lengths, with its generator,
without it, and on the labels alone; the paper's recipe as the plain PyTorch program of `plain.py`, evaluated several
times during training; and scikit-learn's classifiers of `ssgan compare`. Seconds are those of the processor from the
images to the model, without the evaluation. Each result is a row of `results/rows/time-to-accuracy.jsonl`;
existing rows are not measured again. Run it on a machine without other load.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plain
import torch

from ssgan import load, runs
from ssgan.compare.baselines import fit_baseline
from ssgan.data.dataset import Data
from ssgan.data.neighbors import forget_neighbors
from ssgan.data.splits import make_splits
from ssgan.devices import processor_name
from ssgan.files import read_json_lines
from ssgan.settings.presets import NO_GENERATOR, resolve
from ssgan.training.trainer import train

ROWS = Path(__file__).resolve().parents[2] / "results" / "rows" / "time-to-accuracy.jsonl"
LABELS = 100
LENGTHS = (15_000, 60_000, 240_000)  # images of mnist-fast
PLAIN_SECONDS = (60, 120, 240)
VARIANTS: dict[str, dict[str, Any]] = {
    "mnist-fast": {},
    "mnist-fast without a generator": NO_GENERATOR,
    "mnist-fast, labels alone": {"method": "supervised"},
}
CLASSICAL = ("svm", "label-propagation", "label-spreading", "self-training")
EVALUATION_ROWS = 1000


def preset_results(data: Data, seed: int, program: str) -> Iterator[dict[str, Any]]:
    """Train `mnist-fast` at each length."""
    for images in LENGTHS:
        settings = {"labels": LABELS, "seed": seed, "device": "cpu", "total_images": images}
        settings |= {"ema_half_life_images": images / 20, **VARIANTS[program]}
        forget_neighbors()
        cpu = time.process_time()
        run = train(data, resolve("mnist-fast", settings))
        seconds = time.process_time() - cpu
        start = time.process_time()
        run.models.scores(data.x_test, data.y_test, True)
        evaluation = 2 * (time.process_time() - start)  # evaluation of the averaged and of the last model
        yield {"images": images, "cpu_seconds": seconds - evaluation, "error": run.errors[0]}


def plain_results(data: Data, seed: int) -> Iterator[dict[str, Any]]:
    """Train the plain program of the paper's recipe, and evaluate its average after each of `PLAIN_SECONDS`."""
    config = resolve("mnist-paper", {"labels": LABELS, "seed": seed, "device": "cpu"})
    torch.manual_seed(seed)
    cpu = time.process_time()
    program = plain.Plain(plain.build(config, data), data)
    batches, seconds, steps = program.batches(), time.process_time() - cpu, 0
    for limit in PLAIN_SECONDS:
        while seconds < limit:
            cpu = time.process_time()
            program.step(*next(batches))
            seconds, steps = seconds + time.process_time() - cpu, steps + 1
        yield {"images": steps * config.batch_size, "cpu_seconds": seconds, "error": plain_error(program, data)}


@torch.no_grad()
def plain_error(program: plain.Plain, data: Data) -> float:
    """Return the test error in percent of the averaged D, without noise."""
    weights = {name: value.clone() for name, value in program.trained.items()}
    noises = [module for module in program.D.modules() if isinstance(module, plain.Noise)]
    deviations = [noise.std for noise in noises]
    for name, value in program.averaged().items():
        program.trained[name].copy_(value)
    for noise in noises:
        noise.std = 0.0
    mistakes = 0
    for first in range(0, len(data.x_test), EVALUATION_ROWS):
        x = torch.from_numpy(data.x_test[first : first + EVALUATION_ROWS]).float() / data.scale
        predicted = program.D(x).argmax(dim=1)
        mistakes += int((predicted.numpy() != data.y_test[first : first + EVALUATION_ROWS]).sum())
    for name, value in weights.items():
        program.trained[name].copy_(value)
    for noise, deviation in zip(noises, deviations, strict=True):
        noise.std = deviation
    return 100.0 * mistakes / len(data.x_test)


def classical_result(data: Data, seed: int, method: str) -> Iterator[dict[str, Any]]:
    """Fit one of scikit-learn's classifiers."""
    (split,) = make_splits(data.y_train, LABELS, [seed])
    forget_neighbors()
    cpu = time.process_time()
    result = fit_baseline(method, data.x_train, data.scale, split, data.x_test, len(data.classes), seed)
    error = 100.0 * float((result.predicted != data.y_test).mean())
    yield {"images": None, "cpu_seconds": time.process_time() - cpu, "error": error}


def main() -> None:
    """Measure the programs that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROWS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load("mnist")
    old_keys = (
        {(line.value["program"], line.value["seed"]) for line in read_json_lines(args.out)}
        if args.out.exists()
        else set()
    )
    for seed in range(args.draws):
        programs = {
            **{name: preset_results(data, seed, name) for name in VARIANTS},
            "mnist-paper in plain PyTorch": plain_results(data, seed),
            **{name: classical_result(data, seed, name) for name in CLASSICAL},
        }
        for name, results in programs.items():
            if (name, seed) in old_keys:
                continue
            rows = [
                {
                    **{"dataset": data.name, "labels": LABELS, "program": name, "seed": seed, **result},
                    **{"device_name": processor_name(1), **runs.provenance()},
                }
                for result in results
            ]
            runs.append_rows(args.out, rows)
            for row in rows:
                print(f"{name}, draw {seed}: {row['cpu_seconds']:.0f} s, {row['error']:.2f} %", flush=True)


if __name__ == "__main__":
    main()

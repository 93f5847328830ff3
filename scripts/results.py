#!/usr/bin/env python3
"""Train a published grid and add its rows: `scripts/results.py digits`.

One line of `results/GRID.jsonl` for each seed, and, where test errors are followed on the way, one line
of `results/GRID-curves.jsonl` for each of them, with the samples of the first cell beside. A cell that
is there with today's settings is not trained again, and one that was stopped goes on from its checkpoint
in `runs/results/`, so the script can be stopped at any time and started again; `--minutes` stops it by
itself.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from ssgan import Data, load, runs, screen
from ssgan.config import DATASET_PRESETS, Config, resolve
from ssgan.errors import UserError
from ssgan.experiment import Paused, run_experiment

ROOT = Path(__file__).resolve().parents[1]
RESULTS, SCRATCH = ROOT / "results", ROOT / "runs" / "results"
MNIST_EPOCH, CIFAR10_EPOCH = 60_000, 50_000
EPSILON_OUTSIDE = {"adam_epsilon_inside_root": False}


class Grid(NamedTuple):
    """A data set, and for each cell the settings beyond its preset."""

    data: str
    cells: list[dict[str, Any]]


GRIDS = {
    "digits": Grid(
        "digits",
        [
            *({"method": m, "labels": n, "seeds": 10} for m in ("gan", "supervised") for n in (20, 50, 100)),
            *({"method": "gan", "labels": 50, "seeds": 5, "generator_norm": norm} for norm in ("virtual", "none")),
        ],
    ),
    # The beginning of the recipe on a CPU, one model a cell, and the same with torch's place of Adam's epsilon.
    "mnist-short": Grid(
        "mnist",
        [
            {"seed": seed, "total_images": epochs * MNIST_EPOCH, "evaluate_every_images": MNIST_EPOCH, **other}
            for epochs, other in ((40, {}), (16, EPSILON_OUTSIDE))
            for seed in (0, 1)
        ],
    ),
    # The recipe as published: 300 epochs, ten draws, four numbers of labels.
    "mnist": Grid("mnist", [{"labels": n, "seeds": 10} for n in (100, 20, 50, 200)]),
    # The beginning of the recipe on a CPU, with the step size that it has until its last third.
    "cifar10-short": Grid(
        "cifar10",
        [
            {
                "labels": 4000,
                "seed": 0,
                "total_images": 2 * CIFAR10_EPOCH,
                "decay_last_fraction": 0.0,
                "evaluate_every_images": 10_000,
            }
        ],
    ),
    # The recipe as published: 1,200 epochs, ten draws, four numbers of labels.
    "cifar10": Grid("cifar10", [{"labels": n, "seeds": 10} for n in (4000, 1000, 2000, 8000)]),
}


def rows(path: Path) -> list[dict[str, Any]]:
    """What a file of results holds so far."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def done(path: Path, config: Config) -> bool:
    """Whether the rows of this cell are there."""
    return any(row["config_sha256"] == config.sha256 and row["stack"] == config.all_seeds for row in rows(path))


def trained(data: Data, config: Config, name: str, pause_after_seconds: float = float("inf")) -> dict[str, Any]:
    """The report of one stack, which goes on in `runs/results/` where it was begun there."""
    folder = SCRATCH / f"{name}-{config.sha256[:12]}-{config.seed}x{config.seeds}"
    if not folder.exists():
        runs.claim(folder, data.name, config)
    with screen.following() as on_report:
        return run_experiment(data, config, folder, on_report, pause_after_seconds=pause_after_seconds)


def curves(folder: Path, report: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of a run's log that hold test errors, each with the name of its stack."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    stack = {"config_sha256": report["config_sha256"], "settings": report["settings"], "stack": report["seeds"]}
    return [{**stack, **line} for line in lines if line["errors"] is not None]


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing; return 0 when all is there, 3 when the time was up before, 2 for the user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", choices=sorted(GRIDS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir", help="where downloaded sets lie")
    parser.add_argument("--part", default="1/1", help="2/3: the second of three parts, to run beside the others")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long, to go on another time")
    args = parser.parse_args(arguments)
    try:
        return train_missing(args)
    except UserError as mistake:
        print(f"ssgan: {mistake}", file=sys.stderr)
        return 2


def train_missing(args: argparse.Namespace) -> int:
    """Go through the cells of a part of a grid."""
    until = time.monotonic() + 60 * args.minutes
    grid, path = GRIDS[args.grid], RESULTS / f"{args.grid}.jsonl"
    data = load(grid.data, args.data_dir)
    part, parts = map(int, args.part.split("/"))
    for cell in grid.cells[part - 1 :: parts]:
        config = resolve(DATASET_PRESETS[grid.data], {**cell, "device": args.device})
        words = " ".join(f"{k}={v}" for k, v in cell.items())
        if done(path, config):
            print(f"{words}: there already")
            continue
        print(f"{words} ...", flush=True)
        try:
            report = trained(data, config, args.grid, max(0.0, until - time.monotonic()))
        except Paused as pause:
            print(f"The time is up: {pause} The same command goes on.")
            return 3
        if config.evaluate_every_images:
            folder = Path(report["run"])
            if cell is grid.cells[0]:
                shutil.copyfile(folder / "samples.png", RESULTS / f"{args.grid}-samples.png")
            runs.append_rows(RESULTS / f"{args.grid}-curves.jsonl", curves(folder, report))
        runs.append_rows(path, report["rows"])
        print(f"  error {screen.plus_minus(report['error_mean'], report['error_std'])} %", flush=True)
    print(f"Now write them into the README: {sys.executable} scripts/readme.py", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

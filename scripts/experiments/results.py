#!/usr/bin/env python3
"""Train a published grid and add its rows: `scripts/experiments/results.py digits`.

Each seed is one line of `results/rows/GRID.jsonl`. If test errors are measured during training, each is one line of
`results/rows/GRID-curves.jsonl`, also if `--minutes` stops the training, and the samples of the first cell are copied
to `docs/pictures/`. A cell whose rows exist with the same settings is not trained again, and a stopped cell resumes
from its checkpoint in `runs/results/`, so the script can be stopped at any time and started again; `--minutes` stops it
after a time. For a GAN without classes the samples of the first seed are copied, and its frames, if any, are saved as
an animation.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

from ssgan import Data, load, runs
from ssgan.cli import terminal
from ssgan.cli.progress import training_progress
from ssgan.data.dataset import UNLABELED
from ssgan.data.splits import draw, hide
from ssgan.devices import select
from ssgan.errors import UserError
from ssgan.figures import image_grid
from ssgan.files import open_atomic
from ssgan.inference.metrics import Diversity, generated_probability, softmax
from ssgan.inference.models import Models, open_run
from ssgan.settings.config import Config
from ssgan.settings.presets import DATASET_PRESETS, NO_GENERATOR, resolve
from ssgan.training.experiment import Paused, run_experiment, settings_beyond_preset

ROOT = Path(__file__).resolve().parents[2]
ROWS, PICTURES, SCRATCH = ROOT / "results" / "rows", ROOT / "docs" / "pictures", ROOT / "runs" / "results"
MNIST_EPOCH = 60_000
FAST_REPORTS = {"evaluate_every_images": 100_000}
# Lengths of `mnist-fast` with a generator and without one, of about the same CPU time: a generator in every fourth step
# makes each image take 1.4 times as long (docs/notes/mnist.md). By number of labels; 100 has the preset's length.
MNIST_LENGTHS = {100: (900_000, 1_240_000), **dict.fromkeys((20, 50, 200), (300_000, 413_000))}
# Images that take the CPU time of 225,000 images of the GAN, which needs 1.52, 1.68 and 1.37 times as long for each
# (measured on 10,000 images of Fashion-MNIST).
METHOD_LENGTHS = {"fixmatch": 342_000, "mean-teacher": 378_000, "pi": 308_000}
# The same for 300,000 images of MNIST, with the same network: 4/3 as many, in thousands.
MNIST_METHOD_LENGTHS = {method: 1000 * round(images / 750) for method, images in METHOD_LENGTHS.items()}
DIGITS_LENGTH = 360_000  # with a generator each image takes 1.8 times as long (16,000 images), and there are 200,000
CIFAR10_LENGTHS = (225_000, 297_000)  # with a generator each image takes 1.32 times as long (4,000 images)
CIFAR10_METHOD_LENGTHS = {"fixmatch": 383_000, "mean-teacher": 342_000}  # 1.70 and 1.52 times (medians of 2,000 images)
EPSILON_OUTSIDE = {"adam_epsilon_inside_root": False}
# Narrow enough for a CPU. Such a narrow G needs a higher learning rate than the preset's to keep up with D.
NARROW_DCGAN = {
    "batch_size": 64,
    "discriminator_widths": (16,),
    "generator_widths": (16,),
    "learning_rate_g": 1e-3,
    "total_images": 20_000,
}
# Remedies against mode collapse (section 3 of the paper), each added alone to the same network.
COLLAPSE_REMEDIES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "virtual batch norm in G": {"generator_norm": "virtual"},
    "minibatch discrimination": {"minibatch_kernels": 50},
    "label smoothing, 0.9": {"real_target": 0.9},
    "historical averaging, 0.001": {"weight_historical_averaging": 0.001},
}
# Frames of a saved animation, for a file of about 200 KB.
ANIMATED_FRAMES = 8
# The user has six of ten classes, as in the study cited in with_foreign: the first six, chosen before any result.
OWN_CLASSES = 6
# All but 3 of the 483 foreign images in the pool of digits, so that a quarter is a whole number.
UNLABELED_IMAGES = 480
FOREIGN_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
FOREIGN_SETTINGS = {"labels": 30, "total_images": 200_000}


class Grid(NamedTuple):
    """A data set, a preset (by default that of the data), and the settings of each cell beyond the preset.

    A ``foreign_share`` in a cell is not a setting: it is the share of foreign images in its data, made by
    :func:`with_foreign`.
    """

    data: str
    cells: list[dict[str, Any]]
    preset: str = ""

    @property
    def preset_name(self) -> str:
        """Return the name of the preset of every cell."""
        return self.preset or DATASET_PRESETS[self.data]


GRIDS = {
    "digits": Grid(
        "digits",
        [
            *({"method": m, "labels": n, "seeds": 10} for m in ("gan", "supervised") for n in (20, 50, 100)),
            *({"method": "gan", "labels": 50, "seeds": 5, "generator_norm": norm} for norm in ("virtual", "none")),
        ],
        "digits",
    ),
    # The preset without a generator, in the CPU time of the trainings with a generator by `ssgan compare`.
    "digits-fast": Grid(
        "digits",
        [{"labels": n, "seeds": 10, **NO_GENERATOR, "total_images": DIGITS_LENGTH} for n in (20, 50, 100)],
        "digits-fast",
    ),
    # The beginning of the recipe on a CPU, one model a cell, and the same with Adam's epsilon placed as in torch.
    "mnist-short": Grid(
        "mnist",
        [
            {"seed": seed, "total_images": epochs * MNIST_EPOCH, "evaluate_every_images": MNIST_EPOCH, **other}
            for epochs, other in ((40, {}), (16, EPSILON_OUTSIDE))
            for seed in (0, 1)
        ],
        "mnist-paper",
    ),
    # The full recipe on a CPU, one model a cell.
    "mnist-paper": Grid(
        "mnist",
        [{"seed": seed, "evaluate_every_images": 5 * MNIST_EPOCH} for seed in range(3)],
        "mnist-paper",
    ),
    # The recipe as published: 300 epochs, ten draws, four numbers of labels.
    "mnist": Grid("mnist", [{"labels": n, "seeds": 10} for n in (100, 20, 50, 200)], "mnist-paper"),
    # Short enough for a CPU, one model a cell: with a generator, without one in the same time, with Muon, and other
    # methods in the same time.
    "mnist-fast": Grid(
        "mnist",
        [
            {"labels": labels, "seed": seed, **FAST_REPORTS, **other, "total_images": images}
            for labels, (whole, longer) in MNIST_LENGTHS.items()
            for other, images in (({}, whole), (NO_GENERATOR, longer), ({"optimizer_d": "muon"}, 300_000))
            for seed in range(5)
        ]
        + [
            {"labels": 20, "seed": seed, "method": method, "total_images": images}
            for method, images in MNIST_METHOD_LENGTHS.items()
            for seed in range(5)
        ],
    ),
    # A quarter of the length of the preset, and other methods in the same time; with Muon an image takes 1.26 times as
    # long.
    "fashion-mnist-fast": Grid(
        "fashion-mnist",
        [
            {"seed": seed, **other, "total_images": images}
            for seed in range(5)
            for other, images in (
                ({}, 225_000),
                (NO_GENERATOR, 310_000),
                *(({"method": method}, images) for method, images in METHOD_LENGTHS.items()),
                ({"optimizer_d": "muon"}, 178_000),
                ({"optimizer_d": "muon", **NO_GENERATOR}, 246_000),
            )
        ],
    ),
    # The preset, then a quarter of its length with a generator, and without one and other methods in the same time.
    "cifar10-fast": Grid(
        "cifar10",
        [
            *({"seed": seed, **FAST_REPORTS} for seed in range(3)),
            *(
                {"labels": labels, "seed": seed, **without, "total_images": images}
                for seed in range(5)
                for labels in (4000, 1000, 250)
                for without, images in zip(({}, NO_GENERATOR), CIFAR10_LENGTHS, strict=True)
            ),
            *(
                {"labels": 4000, "seed": seed, "method": method, "total_images": images}
                for seed in range(5)
                for method, images in CIFAR10_METHOD_LENGTHS.items()
            ),
        ],
    ),
    # Unlabelled images of none of the classes, one draw a cell, since each draw has a different pool. The supervised
    # baseline uses the pool only for its initialisation; its second share measures that effect.
    "foreign": Grid(
        "digits",
        [
            {"foreign_share": share, "method": method, "seed": seed, **FOREIGN_SETTINGS}
            for method, shares in (("supervised", (0.0, 1.0)), ("gan", FOREIGN_SHARES))
            for seed in range(5)
            for share in shares
        ],
        "digits",
    ),
    # The one-dimensional GAN: rows have distances to the target instead of errors.
    "gaussian": Grid("gaussian", [{"seeds": 20, "seed_strategy": "vmap"}]),
    # Less than half an epoch of the recipe, on a CPU, with the step size that it has until its last third.
    "cifar10-short": Grid(
        "cifar10",
        [
            {
                "labels": 4000,
                "seed": 0,
                "total_images": 20_000,
                "decay_last_fraction": 0.0,
                "evaluate_every_images": 10_000,
                "report_every_images": 1_000,
            }
        ],
        "cifar10-paper",
    ),
    # GANs without classes, with the pictures for the documents.
    "gan-mlp": Grid("mnist", [{}], "gan-mlp"),
    "dcgan": Grid(
        "fashion-mnist",
        [
            {
                **NARROW_DCGAN,
                **dict.fromkeys(["discriminator_widths", "generator_widths"], (32,)),
                "learning_rate_g": 2e-4,
                "total_images": 120_000,
                "frames_every_images": 20_000,
                "grid_side": 6,
            }
        ],
        "dcgan",
    ),
    "collapse": Grid(
        "fashion-mnist",
        [
            {"seed": seed, "grid_side": 4, **NARROW_DCGAN, **other}
            for seed in range(2)
            for other in COLLAPSE_REMEDIES.values()
        ],
        "dcgan",
    ),
    # The recipe as published: 1,200 epochs, ten draws, four numbers of labels.
    "cifar10": Grid("cifar10", [{"labels": n, "seeds": 10} for n in (4000, 1000, 2000, 8000)], "cifar10-paper"),
}


def with_foreign(data: Data, share: float, labels: int, draw_seed: int) -> Data:
    """Make data with labels of the first classes only, whose unlabelled images are partly of the other classes.

    The pool holds the labelled images and then a fixed number of unlabelled ones, of which ``share`` are foreign: of
    the other classes. One draw seed gives the same labelled rows for every share; a larger share replaces own images
    by foreign ones and keeps the rest. The test set has the first classes only.

    Source: Oliver et al., *Realistic Evaluation of Deep Semi-Supervised Learning Algorithms*, 2018, section 4.4;
    there the unlabelled images come from four classes, of which an increasing number is foreign.
    """
    y_own = np.where(data.y_train < OWN_CLASSES, data.y_train, UNLABELED)
    labeled = draw(y_own, labels, draw_seed)
    random = np.random.RandomState(draw_seed)
    own = random.permutation(np.setdiff1d(np.flatnonzero(y_own >= 0), labeled))
    foreign = random.permutation(np.flatnonzero(data.y_train >= OWN_CLASSES))
    count = round(share * UNLABELED_IMAGES)
    pool = np.concatenate([labeled, own[: UNLABELED_IMAGES - count], foreign[:count]])
    test = data.y_test < OWN_CLASSES
    return dataclasses.replace(
        data,
        x_train=data.x_train[pool],
        y_train=hide(data.y_train[pool], np.arange(labels)),
        x_test=data.x_test[test],
        y_test=data.y_test[test],
        classes=data.classes[:OWN_CLASSES],
        name=f"{data.name}, the first {OWN_CLASSES} classes",
    )


def foreign_scores(models: Models, own: np.ndarray, foreign: np.ndarray) -> dict[str, float | None]:
    """Measure how well one model distinguishes test images of its classes from foreign ones; None if it cannot.

    Returns the means of ``p_generated``; the shares above 1/2, which ``predict`` reports as none of the classes; and
    the AUROC (1/2 by chance) of the detection of foreign images by ``p_generated``, or by a low probability of the
    likeliest class.
    """
    logits = {"own": models.logits(own)[0], "foreign": models.logits(foreign)[0]}
    is_finite = all(np.isfinite(l_NK).all() for l_NK in logits.values())
    is_gan = is_finite and models.G is not None
    p_generated = {name: generated_probability(l_NK) for name, l_NK in logits.items()}
    unsure = {name: 1 - softmax(l_NK).max(axis=1) for name, l_NK in logits.items()}
    return {
        **{f"p_generated_{name}": float(p.mean()) if is_gan else None for name, p in p_generated.items()},
        **{f"unlike_{name}": float((p > 0.5).mean()) if is_gan else None for name, p in p_generated.items()},
        "auroc_p_generated": _auroc(**p_generated) if is_gan else None,
        "auroc_unsure": _auroc(**unsure) if is_finite else None,
    }


def _auroc(own: np.ndarray, foreign: np.ndarray) -> float:
    is_foreign = np.repeat([False, True], [len(own), len(foreign)])
    return float(roc_auc_score(is_foreign, np.concatenate([own, foreign])))


def rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file; none if there is no file."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    text = text.replace(" 1 threads", " 1 thread")  # earlier versions wrote the plural
    return [json.loads(line) for line in text.splitlines()]


def has_rows(path: Path, config: Config, data: Data | None = None) -> bool:
    """Return whether a file has the rows of a cell, and of these data if they are given."""
    cell_rows = [row for row in rows(path) if (row["config_sha256"], row["stack"]) == (config.sha256, config.all_seeds)]
    return any(data is None or row["dataset_sha256"] == data.sha256 for row in cell_rows)


def scratch_folder(config: Config, name: str) -> Path:
    """Return the folder of the run of a stack."""
    return SCRATCH / f"{name}-{config.sha256[:12]}-{config.seed}x{config.seeds}"


def train_stack(data: Data, config: Config, name: str, pause_after_seconds: float = float("inf")) -> dict[str, Any]:
    """Train one stack in `runs/results/`, or resume it there; return its report."""
    folder = scratch_folder(config, name)
    if not folder.exists():
        runs.create_run_folder(folder, data.name, config)
    with training_progress() as progress:
        return run_experiment(
            data, config, folder, progress.on_report, pause_after_seconds=pause_after_seconds, on_step=progress.on_step
        )


def keep_curve(path: Path, folder: Path, config: Config) -> None:
    """Append the lines of a run's log that have test errors and are not in the file yet."""
    stack = {"config_sha256": config.sha256, "settings": settings_beyond_preset(config), "stack": config.all_seeds}
    old_lines = [
        line for line in rows(path) if (line["config_sha256"], line["stack"]) == (config.sha256, config.all_seeds)
    ]
    old_images = {line["images"] for line in old_lines}
    lines = [line for line in runs.read_log(folder) if line["errors"] is not None and line["images"] not in old_images]
    runs.append_rows(path, [{**stack, **line} for line in lines])


def keep_pictures(folder: Path, name: str, cell: int | None = None) -> None:
    """Copy the samples of a run, and save its frames as an animation; ``cell`` is its number in a grid of several."""
    samples = PICTURES / (f"{name}-samples.png" if cell is None else f"{name}-samples/{cell}.png")
    samples.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "samples.png", samples)
    if frames := image_grid.read_frames(folder):
        every = -(-len(frames) // ANIMATED_FRAMES)
        frames = dict([*frames.items()][::-every][::-1])
        with open_atomic(PICTURES / f"{name}.webp") as stream:
            image_grid.animate(frames, ".webp")(stream)


def main(arguments: list[str] | None = None) -> int:
    """Train the missing cells; return 0 if all rows exist, 3 if the time ran out, 2 for a user error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", choices=sorted(GRIDS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir", help="folder of downloaded data sets")
    parser.add_argument(
        "--part",
        type=_part,
        default=(1, 1),
        metavar="K/N",
        help="2/3: the second third of the cells",
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop then; the same command resumes")
    args = parser.parse_args(arguments)
    try:
        return train_missing(args)
    except UserError as mistake:
        print(f"ssgan: {mistake}", file=sys.stderr)
        return 2


def _summary(report: dict[str, Any]) -> str:
    """Format a report in one line."""
    if "ks" in report:
        near = sum(ks is not None and ks <= 0.1 for ks in report["ks"])
        return f"{near} of {len(report['ks'])} seeds within a KS distance of 0.1 of the target"
    parts = [f"error {terminal.plus_minus(report['error_mean'], report['error_std'])} %"] if report["labels"] else []
    if report["diversity"]:
        parts += [f"{name} {report['diversity'][name]:.2f}" for name in Diversity._fields]
    return ", ".join(parts)


def _part(text: str) -> tuple[int, int]:
    """Parse ``2/3``."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text} is not like 2/3")
    return int(part), int(parts)


def train_missing(args: argparse.Namespace) -> int:
    """Train the cells of a part of a grid that have no rows yet; return the exit status."""
    deadline = time.monotonic() + 60 * args.minutes
    grid, path = GRIDS[args.grid], ROWS / f"{args.grid}.jsonl"
    whole = load(grid.data, args.data_dir)
    part, parts = args.part
    for cell in grid.cells[part - 1 :: parts]:
        settings = {name: value for name, value in cell.items() if name != "foreign_share"}
        config = resolve(grid.preset_name, {**settings, "device": args.device})
        share = cell.get("foreign_share")
        data = whole
        if share is not None:
            (draw_seed,) = config.draw_seeds  # another draw has another pool
            data = with_foreign(whole, share, config.labels, draw_seed)
        description = " ".join(f"{k}={v}" for k, v in cell.items())
        if has_rows(path, config, data):
            print(f"{description}: there already")
            continue
        print(f"{description} ...", flush=True)
        name = args.grid if share is None else f"{args.grid}-{share:g}"
        try:
            report = train_stack(data, config, name, max(0.0, deadline - time.monotonic()))
        except Paused as pause:
            if config.evaluate_every_images:
                keep_curve(ROWS / f"{args.grid}-curves.jsonl", scratch_folder(config, name), config)
            print(f"The time is up: {pause} The same command goes on.")
            return 3
        folder, new_rows = Path(report["run"]), report["rows"]
        if config.evaluate_every_images:
            if cell is grid.cells[0] and (folder / "samples.png").exists():
                shutil.copyfile(folder / "samples.png", PICTURES / f"{args.grid}-samples.png")
            keep_curve(ROWS / f"{args.grid}-curves.jsonl", folder, config)
        if share is not None:
            models, _ = open_run(folder, select(config.device))
            scores = foreign_scores(models, data.x_test, whole.x_test[whole.y_test >= OWN_CLASSES])
            new_rows = [{**row, "foreign_share": share, **scores} for row in new_rows]
        if config.unconditional and config.seed == grid.cells[0].get("seed", 0) and (folder / "samples.png").exists():
            keep_pictures(folder, args.grid, grid.cells.index(cell) if len(grid.cells) > 1 else None)
        runs.append_rows(path, new_rows)
        print(f"  {_summary(report)}", flush=True)
    print(f"To write the rows into the documents: {sys.executable} scripts/docs/pages.py", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

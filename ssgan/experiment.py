"""One training, whole: from data and configuration to a run folder."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssgan import checkpoint, runs, splits
from ssgan.config import PRESETS, Config
from ssgan.data import Data
from ssgan.devices import device_name
from ssgan.files import write_json
from ssgan.gallery import grid
from ssgan.trainer import Report, Run, train

__all__ = ["run_experiment", "summarize", "summarize_scores"]

GRID_IMAGES = 100
LABELED_IMAGES_SHOWN = 200


def run_experiment(
    data: Data, config: Config, folder: Path, on_report: Callable[[Report], None] | None = None
) -> dict[str, Any]:
    """Train, evaluate and write everything about it into a claimed run folder; return the report.

    ``config.json`` is there already; this adds ``split.json`` and ``labeled.png``, then ``log.jsonl`` while
    it trains, then ``checkpoint``, ``samples.png`` (where a generator was trained) and, last, ``report.json``.
    """

    def log(report: Report) -> None:
        line = {"step": report.step, "images": report.images, "images_per_second": report.images_per_second}
        means = {k: [v if np.isfinite(v) else None for v in values.tolist()] for k, values in report.means.items()}
        runs.append_rows(folder / "log.jsonl", [{**line, **means, "errors": report.errors}])
        if on_report is not None:
            on_report(report)

    found = splits.for_seeds(data.y_train, config.labels, config.draw_seeds)
    drawn: list[int | None] = [*config.draw_seeds] if isinstance(config.labels, int) else [None] * config.seeds
    splits.save(folder / "split.json", found, drawn)
    each = max(1, LABELED_IMAGES_SHOWN // len(data.classes))
    shown = [found[0].indices[found[0].y == label][:each] for label in range(len(data.classes))]
    _draw(folder / "labeled.png", data.x_train[np.concatenate(shown)] / data.scale)
    run = train(data, config, indices=[split.indices for split in found], on_report=log)
    checkpoint.save(folder / "checkpoint", run.state())
    if run.models.G is not None:
        samples = run.models.sample(GRID_IMAGES, seed=config.seed)[0]
        if np.isfinite(samples).all():
            _draw(folder / "samples.png", samples)
    report = summarize(run, folder, drawn)
    write_json(folder / "report.json", report)
    return report


def summarize(run: Run, folder: Path, drawn: Sequence[int | None]) -> dict[str, Any]:
    """What ``report.json`` holds: the run in numbers, and one row for each seed for ``results/``."""
    config, data = run.config, run.data
    preset = Config(**{**PRESETS.get(config.preset, {}), "preset": config.preset})
    shared = {
        "dataset": data.name,
        "dataset_sha256": data.sha256,
        "labels": len(run.splits[0].indices),
        "method": config.method,
        "preset": config.preset,
        "settings": _settings(preset.diff(config)),
        "config_sha256": config.sha256,
        "device": str(run.device),
        "device_name": device_name(run.device),
        "images": config.steps * config.images_per_step,
        "images_per_second": run.images_per_second,
        "seconds": run.seconds,
        **runs.provenance(),
    }
    rows = [
        {
            **shared,
            "seed": seed,
            "draw_seed": draw,
            "split_sha256": split.sha256,
            "stack": run.seeds,
            "error": run.errors[i],
            "error_raw": run.errors_raw[i],
            "ece": run.ece[i],
            "nll": run.nll[i],
            "diverged": run.diverged.get(seed),
            "collapsed": run.collapsed.get(seed),
        }
        for i, (seed, draw, split) in enumerate(zip(run.seeds, drawn, run.splits, strict=True))
    ]
    return {
        **shared,
        "seeds": run.seeds,
        **summarize_scores({"error": run.errors, "error_raw": run.errors_raw}),
        "diverged": sorted(run.diverged),
        "collapsed": sorted(run.collapsed),
        "warnings": run.warnings,
        "run": str(folder),
        "rows": rows,
    }


def summarize_scores(scores: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    """Mean and deviation over the seeds of ``error`` and the errors of each, in percent.

    A seed that diverged has None and is left out of the mean, which is None where no seed is left; the
    deviation is the sample's (n - 1), and None for fewer than two.
    """
    errors = np.array([e for e in scores["error"] if e is not None])
    mean = float(errors.mean()) if len(errors) else None
    std = float(errors.std(ddof=1)) if len(errors) > 1 else None
    return {
        "accuracy_mean": None if mean is None else 100.0 - mean,
        "accuracy_std": std,
        "error_mean": mean,
        "error_std": std,
        "errors": list(scores["error"]),
        "errors_raw": list(scores["error_raw"]),
    }


def _settings(diff: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """What a configuration sets beyond its preset, as JSON has it, without what other columns say."""
    elsewhere = {"labels", "method", "seed", "seeds", "draw_seed", "device"}
    chosen = {name: ours for name, (_, ours) in diff.items() if name not in elsewhere}
    settings: dict[str, Any] = json.loads(json.dumps(chosen))
    return settings


def _draw(path: Path, images: np.ndarray) -> None:
    """Write images in [0, 1] as a grid; what is no grey or colour picture is left out."""
    if images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3)):
        part = path.with_name(f".{path.name}")
        grid((255 * images).round().clip(0, 255).astype(np.uint8)).save(part, format="png")
        part.replace(path)

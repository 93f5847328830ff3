"""Compare resumed runs with uninterrupted runs, bit by bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.settings.config import Config
from ssgan.training.monitor import Run, TrainingProgress
from ssgan.training.trainer import train

CLOCK = {"seconds", "images_per_second"}
UNFINISHED_RUN_FILES = {"config.json", "split.json", "labeled.png", "log.jsonl", "checkpoint"}


def differences(left: Any, right: Any, place: str = "") -> list[str]:
    """The places where two nested structures of tensors, arrays and plain types differ in a single bit."""
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        left, right = left.detach().numpy(), right.detach().numpy()
    if type(left) is not type(right):
        return [f"{place}: {type(left).__name__}, {type(right).__name__}"]
    if isinstance(left, np.ndarray):
        same = (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())
        return [] if same else [place]
    if isinstance(left, dict):
        odd = [f"{place}/{key}" for key in left.keys() ^ right.keys()]
        return odd + [
            d for key in left.keys() & right.keys() for d in differences(left[key], right[key], f"{place}/{key}")
        ]
    if isinstance(left, list | tuple):
        odd = [f"{place}: of {len(left)} and {len(right)}"] if len(left) != len(right) else []
        return odd + [
            d for i, (a, b) in enumerate(zip(left, right, strict=False)) for d in differences(a, b, f"{place}/{i}")
        ]
    return [] if repr(left) == repr(right) else [f"{place}: {left!r}, {right!r}"]


def without_clock(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plain.items() if key not in CLOCK}


def read_log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def left_by(folder: Path) -> dict[str, Any]:
    """The contents of a run folder, without timings and its path."""
    report = {key: value for key, value in without_clock(runs.read_report(folder)).items() if key != "run"}
    report["rows"] = [without_clock(row) for row in report["rows"]]
    exact = ("config.json", "split.json", "labeled.png", "samples.png", "curves.png")
    return {
        "files": sorted(path.name for path in folder.iterdir()),
        "checkpoint": without_clock(runs.load_checkpoint(folder / "checkpoint")),
        "report": report,
        "log": [without_clock(line) for line in read_log(folder)],
        **{name: (folder / name).read_bytes() for name in exact},
    }


def follow(
    data: Data, config: Config, state: dict[str, Any] | None = None, into: Path | None = None
) -> tuple[Run, list[TrainingProgress]]:
    """Train, keep every report, and save a checkpoint at each, named by its step."""
    reports = []

    def on_report(report: TrainingProgress) -> None:
        reports.append(report)
        if into is not None:
            runs.save_checkpoint(into / str(report.step), report.state())

    return train(data, config, on_report=on_report, state=state), reports

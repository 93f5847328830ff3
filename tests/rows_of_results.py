"""Rows of results as trainings write them, for tests of reports and tables."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def row(error: float | None = 5.0, **changed: Any) -> dict[str, Any]:
    """One row; its split hash encodes labels and draw, and its configuration hash method and labels."""
    values = {"labels": 50, "method": "gan", "seed": 0, **changed}
    draw = values.setdefault("draw_seed", values["seed"])
    return {
        "dataset": "digits",
        "dataset_sha256": "d" * 64,
        "preset": "digits",
        "settings": {},
        "config_sha256": f"{values['method']}-{values['labels']}",
        "device": "cpu",
        "device_name": "a CPU, 1 threads",
        "images": 600_000,
        "images_per_second": 1000.0,
        "seconds": 600.0,
        "versions": {"ssgan": "0.1.0", "torch": "2.8.0"},
        "commit": "0123456789ab",
        "split_sha256": f"split-{values['labels']}-{draw}",
        "stack": [0, 1, 2],
        "error": error,
        "error_raw": error,
        "ece": 0.05,
        "nll": 0.5,
        "diverged": None,
        "collapsed": None,
        **values,
    }


def failed(**changed: Any) -> dict[str, Any]:
    """The row of a failed cell of a comparison."""
    values = {"dataset": "digits", "labels": 50, "method": "gan", "seed": 0, "draw_seed": 0, "split_sha256": None}
    return {**values, "error": None, "failed": "There was no room.", **changed}


def write(path: Path, rows: Iterable[dict[str, Any] | str]) -> Path:
    """Write a file with one row in each line; text is written unchanged."""
    lines = (one if isinstance(one, str) else json.dumps(one) for one in rows)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def pair() -> list[dict[str, Any]]:
    """Two methods on the same draws with differences of -4, -6 and -5."""
    errors = {"gan": (6.0, 5.0, 7.0), "supervised": (10.0, 11.0, 12.0)}
    return [row(error, method=m, seed=seed) for m, each in errors.items() for seed, error in enumerate(each)]

"""Small comparisons, and the rows that they write."""

from pathlib import Path
from typing import Any

import running
from running import status_of
from small_configs import TINY

from ssgan.compare import grid as grids
from ssgan.data.dataset import Data

SETTINGS = {name: value for name, value in TINY.items() if name != "labels"}  # each grid sets its own labels
SMALL = [f"--set={k}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in SETTINGS.items()]
TIMES = ("seconds", "images_per_second")


def run(*arguments: str | Path, out: str = "rows.jsonl") -> int:
    return status_of("compare", "digits", "--out", out, *SMALL, *arguments)


def rows(out: str | Path = "rows.jsonl") -> list[dict[str, Any]]:
    return running.rows(Path(out))


def timeless(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in found]


def grid_of(data: Data, methods: str = "gan,supervised", **changed: Any) -> grids.Grid:
    given: dict[str, Any] = {"labels": [20], "seeds": [0, 1], "settings": SETTINGS, **changed}
    return grids.build_grid(data, "digits", grids.parse_methods(methods), **given)

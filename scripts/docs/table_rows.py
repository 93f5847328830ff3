"""Read the rows in `results/rows/`, and format the errors of a cell of a table."""

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssgan.settings.presets import resolve

ROOT = Path(__file__).resolve().parents[2]
ROWS = ROOT / "results" / "rows"


def rows(name: str) -> list[dict[str, Any]]:
    """Read the rows of a file."""
    text = (ROWS / f"{name}.jsonl").read_text(encoding="utf-8")
    text = text.replace(" 1 threads", " 1 thread")  # earlier versions wrote the plural
    return [json.loads(line) for line in text.splitlines()]


def adam_note(row_list: Iterable[dict[str, Any]]) -> list[str]:
    """Write a note if rows of networks were trained with Adam, before their preset had Muon."""
    presets = set()
    for row in row_list:
        if row["preset"]:
            settings = {"labels": row["labels"], "method": row["method"], **row["settings"]}
            config = resolve(row["preset"], settings)
            if config.optimizer_d == "muon" and config.replace(optimizer_d="adam").sha256 == row["config_sha256"]:
                presets.add(f"`{row['preset']}`")
    names = " and ".join(sorted(presets))
    return [f"Rows of the preset {names} are from before it had Muon: D was trained with Adam."] if presets else []


def cell(cell_rows: list[dict[str, Any]]) -> str:
    """Format mean and deviation of a cell's errors, with the number of diverged draws."""
    errors = [row["error"] for row in cell_rows if row["error"] is not None]
    diverged = f", {len(cell_rows) - len(errors)} diverged" if len(errors) < len(cell_rows) else ""
    return f"{statistics.mean(errors):.2f} ± {statistics.stdev(errors):.2f}{diverged}"

"""Published grids: rows are added once, a grid that was stopped goes on, and curves come from the log."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import TINY
from test_readme import script

ROOT = Path(__file__).parents[1]
CELLS = [
    {**TINY, "seeds": 2, "evaluate_every_images": 200, "checkpoint_every_seconds": 1000.0},
    {**{k: v for k, v in TINY.items() if k not in ("generator_widths", "latent_size")}, "method": "supervised"},
]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with a small grid, writing into ``tmp_path``."""
    module = script("results")
    cells = [{name: value for name, value in cell.items() if name != "device"} for cell in CELLS]
    monkeypatch.setattr(module, "GRIDS", {"small": module.Grid("digits", cells)})
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(module, "SCRATCH", tmp_path / "runs")
    return module


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def timeless(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]


def test_a_grid_gives_one_row_for_each_seed_and_is_not_trained_twice(
    results: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main(["small", "--device", "cpu"]) == 0
    once = rows(tmp_path / "small.jsonl")
    assert [(row["method"], row["seed"], row["stack"]) for row in once] == [
        ("gan", 0, [0, 1]),
        ("gan", 1, [0, 1]),
        ("supervised", 0, [0]),
    ]
    curve = rows(tmp_path / "small-curves.jsonl")
    assert [(line["images"], line["stack"]) for line in curve] == [(200, [0, 1]), (400, [0, 1])]
    assert curve[-1]["errors"] == [row["error"] for row in once[:2]]
    assert curve[-1]["errors_raw"] == [row["error_raw"] for row in once[:2]]
    assert {line["config_sha256"] for line in curve} == {once[0]["config_sha256"]}
    assert (tmp_path / "small-samples.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert results.main(["small", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("there already") == 2
    assert rows(tmp_path / "small.jsonl") == once
    assert rows(tmp_path / "small-curves.jsonl") == curve


def test_a_grid_that_was_stopped_goes_on_to_the_same_rows(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main(["small", "--device", "cpu"]) == 0
    whole, curve = rows(tmp_path / "small.jsonl"), rows(tmp_path / "small-curves.jsonl")
    sliced = tmp_path / "sliced"
    sliced.mkdir()
    monkeypatch.setattr(results, "RESULTS", sliced)
    monkeypatch.setattr(results, "SCRATCH", sliced / "runs")
    statuses = []
    while not statuses or statuses[-1]:
        statuses.append(results.main(["small", "--device", "cpu", "--minutes", "0"]))
        assert len(statuses) < 20
    # Four reports a cell: three stops, then the last report and the next cell's first.
    assert statuses == [3] * 6 + [0]
    assert timeless(rows(sliced / "small.jsonl")) == timeless(whole)
    assert timeless(rows(sliced / "small-curves.jsonl")) == timeless(curve)
    assert "steps. The same command goes on." in capsys.readouterr().out


def test_parts_share_out_the_cells(results: ModuleType, tmp_path: Path) -> None:
    assert results.main(["small", "--device", "cpu", "--part", "2/2"]) == 0
    assert [row["method"] for row in rows(tmp_path / "small.jsonl")] == ["supervised"]


def test_the_recipe_is_reproduced_with_ten_draws_of_four_counts() -> None:
    module = script("results")
    cells = [module.resolve("mnist-paper", cell) for cell in module.GRIDS["mnist"].cells]
    assert {(c.labels, c.seeds, c.total_images) for c in cells} == {(n, 10, 18_000_000) for n in (20, 50, 100, 200)}
    assert all(c.method == "gan" for c in cells)


def test_reproduce_mnist_says_where_the_data_are_missing(tmp_path: Path) -> None:
    file = tmp_path / "nowhere"
    file.write_text("")
    command = [sys.executable, str(ROOT / "scripts" / "reproduce_mnist"), "--data-dir", str(file), "--minutes", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("ssgan: mnist is not whole in")
    assert "Traceback" not in done.stderr

"""Published grids: rows are added once, a stopped grid resumes, and curves are taken from the log."""

import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from running import rows, script
from small_configs import TINY, tiny

from ssgan.data.dataset import Data

ROOT = Path(__file__).parents[2]
CELLS = [
    {**TINY, "seeds": 2, "evaluate_every_images": 200, "checkpoint_every_seconds": 1000.0},
    {**{k: v for k, v in TINY.items() if k not in ("generator_widths", "latent_size")}, "method": "supervised"},
]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with a small grid, writing into ``tmp_path``."""
    module = script("experiments/results")
    cells = [{name: value for name, value in cell.items() if name != "device"} for cell in CELLS]
    monkeypatch.setattr(module, "GRIDS", {"small": module.Grid("digits", cells)})
    monkeypatch.setattr(module, "ROWS", tmp_path)
    monkeypatch.setattr(module, "PICTURES", tmp_path)
    monkeypatch.setattr(module, "SCRATCH", tmp_path / "runs")
    return module


def without_timings(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]


def test_a_curve_is_kept_once_for_each_stack_and_configuration(
    results: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Reports without test errors, and those that the stack already has, are left out."""
    reports = [{"images": n, "errors": [9.0] if n % 200 == 0 else None} for n in (100, 200, 300, 400)]
    monkeypatch.setattr(results.runs, "read_log", lambda folder: reports)
    path = tmp_path / "curves.jsonl"
    configs = [tiny(seed=0), tiny(seed=1), tiny(seed=0, learning_rate_d=1e-4)]
    for config in [*configs, *configs]:
        results.keep_curve(path, tmp_path, config)
    reports.append({"images": 600, "errors": [8.0]})
    results.keep_curve(path, tmp_path, configs[1])
    found = [(line["stack"], line["config_sha256"], line["images"]) for line in rows(path)]
    of = [([config.seed], config.sha256) for config in configs]
    assert found == [(*one, images) for one in of for images in (200, 400)] + [(*of[1], 600)]


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


def test_stopped_grid_resumes_to_the_same_rows(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main(["small", "--device", "cpu"]) == 0
    whole, curve = rows(tmp_path / "small.jsonl"), rows(tmp_path / "small-curves.jsonl")
    sliced = tmp_path / "sliced"
    sliced.mkdir()
    monkeypatch.setattr(results, "ROWS", sliced)
    monkeypatch.setattr(results, "PICTURES", sliced)
    monkeypatch.setattr(results, "SCRATCH", sliced / "runs")
    statuses = []
    while not statuses or statuses[-1]:
        statuses.append(results.main(["small", "--device", "cpu", "--minutes", "0"]))
        if len(statuses) == 3:  # stopped after three of four reports, of which the second measures errors
            assert without_timings(rows(sliced / "small-curves.jsonl")) == without_timings(curve)[:1]
        assert len(statuses) < 20
    # Four reports a cell: three stops, then the last report and the next cell's first.
    assert statuses == [3] * 6 + [0]
    assert without_timings(rows(sliced / "small.jsonl")) == without_timings(whole)
    assert without_timings(rows(sliced / "small-curves.jsonl")) == without_timings(curve)
    assert "steps. The same command goes on." in capsys.readouterr().out


def test_part_option_selects_a_part_of_the_cells(results: ModuleType, tmp_path: Path) -> None:
    assert results.main(["small", "--device", "cpu", "--part", "2/2"]) == 0
    assert [row["method"] for row in rows(tmp_path / "small.jsonl")] == ["supervised"]


@pytest.mark.parametrize(
    ("data", "images", "labels"),
    [("mnist", 18_000_000, (20, 50, 100, 200)), ("cifar10", 60_000_000, (1000, 2000, 4000, 8000))],
)
def test_reproduction_grids_have_ten_draws_of_four_label_counts(
    data: str, images: int, labels: tuple[int, ...]
) -> None:
    """All other settings are those of the preset."""
    module = script("experiments/results")
    cells = [module.resolve(module.GRIDS[data].preset_name, cell) for cell in module.GRIDS[data].cells]
    assert {(c.labels, c.seeds, c.total_images) for c in cells} == {(n, 10, images) for n in labels}
    preset = module.resolve(f"{data}-paper", {})
    assert {name for c in cells for name in preset.diff(c)} == {"labels", "seeds"}


def test_short_grids_differ_from_the_recipe_only_in_length_and_decay(results: ModuleType) -> None:
    grids = script("experiments/results").GRIDS
    for name, preset in (("mnist-short", "mnist-paper"), ("cifar10-short", "cifar10-paper")):
        whole, short = (results.resolve(preset, cell) for cell in ({}, grids[name].cells[0]))
        changed = {"total_images", "evaluate_every_images", "report_every_images", "decay_last_fraction"}
        assert whole.diff(short).keys() <= changed
        assert short.decay_last_fraction == 0
        assert short.total_images < (1 - whole.decay_last_fraction) * whole.total_images
        assert short.total_images % short.evaluate_every_images == 0


def test_short_cifar10_grid_records_errors_during_training(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few channels, and few images of the size of CIFAR-10."""
    (cell,) = script("experiments/results").GRIDS["cifar10-short"].cells
    few = {"labels": 20, "total_images": 80, "evaluate_every_images": 40, "batch_size": 20, "init_images": 20}
    narrow = {"discriminator_widths": (4, 6), "generator_widths": (8, 6, 4), "latent_size": 5}
    monkeypatch.setattr(
        results, "GRIDS", {"cifar10-short": results.Grid("cifar10", [{**cell, **few, **narrow}], "cifar10-paper")}
    )
    random = np.random.RandomState(0)
    x, y = random.randint(0, 256, (60, 32, 32, 3), np.uint8), np.arange(60) % 10
    monkeypatch.setattr(
        results, "load", lambda *_: Data(x[:40], y[:40], x[40:], y[40:], tuple("0123456789"), name="cifar10")
    )
    assert results.main(["cifar10-short", "--device", "cpu"]) == 0
    (row,) = rows(tmp_path / "cifar10-short.jsonl")
    assert (row["preset"], row["labels"], row["images"]) == ("cifar10-paper", 20, 80)
    curve = rows(tmp_path / "cifar10-short-curves.jsonl")
    assert [line["images"] for line in curve] == [40, 80]
    needed = {"L", "U", "V", "feature_matching", "images_per_second", "errors", "errors_raw"}
    assert [needed - line.keys() for line in curve] == [set(), set()]
    assert curve[-1]["errors"] == [row["error"]]
    assert (tmp_path / "cifar10-short-samples.png").exists()


@pytest.mark.parametrize("data", ["mnist", "cifar10"])
def test_reproduction_script_reports_missing_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: str
) -> None:
    file = tmp_path / "nowhere"
    file.write_text("")
    reproduction = ROOT / "scripts" / "experiments" / f"reproduce_{data}"
    monkeypatch.setattr(sys, "argv", [str(reproduction), "--data-dir", str(file), "--minutes", "0"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(reproduction), run_name="__main__")
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith(f"ssgan: {data} is incomplete in")

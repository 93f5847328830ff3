"""`ssgan train` and `ssgan evaluate`: the run folder, the report, the scores, and dry runs."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import RUN_FILES, contents, last_object, status_of
from small_configs import TINY_OPTIONS

from ssgan import runs
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.settings.config import Config
from ssgan.settings.presets import resolve

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

PLOTS = {"confusion.png", "reliability.png"}
DOCUMENTED_KEYS = {
    *["dataset", "labels", "method", "preset", "seeds", "device", "device_name", "accuracy_mean", "accuracy_std"],
    *["error_mean", "error_std", "errors", "errors_raw", "images_per_second", "seconds", "run"],
}


# Full trainings


def test_train_writes_the_run_folder(trained: tuple[Path, str], digits: Data) -> None:
    out, _ = trained
    assert {path.name for path in out.iterdir()} == RUN_FILES
    expected = {"labels": 20, "seed": 3, "seeds": 2, "device": "cpu", "total_images": 2000, "report_every_images": 1000}
    config = runs.read_config(out)
    assert config == resolve("digits-fast", {**expected, "discriminator_widths": (16, 8), "generator_widths": (16,)})
    for seed, split in zip((3, 4), splits.load(out / "split.json"), strict=True):
        assert np.array_equal(split.indices, splits.draw(digits.y_train, 20, seed))
        assert np.array_equal(split.y, digits.y_train[split.indices])
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in log] == [1000, 2000]
    assert len(log[0]["feature_matching"]) == 2
    with Image.open(out / "samples.png") as samples, Image.open(out / "labeled.png") as labeled:
        assert samples.size == (10 * 50 - 2, 10 * 50 - 2)
        assert labeled.height == 10 * 50 - 2  # one row per class: its name and two images
        assert 2 * 50 < labeled.width < 2 * 50 + 30


def test_json_output_is_one_line_equal_to_report(trained: tuple[Path, str]) -> None:
    out, printed = trained
    assert len(printed.splitlines()) == 1
    result = last_object(printed)
    assert result.keys() >= DOCUMENTED_KEYS
    assert result == runs.read_report(out)
    settings = {"dataset": "digits", "labels": 20, "method": "gan", "preset": "digits-fast", "seeds": [3, 4]}
    assert {name: result[name] for name in settings} == settings
    assert (result["device"], result["run"]) == ("cpu", str(out))
    assert len(result["errors"]) == len(result["errors_raw"]) == 2
    first, second = result["errors"]
    assert 0 <= min(first, second) <= max(first, second) <= 100
    assert result["error_mean"] == pytest.approx((first + second) / 2)
    assert result["accuracy_mean"] == pytest.approx(100 - result["error_mean"])
    assert result["error_std"] == result["accuracy_std"] == pytest.approx(abs(first - second) / math.sqrt(2))
    assert result["images_per_second"] > 0
    assert result["seconds"] > 0
    assert [row["seed"] for row in result["rows"]] == [3, 4]
    assert [row["draw_seed"] for row in result["rows"]] == [3, 4]
    assert [row["error"] for row in result["rows"]] == result["errors"]


def test_evaluate_gives_errors_of_training_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    assert status_of("evaluate", run, "--device", "cpu", "--json") == 0
    result, report = last_object(capsys.readouterr().out), runs.read_report(run)
    for name in ("dataset", "labels", "method", "preset", "seeds", "errors", "errors_raw", "error_mean", "error_std"):
        assert result[name] == report[name]
    for ours, theirs in zip(result["rows"], report["rows"], strict=True):
        assert {**theirs, **ours} == theirs
    after = contents(run)
    assert {name: after.pop(name) is not None for name in PLOTS} == dict.fromkeys(PLOTS, True)
    assert after == before


def test_evaluate_reports_counts_per_class_and_writes_plots(
    run: Path, digits: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("evaluate", run, "--device", "cpu", "--json") == 0
    said = capsys.readouterr()
    result = last_object(said.out)
    assert (len(said.out.splitlines()), said.err) == (1, "")
    assert [sum(row) for row in result["confusion"]] == (2 * np.bincount(digits.y_test)).tolist()
    assert [row.keys() for row in result["per_class"]] == [{"class", "precision", "recall", "f1", "count"}] * 10
    assert [row.keys() for row in result["reliability"]] == [{"low", "high", "count", "confidence", "accuracy"}] * 15
    assert result["plots"] == {name: str(run / f"{name}.png") for name in ("confusion", "reliability")}
    for path in result["plots"].values():
        with Image.open(path) as plot:
            assert min(plot.size) > 400
    assert status_of("evaluate", run, "--device", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [f"Confusion: {run / 'confusion.png'}", f"Reliability: {run / 'reliability.png'}"]
    at = lines.index("Rows: true class; columns: predicted, by 2 models, counted together")
    shown = [[0 if cell == "." else int(cell) for cell in line.split()[1:]] for line in lines[at + 2 : at + 12]]
    assert shown == result["confusion"]


def test_evaluate_names_plots_of_other_data_after_data_set(
    run: Path, digits: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = {"x_test": digits.x_test[:30], "y_test": digits.y_test[:30], "scale": 16}
    np.savez(tmp_path / "few.npz", x_train=digits.x_train, y_train=digits.y_train, **shares)
    assert status_of("evaluate", run, "--data", "few.npz", "--device", "cpu", "--json") == 0
    assert last_object(capsys.readouterr().out)["test_images"] == 30
    assert {path.name for path in run.iterdir()} - RUN_FILES == {"confusion-few.png", "reliability-few.png"}


def test_evaluate_reports_plots_that_cannot_be_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "confusion.png").mkdir()
    (run / "confusion.png" / "mine").write_text("mine")
    assert status_of("evaluate", run, "--device", "cpu", "--json") == 0
    said = capsys.readouterr()
    assert last_object(said.out)["plots"] is None
    assert said.err.startswith(f"ssgan: no plots: {run} cannot be written to (")
    assert len(said.err.splitlines()) == 1


def test_evaluate_refuses_an_ensemble_of_several_draws(mistake: Callable[..., str], run: Path) -> None:
    assert "2 models learned from 2 different draws" in mistake("evaluate", "run", "--ensemble")


def test_evaluate_without_test_images_explains_how_to_add_them(
    mistake: Callable[..., str], run: Path, digits: Data, tmp_path: Path
) -> None:
    np.savez(tmp_path / "bare.npz", x_train=digits.x_train, y_train=digits.y_train, scale=16)
    assert mistake("evaluate", "run", "--data", "bare.npz") == (
        "bare has no test images to score: give --data a folder or .zip of labelled pictures, or an .npz "
        "that holds some, with their labels, as x_test and y_test."
    )


def test_evaluate_scores_the_averaged_and_the_last_models(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the two are swapped in the checkpoint, the two errors are swapped."""
    state = torch.load(run / "checkpoint", weights_only=True)
    last = state["networks"]["D"]
    mass = state["average"]["mass"]
    averaged = {k: v / mass for k, v in state["average"]["sums"].items()}
    state["average"], last["parameters"] = {"sums": last["parameters"], "mass": 1.0}, averaged
    torch.save(state, run / "checkpoint")
    assert status_of("evaluate", run, "--device", "cpu", "--json") == 0
    result, report = last_object(capsys.readouterr().out), runs.read_report(run)
    assert (result["errors"], result["errors_raw"]) == (report["errors_raw"], report["errors"])


def test_evaluate_shows_accuracy_error_and_device(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("evaluate", run, "--device", "cpu") == 0
    said, report = capsys.readouterr().out, runs.read_report(run)
    assert "540 test images of digits" in said
    assert report["device_name"] in said
    mean, std = report["error_mean"], report["error_std"]
    accuracy = f"accuracy {100 - mean:.2f} +- {std:.2f} %, error {mean:.2f} +- {std:.2f} % over 2 models"
    assert accuracy in said.splitlines()


@pytest.fixture
def two_training_outputs(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The output of two trainings without --out: gan with the labels of the preset, then supervised."""
    assert status_of("train", "digits", "--device", "cpu", *TINY_OPTIONS) == 0
    first = capsys.readouterr().out
    assert (
        status_of("train", "digits", "--method", "supervised", "--labels", "all", "--device", "cpu", *TINY_OPTIONS[:4])
        == 0
    )
    return first, capsys.readouterr().out


def test_run_folders_are_numbered_and_printed(two_training_outputs: tuple[str, str], tmp_path: Path) -> None:
    gan, supervised = (Path("runs") / name for name in ("1-digits-50-gan", "2-digits-all-supervised"))
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")} == {str(gan), str(supervised)}
    assert {path.name for path in gan.iterdir()} == RUN_FILES
    assert {path.name for path in supervised.iterdir()} == RUN_FILES - {"samples.png"}
    for said, folder, labels in zip(two_training_outputs, (gan, supervised), (50, 1257), strict=True):
        report = runs.read_report(folder)
        assert (report["labels"], report["run"]) == (labels, str(folder))
        error, device = report["error_mean"], report["device_name"]
        lines = said.splitlines()
        assert f"accuracy {100 - error:.2f} %, error {error:.2f} %" in lines
        assert f"Run folder: {folder}" in lines
        assert any(line.startswith(f"on {device} (cpu)") for line in lines)
        assert report["error_std"] is None
        assert (f"Generated images: {folder / 'samples.png'}" in lines) == (folder == gan)


def test_next_run_number_follows_highest(tmp_path: Path) -> None:
    for name in ("7-digits-50-gan", "notes", "12", "3-x"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert runs.create_run_folder(None, "digits", Config(labels=20)) == Path("runs/8-digits-20-gan")
    assert runs.create_run_folder(None, "digits", Config(method="supervised")) == Path("runs/9-digits-given-supervised")


def test_training_exits_with_status_2_if_every_model_diverged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    explode = ["--set", "learning_rate_d=1e39", "--device", "cpu", "--out", "run", "--json"]
    assert status_of("train", "digits", *explode, *TINY_OPTIONS) == 2
    said = capsys.readouterr()
    result = last_object(said.out)
    assert (result["errors"], result["errors_raw"], result["error_mean"]) == ([None], [None], None)
    assert result["diverged"] == [0]
    assert said.err.splitlines()[-1] == (
        "ssgan: Every model diverged, so run holds no model to use: lower learning_rate_d and learning_rate_g."
    )
    assert last_object((tmp_path / "run" / "log.jsonl").read_text())["L"] == [None]
    assert status_of("evaluate", "run", "--json") == 0
    said = capsys.readouterr()
    assert (last_object(said.out)["errors"], last_object(said.out)["plots"], said.err) == ([None], None, "")


def test_training_of_days_prints_one_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ssgan.training.timing.Clock.steps_per_second", lambda _: 1e-5)
    assert (
        status_of("train", "digits", "--device", "cpu", *TINY_OPTIONS[2:], "--set", "total_images=3000", "--json") == 0
    )
    said = capsys.readouterr()
    assert said.err.count("At this speed it takes about 11.6 days: --set total_images=11 takes about an hour.") == 1
    assert last_object(said.out)["warnings"] == []


# Dry runs


def test_dry_run_shows_every_field_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("train", "digits", "--dry-run", "--labels", "20", "--out", "run", "--set", "batch_size=32") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {words[0]: words[1] for words in lines if len(words) > 1}
    expected = {"labels": "20", "batch_size": "32", "method": "gan", "total_images": "200000", "draw_seed": "none"}
    assert {name: shown.get(name) for name in expected} == expected
    assert len(lines) >= len(Config().to_dict())
    assert list(tmp_path.iterdir()) == []


def test_dry_run_shows_names_values_and_units_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("train", "digits", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "…" not in said
    assert "300,150,150" in said
    assert [name for name in Config().to_dict() if name not in said.split()] == []


def test_dry_run_as_json_is_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--labels", "all", "--method", "supervised", "--epochs", "2", "--seed", "5", "--seeds", "3"]
    assert status_of("train", "digits", *options, "--set", "learning_rate_d=0.01", "--dry-run", "--json") == 0
    config = Config(**last_object(capsys.readouterr().out))
    named = {"labels": "all", "method": "supervised", "total_images": 2514, "seed": 5, "seeds": 3}
    assert config == resolve("digits-fast", {**named, "learning_rate_d": 0.01})
    assert status_of("train", "digits", "--draw-seed", "8", "--preset", "digits", "--dry-run", "--json") == 0
    assert Config(**last_object(capsys.readouterr().out)) == resolve("digits", {"draw_seed": 8})
    assert list(tmp_path.iterdir()) == []

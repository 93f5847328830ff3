"""The command line as a user meets it: what it writes, what it says, and every mistake it answers in one sentence."""

import contextlib
import csv
import dataclasses
import io
import json
import math
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from conftest import contents, last_object, status_of
from pictures_on_disk import classes, encoded, grey, packed, write
from PIL import Image
from rich.console import Console

import ssgan
from ssgan import cli, runs
from ssgan.cli import terminal as screen
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS
from ssgan.inference.models import open_run, score
from ssgan.settings.config import Config
from ssgan.settings.presets import PRESETS, resolve

TINY = ["--set", "total_images=2000", "--set", "discriminator_widths=16,8", "--set", "generator_widths=16"]
FILES = {
    *("checkpoint", "config.json", "curves.png", "labeled.png"),
    *("log.jsonl", "report.json", "samples.png", "split.json"),
}
PLOTS = {"confusion.png", "reliability.png"}
PROMISED = {
    *["dataset", "labels", "method", "preset", "seeds", "device", "device_name", "accuracy_mean", "accuracy_std"],
    *["error_mean", "error_std", "errors", "errors_raw", "images_per_second", "seconds", "run"],
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of two models, and what `train --json` printed."""
    out = tmp_path_factory.mktemp("trained") / "deep" / "run"
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        options = ["--labels", "20", "--seed", "3", "--seeds", "2", "--device", "cpu", "--out", out, "--json"]
        # The first report falls on the step at which the clock has just warmed up.
        assert status_of("train", "digits", *options, *TINY, "--set", "report_every_images=1000") == 0
    return out, text.getvalue()


@pytest.fixture
def run(trained: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


# The names, pinned


def test_commands_and_options_are_pinned() -> None:
    group: Any = typer.main.get_command(cli.app.app)
    found = {
        name: {option for parameter in command.params for option in parameter.opts if option.startswith("-")}
        for name, command in group.commands.items()
    }
    assert found == {
        "train": {
            *["--labels", "--method", "--preset", "--epochs", "--seed", "--seeds", "--draw-seed", "--device"],
            *["--out", "--resume", "--config", "--set", "--image-size", "--labels-csv", "--data-dir", "--json"],
            *["--folds", "--dry-run"],
        },
        "evaluate": {"--data", "--ensemble", "--device", "--labels-csv", "--data-dir", "--json"},
        "predict": {"--out", "--probabilities", "--seed", "--device", "--json"},
        "compare": {
            *["--out", "--labels", "--methods", "--preset", "--epochs", "--seed", "--seeds", "--draw-seed", "--ablate"],
            *["--device", "--set", "--image-size", "--labels-csv", "--data-dir", "--json", "--dry-run"],
        },
        "report": {"--out", "--baseline", "--json"},
        "data": {"--labels", "--draw-seed", "--image-size", "--labels-csv", "--set", "--data-dir", "--json"},
        "sample": {
            *["--grid", "--interpolate", "--arithmetic", "--nearest", "--per-class", "--animate", "--numbered"],
            *["--rows", "--columns", "--samples", "--path", "--seed", "--model", "--out", "--data", "--data-dir"],
            *["--device", "--json"],
        },
    }
    arguments = {
        name: [p.metavar for p in command.params if p.param_type_name == "argument"]
        for name, command in group.commands.items()
    }
    assert arguments == {
        "train": ["DATA"],
        "evaluate": ["RUN"],
        "predict": ["RUN", "IMAGES..."],
        "compare": ["DATA"],
        "report": ["FILES.jsonl..."],
        "data": ["DATA|RUN"],
        "sample": ["RUN"],
    }
    assert [parameter.opts for parameter in group.params] == [["--version"]]


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "compare", "report", "data", "sample"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(command, "--help") == 0
    assert f"{command} [OPTIONS]" in capsys.readouterr().out


def test_version_names_versions_device_and_commit(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--version") == 0
    versions, device, commit = capsys.readouterr().out.splitlines()
    torch_version = metadata.version("torch")
    assert versions.startswith(
        f"ssgan {ssgan.__version__}, python {platform.python_version()}, torch {torch_version}, "
    )
    assert device.startswith("device ")
    assert commit.startswith("commit ")


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of() == 0
    assert "Usage: " in capsys.readouterr().out


# Training, whole


def test_train_writes_the_run_folder(trained: tuple[Path, str], digits: Data) -> None:
    out, _ = trained
    assert {path.name for path in out.iterdir()} == FILES
    expected = {"labels": 20, "seed": 3, "seeds": 2, "device": "cpu", "total_images": 2000, "report_every_images": 1000}
    config = runs.read_config(out)
    assert config == resolve("digits", {**expected, "discriminator_widths": (16, 8), "generator_widths": (16,)})
    for seed, split in zip((3, 4), splits.load(out / "split.json"), strict=True):
        assert np.array_equal(split.indices, splits.draw(digits.y_train, 20, seed))
        assert np.array_equal(split.y, digits.y_train[split.indices])
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in log] == [1000, 2000]
    assert len(log[0]["feature_matching"]) == 2
    with Image.open(out / "samples.png") as samples, Image.open(out / "labeled.png") as labeled:
        assert samples.size == (10 * 50 - 2, 10 * 50 - 2)
        assert labeled.size == (10 * 50 - 2, 2 * 50 - 2)


def test_json_is_the_last_line_and_the_report(trained: tuple[Path, str]) -> None:
    out, printed = trained
    assert len(printed.splitlines()) == 1
    result = last_object(printed)
    assert result.keys() >= PROMISED
    assert result == runs.read_report(out)
    settings = {"dataset": "digits", "labels": 20, "method": "gan", "preset": "digits", "seeds": [3, 4]}
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


def test_evaluate_gives_the_same_errors(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_evaluate_counts_each_class_and_draws_it(run: Path, digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_evaluate_draws_other_data_beside_the_runs_own(
    run: Path, digits: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = {"x_test": digits.x_test[:30], "y_test": digits.y_test[:30], "scale": 16}
    np.savez(tmp_path / "few.npz", x_train=digits.x_train, y_train=digits.y_train, **shares)
    assert status_of("evaluate", run, "--data", "few.npz", "--device", "cpu", "--json") == 0
    assert last_object(capsys.readouterr().out)["test_images"] == 30
    assert {path.name for path in run.iterdir()} - FILES == {"confusion-few.png", "reliability-few.png"}


def test_evaluate_without_room_for_plots_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "confusion.png").mkdir()
    (run / "confusion.png" / "mine").write_text("mine")
    assert status_of("evaluate", run, "--device", "cpu", "--json") == 0
    said = capsys.readouterr()
    assert last_object(said.out)["plots"] is None
    assert said.err.startswith(f"ssgan: no plots: {run} cannot be written to (")
    assert len(said.err.splitlines()) == 1


def test_evaluate_refuses_an_ensemble_of_several_draws(mistake: Callable[..., str], run: Path) -> None:
    assert "2 models learned from 2 different draws" in mistake("evaluate", "run", "--ensemble")


def test_evaluate_without_a_test_share_says_how_to_get_one(
    mistake: Callable[..., str], run: Path, digits: Data, tmp_path: Path
) -> None:
    np.savez(tmp_path / "bare.npz", x_train=digits.x_train, y_train=digits.y_train, scale=16)
    assert mistake("evaluate", "run", "--data", "bare.npz") == (
        "bare has no test images to score: give --data an .npz that holds some, with their labels, as x_test and "
        "y_test."
    )


def test_evaluate_scores_the_averaged_and_the_last_models(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the two exchanged in the checkpoint, the two errors are exchanged."""
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
def runs_in_order(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What two trainings without --out say: gan with the preset's labels, then supervised."""
    assert status_of("train", "digits", "--device", "cpu", *TINY) == 0
    first = capsys.readouterr().out
    assert status_of("train", "digits", "--method", "supervised", "--labels", "all", "--device", "cpu", *TINY[:4]) == 0
    return first, capsys.readouterr().out


def test_runs_are_numbered_and_shown(runs_in_order: tuple[str, str], tmp_path: Path) -> None:
    gan, supervised = (Path("runs") / name for name in ("1-digits-50-gan", "2-digits-all-supervised"))
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")} == {str(gan), str(supervised)}
    assert {path.name for path in gan.iterdir()} == FILES
    assert {path.name for path in supervised.iterdir()} == FILES - {"samples.png"}
    for said, folder, labels in zip(runs_in_order, (gan, supervised), (50, 1257), strict=True):
        report = runs.read_report(folder)
        assert (report["labels"], report["run"]) == (labels, str(folder))
        error, device = report["error_mean"], report["device_name"]
        lines = said.splitlines()
        assert f"accuracy {100 - error:.2f} %, error {error:.2f} %" in lines
        assert f"Run folder: {folder}" in lines
        assert any(line.startswith(f"on {device} (cpu)") for line in lines)
        assert report["error_std"] is None
        assert (f"Generated images: {folder / 'samples.png'}" in lines) == (folder == gan)


def test_the_next_number_follows_the_highest(tmp_path: Path) -> None:
    for name in ("7-digits-50-gan", "notes", "12", "3-x"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert runs.claim(None, "digits", Config(labels=20)) == Path("runs/8-digits-20-gan")
    assert runs.claim(None, "digits", Config(method="supervised")) == Path("runs/9-digits-given-supervised")


def test_a_run_of_which_every_model_diverged_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explode = ["--set", "learning_rate_d=1e39", "--device", "cpu", "--out", "run", "--json"]
    assert status_of("train", "digits", *explode, *TINY) == 2
    said = capsys.readouterr()
    result = last_object(said.out)
    assert (result["errors"], result["errors_raw"], result["error_mean"]) == ([None], [None], None)
    assert result["diverged"] == [0]
    assert said.err.splitlines()[-1] == (
        "ssgan: Every model diverged, so run holds none to use: lower learning_rate_d and learning_rate_g."
    )
    assert last_object((tmp_path / "run" / "log.jsonl").read_text())["L"] == [None]
    assert status_of("evaluate", "run", "--json") == 0
    said = capsys.readouterr()
    assert (last_object(said.out)["errors"], last_object(said.out)["plots"], said.err) == ([None], None, "")


def test_a_training_of_days_is_said_on_the_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ssgan.training.monitor.Clock.steps_per_second", lambda _: 1e-5)
    assert status_of("train", "digits", "--device", "cpu", *TINY[2:], "--set", "total_images=3000", "--json") == 0
    said = capsys.readouterr()
    assert said.err.count("At this speed the training takes 11.6 days more: Ctrl-C stops it") == 1
    assert last_object(said.out)["warnings"] == []


# Predictions


@pytest.fixture
def pictures(digits: Data, tmp_path: Path) -> list[str]:
    """Test images of digits as files, one of them in a folder and with a name of many letters."""
    names = ["b.png", "a.png", "deep/ünï 猫 [1].png"]
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    for name, image in zip(names, digits.x_test, strict=False):
        Image.fromarray((image * (255 / 16)).round().astype(np.uint8)).save(tmp_path / "pictures" / name)
    return [f"pictures/{name}" for name in names]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_predict_gives_the_classes_of_the_first_model(
    run: Path, pictures: list[str], digits: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("predict", run, *pictures, "--device", "cpu") == 0
    said = capsys.readouterr()
    p = open_run(run, torch.device("cpu"))[0].probabilities(digits.x_test[:3])[0]
    rows = rows_of(said.out)
    assert [row["file"] for row in rows] == pictures
    assert [row["class"] for row in rows] == [digits.classes[k] for k in p.argmax(axis=1)]
    assert [float(row["probability"]) for row in rows] == pytest.approx(p.max(axis=1), rel=1e-5)
    assert said.err == "by the model of seed 3 (2 models learned from different labels: --seed picks another)\n"
    assert status_of("predict", run, "pictures", "--device", "cpu", "--seed", "4") == 0
    said = capsys.readouterr()
    assert [row["file"] for row in rows_of(said.out)] == [pictures[1], pictures[0], pictures[2]]
    assert said.err == "by the model of seed 4\n"


def test_predict_reads_patterns_lists_and_arrays(
    run: Path, pictures: list[str], digits: Data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("x.npz", x_test=digits.x_test[:2])
    lines = io.TextIOWrapper(io.BytesIO("\n".join([*pictures, "caf\xe9"]).encode("latin-1", "replace")), "utf-8")
    monkeypatch.setattr(sys, "stdin", lines)
    assert status_of("predict", run, "pictures/*.png", "-", "x.npz", "--out", "p.csv", "--device", "cpu") == 0
    said = capsys.readouterr()
    raw = Path("p.csv").read_bytes()
    files = [row["file"] for row in rows_of(raw.decode("utf-8", "surrogateescape"))]
    assert files[:4] == [pictures[1], pictures[0], pictures[0], pictures[1]]
    assert files[6:] == ["x.npz[0]", "x.npz[1]"]
    assert b"\ncaf\xe9," in raw
    assert said.out == "6 of 8 images classified: p.csv\n"


@pytest.mark.parametrize("out", ["p.json", "p.jsonl"])
def test_predict_writes_json(
    run: Path, pictures: list[str], digits: Data, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    assert status_of("predict", run, "pictures", "--probabilities", "--out", out, "--device", "cpu", "--json") == 0
    said, text = capsys.readouterr().out, Path(out).read_text(encoding="utf-8")
    rows = json.loads(text) if out == "p.json" else [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 3
    for row in rows:
        p = [row[f"p({name})"] for name in digits.classes]
        assert sum(p) == pytest.approx(1, abs=1e-4)
        assert (row["class"], row["probability"]) == (digits.classes[int(np.argmax(p))], max(p))
    summary = last_object(said)
    assert len(said.splitlines()) == 1
    assert (summary["out"], summary["images"], summary["classified"], summary["unreadable"]) == (out, 3, 3, [])
    assert (summary["run"], summary["seeds"], summary["predictions_of"]) == (str(run), [3], "the model of seed 3")
    assert sum(one["count"] for one in summary["per_class"]) == 3


def test_predict_names_what_it_cannot_read_and_goes_on(
    run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pictures/broken.png").write_bytes(Path(pictures[0]).read_bytes()[:50])
    Path("notes.txt").write_text("no picture")
    names = ["notes.txt", pictures[0], "pictures/broken.png", "gone.png", "*.tif"]
    assert status_of("predict", run, *names, "--device", "cpu", "--json") == 0
    said = capsys.readouterr()
    *table, summary = said.out.splitlines()
    rows = rows_of("\n".join(table))
    assert [row["file"] for row in rows] == names
    assert [row["class"] != "" for row in rows] == [False, True, False, False, False]
    assert rows[0]["note"] == "notes.txt is no picture that can be read."
    assert rows[3]["note"] == "There is no file gone.png."
    assert rows[4]["note"] == "*.tif matches no file."
    assert said.err.splitlines()[1:] == [row["note"] for row in rows if not row["class"]]
    assert json.loads(summary)["classified"] == 1


def test_predict_lists_a_few_of_many_unreadable_files(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{i}.png" for i in range(30)]
    assert status_of("predict", run, *names, "--device", "cpu") == 2
    said = capsys.readouterr()
    assert [row["note"] for row in rows_of(said.out)] == [f"There is no file {name}." for name in names]
    assert said.err.splitlines()[1:] == [
        *(f"There is no file {name}." for name in names[:20]),
        "and 10 more",
        "ssgan: None of the images could be read.",
    ]


def test_predict_answers_its_own_mistakes(
    mistake: Callable[..., str], run: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mistake("predict", "run") == "Missing argument 'IMAGES...'. See `ssgan --help`."
    assert "must end in .csv, .jsonl or .json" in mistake("predict", "run", "pictures", "--out", "p.txt")
    assert "lies in gone" in mistake("predict", "run", "pictures", "--out", "gone/p.csv")
    assert "'tpu'" in mistake("predict", "run", "pictures", "--device", "tpu")
    assert "choose from 3, 4" in mistake("predict", "run", "pictures", "--seed", "5")
    assert mistake("predict", "run", "pictures", "--seed", "abc") == "--seed is abc, but must be a whole number."
    assert mistake("predict", "pictures", "pictures") == "pictures is no run folder: there is no config.json in it."
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    assert "Standard input names no image" in mistake("predict", "run", "-")


# Without training


def test_dry_run_shows_every_field_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("train", "digits", "--dry-run", "--labels", "20", "--out", "run", "--set", "batch_size=32") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {words[0]: words[1] for words in lines if len(words) > 1}
    expected = {"labels": "20", "batch_size": "32", "method": "gan", "total_images": "600000", "draw_seed": "none"}
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
    assert config == resolve("digits", {**named, "learning_rate_d": 0.01})
    assert status_of("train", "digits", "--draw-seed", "8", "--preset", "digits", "--dry-run", "--json") == 0
    assert Config(**last_object(capsys.readouterr().out)) == resolve("digits", {"draw_seed": 8})
    assert list(tmp_path.iterdir()) == []


# What is in it


def test_data_of_a_set(digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("data", "digits", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert (result["dataset"], result["sha256"], result["image_shape"]) == ("digits", digits.sha256, [8, 8])
    assert (result["images"], result["unlabeled"], result["test_images"]) == (1257, 0, 540)
    assert result["classes"] == list("0123456789")
    assert result["per_class"] == {
        "pool": np.bincount(digits.y_train).tolist(),
        "test": np.bincount(digits.y_test).tolist(),
    }
    assert result["splits"] == []
    assert status_of("data", "digits") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digits: 1,257 images in the training pool, 540 test images"
    assert lines[1] == "each 8x8 of uint8, full intensity 16"
    assert max(map(len, lines)) <= 80
    assert ["0", "133", "45"] in [line.split() for line in lines]
    assert ["total", "1257", "540"] in [line.split() for line in lines]


def test_data_of_a_draw(digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
    rows = splits.draw(digits.y_train, 20, 7)
    assert status_of("data", "digits", "--labels", "20", "--draw-seed", "7", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert result["per_class"]["draw 7"] == [2] * 10
    sha256 = splits.Split(rows, digits.y_train[rows]).sha256
    assert result["splits"] == [{"name": "draw 7", "sha256": sha256, "indices": rows.tolist()}]
    assert status_of("data", "digits", "--labels", "20", "--draw-seed", "7") == 0
    said = capsys.readouterr().out
    assert f"draw 7: split {sha256[:12]}, rows {', '.join(map(str, rows[:8]))}, ..." in said.splitlines()
    assert status_of("data", "digits", "--labels", "all", "--json") == 0
    (split,) = last_object(capsys.readouterr().out)["splits"]
    assert split["indices"] == list(range(1257))


def test_data_of_a_run(trained: tuple[Path, str], digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = trained
    assert status_of("data", out, "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert [split["name"] for split in result["splits"]] == ["seed 3", "seed 4"]
    for split, seed in zip(result["splits"], (3, 4), strict=True):
        assert split["indices"] == splits.draw(digits.y_train, 20, seed).tolist()
        assert result["per_class"][split["name"]] == [2] * 10
    assert [split["sha256"] for split in result["splits"]] == [r["split_sha256"] for r in runs.read_report(out)["rows"]]
    assert status_of("data", out) == 0
    assert (
        f"Labelled images of the first seed (some, if many): {out / 'labeled.png'}"
        in capsys.readouterr().out.splitlines()
    )


# Mistakes: one sentence with the value and a way out, and nothing written

TRAIN_MISTAKES = {
    "data set": (["nodata"], ["'nodata'", "choose from digits"]),
    "method": (["digits", "--method", "gans"], ["method 'gans'", "gan, supervised", "Did you mean 'gan'?"]),
    "preset": (["digits", "--preset", "digit"], ["preset 'digit'", "Did you mean 'digits'?"]),
    "field": (["digits", "--set", "lerning_rate_d=1"], ["'lerning_rate_d'", "Did you mean 'learning_rate_d'?"]),
    "strange field": (["digits", "--set", "zzzz=1"], ["'zzzz'", "ssgan train DATA --dry-run"]),
    "unreadable value": (["digits", "--set", "batch_size=abc"], ["batch_size", "'abc'", "a whole number at least 2"]),
    "value out of range": (["digits", "--set", "batch_size=1"], ["batch_size is 1,", "a whole number at least 2"]),
    "not a number": (
        ["digits", "--set", "learning_rate_d=nan"],
        ["learning_rate_d is nan", "a finite number at least 0"],
    ),
    "no assignment": (["digits", "--set", "batch_size"], ["'batch_size'", "field=value"]),
    "same field twice": (["digits", "--set", "batch_size=8", "--set", "batch_size=9"], ["batch_size=9", "twice"]),
    "flag and field": (["digits", "--labels", "50", "--set", "labels=20"], ["labels=20", "twice", "leave one"]),
    "epochs and images": (["digits", "--epochs", "1", "--set", "total_images=9"], ["total_images=9", "twice"]),
    "useless setting": (["digits", "--method", "supervised", "--set", "weight_fake=0.7"], ["=0.7", "method=gan"]),
    "too many labels": (["digits", "--labels", "1258"], ["1258", "between 10", "and 1257", "'all'"]),
    "fewer labels than classes": (["digits", "--labels", "9"], ["is 9,", "between 10", "one for each class"]),
    "negative labels": (["digits", "--labels", "-5"], ["labels is -5", "at least 0", "'all'"]),
    "no labels to learn from": (["digits", "--labels", "0", "--method", "vat"], ["labels is 0", "vat", "method gan"]),
    "labels no number": (["digits", "--labels", "abc"], ["labels is 'abc'", "a whole number", "'all'"]),
    "draw seed for all": (["digits", "--labels", "all", "--draw-seed", "3"], ["draw_seed=3", "a number of labels"]),
    "no seeds": (["digits", "--seeds", "0"], ["seeds is 0", "at least 1 and at most 4096"]),
    "negative seed": (["digits", "--seed", "-1"], ["seed is -1", "at least 0"]),
    "no epochs": (["digits", "--epochs", "0"], ["--epochs is 0", "above 0"]),
    "negative epochs": (["digits", "--epochs", "-1"], ["--epochs is -1", "above 0"]),
    "epochs no number": (["digits", "--epochs", "nan"], ["--epochs is nan", "a number above 0"]),
    "endless epochs": (["digits", "--epochs", "inf"], ["--epochs is inf", "a number above 0"]),
    "uncountable epochs": (["digits", "--epochs", "1e300"], ["--epochs is 1e300", "more images than can be counted"]),
    "preset as a setting": (["digits", "--set", "preset=mine"], ["preset", "--preset"]),
    "no objective": (["digits", "--set", "weight_feature_matching=0"], ["weight 0", "set one of", "weight_fake=0"]),
    "device without a name": (["digits", "--device", "tpu"], ["'tpu'", "choose from auto", "cpu"]),
    "unknown option": (["digits", "--lables", "20"], ["--lables", "--help"]),
    "one word too many": (["digits", "mnist"], ["mnist", "--help"]),
    "option without value": (["digits", "--labels"], ["--labels", "--help"]),
    "missing argument": ([], ["DATA", "--help"]),
}


@pytest.mark.parametrize(("arguments", "words"), TRAIN_MISTAKES.values(), ids=TRAIN_MISTAKES)
def test_mistakes_of_train(mistake: Callable[..., str], arguments: list[str], words: list[str]) -> None:
    sentence = mistake("train", *arguments)
    assert [word for word in words if word not in sentence] == [], sentence


def test_an_unknown_command_is_answered(mistake: Callable[..., str]) -> None:
    sentence = mistake("trian", "digits")
    assert "'trian'" in sentence
    assert "--help" in sentence


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device that should be missing")
def test_a_device_that_is_not_there_is_refused(mistake: Callable[..., str], trained: tuple[Path, str]) -> None:
    for command in (["train", "digits"], ["evaluate", trained[0]]):
        assert mistake(*command, "--device", "cuda").startswith("There is no device 'cuda' here: choose from auto, ")


def test_a_folder_that_exists_is_not_written_to(mistake: Callable[..., str], tmp_path: Path) -> None:
    for name in ("folder", "file"):
        path = tmp_path / name
        path.mkdir() if name == "folder" else path.write_text("mine")
        sentence = mistake("train", "digits", "--out", path, *TINY)
        assert sentence == (
            f"{path} exists already: choose another folder with --out, or go on with the run in it by --resume."
        )


def test_a_folder_that_cannot_be_made_is_refused(mistake: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("file/run", "file/deep/run"):
        sentence = mistake("train", "digits", "--out", name, *TINY)
        assert sentence == f"The folder {name} cannot be made (Not a directory): choose another with --out."


def test_runs_that_is_a_file_is_refused(mistake: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("mine")
    assert "runs/1-digits-50-gan cannot be made" in mistake("train", "digits", *TINY)


@pytest.mark.parametrize("command", ["evaluate", "data"])
def test_a_run_that_is_not_there_is_refused(mistake: Callable[..., str], command: str) -> None:
    sentence = mistake(command, "runs/9-digits")
    assert "runs/9-digits" in sentence
    assert {"evaluate": "`ssgan train` printed", "data": "choose from digits"}[command] in sentence


def test_a_folder_that_is_no_run_is_refused(mistake: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert mistake("evaluate", "folder") == "folder is no run folder: there is no config.json in it."
    assert mistake("data", "folder").startswith("folder is ")
    assert "there is no folder" not in mistake("evaluate", "folder")


@pytest.mark.parametrize("command", ["evaluate", "data"])
def test_a_run_that_did_not_finish_is_refused(mistake: Callable[..., str], run: Path, command: str) -> None:
    (run / "report.json").unlink()
    assert mistake(command, "run") == (
        "run is a run that did not finish (go on with it by `ssgan train DATA --out RUN --resume`): there is no "
        "report.json in it."
    )


@pytest.mark.parametrize("name", ["config.json", "report.json"])
def test_a_damaged_file_of_a_run_is_refused(mistake: Callable[..., str], run: Path, name: str) -> None:
    (run / name).write_bytes((run / name).read_bytes()[:-20])
    assert mistake("evaluate", "run") == f"run/{name} cannot be read: it is damaged or something else."


def test_a_run_of_another_version_is_refused(mistake: Callable[..., str], run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "weight_of_tomorrow": 1.0}))
    sentence = mistake("evaluate", "run")
    assert "settings that this version" in sentence
    assert "weight_of_tomorrow" in sentence


def test_a_damaged_checkpoint_is_refused(mistake: Callable[..., str], run: Path) -> None:
    whole = (run / "checkpoint").read_bytes()
    (run / "checkpoint").write_bytes(whole[: len(whole) // 2])
    expected = "run/checkpoint cannot be read as a checkpoint: it is damaged or something else."
    assert mistake("evaluate", "run") == expected
    (run / "checkpoint").unlink()
    assert mistake("evaluate", "run") == "There is no run/checkpoint: the run did not finish, or this is no run folder."


def test_a_checkpoint_of_other_networks_is_refused(mistake: Callable[..., str], run: Path) -> None:
    state = torch.load(run / "checkpoint", weights_only=True)
    weights = state["networks"]["D"]["parameters"]
    name = next(iter(weights))
    weights[name] = weights[name][..., :-1]
    torch.save(state, run / "checkpoint")
    sentence = mistake("evaluate", "run")
    assert name in sentence
    assert "do not fit" in sentence


def test_a_run_with_a_changed_split_is_refused(mistake: Callable[..., str], run: Path) -> None:
    content = json.loads((run / "split.json").read_text())
    content["splits"][1]["y"][0] = 9 - content["splits"][1]["y"][0]
    (run / "split.json").write_text(json.dumps(content))
    assert mistake("data", "run") == (
        "run/split.json does not match its own SHA-256: it was changed after it was written."
    )


def test_data_and_evaluate_answer_their_own_mistakes(mistake: Callable[..., str], run: Path) -> None:
    assert "leave --labels away" in mistake("data", "run", "--labels", "20")
    assert "leave --draw-seed away" in mistake("data", "run", "--draw-seed", "3")
    assert "--draw-seed 7 would do nothing" in mistake("data", "digits", "--draw-seed", "7")
    assert "'nodata'" in mistake("evaluate", "run", "--data", "nodata")
    assert "'tpu'" in mistake("evaluate", "run", "--device", "tpu")
    assert "labels is 'abc'" in mistake("data", "digits", "--labels", "abc")
    assert "between 10 (one for each class) and 1257" in mistake("data", "digits", "--labels", "5000")
    assert "draw_seed is -1" in mistake("data", "digits", "--labels", "20", "--draw-seed", "-1")
    for command, argument in (("evaluate", "RUN"), ("data", "DATA|RUN")):
        assert mistake(command) == f"Missing argument '{argument}'. See `ssgan --help`."


def test_a_value_that_typer_refuses_is_named(mistake: Callable[..., str]) -> None:
    assert "abc" in mistake("train", "digits", "--seeds", "abc")


def test_labels_none_is_not_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    status = status_of("train", "digits", "--labels", "none", "--dry-run", "--json")
    assert status == 2 or last_object(capsys.readouterr().out)["labels"] is None


def test_a_configuration_of_something_else_is_refused(mistake: Callable[..., str], run: Path) -> None:
    (run / "config.json").write_text("null")
    assert "config.json" in mistake("evaluate", "run")


def test_a_report_of_something_else_is_refused(mistake: Callable[..., str], run: Path) -> None:
    (run / "report.json").write_text("{}")
    assert "report.json" in mistake("evaluate", "run")


def test_a_checkpoint_of_something_else_is_refused(mistake: Callable[..., str], run: Path) -> None:
    torch.save({"format_version": 1}, run / "checkpoint")
    assert "checkpoint" in mistake("evaluate", "run")


def test_a_checkpoint_with_a_changed_weight_is_refused(mistake: Callable[..., str], run: Path) -> None:
    path = run / "checkpoint"
    content, weights = path.read_bytes(), torch.load(path, weights_only=True)["average"]["sums"]
    at = content.index(max(weights.values(), key=torch.numel).numpy().tobytes())
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert "checkpoint" in mistake("evaluate", "run")


# A user's own pictures

PHOTOS = {
    **classes(each=10),
    **{f"unlabeled/{i}.png": grey(1000 + i) for i in range(20)},
    "cat/broken.png": b"",
    "unlabeled/text.jpg": b"no picture",
    "notes.txt": b"mine",
}
TINIER = [*TINY, "--set", "batch_size=10", "--set", "init_images=20", "--device", "cpu"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache_of_its_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(cache))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("pictures") / "photos", PHOTOS)


@pytest.fixture(scope="module")
def trained_on_photos(photos: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run, with what `train` printed on both streams; nothing but the run and the cache was written."""
    place = tmp_path_factory.mktemp("photos")
    before, said, shown = contents(photos.parent), io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.chdir(photos.parent)
        patch.setenv("SSGAN_DATA", str(cache))
        patch.setattr(screen.err, "_file", shown)
        options = ["--image-size", "6", "--set", "test_share=0.3", "--set", "test_seed=4", "--set", "image_mode=rgb"]
        assert status_of("train", "photos", *options, "--out", place / "run", *TINIER, "--json") == 0
    assert contents(photos.parent) == before
    assert [path.name for path in place.iterdir()] == ["run"]
    assert {path.name for path in cache.iterdir()} == {"decoded"}
    return place / "run", said.getvalue(), shown.getvalue()


def test_a_run_on_photos_holds_what_loads_them_again(trained_on_photos: tuple[Path, str, str], photos: Path) -> None:
    run, printed, _ = trained_on_photos
    report = last_object(printed)
    assert report["source"] == {"data": str(photos), "data_dir": None, "labels_csv": None}
    assert (report["dataset"], report["classes"], report["preset"]) == ("photos", ["cat", "dog"], "vectors")
    assert report["labels"] == 14
    config = runs.read_config(run)
    assert (config.image_size, config.image_mode, config.test_share, config.test_seed) == (6, "rgb", 0.3, 4)
    assert config.labels is None
    assert {path.name for path in run.iterdir()} == FILES


def test_what_was_skipped_is_said_while_training(trained_on_photos: tuple[Path, str, str]) -> None:
    lines = trained_on_photos[2].splitlines()
    assert lines[:2] == [
        "Skipped files that cannot be read: 2 (1 of them labelled): cat/broken.png is empty; unlabeled/text.jpg is no "
        "picture that can be read",
        "Ignored files that are no pictures: 1 (.txt: 1)",
    ]


def test_evaluate_and_data_load_the_same_photos_from_anywhere(
    trained_on_photos: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run, printed, _ = trained_on_photos
    report = last_object(printed)
    assert status_of("evaluate", run, "--device", "cpu", "--json") == 0
    assert last_object(capsys.readouterr().out)["errors"] == report["errors"]
    assert status_of("data", run, "--json") == 0
    found = last_object(capsys.readouterr().out)
    assert (found["sha256"], found["image_shape"]) == (report["dataset_sha256"], [6, 6, 3])
    assert found["per_class"] == {"pool": [7, 7], "test": [3, 3], "seed 0": [7, 7]}
    assert [Path(name).parts[0] for name in found["splits"][0]["files"]] == ["cat"] * 7 + ["dog"] * 7


def test_evaluate_brings_other_photos_to_what_the_models_know(
    trained_on_photos: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "others", {**classes("train/", each=1, first=50), **classes("test/", each=2, first=60)})
    assert status_of("evaluate", trained_on_photos[0], "--data", folder, "--device", "cpu", "--json") == 0
    assert last_object(capsys.readouterr().out)["dataset"] == "others"
    write(folder, {"test/dog/9.png": np.zeros((30, 20, 3), np.uint8)})
    assert status_of("evaluate", trained_on_photos[0], "--data", folder, "--device", "cpu") == 0
    assert "5 test images of others" in capsys.readouterr().out


def test_a_run_on_photos_goes_on(
    trained_on_photos: tuple[Path, str, str], photos: Path, tmp_path: Path, mistake: Callable[..., str]
) -> None:
    run = shutil.copytree(trained_on_photos[0], tmp_path / "run")
    begun = runs.read_report(run)["dataset_sha256"]
    assert status_of("train", photos, "--out", run, "--resume", "--set", "total_images=2200", "--json") == 0
    report = runs.read_report(run)
    assert (report["images"], report["dataset_sha256"]) == (2200, begun)
    refused = mistake("train", photos, "--out", run, "--resume", "--image-size", "7")
    assert "so it cannot go on: image_size 6, now 7; leave them as they were" in refused


def test_a_table_is_part_of_where_data_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "flat", {f"{i}.png": grey(i) for i in range(20)})
    (tmp_path / "l.csv").write_text("file,label\n" + "".join(f"{i}.png,{'xy'[i % 2]}\n" for i in range(12)))
    assert "--labels-csv FILE" in mistake("train", "flat", *TINIER)
    assert status_of("train", "flat", "--labels-csv", "l.csv", "--labels", "4", "--out", "run", *TINIER, "--json") == 0
    report = last_object(capsys.readouterr().out)
    assert report["source"]["labels_csv"] == str(tmp_path / "l.csv")
    assert (report["labels"], report["classes"]) == (4, ["x", "y"])
    monkeypatch.chdir("/")
    assert status_of("evaluate", tmp_path / "run", "--device", "cpu", "--json") == 0
    assert last_object(capsys.readouterr().out)["errors"] == report["errors"]
    assert status_of("data", tmp_path / "run", "--json") == 0
    assert last_object(capsys.readouterr().out)["per_class"]["pool"] == [5, 5]
    (tmp_path / "l.csv").rename(tmp_path / "m.csv")
    table = ["--labels-csv", tmp_path / "m.csv"]
    for moved in (table, ["--data", tmp_path / "moved", *table]):
        assert status_of("evaluate", tmp_path / "run", *moved, "--device", "cpu", "--json") == 0
        assert last_object(capsys.readouterr().out)["errors"] == report["errors"]
        if moved == table:
            (tmp_path / "flat").rename(tmp_path / "moved")


def test_an_interrupted_run_says_how_to_load_its_photos_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "my flat", {f"{i}.png": grey(i) for i in range(4)})
    (tmp_path / "l.csv").write_text("file,label\n0.png,x\n1.png,y\n")

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ssgan.training.experiment.train", interrupt)
    assert status_of("train", "my flat", "--labels-csv", "l.csv", "--out", "run", "--json") == 130
    again = "ssgan train 'my flat' --labels-csv l.csv --out run --resume"
    assert f"ssgan: run is unfinished; go on with it by: {again}" in capsys.readouterr().err.splitlines()


def test_what_is_held_out_is_said(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("data", photos) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "photos: 36 images in the training pool (20 of them without a label), 4 test images (held out)"
    assert status_of("train", photos, "--out", "run", *TINIER[2:], "--set", "total_images=20") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "photos: 16 labelled of 36 images and 4 held out for testing, method gan, 1 model, 20 images"


def test_epochs_are_passes_over_the_photos(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("train", photos, "--epochs", "3", "--dry-run", "--json") == 0
    config = Config(**last_object(capsys.readouterr().out))
    assert config == resolve("vectors", {"total_images": 3 * 36})


def test_a_users_own_data_name_their_preset_by_their_shape(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures that the network of `images` takes, and what it does not; a setting that fits one of both will do."""
    np.savez(tmp_path / "v.npz", x_train=np.full((20, 30), 0.5, np.float32), y_train=np.arange(20) % 2)
    for arguments, preset in (
        (["train", photos], "vectors"),
        (["train", tmp_path / "v.npz"], "vectors"),
        (["train", tmp_path / "v.npz", "--set", "discriminator_widths=16,8"], "vectors"),
        (["train", photos, "--image-size", "17"], "images"),
        (["train", photos, "--image-size", "17", "--set", "discriminator_widths=16,8,8"], "images"),
        (["train", photos, "--image-size", "17", "--preset", "vectors"], "vectors"),
    ):
        assert status_of(*arguments, "--dry-run", "--json") == 0
        assert last_object(capsys.readouterr().out)["preset"] == preset


def test_settings_are_resolved_before_pictures_are_read(
    photos: Path, mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssgan.cli.train.load", lambda *_: pytest.fail("read"))
    assert "lerning_rate_d" in mistake("train", photos, "--set", "lerning_rate_d=1")
    assert "image_size is 0" in mistake("train", photos, "--image-size", "0")
    assert "twice" in mistake("train", photos, "--image-size", "9", "--set", "image_size=8")
    assert "twice" in mistake("train", photos, "--epochs", "1", "--set", "total_images=8")


def test_data_shows_what_is_odd_about_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(
        tmp_path / "odd",
        {
            **PHOTOS,
            **{f"cat/more{i}.png": grey(300 + i) for i in range(25)},
            "test/cat/a.png": grey(3),
            "test/cat/b.png": grey(1002),
            "test/cat/c.png": grey(4444),
            "cat/colour.png": np.zeros((8, 8, 3), np.uint8),
            "owl/1.png": grey(900),
            "test/owl/1.png": grey(901),
        },
    )
    assert status_of("data", folder, "--set", "image_mode=grey", "--json") == 0
    found = last_object(capsys.readouterr().out)
    assert found["duplicates"] == {
        "count": 2,
        "first": [["test/cat/a.png", "cat/3.png"], ["test/cat/b.png", "unlabeled/2.png"]],
    }
    assert found["files"] == {
        "sizes": {"8x8": 71},
        "modes": {"L": 70, "RGB": 1},
        "ignored": {".txt": 1},
        "skipped": {"labelled": 1, "unlabelled": 1},
        "tested": {"in test/": 4},
    }
    assert found["skipped"] == [
        ["cat/broken.png", "is empty"],
        ["unlabeled/text.jpg", "is no picture that can be read"],
    ]
    uneven, untested = found["notes"]
    assert uneven.startswith(
        "The labelled images are uneven: 36 of cat, 1 of owl. Label more of owl, or draw fewer by "
    )
    assert untested == "No test image of 1 classes: dog."
    assert status_of("data", folder, "--image-size", "8", "--set", "image_mode=grey") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "sizes of the files 8x8: 71" in lines
    assert "modes of the files L: 70, RGB: 1" in lines
    assert "2 test images lie in the pool too, pixel for pixel: test/cat/a.png is cat/3.png, ..." in lines
    assert uneven in lines
    assert any(line.startswith("Skipped files that cannot be read: 2 (1 of them labelled): cat/br") for line in lines)


def test_uneven_labels_are_said_while_training_and_stand_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a", {**classes(each=10), "owl/1.png": grey(900)})
    said = "The labelled images are uneven: 8 of cat, 1 of owl. Label more of owl, or draw fewer by --labels"
    for options, count in (([], 1), (["--labels", "all"], 1), (["--labels", "5"], 0), (["--labels", "9"], 1)):
        assert status_of("train", "a", *options, *TINIER[2:], "--set", "total_images=20", "--json") == 0
        shown = capsys.readouterr()
        warnings = last_object(shown.out)["warnings"]
        assert [line for line in shown.err.splitlines() if "uneven" in line] == warnings
        assert len(warnings) == count
        if options != ["--labels", "9"]:
            assert [line.startswith(said) for line in warnings] == [True] * count


def test_many_skipped_files_are_counted_and_some_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a", {**classes(), **{f"cat/x{i}.png": b"" for i in range(20)}})
    assert status_of("data", "a") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Skipped")]
    assert "20 (20 of them labelled): cat/x0.png is empty; cat/x1.png" in line
    assert "--json` lists all" in line
    assert status_of("data", "a", "--json") == 0
    assert len(last_object(capsys.readouterr().out)["skipped"]) == 20


def test_data_of_arrays_says_nothing_of_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("data", "digits", "--json") == 0
    assert not {"files", "skipped", "duplicates", "notes"} & last_object(capsys.readouterr().out).keys()


def test_mistakes_with_pictures_are_one_sentence(mistake: Callable[..., str], photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    packed(tmp_path / "bad.zip", {**classes(), "../x.png": encoded(grey(1))})
    for command in ("train", "data"):
        assert "image_size=8 would do nothing" in mistake(command, "digits", "--image-size", "8")
        assert "labels_csv=l.csv would do nothing" in mistake(command, photos, "--labels-csv", "l.csv")
        assert mistake(command, "empty").startswith("empty ")
        assert "'../x.png'" in mistake(command, "bad.zip")
        assert "nothing.zip" in mistake(command, "nothing.zip")
    assert "There is no folder or file no/such." in mistake("train", "no/such")
    assert "batch_size has no part in what data hold: set one of image_size" in mistake(
        "data", photos, "--set", "batch_size=3"
    )


def test_a_run_takes_no_options_of_pictures(
    mistake: Callable[..., str], trained_on_photos: tuple[Path, str, str]
) -> None:
    run = trained_on_photos[0]
    for option, value in (("--image-size", "8"), ("--labels-csv", "l.csv"), ("--set", "test_share=0")):
        assert f"leave {option} away" in mistake("data", run, option, value)


def test_a_run_does_not_lie_among_the_pictures(
    mistake: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", classes())
    expected = "The run would lie in a, among the pictures: choose a folder elsewhere with --out."
    assert mistake("train", "a", "--out", "a/run", *TINIER) == expected
    monkeypatch.chdir(tmp_path / "a")
    assert "choose a folder elsewhere" in mistake("train", ".", *TINIER)


def test_reading_is_shown_in_a_terminal_and_now_and_then_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=terminal, width=80)
        monkeypatch.setattr(screen, "err", console)
        monkeypatch.setattr(screen, "SECONDS_BETWEEN_LINES", 0)
        with screen.reading() as show:
            assert show is not None
            show("decoding", 640, 60_000)
        assert "decoding 640 of 60,000 pictures" in stream.getvalue()
    monkeypatch.setattr(screen, "SECONDS_BETWEEN_LINES", 60)
    with screen.reading() as show:
        assert show is not None
        before = stream.getvalue()
        show("decoding", 704, 60_000)
    assert stream.getvalue() == before
    with screen.reading(quiet=True) as nothing:
        assert nothing is None


# The process itself


def test_a_mistake_leaves_the_process_with_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ssgan.cli", "train", "digitz"]
    environment = {"PYTHONPATH": str(Path(ssgan.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ssgan: Unknown data set 'digitz': choose from digits")
    assert done.stderr.count("\n") == 1


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: Any) -> Data:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("ssgan.cli.train.load", fault)
    with pytest.raises(ZeroDivisionError, match="ours"):
        cli.main(["train", "digits"])


def test_an_interruption_leaves_with_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> Data:
        raise KeyboardInterrupt

    monkeypatch.setattr("ssgan.cli.train.load", interrupt)
    assert status_of("train", "digits") == 130
    assert capsys.readouterr().err.splitlines()[-1:] == ["ssgan: interrupted."]


def test_a_reader_that_leaves_does_not_end_a_training(tmp_path: Path) -> None:
    command = (
        f"{sys.executable} -m ssgan.cli train digits --labels 20 --device cpu --out run {' '.join(TINY)} | head -1"
    )
    environment = {"PYTHONPATH": str(Path(ssgan.__file__).parents[1]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90
    )
    assert done.stdout.startswith("digits: 20 labelled of 1,257 images")
    assert (tmp_path / "run" / "report.json").exists(), done.stderr


def test_files_of_two_runs_are_not_taken_for_one(
    mistake: Callable[..., str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ["--labels", "20", "--seed", "3", "--seeds", "2", "--draw-seed", "9", "--device", "cpu", "--out", "other"]
    assert status_of("train", "digits", *other, *TINY) == 0
    capsys.readouterr()
    shutil.copy(tmp_path / "other" / "checkpoint", run / "checkpoint")
    shutil.copy(tmp_path / "other" / "split.json", run / "split.json")
    assert "not of the same run" in mistake("evaluate", "run")
    assert "not of the same run" in mistake("data", "run")


@pytest.mark.parametrize(
    "change", [{"rows": []}, {"rows": [{}, {}]}, {"labels": "many"}, {"labels": None}, {"seeds": 5}, {"rows": 7}]
)
def test_a_report_of_odd_content_is_refused(mistake: Callable[..., str], run: Path, change: dict[str, Any]) -> None:
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**report, **change}))
    for command in ("evaluate", "data"):
        assert "report.json" in mistake(command, "run")


def test_numbered_folders_do_not_meet(tmp_path: Path) -> None:
    (tmp_path / "runs" / "7-other").mkdir(parents=True)
    claimed = {runs.claim(None, "digits", Config(labels=20)).name for _ in range(3)}
    assert claimed == {f"{n}-digits-20-gan" for n in (8, 9, 10)}


def test_too_much_for_the_memory_is_said_in_a_sentence(mistake: Callable[..., str]) -> None:
    huge = ["--set", "discriminator_widths=100000,100000000", "--labels", "20", "--device", "cpu", "--out", "run"]
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "digits", *huge])
    assert left.value.code == 2


def test_an_interrupted_training_names_what_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ssgan.training.experiment.train", interrupt)
    assert status_of("train", "digits", "--labels", "20", "--out", "run") == 130
    again = "ssgan: run is unfinished; go on with it by: ssgan train digits --out run --resume"
    assert capsys.readouterr().err.splitlines() == [again, "ssgan: interrupted."]
    assert splits.load(tmp_path / "run" / "split.json")[0].indices.tolist()


def test_a_table_is_never_cut_short(capsys: pytest.CaptureFixture[str], run: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert status_of("evaluate", "run") == 0
    assert "seed  draw  accuracy %  error %  error % (raw)    ECE    NLL" in capsys.readouterr().out


# Settings of an earlier run: `ssgan train DATA --config FILE|RUN`


def configured(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Config:
    """The configuration that `train` would train with."""
    capsys.readouterr()
    assert status_of("train", *arguments, "--dry-run", "--json") == 0
    return Config(**last_object(capsys.readouterr().out))


def test_config_takes_the_settings_of_a_run_or_of_a_file(
    trained: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = trained
    config = runs.read_config(out)
    for given in (out, out / "config.json"):
        assert configured(capsys, "digits", "--config", given) == config
        changed = ["--labels", "30", "--epochs", "2", "--set", "learning_rate_d=0.1", "--device", "auto"]
        expected = config.replace(labels=30, total_images=2514, learning_rate_d=0.1, device="auto")
        assert configured(capsys, "digits", "--config", given, *changed) == expected
    # The preset is that of the run, whatever the data set would name.
    assert configured(capsys, "digits", "--config", out, "--preset", "digits").preset == "digits"
    (tmp_path / "part.json").write_text('{"learning_rate_d": 1, "discriminator_widths": [30, 20]}')
    part = {"learning_rate_d": 1.0, "discriminator_widths": (30, 20)}
    assert configured(capsys, "digits", "--config", "part.json") == resolve("digits", part)
    asked = configured(capsys, "digits", "--config", "part.json", "--preset", "mnist-paper")
    assert asked == resolve("mnist-paper", part)
    (tmp_path / "empty.json").write_text("{}")
    assert configured(capsys, "digits", "--config", "empty.json") == resolve("digits", {})


def test_config_repeats_a_run(trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    """To the same errors: a run is its settings."""
    out, _ = trained
    assert status_of("train", "digits", "--config", out, "--out", "again", "--json") == 0
    ours, theirs = last_object(capsys.readouterr().out), runs.read_report(out)
    for name in ("errors", "errors_raw", "config_sha256", "settings", "preset", "seeds"):
        assert ours[name] == theirs[name]


def test_config_of_a_baseline_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What does nothing in it was not asked for by the user."""
    config = resolve("digits", {"method": "supervised", "labels": "all"})
    folder = runs.claim(tmp_path / "run", "digits", config)
    assert configured(capsys, "digits", "--config", folder) == config
    assert configured(capsys, "digits", "--config", folder, "--method", "gan").method == "gan"


CONFIG_MISTAKES: dict[str, tuple[str | None, list[str], str]] = {
    "unknown setting": (
        '{"lerning_rate_d": 0.1}',
        [],
        "Unknown setting 'lerning_rate_d'. Did you mean 'learning_rate_d'?",
    ),
    "another preset": (
        '{"preset": "digits"}',
        ["--preset", "mnist-paper"],
        "--preset mnist-paper does not go with --config mine.json, a run of preset 'digits': choose one.",
    ),
    "unknown preset": (
        '{"preset": "digit"}',
        [],
        f"Unknown preset 'digit': choose from {', '.join(PRESETS)}. Did you mean 'digits'?",
    ),
    "no JSON": ('{"labels": 20', [], "mine.json cannot be read: it is damaged or something else."),
    "no text": ("\udcff", [], "mine.json cannot be read: it is damaged or something else."),
    "a list": ('["labels"]', [], "mine.json cannot be read: it is damaged or something else."),
    "nothing there": (None, [], "There is no file mine.json: give a run folder, or its config.json."),
    "a word for a number": ('{"batch_size": "100"}', [], "batch_size is '100', but must be a whole number at least 2."),
    "a fraction": ('{"batch_size": 10.0}', [], "batch_size is 10.0, but must be a whole number at least 2."),
    "no number": ('{"learning_rate_d": NaN}', [], "learning_rate_d is nan, but must be a finite number at least 0."),
    "endless": ('{"learning_rate_d": 1e999}', [], "learning_rate_d is inf, but must be a finite number at least 0."),
    "nothing": ('{"device": null}', [], "device is none, but must be a word."),
    "a truth value": ('{"seeds": true}', [], "seeds is true, but must be a whole number at least 1 and at most 4096."),
    "a number for widths": (
        '{"generator_widths": 300}',
        [],
        "generator_widths is 300, but must be whole numbers separated by commas, each at least 1.",
    ),
    "a list for a word": (
        '{"method": ["gan"]}',
        [],
        "Unknown method ['gan']: choose from gan, supervised, pseudo-label, pi, mean-teacher, vat, fixmatch. "
        "Did you mean 'gan'?",
    ),
    "twice, by flags": (
        "{}",
        ["--labels", "20", "--set", "labels=30"],
        "labels is set twice, the second time by labels=30: leave one of the two away.",
    ),
    "a flag that would do nothing": (
        '{"method": "supervised"}',
        ["--set", "weight_fake=0.7"],
        "weight_fake=0.7 would do nothing: it needs method=gan, or another that learns from unlabelled images.",
    ),
}


@pytest.mark.parametrize(("content", "more", "sentence"), CONFIG_MISTAKES.values(), ids=CONFIG_MISTAKES)
def test_mistakes_of_config(
    mistake: Callable[..., str], tmp_path: Path, content: str | None, more: list[str], sentence: str
) -> None:
    if content is not None:
        (tmp_path / "mine.json").write_text(content, errors="surrogateescape")
    assert mistake("train", "digits", "--config", "mine.json", "--dry-run", *more) == sentence


def test_config_of_a_folder_that_is_no_run_is_refused(mistake: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    expected = "folder is no run folder: there is no config.json in it."
    assert mistake("train", "digits", "--config", "folder") == expected


# Models together: `ssgan evaluate RUN --ensemble`


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three models that share one draw of labels."""
    out = tmp_path_factory.mktemp("shared") / "run"
    options = ["--labels", "20", "--seeds", "3", "--draw-seed", "9", "--device", "cpu", "--out", out]
    with contextlib.redirect_stdout(io.StringIO()):
        assert status_of("train", "digits", *options, *TINY) == 0
    return out


def test_evaluate_scores_models_together(shared: Path, digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("evaluate", shared, "--device", "cpu", "--json") == 0
    plain = last_object(capsys.readouterr().out)
    assert "ensemble" not in plain
    assert status_of("evaluate", shared, "--device", "cpu", "--ensemble", "--json") == 0
    result = last_object(capsys.readouterr().out)
    models, _ = open_run(shared, torch.device("cpu"))
    mean = models.ensemble(models.probabilities(digits.x_test))
    assert mean is not None
    together = {name: values[0] for name, values in score(mean[None], digits.y_test).items()}
    assert result["ensemble"] == {"models": 3, **together}
    assert (result["rows"], result["errors"]) == (plain["rows"], plain["errors"])
    assert status_of("evaluate", shared, "--device", "cpu", "--ensemble") == 0
    error = together["error"]
    assert (
        f"ensemble of 3 models: accuracy {100 - error:.2f} %, error {error:.2f} %, "
        f"ECE {together['ece']:.3f}, NLL {together['nll']:.3f}"
    ) in capsys.readouterr().out.splitlines()


def test_models_that_do_not_share_their_labels_are_not_scored_together(
    mistake: Callable[..., str], trained: tuple[Path, str]
) -> None:
    assert mistake("evaluate", trained[0], "--ensemble") == (
        "These 2 models learned from 2 different draws of labels, so together they have seen more labels than each: "
        "train them with --draw-seed to make an ensemble."
    )


# Where the data of a run are


@pytest.fixture
def own(few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on an .npz that was given by a relative path; the working directory is another by now."""
    for name in ("home", "elsewhere"):
        (tmp_path / name).mkdir()
    arrays = {
        name: getattr(few_digits, name) for name in ("x_train", "y_train", "x_test", "y_test", "classes", "scale")
    }
    arrays["y_train"] = np.where(np.arange(300) < 250, few_digits.y_train, -1)
    np.savez(tmp_path / "home" / "few.npz", **arrays)
    monkeypatch.chdir(tmp_path / "home")
    small = ["--labels", "20", "--seeds", "2", "--device", "cpu", "--set", "total_images=400", "--out", "run", "--json"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert status_of("train", "few.npz", *small, *TINY[2:], "--set", "init_images=50") == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home" / "run"


def test_a_tilde_in_data_dir_is_the_home_folder(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--data-dir=~/sets`, which no shell expands, is found and recorded where it is."""
    seen: list[Path | None] = []

    def read(root: Path | None) -> Data:
        seen.append(root)
        return dataclasses.replace(digits, name="mnist")

    monkeypatch.setitem(DATASETS, "mnist", read)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    options = ["--preset", "digits", "--labels", "20", "--device", "cpu", "--out", "run", "--data-dir=~/sets", "--json"]
    assert status_of("train", "mnist", *options, *TINY) == 0
    assert last_object(capsys.readouterr().out)["source"]["data_dir"] == str(tmp_path / "sets")
    assert seen == [tmp_path / "sets"]


def test_a_file_is_found_again_from_anywhere(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = runs.read_report(own)
    assert report["source"] == {"data": str(own.parent / "few.npz"), "data_dir": None, "labels_csv": None}
    assert status_of("evaluate", own, "--device", "cpu", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert (result["dataset"], result["errors"]) == ("few", report["errors"])
    assert status_of("data", own, "--json") == 0
    found = last_object(capsys.readouterr().out)
    assert (found["sha256"], found["unlabeled"]) == (report["dataset_sha256"], 50)
    assert status_of("data", own) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "few: 300 images in the training pool (50 of them without a label), 100 test images"


@pytest.mark.parametrize("command", ["evaluate", "data"])
def test_a_file_that_is_gone_is_said(mistake: Callable[..., str], own: Path, command: str) -> None:
    (own.parent / "few.npz").unlink()
    assert mistake(command, own) == f"There is no file {own.parent / 'few.npz'}."


def test_a_file_that_has_moved_is_scored_by_its_new_name(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own.parent / "few.npz").rename("moved.npz")
    assert status_of("evaluate", own, "--data", "moved.npz", "--device", "cpu", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert (result["dataset"], result["errors"]) == ("moved", runs.read_report(own)["errors"])


def test_a_report_without_a_source_falls_back_to_the_name(
    run: Path, own: Path, mistake: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (run, own):
        report = json.loads((folder / "report.json").read_text())
        del report["source"]
        (folder / "report.json").write_text(json.dumps(report))
    for command in ("evaluate", "data"):
        assert status_of(command, run, "--json") == 0
        assert last_object(capsys.readouterr().out)["dataset"] == "digits"
        assert mistake(command, own).startswith("Unknown data set 'few': choose from digits")


def test_where_downloaded_sets_lie_is_recorded_and_can_be_said_anew(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Path | None] = []

    def read(root: Path | None) -> Data:
        asked.append(root)
        return dataclasses.replace(digits, name="mnist")

    monkeypatch.setitem(DATASETS, "mnist", read)
    options = ["--labels", "20", "--device", "cpu", "--out", "run", "--data-dir", "cache", "--json"]
    assert status_of("train", "mnist", "--preset", "digits", *options, *TINY) == 0
    cache = tmp_path / "cache"
    source = last_object(capsys.readouterr().out)["source"]
    assert source == {"data": "mnist", "data_dir": str(cache), "labels_csv": None}
    monkeypatch.chdir(tmp_path / "run")
    for command in ("evaluate", "data"):
        assert status_of(command, tmp_path / "run", "--json") == 0
        assert status_of(command, tmp_path / "run", "--data-dir", "other", "--json") == 0
    assert status_of("data", "mnist", "--data-dir", "other", "--json") == 0
    assert status_of("data", "mnist", "--json") == 0
    assert asked == [Path("cache"), *[cache, Path("other")] * 2, Path("other"), None]

"""`train --config` with an earlier run, `evaluate --ensemble`, and how a run finds its data again."""

import contextlib
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from running import last_object, status_of
from small_configs import TINY_OPTIONS

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS
from ssgan.inference.models import open_run
from ssgan.inference.scores import score
from ssgan.settings.config import Config
from ssgan.settings.presets import PRESETS, resolve

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


# Settings of an earlier run: `ssgan train DATA --config FILE|RUN`


def dry_run_config(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Config:
    """Return the configuration that `train` would use."""
    capsys.readouterr()
    assert status_of("train", *arguments, "--dry-run", "--json") == 0
    return Config(**last_object(capsys.readouterr().out))


def test_config_option_reads_settings_of_run_or_file(
    trained: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = trained
    config = runs.read_config(out)
    for given in (out, out / "config.json"):
        assert dry_run_config(capsys, "digits", "--config", given) == config
        changed = ["--labels", "30", "--epochs", "2", "--set", "learning_rate_d=0.1", "--device", "auto"]
        expected = config.replace(labels=30, total_images=2514, learning_rate_d=0.1, device="auto")
        assert dry_run_config(capsys, "digits", "--config", given, *changed) == expected
    # The preset is that of the run, not the default of the data set.
    assert dry_run_config(capsys, "digits", "--config", out, "--preset", "digits-fast").preset == "digits-fast"
    (tmp_path / "part.json").write_text('{"learning_rate_d": 1, "discriminator_widths": [30, 20]}')
    part = {"learning_rate_d": 1.0, "discriminator_widths": (30, 20)}
    assert dry_run_config(capsys, "digits", "--config", "part.json") == resolve("digits-fast", part)
    asked = dry_run_config(capsys, "digits", "--config", "part.json", "--preset", "mnist-paper")
    assert asked == resolve("mnist-paper", part)
    (tmp_path / "empty.json").write_text("{}")
    assert dry_run_config(capsys, "digits", "--config", "empty.json") == resolve("digits-fast", {})


def test_config_of_older_run_disables_newer_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The preset enables it today. A file with a few settings takes the other settings from the preset."""
    before = resolve("digits-fast", {"labels": 20}).to_dict()
    assert before.pop("label_spreading_fraction") > 0
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(before))
    for given in ("run", "run/config.json"):
        assert dry_run_config(capsys, "digits", "--config", given).label_spreading_fraction == 0
    (tmp_path / "few.json").write_text('{"labels": 20}')
    assert dry_run_config(capsys, "digits", "--config", "few.json").label_spreading_fraction > 0


def test_config_repeats_a_run(trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    """The errors are the same, because the settings determine a run."""
    out, _ = trained
    assert status_of("train", "digits", "--config", out, "--out", "again", "--json") == 0
    ours, theirs = last_object(capsys.readouterr().out), runs.read_report(out)
    for name in ("errors", "errors_raw", "config_sha256", "settings", "preset", "seeds"):
        assert ours[name] == theirs[name]


def test_config_of_baseline_ignores_settings_without_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings of the file without effect are not refused, because the user did not ask for them."""
    config = resolve("digits", {"method": "supervised", "labels": "all"})
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    assert dry_run_config(capsys, "digits", "--config", folder) == config
    assert dry_run_config(capsys, "digits", "--config", folder, "--method", "gan").method == "gan"


CONFIG_ERRORS: dict[str, tuple[str | None, list[str], str]] = {
    "unknown setting": (
        '{"lerning_rate_d": 0.1}',
        [],
        "Unknown setting 'lerning_rate_d'. Did you mean 'learning_rate_d'?",
    ),
    "another preset": (
        '{"preset": "digits"}',
        ["--preset", "mnist-paper"],
        "--preset mnist-paper cannot be combined with --config mine.json, a run of preset 'digits': choose one.",
    ),
    "unknown preset": (
        '{"preset": "digit"}',
        [],
        f"Unknown preset 'digit': choose from {', '.join(PRESETS)}. Did you mean 'digits'?",
    ),
    "invalid JSON": ('{"labels": 20', [], "mine.json cannot be read: it is damaged or in another format."),
    "invalid UTF-8": ("\udcff", [], "mine.json cannot be read: it is damaged or in another format."),
    "list instead of object": ('["labels"]', [], "mine.json cannot be read: it is damaged or in another format."),
    "missing file": (None, [], "There is no file mine.json: give a run folder, or its config.json."),
    "string for integer": ('{"batch_size": "100"}', [], "batch_size is '100', but must be an integer at least 2."),
    "float for integer": ('{"batch_size": 10.0}', [], "batch_size is 10.0, but must be an integer at least 2."),
    "NaN": ('{"learning_rate_d": NaN}', [], "learning_rate_d is nan, but must be a finite number at least 0."),
    "infinity": ('{"learning_rate_d": 1e999}', [], "learning_rate_d is inf, but must be a finite number at least 0."),
    "null": ('{"device": null}', [], "device is none, but must be a word."),
    "boolean for integer": (
        '{"seeds": true}',
        [],
        "seeds is true, but must be an integer at least 1 and at most 4096.",
    ),
    "integer for widths": (
        '{"generator_widths": 300}',
        [],
        "generator_widths is 300, but must be integers separated by commas, each at least 1.",
    ),
    "list for string": (
        '{"method": ["gan"]}',
        [],
        "Unknown method ['gan']: choose from gan, supervised, pseudo-label, pi, mean-teacher, vat, fixmatch. "
        "Did you mean 'gan'?",
    ),
    "set twice by flags": (
        "{}",
        ["--labels", "20", "--set", "labels=30"],
        "labels is set twice, the second time by labels=30: omit one of the two.",
    ),
    "flag without effect": (
        '{"method": "supervised"}',
        ["--set", "weight_fake=0.7"],
        "weight_fake=0.7 has no effect: it needs method=gan, or another that learns from unlabelled images.",
    ),
}


@pytest.mark.parametrize(("content", "more", "sentence"), CONFIG_ERRORS.values(), ids=CONFIG_ERRORS)
def test_invalid_config_files_and_flags_are_refused(
    mistake: Callable[..., str], tmp_path: Path, content: str | None, more: list[str], sentence: str
) -> None:
    if content is not None:
        (tmp_path / "mine.json").write_text(content, errors="surrogateescape")
    assert mistake("train", "digits", "--config", "mine.json", "--dry-run", *more) == sentence


def test_config_refuses_folder_without_run(mistake: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    expected = "folder is not a run folder: there is no config.json in it."
    assert mistake("train", "digits", "--config", "folder") == expected


# Ensembles: `ssgan evaluate RUN --ensemble`


@pytest.fixture(scope="module")
def shared_draw_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three models that share one draw of labels."""
    out = tmp_path_factory.mktemp("shared") / "run"
    options = ["--labels", "20", "--seeds", "3", "--draw-seed", "9", "--device", "cpu", "--out", out]
    with contextlib.redirect_stdout(io.StringIO()):
        assert status_of("train", "digits", *options, *TINY_OPTIONS) == 0
    return out


def test_evaluate_ensemble_averages_probabilities(
    shared_draw_run: Path, digits: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("evaluate", shared_draw_run, "--device", "cpu", "--json") == 0
    plain = last_object(capsys.readouterr().out)
    assert "ensemble" not in plain
    assert status_of("evaluate", shared_draw_run, "--device", "cpu", "--ensemble", "--json") == 0
    result = last_object(capsys.readouterr().out)
    models, _ = open_run(shared_draw_run, torch.device("cpu"))
    mean = models.ensemble(models.probabilities(digits.x_test))
    assert mean is not None
    together = {name: values[0] for name, values in score(mean[None], digits.y_test).items()}
    assert result["ensemble"] == {"models": 3, **together}
    assert (result["rows"], result["errors"]) == (plain["rows"], plain["errors"])
    assert status_of("evaluate", shared_draw_run, "--device", "cpu", "--ensemble", "--verbose") == 0
    error = together["error"]
    assert (
        f"ensemble of 3 models: accuracy {100 - error:.2f} %, error {error:.2f} %, "
        f"ECE {together['ece']:.3f}, NLL {together['nll']:.3f}"
    ) in capsys.readouterr().out.splitlines()


def test_evaluate_refuses_ensemble_of_models_with_different_labels(
    mistake: Callable[..., str], trained: tuple[Path, str]
) -> None:
    assert mistake("evaluate", trained[0], "--ensemble") == (
        "These 2 models learned from 2 different draws of labels, so together they have seen more labels than each: "
        "train them with --draw-seed to make an ensemble."
    )


# Location of the data of a run


@pytest.fixture
def npz_run(few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on an .npz that was given by a relative path; the working directory has changed since."""
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
        assert status_of("train", "few.npz", *small, *TINY_OPTIONS[2:], "--set", "init_images=50") == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home" / "run"


@pytest.fixture
def mnist_roots(digits: Data, monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """Replace MNIST by the digits; return a list that gets each folder that MNIST is read from."""
    roots: list[Path | None] = []

    def read(root: Path | None) -> Data:
        roots.append(root)
        return dataclasses.replace(digits, name="mnist")

    monkeypatch.setitem(DATASETS, "mnist", read)
    return roots


def test_data_dir_expands_tilde(
    mnist_roots: list[Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--data-dir=~/sets`, which no shell expands, is found and recorded as an absolute path."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    options = ["--preset", "digits", "--labels", "20", "--device", "cpu", "--out", "run", "--data-dir=~/sets", "--json"]
    assert status_of("train", "mnist", *options, *TINY_OPTIONS) == 0
    assert last_object(capsys.readouterr().out)["source"]["data_dir"] == str(tmp_path / "sets")
    assert mnist_roots == [tmp_path / "sets"]


def test_relative_data_file_is_found_from_another_working_directory(
    npz_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = runs.read_report(npz_run)
    assert report["source"] == {"data": str(npz_run.parent / "few.npz"), "data_dir": None, "labels_csv": None}
    assert status_of("evaluate", npz_run, "--device", "cpu", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert (result["dataset"], result["errors"]) == ("few", report["errors"])
    assert status_of("data", npz_run, "--json") == 0
    found = last_object(capsys.readouterr().out)
    assert (found["sha256"], found["unlabeled"]) == (report["dataset_sha256"], 50)
    assert status_of("data", npz_run) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "few: 300 images in the training pool (50 of them without a label), 100 test images"


@pytest.mark.parametrize("command", ["evaluate", "data"])
def test_missing_data_file_is_named_in_error(mistake: Callable[..., str], npz_run: Path, command: str) -> None:
    (npz_run.parent / "few.npz").unlink()
    assert mistake(command, npz_run) == f"There is no file {npz_run.parent / 'few.npz'}."


def test_evaluate_scores_moved_data_file(npz_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (npz_run.parent / "few.npz").rename("moved.npz")
    assert status_of("evaluate", npz_run, "--data", "moved.npz", "--device", "cpu", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert (result["dataset"], result["errors"]) == ("moved", runs.read_report(npz_run)["errors"])


def test_a_report_without_a_source_falls_back_to_the_name(
    run: Path, npz_run: Path, mistake: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (run, npz_run):
        report = json.loads((folder / "report.json").read_text())
        del report["source"]
        (folder / "report.json").write_text(json.dumps(report))
    for command in ("evaluate", "data"):
        assert status_of(command, run, "--json") == 0
        assert last_object(capsys.readouterr().out)["dataset"] == "digits"
        assert mistake(command, npz_run).startswith("Unknown data set 'few': choose from digits")


def test_data_dir_is_recorded_and_can_be_overridden(
    mnist_roots: list[Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--labels", "20", "--device", "cpu", "--out", "run", "--data-dir", "cache", "--json"]
    assert status_of("train", "mnist", "--preset", "digits", *options, *TINY_OPTIONS) == 0
    cache = tmp_path / "cache"
    source = last_object(capsys.readouterr().out)["source"]
    assert source == {"data": "mnist", "data_dir": str(cache), "labels_csv": None}
    monkeypatch.chdir(tmp_path / "run")
    for command in ("evaluate", "data"):
        assert status_of(command, tmp_path / "run", "--json") == 0
        assert status_of(command, tmp_path / "run", "--data-dir", "other", "--json") == 0
    assert status_of("data", "mnist", "--data-dir", "other", "--json") == 0
    assert status_of("data", "mnist", "--json") == 0
    assert mnist_roots == [Path("cache"), *[cache, Path("other")] * 2, Path("other"), None]


# Report pages of runs: `ssgan report RUN`


def test_report_of_a_run_and_of_rows_of_the_same_training(
    trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A comparison measures more than the report of a run holds; its rows are used."""
    out, _ = trained
    rows = [{**row, "confusion": np.eye(10, dtype=int).tolist()} for row in runs.read_report(out)["rows"]]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for sources, words in (([out], "from 1 run."), ([out, "rows.jsonl"], "from 1 file of rows and 1 run.")):
        assert status_of("report", *sources, "--out", "page", "--json") == 0
        found = last_object(capsys.readouterr().out)
        assert found["rows_skipped"] == 2 * (len(sources) - 1)
        assert words in Path("page/report.md").read_text()
    assert {one["file"] for one in found["skipped"]} == {str(out)}

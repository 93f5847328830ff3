"""`train --config` with an earlier run, `evaluate --ensemble`, and where a run finds its data again."""

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
    assert configured(capsys, "digits", "--config", out, "--preset", "digits-fast").preset == "digits-fast"
    (tmp_path / "part.json").write_text('{"learning_rate_d": 1, "discriminator_widths": [30, 20]}')
    part = {"learning_rate_d": 1.0, "discriminator_widths": (30, 20)}
    assert configured(capsys, "digits", "--config", "part.json") == resolve("digits-fast", part)
    asked = configured(capsys, "digits", "--config", "part.json", "--preset", "mnist-paper")
    assert asked == resolve("mnist-paper", part)
    (tmp_path / "empty.json").write_text("{}")
    assert configured(capsys, "digits", "--config", "empty.json") == resolve("digits-fast", {})


def test_config_of_a_run_from_before_a_setting_leaves_it_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though the preset has it today; a file of a few settings leaves the others to the preset."""
    before = resolve("digits-fast", {"labels": 20}).to_dict()
    assert before.pop("label_spreading_fraction") > 0
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(before))
    for given in ("run", "run/config.json"):
        assert configured(capsys, "digits", "--config", given).label_spreading_fraction == 0
    (tmp_path / "few.json").write_text('{"labels": 20}')
    assert configured(capsys, "digits", "--config", "few.json").label_spreading_fraction > 0


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
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
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
        "--preset mnist-paper cannot be combined with --config mine.json, a run of preset 'digits': choose one.",
    ),
    "unknown preset": (
        '{"preset": "digit"}',
        [],
        f"Unknown preset 'digit': choose from {', '.join(PRESETS)}. Did you mean 'digits'?",
    ),
    "no JSON": ('{"labels": 20', [], "mine.json cannot be read: it is damaged or in another format."),
    "no text": ("\udcff", [], "mine.json cannot be read: it is damaged or in another format."),
    "a list": ('["labels"]', [], "mine.json cannot be read: it is damaged or in another format."),
    "nothing there": (None, [], "There is no file mine.json: give a run folder, or its config.json."),
    "a word for a number": ('{"batch_size": "100"}', [], "batch_size is '100', but must be an integer at least 2."),
    "a fraction": ('{"batch_size": 10.0}', [], "batch_size is 10.0, but must be an integer at least 2."),
    "no number": ('{"learning_rate_d": NaN}', [], "learning_rate_d is nan, but must be a finite number at least 0."),
    "endless": ('{"learning_rate_d": 1e999}', [], "learning_rate_d is inf, but must be a finite number at least 0."),
    "nothing": ('{"device": null}', [], "device is none, but must be a word."),
    "a truth value": ('{"seeds": true}', [], "seeds is true, but must be an integer at least 1 and at most 4096."),
    "a number for widths": (
        '{"generator_widths": 300}',
        [],
        "generator_widths is 300, but must be integers separated by commas, each at least 1.",
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
        "labels is set twice, the second time by labels=30: omit one of the two.",
    ),
    "a flag that has no effect": (
        '{"method": "supervised"}',
        ["--set", "weight_fake=0.7"],
        "weight_fake=0.7 has no effect: it needs method=gan, or another that learns from unlabelled images.",
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
    expected = "folder is not a run folder: there is no config.json in it."
    assert mistake("train", "digits", "--config", "folder") == expected


# Models together: `ssgan evaluate RUN --ensemble`


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three models that share one draw of labels."""
    out = tmp_path_factory.mktemp("shared") / "run"
    options = ["--labels", "20", "--seeds", "3", "--draw-seed", "9", "--device", "cpu", "--out", out]
    with contextlib.redirect_stdout(io.StringIO()):
        assert status_of("train", "digits", *options, *TINY_OPTIONS) == 0
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
    assert status_of("evaluate", shared, "--device", "cpu", "--ensemble", "--verbose") == 0
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
        assert status_of("train", "few.npz", *small, *TINY_OPTIONS[2:], "--set", "init_images=50") == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home" / "run"


@pytest.fixture
def mnist_roots(digits: Data, monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """Put the digits in the place of MNIST; return the folders that MNIST is then read from."""
    roots: list[Path | None] = []

    def read(root: Path | None) -> Data:
        roots.append(root)
        return dataclasses.replace(digits, name="mnist")

    monkeypatch.setitem(DATASETS, "mnist", read)
    return roots


def test_a_tilde_in_data_dir_is_the_home_folder(
    mnist_roots: list[Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--data-dir=~/sets`, which no shell expands, is found and recorded where it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    options = ["--preset", "digits", "--labels", "20", "--device", "cpu", "--out", "run", "--data-dir=~/sets", "--json"]
    assert status_of("train", "mnist", *options, *TINY_OPTIONS) == 0
    assert last_object(capsys.readouterr().out)["source"]["data_dir"] == str(tmp_path / "sets")
    assert mnist_roots == [tmp_path / "sets"]


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

"""Run files with one field deleted or of another type are used or refused in one sentence, without a traceback."""

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from altered_content import OTHER_VALUES, alterations
from running import status_of
from small_configs import TINY

from ssgan import runs
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.data.datasets import load
from ssgan.errors import UserError
from ssgan.inference.models import Models
from ssgan.settings.presets import resolve
from ssgan.training import experiment
from ssgan.training.folds import cross_validate
from ssgan.training.state import check_state

CPU = torch.device("cpu")
SIDE = 4


def arrays() -> dict[str, np.ndarray]:
    """Noisy images of two classes: bright on the left, or bright on the right."""
    random = np.random.RandomState(0)
    y = np.arange(36) % 2
    x = random.randint(0, 120, (36, SIDE, SIDE), np.uint8)
    x[y == 0, :, :2] += 100
    x[y == 1, :, 2:] += 100
    return {"x_train": x[:24], "y_train": y[:24], "x_test": x[24:], "y_test": y[24:]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a finished run with folds in ``done``, and an interrupted run in ``half``."""
    place = tmp_path_factory.mktemp("altered")
    np.savez(place / "few.npz", **arrays())  # type: ignore[arg-type]
    data = load(str(place / "few.npz"))
    source = {"data": str(place / "few.npz"), "data_dir": None, "labels_csv": None}
    settings = {**TINY, "labels": 8, "total_images": 40, "batch_size": 4, "init_images": 8, "report_every_images": 8}
    settings |= {"seeds": 2, "draw_seed": 0, "checkpoint_every_seconds": 0.0, "weight_historical_averaging": 0.01}
    config = resolve("digits", settings)
    folded = resolve("digits", {**settings, "folds": 2})
    runs.create_run_folder(place / "done", "few", folded)
    extra = {"folds": cross_validate(data, folded, place / "done" / "folds", source=source)}
    experiment.run_experiment(data, folded, place / "done", source=source, extra=extra)
    runs.create_run_folder(place / "half", "few", config)
    with contextlib.suppress(experiment.Paused):
        experiment.run_experiment(data, config, place / "half", source=source, pause_after_seconds=0.0)
    assert 0 < runs.load_checkpoint(place / "half" / "checkpoint")["steps_done"] < config.steps
    return place


@pytest.fixture(scope="module")
def few(folder: Path) -> Data:
    return load(str(folder / "few.npz"))


def refusal(use: Callable[[], Any]) -> str:
    """The message of the refusal, or an empty text."""
    sentence = ""
    try:
        use()
    except UserError as refused:
        sentence = str(refused)
    assert "\n" not in sentence
    return sentence


def commands(folder: Path, run: Path) -> list[list[Any]]:
    """Every command that reads a run."""
    data = folder / "few.npz"
    return [
        ["train", data, "--out", run, "--resume", "--json"],
        ["train", data, "--out", run, "--resume"],
        ["evaluate", run, "--device", "cpu"],
        ["predict", run, data, "--device", "cpu"],
        ["data", run],
        ["sample", run, "--device", "cpu", "--out", run / "a.png"],
        ["sample", run, "--device", "cpu", "--nearest", "--out", run / "a.png"],
    ]


def check_commands(folder: Path, run: Path, capfd: pytest.CaptureFixture[str], what: str) -> None:
    """Run every command on a run: each succeeds, or is refused in one sentence."""
    for command in commands(folder, run):
        status, errors = status_of(*command), capfd.readouterr().err
        assert status in (0, 2), (what, command)
        assert "Traceback" not in errors, (what, command)
        if status == 2:
            assert errors.splitlines()[-1].startswith("ssgan: "), (what, command, errors)


def copied(folder: Path, run: str, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(folder / run, to))


def test_every_command_works_on_unaltered_files(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for run in ("done", "half"):
        for command in commands(folder, copied(folder, run, tmp_path / "run")):
            assert status_of(*command) == 0, command
    capfd.readouterr()


ALL = 10**9


def sample(cases: Iterator[tuple[str, Any]], count: int) -> list[tuple[str, Any]]:
    """All cases of a deleted field if ``count`` is large enough, and about ``count`` others, evenly spread."""
    whole = list(cases)
    deleted, others = (
        [case for case in whole if case[0].startswith("without ") == is_deleted] for is_deleted in (True, False)
    )
    return [*(deleted if count > len(deleted) else []), *others[:: max(1, len(others) // count)]]


# Fields of a report that are not read, or that older versions did not write; entries of lists of variable length.
FREE = {
    *("failed_parts", "diversity", "source", "folds", "source/labels_csv", "folds/predictions", "folds/run"),
    *("calibration", "foreign", "folds/flagged", "calibration/reason", "calibration/fitted_on"),
    *("settings", "config_sha256", "versions", "commit", "classes/0", "folds/errors/0", "diverged/0", "rows/0/stack/0"),
}
NEEDED = {"seed", "draw_seed", "split_sha256", "error", "error_raw", "ece", "nll", "diverged", "collapsed"}


@pytest.mark.parametrize("count", [pytest.param(ALL, marks=pytest.mark.slow, id="all"), 400])
def test_a_report_with_an_altered_field_is_refused(folder: Path, tmp_path: Path, count: int) -> None:
    """Except for fields that older versions did not write, and values of the same kind."""
    report = runs.read_report(folder / "done")
    accepted = []
    for name, content in sample(alterations(report, OTHER_VALUES), count):
        (tmp_path / "report.json").write_text(json.dumps(content))
        if not refusal(lambda: runs.read_report(tmp_path)):
            accepted.append(name)
    deleted = {name.removeprefix("without ") for name in accepted if name.startswith("without ")}
    rest = {name for name in deleted if not name.startswith(("rows/0/", "versions/", "settings/"))}
    assert rest - FREE == set()
    assert not {f"rows/0/{key}" for key in NEEDED} & deleted


def test_a_split_file_with_an_altered_field_is_refused(folder: Path, few: Data, tmp_path: Path) -> None:
    path, config = tmp_path / "split.json", runs.read_config(folder / "half")
    content = json.loads((folder / "half" / "split.json").read_text())
    whole = splits.load(folder / "half" / "split.json")

    def use() -> None:
        loaded = splits.load(path)
        splits.check_splits(loaded, few.y_train, config.labels, config.seeds)
        assert [split.sha256 for split in loaded] == [split.sha256 for split in whole]

    accepted = []
    for name, changed in alterations(content, [*OTHER_VALUES, [1e308], [float("inf")]]):
        path.write_text(json.dumps(changed))
        if not refusal(use):
            accepted.append(name)
    # Older runs have no hashes of images.
    assert [name for name in accepted if "splits/0/draw_seed" not in name] == ["without splits/0/ids"]


@pytest.mark.parametrize("count", [pytest.param(ALL, marks=pytest.mark.slow, id="all"), 400])
def test_settings_with_an_altered_field_are_refused_or_used(folder: Path, tmp_path: Path, count: int) -> None:
    content = json.loads((folder / "half" / "config.json").read_text())
    refused = 0
    cases = sample(alterations(content, OTHER_VALUES), count)
    for _, changed in cases:
        (tmp_path / "config.json").write_text(json.dumps(changed))
        refused += bool(refusal(lambda: runs.read_config(tmp_path)))
    assert refused > len(cases) // 2


def odd_tensors() -> list[Any]:
    """Tensors of kinds that no network has."""
    return [
        torch.zeros(3),
        torch.zeros(()),
        torch.zeros(2, 10, dtype=torch.float64),
        torch.zeros(2, 2, 10).to_sparse(),
        torch.zeros(3, device="meta"),
        torch.zeros(2, 3, dtype=torch.complex64),
        torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.strided),
    ]


def altered_states(state: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each alteration of a checkpoint, without tensors of the right kind."""
    values = [*OTHER_VALUES, *odd_tensors(), list(range(4097)), float("nan"), float("inf")]
    plain = {key: value for key, value in state.items() if key != "config"}
    for name, changed in alterations(plain, values):
        yield name, {**changed, "config": state["config"]}
    yield from alterations({"config": state["config"]}, [None, [], "x"])


@pytest.mark.parametrize("count", [pytest.param(ALL, marks=pytest.mark.exhaustive, id="all"), 200])
def test_a_checkpoint_with_an_altered_field_is_refused_or_used(folder: Path, few: Data, count: int) -> None:
    """Before its training resumes, and before its models are used."""
    state = runs.load_checkpoint(folder / "half" / "checkpoint")
    config, run_splits = runs.read_config(folder / "half"), splits.load(folder / "half" / "split.json")
    check_state(state, few, config, run_splits)
    accepted = []
    for name, changed in sample(altered_states(state), count):
        if not refusal(lambda changed=changed: check_state(changed, few, config, run_splits)):
            accepted.append(name)
        if not refusal(lambda changed=changed: Models.from_state(changed, CPU)):
            assert "networks/" not in name
            assert "average/" not in name or name.startswith("average/mass = 0.5"), name
    unread = ("format_version", "dataset/name", "warnings", "images_per_second", "seconds", "steps_done = ")
    free = (*unread, "watch/", "optimizers/", "average/mass = 0.5", "without watch/", "without warnings/0")
    assert [name for name in accepted if not name.startswith((*free, *(f"without {name}" for name in unread)))] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps_done": -5}, "has steps_done = -5, which should be an integer at least 0"),
        ({"steps_done": "3"}, 'has steps_done = "3", which should be an integer at least 0'),
        ({"steps_done": 2.5}, "has steps_done = 2.5, which should be an integer at least 0"),
        ({"steps_done": 11}, "has steps_done = 11, but its training has 10 steps"),
        ({"scale": 0.0}, "has scale = 0.0, which should be a number above 0"),
        ({"scale": "16"}, 'has scale = "16", which should be a number above 0'),
        (
            {"seeds": [*range(4097)]},
            r"has seeds = \[0, 1, 2, .*, which should be a list of 1 to 4096 seeds",
        ),
        ({"seeds": [0]}, r"is of 2 models, but not of as many|has the seeds \[0\], but its settings \[0, 1\]"),
        ({"image_shape": [10**6, 10**6]}, r"has images of shape \[1000000, 1000000\]"),
    ],
)
def test_wrong_value_in_a_checkpoint_is_reported(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, Any], words: str
) -> None:
    run = copied(folder, "half", tmp_path / "run")
    state = runs.load_checkpoint(run / "checkpoint")
    runs.save_checkpoint(run / "checkpoint", {**state, **change})
    for command in commands(folder, run)[:2] + commands(folder, run)[5:]:
        assert status_of(*command) == 2, command
        message = capfd.readouterr().err.splitlines()[-1]
        assert re.match(f"ssgan: The checkpoint ({words})", message), message


@pytest.mark.parametrize("count", [pytest.param(ALL, marks=pytest.mark.exhaustive, id="all"), 3])
@pytest.mark.parametrize("name", ["report.json", "split.json", "config.json"])
def test_every_command_works_on_or_refuses_an_altered_file(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, count: int
) -> None:
    for run in ["done"] if name == "report.json" else ["done", "half"]:
        content = json.loads((folder / run / name).read_text())
        for what, changed in sample(alterations(content, OTHER_VALUES), count):
            path = copied(folder, run, tmp_path / "run")
            (path / name).write_text(json.dumps(changed))
            check_commands(folder, path, capfd, f"{run}/{name}: {what}")


@pytest.mark.parametrize("count", [pytest.param(ALL, marks=pytest.mark.exhaustive, id="all"), 3])
def test_every_command_works_on_or_refuses_an_altered_checkpoint(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], count: int
) -> None:
    for run in ("done", "half"):
        state = runs.load_checkpoint(folder / run / "checkpoint")
        for what, changed in sample(altered_states(state), count):
            path = copied(folder, run, tmp_path / "run")
            try:
                runs.save_checkpoint(path / "checkpoint", changed)
            except (RuntimeError, NotImplementedError):
                continue  # what torch cannot save
            check_commands(folder, path, capfd, f"{run}/checkpoint: {what}")

"""`ssgan train --resume`: what it refuses, and that a resumed run ends like an uninterrupted one."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from resumed_runs import UNFINISHED_RUN_FILES, differences, left_by
from running import contents, last_object, status_of
from small_configs import tiny

import ssgan
from ssgan import runs
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.data.datasets import load
from ssgan.settings.config import Config
from ssgan.training import experiment
from ssgan.training.experiment import Paused, run_experiment
from ssgan.training.monitor import Run
from ssgan.training.state import STATE_KEYS
from ssgan.training.trainer import train


@pytest.fixture(scope="module")
def begun(few_digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and runs of it: a paused run, a paused run with constant step size, a finished run and a
    longer finished run."""
    folder = tmp_path_factory.mktemp("begun")
    write_npz(folder / "few.npz", few_digits)
    data = load(folder / "few.npz")
    falling = tiny(preset="digits", seeds=2)
    constant = falling.replace(decay_last_fraction=0.0)
    for name, config in (("run", falling), ("constant", constant)):
        with pytest.raises(Paused):
            run_experiment(data, config, runs.create_run_folder(folder / name, "few", config), pause_after_seconds=0)
    for name, config in (("done", constant), ("long", constant.replace(total_images=600))):
        run_experiment(data, config, runs.create_run_folder(folder / name, "few", config))
    return folder


@pytest.fixture
def here(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working copy of this folder."""
    monkeypatch.chdir(shutil.copytree(begun, tmp_path / "here"))
    return tmp_path / "here"


@pytest.fixture
def refusal(here: Path, mistake: Callable[..., str]) -> Callable[..., str]:
    """The message of `train few.npz --out RUN --resume`, up to the command that starts from the weights.

    Nothing in the folder may change.
    """

    def answer(*more: str, run: str = "run", data: str = "few.npz") -> str:
        message = mistake("train", data, "--out", run, "--resume", "--json", *more)
        return message.partition(" To start another run from its weights")[0]

    return answer


def test_resume_requires_an_existing_run_folder(
    here: Path, refusal: Callable[..., str], mistake: Callable[..., str]
) -> None:
    words = "--resume needs --out, the folder of the run to resume."
    assert mistake("train", "few.npz", "--resume", "--dry-run") == words
    assert refusal("--config", "done", "--dry-run") == (
        "--config done cannot be combined with --resume, which uses the settings of run: choose one."
    )
    for name in ("nowhere", "few.npz"):
        expected = f"There is no run folder {name}: give the folder that `ssgan train` printed."
        assert refusal(run=name) == expected
    (here / "empty").mkdir()
    assert refusal(run="empty") == "empty is not a run folder: there is no config.json in it."
    (here / "empty" / "config.json").write_text('{"labels": 20, "weight_of_tomorrow": 1}')
    assert refusal(run="empty") == (
        "empty/config.json: The configuration holds settings that this version does not know: weight_of_tomorrow."
    )


def test_resume_refuses_other_settings(refusal: Callable[..., str]) -> None:
    def words(*changes: str, run: str = "run") -> str:
        return (
            f"{run} was started with other settings, so it cannot be resumed: {', '.join(changes)}; leave them as they "
            f"were, or start another run with --config {run}."
        )

    assert refusal("--set", "learning_rate_d=0.1") == words("learning_rate_d 0.002, now 0.1")
    several = refusal("--seed", "5", "--labels", "30", "--method", "supervised", "--seeds", "3")
    assert several == words("method gan, now supervised", "labels 20, now 30", "seed 0, now 5", "seeds 2, now 3")
    assert refusal("--preset", "mnist-paper") == words("preset digits, now mnist-paper")
    for more in ([], ["--preset", "digits"]):
        assert refusal("--set", "preset=mine", *more) == "preset=mine cannot be set: choose it with --preset."
    assert refusal("--draw-seed", "0") == words("draw_seed none, now 0")
    assert refusal("--set", "decay_last_fraction=0.333333") == words(f"decay_last_fraction {1 / 3!r}, now 0.333333")
    falls = " (with decay_last_fraction above 0, every step size depends on the length)"
    for run, why in (("run", falls), ("constant", "")):
        assert refusal("--set", "total_images=300", run=run) == words("total_images 400, now 300", run=run)
        longer = ["--set", "total_images=600", "--set", "dtype=float64"]
        changes = [f"total_images 400, now 600{why}"] * bool(why)
        assert refusal(*longer, run=run) == words(*changes, "dtype float32, now float64", run=run)
    assert refusal("--epochs", "1", run="done") == words("total_images 400, now 300", run="done")


def test_resume_refuses_settings_out_of_range(refusal: Callable[..., str]) -> None:
    assert refusal("--set", "report_every_images=0") == "report_every_images is 0, but must be an integer at least 1."
    assert refusal("--device", "tpu").startswith("There is no device 'tpu' here: choose from auto, ")


def write_npz(path: Path, data: Data, **change: np.ndarray) -> None:
    names = ("x_train", "y_train", "x_test", "y_test", "classes", "scale")
    np.savez(path, **{**{name: np.asarray(getattr(data, name)) for name in names}, **change})


@pytest.mark.parametrize("run", ["run", "done"])
@pytest.mark.parametrize("longer", [[], ["--set", "total_images=800"]], ids=["", "longer"])
def test_resume_refuses_changed_data(
    here: Path, refusal: Callable[..., str], few_digits: Data, run: str, longer: list[str]
) -> None:
    """Also for a finished run: its report is of other data, and is neither shown nor deleted."""
    pixel = few_digits.x_train.copy()
    pixel[0, 0, 0] ^= 1
    write_npz(here / "few.npz", few_digits, x_train=pixel)
    when = {"run": "the run began", "done": "done was trained"}[run]
    more = longer if run == "done" else []
    assert refusal(*more, run=run) == f"few does not match few as it was when {when}."
    assert refusal(*more, run=run, data="digits") == f"digits does not match few as it was when {when}."


def test_resume_refuses_changed_labels_or_fewer_images(
    here: Path, refusal: Callable[..., str], few_digits: Data
) -> None:
    words = "run/split.json holds other labels than few: was the run started on other data?"
    for checkpointed in (True, False):
        if not checkpointed:
            (here / "run" / "checkpoint").unlink()
        write_npz(here / "few.npz", few_digits, y_train=(few_digits.y_train + 1) % 10)
        assert refusal() == words
        write_npz(here / "few.npz", few_digits, x_train=few_digits.x_train[:120], y_train=few_digits.y_train[:120])
        assert refusal() == words


def test_resume_refuses_other_labelled_images(here: Path, refusal: Callable[..., str], few_digits: Data) -> None:
    path = here / "run" / "split.json"
    content = json.loads(path.read_text())
    rows = splits.draw(few_digits.y_train, 20, 77)
    content["splits"][1]["indices"], content["splits"][1]["y"] = rows.tolist(), few_digits.y_train[rows].tolist()
    path.write_text(json.dumps(content))
    assert refusal() == "run/split.json does not match its own SHA-256: it was changed after it was written."
    content["splits"][1]["sha256"] = splits.Split(rows, few_digits.y_train[rows]).sha256
    path.write_text(json.dumps(content))
    assert refusal() == "The run was started with other labelled images, so it cannot be resumed with these."
    path.write_text(json.dumps({**content, "splits": content["splits"][:1] * 3}))
    assert refusal() == "run/split.json holds other labels than few: was the run started on other data?"


def edit_checkpoint(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the checkpoint of a run, and save it again."""
    state = torch.load(run / "checkpoint", weights_only=True)
    change(state)
    torch.save(state, run / "checkpoint")


def test_resume_refuses_another_device(here: Path, refusal: Callable[..., str]) -> None:
    edit_checkpoint(here / "run", lambda state: state.update(device_type="cuda"))
    assert refusal() == "The run was started on cuda, and on cpu it would see other noise: resume with --device cuda."


def test_resume_refuses_a_checkpoint_with_other_settings_than_its_config(
    here: Path, refusal: Callable[..., str]
) -> None:
    edit_checkpoint(here / "run", lambda state: state["config"].update(batch_size=25))
    assert refusal() == ("The run was started with other settings, so it cannot be resumed: batch_size 25, now 20.")


@pytest.mark.parametrize("run", ["run", "done"])
def test_resume_refuses_a_damaged_checkpoint(here: Path, refusal: Callable[..., str], run: str) -> None:
    """Also if a finished run is to be extended: its report is kept."""
    path, more = here / run / "checkpoint", ["--set", "total_images=800"] * (run == "done")
    edit_checkpoint(here / run, lambda state: state["optimizers"]["D"]["first"].pop())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    words = f"{run}/checkpoint cannot be read as a checkpoint: it is damaged or in another format."
    assert refusal(*more, run=run) == words
    path.write_bytes(whole)
    edit_checkpoint(here / run, lambda state: state.update(format_version=1))
    assert refusal(*more, run=run) == f"{run}/checkpoint has format version 1, but this version of ssgan reads 2."


@pytest.mark.parametrize("run", ["run", "done"])
def test_resume_refuses_a_checkpoint_with_a_missing_key(here: Path, refusal: Callable[..., str], run: str) -> None:
    whole, more = (here / run / "checkpoint").read_bytes(), ["--set", "total_images=800"] * (run == "done")
    for key in STATE_KEYS - {"version"}:
        (here / run / "checkpoint").write_bytes(whole)
        edit_checkpoint(here / run, lambda state, key=key: state.pop(key))
        assert refusal(*more, run=run) == f"The checkpoint lacks {key}: it is damaged or in another format."


def test_resume_refuses_optimizer_moments_of_wrong_shape(here: Path, refusal: Callable[..., str]) -> None:
    edit_checkpoint(here / "run", lambda state: state["optimizers"]["D"]["second"].reverse())
    assert refusal().startswith("The checkpoint's values of second of the optimizer of D do not fit its network: ")


def test_resume_accepts_the_same_settings_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that started a run, with --resume appended."""
    given = ["--labels", "20", "--method", "gan", "--preset", "digits", "--seeds", "2", "--set", "total_images=400"]
    assert status_of("train", "few.npz", "--out", "run", "--resume", *given) == 0
    words = capsys.readouterr().out
    assert "few: 20 labelled of 300 images, method gan, 2 models, 400 images" in words
    source = runs.read_report(here / "run")["source"]
    assert source == {"data": str(here / "few.npz"), "data_dir": None, "labels_csv": None}


def test_a_dry_run_shows_the_settings_of_the_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(here)
    more = ["--set", "report_every_images=40", "--dry-run", "--json"]
    assert status_of("train", "few.npz", "--out", "run", "--resume", *more) == 0
    expected = runs.read_config(here / "run").replace(report_every_images=40)
    assert Config(**last_object(capsys.readouterr().out)) == expected
    assert contents(here) == before


@pytest.mark.parametrize("run", ["constant", "done"])
def test_run_with_constant_step_size_can_be_extended(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: str
) -> None:
    """To the same bits as a run started with that length; the old report and samples are removed first."""
    folder, began = here / run, []

    def training(*arguments: Any, **options: Any) -> Run:
        began.append((runs.read_config(folder).total_images, {*contents(folder)}))
        return train(*arguments, **options)

    monkeypatch.setattr(experiment, "train", training)
    assert status_of("train", "few.npz", "--out", run, "--resume", "--set", "total_images=600") == 0
    assert began == [(600, UNFINISHED_RUN_FILES | ({"curves.png"} if run == "done" else set()))]
    ours, theirs = left_by(folder), left_by(here / "long")
    for left in (ours, theirs):
        left["report"].pop("source")
    assert differences(ours, theirs) == []
    capsys.readouterr()
    assert status_of("evaluate", run, "--json") == 0
    assert last_object(capsys.readouterr().out)["errors"] == theirs["report"]["errors"]


def test_resume_of_a_finished_run_shows_its_report_without_training(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiment, "run_experiment", lambda *_: pytest.fail("it trained"))
    before, report = contents(here), runs.read_report(here / "done")
    for more in ([], ["--set", "total_images=400", "--set", "report_every_images=40"]):
        assert status_of("train", "few.npz", "--out", "done", "--resume", "--json", *more) == 0
        assert last_object(capsys.readouterr().out) == report
        assert status_of("train", "few.npz", "--out", "done", "--resume", *more) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "This run is finished: nothing was left to train." in lines
        assert any(line.startswith(f"accuracy {100 - report['error_mean']:.2f} +- ") for line in lines)
    assert contents(here) == before


HOLD = """
import sys, time
from ssgan import runs
with runs.lock_run(runs.Path(sys.argv[1])):
    print(flush=True)
    time.sleep(60)
"""


def test_second_process_in_the_same_run_folder_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While a process trains in a folder, another is refused and changes nothing; after it ends, the run can resume."""
    before = contents(here)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, here / "run"], stdout=subprocess.PIPE, cwd=Path(ssgan.__file__).parents[1]
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()
        assert status_of("train", "few.npz", "--out", "run", "--resume") == 2
        message = "Another `ssgan` is training in run: wait until it is done, or choose another folder with --out."
        assert capsys.readouterr() == ("", f"ssgan: {message}\n")
        assert contents(here) == before
    finally:
        other.kill()
        other.wait()
    assert status_of("train", "few.npz", "--out", "run", "--resume") == 0
    assert status_of("train", "few.npz", "--out", "run", "--resume") == 0  # the lock has been released


def test_interruption_prints_the_resume_command(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With all arguments that the next command needs."""

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "train", interrupt)
    (here / "few.npz").rename(here / "my few.npz")
    given = ["train", "my few.npz", "--labels", "20", "--out", "my run", "--data-dir", "my cache"]
    assert status_of(*given) == 130
    (again,) = capsys.readouterr().err.splitlines()
    words = "ssgan train 'my few.npz' --data-dir 'my cache' --out 'my run' --resume"
    assert again == f"ssgan: my run is unfinished; resume it with: {words}"

"""Ctrl-C and SIGTERM: a training finishes its step and writes a checkpoint; anything else ends at once, in one line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from resumed_runs import differences, read_log, without_clock
from running import status_of
from small_configs import tiny

import ssgan
from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.errors import Interrupted
from ssgan.training import experiment, interrupts
from ssgan.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("in_an_empty_folder", "_handlers_are_as_before")

TINY = ["--set", "total_images=2000", "--set", "discriminator_widths=16,8", "--set", "generator_widths=16"]
TRAIN = ["train", "digits", "--labels", "20", "--device", "cpu", "--out", "run", *TINY]
AGAIN = "ssgan train digits --out run --resume"
USE = (
    "use what it has learned with: ssgan predict run PICTURES --out predictions.csv; "
    "score it with: ssgan evaluate run --data digits"
)
BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def _handlers_are_as_before() -> Iterator[None]:
    outside = [signal.getsignal(number) for number in BOTH]  # a shell ignores Ctrl-C for what runs in the background
    before = [signal.default_int_handler, signal.SIG_DFL]
    for number, handler in zip(BOTH, before, strict=True):
        signal.signal(number, handler)
    yield
    assert [signal.getsignal(number) for number in BOTH] == before
    assert interrupts.current() is None
    for number, former in zip(BOTH, outside, strict=True):
        signal.signal(number, former)


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, *numbers: int) -> None:
    """Send these signals in the middle of a step."""
    take = Trainer.step

    def take_and_send(self: Trainer, batches: Any) -> None:
        if self.steps_done + 1 == step:
            for number in numbers:
                signal.raise_signal(number)
        take(self, batches)

    monkeypatch.setattr(Trainer, "step", take_and_send)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_finishes_its_step_and_says_how_to_go_on(
    number: int, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*TRAIN[:-6], *TINY, "--out", "whole") == 0
    with monkeypatch.context() as patch:
        at_step(patch, 7, number)
        capsys.readouterr()
        assert status_of(*TRAIN) == status
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"ssgan: run is unfinished; resume it with: {AGAIN}; see what it generates with: ssgan sample run; {USE}"
    )
    run = Path("run")
    assert sorted(path.name for path in run.iterdir()) == [
        *("checkpoint", "config.json", "labeled.png", "log.jsonl", "split.json")
    ]
    assert runs.load_checkpoint(run / "checkpoint")["steps_done"] == read_log(run)[-1]["step"] == 7
    assert status_of("sample", "run", "--device", "cpu") == 0
    assert status_of("train", "digits", "--out", "run", "--resume") == 0
    ours, theirs = (runs.load_checkpoint(Path(name) / "checkpoint") for name in ("run", "whole"))
    for name in ("networks", "optimizers", "average", "history", "noise", "steps_done"):
        assert differences(ours[name], theirs[name]) == [], name
    rows = [[without_clock(row) for row in runs.read_report(Path(name))["rows"]] for name in ("run", "whole")]
    assert differences(*rows) == []


def test_with_a_report_after_every_step_signals_are_recorded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that was due for another reason once kept the handlers from being set."""
    with monkeypatch.context() as patch:
        at_step(patch, 7, signal.SIGINT)
        assert status_of(*TRAIN, "--set", "report_every_images=1") == 130
    assert runs.load_checkpoint(Path("run", "checkpoint"))["steps_done"] == 7


def test_a_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for numbers, status in (((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGINT, signal.SIGTERM), 143)):
        with monkeypatch.context() as patch:
            at_step(patch, 7, *numbers)
            assert status_of(*TRAIN[:-7], f"run-{status}", *TINY) == status
        assert not (Path(f"run-{status}") / "checkpoint").exists()
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"ssgan: run-{status} is unfinished; resume it with: {AGAIN.replace('run', f'run-{status}')}"


def test_before_the_first_step_it_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 1, signal.SIGTERM)
    assert status_of(*TRAIN) == 143
    assert not Path("run", "checkpoint").exists()


def test_in_the_last_step_the_checkpoint_is_the_last_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, 20, signal.SIGINT)
        assert status_of(*TRAIN) == 130
    assert f"resume it with: {AGAIN}" in capsys.readouterr().err
    assert runs.load_checkpoint(Path("run", "checkpoint"))["steps_done"] == 20
    assert status_of("train", "digits", "--out", "run", "--resume") == 0


def test_a_signal_while_the_last_checkpoint_is_written_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    save = runs.save_checkpoint

    def save_and_send(path: Path, state: Any) -> None:
        save(path, state)
        if state["steps_done"] == 20:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(runs, "save_checkpoint", save_and_send)
    assert status_of(*TRAIN) == 130
    assert runs.load_checkpoint(Path("run", "checkpoint"))["steps_done"] == 20


def test_after_the_last_step_it_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "summarize", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert status_of(*TRAIN) == 143
    assert not Path("run", "report.json").exists()
    assert status_of("train", "digits", "--out", "run", "--resume") == 0


def test_a_training_of_folds_stops_in_any_of_its_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, 5, signal.SIGINT)
        assert status_of(*TRAIN, "--folds", "2") == 130
        assert runs.load_checkpoint(Path("run", "folds", "checkpoint"))["steps_done"] == 5
        said = capsys.readouterr().err.splitlines()
        assert said[-1] == f"ssgan: run is unfinished; resume it with: {AGAIN}"
    with monkeypatch.context() as patch:
        at_step(patch, 9, signal.SIGINT)  # the folds have it behind them only once they went on
        assert status_of("train", "digits", "--out", "run", "--resume") == 130
    assert status_of("train", "digits", "--out", "run", "--resume") == 0


def test_a_comparison_stops_after_the_step_and_goes_on_from_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", "digits", "--labels", "20", "--methods", "gan,supervised", "--seeds", "1", "--device", "cpu"]
    command += ["--out", "rows.jsonl", *TINY[:4]]
    with monkeypatch.context() as patch:
        at_step(patch, 7, signal.SIGTERM)
        assert status_of(*command) == 143
    line = "ssgan: rows.jsonl holds what is finished; the same command continues from there."
    assert capsys.readouterr().err.splitlines()[-1] == line
    (checkpoint,) = Path("rows.cells").glob("*/checkpoint")
    assert runs.load_checkpoint(checkpoint)["steps_done"] == 7
    assert status_of(*command) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("place", ["ssgan.data.datasets.load", "ssgan.inference.features.apply_backbone"])
def test_reading_pictures_and_computing_features_end_quietly(
    number: int, status: int, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(place, lambda *_, **__: signal.raise_signal(number))
    assert status_of(*TRAIN) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line in ("ssgan: interrupted.", f"ssgan: run is unfinished; resume it with: {AGAIN}")


def test_who_calls_the_library_keeps_the_signals(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.create_run_folder(tmp_path / "run", "digits", tiny())
    at_step(monkeypatch, 7, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        experiment.run_experiment(few_digits, tiny(), folder)
    assert not isinstance(caught.value, Interrupted)


def test_signals_that_are_ignored_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        at_step(monkeypatch, 7, signal.SIGINT)
        assert status_of(*TRAIN) == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", BOTH)
def test_a_process_ends_as_its_signal_says(tmp_path: Path, number: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(ssgan.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ssgan.cli", *TRAIN, "--set", "report_every_images=1000"]
    command[command.index("total_images=2000")] = "total_images=20000000"
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "run" / "log.jsonl").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        try:
            said = process.communicate(timeout=120)[1]
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert said.splitlines()[-1].startswith("ssgan: run is unfinished; resume it with: ")
    assert "Traceback" not in said
    assert (tmp_path / "run" / "checkpoint").exists()

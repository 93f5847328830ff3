"""Ctrl-C and SIGTERM: training finishes its step and writes a checkpoint; other work stops at once with one line."""

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

pytestmark = pytest.mark.usefixtures("in_an_empty_folder", "_default_signal_handlers")

TINY = ["--set", "total_images=2000", "--set", "discriminator_widths=16,8", "--set", "generator_widths=16"]
TRAIN = ["train", "digits", "--labels", "20", "--device", "cpu", "--out", "run", *TINY]
RESUME = "ssgan train digits --out run --resume"
USE_HINT = (
    "use what it has learned with: ssgan predict run PICTURES --out predictions.csv; "
    "score it with: ssgan evaluate run --data digits"
)
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def _default_signal_handlers() -> Iterator[None]:
    outside = [signal.getsignal(number) for number in SIGNALS]  # a shell ignores Ctrl-C for background processes
    before = [signal.default_int_handler, signal.SIG_DFL]
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert interrupts.current() is None
    for number, former in zip(SIGNALS, outside, strict=True):
        signal.signal(number, former)


def send_signals_at_step(monkeypatch: pytest.MonkeyPatch, step: int, *numbers: int) -> None:
    """Send these signals in the middle of a step."""
    original_step = Trainer.step

    def step_and_send(self: Trainer, batches: Any) -> None:
        if self.steps_done + 1 == step:
            for number in numbers:
                signal.raise_signal(number)
        original_step(self, batches)

    monkeypatch.setattr(Trainer, "step", step_and_send)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_training_finishes_step_and_prints_resume_command(
    number: int, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*TRAIN[:-6], *TINY, "--out", "whole") == 0
    with monkeypatch.context() as patch:
        send_signals_at_step(patch, 7, number)
        capsys.readouterr()
        assert status_of(*TRAIN) == status
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"ssgan: run is unfinished; resume it with: {RESUME}; see what it generates with: ssgan sample run; {USE_HINT}"
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


def test_signals_are_recorded_with_report_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier, a report that was due for another reason prevented the handlers from being set."""
    with monkeypatch.context() as patch:
        send_signals_at_step(patch, 7, signal.SIGINT)
        assert status_of(*TRAIN, "--set", "report_every_images=1") == 130
    assert runs.load_checkpoint(Path("run", "checkpoint"))["steps_done"] == 7


def test_second_signal_stops_training_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for numbers, status in (((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGINT, signal.SIGTERM), 143)):
        with monkeypatch.context() as patch:
            send_signals_at_step(patch, 7, *numbers)
            assert status_of(*TRAIN[:-7], f"run-{status}", *TINY) == status
        assert not (Path(f"run-{status}") / "checkpoint").exists()
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"ssgan: run-{status} is unfinished; resume it with: {RESUME.replace('run', f'run-{status}')}"


def test_signal_in_first_step_stops_training_without_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    send_signals_at_step(monkeypatch, 1, signal.SIGTERM)
    assert status_of(*TRAIN) == 143
    assert not Path("run", "checkpoint").exists()


def test_signal_in_last_step_keeps_final_checkpoint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        send_signals_at_step(patch, 20, signal.SIGINT)
        assert status_of(*TRAIN) == 130
    assert f"resume it with: {RESUME}" in capsys.readouterr().err
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


def test_signal_after_last_step_stops_at_once_and_run_can_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "summarize", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert status_of(*TRAIN) == 143
    assert not Path("run", "report.json").exists()
    assert status_of("train", "digits", "--out", "run", "--resume") == 0


def test_training_with_folds_can_be_interrupted_and_resumed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        send_signals_at_step(patch, 5, signal.SIGINT)
        assert status_of(*TRAIN, "--folds", "2") == 130
        assert runs.load_checkpoint(Path("run", "folds", "checkpoint"))["steps_done"] == 5
        said = capsys.readouterr().err.splitlines()
        assert said[-1] == f"ssgan: run is unfinished; resume it with: {RESUME}"
    with monkeypatch.context() as patch:
        send_signals_at_step(patch, 9, signal.SIGINT)  # the folds pass this step only after they were resumed
        assert status_of("train", "digits", "--out", "run", "--resume") == 130
    assert status_of("train", "digits", "--out", "run", "--resume") == 0


def test_comparison_stops_after_step_and_continues_from_checkpoint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", "digits", "--labels", "20", "--methods", "gan,supervised", "--seeds", "1", "--device", "cpu"]
    command += ["--out", "rows.jsonl", *TINY[:4]]
    with monkeypatch.context() as patch:
        send_signals_at_step(patch, 7, signal.SIGTERM)
        assert status_of(*command) == 143
    line = "ssgan: rows.jsonl holds what is finished; the same command continues from there."
    assert capsys.readouterr().err.splitlines()[-1] == line
    (checkpoint,) = Path("rows.cells").glob("*/checkpoint")
    assert runs.load_checkpoint(checkpoint)["steps_done"] == 7
    assert status_of(*command) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("place", ["ssgan.data.datasets.load", "ssgan.inference.features.apply_backbone"])
def test_signal_while_reading_data_or_computing_features_prints_one_line(
    number: int, status: int, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(place, lambda *_, **__: signal.raise_signal(number))
    assert status_of(*TRAIN) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line in ("ssgan: interrupted.", f"ssgan: run is unfinished; resume it with: {RESUME}")


def test_library_calls_do_not_change_signal_handling(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.create_run_folder(tmp_path / "run", "digits", tiny())
    send_signals_at_step(monkeypatch, 7, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        experiment.run_experiment(few_digits, tiny(), folder)
    assert not isinstance(caught.value, Interrupted)


def test_ignored_signals_stay_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        send_signals_at_step(monkeypatch, 7, signal.SIGINT)
        assert status_of(*TRAIN) == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_process_exit_status_matches_signal(tmp_path: Path, number: int) -> None:
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

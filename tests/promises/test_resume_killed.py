"""A process that is killed and resumed ends with the same bits."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from resumed_runs import differences, left_by
from running import contents, status_of

import ssgan
from ssgan import runs

PROCESS = [
    *["train", "digits", "--labels", "20", "--seeds", "2", "--device", "cpu", "--out", "run", "--json"],
    *["--set", "total_images=8000", "--set", "report_every_images=500", "--set", "evaluate_every_images=2500"],
    *[
        "--set",
        "discriminator_widths=16,8",
        "--set",
        "generator_widths=16",
        "--set",
        "weight_historical_averaging=0.01",
    ],
]
OFTEN, NEVER = ["--set", "checkpoint_every_seconds=0"], ["--set", "checkpoint_every_seconds=100000"]
AGAIN = ["train", "digits", "--out", "run", "--resume", "--json"]


def killed(folder: Path, arguments: list[str], ready: Callable[[Path], bool]) -> Path:
    """Start a process and kill it with SIGKILL as soon as its run folder is ready; return the run folder."""
    environment = {**os.environ, "PYTHONPATH": str(Path(ssgan.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command, run = [sys.executable, "-m", "ssgan.cli", *arguments], folder / "run"
    for _ in range(3):  # on a busy machine it may finish before this process runs again
        shutil.rmtree(run, ignore_errors=True)
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            while not ready(run) and process.poll() is None:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            errors = process.communicate(timeout=60)[1]
        if not (run / "report.json").exists():
            break
    assert process.returncode == -signal.SIGKILL, errors
    assert not (run / "report.json").exists(), "it was over too soon to be killed"
    return run


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The run folder of a process that is not killed, and what is in it."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert status_of(*PROCESS, *OFTEN) == 0
    left = left_by(folder / "run")
    assert [line["step"] for line in left["log"]] == list(range(5, 81, 5))
    assert sum(line["errors"] is not None for line in left["log"]) == 3
    return folder / "run", left


@pytest.fixture(scope="module")
def killed_in_the_middle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = killed(tmp_path_factory.mktemp("killed"), [*PROCESS, *OFTEN], lambda run: (run / "checkpoint").exists())
    assert 0 < runs.load_checkpoint(run / "checkpoint")["steps_done"] < 80
    return run


@pytest.mark.usefixtures("in_an_empty_folder")
@pytest.mark.parametrize("more", ["as it is", "ahead and torn", "garbage", "no log"])
def test_killed_process_resumes_to_the_same_bits(
    killed_in_the_middle: Path, uninterrupted: tuple[Path, dict[str, Any]], tmp_path: Path, more: str
) -> None:
    """With any damage to the log, each step has one line, in order."""
    run = Path(shutil.copytree(killed_in_the_middle, tmp_path / "run"))
    log, done = run / "log.jsonl", runs.load_checkpoint(run / "checkpoint")["steps_done"]
    kept = [line for line in log.read_text().splitlines() if '"step"' in line and line.endswith("}")][: done // 5]
    whole = "\n".join(kept) + "\n"
    if more == "ahead and torn":
        log.write_bytes((uninterrupted[0] / "log.jsonl").read_bytes()[:-40])
    elif more == "garbage":
        log.write_bytes(whole.encode() + b'{"step": 10\xff\xc3\n[]\n7\n{"step": null}\n{"step": "5"}\n{}')
    elif more == "no log":
        log.unlink()
    assert status_of(*AGAIN) == 0
    left, expected = left_by(run), uninterrupted[1]
    if more == "no log":  # the deleted lines are lost, but nothing else changes
        expected = {**expected, "log": expected["log"][done // 5 :], "curves.png": left["curves.png"]}
    assert differences(left, expected) == []


@pytest.mark.usefixtures("in_an_empty_folder")
def test_a_process_killed_before_its_first_checkpoint_begins_again(
    uninterrupted: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run = killed(tmp_path, [*PROCESS, *NEVER], lambda run: (run / "log.jsonl").exists())
    assert not (run / "checkpoint").exists()
    # The intervals of writing may change, and config.json records them.
    assert status_of(*AGAIN, *OFTEN) == 0
    assert runs.read_config(run).checkpoint_every_seconds == 0.0
    assert differences(left_by(run), uninterrupted[1]) == []


@pytest.mark.usefixtures("in_an_empty_folder")
def test_missing_report_is_written_from_the_last_checkpoint(
    uninterrupted: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(uninterrupted[0], tmp_path / "run"))
    for name in ("report.json", "README.md", "samples.png", "curves.png"):
        (run / name).unlink()
    before = contents(run)
    monkeypatch.setattr("ssgan.training.trainer.Trainer.step", lambda *_: pytest.fail("it trained"))
    assert status_of(*AGAIN) == 0
    assert differences(left_by(run), uninterrupted[1]) == []
    assert {name: content for name, content in contents(run).items() if name in before} == before

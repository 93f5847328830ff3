"""`predict` and `evaluate` use the last checkpoint of an unfinished run and report its progress."""

import json
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures_on_disk import classes, write
from running import last_object, status_of
from small_configs import TINY_OPTIONS

from ssgan.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

TINIER = [*TINY_OPTIONS, "--set", "batch_size=10", "--set", "init_images=20", "--device", "cpu"]


@pytest.fixture
def suggested_commands(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, list[str]]:
    """Interrupt a training of two models on photos in step 12; return the arguments of each command it suggests."""
    monkeypatch.setenv("SSGAN_DATA", str(cache))
    write(tmp_path / "my photos", classes(each=10))
    original_step = Trainer.step

    def step_and_send(self: Trainer, batches: Any) -> None:
        if self.steps_done + 1 == 12:
            signal.raise_signal(signal.SIGINT)
        original_step(self, batches)

    # A shell that starts the tests in the background leaves SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step_and_send)
        assert (
            status_of(
                "train", "my photos", "--labels", "16", "--seeds", "2", "--draw-seed", "5", "--out", "run", *TINIER
            )
            == 130
        )
    signal.signal(signal.SIGINT, before)
    assert not Path("run", "report.json").exists()
    line = capsys.readouterr().err.splitlines()[-1]
    commands = [shlex.split(part.partition("with: ")[2]) for part in line.split("; ") if "with: " in part]
    return {words[1]: words[2:] for words in commands}


PROGRESS = "run has not finished: these are its models after 120 of 2,000 images."


def test_commands_suggested_after_interruption_work(
    suggested_commands: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert suggested_commands["predict"] == ["run", "PICTURES", "--out", "predictions.csv"]
    assert status_of("predict", *[w.replace("PICTURES", "my photos") for w in suggested_commands["predict"]]) == 0
    assert PROGRESS in capsys.readouterr().err.splitlines()
    assert len(Path("predictions.csv").read_text().splitlines()) == 21
    assert suggested_commands["evaluate"] == ["run", "--data", "my photos"]
    assert status_of("evaluate", *suggested_commands["evaluate"], "--device", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "on 4 labelled pictures of my photos, by " in lines[0]
    assert PROGRESS in lines
    assert status_of("evaluate", *suggested_commands["evaluate"], "--ensemble", "--device", "cpu", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert result["notes"][0] == PROGRESS
    assert (result["labels"], result["seeds"], result["test_images"]) == (16, [0, 1], 4)
    assert status_of("train", *suggested_commands["train"]) == 0
    assert status_of("evaluate", "run", "--device", "cpu", "--json") == 0
    assert last_object(capsys.readouterr().out)["notes"] == []


def test_evaluate_of_unfinished_run_needs_data_option(
    suggested_commands: dict[str, list[str]],
    mistake: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = "run did not finish, so it does not record where its data are: name them with --data."
    assert mistake("evaluate", "run", "--device", "cpu") == expected
    others = write(tmp_path / "others", classes(each=3, first=3000))
    assert status_of("evaluate", "run", "--data", others, "--device", "cpu", "--json") == 0
    assert last_object(capsys.readouterr().out)["notes"] == [
        PROGRESS,
        "run does not record where its data are, so pictures that it trained on may be among those scored.",
    ]


def test_evaluate_finds_built_in_data_set_of_unfinished_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The models are the same as those of the deleted report."""
    rows = [row["error"] for row in json.loads((run / "report.json").read_text())["rows"]]
    (run / "report.json").unlink()
    assert status_of("evaluate", "run", "--device", "cpu", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert (result["errors"], [row["draw_seed"] for row in result["rows"]]) == (rows, [3, 4])
    assert result["notes"] == ["run has not finished: these are its models after 2,000 of 2,000 images."]


def test_refuses_checkpoint_and_split_of_different_runs(run: Path, mistake: Callable[..., str]) -> None:
    (run / "report.json").unlink()
    content = json.loads((run / "split.json").read_text())
    content["splits"].reverse()
    (run / "split.json").write_text(json.dumps(content))
    expected = "The checkpoint and split.json of run are not of the same run."
    assert mistake("evaluate", "run", "--device", "cpu") == expected

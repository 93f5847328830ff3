"""`predict` and `evaluate` take the last checkpoint of a run that has not finished, and say how far it had come."""

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
def stopped(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, list[str]]:
    """Stop a training of two models on photos in its 12th step; the commands that its line names, by their name."""
    monkeypatch.setenv("SSGAN_DATA", str(cache))
    write(tmp_path / "my photos", classes(each=10))
    take = Trainer.step

    def take_and_send(self: Trainer, batches: Any) -> None:
        if self.steps_done + 1 == 12:
            signal.raise_signal(signal.SIGINT)
        take(self, batches)

    # A shell that starts the tests in the background leaves SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", take_and_send)
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


def test_the_commands_of_the_last_line_use_the_run(
    stopped: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert stopped["predict"] == ["run", "PICTURES", "--out", "predictions.csv"]
    assert status_of("predict", *[w.replace("PICTURES", "my photos") for w in stopped["predict"]]) == 0
    assert PROGRESS in capsys.readouterr().err.splitlines()
    assert len(Path("predictions.csv").read_text().splitlines()) == 21
    assert stopped["evaluate"] == ["run", "--data", "my photos"]
    assert status_of("evaluate", *stopped["evaluate"], "--device", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "on 4 labelled pictures of my photos, by " in lines[0]
    assert PROGRESS in lines
    assert status_of("evaluate", *stopped["evaluate"], "--ensemble", "--device", "cpu", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert result["notes"][0] == PROGRESS
    assert (result["labels"], result["seeds"], result["test_images"]) == (16, [0, 1], 4)
    assert status_of("train", *stopped["train"]) == 0
    assert status_of("evaluate", "run", "--device", "cpu", "--json") == 0
    assert last_object(capsys.readouterr().out)["notes"] == []


def test_an_unfinished_run_does_not_say_where_its_data_lie(
    stopped: dict[str, list[str]], mistake: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = "run did not finish, so it does not record where its data are: name them with --data."
    assert mistake("evaluate", "run", "--device", "cpu") == expected
    others = write(tmp_path / "others", classes(each=3, first=3000))
    assert status_of("evaluate", "run", "--data", others, "--device", "cpu", "--json") == 0
    assert last_object(capsys.readouterr().out)["notes"] == [
        PROGRESS,
        "run does not record where its data are, so pictures that it trained on may be among those scored.",
    ]


def test_a_named_set_is_found(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The models are the same as those of the report that is taken away."""
    rows = [row["error"] for row in json.loads((run / "report.json").read_text())["rows"]]
    (run / "report.json").unlink()
    assert status_of("evaluate", "run", "--device", "cpu", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert (result["errors"], [row["draw_seed"] for row in result["rows"]]) == (rows, [3, 4])
    assert result["notes"] == ["run has not finished: these are its models after 2,000 of 2,000 images."]


def test_files_of_two_runs_are_not_taken_for_one(run: Path, mistake: Callable[..., str]) -> None:
    (run / "report.json").unlink()
    content = json.loads((run / "split.json").read_text())
    content["splits"].reverse()
    (run / "split.json").write_text(json.dumps(content))
    expected = "The checkpoint and split.json of run are not of the same run."
    assert mistake("evaluate", "run", "--device", "cpu") == expected

"""Training in the background: when it starts, the arguments of its commands, and its status on the page."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pictures_on_disk import grey, write

from ssgan import runs
from ssgan.data.file_tree import open_tree
from ssgan.data.image_io import SUFFIXES
from ssgan.errors import UserError
from ssgan.files import path_to_text
from ssgan.labeling import background
from ssgan.labeling.background import BackgroundTrainer, Commands, Failed, latest_run
from ssgan.labeling.store import Change, open_store
from ssgan.labeling.tables import Hint, read_hints

FEW = Counter({"cat": 3, "dog": 3})
ERROR = {"error": 12.5, "interval": [5.0, 25.0], "labels": 6, "folds": 5}


class RecordingCommands(Commands):
    """Record commands, and write the files that the real commands would write."""

    def __init__(self, refuse: Callable[[Sequence[str]], bool] = lambda words: False) -> None:
        super().__init__()
        self.calls: list[list[str]] = []
        self.refuse = refuse

    def run(self, arguments: Sequence[str]) -> str:
        self.calls.append(list(arguments))
        if self.refuse(arguments):
            raise Failed("It is refused.")
        out = Path(arguments[arguments.index("--out") + 1])
        if arguments[0] == "train":
            out.mkdir()
            (out / "report.json").write_text("{}")
        elif arguments[0] == "predict":
            folder = Path(arguments[2])
            out.write_text(
                "file,class,probability,p_generated,note,p(cat),p(dog)\n"
                f"{folder}/0.png,cat,0.9,0.1,,0.9,0.1\n{folder}/1.png,dog,0.6,0.9,unlike every class,0.4,0.6\n"
                f"{folder}/2.png,,,,cannot be read,,\n"
            )
        else:
            out.write_text("path,label\n1.png,\n")
        return ""

    def named(self, command: str) -> list[list[str]]:
        return [words for words in self.calls if words[0] == command]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "labels.csv").write_text("file,label,time,action\n0.png,cat,t,label\n")
    return tmp_path / "pictures"


@pytest.fixture
def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., BackgroundTrainer]]:
    """Return a function that makes trainers whose runs report ERROR."""
    source = {"data": path_to_text(folder.resolve())}
    monkeypatch.setattr(runs, "read_report", lambda run: {"folds": ERROR, "source": source})
    made = []

    def make_one(commands: Commands, every: int = 4, run: Path | None = None) -> BackgroundTrainer:
        hints: list[tuple[Mapping[str, Hint], Sequence[str]]] = []
        one = BackgroundTrainer(
            folder,
            folder / "labels.csv",
            folder.parent / "runs",
            run,
            every,
            lambda *given: hints.append(given),
            commands,
        )
        one.hints = hints  # type: ignore[attr-defined]
        made.append(one)
        return one

    yield make_one
    for one in made:
        one.stop()


def wait_until_idle(one: BackgroundTrainer, trainings: int) -> dict[str, Any]:
    """Wait until ``trainings`` trainings have ended and nothing runs."""
    end = time.monotonic() + 20
    while (status := one.status())["trainings"] < trainings or status["phase"] or status["waiting"]:
        assert time.monotonic() < end, status
        time.sleep(0.01)
    return status


def test_internal_error_is_shown_and_later_labels_start_a_new_training(make: Callable[..., Any]) -> None:
    class Faulty(RecordingCommands):
        def run(self, arguments: Sequence[str]) -> str:
            if not self.named("predict") and arguments[0] == "predict":
                self.calls.append(list(arguments))
                raise KeyError("class")
            return super().run(arguments)

    one = make(Faulty())
    one.start(Counter())
    one.consider(FEW)
    assert wait_until_idle(one, 1)["error"] == "The training in the background failed (KeyError: 'class')."
    one.consider(Counter({"cat": 9, "dog": 9}))
    assert wait_until_idle(one, 2)["error"] == ""


def test_review_runs_no_predict_and_no_suggest(make: Callable[..., Any], folder: Path) -> None:
    """A review has the order of its table."""
    commands = RecordingCommands()
    one = make(commands, run=folder.parent / "runs" / "label-pictures-1")
    one.on_hints = None
    one.start(Counter())
    one.consider(FEW)
    wait_until_idle(one, 1)
    assert commands.named("predict") == commands.named("suggest") == []
    assert len(commands.named("train")) == 1


def test_measured_error_of_an_earlier_run_is_kept_after_restart(
    make: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last run may have been trained without folds, because a class had one label."""
    source = {"data": path_to_text(folder.resolve())}
    for number in (1, 2):
        report = folder.parent / "runs" / f"label-pictures-{number}" / "report.json"
        report.parent.mkdir(parents=True)
        report.touch()
    first, last = (folder.parent / "runs" / f"label-pictures-{number}" for number in (1, 2))
    reports = {first: {"folds": ERROR, "source": source}, last: {"source": source}}
    monkeypatch.setattr(runs, "read_report", lambda run: reports.get(run, {}))
    assert make(RecordingCommands(), run=last).status()["measured"] == {**ERROR, "run": str(first)}
    assert make(RecordingCommands(), run=folder / "other").status()["measured"] is None


def test_training_starts_after_the_given_number_of_labels(make: Callable[..., Any], folder: Path) -> None:
    commands = RecordingCommands()
    one = make(commands)
    one.start(Counter())
    one.consider(Counter({"cat": 4}))
    assert one.missing() == 1  # a label of another class
    one.consider(Counter({"cat": 2, "dog": 1}))
    assert one.missing() == 1
    assert commands.named("train") == []
    one.consider(FEW)
    status = wait_until_idle(one, 1)
    (words,) = commands.named("train")
    run = folder.parent / "runs" / "label-pictures-1"
    assert words[1] == str(folder)
    assert Path(words[words.index("--labels-csv") + 1]).read_text().endswith("0.png,cat,t,label\n")
    assert words[words.index("--out") + 1] == str(run)
    assert words[words.index("--folds") + 1] == "5"
    assert "test_share=0" in words
    assert status["measured"] == {**ERROR, "run": str(run)}
    hints = {"0.png": Hint("cat", 0.9, 0.8), "1.png": Hint("dog", 0.6, pytest.approx(0.2), "", True)}
    assert one.hints == [({}, ["1.png"]), (hints, ()), (hints, ["1.png"])]  # typical pictures came first
    assert one.missing() == 4
    one.consider(FEW + Counter({"cow": 4}))
    wait_until_idle(one, 2)
    assert [Path(words[words.index("--out") + 1]).name for words in commands.named("train")][1] == "label-pictures-2"


def test_class_with_one_label_is_trained_without_folds(make: Callable[..., Any]) -> None:
    commands = RecordingCommands()
    one = make(commands)
    one.start(Counter())
    one.consider(Counter({"cat": 4, "dog": 1}))
    assert "dog has one label" in wait_until_idle(one, 1)["note"]
    assert "--folds" not in commands.named("train")[0]


def test_error_is_measured_again_after_the_labels_grow(make: Callable[..., Any], folder: Path) -> None:
    commands = RecordingCommands()
    one = make(commands)
    one.start(Counter())
    for number, counts in enumerate([FEW, Counter({"cat": 8, "dog": 8}), Counter({"cat": 9, "dog": 11})], 1):
        one.consider(counts)
        wait_until_idle(one, number)
    first, second, third = commands.named("train")
    assert "--folds" in first
    assert "--folds" in second  # because the labels have grown by half
    assert "--from" not in second
    assert "--folds" in third  # because the recorded error is always of 6 labels in this test


def test_given_run_predicts_first_and_is_the_start_of_the_training(make: Callable[..., Any], tmp_path: Path) -> None:
    commands = RecordingCommands()
    one = make(commands, run=tmp_path / "mine")
    one.start(Counter({"cat": 4, "dog": 4}))
    one.train_now()
    wait_until_idle(one, 1)
    assert [words[0] for words in commands.calls] == ["predict", "suggest", "train", "predict", "suggest"]
    assert commands.calls[0][1] == str(tmp_path / "mine")
    train = commands.named("train")[0]
    assert train[train.index("--from") + 1] == str(tmp_path / "mine")
    assert one.hints[-1][1] == ["1.png"]


def test_refused_training_is_retried_without_folds(make: Callable[..., Any]) -> None:
    commands = RecordingCommands(lambda words: "--folds" in words)
    one = make(commands)
    one.start(Counter())
    one.consider(FEW)
    status = wait_until_idle(one, 1)
    assert (status["note"], status["error"]) == ("It is refused.", "")
    assert ["--folds" in words for words in commands.named("train")] == [True, False]


def test_training_error_is_shown_and_cleared_by_the_next_training(make: Callable[..., Any]) -> None:
    commands = RecordingCommands(lambda words: words[0] == "train")
    one = make(commands)
    one.start(Counter())
    one.consider(FEW)
    end = time.monotonic() + 20
    while not one.status()["error"]:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert one.status()["error"] == "It is refused."
    commands.refuse = lambda words: False
    one.consider(FEW + FEW)
    assert wait_until_idle(one, 1)["error"] == ""


def test_training_requires_two_classes(make: Callable[..., Any]) -> None:
    one = make(RecordingCommands())
    one.start(Counter({"cat": 9}))
    with pytest.raises(UserError, match="at least two classes"):
        one.train_now()


def test_the_latest_run_of_a_folder_is_found(folder: Path, make: Callable[..., Any], tmp_path: Path) -> None:
    make(RecordingCommands())
    place = tmp_path / "runs"
    assert latest_run(place, folder) is None
    for name in ("label-pictures-2", "label-pictures-10", "label-pictures-x", "label-others-11", "label-pictures-12"):
        (place / name).mkdir(parents=True)
        if name != "label-pictures-12":  # it has not finished
            (place / name / "report.json").write_text("{}")
    assert latest_run(place, folder) == place / "label-pictures-10"


def test_hints_match_listed_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    table, folder, name = tmp_path / "t.csv", tmp_path / "p", os.fsdecode(b"a\xff.png")
    write(folder, {f"sub/{name}": grey(0)})
    row = os.fsencode(f"{folder}/sub/{name}") + b",a,1,,,1,0\n"
    table.write_bytes(b"file,class,probability,p_generated,note,p(a),p(b)\n" + row)
    with open_tree(folder, SUFFIXES) as tree:
        assert tuple(read_hints(table, folder)) == tree.pictures


def test_failed_command_raises_its_error_message() -> None:
    with pytest.raises(Failed, match="There is no folder or file none"):
        Commands().run(["data", "none.zip"])


def test_commands_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom ssgan.labeling import background\n"
        "background.CHILD = background.CHILD.replace('from ssgan.cli import main\\nmain()', 'import os, sys, time\\n"
        'print(os.getpid(), file=open(sys.argv[1], "w"), flush=True)\\ntime.sleep(60)\')\n'
        "background.Commands().run([sys.argv[1]])"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "pid")])
    end = time.monotonic() + 60
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()):
        assert parent.poll() is None
        time.sleep(0.02)
    child = int((tmp_path / "pid").read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_real_training_gives_hints_and_a_measured_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "TOTAL_IMAGES", 400)
    small = ["--set", "batch_size=20", "--set", "report_every_images=100"]
    monkeypatch.setattr(background, "QUICK", [*background.QUICK, *small])
    folder = write(tmp_path / "digits", {f"{i}.png": grey(i, 28) for i in range(20)})
    found: list[Mapping[str, Hint]] = []
    with open_store(folder) as store:
        store.append([Change(f"{i}.png", "cat" if i % 2 else "dog", "label") for i in range(12)])
        one = BackgroundTrainer(
            folder, store.path, tmp_path / "runs", None, 4, lambda hints, first: found.append(hints)
        )
        try:
            one.start(Counter())
            one.consider(Counter({"cat": 6, "dog": 6}))
            fractions = set()
            end = time.monotonic() + 200
            while not any(found):  # the first order, of typical pictures, has no hints
                assert time.monotonic() < end, one.status()
                assert not one.status()["error"], one.status()
                fractions.add(one.status()["fraction"])
                time.sleep(0.05)
        finally:
            one.stop()
    assert set(next(hints for hints in found if hints)) == {f"{i}.png" for i in range(20)}
    measured = one.status()["measured"]
    assert measured["labels"] == 12
    assert measured["folds"] == 5
    assert len(fractions - {None}) > 1

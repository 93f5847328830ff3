"""`evaluate RUN --data`: which pictures are scored, and which are left out because the run trained on them."""

import contextlib
import io
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures_on_disk import classes, grey, packed, table, write
from running import last_object, status_of
from small_configs import TINY_OPTIONS

from ssgan.data.dataset import image_ids
from ssgan.data.datasets import load
from ssgan.runs import read_config
from ssgan.settings.options import Options

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

TINIER = [*TINY_OPTIONS, "--set", "batch_size=10", "--set", "init_images=20", "--device", "cpu"]
PHOTOS = {**classes(each=10), **{f"unlabeled/{i}.png": grey(1000 + i) for i in range(20)}}


@pytest.fixture(scope="module")
def trained_folder(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures and a run on them that holds out 2 of 10 pictures of each class for testing."""
    place = tmp_path_factory.mktemp("place")
    write(place / "photos", PHOTOS)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setenv("SSGAN_DATA", str(cache))
        patch.chdir(place)
        assert status_of("train", "photos", "--out", "run", *TINIER) == 0
    return place


@pytest.fixture
def run(trained_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSGAN_DATA", str(cache))
    return trained_folder / "run"


@pytest.fixture
def evaluated(run: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def evaluate(*arguments: Any) -> dict[str, Any]:
        assert status_of("evaluate", run, *arguments, "--device", "cpu", "--json") == 0
        return last_object(capsys.readouterr().out)

    return evaluate


def scored(result: dict[str, Any]) -> tuple[int, str, int]:
    return result["test_images"], result["scored"], result["left_out"]


@pytest.mark.parametrize("kind", ["folder", "zip", "table"])
def test_every_labelled_picture_is_scored(
    kind: str, tmp_path: Path, evaluated: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str], run: Path
) -> None:
    others = {**classes(each=30, first=3000), **{f"unlabeled/{i}.png": grey(9000 + i) for i in range(5)}}
    if kind == "table":
        write(tmp_path / "others", {name.replace("/", "-"): picture for name, picture in others.items()})
        lines = [f"{name.replace('/', '-')},{name[:3]}" for name in others if not name.startswith("unl")]
        options = [tmp_path / "others", "--labels-csv", table(tmp_path / "labels.csv", *lines)]
    elif kind == "zip":
        options = [packed(tmp_path / "others.zip", others)]
    else:
        options = [write(tmp_path / "others", others)]
    result = evaluated("--data", *options)
    assert scored(result) == (60, "labelled pictures", 0)
    assert [row["count"] for row in result["per_class"]] == [30, 30]
    assert result["notes"] == []
    assert status_of("evaluate", run, "--data", *options, "--device", "cpu") == 0
    assert "on all 60 labelled pictures of others, by " in capsys.readouterr().out.splitlines()[0]


def test_only_test_folder_is_scored_if_present(tmp_path: Path, evaluated: Callable[..., dict[str, Any]]) -> None:
    others = {**classes("train/", each=9, first=3000), **classes("test/", each=4, first=4000)}
    assert scored(evaluated("--data", write(tmp_path / "others", others))) == (8, "test images", 0)


def test_pictures_of_the_pool_are_left_out(
    tmp_path: Path, evaluated: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str], run: Path
) -> None:
    """Unlabelled and renamed pictures of the pool are left out too; the test pictures of the run are scored."""
    others = classes(each=15, first=3000)
    others |= {f"cat/seen {i}.png": grey(1000 + i) for i in range(3)}
    others |= {f"dog/own {i}.png": grey(100 + i) for i in range(10)}
    folder = write(tmp_path / "others", others)
    result = evaluated("--data", folder)
    assert scored(result) == (43 - 3 - 8, "labelled pictures", 3 + 8)
    line = "Left out, because the run trained on them, with their label or without: 11"
    assert result["notes"] == [line]
    assert status_of("evaluate", run, "--data", folder, "--device", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "on 32 labelled pictures of others, by " in lines[0]
    assert line in lines


def test_copies_of_pool_pictures_in_test_folder_are_left_out(
    tmp_path: Path, evaluated: Callable[..., dict[str, Any]]
) -> None:
    others = {**classes("train/", each=9, first=3000), **classes("test/", each=4, first=4000)}
    others["test/cat/seen.png"] = grey(1000)
    assert scored(evaluated("--data", write(tmp_path / "others", others))) == (8, "test images", 1)


def test_evaluate_on_training_folder_gives_errors_of_run(
    tmp_path: Path, trained_folder: Path, evaluated: Callable[..., dict[str, Any]]
) -> None:
    """In place, and copied to a folder that the run does not know."""
    own = evaluated()
    assert scored(own) == (4, "test images", 0)
    shutil.copytree(trained_folder / "photos", tmp_path / "moved")
    for folder in (trained_folder / "photos", tmp_path / "moved"):
        result = evaluated("--data", folder)
        assert scored(result) == (4, "labelled pictures", 16)
        assert result["errors"] == own["errors"]


def test_unreadable_pool_is_reported(
    tmp_path: Path, trained_folder: Path, evaluated: Callable[..., dict[str, Any]]
) -> None:
    others = write(tmp_path / "others", {**classes(each=5, first=3000), "cat/seen.png": grey(1000)})
    (trained_folder / "photos").rename(trained_folder / "gone")
    try:
        result = evaluated("--data", others)
        assert scored(result) == (11, "labelled pictures", 0)
        (note,) = result["notes"]
        assert note.startswith(
            f"The data of {trained_folder / 'run'} cannot be read, so pictures that it trained on may"
        )
        assert "There is no folder" in note
        moved = evaluated("--data", trained_folder / "gone")
        assert (scored(moved), moved["notes"]) == ((4, "labelled pictures", 16), [LEFT_OUT_NOTE])
    finally:
        (trained_folder / "gone").rename(trained_folder / "photos")


LEFT_OUT_NOTE = "Left out, because the run trained on them, with their label or without: 16"


def test_changed_pool_is_reported(
    tmp_path: Path, trained_folder: Path, evaluated: Callable[..., dict[str, Any]]
) -> None:
    others = write(tmp_path / "others", {**classes(each=5, first=3000), "cat/seen.png": grey(1000)})
    write(trained_folder / "photos", {"unlabeled/new.png": grey(5000)})
    try:
        result = evaluated("--data", others)
        assert scored(result) == (10, "labelled pictures", 1)
        assert result["notes"][1].startswith("photos has changed since ")
    finally:
        (trained_folder / "photos" / "unlabeled" / "new.png").unlink()


def test_data_with_only_training_pictures_are_refused(tmp_path: Path, run: Path, mistake: Callable[..., str]) -> None:
    seen = {f"{name}/{i}.png": grey(1000 + 3 * k + i) for k, name in enumerate(("cat", "dog")) for i in range(3)}
    folder = write(tmp_path / "others", seen)
    assert mistake("evaluate", run, "--data", folder, "--device", "cpu") == (
        f"others has no test images to score: {run} trained on every labelled picture of it; give --data pictures that "
        f"it has not seen, or train with --folds."
    )


def test_training_pictures_are_left_out_after_labels_are_added(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """More labels give another held-out test set, which may contain labelled training pictures."""
    monkeypatch.setenv("SSGAN_DATA", str(cache))
    write(tmp_path / "flat", {f"{label}{i}.png": grey(100 * k + i) for k, label in enumerate("ab") for i in range(40)})
    names = [f"{label}{i}.png,{label}" for i in range(40) for label in "ab"]
    labels = table(tmp_path / "labels.csv", *names[:40])
    assert status_of("train", "flat", "--labels-csv", labels, "--out", "run", *TINIER) == 0
    capsys.readouterr()
    assert status_of("evaluate", "run", "--json") == 0
    before = last_object(capsys.readouterr().out)
    assert (before["left_out"], before["notes"]) == (0, [])
    table(tmp_path / "labels.csv", *names)
    assert status_of("data", "flat", "--labels-csv", labels, "--json") == 0
    held_out = last_object(capsys.readouterr().out)["test_images"]
    assert status_of("evaluate", "run", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert 0 < result["left_out"] == held_out - result["test_images"]
    (note,) = result["notes"]
    assert note == (
        f"flat has changed since run was trained. Left out of its test set, because the run learned their labels: "
        f"{result['left_out']}; it may have seen others without a label."
    )
    learned = set(
        itertools.chain(*(split["ids"] for split in json.loads(Path("run/split.json").read_text())["splits"]))
    )
    data = load(str(tmp_path / "flat"), None, Options.of(read_config(Path("run")), labels))
    assert result["left_out"] == len(learned & set(image_ids(data.x_test)))
    # With --data, the current pool and the pictures that the run learned before are left out.
    assert status_of("evaluate", "run", "--data", "flat", "--labels-csv", labels, "--json") == 0
    named = last_object(capsys.readouterr().out)
    assert named["test_images"] + named["left_out"] == 80
    assert named["test_images"] == result["test_images"]

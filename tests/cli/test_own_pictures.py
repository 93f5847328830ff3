"""`train`, `evaluate` and `data` with a user's own images."""

import contextlib
import io
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_on_disk import classes, encoded, grey, packed, write
from rich.console import Console
from running import RUN_FILES, contents, last_object, status_of
from small_configs import TINY_OPTIONS

from ssgan import runs
from ssgan.cli import terminal
from ssgan.cli.hints import predict_command
from ssgan.data.dataset import Data
from ssgan.settings.config import Config
from ssgan.settings.presets import resolve

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


PHOTOS = {
    **classes(each=10),
    **{f"unlabeled/{i}.png": grey(1000 + i) for i in range(20)},
    "cat/broken.png": b"",
    "unlabeled/text.jpg": b"no picture",
    "notes.txt": b"mine",
}
TINIER = [*TINY_OPTIONS, "--set", "batch_size=10", "--set", "init_images=20", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _separate_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(cache))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("pictures") / "photos", PHOTOS)


@pytest.fixture(scope="module")
def trained_on_photos(photos: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run with the standard output and error of its `train`, which wrote only the run and the cache."""
    place = tmp_path_factory.mktemp("photos")
    before, said, shown = contents(photos.parent), io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.chdir(photos.parent)
        patch.setenv("SSGAN_DATA", str(cache))
        patch.setattr(terminal.err, "_file", shown)
        options = ["--image-size", "6", "--set", "test_share=0.3", "--set", "test_seed=4", "--set", "image_mode=rgb"]
        assert status_of("train", "photos", *options, "--out", place / "run", *TINIER, "--json") == 0
    assert contents(photos.parent) == before
    assert [path.name for path in place.iterdir()] == ["run"]
    assert {path.name for path in cache.iterdir()} == {"decoded"}
    return place / "run", said.getvalue(), shown.getvalue()


def test_run_on_photos_records_source_and_image_settings(
    trained_on_photos: tuple[Path, str, str], photos: Path
) -> None:
    run, printed, _ = trained_on_photos
    report = last_object(printed)
    assert report["source"] == {"data": str(photos), "data_dir": None, "labels_csv": None}
    assert (report["dataset"], report["classes"], report["preset"]) == ("photos", ["cat", "dog"], "vectors")
    assert report["labels"] == 14
    config = runs.read_config(run)
    assert (config.image_size, config.image_mode, config.test_share, config.test_seed) == (6, "rgb", 0.3, 4)
    assert config.labels is None
    assert {path.name for path in run.iterdir()} == RUN_FILES


def test_train_lists_skipped_and_ignored_files(trained_on_photos: tuple[Path, str, str]) -> None:
    lines = trained_on_photos[2].splitlines()
    assert lines[:2] == [
        "Skipped files that cannot be read: 2 (1 of them labelled): cat/broken.png is empty; unlabeled/text.jpg is not "
        "a picture that can be read",
        "Ignored files that are not pictures: 1 (.txt: 1)",
    ]


def test_evaluate_and_data_load_photos_from_another_working_directory(
    trained_on_photos: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run, printed, _ = trained_on_photos
    report = last_object(printed)
    assert status_of("evaluate", run, "--device", "cpu", "--json") == 0
    assert last_object(capsys.readouterr().out)["errors"] == report["errors"]
    assert status_of("data", run, "--json") == 0
    found = last_object(capsys.readouterr().out)
    assert (found["sha256"], found["image_shape"]) == (report["dataset_sha256"], [6, 6, 3])
    assert found["per_class"] == {"pool": [7, 7], "test": [3, 3], "seed 0": [7, 7]}
    assert [Path(name).parts[0] for name in found["splits"][0]["files"]] == ["cat"] * 7 + ["dog"] * 7


def test_evaluate_converts_other_photos_to_size_and_mode_of_run(
    trained_on_photos: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "others", {**classes("train/", each=1, first=50), **classes("test/", each=2, first=60)})
    assert status_of("evaluate", trained_on_photos[0], "--data", folder, "--device", "cpu", "--json") == 0
    assert last_object(capsys.readouterr().out)["dataset"] == "others"
    write(folder, {"test/dog/9.png": np.zeros((30, 20, 3), np.uint8)})
    assert status_of("evaluate", trained_on_photos[0], "--data", folder, "--device", "cpu") == 0
    assert "5 test images of others" in capsys.readouterr().out


def test_resume_of_run_on_photos_refuses_another_image_size(
    trained_on_photos: tuple[Path, str, str], photos: Path, tmp_path: Path, mistake: Callable[..., str]
) -> None:
    run = shutil.copytree(trained_on_photos[0], tmp_path / "run")
    begun = runs.read_report(run)["dataset_sha256"]
    assert status_of("train", photos, "--out", run, "--resume", "--set", "total_images=2200", "--json") == 0
    report = runs.read_report(run)
    assert (report["images"], report["dataset_sha256"]) == (2200, begun)
    refused = mistake("train", photos, "--out", run, "--resume", "--image-size", "7")
    assert "so it cannot be resumed: image_size 6, now 7; leave them as they were" in refused


def test_run_records_labels_csv_and_accepts_moved_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "flat", {f"{i}.png": grey(i) for i in range(20)})
    (tmp_path / "l.csv").write_text("file,label\n" + "".join(f"{i}.png,{'xy'[i % 2]}\n" for i in range(12)))
    assert "--labels-csv FILE" in mistake("train", "flat", *TINIER)
    assert status_of("train", "flat", "--labels-csv", "l.csv", "--labels", "4", "--out", "run", *TINIER, "--json") == 0
    report = last_object(capsys.readouterr().out)
    assert report["source"]["labels_csv"] == str(tmp_path / "l.csv")
    assert (report["labels"], report["classes"]) == (4, ["x", "y"])
    monkeypatch.chdir("/")
    assert status_of("evaluate", tmp_path / "run", "--device", "cpu", "--json") == 0
    assert last_object(capsys.readouterr().out)["errors"] == report["errors"]
    assert status_of("data", tmp_path / "run", "--json") == 0
    assert last_object(capsys.readouterr().out)["per_class"]["pool"] == [5, 5]
    (tmp_path / "l.csv").rename(tmp_path / "m.csv")
    table = ["--labels-csv", tmp_path / "m.csv"]
    for moved in (table, ["--data", tmp_path / "moved", *table]):
        assert status_of("evaluate", tmp_path / "run", *moved, "--device", "cpu", "--json") == 0
        assert last_object(capsys.readouterr().out)["errors"] == report["errors"]
        if moved == table:
            (tmp_path / "flat").rename(tmp_path / "moved")


def test_interrupted_run_prints_resume_command_with_labels_csv(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "my flat", {f"{i}.png": grey(i) for i in range(4)})
    (tmp_path / "l.csv").write_text("file,label\n0.png,x\n1.png,y\n")

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ssgan.training.experiment.train", interrupt)
    assert status_of("train", "my flat", "--labels-csv", "l.csv", "--out", "run", "--json") == 130
    again = "ssgan train 'my flat' --labels-csv l.csv --out run --resume"
    assert f"ssgan: run is unfinished; resume it with: {again}" in capsys.readouterr().err.splitlines()


def test_data_and_train_print_number_of_held_out_pictures(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("data", photos) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "photos: 36 images in the training pool (20 of them without a label), 4 test images (held out)"
    assert status_of("train", photos, "--out", "run", *TINIER[2:], "--set", "total_images=20") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "photos: 16 labelled of 36 images and 4 held out for testing, method gan, 1 model, 20 images"


def test_epochs_are_passes_over_the_photos(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("train", photos, "--epochs", "3", "--dry-run", "--json") == 0
    config = Config(**last_object(capsys.readouterr().out))
    assert config == resolve("vectors", {"total_images": 3 * 36})


def test_default_preset_depends_on_image_shape(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`images-fast` if it accepts the pictures, otherwise `vectors`; a setting has to fit only one of the two."""
    np.savez(tmp_path / "v.npz", x_train=np.full((20, 30), 0.5, np.float32), y_train=np.arange(20) % 2)
    for arguments, preset in (
        (["train", photos], "vectors"),
        (["train", tmp_path / "v.npz"], "vectors"),
        (["train", tmp_path / "v.npz", "--set", "discriminator_widths=16,8"], "vectors"),
        (["train", photos, "--image-size", "17"], "images-fast"),
        (["train", photos, "--image-size", "17", "--set", "discriminator_widths=16,8,8"], "images-fast"),
        (["train", photos, "--image-size", "17", "--preset", "vectors"], "vectors"),
    ):
        assert status_of(*arguments, "--dry-run", "--json") == 0
        assert last_object(capsys.readouterr().out)["preset"] == preset


def test_settings_are_resolved_before_pictures_are_read(
    photos: Path, mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssgan.data.datasets.load", lambda *_: pytest.fail("read"))
    assert "lerning_rate_d" in mistake("train", photos, "--set", "lerning_rate_d=1")
    assert "image_size is 0" in mistake("train", photos, "--image-size", "0")
    assert "twice" in mistake("train", photos, "--image-size", "9", "--set", "image_size=8")
    assert "twice" in mistake("train", photos, "--epochs", "1", "--set", "total_images=8")


def test_data_reports_skipped_files_duplicates_and_uneven_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(
        tmp_path / "odd",
        {
            **PHOTOS,
            **{f"cat/more{i}.png": grey(300 + i) for i in range(25)},
            "test/cat/a.png": grey(3),
            "test/cat/b.png": grey(1002),
            "test/cat/c.png": grey(4444),
            "cat/colour.png": np.zeros((8, 8, 3), np.uint8),
            "owl/1.png": grey(900),
            "test/owl/1.png": grey(901),
        },
    )
    assert status_of("data", folder, "--set", "image_mode=grey", "--json") == 0
    found = last_object(capsys.readouterr().out)
    assert found["duplicates"] == {
        "count": 2,
        "first": [["test/cat/a.png", "cat/3.png"], ["test/cat/b.png", "unlabeled/2.png"]],
    }
    assert found["files"] == {
        "sizes": {"8x8": 71},
        "modes": {"L": 70, "RGB": 1},
        "ignored": {".txt": 1},
        "skipped": {"labelled": 1, "unlabelled": 1},
        "tested": {"in test/": 4},
    }
    assert found["skipped"] == [
        ["cat/broken.png", "is empty"],
        ["unlabeled/text.jpg", "is not a picture that can be read"],
    ]
    uneven, untested, copies = found["notes"]
    assert uneven.startswith(
        "The labelled images are uneven: 36 of cat, 1 of owl. Label more of owl, or draw fewer with "
    )
    assert untested == "No test image of 1 class: dog."
    assert copies == (
        "Test images that are in the pool too, pixel for pixel, so that the measured error may be too low: 2 "
        "(test/cat/a.png is cat/3.png, test/cat/b.png is unlabeled/2.png)."
    )
    assert status_of("data", folder, "--image-size", "8", "--set", "image_mode=grey") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "sizes of the files 8x8: 71" in lines
    assert "modes of the files L: 70, RGB: 1" in lines
    assert copies in lines
    assert uneven in lines
    assert any(line.startswith("Skipped files that cannot be read: 2 (1 of them labelled): cat/br") for line in lines)


def test_uneven_labels_are_reported_as_warnings_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a", {**classes(each=10), "owl/1.png": grey(900)})
    said = "The labelled images are uneven: 8 of cat, 1 of owl. Label more of owl, or draw fewer with --labels"
    for options, count in (([], 1), (["--labels", "all"], 1), (["--labels", "5"], 0), (["--labels", "9"], 1)):
        assert status_of("train", "a", *options, *TINIER[2:], "--set", "total_images=20", "--json") == 0
        shown = capsys.readouterr()
        warnings = last_object(shown.out)["warnings"]
        assert [line for line in shown.err.splitlines() if "uneven" in line] == warnings
        assert len(warnings) == count
        if options != ["--labels", "9"]:
            assert [line.startswith(said) for line in warnings] == [True] * count


def test_many_skipped_files_are_counted_and_some_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a", {**classes(), **{f"cat/x{i}.png": b"" for i in range(20)}})
    assert status_of("data", "a") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Skipped")]
    assert "20 (20 of them labelled): cat/x0.png is empty; cat/x1.png" in line
    assert "--json` lists all" in line
    assert status_of("data", "a", "--json") == 0
    assert len(last_object(capsys.readouterr().out)["skipped"]) == 20


def test_data_of_arrays_has_no_file_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("data", "digits", "--json") == 0
    assert not {"files", "skipped", "duplicates", "notes"} & last_object(capsys.readouterr().out).keys()


def test_invalid_picture_options_and_archives_are_refused(
    mistake: Callable[..., str], photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "l.csv").write_text("file,label\ncat/0.png,cat\n")
    packed(tmp_path / "bad.zip", {**classes(), "../x.png": encoded(grey(1))})
    for command in ("train", "data"):
        assert "image_size=8 has no effect" in mistake(command, "digits", "--image-size", "8")
        assert "labels_csv=l.csv has no effect" in mistake(command, photos, "--labels-csv", "l.csv")
        assert "There is no file m.csv" in mistake(command, photos, "--labels-csv", "m.csv")
        assert mistake(command, "empty").startswith("empty ")
        assert "'../x.png'" in mistake(command, "bad.zip")
        assert "nothing.zip" in mistake(command, "nothing.zip")
    assert "There is no folder or file no/such." in mistake("train", "no/such")
    assert "batch_size does not affect the data: set one of backbone, image_size" in mistake(
        "data", photos, "--set", "batch_size=3"
    )


def test_data_of_run_refuses_picture_options(
    mistake: Callable[..., str], trained_on_photos: tuple[Path, str, str]
) -> None:
    run = trained_on_photos[0]
    for option, value in (("--image-size", "8"), ("--labels-csv", "l.csv"), ("--set", "test_share=0")):
        assert f"omit {option}" in mistake("data", run, option, value)


def test_run_folder_inside_pictures_folder_is_refused(
    mistake: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", classes())
    expected = "The run would lie in a, among the pictures: choose a folder elsewhere with --out."
    assert mistake("train", "a", "--out", "a/run", *TINIER) == expected
    monkeypatch.chdir(tmp_path / "a")
    assert "choose a folder elsewhere" in mistake("train", ".", *TINIER)


def test_reading_progress_in_terminal_pipe_and_quiet_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal in (True, False):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=is_terminal, width=80)
        monkeypatch.setattr(terminal, "err", console)
        monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", 0)
        with terminal.reading_progress() as show:
            assert show is not None
            show("decoding", 640, 60_000)
        assert "decoding 640 of 60,000 pictures" in stream.getvalue()
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", 60)
    with terminal.reading_progress() as show:
        assert show is not None
        before = stream.getvalue()
        show("decoding", 704, 60_000)
    assert stream.getvalue() == before
    with terminal.reading_progress(quiet=True) as nothing:
        assert nothing is None


# Warnings about a user's pictures, printed by both `train` and `data`


@pytest.fixture
def warnings_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Return the lines that `train` prints on standard error before its progress; `data` prints each of them too."""

    def lines(source: str, *options: str | Path) -> list[str]:
        tiny = [*TINIER[2:], "--set", "total_images=20", "--json"]
        assert status_of("train", source, *options, "--out", tmp_path / "run", *tiny) == 0
        shown = capsys.readouterr().err.splitlines()
        assert status_of("data", source, *options) == 0
        said = capsys.readouterr().out.splitlines()
        assert [line for line in shown if line not in said] == []
        return shown

    return lines


def test_train_and_data_warn_about_class_folders(tmp_path: Path, warnings_of: Callable[..., list[str]]) -> None:
    files = {**classes("train/", 10), "train/unknown/1.png": grey(999), "train/dog/copy.png": grey(2)}
    write(tmp_path / "letters", {**files, **{f"Test/{c}/1.png": grey(4 + i) for i, c in enumerate(("cat", "dog"))}})
    copies = "so that the measured error may be too low: 2 (Test/cat/1.png is train/cat/4.png, Test/dog/1.png is train"
    expected = [
        "unknown is a class here: if its pictures have no label, rename the folder to unlabeled, next to train/.",
        "The labelled images are uneven: 11 of dog, 1 of unknown.",
        "Pictures that are equal pixel for pixel but have two labels: 2 (train/dog/copy.png is train/cat/2.png, ",
        f"Test images that are in the pool too, pixel for pixel, {copies}/cat/5.png).",
        "Every picture of the pool is used with its label: ",
    ]
    shown = warnings_of("letters")
    assert [line.startswith(words) for line, words in zip(shown, expected, strict=True)] == [True] * 5, shown


def test_train_and_data_warn_about_label_tables(tmp_path: Path, warnings_of: Callable[..., list[str]]) -> None:
    write(tmp_path / "flat", {f"{i}.png": grey(i) for i in range(30)})
    rows = "".join(f"C:\\flat\\{i}.PNG;{'nan' if i % 4 == 0 else 'xy'[i % 2]};7\n" for i in range(20))
    Path("l.csv").write_text(f"image;class;age\n{rows}")
    assert warnings_of("flat", "--labels-csv", "l.csv") == [
        "Columns of l.csv that are not used: age.",
        "5 of 20 lines of l.csv have no label (nan): those pictures are unlabelled.",
        "20 of 20 lines of l.csv name a picture by another path or spelling, such as C:\\flat\\0.PNG for 0.png.",
    ]


def test_train_warns_about_pool_of_one_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "one", {"a.png": grey(1)})
    tiny = [*TINIER[2:], "--set", "total_images=20", "--preset", "vectors", "--json"]
    assert status_of("train", "one", "--labels", "0", *tiny) == 0
    assert capsys.readouterr().err.splitlines() == ["There is only 1 picture to learn from: expect a high error."]


def test_user_arrays_are_checked_but_built_in_sets_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = np.stack([grey(i % 12) for i in range(24)]), np.arange(24) % 8 // 4
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y)
    tiny = [*TINIER[2:], "--set", "total_images=20", "--json"]
    assert status_of("train", "own.npz", "--labels", "4", "--preset", "vectors", *tiny) == 0
    two_labels = "Pictures that are equal pixel for pixel but have two labels: 12 (x_train[12] is x_train[0], "
    assert two_labels in capsys.readouterr().err
    assert status_of("data", "own.npz") == 0
    assert two_labels in capsys.readouterr().out
    assert status_of("train", "digits", "--labels", "all", *tiny) == 0
    assert capsys.readouterr().err == ""


def test_misspelt_folder_gets_suggestion_and_tilde_is_expanded(
    tmp_path: Path, mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "photos", classes())
    for command in ("train", "data"):
        for name in ("phots", "./phots"):
            assert mistake(command, name) == "There is no folder phots. Did you mean photos?"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert status_of("data", "~/photos") == 0
    assert status_of("train", "~/photos", "--out", "run", *TINIER[2:], "--set", "total_images=20", "--json") == 0
    assert last_object(capsys.readouterr().out)["source"]["data"] == str(tmp_path / "photos")


@pytest.mark.parametrize(
    ("each", "folds", "hint"),
    [
        (1, 0, "One labelled picture per class is too few to test with, so no error is measured: label more of them."),
        (
            2,
            0,
            "2 labelled pictures per class are too few to hold a fifth out, so no error is measured: --folds 2 tests "
            "each of them with a model that learned from the others.",
        ),
        (2, 2, None),
        (3, 0, None),
    ],
)
def test_hint_explains_why_no_error_is_measured(
    each: int, folds: int, hint: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {**classes(each=each), **{f"unlabeled/{i}.png": grey(1000 + i) for i in range(20)}}
    folder = write(tmp_path / "few", few)
    more = ["--folds", str(folds)] if folds else []
    assert status_of("train", folder, "--out", "run", *more, *TINIER[2:], "--set", "total_images=20") == 0
    said = capsys.readouterr()
    assert "accuracy -" not in said.out
    assert ("accuracy not measured: no test pictures" in said.out.splitlines()) == (each < 3 and not folds)
    assert [line for line in said.err.splitlines() if "so no error is measured" in line] == ([hint] if hint else [])
    assert status_of("data", folder) == 0
    assert (hint in capsys.readouterr().out.splitlines()) == (hint is not None)


@pytest.mark.parametrize(("shape", "images"), [((8, 8), "PICTURES"), ((8, 8, 4), "FILE.npz"), ((8,), "FILE.npz")])
def test_predict_command_suggests_npz_for_data_that_are_not_pictures(shape: tuple[int, ...], images: str) -> None:
    x = np.zeros((2, *shape), np.uint8 if len(shape) > 1 else np.float32)
    command = predict_command(Path("run"), Data(x, np.array([0, 1])))  # type: ignore[call-arg]
    assert command == f"ssgan predict run {images} --out predictions.csv"


def test_the_last_line_names_the_next_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It works as printed: `data` repeats its own options, and `train` names the folder of the run."""
    write(tmp_path / "my photos", classes(each=10))
    assert status_of("data", "my photos", "--image-size", "7", "--set", "test_share=0.3") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "Train on them with: ssgan train 'my photos' --image-size 7 --set test_share=0.3"
    assert status_of(*shlex.split(last.partition(": ssgan ")[2]), "--out", "my run", *TINIER) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "Classify other images with: ssgan predict 'my run' PICTURES --out predictions.csv"
    words = shlex.split(last.partition(": ssgan ")[2].replace("PICTURES", "'my photos'"))
    assert status_of(*words) == 0
    assert len(Path("predictions.csv").read_text().splitlines()) == 21
    assert status_of("data", "my run") == 0
    assert "Train on them" not in capsys.readouterr().out

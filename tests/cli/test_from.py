"""`ssgan train DATA --from RUN`: output, kept settings, refused options, and the hint that `--resume` prints."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import grey, write
from running import contents, last_object, status_of

from ssgan import runs
from ssgan.cli.output import show_contents
from ssgan.data.dataset import Data, image_ids
from ssgan.data.datasets import load
from ssgan.settings.config import Config

SHORT = ["--set", "discriminator_widths=16,8", "--set", "generator_widths=16", "--set", "init_images=20"]
SHORT += ["--set", "batch_size=10", "--set", "total_images=200", "--device", "cpu"]
CLASSES = {"cat": 0, "dog": 100}


def photos(folder: Path, each: int, classes: dict[str, int] = CLASSES, first: int = 0) -> Path:
    """Write different pictures for each class."""
    return write(
        folder, {f"{c}/{i}.png": grey(at + i, size=6) for c, at in classes.items() for i in range(first, each)}
    )


@pytest.fixture(scope="module")
def parent_runs(tmp_path_factory: pytest.TempPathFactory, few_digits: Data) -> Path:
    """A folder with pictures and a run on them, and with digits and a run with 20 labels."""
    place = tmp_path_factory.mktemp("begun")
    names = ("x_train", "y_train", "x_test", "y_test", "classes", "scale")
    np.savez(place / "few.npz", **{name: np.asarray(getattr(few_digits, name)) for name in names})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("SSGAN_CACHE", "off")
        photos(Path("photos"), 10)
        assert status_of("train", "photos", "--out", "run", *SHORT) == 0
        assert status_of("train", "few.npz", "--labels", "20", "--out", "few", *SHORT) == 0
    return place


@pytest.fixture
def here(parent_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSGAN_CACHE", "off")
    monkeypatch.chdir(shutil.copytree(parent_runs, tmp_path / "here"))
    return tmp_path / "here"


def test_child_run_keeps_parent_settings_and_reports_parent(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the given options differ from the settings of the parent; every command prints where the run started."""
    assert status_of("train", "few.npz", "--from", "few", "--labels", "30", "--out", "child") == 0
    said = capsys.readouterr().out
    assert "from few: its weights after 200 images and 20 labels" in said
    origin = f"Started from {here / 'few'}, its weights after 200 images and 20 labels"
    assert origin in said.replace("\n", " ")
    assert runs.read_config(here / "child") == runs.read_config(here / "few").replace(labels=30)
    assert status_of("evaluate", "child") == 0
    assert origin in capsys.readouterr().out.replace("\n", " ")
    assert status_of("data", "child", "--json") == 0
    contained = last_object(capsys.readouterr().out)
    assert contained["parent"] == runs.read_report(here / "child")["parent"]
    show_contents(contained)
    assert origin in capsys.readouterr().out.replace("\n", " ")


def test_a_dry_run_shows_settings_and_parent(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(here)
    assert status_of("train", "few.npz", "--from", "few", "--epochs", "1", "--dry-run") == 0
    assert "from few: its weights after 200 images and 20 labels" in capsys.readouterr().out
    assert status_of("train", "few.npz", "--from", "few", "--epochs", "1", "--dry-run", "--json") == 0
    shown = last_object(capsys.readouterr().out)
    assert shown.pop("parent") == "few"
    assert Config(**shown) == runs.read_config(here / "few").replace(total_images=300)
    assert contents(here) == before


def test_new_and_dropped_classes_are_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(here / "photos" / "cat")
    photos(here / "photos", 6, {"bird": 200})
    assert status_of("train", "photos", "--from", "run", "--out", "child") == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "Classes that run does not know start from random weights: bird" in printed
    assert "Classes of run that photos does not have are dropped: cat" in printed
    assert runs.read_report(here / "child")["classes"] == ["bird", "dog"]


def test_child_test_set_excludes_pictures_that_parent_trained_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More pictures would give another test set; `evaluate`, `data` and `--resume` use the same one as the training."""
    learned = runs.learned_images(here / "run") | {
        one for split in json.loads((here / "run" / "split.json").read_text())["splits"] for one in split["ids"]
    }
    photos(here / "photos", 30, first=10)
    plain = load("photos")
    assert learned & {*image_ids(plain.x_test)}  # without --from, some of them would be in the test set
    assert status_of("train", "photos", "--from", "run", "--out", "child") == 0
    assert "Not held out, because the starting weights were trained on them: 16" in capsys.readouterr().err
    data = load(*runs.data_source(here / "child", runs.read_report(here / "child"), runs.read_config(here / "child")))
    assert data.sha256 == runs.read_report(here / "child")["dataset_sha256"]
    assert not learned & {*image_ids(data.x_test)}
    assert len(data.x_test) == len(plain.x_test) == 12
    assert learned <= {*image_ids(data.x_train)}
    shutil.rmtree(here / "run")
    for command in (["data", "child"], ["train", "photos", "--out", "child", "--resume"]):
        assert status_of(*command) == 0
    capsys.readouterr()
    # On other pictures, `evaluate` leaves out those that the child and its parent trained on, even without the pool.
    photos(here / "other", 40)
    for left_out in (48, 48):
        assert status_of("evaluate", "child", "--data", "other", "--json") == 0
        result = last_object(capsys.readouterr().out)
        assert (result["test_images"], result["left_out"]) == (80 - left_out, left_out)
        shutil.rmtree(here / "photos", ignore_errors=True)


def test_evaluate_excludes_array_rows_that_parent_trained_on(
    here: Path, few_digits: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user split the arrays into training and test sets in another way."""
    rows = np.array(json.loads((here / "few" / "split.json").read_text())["splits"][0]["indices"])
    others = np.setdiff1d(np.arange(300), rows)
    arrays = {"x_train": few_digits.x_train[others], "y_train": few_digits.y_train[others]}
    arrays |= {"x_test": few_digits.x_train[rows], "y_test": few_digits.y_train[rows]}
    arrays["x_test"] = np.concatenate([arrays["x_test"], few_digits.x_test[:9]])
    arrays["y_test"] = np.concatenate([arrays["y_test"], few_digits.y_test[:9]])
    np.savez("cut.npz", **arrays, classes=np.array(few_digits.classes), scale=few_digits.scale)
    assert status_of("train", "cut.npz", "--from", "few", "--out", "child") == 0
    assert "the starting weights were trained on their labels: 20" in " ".join(capsys.readouterr().err.split())
    for command in (["evaluate", "child"], ["evaluate", "child", "--data", "cut.npz"]):
        assert status_of(*command, "--json") == 0
        assert last_object(capsys.readouterr().out)["test_images"] == 9


def test_refused_resume_suggests_command_with_from(here: Path, mistake: Callable[..., str]) -> None:
    """If a run cannot be resumed, the error suggests a command that works as printed."""

    def refusal(*more: str, run: str = "few", data: str = "few.npz") -> tuple[str, list[str]]:
        said, _, command = mistake("train", data, "--out", run, "--resume", *more).partition(
            " To start another run from its weights, type `ssgan "
        )
        return said, shlex.split(command.removesuffix("`."))

    shutil.copytree("few", "few-2")
    said, command = refusal("--labels", "40", "--set", "learning_rate_d=0.001", "--epochs", "2")
    assert "labels 20, now 40" in said
    assert shlex.join(command) == (
        "train few.npz --from few --out few-3 --labels 40 --set learning_rate_d=0.001 --epochs 2"
    )
    assert status_of(*command, "--dry-run") == 0
    longer = refusal("--set", "total_images=400", "--set", "batch_size=20")
    assert shlex.join(longer[1]).endswith("--out few-3 --set total_images=400 --set batch_size=20")
    photos(here / "photos", 12, first=10)
    said, command = refusal(run="run", data="photos")
    assert said == "photos does not match photos as it was when run was trained."
    assert command == ["train", "photos", "--from", "run", "--out", "run-2"]
    assert status_of(*command) == 0


def test_refused_resume_suggests_no_command_that_would_fail(here: Path, mistake: Callable[..., str]) -> None:
    shutil.copytree("few", "empty")
    for name in ("checkpoint", "report.json"):
        (here / "empty" / name).unlink()
    for run, more in (
        ("few", ["--set", "discriminator_widths=8"]),
        ("few", ["--labels", "10"]),
        ("few", ["--draw-seed", "5"]),
        ("few", ["--preset", "mnist-fast"]),
        ("empty", ["--labels", "30"]),
    ):
        assert "To start another" not in mistake("train", "few.npz", "--out", run, "--resume", *more)


def test_from_refuses_invalid_options_and_runs(here: Path, mistake: Callable[..., str]) -> None:
    """Each error comes before anything is written."""

    def said(*more: str, data: str = "few.npz") -> str:
        return mistake("train", data, "--from", *more)

    assert said("nowhere") == "There is no run folder nowhere: give the folder that `ssgan train` printed."
    assert said("photos") == "photos is not a run folder: there is no config.json in it."
    assert said("few.npz") == (
        "few.npz is a file: --from needs a run folder of `ssgan train`, which keeps the weights."
    )
    assert said("few", "--out", "few") == (
        "--from and --out are both few, but a run that starts from another one is a run of its own: choose another "
        "--out, or resume it with --resume."
    )
    assert said("few", "--config", "run") == (
        "--config run cannot be combined with --from, which uses the settings of few: choose one."
    )
    assert said("few", "--preset", "mnist-fast") == (
        "--preset mnist-fast cannot be combined with --from few, a run of preset 'vectors': choose one."
    )
    assert said("few", "--folds", "3").startswith("folds is 3, but the weights of few have already seen")
    assert said("run").startswith("run learned from images of shape [6, 6], and few holds [8, 8]: --image-size")
    assert (
        said("few", "--out", "run", "--resume")
        == "run was started from scratch, not from few: omit --from or --resume."
    )
    shutil.copytree("few", "bare")
    (here / "bare" / "checkpoint").write_bytes(b"damaged")
    assert said("bare") == "bare/checkpoint cannot be read as a checkpoint: it is damaged or in another format."
    (here / "bare" / "checkpoint").unlink()
    assert said("bare") == "bare has no checkpoint yet, so there are no weights to start from."


def test_error_names_run_whose_picture_settings_do_not_fit_arrays(here: Path, mistake: Callable[..., str]) -> None:
    """The image size comes from the run: the user did not give it for arrays."""
    assert status_of("train", "photos", "--out", "sized", "--image-size", "8", *SHORT) == 0
    for option in ("--from", "--config"):
        assert mistake("train", "few.npz", option, "sized", "--out", "child") == (
            "sized is for files of pictures, which it resizes to 8 pixels, and few.npz holds arrays: choose other data."
        )


def test_resume_of_child_accepts_original_command_and_checks_parent_file(
    here: Path, mistake: Callable[..., str]
) -> None:
    command = ["train", "few.npz", "--from", "few", "--labels", "30", "--out", "child"]
    assert status_of(*command) == 0
    shutil.rmtree("few")
    assert status_of(*command, "--resume") == 0
    (here / "child" / "parent.json").write_text('{"run": "few"}')
    assert mistake("evaluate", "child") == "child/parent.json lacks weights_sha256: it is damaged or in another format."
    (here / "child" / "parent.json").unlink()
    assert mistake("evaluate", "child") == (
        "child started from another run, but there is no parent.json in it: it is damaged."
    )


def test_child_of_run_with_folds_has_no_folds(here: Path, mistake: Callable[..., str]) -> None:
    assert status_of("train", "photos", "--folds", "2", "--out", "folded", *SHORT) == 0
    assert status_of("train", "photos", "--from", "folded", "--out", "child") == 0
    config = runs.read_config(here / "child")
    assert (config.folds, config.test_share) == (0, 0.2)
    # The parent trained on every labelled picture, so none is left for testing.
    assert runs.read_report(here / "child")["errors"] == [None]

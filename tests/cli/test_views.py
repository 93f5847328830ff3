"""`train` and `compare` choose the augmentation views of pictures, print them, and keep them in the run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import last_object, rows, status_of
from sklearn.datasets import load_sample_images

from ssgan import runs, train
from ssgan.settings.presets import resolve

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

SHORT = [
    *("--set", "total_images=20", "--set", "batch_size=10", "--set", "init_images=10", "--device", "cpu"),
    *("--set", "discriminator_widths=4,4,4"),
]


def save(name: str, images: np.ndarray) -> str:
    y = np.arange(len(images)) % 2
    np.savez(name, x_train=images, y_train=y, x_test=images[:6], y_test=y[:6])
    return name


@pytest.fixture
def photographs() -> str:
    image = load_sample_images().images[0]
    return save("photographs.npz", np.stack([image[20 * k : 20 * k + 20, 200:220] for k in range(20)]))


@pytest.fixture
def drawings() -> str:
    """Dark noise in the middle of a light background."""
    images = np.full((20, 20, 20), 230, np.uint8)
    images[:, 5:15, 5:15] = np.random.default_rng(0).integers(0, 90, (20, 10, 10))
    return save("drawings.npz", images)


def config_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert status_of("train", *arguments, "--labels", "4", "--dry-run", "--json") == 0
    return last_object(capsys.readouterr().out)


def test_train_prints_chosen_views_and_how_to_change_them(
    photographs: str, drawings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for data, words in ((photographs, "natural, for colour photographs"), (drawings, "drawings, for grey pictures")):
        assert status_of("train", data, "--labels", "4", "--out", f"run-{data}", *SHORT) == 0
        lines = capsys.readouterr().out.splitlines()
        assert f"Views: {words}; --set augmentation=NAME sets others" in lines
        assert "No generator, which would double the time; --preset images trains one" in lines
        assert all(len(line) <= 80 for line in lines if line.startswith(("Views:", "No generator")))
        config = runs.read_config(Path(f"run-{data}"))
        assert (config.preset, config.augmentation) == ("images-fast", words.split(",")[0])


@pytest.mark.parametrize("preset", ["images-fast", "images"])
def test_both_image_presets_choose_views_by_picture_kind(
    preset: str, photographs: str, drawings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config_of(capsys, photographs, "--preset", preset)["augmentation"] == "natural"
    assert config_of(capsys, drawings, "--preset", preset)["augmentation"] == "drawings"


@pytest.mark.parametrize("views", ["none", "digits", "drawings", "natural"])
def test_augmentation_setting_overrides_chosen_views(
    views: str, photographs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [photographs, "--set", f"augmentation={views}"]
    assert config_of(capsys, *chosen)["augmentation"] == views
    assert status_of("train", *chosen, "--labels", "4", "--dry-run") == 0
    assert "Views:" not in capsys.readouterr().out


def test_flip_at_test_time_requires_natural_views(
    photographs: str, drawings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the chosen views allow flips is known only after the pictures are read."""
    flips = ["--set", "test_time_flip=true"]
    config = config_of(capsys, photographs, *flips)
    assert (config["augmentation"], config["test_time_flip"]) == ("natural", True)
    assert train(photographs, labels=4, test_time_flip=True, total_images=20, batch_size=10).config.flips_at_test
    assert status_of("train", drawings, "--labels", "4", *flips, "--dry-run") == 2
    assert "test_time_flip=true has no effect: it needs augmentation=natural" in capsys.readouterr().err
    assert status_of("train", photographs, *flips, "--set", "augmentation=digits", "--dry-run") == 2


def test_other_presets_and_an_earlier_run_keep_their_views(
    photographs: str, drawings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config_of(capsys, photographs, "--preset", "mnist-fast")["augmentation"] == "digits"
    assert config_of(capsys, photographs, "--preset", "vectors")["augmentation"] == "none"
    assert status_of("train", drawings, "--labels", "4", "--out", "run", *SHORT) == 0
    capsys.readouterr()
    assert config_of(capsys, photographs, "--config", "run")["augmentation"] == "drawings"


def test_a_gan_without_classes_has_no_views(photographs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("train", photographs, "--labels", "0", "--dry-run", "--json") == 0
    config = last_object(capsys.readouterr().out)
    assert (config["augmentation"], config["weight_fake"]) == ("none", 0.5)


def test_resumed_run_keeps_its_views(photographs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("train", photographs, "--labels", "4", "--out", "run", *SHORT) == 0
    capsys.readouterr()
    assert status_of("train", photographs, "--out", "run", "--resume") == 0
    assert "Views:" not in capsys.readouterr().out
    assert runs.read_config(Path("run")).augmentation == "natural"


def test_folds_have_the_views_of_the_run(photographs: str) -> None:
    assert status_of("train", photographs, "--labels", "8", "--folds", "2", "--out", "run", *SHORT) == 0
    assert runs.read_config(Path("run")).augmentation == "natural"
    assert runs.read_config(Path("run/folds")).augmentation == "natural"


def test_methods_are_compared_with_the_chosen_views(photographs: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", photographs, "--out", "rows.jsonl", "--labels", "4", "--seeds", "1"]
    methods = ["--methods", "gan,supervised,fixmatch"]
    assert status_of(*command, *methods, *SHORT) == 0
    printed = capsys.readouterr().out
    assert "Views: natural, for colour photographs" in printed
    assert printed.count("No generator, which would double the time") == 1
    assert [row["settings"]["augmentation"] for row in rows(Path("rows.jsonl"))] == ["natural"] * 3
    assert status_of(*command, *methods, *SHORT) == 0
    assert "nothing left to train" in capsys.readouterr().out
    assert status_of(*command, "--methods", "knn") == 0
    assert "Views:" not in capsys.readouterr().out


def test_missing_generator_is_reported_only_for_images_fast(
    drawings: str, capsys: pytest.CaptureFixture[str], mistake: Callable[..., str]
) -> None:
    assert status_of("train", drawings, "--labels", "4", "--out", "run", *SHORT) == 0
    assert "no generator to sample from, because its weight_fake is 0" in mistake("sample", "run")
    capsys.readouterr()
    assert status_of("train", drawings, "--labels", "4", "--preset", "images", "--out", "gan", *SHORT) == 0
    assert "No generator" not in capsys.readouterr().out
    assert status_of("train", drawings, "--labels", "4", "--method", "supervised", "--dry-run") == 0
    assert "No generator" not in capsys.readouterr().out
    fast, whole = resolve("images-fast", {}), resolve("images", {})
    assert fast == whole.replace(preset="images-fast", weight_unlabeled=0.0, weight_fake=0.0)

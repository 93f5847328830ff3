"""The classical image GANs: their presets, from the command line to the sample images."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_on_disk import grey, write
from PIL import Image
from running import status_of
from small_configs import tiny

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.data.datasets import load
from ssgan.errors import UserError
from ssgan.figures import image_grid
from ssgan.inference.metrics import Diversity
from ssgan.settings.options import Options
from ssgan.settings.presets import PRESETS, resolve
from ssgan.training.experiment import run_experiment

SHORT = ["total_images=48", "batch_size=8", "init_images=20", "report_every_images=8"]
TINY = [*SHORT, "discriminator_widths=2", "generator_widths=2"]
EVERYTHING = ["generator_norm=virtual", "minibatch_kernels=3", "real_target=0.9", "weight_historical_averaging=0.01"]


def options(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images of 28x28 as arrays, in the working folder."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "small.npz", x_train=x, y_train=np.arange(60) % 3, x_test=x[:20], y_test=np.arange(20) % 3)
    return tmp_path


def test_gan_presets_have_the_published_settings() -> None:
    for name in ("gan-mlp", "dcgan", "dcgan-64"):
        config = resolve(name, {})
        assert config.unconditional
        assert (config.weight_non_saturating, config.weight_feature_matching, config.weight_minimax) == (1, 0, 0)
        assert (config.latent_size, config.latent_distribution) == (100, "normal")
        assert (config.learning_rate_d, config.learning_rate_g, config.adam_beta1) == (2e-4, 2e-4, 0.5)
        assert (config.generator_norm, config.discriminator_steps) == ("batch", 1)
        for name in ("noise_input_std", "noise_hidden_std", "dropout_input", "dropout_hidden"):
            assert getattr(config, name) == 0
    mlp = resolve("gan-mlp", {})
    assert (mlp.discriminator_widths, mlp.generator_widths) == ((512, 256), (256, 512, 1024))
    assert mlp.grid_side == 5
    assert mlp.frames_every_images
    large = resolve("dcgan-64", {})
    assert PRESETS["dcgan-64"] == {**PRESETS["dcgan"], "image_size": 64}
    assert (large.network, large.batch_size, large.discriminator_widths) == ("dcgan", 128, (64,))


@pytest.mark.parametrize("preset", ["gan-mlp", "dcgan"])
@pytest.mark.parametrize("choices", [[], EVERYTHING], ids=["plain", "everything"])
def test_gan_presets_train_on_28x28_with_and_without_stabilizing_settings(
    small: Path, preset: str, choices: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = TINY if preset == "dcgan" else [*SHORT[:2], SHORT[3], "discriminator_widths=9,7", "generator_widths=6,8,9"]
    given = options(*sizes, "grid_side=3", "frames_every_images=16", *choices)
    assert status_of("train", "small.npz", "--preset", preset, *given, "--device", "cpu", "--out", "run", "--json") == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["labels"] == 0
    assert report["diverged"] == []
    assert all(np.isfinite(report["diversity"][name]) for name in Diversity._fields)
    log = [json.loads(line) for line in (small / "run" / "log.jsonl").read_text().splitlines()]
    assert {"U", "V", "non_saturating", "p_real_unlabeled", "p_real_fake"} <= log[-1].keys()
    assert ("historical_averaging_G" in log[-1]) == bool(choices)
    assert "L" not in log[-1]
    # 3x3 images of 28 pixels, enlarged twice, with gaps of two pixels.
    assert Image.open(small / "run" / "samples.png").size == (3 * 56 + 2 * 2,) * 2
    frames = image_grid.read_frames(small / "run")
    assert list(frames) == [16, 32, 48]
    assert {Image.open(path).size for path in frames.values()} == {(172, 172)}
    assert frames[48].read_bytes() == (small / "run" / "samples.png").read_bytes()
    assert status_of("sample", "run", "--animate", "--out", "film.webp") == 0


def test_dcgan_64_trains_on_a_folder_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures of any size in any folder, without classes, are resized to 64x64, the size of the generated images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    files = {f"{'deep/er/' if i % 2 else ''}{i}.png": grey(i, size=70 + i) for i in range(30)}
    write(tmp_path / "photos", {**files, "test/0.png": grey(99, size=80)})
    given = [*options(*TINY, "grid_side=2"), "--device", "cpu", "--out", "run", "--json"]
    assert status_of("train", "photos", "--preset", "dcgan-64", *given) == 0, capsys.readouterr().err
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["preset"] == "dcgan-64"
    assert report["accuracy_real"] != [None]  # of the picture in test/
    assert status_of("evaluate", "run") == 0
    assert status_of("sample", "run", "--nearest") == 0
    # With labels, there must be at least two classes.
    assert status_of("train", "photos", "--set", "image_size=64", "--dry-run") == 2
    assert report["settings"].get("image_size") is None  # the preset's own
    assert Image.open(tmp_path / "run" / "samples.png").size == (2 * 64 + 2,) * 2
    # A grid has the size of the training grid, unless rows or columns are given.
    for given, size in (
        ([], (130, 130)),
        (["--rows", "3"], (130, 196)),
        (["--rows", "1", "--columns", "4"], (262, 64)),
    ):
        assert status_of("sample", "run", *given) == 0
        assert Image.open(tmp_path / "run" / "sample-grid.png").size == size


def test_folder_without_classes_has_no_labels_and_test_is_the_test_share(tmp_path: Path) -> None:
    without = Options(classes=False)
    files = {"a.png": grey(1), "cat/b.png": grey(2), "cat/c.png": grey(3)}
    found = load(write(tmp_path / "loose", files), options=without)
    assert found.files_train == ("a.png", "cat/b.png", "cat/c.png")
    assert found.y_train.tolist() == [-1, -1, -1]
    assert (len(found.classes), len(found.x_test)) == (1, 0)
    held = load(write(tmp_path / "held", {**files, "test/d.png": grey(4)}), options=without)
    assert (held.files_train, held.files_test, held.y_test.tolist()) == (found.files_train, ("test/d.png",), [0])
    # Class folders are read as usual.
    sorted_files = {f"{name}/{i}.png": grey(i) for name in ("cat", "dog") for i in range(5)}
    folder = write(tmp_path / "sorted", sorted_files)
    assert load(folder, options=without).files_test == load(folder).files_test != ()
    assert load(folder, options=without).classes == ("cat", "dog")
    with pytest.raises(UserError, match=r"test_share=0\.5 has no effect: .* has no classes to hold pictures out"):
        load(tmp_path / "loose", options=Options(classes=False, test_share=0.5))
    with pytest.raises(UserError, match="outside its class folders"):
        load(tmp_path / "loose")


MISTAKES: dict[str, tuple[list[str], str]] = {
    "arrays have a size": (["small.npz", "--preset", "dcgan-64"], "is for files of pictures"),
    "labels": (["small.npz", "--preset", "dcgan", "--labels", "3"], "uses no labels"),
    "dropout": (["small.npz", "--preset", "gan-mlp", *options("dropout_hidden=0.5")], "dropout_hidden=0.5"),
    "images": (["small.npz", "--preset", "gan-mlp", *options("init_images=100")], "init_images=100 has no effect"),
    "too large": (["large.npz", "--preset", "dcgan"], "17x17 to 64x64"),
    "side": (["small.npz", "--preset", "dcgan", *options("grid_side=0")], "grid_side is 0, but must be"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_invalid_options_are_refused_before_anything_is_written(
    small: Path, mistake: Callable[..., str], name: str
) -> None:
    x = np.zeros((6, 65, 65), np.uint8)
    np.savez(small / "large.npz", x_train=x, y_train=np.arange(6) % 2)
    arguments, words = MISTAKES[name]
    assert words in mistake("train", *arguments, "--out", "run")


SHOWN = ["--device", "cpu", "--out", "run", "--verbose"]


def test_gan_report_shows_the_diversity(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("train", "small.npz", "--preset", "dcgan", *options(*TINY), *SHOWN) == 0
    lines: list[Any] = capsys.readouterr().out.splitlines()
    place = lines.index("Diversity of 30 images; collapse is 1 if all are the same or like no real one")
    assert lines[place + 1].split()[:2] == ["images", "collapse"]
    assert max(len(line) for line in lines if not line.startswith("Seed 0:")) <= 80  # sentences may be longer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gaussian", "--set", "augmentation=natural"], "augmentation is 'natural', but these data are vectors of 1 "),
        (["gaussian", "--set", "frames_every_images=1000"], "frames_every_images=1000 has no effect: it needs "),
        (["gaussian", "--set", "grid_side=7"], "grid_side=7 has no effect: it needs "),
        (
            ["digits", "--preset", "dcgan-64"],
            "Preset dcgan-64 is for files of pictures, which it resizes to 64 pixels, ",
        ),
    ],
)
def test_unsuitable_options_are_refused_without_a_run_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert status_of("train", *arguments, "--out", str(tmp_path / "run")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ssgan: {message}")
    assert not (tmp_path / "run").exists()


def test_generator_of_nearly_identical_images_gets_a_warning(few_digits: Data, tmp_path: Path) -> None:
    """With a learning rate of 0 the generator keeps its initial weights, which are near 0."""
    config = tiny(labels=0, network="dcgan", learning_rate_g=0.0, discriminator_widths=(4,), generator_widths=(4,))
    data = dataclasses.replace(few_digits, x_train=grown(few_digits.x_train), x_test=grown(few_digits.x_test))
    folder = runs.create_run_folder(tmp_path / "run", data.name, config)
    report = run_experiment(data, config, folder)
    (warning,) = [line for line in report["warnings"] if "nearly identical" in line]
    assert warning.startswith("Seed 0: ")
    assert f"({report['rows'][0]['spread']:.2f} times as far" in warning


def grown(images: np.ndarray) -> np.ndarray:
    return images.repeat(4, axis=1).repeat(4, axis=2)

"""`ssgan sample`, on toy generators with known images and on a small trained run."""

import json
import math
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import contents, last_object, status_of
from small_configs import tiny
from torch import Tensor, nn

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.figures import image_grid
from ssgan.figures.image_grid import draw_grid, to_uint8
from ssgan.inference import sample
from ssgan.inference.latents import combine, interpolate
from ssgan.inference.models import Models, open_checkpoint
from ssgan.inference.sample import ImageSource, Request, class_histogram
from ssgan.nn.stack import Stack
from ssgan.settings.config import Config
from ssgan.training import callbacks, folds
from ssgan.training.experiment import Paused, run_experiment
from ssgan.training.monitor import TrainingProgress
from ssgan.training.trainer import train

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
SIDE = 48  # a tile is a latent of 48 x 48 numbers shown as an image


class LatentAsImage(nn.Module):
    """A linear generator: the image is the latent itself, times a trainable gain of 1."""

    couples_rows = couples_rows_at_evaluation = False

    def __init__(self, side: int = SIDE) -> None:
        super().__init__()
        self.side, self.gain = side, nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        return self.gain * z.unflatten(1, (self.side, self.side))


class Brightness(nn.Module):
    """A discriminator of two classes: which half of the image is brighter."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(9.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        half = x.shape[2] // 2
        features = torch.stack([x[:, :, :half].mean(dim=(1, 2)), x[:, :, half:].mean(dim=(1, 2))], dim=1)
        return self.gain * features, features


def toy(seeds: int = 1, side: int = SIDE, **settings: Any) -> Models:
    D = Stack([Brightness()] * seeds)
    config = tiny(latent_size=side * side, seeds=seeds, **settings)
    return Models(
        config=config,
        D=D,
        G=Stack([LatentAsImage(side)] * seeds),
        averaged=D.parameters,
        scale=16.0,
        image_shape=(side, side),
        classes=("left", "right"),
        seeds=[*range(seeds)],
        split_sha256=["x"] * seeds,
    )


def drawn(made: sample.Drawing, folder: Path) -> np.ndarray:
    with (folder / "drawn.png").open("wb") as stream:
        made.save(stream)
    with Image.open(folder / "drawn.png") as picture:
        return np.asarray(picture).copy()


def tile(picture: np.ndarray, row: int, column: int, height: int = SIDE) -> np.ndarray:
    y, x = row * (height + 2), column * (SIDE + 2)
    return picture[y : y + SIDE, x : x + SIDE]


# Toy generators


def test_the_grid_shows_the_fixed_noise_in_order(tmp_path: Path) -> None:
    source = ImageSource(toy(), 5)
    z = to_uint8(source.noise(6).reshape(6, SIDE, SIDE).numpy())
    made = sample._grid(source, Request("grid", tmp_path, rows=2, columns=3))
    assert np.array_equal(drawn(made, tmp_path), np.asarray(draw_grid(z, columns=3)))
    numbered = drawn(sample._grid(source, Request("grid", tmp_path, rows=2, columns=3, numbered=True)), tmp_path)
    assert numbered.shape == (2 * (SIDE + 16) + 2, 3 * 50 - 2)
    assert np.array_equal(tile(numbered, 1, 2, SIDE + 16), z[5])


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize("path", ["straight", "spherical"])
def test_ends_of_interpolation_are_tiles_of_the_grid(tmp_path: Path, path: str, distribution: str) -> None:
    source = ImageSource(toy(latent_distribution=distribution), 5)
    z = source.noise(6)
    made = sample._interpolation(source, Request("interpolate", tmp_path, rows=3, columns=7, path=path))
    picture = drawn(made, tmp_path)
    shown = to_uint8(z.reshape(6, SIDE, SIDE).numpy())
    for pair in range(3):
        assert np.array_equal(tile(picture, pair, 0), shown[2 * pair])
        assert np.array_equal(tile(picture, pair, 6), shown[2 * pair + 1])
        middle = interpolate(z[2 * pair], z[2 * pair + 1], 7, path, distribution)[3]
        assert np.array_equal(tile(picture, pair, 3), to_uint8(middle.reshape(SIDE, SIDE).numpy()))
        if path == "straight":
            torch.testing.assert_close(middle, (z[2 * pair] + z[2 * pair + 1]) / 2)
    numbers = made.numbers
    assert numbers["path"] == path
    assert numbers["pairs"] == [[0, 1], [2, 3], [4, 5]]
    assert 0 < numbers["step_distance"] < numbers["end_distance"]
    if path == "straight":  # of six even steps
        assert numbers["step_distance"] == pytest.approx(numbers["end_distance"] / 6)


def test_default_interpolation_path_depends_on_the_latent_distribution(tmp_path: Path) -> None:
    request = Request("interpolate", tmp_path, rows=1, columns=3)
    found = {
        distribution: sample._interpolation(ImageSource(toy(latent_distribution=distribution), 0), request).numbers[
            "path"
        ]
        for distribution in ("uniform", "normal")
    }
    assert found == {"uniform": "straight", "normal": "spherical"}


def test_arithmetic_shows_operands_means_and_result(tmp_path: Path) -> None:
    """With a linear generator, the image of a sum is the sum of the images."""
    source = ImageSource(toy(latent_distribution="normal"), 5)
    terms = ((1, (0, 1, 2)), (-1, (3, 4)), (1, (8,)))
    made = sample._arithmetic(source, Request("arithmetic", tmp_path, terms=terms))
    images = source.images(source.noise(9))
    means = [images[:3].mean(axis=0), images[3:5].mean(axis=0), images[8]]
    picture = drawn(made, tmp_path)
    expected = {"result": means[0] - means[1] + means[2], **{f"mean {k}": mean for k, mean in enumerate(means)}}
    expected |= {f"operand {i}": images[i] for i in (0, 1, 2, 3, 4, 8)}
    places = {name: _places(picture, to_uint8(image)) for name, image in expected.items()}
    # One row for each term; image 8 is its own mean.
    rows = {name: {y for y, _ in at} for name, at in places.items()}
    line = SIDE + 16 + 2
    assert rows["operand 0"] == rows["operand 1"] == rows["operand 2"] == rows["mean 0"] == {0}
    assert rows["operand 3"] == rows["operand 4"] == rows["mean 1"] == rows["result"] == {line}
    assert rows["operand 8"] == rows["mean 2"] == {2 * line}
    assert len(places["operand 8"]) == 2
    # The result is in the middle of eight neighbours: three columns at the right end.
    ((_, x),) = places["result"]
    assert x + 2 * SIDE + 2 == picture.shape[1]
    assert made.numbers["terms"] == [["+", [0, 1, 2]], ["-", [3, 4]], ["+", [8]]]
    assert made.numbers["clipped"] == 0.0


@pytest.mark.parametrize("terms", [((1, (0,)),), ((1, (0,)), (-1, (1,)), (1, (2,)), (-1, (3,)), (1, (4,)))])
def test_arithmetic_of_any_length_shows_its_result(tmp_path: Path, terms: Any) -> None:
    source = ImageSource(toy(latent_distribution="normal"), 5)
    total, _, _ = combine(source.noise(5), terms, "normal")
    picture = drawn(sample._arithmetic(source, Request("arithmetic", tmp_path, terms=terms)), tmp_path)
    assert len(_places(picture, to_uint8(total.reshape(SIDE, SIDE).numpy()))) == (3 if len(terms) == 1 else 1)


def _places(picture: np.ndarray, tile: np.ndarray) -> set[tuple[int, int]]:
    windows = np.lib.stride_tricks.sliding_window_view(picture, tile.shape)
    candidates = np.argwhere((windows[:, :, 0, 0] == tile[0, 0]) & (windows[:, :, -1, -1] == tile[-1, -1]))
    return {(int(y), int(x)) for y, x in candidates if np.array_equal(windows[y, x], tile)}


def test_nearest_finds_the_image_that_was_copied(tmp_path: Path) -> None:
    """The pool contains one generated image: it is found, at the distance of its rounding error."""
    source = ImageSource(toy(side=8), 5)
    samples = source.images(source.noise(4))
    pool = np.random.default_rng(0).integers(0, 17, (50, 8, 8), dtype=np.uint8)
    pool[31] = (16 * samples[2]).round()
    labels = np.zeros(50, np.int64)
    data = Data(pool, labels, pool[20:23] // 2, labels[:3], ("left", "right"), scale=16)
    made = sample._nearest(source, Request("nearest", tmp_path, rows=4, columns=3, samples=3), data)
    numbers = made.numbers
    assert numbers["neighbours"][2]["rows"][0] == 31
    assert numbers["neighbours"][2]["distances"][0] == pytest.approx(
        np.linalg.norm(samples[2] - pool[31] / 16), rel=1e-5
    )
    firsts = [np.linalg.norm(image - pool / 16, axis=(1, 2)).min() for image in samples]
    assert [one["distances"][0] for one in numbers["neighbours"]] == pytest.approx(firsts, rel=1e-5)
    spread = numbers["sample_distances"]
    assert (spread["images"], spread["median"], spread["least"]) == (
        3,
        pytest.approx(np.median(firsts[:3]), rel=1e-5),
        pytest.approx(min(firsts[:3]), rel=1e-5),
    )
    of_test = [np.linalg.norm(image / 16 - pool / 16, axis=(1, 2)).min() for image in pool[20:23] // 2]
    assert numbers["test_distances"]["images"] == 3
    assert numbers["test_distances"]["median"] == pytest.approx(np.median(of_test))
    picture = drawn(made, tmp_path)
    assert _places(picture, to_uint8(pool[31] / 16).repeat(6, axis=0).repeat(6, axis=1))
    untested = Data(pool[:2], labels[:2], pool[:0], labels[:0], ("left", "right"), scale=16)
    numbers = sample._nearest(source, Request("nearest", tmp_path, rows=1, columns=3, samples=3), untested).numbers
    assert numbers["test_distances"] is None
    assert len(numbers["neighbours"][0]["rows"]) == 2  # the pool has no more images


def test_per_class_sorts_samples_by_discriminator_output(tmp_path: Path) -> None:
    source = ImageSource(toy(), 5)
    images = source.images(source.noise(40))
    left, right = images[:, :, : SIDE // 2].mean(axis=(1, 2)), images[:, :, SIDE // 2 :].mean(axis=(1, 2))
    made = sample._per_class(source, Request("per-class", tmp_path, columns=3, samples=40))
    assert made.numbers["counts"] == [int((left >= right).sum()), int((left < right).sum())]
    assert made.numbers["classes"] == ["left", "right"]
    picture = drawn(made, tmp_path)
    for row, order in enumerate((np.argsort(right - left), np.argsort(left - right))):
        for column in range(3):
            ((y, x),) = _places(picture, to_uint8(images[order[column]]))
            assert y == row * (SIDE + 2)
            assert x == picture.shape[1] - (3 - column) * (SIDE + 2) + 2


def test_class_histogram_matches_hand_computed_values() -> None:
    """Five images of class 0, three of 1, none of 2: entropy of (5, 3) / 8; also uniform and collapsed histograms."""
    p = np.eye(3)[[0, 0, 1, 0, 1, 1, 0, 0]] * 0.8 + 0.05
    found = class_histogram(p)
    assert found["counts"] == [5, 3, 0]
    assert found["shares"] == [0.625, 0.375, 0.0]
    assert found["entropy"] == pytest.approx(-0.625 * math.log(0.625) - 0.375 * math.log(0.375))
    assert found["entropy_even"] == pytest.approx(math.log(3))
    assert class_histogram(np.eye(4)[[0, 1, 2, 3]])["entropy"] == pytest.approx(math.log(4))
    assert class_histogram(np.eye(4)[[2, 2, 2]])["entropy"] == 0.0


# The noise


def test_noise_depends_only_on_the_seed_and_the_latent_settings(few_digits: Data) -> None:
    """Runs with other networks, lengths, seeds and numbers of models have the same noise; fewer rows are a prefix."""
    one = train(few_digits, tiny()).models
    other = train(few_digits, tiny(seed=4, seeds=2, generator_widths=(9, 9), total_images=200)).models
    assert torch.equal(one.noise(150, 3), other.noise(150, 3))
    assert torch.equal(one.noise(7, 3), other.noise(150, 3)[:7])
    assert not torch.equal(one.noise(7, 3), one.noise(7, 4))
    normal = Models(**{**vars(one), "config": one.config.replace(latent_distribution="normal")})
    assert not torch.equal(one.noise(7, 3), normal.noise(7, 3))


@pytest.mark.parametrize("norm", ["batch", "virtual", "none"])
def test_generated_image_depends_only_on_its_latent(few_digits: Data, norm: str) -> None:
    """It does not depend on the other latents of the call, nor on its position among them."""
    models = train(few_digits, tiny(generator_norm=norm)).models
    z = models.noise(250, 1)
    whole = models.generate(z, 1)
    np.testing.assert_allclose(models.generate(z[140:160].flip(0), 1), whole[:, 140:160][:, ::-1], atol=1e-6)
    assert np.array_equal(models.generate(z[:120], 1), whole[:, :120])
    assert np.array_equal(models.sample(120, 1), whole[:, :120])
    assert whole.std(axis=1).max() > 0.01
    # The first 100 images equal those of one batch of 100, as in training.
    assert models.G is not None
    plain = models.G.evaluate(z[:100]).numpy()
    np.testing.assert_allclose(whole[:, :100], plain, atol=1e-6)


# A run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with frames, trained by the command line."""
    out = tmp_path_factory.mktemp("trained") / "run"
    settings = ["total_images=2000", "discriminator_widths=16,8", "generator_widths=16", "frames_every_images=600"]
    options = [word for setting in settings for word in ("--set", setting)]
    arguments = ["--labels", "20", "--seed", "3", "--seeds", "2", "--device", "cpu", "--out", out, "--json"]
    assert status_of("train", "digits", *arguments, *options) == 0
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained run, in its own working folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained, tmp_path / "run"))


def sampled(capsys: pytest.CaptureFixture[str], run: Path, *arguments: str | Path) -> dict[str, Any]:
    capsys.readouterr()
    status = status_of("sample", run, *arguments, "--device", "cpu", "--json")
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert len(captured.out.splitlines()) == 1
    return last_object(captured.out)


KINDS = {
    "grid": ["--grid"],
    "interpolate": ["--interpolate"],
    "arithmetic": ["--arithmetic", "0,1,2 - 3,4,5 + 6,7,8"],
    "nearest": ["--nearest"],
    "per-class": ["--per-class"],
    "animate": ["--animate"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_written_and_reproducible(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    before = contents(run)
    result = sampled(capsys, run, *KINDS[kind])
    suffix = "gif" if kind == "animate" else "png"
    assert {name: result[name] for name in ("run", "kind", "out")} == {
        "run": str(run),
        "kind": kind,
        "out": str(run / f"sample-{kind}.{suffix}"),
    }
    if kind != "animate":
        assert (result["images"], result["model"], result["seed"]) == (2000, 3, 3)
    after = contents(run)
    first = after.pop(f"sample-{kind}.{suffix}")
    assert after == before
    again = sampled(capsys, run, *KINDS[kind], "--out", tmp_path / f"again.{suffix}")
    assert {**again, "out": result["out"]} == result
    assert (tmp_path / f"again.{suffix}").read_bytes() == first
    with Image.open(result["out"]) as picture:
        assert min(picture.size) > 100
    if kind not in ("animate", "nearest"):
        sampled(capsys, run, *KINDS[kind], "--seed", "9", "--out", tmp_path / "other.png")
        sampled(capsys, run, *KINDS[kind], "--model", "4", "--out", tmp_path / "second.png")
        three = {path.read_bytes() for path in (tmp_path / "other.png", tmp_path / "second.png")} | {first}
        assert len(three) == 3
    # Without --json, the output is text for people.
    assert status_of("sample", run, *KINDS[kind], "--device", "cpu") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Picture: {result['out']}"


def test_default_is_the_grid_that_the_run_saved(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It equals samples.png and the last frame; grids of other shapes have the same tiles."""
    sampled(capsys, run, "--out", "a.png")
    whole = pixels_of("a.png")
    assert np.array_equal(whole, pixels_of(run / "samples.png"))
    assert np.array_equal(whole, pixels_of(run / "frames" / "000002000.png"))
    sampled(capsys, run, "--rows", "2", "--columns", "3", "--out", "b.png")
    assert np.array_equal(pixels_of("b.png")[:48, :148], whole[:48, :148])
    assert pixels_of("b.png").shape == (98, 148)


def pixels_of(path: str | Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).copy()


def test_every_kind_works_for_runs_on_colour_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (40, 30, 20, 3), dtype=np.uint8), np.arange(40) % 2
    np.savez("c.npz", x_train=x, y_train=y, x_test=x[:4], y_test=y[:4], classes=np.array(["猫", "long " * 20]))
    settings = ["total_images=200", "batch_size=20", "init_images=20", "weight_fake=0.5", "frames_every_images=100"]
    short = [word for setting in settings for word in ("--set", setting)]
    arguments = ["--labels", "10", "--preset", "vectors", "--device", "cpu", "--out", "run", "--json"]
    assert status_of("train", "c.npz", *arguments, *short) == 0, capsys.readouterr().err
    for kind, options in KINDS.items():
        result = sampled(capsys, Path("run"), *options)
        with Image.open(result["out"]) as picture:
            assert picture.mode == ("P" if kind == "animate" else "RGB")
    assert pixels_of("run/sample-grid.png").shape == (10 * 62 - 2, 10 * 42 - 2, 3)


def test_nearest_needs_the_images_it_was_trained_on(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    mistake: Callable[..., str],
) -> None:  # fmt: skip
    """The data were moved or changed, or the run stopped before its report."""
    monkeypatch.chdir(tmp_path)
    arrays = {"x_test": few_digits.x_test, "y_test": few_digits.y_test, "scale": 16}
    np.savez("own.npz", x_train=few_digits.x_train, y_train=few_digits.y_train, **arrays)
    short = ["--labels", "20", "--set", "total_images=400", "--preset", "digits", "--device", "cpu", "--json"]
    assert status_of("train", "own.npz", *short, "--out", "run") == 0
    result = sampled(capsys, Path("run"), "--nearest", "--samples", "5")
    assert (result["pool_images"], result["dataset"]) == (300, "own")
    Path("own.npz").rename("moved.npz")
    assert mistake("sample", "run", "--nearest").startswith(f"There is no file {tmp_path / 'own.npz'}.")
    assert sampled(capsys, Path("run"), "--nearest", "--samples", "5", "--data", "moved.npz") == {
        **result, "dataset": "moved"
    }  # fmt: skip
    assert mistake("sample", "run", "--nearest", "--data", "digits") == (
        "digits does not match own as it was when run was trained."
    )
    Path("run/report.json").unlink()
    assert mistake("sample", "run", "--nearest") == (
        "run did not finish, so it does not record where its data are: name them with --data."
    )
    assert sampled(capsys, Path("run"), "--nearest", "--samples", "5", "--data", "moved.npz")["pool_images"] == 300


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grid", "--nearest"], "--grid and --nearest are two pictures: choose one of them."),
        (["--arithmetic", "1", "--animate"], "--arithmetic and --animate are two pictures: choose one of them."),
        (["--rows", "0"], "--rows is 0, but must be an integer from 1 to 100."),
        (["--arithmetic", "1 x"], "--arithmetic is '1 x', with '1 x' where a number should be: write numbers of the "
         "grid with commas, and + or - between the terms, such as '0,1,2 - 3,4,5 + 6,7,8'."),
        (["--model", "5"], "The model of seed 5 of run is not there: choose from 3, 4."),
        (["--out", "a.jpg"], "--out is a.jpg, but with --grid must end in .png."),
        (["--animate", "--out", "a.png"], "--out is a.png, but with --animate must end in .gif or .webp."),
        (["--out", "no/a.png"], "--out is no/a.png, which lies in no, which is not a folder: choose another file."),
        (["--device", "tpu"], "There is no device 'tpu' here: choose from auto, cpu."),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("run")
def test_mistakes_are_one_sentence(mistake: Callable[..., str], arguments: list[str], words: str) -> None:
    if "tpu" in arguments and (torch.cuda.is_available() or torch.backends.mps.is_available()):
        pytest.skip("there are more devices here")
    assert mistake("sample", "run", *arguments) == words


def test_refuses_output_file_that_cannot_be_written(run: Path, mistake: Callable[..., str]) -> None:
    name = "x" * 250 + ".png"
    assert mistake("sample", run, "--out", name) == (
        f"{name} cannot be written (File name too long): choose another file with --out."
    )


def test_refuses_missing_run_and_missing_or_damaged_checkpoint(run: Path, mistake: Callable[..., str]) -> None:
    assert mistake("sample", "nowhere") == (
        "There is no run folder nowhere: give the folder that `ssgan train` printed."
    )
    (run / "checkpoint").unlink()
    assert (
        mistake("sample", "run") == "There is no run/checkpoint: the run did not finish, or this is not a run folder."
    )
    (run / "checkpoint").write_bytes(b"odd")
    assert (
        mistake("sample", "run") == "run/checkpoint cannot be read as a checkpoint: it is damaged or in another format."
    )


def test_refuses_checkpoint_of_another_run(run: Path, mistake: Callable[..., str]) -> None:
    content = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**content, "latent_size": 7}))
    assert mistake("sample", "run") == "The checkpoint and config.json of run are not of the same run."


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "supervised"}, "its method is supervised: train with --method gan."),
        (
            {"weight_fake": 0.0},
            "its weight_fake is 0: train with --set weight_fake=0.5 --set weight_unlabeled=0.5.",
        ),
    ],
)
def test_a_run_without_a_generator_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: Callable[..., str], settings: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    runs.create_run_folder(Path("run"), "digits", Config(labels=20, **settings))
    for kind in KINDS.values():
        assert mistake("sample", "run", *kind) == f"run has no generator to sample from, because {words}"


def test_run_on_vectors_has_no_frames_and_no_samples(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flat = {share: getattr(few_digits, share).reshape(-1, 64) / np.float32(16) for share in ("x_train", "x_test")}
    data = Data(**flat, y_train=few_digits.y_train, y_test=few_digits.y_test, classes=few_digits.classes)
    config = tiny(frames_every_images=100)
    run_experiment(data, config, runs.create_run_folder(Path("run"), "flat", config))
    assert not Path("run/frames").exists()
    assert mistake("sample", "run") == (
        "The images of run are arrays of 64 numbers, which are not grey or colour pictures."
    )


def test_diverged_models_are_skipped(
    run: Path, capsys: pytest.CaptureFixture[str], mistake: Callable[..., str]
) -> None:
    state = runs.load_checkpoint(run / "checkpoint")
    weights = next(iter(state["networks"]["G"]["parameters"].values()))
    weights[0] = float("nan")
    del state["format_version"]
    runs.save_checkpoint(run / "checkpoint", state)
    assert sampled(capsys, run)["model"] == 4
    assert mistake("sample", run, "--model", "3") == f"The model of seed 3 of {run} diverged: choose from 4."
    weights[:] = float("nan")
    runs.save_checkpoint(run / "checkpoint", state)
    assert mistake("sample", run) == f"Every model of {run} diverged, so there is none to sample from."


# Frames


def test_frames_are_due_at_every_interval_and_at_the_end() -> None:
    def steps(config: Config) -> list[int]:  # 20 steps of 20 images
        return [step for step in range(1, 21) if callbacks.Frames(Path(), config).due(step)]

    assert steps(tiny(frames_every_images=50)) == [3, 6, 9, 12, 15, 18, 20]
    assert steps(tiny()) == []
    assert steps(tiny(method="supervised", frames_every_images=50)) == []


def test_frames_show_images_of_the_fixed_noise_during_training(few_digits: Data, tmp_path: Path) -> None:
    """Each frame equals the grid of a shorter run that ends there, because the learning rate is constant."""
    config = tiny(seed=2, decay_last_fraction=0.0, frames_every_images=160)
    run = runs.create_run_folder(tmp_path / "run", "digits", config)
    run_experiment(few_digits, config, run)
    assert [*image_grid.read_frames(run)] == [160, 320, 400]
    pictures = [pixels_of(path) for path in image_grid.read_frames(run).values()]
    for images, picture in zip((160, 320, 400), pictures, strict=True):
        models = train(few_digits, config.replace(total_images=images, frames_every_images=0)).models
        assert np.array_equal(picture, np.asarray(draw_grid(to_uint8(models.sample(100, seed=2)[0]))))
    assert not np.array_equal(pictures[0], pictures[1])


def test_frames_do_not_change_the_weights(few_digits: Data, tmp_path: Path) -> None:
    states = []
    for every in (0, 60):
        config = tiny(frames_every_images=every)
        run = runs.create_run_folder(tmp_path / str(every), "digits", config)
        run_experiment(few_digits, config, run)
        states.append(runs.load_checkpoint(run / "checkpoint")["networks"]["G"]["parameters"])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not (tmp_path / "0" / "frames").exists()


def test_resumed_run_continues_its_frames(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was stopped at 200 of 400 images; later frames, left by a killed session, are drawn again."""
    config = tiny(frames_every_images=100, report_every_images=200)
    whole, stopped = (runs.create_run_folder(tmp_path / name, "digits", config) for name in ("whole", "stopped"))
    run_experiment(few_digits, config, whole)
    expected = {path.name: path.read_bytes() for path in image_grid.read_frames(whole).values()}
    assert [*expected] == ["000000100.png", "000000200.png", "000000300.png", "000000400.png"]
    clock = SimpleNamespace(now=0.0)  # ten seconds from one report to the next
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def on_report(report: TrainingProgress) -> None:
        clock.now += 10.0

    with pytest.raises(Paused):
        run_experiment(few_digits, config, stopped, on_report, pause_after_seconds=15)
    assert [*image_grid.read_frames(stopped)] == [100, 200]
    _, state = open_checkpoint(stopped, CPU)
    assert state["steps_done"] == 10
    assert sampled(capsys, stopped, "--out", tmp_path / "now.png")["images"] == 200
    assert np.array_equal(pixels_of(tmp_path / "now.png"), pixels_of(image_grid.read_frames(stopped)[200]))
    (stopped / "frames" / "000000100.png").write_bytes(b"mine")
    for name in ("000000300.png", "000000390.png", "note.txt"):
        (stopped / "frames" / name).write_bytes(b"beyond")
    run_experiment(few_digits, config, stopped)
    found = {path.name: path.read_bytes() for path in image_grid.read_frames(stopped).values()}
    assert found == {**expected, "000000100.png": b"mine"}
    assert (stopped / "frames" / "note.txt").exists()


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_has_every_frame_in_order(run: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    result = sampled(capsys, run, "--animate", "--out", f"film{suffix}")
    assert result["frames"] == 4
    assert result["images"] == [600, 1200, 1800, 2000]
    frames = [pixels_of(path) for path in image_grid.read_frames(run).values()]
    times = []
    with Image.open(f"film{suffix}") as moving:
        assert getattr(moving, "n_frames", 1) == 4
        assert moving.info["loop"] == 0
        for k, frame in enumerate(frames):
            moving.seek(k)
            shown = np.asarray(moving.convert("L"))
            times.append(moving.info.get("duration"))
            assert shown.shape == (frame.shape[0] + 16, frame.shape[1])
            assert np.array_equal(shown[: frame.shape[0]], frame)
            assert shown[frame.shape[0] :].min() < 128
    if suffix == ".gif":
        assert times == [150, 150, 150, 2000]


def test_an_animation_without_frames_says_how_to_get_them(run: Path, mistake: Callable[..., str]) -> None:
    shutil.rmtree(run / "frames")
    assert mistake("sample", "run", "--animate") == (
        "run has no frames to animate: train with --set frames_every_images=N, which draws one after every N images of "
        "training."
    )


def test_a_damaged_frame_is_named(run: Path, mistake: Callable[..., str]) -> None:
    (run / "frames" / "000001200.png").write_bytes(b"odd")
    assert mistake("sample", "run", "--animate") == ("run/frames/000001200.png cannot be read as a picture: remove it.")
    Image.new("L", (9, 9)).save(run / "frames" / "000001200.png")
    assert mistake("sample", "run", "--animate") == (
        "run/frames/000001200.png differs in size from the frames before it: remove it."
    )


def test_frames_need_a_generator(mistake: Callable[..., str]) -> None:
    words = mistake("train", "digits", "--method", "supervised", "--set", "frames_every_images=100", "--dry-run")
    assert words.startswith("frames_every_images=100 has no effect: it needs a method that trains a generator")


def test_the_models_of_the_folds_draw_no_frames(few_digits: Data, tmp_path: Path) -> None:
    config = tiny(folds=2, frames_every_images=100, draw_seed=0)
    folds.cross_validate(few_digits, config, tmp_path / "folds")
    assert not list(tmp_path.rglob("frames"))


def test_documented_commands_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ ssgan (sample runs/\w+ [^#\n]+)", text, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        words = shlex.split(re.sub(r"runs/\w+", str(run), command))
        assert status_of(*words) == 0, capsys.readouterr().err

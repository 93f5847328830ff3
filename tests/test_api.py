"""The Python API: `ssgan.train`, `ssgan.open_run`, and the methods of a run."""

import dataclasses
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures_on_disk import grey, write
from running import RUN_FILES, last_object, status_of
from small_backbones import coloured, use_small_backbone
from small_configs import TINY, tiny
from small_trainings import same_bits, weights
from torch.utils.data import TensorDataset

import ssgan
from ssgan.api import OpenedRun, TrainedRun
from ssgan.data.dataset import Data
from ssgan.errors import UserError
from ssgan.training import trainer

SHORT = {**TINY, "preset": "digits"}


@pytest.fixture(scope="module")
def run(few_digits: Data) -> TrainedRun:
    return ssgan.train(few_digits, **SHORT, seeds=2, draw_seed=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    files = {f"{label}/{i}.png": grey(10 * k + i, size=20) for k, label in enumerate("ab") for i in range(10)}
    return write(tmp_path / "photos", files)


def sentence(call: Any) -> str:
    with pytest.raises(UserError) as refused:
        call()
    assert "\n" not in str(refused.value)
    return str(refused.value)


# Training


def test_keywords_of_train_are_settings(run: TrainedRun, few_digits: Data) -> None:
    config = tiny(seeds=2, draw_seed=0)
    assert dataclasses.replace(run.config, preset="") == config
    assert same_bits(weights(run), weights(trainer.train(few_digits, config)))
    assert run.errors == trainer.train(few_digits, config).errors


def test_train_accepts_a_config_changed_by_keywords(few_digits: Data) -> None:
    changed = ssgan.train(few_digits, tiny(), seed=4)
    assert changed.config == tiny(seed=4)
    assert sentence(lambda: ssgan.train(few_digits, tiny(folds=2))).startswith("folds=2 writes into a run folder")
    none = sentence(lambda: ssgan.train(few_digits, backbone="none"))
    assert none == "backbone is 'none': to train without a backbone, set it to None."
    words = "preset='digits' cannot be combined with config, which has every setting: omit one of them."
    assert sentence(lambda: ssgan.train(few_digits, tiny(), preset="digits")) == words


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lables": 20}, "Unknown setting 'lables'. Did you mean 'labels'?"),
        ({"epoch": 2}, "Unknown setting 'epoch'. Did you mean 'epochs'?"),
        ({"zzz": 2}, "Unknown setting 'zzz'."),
        ({"config": tiny(), "zzz": 2}, "Unknown setting 'zzz'."),
        ({"labels": "many"}, "labels is 'many', but must be"),
        ({"epochs": 0}, "epochs is 0, but must be a number above 0 and at most 3e+16."),
        ({"epochs": 1e300}, "epochs is 1e+300, but must be a number above 0 and at most 3e+16."),
        ({"epochs": 1, "total_images": 5}, "epochs and total_images set the same length twice: omit one."),
        ({"labels_csv": "l.csv"}, "data_dir and labels_csv are for names and paths of data, but data are arrays"),
        ({"labels": np.zeros(3)}, "labels is a ndarray, but must be"),
        ({"folds": 3}, "folds=3 writes into a run folder during training: use `ssgan train --out DIR`."),
        ({"tensorboard": True}, "tensorboard=True writes into a run folder"),
        ({"config": {"labels": 3}}, "config is {'labels': 3}, but must be a Config"),
        ({"network": "paper-conv"}, "Network paper-conv accepts images of at least 9x9 pixels"),
    ],
)
def test_train_refuses_wrong_keywords(few_digits: Data, settings: dict[str, Any], words: str) -> None:
    assert sentence(lambda: ssgan.train(few_digits, **settings)).startswith(words)


def test_train_accepts_float_images_with_text_labels(few_digits: Data) -> None:
    words = np.array([f"n{k}" for k in few_digits.y_train], object)
    words[40:] = None
    x = few_digits.x_train / 16.0
    trained = ssgan.train((x, words), **{**SHORT, "labels": None})
    assert len(trained.splits[0].indices) == 40
    assert trained.errors == [None]
    assert set(trained.predict(x[:5])) <= set(words[:40])
    assert repr(trained) == "<TrainedRun of arrays: gan, 40 labels, 1 model>"
    assert "no test images to score" in sentence(trained.evaluate)


def test_train_accepts_float_labels_with_nan(few_digits: Data) -> None:
    """As pandas stores integers with missing values."""
    y = few_digits.y_train.astype(float)
    y[40:] = np.nan
    trained = ssgan.train((few_digits.x_train, y), **{**SHORT, "labels": None})
    assert np.array_equal(trained.data.y_train, np.where(np.isnan(y), -1, y))
    y[0] = 0.5
    assert "must hold one integer" in sentence(lambda: ssgan.train((few_digits.x_train, y), **SHORT))


def test_train_accepts_a_torch_dataset(few_digits: Data) -> None:
    y = torch.from_numpy(few_digits.y_train.copy())
    y[40:] = -1
    images = torch.from_numpy(few_digits.x_train / np.float32(16))[:, None]
    test = TensorDataset(images[:50], torch.from_numpy(few_digits.y_train[:50]))
    trained = ssgan.train(TensorDataset(images, y), test=test, **{**SHORT, "labels": None})
    assert trained.data.image_shape == (8, 8)
    assert trained.errors[0] is not None


def test_masked_labels_are_not_learned(few_digits: Data) -> None:
    masked = np.ma.masked_array(few_digits.y_train, mask=np.arange(300) >= 40)
    trained = ssgan.train((few_digits.x_train, masked), **{**SHORT, "labels": None})
    assert len(trained.splits[0].indices) == 40


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"test_share": 0.3}, "test_share=0.3 has no effect: it is for files of pictures"),
        ({"image_size": 16}, "image_size=16 has no effect: it is for files of pictures"),
        ({"gaussian_mean": 3.0}, "gaussian_mean=3.0 has no effect: it is for the data set gaussian"),
    ],
)
def test_settings_of_files_are_refused_with_arrays(few_digits: Data, settings: dict[str, Any], words: str) -> None:
    pair = few_digits.x_train, few_digits.y_train
    assert sentence(lambda: ssgan.train(pair, **SHORT, **settings)).startswith(words)
    assert sentence(lambda: ssgan.train(pair, tiny(**settings))).startswith(words)
    assert ssgan.train(pair, tiny(image_depth=12)).config.image_depth == 12  # as the config of a run on deep pictures


def test_predict_and_evaluate_accept_tensors_and_lists(few_digits: Data) -> None:
    images = torch.from_numpy(few_digits.x_train / np.float32(16))[:, None].requires_grad_()
    y = torch.from_numpy(few_digits.y_train)
    trained = ssgan.train(TensorDataset(images, y), **SHORT)
    assert np.array_equal(trained.predict_proba(images), trained.predict_proba(trained.data.x_train))
    assert trained.evaluate((images, y))["test_images"] == 300
    assert sentence(lambda: trained.predict(TensorDataset(images, y))).startswith("images is of type TensorDataset")
    assert sentence(lambda: trained.predict(np.asarray(1))).startswith("images is one int64, but must be an array")
    stacked = trained.predict_proba(images)
    assert np.array_equal(trained.predict_proba(list(images)), stacked)
    assert np.array_equal(trained.predict_proba(memoryview(np.ascontiguousarray(trained.data.x_train))), stacked)
    ragged = [np.zeros((8, 8)), np.zeros((8, 7))]
    assert sentence(lambda: trained.predict(ragged)) == ("The rows of images have different shapes, but must have one.")


def test_global_torch_state_does_not_change_the_results(run: TrainedRun, few_digits: Data) -> None:
    """Autocast and a default dtype of float64 changed probabilities; in inference mode training failed."""
    x = few_digits.x_test
    default = torch.get_default_dtype()
    expected, config = run.predict_proba(x), tiny(seeds=2, draw_seed=0)
    generated = run.models.sample(5)
    try:
        torch.set_default_dtype(torch.float64)
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            assert np.array_equal(run.predict_proba(x), expected)
            assert np.array_equal(run.models.sample(5), generated)
            again = ssgan.train(few_digits, config)
            assert torch.is_inference_mode_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(default)
    assert same_bits(weights(again), weights(run))


def test_images_or_labels_that_cannot_be_scored_are_refused(run: TrainedRun, few_digits: Data) -> None:
    x, y = few_digits.x_test[:3], few_digits.y_test[:3]
    none = "There are no images: give at least one."
    assert sentence(lambda: run.predict([])) == none
    assert sentence(lambda: run.evaluate((x[:0], y[:0]))) == none
    words = "The labels hold -1, None or NaN, but an image without a label cannot be scored: leave it out."
    assert sentence(lambda: run.evaluate((x, [0, -1, 1]))) == words
    assert sentence(lambda: run.evaluate((x, ["0", None, "1"]))) == words
    masked = np.ma.masked_array([0, 1, 2], mask=[False, True, False])
    assert sentence(lambda: run.evaluate((x, masked))) == words


def test_integer_labels_do_not_match_numeric_class_names(few_digits: Data) -> None:
    """The integer 1 was once the second of the classes "1", "10", "2", ..."""
    words = (few_digits.y_train + 1).astype(str)
    trained = ssgan.train((few_digits.x_train, words), **SHORT)
    for kind in (int, float, object):
        labels = (few_digits.y_train + 1).astype(kind)
        message = sentence(lambda labels=labels: trained.evaluate((few_digits.x_train, labels)))
        assert message.startswith("The labels are integers and the classes are called 1, 10, 2")
    assert trained.evaluate((few_digits.x_train, words))["test_images"] == 300


def test_empty_path_is_refused(run: TrainedRun, mistake: Callable[..., str]) -> None:
    words = "A path is empty: name a file or a folder, or . for the current folder."
    for use in (ssgan.load, ssgan.train, ssgan.open_run, run.save):
        assert sentence(lambda use=use: use("")) == words  # type: ignore[misc]


def test_empty_argument_is_refused(mistake: Callable[..., str]) -> None:
    """As a path it would be the current folder."""
    for command in (["data"], ["train"], ["predict"], ["report", "rows.jsonl", "--out"], ["train", "digits", "--from"]):
        words = f"The argument after {command[-1]} is empty: give a value (. is the current folder)."
        assert mistake(*command, "") == words
    assert mistake("export", "run", "--out=").startswith("--out is empty: give a value (")
    assert mistake("").startswith("The first argument is empty")


def test_pickling_a_training_is_refused(run: TrainedRun) -> None:
    with pytest.raises(TypeError, match=r"^A training cannot be pickled: save\(folder\) writes it"):
        pickle.dumps(run)


def test_torch_test_set_is_matched_by_class_names() -> None:
    """As an ``ImageFolder`` in which one class has no folder."""

    class Folder(TensorDataset):
        def __init__(self, classes: list[str], numbers: list[int]) -> None:
            super().__init__(torch.rand(len(numbers), 3, 8, 8), torch.tensor(numbers))
            self.classes = classes

    pool = Folder(["cat", "dog", "fox"], [0, 1, 2])
    assert Data.from_dataset(pool, Folder(["cat", "fox"], [1, 0])).y_test.tolist() == [2, 0]
    assert Data.from_dataset(pool, Folder(["cat", "dog", "fox"], [2])).y_test.tolist() == [2]
    message = sentence(lambda: Data.from_dataset(pool, Folder(["cat", "wolf"], [0, 1])))
    assert message.startswith("The test set has images of class 'wolf', but the classes of training are cat, dog, fox")


def test_epochs_count_passes_over_the_pool(few_digits: Data) -> None:
    settings = {key: value for key, value in SHORT.items() if key != "total_images"}
    assert ssgan.train(few_digits, **settings, epochs=0.5).config.total_images == 150


def test_training_on_a_folder_equals_the_train_command(photos: Path, tmp_path: Path) -> None:
    settings = {"total_images": 40, "batch_size": 20, "report_every_images": 20, "device": "cpu"}
    trained = ssgan.train(str(photos), labels=6, image_size=17, **settings)
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    out = tmp_path / "run"
    assert status_of("train", photos, "--labels", "6", "--image-size", "17", *options, "--out", out) == 0
    opened = ssgan.open_run(out)
    assert trained.config == opened.config
    assert trained.data.sha256 == opened.report["dataset_sha256"]
    assert trained.models.split_sha256 == opened.models.split_sha256
    assert trained.source == opened.report["source"]
    paths = sorted(photos.rglob("*.png"))
    assert np.array_equal(trained.predict_proba(paths), opened.predict_proba(photos))
    assert set(trained.predict(paths)) <= {"a", "b"}
    # The folder holds the pool and the held-out share: only the held-out images are scored.
    scores, command = trained.evaluate(str(photos)), opened.evaluate(photos)
    assert scores["errors"] == command["errors"]
    assert (scores["scored"], scores["left_out"]) == (command["scored"], 16)


def test_photographs_use_a_backbone_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_backbone(monkeypatch)
    x, y = coloured(12, 0, side=64)
    smooth = x // 2 + np.arange(64, dtype=np.uint8)[:, None, None] + np.arange(64, dtype=np.uint8)[:, None]
    photos = write(
        tmp_path / "p", {f"{'abc'[k]}/{i}.png": image for i, (image, k) in enumerate(zip(smooth, y, strict=True))}
    )
    short = {"total_images": 40, "batch_size": 20, "init_images": 10, "image_size": 64, "device": "cpu"}
    trained = ssgan.train(photos, **short)
    assert trained.config.preset == "features"
    assert trained.predict(photos).shape == (12,)
    assert ssgan.train(photos, backbone=None, **short).config.preset == "images-fast"


# Methods of a run


def test_predictions_equal_those_of_the_models(run: TrainedRun, few_digits: Data) -> None:
    p = run.models.probabilities(few_digits.x_test)
    assert np.array_equal(run.predict_proba(few_digits.x_test), p.mean(axis=0))  # the same labels: both vote
    assert np.array_equal(run.predict_proba(few_digits.x_test, seed=1), p[1])
    assert run.predict(few_digits.x_test).tolist() == [str(k) for k in p.mean(axis=0).argmax(axis=1)]
    assert np.array_equal(run.predict_proba(few_digits.x_test / 16), p.mean(axis=0))  # floats from 0 to 1
    generated = run.models.generated_probability(few_digits.x_test).mean(axis=0)
    assert np.allclose(run.outlier_score(few_digits.x_test), generated)


def test_predict_files_continues_after_an_unreadable_file(run: TrainedRun, tmp_path: Path) -> None:
    folder = write(tmp_path / "new", {"a.png": grey(3, size=8), "b.png": b"no picture", "c.png": grey(9, size=8)})
    first, broken, last = run.predict_files(folder)
    assert [row.file for row in (first, broken, last)] == [str(folder / name) for name in ("a.png", "b.png", "c.png")]
    assert (broken.label, broken.probability, broken.probabilities) == (None, None, None)
    assert "b.png" in broken.note
    assert [first.label, last.label] == run.predict([folder / "a.png", folder / "c.png"]).tolist()
    assert last.probabilities == pytest.approx(run.predict_proba(folder / "c.png")[0], rel=1e-5)
    assert [row.file for row in run.predict_files([folder / "c.png"], seed=1)] == [last.file]
    with pytest.raises(UserError, match=r"b\.png"):
        run.predict(folder)


def test_a_saved_run_predicts_files_as_the_trained_one(few_digits: Data, tmp_path: Path) -> None:
    """With the same notes: a model that flags many of its own images flags no others."""
    run = ssgan.train(few_digits, tiny(weight_fake=20.0, total_images=2000))
    np.savez(tmp_path / "x.npz", x=few_digits.x_test)
    opened = ssgan.open_run(run.save(tmp_path / "run"))
    assert run.report["foreign"]["pool"][0] > 0.05
    assert list(run.predict_files(tmp_path / "x.npz")) == list(opened.predict_files(tmp_path / "x.npz"))


def test_a_home_folder_is_expanded(
    run: TrainedRun, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_digits: Data
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(saved, tmp_path / "run")
    np.savez(tmp_path / "x.npz", x=few_digits.x_test)
    opened = ssgan.open_run("~/run")
    assert opened.predict("~/x.npz").tolist() == run.predict(few_digits.x_test).tolist()
    assert "lies in the run" in sentence(lambda: opened.save("~/run/copy"))


def test_missing_or_changed_data_of_a_run_are_reported(
    run: TrainedRun, saved: Path, few_digits: Data, tmp_path: Path, mistake: Callable[..., str]
) -> None:
    """The fixture has the name of a built-in set, but fewer images."""
    arrays = ssgan.train((few_digits.x_train, few_digits.y_train), **SHORT).save(tmp_path / "arrays")
    message = "was trained on arrays, which it does not hold: give --data, or evaluate() arrays."
    assert sentence(ssgan.open_run(arrays).evaluate).endswith(message)
    for command in (("data",), ("suggest",), ("audit",), ("sample", "--nearest")):
        assert mistake(command[0], arrays, *command[1:]).startswith(f"{arrays} was trained on arrays, which it does")
    (note,) = ssgan.open_run(saved).evaluate()["notes"]
    assert note.startswith(f"digits has changed since {saved} was trained")
    assert run.evaluate()["notes"] == []


def test_run_of_several_draws_predicts_with_the_first_model(few_digits: Data) -> None:
    several = ssgan.train(few_digits, **SHORT, seeds=2)
    first = several.models.probabilities(few_digits.x_test[:3])[0]
    assert np.array_equal(several.predict_proba(few_digits.x_test[:3]), first)


def test_run_refuses_unsuitable_images_seeds_and_methods(run: TrainedRun, few_digits: Data) -> None:
    assert sentence(lambda: run.predict(few_digits.x_test[:, :5])).startswith(
        "The images are uint8 of shape [100, 5, 8]"
    )
    assert sentence(lambda: run.predict("nowhere.png")) == "There is no file nowhere.png."
    assert sentence(lambda: run.predict(few_digits.x_test, seed=9)) == (
        "The model of seed 9 of this run is not there: choose from 0, 1."
    )
    supervised = ssgan.train(few_digits, tiny(method="supervised"))
    assert sentence(lambda: supervised.outlier_score(few_digits.x_test)) == (
        "The models of this run have no generator: method 'supervised' trains none."
    )
    off = ssgan.train(few_digits, tiny(weight_fake=0.0))
    assert sentence(lambda: off.outlier_score(few_digits.x_test)) == (
        "The models of this run have no generator: they were trained with weight_fake=0."
    )
    bright = np.full((2, 8, 8), 255, np.uint8)  # these digits have 16 levels
    words = "The images hold values from 255 to 255, but these models take 0 to 16: rescale them."
    assert sentence(lambda: run.predict(bright)) == words


def test_a_run_evaluates_its_test_share_or_other_images(run: TrainedRun, few_digits: Data) -> None:
    scores = run.evaluate(ensemble=True)
    assert scores["errors"] == run.errors
    assert scores["test_images"] == 100
    assert scores["ensemble"]["models"] == 2
    words = [str(k) for k in few_digits.y_test]
    assert run.evaluate((few_digits.x_test, words))["errors"] == run.errors
    assert run.evaluate(few_digits)["errors"] == run.errors


def test_reprs_are_short(run: TrainedRun, few_digits: Data) -> None:
    error = np.mean([error for error in run.errors if error is not None])
    assert repr(run) == f"<TrainedRun of digits: gan, 20 labels, 2 models, test error {error:.2f} %>"
    assert repr(few_digits).startswith(
        "Data('digits': x_train 300 of 8x8 uint8, 300 labelled; x_test 100; 10 classes: "
    )
    assert repr(run.models) == "<Models of seeds 0, 1: D and G of network mlp>"
    assert len(repr(trainer.train(few_digits, tiny()))) < 100


# A saved run


@pytest.fixture(scope="module")
def saved(run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run.save(tmp_path_factory.mktemp("saved") / "run")


def test_a_saved_run_is_a_run_folder(
    run: TrainedRun, saved: Path, few_digits: Data, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names = {path.name for path in saved.iterdir() if not path.name.startswith(".")}
    assert names == RUN_FILES - {"curves.png"}
    opened = ssgan.open_run(saved)
    assert isinstance(opened, OpenedRun)
    assert repr(opened) == repr(run).replace("TrainedRun", "OpenedRun")
    assert (opened.seeds, opened.errors, opened.classes) == (run.seeds, run.errors, run.classes)
    x = few_digits.x_test
    assert np.array_equal(opened.predict_proba(x), run.predict_proba(x))
    assert opened.evaluate((x, few_digits.y_test))["errors"] == run.errors
    np.savez(tmp_path / "x.npz", x=x[:5])
    assert opened.predict(str(tmp_path / "x.npz")).tolist() == run.predict(x[:5]).tolist()
    assert status_of("predict", saved, tmp_path / "x.npz", "--out", "-", "--json") == 0
    assert last_object(capsys.readouterr().out)["classified"] == 5


def test_three_files_of_a_run_are_enough_to_predict(
    saved: Path, run: TrainedRun, few_digits: Data, tmp_path: Path
) -> None:
    for name in ("config.json", "checkpoint", "report.json"):
        shutil.copy(saved / name, tmp_path)
    x = few_digits.x_test
    assert np.array_equal(ssgan.open_run(tmp_path).predict_proba(x), run.predict_proba(x))
    (tmp_path / "config.json").unlink()
    assert "is not a run folder" in sentence(lambda: ssgan.open_run(tmp_path))


def test_an_opened_run_is_copied(saved: Path, tmp_path: Path) -> None:
    copy = ssgan.open_run(saved).save(tmp_path / "deep" / "copy")
    assert (copy / "checkpoint").read_bytes() == (saved / "checkpoint").read_bytes()
    assert sentence(lambda: ssgan.open_run(saved).save(copy)) == (
        f"{copy} exists already and is not empty: save the run into another folder."
    )


def test_opened_run_works_after_a_change_of_the_working_folder(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved.parent)
    opened = ssgan.open_run(saved.name)
    monkeypatch.chdir(tmp_path)
    assert (opened.save("copy") / "checkpoint").exists()
    shutil.rmtree(tmp_path / "copy")
    (tmp_path / "copy").mkdir()
    gone = OpenedRun(tmp_path / "gone", opened.models, opened.report)
    assert sentence(lambda: gone.save(tmp_path / "copy")) == f"There is no run folder {tmp_path / 'gone'} any more."


def test_a_run_is_not_copied_into_itself(saved: Path) -> None:
    before = sorted(saved.rglob("*"))
    assert "lies in the run" in sentence(lambda: ssgan.open_run(saved).save(saved / "copy"))
    assert sorted(saved.rglob("*")) == before


def test_predict_refuses_values_out_of_range_and_nan(few_digits: Data) -> None:
    """NaN probabilities once became the first class."""
    x = np.random.default_rng(0).uniform(0, 1, (60, 4)).astype(np.float32)
    run = ssgan.train((x, np.arange(60) % 2), total_images=200, device="cpu")
    for outside in (x + 1, x - 1):
        assert sentence(lambda images=outside: run.predict(images)).startswith("The images hold values from")
    for bad in (np.nan, np.inf):
        images = np.where(np.arange(60)[:, None] == 7, np.float32(bad), x)
        words = sentence(lambda images=images: run.predict(images))
        assert words.startswith("1 image (the first: 7) make") or "7" in words


def test_a_gan_without_classes_has_no_predictions(tmp_path: Path) -> None:
    trained = ssgan.train("gaussian", total_images=2000)
    assert sentence(lambda: trained.predict(np.zeros((1, 1)))) == (
        "The models of this run have no classes: they are a GAN without labels."
    )
    assert trained.outlier_score(np.zeros((3, 1))).shape == (3,)
    assert trained.evaluate()["errors"] == [None]
    numbers = np.zeros((3, 1), np.float32)
    for labels in (np.full(3, -1), np.arange(3)):
        assert trained.evaluate((numbers, labels))["errors"] == [None]
    assert ssgan.open_run(trained.save(tmp_path / "run")).classes == ()


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, ssgan; print(sorted({'torch', 'sklearn', 'numpy'} & set(sys.modules)), sorted(dir(ssgan))[:1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("[]")
    assert {"SSGANClassifier", "SemiSupervisedKFold", "open_run", "train"} <= set(ssgan.__all__)

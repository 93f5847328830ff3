"""`Data` and the digits: shapes and types, the hash, refused arrays, and equal data from arrays and files."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_on_disk import grey, write
from refused_data import refusal
from sklearn.datasets import load_digits
from small_arrays import X_ERROR, assert_same_data, small
from small_configs import tiny
from small_trainings import same_bits, weights

from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS, load
from ssgan.errors import UserError
from ssgan.settings.presets import DATASET_PRESETS, PRESETS
from ssgan.training.trainer import train

# Digits


def test_digits_has_shapes_types_and_range(digits: Data) -> None:
    assert digits.x_train.shape == (1257, 8, 8)
    assert digits.x_test.shape == (540, 8, 8)
    assert digits.image_shape == (8, 8)
    assert digits.x_train.dtype == digits.x_test.dtype == np.uint8
    assert digits.y_train.dtype == digits.y_test.dtype == np.int64
    assert (digits.x_train.min(), digits.x_train.max(), digits.scale) == (0, 16, 16.0)
    assert digits.classes == tuple("0123456789")
    assert digits.name == "digits"


def test_the_test_share_of_digits_is_pinned(digits: Data) -> None:
    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(1797)
    for share, rows in (("test", order[:540]), ("train", order[540:])):
        x, y = getattr(digits, f"x_{share}"), getattr(digits, f"y_{share}")
        assert np.array_equal(x.reshape(-1, 64), images[rows])
        assert np.array_equal(y, labels[rows])


def test_digits_train_and_test_images_do_not_overlap(digits: Data) -> None:
    train = {image.tobytes() for image in digits.x_train}
    assert len(train) == 1257
    assert not train & {image.tobytes() for image in digits.x_test}


def test_the_hash_of_digits_is_frozen(digits: Data) -> None:
    expected = "f5a57546af421e177fb1cff3f03e263b4ee134d1ce20f3002af44bf0fd68b982"
    assert digits.sha256 == expected
    assert load("digits").sha256 == expected


def test_an_unknown_name_lists_the_known_ones() -> None:
    assert refusal("digit") == (
        "Unknown data set 'digit': choose from digits, mnist, fashion-mnist, cifar10, svhn, gaussian, or give a folder "
        "or .zip of pictures, or an .npz file. Did you mean 'digits'?"
    )


@pytest.mark.parametrize("kind", ["npz", "folder", "zip"])
def test_user_data_do_not_have_the_name_of_a_data_set(kind: str, tmp_path: Path) -> None:
    """An unfinished run on the user's digits.npz was evaluated on the built-in digits."""
    if kind == "npz":
        path = tmp_path / "digits.npz"
        np.savez(path, x_train=np.zeros((4, 8, 8), np.uint8), y_train=np.arange(4) % 2)
    else:
        path = write(tmp_path / "digits", {f"{label}/{i}.png": grey(i) for label in "ab" for i in range(4)})
    if kind == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "digits"), "zip", path))
    assert load(path).name == "own-digits"
    other = path.rename(path.with_stem("numbers"))
    assert load(other).name == "numbers"


def test_every_data_set_has_a_preset() -> None:
    assert set(DATASETS) <= set(DATASET_PRESETS)
    assert set(DATASET_PRESETS.values()) <= set(PRESETS)


# The hash


def test_the_hash_does_not_depend_on_memory_layout() -> None:
    scattered = np.asfortranarray(small().x_train)
    assert not scattered.flags.c_contiguous
    assert small(x_train=scattered).sha256 == small().sha256


@pytest.mark.parametrize("array", ["x_train", "y_train", "x_test", "y_test"])
def test_the_hash_changes_with_each_array(array: str) -> None:
    changed = getattr(small(), array).copy()
    changed[0] = 1 - changed[0]
    assert small(**{array: changed}).sha256 != small().sha256


def test_the_hash_changes_with_shape_and_number_of_rows() -> None:
    data = small()
    turned = small(x_train=data.x_train.reshape(6, 3, 2), x_test=data.x_test.reshape(2, 3, 2))
    moved = small(x_train=data.x_train[:5], y_train=data.y_train[:5])
    assert len({data.sha256, turned.sha256, moved.sha256}) == 3


# Consistency of arrays


def test_labels_become_int64_and_class_names_strings() -> None:
    data = small(y_test=np.array([1, 0], np.uint8), y_train=[0, 1, -1, 0, 1, -1], classes=[7, 8])
    assert data.y_train.dtype == data.y_test.dtype == np.int64
    assert data.y_train.tolist() == [0, 1, -1, 0, 1, -1]
    assert data.classes == ("7", "8")


def test_an_empty_test_share_is_allowed() -> None:
    data = small(x_test=np.zeros((0, 2, 3), np.uint8), y_test=np.zeros(0, np.int64))
    assert len(data.x_test) == 0


def test_vectors_are_allowed() -> None:
    vectors = {"x_train": np.zeros((6, 4), np.float32), "x_test": np.zeros((2, 4), np.float32)}
    assert small(**vectors).image_shape == (4,)


def test_scale_defaults_by_dtype() -> None:
    vectors = {"x_train": np.zeros((6, 4), np.float32), "x_test": np.zeros((2, 4), np.float32)}
    assert [small().scale, small(**vectors).scale, small(scale=40.0).scale] == [255.0, 1.0, 40.0]


MISFITS = {
    "image types differ": (
        {"x_train": np.zeros((6, 2, 3))},
        "x_train is float64 and x_test is uint8, but both must have one type: convert one of them.",
    ),
    "type of test images": (
        {"x_test": np.zeros((2, 2, 3), np.int64)},
        f"x_test is int64 of shape [2, 2, 3], {X_ERROR}",
    ),
    "dimensions": (
        {"x_train": np.zeros(6, np.uint8)},
        f"x_train is uint8 of shape [6], {X_ERROR}",
    ),
    "number of labels": (
        {"y_train": np.array([0, 1, 0])},
        "y_train is int64 of shape [3], but must hold one integer for each of the 6 rows of x_train.",
    ),
    "number of test labels": (
        {"y_test": np.array([0, 1, 0])},
        "y_test is int64 of shape [3], but must hold one integer for each of the 2 rows of x_test.",
    ),
    "one-hot labels": (
        {"y_test": np.eye(2, dtype=np.int64)},
        "y_test is int64 of shape [2, 2], but must hold one integer for each of the 2 rows of x_test.",
    ),
    "labels not integers": (
        {"y_test": np.array([0.0, 0.5])},
        "y_test is float64 of shape [2], but must hold one integer for each of the 2 rows of x_test.",
    ),
    "duplicate class names": (
        {"classes": ("cat", "cat")},
        "Two classes are called 'cat': give each a name of its own.",
    ),
    "label too high": (
        {"y_train": np.array([0, 1, -1, 2, 0, 0])},
        "y_train holds -1 to 2, but with 2 classes it must lie in -1 to 1.",
    ),
    "label too low": (
        {"y_train": np.array([0, 1, -2, 1, 0, 0])},
        "y_train holds -2 to 1, but with 2 classes it must lie in -1 to 1.",
    ),
    "unlabelled test image": (
        {"y_test": np.array([0, -1])},
        "y_test holds -1 to 0, but with 2 classes it must lie in 0 to 1.",
    ),
    "empty pool": (
        {"x_train": np.zeros((0, 2, 3), np.uint8), "y_train": np.zeros(0, np.int64)},
        "x_train holds no image: at least one is needed to train on.",
    ),
    "image shapes differ": (
        {"x_test": np.zeros((2, 3, 2), np.uint8)},
        "x_train holds uint8 [2, 3] and x_test uint8 [3, 2], but both must have the same type and shape.",
    ),
    "image types and shapes differ": (
        {"x_test": np.zeros((2, 6), np.float32)},
        "x_train holds uint8 [2, 3] and x_test float32 [6], but both must have the same type and shape.",
    ),
}


MISFITS |= {
    "uint8 vectors": (
        {"x_test": np.zeros((2, 6), np.uint8)},
        "x_test is uint8 of shape [2, 6], but must be uint8 images [N, H, W] or [N, H, W, C], "
        "or float32 vectors [N, F].",
    ),
    "values above scale": (
        {"scale": 16.0},
        "x_train holds values from 0 to 35, but all must lie in 0 to 16, the value of full intensity: rescale them, "
        "or set scale.",
    ),
    "values below 0": (
        {"x_train": np.full((6, 2), -1, np.float32), "x_test": np.zeros((2, 2), np.float32)},
        "x_train holds values from -1 to -1, but all must lie in 0 to 1, the value of full intensity: rescale them, "
        "or set scale.",
    ),
    "scale below 0": ({"scale": -1.0}, "scale is -1.0, but must be the value of full intensity, above 0."),
    "scale not a number": ({"scale": float("nan")}, "scale is nan, but must be the value of full intensity, above 0."),
    "no pixels": (
        {"x_train": np.zeros((6, 0, 3), np.uint8)},
        "x_train is of shape [6, 0, 3]: its images have no pixels.",
    ),
    "channels first": (
        {"x_train": np.zeros((6, 3, 20, 20), np.uint8)},
        "x_train is of shape [6, 3, 20, 20], with the channels first: put them last, x.transpose(0, 2, 3, 1).",
    ),
    "not finite": (
        {"x_train": np.full((2, 6), np.nan, np.float32), "x_test": np.zeros((2, 6), np.float32)},
        "x_train holds a value that is not finite: fix or remove such rows.",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), MISFITS.values(), ids=MISFITS)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        small(**changes)
    assert str(refused.value) == sentence


def test_replace_checks_and_hashes_the_copy() -> None:
    data = small()
    assert data.sha256
    assert dataclasses.replace(data, y_test=np.array([0, 1])).sha256 != data.sha256
    with pytest.raises(UserError, match="y_test holds 0 to 2"):
        dataclasses.replace(data, y_test=np.array([0, 2]))


# Equal arrays give equal results


def test_idx_files_and_an_npz_of_their_arrays_are_the_same_data(raw: Path, tmp_path: Path) -> None:
    data = load("mnist", raw.parents[1])
    arrays = {"x_train": data.x_train, "y_train": data.y_train, "x_test": data.x_test, "y_test": data.y_test}
    np.savez(tmp_path / "mine.npz", **arrays, classes=data.classes)
    assert_same_data(load(tmp_path / "mine.npz"), data)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_training_from_torchvisions_files_and_from_an_npz_is_the_same(
    real_sets: dict[str, Data], tmp_path: Path, name: str
) -> None:
    data = real_sets[name]
    arrays = {"x_train": data.x_train, "y_train": data.y_train, "x_test": data.x_test, "y_test": data.y_test}
    np.savez(tmp_path / "mine.npz", **arrays, classes=data.classes)
    mine = load(tmp_path / "mine.npz")
    assert_same_data(mine, data)

    def few(whole: Data, **changes: Any) -> Data:
        part = {key: getattr(whole, key)[: 300 if "train" in key else 100] for key in arrays}
        return dataclasses.replace(whole, **part, **changes)

    left, right = train(few(data), tiny(seeds=2)), train(few(mine), tiny(seeds=2))
    assert same_bits(weights(left), weights(right))
    assert left.errors == right.errors
    assert [0 <= error <= 100 for error in left.errors] == [True, True]
    # Control: another scale of the pixels gives other weights.
    assert not same_bits(weights(left), weights(train(few(data, scale=300.0), tiny(seeds=2))))


def test_repr_is_one_short_line() -> None:
    assert repr(small()) == "Data('arrays': x_train 6 of 2x3 uint8, 4 labelled; x_test 2; 2 classes: cat, dog)"
    many = small(classes=tuple(f"class {k}" for k in range(2000)), name="a\nb")
    assert repr(many).startswith("Data('a\\nb': x_train 6 of 2x3 uint8, 4 labelled; x_test 2; 2,000 classes: class 0, ")
    assert len(repr(many)) < 200
    assert "\n" not in repr(many)

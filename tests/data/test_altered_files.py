"""MNIST files that differ from the originals, and `.npz` files with valid, missing or invalid arrays."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as any_array
from refused_data import refusal
from small_arrays import SMALL, X_ERROR, assert_same_data, small
from small_mnist import NO_NETWORK, Downloads, idx, not_whole, state

from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.data.datasets import IDX_FILES, load
from ssgan.errors import UserError

# MNIST files that differ from the originals


def not_original(path: Path) -> str:
    return f"{path} is not the original of mnist: delete it to download it, or load arrays of your own from an .npz."


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda content: content[:-1],
    "header only": lambda content: content[:8],
    "empty": lambda content: b"",
    "random": lambda content: np.random.default_rng(1).bytes(len(content)),
    "one value changed": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "one extra byte": lambda content: content + b"\0",
    "fewer rows": lambda content: idx(np.zeros((3, 5, 4) if content[3] == 3 else 3)),
    "another shape": lambda content: idx(np.zeros((12, 4, 5) if content[3] == 3 else (12, 1))),
    "another data type": lambda content: content[:2] + b"\x09" + content[3:],
    "still compressed": gzip.compress,
}


@pytest.mark.parametrize("file", [IDX_FILES[0], IDX_FILES[3]])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_is_not_the_original_is_refused(
    raw: Path, downloads: Downloads, damage: Callable[[bytes], bytes], file: str
) -> None:
    (raw / file).write_bytes(damage((raw / file).read_bytes()))
    before = state(raw)
    assert refusal("mnist", raw.parents[1]) == not_original(raw / file)
    assert state(raw) == before
    assert downloads.asked == []


@pytest.mark.parametrize("damage", ["one value changed", "cut short"])
def test_each_of_the_four_files_is_checked(raw: Path, originals: dict[str, bytes], damage: str) -> None:
    for file, content in originals.items():
        (raw / file).write_bytes(DAMAGES[damage](content))
        assert refusal("mnist", raw.parents[1]) == not_original(raw / file)
        (raw / file).write_bytes(content)
    assert len(load("mnist", raw.parents[1]).x_train) == 12


def test_downloaded_files_are_checked(raw: Path, originals: dict[str, bytes], downloads: Downloads) -> None:
    (raw / IDX_FILES[2]).unlink()
    downloads.contents = {IDX_FILES[2]: originals[IDX_FILES[0]]}
    assert refusal("mnist", raw.parents[1]) == not_original(raw / IDX_FILES[2])


def test_reports_damaged_file_when_another_file_is_missing(
    raw: Path, originals: dict[str, bytes], downloads: Downloads
) -> None:
    (raw / IDX_FILES[0]).write_bytes(b"")
    (raw / IDX_FILES[3]).unlink()
    downloads.contents = originals
    assert refusal("mnist", raw.parents[1]) == not_original(raw / IDX_FILES[0])


def test_reports_file_that_cannot_be_opened(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *_: Any) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    assert refusal("mnist", raw.parents[1]) == f"{raw / IDX_FILES[0]} cannot be read (Permission denied)."


def test_the_original_of_another_set_is_refused(real_data_root: Path, tmp_path: Path, downloads: Downloads) -> None:
    """Fashion-MNIST has the same shapes and file names as MNIST."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file in IDX_FILES:
        (folder / file).symlink_to(real_data_root / "MNIST" / "raw" / file)
    for file in IDX_FILES:
        (folder / file).unlink()
        (folder / file).symlink_to(real_data_root / "FashionMNIST" / "raw" / file)
        assert refusal("mnist", tmp_path) == not_original(folder / file)
        (folder / file).unlink()
        (folder / file).symlink_to(real_data_root / "MNIST" / "raw" / file)
    assert downloads.asked == []


def test_the_old_layout_of_torchvision_is_not_read(raw: Path, downloads: Downloads) -> None:
    """torchvision prefers `processed/*.pt` to the raw files, but there are no checksums for it."""
    root, whole = raw.parents[1], load("mnist", raw.parents[1]).sha256
    (root / "MNIST" / "processed").mkdir()
    for file in ("training.pt", "test.pt"):
        images, labels = torch.zeros(4, 5, 4, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
        torch.save((images, labels), root / "MNIST" / "processed" / file)
    assert load("mnist", root).sha256 == whole
    for file in IDX_FILES:
        (raw / file).unlink()
    assert refusal("mnist", root) == not_whole(raw, NO_NETWORK, *IDX_FILES)


# .npz files

Writer = Callable[..., Path]


NO_TEST = {"x_test": None, "y_test": None}


@pytest.mark.parametrize("kind", [str, Path])
def test_load_npz_returns_its_arrays(npz: Writer, kind: type) -> None:
    data = load(kind(npz(scale=40)))
    assert_same_data(data, small(scale=40.0))
    assert data.name == "mine"
    assert np.array_equal(data.x_train, SMALL["x_train"])
    assert data.y_train.tolist() == [0, 1, -1, 0, 1, -1]


def test_load_compressed_npz(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "packed.npz", **SMALL)
    assert_same_data(load(tmp_path / "packed.npz"), small())


def test_reading_an_npz_changes_nothing(npz: Writer, downloads: Downloads) -> None:
    before = state(npz().parent)
    load(npz().parent / "mine.npz")
    assert state(npz().parent).keys() == before.keys() == {"mine.npz"}
    assert downloads.asked == []


@pytest.mark.parametrize(
    "x",
    [SMALL["x_train"], np.arange(108, dtype=np.uint8).reshape(6, 2, 3, 3), np.full((6, 4), 0.5, np.float32)],
    ids=["grey", "colour", "vectors"],
)
def test_missing_test_arrays_give_an_empty_test_set(npz: Writer, x: np.ndarray) -> None:
    data = load(npz(x_train=x, **NO_TEST))
    assert (data.x_test.shape, data.y_test.shape) == ((0, *x.shape[1:]), (0,))
    assert (data.x_test.dtype, data.y_test.dtype) == (x.dtype, np.int64)
    assert np.array_equal(data.x_train, x)


def test_unnamed_classes_are_numbered_over_train_and_test_labels(npz: Writer) -> None:
    assert load(npz(classes=None)).classes == ("0", "1")
    assert load(npz(classes=None, y_test=np.array([4, 0]))).classes == tuple("01234")
    assert load(npz(classes=None, y_train=np.array([0, 3, -1, 0, 1, -1]), **NO_TEST)).classes == tuple("0123")


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (["Katze", "Hündin"], ("Katze", "Hündin")),
        (["a", "b", "none of it"], ("a", "b", "none of it")),
        (np.array([7, 8]), ("7", "8")),
        (np.array([b"cat", b"dog"]), ("cat", "dog")),
        (np.array([["cat"], ["dog"]]), ("cat", "dog")),
    ],
)
def test_class_names_may_be_strings_bytes_or_numbers(npz: Writer, classes: Any, names: tuple[str, ...]) -> None:
    assert load(npz(classes=classes)).classes == names


@pytest.mark.parametrize(
    ("scale", "expected"), [(None, 255.0), (0, 255.0), (40, 40.0), (np.array([36.5]), 36.5), (np.float16(64), 64.0)]
)
def test_scale_is_255_unless_given_in_the_npz(npz: Writer, scale: Any, expected: float) -> None:
    data = load(npz(scale=scale))
    assert data.scale == expected
    assert type(data.scale) is float


@pytest.mark.parametrize("extra", ["readme", "weights", "x_valid", "x_train2"])
def test_unknown_npz_arrays_are_ignored(npz: Writer, extra: str) -> None:
    assert_same_data(load(npz(**{extra: np.ones(3)})), small())
    assert len(load(npz(**{extra: np.ones(3)}, **NO_TEST)).x_train) == 6


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=5)
sizes = st.integers(1, 3)


@st.composite
def any_arrays(draw: st.DrawFn) -> dict[str, Any]:
    """Consistent arrays, in any of the allowed types."""
    classes = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    shape = draw(st.one_of(st.tuples(sizes), st.tuples(sizes, sizes), st.tuples(sizes, sizes, sizes)))
    pixel = (np.float32, st.floats(0, 1, width=32)) if len(shape) == 1 else (np.uint8, st.integers(0, 255))
    integer = draw(st.sampled_from(["i1", "<i4", "<i8", ">i2"]))
    arrays: dict[str, Any] = {"classes": classes}
    for share, lowest in (("train", -1), ("test", 0)):
        count = draw(st.integers(lowest == -1, 4))
        arrays[f"x_{share}"] = draw(any_array(pixel[0], (count, *shape), elements=pixel[1]))
        arrays[f"y_{share}"] = draw(any_array(integer, count, elements=st.integers(lowest, len(classes) - 1)))
    if draw(st.booleans()):
        arrays["x_train"] = np.asfortranarray(arrays["x_train"])
    scale = draw(st.sampled_from([None, 0.0, 255.0, 1000.0]))
    return arrays if scale is None else {**arrays, "scale": scale}


@settings(max_examples=60, deadline=None)
@given(arrays=any_arrays())
def test_consistent_arrays_survive_an_npz_round_trip(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npz"
    np.savez(path, **arrays)
    data = load(path)
    assert_same_data(data, Data(**arrays))
    for name in ("x_train", "y_train", "x_test", "y_test"):
        assert np.array_equal(getattr(data, name), arrays[name])


NEEDS = "an .npz needs x_train and y_train, and x_test and y_test together."
WRONG_NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "no images": ({"x_train": None}, f"{{}} holds classes, x_test, y_test, y_train, but no x_train: {NEEDS}"),
    "no labels": ({"y_train": None}, f"{{}} holds classes, x_test, x_train, y_test, but no y_train: {NEEDS}"),
    "no test labels": ({"y_test": None}, f"{{}} holds classes, x_test, x_train, y_train, but no y_test: {NEEDS}"),
    "no test images": ({"x_test": None}, f"{{}} holds classes, x_train, y_test, y_train, but no x_test: {NEEDS}"),
    "no arrays": (dict.fromkeys(SMALL), f"{{}} holds nothing, but no x_train: {NEEDS}"),
    "misspelt test": (
        {**NO_TEST, "x_tset": SMALL["x_test"], "y_tset": SMALL["y_test"]},
        "{} holds an array 'x_tset', which is not recognized. Did you mean 'x_test'?",
    ),
    "misspelt classes": (
        {"classes": None, "class": ["a", "b"]},
        "{} holds an array 'class', which is not recognized. Did you mean 'classes'?",
    ),
    "misspelt scale": ({"scal": 40}, "{} holds an array 'scal', which is not recognized. Did you mean 'scale'?"),
    "two scales": ({"scale": [1, 2]}, "{}: scale is int64 of shape [2], but must be one number."),
    "scale is text": ({"scale": "255"}, "{}: scale is <U3 of shape [], but must be one number."),
    "scale is boolean": ({"scale": True}, "{}: scale is bool of shape [], but must be one number."),
    "scale below 0": ({"scale": -1}, "{}: scale is -1.0, but must be the value of full intensity, above 0."),
    "scale is NaN": (
        {"scale": float("nan")},
        "{}: scale is nan, but must be the value of full intensity, above 0.",
    ),
    "values above scale": (
        {"scale": 16},
        "{}: x_train holds values from 0 to 35, but all must lie in 0 to 16, the value of full intensity: rescale "
        "them, or set scale.",
    ),
    "image types differ": (
        {"x_train": np.zeros((6, 2, 3))},
        "{}: x_train is float64 and x_test is uint8, but both must have one type: convert one of them.",
    ),
    "scalar as images": ({"x_train": 3, **NO_TEST}, f"{{}}: x_train is int64 of shape [], {X_ERROR}"),
    "scalar as labels": (
        {"y_train": 3, "classes": None, **NO_TEST},
        "{}: y_train is int64 of shape [], but must hold one integer for each of the 6 rows of x_train.",
    ),
    "labels not integers": (
        {"y_train": np.full(6, 0.5), "classes": None},
        "{}: y_train is float64 of shape [6], but must hold one integer for each of the 6 rows of x_train.",
    ),
    "one-hot labels": (
        {"y_train": np.eye(6, dtype=int), "classes": None},
        "{}: y_train is int64 of shape [6, 6], but must hold one integer for each of the 6 rows of x_train.",
    ),
    "label outside the classes": (
        {"y_train": np.array([0, 1, -1, 2, 0, 0])},
        "{}: y_train holds -1 to 2, but with 2 classes it must lie in -1 to 1.",
    ),
    "255 as missing label": (
        {"y_train": np.array([0, 1, 255, 0, 1, 255], np.uint8)},
        "{}: y_train holds 0 to 255, but with 2 classes it must lie in -1 to 1.",
    ),
    "label too high": (
        {"y_train": np.array([0, 10**6, -1, 2, 0, 0]), "classes": None},
        "{}: The label 1000000 is too high for 8 images: number the classes 0, 1, 2, ..., or give "
        "their names as classes.",
    ),
    "lowest label that is too high": (
        {"y_test": np.array([8, 0]), "classes": None},
        "{}: The label 8 is too high for 8 images: number the classes 0, 1, 2, ..., or give their names as classes.",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), WRONG_NPZ.values(), ids=WRONG_NPZ)
def test_refuses_npz_with_invalid_arrays(npz: Writer, changes: dict[str, Any], sentence: str) -> None:
    path = npz(**changes)
    assert refusal(path) == sentence.format(path)


def test_highest_label_allowed_for_the_number_of_images(npz: Writer) -> None:
    assert load(npz(y_test=np.array([7, 0]), classes=None)).classes == tuple("01234567")


def test_make_splits_refuses_a_pool_without_labels(npz: Writer) -> None:
    data = load(npz(y_train=np.full(6, -1), classes=None, **NO_TEST))
    assert data.classes == ()
    with pytest.raises(UserError, match=r"^There is no labelled image to draw from: every label of the pool is -1\.$"):
        splits.make_splits(data.y_train, 2, [0])
    with pytest.raises(UserError, match=r"^There is no labelled image to learn from: label some, or give indices\.$"):
        splits.make_splits(data.y_train, None, [0])

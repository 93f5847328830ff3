"""Warnings about data: pictures with two labels, copies in the test set, small pools."""

from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import ALL, classes, encoded, grey, write
from PIL import Image

from ssgan.data.checks import data_warnings, find_copies
from ssgan.data.dataset import Data
from ssgan.data.datasets import load

pytestmark = pytest.mark.usefixtures("temporary_cache")

UNLABELED = {f"unlabeled/{i}.png": grey(900 + i) for i in range(3)}


def arrays(x: list[int], y: list[int], x_test: list[int] = [], y_test: list[int] = []) -> Data:  # noqa: B006
    """Data of one-pixel images."""
    images = [np.array(values, np.uint8).reshape(-1, 1, 1) for values in (x, x_test)]
    return Data(images[0], np.array(y), images[1], np.array(y_test, int), ("a", "b", "c"))


def test_warns_of_equal_pictures_with_two_labels(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {**classes(each=5), **UNLABELED, "dog/copy.png": grey(2)})
    Image.fromarray(grey(3)).save(folder / "dog" / "other-format.bmp")
    data = load(folder, None, ALL)
    assert data_warnings(data) == [
        "Pictures that are equal pixel for pixel but have two labels: 2 (dog/copy.png is cat/2.png, "
        "dog/other-format.bmp is cat/3.png)."
    ]


def test_finds_two_labels_across_train_and_test_but_not_in_unlabelled_pictures(tmp_path: Path) -> None:
    files = {**classes("train/"), **UNLABELED, "test/dog/1.png": grey(2), "test/cat/2.png": grey(901)}
    copies = find_copies(load(write(tmp_path / "a", files)))
    assert copies.two_labels == [("test/dog/1.png", "train/cat/2.png")]
    assert copies.in_test == [("test/cat/2.png", "unlabeled/1.png"), ("test/dog/1.png", "train/cat/2.png")]


def test_warns_of_copies_in_the_test_set_with_count_and_examples(tmp_path: Path) -> None:
    copied = {f"test/cat/{i}.png": encoded(grey(i)) for i in range(5)}
    data = load(write(tmp_path / "a", {**classes("train/", 10), **UNLABELED, **copied, "test/dog/9.png": grey(777)}))
    assert data_warnings(data) == [
        "Test images that are in the pool too, pixel for pixel, so that the measured error may be too low: 5 (test/"
        "cat/0.png is train/cat/0.png, test/cat/1.png is train/cat/1.png, test/cat/2.png is train/cat/2.png, ...)."
    ]


def test_copies_in_arrays_are_reported_by_row() -> None:
    data = arrays([1, 2, 3, 1, *range(10, 20)], [0, 1, 2, 1, *[-1] * 10], [2, 30], [1, 0])
    assert find_copies(data).two_labels == [("x_train[3]", "x_train[0]")]
    assert find_copies(data).in_test == [("x_test[0]", "x_train[1]")]
    twice = arrays([7, 7, *range(10, 20)], [-1] * 12, [7], [0])
    assert find_copies(twice).in_test == [("x_test[0]", "x_train[0]")]


def test_no_warning_for_equal_pictures_with_one_label() -> None:
    assert data_warnings(arrays([1, 1, 1, *range(10, 20)], [0, 0, -1, *[-1] * 10])) == []


@pytest.mark.parametrize(("count", "words"), [(1, "is only 1 picture"), (9, "are only 9 pictures")])
def test_warns_of_a_pool_of_fewer_than_10_pictures(count: int, words: str) -> None:
    assert data_warnings(arrays([*range(count)], [-1] * count)) == [
        f"There {words} to learn from: expect a high error."
    ]
    assert data_warnings(arrays([*range(10)], [-1] * 10)) == []


def test_warns_of_a_pool_without_unlabelled_pictures() -> None:
    every = arrays([*range(12)], [0, 1, 2] * 4)
    (warning,) = data_warnings(every)
    assert warning.startswith("Every picture of the pool is used with its label: more pictures without one, ")
    assert data_warnings(every, labeled_count=6) == []  # the labels of the others are hidden

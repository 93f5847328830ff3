"""Conversion of users' labels, arrays and torch data sets to `Data`; table scaling and cross-validation folds."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from ssgan.data.arrays import split_labels
from ssgan.data.dataset import Data, as_data
from ssgan.data.estimator_inputs import TableScaler
from ssgan.data.splits import SemiSupervisedKFold
from ssgan.errors import UserError

NA = type("NAType", (), {})()  # stands in for pandas.NA, which has no truth value


@pytest.mark.parametrize(
    ("y", "indices", "classes"),
    [
        (np.array([2, -1, 0, 2]), [1, -1, 0, 1], [0, 2]),
        (np.array([2.0, np.nan, 0.0, -1.0]), [1, -1, 0, -1], [0.0, 2.0]),
        (np.array(["b", "a", "b"]), [1, 0, 1], ["a", "b"]),
        (np.array(["b", None, "a", np.nan, -1, NA], object), [1, -1, 0, -1, -1, -1], ["a", "b"]),
        (np.array([3, None, 1], object), [1, -1, 0], [1, 3]),
        (np.array([True, False]), [1, 0], [False, True]),
        (np.array([1, None, 1, -1], object), [0, -1, 0, -1], [1]),
        (np.array([3, 2], np.uint8), [1, 0], [2, 3]),
    ],
)
def test_labels_become_indices_and_missing_ones_minus_one(
    y: np.ndarray, indices: list[int], classes: list[object]
) -> None:
    labels = split_labels(y)
    assert labels.indices.tolist() == indices
    assert labels.classes.tolist() == classes
    assert not labels.binary


@pytest.mark.parametrize("dtype", [np.int64, np.float64, object])
def test_labels_minus_one_and_one_are_two_classes(dtype: Any) -> None:
    labels = split_labels(np.array([-1, 1, 1, -1], dtype))
    assert labels.indices.tolist() == [0, 1, 1, 0]
    assert labels.classes.tolist() == [-1, 1]
    assert labels.binary


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.array(["-1", "a"]), "y holds the text '-1', which would be a class"),
        (np.array(["-1", None], object), "y holds the text '-1', which would be a class"),
        (np.array([b"-1", b"a"]), "y holds the text '-1', which would be a class"),
        (np.array(["", "a"]), "y holds the text '', which would be a class"),
        (np.array(["", None], object), "y holds the text '', which would be a class"),
        (np.array(["a", np.nan]), "y holds the text 'nan', which is numpy's form of a missing label"),
        (np.array(["a", 1], object), "y holds labels of types that cannot be sorted together, int and str"),
        (np.array([0.0, np.inf]), "y holds infinity, which is not a label"),
        (np.zeros((2, 2)), "y is of shape [2, 2], but must hold one label for each row"),
    ],
)
def test_split_labels_refuses_invalid_labels(y: np.ndarray, words: str) -> None:
    with pytest.raises(UserError) as refused:
        split_labels(y)
    assert str(refused.value).startswith(words)


# Data


def test_data_accepts_float_vectors_text_labels_and_no_test_set() -> None:
    data = Data(np.array([[0.0, 0.5], [1.0, 0.25]]), np.array(["dog", None], object))  # type: ignore[call-arg]
    assert (data.x_train.dtype, data.x_test.shape) == (np.float32, (0, 2))
    assert (data.y_train.tolist(), data.classes, data.scale) == ([0, -1], ("dog",), 1.0)
    assert repr(data) == "Data('arrays': x_train 2 of 2 float32, 1 labelled; x_test 0; 1 class: dog)"


def test_images_of_floats_become_uint8() -> None:
    x = np.array([0.0, 0.5, 1.0, 0.25]).reshape(1, 2, 2)
    data = Data(x, np.array([0]), x[:0], np.zeros(0, int), ("a",))
    assert (data.x_train.dtype, data.x_train.ravel().tolist(), data.scale) == (np.uint8, [0, 128, 255, 64], 255.0)
    assert Data(16 * x, np.array([0]), scale=16.0).x_train.tolist() == data.x_train.tolist()  # type: ignore[call-arg]
    with pytest.raises(UserError, match=r"^x_train holds values from 0 to 2, but images must lie in 0 to 1"):
        Data(2 * x, np.array([0]))  # type: ignore[call-arg]


def test_text_labels_are_looked_up_in_the_classes() -> None:
    x = np.zeros((2, 3), np.float32)
    data = Data(x, ["dog", "cat"], x, ["cat", "cat"], ("dog", "cat", "cow"))  # type: ignore[arg-type]
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([0, 1], [1, 1])
    with pytest.raises(
        UserError, match=r"^y_test holds the label 'cqt', which is not one of the classes. Did you mean"
    ):
        Data(x, ["dog", "cat"], x, ["cat", "cqt"], ("dog", "cat"))  # type: ignore[arg-type]


def test_test_labels_must_be_classes_of_the_training_labels() -> None:
    """A misspelt test label must not become a class; without training labels, the test labels define the classes."""
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(
        UserError, match=r"^y_test holds the label 'Dog', which is not one of the classes. Did you mean"
    ):
        Data(x, ["dog", "cat"], x, ["cat", "Dog"])  # type: ignore[arg-type, call-arg]
    unlabeled = Data(x, [None, None], x, ["cat", "dog"])  # type: ignore[arg-type, call-arg]
    assert unlabeled.classes == ("cat", "dog")


def test_unnamed_classes_are_numbered() -> None:
    x = np.zeros((3, 3), np.float32)
    assert Data(x, np.array([0, 2, -1])).classes == ("0", "1", "2")  # type: ignore[call-arg]
    with pytest.raises(UserError, match="The label 700 is too high for 3 images"):
        Data(x, np.array([0, 700, -1]))  # type: ignore[call-arg]


class Items:
    """A map-style data set as in torch."""

    def __init__(self, *items: Any, classes: list[str] | None = None) -> None:
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.items[i]


def test_a_torch_data_set_becomes_data() -> None:
    images = torch.arange(24.0).reshape(2, 3, 2, 2) / 24
    data = as_data(TensorDataset(images, torch.tensor([1, -1])))
    assert data.x_train.shape == (2, 2, 2, 3)  # channels last
    assert data.x_train[0, 0, 1].tolist() == [round(255 * v / 24) for v in (1, 5, 9)]
    assert data.y_train.tolist() == [1, -1]
    grey = as_data(TensorDataset(torch.zeros(2, 1, 4, 5, dtype=torch.uint8), torch.tensor([0, 1])))
    assert grey.image_shape == (4, 5)


def test_dataset_of_pillow_images_with_index_text_or_missing_labels() -> None:
    pool = Items((Image.new("RGB", (4, 3), (1, 2, 3)), 1), (Image.new("RGBA", (4, 3)), None), classes=["cat", "dog"])
    data = as_data(pool, Items((Image.new("RGB", (4, 3)), 0)))
    assert (data.image_shape, data.classes, data.y_train.tolist()) == ((3, 4, 3), ("cat", "dog"), [1, -1])
    assert data.x_train[0, 0, 0].tolist() == [1, 2, 3]
    assert data.y_test.tolist() == [0]
    words = as_data(Items((Image.new("L", (2, 2)), "b"), (Image.new("L", (2, 2)), "a")))
    assert (words.classes, words.y_train.tolist()) == (("a", "b"), [1, 0])


def test_pillow_images_are_converted_like_image_files() -> None:
    """Images without colour become grey, transparency white; more than 8 bits are refused: unknown full intensity."""
    clear, half = Image.new("LA", (1, 1), (0, 0)), Image.new("LA", (1, 1), (80, 255))
    assert as_data(Items((clear, 0), (half, 1), (Image.new("1", (1, 1), 1), 1))).x_train.ravel().tolist() == [
        255,
        80,
        255,
    ]
    rgba = as_data(Items((Image.new("RGBA", (1, 1), (9, 9, 9, 0)), 0), (Image.new("RGB", (1, 1), (1, 2, 3)), 1)))
    assert rgba.x_train.reshape(2, 3).tolist() == [[255] * 3, [1, 2, 3]]
    for deep in (np.array([[500]], np.uint16), np.array([[500]], np.int32), np.array([[0.5]], np.float32)):
        image = Image.fromarray(deep)
        with pytest.raises(UserError, match=f"An image of Pillow's mode {image.mode} has no known value of full"):
            as_data(Items((image, 0), (image, 1)))


def test_masked_labels_are_missing_and_masked_images_refused() -> None:
    """Earlier, the values under a mask were read as labels."""
    x = np.zeros((3, 3), np.float32)
    masked = np.ma.masked_array([2, 1, 0], mask=[False, True, False])
    assert split_labels(masked).indices.tolist() == [1, -1, 0]
    assert Data(x, masked).y_train.tolist() == [2, -1, 0]  # type: ignore[call-arg]
    with pytest.raises(UserError, match=r"^x_train is a masked array, but every value would be used"):
        Data(np.ma.masked_array(x, mask=x == 0), masked)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("y", "classes", "indices"),
    [
        (np.array([0.0, 1.0, None], object), ("0", "1"), [0, 1, -1]),
        (np.array([1, 0.0, np.nan], object), ("0", "1"), [1, 0, -1]),
        (np.array([b"a", b"\xc3\xa9", b"a"]), ("a", "é"), [0, 1, 0]),
        (None, (), [-1, -1, -1]),
    ],
)
def test_data_derives_class_names_from_labels_of_any_type(y: Any, classes: tuple[str, ...], indices: list[int]) -> None:
    data = Data(np.zeros((3, 3), np.float32), y)  # type: ignore[call-arg]
    assert (data.classes, data.y_train.tolist()) == (classes, indices)
    if y is not None:
        assert Data(data.x_train, y, classes=classes).y_train.tolist() == indices  # type: ignore[call-arg]


def test_tensors_are_read_with_channels_first() -> None:
    images, y = torch.arange(72.0, requires_grad=True).reshape(2, 1, 6, 6) / 71, torch.tensor([0, 1])
    data = as_data((images, y), (images, y))
    assert np.array_equal(data.x_train, as_data(TensorDataset(images, y)).x_train)
    assert data.x_test.shape == (2, 6, 6)
    colour = as_data((images.expand(2, 3, 6, 6).bfloat16(), y))
    assert np.array_equal(colour.x_train, as_data(TensorDataset(images.expand(2, 3, 6, 6).bfloat16(), y)).x_train)
    assert colour.x_train.shape == (2, 6, 6, 3)


def test_subset_and_concat_dataset_keep_the_classes() -> None:
    """Earlier, class indices of a test set with other classes were read as those of the training set."""
    image = Image.new("L", (2, 2))
    pool = Items(*((image, k) for k in (0, 1, 2, 2)), classes=["a", "b", "c"])
    tests = Items((image, 1), (image, 0), classes=["a", "c"])
    unnamed = Items((image, -1))
    for parts in (pool, Subset(pool, [0, 1, 3]), ConcatDataset([unnamed, Subset(pool, [0, 1])])):  # type: ignore[arg-type]
        for test in (tests, Subset(tests, [0, 1])):  # type: ignore[arg-type]
            data = as_data(parts, test)
            assert (data.classes, data.y_test.tolist()) == (("a", "b", "c"), [2, 0])
    folder = Items((image, -1), classes=["unlabeled"])  # no item has a label of this class
    assert as_data(ConcatDataset([pool, folder])).classes == ("a", "b", "c")  # type: ignore[list-item]
    pool.classes = 3  # type: ignore[assignment]
    assert as_data(Subset(pool, [0, 1, 2])).classes == ("0", "1", "2")  # type: ignore[arg-type]
    pool.classes = ["a", "b", "c"]
    with pytest.raises(UserError, match="The parts of a ConcatDataset have the classes a, b, c and a, c, so that"):
        as_data(ConcatDataset([pool, tests]))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (Items(torch.zeros(2)), "Item 0 of the data set is not a pair (image, label)"),
        (Items((torch.zeros(2, 2), 0), (torch.zeros(2, 3), 0)), "The images of the data set have different shapes"),
        (Items(), "The data set is empty."),
        (Items((torch.full((2, 2), -1.0), 0)), "x_train holds values from -1 to -1, but images must lie in 0 to 1"),
        (np.zeros((2, 2)), "data is of type ndarray, but must be a name, a path, Data, a pair"),
        (iter([1]), "data is of type list_iterator, but must be"),
        ({"a": 1}, "data is of type dict, but must be"),
        (([np.zeros((2, 2)), np.zeros((2, 3))], [0, 1]), "The rows of x_train have different shapes"),
        ((Items((torch.zeros(2, 2), 0)), [0]), "x_train is of type Items, but must be an array of numbers"),
        (Items((torch.zeros(2, 2), torch.tensor([0, 1]))), "The label of item 0 of the data set is of shape [2]"),
    ],
)
def test_as_data_refuses_invalid_inputs(dataset: Any, words: str) -> None:
    with pytest.raises(UserError) as refused:
        as_data(dataset)
    assert str(refused.value).startswith(words)


@pytest.mark.parametrize(
    ("data", "test", "words"),
    [
        (Items((torch.zeros(2, 2), 0)), (np.zeros((1, 2, 2)), [0]), "test must be a torch Dataset whose items are"),
        ((np.zeros((1, 2, 2)), [0]), Items((torch.zeros(2, 2), 0)), "test must be a pair (images, labels), as data is"),
        ((np.zeros((1, 2, 2), np.uint8), [0]), (np.zeros((1, 2, 2)), [0]), "x_train is uint8 and x_test is float64"),
    ],
)
def test_as_data_refuses_a_test_set_of_another_form(data: Any, test: Any, words: str) -> None:
    with pytest.raises(UserError) as refused:
        as_data(data, test)
    assert str(refused.value).startswith(words)


# Tables and folds


@pytest.mark.parametrize("kind", ["standard", "quantile"])
def test_table_scaler_inverts_its_transform(kind: str) -> None:
    random = np.random.RandomState(0)
    x = np.column_stack([random.standard_normal(500) * 1e3 + 7, np.exp(random.standard_normal(500)), np.full(500, 4.0)])
    scaler = TableScaler(kind).fit(x)
    z = scaler.transform(x)
    assert np.allclose(z.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(z.std(axis=0), [1, 1, 0], atol=1e-6)
    inside = np.abs(z).max(axis=1) < 2.5  # not clipped
    assert np.allclose(scaler.inverse_transform(z)[inside], x[inside], rtol=1e-3)
    assert np.abs(scaler.transform(1e9 * x)).max() <= 100


def test_kfold_trains_on_all_unlabelled_rows_and_tests_each_labelled_row_once() -> None:
    y = np.array([0, 1, -1] * 20)
    folds = list(SemiSupervisedKFold(4, shuffle=True, random_state=0).split(np.zeros((60, 1)), y))
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == np.flatnonzero(y >= 0).tolist()
    for train, test in folds:
        assert set(np.flatnonzero(y < 0)) <= set(train.tolist())
        assert sorted([*train, *test]) == list(range(60))
        assert np.bincount(y[test]).tolist() == [5, 5]
    assert SemiSupervisedKFold(4).get_n_splits() == 4
    assert repr(SemiSupervisedKFold(4)) == "SemiSupervisedKFold(4, shuffle=False, random_state=None)"


@pytest.mark.parametrize(
    ("y", "groups", "words"),
    [
        ([0, 1, -1], [0, 0, 1], "SemiSupervisedKFold does not accept groups"),
        (None, None, "SemiSupervisedKFold needs y"),
        ([-1, -1], None, "Every label is -1 or missing, so there is no row to test on"),
        ([0, 0, 1, -1], None, "n_splits is 5, but must lie between 2 and 2"),
    ],
)
def test_kfold_refuses_invalid_inputs(y: Any, groups: Any, words: str) -> None:
    with pytest.raises(UserError) as refused:
        next(SemiSupervisedKFold().split(np.zeros((4, 1)), y, groups))
    assert str(refused.value).startswith(words)

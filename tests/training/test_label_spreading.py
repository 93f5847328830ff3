"""Label spreading on the nearest-neighbour graph: agreement with the closed form, and which images get labels."""

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from ssgan.data.dataset import Data
from ssgan.data.splits import Split, make_splits
from ssgan.training import label_spreading
from ssgan.training.label_spreading import spread_labels


def blobs(counts: list[int], random: np.random.RandomState, spread: float = 1.0) -> np.ndarray:
    """Gray images of 2 x 2 pixels around a corner for each count."""
    corners = np.array([[0, 0, 0, 0], [200, 0, 0, 0], [0, 200, 0, 0]])
    points = [corner + spread * random.randint(0, 40, (n, 4)) for corner, n in zip(corners, counts, strict=False)]
    return np.concatenate(points).reshape(-1, 2, 2).astype(np.uint8)


def test_spread_labels_equal_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """F = (I - alpha S)^-1 Y with rows normalised to sum 1; for even classes, columns are normalised next."""
    random = np.random.RandomState(0)
    x = random.randint(0, 256, (60, 2, 2)).astype(np.uint8)
    given = np.array([0, 3, 7, 11, 20, 41])
    split = Split(given, np.array([4, 4, 4, 1, 1, 2]))
    vectors = x.reshape(60, -1) / 255.0
    distances = pairwise_distances(vectors - vectors.mean(0))
    np.fill_diagonal(distances, np.inf)
    links = np.zeros((60, 60))
    for i, nearest in enumerate(np.argsort(distances, axis=1)[:, :7]):
        links[i, nearest] = links[nearest, i] = 1
    degree = links.sum(axis=1)
    normal = links / np.sqrt(np.outer(degree, degree))
    known = np.zeros((60, 3))
    known[given, [2, 2, 2, 0, 0, 1]] = 1
    shares = np.linalg.solve(np.eye(60) - 0.99 * normal, known)
    shares /= shares.sum(axis=1, keepdims=True)
    monkeypatch.setattr(label_spreading, "STEPS", 3000)
    monkeypatch.setattr(label_spreading, "TOLERANCE", 1e-15)
    found = []
    for even, weighed in ((False, shares), (True, shares / shares.sum(axis=0))):
        expected = np.array([1, 2, 4])[weighed.argmax(axis=1)]
        expected[given] = split.y
        rows, y = spread_labels(x, 255.0, split, even_classes=even)
        assert rows.tolist() == list(range(60))
        assert y.tolist() == expected.tolist()
        found.append(y.tolist())
    assert found[0] != found[1]


def test_an_image_gets_the_label_of_its_cluster() -> None:
    """Also if the labelled image of another class is nearer."""
    line = np.linspace(0, 250, 60)
    x = np.zeros((80, 1, 2), np.uint8)
    x[:60, 0, 0] = line  # a long line from its label, at one end
    x[60:, 0, 0], x[60:, 0, 1] = 250, np.linspace(60, 120, 20)  # a cluster beside the other end
    rows, y = spread_labels(x, 255.0, Split(np.array([0, 79]), np.array([0, 1])))
    assert y.tolist() == [0] * 60 + [1] * 20
    assert rows.tolist() == list(range(80))


def test_unreachable_and_held_out_images_get_no_label() -> None:
    random = np.random.RandomState(1)
    x = blobs([30, 30, 30], random)
    split = Split(np.array([0, 31]), np.array([5, 2]), held_out=np.array([1, 2, 40]))
    rows, y = spread_labels(x, 255.0, split)
    assert rows.tolist() == [0, *range(3, 40), *range(41, 60)]
    assert y.tolist() == [5] * 28 + [2] * 29


def test_given_labels_are_kept_against_the_neighbours() -> None:
    x = blobs([20, 20], np.random.RandomState(2))
    split = Split(np.array([0, 1, 2, 3, 25]), np.array([0, 0, 0, 1, 1]))
    rows, y = spread_labels(x, 255.0, split)
    assert y[rows == 3].tolist() == [1]


def test_small_pools_work_and_large_pools_are_subsampled(monkeypatch: pytest.MonkeyPatch, few_digits: Data) -> None:
    one = Split(np.array([0]), np.array([3]))
    assert [part.tolist() for part in spread_labels(few_digits.x_train[:1], 16.0, one)] == [[0], [3]]
    assert spread_labels(few_digits.x_train[:2], 16.0, one)[1].tolist() == [3, 3]
    (split,) = make_splits(few_digits.y_train, 20, [0])
    monkeypatch.setattr(label_spreading, "LARGEST_GRAPH", 60)
    rows, _ = spread_labels(few_digits.x_train, 16.0, split)
    assert 20 < len(rows) <= 60
    assert set(split.indices) <= set(rows)
    # A random subset of the 300, not the first ones: folders sort a pool by class.
    assert np.setdiff1d(rows, split.indices).max() > 250
    # If all images have labels, or more than the graph holds, no neighbours are searched.
    monkeypatch.setattr(label_spreading, "fit_components", None)
    for labels in (60, "all"):
        (split,) = make_splits(few_digits.y_train, labels, [0])
        rows, y = spread_labels(few_digits.x_train, 16.0, split)
        assert (rows.tolist(), y.tolist()) == (split.indices.tolist(), split.y.tolist())


def test_even_classes_option_raises_the_error_on_uneven_classes() -> None:
    """Each class has equally many labels, but one class is ten times as frequent, and the two overlap."""
    random = np.random.RandomState(0)
    x = np.concatenate([random.normal(0, 30, (300, 4)), random.normal(60, 30, (30, 4))])
    x = np.clip(x + 100, 0, 255).astype(np.uint8).reshape(-1, 2, 2)
    split = Split(np.array([0, 1, 2, 300, 301, 302]), np.array([0, 0, 0, 1, 1, 1]))
    true = np.repeat([0, 1], [300, 30])
    wrong = [(spread_labels(x, 255.0, split, even_classes=even)[1] != true).mean() for even in (False, True)]
    assert wrong[0] < wrong[1]


def test_features_are_compared_by_cosine_similarity() -> None:
    """Their norm has no effect; of several views only the first is used."""
    random = np.random.RandomState(3)
    angles = np.concatenate([random.uniform(0, 0.4, 30), random.uniform(1.1, 1.5, 30)])
    x = (np.stack([np.cos(angles), np.sin(angles)], axis=1) * random.uniform(0.1, 9, (60, 1))).astype(np.float32)
    split = Split(np.array([4, 50]), np.array([0, 1]))
    views = np.stack([x, random.normal(size=x.shape).astype(np.float32)], axis=1)
    for features in (x, views):
        rows, y = spread_labels(features, 1.0, split, of_backbone=True)
        assert y.tolist() == [0] * 30 + [1] * 30
        assert rows.tolist() == list(range(60))


def test_most_spread_labels_on_digits_are_correct(few_digits: Data) -> None:
    (split,) = make_splits(few_digits.y_train, 20, [0])
    rows, y = spread_labels(few_digits.x_train, few_digits.scale, split)
    assert (y == few_digits.y_train[rows]).mean() > 0.8

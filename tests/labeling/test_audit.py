"""Label errors: confident learning, copies with two labels, and audits of runs."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from small_configs import tiny

from ssgan.data.dataset import Data
from ssgan.data.splits import hide
from ssgan.labeling.audit import Mistakes, _list_mistakes, find_mistakes
from ssgan.training.folds import held_out_logits, train_folds


def test_thresholds_are_mean_probabilities_of_the_given_label() -> None:
    p_NK = np.array([[0.9, 0.1, 0.0], [0.7, 0.2, 0.1], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
    y_N = np.array([0, 0, 1, 1])
    found = find_mistakes(p_NK, y_N)
    np.testing.assert_allclose(found.thresholds[:2], [0.8, 0.6])
    assert np.isnan(found.thresholds[2])
    # The last image is most probably class 0, but below the threshold of class 0: contradicted, not likely.
    assert found.likely.tolist() == [False, False, False, False]
    assert found.suggested.tolist() == [0, 0, 1, 0]
    np.testing.assert_allclose(found.margin, [0, 0, 0, 0.2])
    assert found.order.tolist() == [3, 1, 2, 0]


def test_likely_mistakes_reach_the_threshold_of_another_class() -> None:
    p_NK = np.array([[0.9, 0.1], [0.85, 0.15], [0.05, 0.95], [0.1, 0.9], [0.95, 0.05], [0.3, 0.7]])
    y_N = np.array([0, 0, 1, 1, 1, 0])
    found = find_mistakes(p_NK, y_N)
    np.testing.assert_allclose(found.thresholds, [2.05 / 3, 1.9 / 3])
    assert found.likely.tolist() == [False, False, False, False, True, True]
    assert found.order[:2].tolist() == [4, 5]
    np.testing.assert_allclose(found.margin[[4, 5]], [0.9, 0.4])


def test_a_class_of_low_probabilities_has_a_low_threshold() -> None:
    """Class 1 is never the most probable; it is suggested if its probability reaches the mean of its own images."""
    p_NK = np.array([[0.95, 0.05], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4], [0.55, 0.45]])
    y_N = np.array([0, 0, 1, 1, 0])
    found = find_mistakes(p_NK, y_N)
    np.testing.assert_allclose(found.thresholds, [0.8, 0.4])
    assert found.likely.tolist() == [False, False, False, False, True]
    assert found.margin[4] == pytest.approx(-0.1)


def test_find_mistakes_agrees_with_cleanlab() -> None:
    cleanlab = pytest.importorskip("cleanlab", reason="cleanlab is not installed")
    random = np.random.RandomState(0)
    y_N = random.randint(0, 4, 300)
    p_NK = random.dirichlet([0.5] * 4, 300) + 1.5 * (np.arange(4) == y_N[:, None])
    p_NK /= p_NK.sum(axis=1, keepdims=True)
    found = find_mistakes(p_NK, y_N)
    np.testing.assert_allclose(found.thresholds, cleanlab.count.get_confident_thresholds(y_N, p_NK))
    # cleanlab also flags nothing if the given label reaches its threshold and is the most probable.
    joint, off_diagonal = cleanlab.count.compute_confident_joint(
        y_N, p_NK, calibrate=False, return_indices_of_off_diagonals=True
    )
    assert sorted(off_diagonal) == np.flatnonzero(found.likely).tolist()
    assert joint.sum() >= found.likely.sum()


def audited(data: Data, p_NK: np.ndarray) -> list[tuple[str, str, str | None, bool]]:
    rows = np.flatnonzero(data.y_train >= 0)
    found: Mistakes = find_mistakes(p_NK, data.y_train[rows])
    return [(m.path, m.given, m.suggested, m.twin) for m in _list_mistakes(data, rows, p_NK, found)]


def test_copies_with_two_labels_come_first() -> None:
    x = np.arange(6, dtype=np.uint8).repeat(4).reshape(6, 2, 2)
    x[4] = x[1]
    y = np.array([0, 0, 1, 1, 1, -1])
    files = tuple("abcdef")
    data = Data(x, y, x[:0], y[:0], ("cat", "dog"), files_train=files)
    p_NK = np.array([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    assert audited(data, p_NK) == [
        ("b", "cat", "dog", True),
        ("e", "dog", "dog", True),
        ("c", "dog", "cat", False),
    ]
    (first, *_) = _list_mistakes(data, np.arange(5), p_NK, find_mistakes(p_NK, y[:5]))
    assert first.reason == "the same image as e, whose label is dog"


def test_copy_in_the_test_share_is_listed_without_a_margin() -> None:
    x = np.arange(4, dtype=np.uint8).repeat(4).reshape(4, 2, 2)
    y = np.array([0, 0, 1, 1])
    data = Data(x, y, x[:1], np.array([1]), ("cat", "dog"), files_train=tuple("abcd"), files_test=("test/dog/z",))
    p_NK = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    found = _list_mistakes(data, np.arange(4), p_NK, find_mistakes(p_NK, y))
    assert [(m.path, m.given, m.suggested, m.margin) for m in found] == [
        ("a", "cat", "cat", 0.0),
        ("test/dog/z", "dog", None, None),
    ]


def test_reason_of_a_class_below_the_given_one_names_its_threshold() -> None:
    """The models predict the given class, but only the other one reaches its threshold."""
    p_NK = np.array([[0.95, 0.05], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4], [0.55, 0.45]])
    x, y = np.arange(5, dtype=np.uint8).repeat(4).reshape(5, 2, 2), np.array([0, 0, 1, 1, 0])
    data = Data(x, y, x[:0], y[:0], ("cat", "bird"), files_train=tuple("abcde"))
    found = _list_mistakes(data, np.arange(5), p_NK, find_mistakes(p_NK, y))
    (reason,) = [one.reason for one in found if one.path == "e"]
    assert reason == (
        "models that never saw it give bird 0.45, which reaches the threshold of that class, and cat 0.55, "
        "which does not"
    )


def test_flipped_labels_come_first(digits: Data) -> None:
    """Ten of 200 labels are flipped; held-out probabilities of a linear model rank at least eight in the first 20."""
    x, y = digits.x_train[:200].reshape(200, -1) / digits.scale, digits.y_train[:200].copy()
    flipped = np.arange(0, 200, 20)
    y[flipped] = (y[flipped] + 3) % 10
    p_NK = cross_val_predict(LogisticRegression(max_iter=200), x, y, cv=5, method="predict_proba")
    found = find_mistakes(p_NK, y)
    assert len(set(found.order[:20]) & set(flipped)) >= 8


def test_held_out_logits_are_from_models_not_trained_on_those_images(few_digits: Data, tmp_path: Path) -> None:
    data = dataclasses.replace(few_digits, y_train=hide(few_digits.y_train, np.arange(120)))
    config = tiny(labels="all", folds=3, total_images=40)
    parts, models = train_folds(data, config, tmp_path / "folds")
    held_out = held_out_logits(data, parts, models)
    assert sorted(np.concatenate([rows for rows, _ in held_out])) == list(range(120))
    for part, seed, (rows, logits_NK) in zip(parts, models.seeds, held_out, strict=True):
        assert not set(rows) & set(part.indices)
        np.testing.assert_array_equal(logits_NK, models.select([seed]).logits(data.x_train[rows])[0])

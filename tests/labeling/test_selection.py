"""Selection of images to label, on hand-made clusters and probabilities."""

import numpy as np
import pytest

from ssgan.data.dataset import Data
from ssgan.labeling.selection import (
    draw_random,
    embed,
    select_typical,
    select_uncertain,
    typicality,
    uncertainty,
    unique_rows,
)

# Clusters around corners, of 40, 30, 20 and 10 vectors; the first of each lies in the middle.
CORNERS = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
SIZES = (40, 30, 20, 10)
STARTS = np.cumsum([0, *SIZES[:-1]])


def clusters(spread: tuple[float, ...] = (1.0, 0.5, 0.25, 0.75)) -> np.ndarray:
    random = np.random.RandomState(0)
    parts = []
    for corner, size, width in zip(CORNERS, SIZES, spread, strict=True):
        part = random.uniform(-1, 1, (size, 2)) * width
        part -= part.mean(axis=0)
        part[0] = 0.0
        parts.append(part + corner)
    return np.concatenate(parts)


def test_typicality_is_the_inverse_mean_distance_to_the_nearest() -> None:
    x = np.array([[0.0], [1.0], [3.0]])
    np.testing.assert_allclose(typicality(x), [1 / 2, 1 / 1.5, 1 / 2.5])
    line = np.arange(30.0)[:, None]
    near = np.sort(np.abs(line - line[0]).ravel())[1:21]
    assert typicality(line)[0] == pytest.approx(1 / near.mean())
    assert typicality(np.zeros((1, 2))).tolist() == [0.0]


def test_the_most_typical_of_each_cluster_is_selected_densest_first() -> None:
    x = clusters()
    chosen = select_typical(x, 4, seed=0)
    cluster_of = np.searchsorted(STARTS, chosen.indices, "right") - 1
    assert sorted(cluster_of) == [0, 1, 2, 3]
    assert (np.diff(chosen.scores) <= 0).all()
    for row, k, score, detail in zip(chosen.indices, cluster_of, chosen.scores, chosen.details, strict=True):
        members = np.arange(STARTS[k], STARTS[k] + SIZES[k])
        expected = typicality(x[members])
        assert row == members[expected.argmax()]
        assert score == pytest.approx(expected.max())
        assert detail == {"size": SIZES[k], "labeled": 0}


def test_largest_clusters_without_labels_are_selected_first() -> None:
    """The largest cluster has three labels: for one more image there are four clusters; the next largest is used."""
    x = clusters((0.1, 0.1, 0.1, 0.1))
    x[:3] = [[0.0, 0.0], [0.01, 0.0], [0.0, 0.01]]
    chosen = select_typical(x, 1, labeled=[0, 1, 2], seed=0)
    assert STARTS[1] <= chosen.indices[0] < STARTS[2]
    # If every other cluster has a label, the smallest is used.
    chosen = select_typical(x, 1, labeled=STARTS[:3], seed=0)
    assert chosen.indices[0] >= STARTS[3]


def test_more_images_than_clusters_come_from_the_least_covered_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    from ssgan.labeling import selection

    monkeypatch.setattr(selection, "MOST_CLUSTERS", 4)
    x = clusters()
    chosen = select_typical(x, 6, labeled=[0], seed=0)
    assert 0 not in chosen.indices
    counts = np.bincount(np.searchsorted(STARTS, chosen.indices, "right") - 1, minlength=4)
    # One from each of the three without a label, then from those with one label or image: the largest first.
    assert counts.tolist() == [1, 2, 2, 1]


def test_small_clusters_come_last() -> None:
    x = np.concatenate([clusters((0.1, 0.1, 0.1, 0.1)), [[50.0, 50.0]]])
    assert 100 not in select_typical(x, 20, seed=0).indices
    assert 100 in select_typical(x, 101, seed=0).indices


def test_all_images_can_be_selected_even_where_they_are_equal() -> None:
    chosen = select_typical(np.zeros((8, 3)), 7, labeled=[2], seed=0)
    assert sorted(chosen.indices) == [0, 1, 3, 4, 5, 6, 7]


def test_uncertainty_matches_hand_computed_values() -> None:
    p_SNK = np.array([[[0.7, 0.2, 0.1], [0.9, 0.1, 0.0]], [[0.3, 0.6, 0.1], [0.9, 0.1, 0.0]]])
    margin, disagreement = uncertainty(p_SNK)
    np.testing.assert_allclose(margin, [0.1, 0.8])
    np.testing.assert_allclose(disagreement, [0.2, 0.0], atol=1e-12)
    one_class = uncertainty(np.ones((2, 3, 1)))
    assert [part.tolist() for part in one_class] == [[1.0] * 3, [0.0] * 3]


def probabilities_with_margins(margins: list[float]) -> np.ndarray:
    """Return probabilities of one model and two classes, with these margins."""
    m = np.array(margins)
    return np.stack([(1 + m) / 2, (1 - m) / 2], axis=1)[None]


def test_uncertain_images_are_not_near_each_other() -> None:
    """The three most uncertain images are almost equal: one of them is selected, and one from another cluster."""
    features = np.array([[0.0], [0.01], [0.02], [5.0], [5.01], [9.0]])
    p_SNK = probabilities_with_margins([0.0, 0.01, 0.02, 0.3, 0.35, 0.9])
    assert select_uncertain(p_SNK, features, 2).indices.tolist() == [0, 3]
    assert select_uncertain(p_SNK, features, 2, labeled=[0]).indices.tolist() == [1, 3]
    chosen = select_uncertain(p_SNK, lambda rows: features[rows], 2)
    np.testing.assert_allclose(chosen.scores, [1.0, 0.7])
    assert chosen.details[1]["margin"] == pytest.approx(0.3)


def test_images_of_none_of_the_classes_are_selected_last() -> None:
    features, p_SNK = np.arange(4.0)[:, None], probabilities_with_margins([0.0, 0.1, 0.2, 0.3])
    generated = np.array([0.9, 0.5, 0.6, 0.1])
    assert sorted(select_uncertain(p_SNK, features, 2, generated_N=generated).indices) == [1, 3]
    assert sorted(select_uncertain(p_SNK, features, 3, generated_N=generated).indices) == [1, 2, 3]


def test_equal_features_give_the_requested_number_of_images() -> None:
    chosen = select_uncertain(probabilities_with_margins([0.5, 0.1, 0.2, 0.4]), np.zeros((4, 3)), 3)
    assert chosen.indices.tolist() == [1, 2, 3]


def test_unique_rows_keeps_one_copy_and_prefers_labelled_copies() -> None:
    assert unique_rows(["a", "b", "a", "c", "b"]).tolist() == [0, 1, 3]
    assert unique_rows(["a", "b", "a", "c", "b"], [4]).tolist() == [0, 3, 4]


def test_random_images_have_no_label_and_follow_the_seed() -> None:
    first = draw_random(20, 5, labeled=range(10), seed=1)
    assert set(first.indices) <= set(range(10, 20))
    assert first.indices.tolist() == draw_random(20, 5, labeled=range(10), seed=1).indices.tolist()
    assert first.indices.tolist() != draw_random(20, 5, labeled=range(10), seed=2).indices.tolist()


def test_embedding_separates_connected_components() -> None:
    """Rows have length 1, rows of different components are orthogonal, and the result is deterministic."""
    random = np.random.RandomState(0)
    x = np.concatenate([random.normal(0, 1, (150, 3)), random.normal(0, 1, (120, 3)) + 50])
    embedded = embed(x)
    assert embedded.shape == (270, 20)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1)
    assert np.abs(embedded[:150] @ embedded[150:].T).max() < 0.01
    np.testing.assert_array_equal(embedded, embed(x))
    np.testing.assert_allclose(embed(x[:99]), x[:99], rtol=1e-6)
    assert [embed(x, clusters).shape[1] for clusters in (1, 7, 30)] == [2, 7, 20]  # one for each cluster


def test_typical_digits_are_of_all_classes(digits: Data) -> None:
    """From the whole pool, with two images per class, for several seeds."""
    embedded = embed(digits.x_train.reshape(len(digits.x_train), -1))
    for seed in range(3):
        assert len(set(digits.y_train[select_typical(embedded, 20, seed=seed).indices])) == 10

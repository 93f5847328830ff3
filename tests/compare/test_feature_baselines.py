"""Classical methods on features of a backbone: only angles matter, and the neighbour graph is computed once."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from small_backbones import coloured_data, feature_config, use_small_backbone

from ssgan.compare.baselines import BASELINES, fit_baseline
from ssgan.data import neighbors
from ssgan.data.dataset import Data
from ssgan.data.neighbors import NeighborKernel
from ssgan.data.splits import Split, make_splits
from ssgan.inference.features import apply_backbone


@pytest.fixture
def vectors(monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setenv("SSGAN_CACHE", "off")
    use_small_backbone(monkeypatch)
    return apply_backbone(coloured_data(), feature_config())


def predicted(name: str, data: Data, split: Split) -> np.ndarray:
    return fit_baseline(name, data.x_train, 1.0, split, data.x_test, 3, of_backbone=True).predicted


@pytest.mark.parametrize("name", BASELINES)
def test_every_method_learns_and_ignores_feature_lengths(name: str, vectors: Data) -> None:
    (split,) = make_splits(vectors.y_train, 12, [0])
    result = predicted(name, vectors, split)
    assert np.mean(result != vectors.y_test) < 0.4
    lengths = np.random.RandomState(0).uniform(0.5, 2, (len(vectors.x_train), 1)).astype(np.float32)
    longer = fit_baseline(
        name, vectors.x_train * lengths, 1.0, split, 3 * vectors.x_test, 3, of_backbone=True
    ).predicted
    assert np.array_equal(longer, result)


def test_logistic_regression_matches_scikit_learn_on_normalised_rows(vectors: Data) -> None:
    (split,) = make_splits(vectors.y_train, 12, [0])
    model = LogisticRegression(C=1.0, max_iter=1000).fit(normalize(vectors.x_train[split.indices]), split.y)
    assert np.array_equal(predicted("logistic-regression", vectors, split), model.predict(normalize(vectors.x_test)))


def test_predictions_do_not_depend_on_the_order_of_labels(vectors: Data) -> None:
    (split,) = make_splits(vectors.y_train, 12, [0])
    for name in BASELINES:
        first = predicted(name, vectors, split)
        order = np.random.RandomState(1).permutation(12)
        same = Split(split.indices[order], split.y[order], split.held_out)
        assert np.array_equal(first, predicted(name, vectors, same)), name


def test_neighbours_are_found_once_for_all_draws(vectors: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "_nearest", {})
    for split in make_splits(vectors.y_train, 12, [0, 1, 2]):
        predicted("label-spreading", vectors, split)
        predicted("label-propagation", vectors, split)
    assert len(neighbors._nearest) == 2  # of the pool, and of the test images
    neighbors.forget_neighbors()
    assert not neighbors._nearest


def test_neighbour_cache_distinguishes_arrays_of_equal_bytes_by_shape() -> None:
    for shape in ((60, 4), (120, 2)):
        x = np.zeros(shape)
        assert NeighborKernel(3)(x, x).shape == (len(x), len(x))


def test_graph_links_rows_if_either_is_a_neighbour_of_the_other() -> None:
    x = np.array([[0.0], [1.0], [3.0], [3.5]], np.float32)
    graph = NeighborKernel(1)(x, x)
    assert sparse.issparse(graph)
    expected = np.zeros((4, 4))
    for i, j in ((0, 1), (2, 3)):
        expected[i, j] = expected[j, i] = 1
    assert np.array_equal(graph.toarray(), expected)
    # For another array, the links are those of its rows, and a row may be its own neighbour.
    assert np.array_equal(NeighborKernel(1)(x, np.array([[3.0], [0.9]], np.float32)).toarray().T, np.eye(4)[[2, 1]])


def test_copies_are_neighbours_of_each_other() -> None:
    x = np.array([[0.0], [0.0], [5.0]], np.float32)
    assert NeighborKernel(1)(x, x).toarray()[0].tolist()[:2] == [0.0, 1.0]

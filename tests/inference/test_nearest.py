"""Nearest neighbours in a pool: known results, with chunks of any size."""

import numpy as np
import pytest

from ssgan.inference import metrics as module
from ssgan.inference.metrics import nearest_neighbors


def test_rows_and_distances_match_hand_computed_values() -> None:
    """Pixels 0 to 10: distances from (0, 0) and (1, 0.5) to four images; ties are in the order of the pool."""
    pool = np.array([[[10, 10]], [[0, 3]], [[3, 0]], [[6, 8]]], np.uint8)
    rows, distances = nearest_neighbors(np.array([[[0.0, 0.0]], [[1.0, 0.5]]]), pool, scale=10, count=4)
    assert rows.tolist() == [[1, 2, 3, 0], [0, 3, 2, 1]]
    expected = [[0.3, 0.3, 1.0, 2**0.5], [0.5, 0.5, (0.49 + 0.25) ** 0.5, (1 + 0.04) ** 0.5]]
    np.testing.assert_allclose(distances, expected, rtol=1e-12)


def test_a_copy_is_at_distance_0() -> None:
    pool = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    rows, distances = nearest_neighbors(pool[[41, 7]] / 255, pool, scale=255, count=2)
    assert rows[:, 0].tolist() == [41, 7]
    assert distances[:, 0].tolist() == [0.0, 0.0]
    assert distances[:, 1].min() > 1


@pytest.mark.parametrize("chunk_rows", [1, 2, 7, 299, 300, 1000])
def test_result_does_not_depend_on_the_chunk_size(chunk_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared with all distances computed at once. Every image is in the pool twice; the first copy comes first."""
    random = np.random.default_rng(1)
    half = random.integers(0, 17, (150, 8, 8), dtype=np.uint8)
    pool, images = np.concatenate([half, half]), random.random((9, 8, 8))
    plain = np.sqrt(np.square(images[:, None] - pool[None] / 16).sum(axis=(2, 3)))
    expected = np.argsort(plain, axis=1, kind="stable")[:, :5]
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)
    rows, distances = nearest_neighbors(images, pool, scale=16, count=5, chunk_rows=chunk_rows)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_allclose(distances, np.take_along_axis(plain, expected, axis=1), rtol=1e-12)


def test_memory_is_bounded_by_the_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """No chunk of the pool is larger than the limit, whatever the size of the pool."""
    seen = []

    class Pool(np.ndarray):
        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            taken = np.asarray(self).__getitem__(key)
            seen.append(taken.size)
            return taken

    monkeypatch.setattr(module, "CHUNK_NUMBERS", 640)
    pool = np.zeros((100, 64), np.uint8).view(Pool)
    nearest_neighbors(np.zeros((3, 64)), pool, scale=16)
    assert max(seen) == 640
    assert sum(size == 640 for size in seen) == 10

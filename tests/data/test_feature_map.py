"""The affine map from backbone features to network inputs, fitted without labels."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from ssgan.data.feature_map import FITTED_ROWS, FeatureMap, fit_feature_map
from ssgan.errors import UserError

IDENTITY: dict[str, Any] = {
    "backbone": "efficientnet-lite0",
    "weights_sha256": "ab",
    "image_size": 32,
    "picture_shape": (32, 32, 3),
    "picture_scale": 255.0,
}


def numbers(rows: int = 200, width: int = 12) -> np.ndarray:
    random = np.random.RandomState(0)
    return (random.standard_normal((rows, width)) @ random.standard_normal((width, width)) + 3).astype(np.float32)


def test_map_standardises_projects_to_principal_components_and_rescales() -> None:
    f = numbers()
    z = fit_feature_map(f, 5, **IDENTITY).apply(f)
    standardised = StandardScaler().fit_transform(f)
    expected = PCA(5).fit_transform(standardised)
    assert np.allclose(np.abs(z), np.abs(expected / np.sqrt(expected.var(axis=0, ddof=1).mean())), atol=1e-4)
    assert z.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-4)
    assert np.sqrt((z.var(axis=0, ddof=1)).mean()) == pytest.approx(1, abs=1e-4)


def test_zero_components_standardise_every_feature() -> None:
    z = fit_feature_map(numbers(), 0, **IDENTITY).apply(numbers())
    assert z.shape == (200, 12)
    assert z.std(axis=0, ddof=1) == pytest.approx(np.ones(12), abs=1e-4)


@pytest.mark.parametrize(("rows", "components", "kept"), [(4, 128, 3), (200, 128, 12), (2, 1, 1)])
def test_number_of_components_is_limited_by_rows_and_features(rows: int, components: int, kept: int) -> None:
    assert fit_feature_map(numbers(rows), components, **IDENTITY).weight.shape == (12, kept)


def test_pictures_that_are_all_the_same_give_zeros() -> None:
    same = np.ones((20, 12), np.float32)
    assert not fit_feature_map(same, 4, **IDENTITY).apply(same).any()


def test_a_row_has_the_same_bits_alone_and_among_others() -> None:
    f, of_few = numbers(1000), fit_feature_map(numbers(), 5, **IDENTITY)
    together = of_few.apply(f)
    for rows in ([0], [999], [5, 700], range(300, 600)):
        assert of_few.apply(f[list(rows)]).tobytes() == together[list(rows)].tobytes()


def test_large_pool_is_fitted_on_a_fixed_subset() -> None:
    large = numbers(FITTED_ROWS + 500, 3)
    first, second = (fit_feature_map(large, 2, **IDENTITY) for _ in range(2))
    assert first.weight.tobytes() == second.weight.tobytes()


def test_state_round_trip_keeps_the_map() -> None:
    fitted = fit_feature_map(numbers(), 5, **IDENTITY)
    read = FeatureMap.from_state(fitted.state())
    assert read.is_close(fitted)
    assert read.apply(numbers()).tobytes() == fitted.apply(numbers()).tobytes()
    assert read.entries == {"backbone": "efficientnet-lite0 at 32 px, 5 components", "backbone_sha256": "ab"}


@pytest.mark.parametrize(
    "change",
    [
        {"weight": None},
        {"weight": torch.zeros(12)},
        {"offset": torch.zeros(4)},
        {"weight": torch.zeros(12, 5, dtype=torch.float64)},
        {"picture_shape": 3},
        {"picture_shape": [3]},
        {"picture_shape": [0, 8, 3]},
        {"picture_scale": "x"},
        {"picture_scale": 0},
        {"picture_scale": float("inf")},
        {"image_size": "large"},
        {"neighbors": 5},
        {"neighbors": -1},
        {"deviation": 0.0},
        {"deviation": float("inf")},
        {"pool": torch.zeros(3, 4, dtype=torch.float16)},
        {"pool": torch.zeros(3, 5)},
        {"weight": torch.full((12, 5), float("nan"))},
    ],
    ids=str,
)
def test_from_state_refuses_a_damaged_state(change: dict[str, Any]) -> None:
    state = {**fit_feature_map(numbers(), 5, **IDENTITY).state(), **change}
    with pytest.raises(UserError, match=r"The checkpoint holds .* map of features"):
        FeatureMap.from_state(state)
    for name in change:
        with pytest.raises(UserError, match="The checkpoint holds no map of features"):
            FeatureMap.from_state({key: value for key, value in state.items() if key != name})


def nearest_by_angle(z: np.ndarray, pool: np.ndarray, count: int) -> np.ndarray:
    """Average each row with its nearest rows of the pool by cosine similarity, one by one."""
    result = []
    for row in z:
        cosines = pool @ row / np.linalg.norm(pool, axis=1) / np.linalg.norm(row)
        others = [i for i in np.argsort(-cosines) if cosines[i] < 1 - 5e-6][:count]
        result.append((row + pool[others].sum(axis=0)) / (1 + len(others)))
    return np.array(result)


@pytest.mark.parametrize("unit_length", [False, True])
def test_smoothing_averages_with_the_nearest_pictures_of_the_pool(unit_length: bool) -> None:
    f, new = numbers(), numbers(260)[200:]
    plain = fit_feature_map(f, 5, unit_length, **IDENTITY)
    smooth = fit_feature_map(f, 5, unit_length, 3, **IDENTITY)
    z, z_new = (plain.apply(x).astype(np.float64) * plain.deviation for x in (f, new))
    if unit_length:
        assert np.linalg.norm(z, axis=1) == pytest.approx(np.ones(200), abs=1e-5)
    pool = z.astype(np.float16).astype(np.float64)
    for x, components in ((f, z), (new, z_new)):
        expected = nearest_by_angle(components, pool, 3) / smooth.deviation
        assert np.abs(smooth.apply(x) - expected).max() < 5e-3
    assert np.sqrt(smooth.apply(f).var(axis=0, ddof=1).mean()) == pytest.approx(1, abs=1e-4)


def test_a_smoothed_row_has_the_same_bits_alone_and_among_others() -> None:
    smooth, f = fit_feature_map(numbers(), 5, True, 4, **IDENTITY), numbers(700)
    together = smooth.apply(f)
    for rows in ([0], [699], [5, 400], range(100, 600)):
        assert smooth.apply(f[list(rows)]).tobytes() == together[list(rows)].tobytes()


def test_smoothing_excludes_copies_of_a_row_from_its_neighbours() -> None:
    f = numbers(50)
    copied = np.concatenate([f, f[:1]])
    twice = fit_feature_map(copied, 5, True, 3, **IDENTITY)
    once = dataclasses.replace(twice, pool=twice.pool[:50])
    assert once.apply(f[:1]).tobytes() == twice.apply(f[:1]).tobytes()


@pytest.mark.parametrize(("rows", "kept"), [(4, 0), (30, 3), (200, 10)])
def test_neighbours_are_at_most_a_tenth_of_the_pool(rows: int, kept: int) -> None:
    fitted = fit_feature_map(numbers(rows), 2, True, 10, **IDENTITY)
    assert fitted.neighbors == kept
    assert fitted.deviation > 0.1  # not only rounding errors
    assert np.abs(fitted.apply(numbers(9))).max() < 20


@pytest.mark.parametrize("change", [{"backbone": "x"}, {"weights_sha256": "x"}, {"image_size": 8}])
def test_maps_of_other_backbones_are_not_close(change: dict[str, Any]) -> None:
    ours = fit_feature_map(numbers(), 5, **IDENTITY)
    assert not ours.is_close(fit_feature_map(numbers(), 5, **{**IDENTITY, **change}))
    assert not ours.is_close(fit_feature_map(numbers() + np.arange(12, dtype=np.float32), 5, **IDENTITY))

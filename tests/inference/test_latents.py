"""Interpolation and arithmetic of latents, compared with hand-computed values."""

import itertools
import math

import pytest
import torch

from ssgan.errors import UserError
from ssgan.inference.latents import PATHS, combine, default_path, interpolate, perturb, slerp


def double(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_slerp_halves_the_angle() -> None:
    """From (2, 0) to (0, 2): (sqrt 2, sqrt 2) at 1/2, and an angle of 30 degrees at 1/3."""
    points = slerp(double(2, 0), double(0, 2), double(0, 1 / 3, 0.5, 1))
    root = math.sqrt(2)
    expected = [[2, 0], [math.sqrt(3), 1], [root, root], [0, 2]]
    torch.testing.assert_close(points, torch.tensor(expected, dtype=torch.float64))


def test_slerp_interpolates_norms_and_angles_evenly() -> None:
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    same = slerp(a, b * a.norm() / b.norm(), t)
    torch.testing.assert_close(same.norm(dim=1), a.norm().expand(11))
    torch.testing.assert_close(slerp(a, b, t).norm(dim=1), torch.lerp(a.norm(), b.norm(), t))
    angles = torch.nn.functional.cosine_similarity(same[1:], same[:-1]).arccos()
    torch.testing.assert_close(angles, angles[:1].expand(10))
    # A straight path has a smaller norm in the middle.
    assert interpolate(a, b, 3, "straight", "normal")[1].norm() < 0.9 * a.norm()


@pytest.mark.parametrize(
    "b", [(3.0, 6.0), (-2.0, -4.0), (0.0, 0.0)], ids=["same direction", "opposite direction", "zero"]
)
def test_slerp_is_linear_for_parallel_and_zero_vectors(b: tuple[float, float]) -> None:
    a = double(1, 2)
    points = slerp(a, double(*b), double(0, 0.25, 1))
    torch.testing.assert_close(points, torch.stack([a, 0.75 * a + 0.25 * double(*b), double(*b)]))


def test_straight_path_is_linear() -> None:
    a, b = torch.rand(2, 7)
    points = interpolate(a, b, 5, "straight", "uniform")
    torch.testing.assert_close(points[2], (a + b) / 2)
    torch.testing.assert_close(points[1], 0.75 * a + 0.25 * b)


@pytest.mark.parametrize(
    ("distribution", "path"), [*itertools.product(("uniform", "normal"), PATHS), ("spread", PATHS[0])]
)
def test_path_ends_equal_the_latents_exactly(path: str, distribution: str) -> None:
    """Bit for bit, also if a uniform number is 0."""
    a, b = torch.rand(2, 7)
    a[0] = 0.0
    points = interpolate(a, b, 4, path, distribution)
    assert points.dtype == a.dtype
    assert torch.equal(points[0], a)
    assert torch.equal(points[-1], b)
    assert points.isfinite().all()
    assert torch.equal(interpolate(a, b, 2, path, distribution), torch.stack([a, b]))


def test_spherical_path_of_uniform_latents_keeps_the_noise_variance() -> None:
    """The variance of U(0, 1) is 1/12; in the middle of a straight path it is half of that."""
    a, b = torch.rand(2, 100_000, generator=torch.Generator().manual_seed(0))
    middle = {path: interpolate(a, b, 3, path, "uniform")[1] for path in PATHS}
    assert middle["spherical"].var().item() == pytest.approx(1 / 12, rel=0.02)
    assert middle["straight"].var().item() == pytest.approx(1 / 24, rel=0.02)
    assert 0 <= middle["spherical"].min() <= middle["spherical"].max() <= 1
    assert middle["spherical"].mean().item() == pytest.approx(0.5, abs=0.01)


def test_spherical_path_of_uniform_latents_matches_hand_computed_value() -> None:
    """The quantiles of (Phi(1), 1/2) and (1/2, Phi(1)) are (1, 0) and (0, 1): the midpoint is Phi(sqrt 1/2) twice."""
    phi = 0.5 * (1 + math.erf(math.sqrt(0.5)))
    middle = interpolate(double(phi, 0.5), double(0.5, phi), 3, "spherical", "uniform")[1]
    expected = 0.5 * (1 + math.erf(0.5))
    torch.testing.assert_close(middle, double(expected, expected))


def test_default_path_depends_on_the_latent_distribution() -> None:
    assert [default_path(distribution) for distribution in ("uniform", "normal")] == ["straight", "spherical"]


def test_combine_sums_signed_means() -> None:
    z = torch.tensor([[1.0, 0.0], [3.0, 2.0], [10.0, 20.0], [-1.0, 5.0]])
    total, means, clipped = combine(z, [(1, (0, 1)), (-1, (2,)), (1, (3, 3, 0))], "normal")
    assert [mean.tolist() for mean in means] == [
        [2.0, 1.0],
        [10.0, 20.0],
        [pytest.approx(-1 / 3), pytest.approx(10 / 3)],
    ]
    torch.testing.assert_close(total, torch.tensor([2 - 10 - 1 / 3, 1 - 20 + 10 / 3]))
    assert clipped == 0.0


def test_combine_clips_uniform_latents_to_the_unit_cube() -> None:
    z = torch.tensor([[0.9, 0.2, 0.5, 0.5], [0.1, 0.8, 0.5, 0.5], [0.5, 0.5, 0.25, 0.5]])
    total, _, clipped = combine(z, [(1, (0,)), (-1, (1,)), (1, (2,))], "uniform")
    torch.testing.assert_close(total, torch.tensor([1.0, 0.0, 0.25, 0.5]))
    assert clipped == 0.5


@pytest.mark.parametrize(("distribution", "std"), [("normal", 1.0), ("uniform", math.sqrt(1 / 12))])
def test_perturb_has_the_requested_std_and_follows_the_seed(distribution: str, std: float) -> None:
    z = torch.full((20_000,), 0.5)
    around = perturb(z, 3, distribution, 0.25, seed=1)
    assert (around - z).std().item() == pytest.approx(0.25 * std, rel=0.02)
    assert torch.equal(around, perturb(z, 3, distribution, 0.25, seed=1))
    assert not torch.equal(around, perturb(z, 3, distribution, 0.25, seed=2))
    if distribution == "uniform":
        assert 0 <= perturb(z, 3, distribution, 9, 1).min() <= perturb(z, 3, distribution, 9, 1).max() <= 1


def test_spread_latents_allow_only_straight_paths() -> None:
    assert default_path("spread") == "straight"
    assert interpolate(torch.tensor([-4.0]), torch.tensor([4.0]), 5, "straight", "spread").flatten().tolist() == [
        *(-4.0, -2.0, 0.0, 2.0, 4.0)
    ]
    with pytest.raises(UserError, match="A spherical path is for uniform and normal latents"):
        interpolate(torch.tensor([-4.0]), torch.tensor([4.0]), 5, "spherical", "spread")

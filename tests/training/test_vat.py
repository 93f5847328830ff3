"""The virtual adversarial term: the worst small perturbation of an image, measured with fixed noise."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssgan import losses
from ssgan.nn import noise
from ssgan.nn.layers import Dropout, GaussianNoise
from ssgan.training.methods import perturbation, scale_to_rms, virtual_adversarial


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Small(nn.Module):
    """Two layers with noise before each; returns logits and features like a discriminator."""

    def __init__(self, std: float = 0.0, share: float = 0.0) -> None:
        super().__init__()
        self.trunk = nn.Sequential(GaussianNoise(std), nn.Linear(6, 20), nn.Tanh(), Dropout(share), GaussianNoise(std))
        self.output = nn.Linear(20, 4)
        self.double().train()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(x)
        return self.output(features), features


def rms(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(dim=1).sqrt()


def images(rows: int = 5) -> Tensor:
    return torch.rand(rows, 6, dtype=torch.float64)


@pytest.mark.parametrize("epsilon", [0.07, 2.0])
@pytest.mark.parametrize("iterations", [1, 3])
def test_perturbation_has_rms_epsilon_in_every_row(epsilon: float, iterations: int) -> None:
    net, x = Small(), images()
    clean = net(x)[0].detach()
    r = perturbation(lambda x: net(x)[0], clean, x, epsilon, 0.01, iterations)
    torch.testing.assert_close(rms(r), torch.full((5,), epsilon, dtype=torch.float64))
    assert not r.requires_grad


def test_worst_perturbation_of_two_linear_classes_is_along_their_difference() -> None:
    """The log-odds are (w1 - w2) x: no perturbation of that norm changes them more."""
    W = torch.randn(2, 6, dtype=torch.float64)
    x = images()
    torch.manual_seed(1)
    r = perturbation(lambda x: x @ W.T, x @ W.T, x, 0.1, 1e-3, 1)
    across = W[0] - W[1]
    cosines = F.cosine_similarity(r, across.expand_as(r))
    torch.testing.assert_close(cosines.abs(), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.manual_seed(1)  # a perturbation and its negative are equally bad
    value = virtual_adversarial(lambda x: (x @ W.T, x), x, 0.1, 1e-3, 1)
    odds = x @ across
    moved = odds + cosines.sign() * 0.1 * 6**0.5 * across.norm()
    p, q = odds.sigmoid(), moved.sigmoid()
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)


def test_the_power_method_finds_the_direction_of_largest_curvature() -> None:
    """The top eigenvector of J^T (diag p - p p^T) J, for four linear classes."""
    W = torch.randn(4, 6, dtype=torch.float64)
    x = images(3)
    r = perturbation(lambda x: x @ W.T, x @ W.T, x, 1.0, 1e-4, 200)
    for row, p in zip(r, (x @ W.T).softmax(dim=1), strict=True):
        worst = torch.linalg.eigh(W.T @ (torch.diag(p) - torch.outer(p, p)) @ W).eigenvectors[:, -1]
        assert abs(F.cosine_similarity(row, worst, dim=0).item()) == pytest.approx(1.0, abs=1e-4)


def test_one_iteration_is_worse_than_random_perturbations_of_equal_norm() -> None:
    net, x = Small(), images(200)
    clean = net(x)[0].detach()

    def change(r: Tensor) -> float:
        return losses.divergence(clean, net(x + r)[0]).item()

    worst = change(perturbation(lambda x: net(x)[0], clean, x, 0.05, 0.01, 1))
    assert worst > 1.3 * max(change(scale_to_rms(0.05, torch.randn_like(x))) for _ in range(20))


@pytest.mark.parametrize(("std", "share"), [(0.0, 0.0), (0.5, 0.3)])
def test_zero_perturbation_has_zero_divergence_with_any_noise(std: float, share: float) -> None:
    """Every pass reuses the noise of the first pass; new noise alone would make them differ."""
    net, x = Small(std, share), images()
    value = virtual_adversarial(net, x, 0.0, 0.01, 1)
    assert value.item() == 0.0
    assert torch.autograd.grad(value, net.output.weight)[0].abs().max() < 1e-15
    if std:
        assert losses.divergence(net(x)[0], net(x)[0]).item() > 1e-3


@pytest.mark.parametrize("std", [0.0, 0.5])
def test_value_and_gradient_equal_a_plain_implementation(std: float) -> None:
    """By torch.autograd, with constant noise: neither the target nor the direction carries a gradient."""
    net, x = Small(std), images()
    torch.manual_seed(7)
    value = virtual_adversarial(net, x, 0.3, 0.02, 2)
    torch.manual_seed(7)
    with noise.record() as draws:
        target = net(x)[0].softmax(dim=1).detach()
    d = torch.randn_like(x)

    def divergence(r: Tensor) -> Tensor:
        with noise.replay(draws):
            q = net(x + r)[0].log_softmax(dim=1)
        return (target * (target.log() - q)).sum(dim=1).mean()

    for _ in range(2):
        r = (0.02 * d / rms(d)[:, None]).requires_grad_()
        (d,) = torch.autograd.grad(divergence(r), r)
    expected = divergence(0.3 * d / rms(d)[:, None])
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-15)
    parameters = list(net.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(value, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def test_vmap_over_seeds_equals_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    start = torch.randn(5, 6, dtype=torch.float64)
    monkeypatch.setattr(noise, "normal_like", lambda x: start)
    W, x = torch.randn(3, 4, 6, dtype=torch.float64), torch.rand(3, 5, 6, dtype=torch.float64)

    def term(W: Tensor, x: Tensor) -> Tensor:
        return virtual_adversarial(lambda x: ((x @ W.T).tanh(), x), x, 0.2, 0.01, 2)

    together = torch.func.vmap(term, randomness="different")(W, x)
    torch.testing.assert_close(
        together, torch.stack([term(*one) for one in zip(W, x, strict=True)]), rtol=0, atol=1e-14
    )
    gradients = torch.func.vmap(torch.func.grad(term), randomness="different")(W, x)
    alone = torch.stack([torch.func.grad(term)(*one) for one in zip(W, x, strict=True)])
    torch.testing.assert_close(gradients, alone, rtol=0, atol=1e-14)
    assert together.unique().numel() == 3


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_noise_of_each_seed_is_replayed_under_vmap(share: float) -> None:
    """The noise is drawn by torch under vmap, and replayed in passes inside a gradient."""
    net, x = Small(0.5, share), torch.rand(3, 5, 6, dtype=torch.float64)
    for epsilon in (0.0, 0.2):
        term = torch.func.vmap(lambda x, e=epsilon: virtual_adversarial(net, x, e, 0.01, 2), randomness="different")
        values = term(x)
        assert ((values > 0.0) if epsilon else (values == 0.0)).all()


def test_perturbation_of_a_constant_network_is_zero() -> None:
    x = images()
    r = perturbation(lambda x: 0.0 * x[:, :3], torch.zeros(5, 3, dtype=torch.float64), x, 0.1, 0.01, 1)
    assert torch.equal(r, torch.zeros_like(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scale_to_rms_works_for_tiny_gradients(dtype: torch.dtype) -> None:
    rows = torch.tensor([[3.0, -4.0], [3e-30, 4e-30], [0.0, 0.0]], dtype=dtype)
    found = scale_to_rms(5.0, rows)
    expected = torch.tensor([[3.0, -4.0], [3.0, 4.0], [0.0, 0.0]], dtype=dtype) * 2**0.5
    torch.testing.assert_close(found, expected)


# Recorded noise


def test_replay_returns_recorded_noise_in_order_and_then_new_noise() -> None:
    x = torch.zeros(4)
    with noise.record() as draws:
        first, second = noise.normal_like(x), noise.uniform_like(x)
    assert all(a is b for a, b in zip(draws, (first, second), strict=True))
    with noise.replay(draws):
        assert noise.normal_like(x) is first
        assert noise.uniform_like(x) is second
    assert not torch.equal(noise.normal_like(x), first)
    assert len(draws) == 2  # nothing more is recorded


def test_recorded_noise_is_drawn_from_the_generator_of_the_seed() -> None:
    x = torch.zeros(4)
    with noise.use_generator(torch.Generator().manual_seed(3)), noise.record() as draws:
        noise.normal_like(x)
    with noise.use_generator(torch.Generator().manual_seed(3)):
        assert torch.equal(draws[0], noise.normal_like(x))

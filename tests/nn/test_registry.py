"""The pair of multilayer perceptrons has the layers of the published recipe."""

from typing import Any

import pytest
import torch
from conv_networks import CONVOLUTIONAL, narrow
from small_configs import tiny

from ssgan.nn.layers import BatchStatNorm, GaussianNoise, VirtualBatchNorm
from ssgan.nn.mlp import MLPDiscriminator
from ssgan.nn.registry import NETWORK_PAIRS, draw_latents
from ssgan.nn.stack import Net, Stack
from ssgan.nn.weight_norm import WeightNormLinear
from ssgan.settings.config import Config


def discriminator(**settings: Any) -> Any:
    torch.manual_seed(0)
    return NETWORK_PAIRS["mlp"].discriminator(tiny(discriminator_widths=(16, 14, 12), **settings), (8, 8), 10)


def generator(**settings: Any) -> Any:
    torch.manual_seed(0)
    return NETWORK_PAIRS["mlp"].generator(tiny(generator_widths=(9, 7), **settings), (8, 8))


def test_noise_is_before_every_layer_and_only_the_last_scale_is_trained() -> None:
    D = discriminator(noise_input_std=0.1, noise_hidden_std=0.7)
    kinds = [type(layer).__name__ for layer in D.trunk]
    assert kinds == ["GaussianNoise", "WeightNormLinear", "ReLU"] * 3
    stds = [layer.std for layer in D.modules() if isinstance(layer, GaussianNoise)]
    assert stds == [0.1, 0.7, 0.7, 0.7]
    linear = [layer for layer in D.modules() if isinstance(layer, WeightNormLinear)]
    assert [isinstance(layer.g, torch.nn.Parameter) for layer in linear] == [False, False, False, True]
    assert [tuple(layer.v.shape) for layer in linear] == [(16, 64), (14, 16), (12, 14), (10, 12)]


def test_features_exclude_the_last_noise_and_minibatch_discrimination() -> None:
    D = discriminator(noise_input_std=0.0, minibatch_kernels=4).train()
    x = torch.rand(6, 8, 8)
    D.initialize(torch.rand(30, 8, 8))
    logits, features = D(x)
    assert logits.shape == (6, 10)
    assert features.shape == (6, 12)
    # Without noise below, the noise after the features changes only the logits.
    quiet = MLPDiscriminator(64, 10, (16, 14, 12), 0.0, 0.0, 4, 5, reference_rows=19).train()
    quiet.load_state_dict(D.state_dict())
    assert torch.equal(quiet(x)[1], D.eval()(x)[1])
    assert not torch.allclose(quiet(x)[0], logits)


def test_initialisation_gives_every_unit_mean_0_and_std_1() -> None:
    D = discriminator(noise_input_std=0.0, noise_hidden_std=0.0).double()
    x = torch.rand(200, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    D.initialize(x)
    logits, _ = D(x)
    torch.testing.assert_close(logits.mean(0), torch.zeros(10, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(logits.std(0, correction=0), torch.ones(10, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("norm", "kind", "bias"),
    [("batch", BatchStatNorm, False), ("virtual", VirtualBatchNorm, False), ("none", None, True)],
)
def test_generator_has_the_configured_norm(norm: str, kind: type | None, bias: bool) -> None:
    G = generator(generator_norm=norm)
    assert [type(layer) for layer in G.norms] == ([kind, kind] if kind else [])
    assert [layer.bias is not None for layer in G.hidden] == [bias, bias]
    assert isinstance(G.output.g, torch.nn.Parameter)
    images = G(draw_latents(tiny(), 5))
    assert images.shape == (5, 8, 8)
    assert images.min() >= 0.0
    assert images.max() <= 1.0
    assert G.couples_rows == (norm == "batch")


def test_generated_image_depends_on_the_batch_only_with_batch_norm() -> None:
    z = torch.rand(6, 6, generator=torch.Generator().manual_seed(2))
    for norm in ("batch", "virtual", "none"):
        G = generator(generator_norm=norm).double()
        whole, part = G(z.double())[:3], G(z.double()[:3])
        assert torch.allclose(whole, part, atol=1e-12) == (norm != "batch")


def test_reference_noise_is_in_the_state_dict_of_the_generator() -> None:
    G = generator(generator_norm="virtual", reference_rows=13)
    assert G.state_dict()["reference"].shape == (13, 6)
    with pytest.raises(ValueError, match="needs reference noise"):
        type(G)(6, (8, 8), (9,), norm="virtual")


@pytest.mark.parametrize(("distribution", "low", "high", "mean"), [("uniform", 0.0, 1.0, 0.5), ("normal", -9, 9, 0.0)])
def test_latent_noise_has_the_configured_distribution(distribution: str, low: float, high: float, mean: float) -> None:
    z = draw_latents(Config(latent_distribution=distribution), 50, 40, generator=torch.Generator().manual_seed(0))
    assert z.shape == (50, 40, 100)
    assert low <= z.min() <= z.max() <= high
    assert abs(float(z.mean()) - mean) < 0.01
    assert (distribution == "uniform") == bool(z.min() >= 0)


def test_pixels_are_scaled_to_the_network_range_and_back() -> None:
    stored = torch.tensor([[0, 8, 16]], dtype=torch.uint8)
    pair = NETWORK_PAIRS["mlp"]._replace(low=-1.0)
    assert pair.to_input(stored, 16.0, torch.float32).tolist() == [[-1.0, 0.0, 1.0]]
    assert pair.to_unit(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0.0, 0.5, 1.0]
    assert stored.tolist() == [[0, 8, 16]]


class Shifted(torch.nn.Module):
    """A layer with a number added to its output, in the type of the output."""

    def __init__(self, layer: torch.nn.Module, number: float) -> None:
        super().__init__()
        self.layer, self.number = layer, number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x) + self.number
        return y


@pytest.mark.parametrize("network", ["mlp", "gan-mlp", *CONVOLUTIONAL])
def test_saturated_pixels_have_a_gradient_in_bfloat16(network: str) -> None:
    """The output 1 - 2e-4 is 1 in bfloat16, and the gradients of sigmoid and tanh are computed from their output."""
    torch.manual_seed(0)
    config = narrow(network) if network in CONVOLUTIONAL else tiny(network=network)
    G: Any = NETWORK_PAIRS[network].generator(config, (32, 32))
    G.output = Shifted(G.output, 8.5 if G.squash is torch.sigmoid else 4.6)
    stack = Stack([G])
    z = torch.rand(20, config.latent_size)
    weights = torch.randn(20, 32, 32)
    gradients = []
    for rounded in (False, True):
        state = stack.state(0)
        v = {name: value.requires_grad_() for name, value in state["parameters"].items()}
        x = Net(stack.training, {**state, "parameters": v}, rounded)(z)
        assert x.dtype == torch.float32
        assert x.mean() > 0.99
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad((x * weights).sum(), list(v.values()))]))
    exact, found = gradients
    assert torch.dot(exact, found) > 0.9 * exact.norm() * found.norm()
    assert found.norm() / exact.norm() == pytest.approx(1, abs=0.2)

"""The gan-mlp pair has the layers of an introductory GAN; its running statistics are stacked and saved with G."""

from typing import Any

import numpy as np
import pytest
import torch
from small_configs import tiny
from torch import nn
from torch.nn import functional as F

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.inference.models import Models
from ssgan.nn.layers import BatchStatNorm
from ssgan.nn.registry import NETWORK_PAIRS
from ssgan.settings.config import Config
from ssgan.training.trainer import train

NARROW = {"network": "gan-mlp", "discriminator_widths": (16, 12), "generator_widths": (9, 8)}


def narrow(**settings: Any) -> Config:
    return tiny(**{**NARROW, **settings})


def test_pair_has_the_layers_of_an_introductory_gan() -> None:
    config = Config(network="gan-mlp")
    D: Any = NETWORK_PAIRS["gan-mlp"].discriminator(config, (28, 28), 1)
    G: Any = NETWORK_PAIRS["gan-mlp"].generator(config, (28, 28))
    linear = [layer for layer in D.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(784, 512), (512, 256), (256, 1)]
    assert [layer.negative_slope for layer in D.modules() if isinstance(layer, nn.LeakyReLU)] == [0.2, 0.2]
    assert not any(isinstance(layer, BatchStatNorm) for layer in D.modules())
    layers = [*G.hidden, G.output]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [
        (100, 256), (256, 512), (512, 1024), (1024, 784),
    ]  # fmt: skip
    assert [layer.bias is not None for layer in [*linear, *layers]] == [True] * 7
    assert [(norm.running_decay, norm.eps, len(norm.gamma)) for norm in G.norms] == [
        (0.8, 1e-3, 256), (0.8, 1e-3, 512), (0.8, 1e-3, 1024),
    ]  # fmt: skip
    assert G.couples_rows
    assert not G.couples_rows_at_evaluation
    assert (NETWORK_PAIRS["gan-mlp"].low, NETWORK_PAIRS["gan-mlp"].high) == (-1.0, 1.0)


def test_generator_equals_torch_layers_with_activation_before_batch_norm() -> None:
    """Equal to a plain nn.Sequential of torch layers in training and, after three batches, at evaluation."""
    torch.manual_seed(0)
    G: Any = NETWORK_PAIRS["gan-mlp"].generator(narrow(), (8, 8)).double()
    layers: list[nn.Module] = []
    for linear, width in zip(G.hidden, (9, 8), strict=True):
        layers += [linear, nn.LeakyReLU(0.2), nn.BatchNorm1d(width, eps=1e-3, momentum=0.2)]
    plain = nn.Sequential(*layers, G.output, nn.Tanh()).double()
    rows = 1000
    for _ in range(3):
        z = torch.randn(rows, 6, dtype=torch.float64)
        torch.testing.assert_close(G(z).flatten(1), plain(z), rtol=0, atol=1e-12)
    norms = [layer for layer in plain if isinstance(layer, nn.BatchNorm1d)]
    for ours, theirs in zip(G.norms, norms, strict=True):
        torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=0, atol=1e-12)
        # torch averages the unbiased variance, which is N / (N - 1) times ours.
        kept, correction = 0.8**3, rows / (rows - 1)
        expected = kept + (ours.running_var - kept) * correction
        torch.testing.assert_close(theirs.running_var, expected, rtol=0, atol=1e-12)
    z = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(G.eval()(z).flatten(1), plain.eval()(z), rtol=0, atol=2e-3)
    torch.testing.assert_close(G(z)[2:3], G(z[2:3]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.8])
@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 2, 4)], ids=str)
def test_running_statistics_are_exponential_averages_of_batch_moments(decay: float, shape: tuple[int, ...]) -> None:
    layer = BatchStatNorm(3, running_decay=decay).double()
    first, second = (torch.randn(*shape, dtype=torch.float64) * s + s for s in (2.0, 3.0))
    y = layer(first)
    layer(second)
    if not decay:
        assert not dict(layer.named_buffers())
        assert torch.equal(layer.eval()(first), y)
        return
    axes = [0, *range(2, len(shape))]
    mean, variance = torch.zeros(3).double(), torch.ones(3).double()
    for x in (first, second):
        mean, variance = 0.8 * mean + 0.2 * x.mean(axes), 0.8 * variance + 0.2 * x.var(axes, correction=0)
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, variance)
    x = torch.randn(*shape, dtype=torch.float64)
    expected = F.batch_norm(x, mean, variance, eps=1e-6)
    torch.testing.assert_close(layer.eval()(x), expected)
    assert torch.equal(layer.running_mean, layer.eval().running_mean)


def test_running_statistics_are_updated_only_in_training_passes(few_digits: Data) -> None:
    """Each step has two passes, in D's phase and in G's, each with its own latent batch."""
    config = narrow(total_images=20, learning_rate_g=0.0, learning_rate_d=0.0, weight_feature_matching=1.0)
    run = train(few_digits, config)
    assert run.models.G is not None
    buffers = {name: value.clone() for name, value in run.models.G.buffers.items()}
    (mean,) = buffers["norms.0.running_mean"]
    torch.manual_seed(0)
    batch = next(iter(run.trainer.batches.from_batch(0, 1)))
    weight, bias = (run.models.G.parameters[f"hidden.0.{name}"][0] for name in ("weight", "bias"))
    expected = torch.zeros(9)
    for z in (batch.z[0], batch.z2[0]):
        expected = 0.8 * expected + 0.2 * F.leaky_relu(F.linear(z, weight, bias), 0.2).mean(0)
    torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-6)
    run.models.sample(150)
    assert all(torch.equal(value, run.models.G.buffers[name]) for name, value in buffers.items())


def test_generated_image_depends_only_on_its_latent(few_digits: Data) -> None:
    """With any seed of the noise, which for other networks chooses the other images of the batch."""
    models = train(few_digits, narrow()).models
    z = models.noise(130, 1)
    whole = models.generate(z, 1)
    assert np.array_equal(models.generate(z, 2), whole)
    np.testing.assert_allclose(models.generate(z[40:43], 3), whole[:, 40:43], atol=1e-6)
    assert whole.std(axis=1).max() > 0.01


@pytest.mark.parametrize("strategy", ["vmap", "loop"])
def test_running_statistics_of_stacked_seeds_equal_separate_training(few_digits: Data, strategy: str) -> None:
    stack = train(few_digits, narrow(seeds=2, seed_strategy=strategy, dtype="float64")).models
    for seed in (0, 1):
        alone = train(few_digits, narrow(seed=seed, dtype="float64")).models
        assert stack.G is not None
        assert alone.G is not None
        for name, value in alone.G.buffers.items():
            # Thousands of numbers are summed in another order, so that each layer adds rounding errors.
            torch.testing.assert_close(stack.G.buffers[name][seed], value[0], rtol=1e-9, atol=1e-9)
        assert not torch.equal(stack.G.buffers["norms.0.running_mean"][0], stack.G.buffers["norms.0.running_mean"][1])


def test_statistics_are_in_the_checkpoint(few_digits: Data, tmp_path: Any) -> None:
    run = train(few_digits, narrow(seeds=2))
    runs.save_checkpoint(tmp_path / "checkpoint", run.state())
    again = Models.from_state(runs.load_checkpoint(tmp_path / "checkpoint"), torch.device("cpu"))
    assert np.array_equal(again.sample(30), run.models.sample(30))
    assert again.G is not None
    assert (again.G.buffers["norms.1.running_var"] != 1).any()

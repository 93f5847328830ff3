"""The pair of networks for feature vectors: noise and dropout in D, and an unbounded generator."""

import numpy as np
import pytest
import torch
from torch import nn

from ssgan.nn.base import LayerNoise
from ssgan.nn.layers import Dropout, GaussianNoise
from ssgan.nn.mlp import FeatureDiscriminator, VectorGenerator
from ssgan.nn.registry import build_stacks
from ssgan.nn.weight_norm import WeightNormLinear
from ssgan.settings.presets import resolve

NOISE = LayerNoise(1.0, 0.5, 0.1, 0.3)


def discriminator(noise: LayerNoise = LayerNoise()) -> FeatureDiscriminator:  # noqa: B008 - a tuple
    torch.manual_seed(0)
    return FeatureDiscriminator(6, 4, (8, 7), noise)


def test_discriminator_is_dense_layers_with_weight_norm_and_leaky_relu() -> None:
    D = discriminator().eval()
    x = torch.randn(5, 6)
    first, second = (layer for layer in D.trunk if isinstance(layer, WeightNormLinear))
    h = nn.functional.leaky_relu(x @ first.weight().T + first.b, 0.2)
    features = nn.functional.leaky_relu(h @ second.weight().T + second.b, 0.2)
    logits, found = D(x)
    assert torch.allclose(found, features, atol=1e-6)
    assert isinstance(D.output, WeightNormLinear)
    assert torch.allclose(logits, features @ D.output.weight().T + D.output.b, atol=1e-6)


def test_noise_and_dropout_are_at_the_expected_positions() -> None:
    kinds = [type(layer) for layer in discriminator(NOISE).trunk]
    dense = [WeightNormLinear, nn.LeakyReLU]
    assert kinds == [Dropout, GaussianNoise, *dense, GaussianNoise, *dense]
    assert [type(layer) for layer in discriminator(NOISE).noise] == [GaussianNoise, Dropout]


def test_outputs_are_random_in_training_and_deterministic_at_evaluation() -> None:
    D, x = discriminator(NOISE), torch.randn(5, 6)
    assert not torch.equal(D(x)[0], D(x)[0])
    D.eval()
    assert torch.equal(D(x)[0], D(x)[0])


def test_initialisation_gives_every_unit_mean_0_and_std_1() -> None:
    D = discriminator()
    x = 5 * torch.randn(500, 6) + 2
    D.initialize(x)
    first = D.trunk[0](x).detach().numpy()
    assert np.abs(first.mean(axis=0)).max() < 1e-4
    assert first.std(axis=0) == pytest.approx(np.ones(8), abs=1e-4)


def test_generator_output_is_unbounded() -> None:
    torch.manual_seed(0)
    G = VectorGenerator(10, (6,), (8,))
    with torch.no_grad():
        G.output.weight.mul_(50)
        x = G(torch.randn(200, 10))
    assert x.shape == (200, 6)
    assert x.min() < -5
    assert x.max() > 5


def test_features_preset_builds_both_networks_for_vectors() -> None:
    config = resolve("features", {"labels": 40})
    stacks = build_stacks(config, (128,), 10, 2, torch.device("cpu"))
    assert {*stacks} == {"D", "G"}
    gains = [name for name in stacks["G"].parameters if name.endswith("gamma")]
    assert len(gains) == len(config.generator_widths)
    count = sum(np.prod(v.shape[1:]) for v in stacks["D"].parameters.values())
    assert count == 128 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10 + 10  # weights, biases and the output's scales

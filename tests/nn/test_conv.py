"""The convolutional networks: accepted image sizes, and the layers of each pair."""

import itertools
from typing import Any

import pytest
import torch
from conv_networks import (
    QUIET,
    described,
    every_network,
    every_weight_normed,
    narrow,
    noise,
    pair,
    pictures,
)
from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.errors import UserError
from ssgan.nn.base import ChannelsFirst, ChannelsLast, LayerNoise
from ssgan.nn.conv import BLOCKS, ResidualBlock, Whitening, whitened_trunk, wide_trunk
from ssgan.nn.layers import BatchStatNorm
from ssgan.nn.registry import NETWORK_PAIRS
from ssgan.nn.weight_norm import WeightNormConv2d, WeightNormConvTranspose2d, WeightNormLinear
from ssgan.settings.config import Config

# Shapes


SIZES = [(28, 28), (32, 32), (33, 33), (64, 64), (48, 40)]


@every_network
@pytest.mark.parametrize("channels", [(), (1,), (3,)], ids=["none", "grey", "colour"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_networks_keep_the_image_shape_for_every_size(
    network: str, size: tuple[int, int], channels: tuple[int, ...]
) -> None:
    config, shape = narrow(network), (*size, *channels)
    D, G = pair(config, shape)
    D.initialize(pictures(8, *shape))
    images = G(noise(config, 3))
    assert images.shape == (3, *shape)
    logits, features = D(images)
    assert logits.shape == (3, 10)
    wide = (3 << (2 if max(size) <= 32 else 3)) * 4 * 4 if network == "dcgan" else 7
    assert features.shape == (3, wide)
    assert D.eval()(images)[0].shape == (3, 10)


@every_network
def test_smallest_size_works_and_other_shapes_are_refused(network: str) -> None:
    config, least = (
        narrow(network),
        {"paper-conv": 9, "compact-conv": 17, "whitened-conv": 9, "wide-resnet": 8, "dcgan": 17}[network],
    )
    D, G = pair(config, (least, least))
    D.initialize(pictures(8, least, least))
    assert D(G(noise(config, 3)))[0].isfinite().all()
    for shape in ((784,), (least - 1, least - 1), (3, 32, 32), (32, 32, 2)):
        with pytest.raises(UserError, match=f"Network {network} accepts images of"):
            NETWORK_PAIRS[network].discriminator(config, shape, 10)
        with pytest.raises(UserError, match=f"Network {network} accepts images of"):
            NETWORK_PAIRS[network].generator(config, shape)


def test_layouts_move_axes_and_cut_margins() -> None:
    x = pictures(2, 5, 4, 3)
    inside = ChannelsFirst()(x)
    assert inside.shape == (2, 3, 5, 4)
    assert inside[1, 2, 4, 3] == x[1, 4, 3, 2]
    assert torch.equal(ChannelsLast((5, 4, 3))(inside), x)
    grey = pictures(2, 5, 4)
    assert torch.equal(ChannelsFirst()(grey), grey[:, None])
    assert torch.equal(ChannelsLast((5, 4))(grey[:, None]), grey)
    # Of 3 extra rows, 1 is cut above and 2 below.
    assert torch.equal(ChannelsLast((2, 2, 3))(inside), x[:, 1:3, 1:3])


# The paper's pair


def test_paper_conv_discriminator_has_the_published_layers() -> None:
    D = NETWORK_PAIRS["paper-conv"].discriminator(Config(network="paper-conv"), (32, 32, 3), 10)
    assert described(D.trunk) == [
        "dropout 0.2",
        "3x3 3-96 stride 1 padding 1",
        "leaky 0.2",
        "3x3 96-96 stride 1 padding 1",
        "leaky 0.2",
        "3x3 96-96 stride 2 padding 1",
        "leaky 0.2",
        "dropout 0.5",
        "3x3 96-192 stride 1 padding 1",
        "leaky 0.2",
        "3x3 192-192 stride 1 padding 1",
        "leaky 0.2",
        "3x3 192-192 stride 2 padding 1",
        "leaky 0.2",
        "dropout 0.5",
        "3x3 192-192 stride 1 padding 0",
        "leaky 0.2",
        "1x1 192-192 stride 1 padding 0",
        "leaky 0.2",
        "1x1 192-192 stride 1 padding 0",
        "leaky 0.2",
        "GlobalMeanPool",
    ]
    assert isinstance(D.output, WeightNormLinear)
    assert [layer.init_std for layer in D.modules() if hasattr(layer, "init_std")] == [1.0] * 9 + [0.1]
    for layer in D.modules():
        if isinstance(layer, WeightNormConv2d | WeightNormLinear):
            assert layer.v.std().item() == pytest.approx(0.05, rel=5 / (2 * layer.v.numel()) ** 0.5)
    # Weights, one bias for each unit, and the scales of the last layer.
    convolutions = 3 * 96 * 9 + 2 * 96 * 96 * 9 + 96 * 192 * 9 + 3 * 192 * 192 * 9 + 2 * 192 * 192
    biases, last = 3 * 96 + 6 * 192, 192 * 10 + 10 + 10
    assert sum(p.numel() for p in D.parameters()) == convolutions + biases + last == 1_406_804


def test_paper_conv_generator_has_the_published_layers() -> None:
    config = Config(network="paper-conv")
    G: Any = NETWORK_PAIRS["paper-conv"].generator(config, (32, 32, 3))
    dense, second, third = G.hidden
    assert (dense.in_features, dense.out_features) == (100, 4 * 4 * 512)
    assert described_deconvolution(second[-1]) == (512, 256, 5)
    assert described_deconvolution(third[-1]) == (256, 128, 5)
    assert all(layer.bias is None for layer in (dense, second[-1], third[-1]))
    for layer in (dense, second[-1], third[-1]):
        assert layer.weight.std().item() == pytest.approx(0.05, rel=0.01)
    # One shift for each unit of the dense layer and for each channel of the others; no gain.
    assert [len(norm.beta) for norm in G.norms] == [8192, 256, 128]
    assert {type(norm) for norm in G.norms} == {BatchStatNorm}
    assert {norm.gamma for norm in G.norms} == {None}
    assert isinstance(G.output[-1], WeightNormConvTranspose2d)
    assert G.output[-1].v.shape == (128, 3, 5, 5)
    assert G.output[-1].v.std().item() == pytest.approx(0.05, rel=0.05)
    assert isinstance(G.output[-1].g, nn.Parameter)
    h = torch.zeros(2, 100)
    sizes = []
    for layer, norm in zip(G.hidden, G.norms, strict=True):
        h = norm(layer(h))
        sizes.append(tuple(h.shape[1:]))
    assert sizes == [(8192,), (256, 8, 8), (128, 16, 16)]
    assert (G.activation, G.squash) == (F.relu, torch.tanh)
    assert (NETWORK_PAIRS["paper-conv"].low, NETWORK_PAIRS["paper-conv"].high) == (-1.0, 1.0)
    hidden = 100 * 8192 + 512 * 256 * 25 + 256 * 128 * 25
    norms, last = 8192 + 256 + 128, 128 * 3 * 25 + 3 + 3
    assert sum(p.numel() for p in G.parameters()) == hidden + norms + last == 4_933_382


def described_deconvolution(layer: Any) -> tuple[int, int, int]:
    assert isinstance(layer, nn.ConvTranspose2d)
    assert (layer.stride, layer.kernel_size[0]) == ((2, 2), layer.kernel_size[1])
    return layer.in_channels, layer.out_channels, layer.kernel_size[0]


def test_paper_conv_discriminator_for_svhn_has_fewer_channels() -> None:
    D = NETWORK_PAIRS["paper-conv"].discriminator(
        Config(network="paper-conv", discriminator_widths=(64, 128)), (32, 32, 3), 10
    )
    convolutions = 3 * 64 * 9 + 2 * 64 * 64 * 9 + 64 * 128 * 9 + 3 * 128 * 128 * 9 + 2 * 128 * 128
    assert sum(p.numel() for p in D.parameters()) == convolutions + 3 * 64 + 6 * 128 + 1280 + 20


# The other networks


def test_compact_conv_discriminator_has_the_expected_layers_and_size() -> None:
    D = NETWORK_PAIRS["compact-conv"].discriminator(Config(network="compact-conv"), (28, 28), 10)
    assert described(D.trunk) == [
        "dropout 0.2",
        "5x5 1-32 stride 2 padding 2",
        "leaky 0.2",
        "dropout 0.5",
        "3x3 32-64 stride 2 padding 1",
        "leaky 0.2",
        "dropout 0.5",
        "3x3 64-128 stride 2 padding 1",
        "leaky 0.2",
        "dropout 0.5",
        "3x3 128-128 stride 1 padding 0",
        "leaky 0.2",
        "GlobalMeanPool",
    ]
    weights_of_units = 25 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 9 * 128 * 128 + 128 * 10
    assert sum(p.numel() for p in D.parameters()) == weights_of_units + 32 + 64 + 128 + 128 + 10 + 10
    assert (NETWORK_PAIRS["compact-conv"].low, NETWORK_PAIRS["compact-conv"].high) == (0.0, 1.0)


def test_compact_conv_generator_starts_at_7x7_for_28x28_images() -> None:
    G: Any = NETWORK_PAIRS["compact-conv"].generator(Config(network="compact-conv"), (28, 28))
    dense, second = G.hidden
    assert (dense.in_features, dense.out_features) == (100, 7 * 7 * 64)
    assert described_deconvolution(second[-1]) == (64, 32, 4)
    assert G.output[-1].v.shape == (32, 1, 4, 4)
    assert G.output(torch.zeros(2, 32, 14, 14)).shape == (2, 1, 28, 28)
    assert (G.activation, G.squash) == (F.relu, torch.sigmoid)


@every_weight_normed
def test_features_are_the_mean_over_the_pixels_of_the_last_layer(network: str) -> None:
    D, _ = pair(narrow(network, **QUIET))
    x = pictures(20, 32, 32, 3)
    D.initialize(x)
    last = D.trunk[:-1](D.layout(x))
    assert last.shape[2] > 1
    torch.testing.assert_close(D(x)[1], last.mean(dim=(2, 3)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_whitening_makes_patches_uncorrelated_with_unit_variance(channels: int) -> None:
    x = pictures(40, channels, 9, 7) + 0.3
    layer = Whitening(channels, epsilon=1e-9).double()
    y = layer.init_from(x)
    assert y.shape == (40, 8 * channels, 8, 6)
    half, negative = y.chunk(2, dim=1)
    torch.testing.assert_close(half, -negative, rtol=0, atol=1e-12)
    covariance = half.movedim(1, 0).flatten(1).cov(correction=0)
    torch.testing.assert_close(covariance, torch.eye(4 * channels, dtype=torch.float64), rtol=0, atol=1e-6)
    assert not list(layer.parameters())
    torch.testing.assert_close(layer(x), y, rtol=0, atol=0)


def test_whitening_of_constant_images_stays_bounded() -> None:
    layer = Whitening(1)
    assert layer.init_from(torch.full((4, 1, 5, 5), 0.7)).abs().max() < 50.0
    assert layer.weight.isfinite().all()


def test_whitened_conv_discriminator_has_the_expected_layers() -> None:
    trunk = whitened_trunk(3, (32, 64, 128), LayerNoise())
    assert described(trunk) == [
        *("Whitening", "leaky 0.2"),
        *("3x3 24-32 stride 1 padding 1", "MaxPool2d", "leaky 0.2"),
        *("3x3 32-64 stride 1 padding 1", "MaxPool2d", "leaky 0.2", "3x3 64-64 stride 1 padding 1", "leaky 0.2"),
        *("3x3 64-128 stride 1 padding 1", "MaxPool2d", "leaky 0.2", "3x3 128-128 stride 1 padding 1", "leaky 0.2"),
        "GlobalMeanPool",
    ]


def test_the_wide_resnet_has_28_layers_and_no_batch_norm() -> None:
    trunk = wide_trunk(3, (32, 64, 128), LayerNoise())
    blocks = [layer for layer in trunk if isinstance(layer, ResidualBlock)]
    assert len(blocks) == 3 * BLOCKS
    # As in the paper Wide Residual Networks: the first convolution, two per block, and the shortcut of each group.
    assert sum(isinstance(layer, WeightNormConv2d) for layer in trunk.modules()) == 1 + 2 * 12 + 3 == 28
    assert not any(isinstance(layer, BatchStatNorm | nn.BatchNorm2d) for layer in trunk.modules())
    h, seen = torch.zeros(2, 3, 32, 32), []
    for layer in trunk:
        h = layer(h)
        seen.append(tuple(h.shape[1:]))
    groups = [(32, 32, 32)] * 4 + [(64, 16, 16)] * 4 + [(128, 8, 8)] * 4
    assert seen == [(16, 32, 32), *groups, (128, 8, 8), (128,)]


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 6, 1), (4, 6, 2)])
def test_a_residual_block_adds_its_branch_to_its_shortcut(inputs: int, outputs: int, stride: int) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(inputs, outputs, stride, 0.5, LayerNoise(hidden=0.3, dropout_hidden=0.5)).double()
    x = pictures(6, inputs, 5, 6) - 0.3
    block.init_from(x)
    block.eval()
    first, second = (layer for layer in block.branch if isinstance(layer, WeightNormConv2d))

    def leaky(h: Tensor) -> Tensor:
        return torch.where(h > 0, h, 0.2 * h)

    branch = second(leaky(first(leaky(x))))
    shortcut = x if block.shortcut is None else block.shortcut(leaky(x))
    assert (block.shortcut is None) == (inputs == outputs)
    torch.testing.assert_close(block(x), branch + shortcut, rtol=0, atol=1e-12)
    assert block(x).shape == (6, outputs, -(-5 // stride), 6 // stride)
    assert described(block.branch)[:1] == ["noise 0.3"]
    assert described(block.branch)[2:5] == ["leaky 0.2", "dropout 0.5", "noise 0.3"]


def test_wide_resnet_init_scales_branches_and_keeps_activations_bounded() -> None:
    config = narrow("wide-resnet", **QUIET)
    D, _ = pair(config)
    x = pictures(20, 32, 32, 3)
    D.initialize(x)
    h = D.layout(x)
    for layer in D.trunk:
        before, h = h, layer(h)
        if isinstance(layer, ResidualBlock):
            branch = layer.branch(layer.activation(before)).std(dim=(0, 2, 3), correction=0)
            torch.testing.assert_close(branch, torch.full_like(branch, BLOCKS**-0.5), rtol=0, atol=1e-9)
            # The input of a group has variance 1. Each block adds about 1/4, more or less if both correlate.
            assert h.std() < 2.0
    scales = {name for name, _ in D.named_parameters() if name.endswith(".g")}
    blocks = [i for i, layer in enumerate(D.trunk) if isinstance(layer, ResidualBlock)]
    assert scales == {f"trunk.{i}.branch.2.g" for i in blocks} | {"output.g"}


@pytest.mark.parametrize(("size", "count"), [(32, 3), (64, 4)])
def test_dcgan_follows_the_architecture_guidelines(size: int, count: int) -> None:
    config = Config(network="dcgan")
    D: Any = NETWORK_PAIRS["dcgan"].discriminator(config, (size, size, 3), 10)
    expected = ["plain 4x4 3-64 stride 2 padding 1 bias", "leaky 0.2"]
    for i in range(count - 1):
        expected += [f"plain 4x4 {64 << i}-{128 << i} stride 2 padding 1", f"norm {128 << i}", "leaky 0.2"]
    assert described(D.trunk) == [*expected, "Flatten"]
    assert D.couples_rows
    assert (D.output.in_features, D.output.out_features) == (16 * (64 << count - 1), 10)
    G: Any = NETWORK_PAIRS["dcgan"].generator(config, (size, size, 3))
    layers = [G.hidden[0][-1], *G.hidden[1:], G.output]
    channels = [100, *[64 << i for i in reversed(range(count))], 3]
    assert [(layer.in_channels, layer.out_channels) for layer in layers] == list(itertools.pairwise(channels))
    assert [(layer.kernel_size[0], layer.stride[0], layer.padding[0]) for layer in layers] == (
        [(4, 1, 0)] + [(4, 2, 1)] * count
    )
    assert [layer.bias is None for layer in layers] == [True] * count + [False]
    assert [type(norm) for norm in G.norms] == [BatchStatNorm] * count
    assert all(norm.gamma is not None for norm in [*G.norms, *(m for m in D.trunk if isinstance(m, BatchStatNorm))])
    assert (G.activation, G.squash) == (F.relu, torch.tanh)
    assert (NETWORK_PAIRS["dcgan"].low, NETWORK_PAIRS["dcgan"].high) == (-1.0, 1.0)
    for layer in [*D.modules(), *layers]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert layer.bias is None or not layer.bias.any()
    gains = torch.cat([m.gamma for net in (D, G) for m in net.modules() if isinstance(m, BatchStatNorm)]).detach()
    assert gains.mean().item() == pytest.approx(1.0, abs=0.003)
    assert gains.std().item() == pytest.approx(0.02, rel=0.15)
    # The only dense layer gives the logits, and there is no pooling.
    kinds = {type(layer).__name__ for net in (D.trunk, G) for layer in net.modules()}
    assert not kinds & {"Linear", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "GlobalMeanPool"}


def test_dcgan_pads_smaller_images_with_black_and_crops_generated_ones() -> None:
    """28x28 is padded to 32x32 by two pixels on every side; an odd margin has one more below and on the right."""
    x, (D, G) = pictures(4, 28, 28), pair(narrow("dcgan"), (28, 28))
    framed = torch.full((4, 1, 32, 32), -1.0, dtype=torch.float64)
    framed[:, 0, 2:30, 2:30] = x
    assert torch.equal(D.layout(x), framed)
    D.initialize(x)
    assert torch.equal(D.reference, framed[:3])
    z = noise(narrow("dcgan"), 5)
    whole, _ = pair(narrow("dcgan"), (32, 32))[::-1]
    assert torch.equal(G(z), whole(z)[:, 2:30, 2:30])
    odd = NETWORK_PAIRS["dcgan"].discriminator(narrow("dcgan"), (29, 32, 3), 10).layout(torch.ones(1, 29, 32, 3))
    assert odd[0, 0, :, 0].tolist() == [-1.0, *[1.0] * 29, -1.0, -1.0]
    # The crop of the generator undoes the padding.
    assert torch.equal(ChannelsLast((28, 28))(D.layout(x)), x)

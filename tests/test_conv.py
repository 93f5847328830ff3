"""The convolutional pairs: their layers, what each setting does to them, and that they train, stack and come back."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny
from test_trainer import same_bits, weights
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.errors import UserError
from ssgan.inference.models import Models
from ssgan.nn.base import ChannelsFirst, ChannelsLast, Noise
from ssgan.nn.conv import BLOCKS, ResidualBlock, wide_trunk
from ssgan.nn.layers import BatchStatNorm, Dropout, GaussianNoise
from ssgan.nn.registry import MODELS, latent
from ssgan.nn.stack import choose_strategy
from ssgan.nn.weight_norm import WeightNormConv2d, WeightNormConvTranspose2d, WeightNormLinear
from ssgan.settings.catalog import NETWORK_NAMES, NETWORK_SETTINGS, NETWORKS, check_image_shape
from ssgan.settings.config import Config
from ssgan.settings.fields import show
from ssgan.training.trainer import train

CONVOLUTIONAL = [name for name in NETWORK_NAMES if NETWORKS[name].convolutional]
# All but dcgan, whose layers have batch norm.
WEIGHT_NORMED = ["paper-conv", "compact-conv", "wide-resnet"]
NARROW: dict[str, dict[str, Any]] = {
    "paper-conv": {"discriminator_widths": (5, 7), "generator_widths": (8, 6, 5)},
    "compact-conv": {"discriminator_widths": (5, 6, 7), "generator_widths": (8, 6)},
    "wide-resnet": {"discriminator_widths": (4, 5, 7), "generator_widths": (8, 6, 5)},
    "dcgan": {"discriminator_widths": (3,), "generator_widths": (3,)},
}
QUIET = {"noise_input_std": 0.0, "noise_hidden_std": 0.0, "dropout_input": 0.0, "dropout_hidden": 0.0}
every_network = pytest.mark.parametrize("network", CONVOLUTIONAL)
every_weight_normed = pytest.mark.parametrize("network", WEIGHT_NORMED)


def narrow(network: str, **settings: Any) -> Config:
    return tiny(**{"network": network, "batch_size": 4, "init_images": 20, **NARROW[network], **settings})


def pair(config: Config, shape: tuple[int, ...] = (32, 32, 3)) -> tuple[Any, Any]:
    """D and G in float64."""
    torch.manual_seed(0)
    D = MODELS[config.network].discriminator(config, shape, 10)
    G = MODELS[config.network].generator(config, shape)
    return D.double(), G.double()


def pictures(rows: int, *shape: int, seed: int = 1) -> Tensor:
    """Images in [0, 1], a row of another brightness and contrast than the next."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, *shape, dtype=torch.float64, generator=generator)
    brightness = torch.rand(rows, *[1 for _ in shape], dtype=torch.float64, generator=generator)
    return x * brightness


def noise(config: Config, rows: int, seed: int = 2) -> Tensor:
    return latent(config, rows, generator=torch.Generator().manual_seed(seed)).double()


def described(layers: nn.Sequential) -> list[str]:
    """Each layer in a word or two."""
    words = []
    for layer in layers:
        match layer:
            case WeightNormConv2d():
                outputs, inputs, kernel, _ = layer.v.shape
                words.append(f"{kernel}x{kernel} {inputs}-{outputs} stride {layer.stride} padding {layer.padding}")
            case nn.Conv2d():
                kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
                assert len({*kernel}) == len({*stride}) == len({*padding}) == 1
                words.append(
                    f"plain {kernel[0]}x{kernel[0]} {layer.in_channels}-{layer.out_channels} stride {stride[0]} "
                    f"padding {padding[0]}{'' if layer.bias is None else ' bias'}"
                )
            case nn.LeakyReLU():
                words.append(f"leaky {layer.negative_slope}")
            case Dropout():
                words.append(f"dropout {layer.share}")
            case GaussianNoise():
                words.append(f"noise {layer.std}")
            case BatchStatNorm():
                words.append(f"norm {len(layer.beta)}")
            case _:
                words.append(type(layer).__name__)
    return words


# Shapes


SIZES = [(28, 28), (32, 32), (33, 33), (64, 64), (48, 40)]


@every_network
@pytest.mark.parametrize("channels", [(), (1,), (3,)], ids=["none", "grey", "colour"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_comes_out_as_it_went_in(network: str, size: tuple[int, int], channels: tuple[int, ...]) -> None:
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
def test_the_least_size_works_and_vectors_do_not(network: str) -> None:
    config, least = narrow(network), {"paper-conv": 9, "compact-conv": 17, "wide-resnet": 8, "dcgan": 17}[network]
    D, G = pair(config, (least, least))
    D.initialize(pictures(8, least, least))
    assert D(G(noise(config, 3)))[0].isfinite().all()
    for shape in ((784,), (least - 1, least - 1), (3, 32, 32), (32, 32, 2)):
        with pytest.raises(UserError, match=f"Network {network} takes images of"):
            MODELS[network].discriminator(config, shape, 10)
        with pytest.raises(UserError, match=f"Network {network} takes images of"):
            MODELS[network].generator(config, shape)


def test_layouts_move_axes_and_cut_margins() -> None:
    x = pictures(2, 5, 4, 3)
    inside = ChannelsFirst()(x)
    assert inside.shape == (2, 3, 5, 4)
    assert inside[1, 2, 4, 3] == x[1, 4, 3, 2]
    assert torch.equal(ChannelsLast((5, 4, 3))(inside), x)
    grey = pictures(2, 5, 4)
    assert torch.equal(ChannelsFirst()(grey), grey[:, None])
    assert torch.equal(ChannelsLast((5, 4))(grey[:, None]), grey)
    # 3 rows too many are 1 above and 2 below.
    assert torch.equal(ChannelsLast((2, 2, 3))(inside), x[:, 1:3, 1:3])


# The paper's pair


def test_the_papers_discriminator_is_the_published_one() -> None:
    D = MODELS["paper-conv"].discriminator(Config(network="paper-conv"), (32, 32, 3), 10)
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
    # Weights, and a bias for each unit; the scale of the last layer.
    convolutions = 3 * 96 * 9 + 2 * 96 * 96 * 9 + 96 * 192 * 9 + 3 * 192 * 192 * 9 + 2 * 192 * 192
    biases, last = 3 * 96 + 6 * 192, 192 * 10 + 10 + 10
    assert sum(p.numel() for p in D.parameters()) == convolutions + biases + last == 1_406_804


def test_the_papers_generator_is_the_published_one() -> None:
    config = Config(network="paper-conv")
    G: Any = MODELS["paper-conv"].generator(config, (32, 32, 3))
    dense, second, third = G.hidden
    assert (dense.in_features, dense.out_features) == (100, 4 * 4 * 512)
    assert described_deconvolution(second[-1]) == (512, 256, 5)
    assert described_deconvolution(third[-1]) == (256, 128, 5)
    assert all(layer.bias is None for layer in (dense, second[-1], third[-1]))
    for layer in (dense, second[-1], third[-1]):
        assert layer.weight.std().item() == pytest.approx(0.05, rel=0.01)
    # By unit in the dense layer, by channel in the others; no gain.
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
    assert (MODELS["paper-conv"].low, MODELS["paper-conv"].high) == (-1.0, 1.0)
    hidden = 100 * 8192 + 512 * 256 * 25 + 256 * 128 * 25
    norms, last = 8192 + 256 + 128, 128 * 3 * 25 + 3 + 3
    assert sum(p.numel() for p in G.parameters()) == hidden + norms + last == 4_933_382


def described_deconvolution(layer: Any) -> tuple[int, int, int]:
    assert isinstance(layer, nn.ConvTranspose2d)
    assert (layer.stride, layer.kernel_size[0]) == ((2, 2), layer.kernel_size[1])
    return layer.in_channels, layer.out_channels, layer.kernel_size[0]


def test_the_papers_pair_for_svhn_has_fewer_channels_in_d() -> None:
    D = MODELS["paper-conv"].discriminator(
        Config(network="paper-conv", discriminator_widths=(64, 128)), (32, 32, 3), 10
    )
    convolutions = 3 * 64 * 9 + 2 * 64 * 64 * 9 + 64 * 128 * 9 + 3 * 128 * 128 * 9 + 2 * 128 * 128
    assert sum(p.numel() for p in D.parameters()) == convolutions + 3 * 64 + 6 * 128 + 1280 + 20


# The others


def test_the_compact_discriminator_is_small_and_has_three_strides() -> None:
    D = MODELS["compact-conv"].discriminator(Config(network="compact-conv"), (28, 28), 10)
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
    assert (MODELS["compact-conv"].low, MODELS["compact-conv"].high) == (0.0, 1.0)


def test_the_compact_generator_makes_no_more_pixels_than_it_needs() -> None:
    G: Any = MODELS["compact-conv"].generator(Config(network="compact-conv"), (28, 28))
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


def test_the_wide_resnet_has_28_layers_and_no_batch_norm() -> None:
    trunk = wide_trunk(3, (32, 64, 128), Noise())
    blocks = [layer for layer in trunk if isinstance(layer, ResidualBlock)]
    assert len(blocks) == 3 * BLOCKS
    # As Wide Residual Networks count: the first convolution, two in a block, and the shortcut of each group.
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
    block = ResidualBlock(inputs, outputs, stride, 0.5, Noise(hidden=0.3, dropout_hidden=0.5)).double()
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


def test_the_branches_of_a_resnet_start_small_and_its_activations_do_not_explode() -> None:
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
            # A variance of 1 enters a group, and each block adds a quarter, or less or more where both go together.
            assert h.std() < 2.0
    scales = {name for name, _ in D.named_parameters() if name.endswith(".g")}
    blocks = [i for i, layer in enumerate(D.trunk) if isinstance(layer, ResidualBlock)]
    assert scales == {f"trunk.{i}.branch.2.g" for i in blocks} | {"output.g"}


@pytest.mark.parametrize(("size", "count"), [(32, 3), (64, 4)])
def test_the_dcgan_follows_its_guidelines(size: int, count: int) -> None:
    config = Config(network="dcgan")
    D: Any = MODELS["dcgan"].discriminator(config, (size, size, 3), 10)
    expected = ["plain 4x4 3-64 stride 2 padding 1 bias", "leaky 0.2"]
    for i in range(count - 1):
        expected += [f"plain 4x4 {64 << i}-{128 << i} stride 2 padding 1", f"norm {128 << i}", "leaky 0.2"]
    assert described(D.trunk) == [*expected, "Flatten"]
    assert D.couples_rows
    assert (D.output.in_features, D.output.out_features) == (16 * (64 << count - 1), 10)
    G: Any = MODELS["dcgan"].generator(config, (size, size, 3))
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
    assert (MODELS["dcgan"].low, MODELS["dcgan"].high) == (-1.0, 1.0)
    for layer in [*D.modules(), *layers]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert layer.bias is None or not layer.bias.any()
    gains = torch.cat([m.gamma for net in (D, G) for m in net.modules() if isinstance(m, BatchStatNorm)]).detach()
    assert gains.mean().item() == pytest.approx(1.0, abs=0.003)
    assert gains.std().item() == pytest.approx(0.02, rel=0.15)
    # No layer is dense but the one to the logits, and none pools.
    kinds = {type(layer).__name__ for net in (D.trunk, G) for layer in net.modules()}
    assert not kinds & {"Linear", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "GlobalMeanPool"}


def test_the_dcgan_sees_a_smaller_image_in_a_black_frame_and_cuts_its_own_out_of_one() -> None:
    """28x28 in 32x32: two pixels on every side; an odd margin has one more below and on the right."""
    x, (D, G) = pictures(4, 28, 28), pair(narrow("dcgan"), (28, 28))
    framed = torch.full((4, 1, 32, 32), -1.0, dtype=torch.float64)
    framed[:, 0, 2:30, 2:30] = x
    assert torch.equal(D.layout(x), framed)
    D.initialize(x)
    assert torch.equal(D.reference, framed[:3])
    z = noise(narrow("dcgan"), 5)
    whole, _ = pair(narrow("dcgan"), (32, 32))[::-1]
    assert torch.equal(G(z), whole(z)[:, 2:30, 2:30])
    odd = MODELS["dcgan"].discriminator(narrow("dcgan"), (29, 32, 3), 10).layout(torch.ones(1, 29, 32, 3))
    assert odd[0, 0, :, 0].tolist() == [-1.0, *[1.0] * 29, -1.0, -1.0]
    # What is laid in a frame is cut out of it again.
    assert torch.equal(ChannelsLast((28, 28))(D.layout(x)), x)


# What the page about the networks says


PAGE = (Path(__file__).parents[1] / "docs" / "networks.md").read_text(encoding="utf-8")
COUNTS = {
    ("paper-conv", (32, 32, 3)): (1_406_804, 544.1, 4_933_382, 216.3),
    ("compact-conv", (28, 28)): (242_068, 5.7, 350_050, 4.0),
    ("compact-conv", (32, 32, 3)): (243_668, 7.1, 448_038, 5.8),
    ("wide-resnet", (32, 32, 3)): (1_466_932, 428.7, 4_933_382, 216.3),
    ("dcgan", (32, 32, 3)): (700_234, 35.2, 1_068_931, 35.9),
    ("dcgan", (64, 64, 3)): (2_839_370, 207.8, 3_576_707, 209.3),
    ("gan-mlp", (28, 28)): (535_818, 1.1, 1_489_936, 3.0),
}


@pytest.mark.parametrize(("network", "shape"), COUNTS)
def test_the_page_counts_parameters_and_operations(network: str, shape: tuple[int, ...]) -> None:
    """Operations of one image, a multiplication and an addition counted as two."""
    config = Config(network=network)
    numbers = []
    D, G = MODELS[network].discriminator(config, shape, 10), MODELS[network].generator(config, shape)
    for module, x in ((D, torch.zeros(1, *shape)), (G, torch.zeros(1, 100))):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(x)
        numbers += [sum(p.numel() for p in module.parameters()), counter.get_total_flops() / 1e6]
    assert numbers == [pytest.approx(value, abs=0.06) for value in COUNTS[network, shape]]
    d, d_flop, g, g_flop = COUNTS[network, shape]
    assert f"| `{network}` | {'x'.join(map(str, shape))} | {d:,} | {d_flop} | {g:,} | {g_flop} |" in PAGE


def test_the_page_shows_what_each_network_brings_along() -> None:
    for name in NETWORK_SETTINGS:
        row = " | ".join([f"`{name}`", *(show(traits.settings[name]) for traits in NETWORKS.values())])
        assert f"| {row} |\n" in PAGE
    for network, traits in NETWORKS.items():
        least, most = (f"{n}x{n}" for n in (traits.smallest, max(traits.squares, default=0)))
        sizes = f"{least} to {most}" if traits.squares else f"from {least}"
        sizes = sizes if traits.convolutional else "vectors alone" if traits.vectors else "any, vectors too"
        pair = MODELS[network]
        assert f"| `{network}` | {sizes} | [{pair.low:g}, {pair.high:g}] |" in PAGE


# What trains, and where it starts


@every_weight_normed
def test_scales_are_frozen_but_for_the_last_layers(network: str) -> None:
    D, G = pair(narrow(network))
    layers = [layer for layer in D.modules() if isinstance(layer, WeightNormConv2d | WeightNormLinear)]
    trained = [isinstance(layer.g, nn.Parameter) for layer in layers]
    if network != "wide-resnet":
        assert trained == [False] * (len(layers) - 1) + [True]
    assert {name.rsplit(".", 1)[1] for name, _ in D.named_buffers()} == {"g"}
    assert all(isinstance(layer.v, nn.Parameter) and isinstance(layer.b, nn.Parameter) for layer in layers)
    assert [name for name, _ in G.named_parameters() if name.endswith(".g")] == ["output.0.g"]


@every_weight_normed
def test_initialisation_gives_every_unit_its_mean_and_deviation(network: str) -> None:
    config = narrow(network, **QUIET)
    D, G = pair(config, (17, 18, 3))
    x, seen = pictures(30, 17, 18, 3), []

    def look(layer: Any, inputs: Any, output: Tensor) -> None:
        axes = [0, *range(2, output.dim())]
        seen.append((layer.init_std, output.mean(dim=axes), output.std(dim=axes, correction=0)))

    D.initialize(x)
    G.initialize(noise(config, 40))
    for network_layers in (D, G):
        for layer in network_layers.modules():
            if hasattr(layer, "init_std"):
                layer.register_forward_hook(look)
    logits, _ = D(x)
    G(noise(config, 40))
    for init_std, mean, std in seen:
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-9)
        torch.testing.assert_close(std, torch.full_like(std, init_std), rtol=0, atol=1e-9)
    assert len(seen) == {"paper-conv": 10, "compact-conv": 5, "wide-resnet": 29}[network] + 1
    torch.testing.assert_close(logits.std(dim=0, correction=0), torch.full((10,), 0.1, dtype=torch.float64))


def test_the_trainer_initialises_the_generator() -> None:
    """Before tanh, the first images have mean 0 and a deviation of 0.1 on other noise as well, near enough."""
    data, config = random_images(32, 32, 3), narrow("paper-conv", batch_size=50, labels=50, total_images=50)
    run = train(data, config.replace(learning_rate_g=0.0))
    images = torch.from_numpy(run.models.sample(100)[0]) * 2 - 1
    assert images.atanh().std().item() == pytest.approx(0.1, rel=0.2)


def test_the_initialisation_of_the_dcgan_stores_images_and_changes_no_weight() -> None:
    D, G = pair(narrow("dcgan"))
    before = [value.detach().clone() for value in [*D.parameters(), *G.parameters()]]
    x = pictures(20, 32, 32, 3)
    D.initialize(x)
    G.initialize(noise(narrow("dcgan"), 5))
    after = [*D.parameters(), *G.parameters()]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(before, after, strict=True))
    # One less than a training batch.
    assert torch.equal(D.reference, x[:3].permute(0, 3, 1, 2))


@every_network
def test_every_parameter_has_a_gradient(network: str) -> None:
    config = narrow(network, minibatch_kernels=2, generator_norm="virtual")
    D, G = pair(config)
    D.initialize(pictures(20, 32, 32, 3))
    G.initialize(noise(config, 20))
    logits, features = D(G(noise(config, 6)))
    (logits.square().sum() + features.mean(dim=0).square().sum()).backward()
    for net in (D, G):
        for name, value in net.named_parameters():
            assert value.grad is not None, name
            assert value.grad.abs().max() > 0, name


# Rows of a batch


@every_network
@pytest.mark.parametrize("norm", ["batch", "virtual", "none"])
def test_an_image_depends_on_its_batch_mates_with_batch_norm_alone(network: str, norm: str) -> None:
    config = narrow(network, generator_norm=norm, reference_rows=7)
    _, G = pair(config, (32, 32))
    z = noise(config, 6)
    assert G.couples_rows == (norm == "batch")
    whole, part = G(z)[:3], G(z[:3])
    assert ((whole - part).abs().max() < 1e-12) == (norm != "batch")
    assert {type(n).__name__ for n in G.norms} == {
        "batch": {"BatchStatNorm"},
        "virtual": {"VirtualBatchNorm"},
        "none": set(),
    }[norm]
    biases = [layer.bias is not None for layer in G.hidden.modules() if hasattr(layer, "bias")]
    assert biases == [norm == "none"] * len(G.hidden)


@pytest.mark.parametrize("network", [name for name in NETWORK_NAMES if not NETWORKS[name].vectors])
def test_reference_noise_goes_through_the_same_layers_as_noise(network: str) -> None:
    config = (
        narrow(network, generator_norm="virtual", reference_rows=7)
        if NETWORKS[network].convolutional
        else tiny(network=network, generator_norm="virtual", reference_rows=7, generator_widths=(10, 9, 8))
    )
    _, G = pair(config, (32, 32))
    h, reference = noise(config, 5), G.reference
    for layer, norm in zip(G.hidden, G.norms, strict=True):
        h, reference = layer(h), layer(reference)
        if network == "gan-mlp":
            h, reference = norm(G.activation(h), G.activation(reference))
        else:
            h, reference = (G.activation(y) for y in norm(h, reference))
    torch.testing.assert_close(G(noise(config, 5)), G.layout(G.squash(G.output(h))), rtol=0, atol=1e-12)


@every_network
@pytest.mark.parametrize("kernels", [0, 3])
def test_a_prediction_does_not_depend_on_its_batch_mates(network: str, kernels: int) -> None:
    config = narrow(network, minibatch_kernels=kernels, **QUIET)
    D, _ = pair(config)
    D.initialize(pictures(20, 32, 32, 3))
    assert D.couples_rows == (kernels > 0 or network == "dcgan")
    x = pictures(6, 32, 32, 3, seed=5)
    apart = torch.cat([x[:2], pictures(4, 32, 32, 3, seed=6)])
    assert (torch.stack([(D(x)[0][:2] - D(apart)[0][:2]).abs().max()]) > 1e-9) == D.couples_rows
    D.eval()
    for ours, theirs in zip(D(x), D(apart), strict=True):
        torch.testing.assert_close(ours[:2], theirs[:2], rtol=0, atol=1e-11)
    for ours, theirs in zip(D(x), D(x[1:2]), strict=True):
        torch.testing.assert_close(ours[1:2], theirs, rtol=0, atol=1e-11)


def test_the_dcgan_is_normalised_by_its_reference_as_by_a_batch() -> None:
    """At evaluation, the stored images come out as they do in training as a batch of their own."""
    D, _ = pair(narrow("dcgan", **QUIET))
    x = pictures(20, 32, 32, 3)
    D.initialize(x)
    in_training = D(x[:3])
    for ours, theirs in zip(D.eval()(x[:3]), in_training, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


# Noise and dropout


PLACES = {
    # (convolutions with noise before them, places of dropout inside)
    "paper-conv": (8, 2),
    "compact-conv": (3, 3),
    "wide-resnet": (24, 12),
    "dcgan": (2, 3),
}


@every_network
def test_noise_and_dropout_lie_where_they_should(network: str) -> None:
    config = narrow(network, noise_input_std=0.1, noise_hidden_std=0.7, dropout_input=0.2, dropout_hidden=0.6)
    D, _ = pair(config)
    assert described(D.trunk)[:2] == ["dropout 0.2", "noise 0.1"]
    words = [word for layer in D.modules() for word in described(nn.Sequential(layer))]
    before, inside = PLACES[network]
    assert words.count("noise 0.1") == words.count("dropout 0.2") == 1
    # And one before the output layer.
    assert words.count("noise 0.7") == before + 1
    assert words.count("dropout 0.6") == inside
    quiet, _ = pair(narrow(network, **QUIET))
    assert not any(isinstance(layer, GaussianNoise | Dropout) and layer is not quiet.noise for layer in quiet.modules())


@every_network
@pytest.mark.parametrize("setting", QUIET)
def test_noise_and_dropout_are_off_at_evaluation(network: str, setting: str) -> None:
    D, _ = pair(narrow(network, **{**QUIET, setting: 0.4}))
    D.initialize(pictures(20, 32, 32, 3))
    x = pictures(4, 32, 32, 3, seed=3)
    first, second = D(x)[0], D(x)[0]
    assert not torch.equal(first, second)
    D.eval()
    assert torch.equal(D(x)[0], D(x)[0])
    quiet, _ = pair(narrow(network, **QUIET))
    values = dict(zip(quiet.state_dict(), D.state_dict().values(), strict=True))
    quiet.load_state_dict(values)
    assert torch.equal(quiet.eval()(x)[0], D(x)[0])


# Training


def random_images(*shape: int, rows: int = 60) -> Data:
    """Noise as uint8 images, of a brightness that tells the class."""
    generator = np.random.default_rng(0)
    y = np.arange(rows) % 10
    x = (generator.integers(0, 128, (rows, *shape)) + (12 * y).reshape(-1, *[1 for _ in shape])).astype(np.uint8)
    return Data(x, y, x[:20], y[:20], tuple("0123456789"), name="noise")


SHAPES = [(32, 32, 3), (28, 28)]


@every_network
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_few_steps_of_training_stay_finite(network: str, shape: tuple[int, ...]) -> None:
    data, config = random_images(*shape), narrow(network, total_images=12, report_every_images=4)
    seen: list[Any] = []
    run = train(data, config, on_report=seen.append)
    assert [report.step for report in seen] == [1, 2, 3]
    for report in seen:
        assert set(report.means) >= {"L", "U", "V", "feature_matching"}
        assert all(np.isfinite(values).all() for values in report.means.values())
    assert run.errors[0] is not None
    assert not run.diverged
    samples = run.models.sample(3)
    assert samples.shape == (1, 3, *shape)
    assert 0.0 <= samples.min() < samples.max() <= 1.0


@every_network
@pytest.mark.parametrize(
    "settings", [{}, {"generator_norm": "virtual", "minibatch_kernels": 2}], ids=["plain", "coupled"]
)
def test_stacked_training_equals_separate_training(network: str, settings: dict[str, Any]) -> None:
    data = random_images(32, 32)
    quiet = narrow(network, dtype="float64", total_images=12, reference_rows=5, **QUIET, **settings)
    alone = [weights(train(data, quiet.replace(seed=seed, seed_strategy="direct"))) for seed in (0, 1)]
    for strategy in ("vmap", "loop"):
        stacked = weights(train(data, quiet.replace(seeds=2, seed_strategy=strategy)))
        for seed, one in enumerate(alone):
            for name, value in one.items():
                torch.testing.assert_close(stacked[name][seed], value[0], rtol=0, atol=1e-12, msg=f"{strategy} {name}")


def test_seeds_take_a_thread_each_on_a_cpu_and_one_kernel_on_a_gpu() -> None:
    assert choose_strategy(1, "cpu") == choose_strategy(1, "cuda") == "direct"
    assert choose_strategy(2, "cpu") == "loop"
    assert choose_strategy(2, "cuda") == "vmap"
    assert train(random_images(32, 32, 3), narrow("compact-conv", seeds=2, total_images=4)).trainer.strategy == "loop"


@every_network
def test_a_checkpoint_gives_the_same_bits_back(network: str, tmp_path: Path) -> None:
    data = random_images(32, 32, 3)
    config = narrow(network, seeds=2, total_images=8, generator_norm="virtual", minibatch_kernels=2)
    run = train(data, config)
    runs.save_checkpoint(tmp_path / "checkpoint", run.state())
    models = Models.from_state(runs.load_checkpoint(tmp_path / "checkpoint"), torch.device("cpu"))
    for averaged in (True, False):
        ours, theirs = (m.probabilities(data.x_test, averaged) for m in (run.models, models))
        assert np.isfinite(ours).all()
        assert np.array_equal(ours, theirs)
    assert np.array_equal(models.sample(5), run.models.sample(5))
    assert models.config == run.config


@every_network
def test_training_that_goes_on_is_the_same(network: str) -> None:
    data, config = random_images(32, 32, 3), narrow(network, total_images=16, report_every_images=8)
    config = config.replace(dropout_hidden=0.5, noise_input_std=0.1)
    states: list[Any] = []
    whole = train(data, config, on_report=lambda report: states.append(copied(report.state())))
    assert states[0]["steps_done"] == 2
    assert same_bits(weights(whole), weights(train(data, config, state=states[0])))


def copied(state: Any) -> Any:
    if isinstance(state, dict):
        return {k: copied(v) for k, v in state.items()}
    if isinstance(state, list):
        return [copied(v) for v in state]
    return state.detach().clone() if isinstance(state, Tensor) else state


# Every setting of a network does something


CHANGES: dict[str, dict[str, Any]] = {
    "noise_input_std": {"noise_input_std": 0.3},
    "noise_hidden_std": {"noise_hidden_std": 0.3},
    "dropout_input": {"dropout_input": 0.3},
    "dropout_hidden": {"dropout_hidden": 0.3},
    "minibatch_kernels": {"minibatch_kernels": 2},
    "minibatch_kernel_dim": {"minibatch_kernels": 2, "minibatch_kernel_dim": 3},
    "virtual": {"generator_norm": "virtual", "reference_rows": 5},
    "none": {"generator_norm": "none"},
    "reference_rows": {"generator_norm": "virtual", "reference_rows": 6},
    "latent_size": {"latent_size": 7},
    "latent_distribution": {"latent_distribution": "normal"},
    "init_images": {"init_images": 30},
}


@every_network
def test_every_setting_changes_the_weights(network: str) -> None:
    data, base = random_images(32, 32), narrow(network, total_images=8, **QUIET)
    runs = {"plain": weights(train(data, base))}
    for name, settings in CHANGES.items():
        if (network, name) == ("dcgan", "init_images"):
            continue
        runs[name] = weights(train(data, base.replace(**settings)))
    for net in ("discriminator", "generator"):
        widths = getattr(base, f"{net}_widths")
        runs[net] = weights(train(data, base.replace(**{f"{net}_widths": (widths[0] + 1, *widths[1:])})))
    names = list(runs)
    for i, name in enumerate(names):
        for other in names[:i]:
            assert not same_bits(runs[name], runs[other]), (name, other)


def test_the_compact_pair_learns_digits(digits: Data) -> None:
    """Each pixel three by three times, so that there is room for the strides."""
    large = {name: getattr(digits, name).repeat(3, 1).repeat(3, 2) for name in ("x_train", "x_test")}
    widths = {"discriminator_widths": (8, 16, 32), "generator_widths": (16, 8)}
    config = tiny(network="compact-conv", batch_size=50, total_images=10_000, labels=100, **widths)
    error = train(dataclasses.replace(digits, **large), config).errors[0]
    assert error is not None
    # Chance is 90.
    assert error < 30.0


def test_images_of_the_wrong_size_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ssgan.cli import main

    folder = tmp_path / "run"
    for more in ([], ["--dry-run"]):
        with pytest.raises(SystemExit) as stop:
            main(["train", "digits", "--set", "network=dcgan", "--out", str(folder), *more])
        assert stop.value.code == 2
        assert "Network dcgan takes images of 17x17 to 64x64 pixels" in capsys.readouterr().err
    assert not folder.exists()


def test_check_of_shapes_is_that_of_the_networks() -> None:
    for network in CONVOLUTIONAL:
        for shape in ((28, 28), (32, 32), (64, 64, 3), (8, 8), (31, 32)):
            try:
                check_image_shape(network, shape)
            except UserError:
                continue
            _, G = pair(narrow(network), shape)
            assert G(noise(narrow(network), 2)).shape == (2, *shape)

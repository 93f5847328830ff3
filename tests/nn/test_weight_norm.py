"""Weight norm of dense and (transposed) convolution layers: formula, gradients, and initialisation from a batch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from layer_checks import gradcheck_with_parameters, normal, randomized
from torch import Tensor, nn

from ssgan.nn import weight_norm
from ssgan.nn.layers import GaussianNoise
from ssgan.nn.weight_norm import WeightNormConv2d, WeightNormConvTranspose2d, WeightNormLinear, fold_weights


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def assert_standardized(activation: Tensor) -> None:
    torch.testing.assert_close(activation.mean(dim=0), torch.zeros_like(activation[0]), rtol=0, atol=1e-10)
    torch.testing.assert_close(activation.std(dim=0, correction=0), torch.ones_like(activation[0]), rtol=0, atol=1e-10)


def test_weight_norm_equals_the_formula():
    layer = randomized(WeightNormLinear(3, 2))
    v, g, b = (tensor.detach().numpy() for tensor in (layer.v, layer.g, layer.b))
    x = normal(4, 3)
    expected = [[g[o] * (x[i].numpy() @ v[o]) / np.linalg.norm(v[o]) + b[o] for o in range(2)] for i in range(4)]
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=0, atol=1e-14)


def test_weight_norm_rows_have_the_norm_of_the_scale():
    layer = randomized(WeightNormLinear(7, 5))
    layer.g[0] = -2.0
    torch.testing.assert_close(layer.weight().norm(dim=1), layer.g.abs(), rtol=0, atol=1e-14)


def test_weight_norm_output_does_not_depend_on_the_norm_of_v():
    layer, x = randomized(WeightNormLinear(7, 3)), normal(4, 7)
    before = layer(x)
    with torch.no_grad():
        layer.v.mul_(torch.tensor([[1e-3], [2.0], [1e4]], dtype=torch.float64))
    torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("train_scale", [False, True])
def test_weight_norm_scale_is_trainable_only_with_train_scale(train_scale):
    layer = WeightNormLinear(7, 5, train_scale=train_scale)
    assert ("g" in dict(layer.named_parameters())) == train_scale
    assert ("g" in dict(layer.named_buffers())) == (not train_scale)
    assert set(layer.state_dict()) == {"v", "g", "b"}
    layer(torch.randn(4, 7)).square().sum().backward()
    assert layer.v.grad.abs().min() > 0
    assert (layer.g.grad is not None) == train_scale


def test_weight_norm_gradient_agrees_with_finite_differences():
    assert gradcheck_with_parameters(randomized(WeightNormLinear(4, 3, train_scale=True)), normal(5, 4))


def test_weight_norm_draws_v_with_the_configured_std():
    # 60,000 draws of N(0, 0.05): their std has a standard error of 0.05 / sqrt(120,000).
    v = WeightNormLinear(300, 200, std=0.05).v
    assert v.std().item() == pytest.approx(0.05, abs=5 * 0.05 / 120_000**0.5)
    bound = (6.0 / 500.0) ** 0.5
    v = WeightNormLinear(300, 200, std=None).v
    assert 0.999 * bound < v.abs().max().item() <= bound


@pytest.mark.parametrize("train_scale", [False, True])
def test_weight_norm_init_gives_every_unit_mean_0_and_std_1(train_scale):
    layer = randomized(WeightNormLinear(7, 5, train_scale=train_scale))
    x = normal(500, 7, mean=3.0, std=2.0)
    output = layer.init_from(x)
    assert_standardized(output)
    assert torch.equal(layer(x), output)
    assert not output.requires_grad


def test_weight_norm_init_without_a_bias_sets_only_the_std():
    layer = randomized(WeightNormLinear(7, 5, bias=False))
    x = normal(500, 7, mean=3.0, std=2.0)
    before = layer(x)
    output = layer.init_from(x)
    torch.testing.assert_close(output, before / before.std(dim=0, correction=0), rtol=0, atol=1e-10)
    assert torch.equal(layer(x), output)
    assert set(layer.state_dict()) == {"v", "g"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("out_features", [1, 3])
def test_weight_norm_init_keeps_the_scale_of_a_constant_unit(dtype, out_features):
    layer = WeightNormLinear(3, out_features).to(dtype)
    x = torch.randn(500, 3, dtype=dtype)
    x[:, 0] = 0.7
    with torch.no_grad():
        layer.v[0] = torch.tensor([2.0, 0.0, 0.0])
    output = layer.init_from(x)
    assert layer.g[0].item() == 1.0
    assert layer.b[0].item() == pytest.approx(-0.7, rel=1e-6)
    assert output[:, 0].abs().max().item() < 1e-6
    # The other units are initialised as usual.
    for unit in range(1, out_features):
        assert output[:, unit].std(correction=0).item() == pytest.approx(1.0, abs=1e-5)


def test_init_from_standardizes_every_layer_of_a_net():
    net = nn.Sequential(
        WeightNormLinear(6, 8), nn.ReLU(), WeightNormLinear(8, 5), nn.ReLU(), WeightNormLinear(5, 3, train_scale=True)
    )
    randomized(net)
    x = normal(500, 6, mean=-1.0, std=4.0)
    output = weight_norm.init_from(net, x)
    activation = x
    for layer in net:
        activation = layer(activation)
        if isinstance(layer, WeightNormLinear):
            assert_standardized(activation)
        else:
            assert activation.min() == 0.0
    assert torch.equal(output, activation)


def test_init_from_includes_the_noise_between_layers():
    net = nn.Sequential(
        GaussianNoise(0.3), WeightNormLinear(6, 4), nn.ReLU(), GaussianNoise(2.0), WeightNormLinear(4, 3)
    )
    net.double()
    x = normal(500, 6)
    torch.manual_seed(1)
    output = weight_norm.init_from(net, x)
    assert_standardized(output)
    torch.manual_seed(1)
    torch.testing.assert_close(net(x), output, rtol=0, atol=1e-12)
    assert (net.eval()(x).std(dim=0, correction=0) < 0.9).all()


# Convolutions


CONVOLUTIONS = {
    "same": lambda **options: WeightNormConv2d(3, 4, 3, padding=1, **options),
    "valid": lambda **options: WeightNormConv2d(3, 4, 3, **options),
    "strided": lambda **options: WeightNormConv2d(3, 4, 3, stride=2, padding=1, **options),
    "1x1": lambda **options: WeightNormConv2d(3, 4, 1, **options),
    "doubling by 5": lambda **options: WeightNormConvTranspose2d(3, 4, 5, **options),
    "doubling by 4": lambda **options: WeightNormConvTranspose2d(3, 4, 4, **options),
}
every_convolution = pytest.mark.parametrize("make", CONVOLUTIONS.values(), ids=CONVOLUTIONS)


def by_channel(layer: nn.Module, weight: Tensor) -> Tensor:
    """A weight with the output channels on axis 0."""
    return weight.transpose(0, 1) if isinstance(layer, WeightNormConvTranspose2d) else weight


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 1)])
def test_a_convolution_equals_the_formula(stride, padding):
    """Each output value separately: g / ||v|| times v on a patch of the padded image, plus b."""
    layer = randomized(WeightNormConv2d(2, 3, 3, stride, padding))
    v, g, b = (tensor.detach().numpy() for tensor in (layer.v, layer.g, layer.b))
    x = normal(2, 2, 5, 6)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    output = layer(x).detach().numpy()
    assert output.shape == (2, 3, (5 + 2 * padding - 3) // stride + 1, (6 + 2 * padding - 3) // stride + 1)
    for row, channel, i, j in np.ndindex(*output.shape):
        patch = padded[row, :, i * stride : i * stride + 3, j * stride : j * stride + 3]
        expected = g[channel] / np.sqrt((v[channel] ** 2).sum()) * (v[channel] * patch).sum() + b[channel]
        assert output[row, channel, i, j] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kernel", [4, 5])
def test_transposed_convolution_equals_the_formula(kernel):
    """Each input pixel adds its multiple of W at twice its position; then the padding is cut off."""
    layer = randomized(WeightNormConvTranspose2d(2, 3, kernel))
    v, g, b = (tensor.detach().numpy() for tensor in (layer.v, layer.g, layer.b))
    weight = v * (g / np.sqrt((v**2).sum(axis=(0, 2, 3))))[None, :, None, None]
    x = normal(2, 2, 3, 4)
    canvas = np.zeros((2, 3, 6 + 2 * kernel, 8 + 2 * kernel))
    for row, channel, i, j in np.ndindex(*x.shape):
        canvas[row, :, 2 * i : 2 * i + kernel, 2 * j : 2 * j + kernel] += x[row, channel, i, j].item() * weight[channel]
    margin = (kernel - 1) // 2
    expected = canvas[:, :, margin : margin + 6, margin : margin + 8] + b[:, None, None]
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 6])
def test_transposed_convolution_doubles_every_size(kernel):
    for height, width in ((1, 1), (2, 5), (7, 7)):
        assert WeightNormConvTranspose2d(2, 3, kernel)(torch.zeros(4, 2, height, width)).shape == (
            4,
            3,
            2 * height,
            2 * width,
        )


@every_convolution
def test_norm_of_a_convolution_is_per_output_channel(make):
    layer = randomized(make())
    weight = by_channel(layer, layer.weight().detach())
    torch.testing.assert_close(weight.flatten(1).norm(dim=1), layer.g.abs(), rtol=0, atol=1e-14)
    x = normal(2, 3, 4, 5)
    before = layer(x)
    with torch.no_grad():
        by_channel(layer, layer.v).mul_(torch.tensor([1e-3, 2.0, 1e4, 1.0], dtype=torch.float64).view(4, 1, 1, 1))
    torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-11)


@every_convolution
def test_gradients_of_a_convolution_agree_with_finite_differences(make):
    assert gradcheck_with_parameters(randomized(make(train_scale=True)), normal(2, 3, 3, 4))


@every_convolution
def test_gradient_of_v_is_the_projected_gradient_of_the_weight(make):
    """With W = v * g / ||v||, the gradient of v is g / ||v|| times that of W, without its component along v."""
    layer, x = randomized(make()), normal(2, 3, 4, 5)
    weight = layer.weight().detach().requires_grad_()
    ours = torch.autograd.grad(layer(x).square().sum(), layer.v)[0]
    layer.weight = lambda: weight
    of_weight = torch.autograd.grad(layer(x).square().sum(), weight)[0]
    axes = (0, 2, 3) if isinstance(layer, WeightNormConvTranspose2d) else (1, 2, 3)
    per_unit = (1, 4, 1, 1) if axes[0] == 0 else (4, 1, 1, 1)
    norm = layer.v.detach().square().sum(dim=axes, keepdim=True).sqrt()
    direction = layer.v.detach() / norm
    along = (of_weight * direction).sum(dim=axes, keepdim=True)
    expected = layer.g.view(per_unit) / norm * (of_weight - along * direction)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@every_convolution
@pytest.mark.parametrize("init_std", [1.0, 0.1])
def test_initialisation_of_a_convolution_averages_over_rows_and_pixels(make, init_std):
    layer = randomized(make(init_std=init_std))
    x = normal(20, 3, 6, 7, mean=3.0, std=2.0)
    output = layer.init_from(x)
    assert torch.equal(layer(x), output)
    zero, one = torch.zeros(4, dtype=torch.float64), torch.full((4,), init_std, dtype=torch.float64)
    torch.testing.assert_close(output.mean(dim=(0, 2, 3)), zero, rtol=0, atol=1e-10)
    torch.testing.assert_close(output.std(dim=(0, 2, 3), correction=0), one, rtol=0, atol=1e-10)


def test_initialisation_gives_a_dense_layer_the_configured_std():
    output = randomized(WeightNormLinear(7, 5, init_std=0.1)).init_from(normal(500, 7, mean=3.0, std=2.0))
    torch.testing.assert_close(
        output.std(dim=0, correction=0), torch.full((5,), 0.1, dtype=torch.float64), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [CONVOLUTIONS[name] for name in ("same", "valid", "strided", "1x1")])
def test_initialisation_keeps_the_scale_of_a_constant_channel(make, dtype):
    layer, x = make().to(dtype), torch.randn(50, 3, 4, 5, dtype=dtype)
    x[:, 0] = 0.7
    with torch.no_grad():
        middle = layer.v.shape[-1] // 2
        # Only one tap is nonzero, so that the padding has no effect.
        layer.v[0] = 0.0
        layer.v[0, 0, middle, middle] = 2.0
    output = layer.init_from(x)
    assert layer.g[0].item() == 1.0
    assert output[:, 0].abs().max().item() < 1e-6
    torch.testing.assert_close(output[:, 1:].std(dim=(0, 2, 3), correction=0), torch.ones(3, dtype=dtype))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("build", "shape", "plain"),
    [
        (lambda **options: WeightNormLinear(5, 3, **options), (4, 5), nn.Linear),
        (lambda **options: WeightNormConv2d(2, 3, 3, 2, 1, **options), (4, 2, 7, 7), nn.Conv2d),
        (lambda **options: WeightNormConvTranspose2d(2, 3, 5, **options), (4, 2, 3, 3), nn.ConvTranspose2d),
        (lambda **options: WeightNormConvTranspose2d(2, 3, 4, **options), (4, 2, 3, 3), nn.ConvTranspose2d),
    ],
)
def test_folded_layers_are_torch_layers_with_equal_outputs(
    build: Any, shape: tuple[int, ...], plain: type[nn.Module], bias: bool
) -> None:
    layer, x = randomized(build(bias=bias)), normal(*shape)
    network = nn.Sequential(nn.ReLU(), nn.Sequential(layer))
    expected = network(x)
    folded = fold_weights(network)
    assert type(folded[1][0]) is plain
    assert {name for name, _ in folded.named_parameters()} == {"1.0.weight", *(["1.0.bias"] if bias else [])}
    torch.testing.assert_close(folded(x), expected, rtol=0, atol=1e-14)

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from layer_checks import gradcheck_with_parameters, normal, randomized
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from ssgan.nn.layers import BatchStatNorm, Dropout, GaussianNoise, MinibatchDiscrimination, VirtualBatchNorm
from ssgan.nn.weight_norm import WeightNormConv2d, WeightNormConvTranspose2d, WeightNormLinear

dense_and_convolutional = pytest.mark.parametrize("pixels", [(), (2, 3)], ids=["dense", "convolutional"])


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_gaussian_noise_is_off_at_evaluation():
    x = torch.randn(4, 5)
    kept = x.clone()
    noise = GaussianNoise(0.5)
    assert torch.equal(noise.eval()(x), kept)
    assert (noise.train()(x) != kept).all()
    assert torch.equal(x, kept)


def test_gaussian_noise_of_std_0_draws_no_random_number():
    x = torch.randn(4, 5)
    before = torch.get_rng_state()
    assert torch.equal(GaussianNoise(0.0)(x), x)
    assert torch.equal(torch.get_rng_state(), before)
    GaussianNoise(0.1)(x)
    assert not torch.equal(torch.get_rng_state(), before)


def test_gaussian_noise_has_the_configured_std():
    count = 200_000
    noise = GaussianNoise(0.3)(torch.full((count,), 2.0)) - 2.0
    # Five standard errors of the mean, of the std, and of the share within one std.
    assert noise.mean().item() == pytest.approx(0.0, abs=5 * 0.3 / count**0.5)
    assert noise.std().item() == pytest.approx(0.3, abs=5 * 0.3 / (2 * count) ** 0.5)
    assert (noise.abs() < 0.3).float().mean().item() == pytest.approx(0.6827, abs=5 * 0.4655 / count**0.5)


def test_gaussian_noise_differs_between_seeds_under_vmap():
    noise = GaussianNoise(0.3)
    x = torch.randn(5, 7).expand(3, 5, 7)
    noisy = vmap(noise, randomness="different")(x)
    added = (noisy - x).flatten(1)
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert (added[a] != added[b]).all()
        assert abs(torch.corrcoef(added[[a, b]])[0, 1].item()) < 0.6
    noise.eval()
    assert torch.equal(vmap(noise, randomness="different")(x), x)


def channels_last(*shape: int) -> Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def test_gaussian_noise_is_independent_in_channels_last_images():
    """The memory layout has no effect."""
    x = channels_last(40, 6, 9, 10)
    added = GaussianNoise(0.3)(x) - x
    assert added.std().item() == pytest.approx(0.3, rel=0.05)
    assert abs(torch.corrcoef(torch.stack([added[:, 0].flatten(), added[:, 1].flatten()]))[0, 1].item()) < 0.1
    assert abs(torch.corrcoef(torch.stack([added[:20].flatten(), added[20:].flatten()]))[0, 1].item()) < 0.1


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_dropout_sets_a_share_to_zero_and_keeps_the_mean(share):
    x = normal(200, 300, mean=2.0)
    y = Dropout(share)(x)
    dropped = y == 0
    # Five standard errors of a share of 60,000.
    assert dropped.double().mean().item() == pytest.approx(share, abs=5 * (share * (1 - share) / 60_000) ** 0.5)
    torch.testing.assert_close(y[~dropped], x[~dropped] / (1 - share), rtol=1e-15, atol=0)
    x.requires_grad_()
    torch.manual_seed(4)
    (gradient,) = torch.autograd.grad(Dropout(share)(x).sum(), x)
    torch.manual_seed(4)
    assert torch.equal(gradient, Dropout(share)(torch.ones_like(x)))


def test_dropout_is_off_at_evaluation_and_at_probability_0():
    x = torch.randn(4, 5)
    before = torch.get_rng_state()
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(Dropout(0.5)(x), x)


def test_dropout_differs_between_seeds_under_vmap():
    dropped = vmap(Dropout(0.5), randomness="different")(torch.ones(3, 500))
    assert ((dropped == 0).double().mean(dim=1) - 0.5).abs().max() < 0.12
    assert not torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[1], dropped[2])


@pytest.mark.parametrize("std", [1.0, 1e-3])
@pytest.mark.parametrize("training", [True, False])
@dense_and_convolutional
def test_batch_stat_norm_equals_torch_in_training(pixels, training, std):
    # At a standard deviation of 1e-3 the variance is as small as epsilon.
    layer = randomized(BatchStatNorm(3)).train(training)
    x = normal(6, 3, *pixels, mean=2.0, std=std).requires_grad_()
    expected = F.batch_norm(x, None, None, bias=layer.beta, training=True, eps=1e-6)
    actual = layer(x)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)
    weights = normal(*x.shape)
    mine, theirs = (torch.autograd.grad((weights * y).sum(), [x, layer.beta]) for y in (actual, expected))
    for gradient, expected_gradient in zip(mine, theirs, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-11)


@dense_and_convolutional
def test_batch_stat_norm_with_a_gain_equals_torch(pixels):
    layer = randomized(BatchStatNorm(3, gain=True))
    x = normal(6, 3, *pixels, mean=2.0)
    expected = F.batch_norm(x, None, None, weight=layer.gamma, bias=layer.beta, training=True, eps=1e-6)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-11)
    assert set(dict(BatchStatNorm(3).named_parameters())) == {"beta"}
    assert torch.equal(BatchStatNorm(3, gain=True).gamma, torch.ones(3))


@dense_and_convolutional
def test_batch_stat_norm_uses_the_reference_moments_at_evaluation(pixels):
    layer = randomized(BatchStatNorm(3, gain=True, reference_rows=4)).eval()
    reference, x = normal(4, 3, *pixels, mean=2.0), normal(5, 3, *pixels, std=3.0)
    y = layer(torch.cat([reference, x]))
    shape = (1, 3, *[1 for _ in pixels])
    axes = (0, *range(2, x.dim()))
    mean, variance = reference.mean(dim=axes).view(shape), reference.var(dim=axes, correction=0).view(shape)
    expected = layer.gamma.view(shape) * (x - mean) / (variance + 1e-6).sqrt() + layer.beta.view(shape)
    torch.testing.assert_close(y[4:], expected, rtol=0, atol=1e-12)
    # While training, and without a reference, the moments are those of the whole batch.
    whole = randomized(BatchStatNorm(3, gain=True))
    whole.load_state_dict(layer.state_dict())
    both = torch.cat([reference, x])
    assert torch.equal(layer.train()(both), whole.eval()(both))
    assert not torch.allclose(layer(both), y)


def virtual_batch_norm_by_loops(x: Tensor, ref: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple:
    """The formula of virtual batch norm in plain loops; returns (y, y_ref)."""
    rows, ref_rows, features = len(x), len(ref), x.shape[1]
    x_flat, ref_flat = x.reshape(rows, features, -1).tolist(), ref.reshape(ref_rows, features, -1).tolist()
    pixels = len(x_flat[0][0])
    gammas, betas = gamma.tolist(), beta.tolist()
    y, y_ref = np.zeros((rows, features, pixels)), np.zeros((ref_rows, features, pixels))
    c = 1.0 / (ref_rows + 1)
    for f in range(features):
        m_ref = sum(ref_flat[r][f][p] for r in range(ref_rows) for p in range(pixels)) / (ref_rows * pixels)
        v_ref = sum((ref_flat[r][f][p] - m_ref) ** 2 for r in range(ref_rows) for p in range(pixels))
        v_ref /= ref_rows * pixels
        for r in range(ref_rows):
            for p in range(pixels):
                y_ref[r, f, p] = gammas[f] * (ref_flat[r][f][p] - m_ref) / (eps + v_ref) ** 0.5 + betas[f]
        for i in range(rows):
            m_i = sum(x_flat[i][f]) / pixels
            v_i = sum((value - m_i) ** 2 for value in x_flat[i][f]) / pixels
            mean_i = c * m_i + (1 - c) * m_ref
            var_i = c * v_i + (1 - c) * v_ref + c * (1 - c) * (m_i - m_ref) ** 2
            for p in range(pixels):
                y[i, f, p] = gammas[f] * (x_flat[i][f][p] - mean_i) / (eps + var_i) ** 0.5 + betas[f]
    return y.reshape(x.shape), y_ref.reshape(ref.shape)


@pytest.mark.parametrize("std", [1.0, 1e-3])
@dense_and_convolutional
def test_virtual_batch_norm_equals_the_formula(pixels, std):
    layer = randomized(VirtualBatchNorm(2))
    x, ref = normal(3, 2, *pixels, mean=2.0, std=std), normal(4, 2, *pixels, mean=2.0 + std, std=0.7 * std)
    y, y_ref = layer(x, ref)
    expected, expected_ref = virtual_batch_norm_by_loops(x, ref, layer.gamma.detach(), layer.beta.detach(), eps=1e-6)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(y_ref.detach().numpy(), expected_ref, rtol=0, atol=1e-11)


@dense_and_convolutional
def test_virtual_batch_norm_uses_joint_moments_of_reference_batch_and_row(pixels):
    layer = VirtualBatchNorm(2).double()
    x, ref = normal(3, 2, *pixels, mean=5.0, std=2.0), normal(4, 2, *pixels)
    y = layer(x, ref)[0].detach().numpy()
    for i in range(3):
        both = np.concatenate([ref.numpy(), x[i : i + 1].numpy()])
        axes = (0, *range(2, both.ndim))
        mean, variance = both.mean(axis=axes, keepdims=True)[0], both.var(axis=axes, keepdims=True)[0]
        np.testing.assert_allclose(y[i], (x[i].numpy() - mean) / np.sqrt(variance + 1e-6), rtol=0, atol=1e-12)


@dense_and_convolutional
def test_virtual_batch_norm_of_a_row_does_not_depend_on_other_rows(pixels):
    layer = randomized(VirtualBatchNorm(2))
    x, ref = normal(5, 2, *pixels), normal(4, 2, *pixels)
    y, _ = layer(x, ref)
    others = torch.cat([x[:1], 100.0 * normal(4, 2, *pixels)])
    torch.testing.assert_close(layer(others, ref)[0][0], y[0], rtol=0, atol=1e-13)
    torch.testing.assert_close(layer(x[:1], ref)[0][0], y[0], rtol=0, atol=1e-13)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(layer(x[order], ref)[0], y[order], rtol=0, atol=1e-13)


@pytest.mark.parametrize("training", [True, False])
def test_virtual_batch_norm_keeps_no_state_between_calls(training):
    layer = randomized(VirtualBatchNorm(2)).train(training)
    x, ref = normal(5, 2), normal(4, 2)
    first, first_ref = layer(x, ref)
    for _ in range(3):
        layer(normal(6, 2), normal(3, 2))
        again, again_ref = layer(x, ref)
        assert torch.equal(again, first)
        assert torch.equal(again_ref, first_ref)


@dense_and_convolutional
def test_virtual_batch_norm_normalises_the_reference_by_its_own_moments(pixels):
    layer = randomized(VirtualBatchNorm(2))
    ref = normal(4, 2, *pixels, mean=1.0, std=3.0)
    expected = F.batch_norm(ref, None, None, weight=layer.gamma, bias=layer.beta, training=True, eps=1e-6)
    for rows in (1, 5):
        y_ref = layer(normal(rows, 2, *pixels, mean=-7.0), ref)[1]
        torch.testing.assert_close(y_ref, expected, rtol=0, atol=1e-12)


@dense_and_convolutional
def test_virtual_batch_norm_gradients_flow_through_both_batches(pixels):
    layer = randomized(VirtualBatchNorm(2))
    x, ref = normal(3, 2, *pixels), normal(4, 2, *pixels)
    assert gradcheck_with_parameters(layer, x, ref)
    ref.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x, ref)[0].square().sum(), ref)
    assert gradient.abs().min() > 1e-6


@dense_and_convolutional
def test_virtual_batch_norm_has_no_cancellation_in_float32(pixels):
    layer = VirtualBatchNorm(3)
    x, ref = normal(8, 3, *pixels, mean=1e4).float(), normal(20, 3, *pixels, mean=1e4).float()
    expected, expected_ref = VirtualBatchNorm(3).double()(x.double(), ref.double())
    y, y_ref = layer(x, ref)
    assert y.dtype == y_ref.dtype == torch.float32
    # A mean near 1e4 is rounded to a multiple of 1e-3; squares near 1e8 would be rounded to multiples of 8.
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=3e-3)
    torch.testing.assert_close(y_ref.double(), expected_ref, rtol=0, atol=3e-3)


@dense_and_convolutional
def test_virtual_batch_norm_of_bfloat16_computes_in_float32(pixels):
    x, ref = normal(8, 3, *pixels, mean=10.0).bfloat16(), normal(20, 3, *pixels, mean=10.0).bfloat16()
    expected, expected_ref = VirtualBatchNorm(3).double()(x.double(), ref.double())
    y, y_ref = VirtualBatchNorm(3)(x, ref)
    assert y.dtype == y_ref.dtype == torch.bfloat16
    # Only the result is rounded, to half a unit in the last of 8 bits.
    torch.testing.assert_close(y.double(), expected, rtol=2.0**-8, atol=1e-5)
    torch.testing.assert_close(y_ref.double(), expected_ref, rtol=2.0**-8, atol=1e-5)


def closeness_by_loops(layer: MinibatchDiscrimination, f: Tensor, reference: Tensor | None = None) -> np.ndarray:
    """The sums of exp(-L1), without the bias; a row is not compared with itself."""
    weight = layer.weight().detach().numpy()
    others = f if reference is None else reference
    sums = np.zeros((len(f), weight.shape[1]))
    for i in range(len(f)):
        for b in range(weight.shape[1]):
            for j in range(len(others)):
                if reference is None and i == j:
                    continue
                distance = np.abs(f[i].numpy() @ weight[:, b] - others[j].numpy() @ weight[:, b]).sum()
                sums[i, b] += np.exp(-distance)
    return sums


@pytest.mark.parametrize("compared", ["with its batch", "with a reference"])
def test_minibatch_discrimination_equals_the_formula(compared):
    layer = randomized(MinibatchDiscrimination(4, 3, 2))
    f, reference = normal(5, 4, std=0.1), None if compared == "with its batch" else normal(6, 4, std=0.1)
    output = layer(f, reference).detach()
    assert torch.equal(output[:, :4], f)
    expected = closeness_by_loops(layer, f, reference) + layer.bias.detach().numpy()
    np.testing.assert_allclose(output[:, 4:].numpy(), expected, rtol=0, atol=1e-13)
    assert closeness_by_loops(layer, f, reference).max(axis=0).min() > 0.1


def test_minibatch_discrimination_of_identical_rows_counts_the_others():
    layer = MinibatchDiscrimination(4, 3).double()
    closeness = layer(normal(1, 4).repeat(6, 1))[:, 4:]
    torch.testing.assert_close(closeness, torch.full((6, 3), 5.0, dtype=torch.float64), rtol=0, atol=1e-13)


def test_minibatch_discrimination_of_rows_far_apart_is_zero():
    layer = MinibatchDiscrimination(4, 3).double()
    f = 1e4 * torch.arange(6.0, dtype=torch.float64)[:, None] * normal(4)
    assert layer(f)[:, 4:].abs().max().item() < 1e-13


def test_minibatch_discrimination_columns_have_the_norm_of_the_scale():
    layer = randomized(MinibatchDiscrimination(4, 3, 2))
    torch.testing.assert_close(layer.weight().norm(dim=0), layer.log_scale.exp(), rtol=0, atol=1e-13)


def test_minibatch_discrimination_init_sets_scale_and_bias_from_the_batch():
    layer = randomized(MinibatchDiscrimination(4, 3, 2))
    f = normal(30, 4, mean=2.0, std=5.0)
    output = layer.init_from(f)
    assert torch.equal(layer(f), output)
    assert torch.equal(output[:, :4], f)
    torch.testing.assert_close(output[:, 4:].mean(dim=0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    m = torch.einsum("ba,akc->bkc", f, layer.weight())
    for kernel in range(3):
        distances = torch.cdist(m[:, kernel], m[:, kernel], p=1).fill_diagonal_(torch.inf)
        assert 0.5 * distances.amin(dim=1).mean().item() == pytest.approx(1.0, abs=1e-12)


def test_minibatch_discrimination_with_a_reference_ignores_other_rows():
    layer = randomized(MinibatchDiscrimination(4, 3, 2))
    f, reference = normal(5, 4, std=0.1), normal(6, 4, std=0.1)
    output = layer(f, reference)
    others = torch.cat([f[:1], 10.0 * normal(4, 4)])
    torch.testing.assert_close(layer(others, reference)[0], output[0], rtol=0, atol=1e-13)
    torch.testing.assert_close(layer(f[:1], reference)[0], output[0], rtol=0, atol=1e-13)
    # Without a reference it does.
    assert (layer(others)[0, 4:] - layer(f)[0, 4:]).abs().max() > 0.1


def test_minibatch_discrimination_gradients_agree_with_finite_differences():
    layer = randomized(MinibatchDiscrimination(3, 2, 2))
    assert gradcheck_with_parameters(layer, normal(4, 3, std=0.3))
    assert gradcheck_with_parameters(layer, normal(4, 3, std=0.3), normal(5, 3, std=0.3))


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (lambda: WeightNormLinear(4, 3), [(5, 4)]),
        (lambda: WeightNormConv2d(4, 3, 3, 2, 1), [(5, 4, 6, 5)]),
        (lambda: WeightNormConvTranspose2d(4, 3, 5), [(5, 4, 3, 2)]),
        (lambda: BatchStatNorm(4), [(5, 4)]),
        (lambda: BatchStatNorm(4, gain=True, reference_rows=2).eval(), [(5, 4, 3, 2)]),
        (lambda: VirtualBatchNorm(4), [(5, 4, 2, 2), (6, 4, 2, 2)]),
        (lambda: MinibatchDiscrimination(4, 3, 2), [(5, 4)]),
    ],
    ids=[
        "weight-norm",
        "weight-norm-convolution",
        "weight-norm-deconvolution",
        "batch-stat",
        "batch-stat-with-reference",
        "virtual-batch-norm",
        "minibatch-discrimination",
    ],
)
def test_vmap_over_stacked_seeds_equals_the_loop(make, shapes):
    seeds = [randomized(make()) for _ in range(3)]
    inputs = [normal(3, *shape) for shape in shapes]
    parameters, buffers = stack_module_state(seeds)
    stacked = vmap(lambda p, b, *x: functional_call(seeds[0], (p, b), x))(parameters, buffers, *inputs)
    for i, layer in enumerate(seeds):
        outputs, expected = stacked, layer(*[x[i] for x in inputs])
        if not isinstance(expected, tuple):
            outputs, expected = (outputs,), (expected,)
        for output, one in zip(outputs, expected, strict=True):
            torch.testing.assert_close(output[i], one, rtol=0, atol=1e-12)

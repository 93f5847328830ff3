"""Training of the convolutional networks: initialisation, batches, noise, checkpoints and settings."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conv_networks import (
    CONVOLUTIONAL,
    QUIET,
    described,
    every_network,
    every_weight_normed,
    narrow,
    noise,
    pair,
    pictures,
)
from small_configs import tiny
from small_trainings import same_bits, weights
from torch import Tensor, nn

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.errors import UserError
from ssgan.inference.models import Models
from ssgan.nn.layers import Dropout, GaussianNoise
from ssgan.nn.stack import choose_strategy
from ssgan.nn.weight_norm import WeightNormConv2d, WeightNormLinear
from ssgan.settings.catalog import NETWORK_NAMES, NETWORKS, check_image_shape
from ssgan.training.trainer import train

# Trained parameters and initialisation


@every_weight_normed
def test_weight_norm_scales_are_frozen_except_in_the_last_layers(network: str) -> None:
    D, G = pair(narrow(network))
    layers = [layer for layer in D.modules() if isinstance(layer, WeightNormConv2d | WeightNormLinear)]
    trained = [isinstance(layer.g, nn.Parameter) for layer in layers]
    if network != "wide-resnet":
        assert trained == [False] * (len(layers) - 1) + [True]
    fixed_filters = {"weight"} if network == "whitened-conv" else set()
    assert {name.rsplit(".", 1)[1] for name, _ in D.named_buffers()} == {"g", *fixed_filters}
    assert all(isinstance(layer.v, nn.Parameter) and isinstance(layer.b, nn.Parameter) for layer in layers)
    assert [name for name, _ in G.named_parameters() if name.endswith(".g")] == ["output.0.g"]


@every_weight_normed
def test_initialisation_gives_every_unit_mean_0_and_its_std(network: str) -> None:
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
    assert len(seen) == {"paper-conv": 10, "compact-conv": 5, "whitened-conv": 6, "wide-resnet": 29}[network] + 1
    torch.testing.assert_close(logits.std(dim=0, correction=0), torch.full((10,), 0.1, dtype=torch.float64))


def test_the_trainer_initialises_the_generator() -> None:
    """Before tanh, the first images have a standard deviation near 0.1 also on new noise."""
    data, config = random_images(32, 32, 3), narrow("paper-conv", batch_size=50, labels=50, total_images=50)
    run = train(data, config.replace(learning_rate_g=0.0))
    images = torch.from_numpy(run.models.sample(100)[0]) * 2 - 1
    assert images.atanh().std().item() == pytest.approx(0.1, rel=0.2)


def test_dcgan_initialisation_stores_reference_images_and_changes_no_weight() -> None:
    D, G = pair(narrow("dcgan"))
    before = [value.detach().clone() for value in [*D.parameters(), *G.parameters()]]
    x = pictures(20, 32, 32, 3)
    D.initialize(x)
    G.initialize(noise(narrow("dcgan"), 5))
    after = [*D.parameters(), *G.parameters()]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(before, after, strict=True))
    # One image less than a training batch.
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


# Dependence on the other images of a batch


@every_network
@pytest.mark.parametrize("norm", ["batch", "virtual", "none"])
def test_generated_image_depends_on_the_batch_only_with_batch_norm(network: str, norm: str) -> None:
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
def test_prediction_at_evaluation_does_not_depend_on_the_batch(network: str, kernels: int) -> None:
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


def test_dcgan_evaluation_normalises_by_the_reference_batch() -> None:
    """At evaluation, the stored images give the same outputs as in training as a batch of their own."""
    D, _ = pair(narrow("dcgan", **QUIET))
    x = pictures(20, 32, 32, 3)
    D.initialize(x)
    in_training = D(x[:3])
    for ours, theirs in zip(D.eval()(x[:3]), in_training, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


# Noise and dropout


LAYER_COUNTS = {
    # (number of convolutions with noise before them, number of hidden dropout layers)
    "paper-conv": (8, 2),
    "compact-conv": (3, 3),
    "whitened-conv": (5, 3),
    "wide-resnet": (24, 12),
    "dcgan": (2, 3),
}


@every_network
def test_networks_have_the_expected_noise_and_dropout_layers(network: str) -> None:
    config = narrow(network, noise_input_std=0.1, noise_hidden_std=0.7, dropout_input=0.2, dropout_hidden=0.6)
    D, _ = pair(config)
    assert described(D.trunk)[:2] == ["dropout 0.2", "noise 0.1"]
    words = [word for layer in D.modules() for word in described(nn.Sequential(layer))]
    before, inside = LAYER_COUNTS[network]
    assert words.count("noise 0.1") == words.count("dropout 0.2") == 1
    # One more is before the output layer.
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
    """Random uint8 images whose brightness depends on the class."""
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


def test_a_layer_of_one_channel_trains_in_float64_under_vmap() -> None:
    """torch cannot differentiate its kernel in channels-last layout."""
    settings = {"discriminator_widths": (1, 2, 3), "dtype": "float64", "seed_strategy": "vmap", "total_images": 4}
    assert train(random_images(32, 32, 3), narrow("compact-conv", **settings)).models.finite == [True]


def test_auto_seed_strategy_is_loop_on_cpu_and_vmap_on_cuda() -> None:
    assert choose_strategy(1, "cpu") == choose_strategy(1, "cuda") == "direct"
    assert choose_strategy(2, "cpu") == "loop"
    assert choose_strategy(2, "cuda") == "vmap"
    assert train(random_images(32, 32, 3), narrow("compact-conv", seeds=2, total_images=4)).trainer.strategy == "loop"


@every_network
def test_checkpoint_restores_bit_identical_models(network: str, tmp_path: Path) -> None:
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
def test_resumed_training_equals_uninterrupted_training(network: str) -> None:
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


# Every network setting has an effect


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
    """Each pixel is repeated 3x3 times, so that the images are large enough for the strides."""
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
        assert "Network dcgan accepts images of 17x17 to 64x64 pixels" in capsys.readouterr().err
    assert not folder.exists()


def test_shapes_accepted_by_the_check_work_in_the_networks() -> None:
    for network in CONVOLUTIONAL:
        for shape in ((28, 28), (32, 32), (64, 64, 3), (8, 8), (31, 32)):
            try:
                check_image_shape(network, shape)
            except UserError:
                continue
            _, G = pair(narrow(network), shape)
            assert G(noise(narrow(network), 2)).shape == (2, *shape)

"""Defaults of the networks, and the image shapes that they accept."""

from typing import Any

import pytest
from setting_values import refusal

from ssgan.errors import UserError
from ssgan.settings.catalog import NETWORK_NAMES, NETWORK_SETTINGS, NETWORKS, check_image_shape, is_picture_shape
from ssgan.settings.config import Config
from ssgan.settings.presets import resolve


def own(network: str) -> dict[str, Any]:
    return {name: getattr(Config(network=network), name) for name in NETWORK_SETTINGS}


def test_every_network_has_its_own_value_of_the_same_settings() -> None:
    assert tuple(NETWORKS) == NETWORK_NAMES
    for network, traits in NETWORKS.items():
        assert set(traits.settings) == set(NETWORK_SETTINGS)
        assert own(network) == traits.settings
        assert {name: Config(network=network).default(name) for name in NETWORK_SETTINGS} == traits.settings
    assert own("mlp")["discriminator_widths"] == (1000, 500, 250, 250, 250)
    assert own("paper-conv")["dropout_hidden"] == 0.5


def test_explicit_settings_override_network_defaults() -> None:
    chosen = {"discriminator_widths": (64, 128), "dropout_input": 0.0, "noise_hidden_std": 0.5}
    for config in (
        Config(network="paper-conv", **chosen),
        Config(network="paper-conv").replace(**chosen),
        resolve("mnist-paper", {"network": "paper-conv", **chosen}),
    ):
        assert {name: getattr(config, name) for name in NETWORK_SETTINGS} == {**own("paper-conv"), **chosen}


def test_change_of_network_resets_settings_of_the_network() -> None:
    """The widths and the noise of preset digits belong to its MLP; its loss weights and learning rates stay."""
    digits = resolve("digits", {})
    earlier = resolve("digits", {"network": "compact-conv", "generator_widths": (20, 10)})
    for config in (resolve("digits", {"network": "compact-conv"}), digits.replace(network="compact-conv")):
        assert {name: getattr(config, name) for name in NETWORK_SETTINGS} == own("compact-conv")
        assert config.learning_rate_g == digits.learning_rate_g
    again = resolve("digits", {"labels": 20}, earlier.to_dict())
    assert (again.network, again.generator_widths) == ("compact-conv", (20, 10))
    assert own("mlp") == {
        name: getattr(resolve("digits", {"network": "mlp"}, earlier.to_dict()), name) for name in NETWORK_SETTINGS
    }
    # Setting the same network again changes nothing.
    assert resolve("digits", {"network": "mlp"}) == digits
    assert digits.replace(network="mlp") == digits


def test_hash_depends_on_differences_from_network_defaults() -> None:
    """Results from before these settings existed keep their hash; an explicit default does not change it."""
    assert resolve("mnist-paper", {}).sha256 == "eb6edc3035f3cb0e6ab1c059c3282a9651a23a8c127c1ac29fd92c5631f5c896"
    assert resolve("digits", {}).sha256 == "ec7f823ae12b9056545ebd54695c60f159672acc29374140660d0e80b30b221d"
    for network in NETWORK_NAMES:
        assert Config(network=network, **own(network)).sha256 == Config(network=network).sha256
    assert len({Config(network=network).sha256 for network in NETWORK_NAMES}) == len(NETWORK_NAMES)
    assert Config(network="paper-conv", dropout_input=0.0).sha256 != Config(network="paper-conv").sha256


WRONG_WIDTHS = {
    "paper-conv": (
        "discriminator_widths",
        (96,),
        "discriminator_widths is 96, but network paper-conv accepts 2 numbers.",
    ),
    "compact-conv": (
        "discriminator_widths",
        (1000, 500, 250, 250, 250),
        "discriminator_widths is 1000,500,250,250,250, but network compact-conv accepts 3 numbers.",
    ),
    "whitened-conv": (
        "discriminator_widths",
        (32, 64),
        "discriminator_widths is 32,64, but network whitened-conv accepts 3 numbers.",
    ),
    "wide-resnet": (
        "discriminator_widths",
        (32, 64),
        "discriminator_widths is 32,64, but network wide-resnet accepts 3 numbers.",
    ),
    "dcgan": ("generator_widths", (64, 32), "generator_widths is 64,32, but network dcgan accepts 1 number."),
}


@pytest.mark.parametrize("network", WRONG_WIDTHS)
def test_refuses_wrong_number_of_widths(network: str) -> None:
    name, widths, sentence = WRONG_WIDTHS[network]
    assert refusal(network=network, **{name: widths}) == sentence


IMAGE_SHAPES = {
    "mlp": ([(5,), (1, 1), (8, 8), (3, 4, 7)], []),
    "paper-conv": ([(9, 9), (9, 40), (32, 32, 3), (28, 28, 1)], [(8, 9), (9, 8), (32, 32, 2), (3, 32, 32), (784,)]),
    "compact-conv": ([(17, 17), (33, 48, 3)], [(16, 17), (17, 16), (784,)]),
    "whitened-conv": ([(9, 9), (33, 48, 3)], [(8, 9), (9, 8), (784,)]),
    "wide-resnet": ([(8, 8), (33, 48, 3)], [(7, 8), (8, 7), (64,)]),
    "dcgan": ([(32, 32), (64, 64, 3), (28, 28), (17, 64)], [(16, 17), (64, 65, 3), (128, 128), (32, 32, 2), (32,)]),
    "gan-mlp": ([(5,), (1, 1), (8, 8), (3, 4, 7)], []),
    "toy": ([(1,), (64,)], [(8, 8), (3, 4, 7)]),
    "features": ([(1,), (1280,)], [(8, 8), (32, 32, 3)]),
}


@pytest.mark.parametrize("network", NETWORK_NAMES)
def test_network_refuses_unsupported_image_shapes(network: str) -> None:
    fit, unfit = IMAGE_SHAPES[network]
    for shape in fit:
        check_image_shape(network, shape)
    for shape in unfit:
        with pytest.raises(UserError, match=f"Network {network} accepts (images of .* pixels|vectors)") as refused:
            check_image_shape(network, shape)
        assert str(list(shape)) in str(refused.value)


def test_image_shape_error_names_the_accepted_sizes() -> None:
    with pytest.raises(UserError) as refused:
        check_image_shape("dcgan", (28, 65))
    assert str(refused.value) == (
        "Network dcgan accepts images of 17x17 to 64x64 pixels, [H, W] or [H, W, C] with 1 or 3 channels, "
        "but these are [28, 65]: choose another network, or for files of pictures another image_size."
    )
    with pytest.raises(UserError, match="accepts images of at least 9x9 pixels"):
        check_image_shape("paper-conv", (8, 8))


def test_paper_presets_match_the_published_settings() -> None:
    cifar, svhn = resolve("cifar10-paper", {}), resolve("svhn-paper", {})
    assert (cifar.labels, cifar.total_images, cifar.discriminator_widths) == (4000, 1200 * 50_000, (96, 192))
    assert (svhn.labels, svhn.total_images, svhn.discriminator_widths) == (1000, 900 * 73_257, (64, 128))
    for config in (cifar, svhn):
        assert config.network == "paper-conv"
        assert config.generator_widths == (512, 256, 128)
        assert (config.dropout_input, config.dropout_hidden) == (0.2, 0.5)
        assert (config.noise_input_std, config.noise_hidden_std) == (0.0, 0.0)
        assert (config.learning_rate_d, config.learning_rate_g, config.decay_last_fraction) == (3e-4, 3e-4, 1 / 3)
        assert (config.weight_unlabeled, config.weight_fake, config.feature_matching_norm) == (0.5, 0.5, "l1")
        assert (config.adam_beta1, config.adam_epsilon, config.adam_epsilon_inside_root) == (0.5, 1e-8, True)
        assert (config.batch_size, config.init_images, config.latent_size) == (100, 500, 100)
        assert config.ema_half_life_images == Config().ema_half_life_images


@pytest.mark.parametrize(
    ("shape", "is_picture"),
    [((8, 8), True), ((8, 8, 1), True), ((8, 8, 3), True), ((64,), False), ((8, 8, 2), False), ((8, 8, 3, 1), False)],
)
def test_is_picture_shape(shape: tuple[int, ...], is_picture: bool) -> None:
    assert is_picture_shape(shape) is is_picture

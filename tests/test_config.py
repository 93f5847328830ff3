"""Settings: documented, checked, read from words, hashed by what decides a result."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any, Literal

import pytest

import ssgan
from ssgan.errors import UserError
from ssgan.nn.registry import MODELS
from ssgan.settings.catalog import METHOD_NAMES, NETWORK_NAMES, NETWORK_SETTINGS, NETWORKS, check_image_shape
from ssgan.settings.config import Config
from ssgan.settings.options import Options
from ssgan.settings.presets import PRESETS, describe, parse, resolve
from ssgan.settings.rules import METHOD_NEEDS, NEEDS
from ssgan.training.methods import METHODS

FIELDS = {field.name: field for field in dataclasses.fields(Config)}
TYPES = typing.get_type_hints(Config)
WIDTHS = [name for name in FIELDS if TYPES[name] == tuple[int, ...]]
NUMBERS = [
    name for name in FIELDS if {int, float} & {TYPES[name], *typing.get_args(TYPES[name])} and name not in WIDTHS
]
# With a second objective, each of them alone may be 0.
BASE = {"weight_minimax": 1.0}


def refusal(**settings: Any) -> str:
    with pytest.raises(UserError) as refused:
        Config(**settings)
    return str(refused.value)


def other_value(name: str) -> Any:
    """A valid value of the field that is not its default."""
    annotation, default = TYPES[name], getattr(Config(), name)
    if annotation is bool:
        return not default
    if annotation is str:
        return "cpu"
    if annotation is float:
        return default / 2 + 0.001
    if typing.get_origin(annotation) is Literal:
        return next((word for word in typing.get_args(annotation) if word != default), default)
    if annotation == tuple[int, ...]:
        return (*default, 7)
    if float in typing.get_args(annotation):
        return 0.5
    return (default or 0) + 20


# Documentation


def test_every_field_has_a_unit_and_a_text() -> None:
    for field in FIELDS.values():
        for key in ("unit", "text"):
            assert isinstance(field.metadata[key], str), field.name
            assert field.metadata[key].strip(), field.name


def test_names_equal_the_registries() -> None:
    assert typing.get_args(TYPES["method"]) == METHOD_NAMES == tuple(METHODS)
    assert typing.get_args(TYPES["network"]) == NETWORK_NAMES == tuple(MODELS)


def test_the_defaults_are_valid_and_of_their_types() -> None:
    config = Config()
    for name in NUMBERS:
        if (value := getattr(config, name)) is not None:
            assert type(value) is (float if TYPES[name] is float else int), name


def test_describe_lists_every_field_in_order_with_its_unit() -> None:
    config = Config(labels=50, discriminator_widths=(300, 150), learning_rate_d=0.002, total_images=18_000_000)
    lines = describe(config)
    assert [name for name, _, _ in lines] == list(FIELDS)
    assert [unit for _, _, unit in lines] == [field.metadata["unit"] for field in FIELDS.values()]
    shown = {name: value for name, value, _ in lines}
    expected = {
        "labels": "50",
        "draw_seed": "none",
        "method": "gan",
        "total_images": "18000000",
        "discriminator_widths": "300,150",
        "learning_rate_d": "0.002",
        "adam_epsilon_inside_root": "true",
    }
    assert {name: shown[name] for name in expected} == expected


# Presets


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_difference(preset: str) -> None:
    config = resolve(preset, {})
    assert PRESETS[preset].keys() <= FIELDS.keys() - {"preset"}
    for name, value in PRESETS[preset].items():
        assert getattr(config, name) == value
        assert name == "network" or getattr(config, name) != config.default(name), f"{name} is the default"
    changed = {name: ours for name, (_, ours) in Config(network=config.network).diff(config).items()}
    assert changed == {k: v for k, v in {**PRESETS[preset], "preset": preset}.items() if k != "network"}
    assert PRESETS[preset].get("network", "mlp") == config.network


def test_the_users_own_settings_win_over_the_preset() -> None:
    config = resolve("digits", {"labels": 20, "batch_size": 7})
    assert (config.labels, config.batch_size, config.total_images) == (20, 7, PRESETS["digits"]["total_images"])


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UserError) as refused:
        resolve("digit", {})
    assert str(refused.value).startswith(f"Unknown preset 'digit': choose from {', '.join(PRESETS)}")
    assert "Did you mean 'digits'?" in str(refused.value)


def test_an_unknown_field_suggests_a_known_one() -> None:
    with pytest.raises(UserError) as refused:
        resolve("digits", {"bach_size": 3})
    assert str(refused.value) == "Unknown setting 'bach_size'. Did you mean 'batch_size'?"


# Reading field=value


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("batch_size=32", 32),
        ("seed=0", 0),
        ("learning_rate_d=3e-4", 3e-4),
        ("weight_fake=1", 1.0),
        ("adam_epsilon_inside_root=false", False),
        ("adam_epsilon_inside_root=No", False),
        ("adam_epsilon_inside_root=0", False),
        ("adam_epsilon_inside_root=yes", True),
        ("adam_epsilon_inside_root=TRUE", True),
        ("adam_epsilon_inside_root=1", True),
        ("discriminator_widths=300,150", (300, 150)),
        ("discriminator_widths=300", (300,)),
        ("generator_widths= 20, 10 ", (20, 10)),
        ("labels=50", 50),
        ("labels=all", "all"),
        ("labels=none", None),
        ("draw_seed=7", 7),
        ("draw_seed=None", None),
        ("image_size=28", 28),
        ("image_size=none", None),
        ("image_mode=grey", "grey"),
        ("test_share=0", 0.0),
        ("method=supervised", "supervised"),
        ("device=cuda:1", "cuda:1"),
        (" dtype = float64 ", "float64"),
    ],
)
def test_a_setting_is_read_as_the_type_of_its_field(assignment: str, value: Any) -> None:
    name, read = parse(assignment)
    assert name == assignment.partition("=")[0].strip()
    assert type(read) is type(value)
    assert read == value
    assert Config(**{name: read}) == Config().replace(**{name: value})


UNREADABLE = {
    "batch_size": "'batch_size' is no setting: write field=value, such as batch_size=100.",
    "batch_size=abc": "batch_size is 'abc', but must be a whole number at least 2.",
    "batch_size=": "batch_size is '', but must be a whole number at least 2.",
    "batch_size=1.5": "batch_size is '1.5', but must be a whole number at least 2.",
    "learning_rate_d=fast": "learning_rate_d is 'fast', but must be a finite number at least 0.",
    "real_target=x": "real_target is 'x', but must be a finite number at least 0 and at most 1.",
    "adam_epsilon=x": "adam_epsilon is 'x', but must be a finite number above 0 and at most 1.",
    "adam_epsilon_inside_root=maybe": "adam_epsilon_inside_root is 'maybe', but must be true or false.",
    "discriminator_widths=30,x": (
        "discriminator_widths is '30,x', but must be whole numbers separated by commas, each at least 1."
    ),
    "labels=few": "labels is 'few', but must be a whole number at least 0, or 'all', or none.",
    "draw_seed=all": "draw_seed is 'all', but must be a whole number at least 0 and at most 2147483648, or none.",
    "lerning_rate_d=1": "Unknown setting 'lerning_rate_d'. Did you mean 'learning_rate_d'?",
    "zzzz=1": "Unknown setting 'zzzz'. `ssgan train DATA --dry-run` lists them all.",
}


@pytest.mark.parametrize(("assignment", "sentence"), UNREADABLE.items(), ids=UNREADABLE)
def test_what_cannot_be_read_is_refused(assignment: str, sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(assignment)
    assert str(refused.value) == sentence


# Ranges


RANGES = [
    ("labels", -1, 0),
    ("labels", -50, "all"),
    ("seed", -1, 0),
    ("seed", 2**31 + 1, 2**31),
    ("seeds", 0, 1),
    ("seeds", 4097, 4096),
    ("draw_seed", -1, 0),
    ("draw_seed", 2**31 + 1, 2**31),
    ("folds", -1, 2),
    ("folds", 4097, 4096),
    ("image_size", 0, 1),
    ("image_size", 4097, 4096),
    ("test_share", -0.1, 0.0),
    ("test_share", 0.95, 0.9),
    ("test_seed", -1, 0),
    ("test_seed", 2**31 + 1, 2**31),
    ("gaussian_mean", -1001, -1000),
    ("gaussian_mean", 1001, 1000),
    ("gaussian_std", 0, 1e-9),
    ("gaussian_std", 1001, 1000),
    ("total_images", 0, 1),
    ("batch_size", 1, 2),
    ("discriminator_steps", 0, 1),
    ("weight_labeled", -1e-9, 0.0),
    ("weight_unlabeled", -0.5, 0.0),
    ("weight_fake", -0.5, 0.0),
    ("real_target", 1.0001, 1.0),
    ("real_target", -0.1, 0.0),
    ("weight_entropy", -1, 0),
    ("weight_consistency", -1, 0),
    ("weight_pseudo_label", -1, 0),
    ("weight_mean_teacher", -1, 0),
    ("weight_vat", -1, 0),
    ("weight_self_label", -1, 0),
    ("vat_epsilon", -0.1, 0),
    ("vat_xi", 0, 1e-9),
    ("vat_power_iterations", 0, 1),
    ("ramp_up_fraction", 1.1, 1),
    ("pseudo_label_threshold", -0.1, 0),
    ("weight_feature_matching", -1, 0),
    ("weight_minimax", -1, 0),
    ("weight_non_saturating", -1, 0),
    ("weight_pull_away", -1, 0),
    ("weight_historical_averaging", -1, 0),
    ("discriminator_widths", (10, 0), (10, 1)),
    ("discriminator_widths", (), (1,)),
    ("generator_widths", (-5,), (1,)),
    ("noise_input_std", -0.1, 0),
    ("noise_hidden_std", -0.1, 0),
    ("dropout_input", 0.991, 0.99),
    ("dropout_hidden", -0.1, 0),
    ("minibatch_kernels", -1, 0),
    ("minibatch_kernel_dim", 0, 1),
    ("latent_size", 0, 1),
    ("reference_rows", 1, 2),
    ("init_images", -1, 0),
    ("learning_rate_d", -1e-9, 0),
    ("learning_rate_g", -1e-9, 0),
    ("adam_beta1", 1.0, 0.9999999),
    ("adam_beta2", 1.0, 0.9999999),
    ("adam_epsilon", 0, 1e-300),
    ("adam_epsilon", 1.1, 1),
    ("decay_last_fraction", 1.1, 1),
    ("decay_last_fraction", -0.1, 0),
    ("decay_last_fraction_g", 1.1, 1),
    ("decay_last_fraction_g", -0.1, None),
    ("momentum_d", 1.0, 0.9999999),
    ("momentum_g", -0.1, 0),
    ("learning_rate_factor_d", 0, 1e-9),
    ("learning_rate_factor_g", 1.001, 1),
    ("learning_rate_factor_every_images", -1, 0),
    ("ema_half_life_images", 0, 1e-9),
    ("report_every_images", 0, 1),
    ("checkpoint_every_seconds", -0.1, 0.0),
    ("evaluate_every_images", -1, 0),
    ("frames_every_images", -1, 0),
    ("grid_side", 0, 1),
    ("grid_side", 101, 100),
]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"init_images": 1}, "init_images is 1, but must be 0 for none, or at least 2: one image has no deviation."),
        (
            {"init_images": 0, "minibatch_kernels": 3},
            "init_images is 0, but minibatch discrimination keeps images from then to compare others with: set 2 or "
            "more.",
        ),
        (
            {"init_images": 0, "network": "dcgan"},
            "init_images is 0, but network dcgan keeps images from then to compare others with: set 2 or more.",
        ),
    ],
)
def test_networks_that_need_images_to_begin_with_say_so(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        Config(**settings)
    assert str(refused.value) == sentence


def test_optional_settings_that_would_do_nothing_are_left_away() -> None:
    given = {"method": "supervised", "latent_size": 7, "batch_size": 20}
    assert resolve("digits", given, optional=["latent_size"]) == resolve(
        "digits", {"method": "supervised", "batch_size": 20}
    )
    assert resolve("digits", {**given, "method": "gan"}, optional=["latent_size"]).latent_size == 7
    chain = {"method": "supervised", "weight_pseudo_label": 1.0, "pseudo_label_threshold": 0.9}
    assert resolve("digits", chain, optional=chain.keys() - {"method"}).pseudo_label_threshold == 0.95
    with pytest.raises(UserError, match="latent_size=7 would do nothing"):
        resolve("digits", given, optional=["batch_size"])


def test_every_range_is_tested() -> None:
    assert {name for name, _, _ in RANGES} == {*NUMBERS, *WIDTHS}


@pytest.mark.parametrize(("name", "outside", "edge"), RANGES)
def test_a_range_ends_where_it_says(name: str, outside: Any, edge: Any) -> None:
    assert getattr(Config(**{**BASE, name: edge}), name) == edge
    assert refusal(**{**BASE, name: outside}).startswith(f"{name} is ")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, True, False, "7"])
def test_no_number_may_be_nan_infinite_a_truth_value_or_a_word(name: str, bad: Any) -> None:
    assert refusal(**{**BASE, name: bad}).startswith(f"{name} is ")


@pytest.mark.parametrize(
    "name", [name for name in NUMBERS if float not in (TYPES[name], *typing.get_args(TYPES[name]))]
)
def test_a_whole_number_may_not_be_a_fraction(name: str) -> None:
    assert refusal(**{name: 50.5}).startswith(f"{name} is 50.5, but must be a whole number")
    assert "but must be a whole number" in refusal(**{name: 50.0})


@pytest.mark.parametrize("widths", [(10, True), (10, 2.5), (math.nan,), "300", 300, None])
def test_widths_are_whole_numbers(widths: Any) -> None:
    assert "but must be whole numbers separated by commas, each at least 1." in refusal(discriminator_widths=widths)


def test_every_field_is_a_number_widths_a_word_or_a_truth_value() -> None:
    rest = FIELDS.keys() - {*NUMBERS, *WIDTHS}
    assert all(TYPES[name] in (str, bool) or typing.get_origin(TYPES[name]) is Literal for name in rest)


def test_whole_numbers_become_fractions_and_lists_tuples() -> None:
    config = Config(weight_fake=1, discriminator_widths=[30, 20])
    assert type(config.weight_fake) is float
    assert config.discriminator_widths == (30, 20)


SENTENCES = {
    "batch_size": (1, "batch_size is 1, but must be a whole number at least 2."),
    "real_target": (1.5, "real_target is 1.5, but must be a finite number at least 0 and at most 1."),
    "adam_epsilon": (0, "adam_epsilon is 0, but must be a finite number above 0 and at most 1."),
    "method": (
        "gun",
        "Unknown method 'gun': choose from gan, supervised, pseudo-label, pi, mean-teacher, vat, fixmatch. "
        "Did you mean 'gan'?",
    ),
    "dtype": ("int8", "Unknown dtype 'int8': choose from float32, float64."),
    "adam_epsilon_inside_root": (1, "adam_epsilon_inside_root is 1, but must be true or false."),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_the_sentence_names_field_value_and_what_is_allowed(name: str) -> None:
    value, sentence = SENTENCES[name]
    assert refusal(**{name: value}) == sentence


# Settings that contradict each other


def test_direct_trains_one_seed() -> None:
    assert Config(seed_strategy="direct", seeds=1).seeds == 1
    assert refusal(seed_strategy="direct", seeds=2) == (
        "seed_strategy is 'direct', which trains one seed, but seeds is 2: choose vmap or loop."
    )


def test_a_generator_needs_an_objective() -> None:
    assert refusal(weight_feature_matching=0) == (
        "Every objective of the generator has weight 0: set one of weight_feature_matching, weight_minimax, "
        "weight_non_saturating, or weight_fake=0 to train without a generator."
    )
    for allowed in ({"weight_minimax": 1}, {"weight_non_saturating": 1}, {"weight_fake": 0}, {"method": "supervised"}):
        assert Config(weight_feature_matching=0, **allowed).weight_feature_matching == 0


def test_a_discriminator_needs_a_loss() -> None:
    assert Config(weight_labeled=0).weight_labeled == 0
    for nothing in ({"method": "supervised"}, {"weight_unlabeled": 0, "weight_fake": 0}):
        sentence = refusal(weight_labeled=0, **nothing)
        assert sentence == "Every weight of the discriminator's loss is 0: set weight_labeled above 0."


USELESS = {
    "weight_fake": ({"method": "supervised", "weight_fake": 0.7}, "weight_fake=0.7", "method=gan"),
    "weight_unlabeled": ({"method": "supervised", "weight_unlabeled": 0.7}, "weight_unlabeled=0.7", "method=gan"),
    "weight_entropy": ({"method": "supervised", "weight_entropy": 1.0}, "weight_entropy=1", "method=gan"),
    "real_target": ({"weight_unlabeled": 0.0, "real_target": 0.9}, "real_target=0.9", "weight_unlabeled above 0"),
    "generator_widths": ({"weight_fake": 0.0, "generator_widths": (9, 8)}, "generator_widths=9,8", "weight_fake above"),
    "weight_pull_away": ({"weight_fake": 0.0, "weight_pull_away": 1.0}, "weight_pull_away=1", "weight_fake above 0"),
    "latent_size": ({"method": "supervised", "latent_size": 9}, "latent_size=9", "method=gan"),
    "learning_rate_g": ({"method": "supervised", "learning_rate_g": 0.1}, "learning_rate_g=0.1", "method=gan"),
    "feature_matching_norm": (
        {"weight_feature_matching": 0.0, "weight_minimax": 1.0, "feature_matching_norm": "l1"},
        "feature_matching_norm=l1",
        "weight_feature_matching above 0",
    ),
    "weight_vat": ({"method": "supervised", "weight_vat": 2.0}, "weight_vat=2", "method=gan"),
    "weight_mean_teacher": ({"method": "supervised", "weight_mean_teacher": 2}, "weight_mean_teacher=2", "method=gan"),
    "weight_self_label": ({"method": "supervised", "weight_self_label": 2}, "weight_self_label=2", "method=gan"),
    "weight_pseudo_label": ({"weight_pseudo_label": 2}, "weight_pseudo_label=2", "an augmentation"),
    "pseudo_label_threshold": ({"pseudo_label_threshold": 0.7}, "pseudo_label_threshold=0.7", "weight_self_label"),
    "vat_epsilon": ({"method": "pi", "vat_epsilon": 0.2}, "vat_epsilon=0.2", "weight_vat above 0"),
    "vat_xi": ({"vat_xi": 0.2}, "vat_xi=0.2", "weight_vat above 0"),
    "vat_power_iterations": (
        {"method": "supervised", "vat_power_iterations": 3},
        "vat_power_iterations=3",
        "weight_vat",
    ),
    "ramp_up_fraction": ({"ramp_up_fraction": 0.2}, "ramp_up_fraction=0.2", "weight_consistency"),
    "dropout_input": ({"dropout_input": 0.2}, "dropout_input=0.2", "a convolutional network"),
    "dropout_hidden": ({"dropout_hidden": 0.5}, "dropout_hidden=0.5", "a convolutional network"),
    "minibatch_kernel_dim": ({"minibatch_kernel_dim": 3}, "minibatch_kernel_dim=3", "minibatch_kernels above 0"),
    "reference_rows": ({"reference_rows": 50}, "reference_rows=50", "generator_norm=virtual"),
    "grid_side": ({"method": "supervised", "grid_side": 5}, "grid_side=5", "a method that trains a generator"),
    "init_images": ({"network": "gan-mlp", "init_images": 50}, "init_images=50", "minibatch_kernels above 0"),
    "draw_seed": ({"labels": "all", "draw_seed": 3}, "draw_seed=3", "labels"),
    "test_seed": ({"test_share": 0, "test_seed": 3}, "test_seed=3", "test_share above 0"),
    "momentum_d": ({"momentum_d": 0.6}, "momentum_d=0.6", "optimizer_d=sgd"),
    "momentum_g": ({"optimizer_d": "sgd", "momentum_g": 0.6}, "momentum_g=0.6", "optimizer_g=sgd"),
    "optimizer_g": ({"method": "supervised", "optimizer_g": "sgd"}, "optimizer_g=sgd", "trains a generator"),
    "adam_beta1": (
        {"optimizer_d": "sgd", "optimizer_g": "sgd", "adam_beta1": 0.9},
        "adam_beta1=0.9",
        "Adam, as optimizer_d or optimizer_g",
    ),
    "adam_epsilon": ({"method": "supervised", "optimizer_d": "sgd", "adam_epsilon": 0.1}, "adam_epsilon=0.1", "Adam"),
    "learning_rate_factor_d": (
        {"learning_rate_factor_d": 0.5},
        "learning_rate_factor_d=0.5",
        "learning_rate_factor_every_images above 0",
    ),
    "learning_rate_factor_g": (
        {"method": "supervised", "learning_rate_factor_g": 0.5, "learning_rate_factor_every_images": 9},
        "learning_rate_factor_g=0.5",
        "trains a generator",
    ),
    "learning_rate_factor_every_images": (
        {"learning_rate_factor_every_images": 9},
        "learning_rate_factor_every_images=9",
        "learning_rate_factor_d or learning_rate_factor_g",
    ),
    "decay_last_fraction_g": (
        {"method": "supervised", "decay_last_fraction_g": 0.5},
        "decay_last_fraction_g=0.5",
        "trains a generator",
    ),
}


@pytest.mark.parametrize("name", USELESS)
def test_a_setting_that_would_do_nothing_is_refused(name: str) -> None:
    overrides, setting, needed = USELESS[name]
    with pytest.raises(UserError) as refused:
        resolve("digits", overrides)
    assert str(refused.value).startswith(f"{setting} would do nothing: it needs ")
    assert needed in str(refused.value)


def test_the_same_settings_are_allowed_where_they_do_something() -> None:
    for overrides in (
        {"weight_fake": 0.7, "weight_unlabeled": 0.7, "weight_entropy": 1.0, "real_target": 0.9, "draw_seed": 3},
        {"generator_widths": (9, 8), "weight_pull_away": 1.0, "latent_size": 9, "learning_rate_g": 0.1},
        {"feature_matching_norm": "l1", "discriminator_steps": 2},
        {"optimizer_d": "sgd", "momentum_d": 0.5, "adam_beta1": 0.9, "decay_last_fraction_g": 0.1},
        {"learning_rate_factor_d": 0.5, "learning_rate_factor_every_images": 1000},
        {"minibatch_kernel_dim": 3, "minibatch_kernels": 10},
        {"network": "gan-mlp", "minibatch_kernels": 10, "init_images": 50},
        {"reference_rows": 50, "generator_norm": "virtual"},
        {"network": "compact-conv", "dropout_input": 0.1, "dropout_hidden": 0.2},
    ):
        config = resolve("digits", overrides)
        assert {name: getattr(config, name) for name in overrides} == overrides


def test_a_default_may_be_spelt_out_where_it_does_nothing() -> None:
    assert resolve("mnist-paper", {"dropout_input": 0.0}) == resolve("mnist-paper", {})
    assert resolve("mnist-paper", {"method": "supervised", "generator_widths": (500, 500)}).method == "supervised"
    spelt = {"network": "dcgan", "method": "supervised", "generator_widths": (64,)}
    assert resolve("mnist-paper", spelt).generator_widths == (64,)


def test_values_of_the_preset_that_would_do_nothing_are_not_refused() -> None:
    assert PRESETS["digits"]["learning_rate_g"] != Config().learning_rate_g
    config = resolve("digits", {"method": "supervised"})
    assert (config.method, config.learning_rate_g) == ("supervised", PRESETS["digits"]["learning_rate_g"])


def test_every_condition_names_a_field() -> None:
    assert NEEDS.keys() <= FIELDS.keys()
    assert METHOD_NEEDS.keys() <= set(METHOD_NAMES)


# What a network brings along


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


def test_what_is_chosen_wins_over_the_network() -> None:
    chosen = {"discriminator_widths": (64, 128), "dropout_input": 0.0, "noise_hidden_std": 0.5}
    for config in (
        Config(network="paper-conv", **chosen),
        Config(network="paper-conv").replace(**chosen),
        resolve("mnist-paper", {"network": "paper-conv", **chosen}),
    ):
        assert {name: getattr(config, name) for name in NETWORK_SETTINGS} == {**own("paper-conv"), **chosen}


def test_what_was_chosen_for_another_network_is_left_behind() -> None:
    """The widths and the noise of digits are those of its perceptron; its weights and step sizes stay."""
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
    # The same network, named once more, is no change.
    assert resolve("digits", {"network": "mlp"}) == digits
    assert digits.replace(network="mlp") == digits


def test_the_hash_counts_what_differs_from_the_networks_own() -> None:
    """Results of before these settings came keep their hash, and so does a default that is spelt out."""
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
        "discriminator_widths is 96, but network paper-conv takes 2 numbers.",
    ),
    "compact-conv": (
        "discriminator_widths",
        (1000, 500, 250, 250, 250),
        "discriminator_widths is 1000,500,250,250,250, but network compact-conv takes 3 numbers.",
    ),
    "wide-resnet": (
        "discriminator_widths",
        (32, 64),
        "discriminator_widths is 32,64, but network wide-resnet takes 3 numbers.",
    ),
    "dcgan": ("generator_widths", (64, 32), "generator_widths is 64,32, but network dcgan takes 1 number."),
}


@pytest.mark.parametrize("network", WRONG_WIDTHS)
def test_widths_of_another_count_are_refused(network: str) -> None:
    name, widths, sentence = WRONG_WIDTHS[network]
    assert refusal(network=network, **{name: widths}) == sentence


IMAGE_SHAPES = {
    "mlp": ([(5,), (1, 1), (8, 8), (3, 4, 7)], []),
    "paper-conv": ([(9, 9), (9, 40), (32, 32, 3), (28, 28, 1)], [(8, 9), (9, 8), (32, 32, 2), (3, 32, 32), (784,)]),
    "compact-conv": ([(17, 17), (33, 48, 3)], [(16, 17), (17, 16), (784,)]),
    "wide-resnet": ([(8, 8), (33, 48, 3)], [(7, 8), (8, 7), (64,)]),
    "dcgan": ([(32, 32), (64, 64, 3), (28, 28), (17, 64)], [(16, 17), (64, 65, 3), (128, 128), (32, 32, 2), (32,)]),
    "gan-mlp": ([(5,), (1, 1), (8, 8), (3, 4, 7)], []),
    "toy": ([(1,), (64,)], [(8, 8), (3, 4, 7)]),
}


@pytest.mark.parametrize("network", NETWORK_NAMES)
def test_a_network_says_which_images_it_takes(network: str) -> None:
    fit, unfit = IMAGE_SHAPES[network]
    for shape in fit:
        check_image_shape(network, shape)
    for shape in unfit:
        with pytest.raises(UserError, match=f"Network {network} takes (images of .* pixels|vectors)") as refused:
            check_image_shape(network, shape)
        assert str(list(shape)) in str(refused.value)


def test_the_sentence_about_images_names_the_sizes() -> None:
    with pytest.raises(UserError) as refused:
        check_image_shape("dcgan", (28, 65))
    assert str(refused.value) == (
        "Network dcgan takes images of 17x17 to 64x64 pixels, [H, W] or [H, W, C] with 1 or 3 channels, "
        "but these are [28, 65]: choose another network, or for files of pictures another image_size."
    )
    with pytest.raises(UserError, match="takes images of at least 9x9 pixels"):
        check_image_shape("paper-conv", (8, 8))


def test_the_presets_of_the_paper_are_its_recipes() -> None:
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


# What follows from the settings


def test_steps_count_unlabelled_images() -> None:
    config = Config(total_images=1000, batch_size=100, discriminator_steps=2)
    assert (config.images_per_step, config.steps) == (200, 5)
    assert Config(total_images=1, batch_size=100).steps == 1


def test_draw_seeds_advance_with_the_seeds_unless_fixed() -> None:
    assert Config(seed=4, seeds=3).draw_seeds == [4, 5, 6]
    assert Config(seed=4, seeds=3, draw_seed=9).draw_seeds == [9, 9, 9]


def test_a_generator_is_trained_where_its_images_are_seen() -> None:
    assert Config().trains_generator
    assert not Config(method="supervised").trains_generator
    assert not Config(weight_fake=0).trains_generator


def test_a_copy_is_checked_and_the_original_kept() -> None:
    config = Config()
    assert config.replace(batch_size=7).batch_size == 7
    with pytest.raises(UserError, match="batch_size is 0"):
        config.replace(batch_size=0)
    assert config == Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.batch_size = 7  # type: ignore[misc]


def test_a_difference_holds_both_values() -> None:
    config = Config(labels=20, dtype="float64")
    assert Config().diff(config) == {"labels": (None, 20), "dtype": ("float32", "float64")}
    assert config.diff(config) == {}


# The hash and the file


def test_the_hash_knows_what_decides_a_result() -> None:
    default = Config()
    ignored, alone = set(), set()
    for name in FIELDS:
        changed = default.replace(**{name: other_value(name)})
        if changed == default:
            alone.add(name)
        elif changed.sha256 == default.sha256:
            ignored.add(name)
    assert alone == {name for name in FIELDS if len(typing.get_args(TYPES[name])) == 1}
    assert ignored == {
        "preset",
        "seed",
        "seeds",
        "draw_seed",
        "device",
        "tensorboard",
        "report_every_images",
        "evaluate_every_images",
        "frames_every_images",
        "checkpoint_every_seconds",
        "cuda_graph",
        "grid_side",
    }
    assert default.sha256 == Config().sha256


@pytest.mark.parametrize("config", [Config(), *(resolve(preset, {}) for preset in PRESETS), Config(labels="all")])
def test_a_configuration_comes_back_from_json(config: Config) -> None:
    read = Config(**json.loads(json.dumps(config.to_dict(), allow_nan=False)))
    assert read == config
    assert read.sha256 == config.sha256
    assert list(read.to_dict()) == list(FIELDS)


def test_the_options_of_files_are_settings() -> None:
    config = Config()
    assert {name: getattr(Options(), name) for name in Options.settings()} == {
        name: getattr(config, name)
        for name in (
            *("image_size", "image_mode", "test_share", "test_seed"),
            *("gaussian_mean", "gaussian_std"),
        )
    }
    changed = Config(image_size=9, image_mode="rgb", test_share=0.5, test_seed=7)
    assert Options.of(changed, Path("l.csv")) == Options(9, "rgb", Path("l.csv"), 0.5, 7)


# Imports


def test_the_command_line_imports_no_torch_for_its_help(tmp_path: Path) -> None:
    code = """
import sys
import ssgan, ssgan.settings.config, ssgan.cli
assert dir(ssgan)
try:
    ssgan.cli.main(["--help"])
except SystemExit as left:
    assert left.code == 0
print("imported", sorted({"torch", "sklearn", "torchvision"} & set(sys.modules)))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(ssgan.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "imported []"
    assert [word for word in ("train", "evaluate", "data") if any(line.split()[:1] == [word] for line in lines)] == [
        "train",
        "evaluate",
        "data",
    ]


def test_the_package_gives_its_names_on_first_use() -> None:
    assert ssgan.Config is Config
    assert {"Config", "Data", "load", "train"} <= set(dir(ssgan))
    assert callable(ssgan.load)
    assert callable(ssgan.train)
    with pytest.raises(AttributeError, match="module 'ssgan' has no attribute 'nothing'"):
        _ = ssgan.nothing


# A run that goes on


FREE = {
    "preset",
    "device",
    "cuda_graph",
    "report_every_images",
    "evaluate_every_images",
    "frames_every_images",
    "checkpoint_every_seconds",
    "tensorboard",
}


@pytest.mark.parametrize("name", [name for name in FIELDS if len(typing.get_args(TYPES[name])) != 1])
def test_a_run_goes_on_with_its_settings_and_others_beside_the_steps(name: str) -> None:
    """Every field: it may change, or it hinders and is named with both values; and so in the other direction."""
    begun = Config(decay_last_fraction=0.25)
    asked = begun.replace(**{name: other_value(name)})
    assert asked != begun
    for first, second in ((begun, asked), (asked, begun)):
        said = first.resume_conflicts(second)
        if name in FREE:
            assert said == []
        else:
            # Another network brings settings of its own along.
            sentence, *others = said
            assert not others or name == "network"
            shown = [{n: v for n, v, _ in describe(config)}[name] for config in (first, second)]
            assert sentence.startswith(f"{name} {shown[0]}, now {shown[1]}")
    assert begun.resume_conflicts(begun) == []


def test_what_hinders_is_shown_as_it_is_typed() -> None:
    begun = Config(labels=50, learning_rate_d=0.003)
    asked = begun.replace(
        labels=None, learning_rate_d=1e-4, discriminator_widths=(30, 20), adam_epsilon_inside_root=False
    )
    assert begun.resume_conflicts(asked) == [
        "labels 50, now none",
        "discriminator_widths 1000,500,250,250,250, now 30,20",
        "learning_rate_d 0.003, now 0.0001",
        "adam_epsilon_inside_root true, now false",
    ]


def test_two_values_that_differ_do_not_look_alike() -> None:
    """The digits preset has a third, which is shown with six digits: typed in again it is another number."""
    begun = resolve("digits", {})
    assert begun.resume_conflicts(begun.replace(decay_last_fraction=0.333333)) == [
        "decay_last_fraction 0.3333333333333333, now 0.333333"
    ]


def test_a_decay_of_g_alone_hinders_too() -> None:
    begun = Config(total_images=1000, decay_last_fraction_g=0.5)
    assert begun.resume_conflicts(begun.replace(total_images=1001)) == [
        "total_images 1000, now 1001 (with decay_last_fraction_g above 0, every step size depends on the length)"
    ]


@pytest.mark.parametrize(
    ("decay", "length", "words"),
    [
        (0.0, 1001, []),
        (0.0, 1000, []),
        (0.0, 999, ["total_images 1000, now 999"]),
        (0.25, 1000, []),
        (0.25, 999, ["total_images 1000, now 999"]),
        (
            0.25,
            1001,
            ["total_images 1000, now 1001 (with decay_last_fraction above 0, every step size depends on the length)"],
        ),
    ],
)
def test_a_run_may_get_longer_where_its_step_size_is_constant(decay: float, length: int, words: list[str]) -> None:
    begun = Config(total_images=1000, decay_last_fraction=decay)
    assert begun.resume_conflicts(begun.replace(total_images=length)) == words
    # Longer with a decay that it did not have would change the steps that are still to come.
    if not decay and length > 1000:
        asked = begun.replace(total_images=length, decay_last_fraction=0.5)
        assert begun.resume_conflicts(asked) == ["decay_last_fraction 0, now 0.5"]


# Settings of an earlier run


def test_settings_of_an_earlier_run_stand_between_the_preset_and_the_users_own() -> None:
    config = resolve("digits", {"labels": 30}, {"labels": 20, "batch_size": 7, "preset": "other"})
    assert (config.labels, config.batch_size, config.preset) == (30, 7, "digits")
    assert config.total_images == PRESETS["digits"]["total_images"]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_whole_settings_of_an_earlier_run_make_an_equal_configuration(preset: str) -> None:
    given = ({"method": "supervised", "labels": 20}, {"weight_fake": 0.0}, {"labels": "all"}, {})
    without_classes: tuple[dict[str, Any], ...] = ({"weight_fake": 0.7}, {"learning_rate_g": 0.5}, {})
    for changes in without_classes if PRESETS[preset].get("labels") == 0 else given:
        config = resolve(preset, changes)
        assert resolve(preset, {}, json.loads(json.dumps(config.to_dict()))) == config


def test_settings_of_an_earlier_run_may_do_nothing_but_the_users_own_may_not() -> None:
    earlier = Config(method="supervised", weight_fake=0.7, latent_size=9).to_dict()
    assert resolve("mnist-paper", {}, earlier).weight_fake == 0.7
    with pytest.raises(UserError, match=r"^weight_fake=0\.8 would do nothing: it needs method=gan, or another "):
        resolve("mnist-paper", {"weight_fake": 0.8}, earlier)


def test_epsilon_inside_the_root_needs_a_second_moment() -> None:
    assert refusal(adam_beta2=0.0) == "adam_beta2 is 0, with which epsilon cannot stand inside the root: raise it."
    assert Config(adam_beta2=0.0, adam_epsilon_inside_root=False).adam_beta2 == 0.0

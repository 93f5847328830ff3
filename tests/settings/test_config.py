"""The fields of a configuration: documentation, ranges, derived values, hash and JSON."""

import dataclasses
import json
import math
import typing
from pathlib import Path
from typing import Any, Literal

import pytest
from setting_values import TYPES, config_with, other_value, refusal

from ssgan.errors import UserError
from ssgan.nn.registry import NETWORK_PAIRS
from ssgan.settings.catalog import METHOD_NAMES, NETWORK_NAMES
from ssgan.settings.config import FIELDS, Config
from ssgan.settings.options import Options
from ssgan.settings.presets import PRESETS, describe, resolve

WIDTHS = [name for name in FIELDS if TYPES[name] == tuple[int, ...]]
NUMBERS = [
    name for name in FIELDS if {int, float} & {TYPES[name], *typing.get_args(TYPES[name])} and name not in WIDTHS
]
BASE = {"weight_minimax": 1.0}


# Documentation


def test_every_field_has_a_unit_and_a_text() -> None:
    for field in FIELDS.values():
        for key in ("unit", "text"):
            assert isinstance(field.metadata[key], str), field.name
            assert field.metadata[key].strip(), field.name


def test_every_field_is_listed_once() -> None:
    assert sorted(FIELDS) == sorted(field.name for field in dataclasses.fields(Config))
    assert list(FIELDS)[:3] == ["preset", "method", "network"]


def test_names_equal_the_registries() -> None:
    assert typing.get_args(TYPES["method"]) == METHOD_NAMES
    assert typing.get_args(TYPES["network"]) == NETWORK_NAMES == tuple(NETWORK_PAIRS)


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


# Ranges


RANGES = [
    ("feature_components", -1, 0),
    ("feature_neighbors", -1, 0),
    ("feature_neighbors", 1001, 1000),
    ("weight_balance", -1, 0),
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
    ("adversarial_steps", -1, 0),
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
    ("label_spreading_fraction", 1.1, 1),
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
    ("init_images", 10_001, 10_000),
    ("learning_rate_d", -1e-9, 0),
    ("learning_rate_g", -1e-9, 0),
    ("learning_rate_muon", 0, 1e-9),
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
    ("image_depth", 0, 1),
    ("image_depth", 17, 16),
    ("grid_side", 0, 1),
    ("grid_side", 101, 100),
]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"init_images": 1}, "init_images is 1, but must be 0 for none, or at least 2: one image has no deviation."),
        (
            {"init_images": 0, "minibatch_kernels": 3},
            "init_images is 0, but minibatch discrimination compares with images kept from the initialisation: set 2 "
            "or more.",
        ),
        (
            {"init_images": 0, "network": "dcgan"},
            "init_images is 0, but network dcgan compares with images kept from the initialisation: set 2 or more.",
        ),
    ],
)
def test_networks_with_initialisation_by_images_require_init_images(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        Config(**settings)
    assert str(refused.value) == sentence


def test_optional_settings_without_effect_are_dropped() -> None:
    given = {"method": "supervised", "latent_size": 7, "batch_size": 20}
    assert resolve("digits", given, optional=["latent_size"]) == resolve(
        "digits", {"method": "supervised", "batch_size": 20}
    )
    assert resolve("digits", {**given, "method": "gan"}, optional=["latent_size"]).latent_size == 7
    chain = {"method": "supervised", "weight_pseudo_label": 1.0, "pseudo_label_threshold": 0.9}
    assert resolve("digits", chain, optional=chain.keys() - {"method"}).pseudo_label_threshold == 0.95
    with pytest.raises(UserError, match="latent_size=7 has no effect"):
        resolve("digits", given, optional=["batch_size"])


def test_every_range_is_tested() -> None:
    assert {name for name, _, _ in RANGES} == {*NUMBERS, *WIDTHS}


@pytest.mark.parametrize(("name", "outside", "edge"), RANGES)
def test_range_includes_its_edge_and_refuses_values_outside(name: str, outside: Any, edge: Any) -> None:
    assert getattr(Config(**{**BASE, name: edge}), name) == edge
    assert refusal(**{**BASE, name: outside}).startswith(f"{name} is ")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, True, False, "7"])
def test_numbers_refuse_nan_infinity_booleans_and_strings(name: str, bad: Any) -> None:
    assert refusal(**{**BASE, name: bad}).startswith(f"{name} is ")


@pytest.mark.parametrize(
    "name", [name for name in NUMBERS if float not in (TYPES[name], *typing.get_args(TYPES[name]))]
)
def test_integers_refuse_floats(name: str) -> None:
    assert refusal(**{name: 50.5}).startswith(f"{name} is 50.5, but must be an integer")
    assert "but must be an integer" in refusal(**{name: 50.0})


@pytest.mark.parametrize("widths", [(10, True), (10, 2.5), (math.nan,), "300", 300, None])
def test_widths_must_be_integers(widths: Any) -> None:
    assert "but must be integers separated by commas, each at least 1." in refusal(discriminator_widths=widths)


def test_every_field_is_a_number_widths_a_string_or_a_boolean() -> None:
    rest = FIELDS.keys() - {*NUMBERS, *WIDTHS}
    assert all(TYPES[name] in (str, bool, str | None) or typing.get_origin(TYPES[name]) is Literal for name in rest)


def test_integers_are_converted_to_floats_and_lists_to_tuples() -> None:
    config = Config(weight_fake=1, discriminator_widths=[30, 20])
    assert type(config.weight_fake) is float
    assert config.discriminator_widths == (30, 20)


SENTENCES = {
    "batch_size": (1, "batch_size is 1, but must be an integer at least 2."),
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
def test_error_names_field_value_and_allowed_values(name: str) -> None:
    value, sentence = SENTENCES[name]
    assert refusal(**{name: value}) == sentence


# Derived values


def test_steps_count_unlabelled_images() -> None:
    config = Config(total_images=1000, batch_size=100, discriminator_steps=2)
    assert (config.images_per_step, config.steps) == (200, 5)
    assert [config.steps_for(images) for images in (0, 1, 200, 201)] == [0, 1, 1, 2]
    assert Config(total_images=1, batch_size=100).steps == 1


def test_draw_seeds_advance_with_the_seeds_unless_fixed() -> None:
    assert Config(seed=4, seeds=3).draw_seeds == [4, 5, 6]
    assert Config(seed=4, seeds=3, draw_seed=9).draw_seeds == [9, 9, 9]


def test_trains_generator_requires_gan_and_weight_fake() -> None:
    assert Config().trains_generator
    assert not Config(method="supervised").trains_generator
    assert not Config(weight_fake=0).trains_generator


def test_replace_validates_the_copy_and_keeps_the_original() -> None:
    config = Config()
    assert config.replace(batch_size=7).batch_size == 7
    with pytest.raises(UserError, match="batch_size is 0"):
        config.replace(batch_size=0)
    assert config == Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.batch_size = 7  # type: ignore[misc]


def test_diff_returns_both_values() -> None:
    config = Config(labels=20, dtype="float64")
    assert Config().diff(config) == {"labels": (None, 20), "dtype": ("float32", "float64")}
    assert config.diff(config) == {}


# Hash and JSON


def test_hash_ignores_only_settings_that_do_not_affect_results() -> None:
    ignored, alone = set(), set()
    for name in FIELDS:
        default = config_with(name)
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
        "folds",
        "device",
        "tensorboard",
        "report_every_images",
        "evaluate_every_images",
        "frames_every_images",
        "checkpoint_every_seconds",
        "cuda_graph",
        "grid_side",
        "image_depth",
    }
    assert Config().sha256 == Config().sha256


def test_derived_defaults_follow_changes_of_other_settings() -> None:
    """They are as in a new configuration, so equal configurations have equal hashes; an explicit value stays."""
    assert Config().replace(folds=5) == Config(folds=5)
    assert Config(folds=5).replace(folds=0) == Config()
    assert Config(test_share=0.3).replace(folds=5).test_share == 0.3
    old, new = (resolve("features", {"backbone": f"efficientnet-lite{k}"}) for k in (0, 1))
    assert old.image_size != new.image_size
    assert old.replace(backbone=new.backbone) == new
    assert resolve("features", {"backbone": new.backbone}, earlier=old.to_dict()) == new
    assert old.replace(image_size=96).replace(backbone=new.backbone).image_size == 96


@pytest.mark.parametrize("config", [Config(), *(resolve(preset, {}) for preset in PRESETS), Config(labels="all")])
def test_config_round_trips_through_json(config: Config) -> None:
    read = Config(**json.loads(json.dumps(config.to_dict(), allow_nan=False)))
    assert read == config
    assert read.sha256 == config.sha256
    assert list(read.to_dict()) == list(FIELDS)


def test_file_options_match_the_settings() -> None:
    config = Config(backbone=None)
    assert {name: getattr(Options(), name) for name in Options.settings()} == {
        name: getattr(config, name)
        for name in (
            *("backbone", "image_size", "image_mode", "image_depth", "label_words", "test_share", "test_seed"),
            *("gaussian_mean", "gaussian_std"),
        )
    }
    changed = Config(image_size=9, image_mode="rgb", image_depth=12, label_words="NA", test_share=0.5, test_seed=7)
    assert Options.of(changed, Path("l.csv")) == Options(
        **{"image_size": 9, "image_mode": "rgb", "image_depth": 12, "label_words": "NA", "labels_csv": Path("l.csv")},
        **{"test_share": 0.5, "test_seed": 7},
    )

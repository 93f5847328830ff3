"""Settings that contradict each other or have no effect are refused."""

import pytest
from setting_values import refusal

from ssgan.errors import UserError
from ssgan.settings.catalog import METHOD_NAMES
from ssgan.settings.config import FIELDS, Config
from ssgan.settings.presets import PRESETS, resolve
from ssgan.settings.rules import METHOD_NEEDS, NEEDS


def test_direct_seed_strategy_refuses_several_seeds() -> None:
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


def test_inherited_test_time_flip_requires_natural_augmentation() -> None:
    """Mirrored digits could be taken for other digits, and vectors have no mirror image."""
    natural = {"augmentation": "natural", "test_time_flip": True}
    # The flip of a preset or of an earlier run belongs to its augmentation; a setting of the user is refused (below).
    assert resolve("cifar10-fast", {}).test_time_flip
    earlier = resolve("cifar10-fast", {}).to_dict()
    for changes in ({"augmentation": "drawings"}, {"labels": 0}):
        assert not resolve("cifar10-fast", changes).test_time_flip
    assert not resolve("cifar10-fast", {"augmentation": "drawings"}, earlier).test_time_flip
    assert resolve("cifar10-fast", {"labels": 250}, earlier).test_time_flip
    assert resolve("digits", natural).flips_at_test
    assert resolve("cifar10-fast", {}).flips_at_test
    for other in ("digits", "none"):
        assert not resolve("digits", {"augmentation": other}, natural).flips_at_test
        assert not resolve("cifar10-fast", {"augmentation": other}).flips_at_test
    assert not resolve("digits", {"labels": 0}, natural).flips_at_test
    with pytest.raises(UserError, match="test_time_flip=true has no effect: it needs augmentation=natural and labels"):
        resolve("digits", {"labels": 0, **natural})


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
    "test_time_flip": (
        {"augmentation": "digits", "test_time_flip": True},
        "test_time_flip=true",
        "augmentation=natural",
    ),
    "vat_epsilon": ({"method": "pi", "vat_epsilon": 0.2}, "vat_epsilon=0.2", "weight_vat above 0"),
    "vat_xi": ({"vat_xi": 0.2}, "vat_xi=0.2", "weight_vat above 0"),
    "vat_power_iterations": (
        {"method": "supervised", "vat_power_iterations": 3},
        "vat_power_iterations=3",
        "weight_vat",
    ),
    "label_spreading_fraction": (
        {"method": "supervised", "label_spreading_fraction": 0.2},
        "label_spreading_fraction=0.2",
        "another that learns from unlabelled images",
    ),
    "ramp_up_fraction": ({"ramp_up_fraction": 0.2}, "ramp_up_fraction=0.2", "weight_consistency"),
    "dropout_input": ({"dropout_input": 0.2}, "dropout_input=0.2", "a network with dropout"),
    "dropout_hidden": ({"dropout_hidden": 0.5}, "dropout_hidden=0.5", "a network with dropout"),
    "minibatch_kernel_dim": ({"minibatch_kernel_dim": 3}, "minibatch_kernel_dim=3", "minibatch_kernels above 0"),
    "reference_rows": ({"reference_rows": 50}, "reference_rows=50", "generator_norm=virtual"),
    "grid_side": ({"method": "supervised", "grid_side": 5}, "grid_side=5", "a method that trains a generator"),
    "init_images": ({"network": "gan-mlp", "init_images": 50}, "init_images=50", "minibatch_kernels above 0"),
    "draw_seed": ({"labels": "all", "draw_seed": 3}, "draw_seed=3", "labels"),
    "test_seed": ({"test_share": 0, "test_seed": 3}, "test_seed=3", "test_share above 0"),
    "momentum_d": ({"momentum_d": 0.6}, "momentum_d=0.6", "optimizer_d=sgd or muon"),
    "learning_rate_muon": ({"learning_rate_muon": 0.1}, "learning_rate_muon=0.1", "optimizer_d=muon"),
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
def test_refuses_settings_without_effect(name: str) -> None:
    overrides, setting, needed = USELESS[name]
    with pytest.raises(UserError) as refused:
        resolve("digits", overrides)
    assert str(refused.value).startswith(f"{setting} has no effect: it needs ")
    assert needed in str(refused.value)


def test_the_same_settings_are_allowed_if_they_have_an_effect() -> None:
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


def test_explicit_defaults_without_effect_are_allowed() -> None:
    assert resolve("mnist-paper", {"dropout_input": 0.0}) == resolve("mnist-paper", {})
    assert resolve("mnist-paper", {"method": "supervised", "generator_widths": (500, 500)}).method == "supervised"
    spelt = {"network": "dcgan", "method": "supervised", "generator_widths": (64,)}
    assert resolve("mnist-paper", spelt).generator_widths == (64,)


def test_preset_values_without_effect_are_allowed() -> None:
    assert PRESETS["digits"]["learning_rate_g"] != Config().learning_rate_g
    config = resolve("digits", {"method": "supervised"})
    assert (config.method, config.learning_rate_g) == ("supervised", PRESETS["digits"]["learning_rate_g"])


def test_every_condition_names_a_field() -> None:
    assert NEEDS.keys() <= FIELDS.keys()
    assert METHOD_NEEDS.keys() <= set(METHOD_NAMES)

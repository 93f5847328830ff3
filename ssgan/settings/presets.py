"""List the presets, and resolve a preset, earlier settings and the user's own into a configuration."""

import typing
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from ssgan.errors import UserError, did_you_mean
from ssgan.settings import fields
from ssgan.settings.catalog import for_labels, for_method, overlay, suits, without_derived
from ssgan.settings.config import FIELDS, Config
from ssgan.settings.options import DEFAULT_BACKBONE
from ssgan.settings.rules import NEEDS

__all__ = [
    "DATASET_PRESETS",
    "NO_GENERATOR",
    "PICTURE_PRESETS",
    "PRESETS",
    "allowed",
    "check_effects",
    "default_preset",
    "describe",
    "parse",
    "resolve",
    "resolve_early",
    "resolve_for_unknown_shape",
]


# The paper's recipe for CIFAR-10 and SVHN, beyond the defaults.
_PAPER_CONV = {
    "network": "paper-conv",
    "learning_rate_d": 3e-4,
    "learning_rate_g": 3e-4,
    "decay_last_fraction": 1 / 3,
    "feature_matching_norm": "l1",
}

PICTURE_SHAPE = (32, 32)  # shape of an image that every network of images accepts

# Short trainings for a CPU: pseudo-labels from weak to strong views, and a low class entropy of weak views.
# The trials are in docs/notes/mnist.md.
_FAST = {
    "batch_size": 50,
    "weight_entropy": 1.0,
    "weight_pseudo_label": 1.0,
    "pseudo_label_threshold": 0.8,
    "decay_last_fraction": 1.0,
    "ema_half_life_images": 10_000.0,
}
_COMPACT = {**_FAST, "network": "compact-conv", "dropout_input": 0.0, "dropout_hidden": 0.0}
# The trials are in docs/notes/muon.md.
_MUON = {"optimizer_d": "muon"}
#: Settings that remove the generator, whose phase and images take most of a step.
NO_GENERATOR = {"weight_unlabeled": 0.0, "weight_fake": 0.0}

# A generator in every fourth step of D, which costs a fraction of the time of one in every step.
_SPARSE_GENERATOR = {"discriminator_steps": 4, "adversarial_steps": 1}

# A GAN without classes as in textbooks: the non-saturating objective, and Adam with epsilon outside the root.
_PLAIN_GAN = {
    "labels": 0,
    "weight_feature_matching": 0.0,
    "weight_non_saturating": 1.0,
    "latent_distribution": "normal",
    "learning_rate_d": 2e-4,
    "learning_rate_g": 2e-4,
    "adam_epsilon_inside_root": False,
}
# Radford et al., 2016, section 4: batches of 128.
_DCGAN = {**_PLAIN_GAN, "network": "dcgan", "batch_size": 128, "total_images": 1_500_000, "grid_side": 8}

# The paper's network and losses for small digits, narrower and longer. The trials are in docs/notes/digits.md.
_DIGITS = {
    "labels": 50,
    "total_images": 600_000,
    "discriminator_widths": (300, 150, 150),
    "generator_widths": (300, 300),
    "noise_input_std": 0.2,
    "noise_hidden_std": 0.3,
    "weight_unlabeled": 1.0,
    "weight_fake": 1.0,
    "learning_rate_d": 2e-3,
    "learning_rate_g": 2e-3,
    "decay_last_fraction": 1 / 3,
    "ema_half_life_images": 34_623.0,
    "report_every_images": 2_000,
}

# Pseudo-labels from weak to strong views, after label spreading. Noise inside D makes it worse.
_SMALL_IMAGES = {
    **_DIGITS,
    "total_images": 200_000,
    "augmentation": "digits",
    "label_spreading_fraction": 0.2,
    "weight_entropy": 0.3,
    "weight_pseudo_label": 1.0,
    "pseudo_label_threshold": 0.8,
    "noise_input_std": 0.0,
    "noise_hidden_std": 0.0,
}

# The K+1 GAN on features of a frozen pretrained network. The trials are in docs/notes/features.md.
_FEATURES = {
    "network": "features",
    "backbone": DEFAULT_BACKBONE,
    "feature_length": "unit",
    "feature_neighbors": 10,
    "total_images": 100_000,
    "weight_entropy": 0.3,
    "weight_balance": 0.3,
    "latent_distribution": "normal",
    "learning_rate_d": 1e-3,
    "learning_rate_g": 1e-3,
    "adam_epsilon": 1e-4,
    "adam_epsilon_inside_root": False,
    "decay_last_fraction": 0.5,
    "ema_half_life_images": 13_829.0,
}

# Tables with a deviation of about 1 in each column, such as those of SSGANClassifier. The trials are in
# docs/notes/tables.md.
_TABLES = {
    "network": "features",
    "discriminator_widths": (128, 128),
    "generator_widths": (128, 128),
    "total_images": 20_000,
    "batch_size": 64,
    "noise_input_std": 0.5,
    "weight_entropy": 1.0,
    "weight_balance": 0.3,
    "latent_distribution": "normal",
    "learning_rate_d": 1e-3,
    "learning_rate_g": 1e-3,
    "adam_epsilon": 1e-4,
    "adam_epsilon_inside_root": False,
    "decay_last_fraction": 0.5,
    "ema_half_life_images": 2_800.0,
}

PRESETS: dict[str, dict[str, Any]] = {
    # Salimans et al., 2016, section 5.1, and its published code: the defaults are that recipe.
    "mnist-paper": {"labels": 100},
    # The same, section 5.2, and its code: 1,200 epochs of 50,000.
    "cifar10-paper": {**_PAPER_CONV, "labels": 4000, "total_images": 60_000_000},
    # Section 5.3, and its code: 900 epochs of 73,257.
    "svhn-paper": {**_PAPER_CONV, "labels": 1000, "total_images": 65_931_300, "discriminator_widths": (64, 128)},
    "digits": _DIGITS,
    # The classes of these data are known to be balanced.
    "digits-fast": {**_SMALL_IMAGES, "weight_balance": 1.0},
    # The classes of these data are known to be balanced. The trials are in docs/notes/mnist.md.
    "mnist-fast": {
        **_COMPACT,
        **_SPARSE_GENERATOR,
        "labels": 100,
        "augmentation": "digits",
        "weight_balance": 1.0,
        "label_spreading_fraction": 0.2,
        "total_images": 900_000,
    },
    # The trials are in docs/notes/images.md.
    "cifar10-fast": {
        **_FAST,
        **_MUON,
        **_SPARSE_GENERATOR,
        "network": "whitened-conv",
        "labels": 4000,
        "augmentation": "natural",
        "test_time_flip": True,
        "total_images": 900_000,
    },
    # Small digits on a CPU: widths, learning rate and batch size of many tutorials, and half of their length.
    "gan-mlp": {
        **_PLAIN_GAN,
        "network": "gan-mlp",
        "batch_size": 32,
        "total_images": 480_000,
        "grid_side": 5,
        "frames_every_images": 40_000,
    },
    # Images up to 32x32; and files of pictures resized to 64x64.
    "dcgan": _DCGAN,
    "dcgan-64": {**_DCGAN, "image_size": 64},
    # A user's own pictures, without a generator and with one, which takes more than twice the time for an image. At
    # equal time it lowers the error on the photographs of TrashNet, and raises it on drawings: docs/notes/muon.md.
    "images-fast": {**_COMPACT, **_MUON, **NO_GENERATOR, "augmentation": "digits", "total_images": 300_000},
    "images": {**_COMPACT, **_MUON, "augmentation": "digits", "total_images": 300_000},
    # The one-dimensional GAN, a thousand steps. The learning rates fall after every ten batches; that of G falls to 0,
    # since its numbers would otherwise oscillate around their target. The trials are in docs/notes/gaussian.md.
    "gaussian": {
        "labels": 0,
        "network": "toy",
        "total_images": 1_000_000,
        "batch_size": 200,
        "discriminator_steps": 5,
        "weight_unlabeled": 1.0,
        "weight_fake": 1.0,
        "weight_feature_matching": 0.0,
        "weight_non_saturating": 1.0,
        "latent_size": 1,
        "latent_distribution": "spread",
        "generator_norm": "none",
        "optimizer_d": "sgd",
        "optimizer_g": "sgd",
        "momentum_d": 0.6,
        "momentum_g": 0.6,
        "learning_rate_d": 0.1,
        "learning_rate_g": 0.01,
        "learning_rate_factor_d": 0.999,
        "learning_rate_factor_g": 0.999,
        "learning_rate_factor_every_images": 2000,
        "decay_last_fraction_g": 0.5,
        "report_every_images": 100_000,
    },
    # In Python, users' own images that are too small for convolutions.
    "small-images": _SMALL_IMAGES,
    "features": _FEATURES,
    "tables": _TABLES,
    # A user's own vectors, and pictures too small for convolutions.
    "vectors": {"total_images": 2_000_000},
}
DATASET_PRESETS = {
    "digits": "digits-fast",
    "mnist": "mnist-fast",
    "fashion-mnist": "mnist-fast",
    "cifar10": "cifar10-fast",
    "svhn": "svhn-paper",
    "gaussian": "gaussian",
}

# With these, the command line chooses the augmentation by what the pictures show.
PICTURE_PRESETS = ("images-fast", "images")

_TYPES = typing.get_type_hints(Config)


def default_preset(data: str, image_shape: Sequence[int], backbone: str | None = None) -> str:
    """Return the preset of a named data set, or for a user's own data the one that suits their shape.

    With a backbone it is ``features``. Otherwise a user's own data have ``images-fast``, or ``vectors`` if they are not
    pictures or too small for its network.
    """
    if backbone is not None:
        return "features"
    own_preset = "images-fast" if suits(str(PRESETS["images-fast"]["network"]), image_shape) else "vectors"
    return DATASET_PRESETS.get(data, own_preset)


def resolve(
    preset: str,
    overrides: Mapping[str, Any],
    earlier: Mapping[str, Any] | None = None,
    optional: Container[str] = (),
) -> Config:
    """Return the configuration of a preset, updated by the settings of an earlier run and then by ``overrides``.

    Overrides named in ``optional`` are dropped if they have no effect.

    Raises
    ------
    UserError
        For an unknown preset or field, a value outside its range, or an override without effect.

    Examples
    --------
    >>> resolve("digits", {"labels": 20, "method": "vat"}).method
    'vat'
    """
    earlier = {name: value for name, value in (earlier or {}).items() if name != "preset"}
    if preset not in PRESETS:
        raise UserError(f"Unknown preset {preset!r}: choose from {', '.join(PRESETS)}.{did_you_mean(preset, PRESETS)}")
    for name in [*earlier, *overrides]:
        _known(name)
    earlier = without_derived(earlier, overrides)
    if "preset" in overrides:
        raise UserError(f"preset={overrides['preset']} cannot be set together with a preset: choose it with --preset.")
    base = {"method": FIELDS["method"].default, **PRESETS[preset], "preset": preset}
    method = overrides.get("method", earlier.get("method", base["method"]))
    base, earlier = for_method(base, method), for_method({"method": method, **earlier}, method)
    labels = overrides.get("labels", earlier.get("labels", base.get("labels")))
    labels = fields.checked(FIELDS["labels"], _TYPES["labels"], labels)
    if base.get("labels") == 0 and labels != 0:
        raise UserError(
            f"labels is {fields.show(labels)}, but preset {preset} is a GAN without classes and uses no labels: omit "
            f"labels, or choose another preset, with --set network={base.get('network', 'mlp')} for its network."
        )
    base, earlier = for_labels(base, labels), for_labels({"labels": labels, **earlier}, labels)
    config = Config(**overlay(overlay(base, earlier), overrides))
    for name in overrides:
        if name in optional and not _has_effect(config, name):
            return resolve(preset, {k: v for k, v in overrides.items() if k != name}, earlier, optional)
    check_effects(config, overrides)
    return config


def check_effects(config: Config, settings: Mapping[str, Any]) -> None:
    """Raise a UserError for a setting of a configuration that differs from its default and has no effect."""
    for name, value in settings.items():
        if not _has_effect(config, name):
            raise UserError(f"{name}={fields.show(value)} has no effect: it needs {NEEDS[name][0]}.")


def _has_effect(config: Config, name: str) -> bool:
    return name not in NEEDS or getattr(config, name) == config.default(name) or NEEDS[name][1](config)


def resolve_early(preset: str, overrides: Mapping[str, Any], earlier: Mapping[str, Any] | None = None) -> Config:
    """Resolve the configuration before the data are read, which may still choose the augmentation.

    Parameters, result and errors are those of :func:`resolve`.
    """
    open_settings = () if "augmentation" in {**(earlier or {}), **overrides} else ("test_time_flip",)
    return resolve(preset, overrides, earlier, open_settings)


def resolve_for_unknown_shape(resolve_for_shape: Callable[[Sequence[int]], Config]) -> Config:
    """Resolve the configuration of images of unknown shape: settings that suit pictures or vectors are accepted.

    Parameters
    ----------
    resolve_for_shape : callable
        Resolves the configuration for one shape of an image.

    Raises
    ------
    UserError
        If the settings suit neither; the error is that for pictures.
    """
    try:
        return resolve_for_shape(PICTURE_SHAPE)
    except UserError as mistake:
        try:
            return resolve_for_shape(())
        except UserError:
            raise mistake from None


def parse(assignment: str) -> tuple[str, Any]:
    """Read ``field=value`` as a field's name and a value of its type.

    A tuple is written with commas, ``discriminator_widths=300,150``; no value as ``none``.

    Raises
    ------
    UserError
        If it is not of that form, the field is unknown or the value cannot be read.
    """
    name, equals, text = assignment.partition("=")
    name, text = name.strip(), text.strip()
    if not equals:
        raise UserError(f"{assignment!r} is not a setting: write field=value, such as batch_size=100.")
    _known(name)
    return name, fields.read(FIELDS[name], _TYPES[name], text)


def describe(config: Config) -> list[tuple[str, str, str]]:
    """Return name, value and unit of every field, as text."""
    return [(name, fields.show(getattr(config, name)), field.metadata["unit"]) for name, field in FIELDS.items()]


def allowed(name: str) -> str:
    """Return the allowed values of a field, in words."""
    return fields.allowed(FIELDS[name], _TYPES[name])


def _known(name: str) -> None:
    if name not in FIELDS:
        near = did_you_mean(name, FIELDS) or " `ssgan train DATA --dry-run` lists them all."
        raise UserError(f"Unknown setting {name!r}.{near}")

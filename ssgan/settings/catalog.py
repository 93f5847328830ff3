"""List the networks and methods: their defaults, the images of each network, and what follows from a setting."""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ssgan.errors import UserError, counted
from ssgan.settings import fields
from ssgan.settings.options import Options, default_image_size
from ssgan.settings.terms import TERMS

__all__ = [
    "BASELINE_NAMES",
    "METHOD_DEFAULTS",
    "METHOD_NAMES",
    "METHOD_SETTINGS",
    "NETWORKS",
    "NETWORK_NAMES",
    "NETWORK_SETTINGS",
    "UNSET",
    "MethodName",
    "NetworkName",
    "NetworkTraits",
    "OptimizerName",
    "OptimizerOfD",
    "check_augmentation",
    "check_image_shape",
    "check_range",
    "check_widths",
    "for_labels",
    "for_method",
    "is_picture_shape",
    "overlay",
    "square_of",
    "suits",
]


MethodName = Literal["gan", "supervised", "pseudo-label", "pi", "mean-teacher", "vat", "fixmatch"]
OptimizerName = Literal["adam", "sgd"]
OptimizerOfD = Literal["adam", "sgd", "muon"]
NetworkName = Literal[
    "mlp", "paper-conv", "compact-conv", "whitened-conv", "wide-resnet", "dcgan", "gan-mlp", "toy", "features"
]
METHOD_NAMES = typing.get_args(MethodName)
# Classical methods, which ssgan.compare.baselines fits; here, so that `--help` lists them without loading scikit-learn.
BASELINE_NAMES = ("logistic-regression", "svm", "knn", "label-spreading", "label-propagation", "self-training")
NETWORK_NAMES = typing.get_args(NetworkName)

# Default of a setting that takes its value from the network or the method.
UNSET: Any = object()


@dataclass(frozen=True)
class NetworkTraits:
    """Describe one network.

    Attributes
    ----------
    settings : mapping
        Default values of the settings that depend on the network.
    convolutional : bool
        Whether it takes images only, [H, W] or [H, W, C] with C 1 or 3.
    smallest : int
        The smallest height and width.
    squares : sequence of int
        The image sizes that it works in; other images are padded to the smallest one that holds them. Empty: any size
        from ``smallest`` on.
    widths : mapping
        The number of values that a setting of widths must have; settings not named may have any number.
    weight_norm : bool
        Whether the layers of D have weight norm with data-dependent initialisation.
    stores_images : bool
        Whether D stores images from the start of training, for batch statistics at evaluation.
    vectors : bool
        Whether it takes vectors [F] only, with values of any size.
    dropout : bool
        Whether D has dropout.
    """

    settings: Mapping[str, Any]
    convolutional: bool = True
    smallest: int = 1
    squares: Sequence[int] = ()
    widths: Mapping[str, int] = field(default_factory=dict)
    weight_norm: bool = True
    stores_images: bool = False
    vectors: bool = False
    dropout: bool = False


_NO_NOISE = {"noise_input_std": 0.0, "noise_hidden_std": 0.0, "dropout_input": 0.0, "dropout_hidden": 0.0}

# Lengths of VAT's perturbations for images in [0, 1], and in [-1, 1]. The paper's are about 0.07 for MNIST and 0.045
# for SVHN; on small digits 0.04 is far better than 0.07.
_VAT_UNIT_RANGE = {"vat_epsilon": 0.04, "vat_xi": 0.01}
_VAT_SIGNED_RANGE = {name: 2 * length for name, length in _VAT_UNIT_RANGE.items()}

NETWORKS = {
    "mlp": NetworkTraits(
        {
            **_NO_NOISE,
            "discriminator_widths": (1000, 500, 250, 250, 250),
            "generator_widths": (500, 500),
            "noise_input_std": 0.3,
            "noise_hidden_std": 0.5,
            **_VAT_UNIT_RANGE,
        },
        convolutional=False,
    ),
    "paper-conv": NetworkTraits(
        {
            **_NO_NOISE,
            "discriminator_widths": (96, 192),
            "generator_widths": (512, 256, 128),
            "dropout_input": 0.2,
            "dropout_hidden": 0.5,
            **_VAT_SIGNED_RANGE,
        },
        smallest=9,
        widths={"discriminator_widths": 2},
    ),
    "compact-conv": NetworkTraits(
        {
            **_NO_NOISE,
            "discriminator_widths": (32, 64, 128),
            "generator_widths": (64, 32),
            "dropout_input": 0.2,
            "dropout_hidden": 0.5,
            **_VAT_UNIT_RANGE,
        },
        smallest=17,
        widths={"discriminator_widths": 3},
    ),
    "whitened-conv": NetworkTraits(
        {
            **_NO_NOISE,
            "discriminator_widths": (32, 64, 128),
            "generator_widths": (64, 32),
            **_VAT_UNIT_RANGE,
        },
        smallest=9,
        widths={"discriminator_widths": 3},
    ),
    "wide-resnet": NetworkTraits(
        {
            **_NO_NOISE,
            "discriminator_widths": (32, 64, 128),
            "generator_widths": (512, 256, 128),
            **_VAT_SIGNED_RANGE,
        },
        smallest=8,
        widths={"discriminator_widths": 3},
    ),
    "dcgan": NetworkTraits(
        {**_NO_NOISE, "discriminator_widths": (64,), "generator_widths": (64,), **_VAT_SIGNED_RANGE},
        smallest=17,
        squares=(32, 64),
        widths={"discriminator_widths": 1, "generator_widths": 1},
        weight_norm=False,
        stores_images=True,
    ),
    "gan-mlp": NetworkTraits(
        {**_NO_NOISE, "discriminator_widths": (512, 256), "generator_widths": (256, 512, 1024), **_VAT_SIGNED_RANGE},
        convolutional=False,
        weight_norm=False,
    ),
    "toy": NetworkTraits(
        {**_NO_NOISE, "discriminator_widths": (10, 10), "generator_widths": (10, 10), **_VAT_UNIT_RANGE},
        convolutional=False,
        weight_norm=False,
        vectors=True,
    ),
    # For values with a standard deviation of about 1. The trials are in docs/notes/features.md.
    "features": NetworkTraits(
        {
            **_NO_NOISE,
            "discriminator_widths": (256, 256),
            "generator_widths": (256, 256),
            "noise_input_std": 1.0,
            "dropout_hidden": 0.3,
            "vat_epsilon": 0.4,
            "vat_xi": 0.1,
        },
        convolutional=False,
        vectors=True,
        dropout=True,
    ),
}
NETWORK_SETTINGS = tuple(NETWORKS["mlp"].settings)

_NO_TERM: Mapping[str, float] = {
    **{term.setting: 0.0 for term in TERMS if term.default is None},
    "pseudo_label_threshold": 0.95,
    "ramp_up_fraction": 0.0,
    "label_spreading_fraction": 0.0,
}
_GAN = {**_NO_TERM, "weight_unlabeled": 0.5, "weight_fake": 0.5}

# The terms of D's loss that each method has besides L, by their weights. The trials are in docs/notes/methods.md.
METHOD_DEFAULTS: dict[str, Mapping[str, float]] = {
    "gan": _GAN,
    "supervised": _GAN,  # without effect: this method ignores these weights
    "pseudo-label": {**_NO_TERM, "weight_self_label": 1.0, "ramp_up_fraction": 0.3},
    "pi": {**_NO_TERM, "weight_consistency": 30.0},
    "mean-teacher": {**_NO_TERM, "weight_mean_teacher": 30.0, "ramp_up_fraction": 0.3},
    "vat": {**_NO_TERM, "weight_vat": 1.0},
    "fixmatch": {**_NO_TERM, "weight_pseudo_label": 1.0},
}
METHOD_SETTINGS = tuple(_NO_TERM)
VIEW_SETTINGS = ("test_time_flip",)  # settings that a preset chooses for its views


def check_widths(network: str, name: str, widths: Sequence[int]) -> None:
    """Check that a setting of widths has as many numbers as the network takes.

    Raises
    ------
    UserError
        If it does not.
    """
    count = NETWORKS[network].widths.get(name, len(widths))
    if len(widths) != count:
        shown, numbers = ",".join(map(str, widths)), counted(count, "number")
        raise UserError(f"{name} is {shown}, but network {network} accepts {numbers}.")


def is_picture_shape(image_shape: Sequence[int]) -> bool:
    """Return whether images of this shape are grey or colour pictures, [H, W] or [H, W, C] with C = 1 or 3."""
    return len(image_shape) == 2 or (len(image_shape) == 3 and image_shape[2] in (1, 3))


def suits(network: str, image_shape: Sequence[int]) -> bool:
    """Return whether the network takes images of this shape."""
    traits = NETWORKS[network]
    if traits.vectors:
        return len(image_shape) == 1
    if not traits.convolutional:
        return True
    sides = tuple(image_shape[:2]) if is_picture_shape(image_shape) else (0, 0)
    return min(sides) >= traits.smallest and (not traits.squares or max(sides) <= max(traits.squares))


def check_image_shape(network: str, image_shape: Sequence[int]) -> None:
    """Check that the network takes images of this shape.

    Raises
    ------
    UserError
        If it does not.
    """
    if not suits(network, image_shape):
        traits = NETWORKS[network]
        if traits.vectors:
            raise UserError(
                f"Network {network} accepts vectors, such as those of gaussian or features of a backbone, but these "
                f"are images {list(image_shape)}: choose another network, or set a backbone for network features."
            )
        sizes, n = f"{traits.smallest}x{traits.smallest}", max(traits.squares, default=0)
        sizes = f"{sizes} to {n}x{n}" if n else f"at least {sizes}"
        raise UserError(
            f"Network {network} accepts images of {sizes} pixels, [H, W] or [H, W, C] with 1 or 3 channels, "
            f"but these are {list(image_shape)}: choose another network, or for files of pictures another image_size."
        )


def square_of(network: str, image_shape: Sequence[int]) -> int:
    """Return the size to which the network pads images of this shape."""
    return min(n for n in NETWORKS[network].squares if n >= max(image_shape[:2]))


def check_augmentation(augmentation: str, image_shape: Sequence[int]) -> None:
    """Check that the data are images if there is an augmentation.

    Raises
    ------
    UserError
        If the data are vectors, or images not of 1 or 3 channels.
    """
    if augmentation != "none" and len(image_shape) > 1 and not is_picture_shape(image_shape):
        raise UserError(
            f"augmentation is {augmentation!r}, but these images are {list(image_shape)}, and not of 1 or 3 channels: "
            f"leave it at 'none'."
        )
    if augmentation != "none" and len(image_shape) < 2:
        raise UserError(
            f"augmentation is {augmentation!r}, but these data are vectors of {image_shape[0]} numbers, not images: "
            f"leave it at 'none'."
        )


def check_range(network: str, name: str, bounded: bool) -> None:
    """Check that the network takes the range of numbers of the data.

    Raises
    ------
    UserError
        If it does not.
    """
    if not bounded and not NETWORKS[network].vectors:
        networks = " or ".join(key for key, traits in NETWORKS.items() if traits.vectors)
        raise UserError(
            f"{name} holds numbers of any size, but network {network} accepts images from 0 to full intensity: leave "
            f"network at {networks}."
        )


def overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` updated by ``above``; settings of a network or of views that ``above`` changes are dropped."""
    network, views = below.get("network", "mlp"), below.get("augmentation")
    dropped = set(NETWORK_SETTINGS if above.get("network", network) != network else ())
    dropped |= set(VIEW_SETTINGS if above.get("augmentation", views) != views else ())
    return {**{name: value for name, value in below.items() if name not in dropped}, **above}


# Settings whose default follows from another setting.
DERIVED = {"image_size": "backbone", "test_share": "folds"}


def derived_default(name: str, folds: int, backbone: str | None) -> Any:
    """Return the default of a setting of ``DERIVED``."""
    if name == "test_share":
        return 0.0 if folds else Options.test_share
    return default_image_size(backbone) if backbone else None


def without_derived(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Drop values that are only defaults derived from a setting in ``changes``."""
    folds, backbone = settings.get("folds") or 0, settings.get("backbone")
    dropped = {
        name
        for name, source in DERIVED.items()
        if source in changes and name in settings and settings[name] == derived_default(name, folds, backbone)
    }
    return {name: value for name, value in settings.items() if name not in dropped}


def for_method(settings: Mapping[str, Any], method: Any) -> dict[str, Any]:
    """Return settings for another method: the weights that were chosen for the old one are dropped.

    The baseline uses no such weights and keeps those of ``gan``. It learns from the given labels only.
    """
    old_defaults, new_defaults = (METHOD_DEFAULTS.get(str(name)) for name in (settings["method"], method))
    dropped = METHOD_SETTINGS if old_defaults != new_defaults else ()
    dropped = (*dropped, "label_spreading_fraction") if method == "supervised" else dropped
    return {**{name: value for name, value in settings.items() if name not in dropped}, "method": method}


def for_labels(settings: Mapping[str, Any], labels: Any) -> dict[str, Any]:
    """Return settings for a number of labels; without labels, settings for learning classes are dropped."""
    drops_classes = labels == 0 and settings.get("labels") != 0
    of_classes = (*METHOD_SETTINGS, *VIEW_SETTINGS, "weight_labeled", "augmentation", "adversarial_steps")
    dropped = of_classes if drops_classes else ()
    return {name: value for name, value in settings.items() if name not in dropped}


# Settings that do not change what a step computes, and so may change when a run is resumed.
INDEPENDENT_OF_STEPS = {
    *("preset", "device", "cuda_graph", "tensorboard"),
    *("report_every_images", "evaluate_every_images", "frames_every_images", "checkpoint_every_seconds"),
}
# What depends on the length of training if one of these is set; a message names the first.
_BY_LENGTH = {
    "decay_last_fraction": "every step size depends",
    "decay_last_fraction_g": "every step size depends",
    "ramp_up_fraction": "every weight depends",
    "label_spreading_fraction": "the labels of a batch depend",
}


def resume_conflicts(saved: Any, requested: Any) -> list[str]:
    """List the changes that prevent a run from being resumed, as :meth:`Config.resume_conflicts` does."""
    conflicts = []
    idle = {
        "ramp_up_fraction": not saved.needs_class_probabilities,
        "label_spreading_fraction": not saved.spreads_labels,
    }
    cause = next((name for name in _BY_LENGTH if getattr(saved, name) and not idle.get(name)), "")
    changes = saved.diff(requested)
    for name, (old, new) in changes.items():
        if DERIVED.get(name) in changes:
            continue
        longer = name == "total_images" and new > old
        if name in INDEPENDENT_OF_STEPS or (longer and not cause):
            continue
        # Shown values are rounded: two values that differ must not look alike.
        show = fields.show if fields.show(old) != fields.show(new) else repr
        why = f" (with {cause} above 0, {_BY_LENGTH[cause]} on the length)" if longer else ""
        conflicts.append(f"{name} {show(old)}, now {show(new)}{why}")
    return conflicts

"""Recipes by name, each a difference from the defaults of ``config``, and the one that a data set names."""

from typing import Any

__all__ = ["DATASET_PRESETS", "PRESETS"]

# The paper's recipe for CIFAR-10 and SVHN, beyond the defaults.
_PAPER_CONV = {
    "network": "paper-conv",
    "learning_rate_d": 3e-4,
    "learning_rate_g": 3e-4,
    "decay_last_fraction": 1 / 3,
    "feature_matching_norm": "l1",
}

# What a CPU has time for: strong views learn the class that their weak views are fairly sure of, and weak views are
# pressed to be sure. The trials are in results/NOTES.md.
_FAST = {
    "network": "compact-conv",
    "batch_size": 50,
    "weight_entropy": 1.0,
    "weight_pseudo_label": 1.0,
    "pseudo_label_threshold": 0.8,
    "decay_last_fraction": 1.0,
    "ema_half_life_images": 10_000.0,
    "dropout_input": 0.0,
    "dropout_hidden": 0.0,
}
# Its phase and its images take most of a step.
_NO_GENERATOR = {"weight_unlabeled": 0.0, "weight_fake": 0.0}

# A GAN without classes, as its textbooks have it: the non-saturating objective, and Adam of the frameworks.
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

# The paper's network and losses for small digits, narrower and longer. The trials are in results/NOTES.md.
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

PRESETS: dict[str, dict[str, Any]] = {
    # Salimans et al., 2016, section 5.1, and its published code: the defaults are that recipe.
    "mnist-paper": {"labels": 100},
    # The same, section 5.2, and its code: 1,200 epochs of 50,000.
    "cifar10-paper": {**_PAPER_CONV, "labels": 4000, "total_images": 60_000_000},
    # Section 5.3, and its code: 900 epochs of 73,257.
    "svhn-paper": {**_PAPER_CONV, "labels": 1000, "total_images": 65_931_300, "discriminator_widths": (64, 128)},
    "digits": _DIGITS,
    # With pseudo-labels from weak to strong views, which blur enough by themselves: noise inside makes it worse.
    "digits-fast": {
        **_DIGITS,
        "total_images": 200_000,
        "augmentation": "digits",
        "weight_entropy": 0.3,
        "weight_pseudo_label": 1.0,
        "pseudo_label_threshold": 0.8,
        "noise_input_std": 0.0,
        "noise_hidden_std": 0.0,
    },
    "mnist-fast": {**_FAST, **_NO_GENERATOR, "labels": 100, "augmentation": "digits", "total_images": 900_000},
    "cifar10-fast": {**_FAST, **_NO_GENERATOR, "labels": 4000, "augmentation": "natural", "total_images": 900_000},
    # Small digits on a CPU: sizes, step size and batch of the lesson that it is known from, and half of its length.
    "gan-mlp": {
        **_PLAIN_GAN,
        "network": "gan-mlp",
        "batch_size": 32,
        "total_images": 480_000,
        "grid_side": 5,
        "frames_every_images": 40_000,
    },
    # Squares of 32x32, which hold 28x28 too; and files of pictures brought to 64x64.
    "dcgan": _DCGAN,
    "dcgan-64": {**_DCGAN, "image_size": 64},
    # A user's own pictures, with the labels that they have. The generator costs as much again; without it p(generated),
    # the warning that a picture looks like none of the classes, would mean nothing.
    "images": {**_FAST, "augmentation": "digits", "total_images": 300_000},
    # The one-dimensional GAN, a thousand steps. The rates fall after every ten batches; that of G falls to 0 at the
    # end, where its numbers would go on swinging around their target, and D keeps up with it. The trials are
    # in results/NOTES.md.
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
    # A user's own numbers, and pictures too small for convolutions.
    "vectors": {"total_images": 2_000_000},
}
DATASET_PRESETS = {
    "digits": "digits",
    "mnist": "mnist-fast",
    "fashion-mnist": "mnist-fast",
    "cifar10": "cifar10-fast",
    "svhn": "svhn-paper",
    "gaussian": "gaussian",
}

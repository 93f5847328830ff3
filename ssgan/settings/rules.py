"""What settings ask of each other: those that contradict each other, and those that do nothing without others.

What the settings of a run come to: which terms its losses have, and what those need."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from ssgan.errors import UserError
from ssgan.settings.catalog import NETWORKS

__all__ = ["METHOD_NEEDS", "NEEDS", "Need", "Terms", "check_config"]


# What is needed, and whether it holds.
Need = tuple[str, Callable[[Any], bool]]

_GENERATOR_OBJECTIVES = ("weight_feature_matching", "weight_minimax", "weight_non_saturating")

# Of terms that ask of unlabelled images to be sure of a class, or of several passes to agree on it.
_CLASS_TERMS = (
    *("weight_entropy", "weight_consistency", "weight_mean_teacher", "weight_vat"),
    *("weight_pseudo_label", "weight_self_label"),
)

_GENERATOR = ("a method that trains a generator (method=gan, weight_fake above 0)", lambda c: c.trains_generator)
_UNLABELED = ("method=gan, or another that learns from unlabelled images", lambda c: c.method != "supervised")
_DIFFERENCE = "passes that differ: noise_hidden_std, with convolutions dropout_hidden, or an augmentation"
_every = attrgetter("learning_rate_factor_every_images")
_VIEWS = "augmentation=digits, or augmentation=natural for photographs"
_VAT = ("weight_vat above 0", lambda c: c.method != "supervised" and c.weight_vat > 0)

_ADAM = ("Adam, as optimizer_d or optimizer_g", lambda c: c.uses_adam)
_CLASSES = ("classes to learn (labels above 0)", lambda c: not c.unconditional)

NEEDS: dict[str, Need] = {
    **dict.fromkeys(["weight_labeled", "evaluate_every_images"], _CLASSES),
    **dict.fromkeys(
        ["weight_unlabeled", "weight_fake", "weight_entropy", "weight_mean_teacher", "weight_vat", "weight_self_label"],
        _UNLABELED,
    ),
    "weight_consistency": (
        f"method=gan, or another that learns from unlabelled images, and {_DIFFERENCE}",
        lambda c: c.method != "supervised" and c.passes_differ,
    ),
    "weight_pseudo_label": (
        "method=gan, or another that learns from unlabelled images, and an augmentation",
        lambda c: c.method != "supervised" and c.augmentation != "none",
    ),
    "pseudo_label_threshold": ("weight_pseudo_label or weight_self_label above 0", lambda c: c.labels_unlabeled),
    "vat_epsilon": _VAT,
    "vat_xi": _VAT,
    "vat_power_iterations": _VAT,
    "ramp_up_fraction": (
        "a weight of unlabelled images beside weight_unlabeled, such as weight_consistency",
        lambda c: c.asks_agreement,
    ),
    "real_target": (
        "method=gan and weight_unlabeled above 0",
        lambda c: c.method != "supervised" and c.weight_unlabeled > 0,
    ),
    **dict.fromkeys(
        [
            *_GENERATOR_OBJECTIVES,
            "weight_pull_away",
            "generator_widths",
            "generator_norm",
            "latent_size",
            "latent_distribution",
            "learning_rate_g",
            "optimizer_g",
            "decay_last_fraction_g",
        ],
        _GENERATOR,
    ),
    **dict.fromkeys(
        ["frames_every_images", "grid_side"],
        (
            "a method that trains a generator (method=gan, weight_fake above 0), and a network of pictures",
            lambda c: c.trains_generator and not NETWORKS[c.network].vectors,
        ),
    ),
    "feature_matching_norm": (
        "feature matching (method=gan, weight_feature_matching above 0)",
        lambda c: c.trains_generator and c.weight_feature_matching > 0,
    ),
    **dict.fromkeys(
        ["dropout_input", "dropout_hidden"],
        ("a convolutional network, such as compact-conv", lambda c: c.convolutional),
    ),
    "init_images": (
        "a network with weight norm or batch norm in D, or minibatch_kernels above 0",
        lambda c: c.weight_norm or c.stores_images,
    ),
    **dict.fromkeys(["adam_beta1", "adam_beta2", "adam_epsilon", "adam_epsilon_inside_root"], _ADAM),
    "momentum_d": ("optimizer_d=sgd", lambda c: c.optimizer_d == "sgd"),
    "momentum_g": (
        "optimizer_g=sgd and a method that trains a generator",
        lambda c: c.trains_generator and c.optimizer_g == "sgd",
    ),
    "learning_rate_factor_d": ("learning_rate_factor_every_images above 0", lambda c: bool(_every(c))),
    "learning_rate_factor_g": (
        "learning_rate_factor_every_images above 0 and a method that trains a generator",
        lambda c: c.trains_generator and bool(_every(c)),
    ),
    "learning_rate_factor_every_images": (
        "learning_rate_factor_d or learning_rate_factor_g other than 1",
        lambda c: c.learning_rate_factor_d != 1 or (c.trains_generator and c.learning_rate_factor_g != 1),
    ),
    "minibatch_kernel_dim": ("minibatch_kernels above 0", lambda c: c.minibatch_kernels > 0),
    "reference_rows": ("generator_norm=virtual", lambda c: c.trains_generator and c.generator_norm == "virtual"),
    "draw_seed": ("a number of labels to draw (labels)", lambda c: bool(c.labels) and isinstance(c.labels, int)),
    "test_seed": ("test_share above 0", lambda c: c.test_share > 0),
}

# The same of a method whose own term would be empty.
METHOD_NEEDS: dict[str, Need] = {
    "pi": (_DIFFERENCE, lambda c: c.passes_differ or not c.weight_consistency),
    "fixmatch": (_VIEWS, lambda c: c.augmentation != "none" or not c.weight_pseudo_label),
}


def check_config(config: Any) -> None:
    """Refuse settings that contradict each other.

    Raises
    ------
    UserError
    """
    if config.unconditional:
        _check_unconditional(config)
    if config.folds == 1:
        raise UserError("folds is 1, but must be 0 for none, or at least 2: each is left out in turn.")
    if config.folds and len(set(config.draw_seeds)) > 1 and isinstance(config.labels, int):
        raise UserError(
            f"folds is {config.folds}, but the {config.seeds} models have different labelled images: set draw_seed, so "
            f"that there is one draw to cut into folds."
        )
    if config.folds and config.seed_strategy == "direct":
        raise UserError(
            f"seed_strategy is 'direct', which trains one model, but folds trains {config.folds} side by side: "
            f"choose loop or vmap."
        )
    if config.seed_strategy == "direct" and config.seeds > 1:
        raise UserError(
            f"seed_strategy is 'direct', which trains one seed, but seeds is {config.seeds}: choose vmap or loop."
        )
    if config.latent_distribution == "spread" and config.latent_size != 1:
        raise UserError(
            f"latent_distribution is 'spread', which is one number a row, but latent_size is {config.latent_size}: set "
            f"it to 1."
        )
    if config.init_images == 1:
        raise UserError("init_images is 1, but must be 0 for none, or at least 2: one image has no deviation.")
    if not config.init_images and config.stores_images:
        why = "minibatch discrimination" if config.minibatch_kernels else f"network {config.network}"
        raise UserError(f"init_images is 0, but {why} keeps images from then to compare others with: set 2 or more.")
    if config.uses_adam and config.adam_epsilon_inside_root and not config.adam_beta2:
        raise UserError("adam_beta2 is 0, with which epsilon cannot stand inside the root: raise it.")
    if config.precision != "float32" and config.dtype == "float64":
        raise UserError(f"precision is {config.precision!r}, which rounds what dtype 'float64' is for: drop one.")
    if config.trains_generator and not any(getattr(config, name) for name in _GENERATOR_OBJECTIVES):
        raise UserError(
            f"Every objective of the generator has weight 0: set one of {', '.join(_GENERATOR_OBJECTIVES)}, "
            f"or weight_fake=0 to train without a generator."
        )
    needed, holds = METHOD_NEEDS.get(config.method, ("", lambda c: True))
    if not holds(config):
        raise UserError(f"method={config.method} would learn nothing from unlabelled images: it needs {needed}.")
    if not (config.learns_from_labels or config.trains_generator or config.sees_unlabeled):
        raise UserError("Every weight of the discriminator's loss is 0: set weight_labeled above 0.")


def _check_unconditional(config: Any) -> None:
    """Refuse what a GAN without classes has no use for, and what it cannot do without."""
    what = "labels is 0, which is a GAN without classes"
    if config.method != "gan":
        raise UserError(f"{what}, but method {config.method} learns classes: choose method gan, or labels above 0.")
    for name in _CLASS_TERMS:
        if getattr(config, name):
            raise UserError(
                f"{what}, but {name} is {getattr(config, name):g} and asks which class an image has: set it to 0, or "
                f"labels above 0."
            )
    for name in ("weight_unlabeled", "weight_fake"):
        if not getattr(config, name):
            raise UserError(f"{what}, but {name} is 0, so it would learn nothing: set it above 0.")
    if config.folds:
        raise UserError(
            f"{what}, but folds is {config.folds} and cuts labelled images: set it to 0, or labels above 0."
        )


class Terms:
    """Facts derived from settings, about the losses and the networks. The base of Config, which has the fields."""

    method: Any
    network: Any
    labels: Any
    weight_labeled: Any
    augmentation: Any
    noise_input_std: Any
    noise_hidden_std: Any
    dropout_input: Any
    dropout_hidden: Any
    minibatch_kernels: Any

    @property
    def unconditional(self) -> bool:
        """Whether this is a GAN without classes: K = 1, the one logit is that of real, and no image has a label."""
        return self.labels == 0

    @property
    def learns_from_labels(self) -> bool:
        """Whether L is there."""
        return bool(self.weight_labeled) and not self.unconditional

    def outputs(self, classes: int) -> int:
        """K, the logits of D where the data have so many classes."""
        return 1 if self.unconditional else classes

    @property
    def trains_generator(self) -> bool:
        """Whether D sees generated images at all."""
        return self._has("fake")

    @property
    def learns_from_unlabeled(self) -> bool:
        """Whether a term of D's loss sends a gradient through unlabelled images as they are."""
        return self._has("unlabeled", "entropy", "consistency", "mean_teacher", "self_label")

    @property
    def sees_unlabeled(self) -> bool:
        """Whether a term of D's loss needs unlabelled images."""
        return self._has("unlabeled") or self.asks_agreement

    @property
    def asks_agreement(self) -> bool:
        """Whether a term asks of unlabelled images to be sure of a class, or of several passes to agree on it."""
        return self._has("entropy", "consistency", "mean_teacher", "vat") or self.labels_unlabeled

    @property
    def labels_unlabeled(self) -> bool:
        """Whether unlabelled images learn from a class that D is sure of."""
        return self._has("pseudo_label", "self_label")

    @property
    def has_teacher(self) -> bool:
        """Whether a term needs the averaged D while training."""
        return self._has("mean_teacher")

    @property
    def needs_strong_views(self) -> bool:
        """Whether a term needs strong views of unlabelled images."""
        return self._has("pseudo_label")

    @property
    def needs_second_views(self) -> bool:
        """Whether a term compares two weak views of unlabelled images."""
        return self._has("consistency", "mean_teacher")

    @property
    def passes_differ(self) -> bool:
        """Whether two passes over the same images differ: by noise, dropout or augmentation."""
        dropout = self.convolutional and (self.dropout_input or self.dropout_hidden)
        return bool(self.augmentation != "none" or self.noise_input_std or self.noise_hidden_std or dropout)

    @property
    def convolutional(self) -> bool:
        """Whether the network takes pictures alone."""
        return NETWORKS[self.network].convolutional

    @property
    def weight_norm(self) -> bool:
        """Whether the network's layers have weight norm."""
        return NETWORKS[self.network].weight_norm

    @property
    def stores_images(self) -> bool:
        """Whether D keeps images from the beginning."""
        return NETWORKS[self.network].stores_images or self.minibatch_kernels > 0

    def _has(self, *terms: str) -> bool:
        """Whether one of these terms of D's loss on images without labels is there."""
        return self.method != "supervised" and any(getattr(self, f"weight_{term}") for term in terms)

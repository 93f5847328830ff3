"""Derive facts from settings, and check that settings fit each other."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from ssgan.errors import UserError
from ssgan.settings.catalog import NETWORKS
from ssgan.settings.options import FEATURE_SETTINGS
from ssgan.settings.terms import TERMS, Term, parameters_of_terms

__all__ = ["METHOD_NEEDS", "NEEDS", "DerivedSettings", "Need", "check_config"]


# What is needed, in words, and a predicate: whether a configuration has it.
Need = tuple[str, Callable[[Any], bool]]

_GENERATOR = ("a method that trains a generator (method=gan, weight_fake above 0)", lambda c: c.trains_generator)
_UNLABELED = ("method=gan, or another that learns from unlabelled images", lambda c: c.method != "supervised")
_DIFFERENCE = "passes that differ: noise_hidden_std, with convolutions dropout_hidden, or an augmentation"
_factor_interval = attrgetter("learning_rate_factor_every_images")
_VIEWS = "augmentation=digits or drawings, augmentation=natural for photographs, or augmentation=crops with a backbone"
_ADAM = ("Adam, as optimizer_d or optimizer_g", lambda c: c.uses_adam)
_CLASSES = ("classes to learn (labels above 0)", lambda c: not c.unconditional)

# What the weight of a term needs, by ``Term.needs``.
_TERM_NEEDS: dict[str, Need] = {
    "classes": _CLASSES,
    "unlabeled images": _UNLABELED,
    "different passes": (f"{_UNLABELED[0]}, and {_DIFFERENCE}", lambda c: c.method != "supervised" and c.passes_differ),
    "an augmentation": (
        f"{_UNLABELED[0]}, and an augmentation",
        lambda c: c.method != "supervised" and c.augmentation != "none",
    ),
    "a generator": _GENERATOR,
}


def _needs_of_terms() -> dict[str, Need]:
    """List what the weights of the terms need, and that a parameter of terms needs one of these terms."""
    needs = {term.setting: _TERM_NEEDS[term.needs] for term in TERMS}
    for name, terms in parameters_of_terms().items():
        text = " or ".join(term.setting for term in terms) + " above 0"
        needs[name] = (text, _has_any(terms))
    return needs


def _has_any(terms: Sequence[Term]) -> Callable[[Any], bool]:
    return lambda c: bool(c.has(*(term.name for term in terms)))


NEEDS: dict[str, Need] = {
    **_needs_of_terms(),
    "evaluate_every_images": _CLASSES,
    "ramp_up_fraction": (
        "a weight of unlabelled images in addition to weight_unlabeled, such as weight_consistency",
        lambda c: c.needs_class_probabilities,
    ),
    "label_spreading_fraction": (
        f"{_UNLABELED[0]}, labels above 0, and weight_labeled above 0",
        lambda c: c.spreads_labels,
    ),
    "test_time_flip": (
        "augmentation=natural and labels above 0",
        lambda c: c.augmentation == "natural" and not c.unconditional,
    ),
    "real_target": (
        "method=gan and weight_unlabeled above 0",
        lambda c: c.has("unlabeled"),
    ),
    **dict.fromkeys(
        [
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
    "adversarial_steps": (
        "a method that trains a generator (method=gan, weight_fake above 0), and discriminator_steps above it",
        lambda c: c.batches_with_fakes < c.discriminator_steps,
    ),
    "feature_matching_norm": (
        "feature matching (method=gan, weight_feature_matching above 0)",
        lambda c: c.has("feature_matching"),
    ),
    **dict.fromkeys(
        ["dropout_input", "dropout_hidden"],
        ("a network with dropout, such as compact-conv or features", lambda c: c.has_dropout),
    ),
    "init_images": (
        "a network with weight norm or batch norm in D, or minibatch_kernels above 0",
        lambda c: c.weight_norm or c.stores_images,
    ),
    **dict.fromkeys(["adam_beta1", "adam_beta2", "adam_epsilon", "adam_epsilon_inside_root"], _ADAM),
    "momentum_d": ("optimizer_d=sgd or muon", lambda c: c.optimizer_d != "adam"),
    "learning_rate_muon": ("optimizer_d=muon", lambda c: c.optimizer_d == "muon"),
    "momentum_g": (
        "optimizer_g=sgd and a method that trains a generator",
        lambda c: c.trains_generator and c.optimizer_g == "sgd",
    ),
    "learning_rate_factor_d": ("learning_rate_factor_every_images above 0", lambda c: bool(_factor_interval(c))),
    "learning_rate_factor_g": (
        "learning_rate_factor_every_images above 0 and a method that trains a generator",
        lambda c: c.trains_generator and bool(_factor_interval(c)),
    ),
    "learning_rate_factor_every_images": (
        "learning_rate_factor_d or learning_rate_factor_g other than 1",
        lambda c: c.learning_rate_factor_d != 1 or (c.trains_generator and c.learning_rate_factor_g != 1),
    ),
    "minibatch_kernel_dim": ("minibatch_kernels above 0", lambda c: c.minibatch_kernels > 0),
    "reference_rows": ("generator_norm=virtual", lambda c: c.trains_generator and c.generator_norm == "virtual"),
    "draw_seed": ("a number of labels to draw (labels)", lambda c: bool(c.labels) and isinstance(c.labels, int)),
    **dict.fromkeys(FEATURE_SETTINGS, ("a backbone", lambda c: c.backbone is not None)),
    "test_seed": ("test_share above 0", lambda c: c.test_share > 0),
}

# What a method needs, so that its own term is not always 0.
METHOD_NEEDS: dict[str, Need] = {
    "pi": (_DIFFERENCE, lambda c: c.passes_differ or not c.weight("consistency")),
    "fixmatch": (_VIEWS, lambda c: c.augmentation != "none" or not c.weight("pseudo_label")),
}


def check_config(config: Any) -> None:
    """Refuse settings that contradict each other.

    Raises
    ------
    UserError
    """
    if config.unconditional:
        _check_unconditional(config)
    if config.backbone is not None:
        _check_backbone_settings(config)
    elif config.augmentation == "crops":
        raise UserError(
            "augmentation is 'crops', which are features of a backbone, but there is no backbone: set backbone, or "
            "choose digits, drawings or natural."
        )
    if config.folds == 1:
        raise UserError("folds is 1, but must be 0 for none, or at least 2: each is left out in turn.")
    if config.folds and len(set(config.draw_seeds)) > 1 and isinstance(config.labels, int):
        raise UserError(
            f"folds is {config.folds}, but the {config.seeds} models have different labelled images: set draw_seed, so "
            f"that there is one draw to split into folds."
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
    if config.trains_generator and config.adversarial_steps > config.discriminator_steps:
        raise UserError(
            f"adversarial_steps is {config.adversarial_steps}, but is counted among discriminator_steps, which is "
            f"{config.discriminator_steps}: lower it, or raise discriminator_steps."
        )
    if config.batches_with_fakes < config.discriminator_steps and all(term.adversarial for term in config.terms("D")):
        raise UserError(
            f"adversarial_steps is {config.adversarial_steps} of {config.discriminator_steps}, but D's loss is only U "
            f"and V, so the other steps would learn nothing: set it to 0."
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
        raise UserError(
            f"init_images is 0, but {why} compares with images kept from the initialisation: set 2 or more."
        )
    if config.uses_adam and config.adam_epsilon_inside_root and not config.adam_beta2:
        raise UserError("adam_beta2 is 0, with which epsilon cannot be inside the root: raise it.")
    if config.optimizer_d == "muon" and not config.weight_norm:
        raise UserError(
            f"optimizer_d is 'muon', which needs weight norm in D, but {config.network} has none: use adam."
        )
    if config.optimizer_d == "muon" and not config.learning_rate_d:
        raise UserError("learning_rate_d is 0, but the rate of Muon follows its schedule: set it above 0.")
    if config.precision != "float32" and config.dtype == "float64":
        raise UserError(f"precision is {config.precision!r}, which defeats the purpose of dtype 'float64': change one.")
    if config.trains_generator and not any(term.objective for term in config.terms("G")):
        objectives = ", ".join(term.setting for term in TERMS if term.objective)
        raise UserError(
            f"Every objective of the generator has weight 0: set one of {objectives}, "
            f"or weight_fake=0 to train without a generator."
        )
    needed, holds = METHOD_NEEDS.get(config.method, ("", lambda c: True))
    if not holds(config):
        raise UserError(f"method={config.method} would learn nothing from unlabelled images: it needs {needed}.")
    if not (config.learns_from_labels or config.trains_generator or config.sees_unlabeled):
        raise UserError("Every weight of the discriminator's loss is 0: set weight_labeled above 0.")


def _check_backbone_settings(config: Any) -> None:
    """Refuse settings that do not suit the features of a backbone."""
    what = f"backbone is {config.backbone!r}"
    if not NETWORKS[config.network].vectors:
        raise UserError(
            f"{what}, but network {config.network} does not accept features: set network=features, or omit --preset."
        )
    if config.augmentation in ("digits", "drawings", "natural"):
        raise UserError(
            f"{what}, so the networks see features and not pixels, but augmentation is {config.augmentation!r}: leave "
            f"it at 'none', or choose 'crops'."
        )


def _check_unconditional(config: Any) -> None:
    """Check that a GAN without classes has every setting that it needs and none that it cannot use."""
    what = "labels is 0, which is a GAN without classes"
    if config.method != "gan":
        raise UserError(f"{what}, but method {config.method} learns classes: choose method gan, or labels above 0.")
    for term in TERMS:
        weight = config.weight(term.name)
        if term.ramped and weight:
            raise UserError(
                f"{what}, but {term.setting} is {weight:g} and needs class probabilities: set it to 0, or "
                f"labels above 0."
            )
    for name in ("unlabeled", "fake"):
        if not config.weight(name):
            raise UserError(f"{what}, but weight_{name} is 0, so it would learn nothing: set it above 0.")
    if config.folds:
        raise UserError(
            f"{what}, but folds is {config.folds} and splits labelled images: set it to 0, or labels above 0."
        )


class DerivedSettings:
    """Derived properties; base class of :class:`ssgan.settings.config.Config`, which has the fields."""

    method: Any
    network: Any
    labels: Any
    seed: Any
    seeds: Any
    draw_seed: Any
    augmentation: Any
    test_time_flip: Any
    noise_input_std: Any
    noise_hidden_std: Any
    dropout_input: Any
    dropout_hidden: Any
    minibatch_kernels: Any
    discriminator_steps: Any
    adversarial_steps: Any
    optimizer_d: Any
    optimizer_g: Any

    # Terms

    def weight(self, term: str) -> float:
        """Return the weight of a term as it was set, whether the method uses it or not."""
        value: float = getattr(self, f"weight_{term}")
        return value

    def has(self, *terms: str) -> bool:
        """Return whether one of these terms is in a loss."""
        return any(self._uses(term) for term in TERMS if term.name in terms)

    def terms(self, net: str) -> tuple[Term, ...]:
        """Return the terms in the loss of ``"D"`` or ``"G"``. A term of weight 0 is not among them."""
        return tuple(term for term in TERMS if term.net == net and self._uses(term))

    def _uses(self, term: Term) -> bool:
        if not self.weight(term.name):
            return False
        if term.needs == "classes":
            return not self.unconditional
        return self.method != "supervised" and (term.net == "D" or self.trains_generator)

    @property
    def unconditional(self) -> bool:
        """Whether this is a GAN without classes: K = 1, the only logit is that of "real", and no image has a label."""
        return self.labels == 0

    @property
    def learns_from_labels(self) -> bool:
        """Whether L is in D's loss."""
        return self.has("labeled")

    @property
    def trains_generator(self) -> bool:
        """Whether D sees generated images at all."""
        return self.has("fake")

    @property
    def why_no_generator(self) -> str:
        """Why models with these settings have no generator, in words."""
        return "they were trained with weight_fake=0" if self.method == "gan" else f"method {self.method!r} trains none"

    @property
    def batches_with_fakes(self) -> int:
        """The number of D's batches in a step, the first ones, on which U and V are in its loss."""
        steps: int = self.discriminator_steps
        return self.adversarial_steps or steps if self.trains_generator else steps

    @property
    def sees_unlabeled(self) -> bool:
        """Whether a term of D's loss needs unlabelled images."""
        return self.has("unlabeled") or self.needs_class_probabilities

    @property
    def needs_class_probabilities(self) -> bool:
        """Whether a term of D's loss needs class probabilities of unlabelled images."""
        return any(term.ramped for term in self.terms("D"))

    @property
    def spreads_labels(self) -> bool:
        """Whether the training may begin with labels by label spreading."""
        return self.method != "supervised" and self.learns_from_labels and not self.unconditional

    @property
    def has_teacher(self) -> bool:
        """Whether a term needs the averaged D while training."""
        return self._has_input("teacher")

    @property
    def needs_strong_views(self) -> bool:
        """Whether a term needs strong views of unlabelled images."""
        return self._has_input("strong")

    @property
    def needs_second_views(self) -> bool:
        """Whether a term needs second weak views of unlabelled images."""
        return self._has_input("unlabeled_again") or self.has_teacher

    @property
    def flips_at_test(self) -> bool:
        """Whether evaluations and predictions average the logits of an image and of its mirror image."""
        return bool(self.test_time_flip and self.augmentation == "natural" and not self.unconditional)

    def _has_input(self, name: str) -> bool:
        return any(name in term.inputs for term in self.terms("D"))

    @property
    def passes_differ(self) -> bool:
        """Whether two passes over the same images differ: by noise, dropout or augmentation."""
        dropout = self.has_dropout and (self.dropout_input or self.dropout_hidden)
        return bool(self.augmentation != "none" or self.noise_input_std or self.noise_hidden_std or dropout)

    # Networks

    def outputs(self, classes: int) -> int:
        """Return K, the number of D's logits for data with ``classes`` classes."""
        return 1 if self.unconditional else classes

    @property
    def convolutional(self) -> bool:
        """Whether the network takes only pictures."""
        return NETWORKS[self.network].convolutional

    @property
    def has_dropout(self) -> bool:
        """Whether the network has dropout."""
        return self.convolutional or NETWORKS[self.network].dropout

    @property
    def weight_norm(self) -> bool:
        """Whether the network's layers have weight norm."""
        return NETWORKS[self.network].weight_norm

    @property
    def stores_images(self) -> bool:
        """Whether D stores images from the start of training."""
        return NETWORKS[self.network].stores_images or self.minibatch_kernels > 0

    # Seeds and optimisers

    @property
    def all_seeds(self) -> list[int]:
        """The seed of each model."""
        return list(range(self.seed, self.seed + self.seeds))

    @property
    def draw_seeds(self) -> list[int]:
        """The seed of each model's label draw."""
        return [seed if self.draw_seed is None else self.draw_seed for seed in self.all_seeds]

    @property
    def recorded_draw_seeds(self) -> list[int | None]:
        """The draw seed of each model in results; None if no seed drew the labels."""
        by_draw = isinstance(self.labels, int) and self.labels > 0
        return [*self.draw_seeds] if by_draw else [None] * self.seeds

    @property
    def uses_adam(self) -> bool:
        """Whether Adam trains one of the networks."""
        return self.optimizer_d != "sgd" or (self.trains_generator and self.optimizer_g == "adam")

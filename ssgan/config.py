"""Every setting of a run, with its unit, its default and what it may be. No torch here.

The defaults are the paper's MNIST recipe; a preset is a diff against them. Precedence: preset, then
a configuration file, then flags and ``--set field=value``. What a network brings along (``traits``) is the
default of some settings, and values of theirs that were chosen for another network are left behind.
"""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ssgan import fields
from ssgan.errors import UserError, did_you_mean
from ssgan.fields import setting
from ssgan.options import ImageMode, Options
from ssgan.presets import DATASET_PRESETS, PRESETS
from ssgan.traits import OWN, OWN_SETTINGS, TRAITS, check_widths

__all__ = [
    "DATASET_PRESETS",
    "METHOD_NAMES",
    "NETWORK_NAMES",
    "PRESETS",
    "Config",
    "allowed",
    "describe",
    "parse",
    "resolve",
]

MethodName = Literal["gan", "supervised"]
NetworkName = Literal["mlp", "paper-conv", "compact-conv", "wide-resnet", "dcgan"]
METHOD_NAMES = typing.get_args(MethodName)
NETWORK_NAMES = typing.get_args(NetworkName)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one run, checked when made.

    Fields that end in ``_images`` count unlabelled images seen in D's phase, per model.

    Raises
    ------
    UserError
        For a value outside its range.
    """

    preset: str = setting("", "name", "the preset this came from, for the record")
    # What is trained
    method: MethodName = setting("gan", "name", "how a batch becomes losses")
    network: NetworkName = setting("mlp", "name", "the pair of G and D")
    labels: int | Literal["all"] | None = setting(
        None, "images", "labelled images in total, drawn class-balanced; all, or none to use the labels as given", 1
    )
    seed: int = setting(0, "seed", "the first seed: initialisation, order and noise", 0, 2**31)
    seeds: int = setting(1, "models", "models trained side by side, with seeds counted up from seed", 1, 4096)
    draw_seed: int | None = setting(
        None,
        "seed",
        "the draw of labelled images, the same for every model; none: each draws by its seed",
        0,
        2**31,
    )
    folds: int = setting(
        0, "folds", "of the labelled images, each left out by one more model to measure the error; 0: none", 0, 4096
    )
    # How files of pictures become data
    image_size: int | None = setting(
        Options.image_size,
        "pixels",
        "square that files of pictures are brought to: shorter side resized, middle kept; none: as they are",
        1,
        4096,
    )
    image_mode: ImageMode = setting(
        Options.image_mode, "name", "channels of files of pictures; auto: grey where every file is"
    )
    test_share: float = setting(
        OWN,
        "share",
        "of each class's labelled pictures held out for testing, where files have no test share of their own; "
        "default 0.2, with folds 0",
        0,
        0.9,
    )
    test_seed: int = setting(Options.test_seed, "seed", "which pictures are held out for testing", 0, 2**31)
    # How long
    total_images: int = setting(18_000_000, "images", "length of training", 1)
    batch_size: int = setting(100, "images", "rows of each labelled, unlabelled and generated batch", 2)
    discriminator_steps: int = setting(1, "steps", "D steps, each on fresh batches, for each step of G", 1)
    # D's loss
    weight_labeled: float = setting(1.0, "weight", "of L, the cross-entropy of labelled images")
    weight_unlabeled: float = setting(0.5, "weight", "of U, -log p(real) of unlabelled images")
    weight_fake: float = setting(0.5, "weight", "of V, -log p(generated) of generated images; 0 trains no generator")
    real_target: float = setting(1.0, "probability", "U's target for real; below 1 is one-sided label smoothing", 0, 1)
    weight_entropy: float = setting(0.0, "weight", "of the class entropy of unlabelled images")
    weight_consistency: float = setting(
        0.0, "weight", "of the squared difference in class probabilities of two noisy passes over unlabelled images"
    )
    weight_pseudo_label: float = setting(
        0.0, "weight", "of the cross-entropy of strong views against the class that weak views are sure of"
    )
    pseudo_label_threshold: float = setting(0.95, "probability", "above which a weak view is sure of its class")
    # G's loss
    weight_feature_matching: float = setting(1.0, "weight", "of feature matching")
    feature_matching_norm: Literal["l2", "l1"] = setting("l2", "name", "squared or absolute differences")
    weight_minimax: float = setting(0.0, "weight", "of log p(generated) of generated images")
    weight_non_saturating: float = setting(0.0, "weight", "of -log p(real) of generated images")
    weight_pull_away: float = setting(0.0, "weight", "of the squared cosine between features of generated images")
    # Augmentation
    augmentation: Literal["none", "digits", "natural"] = setting(
        "none", "name", "weak views of every image that D sees: small affine maps, and flips of natural images"
    )
    # Both
    weight_historical_averaging: float = setting(
        0.0, "weight", "of the squared distance to the mean of past parameters"
    )
    # Networks
    discriminator_widths: tuple[int, ...] = setting(
        OWN, "units", "hidden layers of D, or their channels; default by network", 1
    )
    generator_widths: tuple[int, ...] = setting(
        OWN, "units", "hidden layers of G, or their channels; default by network", 1
    )
    noise_input_std: float = setting(OWN, "intensity", "Gaussian noise on D's input while training; default by network")
    noise_hidden_std: float = setting(
        OWN, "activation", "Gaussian noise before D's other layers while training; default by network"
    )
    dropout_input: float = setting(OWN, "share", "dropout of D's input while training; default by network", 0, 0.99)
    dropout_hidden: float = setting(OWN, "share", "dropout inside D while training; default by network", 0, 0.99)
    minibatch_kernels: int = setting(0, "kernels", "minibatch discrimination in D; 0 has none")
    minibatch_kernel_dim: int = setting(5, "features", "size of a kernel of minibatch discrimination", 1)
    latent_size: int = setting(100, "features", "size of G's noise", 1)
    latent_distribution: Literal["uniform", "normal"] = setting("uniform", "name", "G's noise: U(0, 1) or N(0, 1)")
    generator_norm: Literal["batch", "virtual", "none"] = setting("batch", "name", "normalisation of G's hidden layers")
    reference_rows: int = setting(100, "rows", "reference batch of virtual batch norm in G", 2)
    init_images: int = setting(500, "images", "pool images of the data-dependent initialisation of D", 2)
    # Optimisation
    learning_rate_d: float = setting(3e-3, "per step", "Adam's step size for D")
    learning_rate_g: float = setting(3e-3, "per step", "Adam's step size for G")
    adam_beta1: float = setting(0.5, "decay per step", "of Adam's first moment", 0, 0.9999999)
    adam_beta2: float = setting(0.999, "decay per step", "of Adam's second moment", 0, 0.9999999)
    adam_epsilon: float = setting(
        1e-8, "squared gradient", "Adam's epsilon; a gradient if outside the root", 0, 1, True
    )
    adam_epsilon_inside_root: bool = setting(True, "yes or no", "sqrt(v + epsilon), as the paper's code")
    decay_last_fraction: float = setting(
        0.0, "share of training", "over which both step sizes fall linearly to 0", 0, 1
    )
    ema_half_life_images: float = setting(
        693_112.0,
        "images",
        "half-life of the average of D that is evaluated; 693,112 is 1e-4 a step of 100",
        0,
        1e12,
        above=True,
    )
    # Reports and machine
    report_every_images: int = setting(10_000, "images", "between reports, where losses are read from the device", 1)
    evaluate_every_images: int = setting(
        0, "images", "between test errors in the log, never used to choose; 0: at the end only"
    )
    frames_every_images: int = setting(
        0, "images", "between pictures of the fixed grid, for `ssgan sample --animate`; 0: none"
    )
    checkpoint_every_seconds: float = setting(
        60.0, "seconds", "between checkpoints, written at the report that follows; 0: at every report"
    )
    device: str = setting("auto", "name", "auto, cpu, cuda, cuda:N or mps")
    dtype: Literal["float32", "float64"] = setting("float32", "name", "of parameters and images")
    precision: Literal["float32", "tf32", "bfloat16"] = setting(
        "float32", "name", "of products and convolutions; tf32 is for CUDA, bfloat16 for processors that have it too"
    )
    seed_strategy: Literal["auto", "direct", "vmap", "loop"] = setting(
        "auto", "name", "how several seeds are trained: in one stack of kernels, or one by one on the CPU's threads"
    )
    cuda_graph: bool = setting(True, "yes or no", "on CUDA, record the step once and replay it")

    def __post_init__(self) -> None:
        for name, field in FIELDS.items():
            # The network stands before the settings that it decides on.
            value = self.default(name) if getattr(self, name) is OWN else getattr(self, name)
            object.__setattr__(self, name, fields.checked(field, _TYPES[name], value))
        if self.folds == 1:
            raise UserError("folds is 1, but must be 0 for none, or at least 2: each is left out in turn.")
        if self.folds and len(set(self.draw_seeds)) > 1 and isinstance(self.labels, int):
            raise UserError(
                f"folds is {self.folds}, but the {self.seeds} models have different labelled images: set draw_seed, so "
                f"that there is one draw to cut into folds."
            )
        if self.folds and self.seed_strategy == "direct":
            raise UserError(
                f"seed_strategy is 'direct', which trains one model, but folds trains {self.folds} side by side: "
                f"choose loop or vmap."
            )
        for name in ("discriminator_widths", "generator_widths"):
            check_widths(self.network, name, getattr(self, name))
        if self.seed_strategy == "direct" and self.seeds > 1:
            raise UserError(
                f"seed_strategy is 'direct', which trains one seed, but seeds is {self.seeds}: choose vmap or loop."
            )
        if self.precision != "float32" and self.dtype == "float64":
            raise UserError(f"precision is {self.precision!r}, which rounds what dtype 'float64' is for: drop one.")
        if self.trains_generator and not any(getattr(self, name) for name in _GENERATOR_OBJECTIVES):
            raise UserError(
                f"Every objective of the generator has weight 0: set one of {', '.join(_GENERATOR_OBJECTIVES)}, "
                f"or weight_fake=0 to train without a generator."
            )
        others = (self.weight_fake, self.sees_unlabeled) if self.method == "gan" else ()
        if not (self.weight_labeled or any(others)):
            raise UserError("Every weight of the discriminator's loss is 0: set weight_labeled above 0.")

    def default(self, name: str) -> Any:
        """What a field is where nobody has chosen: for some of them, the network's own."""
        if name == "test_share":
            return 0.0 if self.folds else Options.test_share
        return TRAITS[self.network].settings.get(name, FIELDS[name].default)

    @property
    def steps(self) -> int:
        """Steps of training, each ``discriminator_steps`` unlabelled batches long."""
        return max(1, round(self.total_images / self.images_per_step))

    @property
    def images_per_step(self) -> int:
        """Unlabelled images that D sees in one step."""
        return self.batch_size * self.discriminator_steps

    @property
    def ema_decay(self) -> float:
        """What a step leaves of D's average."""
        return 0.5 ** (self.images_per_step / self.ema_half_life_images)

    @property
    def all_seeds(self) -> list[int]:
        """The seed of each model."""
        return list(range(self.seed, self.seed + self.seeds))

    @property
    def draw_seeds(self) -> list[int]:
        """The seed of each model's draw of labelled images."""
        return [seed if self.draw_seed is None else self.draw_seed for seed in self.all_seeds]

    @property
    def trains_generator(self) -> bool:
        """Whether D sees generated images at all."""
        return self.method == "gan" and self.weight_fake > 0

    @property
    def learns_from_unlabeled(self) -> bool:
        """Whether a term of D's loss sends a gradient through unlabelled images as they are."""
        weights = (self.weight_unlabeled, self.weight_entropy, self.weight_consistency)
        return self.method == "gan" and any(weights)

    @property
    def sees_unlabeled(self) -> bool:
        """Whether a term of D's loss needs unlabelled images."""
        return self.learns_from_unlabeled or (self.method == "gan" and self.weight_pseudo_label > 0)

    @property
    def sha256(self) -> str:
        """Hash of the settings that decide a result and differ from the defaults: not device, seeds and reports.

        A setting that comes to the software later leaves the hash of older results as it is.
        """
        chosen = {name: getattr(self, name) for name in FIELDS if getattr(self, name) != self.default(name)}
        decisive = {name: value for name, value in chosen.items() if name not in _INDECISIVE}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as ``config.json`` holds them."""
        plain = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Config":
        """Read what :meth:`to_dict` gave.

        Raises
        ------
        UserError
            Where it holds settings that this version does not know.
        """
        strange = sorted(set(plain) - set(FIELDS))
        if strange:
            raise UserError(f"The configuration holds settings that this version does not know: {', '.join(strange)}.")
        return cls(**plain)

    def replace(self, **changes: Any) -> "Config":
        """A checked copy with other values."""
        ours = {name: getattr(self, name) for name in FIELDS}
        return Config(**_over(ours, changes))

    def diff(self, other: "Config") -> dict[str, tuple[Any, Any]]:
        """The fields in which two configurations differ, with both values."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def hinders(self, other: "Config") -> list[str]:
        """What in ``other`` keeps a run begun with these settings from going on with those, in words.

        Where and how often to report may change, and a longer ``total_images`` where the step size is constant:
        the steps so far are then the same.
        """
        said = []
        for name, (ours, theirs) in self.diff(other).items():
            longer = name == "total_images" and theirs > ours
            if name in _BESIDE or (longer and not self.decay_last_fraction):
                continue
            # What is shown is rounded: two values that differ must not look alike.
            show = fields.show if fields.show(ours) != fields.show(theirs) else repr
            why = " (with decay_last_fraction above 0, every step size depends on the length)" if longer else ""
            said.append(f"{name} {show(ours)}, now {show(theirs)}{why}")
        return said


FIELDS = {field.name: field for field in dataclasses.fields(Config)}
_TYPES = typing.get_type_hints(Config)
# What has no part in what a step computes.
_BESIDE = {
    *("preset", "device", "cuda_graph"),
    *("report_every_images", "evaluate_every_images", "frames_every_images", "checkpoint_every_seconds"),
}
_INDECISIVE = {*_BESIDE, "seed", "seeds", "draw_seed", "folds"}
_GENERATOR_OBJECTIVES = ("weight_feature_matching", "weight_minimax", "weight_non_saturating")

# Settings that do something only where another one allows it: (what is needed, whether it holds).
_NEEDS_GENERATOR = ("a method that trains a generator (method=gan, weight_fake above 0)", lambda c: c.trains_generator)
_NEEDS_GAN = ("method=gan", lambda c: c.method == "gan")
_NEEDS: dict[str, tuple[str, Callable[[Config], bool]]] = {
    "weight_unlabeled": _NEEDS_GAN,
    "weight_fake": _NEEDS_GAN,
    "weight_entropy": _NEEDS_GAN,
    "weight_consistency": _NEEDS_GAN,
    "weight_pseudo_label": ("method=gan and an augmentation", lambda c: c.method == "gan" and c.augmentation != "none"),
    "pseudo_label_threshold": ("weight_pseudo_label above 0", lambda c: c.weight_pseudo_label > 0),
    "real_target": ("method=gan and weight_unlabeled above 0", lambda c: c.method == "gan" and c.weight_unlabeled > 0),
    **dict.fromkeys(
        [
            *_GENERATOR_OBJECTIVES,
            "weight_pull_away",
            "generator_widths",
            "generator_norm",
            "latent_size",
            "latent_distribution",
            "learning_rate_g",
            "frames_every_images",
        ],
        _NEEDS_GENERATOR,
    ),
    "feature_matching_norm": (
        "feature matching (method=gan, weight_feature_matching above 0)",
        lambda c: c.trains_generator and c.weight_feature_matching > 0,
    ),
    **dict.fromkeys(
        ["dropout_input", "dropout_hidden"],
        ("a convolutional network, such as compact-conv", lambda c: TRAITS[c.network].convolutional),
    ),
    "minibatch_kernel_dim": ("minibatch_kernels above 0", lambda c: c.minibatch_kernels > 0),
    "reference_rows": ("generator_norm=virtual", lambda c: c.trains_generator and c.generator_norm == "virtual"),
    "draw_seed": ("a number of labels to draw (labels)", lambda c: isinstance(c.labels, int)),
    "test_seed": ("test_share above 0", lambda c: c.test_share > 0),
}


def resolve(preset: str, overrides: Mapping[str, Any], earlier: Mapping[str, Any] | None = None) -> Config:
    """The configuration of a preset, with the settings of an earlier run and then the user's own on top.

    Raises
    ------
    UserError
        For an unknown preset or field, a value outside its range, or one of the user's own settings that would
        do nothing.
    """
    earlier = {name: value for name, value in (earlier or {}).items() if name != "preset"}
    if preset not in PRESETS:
        raise UserError(f"Unknown preset {preset!r}: choose from {', '.join(PRESETS)}.{did_you_mean(preset, PRESETS)}")
    for name in [*earlier, *overrides]:
        _known(name)
    if "folds" in overrides and earlier.get("test_share") == (0.0 if earlier.get("folds") else Options.test_share):
        del earlier["test_share"]  # nobody chose it: it followed from the folds
    if "preset" in overrides:
        raise UserError(f"preset={overrides['preset']} cannot be set beside a preset: choose it with --preset.")
    config = Config(**_over(_over({**PRESETS[preset], "preset": preset}, earlier), overrides))
    for name in overrides:
        needed, holds = _NEEDS.get(name, ("", lambda c: True))
        if getattr(config, name) != config.default(name) and not holds(config):
            raise UserError(f"{name}={fields.show(overrides[name])} would do nothing: it needs {needed}.")
    return config


def parse(assignment: str) -> tuple[str, Any]:
    """Read ``field=value`` as a field's name and a value of its type.

    A tuple is written with commas, ``discriminator_widths=300,150``; no value as ``none``.

    Raises
    ------
    UserError
        Where it is not of that form, the field is unknown or the value cannot be read.
    """
    name, equals, text = assignment.partition("=")
    name, text = name.strip(), text.strip()
    if not equals:
        raise UserError(f"{assignment!r} is no setting: write field=value, such as batch_size=100.")
    _known(name)
    return name, fields.read(FIELDS[name], _TYPES[name], text)


def describe(config: Config) -> list[tuple[str, str, str]]:
    """Name, value and unit of every field, in order, for people."""
    return [(name, fields.show(getattr(config, name)), field.metadata["unit"]) for name, field in FIELDS.items()]


def allowed(name: str) -> str:
    """What a field may be, in words."""
    return fields.allowed(FIELDS[name], _TYPES[name])


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings laid over others; where they bring another network, what was the old one's own does not stay."""
    before = below.get("network", FIELDS["network"].default)
    left = OWN_SETTINGS if above.get("network", before) != before else ()
    return {**{name: value for name, value in below.items() if name not in left}, **above}


def _known(name: str) -> None:
    if name not in FIELDS:
        near = did_you_mean(name, FIELDS) or " `ssgan train DATA --dry-run` lists them all."
        raise UserError(f"Unknown setting {name!r}.{near}")

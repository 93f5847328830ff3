"""Define every setting of a run, with its unit, default and allowed values. Imports no torch.

The defaults are the paper's MNIST recipe; a preset is a difference from them. Precedence: preset, then
a configuration file, then flags and ``--set field=value``. Some settings take their default from the network or
the method (``catalog``); values chosen for another network or method are dropped when it changes.
"""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ssgan.errors import UserError
from ssgan.settings import fields
from ssgan.settings.catalog import (
    DERIVED,
    INDEPENDENT_OF_STEPS,
    METHOD_DEFAULTS,
    NETWORKS,
    UNSET,
    MethodName,
    NetworkName,
    OptimizerName,
    OptimizerOfD,
    check_widths,
    derived_default,
    for_method,
    overlay,
    resume_conflicts,
    without_derived,
)
from ssgan.settings.fields import setting
from ssgan.settings.options import IMAGE_SIZE, TEST_SHARE, DataSettings, check_backbone
from ssgan.settings.rules import DerivedSettings, check_config
from ssgan.settings.terms import TERMS, Term

__all__ = ["FIELDS", "Config"]


def _weight_setting(term: Term) -> Any:
    """Return the setting of a term's weight."""
    by_method = term.default is None
    text = f"of {term.text}" + ("; default by method" if by_method else "")
    return setting(UNSET if by_method else term.default, "weight", text)


if TYPE_CHECKING:

    class _TermWeights:
        """The weight of each term as a field; read by ``Config.weight``."""
else:
    _TermWeights = dataclasses.make_dataclass(
        "_TermWeights", [(term.setting, float, _weight_setting(term)) for term in TERMS], frozen=True, kw_only=True
    )


@dataclass(frozen=True, kw_only=True)
class Config(DerivedSettings, _TermWeights, DataSettings):
    """The settings of one run, checked on construction.

    Besides the fields below it has those of :class:`DataSettings` and the weight of each term in :mod:`terms`.
    Fields that end in ``_images`` count unlabelled images seen in D's phase, per model.

    Raises
    ------
    UserError
        For a value outside its range.
    """

    preset: str = setting("", "name", "the preset this came from, for the record")
    # What is trained
    method: MethodName = setting("gan", "name", "which terms D's loss has: the default of their weights")
    network: NetworkName = setting("mlp", "name", "the pair of G and D")
    labels: int | Literal["all"] | None = setting(
        None,
        "images",
        "labelled images in total, drawn class-balanced; all, or none to use the labels as given; 0: a GAN without "
        "classes",
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
        0, "folds", "of cross-validation over the labelled images, one more model each; 0: none", 0, 4096
    )
    image_size: int | None = setting(UNSET, *IMAGE_SIZE)
    test_share: float = setting(UNSET, *TEST_SHARE)
    feature_components: int = setting(
        128,
        "components",
        "principal components of the pool that the features of a backbone are reduced to; 0: all features, each with "
        "a deviation of 1",
    )
    feature_length: Literal["free", "unit"] = setting(
        "free", "name", "unit: the components of each picture are divided by their length, so that angles count"
    )
    feature_neighbors: int = setting(
        0,
        "pictures",
        "of the pool that are nearest by angle and are averaged with each picture's features; 0: none",
        0,
        1000,
    )
    # How long
    total_images: int = setting(18_000_000, "images", "length of training", 1)
    batch_size: int = setting(100, "images", "rows of each labelled, unlabelled and generated batch", 2)
    discriminator_steps: int = setting(1, "steps", "D steps, each on fresh batches, for each step of G", 1)
    adversarial_steps: int = setting(
        0,
        "steps",
        "how many of discriminator_steps use generated images (U and V); 0: all; fewer are cheaper",
    )
    # Losses, beside the weights of their terms
    real_target: float = setting(1.0, "probability", "U's target for real; below 1 is one-sided label smoothing", 0, 1)
    vat_epsilon: float = setting(
        UNSET,
        "intensity",
        "length of the worst change of an image, root mean square over its numbers; default by network",
    )
    vat_xi: float = setting(
        UNSET,
        "intensity",
        "step length of VAT's power method; default by network",
        0,
        above=True,
    )
    vat_power_iterations: int = setting(1, "steps", "power iterations of VAT", 1)
    pseudo_label_threshold: float = setting(
        UNSET, "probability", "above which the prediction for a weak view is used as its class; default by method"
    )
    ramp_up_fraction: float = setting(
        UNSET,
        "share of training",
        "over which the weights of all terms on unlabelled images but U rise from 0.7 % of their value; "
        "default by method",
        0,
        1,
    )
    label_spreading_fraction: float = setting(
        UNSET,
        "share of training",
        "at its beginning, in which labelled batches come from the whole pool, with labels that label spreading over "
        "nearest neighbours gives; 0: none",
        0,
        1,
    )
    feature_matching_norm: Literal["l2", "l1"] = setting("l2", "name", "squared or absolute differences")
    weight_historical_averaging: float = setting(
        0.0, "weight", "of the squared distance to the mean of past parameters"
    )
    # Augmentation
    augmentation: Literal["none", "digits", "drawings", "natural", "crops"] = setting(
        "none",
        "name",
        "weak views of every image that D sees. digits: small affine maps on a black background; drawings: the same "
        "on any; natural: flips and shifts, and colours in strong views; crops: with a backbone, features of the "
        "mirrored picture, and of crops as strong views",
    )
    test_time_flip: bool = setting(
        False,
        "yes or no",
        "with augmentation=natural, evaluate and predict by the mean of the logits of an image and of its mirror "
        "image, in twice the time",
    )
    # Networks
    discriminator_widths: tuple[int, ...] = setting(
        UNSET, "units", "hidden layers of D, or their channels; default by network", 1
    )
    generator_widths: tuple[int, ...] = setting(
        UNSET, "units", "hidden layers of G, or their channels; default by network", 1
    )
    noise_input_std: float = setting(
        UNSET, "intensity", "Gaussian noise on D's input while training; default by network"
    )
    noise_hidden_std: float = setting(
        UNSET, "activation", "Gaussian noise before D's other layers while training; default by network"
    )
    dropout_input: float = setting(UNSET, "share", "dropout of D's input while training; default by network", 0, 0.99)
    dropout_hidden: float = setting(UNSET, "share", "dropout inside D while training; default by network", 0, 0.99)
    minibatch_kernels: int = setting(0, "kernels", "minibatch discrimination in D; 0: none")
    minibatch_kernel_dim: int = setting(5, "features", "size of a kernel of minibatch discrimination", 1)
    latent_size: int = setting(100, "features", "size of G's noise", 1)
    latent_distribution: Literal["uniform", "normal", "spread"] = setting(
        "uniform", "name", "G's noise: U(0, 1), N(0, 1), or one number spread evenly from -5 to 5 over a batch"
    )
    generator_norm: Literal["batch", "virtual", "none"] = setting("batch", "name", "normalisation of G's hidden layers")
    reference_rows: int = setting(100, "rows", "reference batch of virtual batch norm in G", 2)
    init_images: int = setting(
        500,
        "images",
        "pool images of the data-dependent initialisation of D; 0: weights stay as they were drawn",
        high=10_000,  # all pass through D at once
    )
    # Optimisation
    optimizer_d: OptimizerOfD = setting("adam", "name", "optimiser of D: Adam, gradient descent, or Muon")
    optimizer_g: OptimizerName = setting("adam", "name", "optimiser of G")
    learning_rate_d: float = setting(3e-3, "per step", "learning rate of D")
    learning_rate_g: float = setting(3e-3, "per step", "learning rate of G")
    learning_rate_muon: float = setting(0.03, "radians per step", "learning rate of Muon in D", 0, above=True)
    momentum_d: float = setting(
        0.9, "decay per step", "Nesterov's momentum of D under sgd or muon; 0: none", 0, 0.9999999
    )
    momentum_g: float = setting(0.9, "decay per step", "Nesterov's momentum of G under sgd; 0: none", 0, 0.9999999)
    adam_beta1: float = setting(0.5, "decay per step", "of Adam's first moment", 0, 0.9999999)
    adam_beta2: float = setting(0.999, "decay per step", "of Adam's second moment", 0, 0.9999999)
    adam_epsilon: float = setting(
        1e-8, "squared gradient", "Adam's epsilon; a gradient if it is outside the root", 0, 1, True
    )
    adam_epsilon_inside_root: bool = setting(
        True, "yes or no", "sqrt(v + epsilon), as the paper's code; false: sqrt(v) + epsilon, as torch"
    )
    decay_last_fraction: float = setting(
        0.0, "share of training", "over which both learning rates fall linearly to 0", 0, 1
    )
    decay_last_fraction_g: float | None = setting(
        None, "share of training", "over which G's rate falls; none: as decay_last_fraction", 0, 1
    )
    learning_rate_factor_d: float = setting(
        1.0, "times", "factor of D's learning rate, every learning_rate_factor_every_images", 0, 1, above=True
    )
    learning_rate_factor_g: float = setting(
        1.0, "times", "factor of G's learning rate, every learning_rate_factor_every_images", 0, 1, above=True
    )
    learning_rate_factor_every_images: int = setting(
        0, "images", "between multiplications of the learning rates by their factors; 0: none"
    )
    ema_half_life_images: float = setting(
        693_112.0,
        "images",
        "half-life of the moving average (EMA) of D's weights, which is evaluated; 693,112: decay 0.9999 per 100",
        0,
        1e12,
        above=True,
    )
    # Reports and machine
    grid_side: int = setting(10, "images", "to a side of the grid of generated images, and of its frames", 1, 100)
    report_every_images: int = setting(10_000, "images", "between reports, where losses are read from the device", 1)
    evaluate_every_images: int = setting(
        0, "images", "between test errors in the log, never used to choose; 0: none in the log"
    )
    frames_every_images: int = setting(
        0, "images", "between pictures of the fixed grid, for `ssgan sample --animate`; 0: none"
    )
    tensorboard: bool = setting(
        False, "yes or no", "write the log as TensorBoard events too; needs the extra ssgan[tensorboard]"
    )
    checkpoint_every_seconds: float = setting(
        60.0, "seconds", "between checkpoints, written at the report that follows; 0: at every report"
    )
    device: str = setting("auto", "name", "auto, cpu, cuda, cuda:N or mps")
    dtype: Literal["float32", "float64"] = setting("float32", "name", "of parameters and images")
    precision: Literal["float32", "tf32", "bfloat16"] = setting(
        "float32",
        "name",
        "of what the networks compute, except G's output activation and the losses; tf32 is for CUDA only",
    )
    seed_strategy: Literal["auto", "direct", "vmap", "loop"] = setting(
        "auto", "name", "how several seeds are trained: vectorised together (vmap), or one by one on the CPU's threads"
    )
    cuda_graph: bool = setting(True, "yes or no", "on CUDA, record the step once and replay it")
    compile_losses: bool = setting(
        False, "yes or no", "on CUDA, fuse the kernels of each loss with torch.compile, which first takes minutes"
    )

    def __post_init__(self) -> None:
        for name, field in FIELDS.items():
            # Network and method come before the settings whose defaults they determine.
            value = self.default(name) if getattr(self, name) is UNSET else getattr(self, name)
            object.__setattr__(self, name, fields.checked(field, _TYPES[name], value))
        if self.backbone is not None:
            check_backbone(self.backbone)
        check_config(self)
        for name in ("discriminator_widths", "generator_widths"):
            check_widths(self.network, name, getattr(self, name))

    def default(self, name: str) -> Any:
        """Return the default of a field; for some of them it depends on the network or the method."""
        return _default(name, self.network, self.method, self.folds, self.backbone)

    @classmethod
    def values_of(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of every field under some settings, without checking that they are consistent."""
        values = {name: settings.get(name, field.default) for name, field in FIELDS.items()}
        decisive = [values[name] for name in ("network", "method", "folds", "backbone")]
        return {name: _default(name, *decisive) if value is UNSET else value for name, value in values.items()}

    @property
    def steps(self) -> int:
        """The number of steps, each of ``discriminator_steps`` unlabelled batches."""
        return max(1, round(self.total_images / self.images_per_step))

    @property
    def batches_with_spread_labels(self) -> int:
        """The number of D's batches, the first ones, that learn from labels by label spreading."""
        steps = round(self.label_spreading_fraction * self.steps) if self.spreads_labels else 0
        return steps * self.discriminator_steps

    @property
    def images_per_step(self) -> int:
        """The number of unlabelled images that D sees in one step."""
        return self.batch_size * self.discriminator_steps

    def steps_for(self, images: int) -> int:
        """Return the fewest steps in which D sees at least so many unlabelled images; 0 for 0."""
        return -(-images // self.images_per_step)

    def decay(self, net: str) -> float:
        """Return the fraction of training over which the learning rate of ``"D"`` or ``"G"`` falls linearly to 0."""
        fraction = self.decay_last_fraction_g if net == "G" else None
        return self.decay_last_fraction if fraction is None else fraction

    def factor(self, net: str, images: int) -> float:
        """Return the factor of the learning rate of ``"D"`` or ``"G"`` after ``images`` images."""
        interval = self.learning_rate_factor_every_images
        factor = self.learning_rate_factor_g if net == "G" else self.learning_rate_factor_d
        return factor ** (images // interval) if interval else 1.0

    @property
    def ema_decay(self) -> float:
        """The weight of the old average of D in one step."""
        return 0.5 ** (self.images_per_step / self.ema_half_life_images)

    @property
    def sha256(self) -> str:
        """Hash of the settings that determine a result (not device, seeds and reports) and differ from the defaults.

        A setting added to the software later does not change the hash of older results.
        """
        changed = {name: getattr(self, name) for name in FIELDS if getattr(self, name) != self.default(name)}
        decisive = {name: value for name, value in changed.items() if name not in _NOT_HASHED}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain types, as ``config.json`` holds them."""
        values = {name: getattr(self, name) for name in FIELDS}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Config":
        """Create a configuration from the output of :meth:`to_dict`.

        Raises
        ------
        UserError
            If it holds settings that this version does not know.
        """
        unknown = sorted(set(plain) - set(FIELDS))
        if unknown:
            raise UserError(f"The configuration holds settings that this version does not know: {', '.join(unknown)}.")
        # Runs from before image_depth read files of 16 bits with 65,535 as full intensity.
        return cls(**{"image_depth": 16, **plain})

    def replace(self, **changes: Any) -> "Config":
        """Return a checked copy with other values."""
        values = without_derived({name: getattr(self, name) for name in FIELDS}, changes)
        return Config(**overlay(for_method(values, changes.get("method", self.method)), changes))

    def diff(self, other: "Config") -> dict[str, tuple[Any, Any]]:
        """Return the fields in which two configurations differ, with both values."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def resume_conflicts(self, other: "Config") -> list[str]:
        """List the changes in ``other`` that prevent a run with these settings from being resumed, in words.

        Reporting settings may change, and ``total_images`` may increase if nothing depends on the length: the steps
        taken so far are then the same.
        """
        return resume_conflicts(self, other)


def _default(name: str, network: str, method: str, folds: int, backbone: str | None) -> Any:
    """Return the default of a field under the settings that it may depend on."""
    if name in DERIVED:
        return derived_default(name, folds, backbone)
    defaults = {**NETWORKS[network].settings, **METHOD_DEFAULTS[method]}
    return defaults.get(name, FIELDS[name].default)


def _ordered_fields() -> "dict[str, dataclasses.Field[Any]]":
    """Return the fields of Config as they are listed and checked: network and method before what depends on them."""
    names: list[str] = []
    for name in Config.__annotations__:
        names.append(name)
        if name == "folds":
            names += DataSettings.__annotations__
        if name == "discriminator_steps":
            names += [name for term in TERMS for name in (term.setting, *term.parameters)]
    by_name = {field.name: field for field in dataclasses.fields(Config)}
    return {name: by_name[name] for name in dict.fromkeys(names)}


FIELDS = _ordered_fields()
_TYPES = typing.get_type_hints(Config)
# Not part of the hash. The side of the sample grid only changes pictures, but frames of one run need one size. The
# depth is read from the files, and the hash of the data distinguishes their pixels.
_NOT_HASHED = {*INDEPENDENT_OF_STEPS, "seed", "seeds", "draw_seed", "folds", "grid_side", "image_depth"}

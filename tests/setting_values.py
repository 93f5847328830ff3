"""Other values of settings, and the message for refused values."""

import typing
from typing import Any, Literal

import pytest

from ssgan.errors import UserError
from ssgan.settings.config import Config
from ssgan.settings.options import FEATURE_SETTINGS

TYPES = typing.get_type_hints(Config)


def refusal(**settings: Any) -> str:
    """The message that refuses a configuration."""
    with pytest.raises(UserError) as refused:
        Config(**settings)
    return str(refused.value)


def config_with(name: str, **settings: Any) -> Config:
    """A configuration in which the field can have another value."""
    of_features = {"network": "features", "backbone": "efficientnet-lite1"}
    needed = of_features if name in ("backbone", *FEATURE_SETTINGS) else {}
    return Config(**settings, **({"discriminator_steps": 40} if name == "adversarial_steps" else needed))


def other_value(name: str) -> Any:
    """A valid value of the field that is not its default."""
    annotation, default = TYPES[name], getattr(Config(), name)
    if annotation is bool:
        return not default
    if annotation is str:
        return "cpu"
    if annotation == str | None:
        return "efficientnet-lite0"
    if annotation is float:
        return default / 2 + 0.001
    if typing.get_origin(annotation) is Literal:
        return next((word for word in typing.get_args(annotation) if word != default), default)
    if annotation == tuple[int, ...]:
        return (*default, 7)
    if float in typing.get_args(annotation):
        return 0.5
    return 12 if name == "image_depth" else (default or 0) + 20

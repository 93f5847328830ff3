"""Settings as they come: as text, and laid over each other: preset, earlier run, the user's own."""

import typing
from collections.abc import Container, Mapping
from typing import Any

from ssgan import fields
from ssgan.config import FIELDS, PRESETS, Config
from ssgan.errors import UserError, did_you_mean
from ssgan.needs import NEEDS
from ssgan.options import Options
from ssgan.traits import for_labels, for_method, over

__all__ = ["allowed", "describe", "parse", "resolve"]

_TYPES = typing.get_type_hints(Config)


def resolve(
    preset: str,
    overrides: Mapping[str, Any],
    earlier: Mapping[str, Any] | None = None,
    optional: Container[str] = (),
) -> Config:
    """The configuration of a preset, with the settings of an earlier run and then the user's own on top.

    Those of the user's own that are ``optional`` are left away where they would do nothing.

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
    base = {"method": FIELDS["method"].default, **PRESETS[preset], "preset": preset}
    method = overrides.get("method", earlier.get("method", base["method"]))
    base, earlier = for_method(base, method), for_method({"method": method, **earlier}, method)
    labels = overrides.get("labels", earlier.get("labels", base.get("labels")))
    if base.get("labels") == 0 and labels != 0:
        raise UserError(
            f"labels is {fields.show(labels)}, but preset {preset} is a GAN without classes and takes no labels: leave "
            f"labels away, or choose another preset, with --set network={base.get('network', 'mlp')} for its network."
        )
    base, earlier = for_labels(base, labels), for_labels({"labels": labels, **earlier}, labels)
    config = Config(**over(over(base, earlier), overrides))
    for name in overrides:
        needed, holds = NEEDS.get(name, ("", lambda c: True))
        if getattr(config, name) != config.default(name) and not holds(config):
            if name in optional:
                return resolve(preset, {k: v for k, v in overrides.items() if k != name}, earlier, optional)
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


def _known(name: str) -> None:
    if name not in FIELDS:
        near = did_you_mean(name, FIELDS) or " `ssgan train DATA --dry-run` lists them all."
        raise UserError(f"Unknown setting {name!r}.{near}")

"""Define, read, check and show a setting with its unit and range.

A setting is a dataclass field made by :func:`setting`, with a type of int, float, bool, str, a tuple of
int, a ``Literal``, or a union of int or float with a ``Literal`` and None."""

import dataclasses
import numbers
import sys
import typing
from typing import Any, Literal

from ssgan.errors import UserError, did_you_mean

__all__ = ["allowed", "checked", "images_of_epochs", "read", "setting", "show"]


INFINITY = float("inf")
LARGEST_INTEGER = 2**63 - 1
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def setting(default: Any, unit: str, text: str, low: float = 0.0, high: float = INFINITY, above: bool = False) -> Any:
    """Return a dataclass field with its unit, text and range (``above``: ``low`` itself is not allowed)."""
    metadata = {"unit": unit, "text": text, "low": low, "high": high, "above": above}
    return dataclasses.field(default=default, metadata=metadata)


def allowed(field: "dataclasses.Field[Any]", annotation: Any) -> str:
    """Return the allowed values of a field, in words."""
    if typing.get_origin(annotation) is Literal:
        return "one of " + ", ".join(typing.get_args(annotation))
    if annotation in (str, str | None):
        return "a word" if annotation is str else "a word, or none"
    if annotation is bool:
        return "true or false"
    meta = field.metadata
    bounds = f"above {meta['low']:g}" if meta["above"] else f"at least {meta['low']:g}"
    if meta["high"] != INFINITY:
        bounds += f" and at most {meta['high']:.12g}"
    kind = "a finite number" if _fractional(annotation) else "an integer"
    if annotation == tuple[int, ...]:
        kind = "integers separated by commas, each"
    words = [repr(word) for word in _words(annotation)]
    words += ["none"] if type(None) in typing.get_args(annotation) else []
    return f"{kind} {bounds}" + "".join(f", or {word}" for word in words)


def read(field: "dataclasses.Field[Any]", annotation: Any, text: str) -> Any:
    """Read a value of the field's type from text, without checking its range.

    Raises
    ------
    UserError
        If the text is not such a value.
    """
    try:
        if annotation is bool:
            return WORDS[text.lower()]
        if annotation in (int, float):
            return annotation(text)
        if annotation == tuple[int, ...]:
            return tuple(int(part) for part in text.split(","))
        if annotation is str or typing.get_origin(annotation) is Literal:
            return text
        if annotation == str | None:
            return None if text.lower() == "none" else text
        return None if text.lower() == "none" else text if text in _words(annotation) else _number(annotation)(text)
    except (ValueError, KeyError):
        raise UserError(f"{field.name} is {text!r}, but must be {allowed(field, annotation)}.") from None


def checked(field: "dataclasses.Field[Any]", annotation: Any, value: Any) -> Any:
    """Check a value and return it in the field's type.

    Raises
    ------
    UserError
        If it has another type or lies outside its range.
    """
    meta = field.metadata
    if getattr(value, "shape", None) == ():  # a scalar of numpy or torch
        value = value.item()
    shown = repr(value) if isinstance(value, str | float) else show(value)
    fail = UserError(f"{field.name} is {shown}, but must be {allowed(field, annotation)}.")
    if not isinstance(value, str | numbers.Real | tuple | list | None):
        raise UserError(f"{field.name} is a {type(value).__name__}, but must be {allowed(field, annotation)}.")

    def number(candidate: Any) -> Any:
        kind: Any = numbers.Real if _fractional(annotation) else numbers.Integral
        largest = sys.float_info.max if _fractional(annotation) else LARGEST_INTEGER
        if isinstance(candidate, bool) or not isinstance(candidate, kind):
            raise fail
        too_low = candidate <= meta["low"] if meta["above"] else candidate < meta["low"]
        if candidate != candidate or too_low or candidate > meta["high"] or candidate > largest:
            raise fail
        return _number(annotation)(candidate)

    if annotation in (int, float):
        return number(value)
    if annotation == str | None:
        if not isinstance(value, str | None):
            raise fail
        return value
    if annotation in (str, bool):
        if not isinstance(value, annotation):
            raise fail
        return value
    if annotation == tuple[int, ...]:
        if not isinstance(value, tuple | list) or not value:
            raise fail
        return tuple(number(one) for one in value)
    if typing.get_origin(annotation) is Literal:
        choices = typing.get_args(annotation)
        if value not in choices:
            near = did_you_mean(str(value), choices)
            raise UserError(f"Unknown {field.name} {value!r}: choose from {', '.join(choices)}.{near}")
        return value
    return value if value is None or value in _words(annotation) else number(value)


def show(value: Any) -> str:
    """Return a value as text, as it is typed on the command line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _fractional(annotation: Any) -> bool:
    return annotation is float or float in typing.get_args(annotation)


def _number(annotation: Any) -> Any:
    return float if _fractional(annotation) else int


def _words(annotation: Any) -> list[str]:
    """Return the strings of the Literal types in a union."""
    return [word for part in typing.get_args(annotation) for word in typing.get_args(part)]


def images_of_epochs(epochs: Any, pool_size: int) -> int:
    """Return a number of passes over the pool as a number of images."""
    most = LARGEST_INTEGER / pool_size
    is_number = isinstance(epochs, numbers.Real) and not isinstance(epochs, bool)
    if not (is_number and 0 < epochs <= most):
        raise UserError(f"epochs is {epochs!r}, but must be a number above 0 and at most {most:.0e}.")
    return max(1, round(epochs * pool_size))

"""Schemas: check what a file holds.

A schema has a predicate for each field; :func:`find_fault` names the first field whose value is not allowed.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = [
    "Field",
    "Predicate",
    "Schema",
    "each",
    "find_fault",
    "is_any_text",
    "is_flag",
    "is_matrix",
    "is_names",
    "is_object",
    "is_path",
    "is_text",
    "number",
    "or_null",
    "shorten",
    "whole",
]

Predicate = Callable[[Any], bool]
MOST = 2**53  # the largest integer that every JSON reader represents exactly


class Field(NamedTuple):
    """The constraint on the value of one field.

    Attributes
    ----------
    holds : callable
        Predicate: whether a value is allowed.
    words : str
        The allowed values in words, as in "which should be ...".
    required : bool
        Whether the field must be present.
    inside : mapping of str to Field, optional
        Schema of the object, or of each object in the list.
    """

    holds: Predicate
    words: str
    required: bool = True
    inside: "Mapping[str, Field] | None" = None


Schema = Mapping[str, Field]


def find_fault(content: Any, schema: Schema, place: str = "") -> str | None:
    """Return what is wrong with an object, as the predicate of a sentence; None if it matches the schema.

    Fields that the schema does not name are not checked.

    Parameters
    ----------
    content : any
    schema : mapping of str to Field
    place : str
        Prefix of the field names in the message.
    """
    if not isinstance(content, dict):
        return (
            f"has {place.rstrip('.')} = {shorten(content)}, which should be an object" if place else "is not an object"
        )
    for name, field in schema.items():
        if name not in content:
            if field.required:
                return f"lacks {place}{name}"
            continue
        value = content[name]
        if not field.holds(value):
            return f"has {place}{name} = {shorten(value)}, which should be {field.words}"
        if field.inside is not None and value is not None:
            parts = [(f"{place}{name}[{i}]", one) for i, one in enumerate(value)]
            for where, part in [(f"{place}{name}", value)] if isinstance(value, dict) else parts:
                if (fault := find_fault(part, field.inside, f"{where}.")) is not None:
                    return fault
    return None


def shorten(value: Any) -> str:
    """Return a value as JSON of at most 40 characters."""
    try:
        words = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # a tensor, or keys of other types
        words = f"a {type(value).__name__}"
    return words if len(words) <= 40 else words[:37] + "..."


def number(low: float = -sys.float_info.max, high: float = sys.float_info.max, above: bool = False) -> Predicate:
    """Return a predicate for finite numbers from ``low`` to ``high``; with ``above``, ``low`` itself is excluded."""

    def holds(value: Any) -> bool:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and low <= value <= high and not (above and value == low)

    return holds


def whole(low: int, high: int = MOST) -> Predicate:
    """Return a predicate for integers from ``low`` to ``high``."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def or_null(holds: Predicate) -> Predicate:
    """Return a predicate that allows None too."""
    return lambda value: value is None or holds(value)


def each(holds: Predicate, least: int = 0, most: int = MOST) -> Predicate:
    """Return a predicate for lists of ``least`` to ``most`` entries that all satisfy ``holds``."""
    return lambda value: isinstance(value, list) and least <= len(value) <= most and all(map(holds, value))


def is_text(value: Any) -> bool:
    """Return whether a value is a non-empty string."""
    return isinstance(value, str) and value != ""


def is_any_text(value: Any) -> bool:
    """Return whether a value is a string, possibly empty."""
    return isinstance(value, str)


def is_path(value: Any) -> bool:
    """Return whether a value is a string that can name a file."""
    if not is_text(value) or "\0" in value:
        return False
    try:  # bytes that are not UTF-8 are lone surrogates, whatever the locale
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def is_flag(value: Any) -> bool:
    """Return whether a value is true or false."""
    return isinstance(value, bool)


def is_object(value: Any) -> bool:
    """Return whether a value is a JSON object."""
    return isinstance(value, dict)


def is_names(value: Any) -> bool:
    """Return whether a value is a non-empty list of strings."""
    return each(is_any_text, 1)(value)


def is_matrix(value: Any) -> bool:
    """Return whether a value is a square matrix of counts."""
    return each(is_any_list, 1)(value) and all(each(whole(0), len(value), len(value))(row) for row in value)


def is_any_list(value: Any) -> bool:
    """Return whether a value is a list."""
    return isinstance(value, list)

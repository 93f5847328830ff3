"""Alterations of nested content: one field deleted or of another type."""

import copy
import functools
import operator
from collections.abc import Iterator
from typing import Any

Place = tuple[str | int, ...]

OTHER_VALUES: list[Any] = [None, True, -1, 2**70, 0.5, 1e308, "", "3", "\0", [], [None], ["x"], {}, {"x": 1}]


def places(content: Any, place: Place = ()) -> Iterator[Place]:
    """The place of every field of objects, and of the first entry of lists."""
    inner: Any = content.items() if isinstance(content, dict) else enumerate(content[:1])
    for key, value in inner:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))


def altered(content: Any, place: Place, *value: Any) -> Any:
    """A copy with another value at a place, or without it; the rest is shared with the original."""
    changed, (key, *inner) = copy.copy(content), place
    if inner:
        changed[key] = altered(content[key], tuple(inner), *value)
    elif value:
        changed[key] = value[0]
    else:
        del changed[key]
    return changed


def alterations(content: Any, values: list[Any]) -> Iterator[tuple[str, Any]]:
    """Each alteration of each field, with its name."""
    for place in places(content):
        name = "/".join(map(str, place))
        yield f"without {name}", altered(content, place)
        original = functools.reduce(operator.getitem, place, content)
        for value in values:
            if type(value) is not type(original) or repr(value) != repr(original):
                yield f"{name} = {value!r}", altered(content, place, value)

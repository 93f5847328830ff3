"""A Griffe extension for the API pages: show roles and types of numpydoc docstrings as text."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?([^`]+)`")
TYPED = re.compile(r"^( *[\w*, ]+ : )(.+)$", re.MULTILINE)
NO_CODE = "\N{WORD JOINER}"  # is not shown, and is no Python


def as_text(docstring: str) -> str:
    """Return a docstring with the name alone in place of each role of reStructuredText, such as ``:func:`load```.

    Types that are no Python, such as ``ndarray, shape [N]`` or ``{"a", "b"}``, are marked: they would be read as tuples
    and sets.
    """

    def mark(line: "re.Match[str]") -> str:
        is_words = re.search("[{,]", line[2].removesuffix(", optional"))
        return f"{line[1]}{NO_CODE if is_words else ''}{line[2]}"

    return TYPED.sub(mark, ROLE.sub(r"`\1`", docstring))


class Docstrings(griffe.Extension):
    """Change the docstring of every object."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = as_text(obj.docstring.value)

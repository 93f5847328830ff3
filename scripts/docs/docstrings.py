"""Show roles and types of numpydoc docstrings as text on the API pages, by a Griffe extension."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?([^`]+)`")
TYPED = re.compile(r"^( *[\w*, ]+ : )(.+)$", re.MULTILINE)
NO_CODE = "\N{WORD JOINER}"  # invisible, and not valid in Python


def as_text(docstring: str) -> str:
    """Replace each role of reStructuredText in a docstring, such as ``:func:`load```, by its name.

    Types that are not Python code, such as ``ndarray, shape [N]`` or ``{"a", "b"}``, are marked, so that they are not
    parsed as tuples and sets.
    """

    def mark(line: "re.Match[str]") -> str:
        is_text = re.search("[{,]", line[2].removesuffix(", optional"))
        return f"{line[1]}{NO_CODE if is_text else ''}{line[2]}"

    return TYPED.sub(mark, ROLE.sub(r"`\1`", docstring))


class Docstrings(griffe.Extension):
    """Change the docstring of every object."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = as_text(obj.docstring.value)

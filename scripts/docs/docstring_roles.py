"""A Griffe extension for the API pages: roles of reStructuredText, such as ``:func:`load```, become Markdown."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?([^`]+)`")


def without_roles(text: str) -> str:
    """Return a docstring with the name alone in place of each role."""
    return ROLE.sub(r"`\1`", text)


class DocstringRoles(griffe.Extension):
    """Change the docstring of every object."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Replace the roles of one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = without_roles(obj.docstring.value)

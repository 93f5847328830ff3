"""Mistakes a user can make and mend."""

import difflib
from collections.abc import Iterable

__all__ = ["Busy", "UserError", "did_you_mean"]


class UserError(ValueError):
    """A request that cannot be met; its text is one sentence that says what, which value and the way out.

    The command line prints the text and exits with status 2, without a traceback.
    """


class Busy(UserError):  # noqa: N818 - waiting mends it
    """Another process is at work there."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that names the nearest known word, or nothing where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""

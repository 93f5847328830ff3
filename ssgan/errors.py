"""Errors for the user, as sentences."""

import difflib
from collections.abc import Iterable

__all__ = ["Busy", "UserError", "did_you_mean", "memory_message"]


class UserError(ValueError):
    """A mistake of the user; the text is one sentence with the setting, its value and the way out.

    The command line prints the text and exits with status 2, without a traceback.
    """


class Busy(UserError):  # noqa: N818 - waiting mends it
    """Another process holds the lock of a folder or file."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the nearest known name, or an empty text where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def memory_message(error: BaseException) -> str | None:
    """Return a sentence about an error that says that memory ran out; None for other errors."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or "OutOfMemoryError" in text or "allocate memory" in text:
        return "There is not enough memory for this: lower seeds, batch_size, init_images or the widths."
    return None

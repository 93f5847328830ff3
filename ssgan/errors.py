"""Errors for the user, and text safe to print."""

import difflib
import signal
from collections.abc import Iterable
from contextlib import suppress

__all__ = [
    "Busy",
    "CannotResume",
    "Interrupted",
    "UserError",
    "counted",
    "did_you_mean",
    "memory_message",
    "signal_number",
    "visible",
]


class UserError(ValueError):
    """A user's mistake; the message is one sentence with the setting, its value and a way to fix it.

    The command line prints the message and exits with status 2, without a traceback.
    """


class CannotResume(UserError):  # noqa: N818 - a new run may start from the weights
    """A training cannot be resumed with settings, data or labels other than those it was started with."""


class Busy(UserError):  # noqa: N818 - waiting solves it
    """Another process holds the lock of a folder or file."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or another signal ended the command; the message, if any, says how to continue.

    Parameters
    ----------
    message : str
    number : int
        Number of the signal.
    """

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = int(number)

    @property
    def status(self) -> int:
        """The exit status that shells give a process which the signal ended."""
        return 128 + self.number


def signal_number(stop: KeyboardInterrupt) -> int:
    """Return the number of the signal that ended the command."""
    return stop.number if isinstance(stop, Interrupted) else int(signal.SIGINT)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the closest known name, or an empty string if none is close."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def counted(count: int, noun: str) -> str:
    """Format a number with its noun, in the plural except for 1: ``1 image``, ``2,000 images``, ``0 classes``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "es" if noun.endswith(("s", "sh", "ch")) else "s")


def memory_message(error: BaseException) -> str | None:
    """Return a message for the user about an out-of-memory error; None for other errors."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or "OutOfMemoryError" in text or "allocate memory" in text:
        return "There is not enough memory for this: lower seeds, batch_size, init_images or the widths."
    return None


def visible(text: str) -> str:
    """Return text on one line, with escape sequences for characters that are invisible or change the text direction.

    Undecodable bytes of file names, which Python keeps as lone surrogates, become sequences such as ``\\xe9``.
    """
    if text.isprintable():
        return text
    with suppress(UnicodeError):  # if the locale is not UTF-8, all non-ASCII letters are such bytes
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() else _code(c) for c in text)


def _code(character: str) -> str:
    """Return the escape sequence of a character."""
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()

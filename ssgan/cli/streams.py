"""The standard streams of the process: closed ones, and a reader that leaves."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import suppress

__all__ = ["discard_output", "open_closed_streams", "read_path_list"]


def open_closed_streams() -> None:
    """Open the null device in place of standard streams that the caller has closed, as by ``>&-``.

    Otherwise a file that is opened later would get the number of such a stream, and what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is that of the stream
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(handle, mode, encoding="utf-8", errors="backslashreplace"))


def discard_output() -> None:
    """Send what standard output still holds to the null device, so that the interpreter's exit says nothing of it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)


def read_path_list() -> Iterator[str]:
    """Yield the lines of standard input, in which file names need not be valid text."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    yield from sys.stdin

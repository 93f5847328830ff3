"""The standard streams of the process: closed streams, and broken pipes."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import suppress

__all__ = ["discard_output", "open_closed_streams", "read_path_list"]


def open_closed_streams() -> None:
    """Open the null device instead of standard streams that the caller has closed, as by ``>&-``.

    Otherwise a file that is opened later would get the descriptor of such a stream, and receive what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor, which is that of the stream
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(handle, mode, encoding="utf-8", errors="backslashreplace"))


def discard_output() -> None:
    """Redirect buffered standard output to the null device, so that the interpreter reports no error at exit."""
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

"""Files that are either whole or not there, and the folder for what is downloaded or made."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["default_root", "open_atomic", "write_atomic", "write_json"]


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Give a stream to a temporary name beside ``path``; at the end sync it to the disk and rename it into place.

    Where the block is left by an error, nothing is left behind.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(part):
            error.filename = str(path)  # the name that a reader knows
        raise


def write_atomic(path: Path, content: bytes) -> None:
    """Write a whole file at once, as :func:`open_atomic` does."""
    with open_atomic(path) as stream:
        stream.write(content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that any reader accepts: a NaN is refused rather than written."""
    write_atomic(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def default_root() -> Path:
    """Where downloaded sets lie: ``SSGAN_DATA``, or ``ssgan`` in the user's cache."""
    if chosen := os.environ.get("SSGAN_DATA"):
        return Path(os.path.expanduser(chosen))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "ssgan")

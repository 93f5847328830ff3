"""Files that are either whole or not there, and the folder for what is downloaded or made."""

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["default_root", "write_atomic", "write_json"]


def write_atomic(path: Path, content: bytes) -> None:
    """Write to a temporary name beside ``path``, sync it to the disk, then rename it into place."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write JSON that any reader accepts: a NaN is refused rather than written."""
    write_atomic(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def default_root() -> Path:
    """Where downloaded sets and decoded pictures lie: ``SSGAN_DATA``, or ``ssgan`` in the user's cache."""
    chosen = os.environ.get("SSGAN_DATA")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(cache) / "ssgan"

"""Arrays kept between runs in the user's cache: an entry is whole or taken for missing, and old ones make room.

``SSGAN_CACHE=off`` neither reads nor writes any. A cache that cannot be written costs time, nothing else.
"""

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssgan.errors import UserError
from ssgan.files import default_root

__all__ = ["LIMIT", "keep", "recall"]

LIMIT = 10 * 2**30  # bytes of all entries together
ABANDONED_SECONDS = 24 * 3600  # an unfinished entry so old was left by a process that was killed


def recall(key: str) -> dict[str, np.ndarray] | None:
    """The arrays kept under a key, or None where there are none or the file is not what was written."""
    if not _is_on():
        return None
    path = _folder() / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:  # reading checks a CRC of every array
            arrays = {name: archive[name] for name in archive.files}
        os.utime(path)
    except Exception:  # what is torn or changed can fail in any way, and is made anew
        return None
    return arrays


def keep(key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep arrays under a key; two processes may do so at once. Without room for them, nothing happens."""
    if not _is_on() or sum(array.nbytes for array in arrays.values()) > LIMIT:
        return
    part, named = None, dict[str, Any](arrays)
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=_folder(), prefix=".", suffix=".part")
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, **named)
        os.replace(part, _folder() / f"{key}.npz")
        _make_room()
    except OSError:
        pass
    finally:
        if part is not None:
            Path(part).unlink(missing_ok=True)


def _make_room() -> None:
    """Delete the entries that were not used for longest until the rest is within the limit."""
    found = sorted(((path.stat(), path) for path in _folder().iterdir()), key=lambda pair: -pair[0].st_mtime)
    total = 0
    for status, path in found:
        if path.suffix == ".npz":
            total += status.st_size
        abandoned = path.suffix == ".part" and time.time() - status.st_mtime > ABANDONED_SECONDS
        if abandoned or (path.suffix == ".npz" and total > LIMIT):
            path.unlink(missing_ok=True)


def _folder() -> Path:
    return default_root() / "decoded"


def _is_on() -> bool:
    chosen = os.environ.get("SSGAN_CACHE") or "on"
    if chosen not in ("on", "off"):
        raise UserError(f"SSGAN_CACHE is {chosen!r}, but must be on or off.")
    return chosen == "on"

"""The user's cache folder: whether it is used, and a limit on its size. Imports neither torch nor numpy."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from ssgan.errors import UserError
from ssgan.files import default_root

__all__ = ["cache_folder", "is_on", "make_room"]


def is_on() -> bool:
    """Whether ``SSGAN_CACHE`` allows caches.

    Raises
    ------
    UserError
        Where it is neither ``on`` nor ``off``.
    """
    value = os.environ.get("SSGAN_CACHE") or "on"
    if value not in ("on", "off"):
        raise UserError(f"SSGAN_CACHE is {value!r}, but must be on or off.")
    return value == "on"


def cache_folder(kind: str) -> Path | None:
    """Return the folder of one kind of cache, which need not exist; None where ``SSGAN_CACHE`` is ``off``."""
    return default_root() / kind if is_on() else None


def make_room(folder: Path, limit: int, keep: Path | None = None) -> None:
    """Delete the entries of a folder that were unused for longest until the rest is within a limit.

    Parameters
    ----------
    folder : Path
        Its entries are files or folders of files; the newest time of a file says when an entry was used. Entries
        that cannot be deleted are left.
    limit : int
        Bytes of all entries together.
    keep : Path, optional
        An entry that counts first and is never deleted.
    """
    entries = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):  # deleted by another process meanwhile
                files = [file.stat() for file in (path.iterdir() if path.is_dir() else [path])]
                newest = max((status.st_mtime for status in files), default=path.stat().st_mtime)
                entries.append((path == keep, newest, sum(status.st_size for status in files), path))
    total = 0
    for is_kept, _, size, path in sorted(entries, reverse=True):
        total += size
        if total > limit and not is_kept:
            with suppress(OSError):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

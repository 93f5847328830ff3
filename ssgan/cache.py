"""The folder of downloads and caches, and its limit."""

import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import platformdirs

from ssgan.errors import UserError

__all__ = ["cache_folder", "default_root", "is_on", "make_room"]


def default_root() -> Path:
    """Return the folder of downloaded data: ``SSGAN_DATA``, or ``ssgan`` in the user's cache folder."""
    if chosen := os.environ.get("SSGAN_DATA"):
        return Path(os.path.expanduser(chosen))
    return platformdirs.user_cache_path("ssgan", appauthor=False)


def is_on() -> bool:
    """Return whether ``SSGAN_CACHE`` allows caches.

    Raises
    ------
    UserError
        If it is neither ``on`` nor ``off``.
    """
    value = os.environ.get("SSGAN_CACHE") or "on"
    if value not in ("on", "off"):
        raise UserError(f"SSGAN_CACHE is {value!r}, but must be on or off.")
    return value == "on"


def cache_folder(kind: str) -> Path | None:
    """Return the folder of one kind of cache, which need not exist; None if ``SSGAN_CACHE`` is ``off``."""
    return default_root() / kind if is_on() else None


def make_room(folder: Path, patterns: Sequence[str], limit: int, keep: Path | None = None) -> None:
    """Delete the least recently used entries of a folder until the rest is within a limit.

    Parameters
    ----------
    folder : Path
        An entry is a file in it, or a subfolder with files; it was last used at the newest modification time of its
        files.
    patterns : sequence of str
        Patterns, as for ``Path.glob``, of the files that count and may be deleted. Other files are left alone.
    limit : int
        Largest total size of the entries in bytes.
    keep : Path, optional
        An entry that counts first and is never deleted.
    """
    entries: dict[Path, list[tuple[Path, os.stat_result]]] = defaultdict(list)
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        with suppress(OSError):  # deleted by another process meanwhile
            status = path.stat()
            entries[folder / path.relative_to(folder).parts[0]].append((path, status))
    total = 0
    for entry, files in sorted(
        entries.items(), key=lambda item: (item[0] != keep, -max(status.st_mtime for _, status in item[1]))
    ):
        total += sum(status.st_size for _, status in files)
        if total > limit and entry != keep:
            with suppress(OSError):
                for path, _ in files:
                    path.unlink(missing_ok=True)
                if entry.is_dir():
                    entry.rmdir()

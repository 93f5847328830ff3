"""Kill a process at an exact moment of its writing: around each call that changes the disk, and within each write."""

import io
import mmap
import os
import signal
import struct
from collections.abc import Callable
from typing import Any

from ssgan import files

#: Calls of the os module that change a file or a folder.
CALLS = ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "truncate", "link", "symlink")


class Moments:
    """Count the moments of a process and kill it at one of them.

    Parameters
    ----------
    at : int, optional
        The moment of the kill, from 1; none by default.

    Attributes
    ----------
    count : int
        Moments that were reached, also by a process that was forked later.
    """

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self._shared = mmap.mmap(-1, 8)

    @property
    def count(self) -> int:
        """Moments that were reached."""
        return int(struct.unpack("q", self._shared[:8])[0])

    def reach(self) -> None:
        """Count a moment; at the chosen one, die."""
        number = self.count + 1
        self._shared[:8] = struct.pack("q", number)
        if number == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Watch this process from now on."""
        for name in CALLS:
            setattr(os, name, self._around(getattr(os, name)))
        files.open = self._open  # type: ignore[attr-defined] # in place of the built-in function
        os.fdopen = self._fdopen  # type: ignore[assignment]

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            self.reach()
            result = call(*arguments, **named)
            self.reach()
            return result

        return watched

    def _open(self, path: Any, mode: str = "rb", buffering: int = -1, **named: Any) -> Any:
        if mode == "rb":
            return open(path, mode, buffering, **named)
        return self._buffered(_HalfWrites(path, mode, self.reach, **named), mode, buffering)

    def _fdopen(self, handle: int, mode: str = "r", buffering: int = -1, **named: Any) -> Any:
        if "b" not in mode or mode == "rb":
            return io.open(handle, mode, buffering, **named)  # noqa: UP020 - as os.fdopen does
        return self._buffered(_HalfWrites(handle, mode, self.reach), mode, buffering)

    def _buffered(self, raw: io.FileIO, mode: str, buffering: int) -> Any:
        self.reach()  # the file is there and empty
        if buffering == 0:
            return raw
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)


class _HalfWrites(io.FileIO):
    """A file whose every write has a moment at its half."""

    def __init__(self, path: Any, mode: str, reach: Callable[[], None], **named: Any) -> None:
        super().__init__(path, mode.replace("b", ""), **named)
        self._reach = reach

    def write(self, content: Any) -> int:
        """Write the first half, reach a moment, and write the rest."""
        content = bytes(content)
        half = len(content) // 2
        written = super().write(content[:half]) if half else 0
        self._reach()
        return written + super().write(content[written:])

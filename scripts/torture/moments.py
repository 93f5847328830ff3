"""Kill a process before or after a call that changes the disk, or in the middle of a write."""

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
        Number of the moment of the kill, from 1; by default there is no kill.

    Attributes
    ----------
    count : int
        Number of moments reached, including those of processes forked later.
    """

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self._shared = mmap.mmap(-1, 8)

    @property
    def count(self) -> int:
        """Return the number of moments reached."""
        return int(struct.unpack("q", self._shared[:8])[0])

    def reach(self) -> None:
        """Count a moment; kill this process if it is the chosen one."""
        number = self.count + 1
        self._shared[:8] = struct.pack("q", number)
        if number == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Patch the functions of this process that write files, to count their moments."""
        for name in CALLS:
            setattr(os, name, self._wrap(getattr(os, name)))
        files.open = self._open  # type: ignore[attr-defined] # in place of the built-in function
        os.fdopen = self._fdopen  # type: ignore[assignment]

    def _wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted_call(*arguments: Any, **keywords: Any) -> Any:
            self.reach()
            result = call(*arguments, **keywords)
            self.reach()
            return result

        return counted_call

    def _open(self, path: Any, mode: str = "rb", buffering: int = -1, **keywords: Any) -> Any:
        if mode == "rb":
            return open(path, mode, buffering, **keywords)
        return self._buffered(_SplitWriteFile(path, mode, self.reach, **keywords), mode, buffering)

    def _fdopen(self, handle: int, mode: str = "r", buffering: int = -1, **keywords: Any) -> Any:
        if "b" not in mode or mode == "rb":
            return io.open(handle, mode, buffering, **keywords)  # noqa: UP020 - as os.fdopen does
        return self._buffered(_SplitWriteFile(handle, mode, self.reach), mode, buffering)

    def _buffered(self, raw: io.FileIO, mode: str, buffering: int) -> Any:
        self.reach()  # the file exists and is empty
        if buffering == 0:
            return raw
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)


class _SplitWriteFile(io.FileIO):
    """A file that reaches a moment in the middle of each write."""

    def __init__(self, path: Any, mode: str, reach: Callable[[], None], **keywords: Any) -> None:
        super().__init__(path, mode.replace("b", ""), **keywords)
        self._reach = reach

    def write(self, content: Any) -> int:
        """Write the first half, reach a moment, and write the rest."""
        content = bytes(content)
        half = len(content) // 2
        written = super().write(content[:half]) if half else 0
        self._reach()
        return written + super().write(content[written:])

"""`ssgan label` in a separate process."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from running import ROOT


class Server:
    """A labelling page of a folder; the end of the with block stops it as Ctrl-C does."""

    def __init__(self, folder: Path, *options: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.errors = folder.parent / "errors.txt"
        with self.errors.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ssgan", "label", str(folder), *options],
                cwd=folder.parent,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
        assert self.process.stdout is not None
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if line.startswith("http"):
                break
        assert self.lines, self.errors.read_text()
        self.link = self.lines[-1]

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self, number: int = signal.SIGINT) -> str:
        """Stop it, and return its error output."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)
        return self.errors.read_text()

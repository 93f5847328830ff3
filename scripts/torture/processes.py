"""Run a command of `ssgan` in a separate process with limits, and return its outcome.

The process is a fork of this one, which has already loaded the libraries, so a command takes a fraction of a second.
"""

import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# Imported once here, for every process.
import matplotlib.pyplot  # noqa: F401
import sklearn.semi_supervised  # noqa: F401
import torch

from ssgan import cli
from ssgan.compare import runner  # noqa: F401
from ssgan.inference import evaluate, predict, sample, sorting  # noqa: F401
from ssgan.report import build  # noqa: F401
from ssgan.training import experiment  # noqa: F401

CPU_SECONDS = 15
WALL_SECONDS = 120  # other processes may share the cores
MEMORY = 8 * 2**30  # bytes of address space beyond that of this process
POLL_SECONDS = 0.002
STATUSES = (0, 2, 130)  # success, user error, interrupt

torch.set_num_threads(1)


class Case(NamedTuple):
    """A case of an attack: its name, its faults and its folder."""

    name: str
    faults: list[str]
    folder: Path


class Outcome(NamedTuple):
    """Outcome of a command.

    Attributes
    ----------
    status : int
        Exit status, or minus the number of the signal that killed it.
    out, err : str
        Standard output and standard error.
    seconds : float
        Wall-clock time from start to end.
    cpu_seconds : float
        CPU time of the process, user and system.
    hung : bool
        Whether it was killed because it did not end.
    """

    status: int
    out: str
    err: str
    seconds: float
    cpu_seconds: float
    hung: bool

    def faults(self) -> list[str]:
        """List the faults that no command may have, whatever its input."""
        messages = []
        if self.hung or self.status == -signal.SIGXCPU:
            messages.append(f"no end after {self.seconds:.0f} s, {self.cpu_seconds:.0f} s of CPU")
        elif self.status not in STATUSES:
            messages.append(f"exit status {self.status}")
        if "Traceback (most recent call last)" in self.out + self.err:
            messages.append(f"a traceback: {self.err.strip().splitlines()[-1:]}")
        if any(not c.isprintable() and c not in "\n\r\t" for c in self.err):
            messages.append("a control character on standard error")
        if self.status == 2 and not self.err.strip():
            messages.append("exit status 2 without a word")
        return messages


def run(
    arguments: Sequence[str | Path],
    folder: Path,
    *,
    before: Callable[[], None] | None = None,
    environment: Mapping[str, str] | None = None,
    kill_after: float | None = None,
    cpu_seconds: int = CPU_SECONDS,
) -> Outcome:
    """Run a command in a folder.

    Parameters
    ----------
    arguments : sequence of str or Path
        Arguments of `ssgan`.
    folder : Path
    before : callable, optional
        Called in the new process before the command.
    environment : mapping, optional
        Variables of the new process, in addition to those of this one.
    kill_after : float, optional
        Seconds after which the process gets SIGKILL.
    cpu_seconds : int
        Limit of CPU seconds; beyond it the process counts as hung.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        pid = os.fork()
        if not pid:
            streams = (os.open(os.devnull, os.O_RDWR), out.fileno(), err.fileno())
            _run_child(list(map(str, arguments)), folder, before, environment or {}, streams, cpu_seconds)
        limit = WALL_SECONDS if kill_after is None else kill_after
        waited_pid, hung = 0, False
        while not waited_pid:
            waited_pid, wait_status, usage = os.wait4(pid, os.WNOHANG)
            if not waited_pid and time.monotonic() - started > limit:
                hung, limit = kill_after is None, float("inf")
                os.kill(pid, signal.SIGKILL)
            elif not waited_pid:
                time.sleep(POLL_SECONDS)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "backslashreplace"))
        seconds, cpu = time.monotonic() - started, usage.ru_utime + usage.ru_stime
        return Outcome(os.waitstatus_to_exitcode(wait_status), texts[0], texts[1], seconds, cpu, hung)


def _run_child(
    arguments: list[str],
    folder: Path,
    before: Callable[[], None] | None,
    environment: Mapping[str, str],
    streams: tuple[int, int, int],
    cpu_seconds: int,
) -> None:
    """Run a command in the forked process and exit."""
    status = 1
    try:
        for target, source in enumerate(streams):
            os.dup2(source, target)
        sys.stdin, sys.stdout = os.fdopen(0, encoding="utf-8"), os.fdopen(1, "w", encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
        with open("/proc/self/statm", encoding="ascii") as numbers:
            addresses = int(numbers.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (addresses + MEMORY,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        os.environ.update(environment)
        tempfile.tempdir = None  # chosen again from this environment
        if before is not None:
            before()
        cli.main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                status = status or 1
        os._exit(status)

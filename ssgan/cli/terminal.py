"""Terminal output in 80 columns: progress on standard error, results on standard output; and the standard streams."""

import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rich.cells import cell_len as width
from rich.cells import set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ssgan.errors import counted, visible

__all__ = [
    "count_progress",
    "cut",
    "discard_output",
    "format_counts",
    "lost_files",
    "note",
    "open_closed_streams",
    "plus_minus",
    "read_path_list",
    "reading_progress",
    "say",
    "show_settings",
    "table",
    "warn",
    "width",
    "wrap",
]


class _Console(Console):
    """A console that stops printing when its reader has exited, as ``| head`` does, so that a training continues."""

    def on_broken_pipe(self) -> None:
        """Stop writing; rich calls this when a write fails."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


out = _Console(highlight=False, soft_wrap=True)
err = _Console(stderr=True, highlight=False)

WIDTH = 80  # columns of a terminal
SECONDS_BETWEEN_LINES = 10.0  # if there is no terminal
COUNTS_SHOWN = 5
FILES_SHOWN = 3
COMMAND = re.compile(r"`[^`]*`|(?<=: )ssgan [^;]+")  # a command in a sentence, which must stay on one line to be copied


def say(text: str = "", style: str | None = None) -> None:
    """Print one line of a result; control characters, which names of classes and files can hold, are escaped.

    In a terminal, or if ``COLUMNS`` gives the width of the output, a longer line is broken between words.
    """
    _print(out, text, style)


def note(text: str, style: str | None = None) -> None:
    """Print one line on standard error, as :func:`say`."""
    _print(err, text, style)


def _print(console: Console, text: str, style: str | None) -> None:
    """Print a string on a console, broken into lines of its width, if that is known."""
    columns = os.environ.get("COLUMNS", "")
    known = console.width if console.is_terminal else int(columns) if columns.isdecimal() else 0
    for line in wrap(visible(text), known) if known else [visible(text)]:
        console.print(Text(line, style=style or ""), soft_wrap=True)


def wrap(text: str, columns: int) -> list[str]:
    """Break text between words into lines of at most ``columns`` columns; commands are not broken, even if longer."""
    if width(text) <= columns:
        return [text]
    lines: list[str] = []
    for word in COMMAND.sub(lambda command: command[0].replace(" ", "\0"), text).split(" "):
        if lines and width(lines[-1]) + 1 + width(word) <= columns:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [line.replace("\0", " ") for line in lines]


def warn(text: str) -> None:
    """Print a warning on standard error."""
    note(text, style="yellow")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 0, gap: int = 2) -> None:
    """Print a table, never truncated; the first ``left`` columns are aligned to the left, the others to the right."""
    cells = [[*columns], *(["-" if cell is None else visible(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    for i, row in enumerate(cells):
        padded = []
        for k, (cell, column_width) in enumerate(zip(row, widths, strict=True)):
            pad = " " * (column_width - width(cell))
            padded.append(cell + pad if k < left else pad + cell)
        out.print(Text((" " * gap).join(padded).rstrip(), style="" if i else "bold"))


def cut(text: str, most: int) -> str:
    """Cut text to one line of at most ``most`` columns, with an ellipsis if it is longer."""
    plain = visible(text)
    return plain if width(plain) <= most else set_cell_size(plain, most - 1).rstrip() + "…"


def show_settings(lines: Sequence[tuple[str, str, str]]) -> None:
    """Print the name, value and unit of each setting, never truncated."""
    lines = [(name, visible(value), unit) for name, value, unit in lines]
    name_width, value_width = (max(len(line[i]) for line in lines) for i in (0, 1))
    for name, value, unit in lines:
        out.print(Text(f"{name:{name_width}}  {value:{value_width}}  {unit}"))


def plus_minus(mean: float | None, std: float | None) -> str:
    """Format a mean and a standard deviation: ``4.81 +- 0.62``, or ``4.81`` without one."""
    if mean is None:
        return "-"
    return f"{mean:.2f}" + (f" +- {std:.2f}" if std is not None else "")


def format_counts(counts: Mapping[str, int]) -> str:
    """Format counts, the largest first, and how many are left out: ``28x28: 500, 32x32: 3``."""
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    words = [f"{kind}: {number:,}" for kind, number in ranked[:COUNTS_SHOWN]]
    return ", ".join(words + [f"{len(ranked) - COUNTS_SHOWN:,} more"] * (len(ranked) > COUNTS_SHOWN))


def lost_files(skipped: Sequence[Sequence[str]], file_counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return sentences about files that could not be read, each (name, reason), and files that are not pictures."""
    lines = []
    if skipped:
        few = "; ".join(f"{name} {reason}" for name, reason in skipped[:FILES_SHOWN])
        more = "; ... (`ssgan data DATA --json` lists all)" if len(skipped) > FILES_SHOWN else ""
        labelled = file_counts.get("skipped", {}).get("labelled", 0)
        lines.append(
            f"Skipped files that cannot be read: {len(skipped):,} ({labelled:,} of them labelled): {few}{more}"
        )
    if ignored := file_counts.get("ignored"):
        lines.append(f"Ignored files that are not pictures: {sum(ignored.values()):,} ({format_counts(ignored)})")
    return lines


@contextmanager
def reading_progress(quiet: bool = False) -> Iterator[Callable[[str, int, int], None] | None]:
    """Show the progress of reading pictures: a live line in a terminal, otherwise a line at most every ten seconds.

    Yields a function (action, number done, total number) to call with the progress; None if ``quiet``.
    """
    if quiet:
        yield None
    elif err.is_terminal:
        status = err.status("")

        def show(what: str, done: int, count: int) -> None:
            status.update(f"{what} {done:,} of {counted(count, 'picture')}")
            status.start()

        try:
            yield show
        finally:
            status.stop()
    else:
        yield _read_lines()


def _read_lines() -> Callable[[str, int, int], None]:
    last = time.monotonic()

    def show(what: str, done: int, count: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            note(f"{what} {done:,} of {counted(count, 'picture')}")

    return show


@contextmanager
def count_progress(total: int | None, unit: str, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a count: a live bar in a terminal, otherwise a line at most every ten seconds.

    Yields a function to call with the number done. ``total`` is None if unknown.
    """
    if not quiet and err.is_terminal:
        columns = (BarColumn(bar_width=24), TextColumn("{task.completed:,.0f} " + unit), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("", total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    began = last = time.monotonic()

    def show(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if not quiet and now - last >= SECONDS_BETWEEN_LINES:
            last = now
            of = "" if total is None else f" of {total:,}"
            note(f"{done:,}{of} {unit}, {done / (now - began):,.0f}/s")

    yield show


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

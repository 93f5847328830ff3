"""What a person sees in a terminal 80 columns wide: progress on standard error, results on standard output."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len as width
from rich.cells import set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from ssgan.runs import LOGGED

if TYPE_CHECKING:
    from ssgan.compare.progress import ComparisonProgress as Standing
    from ssgan.training.monitor import TrainingProgress

__all__ = [
    "counting",
    "counts",
    "cut",
    "following",
    "lost_files",
    "note",
    "plus_minus",
    "reading",
    "say",
    "settings",
    "table",
    "warn",
    "watching",
    "width",
]


class _Console(Console):
    """Goes on in silence where nobody reads any more, such as behind ``| head``: a training is worth more."""

    def on_broken_pipe(self) -> None:
        """What rich calls in place of writing."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


out = _Console(highlight=False, soft_wrap=True)
err = _Console(stderr=True, highlight=False)

WIDTH, INDENT = 80, 6  # columns of a terminal, and those before what is said of a milestone
MILESTONES = 10
SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal
SECONDS_BETWEEN_STANDINGS = 60.0
DAY = 24 * 3600.0  # seconds
COUNTS_SHOWN = 5
FILES_SHOWN = 3


def say(text: str = "", style: str | None = None) -> None:
    """One line of result."""
    out.print(Text(text, style=style or ""))


def note(text: str, style: str | None = None) -> None:
    """One line beside the results, on standard error."""
    err.print(Text(_plain(text), style=style or ""), soft_wrap=True)


def warn(text: str) -> None:
    """One line on standard error that a user should see."""
    note(text, style="yellow")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 0, gap: int = 2) -> None:
    """A small table, never cut short; the first ``left`` columns are text, the others numbers."""
    cells = [[*columns], *(["-" if cell is None else str(cell) for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    for i, row in enumerate(cells):
        words = []
        for k, (cell, whole) in enumerate(zip(row, widths, strict=True)):
            pad = " " * (whole - width(cell))
            words.append(cell + pad if k < left else pad + cell)
        say((" " * gap).join(words).rstrip(), style=None if i else "bold")


def cut(text: str, most: int) -> str:
    """Text in one line of at most so many columns of a terminal, with an ellipsis where it was cut."""
    plain = _plain(text)
    return plain if width(plain) <= most else set_cell_size(plain, most - 1).rstrip() + "…"


def settings(lines: Sequence[tuple[str, str, str]]) -> None:
    """Name, value and unit of each setting, never cut short."""
    name_width, value_width = (max(len(line[i]) for line in lines) for i in (0, 1))
    for name, value, unit in lines:
        say(f"{name:{name_width}}  {value:{value_width}}  {unit}")


def plus_minus(mean: float | None, std: float | None) -> str:
    """``4.81 +- 0.62``, without the deviation where there is none."""
    if mean is None:
        return "-"
    return f"{mean:.2f}" + (f" +- {std:.2f}" if std is not None else "")


def _plain(text: str) -> str:
    """Text that leaves a terminal as it is: names of classes and files can hold anything."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def counts(count: Mapping[str, int]) -> str:
    """``28x28: 500, 32x32: 3``, the commonest first, with the number of kinds left out."""
    ranked = sorted(count.items(), key=lambda pair: (-pair[1], pair[0]))
    words = [f"{kind}: {number:,}" for kind, number in ranked[:COUNTS_SHOWN]]
    return ", ".join(words + [f"{len(ranked) - COUNTS_SHOWN:,} more"] * (len(ranked) > COUNTS_SHOWN))


def lost_files(skipped: Sequence[Sequence[str]], found: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Sentences about files that could not be read, each (name, reason), and files that are no pictures."""
    lines = []
    if skipped:
        few = "; ".join(f"{name} {reason}" for name, reason in skipped[:FILES_SHOWN])
        more = "; ... (`ssgan data DATA --json` lists all)" if len(skipped) > FILES_SHOWN else ""
        labelled = found.get("skipped", {}).get("labelled", 0)
        lines.append(
            f"Skipped files that cannot be read: {len(skipped):,} ({labelled:,} of them labelled): {few}{more}"
        )
    if ignored := found.get("ignored"):
        lines.append(f"Ignored files that are no pictures: {sum(ignored.values()):,} ({counts(ignored)})")
    return lines


@contextmanager
def reading(quiet: bool = False) -> Iterator[Callable[[str, int, int], None] | None]:
    """Give a function that shows how many pictures are read: one living line in a terminal, few lines elsewhere."""
    if quiet:
        yield None
    elif err.is_terminal:
        status = err.status("")

        def show(what: str, done: int, count: int) -> None:
            status.update(f"{what} {done:,} of {count:,} pictures")
            status.start()

        try:
            yield show
        finally:
            status.stop()
    else:
        yield _now_and_then()


def _now_and_then() -> Callable[[str, int, int], None]:
    last = time.monotonic()

    def show(what: str, done: int, count: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            err.print(Text(f"{what} {done:,} of {count:,} pictures"), soft_wrap=True)

    return show


@contextmanager
def following(quiet: bool = False) -> Iterator[Callable[["TrainingProgress"], None]]:
    """Give a function that shows each report: a live bar in a terminal, a line now and then elsewhere."""
    alerts = _alerts()
    if quiet:
        yield lambda report: _alert(alerts(report), err)
    elif err.is_terminal:
        with _live_bar(alerts) as show:
            yield show
    else:
        yield _lines(alerts)


def _alerts() -> Callable[["TrainingProgress"], list[str]]:
    """Give a function of each report: what is newly wrong, and at the first one whether days are left."""
    first = True

    def new(report: "TrainingProgress") -> list[str]:
        nonlocal first
        days, was_first, first = report.seconds_left / DAY, first, False
        if not was_first or days < 1:
            return report.warnings
        left = (
            f"At this speed the training takes {days:,.1f} days more: Ctrl-C stops it, --epochs makes it shorter, "
            f"--preset chooses another recipe, and --device a faster device."
        )
        return [left, *report.warnings]

    return new


def _alert(sentences: Sequence[str], console: Console) -> None:
    for sentence in sentences:
        console.print(Text(sentence, style="yellow"))


@contextmanager
def _live_bar(alerts: Callable[["TrainingProgress"], list[str]]) -> Iterator[Callable[["TrainingProgress"], None]]:
    bar = Progress(
        TaskProgressColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[counts]}"),
        console=err,
    )
    task = bar.add_task("", total=None, counts="initialising")
    with Live(bar, console=err, refresh_per_second=8, transient=True) as live:

        def show(report: "TrainingProgress") -> None:
            bar.update(task, total=report.steps, completed=report.step, counts=_counts(report))
            live.update(Group(bar, Text(_losses(report), style="dim", no_wrap=True, overflow="ellipsis")))
            _alert(alerts(report), live.console)

        yield show


def _lines(alerts: Callable[["TrainingProgress"], list[str]]) -> Callable[["TrainingProgress"], None]:
    shown = 0

    def show(report: "TrainingProgress") -> None:
        nonlocal shown
        _alert(alerts(report), err)
        if report.step * MILESTONES // report.steps > shown:
            shown = report.step * MILESTONES // report.steps
            first, *others = _folded(f"{_counts(report)}  {_losses(report)}", WIDTH - INDENT)
            err.print(Text(f"{100 * report.step // report.steps:3d}%  {first}"), soft_wrap=True)
            for line in others:
                err.print(Text(" " * INDENT + line), soft_wrap=True)

    return show


@contextmanager
def counting(total: int | None, unit: str, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Give a function that shows how many are done: a live bar in a terminal, a line now and then elsewhere.

    ``total`` is None where it is not known.
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
            err.print(Text(f"{done:,}{of} {unit}, {done / (now - began):,.0f}/s"))

    yield show


@contextmanager
def watching(quiet: bool = False) -> Iterator[Callable[["Standing"], None]]:
    """Give a function that shows where a list of trainings stands: a line for each at its end, a live bar before.

    Where there is no terminal, a line a minute stands for the bar.
    """
    if quiet:
        yield lambda standing: _alert(standing.warnings, err)
    elif err.is_terminal:
        bar = Progress(TaskProgressColumn(), BarColumn(bar_width=24), TextColumn("{task.fields[left]}"), console=err)
        task = bar.add_task("", total=None, left="")
        with Live(bar, console=err, refresh_per_second=8, transient=True) as live:

            def show(standing: "Standing") -> None:
                done = standing.number - 1 + standing.share
                bar.update(
                    task,
                    total=standing.tasks,
                    completed=done,
                    left=f"{standing.number} of {standing.tasks}, {_time_left(standing)}",
                )
                words = Text(_plain(standing.description), style="dim", no_wrap=True, overflow="ellipsis")
                live.update(Group(bar, words))
                _alert(standing.warnings, live.console)
                if standing.result:
                    live.console.print(Text(_ended(standing)), soft_wrap=True)

            yield show
    else:
        yield _minutes()


def _minutes() -> Callable[["Standing"], None]:
    last = time.monotonic()

    def show(standing: "Standing") -> None:
        nonlocal last
        _alert(standing.warnings, err)
        now = time.monotonic()
        if standing.result:
            err.print(Text(f"{_ended(standing)}, {_time_left(standing)}"), soft_wrap=True)
        elif standing.share and now - last >= SECONDS_BETWEEN_STANDINGS:
            done = f"{standing.number}/{standing.tasks}  {standing.description}: {standing.share:.0%}"
            err.print(Text(_plain(f"{done}, {_time_left(standing)}")), soft_wrap=True)
        else:
            return
        last = now

    return show


def _folded(text: str, most: int) -> list[str]:
    """Lines of at most so many columns, broken where there are two spaces; a word longer than that has its own."""
    lines: list[str] = []
    for word in text.split("  "):
        if lines and width(lines[-1]) + 2 + width(word) <= most:
            lines[-1] += "  " + word
        else:
            lines.append(word)
    return lines


def _ended(standing: "Standing") -> str:
    return _plain(f"{standing.number}/{standing.tasks}  {standing.description}: {standing.result}")


def _time_left(standing: "Standing") -> str:
    return "time left unknown" if standing.seconds_left is None else f"{_duration(standing.seconds_left)} left"


def _duration(seconds: float) -> str:
    if seconds >= DAY:
        return f"{seconds / DAY:,.1f} days"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _counts(report: "TrainingProgress") -> str:
    return f"{report.images:,} images, {report.images_per_second:,.0f}/s, {_duration(report.seconds_left)} left"


def _losses(report: "TrainingProgress") -> str:
    """Means over the seeds."""
    means = {name: float(values.mean()) for name, values in report.means.items()}
    words = [f"{LOGGED[name]} {value:.2g}" for name, value in means.items() if name in LOGGED]
    if "accuracy_real" in means:
        words.append(
            f"D right: {100 * means['accuracy_real']:.0f} % real, {100 * means['accuracy_fake']:.0f} % generated"
        )
    elif "p_real_unlabeled" in means and "p_real_fake" in means:
        words.append(f"p(real) {means['p_real_unlabeled']:.2f} real, {means['p_real_fake']:.2f} generated")
    if report.errors and None not in report.errors:
        words.append(f"test error {sum(e for e in report.errors if e is not None) / len(report.errors):.2f} %")
    return "  ".join(words)

"""``ssgan label``: label a folder of pictures on a page of the browser."""

import os
import shlex
import signal
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssgan import runs
from ssgan.cli import terminal
from ssgan.cli.options import parse_integer
from ssgan.errors import Interrupted, UserError, counted, signal_number

if TYPE_CHECKING:
    from ssgan.data.file_tree import FileTree
    from ssgan.labeling.background import BackgroundTrainer
    from ssgan.labeling.session import LabelingSession
    from ssgan.labeling.store import LabelStore
    from ssgan.labeling.tables import Hint

__all__ = ["label"]

TRAIN_EVERY = 20
PORTS = range(65536)
FOLDERS_SHOWN = 3
PACKAGES = ("starlette", "uvicorn")


def label(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of pictures; the answers go into labels.csv.")
    ],
    classes: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="The classes, in the order of their keys; more can be added.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Order and group pictures by this run. [default: the last one of this page]"),
    ] = None,
    only: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Only these pictures, in this order, labelled or not.")
    ] = None,
    train_every: Annotated[
        str | None, typer.Option(metavar="N", help=f"Train after every N labels; 0: never. [default: {TRAIN_EVERY}]")
    ] = None,
    port: Annotated[str | None, typer.Option(metavar="P", help="Port on this machine. [default: any free one]")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Label pictures on a page of the browser, and train on the labels meanwhile."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UserError(f"ssgan label needs {' and '.join(missing)}: pip install 'ssgan[label]'")
    every = _whole_number("--train-every", train_every, TRAIN_EVERY)
    number = _whole_number("--port", port, 0)
    if number not in PORTS:
        raise UserError(f"--port is {port}, but must lie between 0 and {PORTS[-1]}.")
    from ssgan.data import file_tree, image_io

    folder = file_tree.expand_user(folder)
    _check_folder(folder)
    if run is not None:
        runs.check_usable(run)
    from ssgan.labeling import page, store
    from ssgan.labeling.background import BackgroundTrainer, latest_run

    named = _parse_classes(classes)
    runs_folder = Path("runs")
    if runs_folder.resolve().is_relative_to(folder.resolve()):  # runs must not lie among the pictures
        runs_folder = folder.resolve().parent / "runs"
    with ExitStack() as stack:
        tree = stack.enter_context(file_tree.open_tree(folder, image_io.SUFFIXES))
        given = _given_labels(tree, named or store.read_given_classes(folder), is_review=only is not None)
        review = None if only is None else _read_review(only, tree)  # before anything is written
        listener = stack.enter_context(page.open_socket(number))
        labels = stack.enter_context(store.open_store(folder, given, frozenset(tree.pictures)))
        if named:
            labels.write_given_classes(named)
        remembered, is_asked = labels.read_classes(), run is not None
        run = run or latest_run(runs_folder, folder)
        of_run = _classes_of_run(run) if is_asked or not remembered else []
        known = named or [*(remembered or sorted(set(given.values()))), *of_run]
        session = _make_session(tree, labels, known, only, review)
        trainer = BackgroundTrainer(folder, labels.path, runs_folder, run, every, None if only else session.set_hints)
        app = page.LabelingApp(tree, session, trainer, listener.getsockname()[1])
        for note in labels.notes:
            terminal.warn(note)
        _announce(app.link, session, run)
        if open_:
            webbrowser.open(app.link_for_browser)
        _serve(lambda: page.serve(app, listener), folder, session, trainer)


def _whole_number(option: str, text: str | None, default: int) -> int:
    """Parse an integer that is at least 0."""
    number = default if text is None else parse_integer(option, text)
    if number < 0:
        raise UserError(f"{option} is {text}, but must be at least 0.")
    return number


def _check_folder(folder: Path) -> None:
    """Check that ``folder`` can be a folder of pictures."""
    if not folder.is_dir():
        what = "is a zip: unpack it first" if folder.suffix.lower() == ".zip" and folder.exists() else "is not a folder"
        raise UserError(f"{folder} {what if folder.exists() else 'does not exist: give a folder of pictures'}.")
    if runs.is_run(folder):
        raise UserError(f"{folder} is a run: give the folder of pictures, and the run with --run.")
    from ssgan.data.label_log import TABLE

    for path in (folder, folder / TABLE):
        if path.exists() and not os.access(path, os.W_OK):
            raise UserError(f"{path} cannot be written to, but the answers are saved in it: make it writable.")


def _parse_classes(text: str | None) -> list[str]:
    """Parse the names of ``--classes``."""
    from ssgan.labeling.store import check_class_name

    names: list[str] = []
    for part in (text or "").split(",") if text is not None else ():
        try:
            name = check_class_name(part)
        except UserError as mistake:
            raise UserError(f"--classes is {text!r}: {mistake}") from None
        if name in names:
            raise UserError(f"--classes names {name} twice.")
        names.append(name)
    return names


def _classes_of_run(run: Path | None) -> list[str]:
    """Return the classes of a run; none if it has not finished or is a GAN without classes."""
    with suppress(UserError):
        report = {} if run is None else runs.read_report(run)
        return list(report["classes"]) if report.get("labels") else []
    return []


def _given_labels(tree: "FileTree", classes: Sequence[str], is_review: bool) -> dict[str, str]:
    """Return the labels by folder names; if classes are given, only those of folders with such names."""
    from ssgan.data.image_io import FORMAT_NAMES
    from ssgan.data.layouts import folder_labels

    if not tree.pictures:
        raise UserError(f"{tree.path} holds no picture: no {FORMAT_NAMES}, judged by the suffix.")
    given = {name: label.strip() for name, label in folder_labels(tree).items()}  # as a table is read
    if classes:
        return {name: label for name, label in given.items() if label in classes}
    if len(given) == len(tree.pictures):
        names = sorted(set(given.values()))
        if len(names) == 1:  # all in one folder: not a class
            return {}
        if not is_review:
            more = ", ..." if len(names) > FOLDERS_SHOWN else ""
            raise UserError(
                f"Every picture of {tree.path} lies in a class folder ({', '.join(names[:FOLDERS_SHOWN])}{more}), so "
                f"none is left to label: put others into unlabeled/, or name the classes with --classes if these are "
                f"not classes."
            )
    return given


def _make_session(
    tree: "FileTree",
    labels: "LabelStore",
    classes: Sequence[str],
    only: Path | None,
    review: "Mapping[str, Hint] | None",
) -> "LabelingSession":
    """Create the session of a page, of all pictures but those of the test set, or of those of a table."""
    from ssgan.labeling.session import LabelingSession

    if only is None or review is None:
        return LabelingSession(_shown_pictures(tree), labels, classes)
    return LabelingSession(list(review), labels, classes, labels.review_start(only), review)


def _shown_pictures(tree: "FileTree") -> list[str]:
    """Return the pictures outside the test set."""
    return [name for name in tree.pictures if not name.lower().startswith("test/")]


def _read_review(only: Path, tree: "FileTree") -> "dict[str, Hint]":
    """Return the pictures that a table names, with what it says of them; pictures of the test set are left out."""
    from ssgan.labeling.tables import read_review

    hints, missing = read_review(only, tree.pictures, tree.path)
    if missing:
        terminal.warn(f"{only} names {counted(len(missing), 'picture')} not in {tree.path}, such as {missing[0]}.")
    of_tests = hints.keys() - set(_shown_pictures(tree))
    if of_tests == hints.keys():
        raise UserError(f"{only} names only pictures in test/, which are not shown, such as {min(of_tests)}.")
    if of_tests:
        terminal.warn(f"{only} names {counted(len(of_tests), 'picture')} in test/, which are not shown.")
    return {name: hint for name, hint in hints.items() if name not in of_tests}


def _announce(link: str, session: "LabelingSession", run: Path | None) -> None:
    """Print the link, and how much is labelled."""
    counts = session.counts()
    done = "reviewed" if session.review_since else "labelled"
    terminal.say(f"{counts['labeled']:,} of {counted(counts['total'], 'picture')} {done}.")
    if of_folders := session.store.folder_labels():
        names = ", ".join(f"{name}: {count:,}" for name, count in sorted(of_folders.items()))
        terminal.say(f"Labelled by their folders ({names}); --classes names others.")
    if run is not None and not session.review_since:
        terminal.say(f"{run} will soon order and group the pictures.")
    terminal.say("Open this link on this machine; Ctrl-C stops the server:")
    terminal.say(link)


def _serve(serve: Callable[[], None], folder: Path, session: "LabelingSession", trainer: "BackgroundTrainer") -> None:
    """Serve the page until a signal ends it; the error that is raised then says how to continue."""
    number = int(signal.SIGINT)
    try:
        trainer.start(session.label_counts())
        serve()
    except KeyboardInterrupt as stop:
        number = signal_number(stop)
    finally:
        trainer.stop()
    raise Interrupted(_how_to_go_on(folder, session), number)


def _how_to_go_on(folder: Path, session: "LabelingSession") -> str:
    """Return the number of labels, and the next command."""
    from ssgan.data.datasets import DATASETS

    labels = +session.label_counts()
    table = session.store.path
    source = f".{os.sep}{folder}" if str(folder) in DATASETS else str(folder)
    words = f"{counted(labels.total(), 'picture')} labelled in {table}"
    if len(labels) > 1:
        return f"{words}; train on them with: {shlex.join(['ssgan', 'train', source, '--labels-csv', str(table)])}"
    return f"{words}; continue with: {shlex.join(['ssgan', 'label', str(folder)])}"

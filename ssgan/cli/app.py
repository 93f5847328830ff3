"""The command-line app: its smaller commands, and the exit status and the sentence of every error."""

import errno
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssgan import runs
from ssgan.cli import output, processes, terminal
from ssgan.cli.compare import compare
from ssgan.cli.completion import answer_shell
from ssgan.cli.data import data
from ssgan.cli.export import export
from ssgan.cli.label import label
from ssgan.cli.labeling import audit, check_no_answers, suggest
from ssgan.cli.options import (
    DataDir,
    Device,
    Engine,
    EngineChoice,
    Json,
    LabelsCsv,
    RayAddress,
    RunArgument,
    parse_integer,
)
from ssgan.cli.processes import Outcome
from ssgan.cli.sample import sample
from ssgan.cli.sorting import SortOptions
from ssgan.cli.train import train
from ssgan.errors import Interrupted, UserError, memory_message
from ssgan.files import IrregularFile
from ssgan.training import interrupts

if TYPE_CHECKING:
    from ssgan.inference.models import Models

__all__ = ["app", "error_message", "main"]

SUMMARY = "Semi-supervised image classification: thousands of images, labels for a few dozen."
READER_LEFT = 141  # 128 plus the number of SIGPIPE, as for other programs in a pipe
# Errors of the operating system that are caused by a path or a disk, not by a fault of the program.
REFUSED = (
    *(errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
    *(errno.ESTALE, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENXIO),
)
LINES_SHOWN = 20
# \b keeps the lines of a paragraph.
TRAIN_EXAMPLES = """\b
A folder of pictures, or a .zip of it:
  photos/train/cat/...   photos/train/dog/...   labelled, one folder a class
  photos/unlabeled/...                          without labels
  photos/test/cat/...    photos/test/dog/...    for testing; without them a
                                                fifth of the labelled ones

\b
Examples:
  ssgan train photos --image-size 32 --out runs/photos
  ssgan train digits --labels 50 --seeds 2 --epochs 10
"""
PATH_WIDTH = 200

app = typer.Typer(
    name="ssgan",
    help=SUMMARY,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True, help=SUMMARY)
def show_version_or_help(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show versions, device and commit.")] = False,
) -> None:
    """Show versions with --version, and the help without a command."""
    if version:
        from ssgan.devices import device_name, select

        provenance = runs.provenance()
        device = select("auto")
        versions = ", ".join(f"{name} {number}" for name, number in provenance["versions"].items())
        commit = provenance["commit"] or "unknown"
        for line in (versions, f"device {device} ({device_name(device)})", f"commit {commit}"):
            terminal.say(line)
    elif context.invoked_subcommand is None:
        for line in context.get_help().splitlines():
            terminal.say(line)


def evaluate(
    run: RunArgument,
    data: Annotated[str | None, typer.Option(help="Another data set with the same classes.")] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Also score the models together; they must share one draw of labels.")
    ] = False,
    device: Device = "auto",
    labels_csv: LabelsCsv = None,
    data_dir: DataDir = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also show calibration: ECE, NLL, ...")] = False,
    as_json: Json = False,
) -> None:
    """Score the models of a run on the test set: errors, calibration, and each class."""
    # A folder that is not a run is refused before torch is imported.
    runs.check_usable(run)
    from ssgan.figures import plots
    from ssgan.inference.evaluate import evaluate_run

    with terminal.reading_progress(quiet=as_json) as progress:
        result = evaluate_run(run, data, data_dir, ensemble, device, labels_csv, progress)
    result["plots"] = None
    try:
        if result["confusion"] is not None:
            result["plots"] = plots.save(result, run, f"-{result['dataset']}" if data else "")
    except OSError as cause:
        terminal.note(f"ssgan: no plots: {run} cannot be written to ({cause.strerror}).")
    if as_json:
        print(json.dumps(result))
    else:
        output.show_evaluation(result, verbose)


def predict(
    run: RunArgument,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...", help="Files, folders, patterns, .zip, .npz; - reads a list from standard input."
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A .csv, .jsonl or .json file; - is CSV on standard output. [default: -; none with --sort-into or "
            "--sheet]",
        ),
    ] = None,
    sort_into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Copy the pictures into a folder for each class, overwriting none."),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Make symbolic links instead of copies; members of a .zip are copied.")
    ] = False,
    unsure: Annotated[
        str | None, typer.Option(metavar="P", help="Put pictures of a lower probability into unsure/. [default: 0.5]")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the least sure pictures of each class.")
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also print the probability of every class.")
    ] = False,
    model: Annotated[str | None, typer.Option(metavar="S", help="Only the model of this seed.")] = None,
    device: Device = "auto",
    engine: Engine = "local",
    ray_address: RayAddress = None,
    as_json: Json = False,
) -> None:
    """Classify images: one row each, with the class, its probability, and whether it looks like none."""
    from ssgan.table_files import STDOUT, check_table_path

    model_seed = None if model is None else parse_integer("--model", model)
    sorting = SortOptions(folder=sort_into, link=link, unsure=unsure, sheet=sheet)
    sorting.check(images)
    out = out or ("" if sorting.is_on else STDOUT)
    if out:
        check_table_path(out)
        check_no_answers(out)
    choice = EngineChoice(engine, ray_address)
    runs.check_usable(run)
    from ssgan.inference.inputs import find_inputs
    from ssgan.inference.predict import open_predictor, write_predictions

    inputs = find_inputs(images, terminal.read_path_list())
    if not inputs:
        raise UserError("Standard input names no image: give one path per line, or files and folders.")
    predictor = open_predictor(run, model_seed, "cpu" if choice.is_ray else device)
    if predictor.models.progress:
        terminal.warn(predictor.models.progress)
    archives = any(path.name.lower().endswith((".npz", ".zip")) for path in inputs)
    terminal.note(f"by {predictor.description}" + (f" ({predictor.note})" if predictor.note else ""))
    with terminal.count_progress(None if archives else len(inputs), "images", quiet=as_json) as on_row:
        results = sorting.start(predictor.models, inputs)
        predictions = None
        if choice.is_ray:
            from ssgan.inference.ray_data import RayPredictions

            predictions = RayPredictions(run, model_seed, device, predictor.models, inputs, choice.address)
        summary = write_predictions(predictor, inputs, out, probabilities, on_row, results.add, predictions)
    summary |= results.finish() | (predictions.where if predictions else {})
    for file in summary["unreadable"][:LINES_SHOWN]:
        terminal.note(file["reason"], style="yellow")
    if len(summary["unreadable"]) > LINES_SHOWN:
        terminal.note(f"and {len(summary['unreadable']) - LINES_SHOWN:,} more")
    if summary["classified"]:
        _note_confidence(predictor.models)
    if as_json:
        print(json.dumps({"run": str(run), **summary}))
    elif out != STDOUT:
        output.show_predictions(summary, out)
    if not as_json:
        output.show_sorted(summary)
    if not summary["classified"]:
        raise UserError("None of the images could be read.")


def _note_confidence(models: "Models") -> None:
    """Print whether probabilities are calibrated, and why images of none of the classes are not detected."""
    if models.classes and not models.progress and (sentence := models.confidence.about_probabilities):
        terminal.note(sentence)
    if models.G is not None and not models.flags_outliers:
        terminal.note(f"Images of none of the classes are not flagged: {models.confidence.unflagged_reason}.")


def report(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES.jsonl...", help="Files of rows, one row per line, or run folders.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder for report.html, report.md and the pictures.")],
    baseline: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="Method to compare the others with. [default: supervised, or the first]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make one HTML page, Markdown and pictures from rows of results."""
    from ssgan.report import build

    build.check_report_folder(out)
    built = build.build_report(files, baseline)
    paths = build.write_report(built, out)
    skipped = build.describe_skipped(built.skipped)
    for line in skipped[:LINES_SHOWN]:
        terminal.warn(f"left out: {line}")
    if len(skipped) > LINES_SHOWN:
        terminal.warn(f"and {len(skipped) - LINES_SHOWN:,} more, all named in the report")
    if as_json:
        print(json.dumps({**paths, **build.report_numbers(built)}))
    else:
        terminal.say(built.lead)
        terminal.say(f"Report: {paths['html']} (and {paths['markdown']})")


# In the order of `ssgan --help`, each with a description that fits into 80 columns there.
app.command(short_help="Train a classifier from few labels and many images.", epilog=TRAIN_EXAMPLES)(train)
app.command(short_help="Score a run on test images: errors, calibration, each class.")(evaluate)
app.command(short_help="Classify images: one row each, with the class.")(predict)
app.command(short_help="Show what a data set, a draw of labels or a run holds.")(data)
app.command(short_help="Label a folder of pictures in the browser.")(label)
app.command(short_help="Suggest which images to label next.")(suggest)
app.command(short_help="List labels that may be wrong, likeliest first.")(audit)
app.command(short_help="Compare methods on the same labelled images.")(compare)
app.command(short_help="Make a page, Markdown and pictures from rows of results.")(report)
app.command(short_help="Export the classifier to one file: ONNX, torch, safetensors.")(export)
app.command(short_help="Generate images: grids, interpolations, classes, animations.")(sample)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit.

    The status is 0 after success, 2 after a mistake of the user, 128 plus the number of the signal after Ctrl-C or
    SIGTERM, and 141 if the reader of standard output has closed it. Any other error is a fault of the program and ends
    it with a traceback.
    """
    terminal.open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # characters that the terminal cannot encode are escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = [_expand_home(one) for one in (sys.argv[1:] if arguments is None else arguments)]
    if processes.are_launched():
        sys.exit(processes.run_alike(partial(_run_interruptible, patient=True), arguments))
    outcome = _run_interruptible(arguments)
    if outcome.text:
        terminal.note(outcome.text)
    sys.exit(outcome.status)


def _expand_home(argument: str) -> str:
    """Expand the ``~`` of ``--option=~/path``, which some shells leave."""
    option, separator, value = argument.partition("=")
    is_path = option.startswith("--") and (value == "~" or value.startswith("~/"))
    return f"{option}{separator}{os.path.expanduser(value)}" if is_path else argument


def _run_interruptible(arguments: list[str], patient: bool = False) -> Outcome:
    """Run a command that stops cleanly at a signal; if ``patient``, a second signal does not abort it either."""
    with _sigterm_as_interruption(), interrupts.stop_between_steps(patient):
        return _run(arguments)


def _run(arguments: list[str]) -> Outcome:
    """Run a command; return the exit status, and the message of its error."""
    answer_shell(app)
    command = typer.main.get_command(app)
    try:
        # Not by calling the app, which handles signals and a closed pipe in its own way.
        try:
            _check_no_empty_argument(arguments)
            with command.make_context("ssgan", list(arguments)) as context:
                command.invoke(context)
        finally:
            sys.stdout.flush()
    except typer.Exit as end:
        return Outcome(end.exit_code)
    except BrokenPipeError:
        terminal.discard_output()
        return Outcome(READER_LEFT)
    except KeyboardInterrupt as stop:
        status = stop.status if isinstance(stop, Interrupted) else Interrupted().status
        return Outcome(status, f"ssgan: {str(stop) or 'interrupted.'}")
    except Exception as error:
        message = error_message(error)
        if message is None:
            raise
        if isinstance(error, OSError):
            terminal.discard_output()
        return Outcome(2, f"ssgan: {message}")
    return Outcome(READER_LEFT if terminal.out.quiet else 0)


def _check_no_empty_argument(arguments: list[str]) -> None:
    """Refuse an empty argument, often an unset variable of a shell: as a path it would be the current folder."""
    for previous, argument in pairwise(["", *arguments]):
        option, separator, value = argument.partition("=")
        if not argument or (option.startswith("--") and separator and not value):
            name = option or (f"the argument after {previous}" if previous else "the first argument")
            raise UserError(f"{name[0].upper()}{name[1:]} is empty: give a value (. is the current folder).")


@contextmanager
def _sigterm_as_interruption() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: with one line, nothing half done; an ignored signal stays ignored."""

    def interrupt(number: int, _: Any) -> None:
        raise Interrupted(number=number)

    is_default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not is_default or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def error_message(error: BaseException) -> str | None:
    """Return the message about an error of a command for the user; None if it is a fault of the program."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"There is no space left on the disk ({error.filename or 'output'}): free some and try again."
    if isinstance(error, OSError) and (error.errno in REFUSED or isinstance(error, IrregularFile)):
        return f"{terminal.cut(str(error.filename or 'A file'), PATH_WIDTH)} cannot be used ({error.strerror})."
    if message := memory_message(error):
        return message
    if hasattr(error, "format_message"):  # the option parser's own errors
        message = error.format_message().rstrip(".")
        context = getattr(error, "ctx", None)
        command = "ssgan" if context is None else context.command_path
        return f"{message}{'' if message.endswith('?') else '.'} See `{command} --help`."
    return None

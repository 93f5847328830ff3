"""The command line: words for the user. Torch is imported only where a command needs it.

Which errors are the user's to mend, and in what words; all others are faults of ours.
"""

import errno
import io
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ssgan.cli import output, terminal
from ssgan.cli.sample import sample
from ssgan.cli.terminal import cut
from ssgan.errors import UserError
from ssgan.settings.catalog import METHOD_NAMES
from ssgan.settings.config import Config
from ssgan.settings.presets import PRESETS

__all__ = ["error_message"]


app = typer.Typer(
    name="ssgan",
    help="Semi-supervised image classification: thousands of images, labels for a few dozen.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]
INTERRUPTED = 130
SHOWN_UNREADABLE = 20
DATA_HELP = "digits, mnist, fashion-mnist, cifar10, svhn, gaussian, a folder or .zip of pictures, or an .npz file."
DataDir = Annotated[
    Path | None, typer.Option(help="Where downloaded sets lie. [default: SSGAN_DATA, or the user's cache]")
]
LABELS_HELP = "Labelled images in total, drawn class-balanced, or 'all'; 0: a GAN without classes."
ImageSize = Annotated[
    str | None, typer.Option(metavar="PX", help="Bring files of pictures to squares of so many pixels.")
]
AnySetting = Annotated[list[str] | None, typer.Option("--set", metavar="K=V", help="Any other setting; repeatable.")]
LabelsCsv = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A table of file,label for a folder without class folders.")
]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show versions, device and commit.")] = False,
) -> None:
    """Semi-supervised image classification: thousands of images, labels for a few dozen."""
    if version:
        from ssgan.devices import device_name, select
        from ssgan.runs import provenance

        made = provenance()
        device = select("auto")
        versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
        terminal.say(f"{versions}\ndevice {device} ({device_name(device)})\ncommit {made['commit'] or 'unknown'}")
    elif context.invoked_subcommand is None:
        terminal.say(context.get_help())


@app.command()
def train(
    data: Annotated[str, typer.Argument(metavar="DATA", help=f"The data set: {DATA_HELP}")],
    labels: Annotated[str | None, typer.Option(metavar="N|all", help=LABELS_HELP)] = None,
    method: Annotated[str | None, typer.Option(help=f"One of {', '.join(METHOD_NAMES)}.")] = None,
    preset: Annotated[str | None, typer.Option(help=f"One of {', '.join(PRESETS)}; the data set names it.")] = None,
    epochs: Annotated[str | None, typer.Option(metavar="E", help="Length in passes over the pool.")] = None,
    seed: Annotated[str | None, typer.Option(metavar="S", help="First seed: initialisation, order, noise.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N", help="Models trained at once, each with its draw.")] = None,
    draw_seed: Annotated[str | None, typer.Option(metavar="D", help="One draw of labels for all models.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder, which must not exist. [default: runs/<n>-...]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings of an earlier run: its folder or config.json.")
    ] = None,
    set_: AnySetting = None,
    folds: Annotated[str | None, typer.Option(metavar="K", help="Measure the error by K folds of the labels.")] = None,
    image_size: ImageSize = None,
    labels_csv: LabelsCsv = None,
    data_dir: DataDir = None,
    as_json: JsonFlag = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show every setting and stop.")] = False,
) -> None:
    """Train a classifier from few labels and many images, and report its accuracy."""
    from ssgan.cli import train as train_command

    flags = {
        "labels": labels,
        "method": method,
        "seed": seed,
        "seeds": seeds,
        "draw_seed": draw_seed,
        "device": device,
        "folds": folds,
        "image_size": image_size,
    }
    places = (out, resume, config, labels_csv, data_dir)
    train_command.hold(train_command.Asked(data, preset, epochs, set_ or [], flags, *places, as_json, dry_run))


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `ssgan train`.")],
    data: Annotated[str | None, typer.Option(help="Another data set with the same classes.")] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Also score the models together; they must share one draw of labels.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    labels_csv: LabelsCsv = None,
    data_dir: DataDir = None,
    as_json: JsonFlag = False,
) -> None:
    """Score the models of a run on the test share: errors, calibration, and each class."""
    from ssgan import runs

    # A folder that is no finished run is answered before torch is imported.
    runs.read_config(run)
    runs.read_report(run)
    from ssgan.figures import plots
    from ssgan.inference import evaluate as scoring

    with terminal.reading(quiet=as_json) as progress:
        result = scoring.evaluate_run(run, data, data_dir, ensemble, device, labels_csv, progress)
    result["plots"] = None
    try:
        if result["confusion"] is not None:
            result["plots"] = plots.save(result, run, f"-{result['dataset']}" if data else "")
    except OSError as cause:
        print(f"ssgan: no plots: {run} cannot be written to ({cause.strerror}).", file=sys.stderr)
    if as_json:
        print(json.dumps(result))
    else:
        output.show_evaluation(result)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `ssgan train`.")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...", help="Files, folders, patterns, .zip, .npz; - reads a list from standard input."
        ),
    ],
    out: Annotated[
        str, typer.Option(metavar="FILE", help="A .csv, .jsonl or .json file; - is CSV on standard output.")
    ] = "-",
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also that of every class.")] = False,
    seed: Annotated[str | None, typer.Option(metavar="S", help="The model of this seed alone.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Classify images: one row each, with the class, its probability, and whether it looks like none."""
    from ssgan import runs
    from ssgan.cli import options as flags
    from ssgan.files import STDOUT, check_table_path
    from ssgan.inference import predict as inputs

    alone = None if seed is None else flags.parse_integer("--seed", seed)
    check_table_path(out)
    runs.read_config(run)
    runs.read_report(run)
    found = inputs.find_inputs(images, inputs.read_path_list())
    if not found:
        raise UserError("Standard input names no image: give one path in each line, or files and folders.")
    from ssgan.inference import predict as prediction

    predictor = prediction.open_predictor(run, alone, device)
    total = None if any(one.name.lower().endswith((".npz", ".zip")) for one in found) else len(found)
    terminal.note(f"by {predictor.description}" + (f" ({predictor.note})" if predictor.note else ""))
    with terminal.counting(total, "images", quiet=as_json) as on_row:
        summary = prediction.write_predictions(predictor, found, out, probabilities, on_row)
    for one in summary["unreadable"][:SHOWN_UNREADABLE]:
        terminal.note(one["reason"], style="yellow")
    if len(summary["unreadable"]) > SHOWN_UNREADABLE:
        terminal.note(f"and {len(summary['unreadable']) - SHOWN_UNREADABLE:,} more")
    if as_json:
        print(json.dumps({"run": str(run), **summary}))
    elif out != STDOUT:
        words, what = ("classified", "like none of the classes") if summary["per_class"] else ("judged", "generated")
        unlike = f", of which {summary['unlike']:,} look {what}" if summary["unlike"] else ""
        terminal.say(f"{summary['classified']:,} of {summary['images']:,} images {words}{unlike}: {out}")
    if not summary["classified"]:
        raise UserError("None of the images could be read.")


@app.command("data")
def show_data(
    source: Annotated[str, typer.Argument(metavar="DATA|RUN", help=f"A run folder, or a data set: {DATA_HELP}")],
    labels: Annotated[str | None, typer.Option(metavar="N|all", help="Show what a draw of so many would hold.")] = None,
    draw_seed: Annotated[str | None, typer.Option(metavar="D", help="The seed of that draw. [default: 0]")] = None,
    image_size: ImageSize = None,
    labels_csv: LabelsCsv = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="K=V", help="image_mode, test_share or test_seed; repeatable."),
    ] = None,
    data_dir: DataDir = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what a data set holds, what a draw of labels would hold, or which images a run had labelled."""
    from ssgan import runs
    from ssgan.cli import data as inventory
    from ssgan.cli import options as flags
    from ssgan.data.datasets import DATASETS
    from ssgan.settings.options import Options

    is_run = source not in DATASETS and runs.is_run(Path(source))
    if is_run:
        own = {
            "--labels": labels,
            "--draw-seed": draw_seed,
            "--image-size": image_size,
            "--labels-csv": labels_csv,
            "--set": set_,
        }
        for option, value in own.items():
            if value not in (None, []):
                raise UserError(
                    f"{option} is for a data set, but a run has its data and draws already: leave {option} away."
                )
        with terminal.reading(quiet=as_json) as progress:
            found = inventory.describe_run(Path(source), data_dir, progress)
    else:
        if draw_seed is not None and labels is None:
            raise UserError(f"--draw-seed {draw_seed} would do nothing: say with --labels how many to draw.")
        if source not in DATASETS and any(c in source for c in "/\\.") and not Path(source).exists():
            raise UserError(
                f"There is no run folder or file {source}, and no such data set: choose from {', '.join(DATASETS)}."
            )
        given = flags.parse_settings(set_ or [], {"image_size": image_size})
        if strange := [name for name in given if name not in Options.settings()]:
            raise UserError(f"{strange[0]} has no part in what data hold: set one of {', '.join(Options.settings())}.")
        options = Options.of(Config(**given), labels_csv)
        with terminal.reading(quiet=as_json) as progress:
            found = inventory.describe_data(source, data_dir, labels, draw_seed, options, progress)
    if as_json:
        print(json.dumps(found))
        return
    output.show_contents(found)
    if is_run and (Path(source) / "labeled.png").exists():
        terminal.say(f"Labelled images of the first seed (some, if many): {Path(source) / 'labeled.png'}")


@app.command()
def compare(
    data: Annotated[str, typer.Argument(metavar="DATA", help=f"The data set: {DATA_HELP}")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .jsonl file of rows; what it holds is kept.")],
    labels: Annotated[str | None, typer.Option(metavar="N,N,...", help="Numbers of labelled images, or 'all'.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="With commas. [default: gan,supervised and the classical]")
    ] = None,
    preset: Annotated[str | None, typer.Option(help=f"One of {', '.join(PRESETS)}; the data set names it.")] = None,
    epochs: Annotated[str | None, typer.Option(metavar="E", help="Length in passes over the pool.")] = None,
    seed: Annotated[str | None, typer.Option(metavar="S", help="First seed. [default: 0]")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N", help="Models of each cell. [default: 5]")] = None,
    draw_seed: Annotated[
        str | None, typer.Option(metavar="D", help="One draw of labels for all; adds ensembles.")
    ] = None,
    ablate: Annotated[bool, typer.Option("--ablate", help="Also the GAN without each of its parts.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    set_: AnySetting = None,
    image_size: ImageSize = None,
    labels_csv: LabelsCsv = None,
    data_dir: DataDir = None,
    as_json: JsonFlag = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells, and what is finished.")] = False,
) -> None:
    """Compare methods on the same labelled images: one row in FILE for each training, none trained twice."""
    from ssgan.cli import compare as comparison

    words, flags = (preset, epochs, seed, seeds, draw_seed, ablate), {"device": device, "image_size": image_size}
    places = (labels_csv, data_dir, out, as_json, dry_run)
    comparison.hold(comparison.Asked(data, labels, methods, *words, set_ or [], flags, *places))


@app.command("report")
def make_report(
    files: Annotated[list[Path], typer.Argument(metavar="FILES.jsonl...", help="Rows of results, one in each line.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder for report.html, report.md and the pictures.")],
    baseline: Annotated[
        str | None, typer.Option(metavar="METHOD", help="Compare with this one. [default: supervised, or the first]")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make one HTML page, Markdown and pictures from rows of results."""
    from ssgan.report import build

    build.check_report_folder(out)
    built = build.build_report(files, baseline)
    paths = build.write_report(built, out)
    for line in (said := build.describe_skipped(built.skipped))[:SHOWN_UNREADABLE]:
        terminal.warn(f"left out: {line}")
    if len(said) > SHOWN_UNREADABLE:
        terminal.warn(f"and {len(said) - SHOWN_UNREADABLE:,} more, all named in the report")
    if as_json:
        print(json.dumps({**paths, **build.report_numbers(built)}))
    else:
        terminal.say(built.lead)
        terminal.say(f"Report: {paths['html']} (and {paths['markdown']})")


app.command()(sample)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its status: 0 done, 2 the user's mistake, 1 a fault of ours."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal has no letters for is written out
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = app(args=arguments, standalone_mode=False)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except Exception as error:
        words = error_message(error)
        if type(error).__name__ == "Abort":  # the option parser's word for Ctrl-C
            status = INTERRUPTED
        elif words is None:
            raise
        else:
            print(f"ssgan: {words}", file=sys.stderr)
            status = 2
    if status == INTERRUPTED:
        print("ssgan: interrupted.", file=sys.stderr)
    sys.exit(status or 0)


if __name__ == "__main__":
    main()

SHOWN_NAME = 200


def error_message(error: BaseException) -> str | None:
    """What the user can do about an error that a command ended with; None where it is a fault of ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"There is no room left on the disk ({error.filename or 'output'}): make some and try again."
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM):
        return f"{cut(str(error.filename or 'A file'), SHOWN_NAME)} cannot be used ({error.strerror})."
    of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if of_memory or "allocate memory" in str(error):
        return "There is not enough memory for this: lower seeds, batch_size, init_images or the widths."
    if hasattr(error, "format_message"):  # the option parser's errors know how to word themselves
        words = error.format_message().rstrip(".")
        return f"{words}{'' if words.endswith('?') else '.'} See `ssgan --help`."
    return None

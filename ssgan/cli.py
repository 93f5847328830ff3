"""The command line: words for the user. Torch is imported only where a command needs it."""

import io
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssgan import answers, screen
from ssgan import config as configuration
from ssgan.config import PRESETS, Config
from ssgan.errors import UserError
from ssgan.mistakes import sentence
from ssgan.sample_command import sample
from ssgan.settings import describe
from ssgan.traits import check_image_shape, check_range

if TYPE_CHECKING:
    from ssgan.data import Data

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
        screen.say(f"{versions}\ndevice {device} ({device_name(device)})\ncommit {made['commit'] or 'unknown'}")
    elif context.invoked_subcommand is None:
        screen.say(context.get_help())


@app.command()
def train(
    data: Annotated[str, typer.Argument(metavar="DATA", help=f"The data set: {DATA_HELP}")],
    labels: Annotated[str | None, typer.Option(metavar="N|all", help=LABELS_HELP)] = None,
    method: Annotated[str | None, typer.Option(help=f"One of {', '.join(configuration.METHOD_NAMES)}.")] = None,
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
    from ssgan import flags as flags_of
    from ssgan import runs
    from ssgan.data import DATASETS, Options, load

    if resume:
        flags_of.check_resume(out, config)
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
    given = flags_of.given(set_ or [], flags)
    if epochs is not None and "total_images" in given:
        raise UserError(f"total_images={given['total_images']} and --epochs set the same length twice: leave one away.")

    asked = flags_of.Asked(data, preset, out if resume else None, config, given)
    settings = asked.early_settings()
    with screen.reading(quiet=as_json) as progress:
        loaded = load(data, data_dir, Options.of(settings, labels_csv), progress)
    # Only now are the shape of the images and the length of a pass known.
    length = {} if epochs is None else {"total_images": flags_of.images(epochs, len(loaded.x_train))}
    settings = asked._replace(given={**given, **length}).settings(loaded.image_shape)

    from ssgan.devices import device_name, select
    from ssgan.splits import for_seeds, uneven

    check_image_shape(settings.network, loaded.image_shape)
    check_range(settings.network, loaded.name, loaded.bounded)
    where = select(settings.device, settings.dtype, settings.precision)
    splits = for_seeds(loaded.y_train, settings.labels, settings.draw_seeds)
    if settings.folds:
        from ssgan import cross_validation

        cross_validation.cut(loaded, settings)
    if dry_run:
        if as_json:
            print(json.dumps(settings.to_dict()))
        else:
            screen.settings(describe(settings))
        return

    place = (out or Path("runs")).resolve()
    if data not in DATASETS and Path(data).is_dir() and place.is_relative_to(Path(data).resolve()):
        # Its images would be pictures of the data from then on.
        raise UserError(f"The run would lie in {data}, among the pictures: choose a folder elsewhere with --out.")
    folder = out if resume and out is not None else runs.claim(out, loaded.name, settings)
    report = runs.finished(folder, settings, loaded.name, loaded.sha256)
    source = {
        "data": data if data in DATASETS else str(Path(data).resolve()),
        "data_dir": None if data_dir is None else os.path.abspath(os.path.expanduser(data_dir)),
        "labels_csv": None if labels_csv is None else str(labels_csv.resolve()),
    }
    labelled = uneven([split.y for split in splits], loaded.classes)
    for line in [*screen.lost_files(loaded.skipped, loaded.found), *labelled]:
        screen.warn(line)
    if not as_json:
        apart = loaded.found.get("tested", {}).get("held out")
        held = f" and {apart:,} held out for testing" if apart else ""
        screen.say(
            f"{loaded.name}: {_labelled(len(splits[0].indices), settings)}{len(loaded.x_train):,} images{held}, "
            f"method {settings.method}, {_models(settings)}, {settings.total_images:,} images\n"
            f"on {device_name(where)} ({where}), into {folder}"
        )
        changed = Config(preset=settings.preset).diff(settings)
        words = [f"{name}={value}" for name, value, _ in describe(settings) if name in changed]
        screen.out.print("settings: " + " ".join(words), style="dim", soft_wrap=False)
        if report is not None:
            screen.say("This run is finished: nothing was left to train.")
    if report is None:
        try:
            report = _train_stages(loaded, settings, folder, source, as_json)
        except KeyboardInterrupt:
            places = {"--labels-csv": labels_csv, "--data-dir": data_dir, "--out": folder}
            words = [word for option, path in places.items() if path is not None for word in (option, str(path))]
            again = shlex.join(["ssgan", "train", data, *words, "--resume"])
            print(f"ssgan: {folder} is unfinished; go on with it by: {again}", file=sys.stderr)
            raise
    if as_json:
        print(json.dumps(report))
    else:
        answers.report(report)
        if (folder / "samples.png").exists():
            screen.say(f"Generated images: {folder / 'samples.png'}")
        if (folder / "density.png").exists():
            screen.say(f"Densities through training: {folder / 'density.png'}")
        if len(loaded.x_test) and len(report["diverged"]) < len(report["seeds"]):
            screen.say(f"Score again with: ssgan evaluate {folder}")
    if len(report["diverged"]) == len(report["seeds"]):
        raise UserError(
            f"Every model diverged, so {folder} holds none to use: lower learning_rate_d and learning_rate_g."
        )


def _train_stages(
    loaded: "Data", settings: Config, folder: Path, source: dict[str, str | None], quiet: bool
) -> dict[str, Any]:
    """First the models of the folds, where there are any; then the run's own; the report."""
    from ssgan import cross_validation
    from ssgan.experiment import run_experiment

    beside = None
    if settings.folds:
        if not quiet:
            screen.say(f"First {settings.folds} models, each without a fold of the labelled images")
        with screen.following(quiet=quiet) as on_report:
            inner = folder / cross_validation.FOLDER
            beside = {"folds": cross_validation.cross_validate(loaded, settings, inner, on_report, source)}
        if not quiet:
            screen.say(f"Now {_models(settings)}, from every labelled image")
    with screen.following(quiet=quiet) as on_report:
        return run_experiment(loaded, settings, folder, on_report, source, beside=beside)


def _labelled(count: int, settings: Config) -> str:
    return "no classes, " if settings.unconditional else f"{count:,} labelled of "


def _models(settings: Config) -> str:
    return "1 model" if settings.seeds == 1 else f"{settings.seeds} models"


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
    from ssgan import plots, scoring

    with screen.reading(quiet=as_json) as progress:
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
        answers.evaluation(result)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `ssgan train`.")],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES...", help="Files, folders, patterns, .npz; - reads a list from standard input."),
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
    from ssgan import flags, inputs, runs, sheets

    alone = None if seed is None else flags.whole("--seed", seed)
    sheets.check(out)
    runs.read_config(run)
    runs.read_report(run)
    found = inputs.gather(images, inputs.listed())
    if not found:
        raise UserError("Standard input names no image: give one path in each line, or files and folders.")
    from ssgan import prediction

    predictor = prediction.open_predictor(run, alone, device)
    total = None if any(one.name.lower().endswith(".npz") for one in found) else len(found)
    screen.note(f"by {predictor.words}" + (f" ({predictor.aside})" if predictor.aside else ""))
    with screen.counting(total, "images", quiet=as_json) as on_row:
        summary = prediction.write_predictions(predictor, found, out, probabilities, on_row)
    for one in summary["unreadable"][:SHOWN_UNREADABLE]:
        screen.note(one["reason"], style="yellow")
    if len(summary["unreadable"]) > SHOWN_UNREADABLE:
        screen.note(f"and {len(summary['unreadable']) - SHOWN_UNREADABLE:,} more")
    if as_json:
        print(json.dumps({"run": str(run), **summary}))
    elif out != sheets.STDOUT:
        words, what = ("classified", "like none of the classes") if summary["per_class"] else ("judged", "generated")
        unlike = f", of which {summary['unlike']:,} look {what}" if summary["unlike"] else ""
        screen.say(f"{summary['classified']:,} of {summary['images']:,} images {words}{unlike}: {out}")
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
    from ssgan import flags, inventory, runs
    from ssgan.data import DATASETS, Options

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
        with screen.reading(quiet=as_json) as progress:
            found = inventory.of_run(Path(source), data_dir, progress)
    else:
        if draw_seed is not None and labels is None:
            raise UserError(f"--draw-seed {draw_seed} would do nothing: say with --labels how many to draw.")
        if source not in DATASETS and any(c in source for c in "/\\.") and not Path(source).exists():
            raise UserError(
                f"There is no run folder or file {source}, and no such data set: choose from {', '.join(DATASETS)}."
            )
        given = flags.given(set_ or [], {"image_size": image_size})
        if strange := [name for name in given if name not in Options.settings()]:
            raise UserError(f"{strange[0]} has no part in what data hold: set one of {', '.join(Options.settings())}.")
        options = Options.of(Config(**given), labels_csv)
        with screen.reading(quiet=as_json) as progress:
            found = inventory.of_data(source, data_dir, labels, draw_seed, options, progress)
    if as_json:
        print(json.dumps(found))
        return
    answers.contents(found)
    if is_run and (Path(source) / "labeled.png").exists():
        screen.say(f"Labelled images of the first seed (some, if many): {Path(source) / 'labeled.png'}")


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
    from ssgan import comparison

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
    from ssgan import report

    report.check_out(out)
    built = report.build(files, baseline)
    paths = report.write(built, out)
    for line in (said := report.left_out(built.skipped))[:SHOWN_UNREADABLE]:
        screen.warn(f"left out: {line}")
    if len(said) > SHOWN_UNREADABLE:
        screen.warn(f"and {len(said) - SHOWN_UNREADABLE:,} more, all named in the report")
    if as_json:
        print(json.dumps({**paths, **report.numbers(built)}))
    else:
        screen.say(built.lead)
        screen.say(f"Report: {paths['html']} (and {paths['markdown']})")


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
        words = sentence(error)
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

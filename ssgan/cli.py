"""The command line: words for the user. Torch is imported only where a command needs it."""

import errno
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ssgan import config as configuration
from ssgan import screen
from ssgan.config import DATASET_PRESETS, PRESETS, Config
from ssgan.errors import UserError
from ssgan.traits import check_image_shape

app = typer.Typer(
    name="ssgan",
    help="Semi-supervised image classification: thousands of images, labels for a few dozen.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]
INTERRUPTED = 130
SHOWN_SPLITS = 6
DATA_HELP = "digits, mnist, fashion-mnist, or an .npz file."
DataDir = Annotated[
    Path | None, typer.Option(help="Where downloaded sets lie. [default: SSGAN_DATA, or the user's cache]")
]
LABELS_HELP = "Labelled images in total, drawn class-balanced, or 'all'."


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
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="K=V", help="Any other setting; repeatable.")
    ] = None,
    data_dir: DataDir = None,
    as_json: JsonFlag = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show every setting and stop.")] = False,
) -> None:
    """Train a classifier from few labels and many images, and report its accuracy."""
    from ssgan import runs
    from ssgan.data import DATASETS, load

    if resume:
        _check_resume(out, config)
    loaded = load(data, data_dir)
    flags = {
        "labels": labels,
        "method": method,
        "seed": seed,
        "seeds": seeds,
        "draw_seed": draw_seed,
        "device": device,
        "total_images": None if epochs is None else _images(epochs, len(loaded.x_train)),
    }
    given = _given(set_ or [], flags)
    if resume and out is not None:
        settings = _going_on(out, preset, given)
    else:
        earlier = {} if config is None else runs.read_settings(config)
        settings = configuration.resolve(_preset(data, preset, config, earlier), given, earlier)

    from ssgan.devices import device_name, select
    from ssgan.splits import for_seeds

    check_image_shape(settings.network, loaded.image_shape)
    where = select(settings.device)
    splits = for_seeds(loaded.y_train, settings.labels, settings.draw_seeds)
    if dry_run:
        if as_json:
            print(json.dumps(settings.to_dict()))
        else:
            screen.settings(configuration.describe(settings))
        return

    from ssgan.experiment import run_experiment

    folder = runs.reopen(out, settings) if resume and out is not None else runs.claim(out, loaded.name, settings)
    report = runs.finished(folder, settings)
    source = {
        "data": data if data in DATASETS else str(Path(data).resolve()),
        "data_dir": None if data_dir is None else str(data_dir.resolve()),
    }
    if not as_json:
        models = "1 model" if settings.seeds == 1 else f"{settings.seeds} models"
        screen.say(
            f"{loaded.name}: {len(splits[0].indices):,} labelled of {len(loaded.x_train):,} images, "
            f"method {settings.method}, {models}, {settings.total_images:,} images\n"
            f"on {device_name(where)} ({where}), into {folder}"
        )
        changed = Config(preset=settings.preset).diff(settings)
        words = [f"{name}={value}" for name, value, _ in configuration.describe(settings) if name in changed]
        screen.out.print("settings: " + " ".join(words), style="dim", soft_wrap=False)
        if report is not None:
            screen.say("This run is finished: nothing was left to train.")
    if report is None:
        try:
            with screen.following(quiet=as_json) as on_report:
                report = run_experiment(loaded, settings, folder, on_report, source)
        except KeyboardInterrupt:
            again = f"ssgan train {data} --out {folder} --resume"
            print(f"ssgan: {folder} is unfinished; go on with it by: {again}", file=sys.stderr)
            raise
    if as_json:
        print(json.dumps(report))
    else:
        _show_report(report)
        if (folder / "samples.png").exists():
            screen.say(f"Generated images: {folder / 'samples.png'}")
        screen.say(f"Score again with: ssgan evaluate {folder}")
    if len(report["diverged"]) == len(report["seeds"]):
        raise UserError(
            f"Every model diverged, so {folder} holds none to use: lower learning_rate_d and learning_rate_g."
        )


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `ssgan train`.")],
    data: Annotated[str | None, typer.Option(help="Another data set with the same classes.")] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Also score the models together; they must share one draw of labels.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    data_dir: DataDir = None,
    as_json: JsonFlag = False,
) -> None:
    """Score the models of a run on the test share."""
    from ssgan import runs

    runs.read_config(run)
    source, root = runs.source_of(runs.read_report(run), data_dir)
    from ssgan.data import load
    from ssgan.devices import device_name, select
    from ssgan.inference import open_run
    from ssgan.metrics import summarize_scores

    where = select(device)
    models, report = open_run(run, where)
    loaded = load(data or source, root)
    if loaded.image_shape != models.image_shape or loaded.classes != models.classes:
        raise UserError(
            f"{loaded.name} holds {len(loaded.classes)} classes of images {list(loaded.image_shape)}, but the models "
            f"of {run} know {len(models.classes)} classes of images {list(models.image_shape)}."
        )
    scores = models.scores(loaded.x_test, loaded.y_test)
    scores["error_raw"] = models.scores(loaded.x_test, loaded.y_test, averaged=False, metrics=["error"])["error"]
    same = {key: report[key] for key in ("labels", "method", "preset", "seeds")}
    place = {"device": str(where), "device_name": device_name(where), "run": str(run)}
    result = {"dataset": loaded.name, **same, **place, **summarize_scores(scores)}
    rows = [{"seed": s, "draw_seed": row["draw_seed"]} for s, row in zip(report["seeds"], report["rows"], strict=True)]
    for name, values in scores.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    result["rows"] = rows
    if ensemble:
        result["ensemble"] = models.ensemble(loaded.x_test, loaded.y_test)
    if as_json:
        print(json.dumps(result))
    else:
        screen.say(f"{run} on {len(loaded.x_test):,} test images of {loaded.name}, by {place['device_name']} ({where})")
        screen.say(f"{report['method']} with {report['labels']:,} labels")
        _show_scores(result)


@app.command("data")
def show_data(
    source: Annotated[str, typer.Argument(metavar="DATA|RUN", help=f"A run folder, or a data set: {DATA_HELP}")],
    labels: Annotated[str | None, typer.Option(metavar="N|all", help="Show what a draw of so many would hold.")] = None,
    draw_seed: Annotated[str | None, typer.Option(metavar="D", help="The seed of that draw. [default: 0]")] = None,
    data_dir: DataDir = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what a data set holds, what a draw of labels would hold, or which images a run had labelled."""
    from ssgan import inventory
    from ssgan.data import DATASETS

    is_run = source not in DATASETS and Path(source).is_dir()
    if is_run:
        for option, value in (("--labels", labels), ("--draw-seed", draw_seed)):
            if value is not None:
                raise UserError(
                    f"{option} draws from a data set, but a run has its draws already: leave {option} away."
                )
        found = inventory.of_run(Path(source), data_dir)
    else:
        if draw_seed is not None and labels is None:
            raise UserError(f"--draw-seed {draw_seed} would do nothing: say with --labels how many to draw.")
        if source not in DATASETS and any(c in source for c in "/\\.") and not Path(source).exists():
            raise UserError(
                f"There is no run folder or file {source}, and no such data set: choose from {', '.join(DATASETS)}."
            )
        found = inventory.of_data(source, data_dir, labels, draw_seed)
    if as_json:
        print(json.dumps(found))
        return
    shape, per_class = "x".join(map(str, found["image_shape"])), found["per_class"]
    unlabeled = f" ({found['unlabeled']:,} of them without a label)" if found["unlabeled"] else ""
    screen.say(
        f"{found['dataset']}: {found['images']:,} images in the training pool{unlabeled}, "
        f"{found['test_images']:,} test images"
    )
    screen.say(f"each {shape} of {found['dtype']}, full intensity {found['scale']:g}")
    shown = list(per_class)[: SHOWN_SPLITS + 2]
    rows = [[name, *(per_class[c][k] for c in shown)] for k, name in enumerate(found["classes"])]
    screen.table(["class", *shown], [*rows, ["total", *(sum(per_class[c]) for c in shown)]], left=1)
    if len(per_class) > len(shown):
        screen.say(f"({len(per_class) - len(shown)} more seeds: --json shows all)")
    for split in found["splits"][:SHOWN_SPLITS]:
        few = ", ".join(map(str, split["indices"][:8])) + (", ..." if len(split["indices"]) > 8 else "")
        screen.say(f"{split['name']}: split {split['sha256'][:12]}, rows {few}")
    if is_run and (Path(source) / "labeled.png").exists():
        screen.say(f"Labelled images of the first seed (some, if many): {Path(source) / 'labeled.png'}")


def _given(assignments: list[str], flags: dict[str, str | None]) -> dict[str, Any]:
    """The named options and --set, of which no two may speak of the same field."""
    given: dict[str, Any] = {}
    for assignment in [*(f"{name}={text}" for name, text in flags.items() if text is not None), *assignments]:
        name, value = configuration.parse(assignment)
        if name in given:
            raise UserError(f"{name} is set twice, the second time by {assignment}: leave one of the two away.")
        given[name] = value
    return given


def _preset(data: str, asked: str | None, file: Path | None, earlier: dict[str, Any]) -> str:
    """The preset: the one asked for, that of an earlier run, or the one that the data set names."""
    before = earlier.get("preset")
    if asked is not None and before not in (None, asked):
        raise UserError(f"--preset {asked} does not go with --config {file}, a run of preset {before!r}: choose one.")
    return asked or str(before or DATASET_PRESETS.get(data, "mnist-paper"))


def _check_resume(out: Path | None, config: Path | None) -> None:
    if out is None:
        raise UserError("--resume needs --out, the folder of the run to go on with.")
    if config is not None:
        raise UserError(f"--config {config} does not go with --resume, which has the settings of {out}: choose one.")


def _going_on(run: Path, preset: str | None, given: dict[str, Any]) -> Config:
    """The settings of a run begun earlier; options may repeat them, and change what has no part in a step."""
    from ssgan import runs

    begun = runs.read_config(run)
    asked = begun.replace(**given, **({} if preset is None else {"preset": preset}))
    changed = begun.hinders(asked)
    if preset not in (None, begun.preset):
        changed = [f"preset {begun.preset}, now {preset}", *changed]
    if changed:
        raise UserError(f"{run} was begun with other settings, so it cannot go on: {', '.join(changed)}.")
    return asked


def _images(epochs: str, pool: int) -> str:
    """How many images so many passes over the pool are."""
    try:
        images = float(epochs) * pool
    except ValueError:
        images = float("nan")
    if not 0 < images < float("inf"):
        raise UserError(f"--epochs is {epochs}, but must be a number above 0.")
    return str(max(1, round(images)))


def _show_report(report: dict[str, Any]) -> None:
    _show_scores(report)
    screen.say(
        f"{report['images_per_second']:,.0f} images/s per model, {report['seconds']:.0f} s, "
        f"{report['device_name']} ({report['device']})"
    )
    for warning in report["warnings"]:
        screen.say(warning, style="yellow")
    screen.say(f"Run folder: {report['run']}")


def _show_scores(result: dict[str, Any]) -> None:
    def cell(value: float | None, digits: int = 2) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    rows = [
        [
            row["seed"],
            row["draw_seed"],
            cell(None if row["error"] is None else 100 - row["error"]),
            cell(row["error"]),
            cell(row["error_raw"]),
            cell(row["ece"], 3),
            cell(row["nll"], 3),
        ]
        for row in result["rows"]
    ]
    screen.table(["seed", "draw", "accuracy %", "error %", "error % (raw)", "ECE", "NLL"], rows)
    count = sum(e is not None for e in result["errors"])
    over = f" over {count} models" if count > 1 else ""
    screen.say(
        f"accuracy {screen.plus_minus(result['accuracy_mean'], result['accuracy_std'])} %, "
        f"error {screen.plus_minus(result['error_mean'], result['error_std'])} %{over}",
        style="bold",
    )
    together = result.get("ensemble")
    if together is not None:
        error, models = together["error"], together["models"]
        screen.say(
            f"ensemble of {models} models: accuracy {cell(None if error is None else 100 - error)} %, "
            f"error {cell(error)} %, ECE {cell(together['ece'], 3)}, NLL {cell(together['nll'], 3)}",
            style="bold",
        )


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its status: 0 done, 2 the user's mistake, 1 a fault of ours."""
    try:
        status = app(args=arguments, standalone_mode=False)
    except UserError as mistake:
        status = _mistake(str(mistake))
    except KeyboardInterrupt:
        status = INTERRUPTED
    except Exception as error:
        # The option parser's errors know how to word themselves, and its Abort is Ctrl-C; all else is ours.
        if type(error).__name__ == "Abort":
            status = INTERRUPTED
        elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            status = _mistake(
                f"There is no room left on the disk ({error.filename or 'output'}): make some and try again."
            )
        elif type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error):
            status = _mistake(
                "There is not enough memory for this: lower seeds, batch_size, init_images or the widths."
            )
        elif hasattr(error, "format_message"):
            words = error.format_message().rstrip(".")
            status = _mistake(f"{words}{'' if words.endswith('?') else '.'} See `ssgan --help`.")
        else:
            raise
    if status == INTERRUPTED:
        print("ssgan: interrupted.", file=sys.stderr)
    sys.exit(status or 0)


def _mistake(sentence: str) -> int:
    print(f"ssgan: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()

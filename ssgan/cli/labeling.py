"""``ssgan suggest`` and ``ssgan audit``: which images to label next, and which labels may be wrong."""

import dataclasses
import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssgan import files, runs
from ssgan.cli import terminal
from ssgan.cli.completion import among
from ssgan.cli.data import check_data_settings, data_options
from ssgan.cli.hints import settings_options
from ssgan.cli.options import (
    DataDir,
    DataLocation,
    DataOrRun,
    DataSetting,
    Device,
    ImageSize,
    Json,
    LabelsCsv,
    NamedDevice,
    RunArgument,
    choose_backbone,
    parse_integer,
    parse_settings,
)
from ssgan.cli.progress import training_progress
from ssgan.cli.sorting import check_sheet
from ssgan.errors import Interrupted, UserError, counted, signal_number
from ssgan.settings.config import Config
from ssgan.settings.options import BACKBONES, Options, default_image_size
from ssgan.table_files import STDOUT, check_table_path

if TYPE_CHECKING:
    from ssgan.data.dataset import Data
    from ssgan.figures.image_grid import Tile
    from ssgan.labeling.audit import Audit
    from ssgan.labeling.suggest import Suggestion

__all__ = ["audit", "check_no_answers", "suggest"]

SHOWN = 10
NAME_WIDTH = 24
CLASS_WIDTH = 14
GUESSING = 1 / 3  # fraction of contradicted labels above which the models are more likely to be wrong than the labels
SHEET_PICTURES = 96
HEAD_BYTES = 4096  # of a table, enough for its header
LARGEST_SEED = 2**32 - 1  # of numpy.random.RandomState

Out = Annotated[str, typer.Option(metavar="FILE", help="A .csv, .jsonl or .json file; - is CSV on standard output.")]
Sheet = Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the pictures.")]


def suggest(
    source: DataOrRun,
    n: Annotated[str, typer.Option("--n", metavar="N", help="How many images.")] = "20",
    out: Out = "suggest.csv",
    sheet: Sheet = None,
    strategy: Annotated[
        str,
        typer.Option(
            help="typical (of clusters), uncertain (by a run), random, or auto: by the labels available.",
            autocompletion=among(["auto", "typical", "uncertain", "random"]),
        ),
    ] = "auto",
    seed: Annotated[str, typer.Option(metavar="S", help="Seed of the clustering and of random choices.")] = "0",
    data: Annotated[str | None, typer.Option(help="Another pool for a run, or the new location of its data.")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Compare by features of {', '.join(BACKBONES)}, ...; none: by pixels.",
            autocompletion=among([*BACKBONES, "none"]),
        ),
    ] = None,
    image_size: ImageSize = None,
    labels_csv: LabelsCsv = None,
    set_: DataSetting = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Suggest which images to label next: typical ones of clusters, or those that a run is unsure of."""
    count, seed_number = parse_integer("--n", n), parse_integer("--seed", seed)
    if count < 1:
        raise UserError(f"--n is {n}, but must be at least 1.")
    if not 0 <= seed_number <= LARGEST_SEED:
        raise UserError(f"--seed is {seed}, but must be an integer from 0 to {LARGEST_SEED}.")
    check_sheet(sheet)
    check_table_path(out)
    _check_no_labels(out)
    location = DataLocation(data=source, labels_csv=labels_csv, data_dir=data_dir)
    run = Path(location.data) if not location.is_named and runs.is_run(Path(location.data)) else None
    _check_flags(run is not None, {"--backbone": backbone, "--image-size": image_size, "--set": set_}, {"--data": data})
    if run is not None:
        runs.check_usable(run)
    options, settings = Options(), {}
    if run is None:
        settings = parse_settings(set_, image_size=image_size, backbone=backbone)
        options = _pool_options(location, settings, quiet=as_json or out == STDOUT)
    from ssgan.devices import select
    from ssgan.labeling.suggest import check_strategy, load_pool, load_run_pool, write_suggestions
    from ssgan.labeling.suggest import suggest as suggest_images

    check_strategy(strategy, run is not None)
    select(device)
    models = None
    with terminal.reading_progress(quiet=as_json) as progress:
        if run is not None:
            pool = load_run_pool(run, data, data_dir, location.labels_csv, device, progress)
            images, labeled, models, place, table = pool
            if models.progress:
                terminal.warn(models.progress)
        else:
            images, labeled = load_pool(location.data, data_dir, options, device, progress)
            place, table = location.data, location.labels_csv
    suggestions = suggest_images(images, count, labeled, strategy, seed_number, models)
    write_suggestions(suggestions, out)
    drawn = sheet is not None and _draw(sheet, [("", _suggested_tiles(images, suggestions, place))])
    settings_words = settings_options(settings) if run is None else ["--config", str(run)]
    advice = _how_to_train(images, place, table, out, settings_words)
    if as_json:
        result = {
            "source": source,
            "dataset": images.name,
            "images": len(images.x_train),
            "labeled": len(labeled),
            "strategy": suggestions[0].strategy,
            "out": out,
            "sheet": str(sheet) if drawn else None,
            "suggestions": [one._asdict() for one in suggestions],
        }
        print(json.dumps(result))
    else:
        unlabeled = len(images.x_train) - len(labeled)
        _show_suggestions(images.name, suggestions, unlabeled, out, sheet if drawn else None, advice)


def _show_suggestions(
    name: str, suggestions: Sequence["Suggestion"], unlabeled: int, out: str, sheet: Path | None, advice: str
) -> None:
    """Print the first suggestions for a data set, and what to do with them."""
    say = terminal.note if out == STDOUT else terminal.say
    rest = counted(unlabeled, "image")
    say(f"{name}: {len(suggestions):,} of {rest} without a label, strategy {suggestions[0].strategy}")
    if out != STDOUT:
        rows = [[one.place, terminal.cut(one.path, NAME_WIDTH), one.reason] for one in suggestions[:SHOWN]]
        _table(["place", "image", "reason"], rows, len(suggestions), out)
        say(f"Table: {out}")
    if sheet is not None:
        say(f"Pictures: {sheet}")
    if advice:
        say(advice)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], total: int, out: str) -> None:
    """Print the first rows of a table, which is complete in the file, in 80 columns."""
    columns_before = list(zip(columns, *rows, strict=True))[:-1]
    room = terminal.WIDTH - sum(max(len(str(cell)) for cell in column) + 2 for column in columns_before)
    terminal.table(columns, [[*row[:-1], terminal.cut(str(row[-1]), room)] for row in rows], left=len(columns))
    if total > len(rows):
        terminal.say(f"and {total - len(rows):,} more in {out}")


def _check_flags(is_run: bool, of_data: dict[str, Any], of_run: dict[str, Any]) -> None:
    for flag, value in (of_data if is_run else of_run).items():
        if value not in (None, []):
            kind, other = ("a data set", "a run, which has its settings") if is_run else ("a run", "a data set")
            raise UserError(f"{flag} is for {kind}, and this is {other}: omit {flag}.")


def _check_no_labels(out: str) -> None:
    """Check that ``--out`` is not a table that a user has filled in."""
    path = Path(out)
    if out == STDOUT or path.suffix.lower() != ".csv" or not path.is_file():
        return
    check_no_answers(out)
    from ssgan.data.label_table import read_label_table

    try:
        labels = sum(row.label is not None for row in read_label_table(path).rows)
    except UserError:
        return
    if labels:
        raise UserError(f"{out} holds {counted(labels, 'label')} that would be lost: choose another file with --out.")


def check_no_answers(out: str) -> None:
    """Check that ``--out`` is not a table of answers of ``ssgan label``."""
    from ssgan.data.label_log import is_log

    if out == STDOUT or not Path(out).is_file():
        return
    with suppress(OSError), files.open_file(out) as stream:
        head = stream.read(HEAD_BYTES)
        if head and is_log(head):
            raise UserError(f"{out} holds the answers of `ssgan label`, which would be lost: choose another file.")


def _pool_options(location: DataLocation, settings: dict[str, Any], quiet: bool) -> Options:
    """Return the options with which a pool is loaded: a backbone for photographs, otherwise a small image size."""
    from ssgan.labeling.suggest import IMAGE_SIZE

    check_data_settings(settings)
    settings = choose_backbone(location, settings, quiet, "suggest", "compares")
    backbone = settings.pop("backbone", None)
    is_files = not location.is_named and not files.is_npz(location.data)
    if backbone is None and is_files:
        settings.setdefault("image_size", IMAGE_SIZE)
    image_size = settings.get("image_size")
    if backbone is not None:
        image_size = settings.pop("image_size", None) or default_image_size(backbone)
    options = data_options(location, settings)
    return dataclasses.replace(options, backbone=backbone, image_size=image_size)


def _how_to_train(data: "Data", place: str, table: Path | None, out: str, settings_words: Sequence[str]) -> str:
    """Describe how to label suggested images and how to train on them; empty for a named data set."""
    from ssgan.data import label_log

    location = DataLocation(data=place)
    if location.is_named:
        return ""
    train = ["ssgan", "train", place]
    if not data.files_train:
        how = f"Write their labels into y_train of {place}"
    elif table is not None and out.lower().endswith(".csv") and label_log.is_log(files.read_file(table)):
        answers = Path(place) / label_log.TABLE
        answers = table if table.resolve() == answers.resolve() else answers
        kept = "" if answers.exists() else f"Copy {table} to {answers}. "
        label = shlex.join(["ssgan", "label", place, "--only", out])
        how, train = f"{kept}Label them with: {label}", [*train, "--labels-csv", str(answers)]
    elif table is not None:
        how, train = f"Write their labels into {table}", [*train, "--labels-csv", str(table)]
    elif data.source.classes == ("picture",) and out.lower().endswith(".csv"):
        how, train = f"Fill in the column label of {out}", [*train, "--labels-csv", out]
    else:
        how = "Move them into the folders of their classes"
    return f"{how}, then: {shlex.join([*train, *settings_words])}"


def _suggested_tiles(data: "Data", suggestions: Sequence["Suggestion"], place: str) -> list[tuple["Tile", str]]:
    """Return the pictures of suggestions, each with its rank and its predicted class, or else its file name."""
    from ssgan.inference.sorting import read_tiles

    shown = suggestions[:SHEET_PICTURES]
    tiles = read_tiles(data, [one.row for one in shown], place)
    words = [
        f"{one.place}: {one.path.rpartition('/')[2]}"
        if one.predicted is None
        else f"{one.place}: {one.predicted} {one.probability:.2f}"
        for one in shown
    ]
    return list(zip(tiles, words, strict=True))


def _draw(sheet: Path, groups: Sequence[tuple[str, Sequence[tuple["Tile", str]]]]) -> bool:
    """Draw pictures as a contact sheet; warn if there is none to draw."""
    from ssgan.inference.sorting import save_sheet

    if save_sheet(sheet, groups):
        return True
    terminal.warn("No sheet was drawn: there is no grey or colour picture to show.")
    return False


def audit(
    run: RunArgument,
    out: Out = "audit.csv",
    sheet: Sheet = None,
    folds: Annotated[
        str | None, typer.Option(metavar="K", help="Folds of the labels. [default: those of the run, else 5]")
    ] = None,
    rounds: Annotated[
        str, typer.Option(metavar="R", help="Repetitions of the cross-validation; probabilities are averaged.")
    ] = "1",
    device: NamedDevice = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List labels that may be wrong: those that models trained without them contradict."""
    fold_count = None if folds is None else parse_integer("--folds", folds)
    if fold_count is not None and fold_count < 2:
        raise UserError(f"--folds is {folds}, but must be at least 2.")
    round_count = parse_integer("--rounds", rounds)
    if round_count < 1:
        raise UserError(f"--rounds is {rounds}, but must be at least 1.")
    check_sheet(sheet)
    check_table_path(out)
    _check_no_labels(out)
    runs.read_report(run)
    from ssgan.labeling.audit import AUDIT_FOLDER, audit_run, write_mistakes

    quiet = as_json or out == STDOUT

    def announce(config: Config, folder: Path) -> None:
        if not quiet and not (folder / "report.json").exists():
            seconds = runs.read_report(run)["seconds"] or 0
            terminal.say(
                f"Training {counted(config.folds, 'model')} into {folder}, each without a fold of the labels; the run "
                f"itself took {seconds:,.0f} s"
            )

    try:
        with terminal.reading_progress(quiet=quiet) as progress, training_progress(quiet) as shown:
            result = audit_run(
                run, fold_count, round_count, data_dir, device, progress, shown.on_report, announce, shown.on_step
            )
    except KeyboardInterrupt as stop:
        folder = run / AUDIT_FOLDER
        words = f"{folder} holds what the models have learned; the same command continues from there."
        raise Interrupted(words if folder.exists() else "", signal_number(stop)) from None
    write_mistakes(result.mistakes, out)
    drawn = sheet is not None and bool(result.mistakes) and _draw(sheet, _audited_groups(result))
    if as_json:
        summary = {
            "run": str(run),
            **{name: getattr(result, name) for name in ("labels", "models", "likely", "thresholds", "diverged")},
            "copies_with_two_labels": sum(one.twin for one in result.mistakes),
            "out": out,
            "sheet": str(sheet) if drawn else None,
            "mistakes": [
                {key: value for key, value in one._asdict().items() if key not in ("row", "twin")}
                for one in result.mistakes
            ],
        }
        print(json.dumps(summary))
    else:
        _show_audit(result, run, out, sheet if drawn else None)


def _show_audit(result: "Audit", run: Path, out: str, sheet: Path | None) -> None:
    """Print how many labels are contradicted, the first of them, and what to do about them."""
    say = terminal.note if out == STDOUT else terminal.say
    twins = sum(one.twin for one in result.mistakes)
    contradicted = sum(one.likely or (one.margin or 0) > 0 for one in result.mistakes)
    say(
        f"{counted(result.labels, 'label')}, {counted(result.models, 'model')} that never saw the judged image: "
        f"{contradicted:,} contradicted"
    )
    say(f"likely to be wrong by the threshold of each class: {result.likely:,}")
    if twins:
        say(f"images with a copy that has another label, first in the table: {twins:,}", style="yellow")
    if (share := contradicted / max(result.labels, 1)) > GUESSING:
        say(
            f"The models contradict {share:.0%} of the labels, so they may be the ones that are wrong: label more "
            f"pictures first.",
            style="yellow",
        )
    if result.diverged:
        say(f"Diverged, and so left out: {counted(result.diverged, 'model')}", style="yellow")
    if result.mistakes and out != STDOUT:
        rows = [
            [
                terminal.cut(one.path, NAME_WIDTH),
                *(terminal.cut(name or "-", CLASS_WIDTH) for name in (one.given, one.suggested)),
                "-" if one.margin is None else f"{one.margin:.2f}",
                one.reason if one.twin else "likely" if one.likely else "",
            ]
            for one in result.mistakes[:SHOWN]
        ]
        _table(["image", "given", "suggested", "margin", ""], rows, len(result.mistakes), out)
    if out != STDOUT:
        say(f"Table: {out}")
    if sheet is not None:
        say(f"Pictures: {sheet}")
    if result.mistakes:
        say(_how_to_mend(result, run, out))


def _audited_groups(result: "Audit") -> list[tuple[str, list[tuple["Tile", str]]]]:
    """Return the pictures of an audit in two groups: copies with different labels, and the others."""
    from ssgan.inference.sorting import read_tiles

    groups = []
    for title, is_twin in (("copies", True), ("contradicted", False)):
        shown = [one for one in result.mistakes if one.twin is is_twin and one.row >= 0][:SHEET_PICTURES]
        tiles = read_tiles(result.data, [one.row for one in shown], result.source)
        words = [f"{one.given} > {one.suggested or '-'}" for one in shown]
        groups.append((title, list(zip(tiles, words, strict=True))))
    return groups


def _how_to_mend(result: "Audit", run: Path, out: str) -> str:
    """Describe where to correct wrong labels, and which command trains on the corrected ones."""
    from ssgan.data import label_log

    source, table = Path(result.source), result.labels_csv
    if DataLocation(data=result.source).is_named:
        return f"The labels are those of the data set {result.source}, which stays as it is."
    train = ["ssgan", "train", result.source, "--config", str(run)]
    answers = source / label_log.TABLE
    is_page_table = table is None or (answers.exists() and label_log.is_log(files.read_file(table)))
    if source.is_dir() and is_page_table and Path(out).suffix.lower() == ".csv":
        label = shlex.join(["ssgan", "label", result.source, "--only", out])
        train += ["--labels-csv", str(answers)]
        return f"Look at each one, and fix wrong labels in the browser: {label}; then: {shlex.join(train)}"
    if not result.data.files_train:
        how = f"change y_train of {result.source}"
    elif table is not None:
        how, train = f"change its line in {table}", [*train, "--labels-csv", str(table)]
    else:
        how = "move the picture into the folder of its class, or into unlabeled/"
    return f"Look at each one. If a label is wrong, {how}; then: {shlex.join(train)}"

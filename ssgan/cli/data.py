"""``ssgan data``: show what a data set or a run holds, and which of its images are labelled."""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssgan import runs
from ssgan.cli import output, terminal
from ssgan.cli.options import DataDir, DataLocation, DataOrRun, DataSetting, ImageSize, Json, LabelsCsv, parse_settings
from ssgan.errors import UserError, counted
from ssgan.settings.config import Config
from ssgan.settings.options import Options
from ssgan.settings.presets import parse

if TYPE_CHECKING:
    from ssgan.data.checks import Copies
    from ssgan.data.dataset import Data
    from ssgan.data.image_array import ReadProgress
    from ssgan.data.splits import Split

__all__ = ["check_data_settings", "data", "data_options", "describe_data", "describe_run"]

DUPLICATES_SHOWN = 10


def data(
    source: DataOrRun,
    labels: Annotated[
        str | None, typer.Option(metavar="N|all", help="Show what a draw of N labels would hold.")
    ] = None,
    draw_seed: Annotated[str | None, typer.Option(metavar="D", help="The seed of that draw. [default: 0]")] = None,
    image_size: ImageSize = None,
    labels_csv: LabelsCsv = None,
    set_: DataSetting = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show what a data set holds, what a draw of labels would hold, or which images a run had labelled."""
    location = DataLocation(data=source, labels_csv=labels_csv, data_dir=data_dir)
    source, picture = location.data, None
    if not location.is_named and runs.is_run(Path(source)):
        flags = {
            "--labels": labels,
            "--draw-seed": draw_seed,
            "--image-size": image_size,
            "--labels-csv": labels_csv,
            "--set": set_,
        }
        for flag, value in flags.items():
            if value not in (None, []):
                raise UserError(f"{flag} is for a data set, but a run has its data and draws already: omit {flag}.")
        with terminal.reading_progress(quiet=as_json) as progress:
            contents = describe_run(Path(source), data_dir, progress)
        picture = Path(source) / "labeled.png"
    else:
        if draw_seed is not None and labels is None:
            raise UserError(f"--draw-seed {draw_seed} has no effect: set --labels to the number to draw.")
        options = data_options(location, parse_settings(set_, image_size=image_size))
        with terminal.reading_progress(quiet=as_json) as progress:
            contents = describe_data(source, data_dir, labels, draw_seed, options, progress)
    if as_json:
        print(json.dumps(contents))
        return
    output.show_contents(contents)
    if picture is not None and picture.exists():
        terminal.say(f"Labelled images of the first seed (some, if many): {picture}")
        output.note_names(contents["classes"])
    if picture is None and sum(count > 0 for count in contents["per_class"]["pool"]) != 1:  # one class is refused
        options_typed = {"--labels-csv": labels_csv, "--labels": labels, "--draw-seed": draw_seed}
        options_typed |= {"--image-size": image_size, "--data-dir": data_dir}
        words = [word for flag, value in options_typed.items() if value is not None for word in (flag, str(value))]
        words += [word for setting in set_ or [] for word in ("--set", setting)]
        terminal.say(f"Train on them with: {shlex.join(['ssgan', 'train', source, *words])}")


def check_data_settings(settings: Iterable[str]) -> None:
    """Raise a UserError for the name of a setting that is not a data option."""
    names = Options.settings()
    for name in settings:
        if name not in names:
            raise UserError(f"{name} does not affect the data: set one of {', '.join(names)}.")


def data_options(location: DataLocation, settings: dict[str, Any]) -> Options:
    """Return the data options from settings; raise a UserError for settings that are not data options."""
    check_data_settings(settings)
    return Options.of(Config(**settings), location.labels_csv)


def describe_data(
    source: str,
    root: Path | None,
    labels: str | None = None,
    draw_seed: str | None = None,
    options: Options = Options(),  # noqa: B008 - frozen
    progress: "ReadProgress | None" = None,
) -> dict[str, Any]:
    """Describe what a data set holds, and what a draw of labels would hold.

    Parameters
    ----------
    source : str
        What :func:`ssgan.data.load` takes.
    root : Path, optional
    labels, draw_seed : str, optional
        As on the command line; without labels nothing is drawn.
    options, progress
        As :func:`ssgan.data.load` takes them.

    Returns
    -------
    dict
        Plain types; ``per_class`` counts the labels of pool, test set and draws, ``splits`` names the rows.
        If the images came from files, a split names them too, ``files`` counts their sizes, modes and so on, and
        ``skipped`` names those that could not be read. For a user's own data, ``duplicates`` counts test images with a
        copy in the pool, and ``notes`` lists what else a user should know.

    Raises
    ------
    UserError
        If there is no such data set, or no such draw.
    """
    from ssgan.data import splits
    from ssgan.data.datasets import DATASETS, load

    data = load(source, root, options, progress)
    is_own = source not in DATASETS
    if labels is None:
        return _describe(data, {}, is_own)
    texts = {"labels": labels, "draw_seed": draw_seed or "0"}
    config = Config(**dict(parse(f"{name}={text}") for name, text in texts.items()))
    (split,) = splits.make_splits(data.y_train, config.labels, config.draw_seeds)
    return _describe(data, {f"draw {config.draw_seed}": split}, is_own)


def describe_run(run: Path, root: Path | None, progress: "ReadProgress | None" = None) -> dict[str, Any]:
    """Describe what the data of a run hold, and which images each of its models had labelled.

    Returns
    -------
    dict
        As :func:`describe_data`, and ``parent`` if the run started from the weights of another one.

    Raises
    ------
    UserError
        If ``run`` is not a finished run, or its data have changed.
    """
    from ssgan.data import splits
    from ssgan.data.datasets import DATASETS, load

    config, report = runs.read_config(run), runs.read_report(run)
    source = runs.data_source(run, report, config, root)
    data = load(*source, progress)
    run_splits = splits.load(run / "split.json")
    if [split.sha256 for split in run_splits] != [row["split_sha256"] for row in report["rows"]]:
        raise UserError(f"The split.json and report.json of {run} are not of the same run.")
    if data.sha256 != report["dataset_sha256"]:
        raise UserError(f"{data.name} has changed since {run} was trained: its hash differs.")
    named = {f"seed {row['seed']}": split for row, split in zip(report["rows"], run_splits, strict=True)}
    origin = {"parent": report["parent"]} if "parent" in report else {}
    return {**_describe(data, named, is_own=source[0] not in DATASETS), **origin}


def _describe(data: "Data", named_splits: dict[str, "Split"], is_own: bool) -> dict[str, Any]:
    import numpy as np

    from ssgan.data import checks

    labels = {"pool": data.y_train[data.y_train >= 0], "test": data.y_test}
    labels |= {name: split.y for name, split in named_splits.items()}
    entries = [{"name": n, "sha256": s.sha256, "indices": s.indices.tolist()} for n, s in named_splits.items()]
    about_own: dict[str, Any] = {}
    if is_own:
        copies = checks.find_copies(data)
        about_own = {
            "duplicates": {"count": len(copies.in_test), "first": [list(p) for p in copies.in_test[:DUPLICATES_SHOWN]]},
            "notes": [*data.notes, *_notes(data, copies)],
        }
    if data.files_train:
        for entry in entries:
            entry["files"] = [data.files_train[row] for row in entry["indices"]]
        about_own |= {
            "files": {what: dict(count) for what, count in data.file_counts.items()},
            "skipped": [list(pair) for pair in data.skipped],
        }
    return {
        "dataset": data.name,
        "sha256": data.sha256,
        "image_shape": list(data.image_shape),
        "dtype": str(data.x_train.dtype),
        "scale": data.scale,
        "classes": list(data.classes),
        "images": len(data.x_train),
        "unlabeled": int((data.y_train < 0).sum()),
        "test_images": len(data.x_test),
        "per_class": {name: np.bincount(y, minlength=len(data.classes)).tolist() for name, y in labels.items()},
        "splits": entries,
        **about_own,
    }


def _notes(data: "Data", copies: "Copies") -> list[str]:
    """Return sentences about imbalanced classes, classes that cannot be tested, copies, and missing pictures."""
    import numpy as np

    from ssgan.data import checks, splits

    pool_size, tested = len(data.x_train), np.bincount(data.y_test, minlength=len(data.classes))
    if not data.files_train:  # from arrays a draw takes some labels and hides the others
        return [*checks.warn_of_copies(copies), *checks.warn_of_labels(pool_size, 0)]
    notes = splits.imbalance_warnings([data.y_train[data.y_train >= 0]], data.classes)
    if not len(data.y_test):
        notes += checks.warn_of_tests(data) or ["There are no test images: only --folds can measure an error."]
    elif not tested.all():
        without = [name for name, count in zip(data.classes, tested, strict=True) if not count]
        notes.append(f"No test image of {counted(len(without), 'class')}: {', '.join(without[:DUPLICATES_SHOWN])}.")
    labeled_count = int((data.y_train >= 0).sum())
    return [*notes, *checks.warn_of_copies(copies), *checks.warn_of_labels(pool_size, labeled_count)]

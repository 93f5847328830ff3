"""Read and write run folders, and the provenance of results.

A checkpoint holds tensors and plain types only. It is written atomically, and reading it runs no code.
"""

import io
import itertools
import json
import platform
import re
import subprocess
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from ssgan import __version__
from ssgan.errors import CannotResume, UserError
from ssgan.files import (
    append_file,
    check_growth,
    lock,
    open_file,
    parse_json,
    path_from_text,
    read_file,
    read_json_lines,
    write_atomic,
    write_json,
)
from ssgan.run_files import LOG_LINE, PARENT, find_report_fault
from ssgan.schemas import find_fault, shorten, whole
from ssgan.settings.config import Config
from ssgan.settings.options import Options
from ssgan.settings.presets import DATASET_PRESETS
from ssgan.settings.terms import TERMS

__all__ = [
    "CHECKPOINT_VERSION",
    "LOGGED",
    "append_rows",
    "check_usable",
    "commit",
    "create_run_folder",
    "data_source",
    "is_run",
    "learned_images",
    "load_checkpoint",
    "lock_run",
    "parent_entry",
    "provenance",
    "read_config",
    "read_finished_report",
    "read_log",
    "read_parent",
    "read_report",
    "read_settings",
    "save_checkpoint",
    "trim_log",
    "unknown_data",
    "update_config",
]


#: Labels of the logged quantities, by their names in the log.
LOGGED = {**{term.log: term.label for term in TERMS}, "sure": "sure"}
LOCK_NAME = ".lock"
PARENT_NAME = "parent.json"


def create_run_folder(out: Path | None, dataset: str, config: Config, parent: dict[str, Any] | None = None) -> Path:
    """Create the folder of a new run, ``out`` or the next number under ``runs/``, with its ``config.json``.

    ``parent`` describes the run whose weights it starts from, and becomes its ``parent.json``.

    An empty folder is accepted, and so is one in which a process was killed before it had written ``config.json``.

    Raises
    ------
    UserError
        If the folder holds anything else, cannot be created, or another process creates a run in it.
    """
    number = 0
    while True:
        folder = out
        if folder is None:
            numbers = [int(m[1]) for p in Path("runs").glob("*") if (m := re.match(r"(\d+)-", p.name))]
            number = max([number, *numbers]) + 1
            labels = "given" if config.labels is None else config.labels
            folder = Path("runs") / path_from_text(f"{number}-{dataset}-{labels}-{config.method}")
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if out is not None and _is_free(folder):
                break
            if out is not None:
                raise UserError(_taken(folder)) from None
        except OSError as cause:
            words = f"The folder {folder} cannot be created ({cause.strerror}): choose another with --out."
            raise UserError(words) from None
    with lock_run(folder):  # another process may have found the folder free
        if not _is_free(folder):
            raise UserError(_taken(folder))
        (folder / PARENT_NAME).unlink(missing_ok=True)
        if parent is not None:
            write_json(folder / PARENT_NAME, parent)
        write_json(folder / "config.json", config.to_dict())  # last: with it the folder is a run
    return folder


def _is_free(folder: Path) -> bool:
    """Return whether a folder is empty, except for what a process left that was killed before it became a run."""
    left = (LOCK_NAME, ".config.json.part", PARENT_NAME, f".{PARENT_NAME}.part")
    return folder.is_dir() and all(path.name in left for path in folder.iterdir())


def _taken(folder: Path) -> str:
    return f"{folder} exists already: choose another folder with --out, or resume the run in it with --resume."


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Lock a run folder while the block runs, so that no other process trains in it.

    Raises
    ------
    Busy
        If another process holds it.
    UserError
        If the folder is read-only.
    """
    busy = f"Another `ssgan` is training in {run}: wait until it is done, or choose another folder with --out."
    with lock(run / LOCK_NAME, busy):
        yield


def update_config(run: Path, config: Config) -> None:
    """Write the settings with which a run is resumed, if they have changed."""
    if read_config(run) != config:
        write_json(run / "config.json", config.to_dict())


def read_finished_report(run: Path, config: Config, dataset: str, dataset_sha256: str) -> dict[str, Any] | None:
    """Return the report of a run that has trained to the end of these settings, or None.

    Raises
    ------
    CannotResume
        If it is a report on other data.
    """
    if not (run / "report.json").exists():
        return None
    report = read_report(run)
    if report["dataset_sha256"] != dataset_sha256:
        raise CannotResume(f"{dataset} does not match {report['dataset']} as it was when {run} was trained.")
    return report if report["images"] == config.steps * config.images_per_step else None


def read_config(run: Path) -> Config:
    """Read the configuration of a run.

    Raises
    ------
    UserError
        If ``run`` is not a run folder, or was written by another version.
    """
    content = _read_json(run, "config.json")
    try:
        return Config.from_dict(content)
    except UserError as mistake:
        raise UserError(f"{run / 'config.json'}: {mistake}") from None


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings from a run folder or a JSON file such as its ``config.json``, without checking them.

    A setting that was added to the software after the run has its default, as in :func:`read_config`, whatever the
    preset of the run says today.

    Raises
    ------
    UserError
        If there is no such file, or it is not a JSON object.
    """
    if path.is_dir() or (path.name == "config.json" and is_run(path.parent)):
        settings = _read_json(path if path.is_dir() else path.parent, "config.json")
        with suppress(KeyError, TypeError):  # for an unknown network or method, which is refused later
            return {**Config.values_of(settings), **settings}
        return settings
    if not path.exists():
        raise UserError(f"There is no file {path}: give a run folder, or its config.json.")
    return _read_json(path.parent, path.name)


def read_report(run: Path) -> dict[str, Any]:
    """Read the report of a finished run, and check it against :data:`ssgan.run_files.REPORT`.

    Raises
    ------
    UserError
        If ``run`` is not a run folder or did not finish, or the file holds something else.
    """
    report = _read_json(run, "report.json")
    fault = find_report_fault(report)
    try:
        json.dumps(report, allow_nan=False)  # it is shown unchanged, with fields that no schema names
    except (ValueError, RecursionError):
        fault = fault or "holds a number that is not finite, or is nested too deeply"
    if fault is not None:
        raise UserError(f"{run / 'report.json'} {fault}: it is damaged or in another format.")
    return report


def read_parent(run: Path) -> dict[str, Any] | None:
    """Read ``parent.json``, which describes the run whose weights a run started from; None if there is none.

    Raises
    ------
    UserError
        If it cannot be read, or holds something else.
    """
    if not (run / PARENT_NAME).exists():
        return None
    parent = _read_json(run, PARENT_NAME)
    if (fault := find_fault(parent, PARENT)) is not None:
        raise UserError(f"{run / PARENT_NAME} {fault}: it is damaged or in another format.")
    return parent


def parent_entry(parent: dict[str, Any]) -> dict[str, Any]:
    """Return what a report says about a parent: all except the long list of its images."""
    return {key: value for key, value in parent.items() if key != "labeled"}


def learned_images(run: Path) -> frozenset[str]:
    """Return the images whose labels the initial weights of a run were trained on, which must not be tested on.

    Raises
    ------
    UserError
        If ``parent.json`` cannot be read.
    """
    labeled = (read_parent(run) or {}).get("labeled") or []
    return frozenset(itertools.chain.from_iterable(labeled))


def check_usable(run: Path) -> None:
    """Check that a folder is a run that has finished, or has at least a checkpoint.

    Raises
    ------
    UserError
        If it is not.
    """
    read_config(run)
    if (run / "report.json").exists() or not (run / "checkpoint").exists():
        read_report(run)


def unknown_data(run: Path | str) -> UserError:
    """Return the error for a run without a report, whose data must be named."""
    return UserError(f"{run} did not finish, so it does not record where its data are: name them with --data.")


def data_source(
    run: Path, report: dict[str, Any], config: Config, root: Path | None = None, moved: str | None = None
) -> tuple[str, str | Path | None, Options]:
    """Return what :func:`ssgan.data.load` needs to load the data of a run: name or path, root folder, options.

    ``report`` is one that :func:`read_report` has checked, ``moved`` the place of the data, if they are elsewhere now.

    Raises
    ------
    UserError
        If the run started from another one, and its ``parent.json`` is lost or damaged; if its data were arrays.
    """
    if report.get("parent") and not (run / PARENT_NAME).exists():
        raise UserError(f"{run} started from another run, but there is no {PARENT_NAME} in it: it is damaged.")
    if moved is None and report.get("source", "") is None and report["dataset"] not in DATASET_PRESETS:
        raise UserError(
            f"{run} was trained on arrays, which it does not hold: give them with --data, if the command has it, or "
            f"train from a file, such as an .npz."
        )
    source = report.get("source") or {"data": report["dataset"], "data_dir": None}
    keys = ("data", "data_dir", "labels_csv")
    data, folder, table = (None if source.get(key) is None else path_from_text(str(source[key])) for key in keys)
    options = Options.of(config, None if table is None else Path(table), learned_images(run))
    return moved or str(data), root or folder, options


def is_run(path: Path) -> bool:
    """Return whether a folder was written by ``ssgan train``, finished or not, and so is not a folder of pictures."""
    return any((path / name).is_file() for name in ("config.json", "split.json", "report.json"))


def append_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append one line of JSON for each row; if the disk has no room for all of them, none is kept."""
    append_file(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode())


def trim_log(path: Path, steps_done: int) -> None:
    """Drop the lines of a log after a step, because a resumed run writes them again."""
    if path.exists():
        kept = [line + "\n" for line, content in _whole_lines(path) if content["step"] <= steps_done]
        write_atomic(path, "".join(kept).encode())


def read_log(run: Path) -> list[dict[str, Any]]:
    """Read the log of a run, without an incomplete last line; empty if there is no log."""
    path = run / "log.jsonl"
    lines = [content for _, content in _whole_lines(path)] if path.exists() else []
    return [line for line in lines if find_fault(line, LOG_LINE) is None]


def _whole_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the text and the content of each line of a log, without incomplete lines of a killed run."""
    for line in read_json_lines(path):
        if isinstance(line.value, dict) and whole(0)(line.value.get("step")):
            yield line.text.decode().strip(), line.value


def commit() -> str | None:
    """Return the commit of this code, with ``+`` if files have changed since; None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if not git("ls-files", "--", Path(__file__).name):
            return None
        return git("rev-parse", "HEAD")[:12] + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def provenance() -> dict[str, Any]:
    """Return versions and commit, for every result row."""
    packages = ("torch", "numpy", "scikit-learn")
    versions = {name: metadata.version(name) for name in packages}
    return {"versions": {"ssgan": __version__, "python": platform.python_version(), **versions}, "commit": commit()}


def _read_json(run: Path, name: str) -> dict[str, Any]:
    if not run.is_dir():
        raise UserError(f"There is no run folder {run}: give the folder that `ssgan train` printed.")
    try:
        content = parse_json(read_file(run / name))
    except FileNotFoundError:
        unfinished = "is a run that did not finish (resume it with `ssgan train DATA --out RUN --resume`)"
        missing = "is not a run folder" if name == "config.json" or not is_run(run) else unfinished
        raise UserError(f"{run} {missing}: there is no {name} in it.") from None
    except OSError as cause:
        raise UserError(f"{run / name} cannot be read ({cause.strerror}).") from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{run / name} cannot be read: it is damaged or in another format.")
    return content


CHECKPOINT_VERSION = 2


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors, numbers, strings, lists and dictionaries."""
    import torch

    buffer = io.BytesIO()
    torch.save({"format_version": CHECKPOINT_VERSION, **state}, buffer)
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises
    ------
    UserError
        If there is no such file, it may not be read, it is damaged, holds anything but plain data, or comes from
        another version of the format.
    """
    import torch

    try:
        # torch does not verify the checksums that it writes, so a corrupted weight would go unnoticed.
        with open_file(path) as stream:
            with zipfile.ZipFile(stream) as archive:
                check_growth(archive, path)
                damaged = archive.testzip()
            stream.seek(0)
            state: Any = None if damaged else torch.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"There is no {path}: the run did not finish, or this is not a run folder.") from None
    except UserError:
        raise
    except OSError as cause:
        raise UserError(f"{path} cannot be read ({cause.strerror or cause}).") from None
    except Exception as cause:  # reading arbitrary bytes can fail in any way; no code of this package runs here
        raise UserError(f"{path} cannot be read as a checkpoint: it is damaged or in another format.") from cause
    if damaged:
        raise UserError(f"{path} cannot be read as a checkpoint: it is damaged or in another format.")
    version = state.get("format_version") if isinstance(state, dict) else None
    if not whole(CHECKPOINT_VERSION, CHECKPOINT_VERSION)(version):
        raise UserError(
            f"{path} has format version {shorten(version)}, but this version of ssgan reads {CHECKPOINT_VERSION}."
        )
    loaded: dict[str, Any] = state
    return loaded

"""The run folder, the rows of a result and where they came from."""

import json
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from ssgan import __version__
from ssgan.config import Config
from ssgan.errors import UserError
from ssgan.files import write_json

NEEDED = ("dataset", "labels", "method", "preset", "seeds", "rows")

__all__ = ["append_rows", "claim", "commit", "provenance", "read_config", "read_report"]


def claim(out: Path | None, dataset: str, config: Config) -> Path:
    """Make the folder of a new run: ``out``, or the next number under ``runs/``.

    Raises
    ------
    UserError
        Where it exists already or cannot be made.
    """
    if out is None:
        labels = "given" if config.labels is None else config.labels
        root = Path("runs")
        number = 1 + max((int(m[1]) for p in root.glob("*") if (m := re.match(r"(\d+)-", p.name))), default=0)
        out = root / f"{number}-{dataset}-{labels}-{config.method}"
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"{out} exists already: choose another folder with --out, or leave --out away.") from None
    except OSError as cause:
        raise UserError(f"The folder {out} cannot be made ({cause.strerror}): choose another with --out.") from None
    write_json(out / "config.json", config.to_dict())
    return out


def read_config(run: Path) -> Config:
    """The configuration of a run.

    Raises
    ------
    UserError
        Where ``run`` is no run folder, or was written by another version.
    """
    content = _read_json(run, "config.json")
    try:
        return Config.from_dict(content)
    except UserError as mistake:
        raise UserError(f"{run / 'config.json'}: {mistake}") from None


def read_report(run: Path) -> dict[str, Any]:
    """The report of a finished run.

    Raises
    ------
    UserError
        Where ``run`` is no run folder or did not finish.
    """
    report = _read_json(run, "report.json")
    missing = [key for key in NEEDED if key not in report]
    if missing:
        raise UserError(f"{run / 'report.json'} lacks {', '.join(missing)}: it is damaged or something else.")
    return report


def append_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Add one line of JSON for each row; what is there stays."""
    with path.open("a") as stream:
        stream.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def commit() -> str | None:
    """The commit this code is at, with ``+`` where it was changed since; None outside a checkout."""

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
    """Versions and commit, for every row."""
    packages = ("torch", "numpy", "scikit-learn")
    versions = {name: metadata.version(name) for name in packages}
    return {"versions": {"ssgan": __version__, "python": platform.python_version(), **versions}, "commit": commit()}


def _read_json(run: Path, name: str) -> dict[str, Any]:
    if not run.is_dir():
        raise UserError(f"There is no run folder {run}: give the folder that `ssgan train` printed.")
    try:
        content = json.loads((run / name).read_text())
    except FileNotFoundError:
        missing = "is no run folder" if name == "config.json" else "is a run that did not finish"
        raise UserError(f"{run} {missing}: there is no {name} in it.") from None
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{run / name} cannot be read: it is damaged or something else.")
    return content

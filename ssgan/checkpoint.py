"""Models on disk: tensors and plain types only, whole or not there, read without running any code."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from ssgan.errors import UserError
from ssgan.files import write_atomic

__all__ = ["FORMAT_VERSION", "load", "save"]

FORMAT_VERSION = 2


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors, numbers, strings, lists and dictionaries."""
    buffer = io.BytesIO()
    torch.save({"format_version": FORMAT_VERSION, **state}, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any]:
    """Read what :func:`save` wrote, onto the CPU.

    Raises
    ------
    UserError
        Where there is no such file, it may not be read, it is damaged, holds anything but plain data, or comes from
        another version of the format.
    """
    try:
        # torch does not check the sums that it writes, so a changed weight would pass for a trained one.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        state: Any = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"There is no {path}: the run did not finish, or this is no run folder.") from None
    except PermissionError as cause:
        raise UserError(f"{path} cannot be read ({cause.strerror}).") from None
    except Exception as cause:  # a reader of arbitrary bytes can fail in any way; nothing of ours runs here
        raise UserError(f"{path} cannot be read as a checkpoint: it is damaged or something else.") from cause
    if damaged:
        raise UserError(f"{path} cannot be read as a checkpoint: it is damaged or something else.")
    version = state.get("format_version") if isinstance(state, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"{path} has format version {version}, but this version of ssgan reads {FORMAT_VERSION}.")
    loaded: dict[str, Any] = state
    return loaded

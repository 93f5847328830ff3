"""Open ``.npz`` files: regular ones, within a limit on what they unpack to, without pickles."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ssgan.errors import UserError
from ssgan.files import check_growth, open_file

__all__ = ["open_npz"]


@contextmanager
def open_npz(path: Path) -> Iterator[Mapping[str, Any]]:
    """Open an ``.npz``; its arrays are read when they are accessed by name, and checked by their CRC.

    Raises
    ------
    UserError
        If there is no such file, it cannot be opened, or it expands too much (``ssgan.files.GROWTH_LIMIT``).
    Exception
        Any type, if the file is not a valid ``.npz``.
    """
    try:
        stream = open_file(path)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except OSError as cause:
        raise UserError(f"{path} cannot be read ({cause.strerror}).") from None
    with stream:
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as archive:
                check_growth(archive, path)
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as arrays:
            yield arrays

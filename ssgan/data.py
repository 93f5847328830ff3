"""Images and labels from wherever they are, in one shape: :func:`load` -> :class:`Data`."""

import dataclasses
import os
from pathlib import Path

from ssgan import folders, sets
from ssgan.albums import Progress
from ssgan.config import Config
from ssgan.dataset import UNLABELED, Data
from ssgan.errors import UserError, did_you_mean
from ssgan.files import default_root
from ssgan.options import Options
from ssgan.sets import DATASETS, GAUSSIAN_NAME, IDX_FILES, IDX_MD5, NPZ_ARRAYS

__all__ = [
    "DATASETS",
    "IDX_FILES",
    "IDX_MD5",
    "NPZ_ARRAYS",
    "UNLABELED",
    "Data",
    "Options",
    "Progress",
    "default_root",
    "load",
]


def load(
    name_or_path: str | Path,
    root: str | Path | None = None,
    options: Options = Options(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> Data:
    """Load a data set by name, or from pictures in a folder or ``.zip``, or from an ``.npz`` file.

    Parameters
    ----------
    name_or_path : str or Path
        A name of ``DATASETS``; a folder or ``.zip`` of pictures as :mod:`ssgan.folders` describes; or the path
        of an ``.npz`` with ``x_train`` (uint8 [N, H, W] or [N, H, W, C]), ``y_train`` (int [N], -1 for
        unlabelled), and optionally ``x_test`` and ``y_test``, ``classes`` (names) and ``scale`` (the value of
        full intensity, else 255).
    root : str or Path, optional
        Where downloaded sets lie, in torchvision's layout; otherwise :func:`default_root`.
    options : Options
        How files of pictures become data.
    progress : callable, optional
        For files of pictures: told what is being done, how many are done and how many there are.

    Raises
    ------
    UserError
        For a name that is not known, files that are missing, damaged or something else, and options out of their
        range or of no use for the source.
    """
    # Their ranges are those of the settings.
    checked = Config(**{name: getattr(options, name) for name in Options.settings()})
    of_settings = Options.of(checked, options.labels_csv)
    options = dataclasses.replace(of_settings, strict=options.strict, classes=options.classes)
    if str(name_or_path) == GAUSSIAN_NAME:
        options.refuse_all(GAUSSIAN_NAME)
        return sets.gaussian(options.gaussian_mean, options.gaussian_std)
    options.refuse_gaussian(str(name_or_path))
    reader, path = DATASETS.get(str(name_or_path)), Path(name_or_path)
    if reader is not None:
        options.refuse_all(str(name_or_path))
        return reader(None if root is None else Path(os.path.expanduser(root)))
    if path.is_dir() or path.suffix.lower() == ".zip":
        return folders.read(path, options, progress)
    if path.suffix == ".npz":
        options.refuse_all(str(path))
        return sets.read_npz(path)
    if path.name != str(name_or_path) and not path.exists():
        raise UserError(f"There is no folder or file {path}.")
    near = did_you_mean(str(name_or_path), DATASETS)
    raise UserError(
        f"Unknown data set {str(name_or_path)!r}: choose from {', '.join(DATASETS)}, or give a folder or .zip of "
        f"pictures, or an .npz file.{near}"
    )

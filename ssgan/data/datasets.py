"""Load a data set by name, from an ``.npz`` file or from pictures: :func:`load` returns :class:`Data`."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssgan.cache import default_root
from ssgan.data import file_tree, image_folder
from ssgan.data.dataset import UNLABELED, Data, image_ids
from ssgan.data.image_array import ReadProgress
from ssgan.data.npz import open_npz
from ssgan.errors import UserError, counted, did_you_mean
from ssgan.files import is_npz, name_to_unicode, path_to_text, read_file, refuse_irregular
from ssgan.settings.config import Config
from ssgan.settings.options import Options

__all__ = [
    "DATASETS",
    "GAUSSIAN_NAME",
    "IDX_FILES",
    "IDX_MD5",
    "NPZ_ARRAYS",
    "UNLABELED",
    "Data",
    "Options",
    "default_root",
    "gaussian",
    "is_on_disk",
    "load",
    "read_npz",
    "source_entry",
]


GAUSSIAN_NAME, GAUSSIAN_ROWS = "gaussian", 10_000

NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes", "scale")
# MD5 of the original files, unpacked: images and labels of the training pool, then of the test set.
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IDX_MD5 = {
    "MNIST": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "FashionMNIST": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_FILES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")


def _load_digits(root: Path | None) -> Data:
    """Read the 1797 handwritten digits of 8x8 pixels that scikit-learn includes.

    The first 540 of a fixed permutation are the test set.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # The stream of RandomState never changes, so the test set is the same under every version of numpy.
    order = np.random.RandomState(0).permutation(len(bunch.target))
    test, train = order[:540], order[540:]
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
    classes = tuple(str(name) for name in bunch.target_names)
    return Data(images[train], labels[train], images[test], labels[test], classes, name="digits", scale=16.0)


def _read_subsets(
    name: str, folder: Path, place: str, files: Sequence[str], make: Callable[[bool, bool], Any]
) -> list[Any]:
    """Read the training pool and the test set by torchvision.

    Parameters
    ----------
    name : str
    folder : Path
        Folder of the files.
    place : str
        What ``--data-dir`` must hold: that folder, or the files.
    files : sequence of str
        If one is missing, torchvision downloads the set.
    make : callable
        Returns torchvision's data set; called with two flags: training pool or not, download or not.
    """
    refuse_irregular(folder / file for file in files)
    missing = [file for file in files if not (folder / file).is_file()]
    try:
        return [make(train, bool(missing)) for train in (True, False)]
    except Exception as cause:  # a network, a disk and a parser of arbitrary bytes can fail in any way
        reason = next(iter(str(cause).splitlines()), "").rstrip(":. ") or type(cause).__name__
        if missing:
            raise UserError(
                f"{name} is incomplete in {folder} and could not be downloaded into it ({reason}): put "
                f"{', '.join(missing)} there, or set --data-dir or SSGAN_DATA to the folder that holds {place}."
            ) from cause
        raise UserError(
            f"{folder} holds a file of {name} that cannot be read or is not the original ({reason}): delete "
            f"{', '.join(files)} there, and {name} is downloaded."
        ) from cause


def _load_idx(kind: str, name: str, root: Path | None) -> Data:
    """Read MNIST or Fashion-MNIST by torchvision, which downloads what is missing, and check its MD5."""
    from torchvision import datasets

    root = default_root() if root is None else root
    folder, original = root / kind / "raw", getattr(datasets, kind)

    def missing() -> list[str]:
        return [file for file in IDX_FILES if not os.path.isfile(folder / file)]

    refuse_irregular(folder / f"{file}{suffix}" for file in IDX_FILES for suffix in ("", ".gz"))
    absent = missing()
    # Without this, torchvision would download all four files again, and prefer the processed/*.pt of its old versions.
    resources = [resource for resource in original.resources if Path(resource[0]).stem in absent]
    dataset = type(kind, (original,), {"resources": resources, "_check_legacy_exist": lambda _: False})
    try:
        if absent:
            dataset(root, download=True)
    except Exception as cause:  # a network and a disk can fail in any way
        # If nothing is missing now, an existing file could not be read: the MD5 check below names it.
        if absent := missing():
            reason = (str(cause).strip() or type(cause).__name__).splitlines()[-1].rstrip(":. ")
            raise UserError(
                f"{name} is incomplete in {folder} and could not be downloaded into it ({reason}): put "
                f"{', '.join(absent)} there, or set --data-dir or SSGAN_DATA to the folder that holds {kind}/raw."
            ) from cause
    for file, md5 in zip(IDX_FILES, IDX_MD5[kind], strict=True):
        try:
            content = read_file(folder / file)
        except OSError as cause:
            raise UserError(f"{folder / file} cannot be read ({cause.strerror}).") from cause
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise UserError(
                f"{folder / file} is not the original of {name}: delete it to download it, or load arrays of your own "
                f"from an .npz."
            )
    shares = [dataset(root, train=train) for train in (True, False)]
    arrays = [array.numpy() for share in shares for array in (share.data, share.targets)]
    x_train, y_train, x_test, y_test = arrays
    classes = tuple(label.split(" - ")[0] for label in original.classes)
    return Data(x_train, y_train, x_test, y_test, classes, name=name)


def _load_cifar10(root: Path | None) -> Data:
    """Read CIFAR-10 from ``cifar10.npz`` if there is one, else by torchvision, which downloads it and checks MD5."""
    root = default_root() if root is None else root
    refuse_irregular([root / "cifar10.npz", root / "cifar-10-python.tar.gz"])
    if (root / "cifar10.npz").is_file():
        data = read_npz(root / "cifar10.npz")
        if data.image_shape != (32, 32, 3) or len(data.classes) != len(CIFAR10_CLASSES):
            raise UserError(
                f"{root / 'cifar10.npz'} holds {counted(len(data.classes), 'class')} of images "
                f"{list(data.image_shape)}, but CIFAR-10 has 10 of [32, 32, 3]: remove the file, and cifar10 is read "
                f"from {CIFAR10_FOLDER}."
            )
        return dataclasses.replace(data, name="cifar10", classes=CIFAR10_CLASSES)

    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10_FOLDER
    pool, test = _read_subsets(
        "cifar10",
        folder,
        CIFAR10_FOLDER,
        CIFAR10_FILES,
        lambda train, download: CIFAR10(root, train, download=download),
    )
    labels = [np.asarray(share.targets, np.int64) for share in (pool, test)]
    return Data(pool.data, labels[0], test.data, labels[1], tuple(pool.classes), name="cifar10")


def _load_svhn(root: Path | None) -> Data:
    """Read the Street View House Numbers by torchvision, which downloads them and checks MD5; ``extra`` is left out."""
    try:
        import scipy.io  # noqa: F401 - torchvision reads the files with it
    except ImportError as cause:
        raise UserError("svhn needs scipy to read its .mat files: install it with `pip install scipy`.") from cause
    from torchvision.datasets import SVHN

    root = default_root() if root is None else root
    place = " and ".join(SVHN_FILES)

    def read(train: bool, download: bool) -> SVHN:
        return SVHN(root, "train" if train else "test", download=download)

    shares = _read_subsets("svhn", root, place, SVHN_FILES, read)
    # torchvision puts the channels first, and makes the digit 0, which the files call 10, class 0.
    images = [np.ascontiguousarray(share.data.transpose(0, 2, 3, 1)) for share in shares]
    labels = [share.labels.reshape(-1).astype(np.int64) for share in shares]
    return Data(images[0], labels[0], images[1], labels[1], tuple("0123456789"), name="svhn")


def gaussian(mean: float = Options.gaussian_mean, std: float = Options.gaussian_std) -> Data:
    """Draw a pool and a test set of 10,000 numbers each from a normal distribution, always the same numbers.

    They are standard normal numbers times ``std`` plus ``mean``; none has a label. The default mean differs from that
    of G's noise, 0, so that G has something to learn even if the standard deviation matches by chance.
    """
    # The stream of RandomState never changes.
    numbers = np.random.RandomState(0).standard_normal((2 * GAUSSIAN_ROWS, 1)) * std + mean
    x_train, x_test = np.split(numbers.astype(np.float32), 2)
    y_train, y_test = np.full(GAUSSIAN_ROWS, UNLABELED), np.zeros(GAUSSIAN_ROWS, np.int64)
    return Data(x_train, y_train, x_test, y_test, ("drawn",), name=GAUSSIAN_NAME, normal=(mean, std))


def read_npz(path: Path) -> Data:
    """Read ``x_train, y_train[, x_test, y_test][, classes][, scale]`` from an .npz file."""
    try:
        with open_npz(path) as archive:
            names = {*archive}
            arrays = {key: archive[key] for key in NPZ_ARRAYS if key in names}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise TypeError("a member of the archive is not an .npy file")
    except UserError:
        raise
    except Exception as cause:  # a reader of arbitrary bytes can fail in any way; pickles are not loaded
        raise UserError(
            f"{path} cannot be read as an .npz of plain arrays ({type(cause).__name__}): write it with numpy.savez, "
            f"from arrays of numbers and words."
        ) from cause
    absent = [key for key in NPZ_ARRAYS if key not in arrays]
    for key in ["x_train", "y_train"] + ["x_test", "y_test"] * ("x_test" in arrays or "y_test" in arrays):
        if key in absent:
            raise UserError(
                f"{path} holds {', '.join(sorted(names)) or 'nothing'}, but no {key}: an .npz needs x_train and "
                f"y_train, and x_test and y_test together."
            )
    for key in sorted(names - set(NPZ_ARRAYS)):
        if near := did_you_mean(key, absent):
            raise UserError(f"{path} holds an array {key!r}, which is not recognized.{near}")
    x_train, y_train = arrays["x_train"], arrays["y_train"]
    x_test = arrays.get("x_test", np.atleast_1d(x_train)[:0])
    y_test = arrays.get("y_test", np.atleast_1d(y_train)[:0])
    y_train, y_test = (np.char.decode(y, errors="replace") if y.dtype.kind == "S" else y for y in (y_train, y_test))
    classes: Any = None  # found by Data
    if "classes" in arrays:
        classes = tuple(
            name.decode(errors="replace")
            if isinstance(name, bytes)
            else str(name).encode("utf-8", "backslashreplace").decode()  # numpy keeps lone surrogates
            for name in arrays["classes"].ravel()
        )
    scale = arrays.get("scale", np.zeros(()))
    if scale.size != 1 or scale.dtype.kind not in "iuf":
        raise UserError(f"{path}: scale is {scale.dtype} of shape {list(scale.shape)}, but must be one number.")
    try:
        return Data(
            x_train, y_train, x_test, y_test, classes, name=name_to_unicode(path.stem), scale=float(scale.item())
        )
    except UserError as mistake:
        raise UserError(f"{path}: {mistake}") from None


DATASETS: dict[str, Callable[[Path | None], Data]] = {
    "digits": _load_digits,
    "mnist": partial(_load_idx, "MNIST", "mnist"),
    "fashion-mnist": partial(_load_idx, "FashionMNIST", "fashion-mnist"),
    "cifar10": _load_cifar10,
    "svhn": _load_svhn,
    GAUSSIAN_NAME: lambda root: gaussian(),
}


def source_entry(name: str, data_dir: Any = None, labels_csv: Any = None) -> dict[str, str | None]:
    """Return the location of data with absolute paths, as ``report.json`` keeps it for any locale.

    Parameters
    ----------
    name : str
        A name in :data:`DATASETS`, or a path.
    data_dir, labels_csv : path, optional
    """
    paths = {"data_dir": data_dir, "labels_csv": labels_csv} | ({} if name in DATASETS else {"data": name})
    absolute = {key: path and path_to_text(file_tree.expand_user(Path(path)).resolve()) for key, path in paths.items()}
    return {"data": name, **absolute}


def is_on_disk(name: str, root: Path | None = None) -> bool:
    """Return whether a named data set can be loaded without a download. ``root`` is as in :func:`load`."""
    root = default_root() if root is None else root
    idx = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
    choices: dict[str, list[list[Path]]] = {
        **{name: [[root / kind / "raw" / file for file in IDX_FILES]] for name, kind in idx.items()},
        "cifar10": [[root / "cifar10.npz"], [root / CIFAR10_FOLDER / file for file in CIFAR10_FILES]],
        "svhn": [[root / file for file in SVHN_FILES]],
    }
    return name not in choices or any(all(path.is_file() for path in paths) for paths in choices[name])


def load(
    name_or_path: str | Path,
    root: str | Path | None = None,
    options: Options = Options(),  # noqa: B008 - frozen
    progress: ReadProgress | None = None,
) -> Data:
    """Load a data set by name, or from pictures in a folder or ``.zip``, or from an ``.npz`` file.

    Parameters
    ----------
    name_or_path : str or Path
        A name of ``DATASETS``; a folder or ``.zip`` of pictures (see :mod:`ssgan.data.image_folder`); or the path
        of an ``.npz`` with ``x_train`` (uint8 [N, H, W] or [N, H, W, C], or float in 0 to 1; or float32 vectors
        [N, F]), ``y_train`` (int [N], -1 for unlabelled), and optionally ``x_test`` and ``y_test``, ``classes``
        (names) and ``scale`` (the value of full intensity, else 255 for uint8 and 1 for float). Data of files are named
        after the file; where that is a name of ``DATASETS``, ``own-`` comes before it.
    root : str or Path, optional
        Folder of downloaded data sets, in torchvision's layout; by default :func:`default_root`.
    options : Options
        How files of pictures become data.
    progress : callable, optional
        For files of pictures: called with the stage, the number done and the total.

    Raises
    ------
    UserError
        For an unknown name, files that are missing, damaged or of another kind, and options that are out of
        range or have no effect on the source.

    Examples
    --------
    >>> digits = load("digits")
    >>> digits.x_train.shape, digits.x_train.dtype, len(digits.classes)
    ((1257, 8, 8), dtype('uint8'), 10)
    """
    return _without_learned_tests(_load(name_or_path, root, options, progress), options.learned)


def _without_learned_tests(data: Data, learned: frozenset[str]) -> Data:
    """Leave out test images that the initial weights were trained on, except copies of images of the pool."""
    if not learned or not len(data.x_test):
        return data
    ids = image_ids(data.x_test)
    suspects = {one for one in ids if one in learned}
    gone = suspects - set(image_ids(data.x_train)) if suspects else suspects
    if not gone:
        return data
    rows = np.array([row for row, one in enumerate(ids) if one not in gone], np.int64)
    note = f"Test images left out, because the starting weights were trained on their labels: {len(ids) - len(rows):,}"
    return dataclasses.replace(
        data,
        x_test=data.x_test[rows],
        y_test=data.y_test[rows],
        files_test=tuple(data.files_test[row] for row in rows) if data.files_test else (),
        notes=(*data.notes, note),
    )


def _load(name_or_path: str | Path, root: str | Path | None, options: Options, progress: ReadProgress | None) -> Data:
    """Load a data set: see :func:`load`."""
    # Config checks the ranges.
    config = Config(**{name: getattr(options, name) for name in Options.settings() if name != "backbone"})
    checked = Options.of(config, options.labels_csv, options.learned)
    options = dataclasses.replace(checked, backbone=options.backbone, strict=options.strict, classes=options.classes)
    name = file_tree.location_text(name_or_path)
    if name == GAUSSIAN_NAME:
        options.refuse_all(GAUSSIAN_NAME)
        return gaussian(options.gaussian_mean, options.gaussian_std)
    options.refuse_gaussian(str(name_or_path))
    reader, path = DATASETS.get(name), Path(name)
    if options.labels_csv is not None:
        options = dataclasses.replace(options, labels_csv=file_tree.expand_user(Path(options.labels_csv)))
    if reader is not None:
        options.refuse_all(str(name_or_path))
        return reader(None if root is None else Path(os.path.expanduser(root)))
    if not path.exists():
        raise UserError(_no_such_data(str(name_or_path), path))
    if path.is_dir() or path.suffix.lower() == ".zip":
        return _with_own_name(image_folder.read_folder(path, options, progress))
    if is_npz(path):
        options.refuse_all(str(path))
        return _with_own_name(read_npz(path))
    raise UserError(_no_such_data(str(name_or_path), path))


def _with_own_name(data: Data) -> Data:
    """Rename the user's data if a data set has their name, by which runs find their data and published figures."""
    return dataclasses.replace(data, name=f"own-{data.name}") if data.name in DATASETS else data


def _no_such_data(name: str, path: Path) -> str:
    """Return the message about a name that is neither a data set nor a readable file, with the closest one that is."""
    known = f"choose from {', '.join(DATASETS)}, or give a folder or .zip of pictures, or an .npz file."
    if path.exists():
        return f"{path} is not a data set: {known}"
    if (likely := did_you_mean(name, DATASETS)) and path.name == name and not path.suffix:
        return f"Unknown data set {name!r}: {known}{likely}"

    missing = next(part for part in (*reversed(path.parents), path) if not part.exists())
    rest = path.relative_to(missing)

    def is_data(entry: Path) -> bool:
        return (entry.suffix.lower() in (".zip", ".npz") and entry.is_file()) or image_folder.has_pictures(entry)

    near = file_tree.nearest_entry(missing, lambda entry: is_data(entry / rest))
    if near is not None:
        near = near / rest
        return f"There is no {'folder' if near.is_dir() else 'file'} {path}. Did you mean {near}?"
    if path.name == name and path.suffix.lower() not in (".zip", ".npz"):
        return f"Unknown data set {name!r}: {known}"
    return f"There is no {'file' if is_npz(path) else 'folder or file'} {path}."

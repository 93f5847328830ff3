"""Images and labels from wherever they are, in one shape: :func:`load` -> :class:`Data`."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from ssgan.errors import UserError, did_you_mean

__all__ = ["DATASETS", "Data", "default_root", "load"]

UNLABELED = -1
NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes", "scale")
# MD5 of the original files, unpacked: images and labels of the training pool, then of the test share.
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


@dataclass(frozen=True, eq=False)
class Data:
    """A training pool and a test share.

    Attributes
    ----------
    x_train, x_test : ndarray
        uint8 images [N, H, W] or [N, H, W, C], or float32 vectors [N, F].
    y_train, y_test : ndarray of int64, shape [N]
        Class indices; -1 in ``y_train`` means unlabelled.
    classes : tuple of str
        Name of each class.
    name : str
    scale : float
        The value that stands for full intensity: pixels / ``scale`` lie in [0, 1]. 0 stands for the
        usual one, 255 for uint8 and 1 for float32.

    Raises
    ------
    UserError
        Where the arrays do not fit together.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    name: str = "arrays"
    scale: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(str(c) for c in self.classes))
        for share in ("train", "test"):
            x, y = np.asarray(getattr(self, f"x_{share}")), np.asarray(getattr(self, f"y_{share}"))
            if not ((x.dtype == np.uint8 and x.ndim in (3, 4)) or (x.dtype == np.float32 and x.ndim == 2)):
                raise UserError(
                    f"x_{share} is {x.dtype} of shape {list(x.shape)}, but must be uint8 images [N, H, W] or "
                    f"[N, H, W, C], or float32 vectors [N, F]."
                )
            if x.dtype == np.float32 and not np.isfinite(x).all():
                raise UserError(f"x_{share} holds a value that is not finite: mend or leave out such rows.")
            if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
                raise UserError(
                    f"y_{share} is {y.dtype} of shape {list(y.shape)}, but must hold one integer for each of the "
                    f"{len(x)} rows of x_{share}."
                )
            object.__setattr__(self, f"x_{share}", np.require(x, requirements=["C", "W"]))
            object.__setattr__(self, f"y_{share}", y.astype(np.int64))
            lowest = UNLABELED if share == "train" else 0
            if y.size and not (lowest <= y.min() and y.max() < len(self.classes)):
                raise UserError(
                    f"y_{share} holds {y.min()} to {y.max()}, but with {len(self.classes)} classes it must lie in "
                    f"{lowest} to {len(self.classes) - 1}."
                )
        object.__setattr__(self, "scale", self.scale or (255.0 if self.x_train.dtype == np.uint8 else 1.0))
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise UserError(f"scale is {self.scale}, but must be the value of full intensity, above 0.")
        for share in ("train", "test"):
            x = getattr(self, f"x_{share}")
            if x.size and not (x.min() >= 0 and x.max() <= self.scale):
                raise UserError(
                    f"x_{share} holds values from {x.min():g} to {x.max():g}, but all must lie in 0 to {self.scale:g}, "
                    f"the value of full intensity: rescale them, or set scale."
                )
        if not len(self.x_train):
            raise UserError("x_train holds no image: at least one is needed to train on.")
        if self.x_train.shape[1:] != self.x_test.shape[1:] or self.x_train.dtype != self.x_test.dtype:
            raise UserError(
                f"x_train holds {self.x_train.dtype} {list(self.x_train.shape[1:])} and x_test {self.x_test.dtype} "
                f"{list(self.x_test.shape[1:])}, but both must have the same type and shape."
            )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image, without N."""
        return tuple(self.x_train.shape[1:])

    @cached_property
    def sha256(self) -> str:
        """Hash of every array, to name the data in a result."""
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def _digits(root: Path | None) -> Data:
    """Read the 1797 handwritten digits of 8x8 pixels that scikit-learn carries.

    The first 540 of a fixed order are the test share.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # RandomState's stream is frozen for ever, so the test share is the same under every numpy.
    order = np.random.RandomState(0).permutation(len(bunch.target))
    test, train = order[:540], order[540:]
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
    classes = tuple(str(name) for name in bunch.target_names)
    return Data(images[train], labels[train], images[test], labels[test], classes, name="digits", scale=16.0)


def _idx(kind: str, name: str, root: Path | None) -> Data:
    """Read MNIST or Fashion-MNIST by torchvision, which downloads what is missing, and check its MD5."""
    from torchvision import datasets

    root = Path(os.path.expanduser(default_root() if root is None else root))
    folder, original = root / kind / "raw", getattr(datasets, kind)

    def missing() -> list[str]:
        return [file for file in IDX_FILES if not os.path.isfile(folder / file)]

    absent = missing()
    # By itself torchvision would fetch all four over those that are there, and prefer the processed/*.pt of its past.
    resources = [resource for resource in original.resources if Path(resource[0]).stem in absent]
    dataset = type(kind, (original,), {"resources": resources, "_check_legacy_exist": lambda _: False})
    try:
        if absent:
            dataset(root, download=True)
    except Exception as cause:  # a network and a disk can fail in any way
        # Where nothing is missing now, a file that was there before could not be read: the MD5 will name it.
        if absent := missing():
            reason = (str(cause).strip() or type(cause).__name__).splitlines()[-1].rstrip(":. ")
            raise UserError(
                f"{name} is not whole in {folder} and could not be downloaded into it ({reason}): put "
                f"{', '.join(absent)} there, or say with --data-dir or SSGAN_DATA which folder holds {kind}/raw."
            ) from cause
    for file, md5 in zip(IDX_FILES, IDX_MD5[kind], strict=True):
        try:
            content = (folder / file).read_bytes()
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


def _npz(path: Path) -> Data:
    """Read ``x_train, y_train[, x_test, y_test][, classes][, scale]`` from an .npz file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = set(archive.files)
            arrays = {key: archive[key] for key in NPZ_ARRAYS if key in found}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise TypeError("a member of the archive is no .npy file")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except Exception as cause:  # a reader of arbitrary bytes can fail in any way; pickles are not loaded
        raise UserError(
            f"{path} cannot be read as an .npz of plain arrays ({type(cause).__name__}): write it by numpy.savez, from "
            f"arrays of numbers and words."
        ) from cause
    absent = [key for key in NPZ_ARRAYS if key not in arrays]
    for needed in ["x_train", "y_train"] + ["x_test", "y_test"] * ("x_test" in arrays or "y_test" in arrays):
        if needed in absent:
            raise UserError(
                f"{path} holds {', '.join(sorted(found)) or 'nothing'}, but no {needed}: an .npz needs x_train and "
                f"y_train, and x_test and y_test together."
            )
    for key in sorted(found - set(NPZ_ARRAYS)):
        if near := did_you_mean(key, absent):
            raise UserError(f"{path} holds an array {key!r}, which means nothing here.{near}")
    x_train, y_train = arrays["x_train"], arrays["y_train"]
    x_test = arrays.get("x_test", np.atleast_1d(x_train)[:0])
    y_test = arrays.get("y_test", np.atleast_1d(y_train)[:0])
    if "classes" in arrays:
        names = arrays["classes"].ravel()
        classes = tuple(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names)
    else:
        numbers = [y for y in (y_train, y_test) if y.ndim == 1 and y.size and y.dtype.kind in "iu"]
        highest, count = max((int(y.max()) for y in numbers), default=-1), sum(y.size for y in numbers)
        if highest >= count:
            raise UserError(
                f"{path} holds the label {highest}, which is too high for {count} images: number the classes 0, 1, "
                f"2, ..., or give their names as classes."
            )
        classes = tuple(map(str, range(highest + 1)))
    scale = arrays.get("scale", np.zeros(()))
    if scale.size != 1 or scale.dtype.kind not in "iuf":
        raise UserError(f"{path}: scale is {scale.dtype} of shape {list(scale.shape)}, but must be one number.")
    try:
        return Data(x_train, y_train, x_test, y_test, classes, name=path.stem, scale=float(scale.item()))
    except UserError as mistake:
        raise UserError(f"{path}: {mistake}") from None


def default_root() -> Path:
    """Where downloaded sets lie: ``SSGAN_DATA``, or ``ssgan`` in the user's cache."""
    if chosen := os.environ.get("SSGAN_DATA"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "ssgan")


DATASETS: dict[str, Callable[[Path | None], Data]] = {
    "digits": _digits,
    "mnist": partial(_idx, "MNIST", "mnist"),
    "fashion-mnist": partial(_idx, "FashionMNIST", "fashion-mnist"),
}


def load(name_or_path: str | Path, root: str | Path | None = None) -> Data:
    """Load a data set by name, or from an ``.npz`` file.

    Parameters
    ----------
    name_or_path : str or Path
        A name of ``DATASETS``, or the path of an ``.npz`` with ``x_train`` (uint8 [N, H, W] or
        [N, H, W, C]), ``y_train`` (int [N], -1 for unlabelled), and optionally ``x_test`` and
        ``y_test``, ``classes`` (names) and ``scale`` (the value of full intensity, else 255).
    root : str or Path, optional
        Where downloaded sets lie, in torchvision's layout; otherwise :func:`default_root`.

    Raises
    ------
    UserError
        For a name that is not known, and files that are missing, damaged or something else.
    """
    reader, path = DATASETS.get(str(name_or_path)), Path(name_or_path)
    if reader is not None:
        return reader(None if root is None else Path(root))
    if path.suffix == ".npz":
        return _npz(path)
    near = did_you_mean(str(name_or_path), DATASETS)
    raise UserError(
        f"Unknown data set {str(name_or_path)!r}: choose from {', '.join(DATASETS)}, or give an .npz file.{near}"
    )

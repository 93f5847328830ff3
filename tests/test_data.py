"""Data sets: what they hold, where they are looked for, a hash that names them, and everything that is refused."""

import dataclasses
import gzip
import hashlib
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from conftest import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as any_array
from sklearn.datasets import load_digits
from test_trainer import same_bits, weights

from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS, IDX_FILES, IDX_MD5, load
from ssgan.errors import UserError
from ssgan.files import default_root
from ssgan.settings.presets import DATASET_PRESETS, PRESETS
from ssgan.training.trainer import train

SMALL: dict[str, Any] = {
    "x_train": np.arange(36, dtype=np.uint8).reshape(6, 2, 3),
    "y_train": np.array([0, 1, -1, 0, 1, -1]),
    "x_test": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
    "y_test": np.array([1, 0]),
    "classes": ("cat", "dog"),
}


def small(**changes: Any) -> Data:
    """Six images of 2x3 and two classes; two rows without a label."""
    return Data(**{**SMALL, **changes})


def refusal(name_or_path: str | Path, root: str | Path | None = None) -> str:
    """The one sentence that the user gets instead of data."""
    with pytest.raises(UserError) as refused:
        load(name_or_path, root)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


# Digits


def test_digits_has_shapes_types_and_range(digits: Data) -> None:
    assert digits.x_train.shape == (1257, 8, 8)
    assert digits.x_test.shape == (540, 8, 8)
    assert digits.image_shape == (8, 8)
    assert digits.x_train.dtype == digits.x_test.dtype == np.uint8
    assert digits.y_train.dtype == digits.y_test.dtype == np.int64
    assert (digits.x_train.min(), digits.x_train.max(), digits.scale) == (0, 16, 16.0)
    assert digits.classes == tuple("0123456789")
    assert digits.name == "digits"


def test_the_test_share_of_digits_is_pinned(digits: Data) -> None:
    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(1797)
    for share, rows in (("test", order[:540]), ("train", order[540:])):
        x, y = getattr(digits, f"x_{share}"), getattr(digits, f"y_{share}")
        assert np.array_equal(x.reshape(-1, 64), images[rows])
        assert np.array_equal(y, labels[rows])


def test_no_digit_is_in_both_shares(digits: Data) -> None:
    train = {image.tobytes() for image in digits.x_train}
    assert len(train) == 1257
    assert not train & {image.tobytes() for image in digits.x_test}


def test_the_hash_of_digits_is_frozen(digits: Data) -> None:
    expected = "f5a57546af421e177fb1cff3f03e263b4ee134d1ce20f3002af44bf0fd68b982"
    assert digits.sha256 == expected
    assert load("digits").sha256 == expected


def test_an_unknown_name_lists_the_known_ones() -> None:
    assert refusal("digit") == (
        "Unknown data set 'digit': choose from digits, mnist, fashion-mnist, cifar10, svhn, gaussian, or give a folder "
        "or .zip of pictures, or an .npz file. Did you mean 'digits'?"
    )


def test_every_data_set_has_a_preset() -> None:
    assert set(DATASETS) <= set(DATASET_PRESETS)
    assert set(DATASET_PRESETS.values()) <= set(PRESETS)


# The hash


def test_the_hash_does_not_depend_on_memory_layout() -> None:
    scattered = np.asfortranarray(small().x_train)
    assert not scattered.flags.c_contiguous
    assert small(x_train=scattered).sha256 == small().sha256


@pytest.mark.parametrize("array", ["x_train", "y_train", "x_test", "y_test"])
def test_the_hash_changes_with_each_array(array: str) -> None:
    changed = getattr(small(), array).copy()
    changed[0] = 1 - changed[0]
    assert small(**{array: changed}).sha256 != small().sha256


def test_the_hash_changes_with_shape_and_share() -> None:
    data = small()
    turned = small(x_train=data.x_train.reshape(6, 3, 2), x_test=data.x_test.reshape(2, 3, 2))
    moved = small(x_train=data.x_train[:5], y_train=data.y_train[:5])
    assert len({data.sha256, turned.sha256, moved.sha256}) == 3


# What fits together


def test_labels_become_int64_and_classes_words() -> None:
    data = small(y_test=np.array([1, 0], np.uint8), y_train=[0, 1, -1, 0, 1, -1], classes=[7, 8])
    assert data.y_train.dtype == data.y_test.dtype == np.int64
    assert data.y_train.tolist() == [0, 1, -1, 0, 1, -1]
    assert data.classes == ("7", "8")


def test_an_empty_test_share_is_allowed() -> None:
    data = small(x_test=np.zeros((0, 2, 3), np.uint8), y_test=np.zeros(0, np.int64))
    assert len(data.x_test) == 0


def test_vectors_are_allowed() -> None:
    vectors = {"x_train": np.zeros((6, 4), np.float32), "x_test": np.zeros((2, 4), np.float32)}
    assert small(**vectors).image_shape == (4,)


def test_full_intensity_follows_from_the_type_unless_given() -> None:
    vectors = {"x_train": np.zeros((6, 4), np.float32), "x_test": np.zeros((2, 4), np.float32)}
    assert [small().scale, small(**vectors).scale, small(scale=40.0).scale] == [255.0, 1.0, 40.0]


X_ERROR = "but must be uint8 images [N, H, W] or [N, H, W, C], or float32 vectors [N, F]."
MISFITS = {
    "type of images": (
        {"x_train": np.zeros((6, 2, 3))},
        f"x_train is float64 of shape [6, 2, 3], {X_ERROR}",
    ),
    "type of test images": (
        {"x_test": np.zeros((2, 2, 3), np.int64)},
        f"x_test is int64 of shape [2, 2, 3], {X_ERROR}",
    ),
    "dimensions": (
        {"x_train": np.zeros(6, np.uint8)},
        f"x_train is uint8 of shape [6], {X_ERROR}",
    ),
    "length": (
        {"y_train": np.array([0, 1, 0])},
        "y_train is int64 of shape [3], but must hold one integer for each of the 6 rows of x_train.",
    ),
    "length of test": (
        {"y_test": np.array([0, 1, 0])},
        "y_test is int64 of shape [3], but must hold one integer for each of the 2 rows of x_test.",
    ),
    "one-hot labels": (
        {"y_test": np.eye(2, dtype=np.int64)},
        "y_test is int64 of shape [2, 2], but must hold one integer for each of the 2 rows of x_test.",
    ),
    "type of labels": (
        {"y_test": np.array([0.0, 1.0])},
        "y_test is float64 of shape [2], but must hold one integer for each of the 2 rows of x_test.",
    ),
    "label too high": (
        {"y_train": np.array([0, 1, -1, 2, 0, 0])},
        "y_train holds -1 to 2, but with 2 classes it must lie in -1 to 1.",
    ),
    "label too low": (
        {"y_train": np.array([0, 1, -2, 1, 0, 0])},
        "y_train holds -2 to 1, but with 2 classes it must lie in -1 to 1.",
    ),
    "unlabelled test": (
        {"y_test": np.array([0, -1])},
        "y_test holds -1 to 0, but with 2 classes it must lie in 0 to 1.",
    ),
    "empty pool": (
        {"x_train": np.zeros((0, 2, 3), np.uint8), "y_train": np.zeros(0, np.int64)},
        "x_train holds no image: at least one is needed to train on.",
    ),
    "shapes": (
        {"x_test": np.zeros((2, 3, 2), np.uint8)},
        "x_train holds uint8 [2, 3] and x_test uint8 [3, 2], but both must have the same type and shape.",
    ),
    "types": (
        {"x_test": np.zeros((2, 6), np.float32)},
        "x_train holds uint8 [2, 3] and x_test float32 [6], but both must have the same type and shape.",
    ),
}


MISFITS |= {
    "flat bytes": (
        {"x_test": np.zeros((2, 6), np.uint8)},
        "x_test is uint8 of shape [2, 6], but must be uint8 images [N, H, W] or [N, H, W, C], "
        "or float32 vectors [N, F].",
    ),
    "too bright": (
        {"scale": 16.0},
        "x_train holds values from 0 to 35, but all must lie in 0 to 16, the value of full intensity: rescale them, "
        "or set scale.",
    ),
    "too dark": (
        {"x_train": np.full((6, 2), -1, np.float32), "x_test": np.zeros((2, 2), np.float32)},
        "x_train holds values from -1 to -1, but all must lie in 0 to 1, the value of full intensity: rescale them, "
        "or set scale.",
    ),
    "scale below 0": ({"scale": -1.0}, "scale is -1.0, but must be the value of full intensity, above 0."),
    "scale not a number": ({"scale": float("nan")}, "scale is nan, but must be the value of full intensity, above 0."),
    "no pixel": (
        {"x_train": np.zeros((6, 0, 3), np.uint8)},
        "x_train is of shape [6, 0, 3]: its images hold no pixel.",
    ),
    "not finite": (
        {"x_train": np.full((2, 6), np.nan, np.float32), "x_test": np.zeros((2, 6), np.float32)},
        "x_train holds a value that is not finite: mend or leave out such rows.",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), MISFITS.values(), ids=MISFITS)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        small(**changes)
    assert str(refused.value) == sentence


def test_a_changed_copy_is_checked_and_hashed_anew() -> None:
    data = small()
    assert data.sha256
    assert dataclasses.replace(data, y_test=np.array([0, 1])).sha256 != data.sha256
    with pytest.raises(UserError, match="y_test holds 0 to 2"):
        dataclasses.replace(data, y_test=np.array([0, 2]))


# MNIST and Fashion-MNIST, the real ones

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
KINDS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
PUBLISHED = {
    "mnist": (
        tuple("0123456789"),
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        "c9c899568825c019",
    ),
    "fashion-mnist": (FASHION, [6000] * 10, [1000] * 10, "050f7be9e1fdbb83"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_real_set_is_what_was_published(real_sets: dict[str, Data], name: str) -> None:
    data, (classes, pool, test, sha256) = real_sets[name], PUBLISHED[name]
    assert (data.name, data.classes, data.scale) == (name, classes, 255.0)
    assert (data.x_train.shape, data.x_test.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert data.x_train.dtype == data.x_test.dtype == np.uint8
    assert data.y_train.dtype == data.y_test.dtype == np.int64
    assert np.bincount(data.y_train).tolist() == pool
    assert np.bincount(data.y_test).tolist() == test
    assert data.sha256.startswith(sha256)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_real_set_holds_its_files_row_for_row(real_sets: dict[str, Data], real_data_root: Path, name: str) -> None:
    data = real_sets[name]
    arrays = (data.x_train, data.y_train, data.x_test, data.y_test)
    for file, array in zip(IDX_FILES, arrays, strict=True):
        content = (real_data_root / KINDS[name] / "raw" / file).read_bytes()
        assert content[4 + 4 * array.ndim :] == array.astype(np.uint8).tobytes()


# A small set in MNIST's place


def idx(array: np.ndarray) -> bytes:
    """An idx file: the type (8 stands for bytes) and the number of dimensions, the sizes, the values."""
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def originals(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Four small files that pass for the originals of MNIST."""
    random = np.random.default_rng(0)
    shapes = ((12, 5, 4), (12,), (6, 5, 4), (6,))
    files = {
        file: idx(random.integers(0, 256 if len(shape) > 1 else 10, shape))
        for file, shape in zip(IDX_FILES, shapes, strict=True)
    }
    monkeypatch.setitem(IDX_MD5, "MNIST", tuple(hashlib.md5(content).hexdigest() for content in files.values()))
    return files


class Downloads:
    """Stands in for torchvision's download of one archive: no test reaches the network."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.contents: dict[str, bytes] = {}
        self.failures: list[BaseException] = []

    def __call__(self, url: str, download_root: str, filename: str, md5: str) -> None:
        assert url.endswith(f"/{filename}")
        self.asked.append(filename)
        file = filename.removesuffix(".gz")
        if file not in self.contents:
            raise self.failures.pop(0) if self.failures else URLError("no network in a test")
        with Path(download_root, file).open("xb") as new:
            new.write(self.contents[file])


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Downloads:
    replaced = Downloads()
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", replaced)
    return replaced


@pytest.fixture
def raw(tmp_path: Path, originals: dict[str, bytes], downloads: Downloads) -> Path:
    """The folder with the small files, in torchvision's layout under `tmp_path / "root"`."""
    folder = tmp_path / "root" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file, content in originals.items():
        (folder / file).write_bytes(content)
    return folder


def state(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """What would change if a file was written again: content, inode and time."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_idx_files_become_a_pool_and_a_test_share(raw: Path, originals: dict[str, bytes]) -> None:
    data = load("mnist", raw.parents[1])
    assert (data.x_train.shape, data.x_test.shape, data.image_shape) == ((12, 5, 4), (6, 5, 4), (5, 4))
    assert [idx(a) for a in (data.x_train, data.y_train, data.x_test, data.y_test)] == list(originals.values())
    assert (data.name, data.classes, data.scale) == ("mnist", tuple("0123456789"), 255.0)


# Where a set is looked for


def elsewhere(path: Path) -> str:
    """A folder that is there, but holds no set."""
    path.mkdir(parents=True)
    return str(path)


def variables(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name in ("SSGAN_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("root", [str, Path])
def test_the_argument_comes_before_every_variable(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: type
) -> None:
    variables(monkeypatch, SSGAN_DATA=elsewhere(tmp_path / "a"), XDG_CACHE_HOME=elsewhere(tmp_path / "b"))
    assert len(load("mnist", root(raw.parents[1])).x_train) == 12
    assert str(tmp_path / "a" / "MNIST" / "raw") in refusal("mnist")


def test_ssgan_data_comes_before_the_cache(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = raw.parents[1]
    variables(
        monkeypatch, SSGAN_DATA=str(root), XDG_CACHE_HOME=elsewhere(tmp_path / "b"), HOME=elsewhere(tmp_path / "c")
    )
    assert default_root() == root
    assert len(load("mnist").x_train) == 12


@pytest.mark.parametrize("data", [{}, {"SSGAN_DATA": ""}])
def test_xdg_cache_home_comes_before_the_home_folder(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, str]
) -> None:
    variables(monkeypatch, XDG_CACHE_HOME=str(tmp_path / "cache"), HOME=elsewhere(tmp_path / "c"), **data)
    (tmp_path / "cache").mkdir()
    raw.parents[1].rename(tmp_path / "cache" / "ssgan")
    assert default_root() == tmp_path / "cache" / "ssgan"
    assert len(load("mnist").x_train) == 12


@pytest.mark.parametrize("cache", [{}, {"XDG_CACHE_HOME": ""}])
def test_the_last_place_is_the_cache_in_the_home_folder(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: dict[str, str]
) -> None:
    variables(monkeypatch, HOME=str(tmp_path / "home"), **cache)
    (tmp_path / "home" / ".cache").mkdir(parents=True)
    raw.parents[1].rename(tmp_path / "home" / ".cache" / "ssgan")
    assert default_root() == tmp_path / "home" / ".cache" / "ssgan"
    assert len(load("mnist").x_train) == 12


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_a_tilde_is_the_home_folder(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """No shell expands `--data-dir=~/root`, nor what a file of variables says."""
    variables(monkeypatch, HOME=str(tmp_path), **({} if by == "argument" else {"SSGAN_DATA": "~/root"}))
    assert len(load("mnist", "~/root" if by == "argument" else None).x_train) == 12


# What is downloaded


def test_files_that_are_there_are_neither_asked_for_nor_changed(raw: Path, downloads: Downloads) -> None:
    before = state(raw.parents[1])
    load("mnist", raw.parents[1])
    assert downloads.asked == []
    assert state(raw.parents[1]) == before


@pytest.mark.parametrize("absent", [IDX_FILES[:1], IDX_FILES[3:], IDX_FILES[1:3], IDX_FILES])
def test_missing_files_alone_are_downloaded(
    raw: Path, originals: dict[str, bytes], downloads: Downloads, absent: tuple[str, ...]
) -> None:
    root = raw.parents[1]
    whole = load("mnist", root).sha256
    for file in absent:
        (raw / file).unlink()
    before = state(root)
    downloads.contents = originals
    assert load("mnist", root).sha256 == whole
    assert downloads.asked == [f"{file}.gz" for file in absent]
    assert {file: kept for file, kept in state(root).items() if file in before} == before
    assert load("mnist", root).sha256 == whole
    assert len(downloads.asked) == len(absent)


def test_a_root_that_is_not_there_yet_is_made(
    tmp_path: Path, originals: dict[str, bytes], downloads: Downloads
) -> None:
    downloads.contents = originals
    assert len(load("mnist", tmp_path / "deep" / "root").x_train) == 12
    assert set(state(tmp_path / "deep" / "root" / "MNIST" / "raw")) == set(IDX_FILES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_real_file_that_is_missing_is_downloaded(
    real_sets: dict[str, Data], real_data_root: Path, tmp_path: Path, downloads: Downloads, name: str
) -> None:
    published, folder = real_data_root / KINDS[name] / "raw", tmp_path / KINDS[name] / "raw"
    folder.mkdir(parents=True)
    for file in IDX_FILES[:3]:
        (folder / file).symlink_to(published / file)
    downloads.contents = {IDX_FILES[3]: (published / IDX_FILES[3]).read_bytes()}
    assert load(name, tmp_path).sha256 == real_sets[name].sha256
    assert downloads.asked == ["t10k-labels-idx1-ubyte.gz"]


def test_archives_put_there_by_hand_are_unpacked_without_a_network(
    tmp_path: Path, originals: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr("urllib.request.urlopen", fail)
    archives = {f"{file}.gz": gzip.compress(content) for file, content in originals.items()}
    md5 = [(file, hashlib.md5(content).hexdigest()) for file, content in archives.items()]
    monkeypatch.setattr("torchvision.datasets.MNIST.resources", md5)
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for file, content in archives.items():
        (tmp_path / "MNIST" / "raw" / file).write_bytes(content)
    assert len(load("mnist", tmp_path).x_train) == 12


# Sets that are not whole


def not_whole(folder: Path, reason: str, *absent: str) -> str:
    return (
        f"mnist is not whole in {folder} and could not be downloaded into it ({reason}): put "
        f"{', '.join(absent)} there, or say with --data-dir or SSGAN_DATA which folder holds MNIST/raw."
    )


NO_NETWORK = "<urlopen error no network in a test>"


@pytest.mark.parametrize("absent", [IDX_FILES, IDX_FILES[2:3]])
def test_without_a_network_the_missing_files_are_named(
    raw: Path, downloads: Downloads, absent: tuple[str, ...]
) -> None:
    for file in absent:
        (raw / file).unlink()
    before = state(raw)
    assert refusal("mnist", raw.parents[1]) == not_whole(raw, NO_NETWORK, *absent)
    assert set(downloads.asked) == {f"{absent[0]}.gz"}
    assert state(raw) == before


def test_a_download_that_stops_halfway_names_what_is_missing_still(
    raw: Path, originals: dict[str, bytes], downloads: Downloads
) -> None:
    for file in IDX_FILES:
        (raw / file).unlink()
    downloads.contents = {file: originals[file] for file in IDX_FILES[:2]}
    assert refusal("mnist", raw.parents[1]) == not_whole(raw, NO_NETWORK, *IDX_FILES[2:])


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (PermissionError(13, "Permission denied", "/data"), "[Errno 13] Permission denied: '/data'"),
        (RuntimeError("File not found or corrupted."), NO_NETWORK),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("first line\nlast line: "), "last line"),
    ],
)
def test_the_reason_of_a_failed_download_is_told(
    raw: Path, downloads: Downloads, failure: Exception, reason: str
) -> None:
    """A mirror that fails is followed by the next, so the last reason is the one to tell."""
    (raw / IDX_FILES[0]).unlink()
    downloads.failures = [failure]
    assert refusal("mnist", raw.parents[1]) == not_whole(raw, reason, IDX_FILES[0])


def test_a_root_that_is_a_file_is_refused(tmp_path: Path, downloads: Downloads) -> None:
    (tmp_path / "file").write_text("mine")
    sentence = refusal("mnist", tmp_path / "file")
    reason = f"[Errno 20] Not a directory: '{tmp_path}/file/MNIST'"
    assert sentence == not_whole(tmp_path / "file" / "MNIST" / "raw", reason, *IDX_FILES)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_root_that_no_folder_can_have_is_refused(tmp_path: Path, downloads: Downloads) -> None:
    sentence = refusal("mnist", tmp_path / ("x" * 300))
    assert "could not be downloaded into it ([Errno " in sentence
    assert "File name too long" in sentence
    assert downloads.asked == []


def test_a_folder_in_place_of_a_file_is_refused(raw: Path) -> None:
    (raw / IDX_FILES[2]).unlink()
    (raw / IDX_FILES[2]).mkdir()
    assert refusal("mnist", raw.parents[1]) == not_whole(raw, NO_NETWORK, IDX_FILES[2])


def test_an_interrupted_download_is_an_interruption(raw: Path, downloads: Downloads) -> None:
    (raw / IDX_FILES[0]).unlink()
    downloads.failures = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        load("mnist", raw.parents[1])


# Files that are not the originals


def not_original(path: Path) -> str:
    return f"{path} is not the original of mnist: delete it to download it, or load arrays of your own from an .npz."


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda content: content[:-1],
    "header alone": lambda content: content[:8],
    "empty": lambda content: b"",
    "random": lambda content: np.random.default_rng(1).bytes(len(content)),
    "one value changed": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "one byte more": lambda content: content + b"\0",
    "of fewer rows": lambda content: idx(np.zeros((3, 5, 4) if content[3] == 3 else 3)),
    "of other sizes": lambda content: idx(np.zeros((12, 4, 5) if content[3] == 3 else (12, 1))),
    "of another type": lambda content: content[:2] + b"\x09" + content[3:],
    "still packed": gzip.compress,
}


@pytest.mark.parametrize("file", [IDX_FILES[0], IDX_FILES[3]])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_is_not_the_original_is_refused(
    raw: Path, downloads: Downloads, damage: Callable[[bytes], bytes], file: str
) -> None:
    (raw / file).write_bytes(damage((raw / file).read_bytes()))
    before = state(raw)
    assert refusal("mnist", raw.parents[1]) == not_original(raw / file)
    assert state(raw) == before
    assert downloads.asked == []


@pytest.mark.parametrize("damage", ["one value changed", "cut short"])
def test_each_of_the_four_files_is_checked(raw: Path, originals: dict[str, bytes], damage: str) -> None:
    for file, content in originals.items():
        (raw / file).write_bytes(DAMAGES[damage](content))
        assert refusal("mnist", raw.parents[1]) == not_original(raw / file)
        (raw / file).write_bytes(content)
    assert len(load("mnist", raw.parents[1]).x_train) == 12


def test_what_was_downloaded_is_checked_too(raw: Path, originals: dict[str, bytes], downloads: Downloads) -> None:
    (raw / IDX_FILES[2]).unlink()
    downloads.contents = {IDX_FILES[2]: originals[IDX_FILES[0]]}
    assert refusal("mnist", raw.parents[1]) == not_original(raw / IDX_FILES[2])


def test_a_damaged_file_is_named_though_another_one_is_downloaded(
    raw: Path, originals: dict[str, bytes], downloads: Downloads
) -> None:
    (raw / IDX_FILES[0]).write_bytes(b"")
    (raw / IDX_FILES[3]).unlink()
    downloads.contents = originals
    assert refusal("mnist", raw.parents[1]) == not_original(raw / IDX_FILES[0])


def test_a_file_that_cannot_be_opened_is_named(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert refusal("mnist", raw.parents[1]) == f"{raw / IDX_FILES[0]} cannot be read (Permission denied)."


def test_the_original_of_another_set_is_refused(real_data_root: Path, tmp_path: Path, downloads: Downloads) -> None:
    """Fashion-MNIST has the shapes and the file names of MNIST."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file in IDX_FILES:
        (folder / file).symlink_to(real_data_root / "MNIST" / "raw" / file)
    for file in IDX_FILES:
        (folder / file).unlink()
        (folder / file).symlink_to(real_data_root / "FashionMNIST" / "raw" / file)
        assert refusal("mnist", tmp_path) == not_original(folder / file)
        (folder / file).unlink()
        (folder / file).symlink_to(real_data_root / "MNIST" / "raw" / file)
    assert downloads.asked == []


def test_the_old_layout_of_torchvision_is_not_read(raw: Path, downloads: Downloads) -> None:
    """torchvision prefers `processed/*.pt`, which nobody can check, to the files."""
    root, whole = raw.parents[1], load("mnist", raw.parents[1]).sha256
    (root / "MNIST" / "processed").mkdir()
    for file in ("training.pt", "test.pt"):
        images, labels = torch.zeros(4, 5, 4, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
        torch.save((images, labels), root / "MNIST" / "processed" / file)
    assert load("mnist", root).sha256 == whole
    for file in IDX_FILES:
        (raw / file).unlink()
    assert refusal("mnist", root) == not_whole(raw, NO_NETWORK, *IDX_FILES)


# .npz files

Writer = Callable[..., Path]


@pytest.fixture
def npz(tmp_path: Path) -> Writer:
    """Write the small arrays with changes, None for one to leave away, into `mine.npz`."""

    def write(**changes: Any) -> Path:
        arrays = {name: array for name, array in {**SMALL, **changes}.items() if array is not None}
        np.savez(tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return write


NO_TEST = {"x_test": None, "y_test": None}


def assert_same_data(left: Data, right: Data) -> None:
    assert left.sha256 == right.sha256
    assert (left.classes, left.scale, left.image_shape) == (right.classes, right.scale, right.image_shape)


@pytest.mark.parametrize("kind", [str, Path])
def test_an_npz_is_the_data_of_its_arrays(npz: Writer, kind: type) -> None:
    data = load(kind(npz(scale=40)))
    assert_same_data(data, small(scale=40.0))
    assert data.name == "mine"
    assert np.array_equal(data.x_train, SMALL["x_train"])
    assert data.y_train.tolist() == [0, 1, -1, 0, 1, -1]


def test_a_packed_npz_is_read_too(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "packed.npz", **SMALL)
    assert_same_data(load(tmp_path / "packed.npz"), small())


def test_reading_an_npz_changes_nothing(npz: Writer, downloads: Downloads) -> None:
    before = state(npz().parent)
    load(npz().parent / "mine.npz")
    assert state(npz().parent).keys() == before.keys() == {"mine.npz"}
    assert downloads.asked == []


@pytest.mark.parametrize(
    "x",
    [SMALL["x_train"], np.arange(108, dtype=np.uint8).reshape(6, 2, 3, 3), np.full((6, 4), 0.5, np.float32)],
    ids=["grey", "colour", "vectors"],
)
def test_without_test_arrays_the_test_share_is_empty(npz: Writer, x: np.ndarray) -> None:
    data = load(npz(x_train=x, **NO_TEST))
    assert (data.x_test.shape, data.y_test.shape) == ((0, *x.shape[1:]), (0,))
    assert (data.x_test.dtype, data.y_test.dtype) == (x.dtype, np.int64)
    assert np.array_equal(data.x_train, x)


def test_without_class_names_classes_are_numbered_over_both_shares(npz: Writer) -> None:
    assert load(npz(classes=None)).classes == ("0", "1")
    assert load(npz(classes=None, y_test=np.array([4, 0]))).classes == tuple("01234")
    assert load(npz(classes=None, y_train=np.array([0, 3, -1, 0, 1, -1]), **NO_TEST)).classes == tuple("0123")


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (["Katze", "Hündin"], ("Katze", "Hündin")),
        (["a", "b", "none of it"], ("a", "b", "none of it")),
        (np.array([7, 8]), ("7", "8")),
        (np.array([b"cat", b"dog"]), ("cat", "dog")),
        (np.array([["cat"], ["dog"]]), ("cat", "dog")),
    ],
)
def test_class_names_may_be_words_bytes_or_numbers(npz: Writer, classes: Any, names: tuple[str, ...]) -> None:
    assert load(npz(classes=classes)).classes == names


@pytest.mark.parametrize(
    ("scale", "expected"), [(None, 255.0), (0, 255.0), (40, 40.0), (np.array([36.5]), 36.5), (np.float16(64), 64.0)]
)
def test_full_intensity_is_255_unless_the_npz_says_otherwise(npz: Writer, scale: Any, expected: float) -> None:
    data = load(npz(scale=scale))
    assert data.scale == expected
    assert type(data.scale) is float


@pytest.mark.parametrize("extra", ["readme", "weights", "x_valid", "x_train2"])
def test_arrays_that_mean_nothing_here_are_ignored(npz: Writer, extra: str) -> None:
    assert_same_data(load(npz(**{extra: np.ones(3)})), small())
    assert len(load(npz(**{extra: np.ones(3)}, **NO_TEST)).x_train) == 6


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=5)
sizes = st.integers(1, 3)


@st.composite
def any_arrays(draw: st.DrawFn) -> dict[str, Any]:
    """Any arrays that fit together, in any type that is allowed."""
    classes = draw(st.lists(words, min_size=1, max_size=4))
    shape = draw(st.one_of(st.tuples(sizes), st.tuples(sizes, sizes), st.tuples(sizes, sizes, sizes)))
    pixel = (np.float32, st.floats(0, 1, width=32)) if len(shape) == 1 else (np.uint8, st.integers(0, 255))
    integer = draw(st.sampled_from(["i1", "<i4", "<i8", ">i2"]))
    arrays: dict[str, Any] = {"classes": classes}
    for share, lowest in (("train", -1), ("test", 0)):
        count = draw(st.integers(lowest == -1, 4))
        arrays[f"x_{share}"] = draw(any_array(pixel[0], (count, *shape), elements=pixel[1]))
        arrays[f"y_{share}"] = draw(any_array(integer, count, elements=st.integers(lowest, len(classes) - 1)))
    if draw(st.booleans()):
        arrays["x_train"] = np.asfortranarray(arrays["x_train"])
    scale = draw(st.sampled_from([None, 0.0, 255.0, 1000.0]))
    return arrays if scale is None else {**arrays, "scale": scale}


@settings(max_examples=60, deadline=None)
@given(arrays=any_arrays())
def test_whatever_fits_together_survives_an_npz(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npz"
    np.savez(path, **arrays)
    data = load(path)
    assert_same_data(data, Data(**arrays))
    for name in ("x_train", "y_train", "x_test", "y_test"):
        assert np.array_equal(getattr(data, name), arrays[name])


UNREADABLE = "cannot be read as an .npz of plain arrays"
HOW = "write it by numpy.savez, from arrays of numbers and words."
NEEDS = "an .npz needs x_train and y_train, and x_test and y_test together."
WRONG_NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "no images": ({"x_train": None}, f"{{}} holds classes, x_test, y_test, y_train, but no x_train: {NEEDS}"),
    "no labels": ({"y_train": None}, f"{{}} holds classes, x_test, x_train, y_test, but no y_train: {NEEDS}"),
    "no test labels": ({"y_test": None}, f"{{}} holds classes, x_test, x_train, y_train, but no y_test: {NEEDS}"),
    "no test images": ({"x_test": None}, f"{{}} holds classes, x_train, y_test, y_train, but no x_test: {NEEDS}"),
    "nothing": (dict.fromkeys(SMALL), f"{{}} holds nothing, but no x_train: {NEEDS}"),
    "misspelt test": (
        {**NO_TEST, "x_tset": SMALL["x_test"], "y_tset": SMALL["y_test"]},
        "{} holds an array 'x_tset', which means nothing here. Did you mean 'x_test'?",
    ),
    "misspelt classes": (
        {"classes": None, "class": ["a", "b"]},
        "{} holds an array 'class', which means nothing here. Did you mean 'classes'?",
    ),
    "misspelt scale": ({"scal": 40}, "{} holds an array 'scal', which means nothing here. Did you mean 'scale'?"),
    "two scales": ({"scale": [1, 2]}, "{}: scale is int64 of shape [2], but must be one number."),
    "scale a word": ({"scale": "255"}, "{}: scale is <U3 of shape [], but must be one number."),
    "scale a truth": ({"scale": True}, "{}: scale is bool of shape [], but must be one number."),
    "scale below 0": ({"scale": -1}, "{}: scale is -1.0, but must be the value of full intensity, above 0."),
    "scale no number": (
        {"scale": float("nan")},
        "{}: scale is nan, but must be the value of full intensity, above 0.",
    ),
    "too bright": (
        {"scale": 16},
        "{}: x_train holds values from 0 to 35, but all must lie in 0 to 16, the value of full intensity: rescale "
        "them, or set scale.",
    ),
    "type of images": ({"x_train": np.zeros((6, 2, 3))}, f"{{}}: x_train is float64 of shape [6, 2, 3], {X_ERROR}"),
    "one number as images": ({"x_train": 3, **NO_TEST}, f"{{}}: x_train is int64 of shape [], {X_ERROR}"),
    "one number as labels": (
        {"y_train": 3, "classes": None, **NO_TEST},
        "{}: y_train is int64 of shape [], but must hold one integer for each of the 6 rows of x_train.",
    ),
    "type of labels": (
        {"y_train": np.zeros(6), "classes": None},
        "{}: y_train is float64 of shape [6], but must hold one integer for each of the 6 rows of x_train.",
    ),
    "words for labels": (
        {"y_train": ["cat"] * 6, "classes": None},
        "{}: y_train is <U3 of shape [6], but must hold one integer for each of the 6 rows of x_train.",
    ),
    "one-hot labels": (
        {"y_train": np.eye(6, dtype=int), "classes": None},
        "{}: y_train is int64 of shape [6, 6], but must hold one integer for each of the 6 rows of x_train.",
    ),
    "label without a class": (
        {"y_train": np.array([0, 1, -1, 2, 0, 0])},
        "{}: y_train holds -1 to 2, but with 2 classes it must lie in -1 to 1.",
    ),
    "255 for no label": (
        {"y_train": np.array([0, 1, 255, 0, 1, 255], np.uint8)},
        "{}: y_train holds 0 to 255, but with 2 classes it must lie in -1 to 1.",
    ),
    "labels that number no classes": (
        {"y_train": np.array([0, 10**6, -1, 2, 0, 0]), "classes": None},
        "{} holds the label 1000000, which is too high for 8 images: number the classes 0, 1, 2, ..., or give "
        "their names as classes.",
    ),
    "the lowest label too high": (
        {"y_test": np.array([8, 0]), "classes": None},
        "{} holds the label 8, which is too high for 8 images: number the classes 0, 1, 2, ..., or give their names as "
        "classes.",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), WRONG_NPZ.values(), ids=WRONG_NPZ)
def test_an_npz_of_other_arrays_is_refused(npz: Writer, changes: dict[str, Any], sentence: str) -> None:
    path = npz(**changes)
    assert refusal(path) == sentence.format(path)


def test_the_highest_label_that_so_many_images_can_have(npz: Writer) -> None:
    assert load(npz(y_test=np.array([7, 0]), classes=None)).classes == tuple("01234567")


def test_a_pool_without_any_label_is_refused_where_labels_are_drawn(npz: Writer) -> None:
    data = load(npz(y_train=np.full(6, -1), classes=None, **NO_TEST))
    assert data.classes == ()
    with pytest.raises(UserError, match=r"^There is no labelled image to draw from: every label of the pool is -1\.$"):
        splits.for_seeds(data.y_train, 2, [0])
    with pytest.raises(UserError, match=r"^There is no labelled image to learn from: label some, or give indices\.$"):
        splits.for_seeds(data.y_train, None, [0])


# Files that are no .npz


def test_an_npz_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.npz") == f"There is no file {tmp_path / 'none.npz'}."


def test_a_folder_is_no_npz(tmp_path: Path) -> None:
    (tmp_path / "x.npz").mkdir()
    assert refusal(tmp_path / "x.npz").startswith(f"{tmp_path / 'x.npz'} is without pictures: it holds no JPEG")


def damaged_zip(path: Path) -> None:
    np.savez(path, **SMALL)
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)


def zip_of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in SMALL:
            archive.writestr(name, "0 1 2")


def bare_array(path: Path) -> None:
    np.save(path.with_suffix(".npy"), SMALL["x_train"])
    path.with_suffix(".npy").rename(path)


def cut_short(path: Path) -> None:
    np.savez(path, **SMALL)
    path.write_bytes(path.read_bytes()[:-100])


NO_NPZ: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.touch(), "EOFError"),
    "text": (lambda path: path.write_text("x_train, y_train\n" * 9), "ValueError"),
    "random": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(999)), "ValueError"),
    "bare array": (bare_array, "TypeError"),
    "zip of text": (zip_of_text, "TypeError"),
    "cut short": (cut_short, "BadZipFile"),
    "damaged": (damaged_zip, "BadZipFile"),
}


@pytest.mark.parametrize(("write", "reason"), NO_NPZ.values(), ids=NO_NPZ)
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, write: Callable[[Path], Any], reason: str) -> None:
    path = tmp_path / "mine.npz"
    write(path)
    assert refusal(path) == f"{path} {UNREADABLE} ({reason}): {HOW}"


class Trap:
    """Makes a folder as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["x_train", "y_test", "classes", "scale", "notes", "file"])
def test_code_in_an_npz_does_not_run(npz: Writer, tmp_path: Path, place: str) -> None:
    sprung, trap = tmp_path / "sprung", Trap(tmp_path / "sprung")
    path = npz(**({} if place == "file" else {place: np.array([trap, trap], object)[:1]}))
    if place == "file":
        path.write_bytes(pickle.dumps(trap))
    if place == "notes":
        assert_same_data(load(path), small())
    else:
        assert refusal(path) == f"{path} {UNREADABLE} (ValueError): {HOW}"
    assert not sprung.exists()
    # The control: a reader that trusts the file would have run it.
    loaded = np.load(path, allow_pickle=True)
    if place != "file":
        loaded[place]
    assert sprung.is_dir()


# The same arrays, the same results


def test_idx_files_and_an_npz_of_their_arrays_are_the_same_data(raw: Path, tmp_path: Path) -> None:
    data = load("mnist", raw.parents[1])
    arrays = {"x_train": data.x_train, "y_train": data.y_train, "x_test": data.x_test, "y_test": data.y_test}
    np.savez(tmp_path / "mine.npz", **arrays, classes=data.classes)
    assert_same_data(load(tmp_path / "mine.npz"), data)


@pytest.mark.parametrize("name", PUBLISHED)
def test_training_from_torchvisions_files_and_from_an_npz_is_the_same(
    real_sets: dict[str, Data], tmp_path: Path, name: str
) -> None:
    data = real_sets[name]
    arrays = {"x_train": data.x_train, "y_train": data.y_train, "x_test": data.x_test, "y_test": data.y_test}
    np.savez(tmp_path / "mine.npz", **arrays, classes=data.classes)
    mine = load(tmp_path / "mine.npz")
    assert_same_data(mine, data)

    def few(whole: Data, **changes: Any) -> Data:
        part = {key: getattr(whole, key)[: 300 if "train" in key else 100] for key in arrays}
        return dataclasses.replace(whole, **part, **changes)

    left, right = train(few(data), tiny(seeds=2)), train(few(mine), tiny(seeds=2))
    assert same_bits(weights(left), weights(right))
    assert left.errors == right.errors
    assert [0 <= error <= 100 for error in left.errors] == [True, True]
    # The control: it is the pixels that the weights depend on.
    assert not same_bits(weights(left), weights(train(few(data, scale=300.0), tiny(seeds=2))))

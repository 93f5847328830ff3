"""CIFAR-10 and SVHN, read from small files in their original formats, and sets that are on disk."""

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from torchvision.datasets import CIFAR10, SVHN

from ssgan.data import datasets
from ssgan.data.datasets import load
from ssgan.errors import UserError


def refusal(name: str | Path, root: Path | None = None) -> str:
    with pytest.raises(UserError) as refused:
        load(name, root)
    return str(refused.value)


def images(seed: int, count: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (count, 32, 32, 3), np.uint8)


def no_network(*_: Any, **__: Any) -> None:
    raise OSError("no network here")


# CIFAR-10


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Batches of three images each, in the published form: rows of red, green and blue planes."""
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: True)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for k, name in enumerate(datasets.CIFAR10_FILES[:-1]):
        rows = images(k, 3).transpose(0, 3, 1, 2).reshape(3, 3072)
        content = {"data": rows, "labels": [k, 9 - k, 4]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(datasets.CIFAR10_CLASSES)}))
    return tmp_path


def test_cifar10_is_read_from_its_batches(cifar: Path) -> None:
    found = load("cifar10", cifar)
    assert np.array_equal(found.x_train, np.concatenate([images(k, 3) for k in range(5)]))
    assert np.array_equal(found.x_test, images(5, 3))
    assert found.y_train.tolist() == [label for k in range(5) for label in (k, 9 - k, 4)]
    assert found.y_test.tolist() == [5, 4, 4]
    assert (found.name, found.classes, found.scale) == ("cifar10", datasets.CIFAR10_CLASSES, 255.0)


def test_cifar10_that_is_not_the_original_is_refused(cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    sentence = refusal("cifar10", cifar)
    folder = cifar / "cifar-10-batches-py"
    assert sentence.startswith(f"{folder} holds a file of cifar10 that cannot be read or is not the original (")
    assert "delete data_batch_1, " in sentence


def test_failed_cifar10_download_reports_needed_files_and_folder(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
    sentence = refusal("cifar10", tmp_path)
    assert "cifar10 is incomplete in" in sentence
    assert "(no network here): put data_batch_1, " in sentence
    assert "the folder that holds cifar-10-batches-py." in sentence


def test_cifar10_is_read_from_an_npz_where_there_is_one(cifar: Path) -> None:
    y = np.arange(10)
    np.savez(cifar / "cifar10.npz", x_train=images(7, 10), y_train=y, x_test=images(8, 2), y_test=y[:2], other=y)
    found = load("cifar10", cifar)
    assert np.array_equal(found.x_train, images(7, 10))
    assert (found.name, found.classes) == ("cifar10", datasets.CIFAR10_CLASSES)
    np.savez(cifar / "cifar10.npz", x_train=images(7, 10)[:, :8, :8], y_train=y)
    sentence = refusal("cifar10", cifar)
    assert "holds 10 classes of images [8, 8, 3], but CIFAR-10 has 10 of [32, 32, 3]" in sentence


# SVHN


@pytest.fixture
def svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six and two images in the published form: images along the last axis, the digit 0 labelled 10."""
    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    for seed, (name, labels) in enumerate({"train": [1, 2, 10, 9, 10, 5], "test": [10, 3]}.items()):
        content = {"X": images(seed, len(labels)).transpose(1, 2, 3, 0), "y": np.array(labels, np.uint8)[:, None]}
        scipy.io.savemat(tmp_path / f"{name}_32x32.mat", content)
    return tmp_path


def test_svhn_is_read_from_its_files(svhn: Path) -> None:
    found = load("svhn", svhn)
    assert np.array_equal(found.x_train, images(0, 6))
    assert np.array_equal(found.x_test, images(1, 2))
    assert found.y_train.tolist() == [1, 2, 0, 9, 0, 5]
    assert found.y_test.tolist() == [0, 3]
    assert (found.name, found.classes) == ("svhn", tuple("0123456789"))


def test_svhn_that_is_not_the_original_is_refused(svhn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert "delete train_32x32.mat, test_32x32.mat there" in refusal("svhn", svhn)


def test_failed_svhn_download_reports_needed_files(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("torchvision.datasets.svhn.download_url", no_network)
    assert "put train_32x32.mat, test_32x32.mat there" in refusal("svhn", tmp_path)


def test_svhn_needs_scipy(svhn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    assert refusal("svhn", svhn) == "svhn needs scipy to read its .mat files: install it with `pip install scipy`."


# Public names


def test_datasets_module_keeps_its_public_names() -> None:
    for name in ("DATASETS", "Data", "IDX_FILES", "IDX_MD5", "NPZ_ARRAYS", "UNLABELED", "default_root", "load"):
        assert hasattr(datasets, name), name


# Sets on disk


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mnist", [f"MNIST/raw/{file}" for file in datasets.IDX_FILES]),
        ("fashion-mnist", [f"FashionMNIST/raw/{file}" for file in datasets.IDX_FILES]),
        ("cifar10", ["cifar10.npz"]),
        ("cifar10", [f"{datasets.CIFAR10_FOLDER}/{file}" for file in datasets.CIFAR10_FILES]),
        ("svhn", [*datasets.SVHN_FILES]),
    ],
)
def test_is_on_disk_requires_all_files(tmp_path: Path, name: str, files: list[str]) -> None:
    for file in files:
        assert not datasets.is_on_disk(name, tmp_path)
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert datasets.is_on_disk(name, tmp_path)
    assert datasets.is_on_disk("digits", tmp_path)

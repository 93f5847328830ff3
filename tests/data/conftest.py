"""Fixtures: small files in the supported formats, and an empty cache folder."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_arrays import SMALL
from small_mnist import Downloads, idx

from ssgan.data.datasets import IDX_FILES, IDX_MD5


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Path]:
    """Write the small arrays to `mine.npz`; keyword arguments replace arrays, and None omits one."""

    def write(**changes: Any) -> Path:
        arrays = {name: array for name, array in {**SMALL, **changes}.items() if array is not None}
        np.savez(tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return write


@pytest.fixture
def originals(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Four small files whose MD5 sums are accepted as those of the original MNIST."""
    random = np.random.default_rng(0)
    shapes = ((12, 5, 4), (12,), (6, 5, 4), (6,))
    files = {
        file: idx(random.integers(0, 256 if len(shape) > 1 else 10, shape))
        for file, shape in zip(IDX_FILES, shapes, strict=True)
    }
    monkeypatch.setitem(IDX_MD5, "MNIST", tuple(hashlib.md5(content).hexdigest() for content in files.values()))
    return files


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Downloads:
    replaced = Downloads()
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", replaced)
    return replaced


@pytest.fixture
def raw(tmp_path: Path, originals: dict[str, bytes], downloads: Downloads) -> Path:
    """The folder of the small files, in the layout of torchvision under `tmp_path / "root"`."""
    folder = tmp_path / "root" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file, content in originals.items():
        (folder / file).write_bytes(content)
    return folder


@pytest.fixture
def temporary_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path_factory.mktemp("cache")))

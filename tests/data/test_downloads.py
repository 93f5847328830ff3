"""MNIST and Fashion-MNIST: their content, the folders searched for them, and their download."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refused_data import refusal
from small_mnist import NO_NETWORK, Downloads, idx, not_whole, state

from ssgan.cache import default_root
from ssgan.data.dataset import Data
from ssgan.data.datasets import IDX_FILES, load

# The real MNIST and Fashion-MNIST

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
def test_real_set_matches_its_published_content(real_sets: dict[str, Data], name: str) -> None:
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


# A small set in place of MNIST


def test_idx_files_become_a_pool_and_a_test_share(raw: Path, originals: dict[str, bytes]) -> None:
    data = load("mnist", raw.parents[1])
    assert (data.x_train.shape, data.x_test.shape, data.image_shape) == ((12, 5, 4), (6, 5, 4), (5, 4))
    assert [idx(a) for a in (data.x_train, data.y_train, data.x_test, data.y_test)] == list(originals.values())
    assert (data.name, data.classes, data.scale) == ("mnist", tuple("0123456789"), 255.0)


# Folders that are searched


def empty_folder(path: Path) -> str:
    """Create a folder without a data set."""
    path.mkdir(parents=True)
    return str(path)


def variables(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name in ("SSGAN_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("root", [str, Path])
def test_root_argument_precedes_environment_variables(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: type
) -> None:
    variables(monkeypatch, SSGAN_DATA=empty_folder(tmp_path / "a"), XDG_CACHE_HOME=empty_folder(tmp_path / "b"))
    assert len(load("mnist", root(raw.parents[1])).x_train) == 12
    assert str(tmp_path / "a" / "MNIST" / "raw") in refusal("mnist")


def test_ssgan_data_comes_before_the_cache(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = raw.parents[1]
    variables(
        monkeypatch,
        SSGAN_DATA=str(root),
        XDG_CACHE_HOME=empty_folder(tmp_path / "b"),
        HOME=empty_folder(tmp_path / "c"),
    )
    assert default_root() == root
    assert len(load("mnist").x_train) == 12


@pytest.mark.parametrize("data", [{}, {"SSGAN_DATA": ""}])
def test_xdg_cache_home_comes_before_the_home_folder(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, str]
) -> None:
    variables(monkeypatch, XDG_CACHE_HOME=str(tmp_path / "cache"), HOME=empty_folder(tmp_path / "c"), **data)
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
def test_tilde_expands_to_the_home_folder(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """No shell expands `--data-dir=~/root` or the values in an environment file."""
    variables(monkeypatch, HOME=str(tmp_path), **({} if by == "argument" else {"SSGAN_DATA": "~/root"}))
    assert len(load("mnist", "~/root" if by == "argument" else None).x_train) == 12


# Downloads


def test_existing_files_are_neither_downloaded_nor_changed(raw: Path, downloads: Downloads) -> None:
    before = state(raw.parents[1])
    load("mnist", raw.parents[1])
    assert downloads.asked == []
    assert state(raw.parents[1]) == before


@pytest.mark.parametrize("absent", [IDX_FILES[:1], IDX_FILES[3:], IDX_FILES[1:3], IDX_FILES])
def test_only_missing_files_are_downloaded(
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


def test_missing_root_folder_is_created(tmp_path: Path, originals: dict[str, bytes], downloads: Downloads) -> None:
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


# Incomplete sets


@pytest.mark.parametrize("absent", [IDX_FILES, IDX_FILES[2:3]])
def test_reports_missing_files_without_network(raw: Path, downloads: Downloads, absent: tuple[str, ...]) -> None:
    for file in absent:
        (raw / file).unlink()
    before = state(raw)
    assert refusal("mnist", raw.parents[1]) == not_whole(raw, NO_NETWORK, *absent)
    assert set(downloads.asked) == {f"{absent[0]}.gz"}
    assert state(raw) == before


def test_partial_download_reports_the_files_still_missing(
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
def test_reports_the_reason_of_a_failed_download(
    raw: Path, downloads: Downloads, failure: Exception, reason: str
) -> None:
    """After a failed mirror the next one is tried, so the message gives the last reason."""
    (raw / IDX_FILES[0]).unlink()
    downloads.failures = [failure]
    assert refusal("mnist", raw.parents[1]) == not_whole(raw, reason, IDX_FILES[0])


def test_a_root_that_is_a_file_is_refused(tmp_path: Path, downloads: Downloads) -> None:
    (tmp_path / "file").write_text("mine")
    sentence = refusal("mnist", tmp_path / "file")
    reason = f"[Errno 20] Not a directory: '{tmp_path}/file/MNIST'"
    assert sentence == not_whole(tmp_path / "file" / "MNIST" / "raw", reason, *IDX_FILES)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_root_with_a_name_that_is_too_long_is_refused(tmp_path: Path, downloads: Downloads) -> None:
    sentence = refusal("mnist", tmp_path / ("x" * 300))
    assert "could not be downloaded into it ([Errno " in sentence
    assert "File name too long" in sentence
    assert downloads.asked == []


def test_a_folder_in_place_of_a_file_is_refused(raw: Path) -> None:
    (raw / IDX_FILES[2]).unlink()
    (raw / IDX_FILES[2]).mkdir()
    assert refusal("mnist", raw.parents[1]) == not_whole(raw, NO_NETWORK, IDX_FILES[2])


def test_keyboard_interrupt_during_a_download_is_raised(raw: Path, downloads: Downloads) -> None:
    (raw / IDX_FILES[0]).unlink()
    downloads.failures = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        load("mnist", raw.parents[1])

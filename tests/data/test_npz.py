"""`.npz` files that are invalid, contain code or unpack to too much are refused; types of labels."""

import copy
import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refused_data import refusal
from small_arrays import HOW, SMALL, UNREADABLE, assert_same_data, small

from ssgan import files, runs
from ssgan.data import image_array
from ssgan.data.dataset import Data
from ssgan.data.datasets import load
from ssgan.errors import UserError
from ssgan.inference.inputs import InputSource, read_inputs

Writer = Callable[..., Path]


def test_an_npz_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.npz") == f"There is no file {tmp_path / 'none.npz'}."


def test_folder_with_the_suffix_npz_is_read_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.npz").mkdir()
    assert refusal(tmp_path / "x.npz").startswith(f"{tmp_path / 'x.npz'} has no pictures: it holds no JPEG")


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
def test_refuses_files_that_are_not_npz(tmp_path: Path, write: Callable[[Path], Any], reason: str) -> None:
    path = tmp_path / "mine.npz"
    write(path)
    assert refusal(path) == f"{path} {UNREADABLE} ({reason}): {HOW}"


class Trap:
    """Creates a folder when it is unpickled."""

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
    # Control: np.load with allow_pickle=True does run the code.
    loaded = np.load(path, allow_pickle=True)
    if place != "file":
        loaded[place]
    assert sprung.is_dir()


# Unpacked size


def test_an_npz_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "GROWTH_LIMIT", 2**20)
    x, y = np.zeros((2**12, 32, 32), np.uint8), np.arange(2**12) % 2
    np.savez_compressed(tmp_path / "a.npz", x_train=x, y_train=y)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    assert refusal(tmp_path / "a.npz") == (
        f"{tmp_path / 'a.npz'} unpacks to 4 MiB, over 1 MiB more than its size: if you trust it, store it without "
        f"compression, as numpy.savez does."
    )


def test_the_limit_is_on_growth_so_large_arrays_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "GROWTH_LIMIT", 2**10)
    x = np.random.RandomState(0).randint(0, 256, (2**10, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(2**10) % 2)
    assert load(tmp_path / "a.npz").x_train.tobytes() == x.tobytes()


def test_overlapping_zip_members_are_counted_separately(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip can list the same bytes many times, without compression."""
    monkeypatch.setattr(files, "GROWTH_LIMIT", 2**20)
    path = tmp_path / "a.npz"
    np.savez(path, x_train=np.zeros((2**10, 16, 16), np.uint8))
    with zipfile.ZipFile(path, "a") as archive:
        (first,) = archive.infolist()
        for k in range(8):
            twin = copy.copy(first)
            twin.filename = f"x{k}.npy"
            archive.filelist.append(twin)
        archive.writestr("y_train.npy", b"")
    assert "unpacks to 2 MiB, over 1 MiB more than its size" in refusal(path)


def test_unpacking_stops_at_the_declared_size_of_a_member(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x_train=np.zeros((2**15, 32, 32), np.uint8), y_train=np.arange(2**15) % 2)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("x_train.npy").file_size
    path.write_bytes(content.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    tracemalloc.start()
    try:
        assert "cannot be read as an .npz of plain arrays" in refusal(path)
        assert (
            tracemalloc.get_traced_memory()[1] < size + 2**23
        )  # numpy allocates the array without writing to its pages
    finally:
        tracemalloc.stop()


def test_the_limit_holds_for_predict_the_cache_and_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path))
    (tmp_path / "decoded").mkdir()
    x = np.zeros((2**12, 32, 32), np.uint8)
    for path in (tmp_path / "a.npz", tmp_path / "decoded" / "key.npz"):
        np.savez_compressed(path, x_test=x)
    assert image_array.load_cached("key") is not None
    monkeypatch.setattr(files, "GROWTH_LIMIT", 2**20)
    (image,) = read_inputs([InputSource(str(tmp_path / "a.npz"))], (32, 32), 255.0)
    assert image.reason.startswith(f"{tmp_path / 'a.npz'} unpacks to 4 MiB")
    assert image_array.load_cached("key") is None
    with zipfile.ZipFile(tmp_path / "checkpoint", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**22))
    with pytest.raises(UserError, match="checkpoint unpacks to 4 MiB"):
        runs.load_checkpoint(tmp_path / "checkpoint")


def test_text_labels_become_class_names(tmp_path: Path) -> None:
    x = np.random.RandomState(0).randint(0, 256, (4, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.array(["dog", "cat", "cat", "dog"]))
    data = load(str(tmp_path / "a.npz"))
    assert data.classes == ("cat", "dog")
    assert data.y_train.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("y", [np.array([1.0, np.nan, 0.0, -1.0]), np.array([1, -1, 0, -1])])
def test_labels_may_be_integers_as_floats_with_nan(tmp_path: Path, y: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros((4, 8, 8), np.uint8), y_train=y)
    data = load(tmp_path / "a.npz")
    assert (data.classes, data.y_train.tolist()) == (("0", "1"), [1, -1, 0, -1])


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int8])
def test_labels_may_be_of_any_integer_type(tmp_path: Path, kind: type) -> None:
    """Like the labels of CIFAR-10."""
    x, y = np.zeros((4, 8, 8), np.uint8), np.array([1, 0, 2, 1], kind)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y)
    for data in (load(tmp_path / "a.npz"), Data(x, y)):
        assert (data.classes, data.y_train.tolist()) == (("0", "1", "2"), [1, 0, 2, 1])


def test_bytes_labels_become_class_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 8, 8), np.uint8), y_train=np.array([b"dog", b"cat"]))
    data = load(tmp_path / "a.npz")
    assert (data.classes, data.y_train.tolist()) == (("cat", "dog"), [1, 0])

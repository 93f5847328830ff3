"""Files that are no `.npz`, or hold code, are refused."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refused_data import refusal
from small_arrays import HOW, SMALL, UNREADABLE, assert_same_data, small

from ssgan.data.datasets import load

Writer = Callable[..., Path]


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

"""Folders with pictures of several sizes and modes, broken files and symbolic links."""

import io
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_on_disk import ALL, classes, encoded, grey, packed, photographs, table, write
from PIL import Image
from refused_data import refusal

from ssgan.data.datasets import load
from ssgan.settings.options import Options

pytestmark = pytest.mark.usefixtures("temporary_cache")


# Sizes and modes


def test_single_size_is_kept_and_several_sizes_require_image_size(tmp_path: Path) -> None:
    oblong = np.repeat(grey(1), 2, axis=1)
    assert load(write(tmp_path / "a", {"cat/1.png": oblong, "dog/1.png": oblong})).image_shape == (8, 16)
    folder = write(tmp_path / "b", {**classes(each=3), "dog/x.png": oblong, "cat/y.png": grey(1, 20)})
    assert refusal(folder) == (
        f"{folder} holds pictures of 3 sizes (8x8: 6, 16x8: 1, 20x20: 1): set --image-size PX to resize all of them "
        f"to one square, such as --image-size 32."
    )
    data = load(folder, None, Options(image_size=12))
    assert data.image_shape == (12, 12)
    assert data.file_counts["sizes"] == {"8x8": 6, "16x8": 1, "20x20": 1}


def test_pictures_are_read_grey_only_if_all_are_grey(tmp_path: Path) -> None:
    colour = np.stack([grey(1), grey(2), grey(3)], axis=2)
    folder = write(tmp_path / "a", classes(each=2))
    assert load(folder).image_shape == (8, 8)
    assert load(folder, None, Options(image_mode="rgb")).image_shape == (8, 8, 3)
    write(folder, {"unlabeled/1.png": colour})
    data = load(folder)
    assert data.image_shape == (8, 8, 3)
    assert data.file_counts["modes"] == {"L": 4, "RGB": 1}
    assert np.array_equal(data.x_train[-1], colour)
    assert np.array_equal(data.x_train[0], np.repeat(grey(0)[..., None], 3, axis=2))
    assert load(folder, None, Options(image_mode="grey")).image_shape == (8, 8)


def test_sizes_are_counted_after_exif_rotation(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"cat/1.png": np.zeros((8, 16), np.uint8), "dog/1.png": np.ones((8, 16), np.uint8)})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.full((16, 8), 9, np.uint8)).save(folder / "dog" / "2.jpg", exif=exif)
    data = load(folder, None, ALL)
    assert data.image_shape == (8, 16)
    assert data.file_counts["sizes"] == {"16x8": 3}


def test_refuses_pictures_that_do_not_fit_into_memory(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 600}[name])
    sentence = refusal(write(tmp_path / "a", classes()))
    assert "10 pictures of 8x8" in sentence
    assert "give a smaller --image-size" in sentence
    assert load(tmp_path / "a", None, Options(image_size=7)).image_shape == (7, 7)


# Broken files, and files that are not pictures


def test_broken_files_are_listed_and_the_others_are_read(tmp_path: Path) -> None:
    whole = encoded(grey(1, 30))
    stream = io.BytesIO()
    Image.fromarray(grey(1, 30)).save(stream, "JPEG")
    folder = write(
        tmp_path / "a",
        {
            **classes(each=4),
            "cat/cut.png": whole[: len(whole) // 2],
            "cat/cut.jpg": stream.getvalue()[:300],
            "dog/empty.png": b"",
            "dog/text.png": b"I am no picture",
            "unlabeled/text.jpg": b"nor am I",
            "unlabeled/notes.txt": b"",
            "dog/Thumbs.db": b"",
            "cat/.DS_Store": b"",
            "cat/._0.png": b"",
            "README": b"",
        },
    )
    data = load(folder, None, Options(test_share=0, image_size=8))
    assert data.y_train.tolist() == [0] * 4 + [1] * 4
    reasons = dict(data.skipped)
    assert [name for name, _ in data.skipped] == [
        *["cat/cut.jpg", "cat/cut.png", "dog/empty.png", "dog/text.png", "unlabeled/text.jpg"]
    ]
    assert reasons["dog/empty.png"] == "is empty"
    assert reasons["dog/text.png"] == reasons["unlabeled/text.jpg"] == "is not a picture that can be read"
    assert reasons["cat/cut.png"].startswith("cannot be decoded (")
    assert reasons["cat/cut.jpg"].startswith("cannot be decoded (")
    assert data.file_counts["skipped"] == {"labelled": 4, "unlabelled": 1}
    assert data.file_counts["ignored"] == {".db": 1, ".txt": 1, "hidden": 2, "without suffix": 1}
    assert [np.array_equal(image, grey(i)) for i, image in enumerate(data.x_train[:4])] == [True] * 4


def test_a_broken_file_of_a_table_is_listed_as_labelled(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {**{f"{i}.png": grey(i) for i in range(6)}, "x.png": b"", "y.png": b""})
    csv = table(tmp_path / "l.csv", "0.png,a", "1.png,b", "x.png,b")
    data = load(folder, None, Options(labels_csv=csv))
    assert data.skipped == (("x.png", "is empty"), ("y.png", "is empty"))
    assert data.file_counts["skipped"] == {"labelled": 1, "unlabelled": 1}
    assert data.y_train.tolist() == [0, 1, -1, -1, -1, -1]


def test_refuses_folders_with_no_readable_picture_at_all_or_in_a_class(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"cat/1.png": b"", "dog/1.png": b"x"})
    assert refusal(folder) == f"No picture of {folder} can be read, of 2 (the first: cat/1.png is empty)."
    write(folder, {"dog/2.png": grey(1)})
    assert refusal(folder) == (
        f"The class 'cat' of {folder} has no picture left to learn from, because 1 cannot be read (the first: "
        f"cat/1.png is empty): fix them, or remove the class."
    )


def test_broken_files_do_not_count_for_the_held_out_share(tmp_path: Path) -> None:
    whole = load(write(tmp_path / "a", classes(each=10)))
    broken = load(write(tmp_path / "b", {**classes(each=10), "cat/00.png": b"", "dog/5a.png": b""}))
    assert broken.files_test == whole.files_test


def test_reads_a_thousand_pictures_of_mixed_kinds(tmp_path: Path) -> None:
    """1,000 pictures of mixed size, mode, format and orientation, of which 20 are broken."""
    files, broken = photographs(1000)
    assert len(broken) == 20
    data = load(write(tmp_path / "a", files), None, Options(image_size=16))
    assert data.image_shape == (16, 16, 3)
    assert len(data.x_train) + len(data.x_test) == 980
    assert [name for name, _ in data.skipped] == broken
    assert sum(data.file_counts["sizes"].values()) == sum(data.file_counts["modes"].values()) == 980
    assert data.file_counts["modes"].keys() == {"L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16"}
    zipped = load(packed(tmp_path / "a.zip", files), None, Options(image_size=16))
    assert zipped.sha256 == data.sha256
    assert zipped.skipped == data.skipped


# Symbolic links


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    return write(tmp_path / "a", classes(each=2))


def test_symlink_loops_are_ignored(linked: Path) -> None:
    (linked / "cat" / "loop").symlink_to(linked)
    (linked / "cat" / "self").symlink_to(".")
    (linked / "cat" / "up").symlink_to(linked.parent)
    (linked / "dog" / "other").symlink_to("../cat")
    data = load(linked, None, ALL)
    assert data.files_train == ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
    assert data.file_counts["ignored"] == {"link": 4}


def test_symlink_loops_outside_the_folder_are_ignored(linked: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"x.png": grey(70), "deep/y.png": grey(71)})
    (outside / "deep" / "back").symlink_to(outside)
    (linked / "unlabeled").symlink_to(outside)
    data = load(linked, None, ALL)
    assert data.files_train[4:] == ("unlabeled/deep/y.png", "unlabeled/x.png")


def test_symlinks_to_outside_folders_and_files_are_followed(linked: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"owls/1.png": grey(80), "one.png": grey(81)})
    (linked / "owl").symlink_to(outside / "owls")
    (linked / "cat" / "9.png").symlink_to(outside / "one.png")
    data = load(linked, None, ALL)
    assert data.classes == ("cat", "dog", "owl")
    assert data.files_train == ("cat/0.png", "cat/1.png", "cat/9.png", "dog/0.png", "dog/1.png", "owl/1.png")


def test_broken_symlinks_and_pipes_are_listed_as_skipped(linked: Path) -> None:
    (linked / "cat" / "gone.png").symlink_to("nowhere.png")
    (linked / "cat" / "ring.png").symlink_to("ring.png")
    (linked / "cat" / "gone").symlink_to("nowhere")
    os.mkfifo(linked / "cat" / "pipe.png")
    data = load(linked, None, ALL)
    assert data.skipped == (
        ("cat/gone.png", "is a broken link"),
        ("cat/pipe.png", "is not a regular file"),
        ("cat/ring.png", "is a broken link"),
    )
    assert len(data.x_train) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_files_and_folders_without_read_permission_are_listed_as_skipped(linked: Path) -> None:
    write(linked, {"cat/shut/1.png": grey(1), "cat/mine.png": grey(2)})
    (linked / "cat" / "shut").chmod(0)
    (linked / "cat" / "mine.png").chmod(0)
    data = load(linked, None, ALL)
    (linked / "cat" / "shut").chmod(stat.S_IRWXU)
    assert data.skipped == (
        ("cat/mine.png", "cannot be opened (Permission denied)"),
        ("cat/shut", "cannot be opened (Permission denied)"),
    )

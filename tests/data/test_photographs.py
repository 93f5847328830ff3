"""Photographs are told from drawings, letters and grey images."""

import io
from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import classes, encoded, grey, packed, write
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from ssgan.data.photographs import look_at_pictures


def photographs(side: int = 64, count: int = 6) -> dict[str, np.ndarray]:
    """Parts of the two photographs that scikit-learn carries."""
    files = {}
    for k, image in enumerate(load_sample_images().images):
        for i in range(count):
            files[f"class{k}/{i}.png"] = image[150 + 20 * i : 150 + 20 * i + side, 200 + 30 * i : 200 + 30 * i + side]
    return files


def letters(colour: str) -> dict[str, bytes]:
    files = {}
    for k, letter in enumerate("ABCDEFGH"):
        image = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(image).text((12, 8), letter, fill=colour, font_size=48)
        stream = io.BytesIO()
        image.save(stream, "PNG")
        files[f"{letter}/{k}.png"] = stream.getvalue()
    return files


@pytest.mark.parametrize("side", [48, 64, 120])
def test_photographs_are_known_with_their_size(tmp_path: Path, side: int) -> None:
    for place in (write(tmp_path / "photos", photographs(side)), packed(tmp_path / "photos.zip", photographs(side))):
        kind = look_at_pictures(place)
        assert kind is not None
        assert (kind.photographs, kind.shortest_side) == (True, side)


@pytest.mark.parametrize("colour", ["black", "red"])
def test_letters_are_no_photographs(tmp_path: Path, colour: str) -> None:
    kind = look_at_pictures(write(tmp_path / "letters", letters(colour)))
    assert kind is not None
    assert not kind.photographs


def test_grey_pictures_are_no_colour_photographs(tmp_path: Path) -> None:
    as_grey = {name: np.asarray(Image.fromarray(x).convert("L")) for name, x in photographs().items()}
    as_rgb = {name: np.asarray(Image.fromarray(x).convert("L").convert("RGB")) for name, x in photographs().items()}
    for name, files in (("l", as_grey), ("rgb", as_rgb), ("noise", {f"a/{i}.png": grey(i, 64) for i in range(5)})):
        kind = look_at_pictures(write(tmp_path / name, files))
        assert kind is not None
        assert not kind.photographs, name


def test_files_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", {**photographs(), "class0/bad.png": b"no picture", "class1/empty.jpg": b""})
    kind = look_at_pictures(folder)
    assert kind is not None
    assert kind.photographs
    assert look_at_pictures(write(tmp_path / "bad", {"a/x.png": b"no picture"})) is None
    assert look_at_pictures(write(tmp_path / "none", {"a/x.txt": b"words"})) is None


def test_a_damaged_member_of_a_zip_is_passed_over(tmp_path: Path) -> None:
    """Pictures are looked at before any is read for training, so a damaged one must not end a command there."""
    path = packed(tmp_path / "a.zip", classes())
    content = path.read_bytes()
    at = content.index(encoded(grey(1)))
    whole = look_at_pictures(path)
    path.write_bytes(content[: at + 60] + b"????" + content[at + 64 :])  # its checksum is wrong
    assert look_at_pictures(path) == whole
    path.write_bytes(content.replace(b"PK\x03\x04", b"PK\x03\x05"))  # no member begins as its entry says
    assert look_at_pictures(path) is None

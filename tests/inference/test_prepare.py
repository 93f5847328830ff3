"""Image files are rotated, composited, converted, cropped and resized like the training images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssgan.data.dataset import Data
from ssgan.errors import UserError
from ssgan.inference.inputs import read_image


def saved(path: Path, pixels: Any, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(np.array(pixels, np.uint8))
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def test_a_picture_of_the_right_size_keeps_its_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey, rgb = (rng.integers(0, 256, shape, np.uint8) for shape in ((5, 7), (5, 7, 3)))
    assert np.array_equal(read_image(saved(tmp_path / "g.png", grey), (5, 7)), grey)
    assert np.array_equal(read_image(saved(tmp_path / "g.png", grey), (5, 7, 1)), grey[..., None])
    assert np.array_equal(read_image(saved(tmp_path / "c.png", rgb), (5, 7, 3)), rgb)
    assert read_image(tmp_path / "c.png", (5, 7, 3)).dtype == np.uint8


def test_digits_round_trip_through_png_files(digits: Data, tmp_path: Path) -> None:
    """Full intensity is 16 in the arrays and 255 in a file; all 17 values are preserved."""
    for i, image in enumerate(digits.x_test[:20]):
        path = saved(tmp_path / f"{i}.png", (image * (255 / 16)).round())
        assert np.array_equal(read_image(path, (8, 8), 16.0), image)
    ramp = np.arange(17, dtype=np.uint8)[None]
    assert np.array_equal(read_image(saved(tmp_path / "ramp.png", (ramp * (255 / 16)).round()), (1, 17), 16.0), ramp)


def test_channels_are_converted_to_the_given_shape(tmp_path: Path) -> None:
    red = saved(tmp_path / "red.png", np.full((2, 2, 3), [255, 0, 0]))
    assert read_image(red, (2, 2)).tolist() == [[76, 76], [76, 76]]  # 0.299 of 255, ITU-R 601
    grey = saved(tmp_path / "grey.png", [[0, 100], [200, 255]])
    assert read_image(grey, (2, 2, 3)).tolist() == [[[0] * 3, [100] * 3], [[200] * 3, [255] * 3]]


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    """Black with alpha 0, 1/5 and 1: in RGBA, in LA, and as a palette entry."""
    rgba = [[[0, 0, 0, 0], [0, 0, 0, 51], [0, 0, 0, 255]]]
    assert read_image(saved(tmp_path / "rgba.png", rgba), (1, 3)).tolist() == [[255, 204, 0]]
    assert read_image(saved(tmp_path / "la.png", rgba, "LA"), (1, 3)).tolist() == [[255, 204, 0]]
    palette = saved(tmp_path / "p.png", [[[0, 0, 0], [0, 204, 51]]], "P", transparency=0)
    with Image.open(palette) as image:
        assert image.mode == "P"
        first = image.getpixel((0, 0))
    expected = [[255] * 3, [0, 204, 51]] if first == 0 else [[0] * 3, [255] * 3]
    assert read_image(palette, (1, 2, 3)).tolist() == [expected]


def test_a_palette_without_transparency_has_its_colours(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.gif", [[[0, 0, 0], [0, 204, 51]]], "P")
    assert read_image(path, (1, 2, 3)).tolist() == [[[0, 0, 0], [0, 204, 51]]]


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [[1, 2, 3], [4, 5, 6]]),
        (3, [[6, 5, 4], [3, 2, 1]]),
        (6, [[4, 1], [5, 2], [6, 3]]),
        (8, [[3, 6], [2, 5], [1, 4]]),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, expected: list[list[int]]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "turned.png", [[1, 2, 3], [4, 5, 6]], exif=exif)
    assert read_image(path, np.shape(expected)).tolist() == expected


def test_longer_side_is_cropped_at_both_ends(tmp_path: Path) -> None:
    """A row of three squares, 60 x 20, keeps the middle square; so does a column."""
    row = np.repeat(np.repeat([[10, 120, 240]], 20, axis=0), 20, axis=1)
    for pixels in (row, row.T):
        found = read_image(saved(tmp_path / "long.png", pixels), (4, 4)).astype(int)
        assert abs(found - 120).max() <= 12  # the filter reaches slightly over the edge
        assert abs(found[1:3, 1:3] - 120).max() <= 2


def test_shorter_side_is_resized_without_cropping(tmp_path: Path) -> None:
    """Four bands, 16 high and 8 wide, become 4 x 4: the outer bands are cropped, the width is not."""
    pixels = np.repeat(np.repeat([[0], [80], [160], [240]], 4, axis=0), 8, axis=1)
    pixels[:, 0] = 255
    found = read_image(saved(tmp_path / "tall.png", pixels), (4, 4)).astype(int)
    bands = found[:, 1:].mean(axis=1)
    assert abs(bands - [80, 80, 160, 160]).max() <= 12
    assert (found[:, 0] > bands + 30).all()


def test_16_bit_picture_is_converted_to_8_bit(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", (1, 3)).tolist() == [[0, 100, 255]]


def test_reads_1_bit_and_cmyk_pictures_and_refuses_float_pictures(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path / "bits.png", [[0, 255]], "1"), (1, 2)).tolist() == [[0, 255]]
    cmyk = read_image(saved(tmp_path / "print.jpg", np.full((8, 8, 3), 200), "CMYK", quality=100), (8, 8, 3))
    assert abs(cmyk.astype(int) - 200).max() < 8
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(UserError, match="numbers of 32 bits without a value of full intensity"):
        read_image(tmp_path / "float.tiff", (2, 2))


def test_refuses_pictures_for_models_of_vectors_or_four_channels(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", [[0]])
    with pytest.raises(UserError, match=r"is a picture, but the models accept arrays of shape \[64\]: give an .npz"):
        read_image(path, (64,))
    with pytest.raises(UserError, match=r"shape \[8, 8, 4\]"):
        read_image(path, (8, 8, 4))


def test_unreadable_files_are_refused_with_one_sentence(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 256, (40, 40))).read_bytes()
    contents = {"text.png": b"hello", "empty.jpg": b"", "cut.png": whole[:-400], "head.png": whole[:20]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    for name in [*contents, "folder.png", "missing.png"]:
        with pytest.raises(UserError) as mistake:
            read_image(tmp_path / name, (8, 8))
        sentence = str(mistake.value)
        assert name in sentence
        assert sentence.endswith(".")
        assert "\n" not in sentence
    assert "There is no file" in sentence

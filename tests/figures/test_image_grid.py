"""Image grids: size, position and pixel values of the tiles."""

import numpy as np
import pytest

from ssgan.figures.image_grid import add_caption, draw_classes, draw_grid, draw_table, to_uint8


def test_grid_has_the_expected_size_in_pixels() -> None:
    """8x8 images are magnified 6 times to 48; 10 columns and 3 rows with gaps of 2."""
    sheet = draw_grid(np.zeros((25, 8, 8), np.uint8))
    assert sheet.size == (10 * 48 + 9 * 2, 3 * 48 + 2 * 2)
    assert sheet.mode == "L"


@pytest.mark.parametrize(("height", "factor"), [(8, 6), (28, 2), (32, 2), (33, 1), (48, 1), (200, 1)])
def test_images_are_magnified_by_the_nearest_whole_factor(height: int, factor: int) -> None:
    assert draw_grid(np.zeros((1, height, height), np.uint8), columns=1).size == (height * factor, height * factor)


def test_tiles_lie_row_by_row_on_white() -> None:
    """Five images of 1x2 pixels, magnified by 2, in three columns with gaps of 1: compares every pixel."""
    images = np.array([[[10, 11]], [[20, 21]], [[30, 31]], [[40, 41]], [[50, 51]]], np.uint8)
    first = [10, 10, 11, 11, 255, 20, 20, 21, 21, 255, 30, 30, 31, 31]
    last = [40, 40, 41, 41, 255, 50, 50, 51, 51, 255, 255, 255, 255, 255]
    expected = [first, first, [255] * 14, last, last]
    assert np.asarray(draw_grid(images, columns=3, tile_pixels=2, gap=1)).tolist() == expected


def test_magnification_repeats_rows_and_columns() -> None:
    image = np.array([[[1, 2], [3, 4]]], np.uint8)
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert np.asarray(draw_grid(image, columns=1, tile_pixels=4)).tolist() == expected


def test_colour_keeps_its_channels() -> None:
    images = np.array([[[[255, 0, 0]]], [[[0, 128, 7]]]], np.uint8)
    sheet = draw_grid(images, columns=2, tile_pixels=1, gap=1)
    assert sheet.mode == "RGB"
    assert sheet.size == (3, 1)
    assert [sheet.getpixel((x, 0)) for x in range(3)] == [(255, 0, 0), (255, 255, 255), (0, 128, 7)]


def test_grid_without_gaps() -> None:
    images = np.array([[[1]], [[2]], [[3]], [[4]]], np.uint8)
    assert np.asarray(draw_grid(images, columns=2, tile_pixels=1, gap=0)).tolist() == [[1, 2], [3, 4]]


def test_one_channel_is_grey() -> None:
    images = np.array([[[[10]]], [[[20]]]], np.uint8)
    sheet = draw_grid(images, columns=2, tile_pixels=1, gap=1)
    assert sheet.mode == "L"
    assert np.asarray(sheet).tolist() == [[10, 255, 20]]


# Tables of images and text


def dark(number: int, size: int = 24) -> np.ndarray:
    return np.full((size, size), number, np.uint8)


def test_a_table_of_images_only_equals_the_grid() -> None:
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    table = draw_table([[*images[:3]], [*images[3:]]])
    assert np.array_equal(np.asarray(table), np.asarray(draw_grid(images, columns=3)))
    colour = np.arange(2 * 12, dtype=np.uint8).reshape(2, 2, 2, 3)
    table = draw_table([[*colour]])
    assert table.mode == "RGB"
    assert np.array_equal(np.asarray(table), np.asarray(draw_grid(colour, columns=2)))


def test_a_table_leaves_space_for_names_and_captions() -> None:
    """Two columns of tiles of 48; captions below one row are a line of 16; a name takes a column of its own."""
    plain = draw_table([[dark(0), dark(1)], [dark(2), None]])
    assert plain.size == (98, 98)
    pixels_of = np.asarray(plain)
    assert (pixels_of[:48, 50:] == 1).all()
    assert (pixels_of[50:, 50:] == 255).all()
    assert draw_table([[dark(0), dark(1)], [dark(2), None]], [["1", "2"], ["", ""]]).size == (98, 98 + 16)
    named = draw_table([["horse", dark(0)], ["", dark(9)]])
    width = named.width - 50
    assert 25 < width < 60
    left = np.asarray(named)[:, :width]
    assert left[:48].min() < 128
    assert left[48:].min() == 255
    # A caption is below its image, not on it.
    captioned_pixels = np.asarray(draw_table([[dark(7)]], [["12"]]))
    assert (captioned_pixels[:48] == 7).all()
    assert captioned_pixels[48:].min() < 128


def test_text_changes_the_image_and_stays_on_one_line() -> None:
    first, second = (np.asarray(draw_table([[dark(0)]], [[words]])) for words in ("1", "7"))
    assert first.shape == second.shape
    assert not np.array_equal(first, second)
    assert draw_table([["a\nb\x1b" + 300 * "c", dark(0)]]).width < 300
    assert draw_table([["猫 кот", dark(0)]]).height == 48


def test_add_caption_draws_text_below_the_image() -> None:
    image = add_caption(draw_grid(np.zeros((4, 8, 8, 3), np.uint8), columns=2), "5,000 images")
    assert image.mode == "RGB"
    assert image.size == (98, 98 + 16)
    assert np.asarray(image)[98:].min() < 128


def test_to_uint8_rounds_and_clips() -> None:
    assert to_uint8(np.array([-0.1, 0.0, 0.5, 0.9999, 1.2])).tolist() == [0, 0, 128, 255, 255]


def test_each_class_has_its_own_rows_after_its_name() -> None:
    """3, 12 and 0 images of 48x48 pixels take one row, two rows of at most 10 images, and no row."""
    images = [np.full((n, 48, 48), 10 * (k + 1), np.uint8) for k, n in enumerate((3, 12, 0))]
    sheet = np.asarray(draw_classes(images, ["cat", "a dog", "cow"]))
    left = sheet.shape[1] - (10 * 50 - 2)  # names
    assert sheet.shape[0] == 3 * 50 - 2
    tiles = [[int(sheet[y + 24, left + x + 24]) for x in range(0, 500, 50)] for y in (0, 50, 100)]
    assert tiles == [[10] * 3 + [255] * 7, [20] * 10, [20] * 2 + [255] * 8]
    named = [bool((sheet[y : y + 48, : left - 2] < 200).any()) for y in (0, 50, 100)]
    assert named == [True, True, False]  # the second row of a class does not repeat its name


def test_with_many_classes_the_name_is_below_each_image() -> None:
    images = [np.full((1, 48, 48), 100, np.uint8)] * 41
    sheet = np.asarray(draw_classes(images, [f"c{k}" for k in range(41)]))
    assert sheet.shape == (5 * (48 + 16 + 2) - 2, 10 * 50 - 2)
    assert (sheet[48:64, :48] < 200).any()

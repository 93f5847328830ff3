"""Grids of images: size, place and value of every tile."""

import numpy as np
import pytest

from ssgan.gallery import grid


def test_size_in_pixels() -> None:
    """8x8 images are magnified 6 times to 48; 10 columns and 3 rows with gaps of 2."""
    sheet = grid(np.zeros((25, 8, 8), np.uint8))
    assert sheet.size == (10 * 48 + 9 * 2, 3 * 48 + 2 * 2)
    assert sheet.mode == "L"


@pytest.mark.parametrize(("height", "factor"), [(8, 6), (28, 2), (32, 2), (33, 1), (48, 1), (200, 1)])
def test_images_are_magnified_by_the_nearest_whole_factor(height: int, factor: int) -> None:
    assert grid(np.zeros((1, height, height), np.uint8), columns=1).size == (height * factor, height * factor)


def test_tiles_lie_row_by_row_on_white() -> None:
    """Five images of 1x2 pixels, two times magnified, three columns, gaps of 1: every pixel is known."""
    images = np.array([[[10, 11]], [[20, 21]], [[30, 31]], [[40, 41]], [[50, 51]]], np.uint8)
    first = [10, 10, 11, 11, 255, 20, 20, 21, 21, 255, 30, 30, 31, 31]
    last = [40, 40, 41, 41, 255, 50, 50, 51, 51, 255, 255, 255, 255, 255]
    expected = [first, first, [255] * 14, last, last]
    assert np.asarray(grid(images, columns=3, tile_pixels=2, gap=1)).tolist() == expected


def test_magnification_keeps_rows_and_columns_apart() -> None:
    image = np.array([[[1, 2], [3, 4]]], np.uint8)
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert np.asarray(grid(image, columns=1, tile_pixels=4)).tolist() == expected


def test_colour_keeps_its_channels() -> None:
    images = np.array([[[[255, 0, 0]]], [[[0, 128, 7]]]], np.uint8)
    sheet = grid(images, columns=2, tile_pixels=1, gap=1)
    assert sheet.mode == "RGB"
    assert sheet.size == (3, 1)
    assert [sheet.getpixel((x, 0)) for x in range(3)] == [(255, 0, 0), (255, 255, 255), (0, 128, 7)]


def test_no_gap() -> None:
    images = np.array([[[1]], [[2]], [[3]], [[4]]], np.uint8)
    assert np.asarray(grid(images, columns=2, tile_pixels=1, gap=0)).tolist() == [[1, 2], [3, 4]]


def test_one_channel_is_grey() -> None:
    images = np.array([[[[10]]], [[[20]]]], np.uint8)
    sheet = grid(images, columns=2, tile_pixels=1, gap=1)
    assert sheet.mode == "L"
    assert np.asarray(sheet).tolist() == [[10, 255, 20]]

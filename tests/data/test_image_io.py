"""Decoding of one picture: formats, modes, orientation, transparency, bit depth, and errors of broken files."""

import contextlib
import io
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from pictures_on_disk import png
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from ssgan.data import image_io
from ssgan.data.image_io import Header, UnreadableImage

LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "BMP": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def saved(image: Image.Image | np.ndarray, form: str = "PNG", **options: Any) -> io.BytesIO:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, form, **options)
    stream.seek(0)
    return stream


def noise(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, shape, np.uint8)


def reason(content: bytes, size: int | None = None) -> str:
    """The reason why decoding fails; reading the header may already fail, with the same reason."""
    with pytest.raises(UnreadableImage) as refused:
        image_io.decode(io.BytesIO(content), size, grey=False)
    return str(refused.value)


# Formats


@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats_keep_every_pixel(form: str) -> None:
    colour, grey = noise(5, 7, 3), noise(5, 7)
    stored = saved(colour, form, **LOSSLESS[form])
    assert np.array_equal(image_io.decode(stored, None, grey=False), colour)
    if form != "WEBP":  # which has no grey
        stored = saved(grey, form)
        assert image_io.read_header(stored) == Header(7, 5, "L", True)
        assert np.array_equal(image_io.decode(stored, None, grey=True), grey)


def test_a_gif_gives_its_first_frame() -> None:
    frames = [Image.fromarray(np.full((4, 6), value, np.uint8)) for value in (10, 200)]
    stored = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert image_io.read_header(stored).grey
    assert np.array_equal(image_io.decode(stored, None, grey=True), np.full((4, 6), 10))


def test_a_jpeg_is_near_what_was_saved() -> None:
    smooth = np.add.outer(np.arange(0, 64), np.arange(0, 64)).astype(np.uint8)
    colour = np.stack([smooth, smooth[::-1], smooth[:, ::-1]], axis=2)
    decoded = image_io.decode(saved(colour, "JPEG", quality=95), None, grey=False)
    assert np.abs(decoded.astype(int) - colour).max() < 12
    assert image_io.read_header(saved(smooth, "JPEG")) == Header(64, 64, "L", True)


@pytest.mark.parametrize("form", ["PPM", "ICO", "EPS", "TGA", "PCX"])
def test_unsupported_formats_are_refused(form: str) -> None:
    content = saved(noise(16, 16, 3), form).getvalue()
    assert reason(content) == "is not a picture that can be read"


# Modes


def test_converts_between_colour_and_grey() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    assert image_io.decode(saved(colours), None, grey=True).tolist() == [[76, 150, 29, 9]]
    grey = noise(3, 4)
    assert np.array_equal(image_io.decode(saved(grey), None, grey=False), np.repeat(grey[..., None], 3, axis=2))


def test_one_bit_becomes_black_and_white() -> None:
    stored = saved(Image.fromarray(noise(4, 9) > 127))
    assert image_io.read_header(stored) == Header(9, 4, "1", True)
    assert np.array_equal(image_io.decode(stored, None, grey=True), np.where(noise(4, 9) > 127, 255, 0))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "big-endian TIFF"])
def test_sixteen_bits_are_scaled_to_eight(form: str) -> None:
    values = np.array([[0, 128, 129, 257, 2570, 40000, 65407, 65535]], np.uint16)
    if form == "big-endian TIFF":
        image = Image.frombytes("I;16B", (8, 1), values.astype(">u2").tobytes())
        stored = saved(image, "TIFF")
    else:
        stored = saved(values, form)
    assert image_io.read_header(stored).grey
    assert image_io.decode(stored, None, grey=True).tolist() == [[0, 0, 1, 1, 10, 156, 255, 255]]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_palette_images_are_decoded_to_their_colours(form: str) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").convert("P")
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    stored = saved(image, form)
    assert image_io.read_header(stored) == Header(3, 1, "P", False)
    assert image_io.decode(stored, None, grey=False).tolist() == [[[200, 0, 0], [0, 200, 0], [0, 0, 200]]]
    image.putpalette([7, 7, 7, 90, 90, 90, 3, 3, 3])
    stored = saved(image, form)
    assert image_io.read_header(stored).grey
    assert image_io.decode(stored, None, grey=True).tolist() == [[7, 90, 3]]


def test_transparency_is_composited_on_white() -> None:
    rgba = np.array([[[0, 0, 0, 255], [0, 0, 0, 0], [200, 100, 0, 0], [0, 0, 0, 128]]], np.uint8)
    decoded = image_io.decode(saved(rgba), None, grey=False)
    assert decoded.tolist() == [[[0] * 3, [255] * 3, [255] * 3, [127] * 3]]
    la = Image.fromarray(rgba).convert("LA")
    assert image_io.read_header(saved(la)) == Header(4, 1, "LA", True)
    assert image_io.decode(saved(la), None, grey=True).tolist() == [[0, 255, 255, 127]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette([9, 9, 9, 80, 80, 80])
    for form in ("PNG", "GIF"):
        stored = saved(palette, form, transparency=0)
        assert image_io.decode(stored, None, grey=True).tolist() == [[255, 80]], form
    deep = saved(np.array([[0, 257 * 30]], np.uint16), transparency=0)
    assert image_io.decode(deep, None, grey=True).tolist() == [[255, 30]]
    one_colour = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    stored = saved(one_colour, transparency=(1, 2, 3))
    assert image_io.decode(stored, None, grey=False).tolist() == [[[255] * 3, [4, 5, 6]]]


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(form: str) -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    stored = saved(red, form)
    assert image_io.read_header(stored) == Header(16, 16, "CMYK", False)
    assert np.abs(image_io.decode(stored, None, grey=False).astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_refuses_32_bit_images(kind: type) -> None:
    stored = saved(np.ones((4, 4), kind), "TIFF")
    assert "32 bits without a value of full intensity" in reason(stored.getvalue())


# Orientation: stored rows and columns as in the table of the EXIF standard

UPRIGHT = np.repeat(np.repeat(np.array([[0, 60, 120], [180, 220, 255]], np.uint8), 16, axis=0), 16, axis=1)
STORED = {
    1: UPRIGHT,  # the 0th row is the top, the 0th column the left side
    2: UPRIGHT[:, ::-1],  # top, right
    3: UPRIGHT[::-1, ::-1],  # bottom, right
    4: UPRIGHT[::-1],  # bottom, left
    5: UPRIGHT.T,  # left, top
    6: UPRIGHT[:, ::-1].T,  # right, top
    7: UPRIGHT[::-1, ::-1].T,  # right, bottom
    8: UPRIGHT[::-1].T,  # left, bottom
}


def with_orientation(value: int, form: str) -> io.BytesIO:
    exif = Image.Exif()
    exif[0x0112] = value
    return saved(np.ascontiguousarray(STORED[value]), form, exif=exif, **LOSSLESS.get(form, {"quality": 95}))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("value", STORED)
def test_every_exif_orientation_is_applied(value: int, form: str) -> None:
    stored = with_orientation(value, form)
    head = image_io.read_header(stored)
    assert (head.width, head.height) == (48, 32)
    decoded = image_io.decode(stored, None, grey=True)
    assert decoded.shape == (32, 48)
    assert np.abs(decoded.astype(int) - UPRIGHT).max() <= (6 if form == "JPEG" else 0)
    square = image_io.decode(stored, 4, grey=True).astype(int)
    expected = np.array([[30, 60, 60, 90]] * 2 + [[200, 220, 220, 237]] * 2)
    assert np.abs(square[[0, -1]][:, 1:3] - expected[[0, -1]][:, 1:3]).max() < 16


def test_exif_orientation_after_the_pixels_of_a_png_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = b"".join(b"\0" + bytes(row.tolist()) for row in STORED[6])
    content = png(32, 48, (b"IDAT", zlib.compress(pixels)), (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    assert np.array_equal(image_io.decode(io.BytesIO(content), None, grey=True), UPRIGHT)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_unknown_exif_orientation_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert np.array_equal(image_io.decode(saved(UPRIGHT, exif=exif), None, grey=True), UPRIGHT)


def test_invalid_exif_data_are_ignored() -> None:
    for exif in (b"Exif\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x"):
        content = saved(UPRIGHT, "JPEG", exif=exif, quality=95).getvalue()
        with image_io.ignore_warnings():
            assert image_io.decode(io.BytesIO(content), None, grey=True).shape == UPRIGHT.shape
            assert image_io.read_header(io.BytesIO(content)).width == UPRIGHT.shape[1]


# Cropping and resizing to squares


def test_the_middle_of_the_longer_side_is_kept() -> None:
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 200
    for stored in (wide, np.ascontiguousarray(wide.T)):
        assert np.array_equal(image_io.decode(saved(stored), 20, grey=True), np.full((20, 20), 200))


def test_resizes_the_shorter_side_to_the_size() -> None:
    for shape in ((100, 130), (7, 5), (1, 40)):
        decoded = image_io.decode(saved(np.full(shape, 77, np.uint8)), 10, grey=True)
        assert np.array_equal(decoded, np.full((10, 10), 77)), shape


def test_image_of_the_right_size_is_unchanged() -> None:
    image = noise(12, 12, 3)
    assert np.array_equal(image_io.decode(saved(image), 12, grey=False), image)


def test_downscaling_averages_pixels() -> None:
    checks = np.indices((400, 400)).sum(axis=0).astype(np.uint8) % 2 * 255
    reduced = image_io.decode(saved(checks), 8, grey=True)
    assert np.abs(reduced.astype(int) - 127).max() <= 2


def test_a_jpeg_reduced_while_decoding_is_near_one_reduced_afterwards() -> None:
    wave = 127 + 120 * np.sin(np.arange(512) / 60)
    image = np.add.outer(wave, wave).astype(np.uint16) // 2
    stored = saved(image.astype(np.uint8), "JPEG", quality=95)
    whole = Image.fromarray(image_io.decode(stored, None, grey=True)).resize((24, 24), Image.Resampling.BICUBIC)
    stored.seek(0)
    assert np.abs(image_io.decode(stored, 24, grey=True).astype(int) - np.asarray(whole)).max() <= 3


@pytest.mark.parametrize(("side", "decoded"), [(512, 64), (97, 49), (96, 48), (95, 95), (30, 30)])
def test_jpeg_is_decoded_at_the_smallest_sufficient_size(
    monkeypatch: pytest.MonkeyPatch, side: int, decoded: int
) -> None:
    """At least twice the requested size, if the file has that many pixels."""
    sizes = []
    load = JpegImageFile.load

    def looking(self: JpegImageFile) -> Any:
        sizes.append(self.size)
        return load(self)

    monkeypatch.setattr(JpegImageFile, "load", looking)
    image_io.decode(saved(noise(side, side), "JPEG"), 24, grey=True)
    assert sizes[0] == (decoded, decoded)


# Broken files


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_truncated_file_is_refused(form: str) -> None:
    content = saved(noise(40, 40, 3), form).getvalue()
    for part in (0.5, 0.9):
        assert reason(content[: int(part * len(content))]).startswith(("cannot be decoded (", "is no picture"))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_file_truncated_anywhere_gives_all_pixels_or_an_error(form: str) -> None:
    content = saved(noise(10, 12, 3), form).getvalue()
    whole = image_io.decode(io.BytesIO(content), None, grey=False)
    with image_io.ignore_warnings():
        for length in range(0, len(content), 3):
            with contextlib.suppress(UnreadableImage):
                assert np.array_equal(image_io.decode(io.BytesIO(content[:length]), None, grey=False), whole), length


def test_refuses_files_that_are_not_pictures() -> None:
    assert reason(b"") == "is empty"
    assert reason(b"dear diary, ...") == "is not a picture that can be read"
    assert reason(bytes(1000)) == "is not a picture that can be read"
    with pytest.raises(UnreadableImage, match="is empty"):
        image_io.read_header(io.BytesIO())


def test_refuses_files_with_damaged_content() -> None:
    content = bytearray(saved(noise(40, 40), "PNG").getvalue())
    content[len(content) // 2] ^= 0xFF
    assert reason(bytes(content)).startswith("cannot be decoded (")


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (60_000, 60_000)])
def test_refuses_decompression_bombs_before_decoding(width: int, height: int) -> None:
    """Just above Pillow's limit, where Pillow itself only warns, and far above it."""
    content = png(width, height, (b"IDAT", zlib.compress(bytes(1000))))
    with image_io.ignore_warnings():
        assert "pixels" in (message := reason(content))
        assert "limit of 89,478,485" in message
        with pytest.raises(UnreadableImage, match="pixels"):
            image_io.read_header(io.BytesIO(content))


def test_ignore_warnings_ends_with_its_block() -> None:
    with image_io.ignore_warnings():
        warnings.warn("of one file", UserWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="of something else"):
        warnings.warn("of something else", UserWarning, stacklevel=1)


def test_memory_error_is_not_reported_as_a_broken_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", full)
    with pytest.raises(MemoryError):
        image_io.decode(saved(noise(4, 4)), None, grey=True)

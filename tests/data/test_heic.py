"""HEIC and AVIF, detected by content: with and without the extra, and with other file suffixes."""

import functools
import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_on_disk import classes, write
from PIL import Image, features
from refused_data import refusal

from ssgan.data import image_io
from ssgan.data.datasets import load
from ssgan.data.image_io import Header
from ssgan.settings.options import Options

pytestmark = pytest.mark.usefixtures("temporary_cache")
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
FTYP = b"\0\0\0\x18ftyp"
RAMP = np.add.outer(np.arange(48) * 2, np.arange(64)).astype(np.uint8)
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=2)


@functools.cache
def heic(orientation: int = 1) -> bytes:
    """A colour ramp in HEIC; the orientation is stored as on an iPhone."""
    pillow_heif = pytest.importorskip("pillow_heif")
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    pillow_heif.from_pillow(Image.fromarray(COLOUR)).save(stream, quality=95, exif=exif.tobytes())
    return stream.getvalue()


def saved(form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(COLOUR).save(stream, form, quality=95)
    return stream.getvalue()


@pytest.fixture
def without_heic_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def hidden(name: str, *rest: Any) -> Any:
        return None if name == "pillow_heif" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    image_io._reads_heif.cache_clear()
    yield
    image_io._reads_heif.cache_clear()


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_heic_is_read_upright(orientation: int, turns: int) -> None:
    expected = np.rot90(COLOUR, turns)
    stream = io.BytesIO(heic(orientation))
    assert image_io.read_header(stream) == Header(expected.shape[1], expected.shape[0], "RGB", False)
    assert np.abs(image_io.decode(stream, None, grey=False).astype(int) - expected).max() < 8
    assert image_io.decode(stream, 16, grey=True).shape == (16, 16)


@needs_avif
def test_avif_is_read() -> None:
    assert np.abs(image_io.decode(io.BytesIO(saved("AVIF")), None, grey=False).astype(int) - COLOUR).max() < 12


def test_format_is_detected_by_content_not_by_suffix(tmp_path: Path) -> None:
    files = {"a/1.HEIC": saved("JPEG"), "a/2.jpg": heic(), "b/3.heif": heic(), "b/4.HIF": saved("PNG")}
    data = load(write(tmp_path / "photos", files), None, Options(test_share=0))
    assert data.files_train == tuple(files)
    assert data.skipped == ()
    assert [np.abs(image.astype(int) - COLOUR).max() < 30 for image in data.x_train] == [True] * 4


def test_broken_heic_raises_unreadable_image() -> None:
    content = heic()
    for damaged in (content[:40], content[: len(content) // 2], FTYP + b"heic" + bytes(100)):
        with pytest.raises(
            image_io.UnreadableImage, match=r"^(cannot be decoded \(|is not a picture that can be read$)"
        ):
            image_io.decode(io.BytesIO(damaged), None, grey=False)


@pytest.mark.usefixtures("without_heic_extra")
@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_reports_the_install_command_if_the_heic_extra_is_missing(tmp_path: Path, brand: bytes) -> None:
    content = FTYP + brand + bytes(40)
    files = {**classes(), "cat/IMG_1.HEIC": content, "cat/IMG_2.heic": content, "dog/IMG_3.HEIC": saved("JPEG")}
    folder = write(tmp_path / "phone", files)
    data = load(folder, None, Options(image_size=8))
    needs = "is HEIC, which `pip install 'ssgan[heic]'` makes readable"
    assert data.skipped == (("cat/IMG_1.HEIC", needs), ("cat/IMG_2.heic", needs))
    assert "HEIC pictures left out: 2; `pip install 'ssgan[heic]'` makes them readable." in data.notes
    assert "dog/IMG_3.HEIC" in data.files_train + data.files_test
    alone = write(tmp_path / "alone", {"a/1.heic": content, "b/1.heic": content})
    assert refusal(alone) == f"No picture of {alone} can be read, of 2 (the first: a/1.heic {needs})."


def test_cache_depends_on_the_heic_extra(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = write(tmp_path / "phone", {**classes(), "cat/IMG_1.HEIC": heic()})
    assert load(folder, None, Options(image_size=8)).skipped == ()
    request.getfixturevalue("without_heic_extra")
    assert len(load(folder, None, Options(image_size=8)).skipped) == 1


@pytest.mark.usefixtures("without_heic_extra")
def test_reports_avif_if_pillow_does_not_support_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(image_io.UnreadableImage, match="is AVIF, which this version of Pillow does not read"):
        image_io.read_header(io.BytesIO(FTYP + b"avif" + bytes(40)))

"""16-bit pictures: the largest value of all pictures sets the bit depth, and a run keeps it."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import ALL, encoded, grey, write
from PIL import Image
from refused_data import refusal
from running import last_object, status_of
from small_configs import TINY_OPTIONS

from ssgan import runs
from ssgan.data import image_io
from ssgan.data.datasets import load
from ssgan.inference.evaluate import evaluate_run
from ssgan.settings.config import Config
from ssgan.settings.options import Options

pytestmark = pytest.mark.usefixtures("temporary_cache")


def deep(seed: int, highest: int, size: int = 8) -> np.ndarray:
    """A 16-bit picture with values from 0 to `highest`."""
    values = np.random.RandomState(seed).randint(0, highest + 1, (size, size)).astype(np.uint16)
    values[0, :2] = 0, highest
    return values


def write_deep_pictures(folder: Path, highest: int, form: str = "TIFF") -> Path:
    """Write ten pictures in two classes; only the last one contains the highest value."""
    for i in range(10):
        path = folder / ("cell", "debris")[i % 2] / f"{i}.{form.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(deep(i, highest if i == 9 else highest // 2)).save(path, form)
    return folder


@pytest.mark.parametrize("form", ["TIFF", "PNG"])
@pytest.mark.parametrize(
    ("highest", "depth"),
    [*[(0, 8), (255, 8), (256, 10), (1023, 10), (4032, 12)], *[(4096, 14), (16383, 14), (16384, 16), (65535, 16)]],
)
def test_bit_depth_follows_from_the_largest_value_of_all_pictures(
    tmp_path: Path, highest: int, depth: int, form: str
) -> None:
    folder = write_deep_pictures(tmp_path / "a", highest, form)
    data = load(folder, None, ALL)
    assert data.image_depth == depth
    full = 2**depth - 1
    for name, image in zip(data.files_train, data.x_train, strict=True):
        values = np.asarray(Image.open(folder / name)).astype(float)
        assert np.abs(image - 255 * values / full).max() <= 0.5, name
    note = (
        f"Grey pictures of 16 bits: 10, with values up to {highest:,}, so {full:,} ({depth} bits) is white; --set "
        f"image_depth=16 makes 65,535 white."
    )
    assert data.notes == ((note,) if depth < 16 else ())
    again = load(folder, None, ALL)  # from the cache
    assert (again.image_depth, again.notes, again.sha256) == (data.image_depth, data.notes, data.sha256)


def test_image_depth_setting_overrides_the_depth_and_reports_larger_values(tmp_path: Path) -> None:
    folder = write_deep_pictures(tmp_path / "a", 4032)
    sixteen = load(folder, None, Options(test_share=0, image_depth=16))
    assert (sixteen.x_train.max(), sixteen.notes, sixteen.image_depth) == (16, (), 16)
    assert load(folder, None, ALL).x_train.max() == 251
    eleven = load(folder, None, Options(test_share=0, image_depth=11))
    assert eleven.x_train.max() == 255
    assert eleven.notes == (
        "Grey pictures with values above 2,047, which image_depth=11 makes white: 1 of 10, such as debris/9.tiff (up "
        "to 4,032).",
    )
    assert refusal(folder, image_depth=17).startswith("image_depth is 17, but must be an integer at least 1 and at ")


def test_8_bit_pictures_among_16_bit_pictures_are_unchanged(tmp_path: Path) -> None:
    folder = write_deep_pictures(tmp_path / "a", 4032)
    write(folder, {"cell/x.png": grey(3)})
    data = load(folder, None, ALL)
    assert np.array_equal(data.x_train[data.files_train.index("cell/x.png")], grey(3))
    assert load(write(tmp_path / "b", {"a/1.png": grey(1), "b/1.png": grey(2)})).image_depth is None


def test_broken_pictures_do_not_count_for_the_bit_depth(tmp_path: Path) -> None:
    folder = write_deep_pictures(tmp_path / "a", 4032, "PNG")
    whole = encoded(deep(1, 65535, 40))
    write(folder, {"cell/cut.png": whole[: len(whole) // 2]})
    data = load(folder, None, Options(image_size=8))
    assert data.image_depth == 12
    assert [name for name, _ in data.skipped] == ["cell/cut.png"]


def test_reports_dark_16_bit_colour_pictures(tmp_path: Path) -> None:
    """Pillow reads only the upper 8 bits of each channel."""

    def colour(highest: int) -> bytes:
        rows = np.random.RandomState(0).randint(0, highest + 1, (8, 24)).astype(">u2")
        rows[0, 0] = highest
        body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
        chunks = ((b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", body), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks
        )

    dark = load(write(tmp_path / "a", {"a/1.png": colour(4032), "b/1.png": colour(4000)}), None, ALL)
    assert dark.notes == (
        "Colour pictures of 16 bits: 2, with values of at most 4,095 of 65,535, so they are dark and coarse: save them "
        "with 8 bits per channel.",
    )
    assert dark.image_depth is None
    assert load(write(tmp_path / "b", {"a/1.png": colour(65535), "b/1.png": colour(4000)}), None, ALL).notes == ()


def test_a_run_keeps_the_depth_of_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate` and `predict` read other pictures with the bit depth of the run, and `--resume` keeps it."""
    monkeypatch.chdir(tmp_path)
    options = [
        *TINY_OPTIONS[2:],
        "--set",
        "total_images=40",
        "--set",
        "batch_size=10",
        "--set",
        "init_images=20",
        "--device",
        "cpu",
    ]
    assert status_of("train", write_deep_pictures(tmp_path / "a", 4032), "--out", "run", *options, "--json") == 0
    shown = capsys.readouterr()
    assert "so 4,095 (12 bits) is white" in shown.err
    assert runs.read_config(Path("run")).image_depth == 12
    seen = []
    decode = image_io.decode

    def watched(stream: object, size: int | None, grey: bool, depth: int = 16) -> np.ndarray:
        seen.append(depth)
        return decode(stream, size, grey, depth)  # type: ignore[arg-type]

    monkeypatch.setattr("ssgan.inference.inputs.decode", watched)
    monkeypatch.setattr("ssgan.data.image_array.image_io.decode", watched)
    dark = write_deep_pictures(tmp_path / "dark", 200)
    assert status_of("predict", "run", dark, "--device", "cpu", "--out", "p.csv") == 0
    assert seen == [12] * 10
    assert evaluate_run(Path("run"), str(dark), device="cpu")["test_images"] == 10
    assert seen == [12] * 30  # the pool of the run is read too
    assert evaluate_run(Path("run"), device="cpu")["errors"] == last_object(shown.out)["errors"]
    assert status_of("train", "a", "--out", "run", "--resume", "--set", "total_images=60", "--json") == 0
    assert runs.read_config(Path("run")).image_depth == 12


def test_config_of_an_earlier_version_reads_pictures_with_16_bits(tmp_path: Path) -> None:
    old = {name: value for name, value in Config().to_dict().items() if name not in ("image_depth", "label_words")}
    config = Config.from_dict(json.loads(json.dumps(old)))
    assert config.image_depth == 16
    assert config.sha256 == Config().sha256
    assert load(write_deep_pictures(tmp_path / "a", 4032), None, Options.of(config)).x_train.max() == 16

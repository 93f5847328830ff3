"""Labels, files and cached arrays that were once read wrongly."""

import dataclasses
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_on_disk import encoded, grey, write
from PIL import Image, ImageFile, PngImagePlugin
from running import status_of
from small_configs import TINY

import ssgan
from ssgan import cache
from ssgan.data import file_tree, image_array, label_log
from ssgan.data.dataset import Data
from ssgan.data.label_table import read_label_table
from ssgan.data.neighbors import NeighborKernel
from ssgan.data.splits import SemiSupervisedKFold
from ssgan.errors import UserError
from ssgan.labeling.store import LabelStore

X = np.zeros((4, 8, 8), np.uint8)


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("SSGAN_CACHE", raising=False)
    return tmp_path / "cache"


# Tables


def test_table_with_further_columns_is_not_taken_for_a_log(tmp_path: Path) -> None:
    """Its last line was removed from the file."""
    table = tmp_path / "labels.csv"
    text = "file,label,time,action,notes\na.png,cat,1,label,x\nb.png,dog,2,label,y"
    table.write_text(text)
    assert not label_log.is_log(table.read_bytes())
    with pytest.raises(UserError, match="is a table with other columns"):
        LabelStore(table)
    assert table.read_text() == text
    assert len(read_label_table(table).rows) == 2


# Names of data sets and of files


@pytest.mark.usefixtures("in_an_empty_folder")
def test_a_path_to_a_folder_called_like_a_data_set_names_the_folder() -> None:
    write(Path("digits"), {f"{'ab'[i % 2]}/{i}.png": grey(i) for i in range(12)})
    settings: dict[str, Any] = {**TINY, "labels": 4, "init_images": 4, "batch_size": 4, "total_images": 8}
    for name in ("./digits", Path("digits")):
        assert ssgan.load(name).classes == ("a", "b")
        trained = ssgan.train(name, **settings)
        assert trained.classes == ("a", "b")
        assert trained.evaluate(name)["scored"] == "labelled pictures"
        assert ssgan.train(name, **settings).source == {"data": str(Path("digits").resolve()), **_none(trained)}
    assert len(ssgan.load("digits").classes) == 10
    assert status_of("data", "./digits", "--labels-csv=~/none.csv") == 2  # the table is missing, for the folder


def _none(trained: Any) -> dict[str, None]:
    return {key: None for key in trained.source if key != "data"}


# The cache


def test_a_repaired_zip_is_decoded_again(own_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i in range(6):
            archive.writestr(f"{'ab'[i % 2]}/{i}.png", encoded(grey(i)))
    intact = path.read_bytes()
    damaged = bytearray(intact)
    damaged[intact.index(b"IDAT") + 20] ^= 255
    path.write_bytes(damaged)
    (skipped,) = ssgan.load(path).skipped
    assert "cannot be unpacked" in skipped[1]
    path.write_bytes(intact)
    assert ssgan.load(path).skipped == ()


def test_pillow_switch_for_truncated_files_is_part_of_the_cache_key(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.BytesIO()
    Image.fromarray(grey(0, 64)).save(stream, "JPEG")
    files = {f"{'ab'[i % 2]}/{i}.png": encoded(grey(i, 64)) for i in range(6)}
    folder = write(tmp_path / "photos", {**files, "a/cut.jpg": stream.getvalue()[:-300]})
    assert [name for name, _ in ssgan.load(folder).skipped] == ["a/cut.jpg"]
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert ssgan.load(folder).skipped == ()


def test_a_file_that_vanishes_while_the_cache_makes_room_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "kept.npz").write_bytes(b"1")
    (tmp_path / ".gone.part").symlink_to(tmp_path / "nowhere")
    cache.make_room(tmp_path, ["*.npz", ".*.part"], 10)
    assert (tmp_path / "kept.npz").exists()


def test_a_cache_that_may_only_be_read_is_used(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "photos", {f"{'ab'[i % 2]}/{i}.png": grey(i) for i in range(6)})
    expected = ssgan.load(folder).x_train

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(image_array, "_decode_all", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(ssgan.load(folder).x_train, expected)


# Pictures and folders


def test_png_with_orientation_in_a_text_chunk_is_turned_upright(own_cache: Path, tmp_path: Path) -> None:
    """ImageMagick writes the EXIF of a JPEG into such a chunk."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = b"Exif\x00\x00" + exif.tobytes().removeprefix(b"Exif\x00\x00")
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Raw profile type exif", f"\nexif\n{len(content)}\n{content.hex()}\n")
    for i in range(6):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.RandomState(i).randint(0, 256, (20, 30), np.uint8)).save(path, pnginfo=chunks)
    data = ssgan.load(tmp_path / "photos")
    assert data.skipped == ()
    assert data.image_shape == (30, 20)


def test_only_links_are_called_broken_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.png": grey(0)})
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere")

    class Closed:
        """An entry of a folder without permission to search it."""

        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.path, self.is_symlink = entry.name, entry.path, entry.is_symlink

        def stat(self) -> os.stat_result:
            raise PermissionError(13, "Permission denied")

    real = os.scandir
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", lambda path: [Closed(entry) for entry in real(path)])
        problems = {entry.name: entry.problem for entry in file_tree.walk(tmp_path)}
    assert problems == {"a.png": "cannot be opened (Permission denied)", "link.png": "is a broken link"}


# Labels


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy has no StringDType")
@pytest.mark.parametrize("missing", [np.nan, None])
def test_missing_labels_of_string_dtype_are_unlabelled(missing: Any) -> None:
    y = np.array(["a", missing, "b", "a"], dtype=np.dtypes.StringDType(na_object=missing))
    data = Data(X, y)
    assert data.y_train.tolist() == [0, -1, 1, 0]
    assert data.classes == ("a", "b")


def test_folds_leave_masked_labels_out() -> None:
    y = np.ma.masked_array([0, 1, 0, 1, 0, 1], mask=[0, 0, 1, 1, 0, 0])
    tested = [row for _, test in SemiSupervisedKFold(2).split(np.zeros((6, 1)), y) for row in test]
    assert sorted(tested) == [0, 1, 4, 5]


@pytest.mark.parametrize("label", [10**30, -(10**30), 1e300])
def test_labels_beyond_64_bits_are_refused(label: float) -> None:
    for y in (np.array([0, label, None, 1], object), [0.0, float(label), 1.0, 1.0]):
        with pytest.raises(UserError):
            Data(X, y, classes=("a", "b"))


@pytest.mark.parametrize("scale", ["a", True, [1.0]])
def test_scale_that_is_no_number_is_refused(scale: Any) -> None:
    with pytest.raises(UserError, match="but must be a finite number above 0"):
        dataclasses.replace(Data(X, [0, 1, 0, 1]), scale=scale)


def test_neighbours_of_a_copy_do_not_depend_on_earlier_calls() -> None:
    x, kernel = np.random.RandomState(0).rand(6, 2), NeighborKernel(2)
    between = kernel(x, x).toarray().diagonal()
    copied = kernel(x, x.copy()).toarray().diagonal()
    assert (between.max(), copied.min()) == (0, 1)

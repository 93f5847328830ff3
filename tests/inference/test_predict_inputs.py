"""Inputs of `ssgan predict`: files in order, folders, patterns, lists and arrays; unreadable ones have a reason."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssgan.data.datasets import load
from ssgan.data.file_tree import open_tree
from ssgan.data.image_io import SUFFIXES
from ssgan.inference.inputs import InputSource, find_inputs, read_inputs

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

X = np.random.default_rng(0).integers(0, 17, (5, 4, 4), np.uint8)


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def names(*arguments: str, lines: tuple[str, ...] = ()) -> list[str]:
    found = find_inputs(arguments, lines)
    assert [one.reason for one in found] == [""] * len(found)
    return [one.name for one in found]


def test_files_keep_their_order_and_repetitions() -> None:
    assert names("b.png", "a.txt", "b.png", "missing") == ["b.png", "a.txt", "b.png", "missing"]


def test_folder_expands_to_its_pictures_recursively() -> None:
    touch(
        "f/b.png",
        "f/a.JPEG",
        "f/notes.txt",
        "f/x.npz",
        "f/sub/deep/c.tif",
        "f/.hidden.png",
        "f/.git/d.png",
        "f/._a.jpg",
    )
    assert names("f") == ["f/a.JPEG", "f/b.png", "f/sub/deep/c.tif"]
    assert names("f/") == ["f/a.JPEG", "f/b.png", "f/sub/deep/c.tif"]


def test_a_folder_is_listed_as_for_training() -> None:
    """Links to other folders are followed, links back to the folder are not, and __MACOSX folders are ignored."""
    touch("f/b.png", "f/__MACOSX/b.png", "other/c.png")
    Path("f/away").symlink_to(Path("other").resolve())
    Path("f/back").symlink_to(Path("f").resolve())
    Path("f/gone.png").symlink_to("nowhere.png")
    assert [one.name for one in find_inputs(["f"])] == ["f/b.png", "f/gone.png", "f/away/c.png"]
    with open_tree(Path("f"), SUFFIXES) as tree:
        assert sorted(f"f/{name}" for name in tree.pictures) == ["f/away/c.png", "f/b.png"]
    (broken,) = [source for source in find_inputs(["f"]) if source.reason]
    assert broken.reason == "f/gone.png is a broken link."


def test_pattern_expands_to_matching_files() -> None:
    touch("f/b.png", "f/a.png", "f/c.txt", "f/sub/d.png", "ü [1].png")
    assert names("f/*.png") == ["f/a.png", "f/b.png"]
    assert names("f/*") == ["f/a.png", "f/b.png", "f/c.txt", "f/sub/d.png"]
    assert names("f/**", lines=()) == ["f/a.png", "f/b.png", "f/sub/d.png", "f/c.txt"]
    assert names("**/*.png") == ["f/a.png", "f/b.png", "f/sub/d.png", "ü [1].png"]


def test_existing_file_takes_precedence_over_pattern() -> None:
    touch("ü [1].png")
    assert names("ü [1].png") == ["ü [1].png"]
    assert names("-", lines=("*.png\n",)) == ["*.png"]


def test_dash_reads_names_from_lines() -> None:
    touch("f/a.png")
    lines = ("two words.png\n", "\n", "f\r\n", "last.png")
    assert names("first.png", "-", "end.png", lines=lines) == [
        "first.png",
        "two words.png",
        "f/a.png",
        "last.png",
        "end.png",
    ]
    assert find_inputs(["-"], []) == []


def test_pattern_without_match_and_folder_without_pictures_have_a_reason() -> None:
    touch("f/notes.txt")
    assert find_inputs(["*.png", "f"]) == [
        InputSource("*.png", "*.png matches no file."),
        InputSource("f", f"f holds no picture ({', '.join(sorted(SUFFIXES))})."),
    ]


# Reading


def test_read_inputs_yields_pictures_arrays_and_reasons_in_order() -> None:
    Image.fromarray(X[0]).save("a.png")
    np.savez("x.npz", x_test=X)
    items = list(
        read_inputs(
            [InputSource("x.npz"), InputSource("no", "why"), InputSource("a.png"), InputSource("gone.png")],
            (4, 4),
            255.0,
        )
    )
    assert [item.name for item in items] == [*(f"x.npz[{i}]" for i in range(5)), "no", "a.png", "gone.png"]
    for i, item in enumerate(items[:5]):
        assert np.array_equal(item.pixels, X[i])  # type: ignore[arg-type]
    assert (items[5].pixels, items[5].reason) == (None, "why")
    assert np.array_equal(items[6].pixels, X[0])  # type: ignore[arg-type]
    assert (items[7].pixels, items[7].reason) == (None, "There is no file gone.png.")


@pytest.mark.parametrize(
    ("arrays", "row"),
    [
        ({"x_train": X[:2], "x_test": X[2:]}, 2),
        ({"x_train": X[1:], "y_train": np.zeros(4), "other": X}, 1),
        ({"images": X[3:], "classes": np.array(["a"]), "scale": 255}, 3),
    ],
)
def test_npz_input_is_x_test_or_x_train_or_the_only_array(arrays: dict[str, Any], row: int) -> None:
    np.savez("x.npz", **arrays)
    first = next(read_inputs([InputSource("x.npz")], (4, 4), 255.0))
    assert first.name == "x.npz[0]"
    assert np.array_equal(first.pixels, X[row])  # type: ignore[arg-type]


def test_vectors_are_read_from_an_npz() -> None:
    np.savez("x.npz", x=np.ones((2, 3), np.float32))
    assert [item.reason for item in read_inputs([InputSource("x.npz")], (3,), 1.0)] == ["", ""]
    np.savez("x.npz", x=np.ones((2, 3), int))
    (item,) = read_inputs([InputSource("x.npz")], (3,), 1.0)
    assert item.reason == "x.npz holds x, int64 of shape [2, 3], but the models accept float32 of shape [N, 3]."


def test_floats_are_converted_as_for_training() -> None:
    x = np.random.RandomState(0).rand(4, 5, 5)
    vectors, y = x.reshape(4, 25), np.array([0, 1, -1, -1])
    for rows in (x, x.astype(np.float32), vectors):
        np.savez("x.npz", x_train=rows, y_train=y)
        data = load("x.npz")
        items = list(read_inputs([InputSource("x.npz")], data.image_shape, data.scale))
        assert [item.reason for item in items] == [""] * 4
        pixels = np.stack([item.pixels for item in items if item.pixels is not None])
        assert pixels.dtype == data.x_train.dtype
        assert np.array_equal(pixels, data.x_train)
    np.savez("x.npz", x=x * 8, scale=8)
    (first, *_) = read_inputs([InputSource("x.npz")], (5, 5), 16.0)
    assert np.array_equal(first.pixels, np.rint(x[0] * 16))  # type: ignore[arg-type]
    np.savez("x.npz", x=x * 8)
    (item,) = read_inputs([InputSource("x.npz")], (5, 5), 16.0)
    assert item.reason.startswith("x.npz: x holds values from ")
    assert "images must lie in 0 to 1" in item.reason
    for scale in (0.0, -1.0, np.inf, np.nan):
        np.savez("x.npz", x=x, scale=scale)
        (item,) = read_inputs([InputSource("x.npz")], (5, 5), 16.0)
        assert item.reason == f"x.npz has the scale {scale:g}, but it must be a finite number above 0."


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": X, "b": X}, "holds a, b: name the array to classify x_test"),
        ({"y_test": X}, "holds no images"),
        ({"x": X[:, :3]}, r"holds x, uint8 of shape [5, 3, 4], but the models accept uint8 of shape [N, 4, 4]"),
        ({"x": X[:0]}, "of shape [0, 4, 4]"),
        ({"x": X + 1}, "full intensity 16, but the models accept 0 to 16"),
        ({"x": X, "scale": 255}, "full intensity 255, but the models accept 0 to 16"),
        ({"x": np.array([{}], object)}, "cannot be read as an .npz of plain arrays (ValueError)"),
    ],
)
def test_an_npz_that_does_not_fit_is_one_row_with_the_reason(arrays: dict[str, Any], words: str) -> None:
    np.savez("x.npz", **{"x": X, **arrays} if "x" in arrays else arrays)
    (item,) = read_inputs([InputSource("x.npz")], (4, 4), 16.0)
    assert (item.name, item.pixels) == ("x.npz", None)
    assert item.reason.startswith("x.npz ")
    assert words in item.reason


def test_a_broken_npz_is_one_row_with_the_reason() -> None:
    Path("x.npz").write_bytes(b"PK no")
    Path("folder.npz").mkdir()
    for name in ("x.npz", "gone.npz"):
        (item,) = read_inputs([InputSource(name)], (4, 4), 16.0)
        assert name in item.reason


# A zip


def png(value: int, size: tuple[int, int] = (4, 4)) -> bytes:
    content = io.BytesIO()
    Image.new("L", size, value).save(content, format="png")
    return content.getvalue()


def test_zip_expands_to_its_pictures() -> None:
    """Each is read as the same file in a folder; unreadable ones have a reason, and nothing is written to disk."""
    with zipfile.ZipFile("all.ZIP", "w") as archive:
        for name, content in {"b/c.png": png(30), "a.png": png(10), "bad.png": b"x", "notes.txt": b"n"}.items():
            archive.writestr(name, content)
        archive.writestr(".hidden.png", png(99))
    found = list(read_inputs(find_inputs(["all.ZIP"]), (4, 4), 255.0))
    assert [(item.name, item.reason) for item in found] == [
        ("all.ZIP/a.png", ""),
        ("all.ZIP/b/c.png", ""),
        ("all.ZIP/bad.png", "all.ZIP/bad.png is not a picture that can be read."),
    ]
    assert [int(item.pixels.mean()) for item in found if item.pixels is not None] == [10, 30]
    assert [path.name for path in Path().iterdir()] == ["all.ZIP"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04 nothing more", "bad.zip cannot be read as a zip: it is damaged or in another format."),
        (None, "There is no folder or file bad.zip."),
        ({"notes.txt": b"n"}, "bad.zip holds no picture (.avif, "),
        ({"../a.png": b"n"}, "bad.zip holds a member named '../a.png', but "),
    ],
    ids=["damaged", "missing", "no pictures", "path traversal"],
)
def test_a_zip_that_cannot_be_read_is_one_line(content: bytes | dict[str, bytes] | None, reason: str) -> None:
    if isinstance(content, bytes):
        Path("bad.zip").write_bytes(content)
    elif content is not None:
        with zipfile.ZipFile("bad.zip", "w") as archive:
            for name, inside in content.items():
                archive.writestr(name, inside)
    (item,) = read_inputs(find_inputs(["bad.zip"]), (4, 4), 255.0)
    assert (item.name, item.pixels) == ("bad.zip", None)
    assert item.reason.startswith(reason)


def test_a_damaged_member_of_a_zip_does_not_stop_the_others() -> None:
    with zipfile.ZipFile("some.zip", "w") as archive:
        archive.writestr("a.png", png(10))
        archive.writestr("b.png", png(20))
    whole = Path("some.zip").read_bytes()
    Path("some.zip").write_bytes(whole.replace(png(10), png(11), 1))  # of the same length, but another checksum
    assert len(png(10)) == len(png(11))
    broken, fine = read_inputs(find_inputs(["some.zip"]), (4, 4), 255.0)
    assert broken.reason == "some.zip/a.png cannot be unpacked (BadZipFile)."
    assert fine.pixels is not None
    assert int(fine.pixels.mean()) == 20

"""Distinguishing photographs from drawings, letters and grey images, and the choice of views."""

import io
from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import classes, encoded, grey, packed, write
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from ssgan.data.dataset import Data
from ssgan.data.photographs import look_at_pictures
from ssgan.data.views import choose_views, nearer_than_mirrored


def photographs(side: int = 64, count: int = 6) -> dict[str, np.ndarray]:
    """Crops of the two sample photographs of scikit-learn."""
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
def test_photographs_are_recognised_with_their_shortest_side(tmp_path: Path, side: int) -> None:
    for place in (write(tmp_path / "photos", photographs(side)), packed(tmp_path / "photos.zip", photographs(side))):
        kind = look_at_pictures(place)
        assert kind is not None
        assert (kind.photographs, kind.shortest_side) == (True, side)


@pytest.mark.parametrize("colour", ["black", "red"])
def test_letters_are_not_photographs(tmp_path: Path, colour: str) -> None:
    kind = look_at_pictures(write(tmp_path / "letters", letters(colour)))
    assert kind is not None
    assert not kind.photographs


def test_grey_pictures_are_not_photographs(tmp_path: Path) -> None:
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


def test_damaged_members_of_a_zip_are_skipped(tmp_path: Path) -> None:
    """Pictures are inspected before any is read for training, so a damaged one must not end the command here."""
    path = packed(tmp_path / "a.zip", classes())
    content = path.read_bytes()
    at = content.index(encoded(grey(1)))
    whole = look_at_pictures(path)
    path.write_bytes(content[: at + 60] + b"????" + content[at + 64 :])  # its checksum is wrong
    assert look_at_pictures(path) == whole
    path.write_bytes(content.replace(b"PK\x03\x04", b"PK\x03\x05"))  # no member starts with a valid header
    assert look_at_pictures(path) is None


# Choice of views


def data_of(images: list[np.ndarray], scale: float = 0.0) -> Data:
    x = np.stack(images)
    return Data(x, np.arange(len(x)) % 2, x[:0], np.zeros(0, np.int64), ("a", "b"), scale=scale)


def coloured_photographs(side: int = 32) -> list[np.ndarray]:
    return [*photographs(side, count=12).values()]


def icons(side: int = 32) -> list[np.ndarray]:
    """Drawings in many colours with smooth edges on a background of one colour."""
    drawn = []
    for k in range(12):
        image = Image.new("RGB", (4 * side, 4 * side), "white")
        pen = ImageDraw.Draw(image)
        for ring in range(12):
            colour = tuple(np.random.default_rng([k, ring]).integers(0, 256, 3).tolist())
            pen.ellipse([8 + 5 * ring, 8 + 4 * ring, 120 - 4 * ring, 120 - 5 * ring], fill=colour)
        drawn.append(np.asarray(image.resize((side, side), Image.Resampling.LANCZOS)))
    return drawn


def ink(ground: int, pen: int) -> list[np.ndarray]:
    drawn = []
    for letter in "ABCDEFGH":
        image = Image.new("L", (32, 32), ground)
        ImageDraw.Draw(image).text((8, 2), letter, fill=pen, font_size=24)
        drawn.append(np.asarray(image))
    return drawn


def in_grey(images: list[np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(Image.fromarray(x).convert("L")) for x in images]


def in_three_channels(images: list[np.ndarray]) -> list[np.ndarray]:
    return [np.stack([x] * 3, axis=-1) for x in images]


CHOICES = {
    "colour photographs": (coloured_photographs, "natural", "colour photographs"),
    "grey photographs": (lambda: in_grey(coloured_photographs()), "drawings", "grey pictures"),
    "grey photographs saved in colour": (
        lambda: in_three_channels(in_grey(coloured_photographs())),
        "drawings",
        "pictures of few colours",
    ),
    "icons of many colours": (icons, "drawings", "pictures of few colours"),
    "ink on paper": (lambda: ink(230, 20), "drawings", "grey pictures"),
    "letters on black": (lambda: ink(0, 255), "digits", "pictures on a black background"),
    "letters on black, saved in colour": (
        lambda: in_three_channels(ink(0, 255)),
        "digits",
        "pictures on a black background",
    ),
    "some photographs among letters": (
        lambda: [*coloured_photographs()[:8], *in_three_channels(ink(230, 20))],
        "drawings",
        "pictures of few colours",
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_views_are_chosen_by_image_content(name: str) -> None:
    make, augmentation, kind = CHOICES[name]
    views = choose_views(data_of(make()))
    assert (views.augmentation, views.kind) == (augmentation, kind)


def test_choice_of_views_uses_the_scale_and_treats_one_channel_as_grey() -> None:
    dim = [x // 16 for x in ink(230, 20)]
    assert choose_views(data_of(dim, scale=15)).augmentation == "drawings"
    assert choose_views(data_of(dim)).augmentation == "digits"
    assert choose_views(data_of([x[..., None] for x in ink(230, 20)])).augmentation == "drawings"


def test_views_do_not_depend_on_labels() -> None:
    data = data_of(coloured_photographs())
    other = Data(data.x_train, np.full(len(data.x_train), -1), data.x_test, data.y_test, data.classes)
    assert choose_views(other) == choose_views(data)


def grey_shapes(count: int, kinds: str) -> Data:
    """Grey pictures of bars on an uneven background; the bars lean to the right, or to either side."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:24, :24] - 11.5
    drawn = []
    for k in range(count):
        lean = random.uniform(0.3, 1.0) * (-1 if kinds == "either" and k % 2 else 1)
        bar = np.abs(x - random.uniform(-2, 2) - lean * (y - random.uniform(-2, 2))) < random.uniform(1.5, 4)
        drawn.append(np.clip(70 + 3 * x * random.uniform(-1, 1) + 110 * bar + 10 * random.normal(size=x.shape), 0, 255))
    return data_of([image.astype(np.uint8) for image in drawn])


@pytest.mark.parametrize(
    ("count", "kinds", "augmentation"),
    [(1200, "either", "natural"), (1200, "right", "drawings"), (600, "either", "drawings")],
)
def test_natural_views_for_grey_shapes_need_a_large_mirror_symmetric_set(
    count: int, kinds: str, augmentation: str
) -> None:
    assert choose_views(grey_shapes(count, kinds)).augmentation == augmentation


def test_digits_are_distinguished_from_their_mirror_images(digits: Data) -> None:
    assert choose_views(digits).augmentation != "natural"
    share = nearer_than_mirrored(digits)
    assert share is not None
    assert share > 0.9
    both = np.concatenate([digits.x_train, digits.x_train[:, :, ::-1]])
    assert choose_views(data_of([*both], scale=16)).kind == "a mirror-symmetric set"

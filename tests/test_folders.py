"""A user's own pictures: class folders, tables and zips become the same data, and every mistake is named."""

import io
import os
import stat
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_on_disk import Content, classes, encoded, grey, packed, photographs, write
from PIL import Image

from ssgan.data import file_tree
from ssgan.data.dataset import Data
from ssgan.data.datasets import load
from ssgan.data.image_folder import held_out
from ssgan.errors import UserError
from ssgan.settings.options import Options

ALL = Options(test_share=0)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path_factory.mktemp("cache")))


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as refused:
        load(path, None, Options(**options))
    sentence = str(refused.value)
    assert sentence.endswith((".", "?"))
    assert "\n" not in sentence
    return sentence


def table(path: Path, *lines: str, header: str = "file,label") -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


# One set of pictures, four ways in


def test_folders_zip_table_and_arrays_give_the_same_data(tmp_path: Path) -> None:
    labelled, others = classes(each=10), {f"unlabeled/{i}.png": grey(1000 + i) for i in range(4)}
    flat: dict[str, Content] = {name.replace("/", "-"): image for name, image in {**labelled, **others}.items()}
    lines = [f"{name.replace('/', '-')},{name.split('/')[0]}" for name in labelled]
    images = np.stack([np.asarray(image) for image in {**labelled, **others}.values()])
    y = np.array([0] * 10 + [1] * 10 + [-1] * 4)
    np.savez(tmp_path / "arrays.npz", x_train=images, y_train=y, classes=["cat", "dog"])
    ways = {
        "folders": load(write(tmp_path / "folders", {**labelled, **others}), None, ALL),
        "zip": load(packed(tmp_path / "pictures.zip", {**labelled, **others}), None, ALL),
        "table": load(
            write(tmp_path / "flat", flat), None, Options(test_share=0, labels_csv=table(tmp_path / "l.csv", *lines))
        ),
        "zip and table": load(
            packed(tmp_path / "flat.zip", flat), None, Options(test_share=0, labels_csv=tmp_path / "l.csv")
        ),
        "arrays": load(tmp_path / "arrays.npz"),
    }
    for way, data in ways.items():
        assert np.array_equal(data.x_train, images), way
        assert data.y_train.tolist() == y.tolist(), way
        assert data.classes == ("cat", "dog"), way
        assert data.sha256 == ways["arrays"].sha256, way
    shared = {
        load(tmp_path / name, None, Options(labels_csv=csv)).sha256
        for name, csv in (("folders", None), ("pictures.zip", None), ("flat", tmp_path / "l.csv"))
    }
    assert len(shared) == 1


def test_train_unlabeled_and_test_are_told_apart(tmp_path: Path) -> None:
    data = load(
        write(
            tmp_path / "photos",
            {
                **classes("train/", 3),
                **classes("test/", 2, first=500),
                "unlabeled/b.png": grey(7),
                "unlabeled/a.png": grey(8),
            },
        )
    )
    assert data.name == "photos"
    assert data.y_train.tolist() == [0, 0, 0, 1, 1, 1, -1, -1]
    assert data.y_test.tolist() == [0, 0, 1, 1]
    assert data.files_train[3:] == (
        "train/dog/0.png",
        "train/dog/1.png",
        "train/dog/2.png",
        "unlabeled/a.png",
        "unlabeled/b.png",
    )
    assert data.files_test == ("test/cat/0.png", "test/cat/1.png", "test/dog/0.png", "test/dog/1.png")
    for files, x in ((data.files_train, data.x_train), (data.files_test, data.x_test)):
        for name, image in zip(files, x, strict=True):
            assert np.array_equal(np.asarray(Image.open(tmp_path / "photos" / name)), image)
    assert data.found["sizes"] == {"8x8": 12}
    assert data.found["modes"] == {"L": 12}


def test_plain_class_folders_stand_beside_unlabeled_and_test(tmp_path: Path) -> None:
    data = load(
        write(tmp_path / "a", {**classes(each=3), **classes("test/", 1, first=500), "unlabelled/x.png": grey(9)})
    )
    assert data.classes == ("cat", "dog")
    assert data.y_train.tolist() == [0, 0, 0, 1, 1, 1, -1]
    assert data.y_test.tolist() == [0, 1]


def test_files_lie_in_folders_of_a_class_as_deep_as_they_like(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a", {"cat/x/y/1.png": grey(1), "cat/0.png": grey(2), "dog/test/0.png": grey(3)}))
    assert data.files_train == ("cat/0.png", "cat/x/y/1.png", "dog/test/0.png")
    assert data.y_train.tolist() == [0, 0, 1]


def test_class_names_keep_their_case_and_are_sorted(tmp_path: Path) -> None:
    names = ("b", "A", "a", "10", "9", "Éclair", "日本")
    data = load(write(tmp_path / "a", classes(each=1, names=names)))
    assert data.classes == tuple(sorted(names))


def test_names_are_the_same_in_every_unicode_form(tmp_path: Path) -> None:
    both = [unicodedata.normalize(form, "Éclair é.png") for form in ("NFC", "NFD")]
    found = [
        load(write(tmp_path / str(i), {f"{name.split()[0]}/{name}": grey(1), "B/1.png": grey(2)}), None, ALL)
        for i, name in enumerate(both)
    ]
    assert found[0].classes == found[1].classes == ("B", unicodedata.normalize("NFC", "Éclair"))
    assert found[0].files_train == found[1].files_train
    assert found[0].sha256 == found[1].sha256
    csv = table(tmp_path / "l.csv", f"{both[1]},x", "b.png,y")
    flat = write(tmp_path / "flat", {both[0]: grey(1), "b.png": grey(2)})
    assert load(flat, None, Options(labels_csv=csv)).y_train.tolist() == [1, 0]


def test_a_name_that_is_no_text_is_written_out(tmp_path: Path) -> None:
    write(tmp_path / "a", classes(each=2))
    raw = os.fsencode(tmp_path / "a" / "cat") + b"/caf\xe9.png"
    try:
        with open(raw, "wb") as stream:
            stream.write(encoded(grey(5)))
    except OSError:
        pytest.skip("this file system takes names of text alone")
    data = load(tmp_path / "a", None, ALL)
    assert "cat/caf\\udce9.png" in data.files_train
    "".join(data.files_train).encode()


def test_a_name_that_would_move_the_cursor_is_written_out(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a", {**classes(each=1), "cat/\x1b[2J\n.png": b""}), None, ALL)
    assert data.skipped == (("cat/\\x1b[2J\\x0a.png", "is empty"),)


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", {**classes(each=6), "unlabeled/x/1.png": grey(77), "unlabeled/a.png": grey(78)})
    expected, listed = load(tmp_path / "a"), os.scandir
    monkeypatch.setenv("SSGAN_CACHE", "off")
    monkeypatch.setattr(os, "scandir", lambda place: sorted(listed(place), key=lambda entry: entry.name, reverse=True))
    assert load(tmp_path / "a").sha256 == expected.sha256


def test_pictures_are_told_by_their_suffix_in_any_case(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", classes(each=1))
    for i, (suffix, form) in enumerate(
        [(".JPG", "JPEG"), (".jpeg", "JPEG"), (".webp", "WEBP"), (".bmp", "BMP"), (".Gif", "GIF"), (".tiff", "TIFF")]
    ):
        Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(folder / "cat" / f"{i}{suffix}", form)
    data = load(folder, None, Options(test_share=0, image_mode="grey"))
    assert data.y_train.tolist() == [0] * 7 + [1]
    assert data.found["ignored"] == {}
    assert data.skipped == ()


# The held-out share


def test_a_share_of_each_class_is_held_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {**classes(each=10), "unlabeled/1.png": grey(999)})
    data = load(folder)
    assert np.bincount(data.y_test).tolist() == [2, 2]
    assert np.bincount(data.y_train[data.y_train >= 0]).tolist() == [8, 8]
    assert set(data.files_train) | set(data.files_test) == {*classes(each=10), "unlabeled/1.png"}
    assert not set(data.files_train) & set(data.files_test)
    assert load(folder).files_test == data.files_test
    assert load(folder, None, Options(test_seed=1)).files_test != data.files_test
    assert len(load(folder, None, ALL).y_test) == 0


def test_the_held_out_share_is_pinned() -> None:
    y = np.array([0, 1, -1] * 8)
    assert held_out(y, 0.25, 0).tolist() == [1, 9, 16, 21]


@pytest.mark.parametrize(
    ("count", "share", "held"),
    [(1, 0.9, 0), (2, 0.2, 0), (2, 0.9, 1), (3, 0.2, 1), (7, 0.2, 1), (8, 0.2, 2), (10, 0.25, 3), (5, 0.0, 0)],
)
def test_the_held_out_share_is_rounded_and_leaves_one(count: int, share: float, held: int) -> None:
    y = np.array([-1, *[0] * count, -1, 1])
    rows = held_out(y, share, 3)
    assert len(rows) == held
    assert (y[rows] == 0).all()
    assert np.array_equal(rows, np.unique(rows))


def test_classes_are_held_out_each_by_itself() -> None:
    y = np.array([0] * 10 + [1] * 10)
    more = np.array([0] * 17 + [1] * 10)
    ours, theirs = held_out(y, 0.3, 5), held_out(more, 0.3, 5)
    assert (ours[ours >= 10] - 10).tolist() == (theirs[theirs >= 17] - 17).tolist()


def test_a_class_with_one_picture_keeps_it_for_training(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a", {**classes(each=10), "owl/1.png": grey(500)}))
    assert data.classes == ("cat", "dog", "owl")
    assert np.bincount(data.y_test, minlength=3).tolist() == [2, 2, 0]
    assert np.bincount(data.y_train).tolist() == [8, 8, 1]


def test_an_empty_test_folder_is_no_test_share(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", classes(each=10))
    (folder / "test").mkdir()
    assert len(load(folder).y_test) == 4


def test_a_share_beside_a_test_folder_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {**classes("train/"), **classes("test/")})
    assert refusal(folder, test_share=0.5) == (
        f"test_share=0.5 would do nothing: {folder} has a test share of its own, in test/."
    )
    assert refusal(folder, test_seed=3).startswith("test_seed=3 would do nothing: ")


# Layouts that are none

LAYOUTS: dict[str, tuple[dict[str, Content], list[str]]] = {
    "nothing": ({}, ["is without pictures", "JPEG, PNG, WebP, BMP, GIF or TIFF"]),
    "other files": ({"cat/a.txt": b"x", "cat/b.heic": b"x"}, ["is without pictures", "but 2 other files."]),
    "flat": ({"a.png": grey(1), "b.png": grey(2)}, ["no class folders", "--labels-csv FILE"]),
    "unlabeled alone": ({"unlabeled/a.png": grey(1)}, ["no class folders"]),
    "beside class folders": ({**classes(), "x.png": grey(1)}, ["1 pictures outside", "x.png", "into unlabeled/"]),
    "beside classes in train": ({**classes("train/"), "train/x.png": grey(1)}, ["1 pictures outside", "train/x.png"]),
    "beside classes in test": ({**classes(), "test/x.png": grey(1)}, ["outside its class folders", "test/x.png"]),
    "beside train": (
        {**classes("train/"), "unlabled/a.png": grey(1)},
        ["unlabled/ beside train/", "Did you mean 'unlabeled'?"],
    ),
    "validation beside train": ({**classes("train/"), **classes("val/")}, ["val/ beside train/", "test/ and unlab"]),
    "Train": ({**classes("Train/"), **classes("test/")}, ["a folder Train", "call it train"]),
    "class in test alone": (
        {**classes("train/"), **classes("test/", names=("cat", "Dog"))},
        ["'Dog' in test/ but not in train/", "Did you mean 'dog'?"],
    ),
    "class in test alone, plain": ({**classes(), "test/owl/a.png": grey(1)}, ["'owl' in test/ but not in the train"]),
    "unlabeled in train": (
        {**classes("train/"), "train/Unlabeled/1.png": grey(1)},
        ["train/Unlabeled would be a class: put it beside train/"],
    ),
    "one class": (classes(names=("cat",)), ["one class folder, cat, ", "at least two"]),
    "one folder too high": (classes("photos/"), ["one class folder, photos, ", "photos the folder to give?"]),
    "empty class": ({**classes(), "owl/a.txt": b""}, ["owl holds no picture", "take it away"]),
    "empty class in train": (
        {**classes("train/"), "train/owl/a.txt": b"", "test/owl/a.png": grey(3)},
        ["train/owl holds no picture"],
    ),
}


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(("files", "words"), LAYOUTS.values(), ids=LAYOUTS)
def test_other_layouts_are_refused(
    tmp_path: Path, files: dict[str, Content], words: list[str], as_zip: bool, request: pytest.FixtureRequest
) -> None:
    if as_zip and "one folder too high" in request.node.name:
        pytest.skip("a zip's only folder is stepped into")
    path = packed(tmp_path / "a.zip", files) if as_zip else write(tmp_path / "a", files)
    sentence = refusal(path)
    # A zip's only folder is stepped into.
    if as_zip and "one class" in request.node.name:
        words = ["no class folders"]
    assert str(path) in sentence
    assert [word for word in words if word not in sentence] == [], sentence


def test_an_empty_class_folder_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", classes())
    (folder / "owl").mkdir()
    assert refusal(folder) == f"The class folder {folder}/owl holds no picture: put some in, or take it away."
    zipped = packed(tmp_path / "a.zip", {**classes(), "owl/": b""})
    assert refusal(zipped).startswith(f"The class folder {zipped}/owl holds no picture")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing") == f"There is no folder or file {tmp_path / 'nothing'}."
    assert refusal(tmp_path / "nothing.zip") == f"There is no folder or file {tmp_path / 'nothing.zip'}."
    (tmp_path / "x.tar").write_text("")
    assert "a folder or .zip of pictures" in refusal(tmp_path / "x.tar")


def test_a_folder_may_be_given_relative_to_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path / "photos", classes()))
    assert load(".").name == "photos"
    monkeypatch.chdir(tmp_path)
    assert load("photos/").name == "photos"


# Tables


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return write(tmp_path / "flat", {**{f"{i}.png": grey(i) for i in range(6)}, "sub/ä.png": grey(7)})


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_table_labels_what_it_lists(flat: Path, tmp_path: Path, bom: str, newline: str) -> None:
    lines = ["label, file", "dog,4.png", 'cat,"0.png"', "", "cat,./sub/ä.png", "dog ,2.png"]
    (tmp_path / "l.csv").write_bytes((bom + newline.join(lines)).encode())
    data = load(flat, None, Options(labels_csv=tmp_path / "l.csv", test_share=0))
    assert data.classes == ("cat", "dog")
    assert data.y_train.tolist() == [0, -1, 1, -1, 1, -1, 0]


def test_a_table_among_the_pictures_is_no_file_that_is_ignored(flat: Path) -> None:
    csv = table(flat / "labels.csv", "0.png,a", "1.png,b")
    write(flat, {"notes.txt": b"", "other.csv": b""})
    assert load(flat, None, Options(labels_csv=csv)).found["ignored"] == {".csv": 1, ".txt": 1}


TABLES = {
    "missing file": (["file,label", "0.png,a", "1.pgn,b"], ["line 3", "no picture 1.pgn", "Did you mean '1.png'?"]),
    "no picture": (["file,label", "0.png,a", "notes.txt,b"], ["line 3", "no picture notes.txt"]),
    "outside": (["file,label", "../0.png,a"], ["line 2", "no picture ../0.png"]),
    "doubled": (["file,label", "0.png,a", "1.png,b", "./0.png,a"], ["line 4", "0.png stands in line 2 already"]),
    "empty label": (["file,label", "0.png,a", "1.png, "], ["line 3", "the label of 1.png is empty"]),
    "empty file": (["file,label", " ,a"], ["line 2", "the file is empty"]),
    "unknown column": (["file,lable", "0.png,a"], ["line 1", "'lable'", "file,label", "Did you mean 'label'?"]),
    "third column": (["file,label,split", "0.png,a,x"], ["line 1", "unknown column 'split'"]),
    "no header": (["0.png,a", "1.png,b"], ["line 1", "unknown column '0.png'", "header must be file,label"]),
    "semicolons": (["file;label", "0.png;a"], ["line 1", "unknown column 'file;label'"]),
    "column twice": (["file,file", "0.png,a"], ["line 1", "the header is file,file"]),
    "one column": (["file", "0.png"], ["line 1", "the header is file,"]),
    "short line": (["file,label", "0.png,a", "1.png"], ["line 3", "there are 1 fields"]),
    "long line": (["file,label", "0.png,a,b"], ["line 2", "there are 3 fields", "put quotes"]),
    "no line": (["file,label"], ["labels no file"]),
    "nothing": ([""], ["labels no file"]),
    "one class": (["file,label", "0.png,a", "1.png,a"], ["one label, 'a'", "at least two"]),
    "lines after a quoted break": (["file,label", '"0\n.png",a'], ["line 3", "no picture 0"]),
}


@pytest.mark.parametrize(("lines", "words"), TABLES.values(), ids=TABLES)
def test_a_mistake_in_a_table_is_named_with_its_line(
    flat: Path, tmp_path: Path, lines: list[str], words: list[str]
) -> None:
    path = tmp_path / "l.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError) as refused:
        load(flat, None, Options(labels_csv=path))
    sentence = str(refused.value)
    assert sentence.startswith(str(path))
    assert [word for word in words if word not in sentence] == [], sentence


def test_a_table_that_cannot_be_read_is_refused(flat: Path, tmp_path: Path) -> None:
    assert refusal(flat, labels_csv=tmp_path / "no.csv").startswith(f"There is no file {tmp_path / 'no.csv'}")
    assert "cannot be read (Is a directory)" in refusal(flat, labels_csv=tmp_path)
    (tmp_path / "l.csv").write_text("file,label\nä.png,a\n", encoding="utf-16")
    assert refusal(flat, labels_csv=tmp_path / "l.csv") == (
        f"{tmp_path / 'l.csv'} is no UTF-8 text: save it as CSV in UTF-8."
    )
    (tmp_path / "l.csv").write_text(f"file,label\n0.png,{'a' * 200_000}\n")
    assert refusal(flat, labels_csv=tmp_path / "l.csv").startswith(f"{tmp_path / 'l.csv'}, line 2: this is no CSV (")


def test_a_table_beside_class_folders_is_refused(tmp_path: Path) -> None:
    csv = table(tmp_path / "l.csv", "cat/0.png,cat", "dog/0.png,dog")
    for name, files in {"plain": classes(), "train": classes("train/")}.items():
        folder = write(tmp_path / name, files)
        assert refusal(folder, labels_csv=csv) == (
            f"labels_csv={csv} would do nothing: {folder} holds class folders, whose names are the labels; leave it "
            f"away, or put the pictures into one folder."
        )


def test_a_table_may_name_files_in_folders(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {f"photos/{name}": image for name, image in classes().items()})
    csv = table(tmp_path / "l.csv", "photos/cat/0.png,x", "photos/dog/0.png,y")
    assert sorted(load(folder, None, Options(labels_csv=csv)).y_train.tolist()) == [-1] * 8 + [0, 1]


# Options that a source cannot use


@pytest.mark.parametrize(
    "option", [{"image_size": 8}, {"image_mode": "grey"}, {"labels_csv": Path("l.csv")}, {"test_share": 0.1}]
)
def test_arrays_take_no_options(tmp_path: Path, option: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 4, 4), np.uint8), y_train=[0, 1])
    ((name, value),) = option.items()
    for source in ("digits", tmp_path / "a.npz"):
        assert refusal(Path(source) if source != "digits" else source, **option) == (  # type: ignore[arg-type]
            f"{name}={value} would do nothing: it is for files of pictures (a folder or a .zip), and {source} holds "
            f"arrays."
        )


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"image_size": 0}, "image_size is 0, but must be a whole number at least 1 and at most 4096, or none."),
        ({"image_mode": "gray"}, "Unknown image_mode 'gray': choose from auto, grey, rgb. Did you mean 'grey'?"),
        ({"test_share": 1.0}, "test_share is 1.0, but must be a finite number at least 0 and at most 0.9."),
        ({"test_seed": -1}, "test_seed is -1, but must be a whole number at least 0 and at most 2147483648."),
    ],
)
def test_options_have_the_ranges_of_the_settings(tmp_path: Path, option: dict[str, Any], sentence: str) -> None:
    assert refusal(write(tmp_path / "a", classes()), **option) == sentence


# Sizes and modes


def test_one_size_is_kept_and_several_need_a_word(tmp_path: Path) -> None:
    oblong = np.repeat(grey(1), 2, axis=1)
    assert load(write(tmp_path / "a", {"cat/1.png": oblong, "dog/1.png": oblong})).image_shape == (8, 16)
    folder = write(tmp_path / "b", {**classes(each=3), "dog/x.png": oblong, "cat/y.png": grey(1, 20)})
    assert refusal(folder) == (
        f"{folder} holds pictures of 3 sizes (8x8: 6, 16x8: 1, 20x20: 1): say with --image-size PX to what square all "
        f"of them are cut, such as --image-size 32."
    )
    data = load(folder, None, Options(image_size=12))
    assert data.image_shape == (12, 12)
    assert data.found["sizes"] == {"8x8": 6, "16x8": 1, "20x20": 1}


def test_pictures_are_grey_where_all_are(tmp_path: Path) -> None:
    colour = np.stack([grey(1), grey(2), grey(3)], axis=2)
    folder = write(tmp_path / "a", classes(each=2))
    assert load(folder).image_shape == (8, 8)
    assert load(folder, None, Options(image_mode="rgb")).image_shape == (8, 8, 3)
    write(folder, {"unlabeled/1.png": colour})
    data = load(folder)
    assert data.image_shape == (8, 8, 3)
    assert data.found["modes"] == {"L": 4, "RGB": 1}
    assert np.array_equal(data.x_train[-1], colour)
    assert np.array_equal(data.x_train[0], np.repeat(grey(0)[..., None], 3, axis=2))
    assert load(folder, None, Options(image_mode="grey")).image_shape == (8, 8)


def test_sizes_are_those_of_upright_pictures(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"cat/1.png": np.zeros((8, 16), np.uint8), "dog/1.png": np.ones((8, 16), np.uint8)})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.full((16, 8), 9, np.uint8)).save(folder / "dog" / "2.jpg", exif=exif)
    data = load(folder, None, ALL)
    assert data.image_shape == (8, 16)
    assert data.found["sizes"] == {"16x8": 3}


def test_what_no_machine_can_hold_is_refused_before_it_is_tried(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 600}[name])
    sentence = refusal(write(tmp_path / "a", classes()))
    assert "10 pictures of 8x8" in sentence
    assert "give a smaller --image-size" in sentence
    assert load(tmp_path / "a", None, Options(image_size=7)).image_shape == (7, 7)


# Files that are broken, and files that are no pictures


def test_broken_files_are_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    whole = encoded(grey(1, 30))
    stream = io.BytesIO()
    Image.fromarray(grey(1, 30)).save(stream, "JPEG")
    folder = write(
        tmp_path / "a",
        {
            **classes(each=4),
            "cat/cut.png": whole[: len(whole) // 2],
            "cat/cut.jpg": stream.getvalue()[:300],
            "dog/empty.png": b"",
            "dog/text.png": b"I am no picture",
            "unlabeled/text.jpg": b"nor am I",
            "unlabeled/notes.txt": b"",
            "dog/Thumbs.db": b"",
            "cat/.DS_Store": b"",
            "cat/._0.png": b"",
            "README": b"",
        },
    )
    data = load(folder, None, Options(test_share=0, image_size=8))
    assert data.y_train.tolist() == [0] * 4 + [1] * 4
    reasons = dict(data.skipped)
    assert [name for name, _ in data.skipped] == [
        *["cat/cut.jpg", "cat/cut.png", "dog/empty.png", "dog/text.png", "unlabeled/text.jpg"]
    ]
    assert reasons["dog/empty.png"] == "is empty"
    assert reasons["dog/text.png"] == reasons["unlabeled/text.jpg"] == "is no picture that can be read"
    assert reasons["cat/cut.png"].startswith("cannot be decoded (")
    assert reasons["cat/cut.jpg"].startswith("cannot be decoded (")
    assert data.found["skipped"] == {"labelled": 4, "unlabelled": 1}
    assert data.found["ignored"] == {".db": 1, ".txt": 1, "hidden": 2, "without suffix": 1}
    assert [np.array_equal(image, grey(i)) for i, image in enumerate(data.x_train[:4])] == [True] * 4


def test_a_broken_file_of_a_table_is_listed_as_labelled(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {**{f"{i}.png": grey(i) for i in range(6)}, "x.png": b"", "y.png": b""})
    csv = table(tmp_path / "l.csv", "0.png,a", "1.png,b", "x.png,b")
    data = load(folder, None, Options(labels_csv=csv))
    assert data.skipped == (("x.png", "is empty"), ("y.png", "is empty"))
    assert data.found["skipped"] == {"labelled": 1, "unlabelled": 1}
    assert data.y_train.tolist() == [0, 1, -1, -1, -1, -1]


def test_it_is_fatal_where_no_picture_or_no_class_is_left(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"cat/1.png": b"", "dog/1.png": b"x"})
    assert refusal(folder) == f"No picture of {folder} can be read, of 2 (the first: cat/1.png is empty)."
    write(folder, {"dog/2.png": grey(1)})
    assert refusal(folder) == (
        f"The class 'cat' of {folder} has no picture left to learn from, for 1 cannot be read (the first: cat/1.png is "
        f"empty): mend them, or leave the class away."
    )


def test_broken_files_do_not_count_for_the_held_out_share(tmp_path: Path) -> None:
    whole = load(write(tmp_path / "a", classes(each=10)))
    broken = load(write(tmp_path / "b", {**classes(each=10), "cat/00.png": b"", "dog/5a.png": b""}))
    assert broken.files_test == whole.files_test


def test_pictures_of_a_user(tmp_path: Path) -> None:
    """A thousand of mixed size, mode, format and orientation, of which twenty are broken."""
    files, broken = photographs(1000)
    assert len(broken) == 20
    data = load(write(tmp_path / "a", files), None, Options(image_size=16))
    assert data.image_shape == (16, 16, 3)
    assert len(data.x_train) + len(data.x_test) == 980
    assert [name for name, _ in data.skipped] == broken
    assert sum(data.found["sizes"].values()) == sum(data.found["modes"].values()) == 980
    assert data.found["modes"].keys() == {"L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16"}
    zipped = load(packed(tmp_path / "a.zip", files), None, Options(image_size=16))
    assert zipped.sha256 == data.sha256
    assert zipped.skipped == data.skipped


# Links


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    return write(tmp_path / "a", classes(each=2))


def test_a_loop_of_links_ends(linked: Path) -> None:
    (linked / "cat" / "loop").symlink_to(linked)
    (linked / "cat" / "self").symlink_to(".")
    (linked / "cat" / "up").symlink_to(linked.parent)
    (linked / "dog" / "other").symlink_to("../cat")
    data = load(linked, None, ALL)
    assert data.files_train == ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
    assert data.found["ignored"] == {"link": 4}


def test_a_loop_outside_ends_too(linked: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"x.png": grey(70), "deep/y.png": grey(71)})
    (outside / "deep" / "back").symlink_to(outside)
    (linked / "unlabeled").symlink_to(outside)
    data = load(linked, None, ALL)
    assert data.files_train[4:] == ("unlabeled/deep/y.png", "unlabeled/x.png")


def test_links_that_lead_out_are_followed(linked: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"owls/1.png": grey(80), "one.png": grey(81)})
    (linked / "owl").symlink_to(outside / "owls")
    (linked / "cat" / "9.png").symlink_to(outside / "one.png")
    data = load(linked, None, ALL)
    assert data.classes == ("cat", "dog", "owl")
    assert data.files_train == ("cat/0.png", "cat/1.png", "cat/9.png", "dog/0.png", "dog/1.png", "owl/1.png")


def test_links_that_lead_nowhere_are_listed(linked: Path) -> None:
    (linked / "cat" / "gone.png").symlink_to("nowhere.png")
    (linked / "cat" / "ring.png").symlink_to("ring.png")
    (linked / "cat" / "gone").symlink_to("nowhere")
    os.mkfifo(linked / "cat" / "pipe.png")
    data = load(linked, None, ALL)
    assert data.skipped == (
        ("cat/gone.png", "is a link that leads nowhere"),
        ("cat/pipe.png", "is no regular file"),
        ("cat/ring.png", "is a link that leads nowhere"),
    )
    assert len(data.x_train) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_what_may_not_be_opened_is_listed(linked: Path) -> None:
    write(linked, {"cat/shut/1.png": grey(1), "cat/mine.png": grey(2)})
    (linked / "cat" / "shut").chmod(0)
    (linked / "cat" / "mine.png").chmod(0)
    data = load(linked, None, ALL)
    (linked / "cat" / "shut").chmod(stat.S_IRWXU)
    assert data.skipped == (
        ("cat/mine.png", "cannot be opened (Permission denied)"),
        ("cat/shut", "cannot be opened (Permission denied)"),
    )


# Zips


def test_the_only_folder_of_a_zip_is_stepped_into(tmp_path: Path) -> None:
    files = {f"my photos/{name}": image for name, image in classes().items()}
    extra = {"__MACOSX/my photos/cat/._0.png": b"", "my photos/.DS_Store": b"", "my photos/.git/x.png": b""}
    data = load(packed(tmp_path / "a.zip", {**extra, **files, "README.txt": b""}), None, ALL)
    assert data.name == "a"
    assert data.files_train == tuple(classes())
    assert data.found["ignored"] == {".txt": 1, "hidden": 1}
    assert load(packed(tmp_path / "b.ZIP", classes("train/")), None, ALL).files_train == tuple(classes("train/"))


@pytest.mark.parametrize(
    "name", ["../x.png", "cat/../../x.png", "/etc/x.png", "cat\\x.png", "C:/x.png", "..", "cat/..\\x.png"]
)
def test_a_zip_with_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    path = packed(tmp_path / "a.zip", {**classes(), name: grey(1)})
    sentence = refusal(path)
    assert sentence.startswith(f"{path} holds a member named {name!r}, but names in a zip must be relative")
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip"}


def rewritten(path: Path, change: Callable[[zipfile.ZipInfo], None]) -> Path:
    """A zip whose directory says something else of its members than they are."""
    with zipfile.ZipFile(path, "a") as archive:
        for member in archive.infolist():
            change(member)
        archive._didModify = True  # type: ignore[attr-defined]
    return path


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", classes())
    content = path.read_bytes().replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\x01\0")
    path.write_bytes(content)
    assert refusal(path) == f"{path} is encrypted (cat/0.png): unpack it, and give the folder."


def test_a_zip_bomb_is_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grow(member: zipfile.ZipInfo) -> None:
        if member.filename == "cat/1.png":
            member.file_size = 2**30

    path = rewritten(packed(tmp_path / "a.zip", classes()), grow)
    assert refusal(path) == (
        f"{path} declares that cat/1.png unpacks to more than 256 MiB, which no picture should: if you trust it, "
        f"unpack it, and give the folder."
    )
    path = packed(tmp_path / "b.zip", {name: bytes(2**20) for name in classes()})
    monkeypatch.setattr(file_tree, "TOTAL_LIMIT", 4 * 2**20)
    assert "all of it unpacks to more than 4 MiB" in refusal(path)


def test_a_member_is_read_no_further_than_it_declares(tmp_path: Path) -> None:
    def shrink(member: zipfile.ZipInfo) -> None:
        if member.filename == "cat/1.png":
            member.file_size = 10

    data = load(rewritten(packed(tmp_path / "a.zip", classes()), shrink), None, ALL)
    ((name, reason),) = data.skipped
    assert name == "cat/1.png"
    assert reason.startswith("cannot be unpacked (") or "decoded" in reason


def test_a_damaged_member_is_listed_and_a_damaged_zip_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", classes())
    content = path.read_bytes()
    at = content.index(encoded(grey(1)))
    path.write_bytes(content[: at + 60] + b"????" + content[at + 64 :])
    ((name, reason),) = load(path, None, ALL).skipped
    assert (name, reason.split(" (")[0]) == ("cat/1.png", "cannot be unpacked")
    for damaged in (content[: len(content) // 2], b"", b"no zip"):
        path.write_bytes(damaged)
        assert refusal(path) == f"{path} cannot be read as a zip: it is damaged or something else."


def test_names_of_a_zip_in_utf8_without_the_flag_are_read(tmp_path: Path) -> None:
    """As the archiver of macOS writes them; the names are in the file twice, before each member and at the end."""
    path = packed(tmp_path / "a.zip", classes(names=("cat", "doXX")))
    path.write_bytes(path.read_bytes().replace(b"doXX", "doé".encode()))
    assert load(path).classes == ("cat", "doé")


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", classes())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("cat/0.png", encoded(grey(50)))
    assert refusal(path) == f"{path} holds two files named cat/0.png: rename one of them."


def test_nothing_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.zip", classes())
    monkeypatch.setenv("SSGAN_CACHE", "off")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_files_and_rows_agree() -> None:
    x, y = np.zeros((2, 4, 4), np.uint8), np.array([0, 1])
    with pytest.raises(UserError, match="files_train names 3 files, but must name one for each of the 2 rows"):
        Data(x, y, x, y, ("a", "b"), files_train=("1", "2", "3"))

"""Folders of images: their layouts, classes, names and order, and the share held out for testing."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_on_disk import ALL, Content, classes, encoded, grey, packed, table, write
from PIL import Image
from refused_data import refusal

from ssgan.data.datasets import load
from ssgan.data.image_folder import draw_test_rows
from ssgan.settings.options import Options

pytestmark = pytest.mark.usefixtures("temporary_cache")


# The same pictures as folders, zip, table and arrays


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


def test_reads_train_unlabeled_and_test_folders(tmp_path: Path) -> None:
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
    assert data.file_counts["sizes"] == {"8x8": 12}
    assert data.file_counts["modes"] == {"L": 12}


def test_class_folders_may_lie_beside_unlabeled_and_test(tmp_path: Path) -> None:
    data = load(
        write(tmp_path / "a", {**classes(each=3), **classes("test/", 1, first=500), "unlabelled/x.png": grey(9)})
    )
    assert data.classes == ("cat", "dog")
    assert data.y_train.tolist() == [0, 0, 0, 1, 1, 1, -1]
    assert data.y_test.tolist() == [0, 1]


def test_class_folders_are_read_recursively(tmp_path: Path) -> None:
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


def test_undecodable_file_names_are_escaped(tmp_path: Path) -> None:
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


def test_control_characters_in_file_names_are_escaped(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a", {**classes(each=1), "cat/\x1b[2J\n.png": b""}), None, ALL)
    assert data.skipped == (("cat/\\x1b[2J\\x0a.png", "is empty"),)


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", {**classes(each=6), "unlabeled/x/1.png": grey(77), "unlabeled/a.png": grey(78)})
    expected, listed = load(tmp_path / "a"), os.scandir
    with monkeypatch.context() as patch:
        patch.setenv("SSGAN_CACHE", "off")
        patch.setattr(os, "scandir", lambda place: sorted(listed(place), key=lambda entry: entry.name, reverse=True))
        assert load(tmp_path / "a").sha256 == expected.sha256


def test_picture_suffixes_are_case_insensitive(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", classes(each=1))
    for i, (suffix, form) in enumerate(
        [(".JPG", "JPEG"), (".jpeg", "JPEG"), (".webp", "WEBP"), (".bmp", "BMP"), (".Gif", "GIF"), (".tiff", "TIFF")]
    ):
        Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(folder / "cat" / f"{i}{suffix}", form)
    data = load(folder, None, Options(test_share=0, image_mode="grey"))
    assert data.y_train.tolist() == [0] * 7 + [1]
    assert data.file_counts["ignored"] == {}
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
    assert draw_test_rows(y, 0.25, 0).tolist() == [1, 9, 16, 21]


@pytest.mark.parametrize(
    ("count", "share", "held"),
    [(1, 0.9, 0), (2, 0.2, 0), (2, 0.9, 1), (3, 0.2, 1), (7, 0.2, 1), (8, 0.2, 2), (10, 0.25, 3), (5, 0.0, 0)],
)
def test_the_held_out_share_is_rounded_and_leaves_one_for_training(count: int, share: float, held: int) -> None:
    y = np.array([-1, *[0] * count, -1, 1])
    rows = draw_test_rows(y, share, 3)
    assert len(rows) == held
    assert (y[rows] == 0).all()
    assert np.array_equal(rows, np.unique(rows))


def test_held_out_rows_of_a_class_do_not_depend_on_other_classes() -> None:
    y = np.array([0] * 10 + [1] * 10)
    more = np.array([0] * 17 + [1] * 10)
    ours, theirs = draw_test_rows(y, 0.3, 5), draw_test_rows(more, 0.3, 5)
    assert (ours[ours >= 10] - 10).tolist() == (theirs[theirs >= 17] - 17).tolist()


def test_a_class_with_one_picture_keeps_it_for_training(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a", {**classes(each=10), "owl/1.png": grey(500)}))
    assert data.classes == ("cat", "dog", "owl")
    assert np.bincount(data.y_test, minlength=3).tolist() == [2, 2, 0]
    assert np.bincount(data.y_train).tolist() == [8, 8, 1]


def test_an_empty_test_folder_counts_as_no_test_set(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", classes(each=10))
    (folder / "test").mkdir()
    assert len(load(folder).y_test) == 4


def test_refuses_test_split_options_beside_a_test_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {**classes("train/"), **classes("test/")})
    assert refusal(folder, test_share=0.5) == (
        f"test_share=0.5 has no effect: {folder} has a test set of its own, in test/."
    )
    assert refusal(folder, test_seed=3).startswith("test_seed=3 has no effect: ")


# Layouts that are refused

LAYOUTS: dict[str, tuple[dict[str, Content], list[str]]] = {
    "empty folder": ({}, ["has no pictures", "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC"]),
    "other files": ({"cat/a.txt": b"x", "cat/b.mov": b"x"}, ["has no pictures", "but 2 other files."]),
    "flat": ({"a.png": grey(1), "b.png": grey(2)}, ["no class folders", "--labels-csv FILE"]),
    "only unlabeled": ({"unlabeled/a.png": grey(1)}, ["no class folders"]),
    "file beside class folders": ({**classes(), "x.png": grey(1)}, ["1 picture outside", "x.png", "into unlabeled/"]),
    "file beside classes in train": (
        {**classes("train/"), "train/x.png": grey(1)},
        ["1 picture outside", "train/x.png"],
    ),
    "file beside classes in test": (
        {**classes(), "Test/x.png": grey(1)},
        ["outside its class folders (the first: Test/x.png): Test/ has class folders of its own."],
    ),
    "misspelt folder beside train": (
        {**classes("train/"), "unlabled/a.png": grey(1)},
        ["unlabled/ next to train/", "Did you mean 'unlabeled'?"],
    ),
    "validation beside train": ({**classes("train/"), **classes("val/")}, ["val/ next to train/", "test/ and unlab"]),
    "class only in test": (
        {**classes("train/"), **classes("test/", names=("cat", "Dog"))},
        ["'Dog' in test/ but not in train/", "Did you mean 'dog'?"],
    ),
    "class only in test, without train": (
        {**classes(), "test/owl/a.png": grey(1)},
        ["'owl' in test/ but not in the train"],
    ),
    "unlabeled in train": (
        {**classes("train/"), "train/Unlabeled/1.png": grey(1)},
        ["train/Unlabeled would be a class: put it next to train/"],
    ),
    "one class": (classes(names=("cat",)), ["one class folder, cat, ", "at least two"]),
    "one folder too high": (classes("photos/"), ["one class folder, photos, ", "photos the folder to give?"]),
    "empty class": ({**classes(), "owl/a.txt": b""}, ["owl holds no picture", "or remove it"]),
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
    assert refusal(folder) == f"The class folder {folder}/owl holds no picture: put some in, or remove it."
    zipped = packed(tmp_path / "a.zip", {**classes(), "owl/": b""})
    assert refusal(zipped).startswith(f"The class folder {zipped}/owl holds no picture")


def test_a_class_with_labels_only_in_test_is_refused(tmp_path: Path) -> None:
    names = ("cat", "dog")
    folder = write(tmp_path / "a", {**classes(each=1, names=names), **classes("test/", 1, names, 500)})
    lines = [f"{above}{name}/0.png,{name},t,folder" for above in ("", "test/") for name in names]
    csv = table(folder / "labels.csv", *lines, "dog/0.png,cat,t,label", header="file,label,time,action")
    assert refusal(folder, labels_csv=csv) == (
        f"The class 'dog' of {folder} has labels only in test/: label a picture of it outside test/, or remove its "
        f"labels there."
    )


def test_reports_missing_folder_or_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing") == f"There is no folder or file {tmp_path / 'nothing'}."
    assert refusal(tmp_path / "nothing.zip") == f"There is no folder or file {tmp_path / 'nothing.zip'}."
    (tmp_path / "x.tar").write_text("")
    assert "a folder or .zip of pictures" in refusal(tmp_path / "x.tar")


def test_accepts_relative_folder_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path / "photos", classes()))
    assert load(".").name == "photos"
    monkeypatch.chdir(tmp_path)
    assert load("photos/").name == "photos"


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return write(tmp_path / "flat", {**{f"{i}.png": grey(i) for i in range(6)}, "sub/ä.png": grey(7)})


# Options that a source cannot use


@pytest.mark.parametrize(
    "option", [{"image_size": 8}, {"image_mode": "grey"}, {"labels_csv": Path("l.csv")}, {"test_share": 0.1}]
)
def test_refuses_picture_options_for_arrays(tmp_path: Path, option: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 4, 4), np.uint8), y_train=[0, 1])
    ((name, value),) = option.items()
    for source in ("digits", tmp_path / "a.npz"):
        assert refusal(Path(source) if source != "digits" else source, **option) == (  # type: ignore[arg-type]
            f"{name}={value} has no effect: it is for files of pictures (a folder or a .zip), and {source} holds "
            f"arrays."
        )


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"image_size": 0}, "image_size is 0, but must be an integer at least 1 and at most 4096, or none."),
        ({"image_mode": "gray"}, "Unknown image_mode 'gray': choose from auto, grey, rgb. Did you mean 'grey'?"),
        ({"test_share": 1.0}, "test_share is 1.0, but must be a finite number at least 0 and at most 0.9."),
        ({"test_seed": -1}, "test_seed is -1, but must be an integer at least 0 and at most 2147483648."),
    ],
)
def test_refuses_option_values_that_settings_refuse(tmp_path: Path, option: dict[str, Any], sentence: str) -> None:
    assert refusal(write(tmp_path / "a", classes()), **option) == sentence

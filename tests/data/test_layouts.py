"""Layouts of users' folders and zips: capitals, backslashes, a wrong folder level, and vague names."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import ALL, classes, encoded, grey, packed, table, write
from refused_data import refusal

from ssgan.data.datasets import load
from ssgan.settings.options import Options

pytestmark = pytest.mark.usefixtures("temporary_cache")

POOL = {"unlabeled/0.png": grey(900), "unlabeled/1.png": grey(901)}


# Capitals


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(
    "names", [("Train", "Test", "Unlabeled"), ("TRAIN", "test", "UNLABELLED"), ("", "Test", "UnLabeled")]
)
def test_train_test_and_unlabeled_folder_names_ignore_case(
    tmp_path: Path, names: tuple[str, str, str], as_zip: bool
) -> None:
    train, test, unlabeled = names
    files = {
        **classes(f"{train}/" if train else "", 3),
        **classes(f"{test}/", 2, first=500),
        **{f"{unlabeled}/{i}.png": grey(900 + i) for i in range(2)},
    }
    data = load(packed(tmp_path / "a.zip", files) if as_zip else write(tmp_path / "a", files))
    assert data.classes == ("cat", "dog")
    assert sorted(data.y_train.tolist()) == [-1, -1, 0, 0, 0, 1, 1, 1]
    assert data.y_test.tolist() == [0, 0, 1, 1]
    assert data.notes == ()


def test_refuses_test_folders_that_differ_only_in_case(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {**classes(), "Test/cat/1.png": grey(50), "test/cat/2.png": grey(51)})
    assert refusal(path) == f"{path} holds Test/ and test/: put their pictures into one folder."


def test_unconditional_gan_does_not_train_on_the_test_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"1.png": grey(1), "2.png": grey(2), "Test/3.png": grey(3)})
    assert load(folder, None, Options(classes=False)).files_test == ("Test/3.png",)


@pytest.mark.parametrize(("name", "share"), [("training", "train"), ("Validation", "test"), ("testing", "test")])
def test_refuses_other_names_of_the_train_and_test_folders(tmp_path: Path, name: str, share: str) -> None:
    folder = write(tmp_path / "a", {**classes(f"{name}/"), **classes("other/", first=500)})
    assert refusal(folder) == (
        f"{folder} holds {name}/ with folders in it, which would be a class: rename it to {share}/ if its folders are "
        f"the classes, or remove it."
    )
    assert load(write(tmp_path / "b", classes(names=(name, "resting")))).classes == tuple(sorted((name, "resting")))


# Zips


def test_a_zip_with_backslashes_is_read(tmp_path: Path) -> None:
    files = {**classes(), **POOL}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in {"photos/": b"", **{f"photos/{name}": image for name, image in files.items()}}.items():
            member = zipfile.ZipInfo("x")
            member.filename = member.orig_filename = name.replace("/", "\\")
            archive.writestr(member, encoded(content))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.infolist()[0].orig_filename == "photos\\"
    data = load(tmp_path / "a.zip", None, ALL)
    assert data.files_train == tuple(files)
    assert data.file_counts["ignored"] == {}
    assert data.sha256 == load(packed(tmp_path / "b.zip", files), None, ALL).sha256


def test_zip_with_nested_single_folders_is_read(tmp_path: Path) -> None:
    path = packed(tmp_path / "nest.zip", {f"a/b/c/{name}": image for name, image in {**classes(), **POOL}.items()})
    assert load(path, None, ALL).files_train == (*classes(), *POOL)
    # A single class folder is not skipped: its pictures would lose their class.
    assert "one class folder, cat, but at least two" in refusal(packed(tmp_path / "b.zip", {"x/cat/1.png": grey(1)}))


# Wrong folder level


def test_the_folder_that_is_suggested_can_be_given(tmp_path: Path) -> None:
    folder = write(tmp_path / "nest", {f"a/b/{name}": image for name, image in classes().items()})
    assert refusal(folder) == (
        f"{folder} holds one class folder, a, but at least two classes are needed: is {folder}/a/b the folder to give?"
    )
    assert load(folder / "a" / "b").classes == ("cat", "dog")


def test_no_path_inside_a_zip_is_suggested(tmp_path: Path) -> None:
    nested = {f"nest/letters/{name}": image for name, image in classes().items()}
    path = packed(tmp_path / "nest.zip", {**nested, **POOL})
    assert refusal(path) == (
        f"{path} holds one class folder, nest, but at least two classes are needed: if nest/letters holds the "
        f"classes, move its folders to where nest is."
    )
    path = packed(tmp_path / "train.zip", {f"train/letters/{name}": image for name, image in classes().items()})
    assert refusal(path).endswith("if train/letters holds the classes, move its folders to where train/letters is.")


def test_reports_unread_folders_beside_train_or_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {**classes("train/"), **classes("test/", 2, first=500), **POOL}
    folder = write(tmp_path / "my letters", files)
    assert load(folder / "train").notes == (
        f"{folder}/train lies next to test/ and unlabeled/, not read here: `ssgan data '{folder}'` shows what the "
        f"folder above gives, with all of them.",
    )
    monkeypatch.chdir(tmp_path)
    assert (
        load("my letters/test").notes[0].startswith("my letters/test lies next to train/ and unlabeled/, not read here")
    )
    assert "`ssgan data 'my letters'`" in load("my letters/test").notes[0]
    monkeypatch.chdir(folder / "train")
    assert load(".").notes[0].startswith(". lies next to test/ and unlabeled/, not read here: `ssgan data ..`")
    assert load(folder).notes == ()
    alone = write(tmp_path / "b", classes("train/"))
    assert load(alone / "train").notes == ()


# Vague names


@pytest.mark.parametrize("name", ["unknown", "Other", "misc", "un-sorted", "NA", "nan", "None", "not labelled"])
def test_vague_folder_name_is_a_class_and_gives_a_note(tmp_path: Path, name: str) -> None:
    data = load(write(tmp_path / "a", {**classes(), f"{name}/1.png": grey(901)}))
    assert name in data.classes
    note = f"{name} is a class here: if its pictures have no label, rename the folder to unlabeled"
    assert data.notes == (f"{note}.",)
    data = load(write(tmp_path / "b", {**classes("train/"), f"train/{name}/1.png": grey(901)}))
    assert data.notes == (f"{note}, next to train/.",)


@pytest.mark.parametrize("name", ["unlabled", "Unlabeld", "tests"])
def test_reports_misspelt_unlabeled_and_test_folders(tmp_path: Path, name: str) -> None:
    data = load(write(tmp_path / "a", {**classes(), f"{name}/1.png": grey(901)}))
    (note,) = data.notes
    assert note.startswith(f"{name} is a class here: rename the folder to {'test' if name == 'tests' else 'unlabel'}")


def test_minus_one_is_never_a_class(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {**classes(), "-1/1.png": grey(901)})
    assert refusal(folder) == (
        f"{folder}/-1 would be a class, but -1 means that there is no label: rename it to unlabeled."
    )
    folder = write(tmp_path / "b", {**classes("train/"), "train/-1/1.png": grey(901)})
    assert refusal(folder).endswith("rename it to unlabeled and put it next to train/.")
    x, y = np.zeros((3, 4, 4), np.uint8), [0, 1, 2]
    np.savez(tmp_path / "c.npz", x_train=x, y_train=y, classes=["-1", "a", "b"])
    assert refusal(tmp_path / "c.npz") == (
        f"{tmp_path / 'c.npz'}: A class is named '-1', but -1 marks unlabelled images: give those images the label -1, "
        f"and remove the class."
    )
    csv = table(tmp_path / "l.csv", "0.png,a", "1.png,b", "2.png,-1")
    flat = write(tmp_path / "flat", {f"{i}.png": grey(i) for i in range(3)})
    assert load(flat, None, Options(labels_csv=csv)).classes == ("a", "b")


# Few pictures in colour among grey ones


def test_reports_few_colour_pictures_among_grey_ones(tmp_path: Path) -> None:
    colour = np.stack([grey(1), grey(2), grey(3)], axis=2)
    folder = write(tmp_path / "a", {**classes(each=20), "cat/scan7.png": colour, "dog/scan9.png": colour[::-1]})
    data = load(folder)
    assert data.image_shape == (8, 8, 3)
    assert data.notes == (
        "All pictures are read in colour, because 2 of 42 are stored in colour (cat/scan7.png, dog/scan9.png); --set "
        "image_mode=grey makes all grey.",
    )
    assert load(folder).notes == data.notes  # from the cache
    for mode in ("grey", "rgb"):
        assert load(folder, None, Options(image_mode=mode)).notes == ()  # type: ignore[arg-type]
    write(folder, {f"cat/c{i}.png": np.roll(colour, i, 0) for i in range(1, 8)})
    assert load(folder).notes == ()  # no longer few


# Missing folders and files


def test_suggests_folders_and_files_with_similar_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "photos", classes())
    packed(tmp_path / "letters.zip", classes())
    write(tmp_path / "runs", {"x.txt": b""})
    monkeypatch.chdir(tmp_path)
    assert refusal("phots") == "There is no folder phots. Did you mean photos?"
    assert refusal("./phots") == "There is no folder phots. Did you mean photos?"
    assert refusal(tmp_path / "phots") == f"There is no folder {tmp_path}/phots. Did you mean {tmp_path}/photos?"
    assert refusal("leters.zip") == "There is no file leters.zip. Did you mean letters.zip?"
    assert refusal("photos.zip") == "There is no folder photos.zip. Did you mean photos?"
    assert refusal("digts").endswith(" Did you mean 'digits'?")
    assert refusal("rns").startswith("Unknown data set 'rns': choose from digits")  # no picture is in runs
    assert refusal("no/such") == "There is no folder or file no/such."
    assert refusal("phots/cat") == "There is no folder phots/cat. Did you mean photos/cat?"
    assert refusal("phots/owl") == "There is no folder or file phots/owl."


def test_quoted_tilde_expands_to_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path / "flat", {f"{i}.png": grey(i) for i in range(4)})
    table(tmp_path / "l.csv", "0.png,a", "1.png,b")
    assert load("~/flat", None, Options(labels_csv=Path("~/l.csv"))).classes == ("a", "b")
    assert refusal("~/flatt") == f"There is no folder {tmp_path}/flatt. Did you mean {tmp_path}/flat?"
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "~" / "flat", classes())  # a folder whose name is ~
    assert load("~/flat").classes == ("cat", "dog")


def test_reports_unused_answers_of_the_labelling_page(tmp_path: Path) -> None:
    answers = "file,label,time,action\n0.png,cat,t,label\n1.png,dog,t,label\n"
    beside = write(tmp_path / "beside", classes())
    flat = write(tmp_path / "flat", {f"{i}.png": grey(i) for i in range(4)})
    for folder in (beside, flat):
        (folder / "labels.csv").write_text(answers)
    sentence = "{0}/labels.csv holds labels that were given in `ssgan label`: --labels-csv {0}/labels.csv uses them."
    assert sentence.format(beside) in load(beside, None, ALL).notes
    assert refusal(flat).endswith(sentence.format(flat))
    assert load(flat, None, Options(labels_csv=flat / "labels.csv", test_share=0)).notes == ()
    (beside / "labels.csv").write_text("name,price\nx,1\n")
    assert load(beside, None, ALL).notes == ()

"""Tables of labels beside images: their columns, names and encodings, and tables that are refused."""

from pathlib import Path

import pytest
from pictures_on_disk import classes, grey, table, write
from refused_data import refusal

from ssgan.data.datasets import load
from ssgan.errors import UserError
from ssgan.settings.options import Options

pytestmark = pytest.mark.usefixtures("cache_of_its_own")


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
    assert load(flat, None, Options(labels_csv=csv)).file_counts["ignored"] == {".csv": 1, ".txt": 1}


TABLES = {
    "missing file": (["file,label", "0.png,a", "1.pgn,b"], ["line 3", "no picture 1.pgn", "Did you mean '1.png'?"]),
    "no picture": (["file,label", "0.png,a", "notes.txt,b"], ["line 3", "no picture notes.txt"]),
    "outside": (["file,label", "../9.png,a"], ["line 2", "no picture ../9.png"]),
    "doubled": (["file,label", "0.png,a", "1.png,b", "./0.png,a"], ["line 4", "0.png stands in line 2 already"]),
    "empty labels": (["file,label", "0.png,", "1.png, "], ["labels no file", "2 of 2 lines", "(empty)"]),
    "empty file": (["file,label", " ,a"], ["line 2", "the file is empty"]),
    "unknown column": (["file,lable", "0.png,a"], ["line 1", "the header is file,lable", "Did you mean 'label'?"]),
    "no header": (["0.png,a", "1.png,b"], ["line 1", "the header is 0.png,a, but needs a column of files (file, "]),
    "column twice": (["file,file,label", "0.png,1.png,a"], ["line 1", "each of file and file could be the file"]),
    "two of labels": (
        ["file,class,target", "0.png,cat,3"],
        ["line 1", "each of class and target could be the label: call the right one label."],
    ),
    "one column": (["file", "0.png"], ["line 1", "the header is file, but needs"]),
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
    for content, reason in {
        b"file,label\n\x81.png,a\n": "is no text in UTF-8, UTF-16 or Windows-1252: save it as CSV in UTF-8.",
        b"PK\x03\x04 of a workbook": "is a workbook or an archive, no text: save its sheet as CSV.",
    }.items():
        (tmp_path / "l.csv").write_bytes(content)
        assert refusal(flat, labels_csv=tmp_path / "l.csv") == f"{tmp_path / 'l.csv'} {reason}"
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

"""Label tables: columns, file names, encodings, missing labels, and tables that are refused."""

import io
import time
from pathlib import Path
from typing import Any

import pytest
from pictures_on_disk import classes, grey, table, write
from refused_data import refusal

from ssgan.data.datasets import load
from ssgan.data.file_tree import FileTree
from ssgan.data.label_table import MISSING, match_pictures, read_label_table
from ssgan.errors import UserError
from ssgan.settings.options import Options

pytestmark = pytest.mark.usefixtures("temporary_cache")


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


def test_label_table_among_the_pictures_is_not_counted_as_ignored(flat: Path) -> None:
    csv = table(flat / "labels.csv", "0.png,a", "1.png,b")
    write(flat, {"notes.txt": b"", "other.csv": b""})
    assert load(flat, None, Options(labels_csv=csv)).file_counts["ignored"] == {".csv": 1, ".txt": 1}


TABLES = {
    "missing file": (["file,label", "0.png,a", "1.pgn,b"], ["line 3", "no picture 1.pgn", "Did you mean '1.png'?"]),
    "no picture": (["file,label", "0.png,a", "notes.txt,b"], ["line 3", "no picture notes.txt"]),
    "outside the folder": (["file,label", "../9.png,a"], ["line 2", "no picture ../9.png"]),
    "file listed twice": (["file,label", "0.png,a", "1.png,b", "./0.png,a"], ["line 4", "0.png is in line 2 already"]),
    "empty labels": (
        ["file,label", "0.png,", "1.png, "],
        ["gives no picture of", "write the labels", "2 of 2 lines", "(empty)"],
    ),
    "empty file name": (["file,label", " ,a"], ["line 2", "the file is empty"]),
    "unknown column": (["file,lable", "0.png,a"], ["line 1", "the header is file,lable", "Did you mean 'label'?"]),
    "no header": (["0.png,a", "1.png,b"], ["line 1", "the header is 0.png,a, but needs a column of files (file, "]),
    "column twice": (["file,file,label", "0.png,1.png,a"], ["line 1", "each of file and file could be the file"]),
    "two label columns": (
        ["file,class,target", "0.png,cat,3"],
        ["line 1", "each of class and target could be the label: call the right one label."],
    ),
    "one column": (["file", "0.png"], ["line 1", "the header is file, but needs"]),
    "short line": (["file,label", "0.png,a", "1.png"], ["line 3", "there are 1 fields"]),
    "long line": (["file,label", "0.png,a,b"], ["line 2", "there are 3 fields", "quote each field with a comma"]),
    "no lines": (["file,label"], ["labels no file"]),
    "empty table": ([""], ["labels no file"]),
    "one class": (["file,label", "0.png,a", "1.png,a"], ["one label, 'a'", "at least two"]),
    "quoted line break": (["file,label", '"0\n.png",a'], ["line 3", "no picture 0"]),
}


@pytest.mark.parametrize(("lines", "words"), TABLES.values(), ids=TABLES)
def test_refuses_tables_with_mistakes_and_reports_the_line(
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
        b"file,label\n\x81.png,a\n": "is not text in UTF-8, UTF-16 or Windows-1252: save it as CSV in UTF-8.",
        b"PK\x03\x04 of a workbook": "is a workbook or an archive, not text: save its sheet as CSV.",
    }.items():
        (tmp_path / "l.csv").write_bytes(content)
        assert refusal(flat, labels_csv=tmp_path / "l.csv") == f"{tmp_path / 'l.csv'} {reason}"
    (tmp_path / "l.csv").write_text(f"file,label\n0.png,{'a' * 200_000}\n")
    assert refusal(flat, labels_csv=tmp_path / "l.csv").startswith(f"{tmp_path / 'l.csv'}, line 2: this is not CSV (")


def test_a_table_beside_class_folders_is_refused(tmp_path: Path) -> None:
    csv = table(tmp_path / "l.csv", "cat/0.png,cat", "dog/0.png,dog")
    for name, files in {"plain": classes(), "train": classes("train/")}.items():
        folder = write(tmp_path / name, files)
        assert refusal(folder, labels_csv=csv) == (
            f"labels_csv={csv} has no effect: {folder} holds class folders, whose names are the labels; omit "
            f"it, or put the pictures into one folder."
        )


def test_missing_table_is_reported_as_missing_not_as_unused(tmp_path: Path) -> None:
    """With a wrong file name; also beside class folders, whose pictures a table of answers may relabel."""
    for name, files in {"flat": {"0.png": grey(0), "1.png": grey(9)}, "classes": classes()}.items():
        folder = write(tmp_path / name, files)
        assert refusal(folder, labels_csv=tmp_path / "l.csv").startswith(f"There is no file {tmp_path / 'l.csv'}: ")


def test_a_table_may_name_files_in_folders(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {f"photos/{name}": image for name, image in classes().items()})
    csv = table(tmp_path / "l.csv", "photos/cat/0.png,x", "photos/dog/0.png,y")
    assert sorted(load(folder, None, Options(labels_csv=csv)).y_train.tolist()) == [-1] * 8 + [0, 1]


# Tables of spreadsheets and other programs

PLAIN = [("0.png", "cat"), ("1.png", "dog"), ("2.png", "Käfer")]


def written(
    path: Path, delimiter: str = ",", header: tuple[str, str] = ("file", "label"), encoding: str = "utf-8"
) -> Path:
    path.write_bytes("".join(delimiter.join(row) + "\r\n" for row in [header, *PLAIN]).encode(encoding))
    return path


def labels_of(folder: Path, csv: Path, **options: Any) -> dict[str, str]:
    """The label of each labelled picture."""
    data = load(folder, None, Options(labels_csv=csv, test_share=0, **options))
    return {name: data.classes[y] for name, y in zip(data.files_train, data.y_train, strict=True) if y >= 0}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_and_encodings_of_spreadsheets_are_read(
    flat: Path, tmp_path: Path, delimiter: str, encoding: str
) -> None:
    assert labels_of(flat, written(tmp_path / "l.csv", delimiter, encoding=encoding)) == dict(PLAIN)


def test_reports_windows_1252_encoding(flat: Path, tmp_path: Path) -> None:
    csv = written(tmp_path / "l.csv", encoding="cp1252")
    data = load(flat, None, Options(labels_csv=csv))
    assert f"{csv} is not UTF-8: it was read as Windows-1252." in data.notes


@pytest.mark.parametrize(
    "header",
    [
        *[("filename", "class"), ("file_name", "label"), ("image", "target"), ("File Name", "Category")],
        *[("IMG_PATH", "Species"), ("path", "class_name"), ("image_id", "y")],
    ],
)
def test_common_column_names_are_recognised(flat: Path, tmp_path: Path, header: tuple[str, str]) -> None:
    assert labels_of(flat, written(tmp_path / "l.csv", header=header)) == dict(PLAIN)


def test_prefers_columns_file_and_label_and_reports_unused_columns(flat: Path, tmp_path: Path) -> None:
    csv = tmp_path / "l.csv"
    csv.write_text("sep=;\n;path;file;label;class;note;\n0;x;0.png;cat;9;;\n1;y;1.png;dog;8;so; \n")
    assert labels_of(flat, csv) == {"0.png": "cat", "1.png": "dog"}
    notes = load(flat, None, Options(labels_csv=csv)).notes
    assert notes == (f"Columns of {csv} that are not used: one without a name, path, class, note.",)


NAMES = {
    "Windows path": "C:\\Users\\me\\pictures\\sub\\ä.png",
    "another machine": "/home/me/pictures/sub/ä.png",
    "another folder": "elsewhere/ä.png",
    "base name": "ä.png",
    "upper-case suffix": "sub/Ä.PNG",
    "no suffix": "ä",
    "no suffix, with a folder": "flat/sub/ä",
    "file URL": "file:///home/me/sub/ä.png",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_picture_is_found_by_its_base_name(flat: Path, tmp_path: Path, name: str) -> None:
    csv = table(tmp_path / "l.csv", f"{name},cat", "0.png,dog")
    assert labels_of(flat, csv) == {"sub/ä.png": "cat", "0.png": "dog"}
    (note,) = load(flat, None, Options(labels_csv=csv)).notes
    assert note == (f"1 of 2 lines of {csv} name a picture by another path or spelling, such as {name} for sub/ä.png.")


def test_absolute_paths_and_paths_relative_to_the_table_match_exactly(tmp_path: Path) -> None:
    files = {f"{folder}/{i}.png": grey(10 * k + i) for k, folder in enumerate("ab") for i in range(2)}
    folder = write(tmp_path / "flat", {"x.png": grey(77), **files})
    csv = table(folder / "a" / "l.csv", f"{folder}/b/0.png,cat", "1.png,dog")
    assert labels_of(folder, csv) == {"b/0.png": "cat", "a/1.png": "dog"}


def test_refuses_ambiguous_names_in_a_table_in_a_subfolder(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "t", {f"{above}{i}.png": grey(10 * k + i) for k, above in enumerate(("", "new/")) for i in (0, 1)}
    )
    csv = table(folder / "new" / "l.csv", "0.png,cat", f"{folder}/1.png,dog", "new/1.png,cat")
    for name in ("0.png", "0", "0.PNG"):
        table(csv, f"{name},cat", f"{folder}/1.png,dog", "new/1.png,cat")
        assert refusal(folder, labels_csv=csv) == (
            f"{csv}, line 2: {name} may be {folder}/0.png or {folder}/new/0.png: write new/0.png, or if the first is "
            f"meant move the table to {folder}."
        )
    assert labels_of(folder, csv.rename(folder / "l.csv")) == {"0.png": "cat", "1.png": "dog", "new/1.png": "cat"}


def test_labelling_page_answers_apply_to_the_folder_of_the_table(tmp_path: Path) -> None:
    """Also if the parent folder has pictures of the same names, and if a picture of the folder was removed."""
    header = "file,label,time,action"
    lines = [f"{i}.png,{label},t,label" for i, label in enumerate(("cat", "dog", "cat"))]
    folder = write(
        tmp_path / "t", {"new/0.png": grey(0), "new/1.png": grey(1), **{f"{i}.png": grey(9 - i) for i in range(3)}}
    )
    csv = table(folder / "new" / "labels.csv", *lines, header=header)
    assert labels_of(folder, csv) == {"new/0.png": "cat", "new/1.png": "dog"}
    note = f"{csv} names 1 picture no longer there, such as 2.png."
    assert load(folder, None, Options(labels_csv=csv)).notes == (note,)
    # The pictures may have been moved to the parent folder.
    (folder / "new" / "0.png").unlink()
    (folder / "new" / "1.png").unlink()
    assert labels_of(folder, csv) == {"0.png": "cat", "1.png": "dog", "2.png": "cat"}


def test_equal_base_names_are_matched_by_their_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "flat", {"0.png": grey(0), "a/0.png": grey(1), "b/0.png": grey(2), "b/1.png": grey(3)})
    csv = table(tmp_path / "l.csv", "D:\\x\\a\\0.png,cat", "/y/flat/0.png,dog", "1,owl")
    assert labels_of(folder, csv) == {"a/0.png": "cat", "0.png": "dog", "b/1.png": "owl"}
    assert refusal(folder, labels_csv=table(tmp_path / "l.csv", "c/0.png,cat", "1,dog")) == (
        f"{tmp_path / 'l.csv'}, line 2: c/0.png may be 0.png or a/0.png or b/0.png: write its path."
    )


def test_many_equal_base_names_are_matched_quickly(tmp_path: Path) -> None:
    """Microscopes and phones reuse names: 3,000 pictures took half an hour when each row read all the others."""
    names = [f"{i}/scan.png" for i in range(3000)]
    tree = FileTree(tmp_path / "flat", tuple(names), frozenset(), {}, (), "", lambda name: io.BytesIO())
    csv = table(tmp_path / "l.csv", *(f"old/{name},{'cat' if i % 2 else 'dog'}" for i, name in enumerate(names)))
    began = time.process_time()
    labels = match_pictures(read_label_table(csv), tree).labels
    assert time.process_time() - began < 10
    assert labels == {name: "cat" if i % 2 else "dog" for i, name in enumerate(names)}


def test_refuses_two_labels_of_one_picture_by_base_name(flat: Path, tmp_path: Path) -> None:
    csv = table(tmp_path / "l.csv", "0.png,cat", "other/0.png,dog", "1.png,dog")
    assert refusal(flat, labels_csv=csv) == (f"{csv}, line 3: other/0.png is in line 2 already (as 0.png): keep one.")


def test_all_problems_are_listed_at_once(flat: Path, tmp_path: Path) -> None:
    csv = table(tmp_path / "l.csv", "0.png,cat", "0.png,dog", "1.png", *(f"no{i}.png,cat" for i in range(10)))
    sentence = refusal(flat, labels_csv=csv)
    assert sentence.startswith(
        f"{csv} has 12 lines that cannot be used: line 3: 0.png is in line 2 already: keep one; line 4: there are "
        f"1 fields, but the header has 2: quote each field with a comma; line 5: {flat} holds no picture "
        f"no0.pn"
    )
    assert sentence.endswith("; and 2 more.")
    assert [f"line {i}:" in sentence for i in (2, 3, 12, 13)] == [False, True, True, False]


# Missing labels


@pytest.mark.parametrize("word", sorted(MISSING | {"-1", "-1.0", " "}))
def test_words_for_a_missing_label_are_not_classes(flat: Path, tmp_path: Path, word: str) -> None:
    csv = table(tmp_path / "l.csv", "0.png,cat", "1.png,dog", f"2.png,{word}", f"3.png,{word}", "4.png,cat")
    data = load(flat, None, Options(labels_csv=csv, test_share=0))
    assert data.classes == ("cat", "dog")
    assert data.y_train.tolist() == [0, 1, -1, -1, 0, -1, -1]
    shown = word.strip() or "empty"
    assert data.notes == (f"2 of 5 lines of {csv} have no label ({shown}): those pictures are unlabelled.",)


def test_other_words_are_classes(flat: Path, tmp_path: Path) -> None:
    """For example `none`, which is not a missing value for pandas either."""
    csv = table(tmp_path / "l.csv", "0.png,none", "1.png,0", "2.png,1.0", "3.png,-2", "4.png,NONE", "5.png,,")
    assert set(labels_of(flat, csv).values()) == {"none", "0", "1.0", "-2", "NONE"}


def test_each_word_for_a_missing_label_is_counted(flat: Path, tmp_path: Path) -> None:
    csv = table(tmp_path / "l.csv", "0.png,cat", "1.png,dog", "2.png,nan", "3.png,", "4.png,nan")
    assert load(flat, None, Options(labels_csv=csv)).notes == (
        f"3 of 5 lines of {csv} have no label (nan: 2, empty: 1): those pictures are unlabelled.",
    )


def test_label_words_setting_makes_missing_label_words_classes(flat: Path, tmp_path: Path) -> None:
    csv = table(tmp_path / "l.csv", "0.png,NA", "1.png,None", "2.png,nan", "3.png,-1")
    assert labels_of(flat, csv, label_words="NA, None") == {"0.png": "NA", "1.png": "None"}
    (note,) = load(flat, None, Options(labels_csv=csv, label_words="NA, None")).notes
    assert note == f"2 of 4 lines of {csv} have no label (nan: 1, -1: 1): those pictures are unlabelled."
    assert refusal(flat, labels_csv=csv, label_words="NA,-1") == (
        "label_words is 'NA,-1', but -1 always means that there is no label."
    )
    assert refusal(flat, labels_csv=csv, label_words="cat").startswith(
        "label_words=cat has no effect: cat is a label, none of #N/A, "
    )
    assert refusal(write(tmp_path / "b", classes()), label_words="NA") == (
        f"label_words=NA has no effect: it is for the labels of a table, and {tmp_path / 'b'} has none."
    )


def test_vague_label_is_a_class_and_gives_a_note(flat: Path, tmp_path: Path) -> None:
    csv = table(tmp_path / "l.csv", "0.png,cat", "1.png,Unknown")
    data = load(flat, None, Options(labels_csv=csv))
    assert data.classes == ("Unknown", "cat")
    assert data.notes == (
        f"Unknown is a class in {csv}: if that means that there is no label, leave the cell empty, which means "
        f"unlabelled.",
    )


def test_suggests_a_table_with_a_similar_name(flat: Path, tmp_path: Path) -> None:
    table(tmp_path / "labels.csv", "0.png,cat", "1.png,dog")
    missing = tmp_path / "lables.csv"
    assert refusal(flat, labels_csv=missing) == (
        f"There is no file {missing}: --labels-csv names a table of file,label. Did you mean {tmp_path / 'labels.csv'}?"
    )

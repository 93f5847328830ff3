"""The table of answers: its content on disk, its repair, and how training reads it."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_on_disk import classes, grey, write
from refused_data import refusal

from ssgan.data.datasets import load
from ssgan.data.label_log import HEADER, complete_length, is_log
from ssgan.data.label_table import read_label_table
from ssgan.errors import Busy, UserError
from ssgan.labeling import store as stores
from ssgan.labeling.store import Change, LabelStore, check_class_name, open_store, timestamp
from ssgan.settings.options import Options
from ssgan.table_files import decode_text


def read(path: Path) -> dict[str, str | None]:
    """Return the label of each picture as training reads the table: from the last line of the picture."""
    return {row.file: row.label for row in read_label_table(path).rows}


def test_answers_and_undo_are_appended_as_lines(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert store.append([Change("a.png", "cat", "label"), Change("b, c.png", 'say "dog"', "label")]) == [1, 1]
        assert store.append([Change("a.png", "dog", "label")]) == [2]
        assert store.undo([("a.png", 2)]) == []
        assert store["a.png"] is not None
        assert store["a.png"].label == "cat"
        assert store.append([Change("b, c.png", "", "skip")]) == [2]
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert [line.split(",")[-1] for line in lines] == ["action", "label", "label", "label", "undo", "skip"]
    assert lines[4].startswith("a.png,cat,")
    assert read(tmp_path / "labels.csv") == {"a.png": "cat", "b, c.png": None}
    assert not (tmp_path / ".labels.csv.lock").exists()


def test_undo_requires_the_current_version(tmp_path: Path) -> None:
    with open_store(tmp_path, {"a.png": "cat"}) as store:
        assert store.undo([("a.png", 1)]) == ["a.png"]  # the label is of its folder, not an answer of the user
        store.append([Change("a.png", "dog", "label")])
        store.append([Change("a.png", "cow", "label")])
        assert store.undo([("a.png", 2)]) == ["a.png"]
        assert store.undo([("a.png", 3), ("a.png", 3)]) == []
        assert store.undo([("a.png", 3)]) == ["a.png"]
        assert store.undo([("a.png", 2)]) == []
        assert store.version("a.png") == 1


CONTENT = b'file,label,time,action\na.png,cat,t,label\n"b,c.png",dog,t,label\n'


@pytest.mark.parametrize("length", range(len(CONTENT) + 1))
def test_truncated_table_is_repaired_and_read_correctly(tmp_path: Path, length: int) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(CONTENT[:length])
    whole = sum(length >= end for end in (CONTENT.index(b"\n", len(HEADER) + 1), len(CONTENT) - 1))
    answers: dict[str, str | None] = dict([("a.png", "cat"), ("b,c.png", "dog")][:whole])
    if whole:  # as training reads the truncated file
        assert read(path) == answers
    with open_store(tmp_path) as store:
        store.append([Change("ä.png", "cow", "label")])
    assert read(path) == {**answers, "ä.png": "cow"}


def test_truncated_utf8_character_is_not_taken_for_another_encoding() -> None:
    line = HEADER + b"\n" + "ä.png,müll,t,label".encode()
    assert complete_length(line) == len(line)
    assert complete_length(line[: line.index(b"\xbc")]) == len(HEADER) + 1


def test_table_saved_by_a_spreadsheet_is_converted_back_to_utf8(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with open_store(tmp_path) as store:
        store.append([Change("Käse 1.png", "Käse", "label"), Change("b.png", "Brot", "label")])
    path.write_bytes(path.read_text().replace("\n", "\r\n").encode("cp1252"))
    with open_store(tmp_path) as store:
        assert store.notes == [f"{path} was in the format of a spreadsheet, and is now in UTF-8 with commas."]
        store.append([Change("Stühle 2.png", "Käse", "label")])
    with open_store(tmp_path) as store:
        assert store.notes == []
        assert store.label_counts() == {"Käse": 2, "Brot": 1}
    assert read(path) == {"Käse 1.png": "Käse", "b.png": "Brot", "Stühle 2.png": "Käse"}
    # Later answers are in UTF-8, and the last line has no line break.
    mixed = (
        HEADER + b"\nK\xe4se.png,K\xe4se,t,label\n" + "Stühle.png,Käse,t,label\n".encode() + b"z\xfc.png,Brot,t,label"
    )
    path.write_bytes(mixed)
    assert read(path) == {"Käse.png": "Käse", "Stühle.png": "Käse", "zü.png": "Brot"}
    with open_store(tmp_path) as store:
        assert store.label_counts() == {"Käse": 2, "Brot": 1}
    assert read(path) == {"Käse.png": "Käse", "Stühle.png": "Käse", "zü.png": "Brot"}
    path.write_bytes(HEADER + b"\na.png,\x81,t,label\n")
    with pytest.raises(UserError, match="is neither UTF-8 nor Windows-1252"), open_store(tmp_path):
        pass


@pytest.mark.parametrize(
    "save",
    [
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace(",", ";").encode("cp1252"),
        lambda text: text.replace("\n", "\r\n").encode("utf-16"),
        lambda text: text.replace("file,label,time,action", '"File","Label","Time","Action"').encode(),
    ],
    ids=["carriage returns", "semicolons", "UTF-16", "quoted header"],
)
def test_table_in_any_spreadsheet_format_is_read_and_converted_back(
    tmp_path: Path, save: Callable[[str], bytes]
) -> None:
    """Regression test: with carriage returns, all answers were removed as an incomplete last line."""
    path = tmp_path / "labels.csv"
    with open_store(tmp_path) as store:
        store.append(
            [Change("ä 1.png", "Käse", "label"), Change("b.png", "Brot", "label"), Change("c.png", "", "skip")]
        )
    own = path.read_text()
    path.write_bytes(save(own))
    assert is_log(path.read_bytes())
    assert read(path) == {"ä 1.png": "Käse", "b.png": "Brot", "c.png": None}
    is_utf8 = decode_text(path.read_bytes()) is not None
    assert len(read_label_table(path).notes) == (0 if is_utf8 else 1)
    with open_store(tmp_path) as store:
        assert store.notes == [f"{path} was in the format of a spreadsheet, and is now in UTF-8 with commas."]
        assert store.label_counts() == {"Käse": 1, "Brot": 1}
    assert path.read_text() == own


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (b"sep=;\r\nfile;label;time;action\r\na.png;cat;1;label\r\n", {"a.png": "cat"}),
        (b"\r\nfile;label;time;action;\r\na.png;cat;1;label;\r\n", {"a.png": "cat"}),
        (b"file, label, time, action\na.png, cat, 1, label\nb.png, dog, 2, label\n", {"a.png": "cat", "b.png": "dog"}),
        (
            b'file,label,time,action\ra.png,cat,1,label\r"x\ny.png",cat,1,label\r',
            {"a.png": "cat", "x\\x0ay.png": "cat"},
        ),
        (b"file;label;time;action\r\na.png;cat;1;label\r\nb.png;do", {"a.png": "cat"}),
        ("file;label;time;action\na.png;cat;1;label\nb.png;犬".encode()[:-1], {"a.png": "cat"}),
        ("file;label;time;action\r\n犬.png;cat;1;label".encode("utf-16"), {"犬.png": "cat"}),
    ],
)
def test_spreadsheet_lines_are_kept_except_a_truncated_line(
    tmp_path: Path, content: bytes, labels: dict[str, str]
) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    assert is_log(content)
    assert read(path) == labels
    with open_store(tmp_path) as store:
        assert store.label_counts().total() == len(labels)
        assert any("last line" in note for note in store.notes) == content.endswith((b"do", "犬".encode()[:-1]))
    assert read(path) == labels
    assert path.read_bytes().startswith(HEADER + b"\n")


def test_a_line_without_an_action_is_kept(tmp_path: Path) -> None:
    """Regression test: the last line was ignored without a message."""
    path = tmp_path / "labels.csv"
    path.write_bytes(b"file;label;time;action\r\na.png;cat;1;label\r\nb.png;dog;;\r\n")
    for _ in range(2):
        assert read(path) == {"a.png": "cat", "b.png": "dog"}
        with open_store(tmp_path) as store:
            assert store.label_counts() == {"cat": 1, "dog": 1}


def test_truncated_utf8_character_in_own_format_has_no_note(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(HEADER + b"\na.png,Hund,1,label\nb.png,K\xc3")
    assert read_label_table(path).notes == []


def test_open_store_refuses_a_second_server(tmp_path: Path) -> None:
    with (
        open_store(tmp_path),
        pytest.raises(Busy, match="Another `ssgan label` is writing "),
        open_store(tmp_path),
    ):
        pass


def test_table_with_other_columns_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\na.png,cat\n")
    with pytest.raises(UserError, match="other columns than file,label,time,action, so no answer can be added"):
        LabelStore(tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == "file,label\na.png,cat\n"


def test_a_table_that_another_program_changes_is_not_written_to(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.append([Change("a.png", "cat", "label")])
        with (tmp_path / "labels.csv").open("a") as stream:
            stream.write("b.png,dog,t,label\n")
        with pytest.raises(UserError, match="Another program has changed"):
            store.append([Change("c.png", "cat", "label")])
        assert store["c.png"] is None
    assert read(tmp_path / "labels.csv") == {"a.png": "cat", "b.png": "dog"}


def test_answer_is_discarded_if_fsync_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with open_store(tmp_path) as store:
        store.append([Change("a.png", "cat", "label")])
        before = (tmp_path / "labels.csv").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(stores.os, "fsync", fail)
            with pytest.raises(OSError, match="No space left"):
                store.append([Change("b.png", "cat", "label")])
        assert (tmp_path / "labels.csv").read_bytes() == before
        assert store["b.png"] is None
        assert store.append([Change("b.png", "dog", "label")]) == [1]


def test_an_answer_is_synced_before_it_is_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    with open_store(tmp_path) as store:
        fsync = os.fsync
        monkeypatch.setattr(stores.os, "fsync", lambda handle: (fsync(handle), synced.append(os.fstat(handle).st_size)))
        store.append([Change("a.png", "cat", "label")])
        assert synced == [(tmp_path / "labels.csv").stat().st_size]


NAMES = st.sampled_from(["a.png", "b,c.png", 'd"e.png'])
STEPS = st.lists(
    st.tuples(
        NAMES, st.sampled_from(["label", "none", "skip", "undo", "open again"]), st.sampled_from(["cat", "NA", "d,g"])
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_the_last_line_of_a_picture_is_its_answer(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("steps")
    store = LabelStore(folder / "labels.csv")
    for name, action, label in steps:
        if action == "open again":
            store = LabelStore(folder / "labels.csv")
        elif action == "undo":
            store.undo([(name, store.version(name))])
        else:
            store.append([Change(name, label if action == "label" else "", action)])
    again = LabelStore(folder / "labels.csv")
    assert [again[name] for name in store.files] == [store[name] for name in store.files]
    if store.files:
        labels = {name: answer.label or None if (answer := store[name]) else None for name in store.files}
        assert read(folder / "labels.csv") == labels


@pytest.mark.parametrize(
    ("text", "words"),
    [("  ", "needs a name"), ("-1", "no label"), ("Unlabeled", "no label"), ("a\nb", "a line break"), ("x" * 81, "80")],
)
def test_refuses_invalid_class_names(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_class_name(text)


def test_known_class_is_found_case_insensitively() -> None:
    assert check_class_name(" Cat ", ["cat"]) == "cat"
    assert check_class_name(" Cat ") == "Cat"
    assert check_class_name("\U0001f468\u200d\U0001f469") == "\U0001f468\u200d\U0001f469"  # one character on the screen


# How training reads the table


def test_a_training_reads_the_table_beside_the_pictures(tmp_path: Path) -> None:
    folder = write(tmp_path / "flat", {f"{i}.png": grey(i) for i in range(6)})
    with open_store(folder) as store:
        store.append([Change(f"{i}.png", "NA" if i % 2 else "cat", "label") for i in range(4)])
        store.append([Change("0.png", "", "none"), Change("4.png", "", "skip"), Change("gone.png", "cat", "label")])
        store.undo([("3.png", 1)])
    data = load(folder, None, Options(labels_csv=folder / "labels.csv", test_share=0))
    assert data.classes == ("NA", "cat")
    labels = dict(zip(data.files_train, data.y_train.tolist(), strict=True))
    assert labels == {"1.png": 0, "2.png": 1, "3.png": -1, "4.png": -1, "5.png": -1}
    assert data.x_train.shape[0] == 5
    notes = " ".join(data.notes)
    assert "1 picture of none of the classes left out" in notes
    assert "1 picture without a label, because skipped" in notes
    assert "names 1 picture no longer there, such as gone.png" in notes
    assert "not used" not in notes


def test_picture_of_no_class_is_excluded_again_after_undo(tmp_path: Path) -> None:
    folder = write(tmp_path / "flat", {f"{i}.png": grey(i) for i in range(4)})
    with open_store(folder) as store:
        store.append([Change("0.png", "cat", "label"), Change("1.png", "dog", "label"), Change("2.png", "", "none")])
        store.append([Change("2.png", "cat", "label"), Change("3.png", "", "none")])
        store.undo([("2.png", 2), ("3.png", 1)])
    data = load(folder, None, Options(labels_csv=folder / "labels.csv", test_share=0))
    assert data.files_train == ("0.png", "1.png", "3.png")


def test_label_of_missing_picture_is_not_given_to_another_of_the_same_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "flat", {"x/1.png": grey(1), "2.png": grey(2), "3.png": grey(3)})
    with open_store(folder) as store:
        store.append(
            [Change("y/1.png", "cat", "label"), Change("2.png", "cat", "label"), Change("3.png", "dog", "label")]
        )
    data = load(folder, None, Options(labels_csv=folder / "labels.csv", test_share=0))
    assert dict(zip(data.files_train, data.y_train.tolist(), strict=True)) == {"2.png": 0, "3.png": 1, "x/1.png": -1}


def test_the_table_holds_the_labels_of_class_folders_too(tmp_path: Path) -> None:
    files = {**classes(each=2), "unlabeled/1.png": grey(7), "test/cat/2.png": grey(8)}
    folder = write(tmp_path / "mixed", files)
    with open_store(
        folder, {"cat/0.png": "cat", "cat/1.png": "cat", "dog/0.png": "dog", "test/cat/2.png": "cat"}
    ) as store:
        store.append([Change("unlabeled/1.png", "dog", "label"), Change("cat/1.png", "dog", "label")])
    data = load(folder, None, Options(labels_csv=folder / "labels.csv"))
    labels = dict(zip(data.files_train, data.y_train.tolist(), strict=True))
    assert labels == {"cat/0.png": 0, "cat/1.png": 1, "dog/0.png": 1, "dog/1.png": -1, "unlabeled/1.png": 1}
    assert data.files_test == ("test/cat/2.png",)


def test_refuses_other_label_tables_with_class_folders(tmp_path: Path) -> None:
    folder = write(tmp_path / "mixed", classes(each=2))
    (folder / "l.csv").write_text("file,label\ncat/0.png,dog\n")
    assert "holds class folders" in refusal(folder, labels_csv=folder / "l.csv")


def test_review_start_is_kept_by_the_content_of_its_table(tmp_path: Path) -> None:
    """Not by the time of the file: pictures may be labelled after the list was written, and clocks differ."""
    table, other = tmp_path / "a.csv", tmp_path / "b.csv"
    table.write_text("file\n1.png\n")
    other.write_text("file\n2.png\n")
    os.utime(table, (2**32, 2**32))
    with open_store(tmp_path) as store:
        began = store.review_start(table)
        assert began <= timestamp()
        time.sleep(0.002)
        assert store.review_start(other) > began
    with open_store(tmp_path) as store:
        assert store.review_start(table) == began


def test_a_table_that_another_program_has_edited_in_place_is_not_written(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.append([Change("1.png", "a", "label")])
        content = store.path.read_bytes()
        time.sleep(0.01)
        store.path.write_bytes(content.replace(b"1.png,a", b"1.png,b"))  # of the same length
        with pytest.raises(UserError, match="Another program has changed"):
            store.append([Change("2.png", "a", "label")])

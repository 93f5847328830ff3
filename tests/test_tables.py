"""Output tables: each format can be read back, and files are written completely or not at all."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ssgan.errors import UserError
from ssgan.table_files import check_table_path, open_table

COLUMNS = ["file", "class", "p"]
ROWS: list[list[Any]] = [['ü, "quoted"\nline.png', "猫", 0.125], ["b", None, None], ["", "=1+1", 1e-07]]


def write(path: Path, rows: list[list[Any]]) -> bytes:
    with open_table(str(path), COLUMNS) as add:
        for row in rows:
            add(row)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return path.read_bytes()


def test_csv_is_read_back(tmp_path: Path) -> None:
    content = write(tmp_path / "a.csv", ROWS)
    head, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    assert head == COLUMNS
    assert rows == [["" if cell is None else str(cell) for cell in row] for row in ROWS]
    assert b"\r" not in content


def test_json_and_json_lines_can_be_read_back(tmp_path: Path) -> None:
    expected = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
    assert json.loads(write(tmp_path / "a.json", ROWS)) == expected
    (tmp_path / "a.json").unlink()
    assert json.loads(write(tmp_path / "a.json", [])) == []
    (tmp_path / "a.json").unlink()
    lines = write(tmp_path / "a.JSONL", ROWS).decode().splitlines()
    assert [json.loads(line) for line in lines] == expected


def test_file_name_that_is_not_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    assert write(tmp_path / "a.csv", [[name, "a", 1]]) == b"file,class,p\ncaf\xe9.png,a,1\n"


def test_rows_go_to_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    with open_table("-", COLUMNS) as add:
        add([os.fsdecode(b"\xe9"), "ü", 0.5])
    assert raw.getvalue() == b"file,class,p\n\xe9," + "ü,0.5\n".encode()
    assert not raw.closed


def test_header_is_written_to_standard_output_with_the_first_row(capsys: pytest.CaptureFixture[str]) -> None:
    """An error before it prints nothing; a table without rows has its header."""
    with pytest.raises(UserError), open_table("-", COLUMNS):
        raise UserError("No image could be read.")
    assert capsys.readouterr().out == ""
    with open_table("-", COLUMNS):
        pass
    assert capsys.readouterr().out == "file,class,p\n"


def test_error_keeps_the_existing_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("mine")
    with (
        pytest.raises(ValueError, match="argument 2"),
        open_table(str(tmp_path / "a.json"), COLUMNS) as add,
    ):
        add(["too", "few"])
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "mine")]


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_nan_is_refused_and_nothing_is_written(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path / f"a.{suffix}", [["a", "b", float("nan")]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("a.txt", "must end in .csv, .jsonl or .json, or be -"),
        ("predictions", "must end in"),
        ("folder.csv", "which is a folder"),
        ("gone/a.csv", "which lies in gone, which is not a folder"),
        ("file/a.csv", "which lies in file, which is not a folder"),
    ],
)
def test_output_path_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.csv").mkdir()
    Path("file").touch()
    for attempt in (
        lambda: check_table_path(out),
        lambda: open_table(out, COLUMNS).__enter__(),
    ):
        with pytest.raises(UserError, match=words):
            attempt()

"""Names that are not UTF-8 or contain control characters, in all input and output."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures_on_disk import classes, write
from running import last_object, status_of

import ssgan
from ssgan import runs
from ssgan.cli import terminal
from ssgan.errors import visible
from ssgan.files import path_from_text, path_to_text
from ssgan.table_files import open_table

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

TINY = ["--preset", "vectors", "--labels", "6", "--set", "total_images=100", "--set", "batch_size=10"]
TINY += ["--set", "init_images=10", "--set", "discriminator_widths=16,8", "--set", "generator_widths=16"]
TINY += ["--device", "cpu"]
NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CLASSES = ("caf\udce9", "Éclair", "x\n\x1b]0;title\x07")
REPORTED_CLASSES = ["caf\\udce9", "x\\x0a\\x1b]0;title\\x07", "Éclair"]  # the same as in earlier versions


def folder() -> Path:
    """Write a folder of pictures whose names are not UTF-8, not ASCII, or contain control characters."""
    return write(Path("lat\udce9 é"), classes(each=4, names=CLASSES))


# Terminal output: one line without control characters


@given(st.text(st.characters(exclude_categories=())))
def test_visible_is_printable_and_idempotent(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert visible(shown) == shown
    assert shown == text or not text.isprintable()
    assert shown.encode() or not text


def test_visible_escapes_only_unprintable_characters() -> None:
    assert visible("Éclair 猫 \\ 100 %") == "Éclair 猫 \\ 100 %"
    assert visible("\x1b[31mred\x1b]0;t\x07\n\u202e\udce9\ud800") == r"\x1b[31mred\x1b]0;t\x07\n\u202e\xe9\ud800"
    assert visible("lat\udcc3\udca9\n") == "laté\\n"  # UTF-8 bytes read in a locale without UTF-8


@pytest.mark.parametrize("name", ["\x1b[31mred\x1b]0;title\x07", "two\nlines", "\u202eevil", "bell\x07"])
def test_terminal_functions_escape_control_characters(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(name)
    terminal.note(name)
    terminal.warn(name)
    terminal.table(["class", "n"], [[name, 1], ["other", 22]], left=1)
    terminal.show_settings([("name", name, "")])
    said = capsys.readouterr()
    lines = [*said.out.splitlines(), *said.err.splitlines()]
    assert len(lines) == 7
    assert all(line.isprintable() for line in lines)
    assert sum(visible(name) in line for line in lines) == 5
    table = said.out.splitlines()[1:4]
    assert len({len(line) for line in table}) == 1  # columns are aligned


def test_names_of_classes_are_escaped_by_every_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The names come from an .npz, which may hold any text; JSON output keeps them unchanged."""
    names = ["\x1b[31mred\x1b]0;title\x07", "two\nlines", "plain"]
    random = np.random.RandomState(0)
    x, y = random.randint(0, 256, (60, 8, 8), np.uint8), np.arange(60) % 3
    np.savez("a.npz", x_train=x, y_train=y, x_test=x, y_test=y, classes=np.array(names))
    commands: list[list[str]] = [
        ["data", "a.npz"],
        ["train", "a.npz", "--out", "run", *TINY],
        ["data", "run"],
        ["evaluate", "run", "--device", "cpu"],
        ["sample", "run", "--per-class", "--device", "cpu"],
        ["predict", "run", "a.npz", "--device", "cpu", "--out", "t.csv"],
        ["compare", "a.npz", "--labels", "6", "--methods", "knn", "--seeds", "1", "--out", "r.jsonl"],
        ["report", "r.jsonl", "--out", "page"],
        ["data", "a.npz", "--labels", "1"],
    ]
    for command in commands:
        assert status_of(*command) == (2 if command[-1] == "1" and command[0] == "data" else 0)
        said = capsys.readouterr()
        assert all(line.isprintable() for line in (said.out + said.err).split("\n")), command
    assert status_of("data", "a.npz", "--json") == 0
    assert last_object(capsys.readouterr().out)["classes"] == names
    assert (
        names[0] in Path("t.csv").read_text() or names[1] in Path("t.csv").read_text()
    )  # the table keeps the name unchanged


def test_messages_with_names_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("data", "no\x1b[2Jset\nat all") == 2
    assert capsys.readouterr().err.startswith(r"ssgan: Unknown data set 'no\x1b[2Jset\nat all'")
    assert status_of("train", "digits", "--lab\x1b[2Jels") == 2
    assert "\x1b" not in capsys.readouterr().err


# Paths


@pytest.mark.parametrize("text", ["plain", "Éclair", "lat\udce9", "猫\udcff"])
def test_path_to_text_round_trip(text: str) -> None:
    assert path_from_text(path_to_text(text)) == text
    assert path_to_text(Path("a") / text) == f"a/{text}"


def test_path_conversions_keep_lone_surrogates() -> None:
    assert path_from_text("\ud800") == "\ud800"
    assert path_to_text("\ud800\udce9"[1:]) == "\udce9"


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_tables_accept_text_that_is_not_utf8(suffix: str) -> None:
    with open_table(f"t.{suffix}", ["file"]) as write_row:
        write_row(["lat\udce9\ud800"])
    content = Path(f"t.{suffix}").read_bytes()
    assert (b"lat\xe9\\ud800" in content) is (suffix == "csv")
    assert suffix == "csv" or json.loads(content.decode().splitlines()[suffix == "json"])["file"] == "lat\udce9\ud800"


def test_every_command_accepts_paths_that_are_not_utf8(capsys: pytest.CaptureFixture[str]) -> None:
    data, run = str(folder()), "r\udcffn"
    assert status_of("data", data) == 0
    assert f"{visible(data)}: 9 images" in capsys.readouterr().out
    assert status_of("train", data, "--out", run, *TINY, "--json") == 0
    report = last_object(capsys.readouterr().out)
    assert report["classes"] == REPORTED_CLASSES
    assert report["source"]["data"] == os.path.abspath(data)
    for command in (["evaluate", run, "--json"], ["data", run, "--json"], ["sample", run, "--json"]):
        assert status_of(*command) == 0
        last_object(capsys.readouterr().out)
    assert status_of("predict", run, data, "--out", "o\udce9.jsonl", "--json", "--device", "cpu") == 0
    rows = [json.loads(line) for line in Path("o\udce9.jsonl").read_text().splitlines()]
    assert {row["file"] for row in rows} == {f"{data}/{name}" for name in classes(each=4, names=CLASSES)}
    assert status_of("train", data, "--out", run, "--resume") == 0
    comparison = [
        "compare",
        data,
        "--labels",
        "6",
        "--methods",
        "knn,supervised",
        "--seeds",
        "1",
        *TINY[4:-4],
        "--device",
        "cpu",
    ]
    Path("d\udce9").mkdir()
    assert status_of(*comparison, "--out", "d\udce9/r.jsonl") == 0
    assert status_of("report", "d\udce9/r.jsonl", "--out", "p\udce9") == 0
    capsys.readouterr()
    assert status_of(*comparison, "--out", "r\udce9.jsonl") == 2
    assert capsys.readouterr().err.startswith("ssgan: --out is r\\xe9.jsonl, whose name is not UTF-8")
    assert Path("p\udce9", "report.html").read_text(encoding="utf-8")


def run_program(*arguments: str, **changes: str) -> "subprocess.CompletedProcess[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(Path(ssgan.__file__).parents[1]), "OMP_NUM_THREADS": "1", **changes}
    command = [sys.executable, "-m", "ssgan.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, timeout=120)


@pytest.mark.slow
def test_a_locale_without_utf8_gives_the_same_data_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Files written in one locale can be read in the other, in both directions."""
    data = str(folder())
    assert status_of("data", data, "--json") == 0
    expected = last_object(capsys.readouterr().out)
    done = run_program("data", data, "--json", **NO_UTF8)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == expected
    run = "é\udce9"
    done = run_program("train", data, "--out", run, *TINY, **NO_UTF8)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert runs.read_report(Path(run))["source"]["data"] == os.path.abspath(data)
    assert status_of("evaluate", run, "--device", "cpu") == 0
    shutil.rmtree(run)
    assert status_of("train", data, "--out", run, *TINY) == 0
    done = run_program("evaluate", run, "--device", "cpu", **NO_UTF8)
    assert done.returncode == 0, done.stderr
    done = run_program("predict", run, data, "--device", "cpu", **NO_UTF8)
    assert done.returncode == 0, done.stderr
    assert os.fsencode(data) in done.stdout


def test_load_escapes_lone_surrogates_in_npz_class_names(npz_of: Callable[..., Any]) -> None:
    from ssgan.data import load

    data = load(npz_of(np.array(["\ud800", "b"])))
    assert data.classes == ("\\ud800", "b")


@pytest.fixture
def npz_of(tmp_path: Path) -> Callable[..., Path]:
    def make(names: np.ndarray) -> Path:
        x = np.random.RandomState(0).randint(0, 256, (8, 8, 8), np.uint8)
        np.savez(tmp_path / "n.npz", x_train=x, y_train=np.arange(8) % 2, classes=names)
        return tmp_path / "n.npz"

    return make

"""Output at 80 columns: no line is longer, no description is truncated, and no command is split."""

from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from running import status_of
from small_configs import TINY_OPTIONS

from ssgan.cli import terminal
from ssgan.cli.app import app
from ssgan.data.dataset import Data

COMMANDS = [
    *["train", "evaluate", "predict", "data", "label", "suggest", "audit", "compare", "report", "export", "sample"],
]

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def long_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if terminal.width(line) > 80]


# Help


def test_help_shows_full_command_descriptions_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], []):
        assert status_of(*arguments) == 0
        said = capsys.readouterr().out
        assert long_lines(said) == []
        lines = [line.strip() for line in said.splitlines()]
        registered = {command.name or command.callback.__name__: command for command in app.registered_commands}
        assert list(registered) == COMMANDS
        for name, command in registered.items():
            assert f"{name:8}  {command.short_help}" in lines


@pytest.mark.parametrize("command", COMMANDS)
def test_command_help_shows_full_option_descriptions_within_80_columns(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(command, "--help") == 0
    said = capsys.readouterr().out
    assert long_lines(said) == []
    words = " ".join(said.split())
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    for parameter in parameters:
        help_text = " ".join(str(getattr(parameter, "help", "") or "").split())
        assert help_text.replace("- ", "-") in words.replace("- ", "-"), parameter.name


def test_the_help_of_train_shows_a_folder_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("train", "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    examples = [line.strip() for line in lines[lines.index("  Examples:") + 1 :]]
    assert [line.split()[:2] for line in examples] == [["ssgan", "train"]] * 2
    assert sum("photos/" in line for line in lines) >= 3
    for example in examples:  # each is a valid command, once its data exist
        named = "digits" if "digits" in example else "gaussian"
        arguments = [named if word == "photos" else word for word in example.split()[1:]]
        if named == "digits":
            assert status_of(*arguments, "--dry-run") == 0


# Line wrapping


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("short", ["short"]),
        ("one two three four", ["one two", "three four"]),
        ("猫猫 猫猫 猫猫 猫", ["猫猫 猫猫", "猫猫 猫"]),
        ("Go on by: ssgan train a --out b; or stop", ["Go on by:", "ssgan train a --out b;", "or stop"]),
        ("Type `ssgan data a` or not", ["Type", "`ssgan data a`", "or not"]),
        ("/a/path/that/is/long x", ["/a/path/that/is/long", "x"]),
        ("  indented and long", ["  indented", "and long"]),
    ],
)
def test_wrap_breaks_between_words_but_not_inside_commands(text: str, lines: list[str]) -> None:
    assert terminal.wrap(text, 10) == lines


def test_note_wraps_only_if_columns_is_a_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.note("word " * 30)
    assert len(capsys.readouterr().err.splitlines()) == 2
    for unknown in ("", "wide"):
        monkeypatch.setenv("COLUMNS", unknown)
        terminal.note("word " * 30)
        assert len(capsys.readouterr().err.splitlines()) == 1


# Typical output


def pictures(digits: Data, folder: Path) -> None:
    names = ["a cat with a rather long name", "猫", "dog", *map(str, range(3, 10))]
    for row in range(150):
        name = names[digits.y_train[row]] if row < 120 else ""
        place = folder / ("train" if name else "unlabeled") / name
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.kron(digits.x_train[row] * 15, np.ones((2, 2), np.uint8))
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{row}.png")
    (folder / "train" / "dog" / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("none")


def test_typical_output_fits_80_columns(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    pictures(digits, Path("photos"))
    short = ["--set", "total_images=600", "--device", "cpu"]
    small = ["--preset", "vectors", "--image-size", "16", *TINY_OPTIONS[2:], *short]
    commands = [
        "data photos",
        f"train photos --verbose --out run {' '.join(small)}",
        f"train photos --folds 2 --out folds {' '.join(small)}",
        f"train gaussian --out numbers {' '.join(short)}",
        "train photos --dry-run",
        "evaluate run --verbose",
        "evaluate numbers",
        "data run",
        "predict run photos/unlabeled --out p.csv --sort-into sorted --sheet sheet.png",
        "sample run",
        "sample run --per-class",
        "sample run --nearest",
        "compare digits --methods knn,supervised --labels 20 --seeds 2 --out rows.jsonl --set total_images=200",
        "compare digits --methods gan,svm --labels 20 --seeds 2 --out rows.jsonl --dry-run",
        "train phots",
        "predict run nothing.png",
        "data run --labels 20",
        "train photos --set learning_rate=1",
        "report photos --out page",
    ]
    statuses = []
    for command in commands:
        status = status_of(*command.split())
        said = capsys.readouterr()
        statuses.append(status)
        found = long_lines(said.out + said.err)
        assert [line for line in found if not line.startswith("ssgan ")] == [], command
    assert statuses == [0] * (len(commands) - 5) + [2] * 5

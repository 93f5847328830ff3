"""Progress on standard error: lines now and then, a bar in a terminal, nothing where it is not wanted."""

import dataclasses
import io
import itertools
import time

import numpy as np
import pytest
from rich.console import Console

from ssgan.cli import terminal
from ssgan.runs import LOGGED
from ssgan.training.monitor import TrainingProgress

REPORT = TrainingProgress(
    step=20,
    steps=600_000,
    images=2000,
    means={"L": np.array([1.5])},
    errors=None,
    errors_raw=None,
    images_per_second=12.0,
    seconds_left=5.0e6,
    warnings=[],
    models=lambda: None,  # type: ignore[arg-type, return-value]
    state=dict,
)


def test_counting_says_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with terminal.count_progress(5000, "images") as show:
        for done in range(1, 5001):
            now += 1 / 128
            show(done)
    assert capsys.readouterr().err.splitlines() == [f"{n} of 5,000 images, 128/s" for n in ("1,280", "2,560", "3,840")]
    with terminal.count_progress(None, "images") as show:
        now += 20
        show(4000)
    assert capsys.readouterr().err == "4,000 images, 200/s\n"
    with terminal.count_progress(5000, "images", quiet=True) as show:
        now += 20
        show(4000)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("total", [5000, None])
def test_counting_has_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    text = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=text, force_terminal=True, width=80))
    with terminal.count_progress(total, "images") as show:
        show(1234)
    assert "1,234 images" in text.getvalue()
    with terminal.count_progress(total, "images", quiet=True) as show:
        text.truncate(0)
        show(1234)
    assert text.getvalue() == ""


def test_a_note_leaves_the_terminal_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.note("a\x1b[2Jb\nc \udce9 猫" + "x" * 200)
    assert capsys.readouterr().err == r"a\x1b[2Jb\nc \xe9 猫" + "x" * 200 + "\n"


@pytest.mark.parametrize("way", ["terminal", "lines", "quiet"])
def test_a_training_of_days_is_said_at_the_first_report(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    text = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=text, force_terminal=way == "terminal", width=300))
    expected = (
        "At this speed the training takes 57.9 days more: Ctrl-C stops it, --epochs makes it shorter, --preset chooses "
        "another recipe, and --device a faster device."
    )
    for seconds_left, count in ((5.0e6, 1), (86_000.0, 0)):
        text.truncate(0)
        with terminal.training_progress(quiet=way == "quiet") as show:
            for warnings in ([], ["Seed 0 diverged."]):
                show(dataclasses.replace(REPORT, seconds_left=seconds_left, warnings=warnings))
        assert text.getvalue().count(expected) == count
        assert text.getvalue().count("Seed 0 diverged.") == 1


@pytest.mark.parametrize("terms", [1, 4, 9])
def test_progress_fits_into_a_terminal(capsys: pytest.CaptureFixture[str], terms: int) -> None:
    """Every number of a milestone is there, in as few lines of 80 columns as hold them."""
    shown = [(name, word) for name, word in LOGGED.items() if name != "sure"][:terms]
    means = {name: np.array([0.1 + k]) for k, (name, _) in enumerate(shown)}
    means |= {"p_real_unlabeled": np.array([0.75]), "p_real_fake": np.array([0.25])}
    report = dataclasses.replace(
        REPORT, step=600_000, images=60_000_000, means=means, errors=[12.34, 12.36], seconds_left=125.0
    )
    with terminal.training_progress() as show:
        show(report)
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("100%  60,000,000 images, 12/s, 2:05 left")
    assert all(line.startswith("      ") for line in lines[1:])
    words = "  ".join(line.strip() for line in lines).split("  ")
    assert words[2:-2] == [f"{word} {0.1 + k:.2g}" for k, (_, word) in enumerate(shown)]
    assert words[-2:] == ["p(real) 0.75 real, 0.25 generated", "test error 12.35 %"]
    assert all(len(line) + 2 + len(after.strip().split("  ")[0]) > 80 for line, after in itertools.pairwise(lines))


def test_the_time_left_is_told_in_minutes_or_days(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=text, width=300))
    with terminal.training_progress() as show:
        for step, seconds_left in ((300_000, 5.0e6), (600_000, 125.0)):
            show(dataclasses.replace(REPORT, step=step, seconds_left=seconds_left))
    assert [line.split(", ")[2].split("  ")[0] for line in text.getvalue().splitlines()[1:]] == [
        "57.9 days left",
        "2:05 left",
    ]

"""Terminal output: progress counts and notes."""

import io
import time

import pytest
from rich.console import Console

from ssgan.cli import terminal


def test_count_progress_prints_lines_at_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
def test_count_progress_shows_bar_in_terminal(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    text = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=text, force_terminal=True, width=80))
    with terminal.count_progress(total, "images") as show:
        show(1234)
    assert "1,234 images" in text.getvalue()
    with terminal.count_progress(total, "images", quiet=True) as show:
        text.truncate(0)
        show(1234)
    assert text.getvalue() == ""


def test_note_escapes_control_characters_and_does_not_wrap(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.note("a\x1b[2Jb\nc \udce9 猫" + "x" * 200)
    assert capsys.readouterr().err == r"a\x1b[2Jb\nc \xe9 猫" + "x" * 200 + "\n"

"""Progress on standard error: lines now and then, a bar in a terminal, nothing where it is not wanted."""

import io
import time

import pytest
from rich.console import Console

from ssgan import screen


def test_counting_says_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with screen.counting(5000, "images") as show:
        for done in range(1, 5001):
            now += 1 / 128
            show(done)
    assert capsys.readouterr().err.splitlines() == [f"{n} of 5,000 images, 128/s" for n in ("1,280", "2,560", "3,840")]
    with screen.counting(None, "images") as show:
        now += 20
        show(4000)
    assert capsys.readouterr().err == "4,000 images, 200/s\n"
    with screen.counting(5000, "images", quiet=True) as show:
        now += 20
        show(4000)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("total", [5000, None])
def test_counting_has_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    text = io.StringIO()
    monkeypatch.setattr(screen, "err", Console(file=text, force_terminal=True, width=80))
    with screen.counting(total, "images") as show:
        show(1234)
    assert "1,234 images" in text.getvalue()
    with screen.counting(total, "images", quiet=True) as show:
        text.truncate(0)
        show(1234)
    assert text.getvalue() == ""


def test_a_note_leaves_the_terminal_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    screen.note("a\x1b[2Jb\nc \udce9 猫" + "x" * 200)
    assert capsys.readouterr().err == "a\ufffd[2Jb\ufffdc \ufffd 猫" + "x" * 200 + "\n"

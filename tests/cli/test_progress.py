"""Training progress on standard error: a time estimate, a live bar, and regular lines on a pipe."""

import dataclasses
import io
import itertools
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from rich.console import Console

from ssgan.cli import progress, terminal
from ssgan.cli.progress import ComparisonDisplay, TrainingDisplay, about, shorter_training
from ssgan.compare.progress import ComparisonProgress
from ssgan.runs import LOGGED
from ssgan.training.monitor import TrainingProgress
from ssgan.training.timing import StepProgress

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


TWO_HOURS_LEFT = StepProgress(20, 600_000, 2000, 12.0, 7200.0)
OUTPUT_MODES = ["terminal", "lines", "quiet"]


@contextmanager
def console(monkeypatch: pytest.MonkeyPatch, mode: str, width: int = 300) -> Iterator[io.StringIO]:
    text = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=text, force_terminal=mode == "terminal", width=width))
    yield text


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the displays in seconds, as a list with one value."""
    reading = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: reading[0])
    return reading


# The estimate


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (12, "about 10 seconds"),
        (52, "about 50 seconds"),
        (56, "about 1 minute"),
        (17 * 60 + 20, "about 17 minutes"),
        (3599, "about 60 minutes"),
        (3600, "about 1 hour"),
        (5400, "about 1.5 hours"),
        (24 * 3600, "about 1 day"),
        (5.0e6, "about 57.9 days"),
    ],
)
def test_about_formats_durations(seconds: float, words: str) -> None:
    assert about(seconds) == words


@pytest.mark.parametrize("mode", OUTPUT_MODES)
@pytest.mark.parametrize(
    ("seconds", "following", "expected"),
    [
        (5.0, 0.0, ""),
        (1020.0, 0.0, "about 17 minutes; Ctrl-C keeps what is learned"),
        (1000.0, 0.2, "about 20 minutes; Ctrl-C keeps what is learned"),
    ],
)
def test_time_estimate_is_printed_once(
    monkeypatch: pytest.MonkeyPatch, mode: str, seconds: float, following: float, expected: str
) -> None:
    with console(monkeypatch, mode) as text:
        with progress.training_progress(mode == "quiet", following=following) as shown:
            shown.on_step(StepProgress(0, 600, 0))
            for left in (seconds, seconds / 2):
                shown.on_step(StepProgress(20, 600, 2000, 12.0, left))
                shown.on_report(dataclasses.replace(REPORT, seconds_left=left))
        assert text.getvalue().count("Ctrl-C") == text.getvalue().count(expected or "about")
        assert text.getvalue().count("Ctrl-C") == bool(expected) * (mode != "quiet")


@pytest.mark.parametrize("mode", OUTPUT_MODES)
def test_training_above_an_hour_prints_warning_with_shorter_setting(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    with console(monkeypatch, mode) as text:
        with progress.training_progress(mode == "quiet", shorter_training(240_000, None)) as shown:
            for step in (20, 21):
                shown.on_step(TWO_HOURS_LEFT._replace(step=step))
        expected = (
            "At this speed it takes about 2 hours: --set total_images=120000 takes about an hour. "
            "Ctrl-C keeps what is learned."
        )
        assert text.getvalue().count(expected) == 1
        assert text.getvalue().count("Ctrl-C") == 1


def test_resumed_run_gets_time_warning_without_shorter_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    with console(monkeypatch, "lines") as text:
        with progress.training_progress() as shown:
            shown.on_step(TWO_HOURS_LEFT)
        assert text.getvalue() == "At this speed it takes about 2 hours. Ctrl-C keeps what is learned.\n"


@pytest.mark.parametrize(
    ("total_images", "epochs", "share", "words"),
    [
        (123_456, None, 0.5, "--set total_images=62000"),
        (5, None, 0.01, "--set total_images=1"),
        (123_456, "300", 0.5, "--epochs 150"),
        (123_456, "0.5", 0.031, "--epochs 0.015"),
    ],
)
def test_shorter_training_uses_option_given_by_user(
    total_images: int, epochs: str | None, share: float, words: str
) -> None:
    assert shorter_training(total_images, epochs)(share) == words


@pytest.mark.parametrize("mode", OUTPUT_MODES)
def test_training_warnings_are_shown_in_every_output_mode(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    with console(monkeypatch, mode) as text:
        with progress.training_progress(mode == "quiet") as shown:
            shown.on_report(dataclasses.replace(REPORT, warnings=["Seed 0 diverged."]))
            shown.on_report(REPORT)
        assert text.getvalue().count("Seed 0 diverged.") == 1


# During training


def test_training_display_updates_every_second(now: list[float]) -> None:
    shown = TrainingDisplay()

    def after(seconds: float) -> str:
        now[0] += seconds
        return shown.words()

    assert [after(1), after(1), after(60)] == [
        "building the networks, 0:01",
        "building the networks, 0:02",
        "building the networks, 1:02",
    ]
    shown.on_step(StepProgress(0, 400, 0))
    assert [after(1), after(1)] == ["step 1 of 400, 0:01", "step 1 of 400, 0:02"]
    shown.on_step(StepProgress(1, 400, 100))
    assert after(1) == "step 2 of 400, 0:03"
    shown.on_step(StepProgress(2, 400, 200, 50.0, 3725.0))
    assert [after(0), after(1), after(5000)] == [
        "200 images, 50/s, 1:02:05 left",
        "200 images, 50/s, 1:02:04 left",
        "200 images, 50/s, 0:00 left",
    ]
    shown.on_step(StepProgress(400, 400, 40_000, 50.0, 3.0))
    assert [after(0), after(1)] == ["measuring the result, 0:00", "measuring the result, 0:01"]


def test_bar_is_redrawn_during_a_long_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with console(monkeypatch, "terminal", 80) as text:
        with progress.training_progress() as shown:
            shown.on_step(StepProgress(2, 400, 200, 50.0, 5.0))
            time.sleep(1.1)
        assert {"0:05 left", "0:04 left"} <= {*re.findall(r"\d:\d\d left", text.getvalue())}
        assert "initialising" not in text.getvalue()


def test_pipe_gets_regular_lines_during_long_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress.SECONDS_OF_SILENCE == 30
    monkeypatch.setattr(progress, "SECONDS_OF_SILENCE", 0.05)
    with console(monkeypatch, "lines") as text:
        with progress.training_progress() as shown:
            time.sleep(0.2)
            shown.on_step(StepProgress(0, 400, 0))
            time.sleep(0.2)
            shown.on_step(StepProgress(100, 400, 200, 50.0, 9.0))
            time.sleep(0.2)
            shown.on_step(StepProgress(400, 400, 200, 50.0, 0.0))
            time.sleep(0.2)
        lines = text.getvalue().splitlines()
        time.sleep(0.1)
        assert len(text.getvalue().splitlines()) == len(lines)  # no line after the end
    expected = ["building the networks", "step 1 of 400", "200 images, 50/s, 0:09 left", "measuring the result"]
    assert [what for what in expected if any(what in line for line in lines)] == expected
    assert lines[-1] == "100%  measuring the result, 0:00"
    assert len(lines) <= 20


def test_quiet_mode_prints_no_regular_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_OF_SILENCE", 0.01)
    with console(monkeypatch, "quiet") as text:
        with progress.training_progress(quiet=True):
            time.sleep(0.1)
        assert text.getvalue() == ""


# Comparisons


def test_comparison_display_shows_time_left_and_untimed_trainings(now: list[float]) -> None:
    shown = ComparisonDisplay()
    now[0] += 5
    assert shown.words() == "timing the first steps of each method, 0:05"
    shown.on_progress(ComparisonProgress(1, 6, "svm, 20 labels, seed 0", 0.0, None, untimed=6))
    assert shown.words() == "1 of 6"
    now[0] += 40
    assert shown.line() == "1/6  svm, 20 labels, seed 0: 0% after 0:40"
    shown.on_progress(ComparisonProgress(2, 6, "gan, 20 labels, seed 0", 1.0, 9.0, untimed=2))
    now[0] += 2
    assert shown.words() == "2 of 6, 0:07 left and an unknown time for 2"
    shown.on_progress(ComparisonProgress(6, 6, "gan, 20 labels, seed 0", 1.0, 3.0))
    assert shown.words() == "6 of 6, 0:03 left"
    assert "unknown" not in shown.words() + shown.line()


def test_comparison_prints_time_estimate_once(monkeypatch: pytest.MonkeyPatch) -> None:
    report = ComparisonProgress(1, 6, "gan, 20 labels, seed 0", 0.0, 1020.0, untimed=2)
    with console(monkeypatch, "lines") as text:
        with progress.comparison_progress() as shown:
            shown.on_progress(report)
            shown.on_progress(report)
        assert text.getvalue() == (
            "about 17 minutes for 4 trainings and an unknown time for 2; Ctrl-C keeps what is finished\n"
        )
    with console(monkeypatch, "quiet") as text:
        with progress.comparison_progress(True, shorter_training(10_000, "20")) as shown:
            shown.on_progress(report._replace(seconds_left=7200.0))
            shown.on_progress(report)
        assert text.getvalue() == (
            "At this speed it takes about 2 hours: --epochs 10 takes about an hour. Ctrl-C keeps what is learned. "
            "Fewer --seeds or --methods are faster too.\n"
        )


# Lines at milestones


@pytest.mark.parametrize("terms", [1, 4, 9])
def test_milestone_lines_fit_80_columns(capsys: pytest.CaptureFixture[str], terms: int) -> None:
    """Every number of a milestone is printed, in as few lines of 80 columns as possible."""
    named = [(name, word) for name, word in LOGGED.items() if name != "sure"][:terms]
    means = {name: np.array([0.1 + k]) for k, (name, _) in enumerate(named)}
    means |= {"p_real_unlabeled": np.array([0.75]), "p_real_fake": np.array([0.25])}
    report = dataclasses.replace(
        REPORT, step=600_000, images=60_000_000, means=means, errors=[12.34, 12.36], seconds_left=125.0
    )
    with progress.training_progress() as shown:
        shown.on_report(report)
    estimate, *lines = capsys.readouterr().err.splitlines()
    assert estimate == "about 2 minutes; Ctrl-C keeps what is learned"
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("100%  60,000,000 images, 12/s, 2:05 left")
    assert all(line.startswith("      ") for line in lines[1:])
    words = "  ".join(line.strip() for line in lines).split("  ")
    assert words[2:-2] == [f"{word} {0.1 + k:.2g}" for k, (_, word) in enumerate(named)]
    assert words[-2:] == ["p(real) 0.75 real, 0.25 generated", "test error 12.35 %"]
    assert all(len(line) + 2 + len(after.strip().split("  ")[0]) > 80 for line, after in itertools.pairwise(lines))


def test_time_left_is_shown_in_minutes_or_days(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=text, width=300))
    with progress.training_progress() as shown:
        for step, seconds_left in ((300_000, 5.0e6), (600_000, 125.0)):
            shown.on_report(dataclasses.replace(REPORT, step=step, seconds_left=seconds_left))
    assert [line.split(", ")[2].split("  ")[0] for line in text.getvalue().splitlines()[1:]] == [
        "57.9 days left",
        "2:05 left",
    ]

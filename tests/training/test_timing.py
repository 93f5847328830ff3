"""Estimates of the remaining time: measured on real steps and evaluations, without changing any result."""

from typing import Any

import pytest
import torch
from small_configs import tiny
from small_trainings import labeled_splits, same_bits, weights

from ssgan.data.dataset import Data
from ssgan.inference.models import Models
from ssgan.training import timing
from ssgan.training.monitor import TrainingProgress
from ssgan.training.timing import Clock, StepProgress, StepTimer
from ssgan.training.trainer import time_training, train


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The current time of a fake clock, in a list of one."""
    reading = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: reading[0])
    return reading


@pytest.mark.parametrize("settings", [{}, {"seeds": 2, "seed_strategy": "vmap"}, {"generator_norm": "virtual"}])
def test_step_callback_does_not_change_the_weights(
    few_digits: Data, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """Evaluations are timed during training and must not use the noise of the steps."""
    config = tiny(**settings)
    alone = weights(train(few_digits, config))
    monkeypatch.setattr(timing, "SECONDS_TO_MEASURE", 0.0)
    monkeypatch.setattr(timing, "SECONDS_BETWEEN_STEPS", 0.0)
    reported: list[StepProgress] = []
    assert same_bits(alone, weights(train(few_digits, config, on_step=reported.append)))
    assert [progress.step for progress in reported] == [*range(config.steps + 1)]
    assert [progress.seconds_left is None for progress in reported] == [True, True] + [False] * (config.steps - 1)


def test_time_training_changes_neither_random_state_nor_results(
    few_digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny()
    alone, before = weights(train(few_digits, config)), torch.get_rng_state()
    found = labeled_splits(few_digits, config)
    monkeypatch.setattr(timing, "SECONDS_TO_MEASURE", 0.0)
    assert (time_training(few_digits, config, found) or 0.0) > 0.0
    assert torch.equal(torch.get_rng_state(), before)
    assert same_bits(alone, weights(train(few_digits, config)))


def test_time_training_returns_none_for_a_short_training(few_digits: Data) -> None:
    config = tiny()
    assert time_training(few_digits, config, labeled_splits(few_digits, config)) is None


def test_train_without_callbacks_times_and_prints_nothing(
    few_digits: Data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "SECONDS_TO_MEASURE", 0.0)
    monkeypatch.setattr(StepTimer, "restart_if_due", lambda _: pytest.fail("nobody asked"))
    train(few_digits, tiny())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("first", "others"), [(1.0, 0.5), (15.0, 12.0), (12.0, 12.0)])
def test_the_first_estimate_comes_after_two_seconds_of_steps(now: list[float], first: float, others: float) -> None:
    """The first step is a warm-up, unless it is so slow that waiting for another would take too long."""
    now[0] = 100.0
    clock = Clock(torch.device("cpu"))
    now[0] = 130.0  # building the networks is not a step
    clock.start()
    found = []
    for step in range(30):
        now[0] += others if step else first
        clock.tick()
        found.append(clock.seconds_per_step())
    if first < timing.SLOW_STEP_SECONDS:
        assert found[:4] == [None] * 4  # a first step, and less than 2 s after it
        assert found[4:] == [pytest.approx(others)] * 26
    else:
        assert found[0] == pytest.approx(first)
        assert found[1] == pytest.approx((first + others) / 2)
        assert found[-1] == pytest.approx(others)


def test_pauses_do_not_count_as_step_time(now: list[float]) -> None:
    clock = Clock(torch.device("cpu"))
    clock.start()
    for _ in range(30):
        now[0] += 3.0
        clock.tick()
        with clock.paused():
            now[0] += 5.0
        if clock.steps > 1:
            assert clock.seconds_per_step() == pytest.approx(3.0)
        assert clock.steps_per_second() == pytest.approx(1 / 3)


def test_estimate_includes_steps_evaluations_and_pauses(now: list[float]) -> None:
    """Of 100 steps 40 are done: 60 steps of 2 s, evaluations after 50, 75 and 100 and at the end, pauses of 0.5 s."""
    timer = StepTimer(Clock(torch.device("cpu")), steps=100, evaluation_interval=25)
    clock = timer.clock
    for _ in range(40):
        now[0] += 2.0
        clock.tick()
        with clock.paused():
            now[0] += 0.5
    with clock.paused(), timer.evaluating():
        now[0] += 7.0
    assert timer.estimate(40, 2.0) == pytest.approx(60 * 2.0 + 60 * 0.5 + 4 * 7.0)
    assert StepTimer(Clock(torch.device("cpu")), 100, 0).estimate(40, 2.0) == pytest.approx(120.0)


def test_the_estimate_of_a_training_includes_its_evaluations(few_digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring 64 of the 100 test images takes 10 s here, so an evaluation of both models takes 31.25 s."""
    config = tiny(evaluate_every_images=200)
    reading = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: reading[0])
    logits = Models.logits

    def slow(self: Models, x: Any, averaged: bool = True) -> Any:
        reading[0] += 10.0 * len(x) / 64
        return logits(self, x, averaged)

    monkeypatch.setattr(Models, "logits", slow)
    tick = Clock.tick

    def count(self: Clock) -> None:
        reading[0] += 3.0
        tick(self)

    monkeypatch.setattr(Clock, "tick", count)
    reported: list[StepProgress] = []
    reports: list[TrainingProgress] = []
    train(few_digits, config, on_step=reported.append, on_report=reports.append)
    first = next(progress for progress in reported if progress.seconds_left is not None)
    assert (first.step, config.steps) == (2, 20)
    assert first.seconds_left == pytest.approx(18 * 3.0 + 3 * 31.25)
    assert reports[-1].seconds_left == pytest.approx(31.25)  # the evaluation after the last step

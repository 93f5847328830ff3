"""Warnings during training: the rule itself, and that each is told once, of the right seed, with the step."""

import numpy as np
import pytest

from ssgan.training.divergence import COLLAPSE_REPORTS, FailureDetector

FINE = {"L": 0.1, "U": 0.3, "V": 0.3, "feature_matching": 1.0}
COLLAPSED = {"L": 0.1, "U": 0.001, "V": 0.001, "feature_matching": 50.0}


def means(*seeds: dict[str, float]) -> dict[str, np.ndarray]:
    return {name: np.array([seed[name] for seed in seeds]) for name in seeds[0]}


def watch_with_history(*matching: float, seeds: int = 1) -> FailureDetector:
    """A watch that has seen these feature-matching losses, one report each."""
    watch = FailureDetector(range(seeds))
    for step, value in enumerate(matching):
        assert watch.check_losses(step, means(*[{**FINE, "feature_matching": value}] * seeds)) == []
    return watch


# Divergence


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", FINE)
def test_divergence_is_told_once_with_seed_and_step(name: str, bad: float) -> None:
    watch = FailureDetector([11, 12, 13])
    assert watch.check_losses(100, means(FINE, FINE, FINE)) == []
    (said,) = watch.check_losses(200, means(FINE, {**FINE, name: bad}, FINE))
    assert said.startswith("Seed 12 diverged by step 200: a loss is not finite.")
    assert "learning_rate_d" in said
    assert watch.check_losses(300, means(FINE, {**FINE, name: bad}, FINE)) == []
    assert watch.diverged == {12: 200}
    assert watch.collapsed == {}


def test_each_seed_diverges_for_itself() -> None:
    watch, broken = FailureDetector([5, 6]), {**FINE, "L": np.nan}
    watch.check_losses(10, means(broken, FINE))
    (said,) = watch.check_losses(20, means(broken, broken))
    assert said.startswith("Seed 6 diverged by step 20")
    assert watch.diverged == {5: 10, 6: 20}


def test_divergence_without_a_generator_is_told() -> None:
    watch = FailureDetector([0])
    assert watch.check_losses(1, {"L": np.array([0.5])}) == []
    assert len(watch.check_losses(2, {"L": np.array([np.inf])})) == 1


# Collapse


@pytest.mark.parametrize(("ratio", "told"), [(9.999, False), (10.0, False), (10.001, True)])
def test_collapse_needs_ten_times_the_median(ratio: float, told: bool) -> None:
    watch = watch_with_history(2.0, 2.0, 2.0)
    said = watch.check_losses(40, means({**COLLAPSED, "feature_matching": 2.0 * ratio}))
    assert len(said) == told
    assert watch.collapsed == ({0: 40} if told else {})


@pytest.mark.parametrize(("u", "v", "told"), [(0.005, 0.00501, False), (0.005, 0.005, False), (0.005, 0.00499, True)])
def test_collapse_needs_a_discriminator_almost_without_loss(u: float, v: float, told: bool) -> None:
    watch = watch_with_history(1.0, 1.0, 1.0)
    assert len(watch.check_losses(40, means({**COLLAPSED, "U": u, "V": v}))) == told


@pytest.mark.parametrize(("reports", "told"), [(0, False), (1, False), (2, False), (3, True)])
def test_collapse_needs_a_history(reports: int, told: bool) -> None:
    watch = watch_with_history(*[1.0] * reports)
    assert len(watch.check_losses(40, means(COLLAPSED))) == told


def test_the_measure_is_the_median_of_all_reports() -> None:
    """Of 1, 1, 1, 30, 30 the median is 1 (the mean 12.6, the last 30); after a sixth and seventh 30 it is 30."""
    history = [1.0, 1.0, 1.0, 30.0, 30.0]
    assert len(watch_with_history(*history).check_losses(40, means(COLLAPSED))) == 1
    assert len(watch_with_history(*history, 30.0, 30.0).check_losses(40, means(COLLAPSED))) == 0


@pytest.mark.parametrize(("above", "told"), [(0.009, True), (0.011, False)])
def test_label_smoothing_raises_the_least_loss(above: float, told: bool) -> None:
    """U is at least the entropy of its target: for 0.9, 0.325."""
    watch = FailureDetector([0], real_target=0.9)
    least = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    for step in (10, 20, 30):
        watch.check_losses(step, means(FINE))
    assert len(watch.check_losses(40, means({**COLLAPSED, "U": least + above / 2, "V": above / 2}))) == told


def test_the_history_is_bounded() -> None:
    """It is part of every checkpoint, and its median is computed at every report."""
    watch = watch_with_history(*[1.0] * (COLLAPSE_REPORTS + 5))
    assert len(watch.state()["matching"]) == COLLAPSE_REPORTS
    other = FailureDetector([0])
    other.restore(watch.state())
    assert other.state() == watch.state()


def test_collapse_is_told_once_and_other_seeds_are_untouched() -> None:
    watch = FailureDetector([7, 8])
    for step in (10, 20, 30):
        watch.check_losses(step, means(FINE, FINE))
    (said,) = watch.check_losses(40, means(FINE, COLLAPSED))
    assert said.startswith("Seed 8: the generator has collapsed by step 40. Feature matching is at 50, 50 times ")
    assert "U + V = 0.002:" in said
    assert "adam_epsilon" in said
    assert watch.check_losses(50, means(FINE, COLLAPSED)) == []
    assert watch.collapsed == {8: 40}
    assert watch.diverged == {}
    (said,) = watch.check_losses(60, means(COLLAPSED, FINE))
    assert said.startswith("Seed 7:")
    assert watch.collapsed == {7: 60, 8: 40}


def test_each_seed_has_its_own_median() -> None:
    watch = FailureDetector([0, 1])
    for step in (10, 20, 30):
        watch.check_losses(step, means(FINE, {**FINE, "feature_matching": 6.0}))
    watch.check_losses(40, means(COLLAPSED, COLLAPSED))
    assert watch.collapsed == {0: 40}


def test_a_seed_that_diverged_does_not_hide_the_collapse_of_another() -> None:
    watch, broken = FailureDetector([0, 1]), dict.fromkeys(FINE, np.nan)
    for step in (10, 20, 30):
        watch.check_losses(step, means(broken, FINE))
    assert len(watch.check_losses(40, means(broken, COLLAPSED))) == 1
    assert (watch.diverged, watch.collapsed) == ({0: 10}, {1: 40})


@pytest.mark.parametrize("missing", ["U", "V", "feature_matching"])
def test_without_its_losses_nothing_collapses(missing: str) -> None:
    watch = watch_with_history(1.0, 1.0, 1.0)
    assert watch.check_losses(40, {k: v for k, v in means(COLLAPSED).items() if k != missing}) == []

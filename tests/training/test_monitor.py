"""Warnings during training: their conditions, and that each is given once with the right seed and step."""

import numpy as np
import pytest

from ssgan.training.divergence import COLLAPSE_REPORTS, FailureDetector

FINE = {"L": 0.1, "U": 0.3, "V": 0.3, "feature_matching": 1.0}
COLLAPSED = {"L": 0.1, "U": 0.001, "V": 0.001, "feature_matching": 50.0}


def means(*seeds: dict[str, float]) -> dict[str, np.ndarray]:
    return {name: np.array([seed[name] for seed in seeds]) for name in seeds[0]}


def detector_with_history(*matching: float, seeds: int = 1) -> FailureDetector:
    """A detector that has seen these feature-matching losses, one in each report."""
    detector = FailureDetector(range(seeds))
    for step, value in enumerate(matching):
        assert detector.check_losses(step, means(*[{**FINE, "feature_matching": value}] * seeds)) == []
    return detector


# Divergence


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", FINE)
def test_divergence_is_reported_once_with_seed_and_step(name: str, bad: float) -> None:
    detector = FailureDetector([11, 12, 13])
    assert detector.check_losses(100, means(FINE, FINE, FINE)) == []
    (message,) = detector.check_losses(200, means(FINE, {**FINE, name: bad}, FINE))
    assert message.startswith("Seed 12 diverged by step 200: a loss is not finite.")
    assert "learning_rate_d" in message
    assert detector.check_losses(300, means(FINE, {**FINE, name: bad}, FINE)) == []
    assert detector.diverged == {12: 200}
    assert detector.collapsed == {}


def test_divergence_is_detected_for_each_seed() -> None:
    detector, broken = FailureDetector([5, 6]), {**FINE, "L": np.nan}
    detector.check_losses(10, means(broken, FINE))
    (message,) = detector.check_losses(20, means(broken, broken))
    assert message.startswith("Seed 6 diverged by step 20")
    assert detector.diverged == {5: 10, 6: 20}


def test_divergence_without_a_generator_is_reported() -> None:
    detector = FailureDetector([0])
    assert detector.check_losses(1, {"L": np.array([0.5])}) == []
    assert len(detector.check_losses(2, {"L": np.array([np.inf])})) == 1


# Collapse


@pytest.mark.parametrize(("ratio", "warns"), [(9.999, False), (10.0, False), (10.001, True)])
def test_collapse_requires_ten_times_the_median_feature_matching(ratio: float, warns: bool) -> None:
    detector = detector_with_history(2.0, 2.0, 2.0)
    messages = detector.check_losses(40, means({**COLLAPSED, "feature_matching": 2.0 * ratio}))
    assert len(messages) == warns
    assert detector.collapsed == ({0: 40} if warns else {})


@pytest.mark.parametrize(("u", "v", "warns"), [(0.005, 0.00501, False), (0.005, 0.005, False), (0.005, 0.00499, True)])
def test_collapse_requires_a_discriminator_loss_near_0(u: float, v: float, warns: bool) -> None:
    detector = detector_with_history(1.0, 1.0, 1.0)
    assert len(detector.check_losses(40, means({**COLLAPSED, "U": u, "V": v}))) == warns


@pytest.mark.parametrize(("reports", "warns"), [(0, False), (1, False), (2, False), (3, True)])
def test_collapse_requires_three_earlier_reports(reports: int, warns: bool) -> None:
    detector = detector_with_history(*[1.0] * reports)
    assert len(detector.check_losses(40, means(COLLAPSED))) == warns


def test_collapse_is_measured_against_the_median_of_all_reports() -> None:
    """Of 1, 1, 1, 30, 30 the median is 1 (the mean 12.6, the last 30); after a sixth and seventh 30 it is 30."""
    history = [1.0, 1.0, 1.0, 30.0, 30.0]
    assert len(detector_with_history(*history).check_losses(40, means(COLLAPSED))) == 1
    assert len(detector_with_history(*history, 30.0, 30.0).check_losses(40, means(COLLAPSED))) == 0


@pytest.mark.parametrize(("above", "warns"), [(0.009, True), (0.011, False)])
def test_collapse_threshold_adds_the_minimum_loss_of_label_smoothing(above: float, warns: bool) -> None:
    """U is at least the entropy of its target: for 0.9, 0.325."""
    detector = FailureDetector([0], real_target=0.9)
    least = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    for step in (10, 20, 30):
        detector.check_losses(step, means(FINE))
    assert len(detector.check_losses(40, means({**COLLAPSED, "U": least + above / 2, "V": above / 2}))) == warns


def test_the_history_is_bounded() -> None:
    """It is part of every checkpoint, and its median is computed at every report."""
    detector = detector_with_history(*[1.0] * (COLLAPSE_REPORTS + 5))
    assert len(detector.state()["matching"]) == COLLAPSE_REPORTS
    other = FailureDetector([0])
    other.restore(detector.state())
    assert other.state() == detector.state()


def test_collapse_is_reported_once_for_each_seed() -> None:
    detector = FailureDetector([7, 8])
    for step in (10, 20, 30):
        detector.check_losses(step, means(FINE, FINE))
    (message,) = detector.check_losses(40, means(FINE, COLLAPSED))
    assert message.startswith("Seed 8: the generator has collapsed by step 40. Feature matching is at 50, 50 times ")
    assert "U + V = 0.002:" in message
    assert "adam_epsilon" in message
    assert detector.check_losses(50, means(FINE, COLLAPSED)) == []
    assert detector.collapsed == {8: 40}
    assert detector.diverged == {}
    (message,) = detector.check_losses(60, means(COLLAPSED, FINE))
    assert message.startswith("Seed 7:")
    assert detector.collapsed == {7: 60, 8: 40}


def test_each_seed_has_its_own_median() -> None:
    detector = FailureDetector([0, 1])
    for step in (10, 20, 30):
        detector.check_losses(step, means(FINE, {**FINE, "feature_matching": 6.0}))
    detector.check_losses(40, means(COLLAPSED, COLLAPSED))
    assert detector.collapsed == {0: 40}


def test_a_seed_that_diverged_does_not_hide_the_collapse_of_another() -> None:
    detector, broken = FailureDetector([0, 1]), dict.fromkeys(FINE, np.nan)
    for step in (10, 20, 30):
        detector.check_losses(step, means(broken, FINE))
    assert len(detector.check_losses(40, means(broken, COLLAPSED))) == 1
    assert (detector.diverged, detector.collapsed) == ({0: 10}, {1: 40})


@pytest.mark.parametrize("missing", ["U", "V", "feature_matching"])
def test_no_collapse_is_reported_if_a_loss_is_missing(missing: str) -> None:
    detector = detector_with_history(1.0, 1.0, 1.0)
    assert detector.check_losses(40, {k: v for k, v in means(COLLAPSED).items() if k != missing}) == []

"""Calibrate probabilities on labels that no model trained on, and decide whether images of no class are flagged.

Shapes: N rows, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssgan.inference.metrics import (
    LOG_TEMPERATURES,
    best_temperature,
    binomial_interval,
    expected_calibration_error,
    generated_probability,
    negative_log_likelihood,
    softmax,
)

__all__ = [
    "FLAGGED_LIMIT",
    "GENERATED_LIMIT",
    "LEAST_LABELS",
    "POOL_IMAGES",
    "Confidence",
    "calibrate",
    "flagged_share",
    "no_calibration",
]

LEAST_LABELS = 20  # fewest labels to fit a temperature to
NEAR_LIMIT = 0.01  # distance of log temperatures below which a temperature counts as at a limit
POOL_IMAGES = 1000  # images of the run's pool on which the fraction that looks like none of the classes is measured
OWN = "the share of the run's own pictures that look generated"
GENERATED_LIMIT = 0.5  # an image whose p_generated is higher looks like none of the classes
FLAGGED_LIMIT = 0.05  # if a larger fraction does, nothing is said about other images


def calibrate(logits_NK: np.ndarray, y_N: np.ndarray, folds_N: np.ndarray) -> dict[str, Any]:
    """Fit a temperature to logits of labelled images, each by the model of a fold that never saw the image.

    Whether it helps is measured by cross-fitting: the images of each fold are scored at the temperature that was fitted
    to those of the others. A temperature that does not lower their NLL is not used.

    Parameters
    ----------
    logits_NK : ndarray of float, shape [N, K]
        Finite.
    y_N : ndarray of int, shape [N]
    folds_N : ndarray of int, shape [N]
        The fold of each image.

    Returns
    -------
    dict
        Plain types: ``temperature``, or None for the ``reason`` if none is used; ``fitted_on``, which is ``"folds"``;
        the number of ``labels``; ``nll`` and ``ece`` without a temperature, and ``nll_scaled`` and ``ece_scaled`` by
        cross-fitting, None if nothing was fitted.
    """
    p_NK = softmax(logits_NK)
    result: dict[str, Any] = {
        "temperature": None,
        "fitted_on": "folds",
        "labels": len(y_N),
        "nll": negative_log_likelihood(p_NK, y_N),
        "ece": expected_calibration_error(p_NK, y_N),
        "nll_scaled": None,
        "ece_scaled": None,
        "reason": None,
    }
    folds = np.unique(folds_N)
    if len(y_N) < LEAST_LABELS:
        return {**result, "reason": f"fitting a temperature needs {LEAST_LABELS} labels, and there are only {len(y_N)}"}
    if len(folds) < 2:
        return {**result, "reason": "the models of all folds but one diverged"}
    if (p_NK.argmax(axis=1) == y_N).all():
        return {
            **result,
            "reason": f"the folds predicted all {len(y_N):,} labels correctly, so there is no best temperature",
        }
    scaled_NK = np.empty_like(p_NK)
    for fold in folds:
        is_tested = folds_N == fold
        temperature = best_temperature(logits_NK[~is_tested], y_N[~is_tested])
        scaled_NK[is_tested] = softmax(logits_NK[is_tested] / temperature)
    result["nll_scaled"] = negative_log_likelihood(scaled_NK, y_N)
    result["ece_scaled"] = expected_calibration_error(scaled_NK, y_N)
    if result["nll_scaled"] >= result["nll"]:
        words = f"from {result['nll']:.3f} to {result['nll_scaled']:.3f}"
        return {**result, "reason": f"a temperature would not lower the NLL of images it was not fitted to ({words})"}
    temperature = best_temperature(logits_NK, y_N)
    if np.abs(np.log(temperature) - np.array(LOG_TEMPERATURES)).min() < NEAR_LIMIT:
        return {**result, "reason": f"the best temperature lies at a limit of the search range, {temperature:.3g}"}
    return {**result, "temperature": temperature}


def no_calibration(failed: bool) -> dict[str, Any]:
    """Return what a report says about the calibration of a run without folds, or whose folds failed or diverged."""
    without = "there are no labels to fit a temperature to except those that were trained on"
    return {
        **dict.fromkeys(("temperature", "fitted_on", "nll", "ece", "nll_scaled", "ece_scaled")),
        "labels": 0,
        "reason": "the folds gave nothing to fit a temperature to" if failed else without,
    }


def flagged_share(logits_NK: np.ndarray) -> float | None:
    """Return the fraction of images that a model classifies as generated; None without images or finite logits."""
    if not len(logits_NK) or not np.isfinite(logits_NK).all():
        return None
    return float((generated_probability(logits_NK) > GENERATED_LIMIT).mean())


@dataclass(frozen=True)
class Confidence:
    """What the predictions of S models may say.

    Attributes
    ----------
    temperature : float or None
        Divides the logits before the softmax; None if there is none.
    uncalibrated : str
        Why there is no temperature.
    has_folds, is_worth_folds : bool
        Whether folds were held out to fit one; whether there are enough labels for that.
    unflagged_reasons : tuple of str
        For each model, why it does not flag outliers, images of none of the classes; empty if it does.
    """

    temperature: float | None = None
    uncalibrated: str = ""
    has_folds: bool = False
    is_worth_folds: bool = False
    unflagged_reasons: tuple[str, ...] = ()

    @property
    def unflagged_reason(self) -> str:
        """Why the models together do not flag outliers; empty if they do."""
        return next(filter(None, self.unflagged_reasons), "")

    @property
    def about_probabilities(self) -> str:
        """A sentence for the user on how reliable the probabilities are; empty if nothing can be done about it."""
        if self.temperature is not None:
            return f"Probabilities are calibrated on labels that folds left out (temperature {self.temperature:.3g})."
        if self.has_folds:
            return f"Probabilities are not calibrated: {self.uncalibrated}."
        if self.is_worth_folds:
            return "Probabilities are not calibrated, so they may be too high: train with --folds 5 to calibrate them."
        return ""

    def select(self, indices: Sequence[int]) -> "Confidence":
        """Return the confidence of some of the models, by their indices."""
        if not self.unflagged_reasons:
            return self
        return replace(self, unflagged_reasons=tuple(self.unflagged_reasons[index] for index in indices))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Compute class probabilities [..., K] of logits [..., K], given that the images are real."""
        return softmax(logits if self.temperature is None else logits / self.temperature)

    @classmethod
    def of_report(cls, report: Mapping[str, Any]) -> "Confidence":
        """Return the confidence of the models of a run, from its checked report, in which entries may be missing."""
        calibration, foreign = report.get("calibration") or {}, report.get("foreign")
        if foreign is None:
            unflagged_reasons = (f"{OWN} was not measured",) * len(report["seeds"])
        else:
            held_out = (foreign["held_out"] or 0.0, foreign["held_out_images"])
            unflagged_reasons = tuple(_unflagged_reason(share, *held_out) for share in foreign["pool"])
        return cls(
            temperature=calibration.get("temperature"),
            uncalibrated=calibration.get("reason") or "",
            has_folds=calibration.get("fitted_on") is not None,
            is_worth_folds=report["labels"] >= LEAST_LABELS,
            unflagged_reasons=unflagged_reasons,
        )


def _unflagged_reason(pool: float | None, held_out: float, held_out_images: int) -> str:
    """Return why a model that flags these fractions of its own images says nothing about others; empty if it does.

    The labelled images that folds left out are few, so the lower confidence bound of their fraction must exceed the
    limit.
    """
    if pool is None:
        return f"{OWN} could not be measured"
    sure = binomial_interval(round(held_out * held_out_images), held_out_images)[0] if held_out_images else 0.0
    limit = f"more than {100 * FLAGGED_LIMIT:.0f} %"
    if pool > FLAGGED_LIMIT:
        return f"the model takes {100 * pool:.1f} % of the run's own pictures for generated ones, {limit}"
    if sure > FLAGGED_LIMIT:
        return (
            f"the models of the folds take {100 * held_out:.1f} % of their held-out labels for generated ones, {limit}"
        )
    return ""

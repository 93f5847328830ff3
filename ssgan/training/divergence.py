"""Warn of models that diverge and of generators that collapse."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["FailureDetector"]

COLLAPSE_RATIO = 10.0
COLLAPSE_LOSS = 0.01
COLLAPSE_HISTORY = 3
COLLAPSE_REPORTS = 500  # the last reports, whose median is the usual feature-matching loss
UNLEARNED_KS, UNLEARNED_SPREAD = 0.5, 0.1


class FailureDetector:
    """Warn about models that diverge or whose generator collapses, from the mean losses at each report.

    *Diverged*: a loss is not finite. *Collapsed*: D separates real from generated images almost without
    loss (U + V less than 0.01 above their minimum) while the feature-matching loss is more than ten times its
    median over the last 500 reports, so D learns nothing more from the generator.

    Parameters
    ----------
    seeds : sequence of int
        Seeds of the S models.
    real_target : float
        U's target for real; below 1 the minimum of U is the entropy of this target.
    """

    def __init__(self, seeds: Sequence[int], real_target: float = 1.0) -> None:
        self.seeds = list(seeds)
        self._least_loss = -sum(p * np.log(p) for p in (real_target, 1.0 - real_target) if p > 0)
        self.diverged: dict[int, int] = {}
        self.collapsed: dict[int, int] = {}
        self._matching: deque[np.ndarray] = deque(maxlen=COLLAPSE_REPORTS)

    def state(self) -> dict[str, Any]:
        """Return the state as plain types."""
        matching = [values.tolist() for values in self._matching]
        return {"diverged": self.diverged, "collapsed": self.collapsed, "matching": matching}

    def restore(self, state: dict[str, Any]) -> None:
        """Load a :meth:`state`."""
        self.diverged, self.collapsed = dict(state["diverged"]), dict(state["collapsed"])
        self._matching = deque(map(np.array, state["matching"]), maxlen=COLLAPSE_REPORTS)

    def check_losses(self, step: int, means: Mapping[str, np.ndarray]) -> list[str]:
        """Return new warnings, given the mean of each logged value since the last report, arrays [S].

        ``diverged`` and ``collapsed`` then hold the step at which it was first seen for each seed.
        """
        finite = np.all([np.isfinite(values) for values in means.values()], axis=0)
        warnings = self._diverged(step, finite, "a loss")
        matching = means.get("feature_matching")
        if matching is None or "U" not in means or "V" not in means:
            return warnings
        if len(self._matching) >= COLLAPSE_HISTORY:
            median = np.median(self._matching, axis=0)
            separated = means["U"] + means["V"] < self._least_loss + COLLAPSE_LOSS
            for i in np.flatnonzero(finite & separated & (matching > COLLAPSE_RATIO * median)):
                seed = self.seeds[i]
                if seed not in self.collapsed:
                    self.collapsed[seed] = step
                    warnings.append(
                        f"Seed {seed}: the generator has collapsed by step {step}. Feature matching is at "
                        f"{matching[i]:.3g}, {matching[i] / median[i]:.0f} times its running median, while "
                        f"U + V = {means['U'][i] + means['V'][i]:.2g}: D separates real from generated images "
                        f"without effort and learns nothing more from them. Keep adam_epsilon_inside_root=true with "
                        f"adam_epsilon at 1e-8 or more, or lower learning_rate_d."
                    )
        self._matching.append(matching)
        return warnings

    def check_weights(self, step: int, finite: np.ndarray) -> list[str]:
        """Return new warnings, given whether the weights of each model are finite, bool [S].

        For the end of training: the last loss comes before the last update.
        """
        return self._diverged(step, finite, "a weight")

    def check_distances(
        self, ks: Sequence[float | None], deviations: Sequence[float | None], target: float
    ) -> list[str]:
        """Warn about generators that have not learned a one-dimensional target.

        A generator of a single number has a Kolmogorov-Smirnov distance of at least one half.

        Parameters
        ----------
        ks : sequence of float or None, length S
        deviations : sequence of float or None, length S
            Standard deviations of the generated numbers.
        target : float
            Standard deviation of the target.
        """
        warnings = []
        for seed, distance, deviation in zip(self.seeds, ks, deviations, strict=True):
            if distance is None or deviation is None:
                continue
            if distance >= UNLEARNED_KS or deviation < UNLEARNED_SPREAD * target:
                warnings.append(
                    f"Seed {seed}: the generator has learned nothing of the target. Its numbers have a KS distance of "
                    f"{distance:.2f} and a deviation of {deviation:.3g}, where it should be {target:g}: train longer, "
                    f"or with another --seed, or with more discriminator_steps."
                )
        return warnings

    def _diverged(self, step: int, finite: np.ndarray, what: str) -> list[str]:
        warnings = []
        others = " The other seeds continue." if len(self.seeds) > 1 else ""
        for seed, is_finite in zip(self.seeds, finite, strict=True):
            if not is_finite and seed not in self.diverged:
                self.diverged[seed] = step
                warnings.append(
                    f"Seed {seed} diverged by step {step}: {what} is not finite.{others} "
                    f"Lower learning_rate_d and learning_rate_g."
                )
        return warnings

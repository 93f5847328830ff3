"""What a training tells: a :class:`Report` at every interval, a :class:`Run` at the end.

Whose a saved state is, and whether a training may go on from it.

Notices training that has gone wrong, and says so in words: numbers in, sentences out.

How fast training goes.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ssgan.data.dataset import Data
from ssgan.data.splits import Split
from ssgan.devices import select
from ssgan.errors import UserError
from ssgan.inference.models import Models
from ssgan.settings.config import Config

__all__ = [
    "STATE_KEYS",
    "STATE_VERSION",
    "Clock",
    "Run",
    "TrainingProgress",
    "Watch",
    "check_state",
    "invalid_state_as_user_error",
]


@dataclass
class TrainingProgress:
    """Where training stands, at one report interval.

    Attributes
    ----------
    step, steps, images : int
        Steps done and to do; unlabelled images seen per model.
    means : dict of str to ndarray [S]
        Mean of each loss and probability since the last report.
    errors, errors_raw : list of float or None
        Test error in percent of the averaged and the present D of each seed, where they were evaluated.
    images_per_second : float
        Unlabelled D-phase images per model, warm-up and evaluation left out.
    seconds_left : float
    warnings : list of str
        What is newly wrong.
    models : callable
        Gives the networks as they are now.
    state : callable
        Gives all that a checkpoint holds, from which training goes on, in tensors and plain types; the
        tensors are those in use, so save or copy them before the callback returns.
    """

    step: int
    steps: int
    images: int
    means: dict[str, np.ndarray]
    errors: list[float | None] | None
    errors_raw: list[float | None] | None
    images_per_second: float
    seconds_left: float
    warnings: list[str]
    models: Callable[[], Models]
    state: Callable[[], dict[str, Any]]


@dataclass
class Run:
    """A finished training: the models and what is known about them.

    Attributes
    ----------
    models : Models
        D, its average and G of every seed.
    trainer : ssgan.training.trainer.Trainer
        As it was after the last step.
    splits : list of Split
        Of each seed.
    errors, errors_raw : list of float or None
        Test error in percent of the averaged and the last D of each seed; None where it diverged or
        there is no test share, or there are no classes.
    ece, nll : list of float or None
        Calibration of the averaged D: expected calibration error, mean negative log-likelihood in nats.
    judgements : dict of str to list of float or None
        Of a GAN without classes, how well each D tells real from generated images: see
        :meth:`ssgan.inference.Models.judgements`. Otherwise empty.
    diverged, collapsed : dict of int to int
        Seeds, and the step at which it was seen.
    seconds : float
        Wall-clock time of the whole training with its evaluations, over all its sessions.
    state : callable
        Gives all that a checkpoint holds, in tensors and plain types.
    """

    config: Config
    data: Data
    seeds: list[int]
    splits: list[Split]
    device: torch.device
    models: Models
    trainer: Any
    errors: list[float | None]
    errors_raw: list[float | None]
    ece: list[float | None]
    nll: list[float | None]
    judgements: dict[str, list[float | None]]
    images_per_second: float
    seconds: float
    diverged: dict[int, int]
    collapsed: dict[int, int]
    warnings: list[str]
    state: Callable[[], dict[str, Any]]


# Of the moments and the noise: a state of another one would be misread.
STATE_VERSION = 2
# What a checkpoint holds: whose it is, what was seen so far, and all that the next step depends on.
STATE_KEYS = {
    "version",
    *("config", "dataset", "image_shape", "classes", "scale", "seeds", "split_sha256", "device_type"),
    *("watch", "warnings", "images_per_second", "seconds"),
    *("steps_done", "networks", "optimizers", "average", "history", "noise"),
}


def check_state(state: dict[str, Any], data: Data, config: Config, splits: Sequence[Split]) -> None:
    """Refuse a state from which a training on these data, labels and settings cannot go on; changes nothing.

    Raises
    ------
    UserError
        Which says what is other.
    """
    with invalid_state_as_user_error():
        if "steps_done" in state and state.get("version") != STATE_VERSION:
            raise UserError(
                "The run was begun by another version of this program: its models can be used, but its training cannot "
                "go on. Train anew."
            )
        missing = sorted(STATE_KEYS - state.keys())
        if missing:
            raise KeyError(", ".join(missing))
        changed = Config.from_dict(state["config"]).resume_conflicts(config)
        if changed:
            raise UserError(f"The run was begun with other settings, so it cannot go on: {', '.join(changed)}.")
        # The hash is of the arrays alone.
        held = (state["dataset"]["sha256"], state["scale"], state["classes"])
        if held != (data.sha256, data.scale, list(data.classes)):
            raise UserError(f"{data.name} does not hold what {state['dataset']['name']} held when the run began.")
        if state["split_sha256"] != [split.sha256 for split in splits]:
            raise UserError("The run was begun with other labelled images, so it cannot go on with these.")
        device = select(config.device).type
        if state["device_type"] != device:
            raise UserError(
                f"The run was begun on {state['device_type']}, and on {device} it would see other noise: "
                f"go on with --device {state['device_type']}."
            )


@contextmanager
def invalid_state_as_user_error() -> Iterator[None]:
    """Whatever can go wrong with a state that is none of ours is the user's to mend."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as cause:
        raise UserError(f"The checkpoint cannot be gone on from ({type(cause).__name__}: {cause}).") from cause


COLLAPSE_RATIO = 10.0
COLLAPSE_LOSS = 0.01
COLLAPSE_HISTORY = 3
UNLEARNED_KS, UNLEARNED_SPREAD = 0.5, 0.1


class Watch:
    """Follows the mean losses of every seed from report to report.

    *Diverged*: a loss is not finite. *Collapsed*: D tells real from generated images almost without
    loss (U + V below 0.01) while the feature-matching loss is more than ten times its running median,
    so the generator has been left behind and teaches D nothing more.

    Parameters
    ----------
    seeds : sequence of int
        Names of the S models.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = list(seeds)
        self.diverged: dict[int, int] = {}
        self.collapsed: dict[int, int] = {}
        self._matching: list[np.ndarray] = []

    def state(self) -> dict[str, Any]:
        """What has been seen, in plain types."""
        matching = [values.tolist() for values in self._matching]
        return {"diverged": self.diverged, "collapsed": self.collapsed, "matching": matching}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved :meth:`state`."""
        self.diverged, self.collapsed = dict(state["diverged"]), dict(state["collapsed"])
        self._matching = [np.array(values) for values in state["matching"]]

    def look(self, step: int, means: Mapping[str, np.ndarray]) -> list[str]:
        """Take the mean of each log since the last report, arrays [S]; return what is new and wrong.

        ``diverged`` and ``collapsed`` then hold the step at which each seed was first seen so.
        """
        finite = np.all([np.isfinite(values) for values in means.values()], axis=0)
        said = self._diverged(step, finite, "a loss")
        matching = means.get("feature_matching")
        if matching is None or "U" not in means or "V" not in means:
            return said
        if len(self._matching) >= COLLAPSE_HISTORY:
            usual = np.median(self._matching, axis=0)
            separated = means["U"] + means["V"] < COLLAPSE_LOSS
            for i in np.flatnonzero(finite & separated & (matching > COLLAPSE_RATIO * usual)):
                seed = self.seeds[i]
                if seed not in self.collapsed:
                    self.collapsed[seed] = step
                    said.append(
                        f"Seed {seed}: the generator has collapsed by step {step}. Feature matching is at "
                        f"{matching[i]:.3g}, {matching[i] / usual[i]:.0f} times its running median, while "
                        f"U + V = {means['U'][i] + means['V'][i]:.2g}: D separates real from generated images "
                        f"without effort and learns nothing more from them. Keep adam_epsilon_inside_root=true with "
                        f"adam_epsilon at 1e-8 or more, or lower learning_rate_d."
                    )
        self._matching.append(matching)
        return said

    def look_at_weights(self, step: int, finite: np.ndarray) -> list[str]:
        """Take whether the weights of each seed are finite, array of bool [S]; return what is new and wrong.

        For the end of training: a loss that comes before the last update cannot show what that did.
        """
        return self._diverged(step, finite, "a weight")

    def look_at_distances(
        self, ks: Sequence[float | None], deviations: Sequence[float | None], target: float
    ) -> list[str]:
        """Take how far the generated numbers of each seed are from their target; return who has learned nothing.

        A generator that gives one number alone has a Kolmogorov-Smirnov distance of one half at best, wherever that
        number lies.

        Parameters
        ----------
        ks : sequence of float or None, length S
        deviations : sequence of float or None, length S
            Of the generated numbers.
        target : float
            The deviation that they should have.
        """
        said = []
        for seed, distance, deviation in zip(self.seeds, ks, deviations, strict=True):
            if distance is None or deviation is None:
                continue
            if distance >= UNLEARNED_KS or deviation < UNLEARNED_SPREAD * target:
                said.append(
                    f"Seed {seed}: the generator has learned nothing of the target. Its numbers have a KS distance of "
                    f"{distance:.2f} and a deviation of {deviation:.3g}, where it should be {target:g}: train longer, "
                    f"or with another --seed, or with more discriminator_steps."
                )
        return said

    def _diverged(self, step: int, finite: np.ndarray, what: str) -> list[str]:
        said = []
        others = " The other seeds go on." if len(self.seeds) > 1 else ""
        for seed, fine in zip(self.seeds, finite, strict=True):
            if not fine and seed not in self.diverged:
                self.diverged[seed] = step
                said.append(
                    f"Seed {seed} diverged by step {step}: {what} is not finite.{others} "
                    f"Lower learning_rate_d and learning_rate_g."
                )
        return said


WARM_UP_STEPS = 10


class Clock:
    """Times steps on the device, without the first ones and without pauses.

    Steps are counted from its making: those of a run that goes on do not count again.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.born = self.started = time.perf_counter()
        self.steps = self.warm_steps = 0
        self.left_out = 0.0

    def tick(self) -> None:
        """One step more; the measurement starts once the first ones are done."""
        self.steps += 1
        if self.steps == WARM_UP_STEPS:
            self.started, self.warm_steps, self.left_out = self._now(), self.steps, 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time spent inside."""
        paused_at = self._now()
        yield
        self.left_out += self._now() - paused_at

    def steps_per_second(self) -> float:
        """Since the first steps; while there are no others, since the beginning."""
        if self.steps == self.warm_steps:
            return self.steps / (self._now() - self.born)
        return (self.steps - self.warm_steps) / (self._now() - self.started - self.left_out)

    def seconds(self) -> float:
        """Since the beginning, everything included."""
        return self._now() - self.born

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

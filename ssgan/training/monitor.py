"""Follow a training: progress, speed, warnings, and the state from which it is resumed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from ssgan import distributed
from ssgan.data.dataset import Data
from ssgan.data.splits import Split, imbalance_warnings
from ssgan.devices import precision_warnings
from ssgan.inference.models import Models
from ssgan.settings.config import Config
from ssgan.training.divergence import FailureDetector
from ssgan.training.parts import FailedParts
from ssgan.training.state import STATE_VERSION, invalid_state_as_user_error
from ssgan.training.timing import Clock, StepProgress, StepTimer

__all__ = ["Monitor", "Run", "TrainingProgress"]


@dataclass
class TrainingProgress:
    """Describe the progress of training at a report.

    Attributes
    ----------
    step, steps, images : int
        Steps done and to do; unlabelled images seen per model.
    means : dict of str to ndarray [S]
        Mean of each loss and probability since the last report.
    errors, errors_raw : list of float or None
        Test error in percent of the averaged and the last D of each model, if they were evaluated.
    images_per_second : float
        Unlabelled images of D's phase per model, without warm-up and evaluation.
    seconds_left : float
        Time for the remaining steps, evaluations and pictures.
    warnings : list of str
        New since the last report.
    models : callable
        Returns the current networks.
    state : callable
        Returns all that a checkpoint holds, as tensors and plain types; the tensors are those in use, so save or
        copy them before the callback returns.
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


@dataclass(repr=False)
class Run:
    """Hold a finished training: the models and what was measured.

    Attributes
    ----------
    config : Config
    data : Data
    seeds : list of int
    device : torch.device
    models : Models
        D, its average and G of every seed.
    trainer : ssgan.training.trainer.Trainer
        As it was after the last step.
    splits : list of Split
        Split of each seed.
    errors, errors_raw : list of float or None
        Test error in percent of the averaged and the last D of each seed; None if it diverged or
        there is no test set, or there are no classes.
    ece, nll : list of float or None
        Calibration of the averaged D: expected calibration error, mean negative log-likelihood in nats.
    judgements : dict of str to list of float or None
        For a GAN without classes, how well each D tells real from generated images: see
        :meth:`ssgan.inference.models.Models.judgements`. Otherwise empty.
    diverged, collapsed : dict of int to int
        Seeds, and the step at which it was detected.
    images_per_second : float
        Unlabelled images drawn per second, of one seed.
    seconds : float
        Wall-clock time of the whole training with its evaluations, over all its sessions.
    warnings : list of str
        What went wrong during the training, in sentences.
    failed_parts : FailedParts
        What could not be measured: its value is None.
    state : callable
        Returns all that a checkpoint holds, as tensors and plain types.
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
    failed_parts: FailedParts
    state: Callable[[], dict[str, Any]]

    def __getstate__(self) -> Any:
        """Refuse to be pickled, since the trainer holds functions."""
        raise TypeError("A training cannot be pickled: save(folder) writes it, and ssgan.open_run(folder) opens it.")


FIRST_REPORT_STEP = 20  # if a step takes seconds, the remaining time is known early
TIMED_IMAGES = 64  # test images on which an evaluation is timed before the first one


class Monitor:
    """Follow one training: what the loop reports, and what a checkpoint holds besides the trainer's state.

    Parameters
    ----------
    trainer : ssgan.training.trainer.Trainer
    data : Data
    splits : sequence of Split
        Split of each model.
    clock : Clock
    failed_parts : FailedParts, optional
        Receives the measurements that fail.
    """

    def __init__(
        self,
        trainer: Any,
        data: Data,
        splits: Sequence[Split],
        clock: Clock,
        failed_parts: FailedParts | None = None,
    ) -> None:
        self.trainer, self.data, self.splits, self.clock = trainer, data, list(splits), clock
        self.failed_parts = FailedParts() if failed_parts is None else failed_parts
        self.config: Config = trainer.config
        self.watch = FailureDetector(trainer.batches.seeds, self.config.real_target)
        self.warnings = imbalance_warnings([split.y for split in splits], data.classes)
        self.warnings += precision_warnings(clock.device, self.config.precision, self.config.convolutional)
        if not (self.config.weight("labeled") or self.config.unconditional):
            self.warnings.append(
                "weight_labeled is 0: no label was learned from, so the order of the classes is arbitrary."
            )
        self.images_per_second, self.seconds_before = 0.0, 0.0
        self.last_report = 0
        self.timer = StepTimer(clock, self.config.steps, self._evaluation_interval)

    def state(self) -> dict[str, Any]:
        """Return all that a checkpoint holds."""
        data, batches = self.data, self.trainer.batches
        return {
            "config": self.config.to_dict(),
            "dataset": {"name": data.name, "sha256": data.sha256},
            "image_shape": list(data.image_shape),
            "classes": list(data.classes),
            "scale": data.scale,
            "seeds": batches.seeds,
            "split_sha256": batches.split_sha256,
            "device_type": batches.device.type,
            "version": STATE_VERSION,
            "watch": self.watch.state(),
            "warnings": list(self.warnings),
            "images_per_second": self.images_per_second,
            "seconds": self.seconds_before + self.clock.seconds(),
            **({} if data.feature_map is None else {"feature_map": data.feature_map.state()}),
            **self.trainer.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Load a state that :func:`ssgan.training.state.check_state` has accepted."""
        with invalid_state_as_user_error():
            self.trainer.restore(state)
            self.watch.restore(state["watch"])
            self.warnings = list(state["warnings"])
            self.images_per_second, self.seconds_before = state["images_per_second"], state["seconds"]
            self.last_report = self.trainer.steps_done

    def evaluation_due(self) -> bool:
        """Return whether the test error is logged after this step."""
        interval = self._evaluation_interval
        return bool(interval) and self.trainer.steps_done % interval == 0

    @property
    def _evaluation_interval(self) -> int:
        """Steps between two test errors in the log; 0 without them."""
        return self.config.steps_for(self.config.evaluate_every_images) if len(self.data.x_test) else 0

    def report_due(self) -> bool:
        """Return whether a report is due after this step: at the interval, at the end, and early for the time left."""
        steps_done = self.trainer.steps_done
        interval = self.config.steps_for(self.config.report_every_images)
        return steps_done % interval == 0 or steps_done in (FIRST_REPORT_STEP, self.config.steps)

    def pop_logs(self) -> dict[str, np.ndarray]:
        """Return the mean of each logged value since the last report, arrays [S], and start new ones."""
        steps_done = self.trainer.steps_done
        means: dict[str, np.ndarray] = self.trainer.pop_logs(steps_done - self.last_report)
        self.last_report = steps_done
        return means

    def report(self, means: dict[str, np.ndarray], evaluate: bool) -> TrainingProgress:
        """Return the progress of training, with new warnings and, if requested, the test errors."""
        rate, steps_done = self.clock.steps_per_second(), self.trainer.steps_done
        self.images_per_second = rate * self.config.images_per_step
        warnings = self.watch.check_losses(steps_done, means)
        warnings += [warning for warning in self.trainer.cuda_graph_warnings if warning not in self.warnings]
        self.warnings += warnings
        errors, errors_raw = None, None
        if evaluate:
            with self.timer.evaluating():
                errors, errors_raw = self._test_errors()
        # Includes failures since the previous report. The final report reads them from ``failed_parts``.
        warnings = [*warnings, *self.failed_parts.new_warnings()]
        return TrainingProgress(
            step=steps_done,
            steps=self.config.steps,
            images=steps_done * self.config.images_per_step,
            means=means,
            errors=errors,
            errors_raw=errors_raw,
            images_per_second=self.images_per_second,
            seconds_left=self.timer.estimate(steps_done, self.clock.seconds_per_step() or 1.0 / rate),
            warnings=warnings,
            models=partial(self.trainer.models, self.data),
            state=self.state,
        )

    def step_progress(self) -> StepProgress:
        """Return the progress of training between two reports."""
        steps_done, config = self.trainer.steps_done, self.config
        progress = StepProgress(steps_done, config.steps, steps_done * config.images_per_step)
        if (per_step := self.measure_seconds_per_step()) is None:
            return progress
        return progress._replace(
            images_per_second=config.images_per_step / per_step, seconds_left=self.timer.estimate(steps_done, per_step)
        )

    def measure_seconds_per_step(self) -> float | None:
        """Return the time of a step, None as long as too few are measured; the first time an evaluation is timed too.

        The evaluation is one of a few images of the test set; their logits are discarded.
        """
        per_step = self.clock.seconds_per_step()
        if per_step is not None and self.timer.evaluation_seconds is None:
            self.timer.evaluation_seconds = 0.0
            x_test, began = self.data.x_test[:TIMED_IMAGES], time.perf_counter()
            if len(x_test):
                with self.clock.paused(), FailedParts().attempt("timing"):
                    self.trainer.models(self.data).logits(x_test)
                seconds = time.perf_counter() - began
                self.timer.evaluation_seconds = 2 * seconds * len(self.data.x_test) / len(x_test)
                self.timer.seconds_of_evaluations += seconds
        return per_step

    def _test_errors(self) -> tuple[list[float | None] | None, list[float | None] | None]:
        """Return the test errors of the averaged and of the last models; None if they cannot be measured."""
        models, data = self.trainer.models(self.data), self.data
        with self.failed_parts.attempt("test errors in the log"):
            averaged, raw = (
                models.scores(data.x_test, data.y_test, a, metrics=["error"])["error"] for a in (True, False)
            )
            return averaged, raw
        return None, None

    def finish(self) -> Run:
        """Evaluate the trained models and return the run, with None for what cannot be measured."""
        data, trainer, watch = self.data, self.trainer, self.watch
        evaluated = slice(None) if distributed.is_main() else slice(0)  # only one process evaluates
        x_test, y_test = data.x_test[evaluated], data.y_test[evaluated]
        self.warnings += watch.check_weights(trainer.steps_done, trainer.finite())
        models = trainer.models(data)
        scores: dict[str, list[float | None]] = {name: [None] * len(models.seeds) for name in ("error", "ece", "nll")}
        raw = {"error": scores["error"]}
        judgements: dict[str, list[float | None]] = {}
        with self.failed_parts.attempt("test scores"):
            scores = models.scores(x_test, y_test)
        with self.failed_parts.attempt("test error of the last step"):
            raw = models.scores(x_test, y_test, averaged=False, metrics=["error"])
        with self.failed_parts.attempt("judgements of real and generated images"):
            if self.config.unconditional and distributed.is_main():
                judgements = models.judgements(data.x_test, self.config.seed, data.normal)
            if data.normal is not None and judgements:
                self.warnings += watch.check_distances(judgements["ks"], judgements["generated_std"], data.normal[1])
        state = self.state()  # taken here, because the random generator and the clock change after the training
        return Run(
            config=self.config,
            data=data,
            seeds=trainer.batches.seeds,
            splits=self.splits,
            device=trainer.batches.device,
            models=models,
            trainer=trainer,
            errors=scores["error"],
            errors_raw=raw["error"],
            ece=scores["ece"],
            nll=scores["nll"],
            judgements=judgements,
            images_per_second=self.images_per_second,
            seconds=state["seconds"],
            diverged=watch.diverged,
            collapsed=watch.collapsed,
            warnings=self.warnings,
            failed_parts=self.failed_parts,
            state=lambda: state,
        )

"""Train S models side by side: the networks, one step of all, and the loop."""

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssgan import devices, distributed
from ssgan.data.dataset import Data
from ssgan.data.feature_map import FeatureMap
from ssgan.data.splits import Split, check_splits, make_splits
from ssgan.devices import own_precision, rng_state, select, set_rng_state
from ssgan.inference.features import apply_backbone
from ssgan.inference.models import Models
from ssgan.nn.registry import build_stacks
from ssgan.nn.stack import choose_strategy, finite_seeds
from ssgan.settings.catalog import check_range
from ssgan.settings.config import Config
from ssgan.training import interrupts
from ssgan.training.batches import Batches, stream_key
from ssgan.training.methods import Batch, phases
from ssgan.training.monitor import Monitor, Run, TrainingProgress
from ssgan.training.parent import Parent, check_parent
from ssgan.training.parts import FailedParts
from ssgan.training.state import check_state
from ssgan.training.step import CapturedPart, Part
from ssgan.training.timing import Clock, StepProgress

__all__ = ["Trainer", "time_training", "train"]

# Torch's generators and its precision belong to the process, so trainings in several threads run one after the other.
_TRAINING_LOCK = threading.RLock()


class Trainer:
    """Train S models side by side: their networks, averages and optimisers, and one step of all.

    Parameters
    ----------
    batches : Batches
        The source of batches; its seeds are those of the models.
    image_shape : tuple of int
    classes : int
        Number of classes of the data: K, except for a GAN without classes.
    config : Config

    Attributes
    ----------
    stacks : dict of str to Stack
        The networks ``"D"`` and, if it is trained, ``"G"`` of all models.
    ema : dict of str to Tensor [S, ...]
        The running mean of D's parameters, not debiased.
    parts : list of Part
        One for each model, or one for all of them lifted by ``vmap``.
    steps_done : int
    """

    def __init__(self, batches: Batches, image_shape: tuple[int, ...], classes: int, config: Config) -> None:
        self.config, self.batches = config, batches
        strategy: str = config.seed_strategy
        if strategy == "auto":
            strategy = choose_strategy(len(batches.seeds), batches.device.type)
        self.strategy = strategy
        seeds = batches.seeds
        self.stacks = build_stacks(
            config,
            image_shape,
            classes,
            len(seeds),
            batches.device,
            lambda i: (stream_key(seeds[i], "init"), batches.initialization_images(seeds[i]).cpu()),
        )
        self.ema = {k: torch.zeros_like(v) for k, v in self.stacks["D"].parameters.items()}
        self.history: dict[str, dict[str, Tensor]] = {}
        if config.weight_historical_averaging:
            self.history = {
                name: {k: v.clone() for k, v in stack.parameters.items()} for name, stack in self.stacks.items()
            }
        self.parts = self._make_parts()
        self.runners: list[Part | CapturedPart] = [*self.parts]
        if batches.device.type == "cuda" and config.cuda_graph and distributed.count() == 1:
            self.runners = [CapturedPart(part, batches.device) for part in self.parts]
        self.steps_done = 0
        self.parent: dict[str, Any] | None = None
        self.parent_mass = 0.0  # EMA weight of the parent, whose average is used until the first step

    def start_from(self, parent: Parent, data: Data) -> None:
        """Start from the weights of a parent that :func:`ssgan.training.parent.check_parent` has accepted."""
        parent.fill(self.stacks, self.ema, self.config, data)
        self.parent, self.parent_mass = {"weights_sha256": parent.weights_sha256}, parent.mass
        for name, history in self.history.items():
            for key, value in history.items():
                value.copy_(self.stacks[name].parameters[key])

    def step(self, batches: Sequence[Batch]) -> None:
        """Take one step with every model: the phases in turn, each on its own part of the batches."""
        if self.parent_mass:
            self._begin_average()
        numbers = {
            **{f"rate_{name}": self.learning_rate(name) for name in self.stacks},
            "history_share": 1.0 / (self.steps_done + 2),  # the initial weights count too
            "average_mass": self.ema_mass,
            "ramp": self.ramp,
        }
        tasks = [partial(runner.step, batches, numbers) for runner in self.runners]
        if self.batches.device.type == "cpu":
            devices.run_in_threads(tasks)
        else:
            for task in tasks:
                task()
        self.steps_done += 1

    @property
    def cuda_graph_warnings(self) -> list[str]:
        """A warning if the step could not be recorded as a CUDA graph."""
        captured = [runner for runner in self.runners if isinstance(runner, CapturedPart)]
        reasons = [runner.refusal for runner in captured if runner.refusal]
        return [f"The step could not be recorded as a CUDA graph, so it runs eagerly: {why}" for why in reasons[:1]]

    def remaining_batches(self) -> Iterator[list[Batch]]:
        """Return an iterator over the batches of each remaining step: ``discriminator_steps`` of them for one step.

        One-time work that takes longer than a batch is done by the call, before the first batch is taken.
        """
        per_step = self.config.discriminator_steps
        first = self.steps_done * per_step
        self.batches.prepare(first)
        stream = self.batches.from_batch(first, self.config.steps * per_step)
        return iter(lambda: list(itertools.islice(stream, per_step)), [])

    def learning_rate(self, net: str) -> float:
        """Return the learning rate of the next step: multiplied at intervals, and linear to 0 at the end."""
        base: float = getattr(self.config, f"learning_rate_{net.lower()}")
        base *= self.config.factor(net, self.steps_done * self.config.images_per_step)
        left, tail = 1.0 - self.steps_done / self.config.steps, self.config.decay(net)
        return base * min(1.0, left / tail) if tail else base

    @property
    def ramp(self) -> float:
        """The factor of the weights of the ramped terms in the next step, ``exp(-5 (1 - t)^2)``.

        Source: Laine & Aila, *Temporal Ensembling for Semi-Supervised Learning*, 2017, section 2.3.
        """
        length = self.config.ramp_up_fraction * self.config.steps
        left = max(0.0, 1.0 - self.steps_done / length) if length else 0.0
        return math.exp(-5.0 * left**2)

    def averaged(self) -> dict[str, Tensor]:
        """Return D's parameters averaged over the steps, debiased: the model that is evaluated."""
        return {k: v / self.ema_mass for k, v in self.ema.items()}

    @property
    def ema_mass(self) -> float:
        """The weight of the steps so far in the average; the rest is the zero that it started from."""
        if self.parent_mass:
            return self.parent_mass
        decay = self.config.ema_decay
        return -math.expm1(self.steps_done * math.log(decay)) if decay else float(self.steps_done > 0)

    def _begin_average(self) -> None:
        """Discard the average of a parent, so that this one is only of the steps of this run."""
        torch._foreach_zero_(list(self.ema.values()))
        self.parent_mass = 0.0

    def models(self, data: Data) -> Models:
        """Return the current networks, for use."""
        return Models(
            config=self.config,
            D=self.stacks["D"],
            G=self.stacks.get("G"),
            averaged=self.averaged(),
            scale=data.scale,
            image_shape=data.image_shape,
            classes=data.classes,
            seeds=self.batches.seeds,
            split_sha256=self.batches.split_sha256,
            feature_map=data.feature_map,
        )

    def finite(self) -> np.ndarray:
        """Return whether every weight and average of each model is finite, bool [S]."""
        values = [*self.ema.values(), *(v for stack in self.stacks.values() for v in stack.parameters.values())]
        return finite_seeds(values).cpu().numpy()

    def pop_logs(self, steps: int) -> dict[str, np.ndarray]:
        """Return the mean of each logged value over the last ``steps`` steps, arrays [S], and restart the sums at 0."""
        sums = [torch.stack([value.reshape(-1) for value in part.sums.values()]) for part in self.parts]
        (means,) = distributed.average([torch.cat(sums, dim=1) / steps])
        values = means.cpu().double().numpy()
        for part in self.parts:
            torch._foreach_zero_(list(part.sums.values()))
        return dict(zip(self.parts[0].sums, values, strict=True))

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on; some tensors are those in use, so save or copy them."""
        return {
            "steps_done": self.steps_done,
            "networks": {name: stack.state() for name, stack in self.stacks.items()},
            "optimizers": {name: self._optimizer_state(name) for name in self.stacks},
            "average": {"sums": self.ema, "mass": self.ema_mass},
            "history": self.history,
            "noise": self._noise_state(),
            **({} if self.parent is None else {"parent": self.parent}),
        }

    def _optimizer_state(self, name: str) -> dict[str, Any]:
        """Return the optimiser states of all models, each tensor [S, ...]."""
        states = [part.optimizers[name].state() for part in self.parts]
        if self.parts[0].seed is None:
            return states[0]
        return {
            key: [torch.stack(each) for each in zip(*(state[key] for state in states), strict=True)]
            if isinstance(value, list)
            else value
            for key, value in states[0].items()
        }

    def _noise_state(self) -> Tensor:
        states = [part.generator.get_state() for part in self.parts if part.generator]
        return torch.stack(states) if states else rng_state(self.batches.device)

    def _restore_noise(self, state: Tensor) -> None:
        generators = [part.generator for part in self.parts if part.generator]
        if not generators:
            set_rng_state(self.batches.device, state)
            return
        if len(state) != len(generators):
            raise ValueError(f"the noise is of {len(state)} seeds")
        for generator, generator_state in zip(generators, state, strict=True):
            generator.set_state(generator_state.clone())  # set_state ignores the offset of a view

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Load a :meth:`state` of the same configuration; the next step is the one that would have followed it."""
        self.steps_done, self.parent = state["steps_done"], state.get("parent")
        self.parent_mass = 0.0 if self.steps_done else state["average"]["mass"]
        for name, stack in self.stacks.items():
            stack.fill(state["networks"][name]["parameters"], state["networks"][name]["buffers"])
            for part in self.parts:
                saved = state["optimizers"][name]
                if part.seed is not None:
                    saved = {k: [t[part.seed] for t in v] if isinstance(v, list) else v for k, v in saved.items()}
                part.optimizers[name].restore(saved)
        averages = [(self.ema, state["average"]["sums"])]
        averages += [(history, state["history"][name]) for name, history in self.history.items()]
        for values, saved in averages:
            for name, value in values.items():
                if value.shape != saved[name].shape:
                    raise ValueError(f"an average of {name} has shape {list(saved[name].shape)}")
                value.copy_(saved[name])
        self._restore_noise(state["noise"])

    def _make_parts(self) -> list[Part]:
        """Make a part for each model, or one for all of them lifted by ``vmap``."""
        updates, device = phases(self.config), self.batches.device
        seeds: list[int | None] = [None] if self.strategy == "vmap" else [*range(len(self.batches.seeds))]
        parts = []
        for seed in seeds:
            generator = None
            if seed is not None and device.type == "cpu":
                generator = torch.Generator().manual_seed(stream_key(self.batches.seeds[seed], "noise"))
            compiled = device.type == "cuda" and self.config.compile_losses
            parts.append(Part(self.config, updates, self.stacks, self.ema, self.history, seed, generator, compiled))
        return parts


def train(
    data: Data,
    config: Config,
    splits: Sequence[Split] | None = None,
    on_report: Callable[[TrainingProgress], None] | None = None,
    state: dict[str, Any] | None = None,
    after_step: Callable[[int], bool] | None = None,
    failed_parts: FailedParts | None = None,
    start: Parent | None = None,
    on_start: Callable[[dict[str, Any]], None] | None = None,
    on_step: Callable[[StepProgress], None] | None = None,
) -> Run:
    """Train ``config.seeds`` models side by side and evaluate them.

    Parameters
    ----------
    data : Data
    config : Config
    splits : sequence of Split, optional
        The labelled rows of each model, and the rows that it never sees; by default drawn as ``config`` says.
    on_report : callable, optional
        Called at every report interval and at the end.
    state : dict, optional
        What ``TrainingProgress.state()`` or ``Run.state()`` returned: training is resumed from there, to weights that
        are bit-for-bit the same as if it had not been interrupted (on the same kind of device and number of threads).
    after_step : callable, optional
        Called after every step; returns whether it needs a report, besides those at the interval.
    failed_parts : FailedParts, optional
        Receives what cannot be measured, so that it does not end the training.
    start : Parent, optional
        From :func:`ssgan.training.parent.open_parent`: the weights to start from, if there is no ``state``.
    on_start : callable, optional
        Called with the state after zero steps of a training that has a ``start``.
    on_step : callable, optional
        Called before the first step and a few times per second, with the remaining time as soon as it is known.

    Returns
    -------
    Run

    Raises
    ------
    UserError
        If data and configuration do not fit, or the state or the start is of other data or another configuration.
    """
    data = apply_backbone(data, config, feature_map=_inherited_map(state, start))
    check_range(config.network, data.name, data.bounded)
    device = select(config.device, config.dtype, config.precision)
    clock = Clock(device)
    if splits is None:
        splits = make_splits(data.y_train, config.labels, config.draw_seeds)
    check_splits(splits, data.y_train, config.labels, config.seeds)
    if state is not None:
        check_state(state, data, config, splits)
    elif start is not None:
        check_parent(start, config, data, splits)
    with _own_noise(config, device):
        trainer = _build(data, config, splits, device)
        monitor = Monitor(trainer, data, splits, clock, failed_parts)
        if state is not None:
            monitor.restore(state)
        elif start is not None:
            trainer.start_from(start, data)
            if on_start is not None:
                on_start(monitor.state())
        if on_step is not None:
            on_step(monitor.step_progress())
        remaining = trainer.remaining_batches()
        clock.start()
        for step_batches in remaining:
            trainer.step(step_batches)
            clock.tick()
            if on_step is not None and (monitor.timer.restart_if_due() or trainer.steps_done == config.steps):
                on_step(monitor.step_progress())
            needs_report = after_step is not None and after_step(trainer.steps_done)
            evaluate = monitor.evaluation_due()
            if interrupts.agree(evaluate or monitor.report_due() or needs_report):
                means = monitor.pop_logs()
                with clock.paused():
                    progress = monitor.report(means, evaluate and distributed.is_main())
                    if on_report is not None:
                        on_report(progress)
        return monitor.finish()


def _inherited_map(state: dict[str, Any] | None, start: Parent | None) -> FeatureMap | None:
    """Return the map of features of a training that starts, or that started, from another run; None for others."""
    if isinstance(state, dict) and "parent" in state and "feature_map" in state:
        return FeatureMap.from_state(state["feature_map"])
    return None if state is not None or start is None else start.models.feature_map


def time_training(data: Data, config: Config, splits: Sequence[Split], share: float = 0.1) -> float | None:
    """Estimate the seconds of a training from its first steps, which are discarded.

    Parameters
    ----------
    data, config, splits
        As :func:`train` takes them, with the features of a backbone computed.
    share : float
        Largest fraction of the steps that is run.

    Returns
    -------
    float or None
        None if so few steps take too little time to measure.
    """
    device = select(config.device, config.dtype, config.precision)
    with _own_noise(config, device):
        monitor = Monitor(_build(data, config, splits, device), data, splits, Clock(device))
        remaining = monitor.trainer.remaining_batches()
        monitor.clock.start()
        for step_batches in itertools.islice(remaining, int(share * config.steps)):
            monitor.trainer.step(step_batches)
            monitor.clock.tick()
            if (per_step := monitor.measure_seconds_per_step()) is not None:
                return monitor.timer.estimate(0, per_step)
    return None


@contextmanager
def _own_noise(config: Config, device: torch.device) -> Iterator[None]:
    """Set the caller's generators, precision and gradient mode of torch aside; other threads wait until the end."""
    devices, kind = ([], "cuda") if device.type == "cpu" else ([device], device.type)
    own_generators = torch.random.fork_rng(devices=devices, device_type=kind)
    own = own_precision(config.precision, device)
    with _TRAINING_LOCK, own_generators, own, torch.inference_mode(False), torch.enable_grad():
        yield


def _seed_noise(seed: int, device: torch.device) -> None:
    """Seed torch's generators of the CPU and of one device, from which noise is drawn, and no others."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _build(data: Data, config: Config, splits: Sequence[Split], device: torch.device) -> Trainer:
    """Build the models and their batches, and seed torch's generator for their noise."""
    x_pool = data.x_train if config.augmentation != "crops" or data.views_train is None else data.views_train
    batches = Batches(x_pool, data.scale, list(splits), config.all_seeds, config, device)
    trainer = Trainer(batches, data.image_shape, len(data.classes), config)
    _seed_noise(stream_key(batches.seeds[0], "noise", *batches.seeds), device)
    return trainer

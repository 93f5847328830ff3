"""The loop: S models train side by side, one step of every phase at a time."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssgan import devices
from ssgan.data.dataset import Data
from ssgan.data.splits import Split, check_splits, imbalance_warnings, make_splits
from ssgan.devices import float32_precision, noise_state, restore_noise, select
from ssgan.inference.models import Models
from ssgan.nn.registry import build_stacks
from ssgan.nn.stack import choose_strategy
from ssgan.settings.catalog import check_range
from ssgan.settings.config import Config
from ssgan.training.batches import Batches, stream_key
from ssgan.training.methods import Batch, phases
from ssgan.training.monitor import (
    STATE_VERSION,
    Clock,
    Run,
    TrainingProgress,
    Watch,
    check_state,
    invalid_state_as_user_error,
)
from ssgan.training.step import CapturedPart, Part

__all__ = ["Trainer", "train"]


FIRST_REPORT_STEP = 20  # besides those at the interval: where a step takes seconds, the time left is told soon


class Trainer:
    """Parameters and averages of S seeds, and the parts that move them.

    Parameters
    ----------
    batches : Batches
        Where data come from; its seeds are the stack.
    image_shape : tuple of int
    classes : int
        Of the data; K, but where the GAN has no classes.
    config : Config
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
        self.parts = self._cut()
        self.movers: list[Part | CapturedPart] = [*self.parts]
        if batches.device.type == "cuda" and config.cuda_graph:
            self.movers = [CapturedPart(part, batches.device) for part in self.parts]
        self.steps_done = 0

    def step(self, batches: Sequence[Batch]) -> None:
        """Move every seed by one step: the phases in turn, each on as many of the batches as it repeats."""
        numbers = {
            **{f"rate_{name}": self.learning_rate(name) for name in self.stacks},
            "history_share": 1.0 / (self.steps_done + 2),  # the weights that it began with count too
            "average_mass": self.ema_mass,
            "ramp": self.ramp,
        }
        tasks = [partial(mover.step, batches, numbers) for mover in self.movers]
        if self.batches.device.type == "cpu":
            devices.run_in_threads(tasks)
        else:
            for task in tasks:
                task()
        self.steps_done += 1

    @property
    def refusals(self) -> list[str]:
        """In one sentence, why a step is not as fast as it might be."""
        captured = [mover for mover in self.movers if isinstance(mover, CapturedPart)]
        found = [mover.refusal for mover in captured if mover.refusal]
        return [f"The step could not be recorded as a CUDA graph, so it runs eagerly: {why}" for why in found[:1]]

    def learning_rate(self, net: str) -> float:
        """The step size at this point of the network's schedule: multiplied now and then, at the end linear to 0."""
        base: float = getattr(self.config, f"learning_rate_{net.lower()}")
        base *= self.config.factor(net, self.steps_done * self.config.images_per_step)
        left, tail = 1.0 - self.steps_done / self.config.steps, self.config.decay(net)
        return base * min(1.0, left / tail) if tail else base

    @property
    def ramp(self) -> float:
        """The share of their weights that the terms on unlabelled images have by now, ``exp(-5 (1 - t)^2)``.

        Source: Laine & Aila, *Temporal Ensembling for Semi-Supervised Learning*, 2017, section 2.3.
        """
        length = self.config.ramp_up_fraction * self.config.steps
        left = max(0.0, 1.0 - self.steps_done / length) if length else 0.0
        return math.exp(-5.0 * left**2)

    def averaged(self) -> dict[str, Tensor]:
        """D's parameters averaged over the steps, debiased: the model that is evaluated."""
        return {k: v / self.ema_mass for k, v in self.ema.items()}

    @property
    def ema_mass(self) -> float:
        """How much of the average the steps so far make up; the rest is the zero that it began with."""
        decay = self.config.ema_decay
        return -math.expm1(self.steps_done * math.log(decay)) if decay else float(self.steps_done > 0)

    def models(self, data: Data) -> Models:
        """The networks as they are now, ready to use."""
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
        )

    def finite(self) -> np.ndarray:
        """Whether every weight and average of each seed is finite, array of bool [S]."""
        values = [*self.ema.values(), *(v for stack in self.stacks.values() for v in stack.parameters.values())]
        return torch.stack([v.flatten(1).isfinite().all(dim=1) for v in values]).all(dim=0).cpu().numpy()

    def read_logs(self, steps: int) -> dict[str, np.ndarray]:
        """The mean of each log over the last ``steps`` steps, arrays [S]; the only read from the device."""
        sums = [torch.stack([value.reshape(-1) for value in part.sums.values()]) for part in self.parts]
        values = (torch.cat(sums, dim=1) / steps).cpu().double().numpy()
        for part in self.parts:
            torch._foreach_zero_(list(part.sums.values()))
        return dict(zip(self.parts[0].sums, values, strict=True))

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, in tensors and plain types; some are those in use: save or copy it."""
        return {
            "steps_done": self.steps_done,
            "networks": {name: stack.state() for name, stack in self.stacks.items()},
            "optimizers": {name: self._optimizer_state(name) for name in self.stacks},
            "average": {"sums": self.ema, "mass": self.ema_mass},
            "history": self.history,
            "noise": self._noise_state(),
        }

    def _optimizer_state(self, name: str) -> dict[str, Any]:
        """The moments of all seeds, each tensor [S, ...]."""
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
        own = [part.generator.get_state() for part in self.parts if part.generator]
        return torch.stack(own) if own else noise_state(self.batches.device)

    def _restore_noise(self, state: Tensor) -> None:
        own = [part.generator for part in self.parts if part.generator]
        if not own:
            restore_noise(self.batches.device, state)
            return
        if len(state) != len(own):
            raise ValueError(f"the noise is of {len(state)} seeds")
        for generator, one in zip(own, state, strict=True):
            generator.set_state(one.clone())  # it reads a tensor from the beginning of its memory

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state` of the same configuration: the next step is the one it would have had."""
        self.steps_done = state["steps_done"]
        for name, stack in self.stacks.items():
            stack.fill(state["networks"][name]["parameters"], state["networks"][name]["buffers"])
            for part in self.parts:
                saved = state["optimizers"][name]
                if part.seed is not None:
                    saved = {k: [t[part.seed] for t in v] if isinstance(v, list) else v for k, v in saved.items()}
                part.optimizers[name].restore(saved)
        averages = [(self.ema, state["average"]["sums"])]
        averages += [(history, state["history"][name]) for name, history in self.history.items()]
        for ours, saved in averages:
            for name, value in ours.items():
                if value.shape != saved[name].shape:
                    raise ValueError(f"an average of {name} has shape {list(saved[name].shape)}")
                value.copy_(saved[name])
        self._restore_noise(state["noise"])

    def _cut(self) -> list[Part]:
        """The parts that are moved one by one: every seed, or all of them lifted."""
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
    due: Callable[[int], bool] | None = None,
) -> Run:
    """Train ``config.seeds`` models side by side and evaluate them.

    Parameters
    ----------
    data : Data
    config : Config
    splits : sequence of Split, optional
        The labelled rows of each model, and the rows that it never sees; otherwise drawn as ``config`` says.
    on_report : callable, optional
        Called at every report interval and at the end.
    state : dict, optional
        What ``Report.state()`` or ``Run.state()`` gave: training goes on from there, to the same weights, bit
        for bit, as if it had not been interrupted (on the same kind of device and number of threads).
    due : callable, optional
        Whether a report is needed after a step, besides those at the interval.

    Returns
    -------
    Run

    Raises
    ------
    UserError
        Where data and configuration do not fit, or the state is one of other data or another configuration.
    """
    check_range(config.network, data.name, data.bounded)
    device = select(config.device, config.dtype, config.precision)
    clock = Clock(device)
    seeds = config.all_seeds
    if splits is None:
        splits = make_splits(data.y_train, config.labels, config.draw_seeds)
    check_splits(splits, data.y_train, config.labels, config.seeds)
    if state is not None:
        check_state(state, data, config, splits)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), float32_precision(config.precision, device):
        batches = Batches(data.x_train, data.scale, list(splits), seeds, config, device)
        trainer = Trainer(batches, data.image_shape, len(data.classes), config)
        torch.manual_seed(stream_key(seeds[0], "noise", *seeds))
        training = _Training(data, trainer, list(splits), clock)
        if state is not None:
            training.restore(state)
        training.loop(on_report, due)
        return training.finish()


class _Training:
    """One training under way: what the loop keeps beside the trainer."""

    def __init__(self, data: Data, trainer: Trainer, splits: list[Split], clock: Clock) -> None:
        self.data, self.trainer, self.splits, self.clock = data, trainer, splits, clock
        self.config, self.watch = trainer.config, Watch(trainer.batches.seeds)
        self.warnings = imbalance_warnings([split.y for split in splits], data.classes)
        if not (self.config.weight("labeled") or self.config.unconditional):
            self.warnings.append("weight_labeled is 0: no label was learned from, so which class is which is chance.")
        self.images_per_second, self.seconds_before = 0.0, 0.0

    def state(self) -> dict[str, Any]:
        """All that a checkpoint holds."""
        data, device = self.data, self.trainer.batches.device
        return {
            "config": self.config.to_dict(),
            "dataset": {"name": data.name, "sha256": data.sha256},
            "image_shape": list(data.image_shape),
            "classes": list(data.classes),
            "scale": data.scale,
            "seeds": self.trainer.batches.seeds,
            "split_sha256": self.trainer.batches.split_sha256,
            "device_type": device.type,
            "version": STATE_VERSION,
            "watch": self.watch.state(),
            "warnings": list(self.warnings),
            "images_per_second": self.images_per_second,
            "seconds": self.seconds_before + self.clock.seconds(),
            **self.trainer.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state that :func:`check_state` has let pass."""
        with invalid_state_as_user_error():
            self.trainer.restore(state)
            self.watch.restore(state["watch"])
            self.warnings = list(state["warnings"])
            self.images_per_second, self.seconds_before = state["images_per_second"], state["seconds"]

    def loop(
        self, on_report: Callable[[TrainingProgress], None] | None, due: Callable[[int], bool] | None = None
    ) -> None:
        """Take every step that is left."""
        trainer, config, clock = self.trainer, self.config, self.clock
        per_step = config.discriminator_steps
        stream = trainer.batches.from_batch(trainer.steps_done * per_step, config.steps * per_step)
        report_every = max(1, config.report_every_images // config.images_per_step)
        evaluate_every = -(-config.evaluate_every_images // config.images_per_step)
        last_report = trainer.steps_done
        for batches in _groups(stream, per_step):
            trainer.step(batches)
            clock.tick()
            done = trainer.steps_done
            evaluating = bool(evaluate_every) and done % evaluate_every == 0 and len(self.data.x_test) > 0
            wanted = evaluating or done == config.steps or (due is not None and due(done))
            if done % report_every and done != FIRST_REPORT_STEP and not wanted:
                continue
            means = trainer.read_logs(done - last_report)
            last_report = done
            rate = clock.steps_per_second()
            with clock.paused():
                self.images_per_second = rate * config.images_per_step
                warnings = self.watch.look(done, means)
                warnings += [said for said in trainer.refusals if said not in self.warnings]
                self.warnings += warnings
                errors, errors_raw = self._errors() if evaluating else (None, None)
                if on_report is not None:
                    on_report(
                        TrainingProgress(
                            step=done,
                            steps=config.steps,
                            images=done * config.images_per_step,
                            means=means,
                            errors=errors,
                            errors_raw=errors_raw,
                            images_per_second=self.images_per_second,
                            seconds_left=(config.steps - done) / rate,
                            warnings=warnings,
                            models=partial(trainer.models, self.data),
                            state=self.state,
                        )
                    )

    def _errors(self) -> tuple[list[float | None], list[float | None]]:
        """Test errors of the averaged and of the present models."""
        models, data = self.trainer.models(self.data), self.data
        averaged, raw = (models.scores(data.x_test, data.y_test, a, metrics=["error"])["error"] for a in (True, False))
        return averaged, raw

    def finish(self) -> Run:
        """Evaluate the trained models."""
        data, trainer, watch = self.data, self.trainer, self.watch
        self.warnings += watch.look_at_weights(trainer.steps_done, trainer.finite())
        models = trainer.models(data)
        scores = models.scores(data.x_test, data.y_test)
        raw = models.scores(data.x_test, data.y_test, averaged=False, metrics=["error"])
        judgements: dict[str, list[float | None]] = {}
        if self.config.unconditional:
            judgements = models.judgements(data.x_test, self.config.seed, data.normal)
        if data.normal is not None and judgements:
            self.warnings += watch.look_at_distances(judgements["ks"], judgements["generated_std"], data.normal[1])
        state = self.state()  # now: the noise and the clock are this training's only until it returns
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
            state=lambda: state,
        )


def _groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Consecutive lists of ``size`` batches."""
    while group := list(itertools.islice(batches, size)):
        yield group

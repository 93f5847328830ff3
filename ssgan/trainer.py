"""The loop: S models train side by side, one step of every phase at a time."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssgan.batches import Batches, stream_key
from ssgan.clock import Clock
from ssgan.config import Config
from ssgan.data import Data
from ssgan.devices import select
from ssgan.errors import UserError
from ssgan.inference import Models
from ssgan.methods import METHODS, Batch, Nets, Phase
from ssgan.models import MODELS
from ssgan.optimizers import Adam
from ssgan.splits import Split, for_seeds
from ssgan.stacks import Net, Stack, choose_strategy, over_seeds
from ssgan.watch import Watch

__all__ = ["Report", "Run", "Trainer", "train"]


class Trainer:
    """Parameters, optimisers and averages of S seeds, and the step that moves them.

    Parameters
    ----------
    batches : Batches
        Where data come from; its seeds are the stack.
    image_shape : tuple of int
    classes : int
        K.
    config : Config
    """

    def __init__(self, batches: Batches, image_shape: tuple[int, ...], classes: int, config: Config) -> None:
        self.config, self.batches = config, batches
        self.phases = METHODS[config.method](config)
        strategy = config.seed_strategy
        self.strategy = choose_strategy(len(batches.seeds)) if strategy == "auto" else strategy
        self.stacks = self._build(image_shape, classes)
        self.optimizers = {
            name: Adam(
                list(stack.parameters.values()),
                (config.adam_beta1, config.adam_beta2),
                config.adam_epsilon,
                config.adam_epsilon_inside_root,
            )
            for name, stack in self.stacks.items()
        }
        self.steps_done = 0
        self.ema = {k: torch.zeros_like(v) for k, v in self.stacks["D"].parameters.items()}
        self.ema_decay = 0.5 ** (config.images_per_step / config.ema_half_life_images)
        self.history: dict[str, dict[str, Tensor]] = {}
        if config.weight_historical_averaging:
            self.history = {
                name: {k: v.detach().clone() for k, v in stack.parameters.items()}
                for name, stack in self.stacks.items()
            }
        self.log_sums: dict[str, Tensor] = {}

    def step(self, batches: Sequence[Batch]) -> None:
        """Run every phase once, each on as many of the batches as it repeats, and update the averages."""
        for phase in self.phases:
            optimizer = self.optimizers[phase.net]
            lifted = over_seeds(self._loss_of_one_seed(phase), self.strategy)
            for batch in batches[: phase.repeat]:
                loss_S, logs = lifted(self._states(phase.net), batch)
                gradients = torch.autograd.grad(loss_S.sum(), optimizer.parameters)
                optimizer.step(gradients, self.learning_rate(phase.net))
                self._log(logs, phase.repeat)
        self.steps_done += 1
        self._update_averages()

    def learning_rate(self, net: str) -> float:
        """The step size at this point of the schedule: constant, then linear to 0."""
        base: float = getattr(self.config, f"learning_rate_{net.lower()}")
        left, tail = 1.0 - self.steps_done / self.config.steps, self.config.decay_last_fraction
        return base * min(1.0, left / tail) if tail else base

    def averaged(self) -> dict[str, Tensor]:
        """D's parameters averaged over the steps, debiased: the model that is evaluated."""
        mass = -math.expm1(self.steps_done * math.log(self.ema_decay))
        return {k: v / mass for k, v in self.ema.items()}

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
        )

    def finite(self) -> np.ndarray:
        """Whether every weight and average of each seed is finite, array of bool [S]."""
        values = [*self.ema.values(), *(v for stack in self.stacks.values() for v in stack.parameters.values())]
        return torch.stack([v.flatten(1).isfinite().all(dim=1) for v in values]).all(dim=0).cpu().numpy()

    def read_logs(self, steps: int) -> dict[str, np.ndarray]:
        """The mean of each log over the last ``steps`` steps, arrays [S]; the only read from the device."""
        names, sums = list(self.log_sums), list(self.log_sums.values())
        self.log_sums = {}
        values = (torch.stack(sums) / steps).cpu().double().numpy()
        return dict(zip(names, values, strict=True))

    def _build(self, image_shape: tuple[int, ...], classes: int) -> dict[str, Stack]:
        """Each seed's networks, initialised from its own stream on the CPU, whatever the stack and device."""
        pair, built = MODELS[self.config.network], []
        for seed in self.batches.seeds:
            torch.manual_seed(stream_key(seed, "init"))
            D: Any = pair.discriminator(self.config, image_shape, classes).to(self.batches.dtype)
            D.initialize(self.batches.initialization_images(seed).cpu())
            nets = {"D": D}
            if self.config.trains_generator:
                nets["G"] = pair.generator(self.config, image_shape).to(self.batches.dtype)
            built.append(nets)
        return {name: Stack([nets[name] for nets in built], self.batches.device) for name in built[0]}

    def _loss_of_one_seed(self, phase: Phase) -> Callable[[Any, Batch], Any]:
        def loss(states: dict[str, Any], batch: Batch) -> Any:
            nets = {name: Net(self.stacks[name].training, state) for name, state in states.items()}
            return phase.loss(Nets(D=nets["D"], G=nets.get("G")), batch, self.config)

        return loss

    def _states(self, trained: str) -> dict[str, Any]:
        states = {name: stack.state(trained=name == trained) for name, stack in self.stacks.items()}
        for name, history in self.history.items():
            states[name]["history"] = history
        return states

    def _log(self, logs: dict[str, Tensor], repeat: int) -> None:
        for name, value_S in logs.items():
            self.log_sums[name] = self.log_sums.get(name, 0.0) + value_S / repeat

    @torch.no_grad()
    def _update_averages(self) -> None:
        parameters = list(self.stacks["D"].parameters.values())
        torch._foreach_lerp_(list(self.ema.values()), parameters, 1.0 - self.ema_decay)
        for name, history in self.history.items():
            share = 1.0 / (self.steps_done + 1)
            torch._foreach_lerp_(list(history.values()), list(self.stacks[name].parameters.values()), share)


@dataclass
class Report:
    """Where training stands, at one report interval.

    Attributes
    ----------
    step, steps, images : int
        Steps done and to do; unlabelled images seen per model.
    means : dict of str to ndarray [S]
        Mean of each loss and probability since the last report.
    errors : list of float or None
        Test error in percent of the averaged model of each seed, where it was evaluated.
    images_per_second : float
        Unlabelled D-phase images per model, warm-up and evaluation left out.
    seconds_left : float
    warnings : list of str
        What is newly wrong.
    """

    step: int
    steps: int
    images: int
    means: dict[str, np.ndarray]
    errors: list[float | None] | None
    images_per_second: float
    seconds_left: float
    warnings: list[str]


@dataclass
class Run:
    """A finished training: the models and what is known about them.

    Attributes
    ----------
    models : Models
        D, its average and G of every seed.
    trainer : Trainer
    splits : list of Split
        Of each seed.
    errors, errors_raw : list of float or None
        Test error in percent of the averaged and the last D of each seed; None where it diverged or
        there is no test share.
    ece, nll : list of float or None
        Calibration of the averaged D: expected calibration error, mean negative log-likelihood in nats.
    diverged, collapsed : dict of int to int
        Seeds, and the step at which it was seen.
    seconds : float
        Wall-clock time of the whole training with its evaluations.
    """

    config: Config
    data: Data
    seeds: list[int]
    splits: list[Split]
    device: torch.device
    models: Models
    trainer: Trainer
    errors: list[float | None]
    errors_raw: list[float | None]
    ece: list[float | None]
    nll: list[float | None]
    images_per_second: float
    seconds: float
    diverged: dict[int, int]
    collapsed: dict[int, int]
    warnings: list[str]

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint holds: tensors and plain types."""
        trainer = self.trainer
        return {
            "config": self.config.to_dict(),
            "dataset": {"name": self.data.name, "sha256": self.data.sha256},
            "image_shape": list(self.data.image_shape),
            "classes": list(self.data.classes),
            "scale": self.data.scale,
            "seeds": self.seeds,
            "split_sha256": [split.sha256 for split in self.splits],
            "steps_done": trainer.steps_done,
            "networks": {name: stack.state(trained=False) for name, stack in trainer.stacks.items()},
            "averaged": self.models.averaged,
        }


def train(data: Data, config: Config, indices: Any = None, on_report: Callable[[Report], None] | None = None) -> Run:
    """Train ``config.seeds`` models side by side and evaluate them.

    Parameters
    ----------
    data : Data
    config : Config
    indices : array of int [n], or one for each seed, optional
        Labelled rows of the pool; otherwise ``config`` says how to draw them.
    on_report : callable, optional
        Called at every report interval and at the end.

    Returns
    -------
    Run

    Raises
    ------
    UserError
        Where data and configuration do not fit.
    """
    device = select(config.device)
    if device.type == "mps" and config.dtype == "float64":
        raise UserError("dtype is float64, which the device mps does not have: choose float32, or --device cpu.")
    clock = Clock(device)
    seeds = config.all_seeds
    splits = for_seeds(data.y_train, config.labels, config.draw_seeds, indices)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        batches = Batches(data.x_train, data.scale, splits, seeds, config, device)
        trainer = Trainer(batches, data.image_shape, len(data.classes), config)
        torch.manual_seed(stream_key(seeds[0], "noise", *seeds))
        return _loop(data, trainer, splits, clock, on_report)


def _loop(
    data: Data, trainer: Trainer, splits: list[Split], clock: Clock, on_report: Callable[[Report], None] | None
) -> Run:
    config, watch = trainer.config, Watch(trainer.batches.seeds)
    said: list[str] = []
    if not config.weight_labeled:
        said.append("weight_labeled is 0: no label was learned from, so which class is which is chance.")
    per_step = config.discriminator_steps
    stream = _groups(trainer.batches.from_batch(0, config.steps * per_step), per_step)
    report_every = max(1, config.report_every_images // config.images_per_step)
    evaluate_every = -(-config.evaluate_every_images // config.images_per_step)
    last_report = 0
    for batches in stream:
        trainer.step(batches)
        done = trainer.steps_done
        clock.tick(done)
        evaluating = bool(evaluate_every) and done % evaluate_every == 0 and len(data.x_test) > 0
        if done % report_every and not evaluating and done < config.steps:
            continue
        means = trainer.read_logs(done - last_report)
        last_report = done
        rate = clock.steps_per_second(done)
        with clock.paused():
            warnings = watch.look(done, means)
            said += warnings
            errors = None
            if evaluating:
                errors = trainer.models(data).scores(data.x_test, data.y_test, metrics=["error"])["error"]
            if on_report is not None:
                on_report(
                    Report(
                        step=done,
                        steps=config.steps,
                        images=done * config.images_per_step,
                        means=means,
                        errors=errors,
                        images_per_second=rate * config.images_per_step,
                        seconds_left=(config.steps - done) / rate,
                        warnings=warnings,
                    )
                )
    rate = clock.steps_per_second(trainer.steps_done)
    said += watch.look_at_weights(trainer.steps_done, trainer.finite())
    models = trainer.models(data)
    scores = models.scores(data.x_test, data.y_test)
    raw = models.scores(data.x_test, data.y_test, averaged=False, metrics=["error"])
    return Run(
        config=config,
        data=data,
        seeds=trainer.batches.seeds,
        splits=splits,
        device=trainer.batches.device,
        models=models,
        trainer=trainer,
        errors=scores["error"],
        errors_raw=raw["error"],
        ece=scores["ece"],
        nll=scores["nll"],
        images_per_second=rate * config.images_per_step,
        seconds=clock.seconds(),
        diverged=watch.diverged,
        collapsed=watch.collapsed,
        warnings=said,
    )


def _groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Consecutive lists of ``size`` batches."""
    while group := list(itertools.islice(batches, size)):
        yield group

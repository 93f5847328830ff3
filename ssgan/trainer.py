"""The loop: S models train side by side, one step of every phase at a time."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssgan.batches import Batches, stream_key
from ssgan.clock import Clock
from ssgan.config import Config
from ssgan.dataset import Data
from ssgan.devices import noise_state, restore_noise, select
from ssgan.errors import UserError
from ssgan.inference import Models
from ssgan.methods import METHODS, Batch, Nets, Phase
from ssgan.models import MODELS, latent
from ssgan.optimizers import Adam
from ssgan.records import Report, Run
from ssgan.splits import Split, for_seeds, uneven
from ssgan.stacks import Net, Stack, choose_strategy, over_seeds
from ssgan.states import check_state, sound_state
from ssgan.traits import TRAITS
from ssgan.watch import Watch

__all__ = ["Trainer", "train"]

FIRST_REPORT_STEP = 20  # besides those at the interval: where a step takes seconds, the time left is told soon


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
        strategy: str = config.seed_strategy
        if strategy == "auto":
            convolutional = TRAITS[config.network].convolutional
            strategy = choose_strategy(len(batches.seeds), convolutional, batches.device.type)
        self.strategy = strategy
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
        return {k: v / self.ema_mass for k, v in self.ema.items()}

    @property
    def ema_mass(self) -> float:
        """How much of the average the steps so far make up; the rest is the zero that it began with."""
        return -math.expm1(self.steps_done * math.log(self.ema_decay)) if self.ema_decay else 1.0

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
        names, sums = list(self.log_sums), list(self.log_sums.values())
        self.log_sums = {}
        values = (torch.stack(sums) / steps).cpu().double().numpy()
        return dict(zip(names, values, strict=True))

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, in tensors and plain types; the tensors are those in use."""
        return {
            "steps_done": self.steps_done,
            "networks": {name: stack.state(trained=False) for name, stack in self.stacks.items()},
            "optimizers": {name: optimizer.state() for name, optimizer in self.optimizers.items()},
            "average": {"sums": self.ema, "mass": self.ema_mass},
            "history": self.history,
            "noise": noise_state(self.batches.device),
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state` of the same configuration: the next step is the one it would have had."""
        self.steps_done = state["steps_done"]
        for name, stack in self.stacks.items():
            stack.fill(state["networks"][name]["parameters"], state["networks"][name]["buffers"])
            self.optimizers[name].restore(state["optimizers"][name])
        averages = [(self.ema, state["average"]["sums"])]
        averages += [(history, state["history"][name]) for name, history in self.history.items()]
        for ours, saved in averages:
            for name, value in ours.items():
                if value.shape != saved[name].shape:
                    raise ValueError(f"an average of {name} has shape {list(saved[name].shape)}")
                value.copy_(saved[name])
        restore_noise(self.batches.device, state["noise"])

    def _build(self, image_shape: tuple[int, ...], classes: int) -> dict[str, Stack]:
        """Each seed's networks, initialised from its own stream on the CPU, whatever the stack and device."""
        pair, built = MODELS[self.config.network], []
        for seed in self.batches.seeds:
            torch.manual_seed(stream_key(seed, "init"))
            dtype = self.batches.dtype
            D = pair.discriminator(self.config, image_shape, classes).to(dtype)
            D.initialize(self.batches.initialization_images(seed).cpu())
            nets: dict[str, nn.Module] = {"D": D}
            if self.config.trains_generator:
                G = pair.generator(self.config, image_shape).to(dtype)
                G.initialize(latent(self.config, self.config.batch_size).to(dtype))
                nets["G"] = G
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


def train(
    data: Data,
    config: Config,
    indices: Any = None,
    on_report: Callable[[Report], None] | None = None,
    state: dict[str, Any] | None = None,
    held_out: Sequence[np.ndarray] | None = None,
) -> Run:
    """Train ``config.seeds`` models side by side and evaluate them.

    Parameters
    ----------
    data : Data
    config : Config
    indices : array of int [n], or one for each seed, optional
        Labelled rows of the pool; otherwise ``config`` says how to draw them.
    on_report : callable, optional
        Called at every report interval and at the end.
    state : dict, optional
        What ``Report.state()`` or ``Run.state()`` gave: training goes on from there, to the same weights, bit
        for bit, as if it had not been interrupted (on the same kind of device and number of threads).
    held_out : one array of int for each model, optional
        Rows of the pool that it never sees, not even without their labels, so that it can be tested on them.

    Returns
    -------
    Run

    Raises
    ------
    UserError
        Where data and configuration do not fit, or the state is one of other data or another configuration.
    """
    device = select(config.device)
    if device.type == "mps" and config.dtype == "float64":
        raise UserError("dtype is float64, which the device mps does not have: choose float32, or --device cpu.")
    clock = Clock(device)
    seeds = config.all_seeds
    splits = for_seeds(data.y_train, config.labels, config.draw_seeds, indices, held_out)
    if state is not None:
        check_state(state, data, config, splits)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        batches = Batches(data.x_train, data.scale, splits, seeds, config, device)
        trainer = Trainer(batches, data.image_shape, len(data.classes), config)
        torch.manual_seed(stream_key(seeds[0], "noise", *seeds))
        training = _Training(data, trainer, splits, clock)
        if state is not None:
            training.restore(state)
        training.loop(on_report)
        return training.finish()


class _Training:
    """One training under way: what the loop keeps beside the trainer."""

    def __init__(self, data: Data, trainer: Trainer, splits: list[Split], clock: Clock) -> None:
        self.data, self.trainer, self.splits, self.clock = data, trainer, splits, clock
        self.config, self.watch = trainer.config, Watch(trainer.batches.seeds)
        self.warnings = uneven([split.y for split in splits], data.classes)
        if not self.config.weight_labeled:
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
            "watch": self.watch.state(),
            "warnings": list(self.warnings),
            "images_per_second": self.images_per_second,
            "seconds": self.seconds_before + self.clock.seconds(),
            **self.trainer.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state that :func:`check_state` has let pass."""
        with sound_state():
            self.trainer.restore(state)
            self.watch.restore(state["watch"])
            self.warnings = list(state["warnings"])
            self.images_per_second, self.seconds_before = state["images_per_second"], state["seconds"]

    def loop(self, on_report: Callable[[Report], None] | None) -> None:
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
            if done % report_every and done != FIRST_REPORT_STEP and not evaluating and done < config.steps:
                continue
            means = trainer.read_logs(done - last_report)
            last_report = done
            rate = clock.steps_per_second()
            with clock.paused():
                self.images_per_second = rate * config.images_per_step
                warnings = self.watch.look(done, means)
                self.warnings += warnings
                errors, errors_raw = self._errors() if evaluating else (None, None)
                if on_report is not None:
                    on_report(
                        Report(
                            step=done,
                            steps=config.steps,
                            images=done * config.images_per_step,
                            means=means,
                            errors=errors,
                            errors_raw=errors_raw,
                            images_per_second=self.images_per_second,
                            seconds_left=(config.steps - done) / rate,
                            warnings=warnings,
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

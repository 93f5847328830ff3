"""What a training tells: a :class:`Report` at every interval, a :class:`Run` at the end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ssgan.data.dataset import Data
from ssgan.data.splits import Split
from ssgan.inference.models import Models
from ssgan.settings.config import Config

__all__ = ["Report", "Run"]


@dataclass
class Report:
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
    trainer : ssgan.trainer.Trainer
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

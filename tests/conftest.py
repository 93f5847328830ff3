"""What several test modules share."""

import dataclasses
from typing import Any

import pytest
import torch

from ssgan.config import PRESETS, Config
from ssgan.data import Data, load

TINY = {
    "labels": 20,
    "total_images": 400,
    "batch_size": 20,
    "discriminator_widths": (16, 12),
    "generator_widths": (10,),
    "latent_size": 6,
    "init_images": 50,
    "report_every_images": 100,
    "device": "cpu",
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from threads, and a fixed number keeps sums in one order."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="session")
def few_digits(digits: Data) -> Data:
    """A pool of 300 and a test share of 100, for trainings of a second."""
    return dataclasses.replace(
        digits,
        x_train=digits.x_train[:300],
        y_train=digits.y_train[:300],
        x_test=digits.x_test[:100],
        y_test=digits.y_test[:100],
    )


def tiny(**settings: Any) -> Config:
    """A configuration that trains in a second."""
    return Config(**{**PRESETS["digits"], **TINY}).replace(**settings)

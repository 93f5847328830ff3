"""Warnings on processors without bfloat16 instructions."""

import dataclasses

import numpy as np
import pytest
import torch
from small_configs import tiny

from ssgan import devices
from ssgan.data.dataset import Data
from ssgan.training.trainer import train

WARNING = "precision is bfloat16, but this processor has neither AVX512-BF16 nor AMX: convolutions take several times"


@pytest.fixture
def old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.platform, "machine", lambda: "x86_64")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)


@pytest.mark.usefixtures("old_processor")
def test_bfloat16_convolutions_without_processor_support_give_a_warning() -> None:
    (warning,) = devices.precision_warnings(torch.device("cpu"), "bfloat16", convolutional=True)
    assert warning.startswith(WARNING)
    assert not devices.precision_warnings(torch.device("cpu"), "bfloat16", convolutional=False)
    assert not devices.precision_warnings(torch.device("cpu"), "float32", convolutional=True)
    assert not devices.precision_warnings(torch.device("cuda"), "bfloat16", convolutional=True)


@pytest.mark.usefixtures("old_processor")
@pytest.mark.parametrize("instructions", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_either_instruction_set_avoids_the_warning(monkeypatch: pytest.MonkeyPatch, instructions: str) -> None:
    monkeypatch.setattr(torch.cpu, instructions, lambda: True)
    assert not devices.precision_warnings(torch.device("cpu"), "bfloat16", convolutional=True)


@pytest.mark.usefixtures("old_processor")
def test_training_reports_the_warning(few_digits: Data) -> None:
    x_train, x_test = (np.pad(x, ((0, 0), (5, 5), (5, 5))) for x in (few_digits.x_train, few_digits.x_test))
    data = dataclasses.replace(few_digits, x_train=x_train, x_test=x_test)
    widths = {"discriminator_widths": (4, 4, 4), "generator_widths": (4, 4)}
    run = train(data, tiny(network="compact-conv", precision="bfloat16", total_images=20, **widths))
    assert run.warnings[0].startswith(WARNING)

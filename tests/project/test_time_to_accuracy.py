"""Error against CPU seconds: the measured values, and that each is measured once."""

import dataclasses
from pathlib import Path

import numpy as np
import plain
import pytest
import time_to_accuracy
import torch

from ssgan.data.dataset import Data
from ssgan.files import read_json_lines
from ssgan.settings.presets import resolve

SMALL = {"labels": 20, "batch_size": 20, "discriminator_widths": (16, 12), "generator_widths": (10, 9), "device": "cpu"}


@pytest.fixture
def larger_digits(few_digits: Data) -> Data:
    """Digits padded to the size that the network of the preset needs."""
    x_train, x_test = (np.pad(x, ((0, 0), (5, 5), (5, 5))) for x in (few_digits.x_train, few_digits.x_test))
    return dataclasses.replace(few_digits, x_train=x_train, x_test=x_test)


def test_plain_error_uses_the_averaged_model_without_noise(few_digits: Data) -> None:
    config = resolve("mnist-paper", SMALL)
    program = plain.Plain(plain.build(config, few_digits), few_digits)
    batches = program.batches()
    for _ in range(3):
        program.step(*next(batches))
    before = {name: value.clone() for name, value in program.trained.items()}
    found = time_to_accuracy.plain_error(program, few_digits)
    assert all(torch.equal(value, before[name]) for name, value in program.trained.items())
    quiet = plain.Plain(plain.build(config.replace(noise_input_std=0.0, noise_hidden_std=0.0), few_digits), few_digits)
    quiet.D.load_state_dict(program.D.state_dict())
    with torch.no_grad():
        for name, value in program.averaged().items():
            quiet.trained[name].copy_(value)
        x = torch.from_numpy(few_digits.x_test).float() / few_digits.scale
        wrong = quiet.D(x).argmax(dim=1).numpy() != few_digits.y_test
    assert found == pytest.approx(100.0 * wrong.mean())
    assert [module.std for module in program.D.modules() if isinstance(module, plain.Noise)] == [0.3, 0.5, 0.5]


def test_each_result_is_measured_once(
    larger_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(time_to_accuracy, "load", lambda name: dataclasses.replace(larger_digits, name=name))
    monkeypatch.setattr(time_to_accuracy, "LENGTHS", (200, 400))
    monkeypatch.setattr(time_to_accuracy, "PLAIN_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(time_to_accuracy, "CLASSICAL", ("svm",))
    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr("sys.argv", ["time_to_accuracy.py", "--draws", "1", "--out", str(out)])
    time_to_accuracy.main()
    rows = [line.value for line in read_json_lines(out)]
    assert [row["program"] for row in rows] == [
        *(name for name in time_to_accuracy.VARIANTS for _ in range(2)),
        *["mnist-paper in plain PyTorch"] * 2,
        "svm",
    ]
    assert all(0 <= row["error"] <= 100 and row["cpu_seconds"] > 0 for row in rows)
    assert rows[1]["cpu_seconds"] > 0.5 * rows[0]["cpu_seconds"]
    printed = capsys.readouterr().out
    assert printed.count("draw 0") == len(rows)
    time_to_accuracy.main()
    assert len(out.read_text().splitlines()) == len(rows)
    assert not capsys.readouterr().out

"""Small configurations that are trained by one process, or by several on the joined batch.

``joined_batch.py FOLDER ARGUMENTS`` trains them in a process with the environment of torchrun, but without its start
time, and then runs the command with these arguments.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ssgan import distributed
from ssgan.cli import app
from ssgan.data.dataset import Data
from ssgan.settings.config import Config
from ssgan.settings.presets import PRESETS
from ssgan.training.monitor import TrainingProgress
from ssgan.training.trainer import train

STEPS, ROWS = 6, 12
SHORT = {
    "dtype": "float64",
    "device": "cpu",
    "batch_size": ROWS,
    "total_images": STEPS * ROWS,
    "report_every_images": 3 * ROWS,
    "init_images": 24,
    "labels": 6,
    "latent_size": 5,
}
MLP = {"discriminator_widths": (12, 8), "generator_widths": (10,)}
NOISY = {"noise_input_std": 0.3, "noise_hidden_std": 0.5}
CONVOLUTIONS = {"discriminator_widths": (4, 6, 8), "generator_widths": (8, 6), "dropout_hidden": 0.2}

# Each case joins other rows, or other terms, than the cases before.
CASES: dict[str, dict[str, Any]] = {
    "mlp with noise, every term of G": {
        **PRESETS["digits"],
        **MLP,
        **NOISY,
        "weight_pull_away": 0.3,
        "weight_non_saturating": 0.1,
        "weight_historical_averaging": 1e-3,
    },
    "mlp with class balance, two steps of D and vat": {
        **PRESETS["digits"],
        **MLP,
        **NOISY,
        "weight_balance": 1.0,
        "weight_vat": 0.5,
        "discriminator_steps": 2,
        "feature_matching_norm": "l1",
    },
    "virtual batch norm and a teacher": {
        **PRESETS["digits"],
        **MLP,
        **NOISY,
        "generator_norm": "virtual",
        "weight_mean_teacher": 1.0,
    },
    "images": {**PRESETS["images"], **CONVOLUTIONS, "augmentation": "natural", "weight_balance": 0.5},
    "dcgan with vat": {
        "network": "dcgan",
        "discriminator_widths": (4,),
        "generator_widths": (4,),
        "weight_vat": 0.5,
    },
}


def data_of(case: str) -> Data:
    """Twelve rows of each of two classes, of the shape that the network takes."""
    shape = {"images": (17, 17, 3), "dcgan with vat": (32, 32, 3)}.get(case, (8, 8))
    random = np.random.RandomState(0)
    y = np.arange(48) % 2
    x = (random.randint(0, 256, (48, *shape)) // (1 + y.reshape(-1, *[1] * len(shape)))).astype(np.uint8)
    return Data(x, y, x[:10], y[:10], ("a", "b"), name=case)


def trained(case: str) -> dict[str, Any]:
    """Train a case; return its weights, averages, moments, noise and logged means."""
    logs: list[dict[str, Any]] = []

    def on_report(progress: TrainingProgress) -> None:
        logs.append({name: torch.from_numpy(values) for name, values in progress.means.items()})

    run = train(data_of(case), Config(**{**CASES[case], **SHORT}), on_report=on_report)
    state = run.state()
    kept = {name: state[name] for name in ("networks", "optimizers", "average", "history", "noise", "steps_done")}
    return {**kept, "logs": logs}


if __name__ == "__main__":
    folder, rank, count = Path(sys.argv[1]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed.join(dist.FileStore(str(folder / "store"), count), rank, count)
    for number, case in enumerate(CASES):
        torch.save(trained(case), folder / f"{number}-{rank}.pt")
    outcome = app._run(sys.argv[2:])
    assert outcome.status == 0, outcome.text
    distributed.leave()
